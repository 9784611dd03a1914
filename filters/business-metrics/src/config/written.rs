//! The configuration as it is written. The comments are the descriptions of the JSON schema.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use tollgate_common::body::Pointer;
use tollgate_common::config::{optional_whole_number, whole_number};
use tollgate_common::{OneOrMany, StringMatch, UniqueMap, mapping};

#[cfg(feature = "schema")]
use super::{
    LARGEST_BODY, LARGEST_NUMBER, LARGEST_SCALE, LONGEST_HELP, MAX_ADMITTED, MAX_LABELS,
    MAX_LENGTH, MAX_METRIC_LABELS, MAX_METRICS, MAX_ROUTES, MAX_SERIES, MAX_VALUES,
};

/// The configuration of a business-metrics filter.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "BusinessMetrics", title = "business-metrics")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct Config {
    /// The labels that metrics may have, at most 16, by name: `a-z`, `A-Z`, `0-9`, `_`, not starting with a digit or `__`. No name is
    /// the end of another.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {}, "maxProperties" = MAX_LABELS, "propertyNames" = tollgate_common::schema::keys::<tollgate_common::schema::MetricName>())))]
    pub labels: UniqueMap<LabelConfig>,
    /// Route templates such as `/products/{id}`, at most 1,000; the first that matches a path is its route.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_ROUTES), inner(pattern("^/"), length(max = MAX_LENGTH))))]
    pub routes: Vec<String>,
    /// The metrics, 1 to 32.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_METRICS)))]
    pub metrics: Vec<MetricConfig>,
    /// How many series a proxy defines in its life, 1 to 100,000: all its workers together, also over updates of this configuration. A request of a further
    /// series is counted where all labels of its metric are `other`.
    #[serde(default = "default_max_series", deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_SERIES)))]
    pub max_series: u64,
    /// The counter, without labels, that tells how often `maxSeries` made that happen.
    #[serde(default = "default_folded_metric")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "tollgate_common::schema::MetricName")
    )]
    pub folded_metric: String,
    /// The counter, with the label `reason`, of requests that a metric is about and that have no number for it: why they have none.
    #[serde(default = "default_skipped_metric")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "tollgate_common::schema::MetricName")
    )]
    pub skipped_metric: String,
    /// How many bytes of a body are read for the numbers in it, 1 to 1,048,576. A request with a larger one is skipped.
    #[serde(default = "default_max_body_bytes", deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_BODY)))]
    pub max_body_bytes: u64,
}

fn default_max_body_bytes() -> u64 {
    65_536
}

fn default_skipped_metric() -> String {
    "tollgate_skipped_total".to_owned()
}

fn default_max_series() -> u64 {
    1_000
}

fn default_folded_metric() -> String {
    "tollgate_folded_total".to_owned()
}

/// A label: where its value comes from, and which values it has. Any other value is `other`, and `none` is no value.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Label", transform = schema::label))]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct LabelConfig {
    /// What the proxy or another filter knows of the request. Exactly one of this, `header`, `responseHeader`, `claim` and `constant`.
    pub from: Option<FromConfig>,
    /// A header of the request, in any case. Sent more than once it is `other`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub header: Option<String>,
    /// A header of the response, likewise.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub response_header: Option<String>,
    /// A claim of the token that the proxy has verified: its name, or a list of the names of the objects around it, outermost first, and its own (at most 8).
    /// A text, a whole number, `true` or `false`; anything else is `other`.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::ClaimPath>")
    )]
    pub claim: OneOrMany<String>,
    /// The value itself, the same for every request: which proxies these are, say.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub constant: Option<String>,
    /// The values that get a series of their own, 1 to 1,000, each once: for `tenant`, `tier`, `userType`, `limit`, headers and claims. The others
    /// bring their own.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_VALUES), inner(length(min = 1, max = MAX_LENGTH)), extend("uniqueItems" = true)))]
    pub values: Option<Vec<String>>,
    /// How many further values get one, 1 to 1,000: those that come first, for all workers of the proxy alike and as long as it lives. Instead of
    /// `values` or beside them.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_ADMITTED)))]
    pub at_most: Option<u64>,
}

