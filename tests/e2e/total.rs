//! What the whole proxy lets pass on real Envoys: shared by weight, lent and taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tollgate_tests::{Form, LocalMesh, LoneEnvoy, Manifests, Options, exchange};

use crate::client::Client;
use crate::in_flight::{Service, quick};
use crate::metrics::settled;
use crate::tenants::configure;

type Test = fn() -> Result<()>;

/// With an Envoy of its own.
pub(crate) const TESTS: &[(&str, Test)] = &[
    ("in_shadow_it_says_what_it_would_refuse", || {
        crate::shared::block_on(in_shadow_it_says_what_it_would_refuse())
    }),
    ("large_requests_have_their_share_beside_a_flood", || {
        crate::shared::block_on(large_requests_have_their_share_beside_a_flood())
    }),
];

/// What passes in a second: little beside what the machine could do.
const TOTAL: u64 = 100;

/// How long it may take a machine that is busy with other things until what is expected is seen.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    let configuration = json!({
        "tenant": {"from": [{"header": "x-tenant-id", "vouched": true}], "unknown": {"tier": "all"}},
        "total": {"requests": TOTAL, "per": "1s"},
        "tiers": {"all": {"unlimited": true}},
        "tenants": {"acme": {"tier": "all", "weight": 3}, "globex": {"tier": "all"}, "initech": {"tier": "all"}},
        "metrics": {"refused": "shop_refused_total"},
    });
    configure(&manifests, form, &configuration)?;
    let workers = match form {
        Form::ThreeModules => 4,
        Form::Bundle => 2,
    };
    LocalMesh::start(
        manifests,
        Options {
            workers,
            ..Options::default()
        },
    )
}

/// A tenant who asks for far more than everybody together may have, while it does.
struct Flood {
    asks: Arc<AtomicBool>,
    passed: Arc<AtomicU64>,
    connections: JoinSet<Result<()>>,
}

impl Flood {
    fn of(mesh: &LocalMesh, tenant: &'static str, ids: u64) -> Result<Self> {
        let asks = Arc::new(AtomicBool::new(true));
        let passed = Arc::new(AtomicU64::new(0));
        let mut connections = JoinSet::new();
        for connection in 0..8_u64 {
            // Each has a connection of its own, on whichever worker.
            let client = Client::of(mesh)?;
            let (asks, passed) = (asks.clone(), passed.clone());
            connections.spawn(async move {
                for turn in 0_u64.. {
                    sleep(Duration::from_millis(15)).await;
                    if !asks.load(Ordering::Relaxed) {
                        continue;
                    }
                    let id = match ids {
                        0 => tenant.to_owned(),
                        ids => format!("{tenant}-{}", (turn * 8 + connection) % ids),
                    };
                    let reply = client.get("/products", &[("x-tenant-id", &id)]).await?;
                    match reply.status {
                        200 => passed.fetch_add(1, Ordering::Relaxed),
                        429 => 0,
                        _ => bail!("{reply:?}"),
                    };
                }
                Ok(())
            });
        }
        Ok(Self {
            asks,
            passed,
            connections,
        })
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Whether each connection still asks.
    fn is_well(&mut self) -> Result<()> {
        match self.connections.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?,
        }
    }
}

/// Waits until over a second each flood has had its part of what passed, to a fifth of it, and nearly all that may pass did.
async fn shared(floods: &mut [Flood], parts: &[u64]) -> Result<Duration> {
    let begun = Instant::now();
    let whole: u64 = parts.iter().sum();
    loop {
        let before: Vec<u64> = floods.iter().map(Flood::passed).collect();
        let since = Instant::now();
        sleep(Duration::from_secs(1)).await;
        let seconds = since.elapsed().as_secs_f64();
        let had: Vec<u64> = floods
            .iter()
            .zip(&before)
            .map(|(flood, before)| flood.passed() - before)
            .collect();
        for flood in floods.iter_mut() {
            flood.is_well()?;
        }
        let right = had.iter().zip(parts).all(|(had, part)| {
            let expected = TOTAL as f64 * seconds * *part as f64 / whole as f64;
            (*had as f64 - expected).abs() <= expected / 5.0 + 2.0
        });
        if right {
            return Ok(since.duration_since(begun));
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "in a second they had {had:?}, not as {parts:?} of {TOTAL}"
        );
    }
}

pub(crate) async fn a_total_is_shared_by_weight_lent_and_taken_back(
    mesh: &LocalMesh,
) -> Result<()> {
    let mut floods = [Flood::of(mesh, "acme", 0)?, Flood::of(mesh, "globex", 0)?];
    shared(&mut floods, &[3, 1]).await?;

    // Who wants less than its share is never refused, though others are all the time.
    let client = Client::of(mesh)?;
    for _ in 0..25 {
        let reply = client
            .get("/products", &[("x-tenant-id", "initech")])
            .await?;
        ensure!(reply.status == 200, "{reply:?}");
        sleep(Duration::from_millis(100)).await;
    }

    // An idle share is lent, and taken back.
    floods[0].asks.store(false, Ordering::Relaxed);
    shared(&mut floods, &[0, 1]).await?;
    floods[0].asks.store(true, Ordering::Relaxed);
    shared(&mut floods, &[3, 1]).await?;

    // Invented ids have one share together, that of their tier.
    let [acme, globex] = floods;
    let mut floods = [acme, globex, Flood::of(mesh, "invented", 10_000)?];
    shared(&mut floods, &[3, 1, 1]).await?;

    let labels = [
        ("tenant", "globex"),
        ("limit", "total"),
        ("reason", "limited"),
    ];
    for flood in &floods {
        flood.asks.store(false, Ordering::Relaxed);
    }
    let refused =
        |metrics: &tollgate_tests::Metrics| metrics.sum("shop_refused_total", &labels).min(1);
    settled(mesh, "ingressgateway", refused, 1).await?;
    Ok(())
}

