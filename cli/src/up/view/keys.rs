//! The keys that are pressed while lines are drawn: `q` quits.
//!
//! The terminal is told to hand over keys one by one and not to show them, and nothing else: Ctrl-C stays a signal and a
//! line break stays one, so what anybody else prints looks as ever. When this is dropped the terminal is as it was.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::sync::Notify;

/// How long the reading thread takes to see that it is over.
const LOOK: Duration = Duration::from_millis(200);

/// Listens to the keyboard.
#[derive(Debug)]
pub(crate) struct Keys {
    /// As the terminal was.
    before: Option<Termios>,
    over: Arc<AtomicBool>,
}

/// Whether this terminal is ours now: not while in the background (`&`, or Ctrl-Z and `bg`).
pub(crate) fn foreground(terminal: impl std::os::fd::AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}

impl Keys {
    /// Listens if standard input is a terminal; `quit` is notified of a `q`.
    pub(crate) fn listen(quit: Arc<Notify>) -> Self {
        let before = tcgetattr(io::stdin()).ok();
        let before = before.filter(|_| io::stdin().is_terminal() && foreground(io::stdin()));
        let keys = Self {
            before,
            over: Arc::default(),
        };
        if keys.before.is_some() {
            keys.arm();
            let over = Arc::clone(&keys.over);
            // Not a task: a read cannot be interrupted, and the runtime would wait for it.
            std::thread::spawn(move || read(&over, &quit));
        }
        keys
    }

    /// Whether `q` is heard.
    pub(crate) fn listening(&self) -> bool {
        self.before.is_some()
    }

    /// Tells the terminal, also anew after a shell had it (Ctrl-Z and `fg`).
    pub(crate) fn arm(&self) {
        let Some(mut wanted) = self.before.clone().filter(|_| foreground(io::stdin())) else {
            return;
        };
        wanted
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &wanted);
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // From the background this would stop the process.
        if let Some(before) = self.before.take().filter(|_| foreground(io::stdin())) {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
    }
}

fn read(over: &AtomicBool, quit: &Notify) {
    let look = Timespec::try_from(LOOK).ok();
    let stdin = io::stdin();
    while !over.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut ready, look.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        if !foreground(&stdin) {
            // What is typed is for somebody else.
            std::thread::sleep(LOOK);
            continue;
        }
        let mut keys = [0; 16];
        match rustix::io::read(&stdin, &mut keys) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if keys[..count].iter().any(|key| matches!(key, b'q' | b'Q')) {
                    quit.notify_one();
                }
            }
        }
    }
}
