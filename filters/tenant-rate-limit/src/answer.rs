//! What a client is told: how it stands, in `RateLimit-Policy` and `RateLimit` as in draft-ietf-httpapi-ratelimit-headers-11, which are lists of
//! RFC 9651, and if it is asked for in `X-RateLimit-*` as in draft-polli-ratelimit-headers-03; and the answer to a refused request.

use tollgate_common::TenantId;

use crate::config::Answer;
use crate::in_flight::{Concurrencies, Concurrency};
use crate::ledger::Limits;
use crate::limit::{Kind, Limit, Standing, times};
use crate::settle::Source;

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Limits are used up.
    Limited,
    /// It costs more than limits ever let pass at once.
    TooCostly,
    /// Its tenant may not send any.
    Blocked,
    /// It does not say from whom it is.
    Missing,
    /// It says so in no usable way.
    Unusable,
    /// Other workers were always faster.
    Contended,
    /// The proxy's shared data does not work.
    Unavailable,
}

impl Reason {
    /// The word for it in metrics, in the filter state and in bodies.
    pub fn word(self) -> &'static str {
        match self {
            Self::Limited => "limited",
            Self::TooCostly => "too_costly",
            Self::Blocked => "blocked",
            Self::Missing => "missing",
            Self::Unusable => "unusable",
            Self::Contended => "contended",
            Self::Unavailable => "unavailable",
        }
    }

    /// What an access log shows as response-code details.
    pub fn details(self) -> &'static str {
        match self {
            Self::Limited => "tollgate_rate_limited",
            Self::TooCostly => "tollgate_too_costly",
            Self::Blocked => "tollgate_tenant_blocked",
            Self::Missing => "tollgate_tenant_missing",
            Self::Unusable => "tollgate_tenant_unusable",
            Self::Contended => "tollgate_rate_limit_contended",
            Self::Unavailable => "tollgate_rate_limit_unavailable",
        }
    }

    /// The status for clients that do not speak gRPC; `refused` is what the configuration has for the reason, if it has any.
    fn status(self, refused: u32) -> u32 {
        match self {
            Self::Limited | Self::Missing | Self::Unusable => refused,
            // Not 429, which means that it would pass later.
            Self::TooCostly | Self::Blocked => 403,
            Self::Contended | Self::Unavailable => 503,
        }
    }

    fn grpc_status(self, status: u32) -> u32 {
        match self {
            // RESOURCE_EXHAUSTED
            Self::Limited | Self::TooCostly => 8,
            // PERMISSION_DENIED
            Self::Blocked => 7,
            // UNAUTHENTICATED or INVALID_ARGUMENT
            Self::Missing | Self::Unusable => {
                if status == 401 {
                    16
                } else {
                    3
                }
            }
            // UNAVAILABLE
            Self::Contended | Self::Unavailable => 14,
        }
    }

    /// The type and the title of the problem: the draft's own where it has one.
    fn problem(self, status: u32) -> (&'static str, &'static str) {
        match self {
            Self::Limited => (
                "https://iana.org/assignments/http-problem-types#quota-exceeded",
                "Quota exceeded",
            ),
            Self::Contended | Self::Unavailable => (
                "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
                "Temporary reduced capacity",
            ),
            Self::TooCostly | Self::Blocked | Self::Missing | Self::Unusable => {
                let title = match status {
                    400 => "Bad Request",
                    401 => "Unauthorized",
                    _ => "Forbidden",
                };
                ("about:blank", title)
            }
        }
    }
}

