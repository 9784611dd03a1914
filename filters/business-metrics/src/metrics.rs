//! Which metrics a finished request belongs to: from its headers, who it is from, and how it ended.
//!
//! When the request's headers are here, [`Metrics::capture`] keeps what they say: which declared value each label has, which metrics the
//! request may belong to. When it is done, [`Metrics::settle`] asks how it ended, for what a metric that is left needs and nothing
//! else: a source that no metric uses costs no call to the proxy.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use tollgate_common::header::{TENANT_ID, TENANT_TIER, USER_TYPE};
use tollgate_common::{Claims, Refusal, StringMatch, series_name};
use tollgate_host::{Copies, HeaderMap, Host, MetricKind, Names};

use crate::body::{Asked, Body};
use crate::config::{MAX_LABELS, MAX_METRIC_LABELS, MAX_METRICS};
use crate::label::{DECLARED, LATER, Label, NONE, OTHER, PENDING, Source};
use crate::register::Register;
use crate::routes::{Routes, without_query};
use crate::series::{self, SeriesKey};
use crate::value::{Number, Skip, Value};

/// The label of the counter of requests that are skipped.
pub const SKIPPED_LABEL: &str = "reason";

/// Of what is in the shared data. Another layout has other keys.
const LAYOUT: u32 = 1;

/// How many different request headers labels and conditions may look at, beside those that every configuration knows.
pub const MAX_HEADERS: usize = 26;

// Where the values of these headers are found in what a request shows; further ones follow.
const METHOD: usize = 0;
const PATH: usize = 1;
const CONTENT_TYPE: usize = 2;
const TENANT: usize = 3;
const TIER: usize = 4;
const TYPE: usize = 5;
const KNOWN_HEADERS: [&str; 6] = [
    ":method",
    ":path",
    "content-type",
    TENANT_ID,
    TENANT_TIER,
    USER_TYPE,
];

// A key packs the values of a metric's labels, and the metrics of a request are the bits of a number.
const _: () = assert!(MAX_METRIC_LABELS * 16 <= 128 && MAX_METRICS <= 32 && MAX_LABELS <= 32);

/// Which requests a metric is about. What is empty says nothing.
#[derive(Debug, Default)]
pub struct Condition {
    /// One of these methods.
    pub methods: Vec<String>,
    /// One of these routes, by position.
    pub routes: Vec<usize>,
    /// The path, without its query.
    pub path: Option<StringMatch>,
    /// All of these headers, their names in lower case.
    pub headers: Vec<(String, StringMatch)>,
    /// One of these tenants.
    pub tenants: Vec<String>,
    /// One of these tiers.
    pub tiers: Vec<String>,
    /// One of these types of user.
    pub user_types: Vec<String>,
    /// Refused by one of these limits.
    pub limits: Vec<String>,
    /// Refused for one of these reasons.
    pub reasons: Vec<String>,
    /// One of these statuses.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// One of these statuses of a gRPC call.
    pub grpc_statuses: Vec<u16>,
    /// All of these headers of the response, their names in lower case.
    pub response_headers: Vec<(String, StringMatch)>,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: MetricKind,
    /// What it tells, for people.
    pub help: Option<String>,
    /// Its labels, by position.
    pub labels: Vec<usize>,
    /// The requests it is about.
    pub condition: Condition,
    /// What a request adds, or is recorded with; without it 1.
    pub value: Option<Value>,
}

/// Whose word on tenant and type is to be taken.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// The request passed the filters before this one, which have put their findings into its headers.
    Headers,
    /// The request was answered before it got here, so its headers may be what the client wrote. A limit that refused it
    /// has left word of the tenant.
    AnsweredBefore(Option<Refusal<'a>>),
}

/// How a request ended. Each of these may be a call to the proxy, and is asked for only if a metric needs it.
pub trait Outcome {
    /// The status of the response; `None` if there was none.
    fn status(&self) -> Option<u16>;
    /// The status of the call, if it was one of gRPC.
    fn grpc_status(&self) -> Option<u16>;
    /// The response's headers.
    fn response_headers(&self) -> &HeaderMap;
    /// A number that the proxy knows.
    fn number(&self, number: Number) -> Option<u64>;
}

