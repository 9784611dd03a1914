//! Figures as lines of text, for a terminal of any size and for a file.
//!
//! What was admitted and what was refused differ in shape (`█`, `░`) and place before they differ in colour, and the colours are
//! cyan and yellow, which all eyes tell apart. What is not known is `–`.

use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::line::Line;
use super::screen::Size;
use crate::up::statistics::{Figures, Flow, Health, Tenant};

const PLAIN: Style = Style::new();
const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const ADMITTED: Style = AnsiColor::Cyan.on_default();
const REFUSED: Style = AnsiColor::Yellow.on_default();
const WRONG: Style = AnsiColor::Yellow.on_default().bold();

/// Longer lines are harder to read, and more of them break when a terminal becomes narrower.
const WIDEST: usize = 100;
/// Where the text of a paragraph starts.
const INDENT: usize = 10;
/// Tenants shown; of the others it is said how many they are.
const TENANTS: usize = 8;
const BAR: usize = 30;

/// What else is said with the figures.
#[derive(Clone, Debug)]
pub(crate) struct About<'a> {
    pub(crate) gateway: &'a str,
    pub(crate) prometheus: Option<&'a str>,
    /// What is left of the demo, if there is one.
    pub(crate) demo: Option<Duration>,
    /// The time that rates are over.
    pub(crate) window: Duration,
    /// Whether `q` is heard.
    pub(crate) keys: bool,
}

/// Lines for a terminal, as many and as long as fit.
pub(crate) fn lines(figures: &Figures, about: &About<'_>, size: Size) -> Vec<Line> {
    // The last column stays free: some terminals go to the next line there.
    let columns = size.columns.saturating_sub(1).min(WIDEST);
    // By how much each of them can be missed.
    let mut all: Vec<(u8, Line)> = vec![(9, Line::default())];
    let mut add =
        |importance, lines: Vec<Line>| all.extend(lines.into_iter().map(|line| (importance, line)));

    let mut gateway = vec![part(STRONG, about.gateway)];
    gateway.extend(about.demo.map(|left| match left.as_secs() {
        0 => part(FAINT, "demo is over"),
        left => part(PLAIN, format!("demo: {}:{:02} left", left / 60, left % 60)),
    }));
    gateway.extend(
        about
            .prometheus
            .map(|url| part(PLAIN, format!("prometheus {url}"))),
    );
    add(1, paragraph("gateway", gateway, columns));
    add(0, paragraph("requests", totals(figures), columns));
    add(2, tenants(&figures.tenants, columns));
    let tiers = figures.tiers.iter().map(|(tier, flow)| of(tier, *flow));
    add(6, paragraph("tiers", tiers.collect(), columns));
    let classes = figures
        .classes
        .iter()
        .map(|(class, count)| part(PLAIN, format!("{class} {}", rate(*count))));
    add(5, paragraph("classes", classes.collect(), columns));
    // Services of several versions first, a line each; the rest together.
    let (several, single): (Vec<_>, Vec<_>) = figures
        .versions
        .iter()
        .partition(|(_, versions)| versions.len() > 1);
    let mut services: Vec<Vec<Line>> = Vec::new();
    services.extend(several.iter().map(|(service, versions)| {
        let name = std::iter::once(part(PLAIN, short(service, figures)));
        name.chain(shares(versions)).collect()
    }));
    services.push(Vec::from_iter(single.iter().flat_map(
        |(service, versions)| {
            let service = short(service, figures);
            versions.iter().map(move |(version, count)| {
                part(PLAIN, format!("{service} {version} {}", rate(*count)))
            })
        },
    )));
    for (position, parts) in services.into_iter().enumerate() {
        let label = if position == 0 { "versions" } else { "" };
        add(4, paragraph(label, parts, columns));
    }
    add(3, paragraph("envoys", envoys(&figures.proxies), columns));
    let stop = if about.keys {
        "q or Ctrl-C stops everything"
    } else {
        "Ctrl-C stops everything"
    };
    let mut notes = vec![
        part(
            FAINT,
            format!("a second, over the last {} s", about.window.as_secs()),
        ),
        part(ADMITTED, "█"),
        part(FAINT, "admitted"),
        part(REFUSED, "░"),
        part(FAINT, "refused"),
    ];
    // The sign and its word stay together.
    for at in [3, 1] {
        let word = notes.remove(at + 1);
        notes[at].push(PLAIN, " ");
        notes[at].append(word);
    }
    notes.push(part(FAINT, stop));
    add(7, paragraph("", notes, columns));

    while all.len() > size.rows.saturating_sub(1) {
        let least = all
            .iter()
            .enumerate()
            .max_by_key(|(position, (importance, _))| (*importance, *position));
        let Some((position, _)) = least else { break };
        all.remove(position);
    }
    all.into_iter().map(|(_, line)| line.cut(columns)).collect()
}

