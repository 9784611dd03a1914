//! Whose a request is, what it costs and how it is answered, for every source, route and reason; and that no client gets to be
//! somebody else, or pays less, by writing the same in another way.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tenant_rate_limit::TenantRateLimit;
use tollgate_host::memory::{Call, MemoryHost, RecordedResponse};
use tollgate_host::{Action, Host, HostError, Plugin, Request, Stream, Trailers};

/// A plugin and its proxy.
struct Gate {
    plugin: TenantRateLimit,
    host: MemoryHost,
}

/// Every source, every kind of route, and a day's quota that shows what a request cost.
fn config() -> Value {
    json!({
        "tenant": {
            "from": [
                {"host": "{tenant}.shop.example.com"},
                {"path": "/t/{tenant}/**"},
                {"query": "tenant"},
                {"cookie": "tenant"},
                {"header": "x-tenant-id"},
            ],
            "unknown": {"tier": "free"},
        },
        "tiers": {
            "free": {"limits": [{"name": "daily", "quota": 1000, "per": "day"}]},
            "premium": {"limits": [{"name": "rate", "requests": 100, "per": "1s", "burst": 200}, {"name": "daily", "quota": 100_000, "per": "day"}]},
            "internal": {"unlimited": true},
            "gone": {"blocked": true},
        },
        "tenants": {
            "acme": {"tier": "premium"},
            "globex": {"tier": "premium", "limits": [{"name": "rate", "requests": 1, "per": "1s", "burst": 3}]},
            "monitor": {"tier": "internal"},
            "fraud": {"tier": "free", "blocked": true},
            "former": {"tier": "gone"},
        },
        "routes": [
            {"match": {"path": {"exact": "/health"}}, "exempt": true},
            {"match": {"path": {"prefix": "/export"}}, "cost": 20},
            {"match": {"path": {"prefix": "/search"}}, "cost": {"query": "n", "min": 2, "max": 50, "default": 10}},
            {"match": {"headers": {"x-batch": {"exact": "yes"}}}, "cost": {"header": "x-cost", "min": 1, "max": 40, "default": 5}},
            {"match": {"method": {"exact": "POST"}, "path": {"exact": "/login"}, "host": {"suffix": ".example.com"}},
                "limits": [{"name": "login", "quota": 2, "per": "minute"}]},
            {"match": {"path": {"exact": "/huge"}}, "cost": 5000},
        ],
        "answer": {"retryAfter": {"jitter": 0}},
        "metrics": {"admitted": "admitted_total", "refused": "refused_total", "tracked": "tracked", "evictions": "evictions_total",
            "contention": "contention_total"},
    })
}

impl Gate {
    fn new(config: &Value) -> Self {
        let mut host = MemoryHost::new();
        let config = config.to_string();
        let plugin = TenantRateLimit::configure(config.as_bytes(), "gate", &mut host).unwrap();
        Self { plugin, host }
    }

    /// A request from start to end; its answer if it was refused.
    fn send<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        headers: &[(N, V)],
    ) -> Option<RecordedResponse> {
        self.send_vouched(headers, |_| {})
    }

    /// A request of which the proxy knows more than its headers.
    fn send_vouched<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        headers: &[(N, V)],
        vouch: impl FnOnce(&mut MemoryHost),
    ) -> Option<RecordedResponse> {
        self.host.begin(headers);
        vouch(&mut self.host);
        let mut request = Request::read(&self.host).unwrap();
        let mut stream = self.plugin.stream();
        let action = stream.on_request_headers(&mut request, &mut self.host);
        assert_eq!(request.headers(), &self.host.request);
        let answer = self.host.answer().cloned();
        assert_eq!(answer.is_some(), action == Action::Stop);
        if answer.is_none() {
            self.host.begin_response::<&str, &str>(200, &[]);
            stream.on_response_headers(&mut self.host);
        }
        answer
    }

    fn header(&self, name: &str) -> Option<String> {
        let value = self.host.response.first(name)?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    /// Who the last request was from, as everybody behind the filter sees it.
    fn tenant(&self) -> Option<String> {
        let id = self.host.request.first("x-tenant-id")?;
        Some(String::from_utf8(id.to_vec()).unwrap())
    }

    /// What is left of the day, as the last response or refusal says it.
    fn left(&self) -> u64 {
        let told = match self.host.answer() {
            Some(answer) => answer.header("ratelimit").unwrap().to_owned(),
            None => self.header("ratelimit").unwrap(),
        };
        let daily = told.split("\"daily\";r=").nth(1).unwrap();
        daily.split(';').next().unwrap().parse().unwrap()
    }

    /// What a request of an otherwise unused tenant costs.
    fn cost<V: AsRef<[u8]>>(&mut self, headers: &[(&str, V)]) -> u64 {
        let all: Vec<(&str, &[u8])> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_ref()))
            .chain([("x-tenant-id", &b"fresh"[..])])
            .collect();
        let refused = self.send(&all);
        assert_eq!(refused, None);
        self.host.advance(86_400_000_000_000);
        1_000 - self.left()
    }

    fn refused(&self) -> Option<String> {
        let property = self.host.property(&["tollgate.refused"]).unwrap();
        property.map(|text| String::from_utf8(text).unwrap())
    }

    fn counts(&self) -> BTreeMap<String, i64> {
        let names = self.host.metric_names().into_iter();
        names
            .map(|name| (name.clone(), self.host.metric_value(&name).unwrap()))
            .filter(|(_, count)| *count != 0)
            .collect()
    }
}

