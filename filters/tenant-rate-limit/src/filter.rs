//! The filter: reads who a request is from, says so in headers, charges the tenant's limits, and answers what they refuse.
//!
//! # Host calls
//!
//! A request that is admitted costs at most ten, up to three more for each source that is no part of the request, and six more if limits count it while it is in flight:
//!
//! | calls | for |
//! |---|---|
//! | 1 | the request's headers, all at once |
//! | 0 to 3 | a claim: one if it cannot be but a string, one more for all claims together where one is not there or might be something else, and one before it where its `issuer` is said |
//! | 0 to 2 | the peer: one to learn that there is no mutual TLS, one more for its identity |
//! | 0 to 2 | setting `x-tenant-id` and `x-tenant-tier`, each only where it is not right already |
//! | 1 to 2 | the monotonic clock if a limit, or a record in the tenant's row, is a rate; the wall clock if one is a quota |
//! | 0, 1, 2 or 4 | if there is a total: reading and replacing its record, and while it is scarce also that of the tenant's share; none while this worker holds a run of both, and reading alone while it is scarce, 200 times a second at most ([`share`](crate::share)). While it is scarce, up to 3 more to foresee a refusal before a place in flight is taken; and 3 once or twice a second for each tenant whose large requests wait |
//! | 0 or 2 | reading and replacing the tenant's record, once more for each time that another worker was faster; none while this worker holds a run of what the tenant's limits allow ([`run`](crate::run)) |
//! | 0 to 1 | counting it, if `metrics.admitted` is there |
//! | 0, or up to 6 | limits in shadow, of a tenant that has any (and those for places in flight and for the total, as they stand here): reading and replacing the record once more, a clock, what the client would have seen, and where one would have refused that and its counter |
//! | 0, 5 or 6 | taking a place among the requests in flight, if a limit counts those (the clock, once more where something else may refuse, and two of shared data), and giving it back at the end (two of shared data); two more for each time that another worker was faster ([`in_flight`]) |
//! | 0, or from 4 | settling it, if a limit is settled by responses: their headers, their trailers or pieces of their bodies, and unless it is as was estimated a clock and the tenant's record, read and replaced ([`settle`](crate::settle)) |
//! | 0, 2, 3 or 5 | `RateLimit-Policy` and `RateLimit` on the response, and the three `X-RateLimit` fields where they are asked for (then 13 in all) |
//!
//! A refusal reads no record either, if this worker knows already that the tenant must wait. The first request of a VM takes two more, to count its workers.
//! One more is needed for each other spelling of the two headers that a client sends, to read the shared record
//! when a row of the table is full, and to define a series that is counted in for the first time. A request that is exempt, or of a tenant that
//! is unlimited or blocked, touches neither clocks nor records, those of a total aside.
//!
//! # When the proxy fails
//!
//! A request that cannot be charged is not admitted: if shared data cannot be read or written, it is answered with 503. If the
//! client's copies of the headers cannot be replaced, or the request's headers not be read, it is answered with 500.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use tollgate_common::body::{Pointers, require_callbacks};
use tollgate_common::claims::Leaf;
use tollgate_common::{Claim, Claims, Given, TenantId, header, refusal};
use tollgate_host::filter::give_up;
use tollgate_host::peer::peer;
use tollgate_host::{
    Action, Chunk, HeaderMap, Host, HostError, LocalResponse, Map, Plugin, Request, Stream,
    Trailers,
};

use crate::answer::{self, Reason, Refused};
use crate::config::{Allowance, ClaimPath, Config, LimitSet, Missing, reads_bodies};
use crate::in_flight::{self, Admission, Concurrencies, Concurrency, InFlight, Ticket};
use crate::ledger::{Decision, Failure, Ledger, Limits, Watched, Weighed};
use crate::limit::{Standing, Subset};
use crate::limiter::{Identity, Limiter, Tenant, Toll, Vouched};
use crate::meters::{self, Meters, Whose, Why};
use crate::rules::Rules;
use crate::settling::Settling;
use crate::share::Verdict;

/// The plugin.
#[derive(Debug)]
pub struct TenantRateLimit {
    shared: Rc<Shared>,
}

/// What all requests of a configuration have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    limiter: Limiter,
    pub(crate) ledger: Ledger,
    pub(crate) meters: Meters,
    in_flight: InFlight,
}

