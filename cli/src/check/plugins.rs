//! The configurations of WasmPlugins, checked by the parsers of the filters themselves: what `tollgate up` refuses before anything
//! starts, and what `tollgate check` tells. Envoy would find out as well, later and without file and line.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use tollgate_common::{ConfigError, Problems};
use tollgate_mesh::api::extensions::{EnvValueSource, EnvVar, WasmPlugin};
use tollgate_mesh::api::{Object, Resource};
use tollgate_mesh::source::{Document, Source, nearest};
use tollgate_mesh::{Code, Problem};
use user_classifier::config::Variable;

use crate::build::variant;

/// A filter's own parser, going on behind what is wrong. It is told what the module's environment has.
type Check = fn(&[u8], &dyn Fn(&str) -> Variable) -> Result<(), Problems>;

/// What is worth a note in a configuration that is right.
type Notes = fn(&[u8]) -> Vec<ConfigError>;

/// The path of the first field that reads bodies, in a configuration that is right.
type ReadsBodies = fn(&[u8]) -> Option<String>;

/// A filter that can be asked.
#[derive(Clone, Copy)]
struct Filter {
    name: &'static str,
    check: Check,
    notes: Notes,
    /// Of one that has a module which sees bodies.
    reads_bodies: Option<ReadsBodies>,
}

/// The filters that can be asked. Modules that others wrote have no parser here and check themselves.
const FILTERS: [Filter; 4] = [
    Filter {
        name: "business-metrics",
        check: |configuration, _| business_metrics::check(configuration),
        notes: |_| Vec::new(),
        reads_bodies: Some(business_metrics::reads_bodies),
    },
    Filter {
        name: "tenant-rate-limit",
        check: |configuration, _| tenant_rate_limit::check(configuration),
        notes: tenant_rate_limit::shadows,
        reads_bodies: Some(tenant_rate_limit::reads_bodies),
    },
    Filter {
        name: "tollgate",
        check: tollgate_bundle::config::check_in,
        notes: tollgate_bundle::shadows,
        reads_bodies: Some(tollgate_bundle::reads_bodies),
    },
    Filter {
        name: "user-classifier",
        check: user_classifier::config::check_in,
        notes: |_| Vec::new(),
        reads_bodies: None,
    },
];

/// The names of the filters that can be asked.
pub(crate) fn names() -> [&'static str; FILTERS.len()] {
    FILTERS.map(|filter| filter.name)
}

/// The filter of a module.
fn filter(module: &str) -> Option<&'static Filter> {
    let plugin = variant::plugin(module);
    let mut filters = FILTERS.iter().filter(|filter| filter.name == plugin);
    filters.find(|filter| filter.reads_bodies.is_some() || !variant::has_bodies(module))
}

/// What is wrong with these plugins where `modules` are all that can run.
pub(crate) fn check(plugins: &[Object<WasmPlugin>], modules: &BTreeSet<String>) -> Vec<Problem> {
    let check = |plugin: &Object<WasmPlugin>| match missing(plugin, modules) {
        Some(problem) => vec![problem],
        None => {
            let configuration = plugin.spec.plugin_config.clone().map(Value::Object);
            Plugin {
                url: &plugin.spec.url,
                configuration: configuration.as_ref(),
                environment: Some(environment(&plugin.spec.vm_config.env)),
                source: &plugin.source,
            }
            .refused()
        }
    };
    plugins.iter().flat_map(check).collect()
}

/// What is wrong with the configurations of the plugins among these documents, and which of them cannot be told. Another module than ours is no
/// problem: a cluster fetches it from wherever it is.
pub(crate) fn configurations(documents: &[Document]) -> Vec<Problem> {
    let check = |plugin: Plugin<'_>| match plugin.unchecked() {
        Some(problem) => vec![problem],
        None => plugin.told(),
    };
    documents
        .iter()
        .filter_map(Plugin::of)
        .flat_map(check)
        .collect()
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

/// What a WasmPlugin runs.
struct Plugin<'a> {
    url: &'a str,
    configuration: Option<&'a Value>,
    environment: Option<Environment>,
    source: &'a Source,
}

/// What the environment of a module has, by name.
type Environment = BTreeMap<String, Variable>;

