//! What a browser, or a proxy for testing, has saved: HAR 1.2, one JSON document with all requests and all their headers.

use std::borrow::Cow;

use serde::Deserialize;

use super::fields::{Draft, Fields, NOT_TIMED, of_url};
use super::record;
use super::{Not, Told};
use crate::simulate::time::Form;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    log: Log<'a>,
}

#[derive(Deserialize)]
struct Log<'a> {
    #[serde(borrow)]
    entries: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow, default)]
    started_date_time: Cow<'a, str>,
    #[serde(default)]
    time: f64,
    #[serde(borrow)]
    request: Request<'a>,
    #[serde(default)]
    response: Response,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow, default)]
    headers: Vec<Header<'a>>,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Response {
    #[serde(default)]
    status: i32,
}

/// Whether a text begins as such a document does.
pub(crate) fn is_har(text: &[u8]) -> bool {
    let mut words = text.trim_ascii_start();
    for word in [&b"{"[..], b"\"log\"", b":", b"{"] {
        match words.strip_prefix(word) {
            Some(rest) => words = rest.trim_ascii_start(),
            None => return false,
        }
    }
    true
}

/// What an entry says, and where its parts begin.
type Found = (Result<Told, Not>, usize);

/// Reads all requests: what each says, and where its parts begin in the arena.
pub(crate) fn read(
    text: &[u8],
    fields: &Fields,
    arena: &mut Vec<u8>,
) -> Result<Vec<Found>, String> {
    let document: Document<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let read = |entry: &Entry<'_>| {
        let begin = arena.len();
        let told = request(entry, fields, arena);
        if told.is_err() {
            arena.truncate(begin);
        } else {
            record::end(arena);
        }
        (told, begin)
    };
    Ok(document.log.entries.iter().map(read).collect())
}

fn request(entry: &Entry<'_>, fields: &Fields, arena: &mut Vec<u8>) -> Result<Told, Not> {
    let begin = entry.started_date_time.as_bytes();
    if begin.is_empty() {
        return Err(NOT_TIMED);
    }
    let Some(time) = Form::Rfc3339.read(begin) else {
        return Err(super::fields::wrong(begin, "is no moment"));
    };
    let url = entry.request.url.as_bytes();
    let Some((authority, path)) = of_url(url) else {
        // Browsers save what they found in extensions and in pages themselves too.
        return Err(Not::Request);
    };
    let mut draft = Draft::default();
    draft.header(b":method", entry.request.method.as_bytes(), arena);
    draft.header(b":path", path, arena);
    let headers = || entry.request.headers.iter();
    let host = headers().find(|header| header.name.eq_ignore_ascii_case("host"));
    let authority = host.map_or(authority, |host| host.value.as_bytes());
    draft.header(b":authority", authority, arena);
    for header in headers() {
        let name = header.name.to_ascii_lowercase();
        // A browser that speaks HTTP/2 saves parts of the request line among them.
        if !name.starts_with(':') && name != "host" && fields.wants(name.as_bytes()) {
            draft.header(name.as_bytes(), header.value.as_bytes(), arena);
        }
    }
    Ok(Told {
        time,
        duration: entry.time as u32,
        status: u16::try_from(entry.response.status).unwrap_or(0),
    })
}
