//! From documents to typed objects.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::extensions::WasmPlugin;
use super::meta::ObjectMeta;
use super::networking::{DestinationRule, Gateway, VirtualService};
use super::security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use super::{apps, core, unimplemented};
use crate::problem::{Code, Problem, Problems};
use crate::source::decode::{self, nearest};
use crate::source::field::{FieldPath, Segment};
use crate::source::files::Reading;
use crate::source::{Document, Source, files, yaml};

/// One object of the manifests.
#[derive(Debug, Clone)]
pub struct Object<T> {
    /// Its name.
    pub name: String,
    /// Its namespace, `default` if none is written; empty for a Namespace, which is in none.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// What it says.
    pub spec: T,
    /// Where it says so.
    pub source: Source,
}

/// A kind of objects.
pub trait Resource: DeserializeOwned {
    /// The `kind`.
    const KIND: &'static str;
    /// Every `apiVersion` under which the kind has this form.
    const API_VERSIONS: &'static [&'static str];
    /// Where the fields of this type are.
    const FIELDS: Fields = Fields::Spec;
    /// Whether it belongs to a namespace.
    const NAMESPACED: bool = true;
}

/// Where the fields of a kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// In `spec`, which must be there.
    Spec,
    /// In `spec`, which may be left out.
    OptionalSpec,
    /// Beside `metadata`.
    TopLevel,
}

impl Resource for core::NamespaceSpec {
    const KIND: &'static str = "Namespace";
    const API_VERSIONS: &'static [&'static str] = &["v1"];
    const FIELDS: Fields = Fields::OptionalSpec;
    const NAMESPACED: bool = false;
}

impl Resource for core::ServiceSpec {
    const KIND: &'static str = "Service";
    const API_VERSIONS: &'static [&'static str] = &["v1"];
}

impl Resource for core::ServiceAccount {
    const KIND: &'static str = "ServiceAccount";
    const API_VERSIONS: &'static [&'static str] = &["v1"];
    const FIELDS: Fields = Fields::TopLevel;
}

impl Resource for core::Secret {
    const KIND: &'static str = "Secret";
    const API_VERSIONS: &'static [&'static str] = &["v1"];
    const FIELDS: Fields = Fields::TopLevel;
}

impl Resource for core::ConfigMap {
    const KIND: &'static str = "ConfigMap";
    const API_VERSIONS: &'static [&'static str] = &["v1"];
    const FIELDS: Fields = Fields::TopLevel;
}

impl Resource for apps::DeploymentSpec {
    const KIND: &'static str = "Deployment";
    const API_VERSIONS: &'static [&'static str] = &["apps/v1"];
}

impl Resource for apps::StatefulSetSpec {
    const KIND: &'static str = "StatefulSet";
    const API_VERSIONS: &'static [&'static str] = &["apps/v1"];
}

const NETWORKING: &[&str] = &[
    "networking.istio.io/v1",
    "networking.istio.io/v1beta1",
    "networking.istio.io/v1alpha3",
];

impl Resource for Gateway {
    const KIND: &'static str = "Gateway";
    const API_VERSIONS: &'static [&'static str] = NETWORKING;
}

impl Resource for VirtualService {
    const KIND: &'static str = "VirtualService";
    const API_VERSIONS: &'static [&'static str] = NETWORKING;
}

impl Resource for DestinationRule {
    const KIND: &'static str = "DestinationRule";
    const API_VERSIONS: &'static [&'static str] = NETWORKING;
}

const SECURITY: &[&str] = &["security.istio.io/v1", "security.istio.io/v1beta1"];

impl Resource for PeerAuthentication {
    const KIND: &'static str = "PeerAuthentication";
    const API_VERSIONS: &'static [&'static str] = SECURITY;
    const FIELDS: Fields = Fields::OptionalSpec;
}

impl Resource for RequestAuthentication {
    const KIND: &'static str = "RequestAuthentication";
    const API_VERSIONS: &'static [&'static str] = SECURITY;
    const FIELDS: Fields = Fields::OptionalSpec;
}

