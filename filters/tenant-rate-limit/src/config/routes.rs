//! Requests that are exempt, cost more, or have limits of their own.

use tollgate_common::header::{self, TENANT_ID, TENANT_TIER};
use tollgate_common::{ConfigError, StringMatch, at_most, refuse};
use tollgate_host::same_name;

use super::LimitSet;
use super::identity::parameter;
use super::limits::{LIMITS_IN_ROUTES, distinct, limit};
use super::written::{CostFromWritten, CostWritten, MatchWritten, RouteWritten};
use crate::limit::Limit;

/// Routes that a configuration has at most: a request is compared with one after the other.
pub(super) const MAX_ROUTES: usize = 256;

/// Headers that one route looks at, at most.
pub(super) const MAX_HEADERS: usize = 16;

/// The most that a request costs.
pub const LARGEST_COST: u64 = 1_000_000;

/// What some requests are charged.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which requests.
    pub when: Match,
    /// What becomes of them.
    pub effect: Effect,
}

/// Conditions, all of which must hold.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// On the method.
    pub method: Option<StringMatch>,
    /// On the path, without its query.
    pub path: Option<StringMatch>,
    /// On the host, in lower case and without its port.
    pub host: Option<StringMatch>,
    /// On headers (names in lower case).
    pub headers: Vec<(String, StringMatch)>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Effect {
    /// It is charged nothing.
    Exempt,
    /// It is charged.
    Charge {
        /// This much.
        cost: Cost,
        /// To these limits too.
        limits: LimitSet,
    },
}

/// What a request counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Always this.
    Fixed(u64),
    /// What it says, within bounds.
    Found {
        /// Where.
        place: Place,
        /// The least.
        min: u64,
        /// The most, also if what it says cannot be understood.
        max: u64,
        /// If it says nothing.
        default: u64,
    },
}

/// Where a request says its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a header (in lower case).
    Header(String),
    /// In a query parameter.
    Query(String),
}

pub(super) fn routes(written: Vec<RouteWritten>) -> Result<Vec<Route>, ConfigError> {
    at_most(written.len(), MAX_ROUTES, "routes", "routes")?;
    let mut routes: Vec<Route> = Vec::with_capacity(written.len());
    let mut limits: Vec<Limit> = Vec::new();
    for (index, written) in written.into_iter().enumerate() {
        let path = format!("routes[{index}]");
        if let Some(all) = routes.iter().position(|route| route.when.is_everything()) {
            return refuse(
                path,
                format!(
                    "is never reached, because routes[{all}] matches every request; move that to the end"
                ),
            );
        }
        let effect = effect(&written, &path, &mut limits)?;
        let when = conditions(written.when, &format!("{path}.match"))?;
        routes.push(Route { when, effect });
    }
    Ok(routes)
}

impl Match {
    fn is_everything(&self) -> bool {
        self.method.is_none()
            && self.path.is_none()
            && self.host.is_none()
            && self.headers.is_empty()
    }
}

fn effect(
    written: &RouteWritten,
    path: &str,
    before: &mut Vec<Limit>,
) -> Result<Effect, ConfigError> {
    match written.exempt {
        Some(true) if written.cost.is_none() && written.limits.is_empty() => {
            return Ok(Effect::Exempt);
        }
        Some(true) => {
            return refuse(
                path,
                "is exempt, so it has neither cost nor limits: leave out one or the other",
            );
        }
        Some(false) => {
            return refuse(format!("{path}.exempt"), "false says nothing, leave it out");
        }
        None => {}
    }
    if written.cost.is_none() && written.limits.is_empty() {
        return refuse(
            path,
            "does nothing, write exempt: true, a cost or limits; cost: 1 is as without a route",
        );
    }
    let cost = match &written.cost {
        None => Cost::Fixed(1),
        Some(CostWritten::Fixed(0)) => {
            return refuse(
                format!("{path}.cost"),
                "0 is no cost, write exempt: true for requests that cost nothing",
            );
        }
        Some(CostWritten::Fixed(cost)) if *cost > LARGEST_COST => {
            return refuse(
                format!("{path}.cost"),
                format!("{cost} is out of range, write 1 to {LARGEST_COST}"),
            );
        }
        Some(CostWritten::Fixed(cost)) => Cost::Fixed(*cost),
        Some(CostWritten::Found(found)) => cost(found, &format!("{path}.cost"))?,
    };
    let mut limits = Vec::with_capacity(written.limits.len());
    for (index, written) in written.limits.iter().enumerate() {
        let path = format!("{path}.limits[{index}]");
        let limit = limit(&path, written)?;
        distinct(&path, &limit, before, "a route")?;
        before.push(limit.clone());
        limits.push(limit);
    }
    at_most(
        before.len(),
        LIMITS_IN_ROUTES,
        &format!("{path}.limits"),
        "limits in all routes",
    )?;
    Ok(Effect::Charge {
        cost,
        limits: LimitSet::new(limits),
    })
}

