//! The ledger: what tenants have used, in the proxy's shared data, and requests charged to it.
//!
//! It and [`stock`] are the only parts of the core that call the proxy, and only for shared data, clocks and a seed.
//!
//! A request is first judged by what this worker holds and knows of its tenant ([`run`](crate::run)): most requests of a busy tenant are admitted, and most that
//! are refused refused, with no call but those for the clocks. Any other reads the tenant's record, and if all limits let it pass, replaces it.

use std::cell::RefCell;
use std::rc::Rc;

use tollgate_common::TenantId;
use tollgate_host::{Expected, Host, HostError};

use crate::limit::{Clocks, Limit, Now, Standing, State, Subset};
use crate::row::Row;
use crate::run::{Judgement, Run};
use crate::settle::{Owed, Receipt};
use crate::share::{Asked, Party, Shares, Total, Verdict};
use crate::stock::{self, Held, Stock, Stocks, Workers};
use crate::table::{Place, Seed, Table};

/// How often a charge is tried while other workers charge the same row. Each failure means that another worker admitted a request of
/// it; a refused one writes nothing. So a flood gets nobody here, only limits that let hundreds of thousands of requests a second pass
/// through very many workers could. Such a request is answered with 503: nothing passes uncharged.
pub(crate) const TRIES: usize = 100;

/// The ledger of one plugin.
#[derive(Clone, Debug)]
pub struct Ledger {
    table: Table,
    stocks: Rc<RefCell<Stocks>>,
}

/// What charging did beside its decisions: what metrics are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// How often another worker was faster, so that a record had to be read again.
    pub contended: u32,
    /// Whether a tenant's row was full, so that its tier's shared record was charged.
    pub shared_record: bool,
    /// Whether a tenant has a record that had none.
    pub new_record: bool,
    /// How many records were given up because they were at rest. All new ones less all of these is how many there are.
    pub gone_records: u32,
}

/// Whose record a request is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account<'a> {
    /// A tenant that the configuration lists: it has a record of its own, always.
    Listed(&'a TenantId),
    /// Any other: it has a record of its own while there is room, else that of its tier.
    Unlisted {
        /// Who it is.
        id: &'a TenantId,
        /// The name of its tier.
        tier: &'a str,
    },
}

/// The limits that a request has to pass: those of its tenant, then those of its route.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// Of the tenant.
    pub tenant: &'a [Limit],
    /// Of the route.
    pub route: &'a [Limit],
    /// Those of them that are left out, by their indices in both together.
    pub without: Subset,
    /// What the whole proxy lets pass, if there is such a limit, and the tenant's weight in it.
    pub total: Option<Weighed<'a>>,
}

/// A total, and the weight of a tenant in it.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'a> {
    /// The total.
    pub total: &'a Total,
    /// The weight.
    pub weight: u64,
}

impl<'a> Account<'a> {
    /// The tenant, if it is listed.
    fn listed(self) -> Option<&'a TenantId> {
        match self {
            Self::Listed(id) => Some(id),
            Self::Unlisted { .. } => None,
        }
    }
}

impl<'a> Limits<'a> {
    /// All that are not left out, in the order of a decision's standings.
    pub fn iter(self) -> impl Iterator<Item = &'a Limit> + Clone {
        let all = self.tenant.iter().chain(self.route).enumerate();
        all.filter(move |(index, _)| !self.without.has(*index))
            .map(|(_, limit)| limit)
    }

    /// The index of a limit among all, also those that are left out, by that into a decision's standings. One behind all of them, as limits on requests in flight
    /// have, stays as it is.
    pub fn place(self, index: usize) -> usize {
        if index >= self.tenant.len() + self.route.len() {
            return index;
        }
        let mut left = (0..).filter(|place| !self.without.has(*place));
        left.nth(index).unwrap_or(index)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The clocks that they go by.
    pub fn clocks(self) -> Clocks {
        let clocks = Clocks::of(self.iter());
        match self.total {
            Some(_) => clocks.and(Clocks::MONOTONIC),
            None => clocks,
        }
    }

    /// The limit of an index into a decision's standings.
    pub fn get(self, index: usize) -> Option<&'a Limit> {
        self.iter().nth(index)
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All limits let it pass, and it is charged.
    Admitted {
        /// How the tenant stands with each limit after it.
        standings: Vec<Standing>,
    },
    /// At least one limit does not, and nothing is charged.
    Refused {
        /// How the tenant stands with each limit.
        standings: Vec<Standing>,
        /// Which limits refuse, as indices; never empty.
        by: Vec<usize>,
    },
    /// All limits would let it pass, but of what the whole proxy lets pass nothing is left for its tenant, and nothing is charged.
    Scarce {
        /// How the tenant stands with each limit.
        standings: Vec<Standing>,
        /// How it stands with the total.
        total: Standing,
        /// Whether it costs more than the total ever lets pass at once.
        never: bool,
    },
    /// It costs more than these limits (indices, never empty) ever let pass at once: to come back later is of no use. Nothing is charged.
    TooCostly {
        /// How the tenant stands with each limit.
        standings: Vec<Standing>,
        /// Which limits refuse, as indices; never empty.
        by: Vec<usize>,
    },
}

