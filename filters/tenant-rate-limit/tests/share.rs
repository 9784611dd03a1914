//! How tenants share a total, on a fake clock, beside an ideal weighted max-min allocation.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tenant_rate_limit::limit::Now;
use tenant_rate_limit::share::{Asked, Party, Shares, Total, Verdict};
use tenant_rate_limit::stock::Workers;
use tenant_rate_limit::table::Table;
use tollgate_common::TenantId;
use tollgate_host::Host;
use tollgate_host::memory::{Call, MemoryHost};

mod proxy;

use proxy::{SECOND, config, never_too_many};

const MILLISECOND: u64 = 1_000_000;

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(most)) >> 64) as u64
    }

    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Worker {
    host: MemoryHost,
    shares: Shares,
    workers: Workers,
}

struct Proxy {
    total: Total,
    table: Table,
    workers: Vec<Worker>,
    contended: u32,
    /// When requests have passed, and what they cost.
    passed: Vec<(u64, u64)>,
}

#[derive(Clone, Debug)]
struct Tenant {
    id: Option<TenantId>,
    weight: u64,
    /// Units a second.
    demand: f64,
    /// What it has not sent of that.
    owed: f64,
    /// What its requests cost: all the same, or up to that.
    costs: (u64, bool),
    /// What the next one does.
    next: u64,
    asked: u64,
    passed: u64,
    /// Since when it has been refused, on the clock, and the longest that it was until something passed.
    waits: Option<u64>,
    longest: u64,
}

impl Tenant {
    fn new(name: usize, weight: u64, demand: f64) -> Self {
        Self {
            id: Some(TenantId::normalise(format!("t{name}").as_bytes()).unwrap()),
            weight,
            demand,
            owed: 0.0,
            costs: (1, false),
            next: 1,
            asked: 0,
            passed: 0,
            waits: None,
            longest: 0,
        }
    }

    /// Forgets what has been counted.
    fn forget(&mut self) {
        (self.asked, self.passed, self.waits, self.longest) = (0, 0, None, 0);
    }

    /// Counts a request.
    fn count(&mut self, cost: u64, passes: bool, at: u64) {
        self.asked += cost;
        let since = *self.waits.get_or_insert(at);
        if passes {
            self.passed += cost;
            self.waits = None;
        }
        self.longest = self.longest.max(at - since);
    }
}

impl Proxy {
    fn new(workers: usize, total: Total) -> Self {
        let host = MemoryHost::new();
        let table = Table::new("plugin", 0, [0; 16]);
        let workers = (0..workers)
            .map(|_| {
                let mut host = host.worker();
                let mut workers = Workers::default();
                workers.register(|| table.workers_key(), &mut host);
                Worker {
                    host,
                    shares: Shares::default(),
                    workers,
                }
            })
            .collect();
        Self {
            total,
            table,
            workers,
            contended: 0,
            passed: Vec::new(),
        }
    }

    fn ask(&mut self, worker: usize, tenant: Option<&TenantId>, weight: u64, cost: u64) -> Verdict {
        let worker = &mut self.workers[worker];
        let now = Now {
            monotonic: worker.host.monotonic(),
            utc: 0,
        };
        let mut asked = Asked {
            total: &self.total,
            table: &self.table,
            workers: &mut worker.workers,
            contended: &mut self.contended,
        };
        let party = Party { tenant, weight };
        worker
            .shares
            .admit(&mut asked, party, cost, now, &mut worker.host)
            .unwrap()
    }

    fn advance(&self, by: u64) {
        self.workers[0].host.advance(by);
    }

    /// Tenants send what they want for some milliseconds.
    fn run(&mut self, tenants: &mut [Tenant], milliseconds: u64, dice: &mut Dice) {
        for _ in 0..milliseconds {
            let mut requests = Vec::new();
            for (index, tenant) in tenants.iter_mut().enumerate() {
                tenant.owed += tenant.demand / 1000.0 * 2.0 * dice.part();
                while tenant.owed >= tenant.next as f64 {
                    tenant.owed -= tenant.next as f64;
                    requests.push((dice.below(MILLISECOND), index, tenant.next));
                    tenant.next = match tenant.costs {
                        (1, _) => 1,
                        (most, true) => 1 + dice.below(most),
                        (most, false) => most,
                    };
                }
            }
            requests.sort();
            let mut at = 0;
            for (when, index, cost) in requests {
                self.advance(when - at);
                at = when;
                let worker = dice.below(self.workers.len() as u64) as usize;
                let tenant = &mut tenants[index];
                let passes =
                    self.ask(worker, tenant.id.as_ref(), tenant.weight, cost) == Verdict::Passes;
                let now = self.workers[0].host.monotonic();
                tenant.count(cost, passes, now);
                if passes {
                    self.passed.push((now, cost));
                }
            }
            self.advance(MILLISECOND - at);
        }
    }

