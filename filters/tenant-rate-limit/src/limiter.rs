//! Who a request is from, what it costs, and whose record it is charged to: the decisions that need no state.

use std::borrow::Cow;

use tollgate_common::header::TENANT_ID;
use tollgate_common::{Given, Path, StringMatch, Target, TenantId, cookie, host, parameter};
use tollgate_host::{Copies, HeaderMap, same_name};

use crate::config::{
    ClaimPath, Config, Cost, Effect, LimitSet, Match, Missing, Place, Plan, Route, Source,
};
use crate::ledger::Account;
use crate::rules::{Rules, Sets};

/// A configuration, ready to be asked.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
    sets: Sets,
    /// Whether anything depends on the path or the query.
    reads_target: bool,
    /// Whether anything depends on the host.
    reads_host: bool,
}

/// What the limiter looks at in a request. Parts that the configuration does not ask for are not looked up.
#[derive(Debug)]
pub struct View<'a> {
    headers: &'a HeaderMap,
    path: Path<'a>,
    query: &'a [u8],
    host: Given<&'a [u8]>,
}

/// What the proxy vouches for. Only sources that need it ask.
pub trait Vouched {
    /// A claim of the token that was verified. Ambiguous if it is there and no string.
    fn claim(&self, claim: &ClaimPath) -> Given<Cow<'_, [u8]>>;
    /// The SPIFFE id of the peer, if the connection is mutual TLS.
    fn peer(&self) -> Option<&[u8]>;
}

/// Whom a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A tenant.
    Tenant(Tenant),
    /// Nobody, and that is not allowed.
    Nobody {
        /// Whether it says something, though nothing usable.
        unusable: bool,
    },
}

/// Who a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The normalised id.
    pub id: TenantId,
    /// Its plan, for [`Limiter::plan`].
    pub plan: usize,
    /// Its number if the configuration lists it.
    pub listed: Option<u32>,
    /// Its weight in the total. All who are not listed have one together.
    pub weight: u64,
}

/// What a request is charged, if its tenant has limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toll {
    /// Nothing.
    Exempt,
    /// So much, at least 1.
    Cost {
        /// The amount.
        cost: u64,
        /// What routes do to its limits, for [`Limiter::route_limits`].
        rules: Rules,
    },
}

impl Limiter {
    /// A limiter with this configuration.
    pub fn new(config: Config) -> Self {
        let on_path = |route: &Route| {
            let costs = matches!(
                &route.effect,
                Effect::Charge {
                    cost: Cost::Found {
                        place: Place::Query(_),
                        ..
                    },
                    ..
                }
            );
            route.when.path.is_some() || costs
        };
        let in_target = |source: &Source| matches!(source, Source::Path(_) | Source::Query(_));
        let in_host = |source: &Source| matches!(source, Source::Host(_));
        Self {
            reads_target: config.sources.iter().any(in_target) || config.routes.iter().any(on_path),
            reads_host: config.sources.iter().any(in_host)
                || config.routes.iter().any(|route| route.when.host.is_some()),
            sets: Sets::of(&config.routes, &config.plans),
            config,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is to be looked at in a request.
    pub fn view<'a>(&self, headers: &'a HeaderMap) -> View<'a> {
        let target = match self.reads_target {
            true => Target::of(headers.first(":path").unwrap_or_default()),
            false => Target::of(b""),
        };
        let host = match self.reads_host {
            true => copies(headers, ":authority").map(host),
            false => Given::Absent,
        };
        View {
            headers,
            path: Path::of(target.path),
            query: target.query,
            host,
        }
    }

