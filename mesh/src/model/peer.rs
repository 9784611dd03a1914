//! What sidecars demand of who connects: PeerAuthentication, from the widest to the narrowest.

use std::collections::BTreeMap;

use super::ROOT_NAMESPACE;
use super::workload::{Role, Workload};
use crate::api::Object;
use crate::api::security::{MtlsMode, PeerAuthentication};
use crate::problem::Problem;

/// What a sidecar demands of who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutualTls {
    /// A certificate of the mesh.
    Strict,
    /// A certificate of the mesh, or a plain connection.
    Permissive,
    /// A plain connection.
    Disable,
}

/// What a policy is for. That of the root namespace is for the whole mesh.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Namespace(String),
    Workload(usize),
}

/// Sets the demand of every workload: that of its own policy, else its namespace's, else the mesh's, else PERMISSIVE.
pub(crate) fn apply(
    policies: &[Object<PeerAuthentication>],
    workloads: &mut [Workload],
    problems: &mut Vec<Problem>,
) {
    let mut decided: BTreeMap<Scope, &Object<PeerAuthentication>> = BTreeMap::new();
    for policy in policies {
        for scope in scopes(policy, workloads, problems) {
            let pods = match &scope {
                Scope::Namespace(namespace) => format!("all pods of the namespace {namespace}"),
                Scope::Workload(index) => format!("the pods of {}", workloads[*index].name),
            };
            // Manifests have no age, so which of them is the oldest cannot be known here.
            if let Some(other) = decided.insert(scope, policy) {
                problems.push(policy.source.problem(
                    "metadata.name",
                    format!(
                        "a second PeerAuthentication for {pods} beside {} ({}); Istio takes the \
                         oldest and ignores the others",
                        other.name, other.source
                    ),
                ));
            }
        }
    }
    let demand = |scope| {
        let mode = decided.get(&scope)?.spec.mtls.as_ref()?.mode;
        match mode {
            MtlsMode::Unset => None,
            MtlsMode::Strict => Some(MutualTls::Strict),
            MtlsMode::Permissive => Some(MutualTls::Permissive),
            MtlsMode::Disable => Some(MutualTls::Disable),
        }
    };
    for (index, workload) in workloads.iter_mut().enumerate() {
        workload.mutual_tls = demand(Scope::Workload(index))
            .or_else(|| demand(Scope::Namespace(workload.namespace.clone())))
            .or_else(|| demand(Scope::Namespace(ROOT_NAMESPACE.to_owned())))
            .unwrap_or(MutualTls::Permissive);
    }
}

fn scopes(
    policy: &Object<PeerAuthentication>,
    workloads: &[Workload],
    problems: &mut Vec<Problem>,
) -> Vec<Scope> {
    let Some(selector) = policy
        .spec
        .selector
        .as_ref()
        .filter(|selector| !selector.match_labels.is_empty())
    else {
        return vec![Scope::Namespace(policy.namespace.clone())];
    };
    if policy.namespace == ROOT_NAMESPACE {
        problems.push(policy.source.problem(
            "spec.selector",
            format!(
                "Istio ignores a PeerAuthentication that has a selector in {ROOT_NAMESPACE}; put it into the namespace of \
                 the pods"
            ),
        ));
        return Vec::new();
    }
    let of_workload = |(index, workload): (usize, &Workload)| {
        let selected = workload.namespace == policy.namespace && selector.matches(&workload.labels);
        (selected && workload.role == Role::Sidecar).then_some(Scope::Workload(index))
    };
    let scopes: Vec<Scope> = workloads
        .iter()
        .enumerate()
        .filter_map(of_workload)
        .collect();
    if scopes.is_empty() {
        problems.push(policy.source.problem(
            "spec.selector.matchLabels",
            format!(
                "selects no pod with a sidecar in the namespace {}",
                policy.namespace
            ),
        ));
    }
    scopes
}
