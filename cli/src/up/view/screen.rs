//! The last lines of the terminal, drawn over and over, below whatever else is said.
//!
//! Not on an alternate screen, where what was said before (where the gateway is, what to try) would be out of sight and what
//! happens meanwhile would be lost at the end. So the lines are ordinary ones: to draw them again the cursor goes up by as many rows
//! as they take, and what is said in between is written in their place, and they again below it. Nothing has to be restored:
//! the cursor always rests on the row below, and no mode of the terminal is changed.
//!
//! A terminal that becomes narrower breaks the lines that are there; how many rows they take then is known, as their widths are.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::termios::tcgetwinsize;

use super::line::Line;

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Between these the terminal shows nothing yet, if it knows them: no half-drawn lines.
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";
/// From the cursor to the end of the screen.
const CLEAR: &str = "\x1b[J";

/// The lines that are drawn.
#[derive(Debug, Default)]
struct Block {
    lines: Vec<Line>,
    colours: bool,
    /// What they were drawn for.
    size: Option<Size>,
}

impl Block {
    /// To its first row.
    fn up(&self, columns: usize) -> String {
        let rows: usize = self
            .lines
            .iter()
            .map(|line| line.width().div_ceil(columns.max(1)).max(1))
            .sum();
        if rows == 0 {
            String::new()
        } else {
            format!("\r\x1b[{rows}A")
        }
    }

    /// Draws other lines over these.
    fn replace(&mut self, lines: Vec<Line>, size: Size) -> String {
        let mut out = self.up(size.columns);
        // Rows that a terminal has made by breaking lines are remembered as broken until they are cleared: written over, they
        // would be joined again as soon as it is wider. Otherwise rows are cleared one by one, which flickers less.
        if self.size.replace(size) != Some(size) {
            out.push_str(CLEAR);
        }
        // What is above the top cannot be reached again.
        let lines = lines.into_iter().take(size.rows.saturating_sub(1));
        self.lines = lines.map(|line| line.cut(size.columns)).collect();
        for line in &self.lines {
            let _ = writeln!(out, "{}\x1b[K", line.write(self.colours));
        }
        format!("{BEGIN}{out}{CLEAR}{END}")
    }
}

/// The terminal, or whatever standard output is.
#[derive(Debug, Default)]
pub(crate) struct Screen(Mutex<Block>);

impl Screen {
    /// How large the terminal is.
    pub(crate) fn size() -> Size {
        let size = tcgetwinsize(io::stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or(
            Size {
                columns: 80,
                rows: 24,
            },
            |size| Size {
                columns: size.ws_col.into(),
                rows: size.ws_row.into(),
            },
        )
    }

    /// Draws these lines instead of those that are there.
    pub(crate) fn draw(&self, lines: Vec<Line>, colours: bool) {
        let mut block = self.lock();
        block.colours = colours;
        put(&block.replace(lines, Self::size()));
    }

    /// Lets something else be written to the terminal, above the lines.
    pub(crate) fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        let mut block = self.lock();
        if block.lines.is_empty() {
            return write();
        }
        let size = Self::size();
        put(&format!("{}{CLEAR}", block.up(size.columns)));
        let lines = std::mem::take(&mut block.lines);
        let result = write();
        put(&block.replace(lines, size));
        result
    }

    /// Writes a line above the lines.
    pub(crate) fn say(&self, line: &str) {
        self.above(|| put(&format!("{line}\n")));
    }

    /// Leaves the lines as they are.
    pub(crate) fn leave(&self) {
        self.lock().lines.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Block> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A terminal that has gone is no reason to stop.
fn put(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
pub(super) mod tests {
    use std::num::NonZero;

    use anstyle::Style;

    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        let line = |text: &&str| {
            let mut line = Line::default();
            line.push(Style::new().bold(), text);
            line
        };
        texts.iter().map(line).collect()
    }

    /// A terminal.
    pub(in super::super) fn empty(rows: usize, columns: usize) -> vt100::Parser {
        let length = |length| NonZero::new(u16::try_from(length).unwrap()).unwrap();
        vt100::Parser::new(length(rows), length(columns), 100)
    }

    fn terminal(rows: usize, columns: usize) -> vt100::Parser {
        let mut terminal = empty(rows, columns);
        terminal.process(b"$ tollgate up\r\nready\r\n");
        terminal
    }

    fn show(terminal: &mut vt100::Parser, text: &str) -> String {
        // As the terminal's driver does.
        terminal.process(text.replace('\n', "\r\n").as_bytes());
        terminal.screen().contents()
    }

    #[test]
    fn lines_are_drawn_over_themselves_and_what_was_said_before_stays() {
        let (mut terminal, mut block) = (
            terminal(8, 20),
            Block {
                colours: true,
                ..Block::default()
            },
        );
        let size = Size {
            columns: 20,
            rows: 8,
        };
        assert_eq!(
            show(
                &mut terminal,
                &block.replace(lines(&["one", "two, longer"]), size)
            ),
            "$ tollgate up\nready\none\ntwo, longer"
        );
        assert_eq!(
            show(&mut terminal, &block.replace(lines(&["1"]), size)),
            "$ tollgate up\nready\n1"
        );
        assert_eq!(
            show(&mut terminal, &block.replace(lines(&["a", "b", "c"]), size)),
            "$ tollgate up\nready\na\nb\nc"
        );
        assert_eq!(terminal.screen().cursor_position(), (5, 0));
    }

    #[test]
    fn lines_that_do_not_fit_are_cut() {
        let (mut terminal, mut block) = (terminal(4, 5), Block::default());
        let size = Size {
            columns: 5,
            rows: 4,
        };
        for _ in 0..3 {
            let shown = show(
                &mut terminal,
                &block.replace(lines(&["123456", "2", "3", "4", "5"]), size),
            );
            assert_eq!(shown, "12345\n2\n3");
        }
    }

    #[test]
    fn a_narrower_terminal_broke_the_lines_and_nothing_of_them_stays() {
        let mut block = Block::default();
        let wide = Size {
            columns: 20,
            rows: 10,
        };
        block.replace(lines(&["12345678901234567890", "", "123456789012"]), wide);
        // The same text as a terminal of 8 columns has it after breaking the lines.
        let mut terminal = empty(10, 8);
        show(
            &mut terminal,
            "before\n12345678901234567890\n\n123456789012\n",
        );
        let narrow = Size {
            columns: 8,
            rows: 10,
        };
        assert_eq!(
            show(&mut terminal, &block.replace(lines(&["now"]), narrow)),
            "before\nnow"
        );
    }
}
