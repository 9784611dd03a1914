//! Tokens of the local issuer at the gateway: who has one is believed, and nobody else is.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use serde_json::{Value, json};
use tollgate_tests::http2::{self, Body};
use tollgate_tests::tokens::{LOCAL, Signer, claims, encode, token};
use tollgate_tests::{Answer, LocalMesh, Manifests, Options, Outcome, Target, exchange};

use crate::client::Client;
use crate::shared::block_on;

type Test = fn() -> Result<()>;

/// These start meshes of their own: a gateway without anything behind it.
pub(crate) const TESTS: &[(&str, Test)] = &[(
    "the_key_is_made_by_the_first_up_survives_the_next_and_a_new_one_reaches_a_running_gateway",
    the_key_lives_as_long_as_its_file,
)];

const KEY: &str = "istio/overlays/local/issuer/key.pem";
const JWKS: &str = "istio/overlays/local/issuer/jwks.yaml";

/// The shop with the local issuer, where one product is for alice alone, and where tokens alone say of which tenant somebody is.
pub(crate) fn mesh() -> Result<LocalMesh> {
    let manifests = Manifests::overlay(LOCAL)?;
    // Requests of nobody's tenant and of bob's, of which a test sends thousands, are not to be refused for their number.
    manifests.lift_limits(&["anonymous", "globex"])?;
    manifests.write("istio/security/for-alice.yaml", FOR_ALICE)?;
    manifests.replace(
        "istio/security/kustomization.yaml",
        "resources:\n",
        "resources:\n- for-alice.yaml\n",
    )?;
    LocalMesh::start(manifests, Options::default())
}

const FOR_ALICE: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: for-alice, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  action: DENY
  rules:
  - from: [{source: {notRequestPrincipals: ['https://issuer.local.tollgate/alice']}}]
    to: [{operation: {paths: [/products/mug]}}]
";

/// What only alice gets.
const HERS: &str = "/products/mug";

/// What the limiter says of requests of acme, her tenant, and of no others: it is a premium one.
const OF_ACME: &str = "\"rate\";q=200;w=2";

/// What is true of alice.
fn alice() -> Value {
    let mut claims = claims("alice");
    claims["tenant"] = json!("acme");
    claims
}

/// Whose tenant the limiter took a request for: what it says of it.
fn policy(answer: &Answer) -> &str {
    answer.header("ratelimit-policy").unwrap_or_default()
}

async fn ask(to: SocketAddr, path: &str, token: Option<&str>) -> Result<Answer> {
    let header = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&[u8], &[u8])> = header
        .iter()
        .map(|value| (&b"authorization"[..], value.as_bytes()))
        .collect();
    exchange(to, path, &headers).await
}

async fn status(to: SocketAddr, path: &str, token: Option<&str>) -> Result<u16> {
    Ok(ask(to, path, token).await?.status)
}

pub(crate) async fn a_token_is_taken_and_says_who_somebody_is(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let alice = token(mesh.manifests(), &["--user", "alice", "--tenant", "acme"])?;
    let bob = token(mesh.manifests(), &["--user", "bob", "--claim", "beta=true"])?;
    for (path, who, expected) in [
        ("/products", None, 200),
        ("/products", Some(&bob), 200),
        ("/products", Some(&alice), 200),
        (HERS, None, 403),
        (HERS, Some(&bob), 403),
        (HERS, Some(&alice), 200),
    ] {
        let status = status(gateway, path, who.map(String::as_str)).await?;
        ensure!(status == expected, "{path} of {who:?} is answered {status}");
    }
    // What another implementation of tokens signs with the same key is as good.
    let issuer = Signer::local(mesh.manifests())?;
    let status = status(gateway, HERS, Some(&issuer.sign(&claims("alice")))).await?;
    ensure!(
        status == 200,
        "a token of another hand is answered {status}"
    );
    Ok(())
}

/// A claim of a token, changed.
fn with(name: &str, value: Value) -> Value {
    let mut claims = alice();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = alice();
    if let Some(claims) = claims.as_object_mut() {
        claims.remove(name);
    }
    claims
}

