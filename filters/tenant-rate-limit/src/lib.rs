//! Limits how many requests each tenant makes, exactly, across all workers of a proxy.
//!
//! - [`config`]: what can be written, and what makes it acceptable.
//! - [`limiter`]: who a request is from.
//! - [`ledger`]: what tenants have used, and requests charged to it; [`table`]: where a tenant's record is; [`row`]: the records as they are kept, and one request charged to one of them, to all its limits or to none.
//! - [`limit`]: what a single limit allows and remembers; [`calendar`]: the windows of quotas.
//! - [`answer`]: what a client is told.
//! - [`filter`]: the shell around all this.
//!
//! # What holds
//!
//! Over any stretch of time a rate admits at most `burst` requests and one more for each `interval` in it, and a quota at most its number in
//! each window, whatever number of workers there is: every request is charged with a compare-and-swap on the one record of its
//! tenant. Rates go by the monotonic clock. A wall clock that is set back by up to an hour does not reopen a window: the window that has been reached
//! stays the one that counts. One that is set back further had been wrong, and quotas start anew in the window that it now shows.
//!
//! State is in the proxy's shared data, so it survives a new configuration. What was used of a limit is a number of requests, and a limit
//! with new numbers goes on from it; so does a limit of the same name and kind in another tier that a tenant is moved to. Only
//! a tenant that becomes listed, or stops being listed, and one that is not listed when `individually` changes, start at rest.

#![forbid(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]
#![cfg_attr(
    test,
    allow(
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing
    )
)]

pub mod answer;
pub mod calendar;
pub mod config;
pub mod filter;
pub mod ledger;
pub mod limit;
pub mod limiter;
pub mod row;
pub mod table;

pub use config::Config;
pub use filter::TenantRateLimit;