/// One request on its way through the plugin.
#[derive(Debug)]
pub struct TenantStream {
    shared: Rc<Shared>,
    /// Of a request that was charged, what its response tells.
    charged: Option<Charged>,
    /// Of a request that is in flight by some limit, where it is counted.
    ticket: Option<Ticket>,
    /// Of a request that some limit is settled for, what of that is open.
    settling: Option<Box<Settling>>,
}

/// How a tenant stands with the limits of a plan and a route that are enforced.
#[derive(Debug)]
struct Charged {
    plan: usize,
    rules: Rules,
    shadow: Subset,
    shadow_in_flight: Subset,
    standings: Vec<Standing>,
    /// How many more each limit on requests in flight would have let in.
    free: Vec<u64>,
}

/// What limits on requests in flight say of a request that they have let in.
#[derive(Debug, Default)]
struct Crowd {
    /// How many more each would let in; empty if nobody asked.
    free: Vec<u64>,
    /// Those in shadow that would have refused it, as indices.
    over: Vec<usize>,
}

/// The limits that a request meets.
#[derive(Clone, Copy, Debug)]
struct Met<'a> {
    plan: &'a LimitSet,
    route: &'a LimitSet,
    /// Those of both that are in shadow.
    shadow: Subset,
    /// Those of both that are in shadow and on requests in flight.
    shadow_in_flight: Subset,
    /// What the whole proxy lets pass.
    total: Option<Weighed<'a>>,
    /// Whether that is in shadow.
    shadow_total: bool,
}

/// Of tenants, or of routes, that have none.
static NO_LIMITS: LimitSet = LimitSet::EMPTY;

/// Those of a request that none was asked about.
const NOTHING: Met<'static> = Met {
    plan: &NO_LIMITS,
    route: &NO_LIMITS,
    shadow: Subset::NONE,
    shadow_in_flight: Subset::NONE,
    total: None,
    shadow_total: false,
};

impl<'a> Met<'a> {
    fn without(&self, without: Subset) -> Limits<'a> {
        Limits {
            tenant: &self.plan.limits,
            route: &self.route.limits,
            without,
            total: None,
        }
    }

    fn all(&self) -> Limits<'a> {
        self.without(Subset::NONE)
    }

    fn enforced(&self) -> Limits<'a> {
        Limits {
            total: self.total.filter(|_| !self.shadow_total),
            ..self.without(self.shadow)
        }
    }

    fn in_shadow(&self) -> Limits<'a> {
        Limits {
            total: self.total.filter(|_| self.shadow_total),
            ..self.without(self.shadow.others())
        }
    }

    /// Whether any is in shadow.
    fn has_shadows(&self) -> bool {
        self.shadow_total || !self.shadow.is_empty() || !self.shadow_in_flight.is_empty()
    }

    fn in_flight(&self) -> Concurrencies<'a> {
        Concurrencies {
            tenant: &self.plan.in_flight,
            route: &self.route.in_flight,
            shadow: self.shadow_in_flight,
        }
    }

    /// What `RateLimit-Policy` says of those that are enforced.
    fn policy(&self) -> Cow<'a, str> {
        if self.plan.is_by_tenant() || self.route.is_by_tenant() {
            let policy = answer::policy(self.enforced().iter(), self.in_flight().enforced());
            return Cow::Owned(policy);
        }
        match (self.plan.policy.as_str(), self.route.policy.as_str()) {
            (of_plan, "") => Cow::Borrowed(of_plan),
            ("", of_route) => Cow::Borrowed(of_route),
            (of_plan, of_route) => Cow::Owned([of_plan, of_route].join(", ")),
        }
    }
}

impl Plugin for TenantRateLimit {
    type Stream = TenantStream;

    fn configure(
        configuration: &[u8],
        plugin_name: &str,
        host: &mut dyn Host,
    ) -> Result<Self, String> {
        let config = Config::parse(configuration).map_err(|error| error.to_string())?;
        let reader = reads_bodies(configuration);
        require_callbacks(reader, "tenant-rate-limit", host).map_err(|error| error.to_string())?;
        Self::new(config, plugin_name, host)
    }

    fn stream(&self) -> TenantStream {
        TenantStream {
            shared: self.shared.clone(),
            charged: None,
            ticket: None,
            settling: None,
        }
    }

    fn on_tick(&self, host: &mut dyn Host) {
        self.shared.in_flight.tick(host);
    }
}

