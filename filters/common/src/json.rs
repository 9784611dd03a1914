//! JSON, read into a tree that configurations are read from.
//!
//! Not `serde_json`: what a filter needs of it (with `serde_path_to_error`, which says where in a configuration an error is) is
//! a quarter of a whole module, most of it the same types read once more for each layer, and the printing of floating-point numbers. Here a
//! type is read from one kind of deserializer only, numbers stay as they are written, and an error finds its path on the way out.
//! What is JSON and what is not is tested against `serde_json`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use tollgate_mistakes::{Filling, Kind, Mistake, Step, Tree};

use crate::config::{ConfigError, below, steps};

/// Deeper than any configuration is, and shallow enough for the stack of a Wasm module.
const DEEPEST: u32 = 64;

/// A value of a JSON text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// In order, with what is given twice.
    Mapping(Vec<Entry<'a>>),
}

/// An entry of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) value: Json<'a>,
    /// The value as it is written.
    pub(crate) text: &'a str,
}

/// Reads a JSON text. The error says what is wrong in which line and column.
pub(crate) fn read(text: &str) -> Result<Json<'_>, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(DEEPEST).and_then(|value| {
        reader.space();
        match reader.peek() {
            None => Ok(value),
            Some(_) => Err("there is more after its end"),
        }
    });
    value.map_err(|reason| reader.error(reason))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn since(&self, begin: usize) -> &'a str {
        self.text.get(begin..self.at).unwrap_or_default()
    }

    fn error(&self, reason: &str) -> String {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = 1 + before.matches('\n').count();
        let column = 1 + before
            .rsplit('\n')
            .next()
            .map_or(0, |line| line.chars().count());
        format!("not valid JSON: {reason} at line {line} column {column}")
    }

    /// A value, in which there may be `deeper` levels.
    fn value(&mut self, deeper: u32) -> Result<Json<'a>, &'static str> {
        self.space();
        match self.peek() {
            Some(b'{') => self.mapping(deeper.checked_sub(1).ok_or(TOO_DEEP)?),
            Some(b'[') => self.list(deeper.checked_sub(1).ok_or(TOO_DEEP)?),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            _ => {
                for (word, value) in [
                    ("true", Json::Bool(true)),
                    ("false", Json::Bool(false)),
                    ("null", Json::Null),
                ] {
                    if self.rest().starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                Err("a value is expected")
            }
        }
    }

    fn list(&mut self, deeper: u32) -> Result<Json<'a>, &'static str> {
        let mut values = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(Json::List(values));
        }
        loop {
            values.push(self.value(deeper)?);
            self.space();
            if self.take(b']') {
                return Ok(Json::List(values));
            }
            if !self.take(b',') {
                return Err("\",\" or \"]\" is expected");
            }
        }
    }

    fn mapping(&mut self, deeper: u32) -> Result<Json<'a>, &'static str> {
        let mut entries = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b'}') {
            return Ok(Json::Mapping(entries));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err("a key in quotes is expected");
            }
            let key = self.string()?;
            self.space();
            if !self.take(b':') {
                return Err("\":\" is expected");
            }
            self.space();
            let begin = self.at;
            let value = self.value(deeper)?;
            let text = self.since(begin);
            entries.push(Entry { key, value, text });
            self.space();
            if self.take(b'}') {
                return Ok(Json::Mapping(entries));
            }
            if !self.take(b',') {
                return Err("\",\" or \"}\" is expected");
            }
        }
    }

    fn digits(&mut self) -> Result<(), &'static str> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > begin {
            Ok(())
        } else {
            Err("a digit is expected")
        }
    }

    fn number(&mut self) -> Result<&'a str, &'static str> {
        let begin = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        Ok(self.since(begin))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, &'static str> {
        self.at += 1;
        let begin = self.at;
        // Only once there is an escape.
        let mut unescaped: Option<String> = None;
        let mut plain = begin;
        loop {
            match self.peek() {
                None => return Err("the text has no end"),
                Some(b'"') => {
                    let last = self.since(plain);
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(last),
                        Some(text) => Cow::Owned(text + last),
                    });
                }
                Some(b'\\') => {
                    let text = unescaped.get_or_insert_default();
                    text.push_str(self.since(plain));
                    self.at += 1;
                    let character = self.escape()?;
                    unescaped.get_or_insert_default().push(character);
                    plain = self.at;
                }
                Some(0..0x20) => return Err("a control character must be written as \\u00.."),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, &'static str> {
        const WRONG: &str = "there is no such escape";
        let letter = self.peek().ok_or(WRONG)?;
        self.at += 1;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                // Beyond 0xffff a character is written as two surrogates.
                let code = if (0xd800..0xdc00).contains(&first) {
                    if !(self.take(b'\\') && self.take(b'u')) {
                        return Err(WRONG);
                    }
                    let second = self.hex()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(WRONG);
                    }
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                char::from_u32(code).ok_or(WRONG)?
            }
            _ => {
                self.at -= 1;
                return Err(WRONG);
            }
        })
    }

    fn hex(&mut self) -> Result<u32, &'static str> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or("four hexadecimal digits are expected")?;
            self.at += 1;
        }
        Ok(code)
    }
}

