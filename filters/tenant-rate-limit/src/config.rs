//! The configuration: as it is written, and as it is once everything in it is known to be right.

#[cfg(feature = "schema")]
mod schema;

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use tollgate_common::config::{optional_whole_number, whole_number};
use tollgate_common::tenant::ID_RULE;
use tollgate_common::{
    ConfigError, Duration, NAME_RULE, TenantId, UniqueMap, header, is_name, mapping, metrics, parse,
};

use crate::answer;
use crate::calendar::Window;
use crate::limit::{Kind, LARGEST_QUOTA, LONGEST_REFILL, Limit, SHORTEST_INTERVAL};
use crate::table;

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to look for a tenant's id, in order.
    pub sources: Vec<Source>,
    /// Who a request without a usable id is from.
    pub missing: TenantId,
    /// All tiers.
    pub tiers: Vec<Tier>,
    /// The tier of each listed tenant, as an index.
    pub tenants: HashMap<TenantId, usize>,
    /// The tier of everyone else, as an index.
    pub unknown: usize,
    /// How many of them are told apart.
    pub individually: u64,
    /// The counter of refused requests, if there is to be one.
    pub refused: Option<String>,
}

/// Where a tenant's id is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a request header (in lower case) that occurs once.
    Header(String),
}

/// A tier and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name.
    pub name: String,
    /// Its limits; all must let a request pass.
    pub limits: Vec<Limit>,
    /// What `RateLimit-Policy` says of them.
    pub policy: String,
}

/// Limits that one tier has at most.
pub const LIMITS_IN_TIER: usize = 16;

/// Limits per tenant.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "TenantRateLimit", title = "tenant-rate-limit")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    /// Where a tenant's id comes from, and what becomes of requests without one.
    tenant: TenantWritten,
    /// What each tier allows, by the tier's name: 1 to 64 of `a-z`, `0-9`, `_`, `-`, not starting with `-`. At least one.
    #[cfg_attr(feature = "schema", schemars(extend("minProperties" = 1, "propertyNames" = tollgate_common::schema::keys::<tollgate_common::schema::Name>())))]
    tiers: UniqueMap<TierWritten>,
    /// Tenants that are known by name, by their id: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`. Nothing that others do takes their state away.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {}, "propertyNames" = tollgate_common::schema::keys::<tollgate_common::schema::Id>())))]
    tenants: UniqueMap<ListedWritten>,
    /// What is counted.
    #[serde(default)]
    metrics: MetricsWritten,
}

/// Who a request is from.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Tenant")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct TenantWritten {
    /// Where a tenant's id is looked for, in order. The first source with a usable id decides.
    #[cfg_attr(feature = "schema", schemars(length(min = 1), extend("uniqueItems" = true)))]
    from: Vec<SourceWritten>,
    /// Who a request without a usable id is from.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {"tenant": "anonymous"})))]
    missing: MissingWritten,
    /// What tenants may do that are not listed in `tenants`.
    unknown: UnknownWritten,
}

/// A place where a tenant's id may be.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Source", transform = schema::source))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct SourceWritten {
    /// The id is the value of this request header; case of the name does not matter.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    header: Option<String>,
}

/// What becomes of a request without a usable id.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Missing")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct MissingWritten {
    /// The tenant of such a request. It may be listed in `tenants`, and is an unknown tenant otherwise.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Id"))]
    tenant: String,
}

impl Default for MissingWritten {
    fn default() -> Self {
        Self {
            tenant: "anonymous".to_owned(),
        }
    }
}

/// What becomes of a tenant that is not listed.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Unknown")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct UnknownWritten {
    /// Their tier, one of `tiers`.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    tier: String,
    /// How many of them are told apart, 0 to 1,000,000. Those beyond share one allowance, that of their tier, together; with 0, all do.
    #[serde(default = "ten_thousand", deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(max = table::LARGEST)))]
    individually: u64,
}

fn ten_thousand() -> u64 {
    10_000
}

/// What a tenant may do.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Tier")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct TierWritten {
    /// Its limits, 1 to 16. All must let a request pass; if one refuses, none is charged.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LIMITS_IN_TIER)))]
    limits: Vec<LimitWritten>,
}

