//! The configuration as it is written: what serde reads, before anything in it is known to be right.

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use tollgate_common::config::{optional_whole_number, whole_number};
use tollgate_common::{OneOrMany, StringMatch, UniqueMap, mapping};

use super::settle::SettledCostWritten;
#[cfg(feature = "schema")]
use {
    super::identity::{LONGEST_CHALLENGE, LONGEST_NAME, MAX_SOURCES},
    super::limits::{LARGEST_OUT_OF, LIMITS_IN_ROUTES, LIMITS_IN_TIER},
    super::routes::{LARGEST_COST, MAX_HEADERS, MAX_ROUTES},
    super::schema,
    super::total::LARGEST_WEIGHT,
    crate::in_flight,
    crate::limit::LARGEST_QUOTA,
    crate::table,
    tollgate_common::{Duration, TenantId},
};

/// Limits per tenant.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "TenantRateLimit", title = "tenant-rate-limit")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Written {
    /// Where a tenant's id comes from, and what becomes of requests without one.
    pub(super) tenant: TenantWritten,
    /// What each tier allows, by the tier's name: 1 to 64 of `a-z`, `0-9`, `_`, `-`, not starting with `-`, and neither `other` nor `none`. At
    /// least one.
    #[cfg_attr(feature = "schema", schemars(extend("minProperties" = 1, "propertyNames" = tollgate_common::schema::keys::<tollgate_common::schema::Name>())))]
    pub(super) tiers: UniqueMap<TierWritten>,
    /// Tenants that are known by name, by their id: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`, and neither `other` nor `none`. Nothing that others
    /// do takes their state away.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {}, "propertyNames" = tollgate_common::schema::keys::<tollgate_common::schema::Id>())))]
    pub(super) tenants: UniqueMap<ListedWritten>,
    /// What the whole proxy lets pass, beside the limits of tenants. They share it by weight.
    pub(super) total: Option<TotalWritten>,
    /// Requests that are exempt, cost more or have limits of their own, at most 256. The first that matches decides.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_ROUTES), extend("default" = [])))]
    pub(super) routes: Vec<RouteWritten>,
    /// What clients are told.
    #[serde(default)]
    pub(super) answer: AnswerWritten,
    /// What is counted.
    #[serde(default)]
    pub(super) metrics: MetricsWritten,
}

/// Who a request is from.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Tenant")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TenantWritten {
    /// Where a tenant's id is looked for, in order, 1 to 16 places. The first place in which there is anything decides, also if
    /// that is no usable id.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_SOURCES), extend("uniqueItems" = true)))]
    pub(super) from: Vec<SourceWritten>,
    /// What a usable id is.
    #[serde(default)]
    pub(super) id: IdWritten,
    /// What becomes of a request without a usable id.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {"tenant": "anonymous"})))]
    pub(super) missing: MissingWritten,
    /// What becomes of a tenant that is not listed in `tenants`.
    pub(super) unknown: UnknownWritten,
}

