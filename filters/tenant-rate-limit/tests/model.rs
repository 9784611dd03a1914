//! The core against a model that knows nothing of arrival times, records or bytes: it remembers every admitted request and counts.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::Limits;
use tenant_rate_limit::limit::{Kind, Limit, Now, Opinion, Standing, State, Used};
use tenant_rate_limit::row::{Row, Verdict};

const SECOND: u64 = 1_000_000_000;

/// Those of a tenant alone.
fn of(limits: &[Limit]) -> Limits<'_> {
    Limits {
        tenant: limits,
        route: &[],
    }
}

/// Of one tenant.
struct Model {
    limits: Vec<Limit>,
    admitted: Vec<Now>,
}

impl Model {
    /// A rate lets a request pass if over every stretch of time that ends now and starts with an admitted request, it admits at
    /// most `burst` and one for each interval; a quota, if there is room in the window. Time does not go back; where the
    /// wall clock had been wrong, what it was counted in before is forgotten.
    fn ask(&mut self, now: Now) -> bool {
        let latest = self.admitted.last().copied().unwrap_or(now);
        let set_back = latest.utc > now.utc + 3_600 * SECOND;
        let now = Now {
            monotonic: now.monotonic.max(latest.monotonic),
            utc: if set_back {
                now.utc
            } else {
                now.utc.max(latest.utc)
            },
        };
        let passes = self.limits.iter().all(|limit| match limit.kind {
            Kind::Rate { interval, burst } => {
                self.admitted
                    .iter()
                    .rev()
                    .enumerate()
                    .all(|(later, start)| {
                        let requests = later as u64 + 2;
                        requests * interval <= burst * interval + (now.monotonic - start.monotonic)
                    })
            }
            Kind::Quota { quota, window } => {
                let this = window.number(now.utc);
                (self
                    .admitted
                    .iter()
                    .rev()
                    .take_while(|at| window.number(at.utc) == this)
                    .count() as u64)
                    < quota
            }
        });
        if passes {
            self.admitted.push(now);
        }
        passes
    }
}

fn limit() -> impl Strategy<Value = Kind> {
    // From 1 a day to 1,000,000 a second.
    let interval = prop_oneof![
        1_000_u64..10_000,
        1_000_000_u64..3 * SECOND,
        Just(86_400 * SECOND)
    ];
    let rate = (interval, 1_u64..8).prop_map(|(interval, burst)| Kind::Rate { interval, burst });
    let quota = (1_u64..12, 0_usize..4).prop_map(|(quota, window)| Kind::Quota {
        quota,
        window: Window::ALL[window],
    });
    prop_oneof![rate, quota]
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let named = |kinds: Vec<Kind>| {
        kinds
            .into_iter()
            .enumerate()
            .map(|(n, kind)| Limit::new(&format!("limit-{n}"), kind))
            .collect()
    };
    proptest::collection::vec(limit(), 1..4).prop_map(named)
}

/// How both clocks move before a request: mostly on together, at times one or the other jumps.
fn step() -> impl Strategy<Value = (i64, i64)> {
    let second = SECOND as i64;
    prop_oneof![
        4 => (0_i64..5_000).prop_map(|d| (d, d)),
        4 => (0..2 * second).prop_map(|d| (d, d)),
        1 => (0..86_400 * second).prop_map(|d| (d, d)),
        1 => (-90_000 * second..90_000 * second).prop_map(|d| (0, d)),
        1 => (-5_000_i64..0).prop_map(|d| (d, 0)),
    ]
}

fn moved(clock: u64, by: i64) -> u64 {
    clock.saturating_add_signed(by)
}

