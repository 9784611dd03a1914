//! Which series a finished request belongs to: from its headers, who it is from and its status, without a host call.
//!
//! A label's value is a small number, the position of a declared value, so that what a request leaves behind until it is done
//! is a few bytes of fixed size, and a series is found without putting its name together.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use tollgate_common::header::{TENANT_ID, TENANT_TIER, USER_TYPE};
use tollgate_common::{Refusal, StringMatch, series_name};
use tollgate_host::{Copies, HeaderMap};

use crate::config::{MAX_LABELS, MAX_METRIC_LABELS, MAX_METRICS};
use crate::routes::{Routes, without_query};

/// How many different headers labels and conditions may look at, beside those that every configuration knows.
pub const MAX_HEADERS: usize = 27;

/// A label's value where a request has none.
const NONE: u16 = 0;
/// A label's value where a request has one that is not declared.
const OTHER: u16 = 1;
/// The first declared value.
const DECLARED: u16 = 2;

// Where the values of these headers are found in what a request shows; further ones follow.
const METHOD: usize = 0;
const PATH: usize = 1;
const TENANT: usize = 2;
const TIER: usize = 3;
const TYPE: usize = 4;
const KNOWN_HEADERS: [&str; 5] = [":method", ":path", TENANT_ID, TENANT_TIER, USER_TYPE];

// A key packs the values of a metric's labels, and the metrics of a request are the bits of a number.
const _: () = assert!(MAX_METRIC_LABELS * 16 <= 128 && MAX_METRICS <= 32);

/// Where a label's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The tenant's id.
    Tenant,
    /// The tenant's tier.
    Tier,
    /// The user's type.
    UserType,
    /// The route; its values are the templates, in their order.
    Route,
    /// The status; its values are 100 to 599.
    Status,
    /// The status' class; its values are the classes 1 to 5.
    StatusClass,
    /// The method.
    Method,
    /// A header; its name in lower case.
    Header(String),
}

/// A label and its values.
#[derive(Debug)]
pub struct Label {
    name: String,
    source: Source,
    values: Vec<String>,
    positions: HashMap<Box<[u8]>, u16>,
}

impl Label {
    /// A label with these values, beside `none` and `other`. Those that don't fit into 16 bits are `other`.
    pub fn new(name: impl Into<String>, source: Source, values: Vec<String>) -> Self {
        let positions = (DECLARED..=u16::MAX)
            .zip(&values)
            .map(|(i, value)| (value.as_bytes().into(), i))
            .collect();
        Self {
            name: name.into(),
            source,
            values,
            positions,
        }
    }

    fn position(&self, value: &[u8]) -> u16 {
        self.positions.get(value).copied().unwrap_or(OTHER)
    }

    fn position_of(&self, value: Copies<'_>) -> u16 {
        match value {
            Copies::Absent | Copies::One(b"") => NONE,
            Copies::One(value) => self.position(value),
            Copies::Several => OTHER,
        }
    }

    fn text(&self, position: u16) -> &str {
        match position {
            NONE => "none",
            _ => {
                let declared = position
                    .checked_sub(DECLARED)
                    .and_then(|i| self.values.get(usize::from(i)));
                declared.map_or("other", String::as_str)
            }
        }
    }
}

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
    /// One of these statuses.
    pub statuses: Vec<RangeInclusive<u16>>,
}

/// A counter.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its labels, by position.
    pub labels: Vec<usize>,
    /// The requests it counts.
    pub condition: Condition,
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

/// What is kept of a request until it is done.
#[derive(Clone, Copy, Debug)]
pub struct Captured {
    labels: [u16; MAX_LABELS],
    /// The metrics it belongs to if its status suits them, a bit each.
    metrics: u32,
}

/// A series: a metric and a value for each of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    metric: usize,
    /// 16 bits for each of the metric's labels, the last one lowest.
    values: u128,
}

/// The metrics, ready to count.
#[derive(Debug)]
pub struct Metrics {
    labels: Vec<Label>,
    routes: Routes,
    uses_routes: bool,
    metrics: Vec<CompiledMetric>,
    /// The names of the headers to look at.
    headers: Vec<String>,
    /// For each label from a header the position in `headers`.
    label_headers: Vec<usize>,
    max_series: usize,
    folded_metric: String,
}

#[derive(Debug)]
struct CompiledMetric {
    metric: Metric,
    /// The conditions on headers, by position in `headers`.
    headers: Vec<(usize, StringMatch)>,
}

