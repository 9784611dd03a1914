//! The filter as a proxy drives it: requests through [`MemoryHost`].

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tenant_rate_limit::TenantRateLimit;
use tollgate_host::memory::{Call, MemoryHost};
use tollgate_host::{Action, HostError, Plugin, Request, Stream};

const SECOND: u64 = 1_000_000_000;

const DEMO: &str = r#"{
    "tenant": {"from": [{"header": "x-tenant-id"}], "missing": {"tenant": "anonymous"}, "unknown": {"tier": "free", "individually": 10000}},
    "tiers": {
        "premium": {"limits": [{"name": "rate", "requests": 100, "per": "1s", "burst": 200}]},
        "free": {"limits": [{"name": "rate", "requests": 5, "per": "1s", "burst": 10}, {"name": "daily", "quota": 1000, "per": "day"}]},
        "fifty": {"limits": [{"name": "daily", "quota": 50, "per": "day"}]}
    },
    "tenants": {"acme": {"tier": "premium"}, "initech": {"tier": "free"}, "fifty": {"tier": "fifty"}},
    "metrics": {"refused": "shop_refused_total"}
}"#;

fn configure(config: &str, host: &mut MemoryHost) -> TenantRateLimit {
    TenantRateLimit::configure(config.as_bytes(), "istio-system.tenant-rate-limit", host).unwrap()
}

/// A configuration without chance in `Retry-After`.
fn punctual(config: &str) -> String {
    let end = config.rfind('}').unwrap();
    format!(
        "{}, \"answer\": {{\"retryAfter\": {{\"jitter\": 0}}}}}}",
        &config[..end]
    )
}

/// A request with these headers from start to end; whether it was admitted.
fn send<V: AsRef<[u8]>>(
    plugin: &TenantRateLimit,
    host: &mut MemoryHost,
    headers: &[(&str, V)],
) -> bool {
    host.begin(headers);
    let mut request = Request::read(host).unwrap();
    let mut stream = plugin.stream();
    let action = stream.on_request_headers(&mut request, host);
    assert_eq!(
        request.headers(),
        &host.request,
        "the snapshot is what the proxy has"
    );
    match action {
        Action::Continue => {
            assert_eq!(host.answer(), None);
            host.begin_response::<&str, &str>(200, &[]);
            stream.on_response_headers(host);
            true
        }
        Action::Stop => {
            assert!(
                host.answer().is_some(),
                "whoever stops a request answers it"
            );
            false
        }
    }
}

fn from(plugin: &TenantRateLimit, host: &mut MemoryHost, tenant: &str) -> bool {
    send(plugin, host, &[("x-tenant-id", tenant)])
}

fn header<'a>(map: &'a tollgate_host::HeaderMap, name: &'a str) -> Vec<&'a str> {
    map.all(name)
        .map(|value| std::str::from_utf8(value).unwrap())
        .collect()
}

#[test]
fn an_admitted_response_counts_down() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    for left in (0..10).rev() {
        assert!(from(&plugin, &mut host, "initech"));
        assert_eq!(
            header(&host.response, "ratelimit-policy"),
            [r#""rate";q=10;w=2, "daily";q=1000;w=86400"#]
        );
        assert_eq!(
            header(&host.response, "ratelimit"),
            [format!(
                r#""rate";r={left};t=1, "daily";r={};t=86400"#,
                990 + left
            )]
        );
    }
}

#[test]
fn a_refusal_says_why_and_when_to_come_back() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    while from(&plugin, &mut host, "initech") {}
    let answer = host.answer().unwrap();
    assert_eq!(
        (answer.status, answer.details.as_str(), answer.grpc_status),
        (429, "tollgate_rate_limited", Some(8))
    );
    let headers: BTreeMap<&str, &str> = answer
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), std::str::from_utf8(v).unwrap()))
        .collect();
    assert_eq!(
        headers,
        BTreeMap::from([
            ("content-type", "application/problem+json"),
            ("cache-control", "no-store"),
            ("retry-after", "1"),
            (
                "ratelimit-policy",
                r#""rate";q=10;w=2, "daily";q=1000;w=86400"#
            ),
            ("ratelimit", r#""rate";r=0;t=1, "daily";r=990;t=86400"#),
        ])
    );
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Quota exceeded",
            "status": 429,
            "detail": "The limit rate of tenant initech is used up; the next request can pass in 1 s.",
            "reason": "limited",
            "violated-policies": ["rate"],
        })
    );
    use tollgate_host::Host;
    assert_eq!(
        host.property(&["tollgate.refused"]).unwrap().unwrap(),
        b"initech free rate limited"
    );
    assert_eq!(
        host.metric_value(
            "tenant=.=initech;.;tier=.=free;.;limit=.=rate;.;reason=.=limited;.;shop_refused_total"
        ),
        Some(1)
    );
    // It can indeed.
    host.advance(SECOND);
    assert!(from(&plugin, &mut host, "initech"));
}

#[test]
fn retry_after_is_when_the_last_of_the_refusing_limits_lets_it_pass() {
    let mut host = MemoryHost::new();
    let config = DEMO.replace("\"quota\": 1000", "\"quota\": 10");
    let plugin = configure(&punctual(&config), &mut host);
    while from(&plugin, &mut host, "initech") {}
    let answer = host.answer().unwrap();
    assert_eq!(answer.header("retry-after"), Some("86400"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        body["violated-policies"],
        serde_json::json!(["rate", "daily"])
    );
    host.advance(86_400 * SECOND - 1);
    assert!(!from(&plugin, &mut host, "initech"));
    host.advance(1);
    assert!(from(&plugin, &mut host, "initech"));
}

#[test]
fn a_grpc_client_gets_a_sentence_for_a_message() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    while send(
        &plugin,
        &mut host,
        &[
            ("x-tenant-id", "initech"),
            ("content-type", "application/grpc+proto"),
        ],
    ) {}
    assert_eq!(
        host.answer().unwrap().body,
        b"The limit rate of tenant initech is used up; the next request can pass in 1 s."
    );
}

