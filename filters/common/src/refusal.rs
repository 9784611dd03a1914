//! What the limiter tells other filters and access logs about a request it refused.

use std::fmt;

/// The property (filter state `wasm.tollgate.refused`) that the limiter sets on a request it refuses, and on no other.
pub const PROPERTY: &str = "tollgate.refused";

/// The property (filter state `wasm.tollgate.shadowed`) that the limiter sets on a request that passes and that a limit in shadow would have
/// refused. Its value is of the same form.
pub const SHADOWED: &str = "tollgate.shadowed";

/// The property (filter state `wasm.tollgate.shadow_headers`) that the limiter sets on a request that passes and has met limits in shadow: what the
/// response would have said if these were enforced.
pub const SHADOW_HEADERS: &str = "tollgate.shadow_headers";

/// Why the limiter refuses a request: the last word.
pub const REASONS: [&str; 7] = [
    "limited",
    "too_costly",
    "blocked",
    "missing",
    "unusable",
    "contended",
    "unavailable",
];

/// A request that the limiter refused: four words, `<tenant> <tier> <limit> <reason>`, with `?` for what there is none of. No id and no
/// name is `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The tenant's normalised id; `None` if the request named nobody, and may not be anonymous.
    pub tenant: Option<&'a str>,
    /// Its tier, likewise.
    pub tier: Option<&'a str>,
    /// The limit that refused, of several the one that takes longest; `None` if it was not a limit that did.
    pub limit: Option<&'a str>,
    /// Why, in a word: `limited`, `blocked`.
    pub reason: &'a str,
}

impl<'a> Refusal<'a> {
    /// Reads the property's value; `None` if it is not four words.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value)
            .ok()?
            .split(' ')
            .filter(|word| !word.is_empty());
        let mut word = || Some(words.next()?).map(|word| (word != "?").then_some(word));
        let refusal = Self {
            tenant: word()?,
            tier: word()?,
            limit: word()?,
            reason: word()??,
        };
        words.next().is_none().then_some(refusal)
    }

    /// The property's value, written in one piece: under load most requests have one.
    pub fn property(&self) -> String {
        let word = |word: Option<&'a str>| word.unwrap_or("?");
        [
            word(self.tenant),
            word(self.tier),
            word(self.limit),
            self.reason,
        ]
        .join(" ")
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.property())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_back_as_it_was_written() {
        let limited = Refusal {
            tenant: Some("acme"),
            tier: Some("premium"),
            limit: Some("rate"),
            reason: "limited",
        };
        let nobody = Refusal {
            tenant: None,
            tier: None,
            limit: None,
            reason: "missing",
        };
        for (refusal, text) in [
            (limited, "acme premium rate limited"),
            (nobody, "? ? ? missing"),
        ] {
            assert_eq!(refusal.to_string(), text);
            assert_eq!(Refusal::parse(text.as_bytes()), Some(refusal));
        }
        for other in [
            b"".as_slice(),
            b"acme",
            b"acme premium rate",
            b"acme premium rate ?",
            b"acme premium rate limited more",
            b"\xff a b c",
        ] {
            assert_eq!(Refusal::parse(other), None);
        }
    }
}