/// What a request shows of the headers that matter.
struct Shown<'a>([Copies<'a>; KNOWN_HEADERS.len() + MAX_HEADERS]);

impl<'a> Shown<'a> {
    fn get(&self, position: usize) -> Copies<'a> {
        self.0.get(position).copied().unwrap_or(Copies::Absent)
    }
}

impl Metrics {
    /// Metrics over these labels and routes. Labels beyond [`MAX_LABELS`], metrics beyond [`MAX_METRICS`] and
    /// headers beyond [`MAX_HEADERS`] would never have a value (the configuration refuses them before).
    pub fn new(
        labels: Vec<Label>,
        routes: Routes,
        metrics: Vec<Metric>,
        max_series: usize,
        folded_metric: String,
    ) -> Self {
        let mut headers: Vec<String> = KNOWN_HEADERS
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
        let mut position = |name: &str| {
            headers
                .iter()
                .position(|known| known == name)
                .unwrap_or_else(|| {
                    headers.push(name.to_owned());
                    headers.len() - 1
                })
        };
        let label_headers = labels
            .iter()
            .map(|label| match &label.source {
                Source::Tenant => TENANT,
                Source::Tier => TIER,
                Source::UserType => TYPE,
                Source::Method => METHOD,
                Source::Route | Source::Status | Source::StatusClass => PATH,
                Source::Header(name) => position(name),
            })
            .collect();
        let metrics: Vec<CompiledMetric> = metrics
            .into_iter()
            .map(|mut metric| CompiledMetric {
                headers: std::mem::take(&mut metric.condition.headers)
                    .into_iter()
                    .map(|(name, test)| (position(&name), test))
                    .collect(),
                metric,
            })
            .collect();
        let uses_routes = labels.iter().any(|label| label.source == Source::Route)
            || metrics
                .iter()
                .any(|compiled| !compiled.metric.condition.routes.is_empty());
        Self {
            labels,
            routes,
            uses_routes,
            metrics,
            headers,
            label_headers,
            max_series,
            folded_metric,
        }
    }

    /// How many headers labels and conditions look at, beside those that every configuration knows.
    pub fn further_headers(&self) -> usize {
        self.headers.len() - KNOWN_HEADERS.len()
    }

    /// How many series one VM may define.
    pub fn max_series(&self) -> usize {
        self.max_series
    }

    /// The counter of requests whose series was one too many.
    pub fn folded_metric(&self) -> &str {
        &self.folded_metric
    }

    /// What a request's headers say about it.
    pub fn capture(&self, headers: &HeaderMap, identity: Identity<'_>) -> Captured {
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
            metrics: 0,
        };
        for ((slot, label), header) in captured
            .labels
            .iter_mut()
            .zip(&self.labels)
            .zip(&self.label_headers)
        {
            *slot = match (&label.source, route, path) {
                (Source::Status | Source::StatusClass, ..) | (Source::Route, None, None) => NONE,
                (Source::Route, Some(route), _) => declared(route),
                (Source::Route, None, Some(_)) => OTHER,
                _ => label.position_of(shown.get(*header)),
            };
        }
        for (position, metric) in self.metrics.iter().enumerate().take(MAX_METRICS) {
            if metric.suits_request(&shown, path, route) {
                captured.metrics |= 1 << position;
            }
        }
        captured
    }

    /// One pass over the headers, however many of them matter.
    fn show<'a>(&self, headers: &'a HeaderMap, identity: Identity<'a>) -> Shown<'a> {
        let mut shown = Shown([Copies::Absent; KNOWN_HEADERS.len() + MAX_HEADERS]);
        let believed = match identity {
            Identity::Headers => self.headers.len(),
            // Only what a request is about is taken from its client: the method and the path.
            Identity::AnsweredBefore(_) => TENANT,
        };
        for (name, value) in headers.iter() {
            let slots = self.headers.iter().zip(shown.0.iter_mut()).take(believed);
            if let Some((_, slot)) = slots
                .into_iter()
                .find(|(wanted, _)| wanted.as_bytes() == name)
            {
                *slot = match slot {
                    Copies::Absent => Copies::One(value),
                    Copies::One(_) | Copies::Several => Copies::Several,
                };
            }
        }
        if let Identity::AnsweredBefore(Some(refusal)) = identity {
            for (position, word) in [(TENANT, refusal.tenant), (TIER, refusal.tier)] {
                if let (Some(slot), Some(word)) = (shown.0.get_mut(position), word) {
                    *slot = Copies::One(word.as_bytes());
                }
            }
        }
        shown
    }

    /// The series that a request belongs to, now that its status is known (`None`: there was no response).
    pub fn series(
        &self,
        mut captured: Captured,
        status: Option<u16>,
    ) -> impl Iterator<Item = SeriesKey> {
        for (slot, label) in captured.labels.iter_mut().zip(&self.labels) {
            match label.source {
                Source::Status => *slot = status_position(status, 1),
                Source::StatusClass => *slot = status_position(status, 100),
                _ => {}
            }
        }
        self.metrics
            .iter()
            .enumerate()
            .take(MAX_METRICS)
            .filter_map(move |(position, metric)| {
                let suits = captured.metrics & (1 << position) != 0 && metric.suits_status(status);
                suits.then(|| SeriesKey {
                    metric: position,
                    values: pack(
                        metric
                            .metric
                            .labels
                            .iter()
                            .map(|label| captured.labels.get(*label).copied().unwrap_or(NONE)),
                    ),
                })
            })
    }

    /// The series of the same metric where all labels are `other`.
    pub fn folded(&self, key: SeriesKey) -> SeriesKey {
        let labels = self
            .metrics
            .get(key.metric)
            .map_or(0, |metric| metric.metric.labels.len());
        SeriesKey {
            metric: key.metric,
            values: pack(std::iter::repeat_n(OTHER, labels)),
        }
    }

    /// The name that a series is defined under.
    pub fn name(&self, key: SeriesKey) -> String {
        let Some(CompiledMetric { metric, .. }) = self.metrics.get(key.metric) else {
            return String::new();
        };
        let shifts = (0..metric.labels.len()).rev().map(|place| 16 * place);
        let labels: Vec<(&str, &str)> = metric
            .labels
            .iter()
            .zip(shifts)
            .filter_map(|(label, shift)| {
                let label = self.labels.get(*label)?;
                Some((
                    label.name.as_str(),
                    label.text((key.values >> shift) as u16),
                ))
            })
            .collect();
        series_name(&metric.name, &labels)
    }
}

