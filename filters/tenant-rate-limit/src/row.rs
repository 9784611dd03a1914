//! The value of one key of the shared data: a row of records, each of them what all limits remember of one tenant.
//!
//! ```text
//! row    = version (1 byte)  latest moment (monotonic u64, utc u64)  record*
//! record = id u64  number of states (1 byte)  state*
//! state  = kind (1 byte)  key u32  two u64 of that kind
//! ```
//! All numbers are little-endian. A row is replaced as a whole, so one compare-and-swap charges all limits of a tenant or none.
//!
//! Whatever is at rest is left out when a row is written. That loses nothing, because the row keeps the latest moment it
//! was written at and judges by none that is earlier ([`Now::after`]): something left out was at rest at that moment, and is read as being so.

use crate::calendar::Window;
use crate::ledger::Limits;
use crate::limit::{Clocks, Now, Opinion, Standing, State, Used};

/// The first byte of a row. The names of the keys carry it too, so a module of another version has rows of its own.
pub const VERSION: u8 = 1;

/// States that a record has at most: those of a tier's limits, and of limits that it had before a change of configuration.
const STATES_IN_RECORD: usize = 32;

const HEADER: usize = 17;
const RECORD_HEADER: usize = 9;
const STATE: usize = 21;

const RATE: u8 = 0;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All limits let it pass. It is charged by replacing the row.
    Admit {
        /// The new row.
        row: Vec<u8>,
        /// How the tenant stands with each limit after it.
        standings: Vec<Standing>,
    },
    /// At least one limit does not. Nothing is charged.
    Refuse {
        /// How the tenant stands with each limit.
        standings: Vec<Standing>,
        /// Which limits refuse, as indices; never empty.
        by: Vec<usize>,
    },
    /// It costs more than at least one limit ever lets pass at once. Nothing is charged.
    TooCostly {
        /// How the tenant stands with each limit.
        standings: Vec<Standing>,
        /// Which limits refuse for ever, as indices; never empty.
        by: Vec<usize>,
    },
    /// The row has no record of this id, and all its records are in use.
    Full,
}

