//! [`Host`] by Envoy.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::abi;
use crate::callback::Callback;
use crate::headers::{HeaderMap, to_bytes};
use crate::host::{
    Body, Expected, Host, HostError, LocalResponse, Map, MetricId, MetricKind, SharedValue,
};

/// The proxy that this module was loaded by. Calls are about the stream whose callback runs.
#[derive(Debug, Default)]
pub struct EnvoyHost;

thread_local! {
    /// Ids of the metrics defined in this VM, by kind and name. Envoy makes a new id (and keeps it) for every
    /// definition, also of a name it knows; a plugin with a new configuration finds the old ids here, because it runs in the same VM.
    static METRICS: RefCell<[BTreeMap<String, MetricId>; 3]> = const { RefCell::new([BTreeMap::new(), BTreeMap::new(), BTreeMap::new()]) };
}

/// Envoy writes to an absent key whatever version is expected of it, and has no call that creates a key only if it is absent. But a
/// version that the key cannot have makes one: it fits an absent key and no other, and Envoy compares and writes under one lock. Versions count up
/// from 1 over all keys; this one comes up once in 2^32 writes, and would have to belong to this key at the moment it is created.
const NO_VERSION: u32 = u32::MAX;

fn map_number(map: Map) -> u32 {
    match map {
        Map::RequestHeaders => 0,
        Map::RequestTrailers => 1,
        Map::ResponseHeaders => 2,
        Map::ResponseTrailers => 3,
    }
}

impl Host for EnvoyHost {
    fn headers(&self, map: Map) -> Result<HeaderMap, HostError> {
        HeaderMap::parse(abi::header_map_pairs(map_number(map))?)
    }

    fn header(&self, map: Map, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        abi::header_map_value(map_number(map), name.as_bytes())
    }

    fn set_header(&mut self, map: Map, name: &str, value: &[u8]) -> Result<(), HostError> {
        abi::replace_header_map_value(map_number(map), name.as_bytes(), value)
    }

    fn add_header(&mut self, map: Map, name: &str, value: &[u8]) -> Result<(), HostError> {
        abi::add_header_map_value(map_number(map), name.as_bytes(), value)
    }

    fn remove_header(&mut self, map: Map, name: &[u8]) -> Result<(), HostError> {
        abi::remove_header_map_value(map_number(map), name)
    }

    fn body(&self, body: Body) -> Result<Vec<u8>, HostError> {
        abi::buffer(match body {
            Body::Request => 0,
            Body::Response => 1,
        })
    }

    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
        // The ABI takes a path as one string with zero bytes between its elements.
        match path {
            [one] => abi::property(one.as_bytes()),
            path => abi::property(path.join("\0").as_bytes()),
        }
    }

    fn set_property(&mut self, name: &str, value: &[u8]) -> Result<(), HostError> {
        abi::set_property(name.as_bytes(), value)
    }

    fn respond(&mut self, response: &LocalResponse<'_>) -> Result<(), HostError> {
        let grpc_status = response
            .grpc_status
            .and_then(|status| i32::try_from(status).ok())
            .unwrap_or(-1);
        abi::send_local_response(
            response.status,
            response.details,
            response.body,
            &to_bytes(response.headers),
            grpc_status,
        )
    }

    fn shared(&self, key: &[u8]) -> Result<Option<SharedValue>, HostError> {
        Ok(abi::shared_data(key)?.map(|(bytes, version)| SharedValue { bytes, version }))
    }

    fn set_shared(
        &mut self,
        key: &[u8],
        value: &[u8],
        expected: Expected,
    ) -> Result<bool, HostError> {
        let version = match expected {
            // 0 would mean "whatever its version".
            Expected::Absent | Expected::Version(0) => NO_VERSION,
            Expected::Version(version) => version,
        };
        abi::set_shared_data(key, value, version)
    }

    fn now(&self) -> u64 {
        // Only a proxy that forbids the module its clock fails here.
        abi::current_time().unwrap_or(0)
    }

    fn monotonic(&self) -> u64 {
        abi::monotonic_time()
    }

    fn random(&self) -> u64 {
        // Only a proxy that forbids the module `random_get` fails here; the time is then better than a constant.
        getrandom::u64().unwrap_or_else(|_| self.now())
    }

    fn has_callback(&self, callback: Callback) -> bool {
        abi::callbacks() & callback.bit() != 0
    }

    fn set_tick_period(&mut self, milliseconds: u32) -> Result<(), HostError> {
        abi::set_tick_period(milliseconds)
    }

    fn metric(&mut self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        METRICS.with_borrow_mut(|[counters, gauges, histograms]| {
            let (number, known) = match kind {
                MetricKind::Counter => (0, counters),
                MetricKind::Gauge => (1, gauges),
                MetricKind::Histogram => (2, histograms),
            };
            if let Some(id) = known.get(name) {
                return Ok(*id);
            }
            let id = MetricId(abi::define_metric(number, name)?);
            known.insert(name.to_owned(), id);
            Ok(id)
        })
    }

    fn increment(&mut self, metric: MetricId, by: i64) -> Result<(), HostError> {
        abi::increment_metric(metric.0, by)
    }

    fn record(&mut self, metric: MetricId, value: u64) -> Result<(), HostError> {
        abi::record_metric(metric.0, value)
    }
}
