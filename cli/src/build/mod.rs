//! Makes what a mesh runs from the workspace's sources: the modules that Envoy loads (`tollgate build`), and the
//! services.

pub mod prune;
pub(crate) mod variant;
mod wasm_target;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, anyhow, bail};
use cargo_metadata::{Artifact, Message, Package};
use serde::Deserialize;

use crate::args::BuildArgs;
use crate::error::Hint;
use crate::workspace::Workspace;
use prune::Names;
use wasm_target::WASM_TARGET;

/// `tollgate build`: builds the modules and says where they are.
pub fn run(args: BuildArgs) -> anyhow::Result<ExitCode> {
    let BuildArgs {} = args;
    let modules = modules(&Workspace::current()?)?;
    let mut out = std::io::stdout().lock();
    let width = modules
        .iter()
        .map(|module| module.name.len())
        .max()
        .unwrap_or_default();
    for module in modules {
        writeln!(
            out,
            "{:width$}  {:>8} (before pruning {:>8})  {}",
            module.name,
            kilobytes(module.size),
            kilobytes(module.size_built),
            module.path.display()
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn kilobytes(bytes: usize) -> String {
    format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100)
}

/// A module that Envoy can load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The plugin's folder in `wasm-plugins/`, with `-bodies` behind it if it is the module that sees bodies: the last segment of its manifest's `url`.
    pub name: String,
    /// `target/plugins/<name>.wasm`
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: usize,
    /// The size before what Envoy would not call was removed, and the names of functions.
    pub size_built: usize,
}

/// The names of the modules that [`modules`] would make, without making them.
pub fn module_names(workspace: &Workspace) -> anyhow::Result<BTreeSet<String>> {
    Ok(plugins(workspace, &workspace.plugins())?
        .iter()
        .flat_map(Plugin::modules)
        .map(|(name, _)| name)
        .collect())
}

/// Builds and prunes the module of every plugin. cargo's progress and diagnostics go to standard error. Takes as long as
/// cargo does, so asynchronous callers give it a thread of its own.
pub fn modules(workspace: &Workspace) -> anyhow::Result<Vec<Module>> {
    let plugins = plugins(workspace, &workspace.plugins())?;
    compile(workspace, plugins, Names::Dropped)
}

/// The same, and the modules that `tollgate bench` compares them with. Those with names are the same with the names of their functions, and lie in a folder of their own.
pub(crate) fn modules_and_comparisons(
    workspace: &Workspace,
    names: Names,
) -> anyhow::Result<Vec<Module>> {
    let mut all = plugins(workspace, &workspace.plugins())?;
    all.extend(plugins(workspace, &workspace.comparisons())?);
    compile(workspace, all, names)
}

fn compile(
    workspace: &Workspace,
    plugins: Vec<Plugin>,
    names: Names,
) -> anyhow::Result<Vec<Module>> {
    if plugins.is_empty() {
        bail!(
            "there are no plugins: no folder of {} has a Cargo.toml",
            workspace.plugins().display()
        );
    }
    wasm_target::ensure(workspace.root())?;

    let mut cargo = workspace.cargo();
    cargo.args(["build", "--profile", "plugin", "--target", WASM_TARGET]);
    for plugin in &plugins {
        cargo.args(["--package", &plugin.package]);
    }
    let config = format!("target.{WASM_TARGET}.rustflags={:?}", remapped_paths());
    cargo.args(["--config", &config]);
    let artifacts = build(cargo).context("the filters do not compile for Envoy")?;

    let folder = match names {
        Names::Dropped => workspace.modules(),
        Names::Kept => workspace.modules().join("named"),
    };
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let modules = plugins
        .iter()
        .map(|plugin| {
            let file = artifacts
                .iter()
                .filter(|artifact| artifact.package_id.repr == plugin.package && artifact.target.is_cdylib())
                .flat_map(|artifact| &artifact.filenames)
                .find(|file| file.extension() == Some("wasm"))
                .with_context(|| format!("cargo made no module of the plugin {}", plugin.name))?;
            let built = fs::read(file).with_context(|| format!("cannot read {file}"))?;
            let modules = plugin.modules().into_iter().map(|(name, callbacks)| {
                let pruned = prune::prune_to(&built, &callbacks, names)
                    .with_context(|| format!("the plugin {} cannot be used", plugin.name))
                    .hint(format_args!(
                        "the callbacks of the plugin are listed in {} under [package.metadata.tollgate]",
                        plugin.manifest.display()
                    ))?;
                let path = folder.join(format!("{name}.wasm"));
                write_if_changed(&path, &pruned).with_context(|| format!("cannot write {}", path.display()))?;
                Ok(Module { name, path, size: pruned.len(), size_built: built.len() })
            });
            modules.collect::<anyhow::Result<Vec<_>>>()
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(modules.into_iter().flatten().collect())
}

/// Flags that leave the folder of downloaded crates out of modules: panics name source files, and what ships should neither say whose machine
/// made it nor differ with it.
fn remapped_paths() -> Vec<String> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let flag = |home: PathBuf| {
        let crates = home.join("registry").join("src");
        format!("--remap-path-prefix={}=crates", crates.display())
    };
    cargo_home.map(flag).into_iter().collect()
}

/// Builds programs of the workspace, in release if this tool is, and says where they are. Takes as long as cargo does.
pub fn services(
    workspace: &Workspace,
    names: &BTreeSet<String>,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut packages = BTreeSet::new();
    for name in names {
        let packages_of_workspace = workspace.metadata().workspace_packages();
        let package = packages_of_workspace
            .into_iter()
            .find(|package| {
                package
                    .targets
                    .iter()
                    .any(|target| target.is_bin() && target.name == *name)
            })
            .with_context(|| {
                let known = workspace.binaries().collect::<Vec<_>>().join(", ");
                format!("the workspace has no program {name}; it has {known}")
            })?;
        packages.insert(package.id.repr.clone());
    }
    let mut cargo = workspace.cargo();
    cargo.arg("build");
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    for package in &packages {
        cargo.args(["--package", package]);
    }
    for name in names {
        cargo.args(["--bin", name]);
    }
    let artifacts = build(cargo).context("the services do not compile")?;
    names
        .iter()
        .map(|name| {
            let executable = artifacts
                .iter()
                .filter(|artifact| artifact.target.is_bin() && artifact.target.name == *name)
                .find_map(|artifact| artifact.executable.as_ref())
                .with_context(|| format!("cargo made no program {name}"))?;
            Ok((name.clone(), executable.clone().into_std_path_buf()))
        })
        .collect()
}

/// The cargo that is building.
static CARGO: Mutex<Option<Child>> = Mutex::new(None);

fn cargo() -> MutexGuard<'static, Option<Child>> {
    CARGO.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the cargo that is building, for a process that is about to end: a terminal's Ctrl-C reaches cargo too, but
/// other signals reach us alone.
pub(crate) fn stop() {
    if let Some(child) = cargo().as_mut() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Runs a cargo build and collects what it made. Its progress and diagnostics go to standard error as they come.
fn build(mut command: Command) -> anyhow::Result<Vec<Artifact>> {
    command
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let program = command.get_program().to_owned();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let stdout = child.stdout.take();
    *cargo() = Some(child);
    let mut artifacts = Vec::new();
    let mut read = Ok(());
    if let Some(stdout) = stdout {
        for message in Message::parse_stream(BufReader::new(stdout)) {
            match message {
                Ok(Message::CompilerArtifact(artifact)) => artifacts.push(artifact),
                Ok(_) => {}
                Err(error) => read = Err(error),
            }
        }
    }
    let mut child = cargo().take().context("another build was started")?;
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        // cargo has said why, on standard error.
        bail!("cargo failed ({status})");
    }
    read.context("cannot read what cargo says it made")?;
    Ok(artifacts)
}

/// A crate of `wasm-plugins/`.
#[derive(Debug, PartialEq, Eq)]
struct Plugin {
    name: String,
    /// cargo's id of the package.
    package: String,
    manifest: PathBuf,
    callbacks: Vec<String>,
    bodies: Option<Vec<String>>,
}

impl Plugin {
    /// The modules that are made of it, with the callbacks of each: that of its name, and one that sees bodies if it has callbacks for them.
    fn modules(&self) -> Vec<(String, Vec<&str>)> {
        let callbacks: Vec<&str> = self.callbacks.iter().map(String::as_str).collect();
        let mut modules = Vec::new();
        if let Some(bodies) = &self.bodies {
            let all = callbacks.iter().copied();
            let all = all.chain(bodies.iter().map(String::as_str)).collect();
            modules.push((variant::with_bodies(&self.name), all));
        }
        modules.insert(0, (self.name.clone(), callbacks));
        modules
    }
}

/// `[package.metadata.tollgate]` of a plugin's `Cargo.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginMetadata {
    callbacks: Vec<String>,
    /// What the module that sees bodies has besides; without them there is no such module.
    bodies: Option<Vec<String>>,
}

/// The plugins in a folder, sorted by name.
fn plugins(workspace: &Workspace, folder: &Path) -> anyhow::Result<Vec<Plugin>> {
    let packages = workspace.metadata().workspace_packages();
    let mut plugins = Vec::new();
    for entry in fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
    {
        let manifest = entry
            .with_context(|| format!("cannot read the folder {}", folder.display()))?
            .path()
            .join("Cargo.toml");
        // A folder of manifests alone is no plugin of ours.
        if manifest.is_file() {
            plugins.push(
                plugin(&manifest, &packages)
                    .with_context(|| format!("cannot use {}", manifest.display()))?,
            );
        }
    }
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    for plugin in plugins.iter().filter(|plugin| plugin.bodies.is_some()) {
        let name = variant::with_bodies(&plugin.name);
        if plugins.iter().any(|other| other.name == name) {
            return Err(anyhow!(
                "there are two modules {name}: that of wasm-plugins/{name}, and the one of wasm-plugins/{} that sees bodies",
                plugin.name
            ))
            .hint(format_args!("give the folder wasm-plugins/{name} another name"));
        }
    }
    Ok(plugins)
}

fn plugin(manifest: &Path, packages: &[&Package]) -> anyhow::Result<Plugin> {
    let name = manifest
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .context("the folder's name is not UTF-8")?;
    let package = packages
        .iter()
        .find(|package| package.manifest_path.as_std_path() == manifest)
        .context("it is not a member of the workspace")
        .hint(format_args!(
            "add \"wasm-plugins/{name}\" to `members` in the workspace's Cargo.toml"
        ))?;
    let example =
        "write e.g.\n[package.metadata.tollgate]\ncallbacks = [\"proxy_on_request_headers\"]";
    let metadata = package
        .metadata
        .get("tollgate")
        .context("it lists no callbacks")
        .hint(example)?;
    let metadata = PluginMetadata::deserialize(metadata)
        .map_err(|error| anyhow!("package.metadata.tollgate: {error}"))
        .hint(example)?;
    if !package.targets.iter().any(|target| target.is_cdylib()) {
        return Err(anyhow!("it makes no module")).hint("write\n[lib]\ncrate-type = [\"cdylib\"]");
    }
    Ok(Plugin {
        name: name.to_owned(),
        package: package.id.repr.clone(),
        manifest: manifest.to_owned(),
        callbacks: metadata.callbacks,
        bodies: metadata.bodies,
    })
}

/// Replaces a file at once, so that a reader sees the old or the new one whole; leaves it alone if it is the same, so that
/// nobody who watches it is woken for nothing.
fn write_if_changed(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().context("it has no folder")?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
