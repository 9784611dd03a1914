//! Requests in flight: how many of a tenant's there are at the same time, in all workers of a proxy.
//!
//! # Who counts what
//!
//! Each VM counts in its own memory what it has let in and not yet seen the end of; that is the truth about itself, because the proxy tells it of every end:
//! an answer, a reset of either side, a timeout, an answer of the proxy itself. It writes these counts into shared data, each under an id of its own, in the
//! row of the tenant. One compare-and-swap finds that the sum of all counts is below the limit and adds one, so no two workers take the last place. At the
//! end another one takes it out. Whenever a VM writes a row, it puts all that it knows of itself there, so an error does not last.
//!
//! # A VM that dies
//!
//! Nobody tells the others, and its counts would stay for ever. So there is a list of the VMs that count ([`members`]), each with its last sign of life:
//!
//! - While a VM has something in flight, it gives a sign once a second ([`TICK`]).
//! - One that has been silent for 5 s ([`SILENCE`]) may be struck off the list by anyone: by whoever gives a sign, and by whoever would refuse a request or finds a row full.
//!   Only the list says who is dead. So who wakes in that moment either has given its sign first and stays, or finds that it is off the list.
//! - The counts of an id that is not on the list count for nothing, and whoever writes the row leaves them out. Ids are given out once.
//! - A VM that finds itself off the list, because it was stuck and not dead, joins anew, under another id, and writes its counts again into all rows. If others were let in meanwhile,
//!   there are more than the limit allows, and nobody is let in until there are fewer.
//! - A VM lets nobody in while its last sign is older than 2 s ([`FRESH`]): it gives one first. It looks at the clock when it has read the row, so if it was stopped before that, and also
//!   if it was stopped afterwards and others have written the row, it knows. Only one that is stopped for 3 s between that look at the clock and its own write, while others let in nobody of this row, writes under an id that has been struck
//!   off; it puts that right within a second after it goes on.
//! - Its next tick is a second after that at most. So a VM that has something in flight is silent for 5 s only if it has been stuck for the last 2 of these at least.
//! - A VM that finds that it has not run itself for 2 s, or is new, does not know whether all were stopped, by a debugger or a freezer of processes. So it takes nobody for dead in the next 1.5 s ([`GRACE`]), in which all others
//!   give a sign.
//!
//! So there are never more requests in flight than the limit, in all VMs that live and were not stuck for 2 s while others went on (a tenth of a second is much for a worker of Envoy's);
//! and 5 s after a VM died its places are free at the latest, or 1.5 s after whoever asks goes on itself. The proxy fails
//! what a dead VM had in flight when it next has something to do there; a service that is at work on such a request is not told before.
//!
//! # What it costs
//!
//! A request that is limited so costs four calls of shared data, two to let it in and two at its end, and one for the clock; each time that another
//! worker was faster costs two or three more. A refusal costs two, and four where a place is given back because something else refuses. Who has been idle for 2 s gives a sign first, three calls. A tick looks at the clock. A configuration without such a limit has none of
//! this, and no ticks.
//!
//! # Memory
//!
//! Tenants that are not listed have rows by a hash, as in [`table`](crate::table), but at most [`ROWS`] of them: a row holds nothing of a tenant that has nothing
//! in flight. In all rows there is room for half as many tenants again as `individually` says; who finds its row full shares the record of its tier. In a VM there
//! is as much as it has in flight.
//!
//! # Limits in shadow
//!
//! A limit in shadow counts and refuses nobody. What it would have refused is in flight all the same, so that is counted apart from what it lets pass: it is judged by the
//! latter alone, as if it was enforced, and a limit that is enforced from now on by all that there is. Where tenants share a record, a limit that is enforced for some of them judges these by
//! the latter, too. A tenant that has nothing in a row but what limits in shadow count takes nobody's room there,
//! so a row holds twice as many tenants as it has room for at most.
//!
//! # A new configuration
//!
//! Counts belong to the VM and to a limit's name. A limit with another number goes on from what is in flight; under another name it starts at nothing, and what was let in
//! under the old one is taken out there.

