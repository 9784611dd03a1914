//! Limits that are settled by responses, against a model that keeps one number for each tenant, limit and window: equal to it, whatever worker is asked, and
//! never further in debt than requests in flight may bring it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod proxy;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proxy::{Model, Proxy, SECOND, admitted, config, id, of, rate, standings};
use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::{Account, Decision, Effects, Failure, Ledger, Limits};
use tenant_rate_limit::limit::{Kind, Limit, Subset};
use tenant_rate_limit::settle::{Bill, Receipt, Settled, Source, Unsettled};
use tollgate_host::HostError;
use tollgate_host::memory::{Call, MemoryHost};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MINUTE: u64 = 60 * SECOND;

fn settled(name: &str, quota: u64, window: Window, estimate: u64, max: u64) -> Limit {
    Limit::new(name, Kind::Quota { quota, window }).settled_by(Settled {
        estimate,
        max,
        source: Source::Header("x-units".to_owned()),
        scale: 1,
        strip: false,
        unsettled: Unsettled::Max,
    })
}

/// A request that was admitted and is not settled yet.
#[derive(Clone, Debug)]
struct InFlight {
    tenant: usize,
    receipts: Vec<Receipt>,
    /// By limit, the window in which it was charged.
    windows: Vec<u64>,
}

/// What is known of quotas whose units responses tell.
struct Quotas {
    limits: Vec<(u64, Window, u64, u64)>,
    /// By tenant and limit, the window and the units in it.
    used: BTreeMap<(usize, usize), (u64, u64)>,
}

impl Quotas {
    fn new(limits: &[Limit]) -> Self {
        let limits = limits.iter().map(|limit| {
            let settled = limit.settled.as_ref().unwrap();
            match limit.kind {
                Kind::Quota { quota, window } => (quota, window, settled.estimate, settled.max),
                Kind::Rate { .. } => panic!("a quota"),
            }
        });
        Self {
            limits: limits.collect(),
            used: BTreeMap::new(),
        }
    }

    fn units(&self, tenant: usize, limit: usize, utc: u64) -> u64 {
        let number = self.limits[limit].1.number(utc);
        match self.used.get(&(tenant, limit)) {
            Some((of, units)) if *of == number => *units,
            _ => 0,
        }
    }

    fn set(&mut self, tenant: usize, limit: usize, utc: u64, units: u64) {
        let number = self.limits[limit].1.number(utc);
        self.used.insert((tenant, limit), (number, units));
    }

    fn passes(&self, tenant: usize, utc: u64) -> bool {
        (0..self.limits.len()).all(|limit| {
            let (quota, _, estimate, _) = self.limits[limit];
            self.units(tenant, limit, utc) + estimate <= quota
        })
    }

    fn charge(&mut self, tenant: usize, utc: u64) -> Vec<u64> {
        for limit in 0..self.limits.len() {
            let units = self.units(tenant, limit, utc) + self.limits[limit].2;
            self.set(tenant, limit, utc, units);
        }
        self.limits
            .iter()
            .map(|limit| limit.1.number(utc))
            .collect()
    }

    fn settle(&mut self, tenant: usize, limit: usize, charged_in: u64, actual: u64, utc: u64) {
        let (_, window, estimate, _) = self.limits[limit];
        let units = self.units(tenant, limit, utc);
        if actual > estimate {
            self.set(tenant, limit, utc, units + actual - estimate);
        } else if window.number(utc) == charged_in {
            self.set(tenant, limit, utc, units - (estimate - actual));
        }
    }
}

