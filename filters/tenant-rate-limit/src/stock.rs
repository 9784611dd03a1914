//! What a worker holds of the limits of tenants: in its VM, not in a plugin, because a new configuration makes a new plugin in the same VM, and
//! what was taken must not be lost with the old one.
//!
//! It is bounded, and no invented id can take anything away from others:
//!
//! - Each listed tenant has a place, and so has each tier's shared record.
//! - Those that are not listed have [`PLACES`] together, [`WAYS`] of which can be an id's. One that holds something keeps its place until that can no longer
//!   be spent: to give it to another would lose what the tenant was charged for. Who finds no place takes no runs, and is charged as exactly as everyone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tollgate_common::TenantId;
use tollgate_host::{Expected, Host};

use crate::ledger::{Decision, Effects, Limits};
use crate::limit::{Limit, Now, Standing};
use crate::run::{Judgement, Run};
use crate::settle::Receipt;
use crate::share::Shares;
use crate::table::Unlisted;

/// For how many tenants that are not listed a worker can hold something.
pub const PLACES: usize = 1_024;

/// How many of these places are an id's.
pub const WAYS: usize = 4;

/// For how many limits a worker holds something of one tenant. Those of a configuration are fewer.
const RUNS: usize = 64;

/// What a worker holds of one tenant's limits.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    runs: Vec<Run>,
    /// The latest moment at which this tenant was charged, as far as is known; see [`Now::after`].
    latest: Now,
    /// In which configuration it was last used.
    generation: u64,
}

impl Stock {
    /// The latest moment at which this tenant was charged, as far as is known.
    pub fn latest(&self) -> Now {
        self.latest
    }

    /// What is held of a limit; nothing if that is held with other numbers.
    pub fn run(&self, limit: &Limit) -> Run {
        let run = self.runs.iter().find(|run| run.is_of(limit));
        run.copied().unwrap_or_else(|| Run::of(limit))
    }

    /// Whether enough is held of all these limits.
    pub fn holds_all(&self, limits: Limits<'_>, cost: u64, now: Now) -> bool {
        let now = now.after(self.latest);
        limits.iter().all(|limit| {
            let mut run = self.run(limit);
            run.settle(now);
            run.is_known() && run.judge(cost, now) == Judgement::Held
        })
    }

    /// How the tenant stands with these limits, as far as is known here.
    pub fn standings(&self, limits: Limits<'_>, now: Now) -> Vec<Standing> {
        let now = now.after(self.latest);
        let runs = limits.iter().map(|limit| {
            let mut run = self.run(limit);
            run.settle(now);
            run.standing(now)
        });
        runs.collect()
    }

    /// What becomes of a request that all of these limits must let pass, if that can be said without a look at the record.
    pub fn decide(&mut self, limits: Limits<'_>, cost: u64, now: Now) -> Option<Decision> {
        let now = now.after(self.latest);
        let (mut short, mut refused, mut unsure) = (false, false, false);
        for limit in limits.iter() {
            let run = self.runs.iter_mut().find(|run| run.is_of(limit))?;
            run.set_shadow(false);
            run.settle(now);
            if !run.is_known() {
                // Another limit may refuse all the same, but the answer says how the tenant stands with this one too.
                return None;
            }
            match run.judge(cost, now) {
                Judgement::Held => {}
                Judgement::Short => short = true,
                Judgement::Wait if run.is_settled() => unsure = true,
                Judgement::Wait | Judgement::Never => refused = true,
            }
        }
        if unsure {
            return None;
        }
        if refused {
            return refusal(limits.iter().map(|limit| self.run(limit)), cost, now);
        }
        if short {
            return None;
        }
        let mut standings = Vec::with_capacity(limits.iter().count());
        for limit in limits.iter() {
            let run = self.runs.iter_mut().find(|run| run.is_of(limit))?;
            run.spend(cost);
            standings.push(run.standing(now));
        }
        self.latest = now;
        Some(Decision::Admitted { standings })
    }

    /// What limits in shadow, each by itself, would have done with a request that passes, if that can be said without a look at the record.
    pub fn watch(&mut self, limits: Limits<'_>, cost: u64, now: Now) -> Option<Decision> {
        let now = now.after(self.latest);
        for limit in limits.iter() {
            let run = self.runs.iter_mut().find(|run| run.is_of(limit))?;
            run.set_shadow(true);
            run.settle(now);
            if !run.is_known() || run.is_settled() || run.judge(cost, now) == Judgement::Short {
                return None;
            }
        }
        let (mut standings, mut by) = (Vec::new(), Vec::new());
        for (index, limit) in limits.iter().enumerate() {
            let run = self.runs.iter_mut().find(|run| run.is_of(limit))?;
            match run.judge(cost, now) {
                Judgement::Held => run.spend(cost),
                _ => by.push(index),
            }
            standings.push(run.standing(now));
        }
        self.latest = now;
        Some(Decision::each(standings, by))
    }

