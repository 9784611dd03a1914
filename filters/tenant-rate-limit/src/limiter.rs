//! Who a request is from, and whose record it is charged to: the decisions that need no state.

use tollgate_common::TenantId;
use tollgate_host::{Copies, HeaderMap};

use crate::config::{Config, Source, Tier};
use crate::ledger::Account;

/// A configuration, ready to be asked.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
}

/// Who a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The normalised id.
    pub id: TenantId,
    /// Its tier, for [`Limiter::tier`].
    pub tier: usize,
    /// Whether the configuration lists it.
    pub listed: bool,
}

impl Limiter {
    /// A limiter with this configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Who a request is from: whom the first source with a usable id names, else the missing tenant. An id that is there
    /// several times is as good as none, because whoever reads it next might believe another copy.
    pub fn identify(&self, headers: &HeaderMap) -> Tenant {
        let found = self.config.sources.iter().find_map(|Source::Header(name)| {
            match headers.copies(name) {
                Copies::One(value) => TenantId::normalise(value),
                Copies::Absent | Copies::Several => None,
            }
        });
        let id = found.unwrap_or(self.config.missing);
        let listed = self.config.tenants.get(&id);
        Tenant {
            id,
            tier: *listed.unwrap_or(&self.config.unknown),
            listed: listed.is_some(),
        }
    }

    /// The tier of an index that this limiter gave.
    pub fn tier(&self, index: usize) -> Option<&Tier> {
        self.config.tiers.get(index)
    }

    /// Whose record a tenant's requests are charged to.
    pub fn account<'a>(&self, tenant: &'a Tenant, tier: &'a Tier) -> Account<'a> {
        match tenant.listed {
            true => Account::Listed(&tenant.id),
            false => Account::Unlisted {
                id: &tenant.id,
                tier: &tier.name,
            },
        }
    }

    /// The counter of refused requests, if there is to be one.
    pub fn refused_metric(&self) -> Option<&str> {
        self.config.refused.as_deref()
    }

    /// A tenant's value of the metric label `tenant`: its id if the configuration names it, else `other`, so that clients
    /// cannot invent series.
    pub fn label<'a>(&self, tenant: &'a Tenant) -> &'a str {
        if tenant.listed || tenant.id == self.config.missing {
            tenant.id.as_str()
        } else {
            "other"
        }
    }
}
