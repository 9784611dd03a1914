//! `extensions.istio.io`: WasmPlugin.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::inert;
use super::meta::LabelSelector;

/// A filter in WebAssembly for the proxies of its namespace, or of all namespaces if it is in the root namespace.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WasmPlugin {
    /// The proxies; all if unset.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// Where the module is: `oci://registry/path/module:tag` (also without scheme). Its last path segment names the module
    /// on one machine.
    pub url: String,
    /// The checksum of the image; there is no image on one machine, so it has no effect there.
    #[serde(default)]
    pub sha256: Option<String>,
    /// No effect on one machine: images are not pulled.
    #[serde(default)]
    pub image_pull_policy: Option<inert::WasmPullPolicy>,
    /// No effect on one machine: images are not pulled.
    #[serde(default)]
    pub image_pull_secret: Option<String>,
    /// What the module is told, kept as written.
    #[serde(default)]
    pub plugin_config: Option<Map<String, Value>>,
    /// The name of the plugin in the module (root id).
    #[serde(default)]
    pub plugin_name: Option<String>,
    /// Where in the chain of filters.
    #[serde(default)]
    pub phase: PluginPhase,
    /// The order in its phase: the highest first. Unset comes after every number, negative ones included.
    #[serde(default)]
    pub priority: Option<i32>,
    /// What happens to requests when the module fails.
    #[serde(default)]
    pub fail_strategy: FailStrategy,
    /// `match`: the traffic; one of them must hold, and without any it is all traffic.
    #[serde(default, rename = "match")]
    pub matches: Vec<TrafficSelector>,
    /// `type`: the kind of filter.
    #[serde(default, rename = "type")]
    pub plugin_type: PluginType,
    /// What the module's machine is given.
    #[serde(default)]
    pub vm_config: VmConfig,
}

/// What a module's machine is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmConfig {
    /// The environment of the module.
    #[serde(default)]
    pub env: Vec<EnvVar>,
}

/// A variable of a module's environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "WasmEnvVar", rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Where its value is.
    #[serde(default)]
    pub value_from: EnvValueSource,
    /// Its value, if it is here.
    #[serde(default)]
    pub value: String,
}

/// Where the value of a variable is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EnvValueSource {
    /// In the manifest.
    #[default]
    Inline,
    /// In the environment of the proxy, under the same name.
    Host,
}

/// Where in the chain of filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum PluginPhase {
    /// Before the authentication by JWT.
    #[serde(rename = "AUTHN")]
    Authn,
    /// After authentication, before authorization.
    #[serde(rename = "AUTHZ")]
    Authz,
    /// After authorization, before metrics.
    #[serde(rename = "STATS")]
    Stats,
    /// At the end, just before the router.
    #[default]
    #[serde(rename = "UNSPECIFIED_PHASE")]
    Unspecified,
}

/// What happens to requests when the module fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailStrategy {
    /// They are answered with an error.
    #[default]
    FailClose,
    /// They pass as if it were not there.
    FailOpen,
    /// The module is loaded again; answered with an error until then.
    FailReload,
}

/// Some of a proxy's traffic.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficSelector {
    /// In which direction.
    #[serde(default)]
    pub mode: WorkloadMode,
    /// To which ports; any if empty.
    #[serde(default)]
    pub ports: Vec<PortSelector>,
}

/// A direction of traffic, as seen from the proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// As CLIENT_AND_SERVER.
    Undefined,
    /// What leaves the workload; at a gateway all of it.
    Client,
    /// What comes to the workload.
    Server,
    /// Both.
    #[default]
    ClientAndServer,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortSelector {
    /// Its number.
    pub number: u16,
}

/// The kind of filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PluginType {
    /// As HTTP.
    UnspecifiedPluginType,
    /// A filter of HTTP requests.
    #[default]
    Http,
}
