//! Wasm filters: which plugins run in which proxy, on which traffic, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value};

use super::service::Service;
use super::workload::{Role, Workload};
use super::{Mesh, ROOT_NAMESPACE, authentication};
use crate::api::Object;
use crate::api::extensions::{
    EnvValueSource, FailStrategy, PluginPhase, TrafficSelector, WasmPlugin, WorkloadMode,
};
use crate::api::meta::LabelSelector;
use crate::problem::{Code, Problem};

/// The longest name and value of a variable that a cluster takes, in bytes.
const MAX_ENV_NAME: usize = 256;
const MAX_ENV_VALUE: usize = 2_048;

/// A WasmPlugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The name of its module: the last path segment of its `url`, without tag and digest.
    pub module: String,
    /// The name of the plugin in the module (root id).
    pub plugin_name: Option<String>,
    /// What the module is told, as JSON.
    pub configuration: Option<String>,
    /// What happens to requests when the module fails.
    pub fail_strategy: FailStrategy,
    /// What the module's environment has: names and values, and the names of what it has from the proxy's.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) host_env: Vec<String>,
    /// Where in the chain of filters it stands.
    pub phase: PluginPhase,
    pub(crate) priority: Option<i32>,
    selector: LabelSelector,
    matches: Vec<TrafficSelector>,
}

/// The traffic of a proxy, as plugins select it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// What comes to the application at a container's port.
    Inbound(u16),
    /// What leaves the application. All of it enters by one listener, so its port says nothing.
    Outbound,
    /// What comes to a gateway at a port. To plugins that is a client's side.
    Gateway(u16),
}

impl Plugin {
    /// `namespace.name`, by which Envoy and the module know it.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// Whether its module's environment is that of another plugin's.
    pub fn has_environment_of(&self, other: &Self) -> bool {
        self.env == other.env && self.host_env == other.host_env
    }

    /// Whether it runs in the proxies of a workload, if for some of their traffic alone.
    pub fn selects(&self, workload: &Workload) -> bool {
        workload.role != Role::Plain
            && (self.namespace == workload.namespace || self.namespace == ROOT_NAMESPACE)
            && self.selector.matches(&workload.labels)
    }

    fn takes(&self, traffic: Traffic) -> bool {
        let (side, port) = match traffic {
            Traffic::Inbound(port) => (WorkloadMode::Server, Some(port)),
            Traffic::Outbound => (WorkloadMode::Client, None),
            Traffic::Gateway(port) => (WorkloadMode::Client, Some(port)),
        };
        let holds = |wanted: &TrafficSelector| {
            let mode = wanted.mode == side
                || matches!(
                    wanted.mode,
                    WorkloadMode::Undefined | WorkloadMode::ClientAndServer
                );
            mode && (wanted.ports.is_empty()
                || wanted
                    .ports
                    .iter()
                    .any(|wanted| Some(wanted.number) == port))
        };
        self.matches.is_empty() || self.matches.iter().any(holds)
    }
}

/// What some traffic of a proxy passes.
#[derive(Debug, Clone)]
pub struct Passage<'a> {
    /// Whose proxy it is.
    pub workload: &'a Workload,
    /// Which of its traffic.
    pub traffic: Traffic,
    /// The plugins, in the order in which a request passes them.
    pub plugins: Vec<&'a Plugin>,
    /// Those whose tokens the proxy verifies, each once.
    pub issuers: BTreeSet<&'a str>,
    /// The headers that the proxy writes from these tokens, in lower case.
    pub written: BTreeSet<String>,
}

impl Mesh {
    /// What requests pass at each proxy that has plugins. Of ports with the same plugins in the same order the first alone.
    pub fn passages(&self) -> Vec<Passage<'_>> {
        let passages = self
            .workloads
            .iter()
            .flat_map(|workload| self.passages_of(workload));
        passages
            .filter(|passage| !passage.plugins.is_empty())
            .collect()
    }

    /// What requests pass at the proxy of a workload, be it nothing. Of ports with the same plugins in the same order the first alone.
    pub fn passages_of<'a>(&'a self, workload: &'a Workload) -> Vec<Passage<'a>> {
        let gateway = workload.gateway_ports.iter().copied().map(Traffic::Gateway);
        let traffic: Vec<Traffic> = match workload.role {
            Role::Plain => Vec::new(),
            Role::Gateway => gateway.collect(),
            Role::Sidecar => {
                let inbound = workload.ports().into_iter().map(Traffic::Inbound);
                inbound.chain([Traffic::Outbound]).collect()
            }
        };
        let rules = authentication::rules(&self.authentications, workload);
        let issuers: BTreeSet<&str> = rules.iter().map(|(_, rule)| rule.issuer.as_str()).collect();
        let written = self.written_from_tokens(workload);
        let mut passages: Vec<Passage<'_>> = Vec::new();
        for traffic in traffic {
            let plugins = chain(&self.plugins, workload, traffic);
            let outbound = traffic == Traffic::Outbound;
            let is_known = passages.iter().any(|known| {
                known.plugins == plugins && (known.traffic == Traffic::Outbound) == outbound
            });
            if is_known {
                continue;
            }
            // What leaves an application has no token that was verified.
            let (issuers, written) = match outbound {
                true => Default::default(),
                false => (issuers.clone(), written.clone()),
            };
            passages.push(Passage {
                workload,
                traffic,
                plugins,
                issuers,
                written,
            });
        }
        passages
    }
}

