//! The core against a model that knows nothing of arrival times, slots or records: it remembers every admitted request and counts. Where limits are too small for
//! runs, both are equal, whatever worker is asked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod proxy;

use proptest::prelude::*;
use proxy::{Model, Proxy, SECOND, admitted, config, id, kind, of, rate, standings};
use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::{Account, Decision, Limits};
use tenant_rate_limit::limit::{Kind, Limit, Now, Standing, State, Used};
use tenant_rate_limit::row::{self, Row};
use tenant_rate_limit::run::{Judgement, Run};
use tenant_rate_limit::table;
use tollgate_host::memory::Call;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let named = |kinds: Vec<Kind>| {
        kinds
            .into_iter()
            .enumerate()
            .map(|(n, kind)| Limit::new(&format!("limit-{n}"), kind))
            .collect()
    };
    proptest::collection::vec(kind(), 1..4).prop_map(named)
}

/// How much time passes before a request, and how far the wall clock is set then.
fn step() -> impl Strategy<Value = (u64, i64)> {
    let second = SECOND as i64;
    prop_oneof![
        4 => (0_u64..5_000).prop_map(|d| (d, 0)),
        4 => (0..2 * SECOND).prop_map(|d| (d, 0)),
        1 => (0..86_400 * SECOND).prop_map(|d| (d, 0)),
        1 => (-90_000 * second..90_000 * second).prop_map(|d| (0, d)),
    ]
}

fn cost() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(1_u64), 1 => 1_u64..14]
}