impl Resource for AuthorizationPolicy {
    const KIND: &'static str = "AuthorizationPolicy";
    const API_VERSIONS: &'static [&'static str] = SECURITY;
    const FIELDS: Fields = Fields::OptionalSpec;
}

impl Resource for WasmPlugin {
    const KIND: &'static str = "WasmPlugin";
    const API_VERSIONS: &'static [&'static str] = &["extensions.istio.io/v1alpha1"];
}

/// The objects of the manifests, by kind, each kind in the order in which it was read.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// `v1` Namespace.
    pub namespaces: Vec<Object<core::NamespaceSpec>>,
    /// `v1` Service.
    pub services: Vec<Object<core::ServiceSpec>>,
    /// `v1` ServiceAccount.
    pub service_accounts: Vec<Object<core::ServiceAccount>>,
    /// `v1` Secret.
    pub secrets: Vec<Object<core::Secret>>,
    /// `v1` ConfigMap.
    pub config_maps: Vec<Object<core::ConfigMap>>,
    /// `apps/v1` Deployment.
    pub deployments: Vec<Object<apps::DeploymentSpec>>,
    /// `apps/v1` StatefulSet.
    pub stateful_sets: Vec<Object<apps::StatefulSetSpec>>,
    /// `networking.istio.io` Gateway.
    pub gateways: Vec<Object<Gateway>>,
    /// `networking.istio.io` VirtualService.
    pub virtual_services: Vec<Object<VirtualService>>,
    /// `networking.istio.io` DestinationRule.
    pub destination_rules: Vec<Object<DestinationRule>>,
    /// `security.istio.io` PeerAuthentication.
    pub peer_authentications: Vec<Object<PeerAuthentication>>,
    /// `security.istio.io` RequestAuthentication.
    pub request_authentications: Vec<Object<RequestAuthentication>>,
    /// `security.istio.io` AuthorizationPolicy.
    pub authorization_policies: Vec<Object<AuthorizationPolicy>>,
    /// `extensions.istio.io` WasmPlugin.
    pub wasm_plugins: Vec<Object<WasmPlugin>>,
}

/// Every kind that is read.
const KINDS: &[&str] = &[
    core::NamespaceSpec::KIND,
    core::ServiceSpec::KIND,
    core::ServiceAccount::KIND,
    core::Secret::KIND,
    core::ConfigMap::KIND,
    apps::DeploymentSpec::KIND,
    apps::StatefulSetSpec::KIND,
    Gateway::KIND,
    VirtualService::KIND,
    DestinationRule::KIND,
    PeerAuthentication::KIND,
    RequestAuthentication::KIND,
    AuthorizationPolicy::KIND,
    WasmPlugin::KIND,
];

/// Kinds that no object of another refers to.
const LEAVES: [&str; 5] = [
    "AuthorizationPolicy",
    "PeerAuthentication",
    "RequestAuthentication",
    "VirtualService",
    "WasmPlugin",
];

