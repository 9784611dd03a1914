//! The configuration as it is written, and what makes it acceptable.
//!
//! ```yaml
//! labels:
//!   tenant: {from: tenant, values: [acme, globex]}
//!   route:  {from: route}
//!   status: {from: status}
//! routes: [/orders, "/orders/{userId}"]
//! metrics:
//! - {name: shop_requests_total, labels: [tenant, route, status]}
//! - name: shop_orders_total
//!   when: {method: POST, route: /orders, status: 2xx}
//!   labels: [tenant]
//! ```

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use tollgate_common::config::{self, below, whole_number};
use tollgate_common::header::{self, TENANT_ID, TENANT_TIER, USER_TYPE};
use tollgate_common::metrics::{self, PROXY_TAGS};
use tollgate_common::tenant::ID_RULE;
use tollgate_common::{
    ConfigError, NAME_RULE, OneOrMany, Problems, StringMatch, TenantId, UniqueMap, at_most,
    is_name, mapping, refuse, series_name,
};
use tollgate_host::same_name;

use crate::metrics::{Condition, Label, MAX_HEADERS, Metric, Metrics, Source};
use crate::routes::{Routes, Template, without_query};

/// How many labels a configuration may name.
pub const MAX_LABELS: usize = 16;
/// How many labels a metric may have.
pub const MAX_METRIC_LABELS: usize = 8;
/// How many metrics a configuration may have.
pub const MAX_METRICS: usize = 32;
/// How many values a label may declare.
pub const MAX_VALUES: usize = 1_000;
/// How many route templates a configuration may have.
pub const MAX_ROUTES: usize = 1_000;
/// How many headers a metric's condition may look at, and how many methods, routes or statuses it may list.
pub const MAX_CONDITIONS: usize = 64;
/// How many bytes a name, a value or a route template may have.
pub const MAX_LENGTH: usize = 128;
/// The largest `maxSeries`.
pub const MAX_SERIES: u64 = 100_000;

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
    /// How many series one VM (so one worker of a proxy) defines, 1 to 100,000. A request of a further series is counted where
    /// all labels of its metric are `other`.
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
    /// What the proxy or another filter knows of the request. Either this or `header`.
    pub from: Option<FromConfig>,
    /// A header of the request, in any case, instead of `from`. Sent more than once it is `other`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub header: Option<String>,
    /// The values that get a series of their own, 1 to 1,000, each once: for `tenant`, `tier`, `userType` and headers. The others
    /// bring their own.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_VALUES), inner(length(min = 1, max = MAX_LENGTH)), extend("uniqueItems" = true)))]
    pub values: Option<Vec<String>>,
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
    /// The method.
    Method,
}

impl FromConfig {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Tier => "tier",
            Self::UserType => "userType",
            Self::Route => "route",
            Self::Status => "status",
            Self::StatusClass => "statusClass",
            Self::Method => "method",
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
    /// What kind of metric it is.
    #[serde(rename = "type", default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "counter")))]
    pub kind: Kind,
    /// Which requests it is about; all of them if there is no `when`.
    pub when: Option<When>,
    /// The names of its labels, at most 8, each one of `labels`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_METRIC_LABELS), extend("uniqueItems" = true)))]
    pub labels: Vec<String>,
}

/// The kinds of metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The number of requests.
    #[default]
    Counter,
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
    /// The status of the response (`201`), a class of them (`2xx`), or several.
    pub status: OneOrMany<StatusMatch>,
}

mapping!(Config, LabelConfig, MetricConfig, When);

