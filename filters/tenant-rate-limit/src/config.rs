//! The configuration: as it is written, and as it is once everything in it is known to be right.

mod identity;
mod limits;
mod routes;
#[cfg(feature = "schema")]
mod schema;
mod settle;
mod total;
mod written;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use siphasher::sip::SipHasher13;
use tollgate_common::body::Pointers;
use tollgate_common::config::{self, below};
use tollgate_common::{
    ConfigError, NAME_RULE, Problems, StringMatch, TenantId, is_name, metrics, refuse,
};

pub use identity::{ByClients, ClaimPath, IdRule, Issuer, Missing, Source};
pub use limits::{LIMITS_IN_ROUTES, LIMITS_IN_TIER};
pub use routes::{Cost, Effect, LARGEST_COST, Match, Place, Route};
pub use total::LARGEST_WEIGHT;

use crate::answer;
use crate::in_flight::Concurrency;
use crate::limit::{Limit, Mode, Subset};
use crate::settle::Settled;
use crate::share::{self, Total};
use crate::table;
use limits::{Known, Rule, distinct, limits};
use written::{
    AnswerWritten, LimitWritten, ListedWritten, MetricsWritten, RouteWritten, TierWritten,
    UnknownWritten, Written,
};

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to look for a tenant's id, in order.
    pub sources: Vec<Source>,
    /// Those of them by which clients choose who they are, unless something in front vouches for them.
    pub by_clients: Vec<ByClients>,
    /// What a usable id is.
    pub ids: IdRule,
    /// What becomes of a request without one.
    pub missing: Missing,
    /// The names of all tiers.
    pub tiers: Vec<String>,
    /// What tenants may do: first what each tier says, then what single tenants have in its place.
    pub plans: Vec<Plan>,
    /// The listed tenants.
    pub tenants: HashMap<Box<str>, Listed, BuildHasherDefault<SipHasher13>>,
    /// The plan of everyone else, as an index.
    pub unknown: usize,
    /// How many of them are told apart.
    pub individually: u64,
    /// What the whole proxy lets pass.
    pub total: Option<Total>,
    /// The weight of everyone who is not listed, together.
    pub unlisted_weight: u64,
    /// What some requests are charged; the first that matches decides.
    pub routes: Vec<Route>,
    /// What clients are told.
    pub answer: Answer,
    /// What is counted.
    pub metrics: MetricNames,
    /// What limits that are settled look for in the bodies of responses.
    pub pointers: Rc<Pointers>,
    /// The headers of responses that say what limits are settled by and that clients are not to see.
    pub stripped: Vec<String>,
}

/// A listed tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// A number of its own, from 0.
    pub number: u32,
    /// Its plan, as an index.
    pub plan: u32,
    /// Its weight in the total.
    pub weight: u64,
}

/// What a tenant may do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its tier, as an index.
    pub tier: usize,
    /// What it allows.
    pub allowance: Allowance,
}

/// What a plan allows.
#[derive(Clone, Debug)]
pub enum Allowance {
    /// What its limits let pass.
    Limits(LimitSet),
    /// Everything.
    Unlimited,
    /// Nothing.
    Blocked,
}

/// Limits, with what is always said of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitSet {
    /// The limits on how many requests there are in a time; all must let a request pass.
    pub limits: Vec<Limit>,
    /// The limits on how many there are at the same time; all of these must, too.
    pub in_flight: Vec<Concurrency>,
    /// What `RateLimit-Policy` says of those that are enforced, unless that is another thing for each tenant.
    pub policy: String,
    /// Those of `limits` that are in shadow, for some tenants at least.
    shadow: Subset,
    /// Likewise of `in_flight`.
    shadow_in_flight: Subset,
    /// Whether one of them is not for other tenants.
    by_tenant: bool,
}

impl LimitSet {
    /// A set of no limits.
    pub const EMPTY: Self = Self {
        limits: Vec::new(),
        in_flight: Vec::new(),
        policy: String::new(),
        shadow: Subset::NONE,
        shadow_in_flight: Subset::NONE,
        by_tenant: false,
    };

    /// A set of these limits.
    fn new(rules: Vec<Rule>) -> Self {
        let (mut limits, mut in_flight) = (Vec::new(), Vec::new());
        for rule in rules {
            match rule {
                Rule::Requests(limit) => limits.push(limit),
                Rule::InFlight(limit) => in_flight.push(limit),
            }
        }
        Self::of(limits, in_flight)
    }

    fn of(limits: Vec<Limit>, in_flight: Vec<Concurrency>) -> Self {
        let enforced = limits.iter().filter(|limit| limit.mode.is_enforce());
        let enforced_in_flight = in_flight.iter().filter(|limit| limit.mode.is_enforce());
        let modes = limits.iter().map(|limit| &limit.mode);
        let mut modes = modes.chain(in_flight.iter().map(|limit| &limit.mode));
        Self {
            policy: answer::policy(enforced, enforced_in_flight),
            shadow: Subset::of(&limits, |limit| !limit.mode.is_enforce()),
            shadow_in_flight: Subset::of(&in_flight, |limit| !limit.mode.is_enforce()),
            by_tenant: modes.any(Mode::is_by_tenant),
            limits,
            in_flight,
        }
    }

    /// These limits, and those.
    #[must_use]
    pub fn and(&self, those: &Self) -> Self {
        Self::of(
            [self.limits.as_slice(), &those.limits].concat(),
            [self.in_flight.as_slice(), &those.in_flight].concat(),
        )
    }

    /// These without those of some names, if any of them has one.
    pub fn without(&self, names: &[String]) -> Option<Self> {
        let stays = |name: &String| !names.contains(name);
        let limits = self.limits.iter().filter(|limit| stays(&limit.name));
        let limits: Vec<Limit> = limits.cloned().collect();
        let in_flight = self.in_flight.iter().filter(|limit| stays(&limit.name));
        let in_flight: Vec<Concurrency> = in_flight.cloned().collect();
        let as_many = (limits.len(), in_flight.len()) == (self.limits.len(), self.in_flight.len());
        (!as_many).then(|| Self::of(limits, in_flight))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.in_flight.is_empty()
    }

    /// The keys of all of them.
    fn keys(&self) -> impl Iterator<Item = u32> {
        let in_flight = self.in_flight.iter().map(Concurrency::key);
        self.limits.iter().map(Limit::key).chain(in_flight)
    }

    /// Those of `limits` that are in shadow for this tenant.
    pub fn in_shadow(&self, tenant: &TenantId) -> Subset {
        if self.by_tenant {
            Subset::of(&self.limits, |limit| limit.mode.is_shadow(tenant))
        } else {
            self.shadow
        }
    }

    /// Those of `in_flight` that are in shadow for this tenant.
    pub fn in_flight_in_shadow(&self, tenant: &TenantId) -> Subset {
        if self.by_tenant {
            Subset::of(&self.in_flight, |limit| limit.mode.is_shadow(tenant))
        } else {
            self.shadow_in_flight
        }
    }

    /// Whether it depends on the tenant which of them are in shadow.
    pub fn is_by_tenant(&self) -> bool {
        self.by_tenant
    }
}

/// What clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status of a request that a limit refused.
    pub status: u32,
    /// By how many percent `Retry-After` may be later than it has to be.
    pub jitter: u64,
    /// Whether there are `RateLimit-Policy` and `RateLimit`.
    pub rate_limit: bool,
    /// Whether there are `X-RateLimit-Limit` and its like.
    pub x_rate_limit: bool,
}

/// The metrics that there are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricNames {
    /// The counter of requests that pass.
    pub admitted: Option<String>,
    /// The counter of requests that are refused.
    pub refused: Option<String>,
    /// The counter of requests that limits in shadow would have refused.
    pub shadowed: Option<String>,
    /// The gauge of tenants that have a record.
    pub tracked: Option<String>,
    /// The counter of records that were given up, all their limits at rest.
    pub evictions: Option<String>,
    /// The counter of charges that were tried again.
    pub contention: Option<String>,
    /// The counter of requests that were not settled by what their responses say.
    pub unsettled: Option<String>,
    /// The counter of units that requests counted for once they were settled.
    pub settled: Option<String>,
}

/// Everything for which the filter would refuse this configuration (JSON).
pub fn check(configuration: &[u8]) -> Result<(), Problems> {
    config::check(configuration, Config::compile)
}

/// The labels of the metrics of a configuration (JSON), each with the field that is there for it: the pods' stat tags must have them. None of one that the
/// filter would refuse.
pub fn labels(configuration: &[u8]) -> Vec<(String, String)> {
    let Ok(config) = Config::parse(configuration) else {
        return Vec::new();
    };
    let of_all: &[&str] = &["tenant", "tier"];
    let of_refusals: &[&str] = &["tenant", "tier", "limit", "reason"];
    let of_units: &[&str] = &["tenant", "tier", "limit"];
    let counters = [
        (&config.metrics.admitted, "metrics.admitted", of_all),
        (&config.metrics.refused, "metrics.refused", of_refusals),
        (&config.metrics.shadowed, "metrics.shadowed", of_refusals),
        (&config.metrics.unsettled, "metrics.unsettled", of_refusals),
        (&config.metrics.settled, "metrics.settled", of_units),
    ];
    let counted = counters.into_iter().filter(|(name, ..)| name.is_some());
    let labels = counted.flat_map(|(_, field, labels)| {
        labels
            .iter()
            .map(|label| ((*label).to_owned(), field.to_owned()))
    });
    labels.collect()
}