fn environment(written: &[EnvVar]) -> Environment {
    let variables = written.iter().map(|variable| {
        let value = match variable.value_from {
            EnvValueSource::Inline => Variable::Is(variable.value.clone()),
            EnvValueSource::Host => Variable::Elsewhere,
        };
        (variable.name.clone(), value)
    });
    variables.collect()
}

impl<'a> Plugin<'a> {
    /// That of a document, also of one in which other things are wrong; these are told by who reads it.
    fn of(document: &'a Document) -> Option<Self> {
        let Document { value, source } = document;
        let text = |value: &'a Value, field: &str| value.get(field)?.as_str();
        if text(value, "kind")? != WasmPlugin::KIND
            || !WasmPlugin::API_VERSIONS.contains(&text(value, "apiVersion")?)
        {
            return None;
        }
        let spec = value.get("spec")?;
        let configuration = match spec.get("pluginConfig") {
            None | Some(Value::Null) => None,
            Some(configuration @ Value::Object(_)) => Some(configuration),
            Some(_) => return None,
        };
        // One that cannot be read is told by who reads it, and may have anything.
        let environment = match spec.pointer("/vmConfig/env") {
            None => Some(Environment::new()),
            Some(written) => Vec::<EnvVar>::deserialize(written)
                .ok()
                .map(|written| environment(&written)),
        };
        Some(Self {
            url: text(spec, "url")?,
            configuration,
            environment,
            source,
        })
    }

    /// What its filter refuses.
    fn refused(&self) -> Vec<Problem> {
        refusals(self.told())
    }

    /// The same, and what is worth a note.
    fn told(&self) -> Vec<Problem> {
        let Some(filter) = filter(module(self.url)) else {
            return Vec::new();
        };
        let mut told = told_in(
            filter.name,
            self.configuration,
            self.environment.as_ref(),
            self.source,
            "spec.pluginConfig",
        );
        if told
            .iter()
            .all(|problem| problem.code != Code::Configuration)
        {
            told.extend(filter.reads_bodies.and_then(|reads| self.bodies(reads)));
        }
        told
    }

    /// That it is the wrong one of a filter's two modules, for a configuration that is right.
    fn bodies(&self, reads_bodies: ReadsBodies) -> Option<Problem> {
        let name = module(self.url);
        let sees = variant::has_bodies(name);
        match (reads_bodies(&json(self.configuration)), sees) {
            (Some(field), false) => {
                let other = variant::with_bodies(name);
                let message = format!(
                    "reads bodies, and the module {name} sees none; write spec.url: {}",
                    renamed(self.url, &other)
                );
                let field = ConfigError::new(field, "").within("spec.pluginConfig").path;
                Some(self.source.problem(&field, message).of(Code::Bodies))
            }
            (None, true) => {
                let message = format!(
                    "the module {name} is called for every piece of every body, and nothing in pluginConfig reads one; write {}",
                    renamed(self.url, variant::plugin(name))
                );
                Some(self.source.problem("spec.url", message).of(Code::NoBodies))
            }
            _ => None,
        }
    }

    /// That it has a configuration, and no filter here knows it.
    fn unchecked(&self) -> Option<Problem> {
        let name = module(self.url);
        if filter(name).is_some() || self.configuration.is_none() {
            return None;
        }
        let message = match nearest(name, names().into_iter()) {
            Some(near) => format!(
                "the module {name} is none of Tollgate's, did you mean {near}? Its pluginConfig is not checked"
            ),
            None => {
                format!(
                    "the module {name} is none of Tollgate's, so its pluginConfig is not checked"
                )
            }
        };
        Some(self.source.problem("spec.url", message).of(Code::Unchecked))
    }
}

/// Everything for which `filter` refuses a configuration that is written at `field`.
pub(crate) fn refused(
    filter: &str,
    configuration: Option<&Value>,
    source: &Source,
    field: &str,
) -> Vec<Problem> {
    refusals(told(filter, configuration, source, field))
}

fn refusals(mut told: Vec<Problem>) -> Vec<Problem> {
    told.retain(|problem| matches!(problem.code, Code::Configuration | Code::Bodies));
    told
}

