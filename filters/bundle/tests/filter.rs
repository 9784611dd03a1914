//! The bundle does to a request what the three modules do in a chain, with fewer host calls.

use std::collections::BTreeMap;

use business_metrics::BusinessMetrics;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use tenant_rate_limit::TenantRateLimit;
use tollgate_bundle::Tollgate;
use tollgate_common::refusal;
use tollgate_host::memory::{Call, MemoryHost, Phase, RecordedResponse};
use tollgate_host::{
    Action, Callback, HeaderMap, Host, HostError, Plugin, Request, Stream, Trailers,
};
use user_classifier::UserClassifier;

const LIMITER: &str = r#"{
    "tenant": {"from": [{"header": "x-tenant-id", "vouched": true}], "unknown": {"tier": "free"}},
    "tiers": {
        "premium": {"limits": [{"name": "rate", "requests": 5, "per": "1s", "burst": 8}]},
        "free": {"limits": [{"name": "rate", "requests": 1, "per": "1s"}, {"name": "daily", "quota": 3, "per": "day"}]}
    },
    "tenants": {"acme": {"tier": "premium"}},
    "metrics": {"refused": "refused_total"}
}"#;

const CLASSIFIER: &str = r#"{
    "default": "standard",
    "tenant": {"vouched": true},
    "selfAssignable": ["vip"],
    "rules": [
        {"type": "vip", "when": [{"header": {"name": "x-user-id", "exact": "alice"}}]},
        {"type": "premium", "when": [{"tier": {"exact": "premium"}}]}
    ]
}"#;

const METRICS: &str = r#"{
    "labels": {
        "tenant": {"from": "tenant", "values": ["acme", "initech"]},
        "tier": {"from": "tier", "values": ["premium", "free"]},
        "user_type": {"from": "userType", "values": ["vip", "premium", "standard"]},
        "route": {"from": "route"},
        "status": {"from": "status"}
    },
    "routes": ["/products"],
    "metrics": [{"name": "requests_total", "labels": ["tenant", "tier", "user_type", "route", "status"]}]
}"#;

