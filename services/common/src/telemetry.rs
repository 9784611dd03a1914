//! Structured logs on standard output: one JSON object a line, with the ids of the trace and the request.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::{ConfigError, Environment};

/// Begins logging as `LOG_FORMAT` (`json` or `text`) and `RUST_LOG` (a level, or levels by module) say.
pub(crate) fn init(environment: &Environment) -> Result<(), ConfigError> {
    let filter = environment.get("RUST_LOG")?.unwrap_or("info");
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|_| ConfigError {
            variable: "RUST_LOG".to_owned(),
            value: filter.to_owned(),
            expected: "a filter for logs",
            instead: "error, warn, info, debug or trace, or such as info,service_common=debug"
                .to_owned(),
        })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match environment.get("LOG_FORMAT")?.unwrap_or("json") {
        "json" => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .init(),
        "text" => builder
            // Colours are for eyes, not for files.
            .with_ansi(io::stdout().is_terminal())
            .init(),
        other => {
            return Err(ConfigError {
                variable: "LOG_FORMAT".to_owned(),
                value: other.to_owned(),
                expected: "a format of logs",
                instead: "json or text".to_owned(),
            });
        }
    }
    Ok(())
}
