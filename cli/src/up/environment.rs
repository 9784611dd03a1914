//! The environment of the mesh's processes: what a container would have, and no more of the user's than programs need.
//!
//! Whatever else is exported where `tollgate up` is typed would not be there on a cluster, and some of it changes
//! what services do: an `HTTP_PROXY` of a company, a `DATABASE_URL` of another project, `REQUEST_METHOD`, with which HTTP
//! clients ignore `HTTP_PROXY`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tollgate_mesh::envoy::PodSite;
use tollgate_mesh::model::{Container, DATABASE_URL, PodName, Workload};

use crate::args::DatabaseUrl;

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

/// Where the services keep things.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// In this folder, an SQLite file for each service, which its replicas share.
    Files(PathBuf),
    /// In the one database of this URL.
    Url(DatabaseUrl),
}

/// What every process gets.
pub(crate) fn inherited() -> BTreeMap<String, OsString> {
    INHERITED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)))
        .collect()
}

/// The environment of a proxy.
pub(crate) fn of_proxy(workload: &Workload) -> BTreeMap<String, OsString> {
    let mut environment = inherited();
    for (name, value) in &workload.proxy_env {
        environment.insert(name.clone(), value.into());
    }
    environment
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
    database: &Database,
) -> BTreeMap<String, OsString> {
    let mut environment = inherited();
    let mut set = |name: &str, value: OsString| environment.insert(name.to_owned(), value);
    set("SERVICE_VERSION", container.image.tag.clone().into());
    for (name, value) in &container.env {
        set(name, value.into());
    }
    // What a Secret says is where the cluster's database is, and that one does not run here.
    let of_manifest = container.env.iter().any(|(name, _)| name == DATABASE_URL);
    if !of_manifest
        || container.secret_env.contains(DATABASE_URL)
        || matches!(database, Database::Url(_))
    {
        set(DATABASE_URL, database.url(&workload.app).into());
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

impl Database {
    /// What a service of this name is told.
    fn url(&self, app: &str) -> String {
        match self {
            Database::Url(DatabaseUrl(url)) => url.clone(),
            Database::Files(folder) => sqlite(&folder.join(format!("{app}.db"))),
        }
    }
}

/// The URL of an SQLite file. What would end the path in a URL is escaped.
fn sqlite(file: &Path) -> String {
    let path = file
        .to_string_lossy()
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('#', "%23");
    format!("sqlite://{path}")
}

#[cfg(test)]
mod tests {
    use tollgate_mesh::Mesh;
    use tollgate_mesh::api::Objects;
    use tollgate_mesh::envoy::CertificatePaths;

    use super::*;

    #[test]
    fn the_manifest_counts_except_for_where_the_container_is() {
        let manifest = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart-v1, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      containers:
      - name: cart
        image: cart:v1
        ports: [{containerPort: 3002}, {containerPort: 9090}]
        env: [{name: PORT, value: \"3002\"}, {name: HOST, value: 0.0.0.0}, {name: LOG_FORMAT, value: json}]
";
        let mesh = Mesh::build(Objects::parse(Path::new("cart.yaml"), manifest).unwrap()).unwrap();
        let workload = &mesh.workloads[0];
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let place = PodSite {
            directory: PathBuf::new(),
            admin: address(20000),
            outbound_proxy: Some(address(20001)),
            inbound: BTreeMap::new(),
            app: [(3002, address(20002)), (9090, address(20003))].into(),
            gateway: BTreeMap::new(),
            certificate: CertificatePaths {
                chain: PathBuf::new(),
                key: PathBuf::new(),
                roots: PathBuf::new(),
            },
        };
        let pod = &workload.pods()[0];
        let files = Database::Files("/run/100%/data".into());
        let environment = of(workload, &workload.containers[0], pod, &place, &files);
        let own: Vec<(&str, &str)> = environment
            .iter()
            .filter(|(name, _)| !INHERITED.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(
            own,
            [
                ("DATABASE_URL", "sqlite:///run/100%25/data/cart.db"),
                ("HOST", "127.0.0.1"),
                ("HTTP_PROXY", "http://127.0.0.1:20001"),
                ("LOG_FORMAT", "json"),
                ("NO_PROXY", "127.0.0.1,localhost"),
                ("POD_NAME", "cart-v1-0"),
                ("POD_NAMESPACE", "shop"),
                ("PORT", "20002"),
                ("PORT_3002", "20002"),
                ("PORT_9090", "20003"),
                ("SERVICE_VERSION", "v1"),
                ("http_proxy", "http://127.0.0.1:20001"),
                ("no_proxy", "127.0.0.1,localhost"),
            ]
        );
    }

    #[test]
    fn a_database_from_a_secret_is_the_clusters_and_the_users_own_wins() {
        let manifest = "\
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
stringData: {url: 'postgres://shop:x@postgres:5432/shop'}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      containers:
      - name: cart
        image: cart:v1
        ports: [{containerPort: 3002}]
        env: [{name: DATABASE_URL, ENV}]
";
        let url = |env: &str, database: &Database| {
            let manifest = manifest.replace("ENV", env);
            let objects = Objects::parse(Path::new("cart.yaml"), &manifest).unwrap();
            let mesh = Mesh::build(objects).unwrap();
            let workload = &mesh.workloads[0];
            let place = PodSite {
                directory: PathBuf::new(),
                admin: SocketAddr::from(([127, 0, 0, 1], 1)),
                outbound_proxy: None,
                inbound: BTreeMap::new(),
                app: BTreeMap::new(),
                gateway: BTreeMap::new(),
                certificate: CertificatePaths {
                    chain: PathBuf::new(),
                    key: PathBuf::new(),
                    roots: PathBuf::new(),
                },
            };
            let pod = &workload.pods()[0];
            of(workload, &workload.containers[0], pod, &place, database)[DATABASE_URL].clone()
        };
        let files = Database::Files("/run/data".into());
        let own = Database::Url(DatabaseUrl("postgres://me@127.0.0.1/mine".to_owned()));
        let secret = "valueFrom: {secretKeyRef: {name: db, key: url}}";
        assert_eq!(url(secret, &files), "sqlite:///run/data/cart.db");
        assert_eq!(url(secret, &own), "postgres://me@127.0.0.1/mine");
        let kept_elsewhere = "valueFrom: {secretKeyRef: {name: other, key: url}}";
        assert_eq!(url(kept_elsewhere, &files), "sqlite:///run/data/cart.db");
        assert_eq!(url(kept_elsewhere, &own), "postgres://me@127.0.0.1/mine");
        assert_eq!(
            url("value: 'sqlite:///mine.db'", &files),
            "sqlite:///mine.db"
        );
        assert_eq!(
            url("value: 'sqlite:///mine.db'", &own),
            "postgres://me@127.0.0.1/mine"
        );
    }
}
