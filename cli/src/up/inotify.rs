//! Whether there is enough of what Envoys watch files with. Each file that an Envoy watches takes an inotify instance, of
//! which Linux gives every user so many; an Envoy that gets none aborts.

use anyhow::anyhow;

use crate::error::Hint;

/// How many a user may have, in Linux.
const LIMIT: &str = "fs.inotify.max_user_instances";

/// Too few are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) needed: usize,
    pub(crate) available: usize,
    /// The limit, if the system tells it.
    pub(crate) limit: Option<usize>,
}

impl Shortage {
    /// What is the matter.
    pub(crate) fn message(&self) -> String {
        let limit = self.limit.map_or_else(String::new, |limit| {
            format!(", because {LIMIT} is {limit} and the rest is in use")
        });
        format!(
            "the Envoys need {} inotify instances to watch their files, and this user can have {} more{limit}",
            self.needed, self.available
        )
    }

    /// What to do about it.
    pub(crate) fn advice(&self) -> String {
        let missing = self.needed - self.available;
        // In use beside ours there is room for what else the user runs.
        let enough = (self.limit.unwrap_or(0) + missing).next_multiple_of(128);
        format!("sudo sysctl {LIMIT}={enough}")
    }
}

/// Whether so many can be had. Where there is no inotify, there is no such limit.
pub(crate) fn check(needed: usize) -> Result<(), Shortage> {
    let available = available(needed);
    if available >= needed {
        return Ok(());
    }
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances");
    Err(Shortage {
        needed,
        available,
        limit: limit.ok().and_then(|limit| limit.trim().parse().ok()),
    })
}

/// Whether so many can be had, as an error of a command that needs them.
pub(crate) fn require(needed: usize) -> anyhow::Result<()> {
    check(needed).map_err(|shortage| {
        anyhow!("{}", shortage.message()).hint(format!("raise it: {}", shortage.advice()))
    })
}

/// How many can be had, up to a number. They are had for a moment: who counts them in /proc counts those of other users'
/// processes with the same id elsewhere, and those that are shared, wrongly.
#[cfg(target_os = "linux")]
fn available(most: usize) -> usize {
    use rustix::fs::inotify::{CreateFlags, init};
    let mut instances = Vec::new();
    while instances.len() < most {
        match init(CreateFlags::CLOEXEC) {
            Ok(instance) => instances.push(instance),
            // Of files this process may open fewer than an Envoy may have instances: that says nothing.
            Err(rustix::io::Errno::MFILE) if std::fs::File::open("/dev/null").is_err() => {
                return most;
            }
            Err(_) => break,
        }
    }
    instances.len()
}

#[cfg(not(target_os = "linux"))]
fn available(most: usize) -> usize {
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_can_be_had() {
        assert_eq!(check(3), Ok(()));
    }

    #[test]
    fn a_shortage_says_how_many_are_missing_and_how_to_get_them() {
        let shortage = Shortage {
            needed: 46,
            available: 40,
            limit: Some(128),
        };
        assert_eq!(
            shortage.message(),
            "the Envoys need 46 inotify instances to watch their files, and this user can have 40 more, because \
             fs.inotify.max_user_instances is 128 and the rest is in use"
        );
        assert_eq!(
            shortage.advice(),
            "sudo sysctl fs.inotify.max_user_instances=256"
        );
    }
}
