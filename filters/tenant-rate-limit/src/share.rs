//! Shares: how tenants share what the whole proxy lets pass, its *total*.
//!
//! # The total
//!
//! The total is a rate with a record of its own, and requests are charged to it like to any other ([`run`](crate::run)). So the proxy never admits more than it
//! allows, whatever the rest of this page does. The last part of its burst is a *reserve*, which is half of it, or what comes back in half a second if that is less. While the reserve
//! is whole, nothing is scarce, and everybody passes: one tenant may use up all that is not the reserve at once.
//!
//! # The level
//!
//! The reserve is shared by a *level*: how many requests a second each unit of weight may have, so a tenant of weight `w` has `w · level`. It is
//!
//! ```text
//! level = highest · e^(steepness · (free / reserve − 1))
//! ```
//!
//! A level that is too high lets more pass than comes back, so less of the reserve is free and the level falls; one that is too low does the opposite. It comes to rest
//! where as much passes as comes back, that is where `Σ min(demand, weight · level)` is the total: the weighted max-min allocation. Nobody measures demands
//! for that, nor is there a list of tenants, and it does not matter how many there are. A tenant that wants less than `weight · level` has all that it wants, and the rest of its
//! share is lent to the others by a level that is higher for it; when it wants more again, it need not ask for it back (see below), and the level falls.
//!
//! `highest` is twice what a tenant of the least weight needs to have the total alone, and with the `steepness` chosen in [`Total::new`] the level at the bottom is far
//! below that at which all tenants together have the total. So in between there is always a level that is right.
//!
//! # The clock
//!
//! What a level means for a tenant is GCRA on a clock of the proxy's own, which goes as fast as the level is high: on it, a tenant of weight `w` may
//! have a request each `1/w`, up to [`AHEAD`] seconds of the level ahead of the clock. All tenants go by the one clock. So at any moment, with `use` for how far a tenant's record is on that clock,
//!
//! - who is refused by the level has `use > clock + ahead`,
//! - who is admitted has `use ≤ clock + ahead`,
//!
//! and *no tenant is refused while another one passes that had more*, by weight, whether the level is right at that moment or not. A tenant that comes back after a pause is
//! at rest: it is served before everybody who waits, from the reserve, and need not wait for the level to fall.
//!
//! A tenant that had much while the level was high is far ahead when it falls. What it would have to wait for that is forgiven after [`FORGIVEN`] and the time in which what its last request
//! cost comes back at the new level: from then on it has its share. That is the one exception to what is said above about a moment.
//!
//! # What costs much
//!
//! All of this gives a tenant the right to pass, and not the room for a request that is larger than what is free of the reserve. For that a tenant [saves](savings), out of its share: what is
//! put aside does not count as free when the level is worked out. Requests up to an eighth of what is shared, which is the reserve or, where most of the burst is put aside, a quarter of it,
//! are not in want of that, and nothing is noted for them.
//!
//! # Whose shares
//!
//! Each listed tenant has a share by its weight. All others have one share together, by the weight of their tier: ids can be invented, and ten thousand of them must not get
//! ten thousand shares.
//!
//! # What a worker knows
//!
//! The record of the total says how far its burst is given out, and what the clock showed when. A worker reads it when it takes a run, and while requests are scarce
//! at least each [`REFRESH`]. What it lets pass of a tenant it may take from the tenant's record several at once, less than a sixteenth of what the tenant may
//! be ahead by, and for [`KEPT`] at most. So what is said above about a moment is true for what is known of it so much later, and up to so many requests.
//! A request that is refused writes nothing, unless it is large: then what its tenant saves for is written, and again only when that would not last as long as it is told to wait.

mod savings;

use std::collections::HashMap;

use tollgate_common::TenantId;
use tollgate_host::{Expected, Host, HostError};

use crate::ledger::Failure;
use crate::limit::{Kind, Limit, Mode, Now, Standing, Used};
use crate::run::{Judgement, Run};
use crate::share::savings::{Claim, Savings};
use crate::stock::Workers;
use crate::table::Table;

/// The name of the total in answers and metrics.
pub const NAME: &str = "total";

