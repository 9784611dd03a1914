//! Lines of JSON, an object each: Envoy's `json_format`, by the names that Istio and others give to fields.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{Asked, Draft, Fields, Target};
use super::{Not, Told};
use crate::simulate::time::{self, Form};

/// What fields are by convention: of several of one line the first here. The first of each is Istio's, or what Envoy's documentation has.
const CONVENTIONS: [(&str, &[&str]); 7] = [
    (
        TIME,
        &[
            "start_time",
            "startTime",
            "@timestamp",
            "timestamp",
            "time",
            "ts",
        ],
    ),
    (
        ":method",
        &[
            "method",
            "request_method",
            "requestMethod",
            "http_method",
            ":method",
        ],
    ),
    (
        ":path",
        &[
            "path",
            "request_uri",
            "request_path",
            "requestUrl",
            "uri",
            "url",
            ":path",
        ],
    ),
    (
        ":authority",
        &["authority", "host", "http_host", ":authority"],
    ),
    (STATUS, &["response_code", "status", "status_code"]),
    (DETAILS, &["response_code_details"]),
    (DURATION, &["duration", "duration_ms"]),
];

const TIME: &str = "time";
const STATUS: &str = "status";
const DETAILS: &str = "details";
const DURATION: &str = "duration";

/// Headers that have no `x-` in front of them.
const HEADERS: [(&str, &str); 4] = [
    ("user_agent", "user-agent"),
    ("user-agent", "user-agent"),
    ("referer", "referer"),
    ("downstream_peer_uri_san", PEER),
];

const PEER: &str = "peer";

/// How lines are read.
#[derive(Debug)]
pub(crate) struct Object {
    fields: Fields,
    /// What is looked for, in the order in which the parts of a request are kept.
    slots: Vec<Target>,
    within: Level,
    /// The command line's fields, and whether any line had them.
    asked: Vec<(Asked, AtomicBool)>,
}

/// The fields of an object that are of interest.
#[derive(Debug, Default)]
struct Level {
    /// By the length of their names: a log has many fields, and most are of no interest.
    leaves: Vec<Vec<(String, Vec<Leaf>)>>,
    levels: Vec<(String, Level)>,
}

/// What a field fills.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    slot: usize,
    /// Of several that fill a slot, the lowest counts.
    rank: usize,
    asked: Option<usize>,
}

impl Object {
    pub(crate) fn new(fields: &Fields) -> Self {
        let mut object = Self {
            fields: fields.clone(),
            slots: Vec::new(),
            within: Level::default(),
            asked: Vec::new(),
        };
        for (what, names) in CONVENTIONS {
            let target = match what {
                TIME => Target::Time(Form::Rfc3339),
                STATUS => Target::Status,
                DETAILS => Target::Details,
                DURATION => Target::Duration,
                header => Target::Header(header.to_owned()),
            };
            object.conventional(target, names);
        }
        for (name, header) in HEADERS {
            let target = match header {
                PEER => Target::Peer,
                header => Target::Header(header.to_owned()),
            };
            let unneeded =
                matches!(&target, Target::Header(name) if !fields.wants(name.as_bytes()));
            if !unneeded {
                object.conventional(target, &[name]);
            }
        }
        for name in fields.named() {
            let spelled = name.replace('-', "_");
            object.conventional(Target::Header(name.clone()), &[&spelled, &name]);
        }
        for (asked, target) in fields.asked() {
            let field = asked.1.clone();
            object.asked.push((asked, AtomicBool::new(false)));
            let leaf = Leaf {
                slot: object.slots.len(),
                rank: 0,
                asked: Some(object.asked.len() - 1),
            };
            object.slots.push(target);
            object.within.add(&field, leaf);
        }
        object
    }

    fn conventional(&mut self, target: Target, names: &[&str]) {
        if self.fields.overrules(&target) {
            return;
        }
        // Both spellings of `user-agent` fill one slot.
        let slot = self.slots.iter().position(|other| *other == target);
        let slot = slot.unwrap_or_else(|| {
            self.slots.push(target);
            self.slots.len() - 1
        });
        for (rank, name) in names.iter().enumerate() {
            let leaf = Leaf {
                slot,
                rank,
                asked: None,
            };
            self.within.leaf(name, leaf);
        }
    }

    /// The field of the command line that no line had.
    pub(crate) fn never_seen(&self) -> Option<&Asked> {
        let mut asked = self.asked.iter();
        asked
            .find(|(_, seen)| !seen.load(Ordering::Relaxed))
            .map(|(asked, _)| asked)
    }

