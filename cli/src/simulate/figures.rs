//! What a replay came to: by tenant, and over time.

use std::collections::HashMap;

use super::log::Traffic;
use super::replay::{Cause, NONE, Replay};
use super::text::grouped;
use super::time::{MILLISECOND, SECOND};

/// What one configuration does to the requests of some tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub requests: u64,
    pub refused: u64,
    /// The first request that is refused, as an index of [`Traffic::entries`].
    pub first: Option<usize>,
    /// Why requests are refused, and how many, most first.
    pub by: Vec<(Cause, u64)>,
    /// Requests that pass and that limits in shadow would have refused, and why.
    pub shadowed: u64,
    pub shadowed_by: Vec<(Cause, u64)>,
}

impl Counts {
    /// Why requests are refused, for people: the limits, or what else it was, the first ones with their numbers; then those in shadow.
    pub(crate) fn reasons(&self, most: usize) -> Option<String> {
        let list = |causes: &[(Cause, u64)]| {
            let shown = causes.iter().take(most);
            let mut parts: Vec<String> = shown
                .map(|(cause, count)| format!("{} {}", cause.shown(), grouped(*count)))
                .collect();
            let more = causes.len().saturating_sub(most);
            if more > 0 {
                parts.push(format!("{more} more"));
            }
            (!parts.is_empty()).then(|| parts.join(", "))
        };
        match (list(&self.by), list(&self.shadowed_by)) {
            (by, None) => by,
            (None, Some(shadowed)) => Some(format!("in shadow {shadowed}")),
            (Some(by), Some(shadowed)) => Some(format!("{by}; in shadow {shadowed}")),
        }
    }

    /// What becomes of all these requests, for people.
    pub(crate) fn outcome(&self) -> String {
        let shadowed = match self.shadowed {
            0 => String::new(),
            count => format!("; limits in shadow would refuse {}", grouped(count)),
        };
        format!(
            "{} admitted, {} refused ({:.1} %){shadowed}",
            grouped(self.requests - self.refused),
            grouped(self.refused),
            self.percent()
        )
    }

    /// The share of requests that are refused.
    pub(crate) fn percent(&self) -> f64 {
        percent(self.refused, self.requests)
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.shadowed += other.shadowed;
        for (sum, causes) in [
            (&mut self.by, &other.by),
            (&mut self.shadowed_by, &other.shadowed_by),
        ] {
            for (cause, count) in causes {
                match sum.iter_mut().find(|(known, _)| known == cause) {
                    Some((_, sum)) => *sum += count,
                    None => sum.push((cause.clone(), *count)),
                }
            }
        }
        self.sort();
    }

    fn sort(&mut self) {
        for causes in [&mut self.by, &mut self.shadowed_by] {
            causes.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.shown().cmp(&b.shown())));
        }
    }
}

pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => 100.0 * part as f64 / whole as f64,
    }
}

/// Admitted and refused requests in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub admitted: u32,
    pub refused: u32,
}

/// One tenant, or several together, under one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub tier: Option<String>,
    pub counts: Counts,
    /// By [`Timeline`]; empty for tenants that are not told one by one.
    pub series: Vec<Stretch>,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The tenant's id; `None` for requests that are nobody's.
    pub id: Option<String>,
    pub before: Side,
    /// Under the other configuration, if there is one.
    pub after: Option<Side>,
}

impl Row {
    /// For people. In no id there is a parenthesis.
    pub(crate) fn name(&self) -> &str {
        self.id.as_deref().unwrap_or("(nobody)")
    }

    /// How many more are refused under the other configuration.
    pub(crate) fn change(&self) -> i64 {
        let after = self
            .after
            .as_ref()
            .map_or(self.before.counts.refused, |after| after.counts.refused);
        after as i64 - self.before.counts.refused as i64
    }
}

/// Time in equal stretches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// When the first begins.
    pub begin: u64,
    /// How long each is, in nanoseconds.
    pub width: u64,
    pub count: usize,
}