#[test]
fn clients_copies_of_our_headers_are_replaced_also_on_a_refusal() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    let forged = [
        ("x-tenant-id", " INITECH "),
        ("x_tenant_id", "acme"),
        ("x-tenant-tier", "premium"),
        ("x-tenant-tier", "a"),
        ("x_tenant-tier", "b"),
    ];
    let mut admitted = 0;
    for _ in 0..12 {
        admitted += u32::from(send(&plugin, &mut host, &forged));
        let ours: Vec<_> = host
            .request
            .iter()
            .filter(|(name, _)| name.starts_with(b"x"))
            .collect();
        assert_eq!(
            ours,
            [
                (b"x-tenant-id".as_slice(), b"initech".as_slice()),
                (b"x-tenant-tier", b"free")
            ]
        );
    }
    assert_eq!(admitted, 10);
}

#[test]
fn whoever_has_no_usable_id_is_the_missing_tenant() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    let long = [b'a'; 65];
    let headers: [&[(&str, &[u8])]; 6] = [
        &[],
        &[("x-tenant-id", b"")],
        &[("x-tenant-id", b"a\xff")],
        &[("x-tenant-id", b"acme,globex")],
        &[("x-tenant-id", &long)],
        &[("x-tenant-id", b"acme"), ("x-tenant-id", b"acme")],
    ];
    for (n, headers) in headers.into_iter().enumerate() {
        assert!(send(&plugin, &mut host, headers));
        assert_eq!(header(&host.request, "x-tenant-id"), ["anonymous"]);
        assert_eq!(header(&host.request, "x-tenant-tier"), ["free"]);
        assert!(
            header(&host.response, "ratelimit")[0].starts_with(&format!(r#""rate";r={};"#, 9 - n)),
            "all are one tenant"
        );
    }
}

#[test]
fn refused_requests_are_counted_by_tenants_that_the_configuration_names() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    for tenant in ["acme", "anonymous", "invented-1", "invented-2", ""] {
        while from(&plugin, &mut host, tenant) {}
    }
    let series = |(tenant, tier): (&str, &str)| {
        host.metric_value(&format!(
            "tenant=.={tenant};.;tier=.={tier};.;limit=.=rate;.;reason=.=limited;.;shop_refused_total"
        ))
    };
    assert_eq!(
        [
            ("acme", "premium"),
            ("anonymous", "free"),
            ("other", "free")
        ]
        .map(series),
        [Some(1), Some(2), Some(2)]
    );
    assert_eq!(host.metric_names().len(), 3);
}

#[test]
fn an_admitted_request_makes_nine_host_calls_at_most() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    // With its first request a worker counts itself.
    assert!(from(&plugin, &mut host, "anybody"));
    assert!(from(&plugin, &mut host, "Acme"));
    let expected = [
        (Call::Headers, 1),
        (Call::SetHeader, 2),
        (Call::AddHeader, 2),
        (Call::Shared, 1),
        (Call::SetShared, 1),
        (Call::Monotonic, 1),
    ];
    assert_eq!(host.all_calls(), BTreeMap::from(expected));
    // One more when the tier has both kinds of limit: that makes nine.
    assert!(from(&plugin, &mut host, "Initech"));
    assert_eq!(host.calls(Call::Now), 1);
    assert_eq!(host.all_calls().values().sum::<u64>(), 9);
    // One less when the id is right already.
    assert!(from(&plugin, &mut host, "initech"));
    let expected = [
        (Call::Headers, 1),
        (Call::SetHeader, 1),
        (Call::AddHeader, 2),
        (Call::Shared, 1),
        (Call::SetShared, 1),
        (Call::Monotonic, 1),
        (Call::Now, 1),
    ];
    assert_eq!(host.all_calls(), BTreeMap::from(expected));
}

#[test]
fn a_refused_request_writes_nothing_and_charges_nothing() {
    let mut host = MemoryHost::new();
    // The rate refuses while the quota would not.
    let plugin = configure(DEMO, &mut host);
    while from(&plugin, &mut host, "initech") {}
    for _ in 0..100 {
        assert!(!from(&plugin, &mut host, "initech"));
        assert_eq!(host.calls(Call::SetShared), 0);
    }
    host.advance(2 * SECOND);
    assert!(from(&plugin, &mut host, "initech"));
    assert_eq!(
        header(&host.response, "ratelimit"),
        [r#""rate";r=9;t=1, "daily";r=989;t=86398"#]
    );
}

#[test]
fn no_request_passes_uncharged() {
    for call in [Call::Shared, Call::SetShared] {
        let mut host = MemoryHost::new();
        let plugin = configure(DEMO, &mut host);
        host.fail(call, HostError::Status(10));
        assert!(!from(&plugin, &mut host, "acme"));
        assert_eq!(
            (
                host.answer().unwrap().status,
                host.answer().unwrap().grpc_status
            ),
            (503, Some(14))
        );
        assert_eq!(
            host.answer().unwrap().details,
            "tollgate_rate_limit_unavailable"
        );
        host.heal(call);
        assert!(from(&plugin, &mut host, "acme"));
    }
}

#[test]
fn no_request_passes_with_a_client_s_claim() {
    for call in [Call::SetHeader, Call::RemoveHeader] {
        let mut host = MemoryHost::new();
        let plugin = configure(DEMO, &mut host);
        host.fail(call, HostError::Status(2));
        assert!(!send(
            &plugin,
            &mut host,
            &[("x_tenant_id", "acme"), ("x-tenant-tier", "premium")]
        ));
        assert_eq!(host.answer().unwrap().status, 500);
    }
}

#[test]
fn a_request_whose_headers_cannot_be_read_does_not_pass() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    assert_eq!(
        plugin
            .stream()
            .on_unreadable_request(HostError::Malformed, &mut host),
        Action::Stop
    );
    assert_eq!(host.answer().unwrap().status, 500);
}

