//! From the SDK's contexts to [`Plugin`] and [`Stream`]. Made by [`crate::plugin!`].

use std::panic;

use log::{Level, LevelFilter, Log, Metadata, Record};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action as SdkAction, ContextType};

use crate::abi;
use crate::body::Chunk;
use crate::envoy::EnvoyHost;
use crate::filter::{Action, Plugin, Stream};
use crate::headers::{Request, Trailers, lossy};
use crate::host::{Body, Host};

/// The environment variable (a WasmPlugin's `vmConfig.env`) that names the level from which on a module logs: `off`, `error`, `warn`,
/// `info` (the default), `debug`, `trace`. What is below it is not even formatted; Envoy's own level for `wasm` applies after it.
const LOG_LEVEL: &str = "TOLLGATE_LOG";

/// Runs once in each VM, before anything else.
pub fn start<P: Plugin + 'static>()
where
    P::Stream: 'static,
{
    let level = std::env::var(LOG_LEVEL)
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(LevelFilter::Info);
    // Fails only if there is a logger already.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(level);
    }
    panic::set_hook(Box::new(|info| abi::log(CRITICAL, &info.to_string())));
    proxy_wasm::set_root_context(|_| Box::new(Root::<P> { plugin: None }));
}

const CRITICAL: u32 = 5;

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Trace => 0,
            Level::Debug => 1,
            Level::Info => 2,
            Level::Warn => 3,
            Level::Error => 4,
        };
        abi::log(level, &record.args().to_string());
    }

    fn flush(&self) {}
}

struct Root<P> {
    /// `None` until a configuration was accepted.
    plugin: Option<P>,
}

impl<P: Plugin + 'static> Context for Root<P> where P::Stream: 'static {}

impl<P: Plugin + 'static> RootContext for Root<P>
where
    P::Stream: 'static,
{
    fn on_configure(&mut self, _size: usize) -> bool {
        let mut host = EnvoyHost;
        let name = host
            .property(&["plugin_name"])
            .ok()
            .flatten()
            .unwrap_or_default();
        let plugin = abi::plugin_configuration()
            .map_err(|error| format!("the proxy does not show its configuration: {error:?}"))
            .and_then(|configuration| P::configure(&configuration, &lossy(&name), &mut host));
        match plugin {
            Ok(plugin) => {
                self.plugin = Some(plugin);
                true
            }
            Err(error) => {
                log::error!("configuration refused: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(plugin) = &self.plugin {
            plugin.on_tick(&mut EnvoyHost);
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        // A plugin whose configuration was refused gets no requests from Envoy; if it ever did, they would pass untouched.
        Some(Box::new(Flow {
            stream: self.plugin.as_ref().map(Plugin::stream),
            answered: false,
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Flow<S: Stream> {
    stream: Option<S>,
    /// Whether the response is this filter's own.
    answered: bool,
}

/// The SDK has no callback for the end of a context: it drops it then.
impl<S: Stream> Drop for Flow<S> {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.on_delete(&mut EnvoyHost);
        }
    }
}

impl<S: Stream> Flow<S> {
    fn go_on(&mut self, action: Action) -> SdkAction {
        match action {
            Action::Continue => SdkAction::Continue,
            Action::Stop => {
                self.answered = true;
                SdkAction::Pause
            }
        }
    }
}

impl<S: Stream> Context for Flow<S> {}

impl<S: Stream> HttpContext for Flow<S> {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> SdkAction {
        let Some(stream) = &mut self.stream else {
            return SdkAction::Continue;
        };
        let mut host = EnvoyHost;
        let action = match Request::read(&host) {
            Ok(mut request) => stream.on_request_headers(&mut request, &mut host),
            Err(error) => stream.on_unreadable_request(error, &mut host),
        };
        self.go_on(action)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> SdkAction {
        if let (Some(stream), false) = (&mut self.stream, self.answered) {
            let chunk = Chunk::new(Body::Request, size, end_of_stream);
            stream.on_request_body(&chunk, &mut EnvoyHost);
        }
        SdkAction::Continue
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> SdkAction {
        let Some(stream) = &mut self.stream else {
            return SdkAction::Continue;
        };
        let mut host = EnvoyHost;
        let action = match Trailers::read(&host) {
            Ok(mut trailers) => stream.on_request_trailers(&mut trailers, &mut host),
            Err(error) => stream.on_unreadable_trailers(error, &mut host),
        };
        self.go_on(action)
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> SdkAction {
        if let (Some(stream), false) = (&mut self.stream, self.answered) {
            stream.on_response_headers(&mut EnvoyHost);
            // The proxy tells of no body then, so that nobody would know that this was all.
            if end_of_stream {
                stream.on_response_body(&Chunk::new(Body::Response, 0, true), &mut EnvoyHost);
            }
        }
        SdkAction::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> SdkAction {
        if let (Some(stream), false) = (&mut self.stream, self.answered) {
            let chunk = Chunk::new(Body::Response, size, end_of_stream);
            stream.on_response_body(&chunk, &mut EnvoyHost);
        }
        SdkAction::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> SdkAction {
        if let (Some(stream), false) = (&mut self.stream, self.answered) {
            stream.on_response_trailers(&mut EnvoyHost);
        }
        SdkAction::Continue
    }

    fn on_log(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.on_log(&mut EnvoyHost);
        }
    }
}
