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
use std::sync::Arc;
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
    told: Arc<ProxyConfiguration>,
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
        told: Arc<ProxyConfiguration>,
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
    pub(crate) async fn take(&mut self, target: &Arc<ProxyConfiguration>) -> Result<(), Refusal> {
        if self.arrived && self.told == *target {
            return Ok(());
        }
        self.arrived = false;
        Way::new(self).go(target).await?;
        self.arrive(target);
        Ok(())
    }

    fn arrive(&mut self, target: &Arc<ProxyConfiguration>) {
        self.told = Arc::clone(target);
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

    /// When something of it may go. Of one that is halfway to another nobody knows what it needs.
    pub(crate) fn parting(&self) -> Option<Instant> {
        if !self.arrived {
            return None;
        }
        let since = self.leaving.values().chain(self.unread.values()).min()?;
        Some(*since + KEPT)
    }

    /// Lets go what nothing has named for long enough.
    pub(crate) async fn part(&mut self) -> Result<(), Refusal> {
        let now = Instant::now();
        if self.parting().is_none_or(|moment| moment > now) {
            return Ok(());
        }
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
        Way::new(self)
            .tell(vec![(Subscription::Clusters, clusters)])
            .await
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

impl<'a> Way<'a> {
    fn new(proxy: &'a mut Proxy) -> Self {
        Self {
            log_begin: std::fs::metadata(&proxy.log).map_or(0, |log| log.len()),
            begun: false,
            refusals: None,
            proxy,
        }
    }

    async fn go(&mut self, target: &ProxyConfiguration) -> Result<(), Refusal> {
        let (told, subscriptions) = (self.proxy.told.subscriptions(), target.subscriptions());
        let (known, new): (Vec<_>, Vec<_>) = subscriptions
            .into_iter()
            .partition(|subscription| told.contains(subscription));
        if !new.is_empty() {
            self.begin().await;
            for subscription in &new {
                let resources = target.resources(subscription);
                if let Some(version) = self.new_version(subscription, resources) {
                    self.write(subscription, resources, &version)?;
                }
            }
            // Nobody reads these yet, unless a listener with the same filter is still being drained. Then Envoy takes or
            // refuses them before it answers this, and a new listener does not begin with what was there before.
            let _ = self.proxy.admin.versions().await;
        }

        let before = self.proxy.clusters.clone();
        if let Err(refusal) = self.add_clusters(target).await {
            // No route leads to the new ones yet, and with them nothing that is told later would be taken either: not even
            // the way back.
            self.proxy.clusters = before;
            return Err(refusal);
        }

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

        let listeners = Subscription::Listeners;
        if self.new_version(&listeners, &target.listeners).is_some() {
            self.try_extensions(&new, target).await?;
            self.tell(vec![(listeners, target.listeners.clone())])
                .await?;
            self.warm(Subscription::Listeners).await?;
        }

        self.tell(of_kind(|subscription| {
            matches!(subscription, Subscription::Routes(_))
        }))
        .await
    }

    async fn add_clusters(&mut self, target: &ProxyConfiguration) -> Result<(), Refusal> {
        self.tell(vec![(Subscription::Clusters, self.both(target))])
            .await?;
        self.warm(Subscription::Clusters).await
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

    /// The version of these resources, unless it is what the file has.
    fn new_version(&self, subscription: &Subscription, resources: &[Value]) -> Option<String> {
        let version = subscription.version(resources);
        (self.proxy.written.get(subscription) != Some(&version)).then_some(version)
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
        let listeners = vec![(Subscription::Listeners, listeners.collect())];
        // A listener is refused because of a filter that was refused before it: so the filters first.
        let mut wanted: Vec<_> = extensions
            .into_iter()
            .filter_map(|subscription| {
                let version = self.proxy.written.get(&subscription)?.clone();
                Some((subscription, version))
            })
            .collect();
        wanted.extend(self.put(listeners).await?);
        self.taken(&wanted).await
    }

    /// Remembers what was refused before anything is told.
    async fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            // Who does not answer now will be waited for later.
            self.refusals = self.proxy.admin.refusals().await.ok();
        }
    }

    /// Writes those of these files that say something new, and waits until they are taken.
    async fn tell(&mut self, resources: Vec<(Subscription, Vec<Value>)>) -> Result<(), Refusal> {
        let wanted = self.put(resources).await?;
        self.taken(&wanted).await
    }

    /// Writes those of these files that say something new. Which, and in which version.
    async fn put(
        &mut self,
        resources: Vec<(Subscription, Vec<Value>)>,
    ) -> Result<Vec<(Subscription, String)>, Refusal> {
        let mut wanted = Vec::new();
        for (subscription, resources) in resources {
            let Some(version) = self.new_version(&subscription, &resources) else {
                continue;
            };
            self.begin().await;
            self.write(&subscription, &resources, &version)?;
            if subscription == Subscription::Clusters {
                self.proxy.clusters = resources;
            }
            wanted.push((subscription, version));
        }
        Ok(wanted)
    }

    fn write(
        &mut self,
        subscription: &Subscription,
        resources: &[Value],
        version: &str,
    ) -> Result<(), Refusal> {
        let path = subscription.path(&self.proxy.directory);
        xds::write(&[(path, subscription.text(resources, version))])
            .map_err(|error| self.refusal(subscription, format!("{error:#}")))?;
        self.proxy
            .written
            .insert(subscription.clone(), version.to_owned());
        Ok(())
    }

    /// Waits until the Envoy has taken these versions.
    async fn taken(&self, wanted: &[(Subscription, String)]) -> Result<(), Refusal> {
        if wanted.is_empty() {
            return Ok(());
        }
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

/// What an Envoy's log says about a refusal: best what the plugin itself said. A plugin's lines have no name, but the one
/// that says which plugin has failed comes soon after them.
fn why(log: &str, plugin: Option<&str>) -> Option<String> {
    let of_plugin = |plugin: &str| {
        let failed = log.rfind(&format!("Plugin {plugin} failed to load"))?;
        let mut said = log
            .get(..failed)?
            .lines()
            .filter(|line| line.contains("[error][wasm]") || line.contains("[critical][wasm]"))
            // Which root and VM said it comes before the colon, if they have names.
            .filter_map(|line| line.split_once("] wasm log")?.1.split_once(": "))
            .map(|(_, said)| said.trim());
        said.next_back()
    };
    let of_envoy = || {
        let rejected = log.split("\n[").filter_map(|entry| {
            let (_, reason) = entry.split_once("update rejected: ")?;
            // Envoy may show, in many lines under this mark, what it means, before it says what is wrong with that.
            let mut lines = reason.lines();
            let first = lines.next()?;
            let first = first.split(": goo.gle/debug").next()?.trim();
            let last = lines.filter_map(|line| line.strip_prefix(": ")).next_back();
            Some(last.map_or_else(|| first.to_owned(), |last| format!("{first}: {last}")))
        });
        rejected.last()
    };
    plugin
        .and_then(of_plugin)
        .map(str::to_owned)
        .or_else(of_envoy)
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
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::up::live::client;

    /// What the Envoy here takes nothing with.
    const BAD: &str = "no Envoy takes this";

    /// In place of an Envoy, of which the shipped checks leave nothing to refuse: takes or refuses what changed in its files
    /// whenever it is asked for its stats.
    #[derive(Default)]
    struct Envoy {
        seen: BTreeMap<Subscription, String>,
        versions: BTreeMap<Subscription, String>,
        refused: BTreeMap<Subscription, u64>,
    }

    impl Envoy {
        fn look(&mut self, directory: &Path, subscriptions: &[Subscription]) {
            let mut bad_filter = false;
            for subscription in subscriptions {
                let Ok(text) = std::fs::read_to_string(subscription.path(directory)) else {
                    continue;
                };
                let mut bad = text.contains(BAD);
                match subscription {
                    Subscription::Extension(_) => bad_filter |= bad,
                    // A filter that is bad already keeps a listener from being made.
                    Subscription::Listeners => bad |= bad_filter && text.contains(TRIAL),
                    _ => {}
                }
                if self.seen.insert(subscription.clone(), text.clone()) == Some(text.clone()) {
                    continue;
                }
                if bad {
                    *self.refused.entry(subscription.clone()).or_default() += 1;
                } else {
                    let told: Value = serde_json::from_str(&text).unwrap();
                    let version = told["version_info"].as_str().unwrap().to_owned();
                    self.versions.insert(subscription.clone(), version);
                }
            }
        }

        fn stats(&self, kind: &str) -> String {
            let place = |subscription: &Subscription| match subscription {
                Subscription::Clusters => "cluster_manager.cds".to_owned(),
                Subscription::Listeners => "listener_manager.lds".to_owned(),
                Subscription::Routes(name) => format!("http.here.rds.{name}"),
                Subscription::Extension(name) => {
                    format!("extension_config_discovery.http_filter.x/{name}")
                }
            };
            let lines: Vec<String> = match kind {
                "TextReadouts" => self
                    .versions
                    .iter()
                    .map(|(of, version)| format!("{}.version_text: \"{version}\"", place(of)))
                    .collect(),
                "Counters" => self
                    .refused
                    .iter()
                    .map(|(of, count)| format!("{}.update_rejected: {count}", place(of)))
                    .collect(),
                _ => vec!["cluster_manager.warming_clusters: 0".to_owned()],
            };
            lines.join("\n")
        }

        async fn answer(
            mut stream: TcpStream,
            envoy: &Mutex<Self>,
            files: &(PathBuf, Vec<Subscription>),
        ) {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                if stream.read_exact(&mut byte).await.is_err() {
                    return;
                }
                request.extend(byte);
            }
            let request = String::from_utf8(request).unwrap();
            let (_, kind) = request.split_once("type=").unwrap();
            let stats = {
                let mut envoy = envoy.lock().unwrap();
                envoy.look(&files.0, &files.1);
                envoy.stats(kind.split('&').next().unwrap())
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{stats}",
                stats.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    /// A proxy that was told this.
    async fn proxy(
        directory: &Path,
        told: Arc<ProxyConfiguration>,
        further: &[Subscription],
    ) -> Proxy {
        xds::write(&told.files(directory)).unwrap();
        // What filters are told comes first.
        let mut subscriptions = [further, &told.subscriptions()].concat();
        subscriptions
            .sort_by_key(|subscription| !matches!(subscription, Subscription::Extension(_)));
        let envoy = Arc::new(Mutex::new(Envoy::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = Admin::new(client().unwrap(), listener.local_addr().unwrap());
        let files = Arc::new((directory.to_owned(), subscriptions));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (envoy, files) = (Arc::clone(&envoy), Arc::clone(&files));
                tokio::spawn(async move { Envoy::answer(stream, &envoy, &files).await });
            }
        });
        let pod = PodName {
            name: "cart-0".to_owned(),
            namespace: "shop".to_owned(),
        };
        Proxy::new(
            pod,
            directory.to_owned(),
            admin,
            directory.join("envoy.log"),
            told,
        )
    }

    fn told(clusters: &[&str]) -> Arc<ProxyConfiguration> {
        Arc::new(ProxyConfiguration {
            bootstrap: json!({}),
            listeners: vec![json!({ "name": "in", "address": { "socket_address": {} } })],
            clusters: clusters
                .iter()
                .map(|name| json!({ "name": name }))
                .collect(),
            routes: BTreeMap::new(),
            extensions: BTreeMap::new(),
        })
    }

    #[tokio::test]
    async fn a_cluster_that_is_refused_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        let mut proxy = proxy(directory.path(), told(&["a"]), &[]).await;
        let refusal = proxy.take(&told(&["a", "good", BAD])).await.unwrap_err();
        assert_eq!(refusal.subscription, Subscription::Clusters);
        assert_eq!(proxy.parting(), None);

        proxy.take(&told(&["a"])).await.unwrap();
        proxy.take(&told(&["a", "b"])).await.unwrap();
        let clusters: Vec<&str> = proxy.clusters.iter().filter_map(name).collect();
        assert_eq!(clusters, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_new_filter_that_is_refused_is_what_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Subscription::Extension("shop.limit".to_owned());
        let mut proxy = proxy(directory.path(), told(&["a"]), std::slice::from_ref(&limit)).await;
        let with = |configuration: &str| {
            let mut told = told(&["a"]);
            let with = Arc::make_mut(&mut told);
            let extension = json!({ "configuration": configuration });
            with.extensions.insert("shop.limit".to_owned(), extension);
            with.listeners = vec![
                json!({ "name": "in", "address": { "socket_address": {} }, "filter": "limit" }),
            ];
            told
        };
        let refusal = proxy.take(&with(BAD)).await.unwrap_err();
        assert_eq!(refusal.subscription, limit);
        proxy.take(&told(&["a"])).await.unwrap();
        proxy.take(&with("fine")).await.unwrap();
    }

    #[test]
    fn a_plugin_explains_its_refusal_better_than_envoy() {
        let log = "\
[2026-11-21 06:43:43.100][14496][error][wasm] [source/extensions/common/wasm/context.cc:1157] wasm log: no header :path
[2026-11-21T06:43:43.566Z] \"GET /products HTTP/1.1\" 200 - via_upstream
[2026-11-21 06:43:43.870][14409][error][wasm] [source/extensions/common/wasm/context.cc:1157] wasm log: configuration refused: \
tiers.free: a tier without limits
[2026-11-21 06:43:43.870][14409][error][wasm] [source/extensions/common/wasm/wasm.cc:104] Wasm VM failed Failed to configure base \
Wasm plugin
[2026-11-21 06:43:43.870][14409][critical][wasm] [source/extensions/common/wasm/wasm.cc:626] Plugin istio-system.limit failed to load
[2026-11-21 06:43:43.870][14496][critical][wasm] [source/extensions/common/wasm/wasm.cc:479] Plugin configured to fail closed failed \
to load
[2026-11-21 06:43:43.872][14409][warning][config] [source/x.cc:81] Filesystem config update rejected: Unable to create Wasm \
plugin istio-system.limit
";
        let limit = Some("istio-system.limit");
        let said = "configuration refused: tiers.free: a tier without limits";
        assert_eq!(why(log, limit).as_deref(), Some(said));
        // With pluginName, or a VM that has a name.
        let named = log.replace("wasm log: conf", "wasm log limiter vm: conf");
        assert_eq!(why(&named, limit).as_deref(), Some(said));
        assert_eq!(
            why(log, Some("istio-system.other")).as_deref(),
            Some("Unable to create Wasm plugin istio-system.limit")
        );
        assert_eq!(why("", None), None);
    }

    #[test]
    fn envoy_says_what_is_wrong_after_what_it_is_wrong_with() {
        let log = "\
[2026-11-21 06:38:25.889][1868][warning][config] [source/x.cc:81] Filesystem config update rejected: Error adding/updating \
cluster(s) outbound|3001|v1|cart: goo.gle/debugonly   \n\
common_tls_context {
  alpn_protocols: \"istio\"
}
sni: \"outbound_.3001_\"
: Proto constraint validation failed (UpstreamTlsContextValidationError.Sni: value length must be at most 255 bytes)
[2026-11-21T06:38:25.570Z] \"GET /cart/alice HTTP/1.1\" 200 - via_upstream
";
        assert_eq!(
            why(log, None).as_deref(),
            Some(
                "Error adding/updating cluster(s) outbound|3001|v1|cart: Proto constraint validation failed \
                 (UpstreamTlsContextValidationError.Sni: value length must be at most 255 bytes)"
            )
        );
        let log = "[1][warning] Filesystem config update rejected: Invalid duration: Duration out-of-range: goo.gle/debugstr  \n\
                   seconds: 10800000000\n";
        assert_eq!(
            why(log, None).as_deref(),
            Some("Invalid duration: Duration out-of-range")
        );
    }
}
