//! What happens when something fails: retries, faults on purpose, limits, and pods that are passed over.

use serde_json::{Value, json};

use crate::{array, configuration, load, named, shop_and};

const SIDECAR: &str = "product-service-v1-0";
const GATEWAY: &str = "ingressgateway-0";
const CART: &str = "outbound|3002||cart-service.ecommerce.svc.cluster.local";

/// The first route of sidecars to the cart service, which has `fields` besides.
fn route(fields: &str) -> Value {
    let mesh = shop_and(&format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: cart, namespace: ecommerce}}\nspec:\n  \
         hosts: [cart-service]\n  http:\n  - route: [{{destination: {{host: cart-service}}}}]\n{fields}"
    ));
    let routes = &configuration(&mesh, SIDECAR).routes["http_proxy"];
    let host = named(
        array(routes, "/virtual_hosts"),
        "cart-service.ecommerce.svc.cluster.local:3002",
    );
    host["routes"][0].clone()
}

fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: cart, namespace: ecommerce}}\nspec:\n  \
         host: cart-service\n{spec}"
    )
}

/// The cart service as a pod's proxy sees it.
fn cluster(pod: &str, name: &str, policy: &str) -> Value {
    let mesh = shop_and(&rule(policy));
    named(&configuration(&mesh, pod).clusters, name).clone()
}

fn previous_hosts() -> Value {
    json!([{
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
        },
    }])
}

#[test]
fn retries_are_as_a_route_says_and_otherwise_as_istio_has_them() {
    assert_eq!(
        route(
            "    retries: {attempts: 3, perTryTimeout: 2s, retryOn: \"5xx,reset,connect-failure\"}\n"
        )["route"]["retry_policy"],
        json!({
            "num_retries": 3,
            "retry_on": "5xx,reset,connect-failure",
            "per_try_timeout": "2s",
            "host_selection_retry_max_attempts": 5,
            "retry_host_predicate": previous_hosts(),
        })
    );
    assert_eq!(
        route("    retries: {attempts: 1}\n")["route"]["retry_policy"],
        json!({
            "num_retries": 1,
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "host_selection_retry_max_attempts": 5,
            "retry_host_predicate": previous_hosts(),
        })
    );
}

#[test]
fn statuses_may_be_among_what_is_tried_again() {
    let policy = |retry_on: &str| {
        let route = route(&format!(
            "    retries: {{attempts: 1, retryOn: {retry_on}, backoff: 100ms, retryIgnorePreviousHosts: false}}\n"
        ));
        route["route"]["retry_policy"].clone()
    };
    assert_eq!(
        policy("\"reset,503,429\""),
        json!({
            "num_retries": 1,
            "retry_on": "reset,retriable-status-codes",
            "retriable_status_codes": [503, 429],
            "retry_back_off": { "base_interval": "0.1s" },
            "host_selection_retry_max_attempts": 5,
        })
    );
    assert_eq!(
        policy("\"retriable-status-codes,503\"")["retry_on"],
        "retriable-status-codes"
    );
}

#[test]
fn no_attempts_are_no_retries_at_all() {
    assert_eq!(
        route("    retries: {attempts: 0}\n")["route"].get("retry_policy"),
        None
    );
}

#[test]
fn paths_and_authorities_are_rewritten() {
    let action = |rewrite: &str| {
        let route = route(&format!("    rewrite: {rewrite}\n"));
        let action = route["route"].as_object().expect("an action").clone();
        let named = ["prefix_rewrite", "regex_rewrite", "host_rewrite_literal"];
        named.map(|name| action.get(name).cloned())
    };
    assert_eq!(
        action("{uri: /v2/cart, authority: old.example.com}"),
        [
            Some(json!("/v2/cart")),
            None,
            Some(json!("old.example.com"))
        ]
    );
    assert_eq!(
        action("{uriRegexRewrite: {match: '^/cart/(\\w+)', rewrite: '/\\1/cart'}}"),
        [
            None,
            Some(json!({ "pattern": { "regex": "^/cart/(\\w+)" }, "substitution": "/\\1/cart" })),
            None
        ]
    );
}