/// What is kept of a request until it is done.
#[derive(Debug)]
pub struct Captured {
    /// The body of the request, as far as it is read.
    pub request_body: Body,
    /// The body of the response, likewise.
    pub response_body: Body,
    labels: [u16; MAX_LABELS],
    /// The values of labels that are [`PENDING`].
    pending: Vec<(usize, Box<[u8]>)>,
    /// The metrics it belongs to if its end suits them, a bit each.
    metrics: u32,
    /// Whether it is a call of gRPC.
    grpc: bool,
    /// Whether it asks for a connection through the proxy.
    tunnel: bool,
    /// What its headers say in numbers, with the metric that each is for.
    numbers: Vec<(usize, Result<u64, Skip>)>,
}

/// The metrics, ready to count.
#[derive(Debug)]
pub struct Metrics {
    labels: Vec<Label>,
    routes: Routes,
    uses_routes: bool,
    /// The labels from claims that metrics have, a bit each.
    claims: u32,
    metrics: Vec<CompiledMetric>,
    /// The names of the headers to look at.
    headers: Names,
    /// How many they are.
    header_count: usize,
    /// For each label from a header the position in `headers`.
    label_headers: Vec<usize>,
    max_series: u64,
    folded_metric: String,
    skipped_metric: String,
    request_body: Option<Asked>,
    response_body: Option<Asked>,
}

#[derive(Debug)]
struct CompiledMetric {
    metric: Metric,
    /// The conditions on headers, by position in `headers`.
    headers: Vec<(usize, StringMatch)>,
    /// Where in `headers` that of its value is.
    value_header: usize,
    /// Its labels, a bit each.
    labels: u32,
}

/// What a request shows of the headers that matter.
struct Shown<'a> {
    headers: [Copies<'a>; KNOWN_HEADERS.len() + MAX_HEADERS],
    limit: Option<&'a str>,
    reason: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn get(&self, position: usize) -> Copies<'a> {
        self.headers
            .get(position)
            .copied()
            .unwrap_or(Copies::Absent)
    }
}

impl Metrics {
    /// Metrics over these labels and routes. Labels beyond [`MAX_LABELS`], metrics beyond [`MAX_METRICS`] and
    /// headers beyond [`MAX_HEADERS`] would never have a value (the configuration refuses them before).
    pub fn new(
        labels: Vec<Label>,
        routes: Routes,
        metrics: Vec<Metric>,
        max_series: u64,
        [folded_metric, skipped_metric]: [String; 2],
    ) -> Self {
        let mut headers: Vec<String> = KNOWN_HEADERS
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
        let mut position = |name: &str| {
            // The one that all know is what a request is about, also of a request whose other headers are not believed.
            let further = headers.iter().enumerate().skip(CONTENT_TYPE + 1);
            match further.into_iter().find(|(_, known)| *known == name) {
                Some((position, _)) => position,
                None => {
                    headers.push(name.to_owned());
                    headers.len() - 1
                }
            }
        };
        let label_headers = labels
            .iter()
            .map(|label| match &label.source {
                Source::Tenant => TENANT,
                Source::Tier => TIER,
                Source::UserType => TYPE,
                Source::Method => METHOD,
                Source::Header(name) => position(name),
                _ => PATH,
            })
            .collect();
        let metrics: Vec<CompiledMetric> = metrics
            .into_iter()
            .map(|mut metric| CompiledMetric {
                headers: std::mem::take(&mut metric.condition.headers)
                    .into_iter()
                    .map(|(name, test)| (position(&name), test))
                    .collect(),
                value_header: match &metric.value {
                    Some(Value::Header(name, _)) => position(name),
                    _ => PATH,
                },
                labels: bits(metric.labels.iter().copied()),
                metric,
            })
            .collect();
        let used = metrics.iter().fold(0, |bits, metric| bits | metric.labels);
        let from = |is: fn(&Source) -> bool| {
            let labels = labels.iter().enumerate();
            let of_source = labels.filter(|(_, label)| is(&label.source));
            used & bits(of_source.map(|(position, _)| position))
        };
        let uses_routes = from(|source| *source == Source::Route) != 0
            || metrics
                .iter()
                .any(|compiled| !compiled.metric.condition.routes.is_empty());
        let claims = from(|source| matches!(source, Source::Claim(_)));
        Self {
            labels,
            routes,
            uses_routes,
            claims,
            metrics,
            header_count: headers.len(),
            headers: Names::new(headers),
            label_headers,
            max_series,
            folded_metric,
            skipped_metric,
            request_body: None,
            response_body: None,
        }
    }

