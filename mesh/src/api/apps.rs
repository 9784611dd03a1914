//! `apps/v1`: Deployments.

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

/// What a Deployment's pods are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodTemplateSpec {
    /// Their labels and annotations.
    #[serde(default)]
    pub metadata: meta::TemplateMeta,
    /// Their containers.
    pub spec: core::PodSpec,
}
