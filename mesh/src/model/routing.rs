//! Routing: which hosts gateways open, which routes VirtualServices give them, and how DestinationRules divide a Service.

use std::collections::BTreeMap;

use super::host;
use super::service::Service;
use super::workload::{Role, Workload};
use super::{ROOT_NAMESPACE, quoted_list};
use crate::api::networking as api;
use crate::api::{Object, Period};
use crate::problem::Problem;
use crate::source::decode::nearest;
use crate::source::{Source, join};

/// The name by which a VirtualService means all sidecars.
const MESH: &str = "mesh";

/// What a Gateway opens.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// `namespace/name`.
    pub name: String,
    pub(crate) namespace: String,
    pub(crate) servers: Vec<Server>,
}

/// One server of a Gateway.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Server {
    /// As the Gateway says.
    pub(crate) number: u16,
    /// Perhaps with a namespace before a slash.
    pub(crate) hosts: Vec<String>,
}

/// What a gateway's port serves: the servers of all Gateways that select it and lead to this port.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listener {
    pub(crate) workload: usize,
    pub(crate) port: u16,
    /// Which Gateway, and which of its servers.
    pub(crate) servers: Vec<(usize, usize)>,
}

/// The routes of some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Full names.
    pub(crate) hosts: Vec<String>,
    /// Whether it is for sidecars.
    pub(crate) mesh: bool,
    /// `namespace/name` of the Gateways that it is for.
    pub(crate) gateways: Vec<String>,
    pub(crate) routes: Vec<Route>,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    pub(crate) name: Option<String>,
    pub(crate) matches: Vec<api::HttpMatchRequest>,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) timeout: Option<Period>,
    pub(crate) retries: Option<api::HttpRetry>,
    pub(crate) rewrite: Option<api::HttpRewrite>,
    pub(crate) fault: Option<api::HttpFaultInjection>,
    pub(crate) headers: Option<api::Headers>,
}

/// Where some of a route's requests go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Destination {
    /// The full name of a Service that exists.
    pub(crate) host: String,
    /// One of its ports.
    pub(crate) port: u16,
    /// A subset that a DestinationRule has for it.
    pub(crate) subset: Option<String>,
    pub(crate) weight: u32,
}

/// How requests to a host are treated, merged from all DestinationRules of one namespace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DestinationRule {
    pub(crate) namespace: String,
    /// A full name or a wildcard.
    pub(crate) host: String,
    pub(crate) policy: Option<api::TrafficPolicy>,
    pub(crate) subsets: Vec<Subset>,
}

/// Some of a Service's pods.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Subset {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) policy: Option<api::TrafficPolicy>,
}

pub(crate) fn gateways(objects: &[Object<api::Gateway>]) -> Vec<Gateway> {
    let gateways = objects.iter().map(|gateway| Gateway {
        name: format!("{}/{}", gateway.namespace, gateway.name),
        namespace: gateway.namespace.clone(),
        servers: gateway
            .spec
            .servers
            .iter()
            .map(|server| Server {
                number: server.port.number,
                hosts: server.hosts.clone(),
            })
            .collect(),
    });
    gateways.collect()
}

/// Who serves which Gateways. The objects are those that `gateways` were made of.
pub(crate) fn listeners(
    objects: &[Object<api::Gateway>],
    workloads: &[Workload],
    services: &BTreeMap<String, Service>,
    problems: &mut Vec<Problem>,
) -> Vec<Listener> {
    let mut listeners: BTreeMap<(usize, u16), Vec<(usize, usize)>> = BTreeMap::new();
    for (gateway, object) in objects.iter().enumerate() {
        let selector = &object.spec.selector;
        let selected: Vec<usize> = (0..workloads.len())
            .filter(|index| {
                let labels = &workloads[*index].labels;
                workloads[*index].role == Role::Gateway
                    && selector
                        .iter()
                        .all(|(name, value)| labels.get(name) == Some(value))
            })
            .collect();
        if selected.is_empty() {
            problems.push(object.source.problem(
                "spec.selector",
                "selects no gateway; there must be a Deployment whose pods have these labels and the annotation \
                 inject.istio.io/templates: gateway",
            ));
        }
        if object.spec.servers.is_empty() {
            problems.push(
                object
                    .source
                    .invalid("spec.servers", "is empty, write at least one server"),
            );
        }
        for (index, server) in object.spec.servers.iter().enumerate() {
            if server.hosts.is_empty() {
                problems.push(object.source.invalid(
                    &format!("spec.servers[{index}].hosts"),
                    "is empty, write \"*\" for any host",
                ));
            }
            for workload in &selected {
                let port = target_port(server.port.number, *workload, services);
                listeners
                    .entry((*workload, port))
                    .or_default()
                    .push((gateway, index));
            }
        }
    }
    let listeners = listeners
        .into_iter()
        .map(|((workload, port), servers)| Listener {
            workload,
            port,
            servers,
        });
    listeners.collect()
}