/// The plugins for some traffic of a proxy, in the order in which a request passes them: by phase, then the highest
/// priority first, those without one last; of equals those of the proxy's own namespace before the root namespace's, and
/// `plugins` are in the order of their age already.
pub(crate) fn chain<'a>(
    plugins: &'a [Plugin],
    workload: &Workload,
    traffic: Traffic,
) -> Vec<&'a Plugin> {
    let mut chain: Vec<&Plugin> = plugins
        .iter()
        .filter(|plugin| plugin.selects(workload) && plugin.takes(traffic))
        .collect();
    chain.sort_by_key(|plugin| {
        let phase = match plugin.phase {
            PluginPhase::Authn => 0,
            PluginPhase::Authz => 1,
            PluginPhase::Stats => 2,
            PluginPhase::Unspecified => 3,
        };
        // Unset is the smallest number, so a negative priority comes before it.
        let priority = std::cmp::Reverse(plugin.priority.unwrap_or(i32::MIN));
        (phase, priority, plugin.namespace != workload.namespace)
    });
    chain
}

pub(crate) fn build<'a>(
    objects: &[Object<WasmPlugin>],
    workloads: &[Workload],
    services: impl Iterator<Item = &'a Service> + Clone,
    problems: &mut Vec<Problem>,
) -> Vec<Plugin> {
    let plugins = objects.iter().map(|object| {
        let spec = &object.spec;
        let module = module(&spec.url).unwrap_or_else(|message| {
            let code = match spec.url.split_once("://") {
                Some((scheme, _)) if scheme != "oci" => Code::Unimplemented,
                _ => Code::Value,
            };
            problems.push(object.source.problem("spec.url", message).of(code));
            String::new()
        });
        let (env, host_env) = environment(object, problems);
        let plugin = Plugin {
            name: object.name.clone(),
            namespace: object.namespace.clone(),
            module,
            plugin_name: spec.plugin_name.clone().filter(|name| !name.is_empty()),
            configuration: spec.plugin_config.as_ref().filter(|config| !config.is_empty()).map(as_istio_writes),
            fail_strategy: spec.fail_strategy,
            env,
            host_env,
            phase: spec.phase,
            priority: spec.priority,
            selector: spec.selector.clone().unwrap_or_default(),
            matches: spec.matches.clone(),
        };
        let selected = workloads.iter().filter(|workload| plugin.selects(workload));
        if !plugin.selector.match_labels.is_empty() && selected.clone().next().is_none() {
            let where_ = if plugin.namespace == ROOT_NAMESPACE { "any namespace" } else { &plugin.namespace };
            problems.push(object.source.problem(
                "spec.selector.matchLabels",
                format!("selects no pod with a proxy in {where_}"),
            ));
        }
        // On a cluster a port selects some of a sidecar's outbound listeners. Here there is but one.
        if selected.clone().any(|workload| workload.role == Role::Sidecar) {
            for (index, wanted) in spec.matches.iter().enumerate() {
                let ports = wanted.ports.iter().filter(|port| services.clone().any(|service| service.port(port.number).is_some()));
                let ports: Vec<String> = ports.map(|port| port.number.to_string()).collect();
                if wanted.mode != WorkloadMode::Server && !ports.is_empty() {
                    problems.push(object.source.unimplemented(
                        &format!("spec.match[{index}].ports"),
                        format!(
                            "what leaves a pod towards the Services' ports {} cannot be told apart by the local mesh; write \
                             mode: SERVER for what comes in, or leave the ports out",
                            ports.join(", ")
                        ),
                    ));
                }
            }
        }
        plugin
    });
    plugins.collect()
}

