//! Query parameters, as `application/x-www-form-urlencoded` has them.

use std::borrow::Cow;

use crate::given::Given;
use crate::percent::{self, Byte};

/// The value of a parameter, decoded once, `+` for a space. Its name is compared without regard to case, because some services do so and
/// would take the first of `n=1&N=9` as well as the last. Some also separate parameters by `;`: a parameter beside one is ambiguous.
pub fn parameter<'a>(query: &'a [u8], name: &str) -> Given<Cow<'a, [u8]>> {
    let mut found = Given::Absent;
    for pair in query.split(|byte| *byte == b'&') {
        if pair.contains(&b';') {
            let mut parts = pair.split(|byte| *byte == b';');
            if parts.any(|part| value(part, name).is_some()) {
                return Given::Ambiguous;
            }
        } else if let Some(value) = value(pair, name) {
            found = found.and(value);
        }
    }
    found.map(decode)
}

/// What comes after `name=` in `pair`, if that is its name.
fn value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=');
    let (written, value) = pair.split_at(equals.unwrap_or(pair.len()));
    let mut expected = name.bytes();
    let same = characters(written).all(|byte| {
        expected
            .next()
            .is_some_and(|other| byte.eq_ignore_ascii_case(&other))
    });
    (same && expected.next().is_none()).then(|| value.get(1..).unwrap_or_default())
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        Cow::Owned(characters(text).collect())
    } else {
        Cow::Borrowed(text)
    }
}

fn characters(text: &[u8]) -> impl Iterator<Item = u8> {
    percent::decode(text).map(|byte| match byte {
        Byte::Plain(b'+') => b' ',
        Byte::Plain(byte) | Byte::Decoded(byte) => byte,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_parameter_is_found_under_every_spelling_of_its_name() {
        let one = |value: &str| Given::One(Cow::Owned(value.as_bytes().to_vec()));
        for (query, expected) in [
            ("tenant=acme", one("acme")),
            ("a=1&tenant=acme&b", one("acme")),
            ("%74enant=ac%6de", one("acme")),
            ("Tenant=acme", one("acme")),
            ("tenant=+a%2Bb%", one(" a+b%")),
            ("tenant=a=b", one("a=b")),
            ("tenant", one("")),
            ("tenant=", one("")),
            ("", Given::Absent),
            ("tenants=acme&xtenant=acme&=acme&ten", Given::Absent),
            ("x=tenant=acme", Given::Absent),
            ("tenant=acme&tenant=acme", Given::Ambiguous),
            ("tenant=acme&%54enant", Given::Ambiguous),
            ("x=1;tenant=acme", Given::Ambiguous),
            ("tenant=acme;x", Given::Ambiguous),
            ("x=1;y=2", Given::Absent),
        ] {
            assert_eq!(parameter(query.as_bytes(), "tenant"), expected, "{query}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(value in proptest::collection::vec(any::<u8>(), 0..20), before in "[a-z=&]{0,8}") {
            let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
            let query = format!("{before}&q1={encoded}");
            prop_assert_eq!(parameter(query.as_bytes(), "q1"), Given::One(Cow::Owned(value)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parameter(&bytes, "tenant");
        }
    }
}