/// Tokens that say they are alice's, and none of which is to be believed.
pub(crate) fn forged(issuer: &Signer, genuine: &str) -> Result<Vec<(String, String)>> {
    let stranger = Signer::stranger("stranger")?;
    let namesake = Signer::stranger(&issuer.id)?;
    let parts: Vec<&str> = genuine.split('.').collect();
    let [header, _, signature] = parts[..] else {
        bail!("{genuine} does not have three parts");
    };
    let payload = encode(&alice());
    let now = claims("")["iat"].as_u64().context("iat")?;
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, token: String| all.push((what.to_owned(), token));
    // Who signs.
    add("of a stranger", stranger.sign(&alice()));
    add("of a namesake", namesake.sign(&alice()));
    add(
        "of a stranger without an id",
        stranger.sign_with(&json!({"alg": "ES256", "typ": "JWT"}), &alice()),
    );
    for (field, value) in [
        ("jku", json!("https://stranger.example.com/jwks")),
        ("x5u", json!("https://stranger.example.com/cert")),
        (
            "jwk",
            json!({"kty": "EC", "crv": "P-256", "x": "", "y": ""}),
        ),
        ("crit", json!(["exp"])),
    ] {
        let mut header = json!({"alg": "ES256", "typ": "JWT", "kid": issuer.id});
        header[field] = value;
        add(
            &format!("of a namesake with {field}"),
            namesake.sign_with(&header, &alice()),
        );
    }
    // What it is signed with.
    for algorithm in [
        "none", "None", "NONE", "nOnE", "HS256", "HS512", "RS256", "PS256", "ES384", "ES512",
        "EdDSA", "es256", "", " ES256",
    ] {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": issuer.id});
        add(
            &format!("{algorithm:?}, signed all the same"),
            issuer.sign_with(&header, &alice()),
        );
        let unsigned = [encode(&header), payload.clone()].join(".");
        add(
            &format!("{algorithm:?} without a signature"),
            format!("{unsigned}."),
        );
        add(&format!("{algorithm:?} in two parts"), unsigned.clone());
        add(
            &format!("{algorithm:?} with a borrowed signature"),
            format!("{unsigned}.{signature}"),
        );
    }
    for algorithm in [json!(null), json!(256), json!(["ES256"])] {
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": issuer.id});
        add(
            &format!("the algorithm {algorithm}"),
            issuer.sign_with(&header, &alice()),
        );
    }
    add(
        "no algorithm",
        issuer.sign_with(&json!({"typ": "JWT", "kid": issuer.id}), &alice()),
    );
    // What a genuine one of somebody else is made of.
    add(
        "with a genuine head and signature",
        [header, &payload, signature].join("."),
    );
    let zeros = "A".repeat(86);
    for (what, signature) in [
        ("of zeros", zeros.as_str()),
        ("that is too short", &signature[..80]),
        ("that is empty", ""),
        ("that is no base64", "!!!!"),
    ] {
        add(
            &format!("with a signature {what}"),
            [header, &payload, signature].join("."),
        );
    }
    // What it says, signed by the issuer itself.
    for (what, claims) in [
        ("expired", with("exp", json!(now - 3_600))),
        ("expired since 1970", with("exp", json!(1))),
        ("expired for ever", with("exp", json!(-1))),
        ("for later", with("nbf", json!(now + 3_600))),
        (
            "of another issuer",
            with("iss", json!("https://login.example.com")),
        ),
        (
            "of an issuer in capitals",
            with("iss", json!("HTTPS://ISSUER.LOCAL.TOLLGATE")),
        ),
        (
            "of an issuer with a slash",
            with("iss", json!("https://issuer.local.tollgate/")),
        ),
        (
            "of two issuers",
            with("iss", json!(["https://issuer.local.tollgate"])),
        ),
        ("of the issuer null", with("iss", json!(null))),
        ("of no issuer", without("iss")),
        ("for somebody else", with("aud", json!("bank"))),
        ("for several others", with("aud", json!(["bank", "shop2"]))),
        ("for nobody", with("aud", json!([]))),
        ("for null", with("aud", json!(null))),
        ("for no audience", without("aud")),
        ("of nobody", without("sub")),
        ("of null", with("sub", json!(null))),
        ("of alice in a list", with("sub", json!(["alice"]))),
        ("of Alice", with("sub", json!("Alice"))),
        ("of alice and a space", with("sub", json!("alice "))),
        ("of alice and a zero byte", with("sub", json!("alice\u{0}"))),
    ] {
        add(what, issuer.sign(&claims));
    }
    // What is no token.
    for (what, claims) in [
        ("whose claims are a list", json!(["alice"])),
        ("whose claims are a text", json!("alice")),
        ("whose claims are null", json!(null)),
    ] {
        add(what, issuer.sign(&claims));
    }
    for (what, token) in [
        ("that is empty", String::new()),
        ("of dots", "..".to_owned()),
        ("of one part", payload.clone()),
        ("of four parts", format!("{genuine}.{payload}")),
        ("of five parts", format!("{genuine}..")),
        ("with spaces in it", genuine.replace('.', " . ")),
        (
            "with padding",
            format!("{header}=.{payload}=.{signature}=="),
        ),
        (
            "in base64 of files",
            format!("{header}.{payload}+/.{signature}"),
        ),
    ] {
        add(what, token);
    }
    Ok(all)
}