#[test]
fn faults_are_of_the_filter_that_stands_in_every_chain() {
    let route = route(
        "    fault:\n      delay: {percentage: {value: 50}, fixedDelay: 5s}\n      abort: {percentage: {value: 0.1}, \
         httpStatus: 500}\n",
    );
    assert_eq!(
        route["typed_per_filter_config"],
        json!({
            "envoy.filters.http.fault": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                "delay": { "fixed_delay": "5s", "percentage": { "numerator": 500_000, "denominator": "MILLION" } },
                "abort": { "http_status": 500, "percentage": { "numerator": 1_000, "denominator": "MILLION" } },
            },
        })
    );
    // The route is still there for the requests to which nothing happens.
    assert_eq!(route["route"]["cluster"], CART);
}

#[test]
fn headers_are_set_then_added_each_by_name_and_the_authority_is_rewritten() {
    let route = route(
        "    headers:\n      request: {set: {b: '1', a: 100%%, Host: other}, add: {c: '2'}, remove: [x]}\n      response: {remove: \
         [server]}\n",
    );
    let option = |key: &str, value: &str, how: &str| json!({ "header": { "key": key, "value": value }, "append_action": how });
    assert_eq!(
        route["request_headers_to_add"],
        json!([
            option("a", "100%%", "OVERWRITE_IF_EXISTS_OR_ADD"),
            option("b", "1", "OVERWRITE_IF_EXISTS_OR_ADD"),
            option("c", "2", "APPEND_IF_EXISTS_OR_ADD"),
        ])
    );
    assert_eq!(route["request_headers_to_remove"], json!(["x"]));
    assert_eq!(route["response_headers_to_remove"], json!(["server"]));
    assert_eq!(route.get("response_headers_to_add"), None);
    assert_eq!(route["route"]["host_rewrite_literal"], "other");
}

#[test]
fn headers_that_cannot_be_changed_are_refused() {
    let problems = load(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: ecommerce}\nspec:\n  hosts: \
         [cart-service]\n  http:\n  - route: [{destination: {host: cart-service}}]\n    rewrite: {authority: a}\n    headers:\n      \
         request:\n        set: {\":path\": /, \":authority\": b}\n        remove: [host, \"a b\"]\n      response:\n        add: \
         {host: c}\n",
    );
    assert_eq!(
        problems.expect_err("problems").to_string(),
        "more.yaml:11: spec.http[0].headers.request.set[\":authority\"]: the authority is rewritten already, write it once\n\
         more.yaml:11: spec.http[0].headers.request.set[\":path\"]: \":path\" cannot be changed in this way\n\
         more.yaml:12: spec.http[0].headers.request.remove[0]: \"host\" cannot be changed in this way\n\
         more.yaml:12: spec.http[0].headers.request.remove[1]: \"a b\" is not the name of a header\n\
         more.yaml:14: spec.http[0].headers.response.add.host: \"host\" cannot be changed in this way"
    );
}

const POOL: &str = "  trafficPolicy:\n    connectionPool:\n      tcp: {maxConnections: 10, connectTimeout: 1s}\n      http: \
                    {http1MaxPendingRequests: 1, maxRequestsPerConnection: 2}\n";

fn thresholds(connections: u32, pending: u32) -> Value {
    json!({
        "thresholds": [{
            "max_connections": connections,
            "max_pending_requests": pending,
            "max_requests": u32::MAX,
            "max_retries": u32::MAX,
            "track_remaining": true,
        }],
    })
}

#[test]
fn a_connection_pool_limits_clients() {
    for pod in [SIDECAR, GATEWAY] {
        let cluster = cluster(pod, CART, POOL);
        assert_eq!(cluster["circuit_breakers"], thresholds(10, 1));
        assert_eq!(cluster["connect_timeout"], "1s");
        assert_eq!(
            cluster["typed_extension_protocol_options"],
            json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http_protocol_options": {} },
                    "common_http_protocol_options": { "max_requests_per_connection": 2 },
                },
            })
        );
    }
}

