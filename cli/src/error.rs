//! How the tool fails: one error, printed with its causes and with advice where there is any.
//!
//! Exit codes are decided here and in [`crate::args`] (clap ends a wrong command line with 2), nowhere else.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::console::shown;

/// Something was found or failed.
pub const FAILURE: u8 = 1;

/// An error with advice on what to do about it, which is printed apart from it.
pub struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl Hinted {
    /// All advice on this error, the first given first.
    fn hints(&self) -> Vec<&str> {
        // What is right under us is not in the chain of causes: we stand for it there.
        let top: &(dyn Error + 'static) = self.error.as_ref();
        let mut hints = top
            .downcast_ref::<Self>()
            .map(Self::hints)
            .unwrap_or_default();
        hints.push(&self.hint);
        hints
    }
}

impl fmt::Debug for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Adds advice to an error.
pub trait Hint {
    /// What comes out.
    type Output;

    /// Says what the user can do: a whole sentence without a full stop, or a list of ways, one a line.
    fn hint(self, hint: impl fmt::Display) -> Self::Output;
}

impl Hint for anyhow::Error {
    type Output = anyhow::Error;

    fn hint(self, hint: impl fmt::Display) -> anyhow::Error {
        Hinted {
            error: self,
            hint: hint.to_string(),
        }
        .into()
    }
}

impl<T, E: Into<anyhow::Error>> Hint for Result<T, E> {
    type Output = anyhow::Result<T>;

    fn hint(self, hint: impl fmt::Display) -> anyhow::Result<T> {
        self.map_err(|error| error.into().hint(hint))
    }
}

/// What an error says: itself and its causes, and all advice, what its deepest cause knows first.
struct Said<'a> {
    messages: Vec<String>,
    hints: Vec<&'a str>,
}

impl<'a> Said<'a> {
    fn by(error: &'a anyhow::Error) -> Self {
        let mut hints = Vec::new();
        let mut messages = Vec::<String>::new();
        for cause in error.chain() {
            if let Some(hinted) = cause.downcast_ref::<Hinted>() {
                hints.push(hinted.hints());
            }
            let message = cause.to_string().trim_end().to_owned();
            // Some errors repeat their cause in their own text.
            if !messages.last().is_some_and(|last| last.ends_with(&message)) {
                messages.push(message);
            }
        }
        Self {
            messages,
            hints: hints.into_iter().rev().flatten().collect(),
        }
    }
}

/// For machines: the error with its causes, and the advice if there is any.
pub fn plain(error: &anyhow::Error) -> (String, Option<String>) {
    let Said { messages, hints } = Said::by(error);
    let hint = (!hints.is_empty()).then(|| hints.join("\n"));
    (messages.join(": "), hint)
}

/// The text for standard error: `error: what`, its causes, then `hint: …`.
pub fn render(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let Said { messages, hints } = Said::by(error);
    for (n, message) in messages.iter().enumerate() {
        push(
            &mut text,
            if n == 0 { "error: " } else { "  because: " },
            message,
        );
    }
    for hint in hints {
        push(&mut text, "hint: ", hint);
    }
    text
}

/// Lines after the first are set below the start of the first.
fn push(text: &mut String, label: &str, message: &str) {
    let indent = format!("\n{:width$}", "", width = label.len());
    text.push_str(label);
    text.push_str(&message.trim_end().replace('\n', &indent));
    text.push('\n');
}

/// Prints an error and says with which code to exit.
pub fn report(error: &anyhow::Error) -> ExitCode {
    // The reader of our output has gone, e.g. `| head`: nobody to tell, nothing to complain about.
    let closed = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if !closed {
        eprint!("{}", shown(render(error)));
    }
    ExitCode::from(FAILURE)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn causes_follow_the_error_and_hints_come_last() {
        let error = Err::<(), _>(anyhow!("no such file"))
            .context("cannot read a.yaml")
            .hint("write it")
            .hint("or name another:\n--manifests PATH")
            .context("cannot start the mesh")
            .hint("read the manual")
            .unwrap_err();
        assert_eq!(
            render(&error),
            "error: cannot start the mesh\n  because: cannot read a.yaml\n  because: no such file\nhint: write it\n\
             hint: or name another:\n      --manifests PATH\nhint: read the manual\n"
        );
        assert_eq!(
            plain(&error),
            (
                "cannot start the mesh: cannot read a.yaml: no such file".to_owned(),
                Some("write it\nor name another:\n--manifests PATH\nread the manual".to_owned())
            )
        );
        assert_eq!(plain(&anyhow!("no")), ("no".to_owned(), None));
    }

    #[test]
    fn a_cause_that_the_error_repeats_is_said_once() {
        let cause = anyhow!("connection refused");
        let error = cause.context("cannot connect: connection refused");
        assert_eq!(
            render(&error),
            "error: cannot connect: connection refused\n"
        );
    }
}
