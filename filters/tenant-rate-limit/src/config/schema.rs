//! The parts of the JSON schema that the types do not say: what fields say together, and what has a parser of its own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use tollgate_common::Duration;
use tollgate_common::schema::{exactly_one, keys};

use super::{Config, Per, Window, Written};

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
    exactly_one(schema, &["header"]);
}

pub(super) fn limit(schema: &mut Schema) {
    exactly_one(schema, &["requests", "quota"]);
    let of_each_kind = json_schema!({
        "requests": {"properties": {"per": keys::<Duration>()}},
        "quota": {"properties": {"per": {"enum": Window::ALL.map(Window::name)}, "burst": false}},
    });
    schema.insert("dependentSchemas".to_owned(), of_each_kind.to_value());
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