impl Timeline {
    /// From the first to the last of these moments, in at most so many stretches of a round length.
    pub(crate) fn of(first: u64, last: u64, most: usize) -> Self {
        const WIDTHS: [u64; 28] = {
            const MINUTE: u64 = 60 * SECOND;
            const HOUR: u64 = 60 * MINUTE;
            const DAY: u64 = 24 * HOUR;
            [
                MILLISECOND,
                2 * MILLISECOND,
                5 * MILLISECOND,
                10 * MILLISECOND,
                20 * MILLISECOND,
                50 * MILLISECOND,
                100 * MILLISECOND,
                200 * MILLISECOND,
                500 * MILLISECOND,
                SECOND,
                2 * SECOND,
                5 * SECOND,
                10 * SECOND,
                15 * SECOND,
                30 * SECOND,
                MINUTE,
                2 * MINUTE,
                5 * MINUTE,
                10 * MINUTE,
                15 * MINUTE,
                30 * MINUTE,
                HOUR,
                2 * HOUR,
                6 * HOUR,
                12 * HOUR,
                DAY,
                7 * DAY,
                30 * DAY,
            ]
        };
        let stretches = |width: u64| (last / width - first / width + 1) as usize;
        let mut width = WIDTHS.into_iter().find(|width| stretches(*width) <= most);
        // A log of decades is a log with a wrong moment in it, and is shown all the same.
        let mut long = 365 * 86_400 * SECOND;
        while width.is_none() {
            width = (stretches(long) <= most).then_some(long);
            long = long.saturating_mul(2);
        }
        let width = width.unwrap_or(u64::MAX);
        Self {
            begin: first / width * width,
            width,
            count: stretches(width),
        }
    }

    pub(crate) fn at(&self, moment: u64) -> usize {
        (moment.saturating_sub(self.begin) / self.width) as usize
    }
}

/// What is told of a replay, or of two.
#[derive(Debug)]
pub(crate) struct Figures {
    pub timeline: Timeline,
    /// The tenants that are told one by one.
    pub rows: Vec<Row>,
    /// All the others together, and how many they are.
    pub others: Option<(Row, usize)>,
    pub total: Row,
    /// How many requests were answered with 429 when the log was written.
    pub answered_429: u64,
    /// Requests that the one configuration admits and the other refuses, and the other way around.
    pub changed: Option<(u64, u64)>,
}

impl Figures {
    /// Tells at most `top` tenants one by one, over at most so many stretches of time. There is at least one request.
    pub(crate) fn of(
        traffic: &Traffic,
        before: &Replay,
        after: Option<&Replay>,
        top: usize,
        stretches: usize,
    ) -> Self {
        let moment = |entry: Option<&super::log::Entry>| entry.map_or(0, |entry| entry.time);
        let timeline = Timeline::of(
            moment(traffic.entries.first()),
            moment(traffic.entries.last()),
            stretches,
        );
        let sides = [Some(counted(before)), after.map(counted)];
        let mut rows = rows(before, after, sides);
        rows.sort_by(|a, b| {
            let refused = |row: &Row| {
                let after = row.after.as_ref().map_or(0, |side| side.counts.refused);
                row.before.counts.refused.max(after)
            };
            let by = |row: &Row| {
                (
                    row.change().unsigned_abs(),
                    refused(row),
                    row.before.counts.requests,
                )
            };
            by(b).cmp(&by(a)).then_with(|| a.id.cmp(&b.id))
        });
        let nothing = || Row {
            id: None,
            before: Side::default(),
            after: after.map(|_| Side::default()),
        };
        let mut total = nothing();
        rows.iter().for_each(|row| add(&mut total, row));
        let rest = rows.split_off(rows.len().min(top));
        let others = (!rest.is_empty()).then(|| {
            let mut others = nothing();
            rest.iter().for_each(|row| add(&mut others, row));
            (others, rest.len())
        });
        let mut figures = Self {
            timeline,
            rows,
            others,
            total,
            answered_429: traffic
                .entries
                .iter()
                .filter(|entry| entry.status == 429)
                .count() as u64,
            changed: after.map(|after| {
                let pairs = || before.verdicts.iter().zip(&after.verdicts);
                let admitted_then_refused =
                    pairs().filter(|(a, b)| !a.is_refused() && b.is_refused());
                let refused_then_admitted =
                    pairs().filter(|(a, b)| a.is_refused() && !b.is_refused());
                (
                    admitted_then_refused.count() as u64,
                    refused_then_admitted.count() as u64,
                )
            }),
        };
        figures.draw(traffic, before, |row| Some(&mut row.before));
        if let Some(after) = after {
            figures.draw(traffic, after, |row| row.after.as_mut());
        }
        figures
    }

