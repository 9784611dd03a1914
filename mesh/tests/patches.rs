//! What kustomizations change, and where it is said to be when it is wrong.

use std::fmt::Write;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use tollgate_mesh::api::Objects;
use tollgate_mesh::load_watched;

const BASE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: ecommerce}
spec:
  hosts: [shop]
  http:
  - name: first
    route:
    - destination: {host: shop}
    timeout: 5s
  - name: second
    route:
    - destination: {host: shop}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: ecommerce}
spec:
  host: shop
";

const PLUGIN: &str = "\
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: limits}
spec:
  url: oci://example.com/limits:1
  pluginConfig: {tiers: {free: {limits: [1, 2, 3]}, gold: {limits: []}}}
";

fn write(folder: &std::path::Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn load(files: &[(&str, &str)], folder: &str) -> Result<Objects, String> {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), files);
    Objects::load(&[root.path().join(folder)]).map_err(|problems| {
        problems
            .to_string()
            .replace(root.path().to_str().unwrap(), "@")
    })
}

fn kustomization(patches: &str) -> String {
    format!("resources:\n- base.yaml\n- plugin.yaml\npatches:\n{patches}")
}

/// The objects after these patches, whose first line is line 5 of `kustomization.yaml`.
fn patched(patches: &str) -> Result<Objects, String> {
    let text = kustomization(patches);
    let files = [
        ("kustomization.yaml", text.as_str()),
        ("base.yaml", BASE),
        ("plugin.yaml", PLUGIN),
    ];
    load(&files, ".")
}

fn good(patches: &str) -> Objects {
    patched(patches).unwrap_or_else(|problems| panic!("{problems}"))
}

#[track_caller]
fn says(patches: &str, expected: &[&str]) {
    assert_eq!(
        patched(patches).err().unwrap_or_default(),
        expected.join("\n"),
        "of\n{patches}"
    );
}

/// Operations on the VirtualService; the first is on line 8.
fn operations(operations: &str) -> String {
    let mut patch = "- target: {kind: VirtualService}\n  patch: |-\n".to_owned();
    for line in operations.lines() {
        writeln!(patch, "    {line}").unwrap();
    }
    patch
}

/// A merge patch of the VirtualService; its first line is line 6.
fn merge(patch: &str) -> String {
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop, namespace: ecommerce}";
    let mut text = "- patch: |-\n".to_owned();
    for line in head.lines().chain(patch.lines()) {
        writeln!(text, "    {line}").unwrap();
    }
    text
}

#[test]
fn operations_change_what_their_target_selects() {
    let objects = good(&operations(
        "- {op: add, path: /spec/http/0/retries, value: {attempts: 3}}\n\
         - {op: replace, path: /spec/http/0/timeout, value: 7s}\n\
         - {op: test, path: /spec/http/1/name, value: second}\n\
         - {op: move, from: /spec/http/1/name, path: /spec/http/0/name}\n\
         - {op: copy, from: /spec/http/0/timeout, path: /spec/http/1/timeout}\n\
         - {op: add, path: /spec/hosts/0, value: other}\n\
         - {op: remove, path: /spec/hosts/1}\n\
         - {op: add, path: /spec/hosts/-, value: last}\n",
    ));
    let spec = &objects.virtual_services[0].spec;
    assert_eq!(spec.hosts, ["other", "last"]);
    let names: Vec<_> = spec
        .http
        .iter()
        .map(|route| route.name.as_deref())
        .collect();
    assert_eq!(names, [Some("second"), None]);
    let timeouts: Vec<_> = spec
        .http
        .iter()
        .map(|route| route.timeout.map(|timeout| timeout.0.as_secs()))
        .collect();
    assert_eq!(timeouts, [Some(7), Some(7)]);
    assert_eq!(spec.http[0].retries.as_ref().unwrap().attempts, 3);
}

#[test]
fn a_target_s_names_are_regular_expressions_for_all_of_the_name() {
    let objects = |name: &str| {
        patched(&format!(
            "- target: {{kind: VirtualService|DestinationRule, name: {name}, group: networking.*, namespace: ecommerce}}\n  \
             patch: |-\n    - {{op: add, path: /metadata/labels, value: {{a: b}}}}\n"
        ))
    };
    let labelled = objects("sh.*|x").unwrap();
    assert_eq!(labelled.virtual_services[0].labels["a"], "b");
    assert_eq!(labelled.destination_rules[0].labels["a"], "b");
    assert!(labelled.wasm_plugins[0].labels.is_empty());
    assert_eq!(
        objects("sho").unwrap_err(),
        "@/kustomization.yaml:5: patches[0].target: selects nothing; there are DestinationRule ecommerce/shop, \
         VirtualService ecommerce/shop"
    );
    assert_eq!(
        objects("'['")
            .unwrap_err()
            .split(": ")
            .take(3)
            .collect::<Vec<_>>(),
        [
            "@/kustomization.yaml:5",
            "patches[0].target.name",
            "\"[\" is not a regular expression"
        ]
    );
}