fn start() -> Now {
    Now {
        monotonic: 3_600 * SECOND,
        utc: 1_767_225_590 * SECOND,
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn the_core_equals_the_model(
        limits in limits(),
        workers in 1_usize..5,
        requests in proptest::collection::vec((step(), 0_usize..4, cost()), 1..100),
    ) {
        let (mut model, mut proxy, mut latest) = (Model::new(&limits), Proxy::new(workers, 0), 0);
        for ((time, wall), worker, cost) in requests {
            proxy.advance(time);
            let set = proxy.now().utc.saturating_add_signed(wall);
            // Where a wall clock goes back, a worker that did not see it ahead goes on from what it knew of the window before.
            if workers == 1 || set >= latest {
                proxy.step_wall(wall);
            }
            let now = proxy.now();
            latest = latest.max(now.utc);
            let passes: Vec<bool> = limits.iter().map(|limit| model.passes(limit, cost, now)).collect();
            let refusing: Vec<usize> = (0..limits.len()).filter(|index| !passes[*index]).collect();
            let expected = model.ask(cost, now);
            let decision = proxy.charge(worker % workers, Account::Listed(&id("acme")), of(&limits), cost);
            prop_assert_eq!(admitted(&decision), expected, "cost {} at {:?} after {:?}", cost, now, model.admitted);
            prop_assert_eq!(standings(&decision).len(), limits.len());
            match decision {
                Decision::Admitted { standings } => {
                    for (limit, standing) in limits.iter().zip(standings) {
                        prop_assert!(standing.remaining == 0 || model.passes(limit, standing.remaining, now));
                        // Others may have been charged since this worker looked, so it is not less than what is said, and with one worker just that.
                        prop_assert!(workers > 1 || !model.passes(limit, standing.remaining + 1, now));
                    }
                }
                Decision::Refused { standings, by } => {
                    // What a worker knows is enough to refuse, and need not be all.
                    prop_assert!(!by.is_empty() && by.iter().all(|index| refusing.contains(index)), "{:?} of {:?}", by, refusing);
                    prop_assert!(workers > 1 || by == refusing);
                    for index in by {
                        prop_assert!(standings[index].remaining < cost);
                        prop_assert!(standings[index].more_in > 0);
                    }
                }
                Decision::TooCostly { by, .. } => {
                    let never: Vec<usize> = (0..limits.len()).filter(|index| limits[*index].kind.units() < cost).collect();
                    prop_assert_eq!(by, never);
                }
                Decision::Scarce { .. } => prop_assert!(false, "there is no total"),
            }
        }
    }

    #[test]
    fn tenants_of_a_row_do_not_touch_each_other(limits in limits(), requests in proptest::collection::vec((0_usize..3, 0..2 * SECOND, cost()), 1..100)) {
        // Sixteen tenants at most share the one row; each is judged as if it were alone.
        let mut proxy = Proxy::new(1, 1);
        let mut models: Vec<Model> = (0..3).map(|_| Model::new(&limits)).collect();
        for (tenant, time, cost) in requests {
            proxy.advance(time);
            let expected = models[tenant].ask(cost, proxy.now());
            let name = id(&format!("tenant-{tenant}"));
            let account = Account::Unlisted { id: &name, tier: "free" };
            prop_assert_eq!(admitted(&proxy.charge(0, account, of(&limits), cost)), expected);
        }
        prop_assert_eq!(proxy.workers[0].0.shared_keys().iter().filter(|key| key.starts_with(b"trl/")).count() <= 1, true);
    }

    #[test]
    fn a_standing_says_what_can_still_be_done(kind in kind(), steps in proptest::collection::vec(0_u64..2 * SECOND, 0..10)) {
        let limit = Limit::new("limit", kind);
        let (mut used, mut now) = (None, start());
        for step in steps {
            now = Now { monotonic: now.monotonic + step, utc: now.utc + step };
            let (charged, after) = charge(&limit, used, now);
            used = after;
            let Standing { remaining, more_in } = standing(&limit, used, now);
            prop_assert!(charged.is_none_or(|charged| charged == standing(&limit, used, now)));
            prop_assert_eq!(remaining, count(&limit, used, now), "remaining is what passes");
            let later = |by: u64| Now { monotonic: now.monotonic + by, utc: now.utc + by };
            prop_assert_eq!(count(&limit, used, later(more_in - 1)), remaining, "no more before");
            prop_assert!(remaining == kind.units() || count(&limit, used, later(more_in)) > remaining, "and more then");
        }
    }

    #[test]
    fn new_numbers_keep_what_was_used(
        old in (1_000_u64..SECOND, 1_u64..3_000),
        new in (1_000_u64..SECOND, 1_u64..3_000),
        requests in 0_u64..3_000,
    ) {
        // What is used of the old limit counts in the new one, be it charged unit by unit or in runs; what a run held when it changed is lost.
        let mut proxy = Proxy::new(1, 0);
        let limits = |(interval, units)| [rate("rate", interval, units), Limit::new("quota", Kind::Quota { quota: units, window: Window::Month })];
        let used = requests.min(old.1);
        for _ in 0..used {
            prop_assert!(proxy.ask(0, &limits(old), 1));
        }
        let most_held = (old.1 / 16).saturating_sub(1);
        proxy.configure(0);
        let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits(new)), new.1 + 1);
        for standing in standings(&decision) {
            let left = new.1.saturating_sub(used);
            prop_assert!(standing.remaining <= left, "{} of {left}", standing.remaining);
            prop_assert!(standing.remaining >= left.saturating_sub(most_held), "{} of {left}", standing.remaining);
        }
        // And back: nothing is refilled on the way.
        proxy.configure(0);
        let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits(old)), old.1 + 1);
        for standing in standings(&decision) {
            prop_assert!(standing.remaining <= old.1 - used);
            prop_assert!(standing.remaining >= (old.1 - used).saturating_sub(most_held));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_pass_for_ever(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        states in proptest::collection::vec((any::<u32>(), any::<u64>(), any::<u64>()), 0..4),
        latest in prop_oneof![Just((0, 0)), any::<(u64, u64)>()],
        limits in limits(),
    ) {
        let mut written = vec![row::VERSION];
        written.extend_from_slice(&latest.0.to_le_bytes());
        written.extend_from_slice(&latest.1.to_le_bytes());
        written.extend_from_slice(&0_u32.to_le_bytes());
        written.push(states.len() as u8);
        for (n, (key, a, b)) in states.into_iter().enumerate() {
            written.extend_from_slice(&if n == 0 { limits[0].key() } else { key }.to_le_bytes());
            written.extend_from_slice(&a.to_le_bytes());
            written.extend_from_slice(&b.to_le_bytes()[..7]);
        }
        let mut versioned = vec![row::VERSION];
        versioned.extend_from_slice(&bytes);
        for bytes in [bytes, versioned, written] {
            let mut proxy = Proxy::new(2, 0);
            for key in ["tenant/acme", "workers"] {
                let key = format!("tenant-rate-limit/{}/plugin/{key}", row::VERSION);
                proxy.workers[0].0.overwrite_shared(key.as_bytes(), &bytes);
            }
            let most: u64 = limits.iter().map(|limit| limit.kind.units()).min().unwrap();
            let passed = (0..100).filter(|n| proxy.ask(n % 2, &limits, 1)).count() as u64;
            prop_assert!(passed <= most, "{passed} of {most}");
        }
    }

    #[test]
    fn a_row_keeps_every_state(states in proptest::collection::vec((any::<u32>(), any::<(bool, bool)>(), any::<u64>(), 0_u64..1 << 55), 0..20)) {
        let now = Now { monotonic: 0, utc: 0 };
        let states: Vec<State> = states.into_iter().map(|(key, (rate, shadow), a, b)| {
            // Neither at rest: after now, or in the first window.
            let state = if rate {
                State { key: key & !7, used: Used::Rate { arrival: a.max(1), interval: b }, shadow }
            } else {
                State { key: key & !7 | 3, used: Used::Quota { window: Window::Day, number: 0, count: b }, shadow }
            };
            (state.key, state)
        }).collect::<std::collections::BTreeMap<_, _>>().into_values().collect();
        let written = Row::default().replace(9, &states, (24, 64), now);
        let row = Row::parse(&written.bytes).unwrap();
        for state in &states {
            prop_assert_eq!(row.record(9).unwrap().used(state.key), Some(state.used));
        }
        // Beside another record, and when other states of the same record are written.
        let other = row.replace(8, &states, (24, 64), now);
        let again = Row::parse(&other.bytes).unwrap().replace(9, &[], (24, 64), now);
        let row = Row::parse(&again.bytes).unwrap();
        for state in &states {
            prop_assert_eq!(row.record(9).unwrap().used(state.key), Some(state.used));
        }
    }
}

