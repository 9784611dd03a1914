//! Tokens and access rules of a test's own, on the shop with programs that say what they were sent.
//!
//! All tests edit the same manifest, so one runs at a time.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tollgate_tests::tokens::{Signer, encode};
use tollgate_tests::{Form, LocalMesh, Options, Target};

use crate::client::{Client, Reply};
use crate::live::{self, applied, refused};
use crate::load::{Load, TENANT as PATIENT};

const ISSUER: &str = "https://issuer.test";
const TENANT: (&str, &str) = ("x-tenant-id", PATIENT);
const RULES: &str = "istio/security/tests.yaml";

static TURN: Mutex<()> = Mutex::const_new(());

fn unsigned(header: &Value, claims: &Value) -> String {
    [encode(header), encode(claims)].join(".")
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// The claims of Alice, with others in their place or beside them.
fn claims(others: Value) -> Result<Value> {
    let mut claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": ["shop"], "exp": now()? + 600,
        "email": "alice@shop.test", "groups": ["staff", "admin"], "realm": {"plan": "gold"},
        "scope": "read write", "azp": "app", "level": 7, "vip": true,
    });
    if let (Some(claims), Value::Object(others)) = (claims.as_object_mut(), others) {
        claims.extend(others);
    }
    Ok(claims)
}

/// Who signs the tokens of these tests.
fn signer() -> Result<Signer> {
    Signer::stranger("test")
}

/// The gateway and the sidecar of the echo verify its tokens.
fn authentication() -> Result<String> {
    Ok(format!(
        r#"apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: gateway, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules:
  - issuer: {ISSUER}
    audiences: [shop]
    jwks: '{jwks}'
    fromHeaders: [{{name: authorization, prefix: "Bearer "}}, {{name: x-token}}]
    fromParams: [token]
    fromCookies: [session]
    outputPayloadToHeader: x-payload
    outputClaimToHeaders:
    - {{header: x-email, claim: email}}
    - {{header: x-plan, claim: realm.plan}}
    - {{header: x-level, claim: level}}
    - {{header: x-vip, claim: vip}}
    - {{header: x-nothing, claim: nothing}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: echo, namespace: ecommerce}}
spec:
  selector: {{matchLabels: {{app: echo}}}}
  jwtRules:
  - issuer: {ISSUER}
    jwks: '{jwks}'
    forwardOriginalToken: true
---
"#,
        jwks = signer()?.jwks()?
    ))
}

/// A service that says which headers it was sent, and whom its policy lets in: nobody else can ask it anything.
const ECHO: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: echo, namespace: ecommerce}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: ecommerce}
spec:
  selector: {app: echo}
  ports:
  - {name: http, port: 3009}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo, namespace: ecommerce}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata:
      labels: {app: echo}
      annotations: {sidecar.istio.io/extraStatTags: 'route,status,tenant,user_type'}
    spec:
      serviceAccountName: echo
      containers:
      - name: echo
        image: echo
        ports:
        - {name: http, containerPort: 3009}
        env:
        - {name: PORT, value: '3009'}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo-ingress, namespace: ecommerce}
spec:
  hosts: ['*']
  gateways: [ecommerce-gateway]
  http:
  - match:
    - uri: {prefix: /echo}
    route:
    - destination: {host: echo, port: {number: 3009}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: echo, namespace: ecommerce}
spec:
  selector: {matchLabels: {app: echo}}
  rules:
  - from: [{source: {serviceAccounts: [istio-system/ingressgateway, order-service]}}]
";

/// Who watches over the shop: Prometheus, and somebody else beside it.
const MONITORING: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: monitoring, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: NAME, namespace: monitoring}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: monitoring}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata:
      labels: {app: NAME}
    spec:
      serviceAccountName: NAME
      containers:
      - name: NAME
        image: echo
        ports:
        - {name: http, containerPort: 9090}
        env:
        - {name: PORT, value: '9090'}
