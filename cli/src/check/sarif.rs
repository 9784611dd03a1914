//! What was found, as SARIF 2.1.0, which code hosts show beside the lines of a change.
//!
//! Locations are relative to the root of the repository around the current folder, because that is what an upload is compared with.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Component, Path};

use serde_json::{Value, json};
use tollgate_mesh::{Code, Problem};

use super::{Findings, STDIN};

pub(super) fn write(out: &mut impl Write, findings: &Findings, here: &Path) -> io::Result<()> {
    let root = here
        .ancestors()
        .find(|folder| folder.join(".git").exists())
        .unwrap_or(here);
    let rules: Vec<Value> = Code::ALL.iter().copied().map(rule).collect();
    let results: Vec<Value> = findings
        .problems
        .iter()
        .map(|problem| result(problem, &uri(&problem.file, here, root)))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "tollgate check",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                },
            },
            "results": results,
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    writeln!(out)
}

fn rule(code: Code) -> Value {
    let title = format!("{}.", code.title());
    json!({
        "id": code.as_str(),
        "name": format!("{code:?}"),
        "shortDescription": {"text": title},
        "fullDescription": {"text": title},
        "help": {"text": code.help()},
        "defaultConfiguration": {"level": code.level().as_str()},
    })
}

fn result(problem: &Problem, uri: &str) -> Value {
    let (message, field) = match problem.field.as_str() {
        "" => (problem.message.clone(), None),
        field => (format!("{field}: {}", problem.message), Some(field)),
    };
    let mut location = json!({
        "physicalLocation": {
            "artifactLocation": {"uri": uri},
            "region": {"startLine": problem.line},
        },
    });
    if let Some(field) = field {
        location["logicalLocations"] = json!([{"fullyQualifiedName": field, "kind": "property"}]);
    }
    json!({
        "ruleId": problem.code.as_str(),
        "ruleIndex": Code::ALL.iter().position(|code| *code == problem.code),
        "level": problem.code.level().as_str(),
        "message": {"text": message},
        "locations": [location],
    })
}

/// The file as a URI: relative if it is below the root, else absolute.
fn uri(file: &Path, here: &Path, root: &Path) -> String {
    if file == Path::new(STDIN.1) {
        return "stdin".to_owned();
    }
    let file = flat(&here.join(file));
    match file.strip_prefix(root) {
        Ok(inside) if inside != Path::new("") => encoded(inside),
        Ok(_) => ".".to_owned(),
        Err(_) => format!("file://{}", encoded(&file)),
    }
}

/// An absolute path without `..`.
fn flat(path: &Path) -> std::path::PathBuf {
    let mut flat = std::path::PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                flat.pop();
            }
            Component::CurDir => {}
            component => flat.push(component),
        }
    }
    flat
}

/// What a URI cannot have as it is, in percents.
fn encoded(path: &Path) -> String {
    let mut uri = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(*byte));
            }
            other => {
                // Writing to a string does not fail.
                let _ = write!(uri, "%{other:02X}");
            }
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_relative_to_the_repository() {
        let (here, root) = (Path::new("/work/shop/istio"), Path::new("/work/shop"));
        for (file, expected) in [
            ("a.yaml", "istio/a.yaml"),
            ("../services/b c.yaml", "services/b%20c.yaml"),
            ("/work/shop/é#.yaml", "%C3%A9%23.yaml"),
            ("/tmp/a.yaml", "file:///tmp/a.yaml"),
            ("../../other/a.yaml", "file:///work/other/a.yaml"),
            ("<stdin>", "stdin"),
        ] {
            assert_eq!(uri(Path::new(file), here, root), expected, "{file}");
        }
    }
}
