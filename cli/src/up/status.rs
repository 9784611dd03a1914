//! What a running mesh tells other commands: a file in its run's folder, from when everything serves until the mesh ends.
//!
//! Whether it runs the file does not say, but the lock of the folder, which goes with the process, however that ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::run_directory::{self, RunDirectory};
use super::xds;
use crate::metrics::Declared;

const FILE: &str = "mesh.json";

/// A mesh that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) gateway: Option<String>,
    pub(crate) prometheus: Option<String>,
    pub(crate) proxies: Vec<StatusOfProxy>,
    /// What its plugins were told to count. An edit may change it.
    pub(crate) metrics: Vec<Declared>,
}

/// A pod with an Envoy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusOfProxy {
    /// The `app` label.
    pub(crate) workload: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) admin: SocketAddr,
}

/// A run that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) run: PathBuf,
    /// None before everything serves.
    pub(crate) status: Option<Status>,
}

impl Status {
    /// Tells it, or tells it anew.
    pub(crate) fn write(&self, run: &RunDirectory) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        xds::write(&[(run.path().join(FILE), text)])
    }
}

/// The runs that go on, of those whose files are below this target folder; the oldest first.
pub(crate) fn running(target: &Path) -> anyhow::Result<Vec<Running>> {
    let runs = run_directory::running(target).into_iter();
    runs.map(|run| {
        let file = run.join(FILE);
        let status = match std::fs::read(&file) {
            Ok(text) => Some(serde_json::from_slice(&text).with_context(|| {
                format!("{} is of another version of tollgate", file.display())
            })?),
            Err(_) => None,
        };
        Ok(Running { run, status })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_as_long_as_it_lasts() {
        let target = tempfile::tempdir().unwrap();
        assert_eq!(running(target.path()).unwrap(), []);
        let run = RunDirectory::new(target.path()).unwrap();
        let found = |status| {
            let run = run.path().to_owned();
            Running { run, status }
        };
        assert_eq!(running(target.path()).unwrap(), [found(None)]);
        let mut status = Status {
            gateway: Some("http://127.0.0.1:8080".to_owned()),
            prometheus: None,
            proxies: vec![StatusOfProxy {
                workload: "cart-service".to_owned(),
                namespace: "ecommerce".to_owned(),
                pod: "cart-service-0".to_owned(),
                admin: SocketAddr::from(([127, 0, 0, 1], 20_001)),
            }],
            metrics: Vec::new(),
        };
        for gateway in [status.gateway.clone(), None] {
            status.gateway = gateway;
            status.write(&run).unwrap();
            assert_eq!(
                running(target.path()).unwrap(),
                [found(Some(status.clone()))]
            );
        }
        drop(run);
        assert_eq!(running(target.path()).unwrap(), []);
    }
}
