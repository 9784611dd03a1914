//! The environment of the mesh's processes: what a container would have, and no more of the user's than programs need.
//!
//! Whatever else is exported where `tollgate up` is typed would not be there on a cluster, and some of it changes
//! what services do: an `HTTP_PROXY` of a company, a `DATABASE_URL` of another project, `REQUEST_METHOD`, with which HTTP
//! clients ignore `HTTP_PROXY`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use tollgate_mesh::envoy::PodSite;
use tollgate_mesh::model::{Container, PodName, Workload};

/// Where programs find themselves and how they speak.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "TZ",
    "RUST_BACKTRACE",
    "LD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "LLVM_PROFILE_FILE",
    "ASAN_OPTIONS",
];

/// What every process gets.
pub(crate) fn inherited() -> BTreeMap<String, OsString> {
    INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?))).collect()
}

/// The environment of a container.
///
/// The manifest's variables count, except where the container would be: `PORT` and `HOST` say where to listen (with several
/// ports, `PORT` is the first of the manifest and `PORT_<number>` each of them), and `HTTP_PROXY` is the sidecar, through
/// which alone other services can be reached by their names.
pub(crate) fn of(
    workload: &Workload,
    container: &Container,
    pod: &PodName,
    place: &PodSite,
    data: &Path,
) -> BTreeMap<String, OsString> {
    let mut environment = inherited();
    let mut set = |name: &str, value: OsString| environment.insert(name.to_owned(), value);
    set("SERVICE_VERSION", container.image.tag.clone().into());
    // One file a service, which its replicas share.
    set("DATABASE_URL", database(&data.join(format!("{}.db", workload.app))).into());
    for (name, value) in &container.env {
        set(name, value.into());
    }
    let local = |port: u16| place.app.get(&port).map(SocketAddr::port);
    if let Some(port) = container.ports.first().and_then(|port| local(port.number)) {
        set("PORT", port.to_string().into());
    }
    for port in &container.ports {
        if let Some(local) = local(port.number) {
            set(&format!("PORT_{}", port.number), local.to_string().into());
        }
    }
    set("HOST", "127.0.0.1".into());
    if let Some(proxy) = place.outbound_proxy {
        // Programs differ in which spelling they read. As on a cluster, what goes to the pod itself is left alone.
        for name in ["HTTP_PROXY", "http_proxy"] {
            set(name, format!("http://{proxy}").into());
        }
        for name in ["NO_PROXY", "no_proxy"] {
            set(name, "127.0.0.1,localhost".into());
        }
    }
    set("POD_NAME", pod.name.clone().into());
    set("POD_NAMESPACE", pod.namespace.clone().into());
    environment
}

/// The URL of an SQLite file. What would end the path in a URL is escaped.
fn database(file: &Path) -> String {
    let path = file.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}")
}
