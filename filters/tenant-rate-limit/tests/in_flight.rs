//! Limits on requests in flight: workers in memory on one fake clock, some of which die or get stuck.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod proxy;

use proptest::prelude::*;
use tenant_rate_limit::in_flight::members::SILENCE;
use tenant_rate_limit::in_flight::{
    Admission, Concurrencies, Concurrency, FRESH, GRACE, InFlight, Ticket,
};
use tenant_rate_limit::ledger::{Account, Failure};
use tenant_rate_limit::limit::{Mode, Share, Subset};
use tenant_rate_limit::table::Table;
use tollgate_host::memory::{Call, MemoryHost};
use tollgate_host::{Host, HostError};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use proxy::{SECOND, id};

const INDIVIDUALLY: u64 = 10_000;

fn open(host: &MemoryHost, individually: u64) -> InFlight {
    let table = Table::new("plugin", individually, [7; 16]);
    InFlight::open("plugin", individually, &table, host)
}

fn parallel(most: u64) -> [Concurrency; 1] {
    [Concurrency::new("parallel", most)]
}

fn of(limits: &[Concurrency]) -> Concurrencies<'_> {
    Concurrencies {
        tenant: limits,
        ..Concurrencies::default()
    }
}

/// A request of the listed tenant `acme`.
fn enter(in_flight: &InFlight, limits: &[Concurrency], host: &mut MemoryHost) -> Option<Ticket> {
    ticket(
        in_flight
            .admit(Account::Listed(&id("acme")), of(limits), host)
            .unwrap(),
    )
}

fn ticket(admission: Admission) -> Option<Ticket> {
    match admission {
        Admission::Admitted { ticket, .. } => Some(ticket),
        Admission::Refused { .. } => None,
    }
}

#[test]
fn all_workers_count_together() {
    let first = MemoryHost::new();
    let mut hosts = [first.worker(), first.worker(), first.worker()];
    let limits = parallel(4);
    let mut tickets = Vec::new();
    for round in 0..4 {
        let host = &mut hosts[round % 3];
        let in_flight = open(host, INDIVIDUALLY);
        let admission = in_flight
            .admit(Account::Listed(&id("acme")), of(&limits), host)
            .unwrap();
        let Admission::Admitted {
            ticket, remaining, ..
        } = admission
        else {
            panic!("{round}");
        };
        assert_eq!(remaining, [3 - round as u64]);
        tickets.push((round % 3, ticket));
    }
    for host in &mut hosts {
        let in_flight = open(host, INDIVIDUALLY);
        let refused = in_flight.admit(Account::Listed(&id("acme")), of(&limits), host);
        assert_eq!(
            refused,
            Ok(Admission::Refused {
                remaining: vec![0],
                by: vec![0]
            })
        );
        // Another tenant has places of its own.
        let other = in_flight.admit(Account::Listed(&id("globex")), of(&limits), host);
        in_flight.leave(ticket(other.unwrap()).unwrap(), host);
    }
    let (worker, ticket) = tickets.pop().unwrap();
    open(&hosts[worker], INDIVIDUALLY).leave(ticket, &mut hosts[worker]);
    assert!(enter(&open(&hosts[2], INDIVIDUALLY), &limits, &mut hosts[2]).is_some());
}

#[test]
fn a_request_passes_all_its_limits_or_takes_no_place() {
    let mut host = MemoryHost::new();
    let in_flight = open(&host, INDIVIDUALLY);
    let (tenant, route) = (parallel(3), [Concurrency::new("exports", 1)]);
    let both = Concurrencies {
        tenant: &tenant,
        route: &route,
        ..Concurrencies::default()
    };
    let acme = id("acme");
    let mut enter = |limits| {
        in_flight
            .admit(Account::Listed(&acme), limits, &mut host)
            .unwrap()
    };
    let export = ticket(enter(both)).unwrap();
    assert_eq!(
        enter(both),
        Admission::Refused {
            remaining: vec![2, 0],
            by: vec![1]
        }
    );
    let rest = [(); 2].map(|()| ticket(enter(of(&tenant))).unwrap());
    assert_eq!(
        enter(both),
        Admission::Refused {
            remaining: vec![0, 0],
            by: vec![0, 1]
        }
    );
    in_flight.leave(export, &mut host);
    let [one, two] = rest;
    in_flight.leave(one, &mut host);
    in_flight.leave(two, &mut host);
    assert!(in_flight.is_idle());
}