#[test]
fn each_source_names_a_tenant_and_the_first_that_says_anything_decides() {
    let mut gate = Gate::new(&config());
    for (headers, expected) in [
        (&[(":authority", "Acme.shop.example.com:8080")][..], "acme"),
        (&[(":path", "/t/acme/orders?x=1")], "acme"),
        (&[(":path", "/?tenant=%61CME")], "acme"),
        (&[("cookie", "a=1; tenant=acme")], "acme"),
        (&[("cookie", "a=1"), ("cookie", "tenant=acme")], "acme"),
        (&[("x-tenant-id", " ACME ")], "acme"),
        (&[], "anonymous"),
        // In order.
        (
            &[
                (":authority", "one.shop.example.com"),
                (":path", "/t/two?tenant=three"),
                ("cookie", "tenant=four"),
                ("x-tenant-id", "five"),
            ],
            "one",
        ),
        (
            &[(":path", "/t/two?tenant=three"), ("x-tenant-id", "five")],
            "two",
        ),
        (
            &[(":path", "/?tenant=three"), ("cookie", "tenant=four")],
            "three",
        ),
        (
            &[("cookie", "tenant=four"), ("x-tenant-id", "five")],
            "four",
        ),
        // Whoever spoils the first is not asked the second.
        (
            &[
                (":authority", "a b.shop.example.com"),
                ("x-tenant-id", "five"),
            ],
            "anonymous",
        ),
        (
            &[(":authority", ".shop.example.com"), ("x-tenant-id", "five")],
            "anonymous",
        ),
        (
            &[(":path", "/t/%61cme/"), ("x-tenant-id", "five")],
            "anonymous",
        ),
        (
            &[(":path", "//t/acme/"), ("x-tenant-id", "five")],
            "anonymous",
        ),
        (&[(":path", "/t/"), ("x-tenant-id", "five")], "five"),
        (
            &[(":path", "/?tenant="), ("x-tenant-id", "five")],
            "anonymous",
        ),
        (
            &[(":path", "/?tenant=a&Tenant=a"), ("x-tenant-id", "five")],
            "anonymous",
        ),
        (
            &[("cookie", "tenant=\"acme\""), ("x-tenant-id", "five")],
            "anonymous",
        ),
        (
            &[("cookie", "tenant=a; tenant=a"), ("x-tenant-id", "five")],
            "anonymous",
        ),
        (
            &[("x-tenant-id", "five"), ("x-tenant-id", "five")],
            "anonymous",
        ),
        (&[("x-tenant-id", "\u{e9}")], "anonymous"),
        // Not of the template: the next one counts.
        (
            &[
                (":authority", "a.b.shop.example.com"),
                ("x-tenant-id", "five"),
            ],
            "five",
        ),
        (
            &[(":path", "/products//7"), ("x-tenant-id", "five")],
            "five",
        ),
        (&[(":path", "*"), ("x-tenant-id", "five")], "five"),
    ] {
        gate.send(headers);
        assert_eq!(gate.tenant().as_deref(), Some(expected), "{headers:?}");
    }
}

/// A gateway for tokens, a nested claim, other meshes, and then a header.
fn vouched() -> Value {
    let mut config = config();
    config["tenant"]["from"] = json!([
        {"claim": "tenant"},
        {"claim": ["https://shop.example.com/realm", "tenant"]},
        {"peer": "spiffe://partner.example/ns/{tenant}/sa/*"},
        {"header": "x-tenant-id"},
    ]);
    config
}

#[test]
fn a_claim_names_a_tenant_if_it_is_a_string() {
    let realm = "https://shop.example.com/realm";
    let eight = f64::from_le_bytes(*b"acme-eu1");
    let mut gate = Gate::new(&vouched());
    for (payload, expected) in [
        (json!({"tenant": "globex"}), "globex"),
        (json!({"tenant": " ACME "}), "acme"),
        (
            json!({"tenant": "globex", realm: {"tenant": "acme"}}),
            "globex",
        ),
        (json!({realm: {"tenant": "globex"}}), "globex"),
        // As many bytes as a number, and as a bool.
        (json!({"tenant": "acme-eu1"}), "acme-eu1"),
        (json!({"tenant": "a"}), "a"),
        // What only looks like it without its type.
        (json!({"tenant": eight}), "anonymous"),
        (json!({"tenant": 41}), "anonymous"),
        (json!({"tenant": true}), "anonymous"),
        // What is there and no id is not left to the next source.
        (json!({"tenant": ""}), "anonymous"),
        (json!({"tenant": null}), "anonymous"),
        (json!({"tenant": ["acme"]}), "anonymous"),
        (json!({"tenant": ["acme", null]}), "anonymous"),
        (json!({"tenant": {"id": "acme"}}), "anonymous"),
        (json!({"tenant": {}}), "anonymous"),
        (json!({"tenant": "acme,globex"}), "anonymous"),
        (
            json!({"tenant": "", realm: {"tenant": "acme"}}),
            "anonymous",
        ),
        (json!({"tenant": "x".repeat(1 << 20)}), "anonymous"),
        // Nulls elsewhere are no matter, and neither is how large a token is.
        (
            json!({"tenant": "globex", "null": null, "groups": ["a", null]}),
            "globex",
        ),
        (
            json!({"tenant": "acme-eu1", "null": null, "groups": ["a", null]}),
            "acme-eu1",
        ),
        (
            json!({"tenant": "acme-eu1", "long": "x".repeat(1 << 20)}),
            "acme-eu1",
        ),
        (json!({realm: {"tenant": "globex", "null": null}}), "globex"),
        // What is not there is.
        (json!({}), "header"),
        (
            json!({"Tenant": "acme", realm: {"Tenant": "acme"}}),
            "header",
        ),
        (json!({"null": null, realm: "acme"}), "header"),
        (json!({realm: [{"tenant": "acme"}]}), "header"),
    ] {
        gate.send_vouched(&[("x-tenant-id", "header")], |host| {
            host.set_claims(payload.clone())
        });
        assert_eq!(gate.tenant().as_deref(), Some(expected), "{payload:.200}");
    }
    gate.send(&[("x-tenant-id", "header")]);
    assert_eq!(gate.tenant().as_deref(), Some("header"), "without a token");
}

