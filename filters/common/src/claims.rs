//! The claims of the token that the proxy verified, with their types.
//!
//! Envoy's JWT filter leaves them in the metadata of the request. A filter can read a single one as a property, but what it gets has no type:
//! a number is eight bytes, as a string of eight characters is; an empty string looks as if it were not there; and a `null` makes the reading
//! fail, also of the list or the mapping that it is in. So claims are read from the whole metadata, in the form in which Envoy sends it (protobuf,
//! `envoy.config.core.v3.Metadata`). They stay in the buffer that the proxy filled and are looked up in place: nothing is allocated, nothing is
//! decoded that nobody asks for, and nothing recurses, however deep a token is.
//!
//! [`Leaf`] is for the one question that a property answers with certainty: whether a claim is a certain text.

use std::ops::Range;

use crate::config::{ConfigError, OneOrMany, at_most, refuse};

/// How many names the way to a claim may have in a configuration.
pub const MAX_NAMES: usize = 8;

/// How many bytes each of them may have.
pub const LONGEST_NAME: usize = 256;

/// The attribute that has the claims: all metadata of the request.
pub const METADATA: [&str; 1] = ["metadata"];

/// Whose part of the metadata they are in. No other filter than the one that verified them writes there.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";

/// Under what: as istiod asks the JWT filter to name it.
const PAYLOAD: &str = "payload";

/// The way to a claim as it is written: its name, or the names of the objects around it, outermost first, and its own. `example` is a claim that one would
/// write there.
pub fn path(
    written: &OneOrMany<String>,
    path: &str,
    example: &str,
) -> Result<Vec<String>, ConfigError> {
    let names = written.values();
    if names.is_empty() {
        return refuse(
            path,
            format!(
                "names no claim, write for example {example}, or [realm, {example}] for one in another"
            ),
        );
    }
    at_most(names.len(), MAX_NAMES, path, "names")?;
    for (index, name) in names.iter().enumerate() {
        // A zero byte is what stands between names where a property's path is one text.
        if !(1..=LONGEST_NAME).contains(&name.len()) || name.contains('\0') {
            return refuse(
                written.path(path, index),
                format!("{name:?} is not a claim's name, write for example {example:?}"),
            );
        }
    }
    Ok(names.to_vec())
}

/// The claims of one request.
#[derive(Clone, Debug)]
pub struct Claims<B = Vec<u8>> {
    metadata: B,
    /// Where in it the payload is (a `google.protobuf.Struct`).
    payload: Range<usize>,
}

/// What a claim is. As in JSON, a number is never a string.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Claim<'a> {
    /// `null`: it is there, and has no value.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number. Whole ones above 2^53 are not exact, as the proxy has them.
    Number(f64),
    /// A string, possibly empty.
    Text(&'a str),
    /// An array.
    List(Elements<'a>),
    /// An object. What is in it has a longer path.
    Mapping,
}

impl<B: AsRef<[u8]>> Claims<B> {
    /// Takes over what [`METADATA`] reads as, or borrows it; `None` if there is no verified token's payload in it.
    pub fn read(metadata: B) -> Option<Self> {
        let whole = metadata.as_ref();
        let payload = payload(whole)?;
        // Both are slices of one buffer, so this is where the one begins in the other.
        let start = (payload.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
        Some(Self {
            payload: start..start.checked_add(payload.len())?,
            metadata,
        })
    }

    /// The claim at a path: its name, or the names of the objects around it, outermost first, and then its own. `None` if it is not
    /// there, if something else than an object is around it, or if the bytes on the way to it are no protobuf. What is in an array has no path.
    pub fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<Claim<'_>> {
        find(self.metadata.as_ref().get(self.payload.clone())?, path)
    }
}

/// The payload in the metadata (a `Struct`).
fn payload(metadata: &[u8]) -> Option<&[u8]> {
    match value(entry(entry(metadata, JWT_FILTER)?, PAYLOAD)?)? {
        Value::Struct(payload) => Some(payload),
        Value::Claim(_) => None,
    }
}

fn find<'a, S: AsRef<str>>(payload: &'a [u8], path: &[S]) -> Option<Claim<'a>> {
    let (last, around) = path.split_last()?;
    let mut mapping = payload;
    for name in around {
        match value(entry(mapping, name.as_ref())?)? {
            Value::Struct(inner) => mapping = inner,
            Value::Claim(_) => return None,
        }
    }
    value(entry(mapping, last.as_ref())?).map(Value::claim)
}

