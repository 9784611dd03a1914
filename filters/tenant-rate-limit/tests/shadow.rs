//! Limits in shadow: they change nothing of what becomes of requests, and count what each of them would if it alone was enforced.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod proxy;

use proptest::prelude::*;
use proxy::{
    DAY, Model, Proxy, SECOND, admitted, config, id, kind, never_too_many, rate, standings,
};
use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::{Account, Decision, Limits, Watched, Weighed};
use tenant_rate_limit::limit::{Kind, Limit, Mode, Share, Subset};
use tenant_rate_limit::share::{Total, Verdict};
use tollgate_host::HostError;
use tollgate_host::memory::Call;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    proptest::collection::vec(kind(), 1..5).prop_map(|kinds| {
        let kinds = kinds.into_iter().enumerate();
        kinds
            .map(|(n, kind)| Limit::new(&format!("limit-{n}"), kind))
            .collect()
    })
}

fn step() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..5_000, 4 => 0..2 * SECOND, 1 => 0..DAY]
}

fn quota(name: &str, quota: u64) -> Limit {
    let window = Window::Day;
    Limit::new(name, Kind::Quota { quota, window })
}

/// A tenant's limits, those of them in shadow that have a bit.
fn split(limits: &[Limit], shadow: u32) -> (Limits<'_>, Limits<'_>) {
    let shadow = Subset::of(0..32, |index| shadow >> index & 1 == 1);
    let without = |without| Limits {
        tenant: limits,
        without,
        ..Limits::default()
    };
    (without(shadow), without(shadow.others()))
}

fn watch(
    proxy: &mut Proxy,
    worker: usize,
    account: Account<'_>,
    (enforced, shadow): (Limits<'_>, Limits<'_>),
    cost: u64,
) -> (Decision, Option<Decision>) {
    let (decision, watched) = watch_all(proxy, worker, account, (enforced, shadow), cost);
    let watched = watched.map(|watched| watched.limits);
    (decision, watched.filter(|_| !shadow.is_empty()))
}

fn watch_all(
    proxy: &mut Proxy,
    worker: usize,
    account: Account<'_>,
    (enforced, shadow): (Limits<'_>, Limits<'_>),
    cost: u64,
) -> (Decision, Option<Watched>) {
    let (host, ledger) = &mut proxy.workers[worker];
    ledger
        .charge_and_watch(account, enforced, shadow, cost, host)
        .unwrap()
}

fn chosen<'a>(limits: Limits<'a>) -> Vec<Limit> {
    limits.iter().cloned().collect()
}

