//! From a document's values to Rust types, with every error in our words and at its field.
//!
//! A deserializer of its own, because serde's errors are text: this one knows the struct whose field is unknown and the
//! value that has the wrong type while it happens. It stops at the first mistake, as serde does; the mistake is then mended and the
//! document read again, so that all are told. As in Kubernetes, a field that is null is a field that is not there.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde_json::{Map, Value};
use tollgate_mistakes::{self as mistakes, Mistake};

use super::Source;
use super::field::{FieldPath, Segment};
use crate::api::unimplemented;
use crate::problem::{Code, Problem};

/// How many problems of an object are told.
const MOST: usize = 100;

/// Types a value that is found at `base`; `name` is what a reader calls the outermost type. `None` if anything was wrong.
pub(crate) fn decode<T: DeserializeOwned>(
    mut value: Value,
    base: &str,
    name: &str,
    source: &Source,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let found = mistakes::find(&mut value, MOST, |value| {
        T::deserialize(Decoder {
            value,
            name: Some(name),
            at: Vec::new(),
        })
        .map_err(Mistake::from)
    });
    let right = found.mistakes.is_empty();
    let base = FieldPath::parse(base);
    for error in found.mistakes {
        let path = base.then(&error.path);
        let message = match (&error.kind, &source.mark(&path).written) {
            // `1.10` was read as 1.1: say what stands there.
            (Kind::Mistyped { wanted, .. }, Some(written)) if !written.is_empty() => {
                match wanted.as_str() {
                    "a string" => format!("{written} is not a string, write \"{written}\""),
                    wanted => format!("{written} is not {wanted}"),
                }
            }
            _ => error.to_string(),
        };
        problems.push(source.problem_at(&path, message).of(error.code()));
    }
    if found.more {
        let message = format!("more is wrong than these {MOST} problems, mend them first");
        problems.push(source.problem_at(&base, message).of(Code::Value));
    }
    found.value.filter(|_| right)
}

/// Says what a value is: a scalar as it is, a collection by its kind.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::Null => "nothing".to_owned(),
        scalar => scalar.to_string(),
    }
}

/// What to say of a field that a type does not have.
pub(crate) fn unknown_field(type_name: &str, field: &str, known: &[&str]) -> (Code, String) {
    let elsewhere = unimplemented::fields(type_name);
    if elsewhere.contains(&field) {
        let message = format!("{type_name}.{field} is not implemented by the local mesh yet");
        return (Code::Unimplemented, message);
    }
    let message = match nearest(field, known.iter().chain(elsewhere).copied()) {
        Some(near) => format!("{type_name} has no field {field:?}, did you mean {near:?}?"),
        None => format!(
            "{type_name} has no field {field:?}, it has {}",
            known.join(", ")
        ),
    };
    (Code::UnknownField, message)
}

fn unknown_variant(type_name: &str, found: &str, known: &[&str]) -> (Code, String) {
    if unimplemented::fields(type_name).contains(&found) {
        let message = format!(
            "{found} is not implemented by the local mesh yet, write {}",
            alternatives(known)
        );
        return (Code::Unimplemented, message);
    }
    let message = match nearest(found, known.iter().copied()) {
        Some(near) => format!("{found:?} is not a {type_name}, did you mean {near}?"),
        None => format!(
            "{found:?} is not a {type_name}, write {}",
            alternatives(known)
        ),
    };
    (Code::Value, message)
}

