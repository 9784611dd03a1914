//! A proxy in memory, for native tests of filters: header maps that exist only in their phase, shared data with
//! compare-and-swap, a clock that the test moves, and a record of everything a filter did.

pub mod claims;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::body::Chunk;
use crate::callback::Callback;
use crate::headers::HeaderMap;
use crate::host::{
    Body, Expected, Host, HostError, LocalResponse, Map, MetricId, MetricKind, SharedValue,
};

/// The host calls, to count them and to make one fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the method of `Host` of the same name")]
pub enum Call {
    Headers,
    Header,
    SetHeader,
    AddHeader,
    RemoveHeader,
    Body,
    Property,
    SetProperty,
    Respond,
    Shared,
    SetShared,
    Now,
    Monotonic,
    Random,
    SetTickPeriod,
    Metric,
    Increment,
    Record,
}

/// Where the request is. As in Envoy, a header map can be written in its own phase only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// `on_request_headers`: request headers are readable and writable.
    Request,
    /// `on_request_body`, `on_response_body`: a piece of that body is readable, and no headers.
    Body(Body),
    /// `on_request_trailers`: request trailers are readable and writable.
    Trailers,
    /// `on_response_headers`: response headers are readable and writable.
    Response,
    /// `on_response_trailers`: response trailers are readable and writable.
    ResponseTrailers,
    /// `on_log`: all but the request's trailers is readable, and no body.
    Log,
}

/// A [`LocalResponse`] that a filter gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedResponse {
    /// HTTP status.
    pub status: u32,
    /// Response-code details.
    pub details: String,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// `grpc-status` for gRPC requests.
    pub grpc_status: Option<u32>,
}

impl RecordedResponse {
    /// The first value of a header as text; panics if it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        Some(std::str::from_utf8(value).expect("a header of ours is text"))
    }
}

#[derive(Debug, Default)]
struct Process {
    shared: HashMap<Vec<u8>, SharedValue>,
    // One sequence over all keys, as in Envoy.
    last_version: u32,
    metrics: BTreeMap<String, (MetricKind, i64, Vec<u64>)>,
}

#[derive(Debug)]
struct Clock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

type Hook = Box<dyn FnMut(&[u8]) + Send>;

/// One worker of a proxy. [`MemoryHost::worker`] makes further ones, which share the clock, the shared data and the metrics.
pub struct MemoryHost {
    /// The request's headers.
    pub request: HeaderMap,
    /// The request's trailers.
    pub trailers: HeaderMap,
    /// The response's headers.
    pub response: HeaderMap,
    /// The response's trailers.
    pub response_trailers: HeaderMap,
    /// Which callback runs; see [`Phase`].
    pub phase: Phase,
    /// What [`Host::respond`] was called with, oldest first.
    pub responses: Vec<RecordedResponse>,
    /// The piece of a body that passes.
    chunk: Vec<u8>,
    properties: BTreeMap<Vec<String>, Result<Vec<u8>, HostError>>,
    /// The payload of the token that the proxy has verified, if there is one.
    claims: Option<serde_json::Value>,
    process: Arc<Mutex<Process>>,
    clock: Arc<Clock>,
    random: Arc<AtomicU64>,
    metric_names: Vec<String>,
    failing: HashMap<Call, HostError>,
    calls: Mutex<BTreeMap<Call, u64>>,
    after_shared: Mutex<Option<Hook>>,
    vm: u64,
    /// The callbacks that the module was built without; none.
    pub missing_callbacks: Vec<Callback>,
    /// What [`Host::set_tick_period`] was last called with: a test makes the ticks.
    pub tick_period: Option<u32>,
}

/// Each worker of each proxy of a test is a VM of its own.
static VMS: AtomicU64 = AtomicU64::new(1);

impl Default for MemoryHost {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryHost {
    /// A proxy of one worker at 2026-01-01T00:00:00Z, in the request phase of a `GET /`.
    pub fn new() -> Self {
        let clock = Clock {
            wall: AtomicU64::new(1_767_225_600_000_000_000),
            monotonic: AtomicU64::new(3_600_000_000_000),
        };
        let mut host = Self::on(Arc::default(), Arc::new(clock), Arc::default());
        host.begin::<&str, &str>(&[]);
        host
    }

