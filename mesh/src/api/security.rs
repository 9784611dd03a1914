//! `security.istio.io`: PeerAuthentication, RequestAuthentication, AuthorizationPolicy.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Period;
use super::meta::LabelSelector;

/// Whether workloads take plain connections. In the root namespace and without selector it is for the whole mesh; without
/// selector for its namespace; else for what it selects in its namespace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerAuthentication {
    /// The workloads.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// What they demand.
    #[serde(default)]
    pub mtls: Option<MutualTls>,
}

/// What workloads demand of who connects.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename = "MutualTLS", rename_all = "camelCase", deny_unknown_fields)]
pub struct MutualTls {
    /// The demand.
    #[serde(default)]
    pub mode: MtlsMode,
}

/// The demand on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename = "Mode", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MtlsMode {
    /// As the wider PeerAuthentication says; PERMISSIVE if there is none.
    #[default]
    Unset,
    /// Plain only.
    Disable,
    /// Plain and mutual TLS.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// Which tokens workloads verify. A request with one that is not valid is refused; one without any passes, as nobody. In the
/// root namespace and without selector it is for the whole mesh; without selector for its namespace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestAuthentication {
    /// The workloads; those of all namespaces if it is in the root namespace.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// The tokens.
    #[serde(default)]
    pub jwt_rules: Vec<JwtRule>,
}

/// The tokens of one issuer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "JWTRule", rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtRule {
    /// The claim `iss` that they have.
    pub issuer: String,
    /// The claim `aud` has one of these; any if empty.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The keys that they are signed with.
    #[serde(default)]
    pub jwks: Option<Jwks>,
    /// Where the keys are to be fetched. Only a cluster's istiod does that.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// The headers that they are in. If neither this nor `from_params` nor `from_cookies` says anything: `Authorization` behind
    /// `Bearer `, and the query parameter `access_token`.
    #[serde(default)]
    pub from_headers: Vec<JwtHeader>,
    /// The query parameters that they are in.
    #[serde(default)]
    pub from_params: Vec<String>,
    /// The cookies that they are in.
    #[serde(default)]
    pub from_cookies: Vec<String>,
    /// The header in which a verified token's payload is passed on, as base64url.
    #[serde(default)]
    pub output_payload_to_header: Option<String>,
    /// Claims that are passed on in headers.
    #[serde(default)]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the token itself is passed on.
    #[serde(default)]
    pub forward_original_token: bool,
    /// How long istiod waits for the keys. No effect on one machine, where nothing is fetched.
    #[serde(default)]
    pub timeout: Option<Period>,
    /// Claims that are a list of words in one string, beside `scope` and `permission`.
    #[serde(default)]
    pub space_delimited_claims: Vec<String>,
}

/// A header with a token in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "JWTHeader", rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtHeader {
    /// Its name.
    pub name: String,
    /// What stands before the token.
    #[serde(default)]
    pub prefix: String,
}

/// A claim that is passed on in a header.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimToHeader {
    /// The header. What a client sends in it is replaced if the token has the claim.
    pub header: String,
    /// The claim; a dot leads into a nested one.
    pub claim: String,
}

/// A JSON Web Key Set: the public keys of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwks(pub String);

impl Jwks {
    /// Istio takes anything that looks like a key, and Envoy then answers 401 to every token. So each key is looked at.
    fn check(text: &str) -> Result<(), String> {
        const INSTEAD: &str = "write {\"keys\": [{\"kty\": \"RSA\", \"n\": …, \"e\": …}]}";
        let set: Value = serde_json::from_str(text)
            .map_err(|error| format!("is not JSON: {error}; {INSTEAD}"))?;
        let Some(keys) = set.get("keys").and_then(Value::as_array) else {
            return Err(format!("has no list of keys, {INSTEAD}"));
        };
        if keys.is_empty() {
            return Err(format!("has no key, {INSTEAD}"));
        }
        for (index, key) in keys.iter().enumerate() {
            let Value::Object(key) = key else {
                return Err(format!("keys[{index}] is no key, {INSTEAD}"));
            };
            Self::check_key(key).map_err(|message| format!("keys[{index}] {message}"))?;
        }
        Ok(())
    }

