//! What a gateway's admin interface answered at one moment: `/stats?format=json`, of which it sends only what is asked for.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What the gateway is asked for: its filters' counters, the answers to clients and how long they took, and the answers
/// of each version of a service. Names are Istio's (`http.outbound_0.0.0.0_8080;.…`).
pub(crate) const FILTER: &str = concat!(
    r"^(wasmcustom\.",
    r"|http\.outbound_[^;]*;\.downstream_rq_(completed|5xx|time)$",
    r"|cluster\.outbound\|[^;]*;\.upstream_rq_completed$)",
);

/// A gateway's stats, those of several gateways added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// Counters by name.
    pub(crate) counters: BTreeMap<String, u64>,
    /// Of each histogram its 50th and 99th percentile, over the last interval between two flushes of the proxy.
    pub(crate) percentiles: BTreeMap<String, [Option<f64>; 2]>,
}

#[derive(Deserialize)]
struct Answer {
    stats: Vec<Stat>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stat {
    Number { name: String, value: u64 },
    Histograms { histograms: Histograms },
    Other {},
}

#[derive(Deserialize)]
struct Histograms {
    supported_quantiles: Vec<f64>,
    computed_quantiles: Vec<Quantiles>,
}

#[derive(Deserialize)]
struct Quantiles {
    name: String,
    values: Vec<Quantile>,
}

#[derive(Deserialize)]
struct Quantile {
    interval: Option<f64>,
}

impl Snapshot {
    /// Reads an answer.
    pub(crate) fn parse(json: &[u8]) -> serde_json::Result<Self> {
        let answer: Answer = serde_json::from_slice(json)?;
        let mut snapshot = Self::default();
        for stat in answer.stats {
            match stat {
                Stat::Number { name, value } => _ = snapshot.counters.insert(name, value),
                Stat::Histograms { histograms } => {
                    let supported = histograms.supported_quantiles;
                    let position =
                        |wanted| supported.iter().position(|quantile| *quantile == wanted);
                    let wanted = [position(50.0), position(99.0)];
                    for Quantiles { name, values } in histograms.computed_quantiles {
                        let found = wanted.map(|at| values.get(at?)?.interval);
                        snapshot.percentiles.insert(name, found);
                    }
                }
                Stat::Other {} => {}
            }
        }
        Ok(snapshot)
    }

    /// Adds what another gateway counted. Percentiles cannot be added: those of the first are kept.
    pub(crate) fn add(&mut self, other: Self) {
        for (name, value) in other.counters {
            *self.counters.entry(name).or_default() += value;
        }
        for (name, found) in other.percentiles {
            self.percentiles.entry(name).or_insert(found);
        }
    }
}

/// A filter's counter: its metric and labels, as Istio's convention writes them into the name.
pub(crate) fn series(name: &str) -> Option<(&str, BTreeMap<&str, &str>)> {
    let mut rest = name.strip_prefix("wasmcustom.")?;
    let mut labels = BTreeMap::new();
    while let Some((label, after)) = rest.split_once(";.;") {
        let (name, value) = label.split_once("=.=")?;
        labels.insert(name, value);
        rest = after;
    }
    Some((rest, labels))
}

/// The counter of a listener's requests: `completed`, `5xx` or `time`.
pub(crate) fn downstream<'a>(name: &'a str, what: &str) -> Option<&'a str> {
    let (listener, stat) = name.strip_prefix("http.outbound_")?.split_once(";.")?;
    (stat.strip_prefix("downstream_rq_")? == what).then_some(listener)
}

/// The counter of a version's answers: `product-service.ecommerce` and its subset.
pub(crate) fn version(name: &str) -> Option<(&str, &str)> {
    let cluster = name
        .strip_prefix("cluster.outbound|")?
        .strip_suffix(";.upstream_rq_completed")?;
    let mut parts = cluster.split('|');
    let (_port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    let service = host
        .split_once(".svc.")
        .map_or(host, |(service, _)| service);
    (!subset.is_empty()).then_some((service, subset))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a gateway really answered, after 30 requests of acme, 15 of initech, 5 of globex and 1 of somebody else.
    pub(crate) const ANSWER: &str = include_str!("testdata/stats.json");

    #[test]
    fn an_answer_of_envoy_is_read() {
        let snapshot = Snapshot::parse(ANSWER.as_bytes()).unwrap();
        let completed = "http.outbound_0.0.0.0_8080;.downstream_rq_completed";
        assert_eq!(snapshot.counters.get(completed), Some(&51));
        assert_eq!(snapshot.counters.values().sum::<u64>(), 51 + 55 + 47);
        assert_eq!(
            snapshot.percentiles,
            BTreeMap::from([(
                "http.outbound_0.0.0.0_8080;.downstream_rq_time".to_owned(),
                [Some(2.044_444_444_444_444_3), Some(70.5)]
            )])
        );
    }

    #[test]
    fn a_histogram_without_requests_has_no_percentiles() {
        let answer = r#"{"stats":[{"histograms":{"supported_quantiles":[50,99],"computed_quantiles":[
            {"name":"a","values":[{"cumulative":1,"interval":null},{"cumulative":2,"interval":null}]}]}}]}"#;
        let snapshot = Snapshot::parse(answer.as_bytes()).unwrap();
        assert_eq!(snapshot.percentiles["a"], [None, None]);
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(
            series("wasmcustom.tenant=.=acme;.;limit=.=rate;.;shop_refused_total"),
            Some((
                "shop_refused_total",
                BTreeMap::from([("tenant", "acme"), ("limit", "rate")])
            ))
        );
        assert_eq!(series("wasmcustom.plain"), Some(("plain", BTreeMap::new())));
        assert_eq!(series("wasmcustom.odd;.;plain"), None);
        let name = "cluster.outbound|3001|v2|product-service.ecommerce.svc.cluster.local;.upstream_rq_completed";
        assert_eq!(version(name), Some(("product-service.ecommerce", "v2")));
        assert_eq!(version(&name.replace("v2", "")), None);
        let name = "http.outbound_0.0.0.0_8080;.downstream_rq_5xx";
        assert_eq!(downstream(name, "5xx"), Some("0.0.0.0_8080"));
        assert_eq!(downstream(name, "completed"), None);
    }
}
