//! Waits until everything serves, without sending a request through any filter: nothing is counted against a tenant and
//! no metric moves before the first request of the user.
//!
//! A service is ready when its readiness probe says so. An Envoy says "ready" also when it has refused its configuration,
//! so it is asked what it has taken: its listeners must be open in every worker, and everything it was given by file
//! must have been accepted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::supervisor::last_lines;
use crate::error::Hint;

/// Generous: a machine of CI may start dozens of proxies at once, each compiling modules in every worker.
const DEADLINE: Duration = Duration::from_secs(180);

/// Between the first two questions to one process, and at most between any two: what takes long to start should not be
/// slowed down by being asked.
const INTERVAL: Duration = Duration::from_millis(20);
const LONGEST_INTERVAL: Duration = Duration::from_millis(250);

/// A process on this machine answers within it or is busy starting.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many lines of a log explain why something is not ready.
const LINES: usize = 10;

/// Something to wait for.
#[derive(Clone, Debug)]
pub(crate) struct Awaited {
    pub(crate) pod: String,
    pub(crate) process: String,
    pub(crate) log: PathBuf,
    pub(crate) sign: Sign,
}

/// What tells that it serves.
#[derive(Clone, Debug)]
pub(crate) enum Sign {
    /// This port takes connections.
    Port(SocketAddr),
    /// An answer from 200 to 399.
    Answer(String),
    /// An Envoy has taken all of its configuration.
    Envoy(Proxy),
}

/// An Envoy and what it was configured with.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) admin: SocketAddr,
    pub(crate) workers: u32,
    pub(crate) listeners: usize,
    pub(crate) routes: usize,
    pub(crate) extensions: usize,
}

/// How something stands.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Not yet, and why.
    Waiting(String),
    /// Never, and why.
    Failed(String),
}

/// Waits for all of them at once; the first that cannot become ready ends it.
pub(crate) async fn all(awaited: Vec<Awaited>) -> anyhow::Result<()> {
    // The user's proxy settings are not for this machine.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .context("cannot make an HTTP client")?;
    let deadline = Instant::now() + DEADLINE;
    let mut waiting = JoinSet::new();
    for one in awaited {
        let client = client.clone();
        waiting.spawn(async move { until_ready(&one, &client, deadline).await });
    }
    while let Some(result) = waiting.join_next().await {
        result.context("cannot wait for a process")??;
    }
    Ok(())
}

async fn until_ready(
    awaited: &Awaited,
    client: &reqwest::Client,
    deadline: Instant,
) -> anyhow::Result<()> {
    let Awaited {
        pod,
        process,
        log,
        sign,
    } = awaited;
    let mut interval = INTERVAL;
    loop {
        let reason = match look(sign, client).await {
            State::Ready => return Ok(()),
            State::Failed(reason) => format!("{pod}: {process} cannot serve: {reason}"),
            State::Waiting(_) if Instant::now() < deadline => {
                tokio::time::sleep(interval).await;
                interval = interval.mul_f32(1.5).min(LONGEST_INTERVAL);
                continue;
            }
            State::Waiting(reason) => {
                format!(
                    "{pod}: {process} is not ready after {} s: {reason}",
                    DEADLINE.as_secs()
                )
            }
        };
        let last = last_lines(log, LINES);
        let last = if last.is_empty() {
            "nothing".to_owned()
        } else {
            last.join("\n")
        };
        return Err(anyhow!("{reason}")).hint(format!("{} ends with:\n{last}", log.display()));
    }
}

async fn look(sign: &Sign, client: &reqwest::Client) -> State {
    match sign {
        Sign::Port(address) => match TcpStream::connect(address).await {
            Ok(_) => State::Ready,
            Err(error) => State::Waiting(format!("{address}: {error}")),
        },
        Sign::Answer(url) => match client.get(url).send().await {
            Ok(answer) if (200..400).contains(&answer.status().as_u16()) => State::Ready,
            Ok(answer) => State::Waiting(format!("{url} answers {}", answer.status())),
            Err(error) => State::Waiting(format!("{url} does not answer: {}", root(&error))),
        },
        Sign::Envoy(proxy) => {
            let admin = proxy.admin;
            if let Err(reason) = get(client, format!("http://{admin}/ready")).await {
                return State::Waiting(reason);
            }
            // What file xDS, listeners, routes and filters report.
            let stats =
                r"^listener_manager\.|^cluster_manager\.|\.rds\.|^extension_config_discovery\.";
            let url = reqwest::Url::parse_with_params(
                &format!("http://{admin}/stats"),
                [("filter", stats)],
            );
            match url {
                Ok(url) => match get(client, url).await {
                    Ok(stats) => proxy.judge(&parse(&stats)),
                    Err(reason) => State::Waiting(reason),
                },
                Err(error) => State::Failed(format!("{admin} makes no URL: {error}")),
            }
        }
    }
}

async fn get(client: &reqwest::Client, url: impl reqwest::IntoUrl) -> Result<String, String> {
    let url = url.into_url().map_err(|error| error.to_string())?;
    let said = |error: &reqwest::Error| format!("{url} does not answer: {}", root(error));
    let answer = client
        .get(url.clone())
        .send()
        .await
        .map_err(|error| said(&error))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| said(&error))?;
    if status.is_success() {
        Ok(text)
    } else {
        Err(format!("{url} answers {status}: {}", text.trim()))
    }
}

