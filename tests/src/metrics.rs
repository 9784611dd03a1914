//! Metrics as Prometheus reads them.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use prometheus_parse::{Scrape, Value};

/// Counters and gauges, by name and labels.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Metrics {
    /// Adds an exposition in Prometheus' text format: equal series are summed.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned())))?;
        if scrape.samples.is_empty() && !text.trim().is_empty() {
            bail!("no sample in {} bytes", text.len());
        }
        for sample in scrape.samples {
            let value = match sample.value {
                Value::Counter(v) | Value::Gauge(v) | Value::Untyped(v) => v,
                Value::Histogram(_) | Value::Summary(_) => continue,
            };
            let labels = sample
                .labels
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            *self.samples.entry((sample.metric, labels)).or_default() += value;
        }
        Ok(())
    }

    /// The sum of all series of a metric that carry these labels (and perhaps more).
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let carries = |have: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(k, v)| have.get(*k).map(String::as_str) == Some(*v))
        };
        let matching = self
            .samples
            .iter()
            .filter(|((n, have), _)| n == name && carries(have));
        matching.map(|(_, value)| *value as u64).sum()
    }

    /// The label names of a metric, over all its series.
    pub fn label_names(&self, name: &str) -> Vec<&str> {
        let series = self.samples.keys().filter(|(n, _)| n == name);
        let mut names: Vec<&str> = series
            .flat_map(|(_, labels)| labels.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Every metric name that contains `part`.
    pub fn names_with(&self, part: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .samples
            .keys()
            .map(|(n, _)| n.as_str())
            .filter(|n| n.contains(part))
            .collect();
        names.dedup();
        names
    }
}