    /// The same metrics, with what their values ask of the bodies of requests and of responses.
    #[must_use]
    pub fn asking(self, request_body: Option<Asked>, response_body: Option<Asked>) -> Self {
        Self {
            request_body,
            response_body,
            ..self
        }
    }

    /// Lets the labels admit values as all workers of the proxy do whose plugin has this name, and says which list of series is theirs.
    pub fn share(&mut self, plugin_name: &str) -> Register {
        let prefix = format!("business-metrics/{LAYOUT}/{plugin_name}/");
        for label in &mut self.labels {
            label.share(&prefix);
        }
        Register::new(
            format!("{prefix}series/").into_bytes(),
            series::IN_SEGMENT,
            self.max_series,
        )
    }

    /// How many headers labels and conditions look at, beside those that every configuration knows.
    pub fn further_headers(&self) -> usize {
        self.header_count - KNOWN_HEADERS.len()
    }

    /// The counter of requests whose series was one too many.
    pub fn folded_metric(&self) -> &str {
        &self.folded_metric
    }

    /// The series in which a request is counted that is skipped for this reason.
    pub fn skipped_series(&self, skip: Skip) -> String {
        series_name(&self.skipped_metric, &[(SKIPPED_LABEL, skip.word())])
    }

    /// Why requests may be skipped.
    pub fn skips(&self) -> BTreeSet<Skip> {
        let values = self
            .metrics
            .iter()
            .filter_map(|compiled| compiled.metric.value.as_ref());
        values.flat_map(Value::skips).copied().collect()
    }

    /// Whether a label is a claim.
    pub fn reads_claims(&self) -> bool {
        self.claims != 0
    }