/// Whether such a token is signed well and of a time and form that can be: it is for another audience, which Envoy answers like what somebody
/// may not do, or of a user who is not alice. What is behind three parts Envoy does not look at, so that one is bob's.
fn is_bobs_or_for_others(what: &str) -> bool {
    let for_others = [
        "for somebody else",
        "for several others",
        "for nobody",
        "for no audience",
    ];
    for_others.contains(&what) || is_genuine(what)
}

/// Whether such a token is one that the issuer has made for the shop, of a user who is not alice.
pub(crate) fn is_genuine(what: &str) -> bool {
    [
        "of nobody",
        "of Alice",
        "of alice and a space",
        "of alice and a zero byte",
        "of five parts",
    ]
    .contains(&what)
}

type Carriage = fn(&str, &str) -> (String, Vec<(&'static str, String)>);

/// The ways in which a token can come: path and headers, of the token and of a genuine one of bob's beside it.
const CARRIAGES: &[(&str, Carriage)] = &[
    ("as it should", |token, _| {
        (
            HERS.into(),
            vec![("authorization", format!("Bearer {token}"))],
        )
    }),
    ("in capitals", |token, _| {
        (
            HERS.into(),
            vec![("AUTHORIZATION", format!("Bearer {token}"))],
        )
    }),
    ("as a bearer in small letters", |token, _| {
        (
            HERS.into(),
            vec![("authorization", format!("bearer {token}"))],
        )
    }),
    ("behind two spaces", |token, _| {
        (
            HERS.into(),
            vec![("authorization", format!("Bearer  {token}"))],
        )
    }),
    ("before spaces", |token, _| {
        (
            HERS.into(),
            vec![("authorization", format!("Bearer {token} \t "))],
        )
    }),
    ("behind a tab", |token, _| {
        (
            HERS.into(),
            vec![("authorization", format!("Bearer\t{token}"))],
        )
    }),
    ("folded", |token, _| {
        (
            HERS.into(),
            vec![("authorization", format!("Bearer\r\n {token}"))],
        )
    }),
    ("behind a comma", |token, bob| {
        (
            HERS.into(),
            vec![("authorization", format!("Bearer {bob}, Bearer {token}"))],
        )
    }),
    ("before a comma", |token, bob| {
        (
            HERS.into(),
            vec![("authorization", format!("Bearer {token}, Bearer {bob}"))],
        )
    }),
    ("behind bob's", |token, bob| {
        (
            HERS.into(),
            vec![
                ("authorization", format!("Bearer {bob}")),
                ("authorization", format!("Bearer {token}")),
            ],
        )
    }),
    ("before bob's", |token, bob| {
        (
            HERS.into(),
            vec![
                ("authorization", format!("Bearer {token}")),
                ("authorization", format!("Bearer {bob}")),
            ],
        )
    }),
    ("in the query", |token, _| {
        (format!("{HERS}?access_token={token}"), vec![])
    }),
    ("in the query beside bob's header", |token, bob| {
        (
            format!("{HERS}?access_token={token}"),
            vec![("authorization", format!("Bearer {bob}"))],
        )
    }),
    ("in the header beside bob's query", |token, bob| {
        (
            format!("{HERS}?access_token={bob}"),
            vec![("authorization", format!("Bearer {token}"))],
        )
    }),
    ("behind what the filters own", |token, bob| {
        (
            HERS.into(),
            vec![
                ("x-tenant-id", "acme".to_owned()),
                ("X-Tenant-Tier", "premium".to_owned()),
                ("user-type", "vip".to_owned()),
                ("authorization", format!("Bearer {token}")),
                ("X-TENANT-ID", "acme".to_owned()),
                ("x_tenant_id", "acme".to_owned()),
                ("authorization", format!("Bearer {bob}")),
            ],
        )
    }),
    ("in headers of other names", |token, _| {
        (
            HERS.into(),
            vec![
                (
                    "x-jwt-payload",
                    token.split('.').nth(1).unwrap_or_default().to_owned(),
                ),
                ("x-forwarded-authorization", format!("Bearer {token}")),
                ("x_authorization", format!("Bearer {token}")),
                ("proxy-authorization", format!("Bearer {token}")),
                (
                    "cookie",
                    format!("access_token={token}; authorization=Bearer {token}"),
                ),
            ],
        )
    }),
];

/// Nobody gets what is alice's without a token of hers that the issuer has signed, however a forged one is made and brought.
pub(crate) async fn a_thousand_forged_tokens_win_nothing(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let issuer = Signer::local(mesh.manifests())?;
    let genuine = token(mesh.manifests(), &["--user", "alice", "--tenant", "acme"])?;
    let bob = token(mesh.manifests(), &["--user", "bob", "--tenant", "globex"])?;
    let forged = forged(&issuer, &bob)?;
    let mut answered = BTreeSet::new();
    let (mut tried, mut others) = (0, Vec::new());
    for (how, carriage) in CARRIAGES {
        for (what, token) in &forged {
            let answer = try_with(gateway, *carriage, token, &bob)
                .await
                .with_context(|| format!("{what}, {how}"))?;
            ensure!(
                [400, 401, 403].contains(&answer.status),
                "a token {what}, {how}, is answered {answer:?}"
            );
            // What the issuer has signed says whose tenant it is, whoever has it.
            ensure!(
                policy(&answer) != OF_ACME || is_bobs_or_for_others(what),
                "a token {what}, {how}, is one of acme: {answer:?}"
            );
            // Where a token is expected, what is wrong with it is the reason.
            if *how == "as it should" {
                // An empty one is none.
                let expected = if is_bobs_or_for_others(what) || token.is_empty() {
                    403
                } else {
                    401
                };
                if answer.status != expected {
                    others.push(format!("a token {what} is answered {answer:?}"));
                }
            }
            answered.insert(answer.status);
            tried += 1;
        }
    }
    ensure!(others.is_empty(), "{others:#?}");
    ensure!(tried >= 1_000, "only {tried} were tried");
    ensure!(
        answered.contains(&401) && answered.contains(&403),
        "{answered:?}"
    );
    for (what, token) in &forged {
        for tokens in [vec![token], vec![token, &bob], vec![&bob, token]] {
            let mut request = Request::get(format!("http://{gateway}{HERS}"));
            for token in tokens {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = http2::send(gateway, request.body(())?, Body::None)
                .await
                .with_context(|| format!("{what}, over HTTP/2"))?;
            ensure!(
                [400, 401, 403].contains(&answer.status),
                "a token {what}, over HTTP/2, is answered {answer:?}"
            );
            ensure!(
                answer.header("ratelimit-policy") != Some(OF_ACME) || is_bobs_or_for_others(what),
                "a token {what}, over HTTP/2, is one of acme: {answer:?}"
            );
        }
    }
    // She herself still gets it, in more ways than one: it is not the way that they were refused for.
    let mut ways = BTreeSet::new();
    for (how, carriage) in CARRIAGES {
        let answer = try_with(gateway, *carriage, &genuine, &bob).await?;
        if answer.status == 200 {
            ensure!(
                policy(&answer) == OF_ACME,
                "{how}, alice is answered {answer:?}"
            );
            ways.insert(*how);
        }
    }
    for way in ["as it should", "in capitals", "in the query"] {
        ensure!(ways.contains(way), "{way} is not among {ways:?}");
    }
    // And what is refused says of which tenant it was, too.
    let answer = ask(gateway, HERS, Some(&bob)).await?;
    ensure!(
        answer.status == 403 && policy(&answer) == "\"rate\";q=100000;w=1",
        "bob is answered {answer:?}"
    );
    Ok(())
}

pub(crate) async fn carts_and_orders_are_for_their_customers_alone(mesh: &LocalMesh) -> Result<()> {
    let client = Client::of(mesh)?;
    let (alice, bob) = (mesh.bearer("alice", "acme")?, mesh.bearer("bob", "acme")?);
    let item = json!({"productId": "kettle"});
    let order = json!({"userId": "alice"});
    let ask = async |what: &str, headers: &[(&str, &str)]| match what {
        "order" => client.post("/orders", headers, &order).await,
        "add" => client.post("/cart/alice", headers, &item).await,
        "remove" => {
            client
                .request("DELETE", "/cart/alice/kettle", headers)
                .await
        }
        path => client.get(path, headers).await,
    };
    for what in ["/cart/alice", "/orders/alice", "add", "remove", "order"] {
        // Nobody, who calls himself alice or not.
        for headers in [&[][..], &[("end-user", "alice")], &[("x-user-id", "alice")]] {
            let answer = ask(what, headers).await?;
            ensure!(
                answer.status == 403 && answer.body == "RBAC: access denied",
                "{what} of nobody, {headers:?}: {answer:?}"
            );
        }
        // Somebody else, whatever else he says.
        for name in ["x-nothing", "end-user", "end_user", "End-User"] {
            let answer = ask(what, &[("authorization", &bob), (name, "alice")]).await?;
            ensure!(
                answer.status == 403
                    && answer.header("content-type") == Some("application/problem+json")
                    && answer.header("x-service-version").is_some(),
                "{what} of bob, who says {name}: {answer:?}"
            );
        }
        let answer = ask(what, &[("authorization", &alice)]).await?;
        ensure!(
            [200, 201, 204].contains(&answer.status),
            "{what} of alice: {answer:?}"
        );
    }
    // Nor is there another way to write it.
    for path in [
        "/cart/alice?a=b",
        "/cart/alice/",
        "//cart/alice",
        "/cart//alice",
        "/x/../cart/alice",
        "/./cart/alice",
        "/%63art/alice",
        "/cart%2Falice",
        "/CART/alice",
        "/orders/alice;a",
    ] {
        let answer = exchange(mesh.gateway_address()?, path, &[]).await?;
        ensure!(
            [400, 403, 404].contains(&answer.status),
            "{path}: {answer:?}"
        );
    }
    // The catalogue is everybody's.
    let answer = client.get("/products", &[]).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// Asks for what is alice's.
async fn try_with(to: SocketAddr, carriage: Carriage, token: &str, bob: &str) -> Result<Answer> {
    let (path, headers) = carriage(token, bob);
    // An URL has no spaces.
    let path = path.replace(' ', "%20");
    let headers: Vec<(&[u8], &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    exchange(to, &path, &headers).await
}

/// A gateway and the local issuer, with nothing behind them.
fn gateway_alone() -> Result<Manifests> {
    let manifests = Manifests::overlay(LOCAL)?;
    manifests.write(
        "istio/overlays/local/kustomization.yaml",
        "resources:\n- ../../ingress\n- issuer\n",
    )?;
    Ok(manifests)
}

fn the_key_lives_as_long_as_its_file() -> Result<()> {
    let manifests = gateway_alone()?;
    // Without routes every request that gets through is answered 404.
    let (let_through, refused) = (404, 401);
    ensure!(!manifests.file(KEY).exists(), "a key is among what ships");
    let mesh = LocalMesh::start(manifests, Options::default())?;
    let key = fs::metadata(mesh.manifests().file(KEY)).context("`up` made no key")?;
    ensure!(
        key.permissions().mode() & 0o777 == 0o600,
        "the key is for others, too: {key:?}"
    );
    let first = token(mesh.manifests(), &["--user", "alice"])?;
    let is = |mesh: &LocalMesh, token: &str, expected: u16| {
        let status = block_on(status(mesh.gateway_address()?, "/", Some(token)))?;
        ensure!(status == expected, "answered {status}, not {expected}");
        Ok(())
    };
    is(&mesh, &first, let_through)?;
    let manifests = mesh.manifests().clone();
    mesh.stop()?;

    let mesh = LocalMesh::start(manifests, Options::default())?;
    is(&mesh, &first, let_through).context("after a second start")?;

    // A new key: whoever makes it, the gateway hears of it.
    fs::remove_file(mesh.manifests().file(KEY))?;
    let second = token(mesh.manifests(), &["--user", "alice"])?;
    let outcome = mesh.outcome()?;
    ensure!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    is(&mesh, &first, refused).context("a token of the key that has gone")?;
    is(&mesh, &second, let_through).context("a token of the new key")?;

    // What goes while the mesh serves comes back by itself, the same: nothing has changed.
    fs::remove_file(mesh.manifests().file(JWKS))?;
    mesh.manifests().replace(
        "istio/overlays/local/issuer/request-authentication.yaml",
        "[shop]",
        "[shop, bank]",
    )?;
    let outcome = mesh.outcome()?;
    ensure!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    is(&mesh, &second, let_through).context("after an edit without jwks.yaml")?;
    mesh.stop()?;
    Ok(())
}