/// How much of the burst is the reserve: what comes back in so many nanoseconds, or [`FEWEST`] if that is more, but half of the burst at most.
const RESERVE: f64 = 0.5 * SECOND;

/// The fewest requests that a reserve has, if the burst is twice that.
const FEWEST: f64 = 16.0;

/// By how many seconds of its share a tenant may be ahead: how uneven its requests may come.
pub const AHEAD: f64 = 0.2;

/// After how many nanoseconds more than its last request takes of its present share a tenant passes that has been ahead by more, because its share was larger before.
pub const FORGIVEN: f64 = 0.3 * SECOND;

/// How long a worker goes by what it has read of the total while it is scarce, in nanoseconds.
pub const REFRESH: u64 = 5_000_000;

/// How long a worker keeps what it has taken of a tenant's share, in nanoseconds.
pub const KEPT: u64 = 50_000_000;

/// Which part of what is shared a request may cost and be a small one, that needs no savings.
const SMALL: f64 = 8.0;

/// Which part of the reserve is shared whatever is put aside.
const SQUEEZED: f64 = 4.0;

/// How often a record is tried while other workers write it.
const TRIES: usize = 100;

const SECOND: f64 = 1e9;

/// The longest that anybody is told to wait.
const LONGEST: f64 = 3_600.0 * SECOND;

/// What the whole proxy lets pass, and how it is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    limit: Limit,
    /// Nanoseconds in which one request comes back.
    interval: f64,
    burst: f64,
    /// How many requests of the burst are shared by level.
    reserve: f64,
    /// The level while the reserve is whole: requests a nanosecond and unit of weight.
    highest: f64,
    /// By how many powers of `e` it falls until nothing is.
    steepness: f64,
    /// The level at which all tenants together have the total: it is not lower for long.
    lowest: f64,
    /// The most that a record can be ahead of the clock. One that is further was written before the clock was lost.
    furthest: f64,
}

impl Total {
    /// A total of `burst` requests from rest and one for each `interval` nanoseconds, for tenants of whom the least weight is `lightest`, and all weights are `all` together.
    pub fn new(interval: u64, burst: u64, lightest: u64, all: u64) -> Self {
        let limit = Limit::new(NAME, Kind::Rate { interval, burst });
        let (lightest, all) = (lightest.max(1) as f64, all.max(1) as f64);
        let interval = interval.max(1) as f64;
        let burst = burst.max(1) as f64;
        let highest = 2.0 / (interval * lightest);
        Self {
            limit,
            interval,
            burst,
            reserve: (burst / 2.0).min((RESERVE / interval).max(FEWEST)),
            highest,
            lowest: 1.0 / (interval * all),
            // At the bottom all together have a fiftieth of the total or less.
            steepness: (100.0 * (all / lightest).max(1.0)).ln(),
            furthest: highest * AHEAD * SECOND + 2.0 * burst / lightest,
        }
    }

    /// The same total in another mode.
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self {
            limit: self.limit.in_mode(mode),
            ..self
        }
    }

    /// The total as a limit.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// The level where this part of the reserve is free, from 0 to 1.
    fn level(&self, free: f64) -> f64 {
        self.highest * (self.steepness * (free.clamp(0.0, 1.0) - 1.0)).exp()
    }

    /// What it says of a request for which there is not enough of it, as far as a worker knows.
    fn refusal(&self, run: &Run, cost: u64, now: Now) -> Option<Verdict> {
        let standing = || run.standing(now);
        match run.judge(cost, now) {
            Judgement::Never => Some(Verdict::Never(standing())),
            Judgement::Wait => {
                let standing = standing();
                let further = cost.saturating_sub(standing.remaining).saturating_sub(1);
                let more = (further as f64 * self.interval) as u64;
                Some(Verdict::Waits(Standing {
                    more_in: standing.more_in.saturating_add(more),
                    ..standing
                }))
            }
            Judgement::Held | Judgement::Short => None,
        }
    }

    /// The most that is put aside: a part of the reserve is always shared.
    fn most_saved(&self) -> f64 {
        self.burst - self.reserve / SQUEEZED
    }

    /// How many units are shared by level while so many are put aside: the reserve, or what is left of the burst.
    fn reserve(&self, kept: f64) -> f64 {
        self.reserve.min(self.burst - kept)
    }

    /// How many units were free at `at`, if all was given out until `arrival`.
    fn free(&self, arrival: u64, at: u64) -> f64 {
        let given = arrival.saturating_sub(at) as f64;
        self.burst - given / self.interval
    }

    /// By how many times the runs of this total are shorter than those of any other limit: together, workers hold no more than an eighth of the reserve.
    fn shorter(&self) -> u64 {
        (self.burst / (2.0 * self.reserve)).ceil() as u64
    }
}

