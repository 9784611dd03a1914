//! The value of one key of the shared data: a row of records, each of them what all limits remember of one tenant.
//!
//! ```text
//! row    = version (1 byte)  latest moment (monotonic u64, utc u64)  record*
//! record = id u32  number of states (1 byte)  state*
//! state  = key u32  arrival u64        interval (7 bytes)   of a rate
//!        = key u32  window number u64  count (7 bytes)      of a quota
//! ```
//! All numbers are little-endian; a key says in its last bits of what kind it is ([`limit::KIND`]), and the last bit of a state whether its limit was in shadow. A row is replaced as a whole, so one
//! compare-and-swap charges all limits of a tenant or none.
//!
//! Whatever is at rest is left out when a row is written. That loses nothing, because the row keeps the latest moment it
//! was written at and judges by none that is earlier ([`Now::after`]): something left out was at rest at that moment, and is read as being so.
//!
//! A record in which only states of limits in shadow are not at rest gives way to one that has others: limits in shadow must not take away from other tenants the
//! place where what they used is kept. Then what its tenant used of limits in shadow is forgotten.

use crate::limit::{self, Clocks, Now, State, Used};

/// The first byte of a row. The names of the keys carry it too, so a module of another version has rows of its own.
pub const VERSION: u8 = 3;

/// States that a record has at most: those of the limits that the tenant has, whatever the route, and of limits that it had before a change of
/// configuration. Which are left out if it would have more: see [`Row::replace`].
pub const STATES_IN_RECORD: usize = 64;

/// Bytes of a row without records.
pub const HEADER: usize = 17;

/// Bytes of a record without states.
pub const RECORD_HEADER: usize = 5;

/// Bytes of a state.
pub const STATE: usize = 19;

/// The last bit of seven bytes: whether the limit was in shadow.
const SHADOW: u64 = 1 << 55;

/// The largest number in what is left of seven bytes. An interval is at most [`limit::LONGEST_REFILL`] and a count at most [`limit::LARGEST_QUOTA`], both less.
const LARGEST: u64 = SHADOW - 1;

/// A row that was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row<'a> {
    latest: Now,
    records: &'a [u8],
}

/// A row to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it has a record of the tenant that was not in the row before.
    pub new: bool,
    /// How many records of other tenants are left out, because they were at rest or gave way.
    pub gone: u32,
}

impl<'a> Row<'a> {
    /// Reads a row; `None` if these bytes are none. A state of a kind that is not known is read as no state.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, records) = bytes.split_at_checked(HEADER)?;
        let mut reader = Reader(header);
        if reader.byte()? != VERSION {
            return None;
        }
        let latest = Now {
            monotonic: reader.u64()?,
            utc: reader.u64()?,
        };
        let mut rest = records;
        while !rest.is_empty() {
            (_, rest) = Record::split(rest)?;
        }
        Some(Self { latest, records })
    }

    /// The row of a key of the shared data; of one that was never written, an empty one.
    pub fn of(value: Option<&'a [u8]>) -> Self {
        let Some(bytes) = value else {
            return Self::default();
        };
        Self::parse(bytes).unwrap_or_else(|| {
            // Nobody else writes these keys. As after a restart, everyone in this row starts at rest.
            log::error!(
                "{} bytes in shared data are not a row of records, starting anew",
                bytes.len()
            );
            Self::default()
        })
    }

    /// The latest moment at which the row was written.
    pub fn latest(&self) -> Now {
        self.latest
    }

    /// Which clocks the states in this row go by. All of them must be read, not only those of the limits that a request is judged by: a
    /// state of a limit that a new configuration no longer has would never be at rest on a clock that nobody reads, and keep its record for ever.
    pub fn clocks(&self) -> Clocks {
        self.records()
            .flat_map(Record::keys)
            .filter_map(|key| match key & limit::KIND {
                limit::RATE => Some(Clocks::MONOTONIC),
                _ => limit::window(key).map(|_| Clocks::UTC),
            })
            .fold(Clocks::default(), Clocks::and)
    }

    /// The record of a tenant.
    pub fn record(&self, id: u32) -> Option<Record<'a>> {
        self.records().find(|record| record.has_id(id))
    }

    /// Whether `capacity` records are in use and none of them gives way, so that there is no room for another one.
    pub fn is_full(&self, capacity: usize, now: Now) -> bool {
        let mut in_use = self.records().filter(|record| !record.gives_way(now));
        in_use.nth(capacity.saturating_sub(1)).is_some()
    }

    /// The row with these states in the record of a tenant, in all at most `capacity` records if others give way.
    ///
    /// Other states that the record had are kept while they are not at rest: those of limits that other routes have, and of limits
    /// of a former configuration, should they come back. Where that makes more than `most`, the ones that have not been charged for longest are left out. The
    /// limits that one tenant can meet in one configuration are fewer, so no client can make a limit forget it by going from route to route.
    pub fn replace(
        &self,
        id: u32,
        states: &[State],
        (capacity, most): (usize, usize),
        now: Now,
    ) -> Replacement {
        let own = self.record(id);
        let others = || self.records().filter(|record| !record.has_id(id));
        // Whether they are at rest matters only where all of them together are too many.
        let in_use = match others().count() {
            few if few < capacity => few,
            _ => others().filter(|record| !record.at_rest(now)).count(),
        };
        let mut too_many = (in_use + 1).saturating_sub(capacity);
        let most = most.max(states.len()).min(u8::MAX.into());
        let mut bytes =
            Vec::with_capacity(HEADER + self.records.len() + RECORD_HEADER + states.len() * STATE);
        bytes.push(VERSION);
        bytes.extend_from_slice(&now.monotonic.to_le_bytes());
        bytes.extend_from_slice(&now.utc.to_le_bytes());
        let mut gone = 0;
        // Those that have not been charged for longest come first.
        for record in others() {
            if record.at_rest(now) {
                gone += 1;
            } else if too_many > 0 && record.gives_way(now) {
                too_many -= 1;
                gone += 1;
            } else {
                bytes.extend_from_slice(record.bytes);
            }
        }
        bytes.extend_from_slice(&id.to_le_bytes());
        let count_at = bytes.len();
        bytes.push(0);
        let others = own.into_iter().flat_map(Record::states);
        let others = others.filter(|other| states.iter().all(|state| state.key != other.key));
        // What was charged last comes first, so the record is in this order.
        let all = states.iter().copied().chain(others);
        let mut count = 0_u8;
        for state in all.filter(|state| !state.used.at_rest(now)).take(most) {
            push(&mut bytes, state);
            count += 1;
        }
        if let Some(byte) = bytes.get_mut(count_at) {
            *byte = count;
        }
        Replacement {
            bytes,
            new: own.is_none(),
            gone,
        }
    }

    fn records(&self) -> impl Iterator<Item = Record<'a>> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let record;
            (record, rest) = Record::split(rest)?;
            Some(record)
        })
    }
}

