//! Clusters: where requests can go, with which certificate and to whom.

use serde_json::{Map, Value, json};

use super::{Proxy, address, duration, inbound_cluster_name, outbound_cluster_name, tls};
use crate::api::networking::{ConnectionPoolSettings, OutlierDetection, SimpleLb, TrafficPolicy};
use crate::model::routing::{self, Subset};
use crate::model::{MutualTls, Protocol, Role, Service, ServicePort};

const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The pods of every Service, port and subset. A headless Service has no address to which a request could go.
pub(super) fn outbound(proxy: &Proxy) -> Vec<Value> {
    let mut clusters = Vec::new();
    let services = proxy.mesh.services.values();
    for service in services.filter(|service| !service.headless) {
        let rule = routing::rule_for(&proxy.mesh.rules, service, &proxy.workload.namespace);
        let policy = rule.and_then(|rule| rule.policy.as_ref());
        for port in &service.ports {
            clusters.push(outbound_cluster(proxy, service, port, None, policy));
            for subset in rule.iter().flat_map(|rule| &rule.subsets) {
                clusters.push(outbound_cluster(proxy, service, port, Some(subset), policy));
            }
        }
    }
    clusters
}

fn outbound_cluster(
    proxy: &Proxy,
    service: &Service,
    port: &ServicePort,
    subset: Option<&Subset>,
    policy: Option<&TrafficPolicy>,
) -> Value {
    let subset_name = subset.map(|subset| subset.name.as_str());
    let name = outbound_cluster_name(port.number, subset_name, &service.host);
    // What a subset says replaces what its host says, each setting by itself and as a whole.
    let of_subset = subset.and_then(|subset| subset.policy.as_ref());
    let load_balancer = of_subset.and_then(|policy| policy.load_balancer.as_ref());
    let load_balancer = load_balancer.or_else(|| policy?.load_balancer.as_ref());
    let pool = of_subset.and_then(|policy| policy.connection_pool.as_ref());
    let pool = pool.or_else(|| policy?.connection_pool.as_ref());
    let outlier = of_subset.and_then(|policy| policy.outlier_detection.as_ref());
    let outlier = outlier.or_else(|| policy?.outlier_detection.as_ref());
    let tls = of_subset
        .and_then(|policy| policy.tls.as_ref())
        .or_else(|| policy?.tls.as_ref());

    let mut cluster = cluster(&name);
    cluster["lb_policy"] = json!(match load_balancer
        .map(|settings| settings.simple)
        .unwrap_or_default()
    {
        SimpleLb::Unspecified | SimpleLb::LeastRequest | SimpleLb::LeastConn => "LEAST_REQUEST",
        SimpleLb::RoundRobin => "ROUND_ROBIN",
        SimpleLb::Random => "RANDOM",
    });
    cluster["load_assignment"] = load_assignment(&name, endpoints(proxy, port, subset));
    // Istio leaves the client's version out at gateways, where clients choose theirs without knowing what a Service can
    // speak.
    let protocol = match port.protocol {
        Protocol::Unknown if proxy.workload.role != Role::Sidecar => Protocol::Http,
        protocol => protocol,
    };
    limit(&mut cluster, protocol, pool);
    if let Some(outlier) = outlier {
        pass_over(&mut cluster, outlier);
    }

    let server_name = format!(
        "outbound_.{}_.{}_.{}",
        port.number,
        subset_name.unwrap_or_default(),
        service.host
    );
    let identities = service.identities(&proxy.mesh.workloads);
    let mutual = tls::upstream(
        proxy,
        &identities,
        &server_name,
        port.protocol == Protocol::Http2,
    );
    if tls.is_some() {
        // Asked for by name, so for every pod.
        cluster["transport_socket"] = mutual;
    } else {
        // Istio's automatic mutual TLS: each endpoint says whether it has a proxy that can do it.
        cluster["transport_socket_matches"] = json!([
            { "name": "tlsMode-istio", "match": { "tlsMode": "istio" }, "transport_socket": mutual },
            { "name": "tlsMode-disabled", "match": {}, "transport_socket": tls::plain() },
        ]);
    }
    cluster
}