/// Who takes part in the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party<'a> {
    /// A listed tenant; `None` is everybody else.
    pub tenant: Option<&'a TenantId>,
    /// Its weight.
    pub weight: u64,
}

/// What the record of the total remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The theoretical arrival time, and the interval with which it was written.
    arrival: u64,
    interval: u64,
    /// What the proxy's clock showed, in requests for each unit of weight.
    clock: f64,
    /// When, on the monotonic clock.
    at: u64,
    /// What tenants save of it for large requests.
    savings: Savings,
}

/// The first byte of a record of the total.
const VERSION: u8 = 1;

impl Pool {
    /// One at rest.
    fn new(total: &Total, now: Now) -> Self {
        Self {
            arrival: 0,
            interval: total.interval as u64,
            clock: 0.0,
            at: now.monotonic,
            savings: Savings::default(),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (arrival, rest) = rest.split_first_chunk::<8>()?;
        let (interval, rest) = rest.split_first_chunk::<8>()?;
        let (clock, rest) = rest.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let clock = f64::from_bits(u64::from_le_bytes(*clock));
        (*version == VERSION && clock.is_finite() && clock >= 0.0).then_some(Self {
            arrival: u64::from_le_bytes(*arrival),
            interval: u64::from_le_bytes(*interval),
            clock,
            at: u64::from_le_bytes(*at),
            savings: Savings::parse(rest)?,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(33);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.arrival.to_le_bytes());
        bytes.extend_from_slice(&self.interval.to_le_bytes());
        bytes.extend_from_slice(&self.clock.to_bits().to_le_bytes());
        bytes.extend_from_slice(&self.at.to_le_bytes());
        self.savings.write(&mut bytes);
        bytes
    }

    /// How the total stands at a moment, if nothing has been given out since.
    fn stand(&self, total: &Total, now: u64) -> Stand {
        let now = now.max(self.at);
        let elapsed = (now - self.at) as f64;
        // What is saved meanwhile counts from the end on. There is hardly any time in between while it matters.
        let kept = self.savings.kept(0.0, now, total.most_saved());
        let reserve = total.reserve(kept);
        let refill = reserve * total.interval;
        let then = (total.free(self.arrival, self.at) - kept) / reserve;
        let free = (total.free(self.arrival, now) - kept) / reserve;
        let (first, last) = (then.clamp(0.0, 1.0), free.clamp(0.0, 1.0));
        // What the level sums up to while it rises, and what it does while it does not, at the bottom or at the top.
        let rising = (last - first) * refill;
        let risen = (total.level(last) - total.level(first)) * refill / total.steepness.max(1.0);
        let flat = (elapsed - rising).max(0.0);
        let level = if last >= 1.0 { last } else { first };
        let by = risen + flat * total.level(level);
        let stand = Stand {
            free,
            level: total.level(last),
            clock: self.clock + by,
            kept,
        };
        if self.savings.is_empty() {
            return stand;
        }
        let kept = self.savings.kept(by, now, total.most_saved());
        let free = (total.free(self.arrival, now) - kept) / total.reserve(kept);
        Stand {
            free,
            level: total.level(free),
            kept,
            ..stand
        }
    }

    /// How a tenant stands that waits with a request of this cost and has this claim.
    fn told(
        &self,
        total: &Total,
        claim: &Claim,
        (weight, cost, standing): (u64, u64, Standing),
        now: Now,
    ) -> Standing {
        let stand = self.stand(total, now.monotonic);
        let longest = FORGIVEN + stand.lasts(total, savings::takes(cost, weight));
        let due = stand.lasts(total, claim.due - stand.clock);
        Standing {
            more_in: standing.more_in.min(longest as u64).max(due as u64),
            ..standing
        }
    }

    /// The same at that moment, to be written.
    fn at(&self, total: &Total, stand: Stand, now: Now) -> Self {
        let at = now.monotonic.max(self.at);
        let mut savings = self.savings.clone();
        savings.go_on(stand.clock - self.clock, at, total.most_saved());
        Self {
            clock: stand.clock,
            at,
            savings,
            ..*self
        }
    }
}

/// How the total stands.
#[derive(Clone, Copy, Debug)]
struct Stand {
    /// Which part of the reserve is free and not put aside, and more than 1 if there is more.
    free: f64,
    level: f64,
    clock: f64,
    /// Units that are put aside.
    kept: f64,
}

impl Stand {
    /// Whether shares matter.
    fn is_scarce(&self) -> bool {
        self.free < 1.0
    }

    /// Whether a request may want more room than the level leaves free, so that its tenant saves for it.
    fn is_large(&self, total: &Total, cost: u64) -> bool {
        cost > 1 && cost as f64 > self.small(total)
    }

    /// Whether a request of this cost is asked more than whether there is room for it.
    fn matters_to(&self, total: &Total, cost: u64) -> bool {
        self.is_scarce() || self.is_large(total, cost)
    }

    /// What a request may cost and be a small one.
    fn small(&self, total: &Total) -> f64 {
        total.reserve(self.kept) / SMALL
    }

    /// What a large request may cost that is not saved for: while nothing is scarce, whatever is not put aside.
    fn spare(&self, run: &Run, now: Now) -> f64 {
        match self.is_scarce() {
            true => 0.0,
            false => run.standing(now).remaining as f64 - self.kept,
        }
    }

    /// How far a tenant's record may be.
    fn mark(&self) -> f64 {
        self.clock + self.level * AHEAD * SECOND
    }

    /// In how many nanoseconds the clock goes on by so much, at this level or the one that is never undercut for long.
    fn lasts(&self, total: &Total, by: f64) -> f64 {
        let level = self.level.max(total.lowest);
        (by.max(0.0) / level).clamp(1.0, LONGEST)
    }

    /// What a tenant saves for with a request of this cost that will be due then. Who it is and what it has paid is for others to say.
    fn claim(&self, total: &Total, party: Party<'_>, cost: u64, due: f64, now: Now) -> Claim {
        let wait = self.lasts(total, due - self.clock);
        Claim {
            party: 0,
            weight: party.weight,
            cost,
            paid: due,
            due,
            until: savings::until(now.monotonic, wait as u64),
        }
    }

    /// How many nanoseconds a tenant waits at most, however far its record is: [`FORGIVEN`], and those in which what its last request cost comes back at this level.
    fn patience(&self, weight: u64, cost: u64) -> f64 {
        let share = (self.level * weight.max(1) as f64).max(f64::MIN_POSITIVE);
        FORGIVEN + cost.max(1) as f64 / share
    }
}

/// What a worker holds and knows of one tenant's share.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// How far its record was on the proxy's clock.
    arrival: f64,
    /// When the record was written, on the monotonic clock.
    written: u64,
    /// What the request cost for which it was.
    cost: u64,
    /// Requests that have been taken of it, and until when they can be spent.
    held: u64,
    until: u64,
    /// How many are taken next time.
    size: u64,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            arrival: 0.0,
            written: 0,
            cost: 0,
            held: 0,
            until: 0,
            size: 1,
        }
    }
}