#[test]
fn the_last_place_is_taken_once() {
    let mut host = MemoryHost::new();
    let mut other = host.worker();
    let in_flight = open(&host, INDIVIDUALLY);
    let limits = parallel(1);
    // So that the next read is that of the row.
    let first = enter(&in_flight, &limits, &mut host).unwrap();
    in_flight.leave(first, &mut host);
    let first = enter(&open(&other, INDIVIDUALLY), &limits, &mut other).unwrap();
    open(&other, INDIVIDUALLY).leave(first, &mut other);

    let mut once = true;
    host.after_shared(move |_| {
        if std::mem::take(&mut once) {
            let other_s = open(&other, INDIVIDUALLY);
            // It stays in flight.
            let ticket = enter(&other_s, &parallel(1), &mut other);
            assert!(ticket.is_some());
        }
    });
    assert!(enter(&in_flight, &limits, &mut host).is_none());
}

#[test]
fn whoever_gives_a_sign_in_the_last_moment_stays() {
    let mut host = MemoryHost::new();
    let mut stuck = host.worker();
    let limits = parallel(1);
    let stuck_s = open(&stuck, INDIVIDUALLY);
    let _in_flight = enter(&stuck_s, &limits, &mut stuck).unwrap();
    let in_flight = open(&host, INDIVIDUALLY);
    for _ in 0..5 {
        in_flight.tick(&mut host);
        host.advance(SECOND);
    }
    host.after_shared(move |key| {
        if key.ends_with(b"members") {
            open(&stuck, INDIVIDUALLY).tick(&mut stuck);
        }
    });
    assert!(enter(&in_flight, &limits, &mut host).is_none());
}

#[test]
fn a_dead_worker_s_places_are_free_after_five_seconds_and_not_before() {
    let mut host = MemoryHost::new();
    let mut dead = host.worker();
    let limits = parallel(2);
    let in_flight = open(&host, INDIVIDUALLY);
    let own = enter(&in_flight, &limits, &mut host).unwrap();
    let dead_s = open(&dead, INDIVIDUALLY);
    let lost = enter(&dead_s, &limits, &mut dead).unwrap();
    for _ in 0..3 {
        host.advance(SECOND);
        in_flight.tick(&mut host);
        dead_s.tick(&mut dead);
    }
    // It dies just after its sign of life: nobody hears of its request again.
    drop((dead, dead_s, lost));
    for _ in 0..49 {
        host.advance(SECOND / 10);
        in_flight.tick(&mut host);
        assert!(enter(&in_flight, &limits, &mut host).is_none());
    }
    host.advance(SECOND / 10);
    let second = enter(&in_flight, &limits, &mut host).unwrap();
    assert!(enter(&in_flight, &limits, &mut host).is_none());
    in_flight.leave(own, &mut host);
    in_flight.leave(second, &mut host);
    assert!(in_flight.is_idle());
}

#[test]
fn a_stuck_worker_comes_back_with_what_it_has_in_flight() {
    let mut host = MemoryHost::new();
    let mut stuck = host.worker();
    let limits = parallel(2);
    let (in_flight, stuck_s) = (open(&host, INDIVIDUALLY), open(&stuck, INDIVIDUALLY));
    let held = [(); 2].map(|()| enter(&stuck_s, &limits, &mut stuck).unwrap());
    for _ in 0..5 {
        in_flight.tick(&mut host);
        host.advance(SECOND);
    }
    let mut own: Vec<Ticket> = (0..2)
        .map(|_| enter(&in_flight, &limits, &mut host).unwrap())
        .collect();
    // It wakes up to a request: there are four in flight already.
    assert!(enter(&stuck_s, &limits, &mut stuck).is_none());
    let [one, two] = held;
    stuck_s.leave(one, &mut stuck);
    in_flight.leave(own.pop().unwrap(), &mut host);
    assert!(enter(&in_flight, &limits, &mut host).is_none());
    stuck_s.leave(two, &mut stuck);
    assert!(enter(&stuck_s, &limits, &mut stuck).is_some());
    assert!(enter(&in_flight, &limits, &mut host).is_none());
}