#[test]
fn what_fails_beside_a_decision_does_not_change_it() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    for call in [Call::AddHeader, Call::SetProperty, Call::Metric] {
        host.fail(call, HostError::Status(10));
    }
    let admitted = (0..20)
        .filter(|_| from(&plugin, &mut host, "initech"))
        .count();
    assert_eq!(admitted, 10);
    assert_eq!(host.answer().unwrap().status, 429);
}

#[test]
fn a_bad_configuration_is_refused_with_its_reason() {
    let mut host = MemoryHost::new();
    let error = TenantRateLimit::configure(
        DEMO.replace("\"1s\"", "\"1\"").as_bytes(),
        "plugin",
        &mut host,
    )
    .unwrap_err();
    assert_eq!(
        error,
        "tiers.free.limits[0].per: \"1\" is not a duration, write \"1s\"\n\
         tiers.premium.limits[0].per: \"1\" is not a duration, write \"1s\""
    );
}

#[test]
fn workers_agree_on_one_seed() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    let mut other = host.worker();
    let same = configure(DEMO, &mut other);
    // An id that is not listed has its record where the seed says.
    let admitted = (0..20)
        .filter(|n| {
            if n % 2 == 0 {
                from(&plugin, &mut host, "someone")
            } else {
                from(&same, &mut other, "someone")
            }
        })
        .count();
    assert_eq!(admitted, 10);
}

#[test]
fn a_quota_is_exact_when_another_worker_is_always_faster() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    // Between each read of this worker and its write, another one charges a request too, as long as that passes.
    let mut other = host.worker();
    let others = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = others.clone();
    let mut turn = 0;
    host.after_shared(move |_| {
        turn += 1;
        if turn % 3 != 0 {
            let plugin = configure(DEMO, &mut other);
            count.fetch_add(
                u32::from(from(&plugin, &mut other, "fifty")),
                std::sync::atomic::Ordering::SeqCst,
            );
        }
    });
    let own = (0..100)
        .filter(|_| from(&plugin, &mut host, "fifty"))
        .count() as u32;
    let others = others.load(std::sync::atomic::Ordering::SeqCst);
    assert!(own > 0 && others > 0, "{own} and {others}");
    assert_eq!(own + others, 50);
}

#[test]
fn a_worker_that_is_never_fast_enough_gives_up_and_admits_nothing() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    let other = host.worker();
    host.after_shared(move |key| other.overwrite_shared(key, b""));
    assert!(!from(&plugin, &mut host, "acme"));
    let answer = host.answer().unwrap();
    assert_eq!(
        (answer.status, answer.details.as_str()),
        (503, "tollgate_rate_limit_contended")
    );
}

