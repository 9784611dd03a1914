//! `v1`: namespaces, services, service accounts, secrets, config maps, and the pods that Deployments describe.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::{Base64, IntOrString, inert};

/// The spec of a Namespace; its labels are what matters (`istio-injection`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceSpec {
    /// Kubernetes writes `kubernetes` here by itself. No effect on one machine.
    #[serde(default)]
    pub finalizers: Vec<String>,
}

/// A ServiceAccount, which has no spec: its name is the identity of the pods that run under it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccount {
    /// No effect on one machine: there is no API server whose token could be mounted.
    #[serde(default)]
    pub automount_service_account_token: Option<bool>,
    /// No effect on one machine: images are not pulled.
    #[serde(default)]
    pub image_pull_secrets: Vec<inert::LocalObjectReference>,
}

/// A Secret, which has no spec.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secret {
    /// Its values in base64.
    #[serde(default)]
    pub data: BTreeMap<String, Base64>,
    /// Its values as they are; they win over `data`.
    #[serde(default)]
    pub string_data: BTreeMap<String, String>,
    /// `type`: what it is for. No effect on one machine.
    #[serde(default, rename = "type")]
    pub secret_type: Option<String>,
    /// No effect on one machine.
    #[serde(default)]
    pub immutable: Option<bool>,
}

/// Not derived, so that values do not end up in logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.data.keys().chain(self.string_data.keys());
        f.debug_set().entries(keys).finish()
    }
}

/// A ConfigMap, which has no spec.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMap {
    /// Its values.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Its values that are not text, in base64. A variable cannot have them.
    #[serde(default)]
    pub binary_data: BTreeMap<String, Base64>,
    /// No effect on one machine.
    #[serde(default)]
    pub immutable: Option<bool>,
}

/// The spec of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// `type`: where the Service can be reached from. On one machine that is the same for all of them.
    #[serde(default, rename = "type")]
    pub service_type: ServiceType,
    /// The labels of the pods behind it.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    /// `None` for a headless Service, which only gives pods their names. Any other address is the cluster's to choose.
    #[serde(default, rename = "clusterIP")]
    pub cluster_ip: Option<ClusterIp>,
    /// No effect on one machine, where only what is ready is named at all.
    #[serde(default)]
    pub publish_not_ready_addresses: Option<bool>,
    /// No effect on one machine.
    #[serde(default)]
    pub external_traffic_policy: Option<inert::ExternalTrafficPolicy>,
    /// No effect on one machine.
    #[serde(default)]
    pub ip_families: Vec<inert::IpFamily>,
    /// No effect on one machine.
    #[serde(default)]
    pub ip_family_policy: Option<inert::IpFamilyPolicy>,
    /// No effect on one machine.
    #[serde(default)]
    pub load_balancer_class: Option<String>,
    /// No effect on one machine.
    #[serde(default)]
    pub allocate_load_balancer_node_ports: Option<bool>,
}

/// Where a Service can be reached from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ServiceType {
    /// From inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// On a port of every node as well.
    NodePort,
    /// Through a load balancer of the cloud as well.
    LoadBalancer,
}

/// The address of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename = "clusterIP")]
pub enum ClusterIp {
    /// It has none.
    None,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePort {
    /// Its name; `http`, `http-…`, `grpc-…` and the like tell Istio the protocol.
    #[serde(default)]
    pub name: Option<String>,
    /// The port of the Service.
    pub port: u16,
    /// The container's port by number or name; the same as `port` if unset.
    #[serde(default)]
    pub target_port: Option<IntOrString>,
    /// The transport.
    #[serde(default)]
    pub protocol: Protocol,
    /// Says the protocol to Istio where the name does not; wins over the name.
    #[serde(default)]
    pub app_protocol: Option<String>,
    /// No effect on one machine.
    #[serde(default)]
    pub node_port: Option<u16>,
}

/// The transport of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
}

/// What a workload's pods are made of.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// Whose identity the pods have; `default` if unset.
    #[serde(default)]
    pub service_account_name: Option<String>,
    /// The containers: processes on one machine.
    pub containers: Vec<Container>,
    /// Volumes. Only `emptyDir`, which needs nothing on one machine: a process may write where the system lets it.
    #[serde(default)]
    pub volumes: Vec<inert::Volume>,
    /// No effect on one machine.
    #[serde(default)]
    pub security_context: Option<inert::PodSecurityContext>,
    /// No effect on one machine.
    #[serde(default)]
    pub termination_grace_period_seconds: Option<u64>,
    /// No effect on one machine.
    #[serde(default)]
    pub topology_spread_constraints: Vec<inert::TopologySpreadConstraint>,
    /// No effect on one machine.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// No effect on one machine.
    #[serde(default)]
    pub tolerations: Vec<inert::Toleration>,
    /// No effect on one machine, and not looked into: there is but one node.
    #[serde(default)]
    pub affinity: Option<Value>,
    /// No effect on one machine.
    #[serde(default)]
    pub priority_class_name: Option<String>,
    /// No effect on one machine: images are not pulled.
    #[serde(default)]
    pub image_pull_secrets: Vec<inert::LocalObjectReference>,
    /// No effect on one machine: there is no API server whose token could be mounted.
    #[serde(default)]
    pub automount_service_account_token: Option<bool>,
    /// `true` would set variables that a local process does not get, so the model refuses it.
    #[serde(default)]
    pub enable_service_links: Option<bool>,
    /// A Deployment has no other choice.
    #[serde(default)]
    pub restart_policy: Option<RestartPolicy>,
}

