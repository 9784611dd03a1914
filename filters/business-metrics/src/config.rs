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
//! - name: shop_request_duration_milliseconds
//!   type: histogram
//!   value: {from: duration}
//!   labels: [tenant]
//! ```

mod conditions;
mod labels;
mod values;
mod written;

use std::collections::{BTreeSet, HashSet};

use tollgate_common::config::{self, below};
use tollgate_common::{ConfigError, Problems, at_most, metrics, refuse};
use tollgate_host::MetricKind;

pub use written::{
    Config, FromConfig, GrpcStatus, Kind, LabelConfig, MetricConfig, StatusMatch, ValueConfig,
    ValueFrom, When,
};

use self::conditions::compile_when;
use self::labels::{compile_label, label_name, label_value, metric_labels};
use self::values::{Bodies, compile_value};
use crate::metrics::{Condition, MAX_HEADERS, Metric, Metrics, SKIPPED_LABEL};
use crate::routes::{Routes, Template};

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
/// The largest `atMost` of a label.
pub const MAX_ADMITTED: u64 = 1_000;
/// The largest `scale` of a value.
pub const LARGEST_SCALE: u64 = 1_000_000_000;
/// The largest `max` of a value. Nine thousand such requests are as many as a Prometheus can count exactly.
pub const LARGEST_NUMBER: u64 = 1_000_000_000_000;
/// The largest `maxBodyBytes`.
pub const LARGEST_BODY: u64 = 1 << 20;
/// How long a metric's `help` may be.
pub const LONGEST_HELP: usize = 256;

/// Everything for which a filter would refuse this configuration (JSON).
pub fn check(configuration: &[u8]) -> Result<(), Problems> {
    config::check(configuration, Config::compile)
}

/// Reads and compiles a configuration (JSON).
pub fn compile(configuration: &[u8]) -> Result<Metrics, Problems> {
    config::read(configuration, Config::compile)
}

/// The first field of a configuration (JSON) for which the filter must see bodies.
pub fn reads_bodies(configuration: &[u8]) -> Option<String> {
    let config: Config = config::parse(configuration).ok()?;
    let values = config.metrics.iter().enumerate();
    let mut fields = values.filter_map(|(i, metric)| {
        let value = metric.value.as_ref()?;
        let field = match (&value.request_body, &value.response_body) {
            (Some(_), _) => "requestBody",
            (None, Some(_)) => "responseBody",
            (None, None) => return None,
        };
        Some(format!("metrics[{i}].value.{field}"))
    });
    fields.next()
}

/// The labels of the metrics of a configuration (JSON), each with the field that is there for it: the pods' stat tags must have them. None of one that the
/// filter would refuse.
pub fn labels(configuration: &[u8]) -> Vec<(String, String)> {
    let Ok(config) = config::parse::<Config>(configuration) else {
        return Vec::new();
    };
    let used: BTreeSet<&String> = config
        .metrics
        .iter()
        .flat_map(|metric| &metric.labels)
        .collect();
    let mut labels: Vec<(String, String)> = used
        .into_iter()
        .map(|label| (label.clone(), below("labels", label)))
        .collect();
    if config.skips() && !labels.iter().any(|(label, _)| label == SKIPPED_LABEL) {
        labels.push((SKIPPED_LABEL.to_owned(), "skippedMetric".to_owned()));
    }
    labels
}

impl Config {
    /// Whether requests may be skipped.
    fn skips(&self) -> bool {
        let mut values = self
            .metrics
            .iter()
            .filter_map(|metric| metric.value.as_ref());
        values.any(|value| value.from.is_none())
    }

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
        if !(1..=LARGEST_BODY).contains(&self.max_body_bytes) {
            problems.tell(
                "maxBodyBytes",
                format!(
                    "{} is out of range, write 1 to {LARGEST_BODY}",
                    self.max_body_bytes
                ),
            );
        }
        problems.take(metrics::name(&self.folded_metric, "foldedMetric"));
        problems.take(metrics::name(&self.skipped_metric, "skippedMetric"));

