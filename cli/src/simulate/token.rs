//! The token of a replayed request: the claims that its log has of it, as Envoy shows them to a filter.
//!
//! Nearly always a filter asks for one of them by its whole path, and gets its bytes as the log has them. For every other question all claims are put
//! together as in a token, and [`claims`] answers as Envoy was seen to do. Of what filters then ask for most, all metadata, the answers are kept for a
//! while, for most requests of a log have had the same claims as one before.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map as Object, Value};
use tollgate_common::claims::{Leaf, METADATA};
use tollgate_host::HostError;
use tollgate_host::memory::claims;

/// The claims of the current request.
#[derive(Debug)]
pub(crate) struct Token {
    /// The paths of claims by their numbers, and the property of each.
    names: Vec<(Vec<String>, Option<Leaf>)>,
    /// Those that the request has: their numbers and where in `bytes` they are.
    said: Vec<(usize, Range<usize>)>,
    bytes: Vec<u8>,
    metadata: RefCell<HashMap<Vec<u8>, Vec<u8>>>,
}

/// How many different answers are kept.
const KEPT: usize = 4_096;

impl Token {
    /// `names` are the paths of claims, by their numbers.
    pub(crate) fn new(names: &[Vec<String>]) -> Self {
        // A claim that is within another one of the command line, or the same, is what all of them together make of it.
        let stands_alone = |number: usize, path: &Vec<String>| {
            let mut others = names.iter().enumerate();
            !others.any(|(other, names)| {
                other != number && (names.starts_with(path) || path.starts_with(names))
            })
        };
        let leaf = |(number, path): (usize, &Vec<String>)| {
            let leaf = Leaf::of(path).filter(|_| stands_alone(number, path));
            (path.clone(), leaf)
        };
        Self {
            names: names.iter().enumerate().map(leaf).collect(),
            said: Vec::new(),
            bytes: Vec::new(),
            metadata: RefCell::default(),
        }
    }

    /// There is none.
    pub(crate) fn clear(&mut self) {
        self.said.clear();
        self.bytes.clear();
    }

    /// Adds a claim, which is a string.
    pub(crate) fn say(&mut self, number: usize, value: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.said.push((number, begin..self.bytes.len()));
    }

    /// The attribute at a path, if it is one of a token.
    pub(crate) fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
        let leaf_of = |number: usize| self.names.get(number)?.1.as_ref();
        // Of one that is said twice the last counts, as in an object.
        let found = self
            .said
            .iter()
            .rfind(|(number, _)| leaf_of(*number).is_some_and(|leaf| leaf.path() == path));
        if let Some((_, range)) = found {
            let text = self.text(range);
            return Ok((!text.is_empty()).then(|| text.into_owned().into_bytes()));
        }
        if path != METADATA {
            let path: Vec<&str> = path.iter().flat_map(|part| part.split('\0')).collect();
            return match self.payload() {
                Some(payload) => claims::property(&payload, &path),
                None => Ok(None),
            };
        }
        let mut kept = self.metadata.borrow_mut();
        let mut key = self.bytes.clone();
        for (number, range) in &self.said {
            key.extend_from_slice(&number.to_le_bytes());
            key.extend_from_slice(&range.end.to_le_bytes());
        }
        if let Some(known) = kept.get(&key) {
            return Ok(Some(known.clone()));
        }
        let Some(payload) = self.payload() else {
            return Ok(None);
        };
        let metadata = claims::property(&payload, path)?;
        if let Some(metadata) = &metadata {
            if kept.len() == KEPT {
                kept.clear();
            }
            kept.insert(key, metadata.clone());
        }
        Ok(metadata)
    }

    /// All claims together; `None` if there are none.
    fn payload(&self) -> Option<Value> {
        let mut claims = Object::new();
        for (number, range) in &self.said {
            if let Some((path, _)) = self.names.get(*number) {
                set(&mut claims, path, self.text(range).into());
            }
        }
        (!claims.is_empty()).then_some(Value::Object(claims))
    }

    fn text(&self, range: &Range<usize>) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes.get(range.clone()).unwrap_or_default())
    }
}

/// Sets a claim in the objects around it.
fn set(claims: &mut Object<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            claims.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let within = claims
                .entry(name.clone())
                .or_insert_with(|| Value::Object(Object::new()));
            if let Value::Object(within) = within {
                set(within, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAYLOAD: [&str; 4] = [
        "metadata",
        "filter_metadata",
        "envoy.filters.http.jwt_authn",
        "payload",
    ];

    fn path() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[ab0 ]|tenant|a\0b", 1..4)
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_if_its_claims_had_been_put_together(
            names in prop::collection::vec(path(), 1..4),
            requests in prop::collection::vec(prop::collection::vec((0_usize..5, "[a-c]{0,2}|umbrella|\\PC{0,9}"), 0..4), 1..6),
            asked in prop::collection::vec(path(), 1..4),
            broken in any::<bool>(),
        ) {
            let mut token = Token::new(&names);
            for said in requests {
                let mut payload = Object::new();
                token.clear();
                for (number, text) in &said {
                    let mut bytes = text.clone().into_bytes();
                    if broken {
                        bytes.push(0xff);
                    }
                    token.say(*number, &bytes);
                    if let Some(path) = names.get(*number) {
                        set(&mut payload, path, String::from_utf8_lossy(&bytes).into());
                    }
                }
                let payload = Value::Object(payload);
                let expected = |path: &[&str]| match payload.as_object().is_some_and(Object::is_empty) {
                    true => Ok(None),
                    false => claims::property(&payload, path),
                };
                // Twice: the second answer may be one that was kept.
                for _ in 0..2 {
                    prop_assert_eq!(token.property(&METADATA), expected(&METADATA));
                }
                for path in asked.iter().chain(&names) {
                    let joined = [&PAYLOAD[..], &path.iter().map(String::as_str).collect::<Vec<_>>()].concat().join("\0");
                    let elements: Vec<&str> = joined.split('\0').collect();
                    prop_assert_eq!(token.property(&[&joined]), expected(&elements), "{:?}", path);
                    prop_assert_eq!(token.property(&elements), expected(&elements), "{:?}", path);
                }
            }
        }
    }
}
