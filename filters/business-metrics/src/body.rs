//! Numbers out of bodies.
//!
//! A body is read only if a metric that the request may belong to needs it, if its headers say that it is plain JSON of a size that
//! may be read, and as it passes: nothing is held back, and what is kept of it is the state of a scanner. So server-sent events, upgraded connections and
//! streams of gRPC are never looked into. Whatever else comes in the place of a number is a reason to skip the request.
//!
//! Of several members with one name the last counts, as for most parsers, in requests and in responses. Parsers differ: for some the first counts, and
//! Go's `encoding/json` takes `Total` for `total`. So what a request's body says is its client's word, which the service may read otherwise; a response's is
//! the service's own.

use std::rc::Rc;

use tollgate_common::body::{Duplicates, Media, Pointers, Reader, Unread, Value, is_plain};
use tollgate_host::{Chunk, Copies, HeaderMap, Host};

use crate::value::{Decimal, Skip};

/// What is read of one body.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing, and nobody asks.
    #[default]
    Unasked,
    /// Nothing, for this reason.
    Left(Skip),
    /// What has come of it, at least one byte.
    Reading(Box<Reader>),
    /// It may be read, and nothing has come yet.
    Empty(Box<Reader>),
}

/// What is asked of bodies.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where the numbers are.
    pub pointers: Rc<Pointers>,
    /// The size up to which a body is read.
    pub most: u64,
}

impl Body {
    /// The body that comes after these headers.
    pub fn after(headers: &HeaderMap, asked: &Asked) -> Self {
        let media = match headers.copies("content-type") {
            // A stream of messages, of which `+json` only says how each is written.
            Copies::One(content_type) if content_type.starts_with(b"application/grpc") => None,
            Copies::One(content_type) => Media::of(content_type),
            _ => None,
        };
        if media != Some(Media::Json) {
            return Self::Left(Skip::ContentType);
        }
        let plain = match headers.copies("content-encoding") {
            Copies::Absent => true,
            Copies::One(encoding) => is_plain(Some(encoding)),
            Copies::Several => false,
        };
        if !plain {
            return Self::Left(Skip::Compressed);
        }
        let length = headers
            .first("content-length")
            .and_then(|length| std::str::from_utf8(length).ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > asked.most) {
            return Self::Left(Skip::Oversized);
        }
        let pointers = Rc::clone(&asked.pointers);
        let reader = Reader::new(Media::Json, pointers, Duplicates::Last, asked.most);
        Self::Empty(Box::new(reader))
    }

    /// Reads a piece of it.
    pub fn read(&mut self, chunk: &Chunk, host: &dyn Host) {
        if chunk.size() == 0 {
            return;
        }
        *self = match std::mem::take(self) {
            Self::Empty(mut reader) | Self::Reading(mut reader) => {
                if !reader.wants(chunk.size()) {
                    Self::Reading(reader)
                } else {
                    match chunk.bytes(host) {
                        Ok(bytes) => {
                            reader.feed(bytes);
                            Self::Reading(reader)
                        }
                        Err(error) => {
                            log::debug!("the proxy does not show a body: {error:?}");
                            Self::Left(Skip::Truncated)
                        }
                    }
                }
            }
            left => left,
        };
    }

