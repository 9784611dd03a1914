//! What an Envoy answers to `/stats/prometheus`: Prometheus' text format.

use std::collections::BTreeMap;

/// The labels of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// The metrics of one answer, by name.
pub(crate) type Exposition = BTreeMap<String, Metric>;

/// A metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metric {
    /// `counter`, `gauge`, `histogram`; empty if nobody said.
    pub(crate) kind: String,
    pub(crate) series: BTreeMap<Labels, Value>,
}

/// What a series has come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Histogram(Histogram),
}

/// How often values up to each bound were seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    /// Upper bounds, rising, and how many values were not above them.
    pub(crate) buckets: Vec<(f64, f64)>,
    pub(crate) count: f64,
    pub(crate) sum: f64,
}

/// Reads an answer, or says which line is none.
pub(crate) fn parse(text: &str) -> Result<Exposition, String> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut metrics = Exposition::new();
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.split_whitespace();
            if words.next() == Some("TYPE")
                && let (Some(name), Some(kind)) = (words.next(), words.next())
            {
                kinds.insert(name, kind);
            }
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let (name, mut labels, value) = sample(line)
            .ok_or_else(|| format!("{line:?} is no sample of Prometheus' text format"))?;
        let part = ["_bucket", "_count", "_sum"].into_iter().find_map(|part| {
            let name = name.strip_suffix(part)?;
            (kinds.get(name) == Some(&"histogram")).then_some((name, part))
        });
        let name = part.map_or(name, |(name, _)| name);
        let bound = match part {
            Some((_, "_bucket")) => labels.remove("le").and_then(|bound| bound.parse().ok()),
            _ => None,
        };
        let metric = metrics.entry(name.to_owned()).or_default();
        metric.kind = kinds.get(name).copied().unwrap_or_default().to_owned();
        let Some((_, part)) = part else {
            metric.series.insert(labels, Value::Number(value));
            continue;
        };
        let series = metric.series.entry(labels);
        let series = series.or_insert_with(|| Value::Histogram(Histogram::default()));
        if let Value::Histogram(histogram) = series {
            match (part, bound) {
                ("_bucket", Some(bound)) => histogram.buckets.push((bound, value)),
                ("_count", _) => histogram.count = value,
                ("_sum", _) => histogram.sum = value,
                _ => return Err(format!("{line:?} is a bucket without a bound")),
            }
        }
    }
    Ok(metrics)
}

/// One line: a name, labels if there are any, a value, and perhaps a time.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            let (label, value) = rest.split_once("=\"")?;
            let (value, behind) = unescaped(value)?;
            labels.insert(label.to_owned(), value);
            rest = behind;
        }
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// Text up to its closing quote, without its escapes, and what follows.
fn unescaped(text: &str) -> Option<(String, &str)> {
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

impl Value {
    /// Adds what another proxy has counted of the same.
    pub(crate) fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => *one += other,
            (Self::Histogram(one), Self::Histogram(other)) => one.add(other),
            // Two proxies that disagree about what a metric is; the first one speaks.
            _ => {}
        }
    }
}

impl Histogram {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        for (bound, count) in &other.buckets {
            match self.buckets.iter_mut().find(|(own, _)| own == bound) {
                Some((_, own)) => *own += count,
                None => self.buckets.push((*bound, *count)),
            }
        }
        self.buckets
            .sort_by(|(one, _), (other, _)| one.total_cmp(other));
    }

    /// The value that this share of all values does not exceed, as Prometheus' `histogram_quantile` estimates it: inside a bucket
    /// values count as spread evenly. Of values above the last bound nobody knows more than that: then it is the bound.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = share * self.count;
        if self.count <= 0.0 {
            return None;
        }
        let mut below = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if count >= wanted {
                if bound.is_infinite() {
                    return Some(below.0);
                }
                let (from, before) = below;
                let inside = count - before;
                let share = if inside > 0.0 {
                    (wanted - before) / inside
                } else {
                    1.0
                };
                return Some(from + (bound - from) * share);
            }
            below = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn names_labels_values_and_types_are_read() {
        let metrics = parse(
            "# TYPE shop_orders_total counter\n\
             shop_orders_total{tenant=\"acme\",route=\"/{x},}\"} 3\n\
             shop_orders_total{tenant=\"a\\\"\\\\\\nb\"} 2 1700000000000\n\n\
             # TYPE plain gauge\nplain{} 1e3\nnobody_says 4\n",
        )
        .unwrap();
        let orders = &metrics["shop_orders_total"];
        assert_eq!(orders.kind, "counter");
        assert_eq!(
            orders.series[&labels(&[("tenant", "acme"), ("route", "/{x},}")])],
            Value::Number(3.0)
        );
        assert_eq!(
            orders.series[&labels(&[("tenant", "a\"\\\nb")])],
            Value::Number(2.0)
        );
        assert_eq!(metrics["plain"].series[&labels(&[])], Value::Number(1000.0));
        assert_eq!(metrics["nobody_says"].kind, "");
        assert_eq!(
            parse("<html>").unwrap_err(),
            "\"<html>\" is no sample of Prometheus' text format"
        );
    }

    #[test]
    fn a_histogram_is_one_series_and_knows_its_quantiles() {
        let text = "# TYPE t histogram\nt_bucket{a=\"b\",le=\"10\"} 10\nt_bucket{a=\"b\",le=\"20\"} 90\n\
                    t_bucket{a=\"b\",le=\"+Inf\"} 100\nt_sum{a=\"b\"} 1500\nt_count{a=\"b\"} 100\n\
                    # TYPE t_count_total counter\nt_count_total{} 1\n";
        let metrics = parse(text).unwrap();
        assert_eq!(metrics.len(), 2);
        let one = labels(&[("a", "b")]);
        let Value::Histogram(histogram) = &metrics["t"].series[&one] else {
            panic!("{metrics:?}");
        };
        assert_eq!((histogram.count, histogram.sum), (100.0, 1500.0));
        assert_eq!(histogram.quantile(0.05), Some(5.0));
        assert_eq!(histogram.quantile(0.5), Some(15.0));
        assert_eq!(histogram.quantile(0.9), Some(20.0));
        // Above the last bound.
        assert_eq!(histogram.quantile(0.99), Some(20.0));
        assert_eq!(Histogram::default().quantile(0.5), None);

        let mut both = metrics["t"].series[&one].clone();
        both.add(&metrics["t"].series[&one]);
        let Value::Histogram(both) = both else {
            panic!("{both:?}");
        };
        assert_eq!(both.count, 200.0);
        assert_eq!(both.quantile(0.5), histogram.quantile(0.5));
    }
}
