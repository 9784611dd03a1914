//! Lengths of time as Istio writes them.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A length of time: whole numbers with units, `500ms`, `10s`, `1m30s`, `1h`, `1d`. Never 0, at most 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    nanoseconds: u64,
}

// Largest first: in one duration the units descend, so `30s1m` is a slip and not another spelling.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const LONGEST: u64 = 366 * 86_400_000_000_000;

impl Duration {
    /// Reads `1m30s`; the error says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || match text.parse::<u64>() {
            Ok(number) if number > 0 => format!("\"{text}\" is not a duration, write \"{text}s\""),
            _ => format!("\"{text}\" is not a duration, write e.g. \"10s\", \"500ms\", \"1m30s\""),
        };
        let (mut rest, mut total, mut units) = (text, 0_u64, UNITS.as_slice());
        while !rest.is_empty() {
            let (number, after) =
                rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
            let (unit, after) = after.split_at(
                after
                    .find(|c: char| !c.is_ascii_alphabetic())
                    .unwrap_or(after.len()),
            );
            let at = units
                .iter()
                .position(|(name, _)| *name == unit)
                .ok_or_else(wrong)?;
            let (_, length) = units.get(at).ok_or_else(wrong)?;
            let part = number
                .parse::<u64>()
                .map_err(|_| wrong())?
                .checked_mul(*length);
            total = part
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| format!("\"{text}\" is too long, write at most \"366d\""))?;
            units = units.get(at + 1..).unwrap_or_default();
            rest = after;
        }
        match total {
            0 => Err(wrong()),
            1..=LONGEST => Ok(Self { nanoseconds: total }),
            _ => Err(format!("\"{text}\" is too long, write at most \"366d\"")),
        }
    }

    /// The length in nanoseconds.
    pub fn nanoseconds(self) -> u64 {
        self.nanoseconds
    }
}

/// As it would be written, in the largest units that leave nothing over.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.nanoseconds;
        for (unit, length) in UNITS {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration, e.g. \"10s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                Duration::parse(text).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
                let example = number.max(1);
                Err(E::custom(format!(
                    "{number} is not a duration, write \"{example}s\""
                )))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        for (text, nanoseconds) in [
            ("10s", 10_000_000_000),
            ("1m", 60_000_000_000),
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1h", 3_600_000_000_000),
            ("1d", 86_400_000_000_000),
            ("5us", 5_000),
            ("366d", LONGEST),
        ] {
            assert_eq!(
                Duration::parse(text).map(Duration::nanoseconds),
                Ok(nanoseconds),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_says_what_to_write() {
        let general = |text: &str| {
            format!("\"{text}\" is not a duration, write e.g. \"10s\", \"500ms\", \"1m30s\"")
        };
        assert_eq!(
            Duration::parse("10"),
            Err("\"10\" is not a duration, write \"10s\"".into())
        );
        for text in [
            "", "s", "0", "0s", "-1s", "1.5s", "10 s", "10S", "1m1m", "30s1m", "1w", "1s2", "é",
            "10é",
        ] {
            assert_eq!(Duration::parse(text), Err(general(text)), "{text}");
        }
        for text in ["367d", "99999999999d", "18446744073709551615s"] {
            assert_eq!(
                Duration::parse(text),
                Err(format!("\"{text}\" is too long, write at most \"366d\""))
            );
        }
        let numeric = crate::parse::<Vec<Duration>>(b"[10]").unwrap_err();
        assert_eq!(
            numeric.to_string(),
            "[0]: 10 is not a duration, write \"10s\""
        );
    }

    proptest! {
        #[test]
        fn a_duration_is_read_back_as_it_is_shown(nanoseconds in 1..=LONGEST) {
            let duration = Duration { nanoseconds };
            prop_assert_eq!(Duration::parse(&duration.to_string()), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = Duration::parse(&text);
        }
    }
}
