//! Gives every pod of a mesh its place on this machine: a folder, ports and a certificate.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use tollgate_mesh::envoy::{CertificatePaths, PodSite, Site};
use tollgate_mesh::model::{PodName, Role, Workload};

use super::certificates::Authority;
use super::ports::{Held, Ports};
use super::run_directory::RunDirectory;
use crate::error::Hint;

/// Where the gateway is if nobody says otherwise and nobody else is there.
const GATEWAY_PORT: u16 = 8080;

/// The places of all pods, and the ports that are held for them.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) site: Site,
    /// Where clients reach the mesh: the first port of the first gateway.
    pub(crate) gateway: Option<SocketAddr>,
    /// Dropping them would let others in.
    _held: Vec<Held>,
}

impl Places {
    /// Finds a place for every pod; `gateway` is the one for the first port of the first gateway.
    pub(crate) fn find(
        workloads: &[Workload],
        gateway: Held,
        workers: u32,
        modules: PathBuf,
        run: &RunDirectory,
    ) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let roots = run.root_certificate();
        authority.write_root(&roots)?;
        let mut finder = Finder {
            ports: Ports::new()?,
            free: Some(gateway),
            gateway: None,
            held: Vec::new(),
        };
        let mut pods = BTreeMap::new();
        for workload in workloads {
            for pod in workload.pods() {
                let directory = run.pod(&pod.name)?;
                let issued = authority.issue(&workload.identity(), &directory)?;
                let certificate = CertificatePaths {
                    chain: issued.chain,
                    key: issued.key,
                    roots: roots.clone(),
                };
                let place = finder.place(workload, directory, certificate)?;
                pods.insert(pod, place);
            }
        }
        Ok(Self {
            site: Site {
                pods,
                workers,
                modules,
            },
            gateway: finder.gateway,
            _held: finder.held,
        })
    }

    /// The place of a pod.
    pub(crate) fn of(&self, pod: &PodName) -> anyhow::Result<&PodSite> {
        self.site
            .pods
            .get(pod)
            .with_context(|| format!("{pod} has no place on this machine"))
    }
}

struct Finder {
    ports: Ports,
    /// Where the first gateway will be.
    free: Option<Held>,
    gateway: Option<SocketAddr>,
    held: Vec<Held>,
}

