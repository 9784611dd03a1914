//! The filter that verifies tokens, as istiod writes it: a provider for each rule of the RequestAuthentications that are for
//! the workload. A request passes with a valid token or with none; what a valid one says is put where Wasm filters and
//! authorization find it: the dynamic metadata `envoy.filters.http.jwt_authn`, under `payload`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Proxy;
use crate::api::security::JwtRule;
use crate::model::plugin::Traffic;
use crate::model::{Role, authentication};

/// The filter, and the name of its dynamic metadata.
pub(super) const NAME: &str = "envoy.filters.http.jwt_authn";
/// Where in it the claims are.
pub(super) const PAYLOAD: &str = "payload";
const TYPE: &str =
    "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";

/// For what comes to a pod, never for what a sidecar sends out; nothing if no tokens are verified there.
pub(super) fn filter(proxy: &Proxy, traffic: Traffic) -> Option<Value> {
    if traffic == Traffic::Outbound {
        return None;
    }
    let rules = authentication::rules(&proxy.mesh.authentications, proxy.workload);
    if rules.is_empty() {
        return None;
    }
    // A gateway may route by what a token says, so it has to choose again when it knows.
    let clear_route_cache = proxy.workload.role == Role::Gateway;
    let names: Vec<String> = (0..rules.len())
        .map(|index| format!("origins-{index}"))
        .collect();
    let providers: Map<String, Value> = names
        .iter()
        .zip(&rules)
        .map(|(name, (_, rule))| (name.clone(), provider(rule, clear_route_cache)))
        .collect();
    let valid = |name: &String| json!({ "provider_name": name });
    let valid_or_none = |name: &String| json!({ "requires_any": { "requirements": [valid(name), { "allow_missing": {} }] } });
    let requires = if let [name] = &names[..] {
        valid_or_none(name)
    } else {
        // Each token has to be valid, if it is there; or any of them, for issuers whose tokens are in the same place: there each
        // is somebody else's to all but one.
        let all: Vec<Value> = names.iter().map(valid_or_none).collect();
        let mut any: Vec<Value> = names.iter().map(valid).collect();
        any.push(json!({ "requires_all": { "requirements": all } }));
        json!({ "requires_any": { "requirements": any } })
    };
    Some(json!({
        "name": NAME,
        "typed_config": {
            "@type": TYPE,
            "providers": providers,
            "rules": [{ "match": { "prefix": "/" }, "requires": requires }],
            "bypass_cors_preflight": true,
        },
    }))
}

fn provider(rule: &JwtRule, clear_route_cache: bool) -> Value {
    let space_delimited: BTreeSet<&str> = ["permission", "scope"]
        .into_iter()
        .chain(rule.space_delimited_claims.iter().map(String::as_str))
        .collect();
    let mut provider = json!({
        "issuer": rule.issuer,
        "local_jwks": { "inline_string": rule.jwks.as_ref().map_or("", |keys| &keys.0) },
        "forward": rule.forward_original_token,
        "payload_in_metadata": PAYLOAD,
        "normalize_payload_in_metadata": { "space_delimited_claims": space_delimited },
        "clear_route_cache": clear_route_cache,
    });
    let from_headers: Vec<Value> = rule
        .from_headers
        .iter()
        .map(|from| json!({ "name": from.name, "value_prefix": from.prefix }))
        .collect();
    let claims: Vec<Value> = rule
        .output_claim_to_headers
        .iter()
        .map(|output| json!({ "header_name": output.header, "claim_name": output.claim }))
        .collect();
    for (field, values) in [
        ("audiences", json!(rule.audiences)),
        ("from_headers", json!(from_headers)),
        ("from_params", json!(rule.from_params)),
        ("from_cookies", json!(rule.from_cookies)),
        ("claim_to_headers", json!(claims)),
    ] {
        if values != json!([]) {
            provider[field] = values;
        }
    }
    if let Some(header) = &rule.output_payload_to_header {
        provider["forward_payload_header"] = json!(header);
    }
    provider
}
