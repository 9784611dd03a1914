//! What is read, and that whatever is not is refused with its place.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use tollgate_mesh::Problems;
use tollgate_mesh::api::extensions::{FailStrategy, PluginPhase};
use tollgate_mesh::api::networking::{SimpleLb, StringMatch, ValueMatch};
use tollgate_mesh::api::{IntOrString, Objects, Period, Regex};

fn parse(text: &str) -> Objects {
    Objects::parse(Path::new("m.yaml"), text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_repository_s_own_manifests_are_read() {
    let objects = Objects::load(&[repository()]).unwrap_or_else(|problems| panic!("{problems}"));
    let mut services: Vec<_> = objects
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    services.sort_unstable();
    for service in [
        "cart-service",
        "order-service",
        "product-service",
        "user-service",
    ] {
        assert!(
            services.contains(&service),
            "{service} is not among {services:?}"
        );
    }
    assert!(
        !objects.gateways.is_empty()
            && !objects.virtual_services.is_empty()
            && !objects.wasm_plugins.is_empty()
    );
}

#[test]
fn the_repository_s_overlays_are_the_shop_with_something_changed() {
    let overlay = |name: &str| {
        tollgate_mesh::load_watched(&[repository().join("istio/overlays").join(name)])
            .result
            .unwrap_or_else(|problems| panic!("{problems}"))
            .objects
    };
    let shop = Objects::load(&[repository()]).unwrap_or_else(|problems| panic!("{problems}"));
    for entry in std::fs::read_dir(repository().join("istio/overlays")).unwrap() {
        let name = entry.unwrap().file_name();
        // Not complete without a key, which no checkout has from the start: the command's tests look at it.
        if name == "local" {
            continue;
        }
        let objects = overlay(name.to_str().unwrap());
        // Whoever adds something to the shop adds it to its overlays.
        assert_eq!(
            objects.virtual_services.len(),
            shop.virtual_services.len(),
            "{name:?}"
        );
        assert_eq!(objects.services.len(), shop.services.len(), "{name:?}");
        assert_eq!(
            objects.peer_authentications.len(),
            shop.peer_authentications.len(),
            "{name:?}"
        );
    }

    let faults = overlay("fault")
        .virtual_services
        .into_iter()
        .flat_map(|service| {
            let name = service.name;
            let routes = service.spec.http.into_iter();
            routes.map(move |route| {
                let fault = route.fault?;
                let (delay, abort) = (fault.delay?, fault.abort?);
                Some((
                    name.clone(),
                    delay.percentage.value,
                    delay.fixed_delay.0.as_secs(),
                    abort.percentage.value,
                    abort.http_status.0,
                ))
            })
        })
        .flatten();
    let of = |name: &str| (name.to_owned(), 50.0, 5, 10.0, 500);
    assert_eq!(
        faults.collect::<Vec<_>>(),
        [
            of("product-service-ingress"),
            of("product-service-ingress"),
            of("product-service"),
            of("product-service"),
        ]
    );

    let rules = overlay("circuit-breaker").destination_rules;
    let rule = rules
        .iter()
        .find(|rule| rule.name == "product-service")
        .unwrap();
    let policy = rule.spec.traffic_policy.as_ref().unwrap();
    let pool = policy.connection_pool.as_ref().unwrap();
    let (tcp, http) = (pool.tcp.as_ref().unwrap(), pool.http.as_ref().unwrap());
    assert_eq!(
        (
            tcp.max_connections.unwrap().0,
            http.http1_max_pending_requests.unwrap().0,
            http.max_requests_per_connection.unwrap().0,
        ),
        (10, 1, 2)
    );
    assert!(policy.outlier_detection.is_some());
}

/// The manifests that come with the repository, one text a file.
static MANIFESTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    fn collect(folder: &Path, texts: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
                collect(&path, texts);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                texts.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut texts = Vec::new();
    for folder in ["services", "istio", "wasm-plugins"] {
        collect(&repository().join(folder), &mut texts);
    }
    texts
});

#[test]
fn routes_are_read_as_written() {
    let objects = parse(
        r#"
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: product-service
  namespace: ecommerce
  labels: {app: product-service}
spec:
  hosts: [product-service]
  gateways: [mesh, istio-system/gateway]
  http:
  - name: vip
    match:
    - uri: {prefix: /products}
      ignoreUriCase: true
      method: {exact: GET}
      headers:
        user-type: {exact: vip}
        x-any: {}
      withoutHeaders:
        x-bot: {regex: ".*"}
      queryParams:
        page: {exact: "1"}
    route:
    - destination: {host: product-service, subset: v2, port: {number: 3001}}
    timeout: 1.5s
  - route:
    - {destination: {host: a}, weight: 90}
    - {destination: {host: b}, weight: 10}
    timeout: null
"#,
    );
    let [service] = objects.virtual_services.as_slice() else {
        panic!("{objects:?}")
    };
    assert_eq!(
        (service.name.as_str(), service.namespace.as_str()),
        ("product-service", "ecommerce")
    );
    assert_eq!(service.labels["app"], "product-service");
    assert_eq!(service.spec.gateways, ["mesh", "istio-system/gateway"]);
    let [vip, rest] = service.spec.http.as_slice() else {
        panic!("{service:?}")
    };
    let [matches] = vip.matches.as_slice() else {
        panic!("{vip:?}")
    };
    assert_eq!(
        matches.uri,
        Some(StringMatch::Prefix("/products".to_owned()))
    );
    assert!(matches.ignore_uri_case);
    assert_eq!(
        matches.headers["user-type"],
        ValueMatch::Value(StringMatch::Exact("vip".to_owned()))
    );
    assert_eq!(matches.headers["x-any"], ValueMatch::Present);
    assert_eq!(
        matches.without_headers["x-bot"],
        ValueMatch::Value(StringMatch::Regex(Regex(".*".to_owned())))
    );
    assert_eq!(
        vip.timeout,
        Some(Period(std::time::Duration::from_millis(1500)))
    );
    assert_eq!(
        vip.route[0]
            .destination
            .port
            .as_ref()
            .map(|port| port.number),
        Some(3001)
    );
    assert_eq!(
        rest.route
            .iter()
            .map(|route| route.weight)
            .collect::<Vec<_>>(),
        [Some(90), Some(10)]
    );
    assert_eq!(rest.timeout, None);
}

#[test]
fn plugins_are_read_as_written() {
    let objects = parse(
        r#"
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: p}
spec:
  url: oci://example.com/p:1
  phase: AUTHZ
  priority: 0
  failStrategy: FAIL_RELOAD
  pluginConfig:
    a: [1, 2.5, {b: null}]
    c: "10"
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: q}
spec: {url: "oci://example.com/q:1"}
"#,
    );
    let [p, q] = objects.wasm_plugins.as_slice() else {
        panic!("{objects:?}")
    };
    assert_eq!(
        (p.spec.phase, q.spec.phase),
        (PluginPhase::Authz, PluginPhase::Unspecified)
    );
    assert_eq!((p.spec.priority, q.spec.priority), (Some(0), None));
    assert_eq!(
        (p.spec.fail_strategy, q.spec.fail_strategy),
        (FailStrategy::FailReload, FailStrategy::FailClose)
    );
    // Null is content here, and the order of the fields is that of the alphabet: an edit that moves a line changes nothing.
    let config = serde_json::to_string(&p.spec.plugin_config).unwrap();
    assert_eq!(config, r#"{"a":[1,2.5,{"b":null}],"c":"10"}"#);
    assert_eq!(p.namespace, "default");
    // Who checks the configuration later can say where it is wrong.
    let problem = p.source.problem("spec.pluginConfig.a[2].b", "is wrong");
    assert_eq!(
        problem.to_string(),
        "m.yaml:11: spec.pluginConfig.a[2].b: is wrong"
    );
    let problem = p.source.problem("spec.pluginConfig.c.d.e", "is missing");
    assert_eq!(
        problem.to_string(),
        "m.yaml:12: spec.pluginConfig.c.d.e: is missing"
    );
}