/// A VM is stopped between two calls of one callback, for so long that another one takes it for dead.
#[test]
fn who_is_taken_for_dead_while_it_lets_a_request_in_asks_anew_who_it_is() {
    let host = MemoryHost::new();
    let mut stopped = host.worker();
    let mut other = host.worker();
    let limits = parallel(2);
    let stopped_s = open(&stopped, INDIVIDUALLY);
    // It has given a sign, and has nothing in flight.
    let first = enter(&stopped_s, &limits, &mut stopped).unwrap();
    stopped_s.leave(first, &mut stopped);
    let mut once = true;
    stopped.after_shared(move |_| {
        if std::mem::take(&mut once) {
            let other_s = open(&other, INDIVIDUALLY);
            for _ in 0..5 {
                other_s.tick(&mut other);
                other.advance(SECOND);
            }
            // It stays in flight.
            assert!(enter(&other_s, &parallel(2), &mut other).is_some());
            other_s.tick(&mut other);
        }
    });
    let own = enter(&stopped_s, &limits, &mut stopped).unwrap();
    // Everybody knows of both.
    let mut third = host.worker();
    assert!(enter(&open(&third, INDIVIDUALLY), &limits, &mut third).is_none());
    stopped_s.leave(own, &mut stopped);
}

#[test]
fn when_the_whole_proxy_was_stopped_nobody_is_taken_for_dead() {
    let mut host = MemoryHost::new();
    let mut other = host.worker();
    let limits = parallel(2);
    let (in_flight, other_s) = (open(&host, INDIVIDUALLY), open(&other, INDIVIDUALLY));
    let _own = enter(&in_flight, &limits, &mut host).unwrap();
    let _held = enter(&other_s, &limits, &mut other).unwrap();
    // As by a debugger, a freezer or a machine that is moved. Then the first request is faster than the others' signs of life.
    host.advance(60 * SECOND);
    for tenth in 0..10 {
        assert!(enter(&in_flight, &limits, &mut host).is_none(), "{tenth}");
        host.advance(SECOND / 10);
    }
    other_s.tick(&mut other);
    for _ in 0..10 {
        host.advance(SECOND);
        other_s.tick(&mut other);
        assert!(enter(&in_flight, &limits, &mut host).is_none());
    }
    // When the other one dies, its place is free after five seconds.
    for _ in 0..4 {
        host.advance(SECOND);
        in_flight.tick(&mut host);
        assert!(enter(&in_flight, &limits, &mut host).is_none());
    }
    host.advance(SECOND);
    in_flight.tick(&mut host);
    assert!(enter(&in_flight, &limits, &mut host).is_some());
}

#[test]
fn what_could_not_be_written_is_written_at_the_next_tick() {
    let mut host = MemoryHost::new();
    let mut other = host.worker();
    let limits = parallel(1);
    let (in_flight, other_s) = (open(&host, INDIVIDUALLY), open(&other, INDIVIDUALLY));
    let held = enter(&in_flight, &limits, &mut host).unwrap();
    host.fail(Call::SetShared, HostError::Status(10));
    in_flight.leave(held, &mut host);
    assert!(!in_flight.is_idle());
    assert!(enter(&other_s, &limits, &mut other).is_none());
    host.heal(Call::SetShared);
    in_flight.tick(&mut host);
    assert!(in_flight.is_idle());
    assert!(enter(&other_s, &limits, &mut other).is_some());
}