const TOO_DEEP: &str = "too many levels";

/// The whole number that this is, with its sign; also of `100.0` and `1e3`, because on a cluster a plugin's configuration passes through a
/// protobuf `Struct`, which has floating-point numbers alone. `None` for a fraction, and beyond 64 bits.
fn whole(number: &str) -> Option<(bool, u64)> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let after = after.trim_end_matches('0');
    let mut value: u64 = 0;
    for digit in before.bytes().chain(after.bytes()) {
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(digit.wrapping_sub(b'0')))?;
    }
    let zeros = exponent.checked_sub(i32::try_from(after.len()).ok()?)?;
    for _ in 0..zeros.unsigned_abs() {
        if value == 0 {
            break;
        }
        value = if zeros > 0 {
            value.checked_mul(10)?
        } else if value.is_multiple_of(10) {
            value / 10
        } else {
            return None;
        };
    }
    Some((negative, value))
}

impl Json<'_> {
    /// This value in words, for a message.
    pub(crate) fn given(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(true) => "true".to_owned(),
            Self::Bool(false) => "false".to_owned(),
            Self::Number(number) => (*number).to_owned(),
            Self::Text(text) => quoted(text),
            Self::List(_) => "a list".to_owned(),
            Self::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

/// What is said of a key that a mapping has twice.
pub(crate) fn twice(key: &str) -> String {
    format!("{} is given twice, keep one", quoted(key))
}

/// A text in quotes, as JSON has it.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            '\n' => quoted.push_str("\\n"),
            '\0'..' ' => quoted.push('\u{fffd}'),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

impl<'a> Json<'a> {
    /// The entry of a mapping that is read by this key.
    fn entry(&mut self, key: &str) -> Option<&mut Entry<'a>> {
        match self {
            Self::Mapping(entries) => entries.iter_mut().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Takes out what a mapping has twice, and says it of each at its path.
    pub(crate) fn keep_first(&mut self, path: &str, told: &mut Vec<ConfigError>) {
        match self {
            Self::Mapping(entries) => {
                let mut seen = HashSet::new();
                entries.retain(|entry| {
                    let first = seen.insert(entry.key.clone());
                    if !first {
                        told.push(ConfigError::new(path, twice(&entry.key)));
                    }
                    first
                });
                for entry in entries {
                    entry.value.keep_first(&below(path, &entry.key), told);
                }
            }
            Self::List(values) => {
                for (index, value) in values.iter_mut().enumerate() {
                    value.keep_first(&format!("{path}[{index}]"), told);
                }
            }
            _ => {}
        }
    }
}

impl Tree for Json<'_> {
    fn filled(with: Filling<'_>) -> Self {
        match with {
            Filling::Text(text) => Self::Text(Cow::Owned(text.to_owned())),
            Filling::Number(number) => Self::Number(number),
            Filling::True => Self::Bool(true),
            Filling::List => Self::List(Vec::new()),
            Filling::Mapping => Self::Mapping(Vec::new()),
            Filling::Entry(key) => {
                let mut mapping = Self::Mapping(Vec::new());
                mapping.insert(key, Self::filled(Filling::Text("")));
                mapping
            }
        }
    }

    fn child(&mut self, step: &Step) -> Option<&mut Self> {
        match (self, step) {
            (Self::List(values), Step::Index(index)) => values.get_mut(*index),
            (mapping, Step::Key(key)) => mapping.entry(key).map(|entry| &mut entry.value),
            _ => None,
        }
    }

    fn insert(&mut self, key: &str, value: Self) {
        if let Self::Mapping(entries) = self {
            entries.push(Entry {
                key: Cow::Owned(key.to_owned()),
                value,
                text: "",
            });
        }
    }

    fn remove(&mut self, key: &str) -> bool {
        match self {
            Self::Mapping(entries) => {
                let position = entries.iter().position(|entry| entry.key == key);
                position.map(|position| entries.remove(position)).is_some()
            }
            _ => false,
        }
    }
}

/// What is wrong with a value, and where, as far as is known on the way out.
#[derive(Debug)]
pub(crate) struct Error {
    /// The steps to the value, the last one first.
    path: Vec<Step>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The value is of a kind or range that was not expected; it is still to be said which it is.
    Expected(String),
    Message(String),
    /// The value is none of the names that there are; the first of these.
    Variant(String, &'static str),
    /// The last step is to a field that does not exist.
    Unknown(String),
    /// The field is not there.
    Missing(&'static str),
}

impl Error {
    fn new(what: What) -> Self {
        Self {
            path: Vec::new(),
            what,
        }
    }

    /// The value that this is about, unless an inner one was.
    fn of(mut self, value: &Json<'_>) -> Self {
        if let What::Expected(expected) = &self.what {
            self.what = What::Message(format!("{} is given, expected {expected}", value.given()));
        }
        self
    }

    fn below(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

impl From<Error> for ConfigError {
    fn from(error: Error) -> Self {
        let path = steps(error.path.iter().rev());
        let message = error.to_string();
        ConfigError { path, message }
    }
}

impl From<Error> for Mistake<ConfigError> {
    fn from(error: Error) -> Self {
        let mut place: Vec<Step> = error.path.iter().rev().cloned().collect();
        let kind = match &error.what {
            What::Expected(_) | What::Message(_) => Kind::Value(None),
            What::Variant(_, first) => Kind::Value(Some((*first).to_owned())),
            What::Unknown(_) => Kind::Unknown,
            What::Missing(field) => {
                place.push(Step::from(*field));
                Kind::Missing
            }
        };
        let error = error.into();
        Self { place, kind, error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Expected(expected) => write!(f, "expected {expected}"),
            What::Message(text) | What::Variant(text, _) | What::Unknown(text) => f.write_str(text),
            What::Missing(field) => write!(f, "missing field {}", quoted(field)),
        }
    }
}

impl std::error::Error for Error {}

fn names(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    match quoted.as_slice() {
        [] => "no field at all".to_owned(),
        [one] => one.clone(),
        [one, other] => format!("{one} or {other}"),
        _ => format!("one of {}", quoted.join(", ")),
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Message(message.to_string()))
    }

    // serde's own words name Rust's types and know the value only roughly.
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string() {
            text if text == "a sequence" => "a list".to_owned(),
            text if text == "a map" => "a mapping".to_owned(),
            text if text == "a boolean" => "true or false".to_owned(),
            text => text,
        };
        Self::new(What::Expected(expected))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let message = format!(
            "unknown field {}, expected {}",
            quoted(field),
            names(expected)
        );
        Self::new(What::Unknown(message)).below(Step::from(field))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let message = format!(
            "unknown variant {}, expected {}",
            quoted(variant),
            names(expected)
        );
        Self::new(What::Variant(
            message,
            expected.first().copied().unwrap_or_default(),
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(twice(field))
    }
}

impl<'de> Deserializer<'de> for &Json<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match self {
            Json::Null => visitor.visit_unit(),
            Json::Bool(value) => visitor.visit_bool(*value),
            Json::Number(number) => match whole(number) {
                Some((false, value)) => visitor.visit_u64(value),
                Some((true, value)) if value <= i64::MAX as u64 => {
                    visitor.visit_i64(-(value as i64))
                }
                // No field of any configuration takes it, whatever it is; the message shows it as it is written.
                _ => visitor.visit_f64(f64::NAN),
            },
            Json::Text(text) => visitor.visit_str(text),
            Json::List(values) => visitor.visit_seq(Values(values.iter().enumerate())),
            Json::Mapping(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                next: None,
            }),
        };
        result.map_err(|error| error.of(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Json::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Json::Text(text) => {
                let variant: StrDeserializer<'_, Error> = (**text).into_deserializer();
                visitor.visit_enum(variant)
            }
            _ => Err(de::Error::invalid_type(Unexpected::Enum, &"a string")),
        }
        .map_err(|error| error.of(self))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

struct Values<'t, 'a>(std::iter::Enumerate<std::slice::Iter<'t, Json<'a>>>);

impl<'de> SeqAccess<'de> for Values<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.0.next() else {
            return Ok(None);
        };
        match seed.deserialize(value) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(error.of(value).below(Step::Index(index))),
        }
    }
}

struct Entries<'t, 'a> {
    rest: std::slice::Iter<'t, Entry<'a>>,
    next: Option<&'t Entry<'a>>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next = self.rest.next();
        match self.next {
            Some(entry) => {
                let key: StrDeserializer<'_, Error> = (*entry.key).into_deserializer();
                seed.deserialize(key).map(Some)
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(entry) = self.next else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(&entry.value).map_err(|error| {
            error
                .of(&entry.value)
                .below(Step::Key(entry.key.clone().into_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same as `serde_json` has it; numbers as they are written.
    fn same(ours: &Json<'_>, theirs: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (ours, theirs) {
            (Json::Null, Value::Null) => true,
            (Json::Bool(ours), Value::Bool(theirs)) => ours == theirs,
            (Json::Number(ours), Value::Number(theirs)) => {
                let value = ours.parse::<f64>().unwrap();
                (value - theirs.as_f64().unwrap()).abs() <= value.abs() * 1e-15
            }
            (Json::Text(ours), Value::String(theirs)) => ours == theirs,
            (Json::List(ours), Value::Array(theirs)) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(o, t)| same(o, t))
            }
            (Json::Mapping(ours), Value::Object(theirs)) => {
                // The last of several entries is the one that is left there.
                theirs.iter().all(|(key, value)| {
                    let ours = ours.iter().rfind(|entry| entry.key == *key);
                    ours.is_some_and(|entry| {
                        same(&entry.value, value) && read(entry.text).as_ref() == Ok(&entry.value)
                    })
                }) && ours.iter().all(|entry| theirs.contains_key(&*entry.key))
            }
            _ => false,
        }
    }

    fn agree(text: &str) {
        match (read(text), serde_json::from_str::<serde_json::Value>(text)) {
            (Ok(ours), Ok(theirs)) => assert!(same(&ours, &theirs), "{text}: {ours:?}"),
            (Err(_), Err(_)) => {}
            // Numbers that no f64 holds are numbers all the same.
            (Ok(_), Err(error)) if error.to_string().contains("out of range") => {}
            (ours, theirs) => panic!("{text}: {ours:?} and {theirs:?}"),
        }
    }

    #[test]
    fn what_is_json_is_what_others_say() {
        for text in [
            "",
            " ",
            "null",
            "nul",
            "true",
            " [ ] ",
            "[1,]",
            "[1 2]",
            "{\"a\":1,}",
            "{,}",
            "{\"a\"}",
            "{a:1}",
            "01",
            "-",
            "-0",
            "1.",
            ".5",
            "1e",
            "1e+5",
            "1E-5",
            "+1",
            "\"\\u00e9\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\x\"",
            "\"\t\"",
            "\"a",
            "\"\\",
            "\"\\u12\"",
            "\"\\/\\b\\f\\n\\r\\t\\\"\\\\\"",
            "{\"a\":{\"b\":[{},null]}}",
            "[] x",
            "\u{feff}{}",
            "1 ",
            "\"é\"",
        ] {
            agree(text);
        }
    }

    #[test]
    fn it_is_told_where_a_text_is_no_json() {
        for (text, expected) in [
            (
                "{\n  \"a\": tru\n}",
                "a value is expected at line 2 column 8",
            ),
            ("{} x", "there is more after its end at line 1 column 4"),
            ("[\"é\" 1]", "\",\" or \"]\" is expected at line 1 column 6"),
            ("[1.]", "a digit is expected at line 1 column 4"),
            ("\"\\q\"", "there is no such escape at line 1 column 3"),
        ] {
            assert_eq!(
                read(text),
                Err(format!("not valid JSON: {expected}")),
                "{text}"
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(read(&nested(64)).is_ok());
        assert_eq!(
            read(&nested(100_000)),
            Err("not valid JSON: too many levels at line 1 column 65".to_owned())
        );
    }

    #[test]
    fn whole_numbers_are_known_however_they_are_written() {
        for (text, expected) in [
            ("0", Some((false, 0))),
            ("-0", Some((true, 0))),
            ("100", Some((false, 100))),
            ("100.0", Some((false, 100))),
            ("1e2", Some((false, 100))),
            ("1.25e2", Some((false, 125))),
            ("1200e-2", Some((false, 12))),
            ("-3", Some((true, 3))),
            ("0e999999999", Some((false, 0))),
            ("18446744073709551615", Some((false, u64::MAX))),
            ("18446744073709551616", None),
            ("1e30", None),
            ("1.5", None),
            ("15e-1", None),
            ("1e-999999999", None),
            ("1e99999999999", None),
        ] {
            assert_eq!(whole(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn texts_are_read_as_others_read_them(text in r#"[\[\]{}":,0-9eE.+\-tfn"\\ua ]{0,24}"#) {
            agree(&text);
        }

        #[test]
        fn values_are_read_as_they_were_written(value in value()) {
            agree(&value.to_string());
            agree(&serde_json::to_string_pretty(&value).unwrap());
        }

        #[test]
        fn any_text_is_answered(text in ".{0,64}") {
            agree(&text);
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            (-1e9..1e9).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
