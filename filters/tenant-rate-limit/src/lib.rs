//! Limits how many requests each tenant makes, exactly, across all workers of a proxy.
//!
//! - [`config`]: what can be written, and what makes it acceptable.
//! - [`limiter`]: who a request is from, and what it costs.
//! - [`ledger`]: what tenants have used, and requests charged to it; [`table`]: where a tenant's record is; [`row`]: the records as they are kept.
//! - [`run`]: what a worker takes of a limit at once, and why that is safe; [`stock`]: what it holds of whom.
//! - [`in_flight`]: limits on how many requests of a tenant there are at the same time, and the counts of them.
//! - [`settle`]: limits on what only a response tells, such as tokens: what a request is estimated at, and how the difference is charged.
//! - [`share`]: how tenants share what the whole proxy lets pass.
//! - [`limit`]: what a single limit allows and remembers; [`calendar`]: the windows of quotas.
//! - [`answer`]: what a client is told; [`meters`]: what is counted.
//! - [`filter`]: the shell around all this.
//!
//! # What holds
//!
//! Over any stretch of time a rate admits at most `burst` requests, one more for each `interval` in it, and one; and a quota at most its number in
//! each window, whatever number of workers there is. Each slot of a rate and each unit of a quota is given out once, by a compare-and-swap on the one record of its
//! tenant; of limits that are large enough a worker takes several at once ([`run`]). From rest, a whole burst passes, less what other workers hold of it, which is a sixteenth at
//! most. A limit below 32 times the number of workers is exact: nothing is held of it, and no more passes than `burst` and one for each `interval`.
//!
//! Of a limit on requests in flight never more than its number are in flight in VMs that live and were not stuck for seconds while others went on; what a dead one had is forgotten after five seconds ([`in_flight`]).
//!
//! Rates go by the monotonic clock. A wall clock that is set back by up to an hour does not reopen a window: the window that has been reached
//! stays the one that counts. One that is set back further had been wrong, and quotas start anew in the window that it now shows. A worker that was not asked
//! while the clock was ahead goes on from what it knew of the window before: it may still spend what it holds of that, and refuse what was used up of it.
//!
//! State is in the proxy's shared data and in the VM, so it survives a new configuration. What was used of a limit is a number of requests, and a limit
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
pub mod in_flight;
pub mod ledger;
pub mod limit;
pub mod limiter;
pub mod meters;
pub mod row;
pub mod rules;
pub mod run;
pub mod settle;
mod settling;
pub mod share;
pub mod stock;
pub mod table;

pub use config::{Config, check, labels, reads_bodies, shadows};
pub use filter::TenantRateLimit;
