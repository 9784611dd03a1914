//! All three filters as one: tenant-rate-limit, user-classifier and business-metrics in one module, so one VM per worker and
//! one reading of a request's headers.
//!
//! The bundle adds nothing to what the filters do. It reads a configuration with a section for each, and shows every request to
//! those that have one, in the order in which the three modules stand at a gateway. Whoever answers a request ends its way, and
//! those behind hear of it only when it is over, as they would in modules of their own.
//!
//! - [`config`]: the sections.
//! - [`filter`]: the order.
//! - [`together`]: what two of the sections say together.

#![forbid(unsafe_code)]
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
pub mod together;

pub use config::{Config, check, reads_bodies, shadows};
pub use filter::Tollgate;
