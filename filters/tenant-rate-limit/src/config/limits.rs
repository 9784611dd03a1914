//! Limits, and what makes them acceptable.

use tollgate_common::hashed::{SALT_RULE, is_salt};
use tollgate_common::{ConfigError, Duration, NAME_RULE, Problems, is_name};

use super::settle::settled;
use super::written::{LimitWritten, ModeWritten, Per, ShareWritten};
use crate::calendar::Window;
use crate::in_flight::{Concurrency, LARGEST};
use crate::limit::{Kind, LARGEST_QUOTA, LONGEST_REFILL, Limit, Mode, SHORTEST_INTERVAL, Share};

/// Limits that one tier has at most.
pub const LIMITS_IN_TIER: usize = 16;

/// Limits that all routes have together at most: a tenant's record has room for these and those of a tier.
pub const LIMITS_IN_ROUTES: usize = 16;

/// Out of how many tenants a share is at most.
pub(super) const LARGEST_OUT_OF: u64 = 1_000_000;

/// A limit as far as it is right: one whose numbers are wrong has its name all the same.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) name: Option<String>,
    pub(super) limit: Option<Rule>,
}

/// A limit of any kind.
#[derive(Clone)]
pub(super) enum Rule {
    /// On how many requests there are in a time.
    Requests(Limit),
    /// On how many there are at the same time.
    InFlight(Concurrency),
}

impl Rule {
    fn key(&self) -> u32 {
        match self {
            Self::Requests(limit) => limit.key(),
            Self::InFlight(limit) => limit.key(),
        }
    }
}

/// The limits written at `path`. Those of `before` must be told apart from them, and then they are in there, too; `whose` all these are is for
/// the message.
pub(super) fn limits(
    path: &str,
    written: &[LimitWritten],
    before: &mut Vec<Known>,
    whose: &str,
    problems: &mut Problems,
) -> Option<Vec<Rule>> {
    let mut limits = Some(Vec::with_capacity(written.len()));
    for (index, written) in written.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let known = Known::of(&path, written, problems);
        distinct(&path, &known, before, whose, problems);
        limits = limits.zip(known.limit.clone()).map(|(mut limits, limit)| {
            limits.push(limit);
            limits
        });
        before.push(known);
    }
    limits
}

/// Tells of a limit that is not told apart from those beside it.
pub(super) fn distinct(
    path: &str,
    limit: &Known,
    others: &[Known],
    whose: &str,
    problems: &mut Problems,
) {
    if let (Some(name), Some(what)) = (&limit.name, limit.clash(others)) {
        problems.tell(
            format!("{path}.name"),
            format!("\"{name}\" {what} of {whose}, write another name"),
        );
    }
}

impl Known {
    fn of(path: &str, written: &LimitWritten, problems: &mut Problems) -> Self {
        let name = name(path, &written.name, problems);
        let mode = mode(
            path,
            written.mode,
            written.enforced_for.as_ref(),
            &written.name,
            problems,
        );
        let limit = match written.concurrent {
            Some(most) if written.requests.is_none() && written.quota.is_none() => {
                let most = concurrent(path, most, written, problems);
                let most = most.zip(settled(path, written, None, problems));
                let most = most.map(|(most, _)| most);
                name.zip(most).zip(mode).map(|((name, most), mode)| {
                    Rule::InFlight(Concurrency::new(name, most).in_mode(mode))
                })
            }
            _ => {
                let kind = kind(path, written, problems);
                let cost = settled(path, written, kind.map(Kind::units), problems);
                let limit = name.zip(kind).zip(mode).zip(cost);
                limit.map(|(((name, kind), mode), cost)| {
                    let limit = Limit::new(name, kind).in_mode(mode);
                    Rule::Requests(match cost {
                        Some(cost) => limit.settled_by(cost),
                        None => limit,
                    })
                })
            }
        };
        Self {
            limit,
            name: name.map(str::to_owned),
        }
    }

