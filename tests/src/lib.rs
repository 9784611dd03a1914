//! What the end-to-end tests stand on: a [`Target`] that runs the shop, and the tools to ask it questions.
//!
//! A test speaks to a target only: it gives it manifests, sends requests through the gateway or from a workload, and
//! reads a workload's metrics. It never reads a generated Envoy configuration or a child's files, so that the
//! same tests can run against a cluster. [`LocalMesh`] is the first target: `tollgate up`, as a user runs it.
//!
//! Where a VM has to be killed there is a [`LoneEnvoy`].

pub mod frames;
pub mod http2;
mod local;
mod lone;
mod manifests;
mod metrics;
mod raw;
mod room;
pub mod sticky;
mod target;
mod terminal;
pub mod tokens;

pub use local::{LocalMesh, Options, Process, envoy, tollgate};
pub use lone::LoneEnvoy;
pub use manifests::{Filter, Form, Manifests, repository};
pub use metrics::Metrics;
pub use raw::{Answer, exchange, send};
pub use rustix::process::Signal;
pub use target::{Finding, Outcome, Target, Workload};
pub use terminal::Terminal;
