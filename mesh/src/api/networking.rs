//! `networking.istio.io`: Gateway, VirtualService, DestinationRule.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::{Count, Duration, Period, Regex};

/// The ports that a gateway opens, and for which hosts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// The labels of the gateway's pods.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// What it opens.
    pub servers: Vec<Server>,
}

/// One port of a gateway.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// The port.
    pub port: Port,
    /// For which hosts: `*`, `shop.example.com`, `*.example.com`, each perhaps with a namespace before it: `ecommerce/*`.
    pub hosts: Vec<String>,
    /// A name for it. No effect on routing.
    #[serde(default)]
    pub name: Option<String>,
}

/// The port of a server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Its protocol.
    pub protocol: ServerProtocol,
    /// Its name.
    pub name: String,
}

/// What a gateway's port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ServerProtocol {
    /// HTTP/1.1, or HTTP/2 if the client begins with it.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2; as in Istio the same as HTTP.
    #[serde(rename = "HTTP2")]
    Http2,
}

/// Where requests for a host go.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualService {
    /// The hosts it is about: a Service by short or full name, or a host of a gateway, or `*`.
    pub hosts: Vec<String>,
    /// The gateways it applies to (`name` or `namespace/name`); `mesh` are all sidecars, and the default.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Its routes; the first whose match holds is taken.
    #[serde(default)]
    pub http: Vec<HttpRoute>,
}

/// One route of a VirtualService.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "HTTPRoute", rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    /// Its name, seen in access logs.
    #[serde(default)]
    pub name: Option<String>,
    /// `match`: one of them must hold; without any, all requests match.
    #[serde(default, rename = "match")]
    pub matches: Vec<HttpMatchRequest>,
    /// Where the request goes, by weight.
    #[serde(default)]
    pub route: Vec<HttpRouteDestination>,
    /// How long the whole answer may take, all tries together; without it there is no limit.
    #[serde(default)]
    pub timeout: Option<Period>,
    /// What is tried again; without it what Istio tries again by itself.
    #[serde(default)]
    pub retries: Option<HttpRetry>,
    /// What becomes of the path and the authority.
    #[serde(default)]
    pub rewrite: Option<HttpRewrite>,
    /// What goes wrong on purpose.
    #[serde(default)]
    pub fault: Option<HttpFaultInjection>,
    /// What becomes of other headers.
    #[serde(default)]
    pub headers: Option<Headers>,
}

/// Which requests are tried again, and how often.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "HttpRetryFields")]
pub struct HttpRetry {
    /// How often at most, beside the first try; 0 for never.
    pub attempts: u32,
    /// How long each try may take; as long as the whole answer if unset.
    pub per_try_timeout: Option<Period>,
    /// What is tried again, other than what Istio tries again by itself.
    pub retry_on: Option<RetryOn>,
    /// How long to wait before the second retry, more before each further one; 25 ms if unset.
    pub backoff: Option<Period>,
    /// Whether pods that failed already are passed over, which they are if unset.
    pub retry_ignore_previous_hosts: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename = "HTTPRetry", rename_all = "camelCase", deny_unknown_fields)]
struct HttpRetryFields {
    #[serde(default)]
    attempts: Option<Count>,
    #[serde(default)]
    per_try_timeout: Option<Period>,
    #[serde(default)]
    retry_on: Option<RetryOn>,
    #[serde(default)]
    backoff: Option<Period>,
    #[serde(default)]
    retry_ignore_previous_hosts: Option<bool>,
}

impl TryFrom<HttpRetryFields> for HttpRetry {
    type Error = String;

    fn try_from(fields: HttpRetryFields) -> Result<Self, String> {
        let attempts = fields.attempts.map_or(0, |attempts| attempts.0);
        let others = [
            ("perTryTimeout", fields.per_try_timeout.is_some()),
            ("retryOn", fields.retry_on.is_some()),
            ("backoff", fields.backoff.is_some()),
            (
                "retryIgnorePreviousHosts",
                fields.retry_ignore_previous_hosts.is_some(),
            ),
        ];
        if attempts == 0
            && let Some((other, _)) = others.into_iter().find(|(_, set)| *set)
        {
            return Err(format!(
                "has {other} and no attempts, without which nothing is tried again; write attempts: 3, say"
            ));
        }
        Ok(Self {
            attempts,
            per_try_timeout: fields.per_try_timeout,
            retry_on: fields.retry_on,
            backoff: fields.backoff,
            retry_ignore_previous_hosts: fields.retry_ignore_previous_hosts,
        })
    }
}