#[test]
fn nobody_is_let_in_uncounted() {
    let mut host = MemoryHost::new();
    let in_flight = open(&host, INDIVIDUALLY);
    for call in [Call::Shared, Call::SetShared] {
        host.fail(call, HostError::Status(10));
        let answer = in_flight.admit(Account::Listed(&id("acme")), of(&parallel(1)), &mut host);
        assert_eq!(answer, Err(Failure::Proxy(HostError::Status(10))));
        host.heal(call);
    }
    let held = enter(&in_flight, &parallel(1), &mut host).unwrap();
    host.fail(Call::SetShared, HostError::Status(10));
    let answer = in_flight.admit(Account::Listed(&id("acme")), of(&parallel(2)), &mut host);
    assert_eq!(answer, Err(Failure::Proxy(HostError::Status(10))));
    host.heal(Call::SetShared);
    in_flight.tick(&mut host);
    // That one took no place.
    assert!(enter(&in_flight, &parallel(2), &mut host).is_some());
    in_flight.leave(held, &mut host);
}

#[test]
fn other_bytes_in_shared_data_do_no_lasting_harm() {
    let mut host = MemoryHost::new();
    let in_flight = open(&host, INDIVIDUALLY);
    let limits = parallel(2);
    let held = enter(&in_flight, &limits, &mut host).unwrap();
    for key in host.shared_keys() {
        host.overwrite_shared(&key, b"others were here");
    }
    let mut other = host.worker();
    let other_s = open(&other, INDIVIDUALLY);
    host.advance(SECOND);
    in_flight.tick(&mut host);
    let second = enter(&in_flight, &limits, &mut host).unwrap();
    assert!(enter(&other_s, &limits, &mut other).is_none());
    in_flight.leave(held, &mut host);
    in_flight.leave(second, &mut host);
    assert!(enter(&other_s, &limits, &mut other).is_some());
}

#[test]
fn whoever_finds_its_row_full_shares_the_record_of_its_tier() {
    let mut host = MemoryHost::new();
    // One row, of 24 tenants.
    let in_flight = open(&host, 1);
    let limits = parallel(2);
    let mut enter = |name: &str| {
        let id = id(name);
        let account = Account::Unlisted {
            id: &id,
            tier: "free",
        };
        ticket(in_flight.admit(account, of(&limits), &mut host).unwrap())
    };
    let mut own: Vec<Ticket> = (0..24).map(|n| enter(&format!("t{n}")).unwrap()).collect();
    let _shared = [enter("late-1").unwrap(), enter("late-2").unwrap()];
    assert!(enter("late-3").is_none());
    // Who is there already has its own.
    own.push(enter("t7").unwrap());
    assert!(enter("t7").is_none());
    for ticket in own {
        in_flight.leave(ticket, &mut host);
    }
    // What nobody has in flight takes no room.
    let rows: Vec<_> = host
        .shared_keys()
        .into_iter()
        .filter(|key| key.starts_with(b"tif/"))
        .collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(host.shared(&rows[0]).unwrap().unwrap().bytes.len(), 1);
}

#[test]
fn a_limit_in_shadow_judges_by_what_it_would_have_let_in_and_an_enforced_one_by_all() {
    let mut host = MemoryHost::new();
    let in_flight = open(&host, INDIVIDUALLY);
    let limits = parallel(2);
    let in_shadow = Concurrencies {
        shadow: Subset::of([true], |shadow| shadow),
        ..of(&limits)
    };
    let mut watched = |expected: (u64, &[usize])| {
        let admission = in_flight.admit(Account::Listed(&id("acme")), in_shadow, &mut host);
        match admission.unwrap() {
            Admission::Admitted {
                ticket,
                remaining,
                over,
            } => {
                assert_eq!(
                    (remaining.as_slice(), over.as_slice()),
                    ([expected.0].as_slice(), expected.1)
                );
                ticket
            }
            refused @ Admission::Refused { .. } => panic!("{refused:?}"),
        }
    };
    let mut let_in = vec![watched((1, &[])), watched((0, &[]))];
    let beyond = [watched((0, &[0])), watched((0, &[0]))];
    in_flight.leave(let_in.pop().unwrap(), &mut host);
    // The second place is free, if those beyond had not been let in.
    let admission = in_flight.admit(Account::Listed(&id("acme")), in_shadow, &mut host);
    let Admission::Admitted { ticket, over, .. } = admission.unwrap() else {
        panic!("refused");
    };
    assert_eq!(over, [0; 0]);
    let_in.push(ticket);
    // Enforced from now on, there are four.
    for ticket in let_in {
        assert!(enter(&in_flight, &limits, &mut host).is_none());
        in_flight.leave(ticket, &mut host);
    }
    let [one, other] = beyond;
    assert!(enter(&in_flight, &limits, &mut host).is_none());
    in_flight.leave(one, &mut host);
    let enforced = enter(&in_flight, &limits, &mut host).unwrap();
    in_flight.leave(other, &mut host);
    in_flight.leave(enforced, &mut host);
    assert!(in_flight.is_idle());
}

