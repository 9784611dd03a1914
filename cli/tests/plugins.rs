//! What ships in `wasm-plugins/`: the examples, the manifests and the tables of fields are what the filters' own parsers take.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tollgate_common::ConfigError;
use tollgate_mesh::api::Objects;

type Check = fn(&[u8]) -> Result<(), ConfigError>;

const PLUGINS: [(&str, Check); 4] = [
    ("business-metrics", business_metrics::check),
    ("tenant-rate-limit", |json| {
        tenant_rate_limit::Config::parse(json).map(drop)
    }),
    ("tollgate", tollgate_bundle::check),
    ("user-classifier", user_classifier::check),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn folder(plugin: &str) -> PathBuf {
    repository().join("wasm-plugins").join(plugin)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of a folder's entries, in order.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn objects(file: &Path, text: &str) -> Objects {
    Objects::parse(file, text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Every configuration of a plugin that a reader may copy: its examples, and what its manifest ships. By where it is.
fn configurations(plugin: &str) -> Vec<(String, Map<String, Value>)> {
    let mut found = Vec::new();
    let examples = folder(plugin).join("examples");
    for name in names(&examples) {
        // An example is a pluginConfig, so it is read as one.
        let mut manifest = format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: example, namespace: example}}\n\
             spec:\n  url: oci://ghcr.io/tollgate/{plugin}:1\n  pluginConfig:\n"
        );
        for line in read(&examples.join(&name)).lines() {
            manifest += &format!("    {line}\n");
        }
        found.push((format!("{plugin}/examples/{name}"), manifest));
    }
    found.push((
        format!("{plugin}/plugin.yaml"),
        read(&folder(plugin).join("plugin.yaml")),
    ));
    found
        .into_iter()
        .flat_map(|(name, manifest)| {
            let plugins = objects(Path::new(&name), &manifest).wasm_plugins;
            plugins.into_iter().map(move |plugin| {
                let configuration = plugin.spec.plugin_config.unwrap_or_default();
                (format!("{name} ({})", plugin.namespace), configuration)
            })
        })
        .collect()
}

fn bytes(configuration: &Value) -> Vec<u8> {
    configuration.to_string().into_bytes()
}

#[test]
fn every_plugin_is_looked_at() {
    let wasm_plugins = repository().join("wasm-plugins");
    let modules: Vec<String> = names(&wasm_plugins)
        .into_iter()
        .filter(|name| wasm_plugins.join(name).join("Cargo.toml").is_file())
        .collect();
    assert_eq!(modules, PLUGINS.map(|(name, _)| name));
}

#[test]
fn every_example_and_every_manifest_is_accepted_by_its_filter() {
    for (plugin, check) in PLUGINS {
        for (name, configuration) in configurations(plugin) {
            let accepted = check(&bytes(&Value::Object(configuration)));
            assert_eq!(accepted, Ok(()), "{name}");
        }
    }
}

#[test]
fn every_example_is_in_the_readme() {
    for (plugin, _) in PLUGINS {
        let readme = read(&folder(plugin).join("README.md"));
        let linked: BTreeSet<String> = readme
            .split("](examples/")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
            .collect();
        assert_eq!(linked, names(&folder(plugin).join("examples")), "{plugin}");
    }
}

/// The conditions on a string, which READMEs describe once and not for each field that is one.
const MATCH_KEYS: [&str; 6] = ["exact", "prefix", "suffix", "regex", "in", "present"];

#[test]
fn the_tables_of_fields_are_what_the_parsers_know() {
    for (plugin, check) in PLUGINS {
        let readme = read(&folder(plugin).join("README.md"));
        let rows = rows(&readme);
        let mut known = BTreeSet::new();
        for (_, configuration) in configurations(plugin) {
            known.extend(fields(&Value::Object(configuration), check));
        }
        if plugin == "tollgate" {
            // Below its sections there are other plugins' tables.
            known.retain(|field| !field.contains(['.', '[']));
        }
        let (keys, known): (BTreeSet<_>, BTreeSet<_>) = known
            .into_iter()
            .partition(|field| MATCH_KEYS.contains(&last(field)));
        for key in keys.iter().map(|field| last(field)) {
            assert!(readme.contains(&format!("`{key}`")), "{plugin}: {key}");
        }
        // A field with fields of its own needs no row beside theirs.
        let rows_of = |field: &String| {
            rows.contains(field)
                || rows.iter().any(|row| {
                    row.strip_prefix(field.as_str())
                        .is_some_and(|rest| rest.starts_with(['.', '[']))
                })
        };
        let missing: Vec<_> = known.iter().filter(|field| !rows_of(field)).collect();
        assert!(
            missing.is_empty(),
            "wasm-plugins/{plugin}/README.md has no row for {missing:?}"
        );
        let unknown: Vec<_> = rows.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "wasm-plugins/{plugin}/README.md has rows for {unknown:?}, which the filter does not know or no example has"
        );
    }
}