/// What the fields say together, and what has a parser of its own.
#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use tollgate_common::schema::exactly_one;

    use super::StatusMatch;

    pub(super) fn label(schema: &mut Schema) {
        exactly_one(schema, &["from", "header"]);
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

/// Everything for which a filter would refuse this configuration (JSON).
pub fn check(configuration: &[u8]) -> Result<(), Problems> {
    config::check(configuration, Config::compile)
}

/// Reads and compiles a configuration (JSON).
pub fn compile(configuration: &[u8]) -> Result<Metrics, Problems> {
    config::read(configuration, Config::compile)
}

impl Config {
    /// Checks what the types alone can't, and compiles the metrics.
    pub fn compile(self, problems: &mut Problems) -> Option<Metrics> {
        problems.at_most(self.labels.len(), MAX_LABELS, "labels", "labels");
        problems.at_most(self.metrics.len(), MAX_METRICS, "metrics", "metrics");
        if self.metrics.is_empty() {
            problems.tell("metrics", "is empty, write the metrics to count");
        }
        if !(1..=MAX_SERIES).contains(&self.max_series) {
            problems.tell(
                "maxSeries",
                format!(
                    "{} is out of range, write 1 to {MAX_SERIES}",
                    self.max_series
                ),
            );
        }
        problems.take(metrics::name(&self.folded_metric, "foldedMetric"));

        let templates = compile_routes(&self.routes, problems);
        let mut names: Vec<&str> = Vec::with_capacity(self.labels.len());
        let mut labels = Vec::with_capacity(self.labels.len());
        for (name, label) in self.labels.iter() {
            let path = below("labels", name);
            problems.take_key("labels", label_name(name, &names, &path));
            names.push(name);
            labels.push(compile_label(name, label, &self.routes, &path, problems));
        }

        let mut metrics = Vec::with_capacity(self.metrics.len());
        let mut metric_names = HashSet::from([self.folded_metric.as_str()]);
        for (i, metric) in self.metrics.iter().enumerate() {
            let path = format!("metrics[{i}]");
            let name = format!("{path}.name");
            if problems.take(metrics::name(&metric.name, &name)).is_some()
                && !metric_names.insert(&metric.name)
            {
                problems.tell(
                    name,
                    format!("{:?} is there twice, choose another name", metric.name),
                );
            }
            let Kind::Counter = metric.kind;
            metrics.push(Metric {
                name: metric.name.clone(),
                labels: metric_labels(&metric.labels, &names, &format!("{path}.labels"), problems),
                condition: match &metric.when {
                    Some(when) => {
                        compile_when(when, &self.routes, &format!("{path}.when"), problems)
                    }
                    None => Condition::default(),
                },
            });
        }
        let metrics = Metrics::new(
            labels.into_iter().collect::<Option<_>>()?,
            Routes::new(templates?),
            metrics,
            self.max_series as usize,
            self.folded_metric,
        );
        let headers = metrics.further_headers();
        problems.at_most(headers, MAX_HEADERS, "metrics", "different headers");
        Some(metrics)
    }
}

fn compile_routes(routes: &[String], problems: &mut Problems) -> Option<Vec<Template>> {
    problems.at_most(routes.len(), MAX_ROUTES, "routes", "routes");
    // Each is compared with all others.
    let mut templates: Vec<Option<Template>> = Vec::with_capacity(routes.len());
    for (i, text) in routes.iter().take(MAX_ROUTES).enumerate() {
        let path = format!("routes[{i}]");
        let template = label_value(text, &path)
            .and_then(|()| Template::parse(text).or_else(|message| refuse(&path, message)));
        let template = problems.take(template);
        let covers = |earlier: &Option<Template>| match (earlier, &template) {
            (Some(earlier), Some(template)) => earlier.covers(template),
            _ => false,
        };
        let earlier = templates
            .iter()
            .zip(routes)
            .find(|(earlier, _)| covers(earlier));
        if let Some((_, earlier)) = earlier {
            problems.tell(
                path,
                format!(
                    "{text:?} is never reached, because {earlier:?} before it takes its paths; put it first or take it out"
                ),
            );
        }
        templates.push(template);
    }
    templates.into_iter().collect()
}

fn compile_label(
    name: &str,
    label: &LabelConfig,
    routes: &[String],
    path: &str,
    problems: &mut Problems,
) -> Option<Label> {
    let of = |source, values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Some(Label::new(name, source, values))
    };
    let from = match (label.from, &label.header) {
        (Some(from), None) => from,
        (None, Some(header)) => {
            let header = problems.take(label_header(header, &format!("{path}.header")));
            let values = declared(label, "a header", path, |_, _| Ok(()), problems);
            return Some(Label::new(name, Source::Header(header?), values?));
        }
        (None, None) => {
            return problems.refuse(
                path,
                "does not say where its value comes from, write from or header",
            );
        }
        (Some(_), Some(_)) => {
            return problems.refuse(path, "has from and header, write one of them");
        }
    };
    if !problems.as_written(path, "from") {
        return None;
    }
    let tier_rule: ValueRule = |value, path| match is_name(value) {
        true => Ok(()),
        false => refuse(path, format!("{value:?} is not a tier's name, {NAME_RULE}")),
    };
    let type_rule: ValueRule = |value, path| match is_name(value) {
        true => Ok(()),
        false => refuse(path, format!("{value:?} is not a type, {NAME_RULE}")),
    };
    let mut listed = |source, rule| {
        let values = declared(label, from.as_str(), path, rule, problems)?;
        Some(Label::new(name, source, values))
    };
    match from {
        FromConfig::Tenant => listed(Source::Tenant, tenant_id),
        FromConfig::Tier => listed(Source::Tier, tier_rule),
        FromConfig::UserType => listed(Source::UserType, type_rule),
        _ if label.values.is_some() => problems.refuse(
            format!("{path}.values"),
            format!(
                "is not needed, {} brings its own values: take it out",
                from.as_str()
            ),
        ),
        FromConfig::Route if routes.is_empty() => {
            if problems.as_written("routes", "") {
                problems.tell(path, "needs route templates, write them in routes");
            }
            None
        }
        FromConfig::Route => Some(Label::new(name, Source::Route, routes.to_vec())),
        FromConfig::Status => Some(Label::new(
            name,
            Source::Status,
            (100..=599).map(|code: u16| code.to_string()).collect(),
        )),
        FromConfig::StatusClass => of(Source::StatusClass, &["1xx", "2xx", "3xx", "4xx", "5xx"]),
        FromConfig::Method => of(
            Source::Method,
            &[
                "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
            ],
        ),
    }
}

