//! Runs: what a worker takes of a limit at once, so that a busy tenant's requests rarely touch shared data.
//!
//! # A rate
//!
//! A rate with interval `T` and burst `B` is a row of *slots*, each for one unit of cost. A tenant's record says where the next free slot is: its theoretical
//! arrival time, or now if that has passed. Whoever takes a slot moves that time on by `T`, in a compare-and-swap. So the slots of a tenant are
//! all different and at least `T` apart, whoever took them and whatever became of them. With `τ = (B − 1)·T`, plain GCRA admits at the time `t`
//! what finds a slot `s` with `t ≤ s ≤ t + τ`.
//!
//! A worker may take several slots at once, a *run*, and spend each on a request later, at a time `t`, only while
//!
//! ```text
//! t − T ≤ s ≤ t + τ
//! ```
//!
//! That is all, and it is enough:
//!
//! - *Never too many.* What is admitted from `a` to `b` has slots in `[a − T, b + τ]`, no two of them nearer than `T`: at most
//!   `(b − a + τ + T)/T + 1 = (b − a)/T + B + 1`. Nothing in this asks who holds what, how many workers there are or whether one of them is gone. Without runs
//!   the slots are in `[a, b + τ]`, and it is one less.
//! - *Never too few.* A slot that nobody spends costs the tenant that slot and nothing else, and it does not outlast `s + T`. While a worker's run lasts it
//!   is spent before anything else. So what can be missing at any moment is what the other workers hold, less than a run each.
//! - *Reaching ahead.* Slots of a run may be after `t + τ`: they are spent when they are due. So a tenant at its limit has runs too. A worker takes some
//!   only if it can spend one now, so the arrival time is never further ahead than the burst and one run.
//!
//! # A quota
//!
//! A quota is `quota` units in each window, and a run is some of them, to be spent in that window only. Units that a worker holds when the window
//! ends are gone. Every unit is given out once, so there are never too many; what can be missing is again what the others hold.
//!
//! # How much at once
//!
//! A worker takes what a request needs, and more of it only for a busy tenant. All of this is about one tenant, one limit and one worker:
//!
//! - A run is at most a sixteenth of the burst or quota, divided by the number of workers. Below 32 with one worker, 64 with two and so on there are no runs: *small
//!   limits are exact*.
//! - It is at most as much as comes back in a second, or what remains divided by four and by the number of workers, whichever is more: what comes back slowly
//!   (a quota only in its next window) is given out unit by unit towards its end, and no worker waits for longer than a second for slots that another took ahead of their time.
//! - It is at most [`LONGEST`] of a quota: a run that is not spent is lost until the window ends.
//! - It starts at one, and doubles when within a second [`BUSY`] units were spent and two runs, provided that a run of a rate lasts for two
//!   requests: its slots pass by whether they are spent or not. Where it was not spent within a second, the next one is what was, or one if that is less than [`BUSY`].
//!
//! # What a worker knows
//!
//! A run also keeps how far the limit had been given out when the worker last saw the record. While the limit's numbers stay the same and its window lasts, that only
//! goes on. So a worker that knows that a request must wait need not look again: it refuses it without a call to the proxy but the clock. It never
//! admits by such knowledge.
//!
//! # What is settled
//!
//! A quota whose requests are settled by their responses ([`settle`](crate::settle)) has no runs, and what is given out of it does not only go on: some is given back. So a worker takes what a request
//! is estimated at, no more, and a refusal by such a quota is always one that the record has.

use crate::limit::{Kind, Limit, Now, Standing, State, Used, times};

/// The most units of a quota in a run.
pub const LONGEST: u64 = 1_024;

/// Units in a second from which on a tenant is busy.
pub const BUSY: u64 = 16;

const SECOND: u64 = 1_000_000_000;

/// What a worker holds and knows of one limit of one tenant.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    key: u32,
    kind: Kind,
    /// Whether the record has been seen, of a quota in this window.
    known: bool,
    /// Of a rate, the first slot held. Of a quota, the number of the window.
    first: u64,
    /// Slots or units held.
    held: u64,
    /// How far the limit was given out, these included, when the record was last seen; as [`Limit::given`]. It is not less now,
    /// so 0 until then and in a new window.
    given: u64,
    /// Units of the next run.
    size: u64,
    /// Since when units are counted, on the limit's clock.
    since: u64,
    /// How many have been spent since.
    spent: u64,
    /// Whether the limit is in shadow.
    shadow: bool,
    /// Of a limit that is settled, what any request counts for until then.
    estimate: Option<u64>,
}

/// What can be said about a request without looking at the record, or, once it has been looked at, at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// What is held is enough.
    Held,
    /// It is not, but as far as is known there is enough in the record.
    Short,
    /// There is not enough yet.
    Wait,
    /// It costs more than ever passes at once.
    Never,
}

