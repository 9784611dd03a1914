//! Asks the proxies, once a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Counters;
use super::figures::{Figures, Health, Window};
use super::snapshot::{FILTER, Snapshot};

/// Between two questions, and how long an answer may take.
const PERIOD: Duration = Duration::from_secs(1);

/// A proxy and its admin interface.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) pod: String,
    pub(crate) admin: SocketAddr,
    pub(crate) gateway: bool,
}

/// Whom to ask, and for what.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) proxies: Vec<Proxy>,
    /// What to look for; may change while the mesh runs.
    pub(crate) counters: watch::Receiver<Counters>,
}

/// What a proxy answered.
enum Answer {
    Health(usize, Health),
    Stats(Instant, Option<Snapshot>),
}

/// Publishes figures until nobody wants them.
pub(crate) async fn poll(sources: Sources, length: Duration, figures: watch::Sender<Figures>) {
    // The user's proxy settings are not for this machine. Connections are kept: one to each proxy.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PERIOD)
        .build();
    let Ok(client) = client else { return };
    let mut window = Window::new(length);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !figures.is_closed() {
        ticks.tick().await;
        let mut asked = JoinSet::new();
        for (position, Proxy { admin, gateway, .. }) in sources.proxies.iter().enumerate() {
            let (client, admin) = (client.clone(), *admin);
            if *gateway {
                let client = client.clone();
                asked.spawn(async move {
                    let snapshot = stats(&client, admin).await;
                    Answer::Stats(Instant::now(), snapshot)
                });
            }
            asked.spawn(async move { Answer::Health(position, health(&client, admin).await) });
        }
        let pods = sources
            .proxies
            .iter()
            .map(|proxy| (proxy.pod.clone(), Health::Unknown));
        let mut proxies = Vec::from_iter(pods);
        // All gateways together, or nothing: a part of them would look like fewer requests.
        let mut together: Option<(Instant, Option<Snapshot>)> = None;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Answer::Health(position, health)) => proxies[position].1 = health,
                Ok(Answer::Stats(at, snapshot)) => {
                    together = Some(match together.take() {
                        None => (at, snapshot),
                        Some((at, sum)) => (
                            at,
                            sum.zip(snapshot).map(|(mut sum, one)| {
                                sum.add(one);
                                sum
                            }),
                        ),
                    });
                }
                Err(_) => {}
            }
        }
        if let Some((at, snapshot)) = together {
            window.push(at, snapshot);
        }
        let now = Figures {
            proxies,
            ..window.figures(&sources.counters.borrow())
        };
        figures.send_replace(now);
    }
}

async fn stats(client: &reqwest::Client, admin: SocketAddr) -> Option<Snapshot> {
    let query = [("usedonly", ""), ("format", "json"), ("filter", FILTER)];
    let url = reqwest::Url::parse_with_params(&format!("http://{admin}/stats"), query).ok()?;
    let answer = client.get(url).send().await.ok()?.error_for_status().ok()?;
    Snapshot::parse(&answer.bytes().await.ok()?).ok()
}

/// `/ready` says LIVE with 200, and with 503 what it is instead.
async fn health(client: &reqwest::Client, admin: SocketAddr) -> Health {
    let answer = async {
        let answer = client.get(format!("http://{admin}/ready")).send().await?;
        let live = answer.status().is_success();
        Ok::<_, reqwest::Error>((live, answer.text().await?))
    };
    match answer.await {
        Ok((true, _)) => Health::Live,
        Ok((false, state)) => Health::Says(state.trim().to_lowercase()),
        Err(_) => Health::Silent,
    }
}
