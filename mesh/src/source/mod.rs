//! Where everything was written: from files to documents whose every value knows its line.
//!
//! `files` decides what is read (files, folders, kustomizations), `yaml` turns text into [`Document`]s, `decode` turns a
//! document's values into typed objects. All three report [`Problem`]s, which [`Source`] gives their place.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::problem::Problem;

pub(crate) mod decode;
pub(crate) mod field;
pub(crate) mod files;
pub(crate) mod mark;
pub(crate) mod yaml;

pub use field::join;

use field::{FieldPath, Segment};
use mark::Mark;

/// One document of a file, or one item of a `List` in it.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it says.
    pub value: Value,
    /// Where it says so.
    pub source: Source,
}

/// Where an object was written.
#[derive(Clone)]
pub struct Source {
    file: Arc<Path>,
    marks: Arc<Mark>,
    /// Where in the document the object begins; not empty for the items of a `List`.
    base: FieldPath,
}

impl Source {
    pub(crate) fn new(file: Arc<Path>, marks: Arc<Mark>) -> Self {
        Self {
            file,
            marks,
            base: FieldPath::default(),
        }
    }

    /// The same place, further in.
    pub(crate) fn within(&self, path: &[Segment]) -> Self {
        Self {
            file: self.file.clone(),
            marks: self.marks.clone(),
            base: self.base.then(path),
        }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line of a field such as `spec.http[0].timeout`, or of the deepest part of it that exists; of the object if the
    /// field is empty.
    pub fn locate(&self, field: &str) -> usize {
        self.line(&FieldPath::parse(field))
    }

    /// A problem with a field such as `spec.http[0].timeout`, which need not exist: what is missing is reported where it
    /// should be. Names that are not plain words stand in brackets: `metadata.annotations["sidecar.istio.io/inject"]`; see
    /// [`join`].
    pub fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        self.problem_at(&FieldPath::parse(field), message)
    }

    pub(crate) fn problem_at(&self, path: &FieldPath, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_path_buf(),
            line: self.line(path),
            field: self.base.then(path.segments()).to_string(),
            message: message.into(),
        }
    }

    pub(crate) fn mark(&self, path: &FieldPath) -> &Mark {
        self.marks
            .deepest(self.base.segments().iter().chain(path.segments()))
    }

    fn line(&self, path: &FieldPath) -> usize {
        self.mark(path).line.max(1)
    }
}

/// Not derived: the marks of a whole file would drown what somebody wants to see.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}",
            self.file.display(),
            self.line(&FieldPath::default())
        )
    }
}

/// `file:line`, where the object begins.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