#[test]
fn aliases_and_merge_keys_are_what_they_stand_for() {
    let objects = parse(
        r#"
apiVersion: v1
kind: Service
metadata:
  name: a
  labels: &labels {app: a, tier: x}
spec:
  selector:
    <<: *labels
    tier: front
  ports:
  - &port {port: 80, targetPort: http}
  - {<<: [*port], port: 81}
"#,
    );
    let service = &objects.services[0];
    let selector: Vec<_> = service
        .spec
        .selector
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(selector, ["app=a", "tier=front"]);
    let ports: Vec<_> = service
        .spec
        .ports
        .iter()
        .map(|port| (port.port, port.target_port.clone()))
        .collect();
    let http = Some(IntOrString::String("http".to_owned()));
    assert_eq!(ports, [(80, http.clone()), (81, http)]);
    assert_eq!(service.source.locate("spec.selector.tier").1, 10);
    assert_eq!(service.source.locate("spec.selector.app").1, 6);
    assert_eq!(service.source.locate("spec.ports[1].targetPort").1, 12);
}

#[test]
fn json_and_lists_and_several_documents_are_read() {
    let objects = Objects::parse(
        Path::new("m.json"),
        "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"metadata\":{\"resourceVersion\":\"\"},\"items\":[\n\t{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\n\t\t\"metadata\":{\"name\":\"a\",\"annotations\":{\"\\\\\\\"\\u0041\\ud83d\\ude00\":\"\\t\\/\"}}}]}",
    );
    let objects = objects.unwrap_or_else(|problems| panic!("{problems}"));
    let account = &objects.service_accounts[0];
    assert_eq!(account.annotations["\\\"A😀"], "\t/");
    assert_eq!(account.source.to_string(), "m.json:2");
    assert_eq!(
        account.source.problem("metadata.name", "x").to_string(),
        "m.json:3: items[0].metadata.name: x"
    );

    let objects = parse(
        "# nothing\n---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n...\n---\n",
    );
    assert_eq!(objects.namespaces[0].source.to_string(), "m.yaml:4");
    parse("");
}

