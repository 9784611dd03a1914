//! What the mesh does, while it does it: lines that are drawn anew every second on a terminal, one line now and then
//! in a file, nothing among JSON.
//!
//! [`render`] makes [`mod@line`]s of the [`statistics`](super::statistics), the [`screen`] draws them below what else is
//! said, and [`keys`] hear a `q`.

mod keys;
mod line;
mod render;
mod screen;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anstream::{AutoStream, ColorChoice};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::statistics::poll::poll;
use super::statistics::{Counters, Figures, Proxy, Sources};
use crate::args::Format;
use keys::{Keys, foreground};
use render::{About, lines, summary};
pub(crate) use screen::Screen;

/// Over which rates are, on a terminal.
const WINDOW: Duration = Duration::from_secs(5);
/// Between two lines in a file, and over which its rates are.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is to be seen.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) gateway: String,
    /// The Prometheus beside the mesh, if there is one.
    pub(crate) prometheus: Option<String>,
    pub(crate) proxies: Vec<Proxy>,
    /// What the mesh's plugins declare, which may change while it runs.
    pub(crate) counters: watch::Receiver<Counters>,
    /// When the demo ends, if there is one.
    pub(crate) demo: Option<Instant>,
}

/// The view, while it is open.
#[derive(Debug)]
pub(crate) struct View {
    screen: Arc<Screen>,
    quit: Arc<Notify>,
    /// Asks the proxies, and draws. Its end gives the terminal back.
    tasks: JoinSet<()>,
}

impl View {
    /// Opens it, in the way that suits whoever reads.
    pub(crate) fn open(format: Format, screen: Arc<Screen>, subject: Subject) -> Self {
        let mut view = Self {
            screen,
            quit: Arc::default(),
            tasks: JoinSet::new(),
        };
        if format == Format::Json {
            return view;
        }
        let (publish, figures) = watch::channel(Figures::default());
        let sources = Sources {
            proxies: subject.proxies.clone(),
            counters: subject.counters.clone(),
        };
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let window = if io::stdout().is_terminal() && !dumb && foreground(io::stdout()) {
            let keys = Keys::listen(Arc::clone(&view.quit));
            view.tasks
                .spawn(redraw(Arc::clone(&view.screen), keys, subject, figures));
            WINDOW
        } else {
            view.tasks
                .spawn(write_lines(Arc::clone(&view.screen), figures));
            LINE_EVERY
        };
        view.tasks.spawn(poll(sources, window, publish));
        view
    }

    /// Waits until somebody presses `q`.
    pub(crate) async fn quit(&self) {
        self.quit.notified().await;
    }

    /// Leaves the last lines where they are and gives the terminal back.
    pub(crate) async fn close(mut self) {
        self.tasks.shutdown().await;
        self.screen.leave();
    }
}

async fn redraw(
    screen: Arc<Screen>,
    keys: Keys,
    subject: Subject,
    mut figures: watch::Receiver<Figures>,
) {
    let Ok(mut resized) = signal(SignalKind::window_change()) else {
        return;
    };
    let Ok(mut continued) = signal(SignalKind::from_raw(Signal::CONT.as_raw())) else {
        return;
    };
    let colours = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    loop {
        tokio::select! {
            changed = figures.changed() => if changed.is_err() { return },
            _ = resized.recv() => {}
            // A shell wrote below the lines (Ctrl-Z and `fg`).
            _ = continued.recv() => screen.leave(),
        }
        if !foreground(io::stdout()) {
            // Somebody else writes there now, and nobody knows where the lines are afterwards.
            screen.leave();
            continue;
        }
        keys.arm();
        let about = About {
            gateway: &subject.gateway,
            prometheus: subject.prometheus.as_deref(),
            demo: subject
                .demo
                .map(|end| end.saturating_duration_since(Instant::now())),
            window: WINDOW,
            keys: keys.listening(),
        };
        let lines = lines(&figures.borrow(), &about, Screen::size());
        screen.draw(lines, colours);
    }
}

async fn write_lines(screen: Arc<Screen>, figures: watch::Receiver<Figures>) {
    let mut ticks = tokio::time::interval(LINE_EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if let Some(line) = summary(&figures.borrow()) {
            screen.say(&line);
        }
    }
}