/// The elements of an array, in order. Empty ones are there, those that are no protobuf are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elements<'a> {
    /// What is left of a `google.protobuf.ListValue`.
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Claim<'a>;

    fn next(&mut self) -> Option<Claim<'a>> {
        loop {
            if let (1, Wire::Bytes(element)) = field(&mut self.rest)?
                && let Some(value) = value(element)
            {
                return Some(value.claim());
            }
        }
    }
}

/// A `google.protobuf.Value` that has a kind.
enum Value<'a> {
    /// An object, as its `Struct`.
    Struct(&'a [u8]),
    /// Anything else.
    Claim(Claim<'a>),
}

impl<'a> Value<'a> {
    fn claim(self) -> Claim<'a> {
        match self {
            Self::Struct(_) => Claim::Mapping,
            Self::Claim(claim) => claim,
        }
    }
}

/// What a `Value` is; of several kinds the last, as protobuf has it.
fn value(mut message: &[u8]) -> Option<Value<'_>> {
    let mut found = None;
    while !message.is_empty() {
        found = Some(match field(&mut message)? {
            (1, Wire::Varint(_)) => Value::Claim(Claim::Null),
            (2, Wire::Fixed64(bits)) => Value::Claim(Claim::Number(f64::from_bits(bits))),
            (3, Wire::Bytes(text)) => Value::Claim(Claim::Text(std::str::from_utf8(text).ok()?)),
            (4, Wire::Varint(bit)) => Value::Claim(Claim::Bool(bit != 0)),
            (5, Wire::Bytes(message)) => Value::Struct(message),
            (6, Wire::Bytes(rest)) => Value::Claim(Claim::List(Elements { rest })),
            _ => continue,
        });
    }
    found
}

/// The value of a key in a message whose field 1 is a map from strings to messages, as it is in `Metadata` and in `Struct`.
fn entry<'a>(mut message: &'a [u8], key: &str) -> Option<&'a [u8]> {
    // The proxy writes each key once, so the first is the one.
    while !message.is_empty() {
        if let (1, Wire::Bytes(mut entry)) = field(&mut message)? {
            let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
            while !entry.is_empty() {
                match field(&mut entry)? {
                    (1, Wire::Bytes(bytes)) => name = bytes,
                    (2, Wire::Bytes(bytes)) => value = bytes,
                    _ => {}
                }
            }
            if name == key.as_bytes() {
                return Some(value);
            }
        }
    }
    None
}

