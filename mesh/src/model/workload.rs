//! Workloads: what Deployments and StatefulSets run, with or without a proxy of Istio's, and as whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::buckets;
use super::host::CLUSTER_DOMAIN;
use super::peer::MutualTls;
use super::proxy_config;
use super::quoted_list;
use super::stats;
use super::topology::{self, Topology};
use crate::api::apps::{DeploymentSpec, PodTemplateSpec, StatefulSetSpec};
use crate::api::core::{KeySelector, NamespaceSpec};
use crate::api::mesh::ProxyStatsMatcher;
use crate::api::meta::LabelSelector;
use crate::api::{self, IntOrString, Object, Objects};
use crate::problem::Problem;
use crate::source::{Source, join};

/// The variable that says where a program's database is. What a Secret has for it is the cluster's database, and whoever runs
/// the program elsewhere names another one: that Secret, with its password, need not be among the manifests.
pub const DATABASE_URL: &str = "DATABASE_URL";

/// A Deployment or StatefulSet and its pods.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The label `app` of its pods, or its name if they have none.
    pub app: String,
    /// The label `version` of its pods.
    pub version: Option<String>,
    /// The labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// The annotations of its pods.
    pub annotations: BTreeMap<String, String>,
    /// Whose identity its pods have.
    pub service_account: String,
    /// How many pods it has.
    pub replicas: u32,
    /// The programs of each pod. The proxy is not one of them.
    pub containers: Vec<Container>,
    /// What the manifest adds to the environment of its proxy, in a container `istio-proxy`.
    pub proxy_env: Vec<(String, String)>,
    /// What Istio makes of its pods.
    pub role: Role,
    /// At a gateway, the ports to listen on: those of the Gateways, translated as Istio does by the Service in front of the
    /// pods (80 to its target port 8080, say).
    pub gateway_ports: Vec<u16>,
    /// At a gateway, what it believes of what stands before it.
    pub topology: Topology,
    /// What its pods' `proxy.istio.io/config` has their proxies export; see [`exported_stats`](Self::exported_stats).
    pub(crate) stats: ProxyStatsMatcher,
    /// The names that it makes labels; see [`extra_stat_tags`](Self::extra_stat_tags).
    pub(crate) stat_tags: Vec<String>,
    /// What its sidecar demands of who connects.
    pub mutual_tls: MutualTls,
}

/// The name of a proxy's container.
pub const PROXY: &str = "istio-proxy";

/// What Istio makes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A proxy beside the application, for what comes in and what goes out.
    Sidecar,
    /// A proxy alone.
    Gateway,
    /// No proxy.
    Plain,
}

/// One program of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: Image,
    /// Its environment, in the order of the manifest, references (`$(NAME)`) replaced.
    pub env: Vec<(String, String)>,
    /// Which of its variables have their value from a Secret. A [`DATABASE_URL`] whose Secret is not there is in here alone.
    pub secret_env: BTreeSet<String>,
    /// What replaces the image's entrypoint; empty for the entrypoint itself.
    pub command: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// The ports it listens on.
    pub ports: Vec<ContainerPort>,
    /// The request that it answers when it is ready.
    pub readiness: Option<HttpProbe>,
}

/// The image of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As written.
    pub reference: String,
    /// The last segment of its path, without tag and digest.
    pub name: String,
    /// Its tag; `latest` if none is written.
    pub tag: String,
}

impl Image {
    fn parse(reference: &str) -> Self {
        let without_digest = reference.split('@').next().unwrap_or_default();
        let last = without_digest.rsplit('/').next().unwrap_or_default();
        let (name, tag) = last.split_once(':').unwrap_or((last, "latest"));
        Self {
            reference: reference.to_owned(),
            name: name.to_owned(),
            tag: tag.to_owned(),
        }
    }
}

/// A port that a container listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// By which Services and probes may refer to it.
    pub name: Option<String>,
    /// The port.
    pub number: u16,
}

