//! Where tenants are in the shared data, so that its size is bounded whatever ids clients invent.
//!
//! Shared data is one map for the whole process, and a key in it is never freed. So each kind of key has a bounded number:
//!
//! - `…/tenant/<id>` for each listed tenant: nothing that others do can take its record away.
//! - A row's number for the tenants that are not listed. An id always has the same row, by a hash that nobody outside the proxy can
//!   compute, and a record in it while it is not at rest. Rows are made when first needed.
//! - `…/tier/<name>`, one record that all those share who find their row full: an invented id then gets no burst of its own.
//! - `…/seed` and `…/workers`, what the workers of a proxy agree on.
//!
//! All keys of a plugin begin with its name and the layout's version, because the plugins of a proxy share one map. The rows are many, so
//! their keys have a hash of that instead, and fit into 22 bytes, for which a string of the proxy's needs no memory of its own.
//!
//! # Memory
//!
//! All rows together take at most [`MEMORY`], with everything that the proxy's map adds to them, when each of their records is in use and as
//! large as it may be. Which is to say, [`largest`] is how many tenants may be told apart for a number of limits.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use tollgate_common::TenantId;

use crate::row;

/// Records in a row.
pub const RECORDS_IN_ROW: usize = 24;

/// How many tenants there is a row for. With half as much room again, fewer than one in a hundred of them finds its row full.
const TENANTS_FOR_A_ROW: u64 = 16;

/// The most tenants that can be told apart beside the listed ones, if they have few limits: see [`largest`].
pub const LARGEST: u64 = 1_000_000;

/// What the rows may take of the proxy's memory.
pub const MEMORY: u64 = 64 << 20;

/// What one more key adds to the map of Envoy beside the bytes of its value: a node with two strings of 24 bytes, a hash, a link and a version, its place among the buckets, and what
/// an allocator adds to that. With twice the bytes of a row, which is replaced by a larger one each time that it gets a record, it is what
/// `tollgate bench flood` saw of an Envoy: 2,360 bytes for a full row of two limits.
const KEY_OVERHEAD: u64 = 272;

/// The most tenants that can be told apart beside the listed ones when the limits that one of them can meet, on whatever route, are `limits`.
pub fn largest(limits: usize) -> u64 {
    let rows = MEMORY / row_bytes(limits);
    LARGEST.min(rows.saturating_mul(TENANTS_FOR_A_ROW))
}

/// What a row takes of the proxy's memory at most when its records have up to `states`.
fn row_bytes(states: usize) -> u64 {
    let record = row::RECORD_HEADER + states.min(row::STATES_IN_RECORD) * row::STATE;
    let bytes = (row::HEADER + RECORDS_IN_ROW * record) as u64;
    2 * bytes + KEY_OVERHEAD
}

/// The key of the hash, the same for all workers of a proxy and unknown outside.
pub type Seed = [u8; 16];

/// The places of all tenants.
#[derive(Clone, Debug)]
pub struct Table {
    prefix: String,
    row_prefix: [u8; ROW_PREFIX],
    rows: u64,
    states: usize,
    seed: Seed,
}

const ROW_PREFIX: usize = 14;

/// Where a tenant's record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key of the shared data.
    pub key: Vec<u8>,
    /// The record's id in the row under that key.
    pub id: u32,
    /// How many records that row can hold.
    pub capacity: usize,
    /// How many states a record of it can hold.
    pub states: usize,
}

/// Which of the tenants that are not listed one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unlisted(u64);

