//! What is counted.
//!
//! A series is named once and then found by a number: the names are long, and put together from parts.

use std::cell::RefCell;

use tollgate_common::series_name;
use tollgate_host::{Host, HostError, MetricId, MetricKind};

use crate::answer::Reason;
use crate::config::MetricNames;
use crate::ledger::Effects;
use crate::rules::Rules;

/// The metrics of one configuration.
#[derive(Debug)]
pub struct Meters {
    names: MetricNames,
    tracked: Option<MetricId>,
    evictions: Option<MetricId>,
    contention: Option<MetricId>,
    /// The series that this configuration has counted in, by [`Whose::key`], in order.
    known: RefCell<Vec<(u64, MetricId)>>,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// A listed tenant's number.
    pub listed: Option<u32>,
    /// The tenant's id, if it has series of its own: `other` for those that have not, `none` for requests of nobody.
    pub tenant: &'a str,
    /// The tier's name, or `none`.
    pub tier: &'a str,
    /// The plan, as an index.
    pub plan: usize,
}

/// The index of the total, after those of all limits.
pub const TOTAL: usize = 0x3f;

/// What refused a request.
#[derive(Clone, Copy, Debug)]
pub struct Why<'a> {
    /// The reason.
    pub reason: Reason,
    /// The limit, or none.
    pub limit: Option<&'a str>,
    /// The limit's index.
    pub index: usize,
    /// What routes did to the limits that it met.
    pub rules: Rules,
}

/// Why a request was not settled by what its response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It says nothing.
    Absent,
    /// What it says is no number, or cannot be read.
    Unreadable,
    /// It says more than the limit's `max`.
    OverMax,
    /// It did not come to its end.
    Ended,
    /// It came to a bad end after it had begun, or its time was up.
    Failed,
    /// It is whole, and has no body that could say it.
    NoBody,
    /// The record that was charged has gone and there is no room for it: what is more than the estimate was not charged.
    Dropped,
    /// The proxy's shared data does not work, or other workers were always faster: what it says was not charged.
    Unavailable,
}

impl Trouble {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Unreadable => "unreadable",
            Self::OverMax => "over_max",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::NoBody => "no_body",
            Self::Dropped => "dropped",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Which metric a series is of.
const REFUSED: u64 = 0;
const SHADOWED: u64 = 1;
/// Beside all keys of these.
const UNSETTLED: u64 = 1 << (Rules::BITS + 10);
/// Beside [`UNSETTLED`], where of refusals it is [`SHADOWED`].
const SETTLED: u64 = 1 << 3;

/// How many bits there are for what may become of a request: a place, two kinds of refusal, at most eight reasons, and [`UNSETTLED`].
const WHAT: u32 = Rules::BITS + 11;

// Beside a tenant's number and two bits more.
const _: () = assert!(WHAT + 34 <= u64::BITS);

/// A number for a limit of a plan, or of routes: there are at most 32 limits and the total.
fn place(rules: Rules, index: usize) -> u64 {
    rules.number() << 6 | index as u64 & 0x3f
}

impl Meters {
    /// Metrics of these names. Those without labels are defined now, so that they are there to be watched while they are still 0.
    pub fn new(names: MetricNames, host: &mut dyn Host) -> Self {
        let mut define = |kind, name: &Option<String>| {
            let name = name.as_ref()?;
            let metric = host.metric(kind, name);
            if let Err(error) = metric {
                log::warn!("{name} cannot be defined: {error:?}");
            }
            metric.ok()
        };
        Self {
            tracked: define(MetricKind::Gauge, &names.tracked),
            evictions: define(MetricKind::Counter, &names.evictions),
            contention: define(MetricKind::Counter, &names.contention),
            names,
            known: RefCell::default(),
        }
    }

    /// A request passes.
    pub fn admitted(&self, whose: Whose<'_>, host: &mut dyn Host) {
        let Some(metric) = &self.names.admitted else {
            return;
        };
        let labels = [("tenant", whose.tenant), ("tier", whose.tier)];
        self.count(whose.key(0), metric, &labels, 1, host);
    }

    /// A request is refused.
    pub fn refused(&self, whose: Whose<'_>, why: Why<'_>, host: &mut dyn Host) {
        if let Some(metric) = &self.names.refused {
            self.count_refusal(metric, REFUSED, whose, why, host);
        }
    }

