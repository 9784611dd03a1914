//! `up --prometheus`: a real Prometheus beside the mesh, which reads what a cluster's would read.
//!
//! Which Prometheus: the one that `--prometheus-bin` names, else the one on `PATH`. There is none to fetch: what is asked for
//! and not there is told before anything is built or started.
//!
//! What it reads: of every Envoy what that Envoy exports on a cluster
//! ([`ExportedStats`](tollgate_mesh::model::ExportedStats)), every second. Where the pods are it finds in a file, in place
//! of Kubernetes; what it makes of them is written as Istio's own addon has it, so that queries and dashboards see the same
//! labels in both places.
//!
//! Everything of it is in the run's folder, below `prometheus/`, and goes with that.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use serde::Serialize;
use tollgate_mesh::model::{PodName, Workload};

use super::ports::{Held, Ports};
use super::readiness::{Awaited, Sign};
use super::supervisor::Start;
use super::xds;
use crate::error::Hint;

/// How it is called in events, and the folder of its logs.
pub(crate) const NAME: &str = "prometheus";

/// How its process is called there.
const PROCESS: &str = "server";

/// Where people look for it.
const PORT: u16 = 9090;

/// Its configuration. The relabelling is what Istio's addon does with pods; file and folder names are relative to it.
const CONFIGURATION: &str = r#"# Written by `tollgate up --prometheus`. The pods are in targets.json, with the labels that discovery in
# Kubernetes gives them; what becomes of those is what Istio's own addon for Prometheus makes of them.
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
- job_name: kubernetes-pods
  metrics_path: /stats/prometheus
  file_sd_configs:
  - files: [targets.json]
  relabel_configs:
  - action: labelmap
    regex: __meta_kubernetes_pod_label_(.+)
  - action: replace
    source_labels: [__meta_kubernetes_namespace]
    target_label: namespace
  - action: replace
    source_labels: [__meta_kubernetes_pod_name]
    target_label: pod
"#;

/// A Prometheus that works, and the port that is held for it.
#[derive(Debug)]
pub(crate) struct Prometheus {
    program: PathBuf,
    version: String,
    held: Held,
}

/// A pod in `targets.json`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

impl Prometheus {
    /// Finds this one, or that on `PATH`, and this port for it, or any.
    pub(crate) fn find(bin: Option<&Path>, port: Option<u16>) -> anyhow::Result<Self> {
        let program = match bin {
            Some(program) => given(program)?,
            None => on_path(&env::var_os("PATH").unwrap_or_default())?,
        };
        Ok(Self {
            version: version(&program)?,
            program,
            held: self::port(port)?,
        })
    }

    /// Its version, as it says it.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Where people and queries find it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.held.address())
    }

    /// Writes its configuration into this folder.
    pub(crate) fn write(&self, directory: &Path, targets: &[Target]) -> anyhow::Result<()> {
        let targets = serde_json::to_string_pretty(targets)?;
        xds::write(&[
            (directory.join("targets.json"), targets + "\n"),
            (directory.join("prometheus.yml"), CONFIGURATION.to_owned()),
        ])
    }

    /// How it is started in that folder, and how one knows that it serves.
    pub(crate) fn start(&self, directory: &Path, logs: &Path) -> (Start, Awaited) {
        let log = logs.join(format!("{PROCESS}.log"));
        let args = [
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            // Whoever forgets a mesh must not find the disk full. The oldest goes first.
            "--storage.tsdb.retention.size=512MB".to_owned(),
            format!("--web.listen-address={}", self.held.address()),
        ];
        let start = Start {
            pod: NAME.to_owned(),
            process: PROCESS.to_owned(),
            program: self.program.clone().into_os_string(),
            args: args.map(OsString::from).to_vec(),
            environment: BTreeMap::new(),
            directory: directory.to_owned(),
            log: log.clone(),
            output: None,
        };
        let awaited = Awaited {
            pod: NAME.to_owned(),
            process: PROCESS.to_owned(),
            log,
            sign: Sign::Answer(format!("{}/-/ready", self.url())),
        };
        (start, awaited)
    }
}

