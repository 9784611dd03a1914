//! Lines of styled text, measured and cut as a terminal shows them.

use std::fmt::Write;

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(Vec<(Style, String)>);

impl Line {
    /// Appends text. What would move the cursor is not text.
    pub(crate) fn push(&mut self, style: Style, text: impl AsRef<str>) {
        let text = text.as_ref().replace(char::is_control, "?");
        self.0.push((style, text));
    }

    /// Appends another line.
    pub(crate) fn append(&mut self, line: Self) {
        self.0.extend(line.0);
    }

    /// In columns.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// Fills with spaces up to a column.
    pub(crate) fn pad(&mut self, column: usize) {
        let missing = column.saturating_sub(self.width());
        self.push(Style::new(), " ".repeat(missing));
    }

    /// As much of it as fits.
    pub(crate) fn cut(mut self, columns: usize) -> Self {
        let mut left = columns;
        for (_, text) in &mut self.0 {
            let mut end = text.len();
            for (at, character) in text.char_indices() {
                match left.checked_sub(character.width().unwrap_or(0)) {
                    Some(rest) => left = rest,
                    None => {
                        // Nothing after it either, though it may be narrower.
                        left = 0;
                        end = at;
                        break;
                    }
                }
            }
            text.truncate(end);
        }
        self
    }

    /// With the terminal's codes for styles, or without.
    pub(crate) fn write(&self, colours: bool) -> String {
        let mut out = String::new();
        for (style, text) in &self.0 {
            // A `String` takes everything.
            let _ = if colours && !style.is_plain() {
                write!(out, "{style}{text}{style:#}")
            } else {
                write!(out, "{text}")
            };
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_columns_and_has_no_control_characters() {
        let mut line = Line::default();
        line.push(Style::new().bold(), "né\u{1b}[2Jw");
        line.push(Style::new(), "日本x");
        assert_eq!(line.width(), 12);
        assert_eq!(line.clone().cut(99).write(false), "né?[2Jw日本x");
        assert_eq!(line.clone().cut(10).write(false), "né?[2Jw日");
        assert_eq!(line.cut(3).write(true), "\u{1b}[1mné?\u{1b}[0m");
    }
}