    /// A request passes that a limit in shadow would have refused.
    pub fn shadowed(&self, whose: Whose<'_>, why: Why<'_>, host: &mut dyn Host) {
        if let Some(metric) = &self.names.shadowed {
            self.count_refusal(metric, SHADOWED, whose, why, host);
        }
    }

    /// A request is not settled in a limit of this index and these rules by what its response says.
    pub fn unsettled(
        &self,
        whose: Whose<'_>,
        (limit, index, rules): (&str, usize, Rules),
        trouble: Trouble,
        host: &mut dyn Host,
    ) {
        let Some(metric) = &self.names.unsettled else {
            return;
        };
        let labels = [
            ("tenant", whose.tenant),
            ("tier", whose.tier),
            ("limit", limit),
            ("reason", trouble.word()),
        ];
        let place = place(rules, index) << 1 << 3;
        let key = UNSETTLED | place | trouble as u64;
        self.count(whose.key(key), metric, &labels, 1, host);
    }

    /// A request counts for so many units in a limit of this index and these rules, now that its response is known.
    pub fn settled(
        &self,
        whose: Whose<'_>,
        (limit, index, rules): (&str, usize, Rules),
        units: u64,
        host: &mut dyn Host,
    ) {
        let Some(metric) = &self.names.settled else {
            return;
        };
        let labels = [
            ("tenant", whose.tenant),
            ("tier", whose.tier),
            ("limit", limit),
        ];
        let place = place(rules, index) << 1 << 3;
        let key = UNSETTLED | place | SETTLED;
        self.count(whose.key(key), metric, &labels, units, host);
    }

    fn count_refusal(
        &self,
        metric: &str,
        which: u64,
        whose: Whose<'_>,
        why: Why<'_>,
        host: &mut dyn Host,
    ) {
        let labels = [
            ("tenant", whose.tenant),
            ("tier", whose.tier),
            ("limit", why.limit.unwrap_or("none")),
            ("reason", why.reason.word()),
        ];
        let place = place(why.rules, why.index);
        let key = (place << 1 | which) << 3 | (why.reason as u64 + 1);
        self.count(whose.key(key), metric, &labels, 1, host);
    }

    /// What charging a request did beside deciding about it.
    pub fn effects(&self, effects: Effects, host: &mut dyn Host) {
        let Effects {
            contended,
            shared_record,
            new_record,
            gone_records,
        } = effects;
        // A record that tenants share is no tenant's, and nobody's place.
        let (new, gone) = if shared_record {
            (0, 0)
        } else {
            (i64::from(new_record), i64::from(gone_records))
        };
        for (metric, by) in [
            (self.tracked, new - gone),
            (self.evictions, gone),
            (self.contention, contended.into()),
        ] {
            if let Some(metric) = metric
                && by != 0
                && let Err(error) = host.increment(metric, by)
            {
                log::debug!("cannot count what charging did: {error:?}");
            }
        }
    }

    fn count(&self, key: u64, metric: &str, labels: &[(&str, &str)], by: u64, host: &mut dyn Host) {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        let mut known = self.known.borrow_mut();
        let counted = match known.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => known
                .get(at)
                .map_or(Err(HostError::Malformed), |(_, id)| host.increment(*id, by)),
            Err(at) => host
                .metric(MetricKind::Counter, &series_name(metric, labels))
                .and_then(|id| {
                    known.insert(at, (key, id));
                    host.increment(id, by)
                }),
        };
        if let Err(error) = counted {
            log::debug!("cannot count in {metric}: {error:?}");
        }
    }
}

impl Whose<'_> {
    /// A number for these requests and one of the things, of [`WHAT`] bits, that may become of them. Tenants without a number are told apart by
    /// what they are counted as and by their plan.
    fn key(&self, what: u64) -> u64 {
        let whose = match (self.listed, self.tenant) {
            (Some(number), _) => 3 | u64::from(number) << 2,
            (None, "none") => 0,
            (None, "other") => 1 | (self.plan as u64) << 2,
            (None, _) => 2 | (self.plan as u64) << 2,
        };
        whose << WHAT | what
    }
}
