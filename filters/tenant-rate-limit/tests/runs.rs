//! Runs: limits large enough that workers take several units at once. Whatever they hold, lose or race for, never too many requests pass and never too few; and
//! a busy tenant costs few calls to the proxy.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod proxy;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proxy::{DAY, Proxy, SECOND, admitted, config, id, never_too_many, of, rate, standings};
use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::{Account, Decision, Effects, Ledger};
use tenant_rate_limit::limit::{Kind, Limit};
use tollgate_host::Host;
use tollgate_host::memory::{Call, MemoryHost};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn quota(quota: u64, window: Window) -> Limit {
    Limit::new("quota", Kind::Quota { quota, window })
}

/// The longest run.
fn chunk(units: u64, workers: usize) -> u64 {
    (units / (16 * workers as u64)).max(1)
}

fn workers() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1_usize), Just(2), Just(4)]
}

/// From 1,000,000 a second to 1 a day.
fn interval() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 1_000_u64..100_000,
        3 => 1_000_000_u64..SECOND / 10,
        1 => SECOND / 10..3 * SECOND,
        1 => Just(DAY),
    ]
}

/// Some requests that follow each other in a similar way.
#[derive(Clone, Debug)]
struct Phase {
    requests: u32,
    /// Time between them, in hundredths of the interval.
    gap: u64,
    cost: u64,
    /// The first of them is preceded by this many refills of the whole burst, in quarters.
    pause: u64,
    /// Which worker is asked: this one, or each in turn.
    worker: Option<usize>,
    /// Before it, this worker's VM dies with whatever it holds.
    dies: Option<usize>,
}