/// reqwest's own text repeats the URL and leaves out why.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Envoy's stats, `name: value` a line. Names may have colons in them; histograms have no number and are left out.
fn parse(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| line.rsplit_once(": "))
        .filter_map(|(name, value)| Some((name, value.trim().parse().ok()?)))
        .collect()
}

impl Proxy {
    fn judge(&self, stats: &BTreeMap<&str, u64>) -> State {
        for (name, count) in stats {
            let refused = [
                ".update_rejected",
                ".update_failure",
                ".config_fail",
                ".listener_create_failure",
            ];
            if *count > 0 && refused.iter().any(|suffix| name.ends_with(suffix)) {
                return State::Failed(format!(
                    "the Envoy refused a part of its configuration ({name}: {count})"
                ));
            }
        }
        let value = |name: &str| stats.get(name).copied().unwrap_or(0);
        let listeners = self.listeners as u64;
        let taken = |prefix: &str| {
            stats
                .iter()
                .filter(|(name, count)| {
                    name.contains(prefix) && name.ends_with(".update_success") && **count > 0
                })
                .count()
        };
        // (what, there is, there must be)
        let demands = [
            (
                "cluster updates",
                value("cluster_manager.cds.update_success"),
                1,
            ),
            (
                "listener updates",
                value("listener_manager.lds.update_success"),
                1,
            ),
            ("routes", taken(".rds.") as u64, self.routes as u64),
            (
                "filters",
                taken("extension_config_discovery.") as u64,
                self.extensions as u64,
            ),
            (
                "listeners",
                value("listener_manager.total_listeners_active"),
                listeners,
            ),
            // Each worker opens each listener.
            (
                "listeners of workers",
                value("listener_manager.listener_create_success"),
                listeners * u64::from(self.workers),
            ),
            (
                "started workers",
                value("listener_manager.workers_started"),
                1,
            ),
        ];
        for (what, there, needed) in demands {
            if there < needed {
                return State::Waiting(format!("it has {there} of {needed} {what}"));
            }
        }
        for warming in [
            "cluster_manager.warming_clusters",
            "listener_manager.total_listeners_warming",
        ] {
            if value(warming) > 0 {
                return State::Waiting(format!("{warming} is {}", value(warming)));
            }
        }
        State::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = "\
cluster_manager.cds.update_rejected: 0
cluster_manager.cds.update_success: 1
cluster_manager.warming_clusters: 0
extension_config_discovery.http_filter.istio-system.tenant-rate-limit.config_fail: 0
extension_config_discovery.http_filter.istio-system.tenant-rate-limit.update_success: 1
http.inbound_0.0.0.0_8080.rds.http.8080.update_rejected: 0
http.inbound_0.0.0.0_8080.rds.http.8080.update_success: 1
listener_manager.lds.update_rejected: 0
listener_manager.lds.update_success: 1
listener_manager.lds.update_duration: No recorded values
listener_manager.listener_create_failure: 0
listener_manager.listener_create_success: 4
listener_manager.total_listeners_active: 2
listener_manager.total_listeners_warming: 0
listener_manager.workers_started: 1
";

    fn judged(stats: &str) -> State {
        let admin = SocketAddr::from(([127, 0, 0, 1], 1));
        Proxy {
            admin,
            workers: 2,
            listeners: 2,
            routes: 1,
            extensions: 1,
        }
        .judge(&parse(stats))
    }

    #[test]
    fn an_envoy_that_has_taken_everything_is_ready() {
        assert_eq!(judged(STATS), State::Ready);
    }

    #[test]
    fn a_listener_that_a_worker_has_not_opened_is_waited_for() {
        assert_eq!(
            judged(&STATS.replace("create_success: 4", "create_success: 3")),
            State::Waiting("it has 3 of 4 listeners of workers".to_owned())
        );
    }

    #[test]
    fn a_filter_that_has_not_come_is_waited_for() {
        assert_eq!(
            judged(&STATS.replace(
                "tenant-rate-limit.update_success: 1",
                "tenant-rate-limit.update_success: 0"
            )),
            State::Waiting("it has 0 of 1 filters".to_owned())
        );
    }

    #[test]
    fn what_was_refused_is_never_waited_for() {
        assert_eq!(
            judged(&STATS.replace("tenant-rate-limit.config_fail: 0", "tenant-rate-limit.config_fail: 1")),
            State::Failed(
                "the Envoy refused a part of its configuration \
                 (extension_config_discovery.http_filter.istio-system.tenant-rate-limit.config_fail: 1)"
                    .to_owned()
            )
        );
        assert_eq!(
            judged(&STATS.replace("8080.update_rejected: 0", "8080.update_rejected: 1")),
            State::Failed(
                "the Envoy refused a part of its configuration (http.inbound_0.0.0.0_8080.rds.http.8080.update_rejected: 1)"
                    .to_owned()
            )
        );
    }

    #[test]
    fn nothing_at_all_is_not_ready() {
        assert_eq!(
            judged(""),
            State::Waiting("it has 0 of 1 cluster updates".to_owned())
        );
    }
}
