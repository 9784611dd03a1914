//! Reading configurations strictly, with errors that say where, what, and what to write instead.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{
    self, DeserializeOwned, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use tollgate_mistakes::Step;

use crate::json::{self, Json, quoted, twice};
use crate::problems::Problems;

/// What is wrong in a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The field, as `tiers.free.limits[0].per`; empty for the configuration as a whole.
    pub path: String,
    /// The value, what was expected and what to write.
    pub message: String,
}

impl ConfigError {
    /// An error about the field at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    /// The same error of a configuration that is written at `field` of another.
    #[must_use]
    pub fn within(&self, field: &str) -> Self {
        let between = match self.path.as_str() {
            path if field.is_empty() || path.is_empty() || path.starts_with('[') => "",
            _ => ".",
        };
        Self::new(format!("{field}{between}{}", self.path), &self.message)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The path of the value of a key in the mapping at `path`: `tiers.free`, or `tenants["acme.eu"]` for a key that is not a word.
pub fn below(path: &str, key: &str) -> String {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    let mut path = path.to_owned();
    if key.is_empty() || !key.bytes().all(word) {
        path.push('[');
        path.push_str(&quoted(key));
        path.push(']');
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    }
    path
}

/// The path that these steps go.
pub(crate) fn steps<'s>(steps: impl Iterator<Item = &'s Step>) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(key) => path = below(&path, key),
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// An error about the field at `path`, for the end of a check.
pub fn refuse<T>(path: impl Into<String>, message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::new(path, message))
}

/// Refuses more than `limit` of anything: `what` is their name.
pub fn at_most(count: usize, limit: usize, path: &str, what: &str) -> Result<(), ConfigError> {
    if count <= limit {
        return Ok(());
    }
    refuse(
        path,
        format!("{count} {what} are too many, write at most {limit}"),
    )
}

/// Reads a configuration from JSON. No bytes at all (the proxy was given no configuration) are an empty object.
///
/// No field takes a number that is not whole: a visitor sees it as not-a-number, and must refuse it.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, ConfigError> {
    Ok(T::deserialize(&tree(json)?)?)
}

/// Reads a configuration (JSON) of the form `W` and compiles it, as a filter does. Where the form is wrong that is told alone; what
/// else is wrong, `compile` tells all.
pub fn read<W: DeserializeOwned, T>(
    json: &[u8],
    compile: impl FnOnce(W, &mut Problems) -> Option<T>,
) -> Result<T, Problems> {
    let mut problems = Problems::default();
    let compiled = problems
        .take(parse(json))
        .and_then(|written| compile(written, &mut problems));
    problems.or(compiled)
}

/// Tells everything for which [`read`] refuses a configuration, also where the form is wrong in several places. It takes
/// longer, and is not for filters.
pub fn check<W: DeserializeOwned, T>(
    json: &[u8],
    compile: impl FnOnce(W, &mut Problems) -> Option<T>,
) -> Result<(), Problems> {
    let mut problems = Problems::default();
    let compiled = problems.take(tree(json)).and_then(|mut tree| {
        let written = problems.find(&mut tree)?;
        compile(written, &mut problems)
    });
    problems.or(compiled.map(drop))
}

/// The sections of a configuration (JSON), each as it is written: for configurations that hold others. In the order of `names`; no other
/// may be there, and none twice.
pub fn sections<'a, const N: usize>(
    json: &'a [u8],
    names: [&str; N],
    problems: &mut Problems,
) -> Option<[Option<&'a [u8]>; N]> {
    let entries = match problems.take(tree(json))? {
        Json::Mapping(entries) => entries,
        other => {
            return problems.refuse(
                "",
                format!("{} is given, expected a mapping", other.given()),
            );
        }
    };
    let mut sections = [None; N];
    for entry in entries {
        let known = names.iter().position(|name| *name == entry.key);
        if let Some(section) = known.and_then(|position| sections.get_mut(position)) {
            match section {
                None => *section = Some(entry.text.as_bytes()),
                Some(_) => problems.tell("", twice(&entry.key)),
            }
        } else {
            let names = names.map(quoted).join(", ");
            let message = format!(
                "unknown field {}, expected one of {names}",
                quoted(&entry.key)
            );
            problems.tell(below("", &entry.key), message);
        }
    }
    Some(sections)
}

fn tree(json: &[u8]) -> Result<Json<'_>, ConfigError> {
    let text = match json {
        b"" => "{}",
        json => std::str::from_utf8(json)
            .map_err(|_| ConfigError::new("", "not valid JSON: its bytes are not UTF-8"))?,
    };
    json::read(text).map_err(|message| ConfigError::new("", message))
}

/// Makes types with `#[derive(Deserialize)] #[serde(remote = "Self", deny_unknown_fields)]` read from mappings alone.
/// Derived by itself, a struct can also be written as a list of its fields' values in the order of its source code.
#[macro_export]
macro_rules! mapping {
    ($($type:ident),+ $(,)?) => {$(
        impl<'de> $crate::config::serde::Deserialize<'de> for $type {
            fn deserialize<D: $crate::config::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Mapping;

                impl<'de> $crate::config::serde::de::Visitor<'de> for Mapping {
                    type Value = $type;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str("a mapping")
                    }

                    fn visit_map<A: $crate::config::serde::de::MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        // The inherent function that `remote` derives.
                        $type::deserialize($crate::config::serde::de::value::MapAccessDeserializer::new(map))
                    }
                }

                deserializer.deserialize_map(Mapping)
            }
        }
    )+};
}