impl Objects {
    /// Reads files, folders with a `kustomization.yaml`, and plain folders.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Problems> {
        Self::collect(files::read(paths))
    }

    /// Reads the text of one file.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        let (documents, problems) = yaml::objects(file, text);
        Self::collect(Reading {
            documents,
            problems,
            ..Reading::default()
        })
    }

    /// Types what was read.
    fn collect(read: Reading) -> Result<Self, Problems> {
        let mut problems = read.problems;
        let (objects, _) = Self::gather(read.documents, &mut problems);
        Problems::or(problems, objects)
    }

    /// Types documents. With problems, the objects are those that had none; and whether no others can refer to those that had some, so that
    /// nothing seems to be missing for lack of them.
    pub(crate) fn gather(
        documents: impl IntoIterator<Item = Document>,
        problems: &mut Vec<Problem>,
    ) -> (Self, bool) {
        let mut objects = Self::default();
        let mut nothing_missing = true;
        // kind, namespace, name → where. The version is left out: it is the same object under all versions.
        let mut seen: HashMap<(String, String, String), Source> = HashMap::new();
        for document in documents {
            let is_leaf = LEAVES.iter().any(|kind| document.value["kind"] == *kind);
            let before = problems.len();
            objects.add(document, &mut seen, problems);
            nothing_missing &= is_leaf || problems.len() == before;
        }
        (objects, nothing_missing)
    }

    fn add(
        &mut self,
        document: Document,
        seen: &mut HashMap<(String, String, String), Source>,
        problems: &mut Vec<Problem>,
    ) {
        let Some((api_version, kind)) = header(&document, problems) else {
            return;
        };
        let source = document.source.clone();
        let added = match kind.as_str() {
            "Namespace" => read(document, &api_version, &mut self.namespaces, problems),
            "Service" => read(document, &api_version, &mut self.services, problems),
            "ServiceAccount" => read(document, &api_version, &mut self.service_accounts, problems),
            "Secret" => read(document, &api_version, &mut self.secrets, problems),
            "ConfigMap" => read(document, &api_version, &mut self.config_maps, problems),
            "Deployment" => read(document, &api_version, &mut self.deployments, problems),
            "StatefulSet" => read(document, &api_version, &mut self.stateful_sets, problems),
            "Gateway" => read(document, &api_version, &mut self.gateways, problems),
            "VirtualService" => read(document, &api_version, &mut self.virtual_services, problems),
            "DestinationRule" => read(
                document,
                &api_version,
                &mut self.destination_rules,
                problems,
            ),
            "PeerAuthentication" => read(
                document,
                &api_version,
                &mut self.peer_authentications,
                problems,
            ),
            "RequestAuthentication" => read(
                document,
                &api_version,
                &mut self.request_authentications,
                problems,
            ),
            "AuthorizationPolicy" => read(
                document,
                &api_version,
                &mut self.authorization_policies,
                problems,
            ),
            "WasmPlugin" => read(document, &api_version, &mut self.wasm_plugins, problems),
            "Kustomization" => {
                problems.push(
                    source
                        .problem(
                            "kind",
                            "a Kustomization is read by its folder, name the folder instead of the file",
                        )
                        .of(Code::Kind),
                );
                None
            }
            _ => {
                let (code, message) = unsupported(&kind);
                problems.push(source.problem("kind", message).of(code));
                None
            }
        };
        let Some((namespace, name)) = added else {
            return;
        };
        let full_name = if namespace.is_empty() {
            name.clone()
        } else {
            format!("{namespace}/{name}")
        };
        if let Some(first) = seen.get(&(kind.clone(), namespace.clone(), name.clone())) {
            let message = format!(
                "{kind} {full_name} is already at {first}, an object may be there only once"
            );
            problems.push(source.problem("metadata.name", message).of(Code::Duplicate));
        } else {
            seen.insert((kind, namespace, name), source);
        }
    }
}

/// `apiVersion` and `kind`.
fn header(document: &Document, problems: &mut Vec<Problem>) -> Option<(String, String)> {
    let source = &document.source;
    let Value::Object(fields) = &document.value else {
        let message = format!(
            "{} is not a manifest, write apiVersion, kind, metadata and spec",
            decode::describe(&document.value)
        );
        problems.push(source.problem("", message).of(Code::Kind));
        return None;
    };
    let mut text = |name: &str, example: &str| match fields.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        None | Some(Value::Null) => {
            let message = format!("is missing, write {example}");
            problems.push(source.problem(name, message).of(Code::MissingField));
            None
        }
        Some(other) => {
            problems.push(source.invalid(
                name,
                format!("is {}, write {example}", decode::describe(other)),
            ));
            None
        }
    };
    let api_version = text("apiVersion", "the object's version, such as \"apps/v1\"");
    let kind = text("kind", "the object's kind, such as \"Deployment\"");
    Some((api_version?, kind?))
}

