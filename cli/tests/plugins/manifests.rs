//! What ships in `wasm-plugins/`: the examples and the manifests are what the filters' own parsers take.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use tollgate_mesh::Mesh;

use crate::shipped::{FORMS, PLUGINS, configuration, load, names, repository};

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
    let three = load(&repository().join("wasm-plugins")).wasm_plugins;
    let mut sections: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for plugin in &three {
        let section = match plugin.name.as_str() {
            "tenant-rate-limit" => "tenantRateLimit",
            "user-classifier" => "userClassifier",
            "business-metrics" => "businessMetrics",
            other => panic!("{other} has no section"),
        };
        let mut sectioned = configuration(plugin);
        if section == "userClassifier" {
            // Of the limiter beside it a bundle knows without being told.
            sectioned.as_object_mut().unwrap().remove("tenant");
        }
        sections
            .entry(plugin.namespace.clone())
            .or_default()
            .insert(section.to_owned(), sectioned);
    }
    let bundle = load(&repository().join("wasm-plugins/tollgate")).wasm_plugins;
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
fn both_forms_are_the_same_mesh_but_for_the_plugins_of_either_form() {
    let without_those = |form: &str| {
        let mut objects = load(&repository().join(form));
        let own = |name: &str| PLUGINS.iter().any(|plugin| plugin.name == name);
        objects.wasm_plugins.retain(|plugin| !own(&plugin.name));
        let others: Vec<&str> = objects.wasm_plugins.iter().map(|p| &*p.name).collect();
        assert_eq!(others, ["revenue"], "{form}");
        format!("{objects:#?}")
    };
    let [shop, bundle] = FORMS.map(without_those);
    assert!(
        shop == bundle,
        "istio/overlays/bundle/kustomization.yaml must name the same parts as kustomization.yaml and istio/kustomization.yaml"
    );
}

/// A module that sees bodies is called for each piece of each of them.
#[test]
fn bodies_are_read_at_order_service_alone() {
    for form in FORMS {
        let mesh = Mesh::build(load(&repository().join(form)));
        let mesh = mesh.unwrap_or_else(|problems| panic!("{problems}"));
        let passages = mesh.passages();
        let reading = passages.iter().filter(|passage| {
            let mut plugins = passage.plugins.iter();
            plugins.any(|plugin| plugin.module.ends_with("-bodies"))
        });
        let workloads: BTreeSet<&str> = reading.map(|passage| &*passage.workload.name).collect();
        assert_eq!(
            Vec::from_iter(workloads),
            ["order-service", "order-service-premium"],
            "{form}"
        );
    }
}
