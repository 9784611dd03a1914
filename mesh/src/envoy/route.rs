//! Routes: which request goes to which cluster, in istiod's order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Proxy, duration, inbound_cluster_name, outbound_cluster_name};
use crate::api::networking::{
    HeaderValue, Headers, HttpFaultInjection, HttpMatchRequest, HttpRetry, PathRewrite, Percent,
    StringMatch, ValueMatch,
};
use crate::model::routing::{Destination, Listener, Route, is_authority};
use crate::model::{Service, ServicePort, VirtualService, host};

/// Istio's name for the routes of a sidecar that is an HTTP proxy.
pub(super) const HTTP_PROXY: &str = "http_proxy";

/// Istio's name for the routes of a gateway's port.
pub(super) fn gateway_name(port: u16) -> String {
    format!("http.{port}")
}

/// The routes of a gateway's port. A request for no known host, or that no route of its host matches, is answered with 404.
pub(super) fn gateway(proxy: &Proxy, listener: &Listener) -> (String, Value) {
    // By host, which VirtualServices in which order; and the server's port, which is in the virtual host's name.
    let mut hosts: BTreeMap<String, (u16, Vec<&VirtualService>)> = BTreeMap::new();
    let mut first_number = listener.port;
    for (position, (gateway, server)) in listener.servers.iter().enumerate() {
        let gateway = &proxy.mesh.gateways[*gateway];
        let server = &gateway.servers[*server];
        if position == 0 {
            first_number = server.number;
        }
        for virtual_service in &proxy.mesh.virtual_services {
            if !virtual_service.gateways.contains(&gateway.name) {
                continue;
            }
            let opened = host::of_server(
                &server.hosts,
                &gateway.namespace,
                &virtual_service.namespace,
            );
            for host in host::intersection(&opened, &virtual_service.hosts) {
                hosts
                    .entry(host)
                    .or_insert_with(|| (server.number, Vec::new()))
                    .1
                    .push(virtual_service);
            }
        }
    }

    // Hosts with the same routes are one virtual host, named for the most specific of them.
    let mut sorted: Vec<(String, u16, Vec<&VirtualService>)> = hosts
        .into_iter()
        .map(|(host, (number, virtual_services))| (host, number, virtual_services))
        .collect();
    sorted.sort_by(|(a, ..), (b, ..)| host::by_specificity(a, b));
    let mut collapsed: Vec<(String, Vec<String>, Vec<&VirtualService>)> = Vec::new();
    for (host, number, virtual_services) in sorted {
        let same = |others: &[&VirtualService]| {
            others.len() == virtual_services.len()
                && others
                    .iter()
                    .zip(&virtual_services)
                    .all(|(a, b)| std::ptr::eq(*a, *b))
        };
        match collapsed.iter_mut().find(|(_, _, others)| same(others)) {
            Some((_, domains, _)) => domains.push(host),
            None => collapsed.push((domain(&host, number), vec![host], virtual_services)),
        }
    }
    let mut virtual_hosts: Vec<Value> = collapsed
        .into_iter()
        .map(|(name, domains, virtual_services)| {
            let routes: Vec<BuiltRoute> =
                virtual_services.into_iter().flat_map(routes_of).collect();
            // Several VirtualServices may each end with a route for everything; only the first of these can be reached, but
            // it must not hide what the next VirtualService asks for in particular.
            let (last, first): (Vec<BuiltRoute>, Vec<BuiltRoute>) =
                routes.into_iter().partition(|route| route.catches_all);
            let routes = first
                .into_iter()
                .chain(last)
                .map(|route| route.json)
                .collect();
            virtual_host(&name, &domains, routes)
        })
        .collect();
    if virtual_hosts.is_empty() {
        virtual_hosts.push(json!({ "name": domain("blackhole", first_number), "domains": ["*"] }));
    }
    sort_by_name(&mut virtual_hosts);

    let name = gateway_name(listener.port);
    let mut configuration = route_configuration(&name, virtual_hosts);
    configuration["ignore_port_in_host_matching"] = json!(true);
    (name, configuration)
}

