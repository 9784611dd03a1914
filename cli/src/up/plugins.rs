//! Checks the WasmPlugins before anything starts: that there is a module for each, and that the module's own parser takes
//! its configuration. Envoy would find out as well, later and without file and line.

use std::collections::BTreeSet;

use tollgate_common::ConfigError;
use tollgate_mesh::Problem;
use tollgate_mesh::api::Object;
use tollgate_mesh::api::extensions::WasmPlugin;

type Check = fn(&[u8]) -> Result<(), ConfigError>;

/// The filters' own parsers. Modules that others wrote have none here and check themselves.
const CHECKS: [(&str, Check); 4] = [
    ("tenant-rate-limit", |json| {
        tenant_rate_limit::Config::parse(json).map(drop)
    }),
    ("user-classifier", user_classifier::check),
    ("business-metrics", business_metrics::check),
    ("tollgate", tollgate_bundle::check),
];

/// What is wrong with these plugins, if only `modules` exist.
pub(crate) fn check(plugins: &[Object<WasmPlugin>], modules: &BTreeSet<String>) -> Vec<Problem> {
    plugins
        .iter()
        .filter_map(|plugin| check_one(plugin, modules))
        .collect()
}

fn check_one(plugin: &Object<WasmPlugin>, modules: &BTreeSet<String>) -> Option<Problem> {
    let name = module(&plugin.spec.url);
    if !modules.contains(name) {
        let known = Vec::from_iter(modules.iter().map(String::as_str)).join(", ");
        return Some(plugin.source.problem(
            "spec.url",
            format!(
                "{:?}: there is no module {name}, wasm-plugins/ has {known}; name one of them, or add the folder \
                 wasm-plugins/{name}",
                plugin.spec.url
            ),
        ));
    }
    let (_, check) = CHECKS.iter().find(|(module, _)| *module == name)?;
    // As Istio does: the struct as JSON, and nothing at all for none.
    let configuration = match &plugin.spec.plugin_config {
        Some(configuration) => serde_json::Value::Object(configuration.clone()).to_string(),
        None => String::new(),
    };
    let error = check(configuration.as_bytes()).err()?;
    let field = match error.path.as_str() {
        "" | "." => "spec.pluginConfig".to_owned(),
        path => format!("spec.pluginConfig.{path}"),
    };
    Some(plugin.source.problem(&field, error.message))
}

/// The last segment of a module's address, without tag and digest.
fn module(url: &str) -> &str {
    let last = url.rsplit('/').next().unwrap_or_default();
    last.split(['@', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tollgate_mesh::api::Objects;

    use super::*;

    fn problems(plugin: &str) -> Vec<String> {
        let objects = Objects::parse(Path::new("plugin.yaml"), plugin).unwrap();
        let modules = ["business-metrics", "tenant-rate-limit", "user-classifier"]
            .map(str::to_owned)
            .into();
        check(&objects.wasm_plugins, &modules)
            .iter()
            .map(Problem::to_string)
            .collect()
    }

    #[test]
    fn a_module_is_named_by_the_last_segment_of_its_address() {
        assert_eq!(
            module("oci://ghcr.io/tollgate/tenant-rate-limit:0.1.0"),
            "tenant-rate-limit"
        );
        assert_eq!(module("localhost:5000/a/b@sha256:00ff"), "b");
        assert_eq!(module("b"), "b");
    }

    #[test]
    fn a_module_that_does_not_exist_is_refused_by_name() {
        assert_eq!(
            problems(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a, namespace: b}\nspec:\n  \
                 url: oci://ghcr.io/shop/fraud:1\n"
            ),
            [
                "plugin.yaml:5: spec.url: \"oci://ghcr.io/shop/fraud:1\": there is no module fraud, wasm-plugins/ has \
                 business-metrics, tenant-rate-limit, user-classifier; name one of them, or add the folder wasm-plugins/fraud"
            ]
        );
    }

    #[test]
    fn the_plugins_that_ship_are_accepted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wasm-plugins");
        let objects = Objects::load(&[folder]).unwrap();
        let modules = CHECKS.map(|(name, _)| name.to_owned()).into();
        assert_eq!(objects.wasm_plugins.len(), 4);
        assert_eq!(check(&objects.wasm_plugins, &modules), []);
    }

    #[test]
    fn a_configuration_that_its_filter_refuses_is_told_with_file_and_line() {
        let found = problems(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a, namespace: b}\nspec:\n  \
             url: oci://ghcr.io/tollgate/user-classifier:1\n  pluginConfig:\n    header: user-type\n    \
             default: standard\n    nonsense: 1\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("plugin.yaml:9: spec.pluginConfig.nonsense: "),
            "{found:?}"
        );
    }
}