fn phases() -> impl Strategy<Value = Vec<Phase>> {
    let phase = (
        1_u32..300,
        prop_oneof![2 => Just(0_u64), 2 => 0_u64..100, 2 => 90_u64..130, 1 => 0_u64..1_000],
        prop_oneof![4 => Just(1_u64), 1 => 1_u64..40],
        prop_oneof![3 => Just(0_u64), 1 => 0_u64..9],
        proptest::option::of(0_usize..4),
        proptest::option::weighted(0.1, 0_usize..4),
    );
    let phase = phase.prop_map(|(requests, gap, cost, pause, worker, dies)| Phase {
        requests,
        gap,
        cost,
        pause,
        worker,
        dies,
    });
    proptest::collection::vec(phase, 1..8)
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn never_too_many_and_at_rest_the_whole_burst(interval in interval(), burst in 1_u64..5_000, workers in workers(), phases in phases()) {
        let limits = [rate("rate", interval, burst)];
        let mut proxy = Proxy::new(workers, 0);
        let mut passed = Vec::new();
        for phase in phases {
            if let Some(worker) = phase.dies {
                let mut host = proxy.workers[0].0.worker();
                let ledger = Ledger::open("plugin", 0, &mut host).unwrap();
                proxy.workers[worker % workers] = (host, ledger);
            }
            proxy.advance(interval * burst / 4 * phase.pause);
            for n in 0..phase.requests as usize {
                if proxy.ask(phase.worker.unwrap_or(n) % workers, &limits, phase.cost) {
                    passed.push((proxy.now().monotonic, phase.cost));
                }
                proxy.advance(interval * phase.gap / 100);
            }
        }
        if let Err(message) = never_too_many(&passed, interval, burst, 1) {
            return Err(TestCaseError::fail(message));
        }
        // Nothing that was held or lost outlasts this: it would have come back by then.
        proxy.advance(interval * (burst + chunk(burst, 1)));
        let again = (0..burst + 10).filter(|_| proxy.ask(0, &limits, 1)).count() as u64;
        prop_assert_eq!(again, burst);
    }

    #[test]
    fn from_rest_the_whole_burst_passes_less_what_others_hold(
        interval in interval(),
        burst in 1_u64..5_000,
        units in 1_u64..5_000,
        workers in workers(),
        asked in proptest::collection::vec(0_usize..4, 0..1_000),
    ) {
        // Two limits of both kinds; which of them is used up first is left to chance.
        let limits = [rate("rate", interval, burst), quota(units, Window::Month)];
        let mut proxy = Proxy::new(workers, 0);
        let mut passed = asked.iter().filter(|worker| proxy.ask(*worker % workers, &limits, 1)).count() as u64;
        while proxy.ask(0, &limits, 1) {
            passed += 1;
        }
        let most = burst.min(units);
        // All of this is one moment, in which nothing comes back.
        prop_assert!(passed <= most);
        let others = workers as u64 - 1;
        let held = |units| others * (chunk(units, workers) - 1);
        let least = (burst - held(burst)).min(units - held(units));
        prop_assert!(passed >= least, "{passed} of {most}, at least {least}");
    }

    #[test]
    fn small_limits_are_exact(
        interval in interval(),
        workers in workers(),
        size in (0.0_f64..1.0, 0.0_f64..1.0),
        asked in proptest::collection::vec((0_usize..4, 0_u64..100), 1..300),
    ) {
        let below = |part: f64| 1 + (part * (32 * workers - 1) as f64) as u64;
        let limits = [rate("rate", interval, below(size.0)), quota(below(size.1), Window::Month)];
        let (mut model, mut proxy) = (proxy::Model::new(&limits), Proxy::new(workers, 0));
        for (worker, gap) in asked {
            proxy.advance(interval * gap / 100);
            let now = proxy.now();
            prop_assert_eq!(proxy.ask(worker % workers, &limits, 1), model.ask(1, now));
        }
    }

    #[test]
    fn never_too_many_in_a_window(
        units in 1_u64..3_000,
        window in 0_usize..4,
        workers in workers(),
        phases in proptest::collection::vec((1_u32..400, 0_u64..100_000_000, 1_u64..30, proptest::option::of(0_usize..4), -3_000_i64..3_000), 1..8),
    ) {
        // The wall clock jumps back and forth between the phases, by less than an hour in all that goes back.
        let window = Window::ALL[window];
        let limits = [quota(units, window), rate("rate", 1_000, 10_000)];
        let mut proxy = Proxy::new(workers, 0);
        let (mut passed, mut reached, mut latest) = (0, std::collections::BTreeSet::new(), 0);
        for (requests, gap, cost, worker, jump) in phases {
            let to = proxy.now().utc.saturating_add_signed(jump * SECOND as i64);
            if to + 3_600 * SECOND >= latest {
                proxy.step_wall(jump * SECOND as i64);
            }
            for n in 0..requests as usize {
                let utc = proxy.now().utc;
                latest = latest.max(utc);
                if proxy.ask(worker.unwrap_or(n) % workers, &limits, cost) {
                    passed += cost;
                    reached.insert(window.number(utc));
                }
                proxy.advance(gap);
            }
        }
        // No window is opened twice, whichever worker has seen what of the clock.
        prop_assert!(passed <= units * reached.len() as u64, "{passed} in {} windows of {units}", reached.len());
    }
}

/// Another worker, which does something whenever the first one has read shared data and not yet written it.
struct Rival {
    host: MemoryHost,
    ledger: Ledger,
    limits: Vec<Limit>,
    /// For each such moment: nothing, or how much time passes and what a request then costs.
    script: Vec<Option<(u64, u64)>>,
    passed: Vec<(u64, u64)>,
}

thread_local! {
    static RIVAL: RefCell<Option<Rival>> = const { RefCell::new(None) };
}

