//! What Kubernetes and Istio know and the local mesh does not implement yet, so that it can be told from a typing error.
//!
//! By type as the API references name it: the fields of a message, or the values of an enumeration. A field that gets
//! implemented moves from here to its type; a test holds that nothing is in both.

/// Kinds that exist and are not read.
#[rustfmt::skip]
pub(crate) const KINDS: &[&str] = &[
    // Kubernetes
    "ClusterRole", "ClusterRoleBinding", "CronJob", "CustomResourceDefinition", "DaemonSet", "Endpoints",
    "EndpointSlice", "HorizontalPodAutoscaler", "Ingress", "IngressClass", "Job", "LimitRange", "NetworkPolicy",
    "PersistentVolume", "PersistentVolumeClaim", "Pod", "PodDisruptionBudget", "PriorityClass", "ReplicaSet",
    "ResourceQuota", "Role", "RoleBinding", "StorageClass",
    // Istio
    "EnvoyFilter", "IstioOperator", "ProxyConfig", "ServiceEntry", "Sidecar", "Telemetry", "TrafficExtension", "WorkloadEntry", "WorkloadGroup",
    // Gateway API
    "BackendTLSPolicy", "GatewayClass", "GRPCRoute", "HTTPRoute", "ReferenceGrant", "TCPRoute", "TLSRoute", "UDPRoute",
    // Tools
    "Component", "Issuer", "Certificate", "ClusterIssuer", "PodMonitor", "PrometheusRule", "ServiceMonitor",
];

