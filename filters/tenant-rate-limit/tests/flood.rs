//! Ten million invented ids: what they get, and what it costs in memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod proxy;

use proxy::{DAY, Proxy, admitted, id, of, rate};
use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::Account;
use tenant_rate_limit::limit::{Kind, Limit};
use tenant_rate_limit::table;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn daily(quota: u64) -> [Limit; 1] {
    [Limit::new(
        "daily",
        Kind::Quota {
            quota,
            window: Window::Day,
        },
    )]
}

fn unlisted(proxy: &mut Proxy, tenant: &str, limits: &[Limit]) -> bool {
    let account = Account::Unlisted {
        id: &id(tenant),
        tier: "free",
    };
    admitted(&proxy.charge(0, account, of(limits), 1))
}

#[test]
fn ten_million_invented_ids_get_no_more_than_the_table_holds() {
    const IDS: u32 = if cfg!(target_arch = "wasm32") {
        1_000_000
    } else {
        10_000_000
    };
    let limits = daily(10);
    let mut proxy = Proxy::new(1, 1_600);
    let listed = [rate("rate", 1_000_000, 2_000)];
    let keys = proxy.workers[0].0.shared_keys().len();
    let (mut passed, mut largest) = (0, 0);
    for n in 0..IDS {
        passed += u32::from(unlisted(&mut proxy, &format!("invented-{n}"), &limits));
        if n == 100_000 {
            // Every record of the hundred rows is taken, and the shared one is used up.
            assert_eq!(passed, 100 * 24 + 10);
            largest = proxy.workers[0].0.shared_bytes();
        }
        if n % 1_000 == 0 && n < 1_000_000 {
            assert!(
                proxy.ask(0, &listed, 1),
                "a listed tenant's limit is its own"
            );
        }
    }
    assert_eq!(passed, 100 * 24 + 10, "no further id was given anything");
    assert_eq!(
        proxy.workers[0].0.shared_keys().len(),
        keys + 100 + 1 + 1,
        "the rows, the shared record, and the listed tenant"
    );
    assert_eq!(
        proxy.workers[0].0.shared_bytes(),
        largest,
        "and nothing has grown"
    );

    // On another day all is at rest, and the same memory serves other tenants.
    proxy.advance(DAY);
    for n in 0..1_400 {
        assert!(unlisted(&mut proxy, &format!("someone-{n}"), &limits));
    }
    assert_eq!(proxy.workers[0].0.shared_keys().len(), keys + 102);
}

#[test]
fn as_many_tenants_as_were_asked_for_are_nearly_all_told_apart() {
    let limits = daily(1);
    let mut proxy = Proxy::new(1, 10_000);
    let passed = (0..10_000)
        .filter(|n| unlisted(&mut proxy, &format!("tenant-{n}"), &limits))
        .count();
    assert!(passed > 9_900, "{passed}");
}

#[test]
fn the_largest_table_takes_the_memory_that_it_may() {
    // All records of all rows in use, with two limits each.
    let limits = [daily(10), [rate("rate", DAY, 10)]].concat();
    let tenants = table::largest(limits.len())
        / if cfg!(target_arch = "wasm32") {
            100
        } else {
            10
        };
    let mut proxy = Proxy::new(1, tenants);
    for n in 0..tenants * 5 {
        unlisted(&mut proxy, &format!("invented-{n}"), &limits);
    }
    let host = &proxy.workers[0].0;
    let (keys, bytes) = (host.shared_keys().len() as u64, host.shared_bytes() as u64);
    let rows = tenants.div_ceil(16);
    assert!(keys >= rows && keys < rows + 10, "{keys}");
    // With what a proxy's map and allocator were seen to add: see `table`. Keys are within the map's nodes.
    let values = bytes - keys * 22;
    let whole = (2 * values + keys * 272) * table::largest(limits.len()) / tenants;
    println!("{bytes} bytes under {keys} keys, {whole} for the largest table");
    // The few keys that are no rows are in this ten times or a hundred times over.
    assert!(
        whole <= table::MEMORY * 101 / 100 && whole > table::MEMORY * 8 / 10,
        "{whole} bytes"
    );
}