    /// In what way this limit is not told apart from one of these.
    pub(super) fn clash(&self, others: &[Self]) -> Option<&'static str> {
        others.iter().find_map(|other| {
            if self.name.is_some() && self.name == other.name {
                return Some("names another limit");
            }
            self.has_key_of(other.limit.iter().map(Rule::key))
                .then_some("happens to have the hash of another limit")
        })
    }

    /// Whether it has the key of one of these.
    pub(super) fn has_key_of(&self, mut others: impl Iterator<Item = u32>) -> bool {
        let limit = self.limit.as_ref();
        limit.is_some_and(|limit| others.any(|other| other == limit.key()))
    }
}

fn name<'w>(path: &str, name: &'w str, problems: &mut Problems) -> Option<&'w str> {
    if !is_name(name) {
        return problems.refuse(
            format!("{path}.name"),
            format!("\"{name}\" cannot be a limit's name, {NAME_RULE}"),
        );
    }
    if name == "none" {
        return problems.refuse(
            format!("{path}.name"),
            "\"none\" is what metrics show where there is no limit, write another name",
        );
    }
    Some(name)
}

/// The mode of the limit of this name, written at `path`.
pub(super) fn mode(
    path: &str,
    mode: ModeWritten,
    share: Option<&ShareWritten>,
    name: &str,
    problems: &mut Problems,
) -> Option<Mode> {
    match (mode, share) {
        (ModeWritten::Enforce, None) => Some(Mode::Enforce),
        (ModeWritten::Shadow, None) => Some(Mode::Shadow(Share {
            share: 0,
            out_of: 1,
            salt: String::new(),
        })),
        (ModeWritten::Shadow, Some(share)) => {
            enforced_for(&format!("{path}.enforcedFor"), share, name, problems).map(Mode::Shadow)
        }
        (ModeWritten::Enforce, Some(_)) => {
            if problems.as_written(path, "mode") {
                problems.tell(
                    format!("{path}.enforcedFor"),
                    "the limit is enforced for all, write mode: shadow beside it, or leave it out",
                );
            }
            None
        }
    }
}

/// That the limit of this name, written at `path`, is in shadow, if it is.
pub(super) fn shadow_of(
    path: &str,
    mode: ModeWritten,
    share: Option<&ShareWritten>,
    name: &str,
) -> Option<ConfigError> {
    if mode != ModeWritten::Shadow {
        return None;
    }
    let message = match share {
        None => format!("the limit {name} is in shadow and refuses nobody"),
        Some(written) => {
            let (share, of) = (written.share, written.out_of.unwrap_or(100));
            if share >= of {
                format!(
                    "the limit {name} is in shadow, though enforced for all tenants; write mode: enforce, without enforcedFor"
                )
            } else {
                format!("the limit {name} is in shadow for all but {share} of {of} tenants")
            }
        }
    };
    Some(ConfigError::new(format!("{path}.mode"), message))
}

fn enforced_for(
    path: &str,
    written: &ShareWritten,
    name: &str,
    problems: &mut Problems,
) -> Option<Share> {
    let at = |field: &str| format!("{path}.{field}");
    let ShareWritten {
        share,
        out_of,
        salt,
    } = written;
    let (share, out_of) = (*share, out_of.unwrap_or(100));
    let salt = salt.as_deref().unwrap_or(name);
    let mut right = true;
    let mut wrong = |field: &str, message: String| {
        right = false;
        problems.tell(at(field), message);
    };
    if !(1..=LARGEST_OUT_OF).contains(&out_of) {
        wrong(
            "outOf",
            format!("{out_of} is out of range, write 1 to {LARGEST_OUT_OF}"),
        );
    } else if share > out_of {
        wrong(
            "share",
            format!("{share} is more than there are, write at most {out_of}"),
        );
    }
    if written.salt.is_some() && !is_salt(salt) {
        wrong("salt", format!("{salt:?} is no salt, {SALT_RULE}"));
    }
    right.then(|| Share {
        share,
        out_of,
        salt: salt.to_owned(),
    })
}

