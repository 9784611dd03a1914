//! Everything that is wrong in a configuration.

use std::fmt;

use serde::de::DeserializeOwned;
use tollgate_mistakes::{Step, find};

use crate::config::{ConfigError, at_most, below, steps};
use crate::json::Json;

/// How many problems of a configuration are told.
const MOST: usize = 100;

/// What is told in the place of all others.
const MORE: &str = "more is wrong than these 100 problems, mend them first";

/// What is wrong in a configuration, as it is found.
///
/// What is compiled of a value with a problem in it is `None`, and so is what would be compiled of that: whoever needs it says nothing more. So a
/// problem is told once, where it is, and those that would go away with it are not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    told: Vec<ConfigError>,
    /// Whether there are more than may be told.
    more: bool,
    /// Values that took the place of what could not be read; none while a filter reads its configuration.
    holes: Vec<Hole>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hole {
    path: String,
    /// Of the value that it is in.
    around: String,
    /// Whether it was not filled.
    empty: bool,
}

impl Problems {
    /// Tells what is wrong at `path`, unless that comes of what was told before: it is about a value that could not be read, or about a mapping
    /// that a field was taken out of.
    pub fn tell(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(ConfigError::new(path, message));
    }

    /// The same, for the end of a check.
    pub fn refuse<T>(&mut self, path: impl Into<String>, message: impl Into<String>) -> Option<T> {
        self.tell(path, message);
        None
    }

    /// What could be read, or tells why it could not.
    pub fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// [`take`](Self::take) of what was said of a key of the mapping at `path`, which its author wrote also if the value could not be read.
    pub fn take_key<T>(&mut self, path: &str, result: Result<T, ConfigError>) -> Option<T> {
        let error = match result {
            Ok(key) => return Some(key),
            Err(error) => error,
        };
        if !self.holes.iter().any(|hole| within(&hole.path, path)) {
            self.push(error);
        }
        None
    }

    /// Whether the value at `path` (or that of a `field` of it, if it has a name) is what its author wrote: it could be read, no field was taken out
    /// of it, and if it is a list, that holds for its elements, too. What is said of other places must not rest on it otherwise. A filter
    /// sees only what was written.
    pub fn as_written(&self, path: &str, field: &str) -> bool {
        let is_that = |hole: &Hole| {
            let path = match field {
                "" => path.to_owned(),
                field => below(path, field),
            };
            within(&hole.path, &path)
                || (hole.around == path && (hole.empty || hole.path.ends_with(']')))
        };
        !self.holes.iter().any(is_that)
    }

    /// Whether everything at `path` and in it is what its author wrote.
    pub fn intact(&self, path: &str) -> bool {
        let hole = |hole: &Hole| within(&hole.path, path) || within(path, &hole.path);
        !self.holes.iter().any(hole)
    }

    /// What was compiled, if nothing is wrong.
    pub fn or<T>(self, compiled: Option<T>) -> Result<T, Self> {
        match compiled {
            Some(compiled) if self.told.is_empty() => Ok(compiled),
            _ => Err(self),
        }
    }

    /// What is wrong.
    pub fn told(&self) -> &[ConfigError] {
        &self.told
    }

    /// Tells of more than `limit` of anything: `what` is their name.
    pub fn at_most(&mut self, count: usize, limit: usize, path: &str, what: &str) {
        self.take(at_most(count, limit, path, what));
    }

    /// The same problems of a configuration that is written at `field` of another.
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        for error in &mut self.told {
            *error = error.within(field);
        }
        self
    }

    /// Adds what is wrong in a section of the configuration.
    pub fn add_section(&mut self, section: &str, problems: Self) {
        for error in problems.within(section).told {
            self.add(error);
        }
    }

    /// Reads a value of a tree. What could not be read is told and has holes in its place.
    pub(crate) fn find<T: DeserializeOwned>(&mut self, tree: &mut Json<'_>) -> Option<T> {
        let mut told = Vec::new();
        tree.keep_first("", &mut told);
        let found = find(tree, MOST, |tree| Ok(T::deserialize(tree)?));
        told.extend(found.mistakes);
        for error in told {
            self.add(error);
        }
        let hole = |hole: tollgate_mistakes::Hole| {
            let (_, around) = hole.place.split_last().unwrap_or((&Step::Index(0), &[]));
            Hole {
                path: steps(hole.place.iter()),
                around: steps(around.iter()),
                empty: hole.empty,
            }
        };
        self.holes = found.holes.into_iter().map(hole).collect();
        if found.more {
            self.more = true;
            self.told.push(ConfigError::new("", MORE));
        }
        found.value
    }

    fn add(&mut self, error: ConfigError) {
        let explained = |hole: &Hole| {
            within(&hole.path, &error.path) || (hole.empty && hole.around == error.path)
        };
        if !self.holes.iter().any(explained) {
            self.push(error);
        }
    }

    fn push(&mut self, error: ConfigError) {
        if self.more {
            return;
        }
        self.more = self.told.len() == MOST;
        self.told.push(match self.more {
            false => error,
            true => ConfigError::new("", MORE),
        });
    }
}

/// Whether the value at `path` is in the one at `outer`, or that itself.
fn within(outer: &str, path: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| {
        outer.is_empty() || matches!(rest.as_bytes().first(), None | Some(b'.' | b'['))
    })
}

/// A line for each.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.told.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
