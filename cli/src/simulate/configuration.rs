//! The limits that are replayed: a pluginConfig by itself, or the one of manifests.

use std::path::Path;

use anyhow::{anyhow, bail};
use serde_json::Value;
use tollgate_mesh::source::Document;

use crate::build::variant;
use crate::check::plugins;
use crate::console::shown;

/// The filter that is asked.
const FILTER: &str = "tenant-rate-limit";

/// Where the bundle has its configuration.
const SECTION: &str = "tenantRateLimit";

/// The configuration in a file or in manifests, once its filter takes it.
pub(crate) fn read(path: &Path, namespace: &str) -> anyhow::Result<Value> {
    let name = shown(path.display());
    let found = tollgate_mesh::documents(&[path.to_owned()]);
    if !found.problems.is_empty() {
        bail!("{}", lines(&found.problems));
    }
    let objects = found
        .documents
        .iter()
        .any(|document| document.value.get("kind").is_some());
    let (document, field, configuration) = if objects {
        of_manifests(&name, &found.documents, namespace)?
    } else {
        match found.documents.as_slice() {
            [] => bail!("{name} is empty, write the configuration of {FILTER}"),
            [one] => match one.value.get(SECTION) {
                Some(section) => (one, SECTION, section),
                None => (one, "", &one.value),
            },
            several => bail!("{name} has {} documents, and one is needed", several.len()),
        }
    };
    let problems = plugins::refused(FILTER, Some(configuration), &document.source, field);
    if !problems.is_empty() {
        bail!("{}", lines(&problems));
    }
    Ok(configuration.clone())
}

fn lines(problems: &[tollgate_mesh::Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(shown).collect();
    lines.join("\n")
}

/// The limiter's configuration in a namespace, be it a plugin of its own or a section of the bundle.
fn of_manifests<'a>(
    name: &str,
    documents: &'a [Document],
    namespace: &str,
) -> anyhow::Result<(&'a Document, &'static str, &'a Value)> {
    let mut found = Vec::new();
    let mut elsewhere = Vec::new();
    for document in documents {
        let Some((field, configuration)) = of_plugin(&document.value) else {
            continue;
        };
        match document.value["metadata"]["namespace"]
            .as_str()
            .unwrap_or("default")
        {
            here if here == namespace => found.push((document, field, configuration)),
            other => elsewhere.push(other),
        }
    }
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (Some(_), more) => Err(anyhow!(
            "{} configurations of {FILTER} are in the namespace {namespace} of {name}, name the file of one",
            more + 1
        )),
        (None, _) if elsewhere.is_empty() => Err(anyhow!(
            "no WasmPlugin of {name} has a configuration of {FILTER}"
        )),
        (None, _) => Err(anyhow!(
            "no configuration of {FILTER} is in the namespace {namespace} of {name}, name another with --namespace: {}",
            elsewhere.join(", ")
        )),
    }
}

fn of_plugin(object: &Value) -> Option<(&'static str, &Value)> {
    if object.get("kind")? != "WasmPlugin" {
        return None;
    }
    let spec = object.get("spec")?;
    let configuration = spec.get("pluginConfig")?;
    match variant::plugin(plugins::module(spec.get("url")?.as_str()?)) {
        FILTER => Some(("spec.pluginConfig", configuration)),
        "tollgate" => Some((
            "spec.pluginConfig.tenantRateLimit",
            configuration.get(SECTION)?,
        )),
        _ => None,
    }
}