impl CompiledMetric {
    fn suits_request(&self, shown: &Shown<'_>, path: Option<&[u8]>, route: Option<usize>) -> bool {
        let Condition {
            methods,
            routes,
            path: path_test,
            ..
        } = &self.metric.condition;
        let one_is = |value: Copies<'_>, test: &dyn Fn(&[u8]) -> bool| matches!(value, Copies::One(value) if test(value));
        (methods.is_empty()
            || one_is(shown.get(METHOD), &|value| {
                methods.iter().any(|method| method.as_bytes() == value)
            }))
            && (routes.is_empty() || route.is_some_and(|route| routes.contains(&route)))
            && path_test
                .as_ref()
                .is_none_or(|test| path.is_some_and(|path| test.matches(without_query(path))))
            && self
                .headers
                .iter()
                .all(|(header, test)| one_is(shown.get(*header), &|value| test.matches(value)))
    }

    fn suits_status(&self, status: Option<u16>) -> bool {
        let statuses = &self.metric.condition.statuses;
        statuses.is_empty()
            || status.is_some_and(|status| statuses.iter().any(|range| range.contains(&status)))
    }
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

/// The series that are defined, and how many more there may be. `Id` is what the proxy knows a series by.
#[derive(Debug)]
pub struct Series<Id> {
    defined: HashMap<SeriesKey, Id>,
    /// How many more may be defined, those where all labels are `other` apart.
    left: usize,
}

/// Where a request of a series is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<Id> {
    /// In a series that is defined.
    Defined(Id),
    /// In a series that has yet to be defined, and may be.
    Definable,
    /// There are as many series as there may be: where all labels are `other`.
    Folded,
}

impl<Id: Copy> Series<Id> {
    /// No series yet.
    pub fn new(max_series: usize) -> Self {
        Self {
            defined: HashMap::new(),
            left: max_series,
        }
    }

    /// Where to count a request of this series, whose metric's all-`other` series is `folded`. That one is always affordable.
    pub fn place(&self, key: SeriesKey, folded: SeriesKey) -> Place<Id> {
        match self.defined.get(&key) {
            Some(id) => Place::Defined(*id),
            None if key == folded || self.left > 0 => Place::Definable,
            None => Place::Folded,
        }
    }

    /// Remembers a series that was defined.
    pub fn define(&mut self, key: SeriesKey, folded: SeriesKey, id: Id) {
        if self.defined.insert(key, id).is_none() && key != folded {
            self.left = self.left.saturating_sub(1);
        }
    }
}
