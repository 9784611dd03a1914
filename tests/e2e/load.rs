//! Customers who come all the time, so that whatever happens to the mesh happens to somebody's request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tollgate_tests::{LocalMesh, Target};

use crate::client::{Client, is_v2};

/// A request of one customer every so often: slow enough to leave the machine time for what is tested.
const PACE: Duration = Duration::from_millis(12);

/// The tenant that all of them are. It needs a limit that is out of reach.
pub(crate) const TENANT: &str = "load";

/// How one customer comes.
#[derive(Clone, Copy)]
enum Connections {
    /// One, kept.
    Kept,
    /// A new one for every request.
    Fresh,
}

/// A request for the catalogue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) begun: Instant,
    /// Which version answered.
    pub(crate) v2: bool,
    /// With the header `x-canary: yes`.
    pub(crate) canary: bool,
}

#[derive(Default)]
struct Seen {
    visits: Vec<Visit>,
    answered: u64,
    failures: Vec<String>,
}

/// Customers, until they are told to stop.
pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    customers: JoinSet<()>,
    begun: Instant,
}

impl Load {
    /// Sends customers of all kinds who have a token, and waits until each kind has been answered.
    pub(crate) async fn start(mesh: &LocalMesh) -> Result<Self> {
        let bearer = mesh.bearer("erin", TENANT)?;
        let headers = [("authorization", bearer.as_str())];
        // She orders what she has put into her cart.
        let mug = json!({"productId": "mug"});
        let answer = Client::of(mesh)?.post("/cart/erin", &headers, &mug).await?;
        // More than once, the cart may be full of it.
        ensure!([200, 201, 409].contains(&answer.status), "{answer:?}");
        Self::of(mesh, ("authorization", bearer), "erin").await
    }

    /// The same for customers who have none: of nobody, and known by this header.
    pub(crate) async fn start_with(mesh: &LocalMesh, who: (&'static str, String)) -> Result<Self> {
        Self::of(mesh, who, "alice").await
    }

    /// Customers who ask for what is this user's.
    async fn of(mesh: &LocalMesh, who: (&'static str, String), user: &'static str) -> Result<Self> {
        let mut load = Self {
            seen: Arc::default(),
            over: Arc::default(),
            customers: JoinSet::new(),
            begun: Instant::now(),
        };
        for connections in [
            Connections::Kept,
            Connections::Kept,
            Connections::Kept,
            Connections::Fresh,
            Connections::Fresh,
        ] {
            let client = match connections {
                Connections::Kept => Client::of(mesh)?,
                Connections::Fresh => Client::on_fresh_connections(mesh)?,
            };
            let (seen, over) = (Arc::clone(&load.seen), Arc::clone(&load.over));
            load.customers
                .spawn(come(client, who.clone(), user, seen, over));
        }
        load.more(100).await?;
        Ok(load)
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn more(&self, requests: u64) -> Result<()> {
        let enough = self.seen().answered + requests;
        self.until(
            |seen| seen.answered >= enough,
            || format!("{requests} more answers"),
        )
        .await
    }

    /// Waits until the last so many visits were as wanted.
    pub(crate) async fn until_visits(
        &self,
        number: usize,
        what: &str,
        wanted: impl Fn(&Visit) -> bool,
    ) -> Result<()> {
        let since = Instant::now();
        let as_wanted = |seen: &Seen| {
            let recent = seen.visits.iter().rev().take_while(|v| v.begun >= since);
            recent.clone().count() >= number && recent.take(number).all(&wanted)
        };
        self.until(as_wanted, || format!("the last {number} visits {what}"))
            .await
    }

    async fn until(
        &self,
        condition: impl Fn(&Seen) -> bool,
        what: impl Fn() -> String,
    ) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut looks = interval(Duration::from_millis(2));
        loop {
            looks.tick().await;
            {
                let seen = self.seen();
                ensure!(seen.failures.is_empty(), "{}", report(&seen));
                if condition(&seen) {
                    return Ok(());
                }
            }
            ensure!(Instant::now() < deadline, "not within 30 s: {}", what());
        }
    }

    /// The visits so far.
    pub(crate) fn visits(&self) -> Vec<Visit> {
        self.seen().visits.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends everybody home. No request may have failed.
    pub(crate) async fn end(mut self, name: &str) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        while let Some(customer) = self.customers.join_next().await {
            customer?;
        }
        let seen = self.seen();
        eprintln!(
            "{name}: {} requests in {:.1} s, {} failed",
            seen.answered,
            self.begun.elapsed().as_secs_f32(),
            seen.failures.len()
        );
        ensure!(seen.failures.is_empty(), "{}", report(&seen));
        Ok(())
    }
}

fn report(seen: &Seen) -> String {
    let first: Vec<&str> = seen.failures.iter().take(5).map(String::as_str).collect();
    format!(
        "{} of {} requests failed:\n{}",
        seen.failures.len(),
        seen.answered,
        first.join("\n")
    )
}

async fn come(
    client: Client,
    who: (&'static str, String),
    user: &'static str,
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let who = (who.0, who.1.as_str());
    let mut number = 0_u64;
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        number += 1;
        let begun = Instant::now();
        // An order passes through five sidecars.
        let order = json!({"userId": user});
        let (what, canary, wanted) = match number % 10 {
            0 => ("POST /orders", None, 201),
            3 => ("GET /cart", None, 200),
            n => ("GET /products", Some(n % 2 == 1), 200),
        };
        let answer = match canary {
            Some(true) => client.get("/products", &[who, ("x-canary", "yes")]).await,
            Some(false) => client.get("/products", &[who]).await,
            None if wanted == 201 => client.post("/orders", &[who], &order).await,
            None => client.get(&format!("/cart/{user}"), &[who]).await,
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.answered += 1;
        match answer {
            Ok(answer) if answer.status == wanted => {
                if let Some(canary) = canary {
                    let v2 = is_v2(&answer.body);
                    seen.visits.push(Visit { begun, v2, canary });
                }
            }
            Ok(answer) => seen.failures.push(format!("{what}: {answer:?}")),
            Err(error) => seen.failures.push(format!("{what}: {error:?}")),
        }
    }
}
