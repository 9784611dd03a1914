//! One Envoy configuration per proxy, as istiod would write it.
//!
//! Names (of clusters, listeners, routes, virtual hosts, stats), the order of routes and filters, and the defaults that
//! nobody writes (timeouts, retries, circuit breakers, load balancing, header handling) are istiod's. What differs, and why:
//!
//! - Everything comes from files instead of a control plane, in the same pieces (LDS, CDS, RDS, ECDS), so that each can be
//!   replaced by itself; endpoints are inside their clusters, certificates are files, modules are files.
//! - All pods share one address, so there is no iptables and no catch-all listener: a sidecar has one inbound listener per
//!   container port, and outbound it is an HTTP proxy (Istio's `proxyHttpPort`), whose route configuration `http_proxy` keeps
//!   the port in the match (`cart-service:3002`). A host that no Service has is answered with 502, as with `REGISTRY_ONLY`.
//!   Ports whose name does not say a protocol are taken for HTTP instead of being looked into.
//! - Ports of bytes (`tcp-postgres`) have their clusters and nothing that leads there: nobody captures an application's
//!   connections, so it makes them itself. Headless Services have no clusters, which Istio would need for that capture, and
//!   the pods of StatefulSets, which do not run here, are in none.
//! - Filters that only Istio's build of Envoy has are left out: metadata exchange, `istio.alpn`, `istio.stats`. So are
//!   tracing, and the metadata that only these and `istioctl` read.
//! - No stats matcher: local proxies keep all their stats, and who wants only what a cluster exports asks them for that
//!   ([`ExportedStats`](crate::model::ExportedStats)). What becomes a Prometheus label is decided as on a cluster, by
//!   the pods' annotation `sidecar.istio.io/extraStatTags` alone. Istio's expressions for labels are written so that
//!   Envoy tries hardly any of them on every stat.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::model::{Mesh, PodName, Role};

mod bootstrap;
mod cluster;
mod extension;
mod jwt;
mod listener;
mod rbac;
mod route;
mod subscription;
mod tls;

pub use subscription::Subscription;

/// What is where on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Every pod. A pod that is not here gets no requests.
    pub pods: BTreeMap<PodName, PodSite>,
    /// How many worker threads each Envoy has (its `--concurrency`); modules can read it from the node's metadata.
    pub workers: u32,
    /// The folder with the modules, `<name>.wasm`.
    pub modules: PathBuf,
}

/// Where one pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSite {
    /// Where its proxy's files are: what [`ProxyConfiguration::files`] is called with.
    pub directory: PathBuf,
    /// Where its proxy's admin interface listens.
    pub admin: SocketAddr,
    /// Where its sidecar listens for what the application sends.
    pub outbound_proxy: Option<SocketAddr>,
    /// Where its sidecar listens for each of the containers' ports.
    pub inbound: BTreeMap<u16, SocketAddr>,
    /// Where the application listens for each of the containers' ports.
    pub app: BTreeMap<u16, SocketAddr>,
    /// Where it listens, if it is a gateway, for each of its workload's [`gateway_ports`](crate::model::Workload::gateway_ports).
    pub gateway: BTreeMap<u16, SocketAddr>,
    /// Its certificate.
    pub certificate: CertificatePaths,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The certificate and those that lead to the root.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The root certificates of the mesh.
    pub roots: PathBuf,
}

/// The configuration of one Envoy.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfiguration {
    /// What it is started with.
    pub bootstrap: Value,
    /// LDS: `envoy.config.listener.v3.Listener`s.
    pub listeners: Vec<Value>,
    /// CDS: `envoy.config.cluster.v3.Cluster`s.
    pub clusters: Vec<Value>,
    /// RDS: an `envoy.config.route.v3.RouteConfiguration` by its name.
    pub routes: BTreeMap<String, Value>,
    /// ECDS: an `envoy.config.core.v3.TypedExtensionConfig` by the full name of its plugin, `namespace.name`.
    pub extensions: BTreeMap<String, Value>,
}

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ROUTE_CONFIGURATION: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";

impl Mesh {
    /// The configuration of a pod's proxy. A pod that is not one of this mesh's, has no proxy, or is not at the site, has
    /// none: nothing but an admin interface.
    pub fn proxy_configuration(&self, site: &Site, pod: &PodName) -> ProxyConfiguration {
        let mut configuration = ProxyConfiguration {
            bootstrap: json!({}),
            listeners: Vec::new(),
            clusters: Vec::new(),
            routes: BTreeMap::new(),
            extensions: BTreeMap::new(),
        };
        let (Some(index), Some(here)) = (self.index_of(pod), site.pods.get(pod)) else {
            return configuration;
        };
        let workload = &self.workloads[index];
        let proxy = Proxy {
            mesh: self,
            site,
            index,
            workload,
            pod,
            here,
        };
        match workload.role {
            Role::Plain => return configuration,
            Role::Gateway => {
                for listener in self
                    .listeners
                    .iter()
                    .filter(|listener| listener.workload == index)
                {
                    configuration
                        .listeners
                        .extend(listener::gateway(&proxy, listener));
                    let (name, routes) = route::gateway(&proxy, listener);
                    configuration.routes.insert(name, routes);
                }
            }
            Role::Sidecar => {
                configuration.listeners.extend(listener::inbound(&proxy));
                configuration.clusters.extend(cluster::inbound(&proxy));
                if let Some(address) = here.outbound_proxy {
                    configuration
                        .listeners
                        .push(listener::outbound(&proxy, address));
                    configuration
                        .routes
                        .insert(route::HTTP_PROXY.to_owned(), route::outbound(&proxy));
                }
            }
        }
        configuration.bootstrap = bootstrap::bootstrap(&proxy);
        configuration.clusters.extend(cluster::outbound(&proxy));
        configuration.extensions = extension::extensions(&proxy);
        configuration
    }
}