    fn shared_calls(&self) -> u64 {
        let calls = |call| -> u64 { self.workers.iter().map(|w| w.host.calls(call)).sum() };
        calls(Call::Shared) + calls(Call::SetShared)
    }
}

/// The weighted max-min allocation of `total` by pouring water: the level rises until nobody wants more or nothing is left.
fn ideal(tenants: &[Tenant], total: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..tenants.len()).collect();
    let need = |index: &usize| tenants[*index].demand / tenants[*index].weight as f64;
    order.sort_by(|a, b| need(a).total_cmp(&need(b)));
    let mut allocation = vec![0.0; tenants.len()];
    let mut left = total;
    let mut weights: f64 = tenants.iter().map(|tenant| tenant.weight as f64).sum();
    for index in order {
        let tenant = &tenants[index];
        let share = left * tenant.weight as f64 / weights;
        allocation[index] = tenant.demand.min(share);
        left -= allocation[index];
        weights -= tenant.weight as f64;
    }
    allocation
}

/// A tenant's share: what that allocation would give it if it wanted everything.
fn share(tenants: &[Tenant], index: usize, total: f64) -> f64 {
    let mut tenants = tenants.to_vec();
    tenants[index].demand = total;
    ideal(&tenants, total)[index]
}

/// What tenants may want in a phase, as parts of the total: nothing, little, something and very much.
fn demand() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.02..0.2_f64, 0.2..1.0_f64, 1.0..4.0_f64]
}

/// What a request of a tenant costs at most, as a part of the reserve.
fn cost() -> impl Strategy<Value = f64> {
    prop_oneof![2 => Just(0.0), 1 => 0.0..0.1_f64]
}

proptest! {
    #![proptest_config(config(if cfg!(target_arch = "wasm32") { 10 } else { 100 }))]

    /// What holds of every total, for every number of workers, whoever wants how much:
    ///
    /// - never more passes than a rate allows;
    /// - from a second after a change of demands on, over two seconds each tenant gets what an ideal weighted max-min allocation gives it,
    ///   to a twentieth of that, a hundredth of what passes in all, and one unit and two of the largest requests;
    /// - who wants no more than four fifths of its share, and sends it evenly, is not refused, also not in that second if the same was true before.
    ///
    /// Requests cost up to a tenth of the reserve.
    #[test]
    fn tenants_share_as_an_ideal_would(
        rate in prop_oneof![40..400_u64, 400..4_000_u64],
        seconds in prop_oneof![0.25..2.0_f64, 2.0..30.0_f64],
        workers in 1..5_usize,
        others in prop_oneof![Just(0_u64), 1..10_000_u64],
        tenants in proptest::collection::vec((1..10_u64, [demand(), demand(), demand()], cost(), any::<bool>()), 1..8),
        seed in 1..u64::MAX,
    ) {
        let weights = tenants.iter().map(|(weight, ..)| *weight);
        let (lightest, all) = (weights.clone().min().unwrap(), weights.sum::<u64>() + others);
        let burst = ((rate as f64 * seconds) as u64).max(10);
        let interval = SECOND / rate;
        let mut proxy = Proxy::new(workers, Total::new(interval, burst, lightest, all));
        let mut dice = Dice(seed);
        let total = SECOND as f64 / interval as f64;
        let mut running: Vec<Tenant> = tenants.iter().enumerate()
            .map(|(index, (weight, _, part, uneven))| {
                // At least one, and at most that part of the reserve.
                let cost = (part * (burst as f64 / 2.0).min((rate as f64 / 2.0).max(16.0))) as u64;
                Tenant { costs: (cost.max(1), *uneven), ..Tenant::new(index, *weight, 0.0) }
            }).collect();
        for phase in 0..3 {
            let before = running.clone();
            for (tenant, (_, demands, ..)) in running.iter_mut().zip(&tenants) {
                tenant.demand = demands[phase] * total;
                (tenant.asked, tenant.passed) = (0, 0);
            }
            let ideal = ideal(&running, total);
            let modest = |tenants: &[Tenant], with: &[Tenant], when: &str| {
                for (index, (tenant, with_it)) in tenants.iter().zip(with).enumerate() {
                    let share = share(tenants, index, total).min(share(with, index, total));
                    // What comes in pieces of different sizes comes unevenly.
                    let (most, uneven) = tenant.costs;
                    let evenly = !uneven || most as f64 <= 0.05 * share;
                    if evenly && tenant.demand.max(with_it.demand) <= 0.8 * share {
                        assert_eq!(tenant.passed, tenant.asked, "phase {phase}, {when}, tenant {index} of {tenants:?}, ideal {ideal:?}, before {with:?}");
                    }
                }
            };
            proxy.run(&mut running, if phase == 0 { 2_000 } else { 1_000 }, &mut dice);
            modest(&running, &before, "at first");
            for tenant in &mut running {
                (tenant.asked, tenant.passed) = (0, 0);
            }
            proxy.run(&mut running, 2_000, &mut dice);
            modest(&running, &running, "then");
            // Where the burst was used up in the first second, nobody lives on it any more.
            let wanted: f64 = running.iter().map(|tenant| tenant.demand).sum();
            let largest = running.iter().map(|tenant| tenant.costs.0).max().unwrap();
            let dry = wanted > total + burst as f64;
            for (index, (tenant, ideal)) in running.iter().zip(&ideal).enumerate() {
                // Of what it really asked for.
                let ideal = (2.0 * ideal).min(tenant.asked as f64);
                let more = tenant.passed as f64 - ideal;
                let most = 0.05 * ideal + 0.02 * total + 1.0 + 2.0 * largest as f64;
                prop_assert!(-more <= most && (!dry || more <= most), "phase {phase}, tenant {index}: {} in place of {ideal} of {running:?}", tenant.passed);
            }
        }
        prop_assert_eq!(never_too_many(&proxy.passed, interval, burst, 1), Ok(()));
    }
}