/// A request for the health of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// The path.
    pub path: String,
    /// The container's port.
    pub port: u16,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name: that of its Deployment and a number, from 0.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Workload {
    /// Its pods.
    pub fn pods(&self) -> Vec<PodName> {
        let pod = |index| PodName {
            namespace: self.namespace.clone(),
            name: format!("{}-{index}", self.name),
        };
        (0..self.replicas).map(pod).collect()
    }

    /// The name in its certificates.
    pub fn identity(&self) -> String {
        format!(
            "spiffe://{CLUSTER_DOMAIN}/ns/{}/sa/{}",
            self.namespace, self.service_account
        )
    }

    /// All ports that its containers listen on, ascending.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .containers
            .iter()
            .flat_map(|container| &container.ports)
            .map(|port| port.number)
            .collect();
        ports.sort_unstable();
        ports
    }

    /// The names that become labels of Wasm metrics: Envoy knows only those it was told at its start.
    pub fn extra_stat_tags(&self) -> Vec<&str> {
        let mut tags: Vec<&str> = Vec::new();
        let annotation = self
            .annotations
            .get(EXTRA_STAT_TAGS)
            .map(String::as_str)
            .unwrap_or_default();
        // Istio's order: those of the configuration, then those of the annotation.
        let configured = self.stat_tags.iter().map(String::as_str);
        let all = configured.chain(annotation.split(','));
        for tag in all.filter(|tag| !tag.is_empty()) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        tags
    }

    /// The container port by number or name, as Services and probes refer to it.
    pub(crate) fn port(&self, port: &IntOrString) -> Option<u16> {
        let ports = self
            .containers
            .iter()
            .flat_map(|container| &container.ports);
        find_port(ports, port)
    }

    /// For messages: `http (3001), metrics (9090)`.
    pub(crate) fn port_names(&self) -> String {
        port_names(
            self.containers
                .iter()
                .flat_map(|container| &container.ports),
        )
    }
}

fn find_port<'a>(
    mut ports: impl Iterator<Item = &'a ContainerPort>,
    wanted: &IntOrString,
) -> Option<u16> {
    let found = match wanted {
        IntOrString::Int(number) => ports.find(|port| i64::from(port.number) == *number),
        IntOrString::String(name) => ports.find(|port| port.name.as_deref() == Some(name)),
    };
    found.map(|port| port.number)
}

fn port_names<'a>(ports: impl Iterator<Item = &'a ContainerPort>) -> String {
    let names: Vec<String> = ports
        .map(|port| match &port.name {
            Some(name) => format!("{name} ({})", port.number),
            None => port.number.to_string(),
        })
        .collect();
    if names.is_empty() {
        "no ports".to_owned()
    } else {
        names.join(", ")
    }
}

const INJECT: &str = "sidecar.istio.io/inject";
const TEMPLATES: &str = "inject.istio.io/templates";
const EXTRA_STAT_TAGS: &str = "sidecar.istio.io/extraStatTags";
pub(crate) const STATS_FLUSH_INTERVAL: &str = "sidecar.istio.io/statsFlushInterval";

/// Annotations and labels of pods by which Istio is told things that this library honours, or that change nothing on one
/// machine: how much the proxy may use, and what it logs.
const KNOWN: [&str; 16] = [
    INJECT,
    proxy_config::ANNOTATION,
    TEMPLATES,
    EXTRA_STAT_TAGS,
    STATS_FLUSH_INTERVAL,
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyMemoryLimit",
    "sidecar.istio.io/logLevel",
    stats::PREFIXES,
    stats::SUFFIXES,
    stats::EXPRESSIONS,
    buckets::ANNOTATION,
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
];

/// What Deployments and StatefulSets have in common.
#[derive(Clone, Copy)]
struct Described<'a> {
    kind: &'static str,
    name: &'a str,
    namespace: &'a str,
    source: &'a Source,
    replicas: Option<u32>,
    selector: &'a LabelSelector,
    template: &'a PodTemplateSpec,
    /// Whether its containers run on this machine.
    runs: bool,
}

pub(crate) fn of_deployment(
    object: &Object<DeploymentSpec>,
    objects: &Objects,
    problems: &mut Vec<Problem>,
) -> Workload {
    let described = Described {
        kind: "Deployment",
        name: &object.name,
        namespace: &object.namespace,
        source: &object.source,
        replicas: object.spec.replicas,
        selector: &object.spec.selector,
        template: &object.spec.template,
        runs: true,
    };
    build(described, objects, problems)
}

pub(crate) fn of_stateful_set(
    object: &Object<StatefulSetSpec>,
    objects: &Objects,
    problems: &mut Vec<Problem>,
) -> Workload {
    let described = Described {
        kind: "StatefulSet",
        name: &object.name,
        namespace: &object.namespace,
        source: &object.source,
        replicas: object.spec.replicas,
        selector: &object.spec.selector,
        template: &object.spec.template,
        runs: false,
    };
    build(described, objects, problems)
}