/// A Gateway's port is that of a Service in front of the gateway, if there is one, and the gateway listens on what that
/// Service targets; else on the port itself.
fn target_port(number: u16, workload: usize, services: &BTreeMap<String, Service>) -> u16 {
    let ports = services
        .values()
        .flat_map(|service| &service.ports)
        .filter(|port| port.number == number);
    let mut targets = ports
        .flat_map(|port| &port.targets)
        .filter(|target| target.workload == workload);
    targets.next().map_or(number, |target| target.port)
}

/// The Gateway's full name, from what a VirtualService of a namespace calls it: `name`, `namespace/name`, `./name`, or as in
/// old manifests `name.namespace.svc.cluster.local`.
fn gateway_name(name: &str, namespace: &str) -> String {
    match (name.split_once('/'), name.split_once('.')) {
        (Some((".", name)), _) => format!("{namespace}/{name}"),
        (Some(_), _) => name.to_owned(),
        (None, Some((name, rest))) => {
            format!("{}/{name}", rest.split('.').next().unwrap_or_default())
        }
        (None, None) => format!("{namespace}/{name}"),
    }
}

pub(crate) fn destination_rules(
    objects: &[Object<api::DestinationRule>],
    services: &BTreeMap<String, Service>,
    problems: &mut Vec<Problem>,
) -> Vec<DestinationRule> {
    let mut rules: Vec<DestinationRule> = Vec::new();
    for object in objects {
        let host = host::resolve(&object.spec.host, &object.namespace);
        if !services
            .keys()
            .any(|service| host::subset_of(service, &host))
        {
            problems.push(object.source.problem(
                "spec.host",
                unknown_host(&object.spec.host, &host, services),
            ));
        }
        let existing = rules
            .iter()
            .position(|rule| rule.namespace == object.namespace && rule.host == host);
        let index = existing.unwrap_or_else(|| {
            let namespace = object.namespace.clone();
            rules.push(DestinationRule {
                namespace,
                host,
                policy: None,
                subsets: Vec::new(),
            });
            rules.len() - 1
        });
        let rule = &mut rules[index];
        check_policy(
            object.spec.traffic_policy.as_ref(),
            "spec.trafficPolicy",
            &object.source,
            problems,
        );
        if let Some(policy) = &object.spec.traffic_policy {
            if rule.policy.is_some() {
                problems.push(object.source.problem(
                    "spec.trafficPolicy",
                    format!(
                        "another DestinationRule of {} has a trafficPolicy for {} already; Istio takes that of the oldest \
                         and ignores the others",
                        object.namespace, rule.host
                    ),
                ));
            } else {
                rule.policy = Some(policy.clone());
            }
        }
        for (index, subset) in object.spec.subsets.iter().enumerate() {
            if rule.subsets.iter().any(|other| other.name == subset.name) {
                problems.push(object.source.problem(
                    &format!("spec.subsets[{index}].name"),
                    format!(
                        "there is another subset {:?} of {}; Istio takes one of them",
                        subset.name, rule.host
                    ),
                ));
                continue;
            }
            // Istio's rule for the name, which becomes a part of a name in TLS.
            let name = subset.name.as_bytes();
            if name.is_empty()
                || name.len() > 63
                || name.starts_with(b"-")
                || name.ends_with(b"-")
                || !name
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            {
                problems.push(object.source.invalid(
                    &format!("spec.subsets[{index}].name"),
                    format!(
                        "{:?} is not a name; write letters, digits and dashes between them, at most 63",
                        subset.name
                    ),
                ));
            }
            check_policy(
                subset.traffic_policy.as_ref(),
                &format!("spec.subsets[{index}].trafficPolicy"),
                &object.source,
                problems,
            );
            rule.subsets.push(Subset {
                name: subset.name.clone(),
                labels: subset.labels.clone(),
                policy: subset.traffic_policy.clone(),
            });
        }
    }
    rules
}

/// Istio refuses policies that say nothing.
fn check_policy(
    policy: Option<&api::TrafficPolicy>,
    field: &str,
    source: &Source,
    problems: &mut Vec<Problem>,
) {
    let Some(policy) = policy else { return };
    if *policy == api::TrafficPolicy::default() {
        problems.push(source.invalid(
            field,
            "is empty, write loadBalancer, connectionPool, outlierDetection or tls, or leave it out",
        ));
    }
    if policy.connection_pool == Some(api::ConnectionPoolSettings::default()) {
        problems.push(source.invalid(
            &format!("{field}.connectionPool"),
            "is empty, write tcp, http or both, or leave it out",
        ));
    }
}