/// What is tried again: conditions of Envoy, and statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    /// The conditions, as written.
    pub conditions: Vec<String>,
    /// The statuses.
    pub statuses: Vec<u16>,
}

/// What Envoy knows and Istio accepts.
const RETRY_CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// The statuses that have a name, which are those that Istio accepts.
fn is_named_status(status: u16) -> bool {
    matches!(
        status,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511
    )
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (mut conditions, mut statuses) = (Vec::new(), Vec::new());
        for word in text.split(',') {
            if let Some(status) = word.parse().ok().filter(|status| is_named_status(*status)) {
                statuses.push(status);
            } else if RETRY_CONDITIONS.contains(&word) {
                conditions.push(word.to_owned());
            } else {
                return Err(D::Error::custom(format!(
                    "{word:?} is not a condition for a retry; write, without spaces between them, statuses or some of {}",
                    RETRY_CONDITIONS.join(",")
                )));
            }
        }
        Ok(Self {
            conditions,
            statuses,
        })
    }
}

/// What becomes of the path and the authority on their way.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "HttpRewriteFields")]
pub struct HttpRewrite {
    /// The path.
    pub path: Option<PathRewrite>,
    /// What the authority becomes.
    pub authority: Option<String>,
}

/// What becomes of the path.
#[derive(Debug, Clone, PartialEq)]
pub enum PathRewrite {
    /// What the route's `match` found of it, the beginning or all, is replaced by this.
    Matched(String),
    /// What an expression finds in it is replaced.
    Regex(RegexRewrite),
}

#[derive(Deserialize)]
#[serde(rename = "HTTPRewrite", rename_all = "camelCase", deny_unknown_fields)]
struct HttpRewriteFields {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    authority: Option<String>,
    #[serde(default)]
    uri_regex_rewrite: Option<RegexRewrite>,
}

impl TryFrom<HttpRewriteFields> for HttpRewrite {
    type Error = String;

    fn try_from(fields: HttpRewriteFields) -> Result<Self, String> {
        let uri = fields.uri.filter(|uri| !uri.is_empty());
        let authority = fields.authority.filter(|authority| !authority.is_empty());
        let path = match (uri, fields.uri_regex_rewrite) {
            (Some(_), Some(_)) => {
                return Err("has both uri and uriRegexRewrite, write only one of them".to_owned());
            }
            (Some(uri), None) => Some(PathRewrite::Matched(uri)),
            (None, Some(regex)) => Some(PathRewrite::Regex(regex)),
            (None, None) => None,
        };
        if path.is_none() && authority.is_none() {
            return Err("is empty, write uri, uriRegexRewrite or authority".to_owned());
        }
        Ok(Self { path, authority })
    }
}

/// What an expression finds in a path is replaced.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RegexRewriteFields")]
pub struct RegexRewrite {
    /// `match`: what is replaced, every time it is there.
    pub matched: Regex,
    /// By what; `\1` is what the first group found.
    pub rewrite: String,
}

#[derive(Deserialize)]
#[serde(rename = "RegexRewrite", rename_all = "camelCase", deny_unknown_fields)]
struct RegexRewriteFields {
    #[serde(rename = "match")]
    matched: Regex,
    rewrite: String,
}

impl TryFrom<RegexRewriteFields> for RegexRewrite {
    type Error = String;

    fn try_from(fields: RegexRewriteFields) -> Result<Self, String> {
        let RegexRewriteFields { matched, rewrite } = fields;
        if matched.0.is_empty() || rewrite.is_empty() {
            return Err("has an empty match or rewrite, write both".to_owned());
        }
        let groups = matched.groups();
        let mut rest = rewrite.chars();
        while let Some(c) = rest.next() {
            if c != '\\' {
                continue;
            }
            match rest.next() {
                Some('\\') => {}
                Some(digit) if digit.is_ascii_digit() => {
                    if digit
                        .to_digit(10)
                        .is_some_and(|group| group as usize > groups)
                    {
                        return Err(format!(
                            "rewrite names the group \\{digit}, and match has {groups}"
                        ));
                    }
                }
                _ => {
                    return Err(
                        "rewrite has a \\ without a group's number, write \\\\ for the character itself".to_owned(),
                    );
                }
            }
        }
        Ok(Self { matched, rewrite })
    }
}

/// What goes wrong on purpose, before a request gets anywhere.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "HttpFaultInjectionFields")]
pub struct HttpFaultInjection {
    /// Some requests wait.
    pub delay: Option<Delay>,
    /// Some requests are answered instead; those that wait among them.
    pub abort: Option<Abort>,
}

