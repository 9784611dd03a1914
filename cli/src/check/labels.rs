//! Labels that the proxies of a plugin do not know, or take for others.
//!
//! A metric of a Wasm filter has only a name. Its labels are in it, and the proxy takes those out that its pods' annotation
//! `sidecar.istio.io/extraStatTags` lists. One that is missing there makes a metric of its own for each of its values, under a name that nobody asks for. And
//! one that ends in another is found by that other's name (`reason=.=` also in `error_reason=.=`): of one plugin's labels its filter refuses that, of those of
//! all plugins of a proxy nobody but this knows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tollgate_mesh::api::Objects;
use tollgate_mesh::model::Plugin;
use tollgate_mesh::{Code, Mesh, Problem};

use crate::build::variant;

/// The labels that a plugin's metrics have, each with the field of its configuration that asks for it. None of a configuration that is wrong, and of
/// modules that are not ours.
pub(crate) fn of(plugin: &Plugin) -> BTreeMap<String, String> {
    let Some(configuration) = plugin.configuration.as_deref() else {
        return BTreeMap::new();
    };
    let Ok(configuration) = serde_json::from_str::<Value>(configuration) else {
        return BTreeMap::new();
    };
    let mut labels = BTreeMap::new();
    for (filter, section, configuration) in sections(&plugin.module, &configuration) {
        let json = configuration.to_string();
        let found = match filter {
            "business-metrics" => business_metrics::labels(json.as_bytes()),
            "tenant-rate-limit" => tenant_rate_limit::labels(json.as_bytes()),
            _ => Vec::new(),
        };
        for (label, field) in found {
            let field = match section {
                "" => field,
                section => format!("{section}.{field}"),
            };
            labels.entry(label).or_insert(field);
        }
    }
    labels
}

/// The configurations of the filters that a module has: each with its filter, and the section of the module's where it is.
fn sections<'a>(
    module: &str,
    configuration: &'a Value,
) -> Vec<(&'static str, &'static str, &'a Value)> {
    const BUNDLED: [(&str, &str); 2] = [
        ("tenant-rate-limit", "tenantRateLimit"),
        ("business-metrics", "businessMetrics"),
    ];
    // Of a plugin's two modules, the one that sees bodies counts by the same configuration.
    match variant::plugin(module) {
        "tollgate" => BUNDLED
            .iter()
            .filter_map(|(filter, section)| Some((*filter, *section, configuration.get(section)?)))
            .collect(),
        module => BUNDLED
            .iter()
            .filter(|(filter, _)| *filter == module)
            .map(|(filter, _)| (*filter, "", configuration))
            .collect(),
    }
}

/// What the pods of each workload must list, by namespace and name.
pub fn needed(mesh: &Mesh) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut needed = BTreeMap::<_, BTreeSet<String>>::new();
    for passage in mesh.passages() {
        let workload = (
            passage.workload.namespace.clone(),
            passage.workload.name.clone(),
        );
        let labels = passage.plugins.iter().flat_map(|plugin| of(plugin));
        needed
            .entry(workload)
            .or_default()
            .extend(labels.map(|(label, _)| label));
    }
    needed
}

/// Labels that a workload's pods do not list, or that the proxy takes apart, one problem of each kind for each plugin and workload.
pub(crate) fn problems(mesh: &Mesh, objects: &Objects) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut told = BTreeSet::new();
    let needed = needed(mesh);
    for passage in mesh.passages() {
        let workload = passage.workload;
        let listed = workload.extra_stat_tags();
        // What the pods list, and what they would have to.
        let of_all = needed.get(&(workload.namespace.clone(), workload.name.clone()));
        let of_all = of_all.into_iter().flatten().map(String::as_str);
        let looked_for: BTreeSet<&str> = listed.iter().copied().chain(of_all).collect();
        for plugin in &passage.plugins {
            let same = objects
                .wasm_plugins
                .iter()
                .find(|object| object.name == plugin.name && object.namespace == plugin.namespace);
            let Some(object) = same else { continue };
            let labels = of(plugin);
            if let Some((label, end, field)) = taken_apart(&labels, &looked_for) {
                let message = format!(
                    "the proxies of {}/{} look for the label {end:?} anywhere in a metric's name, and would take it out of the end of {label:?}; \
                     give {label:?} another name, or {end:?} wherever else it is a label",
                    workload.namespace, workload.name,
                );
                let field = format!("spec.pluginConfig.{field}");
                let problem = object.source.problem(&field, message).of(Code::Labels);
                // Of a workload each of its ports may be a passage.
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
            let missing: Vec<(&String, &String)> = labels
                .iter()
                .filter(|(label, _)| !listed.contains(&label.as_str()))
                .collect();
            let Some((_, field)) = missing.first() else {
                continue;
            };
            if !told.insert((
                &workload.namespace,
                &workload.name,
                &plugin.namespace,
                &plugin.name,
            )) {
                continue;
            }
            let names: Vec<String> = missing
                .iter()
                .map(|(label, _)| format!("{label:?}"))
                .collect();
            let all = listed.iter().copied();
            let all: Vec<&str> = all
                .chain(missing.iter().map(|(label, _)| label.as_str()))
                .collect();
            let message = format!(
                "the proxies of {}/{} know no label {}, and would have it in the metric's name; write sidecar.istio.io/extraStatTags: {} in the \
                 annotations of its pods",
                workload.namespace,
                workload.name,
                names.join(", "),
                all.join(",")
            );
            let field = format!("spec.pluginConfig.{field}");
            problems.push(object.source.problem(&field, message).of(Code::Labels));
        }
    }
    problems
}

