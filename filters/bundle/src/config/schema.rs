//! The JSON schema of the sections. The filters' own parsers read them, so no type but this one says what they are called.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Config;

/// At least one of the three filters. A request passes them in this order: limits, classes, metrics.
#[derive(JsonSchema)]
#[schemars(rename = "Tollgate", rename_all = "camelCase", deny_unknown_fields, transform = not_empty)]
#[allow(dead_code, reason = "only its schema is of interest")]
struct Sections {
    /// Limits per tenant. It writes the tenant and the tier that the other two read.
    tenant_rate_limit: Option<tenant_rate_limit::Config>,
    /// The type of the user.
    user_classifier: Option<user_classifier::Config>,
    /// Counters.
    business_metrics: Option<business_metrics::Config>,
}

fn not_empty(schema: &mut Schema) {
    schema.insert("minProperties".to_owned(), 1.into());
}

impl JsonSchema for Config {
    fn schema_name() -> Cow<'static, str> {
        Sections::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Sections::json_schema(generator)
    }
}