/// A place where a tenant's id may be: exactly one of these.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Source", transform = schema::source))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SourceWritten {
    /// A claim of the token that the proxy has verified: its name, or a list of the names of the objects around it, outermost first, and its own (at most 8). The
    /// id is its value, if that is a string.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::ClaimPath>")
    )]
    pub(super) claim: OneOrMany<String>,
    /// Beside `claim`: whose tokens alone are asked for it, their claim `iss`. Without it those of each issuer that the proxy knows, and any of them may name any tenant.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) issuer: Option<String>,
    /// A template for the SPIFFE id of the peer, by mutual TLS: `spiffe://cluster.local/ns/{tenant}/sa/*`. `{tenant}` is one part of it or a part of
    /// one, `*` any one part of its path, `**` at the end any number of them.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^spiffe://[^*/].*$")))]
    pub(super) peer: Option<String>,
    /// `x-tenant-id` as peers pass it on whose word counts: at a sidecar, what the limiter of the gateway found.
    pub(super) passed_on: Option<PassedOnWritten>,
    /// The value of this request header. Case of the name does not matter.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub(super) header: Option<String>,
    /// A template for the host (`:authority` without its port): `{tenant}.shop.example.com`. `{tenant}` is one label or a part of one.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"\{tenant\}")))]
    pub(super) host: Option<String>,
    /// A template for the path: `/t/{tenant}/**`. `{tenant}` is one segment, `*` any one segment, `**` at the end any number of them.
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = r"^/(.*/)?\{tenant\}(/|$)"))
    )]
    pub(super) path: Option<String>,
    /// The value of this query parameter, decoded.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LONGEST_NAME)))]
    pub(super) query: Option<String>,
    /// The value of this cookie.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LONGEST_NAME)))]
    pub(super) cookie: Option<String>,
    /// `true`, beside `header`, `host`, `path`, `query` or `cookie`: something in front of the proxy lets no client name a tenant that is not its own. Other filters
    /// may rest on the tenant then.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub(super) vouched: Option<bool>,
}

/// What peers pass on.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "PassedOn")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PassedOnWritten {
    /// Their SPIFFE identities (`spiffe://…`), 1 to 256 conditions on them: the gateway, and the services that pass on what it said.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = tollgate_common::MAX_PEERS)))]
    pub(super) peers: Vec<StringMatch>,
}

/// What a usable id is, after the spaces around it are cut off.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "TenantIds")
)]
#[serde(
    remote = "Self",
    deny_unknown_fields,
    rename_all = "camelCase",
    default
)]
pub(super) struct IdWritten {
    /// Upper case is lowered, or makes an id unusable.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "lower")))]
    pub(super) case: CaseWritten,
    /// How many characters it may have, 1 to 64.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = TenantId::LONGEST)))]
    pub(super) longest: u64,
    /// The characters that it may have, and ranges of them, out of `a-z0-9._-`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z0-9._-]+$")))]
    pub(super) characters: String,
}

impl Default for IdWritten {
    fn default() -> Self {
        Self {
            case: CaseWritten::Lower,
            longest: 64,
            characters: "a-z0-9._-".to_owned(),
        }
    }
}

/// What becomes of upper case in an id.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Case")
)]
#[serde(rename_all = "camelCase")]
pub(super) enum CaseWritten {
    /// It is lowered.
    Lower,
    /// It makes the id unusable.
    Refuse,
}

/// What becomes of a request without a usable id: it is from a named tenant, or it is refused.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Missing", transform = schema::missing))]
#[serde(
    remote = "Self",
    deny_unknown_fields,
    rename_all = "camelCase",
    default
)]
pub(super) struct MissingWritten {
    /// The tenant of such a request. It may be listed in `tenants`, and is an unknown tenant otherwise. [default: `anonymous`]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::Id>")
    )]
    pub(super) tenant: Option<String>,
    /// The status of the refusal, 400 or 401.
    #[serde(deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 400, max = 401)))]
    pub(super) refuse: Option<u64>,
    /// With `refuse: 401`, the value of `WWW-Authenticate`: what a client needs to present. [default: `Bearer`]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LONGEST_CHALLENGE)))]
    pub(super) challenge: Option<String>,
}

/// What becomes of a tenant that is not listed.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Unknown")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct UnknownWritten {
    /// Their tier, one of `tiers`.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    pub(super) tier: String,
    /// How many of them are told apart, 0 to 736,448 with one limit (453,040 where two limits may apply, 256,016 with four). Those beyond share one allowance, that of their tier, together; with 0, all do.
    #[serde(default = "ten_thousand", deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(max = table::LARGEST)))]
    pub(super) individually: u64,
}

fn ten_thousand() -> u64 {
    10_000
}