fn run(limit: &Limit, used: Option<Used>, now: Now) -> Run {
    let mut run = Run::of(limit);
    run.settle(now);
    run.learn(limit.given(used, now));
    run
}

fn standing(limit: &Limit, used: Option<Used>, now: Now) -> Standing {
    run(limit, used, now).standing(now)
}

/// Charges one unit; the standing after it if that passes, and what is remembered.
fn charge(limit: &Limit, used: Option<Used>, now: Now) -> (Option<Standing>, Option<Used>) {
    let mut run = run(limit, used, now);
    match run.judge(1, now) {
        Judgement::Short => {
            run.draw(1, 1, now);
            (Some(run.standing(now)), Some(run.state().used))
        }
        _ => (None, used),
    }
}

/// How many requests pass at this moment.
fn count(limit: &Limit, mut used: Option<Used>, now: Now) -> u64 {
    let mut count = 0;
    while let (Some(_), after) = charge(limit, used, now) {
        used = after;
        count += 1;
    }
    count
}

/// The stretches over which nothing too much is admitted include those that start at any moment, not only those of the model.
#[test]
fn a_rate_admits_its_burst_and_then_one_each_interval() {
    let limits = [rate("rate", 200_000_000, 10)];
    let mut proxy = Proxy::new(2, 0);
    let mut admitted = Vec::new();
    for tick in 0..100_000 {
        if proxy.ask(tick % 2, &limits, 1) {
            admitted.push(tick);
        }
        proxy.advance(100_000);
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
    let hour = 3_600 * SECOND;
    let mut proxy = Proxy::new(2, 0);
    let midnight = proxy.now().utc;
    let set = |proxy: &Proxy, utc| proxy.workers[0].0.set_time(utc);
    set(&proxy, midnight - 1);
    assert!(proxy.ask(0, &limits, 1));
    set(&proxy, midnight);
    assert!(proxy.ask(0, &limits, 1), "the first of the new day");
    set(&proxy, midnight - hour);
    assert!(proxy.ask(1, &limits, 1), "the second");
    for worker in 0..2 {
        assert!(!proxy.ask(worker, &limits, 1), "and no other");
    }
    set(&proxy, midnight - hour - 1);
    assert!(proxy.ask(0, &limits, 1), "the clock had been wrong");
    set(&proxy, midnight + 24 * hour);
    assert!(proxy.ask(0, &limits, 2));
}

/// A limit that refuses is known to, while what another one has left is not: in a new window, and in one that the clock was set back to.
#[test]
fn a_refusal_says_how_the_tenant_stands_with_the_limits_that_do_not_refuse() {
    let quota = |name, quota, window| Limit::new(name, Kind::Quota { quota, window });
    let limits = [
        quota("monthly", 3, Window::Month),
        quota("daily", 2, Window::Day),
    ];
    let day = 86_400 * SECOND;
    let mut proxy = Proxy::new(1, 0);
    assert!(proxy.ask(0, &limits, 1));
    proxy.advance(day);
    assert!(proxy.ask(0, &limits, 2));
    let left = |proxy: &mut Proxy| -> Vec<u64> {
        let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits), 1);
        assert!(!admitted(&decision));
        let standings = standings(&decision).iter();
        standings.map(|standing| standing.remaining).collect()
    };
    assert_eq!(left(&mut proxy), [0, 0]);
    proxy.advance(day);
    assert_eq!(left(&mut proxy), [0, 2]);
    // Nothing was charged in that day, so it has not been reached.
    proxy.step_wall(-1);
    assert_eq!(left(&mut proxy), [0, 0]);
}

