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
use super::view::Screen;
use crate::args::Format;

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
        root_certificate: PathBuf,
        workloads: Vec<Pod>,
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
    Error { message: String },
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
            writeln!(
                out,
                "Starting {pods} pods with Envoy {envoy_version} {FAINT}{}{FAINT:#}",
                envoy.display()
            )?;
            writeln!(out, "  in {}", run.display())?;
            if !not_run.is_empty() {
                writeln!(out, "  without {}", not_run.join(", "))?;
            }
        }
        Event::Ready {
            gateway,
            root_certificate,
            workloads,
        } => {
            ready(out, gateway.as_deref(), root_certificate, workloads)?;
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
            writeln!(out, "  {}", log.display())?;
        }
        Event::Demo { customers, seconds } => {
            writeln!(out, "demo      for {} minutes: {customers}", seconds / 60)?
        }
        Event::DemoOver(outcome) => writeln!(out, "demo      over: {outcome}")?,
        Event::Rejected(problem) => writeln!(out, "{BAD}error:{BAD:#} {problem}")?,
        Event::Reloaded {
            files,
            milliseconds,
        } => writeln!(
            out,
            "{GOOD}reloaded{GOOD:#} in {milliseconds} ms: {}",
            files.join(", ")
        )?,
        // The command says it as it ends, as every command does.
        Event::Error { .. } => {}
        Event::Stopping { reason } => writeln!(
            out,
            "Stopping ({reason}); once more ends everything at once"
        )?,
        Event::Stopped => writeln!(out, "Stopped: nothing is left running")?,
    }
    out.flush()
}

fn ready(
    out: &mut impl Write,
    gateway: Option<&str>,
    root: &std::path::Path,
    pods: &[Pod],
) -> io::Result<()> {
    let address =
        |address: Option<SocketAddr>| address.map_or_else(|| "-".to_owned(), |a| a.to_string());
    let rows: Vec<[String; 6]> = pods
        .iter()
        .map(|pod| {
            [
                pod.pod.clone(),
                pod.namespace.clone(),
                pod.version.clone().unwrap_or_else(|| "-".to_owned()),
                address(pod.admin),
                address(pod.inbound),
                address(pod.outbound_proxy),
            ]
        })
        .collect();
    let heads = [
        "pod",
        "namespace",
        "version",
        "admin",
        "inbound (mTLS)",
        "outbound proxy",
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
    if let Some(logs) = pods.first().and_then(|pod| pod.logs.parent()) {
        writeln!(out, "logs      {}/<pod>/", logs.display())?;
    }
    writeln!(out, "root CA   {}", root.display())?;
    let Some(gateway) = gateway else {
        writeln!(
            out,
            "{GOOD}ready{GOOD:#}, without an ingress gateway: the manifests have none. Ctrl-C stops everything."
        )?;
        return Ok(());
    };
    writeln!(out, "gateway   {STRONG}{gateway}{STRONG:#}")?;
    writeln!(out)?;
    if !pods.iter().any(|pod| pod.name == "product-service") {
        return writeln!(out, "{GOOD}ready.{GOOD:#} Ctrl-C stops everything.");
    }
    writeln!(
        out,
        "{GOOD}ready.{GOOD:#} Ctrl-C stops everything. To try, in another terminal:"
    )?;
    let admin = pods
        .iter()
        .find(|pod| pod.inbound.is_none() && pod.outbound_proxy.is_none())
        .and_then(|pod| pod.admin);
    for (command, what) in tries(gateway, admin) {
        writeln!(out, "  {FAINT}# {what}{FAINT:#}")?;
        writeln!(out, "  {command}")?;
    }
    Ok(())
}

/// What somebody may want to try first with the shop, and what is to be seen.
fn tries(gateway: &str, admin: Option<SocketAddr>) -> Vec<(String, &'static str)> {
    let mut tries = vec![
        (
            format!("curl -i {gateway}/products/beans -H 'x-tenant-id: acme'"),
            "a premium tenant: nine of ten answers are from v1, RateLimit says what is left",
        ),
        (
            format!("curl {gateway}/products/beans -H 'x-tenant-id: acme' -H 'x-user-id: alice'"),
            "a VIP: always v2, with its SALE badge",
        ),
        (
            format!(
                "for i in $(seq 15); do curl -s -o /dev/null -w '%{{http_code}} ' {gateway}/products \
                 -H 'x-tenant-id: initech'; done; echo"
            ),
            "a free tenant: 5 requests a second, 10 at once, then 429",
        ),
    ];
    if let Some(admin) = admin {
        tries.push((
            format!("curl -s http://{admin}/stats/prometheus | grep ^shop_"),
            "what was counted, by tenant, tier and class",
        ));
    }
    tries
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
            root_certificate: PathBuf::from("/run/root.pem"),
            workloads: pods(),
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
        assert_eq!(
            said(text, &Event::Rejected(problem)),
            "error: istio/a.yaml:7: spec.http[0].timeout: \"10\" is not a duration, write \"10s\"\n"
        );
    }

    #[test]
    fn an_edit_is_told_with_its_files() {
        let event = Event::Reloaded {
            files: vec!["istio/a.yaml".to_owned(), "istio/b.yaml".to_owned()],
            milliseconds: 84,
        };
        assert_eq!(
            said(json, &event),
            "{\"event\":\"reloaded\",\"files\":[\"istio/a.yaml\",\"istio/b.yaml\"],\"milliseconds\":84}\n"
        );
        assert_eq!(
            said(text, &event),
            "reloaded in 84 ms: istio/a.yaml, istio/b.yaml\n"
        );
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
    fn the_table_is_aligned_and_says_what_to_try() {
        let event = Event::Ready {
            gateway: Some("http://127.0.0.1:8080".to_owned()),
            root_certificate: PathBuf::from("/run/root.pem"),
            workloads: pods(),
        };
        let text = said(text, &event);
        assert!(
            text.starts_with(
                "\npod                     namespace     version  admin            inbound (mTLS)   outbound proxy\n\
                 product-service-0       ecommerce     v1       127.0.0.1:20001  127.0.0.1:20002  127.0.0.1:20003\n\
                 istio-ingressgateway-0  istio-system  -        127.0.0.1:20004  -                -\n\n\
                 logs      /run/logs/<pod>/\nroot CA   /run/root.pem\ngateway   http://127.0.0.1:8080\n"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("curl -s http://127.0.0.1:20004/stats/prometheus | grep ^shop_\n"),
            "{text}"
        );
    }
}