impl TenantRateLimit {
    /// The plugin with a configuration that has been read.
    pub fn new(mut config: Config, plugin_name: &str, host: &mut dyn Host) -> Result<Self, String> {
        let ledger = Ledger::open(plugin_name, config.individually, host)
            .map_err(|error| format!("the proxy's shared data does not work: {error:?}"))?;
        let in_flight = InFlight::open(plugin_name, config.individually, ledger.table(), host);
        // Also if this configuration has no such limit any more: others still count what is in flight by that of before.
        if config.limits_in_flight() || !in_flight.is_idle() {
            host.set_tick_period(in_flight::TICK)
                .map_err(|error| format!("the proxy gives no ticks: {error:?}"))?;
        }
        let meters = Meters::new(std::mem::take(&mut config.metrics), host);
        Ok(Self {
            shared: Rc::new(Shared {
                limiter: Limiter::new(config),
                ledger,
                meters,
                in_flight,
            }),
        })
    }
}

impl TenantRateLimit {
    /// Whether a source is a claim.
    pub fn reads_claims(&self) -> bool {
        self.shared.limiter.config().claim().is_some()
    }
}

impl Stream for TenantStream {
    fn on_request_headers(&mut self, request: &mut Request, host: &mut dyn Host) -> Action {
        let shared = self.shared.clone();
        let Shared {
            limiter,
            ledger,
            meters,
            in_flight,
        } = &*shared;
        let (identity, toll) = {
            let view = limiter.view(request.headers());
            let proxy = Proxy {
                request,
                host,
                peer: OnceCell::new(),
            };
            (limiter.identify(&view, &proxy), limiter.toll(&view))
        };
        let tenant = match identity {
            Identity::Tenant(tenant) => tenant,
            Identity::Nobody { unusable } => {
                return shared.nobody(unusable, toll, request, host);
            }
        };
        let Some(plan) = limiter.plan(tenant.plan) else {
            return give_up(host);
        };
        let tier = limiter.tier(plan);

        // First of all, so that whoever logs or counts a refused request sees no client's claim either.
        let owned = request.own(header::TENANT_ID, tenant.id.as_bytes(), host);
        if let Err(error) =
            owned.and_then(|()| request.own(header::TENANT_TIER, tier.as_bytes(), host))
        {
            return uncleaned(error, host);
        }

        let whose = shared.whose(&tenant, tier);
        let mut refused = Refused {
            reason: Reason::Blocked,
            tenant: Some(&tenant.id),
            cost: 1,
            limits: Limits::default(),
            standings: &[],
            by: &[],
            in_flight: Concurrencies::default(),
            free: &[],
            crowded: &[],
            total: None,
        };
        let total = limiter.config().total.as_ref().map(|total| Weighed {
            total,
            weight: tenant.weight,
        });
        let (set, cost, rules) = match (&plan.allowance, toll) {
            (Allowance::Blocked, _) => {
                return shared.refuse(&refused, whose, NOTHING, Rules::default(), request, host);
            }
            (Allowance::Unlimited, Toll::Cost { cost, .. }) if total.is_some() => {
                (&NO_LIMITS, cost, Rules::default())
            }
            (Allowance::Unlimited, _) | (Allowance::Limits(_), Toll::Exempt) => {
                meters.admitted(whose, host);
                return Action::Continue;
            }
            (Allowance::Limits(set), Toll::Cost { cost, rules }) => {
                let set = limiter.narrowed(tenant.plan, rules).unwrap_or(set);
                (set, cost, rules)
            }
        };
        let of_route = limiter.route_limits(rules);
        if total.is_none() && set.is_empty() && of_route.is_empty() {
            // Its route leaves out all that there are.
            meters.admitted(whose, host);
            return Action::Continue;
        }
        let met = Met {
            plan: set,
            route: of_route,
            shadow: set
                .in_shadow(&tenant.id)
                .and_behind(set.limits.len(), of_route.in_shadow(&tenant.id)),
            shadow_in_flight: set.in_flight_in_shadow(&tenant.id).and_behind(
                set.in_flight.len(),
                of_route.in_flight_in_shadow(&tenant.id),
            ),
            total,
            shadow_total: total.is_some_and(|of| of.total.limit().mode.is_shadow(&tenant.id)),
        };
        refused.cost = cost;
        refused.limits = met.enforced();
        refused.in_flight = met.in_flight();
        let account = limiter.account(&tenant, tier);
        let mut crowd = Crowd::default();
        let mut foreseen = None;
        if refused.in_flight.refuses() {
            // Who is known to be refused all the same need not take a place and give it back.
            foreseen = ledger.foresee(account, refused.limits, cost, host);
            if foreseen.is_none() {
                match in_flight.admit(account, refused.in_flight, host) {
                    Ok(Admission::Admitted {
                        ticket,
                        remaining: free,
                        over,
                    }) => {
                        self.ticket = Some(ticket);
                        crowd = Crowd { free, over };
                    }
                    Ok(Admission::Refused { remaining, by }) => {
                        refused.reason = Reason::Limited;
                        refused.crowded = &by;
                        let free = refused.in_flight.of_enforced(&remaining);
                        refused.free = &free;
                        return shared.refuse(&refused, whose, met, rules, request, host);
                    }
                    Err(failure) => {
                        refused.reason = unable(failure);
                        return shared.refuse(&refused, whose, met, rules, request, host);
                    }
                }
            }
        }
        let decision = if let Some(refusal) = foreseen {
            Ok(refusal)
        } else if met.has_shadows() {
            let (enforced, in_shadow) = (met.enforced(), met.in_shadow());
            let charged = ledger.charge_and_watch(account, enforced, in_shadow, cost, host);
            charged.map(|(decision, watched)| {
                let Decision::Admitted { standings } = &decision else {
                    return decision;
                };
                // They too come after all that are enforced.
                let places = met.in_flight();
                if !places.is_empty() && !places.refuses() {
                    match in_flight.admit(account, places, host) {
                        Ok(Admission::Admitted {
                            ticket,
                            remaining: free,
                            over,
                        }) => {
                            self.ticket = Some(ticket);
                            crowd = Crowd { free, over };
                        }
                        Ok(Admission::Refused { .. }) => {}
                        Err(failure) => log::debug!("cannot count a request: {failure:?}"),
                    }
                }
                if let Some(watched) = watched {
                    let request = (&tenant.id, cost, rules);
                    shared.tell_shadows(request, whose, met, (standings, &crowd), &watched, host);
                }
                decision
            })
        } else {
            ledger.charge(account, met.enforced(), cost, host)
        };
        meters.effects(ledger.take_effects(), host);
        let (standings, by);
        (refused.reason, standings, by) = match decision {
            Ok(Decision::Admitted { standings }) => {
                self.settling =
                    Settling::of(tenant, rules, ledger.take_receipts(), request.headers());
                if let Some(settling) = &self.settling
                    && settling.needs_plain_body(&shared)
                    && let Err(error) = request.strip("accept-encoding", host)
                {
                    // Then the answer may be one that cannot be read.
                    log::debug!("cannot take away accept-encoding: {error:?}");
                }
                let told = limiter.config().answer;
                self.charged = (told.rate_limit || told.x_rate_limit).then_some(Charged {
                    plan: tenant.plan,
                    rules,
                    shadow: met.shadow,
                    shadow_in_flight: met.shadow_in_flight,
                    standings,
                    free: met.in_flight().of_enforced(&crowd.free),
                });
                meters.admitted(whose, host);
                return Action::Continue;
            }
            Ok(Decision::Refused { standings, by }) => (Reason::Limited, standings, by),
            Ok(Decision::TooCostly { standings, by }) => (Reason::TooCostly, standings, by),
            Ok(Decision::Scarce {
                standings,
                total: standing,
                never,
            }) => {
                refused.total = total.map(|of| (of.total.limit(), standing));
                let reason = match never {
                    true => Reason::TooCostly,
                    false => Reason::Limited,
                };
                (reason, standings, Vec::new())
            }
            Err(failure) => (unable(failure), Vec::new(), Vec::new()),
        };
        // Not only when the answer is on its way: others may have the place.
        self.leave(host);
        refused.standings = &standings;
        refused.by = &by;
        shared.refuse(&refused, whose, met, rules, request, host)
    }

