//! The examples of the classifier, each run as it ships: what its comments say, in requests.
//!
//! What is changed in one is a time or a network that the test is not in. Two things are not shown: a partner's certificate at the gateway, which needs a
//! server with `tls.mode: MUTUAL`, and the access log's line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tollgate_tests::sticky::{cookie, is_in, named};
use tollgate_tests::{Filter, Form, LocalMesh, Manifests, Target};

use crate::client::{Client, Reply};
use crate::live::{applied, refused};
use crate::vouched::{self, token};

const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../wasm-plugins/user-classifier/examples"
);

/// What the example of an experiment finds in the environment, by way of a Secret and the gateway.
const SECRET: &str = "of-the-gateways-environment-0123456789";

const SIDECAR: &str = "istio/security/sidecar.yaml";

/// What it believes.
const TRUST: &str =
    "trust: {peers: [{exact: spiffe://cluster.local/ns/istio-system/sa/ingressgateway}]}\n";

/// A workload of another namespace, whom no sidecar of the shop believes, and who may ask for users nevertheless; and a path of the users under `/admin`.
const MORE: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: sticky, namespace: istio-system}
stringData: {secret: of-the-gateways-environment-0123456789}
---
apiVersion: v1
kind: Namespace
metadata: {name: jobs, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nightly, namespace: jobs}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: nightly, namespace: jobs}
spec:
  selector: {matchLabels: {app: nightly}}
  template:
    metadata:
      labels: {app: nightly}
    spec:
      serviceAccountName: nightly
      containers:
      - name: nightly
        image: echo
        ports:
        - {name: http, containerPort: 3019}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nightly, namespace: ecommerce}
spec:
  selector: {matchLabels: {app: user-service}}
  rules:
  - from: [{source: {namespaces: [jobs]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: admin, namespace: ecommerce}
spec:
  hosts: ['*']
  gateways: [ecommerce-gateway]
  http:
  - match:
    - uri: {prefix: /admin}
    rewrite: {uri: /users/admin}
    route:
    - destination: {host: user-service, port: {number: 3004}}
";

/// The shop with users that say what they were sent, and with a secret in the gateway's environment.
pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    // Two classifiers of one header are refused.
    manifests.without_classifiers_at_sidecars()?;
    vouched::add(&manifests, "more.yaml", MORE)?;
    vouched::add(&manifests, "sidecar.yaml", &at_sidecar(form, TRUST))?;
    let ingress = "istio/ingress/ingressgateway.yaml";
    manifests.replace(
        ingress,
        "        image: auto\n",
        "        image: auto\n        env:\n        - name: STICKY_SECRET\n          valueFrom: {secretKeyRef: {name: sticky, key: secret}}\n",
    )?;
    let (file, _) = Filter::UserClassifier.place(form);
    let manifest = manifests.read(file)?;
    let variable = "  vmConfig: {env: [{name: STICKY_SECRET, valueFrom: HOST}]}\n  pluginConfig:\n";
    manifests.write(file, &manifest.replacen("  pluginConfig:\n", variable, 1))?;
    // Everybody asks more often than a customer may.
    manifests.lift_limits(&["anonymous"])?;
    let (limiter, indent) = Filter::TenantRateLimit.place(form);
    manifests.replace(
        limiter,
        &format!("\n{indent}tenants:\n"),
        &format!("\n{indent}tenants:\n{indent}  umbrella: {{tier: premium}}\n"),
    )?;
    vouched::start_with(manifests, &["echo"])
}

/// The sidecar of the users with this configuration of the classifier.
fn at_sidecar(form: Form, configuration: &str) -> String {
    let (url, _) = Filter::UserClassifier.plugin(form, &json!({}));
    let (section, indent) = match form {
        Form::ThreeModules => ("", "    "),
        Form::Bundle => ("    userClassifier:\n", "      "),
    };
    let lines = configuration.lines();
    let configuration: String = lines.map(|line| format!("{indent}{line}\n")).collect();
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: classes, namespace: ecommerce}}\nspec:\n  \
         selector: {{matchLabels: {{app: user-service}}}}\n  url: {url}\n  phase: AUTHZ\n  priority: 20\n  \
         match: [{{mode: SERVER}}]\n  pluginConfig:\n{section}{configuration}"
    )
}

