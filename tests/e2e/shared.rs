//! The meshes that tests share.

use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow};
use tollgate_tests::{LocalMesh, Manifests, Options};

/// A mesh that is started when it is first needed.
pub(crate) struct Shared {
    start: fn() -> Result<LocalMesh>,
    mesh: OnceLock<Result<LocalMesh, String>>,
}

impl Shared {
    pub(crate) fn new(start: fn() -> Result<LocalMesh>) -> Self {
        Self {
            start,
            mesh: OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Result<&LocalMesh> {
        let mesh = self
            .mesh
            .get_or_init(|| (self.start)().map_err(|error| format!("{error:#}")));
        mesh.as_ref()
            .map_err(|error| anyhow!("the mesh did not start: {error}"))
    }

    /// Stops the mesh if it was started.
    pub(crate) fn stop(this: Arc<Self>) -> Result<()> {
        match Arc::into_inner(this).and_then(|shared| shared.mesh.into_inner()) {
            Some(Ok(mesh)) => mesh.stop(),
            // It never started, or not as it should, and then the tests have said so.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

/// Runs a test's future; tests run on threads of their own.
pub(crate) fn block_on<T>(test: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(test)
}

/// The shop as it ships, one pod a workload.
pub(crate) fn shop() -> Result<LocalMesh> {
    LocalMesh::start(Manifests::shipped()?, Options::default())
}

/// Four workers an Envoy, the tenant `stadium` with 50 requests a day, and a path to a service without pods.
pub(crate) fn quota() -> Result<LocalMesh> {
    let manifests = Manifests::shipped()?;
    let limiter = "wasm-plugins/tenant-rate-limit/plugin.yaml";
    manifests.replace(
        limiter,
        "    tiers:\n",
        "    tiers:\n      arena: {limits: [{name: daily, quota: 50, per: day}]}\n",
    )?;
    manifests.replace(
        limiter,
        "    tenants:\n",
        "    tenants:\n      stadium: {tier: arena}\n",
    )?;
    manifests.write("istio/routing/nowhere.yaml", NOWHERE)?;
    manifests.replace(
        "istio/routing/kustomization.yaml",
        "resources:\n",
        "resources:\n- nowhere.yaml\n",
    )?;
    LocalMesh::start(
        manifests,
        Options {
            workers: 4,
            ..Options::default()
        },
    )
}

/// A service whose pods are all gone: the gateway itself answers 503.
const NOWHERE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: nowhere, namespace: ecommerce}
spec:
  selector: {app: nowhere}
  ports:
  - {name: http, port: 3009}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: nowhere-ingress, namespace: ecommerce}
spec:
  hosts: ['*']
  gateways: [ecommerce-gateway]
  http:
  - match:
    - uri: {prefix: /nowhere}
    route:
    - destination: {host: nowhere, port: {number: 3009}}
";