";

/// The shop with all of it.
pub(crate) fn mesh() -> Result<LocalMesh> {
    // Who a request is of is said by headers: tokens are what is tested, and they come from another issuer.
    let manifests = live::manifests(Form::ThreeModules)?.without_issuer();
    manifests.replace(
        Form::ThreeModules.limiter().0,
        "\n      - claim: tenant\n",
        "\n      - {header: x-tenant-id, vouched: true}\n",
    )?;
    manifests.write(RULES, &authentication()?)?;
    manifests.write("istio/security/echo.yaml", ECHO)?;
    let prometheus = MONITORING.replace("NAME", "prometheus");
    let (_, of_grafana) = MONITORING
        .split_once("---\n")
        .context("a namespace and who is in it")?;
    let grafana = of_grafana.replace("NAME", "grafana");
    manifests.write(
        "istio/security/monitoring.yaml",
        &format!("{prometheus}---\n{grafana}"),
    )?;
    manifests.replace(
        "istio/security/kustomization.yaml",
        "resources:\n",
        "resources:\n- tests.yaml\n- echo.yaml\n- monitoring.yaml\n",
    )?;
    LocalMesh::start(
        manifests,
        Options {
            run: vec![format!("echo={}", env!("CARGO_BIN_EXE_faulty"))],
            ..Options::default()
        },
    )
}

/// Puts these beside the RequestAuthentications, in place of what was there.
fn rule(mesh: &LocalMesh, policies: &str) -> Result<()> {
    let text = authentication()? + policies;
    if mesh.manifests().read(RULES)? != text {
        mesh.manifests().write(RULES, &text)?;
        applied(mesh)?;
    }
    Ok(())
}

/// An AuthorizationPolicy.
fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n{spec}\n---\n"
    )
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// What a program of the mesh was sent in a header.
fn sent(answer: &Reply, header: &str) -> Result<Option<String>> {
    let headers = &answer.json()?["headers"];
    ensure!(headers.is_object(), "{answer:?}");
    Ok(headers[header].as_str().map(str::to_owned))
}