impl Target {
    /// A pod whose Envoy has its admin interface there.
    pub(crate) fn new(workload: &Workload, pod: &PodName, admin: SocketAddr) -> Self {
        let mut labels = BTreeMap::new();
        for (name, value) in injected(workload).into_iter().chain(
            workload
                .labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone())),
        ) {
            let name = format!("__meta_kubernetes_pod_label_{}", sanitized(name));
            labels.insert(name, value);
        }
        let mut label = |name: &str, value: String| labels.insert(name.to_owned(), value);
        label("__meta_kubernetes_namespace", pod.namespace.clone());
        label("__meta_kubernetes_pod_name", pod.name.clone());
        // It becomes a parameter of the URL: the local proxies themselves keep all stats.
        label("__param_filter", workload.exported_stats().expression());
        Self {
            targets: [admin.to_string()],
            labels,
        }
    }
}

/// The labels that Istio's injection writes on pods which do not have them.
fn injected(workload: &Workload) -> [(&str, String); 3] {
    let label = |name: &str| workload.labels.get(name).cloned();
    let name = label("app.kubernetes.io/name").or_else(|| label("app"));
    let version = label("app.kubernetes.io/version").or_else(|| label("version"));
    [
        ("security.istio.io/tlsMode", "istio".to_owned()),
        (
            "service.istio.io/canonical-name",
            name.unwrap_or_else(|| workload.name.clone()),
        ),
        (
            "service.istio.io/canonical-revision",
            version.unwrap_or_else(|| "latest".to_owned()),
        ),
    ]
}

/// As Prometheus writes the names of Kubernetes' labels.
fn sanitized(name: &str) -> String {
    let character = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(character).collect()
}

/// What to do where there is none.
const WAYS: &str = "install it (Debian, Ubuntu: `apt install prometheus`; macOS: `brew install prometheus`),\n\
                    or unpack a release from https://prometheus.io/download/ and name its program: --prometheus-bin PATH";

fn on_path(search_path: &OsStr) -> anyhow::Result<PathBuf> {
    env::split_paths(search_path)
        // As with Envoy: nothing is run from the current folder unasked.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(NAME))
        .find(|program| is_executable(program))
        .ok_or_else(|| anyhow!("--prometheus: there is no program `prometheus` on PATH"))
        .hint(WAYS)
}

