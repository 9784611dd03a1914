//! Lists in the proxy's shared data that only grow, up to a bound: what all workers of a proxy agree on, whatever the
//! configuration is at the time.
//!
//! An entry is for ever, because so is what it stands for: Envoy keeps every series until it ends. That makes a list easy to share. Each worker
//! remembers how far it has read; an entry is appended by a compare-and-swap to the last segment, which succeeds only for a worker
//! that has read all there is before it. So no entry is there twice, the order is the same for everybody, and when the list is full every worker that has
//! read it knows all of it and asks no more.
//!
//! A segment has a bounded number of entries, so that to append one copies a few kilobytes however long the list is.

use tollgate_host::{Expected, Host, HostError};

/// How often an entry is offered while other workers are faster. Each failure means that the list has grown, which it does only so often.
const TRIES: usize = 100;

/// The longest entry.
const LONGEST: usize = u8::MAX as usize;

/// A list, and how far this worker has read it.
#[derive(Debug)]
pub struct Register {
    prefix: Vec<u8>,
    /// How many entries a segment has.
    in_segment: usize,
    most: u64,
    /// The segment that is read next, how many of its bytes and entries have been read, and how many entries in all.
    segment: u32,
    bytes: usize,
    entries: usize,
    total: u64,
}

impl Register {
    /// The list under keys that begin like this, of at most `most` entries, so many to a segment.
    pub fn new(prefix: Vec<u8>, in_segment: usize, most: u64) -> Self {
        Self {
            prefix,
            in_segment: in_segment.max(1),
            most,
            segment: 0,
            bytes: 0,
            entries: 0,
            total: 0,
        }
    }

    /// The bound.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Whether nothing more is admitted, and this worker knows all that is.
    pub fn is_full(&self) -> bool {
        self.total >= self.most
    }

    /// Reads on, and appends `entry` (which was not among those read before) if it is not there and there is room. `learn` is told each
    /// entry that this worker did not know, in order, this one too.
    pub fn admit(
        &mut self,
        entry: &[u8],
        host: &mut dyn Host,
        learn: &mut dyn FnMut(&[u8]),
    ) -> Result<(), HostError> {
        let Ok(length) = u8::try_from(entry.len()) else {
            return Ok(());
        };
        for _ in 0..TRIES {
            let mut key = self.prefix.clone();
            key.extend_from_slice(&self.segment.to_le_bytes());
            let value = host.shared(&key)?;
            let (mut bytes, expected) = match value {
                Some(value) => (value.bytes, Expected::Version(value.version)),
                None => (Vec::new(), Expected::Absent),
            };
            if self.read(&bytes, entry, learn)? || self.is_full() {
                return Ok(());
            }
            if self.entries >= self.in_segment {
                self.segment = self.segment.saturating_add(1);
                (self.bytes, self.entries) = (0, 0);
                continue;
            }
            bytes.push(length);
            bytes.extend_from_slice(entry);
            if host.set_shared(&key, &bytes, expected)? {
                self.read(&bytes, entry, learn)?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads what is new in a segment, and says whether `wanted` is in it.
    fn read(
        &mut self,
        bytes: &[u8],
        wanted: &[u8],
        learn: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, HostError> {
        let mut found = false;
        while self.bytes < bytes.len() {
            let rest = bytes.get(self.bytes..).unwrap_or_default();
            let (length, rest) = rest.split_first().ok_or(HostError::Malformed)?;
            let entry = rest
                .get(..usize::from(*length))
                .ok_or(HostError::Malformed)?;
            learn(entry);
            found |= entry == wanted;
            self.bytes += 1 + entry.len();
            self.entries += 1;
            self.total += 1;
        }
        Ok(found)
    }
}

const _: () = assert!(crate::label::LONGEST_VALUE <= LONGEST);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tollgate_host::memory::{Call, MemoryHost};

    /// A worker's register and what it has learnt.
    struct Worker {
        host: MemoryHost,
        register: Register,
        known: Vec<Vec<u8>>,
    }

    impl Worker {
        fn new(host: MemoryHost, most: u64) -> Self {
            Self {
                host,
                register: Register::new(b"test/".to_vec(), 4, most),
                known: Vec::new(),
            }
        }

        fn offer(&mut self, entry: &[u8]) -> bool {
            if !self.known.iter().any(|known| known == entry) && !self.register.is_full() {
                let known = &mut self.known;
                self.register
                    .admit(entry, &mut self.host, &mut |entry| {
                        known.push(entry.to_vec())
                    })
                    .unwrap();
            }
            self.known.iter().any(|known| known == entry)
        }
    }

    #[test]
    fn a_worker_that_was_slower_finds_the_entry_of_the_faster_one() {
        let host = MemoryHost::new();
        let mut slower = Worker::new(host.worker(), 8);
        let mut other = Worker::new(host.worker(), 8);
        let mut once = true;
        // Between the slower worker's reading and its writing.
        let worker = std::sync::Mutex::new((host.worker(), Register::new(b"test/".to_vec(), 4, 8)));
        slower.host.after_shared(move |_| {
            if std::mem::take(&mut once) {
                let (host, register) = &mut *worker.lock().unwrap();
                register.admit(b"a", host, &mut |_| {}).unwrap();
            }
        });
        assert!(slower.offer(b"a"));
        assert_eq!(slower.known, [b"a"]);
        assert_eq!(slower.host.calls(Call::SetShared), 1);
        assert!(other.offer(b"b"));
        assert_eq!(other.known, [b"a", b"b"]);
    }

    #[test]
    fn bytes_of_somebody_else_are_an_error() {
        let mut host = MemoryHost::new();
        let key = [b"test/".as_slice(), &[0; 4]].concat();
        host.overwrite_shared(&key, b"\x09abc");
        let mut register = Register::new(b"test/".to_vec(), 4, 8);
        assert_eq!(
            register.admit(b"a", &mut host, &mut |_| {}),
            Err(HostError::Malformed)
        );
    }

    proptest! {
        /// Whoever offers what and when: all know the same list in the same order, no entry twice, and never more than the bound.
        #[test]
        fn all_workers_know_one_list(
            offers in proptest::collection::vec((0_usize..4, 0_u8..30), 0..200),
            most in 1_u64..20,
        ) {
            let host = MemoryHost::new();
            let mut workers: Vec<Worker> = (0..4).map(|_| Worker::new(host.worker(), most)).collect();
            let mut admitted: Vec<u8> = Vec::new();
            for (worker, entry) in offers {
                let expected = admitted.contains(&entry) || (admitted.len() as u64) < most;
                prop_assert_eq!(workers[worker].offer(&[entry]), expected);
                if expected && !admitted.contains(&entry) {
                    admitted.push(entry);
                }
            }
            for worker in &workers {
                let known = worker.known.concat();
                prop_assert_eq!(&known[..], &admitted[..known.len()]);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut host = MemoryHost::new();
            host.overwrite_shared(&[b"test/".as_slice(), &[0; 4]].concat(), &bytes);
            let mut register = Register::new(b"test/".to_vec(), 4, 8);
            let _ = register.admit(b"a", &mut host, &mut |_| {});
        }
    }
}
