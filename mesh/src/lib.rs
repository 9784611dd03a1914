//! Reads the manifests of a mesh as users write them for a cluster, and writes the Envoy configuration that Istio would.
//!
//! Data flows one way: files → [`source`] (documents that know their lines) → [`api`] (typed objects) → [`model`] (the mesh)
//! → [`envoy`] (one configuration per pod). No processes, no sockets. What the local mesh cannot express it refuses with
//! file, line and field ([`Problem`]); it never ignores what would change behaviour.

use std::path::PathBuf;

pub mod api;
pub mod envoy;
pub mod model;
pub mod problem;
pub mod source;

pub use model::Mesh;
pub use problem::{Problem, Problems};

/// Reads a mesh from files, folders with a `kustomization.yaml`, and plain folders.
pub fn load(paths: &[PathBuf]) -> Result<Mesh, Problems> {
    Mesh::build(api::Objects::load(paths)?)
}