#[test]
fn who_shares_a_place_with_tenants_in_shadow_is_not_starved_by_them() {
    let mut host = MemoryHost::new();
    // All share that of their tier.
    let in_flight = open(&host, 0);
    let account = id("somebody");
    let enter = |limits: &[Concurrency], shadow: bool, host: &mut MemoryHost| {
        let limits = Concurrencies {
            shadow: Subset::of([shadow], |shadow| shadow),
            ..of(limits)
        };
        let account = Account::Unlisted {
            id: &account,
            tier: "free",
        };
        match in_flight.admit(account, limits, host).unwrap() {
            Admission::Admitted { ticket, over, .. } => Ok((ticket, over.is_empty())),
            Admission::Refused { remaining, .. } => Err(remaining),
        }
    };
    let half = parallel(3).map(|limit| {
        limit.in_mode(Mode::Shadow(Share {
            share: 1,
            out_of: 2,
            salt: String::new(),
        }))
    });
    let let_in = [(); 2].map(|()| enter(&half, true, &mut host).unwrap());
    let (third, _) = enter(&half, false, &mut host).unwrap();
    assert_eq!(enter(&half, false, &mut host).err(), Some(vec![0]));
    // However many of those in shadow are beyond it: a place that is free is free.
    let over = [(); 20].map(|()| enter(&half, true, &mut host).unwrap());
    assert!(let_in.iter().all(|(_, fits)| *fits) && over.iter().all(|(_, fits)| !fits));
    in_flight.leave(third, &mut host);
    let (again, _) = enter(&half, false, &mut host).unwrap();
    in_flight.leave(again, &mut host);
    // Enforced for all from now on, there are too many.
    assert_eq!(enter(&parallel(3), false, &mut host).err(), Some(vec![0]));
    drop((let_in, over));
}

#[test]
fn a_limit_in_shadow_takes_no_other_tenant_s_room() {
    let mut host = MemoryHost::new();
    // One row, of 24 tenants.
    let in_flight = open(&host, 1);
    let limits = parallel(1);
    let mut enter = |name: &str, shadow: bool| {
        let limits = Concurrencies {
            shadow: Subset::of([shadow], |shadow| shadow),
            ..of(&limits)
        };
        let id = id(name);
        let account = Account::Unlisted {
            id: &id,
            tier: "free",
        };
        match in_flight.admit(account, limits, &mut host).unwrap() {
            Admission::Admitted { ticket, over, .. } => Some((ticket, over)),
            Admission::Refused { .. } => None,
        }
    };
    let watched: Vec<_> = (0..24).map(|n| enter(&format!("w{n}"), true)).collect();
    assert!(watched.iter().flatten().all(|(_, over)| over.is_empty()));
    // There is no room for more of these: they share the record of their tier.
    let late = [enter("late-1", true), enter("late-2", true)].map(Option::unwrap);
    assert_eq!([&late[0].1, &late[1].1], [&vec![], &vec![0]]);
    // And all that there was for those who can be refused: each has its own place.
    let enforced: Vec<_> = (0..24).map(|n| enter(&format!("t{n}"), false)).collect();
    assert!(enforced.iter().all(Option::is_some));
    assert!(
        enter("t24", false).is_none(),
        "the tier's is taken by those in shadow"
    );
    assert!(enter("t7", false).is_none());
    drop((watched, late, enforced));
}

