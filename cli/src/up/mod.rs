//! `tollgate up`: runs a mesh from its manifests.
//!
//! The way of a run, a file a step: the manifests are read, their [`plugins`](crate::check::plugins) and [`images`] are checked; what they need is
//! built; every pod gets its place in the [`run_directory`] and on the machine's [`ports`] ([`site`]), with
//! [`certificates`]; the proxies' configuration is written ([`xds`]); the [`local_mesh`] starts it all under a
//! [`supervisor`] and a [`mod@guard`], awaits [`readiness`], and [`events`] tell what happens and what to [try first](mod@tries). Then it is
//! [`live`]: what is edited in the manifests reaches the proxies while they serve. A [`view`] shows the [`statistics`] of its
//! proxies, the customers of a [`demo`] may come, and a [`mod@prometheus`] may keep what was counted.

mod certificates;
mod demo;
pub(crate) mod environment;
mod events;
mod groups;
pub(crate) mod guard;
mod images;
mod inotify;
mod live;
mod local_mesh;
mod manifests;
mod papers;
pub(crate) mod ports;
mod prometheus;
mod readiness;
mod run_directory;
pub(crate) mod signals;
mod site;
mod statistics;
pub(crate) mod status;
pub(crate) mod supervisor;
mod tries;
mod view;
mod xds;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::sync::{mpsc, oneshot, watch};
use tollgate_mesh::{Manifests, Problems};

use crate::args::{Format, UpArgs};
use crate::build;
use crate::envoy::{Envoy, Wanted};
use crate::error::{FAILURE, plain};
use crate::issuer::{self, Issuer};
use crate::workspace::Workspace;

pub(crate) use guard::{guard, guarded};
pub(crate) use statistics::counters::section;
#[cfg(test)]
pub(crate) use statistics::counters::tests::plugins as plugins_of;

use demo::{Demo, Plan};
use events::{Event, Reporter};
use guard::Itself;
use images::Images;
use local_mesh::{LocalMesh, Parts};
use manifests::Means;
use ports::Held;
use prometheus::Prometheus;
use run_directory::RunDirectory;
use signals::Signals;
use statistics::{Counters, Proxy};
use supervisor::{Exit, last_lines};
use tries::tries;
use view::{Subject, View};

/// How many lines of its log tell why a process ended.
const LAST_LINES: usize = 10;

/// Runs a mesh until it is told to stop.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(args.format);
    let format = args.format;
    match up(args, &reporter).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast::<Problems>() {
            Ok(problems) => {
                reporter.reject(&problems);
                Ok(ExitCode::from(FAILURE))
            }
            Err(error) => {
                if format == Format::Json {
                    let (message, hint) = plain(&error);
                    reporter.tell(&Event::Error { message, hint });
                }
                Err(error)
            }
        },
    }
}

async fn up(args: UpArgs, reporter: &Reporter) -> anyhow::Result<()> {
    let itself = Itself::running()?;
    let (format, with_demo) = (args.format, args.demo);
    let mut signals = Signals::catch()?;
    // Until children run there is nothing to end but ourselves.
    let Prepared {
        parts,
        source,
        issuer,
        gateway,
        run,
    } = tokio::select! {
        parts = prepare(args, reporter) => parts?,
        signal = signals.next() => {
            reporter.tell(&Event::Stopping { reason: signal.to_owned() });
            build::stop();
            reporter.tell(&Event::Stopped);
            return Ok(());
        }
    };
    let (envoy, version) = (parts.envoy.path.clone(), parts.envoy.version.to_string());
    let (mesh, mut exits) = LocalMesh::prepare(parts, gateway, run, itself)?;
    reporter.tell(&Event::Starting {
        run: mesh.run().path().to_owned(),
        logs: mesh.run().logs(),
        pods: mesh.pods()?.len(),
        envoy,
        envoy_version: version,
        not_run: mesh.not_run(),
    });
    let ended = match start(
        &mesh,
        &source.manifests,
        issuer.as_ref(),
        &mut exits,
        &mut signals,
        reporter,
    )
    .await
    {
        Ok(None) => {
            let serving = Serving {
                mesh: &mesh,
                source,
                exits,
                format,
                with_demo,
                issuer,
            };
            serve(serving, &mut signals, reporter).await
        }
        Ok(Some(signal)) => Ok(signal),
        Err(error) => Err(error),
    };
    let reason = match &ended {
        Ok(signal) => (*signal).to_owned(),
        Err(error) => error.to_string(),
    };
    reporter.tell(&Event::Stopping { reason });
    mesh.stop(async { _ = signals.next().await }).await;
    reporter.tell(&Event::Stopped);
    ended.map(|_signal| ())
}