/// What the total says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass, and is charged.
    Passes,
    /// It must wait, for so long at least.
    Waits(Standing),
    /// It costs more than the total ever lets pass at once.
    Never(Standing),
}

/// What a worker holds and knows of the total.
#[derive(Debug, Default)]
pub struct Shares {
    run: Option<Run>,
    pool: Option<Pool>,
    /// When the record was read.
    read: u64,
    /// What was held before the last request was charged, and how much of its cost its tenant's share paid: for [`give_back`](Self::give_back).
    before: Option<(Run, u64)>,
    /// Of tenants that are listed, and of everybody else.
    parties: HashMap<Option<TenantId>, Share>,
}

/// What is at hand when the total is asked.
#[derive(Debug)]
pub struct Asked<'a> {
    /// What it allows.
    pub total: &'a Total,
    /// Where records are.
    pub table: &'a Table,
    /// How many workers there are.
    pub workers: &'a mut Workers,
    /// How often another worker was faster.
    pub contended: &'a mut u32,
}

impl Shares {
    /// Forgets tenants, some of which a new configuration may not have any more.
    pub fn renew(&mut self) {
        self.parties.clear();
    }

    /// Takes back what a request was just charged that does not pass after all, because another worker was faster at its tenant's record.
    pub fn give_back(&mut self, tenant: Option<&TenantId>, cost: u64) {
        let Some((before, paid)) = self.before.take() else {
            return;
        };
        if let Some(run) = &mut self.run {
            run.give_back(cost, &before);
        }
        if let Some(share) = self.parties.get_mut(&tenant.copied()) {
            share.held = share.held.saturating_add(paid);
        }
    }