    fn on_request_trailers(&mut self, trailers: &mut Trailers, host: &mut dyn Host) -> Action {
        let stripped = trailers.strip(header::TENANT_ID, host);
        match stripped.and_then(|()| trailers.strip(header::TENANT_TIER, host)) {
            Ok(()) => Action::Continue,
            Err(error) => uncleaned(error, host),
        }
    }

    fn on_response_headers(&mut self, host: &mut dyn Host) {
        let settled = match &mut self.settling {
            Some(settling) => settling.on_headers(&self.shared, host),
            None => Vec::new(),
        };
        // Of every response, whoever's it is and whether it was settled by that.
        for name in &self.shared.limiter.config().stripped {
            if let Err(error) = host.remove_header(Map::ResponseHeaders, name.as_bytes()) {
                log::debug!("cannot take {name} out of a response: {error:?}");
            }
        }
        let Some(mut charged) = self.charged.take() else {
            return;
        };
        for (limit, standing) in settled {
            charged.now_is(limit, standing);
        }
        let limiter = &self.shared.limiter;
        let Some(Allowance::Limits(set)) = limiter.plan(charged.plan).map(|plan| &plan.allowance)
        else {
            return;
        };
        let narrowed = limiter.narrowed(charged.plan, charged.rules);
        let met = Met {
            plan: narrowed.unwrap_or(set),
            route: limiter.route_limits(charged.rules),
            shadow: charged.shadow,
            shadow_in_flight: charged.shadow_in_flight,
            total: None,
            shadow_total: false,
        };
        let told = Told::of(
            limiter,
            (met.enforced(), &charged.standings),
            (met.in_flight().enforced(), &charged.free),
            || met.policy(),
        );
        // Beside what the upstream says of limits of its own: these fields are lists.
        for (name, value) in told.lists() {
            if let Err(error) = host.add_header(Map::ResponseHeaders, name, value) {
                log::debug!("cannot add {name} to a response: {error:?}");
            }
        }
        // And these are not: whoever is nearest to the client has the last word.
        for (name, value) in told.numbers() {
            if let Err(error) = host.set_header(Map::ResponseHeaders, name, value) {
                log::debug!("cannot set {name} on a response: {error:?}");
            }
        }
    }