fn build(described: Described<'_>, objects: &Objects, problems: &mut Vec<Problem>) -> Workload {
    let Described {
        source, template, ..
    } = described;
    let (labels, annotations) = (&template.metadata.labels, &template.metadata.annotations);

    if described.selector.match_labels.is_empty() || !described.selector.matches(labels) {
        problems.push(source.problem(
            "spec.selector.matchLabels",
            format!(
                "does not select the pods of this {}'s own template; write the template's labels here",
                described.kind
            ),
        ));
    }
    for (kind, entries) in [("labels", labels), ("annotations", annotations)] {
        for name in entries
            .keys()
            .filter(|name| is_of_istio(name) && !KNOWN.contains(&name.as_str()))
        {
            problems.push(source.unimplemented(
                &join(&format!("spec.template.metadata.{kind}"), name),
                "is not implemented by the local mesh; remove it to go on without what it does",
            ));
        }
    }
    buckets::check(source, annotations, problems);
    if template.spec.enable_service_links == Some(true) {
        problems.push(source.unimplemented(
            "spec.template.spec.enableServiceLinks",
            "is not implemented by the local mesh; write false, and name Services by their host \
             names",
        ));
    }

    let namespace = objects
        .namespaces
        .iter()
        .find(|namespace| namespace.name == described.namespace);
    let role = role(described, namespace, problems);
    let field = join(
        "spec.template.metadata.annotations",
        proxy_config::ANNOTATION,
    );
    let written = annotations.get(proxy_config::ANNOTATION);
    let config = written.and_then(|text| proxy_config::read(source, &field, text, problems));
    let config = config.unwrap_or_default();
    let matcher = config.proxy_stats_matcher.clone().unwrap_or_default();
    stats::check(source, annotations, &matcher, problems);
    check_stat_tags(source, annotations, &config.extra_stat_tags, problems);
    let topology = topology::of(&config, source, &field, role, problems);
    let mut containers: Vec<Container> = template
        .spec
        .containers
        .iter()
        .enumerate()
        .map(|(index, container)| {
            let field = format!("spec.template.spec.containers[{index}]");
            build_container(container, &field, described, objects, problems)
        })
        .collect();
    // A container of that name only says how the injected proxy should differ; of that, its environment reaches modules.
    let is_proxy = |container: &Container| role != Role::Plain && container.name == PROXY;
    let proxy_env = containers.iter().position(is_proxy);
    let proxy_env = proxy_env.map(|position| containers.remove(position).env);
    let mut seen: BTreeMap<u16, &str> = BTreeMap::new();
    for container in &containers {
        for port in &container.ports {
            if let Some(other) = seen.insert(port.number, &container.name) {
                problems.push(source.problem(
                    "spec.template.spec.containers",
                    format!(
                        "the containers {other} and {} of one pod both listen on port {}",
                        container.name, port.number
                    ),
                ));
            }
        }
    }

    Workload {
        name: described.name.to_owned(),
        namespace: described.namespace.to_owned(),
        app: labels
            .get("app")
            .map_or(described.name, String::as_str)
            .to_owned(),
        version: labels.get("version").cloned(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        service_account: template
            .spec
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
        replicas: described.replicas.unwrap_or(1),
        containers,
        proxy_env: proxy_env.unwrap_or_default(),
        role,
        gateway_ports: Vec::new(),
        topology,
        stats: matcher,
        stat_tags: config.extra_stat_tags,
        mutual_tls: MutualTls::Permissive,
    }
}

/// Tells labels whose names are none. Istio writes each into a regular expression as it is, so Envoy would not start with some, and would never find others.
fn check_stat_tags(
    source: &Source,
    annotations: &BTreeMap<String, String>,
    configured: &[String],
    problems: &mut Vec<Problem>,
) {
    let field = |annotation| join("spec.template.metadata.annotations", annotation);
    for (index, tag) in configured.iter().enumerate() {
        if let Some(wrong) = wrong_stat_tag(tag) {
            let message = format!("extraStatTags[{index}]: {wrong}");
            problems.push(source.invalid(&field(proxy_config::ANNOTATION), message));
        }
    }
    let annotation = annotations.get(EXTRA_STAT_TAGS).map_or("", String::as_str);
    for wrong in annotation.split(',').filter_map(wrong_stat_tag) {
        problems.push(source.invalid(&field(EXTRA_STAT_TAGS), wrong));
    }
}

/// Why a label cannot have this name. Istio passes over empty ones.
fn wrong_stat_tag(tag: &str) -> Option<String> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins_with_digit = |name: &str| name.starts_with(|c: char| c.is_ascii_digit());
    if tag.chars().all(is_of_word) && !begins_with_digit(tag) {
        return None;
    }
    let mut instead = tag
        .trim_matches(|c| !is_of_word(c))
        .replace(|c| !is_of_word(c), "_");
    if begins_with_digit(&instead) {
        instead.insert(0, '_');
    }
    let advice = match instead.as_str() {
        "" => "leave it out".to_owned(),
        instead => format!("write {instead:?}"),
    };
    Some(format!(
        "{tag:?} is not the name of a label, which has letters, digits and _ alone and does not begin with a digit; {advice}"
    ))
}