/// The pods of a port that are in a subset, at the address where they take requests.
fn endpoints(proxy: &Proxy, port: &ServicePort, subset: Option<&Subset>) -> Vec<Value> {
    let mut endpoints = Vec::new();
    for target in &port.targets {
        let workload = &proxy.mesh.workloads[target.workload];
        let in_subset = |subset: &Subset| {
            subset
                .labels
                .iter()
                .all(|(name, value)| workload.labels.get(name) == Some(value))
        };
        if !subset.is_none_or(in_subset) {
            continue;
        }
        // What Istio injects as a gateway does not take mutual TLS by itself.
        let mutual = workload.role == Role::Sidecar && workload.mutual_tls != MutualTls::Disable;
        for pod in workload.pods() {
            let Some(site) = proxy.site.pods.get(&pod) else {
                continue;
            };
            let listening = match workload.role {
                Role::Sidecar => &site.inbound,
                Role::Gateway => &site.gateway,
                Role::Plain => &site.app,
            };
            let Some(here) = listening.get(&target.port) else {
                continue;
            };
            let mut endpoint = json!({ "endpoint": { "address": address(*here) } });
            if mutual {
                endpoint["metadata"] = json!({ "filter_metadata": { "envoy.transport_socket_match": { "tlsMode": "istio" } } });
            }
            endpoints.push(endpoint);
        }
    }
    endpoints
}

/// The application beside a sidecar, per port of its containers.
pub(super) fn inbound(proxy: &Proxy) -> Vec<Value> {
    let ports = proxy.workload.ports().into_iter();
    let clusters = ports.filter_map(|port| {
        let here = proxy.here.app.get(&port)?;
        let name = inbound_cluster_name(port);
        let mut cluster = cluster(&name);
        cluster["load_assignment"] = load_assignment(
            &name,
            vec![json!({ "endpoint": { "address": address(*here) } })],
        );
        let service = service_of(proxy, port);
        let protocol = service.map_or(Protocol::Unknown, |(_, port)| port.protocol);
        // What clients are limited to, the server is as well: Istio means to give it room for what they may send.
        let rule = service.and_then(|(service, _)| {
            routing::rule_for(&proxy.mesh.rules, service, &proxy.workload.namespace)
        });
        let policy = rule.and_then(|rule| rule.policy.as_ref());
        limit(
            &mut cluster,
            protocol,
            policy.and_then(|policy| policy.connection_pool.as_ref()),
        );
        Some(cluster)
    });
    clusters.collect()
}

/// The Service in front of a container's port, and its own port.
fn service_of<'a>(proxy: &Proxy<'a>, port: u16) -> Option<(&'a Service, &'a ServicePort)> {
    let services = proxy.mesh.services.values();
    let mut ports =
        services.flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    ports.find(|(_, service_port)| {
        service_port
            .targets
            .iter()
            .any(|target| target.port == port && target.workload == proxy.index)
    })
}

fn cluster(name: &str) -> Value {
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STATIC",
        "connect_timeout": "10s",
    })
}