fn cost(written: &CostFromWritten, path: &str) -> Result<Cost, ConfigError> {
    let place = match (&written.header, &written.query) {
        (Some(name), None) => Place::Header(foreign_header(name, &format!("{path}.header"))?),
        (None, Some(name)) => Place::Query(parameter(name, &format!("{path}.query"))?),
        _ => {
            return refuse(
                path,
                "says not where the cost is found, write either header or query",
            );
        }
    };
    let (min, max, default) = (written.min, written.max, written.default);
    if min == 0 {
        return refuse(
            format!("{path}.min"),
            "0 would let a client pass for nothing, write at least 1",
        );
    }
    if max > LARGEST_COST || max < min {
        return refuse(
            format!("{path}.max"),
            format!("{max} is out of range, write {min} to {LARGEST_COST}"),
        );
    }
    if !(min..=max).contains(&default) {
        return refuse(
            format!("{path}.default"),
            format!("{default} is out of range, write {min} to {max}"),
        );
    }
    Ok(Cost::Found {
        place,
        min,
        max,
        default,
    })
}

fn conditions(written: MatchWritten, path: &str) -> Result<Match, ConfigError> {
    at_most(
        written.headers.len(),
        MAX_HEADERS,
        &format!("{path}.headers"),
        "headers",
    )?;
    let mut headers: Vec<(String, StringMatch)> = Vec::new();
    for (name, condition) in written.headers.0 {
        let path = format!("{path}.headers.{name}");
        let lower = foreign_header(&name, &path)?;
        if headers.iter().any(|(other, _)| *other == lower) {
            return refuse(path, format!("\"{lower}\" is there twice, keep one"));
        }
        headers.push((lower, condition));
    }
    if let Some(StringMatch::Exact(host) | StringMatch::Prefix(host) | StringMatch::Suffix(host)) =
        &written.host
        && host
            .bytes()
            .any(|byte| byte.is_ascii_uppercase() || byte == b':')
    {
        return refuse(
            format!("{path}.host"),
            format!("{host:?} never occurs, because hosts are lowered and have no port here"),
        );
    }
    if let Some(StringMatch::Exact(path_text) | StringMatch::Prefix(path_text)) = &written.path {
        if !path_text.starts_with('/') {
            return refuse(
                format!("{path}.path"),
                format!(
                    "{path_text:?} never occurs, because paths begin with /, write \"/{path_text}\""
                ),
            );
        }
        if path_text.contains(['?', '#']) {
            return refuse(
                format!("{path}.path"),
                format!("{path_text:?} never occurs, because a path is matched without its query"),
            );
        }
    }
    Ok(Match {
        method: written.method,
        path: written.path,
        host: written.host,
        headers,
    })
}

/// The name of a header that the client may send, in lower case.
fn foreign_header(name: &str, path: &str) -> Result<String, ConfigError> {
    let name = header::name(name, path)?;
    let same = |own: &str| same_name(name.as_bytes(), own.as_bytes());
    if same(TENANT_ID) || same(TENANT_TIER) {
        return refuse(
            path,
            format!(
                "\"{name}\" is what this filter writes, and what a client sends in it does not count; write another header"
            ),
        );
    }
    Ok(name)
}
