//! Tenants by what the proxy vouches for, tokens at the gateway and certificates at a sidecar; and what becomes of a request's trailers.

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, HeaderValue, Request};
use serde_json::{Value, json};
use tollgate_tests::tokens::Signer;
use tollgate_tests::{Filter, Form, LocalMesh, Manifests, Options, Target, http2};

use crate::explain;
use crate::live::applied;
use crate::tenants::configure;

pub(crate) const ISSUER: &str = "https://issuer.test";

/// The tenants of the tests, with quotas of the day that tell whom a limiter took them for; and what others have.
const TENANTS: [(&str, u64); 6] = [
    ("by-claim", 1001),
    // As long as a number is, and as a bool is.
    ("eight-by", 1002),
    ("b", 1003),
    ("by-realm", 1004),
    ("by-header", 1005),
    ("anonymous", 1006),
];
const PEERS: [(&str, u64); 4] = [
    ("carried", 2004),
    ("order-service", 2001),
    ("istio-system", 2002),
    ("anonymous", 2003),
];
const STRANGERS: u64 = 9;

fn limits(tenants: &[(&str, u64)], sources: &Value) -> Value {
    let daily = |quota: u64| json!([{"name": "daily", "quota": quota, "per": "day"}]);
    let listed: serde_json::Map<String, Value> = tenants
        .iter()
        .map(|(tenant, quota)| {
            let own = json!({"tier": "all", "limits": daily(*quota)});
            ((*tenant).to_owned(), own)
        })
        .collect();
    json!({
        "tenant": {"from": sources, "unknown": {"tier": "all"}},
        "tiers": {"all": {"limits": daily(STRANGERS)}},
        "tenants": listed,
    })
}

/// Where the gateway looks for tenants.
fn at_gateway() -> Value {
    json!([
        {"claim": "tenant"},
        {"claim": ["https://shop.test/realm", "tenant"]},
        {"header": "x-tenant-id", "vouched": true},
    ])
}

/// The shop with a gateway that believes tokens, and with a limiter at the users' sidecar that believes certificates. The users are replaced
/// by a program that says what trailers it sees.
pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    // With an issuer of their own.
    let manifests = Manifests::of(form)?.without_issuer();
    configure(&manifests, form, &limits(&TENANTS, &at_gateway()))?;
    explain::configure(&manifests, form)?;
    let at_sidecar = json!([
        {"passedOn": {"peers": [{"exact": "spiffe://cluster.local/ns/ecommerce/sa/order-service"}]}},
        {"peer": "spiffe://cluster.local/ns/ecommerce/sa/{tenant}"},
        {"peer": "spiffe://cluster.local/ns/{tenant}/sa/*"},
    ]);
    let (url, configuration) = Filter::TenantRateLimit.plugin(form, &limits(&PEERS, &at_sidecar));
    let limiter = format!(
        "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: by-peer, namespace: ecommerce}}
spec:
  selector: {{matchLabels: {{app: user-service}}}}
  url: {url}
  phase: AUTHZ
  priority: 30
  match: [{{mode: SERVER}}]
  pluginConfig: {configuration}
"
    );
    add(&manifests, "by-peer.yaml", &limiter)?;
    start(manifests)
}

/// A mesh whose gateway verifies the tokens of these tests, with a user service that takes trailers and says what it was sent.
pub(crate) fn start(manifests: Manifests) -> Result<LocalMesh> {
    start_with(manifests, &[])
}

/// The same with that program in place of these images, too.
pub(crate) fn start_with(manifests: Manifests, images: &[&str]) -> Result<LocalMesh> {
    believe_tokens(&manifests)?;
    manifests.replace(
        "services/kubernetes/user-service.yaml",
        "  - name: http\n    port: 3004\n",
        "  - name: http2\n    port: 3004\n",
    )?;
    let images = images.iter().chain(&["user-service"]);
    let run = images.map(|image| format!("{image}={}", env!("CARGO_BIN_EXE_echo")));
    let options = Options {
        run: run.collect(),
        ..Options::default()
    };
    LocalMesh::start(manifests, options)
}

