//! Which Wasm filters run where, in which order, and what they are told.

use serde_json::{Value, json};

use crate::{array, configuration, named, names, shop, shop_and, workload};

/// A WasmPlugin.
fn plugin(namespace: &str, name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  url: oci://registry/{name}:1\n{more}\n"
    )
}

/// The names of the Wasm filters of a listener, in order.
fn chain(listener: &Value) -> Vec<String> {
    let filters = array(
        listener,
        "/filter_chains/0/filters/0/typed_config/http_filters",
    );
    let names = names(filters).into_iter();
    names
        .filter_map(|name| name.strip_prefix("extensions.istio.io/wasmplugin/"))
        .map(str::to_owned)
        .collect()
}

fn chain_of(more: &str, pod: &str, listener: &str) -> Vec<String> {
    chain(named(
        &configuration(&shop_and(more), pod).listeners,
        listener,
    ))
}

const GATEWAY: (&str, &str) = ("ingressgateway-0", "0.0.0.0_8080");
const INBOUND: (&str, &str) = ("cart-service-0", "0.0.0.0_3002");

#[test]
fn filters_are_ordered_by_phase_then_by_priority() {
    let plugins = [
        plugin("istio-system", "unspecified", "  priority: 1000"),
        plugin("istio-system", "stats", "  phase: STATS"),
        plugin(
            "istio-system",
            "authz-low",
            "  phase: AUTHZ\n  priority: -5",
        ),
        plugin("istio-system", "authz-unset", "  phase: AUTHZ"),
        plugin(
            "istio-system",
            "authz-high",
            "  phase: AUTHZ\n  priority: 31",
        ),
        plugin("istio-system", "authn", "  phase: AUTHN\n  priority: -1000"),
    ];
    let (pod, listener) = GATEWAY;
    assert_eq!(
        chain_of(&plugins.concat(), pod, listener),
        [
            "istio-system.authn",
            "istio-system.authz-high",
            "istio-system.tenant-rate-limit",
            "istio-system.authz-low",
            "istio-system.authz-unset",
            "istio-system.stats",
            "istio-system.unspecified",
        ]
    );
}

#[test]
fn of_equals_those_of_the_own_namespace_come_first_then_it_goes_by_name() {
    let plugins = [
        plugin("istio-system", "a", ""),
        plugin("ecommerce", "z", ""),
        plugin("istio-system", "b", ""),
        plugin("ecommerce", "c", ""),
    ];
    let (pod, listener) = INBOUND;
    assert_eq!(
        chain_of(&plugins.concat(), pod, listener),
        [
            "ecommerce.business-metrics",
            "ecommerce.c",
            "ecommerce.z",
            "istio-system.a",
            "istio-system.b"
        ]
    );
}

#[test]
fn a_plugin_reaches_its_own_namespace_and_from_the_root_namespace_all() {
    let plugins = plugin("istio-system", "everywhere", "")
        + &plugin("ecommerce", "shop", "")
        + &plugin("other", "other", "");
    let (pod, listener) = GATEWAY;
    assert_eq!(
        chain_of(&plugins, pod, listener),
        ["istio-system.tenant-rate-limit", "istio-system.everywhere"]
    );
    let (pod, listener) = INBOUND;
    assert_eq!(
        chain_of(&plugins, pod, listener),
        [
            "ecommerce.business-metrics",
            "ecommerce.shop",
            "istio-system.everywhere"
        ]
    );
}

#[test]
fn a_selector_chooses_among_them() {
    let more = plugin(
        "ecommerce",
        "cart",
        "  selector: {matchLabels: {app: cart-service}}",
    );
    assert_eq!(
        chain_of(&more, INBOUND.0, INBOUND.1),
        ["ecommerce.business-metrics", "ecommerce.cart"]
    );
    assert_eq!(
        chain_of(&more, "product-service-v1-0", "0.0.0.0_3001"),
        ["ecommerce.business-metrics"]
    );
}

#[test]
fn a_gateway_is_a_client_a_sidecar_serves_what_comes_in_and_is_the_client_of_what_goes_out() {
    let plugins: String = ["CLIENT", "SERVER", "CLIENT_AND_SERVER"]
        .iter()
        .map(|mode| {
            plugin(
                "istio-system",
                &mode.to_lowercase().replace('_', "-"),
                &format!("  match: [{{mode: {mode}}}]"),
            )
        })
        .collect();
    let both = "istio-system.client-and-server";
    let mesh = shop_and(&plugins);
    let gateway = configuration(&mesh, GATEWAY.0);
    let sidecar = configuration(&mesh, INBOUND.0);
    assert_eq!(
        chain(named(&gateway.listeners, GATEWAY.1)),
        [
            "istio-system.tenant-rate-limit",
            "istio-system.client",
            both
        ]
    );
    assert_eq!(
        chain(named(&sidecar.listeners, INBOUND.1)),
        ["ecommerce.business-metrics", both, "istio-system.server"]
    );
    let outbound = sidecar
        .listeners
        .last()
        .expect("the listener of what goes out");
    assert_eq!(chain(outbound), ["istio-system.client", both]);
    // Each is told once what it is told, wherever it runs; nobody is told what runs elsewhere.
    let told: Vec<&str> = sidecar.extensions.keys().map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "ecommerce.business-metrics",
            "istio-system.client",
            both,
            "istio-system.server"
        ]
    );
}