/// Where a label's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "From")
)]
#[serde(rename_all = "camelCase")]
pub enum FromConfig {
    /// The tenant's id, as the tenant-rate-limit filter found it.
    Tenant,
    /// The tenant's tier, likewise.
    Tier,
    /// The user's type, as the user-classifier filter found it.
    UserType,
    /// The template of `routes` that the path matches.
    Route,
    /// The status of the response: `200`; `none` if there was no response.
    Status,
    /// The class of the status: `2xx`.
    StatusClass,
    /// The status of a gRPC call, `0` to `16`; `none` for other requests.
    GrpcStatus,
    /// The method.
    Method,
    /// The limit of the tenant-rate-limit filter that refused the request; `none` if none did.
    Limit,
    /// Why that filter refused the request, in its words: `limited`, `blocked`, …; `none` if it did not.
    Reason,
}

impl FromConfig {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Tier => "tier",
            Self::UserType => "userType",
            Self::Route => "route",
            Self::Status => "status",
            Self::StatusClass => "statusClass",
            Self::GrpcStatus => "grpcStatus",
            Self::Method => "method",
            Self::Limit => "limit",
            Self::Reason => "reason",
        }
    }
}

/// A metric.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Metric")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct MetricConfig {
    /// Its name in Prometheus, to which nothing is added: 1 to 128 of `a-z`, `A-Z`, `0-9` and `_`, not starting with a digit.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "tollgate_common::schema::MetricName")
    )]
    pub name: String,
    /// What it tells, for people: a line of at most 256 bytes. The proxy prints none.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LONGEST_HELP)))]
    pub help: Option<String>,
    /// What kind of metric it is.
    #[serde(rename = "type", default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "counter")))]
    pub kind: Kind,
    /// Which requests it is about; all of them if there is no `when`.
    pub when: Option<When>,
    /// What a request adds to a counter, sets a gauge to, or is recorded with. Without it a request counts 1; a gauge and a histogram need it.
    pub value: Option<ValueConfig>,
    /// The names of its labels, at most 8, each one of `labels`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_METRIC_LABELS), extend("uniqueItems" = true)))]
    pub labels: Vec<String>,
}

impl MetricConfig {
    /// Whether it counts every request as 1.
    pub fn counts_all_requests(&self) -> bool {
        self.kind == Kind::Counter && self.when.is_none() && self.value.is_none()
    }
}

/// The kinds of metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The number of requests, or the sum of their values.
    #[default]
    Counter,
    /// The value of the last request.
    Gauge,
    /// How the values are distributed, in the buckets that the proxy has.
    Histogram,
}

/// A number that a request has.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Value", transform = schema::value)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct ValueConfig {
    /// What the proxy knows of the request. Exactly one of this, `header`, `responseHeader`, `requestBody` and `responseBody`.
    pub from: Option<ValueFrom>,
    /// A header of the request, which has one number, written as in JSON: `19.99`. Nothing that a client says of itself is believed of a request that was
    /// answered before it got here.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub header: Option<String>,
    /// A header of the response, likewise.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub response_header: Option<String>,
    /// A JSON pointer (RFC 6901) to a number in the request's body, or to a text that is one: `/totalCents`. It needs a module that sees bodies.
    pub request_body: Option<Pointer>,
    /// The same in the response's body.
    pub response_body: Option<Pointer>,
    /// What the number is multiplied by, 1 to 1,000,000,000; 1 if nothing is written. The proxy's metrics are whole numbers: 19.99 with 100 counts 1999. A
    /// request whose number is not whole then is skipped.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_SCALE)))]
    pub scale: Option<u64>,
    /// The largest that a request counts, once it is multiplied, 1 to 1,000,000,000,000, which it is if nothing is written. A request with a larger number is
    /// skipped.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_NUMBER)))]
    pub max: Option<u64>,
}

/// What number the proxy knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ValueFrom {
    /// How long it took, from its first byte to the last of its response, in milliseconds.
    Duration,
    /// The bytes of its body.
    RequestBytes,
    /// The bytes of the response's body.
    ResponseBytes,
}

