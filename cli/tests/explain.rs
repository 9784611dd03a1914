//! `tollgate explain` as a user calls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Exit code, standard output and standard error.
fn explain(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("explain")
        .args(args)
        .current_dir(repository())
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out, err)
}

fn told(args: &[&str]) -> String {
    let (code, out, err) = explain(args);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    out
}

const EXAMPLES: &str = "wasm-plugins/user-classifier/examples";

#[test]
fn the_deciding_rule_is_told_with_those_before_it() {
    let file = format!("{EXAMPLES}/token-claims.yaml");
    let claims = [
        "--claim",
        "groups=[\"dev\"]",
        "--claim",
        "account={\"years\": 12}",
    ];
    assert_eq!(
        told(&[&["--plugin", &file, "http://shop/"], &claims[..]].concat()),
        "GET http://shop/
  user-type: vip (rules[1] holds)
  rules[0] internal: does not hold
    - claim groups has an element that is one of 2 values: an array of 1
  rules[1] vip: holds
    + any
      - claim plan is \"vip\": nothing
      + claim account > years is a number of at least 10: 12
"
    );
    // Without a token there are no claims, whatever headers say.
    assert_eq!(
        told(&["--plugin", &file, "-H", "groups: staff", "http://shop/"])
            .lines()
            .nth(1),
        Some("  user-type: standard (no rule holds)")
    );
}

/// In a bundle it stands in no configuration that a limiter is in front.
#[test]
fn both_forms_of_the_shop_know_tenants_from_their_limiter() {
    for mesh in [".", "istio/overlays/bundle"] {
        let args = ["--manifests", mesh, "--tier", "premium", "http://shop/"];
        let told = told(&args);
        assert!(
            told.starts_with("GET http://shop/\n  user-type: premium (rules[1] holds)\n"),
            "{mesh}: {told}"
        );
    }
}

#[test]
fn what_two_readers_read_differently_is_unclear() {
    let file = format!("{EXAMPLES}/gradual-rollout.yaml");
    let out = told(&[
        "--plugin",
        &file,
        "-H",
        "cookie: visitor=v9; Visitor=v1",
        "--time",
        "2026-11-03T12:00:00Z",
        "http://shop//admin",
    ]);
    assert_eq!(
        out,
        "GET http://shop//admin
  user-type: standard (no rule holds)
  rules[0] beta: is unclear
    ? all
      ? any
        - claim sub is among the first 10 of 100 by the salt \"checkout-2026\": nothing
        ? cookie visitor is among the first 10 of 100 by the salt \"checkout-2026\": more than one
      ? not
        ? path begins with \"/admin\": \"//admin\", for some \"/admin\"
      + time is within the period, on mon, tue, wed, thu, fri, between 08:00 and 18:00
"
    );
}

#[test]
fn a_sidecar_keeps_what_it_is_told_by_those_it_trusts() {
    let file = format!("{EXAMPLES}/sidecar.yaml");
    let from = |peer: &str| {
        told(&[
            "--plugin",
            &file,
            "-H",
            "user-type: vip",
            "--peer",
            peer,
            "http://cart-service:3002/cart/alice",
        ])
        .lines()
        .nth(1)
        .map(str::to_owned)
    };
    assert_eq!(
        from("spiffe://cluster.local/ns/ecommerce/sa/order-service").as_deref(),
        Some("  user-type: vip (kept, because whoever is connected is trusted)")
    );
    assert_eq!(
        from("spiffe://cluster.local/ns/elsewhere/sa/a").as_deref(),
        Some("  user-type: none (no rule holds)")
    );
    assert_eq!(
        from("spiffe://cluster.local/ns/jobs/sa/a").as_deref(),
        Some("  user-type: internal (rules[0] holds)")
    );
}

#[test]
fn the_requests_of_a_har_file_are_told_one_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let har = folder.path().join("requests.har");
    let entry = |url: &str, headers: Value| json!({"request": {"method": "GET", "url": url, "headers": headers}});
    let all = json!({"log": {"entries": [
        entry("https://shop/products", json!([{"name": "X-Beta", "value": "true"}, {"name": ":method", "value": "GET"}])),
        entry("https://shop/cart/alice?a=1#top", json!([{"name": "User-Type", "value": "vip"}])),
    ]}});
    fs::write(&har, all.to_string()).unwrap();
    let file = format!("{EXAMPLES}/opt-in-beta.yaml");
    let out = told(&[
        "--plugin",
        &file,
        "--har",
        har.to_str().unwrap(),
        "--format",
        "json",
    ]);
    let told: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<_> = told
        .iter()
        .map(|told| (&told["type"], &told["rule"]))
        .collect();
    assert_eq!(
        types,
        [
            (&json!("beta"), &json!(0)),
            (&json!("standard"), &Value::Null)
        ]
    );
    assert_eq!(
        told[0]["rules"],
        json!([{"rule": 0, "type": "beta", "outcome": "holds", "when": {
            "condition": "header x-beta is \"true\"", "outcome": "holds", "found": "\"true\""}}])
    );

    fs::write(&har, "{}").unwrap();
    let (code, _, err) = explain(&["--plugin", &file, "--har", har.to_str().unwrap()]);
    assert_eq!(
        (code, err),
        (
            Some(1),
            format!(
                "error: {} is no HAR file: it has no log.entries\n",
                har.display()
            )
        )
    );
}

#[test]
fn what_cannot_be_explained_says_why() {
    for (args, expected) in [
        (
            &["shop/products"][..],
            "error: \"shop/products\" is no URL, write e.g. http://shop/products\n",
        ),
        (
            &["--namespace", "jobs", "http://shop/"],
            "error: no user-classifier is in the namespace jobs, name another with --namespace: istio-system, ecommerce\n",
        ),
    ] {
        let (code, out, err) = explain(args);
        assert_eq!(
            (code, out.as_str(), err.as_str()),
            (Some(1), "", expected),
            "{args:?}"
        );
    }
    for args in [
        &["-H", "x", "http://shop/"][..],
        &["--claim", "x", "http://shop/"],
        &["--time", "noon", "http://shop/"],
        &[],
    ] {
        assert_eq!(explain(args).0, Some(2), "{args:?}");
    }
}
