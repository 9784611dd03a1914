//! What is wrong with the manifests: each finding names file, line and field, and says what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the caller named it (or as found below the folder that the caller named).
    pub file: PathBuf,
    /// The line in that file, counted from 1.
    pub line: usize,
    /// The field, as in `spec.http[0].timeout`; empty when the problem is not one of a field.
    pub field: String,
    /// What is wrong with which value, and what to write instead.
    pub message: String,
}

impl Problem {
    /// A problem of a line, for what has no field: syntax, a missing file.
    pub fn at(file: impl AsRef<Path>, line: usize, message: impl Into<String>) -> Self {
        Self {
            file: file.as_ref().to_path_buf(),
            line: line.max(1),
            field: String::new(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The form of the command's JSON events: `{file, line, field, reason}`.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Problem", 4)?;
        // Not the path itself: serde refuses one that is not UTF-8, and an event must not fail on it.
        fields.serialize_field("file", &self.file.to_string_lossy())?;
        fields.serialize_field("line", &self.line)?;
        fields.serialize_field("field", &self.field)?;
        fields.serialize_field("reason", &self.message)?;
        fields.end()
    }
}

/// Every problem that was found, never an empty list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `Ok(value)` if nothing was found, else all of it in the order of the files' lines.
    pub fn or<T>(mut found: Vec<Problem>, value: T) -> Result<T, Self> {
        if found.is_empty() {
            return Ok(value);
        }
        found.sort();
        found.dedup();
        Err(Self(found))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
