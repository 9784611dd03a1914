//! The pods' annotations that make labels of Wasm metrics: generated from what the plugins say, for the mesh with three modules and for that with the
//! bundle, which have the same pods.

use std::collections::{BTreeMap, BTreeSet};
use std::{env, fs};

use tollgate::needed_stat_tags;
use tollgate_mesh::Mesh;

use crate::shipped::{FORMS, load, read, repository};

const ANNOTATION: &str = "sidecar.istio.io/extraStatTags";

#[test]
fn the_pods_list_the_labels_that_their_plugins_have() {
    let bless = env::var_os("TOLLGATE_BLESS").is_some();
    let mut needed = BTreeMap::<(String, String), BTreeSet<String>>::new();
    for form in FORMS {
        let mesh = Mesh::build(load(&repository().join(form)))
            .unwrap_or_else(|problems| panic!("{problems}"));
        for (workload, labels) in needed_stat_tags(&mesh) {
            needed.entry(workload).or_default().extend(labels);
        }
    }
    let mut wrong = Vec::new();
    for object in &load(&repository()).deployments {
        let labels = needed.get(&(object.namespace.clone(), object.name.clone()));
        let mut missing: BTreeSet<&str> =
            labels.into_iter().flatten().map(String::as_str).collect();
        let annotations = &object.spec.template.metadata.annotations;
        let given = annotations.get(ANNOTATION).map_or("", String::as_str);
        // Those that are there stay where they are.
        let mut expected: Vec<&str> = given
            .split(',')
            .filter(|label| missing.remove(label))
            .collect();
        expected.extend(missing);
        if given == expected.join(",") {
            continue;
        }
        let field = format!("spec.template.metadata.annotations[{ANNOTATION:?}]");
        let place = object.source.problem(&field, "");
        if !bless {
            wrong.push(format!(
                "{}:{}: write {ANNOTATION}: {}",
                place.file.display(),
                place.line,
                expected.join(",")
            ));
            continue;
        }
        let text = read(&place.file);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let line = &mut lines[place.line - 1];
        let indent = line
            .find(ANNOTATION)
            .unwrap_or_else(|| panic!("{}:{}: no {ANNOTATION}", place.file.display(), place.line));
        *line = format!("{}{ANNOTATION}: {}", &line[..indent], expected.join(","));
        fs::write(&place.file, lines.join("\n") + "\n").unwrap();
    }
    assert!(
        wrong.is_empty(),
        "\n{}\nor make them with TOLLGATE_BLESS=1 cargo test -p tollgate --test plugins stat_tags\n",
        wrong.join("\n")
    );
}
