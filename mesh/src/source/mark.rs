//! The lines of a document, in the shape of its values.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::field::Segment;

/// Where a value was written, and where the values in it were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark {
    /// Counted from 1. For a field it is the line of its name, which is where a reader looks.
    pub(crate) line: usize,
    /// The file, where it is not that of the values around it: a patch's.
    pub(crate) file: Option<Arc<Path>>,
    /// Where the text of a block (`|`) begins, so that what is wrong in it has its line.
    pub(crate) text: Option<usize>,
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

    /// The mark of the longest beginning of the path that exists, and the file if it is not the document's own.
    pub(crate) fn deepest<'a>(
        &self,
        path: impl Iterator<Item = &'a Segment>,
    ) -> (&Mark, Option<&Arc<Path>>) {
        let (mut mark, mut file) = (self, self.file.as_ref());
        for segment in path {
            let Some(child) = mark.child(segment) else {
                break;
            };
            mark = child;
            file = mark.file.as_ref().or(file);
        }
        (mark, file)
    }

    /// Moves everything down: what was a text of its own begins at a later line of a file.
    pub(crate) fn shift(&mut self, lines: usize) {
        self.line += lines;
        self.text = self.text.map(|line| line + lines);
        match &mut self.inner {
            Inner::Nothing => {}
            Inner::Items(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Inner::Fields(fields) => fields.values_mut().for_each(|field| field.shift(lines)),
        }
    }
}
