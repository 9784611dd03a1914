//! One running proxy, and how it becomes another without a request failing.
//!
//! File xDS has no order of its own: Envoy takes each file when it is replaced, knowing nothing of the others. So the order is made
//! here, file by file, and before the next file the Envoy's admin interface must say that the last one was taken:
//!
//! 1. clusters, the new ones beside all old ones, until none of them is warming;
//! 2. what running filters are told, which they may refuse;
//! 3. listeners, until none of them is warming. A filter that is new here is tried first, in a listener that takes no
//!    connections: a filter that refuses its configuration would otherwise answer every request with 500;
//! 4. routes, which now name only clusters that are there, and rely on filters that are there;
//! 5. clusters without those that nothing names any more, but only after a while ([`KEPT`]).
//!
//! Envoy hands routes and clusters to its workers in the order in which it took them, so no worker has routes without their
//! clusters. A request that chose its cluster before it went may still be on its way there: delayed by a fault, or to be
//! tried once more. That is what the last step waits for. The files of what is gone are removed with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate_mesh::envoy::{ProxyConfiguration, Subscription};
use tollgate_mesh::model::PodName;

use super::admin::{self, Admin, Silence, Stats};
use crate::up::xds;

/// How long a cluster stays after the last route to it has gone: longer than a request usually takes, and than a listener is
/// drained.
pub(crate) const KEPT: Duration = Duration::from_secs(20);

/// Generous: a module may have to be compiled, on a machine with other things to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// Between the first two questions to one Envoy, and at most between any two.
const INTERVAL: Duration = Duration::from_millis(2);
const LONGEST_INTERVAL: Duration = Duration::from_millis(100);

/// A listener to try a filter in. Nobody can connect to it: it is not bound to any address.
const TRIAL: &str = "tollgate_trial_";

/// Any but that of another listener.
const TRIAL_ADDRESS: &str = "127.255.255.254";

/// Why a proxy did not become what it should.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) pod: PodName,
    /// What it did not take.
    pub(crate) subscription: Subscription,
    pub(crate) reason: String,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) pod: PodName,
    pub(crate) directory: PathBuf,
    pub(crate) admin: Admin,
    pub(crate) log: PathBuf,
    /// What it is, or was before it went on a way that did not end well.
    told: ProxyConfiguration,
    /// Whether it is that.
    arrived: bool,
    /// The version in each of its files.
    written: BTreeMap<Subscription, String>,
    /// The clusters in their file: its own, and those that have not left yet.
    clusters: Vec<Value>,
    /// Since when nothing names these clusters.
    leaving: BTreeMap<String, Instant>,
    /// Since when nothing reads these files.
    unread: BTreeMap<Subscription, Instant>,
}

impl Proxy {
    pub(crate) fn new(
        pod: PodName,
        directory: PathBuf,
        admin: Admin,
        log: PathBuf,
        told: ProxyConfiguration,
    ) -> Self {
        let subscriptions = told.subscriptions().into_iter();
        let written = subscriptions
            .map(|subscription| {
                let resources = told.resources(&subscription);
                let version = subscription.version(resources);
                (subscription, version)
            })
            .collect();
        Self {
            pod,
            directory,
            admin,
            log,
            clusters: told.clusters.clone(),
            told,
            arrived: true,
            written,
            leaving: BTreeMap::new(),
            unread: BTreeMap::new(),
        }
    }

    /// What it is.
    pub(crate) fn told(&self) -> &ProxyConfiguration {
        &self.told
    }

    /// Takes another configuration. If that fails, it has something in between, which serves; taking the old one leads back.
    pub(crate) async fn take(&mut self, target: &ProxyConfiguration) -> Result<(), Refusal> {
        if self.arrived && self.told == *target {
            return Ok(());
        }
        self.arrived = false;
        let mut way = Way {
            log_begin: std::fs::metadata(&self.log).map_or(0, |log| log.len()),
            begun: false,
            refusals: None,
            proxy: self,
        };
        way.go(target).await?;
        self.arrive(target);
        Ok(())
    }

