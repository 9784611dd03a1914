//! The claims of a verified token as Envoy shows them to a filter, with all that is odd in that.

use serde_json::Value;

use crate::headers::to_bytes;
use crate::host::HostError;

/// Where Envoy has them in the metadata, if its JWT filter is configured as istiod does it.
const PAYLOAD: [&str; 4] = [
    "metadata",
    "filter_metadata",
    "envoy.filters.http.jwt_authn",
    "payload",
];

/// What `null` reads as, and a list or a mapping that has one in it.
const SERIALIZATION_FAILURE: HostError = HostError::Status(3);

/// The attribute at a path: the metadata as a whole, or a part of the payload.
pub fn property(payload: &Value, path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
    if path == ["metadata"] {
        return Ok(Some(metadata(payload)));
    }
    let Some(rest) = path.strip_prefix(PAYLOAD.as_slice()) else {
        return Ok(None);
    };
    let found = rest.iter().try_fold(payload, |value, name| match value {
        Value::Object(fields) => fields.get(*name),
        Value::Array(elements) => elements.get(name.trim().parse::<usize>().ok()?),
        _ => None,
    });
    match found.map(untyped).transpose()? {
        // Nothing tells it from what is not there.
        Some(bytes) if bytes.is_empty() => Ok(None),
        bytes => Ok(bytes),
    }
}

/// A value without its type.
fn untyped(value: &Value) -> Result<Vec<u8>, HostError> {
    let pairs = |pairs: Vec<(Vec<u8>, Vec<u8>)>| to_bytes(&pairs);
    Ok(match value {
        Value::Null => return Err(SERIALIZATION_FAILURE),
        Value::Bool(bit) => vec![u8::from(*bit)],
        Value::Number(_) => number(value).to_le_bytes().to_vec(),
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Array(elements) => {
            let elements = elements.iter().enumerate().map(|(index, element)| {
                Ok(((index as u64).to_le_bytes().to_vec(), untyped(element)?))
            });
            pairs(elements.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, field)| Ok((name.as_bytes().to_vec(), untyped(field)?)));
            pairs(fields.collect::<Result<_, _>>()?)
        }
    })
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// `envoy.config.core.v3.Metadata` with this payload alone, as protobuf.
fn metadata(payload: &Value) -> Vec<u8> {
    let [_, _, filter, name] = PAYLOAD;
    entry(filter, &entry(name, &typed(payload)))
}

/// An entry of a map in field 1.
fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value)].concat())
}

/// `google.protobuf.Value`.
fn typed(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![1 << 3, 0],
        Value::Number(_) => {
            let mut bytes = vec![2 << 3 | 1];
            bytes.extend_from_slice(&number(value).to_le_bytes());
            bytes
        }
        Value::String(text) => field(3, text.as_bytes()),
        Value::Bool(bit) => vec![4 << 3, u8::from(*bit)],
        Value::Object(fields) => {
            let fields = fields.iter().flat_map(|(name, it)| entry(name, &typed(it)));
            field(5, &fields.collect::<Vec<_>>())
        }
        Value::Array(elements) => {
            let elements = elements.iter().flat_map(|it| field(1, &typed(it)));
            field(6, &elements.collect::<Vec<_>>())
        }
    }
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::memory::MemoryHost;
    use serde_json::json;

    #[test]
    fn claims_read_as_envoy_was_seen_to_show_them() {
        let mut host = MemoryHost::new();
        host.set_claims(json!({
            "sub": "zażółć", "level": 41, "admin": true, "empty": "", "null": null,
            "realm": {"plan": "vip", "deep": {"er": 1}}, "groups": ["vip", "eu"], "holes": ["a", null],
            "https://ns/claim": "x",
        }));
        let read = |path: &[&str]| host.property(&[&PAYLOAD, path].concat());
        let text = |text: &str| Ok(Some(text.as_bytes().to_vec()));
        assert_eq!(read(&["sub"]), text("zażółć"));
        assert_eq!(read(&["https://ns/claim"]), text("x"));
        assert_eq!(read(&["realm", "plan"]), text("vip"));
        assert_eq!(read(&["groups", "1"]), text("eu"));
        assert_eq!(
            read(&["level"]),
            Ok(Some(vec![0, 0, 0, 0, 0, 0x80, 0x44, 0x40]))
        );
        assert_eq!(read(&["admin"]), Ok(Some(vec![1])));
        let groups = to_bytes(&[(0_u64.to_le_bytes(), "vip"), (1_u64.to_le_bytes(), "eu")]);
        assert_eq!(read(&["groups"]), Ok(Some(groups)));
        for absent in [
            &["empty"][..],
            &["nobody"],
            &["realm", "x"],
            &["sub", "x"],
            &["groups", "2"],
        ] {
            assert_eq!(read(absent), Ok(None), "{absent:?}");
        }
        for failing in [&["null"][..], &["holes"], &["holes", "1"], &[]] {
            assert_eq!(read(failing), Err(SERIALIZATION_FAILURE), "{failing:?}");
        }
        assert_eq!(host.property(&["request", "path"]), Ok(None));
        host.begin::<&str, &str>(&[]);
        assert_eq!(host.property(&["metadata"]), Ok(None));
    }
}