    /// What a line says, its parts into the arena.
    pub(crate) fn read(&self, line: &[u8], arena: &mut Vec<u8>) -> Result<Told, Not> {
        let found = RefCell::new(vec![None; self.slots.len()]);
        let seed = Walk {
            object: self,
            level: Some(&self.within),
            found: &found,
        };
        // Text that is known to be UTF-8 is not asked for each of its names and values.
        let read = match std::str::from_utf8(line) {
            Ok(text) => seed.whole(serde_json::Deserializer::from_str(text)),
            Err(_) => seed.whole(serde_json::Deserializer::from_slice(line)),
        };
        read.map_err(|error| {
            // The line is the log's, not that of the object.
            let why = error
                .to_string()
                .replace(" at line 1 column ", " at column ");
            Not::Readable(format!("is no JSON object: {why}").into())
        })?;
        let slots = found.into_inner();
        let mut draft = Draft::default();
        for (target, value) in self.slots.iter().zip(slots) {
            let Some((_, value)) = value else { continue };
            // What others call `status` may be anything.
            if *target == Target::Status
                && time::number(value.as_bytes()).is_none_or(|status| status > 999)
            {
                continue;
            }
            draft.take(target, value.as_bytes(), arena)?;
        }
        draft.finish()
    }
}

impl Level {
    /// Adds a field, also one within another: `request.id` is the field of that name, or `id` in `request`.
    fn add(&mut self, name: &str, leaf: Leaf) {
        self.leaf(name, leaf);
        if let Some((outer, inner)) = name.split_once('.') {
            let at = self.levels.iter().position(|(other, _)| other == outer);
            let at = at.unwrap_or_else(|| {
                self.levels.push((outer.to_owned(), Level::default()));
                self.levels.len() - 1
            });
            self.levels[at].1.add(inner, leaf);
        }
    }

    fn leaf(&mut self, name: &str, leaf: Leaf) {
        if self.leaves.len() <= name.len() {
            self.leaves.resize_with(name.len() + 1, Vec::new);
        }
        let alike = &mut self.leaves[name.len()];
        match alike.iter_mut().find(|(other, _)| other == name) {
            Some((_, leaves)) => leaves.push(leaf),
            None => alike.push((name.to_owned(), vec![leaf])),
        }
    }
}

/// What was found in a line so far, for each slot, with the rank of the field that had it.
type Found<'de> = RefCell<Vec<Option<(usize, Cow<'de, str>)>>>;

/// What a key leads to.
enum Key<'l> {
    Skip,
    Known {
        leaves: &'l [Leaf],
        level: Option<&'l Level>,
    },
}

/// Reads an object. One that is in another has a level only if something in it is looked for.
struct Walk<'l, 'f, 'de> {
    object: &'l Object,
    level: Option<&'l Level>,
    found: &'f Found<'de>,
}