/// A rate (`requests`, `per`, `burst`) or a quota (`quota`, `per`).
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Limit", transform = schema::limit))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct LimitWritten {
    /// Its name in headers, answers and metrics: 1 to 64 of `a-z`, `0-9`, `_`, `-`, not starting with `-`; each once in its tier.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    name: String,
    /// A rate: this many requests `per` duration, evenly; at least 1, at most 1,000,000 a second.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    requests: Option<u64>,
    /// A quota: this many requests in each window, 1 to 1,000,000,000,000.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_QUOTA)))]
    quota: Option<u64>,
    /// With `requests` a duration of 1 µs to 366 days, such as `10s` or `1m30s`; with `quota` the window `minute`, `hour`, `day` or `month`,
    /// which begins at UTC boundaries.
    per: Per,
    /// How many requests may come at once after a pause, at least 1; only with `requests`. [default: as `requests`]
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    burst: Option<u64>,
}

/// A tenant that is known by name.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Listed")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct ListedWritten {
    /// Its tier, one of `tiers`.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    tier: String,
}

/// What is counted.
#[derive(Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Metrics")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct MetricsWritten {
    /// A counter of refused requests with the labels `tenant` (listed tenants and the missing one; the rest is `other`) and `limit`: 1 to
    /// 128 of `a-z`, `A-Z`, `0-9` and `_`, not starting with a digit. [default: none]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    refused: Option<String>,
}

mapping!(
    Written,
    TenantWritten,
    SourceWritten,
    MissingWritten,
    UnknownWritten,
    TierWritten,
    LimitWritten,
    ListedWritten,
    MetricsWritten,
);

/// A duration or the name of a window: which of them is right depends on the limit's kind. A bare number is kept as its text, so
/// that the error can say how to write it.
struct Per(String);