impl Finder {
    fn place(
        &mut self,
        workload: &Workload,
        directory: PathBuf,
        certificate: CertificatePaths,
    ) -> anyhow::Result<PodSite> {
        let sidecar = workload.role == Role::Sidecar;
        let ports = workload.ports();
        Ok(PodSite {
            directory,
            certificate,
            admin: self.any()?,
            outbound_proxy: sidecar.then(|| self.any()).transpose()?,
            inbound: self.each(if sidecar { &ports } else { &[] })?,
            app: self.each(&ports)?,
            gateway: workload
                .gateway_ports
                .iter()
                .map(|port| Ok((*port, self.gateway()?)))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    fn each(&mut self, ports: &[u16]) -> anyhow::Result<BTreeMap<u16, SocketAddr>> {
        ports.iter().map(|port| Ok((*port, self.any()?))).collect()
    }

    fn any(&mut self) -> anyhow::Result<SocketAddr> {
        let held = self.ports.hold()?;
        Ok(self.keep(held))
    }

    fn keep(&mut self, held: Held) -> SocketAddr {
        let address = held.address();
        self.held.push(held);
        address
    }

    fn gateway(&mut self) -> anyhow::Result<SocketAddr> {
        let Some(held) = self.free.take() else {
            return self.any();
        };
        let address = self.keep(held);
        self.gateway = Some(address);
        Ok(address)
    }
}

/// Holds the port that was asked for, else the one where people look, else any. Done before anything that takes time: it is
/// what most often cannot be had.
pub(crate) fn gateway_port(wanted: Option<u16>) -> anyhow::Result<Held> {
    match wanted {
        Some(port) => Held::port(port).map_err(|error| refused(port, &error)),
        None => Held::port(GATEWAY_PORT).or_else(|_| Ports::new()?.hold()),
    }
}

/// A port was asked for and there is nothing to listen on it.
pub(crate) fn check_gateway(wanted: Option<u16>, workloads: &[Workload]) -> anyhow::Result<()> {
    let any = workloads
        .iter()
        .any(|workload| workload.replicas > 0 && !workload.gateway_ports.is_empty());
    match wanted {
        Some(port) if !any => Err(anyhow!("--gateway-port {port}: the manifests have no ingress gateway that listens"))
            .hint("leave it out, or add a Gateway whose selector matches a Deployment with the gateway template"),
        _ => Ok(()),
    }
}

fn refused(port: u16, error: &io::Error) -> anyhow::Error {
    let what = format!("--gateway-port {port}: cannot listen on 127.0.0.1:{port}");
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!("{what}: another process has it, perhaps another `tollgate up`").hint(format!(
            "`ss -ltnp 'sport = :{port}'` (macOS: `lsof -nP -iTCP:{port}`) says which; or leave --gateway-port out for a port \
             that is free"
        )),
        io::ErrorKind::PermissionDenied => {
            anyhow!("{what}: the system keeps low ports for itself").hint("take a port from 1024 on")
        }
        _ => anyhow!("{what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use tollgate_mesh::Mesh;
    use tollgate_mesh::api::Objects;

    use super::*;

    const MANIFESTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      containers:
      - {name: cart, image: cart:v1, ports: [{containerPort: 3002}, {containerPort: 9090}]}
";

    fn places(run: &RunDirectory) -> Places {
        let objects = Objects::parse(Path::new("cart.yaml"), MANIFESTS).unwrap();
        let mesh = Mesh::build(objects).unwrap();
        let gateway = Ports::new().unwrap().hold().unwrap();
        Places::find(&mesh.workloads, gateway, 2, PathBuf::new(), run).unwrap()
    }

    fn addresses(places: &Places) -> Vec<SocketAddr> {
        let of = |place: &PodSite| {
            let ports = place.inbound.values().chain(place.app.values()).copied();
            ports
                .chain([place.admin])
                .chain(place.outbound_proxy)
                .collect::<Vec<_>>()
        };
        places.site.pods.values().flat_map(of).collect()
    }

    #[test]
    fn two_meshes_beside_each_other_share_no_port() {
        let target = tempfile::tempdir().unwrap();
        let (one, other) = (
            RunDirectory::new(target.path()).unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let other = RunDirectory::new(other.path()).unwrap();
        let (one, other) = (places(&one), places(&other));
        let all = [addresses(&one), addresses(&other)].concat();
        // Three pods: admin, outbound proxy, two ports of the sidecar and two of the application.
        assert_eq!(all.len(), 2 * 3 * 6);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn a_gateway_port_that_is_taken_is_refused_by_name() {
        let held = Ports::new().unwrap().hold().unwrap();
        let port = held.address().port();
        let error = gateway_port(Some(port)).unwrap_err();
        assert_eq!(
            crate::error::render(&error),
            format!(
                "error: --gateway-port {port}: cannot listen on 127.0.0.1:{port}: another process has it, perhaps another \
                 `tollgate up`\nhint: `ss -ltnp 'sport = :{port}'` (macOS: `lsof -nP -iTCP:{port}`) says which; or leave \
                 --gateway-port out for a port that is free\n"
            )
        );
    }

    #[test]
    fn a_gateway_port_without_a_gateway_is_refused() {
        let objects = Objects::parse(Path::new("cart.yaml"), MANIFESTS).unwrap();
        let mesh = Mesh::build(objects).unwrap();
        let error = check_gateway(Some(8080), &mesh.workloads).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--gateway-port 8080: the manifests have no ingress gateway that listens"
        );
        check_gateway(None, &mesh.workloads).unwrap();
    }
}
