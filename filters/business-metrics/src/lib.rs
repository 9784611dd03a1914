//! Business metrics, written when a request is done, whatever its end.
//!
//! A configuration names labels, route templates and metrics. When the request's headers arrive the filter keeps a few small
//! numbers (which declared value each label has, which metrics the request may belong to); when the request is done
//! it adds how that ended, and counts. A request that was answered before it got here (refused by a limit, or not
//! routable) is counted too, but nothing that its client could have written about itself is believed.
//!
//! The number of series is bounded three times: label values come from declared lists or are the first that came, a proxy defines at most
//! `maxSeries`, and whatever is beyond that is counted where all labels are `other`, so no request is lost.
//!
//! - [`config`]: the configuration as it is written, and what makes it acceptable.
//! - [`routes`]: route templates.
//! - [`label`]: where labels have their values from, and which values get a series.
//! - [`value`]: the numbers that requests count, and why one may have none.
//! - [`body`]: numbers out of bodies.
//! - [`metrics`]: which metrics a finished request belongs to.
//! - [`series`]: the series that there are, and how many more there may be.
//! - [`filter`]: reads the request and how it ended, asks the core, counts.

#![cfg_attr(
    not(test),
    deny(
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing
    )
)]

pub mod body;
pub mod config;
pub mod filter;
pub mod label;
pub mod metrics;
mod register;
pub mod routes;
pub mod series;
pub mod value;

pub use config::{Config, check, labels, reads_bodies};
pub use filter::BusinessMetrics;
pub use metrics::Metrics;
