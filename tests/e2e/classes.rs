//! Who a request is from, by what was verified: claims at the gateway, identities at a sidecar; and what becomes of what clients and strangers say.

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, HeaderValue, Request};
use serde_json::{Value, json};
use tollgate_tests::{Filter, Form, LocalMesh, Manifests, Target, http2};

use crate::vouched::{self, token};

/// The shop with a gateway that classifies by tokens, and a sidecar of the users that believes the gateway. The users are replaced by a program that says what
/// it was sent.
pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    let claim = |of: Value| json!({ "claim": of });
    let configuration = json!({
        "default": "standard",
        "tenant": {"vouched": true},
        "selfAssignable": ["beta"],
        "stickyKeys": [{"id": "a", "secret": "0123456789abcdef0123456789abcdef"}],
        "rules": [
            {"type": "staff", "when": claim(json!({"name": "groups", "contains": {"in": ["staff", "on-call"]}}))},
            {"type": "vip", "when": {"any": [
                claim(json!({"name": "plan", "exact": "vip"})),
                claim(json!({"name": "plan", "exact": "vip-plan"})),
                claim(json!({"name": ["account", "years"], "number": {"atLeast": 10}})),
            ]}},
            {"type": "flagged", "when": claim(json!({"name": "flag", "boolean": true}))},
            {"type": "named", "when": [claim(json!({"name": "nick", "present": true})), {"not": claim(json!({"name": "nick", "exact": ""}))}]},
            {"type": "beta", "when": {"percent": {"share": 100, "salt": "e2e", "cookie": "visitor"}},
             "set": {"requestHeaders": {"x-experiment": "on"}, "responseHeaders": {"x-served": "beta"}},
             "sticky": {"cookie": "kept", "for": "1h"}},
        ],
    });
    manifests.configure(form, Filter::UserClassifier, &configuration.to_string())?;
    // Orders may ask for users, and what they say of a request is not believed. What the gateway's rules set is.
    let (file, indent) = match form {
        Form::ThreeModules => ("wasm-plugins/user-classifier/sidecar/plugin.yaml", "    "),
        Form::Bundle => ("wasm-plugins/tollgate/plugin.yaml", "      "),
    };
    let rules = "  headers: [x-experiment]
rules:
- type: internal
  when:
  - peer: {exact: spiffe://cluster.local/ns/ecommerce/sa/order-service}
  - header: {name: x-job, present: true}
";
    let rules: String = rules
        .lines()
        .map(|line| format!("{indent}{line}\n"))
        .collect();
    let orders =
        format!("{indent}  - exact: spiffe://cluster.local/ns/ecommerce/sa/order-service\n");
    manifests.replace(file, &orders, &rules)?;
    vouched::add(&manifests, "strangers.yaml", STRANGERS)?;
    vouched::start_with(manifests, &["nightly"])
}

/// A pod of another namespace, with an identity of the mesh; it and carts may ask for users.
const STRANGERS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: jobs, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: nightly, namespace: jobs}
spec:
  selector: {matchLabels: {app: nightly}}
  template:
    metadata: {labels: {app: nightly}}
    spec:
      containers:
      - name: nightly
        image: nightly
        ports: [{containerPort: 3010}]
        env: [{name: PORT, value: '3010'}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: strangers, namespace: ecommerce}
spec:
  selector: {matchLabels: {app: user-service}}
  rules:
  - from:
    - source:
        principals: [cluster.local/ns/jobs/sa/default, cluster.local/ns/ecommerce/sa/cart-service]
";

/// What the service says that it was sent under names that filters own.
fn arrived(answer: &reqwest::Response) -> Result<&str> {
    let arrived = answer.headers().get("x-headers");
    Ok(arrived.with_context(|| format!("{answer:?}"))?.to_str()?)
}

pub(crate) async fn a_claim_is_what_it_is_and_nothing_else(mesh: &LocalMesh) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/users/alice", mesh.gateway());
    // As a property it reads as these eight letters.
    let vip_plan = f64::from_le_bytes(*b"vip-plan");
    for (claims, expected) in [
        (json!({"plan": "vip"}), "vip"),
        (json!({"plan": "vip-plan"}), "vip"),
        (json!({"plan": vip_plan}), "standard"),
        (json!({"plan": "VIP"}), "standard"),
        (json!({"plan": ["vip"]}), "standard"),
        (json!({"plan": null}), "standard"),
        (json!({"plan": {"vip": "vip"}}), "standard"),
        (json!({"groups": ["a", "staff"]}), "staff"),
        (
            json!({"groups": [null, 1, "on-call"], "plan": "vip"}),
            "staff",
        ),
        (json!({"groups": "staff"}), "standard"),
        (json!({"groups": []}), "standard"),
        (json!({"account": {"years": 10}}), "vip"),
        (json!({"account": {"years": 9.5}}), "standard"),
        // Eight bytes, as a number has; and a number as a text.
        (json!({"account": {"years": "12345678"}}), "standard"),
        (json!({"account": {"years": "10"}}), "standard"),
        (json!({"account": null}), "standard"),
        (json!({"flag": true}), "flagged"),
        (json!({"flag": false}), "standard"),
        (json!({"flag": "\u{1}"}), "standard"),
        (json!({"flag": 1}), "standard"),
        (json!({"nick": "a"}), "named"),
        (json!({"nick": ""}), "standard"),
        (json!({"nick": null}), "standard"),
        (
            json!({"plan": "vip", "long": "x".repeat(30_000), "none": [null]}),
            "vip",
        ),
        (json!({}), "standard"),
    ] {
        let mut said = claims.clone();
        said["tenant"] = "acme".into();
        let answer = client
            .get(&url)
            .bearer_auth(token(&said)?)
            .header("x-tenant-id", "globex")
            .header("user-type", "vip")
            .header("User_Type", "vip")
            .send()
            .await?;
        ensure!(answer.status() == 200, "{claims:.200}: {answer:?}");
        let expected = format!("user-type={expected};x-tenant-id=acme;x-tenant-tier=premium");
        ensure!(
            arrived(&answer)? == expected,
            "{claims:.200}: {expected}, {answer:?}"
        );
    }
    Ok(())
}