/// The routes of what an application sends: a virtual host for every HTTP port of every Service.
pub(super) fn outbound(proxy: &Proxy) -> Value {
    let mut virtual_hosts = Vec::new();
    for service in proxy.mesh.services.values() {
        for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
            let domains = domains(service, port, &proxy.workload.namespace);
            let routes = match virtual_service_for(proxy, service) {
                Some(virtual_service) => routes_of(virtual_service)
                    .into_iter()
                    .map(|route| route.json)
                    .collect(),
                None => vec![default_route(service, port)],
            };
            virtual_hosts.push(virtual_host(
                &domain(&service.host, port.number),
                &domains,
                routes,
            ));
        }
    }
    sort_by_name(&mut virtual_hosts);
    virtual_hosts.push(virtual_host(
        "block_all",
        &["*".to_owned()],
        vec![json!({
            "name": "block_all",
            "match": { "prefix": "/" },
            "direct_response": { "status": 502 },
        })],
    ));
    route_configuration(HTTP_PROXY, virtual_hosts)
}

/// What comes to the application at a container's port goes there.
pub(super) fn inbound(port: u16) -> Value {
    let cluster = inbound_cluster_name(port);
    json!({
        "name": cluster,
        "validate_clusters": false,
        "virtual_hosts": [{
            "name": format!("inbound|http|{port}"),
            "domains": ["*"],
            "routes": [{
                "name": "default",
                "match": { "prefix": "/" },
                "route": {
                    "cluster": cluster,
                    "timeout": "0s",
                    "max_stream_duration": { "max_stream_duration": "0s", "grpc_timeout_header_max": "0s" },
                    // Only what cannot have reached the application.
                    "retry_policy": { "num_retries": 2, "retry_on": "reset-before-request" },
                },
            }],
        }],
    })
}

/// The VirtualService whose host is the most specific that covers the Service.
fn virtual_service_for<'a>(proxy: &Proxy<'a>, service: &Service) -> Option<&'a VirtualService> {
    let of_mesh = proxy
        .mesh
        .virtual_services
        .iter()
        .filter(|virtual_service| virtual_service.mesh);
    let hosts = of_mesh.flat_map(|virtual_service| {
        virtual_service
            .hosts
            .iter()
            .map(move |host| (host, virtual_service))
    });
    let covering = hosts.filter(|(host, _)| host::subset_of(&service.host, host));
    covering
        .min_by(|(a, _), (b, _)| host::by_specificity(a, b))
        .map(|(_, virtual_service)| virtual_service)
}

/// All names by which an application of a namespace may call a Service's port. Without a port, only if it is HTTP's own.
fn domains(service: &Service, port: &ServicePort, client_namespace: &str) -> Vec<String> {
    let (host, name, namespace) = (&service.host, &service.name, &service.namespace);
    let mut names = vec![host.clone(), format!("{host}.")];
    if client_namespace == namespace {
        names.push(name.clone());
    }
    names.push(format!("{name}.{namespace}.svc"));
    names.push(format!("{name}.{namespace}"));
    let with_port = |name: String| {
        let with_port = domain(&name, port.number);
        if port.number == 80 {
            vec![name, with_port]
        } else {
            vec![with_port]
        }
    };
    names.into_iter().flat_map(with_port).collect()
}

struct BuiltRoute {
    json: Value,
    catches_all: bool,
}

/// A route of the configuration for every match of every route, up to one that catches everything: what comes behind that
/// can never be reached.
fn routes_of(virtual_service: &VirtualService) -> Vec<BuiltRoute> {
    let mut routes = Vec::new();
    for route in &virtual_service.routes {
        let everything = HttpMatchRequest::default();
        let matches = if route.matches.is_empty() {
            std::slice::from_ref(&everything)
        } else {
            &route.matches
        };
        for wanted in matches {
            let built = build(route, wanted);
            let catches_all = built.catches_all;
            routes.push(built);
            if catches_all {
                return routes;
            }
        }
    }
    routes
}

fn build(route: &Route, wanted: &HttpMatchRequest) -> BuiltRoute {
    let (matches, catches_all) = route_match(wanted);
    let mut json = json!({ "match": matches, "route": action(route) });
    if let Some(headers) = &route.headers {
        change_headers(&mut json, headers);
    }
    if let Some(fault) = &route.fault {
        json["typed_per_filter_config"] = json!({ FAULT: fault_filter(fault) });
    }
    let name = match (&route.name, &wanted.name) {
        (name, Some(of_match)) => Some(format!(
            "{}.{of_match}",
            name.as_deref().unwrap_or_default()
        )),
        (name, None) => name.clone(),
    };
    if let Some(name) = name {
        json["name"] = json!(name);
    }
    BuiltRoute { json, catches_all }
}

