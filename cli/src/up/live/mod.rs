//! Live edits: while the mesh serves, its manifests are watched, and what changes in them reaches the proxies without a
//! request failing.
//!
//! The way of an edit: [`watch`] sees it and reads everything anew; it is checked as at the start; what would need other processes is
//! refused ([`restart`]); each [`proxy`] whose configuration differs takes it, step by step. If anything is wrong anywhere, nothing of
//! the edit stays applied, and the next edit is compared with what runs. However many edits come while one is
//! applied, the next thing that is applied is what the manifests say then.

mod admin;
mod proxy;
mod restart;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use semver::Version;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_mesh::envoy::{ProxyConfiguration, Site, Subscription};
use tollgate_mesh::model::{MutualTls, PodName};
use tollgate_mesh::{Manifests, Mesh, Problem, Problems};

use super::events::{Event, Reporter};
use super::images::Images;
use super::inotify;
use super::manifests::Means;
use admin::Admin;
use proxy::{Proxy, Refusal};

pub(crate) use admin::client;
pub(crate) use watch::{Changes, Contents, Read, Reader};

/// An edit is over when nothing has been written for so long.
const QUIET: Duration = Duration::from_millis(60);

/// What looks like half an edit may become a whole one within this time.
const HALF_AN_EDIT: Duration = Duration::from_millis(300);

/// Who still writes other halves after so long is told what is wrong all the same.
const LONGEST_EDIT: Duration = Duration::from_secs(5);

/// A running proxy, where it is, and what it was started with.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pod: PodName,
    pub(crate) log: PathBuf,
    pub(crate) told: ProxyConfiguration,
}

/// What each proxy is to be, in the order of the proxies. Making them of a mesh is a good part of the work of an edit, so they are made
/// once and handed on.
type Targets = Vec<Arc<ProxyConfiguration>>;

/// What it takes to read manifests again.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) reader: Reader,
    pub(crate) changes: Changes,
    /// What was read last.
    pub(crate) contents: Contents,
    /// What runs.
    pub(crate) manifests: Manifests,
    pub(crate) means: Means,
}

/// A mesh that follows its manifests.
#[derive(Debug)]
pub(crate) struct Live {
    /// None while it reads.
    reader: Option<Reader>,
    changes: Changes,
    contents: Contents,
    manifests: Manifests,
    means: Means,
    images: Images,
    /// The version of the proxies.
    envoy: Version,
    site: Site,
    proxies: Vec<Proxy>,
    /// What they are by what runs.
    targets: Targets,
    /// What is wrong with what was read last, and has been told.
    told: Vec<Problem>,
    /// Whether some proxy did not go back to what it was before an edit that was refused.
    stuck: bool,
}

impl Live {
    pub(crate) fn new(
        source: Source,
        images: Images,
        envoy: Version,
        site: Site,
        running: Vec<Running>,
    ) -> anyhow::Result<Self> {
        let client = client()?;
        let proxies = running.into_iter().map(|running| {
            let place = site
                .pods
                .get(&running.pod)
                .with_context(|| format!("{} has no place on this machine", running.pod))?;
            let admin = Admin::new(client.clone(), place.admin);
            let told = Arc::new(running.told);
            let directory = place.directory.clone();
            let proxy = Proxy::new(
                running.pod,
                directory,
                admin,
                running.log,
                Arc::clone(&told),
            );
            Ok((proxy, told))
        });
        let (proxies, targets) = proxies.collect::<anyhow::Result<_>>()?;
        Ok(Self {
            proxies,
            targets,
            reader: Some(source.reader),
            changes: source.changes,
            contents: source.contents,
            manifests: source.manifests,
            means: source.means,
            images,
            envoy,
            site,
            told: Vec::new(),
            stuck: false,
        })
    }

