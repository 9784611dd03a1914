//! The seam between Tollgate's filters and the proxy that runs them.
//!
//! A filter is a pure core in a thin shell: it sees the proxy only through the [`Host`] trait, so that the
//! same code runs inside Envoy and in native tests. One implementation calls Envoy (`envoy`, only where Envoy is, which is
//! `wasm32-wasip1`), one lives in memory (`memory::MemoryHost`, anywhere else: tests run natively and as Wasm in Node).
//!
//! This is the only crate that touches the Proxy-Wasm ABI, the only one with `unsafe`, and it never panics on what a
//! client or a proxy sends: header bytes are bytes, every status the proxy may return is a [`HostError`], and duplicate
//! headers are seen as duplicates. The SDK (`proxy-wasm`) is used for its contexts and dispatch; its host calls
//! panic on statuses they do not know and on bytes that are not UTF-8, and one panic takes a worker's VM down.

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
#![cfg_attr(not(target_os = "wasi"), forbid(unsafe_code))]

mod body;
mod callback;
pub mod filter;
pub mod headers;
mod host;
#[cfg(not(target_os = "wasi"))]
#[allow(
    clippy::expect_used,
    reason = "a proxy for tests: it fails them loudly"
)]
pub mod memory;
pub mod peer;
pub mod source;

#[cfg(target_os = "wasi")]
mod abi;
#[cfg(target_os = "wasi")]
pub mod envoy;
#[cfg(target_os = "wasi")]
pub mod shell;

#[cfg(target_os = "wasi")]
#[doc(hidden)]
pub use proxy_wasm;

pub use body::Chunk;
pub use callback::{CALLBACKS, Callback};
pub use filter::{Action, Plugin, Stream};
pub use headers::{Copies, HeaderMap, Names, Request, Trailers, same_bytes, same_name};
pub use host::{
    Body, Expected, Host, HostError, LocalResponse, Map, MetricId, MetricKind, SharedValue,
};
