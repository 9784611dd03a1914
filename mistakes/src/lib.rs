//! Every mistake of a document in one run, with readers that stop at the first.
//!
//! A type that is read with serde cannot go on behind a mistake: the value that it needs is not there. So the mistake is mended in the document, and
//! the document is read again: what is wrong becomes a *hole*, filled with the first of a few plain values that the reader takes. The next mistake
//! that it finds is another one, and so on to the end. What a hole is filled with is ours, so nothing that is said of it is told; and it is told
//! of what is around a hole only if it cannot come from the hole.
//!
//! The readers are the ones that serve. What they take and refuse is not written down a second time, for a check.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "serde_json"))]
mod value;

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an element of a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

/// What a reader stopped at.
#[derive(Debug)]
pub struct Mistake<E> {
    /// The way to it; for a field that is missing, to where it would be.
    pub place: Vec<Step>,
    /// Of what kind it is.
    pub kind: Kind,
    /// What to tell.
    pub error: E,
}

/// Kinds of mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A value is not what is expected there. One that is taken may be known.
    Value(Option<String>),
    /// A field is missing.
    Missing,
    /// A field should not be there.
    Unknown,
}

/// A document in which mistakes can be mended.
pub trait Tree {
    /// A value to fill a hole with.
    fn filled(with: Filling<'_>) -> Self;

    /// The value that is one step further in, if there is one.
    fn child(&mut self, step: &Step) -> Option<&mut Self>;

    /// Adds an entry to a mapping; nothing happens to anything else.
    fn insert(&mut self, key: &str, value: Self);

    /// Takes an entry out of a mapping, and says whether there was one.
    fn remove(&mut self, key: &str) -> bool;
}

/// What holes are filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number, as it is written.
    Number(&'static str),
    /// `true`.
    True,
    /// An empty list.
    List,
    /// An empty mapping. The fields that it lacks are holes, too.
    Mapping,
    /// A mapping of one key to an empty text.
    Entry(&'a str),
}

/// In this order: what a field takes but its configuration does not mean (an empty text, a number that is too small) is best, because nothing
/// else in a document fits it by chance.
const FILLINGS: [Filling<'static>; 7] = [
    Filling::Text(""),
    Filling::Number("1"),
    // A status.
    Filling::Number("200"),
    Filling::True,
    Filling::List,
    Filling::Mapping,
    // A condition on a string, which has one key of several.
    Filling::Entry("exact"),
];

/// A place where the document is no longer the author's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The way to it.
    pub place: Vec<Step>,
    /// Whether it was left empty: an entry that was taken out.
    pub empty: bool,
}

/// What came of reading a document.
#[derive(Debug)]
pub struct Found<T, E> {
    /// What was read, with holes if there were mistakes. `None` if there were too many, or one that cannot be mended.
    pub value: Option<T>,
    /// The mistakes, in the order in which the reader came upon them.
    pub mistakes: Vec<E>,
    /// The holes.
    pub holes: Vec<Hole>,
    /// Whether there are more mistakes than may be told.
    pub more: bool,
}

/// How often a document is read at most for each mistake that may be told. Two times or three are usual.
const READINGS: usize = 64;

/// Reads a document to its end, and finds `most` of its mistakes.
pub fn find<V: Tree, T, E>(
    document: &mut V,
    most: usize,
    read: impl FnMut(&V) -> Result<T, Mistake<E>>,
) -> Found<T, E> {
    let mut reader = Reader {
        document,
        read,
        left: READINGS * (most + 1),
        holes: Vec::new(),
    };
    let mut mistakes = Vec::new();
    let mut result = reader.read();
    let (value, more) = loop {
        match result {
            Ok(value) => break (Some(value), false),
            Err(Mistake { place, kind, error }) => {
                if !reader.explains(&place, &kind) {
                    if mistakes.len() == most {
                        break (None, true);
                    }
                    mistakes.push(error);
                }
                match reader.mend(place, kind) {
                    Some(next) => result = next,
                    None => break (None, reader.left == 0),
                }
            }
        }
    };
    Found {
        value,
        mistakes,
        holes: reader.holes,
        more,
    }
}

struct Reader<'d, V, R> {
    document: &'d mut V,
    read: R,
    /// How often it may still be read.
    left: usize,
    holes: Vec<Hole>,
}

