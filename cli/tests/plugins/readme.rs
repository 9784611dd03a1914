//! What the README says of how many plugins there are and what runs where, against the manifests.

use std::collections::BTreeMap;
use std::path::Path;

use tollgate_mesh::Mesh;
use tollgate_mesh::api::Objects;
use tollgate_mesh::model::Traffic;

use crate::shipped::{read, repository};

fn shop() -> Objects {
    Objects::load(&[repository()]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The lines of the README that are about this.
#[track_caller]
fn says(line: &str) {
    let readme = read(&repository().join("README.md"));
    let (word, _) = line.split_once(' ').unwrap_or((line, ""));
    let like: Vec<&str> = readme.lines().filter(|like| like.contains(word)).collect();
    assert!(
        readme.lines().any(|told| told.contains(line)),
        "README.md does not say\n{line}\nbut\n{}",
        like.join("\n")
    );
}

#[test]
fn the_steps_count_the_plugins() {
    const WORDS: [&str; 7] = ["none", "one", "two", "three", "four", "five", "six"];
    let mut counts = BTreeMap::new();
    for plugin in shop().wasm_plugins {
        *counts.entry(plugin.namespace).or_insert(0) += 1;
    }
    let namespaces: Vec<&str> = counts.keys().map(String::as_str).collect();
    assert_eq!(namespaces, ["ecommerce", "istio-system"]);
    let mut system = WORDS[counts["istio-system"]].to_owned();
    system[..1].make_ascii_uppercase();
    let shop = WORDS[counts["ecommerce"]];
    says(&format!(
        "{system} in `istio-system`, {shop} in `ecommerce`."
    ));
}

#[test]
fn the_diagram_names_the_plugins_of_gateway_and_services_in_their_order() {
    let mesh = Mesh::build(shop()).unwrap_or_else(|problems| panic!("{problems}"));
    let chain = |workload: &str, is: &dyn Fn(Traffic) -> bool| {
        let passages = mesh.passages();
        let mut passages = passages
            .iter()
            .filter(|passage| passage.workload.name == workload && is(passage.traffic));
        let passage = passages.next().unwrap_or_else(|| panic!("{workload}"));
        let modules: Vec<&str> = passage
            .plugins
            .iter()
            .map(|plugin| plugin.module.as_str())
            .collect();
        modules.join(" → ")
    };
    let gateway = chain("ingressgateway", &|traffic| {
        matches!(traffic, Traffic::Gateway(_))
    });
    says(&format!("gateway[\"ingressgateway: Envoy<br/>{gateway}\"]"));
    let inbound = |traffic| matches!(traffic, Traffic::Inbound(_));
    let service = chain("product-service-v1", &inbound);
    says(&format!(
        "subgraph shop [\"ecommerce: every pod is a service and an Envoy with {service}"
    ));
    for workload in ["cart-service", "user-service"] {
        assert_eq!(chain(workload, &inbound), service, "{workload}");
    }
}

#[test]
fn the_steps_name_every_folder_that_the_whole_is_made_of() {
    let readme = read(&repository().join("README.md"));
    let (_, steps) = readme.split_once("## On a cluster").expect("the steps");
    let whole = read(&repository().join("istio/kustomization.yaml"));
    let parts = whole.lines().filter_map(|line| line.strip_prefix("- "));
    let parts = parts.map(|part| format!("istio/{part}"));
    for part in parts.chain(["services".to_owned(), "wasm-plugins".to_owned()]) {
        assert!(Path::new(&repository()).join(&part).is_dir(), "{part}");
        let command = format!("kubectl apply -k {part}\n");
        assert!(steps.contains(&command), "README.md lacks {command}");
    }
}
