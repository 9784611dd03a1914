//! The local mesh as a target: `tollgate up --format json`, run as a user runs it.

use std::ffi::OsStr;
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
use crate::room::Place;
use crate::target::{Finding, Outcome, Target, Workload};

/// A first start compiles every module for Envoy and the four services.
const START: Duration = Duration::from_secs(900);
/// An edit takes a fraction of a second; one that needs a module compiled takes longer.
const EDIT: Duration = Duration::from_secs(120);
/// A stop awaits some twenty processes.
pub(crate) const STOP: Duration = Duration::from_secs(60);

/// How a local mesh is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker threads of each Envoy.
    pub workers: u32,
    /// Pods of each workload; as many as the manifests say if none.
    pub replicas: Option<u32>,
    /// What runs in place of images: `IMAGE=COMMAND`.
    pub run: Vec<String>,
    /// The URL of the PostgreSQL that the services use.
    pub database: Option<String>,
    /// Whether the demo's customers come.
    pub demo: bool,
    /// The Prometheus that runs beside the mesh.
    pub prometheus: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            replicas: Some(1),
            run: Vec::new(),
            database: None,
            demo: false,
            prometheus: None,
        }
    }
}

/// A process of a mesh.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its process id.
    pub id: u32,
    /// The name that the system has for it.
    pub name: String,
    /// The log that it writes, in a folder named after its pod.
    pub log: PathBuf,
}

/// A mesh started by `tollgate up`. Dropping it stops it.
#[derive(Debug)]
pub struct LocalMesh {
    child: Child,
    events: Mutex<Events>,
    gateway: String,
    prometheus: Option<String>,
    envoy_version: String,
    workloads: Vec<Workload>,
    manifests: Manifests,
    _place: Place,
}

impl Process {
    /// Kills it.
    pub fn kill(&self) -> Result<()> {
        let id = i32::try_from(self.id).ok().and_then(Pid::from_raw);
        Ok(kill_process(id.context("no process id")?, Signal::KILL)?)
    }
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
        let path = fetched(&[OsStr::new("--release"), &release])?;
        *envoy = Some(Path::new(path.leak()));
    }
    Ok(*envoy)
}

/// Where `tollgate envoy` with these arguments has an Envoy, which it fetches if need be.
pub(crate) fn fetched(arguments: &[&OsStr]) -> Result<String> {
    let output = Command::new(tollgate()?)
        .arg("envoy")
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "tollgate envoy ended with {}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// `tollgate up` on these manifests.
pub(crate) fn up(manifests: &Manifests, options: &Options) -> Result<Command> {
    let mut command = Command::new(tollgate()?);
    command
        .current_dir(repository())
        .arg("up")
        .args(["--workers", &options.workers.to_string()])
        .args(
            manifests
                .paths()
                .iter()
                .flat_map(|path| [OsStr::new("--manifests"), path.as_os_str()]),
        )
        // Each mesh has databases of its own, unless a test says otherwise.
        .env_remove("TOLLGATE_DATABASE");
    if let Some(replicas) = options.replicas {
        command.args(["--replicas", &replicas.to_string()]);
    }
    for run in &options.run {
        command.args(["--run", run]);
    }
    if let Some(database) = &options.database {
        command.args(["--database", database]);
    }
    if options.demo {
        command.arg("--demo");
    }
    if let Some(prometheus) = &options.prometheus {
        command.args(["--prometheus", "--prometheus-bin"]);
        command.arg(prometheus);
    }
    if let Some(envoy) = envoy()? {
        command.arg("--envoy").arg(envoy);
    }
    Ok(command)
}

/// The processes that hold a log in one of these folders open: a mesh's children, and nobody else.
pub(crate) fn processes(logs: &[PathBuf]) -> Result<Vec<Process>> {
    ensure!(!logs.is_empty(), "no log folder is known");
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
        // An Envoy has two; it is known by the one that says what became of it.
        let log = open.find(|file| {
            logs.iter().any(|folder| file.starts_with(folder)) && !file.ends_with("access.log")
        });
        if let Some(log) = log.filter(|_| id != std::process::id()) {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            let name = name.trim().to_owned();
            found.push(Process { id, name, log });
        }
    }
    Ok(found)
}

/// Waits until none of them is left.
pub(crate) fn nothing_left(processes: impl Fn() -> Result<Vec<Process>>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = processes()?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "still running: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl LocalMesh {
    /// Starts `tollgate up` on these manifests and awaits its `ready`.
    pub fn start(manifests: Manifests, options: Options) -> Result<Self> {
        let place = Place::take(manifests.form(), options.replicas);
        let mut command = up(&manifests, &options)?;
        command
            .args(["--format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
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
            prometheus: None,
            envoy_version: String::new(),
            workloads: Vec::new(),
            manifests,
            _place: place,
        };
        let starting = mesh.await_event("starting", START)?;
        mesh.envoy_version = text(&starting, "envoyVersion")?;
        let ready = mesh.await_event("ready", START)?;
        mesh.gateway = text(&ready, "gateway")?;
        mesh.prometheus = ready["prometheus"].as_str().map(str::to_owned);
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

    /// Base URL of the Prometheus beside it.
    pub fn prometheus(&self) -> Result<&str> {
        let url = self.prometheus.as_deref();
        url.context("the mesh runs without Prometheus")
    }

    /// Its processes.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let events = self.events();
        let logs = events.seen.iter().filter_map(|e| e["logs"].as_str());
        processes(&Vec::from_iter(logs.map(PathBuf::from)))
    }

    /// Its only process that writes this log: `service.log` or `envoy.log` of a pod.
    pub fn process(&self, pod: &str, log: &str) -> Result<Process> {
        let all = self.processes()?;
        let mut wanted = all
            .iter()
            .filter(|p| p.log.ends_with(format!("{pod}/{log}")));
        match (wanted.next(), wanted.next()) {
            (Some(process), None) => Ok(process.clone()),
            _ => bail!("{pod} has not one process that writes {log}: {all:?}"),
        }
    }

    /// Waits until none of its processes is left.
    pub fn nothing_left(&self) -> Result<()> {
        nothing_left(|| self.processes())
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
    /// may have ended before. All that it said.
    pub fn stop(mut self) -> Result<Vec<Value>> {
        let events = self.stop_after_exits()?;
        let ended = events.iter().find(|event| event["event"] == "exited");
        ensure!(ended.is_none(), "a process ended by itself: {ended:#?}");
        Ok(events)
    }

    /// The same when processes have ended before.
    pub fn stop_after_exits(&mut self) -> Result<Vec<Value>> {
        let status = self.end_by(Signal::INT)?;
        ensure!(
            status.success(),
            "`up` ended with {:?}, signal {:?}",
            status.code(),
            status.signal()
        );
        self.await_event("stopped", STOP)?;
        let events = self.events();
        if let Ok(more) = events.coming.recv_timeout(STOP) {
            bail!("after `stopped`, `up` printed {more}");
        }
        Ok(events.seen.clone())
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

    fn access_log(&self, name: &str) -> Result<String> {
        let pods = self.pods(name).into_iter();
        pods.map(|pod| {
            // What Envoy prints is beside what it has to say of itself.
            let log = self.process(&pod.pod, "envoy.log")?.log;
            let log = log.with_file_name("access.log");
            std::fs::read_to_string(&log).with_context(|| log.display().to_string())
        })
        .collect()
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
pub(crate) fn spawn_for_life(mut command: Command) -> Result<Child> {
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

pub(crate) fn pid(child: &Child) -> Result<Pid> {
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
