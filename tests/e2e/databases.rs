//! `tollgate up --database`: the services on a real PostgreSQL.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use service_common::sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, query_as};
use tollgate_tests::{LocalMesh, Manifests, Options, Target};

use crate::client::Client;
use crate::shared::block_on;

const VARIABLE: &str = "TOLLGATE_TEST_POSTGRES";
/// Why a test is left out.
pub(crate) const WITHOUT: &str =
    "without TOLLGATE_TEST_POSTGRES; run `.ci/postgres cargo test --workspace`";

/// The URL of a PostgreSQL whose user may create databases.
pub(crate) fn server() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|url| !url.is_empty())
}

pub(crate) fn two_replicas_share_a_postgresql(server: &str) -> Result<()> {
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos();
    let name = format!("tollgate_e2e_{}_{since_epoch}", std::process::id());
    block_on(administer(server, format!("CREATE DATABASE {name}")))?;
    let result = two_runs(server, &name);
    // Also when something failed; whoever still uses it is thrown out.
    let dropped = block_on(administer(
        server,
        format!("DROP DATABASE {name} WITH (FORCE)"),
    ));
    result.and(dropped)
}

async fn administer(server: &str, sql: String) -> Result<()> {
    let mut connection = PgConnection::connect(server).await.context(VARIABLE)?;
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(connection.close().await?)
}

fn two_runs(server: &str, name: &str) -> Result<()> {
    let (before, _) = server
        .rsplit_once('/')
        .with_context(|| format!("{VARIABLE} names no database"))?;
    let database = format!("{before}/{name}");
    let first = start(&database)?;
    let order = block_on(async {
        let order = place_an_order(&first).await?;
        all_answer(&first, "user-service", "/users/frank", "Frank").await?;
        all_answer(&first, "order-service", "/orders/frank", &order).await?;
        stored(&database, &order).await?;
        Ok(order)
    })?;
    first.stop()?;

    // Its migrations find their work done, and its services the data.
    let second = start(&database)?;
    block_on(all_answer(
        &second,
        "order-service",
        "/orders/frank",
        &order,
    ))?;
    second.stop()?;
    Ok(())
}

/// The shop with three pods of users and orders each.
fn start(database: &str) -> Result<LocalMesh> {
    let manifests = Manifests::shipped()?;
    for service in ["product", "cart"] {
        let file = format!("services/kubernetes/{service}-service.yaml");
        manifests.replace_all(&file, "replicas: 2", "replicas: 1")?;
    }
    let options = Options {
        replicas: None,
        database: Some(database.to_owned()),
        ..Options::default()
    };
    LocalMesh::start(manifests, options)
}

/// A new user puts something into the cart and orders it; the order's id.
async fn place_an_order(mesh: &LocalMesh) -> Result<String> {
    let client = Client::of(mesh)?.bearing(mesh.bearer("frank", "acme")?);
    for (path, body) in [
        (
            "/users",
            json!({"id": "frank", "name": "Frank", "email": "frank@example.com"}),
        ),
        ("/cart/frank", json!({"productId": "mug", "quantity": 3})),
    ] {
        let answer = client.post(path, &[], &body).await?;
        ensure!([200, 201].contains(&answer.status), "{path}: {answer:?}");
    }
    let body = json!({"userId": "frank"});
    let order = client.post("/orders", &[], &body).await?;
    ensure!(order.status == 201, "{order:?}");
    let order = order.json()?;
    Ok(order["id"].as_str().context("no id")?.to_owned())
}

/// Asks until every pod of a workload has answered; each must know what was stored.
async fn all_answer(mesh: &LocalMesh, workload: &str, path: &str, stored: &str) -> Result<()> {
    // Also of another tenant: an order of acme's, which is premium, goes to pods of its own, and of users one in twenty to the canary.
    let frank = Client::of(mesh)?.bearing(mesh.bearer("frank", "acme")?);
    let other = Client::of(mesh)?.bearing(mesh.bearer("frank", "globex")?);
    let canary = [("x-canary", "true")];
    let deadline = Instant::now() + Duration::from_secs(60);
    // What each has answered to requests from other pods, all of them with success.
    let answered = async || {
        let stats = mesh.envoy_stats(workload, ".downstream_rq_2xx").await?;
        let inbound = stats
            .into_iter()
            .filter(|(name, _)| name.starts_with("http.inbound_"));
        anyhow::Ok(Vec::from_iter(inbound.map(|(_, count)| count)))
    };
    let before = answered().await?;
    ensure!(
        before.len() == 3,
        "{workload} has pods of {before:?} answers"
    );
    let ways = [(&frank, &[][..]), (&other, &[]), (&frank, &canary)];
    for (client, headers) in ways.iter().cycle() {
        let answer = client.get(path, headers).await?;
        ensure!(
            answer.status == 200 && answer.body.contains(stored),
            "{workload} does not know {stored}: {answer:?}"
        );
        let now = answered().await?;
        if now.iter().zip(&before).all(|(now, before)| now > before) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "one pod of {workload} is never asked: {before:?}, then {now:?}"
        );
        // globex may send 20 a second.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

/// The services' rows are in PostgreSQL, each service's in a schema of its own.
async fn stored(database: &str, order: &str) -> Result<()> {
    let mut connection = PgConnection::connect(database).await?;
    for (sql, of, expected) in [
        (
            "SELECT count(*) FROM user_service.users WHERE id = $1",
            "frank",
            1_i64,
        ),
        (
            "SELECT sum(quantity) FROM cart_service.cart_items WHERE user_id = $1 AND product_id = 'mug'",
            "frank",
            3,
        ),
        (
            "SELECT sum(quantity) FROM order_service.order_lines WHERE order_id = $1",
            order,
            3,
        ),
        (
            "SELECT count(*) FROM product_service.products WHERE id = $1",
            "mug",
            1,
        ),
    ] {
        let sql = format!("SELECT coalesce(({sql}), 0)::BIGINT");
        let (found,): (i64,) = query_as(AssertSqlSafe(sql.clone()))
            .bind(of)
            .fetch_one(&mut connection)
            .await
            .with_context(|| sql.clone())?;
        ensure!(found == expected, "{sql} with {of}: {found}");
    }
    Ok(connection.close().await?)
}