/// Which requests a metric is about: those for which everything given here holds.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(transform = schema::when)
)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    default,
    remote = "Self"
)]
pub struct When {
    /// The method, or several.
    pub method: OneOrMany<String>,
    /// The route, or several: templates of `routes`.
    pub route: OneOrMany<String>,
    /// The path, without its query.
    pub path: Option<StringMatch>,
    /// Headers of the request. Of a header that it has more than once no condition holds, nor of any header of
    /// a request that was answered before it got here.
    pub headers: UniqueMap<StringMatch>,
    /// The tenant, or several.
    pub tenant: OneOrMany<String>,
    /// The tenant's tier, or several.
    pub tier: OneOrMany<String>,
    /// The user's type, or several.
    pub user_type: OneOrMany<String>,
    /// The limit of the tenant-rate-limit filter that refused the request, or several.
    pub limit: OneOrMany<String>,
    /// Why that filter refused it, or several reasons.
    pub reason: OneOrMany<String>,
    /// The status of the response (`201`), a class of them (`2xx`), or several.
    pub status: OneOrMany<StatusMatch>,
    /// The status of a gRPC call, 0 to 16, or several. No other request has one.
    pub grpc_status: OneOrMany<GrpcStatus>,
    /// Headers of the response. Of one that it has more than once no condition holds.
    pub response_headers: UniqueMap<StringMatch>,
}

mapping!(Config, LabelConfig, MetricConfig, ValueConfig, When);

/// What the fields say together, and what has a parser of its own.
#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use tollgate_common::schema::exactly_one;

    use super::{GrpcStatus, StatusMatch};

    pub(super) fn label(schema: &mut Schema) {
        exactly_one(
            schema,
            &["from", "header", "responseHeader", "claim", "constant"],
        );
    }

    pub(super) fn value(schema: &mut Schema) {
        exactly_one(
            schema,
            &[
                "from",
                "header",
                "responseHeader",
                "requestBody",
                "responseBody",
            ],
        );
        // Those are whole numbers, and the proxy's own.
        let together = json_schema!({"from": {"properties": {"scale": false, "max": false}}});
        schema.insert("dependentSchemas".to_owned(), together.to_value());
    }

    pub(super) fn when(schema: &mut Schema) {
        schema.insert("minProperties".to_owned(), 1.into());
    }

    impl JsonSchema for StatusMatch {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "StatusMatch".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "title": "number or class",
                "anyOf": [
                    {"type": "integer", "minimum": 100, "maximum": 599},
                    {"type": "string", "pattern": "^[1-5]xx$"},
                ],
                "examples": [201, "2xx"],
            })
        }
    }

    impl JsonSchema for GrpcStatus {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "GrpcStatus".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "integer", "minimum": 0, "maximum": 16})
        }
    }
}

/// A status or a class of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusMatch(RangeInclusive<u16>);

impl StatusMatch {
    /// The statuses it stands for.
    pub fn range(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl<'de> Deserialize<'de> for StatusMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Status;

        impl Visitor<'_> for Status {
            type Value = StatusMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, e.g. 201, or a class, e.g. \"2xx\"")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<StatusMatch, E> {
                match u16::try_from(value) {
                    Ok(code @ 100..=599) => Ok(StatusMatch(code..=code)),
                    _ => Err(E::custom(format!(
                        "{value} is not a status, write one from 100 to 599"
                    ))),
                }
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<StatusMatch, E> {
                Err(E::custom(format!(
                    "{value} is not a status, write one from 100 to 599"
                )))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<StatusMatch, E> {
                match value.as_bytes() {
                    [digit @ b'1'..=b'5', b'x', b'x'] => {
                        let first = u16::from(digit - b'0') * 100;
                        Ok(StatusMatch(first..=first + 99))
                    }
                    _ => match value.parse::<u16>() {
                        Ok(code @ 100..=599) => {
                            Err(E::custom(format!("{value:?} is text, write {code}")))
                        }
                        _ => Err(E::custom(format!(
                            "{value:?} is not a status, write e.g. 201 or \"2xx\""
                        ))),
                    },
                }
            }
        }

        deserializer.deserialize_any(Status)
    }
}

/// The status of a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcStatus(u16);

impl GrpcStatus {
    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl<'de> Deserialize<'de> for GrpcStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Status;

        impl Visitor<'_> for Status {
            type Value = GrpcStatus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a gRPC status, e.g. 14")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<GrpcStatus, E> {
                match u16::try_from(value) {
                    Ok(code @ 0..=16) => Ok(GrpcStatus(code)),
                    _ => Err(E::custom(format!(
                        "{value} is not a gRPC status, write one from 0 to 16"
                    ))),
                }
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<GrpcStatus, E> {
                Err(E::custom(format!(
                    "{value} is not a gRPC status, write one from 0 to 16"
                )))
            }
        }

        deserializer.deserialize_any(Status)
    }
}
