//! Lines for the person who watches, on standard error: standard output is for results and events.

use std::fmt::Display;
use std::io::{self, Write};

/// Says what happens. A terminal that has gone is no reason to stop: whoever started things must still end them.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