/// Starts the mesh, unless a signal comes first, whose name it returns.
async fn start(
    mesh: &LocalMesh,
    manifests: &Manifests,
    issuer: Option<&Arc<Issuer>>,
    exits: &mut mpsc::UnboundedReceiver<Exit>,
    signals: &mut Signals,
    reporter: &Reporter,
) -> anyhow::Result<Option<&'static str>> {
    tokio::select! {
        // A process that ended explains better than the one that waited for it in vain.
        biased;
        signal = signals.next() => return Ok(Some(signal)),
        Some(exit) = exits.recv() => {
            tell_exit(&exit, false, reporter);
            return Err(anyhow!("{}: {} ended {} before everything served", exit.pod, exit.process, exit.how()));
        }
        started = mesh.start() => started?,
    }
    let (gateway, workloads) = (mesh.gateway(), mesh.pods()?);
    // Before it is said that everything serves: who hears it may ask for metrics.
    mesh.status(mesh.plugins())?.write(mesh.run())?;
    let tries = gateway
        .as_deref()
        .map(|gateway| tries(manifests, issuer, gateway));
    reporter.tell(&Event::Ready {
        gateway,
        prometheus: mesh.prometheus().map(Prometheus::url),
        prometheus_version: mesh.prometheus().map(|it| it.version().to_owned()),
        root_certificate: mesh.run().root_certificate(),
        workloads,
        tries: tries.unwrap_or_default(),
    });
    Ok(None)
}

/// What serving takes.
struct Serving<'a> {
    mesh: &'a LocalMesh,
    source: live::Source,
    exits: mpsc::UnboundedReceiver<Exit>,
    format: Format,
    with_demo: bool,
    issuer: Option<Arc<Issuer>>,
}

/// Serves until a signal comes, whose name it returns, or somebody presses `q`.
async fn serve(
    serving: Serving<'_>,
    signals: &mut Signals,
    reporter: &Reporter,
) -> anyhow::Result<&'static str> {
    let Serving {
        mesh,
        source,
        mut exits,
        format,
        with_demo,
        issuer,
    } = serving;
    let gateway = mesh.gateway();
    let mut demo = match &gateway {
        Some(gateway) if with_demo => Some(start_demo(mesh, gateway, issuer.as_ref(), reporter)?),
        _ => None,
    };
    let proxies = mesh.pods()?.into_iter().filter_map(|pod| {
        Some(Proxy {
            admin: pod.admin?,
            gateway: pod.outbound_proxy.is_none(),
            pod: pod.pod,
        })
    });
    let (counters_now, counters) = watch::channel(Counters::declared(mesh.plugins()));
    let subject = Subject {
        gateway: gateway.unwrap_or_else(|| "none".to_owned()),
        prometheus: mesh.prometheus().map(Prometheus::url),
        proxies: proxies.collect(),
        counters,
        demo: demo.as_ref().map(Demo::ends),
    };
    let live = mesh.live(source)?;
    let view = View::open(format, reporter.screen(), subject);
    let edits = live.follow(reporter, |edited| {
        counters_now.send_replace(Counters::declared(&edited.plugins));
        // The Envoys have just been told by files of the same folder; what could be said of this one would be said of those.
        let status = mesh.status(&edited.plugins);
        let _ = status.and_then(|status| status.write(mesh.run()));
    });
    let mut edits = std::pin::pin!(edits);
    let reason = loop {
        tokio::select! {
            signal = signals.next() => break Ok(signal),
            () = view.quit() => break Ok("q"),
            // As on a cluster, what is left serves; unlike there nothing is restarted, so that what happened can be looked at.
            Some(exit) = exits.recv() => tell_exit(&exit, true, reporter),
            () = over(&mut demo) => stop_demo(&mut demo, reporter).await,
            error = &mut edits => break Err(error),
        }
    };
    view.close().await;
    stop_demo(&mut demo, reporter).await;
    reason
}

fn start_demo(
    mesh: &LocalMesh,
    gateway: &str,
    issuer: Option<&Arc<Issuer>>,
    reporter: &Reporter,
) -> anyhow::Result<Demo> {
    let plan = Plan::of(mesh.plugins(), issuer);
    reporter.tell(&Event::Demo {
        customers: plan.to_string(),
        seconds: demo::LENGTH.as_secs(),
    });
    Demo::start(gateway, plan, demo::LENGTH)
}

/// The end of the demo, if there is one.
async fn over(demo: &mut Option<Demo>) {
    match demo {
        Some(demo) => demo.over().await,
        None => std::future::pending().await,
    }
}