fn is_of_istio(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(prefix, _)| prefix == "istio.io" || prefix.ends_with(".istio.io"))
}

/// As the injection webhook decides: a pod's label `sidecar.istio.io/inject` wins over its namespace's `istio-injection`,
/// except that nothing is injected into a namespace that says `disabled`.
fn role(
    described: Described<'_>,
    namespace: Option<&Object<NamespaceSpec>>,
    problems: &mut Vec<Problem>,
) -> Role {
    let source = described.source;
    let template = &described.template.metadata;
    let of_namespace = namespace
        .and_then(|namespace| namespace.labels.get("istio-injection"))
        .map(String::as_str);
    let of_pod = template.labels.get(INJECT).map(String::as_str);
    let injected = match (of_namespace, of_pod) {
        (Some("enabled"), _) => of_pod != Some("false"),
        (None, Some("true")) => true,
        _ => false,
    } && template
        .annotations
        .get(INJECT)
        .is_none_or(|inject| inject != "false" || of_pod == Some("true"));

    let templates = template.annotations.get(TEMPLATES).map(String::as_str);
    let field = join("spec.template.metadata.annotations", TEMPLATES);
    match templates {
        None | Some("sidecar") if injected => Role::Sidecar,
        Some("gateway") if injected => Role::Gateway,
        Some(template) if injected => {
            problems.push(source.unimplemented(
                &field,
                format!("the template {template:?} is not implemented by the local mesh; write gateway or sidecar"),
            ));
            Role::Sidecar
        }
        Some(_) => {
            problems.push(source.problem(
                &field,
                format!(
                    "has no effect: nothing is injected into this pod. Label it {INJECT}: \"true\", or its namespace {} \
                     istio-injection: enabled",
                    described.namespace
                ),
            ));
            Role::Plain
        }
        None => Role::Plain,
    }
}

/// What namespaces say about injection that the local mesh does not know.
pub(crate) fn check_namespace(namespace: &Object<NamespaceSpec>, problems: &mut Vec<Problem>) {
    for name in namespace.labels.keys().filter(|name| is_of_istio(name)) {
        problems.push(namespace.source.unimplemented(
            &join("metadata.labels", name),
            "is not implemented by the local mesh; write istio-injection: enabled for sidecars",
        ));
    }
}