#[test]
fn a_merge_patch_merges_mappings_replaces_lists_and_removes_what_is_null() {
    let objects = good(&merge(
        "  \nspec:\n  gateways: [mesh]\n  http:\n  - route: [{destination: {host: other}}]\n",
    ));
    let spec = &objects.virtual_services[0].spec;
    assert_eq!(spec.hosts, ["shop"]);
    assert_eq!(spec.gateways, ["mesh"]);
    assert_eq!(spec.http.len(), 1);
    assert_eq!(spec.http[0].route[0].destination.host, "other");

    let objects = good(
        "- target: {kind: WasmPlugin}\n  patch: |-\n    apiVersion: extensions.istio.io/v1alpha1\n    kind: WasmPlugin\n    \
         metadata: {name: any}\n    spec: {pluginConfig: {tiers: {free: null, gold: {burst: 5}, new: {a: null, b: 1}}}}\n",
    );
    let plugin = &objects.wasm_plugins[0];
    assert_eq!(plugin.name, "limits");
    assert_eq!(
        serde_json::to_string(&plugin.spec.plugin_config).unwrap(),
        r#"{"tiers":{"gold":{"burst":5,"limits":[]},"new":{"b":1}}}"#
    );
}

#[test]
fn a_merge_patch_can_remove_an_object() {
    let objects = good(&merge("$patch: delete"));
    assert!(objects.virtual_services.is_empty());
    assert_eq!(objects.destination_rules.len(), 1);
}

#[test]
fn what_a_patch_got_wrong_is_said_of_the_patch_and_the_rest_of_the_base() {
    // Inline, in a file of its own, and moved from the base: each value has the line where it stands.
    let inline = operations(
        "- op: add\n  path: /spec/http/0/retries\n  value:\n    attempts: 3\n    perTryTimeout: 0s\n\
         - {op: add, path: /spec/http/1/timeout, value: 3}\n\
         - {op: move, from: /spec/http/0/timeout, path: /spec/http/0/name}\n\
         - {op: add, path: /spec/http/0/nme, value: x}\n",
    );
    says(
        &inline,
        &[
            "@/kustomization.yaml:11: spec.http[0].retries.perTryTimeout: is not a whole number of milliseconds above 0, as Istio \
             demands; write \"100ms\" or more",
            "@/kustomization.yaml:12: spec.http[1].timeout: 3 is not a duration, write \"3s\"",
            "@/kustomization.yaml:14: spec.http[0].nme: HTTPRoute has no field \"nme\", did you mean \"name\"?",
        ],
    );
    let merged = merge("spec:\n  host: [shop]\n  http:\n  - route: []\n    timeout: 5\n");
    says(
        &merged,
        &[
            "@/kustomization.yaml:10: spec.host: VirtualService has no field \"host\", did you mean \"hosts\"?",
            "@/kustomization.yaml:13: spec.http[0].timeout: 5 is not a duration, write \"5s\"",
        ],
    );

    let base = BASE.replace("timeout: 5s", "timeout: 5");
    let text =
        "resources: [base.yaml]\npatches:\n- path: patch.yaml\n  target: {kind: VirtualService}\n";
    let patch = "- {op: add, path: /spec/http/0, value: {name: new, route: [{destination: {host: shop}}]}}\n\
                 - op: replace\n  path: /spec/hosts\n  value:\n  - 1\n";
    let files = [
        ("kustomization.yaml", text),
        ("base.yaml", &base),
        ("patch.yaml", patch),
    ];
    assert_eq!(
        load(&files, ".").unwrap_err(),
        "@/base.yaml:10: spec.http[1].timeout: 5 is not a duration, write \"5s\"\n\
         @/patch.yaml:5: spec.hosts[0]: 1 is not a string, write \"1\""
    );
    let files = [
        ("kustomization.yaml", text),
        ("base.yaml", &base),
        ("patch.yaml", patch.lines().next().unwrap()),
    ];
    assert_eq!(
        load(&files, ".").unwrap_err(),
        "@/base.yaml:10: spec.http[1].timeout: 5 is not a duration, write \"5s\""
    );
    let both = [
        (
            "kustomization.yaml",
            "resources: [base.yaml]\npatches: [{path: patch.json, target: {kind: VirtualService}}]\n",
        ),
        ("base.yaml", &base),
        (
            "patch.json",
            "[\n  {\"op\": \"copy\", \"from\": \"/spec/http/0/timeout\", \"path\": \"/spec/http/1/timeout\"},\n  {\"op\": \"remove\", \"path\": \"/spec/http/0\"}\n]\n",
        ),
    ];
    assert_eq!(
        load(&both, ".").unwrap_err(),
        "@/base.yaml:10: spec.http[0].timeout: 5 is not a duration, write \"5s\""
    );
}

