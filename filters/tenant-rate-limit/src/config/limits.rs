//! Limits, and what makes them acceptable.

use tollgate_common::{ConfigError, Duration, NAME_RULE, is_name, refuse};

use super::written::LimitWritten;
use crate::calendar::Window;
use crate::limit::{Kind, LARGEST_QUOTA, LONGEST_REFILL, Limit, SHORTEST_INTERVAL};

/// Limits that one tier has at most.
pub const LIMITS_IN_TIER: usize = 16;

/// Limits that all routes have together at most: a tenant's record has room for these and those of a tier.
pub const LIMITS_IN_ROUTES: usize = 16;

/// The limit written at `path`.
pub(super) fn limit(path: &str, written: &LimitWritten) -> Result<Limit, ConfigError> {
    let name = written.name.as_str();
    if !is_name(name) {
        return refuse(
            format!("{path}.name"),
            format!("\"{name}\" cannot be a limit's name, {NAME_RULE}"),
        );
    }
    if name == "none" {
        return refuse(
            format!("{path}.name"),
            "\"none\" is what metrics show where there is no limit, write another name",
        );
    }
    Ok(Limit::new(name, kind(path, written)?))
}

/// Refuses a limit beside another one; `whose` they are is for the message.
pub(super) fn distinct(
    path: &str,
    limit: &Limit,
    others: &[Limit],
    whose: &str,
) -> Result<(), ConfigError> {
    match clash(limit, others) {
        Some(what) => refuse(
            format!("{path}.name"),
            format!("\"{}\" {what} of {whose}, write another name", limit.name),
        ),
        None => Ok(()),
    }
}

/// In what way a limit is not told apart from one of these.
pub(super) fn clash(limit: &Limit, others: &[Limit]) -> Option<&'static str> {
    others.iter().find_map(|other| {
        if other.name == limit.name {
            Some("names another limit")
        } else if other.key() == limit.key() {
            Some("happens to have the hash of another limit")
        } else {
            None
        }
    })
}

fn kind(path: &str, limit: &LimitWritten) -> Result<Kind, ConfigError> {
    let at =
        |field: &str, message: String| Err(ConfigError::new(format!("{path}.{field}"), message));
    let per = limit.per.0.as_str();
    let window = Window::ALL.into_iter().find(|window| window.name() == per);
    match (limit.requests, limit.quota) {
        (Some(requests), None) => {
            let length = match Duration::parse(per) {
                Ok(length) => length.nanoseconds(),
                Err(_) if window.is_some() => {
                    let length = if window == Some(Window::Month) {
                        "30d".to_owned()
                    } else {
                        format!("1{}", per.get(..1).unwrap_or_default())
                    };
                    return at(
                        "per",
                        format!(
                            "\"{per}\" is a window, which a quota has; requests are per duration, write \"{length}\""
                        ),
                    );
                }
                Err(message) => return at("per", message),
            };
            if requests == 0 {
                return at(
                    "requests",
                    "0 lets nobody pass, write at least 1".to_owned(),
                );
            }
            let most = length / SHORTEST_INTERVAL;
            if most == 0 {
                return at(
                    "per",
                    format!("\"{per}\" is too short to count in, write at least \"1us\""),
                );
            }
            if requests > most {
                return at(
                    "requests",
                    format!(
                        "{requests} per {per} is more than 1000000 a second, write at most {most}"
                    ),
                );
            }
            // Rounded up, so that a rate is never exceeded.
            let interval = length.div_ceil(requests);
            let burst = limit.burst.unwrap_or(requests);
            if burst == 0 {
                return at("burst", "0 lets nobody pass, write at least 1".to_owned());
            }
            let most = LONGEST_REFILL / interval;
            if burst > most {
                return at(
                    "burst",
                    format!(
                        "{burst} at {requests} per {per} takes longer than 366 days to come back, write at most {most}"
                    ),
                );
            }
            Ok(Kind::Rate { interval, burst })
        }
        (None, Some(quota)) => {
            let Some(window) = window else {
                return at(
                    "per",
                    format!(
                        "\"{per}\" is not a window of a quota, write one of: minute, hour, day, month"
                    ),
                );
            };
            if limit.burst.is_some() {
                return at(
                    "burst",
                    "a quota has no burst, leave it out, or write requests in place of quota"
                        .to_owned(),
                );
            }
            if !(1..=LARGEST_QUOTA).contains(&quota) {
                return at(
                    "quota",
                    format!("{quota} is out of range, write 1 to {LARGEST_QUOTA}"),
                );
            }
            Ok(Kind::Quota { quota, window })
        }
        _ => Err(ConfigError::new(
            path,
            "write either requests (a rate, per duration) or quota (a number per window)",
        )),
    }
}