fn interfere(_key: &[u8]) {
    RIVAL.with_borrow_mut(|rival| {
        let Some(rival) = rival else { return };
        if let Some(Some((time, cost))) = rival.script.pop() {
            rival.host.advance(time);
            let at = rival.host.monotonic();
            let decision = rival.ledger.charge(
                Account::Listed(&id("acme")),
                of(&rival.limits),
                cost,
                &mut rival.host,
            );
            if admitted(&decision.unwrap()) {
                rival.passed.push((at, cost));
            }
        }
    });
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn never_too_many_when_another_worker_is_faster(
        interval in interval(),
        burst in 1_u64..2_000,
        requests in proptest::collection::vec((0_u64..200, 1_u64..4), 1..400),
        script in proptest::collection::vec(proptest::option::of((0_u64..200, 1_u64..4)), 0..600),
    ) {
        let limits = vec![rate("rate", interval, burst), Limit::new("quota", Kind::Quota { quota: burst, window: Window::Minute })];
        let mut proxy = Proxy::new(2, 0);
        let (host, ledger) = proxy.workers.pop().unwrap();
        let times = |script: Vec<Option<(u64, u64)>>| script.into_iter().map(|step| step.map(|(gap, cost)| (interval * gap / 100, cost))).collect();
        RIVAL.set(Some(Rival { host, ledger, limits: limits.clone(), script: times(script), passed: Vec::new() }));
        proxy.workers[0].0.after_shared(interfere);
        let mut passed = Vec::new();
        let mut contended = 0;
        for (gap, cost) in requests {
            proxy.advance(interval * gap / 100);
            let at = proxy.now();
            let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits), cost);
            contended += proxy.workers[0].1.take_effects().contended;
            if admitted(&decision) {
                passed.push((at.monotonic, cost));
            }
        }
        let rival = RIVAL.take().unwrap();
        prop_assert!(contended as usize <= rival.passed.len());
        passed.extend(rival.passed);
        passed.sort_unstable();
        if let Err(message) = never_too_many(&passed, interval, burst, 1) {
            return Err(TestCaseError::fail(message));
        }
        // The model's time and the wall clock go on together. A request that was overtaken is judged by a time that has passed: it is counted in
        // the window that it was judged in, or in the one that its rival had reached.
        let offset = proxy.now().utc - proxy.now().monotonic;
        let windows: std::collections::BTreeSet<u64> = passed.iter().map(|(at, _)| Window::Minute.number(at + offset)).collect();
        let total: u64 = passed.iter().map(|(_, cost)| cost).sum();
        prop_assert!(total <= burst * windows.len() as u64);
    }
}

/// Random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Requests of one tenant for a while, `load` percent of its rate on average, to random workers: how many of them there were and how many passed.
fn load(
    proxy: &mut Proxy,
    interval: u64,
    burst: u64,
    load: u64,
    requests: u64,
    beside: bool,
) -> (u64, Vec<(u64, u64)>) {
    // Beside a limit that refuses nothing and has no runs, so that the record is written each time, also while one worker's run reaches ahead.
    let limits = [rate("rate", interval, burst), rate("other", 1_000, 31)];
    let limits = if beside { &limits[..] } else { &limits[..1] };
    let workers = proxy.workers.len() as u64;
    let (mut dice, mut passed) = (Dice(load), Vec::new());
    for _ in 0..requests {
        // Evenly distributed up to twice the average.
        proxy.advance(dice.below(interval * 200 / load));
        if proxy.ask(dice.below(workers) as usize, limits, 1) {
            passed.push((proxy.now().monotonic, 1));
        }
    }
    (requests, passed)
}