/// The limits of a configuration (JSON) that are in shadow, each with a sentence on it. None of one that the filter would refuse.
pub fn shadows(configuration: &[u8]) -> Vec<ConfigError> {
    let found = config::read(configuration, |written: Written, problems| {
        let found = in_shadow(&written);
        Config::compile(written, problems).map(|_| found)
    });
    found.unwrap_or_default()
}

fn in_shadow(written: &Written) -> Vec<ConfigError> {
    let of_total = written.total.as_ref().and_then(|total| {
        let share = total.enforced_for.as_ref();
        limits::shadow_of("total", total.mode, share, share::NAME)
    });
    let of_limits = written_limits(written).filter_map(|(path, limit)| {
        limits::shadow_of(&path, limit.mode, limit.enforced_for.as_ref(), &limit.name)
    });
    of_total.into_iter().chain(of_limits).collect()
}

/// The first field of a configuration (JSON) for which the filter must see bodies or trailers of responses, so that it needs the module of the plugin that does. None of
/// one that the filter would refuse.
pub fn reads_bodies(configuration: &[u8]) -> Option<String> {
    let found = config::read(configuration, |written: Written, problems| {
        let found = written_limits(&written).find_map(|(path, limit)| settle::reader(&path, limit));
        Config::compile(written, problems).map(|_| found)
    });
    found.ok().flatten()
}

/// All limits, each with its path.
fn written_limits(written: &Written) -> impl Iterator<Item = (String, &LimitWritten)> {
    let tiers = written.tiers.iter();
    let tiers =
        tiers.filter_map(|(name, tier)| Some((below("tiers", name), tier.limits.as_deref()?)));
    let tenants = written.tenants.iter();
    let tenants =
        tenants.filter_map(|(id, tenant)| Some((below("tenants", id), tenant.limits.as_deref()?)));
    let routes = written.routes.iter().enumerate();
    let routes = routes.map(|(index, route)| (format!("routes[{index}]"), route.limits.as_slice()));
    let all = tiers.chain(tenants).chain(routes);
    all.flat_map(|(path, limits)| {
        let limits = limits.iter().enumerate();
        limits.map(move |(index, limit)| (format!("{path}.limits[{index}]"), limit))
    })
}

impl Config {
    /// Reads a configuration (JSON). What is wrong names the field, its value and what to write instead.
    pub fn parse(json: &[u8]) -> Result<Self, Problems> {
        config::read(json, Self::compile)
    }

    /// Whether there is a limit on requests in flight.
    pub fn limits_in_flight(&self) -> bool {
        let allowances = self.plans.iter().map(|plan| &plan.allowance);
        sets(allowances, &self.routes).any(|set| !set.in_flight.is_empty())
    }

    /// The limits that are settled by responses, with how they are.
    pub fn settled(&self) -> impl Iterator<Item = (&Limit, &Settled)> {
        let allowances = self.plans.iter().map(|plan| &plan.allowance);
        let limits = settled(allowances, &self.routes);
        limits.filter_map(|limit| Some((limit, limit.settled.as_ref()?)))
    }

    fn compile(written: Written, problems: &mut Problems) -> Option<Self> {
        let tiers: Vec<Tier<'_>> = written
            .tiers
            .iter()
            .map(|(name, written)| Tier::of(name, written, problems))
            .collect();
        if tiers.is_empty() {
            problems.tell(
                "tiers",
                "there is none, write at least one tier with its limits",
            );
        }
        let mut plans: Vec<Option<Plan>> = tiers.iter().enumerate().map(Tier::plan).collect();

        let ids = IdRule::of(&written.tenant.id, problems);
        let shares = written.total.is_some();
        let weights: Vec<u64> = tiers
            .iter()
            .map(|tier| {
                let path = below("tiers", tier.name);
                total::weight(&path, tier.written.weight, 1, shares, problems)
            })
            .collect();
        let mut tenants =
            HashMap::with_capacity_and_hasher(written.tenants.len(), BuildHasherDefault::default());
        for (number, (id, listed)) in written.tenants.iter().enumerate() {
            let path = below("tenants", id);
            let tenant = problems.take_key("tenants", ids.tenant(&path, id));
            let tier = tier_at(&tiers, format!("{path}.tier"), &listed.tier, problems);
            let own = own_allowance(&path, listed, tier.and_then(|at| tiers.get(at)), problems);
            let of_tier = tier.and_then(|at| weights.get(at)).copied().unwrap_or(1);
            let weight = total::weight(&path, listed.weight, of_tier, shares, problems);
            let (Some(tenant), Some(tier)) = (tenant, tier) else {
                continue;
            };
            let plan = match own {
                None => tier,
                Some(allowance) => {
                    plans.push(allowance.map(|allowance| Plan { tier, allowance }));
                    plans.len() - 1
                }
            };
            let listed = Listed {
                number: number as u32,
                plan: plan as u32,
                weight,
            };
            tenants.insert(tenant.as_str().into(), listed);
        }

        let mut of_routes = Vec::new();
        let routes = routes::routes(&written.routes, &mut of_routes, problems);
        apart(&written.routes, &of_routes, &tiers, &plans, problems);
        left_out(&written.routes, routes.as_deref(), &tiers, problems);

        let unknown = unknown(&written.tenant.unknown, &tiers, &written.routes, problems);
        let unlisted = unknown.and_then(|at| weights.get(at)).copied().unwrap_or(1);
        let listed: Vec<u64> = tenants
            .values()
            .map(|listed: &Listed| listed.weight)
            .collect();
        let total = total::total(&written, &listed, unlisted, problems);
        let sources = identity::sources(&written.tenant.from, problems);
        let missing = identity::missing(&written.tenant.missing, &ids, problems);
        let answer = told(&written.answer, problems);
        let metrics = names(written.metrics, problems);
        let all = plans.iter().flatten().map(|plan| &plan.allowance);
        let settled: Vec<&Limit> = settled(all, routes.iter().flatten()).collect();
        let stripped = settle::stripped(&settled);
        let pointers = settle::pointers(&settled, problems);
        let (sources, by_clients) = sources?;
        Some(Self {
            sources,
            by_clients,
            ids,
            missing: missing?,
            tiers: tiers.iter().map(|tier| tier.name.to_owned()).collect(),
            plans: plans.into_iter().collect::<Option<_>>()?,
            tenants,
            unknown: unknown?,
            individually: written.tenant.unknown.individually,
            total: total?,
            unlisted_weight: unlisted,
            routes: routes?,
            answer,
            metrics,
            pointers: Rc::new(pointers?),
            stripped,
        })
    }
}

impl Config {
    /// Whom a request is taken for that shows nothing: the tenant's id and its tier. `None` if it is refused.
    pub fn stranger(&self) -> Option<(&str, &str)> {
        let Missing::Tenant(id) = &self.missing else {
            return None;
        };
        Some((id.as_str(), self.tier_of(id.as_str())?))
    }

    /// The tier of a tenant.
    pub fn tier_of(&self, id: &str) -> Option<&str> {
        let listed = self.tenants.get(id);
        let plan = listed.map_or(self.unknown, |listed| listed.plan as usize);
        let tier = self.tiers.get(self.plans.get(plan)?.tier)?;
        Some(tier)
    }

    /// Whether a tier says nothing of who is in it: it is that of everybody who is not listed.
    pub fn is_anyones(&self, tier: &str) -> bool {
        let plan = self.plans.get(self.unknown);
        plan.and_then(|plan| self.tiers.get(plan.tier))
            .is_some_and(|unknown| unknown == tier)
    }

    /// The first source by which clients choose who they are, if `is_vouched` says of which headers somebody in front of it vouches for.
    pub fn chosen_by_clients(&self, is_vouched: impl Fn(&str) -> bool) -> Option<&ByClients> {
        let is_open = |by: &&ByClients| match self.sources.get(by.source) {
            Some(Source::Header(name)) => !is_vouched(name),
            _ => true,
        };
        self.by_clients.iter().find(is_open)
    }

    /// The peers who pass tenants on, by the positions of the sources that list them.
    pub fn passed_on(&self) -> impl Iterator<Item = (usize, &[StringMatch])> {
        let sources = self.sources.iter().enumerate();
        sources.filter_map(|(position, source)| match source {
            Source::PassedOn(peers) => Some((position, peers.as_slice())),
            _ => None,
        })
    }

    /// The first source that is a claim.
    pub fn claim(&self) -> Option<usize> {
        let mut sources = self.sources.iter();
        sources.position(|source| matches!(source, Source::Claim(_)))
    }

    /// The first source that is a claim of whatever issuer.
    pub fn claim_of_any_issuer(&self) -> Option<usize> {
        let mut sources = self.sources.iter();
        sources.position(|source| matches!(source, Source::Claim(claim) if claim.issuer.is_none()))
    }

    /// The issuers whose claims alone are asked for, with the positions of the sources.
    pub fn issuers(&self) -> impl Iterator<Item = (usize, &str)> {
        let sources = self.sources.iter().enumerate();
        sources.filter_map(|(position, source)| match source {
            Source::Claim(claim) => Some((position, claim.issuer.as_ref()?.name.as_str())),
            _ => None,
        })
    }
}

/// All sets of limits.
fn sets<'a>(
    allowances: impl Iterator<Item = &'a Allowance>,
    routes: impl IntoIterator<Item = &'a Route>,
) -> impl Iterator<Item = &'a LimitSet> {
    let of_plans = allowances.filter_map(|allowance| match allowance {
        Allowance::Limits(set) => Some(set),
        Allowance::Unlimited | Allowance::Blocked => None,
    });
    let of_routes = routes.into_iter().filter_map(|route| match &route.effect {
        Effect::Charge { limits, .. } => Some(limits),
        Effect::Exempt => None,
    });
    of_plans.chain(of_routes)
}