#[doc(hidden)]
pub use ::serde;

/// A mapping that refuses a key given twice, where `BTreeMap` would silently keep the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueMap<V>(pub BTreeMap<String, V>);

impl<V> Default for UniqueMap<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> Deref for UniqueMap<V> {
    type Target = BTreeMap<String, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = UniqueMap<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(key) = access.next_key::<String>()? {
                    if map.contains_key(&key) {
                        return Err(de::Error::custom(twice(&key)));
                    }
                    let value = access.next_value()?;
                    map.insert(key, value);
                }
                Ok(UniqueMap(map))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// One value or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OneOrMany<T> {
    /// Not given.
    #[default]
    None,
    /// One value.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// Whether the field was written.
    pub fn is_given(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The values.
    pub fn values(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    /// The path of a value, if the field's is `path`.
    pub fn path(&self, path: &str, position: usize) -> String {
        match self {
            Self::Many(_) => format!("{path}[{position}]"),
            _ => path.to_owned(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(OneOrMany::One)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(OneOrMany::One)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(OneOrMany::One)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(OneOrMany::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(access)).map(OneOrMany::Many)
            }
        }

        deserializer.deserialize_any(Values(PhantomData))
    }
}

/// A whole number of 0 or more, for `#[serde(deserialize_with = …)]`. How it is written is no matter: on a cluster a plugin's
/// configuration passes through a protobuf `Struct`, which has no other numbers than floating-point ones, and may come as `100.0`.
pub fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Whole;

    impl Visitor<'_> for Whole {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, e.g. 100")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }
    }

    deserializer.deserialize_any(Whole)
}

/// [`whole_number`] for a field that may be left out (with `#[serde(default)]`).
pub fn optional_whole_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    whole_number(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(remote = "Self", deny_unknown_fields, default)]
    struct Example {
        names: Vec<String>,
        #[serde(deserialize_with = "whole_number")]
        count: u64,
        on: bool,
        by_name: UniqueMap<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(remote = "Self", deny_unknown_fields)]
    struct Inner {
        #[serde(default, deserialize_with = "optional_whole_number")]
        size: Option<u64>,
    }

    mapping!(Example, Inner);

    fn error(json: &str) -> String {
        parse::<Example>(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn no_configuration_is_an_empty_one() {
        assert_eq!(parse::<Example>(b""), Ok(Example::default()));
    }

    #[test]
    fn numbers_of_a_protobuf_struct_are_whole_numbers() {
        for json in ["100", "100.0", "1e2"] {
            let example: Example = parse(format!("{{\"count\": {json}}}").as_bytes()).unwrap();
            assert_eq!(example.count, 100);
        }
        let example: Example = parse(br#"{"by_name": {"a": {"size": 7.0}}}"#).unwrap();
        assert_eq!(example.by_name["a"].size, Some(7));
    }

    #[test]
    fn errors_say_where_what_and_what_to_write() {
        for (json, expected) in [
            (
                r#"{"nmaes": []}"#,
                r#"nmaes: unknown field "nmaes", expected one of "names", "count", "on", "by_name""#,
            ),
            (
                r#"{"names": [1]}"#,
                r#"names[0]: 1 is given, expected a string"#,
            ),
            (
                r#"{"names": "a"}"#,
                r#"names: "a" is given, expected a list"#,
            ),
            (
                r#"{"names": {}}"#,
                r#"names: a mapping is given, expected a list"#,
            ),
            (
                r#"{"count": "5"}"#,
                r#"count: "5" is given, expected a whole number, e.g. 100"#,
            ),
            (
                r#"{"count": -1}"#,
                r#"count: -1 is given, expected a whole number, e.g. 100"#,
            ),
            (
                r#"{"count": 1.5}"#,
                r#"count: 1.5 is given, expected a whole number, e.g. 100"#,
            ),
            (
                r#"{"count": 1e30}"#,
                r#"count: 1e30 is given, expected a whole number, e.g. 100"#,
            ),
            (
                r#"{"on": "yes"}"#,
                r#"on: "yes" is given, expected true or false"#,
            ),
            (
                r#"{"on": null}"#,
                r#"on: null is given, expected true or false"#,
            ),
            (
                r#"{"on": true, "on": true}"#,
                r#""on" is given twice, keep one"#,
            ),
            (
                r#"{"by_name": {"a": {}, "a": {}}}"#,
                r#"by_name: "a" is given twice, keep one"#,
            ),
            (
                r#"{"by_name": {"a": {"size": []}}}"#,
                r#"by_name.a.size: a list is given, expected a whole number, e.g. 100"#,
            ),
            (
                r#"{"by_name": {"a": 1}}"#,
                r#"by_name.a: 1 is given, expected a mapping"#,
            ),
            (
                r#"{"by_name": {"a": [5]}}"#,
                r#"by_name.a: a list is given, expected a mapping"#,
            ),
            (r#"[]"#, r#"a list is given, expected a mapping"#),
            (
                r#"{"on": tru}"#,
                r#"not valid JSON: a value is expected at line 1 column 8"#,
            ),
            (
                r#"{} x"#,
                r#"not valid JSON: there is more after its end at line 1 column 4"#,
            ),
        ] {
            assert_eq!(error(json), expected, "{json}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_an_error() {
        assert!(parse::<Example>(b"{\"names\": [\"\xff\"]}").is_err());
    }
}