fn build_container(
    container: &api::core::Container,
    field: &str,
    described: Described<'_>,
    objects: &Objects,
    problems: &mut Vec<Problem>,
) -> Container {
    let source = described.source;
    let image = Image::parse(&container.image);
    if image.name.is_empty() {
        problems.push(source.invalid(
            &format!("{field}.image"),
            format!("{:?} names no image", container.image),
        ));
    }
    let ports: Vec<ContainerPort> = container
        .ports
        .iter()
        .map(|port| ContainerPort {
            name: port.name.clone(),
            number: port.container_port,
        })
        .collect();
    for (name, probe) in [
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        let ways = [
            probe.http_get.is_some(),
            probe.exec.is_some(),
            probe.tcp_socket.is_some(),
        ];
        if ways.iter().filter(|way| **way).count() != 1 {
            problems.push(source.invalid(
                &format!("{field}.{name}"),
                "must have one of httpGet, exec and tcpSocket",
            ));
        } else if probe.http_get.is_none() && name == "readinessProbe" && described.runs {
            problems.push(source.unimplemented(
                &format!("{field}.{name}"),
                "the local mesh asks containers whether they are ready only by HTTP; write httpGet",
            ));
        }
    }
    let probe = container.readiness_probe.as_ref();
    let readiness = probe.and_then(|probe| probe.http_get.as_ref());
    let readiness = readiness.and_then(|get| {
        let port = find_port(ports.iter(), &get.port);
        if port.is_none() {
            problems.push(source.problem(
                &format!("{field}.readinessProbe.httpGet.port"),
                format!(
                    "{} is not a port of this container, which has {}",
                    get.port,
                    port_names(ports.iter())
                ),
            ));
        }
        let path = get.path.clone().unwrap_or_else(|| "/".to_owned());
        port.map(|port| HttpProbe { path, port })
    });
    let mut env: Vec<(String, String)> = Vec::new();
    let mut secret_env = BTreeSet::new();
    // The Secret that has the database's URL, if it is not there, and what is written with that URL nevertheless.
    let mut elsewhere: Option<&str> = None;
    let mut unknown: Vec<(String, &str)> = Vec::new();
    for (index, variable) in container.env.iter().enumerate() {
        let place = format!("env[{index}]");
        let field = format!("{field}.{place}.valueFrom");
        let value = match (&variable.value, &variable.value_from) {
            (Some(_), Some(_)) => {
                problems.push(source.invalid(&field, "is beside a value, write only one of them"));
                continue;
            }
            (value, None) => expand(value.as_deref().unwrap_or_default(), &env),
            (None, Some(from)) => {
                if let Some(wanted) = &from.secret_key_ref
                    && secret(wanted, described.namespace, objects).is_none()
                    && (variable.name == DATABASE_URL || !described.runs)
                {
                    env.retain(|(name, _)| *name != variable.name);
                    secret_env.insert(variable.name.clone());
                    if variable.name == DATABASE_URL && described.runs {
                        elsewhere = Some(&wanted.name);
                    }
                    continue;
                }
                let looked_up = look_up(from, described.namespace, objects);
                match looked_up {
                    Ok(Some(value)) => value,
                    Ok(None) => continue,
                    Err((inside, message)) => {
                        problems.push(source.problem(&format!("{field}{inside}"), message));
                        continue;
                    }
                }
            }
        };
        let of_secret = variable
            .value_from
            .as_ref()
            .is_some_and(|from| from.secret_key_ref.is_some());
        if variable.name == DATABASE_URL {
            elsewhere = None;
        }
        let names_database = variable.value.as_deref().is_some_and(names_database);
        if let Some(secret) = elsewhere.filter(|_| names_database) {
            unknown.push((format!("{place}.value"), secret));
        }
        if of_secret {
            secret_env.insert(variable.name.clone());
        } else {
            secret_env.remove(&variable.name);
        }
        env.retain(|(name, _)| *name != variable.name);
        env.push((variable.name.clone(), value));
    }
    for (name, words) in [("command", &container.command), ("args", &container.args)] {
        let words = words.iter().enumerate();
        let found = words.filter(|(_, word)| names_database(word));
        unknown
            .extend(found.filter_map(|(index, _)| Some((format!("{name}[{index}]"), elsewhere?))));
    }
    for (place, secret) in unknown {
        let message = format!(
            "$({DATABASE_URL}) is of the Secret {secret}, which is not among the manifests; add it to them, or write this \
             without $({DATABASE_URL})"
        );
        problems.push(source.problem(&format!("{field}.{place}"), message));
    }
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, &env)).collect();
    Container {
        name: container.name.clone(),
        image,
        command: expanded(&container.command),
        args: expanded(&container.args),
        env,
        secret_env,
        ports,
        readiness,
    }
}

/// Whether a text has the value of [`DATABASE_URL`] in it.
fn names_database(text: &str) -> bool {
    expand(text, &[(DATABASE_URL.to_owned(), String::new())]) != expand(text, &[])
}