#[test]
fn under_saturating_load_99_percent_of_what_is_allowed_passes() {
    for workers in [1, 2, 4] {
        for (interval, burst) in [
            (1_000_000, 5),
            (10_000_000, 200),
            (1_000_000, 2_000),
            (SECOND, 500),
            (10_000, 20_000),
        ] {
            for percent in [110, 150, 400] {
                for beside in [false, true] {
                    let mut proxy = Proxy::new(workers, 0);
                    let begin = proxy.now().monotonic;
                    let (_, passed) = load(
                        &mut proxy,
                        interval,
                        burst,
                        percent,
                        (burst * 30).clamp(20_000, 120_000),
                        beside,
                    );
                    never_too_many(&passed, interval, burst, 1).unwrap();
                    let time = proxy.now().monotonic - begin;
                    let asked = (burst * 30).clamp(20_000, 120_000);
                    let allowed = (burst + time / interval).min(asked);
                    let passed = passed.len() as u64;
                    assert!(
                        passed * 100 >= allowed * 99,
                        "{passed} of {allowed}: {workers} workers, burst {burst}, interval {interval}, load {percent} %"
                    );
                }
            }
        }
    }
}

/// Writes and reads of shared data by a tenant under load, in thousandths of its requests.
fn calls_by_1000(workers: usize, interval: u64, burst: u64, percent: u64) -> (u64, u64) {
    let mut proxy = Proxy::new(workers, 0);
    // From rest to where it stays.
    load(&mut proxy, interval, burst, percent, burst * 10, false);
    for (host, _) in &proxy.workers {
        host.reset_calls();
    }
    let (requests, _) = load(&mut proxy, interval, burst, percent, 20_000, false);
    let by_1000 = |call| proxy.calls(call) * 1_000 / requests;
    (by_1000(Call::SetShared), by_1000(Call::Shared))
}

#[test]
fn a_busy_tenant_writes_shared_data_less_than_once_in_ten_requests() {
    for workers in [1, 2, 4] {
        for percent in [50, 90, 100, 120, 200, 1_000] {
            let (writes, reads) = calls_by_1000(workers, 1_000_000, 2_000, percent);
            println!(
                "1000/s, burst 2000, {workers} workers, {percent} % of the rate: {writes} writes and {reads} reads in 1000 requests"
            );
            assert!(writes < 100, "{writes}: {workers} workers, {percent} %");
        }
    }
    // The demo's: its runs are 6 long with two workers.
    for workers in [1, 2, 4] {
        for percent in [50, 90, 100, 120, 200, 1_000] {
            let (writes, reads) = calls_by_1000(workers, 10_000_000, 200, percent);
            println!(
                "100/s, burst 200, {workers} workers, {percent} % of the rate: {writes} writes and {reads} reads in 1000 requests"
            );
        }
    }
}

#[test]
fn a_busy_tenant_costs_no_call_but_its_clocks() {
    let both = [rate("rate", 1_000_000, 2_000), quota(100_000, Window::Day)];
    for limits in [&both[..1], &both[1..], &both[..]] {
        let mut proxy = Proxy::new(2, 1_000);
        let name = id("acme");
        let accounts = [
            Account::Listed(&name),
            Account::Unlisted {
                id: &name,
                tier: "free",
            },
        ];
        for account in accounts {
            let mut without = 0;
            for _ in 0..1_000 {
                proxy.workers[0].0.reset_calls();
                assert!(admitted(&proxy.charge(0, account, of(limits), 1)));
                proxy.advance(2_000_000);
                let mut clocks = BTreeMap::new();
                for limit in limits {
                    match limit.kind {
                        Kind::Rate { .. } => clocks.insert(Call::Monotonic, 1),
                        Kind::Quota { .. } => clocks.insert(Call::Now, 1),
                    };
                }
                without += u32::from(proxy.workers[0].0.all_calls() == clocks);
            }
            assert!(without > 900, "{without} of 1000");
        }
    }
}

