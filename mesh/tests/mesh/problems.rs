//! What is said of manifests that are well-formed and make no mesh: every message, whole.

use crate::security::{JWKS, authentication, policy};
use crate::{doubts, load};

/// The problems of the shop with `more`, as they are printed.
#[track_caller]
fn says(more: &str, expected: &[&str]) {
    match load(more) {
        Ok(_) => panic!("is accepted:\n{more}"),
        Err(problems) => assert_eq!(problems.to_string(), expected.join("\n"), "of\n{more}"),
    }
}

fn deployment(labels: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a, namespace: ecommerce}}\nspec:\n  selector: {{matchLabels: \
         {{app: a}}}}\n  template:\n    metadata:\n      labels: {{app: a{labels}}}\n      annotations: {{{annotations}}}\n    \
         spec:\n{spec}"
    )
}

const CONTAINER: &str = "      containers: [{name: a, image: a}]\n";

fn service(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: ecommerce}}\nspec:\n{spec}"
    )
}

fn networking(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: \
         ecommerce}}\nspec:\n{spec}"
    )
}

fn virtual_service(spec: &str) -> String {
    networking("VirtualService", spec)
}

fn destination_rule(spec: &str) -> String {
    networking("DestinationRule", spec)
}

fn peer_authentication(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: a, \
         namespace: {namespace}}}\nspec:\n{spec}"
    )
}

fn plugin(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a, \
         namespace: {namespace}}}\nspec:\n{spec}"
    )
}

#[test]
fn of_what_stands_before_a_gateway() {
    let gateway = |config: &str| {
        let lines = config.lines().map(|line| format!("          {line}\n"));
        deployment(
            ", sidecar.istio.io/inject: 'true'",
            "",
            "      containers: [{name: istio-proxy, image: auto}]\n",
        )
        .replace(
            "      annotations: {}\n",
            &format!(
                "      annotations:\n        inject.istio.io/templates: gateway\n        proxy.istio.io/config: |\n{}",
                lines.collect::<String>()
            ),
        )
    };
    for (config, expected) in [
        (
            "gatewayTopology:\n  numTrustedProxies: '1'",
            "more.yaml:13: gatewayTopology.numTrustedProxies: \"1\" is a string, write 1 without quotes",
        ),
        (
            "gatewayTopology: {numTrustedProxies: -1}",
            "more.yaml:12: gatewayTopology.numTrustedProxies: -1 is not between 0 and 4294967295",
        ),
        (
            "gatewayTopology:\n  numTrustedProxys: 1",
            "more.yaml:13: gatewayTopology.numTrustedProxys: Topology has no field \"numTrustedProxys\", did you mean \"numTrustedProxies\"?",
        ),
        (
            "gatewayTopology:\n  proxyProtocol: {}",
            "more.yaml:13: gatewayTopology.proxyProtocol: Topology.proxyProtocol is not implemented by the local mesh yet",
        ),
        (
            "gatewayTopology: {forwardClientCertDetails: APPEND}",
            "more.yaml:12: gatewayTopology.forwardClientCertDetails: \"APPEND\" is not a ForwardClientCertDetails, write UNDEFINED, SANITIZE, \
             FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET or ALWAYS_FORWARD_ONLY",
        ),
        (
            "concurrency: 2",
            "more.yaml:12: concurrency: ProxyConfig.concurrency is not implemented by the local mesh yet",
        ),
        (
            "{}\n---\n{}",
            "more.yaml:11: spec.template.metadata.annotations[\"proxy.istio.io/config\"]: is more than one document",
        ),
        (
            "a",
            "more.yaml:12: \"a\" is not a mapping of gatewayTopology, proxyStatsMatcher, extraStatTags, holdApplicationUntilProxyStarts",
        ),
        (
            "proxyStatsMatcher: {inclusionPrefixes: [a, ''], exclusionPrefixes: [b]}",
            "more.yaml:12: proxyStatsMatcher.exclusionPrefixes: ProxyStatsMatcher has no field \"exclusionPrefixes\", did you mean \"inclusionPrefixes\"?",
        ),
        (
            "proxyStatsMatcher: {inclusionPrefixes: [a, '']}",
            "more.yaml:11: spec.template.metadata.annotations[\"proxy.istio.io/config\"]: proxyStatsMatcher.inclusionPrefixes[1]: \"\" is no name, \
             and Envoy would not start",
        ),
        (
            "proxyStatsMatcher: {inclusionRegexps: ['a(']}",
            "more.yaml:12: proxyStatsMatcher.inclusionRegexps[0]: \"a(\" is not a regular expression: unclosed group",
        ),
    ] {
        says(&gateway(config), &[expected]);
    }
    says(
        &deployment(
            "",
            "proxy.istio.io/config: '{gatewayTopology: {numTrustedProxies: 1}}'",
            CONTAINER,
        ),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"proxy.istio.io/config\"]: gatewayTopology has no effect here: only \
             gateways have one; write it at the pods of the gateway",
        ],
    );
}

