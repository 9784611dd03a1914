//! `tollgate check`: everything that is wrong with manifests, before a mesh or a cluster gets them.
//!
//! The reading is that of `up`: the mesh library's, with the configurations of [`plugins`] checked by their filters and with
//! [`names`] that pods may not share, [`trust`] between the plugins of a proxy, and [`labels`] that its pods do not list. [`size`] and [`mod@issuer`] are about clusters alone. What was found is told as [`text`], [`json`] or [`sarif`].

mod issuer;
mod json;
pub(crate) mod labels;
pub(crate) mod names;
pub(crate) mod plugins;
mod sarif;
mod size;
mod text;
pub(crate) mod trust;

use std::collections::BTreeSet;
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use tollgate_mesh::{Code, Level, Problem};

use crate::args::{CheckArgs, CheckFormat};
use crate::error::FAILURE;
use crate::workspace::root_around;

pub use labels::needed as needed_stat_tags;

/// Standard input as a file, and what it is called in messages.
const STDIN: (&str, &str) = ("/dev/stdin", "<stdin>");

/// What a check came to.
struct Findings {
    /// How many objects, or configurations, were looked at.
    checked: usize,
    /// What they are: `manifest` or `configuration`.
    what: &'static str,
    /// By file and line.
    problems: Vec<Problem>,
}

impl Findings {
    /// How many problems are that bad.
    fn count(&self, level: Level) -> usize {
        let problems = self.problems.iter();
        problems
            .filter(|problem| problem.code.level() == level)
            .count()
    }
}

/// Checks what the command line names, tells what was found, and says how to exit.
pub(crate) fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let here = env::current_dir().context("cannot tell the current folder")?;
    let paths = if args.paths.is_empty() {
        vec![root_around(&here)?]
    } else {
        args.paths
    };
    let paths: Vec<PathBuf> = paths
        .into_iter()
        .map(|path| {
            if path == Path::new("-") {
                STDIN.0.into()
            } else {
                path
            }
        })
        .collect();
    let mut findings = match args.plugin {
        Some(filter) => configurations(&paths, &filter),
        None => manifests(&paths, &here),
    };
    for problem in &mut findings.problems {
        problem.file = named(&problem.file, &here);
    }
    findings.problems.sort();

    let out = anstream::stdout();
    let told = match args.format {
        CheckFormat::Text => text::write(&mut out.lock(), &findings),
        CheckFormat::Json => json::write(&mut out.lock(), &findings),
        CheckFormat::Sarif => sarif::write(&mut out.lock(), &findings, &here),
    };
    told.and_then(|()| std::io::stdout().flush())
        .context("cannot write what was found")?;
    Ok(match findings.count(Level::Error) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILURE),
    })
}

/// All that is wrong with manifests.
fn manifests(paths: &[PathBuf], here: &Path) -> Findings {
    let found = tollgate_mesh::inspect(paths);
    let mut problems = found.problems;
    crate::issuer::explain(&mut problems, &found.files);
    problems.extend(issuer::misplaced(&found.documents, paths, here));
    problems.extend(plugins::configurations(&found.documents));
    if let Some(mesh) = &found.mesh {
        problems.extend(mesh.doubts(&found.objects));
        problems.extend(trust::problems(mesh, &found.objects));
        problems.extend(labels::problems(mesh, &found.objects));
    }
    problems.extend(names::shared(&found.objects));
    problems.extend(found.documents.iter().filter_map(size::check));
    Findings {
        checked: found.documents.len(),
        what: "manifest",
        problems,
    }
}

/// What a filter refuses in files of which each document is a configuration of it and nothing else.
fn configurations(paths: &[PathBuf], filter: &str) -> Findings {
    let found = tollgate_mesh::documents(paths);
    let mut problems = found.problems;
    let mut told: BTreeSet<PathBuf> = problems
        .iter()
        .map(|problem| problem.file.clone())
        .collect();
    for document in &found.documents {
        told.insert(document.source.file().to_owned());
        problems.extend(plugins::told(
            filter,
            Some(&document.value),
            &document.source,
            "",
        ));
    }
    // An empty file has no document, and is a configuration all the same.
    for file in found.files.iter().filter(|file| !told.contains(*file)) {
        let message = "is empty, write the configuration";
        problems.push(Problem::at(file, 1, message).of(Code::Configuration));
    }
    Findings {
        checked: found.documents.len(),
        what: "configuration",
        problems,
    }
}

/// A file as messages name it: from the current folder on, if it is in there.
fn named(file: &Path, here: &Path) -> PathBuf {
    if file == Path::new(STDIN.0) {
        return STDIN.1.into();
    }
    let file = file.strip_prefix(".").unwrap_or(file);
    match file.strip_prefix(here) {
        Ok(inside) if inside != Path::new("") => inside.to_owned(),
        Err(_) if file != Path::new("") => file.to_owned(),
        _ => ".".into(),
    }
}