#[test]
fn a_quota_is_exact_across_threads() {
    let mut host = MemoryHost::new();
    configure(DEMO, &mut host);
    let workers: Vec<MemoryHost> = (0..4).map(|_| host.worker()).collect();
    let admitted: usize = std::thread::scope(|scope| {
        let run = |mut worker: MemoryHost| {
            move || {
                let plugin = configure(DEMO, &mut worker);
                (0..250)
                    .filter(|_| from(&plugin, &mut worker, "fifty"))
                    .count()
            }
        };
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| scope.spawn(run(worker)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(admitted, 50);
}

#[test]
fn what_was_used_survives_a_new_configuration() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    (0..4).for_each(|_| assert!(from(&plugin, &mut host, "initech")));
    let left = |config: String, host: &mut MemoryHost| {
        let plugin = configure(&config, host);
        assert!(from(&plugin, host, "initech"));
        header(&host.response, "ratelimit")[0].to_owned()
    };
    let raised = DEMO
        .replace("\"burst\": 10", "\"burst\": 20")
        .replace("1000", "2000");
    assert_eq!(
        left(raised, &mut host),
        r#""rate";r=15;t=1, "daily";r=1995;t=86400"#
    );
    let lowered = DEMO
        .replace("\"requests\": 5", "\"requests\": 1")
        .replace("1000", "100");
    assert_eq!(
        left(lowered, &mut host),
        r#""rate";r=4;t=1, "daily";r=94;t=86400"#
    );
    let moved = DEMO.replace(
        r#""initech": {"tier": "free"}"#,
        r#""initech": {"tier": "premium"}"#,
    );
    assert_eq!(left(moved, &mut host), r#""rate";r=193;t=1"#);
    assert_eq!(
        left(DEMO.to_owned(), &mut host),
        r#""rate";r=2;t=1, "daily";r=993;t=86400"#
    );
}

#[test]
fn what_a_former_configuration_left_keeps_no_record_for_ever() {
    for (before, after) in [
        (
            r#"{"name": "daily", "quota": 5, "per": "day"}"#,
            r#"{"name": "rate", "requests": 1, "per": "1s"}"#,
        ),
        (
            r#"{"name": "rate", "requests": 1, "per": "1s"}"#,
            r#"{"name": "daily", "quota": 5, "per": "day"}"#,
        ),
    ] {
        let config = |limit: &str| {
            format!(
                r#"{{"tenant": {{"from": [{{"header": "x-tenant-id"}}], "unknown": {{"tier": "all", "individually": 8}}}},
                "tiers": {{"all": {{"limits": [{limit}]}}}}}}"#
            )
        };
        let mut host = MemoryHost::new();
        let plugin = configure(&config(before), &mut host);
        for n in 0..16 {
            assert!(from(&plugin, &mut host, &format!("before-{n}")));
        }
        let plugin = configure(&config(after), &mut host);
        // Longer than either limit remembers anything.
        host.advance(2 * 86_400 * SECOND);
        let admitted = (0..16)
            .filter(|n| from(&plugin, &mut host, &format!("after-{n}")))
            .count();
        assert_eq!(admitted, 16, "each has a record of its own again: {after}");
    }
}

#[test]
fn bytes_that_are_no_row_are_replaced() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    assert!(from(&plugin, &mut host, "acme"));
    for key in host
        .shared_keys()
        .iter()
        .filter(|key| key.ends_with(b"/tenant/acme"))
    {
        host.overwrite_shared(key, b"\x01 something else");
    }
    assert!(from(&plugin, &mut host, "acme"));
    assert!(from(&plugin, &mut host, "acme"));
    assert_eq!(header(&host.response, "ratelimit"), [r#""rate";r=198;t=1"#]);
}

#[test]
fn plugins_of_one_proxy_do_not_share_state() {
    let mut host = MemoryHost::new();
    let first = TenantRateLimit::configure(DEMO.as_bytes(), "first", &mut host).unwrap();
    let second = TenantRateLimit::configure(DEMO.as_bytes(), "second", &mut host).unwrap();
    while from(&first, &mut host, "initech") {}
    assert!(from(&second, &mut host, "initech"));
}

#[test]
fn a_wall_clock_that_is_set_gives_and_takes_no_rate_and_reopens_no_window() {
    let mut host = MemoryHost::new();
    let plugin = configure(DEMO, &mut host);
    while from(&plugin, &mut host, "acme") {}
    while from(&plugin, &mut host, "fifty") {}
    // It is midnight.
    let start = host.time();
    host.set_time(start - 3_600 * SECOND);
    assert!(!from(&plugin, &mut host, "acme"));
    assert!(
        !from(&plugin, &mut host, "fifty"),
        "the day before is not a new one"
    );
    host.set_time(start + 3 * 86_400 * SECOND);
    assert!(!from(&plugin, &mut host, "acme"), "no time has passed");
    assert!(from(&plugin, &mut host, "fifty"), "another day");
    host.set_time(start + 3 * 86_400 * SECOND - 3_600 * SECOND);
    assert!(from(&plugin, &mut host, "fifty"), "still of that later day");
    assert_eq!(
        header(&host.response, "ratelimit")[0].split(';').nth(1),
        Some("r=48")
    );
}

#[test]
fn a_wall_clock_that_was_far_ahead_locks_nobody_out() {
    let mut host = MemoryHost::new();
    let plugin = configure(&punctual(DEMO), &mut host);
    let start = host.time();
    host.set_time(start + 70 * 365 * 86_400 * SECOND);
    while from(&plugin, &mut host, "fifty") {}
    host.set_time(start + SECOND);
    let today = (0..60)
        .filter(|_| from(&plugin, &mut host, "fifty"))
        .count();
    assert_eq!(today, 50);
    assert_eq!(
        host.answer().unwrap().header("retry-after"),
        Some("86399"),
        "and the answer goes by the clock as it is"
    );
}

#[test]
fn a_flood_of_invented_ids_leaves_listed_tenants_alone() {
    let mut host = MemoryHost::new();
    let plugin = configure(&DEMO.replace("10000", "64"), &mut host);
    (0..5).for_each(|_| assert!(from(&plugin, &mut host, "initech")));

    let admitted = (0..10_000)
        .filter(|n| from(&plugin, &mut host, &format!("invented-{n}")))
        .count();
    assert_eq!(
        admitted,
        4 * 24 + 10,
        "one for every record of the 4 rows, and a burst for everybody else"
    );
    // 4 rows, the shared record, the seed, the count of workers, and the one listed tenant.
    assert_eq!(host.shared_keys().len(), 8);

    assert!(from(&plugin, &mut host, "initech"));
    assert!(
        header(&host.response, "ratelimit")[0].starts_with(r#""rate";r=4;"#),
        "a listed tenant's record is its own"
    );
    assert!(
        from(&plugin, &mut host, "invented-0"),
        "whoever has a record keeps it"
    );
    assert!(header(&host.response, "ratelimit")[0].starts_with(r#""rate";r=8;"#));
}

#[test]
fn tenants_that_are_not_told_apart_share_their_tier_s_limits() {
    let mut host = MemoryHost::new();
    let plugin = configure(&DEMO.replace("10000", "0"), &mut host);
    let admitted = (0..30)
        .filter(|n| from(&plugin, &mut host, &format!("someone-{n}")))
        .count();
    assert_eq!(admitted, 10);
}

fn name() -> impl Strategy<Value = String> {
    let known: &[&str] = &[
        "x-tenant-id",
        "x_tenant_id",
        "x-tenant_id",
        "X-Tenant-ID",
        "x-tenant-tier",
        "x_tenant_tier",
        "content-type",
        ":path",
        "x",
    ];
    proptest::sample::select(known).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let id = proptest::sample::select(
        [
            "acme",
            "ACME ",
            "initech",
            "fifty",
            "anonymous",
            "",
            "a,b",
            "application/grpc",
        ]
        .as_slice(),
    );
    prop_oneof![
        id.prop_map(|id| id.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..80)
    ]
}

proptest! {
    #[test]
    fn no_headers_make_it_panic_or_leave_a_claim(requests in proptest::collection::vec(proptest::collection::vec((name(), value()), 0..6), 1..20)) {
        let mut host = MemoryHost::new();
        let plugin = configure(DEMO, &mut host);
        for headers in requests {
            let headers: Vec<(&str, &[u8])> = headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
            send(&plugin, &mut host, &headers);
            let like = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase().replace('_', "-");
            let ours: Vec<_> = host.request.iter().filter(|(name, _)| like(name).starts_with("x-tenant-")).collect();
            prop_assert_eq!(ours.len(), 2);
            prop_assert!(ours.iter().any(|(name, id)| *name == b"x-tenant-id" && tollgate_common::TenantId::normalise(id).unwrap().as_bytes() == *id));
            prop_assert!(ours.iter().any(|(name, tier)| *name == b"x-tenant-tier" && [b"free".as_slice(), b"premium", b"fifty"].contains(tier)));
        }
    }
}

/// A rate, places and a route with few of them.
const IN_FLIGHT: &str = r#"{
    "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
    "tiers": {"free": {"limits": [{"name": "parallel", "concurrent": 2}, {"name": "rate", "requests": 1, "per": "1h", "burst": 4}]}},
    "routes": [{"match": {"path": {"exact": "/export"}}, "limits": [{"name": "exports", "concurrent": 1}]}],
    "metrics": {"refused": "refused_total"}
}"#;

/// A request of `acme` that begins; its stream, if it was admitted.
fn begin(
    plugin: &TenantRateLimit,
    host: &mut MemoryHost,
    path: &str,
) -> Option<<TenantRateLimit as Plugin>::Stream> {
    begin_of(plugin, host, "acme", path)
}

fn begin_of(
    plugin: &TenantRateLimit,
    host: &mut MemoryHost,
    tenant: &str,
    path: &str,
) -> Option<<TenantRateLimit as Plugin>::Stream> {
    host.begin(&[("x-tenant-id", tenant), (":path", path)]);
    let mut request = Request::read(host).unwrap();
    let mut stream = plugin.stream();
    match stream.on_request_headers(&mut request, host) {
        Action::Continue => Some(stream),
        Action::Stop => None,
    }
}

#[test]
fn who_finds_no_place_is_told_so() {
    let mut host = MemoryHost::new();
    let plugin = configure(IN_FLIGHT, &mut host);
    let mut first = begin(&plugin, &mut host, "/export").unwrap();
    host.begin_response::<&str, &str>(200, &[]);
    first.on_response_headers(&mut host);
    assert_eq!(
        header(&host.response, "ratelimit-policy"),
        [
            r#""rate";q=4;w=14400, "parallel";q=2;qu="concurrent-requests", "exports";q=1;qu="concurrent-requests""#
        ]
    );
    assert_eq!(
        header(&host.response, "ratelimit"),
        [r#""rate";r=3;t=3600, "parallel";r=1, "exports";r=0"#]
    );

    assert!(begin(&plugin, &mut host, "/export").is_none());
    let answer = host.answer().unwrap();
    assert_eq!(
        (answer.status, answer.details.as_str(), answer.grpc_status),
        (429, "tollgate_rate_limited", Some(8))
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.header("ratelimit"),
        Some(r#""parallel";r=1, "exports";r=0"#)
    );
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (&body["detail"], &body["violated-policies"]),
        (
            &serde_json::json!(
                "Of tenant acme, as many requests are in flight as the limit exports allows, which is 1; the next one can pass when another one is done."
            ),
            &serde_json::json!(["exports"])
        )
    );
    let refused = |limit: &str| {
        format!("tenant=.=other;.;tier=.=free;.;limit=.={limit};.;reason=.=limited;.;refused_total")
    };
    assert_eq!(host.metric_value(&refused("exports")), Some(1));

    // It was charged to none, and there is a place for another one.
    let second = begin(&plugin, &mut host, "/").unwrap();
    assert!(begin(&plugin, &mut host, "/").is_none());
    assert_eq!(host.metric_value(&refused("parallel")), Some(1));
    first.on_delete(&mut host);
    // Once.
    first.on_delete(&mut host);
    let third = begin(&plugin, &mut host, "/").unwrap();
    assert!(begin(&plugin, &mut host, "/").is_none());
    drop((second, third));
}

#[test]
fn a_path_in_disguise_takes_the_same_place() {
    let mut host = MemoryHost::new();
    let plugin = configure(IN_FLIGHT, &mut host);
    let held = begin(&plugin, &mut host, "/export").unwrap();
    for disguised in ["//export", "/%65xport", "/x/../export", "/export;a=b"] {
        assert!(
            begin(&plugin, &mut host, disguised).is_none(),
            "{disguised}"
        );
        let body = String::from_utf8(host.answer().unwrap().body.clone()).unwrap();
        assert!(
            body.contains(r#""violated-policies":["exports"]"#),
            "{body}"
        );
    }
    assert!(begin(&plugin, &mut host, "/exports").is_some());
    drop(held);
}

/// A path that has two readings costs the dearer one, and is counted by the limits of both.
#[test]
fn no_spelling_of_a_path_evades_the_limits_of_its_route() {
    let config = r#"{
        "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
        "tiers": {"free": {"limits": [{"name": "daily", "quota": 1000, "per": "day"}]}},
        "routes": [
            {"match": {"path": {"prefix": "/exports"}}, "limits": [{"name": "exports", "concurrent": 2}, {"name": "rows", "quota": 100, "per": "day"}]},
            {"match": {"path": {"prefix": "/reports"}}, "limits": [{"name": "reports", "quota": 50, "per": "day"}]},
            {"match": {"path": {"prefix": "/search"}}, "cost": 5},
            {"match": {"path": {"prefix": "/healthz"}}, "exempt": true}
        ]
    }"#;
    let to = |other: &str| format!("/exports/run;%2f..%2f..%2f..%2f{other}");
    for (path, told) in [
        (
            "/exports/run".to_owned(),
            r#""daily";r=999 "rows";r=99 "exports";r=1"#,
        ),
        ("/search".to_owned(), r#""daily";r=995"#),
        (to("search"), r#""daily";r=995 "rows";r=95 "exports";r=1"#),
        (
            to("reports"),
            r#""daily";r=999 "rows";r=99 "reports";r=49 "exports";r=1"#,
        ),
        (
            "/reports/run;%2f..%2f..%2f..%2fexports".to_owned(),
            r#""daily";r=999 "rows";r=99 "reports";r=49 "exports";r=1"#,
        ),
        (to("healthz"), r#""daily";r=999 "rows";r=99 "exports";r=1"#),
        (to("nothing"), r#""daily";r=999 "rows";r=99 "exports";r=1"#),
    ] {
        let mut host = MemoryHost::new();
        let plugin = configure(config, &mut host);
        let mut first = begin(&plugin, &mut host, &path).unwrap();
        host.begin_response::<&str, &str>(200, &[]);
        first.on_response_headers(&mut host);
        let said = host.response.first("ratelimit").unwrap();
        let said = String::from_utf8(said.to_vec()).unwrap();
        let said: Vec<&str> = said
            .split(", ")
            .map(|one| one.split(";t=").next().unwrap())
            .collect();
        assert_eq!(said.join(" "), told, "{path}");
        // As many at once as `/exports` allows, in whatever spelling.
        if told.contains("exports") {
            let second = begin(&plugin, &mut host, "/exports/run").unwrap();
            assert!(begin(&plugin, &mut host, &path).is_none(), "{path}");
            drop(second);
        }
    }
}

/// A limit of a tier that is not for all routes.
#[test]
fn a_route_leaves_out_what_it_says() {
    let config = r#"{
        "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
        "tiers": {
            "free": {"limits": [
                {"name": "requests", "quota": 100, "per": "day"},
                {"name": "parallel", "concurrent": 10},
                {"name": "tokens", "quota": 1000, "per": "day", "cost": {"estimate": 10, "max": 90, "settle": {"header": "x-tokens"}}},
                {"name": "watched", "quota": 1000, "per": "day", "mode": "shadow"}
            ]},
            "paid": {"limits": [{"name": "parallel", "concurrent": 20}]}
        },
        "tenants": {
            "acme": {"tier": "free", "limits": [{"name": "requests", "quota": 500, "per": "day"}]},
            "globex": {"tier": "paid"}
        },
        "routes": [
            {"match": {"path": {"prefix": "/images"}}, "without": ["tokens"], "limits": [{"name": "images", "quota": 5, "per": "day"}]},
            {"match": {"path": {"prefix": "/models"}}, "without": ["watched", "tokens", "parallel"]},
            {"match": {"path": {"prefix": "/batch"}}, "cost": 2, "without": ["requests"]}
        ]
    }"#;
    let mut host = MemoryHost::new();
    let plugin = configure(config, &mut host);
    let mut told = |tenant: &str, path: &str| {
        let mut stream = begin_of(&plugin, &mut host, tenant, path).unwrap();
        host.begin_response(200, &[("x-tokens", "50")]);
        stream.on_response_headers(&mut host);
        stream.on_delete(&mut host);
        let list = |name: &str| {
            let value = host.response.first(name).unwrap_or_default();
            let value = String::from_utf8(value.to_vec()).unwrap();
            let names = value.split(", ").filter(|one| !one.is_empty());
            names
                .map(|one| one.split(";t=").next().unwrap().replace('"', ""))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            list("ratelimit").len(),
            list("ratelimit-policy").len(),
            "{path}"
        );
        list("ratelimit").join(" ")
    };
    assert_eq!(
        told("acme", "/chat"),
        "requests;r=499 tokens;r=950 parallel;r=9"
    );
    assert_eq!(
        told("acme", "/images"),
        "requests;r=498 images;r=4 parallel;r=9"
    );
    assert_eq!(told("acme", "/models"), "requests;r=497");
    assert_eq!(told("acme", "/batch"), "tokens;r=900 parallel;r=9");
    // Both readings of a path must leave it out.
    let of_both = |one: &str, other: &str| format!("/{one}/a;%2f..%2f..%2f..%2f{other}");
    assert_eq!(
        told("acme", &of_both("images", "models")),
        "requests;r=496 images;r=3 parallel;r=9"
    );
    assert_eq!(
        told("acme", &of_both("models", "images")),
        "requests;r=495 images;r=2 parallel;r=9"
    );
    assert_eq!(
        told("acme", &of_both("models", "batch")),
        "requests;r=493 tokens;r=850 parallel;r=9"
    );
    assert_eq!(
        told("acme", &of_both("models", "chat")),
        "requests;r=492 tokens;r=800 parallel;r=9"
    );
    // What was used is there when the limit is met again, and who meets none is not limited.
    assert_eq!(
        told("acme", "/chat"),
        "requests;r=491 tokens;r=750 parallel;r=9"
    );
    assert_eq!(told("somebody", "/models"), "requests;r=99");
    assert_eq!(told("globex", "/chat"), "parallel;r=19");
    assert_eq!(told("globex", "/models"), "");
}

/// Of two readings of a path, both of cost 1, that counts which can refuse.
#[test]
fn a_route_that_refuses_is_stricter_than_one_that_watches() {
    let shadow = [r#""mode": "shadow""#];
    let refuses = [
        r#""mode": "enforce""#,
        r#""mode": "shadow", "enforcedFor": {"share": 100}"#,
    ];
    let limits = |name: &str, mode: &str| {
        format!(r#"[{{"name": "{name}", "quota": 1, "per": "day", {mode}}}]"#)
    };
    let concurrent =
        |name: &str, mode: &str| format!(r#"[{{"name": "{name}", "concurrent": 1, {mode}}}]"#);
    type Written<'a> = &'a dyn Fn(&str, &str) -> String;
    let kinds: [Written<'_>; 2] = [&limits, &concurrent];
    for (watched, watches) in kinds
        .iter()
        .flat_map(|kind| shadow.map(|mode| (kind, mode)))
    {
        for (refusing, mode) in kinds
            .iter()
            .flat_map(|kind| refuses.map(|mode| (kind, mode)))
        {
            // As a proxy reads it, `//login` is of the second route; as lenient services do, of the first.
            for refuses_loose in [true, false] {
                let (strict, lenient) = (refusing("strict", mode), watched("lenient", watches));
                let (loose, plain) = match refuses_loose {
                    true => (&strict, &lenient),
                    false => (&lenient, &strict),
                };
                let config = format!(
                    r#"{{
                        "tenant": {{"from": [{{"header": "x-tenant-id"}}], "unknown": {{"tier": "free"}}}},
                        "tiers": {{"free": {{"limits": [{{"name": "rate", "requests": 100, "per": "1s"}}]}}}},
                        "routes": [
                            {{"match": {{"path": {{"exact": "/login"}}}}, "limits": {loose}}},
                            {{"match": {{"path": {{"prefix": "//"}}}}, "limits": {plain}}}
                        ]
                    }}"#
                );
                let mut host = MemoryHost::new();
                let plugin = configure(&config, &mut host);
                let first = begin(&plugin, &mut host, "//login").unwrap();
                assert!(begin(&plugin, &mut host, "//login").is_none(), "{config}");
                drop(first);
            }
        }
    }
}

/// A limit on requests in flight is counted as itself, whichever of those before it are in shadow for a tenant.
#[test]
fn refusals_are_counted_by_the_limit_that_refused_whatever_is_in_shadow_for_whom() {
    let config = IN_FLIGHT.replace(
        r#""burst": 4}"#,
        r#""burst": 4, "mode": "shadow", "enforcedFor": {"share": 50, "salt": "s"}}"#,
    );
    let mut host = MemoryHost::new();
    let plugin = configure(&config, &mut host);
    let tenant_for = |is_in: bool| {
        let mut names = (0..).map(|n| format!("tenant-{n}"));
        let chosen =
            |name: &String| tollgate_common::hashed::in_share("s", name.as_bytes(), 50, 100);
        names.find(|name| chosen(name) == is_in).unwrap()
    };
    let (enforced, watched) = (tenant_for(true), tenant_for(false));
    let counted = |host: &MemoryHost, limit: &str| {
        let name = format!(
            "tenant=.=other;.;tier=.=free;.;limit=.={limit};.;reason=.=limited;.;refused_total"
        );
        host.metric_value(&name).unwrap_or(0)
    };
    // For the one it is the second of two limits on requests in flight, for the other the first.
    let mut held = vec![begin_of(&plugin, &mut host, &watched, "/").unwrap()];
    held.push(begin_of(&plugin, &mut host, &watched, "/").unwrap());
    assert!(begin_of(&plugin, &mut host, &watched, "/").is_none());
    assert_eq!(
        ["parallel", "exports"].map(|limit| counted(&host, limit)),
        [1, 0]
    );
    held.push(begin_of(&plugin, &mut host, &enforced, "/export").unwrap());
    assert!(begin_of(&plugin, &mut host, &enforced, "/export").is_none());
    assert_eq!(
        ["parallel", "exports"].map(|limit| counted(&host, limit)),
        [1, 1]
    );
    held.push(begin_of(&plugin, &mut host, &enforced, "/").unwrap());
    assert!(begin_of(&plugin, &mut host, &enforced, "/").is_none());
    assert_eq!(
        ["parallel", "exports"].map(|limit| counted(&host, limit)),
        [2, 1]
    );
}

/// What a request noted of limits in shadow: the four words, and what its client would have been told.
fn noted(host: &MemoryHost) -> [Option<String>; 2] {
    use tollgate_common::refusal::{SHADOW_HEADERS, SHADOWED};
    use tollgate_host::Host;
    [SHADOWED, SHADOW_HEADERS].map(|name| {
        let noted = host.property(&[name]).unwrap();
        noted.map(|noted| String::from_utf8(noted).unwrap())
    })
}

/// One limit on requests in flight that is enforced, and a lower one that tells how often tenants come near it.
const NEAR: &str = r#"{
    "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
    "tiers": {"free": {"limits": [
        {"name": "parallel", "concurrent": 3},
        {"name": "near", "concurrent": 1, "mode": "shadow"},
        {"name": "rate", "requests": 1, "per": "1h", "burst": 9}
    ]}},
    "metrics": {"refused": "refused_total", "shadowed": "shadowed_total"}
}"#;

#[test]
fn a_place_in_shadow_is_counted_and_never_refused() {
    let mut host = MemoryHost::new();
    let plugin = configure(NEAR, &mut host);
    let shadowed = |host: &MemoryHost| {
        let name =
            "tenant=.=other;.;tier=.=free;.;limit=.=near;.;reason=.=limited;.;shadowed_total";
        host.metric_value(name).unwrap_or(0)
    };
    let mut held = Vec::new();
    for (n, words) in [
        None,
        Some("acme free near limited"),
        Some("acme free near limited"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = begin(&plugin, &mut host, "/").unwrap();
        let [told, headers] = noted(&host);
        assert_eq!(told.as_deref(), words);
        let policy = r#"ratelimit-policy: "rate";q=9;w=32400, "parallel";q=3;qu="concurrent-requests", "near";q=1;qu="concurrent-requests""#;
        let expected = match n {
            0 => format!(r#"{policy} | ratelimit: "rate";r=8;t=3600, "parallel";r=2, "near";r=0"#),
            // Who finds no place is asked no further.
            n => format!(
                r#":status: 429 | retry-after: 1 | {policy} | ratelimit: "parallel";r={}, "near";r=0"#,
                2 - n
            ),
        };
        assert_eq!(headers, Some(expected));
        host.begin_response::<&str, &str>(200, &[]);
        stream.on_response_headers(&mut host);
        assert_eq!(
            header(&host.response, "ratelimit-policy"),
            [r#""rate";q=9;w=32400, "parallel";q=3;qu="concurrent-requests""#]
        );
        assert_eq!(
            header(&host.response, "ratelimit"),
            [format!(
                r#""rate";r={};t=3600, "parallel";r={}"#,
                8 - n,
                2 - n
            )]
        );
        assert_eq!(shadowed(&host), n as i64);
        held.push(stream);
    }
    // What is enforced refuses, and that alone is told and counted.
    assert!(begin(&plugin, &mut host, "/").is_none());
    assert_eq!(
        host.answer().unwrap().header("ratelimit"),
        Some(r#""parallel";r=0"#)
    );
    assert_eq!((shadowed(&host), noted(&host)), (2, [None, None]));
    // The one that it has let in is gone, so it would let in another.
    held.remove(0).on_delete(&mut host);
    held.push(begin(&plugin, &mut host, "/").unwrap());
    assert_eq!((shadowed(&host), &noted(&host)[0]), (2, &None));
    for mut stream in held {
        stream.on_delete(&mut host);
    }
}

#[test]
fn places_in_shadow_alone_come_after_all_else_and_never_stand_in_the_way() {
    let config = IN_FLIGHT
        .replace(
            "\"concurrent\": 2",
            "\"concurrent\": 2, \"mode\": \"shadow\"",
        )
        .replace(
            "\"concurrent\": 1",
            "\"concurrent\": 1, \"mode\": \"shadow\"",
        );
    let mut host = MemoryHost::new();
    let plugin = configure(&config, &mut host);
    let held: Vec<_> = (0..4)
        .map(|_| begin(&plugin, &mut host, "/export").unwrap())
        .collect();
    assert_eq!(
        noted(&host)[0].as_deref(),
        Some("acme free parallel limited"),
        "of both, the first"
    );
    // Refused by the rate: nothing is written.
    assert!(begin(&plugin, &mut host, "/export").is_none());
    assert_eq!(
        (host.calls(Call::SetShared), noted(&host)),
        (0, [None, None])
    );
    for mut stream in held {
        stream.on_delete(&mut host);
    }

    // Where nothing can be written down, a request that no limit may refuse passes.
    let alone = r#"{
        "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
        "tiers": {"free": {"limits": [{"name": "parallel", "concurrent": 1, "mode": "shadow"}]}}
    }"#;
    for call in [Call::Shared, Call::SetShared] {
        let mut host = MemoryHost::new();
        let plugin = configure(alone, &mut host);
        host.fail(call, HostError::Status(10));
        for _ in 0..3 {
            assert!(begin(&plugin, &mut host, "/").is_some());
        }
        assert_eq!(noted(&host), [None, None]);
    }
}

#[test]
fn who_is_refused_by_a_rate_takes_no_place() {
    let mut host = MemoryHost::new();
    let mut other = host.worker();
    let plugin = configure(IN_FLIGHT, &mut host);
    let elsewhere = configure(IN_FLIGHT, &mut other);
    for _ in 0..4 {
        let mut stream = begin(&elsewhere, &mut other, "/").unwrap();
        stream.on_delete(&mut other);
    }
    // This worker does not know it yet: a place is taken, and given back before the answer.
    for knows in [false, true, true] {
        assert!(begin(&plugin, &mut host, "/").is_none());
        assert_eq!(
            host.answer().unwrap().header("ratelimit"),
            Some(r#""rate";r=0;t=3600"#)
        );
        assert_eq!(host.calls(Call::SetShared) == 0, knows);
        let row = host
            .shared_keys()
            .into_iter()
            .find(|key| key.starts_with(b"tif/"))
            .unwrap();
        use tollgate_host::Host;
        assert_eq!(
            host.shared(&row).unwrap().unwrap().bytes.len(),
            1,
            "nothing is in flight"
        );
    }
}

#[test]
fn what_is_in_flight_outlives_a_configuration() {
    let mut host = MemoryHost::new();
    let plugin = configure(IN_FLIGHT, &mut host);
    assert_eq!(host.tick_period, Some(1_000));
    let mut two = [(); 2].map(|()| begin(&plugin, &mut host, "/").unwrap());

    let raised = configure(
        &IN_FLIGHT.replace("\"concurrent\": 2", "\"concurrent\": 3"),
        &mut host,
    );
    let mut third = begin(&raised, &mut host, "/").unwrap();
    assert!(begin(&raised, &mut host, "/").is_none());

    let lowered = configure(
        &IN_FLIGHT.replace("\"concurrent\": 2", "\"concurrent\": 1"),
        &mut host,
    );
    two[0].on_delete(&mut host);
    two[1].on_delete(&mut host);
    assert!(begin(&lowered, &mut host, "/").is_none());
    third.on_delete(&mut host);
    let mut held = begin(&lowered, &mut host, "/").unwrap();

    // Another name is another limit.
    let renamed = configure(
        &IN_FLIGHT
            .replace(
                "\"parallel\", \"concurrent\": 2",
                "\"together\", \"concurrent\": 1",
            )
            .replace("\"burst\": 4", "\"burst\": 9"),
        &mut host,
    );
    let mut renamed_held = begin(&renamed, &mut host, "/").unwrap();
    assert!(begin(&renamed, &mut host, "/").is_none());

    // Without any such limit it ticks on while something is in flight, and then no more.
    host.tick_period = None;
    configure(DEMO, &mut host);
    assert_eq!(host.tick_period, Some(1_000));
    held.on_delete(&mut host);
    renamed_held.on_delete(&mut host);
    host.tick_period = None;
    configure(DEMO, &mut host);
    assert_eq!(host.tick_period, None);
}

#[test]
fn a_place_costs_six_host_calls_and_no_more() {
    let without = IN_FLIGHT.replace("{\"name\": \"parallel\", \"concurrent\": 2}, ", "");
    let calls = |config: &str| {
        let mut host = MemoryHost::new();
        let plugin = configure(config, &mut host);
        let mut all = BTreeMap::new();
        // Not the first, for which VMs count themselves.
        for _ in 0..2 {
            let mut stream = begin(&plugin, &mut host, "/").unwrap();
            host.begin_response::<&str, &str>(200, &[]);
            stream.on_response_headers(&mut host);
            stream.on_delete(&mut host);
            all = host.all_calls();
        }
        all
    };
    let (with, without) = (calls(IN_FLIGHT), calls(&without));
    let more: BTreeMap<Call, u64> = with
        .into_iter()
        .map(|(call, times)| (call, times - without.get(&call).unwrap_or(&0)))
        .filter(|(_, times)| *times > 0)
        .collect();
    assert_eq!(
        more,
        BTreeMap::from([
            (Call::Shared, 2),
            (Call::SetShared, 2),
            (Call::Monotonic, 2)
        ])
    );
}

#[test]
fn a_request_that_cannot_be_counted_does_not_pass() {
    let mut host = MemoryHost::new();
    let plugin = configure(IN_FLIGHT, &mut host);
    host.fail(Call::SetShared, HostError::Status(10));
    assert!(begin(&plugin, &mut host, "/").is_none());
    assert_eq!(
        host.answer().unwrap().details,
        "tollgate_rate_limit_unavailable"
    );
    let mut host = MemoryHost::new();
    host.fail(Call::SetTickPeriod, HostError::Status(12));
    let refused = TenantRateLimit::configure(IN_FLIGHT.as_bytes(), "plugin", &mut host);
    assert_eq!(refused.unwrap_err(), "the proxy gives no ticks: Status(12)");
}
