//! What the limiter tells other filters and access logs about a request it refused.

use std::fmt;

/// The property (filter state `wasm.tollgate.refused`) that the limiter sets on a request it refuses, and on no other.
pub const PROPERTY: &str = "tollgate.refused";

/// A request that a limit refused: three words, `<tenant> <tier> <limit>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The tenant's normalised id.
    pub tenant: &'a str,
    /// Its tier.
    pub tier: &'a str,
    /// The limit that refused; of several the one that takes longest.
    pub limit: &'a str,
}

impl<'a> Refusal<'a> {
    /// Reads the property's value; `None` if it is not three words.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value)
            .ok()?
            .split(' ')
            .filter(|word| !word.is_empty());
        let refusal = Self {
            tenant: words.next()?,
            tier: words.next()?,
            limit: words.next()?,
        };
        words.next().is_none().then_some(refusal)
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.tenant, self.tier, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_back_as_it_was_written() {
        let refusal = Refusal {
            tenant: "acme",
            tier: "premium",
            limit: "rate",
        };
        assert_eq!(refusal.to_string(), "acme premium rate");
        assert_eq!(Refusal::parse(b"acme premium rate"), Some(refusal));
        for other in [
            b"".as_slice(),
            b"acme",
            b"acme premium",
            b"acme premium rate more",
            b"\xff a b",
        ] {
            assert_eq!(Refusal::parse(other), None);
        }
    }
}