fn action(route: &Route) -> Value {
    let timeout = route
        .timeout
        .map_or_else(|| "0s".to_owned(), |timeout| duration(timeout.0));
    let mut action = json!({
        "timeout": timeout,
        // What a gRPC client may ask for. Deprecated for `max_stream_duration`, with which Envoy no longer heeds `timeout`.
        "max_grpc_timeout": timeout,
    });
    let retries = match &route.retries {
        None => Some(default_retry_policy()),
        Some(retries) => retry_policy(retries),
    };
    if let Some(retries) = retries {
        action["retry_policy"] = retries;
    }
    if let Some(rewrite) = &route.rewrite {
        match &rewrite.path {
            Some(PathRewrite::Matched(path)) => action["prefix_rewrite"] = json!(path),
            Some(PathRewrite::Regex(regex)) => {
                action["regex_rewrite"] = json!({
                    "pattern": { "regex": regex.matched.0 },
                    "substitution": regex.rewrite,
                });
            }
            None => {}
        }
    }
    if let Some(authority) = authority(route) {
        action["host_rewrite_literal"] = json!(authority);
    }
    let cluster = |destination: &Destination| {
        outbound_cluster_name(
            destination.port,
            destination.subset.as_deref(),
            &destination.host,
        )
    };
    match route.destinations.as_slice() {
        // Its weight does not matter.
        [only] => action["cluster"] = json!(cluster(only)),
        several => {
            let several = several.iter().filter(|destination| destination.weight > 0);
            let clusters: Vec<Value> = several
                .map(|destination| json!({ "name": cluster(destination), "weight": destination.weight }))
                .collect();
            action["weighted_clusters"] = json!({ "clusters": clusters });
        }
    }
    action
}

fn default_route(service: &Service, port: &ServicePort) -> Value {
    json!({
        "name": "default",
        "match": { "prefix": "/" },
        "route": {
            "cluster": outbound_cluster_name(port.number, None, &service.host),
            "timeout": "0s",
            "max_grpc_timeout": "0s",
            "retry_policy": default_retry_policy(),
        },
    })
}

fn default_retry_policy() -> Value {
    json!({
        "num_retries": 2,
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "host_selection_retry_max_attempts": 5,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }],
    })
}

/// What a route says, and the default for what it does not. None at all if nothing is to be tried again.
fn retry_policy(retries: &HttpRetry) -> Option<Value> {
    if retries.attempts == 0 {
        return None;
    }
    let mut policy = default_retry_policy();
    policy["num_retries"] = json!(retries.attempts);
    if let Some(retry_on) = &retries.retry_on {
        let mut conditions: Vec<&str> = retry_on.conditions.iter().map(String::as_str).collect();
        if !retry_on.statuses.is_empty() {
            policy["retriable_status_codes"] = json!(retry_on.statuses);
            if !conditions.contains(&"retriable-status-codes") {
                conditions.push("retriable-status-codes");
            }
        }
        policy["retry_on"] = json!(conditions.join(","));
    }
    if let Some(timeout) = retries.per_try_timeout {
        policy["per_try_timeout"] = json!(duration(timeout.0));
    }
    if retries.retry_ignore_previous_hosts == Some(false)
        && let Some(policy) = policy.as_object_mut()
    {
        policy.remove("retry_host_predicate");
    }
    if let Some(backoff) = retries.backoff {
        policy["retry_back_off"] = json!({ "base_interval": duration(backoff.0) });
    }
    Some(policy)
}

/// What the authority becomes: `rewrite` says so, or `headers`.
fn authority(route: &Route) -> Option<&str> {
    let rewritten = route
        .rewrite
        .as_ref()
        .and_then(|rewrite| rewrite.authority.as_deref());
    rewritten.or_else(|| {
        let request = &route.headers.as_ref()?.request;
        let mut headers = request.set.iter().chain(&request.add);
        let (_, value) = headers.find(|(name, _)| is_authority(name))?;
        Some(value.0.as_str())
    })
}

/// What becomes of headers: first those that are set, then those that are added, each by name.
fn change_headers(json: &mut Value, headers: &Headers) {
    for (side, operations) in [
        ("request", &headers.request),
        ("response", &headers.response),
    ] {
        let option = |(name, value): (&String, &HeaderValue), how: &str| {
            (!is_authority(name)).then(
                || json!({ "header": { "key": name, "value": value.0 }, "append_action": how }),
            )
        };
        let set = operations.set.iter();
        let set = set.filter_map(|header| option(header, "OVERWRITE_IF_EXISTS_OR_ADD"));
        let add = operations.add.iter();
        let add = add.filter_map(|header| option(header, "APPEND_IF_EXISTS_OR_ADD"));
        let added: Vec<Value> = set.chain(add).collect();
        if !added.is_empty() {
            json[format!("{side}_headers_to_add")] = json!(added);
        }
        if !operations.remove.is_empty() {
            json[format!("{side}_headers_to_remove")] = json!(operations.remove);
        }
    }
}

