//! The two modules of a plugin that can read bodies: one that sees them, and one that does not and is called less often.
//!
//! Both are compiled once; what is left of their callbacks differs. They have names of their own, because a module is found by the
//! last segment of its `url` alone: a tag may be replaced by a digest.

/// What the name of a module ends in that sees bodies.
const BODIES: &str = "-bodies";

/// The name of a plugin's module that sees bodies.
pub(crate) fn with_bodies(plugin: &str) -> String {
    format!("{plugin}{BODIES}")
}

/// Whether a module sees bodies, by its name.
pub(crate) fn has_bodies(module: &str) -> bool {
    module.ends_with(BODIES)
}

/// The plugin that a module is of.
pub(crate) fn plugin(module: &str) -> &str {
    module.strip_suffix(BODIES).unwrap_or(module)
}
