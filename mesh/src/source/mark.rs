//! The lines of a document, in the shape of its values.

use std::collections::BTreeMap;

use super::field::Segment;

/// Where a value was written, and where the values in it were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark {
    /// Counted from 1. For a field it is the line of its name, which is where a reader looks.
    pub(crate) line: usize,
    /// A number, flag or null as it was written: `1.10` is the number 1.1, but somebody meant a version.
    pub(crate) written: Option<Box<str>>,
    pub(crate) inner: Inner,
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Inner {
    #[default]
    Nothing,
    Items(Vec<Mark>),
    Fields(BTreeMap<String, Mark>),
}

impl Mark {
    pub(crate) fn child(&self, segment: &Segment) -> Option<&Mark> {
        match (&self.inner, segment) {
            (Inner::Items(items), Segment::Index(index)) => items.get(*index),
            (Inner::Fields(fields), Segment::Key(key)) => fields.get(key),
            _ => None,
        }
    }

    /// The mark of the longest beginning of the path that exists.
    pub(crate) fn deepest<'a>(&self, path: impl Iterator<Item = &'a Segment>) -> &Mark {
        let mut mark = self;
        for segment in path {
            let Some(child) = mark.child(segment) else {
                break;
            };
            mark = child;
        }
        mark
    }
}