impl Decision {
    /// What limits say of a request that each of them judged by itself; `by` are those that refuse it.
    pub(crate) fn each(standings: Vec<Standing>, by: Vec<usize>) -> Self {
        match by.as_slice() {
            [] => Self::Admitted { standings },
            _ => Self::Refused { standings, by },
        }
    }
}

/// What limits in shadow have to say of a request that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Those of its tenant and its route.
    pub limits: Decision,
    /// The total, if that is in shadow.
    pub total: Verdict,
}

/// Why a request could not be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Shared data does not work.
    Proxy(HostError),
    /// Other workers were faster each time.
    Contended,
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Proxy(error)
    }
}

impl Ledger {
    /// The ledger of the plugin of this name, with records for `individually` tenants that are not listed.
    pub fn open(plugin: &str, individually: u64, host: &mut dyn Host) -> Result<Self, HostError> {
        let seed = agree_on_seed(plugin, host)?;
        Ok(Self {
            table: Table::new(plugin, individually, seed),
            stocks: Stocks::of(plugin, individually, host),
        })
    }

    /// Charges a request that costs `cost` (at least 1) to an account, to all limits or to none.
    pub fn charge(
        &self,
        account: Account<'_>,
        limits: Limits<'_>,
        cost: u64,
        host: &mut dyn Host,
    ) -> Result<Decision, Failure> {
        let charge = self.charge_of(limits, cost, Rule::All);
        self.at_the_desk(|stocks| {
            stocks.receipts.clear();
            charge.to_account(account, stocks, &mut Clock::default(), host)
        })
    }

    /// The same, and then shows a request that is admitted to limits in shadow. They change nothing of what becomes of it.
    ///
    /// Each of them, and the total if that is in shadow, is asked by itself, after all that are enforced: if it lets the request pass it is charged, and if not it would have refused
    /// it ([`Decision::Refused`], whatever the reason) and is not charged. So what it counts and tells is what it would if it alone was enforced, behind
    /// those that are. `None` if nobody was asked: the request is refused, or what limits in shadow have to say cannot be found out.
    pub fn charge_and_watch(
        &self,
        account: Account<'_>,
        enforced: Limits<'_>,
        shadow: Limits<'_>,
        cost: u64,
        host: &mut dyn Host,
    ) -> Result<(Decision, Option<Watched>), Failure> {
        let charge = self.charge_of(enforced, cost, Rule::All);
        let alone = Limits {
            total: None,
            ..shadow
        };
        let watch = self.charge_of(alone, cost, Rule::Each);
        self.at_the_desk(|stocks| {
            stocks.receipts.clear();
            let mut clock = Clock::default();
            let decision = charge.to_account(account, stocks, &mut clock, host)?;
            let mut watched = || {
                let limits = match alone.is_empty() {
                    true => Decision::each(Vec::new(), Vec::new()),
                    false => watch.to_account(account, stocks, &mut clock, host)?,
                };
                let total = match shadow.total {
                    None => Verdict::Passes,
                    Some(total) => {
                        let mut desk = Desk::of(stocks, &mut clock, host).1;
                        desk.ask_total(&self.table, total, account.listed(), cost)?
                    }
                };
                Ok::<_, Failure>(Watched { limits, total })
            };
            let watched = match decision {
                Decision::Admitted { .. } => watched().ok(),
                _ => None,
            };
            Ok((decision, watched))
        })
    }

    fn charge_of<'a>(&'a self, limits: Limits<'a>, cost: u64, rule: Rule) -> Charge<'a> {
        Charge {
            table: &self.table,
            limits,
            cost: cost.max(1),
            rule,
        }
    }