#[derive(Deserialize)]
#[serde(
    rename = "HTTPFaultInjection",
    rename_all = "camelCase",
    deny_unknown_fields
)]
struct HttpFaultInjectionFields {
    #[serde(default)]
    delay: Option<Delay>,
    #[serde(default)]
    abort: Option<Abort>,
}

impl TryFrom<HttpFaultInjectionFields> for HttpFaultInjection {
    type Error = String;

    fn try_from(fields: HttpFaultInjectionFields) -> Result<Self, String> {
        let HttpFaultInjectionFields { delay, abort } = fields;
        if delay.is_none() && abort.is_none() {
            return Err("is empty, write delay, abort or both".to_owned());
        }
        Ok(Self { delay, abort })
    }
}

/// Requests that wait.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delay {
    /// How many. Istio takes none if it is left out, so here it must be said.
    pub percentage: Percent,
    /// For how long.
    pub fixed_delay: Period,
}

/// Requests that are answered before they get anywhere.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Abort {
    /// How many. Istio takes none if it is left out, so here it must be said.
    pub percentage: Percent,
    /// With which status.
    pub http_status: FaultStatus,
}

/// A share of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Percent {
    /// From 0 to 100.
    #[serde(deserialize_with = "percentage")]
    pub value: f64,
}

fn percentage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if (0.0..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err(D::Error::custom(format!(
            "{value} is not between 0 and 100"
        )))
    }
}

/// A status that a fault may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultStatus(pub u16);

impl<'de> Deserialize<'de> for FaultStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let status = u16::deserialize(deserializer)?;
        if (200..=599).contains(&status) {
            Ok(Self(status))
        } else {
            Err(D::Error::custom(format!(
                "{status} is not a status, write one from 200 to 599"
            )))
        }
    }
}

/// What becomes of headers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Headers {
    /// Of the request's, before it goes on.
    #[serde(default)]
    pub request: HeaderOperations,
    /// Of the answer's, before it goes back.
    #[serde(default)]
    pub response: HeaderOperations,
}

/// What becomes of some headers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderOperations {
    /// Have this value and no other.
    #[serde(default)]
    pub set: BTreeMap<String, HeaderValue>,
    /// Have this value as well.
    #[serde(default)]
    pub add: BTreeMap<String, HeaderValue>,
    /// Are removed.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// The value that a header gets. `%%` is a percent sign; Envoy's own commands (`%…%`) are not implemented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValue(pub String);

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().any(|c| c != '\t' && c.is_ascii_control()) {
            return Err(D::Error::custom(format!(
                "{text:?} has a character that no header can have"
            )));
        }
        if text.replace("%%", "").contains('%') {
            return Err(D::Error::custom(format!(
                "{text:?} has a command of Envoy, which is not implemented by the local mesh yet; write %% for a percent sign"
            )));
        }
        Ok(Self(text))
    }
}

/// What a request must be; all that is written must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(
    rename = "HTTPMatchRequest",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub struct HttpMatchRequest {
    /// A name for it, seen in access logs behind the route's.
    #[serde(default)]
    pub name: Option<String>,
    /// The path; a prefix and an exact value are compared without the query.
    #[serde(default)]
    pub uri: Option<StringMatch>,
    /// Whether `uri` ignores case (not for a regex).
    #[serde(default)]
    pub ignore_uri_case: bool,
    /// The method.
    #[serde(default)]
    pub method: Option<StringMatch>,
    /// The authority, `host` or `host:port`.
    #[serde(default)]
    pub authority: Option<StringMatch>,
    /// Headers that must be there.
    #[serde(default)]
    pub headers: BTreeMap<String, ValueMatch>,
    /// Headers that must not be there with such a value.
    #[serde(default)]
    pub without_headers: BTreeMap<String, ValueMatch>,
    /// Parameters of the query that must be there.
    #[serde(default)]
    pub query_params: BTreeMap<String, ValueMatch>,
}

/// How a string must be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "StringMatchFields")]
pub enum StringMatch {
    /// The same.
    Exact(String),
    /// Begins with it.
    Prefix(String),
    /// All of it matches the regular expression (RE2).
    Regex(Regex),
}

/// How the value of a header or of a query parameter must be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "StringMatchFields")]
pub enum ValueMatch {
    /// `{}`: it is there, whatever its value.
    Present,
    /// It is there with such a value.
    Value(StringMatch),
}

/// A match as it is written.
#[derive(Deserialize)]
#[serde(rename = "StringMatch", rename_all = "camelCase", deny_unknown_fields)]
struct StringMatchFields {
    #[serde(default)]
    exact: Option<String>,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    regex: Option<Regex>,
}

