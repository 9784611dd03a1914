//! What requests cost in limits whose units only their responses know.

#[cfg(feature = "schema")]
use super::schema;
use serde::Deserialize;
use tollgate_common::body::{Pointer, Pointers};
use tollgate_common::config::{optional_whole_number, whole_number};
use tollgate_common::{Problems, header, mapping};

use super::written::LimitWritten;
use crate::limit::Limit;
use crate::settle::{LARGEST, LARGEST_SCALE, Settled, Source, Unsettled};

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
    /// What counts of a request whose answer did not say it and was no error from its first line, or did not come to its end, or to a bad one: `max`, or `estimate`. Not with `bytes`, of which
    /// it is always known how many came. [default: `max`]
    pub(super) unsettled: Option<UnsettledWritten>,
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
    /// The value of this trailer.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub(super) trailer: Option<String>,
    /// The number at this JSON pointer of the body, such as `/usage/total_tokens`; of a stream of events (`text/event-stream`) the last one. At most 8 different ones in a configuration.
    pub(super) json: Option<Pointer>,
    /// What is counted: `response`, the bytes of the response's body, as it comes from the service.
    pub(super) bytes: Option<BytesWritten>,
    /// What the number is multiplied by, 1 to 1,000,000,000; 1 if nothing is written. Quotas are of whole units: of 0.25 with 100 a request counts for 25. `estimate`, `max` and the quota are in these units. Not with `bytes`.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_SCALE)))]
    pub(super) scale: Option<u64>,
    /// `true`, beside `header`: clients do not see that header. It is taken out of every response.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub(super) strip: Option<bool>,
}

/// Which bytes are counted.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Bytes")
)]
#[serde(rename_all = "camelCase")]
pub(super) enum BytesWritten {
    /// Those of the response's body.
    Response,
}

