//! Header maps as the proxy sends them: bytes, in order, duplicates and all.
//!
//! A map stays in the buffer the proxy filled and is read in place: reading allocates nothing beyond that one
//! buffer, and looking a header up allocates nothing at all. What a filter changes goes to the proxy and into a new buffer here,
//! so that the next filter of the same module sees it.
//!
//! Filters look for a dozen names in a request, and most of their instructions were once spent here. So what looks for one name goes by lengths, which
//! stand side by side at the start of the buffer: names of another length are never looked at.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::host::{Host, HostError, Map};

/// A snapshot of a header map (names are lower-case, as Envoy keeps them).
#[derive(Clone, Debug, Default)]
pub struct HeaderMap {
    /// As `proxy_get_header_map_pairs` returns it: a count, the lengths of each name and value (all `u32`,
    /// little-endian), then the names and values themselves, a zero byte after each. [`HeaderMap::parse`] has checked that it is as long as they say.
    buffer: Vec<u8>,
}

/// How often a header occurs. A header that decides something must be there once: of several copies a
/// client, a proxy and a service may each believe another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies<'a> {
    /// There is none.
    Absent,
    /// There is exactly one (possibly empty).
    One(&'a [u8]),
    /// There are several, whatever their values.
    Several,
}

impl HeaderMap {
    /// Takes over the bytes of `proxy_get_header_map_pairs`. Every length is checked here; no bytes at all are an empty map.
    pub fn parse(buffer: Vec<u8>) -> Result<Self, HostError> {
        let map = Self { buffer };
        if !map.buffer.is_empty() {
            let (lengths, data) = map.parts().ok_or(HostError::Malformed)?;
            // In 64 bits four billion of them do not overflow.
            let whole = |pair: &[u8; 8]| {
                let (name, value) = lengths_of(pair);
                name as u64 + value as u64 + 2
            };
            if lengths.iter().map(whole).sum::<u64>() != data.len() as u64 {
                return Err(HostError::Malformed);
            }
        }
        Ok(map)
    }

    /// A map of these headers, in order.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Self {
        Self {
            buffer: to_bytes(pairs),
        }
    }

    /// The lengths of all names and values, and these themselves. `None` if there is nothing.
    fn parts(&self) -> Option<(&[[u8; 8]], &[u8])> {
        let (count, rest) = self.buffer.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (lengths, data) = rest.split_at_checked(count.checked_mul(8)?)?;
        Some((lengths.as_chunks().0, data))
    }

    fn entries(&self) -> Entries<'_> {
        let (lengths, data) = self.parts().unwrap_or_default();
        Entries {
            lengths: lengths.iter(),
            data,
            at: 0,
        }
    }

    /// Every header in order; those set later come last.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries()
    }

    /// Whether there is no header at all. A request always has some: an empty request map means that the
    /// proxy would not show it.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Every value of a header (its name in lower case), in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.named(name.as_bytes())
    }

    fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut entries = self.entries();
        std::iter::from_fn(move || {
            loop {
                let (entry, value) = entries.next_of_length(name.len())?;
                if entry == name {
                    return Some(value);
                }
            }
        })
    }

    /// The first value of a header.
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// A header with what its multiplicity says.
    pub fn copies<'a>(&'a self, name: &'a str) -> Copies<'a> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (None, _) => Copies::Absent,
            (Some(value), None) => Copies::One(value),
            (Some(_), Some(_)) => Copies::Several,
        }
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        if self.named(name).next().is_some() {
            self.retain(|entry| entry != name);
        }
    }

    fn retain(&mut self, stays: impl Fn(&[u8]) -> bool) {
        let left: Vec<_> = self.iter().filter(|(entry, _)| stays(entry)).collect();
        self.buffer = to_bytes(&left);
    }

    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        if self.buffer.is_empty() {
            self.buffer.extend(number(0));
        }
        let count = self.entries().lengths.len();
        self.buffer.reserve(written_size(name, value));
        self.buffer.extend(number(name.len()));
        self.buffer.extend(number(value.len()));
        // From behind everything to behind all other lengths.
        if let Some(moved) = self.buffer.get_mut(4 + 8 * count..) {
            moved.rotate_right(8);
        }
        if let Some(first) = self.buffer.first_chunk_mut() {
            *first = number(count + 1);
        }
        write_ended(&mut self.buffer, name);
        write_ended(&mut self.buffer, value);
    }

    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// How often a header is there, and whether it is there in another spelling as well: in one pass, because filters ask that of every header of theirs.
    fn spellings<'a>(&'a self, name: &[u8]) -> (Copies<'a>, bool) {
        let (mut copies, mut others) = (Copies::Absent, false);
        let mut entries = self.entries();
        while let Some((entry, value)) = entries.next_of_length(name.len()) {
            if entry == name {
                copies = match copies {
                    Copies::Absent => Copies::One(value),
                    _ => Copies::Several,
                };
            } else if same_name(entry, name) {
                others = true;
            }
        }
        (copies, others)
    }

    /// Removes every copy in any spelling, here and in the map of the proxy that this is a snapshot of.
    fn strip(&mut self, map: Map, name: &str, host: &mut dyn Host) -> Result<(), HostError> {
        let name = name.as_bytes();
        let (copies, others) = self.spellings(name);
        let is_there = copies != Copies::Absent;
        if others {
            self.strip_other_spellings(map, name, host)?;
        }
        if is_there {
            host.remove_header(map, name)?;
            self.remove(name);
        }
        Ok(())
    }

    fn strip_other_spellings(
        &mut self,
        map: Map,
        name: &[u8],
        host: &mut dyn Host,
    ) -> Result<(), HostError> {
        let is_other = |entry: &[u8]| entry != name && same_name(entry, name);
        // A removal takes every copy of that spelling with it.
        let mut spellings: Vec<&[u8]> = Vec::new();
        for (entry, _) in self.iter() {
            if is_other(entry) && !spellings.contains(&entry) {
                spellings.push(entry);
            }
        }
        for spelling in spellings {
            host.remove_header(map, spelling)?;
        }
        self.retain(|entry| !is_other(entry));
        Ok(())
    }
}