impl Run {
    /// Nothing held and nothing known of a limit.
    pub fn of(limit: &Limit) -> Self {
        Self {
            key: limit.key(),
            kind: limit.kind,
            known: false,
            first: 0,
            held: 0,
            given: 0,
            size: 1,
            since: 0,
            spent: 0,
            shadow: false,
            estimate: limit.settled.as_ref().map(|settled| settled.estimate),
        }
    }

    /// Whether this is of that limit, with those numbers: of other numbers it says nothing.
    pub fn is_of(&self, limit: &Limit) -> bool {
        let estimate = limit.settled.as_ref().map(|settled| settled.estimate);
        self.key == limit.key() && self.kind == limit.kind && self.estimate == estimate
    }

    /// Whether requests are settled, so that what is known here may have been given back since.
    pub fn is_settled(&self) -> bool {
        self.estimate.is_some()
    }

    /// What a request that costs `cost` counts for here.
    fn cost(&self, cost: u64) -> u64 {
        self.estimate.unwrap_or(cost)
    }

    /// The limit's key.
    pub fn key(&self) -> u32 {
        self.key
    }

    /// Whether the record has been seen, so that a [`standing`](Self::standing) says something.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether the limit is in shadow.
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Says whether the limit is in shadow, which may be another thing in each configuration.
    pub fn set_shadow(&mut self, shadow: bool) {
        self.shadow = shadow;
    }

    /// Whether anything is held. Call [`settle`](Self::settle) first.
    pub fn holds(&self) -> bool {
        self.held > 0
    }

    /// Lets go of what can no longer be spent.
    pub fn settle(&mut self, now: Now) {
        match self.kind {
            Kind::Rate { interval, .. } => {
                let earliest = now.monotonic.saturating_sub(interval);
                if self.held > 0 && self.first < earliest {
                    let gone = (earliest - self.first).div_ceil(interval.max(1));
                    let gone = gone.min(self.held);
                    self.first = self.slot(gone);
                    self.held -= gone;
                }
            }
            Kind::Quota { window, .. } => {
                let number = window.number(now.utc);
                if self.first != number {
                    self.first = number;
                    self.held = 0;
                    self.given = 0;
                    self.known = false;
                }
            }
        }
    }

    /// Learns how far the record says that the limit has been given out.
    pub fn learn(&mut self, given: u64) {
        // A record that was lost with what is held here must not give it out again.
        self.given = match self.kind {
            Kind::Rate { .. } if self.held > 0 => given.max(self.slot(self.held)),
            Kind::Rate { .. } | Kind::Quota { .. } => given,
        };
        self.known = true;
    }

    /// Judges a request that costs `cost` (at least 1). Call [`settle`](Self::settle) first.
    pub fn judge(&self, cost: u64, now: Now) -> Judgement {
        let cost = self.cost(cost);
        if cost > self.kind.units() {
            return Judgement::Never;
        }
        let more = cost.saturating_sub(self.held);
        let enough = match self.kind {
            Kind::Rate { interval, .. } => {
                let last = match more {
                    0 => self.slot(cost - 1),
                    more => self.next(now).saturating_add(times(more - 1, interval)),
                };
                last <= self.due(now)
            }
            Kind::Quota { quota, .. } => more <= quota.saturating_sub(self.given),
        };
        match (enough, more) {
            (false, _) => Judgement::Wait,
            (true, 0) => Judgement::Held,
            (true, _) => Judgement::Short,
        }
    }

    /// How the tenant stands, as far as is known here. Call [`settle`](Self::settle) first.
    pub fn standing(&self, now: Now) -> Standing {
        match self.kind {
            Kind::Rate { interval, burst } => {
                let due = self.due(now);
                let until = |from: u64| match due.checked_sub(from) {
                    None => 0,
                    Some(time) => (time / interval.max(1)).saturating_add(1),
                };
                let held = match self.held {
                    0 => 0,
                    held => until(self.first).min(held),
                };
                let (remaining, next) = if held < self.held {
                    (held, self.slot(held))
                } else {
                    let next = self.next(now);
                    let free = until(next);
                    let after = next.saturating_add(times(free, interval));
                    (held.saturating_add(free), after)
                };
                Standing {
                    remaining: remaining.min(burst),
                    more_in: next.saturating_sub(due).max(1),
                }
            }
            Kind::Quota { quota, window } => Standing {
                remaining: quota.saturating_sub(self.given).saturating_add(self.held),
                more_in: window.end(self.first).saturating_sub(now.utc),
            },
        }
    }

    /// Spends what is held on a request that [`judge`](Self::judge) finds to be [`Judgement::Held`].
    pub fn spend(&mut self, cost: u64) {
        let cost = self.cost(cost);
        if let Kind::Rate { .. } = self.kind {
            self.first = self.slot(cost);
        }
        self.held = self.held.saturating_sub(cost);
        self.spent = self.spent.saturating_add(cost);
    }

