//! `security.istio.io`: PeerAuthentication.

use serde::Deserialize;

use super::meta::LabelSelector;

/// Whether workloads take plain connections. In the root namespace and without selector it is for the whole mesh; without
/// selector for its namespace; else for what it selects in its namespace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerAuthentication {
    /// The workloads.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// What they demand.
    #[serde(default)]
    pub mtls: Option<MutualTls>,
}

/// What workloads demand of who connects.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename = "MutualTLS", rename_all = "camelCase", deny_unknown_fields)]
pub struct MutualTls {
    /// The demand.
    #[serde(default)]
    pub mode: MtlsMode,
}

/// The demand on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename = "Mode", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MtlsMode {
    /// As the wider PeerAuthentication says; PERMISSIVE if there is none.
    #[default]
    Unset,
    /// Plain only.
    Disable,
    /// Plain and mutual TLS.
    Permissive,
    /// Mutual TLS only.
    Strict,
}
