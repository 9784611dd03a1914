//! What a tenant may do, and what it is told.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tollgate_tests::{LocalMesh, Target};

use crate::client::{Client, Reply};

/// `r` and `t` of a limit in a `RateLimit` header.
fn remaining(answer: &Reply, limit: &str) -> Result<(u64, u64)> {
    let header = answer
        .header("ratelimit")
        .with_context(|| format!("no RateLimit in {answer:?}"))?;
    let item = header
        .split(", ")
        .find(|item| item.starts_with(&format!("\"{limit}\";")));
    let item = item.with_context(|| format!("no {limit:?} in RateLimit: {header}"))?;
    let parameter = |name: &str| {
        let value = item.split(';').find_map(|p| p.strip_prefix(name));
        value
            .and_then(|v| v.parse().ok())
            .with_context(|| format!("no {name:?} in {item}"))
    };
    Ok((parameter("r=")?, parameter("t=")?))
}

pub(crate) async fn the_headers_count_down(mesh: &LocalMesh) -> Result<()> {
    let client = Client::of(mesh)?.bearing(mesh.bearer("erin", "countdown")?);
    let begin = Instant::now();
    for sent in 1..=10 {
        let answer = client.get("/products", &[]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let policy = answer.header("ratelimit-policy");
        ensure!(
            policy == Some(r#""rate";q=10;w=2, "daily";q=1000;w=86400"#),
            "RateLimit-Policy is {policy:?}"
        );

        let (left, reset) = remaining(&answer, "daily")?;
        ensure!(
            left == 1000 - sent,
            "after {sent} requests of 1000 a day, {left} are said to be left"
        );
        ensure!(
            (1..=86_400).contains(&reset),
            "a day ends in {reset} seconds?"
        );

        // The rate gains five a second, so only a range is known; no request can have come back before it was sent.
        let (left, reset) = remaining(&answer, "rate")?;
        let regained = (begin.elapsed().as_secs_f64() * 5.0).ceil() as u64;
        let range = 10 - sent..=(10 - sent + regained).min(9);
        ensure!(
            range.contains(&left),
            "after {sent} requests of a burst of 10, {left} are said to be left"
        );
        ensure!(
            reset == 1,
            "one more request is allowed after 0.2 s, not {reset}"
        );
    }
    Ok(())
}

pub(crate) async fn a_refusal_says_when_to_come_back(mesh: &LocalMesh) -> Result<()> {
    let client = Client::of(mesh)?.bearing(mesh.bearer("erin", "eager")?);
    // Sixty at once against a burst of ten: the time they take regains a few of them at most.
    let mut answers = JoinSet::new();
    for _ in 0..60 {
        let client = client.clone();
        answers.spawn(async move { client.get("/products", &[]).await });
    }
    let mut refusals = Vec::new();
    while let Some(answer) = answers.join_next().await {
        let answer = answer??;
        match answer.status {
            200 => {}
            429 => refusals.push(answer),
            other => anyhow::bail!("status {other}: {answer:?}"),
        }
    }
    let refusal = refusals
        .first()
        .context("60 requests at once passed a burst of 10")?;
    ensure!(
        refusal.header("content-type") == Some("application/problem+json"),
        "{refusal:?}"
    );
    ensure!(
        refusal.header("cache-control") == Some("no-store"),
        "{refusal:?}"
    );
    ensure!(refusal.header("retry-after") == Some("1"), "{refusal:?}");
    ensure!(remaining(refusal, "rate")? == (0, 1), "{refusal:?}");
    let problem = refusal.json()?;
    ensure!(
        problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "{problem}"
    );
    ensure!(problem["status"] == 429, "{problem}");
    ensure!(problem["violated-policies"] == json!(["rate"]), "{problem}");
    // A refused request costs nothing: the day has lost the admitted ones only.
    let admitted = 60 - refusals.len() as u64;
    let lowest = refusals
        .iter()
        .map(|r| remaining(r, "daily").map(|(left, _)| left))
        .collect::<Result<Vec<_>>>()?;
    let lowest = lowest.into_iter().min().unwrap_or_default();
    ensure!(
        lowest >= 1000 - admitted,
        "{admitted} were admitted, and of 1000 a day only {lowest} are left"
    );
    Ok(())
}

/// Whoever has no token is of the tenant `anonymous`, whatever he says.
pub(crate) async fn what_a_client_says_of_itself_gives_nothing(mesh: &LocalMesh) -> Result<()> {
    const FREE: &str = r#""rate";q=10;w=2, "daily";q=1000;w=86400"#;
    const PREMIUM: &str = r#""rate";q=200;w=2"#;
    let client = Client::of(mesh)?;
    let acme = mesh.bearer("erin", "acme")?;
    let initech = mesh.bearer("erin", "initech")?;
    let words = [
        ("x-tenant-id", "acme"),
        ("x_tenant_id", "acme"),
        ("x-user-id", "alice"),
        ("x-tenant-tier", "premium"),
        ("x_tenant_tier", "premium"),
        ("user-type", "vip"),
        ("end-user", "bob"),
    ];
    for (token, expected) in [(None, FREE), (Some(&initech), FREE), (Some(&acme), PREMIUM)] {
        let mut headers = words.to_vec();
        headers.extend(token.map(|token| ("authorization", token.as_str())));
        // Others in this mesh have no token either: who is told to come back does.
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer = loop {
            let answer = client.get("/products", &headers).await?;
            let policy = answer.header("ratelimit-policy");
            ensure!(
                policy == Some(expected),
                "with {token:?}, RateLimit-Policy is {policy:?}"
            );
            if answer.status != 429 {
                break answer;
            }
            ensure!(Instant::now() < deadline, "{answer:?}");
            sleep(Duration::from_secs(1)).await;
        };
        ensure!(answer.status == 200, "{answer:?}");
    }
    Ok(())
}

pub(crate) async fn a_quota_is_exact_over_four_workers(mesh: &LocalMesh) -> Result<()> {
    let of = |tenant| {
        let client = Client::on_fresh_connections(mesh)?;
        anyhow::Ok(client.bearing(mesh.bearer("erin", tenant)?))
    };
    let (acme, stadium) = (of("acme")?, of("stadium")?);
    let mut answers = JoinSet::new();
    for n in 0..520 {
        // acme beside it, well within its own limit.
        let (tenant, client) = if n % 26 == 0 {
            ("acme", acme.clone())
        } else {
            ("stadium", stadium.clone())
        };
        answers.spawn(async move {
            let answer = client.get("/products", &[]).await?;
            anyhow::Ok((tenant, answer))
        });
    }
    let (mut admitted, mut refused) = (0, 0);
    while let Some(answer) = answers.join_next().await {
        let (tenant, answer) = answer??;
        match (tenant, answer.status) {
            ("acme", 200) => {}
            ("acme", _) => anyhow::bail!("acme suffers from stadium: {answer:?}"),
            (_, 200) => admitted += 1,
            (_, 429) => refused += 1,
            (_, other) => anyhow::bail!("status {other}: {answer:?}"),
        }
    }
    ensure!(
        (admitted, refused) == (50, 450),
        "{admitted} admitted, {refused} refused of a quota of 50"
    );

    let workers = mesh.envoy_stats("ingressgateway", ".worker_").await?;
    let served = |(name, connections): &&(String, u64)| {
        name.starts_with("listener.")
            && !name.contains("admin")
            && name.ends_with(".downstream_cx_total")
            && *connections > 0
    };
    let served: Vec<_> = workers.iter().filter(served).collect();
    ensure!(
        served.len() >= 3,
        "only {served:?} of {workers:?} took connections"
    );
    Ok(())
}
