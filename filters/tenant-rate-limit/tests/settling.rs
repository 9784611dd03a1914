//! Requests that are settled by their responses, as a proxy drives them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tenant_rate_limit::TenantRateLimit;
use tenant_rate_limit::filter::TenantStream;
use tollgate_host::memory::{Call, MemoryHost};
use tollgate_host::{Action, Body, Host, HostError, Plugin, Request, Stream};

const CONFIG: &str = r#"{
    "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free", "individually": 1000}},
    "tiers": {"free": {"limits": [
        {"name": "tokens", "quota": 10000, "per": "minute", "cost": {"estimate": 100, "max": 900, "settle": SETTLE}}
    ]}},
    "routes": [{"match": {"path": {"exact": "/dear"}}, "cost": 50}],
    "answer": {"retryAfter": {"jitter": 0}},
    "metrics": {"unsettled": "unsettled_total"}
}"#;

const JSON: &str = r#"{"json": "/usage/total_tokens"}"#;
const HEADER: &str = r#"{"header": "X-Tokens"}"#;
const TRAILER: &str = r#"{"trailer": "x-tokens"}"#;
const BYTES: &str = r#"{"bytes": "response"}"#;

fn plugin(settle: &str, host: &mut MemoryHost) -> TenantRateLimit {
    let config = CONFIG.replace("SETTLE", settle);
    TenantRateLimit::configure(config.as_bytes(), "plugin", host).unwrap()
}

fn begin(
    plugin: &TenantRateLimit,
    host: &mut MemoryHost,
    headers: &[(&str, &str)],
) -> Option<TenantStream> {
    host.begin(headers);
    let mut request = Request::read(host).unwrap();
    let mut stream = plugin.stream();
    let action = stream.on_request_headers(&mut request, host);
    assert_eq!(request.headers(), &host.request);
    (action == Action::Continue).then_some(stream)
}

