//! One Envoy by itself, with a limiter in front of a service that a test plays: where a test has to kill a VM, or to end requests in ways that no program does on request.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use escargot::format::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::local::{envoy, fetched, spawn_for_life};
use crate::manifests::repository;
use crate::target::fetch;

const START: Duration = Duration::from_secs(120);

/// An Envoy with these filters: the limiter, access rules that deny everything below `/forbidden`, the router. Dropping it kills it.
#[derive(Debug)]
pub struct LoneEnvoy {
    child: Child,
    folder: TempDir,
    module: PathBuf,
    /// Where it takes requests.
    pub address: SocketAddr,
    admin: SocketAddr,
    version: u32,
}

/// The module of `tests/modules/mortal-rate-limit`, built once a test process.
fn mortal_rate_limit() -> Result<PathBuf> {
    static MODULE: Mutex<Option<PathBuf>> = Mutex::new(None);
    // Held while it is built: the other tests wait for the same.
    let mut module = MODULE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = &*module {
        return Ok(module.clone());
    }
    let messages = escargot::CargoBuild::new()
        .manifest_path(repository().join("Cargo.toml"))
        .package("mortal-rate-limit")
        .target("wasm32-wasip1")
        .args(["--profile", "plugin"])
        .exec()?;
    for message in messages {
        if let Message::CompilerArtifact(artifact) = message?.decode()?
            && artifact.target.name == "mortal_rate_limit"
            && let Some(file) = artifact.filenames.first()
        {
            return Ok(module.insert(file.to_path_buf()).clone());
        }
    }
    bail!("cargo made no module of mortal-rate-limit")
}

impl LoneEnvoy {
    /// One with so many workers, whose limiter has this configuration. What begins with `/hasty` must be answered within a second, and what begins with `/silent` must not be silent
    /// for a second.
    pub async fn start(workers: u32, configuration: &Value, service: SocketAddr) -> Result<Self> {
        let module = mortal_rate_limit()?;
        let folder = tempfile::Builder::new()
            .prefix("tollgate-envoy-")
            .tempdir()?;
        let file = |name: &str| folder.path().join(name);
        write_filter(folder.path(), &module, configuration, 0)?;
        fs::write(
            file("envoy.json"),
            bootstrap(folder.path(), service).to_string(),
        )?;
        let mut command = Command::new(executable()?);
        command
            .arg("-c")
            .arg(file("envoy.json"))
            .args([
                "--concurrency",
                &workers.to_string(),
                "--use-dynamic-base-id",
                "-l",
                "warning",
                "--file-flush-interval-msec",
                "100",
            ])
            .arg("--admin-address-path")
            .arg(file("admin"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(file("envoy.log"))?);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut lone = Self {
            child: spawn_for_life(command)?,
            folder,
            module,
            address: nowhere,
            admin: nowhere,
            version: 0,
        };
        let deadline = Instant::now() + START;
        loop {
            if let Some((admin, address)) = lone.addresses().await {
                (lone.admin, lone.address) = (admin, address);
                return Ok(lone);
            }
            let ended = lone.child.try_wait()?;
            ensure!(
                ended.is_none() && Instant::now() < deadline,
                "Envoy does not listen ({ended:?}): {}",
                lone.log()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let admin = fs::read_to_string(self.folder.path().join("admin")).ok()?;
        let admin = admin.trim().parse().ok()?;
        let ready = fetch(&format!("http://{admin}/ready")).await.ok()?;
        let listeners = format!("http://{admin}/listeners?format=json");
        let listeners: Value = serde_json::from_str(&fetch(&listeners).await.ok()?).ok()?;
        let port = listeners
            .pointer("/listener_statuses/0/local_address/socket_address/port_value")?
            .as_u64()?;
        let port = u16::try_from(port).ok()?;
        (ready.trim() == "LIVE").then_some((admin, SocketAddr::from(([127, 0, 0, 1], port))))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("envoy.log")).unwrap_or_default()
    }

    /// Its access log: of each request the tenant, the status, and what the limiter noted of limits in shadow.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }

    /// Gives the limiter another configuration, and waits until Envoy has taken it.
    pub async fn configure(&mut self, configuration: &Value) -> Result<()> {
        self.version += 1;
        write_filter(
            self.folder.path(),
            &self.module,
            configuration,
            self.version,
        )?;
        let deadline = Instant::now() + START;
        loop {
            let reloads = self
                .stat("extension_config_discovery.http_filter.limiter.config_reload")
                .await?;
            // The first was the one that it has started with.
            if reloads > u64::from(self.version) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "Envoy took no other configuration ({reloads}): {}",
                self.log()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// One of Envoy's own counters and gauges; 0 if there is none of that name.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let stats = fetch(&format!("http://{}/stats?filter={name}", self.admin)).await?;
        let mut lines = stats.lines().filter_map(|line| line.split_once(": "));
        let value = lines.find(|(of, _)| of.ends_with(name));
        Ok(value.map_or(Ok(0), |(_, value)| value.parse())?)
    }

    /// All series of a filter's counter together.
    pub async fn sum(&self, name: &str) -> Result<u64> {
        let stats = fetch(&format!("http://{}/stats?filter={name}", self.admin)).await?;
        let lines = stats.lines().filter_map(|line| line.split_once(": "));
        let values = lines.filter(|(of, _)| of.ends_with(name));
        values.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
    }
}

impl Drop for LoneEnvoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Envoy that all tests run on.
fn executable() -> Result<PathBuf> {
    match envoy()? {
        Some(path) => Ok(path.to_owned()),
        None => Ok(PathBuf::from(fetched(&[])?)),
    }
}

/// Envoy notices a file that is renamed.
fn write_filter(folder: &Path, module: &Path, configuration: &Value, version: u32) -> Result<()> {
    let filter = json!({
        "version_info": version.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "limiter",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": "limiter",
                    "root_id": "limiter",
                    "failure_policy": "FAIL_RELOAD",
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": configuration.to_string(),
                    },
                    "vm_config": {
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"filename": module}},
                    },
                },
            },
        }],
    });
    let file = folder.join("filter.json");
    let beside = folder.join("filter.tmp");
    fs::write(&beside, filter.to_string())?;
    fs::rename(beside, file)?;
    Ok(())
}

