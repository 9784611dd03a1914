//! The Envoy that is measured: one process with a listener for each thing to compare, all of which answer by themselves, so that nothing
//! but the proxy works.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::cases::Traffic;
use super::usage::Process;
use crate::envoy::Envoy;
use crate::up::environment;
use crate::up::guard::Itself;
use crate::up::ports::{Held, Ports};
use crate::up::supervisor::{Exit, Start, Supervisor, last_lines};

/// How long an Envoy may take to start: it compiles every module for every worker.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is asked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// How many lines of its log tell why it failed.
const LAST_LINES: usize = 10;

/// What the supervisor calls it.
const POD: &str = "the bench";

/// Ends what was started, whatever way the bench ends.
#[derive(Debug)]
pub(crate) struct Keeper {
    itself: Itself,
    supervisors: Mutex<Vec<Arc<Supervisor>>>,
}

impl Keeper {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            itself: Itself::running()?,
            supervisors: Mutex::default(),
        })
    }

    fn supervisor(&self) -> anyhow::Result<(Arc<Supervisor>, mpsc::UnboundedReceiver<Exit>)> {
        let (supervisor, exits) = Supervisor::new(self.itself.clone())?;
        let supervisor = Arc::new(supervisor);
        self.supervisors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&supervisor));
        Ok((supervisor, exits))
    }

    /// Ends everything; `hurry` ends it at once.
    pub(crate) async fn stop(&self, hurry: impl Future<Output = ()>) {
        let supervisors = std::mem::take(
            &mut *self
                .supervisors
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let mut hurry = std::pin::pin!(hurry);
        for supervisor in supervisors {
            supervisor.stop(&mut hurry).await;
        }
    }
}

/// One thing to measure.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Unique among the proxy's listeners.
    pub(crate) name: String,
    /// What stands before the router.
    pub(crate) filter: Option<Value>,
    /// `rate_limits` of the route, for filters that take descriptors from there.
    pub(crate) rate_limits: Value,
    /// What stands before that.
    in_front: Vec<Value>,
    /// The JSON body that every request is answered with, for requests that have one too.
    answer: Option<&'static str>,
}

impl Listener {
    pub(crate) fn new(name: impl Into<String>, filter: Option<Value>) -> Self {
        Self {
            name: name.into(),
            filter,
            rate_limits: json!([]),
            in_front: Vec::new(),
            answer: None,
        }
    }

    /// The same for such requests: with what has been found in their tokens, and with bodies both ways if they have one.
    pub(crate) fn taking(mut self, traffic: Traffic) -> Self {
        let claims = traffic.claims();
        if !claims.is_null() {
            self.in_front.push(claims_filter(&claims));
        }
        self.answer = traffic.body();
        self
    }

    /// The same behind another filter.
    pub(crate) fn behind(mut self, filter: Value) -> Self {
        self.in_front.push(filter);
        self
    }
}

/// Leaves claims where Envoy leaves those of a token that it has verified, and verifies nothing: that is no work of a filter's, and takes
/// more time than they do.
fn claims_filter(claims: &Value) -> Value {
    json!({
        "name": "envoy.filters.http.set_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
            "metadata": [{
                "metadata_namespace": "envoy.filters.http.jwt_authn",
                "value": { "payload": claims },
            }],
        },
    })
}

/// The filter of a module, in a VM of its own.
pub(crate) fn wasm_filter(vm: &str, module: &Path, plugin: &str, configuration: &str) -> Value {
    json!({
        "name": vm,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": plugin,
                "vm_config": {
                    "vm_id": vm,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": module.to_string_lossy() } },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration,
                },
                // As the manifests have it. It also counts every VM that failed.
                "failure_policy": "FAIL_RELOAD",
            },
        },
    })
}

/// An Envoy that runs.
#[derive(Debug)]
pub(crate) struct Proxy {
    supervisor: Arc<Supervisor>,
    exits: mpsc::UnboundedReceiver<Exit>,
    pub(crate) process: Process,
    admin: SocketAddr,
    addresses: BTreeMap<String, SocketAddr>,
    pub(crate) log: PathBuf,
    _held: Vec<Held>,
}

impl Proxy {
    /// Starts an Envoy with these listeners and waits until it serves. Its files are in `folder`, named after `name`.
    pub(crate) async fn start(
        keeper: &Keeper,
        envoy: &Envoy,
        folder: &Path,
        name: &str,
        workers: u32,
        listeners: &[Listener],
    ) -> anyhow::Result<Self> {
        let mut ports = Ports::new()?;
        let mut held = vec![ports.hold()?];
        let admin = held[0].address();
        let mut addresses = BTreeMap::new();
        for listener in listeners {
            let port = ports.hold()?;
            addresses.insert(listener.name.clone(), port.address());
            held.push(port);
        }
        let bootstrap = bootstrap(admin, listeners, &addresses);
        let file = folder.join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(&bootstrap)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let log = folder.join(format!("{name}.log"));
        let (supervisor, exits) = keeper.supervisor()?;
        let mut args: Vec<std::ffi::OsString> = vec!["--config-path".into(), file.into()];
        args.extend(["--concurrency".into(), workers.to_string().into()]);
        args.extend(
            [
                "--disable-hot-restart",
                "--log-level",
                "warning",
                // The thread, then what it says.
                "--log-format",
                "%t %v",
            ]
            .map(Into::into),
        );
        let id = supervisor
            .start(Start {
                pod: POD.to_owned(),
                process: "envoy".to_owned(),
                program: envoy.path.clone().into_os_string(),
                args,
                environment: environment::inherited(),
                directory: folder.to_owned(),
                log: log.clone(),
                output: None,
            })
            .await?;
        let mut proxy = Self {
            supervisor,
            exits,
            process: Process::new(id),
            admin,
            addresses,
            log,
            _held: held,
        };
        proxy.await_ready().await?;
        Ok(proxy)
    }