/// The first column of the README's table of fields.
fn rows(readme: &str) -> BTreeSet<String> {
    let (_, table) = readme
        .split_once("\n| Field | Type | Default | Limits | Meaning |\n|---|---|---|---|---|\n")
        .expect("a table of fields");
    table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let field = line.split('|').nth(1).unwrap_or_default().trim();
            field.trim_matches('`').to_owned()
        })
        .collect()
}

fn last(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or_default()
}

/// Every field that the parser knows in the mappings of a configuration: it lists them when it is given one that it does not
/// know. A mapping by name is `.*`, a list `[]`.
fn fields(configuration: &Value, check: Check) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(configuration, "", "", &mut |pointer, path| {
        let expected = expected(configuration, pointer, check)?;
        found.extend(expected.iter().map(|field| join(path, field)));
        Some(())
    });
    found
}

/// Visits every mapping with its JSON pointer and its path. The visitor says whether its keys are fields or names.
fn walk(
    value: &Value,
    pointer: &str,
    path: &str,
    visit: &mut impl FnMut(&str, &str) -> Option<()>,
) {
    match value {
        Value::Object(mapping) => {
            let are_fields = visit(pointer, path).is_some();
            for (key, value) in mapping {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                let path = join(path, if are_fields { key } else { "*" });
                walk(value, &format!("{pointer}/{escaped}"), &path, visit);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(
                    value,
                    &format!("{pointer}/{index}"),
                    &format!("{path}[]"),
                    visit,
                );
            }
        }
        _ => {}
    }
}

fn join(path: &str, field: &str) -> String {
    match path {
        "" => field.to_owned(),
        path => format!("{path}.{field}"),
    }
}

/// The fields that the parser would take in the mapping at `pointer`; `None` if any name will do there.
fn expected(configuration: &Value, pointer: &str, check: Check) -> Option<Vec<String>> {
    const STRANGE: &str = "noSuchField";
    let mut edited = configuration.clone();
    let Some(Value::Object(mapping)) = edited.pointer_mut(pointer) else {
        panic!("{pointer} is no mapping");
    };
    mapping.insert(STRANGE.to_owned(), Value::Null);
    let error = check(&bytes(&edited)).expect_err(pointer);
    let rest = error
        .message
        .strip_prefix(&format!("unknown field \"{STRANGE}\", expected "))?;
    Some(
        rest.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
    )
}

#[test]
fn the_bundle_ships_with_the_configuration_of_the_three() {
    let load = |folders: &[PathBuf]| {
        Objects::load(folders)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .wasm_plugins
    };
    let three = load(&[repository().join("wasm-plugins")]);
    let mut sections: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for plugin in &three {
        let section = match plugin.name.as_str() {
            "tenant-rate-limit" => "tenantRateLimit",
            "user-classifier" => "userClassifier",
            "business-metrics" => "businessMetrics",
            other => panic!("{other} has no section"),
        };
        let configuration = plugin.spec.plugin_config.clone().unwrap_or_default();
        sections
            .entry(plugin.namespace.clone())
            .or_default()
            .insert(section.to_owned(), Value::Object(configuration));
    }
    let bundle = load(&[folder("tollgate")]);
    let shipped = bundle.iter().map(|plugin| {
        let configuration = plugin.spec.plugin_config.clone().unwrap_or_default();
        (plugin.namespace.clone(), configuration)
    });
    assert_eq!(shipped.collect::<BTreeMap<_, _>>(), sections);

    for plugin in &bundle {
        for other in three.iter().filter(|p| p.namespace == plugin.namespace) {
            assert_eq!(
                format!(
                    "{:?}",
                    (
                        &plugin.spec.selector,
                        &plugin.spec.matches,
                        plugin.spec.phase
                    )
                ),
                format!(
                    "{:?}",
                    (&other.spec.selector, &other.spec.matches, other.spec.phase)
                ),
                "{} and {} in {}",
                plugin.name,
                other.name,
                plugin.namespace
            );
        }
    }
}

#[test]
fn the_overlay_of_the_bundle_is_the_same_mesh_with_other_plugins() {
    let without_plugins = |folder: PathBuf| {
        let mut objects = Objects::load(&[folder]).unwrap_or_else(|problems| panic!("{problems}"));
        objects.wasm_plugins.clear();
        format!("{objects:#?}")
    };
    let shop = without_plugins(repository());
    let bundle = without_plugins(repository().join("istio/overlays/bundle"));
    assert!(
        shop == bundle,
        "istio/overlays/bundle/kustomization.yaml must name the same parts as kustomization.yaml and istio/kustomization.yaml"
    );
}
