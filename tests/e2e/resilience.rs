//! What the mesh makes of pods that fail, of too much load, and of faults on purpose.
//!
//! It is the shop's manifests that are tested: its retries, outliers and the overlays for circuit breakers and faults, with
//! shorter times. Of its programs three are replaced by one that fails when it is asked to (`src/bin/faulty.rs`). What one
//! test does to the pods of a service no other test minds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{interval, sleep};
use tollgate_tests::{LocalMesh, Manifests, Options, Target};

use crate::client::{Client, Reply};
use crate::load::TENANT as PATIENT;
use crate::routing::within_binomial_bounds;

/// Somebody of a tenant that has no limits, so that none gets in the way.
fn client(mesh: &LocalMesh) -> Result<Client> {
    Ok(Client::of(mesh)?.bearing(mesh.bearer("erin", PATIENT)?))
}

/// A VIP of the same tenant: always to version 2, of which there is one pod.
fn vip(mesh: &LocalMesh) -> Result<Client> {
    Ok(Client::of(mesh)?.bearing(mesh.bearer("alice", PATIENT)?))
}

/// Generous: only something that is broken takes as long.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// A route without retries to the user service, which the gateway may take.
const UNRETRIED: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: unretried, namespace: ecommerce}
spec:
  hosts: ['*']
  gateways: [ecommerce-gateway]
  http:
  - match:
    - uri: {prefix: /unretried}
    route:
    - destination: {host: user-service, port: {number: 3004}}
    retries: {attempts: 0}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: unretried, namespace: ecommerce}
spec:
  selector: {matchLabels: {app: user-service}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/istio-system/sa/ingressgateway]}}]
    to: [{operation: {methods: [GET], paths: [/unretried]}}]
";

fn without_limits(manifests: &Manifests) -> Result<()> {
    let limiter = "wasm-plugins/tenant-rate-limit/plugin.yaml";
    for (field, entry) in [
        (
            "tiers",
            "unlimited: {limits: [{name: rate, requests: 100000, per: 1s, burst: 100000}]}",
        ),
        ("tenants", &format!("{PATIENT}: {{tier: unlimited}}")),
    ] {
        let field = format!("\n    {field}:\n");
        manifests.replace(limiter, &field, &format!("{field}      {entry}\n"))?;
    }
    Ok(())
}

/// The shop with the circuit breaker and with services that fail on request: two pods of users and carts each, one of either
/// version of the products, where nothing is given up for taking long.
pub(crate) fn faulty() -> Result<LocalMesh> {
    let manifests = Manifests::overlay("istio/overlays/circuit-breaker")?;
    without_limits(&manifests)?;
    manifests.write("istio/routing/unretried.yaml", UNRETRIED)?;
    manifests.replace(
        "istio/routing/kustomization.yaml",
        "resources:\n",
        "resources:\n- unretried.yaml\n",
    )?;
    for service in ["product", "order"] {
        let file = format!("services/kubernetes/{service}-service.yaml");
        manifests.replace_all(&file, "replicas: 2", "replicas: 1")?;
    }
    let carts = "istio/routing/cart-service.yaml";
    manifests.replace(carts, "interval: 30s", "interval: 0.2s")?;
    manifests.replace(carts, "baseEjectionTime: 30s", "baseEjectionTime: 3s")?;
    let products = "istio/routing/product-service.yaml";
    manifests.replace_all(products, "perTryTimeout: 2s", "perTryTimeout: 60s")?;
    manifests.replace_all(products, " timeout: 5s", " timeout: 60s")?;
    let program = env!("CARGO_BIN_EXE_faulty");
    let run = ["user", "cart", "product"].map(|service| format!("{service}-service={program}"));
    let options = Options {
        // With more of them, each may open a connection beyond the limit of all.
        workers: 1,
        replicas: None,
        run: run.into(),
        ..Options::default()
    };
    LocalMesh::start(manifests, options)
}

/// Which try it was that was answered.
fn attempt(answer: &Reply) -> Result<u64> {
    let attempt = answer.json()?["attempt"].as_u64();
    attempt.with_context(|| format!("no attempt in {answer:?}"))
}

pub(crate) async fn retries_hide_failures_and_stop_at_their_limit(mesh: &LocalMesh) -> Result<()> {
    let client = client(mesh)?;
    for succeeds_at in 1..=4 {
        let path = format!("/users/alice?until={succeeds_at}");
        let answer = client.get(&path, &[]).await?;
        ensure!(
            answer.status == 200 && attempt(&answer)? == succeeds_at,
            "try {succeeds_at} succeeds: {answer:?}"
        );
    }
    let answer = client.get("/users/alice?until=5", &[]).await?;
    ensure!(
        answer.status == 503 && attempt(&answer)? == 4,
        "three retries and no more: {answer:?}"
    );
    let answer = client.post("/users?until=2", &[], &json!({})).await?;
    ensure!(
        answer.status == 503 && attempt(&answer)? == 1,
        "a POST that has reached the service is not repeated: {answer:?}"
    );
    let answer = client.get("/unretried?until=2", &[]).await?;
    ensure!(
        answer.status == 503 && attempt(&answer)? == 1,
        "`attempts: 0` is no retry: {answer:?}"
    );
    Ok(())
}

