//! A mesh that runs on this machine: its places, its processes, and what its proxies were told.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::sync::mpsc;
use tollgate_mesh::Mesh;
use tollgate_mesh::envoy::ProxyConfiguration;
use tollgate_mesh::model::{Container, Plugin, PodName, Role, Workload};

use super::environment::{self, Database};
use super::events::Pod;
use super::guard::Itself;
use super::images::Images;
use super::inotify;
use super::live::{self, Live};
use super::ports::Held;
use super::prometheus::{self, Prometheus, Target};
use super::readiness::{self, Awaited, Proxy, Sign};
use super::run_directory::RunDirectory;
use super::site::Places;
use super::status::{Status, StatusOfProxy};
use super::supervisor::{Exit, Start, Supervisor};
use super::xds;
use crate::args::DatabaseUrl;
use crate::envoy::Envoy;
use crate::metrics::declared;

/// How the proxy is called in events and logs.
const ENVOY: &str = "envoy";

/// How a pod's first program is called; further ones have their container's name.
const SERVICE: &str = "service";

/// What a mesh is started with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) mesh: Mesh,
    pub(crate) images: Images,
    pub(crate) envoy: Envoy,
    /// The folder with `<module>.wasm`.
    pub(crate) modules: PathBuf,
    pub(crate) workers: u32,
    /// The URL of the user's own database, if the services are to use it.
    pub(crate) database: Option<DatabaseUrl>,
    /// What keeps the metrics, if anything is to.
    pub(crate) prometheus: Option<Prometheus>,
}

/// A mesh on this machine.
#[derive(Debug)]
pub(crate) struct LocalMesh {
    parts: Parts,
    run: RunDirectory,
    places: Places,
    /// What each proxy was told last.
    told: BTreeMap<PodName, ProxyConfiguration>,
    supervisor: Supervisor,
}