/// What a tenant may do: exactly one of these.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Tier", transform = schema::tier))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TierWritten {
    /// Its limits, 1 to 16. All must let a request pass; if one refuses, none is charged.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LIMITS_IN_TIER)))]
    pub(super) limits: Option<Vec<LimitWritten>>,
    /// `true`: nothing is limited, also not by routes, but by the total.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub(super) unlimited: Option<bool>,
    /// `true`: every request is refused with 403.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub(super) blocked: Option<bool>,
    /// The weight in the total of each of its tenants that are listed, and of all together that are not, 1 to 1,000. Only with `total`. [default: 1]
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_WEIGHT)))]
    pub(super) weight: Option<u64>,
}

/// What the whole proxy lets pass.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Total")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TotalWritten {
    /// This many requests `per` duration, evenly; at least 1, at most 1,000,000 a second.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) requests: u64,
    /// A duration of 1 µs to 366 days, such as `1s`.
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub(super) per: Per,
    /// How many requests may come at once after a pause: at least 10, and what comes back in 250 ms. [default: as `requests`, or the least]
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 10)))]
    pub(super) burst: Option<u64>,
    /// Whether it refuses what is too much, or only counts what it would have refused.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "enforce")))]
    pub(super) mode: ModeWritten,
    /// A share of all tenants for whom it refuses all the same; only with `mode: shadow`.
    pub(super) enforced_for: Option<ShareWritten>,
}

/// A rate (`requests`, `per`, `burst`), a quota (`quota`, `per`) or a number of requests in flight (`concurrent`).
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Limit", transform = schema::limit))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LimitWritten {
    /// Its name in headers, answers and metrics: 1 to 64 of `a-z`, `0-9`, `_`, `-`, not starting with `-`, and not `none`; each once in its
    /// tier and in all routes.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    pub(super) name: String,
    /// A rate: this many requests `per` duration, evenly; at least 1, at most 1,000,000 a second.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) requests: Option<u64>,
    /// A quota: this many requests in each window, 1 to 1,000,000,000,000.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_QUOTA)))]
    pub(super) quota: Option<u64>,
    /// This many requests in flight at the same time, 1 to 1,000,000, each of them one whatever it costs.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = in_flight::LARGEST)))]
    pub(super) concurrent: Option<u64>,
    /// With `requests` a duration of 1 µs to 366 days, such as `10s` or `1m30s`; with `quota` the window `minute`, `hour`, `day` or `month`,
    /// which begins at UTC boundaries.
    pub(super) per: Option<Per>,
    /// How many requests may come at once after a pause, at least 1; only with `requests`. [default: as `requests`]
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) burst: Option<u64>,
    /// What a request counts for in it, if only the response tells that; only with `quota`.
    pub(super) cost: Option<SettledCostWritten>,
    /// Whether it refuses what is too much, or only counts what it would have refused.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "enforce")))]
    pub(super) mode: ModeWritten,
    /// A share of all tenants for whom it refuses all the same; only with `mode: shadow`.
    pub(super) enforced_for: Option<ShareWritten>,
}

/// Whether a limit refuses.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Mode")
)]
#[serde(rename_all = "camelCase")]
pub(super) enum ModeWritten {
    /// It does.
    #[default]
    Enforce,
    /// It counts, and refuses nobody.
    Shadow,
}

/// A share of all tenants. A tenant is in or out whichever proxy looks, and one that is in stays in when the share grows.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Share")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ShareWritten {
    /// How many of every `outOf` tenants are in.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(max = LARGEST_OUT_OF)))]
    pub(super) share: u64,
    /// Out of how many, 1 to 1,000,000: `share: 1, outOf: 1000` is one in a thousand.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_OUT_OF), extend("default" = 100)))]
    pub(super) out_of: Option<u64>,
    /// What is hashed with each tenant's id, 1 to 64 bytes: limits with the same salt choose the same tenants. [default: the limit's name]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub(super) salt: Option<String>,
}