#[test]
fn patches_of_a_kustomization_reach_what_it_names_and_no_further() {
    let inner = "resources: [base.yaml]\npatches:\n- target: {kind: VirtualService}\n  patch: |-\n    \
                 [{\"op\": \"replace\", \"path\": \"/spec/http/0/timeout\", \"value\": \"1s\"}]\n";
    let outer = "resources: [../inner, other.yaml]\npatches:\n- target: {name: shop, kind: VirtualService}\n  patch: |-\n    \
                 [{\"op\": \"test\", \"path\": \"/spec/http/0/timeout\", \"value\": \"1s\"}, {\"op\": \"replace\", \"path\": \
                 \"/spec/http/0/timeout\", \"value\": \"2s\"}]\n";
    let other = BASE
        .split("---")
        .next()
        .unwrap()
        .replace("name: shop", "name: other");
    let files = [
        ("inner/kustomization.yaml", inner),
        ("inner/base.yaml", BASE),
        ("outer/kustomization.yaml", outer),
        ("outer/other.yaml", &other),
    ];
    let objects = load(&files, "outer").unwrap_or_else(|problems| panic!("{problems}"));
    let timeouts: Vec<_> = objects
        .virtual_services
        .iter()
        .map(|service| service.spec.http[0].timeout.unwrap().0.as_secs())
        .collect();
    assert_eq!(timeouts, [2, 5]);
}

#[test]
fn a_patch_can_be_used_again_and_an_item_of_a_list_can_be_patched() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ServiceAccount\n  metadata: {name: a}\n\
                - apiVersion: v1\n  kind: ServiceAccount\n  metadata: {name: b}\n  secrets: []\n";
    let text = "resources: [list.yaml]\npatches:\n- {path: p.yaml, target: {name: a}}\n- {path: p.yaml, target: {name: b}}\n";
    let files = |path: &'static str| {
        [
            ("kustomization.yaml", text),
            ("list.yaml", list),
            ("p.yaml", path),
        ]
    };
    assert_eq!(
        load(
            &files("- {op: add, path: /metadata/labels, value: {x: z}}\n"),
            "."
        )
        .unwrap_err(),
        "@/list.yaml:10: secrets: ServiceAccount.secrets is not implemented by the local mesh yet"
    );
}

