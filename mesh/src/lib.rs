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
pub use problem::{Code, Level, Problem, Problems};

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
    let Inspection {
        objects,
        mesh,
        problems,
        files,
        folders,
        ..
    } = inspect(paths);
    let result = match mesh {
        Some(mesh) => Ok(Manifests { mesh, objects }),
        None => Err(Problems(problems)),
    };
    Loaded {
        result,
        files,
        folders,
    }
}

/// Every document of some paths, whatever it says.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The documents, as kustomizations left them.
    pub documents: Vec<source::Document>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// As [`Loaded::files`].
    pub files: Vec<PathBuf>,
}

/// Reads files and folders as [`load`] does, and leaves it to the caller what is in them.
pub fn documents(paths: &[PathBuf]) -> Documents {
    let read = source::files::read(paths);
    Documents {
        documents: read.documents,
        problems: read.problems,
        files: read.files.into_iter().collect(),
    }
}

/// What some paths say, right or wrong.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Every document that could be read, as kustomizations left it: objects of any kind, and what is no object.
    pub documents: Vec<source::Document>,
    /// The objects among them that are right in themselves.
    pub objects: api::Objects,
    /// The mesh, if nothing is wrong.
    pub mesh: Option<Mesh>,
    /// All that is wrong, by file and line. How the objects fit together is looked at only if each of them is right in itself that others
    /// refer to: what is missing might be what could not be read.
    pub problems: Vec<Problem>,
    /// As [`Loaded::files`].
    pub files: Vec<PathBuf>,
    /// As [`Loaded::folders`].
    pub folders: Vec<PathBuf>,
}

/// Does what [`load_watched`] does, and keeps what is right when something is wrong.
pub fn inspect(paths: &[PathBuf]) -> Inspection {
    let read = source::files::read(paths);
    let (documents, mut problems) = (read.documents, read.problems);
    let all_read = problems.is_empty();
    let (objects, nothing_missing) = api::Objects::gather(documents.iter().cloned(), &mut problems);
    let mut mesh = None;
    if all_read && nothing_missing {
        match Mesh::build(objects.clone()) {
            Ok(built) => mesh = problems.is_empty().then_some(built),
            Err(Problems(found)) => problems.extend(found),
        }
    }
    problems.sort();
    problems.dedup();
    Inspection {
        documents,
        objects,
        mesh,
        problems,
        files: read.files.into_iter().collect(),
        folders: read.folders.into_iter().collect(),
    }
}