#[test]
fn a_section_that_reads_bodies_needs_the_module_that_sees_them() {
    let limiter = LIMITER.replace(
        r#""quota": 3, "per": "day""#,
        r#""quota": 3, "per": "day", "cost": {"estimate": 1, "max": 2, "settle": {"json": "/tokens"}}"#,
    );
    let metrics = METRICS.replace(
        r#""requests_total","#,
        r#""requests_total", "value": {"responseBody": "/total", "max": 9},"#,
    );
    let refused = |limiter: &str, metrics: &str, missing: &[Callback]| {
        let mut host = MemoryHost::new();
        host.missing_callbacks = missing.to_vec();
        let configuration =
            format!(r#"{{"tenantRateLimit": {limiter}, "businessMetrics": {metrics}}}"#);
        Tollgate::configure(configuration.as_bytes(), "tollgate", &mut host).err()
    };
    let why = |field: &str, module: &str| {
        Some(format!(
            "{field}: reads bodies, and the module {module} sees none; name the module {module}-bodies in the plugin's url, e.g. \
             oci://ghcr.io/tollgate/{module}-bodies:0.1.0"
        ))
    };
    let plain = [Callback::ResponseBody];
    assert_eq!(refused(&limiter, &metrics, &[]), None);
    assert_eq!(refused(LIMITER, METRICS, &plain), None);
    let field = "tiers.free.limits[1].cost.settle.json";
    assert_eq!(
        refused(&limiter, METRICS, &plain),
        why(&format!("tenantRateLimit.{field}"), "tollgate")
    );
    assert_eq!(
        refused(LIMITER, &metrics, &plain),
        why("businessMetrics.metrics[0].value.responseBody", "tollgate")
    );

    // Each in its own module, likewise.
    let mut host = MemoryHost::new();
    host.missing_callbacks = plain.to_vec();
    let alone = TenantRateLimit::configure(limiter.as_bytes(), "limiter", &mut host);
    assert_eq!(alone.err(), why(field, "tenant-rate-limit"));
    let alone = BusinessMetrics::configure(metrics.as_bytes(), "metrics", &mut host);
    assert_eq!(
        alone.err(),
        why("metrics[0].value.responseBody", "business-metrics")
    );
}

/// Which sections there are: limiter, classifier, metrics.
type Sections = [bool; 3];

fn bundle(sections: Sections, host: &mut MemoryHost) -> Module {
    let written: Vec<String> = [
        ("tenantRateLimit", LIMITER),
        ("userClassifier", CLASSIFIER),
        ("businessMetrics", METRICS),
    ]
    .iter()
    .zip(sections)
    .filter(|(_, there)| *there)
    .map(|((name, section), _)| format!("{name:?}: {section}"))
    .collect();
    module::<Tollgate>(&format!("{{{}}}", written.join(", ")), host)
}

/// The three modules in the order of their priorities.
fn chain(sections: Sections, host: &mut MemoryHost) -> Vec<Module> {
    let mut modules = Vec::new();
    if sections[0] {
        modules.push(module::<TenantRateLimit>(LIMITER, host));
    }
    if sections[1] {
        modules.push(module::<UserClassifier>(CLASSIFIER, host));
    }
    if sections[2] {
        modules.push(module::<BusinessMetrics>(METRICS, host));
    }
    modules
}

/// Makes the stream of a request.
type Module = Box<dyn Fn() -> Box<dyn Stream>>;

fn module<P: Plugin + 'static>(configuration: &str, host: &mut MemoryHost) -> Module
where
    P::Stream: 'static,
{
    let plugin = P::configure(configuration.as_bytes(), "tollgate", host).unwrap();
    Box::new(move || Box::new(plugin.stream()))
}

/// Takes a request through modules as a proxy does: each reads the request for itself, nobody behind the one that answers sees it,
/// and all hear of its end. Nobody sees a response of his own.
fn run(modules: &[Module], host: &mut MemoryHost, headers: &[(Vec<u8>, Vec<u8>)]) {
    run_with_trailers(modules, host, headers, &[]);
}

/// The same of a request with trailers, which nobody is shown if there are none.
fn run_with_trailers(
    modules: &[Module],
    host: &mut MemoryHost,
    headers: &[(Vec<u8>, Vec<u8>)],
    trailers: &[(Vec<u8>, Vec<u8>)],
) {
    host.begin(headers);
    let mut streams: Vec<_> = modules.iter().map(|stream| stream()).collect();
    let answered = streams.iter_mut().position(|stream| {
        let action = match Request::read(host) {
            Ok(mut request) => stream.on_request_headers(&mut request, host),
            Err(error) => stream.on_unreadable_request(error, host),
        };
        action == Action::Stop
    });
    if answered.is_none() && !trailers.is_empty() {
        host.begin_trailers(trailers);
        for stream in &mut streams {
            let action = match Trailers::read(host) {
                Ok(mut trailers) => stream.on_request_trailers(&mut trailers, host),
                Err(error) => stream.on_unreadable_trailers(error, host),
            };
            assert_eq!(action, Action::Continue);
        }
    }
    let status = match host.answer() {
        Some(answer) => answer.status as u16,
        None => 200,
    };
    let seen = answered.unwrap_or(streams.len());
    host.begin_response(status, &[("x-from", "upstream")]);
    for stream in streams[..seen].iter_mut().rev() {
        stream.on_response_headers(host);
    }
    host.phase = Phase::Log;
    host.set_attribute(&["response", "code"], &u64::from(status).to_le_bytes());
    for stream in &mut streams {
        stream.on_log(host);
    }
}

/// What a request leaves behind, as everybody but the filters sees it.
#[derive(Debug, PartialEq)]
struct Outcome {
    request: Pairs,
    trailers: Pairs,
    response: Pairs,
    answers: Vec<RecordedResponse>,
    refusal: Option<Vec<u8>>,
    counts: BTreeMap<String, Option<i64>>,
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn outcome(host: &MemoryHost) -> Outcome {
    let pairs = |map: &HeaderMap| {
        map.iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    };
    Outcome {
        request: pairs(&host.request),
        trailers: pairs(&host.trailers),
        response: pairs(&host.response),
        answers: host.responses.clone(),
        refusal: host.property(&[refusal::PROPERTY]).unwrap(),
        counts: host
            .metric_names()
            .into_iter()
            .map(|name| (name.clone(), host.metric_value(&name)))
            .collect(),
    }
}

fn text(headers: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

fn calls(modules: &[Module], host: &mut MemoryHost, headers: &[(&str, &str)]) -> Vec<(Call, u64)> {
    run(modules, host, &text(headers));
    host.all_calls().into_iter().collect()
}

/// The figures of wasm-plugins/tollgate/README.md, and of one series that is there already.
#[test]
fn the_bundle_reads_a_request_once_and_else_calls_as_the_three_do() {
    let all = [true; 3];
    let alice = [
        ("x-tenant-id", "acme"),
        ("x-user-id", "alice"),
        (":path", "/products"),
    ];
    let admitted = [
        (Call::SetHeader, 2),
        (Call::AddHeader, 2),
        (Call::Property, 1),
        (Call::Shared, 1),
        (Call::SetShared, 1),
        (Call::Monotonic, 1),
        (Call::Increment, 1),
    ];
    let with_headers = |n, rest: &[(Call, u64)]| [&[(Call::Headers, n)], rest].concat();

    let (mut one, mut three) = (MemoryHost::new(), MemoryHost::new());
    let bundle = [bundle(all, &mut one)];
    let chain = chain(all, &mut three);
    for (modules, host, reads) in [(&bundle[..], &mut one, 1), (&chain[..], &mut three, 3)] {
        calls(modules, host, &alice);
        assert_eq!(calls(modules, host, &alice), with_headers(reads, &admitted));
    }

    // Refused, which the worker knows without a look at the record: one who never saw the request reads its headers at its end, in both forms.
    let refused = [
        (Call::Headers, 2),
        (Call::SetHeader, 1),
        (Call::Property, 2),
        (Call::SetProperty, 1),
        (Call::Respond, 1),
        (Call::Now, 1),
        (Call::Monotonic, 1),
        (Call::Random, 1),
        (Call::Increment, 2),
    ];
    for (modules, host) in [(&bundle[..], &mut one), (&chain[..], &mut three)] {
        let initech = [("x-tenant-id", "initech")];
        calls(modules, host, &initech);
        calls(modules, host, &initech);
        assert_eq!(calls(modules, host, &initech), refused);
    }
}

#[test]
fn claims_are_read_once_for_all_filters() {
    let limiter = LIMITER.replace(
        r#"{"header": "x-tenant-id", "vouched": true}"#,
        r#"{"claim": "tenant"}"#,
    );
    let classifier = r#"{
        "default": "standard",
        "rules": [{"type": "vip", "when": [{"claim": {"name": "plan", "exact": "vip"}}]}]
    }"#;
    let bundled = |sections: &[(&str, &str)], host: &mut MemoryHost| {
        let written = sections
            .iter()
            .map(|(name, section)| format!("{name:?}: {section}"));
        module::<Tollgate>(
            &format!("{{{}}}", written.collect::<Vec<_>>().join(", ")),
            host,
        )
    };
    let both = [
        ("tenantRateLimit", limiter.as_str()),
        ("userClassifier", classifier),
    ];
    for sections in [&both[..], &both[..1], &both[1..]] {
        let mut host = MemoryHost::new();
        let stream = bundled(sections, &mut host);
        host.begin::<&str, &str>(&[]);
        host.set_claims(json!({"tenant": "globex", "plan": "vip"}));
        let mut request = Request::read(&host).unwrap();
        let action = stream().on_request_headers(&mut request, &mut host);
        assert_eq!(action, Action::Continue);
        assert_eq!(host.calls(Call::Property), 1, "{sections:?}");
        let of = |name, section| sections.contains(&section).then_some(name);
        let text = |name| {
            host.request
                .first(name)
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(text("x-tenant-id").as_deref(), of("globex", both[0]));
        assert_eq!(text("user-type").as_deref(), of("vip", both[1]));
    }
}

#[test]
fn a_section_that_is_not_there_costs_nothing() {
    for sections in [
        [true, false, false],
        [false, true, false],
        [false, false, true],
    ] {
        let (mut one, mut alone) = (MemoryHost::new(), MemoryHost::new());
        let bundle = [bundle(sections, &mut one)];
        let chain = chain(sections, &mut alone);
        assert_eq!(chain.len(), 1);
        assert_eq!(
            one.all_calls(),
            alone.all_calls(),
            "to configure {sections:?}"
        );
        let headers = [("x-tenant-id", "acme"), ("user-type", "vip")];
        for _ in 0..2 {
            assert_eq!(
                calls(&bundle, &mut one, &headers),
                calls(&chain, &mut alone, &headers),
                "{sections:?}"
            );
        }
    }
}

#[test]
fn a_refused_request_is_counted_by_what_the_limiter_says_and_not_by_what_the_client_says() {
    let mut host = MemoryHost::new();
    let bundle = [bundle([true; 3], &mut host)];
    let forged = text(&[
        ("x-tenant-id", "initech"),
        ("x-tenant-tier", "premium"),
        ("user-type", "vip"),
        (":path", "/products"),
    ]);
    for _ in 0..3 {
        run(&bundle, &mut host, &forged);
    }
    assert_eq!(host.answer().unwrap().status, 429);
    let series = |user_type, status| {
        format!(
            "tenant=.=initech;.;tier=.=free;.;user_type=.={user_type};.;route=.=/products;.;status=.={status};.;requests_total"
        )
    };
    assert_eq!(host.metric_value(&series("standard", "200")), Some(1));
    assert_eq!(host.metric_value(&series("none", "429")), Some(2));
    assert_eq!(
        host.metric_value(
            "tenant=.=other;.;tier=.=free;.;limit=.=rate;.;reason=.=limited;.;refused_total"
        ),
        Some(2)
    );
}

#[test]
fn a_request_that_cannot_be_read_passes_only_who_merely_counts() {
    for (sections, expected) in [
        ([true, true, true], Some(500)),
        ([false, true, true], Some(500)),
        ([false, false, true], None),
    ] {
        let mut host = MemoryHost::new();
        let bundle = [bundle(sections, &mut host)];
        host.fail(Call::Headers, HostError::Status(2));
        run(&bundle, &mut host, &[]);
        assert_eq!(
            host.answer().map(|answer| answer.status),
            expected,
            "{sections:?}"
        );
        let counted: i64 = host
            .metric_names()
            .iter()
            .filter(|name| name.ends_with("requests_total"))
            .filter_map(|name| host.metric_value(name))
            .sum();
        assert_eq!(counted, 1);
    }
}

#[test]
fn trailers_are_stripped_of_what_the_filters_that_are_there_own() {
    let trailers = text(&[
        ("x-tenant-id", "globex"),
        ("x_tenant_tier", "premium"),
        ("User-Type", "vip"),
        ("grpc-status", "0"),
    ]);
    for (sections, left) in [
        ([true, true, true], &["grpc-status"][..]),
        ([true, false, false], &["User-Type", "grpc-status"]),
        ([false, true, true], &["grpc-status"]),
        (
            [false, false, true],
            &["x-tenant-id", "x_tenant_tier", "User-Type", "grpc-status"],
        ),
    ] {
        let mut host = MemoryHost::new();
        let bundle = [bundle(sections, &mut host)];
        run_with_trailers(&bundle, &mut host, &text(&[]), &trailers);
        let names: Vec<_> = host.trailers.iter().map(|(name, _)| name).collect();
        let left: Vec<_> = left.iter().map(|name| name.as_bytes()).collect();
        assert_eq!(names, left, "{sections:?}");
    }
}

#[test]
fn without_a_limiter_nobody_says_which_tenant_a_request_is_of() {
    let said = text(&[
        (":path", "/"),
        ("x-tenant-id", "acme"),
        ("X_Tenant_Id", "globex"),
        ("x-tenant-tier", "premium"),
        ("x_tenant-tier", "premium"),
    ]);
    let limiter = format!(r#""tenantRateLimit": {LIMITER},"#);
    for (limiter, classifier, expected) in [
        ("", r#"{"default": "standard"}"#, None),
        (
            "",
            r#"{"default": "standard", "tenant": {"vouched": false}}"#,
            None,
        ),
        // The limiter vouches by being there; whose source is the header here.
        (
            limiter.as_str(),
            r#"{"default": "standard"}"#,
            Some(["acme", "premium"]),
        ),
    ] {
        let mut host = MemoryHost::new();
        let configuration = format!(
            r#"{{{limiter} "userClassifier": {classifier}, "businessMetrics": {METRICS}}}"#
        );
        let bundle = [module::<Tollgate>(&configuration, &mut host)];
        run(&bundle, &mut host, &said);
        let of_tenants = host.request.iter().filter(|(name, _)| {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            name.replace('_', "-").starts_with("x-tenant")
        });
        let left: Vec<_> = of_tenants.map(|(_, value)| value).collect();
        match expected {
            None => assert_eq!(left, [b""; 0], "{configuration}"),
            Some(written) => assert_eq!(left, written.map(str::as_bytes), "{configuration}"),
        }
    }
}

#[test]
fn trailers_that_cannot_be_read_pass_only_who_merely_counts() {
    for (sections, expected) in [
        ([true, true, true], Action::Stop),
        ([false, true, true], Action::Stop),
        ([false, false, true], Action::Continue),
    ] {
        let mut host = MemoryHost::new();
        let bundle = bundle(sections, &mut host);
        let mut stream = bundle();
        let action = stream.on_unreadable_trailers(HostError::Status(2), &mut host);
        assert_eq!(action, expected, "{sections:?}");
    }
}

#[test]
fn a_bad_section_is_refused_with_its_path() {
    let refused = Tollgate::configure(
        br#"{"userClassifier": {"default": "Standard"}}"#,
        "tollgate",
        &mut MemoryHost::new(),
    );
    assert_eq!(
        refused.unwrap_err(),
        r#"userClassifier.default: "Standard" is not a type, write 1 to 64 of a-z, 0-9, _ and -, not starting with -"#
    );
}

fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let names = [
        "x-tenant-id",
        "x_tenant_id",
        "x-tenant-tier",
        "x-user-id",
        "user-type",
        "user_type",
        ":path",
        "content-type",
    ];
    let values = [
        "acme",
        " ACME ",
        "initech",
        "premium",
        "alice",
        "vip",
        "/products",
        "application/grpc",
        "",
    ];
    let value = prop_oneof![
        4 => select(values.to_vec()).prop_map(|value| value.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..6),
    ];
    (
        select(names.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
        value,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever the requests, and whichever sections there are, nobody outside can tell the two forms apart.
    #[test]
    fn the_bundle_does_what_the_three_modules_do(
        sections in any::<Sections>().prop_filter("none", |sections| sections.contains(&true)),
        requests in vec((vec(header(), 0..6), vec(header(), 0..3), 0_u64..1_500_000_000), 1..8),
    ) {
        let (mut one, mut three) = (MemoryHost::new(), MemoryHost::new());
        let bundle = [bundle(sections, &mut one)];
        let chain = chain(sections, &mut three);
        for (headers, trailers, pause) in requests {
            run_with_trailers(&bundle, &mut one, &headers, &trailers);
            run_with_trailers(&chain, &mut three, &headers, &trailers);
            prop_assert_eq!(outcome(&one), outcome(&three));
            one.advance(pause);
            three.advance(pause);
        }
    }
}

/// What the limiter counts in flight hears through the bundle of every end, and of every tick.
#[test]
fn requests_in_flight_are_counted_to_their_end() {
    let config = format!(
        "{{\"tenantRateLimit\": {}}}",
        LIMITER.replace(
            r#"{"name": "daily", "quota": 3, "per": "day"}"#,
            r#"{"name": "parallel", "concurrent": 1}"#
        )
    );
    let mut host = MemoryHost::new();
    let mut other = host.worker();
    let plugin = Tollgate::configure(config.as_bytes(), "plugin", &mut host).unwrap();
    let elsewhere = Tollgate::configure(config.as_bytes(), "plugin", &mut other).unwrap();
    let begin = |plugin: &Tollgate, host: &mut MemoryHost| {
        host.begin(&[("x-tenant-id", "initech")]);
        let mut request = Request::read(host).unwrap();
        let mut stream = plugin.stream();
        let action = stream.on_request_headers(&mut request, host);
        (action == Action::Continue).then_some(stream)
    };
    let mut held = begin(&plugin, &mut host).unwrap();
    // For longer than a VM may be silent.
    for _ in 0..7 {
        host.advance(1_000_000_000);
        plugin.on_tick(&mut host);
    }
    assert!(begin(&elsewhere, &mut other).is_none());
    held.on_log(&mut host);
    held.on_delete(&mut host);
    assert!(begin(&elsewhere, &mut other).is_some());
}
