//! The manifests that a test runs: a copy of those that ship, edited as a user would.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A folder of manifests that a test may change.
#[derive(Debug)]
pub struct Manifests {
    folder: TempDir,
}

/// The repository: the folder above this crate.
pub(crate) fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

impl Manifests {
    /// A copy of everything that ships.
    pub fn shipped() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tollgate-manifests-")
            .tempdir()?;
        fs::copy(
            repository().join("kustomization.yaml"),
            folder.path().join("kustomization.yaml"),
        )?;
        for part in ["services", "istio", "wasm-plugins"] {
            copy_yaml(&repository().join(part), &folder.path().join(part))?;
        }
        Ok(Self { folder })
    }

    /// Where they are: what `--manifests` takes.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces `from`, which must be there exactly once, by `to` in a file. The file is replaced by renaming, as editors do.
    pub fn replace(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.folder.path().join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let times = text.matches(from).count();
        ensure!(times == 1, "{file} holds {from:?} {times} times, not once");
        self.write(file, &text.replacen(from, to, 1))
    }

    /// Writes a file whole.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(file);
        let beside = path.with_extension("tmp");
        fs::write(&beside, text)?;
        fs::rename(&beside, &path)?;
        Ok(())
    }
}

fn copy_yaml(from: &Path, to: &Path) -> Result<()> {
    let entries: Vec<PathBuf> = fs::read_dir(from)?
        .map(|e| Ok(e?.path()))
        .collect::<std::io::Result<_>>()?;
    for path in entries {
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() {
            copy_yaml(&path, &to.join(name))?;
        } else if path.extension().is_some_and(|e| e == "yaml") {
            fs::create_dir_all(to)?;
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
