//! Tables for people: a metric, what it means, and a line a series.

use std::collections::BTreeSet;
use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use super::exposition::Value;
use super::tally::{Tallied, WORKLOAD};

/// What is said of a histogram.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

/// Writes them.
pub(crate) fn text(metrics: &[Tallied]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    if metrics.is_empty() {
        writeln!(text, "nothing has been counted with these labels")?;
    }
    for (position, metric) in metrics.iter().enumerate() {
        if position > 0 {
            text.push('\n');
        }
        heading(&mut text, metric)?;
        table(&mut text, metric)?;
    }
    Ok(text)
}

fn heading(text: &mut String, metric: &Tallied) -> std::fmt::Result {
    let kind = (!metric.kind.is_empty()).then(|| metric.kind.clone());
    // What Prometheus has of it is another number than that which is shown.
    let scale = (metric.scale > 1).then(|| format!("exported times {}", metric.scale));
    let parts = [kind, metric.unit.clone(), scale];
    let parts = Vec::from_iter(parts.into_iter().flatten());
    text.push_str(&metric.name);
    if !parts.is_empty() {
        write!(text, " ({})", parts.join(", "))?;
    }
    if let Some(help) = &metric.help {
        write!(text, ": {}", help.trim_end())?;
    }
    text.push('\n');
    Ok(())
}