/// The rule for a Service as pods of a namespace see it: their own namespace's, else that of the Service's namespace, else
/// the root namespace's; in each the one with the most specific host. What gateways of the root namespace see begins with
/// the Service's namespace, so that rules which the root namespace has for everybody do not win there.
pub(crate) fn rule_for<'a>(
    rules: &'a [DestinationRule],
    service: &Service,
    client_namespace: &str,
) -> Option<&'a DestinationRule> {
    let namespaces = [client_namespace, &service.namespace, ROOT_NAMESPACE];
    let namespaces = namespaces
        .iter()
        .skip(usize::from(client_namespace == ROOT_NAMESPACE));
    namespaces.into_iter().find_map(|namespace| {
        let covering = rules.iter().filter(|rule| {
            rule.namespace == **namespace && host::subset_of(&service.host, &rule.host)
        });
        covering.min_by(|a, b| host::by_specificity(&a.host, &b.host))
    })
}

fn unknown_host(written: &str, host: &str, services: &BTreeMap<String, Service>) -> String {
    if written == host && !host.ends_with(host::CLUSTER_DOMAIN) && !host::is_wildcard(host) {
        let name = written.split('.').next().unwrap_or_default();
        if let Some(meant) = services.values().find(|service| service.name == name) {
            return format!(
                "there is no Service {written:?}; Istio takes a name with a dot as complete, write \
                 {:?}",
                meant.host
            );
        }
    }
    match nearest(host, services.keys().map(String::as_str)) {
        Some(meant) => format!("there is no Service {host:?}, did you mean {meant:?}?"),
        None => format!(
            "there is no Service {host:?}; there are {}",
            quoted_list(services.keys())
        ),
    }
}

/// What VirtualServices are resolved against.
pub(crate) struct Known<'a> {
    pub(crate) workloads: &'a [Workload],
    pub(crate) services: &'a BTreeMap<String, Service>,
    pub(crate) gateways: &'a [Gateway],
    pub(crate) listeners: &'a [Listener],
    pub(crate) rules: &'a [DestinationRule],
}

pub(crate) fn virtual_services(
    objects: &[Object<api::VirtualService>],
    known: &Known,
    problems: &mut Vec<Problem>,
) -> Vec<VirtualService> {
    let mut all: Vec<VirtualService> = Vec::new();
    for object in objects {
        let virtual_service = virtual_service(object, known, problems);
        if virtual_service.mesh {
            for (index, host) in virtual_service.hosts.iter().enumerate() {
                if let Some(other) = all
                    .iter()
                    .find(|other| other.mesh && other.hosts.contains(host))
                {
                    problems.push(object.source.problem(
                        &format!("spec.hosts[{index}]"),
                        format!(
                            "the VirtualService {}/{} has routes of {host} for sidecars already; Istio takes the oldest of \
                             them and ignores the others",
                            other.namespace, other.name
                        ),
                    ));
                }
            }
        }
        all.push(virtual_service);
    }
    all
}

