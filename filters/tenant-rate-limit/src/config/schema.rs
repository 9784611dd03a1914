//! The parts of the JSON schema that the types do not say: what fields say together, and what has a parser of its own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use tollgate_common::Duration;
use tollgate_common::schema::{exactly_one, keys, named};

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
    exactly_one(
        schema,
        &[
            "claim", "peer", "passedOn", "header", "host", "path", "query", "cookie",
        ],
    );
    // For what the proxy has verified, nobody else needs to vouch.
    let together = json_schema!({
        "vouched": {"properties": {"claim": false, "peer": false, "passedOn": false}},
        "issuer": {"required": ["claim"]},
    });
    schema.insert("dependentSchemas".to_owned(), together.to_value());
}

pub(super) fn missing(schema: &mut Schema) {
    let together = json_schema!({
        "tenant": {"properties": {"refuse": false, "challenge": false}},
        "challenge": {"properties": {"refuse": {"const": 401}}, "required": ["refuse"]},
    });
    schema.insert("dependentSchemas".to_owned(), together.to_value());
}

pub(super) fn tier(schema: &mut Schema) {
    exactly_one(schema, &["limits", "unlimited", "blocked"]);
}

pub(super) fn listed(schema: &mut Schema) {
    let together = json_schema!({
        "limits": {"properties": {"unlimited": false, "blocked": false}},
        "unlimited": {"properties": {"blocked": false}},
    });
    schema.insert("dependentSchemas".to_owned(), together.to_value());
}

pub(super) fn route(schema: &mut Schema) {
    let each = ["exempt", "cost", "limits", "without"]
        .map(|field| json_schema!({"required": [field]}).to_value());
    schema.insert("anyOf".to_owned(), each.to_vec().into());
    let together = json_schema!({
        "exempt": {"properties": {"cost": false, "limits": {"maxItems": 0}, "without": {"maxItems": 0}}},
    });
    schema.insert("dependentSchemas".to_owned(), together.to_value());
}

pub(super) fn found_cost(schema: &mut Schema) {
    exactly_one(schema, &["header", "query"]);
}

pub(super) fn settle(schema: &mut Schema) {
    exactly_one(schema, &["header", "trailer", "json", "bytes"]);
    let together = json_schema!({
        "bytes": {"properties": {"scale": false}},
        "strip": {"required": ["header"]},
    });
    schema.insert("dependentSchemas".to_owned(), together.to_value());
}

pub(super) fn limit(schema: &mut Schema) {
    exactly_one(schema, &["requests", "quota", "concurrent"]);
    let of_each_kind = json_schema!({
        "requests": {"properties": {"per": keys::<Duration>(), "cost": false}, "required": ["per"]},
        "quota": {"properties": {"per": {"enum": Window::ALL.map(Window::name)}, "burst": false}, "required": ["per"]},
        "concurrent": {"properties": {"per": false, "burst": false, "cost": false}},
        "enforcedFor": {"properties": {"mode": {"const": "shadow"}}, "required": ["mode"]},
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

impl JsonSchema for CostWritten {
    fn schema_name() -> Cow<'static, str> {
        "Cost".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": LARGEST_COST},
                generator.subschema_for::<CostFromWritten>(),
            ],
        });
        named(&mut schema, "number or mapping");
        schema
    }
}
