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
use tollgate_tests::{LocalMesh, Manifests, Options, Signal, Target};

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

fn start(program: &Path) -> Result<LocalMesh> {
    let options = Options {
        prometheus: Some(program.to_owned()),
        ..Options::default()
    };
    let manifests = Manifests::shipped()?;
    let before = "    - name: shop_orders_total\n";
    let file = "wasm-plugins/business-metrics/plugin.yaml";
    manifests.replace(file, before, &format!("{REVENUE}{before}"))?;
    LocalMesh::start(manifests, options)
}

/// An order that was placed.
#[derive(Debug)]
struct Placed {
    tenant: &'static str,
    class: &'static str,
    /// What it is worth, if the gateway was told a number that it can count.
    cents: Option<u64>,
}

/// What orders are worth, where the one who places them says it; beside it, what the shop ships counts.
const REVENUE: &str = "    - name: shop_revenue_total
      help: Value of placed orders.
      when: {method: POST, route: /orders, status: 201}
      value: {header: x-order-total, scale: 100}
      labels: [tenant, user_type]
";

/// What customers have done, as they saw it.
#[derive(Debug, Default)]
struct Done {
    placed: Vec<Placed>,
    /// Of initech, by its limit.
    refused: u64,
}

fn orders_and_refusals_are_read(program: &Path) -> Result<()> {
    let mesh = start(program)?;
    let url = mesh.prometheus()?.to_owned();
    block_on(async {
        let prometheus = Prometheus::at(&url)?;
        finds_every_pod(&mesh, &prometheus).await?;
        let done = shop(&mesh).await?;
        counted(&prometheus, &done).await?;
        // The same numbers, where Prometheus has them times 100.
        let said = command(&mesh, &["shop_revenue_total", "--label", "tenant=acme"])?;
        ensure!(
            said.code == Some(0)
                && said.output
                    == "shop_revenue_total (counter, exported times 100): Value of placed orders.\n  \
                        workload        tenant  user_type   value\n  \
                        ingressgateway  acme    premium    258.00\n  \
                        ingressgateway  acme    vip        137.70\n  \
                        total                              395.70\n",
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

/// Customers of five tenants and three classes place orders, one is no order, and one tenant wants too much.
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
        ("dave", "initech", "initech", "standard", 3 * 3_490, 2),
        ("dave", "nobody-listed", "other", "standard", 3 * 3_490, 1),
    ] {
        let client = client.clone().bearing(mesh.bearer(user, tenant)?);
        for _ in 0..orders {
            let total = format!("{}.{:02}", cents / 100, cents % 100);
            let total = [("x-order-total", total.as_str())];
            let order = client
                .post("/orders", &total, &json!({"userId": user}))
                .await?;
            ensure!(
                order.status == 201 && order.json()?["totalCents"] == cents,
                "{user} of {tenant}: {order:?}"
            );
            done.placed.push(Placed {
                tenant: counted_as,
                class,
                cents: Some(cents),
            });
        }
    }
    let carol = client.clone().bearing(mesh.bearer("carol", "globex")?);
    // No fraction of a cent is worth anything.
    let fraction = [("x-order-total", "129.005")];
    let order = carol
        .post("/orders", &fraction, &json!({"userId": "carol"}))
        .await?;
    ensure!(order.status == 201, "{order:?}");
    done.placed.push(Placed {
        tenant: "globex",
        class: "standard",
        cents: None,
    });
    let nothing = carol.post("/orders", &[], &json!({"userId": 7})).await?;
    ensure!(nothing.status == 422, "{nothing:?}");
    let dave = client.bearing(mesh.bearer("dave", "initech")?);
    for _ in 0..60 {
        let answer = dave.get("/products", &[]).await?;
        done.refused += u64::from(answer.status == 429);
    }
    ensure!(done.refused > 0, "nothing was refused");
    Ok(done)
}

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
    prometheus
        .settles(
            r#"sum by (tenant, user_type) (shop_orders_total{status="201"})"#,
            total(&|order| (format!("{}, {}", order.tenant, order.class), 1)),
        )
        .await?;
    prometheus
        .settles(
            r#"sum by (tenant, status) (shop_orders_total{status!="201"})"#,
            [("422, globex".to_owned(), 1)].into(),
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
                let pod = match order.tenant {
                    "acme" => "order-service-premium-0",
                    _ => "order-service-0",
                };
                (format!("{pod}, {}", order.tenant), 1)
            }),
        )
        .await?;
    // To the cent, and what is none is told.
    prometheus
        .settles(
            "sum by (tenant, user_type) (shop_revenue_total)",
            total(&|order| {
                let by = format!("{}, {}", order.tenant, order.class);
                (by, order.cents.unwrap_or(0))
            }),
        )
        .await?;
    let skipped = done.placed.iter().filter(|order| order.cents.is_none());
    prometheus
        .settles(
            "sum by (reason) (tollgate_skipped_total) > 0",
            [("fraction".to_owned(), skipped.count() as u64)].into(),
        )
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
    const EXPORTED: [&str; 9] = [
        "envoy_cluster_manager_",
        "envoy_http_rbac",
        "envoy_listener_manager_",
        "envoy_server_",
        "envoy_wasm_",
        "shop_",
        "tollgate_",
        // Of Prometheus itself.
        "scrape_",
        "up",
    ];
    let strange: Vec<&&str> = names
        .iter()
        .filter(|name| !EXPORTED.iter().any(|begin| name.starts_with(begin)))
        .collect();
    ensure!(strange.is_empty(), "no cluster exports {strange:?}");
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
    let mut mesh = start(program)?;
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
    let mut mesh = start(program)?;
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
    let Err(error) = start(&program) else {
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