/// The value of `RateLimit-Policy`, the same for all tenants with these limits: `"rate";q=10;w=2, "daily";q=1000;w=86400,
/// "parallel";q=20;qu="concurrent-requests"`.
pub fn policy<'a>(
    limits: impl IntoIterator<Item = &'a Limit>,
    in_flight: impl IntoIterator<Item = &'a Concurrency>,
) -> String {
    let mut text = String::new();
    for limit in limits {
        let (quota, window) = allowed(limit);
        separate(&mut text);
        push_name(&mut text, &limit.name);
        push(&mut text, &[";q=", "", ";w="], &[quota, window]);
        // Of other units, such as tokens, the draft knows nothing.
        if let Some(Source::Bytes) = limit.settled.as_ref().map(|settled| &settled.source) {
            text.push_str(r#";qu="content-bytes""#);
        }
    }
    for limit in in_flight {
        separate(&mut text);
        push_name(&mut text, &limit.name);
        push(&mut text, &[";q=", ""], &[limit.most]);
        text.push_str(r#";qu="concurrent-requests""#);
    }
    text
}

/// How much a limit lets pass in how many seconds.
fn allowed(limit: &Limit) -> (u64, u64) {
    match limit.kind {
        // From rest a burst passes, and in this time it comes back.
        Kind::Rate { interval, burst } => {
            // The interval was rounded up to a nanosecond, which is none of the client's business: 3 a second are not 3 in 2 seconds.
            let rounded = burst.saturating_sub(1);
            let refill = interval.saturating_mul(burst).saturating_sub(rounded);
            (burst, refill.div_ceil(SECOND))
        }
        Kind::Quota { quota, window } => (quota, window.seconds()),
    }
}

/// The value of `RateLimit`: for each limit how many requests remain, and for how many seconds it will be no more. For how long all places are taken nobody knows, so
/// that is not said of a limit on requests in flight. Either may be empty, if nobody asked these limits.
pub fn standings<'a>(
    limits: Limits<'_>,
    standings: &[Standing],
    in_flight: impl Iterator<Item = &'a Concurrency>,
    free: &[u64],
) -> String {
    let mut text = String::with_capacity((standings.len() + free.len()) * 32);
    for (limit, standing) in limits.iter().zip(standings) {
        separate(&mut text);
        push_name(&mut text, &limit.name);
        let more_in = standing.more_in.div_ceil(SECOND);
        push(
            &mut text,
            &[";r=", "", ";t="],
            &[standing.remaining, more_in],
        );
    }
    for (limit, free) in in_flight.zip(free) {
        separate(&mut text);
        push_name(&mut text, &limit.name);
        push(&mut text, &[";r=", ""], &[*free]);
    }
    text
}

/// The values of `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`: of the limit of which least remains, and in the
/// first of them what all limits are: `10, 10;w=2;name="rate", 1000;w=86400;name="daily"`. As in Envoy's own.
pub fn lowest(limits: Limits<'_>, standings: &[Standing]) -> Option<[String; 3]> {
    let by_remaining =
        |(_, standing): &(&Limit, &Standing)| (standing.remaining, u64::MAX - standing.more_in);
    let (limit, standing) = limits.iter().zip(standings).min_by_key(by_remaining)?;
    let mut all = String::with_capacity(16 + standings.len() * 32);
    push_number(&mut all, allowed(limit).0);
    for limit in limits.iter() {
        let (quota, window) = allowed(limit);
        push(&mut all, &[", ", "", ";w="], &[quota, window]);
        all.push_str(";name=");
        push_name(&mut all, &limit.name);
    }
    let (mut remaining, mut reset) = (String::new(), String::new());
    push_number(&mut remaining, standing.remaining);
    push_number(&mut reset, standing.more_in.div_ceil(SECOND));
    Some([all, remaining, reset])
}

/// Adds a header to those that stand in a line of an access log: `retry-after: 1 | ratelimit: "rate";r=0;t=1`. No value of ours has a `|`.
pub(crate) fn push_field(text: &mut String, name: &str, value: &str) {
    let separator = if text.is_empty() { "" } else { " | " };
    for part in [separator, name, ": ", value] {
        text.push_str(part);
    }
}

fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push_str(", ");
    }
}

/// A name as a String of RFC 9651: names consist of characters that need no escape.
fn push_name(text: &mut String, name: &str) {
    text.push('"');
    text.push_str(name);
    text.push('"');
}

fn push(text: &mut String, before: &[&str], numbers: &[u64]) {
    let mut numbers = numbers.iter();
    for part in before {
        if part.is_empty() {
            if let Some(number) = numbers.next() {
                push_number(text, *number);
            }
        } else {
            text.push_str(part);
        }
    }
    for number in numbers {
        push_number(text, *number);
    }
}

