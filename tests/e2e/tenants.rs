//! Whose a request is, what it costs and what it is told, by a configuration that has everything; and the examples that ship.

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tollgate_tests::http2::{self, Body};
use tollgate_tests::{Answer, Filter, Form, LocalMesh, Manifests, Options, Target, send};

use crate::live::{applied, place, refused};
use crate::metrics::settled;
use crate::vouched;

/// The tenant that a request names in each way: its quota of the day tells whom the limiter took it for.
const BY_PLACE: [(&str, u64); 5] = [
    ("by-host", 1001),
    ("by-path", 1002),
    ("by-query", 1003),
    ("by-cookie", 1004),
    ("by-header", 1005),
];

/// Every source, tier, kind of limit, cost and metric.
fn configuration() -> Value {
    let daily = |quota: u64| json!([{"name": "daily", "quota": quota, "per": "day"}]);
    let mut tenants = json!({
        "acme": {"tier": "windows"},
        "counted": {"tier": "known"},
        "partner": {"tier": "known", "unlimited": true},
        "fraud": {"tier": "known", "blocked": true},
        "monitor": {"tier": "internal"},
    });
    for (tenant, quota) in BY_PLACE {
        tenants[tenant] = json!({"tier": "known", "limits": daily(quota)});
    }
    json!({
        "tenant": {
            "from": [
                {"host": "{tenant}.shop.example.com", "vouched": true},
                {"path": "/t/{tenant}/**", "vouched": true},
                {"query": "tenant", "vouched": true},
                {"cookie": "tenant", "vouched": true},
                {"header": "x-tenant-id", "vouched": true},
            ],
            "missing": {"refuse": 401, "challenge": "Bearer realm=\"shop\""},
            "unknown": {"tier": "stranger"},
        },
        "tiers": {
            "known": {"limits": daily(1000)},
            "windows": {"limits": [
                {"name": "minutely", "quota": 100, "per": "minute"},
                {"name": "hourly", "quota": 1000, "per": "hour"},
                {"name": "daily", "quota": 10_000, "per": "day"},
                {"name": "monthly", "quota": 100_000, "per": "month"},
            ]},
            // What is used does not come back while a test runs.
            "stranger": {"limits": [{"name": "rate", "requests": 1, "per": "10h", "burst": 30}, {"name": "monthly", "quota": 100, "per": "month"}]},
            "internal": {"unlimited": true},
        },
        "tenants": tenants,
        "routes": [
            {"match": {"path": {"exact": "/products/probe"}}, "exempt": true},
            {"match": {"path": {"prefix": "/products/export"}}, "cost": 7},
            {"match": {"path": {"exact": "/products/huge"}}, "cost": 50},
            {"match": {"path": {"regex": "/products/(search|find)"}}, "cost": {"query": "size", "min": 2, "max": 20, "default": 5}},
            {"match": {"headers": {"x-batch": {"prefix": "y"}}, "method": {"exact": "GET"}}, "cost": {"header": "x-cost", "min": 1, "max": 9, "default": 3}},
            {"match": {"path": {"suffix": "/login"}, "host": {"exact": "login.example.com"}},
                "limits": [{"name": "login", "requests": 1, "per": "1h", "burst": 2}]},
        ],
        "answer": {"headers": {"rateLimit": true, "xRateLimit": true}, "retryAfter": {"jitter": 10}},
        "metrics": {"admitted": "shop_admitted_total", "refused": "shop_refused_total", "tracked": "shop_tracked",
            "evictions": "shop_evictions_total", "contention": "shop_contention_total"},
    })
}

/// Gives the gateway's limiter another configuration.
pub(crate) fn configure(manifests: &Manifests, form: Form, configuration: &Value) -> Result<()> {
    manifests.configure(form, Filter::TenantRateLimit, &configuration.to_string())
}

/// The shop with that configuration.
pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    configure(&manifests, form, &configuration())?;
    LocalMesh::start(manifests, Options::default())
}

/// `GET target`, with these header lines beside `host: HOST`.
async fn get(mesh: &LocalMesh, host: &str, target: &str, headers: &[&str]) -> Result<Answer> {
    let mut request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    send(mesh.gateway_address()?, request.as_bytes()).await
}

