//! The proxy that a replayed request comes to: what the limiter may ask of it, with a clock that shows the time of the log.
//!
//! As [`tollgate_host::memory::MemoryHost`] it is a [`Host`] and so all that a filter knows of Envoy; unlike that it counts and copies nothing, for
//! a replay makes millions of calls. That both lead to the same decisions is tested.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_common::refusal;
use tollgate_host::{
    Body, Callback, Expected, HeaderMap, Host, HostError, LocalResponse, Map, MetricId, MetricKind,
    SharedValue,
};

use super::log::Part;
use super::time::MILLISECOND;
use super::token::Token;

/// What all workers of a proxy have in common.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    values: RefCell<HashMap<Vec<u8>, SharedValue>>,
    // One sequence over all keys, as in Envoy.
    version: Cell<u32>,
    random: Cell<u64>,
    /// When the first request came: the monotonic clock counts from an hour before.
    origin: u64,
    now: Cell<u64>,
}

impl Shared {
    /// A proxy whose first request comes at this moment.
    pub(crate) fn new(origin: u64) -> Self {
        Self {
            origin,
            now: Cell::new(origin),
            ..Self::default()
        }
    }

    /// Sets both clocks.
    pub(crate) fn set_time(&self, moment: u64) {
        self.now.set(moment);
    }
}

/// One worker of a proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Rc<Shared>,
    vm: u64,
    /// Of the current request: its headers, until the filter reads them, and what is vouched for.
    headers: RefCell<HeaderMap>,
    token: Token,
    peer: Option<Vec<u8>>,
    metrics: Vec<String>,
    /// How often the filter asked to be called, in nanoseconds; `None` for never.
    pub tick: Option<u64>,
    /// What the filter did with it: the property of a refusal, and its answer's status.
    refusal: Noted,
    /// Likewise, of a request that passes and that a limit in shadow would have refused.
    shadowed: Noted,
    pub answered: Option<u32>,
}

/// A property that the filter may set on a request.
#[derive(Debug, Default)]
struct Noted {
    is_there: bool,
    value: Vec<u8>,
}

impl Noted {
    fn set(&mut self, value: &[u8]) {
        self.is_there = true;
        self.value.clear();
        self.value.extend_from_slice(value);
    }

    fn get(&self) -> Option<&[u8]> {
        self.is_there.then_some(&self.value)
    }
}

/// Each is a VM of its own, also beside those of a `MemoryHost` in the same test.
static VMS: AtomicU64 = AtomicU64::new(1 << 32);

const HOUR: u64 = 3_600_000_000_000;

impl Proxy {
    /// `names` are the paths of claims, by their numbers in the log.
    pub(crate) fn new(shared: Rc<Shared>, names: &[Vec<String>]) -> Self {
        Self {
            shared,
            vm: VMS.fetch_add(1, Ordering::Relaxed),
            headers: RefCell::default(),
            token: Token::new(names),
            peer: None,
            metrics: Vec::new(),
            tick: None,
            refusal: Noted::default(),
            shadowed: Noted::default(),
            answered: None,
        }
    }

    /// The property that the filter has set on a request that it refused.
    pub(crate) fn refusal(&self) -> Option<&[u8]> {
        self.refusal.get()
    }

    /// The one that it has set on a request that passes and that a limit in shadow would have refused.
    pub(crate) fn shadowed(&self) -> Option<&[u8]> {
        self.shadowed.get()
    }

    /// Brings the next request.
    pub(crate) fn begin<'a>(&mut self, parts: impl Iterator<Item = Part<'a>>) {
        self.token.clear();
        self.peer = None;
        self.refusal.is_there = false;
        self.shadowed.is_there = false;
        self.answered = None;
        const DEFAULTS: [Pair<'static>; 3] = [
            (b":method", b"GET"),
            (b":path", b"/"),
            (b":scheme", b"http"),
        ];
        let mut pairs: [Pair<'_>; DEFAULTS.len() + MOST] = [(b"", b""); _];
        let mut end = DEFAULTS.len();
        let mut overflow: Vec<Pair<'_>> = Vec::new();
        for part in parts {
            match part {
                Part::Header(name, value) if end < pairs.len() => {
                    pairs[end] = (name, value);
                    end += 1;
                }
                Part::Header(name, value) => overflow.push((name, value)),
                Part::Claim(number, value) => self.token.say(number, value),
                Part::Peer(identity) => self.peer = Some(identity.to_vec()),
            }
        }
        // No request is without these, whatever its log leaves out.
        let mut begin = DEFAULTS.len();
        for (name, value) in DEFAULTS.into_iter().rev() {
            let has = |(other, _): &Pair<'_>| *other == name;
            if !pairs[DEFAULTS.len()..end].iter().any(has) && !overflow.iter().any(has) {
                begin -= 1;
                pairs[begin] = (name, value);
            }
        }
        let headers = match overflow.as_slice() {
            [] => HeaderMap::from_pairs(&pairs[begin..end]),
            more => HeaderMap::from_pairs(&[&pairs[begin..end], more].concat()),
        };
        self.headers = RefCell::new(headers);
    }
}

