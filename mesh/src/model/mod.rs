//! The mesh: what the manifests say, resolved and checked, so that writing a configuration from it cannot fail.
//!
//! What Istio would accept and then ignore (a host that no Service has, a selector that selects nothing, the second of two
//! policies for the same pods) is refused here: on one machine there is nobody who could still add the missing half.
//!
//! Where Istio's order depends on the age of objects, all objects count as created at the same moment, and what istiod does
//! then applies: by name, then by namespace.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Object, Objects};
use crate::problem::{Problem, Problems};
use crate::source::Source;

pub(crate) mod authentication;
pub(crate) mod authorization;
mod buckets;
mod headers;
pub(crate) mod host;
pub(crate) mod peer;
pub(crate) mod plugin;
pub(crate) mod proxy_config;
mod reach;
pub(crate) mod routing;
pub(crate) mod service;
pub(crate) mod stats;
pub(crate) mod topology;
pub(crate) mod workload;

pub use authentication::Authentication;
pub use authorization::Policy;
pub use buckets::Buckets;
pub use headers::LeftToClients;
pub use host::CLUSTER_DOMAIN;
pub use peer::MutualTls;
pub use plugin::{Passage, Plugin, Traffic};
pub use routing::{Gateway, VirtualService};
pub use service::{Protocol, Service, ServicePort, Target};
pub use stats::ExportedStats;
pub use topology::Topology;
pub use workload::{
    Container, ContainerPort, DATABASE_URL, HttpProbe, Image, PROXY, PodName, Role, Workload,
};

/// The namespace whose plugins and policies are for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// A mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// What runs.
    pub workloads: Vec<Workload>,
    /// StatefulSets, which do not run on one machine: nothing has their ports, and Services lead to none of their pods.
    pub stateful_sets: Vec<Workload>,
    /// Services by full name.
    pub services: BTreeMap<String, Service>,
    /// Gateways, in the order of their age.
    pub gateways: Vec<Gateway>,
    /// VirtualServices, in the order of their age.
    pub virtual_services: Vec<VirtualService>,
    /// WasmPlugins, in the order of their age.
    pub plugins: Vec<Plugin>,
    /// RequestAuthentications, in the order of their age.
    pub authentications: Vec<Authentication>,
    /// AuthorizationPolicies, in the order of their age.
    pub policies: Vec<Policy>,
    pub(crate) rules: Vec<routing::DestinationRule>,
    pub(crate) listeners: Vec<routing::Listener>,
}

impl Mesh {
    /// Resolves the objects of some manifests.
    pub fn build(mut objects: Objects) -> Result<Self, Problems> {
        by_age(&mut objects.gateways);
        by_age(&mut objects.virtual_services);
        by_age(&mut objects.destination_rules);
        by_age(&mut objects.peer_authentications);
        by_age(&mut objects.request_authentications);
        by_age(&mut objects.authorization_policies);
        by_age(&mut objects.wasm_plugins);
        by_age(&mut objects.deployments);
        by_age(&mut objects.stateful_sets);
        let objects = objects;
        let mut problems = Vec::new();

        for namespace in &objects.namespaces {
            workload::check_namespace(namespace, &mut problems);
        }
        let mut workloads: Vec<Workload> = objects
            .deployments
            .iter()
            .map(|deployment| workload::of_deployment(deployment, &objects, &mut problems))
            .collect();
        let stateful_sets: Vec<Workload> = objects
            .stateful_sets
            .iter()
            .map(|set| workload::of_stateful_set(set, &objects, &mut problems))
            .collect();
        let deployments = objects.deployments.iter().map(|object| &object.source);
        let sets = objects.stateful_sets.iter().map(|object| &object.source);
        let described = deployments.zip(&workloads).chain(sets.zip(&stateful_sets));
        check_service_accounts(&objects, described, &mut problems);
        peer::apply(&objects.peer_authentications, &mut workloads, &mut problems);

        let services = service::build(&objects.services, &workloads, &stateful_sets, &mut problems);
        let gateways = routing::gateways(&objects.gateways);
        let listeners = routing::listeners(&objects.gateways, &workloads, &services, &mut problems);
        for listener in &listeners {
            workloads[listener.workload]
                .gateway_ports
                .push(listener.port);
        }
        let rules =
            routing::destination_rules(&objects.destination_rules, &services, &mut problems);
        let known = routing::Known {
            workloads: &workloads,
            services: &services,
            gateways: &gateways,
            listeners: &listeners,
            rules: &rules,
        };
        let virtual_services =
            routing::virtual_services(&objects.virtual_services, &known, &mut problems);
        let plugins = plugin::build(
            &objects.wasm_plugins,
            &workloads,
            services.values(),
            &mut problems,
        );
        let authentications =
            authentication::build(&objects.request_authentications, &workloads, &mut problems);
        let policies = authorization::build(&objects, &workloads, &mut problems);

        Problems::or(
            problems,
            Self {
                workloads,
                stateful_sets,
                services,
                gateways,
                virtual_services,
                plugins,
                authentications,
                policies,
                rules,
                listeners,
            },
        )
    }

    /// What the policies say of somebody whom these manifests, which the mesh was built from, do not have: it may be meant so.
    pub fn doubts(&self, objects: &Objects) -> Vec<Problem> {
        authorization::doubts(objects, &self.workloads)
    }

    /// The workload of a pod.
    pub fn workload_of(&self, pod: &PodName) -> Option<&Workload> {
        self.index_of(pod).map(|index| &self.workloads[index])
    }

    pub(crate) fn index_of(&self, pod: &PodName) -> Option<usize> {
        self.workloads
            .iter()
            .position(|workload| workload.pods().contains(pod))
    }

    /// The modules that its plugins need.
    pub fn modules(&self) -> BTreeSet<&str> {
        self.plugins
            .iter()
            .map(|plugin| plugin.module.as_str())
            .collect()
    }
}

fn by_age<T>(objects: &mut [Object<T>]) {
    objects.sort_by(|a, b| (&a.name, &a.namespace).cmp(&(&b.name, &b.namespace)));
}

/// Without their ServiceAccount Deployments and StatefulSets have no pods on a cluster. Every namespace has the one named
/// `default`.
fn check_service_accounts<'a>(
    objects: &Objects,
    described: impl Iterator<Item = (&'a Source, &'a Workload)>,
    problems: &mut Vec<Problem>,
) {
    for (source, workload) in described {
        let exists = objects.service_accounts.iter().any(|account| {
            account.name == workload.service_account && account.namespace == workload.namespace
        });
        if !exists && workload.service_account != "default" {
            problems.push(source.problem(
                "spec.template.spec.serviceAccountName",
                format!(
                    "there is no ServiceAccount {} in the namespace {}",
                    workload.service_account, workload.namespace
                ),
            ));
        }
    }
}

/// For messages: `"a", "b"`.
fn quoted_list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("{:?}", name.as_ref()))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