/// A tenant's own request.
async fn of(mesh: &LocalMesh, tenant: &str, target: &str, headers: &[&str]) -> Result<Answer> {
    let id = format!("x-tenant-id: {tenant}");
    let headers: Vec<&str> = headers.iter().copied().chain([id.as_str()]).collect();
    get(mesh, "shop", target, &headers).await
}

/// What is left of a limit, as `RateLimit` says it.
fn left(answer: &Answer, limit: &str) -> Result<u64> {
    let told = answer
        .header("ratelimit")
        .with_context(|| format!("no RateLimit in {answer:?}"))?;
    let after = told.split(&format!("\"{limit}\";r=")).nth(1);
    let number = after.and_then(|rest| rest.split(';').next()?.parse().ok());
    number.with_context(|| format!("no {limit} in {told}"))
}

fn body(answer: &Answer) -> Result<Value> {
    serde_json::from_str(&answer.body).with_context(|| format!("the body is no JSON: {answer:?}"))
}

pub(crate) async fn each_source_names_the_tenant(mesh: &LocalMesh) -> Result<()> {
    let host = "By-Host.shop.example.com:80";
    for (host, target, headers, expected) in [
        (host, "/products", &[][..], "by-host"),
        (
            host,
            "/t/by-path/x?tenant=by-query",
            &["x-tenant-id: by-header"],
            "by-host",
        ),
        (
            "shop",
            "/t/by-path/products?tenant=by-query",
            &[],
            "by-path",
        ),
        // The gateway's Envoy has resolved and decoded these already, and routes by what it has.
        ("shop", "/t/x/../by-path/products", &[], "by-path"),
        ("shop", "/x/%2e%2e/t/%62y-path", &[], "by-path"),
        (
            "shop",
            "/products?a=1&tenant=by%2Dquery",
            &["cookie: tenant=by-cookie"],
            "by-query",
        ),
        (
            "shop",
            "/products",
            &["cookie: a=1", "cookie: b=2; tenant=by-cookie"],
            "by-cookie",
        ),
        (
            "shop",
            "/products",
            &["X-Tenant-ID:  BY-HEADER "],
            "by-header",
        ),
        (
            "shop",
            "http://by-host.shop.example.com/products",
            &[],
            "by-host",
        ),
    ] {
        let answer = get(mesh, host, target, headers).await?;
        let (_, quota) = BY_PLACE
            .iter()
            .find(|(id, _)| *id == expected)
            .context("a tenant")?;
        let policy = format!("\"daily\";q={quota};w=86400");
        ensure!(
            answer.header("ratelimit-policy") == Some(policy.as_str()),
            "{host} {target} {headers:?} is not {expected}: {answer:?}"
        );
    }

    // Nobody, or several: none of the sources behind is asked.
    for (host, target, headers) in [
        (
            "a b.shop.example.com",
            "/products",
            &["x-tenant-id: by-header"][..],
        ),
        (
            ".shop.example.com",
            "/products",
            &["x-tenant-id: by-header"],
        ),
        ("shop", "//t/by-path", &["x-tenant-id: by-header"]),
        ("shop", "/t/by-path%2fx", &["x-tenant-id: by-header"]),
        ("shop", "/T/by-path", &["x-tenant-id: by-header"]),
        (
            "shop",
            "/products?tenant=by-query&TENANT=by-query",
            &["x-tenant-id: by-header"],
        ),
        ("shop", "/products?tenant=", &["x-tenant-id: by-header"]),
        (
            "shop",
            "/products",
            &[
                "cookie: tenant=by-cookie; tenant=x",
                "x-tenant-id: by-header",
            ],
        ),
        (
            "shop",
            "/products",
            &["x-tenant-id: by-header", "x-tenant-id: by-header"],
        ),
    ] {
        let answer = get(mesh, host, target, headers).await?;
        // A host with a space is not even one to Envoy.
        ensure!(
            (answer.status == 401 && body(&answer)?["reason"] == "unusable")
                || (host.contains(' ') && answer.status == 400),
            "{host} {target} {headers:?}: {answer:?}"
        );
    }
    let answer = get(mesh, "shop", "/products", &["x_tenant_id: by-header"]).await?;
    ensure!(answer.status == 401, "{answer:?}");
    ensure!(
        answer.header("www-authenticate") == Some("Bearer realm=\"shop\""),
        "{answer:?}"
    );
    ensure!(body(&answer)?["reason"] == "missing", "{answer:?}");
    Ok(())
}