type ValueRule = fn(&str, &str) -> Result<(), ConfigError>;

/// The values that a label declares, each of which must be one that its source can have.
fn declared(
    label: &LabelConfig,
    source: &str,
    path: &str,
    rule: ValueRule,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let Some(values) = &label.values else {
        return problems.refuse(
            path,
            format!(
                "has no values, list those of {source} that are worth a series; all else is \"other\""
            ),
        );
    };
    let path = format!("{path}.values");
    if values.is_empty() {
        return problems.refuse(
            path,
            "is empty, list the values that are worth a series; all else is \"other\"",
        );
    }
    problems.at_most(values.len(), MAX_VALUES, &path, "values");
    let mut known = HashSet::with_capacity(values.len());
    for (i, value) in values.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let valid = label_value(value, &path).and_then(|()| rule(value, &path));
        if problems.take(valid).is_some() && !known.insert(value) {
            problems.tell(path, format!("{value:?} is there twice, take one out"));
        }
    }
    Some(values.clone())
}

fn tenant_id(value: &str, path: &str) -> Result<(), ConfigError> {
    match TenantId::normalise(value.as_bytes()) {
        Some(id) if id.as_str() == value => Ok(()),
        Some(id) => refuse(
            path,
            format!("{value:?} never occurs, because tenants' ids are normalised: write \"{id}\""),
        ),
        None => refuse(path, format!("{value:?} is not a tenant's id, {ID_RULE}")),
    }
}

/// A value that comes out of a metric's name as it went in.
fn label_value(value: &str, path: &str) -> Result<(), ConfigError> {
    match value {
        "" => return refuse(path, "is empty, write the value"),
        "other" => {
            return refuse(
                path,
                "\"other\" is what all values that are not listed are counted as, take it out",
            );
        }
        "none" => {
            return refuse(
                path,
                "\"none\" is what no value at all is counted as, take it out",
            );
        }
        _ => {}
    }
    at_most(value.len(), MAX_LENGTH, path, "bytes")?;
    if let Some(pattern) = PROXY_TAGS.iter().find(|pattern| value.contains(*pattern)) {
        return refuse(
            path,
            format!(
                "{value:?} contains {pattern:?}, which the proxy reads as the start of a label of its own; it can't be counted by itself"
            ),
        );
    }
    if series_name("", &[("", value)]) != format!("=.={value};.;") {
        return refuse(
            path,
            format!(
                "{value:?} can't be a label's value: control characters, a dot at its start, and a dot after \";\" or \"=\" break the labels"
            ),
        );
    }
    Ok(())
}