    fn on_response_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        if let Some(settling) = &mut self.settling {
            settling.on_body(chunk, &self.shared, host);
        }
    }

    fn on_response_trailers(&mut self, host: &mut dyn Host) {
        if let Some(settling) = &mut self.settling {
            settling.on_end(true, &self.shared, host);
        }
    }

    fn on_delete(&mut self, host: &mut dyn Host) {
        // First, so that who takes the place finds the debt: there is never more of it than what fits in flight.
        if let Some(mut settling) = self.settling.take() {
            settling.on_gone(&self.shared, host);
        }
        self.leave(host);
    }
}

impl TenantStream {
    /// The request stays at what it was estimated at, because nobody knows its response: for a replay.
    pub fn keep_estimate(&mut self) {
        self.settling = None;
    }
}

impl Charged {
    /// How the tenant stands now with the limit of this index among all.
    fn now_is(&mut self, limit: usize, standing: Standing) {
        if self.shadow.has(limit) {
            return;
        }
        let before = (0..limit).filter(|index| !self.shadow.has(*index)).count();
        if let Some(told) = self.standings.get_mut(before) {
            *told = standing;
        }
    }
}

impl TenantStream {
    /// The request is not in flight any more.
    fn leave(&mut self, host: &mut dyn Host) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.in_flight.leave(ticket, host);
        }
    }
}

/// Why a request is refused that could not be charged.
fn unable(failure: Failure) -> Reason {
    // One line for each request at most: the details of the answer tell an operator as much.
    log::debug!("cannot charge a request: {failure:?}");
    match failure {
        Failure::Contended => Reason::Contended,
        Failure::Proxy(_) => Reason::Unavailable,
    }
}

/// What the proxy of a request vouches for.
struct Proxy<'a> {
    request: &'a Request,
    host: &'a dyn Host,
    peer: OnceCell<Option<Vec<u8>>>,
}

impl Vouched for Proxy<'_> {
    fn claim(&self, claim: &ClaimPath) -> Given<Cow<'_, [u8]>> {
        if let Some(issuer) = &claim.issuer {
            match self.claim(&issuer.claim) {
                Given::One(name) if *name == *issuer.name.as_bytes() => {}
                // Of tokens of others nothing is asked.
                Given::One(_) | Given::Absent => return Given::Absent,
                Given::Ambiguous => return Given::Ambiguous,
            }
        }
        // By itself it is a small part of the metadata, but has no type. If it then may be something else than a string, or nothing, only the metadata knows.
        if let Some(leaf) = &claim.leaf
            && !self.request.has_metadata()
            && let Ok(Some(text)) = self.host.property(&leaf.path())
            && Leaf::decides(&text)
        {
            return Given::One(Cow::Owned(text));
        }
        let metadata = match self.request.metadata(self.host) {
            Ok(metadata) => metadata,
            Err(error) => {
                log::debug!("the proxy does not show a request's metadata: {error:?}");
                return Given::Ambiguous;
            }
        };
        let claims = Claims::read(metadata);
        match claims.as_ref().and_then(|claims| claims.get(&claim.names)) {
            None => Given::Absent,
            Some(Claim::Text(text)) => Given::One(Cow::Owned(text.as_bytes().to_vec())),
            Some(_) => Given::Ambiguous,
        }
    }

    fn peer(&self) -> Option<&[u8]> {
        self.peer.get_or_init(|| peer(self.host)).as_deref()
    }
}