impl Unlisted {
    /// A number that is another one for another tenant.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Table {
    /// A table of the plugin of this name, for `individually` tenants that are not listed.
    pub fn new(plugin: &str, individually: u64, seed: Seed) -> Self {
        let prefix = prefix(plugin);
        let mut hasher = SipHasher13::new();
        hasher.write(prefix.as_bytes());
        let mut row_prefix = *b"trl/......../r";
        if let Some(hash) = row_prefix.get_mut(4..12) {
            hash.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        let rows = individually.div_ceil(TENANTS_FOR_A_ROW);
        let fit = |states: &usize| rows.saturating_mul(row_bytes(*states)) <= MEMORY;
        Self {
            prefix,
            row_prefix,
            rows,
            states: (1..=row::STATES_IN_RECORD).rev().find(fit).unwrap_or(1),
            seed,
        }
    }

    /// The key under which the workers of a proxy agree on a seed.
    pub fn seed_key(plugin: &str) -> Vec<u8> {
        format!("{}seed", prefix(plugin)).into_bytes()
    }

    /// The key under which the workers of a proxy count themselves.
    pub fn workers_key(&self) -> Vec<u8> {
        format!("{}workers", self.prefix).into_bytes()
    }

    /// The key of what the whole proxy has let pass.
    pub fn total_key(&self) -> Vec<u8> {
        format!("{}total", self.prefix).into_bytes()
    }

    /// The key of what a listed tenant, or everybody else, has had of that.
    pub fn share_key(&self, tenant: Option<&TenantId>) -> Vec<u8> {
        match tenant {
            Some(tenant) => format!("{}share/{}", self.prefix, tenant.as_str()).into_bytes(),
            None => format!("{}shared", self.prefix).into_bytes(),
        }
    }

    /// A number for whom that record is, another one for another tenant.
    pub fn share_number(&self, tenant: Option<&TenantId>) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        hasher.write(tenant.map_or(b"", TenantId::as_bytes));
        hasher.finish()
    }

    /// The place of a listed tenant.
    pub fn listed(&self, tenant: &TenantId) -> Place {
        self.alone("tenant", tenant.as_str())
    }

    /// Which of the tenants that are not listed this is; `None` if such tenants are not told apart.
    pub fn unlisted(&self, tenant: &TenantId) -> Option<Unlisted> {
        if self.rows == 0 {
            return None;
        }
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        hasher.write(tenant.as_bytes());
        Some(Unlisted(hasher.finish()))
    }

    /// The place of a tenant that is not listed.
    pub fn individual(&self, tenant: Unlisted) -> Place {
        // The upper bits say the row and the lower ones the record: two tenants of a row have one record once in four billion times.
        // The upper half of the product of both, without numbers of 128 bits, for which WebAssembly needs a function: there are at most a million rows.
        let (upper, lower) = (tenant.0 >> 32, tenant.0 & u64::from(u32::MAX));
        let carried = lower.wrapping_mul(self.rows) >> 32;
        let row = upper.wrapping_mul(self.rows).wrapping_add(carried) >> 32;
        let mut key = Vec::with_capacity(ROW_PREFIX + 8);
        key.extend_from_slice(&self.row_prefix);
        key.extend_from_slice(&row.to_le_bytes());
        Place {
            key,
            id: tenant.0 as u32,
            capacity: RECORDS_IN_ROW,
            states: self.states,
        }
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
            states: row::STATES_IN_RECORD,
        }
    }
}

fn prefix(plugin: &str) -> String {
    format!("tenant-rate-limit/{}/{plugin}/", row::VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_largest_table_fits_into_its_memory() {
        for limits in 1..=32 {
            let table = Table::new("plugin", largest(limits), [0; 16]);
            assert!(table.rows * row_bytes(limits) <= MEMORY + row_bytes(limits));
            assert!(table.states >= limits, "{limits}: {}", table.states);
        }
        assert_eq!(
            [1, 2, 3, 4].map(largest),
            [736_448, 453_040, 327_152, 256_016]
        );
    }

    #[test]
    fn rows_follow_the_upper_bits_of_a_tenant_s_number() {
        for individually in [1, 16, 17, 1_000, LARGEST] {
            let table = Table::new("plugin", individually, [0; 16]);
            let step = u64::MAX / 997;
            for number in (0..=997).flat_map(|n| [n * step, (n * step).wrapping_sub(1)]) {
                let row = (u128::from(number) * u128::from(table.rows)) >> 64;
                let key = table.individual(Unlisted(number)).key;
                assert_eq!(key[ROW_PREFIX..], (row as u64).to_le_bytes(), "{number}");
            }
        }
    }

    #[test]
    fn no_row_s_key_needs_memory_of_its_own() {
        let table = Table::new(
            "istio-system.a-plugin-with-a-rather-long-name",
            LARGEST,
            [7; 16],
        );
        let tenant = table
            .unlisted(&TenantId::normalise(b"someone").unwrap())
            .unwrap();
        assert_eq!(table.individual(tenant).key.len(), 22);
    }
}
