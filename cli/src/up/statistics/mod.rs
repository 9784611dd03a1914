//! What the proxies count, as rates: what the [view](super::view) shows.
//!
//! - [`counters`]: which counters say something about tenants, tiers and classes: what the mesh's plugins declare.
//! - [`snapshot`]: what a gateway's admin interface answered at one moment.
//! - [`figures`]: the rates between two of those moments.
//! - [`poll`]: asks the proxies, once a second.
//!
//! Only [`poll`] touches a socket. What is not known is `None` everywhere, never 0.

pub(crate) mod counters;
pub(crate) mod figures;
pub(crate) mod poll;
pub(crate) mod snapshot;

pub(crate) use counters::Counters;
pub(crate) use figures::{Figures, Flow, Health, Tenant};
pub(crate) use poll::{Proxy, Sources};
