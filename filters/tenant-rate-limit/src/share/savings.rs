//! Savings: how a request finds room that is large beside what is free.
//!
//! A tenant within its share passes only if all that its request costs is in the total at that moment. The level comes to rest where a part of the reserve is free, and
//! who asks for more than that would never find it: the others, each within its share, use what comes back as it comes. A queue would let the large request wait at
//! its head until there is room, as schedulers of packets do. There is no queue here: a request is answered at once, and its client comes again.
//!
//! So a tenant that asks for much *saves*. Its request is refused, and a claim is noted in the record of the total. As long as it is there, `weight` units are put aside for each
//! unit that the proxy's clock goes on, which is what its share is at any level; and what has been put aside does not count as free when the level
//! is worked out. So the level comes to rest where all the others, and what is put aside, are together what comes back: the room is taken out of the saver's share
//! and nobody else's. It is there after `cost / (weight · level)`, the time in which what it asks for comes back at its share. That is also the time for which
//! it waits after it has passed, so it need not save and then pay: while it pays for one request, the next one's room is saved.
//!
//! # One purse
//!
//! What several tenants save goes into one purse, which holds no more than the largest claim: whoever passes takes out what it costs, and has it put back by its share while it
//! waits. So sixteen who each save the whole burst need the burst once and not sixteen times, and take turns. What is in the purse
//! is free to
//!
//! - a tenant whose claim is due: it has saved for as long as its request takes at its share;
//! - the tenant whose claim is due first of all, as soon as there is enough.
//!
//! Others take only what is not in the purse. So who comes with a large request does not overtake who has waited. A small request, up to an eighth of what is shared,
//! is not asked: the level alone holds it up.
//!
//! # Who stays away
//!
//! A claim lasts for twice the time for which its tenant is told to wait, which is what the most jitter makes of it, and two seconds; of one that has passed, likewise until the next is due. It costs
//! the others what is saved, once: a full purse takes no more, and what it has is theirs when the claim is gone.
//! There are at most [`MOST`]. If more tenants want one, those at rest take the places of those that still pay for what they have had, and else of who has been due longest, if that is for
//! longer than it saved: whose request is too large to pass at all would hold its place for ever.

/// The most claims that there are.
pub(super) const MOST: usize = 16;

/// How many bytes a claim has in a record.
const BYTES: usize = 48;

const SECOND: u64 = 1_000_000_000;

/// What is put aside, and for whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Savings {
    /// Units in the purse; less than none if somebody passed before it was full, which the claims put back first.
    purse: f64,
    claims: Vec<Claim>,
}

/// What a tenant saves for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Claim {
    /// Which tenant.
    pub(super) party: u64,
    pub(super) weight: u64,
    /// What its request costs, of several the most.
    pub(super) cost: u64,
    /// What the proxy's clock shows when what it has had is paid.
    pub(super) paid: f64,
    /// What it shows when this is saved.
    pub(super) due: f64,
    /// Until when it lasts, on the monotonic clock.
    pub(super) until: u64,
}

/// Until when a claim lasts whose tenant is told at `now` to wait for so many nanoseconds.
pub(super) fn until(now: u64, wait: u64) -> u64 {
    now.saturating_add(wait.saturating_add(SECOND).saturating_mul(2))
}

impl Claim {
    /// Whether it is there for somebody who is told at `now` to wait for so many nanoseconds. It need not be written anew for each of them.
    pub(super) fn lasts(&self, now: u64, wait: u64) -> bool {
        self.until.saturating_add(SECOND) >= until(now, wait)
    }
}