/// The same, and what is worth a note in a configuration that it takes.
pub(crate) fn told(
    name: &str,
    configuration: Option<&Value>,
    source: &Source,
    field: &str,
) -> Vec<Problem> {
    told_in(name, configuration, None, source, field)
}

/// The same where the environment of the module is known.
fn told_in(
    name: &str,
    configuration: Option<&Value>,
    environment: Option<&Environment>,
    source: &Source,
    field: &str,
) -> Vec<Problem> {
    let Some(filter) = FILTERS.iter().find(|filter| filter.name == name) else {
        return Vec::new();
    };
    let json = json(configuration);
    let variable = |name: &str| match environment {
        None => Variable::Elsewhere,
        Some(environment) => environment.get(name).cloned().unwrap_or(Variable::Missing),
    };
    let (found, code) = match (filter.check)(&json, &variable) {
        Ok(()) => ((filter.notes)(&json), Code::Shadow),
        Err(problems) => (problems.told().to_vec(), Code::Configuration),
    };
    let problem = |error: &ConfigError| {
        source
            .problem(&error.within(field).path, &error.message)
            .of(code)
    };
    found.iter().map(problem).collect()
}

/// A configuration as Istio hands it on: the struct as JSON, and nothing at all for none.
fn json(configuration: Option<&Value>) -> Vec<u8> {
    configuration
        .map(Value::to_string)
        .unwrap_or_default()
        .into_bytes()
}

/// The address of another module beside this one. A digest would be that of this one.
fn renamed(url: &str, name: &str) -> String {
    let (url, _) = url.split_once('@').unwrap_or((url, ""));
    let (folder, last) = match url.rsplit_once('/') {
        Some((folder, last)) => (format!("{folder}/"), last),
        None => (String::new(), url),
    };
    let tag = last.split_once(':').map(|(_, tag)| format!(":{tag}"));
    format!("{folder}{name}{}", tag.unwrap_or_default())
}