    fn on(process: Arc<Mutex<Process>>, clock: Arc<Clock>, random: Arc<AtomicU64>) -> Self {
        Self {
            request: HeaderMap::default(),
            trailers: HeaderMap::default(),
            response: HeaderMap::default(),
            response_trailers: HeaderMap::default(),
            phase: Phase::Request,
            responses: Vec::new(),
            chunk: Vec::new(),
            properties: BTreeMap::new(),
            claims: None,
            process,
            clock,
            random,
            metric_names: Vec::new(),
            failing: HashMap::new(),
            calls: Mutex::default(),
            after_shared: Mutex::default(),
            vm: VMS.fetch_add(1, Ordering::Relaxed),
            missing_callbacks: Vec::new(),
            tick_period: None,
        }
    }

    /// Another worker of the same proxy: its own requests and metric ids, the same clock, shared data and metrics.
    pub fn worker(&self) -> Self {
        let mut host = Self::on(
            self.process.clone(),
            self.clock.clone(),
            self.random.clone(),
        );
        host.begin::<&str, &str>(&[]);
        host
    }

    /// A new request with these headers after `:method` GET, `:path` `/`, `:authority` `shop` and `:scheme` `http`
    /// (a pseudo-header in `headers` takes the default's place). Forgets the last request's answer, attributes, claims, trailers and response, and the counts of calls.
    pub fn begin<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, headers: &[(N, V)]) {
        let defaults: [(&str, &str); 4] = [
            (":method", "GET"),
            (":path", "/"),
            (":authority", "shop"),
            (":scheme", "http"),
        ];
        let given = headers.iter().map(|(n, v)| (n.as_ref(), v.as_ref()));
        let kept = defaults.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        let kept = kept.filter(|(n, _)| !headers.iter().any(|(given, _)| given.as_ref() == *n));
        self.request = HeaderMap::from_pairs(&kept.chain(given).collect::<Vec<_>>());
        self.trailers = HeaderMap::default();
        self.response = HeaderMap::from_pairs(&[(":status", "200")]);
        self.response_trailers = HeaderMap::default();
        self.chunk.clear();
        self.phase = Phase::Request;
        self.responses.clear();
        self.properties.clear();
        self.claims = None;
        self.reset_calls();
    }