/// One line for a file, if there is anything to say.
pub(crate) fn summary(figures: &Figures) -> Option<String> {
    figures.requests.filter(|requests| *requests > 0.0)?;
    let totals = totals(&Figures {
        trend: Vec::new(),
        ..figures.clone()
    });
    let mut parts = vec![format!("requests {}", join(totals, ", "))];
    let tenants = figures.tenants.iter().filter(|tenant| {
        tenant.flow
            != Flow {
                admitted: Some(0.0),
                refused: Some(0.0),
            }
    });
    parts.extend(tenants.map(|tenant| {
        let tier = tenant
            .tier
            .as_ref()
            .map_or_else(String::new, |tier| format!(" ({tier})"));
        of(&format!("{}{tier}", tenant.name), tenant.flow).write(false)
    }));
    for (service, versions) in figures
        .versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
    {
        parts.push(format!(
            "{} {}",
            short(service, figures),
            join(shares(versions).collect(), ", ")
        ));
    }
    let (live, wrong) = health(&figures.proxies);
    if !wrong.is_empty() {
        parts.push(format!("{live} of {} Envoys live", figures.proxies.len()));
    }
    Some(parts.join("; "))
}

fn part(style: Style, text: impl AsRef<str>) -> Line {
    let mut line = Line::default();
    line.push(style, text);
    line
}

fn join(parts: Vec<Line>, separator: &str) -> String {
    Vec::from_iter(parts.iter().map(|part| part.write(false))).join(separator)
}

/// `free 6.6 + 9.8 refused`, or `premium 51.0` if nothing was.
fn of(name: &str, flow: Flow) -> Line {
    let mut line = part(PLAIN, format!("{name} {}", rate(flow.admitted)));
    if flow.refused.is_some_and(|refused| refused > 0.0) {
        line.push(REFUSED, format!(" + {} refused", rate(flow.refused)));
    }
    line
}

/// Parts behind a label, broken between them where the line ends. Nothing at all without parts.
fn paragraph(label: &str, parts: Vec<Line>, columns: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.width() + 3 + part.width() <= columns => {
                line.push(PLAIN, "   ");
                line.append(part);
            }
            last => {
                let label = if last.is_none() { label } else { "" };
                let mut line = Line::default();
                line.push(FAINT, label);
                line.pad(INDENT);
                line.append(part);
                lines.push(line);
            }
        }
    }
    lines
}

fn totals(figures: &Figures) -> Vec<Line> {
    let errors = figures.errors.is_some_and(|share| share > 0.0);
    let refused = figures.refused.is_some_and(|refused| refused > 0.0);
    let mut parts = vec![
        part(STRONG, format!("{}/s", rate(figures.requests))),
        part(
            if refused { REFUSED } else { PLAIN },
            format!("refused {}/s", rate(figures.refused)),
        ),
        part(
            if errors { WRONG } else { PLAIN },
            format!("5xx {}", percent(figures.errors)),
        ),
        part(PLAIN, format!("p50 {}", milliseconds(figures.p50))),
        part(PLAIN, format!("p99 {}", milliseconds(figures.p99))),
    ];
    if figures.trend.len() > 1 {
        parts.push(part(ADMITTED, sparkline(&figures.trend)));
    }
    parts
}

