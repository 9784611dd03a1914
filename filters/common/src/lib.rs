//! Vocabulary that Tollgate's filters share, so that the same word means the same thing in each of their configurations:
//! who a tenant is, how strings are matched, how long a duration is, how a metric's labels are written, and how an error in a
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

pub mod config;
mod duration;
pub mod metrics;
pub mod refusal;
mod string_match;
pub mod tenant;

pub use config::{ConfigError, UniqueMap, parse};
pub use duration::Duration;
pub use metrics::series_name;
pub use refusal::Refusal;
pub use string_match::StringMatch;
pub use tenant::TenantId;

/// Request headers that one filter owns and everything behind it may believe: whoever owns a header strips the
/// client's copies of it first.
pub mod header {
    /// The tenant's normalised id. Written by tenant-rate-limit.
    pub const TENANT_ID: &str = "x-tenant-id";
    /// The name of the tenant's tier. Written by tenant-rate-limit.
    pub const TENANT_TIER: &str = "x-tenant-tier";
    /// The user's type. Written by user-classifier, unless its configuration names another header.
    pub const USER_TYPE: &str = "user-type";
}

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