    fn check_key(key: &Map<String, Value>) -> Result<(), String> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        // Of a curve, how many bytes a coordinate has.
        let parts: &[(&str, Option<usize>)] = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => &[("n", None), ("e", None)],
            (Some("EC"), Some("P-256")) => &[("x", Some(32)), ("y", Some(32))],
            (Some("EC"), Some("P-384")) => &[("x", Some(48)), ("y", Some(48))],
            (Some("EC"), Some("P-521")) => &[("x", Some(66)), ("y", Some(66))],
            (Some("EC"), _) => return Err("has no crv of P-256, P-384 or P-521".to_owned()),
            (Some("OKP"), Some("Ed25519")) => &[("x", Some(32))],
            (Some("OKP"), _) => return Err("has no crv of Ed25519".to_owned()),
            (Some("oct"), _) => {
                return Err(
                    "is symmetric: whoever reads it here can sign with it; write a public key, of kty RSA, EC or OKP"
                        .to_owned(),
                );
            }
            (Some(other), _) => {
                return Err(format!("has the kty {other:?}, write RSA, EC or OKP"));
            }
            (None, _) => return Err("has no kty, write RSA, EC or OKP".to_owned()),
        };
        if key.contains_key("d") {
            return Err("has a d: that is a private key; write the public one".to_owned());
        }
        for (part, length) in parts {
            let bytes = text(part).and_then(|text| {
                URL_SAFE_NO_PAD
                    .decode(text)
                    .or_else(|_| URL_SAFE.decode(text))
                    .ok()
            });
            match bytes {
                Some(bytes)
                    if length.is_none_or(|length| bytes.len() == length) && !bytes.is_empty() => {}
                Some(bytes) => {
                    return Err(format!(
                        "has {} bytes in its {part}, which no such key has",
                        bytes.len()
                    ));
                }
                None => return Err(format!("has no {part} in base64url")),
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Self::check(&text) {
            Ok(()) => Ok(Self(text)),
            Err(message) => Err(serde::de::Error::custom(message)),
        }
    }
}

/// Who may ask what of whom. In the root namespace and without selector it is for the whole mesh; without selector for its
/// namespace. Where at least one ALLOW is for a workload, what none of them allows is denied; what a DENY matches is denied
/// before that.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationPolicy {
    /// The workloads; those of all namespaces if it is in the root namespace.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// What becomes of requests that it matches.
    #[serde(default)]
    pub action: Action,
    /// It matches if one of these does; without any it matches nothing.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// What becomes of requests that a policy matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// They pass.
    #[default]
    Allow,
    /// They are answered with 403.
    Deny,
}

/// A rule matches if one of `from`, one of `to` and all of `when` do; what is left out matches.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Who asks.
    #[serde(default)]
    pub from: Option<Vec<RuleFrom>>,
    /// For what.
    #[serde(default)]
    pub to: Option<Vec<RuleTo>>,
    /// On what conditions.
    #[serde(default)]
    pub when: Vec<Condition>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "From", rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleFrom {
    /// All of its fields must match.
    pub source: RequestSource,
}

/// Who asks: each field by one of its values, and by none of its `not…`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename = "Source", rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestSource {
    /// The identity in the peer's certificate, without `spiffe://`.
    #[serde(default)]
    pub principals: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_principals: Vec<String>,
    /// The verified token's `iss` and `sub`, with a slash between.
    #[serde(default)]
    pub request_principals: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_request_principals: Vec<String>,
    /// The namespace in the peer's identity.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_namespaces: Vec<String>,
    /// The ServiceAccount in the peer's identity: `name`, or `namespace/name`.
    #[serde(default)]
    pub service_accounts: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_service_accounts: Vec<String>,
    /// The address that the connection came from.
    #[serde(default)]
    pub ip_blocks: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_ip_blocks: Vec<String>,
    /// The client's address, as far as `X-Forwarded-For` is trusted.
    #[serde(default)]
    pub remote_ip_blocks: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_remote_ip_blocks: Vec<String>,
}

/// For what somebody asks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "To", rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleTo {
    /// All of its fields must match.
    pub operation: Operation,
}

/// For what somebody asks: each field by one of its values, and by none of its `not…`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// The host that is asked for, in any case.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_hosts: Vec<String>,
    /// The port of the pod, not that of a Service in front of it.
    #[serde(default)]
    pub ports: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_ports: Vec<String>,
    /// The method.
    #[serde(default)]
    pub methods: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_methods: Vec<String>,
    /// The path, normalized and without its query; `{*}` for any one segment, `{**}` for any number of them.
    #[serde(default)]
    pub paths: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub not_paths: Vec<String>,
}

/// A condition on an attribute of the request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// The attribute: `request.headers[x-tier]`, ….
    pub key: String,
    /// It has one of these.
    #[serde(default)]
    pub values: Vec<String>,
    /// It has none of these.
    #[serde(default)]
    pub not_values: Vec<String>,
}