fn settle(
    (host, ledger): &mut (MemoryHost, Ledger),
    receipts: &mut [Receipt],
    actual: impl Fn(usize) -> u64,
) -> Result<(), Failure> {
    for receipt in receipts {
        let bills: Vec<Bill> = receipt.due(|owed| Some(actual(owed.limit)));
        ledger.settle(receipt, &bills, host)?;
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    /// A request of a tenant to a worker.
    Ask(usize, usize),
    /// The response to one in flight, at a worker, with so much of the most in percent.
    Settle(usize, usize, u64),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let time = prop_oneof![4 => 0..SECOND / 10, 2 => 0..2 * SECOND, 1 => 0..2 * MINUTE];
    let step = prop_oneof![
        3 => (0_usize..4, 0_usize..4).prop_map(|(tenant, worker)| Step::Ask(tenant, worker)),
        2 => (any::<usize>(), 0_usize..4, 0_u64..=100).prop_map(|(which, worker, percent)| Step::Settle(which, worker, percent)),
    ];
    proptest::collection::vec((time, step), 1..200)
}

fn quotas() -> impl Strategy<Value = Vec<Limit>> {
    let limit = (1_u64..200, 0_u64..400, 0_u64..4_000, 0_usize..3);
    proptest::collection::vec(limit, 1..4).prop_map(|limits| {
        let limits = limits.into_iter().enumerate();
        limits
            .map(|(n, (estimate, over, quota, window))| {
                settled(
                    &format!("limit-{n}"),
                    quota.max(estimate),
                    Window::ALL[window],
                    estimate,
                    estimate + over,
                )
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(config(300))]

    /// Tenants that are not listed share a row. Beside what is settled there may be a rate, which refuses by itself.
    #[test]
    fn settled_limits_equal_the_model(
        quotas in quotas(),
        paced in any::<bool>(),
        listed in any::<bool>(),
        workers in 1_usize..5,
        steps in steps(),
    ) {
        let mut limits = quotas.clone();
        if paced {
            limits.push(rate("rate", SECOND / 10, 3));
        }
        let mut model = Quotas::new(&quotas);
        let mut rates: Vec<Model> = (0..4).map(|_| Model::new(&limits[quotas.len()..])).collect();
        let mut proxy = Proxy::new(workers, 1);
        let mut in_flight: Vec<InFlight> = Vec::new();
        // By tenant, how many were in flight when one was last admitted.
        let mut most = [0_u64; 4];
        for (time, step) in steps {
            proxy.advance(time);
            let now = proxy.now();
            match step {
                Step::Ask(tenant, worker) => {
                    let name = id(&format!("tenant-{tenant}"));
                    let account = match listed {
                        true => Account::Listed(&name),
                        false => Account::Unlisted { id: &name, tier: "free" },
                    };
                    let worker = worker % workers;
                    // What the route costs counts where nothing is settled.
                    let decision = proxy.charge(worker, account, of(&limits), 1);
                    let expected = model.passes(tenant, now.utc) && rates[tenant].limits.iter().all(|limit| rates[tenant].passes(limit, 1, now));
                    prop_assert_eq!(admitted(&decision), expected, "{:?}", decision);
                    let receipts = proxy.workers[worker].1.take_receipts();
                    prop_assert_eq!(receipts.is_empty(), !expected);
                    if expected {
                        rates[tenant].ask(1, now);
                        let windows = model.charge(tenant, now.utc);
                        in_flight.push(InFlight { tenant, receipts, windows });
                        most[tenant] = in_flight.iter().filter(|other| other.tenant == tenant).count() as u64;
                        for (limit, standing) in standings(&decision).iter().enumerate().take(quotas.len()) {
                            prop_assert_eq!(standing.remaining, quotas[limit].kind.units() - model.units(tenant, limit, now.utc));
                        }
                    } else if let Decision::Refused { by, standings } = decision {
                        for index in by.into_iter().filter(|index| *index < quotas.len()) {
                            let left = quotas[index].kind.units().saturating_sub(model.units(tenant, index, now.utc));
                            prop_assert_eq!(standings[index].remaining, left, "a refusal is by what the record has");
                        }
                    }
                }
                Step::Settle(which, worker, percent) => {
                    if in_flight.is_empty() {
                        continue;
                    }
                    let InFlight { tenant, mut receipts, windows } = in_flight.swap_remove(which % in_flight.len());
                    let actual = |limit: usize| model.limits[limit].3 * percent / 100;
                    let actual: Vec<u64> = (0..quotas.len()).map(actual).collect();
                    settle(&mut proxy.workers[worker % workers], &mut receipts, |limit| actual[limit]).unwrap();
                    prop_assert!(receipts.iter().all(|receipt| receipt.owed.is_empty()));
                    for limit in 0..quotas.len() {
                        model.settle(tenant, limit, windows[limit], actual[limit], now.utc);
                    }
                }
            }
            for (tenant, most) in most.iter().enumerate() {
                for (limit, (quota, _, estimate, max)) in model.limits.iter().enumerate() {
                    let debt = model.units(tenant, limit, now.utc).saturating_sub(*quota);
                    prop_assert!(debt <= (max - estimate) * most, "{debt} with {most}");
                }
            }
        }
        prop_assert!(proxy.workers[0].0.shared_keys().iter().filter(|key| key.starts_with(b"trl/")).count() <= 1);
    }

    /// Those in shadow are settled likewise, each by itself, and take nothing away from those that are enforced.
    #[test]
    fn what_is_in_shadow_is_settled_if_it_was_charged(
        quotas in quotas(),
        shadow in any::<u32>(),
        steps in steps(),
    ) {
        let shadow = Subset::of(0..32, |index| shadow >> index & 1 == 1);
        let part = |without| Limits { tenant: &quotas, without, ..Limits::default() };
        let mut models: Vec<Quotas> = quotas.iter().map(|limit| Quotas::new(std::slice::from_ref(limit))).collect();
        let mut proxy = Proxy::new(1, 1);
        let mut in_flight: Vec<InFlight> = Vec::new();
        let name = id("acme");
        for (time, step) in steps {
            proxy.advance(time);
            let utc = proxy.now().utc;
            let (host, ledger) = &mut proxy.workers[0];
            match step {
                Step::Ask(..) => {
                    let account = Account::Unlisted { id: &name, tier: "free" };
                    let (decision, _) = ledger.charge_and_watch(account, part(shadow), part(shadow.others()), 1, host).unwrap();
                    let mut enforced = (0..quotas.len()).filter(|index| !shadow.has(*index));
                    let expected = enforced.all(|index| models[index].passes(0, utc));
                    prop_assert_eq!(admitted(&decision), expected);
                    let receipts = ledger.take_receipts();
                    let mut charged: Vec<usize> = receipts.iter().flat_map(|receipt| &receipt.owed).map(|owed| owed.limit).collect();
                    charged.sort_unstable();
                    let passing: Vec<usize> = (0..quotas.len()).filter(|index| expected && models[*index].passes(0, utc)).collect();
                    prop_assert_eq!(&charged, &passing);
                    let windows = (0..quotas.len()).map(|index| models[index].limits[0].1.number(utc)).collect();
                    for index in charged {
                        models[index].charge(0, utc);
                    }
                    in_flight.push(InFlight { tenant: 0, receipts, windows });
                }
                Step::Settle(which, _, percent) => {
                    if in_flight.is_empty() {
                        continue;
                    }
                    let InFlight { mut receipts, windows, .. } = in_flight.swap_remove(which % in_flight.len());
                    for receipt in &receipts {
                        for owed in &receipt.owed {
                            let model = &mut models[owed.limit];
                            let actual = model.limits[0].3 * percent / 100;
                            model.settle(0, 0, windows[owed.limit], actual, utc);
                        }
                    }
                    settle(&mut proxy.workers[0], &mut receipts, |limit| models[limit].limits[0].3 * percent / 100).unwrap();
                }
            }
        }
    }
}

/// A tenant with one quota of 1,000 units a minute: 100 when admitted, 900 at most.
fn tokens() -> [Limit; 1] {
    [settled("tokens", 1_000, Window::Minute, 100, 900)]
}

fn ask(proxy: &mut Proxy, worker: usize, limits: &[Limit]) -> Option<Vec<Receipt>> {
    let passes = proxy.ask(worker, limits, 1);
    let receipts = proxy.workers[worker].1.take_receipts();
    assert_eq!(passes, !receipts.is_empty());
    passes.then_some(receipts)
}

/// How often a tenant still passes, without being settled.
fn left(proxy: &mut Proxy, limits: &[Limit]) -> usize {
    (0..)
        .take_while(|_| ask(proxy, 0, limits).is_some())
        .count()
}

#[test]
fn a_debt_delays_until_the_window_ends_and_ends_with_it() {
    let mut proxy = Proxy::new(2, 0);
    let limits = tokens();
    let mut all: Vec<Vec<Receipt>> = (0..10)
        .map(|n| ask(&mut proxy, n % 2, &limits).unwrap())
        .collect();
    assert!(ask(&mut proxy, 0, &limits).is_none());
    for receipts in &mut all {
        settle(&mut proxy.workers[1], receipts, |_| 900).unwrap();
    }
    // 9,000 units of 1,000: all ten that were in flight were at their most. It is said to the end of the window.
    proxy.advance(29 * SECOND);
    let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&limits), 1);
    assert_eq!(standings(&decision)[0].remaining, 0);
    assert!(ask(&mut proxy, 1, &limits).is_none());
    proxy.advance(MINUTE);
    assert_eq!(left(&mut proxy, &limits), 10);
}

#[test]
fn what_is_given_back_lets_others_pass_at_every_worker_at_once() {
    let mut proxy = Proxy::new(2, 0);
    let limits = tokens();
    let mut first = ask(&mut proxy, 0, &limits).unwrap();
    assert_eq!(left(&mut proxy, &limits), 9);
    // Both have seen that nothing is left.
    assert!(ask(&mut proxy, 0, &limits).is_none() && ask(&mut proxy, 1, &limits).is_none());
    settle(&mut proxy.workers[1], &mut first, |_| 0).unwrap();
    assert!(ask(&mut proxy, 0, &limits).is_some());
    assert!(ask(&mut proxy, 1, &limits).is_none());
}

#[test]
fn after_its_window_nothing_is_given_back_and_what_is_more_is_charged_to_the_next() {
    for (actual, passes) in [(0, 10), (100, 10), (101, 9), (900, 2)] {
        let mut proxy = Proxy::new(1, 0);
        let limits = tokens();
        let mut first = ask(&mut proxy, 0, &limits).unwrap();
        proxy.advance(MINUTE);
        settle(&mut proxy.workers[0], &mut first, |_| actual).unwrap();
        assert_eq!(left(&mut proxy, &limits), passes, "{actual}");
    }
}

#[test]
fn of_a_tenant_without_a_record_of_its_own_the_shared_one_is_settled() {
    let mut proxy = Proxy::new(1, 1);
    let limits = tokens();
    // The row of all has 24 records.
    let names: Vec<_> = (0..26).map(|n| id(&format!("tenant-{n}"))).collect();
    let mut receipts: Vec<Vec<Receipt>> = Vec::new();
    for name in &names {
        let account = Account::Unlisted {
            id: name,
            tier: "free",
        };
        assert!(admitted(&proxy.charge(0, account, of(&limits), 1)));
        receipts.push(proxy.workers[0].1.take_receipts());
    }
    assert!(proxy.workers[0].1.take_effects().shared_record);
    settle(&mut proxy.workers[0], &mut receipts[24], |_| 900).unwrap();
    // 1,000 of 1,000 in the shared record, and of the others 100 as before.
    let mut remaining = |name: &str| {
        let (name, limits) = (id(name), tokens());
        let account = Account::Unlisted {
            id: &name,
            tier: "free",
        };
        standings(&proxy.charge(0, account, of(&limits), 1))[0].remaining
    };
    assert_eq!(remaining("tenant-26"), 0);
    assert_eq!(remaining("tenant-7"), 800);
    // A record that is no tenant's is not counted as one, also by what comes late.
    proxy.workers[0].1.take_effects();
    proxy.advance(MINUTE);
    settle(&mut proxy.workers[0], &mut receipts[25], |_| 900).unwrap();
    assert_eq!(proxy.workers[0].1.take_effects(), Effects::default());
}

#[test]
fn who_is_at_rest_and_finds_no_room_is_not_charged_in_the_place_of_others() {
    let mut proxy = Proxy::new(1, 1);
    let limits = tokens();
    let name = id("first");
    let account = Account::Unlisted {
        id: &name,
        tier: "free",
    };
    assert!(admitted(&proxy.charge(0, account, of(&limits), 1)));
    let mut first = proxy.workers[0].1.take_receipts();
    proxy.advance(MINUTE);
    for n in 0..24 {
        let name = id(&format!("tenant-{n}"));
        let account = Account::Unlisted {
            id: &name,
            tier: "free",
        };
        assert!(admitted(&proxy.charge(0, account, of(&limits), 1)));
    }
    let before = proxy.calls(Call::SetShared);
    settle(&mut proxy.workers[0], &mut first, |_| 900).unwrap();
    assert_eq!(proxy.calls(Call::SetShared), before);
    for n in 0..24 {
        let name = id(&format!("tenant-{n}"));
        let account = Account::Unlisted {
            id: &name,
            tier: "free",
        };
        let decision = proxy.charge(0, account, of(&limits), 1);
        assert_eq!(standings(&decision)[0].remaining, 800);
    }
}

#[test]
fn a_settlement_survives_a_change_of_numbers_and_finds_its_limit() {
    let mut proxy = Proxy::new(1, 0);
    let before = [
        settled("tokens", 1_000, Window::Day, 100, 900),
        settled("rows", 50, Window::Day, 5, 50),
    ];
    let mut receipts = ask(&mut proxy, 0, &before).unwrap();
    proxy.configure(0);
    // Another order, other numbers.
    let after = [
        settled("rows", 60, Window::Day, 6, 60),
        settled("tokens", 2_000, Window::Day, 200, 900),
    ];
    settle(&mut proxy.workers[0], &mut receipts, |limit| {
        [700, 50][limit]
    })
    .unwrap();
    let decision = proxy.charge(0, Account::Listed(&id("acme")), of(&after), 1);
    let remaining: Vec<u64> = standings(&decision)
        .iter()
        .map(|standing| standing.remaining)
        .collect();
    assert_eq!(remaining, [60 - 50 - 6, 2_000 - 700 - 200]);
    // What counts requests is another limit than what counts tokens, whatever its name is.
    let requests = [Limit::new(
        "tokens",
        Kind::Quota {
            quota: 10,
            window: Window::Day,
        },
    )];
    assert!(proxy.ask(0, &requests, 10));
}

#[test]
fn a_settlement_that_is_as_estimated_costs_no_call_and_any_other_three() {
    let mut proxy = Proxy::new(1, 0);
    let limits = tokens();
    for (actual, expected) in [(100, [0, 0, 0]), (99, [1, 1, 1])] {
        let mut receipts = ask(&mut proxy, 0, &limits).unwrap();
        proxy.workers[0].0.reset_calls();
        settle(&mut proxy.workers[0], &mut receipts, |_| actual).unwrap();
        assert_eq!(
            [Call::Shared, Call::SetShared, Call::Now].map(|call| proxy.calls(call)),
            expected
        );
        assert_eq!(proxy.calls(Call::Monotonic), 0);
    }
}

thread_local! {
    /// A worker that is faster, and how often.
    static RIVAL: RefCell<Option<(MemoryHost, Ledger, u32)>> = const { RefCell::new(None) };
}

fn interfere(_key: &[u8]) {
    RIVAL.with_borrow_mut(|rival| {
        let Some((host, ledger, times @ 1..)) = rival else {
            return;
        };
        *times -= 1;
        let account = id("acme");
        let decision = ledger.charge(Account::Listed(&account), of(&tokens()), 1, host);
        assert!(admitted(&decision.unwrap()));
    });
}

#[test]
fn a_settlement_that_another_worker_overtakes_is_made_all_the_same() {
    let mut proxy = Proxy::new(2, 0);
    let limits = tokens();
    let mut slow = ask(&mut proxy, 0, &limits).unwrap();
    // While the first reads, the other admits three times.
    RIVAL.set(proxy.workers.pop().map(|(host, ledger)| (host, ledger, 3)));
    proxy.workers[0].0.after_shared(interfere);
    settle(&mut proxy.workers[0], &mut slow, |_| 500).unwrap();
    assert_eq!(proxy.workers[0].1.take_effects().contended, 3);
    // 500 and three times 100 are used.
    assert_eq!(left(&mut proxy, &limits), 2);
}

#[test]
fn a_late_settlement_brings_no_old_mode_back() {
    let limits = tokens();
    let mut host = MemoryHost::new();
    // One place: who finds nobody there but a tenant whose limits are in shadow takes it.
    let ledger = Ledger::open("plugin", 1, &mut host).unwrap();
    let charge = |name: &str, shadow: bool, host: &mut MemoryHost| {
        let name = id(name);
        let account = Account::Unlisted {
            id: &name,
            tier: "free",
        };
        let limits = of(&limits);
        match shadow {
            true => {
                let none = Limits::default();
                let charged = ledger.charge_and_watch(account, none, limits, 1, host);
                assert!(admitted(&charged.unwrap().0));
            }
            false => assert!(admitted(&ledger.charge(account, limits, 1, host).unwrap())),
        }
        ledger.take_receipts()
    };
    // Charged in shadow, and settled when the limit is enforced and has been charged so.
    let mut slow = charge("acme", true, &mut host);
    charge("acme", false, &mut host);
    let mut worker = (host, ledger.clone());
    settle(&mut worker, &mut slow, |_| 500).unwrap();
    let (mut host, _) = worker;
    // As many others as there are places find them taken, but for theirs.
    ledger.take_effects();
    for n in 0..23 {
        charge(&format!("other-{n}"), false, &mut host);
    }
    assert!(!ledger.take_effects().shared_record);
    charge("one-more", false, &mut host);
    assert!(ledger.take_effects().shared_record, "acme has its place");
}

#[test]
fn a_settlement_that_cannot_be_made_says_so() {
    let mut proxy = Proxy::new(1, 0);
    let limits = tokens();
    let mut receipts = ask(&mut proxy, 0, &limits).unwrap();
    proxy.workers[0]
        .0
        .fail(Call::SetShared, HostError::Status(10));
    assert_eq!(
        settle(&mut proxy.workers[0], &mut receipts, |_| 500),
        Err(Failure::Proxy(HostError::Status(10)))
    );
    proxy.workers[0].0.heal(Call::SetShared);
    assert_eq!(left(&mut proxy, &limits), 9, "the estimate stays");
}