pub(crate) async fn the_examples_do_what_they_say(mesh: &LocalMesh) -> Result<()> {
    let mut names: Vec<String> = std::fs::read_dir(FOLDER)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    ensure!(names.len() >= 10, "{names:?}");
    for name in &names {
        let example = std::fs::read_to_string(format!("{FOLDER}/{name}"))?;
        run(mesh, name, &example)
            .await
            .with_context(|| format!("examples/{name}"))?;
    }
    Ok(())
}

/// Gives the gateway's classifier this configuration.
fn configure(mesh: &LocalMesh, configuration: &str) -> Result<()> {
    let manifests = mesh.manifests();
    let configuration = beside_the_limiter(manifests.form(), configuration);
    manifests.configure(manifests.form(), Filter::UserClassifier, &configuration)?;
    applied(mesh).map(drop)
}

/// The same beside the shop's limiter, which a module of its own has to be told of.
fn beside_the_limiter(form: Form, configuration: &str) -> String {
    let vouched = "tenant: {vouched: true}\n";
    let told = match form {
        Form::ThreeModules if !configuration.contains(vouched) => vouched,
        _ => "",
    };
    format!("{}\n{told}", configuration.trim_end())
}

/// An example in which one thing is another.
fn with(example: &str, from: &str, to: &str) -> Result<String> {
    ensure!(
        example.matches(from).count() == 1,
        "the example does not say {from:?} once"
    );
    Ok(example.replacen(from, to, 1))
}

/// What the users were sent under a name, if it was there once.
fn sent(answer: &Reply, name: &str) -> Result<Option<String>> {
    ensure!(answer.status == 200, "{answer:?}");
    let said = answer.json()?;
    let headers = said["headers"]
        .as_array()
        .with_context(|| format!("{answer:?}"))?;
    let plain = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    let mut copies = headers
        .iter()
        .filter(|header| header[0].as_str().is_some_and(|own| plain(own) == name));
    let first = copies.next().and_then(|header| header[1].as_str());
    ensure!(
        copies.next().is_none(),
        "{name} is there more than once: {said}"
    );
    Ok(first.map(str::to_owned))
}

/// Asks for a user with these headers.
async fn ask(mesh: &LocalMesh, headers: &[(&str, &str)]) -> Result<Reply> {
    Client::of(mesh)?.get("/users/alice", headers).await
}

/// Asks, and says in `header` what was made of it.
async fn class(mesh: &LocalMesh, header: &str, headers: &[(&str, &str)]) -> Result<Option<String>> {
    sent(&ask(mesh, headers).await?, header)
}

/// Each request is of this type.
async fn types(mesh: &LocalMesh, cases: &[(&[(&str, &str)], &str)]) -> Result<()> {
    for (headers, expected) in cases {
        let class = class(mesh, "user-type", headers).await?;
        ensure!(
            class.as_deref() == Some(*expected),
            "{headers:?}: {class:?}, not {expected}"
        );
    }
    Ok(())
}

