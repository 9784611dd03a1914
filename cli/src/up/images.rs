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
#[derive(Clone, Debug)]
pub(crate) struct Images {
    runs: BTreeMap<String, Vec<String>>,
    programs: BTreeMap<String, PathBuf>,
}

impl Images {
    /// Knows `--run`s, each of which must be for an image that there is.
    pub(crate) fn new(runs: &[Run], mesh: &Mesh) -> anyhow::Result<Self> {
        let mut known = BTreeMap::new();
        let images: BTreeSet<&str> = containers(mesh)
            .map(|(_, container)| container.image.name.as_str())
            .collect();
        for run in runs {
            if !images.contains(run.image.as_str()) {
                let images = Vec::from_iter(images.iter().copied()).join(", ");
                return Err(anyhow::anyhow!(
                    "--run {}=…: no container of the manifests has an image of this name",
                    run.image
                ))
                .hint(format!("their images are {images}"));
            }
            if known
                .insert(run.image.clone(), run.command.clone())
                .is_some()
            {
                anyhow::bail!("--run {}=…: given twice", run.image);
            }
        }
        Ok(Self {
            runs: known,
            programs: BTreeMap::new(),
        })
    }

    /// The programs of the workspace that must be built, or what is wrong with the images: neither a program of
    /// `services` nor a `--run`.
    pub(crate) fn needed(
        &self,
        mesh: &Mesh,
        objects: &Objects,
        services: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Vec<Problem>> {
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
        if problems.is_empty() {
            Ok(needed)
        } else {
            Err(problems)
        }
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
            return Some((
                program.into(),
                words.iter().map(OsString::from).chain(args).collect(),
            ));
        }
        let program = self.programs.get(&container.image.name)?;
        Some((program.clone().into_os_string(), args.collect()))
    }
}

fn containers(mesh: &Mesh) -> impl Iterator<Item = (&Workload, &Container)> {
    mesh.workloads.iter().flat_map(|workload| {
        workload
            .containers
            .iter()
            .map(move |container| (workload, container))
    })
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
    let deployment = objects.deployments.iter().find(|deployment| {
        deployment.name == workload.name && deployment.namespace == workload.namespace
    })?;
    let index = deployment
        .spec
        .template
        .spec
        .containers
        .iter()
        .position(|written| written.name == container.name)?;
    Some((
        &deployment.source,
        format!("spec.template.spec.containers[{index}].{field}"),
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const MANIFEST: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - name: cart
        image: ghcr.io/tollgate/cart-service:v1
        args: [--verbose]
      - name: payment
        image: ghcr.io/elsewhere/payment:2.0
";

    fn services() -> BTreeSet<String> {
        ["cart-service", "user-service"].map(str::to_owned).into()
    }

    fn run(image: &str, command: &[&str]) -> Run {
        Run {
            image: image.to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn needed(manifest: &str, runs: &[Run]) -> Result<Vec<String>, Vec<String>> {
        let objects = Objects::parse(Path::new("shop.yaml"), manifest).unwrap();
        let mesh = Mesh::build(objects.clone()).unwrap();
        let images = Images::new(runs, &mesh).unwrap();
        let needed = images.needed(&mesh, &objects, &services());
        needed
            .map(Vec::from_iter)
            .map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn an_image_is_a_service_of_the_workspace_or_what_is_run_in_its_place() {
        let runs = [run("payment", &["python3", "payment.py"])];
        assert_eq!(needed(MANIFEST, &runs), Ok(vec!["cart-service".to_owned()]));
    }

    #[test]
    fn any_other_image_is_refused_by_name_with_what_to_write() {
        assert_eq!(
            needed(MANIFEST, &[]),
            Err(vec![
                "shop.yaml:14: spec.template.spec.containers[1].image: \"ghcr.io/elsewhere/payment:2.0\": the workspace has no \
                 service payment, it has cart-service, user-service; name one of them, or say what to run in its place with \
                 --run 'payment=COMMAND'"
                    .to_owned()
            ])
        );
    }

    #[test]
    fn a_command_of_an_image_that_is_not_there_is_refused() {
        let manifest = MANIFEST.replace("args: [--verbose]", "command: [/bin/cart]");
        assert_eq!(
            needed(&manifest, &[run("payment", &["true"])]),
            Err(vec![
                "shop.yaml:12: spec.template.spec.containers[0].command: the program cart-service of the workspace runs in \
                 place of the image, and a command replaces what is in the image; remove it, or say what to run with --run \
                 'cart-service=COMMAND'"
                    .to_owned()
            ])
        );
    }

    #[test]
    fn a_run_for_an_image_that_nothing_has_is_refused() {
        let mesh = Mesh::build(Objects::parse(Path::new("shop.yaml"), MANIFEST).unwrap()).unwrap();
        let error = Images::new(&[run("pay", &["true"])], &mesh).unwrap_err();
        assert_eq!(
            crate::error::render(&error),
            "error: --run pay=…: no container of the manifests has an image of this name\n\
             hint: their images are cart-service, payment\n"
        );
    }

    #[test]
    fn the_manifests_arguments_follow_the_program() {
        let mesh = Mesh::build(Objects::parse(Path::new("shop.yaml"), MANIFEST).unwrap()).unwrap();
        let container = &mesh.workloads[0].containers[0];
        let words = |(program, args): (OsString, Vec<OsString>)| [vec![program], args].concat();
        let mut images = Images::new(&[], &mesh).unwrap();
        assert_eq!(images.command(container), None);
        images.built(
            [(
                "cart-service".to_owned(),
                PathBuf::from("/target/cart-service"),
            )]
            .into(),
        );
        assert_eq!(
            words(images.command(container).unwrap()),
            ["/target/cart-service", "--verbose"]
        );
        let images = Images::new(&[run("cart-service", &["sh", "cart.sh"])], &mesh).unwrap();
        assert_eq!(
            words(images.command(container).unwrap()),
            ["sh", "cart.sh", "--verbose"]
        );
    }
}
