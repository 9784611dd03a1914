//! Labels that the proxies of a plugin do not know.
//!
//! A metric of a Wasm filter has only a name. Its labels are in it, and the proxy takes those out that its pods' annotation
//! `sidecar.istio.io/extraStatTags` lists. One that is missing there makes a metric of its own for each of its values, under a name that nobody asks for.

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

/// Labels that a workload's pods do not list, one problem for each plugin and workload.
pub(crate) fn problems(mesh: &Mesh, objects: &Objects) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut told = BTreeSet::new();
    for passage in mesh.passages() {
        let workload = passage.workload;
        let listed = workload.extra_stat_tags();
        for plugin in &passage.plugins {
            let same = objects
                .wasm_plugins
                .iter()
                .find(|object| object.name == plugin.name && object.namespace == plugin.namespace);
            let Some(object) = same else { continue };
            let labels = of(plugin);
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
