//! Where requests can go: to which pods, as whom, and who must answer.

use serde_json::{Value, json};

use crate::{array, configuration, named, names, shop, shop_and};

fn cluster(more: &str, pod: &str, name: &str) -> Value {
    named(
        &configuration(&shop_and(more), pod).clusters,
        &format!("{name}.svc.cluster.local"),
    )
    .clone()
}

fn endpoints(cluster: &Value) -> &[Value] {
    array(cluster, "/load_assignment/endpoints/0/lb_endpoints")
}

/// The TLS with which a cluster reaches pods with a sidecar.
fn tls(cluster: &Value) -> &Value {
    &cluster["transport_socket_matches"][0]["transport_socket"]["typed_config"]
}

fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n{spec}\n"
    )
}

const SIDECAR: &str = "cart-service-0";
const GATEWAY: &str = "ingressgateway-0";

#[test]
fn every_port_and_subset_of_every_service_is_a_cluster() {
    let configuration = configuration(&shop(), GATEWAY);
    assert_eq!(
        names(&configuration.clusters),
        [
            "outbound|3002||cart-service.ecommerce.svc.cluster.local",
            "outbound|80||ingressgateway.istio-system.svc.cluster.local",
            "outbound|80||legacy.ecommerce.svc.cluster.local",
            "outbound|3001||product-service.ecommerce.svc.cluster.local",
            "outbound|3001|v1|product-service.ecommerce.svc.cluster.local",
            "outbound|3001|v2|product-service.ecommerce.svc.cluster.local",
        ]
    );
}

#[test]
fn a_subset_has_the_pods_with_its_labels() {
    let of = |subset: &str| {
        endpoints(&cluster(
            "",
            GATEWAY,
            &format!("outbound|3001|{subset}|product-service.ecommerce"),
        ))
        .len()
    };
    assert_eq!((of(""), of("v1"), of("v2")), (3, 2, 1));
}

#[test]
fn a_subset_without_pods_is_there_and_empty() {
    let more = rule(
        "ecommerce",
        "cart",
        "  host: cart-service\n  subsets: [{name: v9, labels: {version: v9}}]",
    );
    assert!(
        endpoints(&cluster(
            &more,
            GATEWAY,
            "outbound|3002|v9|cart-service.ecommerce"
        ))
        .is_empty()
    );
}

#[test]
fn the_server_must_be_one_of_the_identities_of_the_services_pods() {
    let more = "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: canary, namespace: ecommerce}\n---\napiVersion: \
                apps/v1\nkind: Deployment\nmetadata: {name: product-service-v3, namespace: ecommerce}\nspec:\n  selector: \
                {matchLabels: {app: product-service, version: v3}}\n  template:\n    metadata: {labels: {app: \
                product-service, version: v3}}\n    spec:\n      serviceAccountName: canary\n      containers: [{name: a, \
                image: a, ports: [{name: http, containerPort: 3001}]}]\n";
    // All of them also for a subset that has only one.
    let cluster = cluster(more, SIDECAR, "outbound|3001|v1|product-service.ecommerce");
    assert_eq!(
        tls(&cluster)["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"],
        json!([
            {"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/ns/ecommerce/sa/canary"}},
            {"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/ns/ecommerce/sa/product-service"}},
        ])
    );
    assert_eq!(
        tls(&cluster)["sni"],
        "outbound_.3001_.v1_.product-service.ecommerce.svc.cluster.local"
    );
    assert_eq!(
        tls(&cluster)["common_tls_context"]["alpn_protocols"],
        json!(["istio"])
    );
}