proptest! {
    #![proptest_config(config(300))]

    /// Which are in shadow may change from request to request, as with new configurations: what was used stays used.
    #[test]
    fn requests_fare_as_without_them_and_each_counts_as_if_it_alone_was_enforced(
        limits in limits(),
        shadow in any::<u32>(),
        workers in 1_usize..4,
        requests in proptest::collection::vec((step(), 0_usize..4, prop_oneof![4 => Just(1_u64), 1 => 1_u64..14]), 1..100),
    ) {
        let (enforced, in_shadow) = split(&limits, shadow);
        let (mut with, mut without) = (Proxy::new(workers, 0), Proxy::new(workers, 0));
        let mut alone: Vec<Model> = in_shadow.iter().map(|limit| Model::new(std::slice::from_ref(limit))).collect();
        let account = id("acme");
        let account = Account::Listed(&account);
        for (time, worker, cost) in requests {
            with.advance(time);
            without.advance(time);
            let worker = worker % workers;
            let (decision, watched) = watch(&mut with, worker, account, (enforced, in_shadow), cost);
            let expected = without.charge(worker, account, enforced, cost);
            prop_assert_eq!(&decision, &expected);
            if !admitted(&decision) || alone.is_empty() {
                prop_assert_eq!(watched, None, "whoever is refused is shown to no limit in shadow");
                continue;
            }
            let watched = watched.unwrap();
            let now = with.now();
            let expected: Vec<usize> = alone.iter_mut().enumerate().filter_map(|(index, model)| (!model.ask(cost, now)).then_some(index)).collect();
            let told = standings(&watched);
            prop_assert_eq!(told.len(), alone.len());
            for (model, standing) in alone.iter().zip(told) {
                prop_assert!(workers > 1 || !model.passes(&model.limits[0], standing.remaining + 1, now));
            }
            match watched {
                Decision::Admitted { .. } => prop_assert_eq!(expected, Vec::<usize>::new()),
                Decision::Refused { by, .. } | Decision::TooCostly { by, .. } => prop_assert_eq!(by, expected),
                Decision::Scarce { .. } => prop_assert!(false, "there is no total"),
            }
        }
    }

    /// With limits that are large enough for runs: all the same without chance, and a limit in shadow lets no more pass than if it was enforced.
    #[test]
    fn runs_of_limits_in_shadow_are_as_exact(
        requests in proptest::collection::vec((0..SECOND / 50, 0_usize..3), 100..800),
        interval in SECOND / 2_000..SECOND / 100,
        burst in 64_u64..400,
    ) {
        let limits = [rate("enforced", SECOND / 1_500, 300), rate("shadow", interval, burst), quota("daily", 200)];
        let (enforced, in_shadow) = split(&limits, 0b110);
        let (mut with, mut without) = (Proxy::new(3, 0), Proxy::new(3, 0));
        let (mut passed, mut of_the_day) = (Vec::new(), 0);
        let account = id("acme");
        let account = Account::Listed(&account);
        for (time, worker) in requests {
            // Some at once.
            let time = if time < SECOND / 100 { 0 } else { time / 10 };
            with.advance(time);
            without.advance(time);
            let (decision, watched) = watch(&mut with, worker, account, (enforced, in_shadow), 1);
            prop_assert_eq!(&decision, &without.charge(worker, account, enforced, 1));
            let Some(watched) = watched else { continue };
            let by = match &watched {
                Decision::Refused { by, .. } => by.as_slice(),
                _ => &[],
            };
            if !by.contains(&0) {
                passed.push((with.now().monotonic, 1));
            }
            of_the_day += u64::from(!by.contains(&1));
        }
        prop_assert_eq!(never_too_many(&passed, interval, burst, 1), Ok(()));
        prop_assert!(of_the_day <= 200);
    }

    /// Tenants that are not listed share rows: limits in shadow, which remember for longer, take no place from others.
    #[test]
    fn limits_in_shadow_take_no_other_tenant_s_place(
        requests in proptest::collection::vec((0_usize..60, 0..SECOND / 4), 100..600),
    ) {
        let limits = [rate("rate", SECOND, 3), quota("daily", 2)];
        let split = split(&limits, 0b10);
        // One row, of 24 records.
        let (mut with, mut without) = (Proxy::new(1, 1), Proxy::new(1, 1));
        for (tenant, time) in requests {
            with.advance(time);
            without.advance(time);
            let name = id(&format!("tenant-{tenant}"));
            let account = Account::Unlisted { id: &name, tier: "free" };
            let (decision, watched) = watch(&mut with, 0, account, split, 1);
            prop_assert_eq!(&decision, &without.charge(0, account, split.0, 1));
            prop_assert_eq!(watched.is_some(), admitted(&decision));
        }
        let row = |proxy: &Proxy| {
            let keys = proxy.workers[0].0.shared_keys();
            keys.into_iter().filter(|key| key.starts_with(b"trl/")).count()
        };
        prop_assert_eq!(row(&with), row(&without));
    }

    /// Of two tenants, one of them in shadow for the total and one not: what becomes of the first is the same without a total, and of what passes the total says
    /// to both what it says where it is enforced for both.
    #[test]
    fn a_total_in_shadow_says_what_it_would_do(
        requests in proptest::collection::vec((0..SECOND / 50, 0_usize..3, any::<bool>(), prop_oneof![4 => Just(1_u64), 1 => 1_u64..30]), 100..500),
        interval in SECOND / 1_000..SECOND / 20,
        burst in 16_u64..200,
    ) {
        let total = Total::new(interval, burst, 1, 3);
        let limits = [rate("rate", SECOND / 50, 20)];
        let none = Limits { tenant: &limits, ..Limits::default() };
        let no_shadows = Limits { without: Subset::NONE.others(), ..none };
        let (mut with, mut without, mut enforced) = (Proxy::new(3, 0), Proxy::new(3, 0), Proxy::new(3, 0));
        for (time, worker, in_shadow, cost) in requests {
            for proxy in [&with, &without, &enforced] {
                proxy.advance(time);
            }
            let total = Some(Weighed { total: &total, weight: if in_shadow { 1 } else { 2 } });
            let name = id(if in_shadow { "watched" } else { "acme" });
            let account = Account::Listed(&name);
            let (enforces, shadow) = match in_shadow {
                true => (none, Limits { total, ..no_shadows }),
                false => (Limits { total, ..none }, no_shadows),
            };
            let (decision, watched) = watch_all(&mut with, worker, account, (enforces, shadow), cost);
            if !in_shadow {
                prop_assert_eq!(decision, enforced.charge(worker, account, enforces, cost));
                continue;
            }
            prop_assert_eq!(&decision, &without.charge(worker, account, none, cost));
            prop_assert_eq!(watched.is_some(), admitted(&decision));
            let Some(watched) = watched else { continue };
            let told = match enforced.charge(worker, account, Limits { total, ..Limits::default() }, cost) {
                Decision::Scarce { total, never: false, .. } => Verdict::Waits(total),
                Decision::Scarce { total, never: true, .. } => Verdict::Never(total),
                _ => Verdict::Passes,
            };
            prop_assert_eq!(watched.total, told);
        }
    }

    #[test]
    fn a_share_is_sticky_and_grows(share in 0_u64..=100, more in 0_u64..=100, salt in "[a-z]{1,8}", tenants in proptest::collection::vec("[a-z0-9.-]{1,20}", 1..50)) {
        let mode = |share| Mode::Shadow(Share { share, out_of: 100, salt: salt.clone() });
        let (few, many) = (mode(share.min(more)), mode(share.max(more)));
        for tenant in tenants {
            let tenant = id(&tenant);
            prop_assert!(few.is_shadow(&tenant) || !many.is_shadow(&tenant), "whoever is in stays in");
            prop_assert!(mode(0).is_shadow(&tenant) && !mode(100).is_shadow(&tenant));
            prop_assert!(!Mode::Enforce.is_shadow(&tenant));
        }
    }
}