fn alternatives(known: &[&str]) -> String {
    match known {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

/// The name that was probably meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.replace(['_', '-'], "").to_lowercase();
    let name = plain(name);
    known
        .map(|known| (strsim::osa_distance(&name, &plain(known)), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[derive(Debug)]
pub(crate) struct Error {
    path: Vec<Segment>,
    /// Whether `path` begins at the outermost value already, and not where the error was made.
    placed: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Message(Code, String),
    Missing,
    Mistyped {
        found: String,
        wanted: String,
    },
    /// Of a field that does not exist.
    Unknown(Code, String),
    /// Of a text that is none of the names of a type; one of those.
    Variant(Code, String, &'static str),
}

impl Error {
    fn code(&self) -> Code {
        match &self.kind {
            Kind::Message(code, _) | Kind::Unknown(code, _) | Kind::Variant(code, ..) => *code,
            Kind::Missing => Code::MissingField,
            Kind::Mistyped { .. } => Code::Value,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Message(_, message)
            | Kind::Unknown(_, message)
            | Kind::Variant(_, message, _) => f.write_str(message),
            Kind::Missing => f.write_str("is missing"),
            Kind::Mistyped { found, wanted } => write!(f, "{found} is not {wanted}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Mistake<Box<Error>> {
    fn from(error: Error) -> Self {
        Self {
            place: error.path.clone(),
            kind: match &error.kind {
                Kind::Message(..) | Kind::Mistyped { .. } => mistakes::Kind::Value(None),
                Kind::Variant(_, _, one) => mistakes::Kind::Value(Some((*one).to_owned())),
                Kind::Unknown(..) => mistakes::Kind::Unknown,
                Kind::Missing => mistakes::Kind::Missing,
            },
            error: Box::new(error),
        }
    }
}

/// What types say of themselves; where is not known yet and is added by [`place`].
impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: Vec::new(),
            placed: false,
            kind: Kind::Message(Code::Value, message.to_string()),
        }
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            de::Unexpected::Bool(value) => value.to_string(),
            de::Unexpected::Unsigned(value) => value.to_string(),
            de::Unexpected::Signed(value) => value.to_string(),
            de::Unexpected::Float(value) => value.to_string(),
            de::Unexpected::Str(value) => format!("{value:?}"),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a mapping".to_owned(),
            de::Unexpected::Unit => "nothing".to_owned(),
            other => other.to_string(),
        };
        Self {
            path: Vec::new(),
            placed: false,
            kind: Kind::Mistyped {
                found,
                wanted: expected.to_string(),
            },
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            path: vec![Segment::from(field)],
            placed: false,
            kind: Kind::Missing,
        }
    }
}

struct Decoder<'a> {
    value: &'a Value,
    /// What to call the type here; that of the struct itself unless it is the outermost.
    name: Option<&'a str>,
    at: Vec<Segment>,
}

impl Decoder<'_> {
    fn error(&self, kind: Kind) -> Error {
        Error {
            path: self.at.clone(),
            placed: true,
            kind,
        }
    }

    fn mistyped<T>(&self, wanted: impl Into<String>) -> Result<T, Error> {
        Err(self.error(Kind::Mistyped {
            found: describe(self.value),
            wanted: wanted.into(),
        }))
    }

    fn integer(&self, least: i64, most: u64) -> Result<&serde_json::Number, Error> {
        if let Value::Number(number) = self.value {
            let fits = match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => number <= most,
                (None, Some(number)) => number >= least,
                (None, None) => return self.mistyped("a whole number"),
            };
            if fits {
                return Ok(number);
            }
            return self.mistyped(format!("between {least} and {most}"));
        }
        if let Value::String(text) = self.value
            && text.parse::<i64>().is_ok()
        {
            return Err(self.error(Kind::Message(
                Code::Value,
                format!("{text:?} is a string, write {text} without quotes"),
            )));
        }
        self.mistyped("a whole number")
    }
}

/// Says where an error happened that a type made itself.
fn place<T>(at: &[Segment], result: Result<T, Error>) -> Result<T, Error> {
    result.map_err(|mut error| {
        if !error.placed {
            error.path = at.iter().cloned().chain(error.path).collect();
            error.placed = true;
        }
        error
    })
}

macro_rules! integers {
    ($($method:ident $visit:ident $as:ident $type:ty;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            #[allow(clippy::unnecessary_cast, reason = "for some of the types")]
            let number = self.integer(<$type>::MIN as i64, <$type>::MAX as u64)?;
            let number = number.$as().and_then(|number| <$type>::try_from(number).ok());
            match number {
                Some(number) => place(&self.at, visitor.$visit(number)),
                None => self.mistyped("a whole number"),
            }
        })*
    };
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let at = self.at.clone();
        place(
            &at,
            match self.value {
                Value::Null => visitor.visit_unit(),
                Value::Bool(flag) => visitor.visit_bool(*flag),
                Value::Number(number) => {
                    match (number.as_u64(), number.as_i64(), number.as_f64()) {
                        (Some(number), _, _) => visitor.visit_u64(number),
                        (_, Some(number), _) => visitor.visit_i64(number),
                        (_, _, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
                    }
                }
                Value::String(text) => visitor.visit_str(text),
                Value::Array(_) => return self.deserialize_seq(visitor),
                Value::Object(_) => return self.deserialize_map(visitor),
            },
        )
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bool(flag) => place(&self.at, visitor.visit_bool(*flag)),
            Value::String(text) if text == "true" || text == "false" => {
                Err(self.error(Kind::Message(
                    Code::Value,
                    format!("{text:?} is a string, write {text} without quotes"),
                )))
            }
            _ => self.mistyped("true or false"),
        }
    }

    integers! {
        deserialize_i8 visit_i8 as_i64 i8;
        deserialize_i16 visit_i16 as_i64 i16;
        deserialize_i32 visit_i32 as_i64 i32;
        deserialize_i64 visit_i64 as_i64 i64;
        deserialize_u8 visit_u8 as_u64 u8;
        deserialize_u16 visit_u16 as_u64 u16;
        deserialize_u32 visit_u32 as_u64 u32;
        deserialize_u64 visit_u64 as_u64 u64;
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value.as_f64() {
            Some(number) => place(&self.at, visitor.visit_f64(number)),
            None => self.mistyped("a number"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) => place(&self.at, visitor.visit_str(text)),
            _ => self.mistyped("a string"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => {
                let at = self.at;
                let items = Items {
                    items: items.iter().enumerate(),
                    at: at.clone(),
                };
                place(&at, visitor.visit_seq(items))
            }
            _ => self.mistyped("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(fields) => entries(fields, false, self.at, visitor),
            _ => self.mistyped("a mapping"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        type_name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let type_name = self.name.unwrap_or(type_name);
        let Value::Object(fields) = self.value else {
            return if self.value.is_null() && !self.at.is_empty() {
                self.mistyped("a mapping")
            } else if self.value.is_null() {
                Err(self.error(Kind::Missing))
            } else {
                self.mistyped(format!("a mapping of {}", known.join(", ")))
            };
        };
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            let (code, message) = unknown_field(type_name, name, known);
            let mut error = self.error(Kind::Unknown(code, message));
            error.path.push(Segment::Key(name.clone()));
            return Err(error);
        }
        entries(fields, true, self.at, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        type_name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) if known.contains(&text.as_str()) => {
                place(&self.at, visitor.visit_enum(Variant(text)))
            }
            Value::String(text) => {
                let (code, message) = unknown_variant(type_name, text, known);
                let one = known.first().copied().unwrap_or_default();
                Err(self.error(Kind::Variant(code, message, one)))
            }
            _ => self.mistyped(format!("a {type_name}, write {}", alternatives(known))),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple tuple_struct }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    at: Vec<Segment>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let mut at = self.at.clone();
        at.push(Segment::Index(index));
        place(
            &at,
            seed.deserialize(Decoder {
                value,
                name: None,
                at: at.clone(),
            }),
        )
        .map(Some)
    }
}

/// Shows a visitor the entries of a mapping; for a struct those that are not null.
fn entries<'de, V: Visitor<'de>>(
    fields: &Map<String, Value>,
    of_struct: bool,
    at: Vec<Segment>,
    visitor: V,
) -> Result<V::Value, Error> {
    let entries = Entries {
        fields: fields.iter(),
        of_struct,
        next: None,
        at: at.clone(),
    };
    place(&at, visitor.visit_map(entries))
}

struct Entries<'a> {
    fields: serde_json::map::Iter<'a>,
    of_struct: bool,
    next: Option<(&'a String, &'a Value)>,
    at: Vec<Segment>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let of_struct = self.of_struct;
        self.next = self
            .fields
            .find(|(_, value)| !(of_struct && value.is_null()));
        match self.next {
            Some((key, _)) => seed.deserialize(StrDeserializer::new(key)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((key, value)) = self.next.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let mut at = self.at.clone();
        at.push(Segment::Key(key.clone()));
        place(
            &at,
            seed.deserialize(Decoder {
                value,
                name: None,
                at: at.clone(),
            }),
        )
    }
}

/// A variant that is only a name; no type of the manifests has others.
struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((seed.deserialize(StrDeserializer::new(self.0))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Error> {
        Err(de::Error::custom(format!(
            "{} is a variant with content",
            self.0
        )))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom(format!(
            "{} is a variant with content",
            self.0
        )))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::custom(format!(
            "{} is a variant with content",
            self.0
        )))
    }
}
