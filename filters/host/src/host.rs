//! What a filter may ask of the proxy.

use crate::callback::Callback;
use crate::headers::HeaderMap;

/// Which header map a call is about. Names follow `WasmHeaderMapType` of the Proxy-Wasm ABI 0.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Map {
    /// The request's headers: readable and writable in the request-headers phase, readable in `on_log`.
    RequestHeaders,
    /// The request's trailers: readable and writable in the request-trailers phase only.
    RequestTrailers,
    /// The response's headers: readable and writable in the response-headers phase, readable in `on_log`.
    ResponseHeaders,
    /// The response's trailers: readable and writable in the response-trailers phase, readable in `on_log`.
    ResponseTrailers,
}

/// Whose body a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// What the client sends.
    Request,
    /// What the service answers.
    Response,
}

/// A host call that did not work. Filters treat it as "the proxy has no answer": never as a reason to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// The status of the ABI, e.g. 2 (`BadArgument`) when a header map is asked for outside its phase.
    Status(u32),
    /// The proxy answered with bytes that do not parse as what was asked for.
    Malformed,
}

/// A value of the proxy's shared data with the version it was read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedValue {
    /// The bytes that were last written.
    pub bytes: Vec<u8>,
    /// The version for a compare-and-swap ([`Expected::Version`]); never 0.
    pub version: u32,
}

/// What must be true of a shared key for a write to take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The key has never been written: exactly one of several writers wins.
    Absent,
    /// The key is still at the version that was read.
    Version(u32),
}

/// A metric that was defined in this VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricId(pub u32);

/// The kinds of metric that the ABI knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only grows; process-wide.
    Counter,
    /// Goes up and down; process-wide.
    Gauge,
    /// A distribution; Envoy's buckets.
    Histogram,
}

/// An answer that the proxy gives instead of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalResponse<'a> {
    /// HTTP status. For a gRPC request Envoy answers 200 with `grpc_status` in its stead.
    pub status: u32,
    /// `%RESPONSE_CODE_DETAILS%` of the access log: a word without spaces.
    pub details: &'a str,
    /// Further headers, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body; empty for none.
    pub body: &'a [u8],
    /// `grpc-status` for gRPC requests; `None` lets Envoy map the HTTP status.
    pub grpc_status: Option<u32>,
}

/// The proxy, as a filter sees it. Implemented by Envoy (`envoy::EnvoyHost`) and in memory
/// (`memory::MemoryHost`). A call that returns data costs about twice as much as one that only writes, because the proxy
/// calls back into the module to allocate: ask for all that is needed at once.
pub trait Host {
    /// All headers of a map in one call. Prefer it to several single reads.
    fn headers(&self, map: Map) -> Result<HeaderMap, HostError>;
    /// The first value of a header; `None` if it is absent, `Some` and empty if it is empty.
    fn header(&self, map: Map, name: &str) -> Result<Option<Vec<u8>>, HostError>;
    /// Sets a header to one value: every copy there was is replaced.
    fn set_header(&mut self, map: Map, name: &str, value: &[u8]) -> Result<(), HostError>;
    /// Adds a header beside those of the same name.
    fn add_header(&mut self, map: Map, name: &str, value: &[u8]) -> Result<(), HostError>;
    /// Removes every copy of a header.
    fn remove_header(&mut self, map: Map, name: &[u8]) -> Result<(), HostError>;
    /// The piece of a body that the proxy has in its hands; empty outside of that body's callback, where in turn no header can be read. [`Chunk::bytes`](crate::Chunk::bytes) asks for it once for all filters.
    fn body(&self, body: Body) -> Result<Vec<u8>, HostError>;
    /// An attribute by path, as raw bytes (it has no type); `None` if there is none. Elements of the path may also be given as one, with a zero byte between
    /// them, as the ABI takes them: a path that is made once that way is not joined for each request.
    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError>;
    /// Sets `wasm.<name>` in the stream's filter state (`%FILTER_STATE(wasm.<name>:PLAIN)%` in an access log). Any filter of the
    /// stream, also one in another VM, reads it back as `property(&[name])` or `property(&["filter_state", "wasm.<name>"])`, in `on_log` too.
    fn set_property(&mut self, name: &str, value: &[u8]) -> Result<(), HostError>;
    /// Answers the request here. The filter then returns [`crate::Action::Stop`].
    fn respond(&mut self, response: &LocalResponse<'_>) -> Result<(), HostError>;
    /// Whether anybody sees more of an answer than its status. Nobody does in a replay, which asks what is decided: there a filter need not write headers and bodies.
    fn shows_answers(&self) -> bool {
        true
    }
    /// A value of the process-wide shared data; `None` if the key was never written.
    fn shared(&self, key: &[u8]) -> Result<Option<SharedValue>, HostError>;
    /// Writes a value of the shared data if `expected` holds: `Ok(false)` when another worker was faster. A key is
    /// never freed, so the set of keys must be bounded.
    fn set_shared(
        &mut self,
        key: &[u8],
        value: &[u8],
        expected: Expected,
    ) -> Result<bool, HostError>;
    /// Wall-clock time in nanoseconds since 1970-01-01T00:00:00Z. May step back.
    fn now(&self) -> u64;
    /// Nanoseconds from some moment before the proxy started, the same moment for all workers. Unlike [`Host::now`] it neither steps
    /// nor is it set, so lengths of time are measured with it.
    fn monotonic(&self) -> u64;
    /// Which VM this is, as long as the program that asks can see several. In Envoy a module sees only its own, so there is one number; a test
    /// plays several workers in one thread, and what a filter keeps in "its VM" must be kept apart by this.
    fn vm(&self) -> u64 {
        0
    }
    /// 64 bits from the system's secure random source.
    fn random(&self) -> u64;
    /// Whether the module that the filter is in has a callback. One that it was built without never comes: a configuration that needs it must be refused.
    fn has_callback(&self, callback: Callback) -> bool;
    /// Has [`Plugin::on_tick`](crate::Plugin::on_tick) of the plugin that is being configured run every so many milliseconds from now on, in this VM.
    fn set_tick_period(&mut self, milliseconds: u32) -> Result<(), HostError>;
    /// The id of a metric, defined on first use in this VM and remembered: a metric is never defined twice.
    fn metric(&mut self, kind: MetricKind, name: &str) -> Result<MetricId, HostError>;
    /// Adds to a counter or gauge.
    fn increment(&mut self, metric: MetricId, by: i64) -> Result<(), HostError>;
    /// Records a value in a histogram or sets a gauge.
    fn record(&mut self, metric: MetricId, value: u64) -> Result<(), HostError>;
}
