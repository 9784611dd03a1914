//! The filters that decide who may ask what, as istiod writes them: one of all DENY policies, then one of all ALLOW policies,
//! each only if there is such a policy. Rules keep istiod's names, which Envoy's logs tell: `ns[a]-policy[b]-rule[0]`.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::{Proxy, jwt};
use crate::api::security::Action;
use crate::model::authorization::{self, OfOperation, OfSource, Policy, Rule, Test, block};
use crate::model::plugin::Traffic;

const NAME: &str = "envoy.filters.http.rbac";
const TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const TEMPLATE: &str =
    "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";

/// For what comes to a pod, never for what a sidecar sends out.
pub(super) fn filters(proxy: &Proxy, traffic: Traffic) -> Vec<Value> {
    let here = match traffic {
        Traffic::Inbound(port) => proxy.here.inbound.get(&port).map(|here| (port, *here)),
        Traffic::Gateway(port) => proxy.here.gateway.get(&port).map(|here| (port, *here)),
        Traffic::Outbound => None,
    };
    let Some((port, here)) = here else {
        return Vec::new();
    };
    let place = Place { port, here };
    [Action::Deny, Action::Allow]
        .into_iter()
        .filter_map(|action| {
            let policies = authorization::policies(&proxy.mesh.policies, proxy.workload, action);
            filter(&policies, action, place)
        })
        .collect()
}

/// The port that a listener stands for, and where it is instead on this machine.
#[derive(Clone, Copy)]
struct Place {
    port: u16,
    here: SocketAddr,
}

fn filter(policies: &[&Policy], action: Action, place: Place) -> Option<Value> {
    if policies.is_empty() {
        return None;
    }
    let (action, dry_run_prefix) = match action {
        Action::Allow => ("ALLOW", "istio_dry_run_allow_"),
        Action::Deny => ("DENY", "istio_dry_run_deny_"),
    };
    let mut config = json!({ "@type": TYPE });
    for (field, dry_run) in [("rules", false), ("shadow_rules", true)] {
        let mut rules = Map::new();
        let policies: Vec<&&Policy> = policies
            .iter()
            .filter(|policy| policy.dry_run == dry_run)
            .collect();
        for policy in &policies {
            let name = |rule: usize| {
                format!(
                    "ns[{}]-policy[{}]-rule[{rule}]",
                    policy.namespace, policy.name
                )
            };
            if policy.rules.is_empty() {
                rules.insert(name(0), never());
            }
            for (index, rule) in policy.rules.iter().enumerate() {
                rules.insert(name(index), self::rule(rule, &policy.namespace, place));
            }
        }
        if !policies.is_empty() {
            config[field] = json!({ "action": action, "policies": rules });
            if dry_run {
                config["shadow_rules_stat_prefix"] = json!(dry_run_prefix);
            }
        }
    }
    Some(json!({ "name": NAME, "typed_config": config }))
}

/// `envoy.config.rbac.v3.Policy` that matches nothing: an ALLOW with it allows nothing.
fn never() -> Value {
    json!({
        "permissions": [{ "not_rule": { "any": true } }],
        "principals": [{ "not_id": { "any": true } }],
    })
}

/// `envoy.config.rbac.v3.Policy`.
fn rule(rule: &Rule, namespace: &str, place: Place) -> Value {
    let permissions = rule.operations.iter().map(|tests| {
        let rules = all(tests, "not_rule", |attribute, values| {
            permission(*attribute, values, place)
        });
        json!({ "and_rules": { "rules": rules } })
    });
    let principals = rule.sources.iter().map(|tests| {
        let ids = all(tests, "not_id", |attribute, values| {
            principal(attribute, values, namespace)
        });
        json!({ "and_ids": { "ids": ids } })
    });
    json!({
        "permissions": permissions.collect::<Vec<_>>(),
        "principals": principals.collect::<Vec<_>>(),
    })
}

/// What has to hold for all of these tests, which may be none.
fn all<A>(tests: &[Test<A>], not: &str, one_of: impl Fn(&A, &[String]) -> Value) -> Vec<Value> {
    let mut all = Vec::new();
    for test in tests {
        if !test.values.is_empty() {
            all.push(one_of(&test.attribute, &test.values));
        }
        if !test.not_values.is_empty() {
            all.push(json!({ not: one_of(&test.attribute, &test.not_values) }));
        }
    }
    if all.is_empty() {
        all.push(json!({ "any": true }));
    }
    all
}

/// `envoy.config.rbac.v3.Permission`: for one of these values.
fn permission(attribute: OfOperation, values: &[String], place: Place) -> Value {
    let one = |value: &String| match attribute {
        OfOperation::Host => json!({ "header": header(":authority", value, true) }),
        OfOperation::Method => json!({ "header": header(":method", value, false) }),
        OfOperation::Path if value.contains("{*}") || value.contains("{**}") => {
            let template = value.replace("{*}", "*").replace("{**}", "**");
            json!({ "uri_template": {
                "name": "uri-template",
                "typed_config": { "@type": TEMPLATE, "path_template": template },
            } })
        }
        OfOperation::Path => json!({ "url_path": { "path": string(value, "", false) } }),
        // Envoy compares the port on which the connection came in, which is another one on this machine.
        OfOperation::Port if value.parse() == Ok(place.port) => {
            json!({ "destination_port": place.here.port() })
        }
        OfOperation::Port => json!({ "not_rule": { "any": true } }),
        OfOperation::DestinationIp => json!({ "destination_ip": cidr(value) }),
        OfOperation::ServerName => json!({ "requested_server_name": string(value, "", false) }),
    };
    let rules: Vec<Value> = values.iter().map(one).collect();
    json!({ "or_rules": { "rules": rules } })
}

