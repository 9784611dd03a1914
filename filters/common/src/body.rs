//! Values out of the bodies of requests and responses, read as they pass: nothing is held back, and memory does not grow with what passes.
//!
//! A filter that wants `/usage/total_tokens` of a response compiles that [`Pointer`] when it is configured, makes a [`Reader`] for a response of a
//! [`Media`] it can read, feeds it each chunk as it comes, however the proxy has cut them, and asks it at the end. A body in another
//! encoding than its own bytes ([`is_plain`]) is for the filter to leave alone: nothing here unpacks it.

mod decimal;
mod events;
mod pointer;
mod scan;

use std::rc::Rc;

use tollgate_host::{Callback, Host};

use crate::config::{ConfigError, refuse};

pub use decimal::{NotWhole, scaled};
pub use events::Events;
pub use pointer::{MAX_NAMES, MAX_POINTER, MAX_POINTERS, Pointer, Pointers};
pub use scan::{DEEPEST, Duplicates, LONGEST_VALUE, Scanner, Unread, Value};

/// Refuses a configuration of which a field (its path) reads bodies, in the one of a plugin's two modules that is not called for them.
pub fn require_callbacks(
    reader: Option<String>,
    plugin: &str,
    host: &dyn Host,
) -> Result<(), ConfigError> {
    match reader {
        Some(path) if !host.has_callback(Callback::ResponseBody) => refuse(
            path,
            format!(
                "reads bodies, and the module {plugin} sees none; name the module {plugin}-bodies in the plugin's url, e.g. \
                 oci://ghcr.io/tollgate/{plugin}-bodies:0.1.0"
            ),
        ),
        _ => Ok(()),
    }
}

/// What kind of body can be read, by its `content-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// One JSON document: `application/json`, and what ends in `+json`.
    Json,
    /// Server-sent events with a JSON document each: `text/event-stream`.
    Events,
}

impl Media {
    /// The kind of a body with this `content-type`; `None` for one that cannot be read.
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let end = content_type.iter().position(|byte| *byte == b';');
        let (essence, _) = content_type.split_at(end.unwrap_or(content_type.len()));
        let essence = essence.trim_ascii();
        let ends_in_json = || {
            let start = essence.len().checked_sub(b"+json".len())?;
            let suffix = essence.get(start..)?;
            suffix.eq_ignore_ascii_case(b"+json").then_some(())
        };
        if essence.eq_ignore_ascii_case(b"application/json") || ends_in_json().is_some() {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Some(Self::Events)
        } else {
            None
        }
    }
}

/// Whether a body with this `content-encoding` is what it says it is, and not compressed.
pub fn is_plain(content_encoding: Option<&[u8]>) -> bool {
    content_encoding.is_none_or(|encoding| {
        let encoding = encoding.trim_ascii();
        encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity")
    })
}

/// Reads one body.
#[derive(Debug)]
pub struct Reader {
    body: Body,
    /// How many more bytes may come.
    left: u64,
    too_long: bool,
}

#[derive(Debug)]
enum Body {
    Json(Box<Scanner>),
    Events(Box<Events>),
}

impl Reader {
    /// For a body of this kind, of which no more than `limit` bytes are read.
    pub fn new(media: Media, pointers: Rc<Pointers>, duplicates: Duplicates, limit: u64) -> Self {
        Self::with(media, Scanner::new(pointers, duplicates), limit)
    }

    /// For such a body, which this scanner reads, or if it is of events each of them.
    pub fn with(media: Media, scanner: Scanner, limit: u64) -> Self {
        Self {
            body: match media {
                Media::Json => Body::Json(Box::new(scanner)),
                Media::Events => Body::Events(Box::new(Events::new(scanner))),
            },
            left: limit,
            too_long: false,
        }
    }

    /// Whether the next chunk, of this size, is to be fetched and fed: a filter that asks saves the proxy a copy of what is not. A chunk with which the body gets
    /// too long is not, and ends the reading.
    pub fn wants(&mut self, size: usize) -> bool {
        if self.done() {
            return false;
        }
        match self.left.checked_sub(size as u64) {
            Some(_) => size > 0,
            None => {
                self.too_long = true;
                false
            }
        }
    }

    /// Reads a chunk.
    pub fn feed(&mut self, chunk: &[u8]) {
        if !self.wants(chunk.len()) {
            return;
        }
        self.left = self.left.saturating_sub(chunk.len() as u64);
        match &mut self.body {
            Body::Json(scanner) => scanner.feed(chunk),
            Body::Events(events) => events.feed(chunk),
        }
    }

    /// Whether what is still to come makes no difference.
    pub fn done(&self) -> bool {
        self.too_long
            || match &self.body {
                Body::Json(scanner) => scanner.done(),
                Body::Events(_) => false,
            }
    }

