//! Rates: the difference between what was counted at two moments.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::counters::{Counters, RequestCounter};
use super::snapshot::{Snapshot, downstream, series, version};

/// The status of a refusal.
const REFUSED: &str = "429";

/// How many seconds the trend goes back.
const TREND: usize = 40;

/// Rates by name.
pub(crate) type Rates = Vec<(String, Option<f64>)>;

/// The labels of a counter's series, and what each of them counted.
type Series<'a> = Vec<(BTreeMap<&'a str, &'a str>, u64)>;

/// What a gateway does, per second. `None` is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) requests: Option<f64>,
    pub(crate) refused: Option<f64>,
    /// The share of answers that are 5xx.
    pub(crate) errors: Option<f64>,
    /// Milliseconds.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// By tier, then by name.
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) tiers: Vec<(String, Flow)>,
    /// Of the requests that were not refused.
    pub(crate) classes: Rates,
    /// Services, and the answers of each of their versions.
    pub(crate) versions: Vec<(String, Rates)>,
    /// Every proxy by pod.
    pub(crate) proxies: Vec<(String, Health)>,
    /// Requests of each of the last seconds, the newest last.
    pub(crate) trend: Vec<f64>,
}

/// A tenant in one tier.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) tier: Option<String>,
    pub(crate) flow: Flow,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) admitted: Option<f64>,
    pub(crate) refused: Option<f64>,
}

/// How a proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nobody has asked yet.
    Unknown,
    Live,
    /// What it says instead.
    Says(String),
    /// Its admin interface does not answer.
    Silent,
}

/// The last snapshots of a gateway.
#[derive(Debug)]
pub(crate) struct Window {
    length: Duration,
    snapshots: VecDeque<(Instant, Snapshot)>,
    trend: VecDeque<f64>,
}

/// The sum of the requests that were counted, and of them those that were refused.
#[derive(Clone, Copy, Default)]
struct Counted {
    all: u64,
    refused: u64,
}

impl Counted {
    fn add(&mut self, all: u64, refused: u64) {
        self.all += all;
        self.refused += refused;
    }
}