#[test]
fn what_a_cluster_prints_is_read() {
    parse(
        r#"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  creationTimestamp: "2026-11-21T03:10:00Z"
  generation: 2
  name: a
  namespace: ecommerce
  resourceVersion: "123"
  uid: 6d9f
  managedFields: []
spec:
  host: a
  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}, tls: {mode: ISTIO_MUTUAL}}
status: {}
"#,
    );
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, trafficPolicy: \
                {loadBalancer: {}}}\n";
    let rule = &parse(rule).destination_rules[0].spec;
    let balancer = rule
        .traffic_policy
        .as_ref()
        .and_then(|policy| policy.load_balancer.as_ref());
    assert_eq!(
        balancer.map(|balancer| balancer.simple),
        Some(SimpleLb::Unspecified)
    );
}

fn in_place(problems: &Problems, text: &str) -> Result<(), TestCaseError> {
    prop_assert!(!problems.0.is_empty());
    for problem in &problems.0 {
        // One more than there are, for what is missing at the end.
        prop_assert!(
            (1..=text.split(['\n', '\r']).count() + 1).contains(&problem.line),
            "{} of {:?}",
            problem,
            text
        );
        prop_assert!(!problem.message.is_empty());
    }
    Ok(())
}

/// Text of the pieces that YAML is made of.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\n  ".to_owned()),
        Just("\n    ".to_owned()),
        Just("- ".to_owned()),
        Just(": ".to_owned()),
        Just("a".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(", ".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("&a ".to_owned()),
        Just("*a ".to_owned()),
        Just("<<".to_owned()),
        Just("? ".to_owned()),
        Just("\n---\n".to_owned()),
        Just("\n...\n".to_owned()),
        Just("|\n".to_owned()),
        Just(">-\n".to_owned()),
        Just("\t".to_owned()),
        Just("!!str ".to_owned()),
        Just("!x ".to_owned()),
        Just("# ".to_owned()),
        Just("%YAML 1.2\n".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("\r".to_owned()),
        Just("\\".to_owned()),
        Just("0x1".to_owned()),
        Just("\napiVersion: v1\nkind: Service".to_owned()),
        Just("\nmetadata: {name: a}".to_owned()),
        Just("\nspec: ".to_owned()),
        Just("null".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_with_their_line(bytes in prop::collection::vec(any::<u8>(), 0..200), json: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if json { "m.json" } else { "m.yaml" });
        std::fs::write(&path, &bytes).unwrap();
        if let Err(problems) = Objects::load(&[path]) {
            in_place(&problems, &String::from_utf8_lossy(&bytes))?;
        }
    }

    #[test]
    fn any_yaml_is_read_or_refused_with_its_line(text in yamlish()) {
        if let Err(problems) = Objects::parse(Path::new("m.yaml"), &text) {
            in_place(&problems, &text)?;
        }
    }

    #[test]
    fn any_edit_of_our_manifests_is_read_or_refused_with_its_line(
        which: prop::sample::Index, at: prop::sample::Index, cut in 0..20_usize, piece in yamlish(),
    ) {
        let characters: Vec<char> = which.get(&MANIFESTS).chars().collect();
        let at = at.index(characters.len());
        let behind = characters.get(at + cut..).unwrap_or_default();
        let text: String = characters[..at].iter().copied().chain(piece.chars()).chain(behind.iter().copied()).collect();
        if let Err(problems) = Objects::parse(Path::new("m.yaml"), &text) {
            in_place(&problems, &text)?;
        }
    }

    /// Every value of a document is where the marks say, whatever its shape.
    #[test]
    fn json_written_on_many_lines_is_found_line_by_line(keys in prop::collection::btree_set("[a-z.\"\\\\ ]{1,6}", 1..8)) {
        let keys: Vec<String> = keys.into_iter().collect();
        let fields: Vec<String> = keys.iter().map(|key| format!("{}:\n\"x\"", serde_json::json!(key))).collect();
        let text = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{{\"name\":\"a\",\"annotations\":{{\n{}}}}}}}",
            fields.join(",\n")
        );
        let objects = Objects::parse(Path::new("m.json"), &text);
        let objects = objects.map_err(|problems| TestCaseError::fail(problems.to_string()))?;
        let account = &objects.service_accounts[0];
        for (index, key) in keys.iter().enumerate() {
            prop_assert_eq!(&account.annotations[key], "x");
            let field = tollgate_mesh::source::join("metadata.annotations", key);
            prop_assert_eq!(account.source.locate(&field).1, 2 + 2 * index, "{}", field);
        }
    }
}
