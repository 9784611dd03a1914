//! The functions of the Proxy-Wasm ABI 0.2.1 that the filters use, declared here and wrapped so that they are safe to call.
//!
//! A status is a plain number: the SDK declares it as an enum, and a value that this enum lacks (6, 9 and 12 exist) is
//! undefined behaviour there. All `unsafe` of the filters is in this file.

use std::hint::black_box;
use std::ptr::null_mut;

use crate::host::HostError;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
}

/// The function [`CALLBACKS`](crate::callback::CALLBACKS). The compiler must not know what it returns: that changes after it.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tollgate_callbacks() -> u32 {
    black_box(u32::MAX)
}

/// A bit for each callback that the module has.
pub(crate) fn callbacks() -> u32 {
    tollgate_callbacks()
}

const CLOCK_MONOTONIC: u32 = 1;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

const PLUGIN_CONFIGURATION: u32 = 7;

fn done(status: u32) -> Result<(), HostError> {
    match status {
        OK => Ok(()),
        status => Err(HostError::Status(status)),
    }
}

/// Memory in which the host left an answer.
struct Answer {
    data: *mut u8,
    size: usize,
}

impl Answer {
    fn new() -> Self {
        Self {
            data: null_mut(),
            size: 0,
        }
    }

    /// The answer to a call that returned `status`; `None` for "not found". An empty answer has no memory of its own.
    fn take(self, status: u32) -> Result<Option<Vec<u8>>, HostError> {
        match status {
            OK if self.data.is_null() || self.size == 0 => Ok(Some(Vec::new())),
            // SAFETY: the host fills exactly what it asked `proxy_on_memory_allocate` for, which the SDK allocates as a
            // `Box<[u8]>` of that size with the global allocator and hands over.
            OK => Ok(Some(unsafe {
                Vec::from_raw_parts(self.data, self.size, self.size)
            })),
            NOT_FOUND => Ok(None),
            status => Err(HostError::Status(status)),
        }
    }
}

// SAFETY of all calls below: every pointer comes from a live slice or local of the given size, and the host reads or writes
// it during the call only.

pub(crate) fn log(level: u32, message: &str) {
    let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

pub(crate) fn current_time() -> Result<u64, HostError> {
    let mut time = 0;
    done(unsafe { proxy_get_current_time_nanoseconds(&mut time) })?;
    Ok(time)
}

/// The ABI has no such clock, so this one is WASI's. (`Instant` reads it too, but has no number to share with other workers.)
pub(crate) fn monotonic_time() -> u64 {
    let mut time = 0;
    // Only a proxy that forbids the module its clock fails here, and then leaves the 0.
    let _ = unsafe { clock_time_get(CLOCK_MONOTONIC, 1, &mut time) };
    time
}

pub(crate) fn plugin_configuration() -> Result<Vec<u8>, HostError> {
    buffer(PLUGIN_CONFIGURATION)
}

/// All of a buffer.
pub(crate) fn buffer(buffer: u32) -> Result<Vec<u8>, HostError> {
    let mut answer = Answer::new();
    let status = unsafe {
        proxy_get_buffer_bytes(buffer, 0, usize::MAX, &mut answer.data, &mut answer.size)
    };
    Ok(answer.take(status)?.unwrap_or_default())
}

pub(crate) fn header_map_pairs(map: u32) -> Result<Vec<u8>, HostError> {
    let mut answer = Answer::new();
    let status = unsafe { proxy_get_header_map_pairs(map, &mut answer.data, &mut answer.size) };
    Ok(answer.take(status)?.unwrap_or_default())
}

pub(crate) fn header_map_value(map: u32, name: &[u8]) -> Result<Option<Vec<u8>>, HostError> {
    let mut answer = Answer::new();
    let status = unsafe {
        proxy_get_header_map_value(
            map,
            name.as_ptr(),
            name.len(),
            &mut answer.data,
            &mut answer.size,
        )
    };
    answer.take(status)
}

pub(crate) fn replace_header_map_value(
    map: u32,
    name: &[u8],
    value: &[u8],
) -> Result<(), HostError> {
    done(unsafe {
        proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

pub(crate) fn add_header_map_value(map: u32, name: &[u8], value: &[u8]) -> Result<(), HostError> {
    done(unsafe {
        proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

pub(crate) fn remove_header_map_value(map: u32, name: &[u8]) -> Result<(), HostError> {
    done(unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) })
}

pub(crate) fn property(path: &[u8]) -> Result<Option<Vec<u8>>, HostError> {
    let mut answer = Answer::new();
    let status = unsafe {
        proxy_get_property(
            path.as_ptr(),
            path.len(),
            &mut answer.data,
            &mut answer.size,
        )
    };
    answer.take(status)
}

pub(crate) fn set_property(path: &[u8], value: &[u8]) -> Result<(), HostError> {
    done(unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
}

pub(crate) fn shared_data(key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, HostError> {
    let mut answer = Answer::new();
    let mut cas = 0;
    let status = unsafe {
        proxy_get_shared_data(
            key.as_ptr(),
            key.len(),
            &mut answer.data,
            &mut answer.size,
            &mut cas,
        )
    };
    Ok(answer.take(status)?.map(|bytes| (bytes, cas)))
}

/// `Ok(false)` when the key has another version than `cas`.
pub(crate) fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Result<bool, HostError> {
    match unsafe {
        proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    } {
        CAS_MISMATCH => Ok(false),
        status => done(status).map(|()| true),
    }
}

pub(crate) fn send_local_response(
    status: u32,
    details: &str,
    body: &[u8],
    headers: &[u8],
    grpc_status: i32,
) -> Result<(), HostError> {
    done(unsafe {
        proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    })
}

pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), HostError> {
    done(unsafe { proxy_set_tick_period_milliseconds(milliseconds) })
}

pub(crate) fn define_metric(kind: u32, name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    done(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) })?;
    Ok(id)
}

pub(crate) fn increment_metric(id: u32, by: i64) -> Result<(), HostError> {
    done(unsafe { proxy_increment_metric(id, by) })
}

pub(crate) fn record_metric(id: u32, value: u64) -> Result<(), HostError> {
    done(unsafe { proxy_record_metric(id, value) })
}
