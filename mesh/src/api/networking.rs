//! `networking.istio.io`: Gateway, VirtualService, DestinationRule.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Duration, Regex};

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
    /// How long the whole answer may take; without it there is no limit, and `0s` says that as well.
    #[serde(default)]
    pub timeout: Option<Duration>,
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
    /// The transport to the pods.
    #[serde(default)]
    pub tls: Option<ClientTlsSettings>,
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