#[test]
fn a_flood_of_refused_requests_costs_no_call_but_its_clocks() {
    let limits = [rate("rate", 10_000_000, 200), quota(1_000_000, Window::Day)];
    let mut proxy = Proxy::new(2, 1_000);
    let name = id("acme");
    for account in [
        Account::Listed(&name),
        Account::Unlisted {
            id: &name,
            tier: "free",
        },
    ] {
        // Each worker has learnt by then.
        for _ in 0..400 {
            proxy.charge(0, account, of(&limits), 1);
            proxy.charge(1, account, of(&limits), 1);
        }
        let (mut shared, mut refused) = (0, 0);
        for n in 0..10_000 {
            let host = &proxy.workers[n % 2].0;
            host.reset_calls();
            let decision = proxy.charge(n % 2, account, of(&limits), 1);
            let host = &proxy.workers[n % 2].0;
            if let Decision::Refused { standings, by } = &decision {
                refused += 1;
                shared += host.calls(Call::Shared) + host.calls(Call::SetShared);
                assert_eq!((by.as_slice(), standings[0].remaining), ([0].as_slice(), 0));
                assert!(
                    (1..=70_000_000).contains(&standings[0].more_in),
                    "no worker is ahead by more than its run"
                );
            }
            proxy.advance(100_000);
        }
        assert!(refused > 9_800, "{refused}");
        assert!(shared < 100, "{shared} reads for {refused} refusals");
    }
}

#[test]
fn what_a_worker_knows_refuses_nothing_that_would_pass() {
    let mut proxy = Proxy::new(2, 0);
    let limits = |burst| [rate("rate", SECOND, burst)];
    for _ in 0..97 {
        assert!(proxy.ask(0, &limits(100), 1));
    }
    assert!(!proxy.ask(0, &limits(100), 5), "three are left");
    assert!(proxy.ask(0, &limits(100), 3), "another cost");
    assert!(!proxy.ask(0, &limits(100), 1));
    proxy.configure(0);
    assert!(proxy.ask(0, &limits(110), 5), "another burst");
    let limits = |units| [quota(units, Window::Day)];
    for _ in 0..20 {
        assert!(proxy.ask(1, &limits(20), 1));
    }
    assert!(!proxy.ask(1, &limits(20), 1));
    proxy.configure(0);
    assert!(proxy.ask(1, &limits(21), 1));
    assert!(!proxy.ask(1, &limits(21), 1));
    proxy.advance(DAY);
    assert!(proxy.ask(1, &limits(21), 21), "another day");
    // A table of another size has the records of those who are not listed elsewhere.
    let limits = [quota(3, Window::Day)];
    for individually in [100, 200] {
        proxy.configure(individually);
        let account = Account::Unlisted {
            id: &id("someone"),
            tier: "free",
        };
        for n in 0..4 {
            let decision = proxy.charge(0, account, of(&limits), 1);
            assert_eq!(admitted(&decision), n < 3);
        }
    }
}

/// Fifteen requests a second are not many: whichever worker is asked, it takes one unit at a time and says what is left to the last one.
#[test]
fn of_a_quiet_tenant_every_worker_says_exactly_what_is_left() {
    let limits = [quota(1_000, Window::Day)];
    let mut proxy = Proxy::new(2, 0);
    for sent in 1..=300 {
        let worker = sent as usize % 3 % 2;
        let decision = proxy.charge(worker, Account::Listed(&id("acme")), of(&limits), 1);
        assert!(admitted(&decision));
        assert_eq!(standings(&decision)[0].remaining, 1_000 - sent);
        proxy.advance(SECOND / 15);
    }
}

/// What comes back slowly is not taken ahead of its time: it would be out of the reach of the other workers for long.
#[test]
fn no_worker_waits_long_for_what_another_took_ahead() {
    for (interval, burst) in [(SECOND / 10, 3_000), (SECOND, 3_000), (DAY, 300)] {
        let limits = [rate("rate", interval, burst)];
        let mut proxy = Proxy::new(2, 0);
        while proxy.ask(0, &limits, 1) {}
        for worker in [1, 0] {
            let decision = proxy.charge(worker, Account::Listed(&id("acme")), of(&limits), 1);
            let more_in = standings(&decision)[0].more_in;
            assert!(
                more_in <= interval + SECOND,
                "{more_in}: worker {worker}, interval {interval}"
            );
        }
    }
}

