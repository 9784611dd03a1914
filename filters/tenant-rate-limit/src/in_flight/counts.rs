//! The value of one key of the shared data: how many requests of some tenants are in flight, as each VM has counted its own.
//!
//! ```text
//! row   = version (1 byte)  count*
//! count = tenant u32  limit u32  VM u32  number u32
//! ```
//! All numbers are little-endian. There is a count only where it is not 0, so a row is as long as what is in flight makes it.

use super::bytes::Reader;
use super::members::{Members, VERSION};
use crate::limit::KIND;

/// How many requests of one tenant, for one limit, one VM has in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The tenant's number in its row.
    pub tenant: u32,
    /// The limit's key, and in it [what they are](Of).
    pub limit: u32,
    /// The VM's id among the members.
    pub vm: u32,
    /// How many.
    pub number: u32,
}

/// What requests are to a limit that counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// It was enforced when it let them in.
    Enforced,
    /// It was in shadow and would have let them in.
    Shadow,
    /// It was in shadow and would have refused them.
    Over,
}

impl Of {
    /// A limit's key, with this in its last bits.
    pub fn key(self, limit: u32) -> u32 {
        let code = match self {
            Self::Enforced => KIND,
            Self::Shadow => 5,
            Self::Over => 6,
        };
        limit & !KIND | code
    }

    /// Whether a key says this of its requests.
    fn is(self, key: u32) -> bool {
        self.key(key) == key
    }
}

/// The counts of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<Count>);

impl Counts {
    /// Reads a row; `None` if these bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        let mut counts = Vec::with_capacity(reader.0.len() / 16 + 1);
        while !reader.0.is_empty() {
            counts.push(Count {
                tenant: reader.u32()?,
                limit: reader.u32()?,
                vm: reader.u32()?,
                number: reader.u32()?,
            });
        }
        Some(Self(counts))
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.0.len() * 16);
        bytes.push(VERSION);
        for count in &self.0 {
            for number in [count.tenant, count.limit, count.vm, count.number] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// Leaves out the counts of VMs that are gone.
    pub fn forget_gone(&mut self, members: &Members) {
        self.0.retain(|count| !members.is_gone(count.vm));
    }

    /// Puts what a VM says of itself in the place of what was there of it.
    pub fn replace(&mut self, vm: u32, own: impl Iterator<Item = Count>) {
        self.0.retain(|count| count.vm != vm);
        self.0.extend(own);
    }

    /// How many requests of a tenant are in flight for a limit: all, or those that it has let in or would have.
    pub fn sum(&self, tenant: u32, limit: u32, let_in: bool) -> u64 {
        let of = |count: &&Count| {
            count.tenant == tenant
                && count.limit & !KIND == limit & !KIND
                && !(let_in && Of::Over.is(count.limit))
        };
        let numbers = self
            .0
            .iter()
            .filter(of)
            .map(|count| u64::from(count.number));
        numbers.sum()
    }

    /// Whether there are `capacity` other tenants in it. To one whom a limit may refuse, those do not count of whom only limits in shadow have let something in.
    pub fn is_full_for(&self, tenant: u32, capacity: usize, enforced: bool) -> bool {
        if self.0.len() < capacity || self.0.iter().any(|count| count.tenant == tenant) {
            return false;
        }
        let takes_room = |count: &&Count| !enforced || Of::Enforced.is(count.limit);
        let takers = self.0.iter().filter(takes_room);
        let mut tenants: Vec<u32> = takers.map(|count| count.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        tenants.len() >= capacity
    }

    /// The VMs that there are counts of.
    pub fn vms(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|count| count.vm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn count(tenant: u32, limit: u32, vm: u32, number: u32) -> Count {
        Count {
            tenant,
            limit,
            vm,
            number,
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let counts = Counts(vec![count(1, 2, 3, 4), count(u32::MAX, 0, 7, 1)]);
        assert_eq!(Counts::parse(&counts.bytes()), Some(counts));
        assert_eq!(Counts::parse(&[VERSION]), Some(Counts::default()));
        for bytes in [&[][..], &[9], &[VERSION, 0]] {
            assert_eq!(Counts::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn counts_are_of_a_tenant_and_a_limit() {
        let [a, b] = [8, 16].map(|limit| Of::Enforced.key(limit));
        let mut counts = Counts(vec![
            count(1, a, 3, 4),
            count(1, a, 5, 6),
            count(1, b, 3, 7),
        ]);
        counts.replace(3, [count(1, a, 3, 1), count(8, a, 3, 2)].into_iter());
        assert_eq!(
            [(1, a), (1, b), (8, a)].map(|(tenant, limit)| counts.sum(tenant, limit, false)),
            [7, 0, 2]
        );
        assert!(counts.is_full_for(5, 2, true) && !counts.is_full_for(5, 3, true));
        assert!(!counts.is_full_for(8, 2, true));
    }

    #[test]
    fn what_limits_in_shadow_count_is_told_apart() {
        let key = 0x1234_5670;
        let counts = Counts(vec![
            count(1, Of::Enforced.key(key), 3, 1),
            count(1, Of::Shadow.key(key), 3, 2),
            count(1, Of::Over.key(key), 4, 4),
            count(2, Of::Shadow.key(key), 3, 8),
        ]);
        let enforced = Of::Enforced.key(key);
        assert_eq!(
            [false, true].map(|let_in| counts.sum(1, enforced, let_in)),
            [7, 3]
        );
        // The second tenant is there by a limit in shadow alone.
        assert!(!counts.is_full_for(5, 2, true) && counts.is_full_for(5, 2, false));
        assert!(counts.is_full_for(5, 1, true));
    }
}