/// Lets the gateway verify the tokens of these tests.
pub(crate) fn believe_tokens(manifests: &Manifests) -> Result<()> {
    let authentication = format!(
        "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tests, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules:
  - issuer: {ISSUER}
    jwks: '{}'
",
        signer()?.jwks()?,
    );
    add(manifests, "tokens.yaml", &authentication)
}

/// Adds a manifest to the mesh.
pub(crate) fn add(manifests: &Manifests, name: &str, manifest: &str) -> Result<()> {
    manifests.write(&format!("istio/security/{name}"), manifest)?;
    manifests.replace(
        "istio/security/kustomization.yaml",
        "resources:\n",
        &format!("resources:\n- {name}\n"),
    )
}

/// A token with these claims that the gateway believes, whatever time it is.
pub(crate) fn token(claims: &Value) -> Result<String> {
    let mut payload = json!({"iss": ISSUER, "sub": "alice"});
    if let (Some(payload), Value::Object(claims)) = (payload.as_object_mut(), claims) {
        payload.extend(claims.clone());
    }
    Ok(signer()?.sign(&payload))
}

/// Who signs the tokens of these tests: a stranger to the local issuer.
pub(crate) fn signer() -> Result<Signer> {
    Signer::stranger("vouched")
}

/// The quotas that limiters say they have applied, from the service outward.
fn quotas(answer: &reqwest::Response) -> Result<Vec<u64>> {
    let told = answer.headers().get_all("ratelimit-policy").iter();
    let told = told.map(|policy| {
        let quota = policy.to_str()?.strip_prefix("\"daily\";q=");
        let quota = quota.and_then(|rest| rest.split(';').next());
        Ok(quota.with_context(|| format!("{policy:?}"))?.parse()?)
    });
    told.collect()
}

pub(crate) async fn a_token_names_the_tenant(mesh: &LocalMesh) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/products", mesh.gateway());
    let get = async |token: Option<&str>| {
        let mut request = client.get(&url).header("x-tenant-id", "by-header");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        anyhow::Ok(request.send().await?)
    };
    let realm = "https://shop.test/realm";
    let eight = f64::from_le_bytes(*b"eight-by");
    for (claims, expected) in [
        (json!({"tenant": "by-claim"}), "by-claim"),
        (json!({"tenant": "BY-claim"}), "by-claim"),
        (json!({"tenant": "eight-by"}), "eight-by"),
        (json!({"tenant": "b"}), "b"),
        (json!({realm: {"tenant": "by-realm"}}), "by-realm"),
        (
            json!({"tenant": "by-claim", realm: {"tenant": "by-realm"}}),
            "by-claim",
        ),
        // No string, so no id; and the header is not asked.
        (json!({"tenant": eight}), "anonymous"),
        (json!({"tenant": 98}), "anonymous"),
        (json!({"tenant": true}), "anonymous"),
        (json!({"tenant": ""}), "anonymous"),
        (json!({"tenant": null}), "anonymous"),
        (json!({"tenant": ["by-claim"]}), "anonymous"),
        (json!({"tenant": ["by-claim", null]}), "anonymous"),
        (json!({"tenant": {"id": "by-claim"}}), "anonymous"),
        (
            json!({"tenant": [], realm: {"tenant": "by-realm"}}),
            "anonymous",
        ),
        // What else is in a token is no matter.
        (
            json!({"tenant": "by-claim", "a": null, "b": ["x", null]}),
            "by-claim",
        ),
        (
            json!({"tenant": "eight-by", "a": null, "b": ["x", null]}),
            "eight-by",
        ),
        (json!({"tenant": "b", "long": "x".repeat(30_000)}), "b"),
        (
            json!({realm: {"tenant": "by-realm", "a": null}}),
            "by-realm",
        ),
        // No such claim.
        (json!({}), "by-header"),
        (
            json!({"Tenant": "by-claim", realm: ["by-realm"]}),
            "by-header",
        ),
    ] {
        let token = token(&claims)?;
        let answer = get(Some(&token)).await?;
        let expected = TENANTS.iter().find(|(tenant, _)| *tenant == expected);
        let expected = expected.context("a tenant of the tests")?.1;
        ensure!(
            quotas(&answer)? == [expected],
            "{expected} for {claims:.200}: {answer:?}"
        );
    }
    let answer = get(None).await?;
    ensure!(quotas(&answer)? == [1005], "without a token: {answer:?}");
    let mut forged = token(&json!({"tenant": "by-claim"}))?;
    let first = forged.rfind('.').context("a signature")? + 1;
    let other = if forged[first..].starts_with('A') {
        "B"
    } else {
        "A"
    };
    forged.replace_range(first..=first, other);
    let answer = get(Some(&forged)).await?;
    ensure!(answer.status() == 401, "a forged token: {answer:?}");
    Ok(())
}