/// 1,000 a second of which a flooding tenant has all while another one, of the same weight, is idle. Told is when each has what is its own, in hundredths of a second.
#[test]
fn an_idle_share_is_lent_and_taken_back_within_a_second() {
    for workers in 1..5 {
        let mut proxy = Proxy::new(workers, Total::new(MILLISECOND, 1_000, 1, 2));
        let mut dice = Dice(3);
        let mut tenants = vec![Tenant::new(0, 1, 4_000.0), Tenant::new(1, 1, 0.0)];
        proxy.run(&mut tenants, 3_000, &mut dice);
        // The first slice of a tenth of a second from which on each has had four fifths of what it should or more, until a second and a half is over.
        let mut settles = |tenants: &mut Vec<Tenant>, share: [f64; 2]| {
            let mut since = 0;
            for slice in 1..=15 {
                for tenant in tenants.iter_mut() {
                    tenant.passed = 0;
                }
                proxy.run(tenants, 100, &mut dice);
                let has = |index: usize| tenants[index].passed as f64 >= 80.0 * share[index];
                if !(has(0) && has(1)) {
                    since = slice;
                }
            }
            since * 100
        };
        tenants[1].demand = 4_000.0;
        let taken_back = settles(&mut tenants, [0.5, 0.5]);
        tenants[1].demand = 0.0;
        let lent = settles(&mut tenants, [1.0, 0.0]);
        assert!(taken_back <= 500, "{workers} workers: {taken_back} ms");
        assert!(lent <= 500, "{workers} workers: {lent} ms");
    }
}

/// The level is never right for long here, but it is the same for all.
#[test]
fn while_others_come_and_go_the_rest_is_shared_by_weight() {
    for workers in 1..5 {
        let mut proxy = Proxy::new(workers, Total::new(MILLISECOND, 1_000, 1, 14));
        let mut dice = Dice(5);
        let mut tenants = vec![
            Tenant::new(0, 3, 4_000.0),
            Tenant::new(1, 1, 4_000.0),
            Tenant::new(2, 10, 0.0),
        ];
        proxy.run(&mut tenants, 2_000, &mut dice);
        for tenant in &mut tenants {
            tenant.passed = 0;
        }
        for turn in 0..20 {
            tenants[2].demand = if turn % 2 == 0 { 4_000.0 } else { 0.0 };
            proxy.run(&mut tenants, 300, &mut dice);
        }
        let [three, one] = [0, 1].map(|index: usize| tenants[index].passed as f64);
        assert!(
            (2.85..3.15).contains(&(three / one)),
            "{workers} workers: {three} and {one}"
        );
    }
}

#[test]
fn while_half_of_the_burst_is_free_a_worker_with_a_run_asks_nobody() {
    let mut proxy = Proxy::new(2, Total::new(MILLISECOND, 1_000, 1, 2));
    let mut dice = Dice(1);
    let mut tenants = vec![Tenant::new(0, 1, 600.0), Tenant::new(1, 1, 200.0)];
    proxy.run(&mut tenants, 2_000, &mut dice);
    for worker in &proxy.workers {
        worker.host.reset_calls();
    }
    proxy.run(&mut tenants, 1_000, &mut dice);
    // Runs of up to a sixteenth of the burst, divided by the number of workers, each for two calls; and no tenant's record at all.
    assert!(
        proxy.shared_calls() < 150,
        "{} calls for 800 requests",
        proxy.shared_calls()
    );
    let mut keys = proxy.workers[0].host.shared_keys();
    keys.retain(|key| !key.ends_with(b"/workers"));
    assert_eq!(keys, [proxy.table.total_key()]);
}