impl Window {
    /// Rates are over this long, or as long as something is known.
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length,
            snapshots: VecDeque::new(),
            trend: VecDeque::new(),
        }
    }

    /// Takes what the gateway said, or that it said nothing.
    pub(crate) fn push(&mut self, at: Instant, snapshot: Option<Snapshot>) {
        let Some(snapshot) = snapshot else {
            self.snapshots.clear();
            return;
        };
        if let Some((before, last)) = self.snapshots.back() {
            let restarted = |(name, value): (&String, &u64)| {
                snapshot.counters.get(name).is_some_and(|now| now < value)
            };
            if last.counters.iter().any(restarted) {
                self.snapshots.clear();
            } else {
                let seconds = at.duration_since(*before).as_secs_f64();
                let completed = completed(&snapshot).saturating_sub(completed(last));
                if seconds > 0.0 {
                    self.trend.push_back(completed as f64 / seconds);
                }
                if self.trend.len() > TREND {
                    self.trend.pop_front();
                }
            }
        }
        self.snapshots.push_back((at, snapshot));
        // The oldest one is at least as old as the window is long, so that the rates are over all of it.
        while self
            .snapshots
            .get(1)
            .is_some_and(|(second, _)| at.duration_since(*second) >= self.length)
        {
            self.snapshots.pop_front();
        }
    }

    /// What is known now.
    pub(crate) fn figures(&self, declared: &Counters) -> Figures {
        let trend = Vec::from_iter(self.trend.iter().copied());
        let (Some((from, first)), Some((to, last))) =
            (self.snapshots.front(), self.snapshots.back())
        else {
            return Figures {
                trend,
                ..Figures::default()
            };
        };
        let seconds = to.duration_since(*from).as_secs_f64();
        // Of a single snapshot nothing follows.
        let per_second = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
        // A counter appears when it first counts.
        let since = |name: &String, value: u64| {
            value.saturating_sub(first.counters.get(name).copied().unwrap_or(0))
        };
        let mut metrics: BTreeMap<&str, Series<'_>> = BTreeMap::new();
        for (name, value) in &last.counters {
            if let Some((metric, labels)) = series(name) {
                metrics
                    .entry(metric)
                    .or_default()
                    .push((labels, since(name, *value)));
            }
        }
        let counted = |metric: &String| metrics.get(metric.as_str()).into_iter().flatten();
        let find = |has: fn(&RequestCounter) -> bool| {
            let mut counters = declared.requests.iter();
            counters.find(|counter| has(counter) && metrics.contains_key(counter.name.as_str()))
        };

        let mut tenants: BTreeMap<(Option<&str>, &str), Counted> = BTreeMap::new();
        let mut tiers: BTreeMap<&str, Counted> = BTreeMap::new();
        let mut refused_of_counted = None;
        let by_tenant = find(|counter| counter.tenant.is_some());
        if let Some(RequestCounter {
            name,
            tenant,
            tier,
            status,
            ..
        }) = by_tenant
        {
            let mut refused_in_all = 0;
            for (labels, count) in counted(name) {
                let label = |label: &Option<String>| Some(*labels.get(label.as_deref()?)?);
                let refused = if label(status) == Some(REFUSED) {
                    *count
                } else {
                    0
                };
                let (tier, tenant) = (label(tier), label(tenant).unwrap_or("none"));
                tenants
                    .entry((tier, tenant))
                    .or_default()
                    .add(*count, refused);
                if let Some(tier) = tier {
                    tiers.entry(tier).or_default().add(*count, refused);
                }
                refused_in_all += refused;
            }
            refused_of_counted = status.is_some().then_some(refused_in_all);
        }
        // Without a label for the status nobody can tell one from the other.
        let tells = by_tenant.is_some_and(|counter| counter.status.is_some());
        let flow = |sum: Counted| Flow {
            admitted: per_second(sum.all - sum.refused).filter(|_| tells),
            refused: per_second(sum.refused).filter(|_| tells),
        };

        let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
        if let Some(RequestCounter {
            name,
            class: Some(class),
            status,
            ..
        }) = find(|counter| counter.class.is_some())
        {
            for (labels, count) in counted(name) {
                // Who was refused was not classified any more.
                let refused = status
                    .as_ref()
                    .and_then(|status| labels.get(status.as_str()))
                    == Some(&REFUSED);
                if !refused {
                    let class = labels.get(class.as_str()).copied().unwrap_or("none");
                    *classes.entry(class).or_default() += count;
                }
            }
        }

        let refused = if declared.refused.is_empty() {
            refused_of_counted
        } else {
            Some(
                declared
                    .refused
                    .iter()
                    .flat_map(counted)
                    .map(|(_, count)| count)
                    .sum(),
            )
        };

        let mut versions: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        let mut listeners: BTreeMap<&str, u64> = BTreeMap::new();
        let mut failed = 0;
        for (name, value) in &last.counters {
            if let Some((service, version)) = version(name) {
                *versions
                    .entry(service)
                    .or_default()
                    .entry(version)
                    .or_default() += since(name, *value);
            } else if let Some(listener) = downstream(name, "completed") {
                *listeners.entry(listener).or_default() += since(name, *value);
            } else if downstream(name, "5xx").is_some() {
                failed += since(name, *value);
            }
        }
        let completed: u64 = listeners.values().sum();
        // Percentiles of several listeners make none of both: the busiest one speaks.
        let busiest = listeners
            .iter()
            .max_by_key(|(_, count)| **count)
            .map(|(listener, _)| *listener);
        let percentiles = last
            .percentiles
            .iter()
            .find(|(name, _)| downstream(name, "time") == busiest);
        let [p50, p99] = percentiles
            .filter(|_| completed > 0)
            .map_or([None; 2], |(_, found)| *found);

        Figures {
            requests: per_second(completed),
            refused: refused.and_then(per_second),
            errors: (completed > 0).then(|| failed as f64 / completed as f64),
            p50,
            p99,
            tenants: tenants
                .into_iter()
                .map(|((tier, name), sum)| Tenant {
                    name: name.to_owned(),
                    tier: tier.map(str::to_owned),
                    flow: flow(sum),
                })
                .collect(),
            tiers: tiers
                .into_iter()
                .map(|(tier, sum)| (tier.to_owned(), flow(sum)))
                .collect(),
            classes: classes
                .into_iter()
                .map(|(class, count)| (class.to_owned(), per_second(count)))
                .collect(),
            versions: versions
                .into_iter()
                .map(|(service, versions)| {
                    let versions = versions
                        .into_iter()
                        .map(|(version, count)| (version.to_owned(), per_second(count)));
                    (service.to_owned(), versions.collect())
                })
                .collect(),
            proxies: Vec::new(),
            trend,
        }
    }
}