/// Of several issuers, what clients may write in headers that tokens are to write, and whose claims a limiter believes.
pub(crate) async fn what_tokens_of_several_issuers_say_is_told_apart(
    mesh: &LocalMesh,
) -> Result<()> {
    const FILE: &str = "istio/security/tokens.yaml";
    const OTHER: &str = "https://another.test";
    let before = mesh.manifests().read(FILE)?;
    let other = Signer::another("another", 11)?;
    let keys = [(ISSUER, signer()?.jwks()?), (OTHER, other.jwks()?)];
    let url = format!("{}/users/alice", mesh.gateway());
    // The header x-customer as the service gets it, and the quotas of the limiters. A connection keeps what its listener was when it came.
    let ask = async |token: Option<&str>| {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut request = client.get(&url).header("x-customer", "forged");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        ensure!(answer.status() == 200, "{answer:?}");
        let quota = quotas(&answer)?.last().copied();
        let told: Value = answer.json().await?;
        let fields = told["headers"].as_array().context("no headers")?.iter();
        let customers = fields.filter(|field| field[0] == "x-customer");
        let customers: Vec<String> = customers
            .filter_map(|field| field[1].as_str().map(str::to_owned))
            .collect();
        anyhow::Ok((customers.join(","), quota))
    };
    let claims = json!({"iss": OTHER, "sub": "bob", "customer": "theirs", "tenant": "by-claim"});
    let theirs = other.sign(&claims);
    let own = token(&json!({"customer": "own", "tenant": "by-claim"}))?;
    // https://another.test comes before https://issuer.test, whoever is written first; and before envoyproxy/envoy#46586 Envoy looks no further than its token.
    let left = match mesh.envoy_version().starts_with("1.37.") {
        true => "forged",
        false => "",
    };
    for (writers, of_theirs, of_own, of_nobody) in [
        (&[ISSUER][..], left, "own", ""),
        (&[OTHER], "theirs", "", ""),
        (&[ISSUER, OTHER], "theirs", "own", ""),
    ] {
        let rules = keys.iter().map(|(issuer, keys)| {
            let output = if writers.contains(issuer) {
                "    outputClaimToHeaders: [{header: x-customer, claim: customer}]\n"
            } else {
                ""
            };
            format!("  - issuer: {issuer}\n    jwks: '{keys}'\n{output}")
        });
        let (head, _) = before.split_once("  - issuer").context("no rule")?;
        let after = format!("{head}{}", rules.collect::<String>());
        mesh.manifests().write(FILE, &after)?;
        applied(mesh)?;
        for (token, expected) in [
            (Some(&theirs), of_theirs),
            (Some(&own), of_own),
            (None, of_nobody),
        ] {
            let (customer, _) = ask(token.map(String::as_str)).await?;
            ensure!(
                customer == expected,
                "{writers:?} write it, and {customer:?} arrives beside {token:?}"
            );
        }
    }
    // A claim of whatever issuer names a tenant, unless one is meant.
    let quota = async |token: &str| Ok::<_, anyhow::Error>(ask(Some(token)).await?.1);
    ensure!(quota(&theirs).await? == Some(1001));
    let form = mesh.manifests().form();
    let sources = |issuer: &str| json!([{"claim": "tenant", "issuer": issuer}]);
    for (issuer, of_theirs, of_own) in [(ISSUER, 1006, 1001), (OTHER, 1001, 1006)] {
        configure(mesh.manifests(), form, &limits(&TENANTS, &sources(issuer)))?;
        applied(mesh)?;
        let seen = (quota(&theirs).await?, quota(&own).await?);
        ensure!(
            seen == (Some(of_theirs), Some(of_own)),
            "of {issuer} alone: {seen:?}"
        );
    }
    configure(mesh.manifests(), form, &limits(&TENANTS, &at_gateway()))?;
    applied(mesh)?;
    mesh.manifests().write(FILE, &before)?;
    applied(mesh).map(drop)
}

