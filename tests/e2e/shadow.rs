//! A new limit on real Envoys: watched, rolled out to half of the tenants, enforced.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tollgate_tests::{Answer, Form, LocalMesh, Manifests, Options, Target, send};

use crate::live::applied;
use crate::metrics::settled;
use crate::tenants::configure;

/// An access log is written every ten seconds.
const LOGGED: Duration = Duration::from_secs(60);

/// Those who are rolled out to, or not.
const TENANTS: usize = 40;

/// A quota of the day that is watched, for all tenants or for half of them, beside one of the month that is enforced.
fn configuration(watched: &Value, status: u16) -> Value {
    json!({
        "tenant": {"from": [{"header": "x-tenant-id", "vouched": true}], "unknown": {"tier": "rolled-out"}},
        "tiers": {
            "watched": {"limits": [
                watched,
                {"name": "monthly", "quota": 100, "per": "month"},
            ]},
            "rolled-out": {"limits": [
                {"name": "daily", "quota": 2, "per": "day", "mode": "shadow", "enforcedFor": {"share": 50}},
            ]},
        },
        "tenants": {"acme": {"tier": "watched"}},
        "answer": {"status": status, "retryAfter": {"jitter": 0}},
        "metrics": {"refused": "shop_refused_total", "shadowed": "shop_shadowed_total"},
    })
}

fn in_shadow() -> Value {
    json!({"name": "daily", "quota": 3, "per": "day", "mode": "shadow"})
}

pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    configure(&manifests, form, &configuration(&in_shadow(), 429))?;
    LocalMesh::start(manifests, Options::default())
}

async fn get(mesh: &LocalMesh, tenant: &str) -> Result<Answer> {
    let request = format!(
        "GET /products?of={tenant} HTTP/1.1\r\nhost: shop\r\nx-tenant-id: {tenant}\r\nconnection: close\r\n\r\n"
    );
    send(mesh.gateway_address()?, request.as_bytes()).await
}

/// What the gateway has logged of a tenant's requests behind Istio's own fields, once it is so many.
async fn noted(mesh: &LocalMesh, tenant: &str, count: usize) -> Result<Vec<String>> {
    let path = format!("/products?of={tenant} ");
    let deadline = Instant::now() + LOGGED;
    loop {
        let log = mesh.access_log("ingressgateway")?;
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&path)).collect();
        if lines.len() >= count {
            ensure!(lines.len() == count, "{lines:#?}");
            // After the route's name there is what was noted: four words in quotes, and headers.
            let fields = lines.iter().map(|line| {
                let noted = line.match_indices(" \"").map(|(at, _)| at);
                let before_headers = line.find(" ratelimit-policy: ").or(line.find(" :status: "));
                let end = before_headers.unwrap_or(line.len());
                let at = noted.filter(|at| *at < end).last().context("no field")?;
                Ok(line[at + 1..].to_owned())
            });
            return fields.collect();
        }
        ensure!(Instant::now() < deadline, "{count} of {tenant}: {lines:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(crate) async fn a_new_limit_is_watched_rolled_out_and_enforced(mesh: &LocalMesh) -> Result<()> {
    let form = mesh.manifests().form();

    // Watched: nobody is refused, and clients learn nothing of it.
    for sent in 1..=8 {
        let answer = get(mesh, "acme").await?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(
            answer.header("ratelimit-policy") == Some("\"monthly\";q=100;w=2678400"),
            "{answer:?}"
        );
        let told = answer.header("ratelimit").unwrap_or_default();
        let expected = format!("\"monthly\";r={};t=", 100 - sent);
        ensure!(told.starts_with(&expected), "{told} is not {expected}");
        ensure!(!format!("{answer:?}").contains("daily"), "{answer:?}");
    }
    let labels = [
        ("tenant", "acme"),
        ("tier", "watched"),
        ("limit", "daily"),
        ("reason", "limited"),
    ];
    let shadowed = |m: &tollgate_tests::Metrics| m.sum("shop_shadowed_total", &labels);
    let metrics = settled(mesh, "ingressgateway", shadowed, 5).await?;
    ensure!(metrics.label_names("shop_shadowed_total") == ["limit", "reason", "tenant", "tier"]);
    ensure!(metrics.sum("shop_refused_total", &[("tenant", "acme")]) == 0);

    let noted_of_acme = noted(mesh, "acme", 8).await?;
    for (n, noted) in noted_of_acme.iter().enumerate() {
        let daily = 2_usize.saturating_sub(n);
        let headers = format!(
            "ratelimit-policy: \"daily\";q=3;w=86400, \"monthly\";q=100;w=2678400 | ratelimit: \"daily\";r={daily};t="
        );
        let before = match n < 3 {
            true => "\"-\" ",
            false => "\"acme watched daily limited\" :status: 429 | retry-after: ",
        };
        ensure!(
            noted.starts_with(before) && noted.contains(&headers),
            "{n}: {noted}"
        );
    }

    // Rolled out: half of all tenants are refused their third request, the same ones after an update and whoever looks.
    let mut refused = BTreeSet::new();
    for n in 0..TENANTS {
        let tenant = format!("tenant-{n}");
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(get(mesh, &tenant).await?.status);
        }
        match statuses.as_slice() {
            [200, 200, 200] => {}
            [200, 200, 429] => drop(refused.insert(tenant)),
            other => bail!("{tenant}: {other:?}"),
        }
    }
    ensure!(
        (TENANTS / 4..=3 * TENANTS / 4).contains(&refused.len()),
        "not about half of {TENANTS}: {refused:?}"
    );
    let enforced = json!({"name": "daily", "quota": 3, "per": "day"});
    configure(mesh.manifests(), form, &configuration(&enforced, 430))?;
    applied(mesh)?;
    for n in 0..TENANTS {
        let tenant = format!("tenant-{n}");
        let answer = get(mesh, &tenant).await?;
        let expected = if refused.contains(&tenant) { 430 } else { 200 };
        ensure!(answer.status == expected, "{tenant}: {answer:?}");
    }

    // Enforced: what was used while it was watched is used.
    let answer = get(mesh, "acme").await?;
    ensure!(answer.status == 430, "{answer:?}");
    let told = answer.header("ratelimit").unwrap_or_default();
    ensure!(told.starts_with("\"daily\";r=0;t="), "{answer:?}");
    Ok(())
}
