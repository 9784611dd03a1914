//! A total beside the limits of tenants, as a proxy drives it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use tenant_rate_limit::TenantRateLimit;
use tollgate_host::memory::{Call, MemoryHost};
use tollgate_host::{Action, Host, Plugin, Request, Stream};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MILLISECOND: u64 = 1_000_000;

const CONFIG: &str = r#"{
    "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free", "individually": 1000}},
    "total": {"requests": 1000, "per": "1s"},
    "tiers": {
        "free": {"limits": [{"name": "daily", "quota": 1000000, "per": "day"}]},
        "small": {"limits": [{"name": "daily", "quota": 20, "per": "day"}]},
        "large": {"unlimited": true, "weight": 3}
    },
    "tenants": {"acme": {"tier": "large"}, "globex": {"tier": "free"}, "initech": {"tier": "small"}, "hooli": {"tier": "free", "weight": 6}},
    "routes": [
        {"match": {"path": {"exact": "/healthz"}}, "exempt": true},
        {"match": {"path": {"exact": "/export"}}, "cost": 1001}
    ],
    "answer": {"retryAfter": {"jitter": 0}},
    "metrics": {"refused": "shop_refused_total", "admitted": "shop_admitted_total"}
}"#;

struct Proxy {
    workers: Vec<(MemoryHost, TenantRateLimit)>,
    turn: usize,
}

impl Proxy {
    fn new(workers: usize) -> Self {
        let host = MemoryHost::new();
        let workers = (0..workers)
            .map(|_| {
                let mut host = host.worker();
                let plugin = plugin(CONFIG, &mut host);
                (host, plugin)
            })
            .collect();
        Self { workers, turn: 0 }
    }

    /// A request to the next worker, and whether it passes.
    fn send(&mut self, tenant: &str, path: &str) -> bool {
        self.turn = (self.turn + 1) % self.workers.len();
        let (host, plugin) = &mut self.workers[self.turn];
        host.begin(&[("x-tenant-id", tenant), (":path", path)]);
        let mut request = Request::read(host).unwrap();
        let mut stream = plugin.stream();
        match stream.on_request_headers(&mut request, host) {
            Action::Continue => {
                host.begin_response::<&str, &str>(200, &[]);
                stream.on_response_headers(host);
                true
            }
            Action::Stop => false,
        }
    }

    /// The worker that had the last request.
    fn last(&self) -> &MemoryHost {
        &self.workers[self.turn].0
    }

    fn advance(&self, by: u64) {
        self.workers[0].0.advance(by);
    }

    fn value(&self, series: &str) -> i64 {
        self.workers[0].0.metric_value(series).unwrap_or(0)
    }
}

fn plugin(config: &str, host: &mut MemoryHost) -> TenantRateLimit {
    TenantRateLimit::configure(config.as_bytes(), "istio-system.tenant-rate-limit", host).unwrap()
}