fn kind(path: &str, limit: &LimitWritten, problems: &mut Problems) -> Option<Kind> {
    let per = |problems: &mut Problems| match &limit.per {
        Some(Per(per)) => Some(per.as_str()),
        None => problems.refuse(path, "missing field \"per\""),
    };
    match (limit.requests, limit.quota, limit.concurrent) {
        (Some(requests), None, None) => rate(path, requests, per(problems)?, limit.burst, problems),
        (None, Some(count), None) => quota(path, count, per(problems)?, limit, problems),
        _ => problems.refuse(
            path,
            "write one of requests (a rate, per duration), quota (a number per window) and concurrent (a number in flight)",
        ),
    }
}

/// How many requests may be in flight.
fn concurrent(path: &str, most: u64, limit: &LimitWritten, problems: &mut Problems) -> Option<u64> {
    for (field, there) in [
        ("per", limit.per.is_some()),
        ("burst", limit.burst.is_some()),
    ] {
        if there {
            problems.tell(
                format!("{path}.{field}"),
                "concurrent is how many requests are in flight at the same time, not in a time; leave it out",
            );
        }
    }
    if !(1..=LARGEST).contains(&most) {
        return problems.refuse(
            format!("{path}.concurrent"),
            format!("{most} is out of range, write 1 to {LARGEST}"),
        );
    }
    Some(most)
}

pub(super) fn rate(
    path: &str,
    requests: u64,
    per: &str,
    burst: Option<u64>,
    problems: &mut Problems,
) -> Option<Kind> {
    let at = |field: &str| format!("{path}.{field}");
    let length = length(&at("per"), per, problems);
    for (field, number) in [("requests", Some(requests)), ("burst", burst)] {
        if number == Some(0) {
            problems.tell(at(field), "0 lets nobody pass, write at least 1");
        }
    }
    let length = length?;
    let most = length / SHORTEST_INTERVAL;
    if requests > most {
        return problems.refuse(
            at("requests"),
            format!("{requests} per {per} is more than 1000000 a second, write at most {most}"),
        );
    }
    // Rounded up, so that a rate is never exceeded.
    let interval = length.div_ceil(requests.max(1));
    let burst = burst.unwrap_or(requests);
    let most = LONGEST_REFILL / interval;
    if burst > most && requests > 0 && problems.as_written(path, "requests") {
        return problems.refuse(
            at("burst"),
            format!(
                "{burst} at {requests} per {per} takes longer than 366 days to come back, write at most {most}"
            ),
        );
    }
    (requests > 0 && burst > 0).then_some(Kind::Rate { interval, burst })
}

/// How many nanoseconds a rate is per.
fn length(path: &str, per: &str, problems: &mut Problems) -> Option<u64> {
    match (Duration::parse(per), window(per)) {
        (Ok(length), _) if length.nanoseconds() < SHORTEST_INTERVAL => problems.refuse(
            path,
            format!("\"{per}\" is too short to count in, write at least \"1us\""),
        ),
        (Ok(length), _) => Some(length.nanoseconds()),
        (Err(_), Some(window)) => {
            let length = if window == Window::Month {
                "30d".to_owned()
            } else {
                format!("1{}", per.get(..1).unwrap_or_default())
            };
            problems.refuse(
                path,
                format!(
                    "\"{per}\" is a window, which a quota has; requests are per duration, write \"{length}\""
                ),
            )
        }
        (Err(message), None) => problems.refuse(path, message),
    }
}

fn quota(
    path: &str,
    quota: u64,
    per: &str,
    limit: &LimitWritten,
    problems: &mut Problems,
) -> Option<Kind> {
    let at = |field: &str| format!("{path}.{field}");
    let window = window(per);
    if window.is_none() {
        problems.tell(
            at("per"),
            format!("\"{per}\" is not a window of a quota, write one of: minute, hour, day, month"),
        );
    }
    if limit.burst.is_some() {
        problems.tell(
            at("burst"),
            "a quota has no burst, leave it out, or write requests in place of quota",
        );
    }
    if !(1..=LARGEST_QUOTA).contains(&quota) {
        return problems.refuse(
            at("quota"),
            format!("{quota} is out of range, write 1 to {LARGEST_QUOTA}"),
        );
    }
    window.map(|window| Kind::Quota { quota, window })
}

fn window(per: &str) -> Option<Window> {
    Window::ALL.into_iter().find(|window| window.name() == per)
}
