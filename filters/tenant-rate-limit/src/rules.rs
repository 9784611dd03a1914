//! What routes do to the limits that a request meets.
//!
//! A path that has two readings has two routes, and its client may choose either to be the one that the service takes. So such a request meets the limits of both. There are few limits in
//! all routes together ([`LIMITS_IN_ROUTES`](crate::config::LIMITS_IN_ROUTES)), so few routes have any, and all pairs of these are made when the configuration comes: a request only looks
//! up a number.

use crate::config::{Effect, LimitSet, Route};

/// Which limits a request meets because of its route, or of both where its path has two: a number for [`Sets`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules {
    added: u16,
}

/// Those of a request without a route.
static NO_LIMITS: LimitSet = LimitSet::EMPTY;

/// All sets of limits that routes can add.
#[derive(Debug)]
pub(crate) struct Sets {
    /// By route.
    routes: Vec<Rules>,
    /// What is added, from [`Rules::added`] 1: first those of each route that has some, then those of two.
    added: Vec<LimitSet>,
    /// Which two: the numbers of the first and the second, and that of both, in order.
    pairs: Vec<(u16, u16, u16)>,
}

impl Rules {
    /// A number of at most [`BITS`](Self::BITS) bits.
    pub(crate) fn number(self) -> u64 {
        self.added.into()
    }

    /// How many bits that has: no more than 16 routes have limits, and they make 120 pairs.
    pub(crate) const BITS: u32 = 8;
}

impl Sets {
    pub(crate) fn of(routes: &[Route]) -> Self {
        let mut added: Vec<LimitSet> = Vec::new();
        let routes = routes.iter().map(|route| match &route.effect {
            Effect::Charge { limits, .. } if !limits.is_empty() => {
                added.push(limits.clone());
                Rules {
                    added: number(added.len()),
                }
            }
            Effect::Charge { .. } | Effect::Exempt => Rules::default(),
        });
        let routes = routes.collect();
        let mut pairs = Vec::new();
        let alone = added.clone();
        for (first, one) in alone.iter().enumerate() {
            for (second, other) in alone.iter().enumerate().skip(first + 1) {
                added.push(one.and(other));
                pairs.push((number(first + 1), number(second + 1), number(added.len())));
            }
        }
        Self {
            routes,
            added,
            pairs,
        }
    }

    /// What a route does.
    pub(crate) fn route(&self, route: Option<usize>) -> Rules {
        let rules = route.and_then(|index| self.routes.get(index));
        rules.copied().unwrap_or_default()
    }

    /// What two routes do to a request that may be of either.
    pub(crate) fn both(&self, one: Rules, other: Rules) -> Rules {
        let (first, second) = (one.added.min(other.added), one.added.max(other.added));
        if first == 0 || first == second {
            return Rules { added: second };
        }
        let pair = |pair: &&(u16, u16, u16)| (pair.0, pair.1) == (first, second);
        let both = self.pairs.iter().find(pair).map(|(.., both)| *both);
        Rules {
            added: both.unwrap_or(second),
        }
    }

    /// The limits that are added to those of the tenant.
    pub(crate) fn added(&self, rules: Rules) -> &LimitSet {
        let index = usize::from(rules.added).checked_sub(1);
        let set = index.and_then(|index| self.added.get(index));
        set.unwrap_or(&NO_LIMITS)
    }
}

fn number(number: usize) -> u16 {
    u16::try_from(number).unwrap_or_default()
}