    pub(crate) fn at_the_desk<T>(&self, mut act: impl FnMut(&mut Stocks) -> T) -> T {
        match self.stocks.try_borrow_mut() {
            Ok(mut stocks) => act(&mut stocks),
            // No call of the proxy comes back here with a request. If one ever did, it would be charged as if nothing was held.
            Err(_) => act(&mut Stocks::default()),
        }
    }

    /// Where records are.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The refusal of a request that would be refused, if that can be told without charging it or writing anything. Of limits it goes by what this worker knows; of the total, while it is
    /// scarce, also by what the records say that [`charge`](Self::charge) would read. It costs the calls for the clocks, and these.
    pub fn foresee(
        &self,
        account: Account<'_>,
        limits: Limits<'_>,
        cost: u64,
        host: &dyn Host,
    ) -> Option<Decision> {
        let mut stocks = self.stocks.try_borrow_mut().ok()?;
        let Stocks {
            held,
            workers,
            effects,
            shares,
            ..
        } = &mut *stocks;
        let stock = match account {
            Account::Listed(id) => held.listed(id),
            Account::Unlisted { id, tier } => match self.table.unlisted(id) {
                Some(unlisted) => held.unlisted.find(unlisted)?,
                None => held.tier(tier)?,
            },
        };
        let (cost, now) = (cost.max(1), Clock::default().now(limits.clocks(), host));
        if let Some(refusal) = stock.foresee(limits, cost, now) {
            return Some(refusal);
        }
        let Weighed { total, weight } = limits.total?;
        if !stock.knows(limits, now) {
            return None;
        }
        let mut asked = Asked {
            total,
            table: &self.table,
            workers,
            contended: &mut effects.contended,
        };
        let party = Party {
            tenant: account.listed(),
            weight,
        };
        let (total, never) = match shares.foresee(&mut asked, party, cost, now, host)? {
            Verdict::Passes => return None,
            Verdict::Waits(standing) => (standing, false),
            Verdict::Never(standing) => (standing, true),
        };
        Some(Decision::Scarce {
            standings: stock.standings(limits, now),
            total,
            never,
        })
    }

    /// What is to be settled of the request that was charged last; nothing, if it is refused or no limit that it met is settled.
    pub fn take_receipts(&self) -> Vec<Receipt> {
        self.at_the_desk(|stocks| std::mem::take(&mut stocks.receipts))
    }

    /// What charging did since this was last called: what metrics are made of.
    pub fn take_effects(&self) -> Effects {
        self.stocks
            .try_borrow_mut()
            .map(|mut stocks| std::mem::take(&mut stocks.effects))
            .unwrap_or_default()
    }
}

/// One request, to be charged.
struct Charge<'a> {
    table: &'a Table,
    limits: Limits<'a>,
    cost: u64,
    rule: Rule,
}

/// Which limits a request is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// All of them or none: they are enforced.
    All,
    /// Each that lets it pass: they are in shadow.
    Each,
}