pub(crate) async fn only_a_valid_token_passes(mesh: &LocalMesh) -> Result<()> {
    let _turn = TURN.lock().await;
    rule(mesh, "")?;
    let signer = signer()?;
    let client = Client::of(mesh)?;
    let mut for_nobody = claims(json!({}))?;
    if let Some(claims) = for_nobody.as_object_mut() {
        claims.remove("aud");
    }
    let valid = signer.sign(&claims(json!({}))?);
    let (signed, signature) = valid.rsplit_once('.').context("a token has two dots")?;
    let (_, payload) = signed.split_once('.').context("a token has two dots")?;
    let admin = URL_SAFE_NO_PAD.encode(claims(json!({"sub": "admin"}))?.to_string());
    let another = Signer::another("test", 8)?;
    let symmetric = unsigned(&json!({"alg": "HS256", "kid": "test"}), &claims(json!({}))?);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &signer.point());
    let hmac = hmac::sign(&secret, symmetric.as_bytes());
    let hmac = format!("{symmetric}.{}", URL_SAFE_NO_PAD.encode(hmac));
    let none = unsigned(&json!({"alg": "none"}), &claims(json!({}))?);
    for (what, token, status) in [
        ("valid", valid.clone(), 200),
        (
            "audience as a string",
            signer.sign(&claims(json!({"aud": "shop"}))?),
            200,
        ),
        (
            "audience one of several",
            signer.sign(&claims(json!({"aud": ["a", "shop"]}))?),
            200,
        ),
        (
            "expired",
            signer.sign(&claims(json!({"exp": now()? - 120}))?),
            401,
        ),
        (
            "not valid yet",
            signer.sign(&claims(json!({"nbf": now()? + 600}))?),
            401,
        ),
        (
            "of another issuer",
            signer.sign(&claims(json!({"iss": "https://other.test"}))?),
            401,
        ),
        (
            "of no issuer",
            signer.sign(&claims(json!({"iss": null}))?),
            401,
        ),
        ("of another key", another.sign(&claims(json!({}))?), 401),
        (
            "of a key that nobody has",
            signer.sign_with(
                &json!({"alg": "ES256", "kid": "other"}),
                &claims(json!({}))?,
            ),
            401,
        ),
        (
            "with another signature",
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1_u8; 64])),
            401,
        ),
        (
            "with another payload",
            valid.replacen(payload, &admin, 1),
            401,
        ),
        ("without signature", format!("{signed}."), 401),
        ("without the dot of a signature", signed.to_owned(), 401),
        ("of alg none", format!("{none}."), 401),
        ("of alg none, signed", format!("{none}.{signature}"), 401),
        ("of alg HS256, signed with the public key", hmac, 401),
        ("no token at all", "nonsense".to_owned(), 401),
        (
            "for another audience",
            signer.sign(&claims(json!({"aud": ["other"]}))?),
            403,
        ),
        (
            "for nothing",
            signer.sign(&claims(json!({"aud": null}))?),
            401,
        ),
        ("for no audience", signer.sign(&for_nobody), 403),
    ] {
        let authorization = bearer(&token);
        let cookie = format!("session={token}");
        let in_query = format!("/products?token={token}");
        let answers = [
            client
                .get("/products", &[TENANT, ("authorization", &authorization)])
                .await?,
            client
                .get("/products", &[TENANT, ("x-token", &token)])
                .await?,
            client
                .get("/products", &[TENANT, ("cookie", &cookie)])
                .await?,
            client.get(&in_query, &[TENANT]).await?,
        ];
        for (place, answer) in ["authorization", "x-token", "cookie", "query"]
            .iter()
            .zip(answers)
        {
            ensure!(answer.status == status, "{what}, in {place}: {answer:?}");
        }
    }
    // Without one everybody is nobody, and so is who has it where nobody looks.
    for headers in [
        [TENANT, ("x-other", "a")],
        [TENANT, ("x-other-token", "nonsense")],
        [TENANT, ("authorization", "Basic YTpi")],
    ] {
        let answer = client.get("/products", &headers).await?;
        ensure!(answer.status == 200, "{headers:?}: {answer:?}");
    }
    Ok(())
}

pub(crate) async fn what_a_token_says_is_passed_on_and_it_is_not(mesh: &LocalMesh) -> Result<()> {
    let _turn = TURN.lock().await;
    rule(mesh, "")?;
    let client = Client::of(mesh)?;
    let wanted = claims(json!({}))?;
    let authorization = bearer(&signer()?.sign(&wanted));
    let forged = [
        TENANT,
        ("x-email", "root@shop.test"),
        ("x-plan", "platinum"),
        ("x-payload", "forged"),
    ];
    let mut headers = forged.to_vec();
    headers.push(("authorization", &authorization));
    let answer = client.get("/echo", &headers).await?;
    for (header, value) in [
        ("x-email", Some("alice@shop.test")),
        ("x-plan", Some("gold")),
        ("x-level", Some("7")),
        ("x-vip", Some("true")),
        ("x-nothing", None),
        ("authorization", None),
    ] {
        let sent = sent(&answer, header)?;
        ensure!(sent.as_deref() == value, "{header}: {sent:?}");
    }
    let payload = sent(&answer, "x-payload")?.context("no payload is passed on")?;
    let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    ensure!(payload == wanted, "{payload}");

    let answer = client.get("/echo", &forged).await?;
    for header in ["x-email", "x-plan", "x-payload"] {
        let sent = sent(&answer, header)?;
        ensure!(sent.is_none(), "without a token, {header} is {sent:?}");
    }

    // Between services: a sidecar verifies, too, and here it leaves the token.
    let order = Client::in_pod(mesh, "order-service", "echo:3009")?;
    let answer = order
        .get("/a", &[("authorization", &authorization)])
        .await?;
    let sent = sent(&answer, "authorization")?;
    ensure!(
        sent.as_deref() == Some(authorization.as_str()),
        "{answer:?}"
    );
    let expired = bearer(&signer()?.sign(&claims(json!({"exp": now()? - 120}))?));
    let answer = order.get("/a", &[("authorization", &expired)]).await?;
    ensure!(answer.status == 401, "{answer:?}");
    let answer = order.get("/a", &[]).await?;
    ensure!(answer.status == 200, "{answer:?}");
    // A token is no way around who may ask.
    let user = Client::in_pod(mesh, "user-service", "echo:3009")?;
    let answer = user.get("/a", &[("authorization", &authorization)]).await?;
    ensure!(answer.status == 403, "{answer:?}");
    Ok(())
}

