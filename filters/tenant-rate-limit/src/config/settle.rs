//! What requests cost in limits whose units only their responses know.

use serde::Deserialize;
use tollgate_common::config::whole_number;
use tollgate_common::{Problems, header, mapping};
#[cfg(feature = "schema")]
use {super::schema, crate::settle::LARGEST};

use super::written::LimitWritten;
use crate::settle::{Settled, Source, Unsettled};

/// What a request counts for in this limit, in place of the cost that its route has: in units that only the response tells, such as tokens.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "SettledCost")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SettledCostWritten {
    /// What a request is charged when it is admitted, 1 to `max`, and at most the quota.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST)))]
    pub(super) estimate: u64,
    /// The most that it counts for in the end, whatever the response says, `estimate` to 1,000,000,000.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST)))]
    pub(super) max: u64,
    /// Where the response says what it was.
    pub(super) settle: SettleWritten,
    /// What counts of a request that was answered without an error and did not say it, or whose answer did not come to its end: `max`, or `estimate`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "max")))]
    pub(super) unsettled: UnsettledWritten,
}

/// Where a response says what its request counts for: exactly one of these.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Settle", transform = schema::settle))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SettleWritten {
    /// The value of this response header.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub(super) header: Option<String>,
}

/// What counts where a response does not say it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Unsettled")
)]
#[serde(rename_all = "camelCase")]
pub(super) enum UnsettledWritten {
    /// The most.
    #[default]
    Max,
    /// The estimate.
    Estimate,
}

mapping!(SettledCostWritten, SettleWritten);

/// How the requests of the limit at `path` are settled; `quota` is what it allows, if that is right.
pub(super) fn settled(
    path: &str,
    limit: &LimitWritten,
    quota: Option<u64>,
    problems: &mut Problems,
) -> Option<Option<Settled>> {
    let Some(written) = &limit.cost else {
        return Some(None);
    };
    let path = format!("{path}.cost");
    let (requests, quota_too) = (limit.requests.is_some(), limit.quota.is_some());
    if limit.concurrent.is_some() && !requests && !quota_too {
        return problems.refuse(
            path,
            "each request in flight is one, whatever it costs; leave it out",
        );
    }
    if requests && !quota_too && limit.concurrent.is_none() {
        return problems.refuse(
            path,
            "only a quota can be settled when the response comes, write quota in place of requests, or leave it out",
        );
    }
    let at = |field: &str| format!("{path}.{field}");
    let (estimate, max) = (written.estimate, written.max);
    let mut right = true;
    for (field, number) in [("estimate", estimate), ("max", max)] {
        if !(1..=crate::settle::LARGEST).contains(&number) {
            right = false;
            problems.tell(
                at(field),
                format!(
                    "{number} is out of range, write 1 to {}",
                    crate::settle::LARGEST
                ),
            );
        }
    }
    if right
        && estimate > max
        && problems.as_written(&path, "estimate")
        && problems.as_written(&path, "max")
    {
        right = false;
        problems.tell(
            at("estimate"),
            format!("{estimate} is more than max, which is {max}; write at most {max}"),
        );
    }
    if let Some(quota) = quota.filter(|quota| right && estimate > *quota)
        && problems.as_written(&path, "estimate")
    {
        right = false;
        problems.tell(
            at("estimate"),
            format!(
                "{estimate} is more than the quota of {quota}, so no request would ever pass; write at most {quota}"
            ),
        );
    }
    let source = source(&written.settle, &at("settle"), problems)?;
    right.then_some(Some(Settled {
        estimate,
        max,
        source,
        unsettled: match written.unsettled {
            UnsettledWritten::Max => Unsettled::Max,
            UnsettledWritten::Estimate => Unsettled::Estimate,
        },
    }))
}

fn source(written: &SettleWritten, path: &str, problems: &mut Problems) -> Option<Source> {
    let at = |field: &str| format!("{path}.{field}");
    match &written.header {
        Some(name) => {
            let name = problems.take(header::name(name, &at("header")));
            name.map(Source::Header)
        }
        None => problems.refuse(
            path,
            "says not where the response tells it, write e.g. {header: x-tokens-used}",
        ),
    }
}