#[test]
fn what_is_refused_writes_nothing_and_is_mostly_refused_without_a_look() {
    let mut proxy = Proxy::new(2, Total::new(MILLISECOND, 1_000, 1, 2));
    let mut dice = Dice(1);
    let mut tenants = vec![Tenant::new(0, 1, 20_000.0), Tenant::new(1, 1, 500.0)];
    proxy.run(&mut tenants, 2_000, &mut dice);
    for worker in &proxy.workers {
        worker.host.reset_calls();
    }
    for tenant in &mut tenants {
        (tenant.asked, tenant.passed) = (0, 0);
    }
    proxy.run(&mut tenants, 1_000, &mut dice);
    let passed: u64 = tenants.iter().map(|tenant| tenant.passed).sum();
    assert!(passed < 1_050, "{passed}");
    // Two for the total and two for a share, if nothing is held; and each worker looks 200 times a second.
    assert!(
        proxy.shared_calls() < 4 * passed + 400,
        "{} calls",
        proxy.shared_calls()
    );
    let worker = &proxy.workers[0].host;
    worker.reset_calls();
    for _ in 0..1_000 {
        while proxy.ask(0, tenants[0].id.as_ref(), 1, 1) == Verdict::Passes {}
        proxy.workers[0].host.reset_calls();
        assert_ne!(proxy.ask(0, tenants[0].id.as_ref(), 1, 1), Verdict::Passes);
        assert_eq!(proxy.workers[0].host.calls(Call::SetShared), 0);
        proxy.advance(MILLISECOND);
    }
}

#[test]
fn what_costs_more_counts_for_more() {
    let mut proxy = Proxy::new(1, Total::new(MILLISECOND, 1_000, 1, 2));
    assert!(matches!(proxy.ask(0, None, 1, 1_001), Verdict::Never(_)));
    // Twice as often what costs half as much.
    let ids = [1, 2].map(|name| Tenant::new(name, 1, 0.0).id);
    let mut spent = [0_u64; 2];
    for turn in 0..60_000 {
        for (index, cost) in [(0, 5), (1, 10)] {
            let passes = proxy.ask(0, ids[index].as_ref(), 1, cost) == Verdict::Passes;
            if passes && turn >= 20_000 {
                spent[index] += cost;
            }
        }
        proxy.advance(MILLISECOND / 10);
    }
    let [five, ten] = spent;
    assert!(five.abs_diff(ten) < 100 && five + ten > 3_900, "{spent:?}");
}

/// Two workers look at a tenant's share at the same time, and there is enough for one of them.
#[test]
fn who_loses_a_race_for_a_share_costs_the_total_nothing() {
    let mut proxy = Proxy::new(2, Total::new(MILLISECOND, 1_000, 1, 2));
    let [acme, globex] = [0, 1].map(|name| Tenant::new(name, 1, 0.0).id);
    // Of the total, the units that are given out, and of these those that nobody had.
    let given = |proxy: &Proxy| {
        let pool = proxy.workers[0].host.shared(&proxy.table.total_key());
        let arrival = &pool.unwrap().unwrap().bytes[1..9];
        u64::from_le_bytes(arrival.try_into().unwrap()) / MILLISECOND
    };
    let (mut lost, mut passed, mut begun) = (0, 0, 0);
    for turn in 0..20_000 {
        proxy.advance(MILLISECOND / 2);
        if turn == 4_000 {
            (lost, passed, begun) = (0, 0, given(&proxy));
        }
        let first = Proxy {
            total: proxy.total.clone(),
            table: proxy.table.clone(),
            workers: vec![proxy.workers.pop().unwrap()],
            contended: 0,
            passed: Vec::new(),
        };
        let other = Arc::new(Mutex::new((first, 0)));
        let (share, shared) = (proxy.table.share_key(acme.as_ref()), other.clone());
        proxy.workers[0].host.after_shared(move |key| {
            if key == share
                && let Ok(mut shared) = shared.try_lock()
            {
                while shared.0.ask(0, acme.as_ref(), 1, 1) == Verdict::Passes {
                    shared.1 += 1;
                }
            }
        });
        // Both have a run of the total, so neither need look at that.
        let verdict = proxy.ask(0, acme.as_ref(), 1, 1);
        proxy.workers[0].host.after_shared(|_| {});
        let (mut other, taken) = Arc::into_inner(other).unwrap().into_inner().unwrap();
        proxy.workers.push(other.workers.pop().unwrap());
        lost += u64::from(taken > 0 && verdict != Verdict::Passes);
        passed += taken + u64::from(verdict == Verdict::Passes);
        for worker in [0, 1] {
            passed += u64::from(proxy.ask(worker, globex.as_ref(), 1, 1) == Verdict::Passes);
        }
    }
    // Workers held some when this began, and hold some now.
    let unused = (given(&proxy) - begun).cast_signed() - passed.cast_signed();
    assert!(
        lost >= 500 && unused.abs() <= 16,
        "{lost} races lost, and {unused} of {passed}"
    );
}