/// The version of HTTP, and how many connections and requests there may be at a time.
fn limit(cluster: &mut Value, protocol: Protocol, pool: Option<&ConnectionPoolSettings>) {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());

    // Envoy's own limits are low; as in Istio there are none until a DestinationRule sets them.
    let or_none =
        |limit: Option<crate::api::networking::Limit>| limit.map_or(u32::MAX, |limit| limit.0);
    cluster["circuit_breakers"] = json!({
        "thresholds": [{
            "max_connections": or_none(tcp.and_then(|tcp| tcp.max_connections)),
            "max_pending_requests": or_none(http.and_then(|http| http.http1_max_pending_requests)),
            "max_requests": or_none(http.and_then(|http| http.http2_max_requests)),
            "max_retries": or_none(http.and_then(|http| http.max_retries)),
            "track_remaining": true,
        }],
    });
    if let Some(timeout) = tcp.and_then(|tcp| tcp.connect_timeout) {
        cluster["connect_timeout"] = json!(duration(timeout.0));
    }

    let mut common = Map::new();
    let idle = http.and_then(|http| http.idle_timeout).map(|idle| idle.0);
    if let Some(idle) = idle.or_else(|| Some(tcp?.idle_timeout?.0)) {
        common.insert("idle_timeout".to_owned(), json!(duration(idle)));
    }
    if let Some(longest) = tcp.and_then(|tcp| tcp.max_connection_duration) {
        let longest = json!(duration(longest.0));
        common.insert("max_connection_duration".to_owned(), longest);
    }
    let requests = http.and_then(|http| http.max_requests_per_connection);
    if let Some(requests) = requests.filter(|requests| requests.0 > 0) {
        common.insert("max_requests_per_connection".to_owned(), json!(requests.0));
    }

    let mut options = match protocol {
        Protocol::Http2 => json!({ "explicit_http_config": { "http2_protocol_options": {} } }),
        Protocol::Unknown => json!({
            "use_downstream_protocol_config": { "http_protocol_options": {}, "http2_protocol_options": {} },
        }),
        Protocol::Http | Protocol::Tcp if common.is_empty() => return,
        // Envoy's default, which it wants to read once it reads anything of this.
        Protocol::Http | Protocol::Tcp => {
            json!({ "explicit_http_config": { "http_protocol_options": {} } })
        }
    };
    if !common.is_empty() {
        options["common_http_protocol_options"] = Value::Object(common);
    }
    options["@type"] = json!(format!("type.googleapis.com/{HTTP_PROTOCOL_OPTIONS}"));
    cluster["typed_extension_protocol_options"] = json!({ HTTP_PROTOCOL_OPTIONS: options });
}

/// When pods get no requests for a while. What is not written is Envoy's own default, except that Istio counts errors in a
/// row and never compares pods, and has no panic: with few pods, half of them failing is no reason to ask those again.
fn pass_over(cluster: &mut Value, outlier: &OutlierDetection) {
    let mut detection = json!({ "enforcing_success_rate": 0 });
    let enforcing = |number: u32| if number > 0 { 100 } else { 0 };
    if let Some(errors) = outlier.consecutive_5xx_errors {
        detection["consecutive_5xx"] = json!(errors);
        detection["enforcing_consecutive_5xx"] = json!(enforcing(errors));
    }
    if let Some(errors) = outlier.consecutive_gateway_errors {
        detection["consecutive_gateway_failure"] = json!(errors);
        detection["enforcing_consecutive_gateway_failure"] = json!(enforcing(errors));
    }
    if let Some(interval) = outlier.interval {
        detection["interval"] = json!(duration(interval.0));
    }
    if let Some(time) = outlier.base_ejection_time {
        detection["base_ejection_time"] = json!(duration(time.0));
    }
    if let Some(percent) = outlier.max_ejection_percent {
        detection["max_ejection_percent"] = json!(percent);
    }
    if outlier.split_external_local_origin_errors {
        detection["split_external_local_origin_errors"] = json!(true);
        if let Some(failures) = outlier
            .consecutive_local_origin_failures
            .filter(|failures| *failures > 0)
        {
            detection["consecutive_local_origin_failure"] = json!(failures);
            detection["enforcing_consecutive_local_origin_failure"] = json!(100);
        }
        detection["enforcing_local_origin_success_rate"] = json!(0);
    }
    cluster["outlier_detection"] = detection;
    cluster["common_lb_config"] =
        json!({ "healthy_panic_threshold": { "value": outlier.min_health_percent } });
}

fn load_assignment(name: &str, endpoints: Vec<Value>) -> Value {
    json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] })
}
