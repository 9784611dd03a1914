//! How large a manifest may be on a cluster.

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use tollgate_mesh::source::Document;
use tollgate_mesh::{Code, Problem};

/// What the annotations of an object may have together, names and values, in bytes. `kubectl apply` keeps the whole manifest in one.
const ANNOTATIONS: u64 = 256 << 10;

/// The annotation that it keeps it in.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What an object may have as JSON, in bytes. etcd takes 1.5 MiB a request, with what the cluster adds to the object.
const OBJECT: u64 = 1 << 20;

/// Whether a manifest is too large for a cluster, or for the usual way to get it there.
pub(super) fn check(document: &Document) -> Option<Problem> {
    let object = document.value.as_object()?;
    let (applied, others) = applied(object);
    let name = name(object);
    // What makes rules long is lists of ids, and a plugin can't be divided: each would write the type.
    let rules = [
        "/spec/pluginConfig/rules",
        "/spec/pluginConfig/userClassifier/rules",
    ];
    let has_rules = rules
        .iter()
        .any(|rules| document.value.pointer(rules).is_some());
    let (code, message) = if applied > OBJECT {
        let instead = match has_rules {
            true => {
                "let who issues the tokens say in a claim what is listed here, and ask for that claim instead of ids; a hash has 24 bytes, so `hashes` are no way out"
            }
            false => "make several of it",
        };
        let message = format!(
            "{name} has {} as JSON, and a cluster keeps at most {} of an object safely; {instead}",
            kib(applied),
            kib(OBJECT)
        );
        (Code::TooLarge, message)
    } else if applied + others > ANNOTATIONS {
        let instead = match has_rules {
            true => "ask for a claim of the token instead of listing ids",
            false => "make several of it",
        };
        let message = format!(
            "the annotations of {name} would have {} with the copy of it that `kubectl apply` keeps there, and may have {}; apply \
             it with --server-side, or {instead}",
            kib(applied + others),
            kib(ANNOTATIONS)
        );
        (Code::Large, message)
    } else {
        return None;
    };
    Some(document.source.problem("", message).of(code))
}

/// The bytes of what `kubectl apply` keeps of an object, and those that the object's annotations have beside it.
fn applied(object: &Map<String, Value>) -> (u64, u64) {
    let mut object = object.clone();
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    let mut others = LAST_APPLIED.len() as u64;
    if let Value::Object(metadata) = metadata {
        // kubectl writes them down even if there are none, and the namespace that it chose.
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Value::Object(annotations) = annotations {
            annotations.remove(LAST_APPLIED);
            for (name, value) in annotations {
                others += (name.len() + value.as_str().map_or(0, str::len)) as u64;
            }
        }
    }
    let mut count = Count(0);
    let counted = serde_json::to_writer(&mut count, &object);
    debug_assert!(counted.is_ok(), "values of JSON can be written as JSON");
    // And the line break behind it.
    (count.0 + 1, others)
}

/// Counts bytes of JSON as Go writes it, which keeps HTML out of it: `<` is `\u003c`.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let escaped = bytes.iter().filter(|byte| b"<>&".contains(byte)).count();
        self.0 += (bytes.len() + 5 * escaped) as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `ConfigMap shop/settings`
