//! The `tollgate` command. Everything it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = tollgate::args::parse();
    tollgate::run(cli).unwrap_or_else(|error| tollgate::error::report(&error))
}