pub(crate) async fn each_kind_of_limit_and_of_tier(mesh: &LocalMesh) -> Result<()> {
    let answer = of(mesh, "acme", "/products", &[]).await?;
    ensure!(
        answer.header("ratelimit-policy")
            == Some(
                "\"minutely\";q=100;w=60, \"hourly\";q=1000;w=3600, \"daily\";q=10000;w=86400, \"monthly\";q=100000;w=2678400"
            ),
        "{answer:?}"
    );
    for (limit, all) in [
        ("minutely", 100),
        ("hourly", 1000),
        ("daily", 10_000),
        ("monthly", 100_000),
    ] {
        ensure!(left(&answer, limit)? == all - 1, "{limit} of {answer:?}");
    }

    for sent in 1..=30 {
        let answer = of(mesh, "burst", "/products", &[]).await?;
        ensure!(
            answer.status == 200,
            "request {sent} of a burst of 30: {answer:?}"
        );
        ensure!(left(&answer, "rate")? == 30 - sent, "{answer:?}");
        // Large enough for the other worker to hold some of it.
        let monthly = left(&answer, "monthly")?;
        ensure!((95 - sent..=100 - sent).contains(&monthly), "{answer:?}");
        let remaining = (30 - sent).to_string();
        ensure!(
            answer.header("x-ratelimit-remaining") == Some(&remaining),
            "{answer:?}"
        );
        ensure!(
            answer.header("x-ratelimit-limit")
                == Some("30, 30;w=1080000;name=\"rate\", 100;w=2678400;name=\"monthly\""),
            "{answer:?}"
        );
    }
    let answer = of(mesh, "burst", "/products", &[]).await?;
    ensure!(answer.status == 429, "{answer:?}");
    ensure!(
        (65..=70).contains(&left(&answer, "monthly")?),
        "a refusal was charged: {answer:?}"
    );
    ensure!(
        answer.header("cache-control") == Some("no-store"),
        "{answer:?}"
    );
    let told: u64 = answer
        .header("retry-after")
        .context("no Retry-After")?
        .parse()?;
    // Ten hours less what the test took, and at most a tenth more.
    ensure!((35_000..=39_600).contains(&told), "{answer:?}");
    ensure!(
        body(&answer)?["violated-policies"] == json!(["rate"]),
        "{answer:?}"
    );

    for tenant in ["partner", "monitor"] {
        let answer = of(mesh, tenant, "/products/huge", &[]).await?;
        ensure!(answer.status == 404, "{tenant} is unlimited: {answer:?}");
        ensure!(answer.header("ratelimit").is_none(), "{answer:?}");
    }
    for target in ["/products", "/products/probe"] {
        let answer = of(mesh, "fraud", target, &[]).await?;
        ensure!(answer.status == 403, "{answer:?}");
        ensure!(body(&answer)?["reason"] == "blocked", "{answer:?}");
    }
    Ok(())
}

