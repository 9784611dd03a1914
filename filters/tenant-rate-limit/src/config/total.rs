//! The total, and how large whose share of it is.

use tollgate_common::Problems;
use tollgate_common::config::below;

use super::limits;
use super::written::{TotalWritten, Written};
use crate::limit::Kind;
use crate::share::{self, Total};

/// The largest weight.
pub const LARGEST_WEIGHT: u64 = 1_000;

/// The fewest requests that a total lets pass at once.
const FEWEST: u64 = 10;

/// The shortest time in which the burst of a total may come back, in nanoseconds.
const SHORTEST: u64 = 250_000_000;

/// The total, as it was written: shared by all tenants that are listed, each by its weight, and by all others together.
pub(super) fn total(
    written: &Written,
    weights: &[u64],
    unlisted: u64,
    problems: &mut Problems,
) -> Option<Option<Total>> {
    let Some(total) = &written.total else {
        return Some(None);
    };
    let tiers = written.tiers.iter().flat_map(|(name, tier)| {
        let limits = tier.limits.iter().flatten().enumerate();
        let path = below("tiers", name);
        limits.map(move |(index, limit)| (format!("{path}.limits[{index}]"), limit))
    });
    let routes = written.routes.iter().enumerate().flat_map(|(route, of)| {
        let limits = of.limits.iter().enumerate();
        limits.map(move |(index, limit)| (format!("routes[{route}].limits[{index}]"), limit))
    });
    for (path, limit) in tiers.chain(routes) {
        if limit.name == share::NAME {
            problems.tell(
                format!("{path}.name"),
                "\"total\" is what metrics show for the total, write another name",
            );
        }
    }
    let mode = limits::mode(
        "total",
        total.mode,
        total.enforced_for.as_ref(),
        share::NAME,
        problems,
    );
    let kind = kind(total, problems)?;
    let weights = || weights.iter().copied().chain([unlisted]);
    let Kind::Rate { interval, burst } = kind else {
        return None;
    };
    let lightest = weights().min().unwrap_or(1);
    let total = Total::new(interval, burst, lightest, weights().sum());
    Some(Some(total.in_mode(mode?)))
}

/// What the total allows. Its burst has to be large enough that what is free of it says something.
fn kind(written: &TotalWritten, problems: &mut Problems) -> Option<Kind> {
    const PATH: &str = "total";
    let (requests, per) = (written.requests, written.per.0.as_str());
    let least = Some(written.burst.unwrap_or(1));
    let kind = limits::rate(PATH, requests, per, least, problems)?;
    let Kind::Rate { interval, .. } = kind else {
        return None;
    };
    let least = SHORTEST.div_ceil(interval).max(FEWEST);
    let burst = match written.burst {
        None => written.requests.max(least),
        Some(burst) if burst < least => {
            return problems.refuse(
                "total.burst",
                format!("{burst} is too small to be shared, write at least {least}"),
            );
        }
        Some(burst) => burst,
    };
    limits::rate(PATH, requests, per, Some(burst), problems)
}

/// A weight written at `path`; of what is wrong, the one that would be without it.
pub(super) fn weight(
    path: &str,
    written: Option<u64>,
    without: u64,
    total: bool,
    problems: &mut Problems,
) -> u64 {
    let Some(weight) = written else {
        return without;
    };
    let path = format!("{path}.weight");
    if !(1..=LARGEST_WEIGHT).contains(&weight) {
        problems.tell(
            path,
            format!("{weight} is out of range, write 1 to {LARGEST_WEIGHT}"),
        );
        return without;
    }
    if !total && problems.as_written("total", "") {
        problems.tell(
            path,
            "there is nothing to share by it, write total, or leave it out",
        );
    }
    weight
}
