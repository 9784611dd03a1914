//! The number that a request counts in a metric, and why there may be none.
//!
//! The proxy's metrics are whole numbers, so a number that a header or a body has is multiplied by a scale, exactly: 19.99 by 100 is 1999. What
//! is left behind the point then is not rounded, and neither is a number that is too large or negative made to fit: a sum of money
//! that is a little wrong is worse than one that says what it left out. Such a request is counted as skipped, with the reason.

use tollgate_common::body::{NotWhole, scaled};
use tollgate_host::Copies;

/// What is counted where a metric has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// What the proxy knows.
    Known(Number),
    /// What a header of the request says, its name in lower case.
    Header(String, Decimal),
    /// What a header of the response says, likewise.
    ResponseHeader(String, Decimal),
    /// What the body of the request says, at the pointer of this position.
    RequestBody(usize, Decimal),
    /// What the body of the response says, likewise.
    ResponseBody(usize, Decimal),
}

/// A number that the proxy knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// How long it took, in milliseconds.
    Duration,
    /// The bytes of its body.
    RequestBytes,
    /// The bytes of the response's body.
    ResponseBytes,
}

/// How a number in decimal notation becomes a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// What it is multiplied by.
    pub scale: u64,
    /// The largest that counts, once it is multiplied.
    pub max: u64,
}

/// Why a request that a metric is about has no number that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// There is no such header, no body, or nothing at the pointer.
    Missing,
    /// It is no number as JSON writes them, or a header is there more than once.
    Malformed,
    /// It is below zero.
    Negative,
    /// Multiplied by the scale it is not whole.
    Fraction,
    /// It is larger than it may be.
    TooLarge,
    /// The body is not of a type that is JSON.
    ContentType,
    /// The body is compressed.
    Compressed,
    /// The body is larger than may be read.
    Oversized,
    /// The body broke off.
    Truncated,
    /// The body is not JSON.
    NotJson,
}

impl Skip {
    /// The value of the label `reason`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Negative => "negative",
            Self::Fraction => "fraction",
            Self::TooLarge => "too_large",
            Self::ContentType => "content_type",
            Self::Compressed => "compressed",
            Self::Oversized => "oversized",
            Self::Truncated => "truncated",
            Self::NotJson => "not_json",
        }
    }

    /// What may be wrong with a number in decimal notation.
    pub const OF_DECIMALS: [Self; 5] = [
        Self::Missing,
        Self::Malformed,
        Self::Negative,
        Self::Fraction,
        Self::TooLarge,
    ];

    /// What may be wrong with one in a body.
    pub const OF_BODIES: [Self; 10] = [
        Self::Missing,
        Self::Malformed,
        Self::Negative,
        Self::Fraction,
        Self::TooLarge,
        Self::ContentType,
        Self::Compressed,
        Self::Oversized,
        Self::Truncated,
        Self::NotJson,
    ];
}

impl Value {
    /// Why there may be none.
    pub fn skips(&self) -> &'static [Skip] {
        match self {
            Self::Known(_) => &[],
            Self::Header(..) | Self::ResponseHeader(..) => &Skip::OF_DECIMALS,
            Self::RequestBody(..) | Self::ResponseBody(..) => &Skip::OF_BODIES,
        }
    }
}

impl Decimal {
    /// What a number is, as it is written.
    pub fn of(self, written: &str) -> Result<u64, Skip> {
        let whole = scaled(written, self.scale).map_err(|error| match error {
            NotWhole::NoNumber => Skip::Malformed,
            NotWhole::Fraction => Skip::Fraction,
            // Of which sign is no matter to what was said first.
            NotWhole::TooLarge if written.starts_with('-') => Skip::Negative,
            NotWhole::TooLarge => Skip::TooLarge,
        })?;
        match u64::try_from(whole) {
            Err(_) => Err(Skip::Negative),
            Ok(value) if value > self.max => Err(Skip::TooLarge),
            Ok(value) => Ok(value),
        }
    }

    /// The same of a header.
    pub fn of_header(self, value: Copies<'_>) -> Result<u64, Skip> {
        match value {
            Copies::Absent | Copies::One(b"") => Err(Skip::Missing),
            Copies::Several => Err(Skip::Malformed),
            Copies::One(value) => {
                let text = std::str::from_utf8(value).map_err(|_| Skip::Malformed)?;
                self.of(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENTS: Decimal = Decimal {
        scale: 100,
        max: 1_000_000,
    };

    #[test]
    fn money_is_counted_to_the_cent_or_not_at_all() {
        for (written, expected) in [
            ("19.99", Ok(1_999)),
            ("0", Ok(0)),
            ("-0.00", Ok(0)),
            ("1e2", Ok(10_000)),
            ("10000", Ok(1_000_000)),
            ("10000.01", Err(Skip::TooLarge)),
            ("1e400", Err(Skip::TooLarge)),
            ("-1e400", Err(Skip::Negative)),
            ("-0.01", Err(Skip::Negative)),
            ("19.999", Err(Skip::Fraction)),
            ("NaN", Err(Skip::Malformed)),
            ("Infinity", Err(Skip::Malformed)),
            ("1,50", Err(Skip::Malformed)),
            ("007", Err(Skip::Malformed)),
            (" 1", Err(Skip::Malformed)),
        ] {
            assert_eq!(CENTS.of(written), expected, "{written}");
        }
    }

    #[test]
    fn a_header_says_one_number() {
        for (value, expected) in [
            (Copies::Absent, Err(Skip::Missing)),
            (Copies::One(b""), Err(Skip::Missing)),
            (Copies::Several, Err(Skip::Malformed)),
            (Copies::One(b"1\xff"), Err(Skip::Malformed)),
            (Copies::One(b"1.5"), Ok(150)),
        ] {
            assert_eq!(CENTS.of_header(value), expected, "{value:?}");
        }
    }
}
