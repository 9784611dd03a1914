//! `tollgate up --prometheus`: what was done to the shop is read from a real Prometheus, to the last request.
//!
//! `TOLLGATE_TEST_PROMETHEUS` names the program, else it is the `prometheus` on `PATH`; without either, what needs one is
//! reported as ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tollgate_tests::{LocalMesh, Manifests, Options, Signal, Target, send};

use crate::client::Client;
use crate::metrics::command;
use crate::shared::block_on;

/// A test that needs none.
type Test = fn() -> Result<()>;

/// A test on this Prometheus.
type OnPrometheus = fn(&Path) -> Result<()>;

/// These start meshes of their own, with a Prometheus.
pub(crate) const TESTS: &[(&str, OnPrometheus)] = &[
    (
        "orders_and_refusals_are_read_to_the_last_one_with_the_labels_of_a_cluster",
        orders_and_refusals_are_read,
    ),
    (
        "it_is_told_when_it_is_killed_and_ends_with_the_mesh",
        it_is_told_when_it_is_killed,
    ),
];

/// These start `up`, and no Prometheus.
pub(crate) const WITHOUT_ONE: &[(&str, Test)] = &[(
    "one_that_ends_at_once_is_told_with_its_last_words",
    one_that_ends_at_once_is_told,
)];

const VARIABLE: &str = "TOLLGATE_TEST_PROMETHEUS";

/// Why tests are left out.
pub(crate) const WITHOUT: &str =
    "without a `prometheus` on PATH (Debian: `apt install prometheus`)";

/// Scraped every second; a machine of CI may do other things meanwhile.
const SCRAPED: Duration = Duration::from_secs(60);

