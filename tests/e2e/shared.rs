//! The meshes that tests share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Result, anyhow};
use tollgate_tests::{Form, LocalMesh, Manifests, Options};

/// A mesh that is started when a test first needs it, and stopped when the last of its tests is done.
pub(crate) struct Shared {
    /// What it is, for people.
    name: String,
    start: Box<dyn Fn() -> Result<LocalMesh> + Send + Sync>,
    mesh: OnceLock<Result<LocalMesh, String>>,
    stops: Stops,
}

/// What went wrong while meshes were being stopped: that is after a test has passed, and must not pass unseen.
#[derive(Clone, Default)]
pub(crate) struct Stops {
    failures: Arc<Mutex<Vec<String>>>,
}

impl Stops {
    pub(crate) fn failures(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(crate) fn new(
        name: impl Into<String>,
        start: impl Fn() -> Result<LocalMesh> + Send + Sync + 'static,
        stops: &Stops,
    ) -> Self {
        Self {
            name: name.into(),
            start: Box::new(start),
            mesh: OnceLock::new(),
            stops: stops.clone(),
        }
    }

    pub(crate) fn get(&self) -> Result<&LocalMesh> {
        let mesh = self.mesh.get_or_init(|| {
            let mesh = (self.start)().map_err(|error| format!("{error:#}"))?;
            eprintln!("{} on Envoy {}", self.name, mesh.envoy_version());
            Ok(mesh)
        });
        mesh.as_ref()
            .map_err(|error| anyhow!("the mesh did not start: {error}"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // If it never started, or not as it should, the tests have said so.
        if let Some(Ok(mesh)) = self.mesh.take()
            && let Err(error) = mesh.stop()
        {
            self.stops.lock().push(format!("{error:#}"));
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
pub(crate) fn shop(form: Form) -> Result<LocalMesh> {
    LocalMesh::start(Manifests::of(form)?, Options::default())
}

/// Four workers an Envoy, the tenant `stadium` with 50 requests a day, and a path to a service without pods.
pub(crate) fn quota(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    let (limiter, indent) = form.limiter();
    for (field, entry) in [
        (
            "tiers",
            "arena: {limits: [{name: daily, quota: 50, per: day}]}",
        ),
        ("tenants", "stadium: {tier: arena}"),
    ] {
        manifests.replace(
            limiter,
            &format!("\n{indent}{field}:\n"),
            &format!("\n{indent}{field}:\n{indent}  {entry}\n"),
        )?;
    }
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
