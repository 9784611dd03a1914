//! Ids that a configuration lists without naming them.
//!
//! A manifest is read by many: a list of customers in it is a list of customers in version control. A hashed id says whether somebody is
//! on the list and not who is, as far as ids can't be guessed: whoever has the list and its salt can hash every id that he thinks of, and of
//! numbers or first names that is all there are. Hashing keeps ids out of sight. It does not make them secret.

use sha2::{Digest, Sha256};

/// The bytes of a hashed id: as many of SHA-256 as make it hopeless to find another id for any of a hundred thousand hashes.
pub const HASHED_ID: usize = 12;

/// An id, hashed: the first 12 bytes of SHA-256 of the salt, a zero byte and the id. With other tools:
/// `printf '%s\0%s' "$SALT" "$ID" | sha256sum | cut -c1-24`.
pub fn hashed_id(salt: &str, id: &[u8]) -> [u8; HASHED_ID] {
    let digest = digest(salt, id);
    let mut hashed = [0; HASHED_ID];
    for (to, from) in hashed.iter_mut().zip(digest) {
        *to = from;
    }
    hashed
}

/// Where somebody stands among all, from 0 to 2^64: the first 8 bytes (big-endian) of SHA-256 of the salt, a zero byte and the key. The same for
/// every proxy, and with another salt another order.
pub fn position(salt: &str, key: &[u8]) -> u64 {
    let digest = digest(salt, key);
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether a key is among `share` of every `out_of` keys, by its [`position`]. A share that grows keeps all whom it had: they are those up to a
/// place in the order of all.
pub fn in_share(salt: &str, key: &[u8], share: u64, out_of: u64) -> bool {
    u128::from(position(salt, key)) * u128::from(out_of) < u128::from(share) << 64
}

fn digest(salt: &str, id: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(salt.as_bytes());
    hasher.update([0]);
    hasher.update(id);
    hasher.finalize().into()
}

/// A hashed id as configurations have it: 24 hexadecimal digits in lower case.
pub fn to_hex(hashed: &[u8]) -> String {
    let digit = |value: u8| {
        char::from(if value < 10 {
            b'0' + value
        } else {
            b'a' + value - 10
        })
    };
    hashed
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Reads what [`to_hex`] writes of a hashed id.
pub fn from_hex(text: &str) -> Option<[u8; HASHED_ID]> {
    from_hex_digits(text)
}

/// Reads what [`to_hex`] writes of so many bytes.
pub fn from_hex_digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (to, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Whether a text can be a salt. A zero byte ends it, so it has none.
pub fn is_salt(salt: &str) -> bool {
    (1..=64).contains(&salt.len()) && !salt.chars().any(char::is_control)
}

/// What [`is_salt`] asks for, for messages.
pub const SALT_RULE: &str = "write 1 to 64 bytes without control characters";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_tools_hash_ids_alike() {
        // printf '%s\0%s' shop alice | sha256sum
        let alice = "9014771bf7a8a38d1f7a37df";
        assert_eq!(to_hex(&hashed_id("shop", b"alice")), alice);
        let position_of_alice = u64::from_str_radix(&alice[..16], 16).unwrap();
        assert_eq!(position("shop", b"alice"), position_of_alice);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in any::<[u8; HASHED_ID]>()) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        }

        #[test]
        fn nothing_else_is_a_hashed_id(text in "[0-9a-gA-F]{0,26}") {
            let is = text.len() == 24 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            prop_assert_eq!(from_hex(&text).is_some(), is);
        }
    }
}