fn label_name(name: &str, others: &[&str], path: &str) -> Result<(), ConfigError> {
    if !metrics::is_name(name) || name.starts_with("__") {
        return refuse(
            path,
            format!(
                "{name:?} is not a label's name, write 1 to {MAX_LENGTH} of a-z, A-Z, 0-9 and _, not starting with a digit or __"
            ),
        );
    }
    if let Some(other) = others
        .iter()
        .find(|other| name.ends_with(*other) || other.ends_with(name))
    {
        let (longer, shorter) = if name.len() > other.len() {
            (name, *other)
        } else {
            (*other, name)
        };
        return refuse(
            path,
            format!(
                "the proxy can't tell {shorter:?} from the end of {longer:?}, rename one of the two labels"
            ),
        );
    }
    Ok(())
}

fn label_header(name: &str, path: &str) -> Result<String, ConfigError> {
    let name = header::name(name, path)?;
    for (owned, from) in [
        (TENANT_ID, FromConfig::Tenant),
        (TENANT_TIER, FromConfig::Tier),
        (USER_TYPE, FromConfig::UserType),
    ] {
        if same_name(name.as_bytes(), owned.as_bytes()) {
            return refuse(
                path,
                format!(
                    "{name:?} is another filter's word, write `from: {}` instead",
                    from.as_str()
                ),
            );
        }
    }
    Ok(name)
}

fn metric_labels(
    labels: &[String],
    names: &[&str],
    path: &str,
    problems: &mut Problems,
) -> Vec<usize> {
    problems.at_most(labels.len(), MAX_METRIC_LABELS, path, "labels");
    let mut positions = Vec::with_capacity(labels.len());
    for (i, label) in labels.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let Some(position) = names.iter().position(|name| name == label) else {
            let known = match names {
                [] => "write it in labels".to_owned(),
                names => format!("write one of {}, or add it to labels", names.join(", ")),
            };
            if problems.as_written("labels", "") {
                problems.tell(path, format!("{label:?} is not a label, {known}"));
            }
            continue;
        };
        if positions.contains(&position) {
            problems.tell(path, format!("{label:?} is there twice, take one out"));
        }
        positions.push(position);
    }
    positions
}

