//! The list of the VMs that count requests in flight, each with its last sign of life: one value of the shared data.
//!
//! ```text
//! members = version (1 byte)  next id u32  member*
//! member  = id u32  last sign of life u64 (monotonic)
//! ```
//! All numbers are little-endian. An id is given out once, so one that is below the next and not in the list is that of a VM that is gone.

use super::bytes::Reader;

/// The first byte of the list, and of every row of counts. The names of the keys carry it too.
pub const VERSION: u8 = 1;

/// After this long without a sign of life a VM is taken for dead, 5 s in nanoseconds.
pub const SILENCE: u64 = 5_000_000_000;

/// The VMs that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    next: u32,
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    id: u32,
    seen: u64,
}

impl Members {
    /// Nobody yet. The first id is some number, so that a list that was lost does not give out ids anew that counts are still under.
    pub fn new(chance: u64) -> Self {
        Self {
            next: (chance as u32 >> 1).max(1),
            members: Vec::new(),
        }
    }

    /// Reads a list; `None` if these bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        let next = reader.u32()?;
        let mut members = Vec::with_capacity(reader.0.len() / 12);
        while !reader.0.is_empty() {
            let (id, seen) = (reader.u32()?, reader.u64()?);
            members.push(Member { id, seen });
        }
        Some(Self { next, members })
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(5 + self.members.len() * 12);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.next.to_le_bytes());
        for Member { id, seen } in &self.members {
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&seen.to_le_bytes());
        }
        bytes
    }

    /// A sign of life at `now` of the VM that was a member as `id`: the id that it is a member as from now on, which is another one if it had been given up. Those
    /// that have been silent for too long are given up, their silence counted from `since` on at the earliest.
    pub fn alive(&mut self, id: Option<u32>, now: u64, since: u64) -> u32 {
        let own = self.members.iter().find(|member| Some(member.id) == id);
        let id = own.map_or(self.next, |own| own.id);
        let seen = own.map_or(now, |own| own.seen.max(now));
        self.members
            .retain(|member| member.id != id && !silent(member.seen.max(since), now));
        self.members.push(Member { id, seen });
        self.next = self.next.max(id.saturating_add(1));
        id
    }

    /// Whether this VM is gone for sure.
    pub fn is_gone(&self, id: u32) -> bool {
        id < self.next && self.seen(id).is_none()
    }

    /// Whether it may be gone: a list that is read now might say so, or so might [`alive`](Self::alive).
    pub fn may_be_gone(&self, id: u32, now: u64, since: u64) -> bool {
        self.seen(id)
            .is_none_or(|seen| silent(seen.max(since), now))
    }

    fn seen(&self, id: u32) -> Option<u64> {
        let member = self.members.iter().find(|member| member.id == id);
        member.map(|member| member.seen)
    }
}

fn silent(seen: u64, now: u64) -> bool {
    now.saturating_sub(seen) >= SILENCE
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_silent_are_given_up_and_come_back_as_others() {
        let mut members = Members::new(20);
        let a = members.alive(None, 100, 0);
        let b = members.alive(None, 200, 0);
        assert_eq!((a, b), (10, 11));
        assert!(!members.may_be_gone(a, 100 + SILENCE - 1, 0));
        assert!(members.may_be_gone(a, 100 + SILENCE, 0));
        assert!(!members.is_gone(a));
        // One that was never heard of may be new.
        assert!(members.may_be_gone(12, 200, 0) && !members.is_gone(12));

        assert_eq!(members.alive(Some(b), 100 + SILENCE, 0), b);
        assert!(members.is_gone(a));
        assert_eq!(members.alive(Some(a), 100 + SILENCE, 0), 12);
        assert_eq!(Members::parse(&members.bytes()), Some(members.clone()));
    }

    #[test]
    fn silence_counts_from_when_whoever_judges_has_been_awake() {
        let mut members = Members::new(0);
        let a = members.alive(None, 100, 0);
        let b = members.alive(None, 100, 0);
        let now = 100 + 3 * SILENCE;
        assert!(members.may_be_gone(a, now, 0) && !members.may_be_gone(a, now, now - SILENCE + 1));
        assert_eq!(members.alive(Some(b), now, now), b);
        assert!(!members.is_gone(a));
        members.alive(Some(b), now + SILENCE, now);
        assert!(members.is_gone(a));
    }

    #[test]
    fn a_sign_of_life_is_never_set_back() {
        let mut members = Members::new(0);
        let a = members.alive(None, SILENCE, 0);
        assert_eq!(members.alive(Some(a), 5, 0), a);
        assert!(!members.may_be_gone(a, 2 * SILENCE - 1, 0));
    }

    #[test]
    fn other_bytes_are_no_list() {
        for bytes in [&[][..], &[2, 0, 0, 0, 0], &[1, 0, 0], &[1, 0, 0, 0, 0, 1]] {
            assert_eq!(Members::parse(bytes), None, "{bytes:?}");
        }
    }
}
