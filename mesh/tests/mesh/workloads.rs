//! What Deployments become.

use regex_lite::Regex;
use serde_json::json;
use tollgate_mesh::model::{HttpProbe, MutualTls, Role};

use crate::{configuration, shop, shop_and, workload};

#[test]
fn a_deployment_is_a_workload_with_pods() {
    let mesh = shop();
    let products = workload(&mesh, "product-service-v1");
    assert_eq!(products.app, "product-service");
    assert_eq!(products.version.as_deref(), Some("v1"));
    assert_eq!(products.role, Role::Sidecar);
    assert_eq!(products.mutual_tls, MutualTls::Strict);
    assert_eq!(
        products.identity(),
        "spiffe://cluster.local/ns/ecommerce/sa/product-service"
    );
    let pods: Vec<String> = products.pods().iter().map(ToString::to_string).collect();
    assert_eq!(pods, ["product-service-v1-0", "product-service-v1-1"]);
    assert_eq!(mesh.workload_of(&products.pods()[1]), Some(products));

    let legacy = workload(&mesh, "legacy");
    assert_eq!((legacy.role, legacy.replicas), (Role::Plain, 1));
    assert_eq!(
        legacy.identity(),
        "spiffe://cluster.local/ns/ecommerce/sa/default"
    );
}

#[test]
fn a_container_is_a_program_with_its_environment() {
    let mesh = shop();
    let container = &workload(&mesh, "cart-service").containers[0];
    assert_eq!(
        (container.image.name.as_str(), container.image.tag.as_str()),
        ("cart-service", "v1")
    );
    let env = [("HOST", "0.0.0.0"), ("ADDRESS", "0.0.0.0:3002")];
    assert_eq!(
        container.env,
        env.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(
        container.readiness,
        Some(HttpProbe {
            path: "/ready".to_owned(),
            port: 3002
        })
    );
}

#[test]
fn a_gateway_has_no_program_but_its_proxy() {
    let mesh = shop();
    let gateway = workload(&mesh, "ingressgateway");
    assert_eq!(gateway.role, Role::Gateway);
    assert_eq!(gateway.containers, []);
    assert_eq!(gateway.gateway_ports, [8080]);
}

#[test]
fn proxies_are_injected_as_istios_webhook_does() {
    let role = |of_namespace: &str, of_pod: &str| {
        let mesh = shop_and(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: other, labels: {{{of_namespace}}}}}\n---\napiVersion: apps/v1\nkind: \
             Deployment\nmetadata: {{name: a, namespace: other}}\nspec:\n  selector: {{matchLabels: {{app: a}}}}\n  template:\n    \
             metadata: {{labels: {{app: a{of_pod}}}}}\n    spec: {{containers: [{{name: a, image: a}}]}}\n"
        ));
        workload(&mesh, "a").role
    };
    let (yes, no) = (
        ", sidecar.istio.io/inject: 'true'",
        ", sidecar.istio.io/inject: 'false'",
    );
    assert_eq!(role("istio-injection: enabled", ""), Role::Sidecar);
    assert_eq!(role("istio-injection: enabled", no), Role::Plain);
    assert_eq!(role("", ""), Role::Plain);
    assert_eq!(role("", yes), Role::Sidecar);
    assert_eq!(role("istio-injection: disabled", yes), Role::Plain);
}