/// The limits of them that are settled by responses.
fn settled<'a>(
    allowances: impl Iterator<Item = &'a Allowance>,
    routes: impl IntoIterator<Item = &'a Route>,
) -> impl Iterator<Item = &'a Limit> {
    let limits = sets(allowances, routes).flat_map(|set| &set.limits);
    limits.filter(|limit| limit.settled.is_some())
}

/// A tier as far as it is right. What names it, or one of its limits, is right also if what it allows is not.
struct Tier<'w> {
    name: &'w str,
    written: &'w TierWritten,
    limits: Vec<Known>,
    allowance: Option<Allowance>,
}

impl<'w> Tier<'w> {
    fn of(name: &'w str, written: &'w TierWritten, problems: &mut Problems) -> Self {
        let path = below("tiers", name);
        if !is_name(name) || matches!(name, "other" | "none") {
            let message = format!(
                "\"{name}\" cannot be a tier's name, {NAME_RULE}, and neither other nor none"
            );
            problems.take_key("tiers", refuse::<()>(&path, message));
        }
        let mut limits = Vec::new();
        let compiled = written
            .limits
            .as_ref()
            .map(|written| limit_list(&format!("{path}.limits"), written, &mut limits, problems));
        let unlimited = flag(&path, "unlimited", written.unlimited, problems);
        let blocked = flag(&path, "blocked", written.blocked, problems);
        let allowance = match (compiled, unlimited, blocked) {
            (Some(limits), Some(false), Some(false)) => {
                limits.map(|limits| Allowance::Limits(LimitSet::new(limits)))
            }
            (None, Some(true), Some(false)) => Some(Allowance::Unlimited),
            (None, Some(false), Some(true)) => Some(Allowance::Blocked),
            (_, Some(_), Some(_)) => problems.refuse(
                path,
                "write exactly one of limits, unlimited: true and blocked: true",
            ),
            _ => None,
        };
        Self {
            name,
            written,
            limits,
            allowance,
        }
    }

    fn plan((tier, of): (usize, &Self)) -> Option<Plan> {
        let allowance = of.allowance.clone()?;
        Some(Plan { tier, allowance })
    }
}