/// The Prometheus to test with. One that the variable names must be there.
pub(crate) fn program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os(VARIABLE).filter(|program| !program.is_empty()) {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("prometheus"));
    programs.find(|program| {
        std::fs::metadata(program)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

fn start(program: &Path, manifests: Manifests, run: Vec<String>) -> Result<LocalMesh> {
    let options = Options {
        prometheus: Some(program.to_owned()),
        run,
        ..Options::default()
    };
    LocalMesh::start(manifests, options)
}

/// The shop as it ships, and a pod of order-service more, to which requests go that ask for it: whose answers are what they say (`src/bin/faulty.rs`).
fn with_broken_answers(program: &Path) -> Result<LocalMesh> {
    let manifests = Manifests::shipped()?;
    let services = "services/kubernetes/order-service.yaml";
    let shipped = manifests.read(services)?;
    let premium = shipped.split("---\n").last().context("no Deployment")?;
    let broken = premium
        .replace("order-service-premium", "order-service-broken")
        .replace("pool: premium", "pool: broken")
        .replace("/order-service:v1", "/broken-order-service:v1")
        // The other way to say the same, and one stat more than Istio's.
        .replace(
            "sidecar.istio.io/extraStatTags: tenant,user_type,route,status,reason",
            "proxy.istio.io/config: |\n          extraStatTags: [tenant, user_type, route, status, reason]\n          \
             proxyStatsMatcher: {inclusionRegexps: ['http\\.inbound.*\\.downstream_rq_completed']}",
        );
    manifests.write(services, &format!("{shipped}---\n{broken}"))?;
    let routes = "istio/routing/order-service.yaml";
    manifests.replace(
        routes,
        "  # Premium tenants.\n",
        "  - match: [{uri: {prefix: /orders}, queryParams: {body: {regex: .*}}}]\n    \
             route: [{destination: {host: order-service, subset: broken, port: {number: 3003}}}]\n",
    )?;
    let subset = "  - name: premium\n    labels:\n      pool: premium\n";
    let another = subset.replace("premium", "broken");
    manifests.replace(routes, subset, &format!("{subset}{another}"))?;
    let faulty = env!("CARGO_BIN_EXE_faulty");
    start(
        program,
        manifests,
        vec![format!("broken-order-service={faulty}")],
    )
}

/// An order that was placed.
#[derive(Debug)]
struct Placed {
    tenant: &'static str,
    class: &'static str,
    /// In cents; or why the proxy can know nothing of it.
    worth: Result<u64, &'static str>,
}

/// What customers have done, as they saw it.
#[derive(Debug, Default)]
struct Done {
    placed: Vec<Placed>,
    /// Of initech, by its limit.
    refused: u64,
    /// How many of these were orders.
    refused_orders: u64,
}

fn orders_and_refusals_are_read(program: &Path) -> Result<()> {
    let mesh = with_broken_answers(program)?;
    let url = mesh.prometheus()?.to_owned();
    block_on(async {
        let prometheus = Prometheus::at(&url)?;
        finds_every_pod(&mesh, &prometheus).await?;
        let done = shop(&mesh).await?;
        counted(&prometheus, &done).await?;
        // The same numbers, without a Prometheus.
        let said = command(
            &mesh,
            &["shop_revenue_cents_total", "--label", "tenant=acme"],
        )?;
        ensure!(
            said.code == Some(0)
                && said.output
                    == "shop_revenue_cents_total (counter): Value of placed orders, in cents.\n  \
                        workload       tenant  user_type  value\n  \
                        order-service  acme    premium    25800\n  \
                        order-service  acme    vip        13770\n  \
                        total                             39570\n",
            "{said:?}"
        );
        only_what_a_cluster_exports(&mesh, &prometheus).await
    })?;
    mesh.stop()?;
    let address = url.trim_start_matches("http://");
    ensure!(
        TcpStream::connect(address).is_err(),
        "Prometheus still listens on {address}"
    );
    Ok(())
}

/// Every Envoy is a target that answers, with the labels that its pod has on a cluster.
async fn finds_every_pod(mesh: &LocalMesh, prometheus: &Prometheus) -> Result<()> {
    let pods = mesh.workloads().iter().map(|pod| (pod.pod.clone(), 1));
    prometheus
        .settles("sum by (pod) (up)", pods.collect())
        .await?;
    let found = prometheus.query(r#"up{pod="order-service-0"}"#).await?;
    let labels = found.first().context("there is no such pod")?.0.clone();
    let labels: Vec<(&str, &str)> = labels
        .iter()
        .filter(|(name, _)| name.as_str() != "instance")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("__name__", "up"),
        ("app", "order-service"),
        ("job", "kubernetes-pods"),
        ("namespace", "ecommerce"),
        ("pod", "order-service-0"),
        ("pool", "shared"),
        ("security_istio_io_tlsMode", "istio"),
        ("service_istio_io_canonical_name", "order-service"),
        ("service_istio_io_canonical_revision", "v1"),
        ("version", "v1"),
    ];
    ensure!(labels == expected, "a pod has the labels {labels:?}");
    Ok(())
}

/// Answers to an order, as parameters of the request for it, and why they tell nothing of its worth.
const BROKEN: [(&str, &str); 11] = [
    (
        r#"type=application/json&body={"totalCents":4590"#,
        "truncated",
    ),
    (
        r#"type=application/json&body={"totalCents":4590&cut=yes"#,
        "truncated",
    ),
    ("type=application/json&body=totalCents:4590", "not_json"),
    (r#"type=application/json&body={"total":4590}"#, "missing"),
    (
        r#"type=application/json&body={"totalCents":"much"}"#,
        "malformed",
    ),
    (
        r#"type=application/json&body={"totalCents":-4590}"#,
        "negative",
    ),
    (
        r#"type=application/json&body={"totalCents":45.9}"#,
        "fraction",
    ),
    (
        r#"type=application/json&body={"totalCents":10000001}"#,
        "too_large",
    ),
    (
        r#"type=application/json&body={"totalCents":4590}&blanks=65536"#,
        "oversized",
    ),
    (
        r#"type=text/plain&body={"totalCents":4590}"#,
        "content_type",
    ),
    (
        r#"type=application/json&encoding=gzip&body={"totalCents":4590}"#,
        "compressed",
    ),
];

/// Customers of five tenants and three classes place orders, to some of which the answers are broken; one is no order, and one tenant wants too much.
async fn shop(mesh: &LocalMesh) -> Result<Done> {
    let mut done = Done::default();
    let client = Client::of(mesh)?;
    for (user, product, quantity) in [("carol", "grinder", 1), ("dave", "press", 3)] {
        let client = client.clone().bearing(mesh.bearer(user, "acme")?);
        let item = json!({"productId": product, "quantity": quantity});
        let answer = client.post(&format!("/cart/{user}"), &[], &item).await?;
        ensure!([200, 201].contains(&answer.status), "{answer:?}");
    }
    // alice has beans and two mugs.
    for (user, tenant, counted_as, class, cents, orders) in [
        ("alice", "acme", "acme", "vip", 2_190 + 2 * 1_200, 3),
        ("carol", "acme", "acme", "premium", 12_900, 2),
        ("alice", "globex", "globex", "vip", 2_190 + 2 * 1_200, 1),
        ("carol", "globex", "globex", "standard", 12_900, 4),
        ("dave", "initech", "initech", "standard", DAVES, 2),
        ("dave", "nobody-listed", "other", "standard", DAVES, 1),
    ] {
        let client = client.clone().bearing(mesh.bearer(user, tenant)?);
        for _ in 0..orders {
            let order = client
                .post("/orders", &[], &json!({"userId": user}))
                .await?;
            ensure!(
                order.status == 201 && order.json()?["totalCents"] == cents,
                "{user} of {tenant}: {order:?}"
            );
            done.placed.push(Placed {
                tenant: counted_as,
                class,
                worth: Ok(cents),
            });
        }
    }
    let address = mesh.gateway_address()?;
    for (user, tenant, class) in [("alice", "acme", "vip"), ("carol", "globex", "standard")] {
        let bearer = mesh.bearer(user, tenant)?;
        for (answer, reason) in BROKEN {
            let answer = answer
                .replace('"', "%22")
                .replace('{', "%7B")
                .replace('}', "%7D");
            let order = format!(
                "POST /orders?status=201&{answer} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\nauthorization: {bearer}\r\ncontent-length: 0\r\n\r\n"
            );
            let reply = send(address, order.as_bytes()).await?;
            ensure!(reply.status == 201, "{answer}: {reply:?}");
            done.placed.push(Placed {
                tenant,
                class,
                worth: Err(reason),
            });
        }
    }
    let carol = client.clone().bearing(mesh.bearer("carol", "globex")?);
    let nothing = carol.post("/orders", &[], &json!({"userId": 7})).await?;
    ensure!(nothing.status == 422, "{nothing:?}");
    let dave = client.bearing(mesh.bearer("dave", "initech")?);
    for n in 0..60 {
        let orders = n % 3 == 0;
        let answer = match orders {
            true => {
                dave.post("/orders", &[], &json!({"userId": "dave"}))
                    .await?
            }
            false => dave.get("/products", &[]).await?,
        };
        if answer.status == 429 {
            done.refused += 1;
            done.refused_orders += u64::from(orders);
        } else if orders {
            ensure!(answer.status == 201, "{answer:?}");
            done.placed.push(Placed {
                tenant: "initech",
                class: "standard",
                worth: Ok(DAVES),
            });
        }
    }
    ensure!(done.refused_orders > 0, "no order was refused");
    Ok(done)
}

/// What dave's three presses cost.
const DAVES: u64 = 3 * 3_490;

/// What Prometheus has of it, once it has all.
async fn counted(prometheus: &Prometheus, done: &Done) -> Result<()> {
    let total = |of: &dyn Fn(&Placed) -> (String, u64)| {
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        for order in &done.placed {
            let (by, value) = of(order);
            *totals.entry(by).or_default() += value;
        }
        totals
    };
    // At the gateway, and where they are taken.
    for orders in [
        r#"shop_orders_total{status="201"}"#,
        "shop_placed_orders_total",
    ] {
        prometheus
            .settles(
                &format!("sum by (tenant, user_type) ({orders})"),
                total(&|order| (format!("{}, {}", order.tenant, order.class), 1)),
            )
            .await?;
    }
    prometheus
        .settles(
            r#"sum by (tenant, status) (shop_orders_total{status!="201"})"#,
            [
                ("422, globex".to_owned(), 1),
                ("429, initech".to_owned(), done.refused_orders),
            ]
            .into(),
        )
        .await?;
    prometheus
        .settles(
            "sum by (tenant, limit) (shop_refused_total)",
            [("rate, initech".to_owned(), done.refused)].into(),
        )
        .await?;
    prometheus
        .settles(
            r#"sum by (tenant) (shop_requests_total{status="429"})"#,
            [("initech".to_owned(), done.refused)].into(),
        )
        .await?;
    // At the services: what the gateway let through, by the pods that answered it. Premium tenants have pods of their own.
    prometheus
        .settles(
            r#"sum by (tenant, pod) (shop_service_requests_total{app="order-service", route="/orders", status="201"})"#,
            total(&|order| {
                let pod = match (order.worth, order.tenant) {
                    (Err(_), _) => "order-service-broken-0",
                    (_, "acme") => "order-service-premium-0",
                    _ => "order-service-0",
                };
                (format!("{pod}, {}", order.tenant), 1)
            }),
        )
        .await?;
    // To the cent, out of the answers. Of a class whose every answer is broken there would be no series.
    prometheus
        .settles(
            "sum by (tenant, user_type) (shop_revenue_cents_total)",
            total(&|order| {
                let by = format!("{}, {}", order.tenant, order.class);
                (by, order.worth.unwrap_or(0))
            }),
        )
        .await?;
    // And what has none is told.
    let mut skipped = BTreeMap::new();
    for reason in done.placed.iter().filter_map(|order| order.worth.err()) {
        *skipped.entry(reason.to_owned()).or_default() += 1;
    }
    prometheus
        .settles("sum by (reason) (tollgate_skipped_total) > 0", skipped)
        .await
}

/// Names of the Envoys' own metrics are those that Istio includes, and no others.
async fn only_what_a_cluster_exports(mesh: &LocalMesh, prometheus: &Prometheus) -> Result<()> {
    let stored = prometheus
        .query(r#"group by (__name__) ({job="kubernetes-pods"})"#)
        .await?;
    let names: BTreeSet<&str> = stored
        .iter()
        .filter_map(|(labels, _)| labels.get("__name__").map(String::as_str))
        .collect();
    const EXPORTED: [&str; 10] = [
        "envoy_cluster_manager_",
        "envoy_http_rbac",
        "envoy_listener_manager_",
        "envoy_server_",
        "envoy_wasm_",
        "shop_",
        "tollgate_",
        // For which one workload asks.
        "envoy_http_downstream_rq_completed",
        // Of Prometheus itself.
        "scrape_",
        "up",
    ];
    let strange: Vec<&&str> = names
        .iter()
        .filter(|name| !EXPORTED.iter().any(|begin| name.starts_with(begin)))
        .collect();
    ensure!(strange.is_empty(), "no cluster exports {strange:?}");
    prometheus
        .settles(
            "group by (pod) (envoy_http_downstream_rq_completed)",
            [("order-service-broken-0".to_owned(), 1)].into(),
        )
        .await?;
    for name in [
        "envoy_server_live",
        "envoy_http_rbac",
        "shop_requests_total",
    ] {
        ensure!(names.contains(name), "a cluster exports {name}: {names:?}");
    }
    // Which are there to be left out.
    let all = mesh.metrics("ingressgateway").await?;
    let name = "envoy_http_downstream_rq_total";
    ensure!(
        !all.names_with(name).is_empty(),
        "the gateway has no {name}"
    );
    Ok(())
}

fn it_is_told_when_it_is_killed(program: &Path) -> Result<()> {
    let shipped = || start(program, Manifests::shipped()?, Vec::new());
    let mut mesh = shipped()?;
    let first = mesh.process("prometheus", "server.log")?;
    first.kill()?;
    let event = mesh.await_event("exited", Duration::from_secs(30))?;
    ensure!(
        event["pod"] == "prometheus"
            && event["process"] == "server"
            && event["signal"] == Signal::KILL.as_raw()
            && event["lastLines"]
                .as_array()
                .is_some_and(|lines| !lines.is_empty()),
        "Prometheus was killed, and this is told: {event:#}"
    );
    let client = Client::of(&mesh)?;
    let answer = block_on(client.get("/products", &[]))?;
    ensure!(answer.status == 200, "the mesh does not go on: {answer:?}");
    mesh.stop_after_exits()?;
    mesh.nothing_left()?;

    // One that lives, when `up` has no chance to end it.
    let mut mesh = shipped()?;
    mesh.process("prometheus", "server.log")?;
    mesh.end_by(Signal::KILL)?;
    mesh.nothing_left()
}

fn one_that_ends_at_once_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("prometheus");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'prometheus, version 9.9.9' && exit\necho 'the disk is full' >&2\nexit 3\n";
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let Err(error) = start(&program, Manifests::shipped()?, Vec::new()) else {
        anyhow::bail!("a mesh without its Prometheus says that it is ready");
    };
    let error = format!("{error:#}");
    for told in [
        "the disk is full",
        "prometheus: server ended with code 3 before everything served",
    ] {
        ensure!(error.contains(told), "{told:?} is not told: {error}");
    }
    Ok(())
}

/// The labels of a series, and its value.
type Sample = (BTreeMap<String, String>, f64);

/// Asks a Prometheus.
struct Prometheus {
    http: reqwest::Client,
    url: String,
}

impl Prometheus {
    fn at(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            http,
            url: format!("{url}/api/v1/query"),
        })
    }

    /// What a query finds now.
    async fn query(&self, query: &str) -> Result<Vec<Sample>> {
        let url = reqwest::Url::parse_with_params(&self.url, [("query", query)])?;
        let answer = self.http.get(url).send().await.context("Prometheus")?;
        let answer: Value = answer.json().await?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        let results = answer["data"]["result"].as_array();
        let samples = results.context("it is no vector")?.iter().map(|sample| {
            let labels = serde_json::from_value(sample["metric"].clone())?;
            let value = sample["value"][1]
                .as_str()
                .context("a sample has no value")?;
            Ok((labels, value.parse()?))
        });
        samples.collect()
    }

    /// Waits until a query finds exactly these values, by the values of its labels in the order of the labels' names. Counters
    /// only grow, so one that is too large is wrong for good.
    async fn settles(&self, query: &str, expected: BTreeMap<String, u64>) -> Result<()> {
        let deadline = Instant::now() + SCRAPED;
        loop {
            let found = self.query(query).await?;
            let found: BTreeMap<String, f64> = found
                .into_iter()
                .map(|(labels, value)| (Vec::from_iter(labels.into_values()).join(", "), value))
                .collect();
            let wanted = |by: &String| expected.get(by).map_or(0.0, |value| *value as f64);
            if found.len() == expected.len() && found.iter().all(|(by, value)| *value == wanted(by))
            {
                return Ok(());
            }
            let excess = found.iter().any(|(by, value)| *value > wanted(by));
            ensure!(
                !excess && Instant::now() < deadline,
                "{query} finds {found:?}, expected {expected:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
