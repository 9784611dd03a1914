//! What becomes of a request between its admission and the end of its response, if a limit that it met is settled by that: what the response says is looked for, and what was found is
//! charged or given back.
//!
//! | The response | counts for |
//! |---|---|
//! | says what it was | that, at most `max` |
//! | is whole and has no body in which it could say it | the estimate; but `max`, unless `unsettled: estimate`, if the client chose that, by `HEAD` or by asking only for what has changed (304): the work may have been done all the same |
//! | is an error from its first line (a status of 400 or more, or an error of gRPC in the headers), and does not say it | the estimate: whoever refuses or fails has mostly done nothing, and an outage must not use up quotas |
//! | is an error in its trailers, or one of a time that was up, and does not say it | `max`, unless `unsettled: estimate`: it may have been delivered almost whole, and a client that sends a deadline (`grpc-timeout`) chooses when that happens |
//! | does not say it, or not so that it can be read | the same |
//! | did not come to its end, or did not come | the same: a client chooses when to hang up, and must not choose by that what it pays. Of events what the last one said; of bytes those that came |
//!
//! Nothing that a client sends is looked at. If the VM dies, what was in flight in it stays at the estimate.
//!
//! # Bodies
//!
//! They are read as they pass, and not held back. What is looked for is a few numbers ([`tollgate_common::body`]), so that takes some hundred bytes however large the body is; after [`MOST`] bytes it is
//! given up. A body that is compressed cannot be read. So the service is not told that the client would take such a one: `accept-encoding` is taken out of requests
//! that are to be settled by a body, if the limit is enforced.

use tollgate_common::body::{
    Duplicates, Media, NotWhole, Pointer, Pointers, Reader, Scanner, Value, is_plain, scaled,
};
use tollgate_host::{Chunk, Copies, HeaderMap, Host, Map};

use crate::filter::Shared;
use crate::ledger::Limits;
use crate::limit::Standing;
use crate::limiter::{Tenant, number};
use crate::meters::Trouble;
use crate::rules::Rules;
use crate::settle::{Outcome, Owed, Receipt, Settled, Source};

/// How many bytes of a body are read.
pub(crate) const MOST: u64 = 64 << 20;

/// One request that is to be settled.
#[derive(Debug)]
pub(crate) struct Settling {
    /// Whose it is.
    tenant: Tenant,
    /// What routes did to the limits that it has met.
    rules: Rules,
    /// What was charged and is not settled yet.
    receipts: Vec<Receipt>,
    /// Whether the response tells of an error.
    went: Went,
    /// Whether the client has asked for a response without a body, and got one.
    bodiless: bool,
    body: Body,
}

/// What a body has said.
#[derive(Debug, Default)]
struct Body {
    /// How many bytes of it there were.
    bytes: u64,
    reader: Option<Reader>,
    /// Whether it is a stream of events, of which each may say it anew.
    events: bool,
}

/// What a response tells of how it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Went {
    /// No error so far.
    #[default]
    Well,
    /// It is an error from its first line, so little has been done.
    Refused,
    /// It is an error after it has begun, or of a time that was up. What has been done nobody knows, and a client can choose that: by its deadline.
    Failed,
}

impl Went {
    /// By the headers of a response. A gRPC call may end with them.
    fn of(headers: &HeaderMap, host: &dyn Host) -> Self {
        let status = headers.first(":status").and_then(number);
        let grpc = grpc_error(headers);
        match (status, grpc) {
            // A timeout, a client that closed its request (as gateways of gRPC say `CANCELLED` in HTTP), a timeout behind a proxy.
            (Some(408 | 499 | 504), _) | (_, Some(CANCELLED | DEADLINE_EXCEEDED)) => Self::Failed,
            // What the proxy answers when a call's time is up is told from other failures by nothing else.
            (_, Some(UNAVAILABLE)) if timed_out(host) => Self::Failed,
            (_, Some(_)) => Self::Refused,
            (Some(400..), None) => Self::Refused,
            _ => Self::Well,
        }
    }

    /// With its trailers, too.
    fn and_trailers(&mut self, trailers: &HeaderMap) {
        if *self == Self::Well && grpc_error(trailers).is_some() {
            *self = Self::Failed;
        }
    }
}

/// Codes of gRPC.
const CANCELLED: u64 = 1;
const DEADLINE_EXCEEDED: u64 = 4;
const UNAVAILABLE: u64 = 14;

/// What is known of what a request counts for in a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing yet.
    NotYet,
    /// What it is.
    Units(u64),
    /// Nothing, and that is all that will be.
    Not(Trouble),
}