fn tier_at(tiers: &[Tier<'_>], path: String, name: &str, problems: &mut Problems) -> Option<usize> {
    let index = tiers.iter().position(|tier| tier.name == name);
    // That there is none is told already.
    if index.is_none() && !tiers.is_empty() {
        let names: Vec<&str> = tiers.iter().map(|tier| tier.name).collect();
        problems.tell(
            path,
            format!(
                "\"{name}\" is not a tier, write one of: {}",
                names.join(", ")
            ),
        );
    }
    index
}

/// What a listed tenant has in place of what its tier allows, if it has anything; of that, what is right.
fn own_allowance(
    path: &str,
    written: &ListedWritten,
    tier: Option<&Tier<'_>>,
    problems: &mut Problems,
) -> Option<Option<Allowance>> {
    let own = written.limits.as_ref().map(|written| {
        let path = format!("{path}.limits");
        let mut own = Vec::new();
        let right = limit_list(&path, written, &mut own, problems).is_some();
        let set = tier.and_then(|tier| overridden(&path, own, tier, problems));
        set.filter(|_| right).map(Allowance::Limits)
    });
    let unlimited = flag(path, "unlimited", written.unlimited, problems);
    let blocked = flag(path, "blocked", written.blocked, problems);
    match (own, unlimited, blocked) {
        (None, Some(false), Some(false)) => None,
        (None, Some(true), Some(false)) => Some(Some(Allowance::Unlimited)),
        (None, Some(false), Some(true)) => Some(Some(Allowance::Blocked)),
        (Some(own), Some(false), Some(false)) => Some(own),
        (_, Some(_), Some(_)) => Some(problems.refuse(
            path,
            "write at most one of limits, unlimited: true and blocked: true",
        )),
        _ => Some(None),
    }
}

/// The limits of a tier with those of a tenant, written at `path`, in the place of some.
fn overridden(
    path: &str,
    own: Vec<Known>,
    tier: &Tier<'_>,
    problems: &mut Problems,
) -> Option<LimitSet> {
    if let Some(Allowance::Unlimited | Allowance::Blocked) = tier.allowance {
        return problems.refuse(
            path,
            format!(
                "its tier {} has no limits, so there is none to override; leave it out, or name another tier",
                tier.name
            ),
        );
    }
    let mut limits = tier.limits.clone();
    let names: Option<Vec<&str>> = tier
        .limits
        .iter()
        .map(|limit| limit.name.as_deref())
        .collect();
    // Else it is told what is wrong with the tier.
    let names = names.filter(|names| !names.is_empty())?;
    for (index, own) in own.into_iter().enumerate() {
        let Some(name) = &own.name else { continue };
        match limits.iter_mut().find(|limit| limit.name == own.name) {
            Some(limit) => *limit = own,
            None => problems.tell(
                format!("{path}[{index}].name"),
                format!(
                    "\"{name}\" is not a limit of its tier {}, write one of: {}",
                    tier.name,
                    names.join(", ")
                ),
            ),
        }
    }
    tier.allowance.as_ref()?;
    // With another kind comes another key.
    for (index, limit) in limits.iter().enumerate() {
        let before = limits.get(..index).unwrap_or_default();
        distinct(
            path,
            limit,
            before,
            &format!("the tier {}", tier.name),
            problems,
        );
    }
    let limits = limits.into_iter().map(|limit| limit.limit);
    limits.collect::<Option<_>>().map(LimitSet::new)
}

/// A switch that is only ever turned on.
fn flag(path: &str, field: &str, written: Option<bool>, problems: &mut Problems) -> Option<bool> {
    match written {
        None => Some(false),
        Some(true) => problems.as_written(path, field).then_some(true),
        Some(false) => problems.refuse(
            format!("{path}.{field}"),
            "false says nothing, leave it out",
        ),
    }
}

fn limit_list(
    path: &str,
    written: &[LimitWritten],
    known: &mut Vec<Known>,
    problems: &mut Problems,
) -> Option<Vec<Rule>> {
    if written.is_empty() {
        return problems.refuse(path, "there is none, write at least one limit");
    }
    problems.at_most(written.len(), LIMITS_IN_TIER, path, "limits");
    limits(path, written, known, "this list", problems)
}

/// Tells of routes' limits that are not told apart from those of each tier: one record of a tenant has them all.
fn apart(
    routes: &[RouteWritten],
    of_routes: &[Known],
    tiers: &[Tier<'_>],
    plans: &[Option<Plan>],
    problems: &mut Problems,
) {
    let places = routes.iter().enumerate().flat_map(|(route, written)| {
        (0..written.limits.len()).map(move |index| format!("routes[{route}].limits[{index}]"))
    });
    for (path, limit) in places.zip(of_routes) {
        let of_tiers = tiers
            .iter()
            .find_map(|tier| Some((tier.name, limit.clash(&tier.limits)?)));
        // A tenant's own limits have the names of its tier's, and keys of their own.
        let clash = of_tiers.or_else(|| {
            plans
                .iter()
                .flatten()
                .find_map(|plan| match &plan.allowance {
                    Allowance::Limits(set) if limit.has_key_of(set.keys()) => Some((
                        tiers.get(plan.tier)?.name,
                        "happens to have the hash of another limit",
                    )),
                    _ => None,
                })
        });
        if let (Some((tier, what)), Some(name)) = (clash, &limit.name) {
            problems.tell(
                format!("{path}.name"),
                format!("\"{name}\" {what} of the tier {tier}, write another name"),
            );
        }
    }
}

/// Tells of names that routes leave out and that no tier has, and of limits that no request would meet.
fn left_out(
    written: &[RouteWritten],
    routes: Option<&[Route]>,
    tiers: &[Tier<'_>],
    problems: &mut Problems,
) {
    let limits = || tiers.iter().flat_map(|tier| &tier.limits);
    // Else it is told what is wrong with them.
    let told = |tier: &Tier<'_>| !problems.as_written(&below("tiers", tier.name), "limits");
    if !problems.as_written("tiers", "")
        || tiers.iter().any(told)
        || limits().any(|limit| limit.name.is_none())
    {
        return;
    }
    let mut names: Vec<&str> = limits().filter_map(|limit| limit.name.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    // Who is charged by no route meets all limits, unless the last one is for everybody.
    let all = routes
        .filter(|routes| routes.last().is_some_and(|last| last.when.is_everything()))
        .filter(|_| problems.intact("routes"));
    let left_out_by_all = |name: &String| {
        all.is_some_and(|routes| {
            routes.iter().all(|route| match &route.effect {
                Effect::Charge { without, .. } => without.contains(name),
                Effect::Exempt => true,
            })
        })
    };
    for (index, route) in written.iter().enumerate() {
        let path = format!("routes[{index}].without");
        for (place, name) in route.without.iter().enumerate() {
            let path = format!("{path}[{place}]");
            if route.without.iter().take(place).any(|other| other == name) {
                problems.tell(path, format!("\"{name}\" is there twice, keep one"));
            } else if names.binary_search(&name.as_str()).is_err() {
                let names = match names.as_slice() {
                    [] => "leave it out".to_owned(),
                    names => format!("write one of: {}", names.join(", ")),
                };
                problems.tell(
                    path,
                    format!("\"{name}\" is not a limit of a tier, {names}"),
                );
            } else if index + 1 == written.len() && left_out_by_all(name) {
                problems.tell(
                    path,
                    format!(
                        "no request would meet the limit \"{name}\", because every route leaves it out; take it out of the tiers"
                    ),
                );
            }
        }
    }
}

/// The tier of everyone who is not listed, if so many can be told apart by its limits.
fn unknown(
    written: &UnknownWritten,
    tiers: &[Tier<'_>],
    routes: &[RouteWritten],
    problems: &mut Problems,
) -> Option<usize> {
    let index = tier_at(
        tiers,
        "tenant.unknown.tier".to_owned(),
        &written.tier,
        problems,
    )?;
    let tier = tiers.get(index)?;
    let of_tier = tier.written.limits.as_ref().map_or(0, Vec::len);
    let of_routes: usize = routes.iter().map(|route| route.limits.len()).sum();
    let limits = of_tier + of_routes;
    let most = table::largest(limits);
    if written.individually <= most {
        return Some(index);
    }
    let mut of_routes = (0..routes.len()).map(|route| format!("routes[{route}]"));
    if problems.as_written(&below("tiers", tier.name), "limits")
        && problems.as_written("routes", "")
        && of_routes.all(|route| problems.as_written(&route, "limits"))
    {
        problems.tell(
            "tenant.unknown.individually",
            format!(
                "{} is too many to tell apart by {limits} limits each, write at most {most}",
                written.individually
            ),
        );
    }
    None
}

fn told(written: &AnswerWritten, problems: &mut Problems) -> Answer {
    if !(400..=599).contains(&written.status) {
        problems.tell(
            "answer.status",
            format!(
                "{} is not the status of a refusal, write 400 to 599",
                written.status
            ),
        );
    }
    let jitter = written.retry_after.jitter;
    if jitter > 100 {
        problems.tell(
            "answer.retryAfter.jitter",
            format!("{jitter} percent is out of range, write 0 to 100"),
        );
    }
    Answer {
        status: written.status as u32,
        jitter,
        rate_limit: written.headers.rate_limit,
        x_rate_limit: written.headers.x_rate_limit,
    }
}

fn names(written: MetricsWritten, problems: &mut Problems) -> MetricNames {
    let MetricsWritten {
        admitted,
        refused,
        shadowed,
        tracked,
        evictions,
        contention,
        unsettled,
        settled,
    } = written;
    let all = [
        ("admitted", &admitted),
        ("refused", &refused),
        ("shadowed", &shadowed),
        ("tracked", &tracked),
        ("evictions", &evictions),
        ("contention", &contention),
        ("unsettled", &unsettled),
        ("settled", &settled),
    ];
    for (index, (field, name)) in all.iter().enumerate() {
        let Some(name) = name else { continue };
        let path = format!("metrics.{field}");
        if problems.take(metrics::name(name, &path)).is_none() {
            continue;
        }
        let mut before = all.iter().take(index);
        if let Some((other, _)) = before.find(|(_, other)| other.as_ref() == Some(name)) {
            problems.tell(
                path,
                format!("{name:?} is also the name of metrics.{other}, write another name"),
            );
        }
    }
    MetricNames {
        admitted,
        refused,
        shadowed,
        tracked,
        evictions,
        contention,
        unsettled,
        settled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Window;
    use crate::limit::{Kind, LARGEST_QUOTA, LONGEST_REFILL, SHORTEST_INTERVAL};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tollgate_common::TenantId;

    fn demo() -> Value {
        json!({
            "tenant": {
                "from": [{"header": "x-tenant-id"}],
                "missing": {"tenant": "anonymous"},
                "unknown": {"tier": "free", "individually": 10000},
            },
            "tiers": {
                "premium": {"limits": [{"name": "rate", "requests": 100, "per": "1s", "burst": 200}]},
                "standard": {"limits": [{"name": "rate", "requests": 20, "per": "1s", "burst": 40}]},
                "free": {"limits": [
                    {"name": "rate", "requests": 5, "per": "1s", "burst": 10},
                    {"name": "daily", "quota": 1000, "per": "day"},
                ]},
            },
            "tenants": {"acme": {"tier": "premium"}, "globex": {"tier": "standard"}, "initech": {"tier": "free"}},
            "metrics": {"refused": "shop_refused_total"},
        })
    }

    fn read(value: &Value) -> Result<Config, String> {
        Config::parse(value.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    fn plan<'a>(config: &'a Config, tier: &str) -> &'a LimitSet {
        let tier = config.tiers.iter().position(|name| name == tier).unwrap();
        match &config.plans[tier].allowance {
            Allowance::Limits(set) => set,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_on_requests_in_flight_are_apart_and_have_a_tenant_s_own_number() {
        let mut value = demo();
        value["tiers"]["free"]["limits"] = json!([{"name": "parallel", "concurrent": 20}, {"name": "rate", "requests": 5, "per": "1s"}]);
        value["tenants"]["initech"]["limits"] = json!([{"name": "parallel", "concurrent": 30}]);
        let config = read(&value).unwrap();
        assert!(config.limits_in_flight() && !read(&demo()).unwrap().limits_in_flight());
        let free = plan(&config, "free");
        assert_eq!(free.limits.len(), 1);
        assert_eq!(free.in_flight, [Concurrency::new("parallel", 20)]);
        let own = config.tenants["initech"].plan as usize;
        let Allowance::Limits(own) = &config.plans[own].allowance else {
            panic!("limits");
        };
        assert_eq!(own.in_flight, [Concurrency::new("parallel", 30)]);

        let mut value = demo();
        value["routes"] = json!([{"match": {}, "limits": [{"name": "exports", "concurrent": 1}]}]);
        assert!(read(&value).unwrap().limits_in_flight());
        value["routes"] = json!([{"match": {}, "limits": [{"name": "daily", "concurrent": 1}]}]);
        assert_eq!(
            read(&value).unwrap_err(),
            "routes[0].limits[0].name: \"daily\" names another limit of the tier free, write another name"
        );
    }

    #[test]
    fn the_demo_is_read() {
        let config = read(&demo()).unwrap();
        assert_eq!(config.tiers, ["free", "premium", "standard"]);
        assert_eq!(config.unknown, 0);
        assert_eq!(config.tenants["acme"].plan, 1);
        assert_eq!(config.plans.len(), 3);
        let free = plan(&config, "free");
        assert_eq!(
            free.limits[0].kind,
            Kind::Rate {
                interval: 200_000_000,
                burst: 10
            }
        );
        assert_eq!(
            free.limits[1].kind,
            Kind::Quota {
                quota: 1000,
                window: Window::Day
            }
        );
        assert_eq!(free.policy, r#""rate";q=10;w=2, "daily";q=1000;w=86400"#);
        assert_eq!(
            config.metrics.refused.as_deref(),
            Some("shop_refused_total")
        );
    }

    #[test]
    fn what_can_be_left_out_has_a_default() {
        let config = read(&json!({
            "tenant": {"from": [{"header": "X-Customer"}], "unknown": {"tier": "all"}},
            "tiers": {"all": {"limits": [{"name": "rate", "requests": 3, "per": "1s"}]}},
        }))
        .unwrap();
        assert!(
            matches!(config.sources.as_slice(), [Source::Header(name)] if name == "x-customer")
        );
        let anonymous = TenantId::normalise(b"anonymous").unwrap();
        assert_eq!(config.missing, Missing::Tenant(anonymous));
        assert_eq!(config.individually, 10_000);
        let all = plan(&config, "all");
        assert_eq!(
            all.limits[0].kind,
            Kind::Rate {
                interval: 333_333_334,
                burst: 3
            }
        );
        assert_eq!(all.policy, r#""rate";q=3;w=1"#);
        assert_eq!(config.metrics, MetricNames::default());
        assert!(config.routes.is_empty());
        let answer = Answer {
            status: 429,
            jitter: 10,
            rate_limit: true,
            x_rate_limit: false,
        };
        assert_eq!(config.answer, answer);
        let longest = [b'a'; 64];
        for (id, usable) in [
            (&b"Acme-1.eu_x"[..], true),
            (&longest, true),
            (b"a b", false),
        ] {
            assert_eq!(config.ids.read(id).is_some(), usable);
        }
    }

    #[test]
    fn a_tenant_overrides_single_limits_of_its_tier() {
        let mut config = demo();
        config["tiers"]["internal"] = json!({"unlimited": true});
        config["tiers"]["gone"] = json!({"blocked": true});
        config["tenants"]["initech"]["limits"] =
            json!([{"name": "daily", "quota": 5, "per": "month"}]);
        config["tenants"]["monitor"] = json!({"tier": "internal"});
        config["tenants"]["fraud"] = json!({"tier": "premium", "blocked": true});
        config["tenants"]["partner"] = json!({"tier": "gone", "unlimited": true});
        let config = read(&config).unwrap();
        let of = |id: &str| &config.plans[config.tenants[id].plan as usize];
        match &of("initech").allowance {
            Allowance::Limits(set) => {
                assert_eq!(set.policy, r#""rate";q=10;w=2, "daily";q=5;w=2678400"#);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(config.tiers[of("initech").tier], "free");
        assert!(matches!(of("monitor").allowance, Allowance::Unlimited));
        assert!(matches!(of("fraud").allowance, Allowance::Blocked));
        assert_eq!(config.tiers[of("fraud").tier], "premium");
        assert!(matches!(of("partner").allowance, Allowance::Unlimited));
    }

    #[test]
    fn ids_may_be_narrowed() {
        let mut config = demo();
        config["tenant"]["id"] = json!({"case": "refuse", "longest": 9, "characters": "a-z0-9-"});
        let ids = read(&config).unwrap().ids;
        for (id, usable) in [
            ("anonymous", true),
            (" a-1 ", true),
            ("acme-corps", false),
            ("Acme", false),
            ("a_b", false),
            ("a.b", false),
        ] {
            assert_eq!(ids.read(id.as_bytes()).is_some(), usable, "{id}");
        }
    }

    #[test]
    fn it_is_known_by_what_clients_choose_who_they_are() {
        let config = |from: Value, missing: Value| {
            read(&json!({
                "tenant": {"from": from, "missing": missing, "unknown": {"tier": "free"}},
                "tiers": {"free": {"unlimited": true}, "guest": {"unlimited": true}},
                "tenants": {"visitor": {"tier": "guest"}},
            }))
            .unwrap()
        };
        let by_clients = |from: Value| {
            let config = config(from, json!({}));
            let found = config.chosen_by_clients(|header| header == "x-of-the-proxy");
            found.map(|found| (found.source, found.what.clone()))
        };
        let verified = json!([{"claim": "a"}, {"peer": "spiffe://td/{tenant}"}, {"passedOn": {"peers": [{"exact": "spiffe://td/a"}]}}]);
        assert_eq!(by_clients(verified), None);
        for (source, what) in [
            (json!({"header": "X-Customer"}), "the header x-customer"),
            (json!({"host": "{tenant}.shop"}), "the host"),
            (json!({"path": "/{tenant}"}), "the path"),
            (json!({"query": "t"}), "the query parameter t"),
            (json!({"cookie": "t"}), "the cookie t"),
        ] {
            // Whoever shows no token is asked for it.
            let both = json!([{"claim": "a"}, source]);
            assert_eq!(by_clients(both), Some((1, what.to_owned())));
            let mut vouched = source;
            vouched["vouched"] = true.into();
            assert_eq!(by_clients(json!([vouched])), None);
        }
        // Of headers that the proxy writes itself the next one is asked.
        let written = json!([{"header": "X-Of-The-Proxy"}, {"query": "t"}]);
        assert_eq!(
            by_clients(written),
            Some((1, "the query parameter t".to_owned()))
        );
        assert_eq!(by_clients(json!([{"header": "x-of-the-proxy"}])), None);
        let from = json!([{"claim": "a"}]);
        for (missing, expected) in [
            (json!({}), Some(("anonymous", "free"))),
            (json!({"tenant": "visitor"}), Some(("visitor", "guest"))),
            (json!({"refuse": 401}), None),
        ] {
            let config = config(from.clone(), missing);
            assert_eq!(config.stranger(), expected);
            // Only who is not listed needs nobody's word for it.
            assert!(config.is_anyones("free") && !config.is_anyones("guest"));
        }
    }

    #[test]
    fn mistakes_say_where_what_and_what_to_write() {
        let name_rule = "write 1 to 64 of a-z, 0-9, _ and -, not starting with -";
        let limit = |limit: Value| ("/tiers/free/limits", json!([limit]));
        for ((at, value), expected) in [
            (("", json!({"tiers": {"all": {"unlimited": true}}})), "missing field \"tenant\"".to_owned()),
            (("/tenant/form", json!([])), "tenant.form: unknown field \"form\", expected one of \"from\", \"id\", \"missing\", \"unknown\"".into()),
            (("/tenant/from", json!([])), "tenant.from: there is no source, write e.g. [{header: x-tenant-id}]".into()),
            (("/tenant/from", json!([{}])), "tenant.from[0]: says not where to look, write e.g. {header: x-tenant-id}".into()),
            (
                ("/tenant/from", json!([{"jwt": "a"}])),
                "tenant.from[0].jwt: unknown field \"jwt\", expected one of \"claim\", \"issuer\", \"peer\", \"passedOn\", \"header\", \"host\", \"path\", \"query\", \"cookie\", \"vouched\"".into(),
            ),
            (("/tenant/from", json!([{"claim": "a", "peer": "b"}])), "tenant.from[0]: looks at claim and peer, write a source for each".into()),
            (("/tenant/from", json!([{"claim": []}])), "tenant.from[0].claim: names no claim, write for example tenant, or [realm, tenant] for one in another".into()),
            (("/tenant/from", json!([{"claim": ""}])), r#"tenant.from[0].claim: "" is not a claim's name, write for example "tenant""#.into()),
            (("/tenant/from", json!([{"claim": ["realm", "a\0b"]}])), "tenant.from[0].claim[1]: \"a\\0b\" is not a claim's name, write for example \"tenant\"".into()),
            (("/tenant/from", json!([{"claim": vec!["a"; 9]}])), "tenant.from[0].claim: 9 names are too many, write at most 8".into()),
            (("/tenant/from", json!([{"claim": 7}])), "tenant.from[0].claim: 7 is given, expected a string".into()),
            (("/tenant/from", json!([{"claim": "a"}, {"claim": ["a"]}])), "tenant.from[1]: is looked at twice, keep one".into()),
            (("/tenant/from", json!([{"peer": "cluster.local/ns/{tenant}"}])), r#"tenant.from[0].peer: "cluster.local/ns/{tenant}" is not a template of SPIFFE ids, write for example "spiffe://cluster.local/ns/{tenant}/sa/*""#.into()),
            (("/tenant/from", json!([{"peer": "spiffe://*/ns/{tenant}"}])), r#"tenant.from[0].peer: "spiffe://*/ns/{tenant}" would believe every trust domain, write the name of one, for example "spiffe://cluster.local/ns/{tenant}/sa/*""#.into()),
            (("/tenant/from", json!([{"passedOn": {"peers": []}}])), "tenant.from[0].passedOn.peers: is empty and trusts nobody, list identities".into()),
            (
                ("/tenant/from", json!([{"passedOn": {"peers": [{"regex": ".*"}]}}])),
                "tenant.from[0].passedOn.peers[0].regex: \".*\" does not begin with the trust domain of those who are meant, write for example \
                 \"spiffe://cluster.local/ns/ecommerce/sa/cart-service\"".into(),
            ),
            (("/tenant/from", json!([{"passedOn": {}}])), "tenant.from[0].passedOn: missing field \"peers\"".into()),
            (("/tenant/from", json!([{"header": "a", "issuer": "https://a.test"}])), "tenant.from[0].issuer: says whose claim is meant, and no claim is asked for, write it beside claim".into()),
            (("/tenant/from", json!([{"claim": "a", "issuer": ""}])), "tenant.from[0].issuer: is empty, write the issuer of the RequestAuthentication that is meant".into()),
            (("/tenant/from", json!([{"claim": "a", "vouched": true}])), "tenant.from[0].vouched: is said of what the proxy has verified itself, leave it out".into()),
            (("/tenant/from", json!([{"header": "a", "vouched": false}])), "tenant.from[0].vouched: false says nothing, leave it out".into()),
            (("/tenant/from", json!([{"header": "a"}, {"header": "A", "vouched": true}])), "tenant.from[1]: is looked at twice, keep one".into()),
            (("/tenant/from", json!([{"cookie": "a", "header": "b"}])), "tenant.from[0]: looks at header and cookie, write a source for each".into()),
            (("/tenant/from", json!([{"cookie": "a;b"}])), "tenant.from[0].cookie: \"a;b\" is not a cookie's name, write for example \"tenant\"".into()),
            (("/tenant/from", json!([{"query": "a b"}])), "tenant.from[0].query: \"a b\" is not a query parameter's name, write for example \"tenant\"".into()),
            (
                ("/tenant/from", json!([{"host": "shop.example.com"}])),
                "tenant.from[0].host: \"shop.example.com\" is not a template of hosts, write for example \"{tenant}.shop.example.com\"".into(),
            ),
            (
                ("/tenant/from", json!([{"path": "/t/{id}"}])),
                "tenant.from[0].path: \"/t/{id}\" is not a template of paths, write for example \"/t/{tenant}/**\"".into(),
            ),
            (
                ("/tenant/from", json!([{"header": "X-Tenant_Tier"}])),
                "tenant.from[0].header: \"x-tenant_tier\" is what this filter writes, write another header".into(),
            ),
            (("/tenant/id", json!({"case": "keep"})), "tenant.id.case: unknown variant \"keep\", expected \"lower\" or \"refuse\"".into()),
            (("/tenant/id", json!({"longest": 65})), "tenant.id.longest: 65 is out of range, write 1 to 64".into()),
            (
                ("/tenant/id", json!({"characters": "a-zA-Z"})),
                "tenant.id.characters: \"a-zA-Z\" is not a set of characters that ids may have, write some of a-z0-9._- (a - at the end stands for itself)".into(),
            ),
            (("/tenant/id", json!({"longest": 8})), "tenant.missing.tenant: no request has the tenant \"anonymous\", because of tenant.id".into()),
            (
                ("/tenant/missing", json!({"tenant": "a", "refuse": 401})),
                "tenant.missing: a request cannot be both a tenant's and refused, write tenant or refuse".into(),
            ),
            (("/tenant/missing", json!({"refuse": 403})), "tenant.missing.refuse: 403 does not say that an id is missing, write 401 or 400".into()),
            (
                ("/tenant/missing", json!({"refuse": 400, "challenge": "Bearer"})),
                "tenant.missing.challenge: only a 401 challenges, write refuse: 401 or leave it out".into(),
            ),
            (
                ("/tenant/missing", json!({"challenge": "Bearer"})),
                "tenant.missing.challenge: nobody is challenged without a refusal, write refuse: 401 or leave it out".into(),
            ),
            (
                ("/tenant/missing", json!({"refuse": 401, "challenge": "a\nb"})),
                "tenant.missing.challenge: \"a\\nb\" is not a challenge of at most 256 visible characters, write for example 'Bearer realm=\"shop\"'".into(),
            ),
            (("/tenant/missing/tenant", json!("none")), "tenant.missing.tenant: \"none\" is what metrics show in the place of ids, write another id".into()),
            (("/tenants/other", json!({"tier": "free"})), "tenants.other: \"other\" is what metrics show in the place of ids, write another id".into()),
            (("/tiers/free", json!({})), "tiers.free: write exactly one of limits, unlimited: true and blocked: true".into()),
            (("/tiers/free", json!({"unlimited": true, "blocked": true})), "tiers.free: write exactly one of limits, unlimited: true and blocked: true".into()),
            (("/tiers/free", json!({"blocked": false})), "tiers.free.blocked: false says nothing, leave it out".into()),
            (("/tenants/acme", json!({"tier": "free", "unlimited": true, "blocked": true})), "tenants.acme: write at most one of limits, unlimited: true and blocked: true".into()),
            (
                ("/tenants/acme", json!({"tier": "free", "limits": [{"name": "rat", "requests": 1, "per": "1s"}]})),
                "tenants.acme.limits[0].name: \"rat\" is not a limit of its tier free, write one of: rate, daily".into(),
            ),
            (
                ("/tenants/acme", json!({"tier": "free", "limits": [{"name": "rate", "requests": 1, "per": "1"}]})),
                "tenants.acme.limits[0].per: \"1\" is not a duration, write \"1s\"".into(),
            ),
            (limit(json!({"name": "none", "quota": 1, "per": "day"})), "tiers.free.limits[0].name: \"none\" is what metrics show where there is no limit, write another name".into()),
            (("/routes", json!([{"match": {}}])), "routes[0]: does nothing, write exempt: true, a cost, limits or without; cost: 1 is as without a route".into()),
            (("/routes", json!([{"cost": 2}])), "routes[0]: missing field \"match\"".into()),
            (("/routes", json!([{"match": {}, "exempt": true, "cost": 2}])), "routes[0]: is exempt, so it has neither cost nor limits, nor anything without: leave out one or the other".into()),
            (("/routes", json!([{"match": {}, "exempt": true, "without": ["daily"]}])), "routes[0]: is exempt, so it has neither cost nor limits, nor anything without: leave out one or the other".into()),
            (("/routes", json!([{"match": {"method": {"exact": "GET"}}, "without": ["daily", "daily"]}])), "routes[0].without[1]: \"daily\" is there twice, keep one".into()),
            (("/routes", json!([{"match": {"method": {"exact": "GET"}}, "without": ["tokens"]}])), "routes[0].without[0]: \"tokens\" is not a limit of a tier, write one of: daily, rate".into()),
            (("/routes", json!([{"match": {}, "without": ["daily"]}])), "routes[0].without[0]: no request would meet the limit \"daily\", because every route leaves it out; take it out of the tiers".into()),
            (("/routes", json!([{"match": {}, "exempt": false}])), "routes[0].exempt: false says nothing, leave it out".into()),
            (("/routes", json!([{"match": {}, "cost": 0}])), "routes[0].cost: 0 is no cost, write exempt: true for requests that cost nothing".into()),
            (("/routes", json!([{"match": {}, "cost": 1_000_001}])), "routes[0].cost: 1000001 is out of range, write 1 to 1000000".into()),
            (
                ("/routes", json!([{"match": {}, "cost": "5"}])),
                "routes[0].cost: \"5\" is given, expected a whole number, or a mapping such as {query: size, min: 1, max: 100, default: 10}".into(),
            ),
            (("/routes", json!([{"match": {}, "cost": 1.5}])), "routes[0].cost: 1.5 is given, expected a whole number, or a mapping such as {query: size, min: 1, max: 100, default: 10}".into()),
            (("/routes", json!([{"match": {}, "cost": {"query": "n", "max": 5, "default": 1}}])), "routes[0].cost: missing field \"min\"".into()),
            (("/routes", json!([{"match": {}, "cost": {"query": "n", "header": "n", "min": 1, "max": 5, "default": 1}}])), "routes[0].cost: says not where the cost is found, write either header or query".into()),
            (("/routes", json!([{"match": {}, "cost": {"query": "n", "min": 0, "max": 5, "default": 1}}])), "routes[0].cost.min: 0 would let a client pass for nothing, write at least 1".into()),
            (("/routes", json!([{"match": {}, "cost": {"query": "n", "min": 6, "max": 5, "default": 6}}])), "routes[0].cost.max: 5 is out of range, write 6 to 1000000".into()),
            (("/routes", json!([{"match": {}, "cost": {"query": "n", "min": 2, "max": 5, "default": 1}}])), "routes[0].cost.default: 1 is out of range, write 2 to 5".into()),
            (
                ("/routes", json!([{"match": {}, "cost": {"header": "x_tenant_id", "min": 2, "max": 5, "default": 2}}])),
                "routes[0].cost.header: \"x_tenant_id\" is what this filter writes, and what a client sends in it does not count; write another header".into(),
            ),
            (("/routes", json!([{"match": {}, "cost": 2}, {"match": {}, "cost": 3}])), "routes[1]: is never reached, because routes[0] matches every request; move that to the end".into()),
            (("/routes", json!([{"match": {"uri": {"exact": "/"}}, "cost": 2}])), "routes[0].match.uri: unknown field \"uri\", expected one of \"method\", \"path\", \"host\", \"headers\"".into()),
            (("/routes", json!([{"match": {"method": {}}, "cost": 2}])), "routes[0].match.method: write exactly one of exact, prefix, suffix, regex".into()),
            (("/routes", json!([{"match": {"path": {"prefix": "a"}}, "cost": 2}])), "routes[0].match.path.prefix: \"a\" never occurs, because paths begin with /, write \"/a\"".into()),
            (("/routes", json!([{"match": {"path": {"exact": "/a?b"}}, "cost": 2}])), "routes[0].match.path.exact: \"/a?b\" never occurs, because a path is matched without its query".into()),
            (("/routes", json!([{"match": {"host": {"exact": "Shop"}}, "cost": 2}])), "routes[0].match.host.exact: \"Shop\" never occurs, because hosts are lowered and have no port here".into()),
            (("/routes", json!([{"match": {"headers": {"a": {"exact": "1"}, "A": {"exact": "1"}}}, "cost": 2}])), "routes[0].match.headers.a: \"a\" is there twice, keep one".into()),
            (
                ("/routes", json!([{"match": {}, "limits": [{"name": "daily", "requests": 1, "per": "1s"}]}])),
                "routes[0].limits[0].name: \"daily\" names another limit of the tier free, write another name".into(),
            ),
            (
                ("/routes", json!([
                    {"match": {"method": {"exact": "PUT"}}, "limits": [{"name": "a", "requests": 1, "per": "1s"}]},
                    {"match": {}, "limits": [{"name": "a", "requests": 1, "per": "1s"}]},
                ])),
                "routes[1].limits[0].name: \"a\" names another limit of a route, write another name".into(),
            ),
            (
                ("/routes", json!([{"match": {}, "limits": (0..17).map(|n| json!({"name": format!("a{n}"), "quota": 1, "per": "day"})).collect::<Vec<_>>()}])),
                "routes[0].limits: 17 limits in all routes are too many, write at most 16".into(),
            ),
            (("/answer", json!({"status": 200})), "answer.status: 200 is not the status of a refusal, write 400 to 599".into()),
            (("/answer", json!({"retryAfter": {"jitter": 101}})), "answer.retryAfter.jitter: 101 percent is out of range, write 0 to 100".into()),
            (("/answer", json!({"headers": {"xRateLimit": "yes"}})), "answer.headers.xRateLimit: \"yes\" is given, expected true or false".into()),
            (("/metrics", json!({"admitted": "a", "tracked": "a"})), "metrics.tracked: \"a\" is also the name of metrics.admitted, write another name".into()),
            (("/tenant/from", json!([{"header": "x tenant"}])), "tenant.from[0].header: \"x tenant\" is not a header's name, write for example \"x-user-id\"".into()),
            (
                ("/tenant/from", json!([{"header": "Host"}])),
                "tenant.from[0].header: \"Host\" is not a header here but a part of the request line, write a header's name".into(),
            ),
            (("/tenant/from", json!([{"header": "a"}, {"header": "A"}])), "tenant.from[1]: is looked at twice, keep one".into()),
            (("/tenant/missing/tenant", json!("no body")), "tenant.missing.tenant: \"no body\" cannot be a tenant's id, write 1 to 64 of a-z, 0-9, ., _ and -".into()),
            (("/tenant/unknown/tier", json!("fre")), "tenant.unknown.tier: \"fre\" is not a tier, write one of: free, premium, standard".into()),
            (("/tenant/unknown/individually", json!(2_000_000)), "tenant.unknown.individually: 2000000 is too many to tell apart by 2 limits each, write at most 453040".into()),
            (("/tenants/acme/tier", json!("gold")), "tenants.acme.tier: \"gold\" is not a tier, write one of: free, premium, standard".into()),
            (("/tenants/Acme", json!({"tier": "free"})), "tenants.Acme: no request has the tenant \"Acme\", because ids are trimmed and lowered, write \"acme\"".into()),
            (("/tenants/a,b", json!({"tier": "free"})), "tenants[\"a,b\"]: \"a,b\" cannot be a tenant's id, write 1 to 64 of a-z, 0-9, ., _ and -".into()),
            (("/tenants/acme", json!("free")), "tenants.acme: \"free\" is given, expected a mapping".into()),
            (("/tiers", json!({})), "tiers: there is none, write at least one tier with its limits".into()),
            (("/total", json!({"requests": 0, "per": "1s"})), "total.requests: 0 lets nobody pass, write at least 1".into()),
            (("/total", json!({"requests": 2_000_001, "per": "2s"})), "total.requests: 2000001 per 2s is more than 1000000 a second, write at most 2000000".into()),
            (("/total", json!({"requests": 1, "per": "day"})), "total.per: \"day\" is a window, which a quota has; requests are per duration, write \"1d\"".into()),
            (("/total", json!({"requests": 1000, "per": "1s", "burst": 249})), "total.burst: 249 is too small to be shared, write at least 250".into()),
            (("/total", json!({"requests": 1, "per": "1s", "burst": 9})), "total.burst: 9 is too small to be shared, write at least 10".into()),
            (("/total", json!({"requests": 1, "per": "1d", "burst": 400})), "total.burst: 400 at 1 per 1d takes longer than 366 days to come back, write at most 366".into()),
            (("/total", json!({"requests": 1, "per": "366d"})), "total.burst: 10 at 1 per 366d takes longer than 366 days to come back, write at most 1".into()),
            (("/total", json!({"requests": 1, "per": "1s", "name": "all"})), "total.name: unknown field \"name\", expected one of \"requests\", \"per\", \"burst\", \"mode\", \"enforcedFor\"".into()),
            (
                ("/total", json!({"requests": 1000, "per": "1s", "enforcedFor": {"share": 5}})),
                "total.enforcedFor: the limit is enforced for all, write mode: shadow beside it, or leave it out".into(),
            ),
            (
                ("/total", json!({"requests": 1000, "per": "1s", "mode": "shadow", "enforcedFor": {"share": 5, "outOf": 4}})),
                "total.enforcedFor.share: 5 is more than there are, write at most 4".into(),
            ),
            (
                limit(json!({"name": "a", "concurrent": 2, "mode": "shadow", "enforcedFor": {"share": 101}})),
                "tiers.free.limits[0].enforcedFor.share: 101 is more than there are, write at most 100".into(),
            ),
            (("/total", json!("1000")), "total: \"1000\" is given, expected a mapping".into()),
            (("/tiers/free/weight", json!(2)), "tiers.free.weight: there is nothing to share by it, write total, or leave it out".into()),
            (("/tenants/acme/weight", json!(2)), "tenants.acme.weight: there is nothing to share by it, write total, or leave it out".into()),
            (("/tenants/acme/weight", json!(0)), "tenants.acme.weight: 0 is out of range, write 1 to 1000".into()),
            (("/tiers/Gold", json!({"unlimited": true})), format!("tiers.Gold: \"Gold\" cannot be a tier's name, {name_rule}, and neither other nor none")),
            (("/tiers/free/limits", json!([])), "tiers.free.limits: there is none, write at least one limit".into()),
            (("/tiers/free/limits", (0..17).map(|n| json!({"name": format!("a{n}"), "quota": 1, "per": "day"})).collect()), "tiers.free.limits: 17 limits are too many, write at most 16".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "10"})), "tiers.free.limits[0].per: \"10\" is not a duration, write \"10s\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": 10})), "tiers.free.limits[0].per: \"10\" is not a duration, write \"10s\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": []})), "tiers.free.limits[0].per: a list is given, expected a duration such as \"10s\" or a window such as \"day\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "day"})), "tiers.free.limits[0].per: \"day\" is a window, which a quota has; requests are per duration, write \"1d\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "month"})), "tiers.free.limits[0].per: \"month\" is a window, which a quota has; requests are per duration, write \"30d\"".into()),
            (limit(json!({"name": "a", "requests": 1})), "tiers.free.limits[0]: missing field \"per\"".into()),
            (limit(json!({"name": "a", "requests": 0, "per": "1s"})), "tiers.free.limits[0].requests: 0 lets nobody pass, write at least 1".into()),
            (limit(json!({"name": "a", "requests": 2_000_001, "per": "2s"})), "tiers.free.limits[0].requests: 2000001 per 2s is more than 1000000 a second, write at most 2000000".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "999ns"})), "tiers.free.limits[0].per: \"999ns\" is too short to count in, write at least \"1us\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "1s", "burst": 0})), "tiers.free.limits[0].burst: 0 lets nobody pass, write at least 1".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "1d", "burst": 400})), "tiers.free.limits[0].burst: 400 at 1 per 1d takes longer than 366 days to come back, write at most 366".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "1s", "burst": -5})), "tiers.free.limits[0].burst: -5 is given, expected a whole number, e.g. 100".into()),
            (limit(json!({"name": "a", "quota": 1, "per": "10s"})), "tiers.free.limits[0].per: \"10s\" is not a window of a quota, write one of: minute, hour, day, month".into()),
            (limit(json!({"name": "a", "quota": 1, "per": "day", "burst": 2})), "tiers.free.limits[0].burst: a quota has no burst, leave it out, or write requests in place of quota".into()),
            (limit(json!({"name": "a", "quota": 0, "per": "day"})), "tiers.free.limits[0].quota: 0 is out of range, write 1 to 1000000000000".into()),
            (limit(json!({"name": "a", "quota": 1, "requests": 1, "per": "day"})), "tiers.free.limits[0]: write one of requests (a rate, per duration), quota (a number per window) and concurrent (a number in flight)".into()),
            (limit(json!({"name": "a", "per": "day"})), "tiers.free.limits[0]: write one of requests (a rate, per duration), quota (a number per window) and concurrent (a number in flight)".into()),
            (limit(json!({"name": "a", "concurrent": 2, "quota": 1, "per": "day"})), "tiers.free.limits[0]: write one of requests (a rate, per duration), quota (a number per window) and concurrent (a number in flight)".into()),
            (limit(json!({"name": "a", "quota": 1})), "tiers.free.limits[0]: missing field \"per\"".into()),
            (limit(json!({"name": "a", "concurrent": 0})), "tiers.free.limits[0].concurrent: 0 is out of range, write 1 to 1000000".into()),
            (limit(json!({"name": "a", "concurrent": 1_000_001})), "tiers.free.limits[0].concurrent: 1000001 is out of range, write 1 to 1000000".into()),
            (limit(json!({"name": "a", "concurrent": "2"})), "tiers.free.limits[0].concurrent: \"2\" is given, expected a whole number, e.g. 100".into()),
            (limit(json!({"name": "a", "concurrent": 2, "per": "1s"})), "tiers.free.limits[0].per: concurrent is how many requests are in flight at the same time, not in a time; leave it out".into()),
            (limit(json!({"name": "a", "concurrent": 2, "burst": 3})), "tiers.free.limits[0].burst: concurrent is how many requests are in flight at the same time, not in a time; leave it out".into()),
            (limit(json!({"name": "A b", "quota": 1, "per": "day"})), format!("tiers.free.limits[0].name: \"A b\" cannot be a limit's name, {name_rule}")),
            (limit(json!({"name": "a", "quota": 1, "per": "day", "mode": "off"})), "tiers.free.limits[0].mode: unknown variant \"off\", expected \"enforce\" or \"shadow\"".into()),
            (
                limit(json!({"name": "a", "quota": 1, "per": "day", "enforcedFor": {"share": 5}})),
                "tiers.free.limits[0].enforcedFor: the limit is enforced for all, write mode: shadow beside it, or leave it out".into(),
            ),
            (
                limit(json!({"name": "a", "quota": 1, "per": "day", "mode": "shadow", "enforcedFor": {"share": 101}})),
                "tiers.free.limits[0].enforcedFor.share: 101 is more than there are, write at most 100".into(),
            ),
            (
                limit(json!({"name": "a", "quota": 1, "per": "day", "mode": "shadow", "enforcedFor": {"share": 1, "outOf": 0}})),
                "tiers.free.limits[0].enforcedFor.outOf: 0 is out of range, write 1 to 1000000".into(),
            ),
            (
                limit(json!({"name": "a", "quota": 1, "per": "day", "mode": "shadow", "enforcedFor": {"share": 1, "salt": ""}})),
                "tiers.free.limits[0].enforcedFor.salt: \"\" is no salt, write 1 to 64 bytes without control characters".into(),
            ),
            (
                limit(json!({"name": "a", "quota": 1, "per": "day", "mode": "shadow", "enforcedFor": 25})),
                "tiers.free.limits[0].enforcedFor: 25 is given, expected a mapping".into(),
            ),
            (limit(json!(["a", 1, null, "1s", null])), "tiers.free.limits[0]: a list is given, expected a mapping".into()),
            (
                ("/tiers/free/limits", json!([{"name": "a", "quota": 1, "per": "day"}, {"name": "a", "requests": 1, "per": "1s"}])),
                "tiers.free.limits[1].name: \"a\" names another limit of this list, write another name".into(),
            ),
            (
                ("/metrics/refused", json!("refused_rq_429")),
                "metrics.refused: \"refused_rq_429\" ends as Envoy's own counters by status do, choose another ending".into(),
            ),
            (("/metrics/refused", json!("shop refused")), "metrics.refused: \"shop refused\" is not a metric's name, write 1 to 128 of a-z, A-Z, 0-9 and _, not starting with a digit".into()),
        ] {
            let mut config = demo();
            match at.rsplit_once('/') {
                None => config = value.clone(),
                Some((parent, key)) => config.pointer_mut(parent).unwrap()[key] = value.clone(),
            }
            assert_eq!(
                read(&config).map(drop),
                Err(expected.clone()),
                "{at} = {value}"
            );
            // And nothing that only comes of it.
            let told = check(config.to_string().as_bytes()).map_err(|told| told.to_string());
            assert_eq!(told, Err(expected), "{at} = {value}");
        }
    }

    #[test]
    fn limits_in_shadow_are_told() {
        let mut config = demo();
        assert_eq!(shadows(config.to_string().as_bytes()), []);
        let shadow = |name: &str, others: Value| {
            let mut limit = json!({"name": name, "quota": 5, "per": "day", "mode": "shadow"});
            if others != Value::Null {
                limit["enforcedFor"] = others;
            }
            limit
        };
        config["tiers"]["free"]["limits"][1] = shadow("daily", json!({"share": 25}));
        config["tiers"]["premium"]["limits"][0] = shadow("rate", Value::Null);
        config["tenants"]["initech"]["limits"] = json!([shadow(
            "daily",
            json!({"share": 7, "outOf": 7, "salt": "s"})
        )]);
        config["routes"] = json!([{"match": {}, "cost": 2, "limits": [shadow("login", json!({"share": 1, "outOf": 1000}))]}]);
        let parallel = json!({"name": "parallel", "concurrent": 5, "mode": "shadow", "enforcedFor": {"share": 10}});
        let of_premium = config["tiers"]["premium"]["limits"].as_array_mut();
        of_premium.unwrap().push(parallel);
        config["total"] =
            json!({"requests": 1000, "per": "1s", "mode": "shadow", "enforcedFor": {"share": 1}});
        let told: Vec<String> = shadows(config.to_string().as_bytes())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "total.mode: the limit total is in shadow for all but 1 of 100 tenants",
                "tiers.free.limits[1].mode: the limit daily is in shadow for all but 25 of 100 tenants",
                "tiers.premium.limits[0].mode: the limit rate is in shadow and refuses nobody",
                "tiers.premium.limits[1].mode: the limit parallel is in shadow for all but 10 of 100 tenants",
                "tenants.initech.limits[0].mode: the limit daily is in shadow, though enforced for all tenants; write mode: enforce, without enforcedFor",
                "routes[0].limits[0].mode: the limit login is in shadow for all but 1 of 1000 tenants",
            ]
        );
        let config = read(&config).unwrap();
        // What clients are told is of limits that are enforced.
        assert_eq!(plan(&config, "premium").policy, "");
        let premium = plan(&config, "premium");
        assert!(premium.is_by_tenant());
        let acme = TenantId::normalise(b"acme").unwrap();
        assert_eq!(
            [premium.in_shadow(&acme), premium.in_flight_in_shadow(&acme)]
                .map(|shadow| shadow.has(0)),
            [true, true]
        );
        let mode = &config.total.as_ref().unwrap().limit().mode;
        assert!(mode.is_by_tenant() && mode.is_shadow(&acme));
    }

    #[test]
    fn of_a_configuration_that_is_refused_no_limits_in_shadow_are_told() {
        let mut config = demo();
        config["tiers"]["free"]["limits"][1]["mode"] = "shadow".into();
        config["answer"] = json!({"status": 200});
        assert_eq!(shadows(config.to_string().as_bytes()), []);
    }

    #[test]
    fn a_total_is_shared_by_weight() {
        let mut config = demo();
        config["total"] = json!({"requests": 1000, "per": "1s"});
        config["tiers"]["premium"]["weight"] = json!(5);
        config["tiers"]["free"]["weight"] = json!(2);
        config["tenants"]["globex"]["weight"] = json!(3);
        let config = read(&config).unwrap();
        // acme's tier has 5, globex has 3, and initech is in the tier free, with everyone who is not listed.
        let weights = ["acme", "globex", "initech"].map(|id| config.tenants[id].weight);
        assert_eq!((weights, config.unlisted_weight), ([5, 3, 2], 2));
        assert_eq!(config.total, Some(Total::new(1_000_000, 1_000, 2, 12)));
        assert_eq!(config.plans.len(), 3, "a weight is no plan");

        // A second's worth, or a quarter of one, or ten.
        for (requests, per, burst) in [(100, "1m", 100), (100, "100ms", 250), (5, "1s", 10)] {
            let mut config = demo();
            config["total"] = json!({"requests": requests, "per": per});
            let total = read(&config).unwrap().total.unwrap();
            assert_eq!(total.limit().kind.units(), burst, "{requests} per {per}");
        }
        assert_eq!(read(&demo()).unwrap().total, None);
    }

    #[test]
    fn no_limit_is_taken_for_the_total() {
        let mut config = demo();
        config["tiers"]["free"]["limits"][0]["name"] = json!("total");
        config["routes"] =
            json!([{"match": {}, "limits": [{"name": "total", "requests": 1, "per": "1m"}]}]);
        let told =
            |config: &Value| check(config.to_string().as_bytes()).map_err(|told| told.to_string());
        config["routes"][0]["limits"][0]["name"] = json!("writes");
        assert_eq!(told(&config), Ok(()), "there is none");
        config["total"] = json!({"requests": 1000, "per": "1s"});
        let message = "\"total\" is what metrics show for the total, write another name";
        assert_eq!(
            told(&config),
            Err(format!("tiers.free.limits[0].name: {message}"))
        );
        config["tiers"]["free"]["limits"][0]["name"] = json!("rate");
        config["routes"][0]["limits"][0]["name"] = json!("total");
        assert_eq!(
            told(&config),
            Err(format!("routes[0].limits[0].name: {message}"))
        );
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let text = demo().to_string().replacen("\"globex\"", "\"acme\"", 1);
        assert_eq!(
            Config::parse(text.as_bytes()).unwrap_err().to_string(),
            "tenants: \"acme\" is given twice, keep one"
        );
    }

    #[test]
    fn five_thousand_tenants_are_read() {
        let mut config = demo();
        for n in 0..5_000 {
            let tenant = &mut config["tenants"][format!("tenant-{n}")];
            *tenant = json!({"tier": "standard"});
            if n % 5 == 0 {
                tenant["limits"] = json!([{"name": "rate", "requests": n + 1, "per": "1s"}]);
            }
        }
        let config = read(&config).unwrap();
        assert_eq!(config.tenants.len(), 5_003);
        assert_eq!(config.plans.len(), 3 + 1_000, "others share their tier's");
        let numbers: std::collections::HashSet<u32> = config
            .tenants
            .values()
            .map(|listed| listed.number)
            .collect();
        assert_eq!(numbers.len(), 5_003);
        let plan = config.tenants["tenant-4995"].plan as usize;
        match &config.plans[plan].allowance {
            Allowance::Limits(set) => assert_eq!(set.policy, r#""rate";q=4996;w=1"#),
            other => panic!("{other:?}"),
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            Just("tenant"),
            Just("from"),
            Just("header"),
            Just("missing"),
            Just("unknown"),
            Just("tier"),
            Just("individually"),
            Just("tiers"),
            Just("limits"),
            Just("name"),
            Just("requests"),
            Just("per"),
            Just("burst"),
            Just("quota"),
            Just("tenants"),
            Just("metrics"),
            Just("refused"),
            Just("routes"),
            Just("match"),
            Just("path"),
            Just("cost"),
            Just("query"),
            Just("min"),
            Just("max"),
            Just("default"),
            Just("exempt"),
            Just("unlimited"),
            Just("total"),
            Just("weight"),
            Just("answer"),
            Just("é"),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop_oneof![
                Just("day"),
                Just("1s"),
                Just("free"),
                Just("18446744073709551615d")
            ]
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| entries
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Config::parse(&bytes);
        }

        #[test]
        fn no_json_makes_it_panic(value in any_json(), at in 0_usize..16) {
            let _ = read(&value);
            let places = ["/tenant", "/tenant/from", "/tenant/from/0", "/tenant/unknown", "/tenant/missing", "/tiers", "/tiers/free", "/tiers/free/limits",
                "/tiers/free/limits/0", "/tiers/free/limits/0/per", "/tenants", "/metrics", "/tenants/acme", "/routes", "/routes/0/match", "/routes/0/cost"];
            let mut config = demo();
            config["routes"] = json!([{"match": {}, "cost": 1}]);
            *config.pointer_mut(places[at]).unwrap() = value;
            let _ = read(&config);
        }

        #[test]
        fn accepted_numbers_never_overflow(
            requests in prop_oneof![any::<u64>(), 1_u64..10_000_000],
            burst in prop_oneof![any::<u64>(), 1_u64..10_000_000],
            quota in prop_oneof![any::<u64>(), 1_u64..10_000_000],
            seconds in 1_u64..40_000_000,
        ) {
            let mut config = demo();
            config["tiers"]["free"]["limits"] = json!([
                {"name": "a", "requests": requests, "per": format!("{seconds}s"), "burst": burst},
                {"name": "b", "quota": quota, "per": "month"},
            ]);
            if let Ok(config) = read(&config) {
                for limit in &plan(&config, "free").limits {
                    match limit.kind {
                        Kind::Rate { interval, burst } => prop_assert!(interval >= SHORTEST_INTERVAL && interval.checked_mul(burst).unwrap() <= LONGEST_REFILL),
                        Kind::Quota { quota, .. } => prop_assert!((1..=LARGEST_QUOTA).contains(&quota)),
                    }
                }
            }
        }
    }
}