#[test]
fn what_a_patch_must_be() {
    let target = "- target: {kind: VirtualService}\n  patch: |-\n";
    for (patch, expected) in [
        (
            "- {}\n".to_owned(),
            "5: patches[0]: write one of path, which names a file, and patch, which is the patch itself".to_owned(),
        ),
        (
            "- path: nowhere.yaml\n".to_owned(),
            "5: patches[0].path: \"nowhere.yaml\" cannot be read: No such file or directory (os error 2)".to_owned(),
        ),
        (
            "- path: ../../../../../../../../../etc/hostname\n".to_owned(),
            "5: patches[0].path: \"../../../../../../../../../etc/hostname\" is a file outside of @, name a folder with a \
             kustomization.yaml instead"
                .to_owned(),
        ),
        (
            "- patch: |-\n    - {op: remove, path: /spec}\n".to_owned(),
            "5: patches[0].target: is missing, write the kind and the name of what these operations change".to_owned(),
        ),
        (
            format!("{target}    - op: add\n      path: spec\n"),
            "8: [0].path: \"spec\" is not a JSON pointer, write \"/spec/http/0/timeout\" or the like".to_owned(),
        ),
        (
            format!("{target}    - op: add\n      path: /spec\n"),
            "7: [0].value: is missing".to_owned(),
        ),
        (
            format!("{target}    - op: move\n      path: /spec\n"),
            "7: [0].from: is missing, write where the value is now".to_owned(),
        ),
        (
            format!("{target}    - op: ad\n      path: /spec\n"),
            "7: [0].op: \"ad\" is not a JSON patch operation, did you mean add?".to_owned(),
        ),
        (
            format!("{target}    - op: remove\n      path: /spec/http/7\n"),
            "8: [0].path: there is no \"/spec/http/7\" in VirtualService ecommerce/shop (@/base.yaml:1)".to_owned(),
        ),
        (
            format!("{target}    - op: test\n      path: /spec/http/0/name\n      value: x\n"),
            "9: [0].value: is not what VirtualService ecommerce/shop (@/base.yaml:1) has at \"/spec/http/0/name\"".to_owned(),
        ),
        (
            format!("{target}    - op: copy\n      path: /spec/a\n      from: /spec/x\n"),
            "9: [0].from: there is no \"/spec/x\" in VirtualService ecommerce/shop (@/base.yaml:1)".to_owned(),
        ),
        (
            format!("{target}    x: [\n"),
            "8: is not YAML: while parsing a node, did not find expected node content".to_owned(),
        ),
        (
            format!("{target}    just text\n"),
            "7: \"just text\" is not a patch, write a merge patch or a list of JSON 6902 operations".to_owned(),
        ),
        (
            "- target: {kind: VirtualServices}\n  patch: '[]'\n".to_owned(),
            "5: patches[0].target: selects nothing; there are DestinationRule, VirtualService, WasmPlugin".to_owned(),
        ),
        (
            "- target: {labelSelector: a=b}\n  patch: '[]'\n".to_owned(),
            "5: patches[0].target.labelSelector: Selector.labelSelector is not implemented by the local mesh yet".to_owned(),
        ),
        (
            "- patch: |-\n    kind: VirtualService\n    apiVersion: networking.istio.io/v1beta1\n    metadata:\n      name: shop\n"
                .to_owned(),
            "9: metadata.name: there is no VirtualService default/shop of this apiVersion; there are VirtualService \
             ecommerce/shop"
                .to_owned(),
        ),
        (
            merge("spec: {$patch: replace}"),
            "9: spec[\"$patch\"]: $patch is not implemented by the local mesh yet, write JSON 6902 operations instead"
                .to_owned(),
        ),
    ] {
        says(&patch, &[&format!("@/kustomization.yaml:{expected}")]);
    }
}

#[test]
fn lists_of_kubernetes_own_kinds_are_not_merged() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  replicas: 1\n  selector: \
                      {matchLabels: {app: a}}\n  template: {spec: {containers: [{name: a, image: a}]}}\n";
    let with = |patch: &str| {
        let text = format!(
            "resources: [d.yaml]\npatches:\n- patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {{name: \
             a}}\n    spec: {patch}\n"
        );
        load(
            &[("kustomization.yaml", &text), ("d.yaml", deployment)],
            ".",
        )
    };
    let objects = with("{replicas: 3}").unwrap();
    assert_eq!(objects.deployments[0].spec.replicas, Some(3));
    assert_eq!(
        with("{template: {spec: {containers: [{name: a, image: b}]}}}").unwrap_err(),
        "@/kustomization.yaml:7: spec.template.spec.containers: kustomize merges some lists of a Deployment item by item, which \
         the local mesh does not implement yet; write JSON 6902 operations instead"
    );
}

#[test]
fn a_patch_is_not_blamed_for_a_base_that_cannot_be_read() {
    let text = kustomization(&operations("- {op: remove, path: /spec}"));
    let files = [
        ("kustomization.yaml", text.as_str()),
        ("base.yaml", "a: [\n"),
        ("plugin.yaml", PLUGIN),
    ];
    assert_eq!(
        load(&files, ".").unwrap_err(),
        "@/base.yaml:2: is not YAML: while parsing a node, did not find expected node content"
    );
}

