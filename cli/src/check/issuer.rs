//! The local issuer where it must not be: its key is on a developer's machine, so a cluster that trusts it takes tokens of whoever
//! has that machine.
//!
//! It is known by the id of its key, which nothing else looks like; by the key itself, whatever its id is now, where that has been made in the
//! same repository; and by its name. How it is written does not matter: as the text of a JWKS, as YAML, in a text in a text, in the base64 of a Secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tollgate_mesh::source::{Document, join};
use tollgate_mesh::{Code, Problem};

use crate::issuer::{KEY_ID, NAME, OVERLAY, in_overlay, is_overlay, key_around};

/// How long a thumbprint is, and the number of a public key: 32 bytes in base64.
const LENGTH: usize = 43;

/// Nobody writes base64 in base64 in base64.
const DEEPEST: usize = 3;

/// Where the local issuer is in these documents, except in its overlay. `paths` are what was named to be checked.
pub(super) fn misplaced(documents: &[Document], paths: &[PathBuf], here: &Path) -> Vec<Problem> {
    let mut known = BTreeMap::new();
    for path in paths.iter().map(PathBuf::as_path).chain([here]) {
        known.extend(key_around(path).map(|key| (key.x().to_owned(), key.id().to_owned())));
    }
    // What is asked for by its own name is for this machine. A kustomization elsewhere that includes the overlay makes it a part of something else.
    let asked = paths
        .iter()
        .any(|path| is_overlay(path) || (!path.is_dir() && in_overlay(path)));
    let mut problems = Vec::new();
    for document in documents {
        let mut found = Vec::new();
        search(&document.value, "", &known, &mut found);
        if found.is_empty() {
            found.extend(named(&document.value).map(|field| (field, format!("the issuer {NAME}"))));
        }
        for (field, what) in found {
            let problem = document.source.problem(&field, "");
            let message = match (in_overlay(&problem.file), asked) {
                (true, true) => continue,
                (true, false) => format!(
                    "{what} has got into what is checked here from {OVERLAY}, by a folder or kustomization that includes it. Its key is on a developer's \
                     machine: leave it out there, and name {OVERLAY}/issuer beside it where it is run locally: `tollgate up --manifests … \
                     --manifests {OVERLAY}/issuer`"
                ),
                (false, _) => format!(
                    "{what} is a local one, whose key is on a developer's machine, and may be trusted in {OVERLAY} alone; write the issuer and \
                     the jwksUri of your identity provider"
                ),
            };
            problems.push(Problem { message, ..problem }.of(Code::LocalIssuer));
        }
    }
    problems
}

/// The fields that hold a local key, with what they hold. Of the fields of one key the first alone.
fn search(
    value: &Value,
    field: &str,
    known: &BTreeMap<String, String>,
    found: &mut Vec<(String, String)>,
) {
    match value {
        Value::String(text) => {
            found.extend(key_in(text, known, 0).map(|what| (field.to_owned(), what)));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                search(item, &format!("{field}[{index}]"), known, found);
            }
        }
        Value::Object(fields) => {
            let mut here = false;
            for (name, value) in fields {
                // `kid` and `x` are of one key.
                if value.is_string() && here {
                    continue;
                }
                let before = found.len();
                search(value, &join(field, name), known, found);
                here |= value.is_string() && found.len() > before;
            }
        }
        _ => {}
    }
}

/// The local key that a text names or holds.
fn key_in(text: &str, known: &BTreeMap<String, String>, depth: usize) -> Option<String> {
    let by_id = text.match_indices(KEY_ID).find_map(|(at, _)| {
        let id = text.get(at..at + KEY_ID.len() + LENGTH)?;
        let thumbprint = id.get(KEY_ID.len()..)?;
        thumbprint.bytes().all(is_base64_url).then(|| id.to_owned())
    });
    let by_key = || {
        let (_, id) = known.iter().find(|(x, _)| text.contains(*x))?;
        Some(id.clone())
    };
    if let Some(id) = by_id.or_else(by_key) {
        return Some(format!("the key {id}"));
    }
    if depth == DEEPEST || text.len() < LENGTH {
        return None;
    }
    let dense: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let decoded = BASE64_STANDARD.decode(dense).ok()?;
    key_in(std::str::from_utf8(&decoded).ok()?, known, depth + 1)
}

/// The rule of a RequestAuthentication that names the local issuer: whatever keys it has, or gets by a patch elsewhere.
fn named(document: &Value) -> Option<String> {
    if document.get("kind")?.as_str()? != "RequestAuthentication" {
        return None;
    }
    let rules = document.get("spec")?.get("jwtRules")?.as_array()?;
    let rule = rules
        .iter()
        .position(|rule| rule.get("issuer").and_then(Value::as_str) == Some(NAME))?;
    Some(format!("spec.jwtRules[{rule}].issuer"))
}

fn is_base64_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}
