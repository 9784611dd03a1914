//! The ledger: what tenants have used, in the proxy's shared data, and requests charged to it.
//!
//! It is the only part of the core that calls the proxy, and only for shared data, clocks and a seed.

use tollgate_common::TenantId;
use tollgate_host::{Expected, Host, HostError};

use crate::limit::{Clocks, Limit, Now, Standing};
use crate::row::{Row, Verdict};
use crate::table::{Place, Seed, Table};

/// How often a charge is tried while other workers charge the same row. Each failure means that another worker admitted a request of
/// it; a refused one writes nothing. So a flood gets nobody here, only limits that let hundreds of thousands of requests a second pass
/// through very many workers could. Such a request is answered with 503: nothing passes uncharged.
const TRIES: usize = 100;

/// The ledger of one plugin.
#[derive(Clone, Debug)]
pub struct Ledger {
    table: Table,
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
}

impl<'a> Limits<'a> {
    /// All of them, in the order of a decision's standings.
    pub fn iter(self) -> impl Iterator<Item = &'a Limit> + Clone {
        self.tenant.iter().chain(self.route)
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
    /// It costs more than these limits (indices, never empty) ever let pass at once: to come back later is of no use. Nothing is charged.
    TooCostly {
        /// How the tenant stands with each limit.
        standings: Vec<Standing>,
        /// Which limits refuse, as indices; never empty.
        by: Vec<usize>,
    },
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

impl Failure {
    /// What an access log shows of it.
    pub fn details(self) -> &'static str {
        match self {
            Self::Proxy(_) => "tollgate_rate_limit_unavailable",
            Self::Contended => "tollgate_rate_limit_contended",
        }
    }
}

impl Ledger {
    /// The ledger of the plugin of this name, with records for `individually` tenants that are not listed.
    pub fn open(plugin: &str, individually: u64, host: &mut dyn Host) -> Result<Self, HostError> {
        let seed = agree_on_seed(plugin, host)?;
        Ok(Self {
            table: Table::new(plugin, individually, seed),
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
        let mut clock = Clock::default();
        let (place, tier) = match account {
            Account::Listed(id) => (self.table.listed(id), None),
            Account::Unlisted { id, tier } => match self.table.individual(id) {
                Some(place) => (place, Some(tier)),
                None => (self.table.together(tier), None),
            },
        };
        let verdict = match (charge(&place, limits, cost, &mut clock, host)?, tier) {
            (Verdict::Full, Some(tier)) => {
                charge(&self.table.together(tier), limits, cost, &mut clock, host)?
            }
            (verdict, _) => verdict,
        };
        match verdict {
            Verdict::Admit { standings, .. } => Ok(Decision::Admitted { standings }),
            Verdict::Refuse { standings, by } => Ok(Decision::Refused { standings, by }),
            Verdict::TooCostly { standings, by } => Ok(Decision::TooCostly { standings, by }),
            // A record that is alone in its row always finds room.
            Verdict::Full => Err(Failure::Contended),
        }
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
struct Clock {
    read: Clocks,
    now: Now,
}

impl Clock {
    fn now(&mut self, clocks: Clocks, host: &dyn Host) -> Now {
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

/// Charges a request to the record at `place`, together with whatever other workers do there at the same time.
fn charge(
    place: &Place,
    limits: Limits<'_>,
    cost: u64,
    clock: &mut Clock,
    host: &mut dyn Host,
) -> Result<Verdict, Failure> {
    for _ in 0..TRIES {
        let read = host.shared(&place.key)?;
        let expected = read
            .as_ref()
            .map_or(Expected::Absent, |value| Expected::Version(value.version));
        let row = match &read {
            None => Row::default(),
            Some(value) => Row::parse(&value.bytes).unwrap_or_else(|| {
                // Nobody else writes these keys. As after a restart, everyone in this row starts at rest.
                log::error!(
                    "{} bytes in shared data are not a row of records, starting anew",
                    value.bytes.len()
                );
                Row::default()
            }),
        };
        let now = clock.now(Clocks::of(limits.iter()).and(row.clocks()), host);
        let verdict = row.charge(place.id, place.capacity, limits, cost, now);
        match &verdict {
            Verdict::Admit { row, .. } => {
                if host.set_shared(&place.key, row, expected)? {
                    return Ok(verdict);
                }
            }
            Verdict::Refuse { .. } | Verdict::TooCostly { .. } | Verdict::Full => {
                return Ok(verdict);
            }
        }
    }
    Err(Failure::Contended)
}