/// What is remembered of one tenant.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// What was used of the limit with this key; `None` if it is at rest.
    pub fn used(self, key: u32) -> Option<Used> {
        self.state(key).map(|state| state.used)
    }

    /// The state of a limit.
    pub fn state(self, key: u32) -> Option<State> {
        let has_key = |state: &&[u8; STATE]| state.first_chunk() == Some(&key.to_le_bytes());
        self.each().iter().find(has_key).and_then(read)
    }

    /// The first record of these bytes, and what comes after it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let states = usize::from(*bytes.get(RECORD_HEADER - 1)?);
        let (bytes, after) = bytes.split_at_checked(RECORD_HEADER + states * STATE)?;
        Some((Self { bytes }, after))
    }

    fn has_id(self, id: u32) -> bool {
        self.bytes.first_chunk() == Some(&id.to_le_bytes())
    }

    fn states(self) -> impl Iterator<Item = State> + 'a {
        self.each().iter().filter_map(read)
    }

    /// The keys of all states, also of those of a kind that is not known.
    fn keys(self) -> impl Iterator<Item = u32> + 'a {
        let key = |state: &[u8; STATE]| state.first_chunk().map(|key| u32::from_le_bytes(*key));
        self.each().iter().filter_map(key)
    }

    fn each(self) -> &'a [[u8; STATE]] {
        let states = self.bytes.get(RECORD_HEADER..).unwrap_or_default();
        states.as_chunks().0
    }

    fn at_rest(self, now: Now) -> bool {
        self.states().all(|state| state.used.at_rest(now))
    }

    /// Whether nothing but limits in shadow would be forgotten with it.
    fn gives_way(self, now: Now) -> bool {
        self.states()
            .all(|state| state.shadow || state.used.at_rest(now))
    }
}

fn push(row: &mut Vec<u8>, state: State) {
    let (a, b) = match state.used {
        Used::Rate { arrival, interval } => (arrival, interval),
        Used::Quota { number, count, .. } => (number, count),
    };
    row.extend_from_slice(&state.key.to_le_bytes());
    row.extend_from_slice(&a.to_le_bytes());
    let b = b.min(LARGEST) | if state.shadow { SHADOW } else { 0 };
    if let Some(seven) = b.to_le_bytes().first_chunk::<7>() {
        row.extend_from_slice(seven);
    }
}

fn read(bytes: &[u8; STATE]) -> Option<State> {
    let mut reader = Reader(bytes);
    let key = reader.u32()?;
    let (a, b) = (reader.u64()?, reader.seven()?);
    let (b, shadow) = (b & LARGEST, b & SHADOW != 0);
    let used = if key & limit::KIND == limit::RATE {
        Used::Rate {
            arrival: a,
            interval: b,
        }
    } else {
        Used::Quota {
            window: limit::window(key)?,
            number: a,
            count: b,
        }
    };
    Some(State { key, used, shadow })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn seven(&mut self) -> Option<u64> {
        let [a, b, c, d, e, f, g] = self.take()?;
        Some(u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
    }
}