/// The value of a Secret or ConfigMap; `None` if it is not there and need not be. A problem is at a field further in.
fn look_up(
    from: &api::core::EnvVarSource,
    namespace: &str,
    objects: &Objects,
) -> Result<Option<String>, (&'static str, String)> {
    /// The values of an object, those that are text and those that are not.
    type Values<'a> = (BTreeMap<&'a str, &'a str>, BTreeSet<&'a str>);
    let not_text = |key: &str| {
        format!("the value of {key:?} is not text (UTF-8, without NUL), which a variable has to be")
    };
    let find = |kind: &str,
                place: (&'static str, &'static str),
                wanted: &KeySelector,
                found: Option<Values<'_>>| {
        let Some((texts, others)) = found else {
            if wanted.optional {
                return Ok(None);
            }
            return Err((
                place.0,
                format!(
                    "the {kind} {} of the namespace {namespace} is not among the manifests, and its values are taken from \
                     nowhere else; add it to them, with the key {:?}",
                    wanted.name, wanted.key
                ),
            ));
        };
        let key = wanted.key.as_str();
        match texts.get(key) {
            Some(text) if text.contains('\0') => Err((place.1, not_text(key))),
            Some(text) => Ok(Some((*text).to_owned())),
            None if others.contains(key) => Err((place.1, not_text(key))),
            None if wanted.optional => Ok(None),
            None => Err((
                place.1,
                format!(
                    "the {kind} {} has no {key:?}, it has {}",
                    wanted.name,
                    quoted_list(texts.keys().chain(&others))
                ),
            )),
        }
    };
    match (&from.secret_key_ref, &from.config_map_key_ref) {
        (Some(wanted), None) => {
            let values = secret(wanted, namespace, objects).map(|secret| {
                let (mut texts, mut others) = (BTreeMap::new(), BTreeSet::new());
                for (key, bytes) in &secret.spec.data {
                    match std::str::from_utf8(&bytes.0) {
                        Ok(text) => _ = texts.insert(key.as_str(), text),
                        Err(_) => _ = others.insert(key.as_str()),
                    }
                }
                for (key, text) in &secret.spec.string_data {
                    texts.insert(key, text);
                }
                (texts, others)
            });
            let place = (".secretKeyRef.name", ".secretKeyRef.key");
            find("Secret", place, wanted, values)
        }
        (None, Some(wanted)) => {
            let map = objects
                .config_maps
                .iter()
                .find(|map| map.name == wanted.name && map.namespace == namespace);
            let values = map.map(|map| {
                let texts = map.spec.data.iter();
                let texts = texts.map(|(key, text)| (key.as_str(), text.as_str()));
                let others = map.spec.binary_data.keys().map(String::as_str);
                (texts.collect(), others.collect())
            });
            let place = (".configMapKeyRef.name", ".configMapKeyRef.key");
            find("ConfigMap", place, wanted, values)
        }
        _ => Err((
            "",
            "write one of secretKeyRef and configMapKeyRef".to_owned(),
        )),
    }
}

/// The Secret that has a value.
fn secret<'a>(
    wanted: &KeySelector,
    namespace: &str,
    objects: &'a Objects,
) -> Option<&'a Object<api::core::Secret>> {
    objects
        .secrets
        .iter()
        .find(|secret| secret.name == wanted.name && secret.namespace == namespace)
}

/// Replaces `$(NAME)` as Kubernetes does: by variables that are already known; `$$` stands for one `$`, and what names
/// nothing stays as it is.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            expanded.push('$');
            rest = behind;
        } else if let Some((name, behind)) = behind
            .strip_prefix('(')
            .and_then(|inside| inside.split_once(')'))
        {
            match env.iter().find(|(known, _)| known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = behind;
        } else {
            expanded.push('$');
            rest = behind;
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_the_last_segment_of_its_path() {
        let parts = |reference| {
            let image = Image::parse(reference);
            (image.name, image.tag)
        };
        let owned = |name: &str, tag: &str| (name.to_owned(), tag.to_owned());
        assert_eq!(
            parts("ghcr.io/tollgate/product-service:v1"),
            owned("product-service", "v1")
        );
        assert_eq!(
            parts("localhost:5000/cart-service"),
            owned("cart-service", "latest")
        );
        assert_eq!(parts("cart-service"), owned("cart-service", "latest"));
        assert_eq!(
            parts("ghcr.io/tollgate/a:1.2@sha256:00ff"),
            owned("a", "1.2")
        );
    }

    #[test]
    fn references_in_the_environment_are_replaced_as_kubernetes_does() {
        let env = [("HOST".to_owned(), "db".to_owned())];
        assert_eq!(
            expand("postgres://$(HOST):5432/$(HOST)", &env),
            "postgres://db:5432/db"
        );
        assert_eq!(
            expand("$(UNKNOWN) $$(HOST) $HOST a$", &env),
            "$(UNKNOWN) $(HOST) $HOST a$"
        );
        assert_eq!(expand("$(HOST", &env), "$(HOST");
    }
}