/// A number in digits, without the machinery of `fmt`: this runs for every request.
pub(crate) fn push_number(text: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut from = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        from -= 1;
        if number == 0 {
            break;
        }
    }
    for digit in digits.get(from..).unwrap_or_default() {
        text.push(char::from(*digit));
    }
}

/// Who and what was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Why.
    pub reason: Reason,
    /// Whose request it was; `None` if it was nobody's.
    pub tenant: Option<&'a TenantId>,
    /// What it would have cost.
    pub cost: u64,
    /// The limits that it had to pass.
    pub limits: Limits<'a>,
    /// How its tenant stands with each of them; empty if nobody asked.
    pub standings: &'a [Standing],
    /// The limits that refused it, as indices.
    pub by: &'a [usize],
    /// The limits on requests in flight that it had to pass.
    pub in_flight: Concurrencies<'a>,
    /// How many more each of those that are enforced would let in; empty if nobody asked.
    pub free: &'a [u64],
    /// Those of them that refused it, as indices. Then the others have not been asked.
    pub crowded: &'a [usize],
    /// What the whole proxy lets pass and how the tenant stands with it, if it was that which refused it.
    pub total: Option<(&'a Limit, Standing)>,
}

/// What is said about a refused request. Of its texts each is written when it is asked for: no answer has them all.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    refused: Refused<'a>,
    /// Of the limits that refused, the one that takes longest; `None` if it was none.
    pub limit: Option<&'a str>,
    /// Its index; of a limit on requests in flight after those of all others.
    pub index: usize,
    /// The status for clients that do not speak gRPC.
    pub status: u32,
    /// The status for those that do.
    pub grpc_status: u32,
    /// The limit on requests in flight that refused, the first if there are several.
    crowded: Option<&'a Concurrency>,
    /// Of all others that did, the one that takes longest.
    longest: Option<(&'a Limit, Standing)>,
    /// Nanoseconds until it can pass; `None` if it never can.
    wait: Option<u64>,
}

