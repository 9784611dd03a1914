//! Who comes to the shop: of every tier the first tenant that the limiter's configuration lists, some of their users
//! VIPs, one tenant that is not listed, and one that is not listed either and wants more than its tier allows.

use std::fmt;
use std::sync::Arc;

use tenant_rate_limit::config::{Allowance as Allowed, Config as Limits};
use tenant_rate_limit::limit::Kind;
use tollgate_mesh::model::Plugin;

use crate::issuer::Issuer;
use crate::up::papers::Papers;
use crate::up::statistics::counters::limits;

/// Visits a second of everybody together: at most 100 requests, as some visits take three.
const MOST: f64 = 95.0;
/// Of the one who comes least.
const LEAST: f64 = 0.1;
/// Of one tenant.
const BUSIEST: f64 = 50.0;
/// Of the abuser.
const ABUSE: f64 = 20.0;
/// Tiers of which a tenant comes.
const TIERS: usize = 5;

/// Users that the shop knows; the shop's manifests make the first two VIPs.
const VIPS: [&str; 2] = ["alice", "bob"];
const USERS: [&str; 3] = ["carol", "dave", "erin"];

/// Somebody who comes again and again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Customer {
    pub(crate) tenant: String,
    /// None for who is not listed.
    pub(crate) tier: Option<String>,
    /// In turn; never empty.
    pub(crate) users: Vec<String>,
    /// Requests a second.
    pub(crate) rate: f64,
    /// Whether something is bought, too.
    pub(crate) orders: bool,
    pub(crate) abuser: bool,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) papers: Papers,
    pub(crate) customers: Vec<Customer>,
}

/// What a tier lets pass in the long run, and how much of a quota there is for the demo.
struct Allowance {
    rate: f64,
    quota: f64,
}

impl Plan {
    /// A plan for the limits of these plugins, or for the shop's own if none of them limits anything, in a mesh with this local issuer.
    pub(crate) fn of(plugins: &[Plugin], issuer: Option<&Arc<Issuer>>) -> Self {
        let limits = limits(plugins).next();
        let believed = limits
            .as_ref()
            .and_then(|limits| Papers::of(limits, issuer));
        let papers = believed.unwrap_or_else(|| Papers::otherwise(issuer));
        let mut customers = match &limits {
            Some(limits) => tenants(limits),
            None => {
                let tenant = |tenant, tier: &str, rate| Customer::new(tenant, Some(tier), rate);
                let tenants = [
                    tenant("acme", "premium", BUSIEST),
                    tenant("globex", "standard", 12.0),
                    tenant("initech", "free", 2.0),
                ];
                tenants.into()
            }
        };
        let together: f64 = customers.iter().map(|customer| customer.rate).sum();
        for (position, customer) in customers.iter_mut().enumerate() {
            customer.rate = (customer.rate * (MOST / together).min(1.0)).max(LEAST);
            // Everybody's carts are of somebody else.
            customer.users.rotate_left(position % USERS.len());
            if customer.tier.is_some() {
                customer.users.push(VIPS[position % VIPS.len()].to_owned());
            }
        }
        Self { papers, customers }
    }
}

fn tenants(limits: &Limits) -> Vec<Customer> {
    let mut customers = Vec::new();
    // The first plans are those of the tiers. Whoever has one of his own is no example of a tier.
    let tiers = limits.tiers.iter().zip(&limits.plans).enumerate();
    for (position, (tier, plan)) in tiers.take(TIERS) {
        let mut listed = Vec::from_iter(limits.tenants.iter());
        listed.retain(|(_, listed)| listed.plan as usize == position);
        let first = listed.into_iter().map(|(id, _)| &**id).min();
        let (Some(first), Some(Allowance { rate, quota })) =
            (first, Allowance::of(&plan.allowance))
        else {
            continue;
        };
        let rate = (rate * 0.6).min(quota).min(BUSIEST);
        customers.push(Customer::new(first, Some(tier), rate));
    }
    let unknown = limits.plans.get(limits.unknown);
    if let Some(Allowance { rate, quota }) = unknown.and_then(|plan| Allowance::of(&plan.allowance))
    {
        customers.push(Customer::new(
            "hooli",
            None,
            (rate * 0.2).min(quota).min(2.0),
        ));
        let abuser = Customer::new("crawler", None, (rate * 3.0).min(ABUSE));
        customers.push(Customer {
            abuser: true,
            orders: false,
            ..abuser
        });
    }
    customers
}