pub(crate) async fn prometheus_may_read_metrics_and_nothing_else(mesh: &LocalMesh) -> Result<()> {
    let _turn = TURN.lock().await;
    rule(mesh, "")?;
    for (service, port) in [
        ("product-service", 3001),
        ("cart-service", 3002),
        ("order-service", 3003),
        ("user-service", 3004),
    ] {
        let at = format!("{service}.ecommerce:{port}");
        let prometheus = Client::in_pod(mesh, "prometheus", &at)?;
        let answer = prometheus.get("/metrics", &[]).await?;
        ensure!(
            answer.status == 200
                && answer.header("content-type")
                    == Some("text/plain; version=0.0.4; charset=utf-8")
                && answer
                    .body
                    .contains(&format!("service_info{{service=\"{service}\",")),
            "{answer:?}"
        );
        for (method, path) in [
            ("HEAD", "/metrics"),
            ("POST", "/metrics"),
            ("GET", "/metrics/"),
            ("GET", "/metrics/more"),
            ("GET", "/metric"),
            ("GET", "/METRICS"),
            ("GET", "/health"),
            ("GET", "/products"),
            ("GET", "/cart/alice"),
            ("GET", "/orders/alice"),
            ("GET", "/users/alice"),
        ] {
            let answer = prometheus.request(method, path, &[]).await?;
            ensure!(
                answer.status == 403 && answer.header("x-service-version").is_none(),
                "prometheus asks {service} for {method} {path}: {answer:?}"
            );
        }
        // Its neighbour is not it, nor is another service of the shop.
        for other in ["grafana", "cart-service"] {
            let answer = Client::in_pod(mesh, other, &at)?
                .get("/metrics", &[])
                .await?;
            ensure!(
                answer.status == 403 && answer.body == "RBAC: access denied",
                "{other} asks {service}: {answer:?}"
            );
        }
    }
    let answer = Client::of(mesh)?.get("/metrics", &[TENANT]).await?;
    ensure!(answer.status == 403, "through the gateway: {answer:?}");
    Ok(())
}

/// A rule of a DENY at the gateway, and requests that it matches and that it does not.
struct Case {
    rule: &'static str,
    denied: Vec<Asked>,
    passed: Vec<Asked>,
}

/// A request.
struct Asked {
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    from: IpAddr,
}

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));

fn get(path: &'static str) -> Asked {
    Asked {
        method: "GET",
        path,
        headers: Vec::new(),
        from: HOME,
    }
}

impl Asked {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn by(self, others: Value) -> Result<Self> {
        let token = signer()?.sign(&claims(others)?);
        Ok(self.with("authorization", bearer(&token)))
    }

    fn from(mut self, from: IpAddr) -> Self {
        self.from = from;
        self
    }

    fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    async fn send(&self, mesh: &LocalMesh) -> Result<Reply> {
        let mut headers = vec![TENANT];
        headers.extend(
            self.headers
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        // A connection of its own, so that it meets what has been applied.
        Client::at(mesh, self.from)?
            .request(self.method, self.path, &headers)
            .await
    }
}

fn cases() -> Result<Vec<Case>> {
    let products = || get("/products");
    let case = |rule, denied, passed| Case {
        rule,
        denied,
        passed,
    };
    Ok(vec![
        case("{}", vec![products(), get("/users/alice")], vec![]),
        case(
            "{to: [{operation: {methods: [POST, 'H*']}}]}",
            vec![products().method("POST"), products().method("HEAD")],
            vec![products()],
        ),
        case(
            "{to: [{operation: {paths: ['/users/*', '*cts']}}]}",
            vec![
                get("/users/alice"),
                products(),
                get("/x/../products"),
                get("/products?a=/b"),
            ],
            vec![get("/users-of-mine"), get("/cart/alice")],
        ),
        case(
            "{to: [{operation: {paths: ['/users/{*}', '/cart/{*}/{**}'], notPaths: [/users/bob]}}]}",
            vec![
                get("/users/alice"),
                get("/cart/alice/a"),
                get("/cart/alice/a/b"),
            ],
            vec![get("/users/alice/a"), get("/users/bob"), products()],
        ),
        case(
            "{to: [{operation: {hosts: [Admin.test, '*.admin.test']}}]}",
            vec![
                products().with("host", "admin.TEST"),
                products().with("host", "a.admin.test"),
            ],
            vec![products(), products().with("host", "admin.test.a")],
        ),
        case(
            "{to: [{operation: {ports: ['8080'], paths: [/products]}}, {operation: {notPorts: ['8080']}}]}",
            vec![products()],
            vec![get("/users/alice")],
        ),
        case(
            "{from: [{source: {ipBlocks: [127.9.0.0/16], notIpBlocks: [127.9.9.8]}}]}",
            vec![products().from(ELSEWHERE)],
            // Only the connection counts.
            vec![
                products(),
                products().with("x-forwarded-for", "127.9.9.9"),
                products().from(IpAddr::V4(Ipv4Addr::new(127, 9, 9, 8))),
            ],
        ),
        case(
            "{from: [{source: {remoteIpBlocks: [127.9.9.9]}}]}",
            vec![products().from(ELSEWHERE)],
            // Nobody stands before this gateway whose word on that would be taken.
            vec![products(), products().with("x-forwarded-for", "127.9.9.9")],
        ),
        case(
            "{from: [{source: {requestPrincipals: ['*']}}]}",
            vec![products().by(json!({}))?],
            vec![products()],
        ),
        case(
            "{from: [{source: {notRequestPrincipals: ['*']}}], to: [{operation: {paths: ['/users/*']}}]}",
            vec![get("/users/alice")],
            vec![get("/users/alice").by(json!({}))?, products()],
        ),
        case(
            "{from: [{source: {requestPrincipals: ['https://issuer.test/alice', '*/bob', 'https://issuer.test/c*']}}]}",
            vec![
                products().by(json!({}))?,
                products().by(json!({"sub": "bob"}))?,
                products().by(json!({"sub": "carol"}))?,
            ],
            vec![products().by(json!({"sub": "dave"}))?, products()],
        ),
        case(
            "{when: [{key: 'request.auth.claims[groups]', values: [admin, 'r*']}]}",
            vec![
                products().by(json!({}))?,
                products().by(json!({"groups": "root"}))?,
            ],
            vec![
                products().by(json!({"groups": ["staff"]}))?,
                products().by(json!({"groups": null}))?,
                products().by(json!({"groups": [null, "staff"]}))?,
                products(),
            ],
        ),
        case(
            "{when: [{key: 'request.auth.claims[realm][plan]', values: ['*'], notValues: [gold]}]}",
            vec![products().by(json!({"realm": {"plan": "iron"}}))?],
            vec![
                products().by(json!({}))?,
                products().by(json!({"realm": "plan"}))?,
                products(),
            ],
        ),
        case(
            "{when: [{key: 'request.auth.claims[scope]', values: [write]}]}",
            vec![products().by(json!({}))?],
            vec![products().by(json!({"scope": "writer read"}))?],
        ),
        case(
            "{when: [{key: request.auth.audiences, values: [beta]}]}",
            vec![products().by(json!({"aud": ["shop", "beta"]}))?],
            vec![products().by(json!({}))?, products()],
        ),
        case(
            "{when: [{key: request.auth.presenter, values: [app]}, {key: request.auth.principal, notValues: [https://issuer.test/bob]}]}",
            vec![products().by(json!({}))?],
            vec![
                products().by(json!({"azp": "web"}))?,
                products().by(json!({"sub": "bob"}))?,
                products(),
            ],
        ),
        case(
            "{when: [{key: 'request.headers[X-Beta]', values: ['yes', 'on*']}, {key: 'request.headers[x-debug]', notValues: ['*']}]}",
            vec![
                products().with("x-beta", "yes"),
                products().with("X-BETA", "on-and-off"),
            ],
            vec![
                products().with("x-beta", "no"),
                products().with("x-beta", "yes").with("x-debug", "a"),
                products(),
            ],
        ),
        case(
            "{when: [{key: source.ip, values: [127.9.9.9]}, {key: remote.ip, values: [127.0.0.0/8]}, {key: destination.ip, values: [127.0.0.1]}, {key: destination.port, values: ['8080']}]}",
            vec![products().from(ELSEWHERE)],
            vec![products()],
        ),
    ])
}

pub(crate) async fn a_rule_decides_by_all_that_a_request_has(mesh: &LocalMesh) -> Result<()> {
    let _turn = TURN.lock().await;
    let gateway = "  selector: {matchLabels: {istio: ingressgateway}}\n";
    for Case {
        rule: text,
        denied,
        passed,
    } in cases()?
    {
        let spec = format!("{gateway}  action: DENY\n  rules: [{text}]");
        rule(mesh, &policy("istio-system", "tests", &spec))?;
        for (asked, wanted) in denied
            .iter()
            .map(|asked| (asked, true))
            .chain(passed.iter().map(|asked| (asked, false)))
        {
            let answer = asked.send(mesh).await?;
            // By the gateway: what it lets pass, a sidecar may still refuse.
            let asked_nobody = answer.header("x-envoy-upstream-service-time").is_none();
            let refused = answer.status == 403 && asked_nobody;
            ensure!(
                refused == wanted && answer.status < 500,
                "{text}\n{} {} {:?} from {}: {answer:?}",
                asked.method,
                asked.path,
                asked.headers,
                asked.from
            );
        }
    }
    Ok(())
}

/// Asks until the answer is as wanted: a connection that was there before an edit has one more answer under the old rules.
async fn until(client: &Client, path: &str, status: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut right = 0;
    loop {
        let answer = client.get(path, &[]).await?;
        right = if answer.status == status {
            right + 1
        } else {
            0
        };
        if right == 5 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{path} is not answered {status}: {answer:?}");
        }
    }
}