fn unsupported(kind: &str) -> (Code, String) {
    if !unimplemented::KINDS.contains(&kind)
        && let Some(known) = nearest(kind, KINDS.iter().copied())
    {
        let message = format!("there is no kind {kind}, did you mean {known}?");
        return (Code::Kind, message);
    }
    let message = format!(
        "kind {kind} is not supported by the local mesh yet; it knows {}",
        KINDS.join(", ")
    );
    (Code::Unimplemented, message)
}

/// Types one document and adds it; its namespace and name if that went well.
fn read<T: Resource>(
    document: Document,
    api_version: &str,
    into: &mut Vec<Object<T>>,
    problems: &mut Vec<Problem>,
) -> Option<(String, String)> {
    let Document { value, source } = document;
    let Value::Object(mut fields) = value else {
        return None;
    };
    if !T::API_VERSIONS.contains(&api_version) {
        let versions = T::API_VERSIONS.join(" or ");
        problems.push(source.unimplemented(
            "apiVersion",
            format!(
                "{} of {api_version} is not supported by the local mesh yet, only of {versions}",
                T::KIND
            ),
        ));
        return None;
    }
    fields.remove("apiVersion");
    fields.remove("kind");
    let metadata = fields.remove("metadata").unwrap_or_default();
    // Written by the cluster, and in what `kubectl get -o yaml` prints.
    fields.remove("status");
    let before = problems.len();
    let metadata: Option<ObjectMeta> =
        decode::decode(metadata, "metadata", "ObjectMeta", &source, problems);
    let spec: Option<T> = if T::FIELDS == Fields::TopLevel {
        decode::decode(Value::Object(fields), "", T::KIND, &source, problems)
    } else {
        let spec = match fields.remove("spec").unwrap_or_default() {
            Value::Null if T::FIELDS == Fields::OptionalSpec => {
                Value::Object(serde_json::Map::new())
            }
            spec => spec,
        };
        for (name, _) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
            let path = FieldPath::new(vec![Segment::Key(name.clone())]);
            let known = ["apiVersion", "kind", "metadata", "spec"];
            let (code, message) = decode::unknown_field(T::KIND, &name, &known);
            problems.push(source.problem_at(&path, message).of(code));
        }
        decode::decode(spec, "spec", T::KIND, &source, problems)
    };
    let metadata = metadata?;
    if !is_name(&metadata.name) {
        problems.push(source.invalid("metadata.name", bad_name(&metadata.name)));
    }
    if let Some(namespace) = metadata
        .namespace
        .as_deref()
        .filter(|name| !name.is_empty() && !is_name(name))
    {
        problems.push(source.invalid("metadata.namespace", bad_name(namespace)));
    }
    if !T::NAMESPACED && metadata.namespace.is_some() {
        problems.push(source.invalid(
            "metadata.namespace",
            format!("a {} is in no namespace, leave it out", T::KIND),
        ));
    }
    let spec = spec.filter(|_| problems.len() == before)?;
    let namespace = match metadata.namespace {
        _ if !T::NAMESPACED => String::new(),
        Some(namespace) if !namespace.is_empty() => namespace,
        _ => "default".to_owned(),
    };
    let key = (namespace.clone(), metadata.name.clone());
    into.push(Object {
        name: metadata.name,
        namespace,
        labels: metadata.labels,
        annotations: metadata.annotations,
        spec,
        source,
    });
    Some(key)
}

/// Whether Kubernetes takes it as a name. Names become parts of paths and host names, so this is more than tidiness.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let word = |word: &str| {
        word.bytes().all(|byte| inner(byte) || byte == b'-')
            && word.bytes().next().is_some_and(inner)
            && word.bytes().next_back().is_some_and(inner)
    };
    name.len() <= 253 && name.split('.').all(word)
}

fn bad_name(name: &str) -> String {
    format!("{name:?} is not a name, write lower-case letters, digits and \"-\"")
}
