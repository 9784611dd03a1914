//! The `tollgate` command as a library, so that tests can use its parts.
//!
//! [`args`] is the command line, [`up`] runs a mesh, [`mod@check`] reads its manifests, [`mod@token`] signs for its users, [`mod@hash_ids`] keeps them out of manifests, [`mod@explain`] says what they are, [`mod@simulate`] what limits would have done,
//! [`mod@metrics`] what was counted, [`mod@bench`] measures what its filters cost,
//! [`build`] makes what a mesh runs, [`envoy`] finds the proxy,
//! [`workspace`] knows where the sources are, and [`error`] how failures are told.

pub mod args;
pub mod bench;
pub mod build;
mod check;
mod console;
pub mod envoy;
pub mod error;
mod explain;
mod hash_ids;
mod issuer;
mod metrics;
mod simulate;
#[cfg(test)]
mod testing;
mod token;
pub mod up;
pub mod workspace;

use std::process::ExitCode;

use anyhow::Context;

use args::{Cli, Command};

/// The labels that the pods of each workload (by namespace and name) must list for the metrics of their plugins.
pub use check::needed_stat_tags;

/// Does what the command line says.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Build(args) => build::run(args),
        Command::Check(args) => check::run(args),
        Command::Token(args) => token::run(args),
        Command::HashIds(args) => hash_ids::run(args),
        Command::Explain(args) => explain::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Envoy(args) => envoy::run(args),
        Command::Bench(args) => {
            let runtime =
                tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?;
            runtime.block_on(bench::run(args))
        }
        Command::Metrics(args) => {
            let runtime =
                tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?;
            runtime.block_on(metrics::run(args))
        }
        Command::Up(args) => {
            let runtime =
                tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?;
            runtime.block_on(up::run(args))
        }
        Command::Guard => up::guard(),
        Command::Guarded { command } => up::guarded(&command),
    }
}
