//! What a process has used: its CPU time and its memory, as Linux tells.
//!
//! CPU time is that of all its threads, in user space and in the kernel. `/proc/<pid>/stat` has it too (`utime` and `stime`), but
//! in steps of 10 ms; the scheduler's own account, which those are made from, counts nanoseconds.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use crate::error::Hint;

/// What is left of the last requests' work is done by then, and accounted for.
const SETTLED: Duration = Duration::from_millis(5);

/// Refuses a system that does not tell.
pub(crate) fn require() -> anyhow::Result<()> {
    let own = Process::new(std::process::id());
    own.cpu().and_then(|_| own.resident()).map(drop).hint(
        "CPU time and memory are read from /proc: run this on Linux (in a container or a virtual machine elsewhere), with a kernel \
         that has CONFIG_SCHED_INFO, as those of all distributions have",
    )
}

/// A process that runs.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    folder: PathBuf,
}

impl Process {
    pub(crate) fn new(id: u32) -> Self {
        Self {
            folder: PathBuf::from(format!("/proc/{id}")),
        }
    }

    /// The CPU time of all threads. That of a thread which has ended is not in it; Envoy's do not end. A thread that is running just
    /// now is seen as it was a few milliseconds ago, so ask when the process has nothing to do.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let threads = self.folder.join("task");
        let mut nanoseconds = 0;
        let entries = std::fs::read_dir(&threads)
            .with_context(|| format!("cannot read {}", threads.display()))?;
        for entry in entries.flatten() {
            let file = entry.path().join("schedstat");
            let text = match std::fs::read_to_string(&file) {
                // A thread that has ended since: an Envoy's workers, which do what is measured, stay.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                text => text.with_context(|| format!("cannot read {}", file.display()))?,
            };
            nanoseconds +=
                run_time(&text).with_context(|| format!("{}: {text:?}", file.display()))?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Microseconds of CPU for each of the requests that `send` sends; it returns how many were answered.
    pub(crate) fn cpu_per_request(
        &self,
        send: impl FnOnce() -> anyhow::Result<u64>,
    ) -> anyhow::Result<f64> {
        let settled = || {
            std::thread::sleep(SETTLED);
            self.cpu()
        };
        let before = settled()?;
        let answered = send()?;
        let used = settled()?.saturating_sub(before);
        Ok(used.as_secs_f64() * 1e6 / answered.max(1) as f64)
    }

    /// The memory that it has in RAM, in bytes (`VmRSS`).
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let file = self.folder.join("status");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        resident(&text).with_context(|| format!("cannot read {}", file.display()))
    }
}

/// `<run time> <time waited> <times run>`, in nanoseconds.
fn run_time(schedstat: &str) -> anyhow::Result<u64> {
    let run = schedstat
        .split_whitespace()
        .next()
        .context("it is empty")?
        .parse()
        .map_err(|_| anyhow!("it does not begin with a number of nanoseconds"))?;
    Ok(run)
}

fn resident(status: &str) -> anyhow::Result<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("it has no VmRSS")?;
    match value.split_whitespace().collect::<Vec<_>>()[..] {
        [number, "kB"] => Ok(number.parse::<u64>()? * 1024),
        _ => bail!("VmRSS is {value:?} and not a number of kB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(run_time("1446608601 71458112 87\n").unwrap(), 1_446_608_601);
        assert!(run_time("").is_err());
        assert_eq!(
            resident("Name:\tenvoy\nVmRSS:\t   2048 kB\nThreads:\t9\n").unwrap(),
            2 * 1024 * 1024
        );
        assert_eq!(
            resident("VmRSS:\t2 MB\n").unwrap_err().to_string(),
            "VmRSS is \"\\t2 MB\" and not a number of kB"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_takes_cpu_time_and_waiting_does_not() {
        // Not this process: its threads come and go with the tests.
        let child = |arguments: &[&str]| {
            let mut command = std::process::Command::new("sh");
            command.arg("-c").args(arguments).spawn().unwrap()
        };
        let mut busy = child(&["while :; do :; done"]);
        let mut idle = child(&["exec sleep 60"]);
        let (working, waiting) = (Process::new(busy.id()), Process::new(idle.id()));
        let end = std::time::Instant::now() + Duration::from_secs(30);
        let mut worked = Duration::ZERO;
        while worked < Duration::from_secs(1) && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
            worked = working.cpu().unwrap();
        }
        let (waited, resident) = (waiting.cpu().unwrap(), waiting.resident().unwrap());
        for child in [&mut busy, &mut idle] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(worked >= Duration::from_secs(1), "{worked:?}");
        assert!(waited < Duration::from_millis(500), "{waited:?}");
        assert!(resident > 64 * 1024, "{resident}");
    }
}