    fn arrive(&mut self, target: &ProxyConfiguration) {
        self.told = target.clone();
        self.arrived = true;
        let now = Instant::now();
        let own: BTreeSet<&str> = self.told.clusters.iter().filter_map(name).collect();
        let left = self.clusters.iter().filter_map(name);
        let mut leaving: BTreeMap<String, Instant> = left
            .filter(|name| !own.contains(name))
            .map(|name| (name.to_owned(), now))
            .collect();
        leaving.extend(
            std::mem::take(&mut self.leaving)
                .into_iter()
                .filter(|(name, _)| leaving.contains_key(name))
                .collect::<Vec<_>>(),
        );
        self.leaving = leaving;
        let read = self.told.subscriptions();
        self.unread = self
            .written
            .keys()
            .filter(|written| !read.contains(written))
            .map(|written| {
                let since = self.unread.get(written).copied().unwrap_or(now);
                (written.clone(), since)
            })
            .collect();
    }

    /// When something of it may go.
    pub(crate) fn parting(&self) -> Option<Instant> {
        let since = self.leaving.values().chain(self.unread.values()).min()?;
        Some(*since + KEPT)
    }

    /// Lets go what nothing has named for long enough.
    pub(crate) async fn part(&mut self) -> Result<(), Refusal> {
        let now = Instant::now();
        let over = |since: &Instant| *since + KEPT <= now;
        let unread: Vec<Subscription> = self
            .unread
            .iter()
            .filter(|(_, since)| over(since))
            .map(|(subscription, _)| subscription.clone())
            .collect();
        for subscription in unread {
            // It is in nobody's way if it stays.
            let _ = std::fs::remove_file(subscription.path(&self.directory));
            self.unread.remove(&subscription);
            self.written.remove(&subscription);
        }
        if !self.leaving.values().any(over) {
            return Ok(());
        }
        self.leaving.retain(|_, since| !over(since));
        let own: BTreeSet<&str> = self.told.clusters.iter().filter_map(name).collect();
        let stays = |cluster: &&Value| {
            name(cluster).is_some_and(|name| own.contains(name) || self.leaving.contains_key(name))
        };
        let clusters: Vec<Value> = self.clusters.iter().filter(stays).cloned().collect();
        let mut way = Way {
            log_begin: std::fs::metadata(&self.log).map_or(0, |log| log.len()),
            begun: false,
            refusals: None,
            proxy: self,
        };
        way.tell(vec![(Subscription::Clusters, clusters)]).await
    }
}

fn name(resource: &Value) -> Option<&str> {
    resource.get("name")?.as_str()
}

/// A proxy on its way to be another.
struct Way<'a> {
    proxy: &'a mut Proxy,
    /// Where its log ended before.
    log_begin: u64,
    /// Whether it was told anything.
    begun: bool,
    /// What it had refused before that.
    refusals: Option<Stats>,
}

