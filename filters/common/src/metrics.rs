//! Writing labels into the names of metrics.
//!
//! The Proxy-Wasm ABI has no labels. Istio's `sidecar.istio.io/extraStatTags: tenant` makes Envoy take
//! `tenant=.=acme;.;` out of a metric's name and show it as the label `tenant="acme"`; what is not listed there stays in the name.

use crate::config::{ConfigError, refuse};

/// What Istio's bootstrap makes Envoy look for anywhere in a metric's name, beside the pods' own stat tags: each starts a label.
pub const PROXY_TAGS: [&str; 4] = ["cache.", "component.", "tag.", "wasm_filter."];

/// How many bytes the name of a metric or a label may have.
pub const LONGEST_NAME: usize = 128;

/// Prometheus' rule for names, without the colon, which is for recording rules.
pub fn is_name(name: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(of_name)
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Refuses what can't be the name of a metric.
pub fn name(name: &str, path: &str) -> Result<(), ConfigError> {
    if !is_name(name) {
        return refuse(
            path,
            format!(
                "{name:?} is not a metric's name, write 1 to {LONGEST_NAME} of a-z, A-Z, 0-9 and _, not starting with a digit"
            ),
        );
    }
    // `_rq_200` and `_rq_2xx`: Envoy takes the status out of such a name and makes it a label.
    let status = name
        .rsplit_once("_rq_")
        .map(|(_, status)| status.as_bytes());
    if let Some([b'0'..=b'9', b'0'..=b'9', b'0'..=b'9'] | [b'0'..=b'9', b'x', b'x']) = status {
        return refuse(
            path,
            format!("{name:?} ends as Envoy's own counters by status do, choose another ending"),
        );
    }
    Ok(())
}

/// The name under which a metric with labels is defined: `tenant=.=acme;.;limit=.=rate;.;shop_refused_total`.
///
/// Some values would end a label early or start another one: in a value each control byte, each byte that is not part of
/// UTF-8 text, and each `.` right after `;` or `=` (the separators are `;.;` and `=.=`) or at the end of one of [`PROXY_TAGS`] is
/// written as `_`.
pub fn series_name<V: AsRef<[u8]>>(metric: &str, labels: &[(&str, V)]) -> String {
    let mut series = String::with_capacity(metric.len() + labels.len() * 32);
    for (label, value) in labels {
        series.push_str(label);
        series.push_str("=.=");
        push_value(&mut series, value.as_ref());
        series.push_str(";.;");
    }
    series.push_str(metric);
    series
}

/// A label's value as [`series_name`] writes it.
pub fn label_value(value: &[u8]) -> String {
    let mut written = String::with_capacity(value.len());
    push_value(&mut written, value);
    written
}

/// Whether a dot here would start a label of the proxy's own.
fn ends_in_tag(series: &str) -> bool {
    PROXY_TAGS
        .iter()
        .any(|tag| series.ends_with(tag.trim_end_matches('.')))
}

fn push_value(series: &mut String, value: &[u8]) {
    // The name so far ends in the separator `=.=`: a value that starts with a dot would not be told from it.
    let mut previous = '=';
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            let breaks = character.is_control()
                || (character == '.' && (matches!(previous, ';' | '=') || ends_in_tag(series)));
            previous = if breaks { '_' } else { character };
            series.push(previous);
        }
        for _ in chunk.invalid() {
            previous = '_';
            series.push('_');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_come_before_the_name() {
        let series = series_name(
            "shop_refused_total",
            &[("tenant", "acme"), ("limit", "rate")],
        );
        assert_eq!(series, "tenant=.=acme;.;limit=.=rate;.;shop_refused_total");
        assert_eq!(series_name::<&str>("plain_total", &[]), "plain_total");
    }

    #[test]
    fn what_would_break_a_label_is_replaced() {
        for (value, written) in [
            (b"a\nb\r\x01\x7f".as_slice(), "a_b___"),
            (b"a;.;b", "a;_;b"),
            (b"a;.", "a;_"),
            (b"x;.;.;tenant=.=admin", "x;_;_;tenant=_=admin"),
            (b"a\xff\xfeb", "a__b"),
            (b"..", "_."),
            (b"cache.io", "cache_io"),
            (b"my-tag.component.x", "my-tag_component_x"),
            (b"cachet.io", "cachet.io"),
            ("zażółć 1/2:\"%".as_bytes(), "zażółć 1/2:\"%"),
            (b"", ""),
        ] {
            assert_eq!(
                series_name("m", &[("l", value)]),
                format!("l=.={written};.;m")
            );
        }
    }

    /// What Envoy does with the regular expression of an Istio stat tag, `(l=\.=(.*?);\.;)`: the leftmost, shortest match.
    fn extract<'a>(series: &'a str, label: &str) -> Option<(&'a str, String)> {
        let start_text = format!("{label}=.=");
        let start = series.find(&start_text)?;
        let value_start = start + start_text.len();
        let end = value_start + series[value_start..].find(";.;")?;
        Some((
            &series[value_start..end],
            format!("{}{}", &series[..start], &series[end + 3..]),
        ))
    }

    proptest! {
        #[test]
        fn every_value_is_one_label_and_nothing_else(
            a in proptest::collection::vec(prop_oneof![Just(b';'), Just(b'.'), Just(b'='), Just(b'b'), any::<u8>()], 0..12),
            b in proptest::collection::vec(prop_oneof![Just(b';'), Just(b'.'), Just(b'='), Just(b'a'), any::<u8>()], 0..12),
        ) {
            let series = series_name("m", &[("a", a.as_slice()), ("b", b.as_slice())]);
            let (first, rest) = extract(&series, "a").unwrap();
            let mut written = String::new();
            push_value(&mut written, &a);
            prop_assert_eq!(first, written);
            let (_, rest) = extract(&rest, "b").unwrap();
            prop_assert_eq!(rest, "m");
        }
    }
}
