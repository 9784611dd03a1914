//! The local mesh as a target: `tollgate up --format json`, run as a user runs it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::manifests::{Manifests, repository};
use crate::target::{Finding, Outcome, Target, Workload};

/// A first start compiles every module for Envoy and the four services.
const START: Duration = Duration::from_secs(900);
/// An edit takes a fraction of a second; one that needs a module compiled takes longer.
const EDIT: Duration = Duration::from_secs(120);
/// A stop awaits some twenty processes.
const STOP: Duration = Duration::from_secs(60);

/// How a local mesh is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Worker threads of each Envoy.
    pub workers: u32,
    /// Pods of each workload.
    pub replicas: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            replicas: 1,
        }
    }
}

/// A mesh started by `tollgate up`. Dropping it stops it.
#[derive(Debug)]
pub struct LocalMesh {
    child: Child,
    events: Mutex<Events>,
    gateway: String,
    envoy_version: String,
    workloads: Vec<Workload>,
    manifests: Manifests,
}

/// What `up` has printed, and prints.
#[derive(Debug)]
struct Events {
    coming: Receiver<Value>,
    seen: Vec<Value>,
}

/// The `tollgate` command, built once a test process.
pub fn tollgate() -> Result<&'static Path> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = BINARY.get() {
        return Ok(path);
    }
    let build = escargot::CargoBuild::new().manifest_path(repository().join("Cargo.toml"));
    let run = build
        .package("tollgate")
        .bin("tollgate")
        .run()
        .context("building the tollgate command")?;
    Ok(BINARY.get_or_init(|| run.path().to_owned()))
}

/// The Envoy that `TOLLGATE_TEST_ENVOY` names, as `tollgate envoy --release` takes it: `oldest`, `1.37`. Fetched once a test process.
pub fn envoy() -> Result<Option<&'static Path>> {
    static ENVOY: Mutex<Option<&'static Path>> = Mutex::new(None);
    let Some(release) = std::env::var_os("TOLLGATE_TEST_ENVOY").filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    // Held while it is fetched: the other tests wait for the same.
    let mut envoy = ENVOY.lock().unwrap_or_else(PoisonError::into_inner);
    if envoy.is_none() {
        let output = Command::new(tollgate()?)
            .args(["envoy", "--release"])
            .arg(&release)
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(
            output.status.success(),
            "tollgate envoy ended with {}",
            output.status
        );
        let path = String::from_utf8(output.stdout)?;
        *envoy = Some(Path::new(path.trim_end().to_owned().leak()));
    }
    Ok(*envoy)
}

