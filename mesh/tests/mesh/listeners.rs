//! Where proxies listen, and whom they let in.

use std::path::Path;

use serde_json::{Value, json};
use tollgate_mesh::Mesh;
use tollgate_mesh::api::Objects;

use crate::{array, configuration, named, names, shop, shop_and};

fn cart(more: &str) -> Value {
    named(
        &configuration(&shop_and(more), "cart-service-0").listeners,
        "0.0.0.0_3002",
    )
    .clone()
}

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {spec}\n"
    )
}

/// The matches of a listener's filter chains, and whether they speak TLS.
fn chains(listener: &Value) -> Vec<(Value, bool)> {
    let chains = array(listener, "/filter_chains").iter();
    chains
        .map(|chain| {
            (
                chain["filter_chain_match"].clone(),
                chain.get("transport_socket").is_some(),
            )
        })
        .collect()
}

#[test]
fn strict_takes_only_clients_with_a_certificate_of_the_mesh() {
    let listener = cart("");
    assert_eq!(
        chains(&listener),
        [(json!({"transport_protocol": "tls"}), true)]
    );
    let context = &listener["filter_chains"][0]["transport_socket"]["typed_config"];
    assert_eq!(context["require_client_certificate"], true);
    assert_eq!(
        context["common_tls_context"]["validation_context"],
        json!({
            "trusted_ca": {"filename": "/run/roots.pem"},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}],
        })
    );
    assert_eq!(
        context["common_tls_context"]["tls_params"]["tls_minimum_protocol_version"],
        "TLSv1_2"
    );
}

#[test]
fn permissive_takes_plain_clients_as_well_and_disable_only_those() {
    let mesh_tls = json!({
        "transport_protocol": "tls",
        "application_protocols": ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
    });
    let plain = (json!({"transport_protocol": "raw_buffer"}), false);
    let permissive = cart(&policy("shop", "ecommerce", "{mtls: {mode: PERMISSIVE}}"));
    assert_eq!(chains(&permissive), [(mesh_tls, true), plain.clone()]);
    assert!(permissive.get("listener_filters").is_some());
    let disabled = cart(&policy("shop", "ecommerce", "{mtls: {mode: DISABLE}}"));
    assert_eq!(chains(&disabled), [plain]);
    assert_eq!(disabled.get("listener_filters"), None);
}

#[test]
fn the_narrowest_policy_decides_and_one_that_is_unset_asks_the_next() {
    let number_of_chains = |more: &str| chains(&cart(more)).len();
    let of_cart = |mode: &str| {
        policy(
            "cart",
            "ecommerce",
            &format!(
                "{{selector: {{matchLabels: {{app: cart-service}}}}, mtls: {{mode: {mode}}}}}"
            ),
        )
    };
    let of_shop = |mode: &str| policy("shop", "ecommerce", &format!("{{mtls: {{mode: {mode}}}}}"));
    assert_eq!(
        number_of_chains(&(of_cart("PERMISSIVE") + &of_shop("STRICT"))),
        2
    );
    assert_eq!(
        number_of_chains(&(of_cart("UNSET") + &of_shop("PERMISSIVE"))),
        2
    );
    assert_eq!(
        number_of_chains(&(of_cart("UNSET") + &of_shop("UNSET"))),
        1,
        "the mesh's is STRICT"
    );
    assert_eq!(
        number_of_chains(&policy("other", "other", "{mtls: {mode: PERMISSIVE}}")),
        1
    );
}

#[test]
fn a_sidecar_forwards_to_its_own_application_and_tells_it_who_asks() {
    let configuration = configuration(&shop(), "cart-service-0");
    let listener = named(&configuration.listeners, "0.0.0.0_3002");
    let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!(manager["stat_prefix"], "inbound_0.0.0.0_3002;");
    assert_eq!(manager["route_config"]["name"], "inbound|3002||");
    assert_eq!(
        manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"],
        "inbound|3002||"
    );
    assert_eq!(manager["forward_client_cert_details"], "APPEND_FORWARD");
    assert_eq!(manager["use_remote_address"], false);
    assert_eq!(manager["server_name"], "istio-envoy");
    assert_eq!(manager["normalize_path"], true);
    let cluster = named(&configuration.clusters, "inbound|3002||");
    assert_eq!(
        array(cluster, "/load_assignment/endpoints/0/lb_endpoints").len(),
        1
    );
}

