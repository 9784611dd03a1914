//! `tollgate up` on a terminal: a pseudo-terminal with a shell in it, as a terminal's window has.
//!
//! The shell is there because of what ends with the first process of a terminal: the system then gives the terminal back by
//! itself, and whether `up` did could not be seen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::local::{Options, STOP, nothing_left, pid, processes, spawn_for_life, up};
use crate::manifests::Manifests;
use crate::room::Place;

/// Runs a command and says how it ended; then there is still a shell, until Enter is pressed. A Ctrl-C is for the command.
const SHELL: &str = "trap : INT; \"$@\"; echo \"[exit code $?]\"; read -r _";

const LOOK: Duration = Duration::from_millis(20);

/// A terminal in which `tollgate up` was typed. Dropping it stops it.
pub struct Terminal {
    shell: Child,
    /// What the person before the screen has.
    person: File,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Its modes before anything ran.
    before: Termios,
    /// Kept for as long as it runs.
    _manifests: Manifests,
    _place: Place,
}

impl Terminal {
    /// Types `tollgate up` in a terminal of this size.
    pub fn up(manifests: Manifests, options: &Options, rows: u16, columns: u16) -> Result<Self> {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&person)?;
        unlockpt(&person)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal: OwnedFd = open(ptsname(&person, Vec::new())?, flags, Mode::empty())?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&person, size)?;
        let before = tcgetattr(&person)?;

        let place = Place::take(manifests.form(), options.replicas);
        let up = up(&manifests, options)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", SHELL, "sh"]).arg(up.get_program());
        shell.args(up.get_args()).env("TERM", "xterm-256color");
        if let Some(folder) = up.get_current_dir() {
            shell.current_dir(folder);
        }
        shell
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(terminal);
        // SAFETY: both are single system calls, and touch no memory of this process.
        unsafe {
            shell.pre_exec(|| {
                setsid()?;
                // Its standard input.
                ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let shell = spawn_for_life(shell)?;

        let person = File::from(person);
        let number = |length| std::num::NonZero::new(length).context("a terminal without room");
        let parser = vt100::Parser::new(number(rows)?, number(columns)?, 0);
        let screen = Arc::new(Mutex::new(parser));
        let (mut output, shown) = (person.try_clone()?, Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error once nobody has the terminal open any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                lock(&shown).process(&bytes[..count]);
            }
        });
        Ok(Self {
            shell,
            person,
            screen,
            before,
            _manifests: manifests,
            _place: place,
        })
    }

    /// What is on the screen.
    pub fn contents(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Waits until the screen shows what is looked for.
    pub fn until<T>(
        &self,
        what: &str,
        within: Duration,
        look: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            let contents = self.contents();
            if let Some(found) = look(&contents) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!("the screen does not show {what} within {within:?}:\n{contents}");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.person.write_all(keys.as_bytes())?)
    }

    /// Whether the terminal hands over keys one by one and does not show them.
    pub fn hears_keys(&self) -> Result<bool> {
        let now = tcgetattr(&self.person)?;
        Ok(!now
            .local_modes
            .intersects(LocalModes::ICANON | LocalModes::ECHO))
    }

    /// Waits until `up` has ended with this exit code; the terminal must be as it was, and nothing left running.
    pub fn ended(mut self, code: i32) -> Result<()> {
        let logs = self.logs()?;
        let line = format!("[exit code {code}]");
        self.until(&line, STOP, |screen| {
            screen.contains("[exit code").then_some(())
        })?;
        let contents = self.contents();
        ensure!(contents.trim_end().ends_with(&line), "{contents}");
        nothing_left(|| processes(std::slice::from_ref(&logs)))?;

        let now = tcgetattr(&self.person)?;
        let modes = |t: &Termios| {
            (
                t.input_modes,
                t.output_modes,
                t.control_modes,
                t.local_modes,
            )
        };
        ensure!(
            modes(&now) == modes(&self.before),
            "the terminal was {:?} and is {now:?}",
            self.before
        );
        {
            let parser = lock(&self.screen);
            let screen = parser.screen();
            ensure!(
                !screen.hide_cursor() && !screen.alternate_screen() && !screen.bracketed_paste(),
                "the cursor is hidden, the screen an alternate one, or pastes are marked"
            );
            ensure!(
                screen.fgcolor() == vt100::Color::Default && !screen.bold() && !screen.dim(),
                "what is written next has a style: {contents}"
            );
        }
        self.press("\n")?;
        self.shell.wait()?;
        Ok(())
    }

    /// The folder of the run's logs, from `logs      FOLDER/<pod>/`.
    fn logs(&self) -> Result<PathBuf> {
        let contents = self.contents();
        let mut lines = contents.lines();
        let folder =
            lines.find_map(|line| line.strip_prefix("logs ")?.trim().strip_suffix("/<pod>/"));
        let folder = folder.with_context(|| format!("no logs are named:\n{contents}"))?;
        Ok(folder.into())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only a failed test comes here with a running shell. The end of a terminal's first process is a SIGHUP for the others.
        if let (Ok(None), Ok(shell)) = (self.shell.try_wait(), pid(&self.shell)) {
            let _ = kill_process(shell, Signal::KILL);
            let _ = self.shell.wait();
        }
    }
}

fn lock(screen: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}