#[test]
fn a_tenant_is_passed_on_by_those_whose_word_counts() {
    let mut of_sidecar = config();
    of_sidecar["tenant"]["from"] = json!([
        {"passedOn": {"peers": [{"exact": "spiffe://cluster.local/ns/edge/sa/gateway"}, {"prefix": "spiffe://cluster.local/ns/shop/sa/"}]}},
        {"peer": "spiffe://cluster.local/ns/{tenant}/sa/*"},
    ]);
    let mut gate = Gate::new(&of_sidecar);
    let gateway = Some("spiffe://cluster.local/ns/edge/sa/gateway");
    let cart = Some("spiffe://cluster.local/ns/shop/sa/cart");
    let acme = ("x-tenant-id", "acme");
    // The tier is that of this limiter's table, whatever the peer says of it.
    let free = ("x-tenant-tier", "free");
    for (peer, headers, tenant, tier) in [
        (gateway, &[acme, free][..], "acme", "premium"),
        (cart, &[acme], "acme", "premium"),
        (
            cart,
            &[("x-tenant-id", "Unheard-Of ")],
            "unheard-of",
            "free",
        ),
        // What is not said once and as an id is said by nobody: the next source is not asked.
        (cart, &[acme, acme], "anonymous", "free"),
        (cart, &[("x-tenant-id", "")], "anonymous", "free"),
        (cart, &[("x-tenant-id", "a b")], "anonymous", "free"),
        // Where nothing is passed on, it is.
        (cart, &[free], "shop", "free"),
        (cart, &[("x_tenant_id", "acme")], "shop", "free"),
        // Strangers say nothing.
        (
            Some("spiffe://cluster.local/ns/jobs/sa/cart"),
            &[acme],
            "jobs",
            "free",
        ),
        (
            Some("spiffe://cluster.local/ns/edge/sa/gateway2"),
            &[acme],
            "edge",
            "free",
        ),
        (
            Some("spiffe://elsewhere/ns/shop/sa/cart"),
            &[acme],
            "anonymous",
            "free",
        ),
        (
            None,
            &[acme, ("x-tenant-tier", "premium")],
            "anonymous",
            "free",
        ),
    ] {
        gate.send_vouched(headers, |host| {
            if let Some(peer) = peer {
                host.set_attribute(&["connection", "mtls"], &[1]);
                host.set_attribute(&["connection", "uri_san_peer_certificate"], peer.as_bytes());
            }
        });
        assert_eq!(
            gate.tenant().as_deref(),
            Some(tenant),
            "{peer:?} {headers:?}"
        );
        let said: Vec<_> = gate.host.request.all("x-tenant-tier").collect();
        assert_eq!(said, [tier.as_bytes()], "{peer:?} {headers:?}");
        assert_eq!(gate.host.request.first("x_tenant_id"), None);
    }
}

#[test]
fn a_peer_names_a_tenant_if_it_has_proven_its_identity() {
    let mut gate = Gate::new(&vouched());
    for (mtls, peer, expected) in [
        (
            Some(1),
            Some("spiffe://partner.example/ns/acme/sa/orders"),
            "acme",
        ),
        (
            Some(1),
            Some("spiffe://partner.example/ns/ACME/sa/orders"),
            "acme",
        ),
        (
            Some(1),
            Some("spiffe://partner.example/ns/a%63me/sa/orders"),
            "anonymous",
        ),
        (
            Some(1),
            Some("spiffe://partner.example/ns//sa/orders"),
            "anonymous",
        ),
        (
            Some(1),
            Some("spiffe://partner.example/ns/acme/sa/orders/x"),
            "header",
        ),
        (
            Some(1),
            Some("spiffe://cluster.local/ns/acme/sa/orders"),
            "header",
        ),
        (
            Some(1),
            Some("https://partner.example/ns/acme/sa/orders"),
            "header",
        ),
        (Some(1), None, "header"),
        (
            Some(0),
            Some("spiffe://partner.example/ns/acme/sa/orders"),
            "header",
        ),
        (
            None,
            Some("spiffe://partner.example/ns/acme/sa/orders"),
            "header",
        ),
    ] {
        gate.send_vouched(&[("x-tenant-id", "header")], |host| {
            if let Some(mtls) = mtls {
                host.set_attribute(&["connection", "mtls"], &[mtls]);
            }
            if let Some(peer) = peer {
                host.set_attribute(&["connection", "uri_san_peer_certificate"], peer.as_bytes());
            }
        });
        assert_eq!(
            gate.tenant().as_deref(),
            Some(expected),
            "{mtls:?} {peer:?}"
        );
    }
}

#[test]
fn the_proxy_is_asked_by_sources_alone() {
    let calls = |gate: &mut Gate, vouch: &dyn Fn(&mut MemoryHost)| {
        gate.send_vouched(&[("x-tenant-id", "header")], vouch);
        gate.host.calls(Call::Property)
    };
    let with_claims =
        |payload: Value| move |host: &mut MemoryHost| host.set_claims(payload.clone());
    let mut gate = Gate::new(&config());
    assert_eq!(
        calls(&mut gate, &with_claims(json!({"tenant": "globex"}))),
        0
    );

    let mut gate = Gate::new(&vouched());
    assert_eq!(
        calls(&mut gate, &with_claims(json!({"tenant": "globex"}))),
        1
    );
    assert_eq!(
        calls(&mut gate, &with_claims(json!({"tenant": "acme-eu1"}))),
        2
    );
    // Each claim once by itself until one is not there, then all of them once, then the peer.
    assert_eq!(calls(&mut gate, &with_claims(json!({}))), 3);
    assert_eq!(calls(&mut gate, &|_| {}), 3);

    let mut config = config();
    config["tenant"]["from"] = json!([
        {"peer": "spiffe://partner.example/ns/{tenant}/sa/*"},
        {"peer": "spiffe://partner.example/ns/shop/sa/{tenant}"},
    ]);
    let mut gate = Gate::new(&config);
    let peer = |host: &mut MemoryHost| {
        host.set_attribute(&["connection", "mtls"], &[1]);
        host.set_attribute(&["connection", "uri_san_peer_certificate"], b"spiffe://x/y");
    };
    assert_eq!(calls(&mut gate, &peer), 2);
    assert_eq!(calls(&mut gate, &|_| {}), 1);
}

#[test]
fn a_proxy_that_does_not_show_claims_names_nobody() {
    let mut gate = Gate::new(&vouched());
    gate.send_vouched(&[("x-tenant-id", "header")], |host| {
        host.fail_attribute(&["metadata"], HostError::Status(10));
    });
    assert_eq!(gate.tenant().as_deref(), Some("anonymous"));
}