/// What counts where a response does not say it.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Unsettled")
)]
#[serde(rename_all = "camelCase")]
pub(super) enum UnsettledWritten {
    /// The most.
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
    let whole = path;
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
        if !(1..=LARGEST).contains(&number) {
            right = false;
            problems.tell(
                at(field),
                format!("{number} is out of range, write 1 to {}", LARGEST),
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
        && problems.as_written(whole, "quota")
    {
        right = false;
        problems.tell(
            at("estimate"),
            format!(
                "{estimate} is more than the quota of {quota}, so no request would ever pass; write at most {quota}"
            ),
        );
    }
    right &= beside(&written.settle, &at("settle"), problems);
    let source = source(&written.settle, &at("settle"), problems)?;
    if source == Source::Bytes && written.unsettled.is_some() {
        right = false;
        problems.tell(
            at("unsettled"),
            "it is always known how many bytes have come, and these count; leave it out",
        );
    }
    right.then_some(Some(Settled {
        estimate,
        max,
        source,
        scale: written.settle.scale.unwrap_or(1),
        strip: written.settle.strip.is_some(),
        unsettled: match written.unsettled {
            None | Some(UnsettledWritten::Max) => Unsettled::Max,
            Some(UnsettledWritten::Estimate) => Unsettled::Estimate,
        },
    }))
}

/// Whether what stands beside the source is right.
fn beside(written: &SettleWritten, path: &str, problems: &mut Problems) -> bool {
    let mut right = true;
    let mut tell = |field: &str, message: String| {
        right = false;
        problems.tell(format!("{path}.{field}"), message);
    };
    if let Some(scale) = written.scale {
        if !(1..=LARGEST_SCALE).contains(&scale) {
            tell(
                "scale",
                format!("{scale} is out of range, write 1 to {LARGEST_SCALE}"),
            );
        } else if written.bytes.is_some() {
            tell(
                "scale",
                "is for numbers that a response says, and bytes are counted: take it out"
                    .to_owned(),
            );
        }
    }
    match written.strip {
        Some(true) if written.header.is_none() => tell(
            "strip",
            "is for a header, and this is settled by something else: take it out".to_owned(),
        ),
        Some(false) => tell(
            "strip",
            "false is what it is without it, write true or leave it out".to_owned(),
        ),
        Some(true) | None => {}
    }
    right
}

fn source(written: &SettleWritten, path: &str, problems: &mut Problems) -> Option<Source> {
    let SettleWritten {
        header,
        trailer,
        json,
        bytes,
        scale: _,
        strip: _,
    } = written;
    let mut name = |name: &str, field: &str| {
        let path = format!("{path}.{field}");
        problems.take(header::name(name, &path))
    };
    match (header, trailer, json, bytes) {
        (Some(header), None, None, None) => name(header, "header").map(Source::Header),
        (None, Some(trailer), None, None) => name(trailer, "trailer").map(Source::Trailer),
        (None, None, Some(pointer), None) => Some(Source::Json(pointer.clone())),
        (None, None, None, Some(BytesWritten::Response)) => Some(Source::Bytes),
        _ => problems.refuse(
            path,
            "says not where the response tells it, write one of header, trailer, json and bytes, e.g. {json: /usage/total_tokens}",
        ),
    }
}

/// The field of the limit at `path` for which bodies or trailers must be seen.
pub(super) fn reader(path: &str, limit: &LimitWritten) -> Option<String> {
    let settle = &limit.cost.as_ref()?.settle;
    let field = match settle {
        SettleWritten { json: Some(_), .. } => "json",
        SettleWritten { bytes: Some(_), .. } => "bytes",
        SettleWritten {
            trailer: Some(_), ..
        } => "trailer",
        SettleWritten { .. } => return None,
    };
    Some(format!("{path}.cost.settle.{field}"))
}

/// The headers that clients are not to see, each once.
pub(super) fn stripped(limits: &[&Limit]) -> Vec<String> {
    let mut stripped: Vec<String> = Vec::new();
    for settled in limits.iter().filter_map(|limit| limit.settled.as_ref()) {
        if let Source::Header(name) = &settled.source
            && settled.strip
            && !stripped.contains(name)
        {
            stripped.push(name.clone());
        }
    }
    stripped
}

/// What is looked for in the bodies of responses, each once.
pub(super) fn pointers(limits: &[&Limit], problems: &mut Problems) -> Option<Pointers> {
    let mut pointers: Vec<Pointer> = Vec::new();
    for limit in limits {
        if let Some(Source::Json(pointer)) = limit.settled.as_ref().map(|settled| &settled.source)
            && !pointers.contains(pointer)
        {
            pointers.push(pointer.clone());
        }
    }
    match Pointers::new(pointers) {
        Ok(pointers) => Some(pointers),
        Err(message) => problems.refuse("tiers", message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Config;
    use crate::config::{check, reads_bodies};

    fn config(limits: Value) -> Value {
        json!({
            "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
            "tiers": {"free": {"limits": limits}},
        })
    }

    fn read(config: &Value) -> Result<Config, String> {
        Config::parse(config.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    fn quota(cost: Value) -> Value {
        json!([{"name": "tokens", "quota": 1000, "per": "day", "cost": cost}])
    }

    #[test]
    fn each_source_is_read() {
        for (settle, source) in [
            (
                json!({"header": "X-Tokens"}),
                Source::Header("x-tokens".to_owned()),
            ),
            (
                json!({"trailer": "X-Tokens"}),
                Source::Trailer("x-tokens".to_owned()),
            ),
            (
                json!({"json": "/usage/total_tokens"}),
                Source::Json(Pointer::parse("/usage/total_tokens").unwrap()),
            ),
            (json!({"bytes": "response"}), Source::Bytes),
        ] {
            let config = read(&config(quota(
                json!({"estimate": 5, "max": 80000, "settle": settle}),
            )))
            .unwrap();
            let expected = Settled {
                estimate: 5,
                max: 80_000,
                source: source.clone(),
                scale: 1,
                strip: false,
                unsettled: Unsettled::Max,
            };
            let found: Vec<&Settled> = config.settled().map(|(_, settled)| settled).collect();
            assert_eq!(found, [&expected]);
            assert_eq!(
                config.pointers.len(),
                usize::from(matches!(source, Source::Json(_)))
            );
        }
        let scaled = quota(
            json!({"estimate": 5, "max": 5, "settle": {"header": "X-Cost", "scale": 1000, "strip": true}}),
        );
        let scaled = read(&config(scaled)).unwrap();
        assert!(
            scaled
                .settled()
                .all(|(_, settled)| settled.scale == 1000 && settled.strip)
        );
        assert_eq!(scaled.stripped, ["x-cost"]);
        let lenient = quota(
            json!({"estimate": 5, "max": 5, "settle": {"header": "a"}, "unsettled": "estimate"}),
        );
        let config = read(&config(lenient)).unwrap();
        assert!(
            config
                .settled()
                .all(|(_, settled)| settled.unsettled == Unsettled::Estimate)
        );
    }

    #[test]
    fn it_is_known_what_reads_bodies() {
        let reads = |limits: Value| reads_bodies(config(limits).to_string().as_bytes());
        let cost = |settle: Value| json!({"estimate": 5, "max": 50, "settle": settle});
        assert_eq!(
            reads(json!([{"name": "rate", "requests": 1, "per": "1s"}])),
            None
        );
        assert_eq!(reads(quota(cost(json!({"header": "a"})))), None);
        for (settle, field) in [
            (json!({"trailer": "a"}), "trailer"),
            (json!({"json": "/a"}), "json"),
            (json!({"bytes": "response"}), "bytes"),
        ] {
            let expected = format!("tiers.free.limits[0].cost.settle.{field}");
            assert_eq!(reads(quota(cost(settle))), Some(expected));
        }
        let mut own = config(json!([{"name": "tokens", "quota": 1000, "per": "day"}]));
        let cost = cost(json!({"json": "/a"}));
        let limit = json!([{"name": "tokens", "quota": 1000, "per": "day", "cost": cost}]);
        own["tenants"] = json!({"acme.eu": {"tier": "free", "limits": limit}});
        assert_eq!(
            reads_bodies(own.to_string().as_bytes()).as_deref(),
            Some(r#"tenants["acme.eu"].limits[0].cost.settle.json"#)
        );
    }

    #[test]
    fn a_limit_that_is_settled_is_another_one_than_of_requests() {
        let settled = quota(json!({"estimate": 5, "max": 50, "settle": {"header": "a"}}));
        let mut both = settled.clone();
        both[0]["cost"]["estimate"] = 7.into();
        let keys = [
            read(&config(settled)).unwrap(),
            read(&config(both)).unwrap(),
            read(&config(
                json!([{"name": "tokens", "quota": 1000, "per": "day"}]),
            ))
            .unwrap(),
        ]
        .map(|config| match &config.plans[0].allowance {
            crate::config::Allowance::Limits(set) => set.limits[0].key(),
            other => panic!("{other:?}"),
        });
        assert_eq!(keys[0], keys[1], "numbers may change");
        assert_ne!(keys[0], keys[2]);
    }

    #[test]
    fn mistakes_say_where_what_and_what_to_write() {
        let header = json!({"header": "x-tokens"});
        let cost =
            |estimate: u64, max: u64| json!({"estimate": estimate, "max": max, "settle": header});
        let settle = |settle: Value| quota(json!({"estimate": 5, "max": 50, "settle": settle}));
        let says_not = "tiers.free.limits[0].cost.settle: says not where the response tells it, write one of header, trailer, json and bytes, e.g. {json: /usage/total_tokens}";
        for (limits, expected) in [
            (quota(json!(5)), "tiers.free.limits[0].cost: 5 is given, expected a mapping".to_owned()),
            (quota(json!({"max": 50, "settle": header})), "tiers.free.limits[0].cost: missing field \"estimate\"".into()),
            (quota(json!({"estimate": 50, "settle": header})), "tiers.free.limits[0].cost: missing field \"max\"".into()),
            (quota(json!({"estimate": 5, "max": 50})), "tiers.free.limits[0].cost: missing field \"settle\"".into()),
            (quota(cost(0, 50)), "tiers.free.limits[0].cost.estimate: 0 is out of range, write 1 to 1000000000".into()),
            (quota(cost(5, LARGEST + 1)), "tiers.free.limits[0].cost.max: 1000000001 is out of range, write 1 to 1000000000".into()),
            (quota(cost(51, 50)), "tiers.free.limits[0].cost.estimate: 51 is more than max, which is 50; write at most 50".into()),
            (
                quota(cost(1001, 5000)),
                "tiers.free.limits[0].cost.estimate: 1001 is more than the quota of 1000, so no request would ever pass; write at most 1000".into(),
            ),
            (settle(json!({})), says_not.into()),
            (settle(json!({"header": "a", "json": "/a"})), says_not.into()),
            (settle(json!({"header": ":status"})), "tiers.free.limits[0].cost.settle.header: \":status\" is not a header here but a part of the request line, write a header's name".into()),
            (settle(json!({"trailer": "a b"})), "tiers.free.limits[0].cost.settle.trailer: \"a b\" is not a header's name, write for example \"x-user-id\"".into()),
            (
                settle(json!({"json": "usage.total_tokens"})),
                "tiers.free.limits[0].cost.settle.json: \"usage.total_tokens\" is not a JSON pointer: it starts with \"/\", write \"/usage/total_tokens\"".into(),
            ),
            (settle(json!({"bytes": "request"})), "tiers.free.limits[0].cost.settle.bytes: unknown variant \"request\", expected \"response\"".into()),
            (
                settle(json!({"header": "a", "scale": 0})),
                "tiers.free.limits[0].cost.settle.scale: 0 is out of range, write 1 to 1000000000".into(),
            ),
            (
                settle(json!({"bytes": "response", "scale": 10})),
                "tiers.free.limits[0].cost.settle.scale: is for numbers that a response says, and bytes are counted: take it out".into(),
            ),
            (
                settle(json!({"json": "/a", "strip": true})),
                "tiers.free.limits[0].cost.settle.strip: is for a header, and this is settled by something else: take it out".into(),
            ),
            (
                settle(json!({"header": "a", "strip": false})),
                "tiers.free.limits[0].cost.settle.strip: false is what it is without it, write true or leave it out".into(),
            ),
            (
                quota(json!({"estimate": 5, "max": 50, "settle": header, "unsettled": "zero"})),
                "tiers.free.limits[0].cost.unsettled: unknown variant \"zero\", expected \"max\" or \"estimate\"".into(),
            ),
            (
                quota(json!({"estimate": 5, "max": 50, "settle": {"bytes": "response"}, "unsettled": "max"})),
                "tiers.free.limits[0].cost.unsettled: it is always known how many bytes have come, and these count; leave it out".into(),
            ),
            (
                json!([{"name": "tokens", "requests": 1000, "per": "1s", "cost": cost(5, 50)}]),
                "tiers.free.limits[0].cost: only a quota can be settled when the response comes, write quota in place of requests, or leave it out".into(),
            ),
            (
                json!([{"name": "tokens", "concurrent": 10, "cost": cost(5, 50)}]),
                "tiers.free.limits[0].cost: each request in flight is one, whatever it costs; leave it out".into(),
            ),
            (
                (0..9).map(|n| json!({"name": format!("a{n}"), "quota": 1000, "per": "day", "cost": {"estimate": 5, "max": 50, "settle": {"json": format!("/{n}")}}})).collect(),
                "tiers: 9 JSON pointers into one body are too many, write at most 8".into(),
            ),
        ] {
            let config = config(limits);
            assert_eq!(read(&config).map(drop), Err(expected.clone()), "{config}");
            // And nothing that only comes of it.
            let told = check(config.to_string().as_bytes()).map_err(|told| told.to_string());
            assert_eq!(told, Err(expected), "{config}");
        }
    }
}
