//! The manifests: read, and checked for everything that can be known before something is started or changed. The same at the
//! start and at every edit.

use std::collections::BTreeSet;

use tollgate_mesh::model::Role;
use tollgate_mesh::{Level, Manifests, Mesh, Problems};

use super::images::Images;
use crate::check::{labels, names, plugins, trust};

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
        problems.extend(names::shared(objects));
        let doubtful = trust::problems(mesh, objects).into_iter();
        problems.extend(doubtful.filter(|problem| problem.code.level() == Level::Error));
        problems.extend(labels::problems(mesh, objects));
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