impl Way<'_> {
    async fn go(&mut self, target: &ProxyConfiguration) -> Result<(), Refusal> {
        let (told, subscriptions) = (self.proxy.told.subscriptions(), target.subscriptions());
        let (known, new): (Vec<_>, Vec<_>) = subscriptions
            .into_iter()
            .partition(|subscription| told.contains(subscription));
        // Nobody reads these yet.
        for subscription in &new {
            self.write(subscription, target.resources(subscription))?;
        }

        self.tell(vec![(Subscription::Clusters, self.both(target))])
            .await?;
        self.warm(Subscription::Clusters).await?;

        let of_kind = |wanted: fn(&Subscription) -> bool| -> Vec<(Subscription, Vec<Value>)> {
            let subscriptions = known.iter().filter(|subscription| wanted(subscription));
            subscriptions
                .map(|subscription| {
                    (
                        subscription.clone(),
                        target.resources(subscription).to_vec(),
                    )
                })
                .collect()
        };
        self.tell(of_kind(|subscription| {
            matches!(subscription, Subscription::Extension(_))
        }))
        .await?;

        let listeners = vec![(Subscription::Listeners, target.listeners.clone())];
        if self.differs(&listeners) {
            self.try_extensions(&new, target).await?;
            self.tell(listeners).await?;
            self.warm(Subscription::Listeners).await?;
        }

        self.tell(of_kind(|subscription| {
            matches!(subscription, Subscription::Routes(_))
        }))
        .await
    }

    /// The target's clusters, and all others that are there.
    fn both(&self, target: &ProxyConfiguration) -> Vec<Value> {
        let new: BTreeSet<&str> = target.clusters.iter().filter_map(name).collect();
        let others = self
            .proxy
            .clusters
            .iter()
            .filter(|cluster| name(cluster).is_some_and(|name| !new.contains(name)));
        target.clusters.iter().chain(others).cloned().collect()
    }

    fn differs(&self, resources: &[(Subscription, Vec<Value>)]) -> bool {
        resources.iter().any(|(subscription, resources)| {
            self.proxy.written.get(subscription) != Some(&subscription.version(resources))
        })
    }

    /// Lets the filters that are new here say whether they take what they are told.
    async fn try_extensions(
        &mut self,
        new: &[Subscription],
        target: &ProxyConfiguration,
    ) -> Result<(), Refusal> {
        let extensions: Vec<Subscription> = new
            .iter()
            .filter(|subscription| matches!(subscription, Subscription::Extension(_)))
            .cloned()
            .collect();
        if extensions.is_empty() {
            return Ok(());
        }
        let trials = target.listeners.iter().map(|listener| {
            let mut trial = listener.clone();
            trial["name"] = json!(format!("{TRIAL}{}", name(listener).unwrap_or_default()));
            trial["bind_to_port"] = json!(false);
            trial["address"]["socket_address"]["address"] = json!(TRIAL_ADDRESS);
            trial
        });
        let listeners = self.proxy.told.listeners.iter().cloned().chain(trials);
        self.tell(vec![(Subscription::Listeners, listeners.collect())])
            .await?;
        let wanted = extensions.into_iter().filter_map(|subscription| {
            let version = self.proxy.written.get(&subscription)?.clone();
            Some((subscription, version))
        });
        let wanted: Vec<_> = wanted.collect();
        self.taken(&wanted).await
    }

    /// Writes those of these files that say something new, and waits until they are taken.
    async fn tell(&mut self, resources: Vec<(Subscription, Vec<Value>)>) -> Result<(), Refusal> {
        if !self.differs(&resources) {
            return Ok(());
        }
        if !self.begun {
            self.begun = true;
            // Who does not answer now will be waited for below.
            self.refusals = self.proxy.admin.refusals().await.ok();
        }
        let mut wanted = Vec::new();
        for (subscription, resources) in resources {
            let before = self.proxy.written.get(&subscription).cloned();
            let version = self.write(&subscription, &resources)?;
            if subscription == Subscription::Clusters {
                self.proxy.clusters = resources;
            }
            if before.as_ref() != Some(&version) {
                wanted.push((subscription, version));
            }
        }
        self.taken(&wanted).await
    }

    fn write(
        &mut self,
        subscription: &Subscription,
        resources: &[Value],
    ) -> Result<String, Refusal> {
        let version = subscription.version(resources);
        if self.proxy.written.get(subscription) != Some(&version) {
            let path = subscription.path(&self.proxy.directory);
            xds::write(&[(path, subscription.text(resources))])
                .map_err(|error| self.refusal(subscription, format!("{error:#}")))?;
            self.proxy
                .written
                .insert(subscription.clone(), version.clone());
        }
        Ok(version)
    }

    /// Waits until the Envoy has taken these versions.
    async fn taken(&self, wanted: &[(Subscription, String)]) -> Result<(), Refusal> {
        let mut patience = Patience::new();
        loop {
            let (waits_for, reason) = match self.proxy.admin.versions().await {
                Ok(stats) => {
                    let missing = wanted.iter().find(|(subscription, version)| {
                        admin::version(&stats, subscription) != Some(version)
                    });
                    let Some((subscription, _)) = missing else {
                        return Ok(());
                    };
                    let reason = "it has not taken it";
                    (subscription, reason.to_owned())
                }
                // Nobody is left to be told anything; the rest of the mesh goes on.
                Err(Silence::Gone) => return Ok(()),
                Err(Silence::Other(reason)) => match wanted.first() {
                    Some((subscription, _)) => (subscription, reason),
                    None => return Ok(()),
                },
            };
            if let (Some(before), Ok(now)) = (&self.refusals, self.proxy.admin.refusals().await) {
                for (subscription, _) in wanted {
                    if admin::refusals(&now, subscription) > admin::refusals(before, subscription) {
                        return Err(self.refused(subscription));
                    }
                }
            }
            if !patience.wait().await {
                return Err(self.late(waits_for, &reason));
            }
        }
    }

    /// Waits until what was taken serves.
    async fn warm(&self, subscription: Subscription) -> Result<(), Refusal> {
        if !self.begun {
            return Ok(());
        }
        let mut patience = Patience::new();
        loop {
            let reason = match self.proxy.admin.warming().await {
                Ok(stats) => match admin::count(&stats) {
                    0 => return Ok(()),
                    count => format!("{count} of them are not ready"),
                },
                Err(Silence::Gone) => return Ok(()),
                Err(Silence::Other(reason)) => reason,
            };
            if !patience.wait().await {
                return Err(self.late(&subscription, &reason));
            }
        }
    }

    fn refusal(&self, subscription: &Subscription, reason: String) -> Refusal {
        Refusal {
            pod: self.proxy.pod.clone(),
            subscription: subscription.clone(),
            reason,
        }
    }

    fn late(&self, subscription: &Subscription, reason: &str) -> Refusal {
        let seconds = DEADLINE.as_secs();
        let log = self.proxy.log.display();
        self.refusal(
            subscription,
            format!("after {seconds} s: {reason}; {log} may say why"),
        )
    }

    /// The reason is in the log.
    fn refused(&self, subscription: &Subscription) -> Refusal {
        let log = std::fs::read(&self.proxy.log).unwrap_or_default();
        let begin = usize::try_from(self.log_begin)
            .unwrap_or(usize::MAX)
            .min(log.len());
        let log = String::from_utf8_lossy(log.get(begin..).unwrap_or_default());
        let plugin = match subscription {
            Subscription::Extension(name) => Some(name.as_str()),
            _ => None,
        };
        let reason =
            why(&log, plugin).unwrap_or_else(|| format!("{} says why", self.proxy.log.display()));
        self.refusal(subscription, reason)
    }
}