    /// Judges a request that costs `cost` (at least 1), and charges it to the total and to its tenant's share if it may pass.
    pub fn admit(
        &mut self,
        asked: &mut Asked<'_>,
        party: Party<'_>,
        cost: u64,
        now: Now,
        host: &mut dyn Host,
    ) -> Result<Verdict, Failure> {
        let total = asked.total;
        for _ in 0..TRIES {
            let mut run = self.run(total, now);
            let known = self.pool.as_ref().filter(|_| run.is_known());
            let mut stand = known.map(|pool| pool.stand(total, now.monotonic));
            let stale = now.monotonic.saturating_sub(self.read) >= REFRESH;
            let mut expected = None;
            if run.judge(cost, now) == Judgement::Short
                || stale && stand.is_none_or(|stand| stand.matters_to(total, cost))
            {
                let read = self.read(asked, &mut run, now, host)?;
                stand = Some(read.0);
                expected = Some(read.1);
            }
            let Some(stand) = stand else { continue };
            let large = stand.is_large(total, cost);
            match self.refusal(asked, (&run, stand), party, cost, now) {
                Some(Verdict::Waits(standing)) if large => {
                    return self.save(asked, party, (cost, standing), now, host);
                }
                Some(refusal) => return Ok(refusal),
                None => {}
            }
            let judgement = run.judge(cost, now);

            let mut share = self.share(party.tenant, now);
            let takes = stand.is_scarce() && share.held < cost;
            let mut record = None;
            if takes {
                // What is known only goes on.
                if !share.is_over(total, party.weight, stand, now) {
                    record = Some(share.read(asked, party, host)?);
                }
                if share.is_over(total, party.weight, stand, now) {
                    self.keep(party.tenant, share);
                    let standing = share.wait(party.weight, stand, now);
                    if large {
                        return self.save(asked, party, (cost, standing), now, host);
                    }
                    return Ok(Verdict::Waits(standing));
                }
            }
            let before = run;
            self.before = Some((run, if takes { cost } else { share.held.min(cost) }));
            if judgement == Judgement::Held {
                run.spend(cost);
                self.run = Some(run);
            } else if !self.draw(
                asked,
                run,
                (party, cost, &share),
                (stand, expected),
                now,
                host,
            )? {
                *asked.contended += 1;
                continue;
            }
            if takes {
                let most = party.weight as f64 * stand.level * AHEAD * SECOND;
                let most = most / asked.workers.known().saturating_mul(16) as f64;
                share.pace(most as u64, now);
                let taken = share.take(asked, party, stand, (cost, record), now, host);
                self.keep(party.tenant, share);
                if !matches!(taken, Ok(true))
                    && let Some(run) = &mut self.run
                {
                    run.give_back(cost, &before);
                }
                if !taken? {
                    // Other workers have taken what there was, just now.
                    return Ok(Verdict::Waits(share.wait(party.weight, stand, now)));
                }
            } else if let Some(share) = self.parties.get_mut(&party.tenant.copied()) {
                share.held = share.held.saturating_sub(cost);
            }
            return Ok(Verdict::Passes);
        }
        Err(Failure::Contended)
    }