#[test]
fn a_gateway_listens_on_what_its_service_targets_and_believes_no_header_about_who_asks() {
    let configuration = configuration(&shop(), "ingressgateway-0");
    assert_eq!(names(&configuration.listeners), ["0.0.0.0_8080"]);
    let manager = &configuration.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!(manager["rds"]["route_config_name"], "http.8080");
    assert_eq!(manager["use_remote_address"], true);
    assert_eq!(manager["forward_client_cert_details"], "SANITIZE_SET");
    assert_eq!(manager["stat_prefix"], "outbound_0.0.0.0_8080;");
}

/// The gateway of the shop with this annotation.
fn annotated(config: &str) -> Value {
    let written = "        inject.istio.io/templates: gateway\n";
    let shop = include_str!("shop.yaml");
    assert_eq!(shop.matches(written).count(), 1);
    let annotation = format!("{written}        proxy.istio.io/config: |\n          {config}\n");
    let shop = shop.replace(written, &annotation);
    let objects = Objects::parse(Path::new("shop.yaml"), &shop);
    let mesh = Mesh::build(objects.expect("objects")).expect("a mesh");
    let mut listeners = configuration(&mesh, "ingressgateway-0").listeners;
    listeners[0]["filter_chains"][0]["filters"][0]["typed_config"].take()
}

#[test]
fn a_gateway_trusts_as_many_proxies_before_it_as_its_pods_say() {
    for (config, trusted) in [
        ("{}", 0),
        ("holdApplicationUntilProxyStarts: true", 0),
        ("gatewayTopology: {numTrustedProxies: 0}", 0),
        ("gatewayTopology: {numTrustedProxies: 2}", 2),
    ] {
        let manager = annotated(config);
        assert_eq!(manager["xff_num_trusted_hops"], trusted, "{config}");
        // Without it, hops would be counted from what the client wrote.
        assert_eq!(manager["use_remote_address"], true, "{config}");
        assert_eq!(manager["forward_client_cert_details"], "SANITIZE_SET");
    }
    for (written, expected) in [
        ("UNDEFINED", "SANITIZE_SET"),
        ("SANITIZE", "SANITIZE"),
        ("FORWARD_ONLY", "FORWARD_ONLY"),
        ("APPEND_FORWARD", "APPEND_FORWARD"),
        ("SANITIZE_SET", "SANITIZE_SET"),
        ("ALWAYS_FORWARD_ONLY", "ALWAYS_FORWARD_ONLY"),
    ] {
        let config = format!("gatewayTopology: {{forwardClientCertDetails: {written}}}");
        let manager = annotated(&config);
        assert_eq!(manager["forward_client_cert_details"], expected);
        assert_eq!(manager["xff_num_trusted_hops"], 0);
    }
}

#[test]
fn a_gateways_port_that_no_service_has_is_listened_on_as_it_is() {
    let mesh = shop_and(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: second, namespace: istio-system}\nspec:\n  \
         selector: {istio: ingressgateway}\n  servers:\n  - port: {number: 9000, name: http, protocol: HTTP}\n    hosts: ['*']\n",
    );
    assert_eq!(
        crate::workload(&mesh, "ingressgateway").gateway_ports,
        [8080, 9000]
    );
    let configuration = configuration(&mesh, "ingressgateway-0");
    assert_eq!(
        names(&configuration.listeners),
        ["0.0.0.0_8080", "0.0.0.0_9000"]
    );
    assert_eq!(
        configuration.routes.keys().collect::<Vec<_>>(),
        ["http.8080", "http.9000"]
    );
}

#[test]
fn without_a_proxy_there_is_nothing_to_configure() {
    let configuration = configuration(&shop(), "legacy-0");
    assert_eq!(configuration.bootstrap, json!({}));
    assert!(
        configuration.listeners.is_empty()
            && configuration.clusters.is_empty()
            && configuration.routes.is_empty()
    );
}

#[test]
fn what_a_site_does_not_have_is_left_out() {
    let mesh = shop();
    let pod = crate::pod(&mesh, "cart-service-0");
    let mut site = crate::site(&mesh);
    site.pods.retain(|name, _| *name == pod);
    let here = site.pods.get_mut(&pod).expect("the pod");
    here.outbound_proxy = None;
    let configuration = mesh.proxy_configuration(&site, &pod);
    assert_eq!(names(&configuration.listeners), ["0.0.0.0_3002"]);
    assert!(configuration.routes.is_empty());
    let products = named(
        &configuration.clusters,
        "outbound|3001||product-service.ecommerce.svc.cluster.local",
    );
    assert!(array(products, "/load_assignment/endpoints/0/lb_endpoints").is_empty());
}