fn given(program: &Path) -> anyhow::Result<PathBuf> {
    // A bare name would be looked up on PATH when it is run, from another folder.
    let path = std::path::absolute(program)
        .with_context(|| format!("--prometheus-bin {}", program.display()))?;
    let why = if !path.exists() {
        "there is no such file"
    } else if !is_executable(&path) {
        "it is not an executable file"
    } else {
        return Ok(path);
    };
    Err(anyhow!("--prometheus-bin {}: {why}", program.display()))
        .hint("leave it out for the `prometheus` on PATH")
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What it says to `--version`, which begins `prometheus, version 2.42.0 (…)`.
fn version(program: &Path) -> anyhow::Result<String> {
    let shown = program.display();
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{shown} cannot be run"))?;
    // Old ones say it on standard error.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let first = said.trim().lines().next().unwrap_or_default();
    let version = first
        .strip_prefix("prometheus, version ")
        .and_then(|rest| rest.split_whitespace().next());
    match version {
        Some(version) if output.status.success() => Ok(version.to_owned()),
        _ => Err(anyhow!(
            "{shown} is no Prometheus: to --version it says {first:?} ({})",
            output.status
        ))
        .hint(WAYS),
    }
}

fn port(wanted: Option<u16>) -> anyhow::Result<Held> {
    match wanted {
        Some(port) => Held::port(port).map_err(|error| refused(port, &error)),
        None => Held::port(PORT).or_else(|_| Ports::new()?.hold()),
    }
}

fn refused(port: u16, error: &io::Error) -> anyhow::Error {
    let what = format!("--prometheus-port {port}: cannot listen on 127.0.0.1:{port}");
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{what}: another process has it, perhaps a Prometheus that the system runs")
                .hint("leave --prometheus-port out for a port that is free")
        }
        io::ErrorKind::PermissionDenied => anyhow!("{what}: the system keeps low ports for itself")
            .hint("take a port from 1024 on"),
        _ => anyhow!("{what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tollgate_mesh::Mesh;
    use tollgate_mesh::api::Objects;

    use super::*;
    use crate::error::render;
    use crate::testing::script;

    /// The text of an error, with this folder as `M`.
    fn told<T: std::fmt::Debug>(result: anyhow::Result<T>, folder: &Path) -> String {
        render(&result.unwrap_err()).replace(&folder.display().to_string(), "M")
    }

    #[test]
    fn what_is_not_there_is_told_with_the_ways_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        // A folder of that name is no program, and neither is a file that nobody may execute.
        std::fs::create_dir(path.join("prometheus")).unwrap();
        assert_eq!(
            told(on_path(path.as_os_str()), path),
            "error: --prometheus: there is no program `prometheus` on PATH\n\
             hint: install it (Debian, Ubuntu: `apt install prometheus`; macOS: `brew install prometheus`),\n      \
             or unpack a release from https://prometheus.io/download/ and name its program: --prometheus-bin PATH\n"
        );
        assert_eq!(
            told(given(&path.join("mine")), path),
            "error: --prometheus-bin M/mine: there is no such file\nhint: leave it out for the `prometheus` on PATH\n"
        );
        std::fs::write(path.join("mine"), "").unwrap();
        assert_eq!(
            told(given(&path.join("mine")), path),
            "error: --prometheus-bin M/mine: it is not an executable file\nhint: leave it out for the `prometheus` on PATH\n"
        );
    }

    #[test]
    fn it_must_say_that_it_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin/prometheus");
        script(
            &program,
            "echo 'prometheus, version 2.42.0+ds (branch: debian/sid)'",
        );
        assert_eq!(
            on_path(program.parent().unwrap().as_os_str()).unwrap(),
            program
        );
        assert_eq!(version(&program).unwrap(), "2.42.0+ds");
        let other = folder.path().join("other");
        script(&other, "echo hello; exit 3");
        assert!(
            told(version(&other), folder.path()).starts_with(
                "error: M/other is no Prometheus: to --version it says \"hello\" (exit status: 3)\nhint: install it"
            )
        );
    }

    #[test]
    fn a_port_that_is_taken_is_refused_and_any_other_is_found() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let number = taken.local_addr().unwrap().port();
        assert_eq!(
            render(&port(Some(number)).unwrap_err()),
            format!(
                "error: --prometheus-port {number}: cannot listen on 127.0.0.1:{number}: another process has it, perhaps a \
                 Prometheus that the system runs\nhint: leave --prometheus-port out for a port that is free\n"
            )
        );
        let [one, other] = [port(None).unwrap(), port(None).unwrap()];
        assert_ne!(one.address(), other.address());
    }

    #[test]
    fn a_pod_has_the_labels_that_discovery_in_kubernetes_gives_it() {
        let manifest = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart, version: v2, example.com/cost-centre: a7}}
    spec: {containers: [{name: cart, image: cart}]}
";
        let objects = Objects::parse(Path::new("shop.yaml"), manifest).unwrap();
        let mesh = Mesh::build(objects).unwrap();
        let workload = &mesh.workloads[0];
        let admin = SocketAddr::from(([127, 0, 0, 1], 20001));
        let target = Target::new(workload, &workload.pods()[0], admin);
        assert_eq!(target.targets, ["127.0.0.1:20001"]);
        let labels: Vec<(&str, &str)> = target
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            labels,
            [
                ("__meta_kubernetes_namespace", "shop"),
                ("__meta_kubernetes_pod_label_app", "cart"),
                ("__meta_kubernetes_pod_label_example_com_cost_centre", "a7"),
                (
                    "__meta_kubernetes_pod_label_security_istio_io_tlsMode",
                    "istio"
                ),
                (
                    "__meta_kubernetes_pod_label_service_istio_io_canonical_name",
                    "cart"
                ),
                (
                    "__meta_kubernetes_pod_label_service_istio_io_canonical_revision",
                    "v2"
                ),
                ("__meta_kubernetes_pod_label_version", "v2"),
                ("__meta_kubernetes_pod_name", "cart-0"),
                ("__param_filter", &workload.exported_stats().expression()),
            ]
        );
    }
}