mod bytes;
pub mod counts;
pub mod members;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hasher;
use std::rc::Rc;

use siphasher::sip::SipHasher13;
use tollgate_common::TenantId;
use tollgate_host::{Expected, Host, HostError};

use crate::ledger::{Account, Failure};
use crate::limit::{KIND, Mode, Subset};
use crate::table::{RECORDS_IN_ROW, Table, Unlisted};
use counts::{Count, Counts, Of};
use members::{Members, SILENCE, VERSION};

/// The most requests that a limit can allow to be in flight.
pub const LARGEST: u64 = 1_000_000;

/// How often a VM that has something in flight gives a sign of life, in milliseconds.
pub const TICK: u32 = 1_000;

/// For how long after its last sign of life a VM lets requests in, in nanoseconds.
pub const FRESH: u64 = 2_000_000_000;

/// How long a VM waits after it was stopped, before it takes anybody for dead, in nanoseconds: others were stopped too, maybe, and give a sign within [`TICK`].
pub const GRACE: u64 = 1_500_000_000;

/// The most rows of tenants that are not listed.
pub const ROWS: u64 = 1_024;

/// How often a row is tried while other workers write it. Each failure means that another one has let a request in or seen one end.
const TRIES: usize = 100;

/// A named limit on how many requests of a tenant are in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Its name in configuration, headers and metrics.
    pub name: String,
    /// How many.
    pub most: u64,
    /// Whether it refuses anything.
    pub mode: Mode,
    key: u32,
}

impl Concurrency {
    /// A limit. Its key is a hash of its name: `most` may change and it keeps what is in flight.
    pub fn new(name: &str, most: u64) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(name.as_bytes());
        hasher.write(b" in flight");
        Self {
            name: name.to_owned(),
            most,
            mode: Mode::Enforce,
            key: (hasher.finish() >> 32) as u32 | KIND,
        }
    }

    /// The same limit in another mode, in which it keeps what is in flight.
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Under which its counts are found in a row.
    pub fn key(&self) -> u32 {
        self.key
    }
}

/// The limits that a request has to pass: those of its tenant, then those of its route.
#[derive(Clone, Copy, Debug, Default)]
pub struct Concurrencies<'a> {
    /// Of the tenant.
    pub tenant: &'a [Concurrency],
    /// Of the route.
    pub route: &'a [Concurrency],
    /// Those of them that are in shadow, by their indices in both together.
    pub shadow: Subset,
}

impl<'a> Concurrencies<'a> {
    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = &'a Concurrency> + Clone {
        self.tenant.iter().chain(self.route)
    }

    /// All, each with whether it is in shadow.
    fn modes(self) -> impl Iterator<Item = (&'a Concurrency, bool)> + Clone {
        let all = self.iter().enumerate();
        all.map(move |(index, limit)| (limit, self.shadow.has(index)))
    }

    /// Those that are enforced.
    pub fn enforced(self) -> impl Iterator<Item = &'a Concurrency> + Clone {
        self.modes()
            .filter(|(_, shadow)| !shadow)
            .map(|(limit, _)| limit)
    }

    /// Whether any is enforced.
    pub fn refuses(self) -> bool {
        self.enforced().next().is_some()
    }

    /// Of a number for each limit, those of the limits that are enforced.
    pub fn of_enforced(self, numbers: &[u64]) -> Vec<u64> {
        let enforced = self.modes().zip(numbers).filter(|((_, shadow), _)| !shadow);
        enforced.map(|(_, number)| *number).collect()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.tenant.is_empty() && self.route.is_empty()
    }
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is in flight now.
    Admitted {
        /// To be given back at its end.
        ticket: Ticket,
        /// How many more each limit would let in.
        remaining: Vec<u64>,
        /// Which limits in shadow would have refused it, as indices.
        over: Vec<usize>,
    },
    /// At least one limit that is enforced has as many in flight as it allows.
    Refused {
        /// How many more each limit would let in.
        remaining: Vec<u64>,
        /// Which limits refuse, as indices; never empty.
        by: Vec<usize>,
    },
}