#[test]
fn of_workloads() {
    says(
        &deployment(", version: v1", "", CONTAINER)
            .replace("matchLabels: {app: a}", "matchLabels: {app: b}"),
        &[
            "more.yaml:5: spec.selector.matchLabels: does not select the pods of this Deployment's \
             own template; write the template's labels here",
        ],
    );
    says(
        &deployment("", "proxy.istio.io/overrides: x", CONTAINER),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"proxy.istio.io/overrides\"]: is not \
             implemented by the local mesh; remove it to go on without what it does",
        ],
    );
    says(
        &deployment(
            "",
            "sidecar.istio.io/statsInclusionRegexps: '[0-9]{1,3}'",
            CONTAINER,
        ),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"sidecar.istio.io/statsInclusionRegexps\"]: \"[0-9]{1\" is not a \
             regular expression: unclosed counted repetition; commas stand between expressions, and cannot be in one",
        ],
    );
    says(
        &deployment(
            "",
            "sidecar.istio.io/statsInclusionSuffixes: 'a,,b'",
            CONTAINER,
        ),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"sidecar.istio.io/statsInclusionSuffixes\"]: \"a,,b\" has nothing before or after a \
             comma, and Envoy would not start",
        ],
    );
    // In the order of the messages.
    let tags = |annotation: &str, expected: &[(&str, &str)]| {
        let lines: Vec<String> = expected
            .iter()
            .map(|(found, advice)| {
                let (place, found) = found.split_once(' ').unwrap();
                format!(
                    "more.yaml:9: spec.template.metadata.annotations[\"{place}\"]: {found} is not the name of a label, which has letters, digits and _ \
                     alone and does not begin with a digit; {advice}"
                )
            })
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        says(&deployment("", annotation, CONTAINER), &lines);
    };
    tags(
        "sidecar.istio.io/extraStatTags: 'tenant,, status,,tier(,9a,x-shop,_a1,*'",
        &[
            (
                "sidecar.istio.io/extraStatTags \" status\"",
                "write \"status\"",
            ),
            ("sidecar.istio.io/extraStatTags \"*\"", "leave it out"),
            ("sidecar.istio.io/extraStatTags \"9a\"", "write \"_9a\""),
            ("sidecar.istio.io/extraStatTags \"tier(\"", "write \"tier\""),
            (
                "sidecar.istio.io/extraStatTags \"x-shop\"",
                "write \"x_shop\"",
            ),
        ],
    );
    tags(
        "proxy.istio.io/config: '{extraStatTags: [tenant, \"\", \"tier)|(a\"]}'",
        &[(
            "proxy.istio.io/config extraStatTags[2]: \"tier)|(a\"",
            "write \"tier___a\"",
        )],
    );
    for (buckets, expected) in [
        (
            "",
            "Istio would pass over it, because it is no JSON of the kind {\"wasmcustom\": [10, 100, 1000]}: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{wasmcustom: [1]}",
            "Istio would pass over it, because it is no JSON of the kind {\"wasmcustom\": [10, 100, 1000]}: key must be a string at line 1 column 2",
        ),
        (
            "[1]",
            "Istio would pass over it, because it is no JSON of the kind {\"wasmcustom\": [10, 100, 1000]}: invalid type: sequence, expected an object of lists of numbers at line 1 column 0",
        ),
        (
            "{\"wasmcustom\": [\"1\"]}",
            "Istio would pass over it, because it is no JSON of the kind {\"wasmcustom\": [10, 100, 1000]}: invalid type: string \"1\", expected f64 at line 1 column 19",
        ),
        (
            "{\"\": [1]}",
            "\"\" is the beginning of no name, write one: \"wasmcustom\"",
        ),
        (
            "{\"a\": []}",
            "\"a\" has no buckets, write numbers: [10, 100, 1000]",
        ),
        (
            "{\"a\": [5, 0]}",
            "\"a\"[1]: 0 is no bound of a bucket, write a number above 0",
        ),
        (
            "{\"a\": [-0.5]}",
            "\"a\"[0]: -0.5 is no bound of a bucket, write a number above 0",
        ),
        ("{\"a\": [1, 2, 1.0]}", "\"a\"[2]: 1 is there twice"),
        ("{\"a\": [1], \"a\": [2]}", "\"a\" is there twice"),
        (
            "{\"wasmcustom.a\": [1], \"wasm\": [2]}",
            "the buckets of \"wasmcustom.a\" would never be used, because \"wasm\" comes first and fits as well; write a longer one in place of \"wasm\"",
        ),
    ] {
        says(
            &deployment(
                "",
                &format!("sidecar.istio.io/statsHistogramBuckets: '{buckets}'"),
                CONTAINER,
            ),
            &[&format!(
                "more.yaml:9: spec.template.metadata.annotations[\"sidecar.istio.io/statsHistogramBuckets\"]: {expected}"
            )],
        );
    }
    says(
        &deployment(", istio.io/rev: canary", "", CONTAINER),
        &[
            "more.yaml:8: spec.template.metadata.labels[\"istio.io/rev\"]: is not implemented by \
             the local mesh; remove it to go on without what it does",
        ],
    );
    says(
        &deployment("", "inject.istio.io/templates: grpc-agent", CONTAINER),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"inject.istio.io/templates\"]: \
             the template \"grpc-agent\" is not implemented by the local mesh; write gateway or sidecar",
        ],
    );
    says(
        &deployment(
            ", sidecar.istio.io/inject: 'false'",
            "inject.istio.io/templates: gateway",
            CONTAINER,
        ),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"inject.istio.io/templates\"]: has \
             no effect: nothing is injected into this pod. Label it sidecar.istio.io/inject: \
             \"true\", or its namespace ecommerce istio-injection: enabled",
        ],
    );
    says(
        &deployment(
            "",
            "",
            "      enableServiceLinks: true\n      containers: [{name: a, image: a}]\n",
        ),
        &[
            "more.yaml:11: spec.template.spec.enableServiceLinks: is not implemented by the local \
             mesh; write false, and name Services by their host names",
        ],
    );
    says(
        &deployment(
            "",
            "",
            "      serviceAccountName: nobody\n      containers: [{name: a, image: a}]\n",
        ),
        &[
            "more.yaml:11: spec.template.spec.serviceAccountName: there is no ServiceAccount \
             nobody in the namespace ecommerce",
        ],
    );
    says(
        &deployment(
            "",
            "",
            "      containers:\n      - name: a\n        image: ':v1'\n",
        ),
        &["more.yaml:13: spec.template.spec.containers[0].image: \":v1\" names no image"],
    );
    says(
        &deployment(
            "",
            "",
            "      containers:\n      - name: a\n        image: a\n        ports: [{name: web, \
             containerPort: 80}]\n        readinessProbe:\n          httpGet: {port: http}\n",
        ),
        &[
            "more.yaml:16: spec.template.spec.containers[0].readinessProbe.httpGet.port: http is \
             not a port of this container, which has web (80)",
        ],
    );
    says(
        &deployment(
            "",
            "",
            "      containers:\n      - {name: a, image: a, ports: [{containerPort: 80}]}\n      - \
             {name: b, image: b, ports: [{containerPort: 80}]}\n",
        ),
        &[
            "more.yaml:11: spec.template.spec.containers: the containers a and b of one pod both \
             listen on port 80",
        ],
    );
    says(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: b\n  labels: \
         {istio.io/dataplane-mode: ambient}\n",
        &[
            "more.yaml:5: metadata.labels[\"istio.io/dataplane-mode\"]: is not implemented by the \
             local mesh; write istio-injection: enabled for sidecars",
        ],
    );
}