#[test]
fn labels_of_metrics_are_those_that_the_annotation_names_and_no_others() {
    let tags = |pod: &str| {
        let configuration = configuration(&shop(), pod);
        let tags = crate::array(&configuration.bootstrap, "/stats_config/stats_tags").iter();
        let ours = tags.filter(|tag| {
            tag["regex"]
                .as_str()
                .is_some_and(|regex| regex.contains("=\\.="))
        });
        ours.map(|tag| {
            format!(
                "{} {}",
                tag["tag_name"].as_str().unwrap_or_default(),
                tag["regex"].as_str().unwrap_or_default()
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(
        tags("cart-service-0"),
        [
            r"tenant ^wasmcustom\..*?(tenant=\.=(.*?);\.;)",
            r"route ^wasmcustom\..*?(route=\.=(.*?);\.;)"
        ]
    );
    assert_eq!(tags("product-service-v1-0"), [""; 0]);
    assert_eq!(
        configuration(&shop(), "cart-service-0").bootstrap["stats_config"]["use_all_default_tags"],
        false
    );
}

#[test]
fn how_often_histograms_are_summed_up_can_be_annotated() {
    let mesh = shop_and(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: ecommerce}\nspec:\n  selector: {matchLabels: \
         {app: a}}\n  template:\n    metadata: {labels: {app: a}, annotations: {sidecar.istio.io/statsFlushInterval: 1s}}\n    \
         spec: {containers: [{name: a, image: a}]}\n",
    );
    assert_eq!(
        configuration(&mesh, "a-0").bootstrap["stats_flush_interval"],
        "1s"
    );
    assert_eq!(
        configuration(&mesh, "cart-service-0").bootstrap["stats_flush_interval"],
        "5s"
    );
}

/// Which of these stats a workload with these annotations exports.
fn exported(annotations: &str, stats: &[&'static str]) -> Vec<&'static str> {
    let mesh = shop_and(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a, namespace: ecommerce}}\nspec:\n  selector: {{matchLabels: \
         {{app: a}}}}\n  template:\n    metadata: {{labels: {{app: a}}, annotations: {{{annotations}}}}}\n    spec: {{containers: \
         [{{name: a, image: a}}]}}\n",
    ));
    let expression = workload(&mesh, "a").exported_stats().expression();
    let expression = Regex::new(&expression).expect("an expression");
    let exported = stats.iter().copied();
    exported.filter(|stat| expression.is_match(stat)).collect()
}

#[test]
fn what_a_cluster_exports_is_istios_list_and_what_pods_ask_for() {
    let stats = [
        "wasmcustom.tenant=.=acme;.;shop_requests_total",
        "wasm.envoy.wasm.runtime.v8.active",
        "cluster_manager.cluster_added",
        "listener_manager.listener_added",
        "server.uptime",
        "http.inbound_0.0.0.0_3001;.rbac.denied",
        "http.inbound_0.0.0.0_3001;.rbac.istio_dry_run_deny_.shadow_allowed",
        "vhost.product-service:3001.route.canary.upstream_rq_200",
        // On a cluster nobody sees these unless pods ask for them.
        "cluster.outbound|3001||product-service.ecommerce.svc.cluster.local;.upstream_rq_200",
        "http.outbound_0.0.0.0_8080;.downstream_rq_2xx",
        "http.127.0.0.1_3001.downstream_rq_2xx",
        "http.inbound_0.0.0.0_3001;.rbac.denied_by_nobody",
        "filesystem.write_completed",
        "cluster.wasm;.upstream_rq_200",
    ];
    assert_eq!(exported("", &stats), stats[..8]);
    for (annotation, stat) in [
        (
            "sidecar.istio.io/statsInclusionPrefixes: 'cluster.outbound|3001,no'",
            stats[8],
        ),
        (
            "sidecar.istio.io/statsInclusionPrefixes: 'http.{pod_ip}_'",
            stats[10],
        ),
        (
            "sidecar.istio.io/statsInclusionSuffixes: _completed",
            stats[12],
        ),
        (
            "proxy.istio.io/config: '{proxyStatsMatcher: {inclusionSuffixes: [.write_completed]}}'",
            stats[12],
        ),
        // What an annotation says is in place of what the configuration says of the same.
        (
            "sidecar.istio.io/statsInclusionPrefixes: filesystem, proxy.istio.io/config: \
             '{proxyStatsMatcher: {inclusionPrefixes: [cluster.outbound]}}'",
            stats[12],
        ),
        // Of the whole name, and a point is any character there.
        (
            r"sidecar.istio.io/statsInclusionRegexps: 'outbound,http\.outbound.*_2xx'",
            stats[9],
        ),
    ] {
        assert_eq!(exported(annotation, &stats)[8..], [stat], "{annotation}");
    }
}

#[test]
fn labels_of_metrics_are_those_of_the_configuration_and_those_of_the_annotation() {
    let mesh = shop_and(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: ecommerce}\nspec:\n  selector: {matchLabels: \
         {app: a}}\n  template:\n    metadata:\n      labels: {app: a}\n      annotations:\n        \
         sidecar.istio.io/extraStatTags: tenant,status\n        proxy.istio.io/config: '{extraStatTags: [plan, tenant]}'\n    \
         spec: {containers: [{name: a, image: a}]}\n",
    );
    assert_eq!(
        workload(&mesh, "a").extra_stat_tags(),
        ["plan", "tenant", "status"]
    );
}

#[test]
fn buckets_of_histograms_can_be_annotated() {
    let mesh = shop_and(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: ecommerce}\nspec:\n  selector: {matchLabels: \
         {app: a}}\n  template:\n    metadata:\n      labels: {app: a}\n      annotations:\n        \
         sidecar.istio.io/statsHistogramBuckets: '{\"wasmcustom\": [1000, 0.5, 20], \"cluster.a\": [1e3]}'\n    \
         spec: {containers: [{name: a, image: a}]}\n",
    );
    // In the order in which Envoy looks for them, that of their names.
    assert_eq!(
        configuration(&mesh, "a-0").bootstrap["stats_config"]["histogram_bucket_settings"],
        json!([
            {"match": {"prefix": "cluster.a"}, "buckets": [1000.0]},
            {"match": {"prefix": "wasmcustom"}, "buckets": [1000.0, 0.5, 20.0]},
        ])
    );
    let without = configuration(&mesh, "cart-service-0").bootstrap;
    assert!(
        without["stats_config"]
            .get("histogram_bucket_settings")
            .is_none()
    );
}