fn tenants(tenants: &[Tenant], columns: usize) -> Vec<Line> {
    if tenants.is_empty() {
        return Vec::new();
    }
    let shown = &tenants[..tenants.len().min(TENANTS)];
    let narrow = columns < 60;
    let gap = if narrow { 1 } else { 2 };
    let tier = |tenant: &Tenant| part(PLAIN, tenant.tier.as_deref().unwrap_or("–"));
    let longest = |text: &dyn Fn(&Tenant) -> Line, least: usize| {
        let longest = shown
            .iter()
            .map(|tenant| text(tenant).width())
            .max()
            .unwrap_or(0);
        longest.clamp(least, if narrow { 12 } else { 24 })
    };
    let (names, tiers) = (
        longest(&|tenant| part(PLAIN, &tenant.name), INDENT - gap),
        longest(&tier, 4),
    );
    let row = |name: Line, tier: Line, admitted: Line, refused: Line| {
        let mut row = name.cut(names);
        row.pad(names + gap);
        row.append(tier.cut(tiers));
        row.pad(names + gap + tiers);
        for cell in [admitted, refused] {
            row.pad(row.width() + gap + 8_usize.saturating_sub(cell.width()));
            row.append(cell);
        }
        row
    };
    let head = |text| part(FAINT, text);
    let mut lines = vec![row(
        head("tenant"),
        head("tier"),
        head("admitted"),
        head("refused"),
    )];
    let most = shown
        .iter()
        .map(|tenant| tenant.flow.admitted.unwrap_or(0.0) + tenant.flow.refused.unwrap_or(0.0))
        .fold(0.0, f64::max);
    for tenant in shown {
        let Flow { admitted, refused } = tenant.flow;
        let refusing = if refused.is_some_and(|refused| refused > 0.0) {
            REFUSED
        } else {
            PLAIN
        };
        let mut line = row(
            part(STRONG, &tenant.name),
            tier(tenant),
            part(PLAIN, rate(admitted)),
            part(refusing, rate(refused)),
        );
        let room = columns.saturating_sub(line.width() + 2).min(BAR);
        if room >= 8 && most > 0.0 {
            // Whatever there is shows.
            let cells =
                |share: Option<f64>| (share.unwrap_or(0.0) / most * room as f64).ceil() as usize;
            let admitted = cells(admitted).min(room);
            line.push(PLAIN, "  ");
            line.push(ADMITTED, "█".repeat(admitted));
            line.push(REFUSED, "░".repeat(cells(refused).min(room - admitted)));
        }
        lines.push(line);
    }
    if tenants.len() > shown.len() {
        lines.push(part(
            FAINT,
            format!("… and {} more", tenants.len() - shown.len()),
        ));
    }
    lines
}

/// The versions of a service, and what part of its answers each of them gave.
fn shares(versions: &[(String, Option<f64>)]) -> impl Iterator<Item = Line> {
    let all: f64 = versions.iter().filter_map(|(_, count)| *count).sum();
    versions.iter().map(move |(version, count)| {
        let share = count.filter(|_| all > 0.0).map(|count| count / all * 100.0);
        let share = share.map_or_else(|| "–".to_owned(), |share| format!("{share:.0}"));
        part(PLAIN, format!("{version} {} ({share} %)", rate(*count)))
    })
}

/// A service's name, with its namespace if another one has the same.
fn short<'a>(service: &'a str, figures: &Figures) -> &'a str {
    let name = |service: &'a str| service.split('.').next().unwrap_or(service);
    let same = figures
        .versions
        .iter()
        .filter(|(other, _)| other.split('.').next() == Some(name(service)));
    if same.count() > 1 {
        service
    } else {
        name(service)
    }
}

fn health(proxies: &[(String, Health)]) -> (usize, Vec<&(String, Health)>) {
    let live = proxies
        .iter()
        .filter(|(_, health)| *health == Health::Live)
        .count();
    let wrong = proxies
        .iter()
        .filter(|(_, health)| matches!(health, Health::Says(_) | Health::Silent));
    (live, wrong.collect())
}

fn envoys(proxies: &[(String, Health)]) -> Vec<Line> {
    if proxies.iter().all(|(_, health)| *health == Health::Unknown) {
        return vec![part(PLAIN, "–")];
    }
    let (live, wrong) = health(proxies);
    let mut parts = vec![part(PLAIN, format!("{live} of {} live", proxies.len()))];
    parts.extend(wrong.into_iter().map(|(pod, health)| match health {
        Health::Says(state) => part(WRONG, format!("! {pod}: {state}")),
        _ => part(WRONG, format!("! {pod}: does not answer")),
    }));
    parts
}