    /// The refusal of a request, if that can be said without a look at the record.
    pub fn foresee(&self, limits: Limits<'_>, cost: u64, now: Now) -> Option<Decision> {
        let now = now.after(self.latest);
        let mut runs = Vec::with_capacity(limits.iter().count());
        for limit in limits.iter() {
            let mut run = *self.runs.iter().find(|run| run.is_of(limit))?;
            run.settle(now);
            if !run.is_known() || run.is_settled() && run.judge(cost, now) == Judgement::Wait {
                return None;
            }
            runs.push(run);
        }
        refusal(runs.into_iter(), cost, now)
    }

    /// Whether something is known of all these limits.
    pub fn knows(&self, limits: Limits<'_>, now: Now) -> bool {
        let now = now.after(self.latest);
        limits.iter().all(|limit| {
            let mut run = self.run(limit);
            run.settle(now);
            run.is_known()
        })
    }

    /// Keeps what is now held and known.
    pub fn keep(&mut self, runs: &[Run], latest: Now) {
        self.latest = latest;
        for run in runs {
            match self.runs.iter_mut().find(|kept| kept.key() == run.key()) {
                Some(kept) => *kept = *run,
                None => {
                    // Only limits of former configurations can make this so many.
                    if self.runs.len() >= RUNS {
                        self.runs.remove(0);
                    }
                    self.runs.push(*run);
                }
            }
        }
    }

    /// Whether nothing is held or known but of limits in shadow.
    fn is_of_shadows(&self) -> bool {
        self.runs.iter().all(Run::is_shadow)
    }

    /// Whether something is held that can still be spent. What is held of limits in shadow does not count: no place is kept from
    /// another tenant for its sake.
    fn holds(&self, now: Now) -> bool {
        let now = now.after(self.latest);
        self.runs.iter().any(|run| {
            let mut run = *run;
            run.settle(now);
            run.holds() && !run.is_shadow()
        })
    }
}

/// The decision about a request that at least one of these limits refuses.
pub fn refusal(runs: impl Iterator<Item = Run> + Clone, cost: u64, now: Now) -> Option<Decision> {
    let by = |wanted| -> Vec<usize> {
        let judged = runs.clone().map(|run| run.judge(cost, now)).enumerate();
        judged
            .filter(|(_, judgement)| *judgement == wanted)
            .map(|(index, _)| index)
            .collect()
    };
    let standings = || runs.clone().map(|run| run.standing(now)).collect();
    let never = by(Judgement::Never);
    if !never.is_empty() {
        return Some(Decision::TooCostly {
            standings: standings(),
            by: never,
        });
    }
    let waiting = by(Judgement::Wait);
    if !waiting.is_empty() {
        return Some(Decision::Refused {
            standings: standings(),
            by: waiting,
        });
    }
    None
}

/// What a worker holds for one plugin.
#[derive(Debug, Default)]
pub struct Stocks {
    /// Of tenants.
    pub held: Held,
    /// How many workers the proxy has.
    pub workers: Workers,
    /// What charging did since somebody asked.
    pub effects: Effects,
    /// What is held of the total, and of tenants' shares of it.
    pub shares: Shares,
    /// What is to be settled of the request that was charged last.
    pub receipts: Vec<Receipt>,
}

/// What a worker holds of tenants.
#[derive(Debug, Default)]
pub struct Held {
    listed: HashMap<TenantId, Stock>,
    /// A list, because tiers are few.
    tiers: Vec<(String, Stock)>,
    /// Of tenants that are not listed.
    pub unlisted: UnlistedStocks,
    /// Counts configurations.
    generation: u64,
    individually: u64,
}

thread_local! {
    /// What this VM holds, by the VM (Envoy's modules see only their own) and the plugin's name.
    static STOCKS: RefCell<Vec<(u64, String, SharedStocks)>> = const { RefCell::new(Vec::new()) };
}

/// What a worker holds for one plugin, whichever configuration it has.
pub type SharedStocks = Rc<RefCell<Stocks>>;

impl Stocks {
    /// What this VM holds for the plugin of this name, which has a new configuration now.
    pub fn of(plugin: &str, individually: u64, host: &dyn Host) -> SharedStocks {
        let vm = host.vm();
        let stocks = STOCKS.with_borrow_mut(|all| {
            let known = all.iter().find(|(of, name, _)| *of == vm && name == plugin);
            if let Some((_, _, stocks)) = known {
                return stocks.clone();
            }
            let stocks = SharedStocks::default();
            all.push((vm, plugin.to_owned(), stocks.clone()));
            stocks
        });
        if let Ok(mut stocks) = stocks.try_borrow_mut() {
            stocks.held.renew(individually);
            stocks.shares.renew();
        }
        stocks
    }
}

impl Held {
    /// Lets go of whom the last configuration did not meet once, and of tenants whose records are elsewhere from now on.
    fn renew(&mut self, individually: u64) {
        let last = self.generation;
        self.generation = last + 1;
        self.listed.retain(|_, stock| stock.generation >= last);
        self.tiers.retain(|(_, stock)| stock.generation >= last);
        if self.individually != individually {
            self.individually = individually;
            self.unlisted = UnlistedStocks::default();
        }
    }