    /// Who a request is from: whom the first source names in which there is anything. If that is no usable id, or there are several of
    /// which others might believe another one, the request has none: the next source is not looked at, because a client
    /// that can spoil the first must not choose by that which one counts.
    pub fn identify(&self, view: &View<'_>, vouched: &dyn Vouched) -> Identity {
        let mut unusable = false;
        for source in &self.config.sources {
            match source.read(view, vouched) {
                Given::Absent => {}
                Given::Ambiguous => {
                    unusable = true;
                    break;
                }
                Given::One(raw) => match self.config.ids.read(&raw) {
                    Some(id) => return Identity::Tenant(self.tenant(id)),
                    None => {
                        unusable = true;
                        break;
                    }
                },
            }
        }
        match &self.config.missing {
            Missing::Tenant(id) => Identity::Tenant(self.tenant(*id)),
            Missing::Refuse { .. } => Identity::Nobody { unusable },
        }
    }

    fn tenant(&self, id: TenantId) -> Tenant {
        match self.config.tenants.get(id.as_str()) {
            Some(listed) => Tenant {
                id,
                plan: listed.plan as usize,
                listed: Some(listed.number),
                weight: listed.weight,
            },
            None => Tenant {
                id,
                plan: self.config.unknown,
                listed: None,
                weight: self.config.unlisted_weight,
            },
        }
    }

    /// What a request is charged: what the first route says that matches. Where the path has two readings, each has its
    /// route, and the request is charged by both: the larger cost, to the limits of either, and nothing only if both are exempt. Else a client could write the path of a route that costs
    /// more so that it is charged in the place of one that has limits.
    pub fn toll(&self, view: &View<'_>) -> Toll {
        if self.config.routes.is_empty() {
            return Toll::Cost {
                cost: 1,
                rules: Rules::default(),
            };
        }
        let plain = self.route(view, view.path.plain());
        let Some(loose) = view.path.loose() else {
            return self.toll_of(plain, view);
        };
        let loose = self.route(view, loose);
        match (self.toll_of(plain, view), self.toll_of(loose, view)) {
            (Toll::Exempt, toll) | (toll, Toll::Exempt) => toll,
            (
                Toll::Cost { cost, rules },
                Toll::Cost {
                    cost: other_cost,
                    rules: other_rules,
                },
            ) => Toll::Cost {
                cost: cost.max(other_cost),
                rules: self.sets.both(rules, other_rules),
            },
        }
    }

    fn route(&self, view: &View<'_>, path: &[u8]) -> Option<usize> {
        let mut routes = self.config.routes.iter();
        routes.position(|route| route.when.holds(view, path))
    }

    fn toll_of(&self, route: Option<usize>, view: &View<'_>) -> Toll {
        let rules = self.sets.route(route);
        match route.and_then(|index| Some(&self.config.routes.get(index)?.effect)) {
            None => Toll::Cost { cost: 1, rules },
            Some(Effect::Exempt) => Toll::Exempt,
            Some(Effect::Charge { cost, .. }) => Toll::Cost {
                cost: cost.of(view),
                rules,
            },
        }
    }

    /// The plan of an index that this limiter gave.
    pub fn plan(&self, index: usize) -> Option<&Plan> {
        self.config.plans.get(index)
    }

    /// The name of a plan's tier.
    pub fn tier(&self, plan: &Plan) -> &str {
        self.config.tiers.get(plan.tier).map_or("", String::as_str)
    }

    /// The limits of a plan that a request meets, if any of that plan's are left out by routes.
    pub fn narrowed(&self, plan: usize, rules: Rules) -> Option<&LimitSet> {
        self.sets.narrowed(plan, rules)
    }

    /// The limits of routes, by what this limiter gave.
    pub fn route_limits(&self, rules: Rules) -> &LimitSet {
        self.sets.added(rules)
    }

    /// Whose record a tenant's requests are charged to.
    pub fn account<'a>(&self, tenant: &'a Tenant, tier: &'a str) -> Account<'a> {
        match tenant.listed {
            Some(_) => Account::Listed(&tenant.id),
            None => Account::Unlisted {
                id: &tenant.id,
                tier,
            },
        }
    }

