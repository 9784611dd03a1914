//! What routes do to the limits that a request meets.
//!
//! A path that has two readings has two routes, and its client may choose either to be the one that the service takes. So such a request meets the limits of both. There are few limits in
//! all routes together ([`LIMITS_IN_ROUTES`](crate::config::LIMITS_IN_ROUTES)), so few routes have any, and all pairs of these are made when the configuration comes: a request only looks
//! up a number. Likewise for what routes leave out: each plan is made without that beforehand.

use crate::config::{Allowance, Effect, LimitSet, Plan, Route};

/// Which limits a request meets because of its route, or of both where its path has two: a number for [`Sets`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules {
    added: u16,
    without: u16,
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
    /// What is left out, from [`Rules::without`] 1.
    without: Vec<Without>,
}

/// What a route leaves out.
#[derive(Debug)]
struct Without {
    /// The names of these limits, in order.
    names: Vec<String>,
    /// By plan, what it allows without them, if it has any of them.
    plans: Vec<Option<LimitSet>>,
}

impl Rules {
    /// A number of at most [`BITS`](Self::BITS) bits.
    pub(crate) fn number(self) -> u64 {
        u64::from(self.added) << 9 | u64::from(self.without)
    }

    /// How many bits that has: no more than 16 routes have limits, and they make 120 pairs; and 256 routes may leave something out.
    pub(crate) const BITS: u32 = 8 + 9;
}

impl Sets {
    pub(crate) fn of(routes: &[Route], plans: &[Plan]) -> Self {
        let mut added: Vec<LimitSet> = Vec::new();
        let mut left_out: Vec<Without> = Vec::new();
        let routes = routes.iter().map(|route| {
            let mut rules = Rules::default();
            let Effect::Charge {
                limits, without, ..
            } = &route.effect
            else {
                return rules;
            };
            if !limits.is_empty() {
                added.push(limits.clone());
                rules.added = number(added.len());
            }
            if !without.is_empty() {
                let known = left_out.iter().position(|other| other.names == *without);
                let index = known.unwrap_or_else(|| {
                    left_out.push(Without::of(without, plans));
                    left_out.len() - 1
                });
                rules.without = number(index + 1);
            }
            rules
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
            without: left_out,
        }
    }

    /// What a route does.
    pub(crate) fn route(&self, route: Option<usize>) -> Rules {
        let rules = route.and_then(|index| self.routes.get(index));
        rules.copied().unwrap_or_default()
    }

    /// What two routes do to a request that may be of either.
    pub(crate) fn both(&self, one: Rules, other: Rules) -> Rules {
        Rules {
            added: self.added_by_both(one.added, other.added),
            without: self.left_out_by_both(one.without, other.without),
        }
    }

    fn added_by_both(&self, one: u16, other: u16) -> u16 {
        let (first, second) = (one.min(other), one.max(other));
        if first == 0 || first == second {
            return second;
        }
        let pair = |pair: &&(u16, u16, u16)| (pair.0, pair.1) == (first, second);
        let both = self.pairs.iter().find(pair).map(|(.., both)| *both);
        both.unwrap_or(second)
    }

    /// Only what both leave out. Where neither leaves out just that, it is nothing: that is stricter, and needs no set that no route names.
    fn left_out_by_both(&self, one: u16, other: u16) -> u16 {
        let includes = |number: u16, part: u16| match (self.left_out(number), self.left_out(part)) {
            (Some(all), Some(part)) => part.names.iter().all(|name| all.names.contains(name)),
            _ => false,
        };
        if one == other || includes(other, one) {
            one
        } else if includes(one, other) {
            other
        } else {
            0
        }
    }

    fn left_out(&self, number: u16) -> Option<&Without> {
        self.without.get(usize::from(number).checked_sub(1)?)
    }

    /// The limits of a plan that are met, if some that it has are left out.
    pub(crate) fn narrowed(&self, plan: usize, rules: Rules) -> Option<&LimitSet> {
        self.left_out(rules.without)?.plans.get(plan)?.as_ref()
    }

    /// The limits that are added to those of the tenant.
    pub(crate) fn added(&self, rules: Rules) -> &LimitSet {
        let index = usize::from(rules.added).checked_sub(1);
        let set = index.and_then(|index| self.added.get(index));
        set.unwrap_or(&NO_LIMITS)
    }
}

impl Without {
    fn of(names: &[String], plans: &[Plan]) -> Self {
        let narrowed = |plan: &Plan| match &plan.allowance {
            Allowance::Limits(set) => set.without(names),
            Allowance::Unlimited | Allowance::Blocked => None,
        };
        Self {
            names: names.to_vec(),
            plans: plans.iter().map(narrowed).collect(),
        }
    }
}

fn number(number: usize) -> u16 {
    u16::try_from(number).unwrap_or_default()
}
