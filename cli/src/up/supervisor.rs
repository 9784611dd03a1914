//! Starts the mesh's processes, sees them end, and ends them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};

use super::groups::Group;
use super::guard::{self, Guard, Itself};

/// How long processes may take to end by themselves.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A log's end may be one very long line.
const TAIL_BYTES: u64 = 16 * 1024;

/// A process to start.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// The pod it belongs to.
    pub(crate) pod: String,
    /// Which of the pod's processes it is.
    pub(crate) process: String,
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<String, OsString>,
    pub(crate) directory: PathBuf,
    /// Where its standard output and error go, after what is there already.
    pub(crate) log: PathBuf,
    /// Where its standard output goes instead.
    pub(crate) output: Option<PathBuf>,
}

/// A process that ended without being asked to.
#[derive(Clone, Debug)]
pub(crate) struct Exit {
    pub(crate) pod: String,
    pub(crate) process: String,
    pub(crate) status: ExitStatus,
    pub(crate) log: PathBuf,
}

impl Exit {
    /// `with code 1`, `by signal 9`.
    pub(crate) fn how(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("with code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "for an unknown reason".to_owned(),
        }
    }
}

/// What is running.
#[derive(Debug)]
struct Running {
    groups: HashSet<Group>,
    guard: Guard,
    /// Nothing is started any more, and what ends was asked to.
    stopping: bool,
}

/// Keeps the processes of a mesh.
#[derive(Debug)]
pub(crate) struct Supervisor {
    itself: Itself,
    running: Arc<Mutex<Running>>,
    /// How many run; for those who wait until none does.
    count: watch::Sender<usize>,
    exits: mpsc::UnboundedSender<Exit>,
}

/// How long the rest of a group is looked at for having gone: its end, unlike its leader's, is told to nobody.
const LOOK: Duration = Duration::from_millis(20);

impl Supervisor {
    /// Starts the guard. What ends unasked comes out of the receiver.
    pub(crate) fn new(itself: Itself) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<Exit>)> {
        let guard = Guard::start(&itself)?;
        let running = Arc::new(Mutex::new(Running {
            groups: HashSet::new(),
            guard,
            stopping: false,
        }));
        let (exits, receiver) = mpsc::unbounded_channel();
        Ok((
            Self {
                itself,
                running,
                count: watch::Sender::new(0),
                exits,
            },
            receiver,
        ))
    }

    /// Starts a process as the leader of its own group, and returns its id. Must be called within the runtime.
    pub(crate) async fn start(&self, start: Start) -> anyhow::Result<u32> {
        let what = format!("cannot start {} of {}", start.process, start.pod);
        self.spawn(start).await.context(what)
    }

    async fn spawn(&self, start: Start) -> anyhow::Result<u32> {
        let Start {
            pod,
            process,
            program,
            args,
            environment,
            directory,
            log,
            output,
        } = start;
        let open = |path: &Path| {
            let mut options = File::options();
            let file = options.create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        let errors = open(&log)?;
        let output = match &output {
            Some(output) => open(output)?,
            None => errors.try_clone()?,
        };
        let mut command = self.itself.guarded(&program, &args);
        command
            .env_clear()
            .envs(&environment)
            .current_dir(&directory);
        command
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors));
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("it has no input")?;
        let id = child.id().context("it has no process id")?;
        let group = Group::led_by(id).context("it has no process id")?;
        {
            let mut running = lock(&self.running);
            // Leaving here drops its input, which ends it: it was not let go yet.
            anyhow::ensure!(!running.stopping, "the mesh is stopping");
            running.guard.watch(group)?;
            running.groups.insert(group);
            self.count.send_modify(|count| *count += 1);
        }
        let (running, count, exits) = (
            Arc::clone(&self.running),
            self.count.clone(),
            self.exits.clone(),
        );
        tokio::spawn(async move {
            let status = child.wait().await;
            let asked = lock(&running).stopping;
            if let (Ok(status), false) = (status, asked) {
                let _ = exits.send(Exit {
                    pod,
                    process,
                    status,
                    log,
                });
            }
            // What it started and did not end has nobody to serve any more.
            wind_up(group).await;
            let mut running = lock(&running);
            running.groups.remove(&group);
            running.guard.forget(group);
            drop(running);
            count.send_modify(|count| *count -= 1);
        });
        guard::release(stdin)
            .await
            .context("it ended before it began")?;
        Ok(id)
    }

    /// Ends everything: asks, waits for [`GRACE`] or until `hurry` comes, then kills. Nothing can be started afterwards.
    pub(crate) async fn stop(&self, hurry: impl Future<Output = ()>) {
        lock(&self.running).stopping = true;
        self.signal_all(Signal::TERM);
        let mut count = self.count.subscribe();
        let patience = async {
            tokio::select! {
                () = hurry => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        };
        let ended = tokio::select! {
            result = count.wait_for(|count| *count == 0) => result.is_ok(),
            () = patience => false,
        };
        if !ended {
            self.signal_all(Signal::KILL);
            let _ = count.wait_for(|count| *count == 0).await;
        }
    }

    fn signal_all(&self, signal: Signal) {
        for group in &lock(&self.running).groups {
            group.signal(signal);
        }
    }
}

