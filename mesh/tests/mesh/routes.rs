//! Which request goes where, and in which order that is decided.

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_mesh::model::Workload;

use crate::{array, configuration, load, named, names, shop, shop_and};

const GATEWAY: &str = "ingressgateway-0";
const SIDECAR: &str = "cart-service-0";

/// The virtual hosts of the gateway.
fn gateway_hosts(more: &str) -> Vec<Value> {
    array(
        &configuration(&shop_and(more), GATEWAY).routes["http.8080"],
        "/virtual_hosts",
    )
    .to_vec()
}

/// The virtual hosts of what cart-service sends.
fn sidecar_hosts(more: &str) -> Vec<Value> {
    array(
        &configuration(&shop_and(more), SIDECAR).routes["http_proxy"],
        "/virtual_hosts",
    )
    .to_vec()
}

/// A VirtualService in `ecommerce`.
fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: \
         ecommerce}}\nspec:\n{spec}\n"
    )
}

/// The paths of routes, and their clusters.
fn summary(virtual_host: &Value) -> Vec<String> {
    let routes = array(virtual_host, "/routes").iter().map(|route| {
        let path = ["prefix", "path"]
            .iter()
            .find_map(|kind| route["match"][kind].as_str())
            .unwrap_or("a regex");
        let headers = if route["match"]["headers"].is_array() {
            " if"
        } else {
            ""
        };
        let clusters = match &route["route"]["cluster"] {
            Value::String(cluster) => cluster.clone(),
            _ => array(route, "/route/weighted_clusters/clusters")
                .iter()
                .map(|cluster| {
                    format!(
                        "{} {}",
                        cluster["weight"],
                        cluster["name"].as_str().unwrap_or_default()
                    )
                })
                .collect::<Vec<_>>()
                .join(", "),
        };
        format!(
            "{path}{headers}: {}",
            clusters.replace(".ecommerce.svc.cluster.local", "")
        )
    });
    routes.collect()
}

#[test]
fn a_gateway_tries_the_virtual_services_of_a_host_by_name_and_routes_for_everything_last() {
    let hosts = gateway_hosts(
        &(virtual_service(
            "everything",
            "  hosts: ['*']\n  gateways: [ecommerce-gateway]\n  http:\n  - match: [{uri: {prefix: /a}}]\n    route: \
             [{destination: {host: legacy}}]\n  - route: [{destination: {host: cart-service}}]\n",
        ) + &virtual_service(
            "zebra",
            "  hosts: ['*']\n  gateways: [ecommerce-gateway]\n  http:\n  - match: [{uri: {exact: /z}}]\n    route: \
             [{destination: {host: legacy}}]\n",
        )),
    );
    assert_eq!(names(&hosts), ["*:80"]);
    assert_eq!(
        summary(&hosts[0]),
        [
            "/a: outbound|80||legacy",
            "/products if: outbound|3001|v2|product-service",
            "/products: 90 outbound|3001|v1|product-service, 10 outbound|3001|v2|product-service",
            "/z: outbound|80||legacy",
            "/: outbound|3002||cart-service",
        ]
    );
}

#[test]
fn of_one_virtual_service_nothing_behind_a_route_for_everything_is_kept() {
    let hosts = sidecar_hosts(&virtual_service(
        "cart",
        "  hosts: [cart-service]\n  http:\n  - match: [{uri: {prefix: /a}}, {uri: {prefix: /}}, {uri: {prefix: /b}}]\n    \
         route: [{destination: {host: cart-service}}]\n  - route: [{destination: {host: legacy}}]\n",
    ));
    assert_eq!(
        summary(named(
            &hosts,
            "cart-service.ecommerce.svc.cluster.local:3002"
        )),
        [
            "/a: outbound|3002||cart-service",
            "/: outbound|3002||cart-service"
        ]
    );
}

