//! The whole configuration of a gateway and of a sidecar, compared with what is committed.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p tollgate-mesh` writes them anew.

use std::path::Path;

use serde_json::{Value, json};

use crate::{configuration, shop};

pub(crate) fn check(name: &str, actual: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/mesh/snapshots")
        .join(name);
    let text = format!("{actual:#}\n");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &text).expect("the snapshot can be written");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let expected: Value = serde_json::from_str(&committed).unwrap_or_default();
    if *actual != expected {
        let changed = text
            .lines()
            .zip(committed.lines())
            .position(|(actual, committed)| actual != committed);
        let line = changed.unwrap_or_default();
        let around = text
            .lines()
            .skip(line.saturating_sub(5))
            .take(15)
            .collect::<Vec<_>>()
            .join("\n");
        panic!(
            "{} is not what is written now, from line {} on:\n{around}\n\nif it should be, run \
             UPDATE_SNAPSHOTS=1 cargo test -p tollgate-mesh, and look at the difference",
            file.display(),
            line + 1
        );
    }
}

fn whole(pod: &str) -> Value {
    let configuration = configuration(&shop(), pod);
    json!({
        "bootstrap": configuration.bootstrap,
        "listeners": configuration.listeners,
        "clusters": configuration.clusters,
        "routes": configuration.routes,
        "extensions": configuration.extensions,
    })
}

#[test]
fn a_gateway() {
    check("gateway.json", &whole("ingressgateway-0"));
}

#[test]
fn a_sidecar() {
    check("sidecar.json", &whole("cart-service-0"));
}

#[test]
fn what_others_refer_to_is_written_first() {
    let files = configuration(&shop(), "cart-service-0").files(Path::new("/run/cart-service-0"));
    let names: Vec<String> = files
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "/run/cart-service-0/ecds/ecommerce.business-metrics.json",
            "/run/cart-service-0/rds/http_proxy.json",
            "/run/cart-service-0/cds.json",
            "/run/cart-service-0/lds.json",
            "/run/cart-service-0/bootstrap.json",
        ]
    );
}

#[test]
fn a_file_is_a_discovery_response_whose_version_is_its_contents() {
    let response = |more: &str| {
        let mesh = crate::shop_and(more);
        let files = configuration(&mesh, "cart-service-0").files(Path::new("/run"));
        let (_, text) = files
            .into_iter()
            .find(|(path, _)| path.ends_with("http_proxy.json"))
            .expect("routes");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let before = response("");
    assert_eq!(
        before["type_url"],
        "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    );
    assert_eq!(before["resources"][0]["@type"], before["type_url"]);
    assert_eq!(before["resources"][0]["name"], "http_proxy");
    assert_eq!(before["version_info"], response("")["version_info"]);
    let after = response(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: ecommerce}\nspec:\n  \
         hosts: [cart-service]\n  http:\n  - timeout: 1s\n    route: [{destination: {host: cart-service}}]\n",
    );
    assert_ne!(before["version_info"], after["version_info"]);
}