#[test]
fn what_clients_say_in_trailers_is_taken_away() {
    let mut gate = Gate::new(&config());
    gate.send(&[("x-tenant-id", "acme")]);
    let mut stream = gate.plugin.stream();
    gate.host.begin_trailers(&[
        ("x-tenant-id", "globex"),
        ("x_tenant_id", "globex"),
        ("X-Tenant-Tier", "internal"),
        ("x-tenant-tier", "internal"),
        ("x-tenant-tier", "internal"),
        ("grpc-status", "0"),
    ]);
    let mut trailers = Trailers::read(&gate.host).unwrap();
    let action = stream.on_request_trailers(&mut trailers, &mut gate.host);
    assert_eq!(action, Action::Continue);
    let left: Vec<_> = gate.host.trailers.iter().map(|(name, _)| name).collect();
    assert_eq!(left, [b"grpc-status"]);

    gate.host.begin_trailers(&[("x_tenant_tier", "internal")]);
    gate.host.fail(Call::RemoveHeader, HostError::Status(2));
    let mut trailers = Trailers::read(&gate.host).unwrap();
    let action = stream.on_request_trailers(&mut trailers, &mut gate.host);
    assert_eq!(action, Action::Stop);
    assert_eq!(gate.host.answer().unwrap().status, 500);
}

#[test]
fn a_request_without_an_id_may_be_refused() {
    let mut config = config();
    config["tenant"]["missing"] = json!({"refuse": 401, "challenge": "Bearer realm=\"shop\""});
    let mut gate = Gate::new(&config);
    let claims = [("x-tenant-tier", "premium"), ("x_tenant_id", "acme")];
    let answer = gate.send(&claims).unwrap();
    assert_eq!(
        (answer.status, answer.details.as_str(), answer.grpc_status),
        (401, "tollgate_tenant_missing", Some(16))
    );
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"shop\"")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(answer.header("ratelimit"), None);
    assert_eq!(
        serde_json::from_slice::<Value>(&answer.body).unwrap(),
        json!({"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "The request does not say which tenant it is from.",
            "reason": "missing"})
    );
    assert_eq!(gate.refused().as_deref(), Some("? ? ? missing"));
    // Nobody behind the filter, nor the access log, sees a claim.
    assert!(
        !gate
            .host
            .request
            .iter()
            .any(|(name, _)| name.starts_with(b"x"))
    );

    let answer = gate.send(&[("x-tenant-id", "a b")]).unwrap();
    assert_eq!(
        (answer.status, answer.details.as_str()),
        (401, "tollgate_tenant_unusable")
    );
    assert_eq!(gate.refused().as_deref(), Some("? ? ? unusable"));

    // What is exempt needs no tenant, and still carries no claim.
    assert_eq!(
        gate.send(&[(":path", "/health"), ("x-tenant-tier", "premium")]),
        None
    );
    assert_eq!(gate.tenant(), None);
    assert!(
        !gate
            .host
            .request
            .iter()
            .any(|(name, _)| name.starts_with(b"x"))
    );

    let series = |reason: &str| {
        (
            format!(
                "tenant=.=none;.;tier=.=none;.;limit=.=none;.;reason=.={reason};.;refused_total"
            ),
            1,
        )
    };
    assert_eq!(
        gate.counts(),
        BTreeMap::from([
            series("missing"),
            series("unusable"),
            ("tenant=.=none;.;tier=.=none;.;admitted_total".to_owned(), 1)
        ])
    );

    config["tenant"]["missing"] = json!({"refuse": 400});
    let mut gate = Gate::new(&config);
    let answer = gate.send::<&str, &str>(&[]).unwrap();
    assert_eq!((answer.status, answer.grpc_status), (400, Some(3)));
    assert_eq!(answer.header("www-authenticate"), None);
}

#[test]
fn the_unlimited_are_charged_nothing_and_the_blocked_are_refused_always() {
    let mut gate = Gate::new(&config());
    // Not even by a route with a limit of its own, or a cost that nobody could pay.
    for path in ["/", "/huge", "/login"] {
        for _ in 0..5 {
            let headers = [
                (":path", path),
                (":method", "POST"),
                ("x-tenant-id", "monitor"),
            ];
            assert_eq!(gate.send(&headers), None);
            assert_eq!(gate.header("ratelimit"), None);
            assert_eq!(gate.host.calls(Call::Shared), 0);
            assert_eq!(
                gate.host.calls(Call::Monotonic) + gate.host.calls(Call::Now),
                0
            );
        }
    }
    for (tenant, tier) in [("fraud", "free"), ("former", "gone")] {
        // Not even where others are exempt.
        for path in ["/", "/health"] {
            let answer = gate
                .send(&[(":path", path), ("x-tenant-id", tenant)])
                .unwrap();
            assert_eq!(
                (answer.status, answer.details.as_str(), answer.grpc_status),
                (403, "tollgate_tenant_blocked", Some(7))
            );
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(
                body["detail"],
                format!("The tenant {tenant} may not send requests.")
            );
            assert_eq!(body["reason"], "blocked");
            assert_eq!(gate.host.calls(Call::Shared), 0);
        }
        assert_eq!(gate.refused(), Some(format!("{tenant} {tier} ? blocked")));
    }
    let counts = gate.counts();
    assert_eq!(
        counts["tenant=.=monitor;.;tier=.=internal;.;admitted_total"],
        15
    );
    assert_eq!(
        counts["tenant=.=fraud;.;tier=.=free;.;limit=.=none;.;reason=.=blocked;.;refused_total"],
        2
    );
}