/// The last segment of a module's address, without tag and digest.
pub(crate) fn module(url: &str) -> &str {
    let last = url.rsplit('/').next().unwrap_or_default();
    last.split(['@', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
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
    fn a_configuration_that_reads_bodies_needs_the_module_that_sees_them() {
        let said = |url: &str, reads: ReadsBodies| {
            let text = format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a, namespace: shop}}\nspec:\n  url: {url}\n  \
                 pluginConfig:\n    metrics:\n    - value: 1\n"
            );
            let objects = Objects::parse(Path::new("plugin.yaml"), &text).unwrap();
            let object = &objects.wasm_plugins[0];
            let configuration = object.spec.plugin_config.clone().map(Value::Object);
            let plugin = Plugin {
                url,
                configuration: configuration.as_ref(),
                environment: None,
                source: &object.source,
            };
            let problem = plugin.bodies(reads);
            problem.map(|problem| (problem.code, problem.to_string()))
        };
        let reads: ReadsBodies = |json| {
            let json: Value = serde_json::from_slice(json).unwrap();
            json["metrics"][0]["value"]
                .is_number()
                .then(|| "metrics[0].value".to_owned())
        };
        assert_eq!(
            said("oci://ghcr.io/tollgate/business-metrics:0.1.0", reads),
            Some((
                Code::Bodies,
                "plugin.yaml:8: spec.pluginConfig.metrics[0].value: reads bodies, and the module business-metrics sees none; write \
                 spec.url: oci://ghcr.io/tollgate/business-metrics-bodies:0.1.0"
                    .to_owned()
            ))
        );
        assert_eq!(
            said(
                "oci://ghcr.io/tollgate/business-metrics-bodies:0.1.0",
                reads
            ),
            None
        );
        assert_eq!(
            said("oci://ghcr.io/tollgate/business-metrics:0.1.0", |_| None),
            None
        );
        assert_eq!(
            said("localhost:5000/tollgate-bodies@sha256:00ff", |_| None),
            Some((
                Code::NoBodies,
                "plugin.yaml:5: spec.url: the module tollgate-bodies is called for every piece of every body, and nothing in pluginConfig \
                 reads one; write localhost:5000/tollgate"
                    .to_owned()
            ))
        );
    }

    #[test]
    fn a_filter_is_that_of_both_its_modules() {
        let name = |module| filter(module).map(|filter| filter.name);
        assert_eq!(name("tollgate"), Some("tollgate"));
        assert_eq!(name("tollgate-bodies"), Some("tollgate"));
        assert_eq!(name("user-classifier"), Some("user-classifier"));
        assert_eq!(name("user-classifier-bodies"), None, "it has one");
        assert_eq!(name("fraud-bodies"), None);
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
        assert_eq!(objects.wasm_plugins.len(), 5);
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
    fn a_key_is_looked_for_in_the_environment_of_the_module() {
        let found = |environment: &str| {
            problems(&format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a, namespace: b}}\nspec:\n  \
                 url: oci://ghcr.io/tollgate/user-classifier:1\n{environment}  pluginConfig:\n    default: standard\n    \
                 stickyKeys: [{{id: a, env: STICKY}}]\n"
            ))
        };
        assert_eq!(
            found(""),
            [
                "plugin.yaml:8: spec.pluginConfig.stickyKeys[0].env: the module's environment has no \"STICKY\", name it in the plugin's vmConfig.env"
            ]
        );
        let other = found("  vmConfig: {env: [{name: STICKY2, valueFrom: HOST}]}\n");
        assert_eq!(other.len(), 1, "{other:?}");
        assert_eq!(
            found("  vmConfig: {env: [{name: STICKY, valueFrom: HOST}, {name: MORE, value: a}]}\n"),
            [""; 0]
        );
        // By itself a configuration has no environment that anybody knows.
        let file = Path::new("a.yaml");
        let configuration =
            serde_json::json!({"default": "a", "stickyKeys": [{"id": "a", "env": "STICKY"}]});
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::write(&path, configuration.to_string()).unwrap();
        let documents = tollgate_mesh::documents(&[path]).documents;
        let source = &documents[0].source;
        assert_eq!(
            told("user-classifier", Some(&configuration), source, ""),
            []
        );
    }

    #[test]
    fn a_module_of_others_is_no_problem_but_told() {
        let plugins = |url: &str, configuration: &str| {
            let text = format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a, namespace: b}}\nspec:\n  url: {url}\n{configuration}"
            );
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("plugin.yaml");
            fs::write(&file, text).unwrap();
            configurations(&tollgate_mesh::documents(&[file]).documents)
                .iter()
                .map(|problem| {
                    let level = problem.code.level().as_str();
                    format!(
                        "{level} {}: {}: {}",
                        problem.line, problem.field, problem.message
                    )
                })
                .collect::<Vec<_>>()
        };
        let some = "  pluginConfig: {a: 1}\n";
        assert_eq!(
            plugins("oci://ghcr.io/shop/fraud:1", some),
            [
                "note 5: spec.url: the module fraud is none of Tollgate's, so its pluginConfig is not checked"
            ]
        );
        assert_eq!(
            plugins("oci://ghcr.io/tollgate/tenant-ratelimit:1", some),
            [
                "note 5: spec.url: the module tenant-ratelimit is none of Tollgate's, did you mean \
                 tenant-rate-limit? Its pluginConfig is not checked"
            ]
        );
        assert_eq!(plugins("oci://ghcr.io/shop/fraud:1", ""), [""; 0]);
    }

    #[test]
    fn a_dot_in_a_name_does_not_hide_the_line() {
        let found = problems(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a, namespace: b}\nspec:\n  \
             url: oci://ghcr.io/tollgate/tenant-rate-limit:1\n  pluginConfig:\n    tenant: {from: [{header: a}], unknown: {tier: a}}\n    \
             tiers: {a: {unlimited: true}}\n    tenants:\n      acme: {tier: b}\n      acme.eu:\n        tier: 5\n        \
             blocked: false\n",
        );
        assert_eq!(
            found,
            [
                "plugin.yaml:12: spec.pluginConfig.tenants[\"acme.eu\"].tier: 5 is given, expected a string",
                "plugin.yaml:10: spec.pluginConfig.tenants.acme.tier: \"b\" is not a tier, write one of: a",
                "plugin.yaml:13: spec.pluginConfig.tenants[\"acme.eu\"].blocked: false says nothing, leave it out",
            ]
        );
    }
}