/// The first of these labels that ends in another one for which its proxy looks, with that one and the field that asks for the first.
fn taken_apart<'a>(
    labels: &'a BTreeMap<String, String>,
    looked_for: &BTreeSet<&'a str>,
) -> Option<(&'a str, &'a str, &'a str)> {
    labels.iter().find_map(|(label, field)| {
        let end = looked_for.iter().find(|other| {
            let before = label.strip_suffix(**other);
            before.is_some_and(|before| !before.is_empty())
        });
        Some((label.as_str(), *end?, field.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CART: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata:
      labels: {app: cart}
      annotations: {sidecar.istio.io/extraStatTags: "tenant,status"}
    spec:
      containers:
      - {name: cart, image: "cart:1", ports: [{containerPort: 3002}]}
"#;

    fn told(module: &str, configuration: &str) -> Vec<String> {
        let plugin = format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: counts, namespace: shop}}\nspec:\n  url: oci://registry/{module}:1\n  \
             match: [{{mode: SERVER}}]\n  pluginConfig:\n{configuration}---"
        );
        let objects = Objects::parse(Path::new("m.yaml"), &(plugin + CART)).unwrap();
        let mesh = Mesh::build(objects.clone()).unwrap();
        let told = problems(&mesh, &objects).into_iter();
        told.map(|problem| format!("{} {problem}", problem.code))
            .collect()
    }

    const METRICS: &str = "labels:\n  tenant: {from: tenant, atMost: 5}\n  class: {from: statusClass}\n  unused: {constant: a}\nmetrics:\n- {name: a_total, labels: [tenant, class]}\n";

    #[test]
    fn a_label_that_ends_in_one_of_another_plugin_is_refused() {
        let counts = "labels:\n  error_tenant: {constant: a}\nmetrics:\n- {name: a_total, labels: [error_tenant]}\n";
        let objects = |tags: &str, beside: &str| {
            let plugin = format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: counts, namespace: shop}}\nspec:\n  \
                 url: oci://registry/business-metrics:1\n  match: [{{mode: SERVER}}]\n  pluginConfig:\n{}---",
                indented(counts, "    ")
            );
            let cart = CART.replace("tenant,status", tags);
            Objects::parse(Path::new("m.yaml"), &(plugin + &cart + beside)).unwrap()
        };
        let told = |tags: &str, beside: &str| {
            let objects = objects(tags, beside);
            let mesh = Mesh::build(objects.clone()).unwrap();
            let told = problems(&mesh, &objects).into_iter();
            told.map(|problem| format!("{} {problem}", problem.code))
                .collect::<Vec<_>>()
        };
        let refused = "TG0305 m.yaml:9: spec.pluginConfig.labels.error_tenant: the proxies of shop/cart look for the label \"tenant\" anywhere in a \
                       metric's name, and would take it out of the end of \"error_tenant\"; give \"error_tenant\" another name, or \"tenant\" \
                       wherever else it is a label";
        assert_eq!(told("error_tenant,status", ""), [""; 0]);
        // A tag that the pods list, whoever needs it.
        assert_eq!(told("tenant,error_tenant", ""), [refused]);
        // Or that another plugin of the proxy needs, and so has to be listed.
        let limiter = "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: limits, namespace: shop}\nspec:\n  \
             url: oci://registry/tenant-rate-limit:1\n  match: [{mode: SERVER}]\n  pluginConfig:\n    \
             tenant: {from: [{header: x, vouched: true}], unknown: {tier: free}}\n    tiers: {free: {unlimited: true}}\n    \
             metrics: {refused: refused_total}\n";
        let found = told("error_tenant,tier,limit,reason", limiter);
        assert_eq!(
            found.first().map(String::as_str),
            Some(refused),
            "{found:?}"
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains("know no label \"tenant\""), "{found:?}");
    }

    fn indented(text: &str, by: &str) -> String {
        text.lines().map(|line| format!("{by}{line}\n")).collect()
    }

    #[test]
    fn a_label_that_pods_do_not_list_is_refused() {
        let expected = |field: &str, line: usize| {
            [format!(
                "TG0305 m.yaml:{line}: spec.pluginConfig.{field}: the proxies of shop/cart know no label \"class\", and would have it in the \
                 metric's name; write sidecar.istio.io/extraStatTags: tenant,status,class in the annotations of its pods"
            )]
        };
        assert_eq!(
            told("business-metrics", &indented(METRICS, "    ")),
            expected("labels.class", 10)
        );
        let bundled = format!("    businessMetrics:\n{}", indented(METRICS, "      "));
        assert_eq!(
            told("tollgate", &bundled),
            expected("businessMetrics.labels.class", 11)
        );
        let listed = METRICS
            .replace("class", "status")
            .replace("statusClass", "status");
        assert_eq!(
            told("business-metrics", &indented(&listed, "    ")),
            [""; 0]
        );
        assert_eq!(told("somebody-elses", &indented(METRICS, "    ")), [""; 0]);
    }

    #[test]
    fn the_labels_of_limiters_and_of_skipped_requests_count_too() {
        let limiter = "    tenant: {from: [{header: x, vouched: true}], unknown: {tier: free}}\n    tiers: {free: {unlimited: true}}\n    metrics: {admitted: a_total, refused: b_total}\n";
        let found = told("tenant-rate-limit", limiter);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("know no label \"limit\", \"reason\", \"tier\""),
            "{found:?}"
        );
        let skipping = "    metrics: [{name: a_total, value: {header: x-total}}]\n";
        let found = told("business-metrics", skipping);
        assert!(found[0].contains("know no label \"reason\""), "{found:?}");
    }
}