#[test]
fn a_tenant_may_have_single_limits_of_its_own() {
    let mut gate = Gate::new(&config());
    gate.send(&[("x-tenant-id", "globex")]);
    assert_eq!(
        gate.header("ratelimit-policy").as_deref(),
        Some(r#""rate";q=3;w=3, "daily";q=100000;w=86400"#)
    );
    let admitted = (0..10).filter(|_| gate.send(&[("x-tenant-id", "globex")]).is_none());
    assert_eq!(admitted.count(), 2);
    assert_eq!(
        gate.refused().as_deref(),
        Some("globex premium rate limited")
    );
    gate.send(&[("x-tenant-id", "acme")]);
    assert_eq!(
        gate.header("ratelimit-policy").as_deref(),
        Some(r#""rate";q=200;w=2, "daily";q=100000;w=86400"#)
    );
}

#[test]
fn the_first_route_that_matches_says_what_a_request_costs() {
    let mut gate = Gate::new(&config());
    for (headers, expected) in [
        (&[(":path", "/products")][..], 1),
        (&[(":path", "/export/all")], 20),
        (&[(":path", "/search")], 10),
        (&[(":path", "/search?n=30")], 30),
        (&[(":path", "/search?n=030")], 30),
        (&[(":path", "/search?n=1")], 2),
        (&[(":path", "/search?n=0")], 2),
        (&[(":path", "/search?n=51")], 50),
        (&[(":path", "/search?n=99999999999999999999999999")], 50),
        // What only others would understand costs the most.
        (&[(":path", "/search?n=-1")], 50),
        (&[(":path", "/search?n=1e3")], 50),
        (&[(":path", "/search?n=3.0")], 50),
        (&[(":path", "/search?n=")], 50),
        (&[(":path", "/search?n=2&n=50")], 50),
        (&[(":path", "/search?n=2&N=50")], 50),
        (&[(":path", "/search?n=2;n=50")], 50),
        (&[("x-batch", "yes")], 5),
        (&[("x-batch", "yes"), ("x-cost", " 7 ")], 7),
        (&[("x-batch", "yes"), ("x-cost", "7"), ("x_cost", "1")], 40),
        (&[("x-batch", "yes"), ("X-Cost", "7"), ("x-cost", "1")], 40),
        (&[("x-batch", "yes"), ("x-cost", "cheap")], 40),
        (&[("x-batch", "no"), ("x-cost", "7")], 1),
        // First match: the header's route comes later.
        (&[(":path", "/export"), ("x-batch", "yes")], 20),
        // Where readings differ, the stricter one counts.
        (&[(":path", "/%65xport")], 20),
        (&[(":path", "//export")], 20),
        (&[(":path", "/health/..%2fexport")], 20),
        (&[(":path", "/health%2f..%2fexport")], 20),
        (&[(":path", "/export/..%2fhealth")], 20),
        (&[(":path", "/health;x=1")], 1),
    ] {
        assert_eq!(gate.cost(headers), expected, "{headers:?}");
    }
    // Exempt: nothing is looked up or told.
    assert_eq!(
        gate.send(&[(":path", "/health?x=1"), ("x-tenant-id", "acme")]),
        None
    );
    assert_eq!(gate.tenant().as_deref(), Some("acme"));
    assert_eq!(gate.header("ratelimit"), None);
    assert_eq!(gate.host.calls(Call::Shared), 0);
}

#[test]
fn a_route_adds_limits_for_each_tenant_by_itself() {
    let mut gate = Gate::new(&config());
    let login = |tenant| {
        [
            (":method", "POST"),
            (":path", "/login?from=here"),
            (":authority", "Api.Example.com:443"),
            ("x-tenant-id", tenant),
        ]
    };
    for tenant in ["one", "two"] {
        assert_eq!(gate.send(&login(tenant)), None);
        assert_eq!(
            gate.header("ratelimit-policy").as_deref(),
            Some(r#""daily";q=1000;w=86400, "login";q=2;w=60"#)
        );
        assert_eq!(
            gate.header("ratelimit").as_deref(),
            Some(r#""daily";r=999;t=86400, "login";r=1;t=60"#)
        );
        assert_eq!(gate.send(&login(tenant)), None);
        let answer = gate.send(&login(tenant)).unwrap();
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), Some("60"));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["violated-policies"], json!(["login"]));
        assert_eq!(gate.refused(), Some(format!("{tenant} free login limited")));
        // Elsewhere the tenant is as it was: a refusal has cost nothing.
        assert_eq!(gate.send(&[("x-tenant-id", tenant)]), None);
        assert_eq!(
            gate.header("ratelimit").as_deref(),
            Some(r#""daily";r=997;t=86400"#)
        );
    }
    assert_eq!(
        gate.counts()["tenant=.=other;.;tier=.=free;.;limit=.=login;.;reason=.=limited;.;refused_total"],
        2
    );
}

#[test]
fn what_never_passes_is_not_told_to_come_back() {
    let mut gate = Gate::new(&config());
    let huge = [(":path", "/huge"), ("x-tenant-id", "small")];
    let answer = gate.send(&huge).unwrap();
    assert_eq!(
        (answer.status, answer.details.as_str(), answer.grpc_status),
        (403, "tollgate_too_costly", Some(8))
    );
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(
        serde_json::from_slice::<Value>(&answer.body).unwrap(),
        json!({"type": "about:blank", "title": "Forbidden", "status": 403, "reason": "too_costly", "violated-policies": ["daily"],
            "detail": "This request costs 5000, and the limit daily of tenant small never lets more than 1000 pass at once."})
    );
    assert_eq!(
        gate.refused().as_deref(),
        Some("small free daily too_costly")
    );
    assert_eq!(gate.left(), 1_000);

    let grpc = [huge[0], huge[1], ("content-type", "application/grpc")];
    let answer = gate.send(&grpc).unwrap();
    assert_eq!(answer.header("grpc-retry-pushback-ms"), Some("-1"));
}

#[test]
fn a_grpc_client_is_told_in_milliseconds_when_to_come_back() {
    let mut gate = Gate::new(&config());
    let call = [
        ("x-tenant-id", "globex"),
        ("content-type", "application/grpc+proto"),
    ];
    (0..3).for_each(|_| assert_eq!(gate.send(&call), None));
    let answer = gate.send(&call).unwrap();
    assert_eq!(answer.header("grpc-retry-pushback-ms"), Some("1000"));
    assert_eq!(answer.grpc_status, Some(8));
    // Others are not.
    let answer = gate.send(&call[..1]).unwrap();
    assert_eq!(answer.header("grpc-retry-pushback-ms"), None);
}

#[test]
fn the_answer_is_as_configured() {
    let mut config = config();
    config["answer"] = json!({"status": 503, "headers": {"rateLimit": false, "xRateLimit": true}});
    let mut gate = Gate::new(&config);
    for left in [2, 1, 0] {
        assert_eq!(gate.send(&[("x-tenant-id", "globex")]), None);
        assert_eq!(gate.header("ratelimit"), None);
        assert_eq!(gate.header("ratelimit-policy"), None);
        assert_eq!(
            gate.header("x-ratelimit-limit").as_deref(),
            Some(r#"3, 3;w=3;name="rate", 100000;w=86400;name="daily""#)
        );
        assert_eq!(gate.header("x-ratelimit-remaining"), Some(left.to_string()));
        assert_eq!(gate.header("x-ratelimit-reset").as_deref(), Some("1"));
    }
    let answer = gate.send(&[("x-tenant-id", "globex")]).unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(answer.header("ratelimit"), None);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["status"], 503);

    config["answer"] = json!({"headers": {"rateLimit": false}});
    let mut gate = Gate::new(&config);
    assert_eq!(gate.send(&[("x-tenant-id", "globex")]), None);
    assert_eq!(gate.host.calls(Call::AddHeader), 0);
    assert_eq!(gate.host.calls(Call::SetHeader), 1 /* the tier */);
}

#[test]
fn retry_after_is_later_by_chance_and_never_earlier() {
    let mut config = config();
    config["answer"] = json!({"retryAfter": {"jitter": 20}});
    let mut gate = Gate::new(&config);
    let mut seen = std::collections::BTreeSet::new();
    let one = [("x-tenant-id", "one"), (":path", "/search?n=50")];
    (0..20).for_each(|_| assert_eq!(gate.send(&one), None));
    for _ in 0..100 {
        let answer = gate.send(&one).unwrap();
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((86_400..=86_400 * 6 / 5).contains(&seconds), "{seconds}");
        seen.insert(seconds);
    }
    assert!(seen.len() > 50, "{seen:?}");
}

#[test]
fn what_cannot_be_charged_is_counted_and_told_too() {
    let mut gate = Gate::new(&config());
    gate.host.fail(Call::Shared, HostError::Status(10));
    let answer = gate.send(&[("x-tenant-id", "acme")]).unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(
        gate.refused().as_deref(),
        Some("acme premium ? unavailable")
    );
    gate.host.heal(Call::Shared);
    let other = gate.host.worker();
    gate.host
        .after_shared(move |key| other.overwrite_shared(key, b""));
    let answer = gate.send(&[("x-tenant-id", "acme")]).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&answer.body).unwrap(),
        json!({"type": "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity", "title": "Temporary reduced capacity",
            "status": 503, "detail": "The request could not be charged.", "reason": "contended"})
    );
    let series = |reason: &str| {
        (
            format!(
                "tenant=.=acme;.;tier=.=premium;.;limit=.=none;.;reason=.={reason};.;refused_total"
            ),
            1,
        )
    };
    assert_eq!(
        gate.counts(),
        BTreeMap::from([
            series("unavailable"),
            series("contended"),
            // As often as it was tried.
            ("contention_total".to_owned(), 100)
        ])
    );
}

