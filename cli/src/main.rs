//! The `tollgate` command. Everything it does is in the library beside it.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = tollgate::args::Cli::parse();
    tollgate::run(cli).unwrap_or_else(|error| tollgate::error::report(&error))
}
