//! How far a long replay has come, for whoever watches a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(200);

/// The last line of a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    watched: bool,
    /// By all configurations together.
    replayed: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    told: Instant,
    shown: bool,
}

impl Progress {
    /// On standard error, if that is a terminal.
    pub(crate) fn new() -> Self {
        Self {
            watched: io::stderr().is_terminal(),
            replayed: AtomicUsize::new(0),
            line: Mutex::new(Line {
                told: Instant::now(),
                shown: false,
            }),
        }
    }

    /// Says how many requests have been read.
    pub(crate) fn read(&self, count: usize) {
        if self.watched {
            self.tell(format_args!("{count} requests read"));
        }
    }

    /// So many more requests have been replayed, of so many by all configurations together.
    pub(crate) fn replayed(&self, more: usize, all: usize) {
        if self.watched {
            let replayed = self.replayed.fetch_add(more, Ordering::Relaxed) + more;
            let percent = replayed * 100 / all.max(1);
            self.tell(format_args!("{percent} % replayed"));
        }
    }

    fn tell(&self, what: impl Display) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.told.elapsed() >= EVERY {
            // A terminal that has gone is no reason to stop.
            let _ = write!(io::stderr(), "\r\x1b[K{what}");
            line.told = Instant::now();
            line.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let line = self.line.get_mut().unwrap_or_else(PoisonError::into_inner);
        if line.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