impl<'a> Refused<'a> {
    /// What is said about this. `status` is what the configuration has for the reason, and `chance` a random number.
    pub fn refusal(&self, answer: &Answer, status: u32, chance: u64) -> Refusal<'a> {
        let first_crowded = self.crowded_by().next();
        let longest = self
            .refusing()
            .max_by_key(|(_, limit, standing)| wait(limit, standing, self.cost));
        let wait = longest
            .as_ref()
            .map(|(_, limit, standing)| match self.total {
                Some(_) => standing.more_in,
                None => wait(limit, standing, self.cost),
            });
        // Later by up to so many percent, never earlier.
        let later = |wait: u64| {
            let most = wait / 100 * answer.jitter;
            wait.saturating_add(((u128::from(most) * u128::from(chance)) >> 64) as u64)
        };
        let wait = match self.reason {
            // When another one is done nobody knows. To come back at once would be in vain, mostly.
            Reason::Limited if first_crowded.is_some() => Some(SECOND),
            Reason::Limited => wait.map(later),
            Reason::Contended | Reason::Unavailable => Some(SECOND),
            Reason::TooCostly | Reason::Blocked | Reason::Missing | Reason::Unusable => None,
        };
        let status = self.reason.status(status);
        let (limit, index) = match (first_crowded, longest) {
            (Some((index, limit)), _) => (
                Some(limit.name.as_str()),
                self.limits.tenant.len() + self.limits.route.len() + index,
            ),
            (None, Some((index, limit, _))) => (Some(limit.name.as_str()), index),
            (None, None) => (None, 0),
        };
        Refusal {
            refused: *self,
            limit,
            index,
            status,
            grpc_status: self.reason.grpc_status(status),
            crowded: first_crowded.map(|(_, limit)| limit),
            longest: longest.map(|(_, limit, standing)| (limit, standing)),
            wait,
        }
    }

    /// The limits that refused it, those on requests in flight aside, with their indices.
    fn refusing(&self) -> impl Iterator<Item = (usize, &'a Limit, Standing)> {
        let (limits, standings) = (self.limits, self.standings);
        let by = self
            .by
            .iter()
            .filter_map(move |index| Some((*index, limits.get(*index)?, *standings.get(*index)?)));
        by.chain(self.total.map(|(limit, standing)| (0, limit, standing)))
    }

    /// Those on requests in flight.
    fn crowded_by(&self) -> impl Iterator<Item = (usize, &'a Concurrency)> {
        let in_flight = self.in_flight;
        let indices = self.crowded.iter();
        indices.filter_map(move |index| Some((*index, in_flight.iter().nth(*index)?)))
    }

    fn crowded_detail(&self, limit: &Concurrency) -> String {
        let tenant = self.tenant.map_or("", TenantId::as_str);
        let most = text(limit.most);
        let mut detail = String::with_capacity(128);
        for part in [
            "Of tenant ",
            tenant,
            ", as many requests are in flight as the limit ",
            &limit.name,
            " allows, which is ",
            &most,
            "; the next one can pass when another one is done.",
        ] {
            detail.push_str(part);
        }
        detail
    }

    fn detail(&self, longest: Option<(&Limit, Standing)>, seconds: Option<u64>) -> String {
        let tenant = self.tenant.map_or("", TenantId::as_str);
        let limit = longest.map_or("", |(limit, _)| limit.name.as_str());
        let cost = longest.map_or(self.cost, |(limit, _)| limit.cost(self.cost));
        let mut detail = String::with_capacity(128);
        let mut say = |parts: &[&str]| parts.iter().for_each(|part| detail.push_str(part));
        match self.reason {
            Reason::Limited if self.total.is_some() => {
                say(&["More is asked of the whole proxy than it lets pass, and tenant "]);
                say(&[tenant, " has had its share; the next request can pass in "]);
                say(&[&text(seconds.unwrap_or(1)), " s."]);
            }
            Reason::TooCostly if self.total.is_some() => {
                let most = text(longest.map_or(0, |(limit, _)| allowed(limit).0));
                say(&["This request costs ", &text(self.cost)]);
                say(&[", and the whole proxy never lets more than ", &most]);
                say(&[" pass at once."]);
            }
            Reason::Limited if cost == 1 => {
                let seconds = text(seconds.unwrap_or(1));
                say(&["The limit ", limit, " of tenant ", tenant]);
                say(&[
                    " is used up; the next request can pass in ",
                    &seconds,
                    " s.",
                ]);
            }
            Reason::Limited => {
                let left = text(longest.map_or(0, |(_, standing)| standing.remaining));
                let (cost, seconds) = (text(cost), text(seconds.unwrap_or(1)));
                let costs = match longest.is_some_and(|(limit, _)| limit.settled.is_some()) {
                    true => " is estimated at ",
                    false => " costs ",
                };
                say(&["This request", costs, &cost, ", and of the limit ", limit]);
                say(&[
                    " tenant ",
                    tenant,
                    " has ",
                    &left,
                    " left; it can pass in ",
                    &seconds,
                ]);
                say(&[" s."]);
            }
            Reason::TooCostly => {
                let most = text(longest.map_or(0, |(limit, _)| allowed(limit).0));
                say(&[
                    "This request costs ",
                    &text(self.cost),
                    ", and the limit ",
                    limit,
                ]);
                say(&[
                    " of tenant ",
                    tenant,
                    " never lets more than ",
                    &most,
                    " pass at once.",
                ]);
            }
            Reason::Blocked => say(&["The tenant ", tenant, " may not send requests."]),
            Reason::Missing => say(&["The request does not say which tenant it is from."]),
            Reason::Unusable => {
                say(&["The request does not say in a usable way which tenant it is from."])
            }
            Reason::Contended | Reason::Unavailable => {
                say(&["The request could not be charged."]);
            }
        }
        detail
    }

    /// Ids and names consist of characters that JSON takes as they are.
    fn problem<'b>(
        &self,
        status: u32,
        detail: &str,
        violated: impl Iterator<Item = &'b str>,
    ) -> String {
        let (kind, title) = match self.reason {
            // It is not the tenant's doing.
            Reason::Limited if self.total.is_some() => Reason::Unavailable,
            reason => reason,
        }
        .problem(status);
        let mut problem = String::with_capacity(256);
        for part in [
            r#"{"type":""#,
            kind,
            r#"","title":""#,
            title,
            r#"","status":"#,
            &text(u64::from(status)),
            r#","detail":""#,
            detail,
            r#"","reason":""#,
            self.reason.word(),
            "\"",
        ] {
            problem.push_str(part);
        }
        let mut separator = r#","violated-policies":["#;
        for name in violated {
            problem.push_str(separator);
            push_name(&mut problem, name);
            separator = ",";
        }
        problem.push_str(if separator == "," { "]}" } else { "}" });
        problem
    }
}