async fn in_shadow_it_says_what_it_would_refuse() -> Result<()> {
    /// Far more than passes of 10 a minute however long this takes.
    const REQUESTS: usize = 120;
    let configuration = |mode: &str| {
        json!({
            "tenant": {"from": [{"header": "x-tenant-id", "vouched": true}], "unknown": {"tier": "all"}},
            "total": {"requests": 10, "per": "1m", "mode": mode},
            "tiers": {"all": {"unlimited": true}},
            "tenants": {"acme": {"tier": "all"}},
            "metrics": {"shadowed": "shadowed_total"},
        })
    };
    let service = Service::start().await?;
    let mut lone = LoneEnvoy::start(4, &configuration("shadow"), service.address).await?;
    for _ in 0..REQUESTS {
        let answer = quick(&lone, "acme").await?;
        ensure!(
            answer.status == 200 && answer.header("ratelimit-policy").is_none(),
            "{answer:?}"
        );
    }
    let counted = lone.stat("shadowed_total").await?;
    let deadline = Instant::now() + PATIENCE;
    let log = loop {
        let log = lone.access_log();
        if log.lines().count() >= REQUESTS {
            break log;
        }
        ensure!(Instant::now() < deadline, "{log}");
        sleep(Duration::from_millis(20)).await;
    };
    let noted = "acme 200 \"acme all total limited\" :status: 429 | retry-after: ";
    let noted = log.lines().filter(|line| line.starts_with(noted)).count();
    let quiet = log
        .lines()
        .filter(|line| line.starts_with("acme 200 \"-\""))
        .count();
    ensure!(
        noted + quiet == REQUESTS && noted as u64 == counted && (1..=60).contains(&quiet),
        "{noted} noted, {counted} counted, of {REQUESTS}: {log}"
    );

    // What it would have let pass is used when it is enforced.
    lone.configure(&configuration("enforce")).await?;
    let deadline = Instant::now() + PATIENCE;
    while quick(&lone, "acme").await?.status == 200 {
        // A worker may have it a moment later.
        ensure!(Instant::now() < deadline, "nothing is refused");
    }
    Ok(())
}

/// One tenant asks for ten times what passes, in requests of cost 1, on four workers; another one in requests that cost more than is ever free beside that.
async fn large_requests_have_their_share_beside_a_flood() -> Result<()> {
    const COST: u64 = 60;
    const LARGE: u64 = 6;
    let configuration = json!({
        "tenant": {"from": [{"header": "x-tenant-id", "vouched": true}], "unknown": {"tier": "all"}},
        "total": {"requests": TOTAL, "per": "1s"},
        "tiers": {"all": {"unlimited": true}},
        "tenants": {"acme": {"tier": "all"}, "globex": {"tier": "all"}},
        "routes": [{"match": {"headers": {"x-job": {"exact": "export"}}}, "cost": COST}],
    });
    let service = Service::start().await?;
    let lone = LoneEnvoy::start(4, &configuration, service.address).await?;
    let small = Arc::new(AtomicU64::new(0));
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        let (small, address) = (small.clone(), lone.address);
        flood.spawn(async move {
            loop {
                let globex: [(&[u8], &[u8]); 1] = [(b"x-tenant-id", b"globex")];
                let answer = exchange(address, "/quick", &globex).await?;
                match answer.status {
                    200 => drop(small.fetch_add(1, Ordering::Relaxed)),
                    429 => sleep(Duration::from_millis(5)).await,
                    _ => return Err::<(), _>(anyhow::anyhow!("{answer:?}")),
                }
            }
        });
    }
    let acme: [(&[u8], &[u8]); 2] = [(b"x-tenant-id", b"acme"), (b"x-job", b"export")];
    // The first two come before what a pause has left is used up.
    let (mut large, mut begun, mut before) = (0, Instant::now(), 0);
    while large < LARGE + 2 {
        let answer = exchange(lone.address, "/quick", &acme).await?;
        match answer.status {
            200 => {
                large += 1;
                if large == 2 {
                    (begun, before) = (Instant::now(), small.load(Ordering::Relaxed));
                }
            }
            429 => sleep(Duration::from_millis(20)).await,
            _ => bail!("{answer:?}"),
        }
        if let Some(ended) = flood.try_join_next() {
            ended??;
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "{large} large requests passed, beside {} small ones",
            small.load(Ordering::Relaxed)
        );
    }
    let seconds = begun.elapsed().as_secs_f64();
    let small = small.load(Ordering::Relaxed) - before;
    // Half of what passes each, to a fifth of it.
    let half = seconds * TOTAL as f64 / 2.0;
    for had in [small, LARGE * COST] {
        ensure!(
            (had as f64 - half).abs() <= half / 5.0 + 2.0,
            "in {seconds} s {small} small requests passed, and {LARGE} that cost {COST}"
        );
    }
    println!("in {seconds:.1} s {small} small requests passed, and {LARGE} that cost {COST}");
    Ok(())
}