/// Ends what is left of a group whose leader has gone.
async fn wind_up(group: Group) {
    group.signal(Signal::TERM);
    let gone = async {
        while group.lives() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(GRACE, gone).await.is_err() {
        group.signal(Signal::KILL);
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last lines of a log; none when it cannot be read, for it only ever accompanies something worse.
pub(crate) fn last_lines(log: &Path, lines: usize) -> Vec<String> {
    let tail = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = tail().unwrap_or_default();
    let mut last = VecDeque::with_capacity(lines);
    for line in String::from_utf8_lossy(&text)
        .lines()
        .filter(|line| !line.trim().is_empty() && !is_backtrace(line))
    {
        if last.len() == lines {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
    last.into()
}

/// Envoy ends its log with addresses, behind the line that says why it gave up.
fn is_backtrace(line: &str) -> bool {
    line.contains("][backtrace] [")
        || line.contains("][envoy_bug] [./source/common/common/assert.h:")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command};
    use std::time::Instant;

    use rustix::process::{Pid, kill_process, test_kill_process};
    use tempfile::TempDir;

    use super::*;

    /// Says which part of the tool the test program plays; see [`as_the_tool`].
    const ROLE: &str = "TOLLGATE_TEST_ROLE";

    /// Generous, and never waited for unless something is broken.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// A shell with a child of its own. It prints both process ids.
    const TREE: &str = "sleep 1000 & echo $$ $!; wait";

    /// The same, deaf to polite requests, as is its child.
    const DEAF_TREE: &str = "trap '' TERM; sleep 1000 & echo $$ $!; while :; do wait; done";

    /// This test program in the place of the tool: it runs [`as_the_tool`], and nothing else.
    fn itself() -> Itself {
        let exe = std::env::current_exe().unwrap();
        let mut prefix: Vec<OsString> = vec![format!("{ROLE}=tool").into(), exe.into()];
        prefix.extend(
            [
                "--exact",
                "up::supervisor::tests::as_the_tool",
                "--nocapture",
            ]
            .map(OsString::from),
        );
        Itself::test(PathBuf::from("/usr/bin/env"), prefix)
    }

    /// What the other tests start in the place of the tool. By itself it does nothing.
    #[test]
    fn as_the_tool() {
        let Ok(role) = std::env::var(ROLE) else {
            return;
        };
        let args: Vec<OsString> = std::env::args_os().collect();
        if role == "tool" {
            match args.iter().position(|arg| arg == "guarded") {
                Some(position) => guard::guarded(&args[position + 2..]).map(drop),
                None => guard::guard().map(drop),
            }
            .unwrap();
        } else {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(as_the_parent(Path::new(&role)));
        }
    }

    /// Starts a tree, says which processes it made, and would serve for ever.
    async fn as_the_parent(folder: &Path) {
        let (supervisor, _exits) = Supervisor::new(itself()).unwrap();
        supervisor.start(shell(folder, TREE)).await.unwrap();
        let tree = tree(folder).await;
        // One that was spawned and never let go, as when we die in between.
        let waiting = itself().guarded("sleep".as_ref(), &["1000".into()]);
        let waiting = tokio::process::Command::from(waiting)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let guard = lock(&supervisor.running).guard.id();
        println!(
            "\nPIDS {} {} {} {guard}",
            tree[0],
            tree[1],
            waiting.id().unwrap()
        );
        std::future::pending::<()>().await;
    }

    fn shell(folder: &Path, script: &str) -> Start {
        Start {
            pod: "cart-service-0".to_owned(),
            process: "service".to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
            directory: folder.to_owned(),
            log: folder.join("service.log"),
            output: None,
        }
    }

    fn pids(line: &str) -> Option<Vec<i32>> {
        let pids: Vec<i32> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        (!pids.is_empty()).then_some(pids)
    }

    /// The process ids that a tree has written into its log.
    async fn tree(folder: &Path) -> Vec<i32> {
        let begin = Instant::now();
        loop {
            if let Some(pids) = last_lines(&folder.join("service.log"), 1)
                .first()
                .and_then(|line| pids(line))
            {
                return pids;
            }
            assert!(
                begin.elapsed() < DEADLINE,
                "the tree did not start: {:?}",
                last_lines(&folder.join("service.log"), 9)
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    fn lives(pid: i32) -> bool {
        // The dead that nobody has waited for are dead.
        let dead = |stat: String| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
        };
        test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
            && !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(dead)
    }

    fn assert_gone(pids: &[i32]) {
        let begin = Instant::now();
        while pids.iter().any(|pid| lives(*pid)) {
            assert!(
                begin.elapsed() < DEADLINE,
                "still there: {:?}",
                pids.iter().filter(|pid| lives(**pid)).collect::<Vec<_>>()
            );
            std::thread::sleep(LOOK);
        }
    }

    /// A parent in a process of its own, with its tree, a process that was never let go, and its guard.
    fn parent() -> (Child, Vec<i32>, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut parent = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "up::supervisor::tests::as_the_tool",
                "--nocapture",
            ])
            .env(ROLE, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let mut told = lines
            .map_while(Result::ok)
            .filter_map(|line| pids(line.strip_prefix("PIDS ")?));
        let pids = told.next().unwrap();
        assert!(pids.iter().all(|pid| lives(*pid)));
        (parent, pids, folder)
    }

    #[tokio::test]
    async fn stopping_ends_whole_trees() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, mut exits) = Supervisor::new(itself()).unwrap();
        supervisor.start(shell(folder.path(), TREE)).await.unwrap();
        let pids = tree(folder.path()).await;
        assert!(pids.iter().all(|pid| lives(*pid)));
        supervisor.stop(std::future::pending()).await;
        assert_gone(&pids);
        assert!(
            exits.try_recv().is_err(),
            "what was asked to end is not news"
        );
        let error = supervisor
            .start(shell(folder.path(), TREE))
            .await
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot start service of cart-service-0: the mesh is stopping"
        );
    }

    #[tokio::test]
    async fn output_that_has_a_file_of_its_own_is_not_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, mut exits) = Supervisor::new(itself()).unwrap();
        let access = folder.path().join("access.log");
        let start = Start {
            output: Some(access.clone()),
            ..shell(
                folder.path(),
                "echo served; echo why >&2; echo served; exit 1",
            )
        };
        supervisor.start(start).await.unwrap();
        let exit = exits.recv().await.unwrap();
        assert_eq!(last_lines(&exit.log, 9), ["why"]);
        assert_eq!(last_lines(&access, 2), ["served", "served"]);
    }

    #[tokio::test]
    async fn what_does_not_listen_is_killed_when_there_is_a_hurry() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, _exits) = Supervisor::new(itself()).unwrap();
        supervisor
            .start(shell(folder.path(), DEAF_TREE))
            .await
            .unwrap();
        let pids = tree(folder.path()).await;
        supervisor.stop(std::future::ready(())).await;
        assert_gone(&pids);
    }

    #[tokio::test]
    async fn an_end_that_nobody_asked_for_is_told_and_takes_the_rest_of_the_group_along() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, mut exits) = Supervisor::new(itself()).unwrap();
        let script = "sleep 1000 & echo the last words; echo $$ $!; exit 3";
        supervisor
            .start(shell(folder.path(), script))
            .await
            .unwrap();
        let exit = tokio::time::timeout(DEADLINE, exits.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (exit.pod.as_str(), exit.process.as_str(), exit.status.code()),
            ("cart-service-0", "service", Some(3))
        );
        assert_eq!(exit.how(), "with code 3");
        let last = last_lines(&exit.log, 2);
        assert_eq!(last[0], "the last words");
        assert_gone(&pids(&last[1]).unwrap());
    }

    #[test]
    fn nothing_is_left_when_the_parent_is_killed_hard() {
        let (mut parent, pids, _folder) = parent();
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert_gone(&pids);
    }

    #[test]
    fn the_guard_outlives_the_signals_that_are_meant_for_its_parent() {
        let (mut parent, pids, _folder) = parent();
        let (guard, guarded) = pids.split_last().unwrap();
        for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
            kill_process(Pid::from_raw(*guard).unwrap(), signal).unwrap();
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert_gone(guarded);
    }

    #[test]
    fn the_last_lines_of_a_log_are_found_in_a_long_one() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        std::fs::write(
            &log,
            format!("{}\n\nlast but one\nlast \u{e9}\n", "x".repeat(100_000)),
        )
        .unwrap();
        assert_eq!(last_lines(&log, 2), ["last but one", "last \u{e9}"]);
        let abort = "[x][526][critical][assert] [source/common/filesystem/inotify/watcher_impl.cc:25] assert failure";
        std::fs::write(
            &log,
            format!(
                "{abort}\n[x][526][error][envoy_bug] [./source/common/common/assert.h:66] #0 UNKNOWN [0x559384a7122c]\n\
                 [x][526][critical][backtrace] [./source/server/backtrace.h:173] Caught Aborted\n"
            ),
        )
        .unwrap();
        assert_eq!(last_lines(&log, 1), [abort]);
        assert_eq!(
            last_lines(&folder.path().join("missing"), 2),
            Vec::<String>::new()
        );
    }
}
