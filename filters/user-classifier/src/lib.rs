//! Decides who a request is from, and says so in a header that no client can write.
//!
//! Ordered rules look at headers and at the tenant and tier that the tenant-rate-limit filter found; the first rule whose
//! conditions all hold names the type, else it is the default. Every copy of the header that a client sent is taken
//! away first, however it is spelled, so that routes, policies, metrics and services may believe what they read.
//!
//! - [`config`]: the configuration as it is written, and what makes it acceptable.
//! - [`classifier`]: the decision, from headers alone: no host calls.
//! - [`filter`]: reads the request, asks the classifier, writes the header.

#![cfg_attr(
    not(test),
    deny(
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing
    )
)]

pub mod classifier;
pub mod condition;
pub mod config;
pub mod facts;
pub mod filter;
pub mod network;
pub mod time;

pub use classifier::Classifier;
pub use config::{Config, check};
pub use filter::UserClassifier;