#[test]
fn records_that_are_lost_start_anew() {
    let mut proxy = Proxy::new(2, Total::new(MILLISECOND, 1_000, 1, 2));
    let mut dice = Dice(9);
    let mut tenants = vec![Tenant::new(0, 1, 4_000.0), Tenant::new(1, 1, 4_000.0)];
    let host = proxy.workers[0].host.worker();
    for garbage in [&b""[..], b"something else", &[1; 33], &[255; 16]] {
        for ending in [&b"/total"[..], b"/t0"] {
            proxy.run(&mut tenants, 1_000, &mut dice);
            for key in host.shared_keys() {
                if key.ends_with(ending) {
                    host.overwrite_shared(&key, garbage);
                }
            }
            proxy.run(&mut tenants, 1_000, &mut dice);
            for tenant in &mut tenants {
                tenant.passed = 0;
            }
            proxy.run(&mut tenants, 1_000, &mut dice);
            for tenant in &tenants {
                assert!(
                    (450..=550).contains(&tenant.passed),
                    "{garbage:?} in {ending:?}: {tenants:?}"
                );
            }
        }
    }
}

#[test]
fn with_new_numbers_the_total_goes_on() {
    let mut proxy = Proxy::new(2, Total::new(MILLISECOND, 1_000, 1, 2));
    let mut dice = Dice(9);
    let mut tenants = vec![Tenant::new(0, 1, 4_000.0), Tenant::new(1, 1, 4_000.0)];
    proxy.run(&mut tenants, 2_000, &mut dice);
    // Twice as much, and the second tenant counts for three.
    proxy.total = Total::new(MILLISECOND / 2, 1_000, 1, 4);
    tenants[1].weight = 3;
    proxy.run(&mut tenants, 1_000, &mut dice);
    for tenant in &mut tenants {
        tenant.passed = 0;
    }
    proxy.run(&mut tenants, 1_000, &mut dice);
    let passed = [0, 1].map(|index: usize| tenants[index].passed);
    assert!(
        (450..=550).contains(&passed[0]) && (1_425..=1_575).contains(&passed[1]),
        "{passed:?}"
    );
}

/// What a tenant was ahead by while it had everything would take it four seconds at the share that it has now.
#[test]
fn who_had_more_does_not_wait_for_long_when_others_come() {
    for workers in 1..5 {
        let mut proxy = Proxy::new(workers, Total::new(10 * MILLISECOND, 100, 1, 21));
        let mut dice = Dice(11);
        let mut tenants = vec![
            Tenant::new(0, 1, 400.0),
            Tenant::new(1, 10, 0.0),
            Tenant::new(2, 10, 0.0),
        ];
        proxy.run(&mut tenants, 3_000, &mut dice);
        for tenant in &mut tenants[1..] {
            tenant.demand = 400.0;
        }
        proxy.run(&mut tenants, 1_000, &mut dice);
        tenants[0].passed = 0;
        proxy.run(&mut tenants, 2_000, &mut dice);
        // 9.5 of 200.
        let passed = tenants[0].passed;
        assert!((7..=12).contains(&passed), "{workers} workers: {passed}");
    }
}

/// What a tenant is like in a proxy whose tenants send large requests, too: its weight, by how many times its weight's part of the total it wants more, and what its requests cost, as a
/// part of the most that may be saved.
fn large_or_small() -> impl Strategy<Value = (u64, f64, f64, bool)> {
    let modest = (1..5_u64, 0.1..0.8_f64).prop_map(|(weight, wants)| (weight, wants, 0.0, false));
    let cost = prop_oneof![Just(0.0), 0.0..0.1_f64, 0.1..1.0_f64];
    let flooding = (1..5_u64, Just(f64::INFINITY), cost, any::<bool>());
    prop_oneof![1 => modest, 2 => flooding]
}