fn compile_when(when: &When, routes: &[String], path: &str, problems: &mut Problems) -> Condition {
    let mut condition = Condition {
        path: when.path.clone(),
        ..Condition::default()
    };
    let given = [
        (when.method.is_given(), when.method.values().len(), "method"),
        (when.route.is_given(), when.route.values().len(), "route"),
        (when.status.is_given(), when.status.values().len(), "status"),
        (!when.headers.is_empty(), when.headers.len(), "headers"),
    ];
    if when.path.is_none()
        && given.iter().all(|(given, ..)| !given)
        && problems.as_written(path, "headers")
    {
        problems.tell(path, "is empty and holds for all requests, take it out");
    }
    for (given, count, field) in given {
        let path = format!("{path}.{field}");
        if given && count == 0 {
            problems.tell(&path, "is empty and never holds, list the values");
        }
        problems.at_most(count, MAX_CONDITIONS, &path, "values");
    }
    for (i, method) in when.method.values().iter().enumerate() {
        let of_method = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
        if method.is_empty() || !method.bytes().all(of_method) {
            problems.tell(
                when.method.path(&format!("{path}.method"), i),
                format!("{method:?} is not a method, write for example \"POST\""),
            );
        }
        condition.methods.push(method.clone());
    }
    for (i, route) in when.route.values().iter().enumerate() {
        let position = routes.iter().position(|template| template == route);
        if position.is_none() && problems.as_written("routes", "") {
            problems.tell(
                when.route.path(&format!("{path}.route"), i),
                format!(
                    "{route:?} is not one of the templates in routes, add it there or use path"
                ),
            );
        }
        condition.routes.extend(position);
    }
    let headers = format!("{path}.headers");
    for (name, test) in when.headers.iter() {
        if let Some(name) = problems.take(header::name(name, &below(&headers, name))) {
            condition.headers.push((name, test.clone()));
        }
    }
    condition.statuses = when
        .status
        .values()
        .iter()
        .map(StatusMatch::range)
        .collect();
    if let Some(StringMatch::Exact(text)) = &when.path
        && (without_query(text.as_bytes()) != text.as_bytes() || !text.starts_with('/'))
    {
        problems.tell(
            format!("{path}.path.exact"),
            format!(
                "{text:?} never matches, because a path starts with a slash and is matched without its query"
            ),
        );
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        check(json.as_bytes()).unwrap_err().to_string()
    }

    /// The error for one label named `l`.
    fn label_error(label: &str) -> String {
        error(&format!(
            r#"{{"labels": {{"l": {label}}}, "metrics": [{{"name": "x_total", "labels": ["l"]}}]}}"#
        ))
    }

    /// The error for one metric.
    fn metric_error(metric: &str) -> String {
        error(&format!(
            r#"{{"labels": {{"tenant": {{"from": "tenant", "values": ["acme"]}}, "status": {{"from": "status"}}}}, "routes": ["/orders"], "metrics": [{metric}]}}"#
        ))
    }

    fn when_error(when: &str) -> String {
        metric_error(&format!(r#"{{"name": "x_total", "when": {when}}}"#))
    }

    fn routes_error(routes: &str) -> String {
        error(&format!(
            r#"{{"routes": {routes}, "metrics": [{{"name": "x_total"}}]}}"#
        ))
    }

    #[test]
    fn everything_that_is_not_needed_may_be_left_out() {
        assert_eq!(check(br#"{"metrics": [{"name": "x_total"}]}"#), Ok(()));
        assert_eq!(
            check(br#"{"metrics": [{"name": "x_total", "type": "counter"}], "maxSeries": 10.0}"#),
            Ok(())
        );
    }

    #[test]
    fn one_value_or_many() {
        for when in [
            r#"{"method": "POST", "status": 201, "route": "/orders"}"#,
            r#"{"method": ["POST", "PUT"], "status": [201, "5xx", 404.0], "route": ["/orders"]}"#,
            r#"{"path": {"regex": "/orders/.*"}, "headers": {"x-channel": {"exact": "web"}}, "status": "2xx"}"#,
        ] {
            let config = format!(
                r#"{{"routes": ["/orders"], "metrics": [{{"name": "x_total", "when": {when}}}]}}"#
            );
            assert_eq!(check(config.as_bytes()), Ok(()), "{when}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (json, expected) in [
            ("", r#"missing field "metrics""#),
            (
                r#"{"metrics": []}"#,
                "metrics: is empty, write the metrics to count",
            ),
            (
                r#"{"metric": []}"#,
                r#"metric: unknown field "metric", expected one of "labels", "routes", "metrics", "maxSeries", "foldedMetric""#,
            ),
            (
                r#"{"metrics": [["x_total", "counter", null, []]]}"#,
                "metrics[0]: a list is given, expected a mapping",
            ),
            (
                r#"{"metrics": [{"name": "x", "when": [["GET"], [], null, {}, []]}]}"#,
                "metrics[0].when: a list is given, expected a mapping",
            ),
            (
                r#"{"labels": {"a": ["tenant", null, ["acme"]]}, "metrics": [{"name": "x"}]}"#,
                "labels.a: a list is given, expected a mapping",
            ),
            (
                r#"{"metrics": [{"name": "x", "type": "gauge"}]}"#,
                r#"metrics[0].type: unknown variant "gauge", expected "counter""#,
            ),
            (
                r#"{"metrics": [{"name": "x", "help": "y"}]}"#,
                r#"metrics[0].help: unknown field "help", expected one of "name", "type", "when", "labels""#,
            ),
            (
                r#"{"labels": {"a": {"from": "claim"}}, "metrics": [{"name": "x"}]}"#,
                r#"labels.a.from: unknown variant "claim", expected one of "tenant", "tier", "userType", "route", "status", "statusClass", "method""#,
            ),
            (
                r#"{"labels": {"a": {"from": "status"}, "a": {"from": "status"}}, "metrics": [{"name": "x"}]}"#,
                r#"labels: "a" is given twice, keep one"#,
            ),
            (
                r#"{"metrics": [{"name": "x"}], "maxSeries": 0}"#,
                "maxSeries: 0 is out of range, write 1 to 100000",
            ),
            (
                r#"{"metrics": [{"name": "x"}], "maxSeries": "many"}"#,
                r#"maxSeries: "many" is given, expected a whole number, e.g. 100"#,
            ),
        ] {
            assert_eq!(error(json), expected, "{json}");
        }
    }

    #[test]
    fn labels_say_where_their_value_comes_from_and_what_it_may_be() {
        let sourceless = "labels.l: does not say where its value comes from, write from or header";
        for (label, expected) in [
            ("{}", sourceless),
            (
                r#"{"from": "tenant", "header": "x"}"#,
                "labels.l: has from and header, write one of them",
            ),
            (
                r#"{"from": "tenant"}"#,
                "labels.l: has no values, list those of tenant that are worth a series; all else is \"other\"",
            ),
            (
                r#"{"header": "x"}"#,
                "labels.l: has no values, list those of a header that are worth a series; all else is \"other\"",
            ),
            (
                r#"{"from": "tier", "values": []}"#,
                "labels.l.values: is empty, list the values that are worth a series; all else is \"other\"",
            ),
            (
                r#"{"from": "status", "values": ["200"]}"#,
                "labels.l.values: is not needed, status brings its own values: take it out",
            ),
            (
                r#"{"from": "route"}"#,
                "labels.l: needs route templates, write them in routes",
            ),
            (
                r#"{"from": "tenant", "values": ["acme", "Globex"]}"#,
                "labels.l.values[1]: \"Globex\" never occurs, because tenants' ids are normalised: write \"globex\"",
            ),
            (
                r#"{"from": "tenant", "values": ["a b"]}"#,
                "labels.l.values[0]: \"a b\" is not a tenant's id, write 1 to 64 of a-z, 0-9, ., _ and -",
            ),
            (
                r#"{"from": "tier", "values": ["Gold"]}"#,
                "labels.l.values[0]: \"Gold\" is not a tier's name, write 1 to 64 of a-z, 0-9, _ and -, not starting with -",
            ),
            (
                r#"{"from": "userType", "values": ["Vip"]}"#,
                "labels.l.values[0]: \"Vip\" is not a type, write 1 to 64 of a-z, 0-9, _ and -, not starting with -",
            ),
            (
                r#"{"header": "x", "values": ["a", "a"]}"#,
                "labels.l.values[1]: \"a\" is there twice, take one out",
            ),
            (
                r#"{"header": "x", "values": ["other"]}"#,
                "labels.l.values[0]: \"other\" is what all values that are not listed are counted as, take it out",
            ),
            (
                r#"{"header": "x", "values": ["none"]}"#,
                "labels.l.values[0]: \"none\" is what no value at all is counted as, take it out",
            ),
            (
                r#"{"header": "x", "values": [""]}"#,
                "labels.l.values[0]: is empty, write the value",
            ),
            (
                r#"{"header": "x", "values": ["a;.;b"]}"#,
                "labels.l.values[0]: \"a;.;b\" can't be a label's value: control characters, a dot at its start, and a dot after \";\" or \"=\" break the labels",
            ),
            (
                r#"{"from": "tenant", "values": ["cart-tag.v1"]}"#,
                "labels.l.values[0]: \"cart-tag.v1\" contains \"tag.\", which the proxy reads as the start of a label of its own; it can't be counted by itself",
            ),
            (
                r#"{"header": "X-Tenant-Id", "values": ["a"]}"#,
                "labels.l.header: \"x-tenant-id\" is another filter's word, write `from: tenant` instead",
            ),
            (
                r#"{"header": "user-type", "values": ["a"]}"#,
                "labels.l.header: \"user-type\" is another filter's word, write `from: userType` instead",
            ),
            (
                r#"{"header": ":path", "values": ["a"]}"#,
                "labels.l.header: \":path\" is not a header here but a part of the request line, write a header's name",
            ),
            (
                r#"{"header": "x y", "values": ["a"]}"#,
                "labels.l.header: \"x y\" is not a header's name, write for example \"x-user-id\"",
            ),
        ] {
            assert_eq!(label_error(label), expected, "{label}");
        }
    }

    #[test]
    fn names_are_ones_that_come_out_of_the_proxy_as_they_went_in() {
        let name_rule = "write 1 to 128 of a-z, A-Z, 0-9 and _, not starting with a digit";
        for (name, expected) in [
            (
                "shop-orders",
                format!("\"shop-orders\" is not a metric's name, {name_rule}"),
            ),
            ("", format!("\"\" is not a metric's name, {name_rule}")),
            ("2x", format!("\"2x\" is not a metric's name, {name_rule}")),
            (
                "shop_rq_200",
                "\"shop_rq_200\" ends as Envoy's own counters by status do, choose another ending"
                    .to_owned(),
            ),
            (
                "shop_rq_5xx",
                "\"shop_rq_5xx\" ends as Envoy's own counters by status do, choose another ending"
                    .to_owned(),
            ),
        ] {
            assert_eq!(
                metric_error(&format!(r#"{{"name": "{name}"}}"#)),
                format!("metrics[0].name: {expected}")
            );
            let config =
                format!(r#"{{"metrics": [{{"name": "x_total"}}], "foldedMetric": "{name}"}}"#);
            assert_eq!(error(&config), format!("foldedMetric: {expected}"));
        }
        for name in ["user-type", "__name", "9a"] {
            let config = format!(
                r#"{{"labels": {{"{name}": {{"from": "status"}}}}, "metrics": [{{"name": "x_total"}}]}}"#
            );
            assert_eq!(
                error(&config),
                format!("labels.{name}: {name:?} is not a label's name, {name_rule} or __")
            );
        }
        for pair in [("tenant", "xtenant"), ("tenant", "a_tenant")] {
            let config = format!(
                r#"{{"labels": {{"{}": {{"from": "status"}}, "{}": {{"from": "status"}}}}, "metrics": [{{"name": "x_total"}}]}}"#,
                pair.0, pair.1
            );
            let last = pair.0.max(pair.1);
            let expected = format!(
                "labels.{last}: the proxy can't tell \"tenant\" from the end of {:?}, rename one of the two labels",
                pair.1
            );
            assert_eq!(error(&config), expected);
        }
        assert_eq!(
            metric_error(r#"{"name": "x_total"}, {"name": "x_total"}"#),
            "metrics[1].name: \"x_total\" is there twice, choose another name"
        );
        assert_eq!(
            metric_error(r#"{"name": "tollgate_folded_total"}"#),
            "metrics[0].name: \"tollgate_folded_total\" is there twice, choose another name"
        );
    }

    #[test]
    fn a_metrics_labels_are_ones_that_are_defined() {
        for (labels, expected) in [
            (
                r#"["user"]"#,
                "metrics[0].labels[0]: \"user\" is not a label, write one of status, tenant, or add it to labels",
            ),
            (
                r#"["tenant", "tenant"]"#,
                "metrics[0].labels[1]: \"tenant\" is there twice, take one out",
            ),
        ] {
            assert_eq!(
                metric_error(&format!(r#"{{"name": "x_total", "labels": {labels}}}"#)),
                expected
            );
        }
        assert_eq!(
            error(r#"{"metrics": [{"name": "x_total", "labels": ["user"]}]}"#),
            "metrics[0].labels[0]: \"user\" is not a label, write it in labels"
        );
    }

    #[test]
    fn conditions_are_ones_that_can_hold() {
        let at = "metrics[0].when";
        for (when, expected) in [
            (
                "{}",
                format!("{at}: is empty and holds for all requests, take it out"),
            ),
            (
                r#"{"method": []}"#,
                format!("{at}.method: is empty and never holds, list the values"),
            ),
            (
                r#"{"method": "post"}"#,
                format!("{at}.method: \"post\" is not a method, write for example \"POST\""),
            ),
            (
                r#"{"method": ["GET", ""]}"#,
                format!("{at}.method[1]: \"\" is not a method, write for example \"POST\""),
            ),
            (
                r#"{"method": {}}"#,
                format!("{at}.method: a mapping is given, expected a value or a list of values"),
            ),
            (
                r#"{"method": 5}"#,
                format!("{at}.method: 5 is given, expected a string"),
            ),
            (
                r#"{"route": "/cart"}"#,
                format!(
                    "{at}.route: \"/cart\" is not one of the templates in routes, add it there or use path"
                ),
            ),
            (
                r#"{"route": ["/orders", "/cart"]}"#,
                format!(
                    "{at}.route[1]: \"/cart\" is not one of the templates in routes, add it there or use path"
                ),
            ),
            (
                r#"{"path": {"exact": "/orders?x"}}"#,
                format!(
                    "{at}.path.exact: \"/orders?x\" never matches, because a path starts with a slash and is matched without its query"
                ),
            ),
            (
                r#"{"path": {"equals": "/orders"}}"#,
                format!(
                    "{at}.path.equals: unknown field \"equals\", expected one of \"exact\", \"prefix\", \"suffix\", \"regex\""
                ),
            ),
            (
                r#"{"headers": {":path": {"exact": "a"}}}"#,
                format!(
                    "{at}.headers[\":path\"]: \":path\" is not a header here but a part of the request line, write a header's name"
                ),
            ),
            (
                r#"{"status": 42}"#,
                format!("{at}.status: 42 is not a status, write one from 100 to 599"),
            ),
            (
                r#"{"status": -1}"#,
                format!("{at}.status: -1 is not a status, write one from 100 to 599"),
            ),
            (
                r#"{"status": 200.5}"#,
                format!(
                    "{at}.status: 200.5 is given, expected a status, e.g. 201, or a class, e.g. \"2xx\""
                ),
            ),
            (
                r#"{"status": ["2xx", "200"]}"#,
                format!("{at}.status[1]: \"200\" is text, write 200"),
            ),
            (
                r#"{"status": "6xx"}"#,
                format!("{at}.status: \"6xx\" is not a status, write e.g. 201 or \"2xx\""),
            ),
            (
                r#"{"status": true}"#,
                format!("{at}.status: true is given, expected a value or a list of values"),
            ),
        ] {
            assert_eq!(when_error(when), expected, "{when}");
        }
    }

    #[test]
    fn routes_are_templates_that_can_be_reached() {
        for (routes, expected) in [
            (
                r#"["orders"]"#,
                "routes[0]: \"orders\" is not a path, write \"/orders\"",
            ),
            (
                r#"["/orders", "/orders"]"#,
                "routes[1]: \"/orders\" is never reached, because \"/orders\" before it takes its paths; put it first or take it out",
            ),
            (
                r#"["/a", "/users/{id}", "/users/me"]"#,
                "routes[2]: \"/users/me\" is never reached, because \"/users/{id}\" before it takes its paths; put it first or take it out",
            ),
            (
                r#"["/cache.html"]"#,
                "routes[0]: \"/cache.html\" contains \"cache.\", which the proxy reads as the start of a label of its own; it can't be counted by itself",
            ),
        ] {
            assert_eq!(routes_error(routes), expected);
        }
        let reachable =
            br#"{"routes": ["/users/me", "/users/{id}"], "metrics": [{"name": "x_total"}]}"#;
        assert_eq!(check(reachable), Ok(()));
    }

    #[test]
    fn everything_is_bounded() {
        let numbers = |count: usize, format: &dyn Fn(usize) -> String| {
            (0..count).map(format).collect::<Vec<_>>().join(",")
        };
        let labels = numbers(17, &|i| format!(r#""l{i}_": {{"from": "status"}}"#));
        assert_eq!(
            error(&format!(
                r#"{{"labels": {{{labels}}}, "metrics": [{{"name": "x"}}]}}"#
            )),
            "labels: 17 labels are too many, write at most 16"
        );
        let labels = numbers(9, &|i| format!(r#""l{i}_": {{"from": "status"}}"#));
        let names = numbers(9, &|i| format!(r#""l{i}_""#));
        assert_eq!(
            error(&format!(
                r#"{{"labels": {{{labels}}}, "metrics": [{{"name": "x", "labels": [{names}]}}]}}"#
            )),
            "metrics[0].labels: 9 labels are too many, write at most 8"
        );
        assert_eq!(
            metric_error(&numbers(33, &|i| format!(r#"{{"name": "m{i}_total"}}"#))),
            "metrics: 33 metrics are too many, write at most 32"
        );
        assert_eq!(
            routes_error(&format!("[{}]", numbers(1_001, &|i| format!("\"/{i}\"")))),
            "routes: 1001 routes are too many, write at most 1000"
        );
        assert_eq!(
            label_error(&format!(
                r#"{{"from": "tenant", "values": [{}]}}"#,
                numbers(1_001, &|i| format!("\"t{i}\""))
            )),
            "labels.l.values: 1001 values are too many, write at most 1000"
        );
        assert_eq!(
            label_error(&format!(
                r#"{{"header": "x", "values": ["{}"]}}"#,
                "a".repeat(129)
            )),
            "labels.l.values[0]: 129 bytes are too many, write at most 128"
        );
        assert_eq!(
            when_error(&format!(
                r#"{{"headers": {{{}}}}}"#,
                numbers(28, &|i| format!(r#""x-{i}": {{"exact": "a"}}"#))
            )),
            "metrics: 28 different headers are too many, write at most 27"
        );
        assert_eq!(
            when_error(&format!(
                r#"{{"status": [{}]}}"#,
                numbers(65, &|i| (200 + i).to_string())
            )),
            "metrics[0].when.status: 65 values are too many, write at most 64"
        );
    }
}