/// What happens when a container exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RestartPolicy {
    /// It is started again.
    Always,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// Its name; `istio-proxy` is the proxy itself.
    pub name: String,
    /// Its image; `auto` for a proxy that Istio injects. The last path segment names the program on one machine.
    pub image: String,
    /// Replaces the image's entrypoint.
    #[serde(default)]
    pub command: Vec<String>,
    /// The arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The environment.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// The ports it listens on.
    #[serde(default)]
    pub ports: Vec<ContainerPort>,
    /// When the pod gets requests.
    #[serde(default)]
    pub readiness_probe: Option<Probe>,
    /// No effect on one machine: a process that hangs is not restarted.
    #[serde(default)]
    pub liveness_probe: Option<Probe>,
    /// No effect on one machine: the readiness probe is awaited with a generous deadline.
    #[serde(default)]
    pub startup_probe: Option<Probe>,
    /// No effect on one machine.
    #[serde(default)]
    pub resources: Option<inert::ResourceRequirements>,
    /// No effect on one machine.
    #[serde(default)]
    pub security_context: Option<inert::SecurityContext>,
    /// No effect on one machine: images are not pulled.
    #[serde(default)]
    pub image_pull_policy: Option<inert::PullPolicy>,
    /// No effect on one machine, where no other proxy learns late that a pod goes. Only a pause before the end.
    #[serde(default)]
    pub lifecycle: Option<inert::Lifecycle>,
    /// No effect on one machine: the volumes can only be `emptyDir`.
    #[serde(default)]
    pub volume_mounts: Vec<inert::VolumeMount>,
    /// No effect on one machine.
    #[serde(default)]
    pub termination_message_path: Option<String>,
    /// No effect on one machine.
    #[serde(default)]
    pub termination_message_policy: Option<inert::TerminationMessagePolicy>,
}

/// One variable of a container's environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; empty if unset, as on a cluster.
    #[serde(default)]
    pub value: Option<String>,
    /// Where its value is.
    #[serde(default)]
    pub value_from: Option<EnvVarSource>,
}

/// Where the value of a variable is; one of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVarSource {
    /// In a Secret of the pod's namespace.
    #[serde(default)]
    pub secret_key_ref: Option<KeySelector>,
    /// In a ConfigMap of the pod's namespace.
    #[serde(default)]
    pub config_map_key_ref: Option<KeySelector>,
}

/// A value of a Secret or ConfigMap.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeySelector {
    /// The object's name.
    pub name: String,
    /// The value's name in it.
    pub key: String,
    /// Whether the variable is left out if there is no such value. Otherwise the pod does not start on a cluster.
    #[serde(default)]
    pub optional: bool,
}

/// One port that a container listens on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerPort {
    /// The name by which probes and Services refer to it.
    #[serde(default)]
    pub name: Option<String>,
    /// The port.
    pub container_port: u16,
    /// The transport.
    #[serde(default)]
    pub protocol: Protocol,
}

/// How the health of a container is asked for; one of the first three. The local mesh only asks whether a container is
/// ready, and only by HTTP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// The request; an answer from 200 to 399 is healthy.
    #[serde(default)]
    pub http_get: Option<HttpGetAction>,
    /// The program in the container; if it exits with 0 the container is healthy.
    #[serde(default)]
    pub exec: Option<ExecAction>,
    /// The port; if it takes a connection the container is healthy.
    #[serde(default)]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Timing has no effect on one machine, here and below: the local mesh has its own.
    #[serde(default)]
    pub initial_delay_seconds: Option<u32>,
    /// No effect on one machine.
    #[serde(default)]
    pub period_seconds: Option<u32>,
    /// No effect on one machine.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
    /// No effect on one machine.
    #[serde(default)]
    pub success_threshold: Option<u32>,
    /// No effect on one machine.
    #[serde(default)]
    pub failure_threshold: Option<u32>,
    /// No effect on one machine.
    #[serde(default)]
    pub termination_grace_period_seconds: Option<u64>,
}

/// A program that asks for health.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecAction {
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// A connection that asks for health.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    rename = "TCPSocketAction",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub struct TcpSocketAction {
    /// The container's port by number or name.
    pub port: IntOrString,
}

/// An HTTP request that asks for health.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    rename = "HTTPGetAction",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub struct HttpGetAction {
    /// The path; `/` if unset.
    #[serde(default)]
    pub path: Option<String>,
    /// The container's port by number or name.
    pub port: IntOrString,
    /// The scheme.
    #[serde(default)]
    pub scheme: UriScheme,
}

/// The scheme of a probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename = "URIScheme")]
pub enum UriScheme {
    /// Plain HTTP.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
}