fn start() -> Now {
    Now {
        monotonic: 3_600 * SECOND,
        utc: 1_767_225_590 * SECOND,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_core_equals_the_model(limits in limits(), steps in proptest::collection::vec(step(), 1..120)) {
        let mut model = Model { limits: limits.clone(), admitted: Vec::new() };
        let (mut bytes, mut now): (Option<Vec<u8>>, Now) = (None, start());
        for (monotonic, utc) in steps {
            now = Now { monotonic: moved(now.monotonic, monotonic), utc: moved(now.utc, utc) };
            let row = bytes.as_deref().map_or(Row::default(), |bytes| Row::parse(bytes).unwrap());
            let admitted = match row.charge(7, 1, of(&limits), 1, now) {
                Verdict::Admit { row, standings } => {
                    prop_assert_eq!(standings.len(), limits.len());
                    bytes = Some(row);
                    true
                }
                Verdict::Refuse { standings, by } => {
                    prop_assert!(!by.is_empty());
                    for index in by {
                        prop_assert_eq!(standings[index].remaining, 0);
                        prop_assert!(standings[index].more_in > 0);
                    }
                    false
                }
                Verdict::TooCostly { .. } => return Err(TestCaseError::fail("1 is never too much")),
                Verdict::Full => return Err(TestCaseError::fail("a record of its own is never full")),
            };
            prop_assert_eq!(admitted, model.ask(now), "at {:?} after {:?}", now, model.admitted);
        }
    }

    #[test]
    fn tenants_of_a_row_do_not_touch_each_other(limits in limits(), requests in proptest::collection::vec((0_u64..3, step()), 1..120)) {
        // Three tenants in one row judge as three tenants in rows of their own, as long as clocks only go on.
        let (mut shared, mut alone, mut now) = (None::<Vec<u8>>, [const { None::<Vec<u8>> }; 3], start());
        for (tenant, (monotonic, utc)) in requests {
            now = Now { monotonic: moved(now.monotonic, monotonic.max(0)), utc: moved(now.utc, utc.max(0)) };
            let mut verdicts = Vec::new();
            for (bytes, capacity) in [(&mut shared, 3), (&mut alone[tenant as usize], 1)] {
                let row = bytes.as_deref().map_or(Row::default(), |bytes| Row::parse(bytes).unwrap());
                verdicts.push(match row.charge(tenant, capacity, of(&limits), 1, now) {
                    Verdict::Admit { row, standings } => { *bytes = Some(row); (true, standings) }
                    Verdict::Refuse { standings, .. } => (false, standings),
                    Verdict::TooCostly { .. } => return Err(TestCaseError::fail("1 is never too much")),
                    Verdict::Full => return Err(TestCaseError::fail("there is room for all")),
                });
            }
            prop_assert_eq!(&verdicts[0], &verdicts[1]);
        }
    }

    #[test]
    fn a_standing_says_what_can_still_be_done(kind in limit(), steps in proptest::collection::vec(0_u64..2 * SECOND, 0..10)) {
        let limit = Limit::new("limit", kind);
        let (mut used, mut now) = (None, start());
        for step in steps {
            now = Now { monotonic: now.monotonic + step, utc: now.utc + step };
            if let Opinion::Pass { charged, state, .. } = limit.ask(used, 1, now) {
                used = Some(state.used);
                prop_assert_eq!(standing(&limit, used, now), charged);
            }
            let Standing { remaining, more_in } = standing(&limit, used, now);
            prop_assert_eq!(remaining, count(&limit, used, now), "remaining is what passes");
            let later = |by: u64| Now { monotonic: now.monotonic + by, utc: now.utc + by };
            prop_assert_eq!(count(&limit, used, later(more_in - 1)), remaining, "no more before");
            let all = match kind { Kind::Rate { burst, .. } => burst, Kind::Quota { quota, .. } => quota };
            prop_assert!(remaining == all || count(&limit, used, later(more_in)) > remaining, "and more then");
        }
    }

    #[test]
    fn new_numbers_keep_what_was_used(
        old in (1_000_u64..SECOND, 1_u64..20),
        new in (1_000_u64..SECOND, 1_u64..20),
        requests in 0_u64..20,
    ) {
        let rate = |(interval, burst)| Limit::new("rate", Kind::Rate { interval, burst });
        let mut used = None;
        for _ in 0..requests.min(old.1) {
            used = charge(&rate(old), used, start());
        }
        prop_assert_eq!(standing(&rate(new), used, start()).remaining, new.1 - requests.min(old.1).min(new.1));
        // And back: nothing is refilled on the way, nothing is remembered that was not used.
        prop_assert_eq!(standing(&rate(old), used, start()).remaining, old.1 - requests.min(old.1));

        let quota = |quota| Limit::new("quota", Kind::Quota { quota, window: Window::Day });
        let mut used = None;
        for _ in 0..requests.min(old.1) {
            used = charge(&quota(old.1), used, start());
        }
        prop_assert_eq!(standing(&quota(new.1), used, start()).remaining, new.1.saturating_sub(requests.min(old.1)));
    }

    #[test]
    fn no_bytes_make_a_row_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        states in proptest::collection::vec((0_u8..6, any::<u32>(), any::<u64>(), any::<u64>()), 0..4),
        now in (any::<u64>(), any::<u64>()),
        limits in limits(),
    ) {
        let mut written = vec![1];
        written.extend_from_slice(&[0xff; 16]);
        written.extend_from_slice(&7_u64.to_le_bytes());
        written.push(states.len() as u8);
        for (kind, key, a, b) in states {
            written.push(kind);
            written.extend_from_slice(&if kind == 0 { limits[0].key() } else { key }.to_le_bytes());
            written.extend_from_slice(&a.to_le_bytes());
            written.extend_from_slice(&b.to_le_bytes());
        }
        let mut versioned = vec![1];
        versioned.extend_from_slice(&bytes);
        for bytes in [bytes, versioned, written] {
            if let Some(row) = Row::parse(&bytes) {
                let _ = row.charge(7, 4, of(&limits), 1, Now { monotonic: now.0, utc: now.1 });
            }
        }
    }
}

fn standing(limit: &Limit, used: Option<Used>, now: Now) -> Standing {
    match limit.ask(used, 1, now) {
        Opinion::Pass { uncharged, .. }
        | Opinion::Wait { uncharged }
        | Opinion::Never { uncharged } => uncharged,
    }
}