proptest! {
    #![proptest_config(config(if cfg!(target_arch = "wasm32") { 4 } else { 60 }))]

    /// What holds of requests of every cost, up to the burst less a quarter of the reserve, beside each other and beside small ones, while the total is scarce:
    ///
    /// - never more passes than a rate allows;
    /// - each tenant gets what an ideal weighted max-min allocation gives it, to a twentieth of that, a fiftieth of what passes in all, and twice its largest request;
    /// - who asks all the time waits no longer than its largest request takes at its share, and a tenth of that, half a second, and as long as the largest request of all takes at the shares of those together who send large ones;
    /// - who sends small requests, and no more than four fifths of its share, is not refused, and where requests
    ///   cost more than the burst less the reserve it is one of ten at most.
    #[test]
    fn large_requests_have_their_share_and_take_no_other(
        rate in 40..400_u64,
        seconds in 0.25..5.0_f64,
        workers in 1..5_usize,
        others in prop_oneof![Just(0_u64), 1..1_000_u64],
        tenants in proptest::collection::vec(large_or_small(), 1..8),
        seed in 1..u64::MAX,
    ) {
        let weights: u64 = tenants.iter().map(|(weight, ..)| *weight).sum();
        // One more floods, so that the total is scarce.
        let lightest = tenants.iter().map(|(weight, ..)| *weight).min().unwrap().min(2);
        let all = weights + 2 + others;
        let burst = ((rate as f64 * seconds) as u64).max(10);
        let interval = SECOND / rate;
        let total = SECOND as f64 / interval as f64;
        let reserve = (burst as f64 / 2.0).min((rate as f64 / 2.0).max(16.0));
        let mut dice = Dice(seed);
        let mut running: Vec<Tenant> = tenants.iter().enumerate()
            .map(|(index, (weight, wants, part, uneven))| {
                let cost = ((part * (burst as f64 - reserve / 4.0)) as u64).max(1);
                let share = total * *weight as f64 / (weights + 2) as f64;
                // Who floods asks at least 50 times a second.
                let demand = (wants * share).min((4.0 * total).max(50.0 * cost as f64));
                Tenant { costs: (cost, *uneven), ..Tenant::new(index, *weight, demand) }
            }).collect();
        running.push(Tenant::new(running.len(), 2, 4.0 * total));
        let mut proxy = Proxy::new(workers, Total::new(interval, burst, lightest, all));
        let takes = |index: usize| running[index].costs.0 as f64 / share(&running, index, total);
        let slowest = (0..running.len()).map(takes).fold(0.0, f64::max);
        let seconds = (2.0 + 10.0 * slowest) as u64;
        // Until the burst is used up, and all have had one.
        proxy.run(&mut running, 3_000 + (2_000.0 * slowest) as u64, &mut dice);
        running.iter_mut().for_each(Tenant::forget);
        proxy.run(&mut running, 1_000 * seconds, &mut dice);
        let ideal = ideal(&running, total);
        let largest = running.iter().map(|tenant| tenant.costs.0).max().unwrap() as f64;
        // Who is due with others waits until as much as they take has been saved again, by all of them.
        let save = (0..running.len()).filter(|index| 16.0 * running[*index].costs.0 as f64 > reserve);
        let saved: f64 = save.map(|index| share(&running, index, total)).sum();
        let late = largest / if saved > 0.0 { saved } else { total };
        for (index, (tenant, ideal)) in running.iter().zip(&ideal).enumerate() {
            let of = format!("tenant {index} in {seconds} s of {total} and {burst}: {running:?}");
            let own = tenant.costs.0 as f64;
            let ideal = (seconds as f64 * ideal).min(tenant.asked as f64);
            let most = 0.05 * ideal + 0.02 * seconds as f64 * total + 2.0 * own;
            prop_assert!((tenant.passed as f64 - ideal).abs() <= most, "{ideal} are ideal for {of}");
            let waits = tenant.longest as f64 / SECOND as f64;
            let share = share(&running, index, total);
            prop_assert!(waits <= 1.1 * own / share + 0.5 + late, "{waits} s were waited by {of}");
            if tenant.demand <= 0.8 * share {
                let refused = tenant.asked - tenant.passed;
                let allowed = if largest <= burst as f64 - reserve { 0 } else { 1 + tenant.asked / 10 };
                prop_assert!(refused <= allowed, "{refused} were refused of {of}");
            }
        }
        prop_assert_eq!(never_too_many(&proxy.passed, interval, burst, 1), Ok(()));
    }
}

/// A flooding tenant has the total when another one asks for a large part of the burst, comes back when it was told to and is served: each second time it asks.
#[test]
fn who_comes_back_with_a_large_request_when_it_was_told_to_is_served() {
    for workers in 1..5 {
        let mut proxy = Proxy::new(workers, Total::new(MILLISECOND, 1_000, 1, 2));
        let mut dice = Dice(7);
        let mut flood = [Tenant::new(0, 1, 4_000.0)];
        let acme = Tenant::new(1, 1, 0.0).id;
        proxy.run(&mut flood, 3_000, &mut dice);
        // When it was told to, or later by as much again, as the most jitter makes it.
        for later in [1, 1, 2, 2, 1, 1] {
            let (mut asks, begun) = (0, proxy.workers[0].host.monotonic());
            while let Verdict::Waits(standing) = proxy.ask(asks % workers, acme.as_ref(), 1, 600) {
                asks += 1;
                let seconds = standing.more_in.div_ceil(SECOND);
                proxy.run(&mut flood, 1_000 * seconds * later, &mut dice);
            }
            let waited = (proxy.workers[0].host.monotonic() - begun) / SECOND;
            // 600 at 500 a second, in whole seconds. While it asks for the first time the level is twice as high as when it comes back.
            assert!(
                asks <= 2 && waited <= 2 * later,
                "{workers} workers: {asks} asks, {waited} s"
            );
        }
    }
}

