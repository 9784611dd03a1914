//! The parts of the JSON schema that the types do not say: what fields say together, and what has a parser of its own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use tollgate_common::Duration;
use tollgate_common::schema::{exactly_one, keys};

use super::Config;
use super::routes::LARGEST_COST;
use super::written::{CostFromWritten, CostWritten, Per, Written};
use crate::calendar::Window;

/// The schema of what is written, because there is none of what was made of it.
impl JsonSchema for Config {
    fn schema_name() -> Cow<'static, str> {
        Written::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Written::json_schema(generator)
    }
}

pub(super) fn source(schema: &mut Schema) {
    exactly_one(schema, &["header", "host", "path", "query", "cookie"]);
}

pub(super) fn missing(schema: &mut Schema) {
    let together = json_schema!({
        "refuse": {"properties": {"tenant": false}},
        "challenge": {"required": ["refuse"], "properties": {"refuse": {"const": 401}}},
    });
    schema.insert("dependentSchemas".to_owned(), together.to_value());
}

pub(super) fn tier(schema: &mut Schema) {
    exactly_one(schema, &["limits", "unlimited", "blocked"]);
}

pub(super) fn found(schema: &mut Schema) {
    exactly_one(schema, &["header", "query"]);
}

pub(super) fn limit(schema: &mut Schema) {
    exactly_one(schema, &["requests", "quota"]);
    let of_each_kind = json_schema!({
        "requests": {"properties": {"per": keys::<Duration>()}},
        "quota": {"properties": {"per": {"enum": Window::ALL.map(Window::name)}, "burst": false}},
    });
    schema.insert("dependentSchemas".to_owned(), of_each_kind.to_value());
}

/// Types that stand for strings with a parser of their own.
macro_rules! strings {
    ($($name:ident: $schema:tt;)+) => {$(
        pub(super) enum $name {}

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
    Template: {"type": "string", "maxLength": 253, "pattern": "^[A-Za-z0-9._-]*\\{tenant\\}[A-Za-z0-9._-]*$"};
    PathTemplate: {"type": "string", "pattern": "^/([^{}/?#]+/)*\\{tenant\\}(/[^{}/?#]+)*/?$"};
    Parameter: {"type": "string", "pattern": "^[A-Za-z0-9._~\\[\\]-]{1,128}$"};
}

impl JsonSchema for Per {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Per".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Which of its forms is right depends on the limit's kind, so the limit's schema says it.
        json_schema!({"type": "string", "examples": ["1s", "1m30s", "day"]})
    }
}

impl JsonSchema for CostWritten {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cost".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": LARGEST_COST},
                generator.subschema_for::<CostFromWritten>(),
            ],
        })
    }
}