/// Whoever has a token with these claims is of this type.
async fn claims(mesh: &LocalMesh, cases: &[(serde_json::Value, &str)]) -> Result<()> {
    for (claims, expected) in cases {
        let bearer = format!("Bearer {}", token(claims)?);
        // What a client says of itself is no matter.
        let headers = [
            ("authorization", bearer.as_str()),
            ("user-type", "internal"),
            ("x-tenant-id", "acme"),
            ("x-tenant-tier", "premium"),
        ];
        let class = class(mesh, "user-type", &headers).await?;
        ensure!(
            class.as_deref() == Some(*expected),
            "{claims}: {class:?}, not {expected}"
        );
    }
    Ok(())
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// A moment so far from now, as a configuration has it.
fn moment(from_now: i64) -> Result<String> {
    let seconds = now()?.checked_add_signed(from_now).context("before 1970")?;
    let date = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()?;
    Ok(String::from_utf8(date.stdout)?.trim_end().to_owned())
}

/// What an example's comments say, in requests.
async fn run(mesh: &LocalMesh, name: &str, example: &str) -> Result<()> {
    if !["sidecar.yaml", "bots-under-another-header.yaml"].contains(&name) {
        configure(mesh, example)?;
    }
    match name {
        "bots-under-another-header.yaml" => another_header(mesh, example).await?,
        "by-tenant-and-tier.yaml" => {
            claims(
                mesh,
                &[
                    (json!({"tenant": "acme"}), "partner"),
                    (json!({"tenant": "globex"}), "partner"),
                    (json!({"tenant": "corp-hr"}), "internal"),
                    (json!({"tenant": "umbrella"}), "premium"),
                    (json!({"tenant": "initech"}), "standard"),
                    (json!({}), "standard"),
                ],
            )
            .await?;
        }
        "experiment.yaml" => experiment(mesh, example).await?,
        "gradual-rollout.yaml" => gradual_rollout(mesh, example).await?,
        "hashed-list.yaml" => {
            claims(
                mesh,
                &[
                    (json!({"sub": "alice"}), "vip"),
                    (json!({"sub": "bob"}), "vip"),
                    (json!({"sub": "carol"}), "vip"),
                    (json!({"sub": "dave"}), "standard"),
                    (json!({"sub": "9014771bf7a8a38d1f7a37df"}), "standard"),
                ],
            )
            .await?;
            types(
                mesh,
                &[
                    (&[], "standard"),
                    (&[("sub", "alice"), ("x-user-id", "alice")], "standard"),
                ],
            )
            .await?;
        }
        "opt-in-beta.yaml" => {
            let of_example = format!("Bearer {}", token(&json!({"tenant": "example"}))?);
            let of_acme = format!("Bearer {}", token(&json!({"tenant": "acme"}))?);
            let ann = ("x-user-id", "ann@example.com");
            types(
                mesh,
                &[
                    (&[("x-beta", "true")], "beta"),
                    (&[("x-beta", "1")], "standard"),
                    (&[ann, ("authorization", &of_example)], "staff"),
                    (&[ann, ("authorization", &of_acme)], "standard"),
                    (&[ann, ("x-tenant-id", "example")], "standard"),
                    (&[("authorization", &of_example)], "standard"),
                ],
            )
            .await?;
        }
        "sidecar.yaml" => at_the_sidecar(mesh, example).await?,
        "token-claims.yaml" => {
            claims(
                mesh,
                &[
                    (json!({"groups": ["dev", "staff"]}), "internal"),
                    (json!({"groups": ["dev"]}), "standard"),
                    (json!({"plan": "vip"}), "vip"),
                    (json!({"account": {"years": 10}}), "vip"),
                    (json!({"account": {"years": 9}}), "standard"),
                    (json!({"beta": true}), "beta"),
                    (json!({"beta": true, "plan": "free"}), "standard"),
                    (json!({"beta": "true"}), "standard"),
                ],
            )
            .await?;
        }
        "vip-list.yaml" => {
            types(
                mesh,
                &[
                    (&[("x-user-id", "alice")], "vip"),
                    (&[("X-User-Id", "bob")], "vip"),
                    (&[("x-user-id", "Alice")], "standard"),
                    (
                        &[("x-user-id", "alice"), ("x-user-id", "alice")],
                        "standard",
                    ),
                    (&[], "standard"),
                ],
            )
            .await?;
        }
        "where-from.yaml" => {
            let bot = ("user-agent", "examplebot");
            let preview = ("host", "preview.shop.example.com");
            types(
                mesh,
                &[
                    (&[bot], "crawler"),
                    (&[preview, ("cookie", "preview=")], "preview"),
                    (&[preview], "standard"),
                    (&[("cookie", "preview=")], "standard"),
                    (&[("x-forwarded-for", "203.0.113.7")], "standard"),
                ],
            )
            .await?;
            let client = Client::of(mesh)?;
            let answer = client.get("/users/alice?preview=1", &[preview]).await?;
            ensure!(
                sent(&answer, "user-type")?.as_deref() == Some("preview"),
                "{answer:?}"
            );
            let answer = client.request("POST", "/users", &[bot]).await?;
            ensure!(
                sent(&answer, "user-type")?.as_deref() == Some("standard"),
                "{answer:?}"
            );
            // The office is where this test is.
            configure(mesh, &with(example, "203.0.113.0/24", "127.9.9.0/24")?)?;
            types(mesh, &[(&[], "standard")]).await?;
            let office = Client::at(mesh, [127, 9, 9, 9].into())?;
            let answer = office.get("/users/alice", &[bot]).await?;
            ensure!(
                sent(&answer, "user-type")?.as_deref() == Some("office"),
                "{answer:?}"
            );
        }
        "explain.yaml" => {
            // The inside is where this test is.
            configure(mesh, &with(example, "10.0.0.0/8", "127.9.9.0/24")?)?;
            let of_platform = token(&json!({"groups": ["platform"], "plan": "vip"}))?;
            let of_others = token(&json!({"groups": ["dev"], "plan": "vip"}))?;
            let inside = Client::at(mesh, [127, 9, 9, 9].into())?;
            let outside = Client::of(mesh)?;
            for (client, token, told) in [
                (&inside, &of_platform, true),
                (&inside, &of_others, false),
                (&outside, &of_platform, false),
            ] {
                let bearer = format!("Bearer {token}");
                let headers = [
                    ("authorization", bearer.as_str()),
                    ("x-explain-user-type", "1"),
                ];
                let answer = client.get("/users/alice", &headers).await?;
                ensure!(
                    sent(&answer, "user-type")?.as_deref() == Some("vip"),
                    "{answer:?}"
                );
                let why = answer.header("x-explain-user-type");
                let expected = told.then_some(
                    "vip (rules[0] holds) | rules[0] vip: + claim plan is \"vip\": a text",
                );
                ensure!(why == expected, "{answer:?}");
            }
        }
        other => bail!("nothing is known of {other}, write here what it should do"),
    }
    Ok(())
}

/// The key is in the environment: first in the gateway's, then in the manifest.
async fn experiment(mesh: &LocalMesh, example: &str) -> Result<()> {
    const SALT: &str = "checkout-2026";
    const RULE: (&str, &str, &str) = ("new-checkout", SALT, "cookie visitor");
    let late = named("visitor", |v| {
        is_in(10, 100, SALT, v) && !is_in(1, 100, SALT, v)
    })?;
    let never = named("visitor", |v| !is_in(10, 100, SALT, v))?;
    let visit = async |cookies: String| {
        let headers = [
            ("cookie", cookies.as_str()),
            ("x-experiment", "mine"),
            ("X_Experiment", "mine"),
        ];
        let answer = ask(mesh, &headers).await?;
        let is_in = sent(&answer, "user-type")?.as_deref() == Some("new-checkout");
        let experiment = sent(&answer, "x-experiment")?;
        ensure!(experiment.as_deref() == is_in.then_some(SALT), "{answer:?}");
        ensure!(
            answer.header("x-served") == is_in.then_some("new-checkout"),
            "{answer:?}"
        );
        let cookie = answer.header("set-cookie").map(str::to_owned);
        anyhow::Ok((is_in, cookie))
    };
    ensure!(visit(format!("visitor={never}")).await? == (false, None));
    let (is_in, given) = visit(format!("visitor={late}")).await?;
    let given = given
        .filter(|_| is_in)
        .context("who is in the share is given no cookie")?;
    let (kept, attributes) = given.split_once("; ").context("attributes")?;
    ensure!(
        attributes.starts_with("Max-Age=2592000; Path=/; HttpOnly; SameSite=Lax"),
        "{given}"
    );
    let end = kept
        .split('.')
        .nth(1)
        .and_then(|end| end.parse().ok())
        .context("an end")?;
    let ours = |secret: &str| {
        format!(
            "kept-checkout={}",
            cookie(("2026-11", secret), "kept-checkout", RULE, &late, end)
        )
    };
    ensure!(
        kept == ours(SECRET),
        "not signed with the secret of the environment: {kept}"
    );

    configure(mesh, &with(example, "share: 10,", "share: 1,")?)?;
    ensure!(
        visit(format!("visitor={late}; {kept}")).await? == (true, None),
        "who was in dropped out"
    );
    ensure!(visit(format!("visitor={late}")).await? == (false, None));
    ensure!(
        visit(format!("visitor={never}; {kept}")).await? == (false, None),
        "another's cookie"
    );
    let forged = ours("another-secret-of-another-shop-0123456789");
    ensure!(
        visit(format!("visitor={late}; {forged}")).await? == (false, None),
        "a forged cookie"
    );

    // A module with another environment is another machine: who has a cookie of the old key has none.
    let other = "in-the-manifest-0123456789-0123456789";
    let (file, _) = Filter::UserClassifier.place(mesh.manifests().form());
    mesh.manifests()
        .replace(file, "valueFrom: HOST}", &format!("value: {other}}}"))?;
    // Before envoyproxy/envoy#44563 Envoy does not see that the environment is another one.
    if mesh.envoy_version().starts_with("1.37.") {
        let finding = refused(mesh)?;
        let what = format!(
            "the environment of the module of {} changed, and Envoy {} keeps the one that it was started with; restart `tollgate up` for it",
            match mesh.manifests().form() {
                Form::ThreeModules => "user-classifier",
                Form::Bundle => "tollgate",
            },
            mesh.envoy_version()
        );
        ensure!(
            finding.field == "spec.vmConfig.env" && finding.reason == what,
            "{finding:?}"
        );
        mesh.manifests()
            .replace(file, &format!("value: {other}}}"), "valueFrom: HOST}")?;
        applied(mesh)?;
        ensure!(
            visit(format!("visitor={late}; {kept}")).await? == (true, None),
            "a refused edit changed the secret"
        );
        return Ok(());
    }
    applied(mesh)?;
    ensure!(
        visit(format!("visitor={late}; {kept}")).await? == (false, None),
        "the old secret is still known"
    );
    ensure!(
        visit(format!("visitor={late}; {}", ours(other))).await? == (true, None),
        "the new secret is not known"
    );
    Ok(())
}

/// What the gateway writes no more, nobody behind it may believe of it: the sidecar must go with the gateway.
async fn another_header(mesh: &LocalMesh, example: &str) -> Result<()> {
    let manifests = mesh.manifests();
    let form = manifests.form();
    types(mesh, &[(&[("user-type", "vip")], "standard")]).await?;
    let believes = |configuration: &str| manifests.write(SIDECAR, &at_sidecar(form, configuration));
    let is_refused = || {
        let finding = refused(mesh)?;
        let what = "where nothing takes user-type away from clients";
        ensure!(
            finding.field.ends_with("trust.peers[0]") && finding.reason.contains(what),
            "{finding:?}"
        );
        anyhow::Ok(())
    };
    let example = beside_the_limiter(form, example);
    manifests.configure(form, Filter::UserClassifier, &example)?;
    is_refused()?;
    // What ran before keeps serving.
    types(mesh, &[(&[("user-type", "vip")], "standard")]).await?;
    believes(&format!("header: x-client-class\n{TRUST}"))?;
    applied(mesh)?;
    for (headers, expected) in [
        (
            &[("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1)")][..],
            "bot",
        ),
        (&[("user-agent", "ACME-Spider")], "bot"),
        (
            &[("user-agent", "ShopApp/2.0"), ("x-app-version", "2")],
            "app",
        ),
        (&[("user-agent", "ShopApp/2.0")], "person"),
        (
            &[("user-agent", "Mozilla/5.0"), ("X-Client_Class", "bot")],
            "person",
        ),
    ] {
        let class = class(mesh, "x-client-class", headers).await?;
        ensure!(class.as_deref() == Some(expected), "{headers:?}: {class:?}");
    }
    // The next example writes what it says then.
    believes(TRUST)?;
    is_refused()
}

async fn gradual_rollout(mesh: &LocalMesh, example: &str) -> Result<()> {
    const SALT: &str = "checkout-2026";
    let lucky = |name: &str| is_in(10, 100, SALT, name);
    let (user, other) = (named("user", lucky)?, named("user", |name| !lucky(name))?);
    let (mine, yours) = (format!("visitor={user}"), format!("visitor={other}"));
    let bearer = |sub: &str| anyhow::Ok(format!("Bearer {}", token(&json!({"sub": sub}))?));
    let (in_share, out) = (bearer(&user)?, bearer(&other)?);
    let window = |from: i64, until: i64| {
        let (from, until) = (moment(from)?, moment(until)?);
        with(
            example,
            "{from: \"2026-11-02T08:00:00Z\", until: \"2026-12-01T00:00:00Z\", days: [mon, tue, wed, thu, fri], hours: \"08:00-18:00\"}",
            &format!("{{from: \"{from}\", until: \"{until}\"}}"),
        )
    };
    configure(mesh, &window(-3_600, 36_000)?)?;
    types(
        mesh,
        &[
            (&[("authorization", &in_share)], "beta"),
            (&[("authorization", &out)], "standard"),
            (&[("cookie", &mine)], "beta"),
            (&[("cookie", &yours)], "standard"),
            (&[], "standard"),
        ],
    )
    .await?;
    let client = Client::of(mesh)?;
    let answer = client
        .get("/admin", &[("authorization", &in_share)])
        .await?;
    ensure!(
        sent(&answer, "user-type")?.as_deref() == Some("standard"),
        "{answer:?}"
    );
    for (from, until) in [(-7_200, -3_600), (36_000, 72_000)] {
        configure(mesh, &window(from, until)?)?;
        types(mesh, &[(&[("authorization", &in_share)], "standard")]).await?;
    }
    Ok(())
}

async fn at_the_sidecar(mesh: &LocalMesh, example: &str) -> Result<()> {
    let manifests = mesh.manifests();
    manifests.write(SIDECAR, &at_sidecar(manifests.form(), example))?;
    applied(mesh)?;
    let said = [
        ("user-type", "vip"),
        ("x-tenant-id", "acme"),
        ("x-tenant-tier", "premium"),
        ("User_Type", "bot"),
    ];
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    for (workload, expected) in [
        (
            "order-service",
            [Some("vip"), Some("acme"), Some("premium")],
        ),
        ("nightly", [Some("internal"), None, None]),
    ] {
        let client = Client::in_pod(mesh, workload, "user-service.ecommerce:3004")?;
        let answer = loop {
            let answer = client.get("/users/alice", &said).await?;
            if answer.status == 200 || std::time::Instant::now() > deadline {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        for (name, expected) in ["user-type", "x-tenant-id", "x-tenant-tier"]
            .iter()
            .zip(expected)
        {
            let sent = sent(&answer, name)?;
            ensure!(
                sent.as_deref() == expected,
                "{name} of {workload}: {sent:?}, {answer:?}"
            );
        }
    }
    // What the gateway says is kept, too.
    let bearer = format!("Bearer {}", token(&json!({"tenant": "umbrella"}))?);
    let answer = ask(mesh, &[("authorization", &bearer)]).await?;
    ensure!(
        sent(&answer, "x-tenant-id")?.as_deref() == Some("umbrella"),
        "{answer:?}"
    );
    ensure!(sent(&answer, "user-type")?.is_some(), "{answer:?}");
    Ok(())
}