#[test]
fn everything_that_was_looked_at_is_named_so_that_it_can_be_watched() {
    let root = tempfile::tempdir().unwrap();
    let shown = |paths: &[PathBuf]| {
        let shown = paths.iter().map(|path| {
            let path = path.strip_prefix(root.path()).unwrap();
            path.display().to_string()
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    write(
        root.path(),
        &[
            (
                "all/kustomization.yaml",
                "resources: [../base, missing/x.yaml]\npatches: [{path: p.yaml}]\n",
            ),
            ("all/p.yaml", "wrong"),
            ("base/kustomization.yaml", "resources: [base.yaml]\n"),
            ("base/base.yaml", BASE),
            ("base/unnamed.yaml", ""),
            ("plain/a.yaml", PLUGIN),
            ("plain/deep/er/README.md", ""),
        ],
    );
    let loaded = load_watched(&[root.path().join("all"), root.path().join("plain")]);
    assert!(loaded.result.is_err());
    assert_eq!(
        shown(&loaded.files),
        "all/kustomization.yaml all/missing/x.yaml all/p.yaml base/base.yaml base/kustomization.yaml plain/a.yaml"
    );
    assert_eq!(
        shown(&loaded.folders),
        "all base plain plain/deep plain/deep/er"
    );

    // What is wrong in the mesh, and not in its files, changes nothing of that.
    let loaded = load_watched(&[root.path().join("base")]);
    assert!(loaded.result.is_err());
    assert_eq!(
        shown(&loaded.files),
        "base/base.yaml base/kustomization.yaml"
    );
}

/// A pointer to some value of the VirtualService or near it.
fn pointer() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "/spec",
        "/spec/http",
        "/spec/http/0",
        "/spec/http/1",
        "/spec/http/2",
        "/spec/http/-",
        "/spec/http/0/route",
        "/spec/http/0/route/0/destination",
        "/spec/http/0/timeout",
        "/spec/http/1/name",
        "/spec/hosts",
        "/spec/hosts/0",
        "/spec/hosts/1",
        "/metadata/labels",
        "/metadata/labels/a~1b",
        "/spec/http/0/match",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    /// Whatever a patch does, the marks keep the shape of the values: each value that is wrong has the line of its own.
    #[test]
    fn every_value_keeps_its_line(
        edits in prop::collection::vec((0..6_usize, pointer(), pointer()), 1..8)
    ) {
        let mut patch = String::new();
        let mut lines = 0;
        for (index, (op, path, from)) in edits.iter().enumerate() {
            // A value that tells where it was written.
            let value = format!("[\"p{}\", {{here: \"p{0}\"}}]", index + 1);
            let line = match op {
                0 | 1 => format!("- {{op: add, path: {path}, value: {value}}}\n"),
                2 => format!("- {{op: replace, path: {path}, value: {value}}}\n"),
                3 => format!("- {{op: remove, path: {path}}}\n"),
                4 => format!("- {{op: move, path: {path}, from: {from}}}\n"),
                _ => format!("- {{op: copy, path: {path}, from: {from}}}\n"),
            };
            patch.push_str(&line);
            lines += 1;
        }
        let root = tempfile::tempdir().unwrap();
        // A plugin's configuration takes everything, so that what became of it can be looked at.
        let base = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}\nspec:\n  url: a\n  \
                    pluginConfig:\n    spec:\n      hosts: [b8]\n      http:\n      - timeout: b10\n        route:\n        - \
                    {destination: {host: b12}}\n      - name: b13\n    metadata:\n      labels:\n        a/b: b16\n";
        // One at a time, so that those that lead nowhere can be left out.
        let mut kept = String::new();
        for line in patch.replace("path: /", "path: /spec/pluginConfig/").replace("from: /", "from: /spec/pluginConfig/").lines() {
            let tried = format!("{kept}{line}\n");
            write(root.path(), &[
                ("kustomization.yaml", "resources: [base.yaml]\npatches: [{path: p.yaml, target: {kind: WasmPlugin}}]\n"),
                ("base.yaml", base),
                ("p.yaml", &tried),
            ]);
            if Objects::load(&[root.path().to_path_buf()]).is_ok() {
                kept = tried;
            } else {
                kept.push_str("# left out\n");
            }
        }
        write(root.path(), &[("p.yaml", if kept.lines().all(|line| line.starts_with('#')) { "[]" } else { &kept })]);
        let objects = Objects::load(&[root.path().to_path_buf()]).map_err(|problems| TestCaseError::fail(problems.to_string()))?;
        let plugin = &objects.wasm_plugins[0];
        let config = Value::Object(plugin.spec.plugin_config.clone().unwrap_or_default());
        let mut todo = vec![("spec.pluginConfig".to_owned(), config)];
        while let Some((field, value)) = todo.pop() {
            match value {
                Value::Object(fields) => {
                    todo.extend(fields.into_iter().map(|(name, value)| (tollgate_mesh::source::join(&field, &name), value)));
                }
                Value::Array(items) => {
                    todo.extend(items.into_iter().enumerate().map(|(index, value)| (format!("{field}[{index}]"), value)));
                }
                Value::String(text) => {
                    let (file, line) = plugin.source.locate(&field);
                    let is_patch = file.ends_with("p.yaml");
                    let found = format!("{}{line}", if is_patch { "p" } else { "b" });
                    prop_assert_eq!(found, text, "{}", field);
                    prop_assert!(!is_patch || line <= lines);
                }
                other => prop_assert!(false, "{} is {}", field, other),
            }
        }
    }
}
