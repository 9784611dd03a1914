//! The Kubernetes and Istio types that manifests are made of, as far as the local mesh honours them.
//!
//! A type has exactly the fields that the local mesh implements, and those of [`inert`] that change nothing on one
//! machine. Every other field is refused: one that Kubernetes or Istio knows (see `unimplemented`) as not implemented,
//! any other as unknown. So a manifest that loads does here what it does on a cluster.

pub mod apps;
pub mod core;
pub mod extensions;
pub mod inert;
pub mod mesh;
pub mod meta;
pub mod networking;
pub mod security;
pub(crate) mod unimplemented;

mod objects;
mod scalar;

pub use objects::{Object, Objects, Resource};
pub use scalar::{Base64, Count, Duration, IntOrString, Period, Quantity, Regex};