impl<'de> Deserialize<'de> for Per {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Per;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as \"10s\" or a window such as \"day\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Per, E> {
                Ok(Per(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Per, E> {
                Ok(Per(number.to_string()))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl Config {
    /// Reads a configuration (JSON). The error names the field, its value and what to write instead.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let written: Written = parse(json)?;

        if written.tiers.is_empty() {
            return Err(ConfigError::new(
                "tiers",
                "there is none, write at least one tier with its limits",
            ));
        }
        let mut tiers = Vec::new();
        for (name, tier) in written.tiers.iter() {
            let path = format!("tiers.{name}");
            if !is_name(name) {
                return Err(ConfigError::new(
                    path,
                    format!("\"{name}\" cannot be a tier's name, {NAME_RULE}"),
                ));
            }
            let limits = limits(&path, &tier.limits)?;
            tiers.push(Tier {
                name: name.clone(),
                policy: answer::policy(&limits),
                limits,
            });
        }
        let tier = |path: String, name: &str| match tiers.iter().position(|tier| tier.name == name)
        {
            Some(index) => Ok(index),
            None => {
                let names: Vec<&str> = tiers.iter().map(|tier| tier.name.as_str()).collect();
                Err(ConfigError::new(
                    path,
                    format!(
                        "\"{name}\" is not a tier, write one of: {}",
                        names.join(", ")
                    ),
                ))
            }
        };

        let mut tenants = HashMap::new();
        for (id, listed) in written.tenants.iter() {
            let index = tier(format!("tenants.{id}.tier"), &listed.tier)?;
            tenants.insert(tenant(&format!("tenants.{id}"), id)?, index);
        }

        let unknown = tier(
            "tenant.unknown.tier".to_owned(),
            &written.tenant.unknown.tier,
        )?;
        let individually = written.tenant.unknown.individually;
        if individually > table::LARGEST {
            let message = format!(
                "{individually} is too many to tell apart, write at most {}",
                table::LARGEST
            );
            return Err(ConfigError::new("tenant.unknown.individually", message));
        }
        let missing = tenant("tenant.missing.tenant", &written.tenant.missing.tenant)?;
        let sources = sources(&written.tenant.from)?;
        let refused = written
            .metrics
            .refused
            .map(|name| metrics::name(&name, "metrics.refused").map(|()| name))
            .transpose()?;
        Ok(Self {
            sources,
            missing,
            tiers,
            tenants,
            unknown,
            individually,
            refused,
        })
    }
}

fn tenant(path: &str, id: &str) -> Result<TenantId, ConfigError> {
    match TenantId::normalise(id.as_bytes()) {
        Some(tenant) if tenant.as_str() == id => Ok(tenant),
        Some(tenant) => Err(ConfigError::new(
            path,
            format!(
                "no request has the tenant \"{id}\", because ids are trimmed and lowered, write \"{tenant}\""
            ),
        )),
        None => Err(ConfigError::new(
            path,
            format!("\"{id}\" cannot be a tenant's id, {ID_RULE}"),
        )),
    }
}

fn sources(written: &[SourceWritten]) -> Result<Vec<Source>, ConfigError> {
    if written.is_empty() {
        return Err(ConfigError::new(
            "tenant.from",
            "there is no source, write e.g. [{header: x-tenant-id}]",
        ));
    }
    let mut sources = Vec::new();
    for (index, source) in written.iter().enumerate() {
        let path = format!("tenant.from[{index}]");
        let Some(name) = &source.header else {
            return Err(ConfigError::new(
                path,
                "says not where to look, write e.g. {header: x-tenant-id}",
            ));
        };
        let source = Source::Header(header::name(name, &format!("{path}.header"))?);
        if sources.contains(&source) {
            return Err(ConfigError::new(
                format!("{path}.header"),
                format!("\"{name}\" is looked at twice, keep one"),
            ));
        }
        sources.push(source);
    }
    Ok(sources)
}

fn limits(tier: &str, written: &[LimitWritten]) -> Result<Vec<Limit>, ConfigError> {
    let path = format!("{tier}.limits");
    if written.is_empty() {
        return Err(ConfigError::new(
            path,
            "there is none, write at least one limit",
        ));
    }
    if written.len() > LIMITS_IN_TIER {
        return Err(ConfigError::new(
            path,
            format!(
                "{} are too many, write at most {LIMITS_IN_TIER}",
                written.len()
            ),
        ));
    }
    let mut limits = Vec::new();
    let (mut names, mut keys) = (HashSet::new(), HashSet::new());
    for (index, limit) in written.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let at = |field: &str| format!("{path}.{field}");
        let name = limit.name.as_str();
        if !is_name(name) {
            return Err(ConfigError::new(
                at("name"),
                format!("\"{name}\" cannot be a limit's name, {NAME_RULE}"),
            ));
        }
        if !names.insert(name) {
            return Err(ConfigError::new(
                at("name"),
                format!("\"{name}\" names another limit of this tier, write another name"),
            ));
        }
        let limit = Limit::new(name, kind(&path, limit)?);
        if !keys.insert(limit.key()) {
            let message = format!(
                "\"{name}\" happens to have the hash of another limit of this tier, write another name"
            );
            return Err(ConfigError::new(at("name"), message));
        }
        limits.push(limit);
    }
    Ok(limits)
}

fn kind(path: &str, limit: &LimitWritten) -> Result<Kind, ConfigError> {
    let at =
        |field: &str, message: String| Err(ConfigError::new(format!("{path}.{field}"), message));
    let per = limit.per.0.as_str();
    let window = Window::ALL.into_iter().find(|window| window.name() == per);
    match (limit.requests, limit.quota) {
        (Some(requests), None) => {
            let length = match Duration::parse(per) {
                Ok(length) => length.nanoseconds(),
                Err(_) if window.is_some() => {
                    let length = if window == Some(Window::Month) {
                        "30d".to_owned()
                    } else {
                        format!("1{}", per.get(..1).unwrap_or_default())
                    };
                    return at(
                        "per",
                        format!(
                            "\"{per}\" is a window, which a quota has; requests are per duration, write \"{length}\""
                        ),
                    );
                }
                Err(message) => return at("per", message),
            };
            if requests == 0 {
                return at(
                    "requests",
                    "0 lets nobody pass, write at least 1".to_owned(),
                );
            }
            let most = length / SHORTEST_INTERVAL;
            if most == 0 {
                return at(
                    "per",
                    format!("\"{per}\" is too short to count in, write at least \"1us\""),
                );
            }
            if requests > most {
                return at(
                    "requests",
                    format!(
                        "{requests} per {per} is more than 1000000 a second, write at most {most}"
                    ),
                );
            }
            // Rounded up, so that a rate is never exceeded.
            let interval = length.div_ceil(requests);
            let burst = limit.burst.unwrap_or(requests);
            if burst == 0 {
                return at("burst", "0 lets nobody pass, write at least 1".to_owned());
            }
            let most = LONGEST_REFILL / interval;
            if burst > most {
                return at(
                    "burst",
                    format!(
                        "{burst} at {requests} per {per} takes longer than 366 days to come back, write at most {most}"
                    ),
                );
            }
            Ok(Kind::Rate { interval, burst })
        }
        (None, Some(quota)) => {
            let Some(window) = window else {
                return at(
                    "per",
                    format!(
                        "\"{per}\" is not a window of a quota, write one of: minute, hour, day, month"
                    ),
                );
            };
            if limit.burst.is_some() {
                return at(
                    "burst",
                    "a quota has no burst, leave it out, or write requests in place of quota"
                        .to_owned(),
                );
            }
            if !(1..=LARGEST_QUOTA).contains(&quota) {
                return at(
                    "quota",
                    format!("{quota} is out of range, write 1 to {LARGEST_QUOTA}"),
                );
            }
            Ok(Kind::Quota { quota, window })
        }
        _ => Err(ConfigError::new(
            path,
            "write either requests (a rate, per duration) or quota (a number per window)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn demo() -> Value {
        json!({
            "tenant": {
                "from": [{"header": "x-tenant-id"}],
                "missing": {"tenant": "anonymous"},
                "unknown": {"tier": "free", "individually": 10000},
            },
            "tiers": {
                "premium": {"limits": [{"name": "rate", "requests": 100, "per": "1s", "burst": 200}]},
                "standard": {"limits": [{"name": "rate", "requests": 20, "per": "1s", "burst": 40}]},
                "free": {"limits": [
                    {"name": "rate", "requests": 5, "per": "1s", "burst": 10},
                    {"name": "daily", "quota": 1000, "per": "day"},
                ]},
            },
            "tenants": {"acme": {"tier": "premium"}, "globex": {"tier": "standard"}, "initech": {"tier": "free"}},
            "metrics": {"refused": "shop_refused_total"},
        })
    }

    fn read(value: &Value) -> Result<Config, String> {
        Config::parse(value.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_demo_is_read() {
        let config = read(&demo()).unwrap();
        let tier = |name: &str| {
            config
                .tiers
                .iter()
                .position(|tier| tier.name == name)
                .unwrap()
        };
        assert_eq!(config.unknown, tier("free"));
        assert_eq!(
            config.tenants[&TenantId::normalise(b"acme").unwrap()],
            tier("premium")
        );
        let free = &config.tiers[tier("free")];
        assert_eq!(
            free.limits[0].kind,
            Kind::Rate {
                interval: 200_000_000,
                burst: 10
            }
        );
        assert_eq!(
            free.limits[1].kind,
            Kind::Quota {
                quota: 1000,
                window: Window::Day
            }
        );
        assert_eq!(free.policy, r#""rate";q=10;w=2, "daily";q=1000;w=86400"#);
        assert_eq!(config.refused.as_deref(), Some("shop_refused_total"));
    }

    #[test]
    fn what_can_be_left_out_has_a_default() {
        let config = read(&json!({
            "tenant": {"from": [{"header": "X-Customer"}], "unknown": {"tier": "all"}},
            "tiers": {"all": {"limits": [{"name": "rate", "requests": 3, "per": "1s"}]}},
        }))
        .unwrap();
        assert_eq!(config.sources, [Source::Header("x-customer".to_owned())]);
        assert_eq!(config.missing.as_str(), "anonymous");
        assert_eq!(config.individually, 10_000);
        assert_eq!(
            config.tiers[0].limits[0].kind,
            Kind::Rate {
                interval: 333_333_334,
                burst: 3
            }
        );
        assert_eq!(config.refused, None);
        assert_eq!(config.tiers[0].policy, r#""rate";q=3;w=1"#);
    }

    #[test]
    fn mistakes_say_where_what_and_what_to_write() {
        let name_rule = "write 1 to 64 of a-z, 0-9, _ and -, not starting with -";
        let limit = |limit: Value| ("/tiers/free/limits", json!([limit]));
        for ((at, value), expected) in [
            (("", json!({})), "missing field \"tenant\"".to_owned()),
            (("/tenant/form", json!([])), "tenant.form: unknown field \"form\", expected one of \"from\", \"missing\", \"unknown\"".into()),
            (("/tenant/from", json!([])), "tenant.from: there is no source, write e.g. [{header: x-tenant-id}]".into()),
            (("/tenant/from", json!([{}])), "tenant.from[0]: says not where to look, write e.g. {header: x-tenant-id}".into()),
            (("/tenant/from", json!([{"cookie": "a"}])), "tenant.from[0].cookie: unknown field \"cookie\", expected \"header\"".into()),
            (("/tenant/from", json!([{"header": "x tenant"}])), "tenant.from[0].header: \"x tenant\" is not a header's name, write for example \"x-user-id\"".into()),
            (
                ("/tenant/from", json!([{"header": "Host"}])),
                "tenant.from[0].header: \"Host\" is not a header here but a part of the request line, write a header's name".into(),
            ),
            (("/tenant/from", json!([{"header": "a"}, {"header": "A"}])), "tenant.from[1].header: \"A\" is looked at twice, keep one".into()),
            (("/tenant/missing/tenant", json!("no body")), "tenant.missing.tenant: \"no body\" cannot be a tenant's id, write 1 to 64 of a-z, 0-9, ., _ and -".into()),
            (("/tenant/unknown/tier", json!("fre")), "tenant.unknown.tier: \"fre\" is not a tier, write one of: free, premium, standard".into()),
            (("/tenant/unknown/individually", json!(2_000_000)), "tenant.unknown.individually: 2000000 is too many to tell apart, write at most 1000000".into()),
            (("/tenants/acme/tier", json!("gold")), "tenants.acme.tier: \"gold\" is not a tier, write one of: free, premium, standard".into()),
            (("/tenants/Acme", json!({"tier": "free"})), "tenants.Acme: no request has the tenant \"Acme\", because ids are trimmed and lowered, write \"acme\"".into()),
            (("/tenants/a,b", json!({"tier": "free"})), "tenants.a,b: \"a,b\" cannot be a tenant's id, write 1 to 64 of a-z, 0-9, ., _ and -".into()),
            (("/tenants/acme", json!("free")), "tenants.acme: \"free\" is given, expected a mapping".into()),
            (("/tiers", json!({})), "tiers: there is none, write at least one tier with its limits".into()),
            (("/tiers/Gold", json!({"limits": []})), format!("tiers.Gold: \"Gold\" cannot be a tier's name, {name_rule}")),
            (("/tiers/free/limits", json!([])), "tiers.free.limits: there is none, write at least one limit".into()),
            (("/tiers/free/limits", Value::Array(vec![json!({"name": "a", "quota": 1, "per": "day"}); 17])), "tiers.free.limits: 17 are too many, write at most 16".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "10"})), "tiers.free.limits[0].per: \"10\" is not a duration, write \"10s\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": 10})), "tiers.free.limits[0].per: \"10\" is not a duration, write \"10s\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": []})), "tiers.free.limits[0].per: a list is given, expected a duration such as \"10s\" or a window such as \"day\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "day"})), "tiers.free.limits[0].per: \"day\" is a window, which a quota has; requests are per duration, write \"1d\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "month"})), "tiers.free.limits[0].per: \"month\" is a window, which a quota has; requests are per duration, write \"30d\"".into()),
            (limit(json!({"name": "a", "requests": 1})), "tiers.free.limits[0]: missing field \"per\"".into()),
            (limit(json!({"name": "a", "requests": 0, "per": "1s"})), "tiers.free.limits[0].requests: 0 lets nobody pass, write at least 1".into()),
            (limit(json!({"name": "a", "requests": 2_000_001, "per": "2s"})), "tiers.free.limits[0].requests: 2000001 per 2s is more than 1000000 a second, write at most 2000000".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "999ns"})), "tiers.free.limits[0].per: \"999ns\" is too short to count in, write at least \"1us\"".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "1s", "burst": 0})), "tiers.free.limits[0].burst: 0 lets nobody pass, write at least 1".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "1d", "burst": 400})), "tiers.free.limits[0].burst: 400 at 1 per 1d takes longer than 366 days to come back, write at most 366".into()),
            (limit(json!({"name": "a", "requests": 1, "per": "1s", "burst": -5})), "tiers.free.limits[0].burst: -5 is given, expected a whole number, e.g. 100".into()),
            (limit(json!({"name": "a", "quota": 1, "per": "10s"})), "tiers.free.limits[0].per: \"10s\" is not a window of a quota, write one of: minute, hour, day, month".into()),
            (limit(json!({"name": "a", "quota": 1, "per": "day", "burst": 2})), "tiers.free.limits[0].burst: a quota has no burst, leave it out, or write requests in place of quota".into()),
            (limit(json!({"name": "a", "quota": 0, "per": "day"})), "tiers.free.limits[0].quota: 0 is out of range, write 1 to 1000000000000".into()),
            (limit(json!({"name": "a", "quota": 1, "requests": 1, "per": "day"})), "tiers.free.limits[0]: write either requests (a rate, per duration) or quota (a number per window)".into()),
            (limit(json!({"name": "a", "per": "day"})), "tiers.free.limits[0]: write either requests (a rate, per duration) or quota (a number per window)".into()),
            (limit(json!({"name": "A b", "quota": 1, "per": "day"})), format!("tiers.free.limits[0].name: \"A b\" cannot be a limit's name, {name_rule}")),
            (limit(json!(["a", 1, null, "1s", null])), "tiers.free.limits[0]: a list is given, expected a mapping".into()),
            (
                ("/tiers/free/limits", json!([{"name": "a", "quota": 1, "per": "day"}, {"name": "a", "requests": 1, "per": "1s"}])),
                "tiers.free.limits[1].name: \"a\" names another limit of this tier, write another name".into(),
            ),
            (
                ("/metrics/refused", json!("refused_rq_429")),
                "metrics.refused: \"refused_rq_429\" ends as Envoy's own counters by status do, choose another ending".into(),
            ),
            (("/metrics/refused", json!("shop refused")), "metrics.refused: \"shop refused\" is not a metric's name, write 1 to 128 of a-z, A-Z, 0-9 and _, not starting with a digit".into()),
        ] {
            let mut config = demo();
            match at.rsplit_once('/') {
                None => config = value.clone(),
                Some((parent, key)) => config.pointer_mut(parent).unwrap()[key] = value.clone(),
            }
            assert_eq!(read(&config), Err(expected), "{at} = {value}");
        }
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let text = demo().to_string().replacen("\"globex\"", "\"acme\"", 1);
        assert_eq!(
            Config::parse(text.as_bytes()).unwrap_err().to_string(),
            "tenants: \"acme\" is given twice, keep one"
        );
    }

    #[test]
    fn five_thousand_tenants_are_read() {
        let mut config = demo();
        for n in 0..5_000 {
            config["tenants"][format!("tenant-{n}")] = json!({"tier": "standard"});
        }
        assert_eq!(read(&config).unwrap().tenants.len(), 5_003);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            Just("tenant"),
            Just("from"),
            Just("header"),
            Just("missing"),
            Just("unknown"),
            Just("tier"),
            Just("individually"),
            Just("tiers"),
            Just("limits"),
            Just("name"),
            Just("requests"),
            Just("per"),
            Just("burst"),
            Just("quota"),
            Just("tenants"),
            Just("metrics"),
            Just("refused"),
            Just("é"),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop_oneof![
                Just("day"),
                Just("1s"),
                Just("free"),
                Just("18446744073709551615d")
            ]
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| entries
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Config::parse(&bytes);
        }

        #[test]
        fn no_json_makes_it_panic(value in any_json(), at in 0_usize..12) {
            let _ = read(&value);
            let places = ["/tenant", "/tenant/from", "/tenant/from/0", "/tenant/unknown", "/tenant/missing", "/tiers", "/tiers/free", "/tiers/free/limits",
                "/tiers/free/limits/0", "/tiers/free/limits/0/per", "/tenants", "/metrics"];
            let mut config = demo();
            *config.pointer_mut(places[at]).unwrap() = value;
            let _ = read(&config);
        }

        #[test]
        fn accepted_numbers_never_overflow(
            requests in prop_oneof![any::<u64>(), 1_u64..10_000_000],
            burst in prop_oneof![any::<u64>(), 1_u64..10_000_000],
            quota in prop_oneof![any::<u64>(), 1_u64..10_000_000],
            seconds in 1_u64..40_000_000,
        ) {
            let mut config = demo();
            config["tiers"]["free"]["limits"] = json!([
                {"name": "a", "requests": requests, "per": format!("{seconds}s"), "burst": burst},
                {"name": "b", "quota": quota, "per": "month"},
            ]);
            if let Ok(config) = read(&config) {
                for limit in config.tiers.iter().flat_map(|tier| &tier.limits) {
                    match limit.kind {
                        Kind::Rate { interval, burst } => prop_assert!(interval >= SHORTEST_INTERVAL && interval.checked_mul(burst).unwrap() <= LONGEST_REFILL),
                        Kind::Quota { quota, .. } => prop_assert!((1..=LARGEST_QUOTA).contains(&quota)),
                    }
                }
            }
        }
    }
}