    /// The number at a pointer, by its position, now that the body is at its end.
    pub fn number(&mut self, pointer: usize, decimal: Decimal) -> Result<u64, Skip> {
        let values = match self {
            // A request that was answered before it got here, or a response that never came.
            Self::Unasked | Self::Empty(_) => return Err(Skip::Missing),
            Self::Left(skip) => return Err(*skip),
            Self::Reading(reader) => reader.finish().map_err(|unread| match unread {
                Unread::Malformed | Unread::TooDeep => Skip::NotJson,
                Unread::Truncated => Skip::Truncated,
                Unread::TooLong => Skip::Oversized,
            })?,
        };
        match values.get(pointer) {
            None | Some(Value::Absent | Value::Null) => Err(Skip::Missing),
            // Money is often text, because to some a number is a floating-point one.
            Some(Value::Number(written) | Value::Text(written)) => decimal.of(written),
            Some(Value::Bool(_) | Value::Container | Value::TooLong) => Err(Skip::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tollgate_common::body::Pointer;
    use tollgate_host::Body as Which;
    use tollgate_host::memory::{Call, MemoryHost};

    const CENTS: Decimal = Decimal {
        scale: 100,
        max: 1_000_000,
    };
    const JSON: (&str, &str) = ("content-type", "application/json");

    fn asked(most: u64) -> Asked {
        let pointers = ["/total", "/lines/0/price"].map(|text| Pointer::parse(text).unwrap());
        Asked {
            pointers: Rc::new(Pointers::new(pointers.to_vec()).unwrap()),
            most,
        }
    }

    /// What a body of these pieces says, and how often the proxy was asked for one.
    fn read(headers: &[(&str, &str)], pieces: &[&[u8]]) -> (Result<u64, Skip>, u64) {
        let mut host = MemoryHost::new();
        let mut body = Body::after(&HeaderMap::from_pairs(headers), &asked(64));
        for (index, piece) in pieces.iter().enumerate() {
            let chunk = host.chunk(Which::Response, piece, index + 1 == pieces.len());
            body.read(&chunk, &host);
        }
        (body.number(0, CENTS), host.calls(Call::Body))
    }

    #[test]
    fn a_number_is_exact_or_there_is_a_reason() {
        let long = format!("{{\"a\": \"{}\", \"total\": 1}}", "x".repeat(64));
        for (body, expected) in [
            (r#"{"total": 19.99}"#, Ok(1_999)),
            (r#"{"total": "19.99"}"#, Ok(1_999)),
            (r#"{"total": 1, "total": 2}"#, Ok(200)),
            (r#"{"total": 0}"#, Ok(0)),
            (r#"{"total": 19.999}"#, Err(Skip::Fraction)),
            (r#"{"total": -1}"#, Err(Skip::Negative)),
            (r#"{"total": 1e300}"#, Err(Skip::TooLarge)),
            (r#"{"total": NaN}"#, Err(Skip::NotJson)),
            (r#"{"total": "much"}"#, Err(Skip::Malformed)),
            (r#"{"total": true}"#, Err(Skip::Malformed)),
            (r#"{"total": [1]}"#, Err(Skip::Malformed)),
            (r#"{"total": null}"#, Err(Skip::Missing)),
            (r#"{"sum": 1}"#, Err(Skip::Missing)),
            (r#"[1]"#, Err(Skip::Missing)),
            ("", Err(Skip::Missing)),
            (r#"{"total": 1"#, Err(Skip::Truncated)),
            (r#"{"total": 1} {"#, Err(Skip::NotJson)),
            ("<total>1</total>", Err(Skip::NotJson)),
            (&long, Err(Skip::Oversized)),
        ] {
            assert_eq!(read(&[JSON], &[body.as_bytes()]).0, expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_plain_json_is_not_looked_at() {
        let body: &[&[u8]] = &[br#"{"total": 1}"#];
        let with = |more| [JSON, more];
        for (headers, expected) in [
            (&[][..], Err(Skip::ContentType)),
            (
                &[("content-type", "text/event-stream")],
                Err(Skip::ContentType),
            ),
            (
                &[("content-type", "application/grpc+json")],
                Err(Skip::ContentType),
            ),
            (&[JSON, JSON], Err(Skip::ContentType)),
            (&with(("content-encoding", "gzip")), Err(Skip::Compressed)),
            (&with(("content-length", "65")), Err(Skip::Oversized)),
        ] {
            assert_eq!(read(headers, body), (expected, 0), "{headers:?}");
        }
        for headers in [
            &[("content-type", "application/vnd.shop+json; charset=utf-8")][..],
            &with(("content-encoding", "identity")),
            &with(("content-length", "64")),
        ] {
            assert_eq!(read(headers, body), (Ok(100), 1), "{headers:?}");
        }
    }

    #[test]
    fn several_numbers_of_one_body() {
        let mut host = MemoryHost::new();
        let mut body = Body::after(&HeaderMap::from_pairs(&[JSON]), &asked(64));
        let chunk = host.chunk(
            Which::Request,
            br#"{"lines": [{"price": 0.5}], "total": 3}"#,
            true,
        );
        body.read(&chunk, &host);
        assert_eq!(body.number(0, CENTS), Ok(300));
        assert_eq!(body.number(1, CENTS), Ok(50));
        assert_eq!(body.number(2, CENTS), Err(Skip::Missing));
    }

    #[test]
    fn a_proxy_that_shows_no_body_has_cut_it_off() {
        let mut host = MemoryHost::new();
        let mut body = Body::after(&HeaderMap::from_pairs(&[JSON]), &asked(64));
        let chunk = host.chunk(Which::Request, b"{}", true);
        host.fail(Call::Body, tollgate_host::HostError::Status(2));
        body.read(&chunk, &host);
        assert_eq!(body.number(0, CENTS), Err(Skip::Truncated));
    }

    proptest! {
        /// However a body is cut, it says the same.
        #[test]
        fn pieces_are_one_body(cuts in proptest::collection::vec(0_usize..40, 0..6), end in 0_usize..50) {
            let whole = br#"{"lines": [{"price": 1}], "total": 7.25}"#;
            let whole = &whole[..end.min(whole.len())];
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect();
            let expected = match whole.len() {
                0 => Err(Skip::Missing),
                40 => Ok(725),
                _ => Err(Skip::Truncated),
            };
            prop_assert_eq!(read(&[JSON], &pieces).0, expected);
            let rest = &br#"{"lines": [{"price": 1}], "total": 7.25}"#[whole.len()..];
            let all: Vec<&[u8]> = pieces.into_iter().chain([rest]).collect();
            prop_assert_eq!(read(&[JSON], &all).0, Ok(725));
        }
    }
}