#[test]
fn every_kind_of_match_is_translated() {
    let matches = |wanted: &str| {
        let hosts = sidecar_hosts(&virtual_service(
            "cart",
            &format!(
                "  hosts: [cart-service]\n  http:\n  - match:\n    - {wanted}\n    route: \
                 [{{destination: {{host: legacy}}}}]\n"
            ),
        ));
        named(&hosts, "cart-service.ecommerce.svc.cluster.local:3002")["routes"][0]["match"].clone()
    };
    let cases = [
        ("{uri: {exact: /a}}", json!({"path": "/a"})),
        ("{uri: {prefix: /a}}", json!({"prefix": "/a"})),
        (
            "{uri: {regex: '/a/[0-9]+'}}",
            json!({"safe_regex": {"regex": "/a/[0-9]+"}}),
        ),
        (
            "{uri: {prefix: /a}, ignoreUriCase: true}",
            json!({"prefix": "/a", "case_sensitive": false}),
        ),
        (
            "{method: {exact: POST}, authority: {prefix: shop}}",
            json!({"prefix": "/", "headers": [
                {"name": ":method", "string_match": {"exact": "POST"}},
                {"name": ":authority", "string_match": {"prefix": "shop"}},
            ]}),
        ),
        (
            "{headers: {b: {regex: 'x|y'}, a: {}, c: {exact: z}}, method: {exact: GET}}",
            json!({"prefix": "/", "headers": [
                {"name": "a", "present_match": true},
                {"name": "b", "string_match": {"safe_regex": {"regex": "x|y"}}},
                {"name": "c", "string_match": {"exact": "z"}},
                {"name": ":method", "string_match": {"exact": "GET"}},
            ]}),
        ),
        (
            "{withoutHeaders: {b: {exact: x}, a: {}}}",
            json!({"prefix": "/", "headers": [
                {"name": "a", "present_match": true, "invert_match": true},
                {"name": "b", "string_match": {"exact": "x"}, "invert_match": true, "treat_missing_header_as_empty": true},
            ]}),
        ),
        (
            "{queryParams: {q: {exact: x}, p: {}}}",
            json!({"prefix": "/", "query_parameters": [
                {"name": "p", "present_match": true},
                {"name": "q", "string_match": {"exact": "x"}},
            ]}),
        ),
    ];
    for (wanted, expected) in cases {
        assert_eq!(matches(wanted), expected, "{wanted}");
    }
}

#[test]
fn a_match_for_everything_that_asks_for_a_header_does_not_end_the_routes() {
    let hosts = sidecar_hosts("");
    assert_eq!(
        summary(named(
            &hosts,
            "product-service.ecommerce.svc.cluster.local:3001"
        )),
        [
            "/ if: outbound|3001|v2|product-service",
            "/: outbound|3001|v1|product-service"
        ]
    );
}

#[test]
fn a_weight_of_zero_takes_a_destination_out_and_a_single_one_needs_no_weight() {
    let hosts = gateway_hosts(&virtual_service(
        "a",
        "  hosts: ['*']\n  gateways: [ecommerce-gateway]\n  http:\n  - match: [{uri: {prefix: /a}}]\n    route:\n    - \
         {destination: {host: legacy}, weight: 0}\n    - {destination: {host: cart-service}, weight: 1}\n    - {destination: \
         {host: product-service}}\n  - match: [{uri: {prefix: /b}}]\n    route: [{destination: {host: legacy}, weight: 0}]\n",
    ));
    assert_eq!(
        summary(&hosts[0])[..2],
        [
            "/a: 1 outbound|3002||cart-service",
            "/b: outbound|80||legacy"
        ]
    );
}

#[test]
fn a_route_has_no_timeout_and_istios_retries_unless_it_says_otherwise() {
    let hosts = gateway_hosts("");
    let route = &hosts[0]["routes"][1]["route"];
    assert_eq!(route["timeout"], "0s");
    assert_eq!(route["retry_policy"]["num_retries"], 2);
    assert_eq!(
        route["retry_policy"]["retry_on"],
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    );
    let route = &hosts[0]["routes"][0]["route"];
    assert_eq!(route["timeout"], "5s");
    assert_eq!(route["max_grpc_timeout"], "5s");
    // Beside it, whatever it says, Envoy does not heed `timeout`.
    assert_eq!(route.get("max_stream_duration"), None);
}

