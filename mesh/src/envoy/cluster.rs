//! Clusters: where requests can go, with which certificate and to whom.

use serde_json::{Value, json};

use super::{Proxy, address, inbound_cluster_name, outbound_cluster_name, tls};
use crate::api::networking::{SimpleLb, TrafficPolicy};
use crate::model::routing::{self, Subset};
use crate::model::{MutualTls, Protocol, Role, Service, ServicePort};

const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The pods of every Service, port and subset.
pub(super) fn outbound(proxy: &Proxy) -> Vec<Value> {
    let mut clusters = Vec::new();
    for service in proxy.mesh.services.values() {
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
    // What a subset says replaces what its host says, each setting by itself.
    let of_subset = subset.and_then(|subset| subset.policy.as_ref());
    let load_balancer = of_subset.and_then(|policy| policy.load_balancer.as_ref());
    let load_balancer = load_balancer.or_else(|| policy?.load_balancer.as_ref());
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
    match port.protocol {
        Protocol::Http2 => set_protocol(
            &mut cluster,
            json!({ "explicit_http_config": { "http2_protocol_options": {} } }),
        ),
        // The client's version, in sidecars; Istio leaves it out at gateways, where clients choose their version without
        // knowing what a Service can speak.
        Protocol::Unknown if proxy.workload.role == Role::Sidecar => set_protocol(
            &mut cluster,
            json!({ "use_downstream_protocol_config": { "http_protocol_options": {}, "http2_protocol_options": {} } }),
        ),
        Protocol::Http | Protocol::Unknown | Protocol::Tcp => {}
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
        cluster["load_assignment"] = load_assignment(&name, vec![json!({ "endpoint": { "address": address(*here) } })]);
        match protocol(proxy, port) {
            Protocol::Http2 => {
                set_protocol(&mut cluster, json!({ "explicit_http_config": { "http2_protocol_options": {} } }));
            }
            Protocol::Unknown => set_protocol(
                &mut cluster,
                json!({ "use_downstream_protocol_config": { "http_protocol_options": {}, "http2_protocol_options": {} } }),
            ),
            Protocol::Http | Protocol::Tcp => {}
        }
        Some(cluster)
    });
    clusters.collect()
}

/// What a container's port speaks, as the Service in front of it says.
fn protocol(proxy: &Proxy, port: u16) -> Protocol {
    let ports = proxy
        .mesh
        .services
        .values()
        .flat_map(|service| &service.ports);
    let mut ports = ports.filter(|service_port| {
        service_port
            .targets
            .iter()
            .any(|target| target.port == port && target.workload == proxy.index)
    });
    ports.next().map_or(Protocol::Unknown, |port| port.protocol)
}

fn cluster(name: &str) -> Value {
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STATIC",
        "connect_timeout": "10s",
        // Envoy's own limits are low; as in Istio there are none until a DestinationRule sets them.
        "circuit_breakers": {
            "thresholds": [{
                "max_connections": u32::MAX,
                "max_pending_requests": u32::MAX,
                "max_requests": u32::MAX,
                "max_retries": u32::MAX,
            }],
        },
    })
}

fn load_assignment(name: &str, endpoints: Vec<Value>) -> Value {
    json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] })
}

fn set_protocol(cluster: &mut Value, mut options: Value) {
    options["@type"] = json!(format!("type.googleapis.com/{HTTP_PROTOCOL_OPTIONS}"));
    cluster["typed_extension_protocol_options"] = json!({ HTTP_PROTOCOL_OPTIONS: options });
}