#[test]
fn invented_ids_take_a_bounded_number_of_keys() {
    let mut host = MemoryHost::new();
    let in_flight = open(&host, 400_000);
    let limits = parallel(1);
    for n in 0..50_000 {
        let id = id(&format!("invented-{n}"));
        let account = Account::Unlisted {
            id: &id,
            tier: "free",
        };
        let ticket = ticket(in_flight.admit(account, of(&limits), &mut host).unwrap()).unwrap();
        in_flight.leave(ticket, &mut host);
    }
    assert!(host.shared_keys().len() <= 1_024 + 1);
    assert!(host.shared_bytes() < 64 << 10);
}

#[test]
fn a_request_costs_four_calls_of_shared_data() {
    let mut host = MemoryHost::new();
    let in_flight = open(&host, INDIVIDUALLY);
    let first = enter(&in_flight, &parallel(2), &mut host);
    host.reset_calls();
    let second = enter(&in_flight, &parallel(2), &mut host).unwrap();
    assert_eq!(
        host.all_calls(),
        [
            (Call::Monotonic, 1),
            (Call::Shared, 1),
            (Call::SetShared, 1)
        ]
        .into()
    );
    host.reset_calls();
    assert!(enter(&in_flight, &parallel(2), &mut host).is_none());
    assert_eq!(
        host.all_calls(),
        [(Call::Monotonic, 1), (Call::Shared, 1)].into()
    );
    host.reset_calls();
    in_flight.leave(second, &mut host);
    assert_eq!(
        host.all_calls(),
        [(Call::Shared, 1), (Call::SetShared, 1)].into()
    );
    in_flight.leave(first.unwrap(), &mut host);
    host.reset_calls();
    in_flight.tick(&mut host);
    assert_eq!(
        host.all_calls(),
        [(Call::Monotonic, 1)].into(),
        "who is idle says nothing"
    );
}

/// What happens in a proxy.
#[derive(Clone, Debug)]
enum Event {
    /// A request of a tenant arrives at a worker; also one with the route's limit.
    Arrive(usize, usize, bool),
    /// One of a worker's requests ends.
    End(usize, usize),
    /// Time passes, in tenths of a second.
    Wait(u64),
    /// A worker's VM dies, and a new one takes its place.
    Die(usize),
    /// A worker stands still, or goes on.
    Stand(usize),
    /// The whole proxy stands still, for tenths of a second.
    Freeze(u64),
    /// A new configuration, with other numbers, and with the tenant's limit or the route's in shadow.
    Configure([u64; 2], [bool; 2]),
}

const WORKERS: usize = 4;
const TENANTS: [&str; 3] = ["acme", "stranger", "nobody"];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..WORKERS, 0..TENANTS.len(), any::<bool>()).prop_map(|(w, t, r)| Event::Arrive(w, t, r)),
        6 => (0..WORKERS, any::<usize>()).prop_map(|(w, n)| Event::End(w, n)),
        3 => (1_u64..70).prop_map(Event::Wait),
        1 => (0..WORKERS).prop_map(Event::Die),
        2 => (0..WORKERS).prop_map(Event::Stand),
        1 => (1_u64..200).prop_map(Event::Freeze),
        1 => ([1_u64..6, 1_u64..4], any::<[bool; 2]>()).prop_map(|(most, shadow)| Event::Configure(most, shadow)),
    ]
}

/// A request in flight.
struct Held {
    tenant: usize,
    /// Whether it met the route's limit.
    route: bool,
    /// Whether the tenant's limit was in shadow and would have refused it, and the route's.
    over: [bool; 2],
    ticket: Ticket,
}

impl Held {
    /// Whether a limit (the tenant's, or the route's) counts it: at all, or as one that it let in.
    fn counts(&self, tenant: usize, limit: usize, let_in: bool) -> bool {
        self.tenant == tenant && (limit == 0 || self.route) && !(let_in && self.over[limit])
    }
}