fn table(text: &mut String, metric: &Tallied) -> std::fmt::Result {
    if metric.series.is_empty() {
        return writeln!(text, "  nothing yet");
    }
    let names: BTreeSet<&str> = metric
        .series
        .keys()
        .flat_map(|labels| labels.keys().map(String::as_str))
        .collect();
    // Who has counted comes first.
    let mut names = Vec::from_iter(names);
    names.sort_by_key(|name| *name != WORKLOAD);
    let is_histogram = |value: &Value| matches!(value, Value::Histogram(_));
    let mut head: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    if metric.series.values().any(is_histogram) {
        head.extend(["count", "sum"].map(str::to_owned));
        head.extend(QUANTILES.map(|(name, _)| name.to_owned()));
    } else {
        head.push("value".to_owned());
    }
    let mut rows = vec![head];
    let mut total = 0.0;
    for (labels, value) in &metric.series {
        let label = |name: &&str| labels.get(*name).map_or("-", String::as_str).to_owned();
        let mut row: Vec<String> = names.iter().map(label).collect();
        match value {
            Value::Number(number) => {
                total += number;
                row.push(shown(*number, metric.scale));
            }
            Value::Histogram(histogram) => {
                row.push(shown(histogram.count, 1));
                row.push(shown(histogram.sum, metric.scale));
                row.extend(QUANTILES.map(|(_, share)| {
                    let value = histogram.quantile(share);
                    value.map_or_else(|| "-".to_owned(), |value| estimated(value, metric.scale))
                }));
            }
        }
        rows.push(row);
    }
    if let Some((_head, rows)) = rows.split_first_mut() {
        rows.sort();
    }
    // A sum of what is true at one moment says little, and one line needs none.
    if metric.kind == "counter" && metric.series.len() > 1 {
        let mut row = vec![String::new(); names.len()];
        if let Some(first) = row.first_mut() {
            "total".clone_into(first);
        }
        row.push(shown(total, metric.scale));
        rows.push(row);
    }
    for row in &rows {
        let mut line = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.width())
                .max();
            let space = " ".repeat(width.unwrap_or(0) - cell.width());
            if column < names.len() {
                write!(line, " {cell}{space} ")?;
            } else {
                write!(line, " {space}{cell} ")?;
            }
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A number as it was before it was multiplied: `1999` of the scale 100 is `19.99`. A scale that is no power of ten is divided by.
pub(crate) fn shown(number: f64, scale: u64) -> String {
    let digits = scale.checked_ilog10().unwrap_or(0);
    let exact = 10_u64.checked_pow(digits) == Some(scale);
    // Whole numbers are exact up to here.
    if !exact || number.fract() != 0.0 || number.abs() >= 9_007_199_254_740_992.0 {
        return (number / scale as f64).to_string();
    }
    let whole = number.abs() as u64;
    let sign = if number < 0.0 { "-" } else { "" };
    let (before, behind) = (whole / scale.max(1), whole % scale.max(1));
    match digits as usize {
        0 => format!("{sign}{before}"),
        digits => format!("{sign}{before}.{behind:0digits$}"),
    }
}

/// An estimate has no more than three digits that say anything.
fn estimated(value: f64, scale: u64) -> String {
    let value = value / scale as f64;
    if value == 0.0 {
        return "0".to_owned();
    }
    let before = value.abs().log10().floor() as i32;
    let places = usize::try_from(2 - before).unwrap_or(0);
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::exposition::{Histogram, Labels};
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    fn metric(name: &str, kind: &str, help: Option<&str>, scale: u64) -> Tallied {
        Tallied {
            name: name.to_owned(),
            kind: kind.to_owned(),
            help: help.map(str::to_owned),
            scale,
            unit: None,
            series: BTreeMap::new(),
        }
    }

    #[test]
    fn a_table_has_a_column_a_label_and_a_total() {
        let mut revenue = metric(
            "revenue_cents_total",
            "counter",
            Some("What orders came to."),
            100,
        );
        let gateway = (WORKLOAD, "ingressgateway");
        for (labels_of, value) in [
            (
                &[gateway, ("tenant", "acme"), ("class", "vip")][..],
                123_456.0,
            ),
            (&[gateway, ("tenant", "globex"), ("class", "none")], 5.0),
        ] {
            revenue
                .series
                .insert(labels(labels_of), Value::Number(value));
        }
        let mut order = metric("order_time", "histogram", None, 1);
        order.unit = Some("ms".to_owned());
        let histogram = Histogram {
            buckets: vec![(10.0, 10.0), (20.0, 90.0), (f64::INFINITY, 100.0)],
            count: 100.0,
            sum: 1500.0,
        };
        order
            .series
            .insert(labels(&[gateway]), Value::Histogram(histogram));
        order.series.insert(
            labels(&[(WORKLOAD, "cart")]),
            Value::Histogram(Histogram::default()),
        );
        let nothing = metric(
            "refused_total",
            "counter",
            Some("requests that a limit refused"),
            1,
        );
        assert_eq!(
            text(&[revenue, order, nothing]).unwrap(),
            "revenue_cents_total (counter, exported times 100): What orders came to.\n  \
             workload        class  tenant    value\n  \
             ingressgateway  none   globex     0.05\n  \
             ingressgateway  vip    acme    1234.56\n  \
             total                          1234.61\n\
             \norder_time (histogram, ms)\n  \
             workload        count   sum  p50  p95  p99\n  \
             cart                0     0    -    -    -\n  \
             ingressgateway    100  1500   15   20   20\n\
             \nrefused_total (counter): requests that a limit refused\n  nothing yet\n"
        );
        assert_eq!(
            text(&[]).unwrap(),
            "nothing has been counted with these labels\n"
        );
    }

    #[test]
    fn what_was_multiplied_is_shown_as_it_was_to_the_last_digit() {
        for (number, scale, expected) in [
            (0.0, 1, "0"),
            (1999.0, 100, "19.99"),
            (5.0, 1000, "0.005"),
            (-5.0, 100, "-0.05"),
            (9_007_199_254_740_991.0, 100, "90071992547409.91"),
            (10.0, 60, "0.16666666666666666"),
            (1.5, 1, "1.5"),
        ] {
            assert_eq!(shown(number, scale), expected);
        }
        for (value, scale, expected) in [
            (0.0, 1, "0"),
            (1234.56, 1, "1235"),
            (12.3456, 1, "12.3"),
            (0.012_345, 1, "0.0123"),
            (1999.0, 100, "20"),
        ] {
            assert_eq!(estimated(value, scale), expected);
        }
    }
}