pub(crate) async fn a_deny_comes_before_every_allow(mesh: &LocalMesh) -> Result<()> {
    let _turn = TURN.lock().await;
    let of_products = "  selector: {matchLabels: {app: product-service}}\n";
    let allow = policy(
        "ecommerce",
        "readers",
        &format!("{of_products}  rules: [{{from: [{{source: {{namespaces: [ecommerce]}}}}]}}]"),
    );
    let deny = policy(
        "istio-system",
        "not-users",
        &format!(
            "{of_products}  action: DENY\n  rules: [{{from: [{{source: {{serviceAccounts: [ecommerce/user-service]}}}}]}}]"
        ),
    );
    let dry = deny.replace(
        "namespace: istio-system",
        "namespace: istio-system, annotations: {istio.io/dry-run: 'true'}",
    );
    let [users, orders] = ["user-service", "order-service"]
        .map(|from| Client::in_pod(mesh, from, "product-service:3001"));
    let (users, orders) = (users?, orders?);
    for (policies, of_users, of_orders) in [
        (String::new(), 403, 403),
        (allow.clone(), 200, 200),
        (allow.clone() + &deny, 403, 200),
        (deny.clone(), 403, 403),
        (allow + &dry, 200, 200),
        (String::new(), 403, 403),
    ] {
        rule(mesh, &policies)?;
        until(&users, "/products", of_users)
            .await
            .context(policies.clone())?;
        until(&orders, "/products", of_orders)
            .await
            .context(policies.clone())?;
        // It is for all that they ask.
        until(
            &users,
            "/health",
            if of_users == 403 && policies.contains("DENY") {
                403
            } else {
                200
            },
        )
        .await?;
        if policies.contains("dry-run") {
            let counted = mesh
                .envoy_stats("product-service", "istio_dry_run_deny_.shadow_denied")
                .await?;
            ensure!(counted.iter().any(|(_, n)| *n >= 5), "{counted:?}");
        }
    }
    Ok(())
}