impl StringMatchFields {
    fn one(self) -> Result<Option<StringMatch>, String> {
        match (self.exact, self.prefix, self.regex) {
            (None, None, None) => Ok(None),
            (Some(exact), None, None) => Ok(Some(StringMatch::Exact(exact))),
            (None, Some(prefix), None) => Ok(Some(StringMatch::Prefix(prefix))),
            (None, None, Some(regex)) => Ok(Some(StringMatch::Regex(regex))),
            _ => Err("has several of exact, prefix and regex, write only one of them".to_owned()),
        }
    }
}

impl TryFrom<StringMatchFields> for StringMatch {
    type Error = String;

    fn try_from(fields: StringMatchFields) -> Result<Self, String> {
        fields
            .one()?
            .ok_or_else(|| "is empty, write one of exact, prefix or regex".to_owned())
    }
}

impl TryFrom<StringMatchFields> for ValueMatch {
    type Error = String;

    fn try_from(fields: StringMatchFields) -> Result<Self, String> {
        Ok(fields.one()?.map_or(Self::Present, Self::Value))
    }
}

/// One of the destinations of a route.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    rename = "HTTPRouteDestination",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub struct HttpRouteDestination {
    /// The destination.
    pub destination: Destination,
    /// Its share among the route's weights; may be unset only if it is the only one.
    #[serde(default)]
    pub weight: Option<u32>,
}

/// A Service, or a part of its pods.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// The Service by short or full name.
    pub host: String,
    /// A subset of a DestinationRule for that host.
    #[serde(default)]
    pub subset: Option<String>,
    /// Its port; may be unset if the Service has only one.
    #[serde(default)]
    pub port: Option<PortSelector>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortSelector {
    /// Its number.
    pub number: u16,
}

/// How requests to a host are treated, and what its subsets are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationRule {
    /// The Service by short or full name.
    pub host: String,
    /// For all of the host.
    #[serde(default)]
    pub traffic_policy: Option<TrafficPolicy>,
    /// Parts of its pods.
    #[serde(default)]
    pub subsets: Vec<Subset>,
}

/// A part of the pods of a host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subset {
    /// What routes call it.
    pub name: String,
    /// The labels that its pods have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Replaces what the host's policy says.
    #[serde(default)]
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How requests to a host are treated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicy {
    /// Who of the pods gets the next request.
    #[serde(default)]
    pub load_balancer: Option<LoadBalancerSettings>,
    /// How many connections and requests at a time.
    #[serde(default)]
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Which pods get none for a while because of their errors.
    #[serde(default)]
    pub outlier_detection: Option<OutlierDetection>,
    /// The transport to the pods.
    #[serde(default)]
    pub tls: Option<ClientTlsSettings>,
}

/// How many connections and requests at a time each proxy allows itself to all pods of a host together. What exceeds it is
/// answered with 503.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionPoolSettings {
    /// Of any protocol.
    #[serde(default)]
    pub tcp: Option<TcpSettings>,
    /// Of HTTP.
    #[serde(default)]
    pub http: Option<HttpSettings>,
}

/// Limits of connections.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename = "TCPSettings", rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpSettings {
    /// How many at a time. As elsewhere here, unset is without limit.
    #[serde(default)]
    pub max_connections: Option<Limit>,
    /// How long making one may take; 10 s if unset.
    #[serde(default)]
    pub connect_timeout: Option<Period>,
    /// How long one may be without a request; 1 h if unset. That of HTTP wins.
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    /// How long one may last.
    #[serde(default)]
    pub max_connection_duration: Option<Period>,
}

/// Limits of requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename = "HTTPSettings", rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSettings {
    /// How many may wait for a connection, whatever the version of HTTP.
    #[serde(default)]
    pub http1_max_pending_requests: Option<Limit>,
    /// How many at a time, whatever the version of HTTP.
    #[serde(default)]
    pub http2_max_requests: Option<Limit>,
    /// How many each connection takes before it is closed; 0 is without limit.
    #[serde(default)]
    pub max_requests_per_connection: Option<Count>,
    /// How many retries at a time.
    #[serde(default)]
    pub max_retries: Option<Limit>,
    /// How long a connection may be without a request; 1 h if unset.
    #[serde(default)]
    pub idle_timeout: Option<Period>,
}

/// A limit, which Istio takes for unset if it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub u32);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Count::deserialize(deserializer)? {
            Count(0) => Err(D::Error::custom(
                "0 is no limit at all to Istio; write at least 1, or leave it out",
            )),
            Count(limit) => Ok(Self(limit)),
        }
    }
}