impl Customer {
    fn new(tenant: &str, tier: Option<&str>, rate: f64) -> Self {
        Self {
            tenant: tenant.to_owned(),
            tier: tier.map(str::to_owned),
            // Of ten visits of a listed tenant the last is to be a VIP's.
            users: USERS
                .map(str::to_owned)
                .into_iter()
                .cycle()
                .take(9)
                .collect(),
            rate,
            orders: true,
            abuser: false,
        }
    }
}

impl Allowance {
    /// None if nothing passes.
    fn of(allowed: &Allowed) -> Option<Self> {
        let mut allowance = Self {
            rate: f64::INFINITY,
            quota: f64::INFINITY,
        };
        let limits = match allowed {
            Allowed::Limits(set) => set.limits.as_slice(),
            Allowed::Unlimited => &[],
            Allowed::Blocked => return None,
        };
        for limit in limits {
            match limit.kind {
                Kind::Rate { interval, .. } => {
                    allowance.rate = allowance.rate.min(1e9 / interval as f64)
                }
                // Half of it in all; the rest is for whoever tries something by hand.
                Kind::Quota { quota, .. } => {
                    allowance.quota = allowance.quota.min(
                        quota as f64 / limit.cost(1) as f64 / 2.0 / super::LENGTH.as_secs_f64(),
                    );
                }
            }
        }
        Some(allowance)
    }
}

/// `acme (premium) 50/s, crawler (not listed) 15/s and more than allowed`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            position,
            Customer {
                tenant,
                tier,
                rate,
                abuser,
                ..
            },
        ) in self.customers.iter().enumerate()
        {
            let comma = if position == 0 { "" } else { ", " };
            let tier = tier.as_deref().unwrap_or("not listed");
            write!(
                f,
                "{comma}{tenant} ({tier}) {rate:.*}/s",
                usize::from(*rate < 10.0)
            )?;
            if *abuser {
                f.write_str(", more than its tier allows")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::statistics::counters::tests::plugins;

    const MANIFEST: &str = include_str!("../../../../wasm-plugins/tenant-rate-limit/plugin.yaml");

    fn shop() -> Vec<Plugin> {
        // There is no gateway to select here.
        plugins(
            &MANIFEST
                .replace("istio: ingressgateway", "{}")
                .replace("matchLabels:\n", "matchLabels:"),
        )
    }

    #[test]
    fn the_shop_is_visited_by_every_tier_and_by_one_who_wants_too_much() {
        let plan = Plan::of(&shop(), None);
        assert_eq!(
            plan.to_string(),
            "initech (free) 0.8/s, acme (premium) 50/s, globex (standard) 12/s, hooli (not listed) 0.8/s, \
             crawler (not listed) 15/s, more than its tier allows"
        );
        let vips = plan.customers.iter().filter(|customer| {
            customer
                .users
                .iter()
                .any(|user| VIPS.contains(&user.as_str()))
        });
        assert_eq!(vips.count(), 3);
    }

    #[test]
    fn everybody_together_stays_within_the_bound() {
        let tiers: String = (0..9)
            .map(|n| format!("t{n}: {{limits: [{{name: rate, requests: 1000, per: 1s}}]}}, "))
            .collect();
        let listed: String = (0..9).map(|n| format!("a{n}: {{tier: t{n}}}, ")).collect();
        let plan = Plan::of(
            &plugins(&format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a, namespace: istio-system}}\nspec:\n  \
             url: oci://example.com/tenant-rate-limit:1\n  pluginConfig: {{tenant: {{from: [{{header: x-org}}], unknown: {{tier: t0}}}}, \
             tiers: {{{tiers}}}, tenants: {{{listed}}}}}\n"
            )),
            None,
        );
        assert!(matches!(&plan.papers, Papers::Headers(name) if name == "x-org"));
        assert_eq!(plan.customers.len(), TIERS + 2);
        let together: f64 = plan.customers.iter().map(|customer| customer.rate).sum();
        assert!((together - MOST).abs() < 0.001, "{together}");
    }

    #[test]
    fn without_limits_the_shops_own_tenants_come() {
        let plan = Plan::of(&[], None);
        assert_eq!(
            plan.to_string(),
            "acme (premium) 50/s, globex (standard) 12/s, initech (free) 2.0/s"
        );
    }
}
