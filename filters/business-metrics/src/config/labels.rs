//! Labels: where their values come from, and which values they have.

use std::collections::HashSet;

use tollgate_common::claims;
use tollgate_common::header::{self, TENANT_ID, TENANT_TIER, USER_TYPE};
use tollgate_common::metrics::{self, PROXY_TAGS};
use tollgate_common::refusal::REASONS;
use tollgate_common::tenant::ID_RULE;
use tollgate_common::{
    ConfigError, NAME_RULE, Problems, TenantId, at_most, is_name, refuse, series_name,
};
use tollgate_host::same_name;

use super::written::{FromConfig, LabelConfig};
use super::{MAX_ADMITTED, MAX_LENGTH, MAX_METRIC_LABELS, MAX_VALUES};
use crate::label::{Label, Source};

/// A label of the configuration, by the name that it has there.
pub(super) fn compile_label(
    name: &str,
    label: &LabelConfig,
    routes: &[String],
    path: &str,
    problems: &mut Problems,
) -> Option<Label> {
    let places = [
        (label.from.is_some(), "from"),
        (label.header.is_some(), "header"),
        (label.response_header.is_some(), "responseHeader"),
        (label.claim.is_given(), "claim"),
        (label.constant.is_some(), "constant"),
    ];
    let given = places.iter().filter(|(given, _)| *given);
    let given: Vec<&str> = given.map(|(_, name)| *name).collect();
    if given.len() > 1 {
        let given = given.join(" and ");
        return problems.refuse(path, format!("has {given}, write one of them"));
    }
    if let Some(header) = &label.header {
        let header = problems.take(label_header(header, &format!("{path}.header")));
        let compiled = open(name, label, "a header", any_value, path, problems);
        return Some(compiled?.from(Source::Header(header?)));
    }
    if let Some(header) = &label.response_header {
        let header = problems.take(header::name(header, &format!("{path}.responseHeader")));
        let compiled = open(name, label, "a header", any_value, path, problems);
        return Some(compiled?.from(Source::ResponseHeader(header?)));
    }
    if label.claim.is_given() {
        let claim = problems.take(claims::path(&label.claim, &format!("{path}.claim"), "plan"));
        let compiled = open(name, label, "a claim", any_value, path, problems);
        return Some(compiled?.from(Source::Claim(claim?)));
    }
    if let Some(value) = &label.constant {
        problems.take(label_value(value, &format!("{path}.constant")));
        return closed(name, label, "constant", &[value], path, problems)
            .map(|label| label.from(Source::Constant));
    }
    let Some(from) = label.from else {
        return problems.refuse(
            path,
            "does not say where its value comes from, write from, header, responseHeader, claim or constant",
        );
    };
    if !problems.as_written(path, "from") {
        return None;
    }
    let source = match from {
        FromConfig::Tenant => Source::Tenant,
        FromConfig::Tier => Source::Tier,
        FromConfig::UserType => Source::UserType,
        FromConfig::Route => Source::Route,
        FromConfig::Status => Source::Status,
        FromConfig::StatusClass => Source::StatusClass,
        FromConfig::GrpcStatus => Source::GrpcStatus,
        FromConfig::Method => Source::Method,
        FromConfig::Limit => Source::Limit,
        FromConfig::Reason => Source::Reason,
    };
    let word = from.as_str();
    let numbers = |range: std::ops::RangeInclusive<u16>| -> Vec<String> {
        range.map(|number| number.to_string()).collect()
    };
    let compiled = match from {
        FromConfig::Tenant => open(name, label, word, tenant_id, path, problems),
        FromConfig::Tier => open(name, label, word, tier, path, problems),
        FromConfig::UserType => open(name, label, word, user_type, path, problems),
        FromConfig::Limit => open(name, label, word, limit, path, problems),
        FromConfig::Route => {
            let compiled = closed(name, label, word, routes, path, problems);
            if routes.is_empty() && problems.as_written("routes", "") {
                problems.tell(path, "needs route templates, write them in routes");
            }
            compiled
        }
        FromConfig::Status => closed(name, label, word, &numbers(100..=599), path, problems),
        FromConfig::StatusClass => {
            let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
            closed(name, label, word, &classes, path, problems)
        }
        FromConfig::GrpcStatus => closed(name, label, word, &numbers(0..=16), path, problems),
        FromConfig::Method => {
            let methods = [
                "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
            ];
            closed(name, label, word, &methods, path, problems)
        }
        FromConfig::Reason => closed(name, label, word, &REASONS, path, problems),
    };
    Some(compiled?.from(source))
}