    /// Counts over time, for the tenants that are told one by one and for all together.
    fn draw(
        &mut self,
        traffic: &Traffic,
        replay: &Replay,
        side: impl Fn(&mut Row) -> Option<&mut Side>,
    ) {
        let empty = vec![Stretch::default(); self.timeline.count];
        let mut all = empty.clone();
        let mut series = vec![empty; self.rows.len()];
        let by_id: HashMap<Option<&str>, usize> = self
            .rows
            .iter()
            .enumerate()
            .map(|(at, row)| (row.id.as_deref(), at))
            .collect();
        let row_of: Vec<Option<usize>> = replay
            .tenants
            .iter()
            .map(|tenant| by_id.get(&tenant.id.as_deref()).copied())
            .collect();
        for (entry, verdict) in traffic.entries.iter().zip(&replay.verdicts) {
            let at = self.timeline.at(entry.time);
            let count = |stretch: &mut Stretch| match verdict.is_refused() {
                true => stretch.refused += 1,
                false => stretch.admitted += 1,
            };
            count(&mut all[at]);
            if let Some(row) = row_of[verdict.tenant as usize] {
                count(&mut series[row][at]);
            }
        }
        for (row, series) in self.rows.iter_mut().zip(series) {
            if let Some(side) = side(row) {
                side.series = series;
            }
        }
        if let Some(side) = side(&mut self.total) {
            side.series = all;
        }
    }
}

/// The counts of all tenants of a replay, in their order.
fn counted(replay: &Replay) -> Vec<Counts> {
    #[derive(Clone, Default)]
    struct Tally {
        requests: u64,
        refused: u64,
        first: Option<usize>,
        by: Vec<(u32, u64)>,
        shadowed: u64,
        shadowed_by: Vec<(u32, u64)>,
    }
    fn count(by: &mut Vec<(u32, u64)>, wanted: u32) {
        match by.iter_mut().find(|(cause, _)| *cause == wanted) {
            Some((_, count)) => *count += 1,
            None => by.push((wanted, 1)),
        }
    }
    let mut tallies = vec![Tally::default(); replay.tenants.len()];
    for (number, verdict) in replay.verdicts.iter().enumerate() {
        let tally = &mut tallies[verdict.tenant as usize];
        tally.requests += 1;
        if verdict.cause != NONE {
            tally.refused += 1;
            tally.first.get_or_insert(number);
            count(&mut tally.by, verdict.cause);
        }
        if verdict.shadowed != NONE {
            tally.shadowed += 1;
            count(&mut tally.shadowed_by, verdict.shadowed);
        }
    }
    let counts = |tally: Tally| {
        let cause = |(cause, count): (u32, u64)| (replay.causes[cause as usize].clone(), count);
        let mut counts = Counts {
            requests: tally.requests,
            refused: tally.refused,
            first: tally.first,
            by: tally.by.into_iter().map(cause).collect(),
            shadowed: tally.shadowed,
            shadowed_by: tally.shadowed_by.into_iter().map(cause).collect(),
        };
        counts.sort();
        counts
    };
    tallies.into_iter().map(counts).collect()
}

/// A row for each tenant that either configuration knows.
fn rows(before: &Replay, after: Option<&Replay>, sides: [Option<Vec<Counts>>; 2]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::with_capacity(before.tenants.len());
    let mut by_id: HashMap<Option<&str>, usize> = HashMap::new();
    let [first, second] = sides;
    for (replay, counts, is_first) in [(Some(before), first, true), (after, second, false)] {
        let (Some(replay), Some(counts)) = (replay, counts) else {
            continue;
        };
        for (tenant, counts) in replay.tenants.iter().zip(counts) {
            let at = *by_id.entry(tenant.id.as_deref()).or_insert_with(|| {
                rows.push(Row {
                    id: tenant.id.clone(),
                    before: Side::default(),
                    after: after.map(|_| Side::default()),
                });
                rows.len() - 1
            });
            let row = &mut rows[at];
            let side = if is_first {
                Some(&mut row.before)
            } else {
                row.after.as_mut()
            };
            if let Some(side) = side {
                side.tier.clone_from(&tenant.tier);
                side.counts.add(&counts);
            }
        }
    }
    rows
}

fn add(sum: &mut Row, row: &Row) {
    sum.before.counts.add(&row.before.counts);
    if let (Some(sum), Some(after)) = (&mut sum.after, &row.after) {
        sum.counts.add(&after.counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_time_are_round_and_few() {
        const HOUR: u64 = 3_600 * SECOND;
        let begin = 1_795_248_005 * SECOND;
        let of = |length: u64, most| {
            let timeline = Timeline::of(begin, begin + length, most);
            assert!(
                timeline.at(begin + length) < timeline.count && timeline.count <= most,
                "{timeline:?}"
            );
            timeline.width
        };
        assert_eq!(of(0, 60), MILLISECOND);
        assert_eq!(of(10 * SECOND, 60), 200 * MILLISECOND);
        assert_eq!(of(HOUR, 60), 120 * SECOND);
        assert_eq!(of(24 * HOUR, 60), 1_800 * SECOND);
        assert_eq!(of(24 * 365 * HOUR, 60), 7 * 24 * HOUR);
        let all = Timeline::of(0, u64::MAX, 60);
        assert!(all.count <= 60 && all.at(u64::MAX) < all.count);
    }
}
