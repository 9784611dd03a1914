//! Requests that are exempt, cost more, or have limits of their own.

use tollgate_common::config::below;
use tollgate_common::header::{self, TENANT_ID, TENANT_TIER};
use tollgate_common::{ConfigError, Problems, StringMatch, refuse};
use tollgate_host::same_name;

use super::identity::parameter;
use super::limits::{Known, LIMITS_IN_ROUTES, LIMITS_IN_TIER, limits};
use super::written::{CostFromWritten, CostWritten, MatchWritten, RouteWritten};
use super::{LimitSet, flag};

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
        /// Not to those of its tenant that have these names, which are in order.
        without: Vec<String>,
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

/// The routes. Their limits are added to `all`, in their order.
pub(super) fn routes(
    written: &[RouteWritten],
    all: &mut Vec<Known>,
    problems: &mut Problems,
) -> Option<Vec<Route>> {
    problems.at_most(written.len(), MAX_ROUTES, "routes", "routes");
    let mut routes = Some(Vec::with_capacity(written.len()));
    let mut last = None;
    for (index, written) in written.iter().enumerate() {
        let path = format!("routes[{index}]");
        if let Some(all) = last {
            problems.tell(
                &path,
                format!(
                    "is never reached, because routes[{all}] matches every request; move that to the end"
                ),
            );
        }
        let effect = effect(written, &path, all, problems);
        let path = format!("{path}.match");
        let when = conditions(&written.when, &path, problems);
        if when.is_everything()
            && problems.as_written(&path, "")
            && problems.as_written(&path, "headers")
        {
            last = last.or(Some(index));
        }
        routes = routes.zip(effect).map(|(mut routes, effect)| {
            routes.push(Route { when, effect });
            routes
        });
    }
    routes
}

impl Match {
    /// Whether it matches every request.
    pub(super) fn is_everything(&self) -> bool {
        self.method.is_none()
            && self.path.is_none()
            && self.host.is_none()
            && self.headers.is_empty()
    }
}

fn effect(
    written: &RouteWritten,
    path: &str,
    all: &mut Vec<Known>,
    problems: &mut Problems,
) -> Option<Effect> {
    let before = all.len();
    let limits_path = format!("{path}.limits");
    let limits = limits(&limits_path, &written.limits, all, "a route", problems);
    if before <= LIMITS_IN_ROUTES {
        problems.at_most(
            all.len(),
            LIMITS_IN_ROUTES,
            &limits_path,
            "limits in all routes",
        );
    }
    let cost = match &written.cost {
        None => Some(Cost::Fixed(1)),
        Some(written) => cost(written, &format!("{path}.cost"), problems),
    };
    problems.at_most(
        written.without.len(),
        LIMITS_IN_TIER,
        &format!("{path}.without"),
        "names",
    );
    let mut without = written.without.clone();
    without.sort_unstable();
    let charges =
        written.cost.is_some() || !written.limits.is_empty() || !written.without.is_empty();
    match flag(path, "exempt", written.exempt, problems)? {
        true if charges => problems.refuse(
            path,
            "is exempt, so it has neither cost nor limits, nor anything without: leave out one or the other",
        ),
        true => Some(Effect::Exempt),
        false if charges => Some(Effect::Charge {
            cost: cost?,
            limits: LimitSet::new(limits?),
            without,
        }),
        false => problems.refuse(
            path,
            "does nothing, write exempt: true, a cost, limits or without; cost: 1 is as without a route",
        ),
    }
}

fn cost(written: &CostWritten, path: &str, problems: &mut Problems) -> Option<Cost> {
    match written {
        CostWritten::Fixed(0) => problems.refuse(
            path,
            "0 is no cost, write exempt: true for requests that cost nothing",
        ),
        CostWritten::Fixed(cost) if *cost > LARGEST_COST => problems.refuse(
            path,
            format!("{cost} is out of range, write 1 to {LARGEST_COST}"),
        ),
        CostWritten::Fixed(cost) => Some(Cost::Fixed(*cost)),
        CostWritten::Found(found) => found_cost(found, path, problems),
    }
}

fn found_cost(written: &CostFromWritten, path: &str, problems: &mut Problems) -> Option<Cost> {
    let at = |field: &str| format!("{path}.{field}");
    let place = match (&written.header, &written.query) {
        (Some(name), None) => {
            let name = problems.take(foreign_header(name, &at("header")));
            name.map(Place::Header)
        }
        (None, Some(name)) => problems
            .take(parameter(name, &at("query")))
            .map(Place::Query),
        _ => problems.refuse(
            path,
            "says not where the cost is found, write either header or query",
        ),
    };
    let (min, max, default) = (written.min, written.max, written.default);
    if min == 0 {
        problems.tell(
            at("min"),
            "0 would let a client pass for nothing, write at least 1",
        );
    }
    // Against what is right.
    let known = |number: u64, field: &str, otherwise: u64| match problems.as_written(path, field) {
        true => number,
        false => otherwise,
    };
    let least = known(min, "min", 1).max(1);
    let mut most = known(max, "max", LARGEST_COST);
    if !(least..=LARGEST_COST).contains(&most) {
        problems.tell(
            at("max"),
            format!("{max} is out of range, write {least} to {LARGEST_COST}"),
        );
        most = LARGEST_COST;
    }
    if !(least..=most).contains(&default) {
        problems.tell(
            at("default"),
            format!("{default} is out of range, write {least} to {most}"),
        );
    }
    Some(Cost::Found {
        place: place?,
        min,
        max,
        default,
    })
}

fn conditions(written: &MatchWritten, path: &str, problems: &mut Problems) -> Match {
    let headers_path = format!("{path}.headers");
    problems.at_most(written.headers.len(), MAX_HEADERS, &headers_path, "headers");
    let mut headers: Vec<(String, StringMatch)> = Vec::new();
    for (name, condition) in written.headers.iter() {
        let path = below(&headers_path, name);
        let Some(lower) = problems.take(foreign_header(name, &path)) else {
            continue;
        };
        if headers.iter().any(|(other, _)| *other == lower) {
            problems.tell(path, format!("\"{lower}\" is there twice, keep one"));
            continue;
        }
        headers.push((lower, condition.clone()));
    }
    if let Some((key, host)) = written.host.as_ref().and_then(StringMatch::literal)
        && host
            .bytes()
            .any(|byte| byte.is_ascii_uppercase() || byte == b':')
    {
        problems.tell(
            format!("{path}.host.{key}"),
            format!("{host:?} never occurs, because hosts are lowered and have no port here"),
        );
    }
    if let Some((key @ ("exact" | "prefix"), text)) =
        written.path.as_ref().and_then(StringMatch::literal)
    {
        let path = format!("{path}.path.{key}");
        if !text.starts_with('/') {
            problems.tell(
                path,
                format!("{text:?} never occurs, because paths begin with /, write \"/{text}\""),
            );
        } else if text.contains(['?', '#']) {
            problems.tell(
                path,
                format!("{text:?} never occurs, because a path is matched without its query"),
            );
        }
    }
    Match {
        method: written.method.clone(),
        path: written.path.clone(),
        host: written.host.clone(),
        headers,
    }
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