fn virtual_service(
    object: &Object<api::VirtualService>,
    known: &Known,
    problems: &mut Vec<Problem>,
) -> VirtualService {
    let (source, spec) = (&object.source, &object.spec);
    let mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == MESH);
    let hosts: Vec<String> = spec
        .hosts
        .iter()
        .map(|host| host::resolve(host, &object.namespace))
        .collect();
    if hosts.is_empty() {
        problems.push(source.invalid(
            "spec.hosts",
            "is empty, write the Service or the host that the routes are for",
        ));
    }
    for (index, host) in hosts.iter().enumerate() {
        if hosts[..index].contains(host) {
            problems.push(source.invalid(
                &format!("spec.hosts[{index}]"),
                format!("{host:?} is there twice"),
            ));
        }
        if !mesh {
            continue;
        }
        if host == "*" {
            problems.push(source.problem(
                &format!("spec.hosts[{index}]"),
                "Istio refuses \"*\" in a VirtualService for sidecars; name the Services, and write a VirtualService of its \
                 own for the gateway",
            ));
        } else if !known
            .services
            .keys()
            .any(|service| host::subset_of(service, host))
        {
            // Istio would make routes that no request can reach.
            problems.push(source.problem(
                &format!("spec.hosts[{index}]"),
                unknown_host(&spec.hosts[index], host, known.services),
            ));
        }
    }

    let mut gateways = Vec::new();
    for (index, written) in spec
        .gateways
        .iter()
        .enumerate()
        .filter(|(_, gateway)| *gateway != MESH)
    {
        let field = format!("spec.gateways[{index}]");
        let name = gateway_name(written, &object.namespace);
        match known.gateways.iter().find(|gateway| gateway.name == name) {
            None => problems.push(source.problem(
                &field,
                format!(
                    "there is no Gateway {name}; there are {}",
                    quoted_list(known.gateways.iter().map(|gateway| &gateway.name))
                ),
            )),
            Some(gateway) => {
                let opened: Vec<String> = gateway
                    .servers
                    .iter()
                    .flat_map(|server| {
                        host::of_server(&server.hosts, &gateway.namespace, &object.namespace)
                    })
                    .collect();
                if host::intersection(&opened, &hosts).is_empty() && !hosts.is_empty() {
                    problems.push(source.problem(
                        "spec.hosts",
                        format!(
                            "the Gateway {name} opens none of {}; to VirtualServices of {} it \
                             opens {}",
                            quoted_list(&hosts),
                            object.namespace,
                            quoted_list(&opened)
                        ),
                    ));
                }
                gateways.push(name);
            }
        }
    }

    // Whose proxies get the routes: a subset has to exist for all of them.
    let mut clients: Vec<&str> = Vec::new();
    for (index, workload) in known.workloads.iter().enumerate() {
        let bound = known.listeners.iter().any(|listener| {
            listener.workload == index
                && listener
                    .servers
                    .iter()
                    .any(|(gateway, _)| gateways.contains(&known.gateways[*gateway].name))
        });
        if (bound || mesh && workload.role == Role::Sidecar)
            && !clients.contains(&workload.namespace.as_str())
        {
            clients.push(&workload.namespace);
        }
    }

    if spec.http.is_empty() {
        problems.push(source.invalid("spec.http", "is empty, write at least one route"));
    }
    let routes = spec.http.iter().enumerate().map(|(index, route)| {
        let field = format!("spec.http[{index}]");
        let destinations = destinations(route, &field, object, &clients, known, problems);
        check_headers(route, &field, source, problems);
        check_matches(route, &field, source, problems);
        Route {
            name: route.name.clone(),
            matches: route.matches.clone(),
            destinations,
            timeout: route.timeout,
            retries: route.retries.clone(),
            rewrite: route.rewrite.clone(),
            fault: route.fault.clone(),
            headers: route.headers.clone(),
        }
    });
    let routes = routes.collect();
    VirtualService {
        name: object.name.clone(),
        namespace: object.namespace.clone(),
        hosts,
        mesh,
        gateways,
        routes,
    }
}

/// What looks like a header and is a claim to Istio would be a header that nobody sends.
fn check_matches(
    route: &api::HttpRoute,
    field: &str,
    source: &Source,
    problems: &mut Vec<Problem>,
) {
    for (index, wanted) in route.matches.iter().enumerate() {
        for (side, headers) in [
            ("headers", &wanted.headers),
            ("withoutHeaders", &wanted.without_headers),
        ] {
            for name in headers.keys().filter(|name| name.starts_with('@')) {
                problems.push(source.unimplemented(
                    &join(&format!("{field}.match[{index}].{side}"), name),
                    "routing by claims is not implemented by the local mesh yet; have the RequestAuthentication pass the claim on \
                     (outputClaimToHeaders), and match that header",
                ));
            }
        }
    }
}

/// Whether a header is the authority, which Envoy rewrites in its own way.
pub(crate) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// What Istio refuses of `headers`, and what Envoy would.
fn check_headers(
    route: &api::HttpRoute,
    field: &str,
    source: &Source,
    problems: &mut Vec<Problem>,
) {
    let Some(headers) = &route.headers else {
        return;
    };
    let mut authority = route
        .rewrite
        .as_ref()
        .is_some_and(|rewrite| rewrite.authority.is_some());
    for (side, operations) in [
        ("request", &headers.request),
        ("response", &headers.response),
    ] {
        let field = format!("{field}.headers.{side}");
        let set = operations.set.keys().map(|name| ("set", name));
        let add = operations.add.keys().map(|name| ("add", name));
        for (operation, name) in set.chain(add) {
            let place = join(&format!("{field}.{operation}"), name);
            if side == "request" && is_authority(name) {
                if authority {
                    problems.push(
                        source.problem(&place, "the authority is rewritten already, write it once"),
                    );
                }
                authority = true;
            } else if let Some(message) = bad_header(name) {
                problems.push(source.problem(&place, message));
            }
        }
        for (index, name) in operations.remove.iter().enumerate() {
            if let Some(message) = bad_header(name) {
                problems.push(source.problem(&format!("{field}.remove[{index}]"), message));
            }
        }
    }
}