    /// What [`admit`](Self::admit) would say of a request that it would refuse, without charging or writing anything; `None` if it may say something else. While the total is scarce
    /// it reads what that would read.
    pub fn foresee(
        &mut self,
        asked: &mut Asked<'_>,
        party: Party<'_>,
        cost: u64,
        now: Now,
        host: &dyn Host,
    ) -> Option<Verdict> {
        let total = asked.total;
        let mut run = self.run.filter(|run| run.is_of(total.limit()))?;
        run.settle(now);
        // Who has not read the record yet knows nothing.
        let mut stand = self.pool.as_ref()?.stand(total, now.monotonic);
        let stale = now.monotonic.saturating_sub(self.read) >= REFRESH;
        let short = run.judge(cost, now) == Judgement::Short;
        if stand.matters_to(total, cost) && (stale || short) {
            stand = self.read(asked, &mut run, now, host).ok()?.0;
        }
        let large = stand.is_large(total, cost);
        let standing = match self.refusal(asked, (&run, stand), party, cost, now) {
            Some(Verdict::Waits(standing)) => standing,
            Some(refusal) => return Some(refusal),
            None => {
                let mut share = self.share(party.tenant, now);
                if !stand.is_scarce() || share.held >= cost {
                    return None;
                }
                if !share.is_over(total, party.weight, stand, now) {
                    share.read(asked, party, host).ok()?;
                    self.keep(party.tenant, share);
                }
                if !share.is_over(total, party.weight, stand, now) {
                    return None;
                }
                share.wait(party.weight, stand, now)
            }
        };
        if large {
            // Whose claim is still to be written must be asked in earnest.
            return self
                .saved(asked, party, (cost, standing), now)
                .map(Verdict::Waits);
        }
        Some(Verdict::Waits(standing))
    }

    /// What is held of the total, if it is of this one, at `now`.
    fn run(&self, total: &Total, now: Now) -> Run {
        let limit = total.limit();
        let mut run = match self.run {
            Some(run) if run.is_of(limit) => run,
            _ => Run::of(limit),
        };
        run.settle(now);
        run
    }

    /// What the total says of a request for which there is not enough of it, or only what others save, as far as this worker knows.
    fn refusal(
        &self,
        asked: &Asked<'_>,
        (run, stand): (&Run, Stand),
        party: Party<'_>,
        cost: u64,
        now: Now,
    ) -> Option<Verdict> {
        let total = asked.total;
        if let Some(refusal) = total.refusal(run, cost, now) {
            return Some(refusal);
        }
        if !stand.is_large(total, cost) || cost as f64 <= stand.spare(run, now) {
            return None;
        }
        let savings = &self.pool.as_ref()?.savings;
        let request = (asked.table.share_number(party.tenant), party.weight, cost);
        let moment = (stand.clock, now.monotonic);
        let enough = (cost as f64).min(total.most_saved()) <= stand.kept + stand.small(total);
        if enough && savings.yield_to(request, moment) {
            return None;
        }
        Some(Verdict::Waits(Standing {
            remaining: 0,
            more_in: 1,
        }))
    }

    /// How a tenant stands that waits with a large request, if that has a claim already that lasts for as long as it is told to wait.
    fn saved(
        &self,
        asked: &Asked<'_>,
        party: Party<'_>,
        (cost, standing): (u64, Standing),
        now: Now,
    ) -> Option<Standing> {
        let pool = self.pool.as_ref()?;
        let claim = pool.savings.of(asked.table.share_number(party.tenant))?;
        let standing = pool.told(asked.total, claim, (party.weight, cost, standing), now);
        (claim.cost >= cost && claim.lasts(now.monotonic, standing.more_in)).then_some(standing)
    }

