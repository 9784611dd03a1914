//! JSON schemas (draft 2020-12) of configurations, for editors and other tools that read them before a filter does.
//!
//! They come from the types that the filters read, with the comments on the fields as descriptions. Here are the parts that no
//! derive can know: the types with a parser of their own, and rules such as what a name is. A schema refuses less than the
//! filter, which also sees what fields say together, and with one exception never more: a field that is written without a
//! value (`null`) counts as left out to most filters, and as a slip of the pen here.
//!
//! Behind the feature `schema`: nothing of this gets into a module.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::body::Pointer;
use crate::{Duration, OneOrMany, UniqueMap, claims};

/// The schema of a plugin's configuration.
pub fn of<T: JsonSchema>(plugin: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(given))
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("title".to_owned(), plugin.into());
    schema.to_value()
}

/// Takes `null` out of what a value may be, formats that only Rust knows (`uint64`), and the line breaks of comments.
fn given(schema: &mut Schema) {
    schema.remove("format");
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description
            .replace("\n\n", "\0")
            .replace('\n', " ")
            .replace('\0', "\n\n");
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") else {
        return;
    };
    alternatives.retain(|alternative| alternative.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = alternatives.as_slice() {
        let only = only.clone();
        schema.remove("anyOf");
        for (key, value) in only {
            schema.insert(key, value);
        }
    }
}

/// Marks a schema as that of a type which pages describe once, under this name.
pub fn named(schema: &mut Schema, name: &str) {
    schema.insert("title".to_owned(), name.into());
}

/// Asks for exactly one of these fields.
pub fn exactly_one(schema: &mut Schema, fields: &[&str]) {
    let each = fields
        .iter()
        .map(|field| serde_json::json!({"required": [field]}))
        .collect();
    schema.insert("oneOf".to_owned(), Value::Array(each));
}

/// What the keys of a mapping must be, for its `propertyNames`.
pub fn keys<T: JsonSchema>() -> Value {
    T::json_schema(&mut SchemaGenerator::default()).to_value()
}

/// Types that stand for rules on strings, to be named by `#[schemars(with = …)]`.
macro_rules! strings {
    ($($(#[$doc:meta])* $name:ident: $schema:tt;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

strings! {
    /// What [`is_name`](crate::is_name) asks for.
    Name: {"type": "string", "pattern": "^[a-z0-9_][a-z0-9_-]{0,63}$"};
    /// A tenant's id in its normal form.
    Id: {"type": "string", "pattern": "^[a-z0-9._-]{1,64}$"};
    /// What [`header::name`](crate::header::name) takes, but for the few names that it refuses.
    HeaderName: {"type": "string", "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$"};
    /// What [`metrics::name`](crate::metrics::name) takes, but for the few names that it refuses.
    MetricName: {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$"};
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?([0-9]+ns)?$",
            "examples": ["10s", "500ms", "1m30s", "1h", "1d"],
        })
    }
}

impl JsonSchema for Pointer {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Pointer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 256,
            "pattern": "^(/([^/~]|~[01])*){0,16}$",
            "examples": ["/usage/total_tokens", "/items/0/price"],
        })
    }
}

impl<V: JsonSchema> JsonSchema for UniqueMap<V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("UniqueMap_of_{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<V>(),
        })
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                generator.subschema_for::<T>(),
                {"type": "array", "items": generator.subschema_for::<T>()},
            ],
        })
    }
}

/// A `StringMatch` has exactly one key.
pub(crate) fn string_match(schema: &mut Schema) {
    named(schema, "string match");
    exactly_one(schema, &["exact", "prefix", "suffix", "regex"]);
}

/// The way to a claim: its name, or several.
pub enum ClaimPath {}

impl JsonSchema for ClaimPath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ClaimPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let name =
            json_schema!({"type": "string", "minLength": 1, "maxLength": claims::LONGEST_NAME});
        json_schema!({
            "anyOf": [
                name,
                {"type": "array", "minItems": 1, "maxItems": claims::MAX_NAMES, "items": name},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_left_out_is_not_null() {
        #[derive(JsonSchema)]
        #[schemars(deny_unknown_fields)]
        #[allow(dead_code, reason = "only its schema is of interest")]
        struct Written {
            /// A number.
            number: Option<u64>,
            /// A name.
            #[schemars(with = "Option<Name>")]
            name: Option<String>,
            /// A list.
            list: Option<Vec<String>>,
        }

        assert_eq!(
            of::<Written>("a-plugin"),
            serde_json::json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "a-plugin",
                "type": "object",
                "properties": {
                    "number": {"description": "A number.", "type": "integer", "minimum": 0},
                    "name": {"description": "A name.", "type": "string", "pattern": "^[a-z0-9_][a-z0-9_-]{0,63}$"},
                    "list": {"description": "A list.", "type": "array", "items": {"type": "string"}},
                },
                "additionalProperties": false,
            })
        );
    }
}