        let templates = compile_routes(&self.routes, problems);
        let skips = self.skips();
        let mut names: Vec<&str> = Vec::with_capacity(self.labels.len());
        let mut labels = Vec::with_capacity(self.labels.len());
        for (name, label) in self.labels.iter() {
            let path = below("labels", name);
            // Also beside the label of requests that are skipped, if there can be any.
            let others = names.iter().copied();
            let skipped = (skips && name != SKIPPED_LABEL).then_some(SKIPPED_LABEL);
            let others: Vec<&str> = others.chain(skipped).collect();
            problems.take_key("labels", label_name(name, &others, &path));
            names.push(name);
            labels.push(compile_label(name, label, &self.routes, &path, problems));
        }

        self.name_metrics(problems);
        let mut bodies = Bodies::default();
        let mut metrics = Vec::with_capacity(self.metrics.len());
        for (i, metric) in self.metrics.iter().enumerate() {
            let path = format!("metrics[{i}]");
            if let Some(help) = &metric.help {
                problems.take(one_line(help, &format!("{path}.help")));
            }
            let (kind, needs_value) = match metric.kind {
                Kind::Counter => (MetricKind::Counter, None),
                Kind::Gauge => (MetricKind::Gauge, Some("a gauge")),
                Kind::Histogram => (MetricKind::Histogram, Some("a histogram")),
            };
            if let (Some(kind), None) = (needs_value, &metric.value)
                && problems.as_written(&path, "value")
                && problems.as_written(&path, "type")
            {
                problems.tell(
                    &path,
                    format!("is {kind} without a value, write which number it shows in value"),
                );
            }
            metrics.push(Metric {
                name: metric.name.clone(),
                kind,
                help: metric.help.clone(),
                labels: metric_labels(&metric.labels, &names, &format!("{path}.labels"), problems),
                condition: match &metric.when {
                    Some(when) => {
                        compile_when(when, &self.routes, &format!("{path}.when"), problems)
                    }
                    None => Condition::default(),
                },
                value: match &metric.value {
                    Some(value) => {
                        compile_value(value, &mut bodies, &format!("{path}.value"), problems)
                    }
                    None => None,
                },
            });
        }
        let metrics = Metrics::new(
            labels.into_iter().collect::<Option<_>>()?,
            Routes::new(templates?),
            metrics,
            self.max_series,
            [self.folded_metric, self.skipped_metric],
        );
        let headers = metrics.further_headers();
        problems.at_most(headers, MAX_HEADERS, "metrics", "different headers");
        let [request, response] = bodies.asked(self.max_body_bytes, problems);
        Some(metrics.asking(request, response))
    }

    /// Refuses names that Prometheus or the proxy would mix up.
    fn name_metrics(&self, problems: &mut Problems) {
        let histograms = self
            .metrics
            .iter()
            .filter(|metric| metric.kind == Kind::Histogram);
        let names: HashSet<String> = histograms
            .flat_map(|metric| {
                ["bucket", "sum", "count"].map(|part| format!("{}_{part}", metric.name))
            })
            .collect();
        let mut known = HashSet::new();
        let own = [
            (&self.folded_metric, "foldedMetric"),
            (&self.skipped_metric, "skippedMetric"),
        ];
        for (name, field) in own {
            if names.contains(name) {
                problems.tell(field, part_of_a_histogram(name));
            } else if !known.insert(name.as_str()) {
                problems.tell(field, there_twice(name));
            }
        }
        for (i, metric) in self.metrics.iter().enumerate() {
            let path = format!("metrics[{i}].name");
            if problems.take(metrics::name(&metric.name, &path)).is_none() {
                continue;
            }
            if names.contains(&metric.name) {
                problems.tell(path, part_of_a_histogram(&metric.name));
            } else if !known.insert(&metric.name) {
                problems.tell(path, there_twice(&metric.name));
            }
        }
    }
}

