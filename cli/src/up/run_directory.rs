//! Where one run keeps its files: `<target>/tollgate/runs/<when>-<pid>/`.
//!
//! ```text
//! pods/<pod>/      the Envoy's configuration and the pod's certificate
//! logs/<pod>/      service.log, envoy.log, access.log
//! data/            the services' databases
//! prometheus/      the configuration of Prometheus, and its data, if there is one
//! mesh.json        what the mesh tells other commands, while it runs
//! root.pem         the certificate of the run's own authority
//! ```
//!
//! The folder stays when the run ends, for its logs; the last few are kept.

use std::fs::{File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use time::OffsetDateTime;

/// How many ended runs are kept beside the one that starts.
const KEPT: usize = 10;

/// Locked by a run for as long as it lasts; the lock goes with the process, however that ends.
const LOCK: &str = "lock";

/// The folder of a run.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Makes a folder for this run, and removes those of old runs.
    pub(crate) fn new(target: &Path) -> anyhow::Result<Self> {
        let runs = target.join("tollgate").join("runs");
        std::fs::create_dir_all(&runs)
            .with_context(|| format!("cannot make {}", runs.display()))?;
        let path = runs.join(name(OffsetDateTime::now_utc(), std::process::id()));
        // Certificates' keys are inside.
        make(&path, 0o700)?;
        // Waits for one that starts at the same moment and finds out whether this run has ended.
        let lock = lock_file(&path)
            .and_then(|file| file.lock().map(|()| file))
            .with_context(|| format!("cannot lock {}", path.display()))?;
        remove_old(&runs, &path);
        for folder in ["pods", "logs", "data"] {
            make(&path.join(folder), 0o755)?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the logs of all pods are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Where the services' databases are.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The folder of Prometheus, made.
    pub(crate) fn prometheus(&self) -> anyhow::Result<PathBuf> {
        let path = self.path.join("prometheus");
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// The root certificate.
    pub(crate) fn root_certificate(&self) -> PathBuf {
        self.path.join("root.pem")
    }

    /// A pod's folder for configuration and certificate, made.
    pub(crate) fn pod(&self, pod: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join("pods").join(pod);
        make(&path, 0o755)?;
        Ok(path)
    }

    /// A pod's folder for logs, made.
    pub(crate) fn pod_logs(&self, pod: &str) -> anyhow::Result<PathBuf> {
        let path = self.logs().join(pod);
        make(&path, 0o755)?;
        Ok(path)
    }
}

/// Sorts by time: `20261121T033112Z-4711`.
fn name(now: OffsetDateTime, pid: u32) -> String {
    let (date, time) = (now.date(), now.time());
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z-{pid}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn make(path: &Path, mode: u32) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

fn lock_file(run: &Path) -> std::io::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(run.join(LOCK))
}

/// The folders of the runs that go on, the oldest first.
pub(crate) fn running(target: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(target.join("tollgate").join("runs")) else {
        return Vec::new();
    };
    let runs = entries.flatten().map(|entry| entry.path());
    let mut running: Vec<PathBuf> = runs.filter(|run| is_running(run)).collect();
    running.sort();
    running
}

fn is_running(run: &Path) -> bool {
    File::open(run.join(LOCK))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// None if the run lasts, or nobody can tell.
fn lock_of_ended(run: &Path) -> Option<File> {
    let file = lock_file(run).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

/// Removes the oldest runs that have ended. What cannot be removed stays: it is no reason not to start.
fn remove_old(runs: &Path, own: &Path) {
    let Ok(entries) = std::fs::read_dir(runs) else {
        return;
    };
    let mut ended: Vec<(PathBuf, File)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path != own && path.join(LOCK).exists())
        .filter_map(|path| Some((path.clone(), lock_of_ended(&path)?)))
        .collect();
    ended.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, _lock) in &ended[..ended.len().saturating_sub(KEPT)] {
        let _ = std::fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use time::{Date, Month, Time};

    use super::*;

    #[test]
    fn a_runs_name_sorts_by_time() {
        let date = Date::from_calendar_date(2026, Month::March, 4).unwrap();
        let when = OffsetDateTime::new_utc(date, Time::from_hms(5, 6, 7).unwrap());
        assert_eq!(name(when, 4711), "20260304T050607Z-4711");
    }

    #[test]
    fn the_oldest_ended_runs_go_and_those_in_use_stay() {
        let target = tempfile::tempdir().unwrap();
        let runs = target.path().join("tollgate").join("runs");
        let old = |n: usize| runs.join(format!("20250101T0000{n:02}Z-1"));
        for n in 0..13 {
            std::fs::create_dir_all(old(n).join("logs")).unwrap();
            std::fs::write(old(n).join(LOCK), "").unwrap();
        }
        let in_use = lock_of_ended(&old(0)).unwrap();
        let run = RunDirectory::new(target.path()).unwrap();
        let left: Vec<usize> = (0..13).filter(|n| old(*n).exists()).collect();
        assert_eq!(left, [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert!(run.path().join("data").is_dir());
        drop(in_use);
    }
}
