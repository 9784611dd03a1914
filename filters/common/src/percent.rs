//! Percent-encoding (RFC 3986). What is not an encoded byte stays as it is, as most decoders have it.

/// A byte of a decoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Byte {
    /// As it stood there.
    Plain(u8),
    /// Written as `%` and two digits.
    Decoded(u8),
}

/// Decodes a text once.
pub(crate) fn decode(text: &[u8]) -> impl Iterator<Item = Byte> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            rest = after;
            return Some(Byte::Decoded(high << 4 | low));
        }
        rest = after;
        Some(Byte::Plain(*first))
    })
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
