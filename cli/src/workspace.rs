//! The workspace whose filters and services a mesh runs, as cargo knows it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use cargo_metadata::{Metadata, MetadataCommand};

use crate::error::Hint;

/// The folder that marks a workspace of ours: the plugins it ships.
const PLUGINS: &str = "wasm-plugins";

/// A workspace with plugins, found from a folder within it.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    metadata: Metadata,
}

impl Workspace {
    /// The workspace around the current folder.
    pub fn current() -> anyhow::Result<Self> {
        Self::around(&env::current_dir().context("cannot tell the current folder")?)
    }

    /// The workspace around `folder`.
    pub fn around(folder: &Path) -> anyhow::Result<Self> {
        let root = root_around(folder)?;
        let metadata = MetadataCommand::new()
            .cargo_path(cargo())
            // Where cargo builds, too: a relative CARGO_TARGET_DIR means the same folder to both.
            .current_dir(&root)
            .no_deps()
            .exec()
            .with_context(|| format!("cargo cannot read the workspace {}", root.display()))
            .hint("the tool builds the filters and services from their sources: install Rust with rustup, or set CARGO")?;
        Ok(Self { root, metadata })
    }

    /// The root folder: `Cargo.toml`, `wasm-plugins/` and `kustomization.yaml` are in it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo writes what it builds (`CARGO_TARGET_DIR` and cargo's configuration hold).
    pub fn target_directory(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// Where `tollgate build` writes modules: `<name>.wasm` for every plugin.
    pub fn modules(&self) -> PathBuf {
        self.target_directory().join("plugins")
    }

    /// Where the plugins are: a folder each.
    pub fn plugins(&self) -> PathBuf {
        self.root.join(PLUGINS)
    }

    /// What cargo says about the workspace's own crates.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The names of the programs that the workspace's crates make, this tool apart.
    pub fn binaries(&self) -> impl Iterator<Item = &str> {
        self.metadata
            .workspace_packages()
            .into_iter()
            .filter(|package| package.name != env!("CARGO_PKG_NAME"))
            .flat_map(|package| &package.targets)
            .filter(|target| target.is_bin())
            .map(|target| target.name.as_str())
    }

    /// A cargo call in the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        command
    }
}

/// cargo, as the user or the cargo that runs us chose it.
fn cargo() -> OsString {
    env::var_os("CARGO")
        .filter(|cargo| !cargo.is_empty())
        .unwrap_or_else(|| "cargo".into())
}

/// The nearest folder, from `folder` upwards, with a `Cargo.toml` and plugins.
pub(crate) fn root_around(folder: &Path) -> anyhow::Result<PathBuf> {
    let root = folder
        .ancestors()
        .find(|f| f.join("Cargo.toml").is_file() && f.join(PLUGINS).is_dir());
    root.map(Path::to_owned)
        .with_context(|| {
            format!(
                "{} is not in a Tollgate workspace: neither it nor a folder above it has a Cargo.toml and a folder \
                 {PLUGINS}/",
                folder.display()
            )
        })
        .hint("run tollgate in a checkout of Tollgate, or in any folder below it")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_root_is_found_from_any_folder_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let crate_folder = folder.path().join("wasm-plugins/one");
        fs::create_dir_all(crate_folder.join("src")).unwrap();
        fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        // A member has a Cargo.toml too, and is not the root.
        fs::write(crate_folder.join("Cargo.toml"), "").unwrap();
        for start in [
            folder.path(),
            &folder.path().join("wasm-plugins"),
            &crate_folder.join("src"),
        ] {
            assert_eq!(root_around(start).unwrap(), folder.path());
        }
    }

    #[test]
    fn outside_a_workspace_the_error_says_where_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let error = root_around(folder.path()).unwrap_err();
        assert_eq!(
            crate::error::render(&error),
            format!(
                "error: {} is not in a Tollgate workspace: neither it nor a folder above it has a Cargo.toml and a \
                 folder wasm-plugins/\nhint: run tollgate in a checkout of Tollgate, or in any folder below it\n",
                folder.path().display()
            )
        );
    }
}