impl PartialEq for HeaderMap {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for HeaderMap {}

/// The pairs in the form that the ABI uses in both directions.
pub(crate) fn to_bytes<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Vec<u8> {
    let size = |(name, value): &(N, V)| written_size(name.as_ref(), value.as_ref());
    let mut bytes = Vec::with_capacity(4 + pairs.iter().map(size).sum::<usize>());
    bytes.extend(number(pairs.len()));
    for (name, value) in pairs {
        bytes.extend(number(name.as_ref().len()));
        bytes.extend(number(value.as_ref().len()));
    }
    for (name, value) in pairs {
        write_ended(&mut bytes, name.as_ref());
        write_ended(&mut bytes, value.as_ref());
    }
    bytes
}

/// How many bytes a pair takes: two lengths, itself, and a zero byte after each.
fn written_size(name: &[u8], value: &[u8]) -> usize {
    8 + name.len() + value.len() + 2
}

/// As the ABI writes it: by value and not as a slice, which would be copied by a call of a function for four bytes.
fn number(number: usize) -> [u8; 4] {
    (number as u32).to_le_bytes()
}

fn write_ended(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(part);
    bytes.push(0);
}

/// The lengths of a name and its value.
fn lengths_of(pair: &[u8; 8]) -> (usize, usize) {
    let both = u64::from_le_bytes(*pair);
    ((both as u32) as usize, (both >> 32) as usize)
}

/// Walks a buffer; ends at the first length that does not fit, which `parse` has ruled out.
struct Entries<'a> {
    lengths: std::slice::Iter<'a, [u8; 8]>,
    data: &'a [u8],
    /// Where in `data` the next name begins.
    at: usize,
}

impl<'a> Entries<'a> {
    /// The next header whose name has this length.
    #[inline]
    fn next_of_length(&mut self, length: usize) -> Option<(&'a [u8], &'a [u8])> {
        for pair in self.lengths.by_ref() {
            let (name, value) = lengths_of(pair);
            let at = self.at;
            self.at = at.wrapping_add(name).wrapping_add(value).wrapping_add(2);
            if name == length {
                return self.entry(at, name, value);
            }
        }
        None
    }

    fn entry(&self, at: usize, name: usize, value: usize) -> Option<(&'a [u8], &'a [u8])> {
        let (name, rest) = self.data.get(at..)?.split_at_checked(name)?;
        let value = rest.get(1..)?.get(..value)?;
        Some((name, value))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = lengths_of(self.lengths.next()?);
        let at = self.at;
        self.at = at.wrapping_add(name).wrapping_add(value).wrapping_add(2);
        self.entry(at, name, value)
    }
}

