//! `apps/v1`: Deployments and StatefulSets.

use serde::Deserialize;

use super::{core, inert, meta};

/// The spec of a Deployment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentSpec {
    /// How many pods; 1 if unset.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// Which pods belong to it; must match the template's labels.
    pub selector: meta::LabelSelector,
    /// What its pods are.
    pub template: PodTemplateSpec,
    /// No effect on one machine: a Deployment does not roll there.
    #[serde(default)]
    pub strategy: Option<inert::DeploymentStrategy>,
    /// No effect on one machine.
    #[serde(default)]
    pub min_ready_seconds: Option<u32>,
    /// No effect on one machine.
    #[serde(default)]
    pub revision_history_limit: Option<u32>,
    /// No effect on one machine.
    #[serde(default)]
    pub progress_deadline_seconds: Option<u32>,
}

/// What the pods of a Deployment or StatefulSet are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodTemplateSpec {
    /// Their labels and annotations.
    #[serde(default)]
    pub metadata: meta::TemplateMeta,
    /// Their containers.
    pub spec: core::PodSpec,
}

/// The spec of a StatefulSet. The local mesh does not run it: what keeps data belongs to a cluster, and services have
/// databases of their own on one machine. It is read because Services lead to it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatefulSetSpec {
    /// How many pods; 1 if unset.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// The Service that gives its pods their names.
    #[serde(default)]
    pub service_name: Option<String>,
    /// Which pods belong to it; must match the template's labels.
    pub selector: meta::LabelSelector,
    /// What its pods are.
    pub template: PodTemplateSpec,
    /// No effect on one machine, as all below: the disks of its pods, and how they come and go.
    #[serde(default)]
    pub volume_claim_templates: Vec<inert::PersistentVolumeClaim>,
    /// No effect on one machine.
    #[serde(default)]
    pub pod_management_policy: Option<inert::PodManagementPolicy>,
    /// No effect on one machine.
    #[serde(default)]
    pub update_strategy: Option<inert::StatefulSetUpdateStrategy>,
    /// No effect on one machine.
    #[serde(default)]
    pub persistent_volume_claim_retention_policy:
        Option<inert::StatefulSetPersistentVolumeClaimRetentionPolicy>,
    /// No effect on one machine.
    #[serde(default)]
    pub min_ready_seconds: Option<u32>,
    /// No effect on one machine.
    #[serde(default)]
    pub revision_history_limit: Option<u32>,
}