    /// Follows the manifests. `applied` hears of every mesh that runs from then on. Ends only by what must not happen; it may
    /// be dropped at any moment.
    pub(crate) async fn follow(
        mut self,
        reporter: &Reporter,
        mut applied: impl FnMut(&Mesh),
    ) -> anyhow::Error {
        // Starting took its time.
        let mut since = Instant::now();
        loop {
            if let Err(error) = self.edit(since, reporter, &mut applied).await {
                return error;
            }
            since = loop {
                let parting = self.proxies.iter().filter_map(Proxy::parting).min();
                let parting = async {
                    match parting {
                        Some(moment) => tokio::time::sleep_until(moment).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    moment = self.changes.next() => break moment,
                    () = parting => self.part().await,
                }
            };
        }
    }

    /// Reads the manifests after a change, and applies them if they say something else.
    async fn edit(
        &mut self,
        since: Instant,
        reporter: &Reporter,
        applied: &mut impl FnMut(&Mesh),
    ) -> anyhow::Result<()> {
        self.changes.settle(QUIET).await;
        let end = Instant::now() + LONGEST_EDIT;
        let mut last = None;
        let (files, contents, outcome) = loop {
            let read = match self.read().await? {
                Ok(read) => read,
                Err(problem) => {
                    self.reject(vec![problem], reporter);
                    return Ok(());
                }
            };
            let Read { loaded, contents } = read;
            let files = contents.changed_since(&self.contents);
            if files.is_empty() {
                return Ok(());
            }
            let half = contents.emptied_since(&self.contents);
            let outcome = loaded
                .result
                .and_then(|manifests| self.check(manifests, &files));
            // Then the rest of it comes soon. Whatever else happens in these folders is no reason to wait again.
            if (half || outcome.is_err())
                && last.as_ref() != Some(&contents)
                && Instant::now() < end
                && self.changes.settle(HALF_AN_EDIT).await
            {
                last = Some(contents);
                continue;
            }
            break (files, contents, outcome);
        };
        self.contents = contents;
        let outcome = match outcome {
            Ok((manifests, targets)) => self.apply(manifests, targets, &files).await?,
            Err(problems) => Err(problems),
        };
        match outcome {
            Ok(()) => {
                self.told.clear();
                applied(&self.manifests.mesh);
                let milliseconds = since.elapsed().as_millis();
                reporter.tell(&Event::Reloaded {
                    files: files
                        .iter()
                        .map(|file| file.to_string_lossy().into_owned())
                        .collect(),
                    milliseconds: u64::try_from(milliseconds).unwrap_or(u64::MAX),
                });
            }
            Err(problems) => self.reject(problems.0, reporter),
        }
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<Result<Read, Problem>> {
        let mut reader = self.reader.take().context("the manifests are being read")?;
        let (reader, read) = super::blocking(move || {
            let read = reader.read();
            Ok((reader, read))
        })
        .await?;
        self.reader = Some(reader);
        Ok(read)
    }

    /// Everything that can be wrong with manifests before a proxy is told of them.
    /// What the proxies are to be then.
    fn check(
        &self,
        mut manifests: Manifests,
        files: &[PathBuf],
    ) -> Result<(Manifests, Targets), Problems> {
        self.means.scale(&mut manifests.mesh);
        self.means.check(&manifests, &self.images)?;
        Problems::or(
            restart::needed(&self.manifests, &manifests, &self.envoy),
            (),
        )?;
        let targets = targets(&manifests.mesh, &self.site, &self.proxies);
        let mut further = Vec::new();
        for (proxy, target) in self.proxies.iter().zip(&targets) {
            let told = proxy.told();
            if told.bootstrap != target.bootstrap {
                // What the comparison of workloads should have found.
                let message = format!("{} would have to be started anew for this", proxy.pod);
                return Err(Problem::at(first(files), 1, message).into());
            }
            let subscriptions = target.subscriptions().into_iter();
            let known = told.subscriptions();
            further.extend(subscriptions.filter(|subscription| !known.contains(subscription)));
        }
        if let Err(shortage) = inotify::check(further.len()) {
            let message = format!("{}; {}", shortage.message(), shortage.advice());
            return Err(self
                .problem(&manifests, further.first(), files, message)
                .into());
        }
        Ok((manifests, targets))
    }

    /// Makes all proxies those of this mesh, or none.
    async fn apply(
        &mut self,
        manifests: Manifests,
        after: Targets,
        files: &[PathBuf],
    ) -> anyhow::Result<Result<(), Problems>> {
        let mut way = vec![self.targets.clone()];
        let mut result = Ok(());
        for step in steps(&self.manifests.mesh, &manifests.mesh) {
            let targets = match step {
                // Only listeners: where the others send their requests is still as before.
                Step::Open(mesh) => self.listening_as_in(&mesh, &self.targets),
                Step::Through(mesh) => self.listening_as_in(&mesh, &after),
                Step::Arrive => after.clone(),
            };
            result = self.all_take(&targets).await?;
            if result.is_err() {
                break;
            }
            way.push(targets);
        }
        let Err(refusals) = result else {
            self.manifests = manifests;
            self.targets = after;
            self.stuck = false;
            return Ok(Ok(()));
        };
        let mut problems: Vec<Problem> = alike(refusals)
            .into_iter()
            .map(|(refusal, others)| self.refused(&manifests, refusal, others, files))
            .collect();
        // As it came: a sidecar that takes what is sent now must not stop before the others send what they sent before.
        let mut back = Ok(());
        for targets in way.iter().rev() {
            back = self.all_take(targets).await?;
        }
        self.stuck = back.is_err();
        if let Err(refusals) = back {
            problems.extend(refusals.into_iter().map(|refusal| {
                let message = format!(
                    "{}: its Envoy does not go back to what it was either: {}; restart `tollgate up`",
                    refusal.pod, refusal.reason
                );
                Problem::at(first(files), 1, message)
            }));
        }
        Ok(Problems::or(problems, ()))
    }

    /// These, with the listeners of this mesh.
    fn listening_as_in(&self, mesh: &Mesh, targets: &Targets) -> Targets {
        let listening = self::targets(mesh, &self.site, &self.proxies);
        let listening = listening.into_iter().map(Arc::unwrap_or_clone);
        listening
            .zip(targets)
            .map(|(listening, target)| {
                if listening.listeners == target.listeners {
                    return Arc::clone(target);
                }
                Arc::new(ProxyConfiguration {
                    listeners: listening.listeners,
                    ..ProxyConfiguration::clone(target)
                })
            })
            .collect()
    }

    /// All proxies at once. What they refuse, each with its first reason.
    async fn all_take(
        &mut self,
        targets: &[Arc<ProxyConfiguration>],
    ) -> anyhow::Result<Result<(), Vec<Refusal>>> {
        let mut under_way = JoinSet::new();
        let proxies = std::mem::take(&mut self.proxies);
        for (position, (mut proxy, target)) in proxies.into_iter().zip(targets).enumerate() {
            let target = Arc::clone(target);
            under_way.spawn(async move {
                let result = proxy.take(&target).await;
                (position, proxy, result)
            });
        }
        let mut arrived = BTreeMap::new();
        let mut refusals = BTreeMap::new();
        while let Some(done) = under_way.join_next().await {
            let (position, proxy, result) = done.context("cannot tell a proxy of an edit")?;
            refusals.extend(result.err().map(|refusal| (position, refusal)));
            arrived.insert(position, proxy);
        }
        self.proxies = arrived.into_values().collect();
        Ok(if refusals.is_empty() {
            Ok(())
        } else {
            Err(refusals.into_values().collect())
        })
    }

    /// Lets go what the proxies need no longer.
    async fn part(&mut self) {
        for proxy in &mut self.proxies {
            // What nothing names does no harm if it stays.
            let _ = proxy.part().await;
        }
    }

    /// A refusal by a proxy, and so many others.
    fn refused(
        &self,
        manifests: &Manifests,
        refusal: Refusal,
        others: usize,
        files: &[PathBuf],
    ) -> Problem {
        let Refusal {
            pod,
            subscription,
            reason,
        } = refusal;
        let what = match &subscription {
            Subscription::Clusters => "clusters".to_owned(),
            Subscription::Listeners => "listeners".to_owned(),
            Subscription::Routes(name) => format!("routes {name}"),
            Subscription::Extension(name) => format!("plugin {name}"),
        };
        let who = match others {
            0 => format!("{pod}: its Envoy"),
            others => format!("{pod} and {others} more: their Envoys"),
        };
        let message = format!("{who} refused the {what}: {reason}");
        self.problem(manifests, Some(&subscription), files, message)
    }

    /// A problem with what a subscription tells: of a plugin we know where it is written.
    fn problem(
        &self,
        manifests: &Manifests,
        subscription: Option<&Subscription>,
        files: &[PathBuf],
        message: String,
    ) -> Problem {
        if let Some(Subscription::Extension(name)) = subscription
            && let Some(plugin) = manifests
                .objects
                .wasm_plugins
                .iter()
                .find(|plugin| format!("{}.{}", plugin.namespace, plugin.name) == *name)
        {
            return plugin.source.problem("spec.pluginConfig", message);
        }
        Problem::at(first(files), 1, message)
    }

    /// Tells what is wrong, unless it has been told already. Of an edit that changes nothing about what is wrong it is told
    /// again: that edit is not applied either.
    fn reject(&mut self, problems: Vec<Problem>, reporter: &Reporter) {
        let new: Vec<Problem> = problems
            .iter()
            .filter(|problem| !self.told.iter().any(|told| same(told, problem)))
            .cloned()
            .collect();
        let told = if new.is_empty() { &problems } else { &new };
        reporter.refuse(told, !self.stuck);
        self.told = problems;
    }
}

/// The first of those that refuse the same for the same reason, and how many others do.
fn alike(refusals: Vec<Refusal>) -> Vec<(Refusal, usize)> {
    let mut alike: Vec<(Refusal, usize)> = Vec::new();
    for refusal in refusals {
        let same = |(first, _): &&mut (Refusal, usize)| {
            (&first.subscription, &first.reason) == (&refusal.subscription, &refusal.reason)
        };
        match alike.iter_mut().find(same) {
            Some((_, others)) => *others += 1,
            None => alike.push((refusal, 0)),
        }
    }
    alike
}

/// Wherever its line is now.
fn same(a: &Problem, b: &Problem) -> bool {
    (&a.file, &a.field, &a.message) == (&b.file, &b.field, &b.message)
}

/// Who cannot say where something is written says in which edit it was.
fn first(files: &[PathBuf]) -> PathBuf {
    files.first().cloned().unwrap_or_default()
}

/// What the proxies are to be in a mesh.
fn targets(mesh: &Mesh, site: &Site, proxies: &[Proxy]) -> Targets {
    proxies
        .iter()
        .map(|proxy| Arc::new(mesh.proxy_configuration(site, &proxy.pod)))
        .collect()
}

/// From one mesh to another.
#[derive(Debug, PartialEq)]
enum Step {
    /// Sidecars take what they took, and what they will take.
    Open(Box<Mesh>),
    /// The whole edit, with sidecars that are open still.
    Through(Box<Mesh>),
    Arrive,
}

/// A sidecar that takes plain connections instead of mutual TLS, or the other way round, has to take both until all others
/// know.
fn steps(before: &Mesh, after: &Mesh) -> Vec<Step> {
    let open = |mesh: &Mesh, other: &Mesh| {
        let mut open = mesh.clone();
        for workload in &mut open.workloads {
            let other = other
                .workloads
                .iter()
                .find(|other| other.name == workload.name && other.namespace == workload.namespace);
            if other.is_some_and(|other| other.mutual_tls != workload.mutual_tls) {
                workload.mutual_tls = MutualTls::Permissive;
            }
        }
        Box::new(open)
    };
    let (opened, through) = (open(before, after), open(after, before));
    if *through == *after && *opened == *before {
        return vec![Step::Arrive];
    }
    vec![Step::Open(opened), Step::Through(through), Step::Arrive]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use tollgate_mesh::api::Objects;

    use super::*;

    fn mesh(mode: &str) -> Mesh {
        let text = format!(
            "\
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{istio-injection: enabled}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: cart, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: cart}}}}
  template:
    metadata: {{labels: {{app: cart}}}}
    spec: {{containers: [{{name: cart, image: cart:v1}}]}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: shop}}
spec: {{mtls: {{mode: {mode}}}}}
"
        );
        Mesh::build(Objects::parse(Path::new("shop.yaml"), &text).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_whatever_else_is_written_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.yaml");
        let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
        std::fs::write(&file, good).unwrap();
        let (mut reader, changes) = Reader::new(vec![folder.path().to_owned()]).unwrap();
        let Read { loaded, contents } = reader.read().unwrap();
        let manifests = loaded.result.unwrap();
        let images = Images::new(&[], &manifests.mesh).unwrap();
        let source = Source {
            reader,
            changes,
            contents,
            manifests,
            means: Means {
                replicas: None,
                services: BTreeSet::new(),
                modules: BTreeSet::new(),
            },
        };
        let site = Site {
            pods: BTreeMap::new(),
            workers: 1,
            modules: PathBuf::new(),
        };
        let mut live = Live::new(source, images, Version::new(1, 40, 0), site, Vec::new()).unwrap();

        std::fs::write(&file, good.replace("metadata", "metedata")).unwrap();
        let noise = folder.path().join("noise.log");
        let noise = tokio::spawn(async move {
            for number in 0.. {
                std::fs::write(&noise, format!("{number}")).unwrap();
                tokio::time::sleep(QUIET / 3).await;
            }
        });
        let reporter = Reporter::new(crate::args::Format::Json);
        let mut applied = |_: &Mesh| panic!("this was applied");
        let edit = live.edit(Instant::now(), &reporter, &mut applied);
        tokio::time::timeout(Duration::from_secs(60), edit)
            .await
            .expect("it waits for the noise to end")
            .unwrap();
        noise.abort();
        assert!(!live.told.is_empty());
    }

    #[test]
    fn between_tls_and_none_sidecars_take_both() {
        let permissive = || Box::new(mesh("PERMISSIVE"));
        assert_eq!(
            steps(&mesh("STRICT"), &mesh("DISABLE")),
            [
                Step::Open(permissive()),
                Step::Through(permissive()),
                Step::Arrive
            ]
        );
        assert_eq!(steps(&mesh("STRICT"), &mesh("STRICT")), [Step::Arrive]);
    }
}