/// What filters read of one request: one snapshot of its headers, and of its metadata if one of them asks, shared by all filters of a module. A change
/// goes to the proxy and into the snapshot, so that the next filter of the module sees it.
#[derive(Debug, Default)]
pub struct Request {
    headers: HeaderMap,
    metadata: OnceCell<Result<Vec<u8>, HostError>>,
}

impl Request {
    /// Reads the snapshot (one host call). A request without any header does not exist, so an empty map is an error.
    pub fn read(host: &dyn Host) -> Result<Self, HostError> {
        let headers = host.headers(Map::RequestHeaders)?;
        if headers.is_empty() {
            return Err(HostError::Malformed);
        }
        Ok(Self {
            headers,
            metadata: OnceCell::new(),
        })
    }

    /// A request with these headers that no proxy knows of; for tests of code that only reads.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Self {
        Self {
            headers: HeaderMap::from_pairs(pairs),
            metadata: OnceCell::new(),
        }
    }

    /// The request's metadata, in which earlier filters of the proxy leave what they found out: the property `metadata`, empty if there is none. One
    /// host call, however many filters ask.
    pub fn metadata(&self, host: &dyn Host) -> Result<&[u8], HostError> {
        let read = || Ok(host.property(&["metadata"])?.unwrap_or_default());
        match self.metadata.get_or_init(read) {
            Ok(metadata) => Ok(metadata),
            Err(error) => Err(*error),
        }
    }

    /// Whether [`Request::metadata`] has been asked for already, and so costs nothing any more.
    pub fn has_metadata(&self) -> bool {
        self.metadata.get().is_some()
    }

    /// The headers as they are now.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sets a header (its name in lower case) to one value: every copy of exactly this name is replaced.
    pub fn set(&mut self, name: &str, value: &[u8], host: &mut dyn Host) -> Result<(), HostError> {
        host.set_header(Map::RequestHeaders, name, value)?;
        self.headers.set(name.as_bytes(), value);
        Ok(())
    }

    /// Makes a header ours: strips every copy that the client sent, in any number and in any spelling that
    /// some server reads as the same name ([`same_name`]: underscores for hyphens and the like), and sets `value`. No host call is made when the one
    /// copy there is has the right value already. An error means that a client's copy may still be there.
    pub fn own(&mut self, name: &str, value: &[u8], host: &mut dyn Host) -> Result<(), HostError> {
        let (copies, others) = self.headers.spellings(name.as_bytes());
        let (is_there, is_right) = (copies != Copies::Absent, copies == Copies::One(value));
        if others {
            self.headers
                .strip_other_spellings(Map::RequestHeaders, name.as_bytes(), host)?;
        }
        if is_right {
            return Ok(());
        }
        if is_there {
            return self.set(name, value, host);
        }
        host.set_header(Map::RequestHeaders, name, value)?;
        self.headers.add(name.as_bytes(), value);
        Ok(())
    }

    /// Removes every copy of a header in any spelling, as [`Request::own`] does. No host call is
    /// made when there is none. An error means that a client's copy may still be there.
    pub fn strip(&mut self, name: &str, host: &mut dyn Host) -> Result<(), HostError> {
        self.headers.strip(Map::RequestHeaders, name, host)
    }
}

/// The trailers of one request. No filter writes any, so they can only be stripped of what filters own.
#[derive(Debug, Default)]
pub struct Trailers {
    trailers: HeaderMap,
}

impl Trailers {
    /// Reads them (one host call). Unlike headers there may be none.
    pub fn read(host: &dyn Host) -> Result<Self, HostError> {
        Ok(Self {
            trailers: host.headers(Map::RequestTrailers)?,
        })
    }

    /// Removes every copy of a trailer in any spelling, as [`Request::strip`] does of a header.
    pub fn strip(&mut self, name: &str, host: &mut dyn Host) -> Result<(), HostError> {
        self.trailers.strip(Map::RequestTrailers, name, host)
    }
}

