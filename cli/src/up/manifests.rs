//! The manifests: read, and checked for everything that can be known before something is started or changed. The same at the
//! start and at every edit.

use std::collections::BTreeSet;

use tollgate_mesh::api::Objects;
use tollgate_mesh::model::Role;
use tollgate_mesh::{Manifests, Mesh, Problem, Problems};

use super::images::Images;
use super::plugins;

/// What there is on this machine to run manifests with, and how they are to be read.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    /// Instead of what Deployments say.
    pub(crate) replicas: Option<u32>,
    /// The programs of the workspace.
    pub(crate) services: BTreeSet<String>,
    /// The modules of the workspace.
    pub(crate) modules: BTreeSet<String>,
}

impl Means {
    /// Gives every Deployment as many pods as the command line says.
    pub(crate) fn scale(&self, mesh: &mut Mesh) {
        let Some(replicas) = self.replicas else {
            return;
        };
        // More of a gateway would only divide what is counted: nothing here balances between them.
        for workload in mesh
            .workloads
            .iter_mut()
            .filter(|workload| workload.role != Role::Gateway)
        {
            workload.replicas = replicas;
        }
    }

    /// The programs that must be there to run these manifests, or everything that is wrong.
    pub(crate) fn check(
        &self,
        manifests: &Manifests,
        images: &Images,
    ) -> Result<BTreeSet<String>, Problems> {
        let Manifests { mesh, objects } = manifests;
        let mut problems = plugins::check(&objects.wasm_plugins, &self.modules);
        problems.extend(same_names(objects));
        let needed = match images.needed(mesh, objects, &self.services) {
            Ok(needed) => needed,
            Err(found) => {
                problems.extend(found);
                BTreeSet::new()
            }
        };
        Problems::or(problems, needed)
    }
}

/// Pods of one name in two namespaces would be one in events and in the folder of logs.
fn same_names(objects: &Objects) -> Vec<Problem> {
    let deployments = &objects.deployments;
    let repeated = deployments
        .iter()
        .enumerate()
        .filter_map(|(position, deployment)| {
            Some((
                deployments[..position]
                    .iter()
                    .find(|earlier| earlier.name == deployment.name)?,
                deployment,
            ))
        });
    repeated
        .map(|(earlier, deployment)| {
            let message = format!(
                "{:?} is also a Deployment of the namespace {} ({}), and the local mesh tells pods by their names alone; give one \
                 another name",
                deployment.name, earlier.namespace, earlier.source
            );
            deployment.source.problem("metadata.name", message)
        })
        .collect()
}
