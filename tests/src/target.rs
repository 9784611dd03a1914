//! The mesh under test, wherever it runs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::manifests::Manifests;
use crate::metrics::Metrics;

/// One pod of the mesh.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The `app` label: `product-service`, `ingressgateway`.
    pub name: String,
    /// The pod's name.
    pub pod: String,
    /// The `version` label, if there is one.
    pub version: Option<String>,
    /// Base URL of the Envoy's admin endpoint.
    pub admin: String,
    /// Where the sidecar listens for the other workloads; none for a gateway.
    pub inbound: Option<SocketAddr>,
    /// The HTTP proxy through which the pod's application calls others; none for a gateway.
    pub outbound_proxy: Option<String>,
}

/// What became of an edit of the manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is applied, so long after it was noticed.
    Applied(Duration),
    /// It is refused, for this and perhaps for more that comes next.
    Refused(Finding),
}

/// What is wrong with manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line.
    pub line: u64,
    /// The field.
    pub field: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// A running shop.
pub trait Target: Sync {
    /// Base URL of the ingress gateway, without a slash at the end.
    fn gateway(&self) -> &str;
    /// Every pod that has an Envoy, the gateway's among them.
    fn workloads(&self) -> &[Workload];

    /// What it runs. A test may edit it, and then asks for the outcome.
    fn manifests(&self) -> &Manifests;
    /// What became of the edit that was made before.
    fn outcome(&self) -> Result<Outcome>;

    /// What the Envoys of a workload have logged of the requests that they served, as far as they have written it down: that takes them up to ten seconds.
    fn access_log(&self, name: &str) -> Result<String>;

    /// What this user of this tenant writes into `authorization`.
    fn bearer(&self, user: &str, tenant: &str) -> Result<String> {
        self.manifests().bearer(user, tenant)
    }

    /// The pods of one workload.
    fn pods(&self, name: &str) -> Vec<&Workload> {
        self.workloads().iter().filter(|w| w.name == name).collect()
    }

    /// The address that the gateway listens on.
    fn gateway_address(&self) -> Result<SocketAddr> {
        let address = self
            .gateway()
            .strip_prefix("http://")
            .context("the gateway's URL is not http://")?;
        address.parse().with_context(|| {
            format!("the gateway's URL holds {address:?}, which is no socket address")
        })
    }

    /// The current metrics of a workload, in Prometheus' terms, summed over its pods.
    fn metrics(&self, name: &str) -> impl Future<Output = Result<Metrics>> + Send {
        self.metrics_of(name, |_| true)
    }

    /// The current metrics of one version of a workload, summed over its pods.
    fn metrics_of_version(
        &self,
        name: &str,
        version: &str,
    ) -> impl Future<Output = Result<Metrics>> + Send {
        self.metrics_of(name, move |pod| pod.version.as_deref() == Some(version))
    }

    /// The current metrics of some pods of a workload, summed.
    fn metrics_of(
        &self,
        name: &str,
        which: impl Fn(&Workload) -> bool + Send,
    ) -> impl Future<Output = Result<Metrics>> + Send {
        async move {
            let mut all = Metrics::default();
            for pod in self.pods(name) {
                if which(pod) {
                    all.add(&exposition(pod).await?)?;
                }
            }
            Ok(all)
        }
    }

    /// Envoy's own counters and gauges of a workload whose name contains `part`, by name, of every pod.
    fn envoy_stats(
        &self,
        name: &str,
        part: &str,
    ) -> impl Future<Output = Result<Vec<(String, u64)>>> + Send {
        async move {
            let mut all = Vec::new();
            for pod in self.pods(name) {
                for line in fetch(&format!("{}/stats", pod.admin)).await?.lines() {
                    if let Some((stat, value)) = line.split_once(": ")
                        && stat.contains(part)
                        && let Ok(value) = value.parse()
                    {
                        all.push((stat.to_owned(), value));
                    }
                }
            }
            Ok(all)
        }
    }
}

/// What Prometheus reads from a pod.
async fn exposition(pod: &Workload) -> Result<String> {
    fetch(&format!("{}/stats/prometheus", pod.admin)).await
}

pub(crate) async fn fetch(url: &str) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client
        .get(url)
        .send()
        .await
        .with_context(|| format!("GET {url}"))?;
    Ok(answer.error_for_status()?.text().await?)
}
