//! What `tollgate up` says: one event at a time, as lines for people or as JSON, one object a line.
//!
//! In JSON nothing else is ever written to standard output. Both forms are made from the same events, so that what
//! people see and what scripts see cannot differ.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anstyle::{AnsiColor, Style};
use serde::{Serialize, Serializer};
use tollgate_mesh::{Problem, Problems};

use super::demo::Outcome;
use super::tries::Try;
use super::view::Screen;
use crate::args::Format;
use crate::console::shown;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Event {
    /// The filters and services are being built.
    Building,
    /// Processes are being started. `run` is the folder of this run, `logs` the one with the logs of every process.
    Starting {
        run: PathBuf,
        logs: PathBuf,
        pods: usize,
        envoy: PathBuf,
        envoy_version: String,
        /// What the manifests name and one machine does not run.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        not_run: Vec<String>,
    },
    /// Everything serves.
    Ready {
        gateway: Option<String>,
        /// The Prometheus beside the mesh.
        #[serde(skip_serializing_if = "Option::is_none")]
        prometheus: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        prometheus_version: Option<String>,
        root_certificate: PathBuf,
        workloads: Vec<Pod>,
        /// For people.
        #[serde(skip)]
        tries: Vec<Try>,
    },
    /// A process ended that nobody asked to.
    Exited {
        pod: String,
        process: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        log: PathBuf,
        last_lines: Vec<String>,
        /// Whether the mesh was ready, and what is left of it serves on. Scripts know from the events before and after.
        #[serde(skip)]
        serving: bool,
    },
    /// The demo's customers come.
    Demo { customers: String, seconds: u64 },
    /// No more customers come.
    DemoOver(Outcome),
    /// Something is wrong with the manifests, and nothing was started or changed.
    Rejected(Problem),
    /// An edit of these files has reached every proxy.
    Reloaded {
        files: Vec<String>,
        /// Since it was noticed.
        milliseconds: u64,
    },
    /// The command failed.
    Error {
        message: String,
        /// What to do about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// Everything is being ended.
    Stopping { reason: String },
    /// Nothing runs any more.
    Stopped,
}

/// A pod, as `ready` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pod {
    /// What the workload is called: its `app` label.
    pub(crate) name: String,
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) version: Option<String>,
    /// The Envoy's admin interface (a URL in the event); none for a pod without one.
    #[serde(serialize_with = "url")]
    pub(crate) admin: Option<SocketAddr>,
    /// Where its sidecar takes requests for the service, over mutual TLS.
    pub(crate) inbound: Option<SocketAddr>,
    /// The HTTP proxy through which the service reaches others.
    #[serde(serialize_with = "url")]
    pub(crate) outbound_proxy: Option<SocketAddr>,
    /// The folder with the pod's logs.
    pub(crate) logs: PathBuf,
}

/// As the gateway's: what speaks HTTP is told as a URL, what speaks TLS as an address.
fn url<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    address
        .map(|address| format!("http://{address}"))
        .serialize(serializer)
}

/// Writes events to standard output.
#[derive(Debug)]
pub(crate) struct Reporter {
    format: Format,
    /// One event at a time.
    writing: Mutex<()>,
    /// Lines for people are written above what the view draws.
    screen: Arc<Screen>,
}

impl Reporter {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            writing: Mutex::new(()),
            screen: Arc::default(),
        }
    }

    /// Where it writes.
    pub(crate) fn screen(&self) -> Arc<Screen> {
        Arc::clone(&self.screen)
    }

    /// Tells of an event. A reader that has gone is no reason to stop: somebody must still end what was started.
    pub(crate) fn tell(&self, event: &Event) {
        let _writing = self.writing.lock();
        let _ = match self.format {
            Format::Json => json(&mut io::stdout().lock(), event),
            Format::Text => self.screen.above(|| match event {
                // With the rest of what goes wrong, so that it is seen when the output goes to a file.
                Event::Rejected(_) => text(&mut anstream::stderr().lock(), event),
                _ => text(&mut anstream::stdout().lock(), event),
            }),
        };
    }

    /// Tells what is wrong with an edit, and people whether the mesh is the same without it: errors alone read as if it had
    /// ended.
    pub(crate) fn refuse(&self, problems: &[Problem], keeps: bool) {
        if self.format == Format::Text {
            let _writing = self.writing.lock();
            let told = || refusal(&mut anstream::stderr().lock(), problems, keeps);
            let _ = self.screen.above(told);
            return;
        }
        for problem in problems {
            self.tell(&Event::Rejected(problem.clone()));
        }
    }

    /// Tells everything that is wrong with the manifests.
    pub(crate) fn reject(&self, problems: &Problems) {
        for problem in &problems.0 {
            self.tell(&Event::Rejected(problem.clone()));
        }
    }
}