impl<'de> Walk<'_, '_, 'de> {
    /// Reads a line, which is one object and nothing else.
    fn whole<R: serde_json::de::Read<'de>>(
        self,
        mut reader: serde_json::Deserializer<R>,
    ) -> serde_json::Result<()> {
        self.deserialize(&mut reader)?;
        reader.end()
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeyOf { level: self.level })? {
            match key {
                Key::Skip => {
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Known { leaves, level } => {
                    let mut value = map.next_value_seed(Scalar {
                        object: self.object,
                        level,
                        found: self.found,
                    })?;
                    let mut found = self.found.borrow_mut();
                    for (at, leaf) in leaves.iter().enumerate() {
                        if let Some((_, seen)) =
                            leaf.asked.and_then(|asked| self.object.asked.get(asked))
                        {
                            seen.store(true, Ordering::Relaxed);
                        }
                        let slot = &mut found[leaf.slot];
                        if value.is_some()
                            && slot.as_ref().is_none_or(|(rank, _)| leaf.rank < *rank)
                        {
                            // Mostly a field is one thing, and its text need not be copied.
                            let value = match at + 1 == leaves.len() {
                                true => value.take(),
                                false => value.clone(),
                            };
                            *slot = value.map(|value| (leaf.rank, value));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Looks a key up.
struct KeyOf<'l> {
    level: Option<&'l Level>,
}

impl<'de, 'l> DeserializeSeed<'de> for KeyOf<'l> {
    type Value = Key<'l>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Key<'l>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'l> Visitor<'_> for KeyOf<'l> {
    type Value = Key<'l>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'l>, E> {
        let Some(within) = self.level else {
            return Ok(Key::Skip);
        };
        let alike = within.leaves.get(key.len());
        // Most names end otherwise, and one byte is compared without a call.
        let is_key = |name: &str| name.as_bytes().last() == key.as_bytes().last() && name == key;
        let leaves = alike.and_then(|alike| alike.iter().find(|(name, _)| is_key(name)));
        let level = within.levels.iter().find(|(name, _)| name == key);
        if leaves.is_some() || level.is_some() {
            return Ok(Key::Known {
                leaves: leaves
                    .map(|(_, leaves)| leaves.as_slice())
                    .unwrap_or_default(),
                level: level.map(|(_, level)| level),
            });
        }
        Ok(Key::Skip)
    }
}

/// Reads a value that is looked for: as text whatever it is, and nothing of what is no scalar.
struct Scalar<'l, 'f, 'de> {
    object: &'l Object,
    level: Option<&'l Level>,
    found: &'f Found<'de>,
}

impl<'de> DeserializeSeed<'de> for Scalar<'_, '_, 'de> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar<'_, '_, 'de> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(if truth { "true" } else { "false" })))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let walk = Walk {
            object: self.object,
            level: self.level,
            found: self.found,
        };
        walk.visit_map(map)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::simulate::log::record::testing::entry;
    use crate::simulate::log::record::{self, Part};

    fn read(object: &Object, line: &str) -> Result<(Told, Vec<String>), Not> {
        let mut arena = Vec::new();
        let told = object.read(line.as_bytes(), &mut arena)?;
        record::end(&mut arena);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut parts: Vec<String> = entry(0)
            .parts(&[arena])
            .map(|part| match part {
                Part::Header(name, value) => format!("{}={}", text(name), text(value)),
                Part::Claim(number, value) => format!("claim {number}={}", text(value)),
                Part::Peer(value) => format!("peer={}", text(value)),
            })
            .collect();
        parts.sort();
        Ok((told, parts))
    }

    #[test]
    fn fields_are_known_by_the_names_that_istio_gives_them() {
        let mut fields = Fields::default();
        fields.want(&json!(["x-tenant-id", "user-agent"]));
        let object = Object::new(&fields);
        let line = r#"{"start_time":"2026-11-21T08:00:05.250Z","time":"later","method":"GET","path":"/a\u0020b","authority":"shop","response_code":429,
            "response_code_details":"tollgate_rate_limited","duration":12,"user_agent":"curl","x_tenant_id":"ACME","x_request_id":"1","x_forwarded_for":null,
            "nested":{"method":"POST","deep":[1,{"path":"/x"}]}}"#;
        let (told, parts) = read(&object, line).unwrap();
        assert_eq!(
            told,
            Told {
                time: 1_795_248_005_250_000_000,
                duration: 12,
                status: 429
            }
        );
        assert_eq!(
            parts,
            [
                ":authority=shop",
                ":method=GET",
                ":path=/a b",
                "user-agent=curl",
                "x-tenant-id=ACME"
            ]
        );
    }

    #[test]
    fn the_command_line_says_what_other_fields_are() {
        let fields = Fields {
            headers: vec![
                ("x-tenant-id".to_owned(), "http.tenant".to_owned()),
                (":path".to_owned(), "http.url".to_owned()),
            ],
            claims: vec![(vec!["sub".to_owned()], "who".to_owned())],
            peer: Some("who".to_owned()),
            time: Some("at".to_owned()),
            ..Fields::default()
        };
        let object = Object::new(&fields);
        let line = r#"{"at":1795248005.5,"start_time":"x","path":"/no","http":{"tenant":"acme","url":"https://shop/yes?a"},"x_tenant_id":"no"}"#;
        assert!(object.never_seen().is_some());
        let (told, parts) = read(&object, line).unwrap();
        assert_eq!(told.time, 1_795_248_005_500_000_000);
        assert_eq!(
            parts,
            [":authority=shop", ":path=/yes?a", "x-tenant-id=acme"]
        );
        assert_eq!(object.never_seen().unwrap().0, "--claim sub=who");
        read(&object, r#"{"at":1,"http.url":"/","who":"a"}"#).unwrap();
        assert_eq!(object.never_seen(), None);
    }

    #[test]
    fn what_is_no_request_is_told() {
        let object = Object::new(&Fields::default());
        for (line, not) in [
            (
                r#"{"start_time":"2026-11-21T08:00:05Z","method":null,"path":null}"#,
                Not::Request,
            ),
            (
                r#"{"method":"GET","path":"/"}"#,
                Not::Readable("does not say when the request began".into()),
            ),
            (
                r#"{"start_time":"now","path":"/"}"#,
                Not::Readable("\"now\" is no moment".into()),
            ),
            (
                "[]",
                Not::Readable(
                    "is no JSON object: invalid type: sequence, expected an object at column 0"
                        .into(),
                ),
            ),
            (
                "{",
                Not::Readable("is no JSON object: EOF while parsing an object at column 1".into()),
            ),
            (
                "{} {}",
                Not::Readable("is no JSON object: trailing characters at column 4".into()),
            ),
        ] {
            assert_eq!(read(&object, line), Err(not), "{line}");
        }
    }
}