/// `envoy.config.rbac.v3.Principal`: for one of these values.
fn principal(attribute: &OfSource, values: &[String], namespace: &str) -> Value {
    let one = |matcher: &dyn Fn(&str) -> Value| {
        let ids: Vec<Value> = values.iter().map(|value| matcher(value)).collect();
        json!({ "or_ids": { "ids": ids } })
    };
    let peer = |name: Value| json!({ "authenticated": { "principal_name": name } });
    match attribute {
        OfSource::Principal => one(&|value| peer(string(value, "spiffe://", false))),
        OfSource::ServiceAccount => one(&|value| {
            let (namespace, account) = value.split_once('/').unwrap_or((namespace, value));
            peer(regex(&format!(
                "spiffe://.+/ns/{}/(.+/|)sa/{}(/.+)?",
                quote(namespace),
                quote(account)
            )))
        }),
        OfSource::Namespace => one(&|value| {
            let literals: Vec<String> = value.split('*').map(quote).collect();
            peer(regex(&format!(".*/ns/{}/.*", literals.join(".*"))))
        }),
        OfSource::RemoteIp => one(&|value| json!({ "remote_ip": cidr(value) })),
        OfSource::SourceIp => one(&|value| json!({ "direct_remote_ip": cidr(value) })),
        OfSource::Header(name) => one(&|value| json!({ "header": header(name, value, false) })),
        OfSource::RequestPrincipal => match values {
            [value] => request_principal(value),
            _ => one(&request_principal),
        },
        OfSource::Audiences => claim_of(&["aud"], values),
        OfSource::Presenter => claim_of(&["azp"], values),
        OfSource::Claim(path) => {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            claim_of(&path, values)
        }
    }
}

/// Who a token is of: its issuer, a slash and its subject. Issuers may have slashes, so it is the last one that counts.
fn request_principal(value: &str) -> Value {
    let any = || regex(".+");
    let exact = |text: &str| json!({ "exact": text });
    let end = |text: &str| match text.strip_prefix('*') {
        Some("") => any(),
        Some(rest) => json!({ "suffix": rest }),
        None => exact(text),
    };
    let begin = |text: &str| match text.strip_suffix('*') {
        Some("") => any(),
        Some(rest) => json!({ "prefix": rest }),
        None => exact(text),
    };
    let (issuer, subject) = match value.rsplit_once('/') {
        _ if value == "*" => (any(), any()),
        Some((issuer, subject)) if value.starts_with('*') => (end(issuer), exact(subject)),
        Some((issuer, subject)) => (exact(issuer), begin(subject)),
        None if value.starts_with('*') => (any(), end(value)),
        None => (begin(value), any()),
    };
    json!({ "and_ids": { "ids": [
        claim(&["iss"], json!({ "string_match": issuer })),
        claim(&["sub"], json!({ "string_match": subject })),
    ] } })
}

/// The principal of who has a claim with one of these values: a string, or a list with such a string in it.
fn claim_of(path: &[&str], values: &[String]) -> Value {
    let one = |value: &String| json!({ "string_match": string(value, "", false) });
    let one = match values {
        [value] => one(value),
        _ => {
            json!({ "or_match": { "value_matchers": values.iter().map(one).collect::<Vec<_>>() } })
        }
    };
    claim(
        path,
        json!({ "or_match": { "value_matchers": [{ "list_match": { "one_of": one } }, one] } }),
    )
}

/// The principal of who has a claim.
fn claim(path: &[&str], value: Value) -> Value {
    let path: Vec<Value> = [jwt::PAYLOAD]
        .iter()
        .chain(path)
        .map(|key| json!({ "key": key }))
        .collect();
    json!({ "metadata": { "filter": jwt::NAME, "path": path, "value": value } })
}

/// `envoy.config.route.v3.HeaderMatcher`.
fn header(name: &str, value: &str, ignore_case: bool) -> Value {
    if value == "*" {
        return json!({ "name": name, "present_match": true });
    }
    json!({ "name": name, "string_match": string(value, "", ignore_case) })
}

/// `envoy.type.matcher.v3.StringMatcher` for a value with or without star, behind a prefix.
fn string(value: &str, prefix: &str, ignore_case: bool) -> Value {
    let mut matcher = if value == "*" {
        return regex(".+");
    } else if let Some(end) = value.strip_prefix('*') {
        if !prefix.is_empty() {
            return regex(&format!("{prefix}.*{}", quote(end)));
        }
        json!({ "suffix": end })
    } else if let Some(begin) = value.strip_suffix('*') {
        json!({ "prefix": format!("{prefix}{begin}") })
    } else {
        json!({ "exact": format!("{prefix}{value}") })
    };
    if ignore_case {
        matcher["ignore_case"] = json!(true);
    }
    matcher
}

fn regex(regex: &str) -> Value {
    json!({ "safe_regex": { "regex": regex } })
}

/// The regular expression for this text, with the letters escaped that istiod escapes.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\.+*?()|[]{}^$".contains(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

/// `envoy.config.core.v3.CidrRange`.
fn cidr(text: &str) -> Value {
    // What is no block is not in the model.
    block(text).map_or(
        Value::Null,
        |(address, length)| json!({ "address_prefix": address.to_string(), "prefix_len": length }),
    )
}
