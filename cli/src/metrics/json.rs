//! For scripts: one JSON object. Numbers are as they are exported, not divided by their scale.

use serde_json::{Map, Value as Json, json};

use super::exposition::Value;
use super::tally::{Tallied, WORKLOAD};

/// The object; `silent` are the proxies that did not answer, and why.
pub(crate) fn json(metrics: &[Tallied], silent: &[(String, String)]) -> Json {
    let metrics = metrics.iter().map(|metric| {
        let series = metric.series.iter().map(|(labels, value)| {
            let mut labels = labels.clone();
            let mut series = Map::new();
            if let Some(workload) = labels.remove(WORKLOAD) {
                series.insert("workload".to_owned(), json!(workload));
            }
            series.insert("labels".to_owned(), json!(labels));
            let numbers = match value {
                Value::Number(value) => vec![("value", number(*value))],
                Value::Histogram(histogram) => {
                    let quantile = |share| histogram.quantile(share).map_or(Json::Null, number);
                    vec![
                        ("count", number(histogram.count)),
                        ("sum", number(histogram.sum)),
                        ("p50", quantile(0.5)),
                        ("p95", quantile(0.95)),
                        ("p99", quantile(0.99)),
                    ]
                }
            };
            let numbers = numbers.into_iter();
            series.extend(numbers.map(|(name, value)| (name.to_owned(), value)));
            Json::Object(series)
        });
        json!({
            "name": metric.name,
            "type": (!metric.kind.is_empty()).then_some(&metric.kind),
            "help": metric.help,
            "scale": metric.scale,
            "unit": metric.unit,
            "series": series.collect::<Vec<_>>(),
        })
    });
    let silent = silent.iter();
    let silent = silent.map(|(pod, reason)| json!({"pod": pod, "reason": reason}));
    json!({
        "metrics": metrics.collect::<Vec<_>>(),
        "silent": silent.collect::<Vec<_>>(),
    })
}

/// Whole where it is.
fn number(value: f64) -> Json {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::exposition::{Histogram, Labels};
    use super::*;

    #[test]
    fn scripts_get_numbers_as_they_are_exported() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            pairs.iter().map(own).collect()
        };
        let histogram = Histogram {
            buckets: vec![(10.0, 3.0), (f64::INFINITY, 4.0)],
            count: 4.0,
            sum: 40.5,
        };
        let metrics = [
            Tallied {
                name: "revenue_total".to_owned(),
                kind: "counter".to_owned(),
                help: Some("revenue".to_owned()),
                scale: 100,
                unit: None,
                series: BTreeMap::from([(
                    labels(&[(WORKLOAD, "gateway"), ("tenant", "acme")]),
                    Value::Number(1999.0),
                )]),
            },
            Tallied {
                name: "time".to_owned(),
                kind: String::new(),
                help: None,
                scale: 1,
                unit: Some("ms".to_owned()),
                series: BTreeMap::from([(labels(&[]), Value::Histogram(histogram))]),
            },
        ];
        let silent = [("cart-0".to_owned(), "connection refused".to_owned())];
        assert_eq!(
            json(&metrics, &silent),
            json!({
                "metrics": [
                    {
                        "name": "revenue_total", "type": "counter", "help": "revenue", "scale": 100, "unit": null,
                        "series": [{"workload": "gateway", "labels": {"tenant": "acme"}, "value": 1999}],
                    },
                    {
                        "name": "time", "type": null, "help": null, "scale": 1, "unit": "ms",
                        "series": [{"labels": {}, "count": 4, "sum": 40.5, "p50": 6.666_666_666_666_666, "p95": 10, "p99": 10}],
                    },
                ],
                "silent": [{"pod": "cart-0", "reason": "connection refused"}],
            })
        );
    }
}
