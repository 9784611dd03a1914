//! `mesh.istio.io`: what a pod's annotation `proxy.istio.io/config` says of its proxy.

use serde::Deserialize;

use super::Regex;

/// How a proxy is set up, where it differs from the mesh's `defaultConfig`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyConfig {
    /// What stands before a gateway.
    #[serde(default)]
    pub gateway_topology: Option<Topology>,
    /// Which of its own stats it exports, beside those that Istio has every proxy export.
    #[serde(default)]
    pub proxy_stats_matcher: Option<ProxyStatsMatcher>,
    /// The names that become labels of Wasm metrics, beside those of the annotation for them.
    #[serde(default)]
    pub extra_stat_tags: Vec<String>,
    /// No effect on one machine: applications are started when their proxies serve.
    #[serde(default)]
    pub hold_application_until_proxy_starts: Option<bool>,
}

/// Names of stats, each by one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyStatsMatcher {
    /// How they begin.
    #[serde(default)]
    pub inclusion_prefixes: Vec<String>,
    /// How they end.
    #[serde(default)]
    pub inclusion_suffixes: Vec<String>,
    /// What they are as a whole.
    #[serde(default)]
    pub inclusion_regexps: Vec<Regex>,
}

/// What stands before a gateway.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// How many proxies before it are trusted to write into `X-Forwarded-For` who connected to them; 0 if unset.
    #[serde(default)]
    pub num_trusted_proxies: Option<u32>,
    /// What becomes of `X-Forwarded-Client-Cert`.
    #[serde(default)]
    pub forward_client_cert_details: ForwardClientCertDetails,
}

/// What a gateway makes of the `X-Forwarded-Client-Cert` that it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCertDetails {
    /// As if it were not written.
    Undefined,
    /// It is taken away.
    Sanitize,
    /// It is passed on where the client has a certificate.
    ForwardOnly,
    /// So it is, with that certificate added.
    AppendForward,
    /// It is taken away, and the client's certificate written.
    #[default]
    SanitizeSet,
    /// It is passed on, from whomever it is.
    AlwaysForwardOnly,
}