fn json(out: &mut impl Write, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

fn refusal(out: &mut impl Write, problems: &[Problem], keeps: bool) -> io::Result<()> {
    for problem in problems {
        text(out, &Event::Rejected(problem.clone()))?;
    }
    if keeps {
        writeln!(out, "       {FAINT}what ran before keeps serving{FAINT:#}")?;
    }
    out.flush()
}

fn text(out: &mut impl Write, event: &Event) -> io::Result<()> {
    match event {
        Event::Building => writeln!(out, "Building the filters and services")?,
        Event::Starting {
            run,
            pods,
            envoy,
            envoy_version,
            not_run,
            ..
        } => {
            writeln!(out, "Starting {pods} pods with Envoy {envoy_version}")?;
            writeln!(out, "  from {}", shown(envoy.display()))?;
            writeln!(out, "  in {}", shown(run.display()))?;
            if !not_run.is_empty() {
                writeln!(out, "  without {}", not_run.join(", "))?;
            }
        }
        Event::Ready {
            gateway,
            prometheus,
            prometheus_version,
            root_certificate,
            workloads,
            tries,
        } => {
            places(out, root_certificate, workloads)?;
            if let (Some(url), Some(version)) = (prometheus, prometheus_version) {
                writeln!(out, "metrics   {url} (Prometheus {version})")?;
            }
            ready(out, gateway.as_deref(), tries)?;
        }
        Event::Exited {
            pod,
            process,
            code,
            signal,
            log,
            last_lines,
            serving,
        } => {
            let how = match (code, signal) {
                (Some(code), _) => format!("with code {code}"),
                (None, Some(signal)) => format!("by signal {signal}"),
                (None, None) => "for an unknown reason".to_owned(),
            };
            writeln!(
                out,
                "{BAD}{pod}: {process} ended {how}{BAD:#}{}",
                if *serving {
                    "; the rest keeps running"
                } else {
                    ""
                }
            )?;
            for line in last_lines {
                writeln!(out, "  | {line}")?;
            }
            writeln!(out, "  {}", shown(log.display()))?;
        }
        Event::Demo { customers, seconds } => {
            writeln!(out, "demo      for {} minutes: {customers}", seconds / 60)?
        }
        Event::DemoOver(outcome) => writeln!(out, "demo      over: {outcome}")?,
        Event::Rejected(problem) => writeln!(out, "{BAD}error:{BAD:#} {}", shown(problem))?,
        Event::Reloaded {
            files,
            milliseconds,
        } => writeln!(
            out,
            "{GOOD}reloaded{GOOD:#} in {milliseconds} ms: {}",
            shown(files.join(", "))
        )?,
        // The command says it as it ends, as every command does.
        Event::Error { .. } => {}
        Event::Stopping { reason } => writeln!(
            out,
            "Stopping ({}); once more ends everything at once",
            shown(reason)
        )?,
        Event::Stopped => writeln!(out, "Stopped: nothing is left running")?,
    }
    out.flush()
}

fn places(out: &mut impl Write, root: &std::path::Path, pods: &[Pod]) -> io::Result<()> {
    let port = |address: Option<SocketAddr>| {
        address.map_or_else(|| "-".to_owned(), |address| address.port().to_string())
    };
    let rows: Vec<[String; 6]> = pods
        .iter()
        .map(|pod| {
            [
                pod.pod.clone(),
                pod.namespace.clone(),
                pod.version.clone().unwrap_or_else(|| "-".to_owned()),
                port(pod.admin),
                port(pod.inbound),
                port(pod.outbound_proxy),
            ]
        })
        .collect();
    let heads = [
        "pod",
        "namespace",
        "version",
        "admin",
        "inbound",
        "outbound",
    ];
    let widths: [usize; 6] = std::array::from_fn(|n| {
        rows.iter()
            .map(|row| row[n].len())
            .chain([heads[n].len()])
            .max()
            .unwrap_or(0)
    });
    let line = |cells: [&str; 6]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    writeln!(out)?;
    writeln!(out, "{STRONG}{}{STRONG:#}", line(heads))?;
    for row in &rows {
        writeln!(out, "{}", line(std::array::from_fn(|n| row[n].as_str())))?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "ports     on 127.0.0.1; inbound takes mutual TLS, outbound is an HTTP proxy"
    )?;
    if let Some(logs) = pods.first().and_then(|pod| pod.logs.parent()) {
        writeln!(out, "logs      {}/<pod>/", shown(logs.display()))?;
    }
    writeln!(out, "root CA   {}", shown(root.display()))
}

fn ready(out: &mut impl Write, gateway: Option<&str>, tries: &[Try]) -> io::Result<()> {
    let Some(gateway) = gateway else {
        writeln!(
            out,
            "{GOOD}ready{GOOD:#}, with no ingress gateway in the manifests. Ctrl-C stops everything."
        )?;
        return Ok(());
    };
    writeln!(out, "gateway   {STRONG}{gateway}{STRONG:#}")?;
    writeln!(out)?;
    writeln!(
        out,
        "{GOOD}ready.{GOOD:#} Ctrl-C stops everything. To try, in another terminal:"
    )?;
    for Try { what, command } in tries {
        writeln!(out, "  {FAINT}# {what}{FAINT:#}")?;
        writeln!(out, "  {}", command.replace('\n', "\n  "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tollgate_mesh::Code;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn pods() -> Vec<Pod> {
        vec![
            Pod {
                name: "product-service".to_owned(),
                pod: "product-service-0".to_owned(),
                namespace: "ecommerce".to_owned(),
                version: Some("v1".to_owned()),
                admin: Some(address(20001)),
                inbound: Some(address(20002)),
                outbound_proxy: Some(address(20003)),
                logs: PathBuf::from("/run/logs/product-service-0"),
            },
            Pod {
                name: "ingressgateway".to_owned(),
                pod: "istio-ingressgateway-0".to_owned(),
                namespace: "istio-system".to_owned(),
                version: None,
                admin: Some(address(20004)),
                inbound: None,
                outbound_proxy: None,
                logs: PathBuf::from("/run/logs/istio-ingressgateway-0"),
            },
        ]
    }

    fn said(write: fn(&mut Vec<u8>, &Event) -> io::Result<()>, event: &Event) -> String {
        let mut out = Vec::new();
        write(&mut out, event).unwrap();
        anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string()
    }

    #[test]
    fn ready_is_one_line_of_json_with_the_names_scripts_rely_on() {
        let event = Event::Ready {
            gateway: Some("http://127.0.0.1:8080".to_owned()),
            prometheus: None,
            prometheus_version: None,
            root_certificate: PathBuf::from("/run/root.pem"),
            workloads: pods(),
            tries: Vec::new(),
        };
        assert_eq!(
            said(json, &event),
            "{\"event\":\"ready\",\"gateway\":\"http://127.0.0.1:8080\",\"rootCertificate\":\"/run/root.pem\",\"workloads\":[\
             {\"name\":\"product-service\",\"pod\":\"product-service-0\",\"namespace\":\"ecommerce\",\"version\":\"v1\",\
             \"admin\":\"http://127.0.0.1:20001\",\"inbound\":\"127.0.0.1:20002\",\"outboundProxy\":\"http://127.0.0.1:20003\",\
             \"logs\":\"/run/logs/product-service-0\"},\
             {\"name\":\"ingressgateway\",\"pod\":\"istio-ingressgateway-0\",\"namespace\":\"istio-system\",\"version\":null,\
             \"admin\":\"http://127.0.0.1:20004\",\"inbound\":null,\"outboundProxy\":null,\
             \"logs\":\"/run/logs/istio-ingressgateway-0\"}]}\n"
        );
    }

    #[test]
    fn a_problem_is_told_by_file_line_field_and_reason() {
        let problem = Problem {
            file: PathBuf::from("istio/a.yaml"),
            line: 7,
            field: "spec.http[0].timeout".to_owned(),
            message: "\"10\" is not a duration, write \"10s\"".to_owned(),
            code: Code::Value,
        };
        assert_eq!(
            said(json, &Event::Rejected(problem.clone())),
            "{\"event\":\"rejected\",\"file\":\"istio/a.yaml\",\"line\":7,\"field\":\"spec.http[0].timeout\",\
             \"reason\":\"\\\"10\\\" is not a duration, write \\\"10s\\\"\"}\n"
        );
        let told = "error: istio/a.yaml:7: spec.http[0].timeout: \"10\" is not a duration, write \"10s\"\n";
        assert_eq!(said(text, &Event::Rejected(problem.clone())), told);
        // From where people are; what scripts get does not depend on that.
        let file = std::env::current_dir().unwrap().join(&problem.file);
        let event = Event::Rejected(Problem {
            file: file.clone(),
            ..problem
        });
        assert_eq!(said(text, &event), told);
        assert!(said(json, &event).contains(&file.display().to_string()));
    }

    #[test]
    fn an_edit_that_is_refused_says_once_that_the_mesh_goes_on() {
        let problems = ["a.yaml", "b.yaml"].map(|file| Problem::at(file, 1, "is empty"));
        let told = |keeps| {
            let mut out = Vec::new();
            refusal(&mut out, &problems, keeps).unwrap();
            anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string()
        };
        let errors = "error: a.yaml:1: is empty\nerror: b.yaml:1: is empty\n";
        assert_eq!(
            told(true),
            format!("{errors}       what ran before keeps serving\n")
        );
        // An Envoy that does not go back to what it was.
        assert_eq!(told(false), errors);
    }

    #[test]
    fn a_failure_is_told_to_scripts_and_left_to_the_command_s_end_for_people() {
        let event = |hint: Option<&str>| Event::Error {
            message: "cannot start: no".to_owned(),
            hint: hint.map(str::to_owned),
        };
        assert_eq!(
            said(json, &event(Some("start it"))),
            "{\"event\":\"error\",\"message\":\"cannot start: no\",\"hint\":\"start it\"}\n"
        );
        assert_eq!(
            said(json, &event(None)),
            "{\"event\":\"error\",\"message\":\"cannot start: no\"}\n"
        );
        assert_eq!(said(text, &event(None)), "");
    }

    #[test]
    fn an_edit_is_told_with_its_files() {
        let reloaded = |files: Vec<String>| Event::Reloaded {
            files,
            milliseconds: 84,
        };
        let files = ["istio/a.yaml", "istio/b.yaml"].map(str::to_owned);
        let event = reloaded(files.to_vec());
        assert_eq!(
            said(json, &event),
            "{\"event\":\"reloaded\",\"files\":[\"istio/a.yaml\",\"istio/b.yaml\"],\"milliseconds\":84}\n"
        );
        assert_eq!(
            said(text, &event),
            "reloaded in 84 ms: istio/a.yaml, istio/b.yaml\n"
        );
        let here = std::env::current_dir().unwrap();
        let absolute = files.map(|file| here.join(file).to_string_lossy().into_owned());
        assert_eq!(said(text, &reloaded(absolute.to_vec())), said(text, &event));
    }

    #[test]
    fn a_process_that_died_is_told_with_its_last_words() {
        let event = Event::Exited {
            pod: "cart-service-0".to_owned(),
            process: "service".to_owned(),
            code: None,
            signal: Some(9),
            log: PathBuf::from("/run/logs/cart-service-0/service.log"),
            last_lines: vec!["one".to_owned(), "two".to_owned()],
            serving: true,
        };
        assert_eq!(
            said(json, &event),
            "{\"event\":\"exited\",\"pod\":\"cart-service-0\",\"process\":\"service\",\"signal\":9,\
             \"log\":\"/run/logs/cart-service-0/service.log\",\"lastLines\":[\"one\",\"two\"]}\n"
        );
        assert_eq!(
            said(text, &event),
            "cart-service-0: service ended by signal 9; the rest keeps running\n  | one\n  | two\n  \
             /run/logs/cart-service-0/service.log\n"
        );
    }

    #[test]
    fn a_demo_is_told_with_its_customers_and_what_became_of_them() {
        let event = Event::Demo {
            customers: "acme (premium) 50/s".to_owned(),
            seconds: 600,
        };
        assert_eq!(
            said(json, &event),
            "{\"event\":\"demo\",\"customers\":\"acme (premium) 50/s\",\"seconds\":600}\n"
        );
        assert_eq!(
            said(text, &event),
            "demo      for 10 minutes: acme (premium) 50/s\n"
        );
        let event = Event::DemoOver(Outcome {
            answers: [(200, 7), (429, 2)].into(),
            ..Outcome::default()
        });
        assert_eq!(
            said(json, &event),
            "{\"event\":\"demoOver\",\"answers\":{\"200\":7,\"429\":2},\"failed\":0,\"leftOut\":0}\n"
        );
        assert_eq!(
            said(text, &event),
            "demo      over: 9 requests: 7 answered, 2 refused with 429\n"
        );
    }

    #[test]
    fn a_prometheus_is_told_to_scripts_and_to_people() {
        let event = Event::Ready {
            gateway: None,
            prometheus: Some("http://127.0.0.1:9090".to_owned()),
            prometheus_version: Some("2.42.0".to_owned()),
            root_certificate: PathBuf::from("/run/root.pem"),
            workloads: Vec::new(),
            tries: Vec::new(),
        };
        assert_eq!(
            said(json, &event),
            "{\"event\":\"ready\",\"gateway\":null,\"prometheus\":\"http://127.0.0.1:9090\",\"prometheusVersion\":\"2.42.0\",\
             \"rootCertificate\":\"/run/root.pem\",\"workloads\":[]}\n"
        );
        let text = said(text, &event);
        assert!(
            text.contains("\nroot CA   /run/root.pem\nmetrics   http://127.0.0.1:9090 (Prometheus 2.42.0)\nready, "),
            "{text}"
        );
    }

    #[test]
    fn the_table_is_aligned_and_says_what_to_try() {
        let event = Event::Ready {
            gateway: Some("http://127.0.0.1:8080".to_owned()),
            prometheus: None,
            prometheus_version: None,
            root_certificate: PathBuf::from("/run/root.pem"),
            workloads: pods(),
            tries: vec![Try {
                what: "the products".to_owned(),
                command: "curl -s \\\n  http://127.0.0.1:8080/products".to_owned(),
            }],
        };
        let text = said(text, &event);
        assert!(
            text.starts_with(
                "\npod                     namespace     version  admin  inbound  outbound\n\
                 product-service-0       ecommerce     v1       20001  20002    20003\n\
                 istio-ingressgateway-0  istio-system  -        20004  -        -\n\n\
                 ports     on 127.0.0.1; inbound takes mutual TLS, outbound is an HTTP proxy\n\
                 logs      /run/logs/<pod>/\nroot CA   /run/root.pem\ngateway   http://127.0.0.1:8080\n"
            ),
            "{text}"
        );
        let (table, _) = text.split_once("logs  ").unwrap();
        assert!(table.lines().all(|line| line.len() <= 80), "{text}");
        assert!(
            text.ends_with(
                "\n\nready. Ctrl-C stops everything. To try, in another terminal:\n  # the products\n  curl -s \\\n    \
                 http://127.0.0.1:8080/products\n"
            ),
            "{text}"
        );
    }
}