/// A request in flight: where it is counted.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a request stays in flight until its ticket is given back"]
pub struct Ticket {
    row: Rc<[u8]>,
    tenant: u32,
    limits: Vec<u32>,
}

/// The requests in flight of one plugin's tenants.
#[derive(Clone, Debug)]
pub struct InFlight {
    places: Places,
    table: Table,
    worker: Rc<RefCell<Worker>>,
}

/// Where counts are in the shared data.
#[derive(Clone, Debug)]
struct Places {
    prefix: String,
    row_prefix: [u8; ROW_PREFIX],
    rows: u64,
    /// Tenants in a row.
    capacity: usize,
}

const ROW_PREFIX: usize = 14;

struct Place {
    row: Rc<[u8]>,
    tenant: u32,
    capacity: usize,
    /// Whether several tenants are counted there as one.
    together: bool,
}

impl Place {
    /// Whether a limit judges there by what it has let in or would have, and not by all that there is. In shadow it does always. Where it is enforced for some of the tenants of a place,
    /// what it would have refused to others is not held against these: nothing bounds that.
    fn by_what_was_let_in(&self, limit: &Concurrency, shadow: bool) -> bool {
        shadow || (self.together && limit.mode.is_by_tenant())
    }
}

impl Places {
    fn new(plugin: &str, individually: u64) -> Self {
        let prefix = format!("tenant-in-flight/{VERSION}/{plugin}/");
        let mut hasher = SipHasher13::new();
        hasher.write(prefix.as_bytes());
        let mut row_prefix = *b"tif/......../r";
        if let Some(hash) = row_prefix.get_mut(4..12) {
            hash.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        let rows_of_table = individually.div_ceil(16);
        let rows = rows_of_table.min(ROWS);
        let in_each = rows_of_table.div_ceil(rows.max(1)) as usize;
        Self {
            prefix,
            row_prefix,
            rows,
            capacity: in_each.saturating_mul(RECORDS_IN_ROW),
        }
    }

    fn members(&self) -> Vec<u8> {
        format!("{}members", self.prefix).into_bytes()
    }

    fn listed(&self, tenant: &TenantId) -> Place {
        self.alone("tenant", tenant.as_str())
    }

    fn together(&self, tier: &str) -> Place {
        Place {
            together: true,
            ..self.alone("tier", tier)
        }
    }

    fn individual(&self, tenant: Unlisted) -> Place {
        let row = (u128::from(tenant.number()) * u128::from(self.rows)) >> 64;
        let mut key = Vec::with_capacity(ROW_PREFIX + 8);
        key.extend_from_slice(&self.row_prefix);
        key.extend_from_slice(&(row as u64).to_le_bytes());
        Place {
            row: key.into(),
            tenant: tenant.number() as u32,
            capacity: self.capacity,
            together: false,
        }
    }

    fn alone(&self, kind: &str, name: &str) -> Place {
        Place {
            row: format!("{}{kind}/{name}", self.prefix).into_bytes().into(),
            tenant: 0,
            capacity: usize::MAX,
            together: false,
        }
    }
}

impl InFlight {
    /// Those of the plugin of this name, which has a new configuration now.
    pub fn open(plugin: &str, individually: u64, table: &Table, host: &dyn Host) -> Self {
        Self {
            places: Places::new(plugin, individually),
            table: table.clone(),
            worker: Worker::of(plugin, host),
        }
    }