pub(crate) async fn a_try_is_given_up_after_two_seconds_and_all_of_them_after_five(
    mesh: &LocalMesh,
) -> Result<()> {
    // How long a try takes that is not given up.
    const SLOW: Duration = Duration::from_secs(120);
    let client = client(mesh)?;
    let timed = async |path: &str| {
        let begin = Instant::now();
        let path = format!("/users/alice?{path}&slow={}", SLOW.as_millis());
        let answer = client.get(&path, &[]).await?;
        anyhow::Ok((answer, begin.elapsed()))
    };
    let (once, all) = tokio::try_join!(timed("until=2"), timed("until=9"))?;
    let (answer, took) = once;
    ensure!(answer.status == 200 && attempt(&answer)? == 2, "{answer:?}");
    ensure!(
        (Duration::from_secs(2)..SLOW).contains(&took),
        "the first try was given up after {took:?}"
    );
    let (answer, took) = all;
    ensure!(answer.status == 504, "{answer:?}");
    ensure!(
        (Duration::from_secs(5)..SLOW).contains(&took),
        "all tries together were given up after {took:?}"
    );
    // Of the first request one try, of the second those that began at 0 and at 2 s; the one from 4 s on ended with all.
    for (stat, expected) in [
        ("upstream_rq_per_try_timeout", 3),
        ("upstream_rq_timeout", 1),
    ] {
        let counted = of_cluster(mesh, "|user-service.", stat).await?;
        ensure!(counted == expected, "{stat} is {counted}, not {expected}");
    }
    Ok(())
}

/// A number of the gateway's Envoy about a cluster, summed over the service's subsets.
async fn of_cluster(mesh: &LocalMesh, service: &str, stat: &str) -> Result<u64> {
    let stats = mesh.envoy_stats("ingressgateway", service).await?;
    let named = stats.iter().filter(|(name, _)| {
        name.starts_with("cluster.outbound|") && name.ends_with(&format!(".{stat}"))
    });
    // A cluster counts its traffic from its first request on; until then there is no such number.
    Ok(named.map(|(_, value)| *value).sum())
}

/// Waits until such a number is this one.
async fn until_cluster(mesh: &LocalMesh, service: &str, stat: &str, wanted: u64) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let now = of_cluster(mesh, service, stat).await?;
        if now == wanted {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{stat} of {service} is {now}, not {wanted}"
        );
    }
}