#[test]
fn the_table_of_tenants_is_told() {
    let mut config = config();
    config["tenant"]["unknown"]["individually"] = json!(8);
    let mut gate = Gate::new(&config);
    let send = |gate: &mut Gate, tenants: std::ops::Range<u32>| {
        for n in tenants {
            assert_eq!(gate.send(&[("x-tenant-id", format!("invented-{n}"))]), None);
        }
        let counts = gate.counts();
        let of = |name: &str| counts.get(name).copied().unwrap_or(0);
        (of("tracked"), of("evictions_total"))
    };
    assert_eq!(send(&mut gate, 0..5), (5, 0));
    assert_eq!(send(&mut gate, 0..5), (5, 0), "those are known");
    // One row of 24: the others share a record, which is no tenant's.
    assert_eq!(send(&mut gate, 5..30), (24, 0));
    // When all are at rest, whoever comes next has their place.
    gate.host.advance(2 * 86_400_000_000_000);
    assert_eq!(send(&mut gate, 30..31), (1, 24));
    // A listed tenant's is one more.
    gate.send(&[("x-tenant-id", "acme")]);
    assert_eq!(gate.counts()["tracked"], 2);
}

#[test]
fn series_are_named_once_and_bounded() {
    let mut gate = Gate::new(&config());
    for n in 0..50 {
        gate.send(&[("x-tenant-id", format!("invented-{n}"))]);
        gate.send(&[("x-tenant-id", "acme".to_owned())]);
        assert_eq!(gate.host.calls(Call::Metric), u64::from(n == 0));
        gate.send::<&str, &str>(&[]);
        assert_eq!(gate.host.calls(Call::Metric), u64::from(n == 0));
    }
    assert_eq!(
        gate.counts(),
        BTreeMap::from([
            (
                "tenant=.=acme;.;tier=.=premium;.;admitted_total".to_owned(),
                50
            ),
            (
                "tenant=.=anonymous;.;tier=.=free;.;admitted_total".to_owned(),
                50
            ),
            (
                "tenant=.=other;.;tier=.=free;.;admitted_total".to_owned(),
                50
            ),
            // The invented ones, the listed acme and nobody.
            ("tracked".to_owned(), 52),
        ])
    );
    // Three without labels, to be watched while they are 0.
    assert_eq!(gate.host.metric_names().len(), 6);
}

/// A rate that is enforced, and a quota and a route's limit in shadow.
fn shadowed() -> Value {
    json!({
        "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
        "tiers": {
            "free": {"limits": [
                {"name": "daily", "quota": 2, "per": "day", "mode": "shadow"},
                {"name": "rate", "requests": 1, "per": "1s", "burst": 4},
            ]},
            "trial": {"limits": [{"name": "daily", "quota": 2, "per": "day", "mode": "shadow", "enforcedFor": {"share": 50}}]},
        },
        "tenants": {
            "acme": {"tier": "free"},
            "strict": {"tier": "trial", "limits": [{"name": "daily", "quota": 2, "per": "day"}]},
        },
        "routes": [{"match": {"path": {"exact": "/bulk"}}, "cost": 3, "limits": [{"name": "bulk", "quota": 3, "per": "hour", "mode": "shadow"}]}],
        "answer": {"retryAfter": {"jitter": 0}},
        "metrics": {"refused": "refused_total", "shadowed": "shadowed_total"},
    })
}

impl Gate {
    /// What limits in shadow noted of the last request.
    fn noted(&self) -> [Option<String>; 2] {
        ["tollgate.shadowed", "tollgate.shadow_headers"].map(|name| {
            let noted = self.host.property(&[name]).unwrap();
            noted.map(|text| String::from_utf8(text).unwrap())
        })
    }
}

