//! What was found, for scripts: one JSON object.

use std::io::{self, Write};

use serde::Serialize;
use tollgate_mesh::{Level, Problem};

use super::Findings;

/// `docs/check.md` describes these.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    checked: usize,
    errors: usize,
    warnings: usize,
    notes: usize,
    problems: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    code: &'static str,
    level: &'static str,
    /// With the fields that the events of `up` have.
    #[serde(flatten)]
    problem: &'a Problem,
}

pub(super) fn write(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    let problems = findings.problems.iter().map(|problem| Finding {
        code: problem.code.as_str(),
        level: problem.code.level().as_str(),
        problem,
    });
    let report = Report {
        checked: findings.checked,
        errors: findings.count(Level::Error),
        warnings: findings.count(Level::Warning),
        notes: findings.count(Level::Note),
        problems: problems.collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}