pub(crate) async fn each_form_of_cost(mesh: &LocalMesh) -> Result<()> {
    for (n, (target, headers, cost)) in [
        ("/products", &[][..], 1),
        ("/products/export/all", &[], 7),
        ("/products/%65xport", &[], 7),
        ("/products//export", &[], 7),
        ("/products/probe%2f..%2fexport", &[], 7),
        ("/products/search", &[], 5),
        ("/products/find?size=3", &[], 3),
        ("/products/find?size=1", &[], 2),
        ("/products/search?size=1e9", &[], 20),
        ("/products/search?size=3&Size=4", &[], 20),
        ("/products", &["x-batch: yes"], 3),
        ("/products", &["x-batch: yes", "x-cost: 8"], 8),
        ("/products", &["x-batch: yes", "x-cost: 1", "x_cost: 1"], 9),
        ("/products", &["x-batch: no", "x-cost: 9"], 1),
    ]
    .into_iter()
    .enumerate()
    {
        // Each by somebody who has used nothing.
        let answer = of(mesh, &format!("pays-{n}"), target, headers).await?;
        let paid = 100 - left(&answer, "monthly")?;
        ensure!(
            paid == cost,
            "{target} {headers:?} cost {paid}, not {cost}: {answer:?}"
        );
    }

    let answer = of(mesh, "probes", "/products/probe", &[]).await?;
    ensure!(
        answer.header("ratelimit").is_none(),
        "exempt, and told {answer:?}"
    );
    let answer = get(mesh, "shop", "/products/probe", &[]).await?;
    ensure!(answer.status == 404, "exempt needs no tenant: {answer:?}");

    let answer = of(mesh, "small", "/products/huge", &[]).await?;
    ensure!(answer.status == 403, "{answer:?}");
    ensure!(answer.header("retry-after").is_none(), "{answer:?}");
    let problem = body(&answer)?;
    ensure!(problem["reason"] == "too_costly", "{problem}");
    ensure!(problem["violated-policies"] == json!(["rate"]), "{problem}");
    ensure!(left(&answer, "rate")? == 30, "{answer:?}");
    Ok(())
}

pub(crate) async fn a_route_has_limits_of_its_own(mesh: &LocalMesh) -> Result<()> {
    let login = async |tenant: &str| {
        let id = format!("x-tenant-id: {tenant}");
        get(
            mesh,
            "Login.example.com:80",
            "/products/login",
            &[id.as_str()],
        )
        .await
    };
    for tenant in ["user-1", "user-2"] {
        for sent in 1..=2 {
            let answer = login(tenant).await?;
            ensure!(answer.status == 404, "{answer:?}");
            ensure!(left(&answer, "login")? == 2 - sent, "{answer:?}");
            ensure!(left(&answer, "rate")? == 30 - sent, "{answer:?}");
        }
        let answer = login(tenant).await?;
        ensure!(answer.status == 429, "{answer:?}");
        ensure!(
            body(&answer)?["violated-policies"] == json!(["login"]),
            "{answer:?}"
        );
        // Elsewhere there is no such limit, and the refusal has cost nothing.
        let answer = of(mesh, tenant, "/products", &[]).await?;
        ensure!(left(&answer, "rate")? == 27, "{answer:?}");
        ensure!(left(&answer, "login").is_err(), "{answer:?}");
    }
    Ok(())
}

pub(crate) async fn a_grpc_call_is_refused_in_one_frame(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let call = |tenant: &str, path: &str| {
        Request::post(format!("http://{gateway}{path}"))
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .header("x-tenant-id", tenant)
            .body(())
    };
    for (path, status, pushback) in [
        ("/products/huge", "8", Some(-1..=-1)),
        ("/pkg.Service/Method", "8", Some(35_000_000..=39_600_000)),
    ] {
        // 30 requests of the same tenant: what is over is refused.
        let tenant = format!("grpc-{}", path.len());
        for body in [Body::None, Body::Streamed] {
            let mut last = None;
            for _ in 0..=30 {
                let answer = http2::send(gateway, call(&tenant, path)?, body).await?;
                let refused = answer.header("grpc-retry-pushback-ms").is_some();
                last = Some(answer);
                if refused {
                    break;
                }
            }
            let answer = last.context("an answer")?;
            ensure!(answer.status == 200, "{answer:?}");
            ensure!(
                answer.ended_with_headers && answer.trailers.is_none(),
                "{answer:?}"
            );
            ensure!(
                answer.header("content-type") == Some("application/grpc"),
                "{answer:?}"
            );
            ensure!(answer.header("grpc-status") == Some(status), "{answer:?}");
            ensure!(
                answer
                    .header("grpc-message")
                    .is_some_and(|text| text.contains("rate")),
                "{answer:?}"
            );
            let told = answer
                .header("grpc-retry-pushback-ms")
                .context("no pushback")?;
            let told: i64 = told.parse()?;
            ensure!(
                pushback.as_ref().is_none_or(|range| range.contains(&told)),
                "{answer:?}"
            );
        }
    }
    let nobody = Request::post(format!("http://{gateway}/pkg.Service/Method"))
        .header("content-type", "application/grpc")
        .body(())?;
    let answer = http2::send(gateway, nobody, Body::Streamed).await?;
    ensure!(answer.header("grpc-status") == Some("16"), "{answer:?}");
    let blocked = http2::send(gateway, call("fraud", "/a/b")?, Body::None).await?;
    ensure!(blocked.header("grpc-status") == Some("7"), "{blocked:?}");
    Ok(())
}