#[test]
fn of_services() {
    says(
        &service("  ports: [{name: http, port: 80}]\n"),
        &[
            "more.yaml:4: spec.selector: a Service without selector is not implemented by the \
             local mesh; write the labels of the pods behind it",
        ],
    );
    says(
        &service(
            "  selector: {app: cart-service}\n  ports:\n  - {name: http, port: 3002}\n  - {name: \
             http-b, port: 3002}\n",
        ),
        &["more.yaml:8: spec.ports[1].port: 3002 is there twice"],
    );
    says(
        &service(
            "  selector: {app: cart-service}\n  ports:\n  - {name: http, port: 80, targetPort: \
             web}\n",
        ),
        &[
            "more.yaml:7: spec.ports[0].targetPort: web is not a port of the pods of cart-service, \
             which declare http (3002); declare it there under containers[].ports",
        ],
    );
    says(
        &service("  selector: {app: cart-service}\n  ports:\n  - {name: http, port: 80}\n"),
        &[
            "more.yaml:7: spec.ports[0].port: 80 is not a port of the pods of cart-service, which \
             declare http (3002); declare it there under containers[].ports",
        ],
    );
    says(
        &service("  selector: {app: cart-service}\n  ports:\n  - {name: tcp, port: 3002}\n"),
        &[
            "more.yaml:7: spec.ports[0].name: the local mesh routes only HTTP, and the pods of \
             cart-service have a sidecar; write http for HTTP, or label the pods \
             sidecar.istio.io/inject: \"false\"",
        ],
    );
    says(
        &service("  selector: {app: legacy}\n  ports:\n  - {name: grpc-web, port: 8000}\n"),
        &[
            "more.yaml:7: spec.ports[0].name: grpc-web is not implemented by the local mesh; write \
             http or grpc",
        ],
    );
}

#[test]
fn of_gateways() {
    says(
        &networking(
            "Gateway",
            "  selector: {istio: egressgateway}\n  servers: [{port: {number: 80, name: http, \
             protocol: HTTP}, hosts: ['*']}]\n",
        ),
        &[
            "more.yaml:5: spec.selector: selects no gateway; there must be a Deployment whose pods \
             have these labels and the annotation inject.istio.io/templates: gateway",
        ],
    );
    says(
        &networking(
            "Gateway",
            "  selector: {istio: ingressgateway}\n  servers: []\n",
        ),
        &["more.yaml:6: spec.servers: is empty, write at least one server"],
    );
    says(
        &networking(
            "Gateway",
            "  selector: {istio: ingressgateway}\n  servers:\n  - port: {number: 80, name: http, \
             protocol: HTTP}\n    hosts: []\n",
        ),
        &["more.yaml:8: spec.servers[0].hosts: is empty, write \"*\" for any host"],
    );
}

#[test]
fn of_virtual_services() {
    let route = "  http: [{route: [{destination: {host: legacy}}]}]\n";
    says(
        &virtual_service(&format!("  hosts: []\n{route}")),
        &[
            "more.yaml:5: spec.hosts: is empty, write the Service or the host that the routes are for",
        ],
    );
    says(
        &virtual_service(&format!("  hosts: [legacy, legacy]\n{route}")),
        &["more.yaml:5: spec.hosts[1]: \"legacy.ecommerce.svc.cluster.local\" is there twice"],
    );
    says(
        &virtual_service(&format!("  hosts: ['*']\n{route}")),
        &[
            "more.yaml:5: spec.hosts[0]: Istio refuses \"*\" in a VirtualService for sidecars; \
             name the Services, and write a VirtualService of its own for the gateway",
        ],
    );
    says(
        &virtual_service(&format!("  hosts: [nobody]\n{route}")),
        &["more.yaml:5: spec.hosts[0]: there is no Service \
             \"nobody.ecommerce.svc.cluster.local\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\""],
    );
    says(
        &virtual_service(&format!("  hosts: [product-servise]\n{route}")),
        &["more.yaml:5: spec.hosts[0]: there is no Service \
             \"product-servise.ecommerce.svc.cluster.local\", did you mean \
             \"product-service.ecommerce.svc.cluster.local\"?"],
    );
    says(
        &virtual_service(&format!("  hosts: [legacy.ecommerce]\n{route}")),
        &[
            "more.yaml:5: spec.hosts[0]: there is no Service \"legacy.ecommerce\"; Istio takes a \
             name with a dot as complete, write \"legacy.ecommerce.svc.cluster.local\"",
        ],
    );
    says(
        &virtual_service(&format!("  hosts: [product-service]\n{route}")),
        &[
            "shop.yaml:209: spec.hosts[0]: the VirtualService ecommerce/a has routes of \
             product-service.ecommerce.svc.cluster.local for sidecars already; Istio takes the \
             oldest of them and ignores the others",
        ],
    );
    says(
        &virtual_service(&format!("  hosts: ['*']\n  gateways: [nobody]\n{route}")),
        &[
            "more.yaml:6: spec.gateways[0]: there is no Gateway ecommerce/nobody; there are \
             \"ecommerce/ecommerce-gateway\"",
        ],
    );
    says(
        &(networking(
            "Gateway",
            "  selector: {istio: ingressgateway}\n  servers: [{port: {number: 80, name: http, \
             protocol: HTTP}, hosts: [other/*, a.example]}]\n---\n",
        ) + &virtual_service(&format!("  hosts: [b.example]\n  gateways: [a]\n{route}"))),
        &[
            "more.yaml:12: spec.hosts: the Gateway ecommerce/a opens none of \"b.example\"; to \
             VirtualServices of ecommerce it opens \"a.example\"",
        ],
    );
    says(
        &virtual_service("  hosts: [legacy]\n  http: []\n"),
        &["more.yaml:6: spec.http: is empty, write at least one route"],
    );
    says(
        &virtual_service("  hosts: [legacy]\n  http:\n  - timeout: 1s\n"),
        &["more.yaml:7: spec.http[0].route: is empty, write at least one destination"],
    );
    let to = |destinations: &str| {
        virtual_service(&format!(
            "  hosts: [legacy]\n  http:\n  - route:\n{destinations}"
        ))
    };
    says(
        &to("    - {destination: {host: legacy}}\n    - {destination: {host: cart-service}}\n"),
        &[
            "more.yaml:7: spec.http[0].route: the weights of its destinations are 0 in all, so no \
             request could go anywhere; write weights, 90 and 10 say",
        ],
    );
    says(
        &to(
            "    - {destination: {host: legacy}, weight: 4294967295}\n    - {destination: {host: \
             cart-service}, weight: 1}\n",
        ),
        &[
            "more.yaml:7: spec.http[0].route: the weights of its destinations are 4294967296 \
             in all, more than Envoy's 4294967295",
        ],
    );
    says(
        &to("    - destination: {host: nobody}\n"),
        &[
            "more.yaml:8: spec.http[0].route[0].destination.host: there is no Service \
             \"nobody.ecommerce.svc.cluster.local\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
        ],
    );
    says(
        &to("    - destination:\n        host: legacy\n        port: {number: 81}\n"),
        &[
            "more.yaml:10: spec.http[0].route[0].destination.port.number: the Service \
             legacy.ecommerce.svc.cluster.local has no port 81; it has 80",
        ],
    );
    says(
        &(service(
            "  selector: {app: legacy}\n  ports: [{name: http, port: 80, targetPort: 8000}, {name: \
             tcp, port: 81, targetPort: 8000}]\n---\n",
        ) + &to(
            "    - destination: {host: a}\n    - {destination: {host: a, port: {number: 81}}, \
             weight: 1}\n",
        )),
        &[
            "more.yaml:15: spec.http[0].route[0].destination.port: the Service \
             a.ecommerce.svc.cluster.local has several ports, write which: 80, 81",
            "more.yaml:16: spec.http[0].route[1].destination.port: port 81 of \
             a.ecommerce.svc.cluster.local is not HTTP as its name says, so no HTTP request can go \
             there",
        ],
    );
    says(
        &to("    - destination: {host: product-service, subset: v3}\n"),
        &[
            "more.yaml:8: spec.http[0].route[0].destination.subset: to proxies of the namespace \
             ecommerce, product-service.ecommerce.svc.cluster.local has no subset \"v3\"; there \
             are \"v1\", \"v2\"",
        ],
    );
    says(
        &to("    - destination: {host: legacy, subset: v1}\n"),
        &[
            "more.yaml:8: spec.http[0].route[0].destination.subset: to proxies of the namespace \
             ecommerce, legacy.ecommerce.svc.cluster.local has no subset \"v1\"; there is no \
             DestinationRule for it",
        ],
    );
    says(
        &(destination_rule("  host: legacy\n---\n")
            + &to("    - destination: {host: legacy, subset: v1}\n")),
        &[
            "more.yaml:14: spec.http[0].route[0].destination.subset: to proxies of the namespace \
             ecommerce, legacy.ecommerce.svc.cluster.local has no subset \"v1\"; its \
             DestinationRule has no subsets",
        ],
    );
}

