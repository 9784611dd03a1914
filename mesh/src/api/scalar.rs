//! Values that are written as a string, or as a string or a number.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A port by number or name, or another value that may be either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A name.
    String(String),
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(name) => name.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a string")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<IntOrString, E> {
                Ok(IntOrString::Int(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<IntOrString, E> {
                i64::try_from(number)
                    .map(IntOrString::Int)
                    .map_err(|_| E::custom(format!("{number} is too large")))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::String(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// An amount of a resource: `100m`, `128Mi`, `2`. Checked, never computed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity(pub String);

impl Quantity {
    fn parse(text: &str) -> Result<Self, String> {
        const SUFFIXES: [&str; 16] = [
            "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
        ];
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = digits
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(digits.len());
        let (number, suffix) = digits.split_at(end);
        let exponent = suffix
            .strip_prefix(['e', 'E'])
            .is_some_and(|exponent| exponent.parse::<i32>().is_ok());
        if number.parse::<f64>().is_ok() && (exponent || SUFFIXES.contains(&suffix)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "{text:?} is not a quantity, write \"100m\", \"0.5\", \"128Mi\" or the like"
            ))
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as \"100m\" or \"128Mi\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A duration as Istio reads it: `10s`, `1.5s`, `100ms`, `1m30s`, never without a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// Reads a duration, or says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            let instead = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
                format!("{text}s")
            } else {
                "10s".to_owned()
            };
            format!("{text:?} is not a duration, write \"{instead}\"")
        };
        let mut rest = text;
        // Nanoseconds, exactly: a fraction is at most nine digits of them, and finer ones say nothing to Envoy.
        let mut nanoseconds: u128 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(wrong)?;
            let (number, behind) = rest.split_at(end);
            let end = behind
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(behind.len());
            let (unit, behind) = behind.split_at(end);
            let unit: u128 = match unit {
                "h" => 3_600_000_000_000,
                "m" => 60_000_000_000,
                "s" => 1_000_000_000,
                "ms" => 1_000_000,
                "us" | "µs" => 1_000,
                "ns" => 1,
                _ => return Err(wrong()),
            };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() && fraction.is_empty()
                || fraction.contains('.')
                || fraction.len() > 9
            {
                return Err(wrong());
            }
            let digits: u128 = format!("0{whole}{fraction}").parse().map_err(|_| wrong())?;
            let scale = 10_u128.pow(fraction.len() as u32);
            nanoseconds = digits
                .checked_mul(unit)
                .and_then(|amount| nanoseconds.checked_add(amount / scale))
                .ok_or_else(|| format!("{text:?} is too long a duration"))?;
            rest = behind;
        }
        // What Envoy can count in nanoseconds, about 292 years.
        i64::try_from(nanoseconds)
            .map(|nanoseconds| Self(std::time::Duration::from_nanos(nanoseconds.unsigned_abs())))
            .map_err(|_| format!("{text:?} is too long a duration"))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\"")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Duration, E> {
                Err(E::custom(format!(
                    "{number} is not a duration, write \"{number}s\""
                )))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                Duration::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// A duration that Istio's API takes where something has to last: at least 1 ms, and whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub std::time::Duration);

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Duration(duration) = Duration::deserialize(deserializer)?;
        if duration < std::time::Duration::from_millis(1)
            || !duration.subsec_nanos().is_multiple_of(1_000_000)
        {
            return Err(D::Error::custom(
                "is not a whole number of milliseconds above 0, as Istio demands; write \"100ms\" or more",
            ));
        }
        Ok(Self(duration))
    }
}

/// A number that is not negative, as far as an `int32` goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count(pub u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u32::try_from(number)
            .ok()
            .filter(|number| i32::try_from(*number).is_ok())
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{number} is not between 0 and {}", i32::MAX)))
    }
}

/// Bytes that are written in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

/// Not derived: they may be secret.
impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine;
        let text = String::deserialize(deserializer)?;
        // As the API server has it: lines may be broken.
        let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(Self)
            .map_err(|_| {
                D::Error::custom("is not base64; write the value itself under stringData instead")
            })
    }
}

/// A regular expression that Envoy will take (RE2: no look-around, no back-references).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regex(pub String);

impl Regex {
    /// Boxed: an error has a copy of everything that it is about.
    fn parse(text: &str) -> Result<regex_syntax::hir::Hir, Box<regex_syntax::Error>> {
        // Envoy matches bytes, so an expression for bytes that are not UTF-8 is fine.
        regex_syntax::ParserBuilder::new()
            .utf8(false)
            .build()
            .parse(text)
            .map_err(Box::new)
    }

    /// How many groups it has that find something.
    pub fn groups(&self) -> usize {
        Self::parse(&self.0).map_or(0, |parsed| parsed.properties().explicit_captures_len())
    }
}

impl<'de> Deserialize<'de> for Regex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Self::parse(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => {
                let reason = match &*error {
                    regex_syntax::Error::Parse(error) => error.kind().to_string(),
                    regex_syntax::Error::Translate(error) => error.kind().to_string(),
                    _ => error.to_string(),
                };
                Err(D::Error::custom(format!(
                    "{text:?} is not a regular expression: {reason}"
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, nanoseconds) in [
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("100ms", 100_000_000),
            ("1m30s", 90_000_000_000),
            ("1h0.000000001s", 3_600_000_000_001),
            ("7us", 7_000),
            ("9223372036.854775807s", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(
                Duration::parse(text).map(|duration| duration.0.as_nanos()),
                Ok(nanoseconds),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_a_duration_is_told_what_one_is() {
        for (text, message) in [
            ("10", "\"10\" is not a duration, write \"10s\""),
            ("", "\"\" is not a duration, write \"10s\""),
            ("-1s", "\"-1s\" is not a duration, write \"10s\""),
            ("1d", "\"1d\" is not a duration, write \"10s\""),
            ("1s ", "\"1s \" is not a duration, write \"10s\""),
            (".s", "\".s\" is not a duration, write \"10s\""),
            ("1.2.3s", "\"1.2.3s\" is not a duration, write \"10s\""),
            (
                "9223372036.854775808s",
                "\"9223372036.854775808s\" is too long a duration",
            ),
            (
                "99999999999999999999h",
                "\"99999999999999999999h\" is too long a duration",
            ),
            (
                "99999999999999999999999999999999999999999s",
                "\"99999999999999999999999999999999999999999s\" is not a duration, write \"10s\"",
            ),
        ] {
            assert_eq!(Duration::parse(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for text in ["100m", "0.5", "128Mi", "2", "1e3", "+1.5Gi", "12E", ".5"] {
            assert!(Quantity::parse(text).is_ok(), "{text}");
        }
        for text in ["1GB", "", "Mi", "1 Mi", "1mi", "e", "1e", "-"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }
}