pub(crate) async fn what_became_of_requests_is_counted_by_reason(mesh: &LocalMesh) -> Result<()> {
    // Others of this mesh use other tenants and routes, so only what is named here is sure.
    for target in ["/products", "/products", "/products/huge"] {
        of(mesh, "counted", target, &[]).await?;
    }
    let of_tenant = [("tenant", "counted"), ("tier", "known")];
    let metrics = settled(
        mesh,
        "ingressgateway",
        |m| m.sum("shop_admitted_total", &of_tenant),
        3,
    )
    .await?;
    ensure!(metrics.label_names("shop_admitted_total") == ["tenant", "tier"]);
    get(mesh, "shop", "/counted", &["x-tenant-id: fraud"]).await?;
    let blocked = [
        ("tenant", "fraud"),
        ("tier", "known"),
        ("limit", "none"),
        ("reason", "blocked"),
    ];
    let counted = mesh.metrics("ingressgateway").await?;
    ensure!(
        counted.sum("shop_refused_total", &blocked) > 0,
        "{counted:?}"
    );
    ensure!(counted.label_names("shop_refused_total") == ["limit", "reason", "tenant", "tier"]);
    for name in [
        "shop_tracked",
        "shop_evictions_total",
        "shop_contention_total",
    ] {
        ensure!(
            counted.names_with(name) == [name],
            "{name} is not there from the start"
        );
    }
    of(mesh, "invented", "/products", &[]).await?;
    let tracked = |m: &tollgate_tests::Metrics| m.sum("shop_tracked", &[]).min(1);
    settled(mesh, "ingressgateway", tracked, 1).await?;
    // The business metrics of the same gateway hear from the limiter whose the refused request was, and that it was somebody's.
    let refused = [("tenant", "other"), ("tier", "other"), ("status", "403")];
    let business = |m: &tollgate_tests::Metrics| m.sum("shop_requests_total", &refused).min(1);
    settled(mesh, "ingressgateway", business, 1).await?;
    Ok(())
}

/// Language models, behind the gateway: a program that says how many tokens it has used.
const MODELS: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: models, namespace: ecommerce}
spec:
  hosts: ['*']
  gateways: [ecommerce-gateway]
  http:
  - match:
    - uri: {prefix: /v1}
    route:
    - destination: {host: user-service, port: {number: 3004}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: models, namespace: ecommerce}