impl<V: Tree, T, E, R: FnMut(&V) -> Result<T, Mistake<E>>> Reader<'_, V, R> {
    fn read(&mut self) -> Result<T, Mistake<E>> {
        self.left = self.left.saturating_sub(1);
        (self.read)(self.document)
    }

    /// Whether a mistake comes from the holes.
    fn explains(&self, place: &[Step], kind: &Kind) -> bool {
        self.holes.iter().any(|hole| {
            place.starts_with(&hole.place)
                || match kind {
                    // Of what is in it, something is not the author's.
                    Kind::Value(_) => hole.place.starts_with(place),
                    // It is probably there, under the name that was not known.
                    Kind::Missing => hole.empty && parent(&hole.place) == parent(place),
                    Kind::Unknown => false,
                }
        })
    }

    /// Mends a mistake, and reads on. `None` if it cannot be mended.
    fn mend(&mut self, mut place: Vec<Step>, kind: Kind) -> Option<Result<T, Mistake<E>>> {
        let accepted = match kind {
            Kind::Unknown => {
                return self
                    .remove(&place)
                    .then(|| self.leave(place, true))
                    .map(|()| self.read());
            }
            Kind::Value(accepted) => accepted,
            Kind::Missing => None,
        };
        let accepted = accepted.as_deref().map(Filling::Text);
        loop {
            // Of a hole that does not do after all, because the value around it is refused or what it lacks cannot be filled in, nothing is tried
            // twice: so this comes to an end.
            let again = self.holes.iter().any(|hole| hole.place == place);
            let fillings = accepted.into_iter().chain(FILLINGS);
            for filling in fillings.filter(|_| !again) {
                if self.left == 0 {
                    return None;
                }
                if !self.fill(&place, filling) {
                    break;
                }
                let next = self.read();
                if past(&next, &place) {
                    self.leave(place, false);
                    return Some(next);
                }
            }
            if self.remove(&place) {
                let next = self.read();
                if past(&next, &place) {
                    self.leave(place, true);
                    return Some(next);
                }
            }
            // What is around it can only be a hole as a whole.
            place.pop()?;
        }
    }

    fn leave(&mut self, place: Vec<Step>, empty: bool) {
        self.holes.push(Hole { place, empty });
    }

    fn value(&mut self, place: &[Step]) -> Option<&mut V> {
        let mut value = &mut *self.document;
        for step in place {
            value = value.child(step)?;
        }
        Some(value)
    }

    fn fill(&mut self, place: &[Step], filling: Filling<'_>) -> bool {
        let filled = V::filled(filling);
        if let Some(value) = self.value(place) {
            *value = filled;
            return true;
        }
        let Some((Step::Key(key), around)) = place.split_last() else {
            return false;
        };
        match self.value(around) {
            Some(mapping) => mapping.insert(key, filled),
            None => return false,
        }
        self.value(place).is_some()
    }

    fn remove(&mut self, place: &[Step]) -> bool {
        match place.split_last() {
            Some((Step::Key(key), around)) => self
                .value(around)
                .is_some_and(|mapping| mapping.remove(key)),
            _ => false,
        }
    }
}

/// Whether a reader came past a place. What a mapping that is there lacks is another question.
fn past<T, E>(result: &Result<T, Mistake<E>>, place: &[Step]) -> bool {
    match result {
        Ok(_) => true,
        Err(mistake) => {
            !mistake.place.starts_with(place)
                || (mistake.kind == Kind::Missing && mistake.place.len() > place.len())
        }
    }
}

fn parent(place: &[Step]) -> Option<&[Step]> {
    place.split_last().map(|(_, around)| around)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn path(text: &str) -> Vec<Step> {
        let step = |step: &str| step.parse().map_or(Step::from(step), Step::Index);
        text.split('.')
            .filter(|step| !step.is_empty())
            .map(step)
            .collect()
    }

    /// A reader that wants, in this order, each of these values to be there and to be a whole number, and then says what it has to say of the
    /// value at the end.
    fn read(
        value: &Value,
        wanted: &[&str],
        last: Option<(&str, &'static str)>,
    ) -> Result<(), Mistake<String>> {
        let mistake = |place: &str, kind, what: &str| {
            Err(Mistake {
                place: path(place),
                kind,
                error: format!("{place} {what}"),
            })
        };
        for place in wanted {
            match value.pointer(&format!("/{}", place.replace('.', "/"))) {
                Some(Value::Number(_)) => {}
                Some(_) => return mistake(place, Kind::Value(None), "is no number"),
                None => return mistake(place, Kind::Missing, "is missing"),
            }
        }
        match last {
            Some((place, what)) => mistake(place, Kind::Value(None), what),
            None => Ok(()),
        }
    }

    #[test]
    fn what_is_wrong_and_what_is_missing_is_told_and_filled() {
        let mut value = json!({"a": "x", "c": [1, true]});
        let wanted = ["a", "b", "c.0", "c.1"];
        let found = find(&mut value, 9, |value| read(value, &wanted, None));
        assert_eq!(
            found.mistakes,
            ["a is no number", "b is missing", "c.1 is no number"]
        );
        assert_eq!((found.value, found.more), (Some(()), false));
        assert_eq!(value, json!({"a": 1, "b": 1, "c": [1, 1]}));
    }

    #[test]
    fn what_is_said_around_a_hole_comes_of_it() {
        // Whatever `a` is filled with, its mapping is refused: there is no end to it, and it comes to an end.
        let mut value = json!({"m": {"a": "x"}});
        let found = find(&mut value, 9, |value| {
            read(value, &["m.a"], Some(("m", "is refused")))
        });
        assert_eq!(found.mistakes, ["m.a is no number"]);
        assert_eq!((found.value, found.more), (None, false));
    }

    #[test]
    fn no_more_are_told_than_may_be() {
        let mut value = json!({});
        let found = find(&mut value, 2, |value| read(value, &["a", "b", "c"], None));
        assert_eq!(found.mistakes, ["a is missing", "b is missing"]);
        assert_eq!((found.value, found.more), (None, true));
    }
}
