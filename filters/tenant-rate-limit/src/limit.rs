//! One limit: what it allows, what it remembers of a tenant, and what it says about a request.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use tollgate_common::TenantId;
use tollgate_common::hashed::in_share;

use crate::calendar::Window;
use crate::settle::Settled;

/// A named limit of a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name in configuration, headers and metrics.
    pub name: String,
    /// What it allows.
    pub kind: Kind,
    /// Whether it refuses anything.
    pub mode: Mode,
    /// If only the response tells what a request counts for in it, how that is found out.
    pub settled: Option<Settled>,
    /// Under which its state is found in a record; see [`Limit::new`].
    key: u32,
}

/// Whether a limit refuses what is too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Enforce,
    /// It is *in shadow*: it counts what passes and tells what it would have refused, and refuses it only to a share of all tenants.
    Shadow(Share),
}

/// A share of all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many of every `out_of` tenants.
    pub share: u64,
    /// See `share`.
    pub out_of: u64,
    /// What decides who they are.
    pub salt: String,
}

impl Mode {
    /// Whether the limit is enforced for all.
    pub fn is_enforce(&self) -> bool {
        *self == Self::Enforce
    }

    /// Whether it is in shadow for some tenants and enforced for others.
    pub fn is_by_tenant(&self) -> bool {
        matches!(self, Self::Shadow(share) if share.share > 0)
    }

    /// Whether the limit is in shadow for this tenant. Raised, a share keeps all whom it had.
    pub fn is_shadow(&self, tenant: &TenantId) -> bool {
        match self {
            Self::Enforce => false,
            Self::Shadow(Share {
                share,
                out_of,
                salt,
            }) => !in_share(salt, tenant.as_bytes(), *share, *out_of),
        }
    }
}

/// Some of at most 32 limits, by their indices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subset(u32);

impl Subset {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Those for which this holds.
    pub fn of<T>(all: impl IntoIterator<Item = T>, holds: impl Fn(T) -> bool) -> Self {
        let all = all.into_iter().take(32).enumerate();
        Self(all.fold(0, |bits, (index, one)| {
            bits | u32::from(holds(one)) << index
        }))
    }

    /// Whether an index is among them.
    pub fn has(self, index: usize) -> bool {
        index < 32 && self.0 >> index & 1 == 1
    }

    /// Whether it is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All others.
    #[must_use]
    pub fn others(self) -> Self {
        Self(!self.0)
    }

    /// These, and behind the first `count` limits those.
    #[must_use]
    pub fn and_behind(self, count: usize, those: Self) -> Self {
        let those = u32::try_from(count)
            .ok()
            .and_then(|count| those.0.checked_shl(count));
        Self(self.0 | those.unwrap_or(0))
    }
}

/// The kinds of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The generic cell rate algorithm: `burst` requests at once from rest, and one more for each `interval`.
    Rate {
        /// Nanoseconds in which one request comes back; at least [`SHORTEST_INTERVAL`].
        interval: u64,
        /// Requests from rest; `burst * interval` is at most [`LONGEST_REFILL`].
        burst: u64,
    },
    /// `quota` requests in each window.
    Quota {
        /// Requests in a window.
        quota: u64,
        /// The window.
        window: Window,
    },
}

/// The shortest interval between requests of a rate: 1,000,000 requests a second.
pub const SHORTEST_INTERVAL: u64 = 1_000;

/// The longest time in which a whole burst may come back, 366 days in nanoseconds: times stay far from the end of `u64`.
pub const LONGEST_REFILL: u64 = 366 * 86_400_000_000_000;

/// The largest quota.
pub const LARGEST_QUOTA: u64 = 1_000_000_000_000;

/// A moment, on both clocks that limits go by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds on the monotonic clock, which rates go by: whoever sets the wall clock neither gives nor takes requests. 0 if
    /// nothing goes by it.
    pub monotonic: u64,
    /// Nanoseconds since 1970, which quotas go by. 0 if nothing goes by it.
    pub utc: u64,
}

/// How far the wall clock may be set back without a window being counted anew, an hour in nanoseconds. What is set back further had
/// been wrong before: if it were not believed, a clock that was once years ahead for a second would keep tenants out for years.
pub const LARGEST_STEP_BACK: u64 = 3_600_000_000_000;

impl Now {
    /// This moment, as it is judged by after `latest` has been: the monotonic clock never goes back, and the wall clock not by a little.
    pub fn after(self, latest: Self) -> Self {
        let set_back = latest.utc.saturating_sub(self.utc) > LARGEST_STEP_BACK;
        Self {
            monotonic: self.monotonic.max(latest.monotonic),
            utc: if set_back && self.utc > 0 {
                self.utc
            } else {
                self.utc.max(latest.utc)
            },
        }
    }
}

/// Which of the two clocks are to be read: each is a host call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The one that rates go by.
    pub monotonic: bool,
    /// The one that quotas go by.
    pub utc: bool,
}

impl Clocks {
    /// The clock of rates alone.
    pub const MONOTONIC: Self = Self {
        monotonic: true,
        utc: false,
    };

    /// The clock of quotas alone.
    pub const UTC: Self = Self {
        monotonic: false,
        utc: true,
    };

    /// Those of these limits.
    pub fn of<'a>(limits: impl Iterator<Item = &'a Limit>) -> Self {
        limits
            .map(|limit| match limit.kind {
                Kind::Rate { .. } => Self::MONOTONIC,
                Kind::Quota { .. } => Self::UTC,
            })
            .fold(Self::default(), Self::and)
    }

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            monotonic: self.monotonic || other.monotonic,
            utc: self.utc || other.utc,
        }
    }
}