#[test]
fn who_has_had_its_share_is_told_so_and_nothing_of_what_others_have() {
    let mut proxy = Proxy::new(1);
    while proxy.send("globex", "/") {}
    let answer = proxy.last().answer().unwrap();
    assert_eq!(answer.status, 429);
    assert_eq!(answer.details, "tollgate_rate_limited");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some(r#""daily";q=1000000;w=86400"#)
    );
    assert!(
        answer
            .header("ratelimit")
            .unwrap()
            .starts_with(r#""daily";r="#)
    );
    assert!(!answer.header("ratelimit").unwrap().contains("total"));
    assert_eq!(
        std::str::from_utf8(&answer.body).unwrap(),
        r#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","title":"Temporary reduced capacity","status":429,"detail":"More is asked of the whole proxy than it lets pass, and tenant globex has had its share; the next request can pass in 1 s.","reason":"limited","violated-policies":["total"]}"#
    );
    assert_eq!(
        proxy.value(
            "tenant=.=globex;.;tier=.=free;.;limit=.=total;.;reason=.=limited;.;shop_refused_total"
        ),
        1
    );
}

#[test]
fn what_costs_more_than_the_total_never_passes() {
    let mut proxy = Proxy::new(1);
    assert!(!proxy.send("acme", "/export"));
    let answer = proxy.last().answer().unwrap();
    assert_eq!(
        (answer.status, answer.details.as_str()),
        (403, "tollgate_too_costly")
    );
    let body = std::str::from_utf8(&answer.body).unwrap();
    assert!(body.contains(r#""detail":"This request costs 1001, and the whole proxy never lets more than 1000 pass at once.","reason":"too_costly","violated-policies":["total"]"#), "{body}");
}

#[test]
fn who_is_unlimited_shares_the_total_and_what_is_exempt_does_not() {
    let mut proxy = Proxy::new(2);
    let mut passed = 0;
    while proxy.send("acme", "/") {
        passed += 1;
    }
    assert!(
        (500..1_000).contains(&passed),
        "{passed}: half is kept for others"
    );
    for _ in 0..2_000 {
        assert!(proxy.send("acme", "/healthz"));
        assert!(proxy.send("globex", "/healthz"));
    }
    assert!(proxy.send("globex", "/"));
}

#[test]
fn a_request_is_charged_to_the_total_and_to_limits_or_to_none() {
    let mut proxy = Proxy::new(1);
    // Refused by its own limit, it costs the total nothing, however often.
    assert_eq!(
        (0..5_000).filter(|_| proxy.send("initech", "/")).count(),
        20
    );
    let mut passed = 20;
    while proxy.send("hooli", "/") {
        passed += 1;
    }
    assert!(passed > 600, "{passed}");
    // Refused by the total, it costs its own limit nothing.
    let left = |proxy: &mut Proxy| {
        let daily = proxy.last().answer().unwrap().header("ratelimit").unwrap();
        let left = daily
            .strip_prefix(r#""daily";r="#)
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        left.parse::<u64>().unwrap()
    };
    let before = left(&mut proxy);
    for _ in 0..1_000 {
        assert!(!proxy.send("hooli", "/"));
    }
    assert_eq!(left(&mut proxy), before);
    assert_eq!(before, 1_000_000 - (passed - 20));
}

/// One client with a new id for each request, ten times what the proxy lets pass.
#[test]
fn ten_thousand_invented_ids_have_one_share_together() {
    for workers in [1, 3] {
        let mut proxy = Proxy::new(workers);
        let (mut globex, mut hooli, mut invented) = (0, 0, 0);
        for millisecond in 0..6_000 {
            for n in 0..10 {
                let passed = proxy.send(&format!("invented-{}", millisecond % 1_000 * 10 + n), "/");
                invented += u32::from(passed && millisecond >= 2_000);
            }
            // More than its eighth, and less than six.
            for _ in 0..1 + millisecond % 2 {
                globex += u32::from(proxy.send("globex", "/") && millisecond >= 2_000);
            }
            if millisecond % 2 == 0 {
                assert!(
                    proxy.send("hooli", "/"),
                    "{workers} workers, at {millisecond} ms"
                );
                hooli += u32::from(millisecond >= 2_000);
            }
            proxy.advance(MILLISECOND);
        }
        assert_eq!(hooli, 2_000, "all that it wants");
        for (who, had) in [("globex", globex), ("invented", invented)] {
            assert!(
                (900..1_100).contains(&had),
                "{workers} workers: {who} had {had} of 1000"
            );
        }
    }
}

#[test]
fn a_total_costs_a_call_for_the_clock_and_now_and_then_two_for_a_run() {
    let without = CONFIG.replace(r#""total": {"requests": 1000, "per": "1s"},"#, "");
    let without = without
        .replace(r#", "weight": 3"#, "")
        .replace(r#", "weight": 6"#, "");
    let calls = |config: &str| {
        let mut host = MemoryHost::new();
        let plugin = plugin(config, &mut host);
        let mut proxy = Proxy {
            workers: vec![(host, plugin)],
            turn: 0,
        };
        let mut free = 0;
        let mut most = std::collections::BTreeMap::new();
        for _ in 0..2_000 {
            assert!(proxy.send("globex", "/"));
            let calls = proxy.last().all_calls();
            let shared = |call| calls.get(&call).copied().unwrap_or(0);
            free += u32::from(shared(Call::Shared) + shared(Call::SetShared) == 0);
            if free > 0 && shared(Call::Shared) == 0 {
                most = calls;
            }
            proxy.advance(2 * MILLISECOND);
        }
        (free, most)
    };
    let (without, calls_without) = calls(&without);
    let (with, mut calls_with) = calls(CONFIG);
    assert!(
        without > 1_900 && with > 1_800,
        "{without} without, {with} with"
    );
    assert_eq!(calls_with.remove(&Call::Monotonic), Some(1));
    assert_eq!(calls_with, calls_without);
}

#[test]
fn a_new_configuration_gives_nothing_anew() {
    let mut proxy = Proxy::new(2);
    while proxy.send("acme", "/") {}
    for (host, old) in &mut proxy.workers {
        *old = plugin(&CONFIG.replace("\"weight\": 6", "\"weight\": 5"), host);
    }
    let more = (0..1_000).filter(|_| proxy.send("acme", "/")).count();
    assert!(more < 100, "{more}");
}

/// What a limit in shadow would have refused, in four words, and what its client would have been told.
fn noted(host: &MemoryHost) -> [Option<String>; 2] {
    use tollgate_common::refusal::{SHADOW_HEADERS, SHADOWED};
    [SHADOWED, SHADOW_HEADERS].map(|name| {
        let noted = host.property(&[name]).unwrap();
        noted.map(|noted| String::from_utf8(noted).unwrap())
    })
}

#[test]
fn a_total_in_shadow_refuses_nobody_but_those_whom_it_is_rolled_out_to() {
    // By its salt, hooli is in this half, and globex is not.
    let salt = (0..)
        .map(|n| format!("s{n}"))
        .find(|salt| {
            let is_in = |id: &str| tollgate_common::hashed::in_share(salt, id.as_bytes(), 50, 100);
            is_in("hooli") && !is_in("globex") && !is_in("acme")
        })
        .unwrap();
    let config = CONFIG
        .replace(
            r#""total": {"requests": 1000, "per": "1s"}"#,
            &format!(
                r#""total": {{"requests": 1000, "per": "1s", "mode": "shadow", "enforcedFor": {{"share": 50, "salt": "{salt}"}}}}"#
            ),
        )
        .replace(r#""refused": "#, r#""shadowed": "shadowed_total", "refused": "#);
    let mut proxy = Proxy::new(1);
    let (host, plugin_of) = &mut proxy.workers[0];
    *plugin_of = plugin(&config, host);
    let shadowed = |proxy: &Proxy, who: &str, tier: &str, reason: &str| {
        proxy.value(&format!(
            "tenant=.={who};.;tier=.={tier};.;limit=.=total;.;reason=.={reason};.;shadowed_total"
        ))
    };
    // All of them pass, and what the total would have let pass is charged to it, as if it was enforced.
    let mut would_pass = 0_i64;
    for _ in 0..1_500 {
        assert!(proxy.send("globex", "/"));
        would_pass += i64::from(noted(proxy.last())[0].is_none());
    }
    assert!((500..1_000).contains(&would_pass), "{would_pass}");
    assert_eq!(
        shadowed(&proxy, "globex", "free", "limited"),
        1_500 - would_pass
    );
    let [words, headers] = noted(proxy.last());
    assert_eq!(words.as_deref(), Some("globex free total limited"));
    let headers = headers.unwrap();
    let expected = ":status: 429 | retry-after: 1 | ratelimit-policy: \"daily\";q=1000000;w=86400 | ratelimit: ";
    assert!(
        headers.starts_with(expected) && !headers.contains("total"),
        "{headers}"
    );
    // An unlimited tenant too, and what could never pass.
    while noted(proxy.last())[0].as_deref() != Some("acme large total limited") {
        assert!(proxy.send("acme", "/"));
    }
    assert!(proxy.send("acme", "/export"));
    assert_eq!(
        noted(proxy.last())[0].as_deref(),
        Some("acme large total too_costly")
    );
    assert_eq!(shadowed(&proxy, "acme", "large", "too_costly"), 1);
    assert!(
        proxy.send("acme", "/healthz"),
        "and what is exempt is not asked"
    );
    // Who is in the share is refused, by what all have used together.
    let mut passed = 0;
    while proxy.send("hooli", "/") {
        passed += 1;
    }
    assert!((1..500).contains(&passed), "{passed}");
}

/// With places in flight beside the total, in two workers.
#[test]
fn who_is_refused_by_the_total_takes_no_place_in_flight() {
    let config = CONFIG.replace(
        r#""free": {"limits": ["#,
        r#""free": {"limits": [{"name": "parallel", "concurrent": 3000}, "#,
    );
    // Told apart, together in their tier's record, and listed.
    let together = config.replace(r#""individually": 1000"#, r#""individually": 0"#);
    for (config, tenant) in [
        (&config, "globex"),
        (&config, "somebody"),
        (&together, "somebody"),
    ] {
        let mut proxy = Proxy::new(2);
        for (host, of) in &mut proxy.workers {
            *of = plugin(config, host);
        }
        for _ in 0..2_000 {
            proxy.send(tenant, "/");
        }
        let (mut passed, mut refused) = (0, 0);
        for _ in 0..20_000 {
            proxy.advance(MILLISECOND / 10);
            if proxy.send(tenant, "/") {
                passed += 1;
                continue;
            }
            refused += 1;
            let calls = proxy.last().calls(Call::SetShared);
            assert_eq!(calls, 0, "{tenant}: refused, and something was written");
        }
        assert!(
            passed > 1_500 && refused > 15_000,
            "{tenant}: {passed} passed, {refused} refused"
        );
    }
}

/// The most calls of shared data that a request costs while the total is scarce: reads and writes of one that passes, and of one that is refused. Two workers take turns, so none has to try again.
#[test]
fn what_a_request_costs_while_the_total_is_scarce() {
    let in_flight = CONFIG.replace(
        r#""free": {"limits": ["#,
        r#""free": {"limits": [{"name": "parallel", "concurrent": 3000}, "#,
    );
    for (config, [passes, refused]) in [(CONFIG, [(3, 2), (2, 0)]), (&in_flight, [(6, 3), (2, 0)])]
    {
        let mut proxy = Proxy::new(2);
        for (host, of) in &mut proxy.workers {
            *of = plugin(config, host);
        }
        for _ in 0..2_000 {
            proxy.send("globex", "/");
        }
        let mut most = [(0, 0); 2];
        for _ in 0..20_000 {
            proxy.advance(MILLISECOND / 10);
            let is_refused = !proxy.send("globex", "/");
            let (read, written) = &mut most[usize::from(is_refused)];
            let host = proxy.last();
            *read = host.calls(Call::Shared).max(*read);
            *written = host.calls(Call::SetShared).max(*written);
        }
        assert_eq!(most, [passes, refused]);
    }
}

/// One tenant floods with requests of cost 1, another with requests of cost 600; with places in flight beside the total, whose foresight keeps nobody from saving.
#[test]
fn large_requests_pass_beside_a_flood_of_small_ones() {
    let in_flight = CONFIG.replace(
        r#""free": {"limits": ["#,
        r#""free": {"limits": [{"name": "parallel", "concurrent": 100000}, "#,
    );
    for config in [CONFIG, &in_flight] {
        let config = config
            .replace(r#""cost": 1001"#, r#""cost": 600"#)
            .replace(r#""weight": 6"#, r#""weight": 1"#);
        for workers in [1, 3] {
            let mut proxy = Proxy::new(workers);
            for (host, of) in &mut proxy.workers {
                *of = plugin(&config, host);
            }
            let (mut small, mut large) = (0, 0);
            for millisecond in 0..24_000 {
                for _ in 0..4 {
                    small += u32::from(proxy.send("globex", "/") && millisecond >= 4_000);
                }
                large += u32::from(proxy.send("hooli", "/export") && millisecond >= 4_000);
                proxy.advance(MILLISECOND);
            }
            // Half of 20,000 each.
            assert!(
                (9_500..=10_500).contains(&small) && (16..=17).contains(&large),
                "{workers} workers: {small} small ones, and {large} of 600"
            );
        }
    }
}
