//! `tollgate check` as a user calls it, on manifests of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_mesh::Code;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("check").args(args).current_dir(folder);
    command
}

fn check(folder: &TempDir, args: &[&str]) -> Output {
    command(folder.path(), args).output().unwrap()
}

fn text(output: &Output) -> (i32, String) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout.clone()).unwrap(),
    )
}

const NAMESPACE: &str =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n";

fn plugin(module: &str, configuration: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: plugin, namespace: shop}}\nspec:\n  \
         url: oci://ghcr.io/tollgate/{module}:1\n  pluginConfig:\n{configuration}"
    )
}

/// A classifier and a pod whose proxy it runs in.
fn with_sidecar(configuration: &str) -> String {
    format!(
        "{NAMESPACE}---\n{}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  \
         selector: {{matchLabels: {{app: cart}}}}\n  template:\n    metadata: {{labels: {{app: cart}}}}\n    spec: {{containers: [{{name: cart, \
         image: \"cart:1\", ports: [{{containerPort: 80}}]}}]}}\n",
        plugin("user-classifier", configuration)
    )
}

/// The same with a plugin that runs on what comes to the workload alone.
fn with_inbound(configuration: &str) -> String {
    with_sidecar(configuration).replace(
        "  pluginConfig:",
        "  match: [{mode: SERVER}]\n  pluginConfig:",
    )
}

/// A gateway without a plugin, whose tokens write the tenant and the tier.
const GATEWAY: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway, namespace: edge}
spec:
  selector: {matchLabels: {app: gateway}}
  template:
    metadata:
      labels: {app: gateway, sidecar.istio.io/inject: "true"}
      annotations: {inject.istio.io/templates: gateway}
    spec: {containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: edge}
spec:
  selector: {app: gateway}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway, namespace: edge}
spec:
  selector: {app: gateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: edge}
spec:
  jwtRules:
  - issuer: https://issuer.test
    jwks: '{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}'
    outputClaimToHeaders: [{header: x-tenant-id, claim: tenant}, {header: x-tenant-tier, claim: tier}]
---
"#;

fn config_map(bytes: usize) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: shop}}\ndata:\n  value: {}\n",
        "x".repeat(bytes)
    )
}

#[test]
fn what_is_right_is_told_in_one_line() {
    let folder = folder(&[("a/namespace.yaml", NAMESPACE)]);
    assert_eq!(
        text(&check(&folder, &["a"])),
        (0, "checked 1 manifest: no problems\n".to_owned())
    );
}

#[test]
fn every_problem_of_every_file_is_told_by_place_and_code() {
    let limits = "    tenant: {from: [{header: x-tenant-id}], unknown: {tier: free}}\n    tiers:\n      free:\n        limits:\n        \
                  - {name: rate, requests: 5, per: 10}\n";
    let broken = "kind: [\n";
    let folder = folder(&[
        (
            "a.yaml",
            &format!(
                "{NAMESPACE}spec: {{finalisers: []}}\n---\n{}",
                plugin("tenant-rate-limit", limits)
            ),
        ),
        ("b/broken.yaml", broken),
        (
            "b/service.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec:\n  ports:\n  - {port: \"80\", protcol: TCP}\n",
        ),
        ("b/large.yaml", &config_map(300_000)),
    ]);
    let found = check(&folder, &["a.yaml", "b", "c.yaml"]);
    let expected = "\
a.yaml:4: error[TG0202]: spec.finalisers: Namespace has no field \"finalisers\", did you mean \"finalizers\"?
a.yaml:16: error[TG0401]: spec.pluginConfig.tiers.free.limits[0].per: \"10\" is not a duration, write \"10s\"
b/broken.yaml:2: error[TG0102]: is not YAML: while parsing a node, did not find expected node content
b/large.yaml:1: warning[TG0501]: the annotations of ConfigMap shop/settings would have 294 KiB with the copy of it that `kubectl apply` keeps there, and may have 256 KiB; apply it with --server-side, or make several of it
b/service.yaml:6: error[TG0204]: spec.ports[0].port: \"80\" is a string, write 80 without quotes
b/service.yaml:6: error[TG0202]: spec.ports[0].protcol: ServicePort has no field \"protcol\", did you mean \"protocol\"?
c.yaml:1: error[TG0101]: cannot be read: No such file or directory (os error 2)
checked 4 manifests: 6 errors, 1 warning
";
    assert_eq!(text(&found), (1, expected.to_owned()));
    // The same again, whatever the order on the command line.
    let again = check(&folder, &["c.yaml", "b", "a.yaml"]);
    assert_eq!(text(&again), (1, expected.to_owned()));
}