fn name(object: &Map<String, Value>) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("?").to_owned();
    let metadata = object.get("metadata");
    let name = text(metadata.and_then(|metadata| metadata.get("name")));
    let namespace = metadata.and_then(|metadata| metadata.get("namespace"));
    let kind = text(object.get("kind"));
    match namespace.and_then(Value::as_str) {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// In KiB, rounded up, so that no limit seems to be kept that is not.
fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1 << 10))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What a manifest of one ConfigMap is told, whose only value is `filling`.
    fn told(filling: &str, annotations: &Value) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": "shop", "annotations": annotations},
            "data": {"value": filling},
        });
        fs::write(&file, manifest.to_string()).unwrap();
        let found = tollgate_mesh::inspect(&[file]);
        assert_eq!(found.problems, []);
        let problem = found.documents.iter().find_map(check)?;
        assert_eq!((problem.line, problem.field.as_str()), (1, ""));
        Some(format!("{} {}", problem.code, problem.message))
    }

    /// What `kubectl apply` writes around the value: measured by writing it down.
    const AROUND: usize = concat!(
        r#"{"apiVersion":"v1","data":{"value":""},"kind":"ConfigMap","#,
        r#""metadata":{"annotations":{},"name":"settings","namespace":"shop"}}"#,
        "\n"
    )
    .len();

    #[test]
    fn a_manifest_that_its_annotation_has_room_for_is_not_told() {
        let most = (256 << 10) - AROUND - LAST_APPLIED.len();
        assert_eq!(told(&"x".repeat(most), &json!({})), None);
        let large = "TG0501 the annotations of ConfigMap shop/settings would have 257 KiB with the copy of it that `kubectl apply` keeps \
                     there, and may have 256 KiB; apply it with --server-side, or make several of it";
        assert_eq!(
            told(&"x".repeat(most + 1), &json!({})).as_deref(),
            Some(large)
        );
        // Go writes six bytes for it.
        assert_eq!(told(&"<".repeat(most / 6), &json!({})), None);
        assert_eq!(
            told(&"<".repeat(most / 6 + 1), &json!({})).as_deref(),
            Some(large)
        );
    }

    #[test]
    fn other_annotations_take_room_twice() {
        // In the object and in the copy, where it is written as `"abc":"defg"`.
        let most =
            (256 << 10) - AROUND - LAST_APPLIED.len() - "abcdefg".len() - r#""abc":"defg""#.len();
        let annotations = json!({"abc": "defg"});
        assert_eq!(told(&"x".repeat(most), &annotations), None);
        assert!(told(&"x".repeat(most + 1), &annotations).is_some());
        // That of an earlier apply is replaced.
        let most = (256 << 10) - AROUND - LAST_APPLIED.len();
        let annotations = json!({LAST_APPLIED: "x".repeat(9_000)});
        assert_eq!(told(&"x".repeat(most), &annotations), None);
    }

    #[test]
    fn above_a_mebibyte_it_is_an_error() {
        let most = (1 << 20) - AROUND;
        assert!(told(&"x".repeat(most), &json!({})).is_some_and(|told| {
            told.starts_with(
                "TG0501 the annotations of ConfigMap shop/settings would have 1025 KiB",
            )
        }));
        assert_eq!(
            told(&"x".repeat(most + 1), &json!({})).as_deref(),
            Some(
                "TG0502 ConfigMap shop/settings has 1025 KiB as JSON, and a cluster keeps at most 1024 KiB of an object safely; make several of it"
            )
        );
    }

    #[test]
    fn a_plugin_with_too_many_ids_is_told_of_a_claim() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        let told = |ids: usize| {
            // As `tollgate hash-ids` makes them.
            let hashes: Vec<String> = (0..ids).map(|id| format!("{id:024x}")).collect();
            let list = json!({"claim": {"name": "sub", "hashes": {"salt": "shop", "in": hashes}}});
            let manifest = json!({
                "apiVersion": "extensions.istio.io/v1alpha1",
                "kind": "WasmPlugin",
                "metadata": {"name": "user-classifier", "namespace": "istio-system"},
                "spec": {
                    "url": "oci://ghcr.io/tollgate/user-classifier:0.1.0",
                    "pluginConfig": {"default": "standard", "rules": [{"type": "vip", "when": list}]},
                },
            });
            fs::write(&file, manifest.to_string()).unwrap();
            let found = tollgate_mesh::inspect(std::slice::from_ref(&file));
            let problem = found.documents.iter().find_map(check)?;
            Some(format!("{} {}", problem.code, problem.message))
        };
        assert_eq!(told(9_000), None);
        assert_eq!(
            told(10_000).as_deref(),
            Some(
                "TG0501 the annotations of WasmPlugin istio-system/user-classifier would have 265 KiB with the copy of it that `kubectl apply` \
                 keeps there, and may have 256 KiB; apply it with --server-side, or ask for a claim of the token instead of listing ids"
            )
        );
        assert_eq!(
            told(40_000).as_deref(),
            Some(
                "TG0502 WasmPlugin istio-system/user-classifier has 1056 KiB as JSON, and a cluster keeps at most 1024 KiB of an object safely; let \
                 who issues the tokens say in a claim what is listed here, and ask for that claim instead of ids; a hash has 24 bytes, so `hashes` are no way out"
            )
        );
    }
}