#[test]
fn of_destination_rules() {
    says(
        &destination_rule("  host: nobody\n"),
        &[
            "more.yaml:5: spec.host: there is no Service \"nobody.ecommerce.svc.cluster.local\"; \
             there are \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
        ],
    );
    says(
        &destination_rule("  host: '*.example'\n"),
        &[
            "more.yaml:5: spec.host: there is no Service \"*.example\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
        ],
    );
    says(
        &destination_rule("  host: product-service\n  subsets:\n  - {name: v1}\n"),
        &[
            "shop.yaml:227: spec.subsets[0].name: there is another subset \"v1\" of \
             product-service.ecommerce.svc.cluster.local; Istio takes one of them",
        ],
    );
    for name in ["v|1", "-v1", "v1-", &"v".repeat(64)] {
        says(
            &destination_rule(&format!(
                "  host: legacy\n  subsets:\n  - {{name: '{name}'}}\n"
            )),
            &[&format!(
                "more.yaml:7: spec.subsets[0].name: {name:?} is not a name; write letters, digits and \
                 dashes between them, at most 63"
            )],
        );
    }
    says(
        &(destination_rule(
            "  host: legacy\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n---\n",
        ) + &destination_rule(
            "  host: legacy\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n",
        )
        .replace("name: a,", "name: b,")),
        &[
            "more.yaml:13: spec.trafficPolicy: another DestinationRule of ecommerce has a \
             trafficPolicy for legacy.ecommerce.svc.cluster.local already; Istio takes that of the \
             oldest and ignores the others",
        ],
    );
}

#[test]
fn of_peer_authentications() {
    says(
        &peer_authentication("istio-system", "  mtls: {mode: PERMISSIVE}\n"),
        &[
            "shop.yaml:237: metadata.name: a second PeerAuthentication for all pods of the \
             namespace istio-system beside a (more.yaml:1); Istio takes the oldest and ignores the \
             others",
        ],
    );
    says(
        &peer_authentication(
            "istio-system",
            "  selector: {matchLabels: {app: cart-service}}\n",
        ),
        &[
            "more.yaml:5: spec.selector: Istio ignores a PeerAuthentication that has a selector \
             in istio-system; put it into the namespace of the pods",
        ],
    );
    says(
        &peer_authentication("ecommerce", "  selector: {matchLabels: {app: legacy}}\n"),
        &[
            "more.yaml:5: spec.selector.matchLabels: selects no pod with a sidecar in the \
             namespace ecommerce",
        ],
    );
    says(
        &(peer_authentication(
            "ecommerce",
            "  selector: {matchLabels: {app: cart-service}}\n---\n",
        ) + &peer_authentication(
            "ecommerce",
            "  selector: {matchLabels: {app: cart-service}}\n",
        )
        .replace("name: a,", "name: b,")),
        &[
            "more.yaml:9: metadata.name: a second PeerAuthentication for the pods of cart-service \
             beside a (more.yaml:1); Istio takes the oldest and ignores the others",
        ],
    );
}

