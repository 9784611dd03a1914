//! What is wrong in a configuration, as it is found: all of it, and not the first thing alone.

use tollgate_common::ConfigError;

/// What was found. What is compiled of a value with a problem in it is `None`, and so is what would be compiled of that.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<ConfigError>);

impl Problems {
    /// Tells what is wrong at `path`.
    pub(super) fn tell(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(ConfigError::new(path, message));
    }

    /// The same, for the end of a check.
    pub(super) fn refuse<T>(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Option<T> {
        self.tell(path, message);
        None
    }

    /// What could be read, or tells why it could not.
    pub(super) fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }
}