    /// Whether metrics have a tenant's id: if the configuration names it. All others are counted together, so that clients
    /// cannot invent series.
    pub fn names(&self, tenant: &Tenant) -> bool {
        tenant.listed.is_some()
            || matches!(&self.config.missing, Missing::Tenant(id) if *id == tenant.id)
    }
}

fn copies<'a>(headers: &'a HeaderMap, name: &'a str) -> Given<&'a [u8]> {
    match headers.copies(name) {
        Copies::Absent => Given::Absent,
        Copies::One(value) => Given::One(value),
        Copies::Several => Given::Ambiguous,
    }
}

impl Source {
    fn read<'a>(&'a self, view: &'a View<'_>, vouched: &'a dyn Vouched) -> Given<Cow<'a, [u8]>> {
        match self {
            Self::Claim(claim) => vouched.claim(claim),
            Self::Peer(template) => match vouched.peer().and_then(|peer| template.read(peer)) {
                Some(id) => Given::One(Cow::Borrowed(id)),
                None => Given::Absent,
            },
            // Of anybody else it says nothing, and is written anew.
            Self::PassedOn(peers) => match vouched.peer() {
                Some(peer) if peers.iter().any(|trusted| trusted.matches(peer)) => {
                    copies(view.headers, TENANT_ID).map(Cow::Borrowed)
                }
                _ => Given::Absent,
            },
            Self::Header(name) => copies(view.headers, name).map(Cow::Borrowed),
            Self::Host(template) => match view.host {
                Given::One(host) => match template.read(host) {
                    Some(id) => Given::One(Cow::Borrowed(id)),
                    None => Given::Absent,
                },
                Given::Absent => Given::Absent,
                Given::Ambiguous => Given::Ambiguous,
            },
            Self::Path(template) => template.read(&view.path).map(Cow::Borrowed),
            Self::Query(name) => parameter(view.query, name),
            Self::Cookie(name) => cookie(view.headers.all("cookie"), name).map(Cow::Borrowed),
        }
    }
}

impl Match {
    fn holds(&self, view: &View<'_>, path: &[u8]) -> bool {
        let header = |name: &str, condition: &StringMatch| match view.headers.copies(name) {
            Copies::One(value) => condition.matches(value),
            Copies::Absent | Copies::Several => false,
        };
        let method = |condition: &StringMatch| header(":method", condition);
        let host = |condition: &StringMatch| match view.host {
            Given::One(host) => condition.matches(&lower(host)),
            Given::Absent | Given::Ambiguous => false,
        };
        self.path
            .as_ref()
            .is_none_or(|condition| condition.matches(path))
            && self.method.as_ref().is_none_or(method)
            && self.host.as_ref().is_none_or(host)
            && self
                .headers
                .iter()
                .all(|(name, condition)| header(name, condition))
    }
}

fn lower(host: &[u8]) -> Cow<'_, [u8]> {
    if host.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

impl Cost {
    /// What a request costs. Whoever sends something that only others understand pays the most: a service might read it as that.
    fn of(&self, view: &View<'_>) -> u64 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Found {
                place,
                min,
                max,
                default,
            } => match place.read(view) {
                Given::Absent => *default,
                Given::One(text) => number(&text).map_or(*max, |number| number.clamp(*min, *max)),
                Given::Ambiguous => *max,
            },
        }
    }
}

impl Place {
    fn read<'a>(&self, view: &View<'a>) -> Given<Cow<'a, [u8]>> {
        match self {
            Self::Header(name) => {
                // In every spelling that some server reads as this header.
                let mut found = Given::Absent;
                for (given, value) in view.headers.iter() {
                    if same_name(given, name.as_bytes()) {
                        found = found.and(Cow::Borrowed(value));
                    }
                }
                found
            }
            Self::Query(name) => parameter(view.query, name),
        }
    }
}

/// A whole number in digits alone.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = text.iter().map(|digit| u64::from(digit - b'0'));
    Some(digits.fold(0, |number: u64, digit| {
        number.saturating_mul(10).saturating_add(digit)
    }))
}