/// What a response is made of.
#[derive(Clone, Copy)]
enum Part<'a> {
    Headers(u16, &'a [(&'a str, &'a str)]),
    Body(&'a str),
    Last(&'a str),
    Trailers(&'a [(&'a str, &'a str)]),
    /// Nothing more comes.
    Gone,
}
use Part::{Body as Piece, Gone, Headers, Last, Trailers};

fn answer(stream: &mut TenantStream, host: &mut MemoryHost, parts: &[Part<'_>]) {
    for part in parts {
        match part {
            Headers(status, headers) => {
                host.begin_response(*status, headers);
                stream.on_response_headers(host);
            }
            Piece(bytes) | Last(bytes) => {
                let last = matches!(part, Last(_));
                let chunk = host.chunk(Body::Response, bytes.as_bytes(), last);
                stream.on_response_body(&chunk, host);
            }
            Trailers(trailers) => {
                host.begin_response_trailers(trailers);
                stream.on_response_trailers(host);
            }
            Gone => stream.on_delete(host),
        }
    }
}

fn remaining(host: &MemoryHost) -> u64 {
    let told = host.response.first("ratelimit").unwrap();
    let told = std::str::from_utf8(told).unwrap();
    let rest = told.strip_prefix(r#""tokens";r="#).unwrap();
    rest.split(';').next().unwrap().parse().unwrap()
}

/// What a tenant has used of its 10,000 after a response like this, and what is counted as not settled.
fn used(settle: &str, parts: &[Part<'_>]) -> (u64, Vec<String>) {
    let mut host = MemoryHost::new();
    let plugin = plugin(settle, &mut host);
    let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
    answer(&mut stream, &mut host, parts);
    // However it went, the end of the stream changes nothing that is settled.
    if !matches!(parts.last(), Some(Gone)) {
        stream.on_delete(&mut host);
    }
    drop(stream);
    let mut next = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
    host.begin_response::<&str, &str>(500, &[]);
    next.on_response_headers(&mut host);
    let used = 10_000 - remaining(&host) - 100;
    let names = host.metric_names().into_iter();
    let reasons = names.filter_map(|name| {
        let (_, reason) = name
            .split(";.;")
            .find_map(|label| label.split_once("reason=.="))?;
        Some(reason.to_owned())
    });
    (used, reasons.collect())
}

const PLAIN: &[(&str, &str)] = &[("content-type", "application/json")];
const EVENTS: &[(&str, &str)] = &[("content-type", "text/event-stream")];

#[test]
fn a_response_settles_what_its_request_is_charged() {
    let none: &[&str] = &[];
    let cases: &[(&str, &[Part<'_>], u64, &[&str])] = &[
        (HEADER, &[Headers(200, &[("x-tokens", "250")])], 250, none),
        (HEADER, &[Headers(200, &[("x-tokens", "0")])], 0, none),
        (
            HEADER,
            &[Headers(200, &[("x-tokens", "901")])],
            900,
            &["over_max"],
        ),
        (
            HEADER,
            &[Headers(200, &[("x-tokens", "99999999999999999999999")])],
            900,
            &["over_max"],
        ),
        (
            HEADER,
            &[Headers(200, &[("x-tokens", "-1")])],
            900,
            &["unreadable"],
        ),
        (
            HEADER,
            &[Headers(200, &[("x-tokens", "NaN")])],
            900,
            &["unreadable"],
        ),
        (
            HEADER,
            &[Headers(200, &[("x-tokens", "1"), ("x-tokens", "2")])],
            900,
            &["unreadable"],
        ),
        (HEADER, &[Headers(200, &[])], 900, &["absent"]),
        // Who refuses or fails has mostly done nothing. If it says what it has done, that counts.
        (HEADER, &[Headers(503, &[])], 100, none),
        (HEADER, &[Headers(503, &[("x-tokens", "300")])], 300, none),
        (HEADER, &[Gone], 900, &["ended"]),
        (
            TRAILER,
            &[
                Headers(200, &[]),
                Piece("x"),
                Trailers(&[("x-tokens", "7")]),
            ],
            7,
            none,
        ),
        (
            TRAILER,
            &[
                Headers(200, &[]),
                Piece("x"),
                Trailers(&[("grpc-status", "0")]),
            ],
            900,
            &["absent"],
        ),
        // An error after it has begun may come after the last message: a client chooses its deadline.
        (
            TRAILER,
            &[
                Headers(200, &[]),
                Piece("almost all"),
                Trailers(&[("grpc-status", "4")]),
            ],
            900,
            &["failed"],
        ),
        (
            TRAILER,
            &[Headers(200, &[]), Trailers(&[("grpc-status", "13")])],
            900,
            &["failed"],
        ),
        (
            TRAILER,
            &[
                Headers(200, &[]),
                Trailers(&[("grpc-status", "13"), ("x-tokens", "70")]),
            ],
            70,
            none,
        ),
        (
            TRAILER,
            &[Headers(503, &[]), Trailers(&[("grpc-status", "13")])],
            100,
            none,
        ),
        (
            TRAILER,
            &[Headers(200, &[("grpc-status", "0"), ("x-tokens", "8")])],
            8,
            none,
        ),
        (TRAILER, &[Headers(200, &[("grpc-status", "8")])], 100, none),
        (TRAILER, &[Headers(200, &[("grpc-status", "?")])], 100, none),
        // Nor does a deadline save anything before the first message, whoever notices it.
        (
            TRAILER,
            &[Headers(200, &[("grpc-status", "1")])],
            900,
            &["failed"],
        ),
        (
            TRAILER,
            &[Headers(200, &[("grpc-status", "4")])],
            900,
            &["failed"],
        ),
        (HEADER, &[Headers(408, &[])], 900, &["failed"]),
        (HEADER, &[Headers(499, &[])], 900, &["failed"]),
        (HEADER, &[Headers(504, &[])], 900, &["failed"]),
        (HEADER, &[Headers(504, &[("x-tokens", "300")])], 300, none),
        (
            JSON,
            &[Headers(504, PLAIN), Last(r#"{"error": {}}"#)],
            900,
            &["failed"],
        ),
        (TRAILER, &[Headers(200, &[]), Last("x")], 900, &["absent"]),
        (
            TRAILER,
            &[Headers(200, &[("x-tokens", "7")]), Last("x")],
            900,
            &["absent"],
        ),
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Piece(r#"{"usage": {"total_to"#),
                Last(r#"kens": 321}}"#),
            ],
            321,
            none,
        ),
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Last(r#"{"usage": {"total_tokens": 3.21e2}}"#),
            ],
            321,
            none,
        ),
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Piece(r#"{"usage": {"total_tokens": 5}}"#),
                Trailers(&[]),
            ],
            5,
            none,
        ),
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Last(r#"{"usage": {"total_tokens": 1e99}}"#),
            ],
            900,
            &["over_max"],
        ),
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Last(r#"{"usage": {"total_tokens": 32.5}}"#),
            ],
            900,
            &["unreadable"],
        ),
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Last(r#"{"usage": {"total_tokens": -32}}"#),
            ],
            900,
            &["unreadable"],
        ),
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Last(r#"{"usage": {"total_tokens": -1e99}}"#),
            ],
            900,
            &["unreadable"],
        ),
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Last(r#"{"usage": {"total_tokens": "32"}}"#),
            ],
            900,
            &["unreadable"],
        ),
        (
            JSON,
            &[Headers(200, PLAIN), Last(r#"{"usage": null}"#)],
            900,
            &["absent"],
        ),
        (
            JSON,
            &[Headers(200, PLAIN), Last(r#"{"usage": {"total_to"#)],
            900,
            &["unreadable"],
        ),
        (
            JSON,
            &[Headers(200, PLAIN), Last("oops")],
            900,
            &["unreadable"],
        ),
        (JSON, &[Headers(200, PLAIN), Last("")], 100, &["no_body"]),
        (
            JSON,
            &[Headers(429, PLAIN), Last(r#"{"error": {}}"#)],
            100,
            none,
        ),
        (
            JSON,
            &[Headers(200, &[("content-type", "text/html")]), Last("12")],
            900,
            &["unreadable"],
        ),
        (
            JSON,
            &[
                Headers(
                    200,
                    &[
                        ("content-type", "application/json"),
                        ("content-encoding", "gzip"),
                    ],
                ),
                Last("12"),
            ],
            900,
            &["unreadable"],
        ),
        // It hung up before the number.
        (
            JSON,
            &[Headers(200, PLAIN), Piece(r#"{"text": "a"#), Gone],
            900,
            &["ended"],
        ),
        // And here after it: it is settled at once.
        (
            JSON,
            &[
                Headers(200, PLAIN),
                Piece(r#"{"usage": {"total_tokens": 321},"#),
                Gone,
            ],
            321,
            none,
        ),
        (
            JSON,
            &[
                Headers(200, EVENTS),
                Piece(
                    "data: {\"usage\": null, \"text\": \"a\"}\n\ndata: {\"usage\": {\"total_tokens\": 5}}\n",
                ),
                Piece("\ndata: {\"usage\": {\"total_tokens\": 77}}\n\ndata: [DONE]\n\n"),
                Last(""),
            ],
            77,
            none,
        ),
        (
            JSON,
            &[
                Headers(200, EVENTS),
                Last("data: {\"usage\": null}\n\ndata: [DONE]\n\n"),
            ],
            900,
            &["absent"],
        ),
        // A client that has its last event hangs up. What a stream has said so far it has used.
        (
            JSON,
            &[
                Headers(200, EVENTS),
                Piece("data: {\"usage\": {\"total_tokens\": 5}}\n\ndata: [DONE]\n\n"),
                Gone,
            ],
            5,
            none,
        ),
        (
            JSON,
            &[
                Headers(200, EVENTS),
                Piece("data: {\"usage\": null}\n\n"),
                Gone,
            ],
            900,
            &["ended"],
        ),
        (
            BYTES,
            &[Headers(200, &[]), Piece("0123456789"), Last("0123456789")],
            20,
            none,
        ),
        (
            BYTES,
            &[Headers(200, &[]), Piece("0123456789"), Trailers(&[])],
            10,
            none,
        ),
        (
            BYTES,
            &[Headers(200, &[]), Piece("0123456789"), Gone],
            10,
            none,
        ),
        (BYTES, &[Headers(204, &[])], 0, none),
        (BYTES, &[Gone], 0, none),
    ];
    for (index, (settle, parts, expected, reasons)) in cases.iter().enumerate() {
        let (units, counted) = used(settle, parts);
        assert_eq!(
            (units, counted),
            (*expected, reasons.iter().map(|r| (*r).to_owned()).collect()),
            "case {index} of {settle}"
        );
    }
    // What may be chosen.
    let lenient = r#"{"json": "/usage/total_tokens"}, "unsettled": "estimate""#;
    assert_eq!(used(lenient, &[Gone]), (100, vec!["ended".to_owned()]));
    assert_eq!(used(lenient, &[Headers(200, PLAIN), Last("{}")]).0, 100);
}

#[test]
fn a_call_whose_time_the_proxy_ends_saves_nothing() {
    // What Envoy answers when a call's deadline has passed, and when there is no service.
    for (flags, cost) in [(1_u64 << 2, 900), (1 << 1, 100)] {
        let mut host = MemoryHost::new();
        let plugin = plugin(TRAILER, &mut host);
        let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
        host.set_attribute(&["response", "flags"], &flags.to_le_bytes());
        answer(
            &mut stream,
            &mut host,
            &[Headers(200, &[("grpc-status", "14")]), Gone],
        );
        let mut next = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
        answer(&mut next, &mut host, &[Headers(500, &[])]);
        assert_eq!(remaining(&host), 10_000 - cost - 100, "{flags}");
    }
}

proptest! {
    /// However a body is cut, it says the same.
    #[test]
    fn pieces_do_not_matter(cuts in proptest::collection::vec(1_usize..30, 0..12), events in any::<bool>()) {
        let (headers, body) = match events {
            false => (PLAIN, r#"{"id": "x", "choices": [{"text": "a \"usage\""}], "usage": {"prompt_tokens": 11, "total_tokens": 123}}"#),
            true => (EVENTS, "event: delta\r\ndata: {\"usage\": {\"total_tokens\": 7}}\r\n\r\n: ping\n\ndata: {\"usage\":\ndata: {\"total_tokens\": 123}}\n\ndata: [DONE]\n\n"),
        };
        let mut parts = vec![Headers(200, headers)];
        let mut rest = body;
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            parts.push(Piece(piece));
            rest = after;
        }
        parts.push(Last(rest));
        prop_assert_eq!(used(JSON, &parts), (123, vec![]));
    }

    /// Whatever comes, in whatever order, at most `max` is charged, and it is settled once.
    #[test]
    fn no_response_makes_it_charge_more_than_max(
        settle in prop_oneof![Just(JSON), Just(HEADER), Just(TRAILER), Just(BYTES)],
        status in 100_u16..600,
        value in "[0-9+. eE-]{0,24}|[ -~]{0,12}",
        pieces in proptest::collection::vec("(?s).{0,40}", 0..6),
        ends in 0_usize..3,
    ) {
        let headers = [("content-type", "application/json"), ("x-tokens", value.as_str())];
        let mut parts = vec![Headers(status, &headers)];
        parts.extend(pieces.iter().map(|piece| Piece(piece)));
        parts.push(match ends { 0 => Gone, 1 => Last(&value), _ => Trailers(&headers) });
        prop_assert!(used(settle, &parts).0 <= 900);
    }
}

#[test]
fn what_a_header_settles_is_told_in_the_same_response() {
    let mut host = MemoryHost::new();
    let plugin = plugin(HEADER, &mut host);
    for (tokens, left) in [("250", 9_750), ("0", 9_750), ("100", 9_650), ("900", 8_750)] {
        let mut stream = begin(
            &plugin,
            &mut host,
            &[("x-tenant-id", "acme"), (":path", "/dear")],
        )
        .unwrap();
        answer(
            &mut stream,
            &mut host,
            &[Headers(200, &[("x-tokens", tokens)])],
        );
        assert_eq!(remaining(&host), left);
        assert_eq!(
            host.response.first("x-tokens"),
            Some(tokens.as_bytes()),
            "the client has it, too"
        );
    }
}

#[test]
fn a_client_says_nothing_that_counts() {
    let mut host = MemoryHost::new();
    let plugin = plugin(HEADER, &mut host);
    let headers = [
        ("x-tenant-id", "acme"),
        ("x-tokens", "0"),
        ("content-type", "application/json"),
    ];
    let mut stream = begin(&plugin, &mut host, &headers).unwrap();
    answer(&mut stream, &mut host, &[Headers(200, &[])]);
    assert_eq!(remaining(&host), 10_000 - 900);
}

#[test]
fn a_tenant_in_debt_is_told_what_its_request_is_estimated_at() {
    let mut host = MemoryHost::new();
    let plugin = plugin(HEADER, &mut host);
    for _ in 0..11 {
        let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
        answer(
            &mut stream,
            &mut host,
            &[Headers(200, &[("x-tokens", "900")])],
        );
    }
    assert_eq!(remaining(&host), 100);
    let mut last = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
    answer(
        &mut last,
        &mut host,
        &[Headers(200, &[("x-tokens", "900")])],
    );
    assert!(begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).is_none());
    let refusal: serde_json::Value = serde_json::from_slice(&host.answer().unwrap().body).unwrap();
    assert_eq!(
        refusal["detail"],
        "This request is estimated at 100, and of the limit tokens tenant acme has 0 left; it can pass in 60 s."
    );
}

#[test]
fn the_service_is_not_asked_for_an_answer_that_cannot_be_read() {
    for (settle, kept) in [
        (JSON, false),
        (HEADER, true),
        (TRAILER, true),
        (BYTES, true),
    ] {
        let mut host = MemoryHost::new();
        let plugin = plugin(settle, &mut host);
        let headers = [("x-tenant-id", "acme"), ("accept-encoding", "gzip, br")];
        begin(&plugin, &mut host, &headers).unwrap();
        assert_eq!(
            host.request.first("accept-encoding").is_some(),
            kept,
            "{settle}"
        );
    }
}

#[test]
fn a_limit_in_shadow_changes_no_request() {
    let tokens = r#"{"name": "tokens","#;
    let shadow = |more: &str| {
        let shadow = format!(r#"{tokens} "mode": "shadow", {more}"#);
        CONFIG.replace("SETTLE", JSON).replace(tokens, &shadow)
    };
    let headers = [("x-tenant-id", "acme"), ("accept-encoding", "gzip, br")];
    for (config, kept) in [
        (shadow(""), true),
        (shadow(r#""enforcedFor": {"share": 0},"#), true),
        (shadow(r#""enforcedFor": {"share": 100},"#), false),
    ] {
        let mut host = MemoryHost::new();
        let plugin = TenantRateLimit::configure(config.as_bytes(), "plugin", &mut host).unwrap();
        let mut stream = begin(&plugin, &mut host, &headers).unwrap();
        let accepted = host.request.first("accept-encoding");
        assert_eq!(accepted.is_some(), kept, "{config}");
        let packed = [
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ];
        answer(&mut stream, &mut host, &[Headers(200, &packed), Last("x")]);
        let name =
            "tenant=.=other;.;tier=.=free;.;limit=.=tokens;.;reason=.=unreadable;.;unsettled_total";
        assert_eq!(host.metric_value(name), Some(1), "{config}");
    }
}

#[test]
fn who_takes_a_place_finds_the_debt_of_who_had_it() {
    let parallel = r#"{"free": {"limits": [{"name": "parallel", "concurrent": 1}, "#;
    let config = CONFIG.replace("SETTLE", JSON);
    let config = config.replace(r#"{"free": {"limits": ["#, parallel);
    let mut host = MemoryHost::new();
    let plugin = TenantRateLimit::configure(config.as_bytes(), "plugin", &mut host).unwrap();
    let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
    let read = Arc::new(Mutex::new(Vec::new()));
    let reads = read.clone();
    host.after_shared(move |key| reads.lock().unwrap().push(key.to_vec()));
    stream.on_delete(&mut host);
    let read = read.lock().unwrap();
    let of_places: Vec<bool> = read.iter().map(|key| key.starts_with(b"tif/")).collect();
    assert_eq!(of_places, [false, true], "{read:?}");
}

/// The calls of one request and its response. Not the first, for which a worker counts itself.
fn calls(config: &str, parts: &[Part<'_>]) -> BTreeMap<Call, u64> {
    let mut host = MemoryHost::new();
    let plugin = TenantRateLimit::configure(config.as_bytes(), "plugin", &mut host).unwrap();
    let mut all = BTreeMap::new();
    for _ in 0..2 {
        let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
        answer(&mut stream, &mut host, parts);
        stream.on_delete(&mut host);
        all = host.all_calls();
    }
    all
}

#[test]
fn without_such_a_limit_responses_cost_no_call_and_with_one_few() {
    let body = [
        Headers(
            200,
            &[("content-type", "application/json"), ("x-tokens", "321")],
        ),
        Piece(r#"{"usage": {"total_tokens": 321}}"#),
        Piece("\n"),
        Trailers(&[("x-tokens", "321")]),
    ];
    let with = |settle: &str| CONFIG.replace("SETTLE", settle);
    let cost = r#", "cost": {"estimate": 100, "max": 900, "settle": SETTLE}"#;
    let without = calls(&CONFIG.replace(cost, ""), &body);
    assert_eq!(without.get(&Call::Body), None);
    let more = |settle: &str| -> Vec<(Call, u64)> {
        calls(&with(settle), &body)
            .into_iter()
            .map(|(call, times)| (call, times - without.get(&call).unwrap_or(&0)))
            .filter(|(_, times)| *times > 0)
            .collect()
    };
    let record = [(Call::Shared, 1), (Call::SetShared, 1), (Call::Now, 1)];
    let mut header = vec![(Call::Headers, 1)];
    header.extend(record);
    assert_eq!(more(HEADER), header);
    assert_eq!(more(BYTES), header);
    let mut json = header.clone();
    // As the number is there after the first piece, the second is not fetched.
    json.push((Call::Body, 1));
    json.sort_unstable();
    let mut found = more(JSON);
    found.sort_unstable();
    assert_eq!(found, json);
    let mut trailer = vec![(Call::Headers, 2)];
    trailer.extend(record);
    assert_eq!(more(TRAILER), trailer);
}

#[test]
fn several_limits_are_settled_each_by_its_own_source() {
    let config = r#"{
        "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
        "tiers": {"free": {"limits": [
            {"name": "requests", "quota": 100, "per": "day"},
            {"name": "prompts", "quota": 1000, "per": "day", "cost": {"estimate": 10, "max": 90, "settle": {"json": "/usage/prompt_tokens"}}},
            {"name": "watched", "quota": 1000, "per": "day", "mode": "shadow", "cost": {"estimate": 10, "max": 90, "settle": {"json": "/usage/completion_tokens"}}},
            {"name": "rows", "quota": 1000, "per": "day", "cost": {"estimate": 10, "max": 90, "settle": {"header": "x-rows"}}}
        ]}},
        "routes": [{"match": {}, "cost": 3, "limits": [
            {"name": "traffic", "quota": 1000, "per": "day", "cost": {"estimate": 10, "max": 500, "settle": {"bytes": "response"}}}
        ]}]
    }"#;
    let mut host = MemoryHost::new();
    let plugin = TenantRateLimit::configure(config.as_bytes(), "plugin", &mut host).unwrap();
    let body = r#"{"usage": {"prompt_tokens": 40, "completion_tokens": 50, "total_tokens": 90}}"#;
    let told = |host: &MemoryHost| {
        String::from_utf8(host.response.first("ratelimit").unwrap().to_vec()).unwrap()
    };
    let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
    let parts = [
        Headers(
            200,
            &[("content-type", "application/json"), ("x-rows", "25")],
        ),
        Last(body),
        Gone,
    ];
    answer(&mut stream, &mut host, &parts[..1]);
    // Of the others the estimate is told: their numbers come later.
    assert_eq!(
        told(&host)
            .split(", ")
            .map(|one| one.split(";t").next().unwrap())
            .collect::<Vec<_>>(),
        [
            r#""requests";r=97"#,
            r#""prompts";r=990"#,
            r#""rows";r=975"#,
            r#""traffic";r=990"#
        ]
    );
    answer(&mut stream, &mut host, &parts[1..]);
    let mut next = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
    let watched = String::from_utf8(
        host.property(&["tollgate.shadow_headers"])
            .unwrap()
            .unwrap(),
    )
    .unwrap();
    assert!(watched.contains(r#""watched";r=940"#), "{watched}");
    answer(&mut next, &mut host, &[Headers(200, &[])]);
    let policy = host.response.first("ratelimit-policy").unwrap();
    let policy = std::str::from_utf8(policy).unwrap();
    assert!(
        policy.contains(r#""prompts";q=1000;w=86400, "#)
            && policy.ends_with(r#""traffic";q=1000;w=86400;qu="content-bytes""#),
        "{policy}"
    );
    let traffic = 1_000 - body.len() - 10;
    assert!(
        told(&host).contains(r#""prompts";r=950"#),
        "{}",
        told(&host)
    );
    assert!(
        told(&host).contains(&format!(r#""traffic";r={traffic}"#)),
        "{}",
        told(&host)
    );
}

#[test]
fn a_number_that_was_read_counts_whatever_others_look_for() {
    let config = r#"{
        "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
        "tiers": {
            "free": {"limits": [
                {"name": "prompts", "quota": 1000, "per": "day", "cost": {"estimate": 10, "max": 90, "settle": {"json": "/usage/prompt_tokens"}}},
                {"name": "answers", "quota": 1000, "per": "day", "cost": {"estimate": 10, "max": 90, "settle": {"json": "/usage/completion_tokens"}}}
            ]},
            "images": {"limits": [
                {"name": "pixels", "quota": 1000, "per": "day", "cost": {"estimate": 10, "max": 90, "settle": {"json": "/pixels"}}}
            ]}
        },
        "tenants": {"painter": {"tier": "images"}}
    }"#;
    let whole = r#"{"usage": {"prompt_tokens": 40, "completion_tokens": 50, "#;
    let half = r#"{"usage": {"prompt_tokens": 40, "compl"#;
    let after = |tenant: &str, last: &str, end: Part<'_>| {
        let mut host = MemoryHost::new();
        let plugin = TenantRateLimit::configure(config.as_bytes(), "plugin", &mut host).unwrap();
        let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", tenant)]).unwrap();
        answer(
            &mut stream,
            &mut host,
            &[Headers(200, PLAIN), Piece(last), end, Gone],
        );
        let mut next = begin(&plugin, &mut host, &[("x-tenant-id", tenant)]).unwrap();
        answer(&mut next, &mut host, &[Headers(500, &[])]);
        let told = host.response.first("ratelimit").unwrap();
        let told = std::str::from_utf8(told).unwrap();
        let left = told.split(", ").map(|one| {
            let rest = one.split(";r=").nth(1).unwrap();
            rest.split(';').next().unwrap().parse::<u64>().unwrap()
        });
        // Less the estimate of the request that looks.
        left.map(|left| 990 - left).collect::<Vec<_>>()
    };
    // Nobody waits for the painters' pointer, and one of two is enough for its own limit.
    assert_eq!(after("acme", whole, Gone), [40, 50]);
    assert_eq!(after("acme", half, Gone), [40, 90]);
    assert_eq!(after("acme", half, Last("]")), [40, 90]);
    assert_eq!(after("painter", r#"{"pixels": 7, "#, Gone), [7]);
}

#[test]
fn what_cannot_be_settled_is_counted_and_stays_at_the_estimate() {
    let mut host = MemoryHost::new();
    let plugin = plugin(JSON, &mut host);
    let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
    host.fail(Call::SetShared, HostError::Status(10));
    answer(
        &mut stream,
        &mut host,
        &[
            Headers(200, PLAIN),
            Last(r#"{"usage": {"total_tokens": 500}}"#),
            Gone,
        ],
    );
    host.heal(Call::SetShared);
    let name =
        "tenant=.=other;.;tier=.=free;.;limit=.=tokens;.;reason=.=unavailable;.;unsettled_total";
    assert_eq!(
        host.metric_value(name),
        Some(1),
        "{:?}",
        host.metric_names()
    );
    let mut next = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]).unwrap();
    answer(&mut next, &mut host, &[Headers(500, &[])]);
    assert_eq!(remaining(&host), 9_800);

    // A piece that the proxy does not show makes all of it unreadable.
    let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "globex")]).unwrap();
    answer(&mut stream, &mut host, &[Headers(200, PLAIN)]);
    host.fail(Call::Body, HostError::Status(2));
    answer(&mut stream, &mut host, &[Piece("{")]);
    host.heal(Call::Body);
    answer(
        &mut stream,
        &mut host,
        &[Last(r#""usage": {"total_tokens": 5}}"#), Gone],
    );
    let mut next = begin(&plugin, &mut host, &[("x-tenant-id", "globex")]).unwrap();
    answer(&mut next, &mut host, &[Headers(500, &[])]);
    assert_eq!(remaining(&host), 10_000 - 900 - 100);
}

/// A response that is whole and has no body says nothing of what its request was.
#[test]
fn a_response_without_a_body_counts_for_the_estimate_unless_its_client_chose_that() {
    let empty = |method: &str, status: u16| {
        let mut host = MemoryHost::new();
        let plugin = plugin(JSON, &mut host);
        let headers = [(":method", method), ("x-tenant-id", "acme")];
        let mut stream = begin(&plugin, &mut host, &headers).unwrap();
        answer(
            &mut stream,
            &mut host,
            &[Headers(status, PLAIN), Last(""), Gone],
        );
        let mut next = begin(&plugin, &mut host, &headers).unwrap();
        answer(&mut next, &mut host, &[Headers(500, &[])]);
        let counted = host.metric_value(
            "tenant=.=other;.;tier=.=free;.;limit=.=tokens;.;reason=.=no_body;.;unsettled_total",
        );
        (10_000 - 100 - remaining(&host), counted)
    };
    for (method, status, expected) in [
        ("POST", 204, (100, Some(1))),
        ("OPTIONS", 200, (100, Some(1))),
        ("GET", 205, (100, Some(1))),
        // The service may have done all the work for these.
        ("HEAD", 200, (900, Some(1))),
        ("HEAD", 204, (900, Some(1))),
        ("GET", 304, (900, Some(1))),
        // Errors cost the estimate, and are not worth a word.
        ("HEAD", 404, (100, None)),
        ("POST", 503, (100, None)),
    ] {
        assert_eq!(empty(method, status), expected, "{method} {status}");
    }
}

#[test]
fn what_a_response_says_is_multiplied_exactly() {
    const CENTS: &str = r#"{"header": "x-cost", "scale": 100}"#;
    const JSON_CENTS: &str = r#"{"json": "/cost", "scale": 100}"#;
    const TRAILER_CENTS: &str = r#"{"trailer": "x-cost", "scale": 100}"#;
    for (said, expected, reason) in [
        ("2.51", 251, None),
        ("0.29", 29, None),
        ("1", 100, None),
        ("1.10e0", 110, None),
        ("0", 0, None),
        ("9.01", 900, Some("over_max")),
        ("184467440737095517", 900, Some("over_max")),
        ("0.005", 900, Some("unreadable")),
        ("-1.5", 900, Some("unreadable")),
    ] {
        let reasons: Vec<String> = reason.into_iter().map(str::to_owned).collect();
        let header = [("x-cost", said)];
        let body = format!(r#"{{"cost": {said}}}"#);
        for (settle, parts) in [
            (CENTS, &[Headers(200, &header)][..]),
            (JSON_CENTS, &[Headers(200, PLAIN), Last(&body)]),
            (TRAILER_CENTS, &[Headers(200, PLAIN), Trailers(&header)]),
        ] {
            assert_eq!(
                used(settle, parts),
                (expected, reasons.clone()),
                "{said} by {settle}"
            );
        }
    }
}

#[test]
fn a_header_that_settles_is_taken_out_of_every_response_if_that_is_wanted() {
    let config = CONFIG
        .replace("SETTLE", r#"{"header": "X-Tokens", "strip": true}"#)
        .replace(
            r#""routes": ["#,
            r#""routes": [{"match": {"path": {"exact": "/healthz"}}, "exempt": true}, "#,
        );
    let mut host = MemoryHost::new();
    let plugin = TenantRateLimit::configure(config.as_bytes(), "plugin", &mut host).unwrap();
    for path in ["/", "/healthz"] {
        let headers = [(":path", path), ("x-tenant-id", "acme")];
        let mut stream = begin(&plugin, &mut host, &headers).unwrap();
        let response = [("x-tokens", "250"), ("x-tokens-left", "7")];
        answer(&mut stream, &mut host, &[Headers(200, &response)]);
        assert_eq!(host.response.first("x-tokens"), None, "{path}");
        assert_eq!(host.response.first("x-tokens-left"), Some(&b"7"[..]));
        if path == "/" {
            assert_eq!(remaining(&host), 9_750);
        }
    }
}

#[test]
fn units_are_counted_by_limit_and_tenant() {
    let config = CONFIG
        .replace("SETTLE", HEADER)
        .replace(
            r#""unsettled":"#,
            r#""settled": "units_total", "unsettled":"#,
        )
        .replace(
            r#""routes": ["#,
            r#""tenants": {"acme": {"tier": "free"}}, "routes": ["#,
        );
    let mut host = MemoryHost::new();
    let plugin = TenantRateLimit::configure(config.as_bytes(), "plugin", &mut host).unwrap();
    let units = |host: &MemoryHost, tenant: &str| {
        let name = format!("tenant=.={tenant};.;tier=.=free;.;limit=.=tokens;.;units_total");
        host.metric_value(&name).unwrap_or(0)
    };
    let mut exchange = |tenant: &str, parts: &[Part<'_>]| {
        let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", tenant)]).unwrap();
        answer(&mut stream, &mut host, parts);
        stream.on_delete(&mut host);
        (units(&host, "acme"), units(&host, "other"))
    };
    let says = |units: &'static str| [Headers(200, Vec::leak(vec![("x-tokens", units)]))];
    assert_eq!(exchange("acme", &says("250")), (250, 0));
    assert_eq!(exchange("acme", &says("100")), (350, 0), "as estimated");
    assert_eq!(exchange("acme", &says("0")), (350, 0));
    assert_eq!(
        exchange("acme", &says("5000")),
        (1_250, 0),
        "no more than max"
    );
    assert_eq!(
        exchange("acme", &[Headers(503, &[])]),
        (1_350, 0),
        "the estimate"
    );
    assert_eq!(exchange("acme", &[Headers(200, &[])]), (2_250, 0), "max");
    assert_eq!(exchange("somebody", &says("7")), (2_250, 7));
    assert_eq!(exchange("somebody-else", &says("8")), (2_250, 15));
    host.fail(Call::Shared, HostError::Status(10));
    let mut stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]);
    assert!(stream.is_none(), "nothing passes uncharged");
    host.heal(Call::Shared);
    stream = begin(&plugin, &mut host, &[("x-tenant-id", "acme")]);
    host.fail(Call::SetShared, HostError::Status(10));
    answer(stream.as_mut().unwrap(), &mut host, &says("300"));
    host.heal(Call::SetShared);
    assert_eq!(units(&host, "acme"), 2_350, "what it was charged");
}

/// The row of a tenant that is not listed is full of others' records when its response comes, long after its window.
#[test]
fn what_comes_too_late_for_a_place_is_counted() {
    let config = CONFIG
        .replace("SETTLE", HEADER)
        .replace(r#""individually": 1000"#, r#""individually": 1"#)
        .replace(
            r#""unsettled":"#,
            r#""settled": "units_total", "unsettled":"#,
        );
    let mut host = MemoryHost::new();
    let plugin = TenantRateLimit::configure(config.as_bytes(), "plugin", &mut host).unwrap();
    let mut late: Vec<TenantStream> = ["dear", "cheap"]
        .map(|tenant| begin(&plugin, &mut host, &[("x-tenant-id", tenant)]).unwrap())
        .into();
    host.advance(60_000_000_000);
    for other in 0..24 {
        let other = format!("t{other}");
        begin(&plugin, &mut host, &[("x-tenant-id", &other)]).unwrap();
    }
    for (stream, units) in late.iter_mut().zip(["900", "30"]) {
        answer(
            stream,
            &mut host,
            &[Headers(200, &[("x-tokens", units)]), Gone],
        );
    }
    let value = |rest: &str| {
        let name = format!("tenant=.=other;.;tier=.=free;.;limit=.=tokens;.;{rest}");
        host.metric_value(&name)
    };
    // The one was charged its estimate and 800 are lost; of the other nothing is.
    assert_eq!(value("reason=.=dropped;.;unsettled_total"), Some(1));
    assert_eq!(value("units_total"), Some(200));
}
