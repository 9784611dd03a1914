//! JSON pointers (RFC 6901): `/usage/total_tokens`, `/items/0/price`.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::json::quoted;

/// How many pointers one body can be asked for.
pub const MAX_POINTERS: usize = 8;
/// How many names a pointer may have.
pub const MAX_NAMES: usize = 16;
/// How many bytes a pointer may have.
pub const MAX_POINTER: usize = 256;

/// The way to one value of a JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    written: Box<str>,
    names: Box<[Name]>,
}

/// A part of a pointer: the name of an object's member or the index of a list's element, whichever is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) text: Box<[u8]>,
    pub(super) index: Option<u64>,
}

impl Pointer {
    /// Reads a pointer; the error says what to write.
    pub fn parse(written: &str) -> Result<Self, String> {
        let wrong = |reason: String| {
            Err(format!(
                "{} is not a JSON pointer: {reason}",
                quoted(written)
            ))
        };
        if written.len() > MAX_POINTER {
            return Err(format!(
                "a JSON pointer of {} bytes is too long, write at most {MAX_POINTER}",
                written.len()
            ));
        }
        let Some(rest) = written.strip_prefix('/') else {
            if written.is_empty() {
                return Ok(Self {
                    written: written.into(),
                    names: Box::default(),
                });
            }
            // `$.usage.tokens`, `usage.tokens`, `usage/tokens`: what people write who know another notation.
            let path = written.trim_start_matches(['$', '.']);
            return wrong(format!(
                "it starts with \"/\", write {}",
                quoted(&format!("/{}", path.replace('.', "/")))
            ));
        };
        let mut names = Vec::new();
        for name in rest.split('/') {
            if name.replace("~0", "").replace("~1", "").contains('~') {
                return wrong(
                    "in a name, \"~\" is written as \"~0\" and \"/\" as \"~1\"".to_owned(),
                );
            }
            let text = name.replace("~1", "/").replace("~0", "~");
            let digits = name.bytes().all(|byte| byte.is_ascii_digit());
            let plain = digits && (name == "0" || !name.starts_with('0'));
            names.push(Name {
                index: plain.then(|| name.parse().ok()).flatten(),
                text: text.into_bytes().into_boxed_slice(),
            });
        }
        if names.len() > MAX_NAMES {
            return wrong(format!(
                "{} names are too many, write at most {MAX_NAMES}",
                names.len()
            ));
        }
        Ok(Self {
            written: written.into(),
            names: names.into_boxed_slice(),
        })
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Pointer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON pointer, e.g. \"/usage/total_tokens\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Pointer, E> {
                Pointer::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// The pointers that one body is asked for, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointers(Box<[Pointer]>);

impl Pointers {
    /// At most [`MAX_POINTERS`] pointers; the error says that there are more.
    pub fn new(pointers: Vec<Pointer>) -> Result<Self, String> {
        if pointers.len() > MAX_POINTERS {
            return Err(format!(
                "{} JSON pointers into one body are too many, write at most {MAX_POINTERS}",
                pointers.len()
            ));
        }
        Ok(Self(pointers.into_boxed_slice()))
    }

    /// The pointers, in the order in which their values are given back.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Pointer> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_a_list_of_names() {
        let long = format!("/{}", "a".repeat(255));
        for (written, expected) in [
            ("", vec![]),
            ("/", vec![""]),
            ("/usage/total_tokens", vec!["usage", "total_tokens"]),
            ("/a~1b/m~0n/~01", vec!["a/b", "m~n", "~1"]),
            ("/é/ ", vec!["é", " "]),
            (&*long, vec![&long[1..]]),
        ] {
            let pointer = Pointer::parse(written).unwrap();
            let names = pointer.names().iter().map(|name| &*name.text);
            assert!(
                names.eq(expected.iter().map(|name| name.as_bytes())),
                "{written}"
            );
            assert_eq!(pointer.to_string(), written);
        }
    }

    #[test]
    fn an_index_has_one_spelling() {
        for (name, expected) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("01", None),
            ("+1", None),
            ("-", None),
            ("", None),
            ("1a", None),
        ] {
            let pointer = Pointer::parse(&format!("/{name}")).unwrap();
            assert_eq!(pointer.names()[0].index, expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_told_with_what_to_write() {
        let long = "/a".repeat(200);
        let deep = "/a".repeat(17);
        for (written, expected) in [
            (
                "usage.total_tokens",
                "\"usage.total_tokens\" is not a JSON pointer: it starts with \"/\", write \"/usage/total_tokens\"",
            ),
            (
                "$.total",
                "\"$.total\" is not a JSON pointer: it starts with \"/\", write \"/total\"",
            ),
            (
                "a/b",
                "\"a/b\" is not a JSON pointer: it starts with \"/\", write \"/a/b\"",
            ),
            (
                "/a~2",
                "\"/a~2\" is not a JSON pointer: in a name, \"~\" is written as \"~0\" and \"/\" as \"~1\"",
            ),
            (
                "/~",
                "\"/~\" is not a JSON pointer: in a name, \"~\" is written as \"~0\" and \"/\" as \"~1\"",
            ),
            (
                &*long,
                "a JSON pointer of 400 bytes is too long, write at most 256",
            ),
            (
                &*deep,
                &*format!(
                    "\"{deep}\" is not a JSON pointer: 17 names are too many, write at most 16"
                ),
            ),
        ] {
            assert_eq!(Pointer::parse(written), Err(expected.to_owned()));
        }
        assert_eq!(
            Pointers::new(vec![Pointer::parse("").unwrap(); 9]),
            Err("9 JSON pointers into one body are too many, write at most 8".to_owned())
        );
    }
}