/// A tenant that is known by name.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Listed", transform = schema::listed))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ListedWritten {
    /// Its tier, one of `tiers`.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    pub(super) tier: String,
    /// Limits that take the place of those of the same name in its tier, 1 to 16.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LIMITS_IN_TIER)))]
    pub(super) limits: Option<Vec<LimitWritten>>,
    /// `true`: nothing is limited, whatever its tier is, but by the total.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub(super) unlimited: Option<bool>,
    /// `true`: every request is refused with 403, whatever its tier is.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub(super) blocked: Option<bool>,
    /// Its weight in the total, 1 to 1,000. Only with `total`. [default: its tier's]
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_WEIGHT)))]
    pub(super) weight: Option<u64>,
}

/// What some requests are charged: `exempt`, or any of `cost`, `limits` and `without`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Route", transform = schema::route))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RouteWritten {
    /// Which requests. Everything given here must hold; `{}` is every request.
    #[serde(rename = "match")]
    pub(super) when: MatchWritten,
    /// `true`: they are charged nothing, and need no tenant.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub(super) exempt: Option<bool>,
    /// What one of them counts for in every limit, 1 to 1,000,000: a number, or where it is found. [default: 1]
    pub(super) cost: Option<CostWritten>,
    /// Limits beside those of the tenant, each tenant by itself; at most 16 in all routes.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = LIMITS_IN_ROUTES), extend("default" = [])))]
    pub(super) limits: Vec<LimitWritten>,
    /// The names of limits of tiers that they do not meet, at most 16.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<tollgate_common::schema::Name>", length(max = LIMITS_IN_TIER), extend("default" = [], "uniqueItems" = true)))]
    pub(super) without: Vec<String>,
}

/// Conditions on a request.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Match")
)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MatchWritten {
    /// On the method.
    pub(super) method: Option<StringMatch>,
    /// On the path, without its query.
    pub(super) path: Option<StringMatch>,
    /// On the host, in lower case and without its port.
    pub(super) host: Option<StringMatch>,
    /// On headers, by their name, at most 16. Of a header that is there more than once no condition holds.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {}, "maxProperties" = MAX_HEADERS, "propertyNames" = tollgate_common::schema::keys::<tollgate_common::schema::HeaderName>())))]
    pub(super) headers: UniqueMap<StringMatch>,
}

/// A cost, or where it is found.
pub(super) enum CostWritten {
    /// Always this.
    Fixed(u64),
    /// What the request says.
    Found(CostFromWritten),
}

/// A cost that a request names: exactly one of `header` and `query`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "FoundCost", transform = schema::found_cost))]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CostFromWritten {
    /// The value of this request header.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub(super) header: Option<String>,
    /// The value of this query parameter.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LONGEST_NAME)))]
    pub(super) query: Option<String>,
    /// The least that such a request costs, at least 1, whatever it says.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_COST)))]
    pub(super) min: u64,
    /// The most that it costs, at most 1,000,000: what it says beyond that, and what is no number or there twice.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_COST)))]
    pub(super) max: u64,
    /// What it costs if it says nothing, `min` to `max`.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LARGEST_COST)))]
    pub(super) default: u64,
}

/// What clients are told.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Answer")
)]
#[serde(
    remote = "Self",
    deny_unknown_fields,
    rename_all = "camelCase",
    default
)]
pub(super) struct AnswerWritten {
    /// The status of a request that a limit refused, 400 to 599.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 400, max = 599)))]
    pub(super) status: u64,
    /// When to come back.
    pub(super) retry_after: RetryAfterWritten,
    /// Which headers tell how a tenant stands.
    pub(super) headers: HeadersWritten,
}

impl Default for AnswerWritten {
    fn default() -> Self {
        Self {
            status: 429,
            retry_after: RetryAfterWritten::default(),
            headers: HeadersWritten::default(),
        }
    }
}

