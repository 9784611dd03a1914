//! What Deployments become.

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