#[test]
fn of_plugins() {
    says(
        &plugin("ecommerce", "  url: file:///a.wasm\n"),
        &[
            "more.yaml:5: spec.url: the scheme file is not implemented by the local mesh, write \
             oci://registry/path/module:tag",
        ],
    );
    says(
        &plugin(
            "ecommerce",
            "  url: oci://a/b\n  selector: {matchLabels: {app: legacy}}\n",
        ),
        &["more.yaml:6: spec.selector.matchLabels: selects no pod with a proxy in ecommerce"],
    );
    says(
        &plugin(
            "istio-system",
            "  url: oci://a/b\n  selector: {matchLabels: {app: nobody}}\n",
        ),
        &["more.yaml:6: spec.selector.matchLabels: selects no pod with a proxy in any namespace"],
    );
    says(
        &plugin(
            "ecommerce",
            "  url: oci://a/b\n  match:\n  - ports: [{number: 3002}, {number: 9999}]\n",
        ),
        &[
            "more.yaml:7: spec.match[0].ports: what leaves a pod towards the Services' ports 3002 \
             cannot be told apart by the local mesh; write mode: SERVER for what comes in, or \
             leave the ports out",
        ],
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_the_order_of_the_lines() {
    says(
        &virtual_service(
            "  hosts: [nobody]\n  gateways: [mesh, nowhere]\n  http:\n  - route:\n    - \
             destination: {host: nobody}\n",
        ),
        &[
            "more.yaml:5: spec.hosts[0]: there is no Service \
             \"nobody.ecommerce.svc.cluster.local\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
            "more.yaml:6: spec.gateways[1]: there is no Gateway ecommerce/nowhere; there are \
             \"ecommerce/ecommerce-gateway\"",
            "more.yaml:9: spec.http[0].route[0].destination.host: there is no Service \
             \"nobody.ecommerce.svc.cluster.local\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
        ],
    );
}

#[test]
fn of_routing_by_claims() {
    says(
        &virtual_service(
            "  hosts: [cart-service]\n  http:\n  - match: [{headers: {'@request.auth.claims.sub': {exact: alice}}}]\n    route: \
             [{destination: {host: cart-service}}]\n",
        ),
        &[
            "more.yaml:7: spec.http[0].match[0].headers[\"@request.auth.claims.sub\"]: routing by claims is not implemented by the \
             local mesh yet; have the RequestAuthentication pass the claim on (outputClaimToHeaders), and match that header",
        ],
    );
}

#[test]
fn of_tokens() {
    says(
        &authentication("ecommerce", "a", "  {}"),
        &[
            "more.yaml:5: spec.jwtRules: is missing, so nothing would be verified; write at least one rule",
        ],
    );
    says(
        &authentication(
            "nowhere",
            "a",
            &"  jwtRules: [{issuer: a, jwks: 'KEY'}]".replace("KEY", JWKS),
        ),
        &[
            "more.yaml:4: metadata.namespace: is for nobody: no pod of the namespace nowhere has a proxy",
        ],
    );
    says(
        &authentication(
            "ecommerce",
            "a",
            &"  selector: {matchLabels: {app: legacy}}\n  jwtRules: [{issuer: a, jwks: 'KEY'}]"
                .replace("KEY", JWKS),
        ),
        &[
            "more.yaml:6: spec.selector.matchLabels: selects no pod with a proxy in the namespace ecommerce",
        ],
    );
    says(&authentication("ecommerce", "a", &"  jwtRules:\n  - {issuer: a, jwksUri: 'https://a/keys'}\n  - {issuer: b}\n  - {issuer: '', jwks: 'KEY', jwksUri: 'https://a/keys'}".replace("KEY", JWKS)), &["more.yaml:7: spec.jwtRules[0].jwksUri: is fetched by istiod, which one machine does not have; write the keys into jwks, in an overlay of their own if a cluster is to fetch them", "more.yaml:8: spec.jwtRules[1].jwks: is missing: on a cluster istiod would ask the issuer for its keys, which one machine does not do; write the keys as JSON", "more.yaml:9: spec.jwtRules[2].issuer: is empty: tokens of any issuer would pass; write the claim iss that they have", "more.yaml:9: spec.jwtRules[2].jwksUri: stands beside jwks, and a cluster takes only one of them; remove one"]);
    says(&authentication("ecommerce", "a", &"  jwtRules:\n  - issuer: a\n    jwks: 'KEY'\n    audiences: ['']\n    fromHeaders: [{name: 'x y'}]\n    fromParams: ['']\n    fromCookies: ['']\n    outputPayloadToHeader: ''\n    outputClaimToHeaders: [{header: x-a, claim: ''}, {header: X-A, claim: b}]\n    spaceDelimitedClaims: ['']".replace("KEY", JWKS)), &["more.yaml:9: spec.jwtRules[0].audiences[0]: is empty, write the claim aud of tokens for these workloads", "more.yaml:10: spec.jwtRules[0].fromHeaders[0].name: \"x y\" is no name of a header, write letters, digits, \"-\" and \"_\"", "more.yaml:11: spec.jwtRules[0].fromParams[0]: is empty, write the name of a query parameter", "more.yaml:12: spec.jwtRules[0].fromCookies[0]: is empty, write the name of a cookie", "more.yaml:13: spec.jwtRules[0].outputPayloadToHeader: \"\" is no name of a header, write letters, digits, \"-\" and \"_\"", "more.yaml:14: spec.jwtRules[0].outputClaimToHeaders[0].claim: is empty, write the name of a claim", "more.yaml:14: spec.jwtRules[0].outputClaimToHeaders[1].header: X-A is written twice, a header has one claim", "more.yaml:15: spec.jwtRules[0].spaceDelimitedClaims[0]: is empty, write the name of a claim"]);
    says(
        &authentication("ecommerce", "a", "  targetRefs: []\n  jwtRules: []"),
        &[
            "more.yaml:6: spec.targetRefs: RequestAuthentication.targetRefs is not implemented by the local mesh yet",
        ],
    );
}

#[test]
fn of_keys() {
    for (keys, expected) in [
        (
            "nonsense",
            "is not JSON: expected ident at line 1 column 2; write {\"keys\": [{\"kty\": \"RSA\", \"n\": …, \"e\": …}]}",
        ),
        (
            "{\"key\":[]}",
            "has no list of keys, write {\"keys\": [{\"kty\": \"RSA\", \"n\": …, \"e\": …}]}",
        ),
        (
            "{\"keys\":[]}",
            "has no key, write {\"keys\": [{\"kty\": \"RSA\", \"n\": …, \"e\": …}]}",
        ),
        (
            "{\"keys\":[1]}",
            "keys[0] is no key, write {\"keys\": [{\"kty\": \"RSA\", \"n\": …, \"e\": …}]}",
        ),
        (
            "{\"keys\":[{}]}",
            "keys[0] has no kty, write RSA, EC or OKP",
        ),
        (
            "{\"keys\":[{\"kty\":\"DSA\"}]}",
            "keys[0] has the kty \"DSA\", write RSA, EC or OKP",
        ),
        (
            "{\"keys\":[{\"kty\":\"oct\",\"k\":\"YQ\"}]}",
            "keys[0] is symmetric: whoever reads it here can sign with it; write a public key, of kty RSA, EC or OKP",
        ),
        (
            "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\"}]}",
            "keys[0] has no e in base64url",
        ),
        (
            "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\",\"d\":\"AQAB\"}]}",
            "keys[0] has a d: that is a private key; write the public one",
        ),
        (
            "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQAB\",\"y\":\"AQAB\"}]}",
            "keys[0] has 3 bytes in its x, which no such key has",
        ),
        (
            "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"secp256k1\"}]}",
            "keys[0] has no crv of P-256, P-384 or P-521",
        ),
        (
            "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"X25519\"}]}",
            "keys[0] has no crv of Ed25519",
        ),
        (
            "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"!\"}]}",
            "keys[0] has no x in base64url",
        ),
    ] {
        let spec = format!("  jwtRules: [{{issuer: a, jwks: '{keys}'}}]");
        says(
            &authentication("ecommerce", "a", &spec),
            &[&format!("more.yaml:6: spec.jwtRules[0].jwks: {expected}")],
        );
    }
}

#[test]
fn of_access_rules() {
    says(
        &policy("ecommerce", "a", "  action: DENY"),
        &[
            "more.yaml:5: spec.rules: is missing, so this denies nothing; to deny everything write an empty rule: [{}]",
        ],
    );
    says(
        &policy("ecommerce", "a", "  action: AUDIT"),
        &[
            "more.yaml:6: spec.action: AUDIT is not implemented by the local mesh yet, write ALLOW or DENY",
        ],
    );
    says(
        &policy("ecommerce", "a", "  action: CUSTOM\n  provider: {name: a}"),
        &[
            "more.yaml:6: spec.action: CUSTOM is not implemented by the local mesh yet, write ALLOW or DENY",
            "more.yaml:7: spec.provider: AuthorizationPolicy.provider is not implemented by the local mesh yet",
        ],
    );
    says(
        &policy("ecommerce", "a", "  selector: {matchLabels: {app: legacy}}"),
        &[
            "more.yaml:6: spec.selector.matchLabels: selects no pod with a proxy in the namespace ecommerce",
        ],
    );
    says(
        &policy("ecommerce", "a", "  {}").replace(
            "namespace: ecommerce",
            "namespace: ecommerce, annotations: {istio.io/dry-run: 'yes'}",
        ),
        &[
            "more.yaml:4: metadata.annotations[\"istio.io/dry-run\"]: \"yes\" is neither \"true\" nor \"false\"",
        ],
    );
    says(
        &policy("ecommerce", "a", "  rules:\n  - from: []\n    to: []"),
        &[
            "more.yaml:7: spec.rules[0].from: is an empty list, which a cluster does not take; leave from out if it says nothing",
            "more.yaml:8: spec.rules[0].to: is an empty list, which a cluster does not take; leave to out if it says nothing",
        ],
    );
    says(
        &policy(
            "ecommerce",
            "a",
            "  rules:\n  - from: [{source: {}}]\n    to: [{operation: {}}]",
        ),
        &[
            "more.yaml:7: spec.rules[0].from[0].source: says nothing, which a cluster does not take; write one of principals, requestPrincipals, serviceAccounts, namespaces, remoteIpBlocks, ipBlocks, or leave it out with all that it is in",
            "more.yaml:8: spec.rules[0].to[0].operation: says nothing, which a cluster does not take; write one of hosts, methods, paths, ports, or leave it out with all that it is in",
        ],
    );
    says(
        &policy("ecommerce", "a", "  rules:\n  - from: [{}]"),
        &["more.yaml:7: spec.rules[0].from[0].source: is missing"],
    );
    says(
        &policy(
            "ecommerce",
            "a",
            "  rules:\n  - from: [{source: {trustDomains: [a]}}]",
        ),
        &[
            "more.yaml:7: spec.rules[0].from[0].source.trustDomains: Source.trustDomains is not implemented by the local mesh yet",
        ],
    );
    says(
        &policy(
            "ecommerce",
            "a",
            "  rules:\n  - from:\n    - source:\n        principals: ['', cluster.local/sa/a, spiffe://cluster.local/ns/ecommerce/sa/cart-service, cluster.local/*/sa/a*, cluster.local/ns/ecommerce/sa/crt-service]\n        requestPrincipals: [shop, '*/*', '*/a*']\n        namespaces: [ecomerce, '*-sys']\n        ipBlocks: [10.0.0.0/33, a]\n        notRemoteIpBlocks: [10.0.0.0/a]",
        ),
        &[
            "more.yaml:9: spec.rules[0].from[0].source.principals[0]: is empty, write a value, or * for any",
            "more.yaml:9: spec.rules[0].from[0].source.principals[1]: \"cluster.local/sa/a\" is nobody's identity, write cluster.local/ns/NAMESPACE/sa/SERVICEACCOUNT",
            "more.yaml:9: spec.rules[0].from[0].source.principals[2]: \"spiffe://cluster.local/ns/ecommerce/sa/cart-service\" begins with spiffe://, which Istio adds; write \"cluster.local/ns/ecommerce/sa/cart-service\"",
            "more.yaml:9: spec.rules[0].from[0].source.principals[3]: \"cluster.local/*/sa/a*\": a \"*\" stands for anything only at the beginning or at the end, and only once; elsewhere it is a letter",
            "more.yaml:9: spec.rules[0].from[0].source.principals[4]: there is no ServiceAccount crt-service in the namespace ecommerce, did you mean cart-service?",
            "more.yaml:10: spec.rules[0].from[0].source.requestPrincipals[0]: \"shop\" has no subject, write \"shop/SUBJECT\", or \"shop/*\" for any",
            "more.yaml:10: spec.rules[0].from[0].source.requestPrincipals[1]: \"*/*\" is nobody: it is any issuer's subject \"*\"; write \"*\" for anybody",
            "more.yaml:10: spec.rules[0].from[0].source.requestPrincipals[2]: \"*/a*\": a \"*\" stands for anything only at the beginning or at the end, and only once; elsewhere it is a letter",
            "more.yaml:12: spec.rules[0].from[0].source.ipBlocks[0]: \"10.0.0.0/33\" is neither an address nor a block of them, write \"10.1.2.3\" or \"10.1.0.0/16\"",
            "more.yaml:12: spec.rules[0].from[0].source.ipBlocks[1]: \"a\" is neither an address nor a block of them, write \"10.1.2.3\" or \"10.1.0.0/16\"",
            "more.yaml:13: spec.rules[0].from[0].source.notRemoteIpBlocks[0]: \"10.0.0.0/a\" is neither an address nor a block of them, write \"10.1.2.3\" or \"10.1.0.0/16\"",
        ],
    );
    says(
        &policy(
            "ecommerce",
            "a",
            "  rules:\n  - from:\n    - source:\n        principals: ['*']\n        namespaces: ['*']\n        serviceAccounts: [a/b/c, crt-service, 'cart*', ecommerce/]",
        ),
        &[
            "more.yaml:9: spec.rules[0].from[0].source.principals: stands beside serviceAccounts, which a cluster does not take; write one or the other",
            "more.yaml:10: spec.rules[0].from[0].source.namespaces: stands beside serviceAccounts, which a cluster does not take; write one or the other",
            "more.yaml:11: spec.rules[0].from[0].source.serviceAccounts[0]: \"a/b/c\" is neither NAME nor NAMESPACE/NAME of a ServiceAccount",
            "more.yaml:11: spec.rules[0].from[0].source.serviceAccounts[1]: there is no ServiceAccount crt-service in the namespace ecommerce, did you mean cart-service?",
            "more.yaml:11: spec.rules[0].from[0].source.serviceAccounts[2]: \"cart*\" has a \"*\", which serviceAccounts do not take; write it in principals",
            "more.yaml:11: spec.rules[0].from[0].source.serviceAccounts[3]: \"ecommerce/\" is neither NAME nor NAMESPACE/NAME of a ServiceAccount",
        ],
    );
    says(
        &policy(
            "ecommerce",
            "a",
            "  rules:\n  - to:\n    - operation:\n        hosts: [a.*.b]\n        ports: [http, '80', '65536', '+3001']\n        methods: [get]\n        paths: [cart, '/cart?a=b', '/*/b', '/a/{id}', '/a/{**}/{*}', '/a/x*/{*}', '/a//{*}', '/a{*}']",
        ),
        &[
            "more.yaml:9: spec.rules[0].to[0].operation.hosts[0]: \"a.*.b\": a \"*\" stands for anything only at the beginning or at the end, and only once; elsewhere it is a letter",
            "more.yaml:10: spec.rules[0].to[0].operation.ports[0]: \"http\" is not a port, write one as in \"3001\"",
            "more.yaml:10: spec.rules[0].to[0].operation.ports[1]: no pod that this is for listens on 80, only on 3001, 3002; ports are those of pods, not of the Services in front of them",
            "more.yaml:10: spec.rules[0].to[0].operation.ports[2]: \"65536\" is not a port, write one as in \"3001\"",
            "more.yaml:10: spec.rules[0].to[0].operation.ports[3]: \"+3001\" is not a port, write one as in \"3001\"",
            "more.yaml:11: spec.rules[0].to[0].operation.methods[0]: \"get\" matches nothing: methods are compared as they are written; write \"GET\"",
            "more.yaml:12: spec.rules[0].to[0].operation.paths[0]: \"cart\" matches nothing: a path begins with \"/\"; write \"/cart\"",
            "more.yaml:12: spec.rules[0].to[0].operation.paths[1]: \"/cart?a=b\" matches nothing: what is compared is the path alone; write it without what begins with \"?\"",
            "more.yaml:12: spec.rules[0].to[0].operation.paths[2]: \"/*/b\": a \"*\" stands for anything only at the beginning or at the end, and only once; elsewhere it is a letter; write {*} for any one segment of the path",
            "more.yaml:12: spec.rules[0].to[0].operation.paths[3]: \"/a/{id}\" has braces beside {*} and {**}, which a cluster does not take",
            "more.yaml:12: spec.rules[0].to[0].operation.paths[4]: \"/a/{**}/{*}\" has {*} behind {**}, which must be the last of them",
            "more.yaml:12: spec.rules[0].to[0].operation.paths[5]: \"/a/x*/{*}\": the segment \"x*\" cannot stand beside {*} and {**}, each of which is a whole segment",
            "more.yaml:12: spec.rules[0].to[0].operation.paths[6]: \"/a//{*}\": the segment \"\" cannot stand beside {*} and {**}, each of which is a whole segment",
            "more.yaml:12: spec.rules[0].to[0].operation.paths[7]: \"/a{*}\": the segment \"a{*}\" cannot stand beside {*} and {**}, each of which is a whole segment",
        ],
    );
    says(
        &policy(
            "ecommerce",
            "a",
            "  rules:\n  - to: [{operation: {ports: [80]}}]",
        ),
        &["more.yaml:7: spec.rules[0].to[0].operation.ports[0]: 80 is not a string, write \"80\""],
    );
    says(
        &policy(
            "ecommerce",
            "a",
            "  rules:\n  - when:\n    - {key: request.headers, values: [a]}\n    - {key: 'request.headers[a][b]', values: [a]}\n    - {key: request.auth.claims, values: [a]}\n    - {key: source.ip}\n    - {key: source.ips, values: [a]}\n    - {key: 'destination.labels[app]', values: [a]}\n    - {key: destination.namespace, values: [a]}\n    - {key: source.trustDomain, values: [a]}\n    - {key: 'experimental.envoy.filters.a[b]', values: [a]}\n    - {key: nonsense, values: [a]}\n    - {key: destination.port, values: [http]}\n    - {key: 'request.headers[a]', notValues: ['']}",
        ),
        &[
            "more.yaml:8: spec.rules[0].when[0].key: \"request.headers\" names no header, write request.headers[NAME]",
            "more.yaml:9: spec.rules[0].when[1].key: \"request.headers[a][b]\" names no header, write request.headers[NAME]",
            "more.yaml:10: spec.rules[0].when[2].key: \"request.auth.claims\" names no claim, write request.auth.claims[NAME], or request.auth.claims[NAME][NAME] for a nested one",
            "more.yaml:11: spec.rules[0].when[3]: has neither values nor notValues; write at least one value",
            "more.yaml:12: spec.rules[0].when[4].key: there is no key \"source.ips\", did you mean source.ip?",
            "more.yaml:13: spec.rules[0].when[5].key: destination.labels[app] is no key any more, write spec.selector",
            "more.yaml:14: spec.rules[0].when[6].key: destination.namespace is no key any more, write metadata.namespace",
            "more.yaml:15: spec.rules[0].when[7].key: source.trustDomain is not implemented by the local mesh yet",
            "more.yaml:16: spec.rules[0].when[8].key: experimental.envoy.filters is not implemented by the local mesh yet",
            "more.yaml:17: spec.rules[0].when[9].key: there is no key \"nonsense\", only request.headers[NAME], request.auth.principal, request.auth.audiences, request.auth.presenter, request.auth.claims[NAME], source.ip, remote.ip, source.namespace, source.principal, source.serviceAccount, destination.ip, destination.port, connection.sni",
            "more.yaml:18: spec.rules[0].when[10].values[0]: \"http\" is not a port, write one as in \"3001\"",
            "more.yaml:19: spec.rules[0].when[11].notValues[0]: is empty, write a value, or * for any",
        ],
    );
}

#[test]
fn of_environments_of_modules() {
    let with = |env: &str| {
        let url = "  url: oci://x/y:z\n  vmConfig:\n    env:\n";
        plugin("ecommerce", &format!("{url}{env}"))
    };
    says(
        &with(
            "    - {name: A, value: a}\n    - {name: A, valueFrom: HOST, value: b}\n    - {name: ''}\n",
        ),
        &[
            "more.yaml:9: spec.vmConfig.env[1].name: \"A\" is there twice, remove one of them",
            "more.yaml:9: spec.vmConfig.env[1].value: is of no use beside valueFrom: HOST, remove one of them",
            "more.yaml:10: spec.vmConfig.env[2].name: must have 1 to 256 bytes, it has 0",
        ],
    );
    says(
        &with(&format!(
            "    - {{name: A, value: {}}}\n",
            "a".repeat(2_049)
        )),
        &["more.yaml:8: spec.vmConfig.env[0].value: must have at most 2048 bytes, it has 2049"],
    );
}

/// A policy of the shop for whom these fields of a source mean.
fn of_source(source: &str) -> String {
    policy(
        "ecommerce",
        "a",
        &format!("  rules:\n  - from: [{{source: {{{source}}}}}]"),
    )
}

#[test]
fn who_comes_with_a_cluster_is_not_refused() {
    for source in [
        // Istio's own addons, and what they run as.
        "principals: [cluster.local/ns/istio-system/sa/prometheus, cluster.local/ns/istio-system/sa/kiali]",
        "notPrincipals: [cluster.local/ns/istio-system/sa/istiod]",
        "serviceAccounts: [istio-system/prometheus]",
        // Namespaces of others, in whichever form.
        "principals: [cluster.local/ns/monitoring/sa/prometheus]",
        "serviceAccounts: [monitoring/prometheus]",
        "namespaces: [monitoring]",
        "notNamespaces: [monitoring, kube-system]",
        "namespaces: ['*', 'istio-*', '*-system', 'e*']",
    ] {
        assert_eq!(doubts(&of_source(source)), [""; 0], "{source}");
    }
}

#[test]
fn a_name_that_is_nearly_one_there_is_and_one_nobody_has_beside_ours_are_told_apart() {
    let at = "spec.rules[0].from[0].source";
    says(
        &of_source("notPrincipals: [cluster.local/ns/ecommerce/sa/cart-servce]"),
        &[&format!(
            "more.yaml:7: {at}.notPrincipals[0]: there is no ServiceAccount cart-servce in the namespace ecommerce, did you mean cart-service?"
        )],
    );
    for (source, message) in [
        // Who comes with Istio, another service, another version.
        (
            "principals: [cluster.local/ns/istio-system/sa/egressgateway]",
            "principals[0]: there is no ServiceAccount egressgateway in the namespace istio-system, did you mean ingressgateway?",
        ),
        (
            "principals: [cluster.local/ns/istio-system/sa/ingresgateway]",
            "principals[0]: there is no ServiceAccount ingresgateway in the namespace istio-system, did you mean ingressgateway?",
        ),
        (
            "principals: [cluster.local/ns/ecommerce/sa/card-servicer]",
            "principals[0]: there is no ServiceAccount card-servicer in the namespace ecommerce, did you mean cart-service?",
        ),
        (
            "principals: [cluster.local/ns/ecommerce/sa/cart-service2]",
            "principals[0]: there is no ServiceAccount cart-service2 in the namespace ecommerce, did you mean cart-service?",
        ),
        (
            "principals: [cluster.local/ns/ecommerce/sa/prometheus]",
            "principals[0]: there is no ServiceAccount prometheus of the namespace ecommerce in these manifests, only \"cart-service\", \"default\", \"product-service\"",
        ),
        (
            "serviceAccounts: [prometheus]",
            "serviceAccounts[0]: there is no ServiceAccount prometheus of the namespace ecommerce in these manifests, only \"cart-service\", \"default\", \"product-service\"",
        ),
        (
            "principals: [cluster.local/ns/ecomerce/sa/cart-service]",
            "principals[0]: there is no namespace \"ecomerce\" in these manifests, did you mean \"ecommerce\"?",
        ),
        (
            "notNamespaces: [istiosystem]",
            "notNamespaces[0]: there is no namespace \"istiosystem\" in these manifests, did you mean \"istio-system\"?",
        ),
        (
            "namespaces: ['*-sys']",
            "namespaces[0]: no namespace in these manifests is \"*-sys\", there are only \"ecommerce\", \"istio-system\"",
        ),
    ] {
        assert_eq!(
            doubts(&of_source(source)),
            [format!("TG0303 more.yaml:7: {at}.{message}")],
            "{source}"
        );
    }
}