    /// Lets a request of an account in if all limits do. Its ticket is to be given back with [`leave`](Self::leave).
    pub fn admit(
        &self,
        account: Account<'_>,
        limits: Concurrencies<'_>,
        host: &mut dyn Host,
    ) -> Result<Admission, Failure> {
        // No call of the proxy comes back here with a request.
        let Ok(mut worker) = self.worker.try_borrow_mut() else {
            return Err(Failure::Contended);
        };
        let members = || self.places.members();
        let mut entrance = Entrance {
            limits,
            members: &members,
            worker: &mut worker,
            host,
        };
        let (id, tier) = match account {
            Account::Listed(id) => {
                let place = self.places.listed(id);
                return entrance.admit_at(&place)?.ok_or(Failure::Contended);
            }
            Account::Unlisted { id, tier } => (id, tier),
        };
        if let Some(unlisted) = self.table.unlisted(id) {
            let place = self.places.individual(unlisted);
            if let Some(admission) = entrance.admit_at(&place)? {
                return Ok(admission);
            }
        }
        let place = self.places.together(tier);
        entrance.admit_at(&place)?.ok_or(Failure::Contended)
    }

    /// A request is gone.
    pub fn leave(&self, ticket: Ticket, host: &mut dyn Host) {
        let Ok(mut worker) = self.worker.try_borrow_mut() else {
            // As above.
            return;
        };
        worker.take_out(&ticket);
        worker.write(&ticket.row, host);
    }

    /// Gives a sign of life, if anything is in flight, and writes what could not be written before. To be called every [`TICK`].
    pub fn tick(&self, host: &mut dyn Host) {
        let Ok(mut worker) = self.worker.try_borrow_mut() else {
            return;
        };
        let now = host.monotonic();
        worker.notice(now);
        if worker.is_idle() {
            return;
        }
        // After a change of the configuration, that of before ticks too while it has requests.
        let just_now = u64::from(TICK) * 1_000_000 / 2;
        if !worker.is_fresh_for(just_now, now)
            && let Err(failure) = worker.give_sign(&|| self.places.members(), now, host)
        {
            log::warn!("cannot say that this VM is alive: {failure:?}");
        }
        for row in std::mem::take(&mut worker.unwritten) {
            worker.write(&row, host);
        }
    }