fn bad_header(name: &str) -> Option<String> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Some(format!("{name:?} cannot be changed in this way"));
    }
    let is_token = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    (!is_token).then(|| format!("{name:?} is not the name of a header"))
}

fn destinations(
    route: &api::HttpRoute,
    field: &str,
    object: &Object<api::VirtualService>,
    clients: &[&str],
    known: &Known,
    problems: &mut Vec<Problem>,
) -> Vec<Destination> {
    let source = &object.source;
    if route.route.is_empty() {
        problems.push(source.invalid(
            &format!("{field}.route"),
            "is empty, write at least one destination",
        ));
    }
    let weights: u64 = route
        .route
        .iter()
        .map(|destination| u64::from(destination.weight.unwrap_or(0)))
        .sum();
    if route.route.len() > 1 && weights == 0 {
        problems.push(source.problem(
            &format!("{field}.route"),
            "the weights of its destinations are 0 in all, so no request could go anywhere; write \
             weights, 90 and 10 say",
        ));
    } else if weights > u64::from(u32::MAX) {
        problems.push(source.problem(
            &format!("{field}.route"),
            format!(
                "the weights of its destinations are {weights} in all, more than Envoy's {}",
                u32::MAX
            ),
        ));
    }
    let destinations =
        route
            .route
            .iter()
            .enumerate()
            .filter_map(|(index, weighted)| {
                let field = format!("{field}.route[{index}].destination");
                let destination = &weighted.destination;
                let host = host::resolve(&destination.host, &object.namespace);
                let Some(service) = known.services.get(&host) else {
                    let message = unknown_host(&destination.host, &host, known.services);
                    problems.push(source.problem(&format!("{field}.host"), message));
                    return None;
                };
                let port = match (&destination.port, service.ports.as_slice()) {
                    (Some(port), _) if service.port(port.number).is_none() => {
                        problems.push(source.problem(
                            &format!("{field}.port.number"),
                            format!(
                                "the Service {host} has no port {}; it has {}",
                                port.number,
                                service.port_numbers()
                            ),
                        ));
                        return None;
                    }
                    (Some(port), _) => port.number,
                    (None, [only]) => only.number,
                    (None, _) => {
                        problems.push(source.problem(
                            &format!("{field}.port"),
                            format!(
                                "the Service {host} has several ports, write which: {}",
                                service.port_numbers()
                            ),
                        ));
                        return None;
                    }
                };
                if service
                    .port(port)
                    .is_some_and(|port| !port.protocol.is_http())
                {
                    problems.push(source.problem(
                &format!("{field}.port"),
                format!("port {port} of {host} is not HTTP as its name says, so no HTTP request \
                     can go there"),
            ));
                    return None;
                }
                if let Some(subset) = &destination.subset {
                    for client in clients {
                        let rule = rule_for(known.rules, service, client);
                        if rule.is_some_and(|rule| {
                            rule.subsets.iter().any(|known| known.name == *subset)
                        }) {
                            continue;
                        }
                        let there = match rule {
                            Some(rule) if !rule.subsets.is_empty() => {
                                format!(
                                    "there are {}",
                                    quoted_list(rule.subsets.iter().map(|subset| &subset.name))
                                )
                            }
                            Some(_) => "its DestinationRule has no subsets".to_owned(),
                            None => "there is no DestinationRule for it".to_owned(),
                        };
                        problems.push(source.problem(
                            &format!("{field}.subset"),
                            format!(
                                "to proxies of the namespace {client}, {host} has no subset \
                         {subset:?}; {there}"
                            ),
                        ));
                        return None;
                    }
                }
                let weight = weighted.weight.unwrap_or(0);
                Some(Destination {
                    host,
                    port,
                    subset: destination.subset.clone(),
                    weight,
                })
            });
    destinations.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_named_relative_to_the_virtual_service() {
        assert_eq!(gateway_name("edge", "ecommerce"), "ecommerce/edge");
        assert_eq!(
            gateway_name("istio-system/edge", "ecommerce"),
            "istio-system/edge"
        );
        assert_eq!(gateway_name("./edge", "ecommerce"), "ecommerce/edge");
        assert_eq!(
            gateway_name("edge.istio-system.svc.cluster.local", "ecommerce"),
            "istio-system/edge"
        );
        assert_eq!(
            gateway_name("edge.istio-system", "ecommerce"),
            "istio-system/edge"
        );
    }
}
