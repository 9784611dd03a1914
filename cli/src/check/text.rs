//! What was found, for people: a line a problem, which editors and terminals can follow to its place, and a summary.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use tollgate_mesh::Level;

use super::Findings;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();
const BOLD: Style = Style::new().bold();

/// `istio/a.yaml:20: error[TG0204]: spec.http[0].timeout: "5" is not a duration, write "5s"`
pub(super) fn write(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    for problem in &findings.problems {
        let level = problem.code.level();
        let style = match level {
            Level::Error => ERROR,
            Level::Warning => WARNING,
            Level::Note => NOTE,
        };
        let (file, line) = (problem.file.display(), problem.line);
        write!(out, "{BOLD}{file}:{line}:{BOLD:#} ")?;
        write!(
            out,
            "{style}{}[{}]{style:#}: ",
            level.as_str(),
            problem.code
        )?;
        if !problem.field.is_empty() {
            write!(out, "{BOLD}{}{BOLD:#}: ", problem.field)?;
        }
        writeln!(out, "{}", problem.message)?;
    }
    writeln!(out, "{}", summary(findings))
}

/// `checked 31 manifests: 2 errors, 1 warning`
fn summary(findings: &Findings) -> String {
    let counts = [Level::Error, Level::Warning, Level::Note]
        .map(|level| (findings.count(level), level.as_str()));
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| counted(count, what))
        .collect();
    let found = match counts.as_slice() {
        [] => "no problems".to_owned(),
        counts => counts.join(", "),
    };
    format!(
        "checked {}: {found}",
        counted(findings.checked, findings.what)
    )
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}