impl LocalMesh {
    /// Gives everything its place and writes all configuration. Nothing but the guard runs yet.
    pub(crate) fn prepare(
        parts: Parts,
        gateway: Held,
        run: RunDirectory,
        itself: Itself,
    ) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<Exit>)> {
        let places = Places::find(
            &parts.mesh.workloads,
            gateway,
            parts.workers,
            parts.modules.clone(),
            &run,
        )?;
        let (supervisor, exits) = Supervisor::new(itself)?;
        let mut mesh = Self {
            parts,
            run,
            places,
            told: BTreeMap::new(),
            supervisor,
        };
        mesh.tell()?;
        let watched = mesh.told.values().map(|told| told.subscriptions().len());
        let mut watched: usize = watched.sum();
        if let Some(prometheus) = &mesh.parts.prometheus {
            prometheus.write(&mesh.run.prometheus()?, &mesh.targets()?)?;
            // The list of its targets.
            watched += 1;
        }
        inotify::require(watched)?;
        Ok((mesh, exits))
    }

    /// What the manifests name and does not run here, for people: a database is not what this is about, and the
    /// services have another one.
    pub(crate) fn not_run(&self) -> Vec<String> {
        let sets = self.parts.mesh.stateful_sets.iter();
        sets.map(|set| format!("the StatefulSet {}", set.name))
            .collect()
    }

    /// Follows the manifests from here on.
    pub(crate) fn live(&self, source: live::Source) -> anyhow::Result<Live> {
        let running = self.told.iter().map(|(pod, told)| live::Running {
            pod: pod.clone(),
            log: self.run.logs().join(&pod.name).join(format!("{ENVOY}.log")),
            told: told.clone(),
        });
        Live::new(
            source,
            self.parts.images.clone(),
            self.parts.envoy.version.clone(),
            self.places.site.clone(),
            running.collect(),
        )
    }

    /// Writes the configuration of every proxy.
    fn tell(&mut self) -> anyhow::Result<()> {
        for workload in self
            .parts
            .mesh
            .workloads
            .iter()
            .filter(|workload| workload.role != Role::Plain)
        {
            for pod in workload.pods() {
                let configuration = self.parts.mesh.proxy_configuration(&self.places.site, &pod);
                xds::write(&configuration.files(&self.places.of(&pod)?.directory))?;
                self.told.insert(pod, configuration);
            }
        }
        Ok(())
    }

    /// The proxies, as Prometheus finds them.
    fn targets(&self) -> anyhow::Result<Vec<Target>> {
        let mut targets = Vec::new();
        for workload in &self.parts.mesh.workloads {
            for pod in workload.pods() {
                if workload.role != Role::Plain {
                    let admin = self.places.of(&pod)?.admin;
                    targets.push(Target::new(workload, &pod, admin));
                }
            }
        }
        Ok(targets)
    }

    /// Starts every process at once and waits until everything serves.
    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        let mut awaited = Vec::new();
        if let Some(prometheus) = &self.parts.prometheus {
            let logs = self.run.pod_logs(prometheus::NAME)?;
            let (start, sign) = prometheus.start(&self.run.prometheus()?, &logs);
            self.supervisor.start(start).await?;
            awaited.push(sign);
        }
        for workload in &self.parts.mesh.workloads {
            for pod in workload.pods() {
                let logs = self.run.pod_logs(&pod.name)?;
                for (position, container) in workload.containers.iter().enumerate() {
                    let process = if position == 0 {
                        SERVICE
                    } else {
                        &container.name
                    };
                    awaited.extend(
                        self.start_container(workload, container, &pod, process, &logs)
                            .await?,
                    );
                }
                if workload.role != Role::Plain {
                    awaited.push(self.start_envoy(workload, &pod, &logs).await?);
                }
            }
        }
        readiness::all(awaited).await
    }

    async fn start_container(
        &self,
        workload: &Workload,
        container: &Container,
        pod: &PodName,
        process: &str,
        logs: &Path,
    ) -> anyhow::Result<Option<Awaited>> {
        let place = self.places.of(pod)?;
        let database = match &self.parts.database {
            Some(url) => Database::Url(url.clone()),
            None => Database::Files(self.run.data()),
        };
        let environment = environment::of(workload, container, pod, place, &database);
        let (program, args) = self.parts.images.command(container).with_context(|| {
            format!(
                "{pod}: there is no program for the image {}",
                container.image.reference
            )
        })?;
        let log = logs.join(format!("{process}.log"));
        self.supervisor
            .start(Start {
                pod: pod.name.clone(),
                process: process.to_owned(),
                program,
                args,
                environment,
                // A container's own folder is nothing that a service may rely on; here relative paths of --run hold.
                directory: std::env::current_dir().context("cannot tell the current folder")?,
                log: log.clone(),
                output: None,
            })
            .await?;
        let local = |port: u16| {
            place
                .app
                .get(&port)
                .copied()
                .with_context(|| format!("{pod}: port {port} has no place"))
        };
        let sign = match (&container.readiness, container.ports.first()) {
            (Some(probe), _) => {
                Sign::Answer(format!("http://{}{}", local(probe.port)?, probe.path))
            }
            (None, Some(port)) => Sign::Port(local(port.number)?),
            // Nobody can tell.
            (None, None) => return Ok(None),
        };
        Ok(Some(Awaited {
            pod: pod.name.clone(),
            process: process.to_owned(),
            log,
            sign,
        }))
    }

    async fn start_envoy(
        &self,
        workload: &Workload,
        pod: &PodName,
        logs: &Path,
    ) -> anyhow::Result<Awaited> {
        let place = self.places.of(pod)?;
        let told = self
            .told
            .get(pod)
            .with_context(|| format!("{pod} was told nothing"))?;
        let log = logs.join(format!("{ENVOY}.log"));
        self.supervisor
            .start(Start {
                pod: pod.name.clone(),
                process: ENVOY.to_owned(),
                program: self.parts.envoy.path.clone().into_os_string(),
                args: envoy_args(
                    &place.directory.join("bootstrap.json"),
                    self.places.site.workers,
                ),
                environment: environment::of_proxy(workload),
                directory: place.directory.clone(),
                log: log.clone(),
                // So that the end of the log says why an Envoy ended, and not what it served last.
                output: Some(logs.join("access.log")),
            })
            .await?;
        let proxy = Proxy {
            admin: place.admin,
            workers: self.places.site.workers,
            listeners: told.listeners.len(),
            routes: told.routes.len(),
            extensions: told.extensions.len(),
        };
        Ok(Awaited {
            pod: pod.name.clone(),
            process: ENVOY.to_owned(),
            log,
            sign: Sign::Envoy(proxy),
        })
    }

    /// Ends every process; `hurry` ends them at once.
    pub(crate) async fn stop(&self, hurry: impl Future<Output = ()>) {
        self.supervisor.stop(hurry).await;
    }

    /// Where clients reach the mesh.
    pub(crate) fn gateway(&self) -> Option<String> {
        self.places
            .gateway
            .map(|address| format!("http://{address}"))
    }

    /// What keeps the metrics.
    pub(crate) fn prometheus(&self) -> Option<&Prometheus> {
        self.parts.prometheus.as_ref()
    }

    /// The folder of this run.
    pub(crate) fn run(&self) -> &RunDirectory {
        &self.run
    }

    /// What its plugins were told.
    pub(crate) fn plugins(&self) -> &[Plugin] {
        &self.parts.mesh.plugins
    }

    /// What it tells other commands, with these plugins.
    pub(crate) fn status(&self, plugins: &[Plugin]) -> anyhow::Result<Status> {
        let proxies = self.pods()?.into_iter().filter_map(|pod| {
            Some(StatusOfProxy {
                workload: pod.name,
                namespace: pod.namespace,
                pod: pod.pod,
                admin: pod.admin?,
            })
        });
        Ok(Status {
            gateway: self.gateway(),
            prometheus: self.prometheus().map(Prometheus::url),
            proxies: proxies.collect(),
            metrics: declared(plugins),
        })
    }

    /// All pods, the gateways last.
    pub(crate) fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        let mut pods = Vec::new();
        let mut workloads: Vec<&Workload> = self.parts.mesh.workloads.iter().collect();
        workloads.sort_by_key(|workload| workload.role == Role::Gateway);
        for workload in workloads {
            for pod in workload.pods() {
                let place = self.places.of(&pod)?;
                pods.push(Pod {
                    name: workload.app.clone(),
                    namespace: pod.namespace,
                    version: workload.version.clone(),
                    admin: (workload.role != Role::Plain).then_some(place.admin),
                    inbound: place.inbound.values().next().copied(),
                    outbound_proxy: place.outbound_proxy,
                    logs: self.run.logs().join(&pod.name),
                    pod: pod.name,
                });
            }
        }
        Ok(pods)
    }
}

fn envoy_args(bootstrap: &Path, workers: u32) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--config-path".into(), bootstrap.into()];
    args.extend(["--concurrency".into(), workers.to_string().into()]);
    args.extend(
        [
            // Several Envoys on one machine would otherwise share a hot-restart region.
            "--disable-hot-restart",
            // A misspelt field in a file would otherwise be left out with a warning.
            "--reject-unknown-dynamic-fields",
            "--log-level",
            "warning",
            // What filters say.
            "--component-log-level",
            "wasm:info",
            // Of what istiod writes, too (`max_grpc_timeout`), at every reload.
            "--skip-deprecated-logs",
            // A listener that is replaced serves its requests only this long, longer than a request of the shop may take; its
            // connections move to the new one with their next answer.
            "--drain-time-s",
            "15",
            "--drain-strategy",
            "immediate",
        ]
        .map(OsString::from),
    );
    args
}
