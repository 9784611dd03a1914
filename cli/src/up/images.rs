//! What runs in place of a container image: a program of the workspace, or what `--run` says.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use tollgate_mesh::api::Objects;
use tollgate_mesh::model::{Container, Image, Workload};
use tollgate_mesh::{Mesh, Problem};

use crate::args::Run;
use crate::error::Hint;

/// Answers for every image of a mesh. Whether it can is found out before anything starts.
#[derive(Debug)]
pub(crate) struct Images {
    runs: BTreeMap<String, Vec<String>>,
    programs: BTreeMap<String, PathBuf>,
}

impl Images {
    /// Knows `--run`s, each of which must be for an image that there is.
    pub(crate) fn new(runs: &[Run], mesh: &Mesh) -> anyhow::Result<Self> {
        let mut known = BTreeMap::new();
        let images: BTreeSet<&str> = containers(mesh).map(|(_, container)| container.image.name.as_str()).collect();
        for run in runs {
            if !images.contains(run.image.as_str()) {
                let images = Vec::from_iter(images.iter().copied()).join(", ");
                return Err(anyhow::anyhow!("--run {}=…: no container of the manifests has an image of this name", run.image))
                    .hint(format!("their images are {images}"));
            }
            if known.insert(run.image.clone(), run.command.clone()).is_some() {
                anyhow::bail!("--run {}=…: given twice", run.image);
            }
        }
        Ok(Self { runs: known, programs: BTreeMap::new() })
    }

    /// The programs of the workspace that must be built, or what is wrong with the images: neither a program of
    /// `services` nor a `--run`.
    pub(crate) fn needed(&self, mesh: &Mesh, objects: &Objects, services: &BTreeSet<String>) -> Result<BTreeSet<String>, Vec<Problem>> {
        let mut needed = BTreeSet::new();
        let mut problems = Vec::new();
        for (workload, container) in containers(mesh) {
            let image = &container.image;
            if self.runs.contains_key(&image.name) {
                continue;
            }
            let problem = |field: &str, message: String| {
                let Some((source, field)) = place(objects, workload, container, field) else {
                    return Problem::at("", 0, message);
                };
                source.problem(&field, message)
            };
            if !services.contains(&image.name) {
                problems.push(problem("image", unknown(image, services)));
            } else if !container.command.is_empty() {
                problems.push(problem(
                    "command",
                    format!(
                        "the program {name} of the workspace runs in place of the image, and a command replaces what is in the \
                         image; remove it, or say what to run with --run '{name}=COMMAND'",
                        name = image.name
                    ),
                ));
            } else {
                needed.insert(image.name.clone());
            }
        }
        if problems.is_empty() { Ok(needed) } else { Err(problems) }
    }

    /// Where the programs are, once they are built.
    pub(crate) fn built(&mut self, programs: BTreeMap<String, PathBuf>) {
        self.programs = programs;
    }

    /// The program and its arguments, those of the manifest last. There is no shell.
    pub(crate) fn command(&self, container: &Container) -> Option<(OsString, Vec<OsString>)> {
        let args = container.args.iter().map(OsString::from);
        if let Some(run) = self.runs.get(&container.image.name) {
            let (program, words) = run.split_first()?;
            return Some((program.into(), words.iter().map(OsString::from).chain(args).collect()));
        }
        let program = self.programs.get(&container.image.name)?;
        Some((program.clone().into_os_string(), args.collect()))
    }
}

fn containers(mesh: &Mesh) -> impl Iterator<Item = (&Workload, &Container)> {
    mesh.workloads.iter().flat_map(|workload| workload.containers.iter().map(move |container| (workload, container)))
}

fn unknown(image: &Image, services: &BTreeSet<String>) -> String {
    let services = Vec::from_iter(services.iter().map(String::as_str)).join(", ");
    format!(
        "{:?}: the workspace has no service {name}, it has {services}; name one of them, or say what to run in its place \
         with --run '{name}=COMMAND'",
        image.reference,
        name = image.name
    )
}

/// Where a field of a container was written.
fn place<'a>(
    objects: &'a Objects,
    workload: &Workload,
    container: &Container,
    field: &str,
) -> Option<(&'a tollgate_mesh::source::Source, String)> {
    let deployment = objects
        .deployments
        .iter()
        .find(|deployment| deployment.name == workload.name && deployment.namespace == workload.namespace)?;
    let index = deployment.spec.template.spec.containers.iter().position(|written| written.name == container.name)?;
    Some((&deployment.source, format!("spec.template.spec.containers[{index}].{field}")))
}