impl LocalMesh {
    /// Starts `tollgate up` on these manifests and awaits its `ready`.
    pub fn start(manifests: Manifests, options: Options) -> Result<Self> {
        let mut command = Command::new(tollgate()?);
        command
            .current_dir(repository())
            .arg("up")
            .args(["--format", "json"])
            .args(["--workers", &options.workers.to_string()])
            .args(["--replicas", &options.replicas.to_string()])
            .arg("--manifests")
            .arg(manifests.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(envoy) = envoy()? {
            command.arg("--envoy").arg(envoy);
        }
        let mut child = spawn_for_life(command)?;
        let output = child
            .stdout
            .take()
            .context("tollgate up has no standard output")?;
        let (sender, coming) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output)
                .lines()
                .map_while(std::io::Result::ok)
            {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let events = Mutex::new(Events {
            coming,
            seen: Vec::new(),
        });
        let mut mesh = Self {
            child,
            events,
            gateway: String::new(),
            envoy_version: String::new(),
            workloads: Vec::new(),
            manifests,
        };
        let starting = mesh.await_event("starting", START)?;
        mesh.envoy_version = text(&starting, "envoyVersion")?;
        let ready = mesh.await_event("ready", START)?;
        mesh.gateway = text(&ready, "gateway")?;
        let workloads = ready["workloads"]
            .as_array()
            .context("`ready` has no workloads")?;
        mesh.workloads = workloads.iter().map(workload).collect::<Result<_>>()?;
        Ok(mesh)
    }

    /// The version of its Envoys.
    pub fn envoy_version(&self) -> &str {
        &self.envoy_version
    }

    /// The processes, by id and name, that hold a log of this mesh open: its children, and nobody else.
    pub fn processes(&self) -> Result<Vec<(u32, String)>> {
        let events = self.events();
        let logs: Vec<&str> = events
            .seen
            .iter()
            .filter(|e| e["event"] == "ready")
            .flat_map(|e| e["workloads"].as_array().into_iter().flatten())
            .filter_map(|w| w["logs"].as_str())
            .collect();
        ensure!(!logs.is_empty(), "`ready` names no log folder");
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let Some(id) = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.parse().ok())
            else {
                continue;
            };
            // A process may end while it is looked at, and another user's is not ours.
            let Ok(files) = std::fs::read_dir(path.join("fd")) else {
                continue;
            };
            let mut open = files
                .flatten()
                .filter_map(|f| std::fs::read_link(f.path()).ok());
            if id != std::process::id()
                && open.any(|file| logs.iter().any(|folder| file.starts_with(folder)))
            {
                let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
                found.push((id, name.trim().to_owned()));
            }
        }
        Ok(found)
    }

    /// Awaits an event by name.
    pub fn await_event(&self, name: &str, within: Duration) -> Result<Value> {
        self.await_one_of(&[name], within)
    }

    fn await_one_of(&self, names: &[&str], within: Duration) -> Result<Value> {
        let deadline = Instant::now() + within;
        let mut events = self.events();
        loop {
            match events
                .coming
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(event) => {
                    ensure!(
                        !event.is_string(),
                        "with --format json, `up` printed the line {event}"
                    );
                    events.seen.push(event.clone());
                    if names.iter().any(|name| event["event"] == *name) {
                        return Ok(event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!(
                    "no event {names:?} within {within:?}; seen: {:#?}",
                    events.seen
                ),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(
                        "`up` ended before the event {names:?}; seen: {:#?}",
                        events.seen
                    )
                }
            }
        }
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interrupts `up` as Ctrl-C does, and awaits its end. Its exit code must be 0, `stopped` its last event, and nothing
    /// may have ended before.
    pub fn stop(mut self) -> Result<()> {
        let status = self.end_by(Signal::INT)?;
        ensure!(
            status.success(),
            "`up` ended with {:?}, signal {:?}",
            status.code(),
            status.signal()
        );
        self.await_event("stopped", STOP)?;
        let events = self.events();
        let ended = events.seen.iter().find(|event| event["event"] == "exited");
        ensure!(ended.is_none(), "a process ended by itself: {ended:#?}");
        Ok(())
    }

    /// Sends `up` a signal and awaits its end.
    pub fn end_by(&mut self, signal: Signal) -> Result<ExitStatus> {
        kill_process(pid(&self.child)?, signal)?;
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("`up` still runs {STOP:?} after {signal:?}")
    }
}

impl Drop for LocalMesh {
    fn drop(&mut self) {
        // Only a failed test comes here with a running child; SIGTERM lets `up` stop its children.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), pid(&self.child)) {
            let _ = kill_process(pid, Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

impl Target for LocalMesh {
    fn gateway(&self) -> &str {
        &self.gateway
    }

    fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    fn outcome(&self) -> Result<Outcome> {
        let event = self.await_one_of(&["reloaded", "rejected"], EDIT)?;
        let number = |field: &str| {
            event[field]
                .as_u64()
                .with_context(|| format!("{event} has no number {field:?}"))
        };
        if event["event"] == "reloaded" {
            return Ok(Outcome::Applied(Duration::from_millis(number(
                "milliseconds",
            )?)));
        }
        Ok(Outcome::Refused(Finding {
            file: text(&event, "file")?,
            line: number("line")?,
            field: text(&event, "field")?,
            reason: text(&event, "reason")?,
        }))
    }
}

/// Starts a command that ends when this process does, even if this process is killed.
///
/// Linux ties the death signal to the *thread* that started the child, so that thread stays until the process ends.
fn spawn_for_life(mut command: Command) -> Result<Child> {
    #[cfg(target_os = "linux")]
    // SAFETY: prctl is async-signal-safe and touches no memory of this process.
    unsafe {
        command.pre_exec(|| {
            let signal = Some(rustix::process::Signal::TERM);
            Ok(rustix::process::set_parent_process_death_signal(signal)?)
        });
    }
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let _ = sender.send(command.spawn());
        loop {
            std::thread::park();
        }
    });
    receiver.recv()?.context("starting tollgate up")
}

fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("the child has no process id")
}

fn text(event: &Value, field: &str) -> Result<String> {
    let value = event[field]
        .as_str()
        .with_context(|| format!("{event} has no text {field:?}"))?;
    Ok(value.to_owned())
}

fn workload(event: &Value) -> Result<Workload> {
    let optional = |field: &str| event[field].as_str().map(str::to_owned);
    let inbound = optional("inbound")
        .map(|address| address.parse())
        .transpose()?;
    Ok(Workload {
        name: text(event, "name")?,
        pod: text(event, "pod")?,
        version: optional("version"),
        admin: text(event, "admin")?,
        inbound,
        outbound_proxy: optional("outboundProxy"),
    })
}