    /// Of a listed tenant.
    pub fn listed(&mut self, tenant: &TenantId) -> &mut Stock {
        let stock = self.listed.entry(*tenant).or_default();
        stock.generation = self.generation;
        stock
    }

    /// Of a tier's shared record. There always is one: `None` only saves an assertion.
    pub fn tier(&mut self, tier: &str) -> Option<&mut Stock> {
        let known = self.tiers.iter().position(|(name, _)| name == tier);
        let index = known.unwrap_or_else(|| {
            self.tiers.push((tier.to_owned(), Stock::default()));
            self.tiers.len() - 1
        });
        let (_, stock) = self.tiers.get_mut(index)?;
        stock.generation = self.generation;
        Some(stock)
    }
}

/// What is held of tenants that are not listed, in a fixed number of places.
#[derive(Debug, Default)]
pub struct UnlistedStocks {
    /// None until the first is needed.
    places: Vec<Option<Place>>,
    /// Counts uses, to know which was longest ago.
    uses: u64,
}

#[derive(Clone, Debug)]
struct Place {
    tenant: Unlisted,
    used: u64,
    stock: Stock,
}

impl UnlistedStocks {
    /// The places that can be this tenant's.
    fn ways(&mut self, tenant: Unlisted) -> &mut [Option<Place>] {
        if self.places.is_empty() {
            self.places.resize(PLACES, None);
        }
        let first = tenant.number() as usize % (PLACES / WAYS) * WAYS;
        self.places.get_mut(first..first + WAYS).unwrap_or_default()
    }

    /// What is held of a tenant, if anything is.
    pub fn find(&mut self, tenant: Unlisted) -> Option<&mut Stock> {
        self.uses += 1;
        let uses = self.uses;
        let place = self.ways(tenant).iter_mut().flatten();
        let place = place.into_iter().find(|place| place.tenant == tenant)?;
        place.used = uses;
        Some(&mut place.stock)
    }

    /// Keeps what is held of a tenant of whom nothing was, where there is nothing but of limits in shadow, else where nothing is held and nobody was for longest.
    /// What is of limits in shadow itself drives out nothing else.
    pub fn keep(&mut self, tenant: Unlisted, stock: Stock, now: Now) -> bool {
        let used = self.uses;
        let of_shadows = |place: &Place| place.stock.is_of_shadows();
        let modest = stock.is_of_shadows();
        let free = self
            .ways(tenant)
            .iter_mut()
            .filter(|place| {
                let free = |place: &Place| of_shadows(place) || !modest && !place.stock.holds(now);
                place.as_ref().is_none_or(free)
            })
            .min_by_key(|place| {
                let place = place.as_ref();
                place.map(|place| (!of_shadows(place), place.used))
            });
        match free {
            Some(place) => {
                *place = Some(Place {
                    tenant,
                    used,
                    stock,
                });
                true
            }
            None => false,
        }
    }
}

/// How many workers the proxy has: VMs that have charged a request. The VM of the main thread never does.
#[derive(Debug, Default)]
pub struct Workers {
    /// `None` until this VM has counted itself.
    count: Option<u32>,
    asked: u32,
}

/// How often a VM tries to count itself while others do, before it leaves that to its next request.
const TRIES: usize = 16;

impl Workers {
    /// Counts this VM, if it has not been. Whether that works does not matter to the request that it is done for: until
    /// then, this worker takes no runs. A VM that died stays counted, and runs are shorter than they might be.
    pub fn register(&mut self, key: impl Fn() -> Vec<u8>, host: &mut dyn Host) {
        if self.count.is_some() {
            return;
        }
        let key = key();
        for _ in 0..TRIES {
            let Ok(read) = host.shared(&key) else {
                return;
            };
            let expected = read
                .as_ref()
                .map_or(Expected::Absent, |read| Expected::Version(read.version));
            let others = read.map_or(0, |read| parse_count(&read.bytes));
            let count = others.saturating_add(1);
            match host.set_shared(&key, &count.to_le_bytes(), expected) {
                Ok(true) => {
                    self.count = Some(count);
                    return;
                }
                Ok(false) => {}
                Err(_) => return,
            }
        }
    }

    /// How many there are, as far as is known without asking. Before this VM has counted itself, there might be any number.
    pub fn known(&self) -> u64 {
        self.count.map_or(u64::MAX, u64::from)
    }

    /// How many there are, as of not long ago: asked for often while they begin to work, then now and then. A worker that is not
    /// counted yet makes others' runs too long for a moment, which can keep something back from it and never admits too much.
    pub fn count(&mut self, key: impl Fn() -> Vec<u8>, host: &dyn Host) -> u64 {
        let Some(count) = self.count else {
            return u64::MAX;
        };
        self.asked = self.asked.wrapping_add(1);
        let due = self.asked.is_power_of_two() || self.asked.is_multiple_of(32);
        if due && let Ok(Some(read)) = host.shared(&key()) {
            self.count = Some(parse_count(&read.bytes).max(count));
        }
        self.count.map_or(u64::MAX, u64::from)
    }
}

/// The number of workers in these bytes; nothing else is ever written there.
fn parse_count(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}
