//! What an Envoy is started with: who it is, its admin interface, where its other files are, and which parts of a stat's name
//! are labels.

use serde_json::{Value, json};

use super::{CLUSTERS_FILE, LISTENERS_FILE, Proxy, address, duration, file_source};
use crate::api;
use crate::model::workload::STATS_FLUSH_INTERVAL;
use crate::model::{CLUSTER_DOMAIN, Role};

const DOWNSTREAM_CONNECTIONS: &str = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig";

pub(super) fn bootstrap(proxy: &Proxy) -> Value {
    let (workload, pod) = (proxy.workload, proxy.pod);
    let kind = if workload.role == Role::Gateway {
        "router"
    } else {
        "sidecar"
    };
    let namespace = &workload.namespace;
    json!({
        "node": {
            "id": format!("{kind}~127.0.0.1~{}.{namespace}~{namespace}.svc.{CLUSTER_DOMAIN}", pod.name),
            "cluster": format!("{}.{namespace}", workload.app),
            "metadata": {
                "NAME": pod.name,
                "NAMESPACE": namespace,
                "WORKLOAD_NAME": workload.name,
                "SERVICE_ACCOUNT": workload.service_account,
                "LABELS": workload.labels,
                "ANNOTATIONS": workload.annotations,
                "CLUSTER_ID": "Kubernetes",
                "MESH_ID": CLUSTER_DOMAIN,
                "PROXY_CONFIG": { "concurrency": proxy.site.workers },
            },
        },
        "admin": { "address": address(proxy.here.admin) },
        "dynamic_resources": {
            "lds_config": file_source(proxy, LISTENERS_FILE),
            "cds_config": file_source(proxy, CLUSTERS_FILE),
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "global config",
                    "static_layer": {
                        "re2.max_program_size.error_level": 32768,
                        "envoy.reloadable_features.http_reject_path_with_fragment": false,
                    },
                },
                { "name": "admin", "admin_layer": {} },
            ],
        },
        "overload_manager": {
            "resource_monitors": [{
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": DOWNSTREAM_CONNECTIONS,
                    "max_active_downstream_connections": 2_147_483_645,
                },
            }],
        },
        "stats_config": { "use_all_default_tags": false, "stats_tags": stats_tags(&workload.extra_stat_tags()) },
        "stats_flush_interval": flush_interval(proxy),
    })
}

/// Istio's own tags, in its order, with the pod's in between.
fn stats_tags(extra: &[&str]) -> Vec<Value> {
    let before = [
        ("cluster_name", r"^cluster(\.(.+);)"),
        (
            "http_conn_manager_prefix",
            r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
        ),
        ("thread_name", r"^server(\.(.+))\.watchdog"),
        ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
        ("response_code", r"_rq(_(\d{3}))$"),
        ("response_code_class", r"_rq(_(\dxx))$"),
        (
            "http_conn_manager_listener_prefix",
            r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        (
            "listener_address",
            r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        (
            "mongo_prefix",
            r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$",
        ),
    ];
    let after = [
        ("cache", r"(cache\.(.+?)\.)"),
        ("component", r"(component\.(.+?)\.)"),
        ("tag", r"(tag\.(.+?);\.)"),
        ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
        ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
        ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
        ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
    ];
    let tag = |(name, regex): (&str, &str)| json!({ "tag_name": name, "regex": regex });
    let extra = extra
        .iter()
        .map(|name| json!({ "tag_name": name, "regex": format!(r"({name}=\.=(.*?);\.;)") }));
    before
        .into_iter()
        .map(tag)
        .chain(extra)
        .chain(after.into_iter().map(tag))
        .collect()
}

/// How often histograms are summed up. As in Istio, an annotation that is not a duration counts for nothing.
fn flush_interval(proxy: &Proxy) -> String {
    let annotation = proxy.workload.annotations.get(STATS_FLUSH_INTERVAL);
    let interval = annotation.and_then(|interval| api::Duration::parse(interval).ok());
    interval.map_or_else(|| "5s".to_owned(), |interval| duration(interval.0))
}