/// What is saved for whoever does not come back costs the others that once, and then they have everything.
#[test]
fn what_is_saved_for_whoever_does_not_come_back_is_free_again() {
    let mut proxy = Proxy::new(2, Total::new(MILLISECOND, 1_000, 1, 2));
    let mut dice = Dice(7);
    let mut flood = [Tenant::new(0, 1, 4_000.0)];
    let acme = Tenant::new(1, 1, 0.0).id;
    let record = |proxy: &Proxy| {
        let record = proxy.workers[0].host.shared(&proxy.table.total_key());
        record.unwrap().unwrap().bytes.len()
    };
    proxy.run(&mut flood, 3_000, &mut dice);
    assert_eq!(record(&proxy), 33);
    assert_ne!(proxy.ask(0, acme.as_ref(), 1, 600), Verdict::Passes);
    assert_eq!(record(&proxy), 33 + 8 + 48);
    let passed = |proxy: &mut Proxy, flood: &mut [Tenant], dice: &mut Dice| {
        flood.iter_mut().for_each(Tenant::forget);
        proxy.run(flood, 1_500, dice);
        flood[0].passed
    };
    let saving = passed(&mut proxy, &mut flood, &mut dice);
    let saved = passed(&mut proxy, &mut flood, &mut dice);
    assert!((900..=1_050).contains(&saving), "{saving}");
    assert!((1_480..=1_520).contains(&saved), "{saved}");
    // It was told to come back in 1.2 seconds.
    let gone = passed(&mut proxy, &mut flood, &mut dice);
    let after = passed(&mut proxy, &mut flood, &mut dice);
    assert_eq!(record(&proxy), 33);
    assert!(
        (3_450..=3_650).contains(&(gone + after)),
        "{gone} and {after}"
    );
}

/// Far more tenants save than there are places.
#[test]
fn many_with_large_requests_take_turns() {
    for workers in [1, 4] {
        let mut proxy = Proxy::new(workers, Total::new(MILLISECOND, 1_000, 1, 41));
        let mut dice = Dice(7);
        let mut tenants: Vec<Tenant> = (0..40)
            .map(|index| Tenant {
                costs: (400, false),
                ..Tenant::new(index, 1, 20_000.0)
            })
            .collect();
        tenants.push(Tenant::new(40, 1, 4_000.0));
        proxy.run(&mut tenants, 20_000, &mut dice);
        tenants.iter_mut().for_each(Tenant::forget);
        proxy.run(&mut tenants, 200_000, &mut dice);
        // 40 of 41 parts of 200,000, and each in turn a part of 16.4 seconds.
        for tenant in &tenants[..40] {
            assert!(
                (3_600..=5_600).contains(&tenant.passed) && tenant.longest < 50 * SECOND,
                "{workers} workers: {tenants:?}"
            );
        }
    }
}

#[test]
fn a_large_request_that_is_refused_writes_seldom() {
    let mut proxy = Proxy::new(2, Total::new(MILLISECOND, 1_000, 1, 2));
    let mut dice = Dice(1);
    let mut tenants = [0, 1].map(|name| Tenant {
        costs: (600, false),
        ..Tenant::new(name, 1, 600_000.0)
    });
    proxy.run(&mut tenants, 3_000, &mut dice);
    for worker in &proxy.workers {
        worker.host.reset_calls();
    }
    tenants.iter_mut().for_each(Tenant::forget);
    proxy.run(&mut tenants, 12_000, &mut dice);
    let [asked, passed] = [
        tenants.iter().map(|tenant| tenant.asked).sum::<u64>() / 600,
        tenants.iter().map(|tenant| tenant.passed).sum::<u64>() / 600,
    ];
    let calls = |call| -> u64 { proxy.workers.iter().map(|w| w.host.calls(call)).sum() };
    assert!(
        asked > 23_000 && (19..=21).contains(&passed),
        "{passed} of {asked}"
    );
    // Two for each that passes, and one or two a second for each claim.
    let written = calls(Call::SetShared);
    assert!(written < 2 * passed + 48, "{written}");
    // Each worker looks 200 times a second, as for small ones.
    let read = calls(Call::Shared);
    assert!(read < 2 * 200 * 12 * 2, "{read}");
}