    /// Spends what is held and what more is needed on a request that [`judge`](Self::judge) does not refuse, and takes a run if that is worth while. Afterwards
    /// [`state`](Self::state) is what the record has to say.
    pub fn draw(&mut self, cost: u64, workers: u64, now: Now) {
        let cost = self.cost(cost);
        let need = cost.saturating_sub(self.held);
        if need == 0 {
            self.spend(cost);
            return;
        }
        let take = if self.is_settled() {
            need
        } else {
            self.pace(workers, now);
            need.max(self.size.min(self.most(workers, now)))
        };
        match self.kind {
            Kind::Rate { interval, .. } => {
                let next = self.next(now);
                self.first = next.saturating_add(times(need, interval));
                self.given = next.saturating_add(times(take, interval));
            }
            Kind::Quota { .. } => self.given = self.given.saturating_add(take),
        }
        self.held = take - need;
        self.spent = self.spent.saturating_add(cost);
    }

    /// Takes back what has just been spent or drawn of a rate for a request that does not pass after all, and was held and known `before` that. Nothing of it is lost unless other
    /// slots are between those that were held then and those that were drawn: then only the latter are kept.
    pub fn give_back(&mut self, cost: u64, before: &Self) {
        let Kind::Rate { interval, .. } = self.kind else {
            return;
        };
        let drawn = cost.saturating_sub(before.held);
        let first_drawn = self.first.saturating_sub(times(drawn, interval));
        let in_a_row = drawn == 0 || before.held == 0 || before.slot(before.held) == first_drawn;
        let back = if in_a_row { cost } else { drawn };
        self.first = self.first.saturating_sub(times(back, interval));
        self.held = self.held.saturating_add(back);
        self.spent = self.spent.saturating_sub(cost);
    }

    /// Whether the next [`draw`](Self::draw) of this cost might take more than it needs, so that the number of workers matters.
    pub fn is_greedy(&self, cost: u64) -> bool {
        !self.is_settled() && cost > self.held && (self.size > 1 || self.spent >= BUSY)
    }

    /// What the record has to remember.
    pub fn state(&self) -> State {
        State {
            key: self.key,
            shadow: self.shadow,
            used: match self.kind {
                Kind::Rate { interval, .. } => Used::Rate {
                    arrival: self.given,
                    interval,
                },
                Kind::Quota { window, .. } => Used::Quota {
                    window,
                    number: self.first,
                    count: self.given,
                },
            },
        }
    }

    /// The slot that many places after the first one held.
    fn slot(&self, after: u64) -> u64 {
        let interval = match self.kind {
            Kind::Rate { interval, .. } => interval,
            Kind::Quota { .. } => 0,
        };
        self.first.saturating_add(times(after, interval))
    }

    /// The first slot that is not given out.
    fn next(&self, now: Now) -> u64 {
        self.given.max(now.monotonic)
    }

    /// The last moment of a slot that may be spent now.
    fn due(&self, now: Now) -> u64 {
        match self.kind {
            Kind::Rate { interval, burst } => now
                .monotonic
                .saturating_add(times(burst.saturating_sub(1), interval)),
            Kind::Quota { .. } => 0,
        }
    }

    /// A sixteenth of the whole, divided by the number of workers.
    fn share(&self, workers: u64) -> u64 {
        self.kind.units() / workers.max(1).saturating_mul(16)
    }

    /// The longest run that may be taken now.
    fn most(&self, workers: u64, now: Now) -> u64 {
        let remaining = self.standing(now).remaining / workers.max(1).saturating_mul(4);
        let most = match self.kind {
            Kind::Rate { interval, .. } => remaining.max(SECOND / interval.max(1)),
            Kind::Quota { .. } => remaining.min(LONGEST),
        };
        most.min(self.share(workers))
    }

    /// Adapts the size of the next run to how fast units are spent.
    fn pace(&mut self, workers: u64, now: Now) {
        let (now, lasts) = match self.kind {
            Kind::Rate { interval, .. } => (now.monotonic, times(self.share(workers), interval)),
            Kind::Quota { .. } => (now.utc, u64::MAX),
        };
        let elapsed = now.saturating_sub(self.since);
        let busy = BUSY.max(self.size.saturating_mul(2));
        if elapsed > SECOND {
            let in_a_second = self.spent / (elapsed / SECOND).max(1);
            self.size = match in_a_second {
                0..BUSY => 1,
                many => self.size.min(many),
            };
        } else if self.spent >= busy {
            // Two units at least in the time that the longest run lasts.
            if times(self.spent, lasts) / 2 >= elapsed {
                self.size = self.size.saturating_mul(2);
            }
        } else {
            return;
        }
        self.size = self.size.min(self.share(workers)).max(1);
        self.since = now;
        self.spent = 0;
    }
}