/// A row that was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row<'a> {
    latest: Now,
    records: &'a [u8],
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

    /// Which clocks the states in this row go by. All of them must be read, not only those of the limits that a request is judged by: a
    /// state of a limit that a new configuration no longer has would never be at rest on a clock that nobody reads, and keep its record for ever.
    pub fn clocks(&self) -> Clocks {
        self.records()
            .flat_map(Record::states)
            .map(|state| match state.used {
                Used::Rate { .. } => Clocks::MONOTONIC,
                Used::Quota { .. } => Clocks::UTC,
            })
            .fold(Clocks::default(), Clocks::and)
    }

    fn records(&self) -> impl Iterator<Item = Record<'a>> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let record;
            (record, rest) = Record::split(rest)?;
            Some(record)
        })
    }

    /// Judges a request of the tenant `id` that costs `cost` by all `limits`, in a row that holds up to `capacity` records.
    pub fn charge(
        &self,
        id: u64,
        capacity: usize,
        limits: Limits<'_>,
        cost: u64,
        now: Now,
    ) -> Verdict {
        let now = now.after(self.latest);
        let own = self.records().find(|record| record.has_id(id));
        let in_use = || self.records().filter(|record| !record.at_rest(now));
        if own.is_none() && in_use().nth(capacity.saturating_sub(1)).is_some() {
            return Verdict::Full;
        }

        let used = |key: u32| {
            own.and_then(|record| record.states().find(|state| state.key == key))
                .map(|state| state.used)
        };
        let opinions: Vec<Opinion> = limits
            .iter()
            .map(|limit| limit.ask(used(limit.key()), cost, now))
            .collect();
        let standings = || {
            let uncharged = opinions.iter().map(|opinion| match opinion {
                Opinion::Pass { uncharged, .. }
                | Opinion::Wait { uncharged }
                | Opinion::Never { uncharged } => *uncharged,
            });
            uncharged.collect()
        };
        let all = |wanted: fn(&Opinion) -> bool| -> Vec<usize> {
            let opinions = opinions.iter().enumerate();
            opinions
                .filter(|(_, opinion)| wanted(opinion))
                .map(|(index, _)| index)
                .collect()
        };
        let never = all(|opinion| matches!(opinion, Opinion::Never { .. }));
        if !never.is_empty() {
            return Verdict::TooCostly {
                standings: standings(),
                by: never,
            };
        }
        let waiting = all(|opinion| matches!(opinion, Opinion::Wait { .. }));
        if !waiting.is_empty() {
            return Verdict::Refuse {
                standings: standings(),
                by: waiting,
            };
        }

        let mut row = Vec::with_capacity(
            HEADER + self.records.len() + RECORD_HEADER + limits.iter().count() * STATE,
        );
        row.push(VERSION);
        row.extend_from_slice(&now.monotonic.to_le_bytes());
        row.extend_from_slice(&now.utc.to_le_bytes());
        for record in in_use().filter(|record| !record.has_id(id)) {
            row.extend_from_slice(record.bytes);
        }
        let charged = opinions.iter().filter_map(|opinion| match opinion {
            Opinion::Pass { state, .. } => Some(*state),
            Opinion::Wait { .. } | Opinion::Never { .. } => None,
        });
        // Limits that the tenant had under another configuration, should they come back.
        let other = own.into_iter().flat_map(Record::states);
        let other = other.filter(|state| {
            !state.used.at_rest(now) && !limits.iter().any(|limit| limit.key() == state.key)
        });
        let states: Vec<State> = charged.chain(other).take(STATES_IN_RECORD).collect();
        row.extend_from_slice(&id.to_le_bytes());
        row.push(states.len() as u8);
        for state in states {
            push(&mut row, state);
        }
        let standings = opinions.iter().filter_map(|opinion| match opinion {
            Opinion::Pass { charged, .. } => Some(*charged),
            Opinion::Wait { .. } | Opinion::Never { .. } => None,
        });
        Verdict::Admit {
            row,
            standings: standings.collect(),
        }
    }
}

#[derive(Clone, Copy)]
struct Record<'a> {
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of these bytes, and what comes after it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let states = usize::from(*bytes.get(RECORD_HEADER - 1)?);
        let (bytes, after) = bytes.split_at_checked(RECORD_HEADER + states * STATE)?;
        Some((Self { bytes }, after))
    }

    fn has_id(self, id: u64) -> bool {
        self.bytes.starts_with(&id.to_le_bytes())
    }

    fn states(self) -> impl Iterator<Item = State> + 'a {
        self.bytes
            .get(RECORD_HEADER..)
            .unwrap_or_default()
            .chunks_exact(STATE)
            .filter_map(read)
    }

    fn at_rest(self, now: Now) -> bool {
        self.states().all(|state| state.used.at_rest(now))
    }
}

fn push(row: &mut Vec<u8>, state: State) {
    let (kind, a, b) = match state.used {
        Used::Rate { arrival, interval } => (RATE, arrival, interval),
        Used::Quota {
            window,
            number,
            count,
        } => {
            let kind = match window {
                Window::Minute => 1,
                Window::Hour => 2,
                Window::Day => 3,
                Window::Month => 4,
            };
            (kind, number, count)
        }
    };
    row.push(kind);
    row.extend_from_slice(&state.key.to_le_bytes());
    row.extend_from_slice(&a.to_le_bytes());
    row.extend_from_slice(&b.to_le_bytes());
}

fn read(bytes: &[u8]) -> Option<State> {
    let mut reader = Reader(bytes);
    let kind = reader.byte()?;
    let key = reader.u32()?;
    let (a, b) = (reader.u64()?, reader.u64()?);
    let quota = |window| Used::Quota {
        window,
        number: a,
        count: b,
    };
    let used = match kind {
        RATE => Used::Rate {
            arrival: a,
            interval: b,
        },
        1 => quota(Window::Minute),
        2 => quota(Window::Hour),
        3 => quota(Window::Day),
        4 => quota(Window::Month),
        _ => return None,
    };
    Some(State { key, used })
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
}
