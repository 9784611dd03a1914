//! Names that are different on a cluster and the same here.

use tollgate_mesh::Problem;
use tollgate_mesh::api::Objects;

/// Pods of one name in two namespaces would be one in events and in the folder of logs.
pub(crate) fn shared(objects: &Objects) -> Vec<Problem> {
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
            deployment.source.unimplemented("metadata.name", message)
        })
        .collect()
}