    /// Goes on to the trailers of the request.
    pub fn begin_trailers<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, trailers: &[(N, V)]) {
        self.trailers = HeaderMap::from_pairs(trailers);
        self.phase = Phase::Trailers;
    }

    /// Goes on to the response phase, with these headers from upstream after `:status`.
    pub fn begin_response<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        status: u16,
        headers: &[(N, V)],
    ) {
        let status = status.to_string();
        let given = headers.iter().map(|(n, v)| (n.as_ref(), v.as_ref()));
        let all: Vec<_> = std::iter::once((":status".as_bytes(), status.as_bytes()))
            .chain(given)
            .collect();
        self.response = HeaderMap::from_pairs(&all);
        self.phase = Phase::Response;
    }

    /// Goes on to a piece of a body, which a filter's `on_request_body` or `on_response_body` is then called with.
    pub fn chunk(&mut self, body: Body, bytes: &[u8], last: bool) -> Chunk {
        self.phase = Phase::Body(body);
        self.chunk = bytes.to_vec();
        Chunk::new(body, bytes.len(), last)
    }

    /// Goes on to the trailers of the response.
    pub fn begin_response_trailers<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, trailers: &[(N, V)]) {
        self.response_trailers = HeaderMap::from_pairs(trailers);
        self.phase = Phase::ResponseTrailers;
    }

    /// The time, in nanoseconds since 1970.
    pub fn time(&self) -> u64 {
        self.clock.wall.load(Ordering::SeqCst)
    }

    /// Sets the wall clock of all workers, back or forth. The monotonic clock stays as it is.
    pub fn set_time(&self, nanoseconds: u64) {
        self.clock.wall.store(nanoseconds, Ordering::SeqCst);
    }

    /// Lets time pass for all workers.
    pub fn advance(&self, nanoseconds: u64) {
        self.clock.wall.fetch_add(nanoseconds, Ordering::SeqCst);
        self.clock
            .monotonic
            .fetch_add(nanoseconds, Ordering::SeqCst);
    }

    /// Sets an attribute that the filter may read by path.
    pub fn set_attribute(&mut self, path: &[&str], value: &[u8]) {
        self.properties.insert(elements(path), Ok(value.to_vec()));
    }

    /// Makes the reading of one attribute fail.
    pub fn fail_attribute(&mut self, path: &[&str], error: HostError) {
        self.properties.insert(elements(path), Err(error));
    }

    /// Gives the request a token that the proxy has verified, with this payload (an object): its claims are then attributes as Envoy has them, in the
    /// metadata and each by itself. Attributes that are set by path come before them.
    pub fn set_claims(&mut self, payload: serde_json::Value) {
        self.claims = Some(payload);
    }

    /// The answer that a filter gave to the current request.
    pub fn answer(&self) -> Option<&RecordedResponse> {
        self.responses.last()
    }

    /// The value of a counter or gauge, process-wide; `None` if it was never defined.
    pub fn metric_value(&self, name: &str) -> Option<i64> {
        self.process().metrics.get(name).map(|(_, value, _)| *value)
    }

    /// What a histogram was given, process-wide, oldest first.
    pub fn recorded(&self, name: &str) -> Vec<u64> {
        self.process()
            .metrics
            .get(name)
            .map(|(_, _, recorded)| recorded.clone())
            .unwrap_or_default()
    }

    /// The names of all metrics, process-wide, in order.
    pub fn metric_names(&self) -> Vec<String> {
        self.process().metrics.keys().cloned().collect()
    }

    /// The keys of the shared data, in order.
    pub fn shared_keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> = self.process().shared.keys().cloned().collect();
        keys.sort();
        keys
    }

    /// The bytes that the shared data holds: keys and values.
    pub fn shared_bytes(&self) -> usize {
        let process = self.process();
        let sizes = process
            .shared
            .iter()
            .map(|(key, value)| key.len() + value.bytes.len());
        sizes.sum()
    }

    /// Writes a shared value whatever it was, as another module with the same keys would.
    pub fn overwrite_shared(&self, key: &[u8], bytes: &[u8]) {
        let mut process = self.process();
        process.last_version += 1;
        let version = process.last_version;
        process.shared.insert(
            key.to_vec(),
            SharedValue {
                bytes: bytes.to_vec(),
                version,
            },
        );
    }

    /// Makes every later call of this kind fail on this worker ([`Call::Now`], [`Call::Monotonic`] and [`Call::Random`] cannot fail).
    pub fn fail(&mut self, call: Call, error: HostError) {
        self.failing.insert(call, error);
    }

    /// Lets a failing call work again.
    pub fn heal(&mut self, call: Call) {
        self.failing.remove(&call);
    }

    /// How often a call was made on this worker since the request began.
    pub fn calls(&self, call: Call) -> u64 {
        self.lock_calls().get(&call).copied().unwrap_or(0)
    }

    /// All calls made on this worker since the request began.
    pub fn all_calls(&self) -> BTreeMap<Call, u64> {
        self.lock_calls().clone()
    }

    /// Starts counting anew.
    pub fn reset_calls(&self) {
        self.lock_calls().clear();
    }

    /// Runs something after each read of shared data, before the reader can write: where other workers interfere.
    pub fn after_shared(&self, hook: impl FnMut(&[u8]) + Send + 'static) {
        *self.after_shared.lock().unwrap_or_else(|e| e.into_inner()) = Some(Box::new(hook));
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn lock_calls(&self) -> MutexGuard<'_, BTreeMap<Call, u64>> {
        self.calls.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn called(&self, call: Call) -> Result<(), HostError> {
        *self.lock_calls().entry(call).or_default() += 1;
        self.failing.get(&call).map_or(Ok(()), |error| Err(*error))
    }

    fn readable(&self, map: Map) -> Option<&HeaderMap> {
        match (map, self.phase) {
            (Map::RequestHeaders, Phase::Request | Phase::Log) => Some(&self.request),
            (Map::RequestTrailers, Phase::Trailers) => Some(&self.trailers),
            (Map::ResponseHeaders, Phase::Response | Phase::Log) => Some(&self.response),
            (Map::ResponseTrailers, Phase::ResponseTrailers | Phase::Log) => {
                Some(&self.response_trailers)
            }
            _ => None,
        }
    }

    fn writable(&mut self, map: Map) -> Result<&mut HeaderMap, HostError> {
        match (map, self.phase) {
            (Map::RequestHeaders, Phase::Request) => Ok(&mut self.request),
            (Map::RequestTrailers, Phase::Trailers) => Ok(&mut self.trailers),
            (Map::ResponseHeaders, Phase::Response) => Ok(&mut self.response),
            (Map::ResponseTrailers, Phase::ResponseTrailers) => Ok(&mut self.response_trailers),
            _ => Err(BAD_ARGUMENT),
        }
    }
}

