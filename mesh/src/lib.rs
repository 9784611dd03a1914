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
    load_watched(paths).result.map(|manifests| manifests.mesh)
}

/// A mesh and the objects that it was built from.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// The mesh.
    pub mesh: Mesh,
    /// What it was built from, for who wants to say where something was written.
    pub objects: api::Objects,
}

/// What some paths say at a moment, and what has to change for them to say something else.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The mesh, or all that is wrong.
    pub result: Result<Manifests, Problems>,
    /// Every file that was read or asked for in vain, sorted: among them is the one that mends what is wrong.
    pub files: Vec<PathBuf>,
    /// Every folder to watch, sorted, each for its own entries alone: those of the files, and those whose entries decide what
    /// is read. They are there, except for one that was named in vain.
    pub folders: Vec<PathBuf>,
}

/// Does what [`load`] does, and says what was looked at, also when something is wrong.
pub fn load_watched(paths: &[PathBuf]) -> Loaded {
    let mut read = source::files::read(paths);
    let files = std::mem::take(&mut read.files).into_iter().collect();
    let folders = std::mem::take(&mut read.folders).into_iter().collect();
    let result = api::Objects::collect(read).and_then(|objects| {
        let mesh = Mesh::build(objects.clone())?;
        Ok(Manifests { mesh, objects })
    });
    Loaded {
        result,
        files,
        folders,
    }
}