/// When to come back.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "RetryAfter")
)]
#[serde(
    remote = "Self",
    deny_unknown_fields,
    rename_all = "camelCase",
    default
)]
pub(super) struct RetryAfterWritten {
    /// By how many percent of the time that it takes `Retry-After` is later at most, 0 to 100: by chance, so that clients do not come back all
    /// at once. It is never earlier.
    #[serde(deserialize_with = "whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(max = 100)))]
    pub(super) jitter: u64,
}

impl Default for RetryAfterWritten {
    fn default() -> Self {
        Self { jitter: 10 }
    }
}

/// Which headers tell how a tenant stands, in responses and in refusals.
#[derive(Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Headers")
)]
#[serde(
    remote = "Self",
    deny_unknown_fields,
    rename_all = "camelCase",
    default
)]
pub(super) struct HeadersWritten {
    /// `RateLimit-Policy` and `RateLimit`.
    pub(super) rate_limit: bool,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, of the limit of which least remains.
    pub(super) x_rate_limit: bool,
}

impl Default for HeadersWritten {
    fn default() -> Self {
        Self {
            rate_limit: true,
            x_rate_limit: false,
        }
    }
}

/// What is counted, by the names of the metrics: 1 to 128 of `a-z`, `A-Z`, `0-9` and `_`, not starting with a digit. What has no name is not
/// counted.
#[derive(Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Metrics")
)]
#[serde(
    remote = "Self",
    deny_unknown_fields,
    rename_all = "camelCase",
    default
)]
pub(super) struct MetricsWritten {
    /// A counter of requests that pass, with the labels `tenant` (listed tenants and the missing one; the rest is `other`) and `tier`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    pub(super) admitted: Option<String>,
    /// A counter of requests that are refused, with the labels `tenant`, `tier`, `limit` (`none` if it was not a limit that refused) and
    /// `reason`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    pub(super) refused: Option<String>,
    /// A counter of requests that pass and that a limit in shadow would have refused, one for each such limit, with the same labels.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    pub(super) shadowed: Option<String>,
    /// A gauge of tenants that have a record: some limit of theirs is not at rest, or was not when last looked at.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    pub(super) tracked: Option<String>,
    /// A counter of such records that were given up because all their limits were at rest.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    pub(super) evictions: Option<String>,
    /// A counter of charges that had to be tried again because another worker was faster.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    pub(super) contention: Option<String>,
    /// A counter of requests that were not settled by what their responses say, one for each such limit, with the labels `tenant`, `tier`, `limit` and `reason`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    pub(super) unsettled: Option<String>,
    /// A counter of units that requests counted for in limits that are settled by responses, once they were, with the labels `tenant`, `tier` and `limit`.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::MetricName>")
    )]
    pub(super) settled: Option<String>,
}

mapping!(
    Written,
    TenantWritten,
    SourceWritten,
    PassedOnWritten,
    IdWritten,
    MissingWritten,
    UnknownWritten,
    TierWritten,
    TotalWritten,
    LimitWritten,
    ShareWritten,
    ListedWritten,
    RouteWritten,
    MatchWritten,
    CostFromWritten,
    AnswerWritten,
    RetryAfterWritten,
    HeadersWritten,
    MetricsWritten,
);

/// A duration or the name of a window: which of them is right depends on the limit's kind. A bare number is kept as its text, so
/// that the error can say how to write it.
pub(super) struct Per(pub(super) String);

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

impl<'de> Deserialize<'de> for CostWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Cost;

        impl<'de> Visitor<'de> for Cost {
            type Value = CostWritten;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number, or a mapping such as {query: size, min: 1, max: 100, default: 10}")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<CostWritten, E> {
                Ok(CostWritten::Fixed(number))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CostWritten, A::Error> {
                CostFromWritten::deserialize(MapAccessDeserializer::new(map))
                    .map(CostWritten::Found)
            }
        }

        deserializer.deserialize_any(Cost)
    }
}