    /// Lets a tenant save for a large request that waits.
    fn save(
        &mut self,
        asked: &mut Asked<'_>,
        party: Party<'_>,
        (cost, standing): (u64, Standing),
        now: Now,
        host: &mut dyn Host,
    ) -> Result<Verdict, Failure> {
        let total = asked.total;
        for _ in 0..TRIES {
            if let Some(standing) = self.saved(asked, party, (cost, standing), now) {
                return Ok(Verdict::Waits(standing));
            }
            let mut run = self.run(total, now);
            let (stand, expected) = self.read(asked, &mut run, now, host)?;
            let mut share = self.share(party.tenant, now);
            share.read(asked, party, host)?;
            self.keep(party.tenant, share);
            let Some(pool) = &self.pool else { break };
            let mut pool = pool.at(total, stand, now);
            let fresh = stand.clock + savings::takes(cost, party.weight);
            let claim = stand.claim(total, party, cost, share.arrival.max(fresh), now);
            let claim = Claim {
                party: asked.table.share_number(party.tenant),
                paid: share.arrival,
                ..claim
            };
            if !pool.savings.claim(claim, stand.clock) {
                break;
            }
            // One that it had already may be for more, and due later.
            let mut told = standing;
            if let Some(own) = pool.savings.of(claim.party) {
                told = pool.told(total, own, (party.weight, cost, standing), now);
                let until = savings::until(now.monotonic, told.more_in);
                pool.savings.lasts_until(claim.party, until);
            }
            if host.set_shared(&asked.table.total_key(), &pool.bytes(), expected)? {
                self.pool = Some(pool);
                return Ok(Verdict::Waits(told));
            }
            *asked.contended += 1;
        }
        Ok(Verdict::Waits(standing))
    }

    fn share(&self, tenant: Option<&TenantId>, now: Now) -> Share {
        let share = self.parties.get(&tenant.copied());
        let mut share = share.copied().unwrap_or_default();
        if now.monotonic > share.until {
            share.held = 0;
        }
        share
    }

    fn keep(&mut self, tenant: Option<&TenantId>, share: Share) {
        self.parties.insert(tenant.copied(), share);
    }

    /// Reads the record of the total.
    fn read(
        &mut self,
        asked: &Asked<'_>,
        run: &mut Run,
        now: Now,
        host: &dyn Host,
    ) -> Result<(Stand, Expected), HostError> {
        let total = asked.total;
        let read = host.shared(&asked.table.total_key())?;
        let expected = read
            .as_ref()
            .map_or(Expected::Absent, |value| Expected::Version(value.version));
        let mut pool = match read {
            None => Pool::new(total, now),
            Some(value) => Pool::parse(&value.bytes).unwrap_or_else(|| {
                log::error!(
                    "{} bytes in shared data are not the total, starting anew",
                    value.bytes.len()
                );
                Pool::new(total, now)
            }),
        };
        let used = Used::Rate {
            arrival: pool.arrival,
            interval: pool.interval,
        };
        run.learn(total.limit().given(Some(used), now));
        if pool.interval != total.interval as u64 {
            pool = pool.with(run.state().used);
        }
        let stand = pool.stand(total, now.monotonic);
        self.pool = Some(pool);
        self.run = Some(*run);
        self.read = now.monotonic;
        Ok((stand, expected))
    }

    /// Takes what a request costs of the total, and a run if that is worth while. `false` if another worker was faster.
    fn draw(
        &mut self,
        asked: &mut Asked<'_>,
        mut run: Run,
        (party, cost, share): (Party<'_>, u64, &Share),
        (stand, expected): (Stand, Option<Expected>),
        now: Now,
        host: &mut dyn Host,
    ) -> Result<bool, HostError> {
        let (Some(expected), Some(pool)) = (expected, &self.pool) else {
            return Ok(false);
        };
        let mut pool = pool.at(asked.total, stand, now);
        if !pool.savings.is_empty() && stand.is_large(asked.total, cost) {
            let paid = share.charged(party.weight, stand, cost);
            let claim = Claim {
                party: asked.table.share_number(party.tenant),
                paid,
                ..stand.claim(asked.total, party, cost, paid, now)
            };
            let took = cost as f64 > stand.spare(&run, now);
            pool.savings.spend(claim, took, stand.clock);
        }
        let workers = if run.is_greedy(cost) {
            let key = || asked.table.workers_key();
            // While it is scarce, the level must be known better than that.
            let shorter = if stand.is_scarce() { 4 } else { 1 } * asked.total.shorter();
            asked.workers.count(key, host).saturating_mul(shorter)
        } else {
            1
        };
        run.draw(cost, workers, now);
        let pool = pool.with(run.state().used);
        let written = host.set_shared(&asked.table.total_key(), &pool.bytes(), expected)?;
        if written {
            self.pool = Some(pool);
            self.run = Some(run);
        }
        Ok(written)
    }
}

impl Share {
    /// Whether it is further ahead of the clock than it may be, as far as is known.
    fn is_over(&self, total: &Total, weight: u64, stand: Stand, now: Now) -> bool {
        let lost = self.arrival >= stand.clock + total.furthest;
        let waited = now.monotonic.saturating_sub(self.written) as f64;
        self.arrival > stand.mark() && !lost && waited < stand.patience(weight, self.cost)
    }