/// Whether two header names are the same to some server: many make variables of them, for which upper case becomes lower and `-` becomes
/// `_`, with some of them every other character that is neither a letter nor a digit too.
pub fn same_name(a: &[u8], b: &[u8]) -> bool {
    let fold = |byte: &u8| match byte {
        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    a.len() == b.len() && a.iter().map(fold).eq(b.iter().map(fold))
}

/// Header bytes as text for a message or a log line: what is not UTF-8 becomes U+FFFD.
pub fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Call, MemoryHost};
    use proptest::prelude::*;

    fn pairs(map: &HeaderMap) -> Vec<(&[u8], &[u8])> {
        map.iter().collect()
    }

    #[test]
    fn a_map_is_read_as_the_abi_writes_it() {
        let bytes = b"\x02\0\0\0\x05\0\0\0\x03\0\0\0\x01\0\0\0\x00\0\0\0:path\0/\xff?\0x\0\0";
        let map = HeaderMap::parse(bytes.to_vec()).unwrap();
        assert_eq!(
            pairs(&map),
            [(b":path".as_slice(), b"/\xff?".as_slice()), (b"x", b"")]
        );
        assert_eq!(to_bytes(&pairs(&map)), bytes);
    }

    #[test]
    fn no_bytes_are_an_empty_map() {
        assert!(HeaderMap::parse(Vec::new()).unwrap().is_empty());
        assert!(HeaderMap::parse(vec![0; 4]).unwrap().is_empty());
    }

    #[test]
    fn lengths_that_do_not_fit_are_malformed() {
        let whole = to_bytes(&[("name", "value"), ("a", "")]);
        for cut in 1..whole.len() {
            assert_eq!(
                HeaderMap::parse(whole[..cut].to_vec()),
                Err(HostError::Malformed),
                "{cut}"
            );
        }
        for at in 0..20 {
            let mut bytes = whole.clone();
            bytes[at] = 0xff;
            assert_eq!(HeaderMap::parse(bytes), Err(HostError::Malformed), "{at}");
        }
    }

    #[test]
    fn duplicates_are_seen_as_duplicates() {
        let map = HeaderMap::from_pairs(&[("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(map.all("a").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(map.copies("a"), Copies::Several);
        assert_eq!(map.copies("b"), Copies::One(b"2"));
        assert_eq!(map.copies("c"), Copies::Absent);
    }

    #[test]
    fn owning_a_header_strips_every_copy_and_spelling() {
        let mut host = MemoryHost::new();
        host.begin(&[
            ("x-tenant-id", "a"),
            ("x_tenant_id", "b"),
            ("x-tenant_id", "c"),
            ("x-tenant-id", "d"),
            ("x_tenant_id", "e"),
            ("x.tenant~id", "g"),
            ("x-tenant-idx", "f"),
        ]);
        let mut request = Request::read(&host).unwrap();
        request.own("x-tenant-id", b"acme", &mut host).unwrap();
        for map in [&host.request, request.headers()] {
            let left: Vec<_> = map
                .iter()
                .filter(|(name, _)| !name.starts_with(b":"))
                .collect();
            assert_eq!(
                left,
                [
                    (b"x-tenant-idx".as_slice(), b"f".as_slice()),
                    (b"x-tenant-id", b"acme")
                ]
            );
        }
    }

    #[test]
    fn a_part_of_the_request_line_is_no_spelling_of_a_header() {
        assert!(!same_name(b":path", b"-path"));
        assert!(same_name(b"!#$%&'*+-.^_`|~A", b"---------------a"));
    }

    #[test]
    fn a_header_that_is_right_already_costs_no_call() {
        let mut host = MemoryHost::new();
        host.begin(&[("x-tenant-id", "acme")]);
        let mut request = Request::read(&host).unwrap();
        request.own("x-tenant-id", b"acme", &mut host).unwrap();
        request.strip("user-type", &mut host).unwrap();
        assert_eq!(
            host.all_calls().into_iter().collect::<Vec<_>>(),
            [(Call::Headers, 1)]
        );
    }

    #[test]
    fn stripping_removes_every_copy_and_spelling() {
        let mut host = MemoryHost::new();
        host.begin(&[
            ("user-type", "vip"),
            ("user_type", "vip"),
            ("user-type", "vip"),
        ]);
        let mut request = Request::read(&host).unwrap();
        request.strip("user-type", &mut host).unwrap();
        assert_eq!(request.headers(), &host.request);
        assert_eq!(
            host.request
                .iter()
                .filter(|(name, _)| !name.starts_with(b":"))
                .count(),
            0
        );
    }

    #[test]
    fn a_header_that_cannot_be_stripped_is_an_error() {
        let mut host = MemoryHost::new();
        host.begin(&[("user_type", "vip")]);
        let mut request = Request::read(&host).unwrap();
        host.fail(Call::RemoveHeader, HostError::Status(2));
        assert_eq!(
            request.own("user-type", b"standard", &mut host),
            Err(HostError::Status(2))
        );
    }

    #[test]
    fn a_request_without_headers_is_an_error() {
        let mut host = MemoryHost::new();
        host.request = HeaderMap::default();
        assert_eq!(Request::read(&host).err(), Some(HostError::Malformed));
    }

    #[test]
    fn trailers_are_stripped_as_headers_are() {
        let mut host = MemoryHost::new();
        host.begin(&[("user-type", "ours")]);
        host.begin_trailers(&[
            ("user-type", "vip"),
            ("user_type", "vip"),
            ("user-type", "vip"),
            ("grpc-status", "0"),
        ]);
        let mut trailers = Trailers::read(&host).unwrap();
        trailers.strip("user-type", &mut host).unwrap();
        let left: Vec<_> = host.trailers.iter().collect();
        assert_eq!(left, [(b"grpc-status".as_slice(), b"0".as_slice())]);
        assert_eq!(trailers.trailers, host.trailers);
        assert_eq!(host.request.first("user-type"), Some(b"ours".as_slice()));

        host.reset_calls();
        trailers.strip("user-type", &mut host).unwrap();
        assert!(host.all_calls().is_empty());
        host.begin_trailers(&[("user_type", "vip")]);
        let mut trailers = Trailers::read(&host).unwrap();
        host.fail(Call::RemoveHeader, HostError::Status(2));
        assert_eq!(
            trailers.strip("user-type", &mut host),
            Err(HostError::Status(2))
        );
    }

    #[test]
    fn metadata_is_read_once_and_only_if_asked_for() {
        let mut host = MemoryHost::new();
        let request = Request::read(&host).unwrap();
        assert_eq!(host.calls(Call::Property), 0);
        assert!(!request.has_metadata());
        assert_eq!(request.metadata(&host), Ok(b"".as_slice()));
        host.set_attribute(&["metadata"], b"late");
        assert_eq!(request.metadata(&host), Ok(b"".as_slice()));
        assert_eq!(host.calls(Call::Property), 1);
        assert!(request.has_metadata());

        let request = Request::read(&host).unwrap();
        assert_eq!(request.metadata(&host), Ok(b"late".as_slice()));
        host.fail(Call::Property, HostError::Status(3));
        let request = Request::read(&host).unwrap();
        assert_eq!(request.metadata(&host), Err(HostError::Status(3)));
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"a-b".to_vec()),
            Just(b"a_b".to_vec()),
            Just(b"A-b".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4)
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), small in 0_u8..4) {
            let mut counted = vec![small, 0, 0, 0];
            counted.extend_from_slice(&bytes);
            for bytes in [bytes, counted] {
                if let Ok(map) = HeaderMap::parse(bytes) {
                    prop_assert!(map.iter().count() < 64);
                }
            }
        }

        #[test]
        fn pairs_are_read_back(pairs in proptest::collection::vec((name(), proptest::collection::vec(any::<u8>(), 0..5)), 0..6)) {
            let map = HeaderMap::parse(to_bytes(&pairs)).unwrap();
            prop_assert!(map.iter().eq(pairs.iter().map(|(n, v)| (n.as_slice(), v.as_slice()))));
        }

        #[test]
        fn changes_are_those_of_a_list(
            start in proptest::collection::vec((name(), Just(b"old".to_vec())), 0..6),
            changes in proptest::collection::vec((0..3, name()), 0..8),
        ) {
            let mut map = HeaderMap::from_pairs(&start);
            let mut model = start;
            for (kind, name) in changes {
                match kind {
                    0 => { map.remove(&name); model.retain(|(n, _)| *n != name); }
                    1 => { map.add(&name, b"new"); model.push((name, b"new".to_vec())); }
                    _ => { map.set(&name, b"set"); model.retain(|(n, _)| *n != name); model.push((name, b"set".to_vec())); }
                }
            }
            prop_assert!(map.iter().eq(model.iter().map(|(n, v)| (n.as_slice(), v.as_slice()))));
            for (name, _) in &model {
                let values = model.iter().filter(|(n, _)| n == name);
                prop_assert!(map.named(name).eq(values.map(|(_, value)| value.as_slice())));
            }
        }
    }
}