/// How far a response has come.
#[derive(Clone, Copy, Debug)]
enum Moment<'a> {
    /// Its headers are here.
    Headers(&'a HeaderMap),
    /// A piece of its body is read.
    Piece,
    /// It is at its end, with these trailers.
    End(&'a HeaderMap),
    /// The request is gone.
    Gone,
}

impl Settling {
    /// A request that was charged so, if there is anything to be settled.
    pub(crate) fn of(
        tenant: Tenant,
        rules: Rules,
        receipts: Vec<Receipt>,
        headers: &HeaderMap,
    ) -> Option<Box<Self>> {
        (!receipts.is_empty()).then(|| {
            Box::new(Self {
                tenant,
                rules,
                receipts,
                went: Went::default(),
                bodiless: headers.first(":method") == Some(b"HEAD"),
                body: Body::default(),
            })
        })
    }

    /// Whether something that a limit is enforced by is in the response's body, so that it must not be compressed. For a limit in shadow nothing is changed: it says
    /// `unreadable` then.
    pub(crate) fn needs_plain_body(&self, shared: &Shared) -> bool {
        let mut sources = self.sources(shared);
        sources.any(|(source, owed)| matches!(source, Source::Json(_)) && !owed.in_shadow())
    }

    /// Whether anything of it is in the response's body.
    fn reads_body(&self, shared: &Shared) -> bool {
        self.has(shared, |source| matches!(source, Source::Json(_)))
    }

    fn has(&self, shared: &Shared, wanted: impl Fn(&Source) -> bool) -> bool {
        self.sources(shared).any(|(source, _)| wanted(source))
    }

    /// Where the response tells what is open.
    fn sources<'a>(&'a self, shared: &'a Shared) -> impl Iterator<Item = (&'a Source, &'a Owed)> {
        let limits = shared.met(&self.tenant, self.rules);
        let open = self.receipts.iter().flat_map(|receipt| &receipt.owed);
        open.filter_map(move |owed| {
            let (limits, _) = limits.as_ref()?;
            let settled = limits.get(owed.limit)?.settled.as_ref()?;
            Some((&settled.source, owed))
        })
    }

    /// Which of the configuration's pointers are open, a bit each.
    fn asked(&self, shared: &Shared) -> u8 {
        let pointers = shared.pointers();
        let open = self.sources(shared).filter_map(|(source, _)| match source {
            Source::Json(pointer) => pointers.iter().position(|other| other == pointer),
            _ => None,
        });
        open.fold(0, |bits, index| bits | 1 << index)
    }

    /// The response has begun. How the tenant now stands with limits that could be settled, by their indices among all that the request met.
    pub(crate) fn on_headers(
        &mut self,
        shared: &Shared,
        host: &mut dyn Host,
    ) -> Vec<(usize, Standing)> {
        let headers = read(Map::ResponseHeaders, host);
        self.went = Went::of(&headers, host);
        self.bodiless |= headers.first(":status").and_then(number) == Some(304);
        if self.reads_body(shared) && is_plain(headers.first("content-encoding")) {
            let media = headers.first("content-type").and_then(Media::of);
            self.body.events = media == Some(Media::Events);
            self.body.reader = media.map(|media| {
                // Services are trusted, so what comes after the number does not matter.
                let scanner = Scanner::new(shared.pointers(), Duplicates::First);
                // Other tiers and routes may look for others.
                Reader::with(media, scanner.only(self.asked(shared)), MOST)
            });
        }
        self.settle(shared, host, Moment::Headers(&headers))
    }

    /// A piece of the body has come.
    pub(crate) fn on_body(&mut self, chunk: &Chunk, shared: &Shared, host: &mut dyn Host) {
        self.body.bytes = self.body.bytes.saturating_add(chunk.size() as u64);
        let mut news = false;
        if let Some(reader) = &mut self.body.reader
            && reader.wants(chunk.size())
        {
            match chunk.bytes(host) {
                Ok(bytes) => {
                    let known = reader.known();
                    reader.feed(bytes);
                    news = reader.known() != known || reader.done();
                }
                Err(error) => {
                    log::debug!("the proxy does not show a piece of a response: {error:?}");
                    // With a gap in it, it says something else.
                    self.body.reader = None;
                }
            }
        }
        if chunk.is_last() {
            self.on_end(false, shared, host);
        } else if news {
            self.settle(shared, host, Moment::Piece);
        }
    }

    /// The response is at its end, and has trailers or has none.
    pub(crate) fn on_end(&mut self, trailers: bool, shared: &Shared, host: &mut dyn Host) {
        let trailers =
            match trailers && self.has(shared, |source| matches!(source, Source::Trailer(_))) {
                true => read(Map::ResponseTrailers, host),
                false => HeaderMap::default(),
            };
        self.went.and_trailers(&trailers);
        self.settle(shared, host, Moment::End(&trailers));
    }

    /// The request is gone. What is not known by now never will be.
    pub(crate) fn on_gone(&mut self, shared: &Shared, host: &mut dyn Host) {
        self.settle(shared, host, Moment::Gone);
    }

    /// Settles what is known.
    fn settle(
        &mut self,
        shared: &Shared,
        host: &mut dyn Host,
        moment: Moment<'_>,
    ) -> Vec<(usize, Standing)> {
        let Self {
            tenant,
            rules,
            receipts,
            went,
            bodiless,
            body,
        } = self;
        let Some((limits, whose)) = shared.met(tenant, *rules) else {
            return Vec::new();
        };
        let pointers = shared.pointers();
        let mut told = Vec::new();
        for receipt in receipts.iter_mut() {
            let mut troubles = Vec::new();
            let bills = receipt.due(|owed| {
                let settled = limits.get(owed.limit)?.settled.as_ref()?;
                let found = body.find(settled, &pointers, moment);
                let (units, trouble) = settled.units(found, *went, *bodiless)?;
                troubles.extend(trouble.map(|trouble| (owed.limit, trouble)));
                Some(units)
            });
            if bills.is_empty() {
                continue;
            }
            let indices = || bills.iter().map(|bill| bill.owed.limit);
            let mut charged = true;
            match shared.ledger.settle(receipt, &bills, host) {
                Ok(Outcome::Settled(standings)) => told.extend(indices().zip(standings)),
                Ok(Outcome::Unchanged) => {}
                Ok(Outcome::Dropped) => {
                    charged = false;
                    // Where less than the estimate was used nothing is lost.
                    let more = bills
                        .iter()
                        .filter(|bill| bill.actual > bill.owed.charged());
                    let more = more.map(|bill| bill.owed.limit);
                    troubles.extend(more.map(|limit| (limit, Trouble::Dropped)));
                }
                Err(failure) => {
                    charged = false;
                    log::debug!("cannot settle a request: {failure:?}");
                    troubles = indices()
                        .map(|limit| (limit, Trouble::Unavailable))
                        .collect();
                }
            }
            for bill in &bills {
                let units = match charged {
                    true => bill.actual,
                    false => bill.owed.charged(),
                };
                let index = bill.owed.limit;
                let limit = (name(limits, index), index, *rules);
                shared.meters.settled(whose, limit, units, host);
            }
            for (index, trouble) in troubles {
                let limit = (name(limits, index), index, *rules);
                shared.meters.unsettled(whose, limit, trouble, host);
            }
            shared.meters.effects(shared.ledger.take_effects(), host);
        }
        receipts.retain(|receipt| !receipt.owed.is_empty());
        if receipts.is_empty() {
            body.reader = None;
        }
        told
    }
}