pub(crate) async fn a_failing_pod_is_left_out_and_comes_back(mesh: &LocalMesh) -> Result<()> {
    const CARTS: &str = "|cart-service.";
    const ACTIVE: &str = "outlier_detection.ejections_active";
    const TOTAL: &str = "outlier_detection.ejections_enforced_total";
    let client = client(mesh)?;
    let broken = mesh.pods("cart-service");
    let broken = broken
        .first()
        .context("no pod of cart-service")?
        .pod
        .clone();
    let failing = format!("/cart/alice?until=100&pod={broken}");
    let mut failures = 0;
    let deadline = Instant::now() + DEADLINE;
    while failures < 3 {
        ensure!(Instant::now() < deadline, "{broken} is not asked");
        let ejections = of_cluster(mesh, CARTS, TOTAL).await?;
        ensure!(ejections == 0, "left out after {failures} failures");
        let answer = client.get(&failing, &[]).await?;
        // The next try is the other pod's.
        ensure!(answer.status == 200, "a customer notices: {answer:?}");
        failures += attempt(&answer)? - 1;
    }
    until_cluster(mesh, CARTS, ACTIVE, 1).await?;

    let mut without = 0;
    loop {
        ensure!(Instant::now() < deadline, "{broken} is left out for ever");
        let answer = client.get(&failing, &[]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        if of_cluster(mesh, CARTS, ACTIVE).await? == 0 {
            break;
        }
        // Then it was left out when it answered, too.
        ensure!(
            attempt(&answer)? == 1,
            "{broken} was asked while it was left out"
        );
        without += 1;
    }
    ensure!(without > 0, "{broken} was not left out for long enough");

    loop {
        ensure!(Instant::now() < deadline, "{broken} is never asked again");
        let answer = client.get("/cart/alice", &[]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        if answer.json()?["pod"] == broken.as_str() {
            return Ok(());
        }
    }
}

pub(crate) async fn the_breaker_opens_at_its_limits_and_closes(mesh: &LocalMesh) -> Result<()> {
    const PRODUCTS: &str = "|product-service.";
    let client = vip(mesh)?;
    let overflows = async || of_cluster(mesh, PRODUCTS, "upstream_rq_pending_overflow").await;

    // As many at once as there may be connections, and the one that may wait. Each is on its way before the next comes:
    // while a connection is being made its request is the one that waits.
    let hold = NamedTempFile::new()?;
    let held = format!("/products?while={}", hold.path().display());
    let mut answers = JoinSet::new();
    for number in 1..=11 {
        let (client, held) = (client.clone(), held.clone());
        answers.spawn(async move { client.get(&held, &[]).await });
        if number <= 10 {
            until_cluster(mesh, PRODUCTS, "upstream_rq_active", number).await?;
        } else {
            until_cluster(mesh, PRODUCTS, "upstream_rq_pending_active", 1).await?;
        }
        until_cluster(mesh, PRODUCTS, "upstream_cx_active", number.min(10)).await?;
    }
    ensure!(overflows().await? == 0, "it is open before its limits");

    // What comes besides is turned away, and counted once: a retry would be one more.
    for number in 1..=3 {
        let answer = client.get("/products", &[]).await?;
        ensure!(
            answer.status == 503 && answer.header("x-envoy-overloaded") == Some("true"),
            "beside 10 and one that waits: {answer:?}"
        );
        let counted = overflows().await?;
        ensure!(counted == number, "{number} turned away, {counted} counted");
    }
    // The limits are those of a version of a service: another one is not concerned.
    let answer = client.get("/users/alice", &[]).await?;
    ensure!(answer.status == 200, "{answer:?}");

    hold.close()?;
    while let Some(answer) = answers.join_next().await {
        let answer = answer??;
        ensure!(answer.status == 200, "it was within the limits: {answer:?}");
    }
    for _ in 0..20 {
        let answer = client.get("/products", &[]).await?;
        ensure!(answer.status == 200, "when the load is gone: {answer:?}");
    }
    ensure!(overflows().await? == 3, "it opened again without load");
    let requests = of_cluster(mesh, PRODUCTS, "upstream_rq_total").await?;
    let connections = of_cluster(mesh, PRODUCTS, "upstream_cx_total").await?;
    ensure!(
        requests == 31 && connections * 2 >= requests,
        "{connections} connections for {requests} requests, two of which may share one"
    );
    Ok(())
}

/// The shop whose product service fails on purpose; those who wait do not wait for long.
pub(crate) fn faults() -> Result<LocalMesh> {
    let manifests = Manifests::overlay("istio/overlays/fault")?;
    without_limits(&manifests)?;
    manifests.replace(
        "istio/overlays/fault/kustomization.yaml",
        "fixedDelay: 5s",
        "fixedDelay: 0.2s",
    )?;
    LocalMesh::start(manifests, Options::default())
}

/// What an Envoy has done on purpose.
async fn injected(mesh: &LocalMesh, workload: &str, what: &str) -> Result<u32> {
    let stats = mesh
        .envoy_stats(workload, &format!(".fault.{what}"))
        .await?;
    Ok(u32::try_from(stats.iter().map(|(_, n)| n).sum::<u64>())?)
}

pub(crate) async fn faults_come_as_often_as_configured(mesh: &LocalMesh) -> Result<()> {
    const REQUESTS: u32 = 1000;
    let client = client(mesh)?;
    let (mut aborted, mut slow) = (0, 0);
    let mut answers = JoinSet::new();
    for number in 0..REQUESTS {
        if number >= 50 {
            count(answers.join_next().await, &mut aborted, &mut slow)?;
        }
        let client = client.clone();
        answers.spawn(async move {
            let begin = Instant::now();
            let answer = client.get("/products", &[]).await?;
            anyhow::Ok((answer, begin.elapsed()))
        });
    }
    while !answers.is_empty() {
        count(answers.join_next().await, &mut aborted, &mut slow)?;
    }
    within_binomial_bounds("aborted", aborted, REQUESTS, 0.1)?;
    let counted = injected(mesh, "ingressgateway", "aborts_injected").await?;
    ensure!(
        counted == aborted,
        "{aborted} were answered with 500, {counted} aborted: retries hid some, or made more"
    );
    // How long a request took says little on a busy machine; Envoy counts those that it held back.
    let delayed = injected(mesh, "ingressgateway", "delays_injected").await?;
    within_binomial_bounds("delayed", delayed, REQUESTS, 0.5)?;
    ensure!(
        slow >= delayed,
        "{delayed} were delayed, and {slow} took as long"
    );

    // Callers within the mesh meet the same: a cart asks for each of its products.
    let deadline = Instant::now() + DEADLINE;
    loop {
        vip(mesh)?.get("/cart/alice", &[]).await?;
        let delays = injected(mesh, "cart-service", "delays_injected").await?;
        if delays > 0 && injected(mesh, "cart-service", "aborts_injected").await? > 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "cart-service met no fault, or no delay ({delays})"
        );
        sleep(LOOK).await;
    }
}

type Timed = Result<(Reply, Duration)>;

fn count(
    answer: Option<Result<Timed, JoinError>>,
    aborted: &mut u32,
    slow: &mut u32,
) -> Result<()> {
    let (answer, took) = answer.context("no request is under way")???;
    match answer.status {
        200 => {}
        500 if answer.body == "fault filter abort" => *aborted += 1,
        _ => bail!("{answer:?}"),
    }
    // Not 200: Envoy counts from when its event loop woke up, which is some milliseconds before it saw the request.
    *slow += u32::from(took >= Duration::from_millis(150));
    Ok(())
}
