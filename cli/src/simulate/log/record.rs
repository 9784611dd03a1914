//! A request as it is kept: the parts that the limiter may look at, one behind the other in a large buffer.

/// A request of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it began.
    pub time: u64,
    /// Where its parts are.
    pub arena: u32,
    pub offset: u32,
    /// The line that tells of it, from 1.
    pub line: u32,
    /// How long it took, in milliseconds.
    pub duration: u32,
    /// What was answered; 0 if that is not known.
    pub status: u16,
    /// The file that tells of it.
    pub file: u16,
}

/// What a request says, or is vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// A header, also `:method`, `:path` and `:authority`; its name in lower case.
    Header(&'a [u8], &'a [u8]),
    /// A claim of the verified token, by its number in [`super::Fields::claims`].
    Claim(usize, &'a [u8]),
    /// The SPIFFE id of whoever is connected.
    Peer(&'a [u8]),
}

const HEADER: u8 = 1;
const CLAIM: u8 = 2;
const PEER: u8 = 3;
const END: u8 = 0;

impl Entry {
    /// What it says.
    pub(crate) fn parts<'a>(&self, arenas: &'a [Vec<u8>]) -> Parts<'a> {
        let arena = arenas.get(self.arena as usize);
        let rest = arena.and_then(|arena| arena.get(self.offset as usize..));
        Parts {
            rest: rest.unwrap_or_default(),
        }
    }
}

/// Writes a part at the end of a buffer. What is longer than any header is cut off: a proxy would not have let it pass.
pub(crate) fn push(arena: &mut Vec<u8>, part: Part<'_>) {
    let (kind, name, value) = match part {
        Part::Header(name, value) => (HEADER, name, value),
        Part::Claim(number, value) => (CLAIM, &[number as u8][..], value),
        Part::Peer(value) => (PEER, &[][..], value),
    };
    let most = usize::from(u16::MAX);
    let (name, value) = (
        &name[..name.len().min(most)],
        &value[..value.len().min(most)],
    );
    arena.push(kind);
    arena.extend_from_slice(&(name.len() as u16).to_le_bytes());
    arena.extend_from_slice(&(value.len() as u16).to_le_bytes());
    arena.extend_from_slice(name);
    arena.extend_from_slice(value);
}

/// Ends a request.
pub(crate) fn end(arena: &mut Vec<u8>) {
    arena.push(END);
}

/// The parts of a request.
#[derive(Clone, Debug)]
pub(crate) struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let ([kind, a, b, c, d], rest) = self.rest.split_first_chunk::<5>()?;
        let name = usize::from(u16::from_le_bytes([*a, *b]));
        let value = usize::from(u16::from_le_bytes([*c, *d]));
        let (name, rest) = rest.split_at_checked(name)?;
        let (value, rest) = rest.split_at_checked(value)?;
        let part = match *kind {
            HEADER => Part::Header(name, value),
            CLAIM => Part::Claim(usize::from(*name.first()?), value),
            PEER => Part::Peer(value),
            _ => return None,
        };
        self.rest = rest;
        Some(part)
    }
}

/// For tests of whatever makes or reads entries.
#[cfg(test)]
pub(crate) mod testing {
    use super::Entry;

    /// An entry whose parts begin there in the first arena, and of which nothing else is known.
    pub(crate) fn entry(offset: u32) -> Entry {
        Entry {
            time: 0,
            arena: 0,
            offset,
            line: 1,
            duration: 0,
            status: 0,
            file: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::entry;
    use super::*;

    #[test]
    fn parts_are_read_back_up_to_the_end_of_their_request() {
        let parts = [
            Part::Header(b":path", b"/a"),
            Part::Claim(3, b"acme"),
            Part::Peer(b"spiffe://a/b"),
            Part::Header(b"x", b""),
        ];
        let mut arena = b"before".to_vec();
        for part in parts {
            push(&mut arena, part);
        }
        end(&mut arena);
        push(&mut arena, Part::Peer(b"of the next"));
        end(&mut arena);
        assert!(entry(6).parts(&[arena]).eq(parts));
    }
}