impl Refusal<'_> {
    /// `Retry-After`: whole seconds, at least 1, and not before it can pass. `None` if it never can.
    pub fn retry_after(&self) -> Option<String> {
        self.seconds().map(text)
    }

    /// `grpc-retry-pushback-ms`: the same, and negative if it never can.
    pub fn pushback(&self) -> Option<String> {
        match (self.refused.reason, self.wait) {
            (_, Some(wait)) => Some(text(wait.div_ceil(MILLISECOND).clamp(1, i32::MAX as u64))),
            (Reason::TooCostly | Reason::Blocked, None) => Some("-1".to_owned()),
            (_, None) => None,
        }
    }

    /// What happened, in a sentence. To a gRPC client it is the whole message.
    pub fn detail(&self) -> String {
        match self.crowded {
            Some(limit) => self.refused.crowded_detail(limit),
            None => self.refused.detail(self.longest, self.seconds()),
        }
    }

    /// The body for any other client, `application/problem+json`.
    pub fn problem(&self) -> String {
        let violated = self.refused.refusing().map(|(_, limit, _)| limit);
        let violated = violated.map(|limit| limit.name.as_str());
        let crowded = self.refused.crowded_by();
        let crowded = crowded.map(|(_, limit)| limit.name.as_str());
        self.refused
            .problem(self.status, &self.detail(), violated.chain(crowded))
    }

    fn seconds(&self) -> Option<u64> {
        self.wait.map(|wait| wait.div_ceil(SECOND).max(1))
    }
}

/// Nanoseconds until a limit lets a request pass: until more than what remains is as much as it costs.
fn wait(limit: &Limit, standing: &Standing, cost: u64) -> u64 {
    let further = cost.saturating_sub(standing.remaining).saturating_sub(1);
    match limit.kind {
        Kind::Rate { interval, .. } => standing.more_in.saturating_add(times(further, interval)),
        // All of it comes back at once.
        Kind::Quota { .. } => standing.more_in,
    }
}