/// Whose configuration is being written.
struct Proxy<'a> {
    mesh: &'a Mesh,
    site: &'a Site,
    /// Which of the mesh's workloads it belongs to.
    index: usize,
    workload: &'a crate::model::Workload,
    pod: &'a PodName,
    here: &'a PodSite,
}

impl ProxyConfiguration {
    /// The files in which Envoy finds this configuration, in the order in which they must be written so that none refers to
    /// one that is not there yet. A file that Envoy is watching has to be replaced by renaming another over it: Envoy does not
    /// see a change in place.
    pub fn files(&self, directory: &Path) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        for (name, extension) in &self.extensions {
            files.push((
                directory.join(extension_file(name)),
                written(EXTENSION, std::slice::from_ref(extension)),
            ));
        }
        for (name, routes) in &self.routes {
            files.push((
                directory.join(route_file(name)),
                written(ROUTE_CONFIGURATION, std::slice::from_ref(routes)),
            ));
        }
        files.push((
            directory.join(CLUSTERS_FILE),
            written(CLUSTER, &self.clusters),
        ));
        files.push((
            directory.join(LISTENERS_FILE),
            written(LISTENER, &self.listeners),
        ));
        files.push((directory.join("bootstrap.json"), pretty(&self.bootstrap)));
        files
    }
}

const LISTENERS_FILE: &str = "lds.json";
const CLUSTERS_FILE: &str = "cds.json";

fn route_file(name: &str) -> String {
    format!("rds/{name}.json")
}

fn extension_file(name: &str) -> String {
    format!("ecds/{name}.json")
}

/// A DiscoveryResponse. Its version is that of its content: Envoy shows it, and the same content has the same one.
fn response(type_url: &str, resources: &[Value], version: &str) -> String {
    pretty(
        &json!({ "version_info": version, "type_url": type_url, "resources": typed(type_url, resources) }),
    )
}

/// The same, with the version that these resources have.
fn written(type_url: &str, resources: &[Value]) -> String {
    response(type_url, resources, &version(resources))
}

fn version(resources: &[Value]) -> String {
    let mut hasher = DefaultHasher::new();
    for resource in resources {
        resource.to_string().hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

fn typed(type_url: &str, resources: &[Value]) -> Vec<Value> {
    resources
        .iter()
        .map(|resource| {
            let mut typed = json!({ "@type": type_url });
            if let (Some(typed), Some(resource)) = (typed.as_object_mut(), resource.as_object()) {
                typed.extend(resource.clone());
            }
            typed
        })
        .collect()
}

fn pretty(value: &Value) -> String {
    // `{:#}` of a serde_json value is its JSON over several lines.
    format!("{value:#}\n")
}

/// `envoy.config.core.v3.Address`.
fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// `envoy.config.core.v3.ConfigSource` of a file of this proxy. Waiting for it has no limit, as in Istio: without its filters
/// a proxy would let through what they are there to refuse.
fn file_source(proxy: &Proxy, file: &str) -> Value {
    json!({
        "path_config_source": { "path": proxy.here.directory.join(file).to_string_lossy() },
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
    })
}

/// `google.protobuf.Duration`.
fn duration(duration: std::time::Duration) -> String {
    let fraction = format!("{:09}", duration.subsec_nanos());
    match fraction.trim_end_matches('0') {
        "" => format!("{}s", duration.as_secs()),
        fraction => format!("{}.{fraction}s", duration.as_secs()),
    }
}

/// Istio's `outbound|3001|v2|product-service.ecommerce.svc.cluster.local`.
fn outbound_cluster_name(port: u16, subset: Option<&str>, host: &str) -> String {
    format!("outbound|{port}|{}|{host}", subset.unwrap_or_default())
}

/// Istio's `inbound|3001||`.
fn inbound_cluster_name(port: u16) -> String {
    format!("inbound|{port}||")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_are_protobufs() {
        assert_eq!(duration(Duration::from_secs(5)), "5s");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(duration(Duration::from_nanos(1)), "0.000000001s");
        assert_eq!(duration(Duration::ZERO), "0s");
    }
}