#[test]
fn pods_with_a_sidecar_get_mutual_tls_and_others_plain_connections() {
    let mutual = json!({"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}});
    let metadata = |more: &str, name: &str| {
        endpoints(&cluster(more, SIDECAR, name))[0]
            .get("metadata")
            .cloned()
    };
    assert_eq!(
        metadata("", "outbound|3001||product-service.ecommerce"),
        Some(mutual)
    );
    assert_eq!(metadata("", "outbound|80||legacy.ecommerce"), None);
    assert_eq!(
        metadata("", "outbound|80||ingressgateway.istio-system"),
        None
    );
    let disabled = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: shop, namespace: \
                    ecommerce}\nspec: {mtls: {mode: DISABLE}}\n";
    assert_eq!(
        metadata(disabled, "outbound|3001||product-service.ecommerce"),
        None
    );
}

#[test]
fn mutual_tls_by_name_is_for_every_pod() {
    let more = rule(
        "ecommerce",
        "legacy",
        "  host: legacy\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}",
    );
    let cluster = cluster(&more, SIDECAR, "outbound|80||legacy.ecommerce");
    assert_eq!(
        cluster["transport_socket"]["name"],
        "envoy.transport_sockets.tls"
    );
    assert_eq!(cluster.get("transport_socket_matches"), None);
}

#[test]
fn a_subsets_policy_replaces_that_of_its_host() {
    let more = rule(
        "ecommerce",
        "cart",
        "  host: cart-service\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n  subsets:\n  - {name: a}\n  - {name: b, \
         trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}",
    );
    let policy = |subset: &str| {
        cluster(
            &more,
            GATEWAY,
            &format!("outbound|3002|{subset}|cart-service.ecommerce"),
        )["lb_policy"]
            .clone()
    };
    assert_eq!(
        [policy(""), policy("a"), policy("b")],
        ["RANDOM", "RANDOM", "ROUND_ROBIN"]
    );
    assert_eq!(
        cluster("", GATEWAY, "outbound|80||legacy.ecommerce")["lb_policy"],
        "LEAST_REQUEST"
    );
}

#[test]
fn without_a_rule_nothing_limits_connections_and_requests() {
    let cluster = cluster("", GATEWAY, "outbound|80||legacy.ecommerce");
    assert_eq!(cluster["connect_timeout"], "10s");
    assert_eq!(
        cluster["circuit_breakers"]["thresholds"][0]["max_requests"],
        u32::MAX
    );
    assert_eq!(
        cluster["circuit_breakers"]["thresholds"][0]["max_retries"],
        u32::MAX
    );
    assert_eq!(
        cluster["alt_stat_name"],
        "outbound|80||legacy.ecommerce.svc.cluster.local;"
    );
}

#[test]
fn the_clients_own_namespace_has_the_first_word_on_a_service_then_the_services_then_the_root() {
    let random = |namespace: &str, host: &str, policy: &str| {
        rule(
            namespace,
            "r",
            &format!("  host: {host}\n  trafficPolicy: {{loadBalancer: {{simple: {policy}}}}}"),
        )
    };
    let legacy = "legacy.ecommerce.svc.cluster.local";
    let policy = |more: &str, pod: &str| {
        cluster(more, pod, "outbound|80||legacy.ecommerce")["lb_policy"].clone()
    };
    let root = random("istio-system", "'*.svc.cluster.local'", "RANDOM");
    assert_eq!(policy(&root, SIDECAR), "RANDOM");
    assert_eq!(policy(&root, GATEWAY), "RANDOM");
    // A rule of the root namespace does not win for its gateway over that of the service.
    let both =
        random("istio-system", legacy, "RANDOM") + &random("ecommerce", legacy, "ROUND_ROBIN");
    assert_eq!(policy(&both, SIDECAR), "ROUND_ROBIN");
    assert_eq!(policy(&both, GATEWAY), "ROUND_ROBIN");
    let other = random("other", legacy, "RANDOM");
    assert_eq!(policy(&other, SIDECAR), "LEAST_REQUEST");
}

#[test]
fn a_port_speaks_what_its_name_says() {
    let service = |port: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: ecommerce}}\nspec: {{selector: {{app: legacy}}, ports: \
             [{{port: 8000, {port}}}]}}\n"
        )
    };
    let options = |port: &str, pod: &str| {
        let cluster = cluster(&service(port), pod, "outbound|8000||a.ecommerce");
        cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].clone()
    };
    let http2 = json!({"http2_protocol_options": {}});
    for port in [
        "name: http2",
        "name: grpc-api",
        "name: http, appProtocol: kubernetes.io/h2c",
    ] {
        assert_eq!(
            options(port, SIDECAR)["explicit_http_config"],
            http2,
            "{port}"
        );
    }
    for port in [
        "name: http",
        "name: http-api",
        "name: tcp",
        "name: a, appProtocol: http",
    ] {
        assert_eq!(options(port, SIDECAR), Value::Null, "{port}");
    }
    assert_eq!(
        options("name: api", SIDECAR)["use_downstream_protocol_config"],
        json!({"http_protocol_options": {}, "http2_protocol_options": {}})
    );
    assert_eq!(options("name: api", GATEWAY), Value::Null);
}

#[test]
fn nobody_can_ask_for_a_port_that_does_not_speak_http() {
    let mesh = shop_and(
        "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: ecommerce}\nspec: {selector: {app: legacy}, ports: \
         [{name: tcp-postgres, port: 5432, targetPort: 8000}]}\n",
    );
    let configuration = configuration(&mesh, SIDECAR);
    let hosts = names(array(&configuration.routes["http_proxy"], "/virtual_hosts"));
    assert!(
        !hosts.iter().any(|host| host.contains("db.ecommerce")),
        "{hosts:?}"
    );
}