/// What an Envoy's log says about a refusal: best what the plugin itself said.
fn why(log: &str, plugin: Option<&str>) -> Option<String> {
    let of_plugin = plugin.and_then(|plugin| {
        let mut said = log
            .lines()
            .filter(|line| line.contains("[error][wasm]") || line.contains("[critical][wasm]"))
            .filter_map(|line| {
                let (_, said) = line.split_once("wasm log ")?;
                said.strip_prefix(plugin)
            })
            // Which root and context said it follows the name.
            .filter_map(|said| said.split_once(": ").map(|(_, text)| text.trim()));
        said.next_back()
    });
    let of_envoy = || {
        let mut rejected = log
            .lines()
            .filter_map(|line| line.split_once("update rejected: ").map(|(_, text)| text));
        rejected.next_back()
    };
    of_plugin.or_else(of_envoy).map(str::to_owned)
}

/// Ever longer waits, up to a deadline.
struct Patience {
    end: Instant,
    interval: Duration,
}

impl Patience {
    fn new() -> Self {
        Self {
            end: Instant::now() + DEADLINE,
            interval: INTERVAL,
        }
    }

    /// False when it is at an end.
    async fn wait(&mut self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        tokio::time::sleep(self.interval).await;
        self.interval = self.interval.mul_f32(1.5).min(LONGEST_INTERVAL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_explains_its_refusal_better_than_envoy() {
        let log = "\
[2026-11-21 05:47:26.300][2857][error][wasm] [source/extensions/common/wasm/context.cc:1149] wasm log istio-system.limit: \
configuration refused: tiers.free: a tier without limits
[2026-11-21 05:47:26.301][2857][error][wasm] [source/extensions/common/wasm/wasm.cc:104] Wasm VM failed Failed to configure
[2026-11-21 05:47:26.311][2857][warning][config] [source/x.cc:81] Filesystem config update rejected: Unable to create Wasm \
plugin istio-system.limit
";
        assert_eq!(
            why(log, Some("istio-system.limit")).as_deref(),
            Some("configuration refused: tiers.free: a tier without limits")
        );
        assert_eq!(
            why(log, Some("istio-system.other")).as_deref(),
            Some("Unable to create Wasm plugin istio-system.limit")
        );
        assert_eq!(why("", None), None);
    }
}
