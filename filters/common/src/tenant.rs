//! Who a tenant is.

use std::fmt;
use std::hash::{Hash, Hasher};

use tollgate_host::same_bytes;

/// The id of a tenant in its one normal form: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`. Kept in place, so that reading one from a
/// header allocates nothing.
#[derive(Clone, Copy)]
pub struct TenantId {
    length: u8,
    bytes: [u8; TenantId::LONGEST],
}

/// What an id consists of, for messages.
pub const ID_RULE: &str = "write 1 to 64 of a-z, 0-9, ., _ and -";

impl TenantId {
    /// The most bytes that an id has.
    pub const LONGEST: usize = 64;

    /// The id that these bytes of a header name: spaces around it are cut off and upper case is lowered. `None` if what is
    /// left is empty, too long or has any other character: such an id names nobody.
    pub fn normalise(raw: &[u8]) -> Option<Self> {
        let raw = raw.trim_ascii();
        let mut id = Self {
            length: 0,
            bytes: [0; Self::LONGEST],
        };
        if raw.is_empty() || raw.len() > Self::LONGEST {
            return None;
        }
        for (to, byte) in id.bytes.iter_mut().zip(raw) {
            *to = match NORMAL.get(usize::from(*byte)) {
                None | Some(0) => return None,
                Some(byte) => *byte,
            };
        }
        id.length = raw.len() as u8;
        Some(id)
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The id's bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// What becomes of each byte of an id; 0 of one that no id has.
const NORMAL: [u8; 256] = {
    let mut normal = [0; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        if matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-')
            && let Some(slot) = normal.split_at_mut(byte as usize).1.first_mut()
        {
            *slot = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    normal
};

/// By what is used of the buffer.
impl PartialEq for TenantId {
    fn eq(&self, other: &Self) -> bool {
        same_bytes(self.as_bytes(), other.as_bytes())
    }
}

impl Eq for TenantId {}

impl Hash for TenantId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(raw: &[u8]) -> Option<String> {
        TenantId::normalise(raw).map(|id| id.to_string())
    }

    #[test]
    fn ids_are_trimmed_and_lowered() {
        assert_eq!(normal(b" \tACME-1.eu_x "), Some("acme-1.eu_x".into()));
        assert_eq!(normal(&[b'a'; 64]), Some("a".repeat(64)));
    }

    #[test]
    fn what_is_no_id_names_nobody() {
        for raw in [
            b"".as_slice(),
            b"   ",
            b"a b",
            b"acme,globex",
            b"acme;x",
            b"caf\xc3\xa9",
            b"\xff",
            b"a\0",
            &[b'a'; 65],
        ] {
            assert_eq!(normal(raw), None, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn ids_are_the_same_if_their_texts_are(a in "[ab]{1,12}", b in "[ab]{1,12}") {
            let id = |text: &str| TenantId::normalise(text.as_bytes()).unwrap();
            prop_assert_eq!(id(&a), id(&a.to_uppercase()));
            prop_assert_eq!(id(&a) == id(&b), a == b);
        }

        #[test]
        fn normalising_twice_changes_nothing(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(id) = TenantId::normalise(&raw) {
                prop_assert_eq!(TenantId::normalise(id.as_bytes()), Some(id));
            }
        }
    }
}