async fn stop_demo(demo: &mut Option<Demo>, reporter: &Reporter) {
    if let Some(demo) = demo.take() {
        reporter.tell(&Event::DemoOver(demo.stop().await));
    }
}

fn tell_exit(exit: &Exit, serving: bool, reporter: &Reporter) {
    use std::os::unix::process::ExitStatusExt;
    reporter.tell(&Event::Exited {
        pod: exit.pod.clone(),
        process: exit.process.clone(),
        code: exit.status.code(),
        signal: exit.status.signal(),
        log: exit.log.clone(),
        last_lines: last_lines(&exit.log, LAST_LINES),
        serving,
    });
}

/// What a mesh is started from.
struct Prepared {
    parts: Parts,
    source: live::Source,
    /// Who signs tokens for it, if it is a local issuer.
    issuer: Option<Arc<Issuer>>,
    gateway: Held,
    run: RunDirectory,
}

/// What runs if nothing is named: the shop, with the local issuer, because its gateway believes tokens alone.
fn shipped(root: &Path) -> Vec<PathBuf> {
    let local = root.join(issuer::OVERLAY);
    vec![if local.is_dir() {
        local
    } else {
        root.to_owned()
    }]
}

/// Everything that must be right and there before the first process starts.
async fn prepare(args: UpArgs, reporter: &Reporter) -> anyhow::Result<Prepared> {
    let workspace = blocking(Workspace::current).await?;
    let paths = if args.manifests.is_empty() {
        shipped(workspace.root())
    } else {
        args.manifests
    };
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(anyhow!(
            "--manifests {}: there is no such file or folder",
            missing.display()
        ));
    }
    let (mut reader, changes) = live::Reader::new(paths)?;
    let live::Read { loaded, contents } = reader.read().map_err(Problems::from)?;
    let mut manifests = loaded.result?;
    let issuer = Issuer::of_files(&loaded.files)?;
    let means = Means {
        replicas: args.replicas,
        services: service_names(&workspace),
        modules: build::module_names(&workspace)?,
    };
    means.scale(&mut manifests.mesh);
    if args.demo && !demo::possible(&manifests.mesh) {
        return Err(anyhow!(
            "--demo sends what the shop's customers ask for, and these manifests have no ingress gateway or no \
             product-service; leave --demo out"
        ));
    }
    let mut images = Images::new(&args.run, &manifests.mesh)?;
    let needed = means.check(&manifests, &images)?;
    let mesh = manifests.mesh.clone();

    site::check_gateway(args.gateway_port, &mesh.workloads)?;
    let gateway = site::gateway_port(args.gateway_port)?;
    let prometheus = if args.prometheus {
        let (bin, port) = (args.prometheus_bin, args.prometheus_port);
        Some(blocking(move || Prometheus::find(bin.as_deref(), port)).await?)
    } else {
        None
    };

    reporter.tell(&Event::Building);
    let wanted = Wanted::new(args.envoy);
    let envoy = blocking(move || Envoy::locate(&wanted)).await?;
    let (workspace, modules, programs) = blocking(move || {
        let modules = build::modules(&workspace)?;
        let programs = build::services(&workspace, &needed)?;
        Ok((workspace, modules, programs))
    })
    .await?;
    for plugin in &mesh.plugins {
        if !modules.iter().any(|module| module.name == plugin.module) {
            return Err(anyhow!("wasm-plugins/{} made no module", plugin.module));
        }
    }
    images.built(programs);
    let run = RunDirectory::new(workspace.target_directory())?;
    let parts = Parts {
        mesh,
        images,
        envoy,
        modules: workspace.modules(),
        workers: args.workers,
        database: args.database,
        prometheus,
    };
    let source = live::Source {
        reader,
        changes,
        contents,
        manifests,
        means,
    };
    Ok(Prepared {
        parts,
        source,
        issuer: issuer.map(Arc::new),
        gateway,
        run,
    })
}

/// Does what blocks on a thread that nobody waits for: a signal must end this process in the middle of it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .spawn(move || _ = done.send(work()))
        .context("cannot start a thread")?;
    result.await.context("a thread panicked")?
}

/// The programs of the crates in `services/`.
fn service_names(workspace: &Workspace) -> BTreeSet<String> {
    let services = workspace.root().join("services");
    let packages = workspace.metadata().workspace_packages();
    packages
        .into_iter()
        .filter(|package| package.manifest_path.as_std_path().starts_with(&services))
        .flat_map(|package| &package.targets)
        .filter(|target| target.is_bin())
        .map(|target| target.name.clone())
        .collect()
}
