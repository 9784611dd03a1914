//! A proxy with some workers, each with a ledger of its own in a VM of its own, on one fake clock and one store of shared data.

#![allow(dead_code, reason = "each test file uses a part of it")]

use proptest::prelude::*;
use proptest::test_runner::Config;
use tenant_rate_limit::calendar::Window;
use tenant_rate_limit::ledger::{Account, Decision, Failure, Ledger, Limits};
use tenant_rate_limit::limit::{Kind, Limit, Now, Standing};
use tollgate_common::TenantId;
use tollgate_host::Host;
use tollgate_host::memory::{Call, MemoryHost};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const DAY: u64 = 86_400 * SECOND;

/// How properties are tried, so many times each.
pub(crate) fn config(cases: u32) -> Config {
    Config {
        cases,
        // There are no files in Node's Wasm.
        #[cfg(target_arch = "wasm32")]
        failure_persistence: None,
        ..Config::default()
    }
}

/// A small limit of any kind.
pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    // From 1 a day to 1,000,000 a second.
    let interval = prop_oneof![
        1_000_u64..10_000,
        1_000_000_u64..3 * SECOND,
        Just(86_400 * SECOND)
    ];
    let rate = (interval, 1_u64..12).prop_map(|(interval, burst)| Kind::Rate { interval, burst });
    let quota = (1_u64..16, 0_usize..4).prop_map(|(quota, window)| Kind::Quota {
        quota,
        window: Window::ALL[window],
    });
    prop_oneof![rate, quota]
}

pub(crate) struct Proxy {
    pub(crate) workers: Vec<(MemoryHost, Ledger)>,
}

/// The limits of a tenant alone.
pub(crate) fn of(limits: &[Limit]) -> Limits<'_> {
    Limits {
        tenant: limits,
        ..Limits::default()
    }
}

pub(crate) fn rate(name: &str, interval: u64, burst: u64) -> Limit {
    Limit::new(name, Kind::Rate { interval, burst })
}

pub(crate) fn id(name: &str) -> TenantId {
    TenantId::normalise(name.as_bytes()).unwrap()
}

pub(crate) fn admitted(decision: &Decision) -> bool {
    matches!(decision, Decision::Admitted { .. })
}

pub(crate) fn standings(decision: &Decision) -> &[Standing] {
    match decision {
        Decision::Admitted { standings }
        | Decision::Refused { standings, .. }
        | Decision::Scarce { standings, .. }
        | Decision::TooCostly { standings, .. } => standings,
    }
}

impl Proxy {
    /// All its workers have served somebody before.
    pub(crate) fn new(workers: usize, individually: u64) -> Self {
        let host = MemoryHost::new();
        let hosts = std::iter::once(host.worker()).chain((1..workers).map(|_| host.worker()));
        let workers = hosts
            .map(|mut host| {
                let ledger = Ledger::open("plugin", individually, &mut host).unwrap();
                (host, ledger)
            })
            .collect();
        let mut proxy = Self { workers };
        for worker in 0..proxy.workers.len() {
            let limit = [rate("other", SECOND, 1)];
            let other = id(&format!("other-{worker}"));
            assert!(admitted(&proxy.charge(
                worker,
                Account::Listed(&other),
                of(&limit),
                1
            )));
            proxy.workers[worker].0.reset_calls();
        }
        proxy
    }

    pub(crate) fn charge(
        &mut self,
        worker: usize,
        account: Account<'_>,
        limits: Limits<'_>,
        cost: u64,
    ) -> Decision {
        self.try_charge(worker, account, limits, cost).unwrap()
    }

    pub(crate) fn try_charge(
        &mut self,
        worker: usize,
        account: Account<'_>,
        limits: Limits<'_>,
        cost: u64,
    ) -> Result<Decision, Failure> {
        let (host, ledger) = &mut self.workers[worker];
        ledger.charge(account, limits, cost, host)
    }

    /// Charges a listed tenant.
    pub(crate) fn ask(&mut self, worker: usize, limits: &[Limit], cost: u64) -> bool {
        admitted(&self.charge(worker, Account::Listed(&id("acme")), of(limits), cost))
    }