    async fn await_ready(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let client = client()?;
        let url = format!("http://{}/ready", self.admin);
        loop {
            let ready = client.get(&url).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Ok(exit) = self.exits.try_recv() {
                return Err(self.ended(&exit));
            }
            if begin.elapsed() > PATIENCE {
                bail!(
                    "Envoy does not serve after {} s{}",
                    PATIENCE.as_secs(),
                    self.last_words()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn ended(&self, exit: &Exit) -> anyhow::Error {
        anyhow!("Envoy ended {}{}", exit.how(), self.last_words())
    }

    fn last_words(&self) -> String {
        let lines = last_lines(&self.log, LAST_LINES);
        if lines.is_empty() {
            return String::new();
        }
        format!("; its log ends with\n{}", lines.join("\n"))
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, listener: &str) -> anyhow::Result<SocketAddr> {
        self.addresses
            .get(listener)
            .copied()
            .with_context(|| format!("there is no listener {listener}"))
    }

    /// Waits for what is done while the proxy runs. If the proxy ends first, that is the error.
    pub(crate) async fn during<T>(
        &mut self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let result = work.await;
        match (result, self.exits.try_recv()) {
            (Ok(result), Err(_)) => Ok(result),
            (_, Ok(exit)) => Err(self.ended(&exit)),
            (Err(error), Err(_)) => {
                Err(error.context(format!("a request failed{}", self.last_words())))
            }
        }
    }

    /// Where it tells of itself.
    pub(crate) fn admin(&self) -> Admin {
        Admin(self.admin)
    }

    /// Refuses a proxy in which a VM failed or something was rejected: its figures would be those of something else.
    pub(crate) async fn require_health(&self) -> anyhow::Result<()> {
        let text = Admin(self.admin).stats("wasm").await?;
        let failed = failures(&text);
        if failed.is_empty() {
            return Ok(());
        }
        bail!(
            "VMs failed while they were measured: {}{}",
            failed.join(", "),
            self.last_words()
        );
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        self.supervisor.stop(std::future::pending()).await;
    }
}

/// Where a proxy tells of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admin(SocketAddr);

impl Admin {
    /// The stats whose names match, a line each: `name: value`.
    pub(crate) async fn stats(self, filter: &str) -> anyhow::Result<String> {
        let url = format!("http://{}/stats?filter={filter}", self.0);
        let text = async {
            let answer = client()?.get(url).send().await?.error_for_status()?;
            anyhow::Ok(answer.text().await?)
        };
        text.await.context("Envoy does not show its counters")
    }
}

/// The counters among these stats that say that something in a VM failed.
fn failures(stats: &str) -> Vec<&str> {
    stats
        .lines()
        .filter(|line| !line.starts_with("wasmcustom."))
        .filter(|line| {
            line.rsplit_once(": ").is_some_and(|(name, value)| {
                value.trim() != "0"
                    && ["fail", "vm_reload", "reject", "crash"]
                        .iter()
                        .any(|word| name.contains(word))
            })
        })
        .collect()
}

fn client() -> anyhow::Result<reqwest::Client> {
    // The user's proxy settings are not for this machine.
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .context("cannot make an HTTP client")
}

fn bootstrap(
    admin: SocketAddr,
    listeners: &[Listener],
    addresses: &BTreeMap<String, SocketAddr>,
) -> Value {
    let listeners = listeners.iter().filter_map(|listener| {
        let address = addresses.get(&listener.name)?;
        Some(listener_configuration(listener, *address))
    });
    json!({
        "admin": { "address": socket_address(admin) },
        "static_resources": { "listeners": listeners.collect::<Vec<_>>() },
        // Its work for the stats of all listeners would be counted against the one that is being measured.
        "stats_flush_interval": "60s",
    })
}

fn listener_configuration(listener: &Listener, address: SocketAddr) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    // Without it a request would be answered before its body has come.
    let whole = listener.answer.map(|_| {
        json!({
            "name": "envoy.filters.http.buffer",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
                "max_request_bytes": 64 * 1024,
            },
        })
    });
    let filters = listener.in_front.iter().chain(&listener.filter);
    let filters: Vec<&Value> = filters.chain(&whole).chain([&router]).collect();
    let mut route = json!({
        "match": { "prefix": "/" },
        "direct_response": { "status": 200 },
    });
    if let Some(answer) = listener.answer {
        route["direct_response"]["body"] = json!({ "inline_string": answer });
        route["response_headers_to_add"] = json!([{
            "header": { "key": "content-type", "value": "application/json" },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }]);
    }
    json!({
        "name": listener.name,
        "address": socket_address(address),
        // Every worker gets as many connections.
        "connection_balance_config": { "exact_balance": {} },
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "bench",
                // As Istio has it: clients cannot choose the address that they are known by.
                "use_remote_address": true,
                // For requests that bring an id, so that they are the same each time; the others get one.
                "preserve_external_request_id": true,
                "http_filters": filters,
                "route_config": { "virtual_hosts": [{
                    "name": "bench",
                    "domains": ["*"],
                    "routes": [route],
                    "rate_limits": listener.rate_limits,
                }] },
            },
        }] }],
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_of_failures_counts_and_a_metric_of_that_name_does_not() {
        let stats = "wasm.envoy.wasm.runtime.v8.active: 4\nwasm.x.vm_reload_success: 0\nwasm.x.vm_reload_failure: 2\n\
                     wasmcustom.shop_failed_total: 7\n";
        assert_eq!(failures(stats), ["wasm.x.vm_reload_failure: 2"]);
    }
}