/// Also if it asks for much and then for less while the level falls: the claim is that of the larger one, which is due later.
#[test]
fn a_smaller_request_behind_a_large_one_writes_seldom() {
    let mut proxy = Proxy::new(1, Total::new(MILLISECOND, 2_000, 1, 10));
    let mut dice = Dice(3);
    let mut floods: Vec<Tenant> = (1..10)
        .map(|index| Tenant::new(index, 1, 20_000.0))
        .collect();
    let saver = Tenant::new(0, 1, 0.0).id;
    let mut most = 0;
    for round in 0..400 {
        proxy.run(&mut floods, 5, &mut dice);
        let cost = if round % 40 == 0 { 400 } else { 100 };
        let before = proxy.workers[0].host.calls(Call::SetShared);
        proxy.ask(0, saver.as_ref(), 1, cost);
        let written = proxy.workers[0].host.calls(Call::SetShared) - before;
        most = most.max(written);
    }
    // If it passes, the total's record and its share; if not, what it saves for.
    assert!(most <= 2, "{most} writes for one request");
}

/// They ask for more than the total can ever have while it is scarce, and so never let go.
#[test]
fn requests_that_never_pass_keep_no_other_from_saving() {
    for stuck in [0, 15, 16, 40] {
        let mut proxy = Proxy::new(1, Total::new(MILLISECOND, 1_000, 1, 5 + stuck));
        let mut dice = Dice(5);
        let mut tenants: Vec<Tenant> = (0..4).map(|index| Tenant::new(index, 1, 4_000.0)).collect();
        tenants.push(Tenant {
            costs: (100, false),
            ..Tenant::new(4, 1, 10_000.0)
        });
        tenants.extend((0..stuck as usize).map(|index| Tenant {
            costs: (1_000, false),
            ..Tenant::new(5 + index, 1, 2_000.0)
        }));
        proxy.run(&mut tenants, 20_000, &mut dice);
        tenants.iter_mut().for_each(Tenant::forget);
        proxy.run(&mut tenants, 100_000, &mut dice);
        // At least half of what it had if all of them had their share.
        let share = 100_000 / (5 + stuck);
        assert!(
            tenants[4].passed >= share / 2,
            "{} of {share} beside {stuck}",
            tenants[4].passed
        );
    }
}

/// Two workers note what two tenants save for at the same time.
#[test]
fn who_loses_a_race_for_a_place_among_those_who_save_tries_again() {
    let mut proxy = Proxy::new(2, Total::new(MILLISECOND, 1_000, 1, 3));
    let mut dice = Dice(1);
    let mut flood = [Tenant::new(0, 1, 4_000.0)];
    proxy.run(&mut flood, 3_000, &mut dice);
    let [acme, globex] = [1, 2].map(|name| Tenant::new(name, 1, 0.0).id);
    let other = Proxy {
        total: proxy.total.clone(),
        table: proxy.table.clone(),
        workers: vec![proxy.workers.pop().unwrap()],
        contended: 0,
        passed: Vec::new(),
    };
    let other = Arc::new(Mutex::new(other));
    let (total, shared) = (proxy.table.total_key(), other.clone());
    // Each time that the one has read the total, the other writes it: with its own claim, and then with a larger one.
    let cost = Mutex::new(600);
    proxy.workers[0].host.after_shared(move |key| {
        let mut cost = cost.lock().unwrap();
        if key == total
            && *cost < 900
            && let Ok(mut other) = shared.try_lock()
        {
            assert_ne!(other.ask(0, globex.as_ref(), 1, *cost), Verdict::Passes);
            *cost += 100;
        }
    });
    assert_ne!(proxy.ask(0, acme.as_ref(), 1, 500), Verdict::Passes);
    proxy.workers[0].host.after_shared(|_| {});
    assert!(proxy.contended >= 2, "{}", proxy.contended);
    let record = proxy.workers[0].host.shared(&proxy.table.total_key());
    assert_eq!(record.unwrap().unwrap().bytes.len(), 33 + 8 + 2 * 48);
    let other = Arc::into_inner(other).unwrap().into_inner().unwrap();
    proxy.workers.extend(other.workers);
    // A third of the total each: the one in 1.5 seconds, and the other in 2.4 or, as it has raised its claim, somewhat more.
    for (who, cost, within) in [(&acme, 500, 2_000), (&globex, 800, 3_500)] {
        let mut passed = None;
        for millisecond in 0..within {
            if passed.is_none() && proxy.ask(0, who.as_ref(), 1, cost) == Verdict::Passes {
                passed = Some(millisecond);
            }
            proxy.run(&mut flood, 1, &mut dice);
        }
        assert!(passed.is_some(), "{cost} did not pass in {within} ms");
    }
}