/// The filter that stands in every chain, and that does something on the routes that ask for it.
pub(super) const FAULT: &str = "envoy.filters.http.fault";

fn fault_filter(fault: &HttpFaultInjection) -> Value {
    let share = |percent: Percent| {
        // As istiod does it: hundredths of a hundredth, and nothing finer.
        json!({ "numerator": (percent.value * 10_000.0) as u32, "denominator": "MILLION" })
    };
    let mut filter = json!({ "@type": format!("type.googleapis.com/{FAULT_TYPE}") });
    if let Some(delay) = &fault.delay {
        filter["delay"] = json!({
            "fixed_delay": duration(delay.fixed_delay.0),
            "percentage": share(delay.percentage),
        });
    }
    if let Some(abort) = &fault.abort {
        filter["abort"] = json!({
            "http_status": abort.http_status.0,
            "percentage": share(abort.percentage),
        });
    }
    filter
}

/// The configuration of [`FAULT`], in the chain and on routes.
pub(super) const FAULT_TYPE: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

/// What a request must be, and whether every request is.
fn route_match(wanted: &HttpMatchRequest) -> (Value, bool) {
    let mut matches = match &wanted.uri {
        None => json!({ "prefix": "/" }),
        Some(StringMatch::Exact(path)) => json!({ "path": path }),
        Some(StringMatch::Prefix(prefix)) => json!({ "prefix": prefix }),
        Some(StringMatch::Regex(regex)) => json!({ "safe_regex": { "regex": regex.0 } }),
    };
    let any_path = match &wanted.uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => prefix == "/",
        Some(StringMatch::Regex(regex)) => regex.0 == ".*",
        Some(StringMatch::Exact(_)) => false,
    };
    if wanted.ignore_uri_case {
        matches["case_sensitive"] = json!(false);
    }

    let mut headers: Vec<Value> = Vec::new();
    let names: BTreeSet<&String> = wanted
        .headers
        .keys()
        .chain(wanted.without_headers.keys())
        .collect();
    for name in names {
        if let Some(value) = wanted.headers.get(name) {
            headers.push(value_match(name, value));
        }
        if let Some(value) = wanted.without_headers.get(name) {
            let mut without = value_match(name, value);
            without["invert_match"] = json!(true);
            // A header that is not there has no such value either.
            if *value != ValueMatch::Present {
                without["treat_missing_header_as_empty"] = json!(true);
            }
            headers.push(without);
        }
    }
    for (name, value) in [
        (":method", &wanted.method),
        (":authority", &wanted.authority),
    ] {
        headers.extend(
            value
                .as_ref()
                .map(|value| json!({ "name": name, "string_match": string_match(value) })),
        );
    }
    let query: Vec<Value> = wanted
        .query_params
        .iter()
        .map(|(name, value)| value_match(name, value))
        .collect();

    let catches_all = any_path && headers.is_empty() && query.is_empty();
    if !headers.is_empty() {
        matches["headers"] = json!(headers);
    }
    if !query.is_empty() {
        matches["query_parameters"] = json!(query);
    }
    (matches, catches_all)
}

/// A matcher of a header or of a query parameter: both have these fields.
fn value_match(name: &str, value: &ValueMatch) -> Value {
    match value {
        ValueMatch::Present => json!({ "name": name, "present_match": true }),
        ValueMatch::Value(value) => json!({ "name": name, "string_match": string_match(value) }),
    }
}

fn string_match(value: &StringMatch) -> Value {
    match value {
        StringMatch::Exact(exact) => json!({ "exact": exact }),
        StringMatch::Prefix(prefix) => json!({ "prefix": prefix }),
        StringMatch::Regex(regex) => json!({ "safe_regex": { "regex": regex.0 } }),
    }
}

fn route_configuration(name: &str, virtual_hosts: Vec<Value>) -> Value {
    json!({
        "name": name,
        "virtual_hosts": virtual_hosts,
        "validate_clusters": false,
        "max_direct_response_body_size_bytes": 1_048_576,
    })
}

fn virtual_host(name: &str, domains: &[String], routes: Vec<Value>) -> Value {
    json!({ "name": name, "domains": domains, "routes": routes, "include_request_attempt_count": true })
}

fn sort_by_name(virtual_hosts: &mut [Value]) {
    virtual_hosts.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
}

fn domain(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}