    /// What a request's headers say about it, and the claims of its token: `metadata` is asked for them only if a metric that it may belong to has
    /// such a label.
    pub fn capture<'m>(
        &self,
        headers: &HeaderMap,
        identity: Identity<'_>,
        metadata: impl FnOnce() -> Option<Cow<'m, [u8]>>,
    ) -> Captured {
        let shown = self.show(headers, identity);
        let path = match shown.get(PATH) {
            Copies::One(path) => Some(path),
            _ => None,
        };
        let route = if self.uses_routes {
            path.and_then(|path| self.routes.find(path))
        } else {
            None
        };
        let mut captured = Captured {
            labels: [NONE; MAX_LABELS],
            pending: Vec::new(),
            metrics: 0,
            grpc: is_grpc(shown.get(CONTENT_TYPE)),
            tunnel: matches!(shown.get(METHOD), Copies::One(b"CONNECT")),
            numbers: Vec::new(),
            request_body: Body::default(),
            response_body: Body::default(),
        };
        let mut labels = 0;
        for (position, metric) in self.metrics.iter().enumerate().take(MAX_METRICS) {
            if metric.suits_request(&shown, path, route) {
                captured.metrics |= 1 << position;
                labels |= metric.labels;
                if let Some(Value::Header(_, decimal)) = metric.metric.value {
                    let value = decimal.of_header(shown.get(metric.value_header));
                    captured.numbers.push((position, value));
                }
            }
        }
        if let (Some(asked), Identity::Headers) = (&self.request_body, identity)
            && self.any(captured.metrics, |value| {
                matches!(value, Value::RequestBody(..))
            })
        {
            captured.request_body = Body::of_request(headers, captured.tunnel, asked);
        }
        let claims = (labels & self.claims != 0)
            .then(metadata)
            .flatten()
            .and_then(Claims::read);
        for (position, ((slot, label), header)) in captured
            .labels
            .iter_mut()
            .zip(&self.labels)
            .zip(&self.label_headers)
            .enumerate()
            .filter(|(position, _)| labels & (1 << position) != 0)
        {
            *slot = match &label.source {
                source if source.is_of_the_response() => LATER,
                Source::Route => match (route, path) {
                    (Some(route), _) => declared(route),
                    (None, Some(_)) => OTHER,
                    (None, None) => NONE,
                },
                Source::Constant => DECLARED,
                Source::Limit => word(label, shown.limit),
                Source::Reason => word(label, shown.reason),
                Source::Claim(path) => {
                    let (found, text) = label.position_of_claim(claims.as_ref(), path);
                    captured.pending.extend(text.map(|text| (position, text)));
                    found
                }
                _ => label.position_of(shown.get(*header)),
            };
            if *slot == PENDING {
                let text = match (&label.source, shown.get(*header)) {
                    (Source::Limit, _) => shown.limit.map(str::as_bytes),
                    (Source::Claim(_), _) => None,
                    (_, Copies::One(value)) => Some(value),
                    _ => None,
                };
                let text = text.map(|text| (position, text.into()));
                captured.pending.extend(text);
            }
        }
        captured
    }

    /// Whether one of these metrics has such a value.
    fn any(&self, metrics: u32, is: fn(&Value) -> bool) -> bool {
        let metrics = self
            .metrics
            .iter()
            .enumerate()
            .filter(|(position, _)| metrics & (1 << position) != 0);
        let mut values = metrics.filter_map(|(_, compiled)| compiled.metric.value.as_ref());
        values.any(is)
    }

    /// Whether a number of the request is in the body of its response, so that [`Metrics::respond`] is to see the headers of that.
    pub fn asks_response(&self, captured: &Captured) -> bool {
        self.response_body.is_some()
            && self.any(captured.metrics, |value| {
                matches!(value, Value::ResponseBody(..))
            })
    }

    /// The response has these headers: its body is read if it may be, for a metric that is about such a response.
    pub fn respond(&self, captured: &mut Captured, headers: &HeaderMap) {
        let Some(asked) = &self.response_body else {
            return;
        };
        let status = match headers.copies(":status") {
            Copies::One(status) => std::str::from_utf8(status)
                .ok()
                .and_then(|status| status.parse().ok()),
            _ => None,
        };
        let is_about = |(position, compiled): (usize, &CompiledMetric)| {
            captured.metrics & (1 << position) != 0
                && matches!(compiled.metric.value, Some(Value::ResponseBody(..)))
                && compiled.suits_response(|| status, || headers)
        };
        let metrics = self.metrics.iter().enumerate().take(MAX_METRICS);
        if metrics.into_iter().any(is_about) {
            captured.response_body = Body::of_response(headers, status, captured.tunnel, asked);
        }
    }

    /// One pass over the headers, however many of them matter.
    fn show<'a>(&self, headers: &'a HeaderMap, identity: Identity<'a>) -> Shown<'a> {
        let mut shown = Shown {
            headers: [Copies::Absent; KNOWN_HEADERS.len() + MAX_HEADERS],
            limit: None,
            reason: None,
        };
        let believed = match identity {
            Identity::Headers => self.header_count,
            // Only what a request is about is taken from its client: the method, the path, whether it is gRPC.
            Identity::AnsweredBefore(_) => TENANT,
        };
        self.headers.find(headers, |position, value| {
            if let Some(slot) = shown.headers.get_mut(position)
                && position < believed
            {
                *slot = match slot {
                    Copies::Absent => Copies::One(value),
                    Copies::One(_) | Copies::Several => Copies::Several,
                };
            }
        });
        if let Identity::AnsweredBefore(Some(refusal)) = identity {
            for (position, word) in [(TENANT, refusal.tenant), (TIER, refusal.tier)] {
                if let (Some(slot), Some(word)) = (shown.headers.get_mut(position), word) {
                    *slot = Copies::One(word.as_bytes());
                }
            }
            (shown.limit, shown.reason) = (refusal.limit, Some(refusal.reason));
        }
        shown
    }

    /// The metrics that a request belongs to, now that it is done, and what it counts in each; the values of their labels are complete then, but for
    /// those that have yet to be admitted. A metric whose number the proxy does not know is left out.
    pub fn settle(&self, captured: &mut Captured, outcome: &dyn Outcome) -> Settled {
        let mut settled = Settled::default();
        for (position, metric) in self.metrics.iter().enumerate().take(MAX_METRICS) {
            if captured.metrics & (1 << position) == 0
                || !metric.suits_outcome(captured.grpc, outcome)
            {
                continue;
            }
            let value = match &metric.metric.value {
                None => Ok(1),
                Some(Value::Known(number)) => match outcome.number(*number) {
                    Some(value) => Ok(value),
                    None => continue,
                },
                Some(Value::Header(..)) => {
                    let number = captured.numbers.iter().find(|(of, _)| *of == position);
                    number.map_or(Err(Skip::Missing), |(_, value)| *value)
                }
                Some(Value::ResponseHeader(name, decimal)) => {
                    decimal.of_header(outcome.response_headers().copies(name))
                }
                Some(Value::RequestBody(pointer, decimal)) => {
                    captured.request_body.number(*pointer, *decimal)
                }
                Some(Value::ResponseBody(pointer, decimal)) => {
                    captured.response_body.number(*pointer, *decimal)
                }
            };
            let value = match value {
                Ok(value) => value,
                Err(skip) => {
                    settled.skipped.push(skip);
                    continue;
                }
            };
            for label in &metric.metric.labels {
                self.complete(*label, captured, outcome);
            }
            settled.counts.push(Count {
                metric: position,
                kind: metric.metric.kind,
                value,
            });
        }
        settled
    }

    fn complete(&self, position: usize, captured: &mut Captured, outcome: &dyn Outcome) {
        let (Some(label), Some(slot)) =
            (self.labels.get(position), captured.labels.get_mut(position))
        else {
            return;
        };
        if *slot != LATER {
            return;
        }
        *slot = match &label.source {
            Source::Status => status_position(outcome.status(), 1),
            Source::StatusClass => status_position(outcome.status(), 100),
            Source::GrpcStatus if captured.grpc => match outcome.grpc_status() {
                None => NONE,
                Some(status @ 0..=16) => DECLARED + status,
                Some(_) => OTHER,
            },
            Source::ResponseHeader(name) => {
                let value = outcome.response_headers().copies(name);
                let found = label.position_of(value);
                if let (PENDING, Copies::One(value)) = (found, value) {
                    captured.pending.push((position, value.into()));
                }
                found
            }
            _ => NONE,
        };
    }

    /// The series of a metric that a request belongs to. Values that come first are admitted now, because now they count.
    pub fn series(&self, metric: usize, captured: &mut Captured, host: &mut dyn Host) -> SeriesKey {
        let labels = self.labels_of(metric);
        for position in labels {
            let Captured {
                labels, pending, ..
            } = &mut *captured;
            if let (Some(slot @ &mut PENDING), Some(label)) =
                (labels.get_mut(*position), self.labels.get(*position))
            {
                let text = pending.iter().find(|(of, _)| of == position);
                *slot = text.map_or(OTHER, |(_, text)| label.admit(text, host));
            }
        }
        SeriesKey {
            metric,
            values: pack(
                labels
                    .iter()
                    .map(|label| captured.labels.get(*label).copied().unwrap_or(NONE)),
            ),
        }
    }

    /// The series of the same metric where all labels are `other`, but for those that are the same for all requests.
    pub fn folded(&self, key: SeriesKey) -> SeriesKey {
        let constant = |label: &usize| {
            let label = self.labels.get(*label);
            label.is_some_and(|label| label.source == Source::Constant)
        };
        let labels = self.labels_of(key.metric).iter();
        let values = labels.map(|label| if constant(label) { DECLARED } else { OTHER });
        SeriesKey {
            metric: key.metric,
            values: pack(values),
        }
    }

    fn labels_of(&self, metric: usize) -> &[usize] {
        self.metrics
            .get(metric)
            .map_or(&[], |compiled| &compiled.metric.labels)
    }

    /// The name that a series is defined under.
    pub fn name(&self, key: SeriesKey) -> String {
        let Some(CompiledMetric { metric, .. }) = self.metrics.get(key.metric) else {
            return String::new();
        };
        let shifts = (0..metric.labels.len()).rev().map(|place| 16 * place);
        let labels: Vec<(&str, String)> = metric
            .labels
            .iter()
            .zip(shifts)
            .filter_map(|(label, shift)| {
                let label = self.labels.get(*label)?;
                let text = label.with_text((key.values >> shift) as u16, str::to_owned);
                Some((label.name.as_str(), text))
            })
            .collect();
        series_name(&metric.name, &labels)
    }
}

