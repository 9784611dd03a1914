//! Manifests in which several things are wrong at once: each is told, where it is, and nothing that only comes of it.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::subsequence;
use tollgate_mesh::api::Objects;
use tollgate_mesh::inspect;

/// Manifests that are right.
const RIGHT: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: cart
  labels: {app: cart}
spec:
  selector: {app: cart}
  ports:
  - name: http
    port: 80
    targetPort: 3002
  - name: grpc
    port: 81
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: cart
spec:
  hosts: [cart]
  http:
  - name: first
    timeout: 5s
    match:
    - uri: {prefix: /a}
    route:
    - destination:
        host: cart
      weight: 100
  - retries:
      attempts: 3
      perTryTimeout: 1s
    route:
    - destination: {host: cart}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: cart
spec:
  host: cart
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
  subsets:
  - name: v1
    labels: {version: v1}
  - name: v2
    labels: {version: v2}
";

/// A line of them, what is there instead, and all that is told of it.
type Mistake = (usize, &'static str, &'static str);

const MISTAKES: &[Mistake] = &[
    (4, "  namespace: a", "3: metadata.name: is missing"),
    (
        5,
        "  labels: [cart]",
        "5: metadata.labels: a list is not a mapping",
    ),
    (
        7,
        "  selector: {app: 5}",
        "7: spec.selector.app: 5 is not a string, write \"5\"",
    ),
    (
        10,
        "    port: \"80\"",
        "10: spec.ports[0].port: \"80\" is a string, write 80 without quotes",
    ),
    (
        11,
        "    targetPort: {}",
        "11: spec.ports[0].targetPort: a mapping is not a whole number or a string",
    ),
    (
        12,
        "  - nam: grpc",
        "12: spec.ports[1].nam: ServicePort has no field \"nam\", did you mean \"name\"?",
    ),
    (
        13,
        "    port: 99999999",
        "13: spec.ports[1].port: 99999999 is not between 0 and 65535",
    ),
    (
        18,
        "  name: [cart]",
        "18: metadata.name: a list is not a string",
    ),
    (
        20,
        "  hosts: cart",
        "20: spec.hosts: \"cart\" is not a list",
    ),
    (
        23,
        "    timeout: 5",
        "23: spec.http[0].timeout: 5 is not a duration, write \"5s\"",
    ),
    (
        25,
        "    - uri: {prefix: 7}",
        "25: spec.http[0].match[0].uri.prefix: 7 is not a string, write \"7\"",
    ),
    (
        28,
        "        hots: cart",
        "28: spec.http[0].route[0].destination.hots: Destination has no field \"hots\", did you mean \"host\"?",
    ),
    (
        29,
        "      weight: heavy",
        "29: spec.http[0].route[0].weight: \"heavy\" is not a whole number",
    ),
    (
        31,
        "      attempts: -1",
        "31: spec.http[1].retries.attempts: -1 is not between 0 and 2147483647",
    ),
    (
        34,
        "    - destination: {}",
        "34: spec.http[1].route[0].destination.host: is missing",
    ),
    (
        43,
        "    loadBalancer: {simple: LEAST_REQUESTS}",
        "43: spec.trafficPolicy.loadBalancer.simple: \"LEAST_REQUESTS\" is not a SimpleLB, did you mean LEAST_REQUEST?",
    ),
    (
        46,
        "    lables: {version: v1}",
        "46: spec.subsets[0].lables: Subset has no field \"lables\", did you mean \"labels\"?",
    ),
    (
        48,
        "    labels: v2",
        "48: spec.subsets[1].labels: \"v2\" is not a mapping",
    ),
];

fn told(some: &[Mistake]) -> Vec<String> {
    let mut lines: Vec<&str> = RIGHT.lines().collect();
    for (line, text, _) in some {
        lines[line - 1] = text;
    }
    match Objects::parse(Path::new("m.yaml"), &lines.join("\n")) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

fn expected(some: &[Mistake]) -> Vec<String> {
    some.iter()
        .map(|(.., told)| format!("m.yaml:{told}"))
        .collect()
}

#[test]
fn each_mistake_is_told_alone_and_beside_all_others() {
    for mistake in MISTAKES {
        let mistake = std::slice::from_ref(mistake);
        assert_eq!(told(mistake), expected(mistake));
    }
    assert_eq!(told(MISTAKES), expected(MISTAKES));
}

proptest! {
    #[test]
    fn exactly_the_mistakes_are_told(some in subsequence(MISTAKES, 0..=MISTAKES.len())) {
        prop_assert_eq!(told(&some), expected(&some));
    }
}

/// A mesh that is right.
const SHOP: &str = include_str!("mesh/shop.yaml");

/// What is wrong in the shop with these files beside it.
fn wrong(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("shop.yaml", SHOP)].iter().chain(files) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let found = inspect(&[folder.path().to_owned()]);
    assert_eq!(found.mesh.is_some(), found.problems.is_empty());
    let here = format!("{}/", folder.path().display());
    let problems = found.problems.iter();
    problems
        .map(|problem| problem.to_string().replace(&here, ""))
        .collect()
}

#[test]
fn how_objects_fit_together_is_told_beside_mistakes_in_what_no_other_refers_to() {
    let misfit = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: misfit, namespace: ecommerce}
spec:
  hosts: [nowhere]
  http: [{route: [{destination: {host: nowhere}}]}]
";
    let of_misfit = wrong(&[("misfit.yaml", misfit)]);
    assert!(
        !of_misfit.is_empty()
            && of_misfit
                .iter()
                .all(|told| told.starts_with("misfit.yaml:")),
        "{of_misfit:?}"
    );
    for (kind, version) in [
        ("AuthorizationPolicy", "security.istio.io/v1"),
        ("PeerAuthentication", "security.istio.io/v1"),
        ("RequestAuthentication", "security.istio.io/v1"),
        ("VirtualService", "networking.istio.io/v1"),
        ("WasmPlugin", "extensions.istio.io/v1alpha1"),
    ] {
        let broken = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: broken, namespace: ecommerce}}\nspec: {{nonsense: 1}}\n"
        );
        let alone = wrong(&[("broken.yaml", &broken)]);
        assert!(
            !alone.is_empty() && alone.iter().all(|told| told.starts_with("broken.yaml:")),
            "{kind}: {alone:?}"
        );
        let both = wrong(&[("broken.yaml", &broken), ("misfit.yaml", misfit)]);
        assert_eq!(both, [alone, of_misfit.clone()].concat(), "{kind}");
    }
    // It might be what the other lacks.
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: nowhere, namespace: ecommerce}\nspec: {nonsense: 1}\n";
    let told = wrong(&[("misfit.yaml", misfit), ("service.yaml", service)]);
    assert!(
        !told.is_empty() && told.iter().all(|told| told.starts_with("service.yaml:")),
        "{told:?}"
    );
}