/// The value of a field as it is on the wire.
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Takes the next field off a message: its number and its value. `None` at the end, and for what is no protobuf.
fn field<'a>(message: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let key = varint(message)?;
    let wire = match key & 7 {
        0 => Wire::Varint(varint(message)?),
        1 => {
            let (bytes, rest) = message.split_first_chunk()?;
            *message = rest;
            Wire::Fixed64(u64::from_le_bytes(*bytes))
        }
        2 => {
            let length = usize::try_from(varint(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            *message = rest;
            Wire::Bytes(bytes)
        }
        5 => {
            *message = message.get(4..)?;
            Wire::Fixed32
        }
        // Groups: protobuf gave them up before any of these messages was made.
        _ => return None,
    };
    Some((key >> 3, wire))
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for at in 0..10 {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        // Bits beyond the 64th are lost, as in every decoder.
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A claim as a property of its own, for questions of one kind: is it this text? That copies one claim where [`METADATA`] copies all
/// of them, and decides only where a property can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The path of the property, its elements joined as the proxy takes them.
    path: String,
}

impl Leaf {
    /// The property of the claim at a path as for [`Claims::get`]. `None` where the proxy would understand another path by it:
    /// it also counts the elements of arrays.
    pub fn of<S: AsRef<str>>(path: &[S]) -> Option<Self> {
        let mut joined = ["metadata", "filter_metadata", JWT_FILTER, PAYLOAD].join("\0");
        for (index, name) in path.iter().enumerate() {
            let name = name.as_ref();
            let counts = index > 0 && name.trim().parse::<i64>().is_ok();
            if name.is_empty() || name.contains('\0') || counts {
                return None;
            }
            joined.push('\0');
            joined.push_str(name);
        }
        (!path.is_empty()).then_some(Self { path: joined })
    }

    /// The path to read it at.
    pub fn path(&self) -> [&str; 1] {
        [&self.path]
    }

    /// Whether bytes that were read at [`Leaf::path`] can only be a text. Then a claim is this text if and only if it reads as these bytes: one that
    /// does not, that is not there, or whose reading fails is something else. What is empty reads as if it were not there, one byte may be a bool, eight may
    /// be a number, and lists and mappings read as bytes with zeros among them.
    pub fn decides(text: &[u8]) -> bool {
        !matches!(text.len(), 0 | 1 | 8) && !text.contains(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;
    use prost_types::value::Kind;
    use prost_types::{ListValue, NullValue, Struct, Value as Written};
    use std::collections::{BTreeMap, HashMap};
    use tollgate_host::Host;
    use tollgate_host::memory::MemoryHost;

    /// `envoy.config.core.v3.Metadata`.
    #[derive(Clone, PartialEq, Message)]
    struct Metadata {
        #[prost(map = "string, message", tag = "1")]
        filter_metadata: HashMap<String, Struct>,
        #[prost(map = "string, message", tag = "2")]
        typed_filter_metadata: HashMap<String, prost_types::Any>,
    }

    fn written(kind: Kind) -> Written {
        Written { kind: Some(kind) }
    }

    fn text(text: &str) -> Written {
        written(Kind::StringValue(text.to_owned()))
    }

    fn number(number: f64) -> Written {
        written(Kind::NumberValue(number))
    }

    fn null() -> Written {
        written(Kind::NullValue(NullValue::NullValue.into()))
    }

    fn list(values: Vec<Written>) -> Written {
        written(Kind::ListValue(ListValue { values }))
    }

    fn object(fields: Vec<(&str, Written)>) -> Written {
        written(Kind::StructValue(fields_of(fields)))
    }

    fn fields_of(fields: Vec<(&str, Written)>) -> Struct {
        let fields = fields.into_iter();
        Struct {
            fields: fields.map(|(name, it)| (name.to_owned(), it)).collect(),
        }
    }

    /// The metadata of a request whose token has this payload, among what other filters leave there.
    fn metadata(payload: Written) -> Vec<u8> {
        let jwt = fields_of(vec![("header", object(vec![])), (PAYLOAD, payload)]);
        let other = fields_of(vec![(PAYLOAD, object(vec![("sub", text("mallory"))]))]);
        Metadata {
            filter_metadata: HashMap::from([
                ("envoy.common".to_owned(), other.clone()),
                (JWT_FILTER.to_owned(), jwt),
                (format!("{JWT_FILTER}.not"), other),
            ]),
            typed_filter_metadata: HashMap::from([(
                JWT_FILTER.to_owned(),
                prost_types::Any {
                    type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(),
                    value: vec![0xff; 9],
                },
            )]),
        }
        .encode_to_vec()
    }

    fn claims(fields: Vec<(&str, Written)>) -> Claims {
        Claims::read(metadata(object(fields))).unwrap()
    }

    #[test]
    fn a_claim_has_the_type_that_the_token_gives_it() {
        let claims = claims(vec![
            ("plan", text("vip")),
            ("eight", text("8 bytes!")),
            ("eight bytes", number(f64::from_le_bytes(*b"8 bytes!"))),
            ("one", text("\u{1}")),
            ("true", written(Kind::BoolValue(true))),
            ("false", written(Kind::BoolValue(false))),
            ("empty", text("")),
            ("null", null()),
            ("level", number(41.0)),
            (
                "https://shop/roles",
                list(vec![text("a"), null(), list(vec![text("b")]), text("")]),
            ),
            ("none", list(vec![])),
            (
                "realm",
                object(vec![
                    ("plan", text("zażółć")),
                    ("deep", object(vec![("er", null())])),
                ]),
            ),
        ]);
        let get = |path: &[&str]| claims.get(path);
        assert_eq!(get(&["plan"]), Some(Claim::Text("vip")));
        assert_eq!(get(&["eight"]), Some(Claim::Text("8 bytes!")));
        assert_eq!(
            get(&["eight bytes"]),
            Some(Claim::Number(f64::from_le_bytes(*b"8 bytes!")))
        );
        assert_eq!(get(&["one"]), Some(Claim::Text("\u{1}")));
        assert_eq!(get(&["true"]), Some(Claim::Bool(true)));
        assert_eq!(get(&["false"]), Some(Claim::Bool(false)));
        assert_eq!(get(&["empty"]), Some(Claim::Text("")));
        assert_eq!(get(&["null"]), Some(Claim::Null));
        assert_eq!(get(&["level"]), Some(Claim::Number(41.0)));
        assert_eq!(get(&["realm"]), Some(Claim::Mapping));
        assert_eq!(get(&["realm", "plan"]), Some(Claim::Text("zażółć")));
        assert_eq!(get(&["realm", "deep", "er"]), Some(Claim::Null));
        assert_eq!(
            get(&["none"]).and_then(|claim| elements(claim).next()),
            None
        );
        let roles: Vec<_> = elements(get(&["https://shop/roles"]).unwrap()).collect();
        assert_eq!(roles.len(), 4);
        assert_eq!(roles[..2], [Claim::Text("a"), Claim::Null]);
        assert!(elements(roles[2]).eq([Claim::Text("b")]));
        assert_eq!(roles[3], Claim::Text(""));
        for absent in [
            &["Plan"][..],
            &["pla"],
            &[""],
            &["plan", "vip"],
            &["plan", ""],
            &["null", "x"],
            &["https://shop/roles", "0"],
            &["realm", "plan", "x"],
            &["sub"],
            &[],
        ] {
            assert_eq!(get(absent), None, "{absent:?}");
        }
    }

    fn elements(claim: Claim<'_>) -> Elements<'_> {
        match claim {
            Claim::List(elements) => elements,
            other => panic!("{other:?} is no list"),
        }
    }

    #[test]
    fn the_proxy_in_memory_encodes_as_others_do() {
        let mut host = MemoryHost::new();
        host.set_claims(serde_json::json!({"plan": "vip", "level": 41, "ok": true, "null": null, "roles": ["a", null], "realm": {"plan": "x"}}));
        let metadata = host.property(&METADATA).unwrap().unwrap();
        let payload = object(vec![
            ("plan", text("vip")),
            ("level", number(41.0)),
            ("ok", written(Kind::BoolValue(true))),
            ("null", null()),
            ("roles", list(vec![text("a"), null()])),
            ("realm", object(vec![("plan", text("x"))])),
        ]);
        let decoded = Metadata::decode(metadata.as_slice()).unwrap();
        assert_eq!(
            decoded.filter_metadata,
            HashMap::from([(JWT_FILTER.to_owned(), fields_of(vec![(PAYLOAD, payload)]))])
        );

        let leaf = Leaf::of(&["realm", "plan"]).unwrap();
        assert_eq!(host.property(&leaf.path()), Ok(Some(b"x".to_vec())));
    }

    #[test]
    fn without_a_verified_token_there_are_no_claims() {
        let others = Metadata {
            filter_metadata: HashMap::from([(
                "envoy.common".to_owned(),
                fields_of(vec![(PAYLOAD, object(vec![]))]),
            )]),
            ..Metadata::default()
        };
        let no_payload = Metadata {
            filter_metadata: HashMap::from([(
                JWT_FILTER.to_owned(),
                fields_of(vec![("header", object(vec![]))]),
            )]),
            ..Metadata::default()
        };
        for metadata in [
            Vec::new(),
            others.encode_to_vec(),
            no_payload.encode_to_vec(),
            metadata(text("payload")),
            metadata(null()),
            metadata(list(vec![object(vec![("sub", text("a"))])])),
            metadata(Written { kind: None }),
        ] {
            assert!(Claims::read(metadata.clone()).is_none(), "{metadata:?}");
        }
        let empty = Claims::read(metadata(object(vec![]))).unwrap();
        assert_eq!(empty.get(&["sub"]), None);
    }

    #[test]
    fn a_token_of_a_megabyte_is_a_token() {
        let long = "x".repeat(1 << 20);
        let names: Vec<String> = (0..20_000).map(|index| format!("claim-{index}")).collect();
        let mut fields: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), number(1.0)))
            .collect();
        fields.push(("long", text(&long)));
        fields.push(("plan", text("vip")));
        let claims = claims(fields);
        assert_eq!(claims.get(&["long"]), Some(Claim::Text(&long)));
        assert_eq!(claims.get(&["plan"]), Some(Claim::Text("vip")));
        assert_eq!(claims.get(&["claim-20000"]), None);
    }

    /// A message of one field, length-delimited.
    fn delimited(number: u8, content: &[u8]) -> Vec<u8> {
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

    #[test]
    fn depth_is_no_danger() {
        let (mut mapping, mut nested) =
            (text("deep").encode_to_vec(), text("deep").encode_to_vec());
        const DEPTH: usize = 4_000;
        for _ in 0..DEPTH {
            let entry = [delimited(1, b"a"), delimited(2, &mapping)].concat();
            mapping = delimited(5, &delimited(1, &entry));
            nested = delimited(6, &delimited(1, &nested));
        }
        let payload = [("mapping", mapping), ("nested", nested)]
            .map(|(name, value)| {
                delimited(
                    1,
                    &[delimited(1, name.as_bytes()), delimited(2, &value)].concat(),
                )
            })
            .concat();
        let payload = [
            delimited(1, PAYLOAD.as_bytes()),
            delimited(2, &delimited(5, &payload)),
        ]
        .concat();
        let jwt = [
            delimited(1, JWT_FILTER.as_bytes()),
            delimited(2, &delimited(1, &payload)),
        ]
        .concat();
        let claims = Claims::read(delimited(1, &jwt)).unwrap();

        let mut path = vec!["mapping"];
        path.resize(DEPTH, "a");
        assert_eq!(claims.get(&path), Some(Claim::Mapping));
        path.push("a");
        assert_eq!(claims.get(&path), Some(Claim::Text("deep")));
        path.push("a");
        assert_eq!(claims.get(&path), None);

        let mut at = claims.get(&["nested"]).unwrap();
        for _ in 0..DEPTH {
            at = elements(at).next().unwrap();
        }
        assert_eq!(at, Claim::Text("deep"));
    }

    #[test]
    fn what_is_no_text_is_no_claim() {
        let mut value = text("vip!").encode_to_vec();
        *value.last_mut().unwrap() = 0xff;
        assert!(super::value(&value).is_none());
    }

    #[test]
    fn a_leaf_is_read_where_the_proxy_has_the_claim_alone() {
        let path = |path: &[&str]| Leaf::of(path).map(|leaf| leaf.path()[0].replace('\0', "|"));
        let payload = "metadata|filter_metadata|envoy.filters.http.jwt_authn|payload";
        assert_eq!(path(&["sub"]), Some(format!("{payload}|sub")));
        assert_eq!(
            path(&["https://shop/a.b", "plan"]),
            Some(format!("{payload}|https://shop/a.b|plan"))
        );
        assert_eq!(
            path(&["0"]),
            Some(format!("{payload}|0")),
            "the payload itself is no array"
        );
        for refused in [
            &["groups", "0"][..],
            &["groups", " +1 "],
            &["groups", "-0"],
            &["groups", "0", "a"],
            &[""],
            &["a", ""],
            &["a\0b"],
            &[],
        ] {
            assert_eq!(path(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn a_leaf_decides_what_reads_like_nothing_else() {
        for text in ["ab", "premium", "nine chars"] {
            assert!(Leaf::decides(text.as_bytes()), "{text}");
        }
        for text in ["", "\u{1}", "8 bytes!", "\0\0\0\0", "a\0b"] {
            assert!(!Leaf::decides(text.as_bytes()), "{text:?}");
        }
    }

    fn any_value() -> impl Strategy<Value = Written> {
        let leaf = prop_oneof![
            Just(null()),
            any::<bool>().prop_map(|bit| written(Kind::BoolValue(bit))),
            any::<f64>()
                .prop_filter("equal to itself", |it| !it.is_nan())
                .prop_map(number),
            any::<String>().prop_map(|it| text(&it)),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(list),
                any_fields(inner).prop_map(|fields| written(Kind::StructValue(Struct { fields }))),
            ]
        })
    }

    fn any_fields(
        value: impl Strategy<Value = Written>,
    ) -> impl Strategy<Value = BTreeMap<String, Written>> {
        let name = prop_oneof!["[ab]{0,2}", any::<String>()];
        proptest::collection::btree_map(name, value, 0..6)
    }

    /// Whether a claim is what was written, as deep as arrays go.
    fn same(claim: Claim<'_>, written: &Written) -> bool {
        match (claim, written.kind.as_ref()) {
            (Claim::Null, Some(Kind::NullValue(_)))
            | (Claim::Mapping, Some(Kind::StructValue(_))) => true,
            (Claim::Bool(bit), Some(Kind::BoolValue(written))) => bit == *written,
            (Claim::Number(number), Some(Kind::NumberValue(written))) => number == *written,
            (Claim::Text(text), Some(Kind::StringValue(written))) => text == written,
            (Claim::List(elements), Some(Kind::ListValue(written))) => {
                elements.count() == written.values.len()
                    && elements
                        .zip(&written.values)
                        .all(|(claim, written)| same(claim, written))
            }
            _ => false,
        }
    }

    /// Whether every field of a mapping, however deep, is found at its path.
    fn all_found(
        claims: &Claims,
        path: &mut Vec<String>,
        fields: &BTreeMap<String, Written>,
    ) -> bool {
        fields.iter().all(|(name, written)| {
            path.push(name.clone());
            let found = claims.get(path).is_some_and(|claim| same(claim, written))
                && match &written.kind {
                    Some(Kind::StructValue(inner)) => all_found(claims, path, &inner.fields),
                    _ => true,
                };
            path.pop();
            found
        })
    }

    proptest! {
        #[test]
        fn every_claim_is_what_was_encoded(fields in any_fields(any_value()), other in "[ab]{0,3}") {
            let claims = Claims::read(metadata(written(Kind::StructValue(Struct { fields: fields.clone() })))).unwrap();
            prop_assert!(all_found(&claims, &mut Vec::new(), &fields));
            prop_assert_eq!(claims.get(&[&other]).is_some(), fields.contains_key(&other));
        }

        #[test]
        fn metadata_that_is_cut_off_or_changed_is_never_a_panic(
            fields in any_fields(any_value()),
            cut in any::<prop::sample::Index>(),
            (at, byte) in (any::<prop::sample::Index>(), any::<u8>()),
        ) {
            let whole = metadata(written(Kind::StructValue(Struct { fields: fields.clone() })));
            let mut cut_off = whole.clone();
            cut_off.truncate(cut.index(whole.len()));
            let mut changed = whole.clone();
            changed[at.index(whole.len())] = byte;
            for name in fields.keys() {
                let get = |bytes: &Vec<u8>| Claims::read(bytes.clone()).and_then(|claims| claims.get(&[name]).map(|claim| format!("{claim:?}")));
                // What is left is what was there, or nothing.
                if let Some(left) = get(&cut_off) {
                    prop_assert_eq!(Some(left), get(&whole));
                }
                let _ = get(&changed);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let payload = delimited(1, &[delimited(1, PAYLOAD.as_bytes()), delimited(2, &delimited(5, &bytes))].concat());
            let jwt = [delimited(1, JWT_FILTER.as_bytes()), delimited(2, &payload)].concat();
            for metadata in [bytes.clone(), delimited(1, &jwt)] {
                if let Some(claims) = Claims::read(metadata) {
                    for path in [&[""][..], &["a"], &["", ""]] {
                        if let Some(Claim::List(elements)) = claims.get(path) {
                            prop_assert!(elements.count() < 64);
                        }
                    }
                }
            }
        }
    }
}