    /// Reads its record.
    fn read(
        &mut self,
        asked: &Asked<'_>,
        party: Party<'_>,
        host: &dyn Host,
    ) -> Result<Expected, HostError> {
        let read = host.shared(&asked.table.share_key(party.tenant))?;
        let expected = read
            .as_ref()
            .map_or(Expected::Absent, |value| Expected::Version(value.version));
        let record = read.as_ref().and_then(|value| {
            let (arrival, rest) = value.bytes.split_first_chunk::<8>()?;
            let (written, cost) = rest.split_first_chunk::<8>()?;
            let arrival = f64::from_bits(u64::from_le_bytes(*arrival));
            let written = u64::from_le_bytes(*written);
            let cost = u64::from_le_bytes(cost.try_into().ok()?);
            arrival.is_finite().then_some((arrival, written, cost))
        });
        (self.arrival, self.written, self.cost) = record.unwrap_or_default();
        Ok(expected)
    }

    /// How far its record is when so much is taken.
    fn charged(&self, weight: u64, stand: Stand, taken: u64) -> f64 {
        // What it was ahead by before the level fell is forgiven once it has waited.
        let from = self.arrival.max(stand.clock).min(stand.mark());
        from + savings::takes(taken, weight)
    }

    /// Adapts how much is taken at once: twice as much where what was taken last was spent before its time.
    fn pace(&mut self, most: u64, now: Now) {
        let size = if now.monotonic <= self.until {
            self.size.saturating_mul(2)
        } else {
            1
        };
        self.size = size.clamp(1, most.max(1));
    }

    /// Takes what a request costs, and more if its tenant is busy. `record` is what has just been read. `false` if other workers have taken what there was.
    fn take(
        &mut self,
        asked: &mut Asked<'_>,
        party: Party<'_>,
        stand: Stand,
        (cost, mut record): (u64, Option<Expected>),
        now: Now,
        host: &mut dyn Host,
    ) -> Result<bool, Failure> {
        let key = asked.table.share_key(party.tenant);
        let need = cost.saturating_sub(self.held);
        let taken = need.max(self.size);
        for _ in 0..TRIES {
            let expected = match record.take() {
                Some(expected) => expected,
                None => self.read(asked, party, host)?,
            };
            if self.is_over(asked.total, party.weight, stand, now) {
                return Ok(false);
            }
            let next = self.charged(party.weight, stand, taken);
            let record = [next.to_bits(), now.monotonic, cost].map(u64::to_le_bytes);
            if host.set_shared(&key, record.as_flattened(), expected)? {
                self.arrival = next;
                self.written = now.monotonic;
                self.cost = cost;
                self.held = taken - need;
                self.until = now.monotonic.saturating_add(KEPT);
                return Ok(true);
            }
            *asked.contended += 1;
        }
        Err(Failure::Contended)
    }

    /// How its tenant stands while it is over.
    fn wait(&self, weight: u64, stand: Stand, now: Now) -> Standing {
        let wait = (self.arrival - stand.mark()).max(0.0) / stand.level.max(f64::MIN_POSITIVE);
        let waited = now.monotonic.saturating_sub(self.written) as f64;
        let wait = wait.min(stand.patience(weight, self.cost) - waited);
        Standing {
            remaining: 0,
            // The level may rise or fall until then, so nobody can tell exactly, and an hour is long enough to look again.
            more_in: wait.clamp(1.0, LONGEST) as u64,
        }
    }
}

impl Pool {
    /// With what a run says that the record has to remember.
    fn with(self, used: Used) -> Self {
        match used {
            Used::Rate { arrival, interval } => Self {
                arrival,
                interval,
                ..self
            },
            Used::Quota { .. } => self,
        }
    }
}
