//! The series that a proxy has defined, and how many more there may be.
//!
//! A series stays until the proxy ends, whichever configuration made it, so the bound is the proxy's: its workers share a list of
//! all series that were ever admitted ([`Register`]), of which each knows what it has read.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use tollgate_host::{Host, HostError};

use crate::register::Register;

/// How many series a segment of the list has: some 4 KB are copied to add one.
pub const IN_SEGMENT: usize = 512;

/// A series: a metric and a value for each of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The metric's position.
    pub metric: usize,
    /// 16 bits for each of the metric's labels, the last one lowest.
    pub values: u128,
}

/// The series that this worker has defined. `Id` is what the proxy knows one by.
#[derive(Debug)]
pub struct Series<Id> {
    /// By order: comparing a few keys takes less than hashing one.
    defined: BTreeMap<SeriesKey, Id>,
    /// Of all workers' series those that this one has read of, as hashes of their names.
    admitted: HashSet<u64>,
    register: Register,
}

impl<Id: Copy> Series<Id> {
    /// No series yet, of those in this list.
    pub fn new(register: Register) -> Self {
        Self {
            defined: BTreeMap::new(),
            admitted: HashSet::new(),
            register,
        }
    }

    /// What a series is defined as, if this worker has defined it.
    pub fn defined(&self, key: SeriesKey) -> Option<Id> {
        self.defined.get(&key).copied()
    }

    /// Remembers a series that was defined.
    pub fn define(&mut self, key: SeriesKey, id: Id) {
        self.defined.insert(key, id);
    }

    /// Whether there may be a series of this name: there is already, or there is room for one more.
    pub fn admit(&mut self, name: &str, host: &mut dyn Host) -> Result<bool, HostError> {
        let hash = hash(name);
        if !self.admitted.contains(&hash) && !self.register.is_full() {
            let Self {
                admitted, register, ..
            } = self;
            register.admit(&hash.to_le_bytes(), host, &mut |entry| {
                if let Ok(entry) = entry.try_into() {
                    admitted.insert(u64::from_le_bytes(entry));
                }
            })?;
        }
        Ok(self.admitted.contains(&hash))
    }
}

/// The same for all workers and configurations. Two names with one hash would be one series less in the list than in the
/// proxy; the names are made of the few values that labels have.
fn hash(name: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_host::memory::{Call, MemoryHost};

    #[test]
    fn the_bound_is_of_all_workers_and_configurations() {
        let mut first = MemoryHost::new();
        let mut second = first.worker();
        let series = || Series::<u32>::new(Register::new(b"series/".to_vec(), IN_SEGMENT, 2));
        let (mut one, mut two) = (series(), series());
        assert_eq!(one.admit("a", &mut first), Ok(true));
        assert_eq!(two.admit("a", &mut second), Ok(true));
        assert_eq!(two.admit("b", &mut second), Ok(true));
        assert_eq!(one.admit("c", &mut first), Ok(false));
        assert_eq!(one.admit("b", &mut first), Ok(true));
        let mut updated = series();
        assert_eq!(updated.admit("d", &mut first), Ok(false));
        assert_eq!(updated.admit("a", &mut first), Ok(true));
        // Who knows the full list asks no more.
        first.reset_calls();
        for name in ["a", "b", "c", "d"] {
            let _ = one.admit(name, &mut first);
        }
        assert_eq!(first.calls(Call::Shared), 0);
    }
}