impl Charge<'_> {
    /// What becomes of the request, if that can be said without a look at the record.
    fn decide(
        &self,
        party: Option<&TenantId>,
        stock: &mut Stock,
        desk: &mut Desk<'_>,
        now: Now,
    ) -> Result<Option<Decision>, Failure> {
        match self.rule {
            Rule::All => {
                if self.limits.total.is_some() && stock.holds_all(self.limits, self.cost, now) {
                    let standings = || stock.standings(self.limits, now);
                    if let Some(scarce) = self.of_total(party, standings, desk)? {
                        return Ok(Some(scarce));
                    }
                }
                Ok(stock.decide(self.limits, self.cost, now))
            }
            Rule::Each => Ok(stock.watch(self.limits, self.cost, now)),
        }
    }

    /// Charges the request, which all limits let pass, to the total. If that does not, the decision about it.
    fn of_total(
        &self,
        party: Option<&TenantId>,
        standings: impl FnOnce() -> Vec<Standing>,
        desk: &mut Desk<'_>,
    ) -> Result<Option<Decision>, Failure> {
        let Some(total) = self.limits.total.filter(|_| !desk.paid) else {
            return Ok(None);
        };
        let verdict = desk.ask_total(self.table, total, party, self.cost)?;
        let (total, never) = match verdict {
            Verdict::Passes => {
                desk.paid = true;
                return Ok(None);
            }
            Verdict::Waits(standing) => (standing, false),
            Verdict::Never(standing) => (standing, true),
        };
        Ok(Some(Decision::Scarce {
            standings: standings(),
            total,
            never,
        }))
    }

    fn to_account(
        &self,
        account: Account<'_>,
        stocks: &mut Stocks,
        clock: &mut Clock,
        host: &mut dyn Host,
    ) -> Result<Decision, Failure> {
        let now = clock.now(self.limits.clocks(), host);
        // Not when a configuration comes: the VM of the main thread gets those too, and no requests.
        stocks.workers.register(|| self.table.workers_key(), host);
        let (held, mut desk) = Desk::of(stocks, clock, host);
        let decision = self.to_stock(account, held, &mut desk, now);
        if desk.paid && !matches!(decision, Ok(Decision::Admitted { .. })) {
            // It had been charged to the total when another worker was faster, or the proxy failed.
            desk.shares.give_back(account.listed(), self.cost);
        }
        decision
    }

    fn to_stock(
        &self,
        account: Account<'_>,
        held: &mut Held,
        desk: &mut Desk<'_>,
        now: Now,
    ) -> Result<Decision, Failure> {
        let (id, tier) = match account {
            Account::Listed(id) => {
                let stock = held.listed(id);
                if let Some(decision) = self.decide(Some(id), stock, desk, now)? {
                    return Ok(decision);
                }
                let place = self.table.listed(id);
                return self
                    .to_record(&place, Some(id), stock, desk)?
                    .ok_or(Failure::Contended);
            }
            Account::Unlisted { id, tier } => (id, tier),
        };
        if let Some(unlisted) = self.table.unlisted(id) {
            let mut fresh = None;
            let stock = match held.unlisted.find(unlisted) {
                Some(stock) => stock,
                None => fresh.insert(Stock::default()),
            };
            if let Some(decision) = self.decide(None, stock, desk, now)? {
                return Ok(decision);
            }
            let place = self.table.individual(unlisted);
            if let Some(decision) = self.to_record(&place, None, stock, desk)? {
                if let Some(stock) = fresh {
                    held.unlisted.keep(unlisted, stock, now);
                }
                return Ok(decision);
            }
            desk.effects.shared_record = true;
        }
        let mut none = Stock::default();
        let stock = held.tier(tier).unwrap_or(&mut none);
        if let Some(decision) = self.decide(None, stock, desk, now)? {
            return Ok(decision);
        }
        let place = self.table.together(tier);
        self.to_record(&place, None, stock, desk)?
            .ok_or(Failure::Contended)
    }

    /// Charges the request to the record at `place`, together with whatever other workers do there at the same time. `None` if there is no room for a record.
    fn to_record(
        &self,
        place: &Place,
        party: Option<&TenantId>,
        stock: &mut Stock,
        desk: &mut Desk<'_>,
    ) -> Result<Option<Decision>, Failure> {
        for _ in 0..TRIES {
            let read = desk.host.shared(&place.key)?;
            let expected = read
                .as_ref()
                .map_or(Expected::Absent, |value| Expected::Version(value.version));
            let row = Row::of(read.as_ref().map(|value| value.bytes.as_slice()));
            let clocks = self.limits.clocks().and(row.clocks());
            let read_at = desk.clock.now(clocks, desk.host);
            let now = read_at.after(stock.latest()).after(row.latest());
            let record = row.record(place.id);
            // A record that is alone in its row always finds room, whatever somebody else may have written there.
            if record.is_none() && place.capacity > 1 && row.is_full(place.capacity, now) {
                return Ok(None);
            }

            let look = |limit: &Limit| {
                let mut run = stock.run(limit);
                run.set_shadow(self.rule == Rule::Each);
                run.settle(now);
                let used = record.and_then(|record| record.used(limit.key()));
                run.learn(limit.given(used, now));
                run
            };
            let mut runs: Vec<Run> = self.limits.iter().map(look).collect();
            let passes = |run: &Run| {
                let judgement = run.judge(self.cost, now);
                matches!(judgement, Judgement::Held | Judgement::Short)
            };
            let refusal = match self.rule {
                Rule::All => stock::refusal(runs.iter().copied(), self.cost, now),
                Rule::Each if runs.iter().any(passes) => None,
                Rule::Each => Some(Decision::each(
                    runs.iter().map(|run| run.standing(now)).collect(),
                    (0..runs.len()).collect(),
                )),
            };
            if let Some(refusal) = refusal {
                stock.keep(&runs, row.latest().after(stock.latest()));
                return Ok(Some(refusal));
            }
            let standings = || runs.iter().map(|run| run.standing(now)).collect();
            if let Some(scarce) = self.of_total(party, standings, desk)? {
                stock.keep(&runs, row.latest().after(stock.latest()));
                return Ok(Some(scarce));
            }
            let refusing = match self.rule {
                Rule::All => Subset::NONE,
                Rule::Each => Subset::of(&runs, |run| !passes(run)),
            };
            let workers = if runs.iter().any(|run| run.is_greedy(self.cost)) {
                desk.workers.count(|| self.table.workers_key(), desk.host)
            } else {
                // Whoever takes one at a time need not know.
                1
            };
            let mut states: Vec<State> = Vec::with_capacity(runs.len());
            for (index, run) in runs.iter_mut().enumerate() {
                if !refusing.has(index) {
                    run.draw(self.cost, workers, now);
                    states.push(run.state());
                }
            }
            let room = (place.capacity, place.states);
            let written = row.replace(place.id, &states, room, now);
            if desk.host.set_shared(&place.key, &written.bytes, expected)? {
                stock.keep(&runs, now);
                desk.effects.new_record |= written.new;
                desk.effects.gone_records += written.gone;
                let owed = self.limits.iter().zip(&runs).enumerate();
                let owed = owed.filter(|(index, _)| !refusing.has(*index));
                let owed = owed.filter_map(|(index, (limit, run))| {
                    Owed::of(self.limits.place(index), limit, run.state())
                });
                Receipt::add(desk.receipts, place, owed.collect());
                let standings = runs.iter().map(|run| run.standing(now)).collect();
                let by = (0..runs.len()).filter(|index| refusing.has(*index));
                return Ok(Some(Decision::each(standings, by.collect())));
            }
            desk.effects.contended += 1;
        }
        Err(Failure::Contended)
    }
}

