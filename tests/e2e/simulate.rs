//! What `tollgate simulate` makes of the gateway's own access log, beside what its limiter did.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_tests::{Form, LocalMesh, Manifests, Options, Target, send, tollgate};

use crate::tenants::configure;

/// An access log is written every ten seconds.
const LOGGED: Duration = Duration::from_secs(60);

/// How many requests each tenant sends at once, and how often.
const AT_ONCE: usize = 20;
const WAVES: usize = 15;

/// Rates and quotas, one that workers take in runs among them, a route that costs more, a tenant that is blocked. All of it is in Istio's default log: there is
/// no header and no token.
fn configuration() -> Value {
    json!({
        "tenant": {
            "from": [{"path": "/t/{tenant}/**", "vouched": true}, {"query": "tenant", "vouched": true}],
            "missing": {"refuse": 401},
            "unknown": {"tier": "steady"},
        },
        "tiers": {
            "steady": {"limits": [{"name": "rate", "requests": 20, "per": "1s", "burst": 10}]},
            "large": {"limits": [{"name": "rate", "requests": 50, "per": "1s", "burst": 100}]},
            "counted": {"limits": [{"name": "daily", "quota": 100, "per": "day"}]},
            "banned": {"blocked": true},
        },
        "tenants": {"acme": {"tier": "large"}, "globex": {"tier": "counted"}, "initech": {"tier": "counted"}, "mallory": {"tier": "banned"}},
        "routes": [{"match": {"path": {"prefix": "/products/export"}}, "cost": 7}],
    })
}

pub(crate) fn mesh() -> Result<LocalMesh> {
    let form = Form::ThreeModules;
    let manifests = Manifests::of(form)?;
    configure(&manifests, form, &configuration())?;
    LocalMesh::start(manifests, Options::default())
}

/// What tenants ask for, and by how many a replay may differ of what they are refused: of rates, whose tokens come while requests are on their way from the
/// moment that the log has to the limiter; of nothing else.
const TENANTS: [(&str, &str, u64); 6] = [
    ("acme", "/products?tenant=acme", 6),
    ("umbrella", "/t/umbrella/products", 6),
    ("globex", "/products?tenant=globex", 0),
    ("initech", "/products/export?tenant=initech", 0),
    ("mallory", "/t/mallory/products", 0),
    ("", "/products", 0),
];

pub(crate) async fn a_replay_of_the_gateway_s_log_refuses_what_the_gateway_refused(
    mesh: &LocalMesh,
) -> Result<()> {
    // What the gateway did, as its clients saw it.
    let mut seen: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let gateway = mesh.gateway_address()?;
    for _ in 0..WAVES {
        let mut wave = JoinSet::new();
        for (tenant, target, _) in TENANTS {
            for _ in 0..AT_ONCE {
                let request =
                    format!("GET {target} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
                wave.spawn(async move { (tenant, send(gateway, request.as_bytes()).await) });
            }
        }
        while let Some(answer) = wave.join_next().await {
            let (tenant, answer) = answer?;
            let answer = answer?;
            let refused = match (tenant, answer.status) {
                (_, 200 | 404) => false,
                ("", 401)
                | ("mallory", 403)
                | ("acme" | "umbrella" | "globex" | "initech", 429) => true,
                _ => anyhow::bail!("{tenant}: {answer:?}"),
            };
            let (requests, refusals) = seen.entry(tenant).or_default();
            *requests += 1;
            *refusals += u64::from(refused);
        }
    }

    let sent = WAVES * AT_ONCE * TENANTS.len();
    let deadline = Instant::now() + LOGGED;
    let log = loop {
        let log = mesh.access_log("ingressgateway")?;
        let lines = log.lines().filter(|line| line.contains("\"GET /")).count();
        if lines >= sent {
            break log;
        }
        ensure!(
            Instant::now() < deadline,
            "{lines} of {sent} requests are in the log"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };

    let folder = tempfile::tempdir()?;
    let (limits, file) = (
        folder.path().join("limits.json"),
        folder.path().join("access.log"),
    );
    std::fs::write(&limits, configuration().to_string())?;
    std::fs::write(&file, log)?;
    let output = Command::new(tollgate()?)
        .arg("simulate")
        .args(["--format", "json", "--config"])
        .arg(&limits)
        .arg("--log")
        .arg(&file)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(output.stderr.is_empty(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(told["logs"][0]["format"] == "istio", "{told}");
    ensure!(
        told["total"]["requests"] == sent,
        "{} of {sent}",
        told["total"]["requests"]
    );

    for (tenant, _, tolerance) in TENANTS {
        let (requests, refused) = seen[tenant];
        let id = if tenant.is_empty() {
            Value::Null
        } else {
            json!(tenant)
        };
        let mut tenants = told["tenants"].as_array().into_iter().flatten();
        let replayed = tenants.find(|other| other["tenant"] == id);
        let replayed = replayed.with_context(|| format!("no {tenant:?} in {told}"))?;
        ensure!(replayed["requests"] == requests, "{tenant}: {replayed}");
        let replay = replayed["refused"].as_u64().context("no number")?;
        ensure!(
            refused > 0 && (refused < requests || tolerance == 0),
            "{tenant}: {refused} of {requests} say nothing"
        );
        ensure!(
            replay.abs_diff(refused) <= tolerance,
            "{tenant}: the gateway refused {refused} of {requests}, the replay {replay}"
        );
    }
    Ok(())
}