/// A label without its source.
struct Sourceless<'a> {
    name: &'a str,
    values: Vec<String>,
    at_most: u64,
}

impl Sourceless<'_> {
    fn from(self, source: Source) -> Label {
        Label::new(self.name, source, self.values).at_most(self.at_most)
    }
}

/// A label whose values are those of its source.
fn closed<'a, V: AsRef<str>>(
    name: &'a str,
    label: &LabelConfig,
    source: &str,
    values: &[V],
    path: &str,
    problems: &mut Problems,
) -> Option<Sourceless<'a>> {
    for (given, field) in [
        (label.values.is_some(), "values"),
        (label.at_most.is_some(), "atMost"),
    ] {
        if given {
            problems.tell(
                format!("{path}.{field}"),
                format!("is not needed, {source} brings its own values: take it out"),
            );
        }
    }
    Some(Sourceless {
        name,
        values: values
            .iter()
            .map(|value| value.as_ref().to_owned())
            .collect(),
        at_most: 0,
    })
}

type ValueRule = fn(&str, &str) -> Result<(), ConfigError>;

/// A label that declares which values of its source are worth a series, each of which must be one that it can have, or how many.
fn open<'a>(
    name: &'a str,
    label: &LabelConfig,
    source: &str,
    rule: ValueRule,
    path: &str,
    problems: &mut Problems,
) -> Option<Sourceless<'a>> {
    let at_most = label.at_most.unwrap_or_default();
    if label.at_most.is_some() && !(1..=MAX_ADMITTED).contains(&at_most) {
        problems.tell(
            format!("{path}.atMost"),
            format!("{at_most} is out of range, write 1 to {MAX_ADMITTED}"),
        );
    }
    let values = match &label.values {
        Some(values) => declared(values, rule, &format!("{path}.values"), problems)?,
        None if label.at_most.is_some() || !problems.as_written(path, "atMost") => Vec::new(),
        None => {
            return problems.refuse(
                path,
                format!(
                    "has no values, list those of {source} that are worth a series, or write how many are in atMost; all else is \"other\""
                ),
            );
        }
    };
    Some(Sourceless {
        name,
        values,
        at_most,
    })
}

fn declared(
    values: &[String],
    rule: ValueRule,
    path: &str,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    if values.is_empty() {
        return problems.refuse(
            path,
            "is empty, list the values that are worth a series; all else is \"other\"",
        );
    }
    problems.at_most(values.len(), MAX_VALUES, path, "values");
    let mut known = HashSet::with_capacity(values.len());
    for (i, value) in values.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let valid = label_value(value, &path).and_then(|()| rule(value, &path));
        if problems.take(valid).is_some() && !known.insert(value) {
            problems.tell(path, format!("{value:?} is there twice, take one out"));
        }
    }
    Some(values.to_vec())
}

fn any_value(_: &str, _: &str) -> Result<(), ConfigError> {
    Ok(())
}

/// What a tenant's id is, for labels and conditions.
pub(super) fn tenant_id(value: &str, path: &str) -> Result<(), ConfigError> {
    match TenantId::normalise(value.as_bytes()) {
        Some(id) if id.as_str() == value => Ok(()),
        Some(id) => refuse(
            path,
            format!("{value:?} never occurs, because tenants' ids are normalised: write \"{id}\""),
        ),
        None => refuse(path, format!("{value:?} is not a tenant's id, {ID_RULE}")),
    }
}

/// What a tier's name is, likewise.
pub(super) fn tier(value: &str, path: &str) -> Result<(), ConfigError> {
    named(value, "a tier's name", path)
}

/// What a type of user is, likewise.
pub(super) fn user_type(value: &str, path: &str) -> Result<(), ConfigError> {
    named(value, "a type", path)
}

/// What a limit's name is, likewise.
pub(super) fn limit(value: &str, path: &str) -> Result<(), ConfigError> {
    named(value, "a limit's name", path)
}

fn named(value: &str, what: &str, path: &str) -> Result<(), ConfigError> {
    match is_name(value) {
        true => Ok(()),
        false => refuse(path, format!("{value:?} is not {what}, {NAME_RULE}")),
    }
}

/// A value that comes out of a metric's name as it went in.
pub(super) fn label_value(value: &str, path: &str) -> Result<(), ConfigError> {
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

/// Refuses what can't be the name of a label beside these others.
pub(super) fn label_name(name: &str, others: &[&str], path: &str) -> Result<(), ConfigError> {
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

/// The labels of a metric, by their positions among these names.
pub(super) fn metric_labels(
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