const BAD_ARGUMENT: HostError = HostError::Status(2);

/// The elements of a path, also of those that are joined.
fn elements(path: &[&str]) -> Vec<String> {
    path.iter()
        .flat_map(|element| element.split('\0'))
        .map(str::to_owned)
        .collect()
}

impl Host for MemoryHost {
    fn headers(&self, map: Map) -> Result<HeaderMap, HostError> {
        self.called(Call::Headers)?;
        // Out of its phase Envoy shows a map as empty, not as an error.
        Ok(self.readable(map).cloned().unwrap_or_default())
    }

    fn header(&self, map: Map, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.called(Call::Header)?;
        Ok(self
            .readable(map)
            .ok_or(BAD_ARGUMENT)?
            .first(name)
            .map(<[u8]>::to_vec))
    }

    fn set_header(&mut self, map: Map, name: &str, value: &[u8]) -> Result<(), HostError> {
        self.called(Call::SetHeader)?;
        self.writable(map)?.set(name.as_bytes(), value);
        Ok(())
    }

    fn add_header(&mut self, map: Map, name: &str, value: &[u8]) -> Result<(), HostError> {
        self.called(Call::AddHeader)?;
        self.writable(map)?.add(name.as_bytes(), value);
        Ok(())
    }

    fn remove_header(&mut self, map: Map, name: &[u8]) -> Result<(), HostError> {
        self.called(Call::RemoveHeader)?;
        self.writable(map)?.remove(name);
        Ok(())
    }