/// What one limit remembers of one tenant. It says by itself what it means, so that limits which a new configuration adds, removes or
/// renames never misread it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The limit's [`key`](Limit::key).
    pub key: u32,
    /// What was used.
    pub used: Used,
    /// Whether the limit was in shadow: then nothing is refused by this, and a record is not kept for its sake.
    pub shadow: bool,
}

/// What was used of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// Of a rate.
    Rate {
        /// The theoretical arrival time: when, on the monotonic clock, all that was used has come back.
        arrival: u64,
        /// The limit's interval when this was written: how many requests are still to come back is a matter of both.
        interval: u64,
    },
    /// Of a quota.
    Quota {
        /// Of which window.
        window: Window,
        /// Its number.
        number: u64,
        /// Requests in it.
        count: u64,
    },
}

impl Used {
    /// Whether forgetting this changes nothing from now on.
    pub fn at_rest(self, now: Now) -> bool {
        match self {
            Used::Rate { arrival, .. } => arrival <= now.monotonic,
            // Not that of a later window either: the clock that was there has been set back.
            Used::Quota { window, number, .. } => number != window.number(now.utc),
        }
    }
}

/// How a tenant stands with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests that would pass now.
    pub remaining: u64,
    /// Nanoseconds until one more than that would.
    pub more_in: u64,
}

impl Kind {
    /// The most that passes at once: the burst or the quota.
    pub fn units(self) -> u64 {
        match self {
            Kind::Rate { burst, .. } => burst,
            Kind::Quota { quota, .. } => quota,
        }
    }

    /// What the states of this kind have in the last bits of their keys.
    fn code(self) -> u32 {
        match self {
            Kind::Rate { .. } => RATE,
            Kind::Quota { window, .. } => match window {
                Window::Minute => 1,
                Window::Hour => 2,
                Window::Day => 3,
                Window::Month => 4,
            },
        }
    }
}

/// So many times a length of time, at most the largest number. A request asks that a dozen times, and WebAssembly has no multiplication that tells whether its result fits: it
/// takes a function for numbers of 128 bits, unless both are seen to be small.
pub(crate) fn times(count: u64, length: u64) -> u64 {
    if count.leading_zeros() + length.leading_zeros() >= u64::BITS {
        count.wrapping_mul(length)
    } else {
        count.saturating_mul(length)
    }
}

/// The bits of a key that say what kind of limit it is of.
pub const KIND: u32 = 7;

/// The [`KIND`] of a rate. That of a quota says its window.
pub const RATE: u32 = 0;

/// The window of a quota by the [`KIND`] of its key.
pub fn window(key: u32) -> Option<Window> {
    match key & KIND {
        1 => Some(Window::Minute),
        2 => Some(Window::Hour),
        3 => Some(Window::Day),
        4 => Some(Window::Month),
        _ => None,
    }
}

impl Limit {
    /// A limit. Its key is a hash of its name, its kind, of a quota the window, and whether it is settled: with any of these a
    /// limit becomes another one, while its numbers and its mode may change and it keeps what was used.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            mode: Mode::Enforce,
            settled: None,
            key: Self::hash(name, kind, false),
        }
    }

    fn hash(name: &str, kind: Kind, settled: bool) -> u32 {
        let mut hasher = SipHasher13::new();
        hasher.write(name.as_bytes());
        hasher.write(match kind {
            Kind::Rate { .. } => b" rate".as_slice(),
            Kind::Quota { window, .. } => window.name().as_bytes(),
        });
        if settled {
            hasher.write(b" settled");
        }
        (hasher.finish() >> 32) as u32 & !KIND | kind.code()
    }

    /// The same limit, with requests that are settled by their responses. What it counts is something else then, so it is another limit to records.
    #[must_use]
    pub fn settled_by(self, settled: Settled) -> Self {
        Self {
            key: Self::hash(&self.name, self.kind, true),
            settled: Some(settled),
            ..self
        }
    }

    /// What a request counts for when it is admitted; `cost` is what it counts for in limits that are not settled.
    pub fn cost(&self, cost: u64) -> u64 {
        self.settled
            .as_ref()
            .map_or(cost, |settled| settled.estimate)
    }

    /// The same limit in another mode.
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Under which its state is found in a record.
    pub fn key(&self) -> u32 {
        self.key
    }

    /// How far this limit has been given out to a tenant of whom its record remembers `used` (`None`: at rest): of a rate, the moment of
    /// the next slot, which is never before `now`; of a quota, the units of the current window.
    ///
    /// What was used is a number of requests. Where an update changed the limit's numbers since, it is still
    /// the same number of requests, though at most what the limit now allows: raising a limit gives what was added to it and no more,
    /// lowering it takes away what was taken from it and no more.
    pub fn given(&self, used: Option<Used>, now: Now) -> u64 {
        match (self.kind, used) {
            (
                Kind::Rate { interval, burst },
                Some(Used::Rate {
                    arrival,
                    interval: old,
                }),
            ) => {
                let left = arrival.saturating_sub(now.monotonic);
                let (left, most) = if old == interval {
                    // A run may reach into the future, by less than a sixteenth of the burst: see `run`.
                    (left, burst.saturating_add((burst / 16).saturating_sub(1)))
                } else {
                    (times(left.div_ceil(old.max(1)), interval), burst)
                };
                now.monotonic
                    .saturating_add(left.min(times(most, interval)))
            }
            (Kind::Rate { .. }, _) => now.monotonic,
            (
                Kind::Quota { window, .. },
                Some(Used::Quota {
                    window: of,
                    number,
                    count,
                }),
            ) if of == window && number == window.number(now.utc) => count,
            (Kind::Quota { .. }, _) => 0,
        }
    }
}