fn sparkline(values: &[f64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(0.0, f64::max);
    let level = |value: f64| {
        if most > 0.0 {
            (value / most * 7.0).round() as usize
        } else {
            0
        }
    };
    values
        .iter()
        .map(|value| LEVELS[level(*value).min(7)])
        .collect()
}

fn known(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

fn rate(rate: Option<f64>) -> String {
    known(rate, |rate| {
        if rate < 1000.0 {
            format!("{rate:.1}")
        } else {
            format!("{rate:.0}")
        }
    })
}

fn percent(share: Option<f64>) -> String {
    known(share, |share| format!("{:.1} %", share * 100.0))
}

fn milliseconds(time: Option<f64>) -> String {
    known(time, |time| match time {
        ..10.0 => format!("{time:.1} ms"),
        ..10_000.0 => format!("{time:.0} ms"),
        _ => format!("{:.1} s", time / 1000.0),
    })
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::empty;
    use super::*;

    fn figures() -> Figures {
        let tenant = |name: &str, tier: &str, admitted, refused| Tenant {
            name: name.to_owned(),
            tier: Some(tier.to_owned()),
            flow: Flow {
                admitted: Some(admitted),
                refused: Some(refused),
            },
        };
        let flow = |admitted, refused| Flow {
            admitted: Some(admitted),
            refused: Some(refused),
        };
        let count = |name: &str, count| (name.to_owned(), Some(count));
        Figures {
            requests: Some(83.4),
            refused: Some(9.8),
            errors: Some(0.0),
            p50: Some(2.94),
            p99: Some(31.2),
            tenants: vec![
                tenant("initech", "free", 0.8, 0.0),
                tenant("other", "free", 5.8, 9.8),
                tenant("acme", "premium", 51.0, 0.0),
                tenant("globex", "standard", 12.2, 0.0),
            ],
            tiers: vec![
                ("free".to_owned(), flow(6.6, 9.8)),
                ("premium".to_owned(), flow(51.0, 0.0)),
                ("standard".to_owned(), flow(12.2, 0.0)),
            ],
            classes: vec![
                count("premium", 46.0),
                count("standard", 16.2),
                count("vip", 7.4),
            ],
            versions: vec![
                ("cart-service.ecommerce".to_owned(), vec![count("v1", 6.0)]),
                (
                    "product-service.ecommerce".to_owned(),
                    vec![count("v1", 50.2), count("v2", 12.9)],
                ),
            ],
            proxies: vec![
                ("cart-service-0".to_owned(), Health::Live),
                ("gateway-0".to_owned(), Health::Live),
            ],
            trend: (0..20).map(f64::from).collect(),
        }
    }

    const ABOUT: About<'_> = About {
        gateway: "http://127.0.0.1:8080",
        prometheus: None,
        demo: Some(Duration::from_secs(581)),
        window: Duration::from_secs(5),
        keys: true,
    };

    /// What a terminal of this size shows of them.
    fn shown(figures: &Figures, columns: usize, rows: usize) -> String {
        let lines = lines(figures, &ABOUT, Size { columns, rows });
        assert!(lines.len() < rows);
        let mut terminal = empty(rows, columns);
        for line in lines {
            terminal.process(format!("{}\r\n", line.write(true)).as_bytes());
        }
        format!("{}\n", terminal.screen().contents())
    }

    #[test]
    fn a_usual_terminal_shows_everything() {
        assert_eq!(
            shown(&figures(), 80, 24),
            include_str!("testdata/80x24.txt")
        );
    }

    #[test]
    fn a_narrow_terminal_shows_everything_but_the_bars() {
        assert_eq!(
            shown(&figures(), 40, 30),
            include_str!("testdata/40x30.txt")
        );
    }

    #[test]
    fn a_low_terminal_shows_what_matters_most() {
        assert_eq!(shown(&figures(), 80, 8), include_str!("testdata/80x8.txt"));
        assert_eq!(shown(&figures(), 1, 2), "\n");
        lines(
            &figures(),
            &ABOUT,
            Size {
                columns: 0,
                rows: 0,
            },
        );
    }

    #[test]
    fn a_prometheus_stands_beside_the_gateway() {
        let about = About {
            prometheus: Some("http://127.0.0.1:9090"),
            ..ABOUT
        };
        let size = Size {
            columns: 100,
            rows: 24,
        };
        let first = lines(&figures(), &about, size)[1].write(false);
        assert_eq!(
            first.trim_end(),
            "gateway   http://127.0.0.1:8080   demo: 9:41 left   prometheus http://127.0.0.1:9090"
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let figures = Figures {
            tenants: vec![Tenant {
                name: "acme".to_owned(),
                tier: None,
                flow: Flow::default(),
            }],
            versions: vec![
                (
                    "cart.a".to_owned(),
                    vec![("v1".to_owned(), None), ("v2".to_owned(), None)],
                ),
                ("shop.a".to_owned(), vec![("v1".to_owned(), None)]),
                ("shop.b".to_owned(), vec![("v1".to_owned(), Some(0.0))]),
            ],
            proxies: vec![
                ("a-0".to_owned(), Health::Live),
                ("b-0".to_owned(), Health::Silent),
                ("c-0".to_owned(), Health::Says("draining".to_owned())),
            ],
            ..Figures::default()
        };
        assert_eq!(
            shown(&figures, 80, 24),
            include_str!("testdata/unknown.txt")
        );
        assert_eq!(summary(&figures), None);
    }

    #[test]
    fn a_file_gets_one_line() {
        assert_eq!(
            summary(&figures()).unwrap(),
            "requests 83.4/s, refused 9.8/s, 5xx 0.0 %, p50 2.9 ms, p99 31 ms; initech (free) 0.8; other (free) 5.8 + 9.8 refused; \
             acme (premium) 51.0; globex (standard) 12.2; product-service v1 50.2 (80 %), v2 12.9 (20 %)"
        );
        assert_eq!(
            summary(&Figures {
                requests: Some(0.0),
                ..figures()
            }),
            None
        );
    }
}
