//! Paths of fields: `spec.http[0].match[0].headers.user-type`.

use std::fmt;

pub(crate) use tollgate_mistakes::Step as Segment;

/// The way from an object to one of its values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldPath(Vec<Segment>);

impl FieldPath {
    pub(crate) fn new(segments: Vec<Segment>) -> Self {
        Self(segments)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    pub(crate) fn then(&self, further: &[Segment]) -> Self {
        Self(self.0.iter().chain(further).cloned().collect())
    }

    /// Reads what [`Display`](fmt::Display) writes. Anything else is taken as far as it goes: a path is only ever used to
    /// find the nearest line.
    pub(crate) fn parse(text: &str) -> Self {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix("[\"") {
                // The name is written as in JSON, so JSON knows where it ends.
                let mut names =
                    serde_json::Deserializer::from_str(&rest[1..]).into_iter::<String>();
                let Some(Ok(name)) = names.next() else { break };
                let end = names.byte_offset() - 1;
                segments.push(Segment::Key(name));
                rest = quoted
                    .get(end..)
                    .and_then(|rest| rest.strip_prefix(']'))
                    .unwrap_or_default();
            } else if let Some(index) = rest.strip_prefix('[') {
                let Some((index, behind)) = index.split_once(']') else {
                    break;
                };
                let Ok(index) = index.parse() else { break };
                segments.push(Segment::Index(index));
                rest = behind;
            } else {
                let name = rest.strip_prefix('.').unwrap_or(rest);
                let end = name.find(['.', '[']).unwrap_or(name.len());
                let (name, behind) = name.split_at(end);
                segments.push(Segment::Key(name.to_owned()));
                if name.is_empty() && behind.is_empty() {
                    break;
                }
                rest = behind;
            }
        }
        Self(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_word(key) => {
                    write!(f, "{}{key}", if position > 0 { "." } else { "" })?;
                }
                Segment::Key(key) => write!(f, "[{}]", serde_json::Value::from(key.as_str()))?,
            }
        }
        Ok(())
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/'))
}

/// The path of a field below another: `join("metadata.labels", "app")` is `metadata.labels.app`, and a name with dots gets
/// its brackets: `metadata.labels["app.kubernetes.io/name"]`.
pub fn join(field: &str, name: &str) -> String {
    FieldPath::parse(field)
        .then(&[Segment::from(name)])
        .to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_read_like_code() {
        let path = "spec.http[0].match[12].headers.user-type";
        assert_eq!(FieldPath::parse(path).to_string(), path);
        assert_eq!(FieldPath::parse(path).segments().len(), 7);
        assert_eq!(
            join("metadata.annotations", "sidecar.istio.io/inject"),
            "metadata.annotations[\"sidecar.istio.io/inject\"]"
        );
        assert_eq!(join("", "a"), "a");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            segments in prop::collection::vec(
                prop_oneof![".{0,8}".prop_map(Segment::Key), "[a-z]{1,8}".prop_map(Segment::Key), any::<usize>().prop_map(Segment::Index)],
                0..6,
            )
        ) {
            let path = FieldPath::new(segments);
            prop_assert_eq!(FieldPath::parse(&path.to_string()), path);
        }

        #[test]
        fn any_text_is_taken_as_far_as_it_goes(text: String) {
            FieldPath::parse(&text);
        }
    }
}