/// What headers tell of a tenant's limits.
struct Told<'a> {
    lists: Option<(Cow<'a, str>, String)>,
    numbers: Option<[String; 3]>,
}

impl<'a> Told<'a> {
    /// What limits say: `standings` are those of the limits on requests in a time, and `free` is how many more those on requests in flight would let in. Either is empty if nobody
    /// asked these.
    fn of<'b>(
        limiter: &Limiter,
        (limits, standings): (Limits<'_>, &[Standing]),
        (in_flight, free): (impl Iterator<Item = &'b Concurrency>, &[u64]),
        policy: impl FnOnce() -> Cow<'a, str>,
    ) -> Self {
        let told = limiter.config().answer;
        Self {
            lists: (told.rate_limit && !(standings.is_empty() && free.is_empty())).then(|| {
                let standings = answer::standings(limits, standings, in_flight, free);
                (policy(), standings)
            }),
            numbers: if told.x_rate_limit {
                answer::lowest(limits, standings)
            } else {
                None
            },
        }
    }

    fn lists(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let lists = self.lists.iter();
        lists.flat_map(|(policy, standings)| {
            [
                ("ratelimit-policy", policy.as_bytes()),
                ("ratelimit", standings.as_bytes()),
            ]
        })
    }

    fn numbers(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        const NAMES: [&str; 3] = [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ];
        let values = self.numbers.iter().flatten();
        NAMES
            .into_iter()
            .zip(values)
            .map(|(name, value)| (name, value.as_bytes()))
    }
}

impl Shared {
    /// Who is counted for a tenant's requests.
    fn whose<'a>(&self, tenant: &'a Tenant, tier: &'a str) -> Whose<'a> {
        Whose {
            listed: tenant.listed,
            tenant: if self.limiter.names(tenant) {
                tenant.id.as_str()
            } else {
                "other"
            },
            tier,
            plan: tenant.plan,
        }
    }

    /// What is looked for in the bodies of responses.
    pub(crate) fn pointers(&self) -> Rc<Pointers> {
        self.limiter.config().pointers.clone()
    }

    /// The limits that a tenant's request of a route has met, and who is counted for it.
    pub(crate) fn met<'a>(
        &'a self,
        tenant: &'a Tenant,
        rules: Rules,
    ) -> Option<(Limits<'a>, Whose<'a>)> {
        let plan = self.limiter.plan(tenant.plan)?;
        let Allowance::Limits(set) = &plan.allowance else {
            return None;
        };
        let narrowed = self.limiter.narrowed(tenant.plan, rules);
        let limits = Limits {
            tenant: &narrowed.unwrap_or(set).limits,
            route: &self.limiter.route_limits(rules).limits,
            ..Limits::default()
        };
        Some((limits, self.whose(tenant, self.limiter.tier(plan))))
    }

    /// What becomes of a request that is nobody's.
    fn nobody(
        &self,
        unusable: bool,
        toll: Toll,
        request: &mut Request,
        host: &mut dyn Host,
    ) -> Action {
        let stripped = request.strip(header::TENANT_ID, host);
        if let Err(error) = stripped.and_then(|()| request.strip(header::TENANT_TIER, host)) {
            return uncleaned(error, host);
        }
        let whose = Whose {
            listed: None,
            tenant: "none",
            tier: "none",
            plan: 0,
        };
        if toll == Toll::Exempt {
            self.meters.admitted(whose, host);
            return Action::Continue;
        }
        let refused = Refused {
            reason: if unusable {
                Reason::Unusable
            } else {
                Reason::Missing
            },
            tenant: None,
            cost: 1,
            limits: Limits::default(),
            standings: &[],
            by: &[],
            in_flight: Concurrencies::default(),
            free: &[],
            crowded: &[],
            total: None,
        };
        self.refuse(&refused, whose, NOTHING, Rules::default(), request, host)
    }

