//! What the manifests say of metrics: Envoy exports names, labels and numbers, and neither what they mean nor in which unit.
//!
//! A configuration is read by the names of its fields alone, after its filter has accepted it: a field that a metric does not
//! have says nothing about it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_mesh::model::{Plugin, ROOT_NAMESPACE};

use crate::up::section;

/// A metric that a plugin was told to count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// `counter`, `gauge`, `histogram`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
    /// What its values were multiplied with, because Envoy counts whole numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scale: Option<u64>,
    /// In what its values are counted, where that is known: `ms`, `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

impl Declared {
    fn new(name: &str, kind: &str, help: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            help: Some(help.to_owned()),
            scale: None,
            unit: None,
        }
    }
}

/// The limiter's metrics by the field that names them, what they are, and what its page says of them.
const OF_THE_LIMITER: [(&str, &str, &str); 8] = [
    ("admitted", "counter", "Requests that pass the limits."),
    ("refused", "counter", "Requests that a limit refused."),
    (
        "shadowed",
        "counter",
        "Requests that a limit in shadow would have refused.",
    ),
    ("tracked", "gauge", "Tenants that have a record."),
    (
        "evictions",
        "counter",
        "Records that were given up because all their limits were at rest.",
    ),
    (
        "contention",
        "counter",
        "Charges that had to be tried again because another worker was faster.",
    ),
    (
        "unsettled",
        "counter",
        "Requests that were not settled by what their responses say.",
    ),
    (
        "settled",
        "counter",
        "Units that responses have said, or that were charged where they did not.",
    ),
];

/// The counters that business-metrics has of itself: the field that names them, what they are called without it, and what they mean.
const OF_BUSINESS_METRICS: [(&str, &str, &str); 2] = [
    (
        "foldedMetric",
        "tollgate_folded_total",
        "Requests that are counted as other because of maxSeries.",
    ),
    (
        "skippedMetric",
        "tollgate_skipped_total",
        "Requests whose values could not be counted, by reason.",
    ),
];

/// All that these plugins were told to count, each name once.
pub(crate) fn declared(plugins: &[Plugin]) -> Vec<Declared> {
    let mut all: Vec<Declared> = Vec::new();
    let mut add = |metric: Declared| {
        if !all.iter().any(|other| other.name == metric.name) {
            all.push(metric);
        }
    };
    // Gateways before services, as requests come; what filters count of themselves last.
    let (outside, inside): (Vec<&Plugin>, Vec<&Plugin>) = plugins
        .iter()
        .partition(|plugin| plugin.namespace == ROOT_NAMESPACE);
    let of_filter = |filter: &'static str| {
        let plugins = outside.iter().chain(&inside);
        plugins.filter_map(move |plugin| section(plugin, filter))
    };
    for counted in of_filter("business-metrics") {
        items(&counted)
            .iter()
            .filter_map(business)
            .for_each(&mut add);
    }
    for limits in of_filter("tenant-rate-limit") {
        for (field, kind, help) in OF_THE_LIMITER {
            if let Some(name) = limits["metrics"][field].as_str() {
                add(Declared::new(name, kind, help));
            }
        }
    }
    for counted in of_filter("business-metrics") {
        // Where every value is known to the proxy itself, there is nothing to skip.
        let mut metrics = items(&counted).iter();
        let skips = metrics.any(|metric| {
            let value = &metric["value"];
            value.is_object() && value["from"].is_null()
        });
        for (field, name, help) in OF_BUSINESS_METRICS {
            if field != "skippedMetric" || skips {
                let name = counted[field].as_str().unwrap_or(name);
                add(Declared::new(name, "counter", help));
            }
        }
    }
    all
}

fn items(counted: &Value) -> &[Value] {
    counted["metrics"].as_array().map_or(&[], Vec::as_slice)
}

/// An item of `metrics` of business-metrics.
fn business(metric: &Value) -> Option<Declared> {
    let text = |field: &str| metric[field].as_str().map(str::to_owned);
    Some(Declared {
        name: text("name")?,
        kind: text("type").unwrap_or_else(|| "counter".to_owned()),
        help: text("help"),
        scale: metric["value"]["scale"].as_u64().filter(|scale| *scale > 1),
        unit: match metric["value"]["from"].as_str() {
            Some("duration") => Some("ms".to_owned()),
            Some("requestBytes" | "responseBytes") => Some("bytes".to_owned()),
            _ => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::plugins_of;

    #[test]
    fn what_a_metric_is_stands_in_the_manifests() {
        let manifests = "\
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: a, namespace: shop}
spec:
  url: oci://example.com/business-metrics:1
  pluginConfig:
    metrics:
    - {name: orders_total, help: Orders at a service.}
    - {name: revenue_cents_total, value: {responseHeader: x-total, scale: 100}}
    - {name: order_ms, type: histogram, value: {from: duration}}
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: b, namespace: istio-system}
spec:
  url: oci://example.com/tollgate:1
  pluginConfig:
    tenantRateLimit: {metrics: {tracked: tenants, refused: refused_total}}
    businessMetrics: {foldedMetric: folded_total, metrics: [{name: orders_total, help: Orders at the gateway.}]}
";
        let folded = "Requests that are counted as other because of maxSeries.";
        let skipped = "Requests whose values could not be counted, by reason.";
        assert_eq!(
            declared(&plugins_of(manifests)),
            [
                Declared::new("orders_total", "counter", "Orders at the gateway."),
                Declared {
                    help: None,
                    scale: Some(100),
                    ..Declared::new("revenue_cents_total", "counter", "")
                },
                Declared {
                    help: None,
                    unit: Some("ms".to_owned()),
                    ..Declared::new("order_ms", "histogram", "")
                },
                Declared::new("refused_total", "counter", "Requests that a limit refused."),
                Declared::new("tenants", "gauge", "Tenants that have a record."),
                Declared::new("folded_total", "counter", folded),
                Declared::new("tollgate_folded_total", "counter", folded),
                Declared::new("tollgate_skipped_total", "counter", skipped),
            ]
        );
    }

    #[test]
    fn what_the_limiter_counts_is_all_known() {
        let schema = "../wasm-plugins/tenant-rate-limit/config.schema.json";
        let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(schema);
        let schema: Value = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
        let metrics = schema["$defs"]["Metrics"]["properties"]
            .as_object()
            .unwrap();
        let mut known = OF_THE_LIMITER.map(|(field, ..)| field);
        known.sort_unstable();
        let mut there = Vec::from_iter(metrics.keys().map(String::as_str));
        there.sort_unstable();
        assert_eq!(known[..], there);
    }

    #[test]
    fn what_the_proxy_knows_itself_is_never_skipped() {
        let names = |value: &str| {
            let manifest = format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a, namespace: shop}}\nspec:\n  \
                 url: oci://example.com/business-metrics:1\n  pluginConfig:\n    metrics: [{{name: a, value: {value}}}]\n"
            );
            let all = declared(&plugins_of(&manifest)).into_iter();
            all.map(|metric| metric.name).collect::<Vec<_>>()
        };
        assert_eq!(names("{from: duration}"), ["a", "tollgate_folded_total"]);
        assert_eq!(
            names("{header: x-total}"),
            ["a", "tollgate_folded_total", "tollgate_skipped_total"]
        );
    }
}
