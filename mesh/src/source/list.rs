//! `kind: List`: one document of several objects, as `kubectl get -o yaml` prints it.

use serde_json::Value;

use super::field::{FieldPath, Segment};
use super::{Document, decode};
use crate::problem::Problem;

/// The items of a `List`, or the document itself.
pub(crate) fn items(document: Document, problems: &mut Vec<Problem>) -> Vec<Document> {
    let is_list = document.value.get("kind").and_then(Value::as_str) == Some("List")
        && document.value.get("apiVersion").and_then(Value::as_str) == Some("v1");
    if !is_list {
        return vec![document];
    }
    let Document { value, source } = document;
    let Value::Object(fields) = value else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("apiVersion" | "kind" | "metadata", _) => {}
            ("items", Value::Array(items)) => {
                for (index, value) in items.into_iter().enumerate() {
                    let source = source.within(&[Segment::from("items"), Segment::Index(index)]);
                    // A List in a List: kubectl takes it, nobody writes it.
                    found.push(Document { value, source });
                }
            }
            ("items", Value::Null) => {}
            ("items", other) => {
                problems.push(source.invalid(
                    "items",
                    format!("is {}, write a list", decode::describe(&other)),
                ));
            }
            (other, _) => {
                let (code, message) = decode::unknown_field(
                    "List",
                    other,
                    &["apiVersion", "kind", "metadata", "items"],
                );
                let field = FieldPath::new(vec![Segment::from(other)]);
                problems.push(source.problem_at(&field, message).of(code));
            }
        }
    }
    found
}