    /// Whether this VM has nothing in flight, and nothing left to write.
    pub fn is_idle(&self) -> bool {
        self.worker
            .try_borrow()
            .is_ok_and(|worker| worker.is_idle())
    }
}

/// What a VM knows of itself, for one plugin.
#[derive(Debug, Default)]
struct Worker {
    /// Its id among the members; `None` until it has counted something.
    id: Option<u32>,
    /// Its last sign of life.
    seen: u64,
    /// When it last ran.
    awake: u64,
    /// Before this it heard of no sign of life, as it counts.
    since: u64,
    /// The members as it last saw them.
    members: Members,
    /// What it has in flight, by row.
    own: HashMap<Rc<[u8]>, Vec<Own>>,
    /// Rows that could not be written.
    unwritten: Vec<Rc<[u8]>>,
}

/// What a VM has in flight of one tenant for one limit.
#[derive(Clone, Copy, Debug)]
struct Own {
    tenant: u32,
    limit: u32,
    number: u32,
}

type SharedWorker = Rc<RefCell<Worker>>;

thread_local! {
    /// What this VM has in flight, by the VM (Envoy's modules see only their own) and the plugin's name.
    static WORKERS: RefCell<Vec<(u64, String, SharedWorker)>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    fn of(plugin: &str, host: &dyn Host) -> SharedWorker {
        let vm = host.vm();
        WORKERS.with_borrow_mut(|all| {
            let known = all.iter().find(|(of, name, _)| *of == vm && name == plugin);
            if let Some((_, _, worker)) = known {
                return worker.clone();
            }
            let mut worker = Worker::default();
            worker.notice(host.monotonic());
            let worker = SharedWorker::new(RefCell::new(worker));
            all.push((vm, plugin.to_owned(), worker.clone()));
            worker
        })
    }

    fn is_idle(&self) -> bool {
        self.own.is_empty() && self.unwritten.is_empty()
    }

    /// Notices that it runs, and whether it was stopped before, or was not there. Then all may have been stopped, and get [`GRACE`].
    fn notice(&mut self, now: u64) {
        if self.awake == 0 || now.saturating_sub(self.awake) >= FRESH {
            self.since = now.saturating_sub(SILENCE - GRACE);
        }
        self.awake = now;
    }

    fn is_fresh(&self, now: u64) -> bool {
        self.is_fresh_for(FRESH, now)
    }

    fn is_fresh_for(&self, time: u64, now: u64) -> bool {
        self.id.is_some() && now.saturating_sub(self.seen) < time
    }

    /// Gives a sign of life, sees who else is alive, and strikes off who is not. If this VM was struck off, it joins anew with what it has in flight.
    fn give_sign(
        &mut self,
        key: &dyn Fn() -> Vec<u8>,
        now: u64,
        host: &mut dyn Host,
    ) -> Result<(), Failure> {
        let key = key();
        for _ in 0..TRIES {
            let read = host.shared(&key)?;
            let expected = expected(read.as_ref().map(|read| read.version));
            let known = read.as_ref().and_then(|read| {
                let members = Members::parse(&read.bytes);
                if members.is_none() {
                    // Nobody else writes this key.
                    log::error!(
                        "{} bytes in shared data are not a list of VMs, starting anew",
                        read.bytes.len()
                    );
                }
                members
            });
            let mut members = known.unwrap_or_else(|| Members::new(host.random()));
            let id = members.alive(self.id, now, self.since);
            if host.set_shared(&key, &members.bytes(), expected)? {
                let joined = self.id.replace(id) != Some(id);
                self.seen = now;
                self.members = members;
                if joined {
                    let rows: Vec<_> = self.own.keys().cloned().collect();
                    for row in rows {
                        self.write(&row, host);
                    }
                }
                return Ok(());
            }
        }
        Err(Failure::Contended)
    }

    /// What this VM has in a row, under an id.
    fn counts(&self, row: &[u8], vm: u32) -> impl Iterator<Item = Count> {
        let own = self.own.get(row).into_iter().flatten();
        own.map(move |own| Count {
            tenant: own.tenant,
            limit: own.limit,
            vm,
            number: own.number,
        })
    }

    fn put_in(&mut self, ticket: &Ticket) {
        let own = self.own.entry(ticket.row.clone()).or_default();
        for limit in &ticket.limits {
            let is = |own: &&mut Own| own.tenant == ticket.tenant && own.limit == *limit;
            match own.iter_mut().find(is) {
                Some(own) => own.number = own.number.saturating_add(1),
                None => own.push(Own {
                    tenant: ticket.tenant,
                    limit: *limit,
                    number: 1,
                }),
            }
        }
    }

    fn take_out(&mut self, ticket: &Ticket) {
        let Some(own) = self.own.get_mut(&ticket.row) else {
            return;
        };
        for own in own.iter_mut() {
            if own.tenant == ticket.tenant && ticket.limits.contains(&own.limit) {
                own.number = own.number.saturating_sub(1);
            }
        }
        own.retain(|own| own.number > 0);
        if own.is_empty() {
            self.own.remove(&ticket.row);
        }
    }

    /// Writes into a row what this VM has there. If that does not work now, the next tick tries again.
    fn write(&mut self, row: &Rc<[u8]>, host: &mut dyn Host) {
        if !matches!(self.try_write(row, host), Ok(true)) && !self.unwritten.contains(row) {
            log::debug!("cannot write what is in flight");
            self.unwritten.push(row.clone());
        }
    }

    fn try_write(&self, row: &[u8], host: &mut dyn Host) -> Result<bool, HostError> {
        // Who has let nothing in has nothing to say.
        let Some(vm) = self.id else { return Ok(true) };
        for _ in 0..TRIES {
            let (mut counts, expected) = read(row, host)?;
            counts.forget_gone(&self.members);
            counts.replace(vm, self.counts(row, vm));
            if host.set_shared(row, &counts.bytes(), expected)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A request that is to be let in.
struct Entrance<'a> {
    limits: Concurrencies<'a>,
    members: &'a dyn Fn() -> Vec<u8>,
    worker: &'a mut Worker,
    host: &'a mut dyn Host,
}

impl Entrance<'_> {
    /// Lets the request in at `place`. `None` if there is no room for its tenant.
    fn admit_at(&mut self, place: &Place) -> Result<Option<Admission>, Failure> {
        let mut looked = false;
        for _ in 0..TRIES {
            let (mut counts, expected) = read(&place.row, self.host)?;
            // Only now: whoever was stopped before must not take what it has read for the last word on who it is.
            let now = self.host.monotonic();
            self.worker.notice(now);
            if !self.worker.is_fresh(now) {
                self.worker.give_sign(self.members, now, self.host)?;
                continue;
            }
            let vm = self.worker.id.ok_or(Failure::Contended)?;
            counts.forget_gone(&self.worker.members);
            counts.replace(vm, self.worker.counts(&place.row, vm));
            let free: Vec<u64> = self
                .limits
                .modes()
                .map(|(limit, shadow)| {
                    let let_in = place.by_what_was_let_in(limit, shadow);
                    let in_flight = counts.sum(place.tenant, limit.key(), let_in);
                    limit.most.saturating_sub(in_flight)
                })
                .collect();
            let none_free = |shadow: bool| {
                let modes = self.limits.modes().zip(&free).enumerate();
                modes.filter_map(move |(index, ((_, of), free))| {
                    (of == shadow && *free == 0).then_some(index)
                })
            };
            let full = counts.is_full_for(place.tenant, place.capacity, self.limits.refuses());
            let refuses = full || none_free(false).next().is_some();
            if !looked && (refuses || none_free(true).next().is_some()) {
                let Worker { members, since, .. } = &*self.worker;
                let dead = |other: u32| members.may_be_gone(other, now, *since);
                if counts.vms().any(dead) {
                    looked = true;
                    let given = self.worker.give_sign(self.members, now, self.host);
                    if refuses {
                        given?;
                    }
                    continue;
                }
            }
            if full {
                return Ok(None);
            }
            if refuses {
                return Ok(Some(Admission::Refused {
                    by: none_free(false).collect(),
                    remaining: free,
                }));
            }
            let over: Vec<usize> = none_free(true).collect();
            let keys = self.limits.modes().zip(&free);
            let ticket = Ticket {
                row: place.row.clone(),
                tenant: place.tenant,
                limits: keys
                    .map(|((limit, shadow), free)| match (shadow, free) {
                        (false, _) => Of::Enforced.key(limit.key()),
                        (true, 0) => Of::Over.key(limit.key()),
                        (true, _) => Of::Shadow.key(limit.key()),
                    })
                    .collect(),
            };
            let remaining = free.iter().map(|free| free.saturating_sub(1)).collect();
            self.worker.put_in(&ticket);
            counts.replace(vm, self.worker.counts(&place.row, vm));
            let written = self.host.set_shared(&place.row, &counts.bytes(), expected);
            if let Ok(true) = written {
                return Ok(Some(Admission::Admitted {
                    ticket,
                    remaining,
                    over,
                }));
            }
            self.worker.take_out(&ticket);
            if let Err(error) = written {
                // Whether it is there now, nobody knows.
                self.worker.write(&place.row, self.host);
                return Err(error.into());
            }
        }
        Err(Failure::Contended)
    }
}

/// What a row says, and what is expected of it when it is replaced.
fn read(row: &[u8], host: &dyn Host) -> Result<(Counts, Expected), HostError> {
    let read = host.shared(row)?;
    let expected = expected(read.as_ref().map(|read| read.version));
    let counts = read.map_or_else(Counts::default, |read| {
        Counts::parse(&read.bytes).unwrap_or_else(|| {
            // Nobody else writes these keys. Every VM puts what it has there when it next writes.
            log::error!(
                "{} bytes in shared data are not counts of requests, starting anew",
                read.bytes.len()
            );
            Counts::default()
        })
    });
    Ok((counts, expected))
}

fn expected(version: Option<u32>) -> Expected {
    version.map_or(Expected::Absent, Expected::Version)
}

// What the module's page says of these rests on it.
const _: () = assert!(FRESH < SILENCE && (TICK as u64 * 1_000_000) < GRACE && GRACE < FRESH);
