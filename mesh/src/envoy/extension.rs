//! Wasm filters: where they stand in a chain, and what they are told. They come over ECDS, so that an edited plugin is taken
//! over without touching listeners and connections, and one that the module refuses leaves the old one at work.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Proxy, extension_file, file_source};
use crate::api::extensions::{FailStrategy, PluginPhase};
use crate::model::plugin::{self, Traffic};
use crate::model::{Plugin, Role};

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// Istio's name of the resource. Releases from 1.30 on say `trafficextension` and append `~istio-translated-wasmplugin`.
fn resource_name(plugin: &Plugin) -> String {
    format!("extensions.istio.io/wasmplugin/{}", plugin.full_name())
}

/// The filters of some phases for some traffic, in order.
pub(super) fn filters(proxy: &Proxy, traffic: Traffic, phases: &[PluginPhase]) -> Vec<Value> {
    let plugins = plugin::chain(&proxy.mesh.plugins, proxy.workload, traffic);
    let plugins = plugins
        .into_iter()
        .filter(|plugin| phases.contains(&plugin.phase));
    let filters = plugins.map(|plugin| {
        json!({
            "name": resource_name(plugin),
            "config_discovery": {
                "config_source": file_source(proxy, &extension_file(&plugin.full_name())),
                "type_urls": [WASM],
            },
        })
    });
    filters.collect()
}

/// What the filters of this proxy's listeners are told, by full name.
pub(super) fn extensions(proxy: &Proxy) -> BTreeMap<String, Value> {
    let traffic: Vec<Traffic> = match proxy.workload.role {
        Role::Gateway => proxy
            .workload
            .gateway_ports
            .iter()
            .copied()
            .map(Traffic::Gateway)
            .collect(),
        Role::Plain => Vec::new(),
        Role::Sidecar => {
            let inbound = proxy.workload.ports().into_iter().map(Traffic::Inbound);
            inbound
                .chain(proxy.here.outbound_proxy.map(|_| Traffic::Outbound))
                .collect()
        }
    };
    let plugins = traffic
        .into_iter()
        .flat_map(|traffic| plugin::chain(&proxy.mesh.plugins, proxy.workload, traffic));
    plugins
        .map(|plugin| (plugin.full_name(), extension(proxy, plugin)))
        .collect()
}

fn extension(proxy: &Proxy, plugin: &Plugin) -> Value {
    let module = proxy.site.modules.join(format!("{}.wasm", plugin.module));
    let mut config = json!({
        "name": plugin.full_name(),
        // No VM id, as in Istio: plugins with the same module share a VM.
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module.to_string_lossy() } },
        },
        "failure_policy": match plugin.fail_strategy {
            FailStrategy::FailClose => "FAIL_CLOSED",
            FailStrategy::FailOpen => "FAIL_OPEN",
            FailStrategy::FailReload => "FAIL_RELOAD",
        },
    });
    let mut environment = json!({});
    if !plugin.env.is_empty() {
        environment["key_values"] = json!(plugin.env);
    }
    if !plugin.host_env.is_empty() {
        environment["host_env_keys"] = json!(plugin.host_env);
    }
    if environment != json!({}) {
        config["vm_config"]["environment_variables"] = environment;
    }
    if let Some(name) = &plugin.plugin_name {
        config["root_id"] = json!(name);
    }
    if let Some(configuration) = &plugin.configuration {
        config["configuration"] = json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration });
    }
    json!({ "name": resource_name(plugin), "typed_config": { "@type": WASM, "config": config } })
}