/// What is at hand when a request is charged.
struct Desk<'a> {
    workers: &'a mut Workers,
    effects: &'a mut Effects,
    shares: &'a mut Shares,
    receipts: &'a mut Vec<Receipt>,
    /// Whether the request has been charged to the total, so that it is not again if another worker is faster at the tenant's record.
    paid: bool,
    clock: &'a mut Clock,
    host: &'a mut dyn Host,
}

impl<'a> Desk<'a> {
    fn of(
        stocks: &'a mut Stocks,
        clock: &'a mut Clock,
        host: &'a mut dyn Host,
    ) -> (&'a mut Held, Self) {
        let Stocks {
            held,
            workers,
            effects,
            shares,
            receipts,
        } = stocks;
        let desk = Self {
            workers,
            effects,
            shares,
            receipts,
            paid: false,
            clock,
            host,
        };
        (held, desk)
    }

    /// What the total says of a request, which is charged to it if it may pass.
    fn ask_total(
        &mut self,
        table: &Table,
        Weighed { total, weight }: Weighed<'_>,
        tenant: Option<&TenantId>,
        cost: u64,
    ) -> Result<Verdict, Failure> {
        let now = self.clock.now(Clocks::MONOTONIC, self.host);
        let mut asked = Asked {
            total,
            table,
            workers: self.workers,
            contended: &mut self.effects.contended,
        };
        let party = Party { tenant, weight };
        self.shares
            .admit(&mut asked, party, cost.max(1), now, self.host)
    }
}

/// The seed that the first worker of the proxy chose.
fn agree_on_seed(plugin: &str, host: &mut dyn Host) -> Result<Seed, HostError> {
    let key = Table::seed_key(plugin);
    for _ in 0..TRIES {
        let read = host.shared(&key)?;
        let expected = match read {
            None => Expected::Absent,
            Some(value) => match Seed::try_from(value.bytes.as_slice()) {
                Ok(seed) => return Ok(seed),
                Err(_) => Expected::Version(value.version),
            },
        };
        let seed = (u128::from(host.random()) << 64 | u128::from(host.random())).to_le_bytes();
        if host.set_shared(&key, &seed, expected)? {
            return Ok(seed);
        }
    }
    Err(HostError::Malformed)
}

/// The clocks, each read when it is first asked for, so that a request is judged at one moment.
#[derive(Default)]
pub(crate) struct Clock {
    read: Clocks,
    now: Now,
}

impl Clock {
    pub(crate) fn now(&mut self, clocks: Clocks, host: &dyn Host) -> Now {
        if clocks.monotonic && !self.read.monotonic {
            self.now.monotonic = host.monotonic();
        }
        if clocks.utc && !self.read.utc {
            self.now.utc = host.now();
        }
        self.read = self.read.and(clocks);
        self.now
    }
}