    /// Counts and notes what limits in shadow have to say of a request that passes: nothing of it reaches the client.
    fn tell_shadows(
        &self,
        (tenant, cost, rules): (&TenantId, u64, Rules),
        whose: Whose<'_>,
        met: Met<'_>,
        (enforced, crowd): (&[Standing], &Crowd),
        watched: &Watched,
        host: &mut dyn Host,
    ) {
        let (in_shadow, by) = match &watched.limits {
            Decision::Admitted { standings } => (standings, [].as_slice()),
            Decision::Refused { standings, by } | Decision::TooCostly { standings, by } => {
                (standings, by.as_slice())
            }
            // The total is asked apart from them.
            Decision::Scarce { standings, .. } => (standings, [].as_slice()),
        };
        let scarce = met.total.and_then(|of| match watched.total {
            Verdict::Passes => None,
            Verdict::Waits(standing) => Some((of.total.limit(), standing, Reason::Limited)),
            Verdict::Never(standing) => Some((of.total.limit(), standing, Reason::TooCostly)),
        });
        // In the order of the configuration, as the client would be told if all were enforced.
        let (mut enforced, mut in_shadow) = (enforced.iter(), in_shadow.iter());
        let (mut standings, mut refusing) = (Vec::new(), Vec::new());
        let mut watched = 0;
        for (index, _) in met.all().iter().enumerate() {
            if !met.shadow.has(index) {
                standings.extend(enforced.next());
                continue;
            }
            if by.contains(&watched) {
                refusing.push(index);
            }
            watched += 1;
            standings.extend(in_shadow.next());
        }
        let never = |index: &usize| {
            let limit = met.all().get(*index);
            limit.is_some_and(|limit| limit.kind.units() < limit.cost(cost))
        };
        let reason_of = |never| match never {
            true => Reason::TooCostly,
            false => Reason::Limited,
        };
        let of_limits = refusing.iter().map(|index| {
            let limit = met.all().get(*index).map(|limit| limit.name.as_str());
            (reason_of(never(index)), limit, *index)
        });
        let behind = met.all().iter().count();
        let of_crowd = crowd.over.iter().map(|index| {
            let limit = met.in_flight().iter().nth(*index);
            let name = limit.map(|limit| limit.name.as_str());
            (Reason::Limited, name, behind + index)
        });
        let of_total =
            scarce.map(|(limit, _, reason)| (reason, Some(limit.name.as_str()), meters::TOTAL));
        for (reason, limit, index) in of_limits.chain(of_crowd).chain(of_total) {
            let why = Why {
                reason,
                limit,
                index,
                rules,
            };
            self.meters.shadowed(whose, why, host);
        }

        // What the client would be told, if all were enforced, is what the first of them says: who finds no place is not asked further, and the total comes last.
        let is_crowded = !crowd.over.is_empty();
        if is_crowded {
            standings.clear();
            refusing.clear();
        }
        let mut reason = reason_of(refusing.iter().any(never));
        refusing.retain(|index| reason == Reason::Limited || never(index));
        let scarce = scarce.filter(|_| !is_crowded && refusing.is_empty());
        if let Some((_, _, of_total)) = scarce {
            reason = of_total;
        }
        let refuses = is_crowded || !refusing.is_empty() || scarce.is_some();
        let refused = refuses.then(|| Refused {
            reason,
            tenant: Some(tenant),
            cost,
            limits: met.all(),
            standings: &standings,
            by: &refusing,
            in_flight: met.in_flight(),
            free: &crowd.free,
            crowded: &crowd.over,
            total: scarce.map(|(limit, standing, _)| (limit, standing)),
        });
        let config = self.limiter.config();
        // At the earliest: chance is for clients that are to come back at different times.
        let refusal =
            refused.map(|refused| refused.refusal(&config.answer, config.answer.status, 0));
        let mut headers = String::new();
        if let Some(refusal) = &refusal {
            let property = refusal::Refusal {
                tenant: Some(tenant.as_str()),
                tier: Some(whose.tier),
                limit: refusal.limit,
                reason: reason.word(),
            };
            note(refusal::SHADOWED, &property.property(), host);
            let mut status = String::new();
            answer::push_number(&mut status, u64::from(refusal.status));
            answer::push_field(&mut headers, ":status", &status);
            if let Some(retry_after) = refusal.retry_after() {
                answer::push_field(&mut headers, "retry-after", &retry_after);
            }
        }
        let told = Told::of(
            &self.limiter,
            (met.all(), &standings),
            (met.in_flight().iter(), &crowd.free),
            || Cow::Owned(answer::policy(met.all().iter(), met.in_flight().iter())),
        );
        for (name, value) in told.lists().chain(told.numbers()) {
            // Made of names and numbers.
            answer::push_field(
                &mut headers,
                name,
                std::str::from_utf8(value).unwrap_or_default(),
            );
        }
        if !headers.is_empty() {
            note(refusal::SHADOW_HEADERS, &headers, host);
        }
    }