    fn body(&self, body: Body) -> Result<Vec<u8>, HostError> {
        self.called(Call::Body)?;
        // Out of its callback Envoy shows a body as empty, not as an error.
        Ok(if self.phase == Phase::Body(body) {
            self.chunk.clone()
        } else {
            Vec::new()
        })
    }

    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
        self.called(Call::Property)?;
        let path = elements(path);
        match (self.properties.get(&path), &self.claims) {
            (Some(Ok(value)), _) => Ok(Some(value.clone())),
            (Some(Err(error)), _) => Err(*error),
            (None, Some(payload)) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                claims::property(payload, &path)
            }
            (None, None) => Ok(None),
        }
    }

    fn set_property(&mut self, name: &str, value: &[u8]) -> Result<(), HostError> {
        self.called(Call::SetProperty)?;
        let state = format!("wasm.{name}");
        self.set_attribute(&[name], value);
        self.set_attribute(&["filter_state", &state], value);
        Ok(())
    }

    fn respond(&mut self, response: &LocalResponse<'_>) -> Result<(), HostError> {
        self.called(Call::Respond)?;
        self.responses.push(RecordedResponse {
            status: response.status,
            details: response.details.to_owned(),
            headers: response
                .headers
                .iter()
                .map(|(n, v)| ((*n).to_owned(), v.to_vec()))
                .collect(),
            body: response.body.to_vec(),
            grpc_status: response.grpc_status,
        });
        Ok(())
    }

    fn shared(&self, key: &[u8]) -> Result<Option<SharedValue>, HostError> {
        self.called(Call::Shared)?;
        let value = self.process().shared.get(key).cloned();
        // Out of its lock while it runs, so that it may call this host's workers.
        let hook = self
            .after_shared
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .take();
        if let Some(mut hook) = hook {
            hook(key);
            *self.after_shared.lock().unwrap_or_else(|e| e.into_inner()) = Some(hook);
        }
        Ok(value)
    }

    fn set_shared(
        &mut self,
        key: &[u8],
        value: &[u8],
        expected: Expected,
    ) -> Result<bool, HostError> {
        self.called(Call::SetShared)?;
        let mut process = self.process();
        let holds = match (process.shared.get(key), expected) {
            (None, Expected::Absent) => true,
            (Some(_), Expected::Absent) => false,
            // As in Envoy: a version is compared with that of a key that exists, and an absent key takes any.
            (None, Expected::Version(_)) => true,
            (Some(current), Expected::Version(version)) => current.version == version,
        };
        if holds {
            process.last_version += 1;
            let version = process.last_version;
            process.shared.insert(
                key.to_vec(),
                SharedValue {
                    bytes: value.to_vec(),
                    version,
                },
            );
        }
        Ok(holds)
    }

    fn now(&self) -> u64 {
        let _ = self.called(Call::Now);
        self.time()
    }

    fn monotonic(&self) -> u64 {
        let _ = self.called(Call::Monotonic);
        self.clock.monotonic.load(Ordering::SeqCst)
    }

    fn vm(&self) -> u64 {
        self.vm
    }

    fn random(&self) -> u64 {
        let _ = self.called(Call::Random);
        // A repeatable sequence without short patterns: a Weyl sequence, mixed.
        let state = self
            .random
            .fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst)
            .wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        mixed ^ (mixed >> 32)
    }

    fn has_callback(&self, callback: Callback) -> bool {
        !self.missing_callbacks.contains(&callback)
    }

    fn set_tick_period(&mut self, milliseconds: u32) -> Result<(), HostError> {
        self.called(Call::SetTickPeriod)?;
        self.tick_period = Some(milliseconds);
        Ok(())
    }

    fn metric(&mut self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        self.called(Call::Metric)?;
        let index = match self.metric_names.iter().position(|known| known == name) {
            Some(index) => index,
            None => {
                self.process()
                    .metrics
                    .entry(name.to_owned())
                    .or_insert((kind, 0, Vec::new()));
                self.metric_names.push(name.to_owned());
                self.metric_names.len() - 1
            }
        };
        Ok(MetricId(index as u32))
    }

    fn increment(&mut self, metric: MetricId, by: i64) -> Result<(), HostError> {
        self.called(Call::Increment)?;
        let name = self
            .metric_names
            .get(metric.0 as usize)
            .cloned()
            .ok_or(BAD_ARGUMENT)?;
        let mut process = self.process();
        let Some((kind, value, _)) = process.metrics.get_mut(&name) else {
            return Err(BAD_ARGUMENT);
        };
        if *kind == MetricKind::Histogram || (*kind == MetricKind::Counter && by <= 0) {
            return Err(BAD_ARGUMENT);
        }
        *value += by;
        Ok(())
    }

    fn record(&mut self, metric: MetricId, value: u64) -> Result<(), HostError> {
        self.called(Call::Record)?;
        let name = self
            .metric_names
            .get(metric.0 as usize)
            .cloned()
            .ok_or(BAD_ARGUMENT)?;
        let mut process = self.process();
        let Some((kind, current, recorded)) = process.metrics.get_mut(&name) else {
            return Err(BAD_ARGUMENT);
        };
        match kind {
            MetricKind::Histogram => recorded.push(value),
            MetricKind::Gauge => *current = value as i64,
            MetricKind::Counter => *current += value as i64,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_writers_one_creates_a_key() {
        let mut first = MemoryHost::new();
        let mut second = first.worker();
        assert_eq!(first.set_shared(b"key", b"1", Expected::Absent), Ok(true));
        assert_eq!(second.set_shared(b"key", b"2", Expected::Absent), Ok(false));
        assert_eq!(second.shared(b"key").unwrap().unwrap().bytes, b"1");
    }

    #[test]
    fn a_write_needs_the_version_that_was_read() {
        let mut host = MemoryHost::new();
        host.overwrite_shared(b"key", b"1");
        let read = host.shared(b"key").unwrap().unwrap();
        assert_eq!(
            host.set_shared(b"key", b"2", Expected::Version(read.version)),
            Ok(true)
        );
        assert_eq!(
            host.set_shared(b"key", b"3", Expected::Version(read.version)),
            Ok(false)
        );
        assert_eq!(host.shared(b"key").unwrap().unwrap().bytes, b"2");
    }

    #[test]
    fn a_header_map_exists_in_its_phase_only() {
        let mut host = MemoryHost::new();
        assert_eq!(
            host.header(Map::RequestHeaders, ":path"),
            Ok(Some(b"/".to_vec()))
        );
        assert_eq!(
            host.add_header(Map::ResponseHeaders, "a", b""),
            Err(BAD_ARGUMENT)
        );
        host.begin_response(204, &[("x", "y")]);
        assert!(host.headers(Map::RequestHeaders).unwrap().is_empty());
        assert_eq!(
            host.set_header(Map::RequestHeaders, "a", b""),
            Err(BAD_ARGUMENT)
        );
        assert_eq!(host.add_header(Map::ResponseHeaders, "a", b""), Ok(()));
        host.phase = Phase::Log;
        assert_eq!(
            host.header(Map::ResponseHeaders, ":status"),
            Ok(Some(b"204".to_vec()))
        );
        assert_eq!(
            host.header(Map::RequestHeaders, ":method"),
            Ok(Some(b"GET".to_vec()))
        );
    }

    #[test]
    fn a_piece_of_a_body_is_there_in_its_callback_only() {
        let mut host = MemoryHost::new();
        assert_eq!(host.body(Body::Request), Ok(Vec::new()));
        let _ = host.chunk(Body::Request, b"{}", false);
        assert_eq!(host.body(Body::Request), Ok(b"{}".to_vec()));
        assert_eq!(host.body(Body::Response), Ok(Vec::new()));
        assert!(host.headers(Map::RequestHeaders).unwrap().is_empty());
        host.begin_response_trailers(&[("x-tokens", "42")]);
        assert_eq!(host.body(Body::Request), Ok(Vec::new()));
        assert_eq!(
            host.header(Map::ResponseTrailers, "x-tokens"),
            Ok(Some(b"42".to_vec()))
        );
        assert_eq!(
            host.header(Map::ResponseHeaders, ":status"),
            Err(BAD_ARGUMENT)
        );
        assert_eq!(host.add_header(Map::ResponseTrailers, "a", b""), Ok(()));
        host.phase = Phase::Log;
        assert_eq!(
            host.header(Map::ResponseTrailers, "x-tokens"),
            Ok(Some(b"42".to_vec()))
        );
        assert_eq!(
            host.add_header(Map::ResponseTrailers, "b", b""),
            Err(BAD_ARGUMENT)
        );
    }

    #[test]
    fn a_module_has_the_callbacks_that_it_was_built_with() {
        let mut host = MemoryHost::new();
        assert!(
            Callback::ALL
                .iter()
                .all(|callback| host.has_callback(*callback))
        );
        host.missing_callbacks = vec![Callback::ResponseBody];
        assert!(!host.has_callback(Callback::ResponseBody));
        assert!(host.has_callback(Callback::ResponseHeaders));
    }

    #[test]
    fn metrics_are_the_process_s_and_ids_the_worker_s() {
        let mut first = MemoryHost::new();
        let mut second = first.worker();
        let _ = second.metric(MetricKind::Counter, "other").unwrap();
        for host in [&mut first, &mut second] {
            let id = host.metric(MetricKind::Counter, "requests").unwrap();
            assert_eq!(host.metric(MetricKind::Counter, "requests"), Ok(id));
            assert_eq!(host.increment(id, 2), Ok(()));
            assert_eq!(host.increment(id, 0), Err(BAD_ARGUMENT), "as Envoy does");
        }
        assert_eq!(first.metric_value("requests"), Some(4));
    }
}
