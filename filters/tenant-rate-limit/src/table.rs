//! Where tenants are in the shared data, so that its size is bounded whatever ids clients invent.
//!
//! Shared data is one map for the whole process, and a key in it is never freed. So there are three kinds of key, and each kind
//! has a bounded number:
//!
//! - `tenant/<id>` for each listed tenant: nothing that others do can take its record away.
//! - `row/<n>` for the tenants that are not listed. An id always has the same row, by a hash that nobody outside the proxy can
//!   compute, and a record in it while it is not at rest. Rows are made when first needed.
//! - `tier/<name>`, one record that all those share who find their row full: an invented id then gets no burst of its own.
//!
//! All keys of a plugin begin with its name and the layout's version, because the plugins of a proxy share one map.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use tollgate_common::TenantId;

use crate::row;

/// Records in a row. A table for `n` tenants has `n / 8` rows, twice the room, so that fewer than one in a hundred of `n` tenants finds its row full.
pub const RECORDS_IN_ROW: usize = 16;

const TENANTS_FOR_A_ROW: u64 = 8;

/// The most tenants that can be told apart beside the listed ones.
pub const LARGEST: u64 = 1_000_000;

/// The key of the hash, the same for all workers of a proxy and unknown outside.
pub type Seed = [u8; 16];

/// The places of all tenants.
#[derive(Clone, Debug)]
pub struct Table {
    prefix: String,
    rows: u64,
    seed: Seed,
}

/// Where a tenant's record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key of the shared data.
    pub key: Vec<u8>,
    /// The record's id in the row under that key.
    pub id: u64,
    /// How many records that row can hold.
    pub capacity: usize,
}

impl Table {
    /// A table of the plugin of this name, for `individually` tenants that are not listed.
    pub fn new(plugin: &str, individually: u64, seed: Seed) -> Self {
        Self {
            prefix: prefix(plugin),
            rows: individually.div_ceil(TENANTS_FOR_A_ROW),
            seed,
        }
    }

    /// The key under which the workers of a proxy agree on a seed.
    pub fn seed_key(plugin: &str) -> Vec<u8> {
        format!("{}seed", prefix(plugin)).into_bytes()
    }

    /// The place of a listed tenant.
    pub fn listed(&self, tenant: &TenantId) -> Place {
        self.alone("tenant", tenant.as_str())
    }

    /// The place of a tenant that is not listed; `None` if such tenants are not told apart.
    pub fn individual(&self, tenant: &TenantId) -> Option<Place> {
        if self.rows == 0 {
            return None;
        }
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        hasher.write(tenant.as_bytes());
        let id = hasher.finish();
        let row = (u128::from(id) * u128::from(self.rows)) >> 64;
        Some(Place {
            key: format!("{}row/{row}", self.prefix).into_bytes(),
            id,
            capacity: RECORDS_IN_ROW,
        })
    }

    /// The place of all tenants of a tier that have none of their own.
    pub fn together(&self, tier: &str) -> Place {
        self.alone("tier", tier)
    }

    fn alone(&self, kind: &str, name: &str) -> Place {
        Place {
            key: format!("{}{kind}/{name}", self.prefix).into_bytes(),
            id: 0,
            capacity: 1,
        }
    }
}

fn prefix(plugin: &str) -> String {
    format!("tenant-rate-limit/{}/{plugin}/", row::VERSION)
}