    /// Counts and answers a request that does not pass. `met` are the limits that it was asked of.
    fn refuse(
        &self,
        refused: &Refused<'_>,
        whose: Whose<'_>,
        met: Met<'_>,
        rules: Rules,
        request: &Request,
        host: &mut dyn Host,
    ) -> Action {
        let config = self.limiter.config();
        let (missing, challenge) = match &config.missing {
            Missing::Refuse { status, challenge } => (*status, challenge.as_deref()),
            Missing::Tenant(_) => (400, None),
        };
        let nobody = refused.tenant.is_none();
        let status = if nobody {
            missing
        } else {
            config.answer.status
        };
        let chance = if refused.reason == Reason::Limited && config.answer.jitter > 0 {
            host.random()
        } else {
            0
        };
        let answer = refused.refusal(&config.answer, status, chance);

        let property = refusal::Refusal {
            tenant: refused.tenant.map(|id| id.as_str()),
            tier: (!nobody).then_some(whose.tier),
            limit: answer.limit,
            reason: refused.reason.word(),
        }
        .property();
        note(refusal::PROPERTY, &property, host);
        let why = Why {
            reason: refused.reason,
            limit: answer.limit,
            index: match refused.total {
                Some(_) => meters::TOTAL,
                None => refused.limits.place(answer.index),
            },
            rules,
        };
        self.meters.refused(whose, why, host);

        let bare = LocalResponse {
            status: answer.status,
            details: refused.reason.details(),
            headers: &[],
            body: b"",
            grpc_status: Some(answer.grpc_status),
        };
        if !host.shows_answers() {
            return respond(&bare, host);
        }
        let grpc = is_grpc(request.headers());
        let told = Told::of(
            &self.limiter,
            (met.enforced(), refused.standings),
            (met.in_flight().enforced(), refused.free),
            || met.policy(),
        );
        let retry_after = answer.retry_after();
        let pushback = if grpc { answer.pushback() } else { None };
        let body = if grpc {
            answer.detail()
        } else {
            answer.problem()
        };
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(10);
        headers.push(("content-type", b"application/problem+json"));
        headers.push(("cache-control", b"no-store"));
        if let Some(retry_after) = &retry_after {
            headers.push(("retry-after", retry_after.as_bytes()));
        }
        if nobody && let Some(challenge) = challenge {
            headers.push(("www-authenticate", challenge.as_bytes()));
        }
        if let Some(pushback) = &pushback {
            headers.push(("grpc-retry-pushback-ms", pushback.as_bytes()));
        }
        headers.extend(told.lists());
        headers.extend(told.numbers());
        let response = LocalResponse {
            headers: &headers,
            body: body.as_bytes(),
            ..bare
        };
        respond(&response, host)
    }
}

/// Answers a request that does not pass.
fn respond(response: &LocalResponse<'_>, host: &mut dyn Host) -> Action {
    if let Err(error) = host.respond(response) {
        log::error!("the proxy does not take an answer: {error:?}");
    }
    Action::Stop
}

/// Writes something down for access logs and other filters.
fn note(property: &str, value: &str, host: &mut dyn Host) {
    if let Err(error) = host.set_property(property, value.as_bytes()) {
        log::debug!("cannot set {property}: {error:?}");
    }
}

/// Answers a request that still has what its client wrote in our headers.
fn uncleaned(error: HostError, host: &mut dyn Host) -> Action {
    log::error!("cannot replace the client's tenant headers: {error:?}");
    give_up(host)
}

/// Whether Envoy takes a request for gRPC, and so answers it with trailers whose message is what would have been the body.
fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers
        .first("content-type")
        .and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}