#[test]
fn a_limit_in_shadow_is_told_to_the_access_log_alone() {
    let mut gate = Gate::new(&shadowed());
    let daily = |left: u64, rate: u64| {
        format!(
            "ratelimit-policy: \"daily\";q=2;w=86400, \"rate\";q=4;w=4 | ratelimit: \"daily\";r={left};t=86400, \"rate\";r={rate};t=1"
        )
    };
    for (n, (shadowed, headers)) in [
        (None, daily(1, 3)),
        (None, daily(0, 2)),
        (
            Some("acme free daily limited"),
            format!(":status: 429 | retry-after: 86400 | {}", daily(0, 1)),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(gate.send(&[("x-tenant-id", "acme")]), None);
        assert_eq!(gate.noted(), [shadowed.map(str::to_owned), Some(headers)]);
        assert_eq!(
            gate.header("ratelimit-policy").as_deref(),
            Some("\"rate\";q=4;w=4")
        );
        assert_eq!(
            gate.header("ratelimit"),
            Some(format!("\"rate\";r={};t=1", 3 - n))
        );
        assert_eq!(gate.refused(), None);
    }
    // What a route has in shadow, and what can never pass.
    let refused = gate.send(&[("x-tenant-id", "acme"), (":path", "/bulk")]);
    assert_eq!(
        refused.unwrap().header("ratelimit"),
        Some("\"rate\";r=1;t=1")
    );
    assert_eq!(gate.noted(), [None, None], "the rate has refused it");
    gate.host.advance(2_000_000_000);
    assert_eq!(
        gate.send(&[("x-tenant-id", "acme"), (":path", "/bulk")]),
        None
    );
    assert_eq!(
        gate.noted(),
        [
            Some("acme free daily too_costly".to_owned()),
            Some(
                ":status: 403 | ratelimit-policy: \"daily\";q=2;w=86400, \"rate\";q=4;w=4, \"bulk\";q=3;w=3600 | \
                 ratelimit: \"daily\";r=0;t=86398, \"rate\";r=0;t=1, \"bulk\";r=0;t=3598"
                    .to_owned()
            )
        ]
    );
    let series = |limit: &str, reason: &str, name: &str| {
        let tenant = "tenant=.=acme;.;tier=.=free";
        (
            format!("{tenant};.;limit=.={limit};.;reason=.={reason};.;{name}"),
            1,
        )
    };
    assert_eq!(
        gate.counts(),
        BTreeMap::from([
            series("daily", "limited", "shadowed_total"),
            series("daily", "too_costly", "shadowed_total"),
            series("rate", "limited", "refused_total"),
        ])
    );
}

#[test]
fn a_share_of_tenants_is_refused_and_whoever_has_a_limit_of_its_own_goes_by_that() {
    let config = |share: u64| {
        let mut config = shadowed();
        config["tenant"]["unknown"]["tier"] = "trial".into();
        config["tiers"]["trial"]["limits"][0]["enforcedFor"]["share"] = share.into();
        config
    };
    let refused = |gate: &mut Gate| -> Vec<String> {
        let tenants = (0..200).map(|n| format!("tenant-{n}"));
        let mut refused = |tenant: &String| {
            assert_eq!(gate.send(&[("x-tenant-id", tenant)]), None);
            let is_told = gate.header("ratelimit-policy").is_some();
            let sent = (0..2).filter(|_| gate.send(&[("x-tenant-id", tenant)]).is_some());
            let is_refused = sent.count() > 0;
            assert_eq!(is_told, is_refused, "{tenant}");
            is_refused
        };
        tenants.filter(|tenant| refused(tenant)).collect()
    };
    let half = refused(&mut Gate::new(&config(50)));
    assert!((80..120).contains(&half.len()), "{}", half.len());
    assert_eq!(refused(&mut Gate::new(&config(50))), half, "another proxy");
    let more = refused(&mut Gate::new(&config(70)));
    assert!(more.len() > half.len() && half.iter().all(|tenant| more.contains(tenant)));
    assert_eq!(refused(&mut Gate::new(&config(0))), Vec::<String>::new());
    let mut gate = Gate::new(&config(0));
    assert_eq!(gate.send(&[("x-tenant-id", "strict")]), None);
    assert_eq!(
        gate.header("ratelimit-policy").as_deref(),
        Some("\"daily\";q=2;w=86400")
    );
}

#[test]
fn metrics_name_the_limit_that_refused_whoever_it_was() {
    let mut config = shadowed();
    let quota = |name: &str| json!({"name": name, "quota": 1, "per": "day", "mode": "shadow", "enforcedFor": {"share": 50, "salt": name}});
    config["tiers"]["free"]["limits"] = json!([quota("a"), quota("b")]);
    let mut gate = Gate::new(&config);
    let mut refused = BTreeMap::new();
    for n in 0..40 {
        let tenant = format!("tenant-{n}");
        gate.send(&[("x-tenant-id", &tenant)]);
        gate.send(&[("x-tenant-id", &tenant)]);
        let by = gate.refused();
        if let Some(by) = by.as_deref().and_then(|refusal| refusal.split(' ').nth(2)) {
            *refused.entry(by.to_owned()).or_insert(0) += 1;
        }
    }
    let counted = |limit: &str| {
        let name = format!(
            "tenant=.=other;.;tier=.=free;.;limit=.={limit};.;reason=.=limited;.;refused_total"
        );
        gate.host.metric_value(&name)
    };
    for limit in ["a", "b"] {
        assert_eq!(counted(limit), refused.get(limit).copied(), "{refused:?}");
    }
}

/// What one place of a request says.
#[derive(Clone, Debug)]
enum Says {
    Nothing,
    /// This id, in a way that everybody reads alike.
    Clearly(String),
    /// Something else.
    Oddly(String),
}

/// What a place may say: ids, and `odd` ways to write them.
fn says(odd: &'static [&'static str]) -> impl Strategy<Value = Says> {
    prop_oneof![
        2 => Just(Says::Nothing),
        1 => select(vec!["acme", "globex", "ACME", "x-1_z"]).prop_map(|id| Says::Clearly(id.to_owned())),
        1 => select(odd.to_vec()).prop_map(|text| Says::Oddly(text.to_owned())),
    ]
}