/// What a request counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// In which metrics, and how much.
    pub counts: Vec<Count>,
    /// Why it is not counted in others that are about it.
    pub skipped: Vec<Skip>,
}

/// What a request counts in a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The metric's position.
    pub metric: usize,
    /// Its kind.
    pub kind: MetricKind,
    /// What is added to a counter, set in a gauge, recorded in a histogram.
    pub value: u64,
}

impl CompiledMetric {
    fn suits_request(&self, shown: &Shown<'_>, path: Option<&[u8]>, route: Option<usize>) -> bool {
        let condition = &self.metric.condition;
        let one_is = |value: Copies<'_>, test: &dyn Fn(&[u8]) -> bool| matches!(value, Copies::One(value) if test(value));
        let among = |value: Copies<'_>, listed: &[String]| {
            let is_listed = |value: &[u8]| listed.iter().any(|one| one.as_bytes() == value);
            listed.is_empty() || one_is(value, &is_listed)
        };
        let word_among = |word: Option<&str>, listed: &[String]| {
            listed.is_empty() || word.is_some_and(|word| listed.iter().any(|one| one == word))
        };
        among(shown.get(METHOD), &condition.methods)
            && (condition.routes.is_empty()
                || route.is_some_and(|route| condition.routes.contains(&route)))
            && condition
                .path
                .as_ref()
                .is_none_or(|test| path.is_some_and(|path| test.matches(without_query(path))))
            && among(shown.get(TENANT), &condition.tenants)
            && among(shown.get(TIER), &condition.tiers)
            && among(shown.get(TYPE), &condition.user_types)
            && word_among(shown.limit, &condition.limits)
            && word_among(shown.reason, &condition.reasons)
            && self
                .headers
                .iter()
                .all(|(header, test)| one_is(shown.get(*header), &|value| test.matches(value)))
    }

    fn suits_outcome(&self, grpc: bool, outcome: &dyn Outcome) -> bool {
        let statuses = &self.metric.condition.grpc_statuses;
        let is_listed = |status| statuses.contains(&status);
        self.suits_response(|| outcome.status(), || outcome.response_headers())
            && (statuses.is_empty() || grpc && outcome.grpc_status().is_some_and(is_listed))
    }

    /// What is known as soon as there is a response. Neither is asked for without need.
    fn suits_response<'h>(
        &self,
        status: impl Fn() -> Option<u16>,
        headers: impl Fn() -> &'h HeaderMap,
    ) -> bool {
        let Condition {
            statuses,
            response_headers,
            ..
        } = &self.metric.condition;
        let is_listed = |status| statuses.iter().any(|range| range.contains(&status));
        (statuses.is_empty() || status().is_some_and(is_listed))
            && response_headers.iter().all(
                |(name, test)| matches!(headers().copies(name), Copies::One(value) if test.matches(value)),
            )
    }
}

