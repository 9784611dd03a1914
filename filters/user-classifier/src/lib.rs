//! Decides who a request is from, and says so in a header that no client can write.
//!
//! Ordered rules look at what was verified of a request (claims of its token, the tenant and tier that the tenant-rate-limit filter found, who is connected)
//! and at what the client wrote; the first rule whose condition holds names the type, else it is the default. Every copy of the header that a client sent
//! is taken away, however it is spelled, so that routes, policies, metrics and services may believe what they read.
//!
//! - [`config`]: the configuration as it is written, and what makes it acceptable.
//! - [`classifier`]: the decision: the first rule that holds. No host calls.
//! - [`condition`]: what rules are made of; [`network`] and [`time`] are what some conditions ask.
//! - [`facts`]: what a request is, read as far as rules ask.
//! - [`sticky`]: signed cookies for those whom a share has.
//! - [`explain`]: why a request is what it is, for `tollgate explain` and for callers who may ask a proxy.
//! - [`filter`]: reads the request, asks the classifier, writes what it says.

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
pub mod explain;
pub mod facts;
pub mod filter;
pub mod network;
pub mod sticky;
pub mod time;

pub use classifier::Classifier;
pub use config::{Config, check};
pub use filter::UserClassifier;
