//! Where everything was written: from files to documents whose every value knows its line.
//!
//! `files` decides what is read (files, folders, kustomizations), `yaml` turns text into [`Document`]s, `patch` changes them as
//! kustomizations say, `decode` turns a document's values into typed objects. All of them report [`Problem`]s, which
//! [`Source`] gives their place.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::problem::{Code, Problem};

pub(crate) mod decode;
pub(crate) mod field;
pub(crate) mod files;
pub(crate) mod list;
pub(crate) mod mark;
pub(crate) mod patch;
pub(crate) mod yaml;

pub use decode::nearest;
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

    /// The file of the object. A patch may have written some of its fields: see [`locate`](Self::locate).
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The file and the line of a field such as `spec.http[0].timeout`, or of the deepest part of it that exists; of the
    /// object if the field is empty.
    pub fn locate(&self, field: &str) -> (&Path, usize) {
        self.place(&FieldPath::parse(field))
    }

    /// A problem with a field such as `spec.http[0].timeout`, which need not exist: what is missing is reported where it
    /// should be. Names that are not plain words stand in brackets: `metadata.annotations["sidecar.istio.io/inject"]`; see
    /// [`join`]. It is one of how objects fit together, unless [`Problem::of`] says otherwise.
    pub fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        self.problem_at(&FieldPath::parse(field), message)
    }

    /// A problem with a field whose value is wrong whatever the other objects say.
    pub fn invalid(&self, field: &str, message: impl Into<String>) -> Problem {
        self.problem(field, message).of(Code::Value)
    }

    /// A problem with a field that the local mesh would have to ignore.
    pub fn unimplemented(&self, field: &str, message: impl Into<String>) -> Problem {
        self.problem(field, message).of(Code::Unimplemented)
    }

    pub(crate) fn problem_at(&self, path: &FieldPath, message: impl Into<String>) -> Problem {
        let (file, line) = self.place(path);
        Problem {
            file: file.to_path_buf(),
            line,
            field: self.base.then(path.segments()).to_string(),
            message: message.into(),
            code: Code::Mismatch,
        }
    }

    /// The documents that are the text of a field: what is wrong in it is told on its own line.
    pub(crate) fn text(&self, path: &FieldPath, text: &str) -> (Vec<Document>, Vec<Problem>) {
        let (file, line) = self.place(path);
        yaml::parse(file, text, self.mark(path).text.unwrap_or(line))
    }

    pub(crate) fn mark(&self, path: &FieldPath) -> &Mark {
        self.find(path).0
    }

    fn find(&self, path: &FieldPath) -> (&Mark, Option<&Arc<Path>>) {
        self.marks
            .deepest(self.base.segments().iter().chain(path.segments()))
    }

    fn place(&self, path: &FieldPath) -> (&Path, usize) {
        let (mark, file) = self.find(path);
        (file.unwrap_or(&self.file), mark.line.max(1))
    }
}

/// Not derived: the marks of a whole file would drown what somebody wants to see.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line) = self.place(&FieldPath::default());
        write!(f, "{}:{line}", file.display())
    }
}

/// `file:line`, where the object begins.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
