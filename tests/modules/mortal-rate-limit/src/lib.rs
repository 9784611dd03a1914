//! `tenant-rate-limit` in a VM that a request can kill: one with the header `x-die` traps. What ships has no such thing, so the end-to-end tests run the same filter in
//! this module to see what becomes of what it has in flight.

use tenant_rate_limit::TenantRateLimit;
use tenant_rate_limit::filter::TenantStream;
use tollgate_host::{Action, Chunk, Host, HostError, Plugin, Request, Stream, Trailers};

struct Mortal(TenantRateLimit);

impl Plugin for Mortal {
    type Stream = MortalStream;

    fn configure(
        configuration: &[u8],
        plugin_name: &str,
        host: &mut dyn Host,
    ) -> Result<Self, String> {
        TenantRateLimit::configure(configuration, plugin_name, host).map(Self)
    }

    fn stream(&self) -> MortalStream {
        MortalStream(self.0.stream())
    }

    fn on_tick(&self, host: &mut dyn Host) {
        self.0.on_tick(host);
    }
}

struct MortalStream(TenantStream);

impl Stream for MortalStream {
    fn on_request_headers(&mut self, request: &mut Request, host: &mut dyn Host) -> Action {
        if request.headers().first("x-die").is_some() {
            std::process::abort();
        }
        self.0.on_request_headers(request, host)
    }

    fn on_unreadable_request(&mut self, error: HostError, host: &mut dyn Host) -> Action {
        self.0.on_unreadable_request(error, host)
    }

    fn on_request_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        self.0.on_request_body(chunk, host);
    }

    fn on_request_trailers(&mut self, trailers: &mut Trailers, host: &mut dyn Host) -> Action {
        self.0.on_request_trailers(trailers, host)
    }

    fn on_unreadable_trailers(&mut self, error: HostError, host: &mut dyn Host) -> Action {
        self.0.on_unreadable_trailers(error, host)
    }

    fn on_response_headers(&mut self, host: &mut dyn Host) {
        self.0.on_response_headers(host);
    }

    fn on_response_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        self.0.on_response_body(chunk, host);
    }

    fn on_response_trailers(&mut self, host: &mut dyn Host) {
        self.0.on_response_trailers(host);
    }

    fn on_log(&mut self, host: &mut dyn Host) {
        self.0.on_log(host);
    }

    fn on_delete(&mut self, host: &mut dyn Host) {
        self.0.on_delete(host);
    }
}

tollgate_host::plugin!(Mortal);