impl Savings {
    /// Reads what [`write`](Self::write) has written.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let Some((purse, claims)) = bytes.split_first_chunk::<8>() else {
            return bytes.is_empty().then(Self::default);
        };
        let (claims, rest) = claims.as_chunks::<BYTES>();
        let purse = f64::from_bits(u64::from_le_bytes(*purse));
        if !rest.is_empty() || claims.len() > MOST || !purse.is_finite() {
            return None;
        }
        let claim = |bytes: &[u8; BYTES]| {
            let (words, _) = bytes.as_chunks::<8>();
            let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
            let mut next = || words.next().unwrap_or_default();
            let claim = Claim {
                party: next(),
                weight: next(),
                cost: next(),
                paid: f64::from_bits(next()),
                due: f64::from_bits(next()),
                until: next(),
            };
            (claim.paid.is_finite() && claim.due.is_finite()).then_some(claim)
        };
        Some(Self {
            purse,
            claims: claims.iter().map(claim).collect::<Option<_>>()?,
        })
    }

    /// Writes them: nothing, if nobody saves.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        if self.claims.is_empty() {
            return;
        }
        bytes.extend_from_slice(&self.purse.to_bits().to_le_bytes());
        for claim in &self.claims {
            let words = [
                claim.party,
                claim.weight,
                claim.cost,
                claim.paid.to_bits(),
                claim.due.to_bits(),
                claim.until,
            ];
            bytes.extend_from_slice(words.map(u64::to_le_bytes).as_flattened());
        }
    }

    /// Whether nobody saves.
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// What is in the purse at `now`, when the proxy's clock has gone on by `by`, if no more than `limit` goes into it.
    pub(super) fn kept(&self, by: f64, now: u64, limit: f64) -> f64 {
        self.purse_at(by, now, limit).max(0.0)
    }

    fn purse_at(&self, by: f64, now: u64, limit: f64) -> f64 {
        let lasting = self.claims.iter().filter(|claim| claim.until >= now);
        let (weight, most) = lasting.fold((0, 0), |(weight, most), claim| {
            (claim.weight.saturating_add(weight), claim.cost.max(most))
        });
        if most == 0 {
            return 0.0;
        }
        let most = (most as f64).min(limit);
        (self.purse + weight as f64 * by).clamp(-most, most)
    }

    /// Goes on to `now`, by `by` on the proxy's clock.
    pub(super) fn go_on(&mut self, by: f64, now: u64, limit: f64) {
        self.purse = self.purse_at(by, now, limit);
        self.claims.retain(|claim| claim.until >= now);
    }

    /// What a tenant saves for.
    pub(super) fn of(&self, party: u64) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.party == party)
    }

    /// Whether a large request may take what is in the purse, if enough is when the proxy's clock shows `clock`.
    pub(super) fn yield_to(
        &self,
        (party, weight, cost): (u64, u64, u64),
        (clock, now): (f64, u64),
    ) -> bool {
        let own = self.of(party).filter(|claim| claim.until >= now);
        let due = match own {
            Some(claim) => claim.due,
            None => clock + takes(cost, weight),
        };
        let before = |claim: &Claim| claim.party != party && claim.until >= now && claim.due < due;
        due <= clock || !self.claims.iter().any(before)
    }

    /// Notes what a tenant that waits saves for. `false` if there is no place. Call [`go_on`](Self::go_on) first.
    pub(super) fn claim(&mut self, claim: Claim, clock: f64) -> bool {
        if let Some(own) = self.claims.iter_mut().find(|own| own.party == claim.party) {
            let more = claim.cost.saturating_sub(own.cost);
            *own = Claim {
                cost: claim.cost.max(own.cost),
                due: own.due + takes(more, claim.weight),
                until: claim.until.max(own.until),
                ..claim
            };
            return true;
        }
        if self.claims.len() < MOST {
            self.claims.push(claim);
            return true;
        }
        if claim.paid > clock {
            return false;
        }
        let pays = |claim: &&mut Claim| claim.paid > clock;
        let paying = self.claims.iter_mut().filter(pays);
        if let Some(last) = paying.max_by(|a, b| a.paid.total_cmp(&b.paid)) {
            *last = claim;
            return true;
        }
        let is_late = |claim: &&mut Claim| clock - claim.due > takes(claim.cost, claim.weight);
        let late = self.claims.iter_mut().filter(is_late);
        if let Some(first) = late.min_by(|a, b| a.due.total_cmp(&b.due)) {
            *first = claim;
            return true;
        }
        false
    }

    /// Lets a tenant's claim last until then, on the monotonic clock, if it would not anyway.
    pub(super) fn lasts_until(&mut self, party: u64, until: u64) {
        if let Some(own) = self.claims.iter_mut().find(|own| own.party == party) {
            own.until = own.until.max(until);
        }
    }

    /// Takes what a request cost that passes out of the purse, if its tenant has a claim or `took` of it. Its tenant saves for the next one like it. Call [`go_on`](Self::go_on) first.
    pub(super) fn spend(&mut self, claim: Claim, took: bool, clock: f64) {
        let own = self.claims.iter_mut().find(|own| own.party == claim.party);
        match own {
            Some(own) => {
                *own = Claim {
                    // A larger one still waits.
                    cost: claim.cost.max(own.cost),
                    due: claim.due.max(own.due),
                    until: claim.until.max(own.until),
                    ..claim
                }
            }
            None if took => {
                // Where there is no place for it, what it took is put back by the others.
                self.claim(claim, clock);
            }
            None => return,
        }
        self.purse -= claim.cost as f64;
    }
}

/// By how much the proxy's clock goes on while a tenant saves so much.
pub(super) fn takes(cost: u64, weight: u64) -> f64 {
    cost as f64 / weight.max(1) as f64
}