#[test]
fn a_connection_pool_limits_the_server_s_own_proxy_as_well() {
    let inbound = cluster("cart-service-0", "inbound|3002||", POOL);
    assert_eq!(inbound["circuit_breakers"], thresholds(10, 1));
    // Only a host's, as the proxy serves all subsets; and only the pool.
    let of_subset = POOL.replace("\n  ", "\n    ");
    let of_subset = format!("  subsets:\n  - name: all\n  {of_subset}");
    let inbound = cluster("cart-service-0", "inbound|3002||", &of_subset);
    assert_eq!(inbound["circuit_breakers"], thresholds(u32::MAX, u32::MAX));
    let outlier = "  trafficPolicy: {outlierDetection: {}}\n";
    let inbound = cluster("cart-service-0", "inbound|3002||", outlier);
    assert_eq!(inbound.get("outlier_detection"), None);
}

#[test]
fn all_limits_have_their_place() {
    let cluster = cluster(
        SIDECAR,
        CART,
        "  trafficPolicy:\n    connectionPool:\n      tcp: {idleTimeout: 1m, maxConnectionDuration: 1h}\n      http: \
         {http2MaxRequests: 7, maxRetries: 3, maxRequestsPerConnection: 0}\n",
    );
    let threshold = &cluster["circuit_breakers"]["thresholds"][0];
    assert_eq!(
        (&threshold["max_requests"], &threshold["max_retries"]),
        (&json!(7), &json!(3))
    );
    let options = &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    assert_eq!(
        options["common_http_protocol_options"],
        json!({ "idle_timeout": "60s", "max_connection_duration": "3600s" })
    );
}

#[test]
fn outliers_are_found_by_errors_in_a_row_alone_and_there_is_no_panic() {
    let written = cluster(
        SIDECAR,
        CART,
        "  trafficPolicy:\n    outlierDetection: {consecutive5xxErrors: 3, interval: 30s, baseEjectionTime: 30s, \
         maxEjectionPercent: 50}\n",
    );
    assert_eq!(
        written["outlier_detection"],
        json!({
            "consecutive_5xx": 3,
            "enforcing_consecutive_5xx": 100,
            "enforcing_success_rate": 0,
            "interval": "30s",
            "base_ejection_time": "30s",
            "max_ejection_percent": 50,
        })
    );
    assert_eq!(
        written["common_lb_config"],
        json!({ "healthy_panic_threshold": { "value": 0 } })
    );
    let other = cluster(
        SIDECAR,
        CART,
        "  trafficPolicy:\n    outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, \
         splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4, minHealthPercent: 20}\n",
    );
    assert_eq!(
        other["outlier_detection"],
        json!({
            "consecutive_5xx": 0,
            "enforcing_consecutive_5xx": 0,
            "consecutive_gateway_failure": 2,
            "enforcing_consecutive_gateway_failure": 100,
            "enforcing_success_rate": 0,
            "split_external_local_origin_errors": true,
            "consecutive_local_origin_failure": 4,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
        })
    );
    assert_eq!(
        other["common_lb_config"],
        json!({ "healthy_panic_threshold": { "value": 20 } })
    );
    let neither = cluster(SIDECAR, CART, "");
    assert_eq!(neither.get("outlier_detection"), None);
    assert_eq!(neither.get("common_lb_config"), None);
}

#[test]
fn a_subset_replaces_a_whole_setting_and_inherits_the_others() {
    let policy = format!(
        "{POOL}    outlierDetection: {{consecutive5xxErrors: 3}}\n  subsets:\n  - name: big\n    trafficPolicy:\n      \
         connectionPool: {{tcp: {{maxConnections: 100}}}}\n"
    );
    let cluster = cluster(SIDECAR, &CART.replace("||", "|big|"), &policy);
    assert_eq!(cluster["circuit_breakers"], thresholds(100, u32::MAX));
    assert_eq!(cluster["connect_timeout"], "10s");
    assert_eq!(cluster["outlier_detection"]["consecutive_5xx"], 3);
}

#[test]
fn policies_that_say_nothing_are_refused_as_istio_does() {
    let problems = load(&rule(
        "  trafficPolicy: {}\n  subsets:\n  - name: a\n    trafficPolicy: {connectionPool: {}}\n",
    ));
    assert_eq!(
        problems.expect_err("problems").to_string(),
        "more.yaml:6: spec.trafficPolicy: is empty, write loadBalancer, connectionPool, outlierDetection or tls, or leave it \
         out\n\
         more.yaml:9: spec.subsets[0].trafficPolicy.connectionPool: is empty, write tcp, http or both, or leave it out"
    );
}