#[test]
fn all_that_is_wrong_in_one_object_is_told_at_once() {
    let configuration = "    tenant: {from: [{header: 5}], unknown: {tier: gold}}\n    tiers:\n      free:\n        limits:\n        \
                         - {name: rate, requests: many, per: 10}\n      acme.eu: {blocked: true, nonsense: 1}\n";
    let plugin = plugin("tenant-rate-limit", configuration).replace("namespace: shop", "labels: 5")
        + "  priority: high\n";
    let folder = folder(&[("a.yaml", &plugin)]);
    assert_eq!(
        text(&check(&folder, &["a.yaml"])),
        (
            1,
            "\
a.yaml:3: error[TG0204]: metadata.labels: 5 is not a mapping
a.yaml:7: error[TG0401]: spec.pluginConfig.tenant.from[0].header: 5 is given, expected a string
a.yaml:7: error[TG0401]: spec.pluginConfig.tenant.unknown.tier: \"gold\" is not a tier, write one of: acme.eu, free
a.yaml:11: error[TG0401]: spec.pluginConfig.tiers.free.limits[0].per: \"10\" is not a duration, write \"10s\"
a.yaml:11: error[TG0401]: spec.pluginConfig.tiers.free.limits[0].requests: \"many\" is given, expected a whole number, e.g. 100
a.yaml:12: error[TG0401]: spec.pluginConfig.tiers[\"acme.eu\"]: \"acme.eu\" cannot be a tier's name, write 1 to 64 of a-z, 0-9, _ and -, not starting with -, and neither other nor none
a.yaml:12: error[TG0401]: spec.pluginConfig.tiers[\"acme.eu\"].nonsense: unknown field \"nonsense\", expected one of \"limits\", \"unlimited\", \"blocked\", \"weight\"
a.yaml:13: error[TG0204]: spec.priority: \"high\" is not a whole number
checked 1 manifest: 8 errors
"
            .to_owned()
        )
    );
}

#[test]
fn limits_in_shadow_are_noted_and_are_no_errors() {
    let limiter = "tenant: {from: [{header: x-tenant-id}], unknown: {tier: free}}\ntiers:\n  free:\n    limits:\n    \
                   - {name: rate, requests: 5, per: 10s}\n    - {name: daily, quota: 5, per: day, mode: shadow, enforcedFor: {share: 5}}\n";
    let indented = |by: &str| -> String {
        let lines = limiter.lines();
        lines.map(|line| format!("{by}{line}\n")).collect()
    };
    let bundle = format!("    tenantRateLimit:\n{}", indented("      "));
    let folder = folder(&[
        ("a.yaml", NAMESPACE),
        ("b.yaml", &plugin("tenant-rate-limit", &indented("    "))),
        (
            "c.yaml",
            &plugin("tollgate", &bundle).replace("name: plugin", "name: bundle"),
        ),
        ("d.yaml", limiter),
    ]);
    let what = "the limit daily is in shadow for all but 5 of 100 tenants";
    let manifests = format!(
        "b.yaml:12: note[TG0404]: spec.pluginConfig.tiers.free.limits[1].mode: {what}\n\
         c.yaml:13: note[TG0404]: spec.pluginConfig.tenantRateLimit.tiers.free.limits[1].mode: {what}\n\
         checked 3 manifests: 2 notes\n"
    );
    let paths = ["a.yaml", "b.yaml", "c.yaml"];
    assert_eq!(text(&check(&folder, &paths)), (0, manifests));
    let plugin = ["--plugin", "tenant-rate-limit", "d.yaml"];
    let alone = format!(
        "d.yaml:6: note[TG0404]: tiers.free.limits[1].mode: {what}\nchecked 1 configuration: 1 note\n"
    );
    assert_eq!(text(&check(&folder, &plugin)), (0, alone));
    for (format, level) in [
        ("json", "/problems/0/level"),
        ("sarif", "/runs/0/results/0/level"),
    ] {
        let found = check(&folder, &[&plugin[..], &["--format", format]].concat());
        let (code, told) = text(&found);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((code, told.pointer(level)), (0, Some(&json!("note"))));
    }
}

#[test]
fn a_key_that_the_environment_lacks_is_told_as_the_filter_would() {
    let keys = "    default: standard\n    stickyKeys:\n    - {id: new, env: STICKY_NEW}\n    - {id: old, env: STICKY_OLD}\n    - {id: oldest, env: \
                STICKY_OLDEST}\n    nonsense: 1\n  vmConfig:\n    env:\n    - {name: STICKY_OLD, valueFrom: HOST}\n    - {name: STICKY_OLDEST, value: \
                short}\n    - {name: UNUSED, value: a}\n";
    let folder = folder(&[("a.yaml", &plugin("user-classifier", keys))]);
    assert_eq!(
        text(&check(&folder, &["a.yaml"])),
        (
            1,
            "\
a.yaml:9: error[TG0401]: spec.pluginConfig.stickyKeys[0].env: the module's environment has no \"STICKY_NEW\", name it in the plugin's vmConfig.env
a.yaml:11: error[TG0401]: spec.pluginConfig.stickyKeys[2].env: a secret of 5 bytes is given, write 32 to 256, for example what `openssl rand -base64 32` prints
a.yaml:12: error[TG0401]: spec.pluginConfig.nonsense: unknown field \"nonsense\", expected one of \"header\", \"default\", \"selfAssignable\", \"stickyKeys\", \"trust\", \"tenant\", \"explain\", \"rules\"
checked 1 manifest: 3 errors
"
            .to_owned()
        )
    );
}

#[test]
fn what_a_proxy_believes_of_another_is_told_with_both_places() {
    let trust = "    trust:\n      peers:\n      - exact: spiffe://cluster.local/ns/edge/sa/default\n      - exact: \
                 spiffe://cluster.local/ns/shop/sa/crat\n";
    let manifest = with_inbound(trust);
    let folder = folder(&[("gateway.yaml", GATEWAY), ("shop.yaml", &manifest)]);
    assert_eq!(
        text(&check(&folder, &["."])),
        (
            1,
            "\
shop.yaml:14: error[TG0304]: spec.pluginConfig.trust.peers[0]: \"spiffe://cluster.local/ns/edge/sa/default\" is the gateway edge/gateway (gateway.yaml:1), where nothing takes user-type away from clients, so here what they write would be believed; let a user-classifier that writes user-type run there, or believe it no more
shop.yaml:15: warning[TG0303]: spec.pluginConfig.trust.peers[1]: \"spiffe://cluster.local/ns/shop/sa/crat\" is the identity of no workload of these manifests; write that of a workload which has a proxy
checked 7 manifests: 1 error, 1 warning
"
            .to_owned()
        )
    );
}

#[test]
fn an_empty_folder_is_an_error() {
    let folder = folder(&[("empty/readme.txt", "")]);
    assert_eq!(
        text(&check(&folder, &["empty"])),
        (
            1,
            "empty:1: error[TG0101]: has no manifests: no kustomization.yaml, and no .yaml, .yml or .json file\nchecked 0 manifests: 1 error\n"
                .to_owned()
        )
    );
}

#[test]
fn a_kustomization_is_read_with_its_patches() {
    let patch = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: plugin, namespace: shop}\nspec:\n  \
                 pluginConfig:\n    default: Standard\n";
    let folder = folder(&[
        (
            "mesh/kustomization.yaml",
            "resources: [namespace.yaml, plugin.yaml]\npatches: [{path: patch.yaml}]\n",
        ),
        ("mesh/namespace.yaml", NAMESPACE),
        (
            "mesh/plugin.yaml",
            &plugin("user-classifier", "    default: standard\n"),
        ),
        ("mesh/patch.yaml", patch),
    ]);
    assert_eq!(
        text(&check(&folder, &["mesh"])),
        (
            1,
            "mesh/patch.yaml:6: error[TG0401]: spec.pluginConfig.default: \"Standard\" is not a type, write 1 to 64 of a-z, 0-9, _ and -, \
             not starting with -\nchecked 2 manifests: 1 error\n"
                .to_owned()
        )
    );
}

#[test]
fn warnings_and_notes_are_no_failure() {
    let folder = folder(&[
        ("namespace.yaml", NAMESPACE),
        ("plugin.yaml", &plugin("fraud", "    a: 1\n")),
        (
            "small.yaml",
            &config_map(255 << 10).replace("settings", "small"),
        ),
        (
            "large.yaml",
            &config_map(257 << 10).replace("settings", "large"),
        ),
    ]);
    assert_eq!(
        text(&check(&folder, &["."])),
        (
            0,
            "large.yaml:1: warning[TG0501]: the annotations of ConfigMap shop/large would have 258 KiB with the copy of it that `kubectl apply` \
             keeps there, and may have 256 KiB; apply it with --server-side, or make several of it\n\
             plugin.yaml:5: note[TG0403]: spec.url: the module fraud is none of Tollgate's, so its pluginConfig is not checked\n\
             checked 4 manifests: 1 warning, 1 note\n"
                .to_owned()
        )
    );
}

#[test]
fn above_a_mebibyte_a_manifest_is_an_error_even_as_json() {
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "shop"},
        "data": {"value": "x".repeat(11 << 20).get(..(11 << 20) / 10)},
    });
    let folder = folder(&[("a.json", &manifest.to_string())]);
    assert_eq!(
        text(&check(&folder, &["a.json"])),
        (
            1,
            "a.json:1: error[TG0502]: ConfigMap shop/settings has 1127 KiB as JSON, and a cluster keeps at most 1024 KiB of an object \
             safely; make several of it\nchecked 1 manifest: 1 error\n"
                .to_owned()
        )
    );
}