    /// Whether more could follow and make another value of what was read last, and nothing read so far says that it does not: a document that is a number and nothing else has no
    /// end of its own.
    pub fn may_go_on(&self) -> bool {
        !self.too_long
            && match &self.body {
                Body::Json(scanner) => scanner.may_go_on(),
                Body::Events(_) => false,
            }
    }

    /// How many pointers are decided, or not asked for.
    pub fn known(&self) -> usize {
        match &self.body {
            Body::Json(scanner) => scanner.known(),
            Body::Events(_) => 0,
        }
    }

    /// What is at the pointer of this index, if nothing that is still to come changes that.
    pub fn decided(&self, index: usize) -> Option<&Value> {
        match &self.body {
            Body::Json(scanner) => scanner.decided(index),
            Body::Events(_) => None,
        }
    }

    /// The body is at its end: what was at each pointer, in their order, or why nothing can be said.
    pub fn finish(&mut self) -> Result<&[Value], Unread> {
        if self.too_long {
            return Err(Unread::TooLong);
        }
        match &mut self.body {
            Body::Json(scanner) => scanner.finish(),
            Body::Events(events) => Ok(events.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_host::memory::MemoryHost;

    use super::*;

    fn pointers(written: &[&str]) -> Rc<Pointers> {
        let pointers = written.iter().map(|text| Pointer::parse(text).unwrap());
        Rc::new(Pointers::new(pointers.collect()).unwrap())
    }

    #[test]
    fn who_reads_bodies_needs_the_module_that_sees_them() {
        let mut host = MemoryHost::new();
        let reader = || Some("metrics[0].value".to_owned());
        let require = |reader, host: &MemoryHost| {
            let required = require_callbacks(reader, "business-metrics", host);
            required.map_err(|error| error.to_string())
        };
        assert_eq!(require(reader(), &host), Ok(()));
        host.missing_callbacks = vec![Callback::ResponseBody];
        assert_eq!(require(None, &host), Ok(()));
        assert_eq!(
            require(reader(), &host),
            Err("metrics[0].value: reads bodies, and the module business-metrics sees none; name the module business-metrics-bodies in the \
                 plugin's url, e.g. oci://ghcr.io/tollgate/business-metrics-bodies:0.1.0"
                .to_owned())
        );
    }

    #[test]
    fn a_body_is_known_by_its_type() {
        for (content_type, expected) in [
            ("application/json", Some(Media::Json)),
            ("Application/JSON; charset=utf-8", Some(Media::Json)),
            (" application/problem+json ;x=y", Some(Media::Json)),
            ("application/vnd.shop.order+JSON", Some(Media::Json)),
            ("text/event-stream;charset=utf-8", Some(Media::Events)),
            ("", None),
            ("json", None),
            ("application/jsonl", None),
            ("application/x-ndjson", None),
            ("text/plain; a=application/json", None),
            ("application/grpc+proto", None),
        ] {
            assert_eq!(
                Media::of(content_type.as_bytes()),
                expected,
                "{content_type}"
            );
        }
    }

    #[test]
    fn a_compressed_body_is_not_plain() {
        for plain in [None, Some("identity"), Some(" Identity "), Some("")] {
            assert!(is_plain(plain.map(str::as_bytes)), "{plain:?}");
        }
        for packed in ["gzip", "br", "identity, gzip"] {
            assert!(!is_plain(Some(packed.as_bytes())), "{packed}");
        }
    }

    #[test]
    fn a_body_beyond_its_limit_is_told_apart_and_not_fetched() {
        let document = b"{\"total\": 12}";
        let reader = |limit: u64| {
            let mut reader =
                Reader::new(Media::Json, pointers(&["/total"]), Duplicates::Last, limit);
            let (first, second) = document.split_at(5);
            reader.feed(first);
            let wanted = reader.wants(second.len());
            reader.feed(second);
            (
                wanted,
                reader.done(),
                reader.finish().map(<[Value]>::to_vec),
            )
        };
        let whole = document.len() as u64;
        let found = vec![Value::Number("12".into())];
        assert_eq!(reader(whole), (true, false, Ok(found)));
        assert_eq!(reader(whole - 1), (false, true, Err(Unread::TooLong)));
    }

    #[test]
    fn what_is_decided_is_fetched_no_more() {
        let mut reader = Reader::new(Media::Json, pointers(&["/total"]), Duplicates::First, 20);
        assert!(!reader.wants(0), "there is nothing to fetch");
        reader.feed(b"{\"total\": 12,");
        assert!(!reader.wants(1000));
        assert_eq!(reader.finish(), Ok([Value::Number("12".into())].as_slice()));
    }
}
