//! Vocabulary that Tollgate's filters share, so that the same word means the same thing in each of their configurations:
//! who a tenant is, what a verified token claims, how strings are matched, what a path, a query or a cookie says, which values a body has, how long a duration is, how an id is
//! hashed, how a metric's labels are written, and how an error in a
//! configuration is reported. Nothing here calls the proxy.

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

pub mod body;
pub mod claims;
pub mod config;
mod cookie;
mod duration;
mod given;
pub mod hashed;
pub mod header;
mod host;
mod json;
pub mod metrics;
pub mod path;
mod percent;
mod problems;
mod query;
pub mod refusal;
#[cfg(feature = "schema")]
pub mod schema;
mod spiffe;
mod string_match;
pub mod tenant;

pub use claims::{Claim, Claims};
pub use config::{ConfigError, OneOrMany, UniqueMap, at_most, below, parse, refuse};
pub use cookie::cookie;
pub use duration::Duration;
pub use given::Given;
pub use hashed::hashed_id;
pub use host::{HostTemplate, host};
pub use metrics::series_name;
pub use path::{Path, PathTemplate, Target};
pub use problems::Problems;
pub use query::parameter;
pub use refusal::Refusal;
pub use spiffe::{MAX_PEERS, PeerTemplate, is_identity, names_peers, peers};
pub use string_match::StringMatch;
pub use tenant::TenantId;

/// Whether a string can be the name of a tier, a limit or a user type: 1 to 64 of `a-z`, `0-9`, `_`, `-`, the first not `-`.
/// Such a name needs no quoting in a header, a metric's label or a log line.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
    };
    (1..=64).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-')
}

/// What [`is_name`] asks for, for messages.
pub const NAME_RULE: &str = "write 1 to 64 of a-z, 0-9, _ and -, not starting with -";