fn name(limits: Limits<'_>, index: usize) -> &str {
    limits
        .get(index)
        .map_or("none", |limit| limit.name.as_str())
}

impl Body {
    fn find(&mut self, settled: &Settled, pointers: &Pointers, moment: Moment<'_>) -> Found {
        use Moment::{End, Gone, Headers, Piece};
        let scale = settled.scale;
        match (&settled.source, moment) {
            (Source::Header(name), Headers(headers)) => found(headers, name, scale),
            (Source::Trailer(name), End(trailers)) => found(trailers, name, scale),
            // A gRPC call that ends with its headers has there what would have been its trailers.
            (Source::Trailer(name), Headers(headers)) if headers.first("grpc-status").is_some() => {
                match found(headers, name, scale) {
                    Found::Not(Trouble::Absent) => Found::NotYet,
                    found => found,
                }
            }
            (Source::Json(_), End(_)) if self.bytes == 0 => Found::Not(Trouble::NoBody),
            (Source::Json(pointer), Piece) => self.json(pointer, pointers, scale, false),
            (Source::Json(pointer), End(_)) => self.json(pointer, pointers, scale, true),
            (Source::Json(pointer), Gone) if self.events => {
                match self.json(pointer, pointers, scale, true) {
                    Found::Units(units) => Found::Units(units),
                    _ => Found::Not(Trouble::Ended),
                }
            }
            (Source::Bytes, End(_) | Gone) => Found::Units(self.bytes),
            (_, Gone) => Found::Not(Trouble::Ended),
            (_, Headers(_) | Piece | End(_)) => Found::NotYet,
        }
    }

