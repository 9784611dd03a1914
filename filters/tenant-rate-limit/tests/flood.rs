//! A million invented ids against the table: what they get, and what it costs in memory.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::Limits;
use tenant_rate_limit::limit::{Kind, Limit, Now};
use tenant_rate_limit::row::{Row, Verdict};
use tenant_rate_limit::table::{Place, Table};
use tollgate_common::TenantId;

const DAY: u64 = 86_400_000_000_000;

/// Charges one request of a tenant as the filter does; whether it was admitted.
fn request(
    shared: &mut HashMap<Vec<u8>, Vec<u8>>,
    table: &Table,
    limits: &[Limit],
    tenant: &str,
    now: Now,
) -> bool {
    let mut charge = |place: Place| {
        let row = shared
            .get(&place.key)
            .map_or(Row::default(), |bytes| Row::parse(bytes).unwrap());
        let limits = Limits {
            tenant: limits,
            route: &[],
        };
        let verdict = row.charge(place.id, place.capacity, limits, 1, now);
        if let Verdict::Admit { row, .. } = &verdict {
            shared.insert(place.key, row.clone());
        }
        verdict
    };
    let mut verdict = charge(
        table
            .individual(&TenantId::normalise(tenant.as_bytes()).unwrap())
            .unwrap(),
    );
    if verdict == Verdict::Full {
        verdict = charge(table.together("free"));
    }
    matches!(verdict, Verdict::Admit { .. })
}

#[test]
fn a_million_invented_ids_get_no_more_than_the_table_holds() {
    let limits = [Limit::new(
        "daily",
        Kind::Quota {
            quota: 10,
            window: Window::Day,
        },
    )];
    let table = Table::new("plugin", 1_000, *b"a seed of 16 B..");
    let mut shared = HashMap::new();
    let mut now = Now {
        monotonic: 0,
        utc: 20_000 * DAY,
    };

    let (most, mut admitted, mut largest) = (125 * 16 + 10, 0, 0);
    for n in 0..1_000_000 {
        admitted += usize::from(request(
            &mut shared,
            &table,
            &limits,
            &format!("invented-{n}"),
            now,
        ));
        if n == 50_000 {
            assert_eq!(
                admitted, most,
                "every record of the 125 rows is taken, and the shared one used up"
            );
            largest = shared.values().map(Vec::len).sum();
        }
    }
    assert_eq!(admitted, most, "no further id was given anything");
    assert_eq!(shared.len(), 125 + 1);
    assert_eq!(
        shared.values().map(Vec::len).sum::<usize>(),
        largest,
        "and nothing has grown"
    );

    // On another day all is at rest, and the same memory serves other tenants.
    now.utc += DAY;
    for n in 0..900 {
        assert!(request(
            &mut shared,
            &table,
            &limits,
            &format!("someone-{n}"),
            now
        ));
    }
    assert_eq!(shared.len(), 125 + 1);
}

#[test]
fn as_many_tenants_as_were_asked_for_are_nearly_all_told_apart() {
    let limits = [Limit::new(
        "daily",
        Kind::Quota {
            quota: 1,
            window: Window::Day,
        },
    )];
    let table = Table::new("plugin", 10_000, *b"another seed....");
    let mut shared = HashMap::new();
    let now = Now {
        monotonic: 0,
        utc: 20_000 * DAY,
    };
    let admitted = (0..10_000)
        .filter(|n| request(&mut shared, &table, &limits, &format!("tenant-{n}"), now))
        .count();
    assert!(admitted > 9_900, "{admitted}");
}