fn text(number: u64) -> String {
    let mut text = String::new();
    push_number(&mut text, number);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Window;
    use proptest::prelude::*;

    const ANSWER: Answer = Answer {
        status: 429,
        jitter: 0,
        rate_limit: true,
        x_rate_limit: false,
    };

    fn limits() -> [Limit; 2] {
        let rate = Kind::Rate {
            interval: SECOND / 5,
            burst: 10,
        };
        let daily = Kind::Quota {
            quota: 1_000,
            window: Window::Day,
        };
        [Limit::new("rate", rate), Limit::new("daily", daily)]
    }

    fn of(limits: &[Limit]) -> Limits<'_> {
        Limits {
            tenant: limits,
            ..Limits::default()
        }
    }

    fn standing(remaining: u64, more_in: u64) -> Standing {
        Standing { remaining, more_in }
    }

    #[test]
    fn other_filters_know_the_reasons() {
        let all = [
            Reason::Limited,
            Reason::TooCostly,
            Reason::Blocked,
            Reason::Missing,
            Reason::Unusable,
            Reason::Contended,
            Reason::Unavailable,
        ];
        assert_eq!(all.map(Reason::word), tollgate_common::refusal::REASONS);
    }

    #[test]
    fn headers_tell_of_every_limit() {
        let limits = limits();
        assert_eq!(
            policy(&limits, []),
            r#""rate";q=10;w=2, "daily";q=1000;w=86400"#
        );
        let now = [standing(3, SECOND / 5), standing(990, 70_238 * SECOND)];
        assert_eq!(
            standings(of(&limits), &now, std::iter::empty(), &[]),
            r#""rate";r=3;t=1, "daily";r=990;t=70238"#
        );
        assert_eq!(
            lowest(of(&limits), &now),
            Some([
                r#"10, 10;w=2;name="rate", 1000;w=86400;name="daily""#.to_owned(),
                "3".to_owned(),
                "1".to_owned()
            ])
        );
        // Of equal ones the one that lasts longer.
        let now = [standing(0, SECOND / 5), standing(0, 9 * SECOND)];
        let [limit, _, reset] = lowest(of(&limits), &now).unwrap();
        assert!(limit.starts_with("1000, 10;w=2"));
        assert_eq!(reset, "9");
        assert_eq!(lowest(of(&[]), &[]), None);
    }

    #[test]
    fn of_requests_in_flight_no_time_is_told() {
        let in_flight = [Concurrency::new("parallel", 20)];
        let limits = limits();
        assert_eq!(
            policy(&limits[..1], &in_flight),
            r#""rate";q=10;w=2, "parallel";q=20;qu="concurrent-requests""#
        );
        assert_eq!(
            standings(of(&limits[..1]), &[standing(3, 1)], in_flight.iter(), &[7]),
            r#""rate";r=3;t=1, "parallel";r=7"#
        );
        assert_eq!(
            standings(of(&limits), &[], in_flight.iter(), &[0]),
            r#""parallel";r=0"#
        );
        assert_eq!(
            policy([], &in_flight),
            r#""parallel";q=20;qu="concurrent-requests""#
        );
    }

    #[test]
    fn what_costs_more_waits_for_all_of_it() {
        let limits = limits();
        let tenant = TenantId::normalise(b"acme").unwrap();
        let refused = Refused {
            reason: Reason::Limited,
            tenant: Some(&tenant),
            cost: 8,
            limits: of(&limits),
            standings: &[standing(1, SECOND / 5), standing(900, 70_000 * SECOND)],
            by: &[0],
            in_flight: Concurrencies::default(),
            free: &[],
            crowded: &[],
            total: None,
        };
        let refusal = refused.refusal(&ANSWER, 429, 0);
        // 7 more, a fifth of a second each.
        assert_eq!(refusal.retry_after().as_deref(), Some("2"));
        assert_eq!(refusal.pushback().as_deref(), Some("1400"));
        assert_eq!(
            refusal.detail(),
            "This request costs 8, and of the limit rate tenant acme has 1 left; it can pass in 2 s."
        );
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_fmt(number in prop_oneof![any::<u64>(), 0_u64..2_000, Just(u64::MAX)]) {
            prop_assert_eq!(text(number), number.to_string());
        }

        #[test]
        fn jitter_is_upwards_and_bounded(more_in in 1_u64..40_000_000 * SECOND, chance in any::<u64>(), jitter in 0_u64..=100) {
            let limits = limits();
            let refused = Refused {
                reason: Reason::Limited,
                tenant: None,
                cost: 1,
                limits: of(&limits),
                standings: &[standing(0, 1), standing(0, more_in)],
                by: &[1],
                in_flight: Concurrencies::default(),
                free: &[],
                crowded: &[],
                total: None,
            };
            let answer = Answer { jitter, ..ANSWER };
            let refusal = refused.refusal(&answer, 429, chance);
            let seconds: u64 = refusal.retry_after().unwrap().parse().unwrap();
            let milliseconds: u64 = refusal.pushback().unwrap().parse().unwrap();
            prop_assert!(seconds >= more_in.div_ceil(SECOND));
            let most = more_in + more_in * jitter / 100;
            prop_assert!(seconds <= most.div_ceil(SECOND).max(1));
            prop_assert!(milliseconds >= more_in.div_ceil(MILLISECOND).min(i32::MAX as u64));
            prop_assert!(milliseconds <= most.div_ceil(MILLISECOND).max(1));
            let body: serde_json::Value = serde_json::from_str(&refusal.problem()).unwrap();
            prop_assert_eq!(&body["violated-policies"], &serde_json::json!(["daily"]));
        }
    }
}
