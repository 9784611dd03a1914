//! Conditions: which requests a metric is about.

use tollgate_common::refusal::REASONS;
use tollgate_common::{
    ConfigError, OneOrMany, Problems, StringMatch, UniqueMap, below, header, refuse,
};

use super::MAX_CONDITIONS;
use super::labels::{limit, tenant_id, tier, user_type};
use super::written::{GrpcStatus, StatusMatch, When};
use crate::metrics::Condition;
use crate::routes::without_query;

/// What a `when` says.
pub(super) fn compile_when(
    when: &When,
    routes: &[String],
    path: &str,
    problems: &mut Problems,
) -> Condition {
    fn words<T>(list: &OneOrMany<T>) -> (bool, usize) {
        (list.is_given(), list.values().len())
    }
    fn map<T>(map: &UniqueMap<T>) -> (bool, usize) {
        (!map.is_empty(), map.len())
    }
    let given = [
        (words(&when.method), "method"),
        (words(&when.route), "route"),
        (map(&when.headers), "headers"),
        (words(&when.tenant), "tenant"),
        (words(&when.tier), "tier"),
        (words(&when.user_type), "userType"),
        (words(&when.limit), "limit"),
        (words(&when.reason), "reason"),
        (words(&when.status), "status"),
        (words(&when.grpc_status), "grpcStatus"),
        (map(&when.response_headers), "responseHeaders"),
    ]
    .map(|((given, count), field)| (given, count, field));
    if when.path.is_none()
        && given.iter().all(|(given, ..)| !given)
        && problems.as_written(path, "headers")
        && problems.as_written(path, "responseHeaders")
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
    let at = |field: &str| format!("{path}.{field}");
    let mut condition = Condition {
        methods: each(&when.method, method, &at("method"), problems),
        path: when.path.clone(),
        headers: headers(&when.headers, &at("headers"), problems),
        tenants: each(&when.tenant, tenant_id, &at("tenant"), problems),
        tiers: each(&when.tier, tier, &at("tier"), problems),
        user_types: each(&when.user_type, user_type, &at("userType"), problems),
        limits: each(&when.limit, limit, &at("limit"), problems),
        reasons: each(&when.reason, reason, &at("reason"), problems),
        statuses: when
            .status
            .values()
            .iter()
            .map(StatusMatch::range)
            .collect(),
        grpc_statuses: when
            .grpc_status
            .values()
            .iter()
            .copied()
            .map(GrpcStatus::number)
            .collect(),
        response_headers: headers(&when.response_headers, &at("responseHeaders"), problems),
        routes: Vec::new(),
    };
    for (i, route) in when.route.values().iter().enumerate() {
        let position = routes.iter().position(|template| template == route);
        if position.is_none() && problems.as_written("routes", "") {
            problems.tell(
                when.route.path(&at("route"), i),
                format!(
                    "{route:?} is not one of the templates in routes, add it there or use path"
                ),
            );
        }
        condition.routes.extend(position);
    }
    if let Some(StringMatch::Exact(text)) = &when.path
        && (without_query(text.as_bytes()) != text.as_bytes() || !text.starts_with('/'))
    {
        problems.tell(
            at("path.exact"),
            format!(
                "{text:?} never matches, because a path starts with a slash and is matched without its query"
            ),
        );
    }
    condition
}

/// The values of a list, each of which must be one that there can be.
fn each(
    list: &OneOrMany<String>,
    rule: fn(&str, &str) -> Result<(), ConfigError>,
    path: &str,
    problems: &mut Problems,
) -> Vec<String> {
    for (i, value) in list.values().iter().enumerate() {
        problems.take(rule(value, &list.path(path, i)));
    }
    list.values().to_vec()
}

fn headers(
    written: &UniqueMap<StringMatch>,
    path: &str,
    problems: &mut Problems,
) -> Vec<(String, StringMatch)> {
    let mut headers = Vec::with_capacity(written.len());
    for (name, test) in written.iter() {
        if let Some(name) = problems.take(header::name(name, &below(path, name))) {
            headers.push((name, test.clone()));
        }
    }
    headers
}

fn method(method: &str, path: &str) -> Result<(), ConfigError> {
    let of_method = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
    if method.is_empty() || !method.bytes().all(of_method) {
        return refuse(
            path,
            format!("{method:?} is not a method, write for example \"POST\""),
        );
    }
    Ok(())
}

fn reason(reason: &str, path: &str) -> Result<(), ConfigError> {
    if REASONS.contains(&reason) {
        return Ok(());
    }
    refuse(
        path,
        format!(
            "{reason:?} is no reason for which the limiter refuses, write one of {}",
            REASONS.join(", ")
        ),
    )
}
