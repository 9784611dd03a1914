//! Which workloads a policy of `security.istio.io` is for: its namespace's, or from the root namespace those of all; of
//! these, those that its selector selects.

use super::ROOT_NAMESPACE;
use super::workload::{Role, Workload};
use crate::api::Object;
use crate::api::meta::LabelSelector;
use crate::problem::Problem;

/// Whether a policy of this namespace with this selector is for a workload.
pub(super) fn reaches(namespace: &str, selector: &LabelSelector, workload: &Workload) -> bool {
    workload.role != Role::Plain
        && (namespace == workload.namespace || namespace == ROOT_NAMESPACE)
        && selector.matches(&workload.labels)
}

/// Says so if it is for nobody.
pub(super) fn check<T>(
    object: &Object<T>,
    selector: &LabelSelector,
    workloads: &[Workload],
    problems: &mut Vec<Problem>,
) {
    let namespace = &object.namespace;
    let mut reached = workloads
        .iter()
        .filter(|workload| reaches(namespace, selector, workload));
    // What is for the whole mesh is for whatever comes.
    let everywhere = namespace == ROOT_NAMESPACE && selector.match_labels.is_empty();
    if everywhere || reached.next().is_some() {
        return;
    }
    let where_ = if namespace == ROOT_NAMESPACE {
        "any namespace".to_owned()
    } else {
        format!("the namespace {namespace}")
    };
    problems.push(if selector.match_labels.is_empty() {
        let message = format!("is for nobody: no pod of {where_} has a proxy");
        object.source.problem("metadata.namespace", message)
    } else {
        let message = format!("selects no pod with a proxy in {where_}");
        object.source.problem("spec.selector.matchLabels", message)
    });
}