fn charge(limit: &Limit, used: Option<Used>, now: Now) -> Option<Used> {
    match limit.ask(used, 1, now) {
        Opinion::Pass {
            state: State { used, .. },
            ..
        } => Some(used),
        Opinion::Wait { .. } | Opinion::Never { .. } => used,
    }
}

/// How many requests pass at this moment.
fn count(limit: &Limit, mut used: Option<Used>, now: Now) -> u64 {
    let mut count = 0;
    while let Opinion::Pass { state, .. } = limit.ask(used, 1, now) {
        used = Some(state.used);
        count += 1;
    }
    count
}

/// The stretches over which nothing too much is admitted include those that start at any moment, not only those of the model.
#[test]
fn a_rate_admits_its_burst_and_then_one_each_interval() {
    let limits = [Limit::new(
        "rate",
        Kind::Rate {
            interval: 200_000_000,
            burst: 10,
        },
    )];
    let (mut bytes, mut admitted) = (None::<Vec<u8>>, Vec::new());
    for tick in 0..100_000 {
        let now = Now {
            monotonic: start().monotonic + tick * 100_000,
            utc: 0,
        };
        let row = bytes
            .as_deref()
            .map_or(Row::default(), |bytes| Row::parse(bytes).unwrap());
        if let Verdict::Admit { row, .. } = row.charge(0, 1, of(&limits), 1, now) {
            bytes = Some(row);
            admitted.push(tick);
        }
    }
    assert_eq!(admitted[..11], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2_000]);
    assert_eq!(
        admitted.len(),
        10 + 49,
        "10 s at 5/s, less the interval that the last request is short of"
    );
}

#[test]
fn a_window_that_was_reached_stays_the_one_that_counts() {
    let limits = [Limit::new(
        "daily",
        Kind::Quota {
            quota: 2,
            window: Window::Day,
        },
    )];
    let day = 86_400 * SECOND;
    let charge = |bytes: &Option<Vec<u8>>, utc| {
        let row = bytes
            .as_deref()
            .map_or(Row::default(), |bytes| Row::parse(bytes).unwrap());
        match row.charge(0, 1, of(&limits), 1, Now { monotonic: 0, utc }) {
            Verdict::Admit { row, .. } => Some(row),
            _ => None,
        }
    };
    let first = charge(&None, 10 * day).unwrap();
    let next_day = charge(&Some(first), 11 * day).unwrap();
    let hour = 3_600 * SECOND;
    let back = charge(&Some(next_day), 11 * day - hour).unwrap();
    assert_eq!(
        charge(&Some(back.clone()), 11 * day - hour),
        None,
        "the second request of day 11"
    );
    assert!(
        charge(&Some(back.clone()), 11 * day - hour - 1).is_some(),
        "the clock had been wrong"
    );
    assert!(charge(&Some(back), 12 * day).is_some());
}

#[test]
fn a_record_in_use_is_not_given_away_and_one_at_rest_is() {
    let limits = [Limit::new(
        "rate",
        Kind::Rate {
            interval: SECOND,
            burst: 2,
        },
    )];
    let at = |monotonic| Now { monotonic, utc: 0 };
    let Verdict::Admit { row, .. } = Row::default().charge(1, 1, of(&limits), 1, at(0)) else {
        panic!("refused")
    };
    let read = Row::parse(&row).unwrap();
    assert_eq!(
        read.charge(2, 1, of(&limits), 1, at(SECOND - 1)),
        Verdict::Full
    );
    assert!(matches!(
        read.charge(2, 1, of(&limits), 1, at(SECOND)),
        Verdict::Admit { .. }
    ));
    assert!(matches!(
        read.charge(1, 1, of(&limits), 1, at(SECOND - 1)),
        Verdict::Admit { .. }
    ));
}

#[test]
fn limits_that_come_and_go_never_misread_each_other() {
    let rate = Limit::new(
        "a",
        Kind::Rate {
            interval: SECOND,
            burst: 3,
        },
    );
    let quota = Limit::new(
        "a",
        Kind::Quota {
            quota: 3,
            window: Window::Day,
        },
    );
    let renamed = Limit::new(
        "b",
        Kind::Rate {
            interval: SECOND,
            burst: 3,
        },
    );
    let now = start();
    let mut bytes = None::<Vec<u8>>;
    let mut ask = |limits: &[Limit]| {
        let row = bytes
            .as_deref()
            .map_or(Row::default(), |bytes| Row::parse(bytes).unwrap());
        match row.charge(0, 1, of(limits), 1, now) {
            Verdict::Admit { row, standings } => {
                bytes = Some(row);
                standings
                    .iter()
                    .map(|standing| standing.remaining)
                    .collect()
            }
            _ => Vec::new(),
        }
    };
    assert_eq!(ask(std::slice::from_ref(&rate)), [2]);
    assert_eq!(ask(&[quota.clone(), rate.clone()]), [2, 1]);
    assert_eq!(
        ask(std::slice::from_ref(&renamed)),
        [2],
        "another name is another limit"
    );
    assert_eq!(
        ask(&[rate, quota, renamed]),
        [0, 1, 1],
        "and what was used of those that come back is still used"
    );
}
