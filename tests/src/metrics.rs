//! Metrics as Prometheus reads them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// Samples, by name and labels.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Metrics {
    /// Adds an exposition in Prometheus' text format: equal series are summed.
    pub fn add(&mut self, text: &str) -> Result<()> {
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (name, labels, value) =
                sample(line).with_context(|| format!("{line:?} is no sample"))?;
            *self.samples.entry((name.to_owned(), labels)).or_default() += value;
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

    /// The values that a label of a metric has, over all its series.
    pub fn label_values(&self, name: &str, label: &str) -> Vec<&str> {
        let series = self.samples.keys().filter(|(n, _)| n == name);
        let mut values: Vec<&str> = series
            .filter_map(|(_, labels)| labels.get(label).map(String::as_str))
            .collect();
        values.sort_unstable();
        values.dedup();
        values
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

/// One line of an exposition. (The crates for it read labels by a regular expression that ends at the first brace, and
/// the value of our `route` is `/users/{id}`.)
fn sample(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches(',');
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            let (label, value) = rest.split_once("=\"")?;
            let (value, behind) = quoted(value)?;
            labels.insert(label.to_owned(), value);
            rest = behind;
        }
    }
    Some((name, labels, rest.trim().parse().ok()?))
}

/// Text up to its closing quote, without its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_quotes_and_commas_in_values_are_read() -> Result<()> {
        let mut metrics = Metrics::default();
        metrics.add(
            "# TYPE m counter\nm{a=\"/{x},}\",b=\"\\\"\\\\\"} 2\nm{a=\"/{x},}\"} 3\nm 4\nn{} 5\n",
        )?;
        assert_eq!(metrics.sum("m", &[("a", "/{x},}")]), 5);
        assert_eq!(metrics.sum("m", &[("b", "\"\\")]), 2);
        assert_eq!(metrics.sum("m", &[]), 9);
        assert_eq!(metrics.sum("n", &[]), 5);
        assert!(metrics.add("m{a=\"}").is_err());
        Ok(())
    }
}
