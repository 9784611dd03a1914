//! The WebAssembly target of the Rust toolchain: adds it where it is missing.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};

use crate::console::say;
use crate::error::Hint;

/// What filters are compiled for: Envoy gives its modules the first preview of WASI.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip1";

const OTHER_WAYS: &str = "\
add the target yourself:
with rustup: rustup target add wasm32-wasip1 (RUSTUP_DIST_SERVER names a mirror)
with the Rust of a distribution: its package for the target, e.g. rust-std-static-wasm32-wasip1 on Fedora";

/// Makes sure that the toolchain of the workspace in `root` can compile for Envoy.
pub(crate) fn ensure(root: &Path) -> anyhow::Result<()> {
    let rustc = env::var_os("RUSTC")
        .filter(|rustc| !rustc.is_empty())
        .unwrap_or_else(|| "rustc".into());
    ensure_with(root, &rustc, &"rustup".into())
}

fn ensure_with(root: &Path, rustc: &OsString, rustup: &OsString) -> anyhow::Result<()> {
    let folder = libraries(root, rustc)?;
    // rustup itself does not expect a second rustup, and a reader must not take half a target for a whole one.
    let _lock = lock(&folder);
    if has_libraries(&folder) {
        return Ok(());
    }
    say(format_args!(
        "Adding the target {WASM_TARGET} to the Rust toolchain: rustup target add {WASM_TARGET}"
    ));
    // rustup reads rust-toolchain.toml and RUSTUP_TOOLCHAIN as its rustc does, so both mean the same toolchain.
    // Its progress goes to standard error by itself; what it may print besides must not get among our results.
    let status = Command::new(rustup)
        .args(["target", "add", WASM_TARGET])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status();
    let reason = match status {
        Ok(status) if status.success() && has_libraries(&folder) => return Ok(()),
        // It looks after another toolchain, or into its own records only.
        Ok(status) if status.success() => anyhow!(
            "rustup says that it is there, but it is not in {}, where {} looks",
            folder.display(),
            rustc.display()
        ),
        Ok(status) => anyhow!("rustup could not add it ({status})"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            anyhow!("rustup, which would add it, is not on PATH")
        }
        Err(error) => anyhow!(error).context("cannot run rustup, which would add it"),
    };
    Err(reason)
        .with_context(|| {
            format!(
                "the Rust toolchain has no target {WASM_TARGET}, which filters are compiled for"
            )
        })
        .hint(OTHER_WAYS)
}

/// Waits until no other process adds the target to the same toolchain. `libraries` may not be there yet, so the lock is on
/// the folder of all targets, `<toolchain>/lib/rustlib`. Where it cannot be locked we do without.
fn lock(libraries: &Path) -> Option<File> {
    let lock = File::open(libraries.ancestors().nth(2)?).ok()?;
    lock.lock().ok()?;
    Some(lock)
}

/// Where the toolchain keeps the target's standard library, or would.
fn libraries(root: &Path, rustc: &OsString) -> anyhow::Result<PathBuf> {
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .current_dir(root)
        .output()
        .with_context(|| format!("cannot run {}", rustc.display()))
        .hint("install Rust with rustup, or set RUSTC")?;
    if !output.status.success() {
        bail!(
            "{} does not know its target folder:\n{}",
            rustc.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// The folder alone proves nothing: it stays behind, empty, when a target is removed.
fn has_libraries(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with("libcore-"))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing;

    /// A toolchain of scripts: what rustc prints as its target folder, and a rustup that runs the given command.
    struct Toolchain {
        folder: tempfile::TempDir,
    }

    impl Toolchain {
        fn new(rustup: Option<&str>) -> Self {
            let toolchain = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            fs::create_dir(toolchain.folder.path().join("rustlib")).unwrap();
            toolchain.script(
                "rustc",
                &format!("echo {}", toolchain.libraries().display()),
            );
            if let Some(command) = rustup {
                toolchain.script("rustup", &format!("echo \"$@\" >>calls\n{command}"));
            }
            toolchain
        }

        fn libraries(&self) -> PathBuf {
            self.folder.path().join("rustlib/wasm/lib")
        }

        fn script(&self, name: &str, command: &str) {
            let text = format!("cd {}\n{command}", self.folder.path().display());
            testing::script(&self.folder.path().join(name), &text);
        }

        fn calls(&self) -> String {
            fs::read_to_string(self.folder.path().join("calls")).unwrap()
        }

        fn ensure(&self) -> Result<(), String> {
            let program = |name: &str| self.folder.path().join(name).into_os_string();
            ensure_with(self.folder.path(), &program("rustc"), &program("rustup")).map_err(
                |error| {
                    crate::error::render(&error)
                        .replace(&self.folder.path().display().to_string(), "T")
                },
            )
        }
    }

    #[test]
    fn a_target_that_is_there_needs_no_rustup() {
        let toolchain = Toolchain::new(None);
        fs::create_dir_all(toolchain.libraries()).unwrap();
        fs::write(toolchain.libraries().join("libcore-0.rlib"), "").unwrap();
        assert_eq!(toolchain.ensure(), Ok(()));
    }

    #[test]
    fn a_missing_target_is_added_with_rustup() {
        let toolchain = Toolchain::new(Some(
            "mkdir -p rustlib/wasm/lib; touch rustlib/wasm/lib/libcore-0.rlib",
        ));
        assert_eq!(toolchain.ensure(), Ok(()));
        assert_eq!(toolchain.calls(), "target add wasm32-wasip1\n");
    }

    fn refused(reason: &str) -> String {
        format!(
            "error: the Rust toolchain has no target wasm32-wasip1, which filters are compiled for\n  because: {reason}\n\
             hint: {}\n",
            OTHER_WAYS.replace('\n', "\n      ")
        )
    }

    #[test]
    fn without_rustup_the_error_names_the_other_ways() {
        let error = Toolchain::new(None).ensure().unwrap_err();
        assert_eq!(error, refused("rustup, which would add it, is not on PATH"));
    }

    #[test]
    fn a_rustup_that_fails_or_adds_it_elsewhere_is_reported() {
        let error = Toolchain::new(Some("exit 1")).ensure().unwrap_err();
        assert_eq!(error, refused("rustup could not add it (exit status: 1)"));
        let error = Toolchain::new(Some("exit 0")).ensure().unwrap_err();
        assert_eq!(
            error,
            refused(
                "rustup says that it is there, but it is not in T/rustlib/wasm/lib, where T/rustc looks"
            )
        );
    }

    #[test]
    fn those_who_need_it_at_once_add_it_once() {
        let toolchain = Toolchain::new(Some(
            "mkdir -p rustlib/wasm/lib; touch rustlib/wasm/lib/libcore-0.rlib",
        ));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(toolchain.ensure(), Ok(())));
            }
        });
        assert_eq!(toolchain.calls(), "target add wasm32-wasip1\n");
    }
}