#[test]
fn one_worker_counts_down_one_by_one() {
    let limits = [rate("rate", SECOND, 1_000), quota(2_000, Window::Day)];
    let mut proxy = Proxy::new(1, 0);
    for sent in 1..=1_000 {
        let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits), 1);
        assert!(admitted(&decision));
        let left: Vec<u64> = standings(&decision).iter().map(|s| s.remaining).collect();
        assert_eq!(left, [1_000 - sent, 2_000 - sent]);
        assert_eq!(standings(&decision)[0].more_in, SECOND);
    }
    assert!(!proxy.ask(0, &limits, 1));
}

#[test]
fn a_new_configuration_keeps_what_is_held_of_limits_that_stay() {
    let limits = [rate("rate", 1_000_000, 2_000)];
    let mut proxy = Proxy::new(1, 0);
    for _ in 0..1_000 {
        assert!(proxy.ask(0, &limits, 1));
    }
    // In the middle of a run, whose rest is not lost: the whole burst passes.
    proxy.configure(0);
    let rest = (0..2_000).filter(|_| proxy.ask(0, &limits, 1)).count();
    assert_eq!(rest, 1_000);
}

#[test]
fn plugins_of_a_vm_hold_nothing_of_each_other() {
    let limits = [rate("rate", SECOND, 1_000)];
    let mut host = MemoryHost::new();
    let plugins = ["one", "two"].map(|plugin| Ledger::open(plugin, 0, &mut host).unwrap());
    for plugin in &plugins {
        let passed = (0..1_100)
            .filter(|_| {
                admitted(
                    &plugin
                        .charge(Account::Listed(&id("acme")), of(&limits), 1, &mut host)
                        .unwrap(),
                )
            })
            .count();
        assert_eq!(passed, 1_000);
    }
}

#[test]
fn a_worker_that_cannot_count_itself_takes_no_runs() {
    let limits = [rate("rate", SECOND, 1_000)];
    let host = MemoryHost::new();
    let mut unlucky = host.worker();
    let ledger = Ledger::open("plugin", 0, &mut unlucky).unwrap();
    let other = host.worker();
    // Whenever it has read the count, somebody else has counted.
    unlucky.after_shared(move |key| {
        if key.ends_with(b"workers") {
            other.overwrite_shared(key, &1_u32.to_le_bytes());
        }
    });
    for _ in 0..100 {
        unlucky.reset_calls();
        assert!(admitted(
            &ledger
                .charge(Account::Listed(&id("acme")), of(&limits), 1, &mut unlucky)
                .unwrap()
        ));
    }
    let mut lucky = host.worker();
    let ledger = Ledger::open("plugin", 0, &mut lucky).unwrap();
    let left = ledger
        .charge(Account::Listed(&id("acme")), of(&limits), 1, &mut lucky)
        .unwrap();
    assert_eq!(
        standings(&left)[0].remaining,
        1_000 - 101,
        "nothing is held"
    );
}

/// Tenants that are not listed hold something only in a fixed number of places, and nobody loses a place that holds something.
#[test]
fn no_flood_of_ids_takes_away_what_a_tenant_holds() {
    let limits = [quota(2_000, Window::Month)];
    let mut proxy = Proxy::new(1, 100_000);
    let charge = |proxy: &mut Proxy, name: &str| {
        let tenant = id(name);
        let account = Account::Unlisted {
            id: &tenant,
            tier: "free",
        };
        admitted(&proxy.charge(0, account, of(&limits), 1))
    };
    let (mut passed, mut held) = (0, 0);
    for turn in 0.. {
        let before = passed;
        for _ in 0..101 {
            proxy.workers[0].0.reset_calls();
            passed += u32::from(charge(&mut proxy, "busy"));
            held += u32::from(proxy.calls(Call::Shared) == 0);
            proxy.advance(1_000_000);
        }
        if passed == before {
            break;
        }
        // Several for each of the places, some of which are held by none of them.
        for n in 0..4_000 {
            charge(&mut proxy, &format!("invented-{turn}-{n}"));
        }
    }
    assert_eq!(
        passed, 2_000,
        "each unit was given out once, and none was lost"
    );
    assert!(held > 1_500, "{held}");
}

