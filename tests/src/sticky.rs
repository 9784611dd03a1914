//! Shares and signed cookies as the page on user-classifier has them, by another implementation than the filter's.

use anyhow::{Context, Result};
use ring::{digest, hmac};

/// Whether a share of so many of every `out_of` keys has this key.
pub fn is_in(share: u64, out_of: u64, salt: &str, key: &str) -> bool {
    let hash = digest::digest(&digest::SHA256, format!("{salt}\0{key}").as_bytes());
    let first = hash.as_ref().iter().take(8);
    let position = first.fold(0_u128, |position, byte| position << 8 | u128::from(*byte));
    position * u128::from(out_of) < u128::from(share) << 64
}

/// The first of `name-0`, `name-1` … for which this holds.
pub fn named(name: &str, holds: impl Fn(&str) -> bool) -> Result<String> {
    let mut names = (0..10_000).map(|number| format!("{name}-{number}"));
    let found = names.find(|name| holds(name));
    found.with_context(|| format!("there is no such {name} among ten thousand"))
}

/// The value of a cookie as the filter signs it: with a key (its id and secret), for the share of a rule (its type, its salt, and whose: `claim sub`), for
/// this user, tenant or visitor, until this second.
pub fn cookie(
    (id, secret): (&str, &str),
    name: &str,
    (kind, salt, whose): (&str, &str, &str),
    of: &str,
    end: u64,
) -> String {
    let mut signed = Vec::new();
    for part in [
        name.as_bytes(),
        format!("{kind}\0{salt}\0{whose}").as_bytes(),
        id.as_bytes(),
        &end.to_be_bytes(),
    ] {
        signed.extend_from_slice(part);
        signed.push(0);
    }
    signed.extend_from_slice(of.as_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, &signed);
    let tag = tag.as_ref().iter().take(16);
    let tag: String = tag.map(|byte| format!("{byte:02x}")).collect();
    format!("{id}.{end}.{tag}")
}
