//! What ships in `wasm-plugins/`: the examples and the manifests are what the filters' own parsers take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Map, Value};
use tollgate_mesh::api::Objects;

use crate::shipped::{PLUGINS, names, repository};

#[test]
fn every_plugin_is_looked_at() {
    let wasm_plugins = repository().join("wasm-plugins");
    let modules: Vec<String> = names(&wasm_plugins)
        .into_iter()
        .filter(|name| wasm_plugins.join(name).join("Cargo.toml").is_file())
        .collect();
    assert_eq!(modules, PLUGINS.map(|plugin| plugin.name));
}

#[test]
fn every_example_and_every_manifest_is_accepted_by_its_filter() {
    for plugin in PLUGINS {
        for (name, configuration) in plugin.configurations() {
            let accepted = (plugin.check)(configuration.to_string().as_bytes());
            assert_eq!(accepted, Ok(()), "{name}");
        }
    }
}

#[test]
fn every_example_is_in_the_readme() {
    for plugin in PLUGINS {
        let linked: BTreeSet<String> = plugin
            .readme()
            .split("](examples/")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
            .collect();
        assert_eq!(
            linked,
            names(&plugin.folder().join("examples")),
            "{}",
            plugin.name
        );
    }
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
        let mut configuration = plugin.spec.plugin_config.clone().unwrap_or_default();
        if section == "userClassifier" {
            // Of the limiter beside it a bundle knows without being told.
            configuration.remove("tenant");
        }
        sections
            .entry(plugin.namespace.clone())
            .or_default()
            .insert(section.to_owned(), Value::Object(configuration));
    }
    let bundle = load(&[repository().join("wasm-plugins/tollgate")]);
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