#[test]
fn what_a_worker_holds_of_a_quota_ends_with_its_window() {
    let limits = [quota(1_000, Window::Minute)];
    let mut proxy = Proxy::new(1, 0);
    for _ in 0..3 {
        // In the middle of a run.
        proxy.advance(59 * SECOND);
        for _ in 0..333 {
            assert!(proxy.ask(0, &limits, 1));
        }
        proxy.advance(SECOND);
        let passed = (0..1_100).filter(|_| proxy.ask(0, &limits, 1)).count();
        assert_eq!(passed, 1_000);
        proxy.advance(60 * SECOND);
    }
}

#[test]
fn a_clock_set_back_by_a_little_takes_nothing_away_from_who_holds_it() {
    let limits = [quota(1_000, Window::Minute)];
    let mut proxy = Proxy::new(1, 0);
    for _ in 0..333 {
        assert!(proxy.ask(0, &limits, 1));
    }
    proxy.step_wall(-(SECOND as i64));
    let passed = (0..1_100).filter(|_| proxy.ask(0, &limits, 1)).count();
    assert_eq!(passed, 667, "also of the run that it was in the middle of");
}

#[test]
fn a_record_that_is_lost_gives_nothing_out_twice_to_who_holds_it() {
    // The other limit has no runs, so the record is read with each request.
    let limits = [rate("rate", SECOND, 1_000), rate("other", 1_000, 31)];
    let mut proxy = Proxy::new(1, 0);
    for _ in 0..333 {
        assert!(proxy.ask(0, &limits, 1));
        proxy.advance(1_000);
    }
    for key in proxy.workers[0].0.shared_keys() {
        if key.ends_with(b"/tenant/acme") {
            proxy.workers[0].0.overwrite_shared(&key, b"something else");
        }
    }
    let passed = (0..1_100).filter(|_| {
        proxy.advance(1_000);
        proxy.ask(0, &limits, 1)
    });
    assert_eq!(
        passed.count(),
        667,
        "the slots after those held are not given out anew"
    );
}

#[test]
fn effects_tell_how_many_records_there_are() {
    let limits = [rate("rate", SECOND, 10)];
    // One row.
    let mut proxy = Proxy::new(2, 16);
    let (mut records, mut shared, mut taken) = (2_i64, 0, 0);
    let mut effects = |proxy: &Proxy, worker: usize| {
        let effects = proxy.workers[worker].1.take_effects();
        records += i64::from(effects.new_record) - i64::from(effects.gone_records);
        shared += u32::from(effects.shared_record);
        taken += effects.contended;
        records
    };
    for worker in 0..2 {
        proxy.workers[worker].1.take_effects();
    }
    for n in 0..40 {
        let tenant = id(&format!("tenant-{n}"));
        proxy.charge(
            n % 2,
            Account::Unlisted {
                id: &tenant,
                tier: "free",
            },
            of(&limits),
            1,
        );
        effects(&proxy, n % 2);
    }
    assert_eq!(
        effects(&proxy, 0),
        2 + 24 + 1,
        "two listed ones, a row, and the shared record"
    );
    proxy.advance(10 * SECOND);
    let tenant = id("somebody");
    proxy.charge(
        0,
        Account::Unlisted {
            id: &tenant,
            tier: "free",
        },
        of(&limits),
        1,
    );
    assert_eq!(effects(&proxy, 0), 2 + 1 + 1, "all of the row were at rest");
    assert_eq!((shared, taken), (16, 0));
    assert_eq!(proxy.workers[0].1.take_effects(), Effects::default());
}
