//! What all objects share: metadata and selectors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The metadata of an object.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectMeta {
    /// Its name, the only one of its kind in the namespace.
    pub name: String,
    /// Its namespace; `default` if unset.
    #[serde(default)]
    pub namespace: Option<String>,
    /// What selectors look at.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What tools look at.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Written by the API server, as are all below: they are in what `kubectl get -o yaml` prints. No effect on one machine.
    #[serde(default)]
    pub creation_timestamp: Option<String>,
    /// No effect on one machine.
    #[serde(default)]
    pub generation: Option<u64>,
    /// No effect on one machine.
    #[serde(default)]
    pub resource_version: Option<String>,
    /// No effect on one machine.
    #[serde(default)]
    pub uid: Option<String>,
    /// No effect on one machine.
    #[serde(default)]
    pub managed_fields: Option<Value>,
}

/// The metadata of a pod template, whose name and namespace come from its Deployment.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateMeta {
    /// What selectors look at.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What Istio looks at: `sidecar.istio.io/inject`, `sidecar.istio.io/extraStatTags`, ….
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Some generators write a null here. No effect on one machine.
    #[serde(default)]
    pub creation_timestamp: Option<String>,
}

/// Selects what has all of these labels.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// All of them must be there with this value.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
}

impl LabelSelector {
    /// Whether something with these labels is selected. An empty selector selects everything.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value))
    }
}