spec:
  selector: {matchLabels: {app: user-service}}
  rules:
  - to: [{operation: {paths: [/v1/*]}}]
";

/// The shop whose limiter is given one configuration after the other while it runs.
pub(crate) fn edited(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    vouched::add(&manifests, "models.yaml", MODELS)?;
    // In some of what follows clients choose their tenant, and no type may rest on that.
    let (file, indent) = match form {
        Form::ThreeModules => ("wasm-plugins/user-classifier/plugin.yaml", "    "),
        Form::Bundle => ("wasm-plugins/tollgate/plugin.yaml", "      "),
    };
    let premium =
        format!("{indent}- type: premium\n{indent}  when:\n{indent}  - tier: {{exact: premium}}\n");
    manifests.replace(file, &premium, "")?;
    vouched::start(manifests)
}

/// The tests of that mesh run one at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// Every example that ships, one after the other.
pub(crate) async fn the_examples_do_what_they_say(mesh: &LocalMesh) -> Result<()> {
    let _turn = TURN.lock().await;
    let form = mesh.manifests().form();
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../wasm-plugins/tenant-rate-limit/examples"
    );
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    for name in &names {
        let example = std::fs::read_to_string(format!("{folder}/{name}"))?;
        let manifests = mesh.manifests();
        manifests.see_bodies(Filter::TenantRateLimit, name == "llm-tokens.yaml")?;
        manifests.configure(form, Filter::TenantRateLimit, &example)?;
        applied(mesh).with_context(|| format!("examples/{name}"))?;
        runs(mesh, name)
            .await
            .with_context(|| format!("examples/{name}"))?;
    }
    Ok(())
}

pub(crate) async fn a_limit_is_raised_and_what_was_used_stays_used(mesh: &LocalMesh) -> Result<()> {
    let _turn = TURN.lock().await;
    let form = mesh.manifests().form();
    let quota = |quota: &str| {
        let configuration = format!(
            "tenant: {{from: [{{header: x-tenant-id}}], unknown: {{tier: counted}}}}\n\
             tiers:\n  counted: {{limits: [{{name: daily, quota: {quota}, per: day}}]}}\n\
             tenants:\n  thrifty: {{tier: counted}}\n"
        );
        mesh.manifests()
            .configure(form, Filter::TenantRateLimit, &configuration)
    };
    let ask = async || anyhow::Ok(of(mesh, "thrifty", "/products", &[]).await?.status);
    quota("20")?;
    applied(mesh)?;
    for number in 1..=20 {
        let status = ask().await?;
        ensure!(status == 200, "request {number} of 20 a day: {status}");
    }
    ensure!(ask().await? == 429, "request 21 of 20 a day is admitted");

    quota("25")?;
    let told = applied(mesh)?;
    eprintln!("limit: told after {told:?}");
    for number in 21..=25 {
        let status = ask().await?;
        ensure!(status == 200, "request {number} of 25 a day: {status}");
    }
    ensure!(
        ask().await? == 429,
        "what was used before the edit is forgotten"
    );

    quota("many")?;
    let finding = refused(mesh)?;
    let (file, _) = Filter::TenantRateLimit.place(form);
    let (file, line) = place(mesh, file, "quota: many")?;
    ensure!(
        (finding.file.as_str(), finding.line) == (file.as_str(), line),
        "{file}:{line} is wrong, and told is {finding:?}"
    );
    ensure!(
        finding.field == Filter::TenantRateLimit.field(form, "tiers.counted.limits[0].quota"),
        "{finding:?}"
    );
    ensure!(ask().await? == 429, "a refused edit changed the limit");
    quota("26")?;
    applied(mesh)?;
    ensure!(ask().await? == 200, "request 26 of 26 a day is refused");
    ensure!(ask().await? == 429, "request 27 of 26 a day is admitted");
    Ok(())
}

/// What the comments of an example say, in requests.
async fn runs(mesh: &LocalMesh, example: &str) -> Result<()> {
    let policy = async |tenant: &str, expected: &str| {
        let answer = of(mesh, tenant, "/products", &[]).await?;
        ensure!(answer.status == 200, "{tenant}: {answer:?}");
        let told = answer.header("ratelimit-policy").unwrap_or_default();
        ensure!(told == expected, "{tenant}: {told:?} is not {expected:?}");
        anyhow::Ok(answer)
    };
    let status = |answer: &Answer, expected: u16| {
        ensure!(answer.status == expected, "not {expected}: {answer:?}");
        Ok(())
    };
    match example {
        "same-for-all.yaml" => {
            policy("anybody", "\"rate\";q=10;w=1").await?;
        }
        "tiers.yaml" => {
            policy(
                "acme",
                "\"rate\";q=200;w=2, \"monthly\";q=1000000;w=2678400",
            )
            .await?;
            policy(
                "globex",
                "\"rate\";q=500;w=1, \"monthly\";q=1000000;w=2678400",
            )
            .await?;
            policy("monitoring", "").await?;
            status(&of(mesh, "initech", "/products", &[]).await?, 403)?;
            for sent in 1..=3 {
                let answer =
                    policy("somebody", "\"rate\";q=3;w=36, \"daily\";q=200;w=86400").await?;
                ensure!(left(&answer, "rate")? == 3 - sent, "{answer:?}");
            }
            status(&of(mesh, "somebody", "/products", &[]).await?, 429)?;
        }
        "tokens-and-peers.yaml" => {
            for (claims, expected) in [
                (json!({"tenant": "acme"}), "\"rate\";q=100;w=1"),
                (
                    json!({"realm_access": {"tenant": "acme"}}),
                    "\"rate\";q=100;w=1",
                ),
                (json!({"tenant": "globex"}), "\"rate\";q=8;w=2"),
            ] {
                let token = format!("authorization: Bearer {}", vouched::token(&claims)?);
                let answer = get(mesh, "shop", "/products", &[token.as_str()]).await?;
                let told = answer.header("ratelimit-policy");
                ensure!(told == Some(expected), "{claims}: {answer:?}");
            }
            let answer = of(mesh, "acme", "/products", &[]).await?;
            status(&answer, 401)?;
            ensure!(
                answer.header("www-authenticate") == Some("Bearer realm=\"shop\""),
                "{answer:?}"
            );
        }
        "at-a-service.yaml" => {
            // At a gateway nobody is connected whose word counts.
            policy("acme", "\"rate\";q=4;w=2").await?;
        }
        "unknown-together.yaml" => {
            let with = async |target: &str, headers: &[&str]| {
                let answer = get(mesh, "shop", target, headers).await?;
                anyhow::Ok(
                    answer
                        .header("ratelimit-policy")
                        .unwrap_or_default()
                        .to_owned(),
                )
            };
            let customer = "\"rate\";q=1000;w=1";
            ensure!(with("/products", &["x-account: acme"]).await? == customer);
            ensure!(with("/products?account=acme", &[]).await? == customer);
            ensure!(with("/products", &["cookie: account=acme"]).await? == customer);
            let stranger = "\"rate\";q=20;w=10";
            ensure!(with("/products?account=acme", &["x-account: a b"]).await? == stranger);
            ensure!(with("/products", &[]).await? == stranger);
            // Together they have what one of them would have, and two a second.
            let mut refused = 0;
            for n in 0..60 {
                let id = format!("x-account: invented-{n}");
                let answer = get(mesh, "shop", "/products", &[id.as_str()]).await?;
                refused += u32::from(answer.status == 429);
            }
            ensure!(refused > 0, "60 invented ids were all admitted");
        }
        "subdomains.yaml" => {
            let answer = get(mesh, "acme.shop.example.com", "/products", &[]).await?;
            status(&answer, 200)?;
            ensure!(
                answer.header("x-ratelimit-limit") == Some("50, 50;w=1;name=\"rate\""),
                "{answer:?}"
            );
            let answer = get(mesh, "shop", "/t/some-body/products", &[]).await?;
            ensure!(
                answer.header("ratelimit-policy") == Some("\"rate\";q=5;w=3"),
                "{answer:?}"
            );
            // As DNS has no such name.
            status(&get(mesh, "shop", "/t/some_body/products", &[]).await?, 401)?;
            status(
                &get(mesh, "shop", "/products", &["x-tenant-id: acme"]).await?,
                401,
            )?;
            status(&get(mesh, "shop", "/healthz", &[]).await?, 404)?;
        }
        "costs.yaml" => {
            let all = 50_000;
            for (n, (host, target, headers, cost)) in [
                ("shop", "/products", &[][..], 1),
                ("shop", "/exports", &[], 25),
                ("shop", "/exports/1", &[], 25),
                ("shop", "/search?size=7", &[], 1),
                ("api.example.com", "/search?size=7", &[], 7),
                ("api.example.com", "/search", &[], 20),
                ("api.example.com", "/search?size=all", &[], 200),
                ("shop", "/products", &["x-batch: 1", "x-cost: 60"], 60),
                ("shop", "/products", &["x-batch: 1"], 50),
            ]
            .into_iter()
            .enumerate()
            {
                let id = format!("x-tenant-id: payer-{n}");
                let headers: Vec<&str> = headers.iter().copied().chain([id.as_str()]).collect();
                let answer = get(mesh, host, target, &headers).await?;
                let paid = all - left(&answer, "daily")?;
                ensure!(paid == cost, "{target} {headers:?} cost {paid}: {answer:?}");
            }
            let answer = of(mesh, "payer", "/healthz", &[]).await?;
            ensure!(answer.header("ratelimit").is_none(), "{answer:?}");
        }
        "llm-tokens.yaml" => {
            let ask = async |tenant: &str, headers: &[&str]| {
                let answer = of(mesh, tenant, "/v1/chat/completions", headers).await?;
                ensure!(answer.status == 200, "{answer:?}");
                left(&answer, "tokens")
            };
            for (n, (headers, used)) in [
                (&["x-words: 321"][..], 321),
                (&["x-words: 77", "x-stream: 1"], 77),
                (
                    &["x-words: 321", "x-stream: 1", "accept-encoding: gzip"],
                    321,
                ),
                (&["x-words: 9999"], 4_000),
                // No model answers, but the mesh.
                (&["x-words: none"], 500),
            ]
            .into_iter()
            .enumerate()
            {
                let tenant = format!("talker-{n}");
                if used == 500 {
                    let answer = of(mesh, &tenant, "/v1/chat/completions", headers).await?;
                    ensure!(answer.status >= 500, "{answer:?}");
                } else {
                    let told = ask(&tenant, headers).await?;
                    ensure!(told == 20_000 - 500, "{headers:?}: {told}");
                }
                let told = ask(&tenant, &["x-words: 1"]).await?;
                ensure!(told == 20_000 - used - 500, "{headers:?}: {told}");
            }
            let told = ask("acme", &["x-words: 1"]).await?;
            ensure!(told == 2_000_000 - 1_000, "{told}");
            let answer = of(mesh, "painter", "/v1/images", &["x-words: 3"]).await?;
            ensure!(left(&answer, "images")? == 47, "{answer:?}");
            // Neither images nor models tell tokens, so they use up none.
            for path in ["/v1/images", "/v1/models"] {
                for _ in 0..3 {
                    let answer = of(mesh, "painter", path, &["x-words: 1"]).await?;
                    status(&answer, 200)?;
                    ensure!(left(&answer, "tokens").is_err(), "{answer:?}");
                }
            }
            let told = ask("painter", &["x-words: 1"]).await?;
            ensure!(told == 20_000 - 500, "{told}");
            let answer = of(mesh, "painter", "/healthz", &[]).await?;
            ensure!(answer.header("ratelimit").is_none(), "{answer:?}");
        }
        "shadow.yaml" => {
            let both = "\"rate\";q=200;w=2, \"daily\";q=5000;w=86400";
            policy("acme", both).await?;
            policy("initech", "\"rate\";q=200;w=2").await?;
            let mut told = [0, 0];
            for n in 0..40 {
                let answer = of(mesh, &format!("somebody-{n}"), "/products", &[]).await?;
                let policy = answer.header("ratelimit-policy").unwrap_or_default();
                told[usize::from(policy == both)] += 1;
            }
            ensure!(
                told[0] > told[1] && told[1] > 0,
                "not one of four: {told:?}"
            );
        }
        "in-flight.yaml" => {
            policy(
                "somebody",
                r#""rate";q=200;w=2, "parallel";q=20;qu="concurrent-requests""#,
            )
            .await?;
            policy(
                "acme",
                r#""rate";q=200;w=2, "parallel";q=100;qu="concurrent-requests""#,
            )
            .await?;
            // Each one gives its place back.
            for _ in 0..30 {
                let answer = of(mesh, "exporter", "/exports", &[]).await?;
                let told = answer.header("ratelimit").unwrap_or_default();
                ensure!(
                    answer.status != 429 && told.contains(r#""exports";r="#),
                    "{answer:?}"
                );
            }
        }
        "total.yaml" => {
            // Nobody is told what others have left of it.
            policy("acme", "\"rate\";q=1500;w=1").await?;
            policy("somebody", "\"rate\";q=50;w=1").await?;
            for path in ["/products", "/healthz"] {
                let answer = of(mesh, "nightly", path, &[]).await?;
                ensure!(answer.header("ratelimit").is_none(), "{answer:?}");
            }
        }
        "total-in-shadow.yaml" => {
            policy("somebody", "\"rate\";q=50;w=1").await?;
            for _ in 0..30 {
                let answer = of(mesh, "acme", "/products", &[]).await?;
                status(&answer, 200)?;
                ensure!(answer.header("ratelimit").is_none(), "{answer:?}");
            }
        }
        other => bail!("nothing is known of {other}, write here what it should do"),
    }
    Ok(())
}