#[test]
fn ports_are_those_of_containers_and_at_a_gateway_those_it_listens_on() {
    let plugins = plugin(
        "istio-system",
        "at-8080",
        "  match: [{ports: [{number: 8080}]}]",
    ) + &plugin(
        "istio-system",
        "at-80",
        "  selector: {matchLabels: {istio: ingressgateway}}\n  match: [{ports: [{number: 80}]}]",
    ) + &plugin(
        "ecommerce",
        "at-3002",
        "  match: [{mode: SERVER, ports: [{number: 3002}]}]",
    );
    assert_eq!(
        chain_of(&plugins, GATEWAY.0, GATEWAY.1),
        ["istio-system.tenant-rate-limit", "istio-system.at-8080"]
    );
    assert_eq!(
        chain_of(&plugins, INBOUND.0, INBOUND.1),
        ["ecommerce.at-3002", "ecommerce.business-metrics"]
    );
    assert_eq!(
        chain_of(&plugins, "product-service-v1-0", "0.0.0.0_3001"),
        ["ecommerce.business-metrics"]
    );
}

#[test]
fn a_filter_is_told_what_istio_would_tell_it() {
    let mesh = shop_and(&plugin(
        "ecommerce",
        "bare",
        "  failStrategy: FAIL_OPEN\n  pluginConfig: {}",
    ));
    let extensions = configuration(&mesh, INBOUND.0).extensions;
    assert_eq!(
        extensions["ecommerce.business-metrics"]["typed_config"]["config"],
        json!({
            "name": "ecommerce.business-metrics",
            "root_id": "metrics",
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": "/modules/business-metrics.wasm"}},
            },
            "failure_policy": "FAIL_CLOSED",
        })
    );
    let bare = &extensions["ecommerce.bare"]["typed_config"]["config"];
    assert_eq!(bare["failure_policy"], "FAIL_OPEN");
    assert_eq!(bare.get("configuration"), None);
    assert_eq!(bare.get("root_id"), None);
    assert_eq!(
        mesh.modules().into_iter().collect::<Vec<_>>(),
        ["bare", "business-metrics", "tenant-rate-limit"]
    );
}

#[test]
fn wasm_stands_before_the_filters_of_routes_and_the_router_is_last() {
    let configuration = configuration(&shop(), GATEWAY.0);
    let listener = named(&configuration.listeners, GATEWAY.1);
    assert_eq!(
        names(array(
            listener,
            "/filter_chains/0/filters/0/typed_config/http_filters"
        )),
        [
            "extensions.istio.io/wasmplugin/istio-system.tenant-rate-limit",
            "envoy.filters.http.grpc_stats",
            "envoy.filters.http.fault",
            "envoy.filters.http.cors",
            "envoy.filters.http.router",
        ]
    );
}

#[test]
fn a_module_has_an_environment() {
    let more = plugin(
        "ecommerce",
        "env",
        "  vmConfig:\n    env:\n    - {name: HERE, value: a}\n    - {name: EMPTY, valueFrom: INLINE}\n    - {name: SECRET, valueFrom: HOST}",
    );
    let extensions = configuration(&shop_and(&more), INBOUND.0).extensions;
    let vm = &extensions["ecommerce.env"]["typed_config"]["config"]["vm_config"];
    assert_eq!(
        vm["environment_variables"],
        json!({"key_values": {"HERE": "a", "EMPTY": ""}, "host_env_keys": ["SECRET"]})
    );
}

#[test]
fn the_container_of_a_proxy_says_what_its_environment_has() {
    let mesh = shop_and("");
    let gateway = workload(&mesh, "ingressgateway");
    assert!(gateway.proxy_env.is_empty() && gateway.containers.is_empty());
    let more = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: edge, namespace: istio-system}\nspec:\n  selector: {matchLabels: \
                {app: edge}}\n  template:\n    metadata: {labels: {app: edge, sidecar.istio.io/inject: 'true'}, annotations: \
                {inject.istio.io/templates: gateway}}\n    spec: {containers: [{name: istio-proxy, image: auto, env: [{name: KEY, value: a}]}]}\n";
    let mesh = shop_and(more);
    assert_eq!(
        workload(&mesh, "edge").proxy_env,
        [("KEY".to_owned(), "a".to_owned())]
    );
}
