//! What a request was charged that does not pass after all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod proxy;

use std::cell::RefCell;

use proxy::{Proxy, SECOND, admitted, id, of};
use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::{Account, Decision, Failure, Ledger, Limits, Weighed};
use tenant_rate_limit::limit::{Kind, Limit};
use tenant_rate_limit::share::Total;
use tollgate_host::HostError;
use tollgate_host::memory::{Call, MemoryHost};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const COST: u64 = 5;

/// Lets one request of [`COST`] pass.
fn once() -> [Limit; 1] {
    let kind = Kind::Quota {
        quota: COST,
        window: Window::Month,
    };
    [Limit::new("once", kind)]
}

fn beside<'a>(total: &'a Total, limits: &'a [Limit]) -> Limits<'a> {
    Limits {
        total: Some(Weighed { total, weight: 1 }),
        ..of(limits)
    }
}

thread_local! {
    /// A worker that is faster at the record of a tenant, once.
    static RIVAL: RefCell<Option<(MemoryHost, Ledger, String)>> = const { RefCell::new(None) };
}

fn interfere(key: &[u8]) {
    let name = RIVAL.with_borrow(|rival| rival.as_ref().map(|(.., name)| name.clone()));
    let Some(name) = name.filter(|name| !name.is_empty() && key.ends_with(name.as_bytes())) else {
        return;
    };
    RIVAL.with_borrow_mut(|rival| {
        let Some((host, ledger, next)) = rival else {
            return;
        };
        next.clear();
        let charged = ledger.charge(Account::Listed(&id(&name)), of(&once()), COST, host);
        assert!(admitted(&charged.unwrap()));
    });
}

/// How many requests of cost 1 the total lets one more tenant pass now.
fn left(proxy: &mut Proxy, total: &Total) -> u64 {
    let mut passed = 0;
    let other = id("somebody-else");
    while admitted(&proxy.charge(0, Account::Listed(&other), beside(total, &[]), 1)) {
        passed += 1;
    }
    passed
}

#[test]
fn what_its_own_limit_refuses_is_not_charged_to_the_total() {
    let total = Total::new(SECOND, 1_000, 1, 2);
    let mut untouched = Proxy::new(2, 0);
    assert!(admitted(&untouched.charge(
        0,
        Account::Listed(&id("first")),
        beside(&total, &[]),
        1
    )));
    let expected = left(&mut untouched, &total);

    let mut proxy = Proxy::new(2, 0);
    assert!(admitted(&proxy.charge(
        0,
        Account::Listed(&id("first")),
        beside(&total, &[]),
        1
    )));
    RIVAL.set(
        proxy
            .workers
            .pop()
            .map(|(host, ledger)| (host, ledger, String::new())),
    );
    proxy.workers[0].0.after_shared(interfere);
    for n in 0..40 {
        let name = format!("late-{n}");
        RIVAL.with_borrow_mut(|rival| rival.as_mut().unwrap().2.clone_from(&name));
        let limits = once();
        let decision = proxy.charge(
            0,
            Account::Listed(&id(&name)),
            beside(&total, &limits),
            COST,
        );
        assert!(matches!(decision, Decision::Refused { .. }), "{decision:?}");
        assert_eq!(
            proxy.workers[0].1.take_effects().contended,
            1,
            "it was too late"
        );
    }
    // Nor what could not be charged.
    for n in 0..40 {
        let name = id(&format!("unlucky-{n}"));
        let limits = once();
        let host = &mut proxy.workers[0].0;
        host.fail(Call::SetShared, HostError::Status(10));
        let charged = proxy.try_charge(0, Account::Listed(&name), beside(&total, &limits), COST);
        assert_eq!(charged, Err(Failure::Proxy(HostError::Status(10))));
        proxy.workers[0].0.heal(Call::SetShared);
    }
    assert_eq!(left(&mut proxy, &total), expected);
}
