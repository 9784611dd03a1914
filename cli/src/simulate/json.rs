//! What a replay came to, for programs. docs/simulate.md has the fields.

use serde_json::{Value, json};

use super::figures::{Row, Side};
use super::replay::Cause;
use super::{Report, time};

/// One object.
pub(crate) fn json(report: &Report<'_>) -> Value {
    let figures = report.figures;
    let (first, last) = report.span();
    let logs = report.traffic.files.iter().map(|file| {
        let mistakes = file
            .mistakes
            .iter()
            .map(|(line, why)| json!({"line": line, "why": why}));
        json!({
            "file": file.name,
            "format": file.format.word(),
            "lines": file.lines,
            "unreadable": file.unreadable,
            "withoutRequest": file.without_request,
            "refusedBefore": file.refused_before,
            "mistakes": mistakes.collect::<Value>(),
        })
    });
    let mut value = json!({
        "logs": logs.collect::<Value>(),
        "first": time::rfc(first),
        "last": time::rfc(last),
        "answered429": figures.answered_429,
        "config": report.name,
        "lacking": report.lacking,
        "timeline": {
            "begin": time::rfc(figures.timeline.begin),
            "seconds": figures.timeline.width as f64 / time::SECOND as f64,
            "stretches": figures.timeline.count,
        },
        "total": row(report, &figures.total),
        "tenants": figures.rows.iter().map(|one| {
            let mut value = row(report, one);
            value["tenant"] = json!(one.id);
            value
        }).collect::<Value>(),
        "others": figures.others.as_ref().map(|(others, count)| {
            let mut value = row(report, others);
            value["tenants"] = json!(count);
            value
        }),
    });
    if let (Some(against), Some((more, fewer))) = (&report.against, figures.changed) {
        value["against"] = json!(against);
        value["admittedThenRefused"] = json!(more);
        value["refusedThenAdmitted"] = json!(fewer);
    }
    value
}

fn row(report: &Report<'_>, row: &Row) -> Value {
    let mut value = side(report, &row.before);
    if let Some(after) = &row.after {
        value["then"] = side(report, after);
        value["change"] = json!(row.change());
    }
    value
}

fn side(report: &Report<'_>, side: &Side) -> Value {
    let counts = &side.counts;
    let by = |causes: &[(Cause, u64)]| -> Value {
        let causes = causes.iter();
        causes
            .map(|(cause, count)| json!({"reason": cause.reason, "limit": cause.limit, "requests": count}))
            .collect()
    };
    let mut value = json!({
        "requests": counts.requests,
        "refused": counts.refused,
        "firstRefusal": counts.first.and_then(|at| report.traffic.entries.get(at)).map(|entry| json!({
            "time": time::rfc(entry.time),
            "file": report.traffic.files.get(usize::from(entry.file)).map(|file| &file.name),
            "line": entry.line,
        })),
        "by": by(&counts.by),
        "shadowed": counts.shadowed,
        "shadowedBy": by(&counts.shadowed_by),
    });
    if let Some(tier) = &side.tier {
        value["tier"] = json!(tier);
    }
    if !side.series.is_empty() {
        value["admittedOverTime"] = side.series.iter().map(|stretch| stretch.admitted).collect();
        value["refusedOverTime"] = side.series.iter().map(|stretch| stretch.refused).collect();
    }
    value
}