struct Vm {
    host: MemoryHost,
    in_flight: InFlight,
    tickets: Vec<Held>,
    ticks_at: u64,
    /// Since when it stands still.
    still: Option<u64>,
    /// Whether it stood still, and others did not, for so long that it may be off the list, and has done nothing since that puts it there again.
    off: bool,
    /// When it last went on, or was made.
    woke: u64,
}

struct World {
    vms: Vec<Vm>,
    /// What was in flight in VMs that died, and when.
    lost: Vec<(u64, Vec<Held>)>,
    most: [u64; 2],
    shadow: [bool; 2],
}

impl World {
    fn now(&self) -> u64 {
        self.vms[0].host.monotonic()
    }

    /// How many that a limit counts are in flight in VMs that it can know of for sure.
    fn surely(&self, tenant: usize, limit: usize, let_in: bool) -> u64 {
        let sure = self.vms.iter().filter(|vm| !vm.off);
        let held = sure.flat_map(|vm| &vm.tickets);
        held.filter(|held| held.counts(tenant, limit, let_in))
            .count() as u64
    }

    /// How many there are at most to a worker, with those that VMs had which have been dead for less than five seconds.
    fn perhaps(&self, worker: usize, tenant: usize, limit: usize, let_in: bool) -> u64 {
        let now = self.now();
        let woke = self.vms[worker].woke;
        let alive = self.vms.iter().flat_map(|vm| &vm.tickets);
        let lost = self
            .lost
            .iter()
            // It runs a tenth of a second after it woke at the latest.
            .filter(|(at, _)| at + SILENCE > now || woke + GRACE + SECOND / 10 > now);
        let all = alive.chain(lost.flat_map(|(_, held)| held));
        all.filter(|held| held.counts(tenant, limit, let_in))
            .count() as u64
    }

    fn arrive(&mut self, worker: usize, tenant: usize, route: bool) {
        let vm = &mut self.vms[worker];
        if vm.still.is_some() {
            return;
        }
        let name = id(TENANTS[tenant]);
        let account = match tenant {
            0 => Account::Listed(&name),
            _ => Account::Unlisted {
                id: &name,
                tier: "free",
            },
        };
        let limits = parallel(self.most[0]);
        let of_route = [Concurrency::new("exports", self.most[1])];
        let limits = Concurrencies {
            tenant: &limits,
            route: if route { &of_route } else { &[] },
            shadow: Subset::of(self.shadow, |shadow| shadow),
        };
        let admission = vm.in_flight.admit(account, limits, &mut vm.host).unwrap();
        vm.off = false;
        let met = 0..=usize::from(route);
        match admission {
            Admission::Admitted { ticket, over, .. } => {
                let over = [0, 1].map(|limit| over.contains(&limit));
                let held = Held {
                    tenant,
                    route,
                    over,
                    ticket,
                };
                for limit in met.clone().filter(|limit| over[*limit]) {
                    assert!(self.shadow[limit], "what is enforced refuses");
                    let there = self.perhaps(worker, tenant, limit, true);
                    assert!(
                        there >= self.most[limit],
                        "would be refused, and only {there} of {} have been let in",
                        self.most[limit]
                    );
                }
                self.vms[worker].tickets.push(held);
                for limit in met.filter(|limit| !over[*limit]) {
                    let there = self.surely(tenant, limit, self.shadow[limit]);
                    assert!(
                        there <= self.most[limit],
                        "{there} are in flight, and limit {limit} allows {}",
                        self.most[limit]
                    );
                }
            }
            Admission::Refused { by, .. } => {
                assert!(!by.is_empty());
                for limit in by {
                    assert!(!self.shadow[limit], "a limit in shadow refuses nobody");
                    let there = self.perhaps(worker, tenant, limit, false);
                    assert!(
                        there >= self.most[limit],
                        "refused, and only {there} of {} are in flight",
                        self.most[limit]
                    );
                }
            }
        }
    }

    fn end(&mut self, worker: usize, nth: usize) {
        let vm = &mut self.vms[worker];
        if vm.still.is_some() || vm.tickets.is_empty() {
            return;
        }
        let nth = nth % vm.tickets.len();
        let held = vm.tickets.swap_remove(nth);
        vm.in_flight.leave(held.ticket, &mut vm.host);
    }

