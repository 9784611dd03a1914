//! What ships in `wasm-plugins/`, for the tests of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tollgate_common::{Problems, schema};
use tollgate_mesh::api::extensions::WasmPlugin;
use tollgate_mesh::api::{Object, Objects};

/// A plugin.
pub(crate) struct Plugin {
    /// The name of its folder.
    pub(crate) name: &'static str,
    /// Its filter's own parser.
    pub(crate) check: fn(&[u8]) -> Result<(), Problems>,
    /// The schema of its configuration, from the types that this parser reads.
    pub(crate) schema: fn(&str) -> Value,
}

pub(crate) const PLUGINS: [Plugin; 4] = [
    Plugin {
        name: "business-metrics",
        check: business_metrics::check,
        schema: schema::of::<business_metrics::Config>,
    },
    Plugin {
        name: "tenant-rate-limit",
        check: tenant_rate_limit::check,
        schema: schema::of::<tenant_rate_limit::Config>,
    },
    Plugin {
        name: "tollgate",
        check: tollgate_bundle::check,
        schema: schema::of::<tollgate_bundle::Config>,
    },
    Plugin {
        name: "user-classifier",
        check: user_classifier::check,
        schema: schema::of::<user_classifier::Config>,
    },
];

impl Plugin {
    pub(crate) fn folder(&self) -> PathBuf {
        repository().join("wasm-plugins").join(self.name)
    }

    pub(crate) fn readme(&self) -> String {
        read(&self.folder().join("README.md"))
    }

    /// The schema of its configuration.
    pub(crate) fn schema(&self) -> Value {
        (self.schema)(self.name)
    }

    /// Every configuration that a reader may copy: its examples, and what the manifests of the shop ship in either form. By where it is.
    pub(crate) fn configurations(&self) -> Vec<(String, Value)> {
        let name = self.name;
        let mut found = Vec::new();
        let examples = self.folder().join("examples");
        for example in names(&examples) {
            // An example is a pluginConfig, so it is read as one.
            let mut manifest = format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: example, namespace: example}}\n\
                 spec:\n  url: oci://ghcr.io/tollgate/{name}:1\n  pluginConfig:\n"
            );
            for line in read(&examples.join(&example)).lines() {
                manifest += &format!("    {line}\n");
            }
            let place = format!("{name}/examples/{example}");
            let example = objects(Path::new(&place), &manifest).wasm_plugins;
            found.extend(
                example
                    .iter()
                    .map(|plugin| (place.clone(), configuration(plugin))),
            );
        }
        let modules = [name.to_owned(), format!("{name}-bodies")];
        for form in FORMS {
            let shop = load(&repository().join(form)).wasm_plugins;
            let shipped = shop
                .iter()
                .filter(|plugin| modules.contains(&module(plugin)))
                .map(|plugin| {
                    let file = plugin.source.file().display();
                    (
                        format!("{file} ({})", plugin.namespace),
                        configuration(plugin),
                    )
                });
            found.extend(shipped);
        }
        found
    }
}

/// The shop with three modules, and with the bundle: folders of the repository.
pub(crate) const FORMS: [&str; 2] = ["", "istio/overlays/bundle"];

/// The manifests of a folder.
pub(crate) fn load(folder: &Path) -> Objects {
    Objects::load(&[folder.to_owned()]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What a plugin is told.
pub(crate) fn configuration(plugin: &Object<WasmPlugin>) -> Value {
    Value::Object(plugin.spec.plugin_config.clone().unwrap_or_default())
}

/// The name of its module, as its `url` ends: `oci://ghcr.io/tollgate/tollgate:0.1.0`.
fn module(plugin: &Object<WasmPlugin>) -> String {
    let image = plugin.spec.url.rsplit('/').next().unwrap_or_default();
    let name = image.split(':').next().unwrap_or_default();
    name.to_owned()
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of a folder's entries, in order.
pub(crate) fn names(folder: &Path) -> BTreeSet<String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

pub(crate) fn objects(file: &Path, text: &str) -> Objects {
    Objects::parse(file, text).unwrap_or_else(|problems| panic!("{problems}"))
}