/// The fields (or values) of a type that are known and not implemented.
#[rustfmt::skip]
pub(crate) fn fields(type_name: &str) -> &'static [&'static str] {
    match type_name {
        // A spec goes by the name of its kind.
        "Service" => &[
            "clusterIPs", "externalIPs", "externalName", "healthCheckNodePort", "internalTrafficPolicy",
            "loadBalancerIP", "loadBalancerSourceRanges", "sessionAffinity",
            "sessionAffinityConfig", "trafficDistribution",
        ],
        "ServiceType" => &["ExternalName"],
        "ServiceAccount" => &["secrets"],
        "Protocol" => &["UDP", "SCTP"],
        "Deployment" => &["paused"],
        "PodSpec" => &[
            "activeDeadlineSeconds", "dnsConfig", "dnsPolicy", "ephemeralContainers", "hostAliases", "hostIPC",
            "hostname", "hostnameOverride", "hostNetwork", "hostPID", "hostUsers", "initContainers", "nodeName", "os",
            "overhead", "preemptionPolicy", "priority", "readinessGates", "resourceClaims", "resources",
            "runtimeClassName", "schedulerName", "schedulingGates", "serviceAccount", "setHostnameAsFQDN",
            "shareProcessNamespace", "subdomain",
        ],
        "RestartPolicy" => &["OnFailure", "Never"],
        "Container" => &[
            "envFrom", "resizePolicy", "restartPolicy", "stdin", "stdinOnce", "tty", "volumeDevices",
            "workingDir",
        ],
        "Lifecycle" => &["postStart", "stopSignal"],
        "LifecycleHandler" => &["exec", "httpGet", "tcpSocket"],
        "EnvVarSource" => &["fieldRef", "fileKeyRef", "resourceFieldRef"],
        "StatefulSet" => &["ordinals"],
        "ContainerPort" => &["hostIP", "hostPort"],
        "Probe" => &["grpc"],
        "TCPSocketAction" => &["host"],
        "PersistentVolumeClaimSpec" => &["dataSource", "dataSourceRef", "selector", "volumeName"],
        "HTTPGetAction" => &["host", "httpHeaders"],
        "URIScheme" => &["HTTPS"],
        "ObjectMeta" => &["deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "ownerReferences", "selfLink"],
        "TemplateMeta" => &["finalizers", "generateName", "name", "namespace", "ownerReferences"],
        "LabelSelector" => &["matchExpressions"],
        "ResourceRequirements" => &["claims"],
        "SecurityContext" => &["appArmorProfile", "procMount", "seLinuxOptions", "windowsOptions"],
        "PodSecurityContext" => &[
            "appArmorProfile", "seLinuxChangePolicy", "seLinuxOptions", "supplementalGroupsPolicy", "windowsOptions",
        ],
        "Volume" => &[
            "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "configMap", "csi", "downwardAPI",
            "ephemeral", "fc", "flexVolume", "flocker", "gcePersistentDisk", "gitRepo", "glusterfs", "hostPath",
            "image", "iscsi", "nfs", "persistentVolumeClaim", "photonPersistentDisk", "portworxVolume", "projected",
            "quobyte", "rbd", "scaleIO", "secret", "storageos", "vsphereVolume",
        ],
        "VolumeMount" => &["mountPropagation", "recursiveReadOnly", "subPathExpr"],
        "Server" => &["bind", "defaultEndpoint", "tls"],
        "Port" => &["targetPort"],
        "ServerProtocol" => &["GRPC", "HTTPS", "MONGO", "TCP", "TLS"],
        "VirtualService" => &["exportTo", "tcp", "tls"],
        "HTTPRoute" => &[
            "corsPolicy", "delegate", "directResponse", "mirror", "mirrorPercent", "mirrorPercentage", "mirror_percent",
            "mirrors", "redirect",
        ],
        "HTTPRetry" => &["retryRemoteLocalities"],
        "Delay" => &["exponentialDelay", "percent"],
        "Abort" => &["grpcStatus", "http2Error"],
        "HTTPMatchRequest" => &["gateways", "port", "scheme", "sourceLabels", "sourceNamespace", "statPrefix"],
        "HTTPRouteDestination" => &["headers"],
        "DestinationRule" => &["exportTo", "workloadSelector"],
        "TrafficPolicy" => &[
            "portLevelSettings", "proxyProtocol", "retryBudget", "tunnel",
        ],
        "TCPSettings" => &["tcpKeepalive"],
        "HTTPSettings" => &["h2UpgradePolicy", "http2KeepAlive", "maxConcurrentStreams", "useClientProtocol"],
        "OutlierDetection" => &["consecutiveErrors", "outlierDetectionHttpErrorCodes"],
        "LoadBalancerSettings" => &["consistentHash", "localityLbSetting", "warmup", "warmupDurationSecs"],
        "SimpleLB" => &["PASSTHROUGH"],
        "ClientTLSSettings" => &[
            "caCertificates", "caCrl", "clientCertificate", "credentialName", "insecureSkipVerify", "privateKey", "sni",
            "subjectAltNames",
        ],
        "TLSmode" => &["DISABLE", "SIMPLE", "MUTUAL"],
        "PeerAuthentication" => &["portLevelMtls"],
        "RequestAuthentication" => &["targetRef", "targetRefs"],
        "AuthorizationPolicy" => &["provider", "targetRef", "targetRefs"],
        "Action" => &["AUDIT", "CUSTOM"],
        "Source" => &["notTrustDomains", "trustDomains"],
        // Of the annotation proxy.istio.io/config.
        "ProxyConfig" => &[
            "availabilityZone", "binaryPath", "caCertificatesPem", "concurrency", "configPath", "controlPlaneAuthPolicy",
            "customConfigFile", "discoveryAddress", "discoveryRefreshDelay", "drainDuration", "envoyAccessLogService",
            "envoyMetricsService", "envoyMetricsServiceAddress", "fileFlushInterval", "fileFlushMinSizeKb",
            "image", "interceptionMode", "meshId", "privateKeyProvider", "proxyAdminPort", "proxyBootstrapTemplatePath",
            "proxyHeaders", "proxyMetadata", "readinessProbe", "runtimeValues", "sds", "serviceCluster",
            "statNameLength", "statsdUdpAddress", "statsCompression", "statusPort", "terminationDrainDuration", "tracing",
            "zipkinAddress",
        ],
        "Topology" => &["proxyProtocol"],
        "WasmPlugin" => &["targetRef", "targetRefs", "verificationKey"],
        "PluginType" => &["NETWORK"],
        "Kustomization" => &[
            "bases", "buildMetadata", "commonAnnotations", "commonLabels", "components", "configMapGenerator",
            "configurations", "crds", "generatorOptions", "generators", "helmCharts", "helmChartInflationGenerator",
            "helmGlobals", "images", "labels", "namePrefix", "nameSuffix", "namespace", "openapi",
            "patchesJson6902", "patchesStrategicMerge", "replacements", "replicas", "secretGenerator", "sortOptions",
            "transformers", "validators", "vars",
        ],
        "Patch" => &["options"],
        "Selector" => &["annotationSelector", "labelSelector"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::de::{Deserialize, Deserializer, Visitor, value::Error};

    use super::*;
    use crate::api::{Resource, apps, core, extensions, inert, mesh, meta, networking, security};

    /// Writes down the name and the fields of the type that asks for them.
    struct Fields<'a>(&'a mut BTreeMap<&'static str, &'static [&'static str]>);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom(
                "only structs and enumerations have fields",
            ))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            self.0.insert(name, fields);
            self.deserialize_any(visitor)
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            name: &'static str,
            variants: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            self.deserialize_struct(name, variants, visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map identifier ignored_any
        }
    }

    fn known() -> BTreeMap<&'static str, &'static [&'static str]> {
        let mut known = BTreeMap::new();
        macro_rules! look_at {
            ($($type:ty)*) => { $(let _ = <$type>::deserialize(Fields(&mut known));)* };
        }
        look_at! {
            core::NamespaceSpec core::ServiceSpec core::ServiceType core::ServicePort core::ServiceAccount core::Protocol
            core::PodSpec core::RestartPolicy core::Container core::EnvVar core::ContainerPort core::Probe
            core::HttpGetAction core::UriScheme apps::DeploymentSpec apps::PodTemplateSpec meta::ObjectMeta
            meta::TemplateMeta meta::LabelSelector inert::ResourceRequirements inert::SecurityContext
            inert::PodSecurityContext inert::Volume inert::VolumeMount inert::Lifecycle inert::LifecycleHandler
            networking::Gateway networking::Server networking::Port networking::ServerProtocol networking::VirtualService
            networking::HttpRoute networking::HttpMatchRequest networking::HttpRouteDestination networking::DestinationRule
            networking::TrafficPolicy networking::LoadBalancerSettings networking::SimpleLb networking::ClientTlsSettings
            networking::TlsMode security::PeerAuthentication security::RequestAuthentication
            security::JwtRule security::AuthorizationPolicy security::Action security::RequestSource extensions::WasmPlugin extensions::PluginType
            core::Secret core::ConfigMap core::EnvVarSource core::TcpSocketAction apps::StatefulSetSpec
            inert::PersistentVolumeClaimSpec networking::HttpRetry networking::HttpRewrite networking::RegexRewrite
            networking::HttpFaultInjection networking::Delay networking::Abort networking::TcpSettings
            networking::HttpSettings networking::OutlierDetection mesh::ProxyConfig mesh::ProxyStatsMatcher mesh::Topology
        }
        // A spec goes by the name of its kind.
        for (name, kind) in [
            ("NamespaceSpec", core::NamespaceSpec::KIND),
            ("ServiceSpec", core::ServiceSpec::KIND),
            ("DeploymentSpec", apps::DeploymentSpec::KIND),
            ("StatefulSetSpec", apps::StatefulSetSpec::KIND),
        ] {
            let fields = known
                .remove(name)
                .unwrap_or_else(|| panic!("there is no type {name}"));
            known.insert(kind, fields);
        }
        known
    }

    #[test]
    fn nothing_is_both_implemented_and_not() {
        for (name, implemented) in known() {
            for field in implemented {
                assert!(
                    !fields(name).contains(field),
                    "{name}.{field} is implemented, take it out of the list"
                );
            }
        }
    }
}