/// A header.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// How many headers find room without an allocation: as many as logs mostly have of a request.
const MOST: usize = 13;

/// As Envoy answers where it has nothing.
const NOT_FOUND: HostError = HostError::Status(1);

impl Host for Proxy {
    fn headers(&self, map: Map) -> Result<HeaderMap, HostError> {
        Ok(match map {
            Map::RequestHeaders => self.headers.take(),
            Map::RequestTrailers | Map::ResponseHeaders | Map::ResponseTrailers => {
                HeaderMap::default()
            }
        })
    }

    fn header(&self, _: Map, _: &str) -> Result<Option<Vec<u8>>, HostError> {
        // Filters read all headers at once; a log has none of the response's.
        Err(NOT_FOUND)
    }

    fn set_header(&mut self, _: Map, _: &str, _: &[u8]) -> Result<(), HostError> {
        Ok(())
    }

    fn add_header(&mut self, _: Map, _: &str, _: &[u8]) -> Result<(), HostError> {
        Ok(())
    }

    fn remove_header(&mut self, _: Map, _: &[u8]) -> Result<(), HostError> {
        Ok(())
    }

    fn body(&self, _: Body) -> Result<Vec<u8>, HostError> {
        // No log has bodies.
        Err(NOT_FOUND)
    }

    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
        let is = |wanted: &str| {
            path.iter()
                .flat_map(|part| part.split('\0'))
                .eq(wanted.split('\0'))
        };
        match &self.peer {
            Some(_) if is("connection\0mtls") => Ok(Some(vec![1])),
            Some(peer) if is("connection\0uri_san_peer_certificate") => Ok(Some(peer.clone())),
            _ => self.token.property(path),
        }
    }

    fn set_property(&mut self, name: &str, value: &[u8]) -> Result<(), HostError> {
        match name {
            refusal::PROPERTY => self.refusal.set(value),
            refusal::SHADOWED => self.shadowed.set(value),
            _ => {}
        }
        Ok(())
    }

    fn respond(&mut self, response: &LocalResponse<'_>) -> Result<(), HostError> {
        self.answered = Some(response.status);
        Ok(())
    }

    fn shows_answers(&self) -> bool {
        false
    }

    fn shared(&self, key: &[u8]) -> Result<Option<SharedValue>, HostError> {
        Ok(self.shared.values.borrow().get(key).cloned())
    }

    fn set_shared(
        &mut self,
        key: &[u8],
        value: &[u8],
        expected: Expected,
    ) -> Result<bool, HostError> {
        let mut values = self.shared.values.borrow_mut();
        let version = self.shared.version.get() + 1;
        match (values.get_mut(key), expected) {
            (Some(_), Expected::Absent) => return Ok(false),
            (Some(current), Expected::Version(read)) if current.version != read => {
                return Ok(false);
            }
            (Some(current), Expected::Version(_)) => {
                current.bytes.clear();
                current.bytes.extend_from_slice(value);
                current.version = version;
            }
            (None, _) => {
                let bytes = value.to_vec();
                values.insert(key.to_vec(), SharedValue { bytes, version });
            }
        }
        self.shared.version.set(version);
        Ok(true)
    }

    fn has_callback(&self, _: Callback) -> bool {
        true
    }

    fn set_tick_period(&mut self, milliseconds: u32) -> Result<(), HostError> {
        self.tick = (milliseconds > 0).then(|| u64::from(milliseconds) * MILLISECOND);
        Ok(())
    }

    fn now(&self) -> u64 {
        self.shared.now.get()
    }

    fn monotonic(&self) -> u64 {
        self.shared.now.get() - self.shared.origin + HOUR
    }

    fn vm(&self) -> u64 {
        self.vm
    }

    fn random(&self) -> u64 {
        // A sequence that is the same in each replay, so that two of them can be compared.
        let state = self.shared.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.shared.random.set(state);
        let mixed = (state ^ (state >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        mixed ^ (mixed >> 32)
    }

    fn metric(&mut self, _: MetricKind, name: &str) -> Result<MetricId, HostError> {
        let at = self.metrics.iter().position(|known| known == name);
        let at = at.unwrap_or_else(|| {
            self.metrics.push(name.to_owned());
            self.metrics.len() - 1
        });
        Ok(MetricId(at as u32))
    }

    fn increment(&mut self, _: MetricId, _: i64) -> Result<(), HostError> {
        Ok(())
    }

    fn record(&mut self, _: MetricId, _: u64) -> Result<(), HostError> {
        Ok(())
    }
}