#[test]
fn a_routes_name_is_followed_by_that_of_its_match() {
    let hosts = sidecar_hosts(&virtual_service(
        "cart",
        "  hosts: [cart-service]\n  http:\n  - name: r\n    match: [{name: m, uri: {prefix: /a}}, {uri: {prefix: /b}}]\n    \
         route: [{destination: {host: legacy}}]\n  - match: [{name: m, uri: {prefix: /c}}]\n    route: [{destination: {host: \
         legacy}}]\n",
    ));
    let routes = array(
        named(&hosts, "cart-service.ecommerce.svc.cluster.local:3002"),
        "/routes",
    );
    assert_eq!(names(routes), ["r.m", "r", ".m"]);
}

#[test]
fn an_application_calls_a_service_by_every_name_that_istio_knows() {
    let hosts = sidecar_hosts("");
    assert_eq!(
        named(&hosts, "product-service.ecommerce.svc.cluster.local:3001")["domains"],
        json!([
            "product-service.ecommerce.svc.cluster.local:3001",
            "product-service.ecommerce.svc.cluster.local.:3001",
            "product-service:3001",
            "product-service.ecommerce.svc:3001",
            "product-service.ecommerce:3001",
        ])
    );
}

#[test]
fn only_port_80_needs_not_be_named_and_only_the_own_namespace() {
    let hosts = sidecar_hosts("");
    let legacy = named(&hosts, "legacy.ecommerce.svc.cluster.local:80")["domains"].clone();
    for domain in [
        "legacy",
        "legacy:80",
        "legacy.ecommerce",
        "legacy.ecommerce.svc.cluster.local:80",
    ] {
        assert!(
            legacy
                .as_array()
                .is_some_and(|domains| domains.contains(&json!(domain))),
            "{domain}"
        );
    }
    let gateway =
        named(&hosts, "ingressgateway.istio-system.svc.cluster.local:80")["domains"].clone();
    assert!(
        !gateway
            .as_array()
            .is_some_and(|domains| domains.contains(&json!("ingressgateway")))
    );
}

#[test]
fn a_service_without_routes_gets_istios_default_and_an_unknown_host_is_refused() {
    let hosts = sidecar_hosts("");
    assert_eq!(
        summary(named(&hosts, "legacy.ecommerce.svc.cluster.local:80")),
        ["/: outbound|80||legacy"]
    );
    let last = hosts.last().expect("a virtual host");
    assert_eq!(last["domains"], json!(["*"]));
    assert_eq!(last["routes"][0]["direct_response"], json!({"status": 502}));
}

#[test]
fn the_most_specific_virtual_service_gets_the_service() {
    let wildcard = virtual_service(
        "a-wildcard",
        "  hosts: ['*.ecommerce.svc.cluster.local']\n  http: [{route: [{destination: {host: \
         legacy}}]}]\n",
    );
    let wider = virtual_service(
        "a-wider-one",
        "  hosts: ['*.svc.cluster.local']\n  http: [{route: [{destination: {host: \
         cart-service}}]}]\n",
    );
    let hosts = sidecar_hosts(&(wildcard + &wider));
    let of = |host: &str| summary(named(&hosts, host));
    assert_eq!(
        of("cart-service.ecommerce.svc.cluster.local:3002"),
        ["/: outbound|80||legacy"]
    );
    assert_eq!(
        of("product-service.ecommerce.svc.cluster.local:3001").len(),
        2
    );
    assert_eq!(
        of("ingressgateway.istio-system.svc.cluster.local:80"),
        ["/: outbound|3002||cart-service"]
    );
}