    /// Every worker gets a new configuration.
    pub(crate) fn configure(&mut self, individually: u64) {
        for (host, ledger) in &mut self.workers {
            *ledger = Ledger::open("plugin", individually, host).unwrap();
        }
    }

    pub(crate) fn advance(&self, nanoseconds: u64) {
        self.workers[0].0.advance(nanoseconds);
    }

    pub(crate) fn step_wall(&self, by: i64) {
        let host = &self.workers[0].0;
        host.set_time(host.time().saturating_add_signed(by));
    }

    pub(crate) fn now(&self) -> Now {
        let host = &self.workers[0].0;
        Now {
            monotonic: host.monotonic(),
            utc: host.time(),
        }
    }

    pub(crate) fn calls(&self, call: Call) -> u64 {
        self.workers.iter().map(|(host, _)| host.calls(call)).sum()
    }
}

/// A tenant as somebody would describe its limits who has never heard of arrival times, slots or records: every admitted request is
/// remembered, and counted over every stretch of time.
pub(crate) struct Model {
    pub(crate) limits: Vec<Limit>,
    pub(crate) admitted: Vec<(Now, u64)>,
}

impl Model {
    pub(crate) fn new(limits: &[Limit]) -> Self {
        Self {
            limits: limits.to_vec(),
            admitted: Vec::new(),
        }
    }

    /// Time does not go back; where the wall clock had been wrong, what it was counted in before is forgotten.
    fn effective(&self, now: Now) -> Now {
        let latest = self.admitted.last().map_or(now, |(at, _)| *at);
        let set_back = latest.utc > now.utc + 3_600 * SECOND;
        Now {
            monotonic: now.monotonic.max(latest.monotonic),
            utc: if set_back {
                now.utc
            } else {
                now.utc.max(latest.utc)
            },
        }
    }

    /// A rate lets a request pass if over every stretch of time that ends now it admits at most `burst` and one for each interval; a
    /// quota, if there is room in the window.
    pub(crate) fn passes(&self, limit: &Limit, cost: u64, now: Now) -> bool {
        let now = self.effective(now);
        match limit.kind {
            Kind::Rate { interval, burst } => {
                let mut units = cost;
                units <= burst
                    && self.admitted.iter().rev().all(|(start, cost)| {
                        units += cost;
                        u128::from(units) * u128::from(interval)
                            <= u128::from(burst) * u128::from(interval)
                                + u128::from(now.monotonic - start.monotonic)
                    })
            }
            Kind::Quota { quota, window } => {
                let this = window.number(now.utc);
                let last = self.admitted.iter().rev();
                let units: u64 = last
                    .take_while(|(at, _)| window.number(at.utc) == this)
                    .map(|(_, cost)| cost)
                    .sum();
                units + cost <= quota
            }
        }
    }

    pub(crate) fn ask(&mut self, cost: u64, now: Now) -> bool {
        let passes = self
            .limits
            .iter()
            .all(|limit| self.passes(limit, cost, now));
        if passes {
            self.admitted.push((self.effective(now), cost));
        }
        passes
    }
}

/// Checks over every stretch of time between admitted requests that a rate admitted no more than `burst`, one for each interval, and `more`.
pub(crate) fn never_too_many(
    admitted: &[(u64, u64)],
    interval: u64,
    burst: u64,
    more: u64,
) -> Result<(), String> {
    // For every i <= j: interval * (units from i to j) <= interval * (burst + more) + time from i to j. The i that comes nearest is known at each j.
    let (mut units, mut nearest) = (0_i128, i128::MIN);
    let (interval, most) = (i128::from(interval), i128::from(burst + more));
    for (at, cost) in admitted {
        nearest = nearest.max(i128::from(*at) - interval * units);
        units += i128::from(*cost);
        let excess = interval * (units - most) - i128::from(*at) + nearest;
        if excess > 0 {
            return Err(format!(
                "{excess} ns too early for {burst} and one each {interval} ns, at {at}: {admitted:?}"
            ));
        }
    }
    Ok(())
}
