//! Numbers out of bodies.
//!
//! A body is read only if a metric that the request may belong to needs it, if its headers say that it is plain JSON of a size that
//! may be read, and as it passes: nothing is held back, and what is kept of it is the state of a scanner. So server-sent events, upgraded connections and
//! streams of gRPC are never looked into, whatever they call themselves. Whatever else comes in the place of a number is a reason to skip the request.
//!
//! Why a body is not read is known from its headers, and whether there is one only when its first byte comes: a `GET`, the answer to a `HEAD`, a 304 have the headers
//! of a body and none.
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
pub struct Body {
    reading: Reading,
    /// Whether a byte of it has come.
    begun: bool,
    /// Whether its last byte has: what breaks off does not say so.
    ended: bool,
}

#[derive(Debug, Default)]
enum Reading {
    /// Nobody asks.
    #[default]
    Unasked,
    /// Not at all or no more, for this reason.
    Left(Skip),
    /// As far as it has come.
    By(Box<Reader>),
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
    /// The body of a request with these headers; `tunnel` says that it asks for a connection through the proxy.
    pub fn of_request(headers: &HeaderMap, tunnel: bool, asked: &Asked) -> Self {
        // The proxy takes this header away from every request that asks for no upgrade.
        if tunnel || headers.first("upgrade").is_some() {
            return Self::left(Skip::ContentType);
        }
        Self::after(headers, asked)
    }

    /// The body of a response with these headers and this status, to such a request.
    pub fn of_response(
        headers: &HeaderMap,
        status: Option<u16>,
        tunnel: bool,
        asked: &Asked,
    ) -> Self {
        match status {
            // What both sides have to say to each other from now on.
            Some(101) => Self::left(Skip::ContentType),
            Some(200..=299) if tunnel => Self::left(Skip::ContentType),
            _ => Self::after(headers, asked),
        }
    }

    fn left(skip: Skip) -> Self {
        Self {
            reading: Reading::Left(skip),
            ..Self::default()
        }
    }

    fn after(headers: &HeaderMap, asked: &Asked) -> Self {
        let media = match headers.copies("content-type") {
            // A stream of messages, of which `+json` only says how each is written.
            Copies::One(content_type) if is_grpc(content_type) => None,
            Copies::One(content_type) => Media::of(content_type),
            _ => None,
        };
        if media != Some(Media::Json) {
            return Self::left(Skip::ContentType);
        }
        let plain = match headers.copies("content-encoding") {
            Copies::Absent => true,
            Copies::One(encoding) => is_plain(Some(encoding)),
            Copies::Several => false,
        };
        if !plain {
            return Self::left(Skip::Compressed);
        }
        let length = headers
            .first("content-length")
            .and_then(|length| std::str::from_utf8(length).ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > asked.most) {
            return Self::left(Skip::Oversized);
        }
        let pointers = Rc::clone(&asked.pointers);
        let reader = Reader::new(Media::Json, pointers, Duplicates::Last, asked.most);
        Self {
            reading: Reading::By(Box::new(reader)),
            ..Self::default()
        }
    }

    /// Reads a piece of it.
    pub fn read(&mut self, chunk: &Chunk, host: &dyn Host) {
        self.ended |= chunk.is_last();
        if chunk.size() == 0 {
            return;
        }
        self.begun = true;
        if let Reading::By(reader) = &mut self.reading
            && reader.wants(chunk.size())
        {
            match chunk.bytes(host) {
                Ok(bytes) => reader.feed(bytes),
                Err(error) => {
                    log::debug!("the proxy does not show a body: {error:?}");
                    self.reading = Reading::Left(Skip::Truncated);
                }
            }
        }
    }