pub(crate) async fn rules_and_keys_change_under_load(mesh: &LocalMesh) -> Result<()> {
    let _turn = TURN.lock().await;
    rule(mesh, "")?;
    let load = Load::start_with(mesh, ("x-tenant-id", PATIENT.to_owned())).await?;
    let client = Client::on_fresh_connections(mesh)?;
    let token = signer()?.sign(&claims(json!({}))?);
    let authorization = bearer(&token);
    let gateway = "  selector: {matchLabels: {istio: ingressgateway}}\n";
    let closed = policy(
        "istio-system",
        "closed",
        &format!(
            "{gateway}  action: DENY\n  rules: [{{to: [{{operation: {{paths: ['/users/*']}}}}]}}]"
        ),
    );
    let widely = policy(
        "ecommerce",
        "widely",
        "  rules: [{from: [{source: {namespaces: [istio-system, ecommerce]}}]}]",
    );
    for round in 0..5 {
        rule(mesh, &closed)?;
        let answer = client.get("/users/alice", &[TENANT]).await?;
        ensure!(answer.status == 403, "{answer:?}");
        load.more(60)
            .await
            .with_context(|| format!("round {round}, closed"))?;
        rule(mesh, &widely)?;
        let answer = client.get("/users/alice", &[TENANT]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        load.more(60)
            .await
            .with_context(|| format!("round {round}, open"))?;
        // Another key: the tokens of the first are nobody's.
        let other =
            authentication()?.replace(&signer()?.jwks()?, &Signer::another("test", 8)?.jwks()?);
        mesh.manifests().write(RULES, &other)?;
        applied(mesh)?;
        let answer = client
            .get("/products", &[TENANT, ("authorization", &authorization)])
            .await?;
        ensure!(answer.status == 401, "{answer:?}");
        load.more(60)
            .await
            .with_context(|| format!("round {round}, another key"))?;
        rule(mesh, "")?;
        let answer = client
            .get("/products", &[TENANT, ("authorization", &authorization)])
            .await?;
        ensure!(answer.status == 200, "{answer:?}");
    }

    // What is wrong with one is told where it is written, and changes nothing.
    let wrong = authentication()?
        + &policy(
            "ecommerce",
            "wrong",
            "  rules: [{to: [{operation: {paths: [products]}}]}]",
        );
    mesh.manifests().write(RULES, &wrong)?;
    let finding = refused(mesh)?;
    let line = wrong
        .lines()
        .position(|line| line.contains("[products]"))
        .map_or(0, |line| line + 1);
    ensure!(
        finding.file.ends_with(RULES)
            && finding.line == u64::try_from(line)?
            && finding.field == "spec.rules[0].to[0].operation.paths[0]",
        "{finding:?}"
    );
    load.more(100).await?;
    rule(mesh, "")?;
    load.end("access rules").await
}
