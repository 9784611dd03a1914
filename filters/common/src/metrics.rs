//! Writing labels into the names of metrics.
//!
//! The Proxy-Wasm ABI has no labels. Istio's `sidecar.istio.io/extraStatTags: tenant` makes Envoy take
//! `tenant=.=acme;.;` out of a metric's name and show it as the label `tenant="acme"`; what is not listed there stays in the name.

/// The name under which a metric with labels is defined: `tenant=.=acme;.;limit=.=rate;.;shop_refused_total`.
///
/// Some values would end a label early or start another one: in a value each control byte, each byte that is not part of
/// UTF-8 text, and each `.` right after `;` or `=` (the separators are `;.;` and `=.=`) is written as `_`.
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

fn push_value(series: &mut String, value: &[u8]) {
    // The name so far ends in the separator `=.=`: a value that starts with a dot would not be told from it.
    let mut previous = '=';
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            let breaks =
                character.is_control() || (character == '.' && matches!(previous, ';' | '='));
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
