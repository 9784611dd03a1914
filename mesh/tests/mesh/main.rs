//! From manifests to the mesh and to what its proxies are told: `shop.yaml`, and what each test adds to it.

mod clusters;
mod databases;
mod filters;
mod listeners;
mod problems;
mod resilience;
mod routes;
mod security;
mod snapshots;
mod workloads;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tollgate_mesh::envoy::{CertificatePaths, PodSite, ProxyConfiguration, Site};
use tollgate_mesh::model::{PodName, Role, Workload};
use tollgate_mesh::{Mesh, Problems};

/// The shop, and the manifests that `more` has.
fn load(more: &str) -> Result<Mesh, Problems> {
    load_and(more, tollgate_mesh::load)
}

/// What may be meant otherwise in the shop with `more`, as it is printed.
fn doubts(more: &str) -> Vec<String> {
    let doubts = load_and(more, |paths| {
        let objects = tollgate_mesh::api::Objects::load(paths)?;
        let mesh = Mesh::build(objects.clone())?;
        // As problems, for their files' names.
        Problems::or(mesh.doubts(&objects), ())
    });
    let Err(Problems(doubts)) = doubts else {
        return Vec::new();
    };
    let told = doubts.iter().map(|doubt| format!("{} {doubt}", doubt.code));
    told.collect()
}

fn load_and<T>(
    more: &str,
    load: impl Fn(&[PathBuf]) -> Result<T, Problems>,
) -> Result<T, Problems> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let file = folder.path().join("more.yaml");
    std::fs::write(&file, more).expect("a file for the test");
    let shops_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mesh");
    load(&[shops_folder.join("shop.yaml"), file]).map_err(|problems| {
        // The folders' names are others each time, and elsewhere.
        let folders = [folder.path(), &shops_folder].map(|folder| format!("{}/", folder.display()));
        let problems = problems.0.into_iter().map(|mut problem| {
            problem.file = PathBuf::from(problem.file.file_name().expect("the name of a file"));
            problem.message = folders.iter().fold(problem.message, |message, folder| {
                message.replace(folder, "")
            });
            problem
        });
        Problems(problems.collect())
    })
}

fn shop_and(more: &str) -> Mesh {
    load(more).unwrap_or_else(|problems| panic!("{problems}"))
}

fn shop() -> Mesh {
    shop_and("")
}

fn workload<'a>(mesh: &'a Mesh, name: &str) -> &'a Workload {
    mesh.workloads
        .iter()
        .find(|workload| workload.name == name)
        .unwrap_or_else(|| panic!("there is no workload {name}"))
}

/// A site on which every pod is at home, at ports that the names of the pods decide.
fn site(mesh: &Mesh) -> Site {
    let mut next = 20_000;
    let mut address = || {
        next += 1;
        SocketAddr::from(([127, 0, 0, 1], next))
    };
    let mut pods = BTreeMap::new();
    for workload in &mesh.workloads {
        let proxy = workload.role != Role::Plain;
        for pod in workload.pods() {
            let directory = PathBuf::from("/run").join(pod.to_string());
            let mut ports = || -> BTreeMap<u16, SocketAddr> {
                workload
                    .ports()
                    .into_iter()
                    .map(|port| (port, address()))
                    .collect()
            };
            let (inbound, app) = if proxy {
                (ports(), ports())
            } else {
                (BTreeMap::new(), ports())
            };
            let site = PodSite {
                admin: address(),
                outbound_proxy: (workload.role == Role::Sidecar).then(&mut address),
                inbound,
                app,
                gateway: workload
                    .gateway_ports
                    .iter()
                    .map(|port| (*port, address()))
                    .collect(),
                certificate: CertificatePaths {
                    chain: directory.join("chain.pem"),
                    key: directory.join("key.pem"),
                    roots: PathBuf::from("/run/roots.pem"),
                },
                directory,
            };
            pods.insert(pod, site);
        }
    }
    Site {
        pods,
        workers: 2,
        modules: PathBuf::from("/modules"),
    }
}

fn pod(mesh: &Mesh, name: &str) -> PodName {
    let mut pods = mesh.workloads.iter().flat_map(Workload::pods);
    pods.find(|pod| pod.name == name)
        .unwrap_or_else(|| panic!("there is no pod {name}"))
}

fn configuration(mesh: &Mesh, pod_name: &str) -> ProxyConfiguration {
    mesh.proxy_configuration(&site(mesh), &pod(mesh, pod_name))
}

/// The one with this name.
fn named<'a>(values: &'a [Value], name: &str) -> &'a Value {
    let found = values.iter().find(|value| value["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {name:?} among {:?}", names(values)))
}

fn names(values: &[Value]) -> Vec<&str> {
    values
        .iter()
        .filter_map(|value| value["name"].as_str())
        .collect()
}

fn array<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .unwrap_or_else(|| panic!("there is no list {pointer} in {value:#}"))
}
