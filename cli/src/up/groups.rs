//! Process groups: every process we start leads one, so that it is ended together with what it started itself.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// The id of a process group, which is the process id of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group(Pid);

impl Group {
    /// The group that this process leads; none for what cannot be a process.
    pub(crate) fn led_by(pid: u32) -> Option<Self> {
        // 1 is init, and a signal to "group 1" would be one to everybody.
        i32::try_from(pid)
            .ok()
            .filter(|pid| *pid > 1)
            .and_then(Pid::from_raw)
            .map(Self)
    }

    /// Sends a signal to all its members. That it has none any more is not an error.
    pub(crate) fn signal(self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }

    /// Whether any of its members lives.
    pub(crate) fn lives(self) -> bool {
        // To the system the dead whom nobody has waited for are members, and in many containers nobody ever waits for
        // those who lost their parent.
        test_kill_process_group(self.0) != Err(Errno::SRCH)
            && self.has_living_members().unwrap_or(true)
    }

    /// None where `/proc` does not tell.
    fn has_living_members(self) -> Option<bool> {
        let group = self.to_string();
        let mut any = false;
        for entry in std::fs::read_dir("/proc").ok()?.flatten() {
            // Gone meanwhile, or no process at all.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            // pid (name) state parent group …, where the name may contain anything.
            let Some((_, rest)) = stat.rsplit_once(')') else {
                continue;
            };
            let mut fields = rest.split_whitespace();
            let (state, of_group) = (fields.next()?, fields.nth(1)?);
            any = true;
            if of_group == group && !matches!(state, "Z" | "X") {
                return Some(true);
            }
        }
        any.then_some(false)
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Ends these groups: asks them to, and after `grace` makes them. Blocks until they are gone or cannot be.
pub(crate) fn end(groups: &HashSet<Group>, grace: Duration) {
    for group in groups {
        group.signal(Signal::TERM);
    }
    let deadline = Instant::now() + grace;
    while groups.iter().any(|group| group.lives()) {
        if Instant::now() >= deadline {
            for group in groups {
                group.signal(Signal::KILL);
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