#[test]
fn a_share_is_as_large_as_it_says() {
    let mode = Mode::Shadow(Share {
        share: 25,
        out_of: 100,
        salt: "rate".to_owned(),
    });
    let tenants = (0..10_000).map(|n| id(&format!("tenant-{n}")));
    let enforced = tenants.filter(|tenant| !mode.is_shadow(tenant)).count();
    assert!((2_300..2_700).contains(&enforced), "{enforced}");
}

#[test]
fn what_was_counted_in_shadow_is_used_when_the_limit_is_enforced_and_the_other_way_round() {
    let limits = [quota("daily", 10)];
    let account = id("acme");
    let account = Account::Listed(&account);
    let mut proxy = Proxy::new(2, 0);
    for n in 0..7 {
        let (decision, watched) = watch(&mut proxy, n % 2, account, split(&limits, 1), 1);
        assert!(admitted(&decision) && watched.is_some_and(|watched| admitted(&watched)));
    }
    proxy.configure(0);
    let enforced = (0..10).filter(|n| proxy.ask(n % 2, &limits, 1)).count();
    assert_eq!(enforced, 3);
    proxy.configure(0);
    for n in 0..4 {
        let (decision, watched) = watch(&mut proxy, n % 2, account, split(&limits, 1), 1);
        assert!(admitted(&decision));
        let refused = matches!(watched, Some(Decision::Refused { by, .. }) if by == [0]);
        assert!(refused, "it was used up");
    }
}

#[test]
fn limits_in_shadow_refuse_nobody_when_shared_data_does_not_work() {
    let limits = [rate("rate", SECOND, 5), quota("daily", 10)];
    let account = id("acme");
    let account = Account::Listed(&account);
    for call in [Call::Shared, Call::SetShared] {
        let mut proxy = Proxy::new(1, 0);
        proxy.workers[0].0.fail(call, HostError::Status(10));
        let (decision, watched) = watch(&mut proxy, 0, account, split(&limits, 0b11), 1);
        assert!(admitted(&decision) && watched.is_none());
        let (host, ledger) = &mut proxy.workers[0];
        let (enforced, shadow) = split(&limits, 0b10);
        let charged = ledger.charge_and_watch(account, enforced, shadow, 1, host);
        assert!(charged.is_err(), "what is enforced is charged or refused");
    }
}

#[test]
fn an_index_among_those_that_are_enforced_is_one_among_all() {
    let limits: Vec<Limit> = (0..4).map(|n| quota(&format!("limit-{n}"), 1)).collect();
    let (enforced, shadow) = split(&limits, 0b101);
    assert_eq!([0, 1].map(|index| enforced.place(index)), [1, 3]);
    assert_eq!(
        [2, 3].map(|index| enforced.place(index)),
        [4, 5],
        "and what is counted on, behind all"
    );
    assert_eq!([0, 1].map(|index| shadow.place(index)), [0, 2]);
}

#[test]
fn what_a_request_in_shadow_costs() {
    let limits = [rate("rate", SECOND, 50), quota("daily", 10)];
    let account = id("acme");
    let account = Account::Listed(&account);
    let mut proxy = Proxy::new(1, 0);
    let calls = |proxy: &Proxy| {
        [Call::Shared, Call::SetShared, Call::Monotonic, Call::Now].map(|call| proxy.calls(call))
    };
    watch(&mut proxy, 0, account, split(&limits, 0b10), 1);
    assert_eq!(calls(&proxy), [2, 2, 1, 1], "a record each");
    proxy.workers[0].0.reset_calls();
    watch(&mut proxy, 0, account, split(&limits, 0), 1);
    assert_eq!(calls(&proxy), [1, 1, 1, 1], "and none without shadows");
    assert_eq!(chosen(split(&limits, 0b10).0), limits[..1]);
}
