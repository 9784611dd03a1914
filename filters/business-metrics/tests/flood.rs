//! Ten million invented values: what they get, and what they cost in memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

use business_metrics::BusinessMetrics;
use tollgate_host::memory::{MemoryHost, Phase};
use tollgate_host::{Plugin, Request, Stream};

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicI64 = AtomicI64::new(0);

#[allow(unsafe_code, reason = "an allocator is told what it may believe")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VALUES: u64 = 10_000_000;

/// Two labels that clients write, of which one has room for 50 values and the other declares its own; more combinations than series.
const CONFIGURATION: &str = r#"{
    "labels": {
        "shop": {"header": "x-shop", "atMost": 50},
        "channel": {"header": "x-channel", "values": ["web", "app"]},
        "status": {"from": "status"}
    },
    "metrics": [
        {"name": "requests_total", "labels": ["shop", "channel", "status"]},
        {"name": "shops_total", "labels": ["shop"]}
    ],
    "maxSeries": 1000
}"#;

#[test]
fn ten_million_invented_values_get_no_more_than_was_said() {
    let first = MemoryHost::new();
    let mut workers: Vec<(MemoryHost, BusinessMetrics)> = (0..4)
        .map(|_| {
            let mut host = first.worker();
            let filter =
                BusinessMetrics::configure(CONFIGURATION.as_bytes(), "flood", &mut host).unwrap();
            (host, filter)
        })
        .collect();
    let mut at = None;
    for n in 0..VALUES {
        let (host, filter) = &mut workers[(n % 4) as usize];
        // Every tenth value breaks the encoding, and every tenth is too long.
        let shop = match n % 10 {
            0 => format!("{n};.;\n.cache.{n}"),
            1 => format!("{n:0>200}"),
            _ => format!("shop-{n}"),
        };
        let channel = if n % 3 == 0 { "web" } else { &shop };
        host.begin(&[("x-shop", shop.as_str()), ("x-channel", channel)]);
        let mut stream = filter.stream();
        stream.on_request_headers(&mut Request::read(host).unwrap(), host);
        host.phase = Phase::Log;
        let status = 100 + n * 31 % 500;
        host.set_attribute(&["response", "code"], &status.to_le_bytes());
        stream.on_log(host);
        // By then all places are taken, and the worker knows it.
        if n == VALUES / 10 {
            at = Some((
                IN_USE.load(Ordering::Relaxed),
                first.metric_names().len(),
                first.shared_bytes(),
            ));
        }
    }
    let (in_use, metrics, shared) = at.unwrap();
    // The series, the two where all labels are `other`, and the counter of what was folded.
    assert_eq!(first.metric_names().len(), 1_000 + 2 + 1);
    assert_eq!(first.metric_names().len(), metrics);
    assert_eq!(first.shared_bytes(), shared);
    let grown = IN_USE.load(Ordering::Relaxed) - in_use;
    assert!(grown.abs() < 4_096, "{grown} bytes more are in use");
    let sum = |name: &str| -> i64 {
        let names = first.metric_names();
        let of = names.iter().filter(|series| series.ends_with(name));
        of.map(|series| first.metric_value(series).unwrap()).sum()
    };
    assert_eq!(sum(";.;requests_total"), VALUES as i64);
    assert_eq!(sum(";.;shops_total"), VALUES as i64);
    let shops: std::collections::BTreeSet<String> = first
        .metric_names()
        .iter()
        .filter(|series| series.ends_with(";.;shops_total"))
        .cloned()
        .collect();
    assert_eq!(shops.len(), 50 + 1);
}