    fn wait(&mut self, tenths: u64) {
        for _ in 0..tenths {
            self.vms[0].host.advance(SECOND / 10);
            let now = self.now();
            for vm in &mut self.vms {
                match vm.still {
                    // Its last sign may be older by what lets it let requests in, and by a tick.
                    Some(since) => vm.off |= now >= since + SILENCE - FRESH - SECOND,
                    None if now >= vm.ticks_at => {
                        vm.in_flight.tick(&mut vm.host);
                        vm.ticks_at = now + SECOND;
                        vm.off = false;
                    }
                    None => {}
                }
            }
        }
    }

    fn die(&mut self, worker: usize) {
        let now = self.now();
        let host = self.vms[worker].host.worker();
        let in_flight = open(&host, INDIVIDUALLY);
        let vm = Vm {
            in_flight,
            host,
            tickets: Vec::new(),
            ticks_at: now + SECOND,
            still: None,
            off: false,
            woke: now,
        };
        let dead = std::mem::replace(&mut self.vms[worker], vm);
        self.lost.push((now, dead.tickets));
    }

    fn stand(&mut self, worker: usize) {
        let now = self.now();
        let vm = &mut self.vms[worker];
        vm.still = match vm.still {
            // One that has not come to its next sign since it stood still before has been silent since then.
            None => Some(now.min(vm.ticks_at)),
            Some(_) => {
                vm.woke = now;
                None
            }
        };
    }

    /// Time passes and nobody does anything, not even what was due. Before that, everybody could.
    fn freeze(&mut self, tenths: u64) {
        self.wait(1);
        self.vms[0].host.advance(tenths * SECOND / 10);
        let now = self.now();
        for vm in &mut self.vms {
            vm.woke = now;
        }
    }
}

proptest! {
    #![proptest_config(proxy::config(400))]

    /// Never more in flight than allowed, whatever happens to workers, but for those that stood still alone; never a refusal without reason for longer than five seconds after a death, or for a
    /// moment after who refuses stood still itself; and nothing is left behind. A
    /// limit in shadow refuses nobody, and says of each request what it would do if only those were in flight that it has let in.
    #[test]
    fn whatever_happens_to_workers(events in prop::collection::vec(event(), 1..160)) {
        let first = MemoryHost::new();
        let begin = first.monotonic();
        let mut world = World {
            vms: (0..WORKERS as u64).map(|n| {
                let host = first.worker();
                Vm { in_flight: open(&host, INDIVIDUALLY), host, tickets: Vec::new(), ticks_at: begin + n * SECOND / 4, still: None, off: false, woke: begin }
            }).collect(),
            lost: Vec::new(),
            most: [3, 2],
            shadow: [false; 2],
        };
        for event in events {
            match event {
                Event::Arrive(worker, tenant, route) => world.arrive(worker, tenant, route),
                Event::End(worker, nth) => world.end(worker, nth),
                Event::Wait(tenths) => world.wait(tenths),
                Event::Die(worker) => world.die(worker),
                Event::Stand(worker) => world.stand(worker),
                Event::Freeze(tenths) => world.freeze(tenths),
                Event::Configure(most, shadow) => {
                    (world.most, world.shadow) = (most, shadow);
                    for vm in &mut world.vms {
                        vm.in_flight = open(&vm.host, INDIVIDUALLY);
                    }
                }
            }
        }
        for worker in 0..WORKERS {
            world.vms[worker].still = None;
            while !world.vms[worker].tickets.is_empty() {
                world.end(worker, 0);
            }
        }
        world.wait(50);
        world.shadow = [false; 2];
        for tenant in 0..TENANTS.len() {
            for n in 0..world.most[0] {
                let before = world.vms[n as usize % WORKERS].tickets.len();
                world.arrive(n as usize % WORKERS, tenant, false);
                prop_assert_eq!(world.vms[n as usize % WORKERS].tickets.len(), before + 1, "a place was lost");
            }
        }
    }
}
