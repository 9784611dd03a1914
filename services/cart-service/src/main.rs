//! The shop's cart service as a process; see the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_common::run(&cart_service::SERVICE)
}