/// Whether a request with this content type is a call of gRPC, as Envoy sees it.
fn is_grpc(content_type: Copies<'_>) -> bool {
    let Copies::One(content_type) = content_type else {
        return false;
    };
    let rest = content_type.strip_prefix(b"application/grpc");
    matches!(rest, Some([] | [b'+', ..]))
}

/// The position of a word that the limiter has left.
fn word(label: &Label, word: Option<&str>) -> u16 {
    word.map_or(NONE, |word| label.position(word.as_bytes()))
}

/// A bit for each of these positions.
fn bits(positions: impl Iterator<Item = usize>) -> u32 {
    positions
        .filter(|position| *position < 32)
        .fold(0, |bits, position| bits | 1 << position)
}

/// The position of the declared value number `i`.
fn declared(i: usize) -> u16 {
    u16::try_from(i)
        .ok()
        .and_then(|i| i.checked_add(DECLARED))
        .unwrap_or(OTHER)
}

/// The position of a status among 100 to 599 in steps of 1, or of its class in steps of 100.
fn status_position(status: Option<u16>, step: u16) -> u16 {
    match status {
        None => NONE,
        Some(status @ 100..=599) => DECLARED + (status - 100) / step,
        Some(_) => OTHER,
    }
}

fn pack(values: impl Iterator<Item = u16>) -> u128 {
    values.fold(0, |packed, value| (packed << 16) | u128::from(value))
}