fn bootstrap(folder: &Path, service: SocketAddr) -> Value {
    let to_service = |more: Value| {
        let mut route = json!({"cluster": "service", "timeout": "0s"});
        if let (Some(route), Some(more)) = (route.as_object_mut(), more.as_object()) {
            route.extend(more.clone());
        }
        route
    };
    let filters = json!([
        {"name": "limiter", "config_discovery": {
            "config_source": {"path_config_source": {"path": folder.join("filter.json")}},
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
        }},
        {"name": "rbac", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"forbidden": {
                "permissions": [{"url_path": {"path": {"prefix": "/forbidden"}}}],
                "principals": [{"any": true}],
            }}},
        }},
        {"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        }},
    ]);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "lone",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": [{"name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": folder.join("access.log"),
            "log_format": {"text_format_source": {"inline_string":
                "%REQ(x-tenant-id)% %RESPONSE_CODE% \"%FILTER_STATE(wasm.tollgate.shadowed:PLAIN)%\" %FILTER_STATE(wasm.tollgate.shadow_headers:PLAIN)%\n"}},
        }}],
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "include_request_attempt_count": true, "routes": [
            {"match": {"prefix": "/hasty"}, "route": to_service(json!({"timeout": "1s"}))},
            {"match": {"prefix": "/silent"}, "route": to_service(json!({"idle_timeout": "1s"}))},
            {"match": {"prefix": "/again"}, "route": to_service(json!({"retry_policy": {"retry_on": "reset", "num_retries": 1}}))},
            {"match": {"prefix": "/"}, "route": to_service(json!({}))},
        ]}]},
    });
    let address = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let any_port = address(SocketAddr::from(([127, 0, 0, 1], 0)));
    json!({
        "node": {"id": "lone", "cluster": "lone"},
        "admin": {"address": any_port},
        "static_resources": {
            "listeners": [{
                "name": "lone",
                "stat_prefix": "lone",
                "address": any_port,
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "service",
                "type": "STATIC",
                // Trailers of HTTP/1 too.
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
                }},
                "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(service)}}]}]},
            }],
        },
    })
}