    /// What is at a pointer of the body, which is here as a `whole` or in part. What is decided counts, whatever else is looked for and does not come.
    fn json(&mut self, pointer: &Pointer, pointers: &Pointers, scale: u64, whole: bool) -> Found {
        let Some(reader) = &mut self.reader else {
            return Found::Not(Trouble::Unreadable);
        };
        let Some(index) = pointers.iter().position(|other| other == pointer) else {
            return Found::Not(Trouble::Absent);
        };
        if let Some(value) = reader.decided(index) {
            return number_of(value, scale);
        }
        if !whole && !reader.done() {
            return Found::NotYet;
        }
        match reader.finish().map(|values| values.get(index)) {
            Err(_) => Found::Not(Trouble::Unreadable),
            Ok(None) => Found::Not(Trouble::Absent),
            Ok(Some(value)) => number_of(value, scale),
        }
    }
}

impl Settled {
    /// What a request counts for of which that was found, and what is wrong with it; `None` if that is not known yet.
    fn units(&self, found: Found, went: Went, bodiless: bool) -> Option<(u64, Option<Trouble>)> {
        match (found, went) {
            (Found::NotYet, _) => None,
            (Found::Units(units), _) if units > self.max => {
                Some((self.max, Some(Trouble::OverMax)))
            }
            (Found::Units(units), _) => Some((units, None)),
            (Found::Not(_), Went::Refused) => Some((self.estimate, None)),
            (Found::Not(_), Went::Failed) => Some((self.fallback(), Some(Trouble::Failed))),
            // The service has chosen to say nothing, and no client made it.
            (Found::Not(Trouble::NoBody), Went::Well) if !bodiless => {
                Some((self.estimate, Some(Trouble::NoBody)))
            }
            (Found::Not(trouble), Went::Well) => Some((self.fallback(), Some(trouble))),
        }
    }
}

/// The number that a value of a body is.
fn number_of(value: &Value, scale: u64) -> Found {
    match value {
        Value::Absent | Value::Null => Found::Not(Trouble::Absent),
        Value::Number(number) => units(number, scale),
        _ => Found::Not(Trouble::Unreadable),
    }
}

fn read(map: Map, host: &dyn Host) -> HeaderMap {
    host.headers(map).unwrap_or_else(|error| {
        log::debug!("the proxy does not show a response's {map:?}: {error:?}");
        HeaderMap::default()
    })
}

/// With what code a gRPC call did not end well. What is no number is none of those that mean something here.
fn grpc_error(headers: &HeaderMap) -> Option<u64> {
    let status = headers.first("grpc-status")?;
    let code = number(status).unwrap_or(u64::MAX);
    (code != 0).then_some(code)
}

/// Whether the proxy has answered itself because the time of the upstream was up.
fn timed_out(host: &dyn Host) -> bool {
    /// `UT` in an access log.
    const UPSTREAM_REQUEST_TIMEOUT: u8 = 1 << 2;
    let flags = host.property(&["response", "flags"]).unwrap_or_default();
    let lowest = flags.and_then(|flags| flags.first().copied());
    lowest.is_some_and(|lowest| lowest & UPSTREAM_REQUEST_TIMEOUT != 0)
}

/// What a number says, once it is multiplied.
fn units(number: &str, scale: u64) -> Found {
    match scaled(number, scale) {
        Ok(units) => match u64::try_from(units) {
            Ok(units) => Found::Units(units),
            Err(_) => Found::Not(Trouble::Unreadable),
        },
        Err(NotWhole::TooLarge) if !number.starts_with('-') => Found::Units(u64::MAX),
        Err(_) => Found::Not(Trouble::Unreadable),
    }
}

/// What a header says.
fn found(headers: &HeaderMap, name: &str, scale: u64) -> Found {
    match headers.copies(name) {
        Copies::Absent => Found::Not(Trouble::Absent),
        Copies::One(value) => match (number(value), std::str::from_utf8(value)) {
            (Some(units), _) => Found::Units(units.saturating_mul(scale)),
            (None, Ok(text)) => units(text.trim_ascii(), scale),
            (None, Err(_)) => Found::Not(Trouble::Unreadable),
        },
        Copies::Several => Found::Not(Trouble::Unreadable),
    }
}
