//! Settling: limits on units that only the response knows, such as the tokens of a language model, rows or bytes.
//!
//! Such a limit is a quota. Whoever is admitted is charged what a request is *estimated* at; once the response tells what it was, the difference is charged or given back, by
//! a compare-and-swap on the same record.
//!
//! # Debt
//!
//! A difference is charged whatever remains, so the count of a window may go beyond the quota: the tenant is in *debt*, and all its requests wait for the next window. Somebody is admitted only
//! while count and estimate are within the quota, and after that only requests in flight can add to it, each at most `max − estimate`. So
//!
//! ```text
//! debt ≤ (max − estimate) × requests in flight
//! ```
//!
//! whatever number of workers there is: such a limit has no [runs](crate::run), so its record always says all that has been charged.
//!
//! # When the window has turned
//!
//! What comes after the end of the window in which its request was admitted finds a new one, and there it gives nothing back: that was never charged there. What is to be charged is charged
//! to the new window, however late it comes. Else requests that outlast a window would never cost more than the estimate. A debt ends with its window.
//!
//! # Whose record
//!
//! The one that was charged, also where that is the one that a tier's tenants share. It is found by the tenant's id in its row, as for any request. If it has gone from there, because
//! its window has ended, it is made anew as long as there is room; if there is none, nothing more is charged, which is counted. Nobody else's record is touched.

use tollgate_common::body::Pointer;
use tollgate_host::{Expected, Host};

use crate::calendar::Window;
use crate::ledger::{Clock, Failure, Ledger, TRIES};
use crate::limit::{Clocks, Kind, Limit, Now, Standing, State, Used};
use crate::row::Row;
use crate::table::Place;

/// The most that a request counts for in a limit that is settled.
pub const LARGEST: u64 = 1_000_000_000;

/// The most that what a response says is multiplied by.
pub const LARGEST_SCALE: u64 = 1_000_000_000;

/// What requests count for in a limit whose units only their responses tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What one is charged when it is admitted; at least 1.
    pub estimate: u64,
    /// The most that it counts for in the end, whatever the response says; at least the estimate.
    pub max: u64,
    /// Where the response says it.
    pub source: Source,
    /// What the number that it says is multiplied by, exactly.
    pub scale: u64,
    /// Whether clients do not see the header that says it.
    pub strip: bool,
    /// What counts if a response should have said it and did not.
    pub unsettled: Unsettled,
}

/// Where a response says what its request counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a header (in lower case).
    Header(String),
    /// In a trailer (in lower case).
    Trailer(String),
    /// In its body, if that is JSON, or a stream of events that are.
    Json(Pointer),
    /// It does not say it: it is the number of bytes of its body.
    Bytes,
}

/// What a request counts for whose response should have said it and did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsettled {
    /// The most: a client that hangs up before the end saves nothing by it.
    #[default]
    Max,
    /// What it was estimated at.
    Estimate,
}

impl Settled {
    /// What a request counts for of which nothing was learned.
    pub fn fallback(&self) -> u64 {
        match self.unsettled {
            Unsettled::Max => self.max,
            Unsettled::Estimate => self.estimate,
        }
    }
}

/// What is to be settled of a request, all of it in one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    place: Place,
    /// What was charged to which limits.
    pub owed: Vec<Owed>,
}

/// What a limit was charged for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The limit's index among all that the request met.
    pub limit: usize,
    key: u32,
    shadow: bool,
    quota: u64,
    window: Window,
    /// The number of the window.
    number: u64,
    charged: u64,
}

/// What a request counts for in a limit, now that it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// What it was charged.
    pub owed: Owed,
    /// What it counts for.
    pub actual: u64,
}

impl Owed {
    /// Whether the limit was in shadow when it was charged.
    pub fn in_shadow(&self) -> bool {
        self.shadow
    }

    /// What was charged to a limit of which the record now has this state; `None` if it is not settled.
    pub(crate) fn of(limit_index: usize, limit: &Limit, state: State) -> Option<Self> {
        let settled = limit.settled.as_ref()?;
        match (limit.kind, state.used) {
            (Kind::Quota { quota, .. }, Used::Quota { window, number, .. }) => Some(Self {
                limit: limit_index,
                key: state.key,
                shadow: state.shadow,
                quota,
                window,
                number,
                charged: settled.estimate,
            }),
            _ => None,
        }
    }
}