/// The requests that all listeners answered.
fn completed(snapshot: &Snapshot) -> u64 {
    let listeners = snapshot
        .counters
        .iter()
        .filter(|(name, _)| downstream(name, "completed").is_some());
    listeners.map(|(_, value)| value).sum()
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::ANSWER;
    use super::*;

    fn declared() -> Counters {
        let label = |name: &str| Some(name.to_owned());
        Counters {
            requests: vec![RequestCounter {
                name: "shop_requests_total".to_owned(),
                tenant: label("tenant"),
                tier: label("tier"),
                class: label("user_type"),
                status: label("status"),
            }],
            refused: vec!["shop_refused_total".to_owned()],
        }
    }

    fn answer() -> Snapshot {
        Snapshot::parse(ANSWER.as_bytes()).unwrap()
    }

    fn window(snapshots: impl IntoIterator<Item = (u64, Option<Snapshot>)>) -> Window {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_secs(5));
        for (second, snapshot) in snapshots {
            window.push(start + Duration::from_secs(second), snapshot);
        }
        window
    }

    #[test]
    fn nothing_is_known_before_the_first_answer_and_no_rate_before_the_second() {
        assert_eq!(window([]).figures(&declared()), Figures::default());
        let figures = window([(0, Some(answer()))]).figures(&declared());
        assert_eq!((figures.requests, figures.refused), (None, None));
        assert_eq!(figures.tenants.len(), 4);
        assert!(
            figures
                .tenants
                .iter()
                .all(|tenant| tenant.flow == Flow::default())
        );
    }

    #[test]
    fn what_was_counted_between_two_answers_becomes_rates() {
        let figures =
            window([(0, Some(Snapshot::default())), (2, Some(answer()))]).figures(&declared());
        let flow = |admitted, refused| Flow {
            admitted: Some(admitted),
            refused: Some(refused),
        };
        let tenant = |name: &str, tier: &str, flow| Tenant {
            name: name.to_owned(),
            tier: Some(tier.to_owned()),
            flow,
        };
        let rate = |name: &str, rate| (name.to_owned(), Some(rate));
        let expected = Figures {
            requests: Some(25.5),
            refused: Some(2.0),
            errors: Some(0.0),
            p50: Some(2.044_444_444_444_444_3),
            p99: Some(70.5),
            tenants: vec![
                tenant("initech", "free", flow(5.5, 2.0)),
                tenant("other", "free", flow(0.5, 0.0)),
                tenant("acme", "premium", flow(15.0, 0.0)),
                tenant("globex", "standard", flow(2.5, 0.0)),
            ],
            tiers: vec![
                ("free".to_owned(), flow(6.0, 2.0)),
                ("premium".to_owned(), flow(15.0, 0.0)),
                ("standard".to_owned(), flow(2.5, 0.0)),
            ],
            classes: vec![
                rate("premium", 15.0),
                rate("standard", 6.0),
                rate("vip", 2.5),
            ],
            versions: vec![
                ("cart-service.ecommerce".to_owned(), vec![rate("v1", 0.5)]),
                (
                    "product-service.ecommerce".to_owned(),
                    vec![rate("v1", 19.5), rate("v2", 3.5)],
                ),
            ],
            proxies: Vec::new(),
            trend: vec![25.5],
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn the_window_moves_and_what_is_idle_is_known_to_be() {
        let figures = window((0..8).map(|second| (second, Some(answer())))).figures(&declared());
        assert_eq!((figures.requests, figures.refused), (Some(0.0), Some(0.0)));
        assert_eq!(
            figures.tenants[0].flow,
            Flow {
                admitted: Some(0.0),
                refused: Some(0.0)
            }
        );
        assert_eq!(
            (figures.errors, figures.p50, figures.p99),
            (None, None, None)
        );
        assert_eq!(
            window((0..8).map(|second| (second, Some(answer()))))
                .snapshots
                .len(),
            6
        );
    }

    #[test]
    fn a_proxy_that_restarted_or_was_silent_is_measured_from_there() {
        let restarted = window([
            (0, Some(answer())),
            (1, Some(answer())),
            (2, Some(Snapshot::default())),
            (3, Some(answer())),
        ]);
        // The empty answer has none of the names; the next one has smaller numbers of them.
        let mut smaller = answer();
        smaller.counters.values_mut().for_each(|value| *value = 1);
        let mut again = smaller.clone();
        again.counters.values_mut().for_each(|value| *value = 3);
        assert_eq!(restarted.figures(&declared()).requests, Some(0.0));
        let restarted = window([(0, Some(answer())), (1, Some(smaller)), (2, Some(again))]);
        assert_eq!(restarted.figures(&declared()).requests, Some(2.0));
        let silent = window([(0, Some(answer())), (1, None), (2, Some(answer()))]);
        assert_eq!(silent.figures(&declared()).requests, None);
    }

    #[test]
    fn without_a_label_for_the_status_nobody_knows_who_was_refused() {
        let mut declared = declared();
        declared.requests[0].status = None;
        declared.refused.clear();
        let figures =
            window([(0, Some(Snapshot::default())), (2, Some(answer()))]).figures(&declared);
        assert_eq!(figures.refused, None);
        assert_eq!(figures.tenants[0].flow, Flow::default());
        assert_eq!(figures.classes[3], ("vip".to_owned(), Some(2.5)));
    }
}
