//! Which callbacks a module has.

/// A callback that some modules of a filter have and others do without, because each one is a call into the VM. What a module was built with,
/// [`Host::has_callback`](crate::Host::has_callback) tells its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callback {
    /// For [`Stream::on_request_body`](crate::Stream::on_request_body).
    RequestBody,
    /// For [`Stream::on_response_headers`](crate::Stream::on_response_headers).
    ResponseHeaders,
    /// For [`Stream::on_response_body`](crate::Stream::on_response_body).
    ResponseBody,
    /// For [`Stream::on_response_trailers`](crate::Stream::on_response_trailers).
    ResponseTrailers,
    /// For [`Stream::on_log`](crate::Stream::on_log).
    Log,
}

impl Callback {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::RequestBody,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::ResponseTrailers,
        Self::Log,
    ];

    /// The function that Envoy calls.
    pub fn function(self) -> &'static str {
        match self {
            Self::RequestBody => "proxy_on_request_body",
            Self::ResponseHeaders => "proxy_on_response_headers",
            Self::ResponseBody => "proxy_on_response_body",
            Self::ResponseTrailers => "proxy_on_response_trailers",
            Self::Log => "proxy_on_log",
        }
    }

    /// Its bit in what the function [`CALLBACKS`] returns.
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A function that a module exports for the build, not for Envoy. As compiled it returns all bits, because the SDK exports all callbacks. Whoever
/// removes callbacks has it return the bits of those that are left.
pub const CALLBACKS: &str = "tollgate_callbacks";
