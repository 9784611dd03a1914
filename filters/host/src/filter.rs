//! What a filter is to its host: a [`Plugin`] made from its configuration, and a [`Stream`] per request.

use crate::body::Chunk;
use crate::headers::{Request, Trailers};
use crate::host::{Host, HostError, LocalResponse};

/// What the proxy does with a request after a filter has seen its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// On to the next filter.
    Continue,
    /// The filter has answered with [`Host::respond`]: nothing behind it runs.
    Stop,
}

/// A filter with one configuration. Every update of the configuration makes a new plugin in the same VM, so what must
/// outlive an update belongs in the host's shared data.
pub trait Plugin: Sized {
    /// The state of one request.
    type Stream: Stream;

    /// Reads the configuration (JSON, UTF-8; empty if none was given). An `Err` is logged by the shell and refused: the
    /// proxy keeps the configuration it has. `plugin_name` tells apart the plugins of a VM, which share their keys of shared data.
    fn configure(
        configuration: &[u8],
        plugin_name: &str,
        host: &mut dyn Host,
    ) -> Result<Self, String>;

    /// The state for a new request.
    fn stream(&self) -> Self::Stream;

    /// So much time has passed as [`Host::set_tick_period`] was given. Runs in each VM by itself, also in that of the main thread, which gets no requests; of a
    /// plugin with a former configuration as long as there are requests that it has begun.
    fn on_tick(&self, host: &mut dyn Host) {
        let _ = host;
    }
}

/// One request on its way through a filter. A module exports, and so pays for, only the callbacks that its
/// `Cargo.toml` lists (`package.metadata.tollgate.callbacks`).
pub trait Stream {
    /// The request's headers are here and may still be changed.
    fn on_request_headers(&mut self, request: &mut Request, host: &mut dyn Host) -> Action {
        let _ = (request, host);
        Action::Continue
    }

    /// The proxy would not show the request's headers, so the filter can neither judge the request nor strip what the client
    /// forged. Answers 500 unless a filter knows better: a request must not get past a filter by being unreadable.
    /// Envoy shows headers always, unless it forbids the module to read them.
    fn on_unreadable_request(&mut self, error: HostError, host: &mut dyn Host) -> Action {
        log::error!("the proxy does not show a request's headers: {error:?}");
        give_up(host)
    }

    /// A piece of the request's body passes. It is not held back: the service may have it before the next one is here, so what it says comes too late to decide
    /// anything about the request. Runs once for each piece, which costs a call into the VM each time.
    fn on_request_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        let _ = (chunk, host);
    }

    /// The request's trailers are here and may still be changed. Runs only for requests that have some, and after the request's headers have been passed on:
    /// what a client says there is too late to decide anything here, but a service may still read it as it reads headers.
    fn on_request_trailers(&mut self, trailers: &mut Trailers, host: &mut dyn Host) -> Action {
        let _ = (trailers, host);
        Action::Continue
    }

    /// The proxy would not show the request's trailers. Answers 500, as [`Stream::on_unreadable_request`] does and for its reason.
    fn on_unreadable_trailers(&mut self, error: HostError, host: &mut dyn Host) -> Action {
        log::error!("the proxy does not show a request's trailers: {error:?}");
        give_up(host)
    }

    /// The response's headers are here and may still be changed. Also runs for answers that later filters give, and
    /// not for the answer of this filter itself.
    fn on_response_headers(&mut self, host: &mut dyn Host) {
        let _ = host;
    }

    /// A piece of the response's body passes, and is not held back. Runs once for each piece, also of answers that later filters give, and not for the answer of this filter
    /// itself. A response that has no body has one piece, an empty one. One that breaks off has no last piece.
    fn on_response_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        let _ = (chunk, host);
    }

    /// The response's trailers are here ([`Map::ResponseTrailers`](crate::Map::ResponseTrailers)) and may still be changed. Runs only for responses that have some.
    fn on_response_trailers(&mut self, host: &mut dyn Host) {
        let _ = host;
    }

    /// The request is done, whatever its end. Runs even if `on_request_headers` never did, because an
    /// earlier filter or the proxy itself answered.
    fn on_log(&mut self, host: &mut dyn Host) {
        let _ = host;
    }

    /// The request is gone: this is the last that its stream hears, once, whatever the request's end was. Every module has the callback for it, so it costs nothing
    /// more. Headers and attributes are gone too.
    fn on_delete(&mut self, host: &mut dyn Host) {
        let _ = host;
    }
}

/// Answers 500: for a request that a filter can do nothing with and must not let pass.
pub fn give_up(host: &mut dyn Host) -> Action {
    let response = LocalResponse {
        status: 500,
        details: "tollgate_failed",
        headers: &[],
        body: b"",
        grpc_status: Some(13),
    };
    if let Err(error) = host.respond(&response) {
        log::error!("the proxy does not take an answer: {error:?}");
    }
    Action::Stop
}

/// Makes a crate the module of a plugin: `tollgate_host::plugin!(TenantRateLimit);`. Compiled for anything but Wasm, it only
/// checks that the type is a [`Plugin`].
#[macro_export]
macro_rules! plugin {
    ($plugin:ty) => {
        #[cfg(target_os = "wasi")]
        const _: () = {
            $crate::proxy_wasm::main! {{
                $crate::shell::start::<$plugin>();
            }}
        };

        const _: fn() = || {
            fn is_plugin<P: $crate::Plugin>() {}
            is_plugin::<$plugin>();
        };
    };
}
