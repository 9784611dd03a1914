//! Shares of all keys: every proxy answers alike, before and after a restart, and nobody who is in drops out when a share grows.
//!
//! Three Envoys are asked: the gateway, whose classifier writes `user-type`, and the sidecars of users and carts, whose classifier has the same rule and
//! writes `x-class`. What they answer is also compared with another implementation of what the page on the classifier says.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tollgate_tests::sticky::is_in;
use tollgate_tests::{Filter, Form, LocalMesh, Manifests, Options, Target};

use crate::client::Client;
use crate::live::applied;
use crate::routing::within_binomial_bounds;
use crate::shared::block_on;
use crate::vouched;

type Test = fn() -> Result<()>;

pub(crate) const TESTS: &[(&str, Test)] = &[
    (
        "proxies_agree_before_and_after_a_restart_and_nobody_drops_out",
        || proxies_agree(Form::ThreeModules),
    ),
    (
        "bundles_agree_before_and_after_a_restart_and_nobody_drops_out",
        || proxies_agree(Form::Bundle),
    ),
];

const KEYS: u32 = 3_000;
const SALT: &str = "shares";
const AT_ONCE: usize = 32;

fn rules(share: u64) -> Value {
    json!({
        "default": "standard",
        "tenant": {"vouched": true},
        "selfAssignable": ["beta"],
        "rules": [{"type": "beta", "when": {"percent": {"share": share, "salt": SALT, "header": "x-key"}}}],
    })
}

fn manifests(form: Form) -> Result<Manifests> {
    let manifests = Manifests::of(form)?;
    manifests.configure(form, Filter::UserClassifier, &rules(10).to_string())?;
    let mut at_sidecars = rules(10);
    at_sidecars["header"] = json!("x-class");
    let (url, configuration) = Filter::UserClassifier.plugin(form, &at_sidecars);
    let mut plugins = String::new();
    for app in ["user-service", "cart-service"] {
        plugins += &format!(
            "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: shares-{app}, namespace: ecommerce}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  url: {url}
  phase: AUTHZ
  priority: 5
  match: [{{mode: SERVER}}]
  pluginConfig: {configuration}
---
"
        );
    }
    vouched::add(&manifests, "shares.yaml", &plugins)?;
    manifests.lift_limits(&["anonymous"])?;
    Ok(manifests)
}

fn start(manifests: Manifests) -> Result<LocalMesh> {
    let echo = env!("CARGO_BIN_EXE_echo");
    LocalMesh::start(
        manifests,
        Options {
            run: ["user", "cart"]
                .map(|name| format!("{name}-service={echo}"))
                .into(),
            ..Options::default()
        },
    )
}

/// What became of each key, at the gateway and at a sidecar.
async fn ask(mesh: &LocalMesh) -> Result<Vec<bool>> {
    let client = Client::of(mesh)?;
    let one = async |number: u32| {
        let key = format!("key-{number}");
        // One after the other at each of the sidecars.
        let path = if number.is_multiple_of(2) {
            "/users/a"
        } else {
            "/cart/a"
        };
        let answer = client.get(path, &[("x-key", &key)]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let said = answer.json()?;
        let headers = said["headers"].as_array().context("headers")?;
        let class = |name: &str| {
            let found = headers.iter().find(|header| header[0] == name);
            found.and_then(|header| header[1].as_str())
        };
        let (gateway, sidecar) = (class("user-type"), class("x-class"));
        ensure!(
            gateway == sidecar && matches!(gateway, Some("beta" | "standard")),
            "{key} is {gateway:?} at the gateway and {sidecar:?} at a sidecar"
        );
        Ok(gateway == Some("beta"))
    };
    let all = stream::iter(0..KEYS).map(one).buffered(AT_ONCE);
    let all: Vec<Result<bool>> = all.collect().await;
    all.into_iter().collect()
}

fn as_written(share: u64) -> Vec<bool> {
    let keys = (0..KEYS).map(|number| format!("key-{number}"));
    keys.map(|key| is_in(share, 100, SALT, &key)).collect()
}

fn proxies_agree(form: Form) -> Result<()> {
    let mesh = start(manifests(form)?)?;
    let before = block_on(ask(&mesh))?;
    ensure!(before == as_written(10), "not the keys that the page says");
    let count = before.iter().filter(|is_in| **is_in).count();
    within_binomial_bounds("in the share", u32::try_from(count)?, KEYS, 0.1)?;

    // Restarted: other processes, other machines for the modules, nothing kept.
    let manifests = mesh.manifests().clone();
    mesh.stop()?;
    let mesh = start(manifests)?;
    ensure!(
        block_on(ask(&mesh))? == before,
        "after a restart it is others"
    );

    // Raised, at the gateway and at the sidecars together.
    mesh.manifests()
        .configure(form, Filter::UserClassifier, &rules(30).to_string())?;
    let sidecars = mesh.manifests().read("istio/security/shares.yaml")?;
    ensure!(sidecars.matches("\"share\":10").count() == 2, "{sidecars}");
    applied(&mesh)?;
    mesh.manifests().write(
        "istio/security/shares.yaml",
        &sidecars.replace("\"share\":10", "\"share\":30"),
    )?;
    applied(&mesh)?;
    let raised = block_on(ask(&mesh))?;
    ensure!(raised == as_written(30), "not the keys that the page says");
    let dropped = before
        .iter()
        .zip(&raised)
        .filter(|(before, now)| **before && !**now)
        .count();
    ensure!(dropped == 0, "{dropped} dropped out");
    let count = raised.iter().filter(|is_in| **is_in).count();
    within_binomial_bounds("in the share", u32::try_from(count)?, KEYS, 0.3)?;
    mesh.stop().map(drop)
}
