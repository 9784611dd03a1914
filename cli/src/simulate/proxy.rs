//! The proxy that a replayed request comes to: what the limiter may ask of it, with a clock that shows the time of the log.
//!
//! As [`tollgate_host::memory::MemoryHost`] it is a [`Host`] and so all that a filter knows of Envoy; unlike that it counts and copies nothing, for
//! a replay makes millions of calls. That both lead to the same decisions is tested.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map as Object, Value};
use tollgate_common::refusal;
use tollgate_host::memory::claims;
use tollgate_host::{
    Body, Callback, Expected, HeaderMap, Host, HostError, LocalResponse, Map, MetricId, MetricKind,
    SharedValue,
};

use super::log::Part;
use super::time::MILLISECOND;

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
    claims: Option<Value>,
    peer: Option<Vec<u8>>,
    metrics: Vec<String>,
    /// How often the filter asked to be called, in nanoseconds; `None` for never.
    pub tick: Option<u64>,
    /// What the filter did with it: the property of a refusal, and its answer's status.
    pub refusal: Option<Vec<u8>>,
    /// Likewise, of a request that passes and that a limit in shadow would have refused.
    pub shadowed: Option<Vec<u8>>,
    pub answered: Option<u32>,
}

/// Each is a VM of its own, also beside those of a `MemoryHost` in the same test.
static VMS: AtomicU64 = AtomicU64::new(1 << 32);

const HOUR: u64 = 3_600_000_000_000;

impl Proxy {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self {
            shared,
            vm: VMS.fetch_add(1, Ordering::Relaxed),
            headers: RefCell::default(),
            claims: None,
            peer: None,
            metrics: Vec::new(),
            tick: None,
            refusal: None,
            shadowed: None,
            answered: None,
        }
    }

    /// Brings the next request. `names` are the paths of claims, by their numbers.
    pub(crate) fn begin<'a>(
        &mut self,
        parts: impl Iterator<Item = Part<'a>>,
        names: &[Vec<String>],
    ) {
        self.claims = None;
        self.peer = None;
        self.refusal = None;
        self.shadowed = None;
        self.answered = None;
        const DEFAULTS: [(&[u8], &[u8]); 3] = [
            (b":method", b"GET"),
            (b":path", b"/"),
            (b":scheme", b"http"),
        ];
        let mut pairs: [(&[u8], &[u8]); MOST] = [(b"", b""); MOST];
        let mut count = 0;
        let mut claims = Object::new();
        let mut overflow: Vec<(&[u8], &[u8])> = Vec::new();
        for part in parts {
            match part {
                Part::Header(name, value) if count < MOST => {
                    pairs[count] = (name, value);
                    count += 1;
                }
                Part::Header(name, value) => overflow.push((name, value)),
                Part::Claim(number, value) => {
                    if let Some(path) = names.get(number) {
                        set(&mut claims, path, String::from_utf8_lossy(value).into());
                    }
                }
                Part::Peer(identity) => self.peer = Some(identity.to_vec()),
            }
        }
        // No request is without these, whatever its log leaves out.
        let mut all: Vec<(&[u8], &[u8])> = Vec::with_capacity(count + overflow.len() + 3);
        for (name, value) in DEFAULTS {
            if !pairs[..count].iter().any(|(other, _)| *other == name) {
                all.push((name, value));
            }
        }
        all.extend_from_slice(&pairs[..count]);
        all.extend(overflow);
        self.headers = RefCell::new(HeaderMap::from_pairs(&all));
        if !claims.is_empty() {
            self.claims = Some(Value::Object(claims));
        }
    }
}

/// How many headers find room without an allocation: more than any log has of a request.
const MOST: usize = 24;

/// Sets a claim in the objects around it.
fn set(claims: &mut Object<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            claims.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let within = claims
                .entry(name.clone())
                .or_insert_with(|| Value::Object(Object::new()));
            if let Value::Object(within) = within {
                set(within, rest, value);
            }
        }
    }
}

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
        // Most replays have neither.
        if self.peer.is_none() && self.claims.is_none() {
            return Ok(None);
        }
        let path: Vec<&str> = path.iter().flat_map(|part| part.split('\0')).collect();
        match (path.as_slice(), &self.peer, &self.claims) {
            (["connection", "mtls"], peer, _) => Ok(peer.as_ref().map(|_| vec![1])),
            (["connection", "uri_san_peer_certificate"], peer, _) => Ok(peer.clone()),
            (path, _, Some(payload)) => claims::property(payload, path),
            _ => Ok(None),
        }
    }

    fn set_property(&mut self, name: &str, value: &[u8]) -> Result<(), HostError> {
        match name {
            refusal::PROPERTY => self.refusal = Some(value.to_vec()),
            refusal::SHADOWED => self.shadowed = Some(value.to_vec()),
            _ => {}
        }
        Ok(())
    }

    fn respond(&mut self, response: &LocalResponse<'_>) -> Result<(), HostError> {
        self.answered = Some(response.status);
        Ok(())
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
