//! What an Envoy is started with: who it is, its admin interface, where its other files are, and which parts of a stat's name
//! are labels.

use serde_json::{Value, json};

use super::{CLUSTERS_FILE, LISTENERS_FILE, Proxy, address, duration, file_source};
use crate::api;
use crate::model::workload::STATS_FLUSH_INTERVAL;
use crate::model::{CLUSTER_DOMAIN, Role, Workload};

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
        "stats_config": stats_config(workload),
        "stats_flush_interval": flush_interval(proxy),
        // As Istio has it: what a cluster counts of traffic is there from its first request on. The fewer stats, the faster it is made.
        "deferred_stat_options": { "enable_deferred_creation_stats": true },
    })
}

/// Which parts of a stat's name are labels, and which buckets histograms have.
fn stats_config(workload: &Workload) -> Value {
    let mut config = json!({
        "use_all_default_tags": false,
        "stats_tags": stats_tags(&workload.extra_stat_tags()),
    });
    let buckets = workload.histogram_buckets();
    if !buckets.is_empty() {
        let settings = buckets.iter().map(
            |buckets| json!({ "match": { "prefix": buckets.prefix }, "buckets": buckets.bounds }),
        );
        config["histogram_bucket_settings"] = settings.collect();
    }
    config
}

/// Istio's own tags, in its order, with the pod's in between. They find in a name what Istio's expressions find in it, and are written
/// otherwise than Istio's: Envoy tries one that begins with `^word\.` on names of that word alone, and every other one on
/// every name, at every place in it. With Istio's, most of the time in which a cluster is made goes into that, and for many clusters at many
/// proxies on one machine that is seconds. (On a cluster Envoy has no stats of clusters, so it does not matter there.) What Istio looks for
/// anywhere is looked for in the names that can have it: labels in metrics of Wasm filters, decisions in those of HTTP.
fn stats_tags(extra: &[&str]) -> Vec<Value> {
    let before = [
        ("cluster_name", r"^cluster\.((.+);\.)"),
        (
            "http_conn_manager_prefix",
            r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
        ),
        ("thread_name", r"^server\.((.+)\.)watchdog"),
        ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
        ("response_code", r"_rq(_(\d{3}))$"),
        ("response_code_class", r"_rq(_(\dxx))$"),
        (
            "http_conn_manager_listener_prefix",
            r"^listener\.(?:.*?\.)??http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
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
        ("cache", r"^wasmcustom\..*?(cache\.(.+?)\.)"),
        ("component", r"^wasmcustom\..*?(component\.(.+?)\.)"),
        ("tag", r"^wasmcustom\..*?(tag\.(.+?);\.)"),
        ("wasm_filter", r"^wasmcustom\..*?(wasm_filter\.(.+?)\.)"),
        (
            "authz_enforce_result",
            r"^http\..*?rbac(\.(allowed|denied))",
        ),
        (
            "authz_dry_run_action",
            r"^http\..*?(\.istio_dry_run_(allow|deny)_)",
        ),
        (
            "authz_dry_run_result",
            r"^http\..*?(\.shadow_(allowed|denied))",
        ),
    ];
    let tag = |(name, regex): (&str, &str)| json!({ "tag_name": name, "regex": regex });
    // Names of labels are words, or the workload would have been refused: there is nothing to escape.
    let extra = extra.iter().map(|name| {
        json!({ "tag_name": name, "regex": format!(r"^wasmcustom\..*?({name}=\.=(.*?);\.;)") })
    });
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

#[cfg(test)]
mod tests {
    use regex_lite::Regex;

    use super::*;

    /// As in Istio's `bootstrap`, with the tag `tenant` of a pod. Where a listener's name ends Istio looks ahead, which this library
    /// does not.
    const ISTIO: [(&str, &str); 17] = [
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
            r"^listener.*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        (
            "listener_address",
            r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        (
            "mongo_prefix",
            r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$",
        ),
        ("tenant", r"(tenant=\.=(.*?);\.;)"),
        ("cache", r"(cache\.(.+?)\.)"),
        ("component", r"(component\.(.+?)\.)"),
        ("tag", r"(tag\.(.+?);\.)"),
        ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
        ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
        ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
        ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
    ];

    /// The labels of a stat, and what is left of its name.
    fn labels(tags: &[(String, String)], stat: &str) -> (Vec<(String, String)>, String) {
        let mut labels = Vec::new();
        let mut cut = vec![false; stat.len()];
        for (name, regex) in tags {
            let Some(found) = Regex::new(regex).unwrap().captures(stat) else {
                continue;
            };
            let removed = found.get(1).unwrap();
            let value = found.get(2).unwrap_or(removed);
            labels.push((name.clone(), value.as_str().to_owned()));
            cut[removed.range()].fill(true);
        }
        let left = stat.bytes().zip(&cut).filter(|(_, cut)| !**cut);
        let left = left.map(|(byte, _)| char::from(byte)).collect();
        (labels, left)
    }

    fn ours() -> Vec<(String, String)> {
        let text = |tag: &Value, field: &str| tag[field].as_str().unwrap().to_owned();
        stats_tags(&["tenant"])
            .iter()
            .map(|tag| (text(tag, "tag_name"), text(tag, "regex")))
            .collect()
    }

    #[test]
    fn what_istio_finds_in_a_name_is_found() {
        let istio: Vec<(String, String)> = ISTIO
            .iter()
            .map(|(name, regex)| ((*name).to_owned(), (*regex).to_owned()))
            .collect();
        let ours = ours();
        let names = |tags: &[(String, String)]| -> Vec<String> {
            tags.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&ours), names(&istio));
        for (stat, found, left) in [
            (
                "cluster.outbound|3001|v1|product.shop.svc.cluster.local;.upstream_rq_503",
                2,
                "cluster.upstream_rq",
            ),
            (
                "cluster.inbound|3001||;.external.upstream_rq_2xx",
                2,
                "cluster.external.upstream_rq",
            ),
            (
                "cluster.xds-grpc;.upstream_cx_total",
                1,
                "cluster.upstream_cx_total",
            ),
            (
                "cluster_manager.cluster_added",
                0,
                "cluster_manager.cluster_added",
            ),
            (
                "http.inbound_0.0.0.0_3001;.downstream_rq_4xx",
                2,
                "http.downstream_rq",
            ),
            (
                "http.outbound_0.0.0.0_8080;.rds.http.8080.update_rejected",
                1,
                "http.rds.http.8080.update_rejected",
            ),
            ("http.inbound_0.0.0.0_3001;.rbac.allowed", 2, "http.rbac"),
            (
                "http.inbound_0.0.0.0_3001;.rbac.istio_dry_run_deny_.shadow_allowed",
                3,
                "http.rbac",
            ),
            (
                "listener.127.0.0.1_15006.http.inbound_0.0.0.0_3001;.downstream_rq_2xx",
                2,
                "listener.http.inbound_0.0.0.0_3001;.downstream_rq",
            ),
            (
                "listener.0.0.0.0_8080.http.127.0.0.1_9.downstream_rq_completed",
                2,
                "listener.http.downstream_rq_completed",
            ),
            (
                "listener.[__1]_8080.downstream_cx_total",
                1,
                "listener.downstream_cx_total",
            ),
            ("server.worker_0.watchdog_miss", 1, "server.watchdog_miss"),
            (
                "server.main_thread.watchdog_mega_miss",
                1,
                "server.watchdog_mega_miss",
            ),
            (
                "tcp.outbound|5432||postgres.downstream_cx_total",
                1,
                "tcp.downstream_cx_total",
            ),
            ("mongo.db.op_insert", 1, "mongo..op_insert"),
            (
                "wasmcustom.tenant=.=acme;.;shop_requests_total",
                1,
                "wasmcustom.shop_requests_total",
            ),
            (
                "wasmcustom.plan=.=a;.;tenant=.=;.;shop_orders_total",
                1,
                "wasmcustom.plan=.=a;.;shop_orders_total",
            ),
            (
                "wasmcustom.wasm_filter.stats_filter.cache.hit.metric_cache_count",
                2,
                "wasmcustom.metric_cache_count",
            ),
            (
                "wasmcustom.component.proxy.tag.1.29;.istio_build",
                2,
                "wasmcustom.istio_build",
            ),
        ] {
            assert_eq!(labels(&ours, stat), labels(&istio, stat));
            let (labels, rest) = labels(&ours, stat);
            assert_eq!(
                (labels.len(), rest.as_str()),
                (found, left),
                "{stat}: {labels:?}"
            );
        }
    }

    #[test]
    fn hardly_any_expression_is_tried_on_every_name() {
        let word = Regex::new(r"^\^\w+\\\.").unwrap();
        let everywhere: Vec<String> = ours()
            .into_iter()
            .filter(|(_, regex)| !word.is_match(regex))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(everywhere, ["response_code", "response_code_class"]);
    }
}
