//! Services: their ports, what these speak, and which pods are behind them.

use std::collections::{BTreeMap, BTreeSet};

use super::host;
use super::workload::{Role, Workload};
use crate::api::core::ServiceSpec;
use crate::api::{self, IntOrString, Object};
use crate::problem::Problem;

/// A Service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its full name: `product-service.ecommerce.svc.cluster.local`.
    pub host: String,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Whether it has no address of its own (`clusterIP: None`) and only names its pods.
    pub headless: bool,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePort {
    /// Its number.
    pub number: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// The pods behind it.
    pub targets: Vec<Target>,
}

/// The pods of a workload, at the port to which a Service's port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Which of the mesh's workloads.
    pub workload: usize,
    /// Its container's port.
    pub port: u16,
}

/// What a port speaks, as Istio reads it from `appProtocol` or the port's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 (`http`, `http-…`).
    Http,
    /// HTTP/2 (`http2`, `grpc`).
    Http2,
    /// Not said. Istio looks at the first bytes; the local mesh takes it for HTTP, in the version the client uses.
    Unknown,
    /// Bytes (`tcp`, `tls`, `https`, databases).
    Tcp,
}

impl Protocol {
    /// Whether requests to it can be routed.
    pub fn is_http(self) -> bool {
        self != Self::Tcp
    }

    fn parse(port: &api::core::ServicePort) -> Option<Self> {
        let name = match port.app_protocol.as_deref() {
            Some("kubernetes.io/h2c") => return Some(Self::Http2),
            Some("kubernetes.io/ws") => return Some(Self::Http),
            Some("kubernetes.io/wss") => return Some(Self::Tcp),
            Some(protocol) => Some(protocol),
            None => port.name.as_deref(),
        };
        let name = name.unwrap_or_default().to_ascii_lowercase();
        if name.starts_with("grpc-web") {
            return None;
        }
        Some(match name.split('-').next().unwrap_or_default() {
            "http" => Self::Http,
            "http2" | "grpc" => Self::Http2,
            "tcp" | "tls" | "https" | "mongo" | "redis" | "mysql" => Self::Tcp,
            // Ports that Istio takes for TCP if nothing else is said: SMTP, DNS, MySQL, MongoDB.
            _ if [25, 53, 3306, 27017].contains(&port.port) => Self::Tcp,
            _ => Self::Unknown,
        })
    }
}

impl Service {
    /// One of its ports.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// For messages: `3001, 9090`.
    pub(crate) fn port_numbers(&self) -> String {
        let numbers: Vec<String> = self
            .ports
            .iter()
            .map(|port| port.number.to_string())
            .collect();
        if numbers.is_empty() {
            "no ports".to_owned()
        } else {
            numbers.join(", ")
        }
    }

    /// The identities of the pods behind it. As in Istio, those of all its ports and subsets.
    pub(crate) fn identities(&self, workloads: &[Workload]) -> BTreeSet<String> {
        let targets = self.ports.iter().flat_map(|port| &port.targets);
        targets
            .map(|target| workloads[target.workload].identity())
            .collect()
    }
}

pub(crate) fn build(
    services: &[Object<ServiceSpec>],
    workloads: &[Workload],
    stateful_sets: &[Workload],
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Service> {
    let services = services.iter().map(|service| {
        let host = host::service(&service.name, &service.namespace);
        let built = build_one(service, host.clone(), workloads, stateful_sets, problems);
        (host, built)
    });
    services.collect()
}

fn build_one(
    service: &Object<ServiceSpec>,
    host: String,
    workloads: &[Workload],
    stateful_sets: &[Workload],
    problems: &mut Vec<Problem>,
) -> Service {
    let source = &service.source;
    if service.spec.selector.is_empty() {
        problems.push(source.unimplemented(
            "spec.selector",
            "a Service without selector is not implemented by the local mesh; write the labels of \
             the pods behind it",
        ));
    }
    let selects = |workload: &Workload| {
        !service.spec.selector.is_empty()
            && workload.namespace == service.namespace
            && service
                .spec
                .selector
                .iter()
                .all(|(name, value)| workload.labels.get(name) == Some(value))
    };
    let selected: Vec<(usize, &Workload)> = workloads
        .iter()
        .enumerate()
        .filter(|(_, workload)| selects(workload))
        .collect();

    let elsewhere: Vec<&Workload> = stateful_sets.iter().filter(|set| selects(set)).collect();
    let headless = service.spec.cluster_ip.is_some();

    let mut ports: Vec<ServicePort> = Vec::new();
    for (index, port) in service.spec.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        if ports.iter().any(|other| other.number == port.port) {
            problems.push(source.invalid(
                &format!("{field}.port"),
                format!("{} is there twice", port.port),
            ));
            continue;
        }
        let said_in = if port.app_protocol.is_some() {
            "appProtocol"
        } else {
            "name"
        };
        let protocol = Protocol::parse(port).unwrap_or_else(|| {
            problems.push(source.unimplemented(
                &format!("{field}.{said_in}"),
                "grpc-web is not implemented by the local mesh; write http or grpc",
            ));
            Protocol::Http
        });
        let wanted = port
            .target_port
            .clone()
            .unwrap_or(IntOrString::Int(i64::from(port.port)));
        let wanted_in = match port.target_port {
            Some(_) => format!("{field}.targetPort"),
            None => format!("{field}.port"),
        };
        let mut targets = Vec::new();
        for (workload, found) in &selected {
            let target = match (&wanted, found.role) {
                // A gateway's ports are what Gateways make it listen on, declared by nobody.
                (IntOrString::Int(number), Role::Gateway) => u16::try_from(*number).ok(),
                _ => found.port(&wanted),
            };
            match target {
                Some(port) => targets.push(Target {
                    workload: *workload,
                    port,
                }),
                None => problems.push(source.problem(&wanted_in, not_declared(&wanted, found))),
            }
            if protocol == Protocol::Tcp && found.role == Role::Sidecar {
                problems.push(source.unimplemented(
                    &format!("{field}.{said_in}"),
                    format!(
                        "the local mesh routes only HTTP, and the pods of {} have a sidecar; write http for HTTP, or label \
                         the pods sidecar.istio.io/inject: \"false\"",
                        found.name
                    ),
                ));
            }
        }
        for set in &elsewhere {
            if set.port(&wanted).is_none() {
                problems.push(source.problem(&wanted_in, not_declared(&wanted, set)));
            }
            if protocol.is_http() {
                problems.push(source.unimplemented(
                    &format!("{field}.{said_in}"),
                    format!(
                        "the local mesh does not run the StatefulSet {}, so no HTTP request to it could be answered; name \
                         the port tcp-… if it is a database, or write a Deployment",
                        set.name
                    ),
                ));
            }
        }
        if headless && protocol.is_http() && elsewhere.is_empty() {
            problems.push(source.unimplemented(
                "spec.clusterIP",
                "a Service that only names its pods is not implemented for HTTP by the local mesh; leave clusterIP out",
            ));
        }
        ports.push(ServicePort {
            number: port.port,
            protocol,
            targets,
        });
    }
    Service {
        name: service.name.clone(),
        namespace: service.namespace.clone(),
        host,
        ports,
        headless,
    }
}

fn not_declared(wanted: &IntOrString, workload: &Workload) -> String {
    format!(
        "{wanted} is not a port of the pods of {}, which declare {}; declare it there under containers[].ports",
        workload.name,
        workload.port_names()
    )
}