#[test]
fn limits_that_come_and_go_never_misread_each_other() {
    let rate_a = rate("a", SECOND, 3);
    let quota_a = Limit::new(
        "a",
        Kind::Quota {
            quota: 3,
            window: Window::Day,
        },
    );
    let rate_b = rate("b", SECOND, 3);
    let mut proxy = Proxy::new(1, 0);
    let mut ask = |limits: &[Limit]| -> Vec<u64> {
        proxy.configure(0);
        let decision = proxy.charge(0, Account::Listed(&id("acme")), of(limits), 1);
        assert!(admitted(&decision));
        let left = standings(&decision).iter();
        left.map(|standing| standing.remaining).collect()
    };
    assert_eq!(ask(std::slice::from_ref(&rate_a)), [2]);
    assert_eq!(ask(&[quota_a.clone(), rate_a.clone()]), [2, 1]);
    assert_eq!(
        ask(std::slice::from_ref(&rate_b)),
        [2],
        "another name is another limit"
    );
    assert_eq!(
        ask(&[rate_a, quota_a, rate_b]),
        [0, 1, 1],
        "and what was used of those that come back is still used"
    );
}

/// Thirty routes with a limit each, and one of the tenant's own: whoever goes from one to the next finds each as it was left.
#[test]
fn no_limit_is_forgotten_by_going_from_route_to_route() {
    let tenant = [rate("tenant", 3_600 * SECOND, 100)];
    let routes: Vec<[Limit; 1]> = (0..30)
        .map(|n| [rate(&format!("route-{n}"), 3_600 * SECOND, 2)])
        .collect();
    let mut proxy = Proxy::new(2, table::largest(31));
    let someone = id("someone");
    for account in [
        Account::Listed(&someone),
        Account::Unlisted {
            id: &someone,
            tier: "free",
        },
    ] {
        let mut passed = 0;
        for turn in 0..5 {
            for (n, route) in routes.iter().enumerate() {
                let limits = Limits {
                    tenant: &tenant,
                    route,
                    ..Limits::default()
                };
                passed += u32::from(admitted(&proxy.charge((turn + n) % 2, account, limits, 1)));
            }
        }
        assert_eq!(passed, 60, "each of thirty passes two");
    }
}

#[test]
fn a_limit_refuses_at_no_cost() {
    // The quota is used up, and what the rate has left is not touched by what the quota refuses.
    let limits = [
        rate("rate", SECOND, 10),
        Limit::new(
            "minutely",
            Kind::Quota {
                quota: 3,
                window: Window::Minute,
            },
        ),
    ];
    let mut proxy = Proxy::new(1, 0);
    for _ in 0..3 {
        assert!(proxy.ask(0, &limits, 1));
    }
    proxy.workers[0].0.reset_calls();
    for _ in 0..100 {
        assert!(!proxy.ask(0, &limits, 1));
    }
    assert_eq!(proxy.calls(Call::SetShared), 0);
    assert_eq!(
        proxy.calls(Call::Shared),
        0,
        "it is known when to look again"
    );
    let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits), 1);
    let left: Vec<u64> = standings(&decision).iter().map(|s| s.remaining).collect();
    assert_eq!(left, [7, 0]);
}

#[test]
fn what_costs_more_than_a_limit_ever_lets_pass_is_told_so() {
    let limits = [rate("rate", SECOND, 10), rate("other", SECOND, 20)];
    let mut proxy = Proxy::new(1, 0);
    for cost in [11, 20] {
        let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits), cost);
        assert!(
            matches!(decision, Decision::TooCostly { ref by, .. } if *by == [0]),
            "{decision:?}"
        );
    }
    let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits), u64::MAX);
    assert!(matches!(decision, Decision::TooCostly { by, .. } if by == [0, 1]));
    assert!(proxy.ask(0, &limits, 10), "and nothing was charged");
}
