//! The configurations of WasmPlugins, checked by the parsers of the filters themselves: what `tollgate up` refuses before anything
//! starts, and what `tollgate check` tells. Envoy would find out as well, later and without file and line.

use std::collections::BTreeSet;

use serde_json::Value;
use tollgate_common::ConfigError;
use tollgate_mesh::api::Object;
use tollgate_mesh::api::extensions::WasmPlugin;
use tollgate_mesh::source::{Source, join, nearest};
use tollgate_mesh::{Code, Problem};

/// A filter's own parser.
type Check = fn(&[u8]) -> Result<(), ConfigError>;

/// The filters that can be asked, by the names of their modules. Modules that others wrote have no parser here and check themselves.
const FILTERS: [(&str, Check); 4] = [
    ("business-metrics", business_metrics::check),
    ("tenant-rate-limit", |json| {
        tenant_rate_limit::Config::parse(json).map(drop)
    }),
    ("tollgate", tollgate_bundle::check),
    ("user-classifier", user_classifier::check),
];

/// The names of the filters that can be asked.
pub(crate) fn names() -> [&'static str; FILTERS.len()] {
    FILTERS.map(|(name, _)| name)
}

/// What is wrong with these plugins where `modules` are all that can run.
pub(crate) fn check(plugins: &[Object<WasmPlugin>], modules: &BTreeSet<String>) -> Vec<Problem> {
    let check = |plugin| match missing(plugin, modules) {
        Some(problem) => Some(problem),
        None => configuration(plugin),
    };
    plugins.iter().filter_map(check).collect()
}

/// What is wrong with the configurations of these plugins, and which of them cannot be told. Another module than ours is no problem:
/// a cluster fetches it from wherever it is.
pub(crate) fn configurations(plugins: &[Object<WasmPlugin>]) -> Vec<Problem> {
    let check = |plugin| configuration(plugin).or_else(|| unchecked(plugin));
    plugins.iter().filter_map(check).collect()
}

/// A plugin whose module does not exist.
fn missing(plugin: &Object<WasmPlugin>, modules: &BTreeSet<String>) -> Option<Problem> {
    let name = module(&plugin.spec.url);
    if modules.contains(name) {
        return None;
    }
    let known = Vec::from_iter(modules.iter().map(String::as_str)).join(", ");
    let message = format!(
        "{:?}: there is no module {name}, wasm-plugins/ has {known}; name one of them, or add the folder wasm-plugins/{name}",
        plugin.spec.url
    );
    Some(plugin.source.problem("spec.url", message).of(Code::Module))
}

/// A plugin whose configuration its filter refuses.
fn configuration(plugin: &Object<WasmPlugin>) -> Option<Problem> {
    let configuration = plugin.spec.plugin_config.clone().map(Value::Object);
    refused(
        module(&plugin.spec.url),
        configuration.as_ref(),
        &plugin.source,
        "spec.pluginConfig",
    )
}

/// A plugin with a configuration that no filter here knows.
fn unchecked(plugin: &Object<WasmPlugin>) -> Option<Problem> {
    let name = module(&plugin.spec.url);
    let known = names();
    if known.contains(&name) || plugin.spec.plugin_config.is_none() {
        return None;
    }
    let message = match nearest(name, known.into_iter()) {
        Some(near) => format!(
            "the module {name} is none of Tollgate's, did you mean {near}? Its pluginConfig is not checked"
        ),
        None => {
            format!("the module {name} is none of Tollgate's, so its pluginConfig is not checked")
        }
    };
    Some(
        plugin
            .source
            .problem("spec.url", message)
            .of(Code::Unchecked),
    )
}