/// The environment of a module, as istiod splits it: what the manifest has, and what the proxy has.
fn environment(
    object: &Object<WasmPlugin>,
    problems: &mut Vec<Problem>,
) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut here, mut of_proxy) = (BTreeMap::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for (index, variable) in object.spec.vm_config.env.iter().enumerate() {
        let mut tell = |field: &str, message: String| {
            let field = format!("spec.vmConfig.env[{index}].{field}");
            problems.push(object.source.invalid(&field, message));
        };
        let name = &variable.name;
        if name.is_empty() || name.len() > MAX_ENV_NAME {
            tell(
                "name",
                format!("must have 1 to {MAX_ENV_NAME} bytes, it has {}", name.len()),
            );
        } else if !seen.insert(name) {
            tell(
                "name",
                format!("{name:?} is there twice, remove one of them"),
            );
        }
        if variable.value.len() > MAX_ENV_VALUE {
            // Not the value itself, which may be a secret.
            let length = variable.value.len();
            tell(
                "value",
                format!("must have at most {MAX_ENV_VALUE} bytes, it has {length}"),
            );
        }
        match variable.value_from {
            EnvValueSource::Inline => _ = here.insert(name.clone(), variable.value.clone()),
            EnvValueSource::Host => {
                if !variable.value.is_empty() {
                    tell(
                        "value",
                        "is of no use beside valueFrom: HOST, remove one of them".to_owned(),
                    );
                }
                of_proxy.push(name.clone());
            }
        }
    }
    (here, of_proxy)
}

/// The name of the module at a URL.
fn module(url: &str) -> Result<String, String> {
    const INSTEAD: &str = "write oci://registry/path/module:tag";
    let path = match url.split_once("://") {
        Some(("oci", path)) => path,
        Some((scheme, _)) => {
            return Err(format!(
                "the scheme {scheme} is not implemented by the local mesh, {INSTEAD}"
            ));
        }
        None if url
            .split('/')
            .next()
            .is_some_and(|registry| registry.contains(':')) =>
        {
            return Err(format!(
                "Istio cannot read {url:?}: a registry with a port needs a scheme before it, \
                 {INSTEAD}"
            ));
        }
        None => url,
    };
    let (_, last) = path
        .rsplit_once('/')
        .ok_or_else(|| format!("{url:?} names no module, {INSTEAD}"))?;
    let name = last.split(['@', ':']).next().unwrap_or_default();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_name) {
        return Err(format!("{url:?} names no module, {INSTEAD}"));
    }
    Ok(name.to_owned())
}

/// The JSON in which a module gets its configuration from Istio. It has been through a protobuf `Struct`, in which every
/// number is a double (`1.0` arrives as `1`) and fields have no order but that of their names.
fn as_istio_writes(config: &Map<String, Value>) -> String {
    fn double(value: &Value) -> Value {
        match value {
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                // Below this every whole number is one double, and protobuf's JSON writes it without exponent.
                if number.fract() == 0.0 && number.abs() < 1e15 {
                    Value::from(number as i64)
                } else {
                    Number::from_f64(number).map_or(Value::Null, Value::Number)
                }
            }
            Value::Array(values) => values.iter().map(double).collect(),
            Value::Object(fields) => {
                let sorted: BTreeMap<String, Value> = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), double(value)))
                    .collect();
                sorted.into_iter().collect()
            }
            other => other.clone(),
        }
    }
    double(&Value::Object(config.clone())).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_segment_of_the_url_names_the_module() {
        for url in [
            "oci://ghcr.io/tollgate/tenant-rate-limit:0.1.0",
            "oci://localhost:5000/tenant-rate-limit",
            "ghcr.io/tollgate/tenant-rate-limit@sha256:00ff",
            "oci://ghcr.io/tollgate/tenant-rate-limit:0.1.0@sha256:00ff",
        ] {
            assert_eq!(module(url).as_deref(), Ok("tenant-rate-limit"), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_by_name() {
        let refused = |url| module(url).unwrap_err();
        assert_eq!(
            refused("file:///opt/filters/a.wasm"),
            "the scheme file is not implemented by the local mesh, write \
             oci://registry/path/module:tag"
        );
        assert_eq!(
            refused("https://example.com/a.wasm"),
            "the scheme https is not implemented by the local mesh, write \
             oci://registry/path/module:tag"
        );
        assert_eq!(
            refused("localhost:5000/a"),
            "Istio cannot read \"localhost:5000/a\": a registry with a port needs a scheme before it, write \
             oci://registry/path/module:tag"
        );
        assert_eq!(
            refused("oci://ghcr.io"),
            "\"oci://ghcr.io\" names no module, write oci://registry/path/module:tag"
        );
        assert_eq!(
            refused("oci://a/.."),
            "\"oci://a/..\" names no module, write oci://registry/path/module:tag"
        );
        assert_eq!(
            refused(""),
            "\"\" names no module, write oci://registry/path/module:tag"
        );
    }

    #[test]
    fn numbers_reach_the_module_as_doubles() {
        let Value::Object(config) =
            json!({"b": 10000, "a": [1.0, 1.5, {"c": -3.0}], "d": "1.0", "e": 1e300})
        else {
            unreachable!()
        };
        let written: Value = serde_json::from_str(&as_istio_writes(&config)).unwrap();
        assert_eq!(
            written,
            json!({"b": 10000, "a": [1, 1.5, {"c": -3}], "d": "1.0", "e": 1e300})
        );
    }
}
