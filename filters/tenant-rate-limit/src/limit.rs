//! One limit: what it allows, what it remembers of a tenant, and what it says about a request.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::calendar::Window;

/// A named limit of a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name in configuration, headers and metrics.
    pub name: String,
    /// What it allows.
    pub kind: Kind,
    /// Under which its state is found in a record; see [`Limit::new`].
    key: u32,
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

/// What a limit says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It would pass, and this is what to remember then.
    Pass {
        /// What to remember if the other limits let it pass too.
        state: State,
        /// The standing if they do.
        charged: Standing,
        /// The standing if they don't.
        uncharged: Standing,
    },
    /// It must wait.
    Wait {
        /// The standing, with less remaining than it costs.
        uncharged: Standing,
    },
    /// It costs more than ever passes at once.
    Never {
        /// The standing.
        uncharged: Standing,
    },
}

impl Limit {
    /// A limit. Its key is a hash of its name, its kind and, of a quota, the window: with any of these a
    /// limit becomes another one, while its numbers may change and it keeps what was used.
    pub fn new(name: &str, kind: Kind) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(name.as_bytes());
        hasher.write(match kind {
            Kind::Rate { .. } => b" rate".as_slice(),
            Kind::Quota { window, .. } => window.name().as_bytes(),
        });
        Self {
            name: name.to_owned(),
            kind,
            key: (hasher.finish() >> 32) as u32,
        }
    }

    /// Under which its state is found in a record.
    pub fn key(&self) -> u32 {
        self.key
    }

    /// What this limit says about a request that costs `cost` (at least 1) of a tenant, of whom it remembers `used` (`None`: at rest).
    ///
    /// What was used is a number of requests. Where an update changed the limit's numbers since, it is still
    /// the same number of requests, though at most what the limit now allows: raising a limit gives what was added to it and no more,
    /// lowering it takes away what was taken from it and no more.
    pub fn ask(&self, used: Option<Used>, cost: u64, now: Now) -> Opinion {
        match self.kind {
            Kind::Rate { interval, burst } => {
                let whole = burst.saturating_mul(interval);
                let backlog = match used {
                    Some(Used::Rate {
                        arrival,
                        interval: old,
                    }) => {
                        let left = arrival.saturating_sub(now.monotonic);
                        let left = if old == interval {
                            left
                        } else {
                            left.div_ceil(old.max(1)).saturating_mul(interval)
                        };
                        left.min(whole)
                    }
                    _ => 0,
                };
                let standing = |backlog: u64| {
                    let free = whole.saturating_sub(backlog);
                    let remaining = free / interval.max(1);
                    Standing {
                        remaining,
                        more_in: interval.saturating_sub(free % interval.max(1)),
                    }
                };
                let after = backlog.saturating_add(interval.saturating_mul(cost));
                if cost > burst {
                    Opinion::Never {
                        uncharged: standing(backlog),
                    }
                } else if after <= whole {
                    let used = Used::Rate {
                        arrival: now.monotonic.saturating_add(after),
                        interval,
                    };
                    Opinion::Pass {
                        state: State {
                            key: self.key,
                            used,
                        },
                        charged: standing(after),
                        uncharged: standing(backlog),
                    }
                } else {
                    Opinion::Wait {
                        uncharged: standing(backlog),
                    }
                }
            }
            Kind::Quota { quota, window } => {
                let current = window.number(now.utc);
                let (number, count) = match used {
                    Some(Used::Quota {
                        window: of,
                        number,
                        count,
                    }) if of == window && number == current => (number, count),
                    _ => (current, 0),
                };
                let more_in = window.end(number).saturating_sub(now.utc);
                let standing = |count: u64| Standing {
                    remaining: quota.saturating_sub(count),
                    more_in,
                };
                let after = count.saturating_add(cost);
                if cost > quota {
                    Opinion::Never {
                        uncharged: standing(count),
                    }
                } else if after <= quota {
                    let used = Used::Quota {
                        window,
                        number,
                        count: after,
                    };
                    Opinion::Pass {
                        state: State {
                            key: self.key,
                            used,
                        },
                        charged: standing(after),
                        uncharged: standing(count),
                    }
                } else {
                    Opinion::Wait {
                        uncharged: standing(count),
                    }
                }
            }
        }
    }
}
