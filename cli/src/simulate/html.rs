//! What a replay came to, as one page without scripts: a plot (SVG) of admitted and refused requests over time, and a table.
//!
//! What a log says was written by clients. Nothing of it gets into the page but through [`Escaped`].

use std::fmt::{self, Display, Write};

use super::figures::{Figures, Row, Side, Stretch};
use super::text::{grouped, plural};
use super::{Report, time};

/// How many stretches of time are drawn at most, and how many tenants.
pub(crate) const COLUMNS: usize = 120;
const DRAWN: usize = 8;

const ADMITTED: &str = "#4c78a8";
const REFUSED: &str = "#e45756";
const THEN: &str = "#1b1b1b";

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;max-width:64rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}svg{width:100%;height:auto}table{border-collapse:collapse;width:100%;margin-top:1.5rem}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.m{color:#666}";

/// A text that stays text, whatever is in it.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.to_string().chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // No page may have these, and no SVG can.
                control if control.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Writes it.
pub(crate) fn page(report: &Report<'_>) -> Result<String, fmt::Error> {
    let total = &report.figures.total;
    let mut page = String::new();
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        Escaped(format!("tollgate simulate: {}", report.name))
    )?;
    writeln!(page, "<h1>What these limits would have done</h1>")?;
    writeln!(
        page,
        "<p>{}: {}",
        Escaped(&report.name),
        total.before.counts.outcome()
    )?;
    if let (Some(name), Some(after), Some((more, fewer))) =
        (&report.against, &total.after, report.figures.changed)
    {
        writeln!(page, "<br>{}: {}", Escaped(name), after.counts.outcome())?;
        writeln!(
            page,
            "<br>Of the same requests, {} are refused then that had been admitted, and {} admitted that had been refused.",
            grouped(more),
            grouped(fewer)
        )?;
    }
    let (first, last) = report.span();
    writeln!(
        page,
        "<p class=\"m\">{} to {} UTC ({}).",
        time::shown(first),
        time::shown(last),
        time::length(last - first)
    )?;
    for file in &report.traffic.files {
        let what = plural(file.lines, file.unit());
        write!(
            page,
            "<br>{}: {what}, read as {}",
            Escaped(&file.name),
            file.format
        )?;
        let noted = [
            (file.unreadable, "cannot be read"),
            (file.without_request, "without a request"),
            (file.refused_before, "refused before the limiter"),
        ];
        for (count, what) in noted.into_iter().filter(|(count, _)| *count > 0) {
            write!(page, ", {} {what}", grouped(count))?;
        }
    }
    page.push('\n');
    page += &svg(report)?;
    table(&mut page, report)?;
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn table(page: &mut String, report: &Report<'_>) -> fmt::Result {
    let figures = report.figures;
    let compares = figures.total.after.is_some();
    page.push_str("<table>\n<tr><th>Tenant<th>Tier<th class=\"n\">Requests<th class=\"n\">Refused");
    page.push_str(match compares {
        false => "<th class=\"n\">%<th>First refusal<th>Refused by\n",
        true => "<th class=\"n\">Then<th class=\"n\">Change<th>Then refused by\n",
    });
    let rows = figures.rows.iter().map(|row| (row, row.name().to_owned()));
    let others = figures
        .others
        .as_ref()
        .map(|(row, count)| (row, format!("({} more)", grouped(*count as u64))));
    for (row, name) in rows.chain(others) {
        let (before, after) = (&row.before, row.after.as_ref().unwrap_or(&row.before));
        let tier = |side: &Side| side.tier.clone().unwrap_or_else(|| "–".to_owned());
        let tiers = match (tier(before), tier(after)) {
            (one, other) if one == other => one,
            (one, other) => format!("{one} → {other}"),
        };
        write!(
            page,
            "<tr><td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}",
            Escaped(name),
            Escaped(tiers),
            grouped(before.counts.requests.max(after.counts.requests)),
            grouped(before.counts.refused)
        )?;
        let by = after
            .counts
            .reasons(usize::MAX)
            .unwrap_or_else(|| "–".to_owned());
        let by = Escaped(by);
        if compares {
            let then = grouped(after.counts.refused);
            writeln!(
                page,
                "<td class=\"n\">{then}<td class=\"n\">{:+}<td>{by}",
                row.change()
            )?;
        } else {
            let first = before
                .counts
                .first
                .and_then(|at| report.traffic.entries.get(at));
            let first = first.map_or_else(|| "–".to_owned(), |entry| time::shown(entry.time));
            writeln!(
                page,
                "<td class=\"n\">{:.1}<td>{first}<td>{by}",
                before.counts.percent()
            )?;
        }
    }
    page.push_str("</table>\n");
    Ok(())
}

// Lengths in the picture.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 150.0;
const PLOT: f64 = 720.0;
const TOP: f64 = 40.0;
const HEIGHT: f64 = 64.0;
const GAP: f64 = 18.0;
const BOTTOM: f64 = 34.0;

/// The plot: a panel for all tenants and one for each of those of whom most is refused, each with a scale of its own.
pub(crate) fn svg(report: &Report<'_>) -> Result<String, fmt::Error> {
    let Figures {
        timeline,
        rows,
        total,
        ..
    } = report.figures;
    let all = Row {
        id: Some("all tenants".to_owned()),
        ..total.clone()
    };
    let first = std::iter::once(&all).filter(|_| rows.len() > 1);
    let panels: Vec<&Row> = first.chain(rows.iter().take(DRAWN)).collect();
    let end = TOP + panels.len() as f64 * (HEIGHT + GAP) - GAP;
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"system-ui,sans-serif\" font-size=\"12\" role=\"img\">",
        end + BOTTOM
    )?;
    writeln!(
        svg,
        "<title>Admitted and refused requests over time, by tenant</title>"
    )?;
    writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>")?;
    // The legend.
    let mut entries = vec![
        (ADMITTED, "admitted".to_owned()),
        (REFUSED, "refused".to_owned()),
    ];
    entries.extend(
        report
            .against
            .iter()
            .map(|name| (THEN, format!("above: refused by {}", short(name, 50)))),
    );
    let mut x = LEFT;
    for (color, label) in &entries {
        match *color {
            THEN => write!(
                svg,
                "<path d=\"M{x} 18h18\" stroke=\"{color}\" stroke-width=\"1.5\" fill=\"none\"/>"
            )?,
            _ => write!(
                svg,
                "<rect x=\"{x}\" y=\"12\" width=\"12\" height=\"12\" fill=\"{color}\"/>"
            )?,
        }
        writeln!(
            svg,
            "<text x=\"{}\" y=\"22\">{}</text>",
            x + 24.0,
            Escaped(label)
        )?;
        x += 100.0;
    }
    writeln!(
        svg,
        "<text x=\"{}\" y=\"22\" text-anchor=\"end\" fill=\"#666\">a column is {}</text>",
        LEFT + PLOT,
        time::length(timeline.width)
    )?;
    for (number, row) in panels.iter().enumerate() {
        panel(&mut svg, report, row, TOP + number as f64 * (HEIGHT + GAP))?;
    }
    // The axis.
    for part in 0..=4_u64 {
        let length = timeline.width.saturating_mul(timeline.count as u64);
        let moment = timeline.begin.saturating_add(length / 4 * part);
        let x = LEFT + PLOT / 4.0 * part as f64;
        writeln!(
            svg,
            "<path d=\"M{x} {TOP}V{end}\" stroke=\"#000\" stroke-opacity=\".12\" fill=\"none\"/>"
        )?;
        writeln!(
            svg,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            end + 20.0,
            label(moment, length)
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A text of at most so many characters.
fn short(text: &str, most: usize) -> String {
    match text.chars().count() <= most {
        true => text.to_owned(),
        false => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// A moment on the axis: as much of it as tells one from the next.
fn label(moment: u64, length: u64) -> String {
    const MINUTE: u64 = 60 * time::SECOND;
    let text = time::shown(moment);
    let part = match length {
        0..MINUTE => text.get(11..),
        MINUTE..1_800_000_000_000 => text.get(11..19),
        1_800_000_000_000..86_400_000_000_000 => text.get(11..16),
        _ => text.get(..16),
    };
    part.unwrap_or(&text).to_owned()
}

fn panel(svg: &mut String, report: &Report<'_>, row: &Row, top: f64) -> fmt::Result {
    let timeline = report.figures.timeline;
    let both = |stretch: &Stretch| u64::from(stretch.admitted) + u64::from(stretch.refused);
    let sides = || std::iter::once(&row.before).chain(&row.after);
    let most = sides()
        .flat_map(|side| side.series.iter().map(both))
        .max()
        .unwrap_or_default()
        .max(1);
    let column = PLOT / timeline.count as f64;
    let bottom = top + HEIGHT;
    let height = |count: u64| HEIGHT * count as f64 / most as f64;
    let name = row.name();
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}<title>{}</title></text>",
        LEFT - 12.0,
        top + HEIGHT / 2.0,
        // Ids have up to 64 characters, for which there is no room.
        Escaped(short(name, 20)),
        Escaped(name)
    )?;
    let counts = &row.before.counts;
    let refused = match &row.after {
        Some(after) => format!(
            "{} → {}",
            grouped(counts.refused),
            grouped(after.counts.refused)
        ),
        None => grouped(counts.refused),
    };
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#666\" font-size=\"11\">{refused} refused</text>",
        LEFT - 12.0,
        top + HEIGHT / 2.0 + 15.0,
    )?;
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" fill=\"#666\" font-size=\"11\">{}</text>",
        LEFT + PLOT + 6.0,
        top + 9.0,
        grouped(most)
    )?;
    writeln!(
        svg,
        "<path d=\"M{LEFT} {bottom}h{PLOT}\" stroke=\"#999\" fill=\"none\"/>"
    )?;
    let (mut admitted, mut refused) = (String::new(), String::new());
    let mut notes = String::new();
    // Columns that touch where there are many, and have a gap where there are few.
    let bar = if column > 8.0 { column - 1.0 } else { column };
    for (at, stretch) in row.before.series.iter().enumerate() {
        let x = LEFT + column * at as f64;
        let (low, high) = (height(u64::from(stretch.admitted)), height(both(stretch)));
        if stretch.admitted > 0 {
            write!(
                admitted,
                "M{x:.1} {bottom:.1}v{:.1}h{bar:.1}v{low:.1}z",
                -low
            )?;
        }
        if stretch.refused > 0 {
            // What is there at all is seen.
            let tall = (high - low).max(1.0);
            write!(
                refused,
                "M{x:.1} {:.1}v{:.1}h{bar:.1}v{tall:.1}z",
                bottom - low,
                -tall
            )?;
        }
        if both(stretch) > 0 {
            let moment = timeline
                .begin
                .saturating_add(timeline.width.saturating_mul(at as u64));
            let then = row.after.as_ref().and_then(|after| after.series.get(at));
            let then = then
                .map(|then| format!(", then {}", grouped(u64::from(then.refused))))
                .unwrap_or_default();
            writeln!(
                notes,
                "<rect x=\"{x:.1}\" y=\"{top}\" width=\"{column:.1}\" height=\"{HEIGHT}\"><title>{}: {} admitted, {} refused{then}</title></rect>",
                time::shown(moment),
                grouped(u64::from(stretch.admitted)),
                grouped(u64::from(stretch.refused))
            )?;
        }
    }
    writeln!(svg, "<path d=\"{admitted}\" fill=\"{ADMITTED}\"/>")?;
    writeln!(svg, "<path d=\"{refused}\" fill=\"{REFUSED}\"/>")?;
    if let Some(after) = &row.after {
        let mut line = String::new();
        for (at, stretch) in after.series.iter().enumerate() {
            // From the top of the column, as the refused are stacked: what is above the line is refused then.
            let y = bottom - height(u64::from(stretch.admitted));
            let x = LEFT + column * at as f64;
            let command = if at == 0 { 'M' } else { 'L' };
            write!(line, "{command}{x:.1} {y:.1}h{column:.1}")?;
        }
        writeln!(
            svg,
            "<path d=\"{line}\" stroke=\"{THEN}\" stroke-width=\"1.5\" fill=\"none\"/>"
        )?;
    }
    writeln!(svg, "<g fill-opacity=\"0\">\n{notes}</g>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(
            Escaped("<script>alert('x')</script>\"&\u{1b}[2J\0").to_string(),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}[2J\u{fffd}"
        );
    }

    #[test]
    fn moments_on_the_axis_tell_one_from_the_next() {
        let moment = 1_795_248_005 * time::SECOND;
        assert_eq!(label(moment, time::SECOND), "08:00:05.000");
        assert_eq!(label(moment, 600 * time::SECOND), "08:00:05");
        assert_eq!(label(moment, 10_000 * time::SECOND), "08:00");
        assert_eq!(label(moment, 100_000 * time::SECOND), "2026-11-21 08:00");
    }
}
