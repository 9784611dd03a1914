//! What a running proxy can be told by itself: each part of its configuration that it reads from a file of its own, and goes on
//! watching.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    CLUSTER, CLUSTERS_FILE, EXTENSION, LISTENER, LISTENERS_FILE, ProxyConfiguration,
    ROUTE_CONFIGURATION, extension_file, response, route_file, version,
};

/// A part of a proxy's configuration that is replaced by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subscription {
    /// CDS.
    Clusters,
    /// LDS.
    Listeners,
    /// RDS, one for each route configuration.
    Routes(String),
    /// ECDS, one for each plugin.
    Extension(String),
}

impl Subscription {
    /// The file that the proxy watches, where its files are in `directory`.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Clusters => CLUSTERS_FILE.to_owned(),
            Self::Listeners => LISTENERS_FILE.to_owned(),
            Self::Routes(name) => route_file(name),
            Self::Extension(name) => extension_file(name),
        })
    }

    /// What the file holds when it tells of these resources, of which this is the [version](Self::version).
    pub fn text(&self, resources: &[Value], version: &str) -> String {
        response(self.type_url(), resources, version)
    }

    /// The version of that, as Envoy shows it once it has taken it.
    pub fn version(&self, resources: &[Value]) -> String {
        version(resources)
    }

    fn type_url(&self) -> &'static str {
        match self {
            Self::Clusters => CLUSTER,
            Self::Listeners => LISTENER,
            Self::Routes(_) => ROUTE_CONFIGURATION,
            Self::Extension(_) => EXTENSION,
        }
    }
}

impl ProxyConfiguration {
    /// Everything that the proxy watches, of which each is a file.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let routes = self.routes.keys().cloned().map(Subscription::Routes);
        let extensions = self.extensions.keys().cloned().map(Subscription::Extension);
        [Subscription::Clusters, Subscription::Listeners]
            .into_iter()
            .chain(routes)
            .chain(extensions)
            .collect()
    }

    /// What it says to one subscription; nothing if it has none of that name.
    pub fn resources(&self, subscription: &Subscription) -> &[Value] {
        match subscription {
            Subscription::Clusters => &self.clusters,
            Subscription::Listeners => &self.listeners,
            Subscription::Routes(name) => self.routes.get(name).map_or(&[], std::slice::from_ref),
            Subscription::Extension(name) => {
                self.extensions.get(name).map_or(&[], std::slice::from_ref)
            }
        }
    }
}
