//! How far a long replay has come, for whoever watches a terminal.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(200);

/// The last line of a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    watched: bool,
    told: Cell<Instant>,
    shown: Cell<bool>,
}

impl Progress {
    /// On standard error, if that is a terminal.
    pub(crate) fn new() -> Self {
        Self {
            watched: io::stderr().is_terminal(),
            told: Cell::new(Instant::now()),
            shown: Cell::new(false),
        }
    }

    /// Says how many requests have been read or replayed.
    pub(crate) fn tell(&self, what: &str, count: usize) {
        if self.watched && self.told.get().elapsed() >= EVERY {
            // A terminal that has gone is no reason to stop.
            let _ = write!(io::stderr(), "\r\x1b[K{count} requests {what}");
            self.told.set(Instant::now());
            self.shown.set(true);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.get() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