/// When a pod gets no requests for a while.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "OutlierDetectionFields")]
pub struct OutlierDetection {
    /// After how many answers of 500 to 599, or failures to connect, in a row; 5 if unset, never if 0.
    pub consecutive_5xx_errors: Option<u32>,
    /// After how many answers of 502 to 504, or failures to connect, in a row; never if unset or 0.
    pub consecutive_gateway_errors: Option<u32>,
    /// Whether failures to connect count for themselves.
    pub split_external_local_origin_errors: bool,
    /// After how many of these in a row, if they count for themselves; 5 if unset.
    pub consecutive_local_origin_failures: Option<u32>,
    /// How often it is looked whether pods can come back; 10 s if unset.
    pub interval: Option<Period>,
    /// For how long at first, times how often it has happened; 30 s if unset.
    pub base_ejection_time: Option<Period>,
    /// How many of a host's pods at most; 10 if unset, which is none of nine or fewer.
    pub max_ejection_percent: Option<u32>,
    /// If fewer pods than this are left, all get requests; 0 if unset.
    pub min_health_percent: u32,
}

#[derive(Deserialize)]
#[serde(
    rename = "OutlierDetection",
    rename_all = "camelCase",
    deny_unknown_fields
)]
struct OutlierDetectionFields {
    #[serde(default, rename = "consecutive5xxErrors")]
    consecutive_5xx_errors: Option<u32>,
    #[serde(default)]
    consecutive_gateway_errors: Option<u32>,
    #[serde(default)]
    split_external_local_origin_errors: bool,
    #[serde(default)]
    consecutive_local_origin_failures: Option<u32>,
    #[serde(default)]
    interval: Option<Period>,
    #[serde(default)]
    base_ejection_time: Option<Period>,
    #[serde(default)]
    max_ejection_percent: Option<MaxEjectionPercent>,
    #[serde(default)]
    min_health_percent: WholePercent,
}

/// A percentage without fraction.
#[derive(Clone, Copy, Default)]
struct WholePercent(u32);

impl<'de> Deserialize<'de> for WholePercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            percent @ 0..=100 => Ok(Self(percent)),
            percent => Err(D::Error::custom(format!(
                "{percent} is not between 0 and 100"
            ))),
        }
    }
}

struct MaxEjectionPercent(u32);

impl<'de> Deserialize<'de> for MaxEjectionPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WholePercent::deserialize(deserializer)? {
            WholePercent(0) => Err(D::Error::custom(
                "0 is 10 to Istio; leave outlierDetection out if no pod is to be passed over",
            )),
            WholePercent(percent) => Ok(Self(percent)),
        }
    }
}

impl TryFrom<OutlierDetectionFields> for OutlierDetection {
    type Error = String;

    fn try_from(fields: OutlierDetectionFields) -> Result<Self, String> {
        let local = fields.consecutive_local_origin_failures;
        if !fields.split_external_local_origin_errors && local.is_some_and(|number| number > 0) {
            return Err(
                "has consecutiveLocalOriginFailures, which counts only with splitExternalLocalOriginErrors: true".to_owned(),
            );
        }
        Ok(Self {
            consecutive_5xx_errors: fields.consecutive_5xx_errors,
            consecutive_gateway_errors: fields.consecutive_gateway_errors,
            split_external_local_origin_errors: fields.split_external_local_origin_errors,
            consecutive_local_origin_failures: local,
            interval: fields.interval,
            base_ejection_time: fields.base_ejection_time,
            max_ejection_percent: fields.max_ejection_percent.map(|percent| percent.0),
            min_health_percent: fields.min_health_percent.0,
        })
    }
}

/// Who of the pods gets the next request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancerSettings {
    /// One of the simple ways.
    #[serde(default)]
    pub simple: SimpleLb,
}

/// A simple way to choose a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename = "SimpleLB", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// Istio chooses: LEAST_REQUEST.
    #[default]
    Unspecified,
    /// In turn.
    RoundRobin,
    /// The less busy one of two taken at random.
    LeastRequest,
    /// The old name of LEAST_REQUEST.
    LeastConn,
    /// At random.
    Random,
}

/// The transport to a host's pods.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    rename = "ClientTLSSettings",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub struct ClientTlsSettings {
    /// The kind of TLS.
    pub mode: TlsMode,
}

/// The kind of TLS to a host's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename = "TLSmode", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsMode {
    /// The mesh's own certificates, on both sides.
    IstioMutual,
}