#[test]
fn standard_input_is_a_file() {
    let folder = folder(&[]);
    let mut child = command(folder.path(), &["-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(b"apiVersion: v1\nkind: Namespce\nmetadata: {name: shop}\n")
        .unwrap();
    drop(input);
    assert_eq!(
        text(&child.wait_with_output().unwrap()),
        (
            1,
            "<stdin>:2: error[TG0201]: kind: there is no kind Namespce, did you mean Namespace?\nchecked 1 manifest: 1 error\n".to_owned()
        )
    );
}

#[test]
fn a_file_may_hold_only_a_configuration() {
    let good = "tenant: {from: [{header: x-tenant-id}], unknown: {tier: free}}\ntiers:\n  free:\n    limits:\n    \
                - {name: rate, requests: 5, per: 1s}\n";
    let folder = folder(&[
        ("good.yaml", good),
        ("bad.yaml", &good.replace("tier: free", "tier: gold")),
        ("list.yaml", "[]\n"),
        ("empty.yaml", "# later\n"),
    ]);
    assert_eq!(
        text(&check(&folder, &["--plugin", "tenant-rate-limit", "."])),
        (
            1,
            "bad.yaml:1: error[TG0401]: tenant.unknown.tier: \"gold\" is not a tier, write one of: free\n\
             empty.yaml:1: error[TG0401]: is empty, write the configuration\n\
             list.yaml:1: error[TG0401]: a list is given, expected a mapping\n\
             checked 3 configurations: 3 errors\n"
                .to_owned()
        )
    );
    assert_eq!(
        text(&check(
            &folder,
            &["--plugin", "tenant-rate-limit", "good.yaml"]
        ))
        .0,
        0
    );
}

#[test]
fn a_wrong_command_line_is_another_exit_code() {
    let folder = folder(&[]);
    for args in [
        &["--format", "xml"][..],
        &["--plugin", "no-such-plugin", "a.yaml"],
        &["--plugin", "tenant-rate-limit"],
    ] {
        assert_eq!(check(&folder, args).status.code(), Some(2), "{args:?}");
    }
    // Nothing is named, and there is no workspace whose manifests could be meant.
    let output = check(&folder, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not in a Tollgate workspace"));
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let folder = folder(&[("a.yaml", "kind: [\n")]);
    let plain = text(&check(&folder, &["a.yaml"])).1;
    assert!(!plain.contains('\x1b'), "{plain}");
    let forced = command(folder.path(), &["a.yaml"])
        .env("CLICOLOR_FORCE", "1")
        .output()
        .unwrap();
    let forced = text(&forced).1;
    assert!(
        forced.contains("\x1b[1m\x1b[31merror[TG0102]\x1b[0m: "),
        "{forced:?}"
    );
}

#[test]
fn the_manifests_of_this_repository_are_right_in_both_forms() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for paths in [&[][..], &["istio/overlays/bundle"]] {
        let output = command(&repository, paths).output().unwrap();
        let (code, said) = text(&output);
        assert_eq!(code, 0, "{said}");
        assert!(
            said.ends_with(" manifests: no problems\n") && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[test]
fn for_scripts_it_is_one_json_object() {
    let folder = folder(&[
        (
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: 80}\n",
        ),
        ("b.yaml", &config_map(300_000)),
    ]);
    let (code, said) = text(&check(&folder, &["a.yaml", "b.yaml", "--format", "json"]));
    assert_eq!(code, 1);
    let mut report: Value = serde_json::from_str(&said).unwrap();
    // As long as that of the text form, which is compared there.
    let reason = report["problems"][1]["reason"].take();
    assert!(reason.as_str().is_some_and(|reason| {
        reason.starts_with("the annotations of ConfigMap shop/settings would have 294 KiB")
    }));
    assert_eq!(
        report,
        json!({
            "checked": 2, "errors": 1, "warnings": 1, "notes": 0,
            "problems": [
                {
                    "code": "TG0204", "level": "error", "file": "a.yaml", "line": 4, "field": "spec.ports",
                    "reason": "80 is not a list",
                },
                {"code": "TG0501", "level": "warning", "file": "b.yaml", "line": 1, "field": "", "reason": null},
            ],
        })
    );
    let nothing = text(&check(
        &folder,
        &["b.yaml", "--plugin", "tollgate", "--format", "json"],
    ));
    assert_eq!(nothing.0, 1);
}

/// What SARIF requires, and code hosts beyond that.
const UPLOAD: &str = include_str!("upload.schema.json");

#[test]
fn for_code_scanning_it_is_sarif() {
    let folder = folder(&[
        (".git/HEAD", ""),
        (
            "mesh/a b.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: 80}\n",
        ),
        ("large.yaml", &config_map(300_000)),
    ]);
    // From within the repository; the locations are from its root on.
    let output = command(
        &folder.path().join("mesh"),
        &[
            "--format",
            "sarif",
            "a b.yaml",
            "../large.yaml",
            "nowhere.yaml",
        ],
    )
    .output();
    let (code, said) = text(&output.unwrap());
    assert_eq!(code, 1);
    let log: Value = serde_json::from_str(&said).unwrap();

    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler
        .add_resource("upload.json", serde_json::from_str(UPLOAD).unwrap())
        .unwrap();
    let upload = compiler.compile("upload.json", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(&log, upload) {
        panic!("{error:#}");
    }

    let rules = log["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            let rule = &rules[result["ruleIndex"].as_u64().unwrap() as usize];
            assert_eq!(rule["id"], result["ruleId"]);
            assert_eq!(rule["defaultConfiguration"]["level"], result["level"]);
            let place = &result["locations"][0]["physicalLocation"];
            (
                result["ruleId"].as_str().unwrap(),
                place["artifactLocation"]["uri"].as_str().unwrap(),
                place["region"]["startLine"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("TG0501", "large.yaml", 1),
            ("TG0204", "mesh/a%20b.yaml", 4),
            ("TG0101", "mesh/nowhere.yaml", 1),
        ]
    );
    assert_eq!(
        results[1]["message"]["text"],
        "spec.ports: 80 is not a list"
    );
    assert_eq!(
        results[1]["locations"][0]["logicalLocations"],
        json!([{"fullyQualifiedName": "spec.ports", "kind": "property"}])
    );
}

/// A manifest for every code, so that none is only a word: what is found in it, and by which code.
#[test]
fn every_code_is_given_to_what_it_is_for() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec:\n";
    let with = |text: &str| format!("{service}{text}");
    let samples: Vec<(&str, Vec<(&str, String)>)> = vec![
        ("TG0101", vec![("none/readme.txt", String::new())]),
("TG0102", vec![("a.yaml", "kind: [\n".to_owned())]),
        ("TG0102", vec![("a.json", "{\n".to_owned())]),
        ("TG0103", vec![("a.yaml", with("  a: yes\n"))]),
        ("TG0103", vec![("a.yaml", with("  a: 1\n  a: 2\n"))]),
        ("TG0104", vec![("kustomization.yaml", "resources: [nowhere.yaml]\n".to_owned())]),
        ("TG0104", vec![("kustomization.yaml", "resources: [a.yaml]\npatches: [{patch: \"- 1\", path: a}]\n".to_owned()), ("a.yaml", NAMESPACE.to_owned())]),
        ("TG0201", vec![("a.yaml", "- 1\n".to_owned())]),
        ("TG0202", vec![("a.yaml", with("  selectr: {}\n"))]),
        ("TG0203", vec![("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\n".to_owned())]),
        ("TG0204", vec![("a.yaml", with("  ports: 80\n"))]),
        ("TG0205", vec![("a.yaml", format!("{NAMESPACE}---\n{NAMESPACE}"))]),
        ("TG0206", vec![("a.yaml", with("  externalIPs: [10.0.0.1]\n"))]),
        ("TG0206", vec![("a.yaml", "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\n".to_owned())]),
        ("TG0301", vec![("a.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http: [{route: [{destination: {host: a}}]}]\n".to_owned())]),
        ("TG0302", vec![("a.yaml", with_sidecar("    default: a\n    tenant: {vouched: true}\n    rules: [{type: b, when: {tier: {exact: gold}}}]\n"))]),
        ("TG0303", vec![("a.yaml", with_sidecar("    default: a\n    rules: [{type: b, when: {claim: {name: a, exact: b}}}]\n"))]),
        ("TG0304", vec![("a.yaml", GATEWAY.to_owned() + &with_inbound("    trust: {peers: [{exact: spiffe://cluster.local/ns/edge/sa/default}]}\n"))]),
        ("TG0305", vec![("a.yaml", with_sidecar("    labels: {a: {from: status}}\n    metrics: [{name: b_total, labels: [a]}]\n").replace("user-classifier", "business-metrics"))]),
        ("TG0401", vec![("a.yaml", plugin("business-metrics", "    a: 1\n"))]),
        ("TG0403", vec![("a.yaml", plugin("fraud", "    a: 1\n"))]),
        ("TG0404", vec![("a.yaml", plugin("tenant-rate-limit", "    tenant: {from: [{claim: a}], unknown: {tier: a}}\n    tiers: {a: {limits: [{name: b, requests: 1, per: 1s, mode: shadow}]}}\n"))]),
        ("TG0405", vec![("a.yaml", plugin("tollgate", "    businessMetrics: {metrics: [{name: a_total, value: {responseBody: /total, max: 9}}]}\n"))]),
        ("TG0406", vec![("a.yaml", plugin("business-metrics-bodies", "    metrics: [{name: a_total}]\n"))]),
        ("TG0501", vec![("a.yaml", config_map(300_000))]),
        ("TG0502", vec![("a.yaml", config_map(1_100_000))]),
        ("TG0601", vec![("a.yaml", config_map(43).replace("value: ", "value: tollgate-local-"))]),
    ];
    let mut given = BTreeSet::new();
    for (code, files) in samples {
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        let folder = folder(&files);
        let said = text(&check(&folder, &[".", "--format", "json"])).1;
        let report: Value = serde_json::from_str(&said).unwrap();
        let codes: BTreeSet<&str> = report["problems"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|problem| problem["code"].as_str())
            .collect();
        assert_eq!(codes, BTreeSet::from([code]), "{files:?}: {said}");
        given.insert(code);
    }
    // Told by `up`, which builds the modules.
    given.insert("TG0402");
    assert_eq!(given, Code::ALL.iter().map(|code| code.as_str()).collect());
}

#[test]
fn the_page_has_a_line_for_every_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/check.md");
    let page = fs::read_to_string(page).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `TG"))
        .collect();
    let expected: Vec<String> = Code::ALL
        .iter()
        .map(|code| {
            format!(
                "| `{code}` | {} | {} | {} |",
                code.level().as_str(),
                code.title(),
                code.help()
            )
        })
        .collect();
    assert_eq!(
        rows, expected,
        "docs/check.md, and the codes of mesh/src/problem.rs"
    );
    let ordered: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert!(ordered.is_sorted() && ordered.iter().collect::<BTreeSet<_>>().len() == ordered.len());
}