pub(crate) async fn an_experiment_is_kept_by_a_cookie_that_only_the_gateway_can_sign(
    mesh: &LocalMesh,
) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/users/alice", mesh.gateway());
    let visit = async |cookies: &str| {
        let answer = client
            .get(&url)
            .header("cookie", cookies)
            .header("x-experiment", "forged")
            .header("x_experiment", "forged")
            .send()
            .await?;
        ensure!(answer.status() == 200, "{answer:?}");
        anyhow::Ok(answer)
    };
    let answer = visit("visitor=v1").await?;
    ensure!(
        arrived(&answer)?.starts_with("user-type=beta;x-experiment=on;x-tenant-id="),
        "{answer:?}"
    );
    let told = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    ensure!(told("x-served") == Some("beta"), "{answer:?}");
    let cookie = told("set-cookie").with_context(|| format!("{answer:?}"))?;
    let (kept, attributes) = cookie.split_once("; ").context("attributes")?;
    ensure!(
        attributes == "Max-Age=3600; Path=/; HttpOnly; SameSite=Lax; Secure",
        "{cookie}"
    );
    // Known again, it is not made anew; forged or another's, it is.
    for (cookies, expected) in [
        (format!("visitor=v1; {kept}"), false),
        (format!("visitor=v2; {kept}"), true),
        (format!("visitor=v1; {kept}0"), true),
    ] {
        let answer = visit(&cookies).await?;
        ensure!(
            answer.headers().contains_key("set-cookie") == expected,
            "{cookies}: {answer:?}"
        );
    }
    let answer = visit("other=1").await?;
    ensure!(
        arrived(&answer)?.starts_with("user-type=standard;x-tenant-id="),
        "{answer:?}"
    );
    ensure!(!answer.headers().contains_key("x-served"), "{answer:?}");
    Ok(())
}

pub(crate) async fn a_sidecar_believes_whom_it_trusts(mesh: &LocalMesh) -> Result<()> {
    let ask = async |who: &str, headers: &[(&str, &str)]| {
        let pods = mesh.pods(who);
        let proxy = pods.first().and_then(|pod| pod.outbound_proxy.as_deref());
        let proxy = proxy.with_context(|| format!("no {who}"))?;
        let client = reqwest::Client::builder()
            .proxy(reqwest::Proxy::http(proxy)?)
            .build()?;
        let mut request = client.get("http://user-service.ecommerce:3004/users/alice");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        ensure!(answer.status() == 200, "{who}: {answer:?}");
        Ok(arrived(&answer)?.to_owned())
    };
    let said = [
        ("user-type", "vip"),
        ("x-tenant-id", "acme"),
        ("x-tenant-tier", "premium"),
        ("x-experiment", "on"),
    ];
    let everything = "user-type=vip;x-experiment=on;x-tenant-id=acme;x-tenant-tier=premium";
    let arrived = ask("cart-service", &said).await?;
    ensure!(arrived == everything, "a trusted word: {arrived}");
    // In other spellings nobody says anything, and what is said twice is not said.
    let spelled = [
        ("User_Type", "premium"),
        ("x_tenant_id", "globex"),
        ("x_tenant_tier", "free"),
        ("X_Experiment", "off"),
    ];
    let arrived = ask("cart-service", &[&said[..], &spelled].concat()).await?;
    ensure!(arrived == everything, "beside other spellings: {arrived}");
    for name in ["user-type", "x-tenant-id", "x-tenant-tier", "x-experiment"] {
        let twice = [&said[..], &[(name, "free")]].concat();
        let arrived = ask("cart-service", &twice).await?;
        let one = everything
            .split(';')
            .filter(|said| !said.starts_with(&format!("{name}=")));
        let others = one.collect::<Vec<_>>().join(";");
        ensure!(arrived == others, "{name} twice: {arrived}");
    }

    for stranger in ["order-service", "nightly"] {
        let forged = [&said[..], &spelled, &[("x-tenant-id", "acme")]].concat();
        for forged in [&said[..], &spelled, &forged] {
            let arrived = ask(stranger, forged).await?;
            ensure!(arrived.is_empty(), "of {stranger} arrived {arrived}");
        }
    }
    let with_job = [&said[..], &[("x-job", "nightly")]].concat();
    let arrived = ask("order-service", &with_job).await?;
    ensure!(
        arrived == "user-type=internal",
        "by a rule of the sidecar: {arrived}"
    );
    let arrived = ask("nightly", &with_job).await?;
    ensure!(arrived.is_empty(), "of a stranger arrived {arrived}");

    // In trailers neither the gateway lets it through nor the sidecar.
    let gateway = mesh.gateway_address()?;
    let request = Request::get(format!("http://{gateway}/users/alice")).body(())?;
    let mut trailers = HeaderMap::new();
    for name in [
        "user-type",
        "user_type",
        "x-tenant-id",
        "x-experiment",
        "x_experiment",
    ] {
        trailers.append(name, HeaderValue::from_static("vip"));
    }
    trailers.append("x-checksum", HeaderValue::from_static("7"));
    let answer = http2::send_with_trailers(gateway, request, trailers).await?;
    ensure!(
        answer.header("x-trailers") == Some("x-checksum=7"),
        "{answer:?}"
    );
    Ok(())
}