fn part_of_a_histogram(name: &str) -> String {
    format!(
        "{name:?} is what a part of the histogram before the last _ is called, choose another name"
    )
}

fn there_twice(name: &str) -> String {
    format!("{name:?} is there twice, choose another name")
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

fn one_line(help: &str, path: &str) -> Result<(), ConfigError> {
    at_most(help.len(), LONGEST_HELP, path, "bytes")?;
    if help.trim().is_empty() || help.contains(char::is_control) {
        return refuse(path, format!("{help:?} is not a line of text, write one"));
    }
    Ok(())
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
                r#"metric: unknown field "metric", expected one of "labels", "routes", "metrics", "maxSeries", "foldedMetric", "skippedMetric", "maxBodyBytes""#,
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
                r#"{"metrics": [{"name": "x", "type": "summary"}]}"#,
                r#"metrics[0].type: unknown variant "summary", expected one of "counter", "gauge", "histogram""#,
            ),
            (
                r#"{"metrics": [{"name": "x", "unit": "y"}]}"#,
                r#"metrics[0].unit: unknown field "unit", expected one of "name", "help", "type", "when", "value", "labels""#,
            ),
            (
                r#"{"labels": {"a": {"from": "claim"}}, "metrics": [{"name": "x"}]}"#,
                r#"labels.a.from: unknown variant "claim", expected one of "tenant", "tier", "userType", "route", "status", "statusClass", "grpcStatus", "method", "limit", "reason""#,
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
        let sourceless = "labels.l: does not say where its value comes from, write from, header, responseHeader, claim or constant";
        for (label, expected) in [
            ("{}", sourceless),
            (
                r#"{"from": "tenant", "header": "x"}"#,
                "labels.l: has from and header, write one of them",
            ),
            (
                r#"{"from": "tenant"}"#,
                "labels.l: has no values, list those of tenant that are worth a series, or write how many are in atMost; all else is \"other\"",
            ),
            (
                r#"{"header": "x"}"#,
                "labels.l: has no values, list those of a header that are worth a series, or write how many are in atMost; all else is \"other\"",
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
                r#"{"claim": [], "values": ["a"]}"#,
                "labels.l.claim: names no claim, write for example plan, or [realm, plan] for one in another",
            ),
            (
                r#"{"claim": ["realm", ""], "atMost": 5}"#,
                "labels.l.claim[1]: \"\" is not a claim's name, write for example \"plan\"",
            ),
            (
                r#"{"claim": "plan"}"#,
                "labels.l: has no values, list those of a claim that are worth a series, or write how many are in atMost; all else is \"other\"",
            ),
            (
                r#"{"from": "tenant", "atMost": 0}"#,
                "labels.l.atMost: 0 is out of range, write 1 to 1000",
            ),
            (
                r#"{"from": "reason", "atMost": 5}"#,
                "labels.l.atMost: is not needed, reason brings its own values: take it out",
            ),
            (
                r#"{"from": "limit", "values": ["Rate"]}"#,
                "labels.l.values[0]: \"Rate\" is not a limit's name, write 1 to 64 of a-z, 0-9, _ and -, not starting with -",
            ),
            (
                r#"{"constant": "a;.;b"}"#,
                "labels.l.constant: \"a;.;b\" can't be a label's value: control characters, a dot at its start, and a dot after \";\" or \"=\" break the labels",
            ),
            (
                r#"{"constant": "eu", "values": ["eu"]}"#,
                "labels.l.values: is not needed, constant brings its own values: take it out",
            ),
            (
                r#"{"responseHeader": "x y", "values": ["a"]}"#,
                "labels.l.responseHeader: \"x y\" is not a header's name, write for example \"x-user-id\"",
            ),
            (
                r#"{"header": "x", "claim": "y", "constant": "z"}"#,
                "labels.l: has header and claim and constant, write one of them",
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
    fn a_gauge_and_a_histogram_show_a_number() {
        for (metric, expected) in [
            (
                r#"{"name": "x", "type": "gauge"}"#,
                "metrics[0]: is a gauge without a value, write which number it shows in value",
            ),
            (
                r#"{"name": "x", "type": "histogram"}"#,
                "metrics[0]: is a histogram without a value, write which number it shows in value",
            ),
            (
                r#"{"name": "x", "value": "duration"}"#,
                "metrics[0].value: \"duration\" is given, expected a mapping",
            ),
            (
                r#"{"name": "x", "value": {}}"#,
                "metrics[0].value: does not say where the number is, write from, header, responseHeader, requestBody or responseBody",
            ),
            (
                r#"{"name": "x", "type": "histogram", "value": {"from": "duration"}}, {"name": "x_count"}"#,
                "metrics[1].name: \"x_count\" is what a part of the histogram before the last _ is called, choose another name",
            ),
            (
                r#"{"name": "x", "value": {"header": "x-total", "from": "duration"}}"#,
                "metrics[0].value: has from and header, write one of them",
            ),
            (
                r#"{"name": "x", "value": {"header": "x total"}}"#,
                "metrics[0].value.header: \"x total\" is not a header's name, write for example \"x-user-id\"",
            ),
            (
                r#"{"name": "x", "value": {"responseHeader": ":status"}}"#,
                "metrics[0].value.responseHeader: \":status\" is not a header here but a part of the request line, write a header's name",
            ),
            (
                r#"{"name": "x", "value": {"responseBody": "$.total"}}"#,
                "metrics[0].value.responseBody: \"$.total\" is not a JSON pointer: it starts with \"/\", write \"/total\"",
            ),
            (
                r#"{"name": "x", "value": {"requestBody": "/a", "responseBody": "/a"}}"#,
                "metrics[0].value: has requestBody and responseBody, write one of them",
            ),
            (
                r#"{"name": "x", "value": {"header": "x-total", "scale": 0}}"#,
                "metrics[0].value.scale: 0 is out of range, write 1 to 1000000000",
            ),
            (
                r#"{"name": "x", "value": {"header": "x-total", "scale": 0.01}}"#,
                "metrics[0].value.scale: 0.01 is given, expected a whole number, e.g. 100",
            ),
            (
                r#"{"name": "x", "value": {"header": "x-total", "max": 1000000000001}}"#,
                "metrics[0].value.max: 1000000000001 is out of range, write 1 to 1000000000000",
            ),
            (
                r#"{"name": "x", "value": {"from": "duration", "scale": 10}}"#,
                "metrics[0].value.scale: is for numbers of headers and bodies, duration is a whole number already: take it out",
            ),
            (
                r#"{"name": "tollgate_skipped_total"}"#,
                "metrics[0].name: \"tollgate_skipped_total\" is there twice, choose another name",
            ),
            (
                r#"{"name": "x", "help": "a\nb"}"#,
                "metrics[0].help: \"a\\nb\" is not a line of text, write one",
            ),
        ] {
            assert_eq!(metric_error(metric), expected, "{metric}");
        }
        for value in ["duration", "requestBytes", "responseBytes"] {
            for kind in ["counter", "gauge", "histogram"] {
                let metric = format!(
                    r#"{{"metrics": [{{"name": "x", "help": "What it is.", "type": "{kind}", "value": {{"from": "{value}"}}}}]}}"#
                );
                assert_eq!(check(metric.as_bytes()), Ok(()));
            }
        }
    }

    #[test]
    fn the_labels_of_metrics_are_what_stat_tags_must_have() {
        let of = |json: &str| labels(json.as_bytes());
        let pair = |label: &str, field: &str| (label.to_owned(), field.to_owned());
        let labels =
            r#"{"b": {"from": "status"}, "a": {"from": "method"}, "unused": {"constant": "x"}}"#;
        assert_eq!(
            of(&format!(
                r#"{{"labels": {labels}, "metrics": [{{"name": "x", "labels": ["b", "a"]}}, {{"name": "y", "value": {{"header": "z"}}}}]}}"#
            )),
            [
                pair("a", "labels.a"),
                pair("b", "labels.b"),
                pair("reason", "skippedMetric")
            ]
        );
        assert_eq!(of(r#"{"metrics": [{"name": "x"}]}"#), []);
        assert_eq!(of(r#"{"metrics": 5}"#), []);
    }

    #[test]
    fn bodies_are_asked_for_a_few_numbers_each() {
        let metrics = |count: usize| {
            let metric =
                |n| format!(r#"{{"name": "m{n}_total", "value": {{"responseBody": "/n{n}"}}}}"#);
            (0..count).map(metric).collect::<Vec<_>>().join(",")
        };
        let config = |metrics: &str| format!(r#"{{"metrics": [{metrics}]}}"#);
        assert_eq!(check(config(&metrics(8)).as_bytes()), Ok(()));
        assert_eq!(
            error(&config(&metrics(9))),
            "metrics: 9 different pointers into bodies of responses are too many, write at most 8"
        );
        let same = r#"{"name": "twice_total", "value": {"responseBody": "/n1", "scale": 2}}"#;
        let both = format!("{},{same}", metrics(8));
        assert_eq!(check(config(&both).as_bytes()), Ok(()));
        assert_eq!(
            error(r#"{"metrics": [{"name": "x"}], "maxBodyBytes": 2000000}"#),
            "maxBodyBytes: 2000000 is out of range, write 1 to 1048576"
        );
        assert_eq!(
            reads_bodies(
                config(r#"{"name": "a"}, {"name": "b", "value": {"requestBody": "/x"}}"#)
                    .as_bytes()
            ),
            Some("metrics[1].value.requestBody".to_owned())
        );
        assert_eq!(
            reads_bodies(config(r#"{"name": "a", "value": {"from": "duration"}}"#).as_bytes()),
            None
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
                r#"{"grpcStatus": 17}"#,
                format!("{at}.grpcStatus: 17 is not a gRPC status, write one from 0 to 16"),
            ),
            (
                r#"{"grpcStatus": ["OK"]}"#,
                format!(
                    "{at}.grpcStatus[0]: \"OK\" is given, expected the number of a gRPC status, e.g. 14"
                ),
            ),
            (
                r#"{"tenant": ["acme", "Globex"]}"#,
                format!(
                    "{at}.tenant[1]: \"Globex\" never occurs, because tenants' ids are normalised: write \"globex\""
                ),
            ),
            (
                r#"{"tier": []}"#,
                format!("{at}.tier: is empty and never holds, list the values"),
            ),
            (
                r#"{"userType": "Vip"}"#,
                format!(
                    "{at}.userType: \"Vip\" is not a type, write 1 to 64 of a-z, 0-9, _ and -, not starting with -"
                ),
            ),
            (
                r#"{"limit": "the rate"}"#,
                format!(
                    "{at}.limit: \"the rate\" is not a limit's name, write 1 to 64 of a-z, 0-9, _ and -, not starting with -"
                ),
            ),
            (
                r#"{"reason": "tired"}"#,
                format!(
                    "{at}.reason: \"tired\" is no reason for which the limiter refuses, write one of limited, too_costly, blocked, missing, unusable, contended, unavailable"
                ),
            ),
            (
                r#"{"responseHeaders": {"x y": {"exact": "a"}}}"#,
                format!(
                    "{at}.responseHeaders[\"x y\"]: \"x y\" is not a header's name, write for example \"x-user-id\""
                ),
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
            "metrics: 28 different headers are too many, write at most 26"
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