/// A second Gateway for the same pods and port, in another namespace.
const EDGE: &str = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: \
                    istio-system}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n  - port: {number: 80, name: http, \
                    protocol: HTTP}\n    hosts: [ecommerce/*.shop.example, istio-system/admin.example]\n";

#[test]
fn hosts_with_the_same_routes_are_one_virtual_host_and_others_their_own() {
    let hosts = gateway_hosts(
        &(EDGE.to_owned()
            + &virtual_service(
                "edge",
                "  hosts: [b.shop.example, a.shop.example, admin.example]\n  gateways: [istio-system/edge]\n  http: [{route: \
                 [{destination: {host: legacy}}]}]\n",
            )),
    );
    assert_eq!(names(&hosts), ["*:80", "a.shop.example:80"]);
    assert_eq!(
        hosts[1]["domains"],
        json!(["a.shop.example", "b.shop.example"])
    );
}

#[test]
fn a_gateway_without_virtual_services_answers_not_found() {
    let mesh = shop();
    let mut without = mesh.clone();
    without.virtual_services.clear();
    let hosts = array(
        &configuration(&without, GATEWAY).routes["http.8080"],
        "/virtual_hosts",
    )
    .to_vec();
    assert_eq!(hosts, [json!({"name": "blackhole:80", "domains": ["*"]})]);
}

/// The clusters that are named anywhere in a value.
fn collect<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(fields) => {
            found.extend(fields.get("cluster").and_then(Value::as_str));
            if let Some(clusters) = value
                .pointer("/weighted_clusters/clusters")
                .and_then(Value::as_array)
            {
                found.extend(names(clusters));
            }
            fields.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is accepted, every route of every proxy leads to a cluster that this proxy has, and no virtual host has a
    /// domain of another.
    #[test]
    fn what_loads_leads_somewhere(
        hosts in proptest::sample::subsequence(
            vec!["cart-service", "legacy.ecommerce.svc.cluster.local", "'*.istio-system.svc.cluster.local'", "'*'"], 1..=3),
        gateways in proptest::sample::subsequence(vec!["mesh", "ecommerce-gateway"], 1..=2),
        destinations in proptest::collection::vec(
            (
                proptest::sample::select(vec![
                    "host: product-service, subset: v1",
                    "host: product-service, subset: v2, port: {number: 3001}",
                    "host: product-service",
                    "host: cart-service, port: {number: 3002}",
                    "host: legacy",
                    "host: ingressgateway.istio-system.svc.cluster.local",
                    // Refused:
                    "host: product-service, subset: v3",
                    "host: legacy, port: {number: 3001}",
                ]),
                0_u32..3,
            ),
            1..4,
        ),
    ) {
        let destinations: Vec<String> = destinations
            .iter()
            .map(|(destination, weight)| format!("{{destination: {{{destination}}}, weight: \
                 {weight}}}"))
            .collect();
        let more = virtual_service("random", &format!(
            "  hosts: [{}]\n  gateways: [{}]\n  http: [{{route: [{}]}}]\n",
            hosts.join(", "), gateways.join(", "), destinations.join(", "),
        ));
        let Ok(mesh) = load(&more) else { return Ok(()) };
        for pod in mesh.workloads.iter().flat_map(Workload::pods) {
            let configuration = configuration(&mesh, &pod.name);
            let clusters = names(&configuration.clusters);
            for (name, routes) in &configuration.routes {
                let mut wanted = Vec::new();
                collect(routes, &mut wanted);
                for cluster in wanted {
                    prop_assert!(clusters.contains(&cluster), "{pod} has no {cluster} for {name}");
                }
                let mut domains: Vec<&Value> =
                    array(routes, "/virtual_hosts").iter().flat_map(|host| array(host, "/domains")).collect();
                let before = domains.len();
                domains.sort_by_key(|domain| domain.as_str());
                domains.dedup();
                prop_assert_eq!(before, domains.len(), "domains of {} of {}", name, pod);
            }
        }
    }
}