/// What `filter` refuses in a configuration that is written at `field`. Its parser stops at the first mistake.
pub(crate) fn refused(
    filter: &str,
    configuration: Option<&Value>,
    source: &Source,
    field: &str,
) -> Option<Problem> {
    let (_, check) = FILTERS.iter().find(|(name, _)| *name == filter)?;
    // As Istio does: the struct as JSON, and nothing at all for none.
    let json = configuration.map(Value::to_string).unwrap_or_default();
    let error = check(json.as_bytes()).err()?;
    let field = place(field, &error.path, configuration);
    Some(
        source
            .problem(&field, error.message)
            .of(Code::Configuration),
    )
}

/// The path of a field as the manifests' problems write it. A filter's own path does not tell a dot in a name (`tenants.acme.eu.tier`) from one
/// between names, the configuration does.
fn place(field: &str, path: &str, configuration: Option<&Value>) -> String {
    let mut field = field.to_owned();
    let (mut rest, mut value) = (path.trim_start_matches('.'), configuration);
    while !rest.is_empty() {
        if let Some((index, behind)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            field += &format!("[{index}]");
            value = index
                .parse::<usize>()
                .ok()
                .and_then(|index| value?.get(index));
            rest = behind;
        } else {
            let here = rest.strip_prefix('.').unwrap_or(rest);
            let keys = value
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(|fields| fields.keys());
            let known = keys
                .filter(|key| {
                    here.strip_prefix(key.as_str())
                        .is_some_and(|behind| behind.is_empty() || behind.starts_with(['.', '[']))
                })
                .max_by_key(|key| key.len());
            // What is missing is in no mapping.
            let end =
                known.map_or_else(|| here.find(['.', '[']).unwrap_or(here.len()), String::len);
            let (name, behind) = here.split_at(end);
            if name.is_empty() {
                break;
            }
            field = join(&field, name);
            value = value.and_then(|value| value.get(name));
            rest = behind;
        }
    }
    field
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
        let modules = names().map(str::to_owned).into();
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

    #[test]
    fn a_module_of_others_is_no_problem_but_told() {
        let plugins = |url: &str, configuration: &str| {
            let text = format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a, namespace: b}}\nspec:\n  url: {url}\n{configuration}"
            );
            let objects = Objects::parse(Path::new("plugin.yaml"), &text).unwrap();
            configurations(&objects.wasm_plugins)
                .iter()
                .map(|problem| format!("{} {problem}", problem.code.level().as_str()))
                .collect::<Vec<_>>()
        };
        let some = "  pluginConfig: {a: 1}\n";
        assert_eq!(
            plugins("oci://ghcr.io/shop/fraud:1", some),
            [
                "note plugin.yaml:5: spec.url: the module fraud is none of Tollgate's, so its pluginConfig is not checked"
            ]
        );
        assert_eq!(
            plugins("oci://ghcr.io/tollgate/tenant-ratelimit:1", some),
            [
                "note plugin.yaml:5: spec.url: the module tenant-ratelimit is none of Tollgate's, did you mean \
                 tenant-rate-limit? Its pluginConfig is not checked"
            ]
        );
        assert_eq!(plugins("oci://ghcr.io/shop/fraud:1", ""), [""; 0]);
    }

    #[test]
    fn a_dot_in_a_name_does_not_hide_the_line() {
        let configuration = serde_json::json!({"tenants": {"acme": {"tier": "a"}, "acme.eu": {"tier": "b"}}, "list": [{"a.b": {}}]});
        for (path, expected) in [
            ("", "spec.pluginConfig"),
            (".", "spec.pluginConfig"),
            ("tenants.acme.tier", "spec.pluginConfig.tenants.acme.tier"),
            (
                "tenants.acme.eu.tier",
                "spec.pluginConfig.tenants[\"acme.eu\"].tier",
            ),
            (
                "list[0].a.b.missing",
                "spec.pluginConfig.list[0][\"a.b\"].missing",
            ),
            ("nowhere.x[3]", "spec.pluginConfig.nowhere.x[3]"),
        ] {
            assert_eq!(
                place("spec.pluginConfig", path, Some(&configuration)),
                expected,
                "{path}"
            );
        }
    }
}
