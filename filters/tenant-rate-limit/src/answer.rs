//! What a client is told: `RateLimit-Policy` and `RateLimit` as in draft-ietf-httpapi-ratelimit-headers-11, which are lists of RFC 9651,
//! and the answer to a refused request.

use std::fmt::Write;

use tollgate_common::TenantId;

use crate::config::Tier;
use crate::limit::{Kind, Limit, Standing};

const SECOND: u64 = 1_000_000_000;

/// The value of `RateLimit-Policy`, the same for all tenants of a tier: `"rate";q=10;w=2, "daily";q=1000;w=86400`.
pub fn policy(limits: &[Limit]) -> String {
    let mut text = String::new();
    for limit in limits {
        let (quota, window) = match limit.kind {
            // From rest a burst passes, and in this time it comes back.
            Kind::Rate { interval, burst } => {
                // The interval was rounded up to a nanosecond, which is none of the client's business: 3 a second are not 3 in 2 seconds.
                let rounded = burst.saturating_sub(1);
                let refill = interval.saturating_mul(burst).saturating_sub(rounded);
                (burst, refill.div_ceil(SECOND))
            }
            Kind::Quota { quota, window } => (quota, window.seconds()),
        };
        separate(&mut text);
        let _ = write!(text, "\"{}\";q={quota};w={window}", limit.name);
    }
    text
}

/// The value of `RateLimit`: for each limit how many requests remain, and for how many seconds it will be no more.
pub fn standings(limits: &[Limit], standings: &[Standing]) -> String {
    let mut text = String::with_capacity(limits.len() * 32);
    for (limit, standing) in limits.iter().zip(standings) {
        separate(&mut text);
        let _ = write!(
            text,
            "\"{}\";r={};t={}",
            limit.name,
            standing.remaining,
            standing.more_in.div_ceil(SECOND)
        );
    }
    text
}

fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push_str(", ");
    }
}

/// Everything that is said about a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Of the limits that refused, the one that takes longest.
    pub limit: &'a str,
    /// `Retry-After`: whole seconds, at least 1, and not before any `t` of a limit that refused.
    pub retry_after: u64,
    /// `RateLimit`.
    pub standings: String,
    /// What happened, in a sentence. To a gRPC client it is the whole message.
    pub detail: String,
    /// The body for any other client, `application/problem+json`.
    pub problem: String,
}

/// The answer to a request that the limits `by` (indices) refused.
pub fn refusal<'a>(
    tenant: &TenantId,
    tier: &'a Tier,
    standings_now: &[Standing],
    by: &[usize],
) -> Refusal<'a> {
    let refusing = || {
        by.iter()
            .filter_map(|index| Some((tier.limits.get(*index)?, standings_now.get(*index)?)))
    };
    let longest = refusing().max_by_key(|(_, standing)| standing.more_in);
    let limit = longest.map_or("", |(limit, _)| limit.name.as_str());
    let retry_after = longest
        .map_or(1, |(_, standing)| standing.more_in.div_ceil(SECOND))
        .max(1);
    let mut violated = String::new();
    for (limit, _) in refusing() {
        if !violated.is_empty() {
            violated.push(',');
        }
        let _ = write!(violated, "\"{}\"", limit.name);
    }
    let detail = format!(
        "The limit {limit} of tenant {tenant} is used up; the next request can pass in {retry_after} s."
    );
    // Ids and names consist of characters that JSON takes as they are.
    let problem = format!(
        concat!(
            r#"{{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota exceeded","status":429,"#,
            r#""detail":"{detail}","violated-policies":[{violated}]}}"#,
        ),
        detail = detail,
        violated = violated,
    );
    Refusal {
        limit,
        retry_after,
        standings: standings(&tier.limits, standings_now),
        detail,
        problem,
    }
}
