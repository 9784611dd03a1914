//! What the shop's services share, so that each of them is only its routes and its tables.
//!
//! A service is a constant of type [`Service`]: a name, a port, migrations and a function that makes its routes
//! from an [`App`]. [`run`] makes a process of it: settings from the [`Environment`], an opened database, `/health`,
//! `/ready` and `/metrics`, errors as problem details ([`Problem`]), structured logs and a graceful end.
//!
//! A handler that calls another service takes a [`Context`] and hands it to [`Upstream`], which passes the headers
//! on that belong to the request: trace, request id, tenant and class of user.

mod context;
mod database;
mod environment;
mod extract;
mod id;
mod metrics;
mod problem;
mod server;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod upstream;

use std::process::ExitCode;

pub use context::Context;
pub use database::{Database, DatabaseError, Migration};
pub use environment::{ConfigError, Environment};
pub use extract::{BODY_LIMIT, Json, Path};
pub use id::Id;
pub use problem::Problem;
pub use server::{App, Server, Service, StartError};
pub use sqlx;
pub use upstream::Upstream;

/// Runs a service until SIGTERM or SIGINT: the whole of each service's `main`.
///
/// Ends with 0 after a graceful end, with 2 when the environment's settings are wrong, with 1 for everything else.
pub fn run(service: &Service) -> ExitCode {
    let environment = Environment::of_process();
    match serve(service, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", service.name);
            match error {
                StartError::Config(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn serve(service: &Service, environment: &Environment) -> Result<(), StartError> {
    telemetry::init(environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(async {
        let shutdown = server::termination()?;
        let mut shutdown = Box::pin(shutdown);
        // The order to stop may come while another process still prepares the database.
        let server = tokio::select! {
            server = Server::start(service, environment) => server?,
            () = &mut shutdown => return Ok(()),
        };
        server.run(shutdown).await
    });
    runtime.shutdown_background();
    result
}