/// A text with some of its characters encoded, and slashes in other ways.
fn disguised(path: &'static str) -> impl Strategy<Value = String> {
    let each = proptest::collection::vec(0..6_u8, path.len());
    each.prop_map(move |how| {
        let mut disguised = String::new();
        for (at, (character, how)) in path.chars().zip(how).enumerate() {
            match (character, how) {
                // The proxy refuses paths that do not begin with a slash.
                ('/', 1) if at > 0 => disguised.push_str("%2f"),
                ('/', 2) => disguised.push_str("//"),
                ('/', 3) => disguised.push_str("/./"),
                ('/', 4) if at > 0 => disguised.push_str(";v=1/"),
                ('/', 5) => disguised.push_str("/x/..%2F"),
                (letter, 1 | 2) if letter != '/' => {
                    disguised.push_str(&format!("%{:02x}", letter as u32));
                }
                (character, _) => disguised.push(character),
            }
        }
        disguised
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// The first source that says anything decides, and a client that spoils it is nobody, not whom the next one names.
    #[test]
    fn a_client_cannot_choose_a_tenant_other_than_the_sources_say(
        host in says(&["", "a b", "\u{e9}", "acme,globex", "%61cme"]),
        path in says(&["%61cme", "acme;x", "acme%2f", "acme\\x", "\u{e9}", "a,b"]),
        query in says(&["", "acme&tenant=acme", "acme&%54enant=globex", "acme;x=1", "a%00b", "%e9", "a%2Cb"]),
        cookie in says(&["", "\"acme\"", "acme; tenant=globex", "acme; TENANT=acme", "ac%6de", "\u{e9}"]),
        header in says(&["", "acme,globex", "acme globex", "\u{e9}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]),
    ) {
        let mut gate = Gate::new(&config());
        let mut headers = vec![("x-tenant-tier", "internal".to_owned()), ("x_tenant_id", "monitor".to_owned())];
        let mut target = "/".to_owned();
        if let Says::Clearly(id) | Says::Oddly(id) = &host {
            headers.push((":authority", format!("{id}.Shop.example.com:80")));
        }
        if let Says::Clearly(id) | Says::Oddly(id) = &path {
            target = format!("/t/{id}/orders");
        }
        if let Says::Clearly(id) | Says::Oddly(id) = &query {
            target = format!("{target}?a=1&tenant={id}");
        }
        headers.push((":path", target));
        if let Says::Clearly(id) | Says::Oddly(id) = &cookie {
            headers.push(("cookie", format!("a=1; tenant={id}; b=2")));
        }
        if let Says::Clearly(id) | Says::Oddly(id) = &header {
            headers.push(("x-tenant-id", id.clone()));
        }
        let decides = [&host, &path, &query, &cookie, &header].into_iter().find(|says| !matches!(says, Says::Nothing));
        let expected = match decides {
            Some(Says::Clearly(id)) => id.to_lowercase(),
            _ => "anonymous".to_owned(),
        };
        gate.send(&headers);
        prop_assert_eq!(gate.tenant(), Some(expected.clone()));
        let tier = if matches!(expected.as_str(), "acme" | "globex") { "premium" } else { "free" };
        prop_assert_eq!(gate.host.request.all("x-tenant-tier").collect::<Vec<_>>(), [tier.as_bytes()]);
        prop_assert_eq!(gate.host.request.first("x_tenant_id"), None);
    }

    /// However a path is disguised, what a lenient service takes for the dear one costs as much as that.
    #[test]
    fn a_client_cannot_get_a_cheaper_cost_by_another_spelling(path in disguised("/export/all"), query in select(vec!["", "?n=1", "?x"])) {
        let mut gate = Gate::new(&config());
        prop_assert_eq!(gate.cost(&[(":path", format!("{path}{query}"))]), 20, "{}", path);
    }

    /// Whatever a query says, each value that some service may read there is paid for, within the bounds.
    #[test]
    fn a_client_pays_for_every_value_that_it_names(
        pairs in proptest::collection::vec((select(vec!["n", "N", "%6e", "%4E", "m"]), 0_u64..80), 0..4),
        separator in select(vec!["&", ";"]),
    ) {
        let written: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut gate = Gate::new(&config());
        let cost = gate.cost(&[(":path", format!("/search?{}", written.join(separator)))]);
        prop_assert!((2..=50).contains(&cost));
        let named = pairs.iter().filter(|(name, _)| *name != "m").map(|(_, value)| (*value).clamp(2, 50));
        match named.max() {
            Some(most) => prop_assert!(cost >= most, "{cost} for {written:?}"),
            None => prop_assert_eq!(cost, 10),
        }
    }

    /// Any bytes anywhere: a request is from a tenant that some of its bytes name, or from nobody; and it is answered or passes.
    #[test]
    fn no_bytes_make_it_panic_or_leave_a_claim(requests in proptest::collection::vec(proptest::collection::vec((name(), value()), 0..6), 1..10)) {
        let mut gate = Gate::new(&config());
        for headers in requests {
            gate.send(&headers);
            let like = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase().replace('_', "-");
            let ours: Vec<_> = gate.host.request.iter().filter(|(name, _)| like(name).starts_with("x-tenant-")).collect();
            prop_assert_eq!(ours.len(), 2);
            if gate.tenant().as_deref() == Some("acme") {
                prop_assert!(headers.iter().any(|(_, value)| value.to_ascii_lowercase().windows(4).any(|part| part == b"acme")));
            }
        }
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = vec![
        "x-tenant-id",
        "x_tenant_id",
        "x-tenant-tier",
        "cookie",
        ":path",
        ":authority",
        ":method",
        "content-type",
        "x-batch",
        "x-cost",
        "x_cost",
    ];
    prop_oneof![
        6 => select(known).prop_map(|name| name.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..8),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let parts = vec![
        "acme",
        "/t/",
        "/",
        "?tenant=",
        "tenant=",
        ".shop.example.com",
        "&",
        ";",
        "%",
        "%61",
        "/export",
        "/search?n=",
        "7",
        "=",
        " ",
        "\\",
        "..",
        "#",
        "yes",
    ];
    let mixed = proptest::collection::vec(select(parts), 0..6)
        .prop_map(|parts| parts.concat().into_bytes());
    prop_oneof![3 => mixed, 1 => proptest::collection::vec(any::<u8>(), 0..40)]
}