pub(crate) async fn a_peer_names_the_tenant(mesh: &LocalMesh) -> Result<()> {
    let pods = mesh.pods("order-service");
    let proxy = pods.first().and_then(|pod| pod.outbound_proxy.as_deref());
    let orders = reqwest::Client::builder()
        .proxy(reqwest::Proxy::http(proxy.context("no order-service")?)?)
        .build()?;
    for (carried, expected) in [
        (&[][..], 2001),
        // Orders are believed when they pass a tenant on, if they name one.
        (&["carried"], 2004),
        (&[" Carried"], 2004),
        (&["carried", "carried"], 2003),
        (&["not an id"], 2003),
    ] {
        let mut request = orders.get("http://user-service:3004/users/alice");
        for tenant in carried {
            request = request.header("x-tenant-id", *tenant);
        }
        let answer = request.send().await?;
        ensure!(answer.status() == 200, "{answer:?}");
        ensure!(quotas(&answer)? == [expected], "{carried:?}: {answer:?}");
    }

    let customer = reqwest::Client::builder().no_proxy().build()?;
    let answer = customer
        .get(format!("{}/users/alice", mesh.gateway()))
        .header("x-tenant-id", "by-header")
        .send()
        .await?;
    ensure!(answer.status() == 200, "{answer:?}");
    // Both limiters speak: the sidecar's of the gateway, whose word on tenants it does not take, and the gateway's of the customer.
    ensure!(quotas(&answer)? == [2002, 1005], "{answer:?}");
    Ok(())
}

pub(crate) async fn no_trailer_of_a_client_arrives_under_a_name_of_ours(
    mesh: &LocalMesh,
) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let request = || Request::get(format!("http://{gateway}/users/alice")).body(());
    let mut trailers = HeaderMap::new();
    for name in [
        "user-type",
        "user_type",
        "user.type",
        "x-tenant-id",
        "x_tenant_id",
        "x-tenant_id",
        "x-tenant-tier",
        "x_tenant_tier",
        "x~tenant~tier",
        "x-explain-user-type",
        "x_explain_user-type",
    ] {
        trailers.append(name, HeaderValue::from_static("vip"));
        trailers.append(name, HeaderValue::from_static("globex"));
    }
    trailers.append("x-checksum", HeaderValue::from_static("7"));
    trailers.append("x-tenant", HeaderValue::from_static("kept"));
    let answer = http2::send_with_trailers(gateway, request()?, trailers).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let arrived = answer.header("x-trailers");
    ensure!(arrived == Some("x-checksum=7;x-tenant=kept"), "{answer:?}");

    // Nothing but ours: then none is left, and the request ends all the same.
    let mut ours = HeaderMap::new();
    ours.append("user-type", HeaderValue::from_static("vip"));
    let answer = http2::send_with_trailers(gateway, request()?, ours).await?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(answer.header("x-trailers") == Some(""), "{answer:?}");
    let answer = http2::send(gateway, request()?, http2::Body::None).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}