impl Receipt {
    /// Adds what was charged to the record at `place`.
    pub(crate) fn add(receipts: &mut Vec<Self>, place: &Place, owed: Vec<Owed>) {
        if owed.is_empty() {
            return;
        }
        match receipts.iter_mut().find(|receipt| receipt.place == *place) {
            Some(receipt) => receipt.owed.extend(owed),
            None => receipts.push(Self {
                place: place.clone(),
                owed,
            }),
        }
    }

    /// Takes out what can be settled now, as far as `actual` knows what it is.
    pub fn due(&mut self, mut actual: impl FnMut(&Owed) -> Option<u64>) -> Vec<Bill> {
        let mut due = Vec::new();
        self.owed.retain(|owed| match actual(owed) {
            Some(actual) => {
                due.push(Bill {
                    owed: *owed,
                    actual,
                });
                false
            }
            None => true,
        });
        due
    }
}

/// What became of bills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They are settled. How the tenant stands with each of these limits.
    Settled(Vec<Standing>),
    /// Nothing changed, because what was charged was right or cannot be given back any more.
    Unchanged,
    /// The record that was charged has gone, and there is no room for it: what is more than the estimate is not charged.
    Dropped,
}

impl Owed {
    /// What the limit was charged.
    pub fn charged(&self) -> u64 {
        self.charged
    }
}

impl Bill {
    /// How many units of the window at this moment have been used once this is settled, if `count` were before. The window is the same one for all.
    fn settle(&self, count: u64, now: Now) -> u64 {
        let Self { owed, actual } = self;
        if *actual >= owed.charged {
            count.saturating_add(actual - owed.charged)
        } else if owed.window.number(now.utc) == owed.number {
            count.saturating_sub(owed.charged - actual)
        } else {
            count
        }
    }
}

impl Ledger {
    /// Settles what was charged to the record of a receipt.
    pub fn settle(
        &self,
        receipt: &Receipt,
        bills: &[Bill],
        host: &mut dyn Host,
    ) -> Result<Outcome, Failure> {
        if bills.iter().all(|bill| bill.actual == bill.owed.charged) {
            return Ok(Outcome::Unchanged);
        }
        let Place {
            key,
            id,
            capacity,
            states: room,
        } = &receipt.place;
        let mut clock = Clock::default();
        for _ in 0..TRIES {
            let read = host.shared(key)?;
            let expected = read
                .as_ref()
                .map_or(Expected::Absent, |value| Expected::Version(value.version));
            let row = Row::of(read.as_ref().map(|value| value.bytes.as_slice()));
            let clocks = Clocks::UTC.and(row.clocks());
            let now = clock.now(clocks, host).after(row.latest());
            let record = row.record(*id);
            if record.is_none() && *capacity > 1 && row.is_full(*capacity, now) {
                return Ok(Outcome::Dropped);
            }
            let (mut states, mut standings) = (Vec::new(), Vec::new());
            let mut changes = false;
            for bill in bills {
                let Owed {
                    key,
                    shadow,
                    quota,
                    window,
                    ..
                } = bill.owed;
                let number = window.number(now.utc);
                let state = record.and_then(|record| record.state(key));
                let before = match state.map(|state| state.used) {
                    Some(Used::Quota {
                        number: of, count, ..
                    }) if of == number => count,
                    _ => 0,
                };
                // Its mode may have been changed meanwhile, and others have been charged since.
                let shadow = state.map_or(shadow, |state| state.shadow);
                let count = bill.settle(before, now);
                changes |= count != before;
                states.push(State {
                    key,
                    shadow,
                    used: Used::Quota {
                        window,
                        number,
                        count,
                    },
                });
                standings.push(Standing {
                    remaining: quota.saturating_sub(count),
                    more_in: window.end(number).saturating_sub(now.utc),
                });
            }
            if !changes {
                return Ok(Outcome::Unchanged);
            }
            let written = row.replace(*id, &states, (*capacity, *room), now);
            let replaced = host.set_shared(key, &written.bytes, expected)?;
            self.at_the_desk(|stocks| {
                if replaced {
                    stocks.effects.new_record |= written.new;
                    stocks.effects.gone_records += written.gone;
                } else {
                    stocks.effects.contended += 1;
                }
            });
            if replaced {
                return Ok(Outcome::Settled(standings));
            }
        }
        Err(Failure::Contended)
    }
}
