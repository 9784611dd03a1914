//! What a replay came to, for a terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use super::figures::{Counts, Figures, Row, Side, Stretch};
use super::{Report, time};

/// How many columns a plot has at most, and how many tenants are drawn.
pub(crate) const COLUMNS: usize = 60;
const DRAWN: usize = 6;

/// How many reasons of a tenant are told.
const REASONS: usize = 3;

/// Writes it.
pub(crate) fn text(report: &Report<'_>) -> Result<String, std::fmt::Error> {
    let figures = report.figures;
    let mut text = String::new();
    for file in &report.traffic.files {
        let mut parts = vec![format!("read as {}", file.format)];
        let noted = [
            (file.unreadable, "cannot be read"),
            (file.without_request, "without a request"),
            (file.refused_before, "refused before the limiter"),
        ];
        parts.extend(
            noted
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{} {what}", grouped(*count))),
        );
        let what = plural(file.lines, file.unit());
        writeln!(text, "{}: {what}, {}", file.name, parts.join(", "))?;
    }
    let (first, last) = report.span();
    let total = &figures.total;
    writeln!(
        text,
        "{}, {} to {} UTC ({}){}",
        plural(total.before.counts.requests, "request"),
        time::shown(first),
        time::shown(last),
        time::length(last - first),
        match figures.answered_429 {
            0 => String::new(),
            count => format!("; {} of them had been answered with 429", grouped(count)),
        }
    )?;
    writeln!(text, "{}: {}", report.name, total.before.counts.outcome())?;
    if let (Some(name), Some(after), Some((more, fewer))) =
        (&report.against, &total.after, figures.changed)
    {
        writeln!(text, "{name}: {}", after.counts.outcome())?;
        writeln!(
            text,
            "of the same requests, {} are refused that had been admitted, and {} admitted that had been refused",
            grouped(more),
            grouped(fewer)
        )?;
    }
    text.push('\n');
    let mut rows: Vec<Vec<String>> = vec![heading(total)];
    rows.extend(
        figures
            .rows
            .iter()
            .map(|row| line(report, row, row.name().to_owned())),
    );
    if let Some((others, count)) = &figures.others {
        rows.push(line(
            report,
            others,
            format!("({} more)", grouped(*count as u64)),
        ));
    }
    table(&mut text, &rows)?;
    plot(&mut text, report)?;
    Ok(text)
}

/// Whether a column is of numbers, which end at one place.
const NUMBERS: [bool; 7] = [false, false, true, true, true, false, false];

fn heading(total: &Row) -> Vec<String> {
    let heading = match total.after {
        None => [
            "tenant",
            "tier",
            "requests",
            "refused",
            "%",
            "first refusal",
            "refused by",
        ],
        Some(_) => [
            "tenant",
            "tier",
            "requests",
            "refused",
            "then",
            "first refusal then",
            "then refused by",
        ],
    };
    heading.map(str::to_owned).to_vec()
}

fn line(report: &Report<'_>, row: &Row, name: String) -> Vec<String> {
    let tier = |side: &Side| side.tier.clone().unwrap_or_else(|| "-".to_owned());
    let first = |side: &Side| {
        let entry = side
            .counts
            .first
            .and_then(|at| report.traffic.entries.get(at));
        entry.map_or_else(|| "-".to_owned(), |entry| time::shown(entry.time))
    };
    let before = &row.before;
    let Some(after) = &row.after else {
        return vec![
            name,
            tier(before),
            grouped(before.counts.requests),
            grouped(before.counts.refused),
            format!("{:.1}", before.counts.percent()),
            first(before),
            reasons(&before.counts),
        ];
    };
    let tiers = match (tier(before), tier(after)) {
        (one, other) if one == other => one,
        (one, other) => format!("{one} → {other}"),
    };
    vec![
        name,
        tiers,
        grouped(before.counts.requests.max(after.counts.requests)),
        grouped(before.counts.refused),
        format!("{} ({:+})", grouped(after.counts.refused), row.change()),
        first(after),
        reasons(&after.counts),
    ]
}

fn reasons(counts: &Counts) -> String {
    counts.reasons(REASONS).unwrap_or_else(|| "-".to_owned())
}

fn table(text: &mut String, rows: &[Vec<String>]) -> std::fmt::Result {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].width())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..NUMBERS.len()).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), is_number) in row.iter().zip(&widths).zip(NUMBERS) {
            let space = " ".repeat(width - cell.width());
            match is_number {
                true => write!(line, "{space}{cell}  ")?,
                false => write!(line, "{cell}{space}  ")?,
            }
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Admitted and refused over time, for those of whom most is refused.
fn plot(text: &mut String, report: &Report<'_>) -> std::fmt::Result {
    let Figures {
        timeline,
        rows,
        total,
        ..
    } = report.figures;
    writeln!(
        text,
        "\nover time, {} a column, from {} UTC",
        time::length(timeline.width),
        time::shown(timeline.begin)
    )?;
    let all = Row {
        id: Some("all tenants".to_owned()),
        ..total.clone()
    };
    let drawn: Vec<&Row> = std::iter::once(&all)
        .filter(|_| rows.len() > 1)
        .chain(rows.iter().take(DRAWN))
        .collect();
    let width = drawn
        .iter()
        .map(|row| row.name().width())
        .max()
        .unwrap_or_default();
    for row in drawn {
        let mut lines = vec![
            ("admitted", &row.before, false),
            ("refused", &row.before, true),
        ];
        if let Some(after) = &row.after {
            lines.push(("then admitted", after, false));
            lines.push(("then refused", after, true));
        }
        let count = |stretch: &Stretch, refused| {
            if refused {
                stretch.refused
            } else {
                stretch.admitted
            }
        };
        // One scale for all lines of a tenant, so that they can be compared.
        let most = lines.iter().flat_map(|(_, side, refused)| {
            side.series.iter().map(|stretch| count(stretch, *refused))
        });
        let most = most.max().unwrap_or_default();
        let labels = lines
            .iter()
            .map(|(label, ..)| label.len())
            .max()
            .unwrap_or_default();
        for (number, (label, side, refused)) in lines.iter().enumerate() {
            let name = if number == 0 { row.name() } else { "" };
            let bars: String = side
                .series
                .iter()
                .map(|stretch| bar(count(stretch, *refused), most))
                .collect();
            let highest = side
                .series
                .iter()
                .map(|stretch| count(stretch, *refused))
                .max()
                .unwrap_or_default();
            writeln!(
                text,
                "{name}{}  {label}{}  {bars}  at most {}",
                " ".repeat(width - name.width()),
                " ".repeat(labels - label.len()),
                grouped(u64::from(highest))
            )?;
        }
    }
    Ok(())
}

/// A bar of eight heights. What is there at all is seen.
fn bar(count: u32, most: u32) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    match (count, most) {
        (0, _) => ' ',
        (count, most) => {
            BARS[((u64::from(count) * 8).div_ceil(u64::from(most.max(1))) as usize - 1).min(7)]
        }
    }
}

/// `1 line`, `2 lines`.
pub(crate) fn plural(count: u64, what: &str) -> String {
    match (count, what) {
        (1, what) => format!("1 {what}"),
        (count, "entry") => format!("{} entries", grouped(count)),
        (count, what) => format!("{} {what}s", grouped(count)),
    }
}

/// A number with commas: `1,000,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_what_is_there_at_all() {
        assert_eq!(
            [0, 1, 50, 99, 100].map(|count| bar(count, 100)),
            [' ', '▁', '▄', '█', '█']
        );
        assert_eq!(bar(u32::MAX, u32::MAX), '█');
        assert_eq!(bar(0, 0), ' ');
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
