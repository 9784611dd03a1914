//! Business counters, written when a request is done, whatever its end.
//!
//! A configuration names labels, route templates and counters. When the request's headers arrive the filter keeps a few small
//! numbers (which declared value each label has, which counters the request may belong to); when the request is done
//! it adds the status and counts. A request that was answered before it got here (refused by a limit, or not
//! routable) is counted too, but nothing that its client could have written about itself is believed.
//!
//! The number of series is bounded three times: label values come from declared lists, one VM defines at most
//! `maxSeries`, and whatever is beyond that is counted where all labels are `other`, so no request is lost.
//!
//! - [`config`]: the configuration as it is written, and what makes it acceptable.
//! - [`routes`]: route templates.
//! - [`metrics`]: which series a finished request belongs to: no host calls.
//! - [`filter`]: reads the request and its status, asks the core, counts.

#![cfg_attr(
    not(test),
    deny(
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing
    )
)]

pub mod config;
pub mod filter;
pub mod label;
pub mod metrics;
mod register;
pub mod routes;
pub mod series;
pub mod value;

pub use config::{Config, check};
pub use filter::BusinessMetrics;
pub use metrics::Metrics;