    /// The number at a pointer, by its position, now that nothing more comes.
    pub fn number(&mut self, pointer: usize, decimal: Decimal) -> Result<u64, Skip> {
        if !self.begun {
            return Err(Skip::Missing);
        }
        let values = match &mut self.reading {
            Reading::Unasked => return Err(Skip::Missing),
            Reading::Left(skip) => return Err(*skip),
            // Half of a number is another one.
            Reading::By(reader) if !self.ended && reader.may_go_on() => {
                return Err(Skip::Truncated);
            }
            Reading::By(reader) => reader.finish().map_err(|unread| match unread {
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

/// Whether a body of this type has the messages of a call of gRPC.
fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let begin = content_type.trim_ascii_start().get(..GRPC.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(GRPC))
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
        let body = Body::of_request(&HeaderMap::from_pairs(headers), false, &asked(64));
        of_pieces(body, pieces)
    }

    /// The same of a response with this status.
    fn read_response(
        status: u16,
        tunnel: bool,
        headers: &[(&str, &str)],
        pieces: &[&[u8]],
    ) -> (Result<u64, Skip>, u64) {
        let headers = HeaderMap::from_pairs(headers);
        let body = Body::of_response(&headers, Some(status), tunnel, &asked(64));
        of_pieces(body, pieces)
    }

    fn of_pieces(mut body: Body, pieces: &[&[u8]]) -> (Result<u64, Skip>, u64) {
        let mut host = MemoryHost::new();
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
            (
                &[("content-type", " Application/GRPC-web+json")],
                Err(Skip::ContentType),
            ),
            (&[JSON, JSON], Err(Skip::ContentType)),
            (&with(("upgrade", "websocket")), Err(Skip::ContentType)),
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
    fn a_connection_through_the_proxy_is_no_document() {
        let body: &[&[u8]] = &[br#"{"total": 1}"#];
        for (status, tunnel, expected) in [
            (101, false, (Err(Skip::ContentType), 0)),
            (200, true, (Err(Skip::ContentType), 0)),
            // There is none: this is the answer.
            (200, false, (Ok(100), 1)),
            (403, true, (Ok(100), 1)),
        ] {
            let read = read_response(status, tunnel, &[JSON], body);
            assert_eq!(read, expected, "{status}");
        }
        let headers = HeaderMap::from_pairs(&[JSON]);
        let connect = Body::of_request(&headers, true, &asked(64));
        assert_eq!(of_pieces(connect, body), (Err(Skip::ContentType), 0));
    }

    /// The answer to a `HEAD`, a 304, a `GET`: whatever their headers say of a body.
    #[test]
    fn what_has_no_body_has_no_number() {
        for headers in [
            &[][..],
            &[JSON],
            &[("content-type", "text/html")],
            &[JSON, ("content-length", "1000000")],
            &[JSON, ("content-encoding", "gzip")],
            &[("upgrade", "websocket")],
        ] {
            for pieces in [&[][..], &[b"".as_slice()]] {
                let nothing = (Err(Skip::Missing), 0);
                assert_eq!(read(headers, pieces), nothing, "{headers:?}");
                assert_eq!(read_response(304, false, headers, pieces), nothing);
            }
        }
    }

    /// 12 of 1250: what is broken off must not pass for a smaller number.
    #[test]
    fn a_number_by_itself_is_whole_when_the_body_is() {
        let pointers = Pointers::new(vec![Pointer::parse("").unwrap()]).unwrap();
        let asked = Asked {
            pointers: Rc::new(pointers),
            most: 64,
        };
        for (pieces, last, expected) in [
            (&["12"][..], true, Ok(1_200)),
            (&["12", ""], true, Ok(1_200)),
            (&["12"], false, Err(Skip::Truncated)),
            // This one shows its end.
            (&["12 "], false, Ok(1_200)),
            (&["\"12\""], false, Ok(1_200)),
            (&["-"], true, Err(Skip::Truncated)),
        ] {
            let mut host = MemoryHost::new();
            let mut body = Body::of_request(&HeaderMap::from_pairs(&[JSON]), false, &asked);
            for (index, piece) in pieces.iter().enumerate() {
                let last = last && index + 1 == pieces.len();
                let chunk = host.chunk(Which::Request, piece.as_bytes(), last);
                body.read(&chunk, &host);
            }
            // As often as metrics ask.
            for _ in 0..2 {
                assert_eq!(body.number(0, CENTS), expected, "{pieces:?} {last}");
            }
        }
    }

    #[test]
    fn several_numbers_of_one_body() {
        let mut host = MemoryHost::new();
        let mut body = Body::of_request(&HeaderMap::from_pairs(&[JSON]), false, &asked(64));
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
        let mut body = Body::of_request(&HeaderMap::from_pairs(&[JSON]), false, &asked(64));
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
