//! The guard: a second process of this tool that ends the mesh when the first one cannot do it any more.
//!
//! `tollgate up` stops what it started on every signal it can catch. `SIGKILL` and the system running out of memory it
//! cannot catch, and children do not die with their parent. So before the first child there is a guard, which holds
//! the reading end of a pipe whose only writing end is ours: when we are gone, however that came, it reads the end of
//! the file and ends every process group that it was told of.
//!
//! A child must be known to the guard before it can do anything, or we could die in between. So what is spawned is
//! not the program but this tool once more, as `guarded`: it waits for a line on its standard input and only then becomes
//! the program (exec, same process). We write that line after the guard's pipe has taken the child's group. If
//! we die before, it reads the end of the file and leaves. That needs nothing of the operating system beyond pipes;
//! `PR_SET_PDEATHSIG` would, and it binds to the thread that spawned, reaches no grandchildren, and is cleared by some execs.
//!
//! What is left open: a process that leaves its group (`setsid`) escapes, as it escapes a shell.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::groups::{self, Group};

/// How long the guard lets processes end by themselves. Shorter than when we stop them ourselves: nobody is watching.
const GRACE: Duration = Duration::from_secs(3);

/// This tool, to be run again.
#[derive(Clone, Debug)]
pub(crate) struct Itself {
    program: PathBuf,
    /// What comes before `guard` and `guarded`; for tests, whose executable is not the tool.
    prefix: Vec<OsString>,
}

impl Itself {
    /// The executable that is running now.
    pub(crate) fn running() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this tool's own executable")?;
        // It may have been rebuilt while the mesh runs; Linux still has the one that runs.
        let program = if program.exists() {
            program
        } else {
            PathBuf::from("/proc/self/exe")
        };
        Ok(Self {
            program,
            prefix: Vec::new(),
        })
    }

    /// An executable that hands its arguments over to [`guard`] and [`guarded`].
    #[cfg(test)]
    pub(crate) fn test(program: PathBuf, prefix: Vec<OsString>) -> Self {
        Self { program, prefix }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.prefix).arg(name);
        command
    }

    /// A command that becomes `program` once it is let go. Its standard input is the pipe to say so on.
    pub(crate) fn guarded(&self, program: &std::ffi::OsStr, args: &[OsString]) -> Command {
        let mut command = self.command("guarded");
        command
            .arg("--")
            .arg(program)
            .args(args)
            .process_group(0)
            .stdin(Stdio::piped());
        command
    }
}

/// Lets a guarded process become its program.
pub(crate) async fn release(mut stdin: tokio::process::ChildStdin) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt;
    stdin.write_all(b"\n").await?;
    stdin.shutdown().await
}

/// Our end of the guard.
#[derive(Debug)]
pub(crate) struct Guard {
    /// None while it is being dropped.
    pipe: Option<ChildStdin>,
    process: Child,
}

impl Guard {
    /// Starts it. Must be done before anything that it is to guard.
    pub(crate) fn start(itself: &Itself) -> anyhow::Result<Self> {
        let mut process = itself
            .command("guard")
            // Ctrl-C goes to the terminal's whole foreground group; the guard must outlive us.
            .process_group(0)
            .stdin(Stdio::piped())
            // Whoever reads our output must see its end when we end.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .context("cannot start the guard process")?;
        let pipe = process.stdin.take();
        Ok(Self { pipe, process })
    }

    /// Its process id.
    #[cfg(test)]
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Has it end this group when we are gone.
    pub(crate) fn watch(&mut self, group: Group) -> anyhow::Result<()> {
        // One small write to a pipe is atomic, and what is in the pipe is read even if we are gone by then.
        self.tell(format!("+{group}\n"))
            .context("the guard process has ended")
    }

    /// The group is gone, and its number may become another's.
    pub(crate) fn forget(&mut self, group: Group) {
        // A guard that has ended forgets everything.
        let _ = self.tell(format!("-{group}\n"));
    }

    fn tell(&mut self, line: String) -> std::io::Result<()> {
        match &mut self.pipe {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Guard {
    /// It ends when its input does, after what it still watches.
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }
}

/// `tollgate guard`: what the guard process does.
pub(crate) fn guard() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    // Caught and never looked at: it ends when its input does, and not before.
    let _ignored = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ]
    .map(signal)
    .into_iter()
    .collect::<Result<Vec<_>, _>>()?;
    let mut watched = HashSet::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let (sign, number) = line.split_at_checked(1).unwrap_or_default();
        let Some(group) = number.parse().ok().and_then(Group::led_by) else {
            continue;
        };
        match sign {
            "+" => _ = watched.insert(group),
            "-" => _ = watched.remove(&group),
            _ => {}
        }
    }
    groups::end(&watched, GRACE);
    Ok(ExitCode::SUCCESS)
}

/// `tollgate guarded -- PROGRAM ARG…`: waits to be let go, then becomes the program.
pub(crate) fn guarded(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let (program, args) = command
        .split_first()
        .context("guarded: the program is missing")?;
    let mut line = String::new();
    let released = std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot wait for the mesh")?;
    if released == 0 {
        return Ok(ExitCode::FAILURE);
    }
    let error = Command::new(program).args(args).stdin(Stdio::null()).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
