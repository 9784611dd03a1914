//! What a configuration asks for and no request of a log has: without it limits look as if they met nobody, or counted something else.

use serde_json::Value;
use tollgate_common::header::TENANT_ID;
use tollgate_host::same_name;

use super::log::{Part, Traffic};

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// A claim, by the names of the objects around it and its own.
    Claim(Vec<String>),
    Peer,
    /// A header, also `:authority`.
    Header(String),
    /// How long requests take.
    Duration,
    /// What responses say.
    Response,
}

/// Where limits are.
const PLACES: [&str; 3] = ["tiers", "tenants", "routes"];

/// What the configuration of this name asks for in vain, a sentence each, in the order in which it asks. `claims` are the paths of claims, by
/// their numbers in the log.
pub(crate) fn lacking(
    name: &str,
    configuration: &Value,
    claims: &[Vec<String>],
    traffic: &Traffic,
) -> Vec<String> {
    let mut asked = asked(configuration);
    for entry in &traffic.entries {
        if asked.is_empty() {
            break;
        }
        if entry.duration > 0 {
            asked.retain(|(_, asked)| *asked != Asked::Duration);
        }
        for part in entry.parts(&traffic.arenas) {
            asked.retain(|(_, asked)| !has(part, asked, claims));
        }
    }
    // Nor has any log what responses say.
    let settled = PLACES.iter().find_map(|within| {
        let field = limit_with("cost", &configuration[*within], within)?;
        Some((format!("{field}.settle"), Asked::Response))
    });
    let asked = asked.into_iter().chain(settled);
    asked
        .map(|(field, asked)| format!("{name}: {field} {}", in_vain(&asked, claims)))
        .collect()
}

/// Everything that is asked for, each with the field that asks first.
fn asked(configuration: &Value) -> Vec<(String, Asked)> {
    let mut all: Vec<(String, Asked)> = Vec::new();
    let mut add = |field: String, asked: Asked| {
        if !all.iter().any(|(_, other)| *other == asked) {
            all.push((field, asked));
        }
    };
    for (number, source) in list(&configuration["tenant"]["from"]) {
        let Some((kind, value)) = source.as_object().and_then(|source| {
            source
                .iter()
                .find(|(kind, _)| !["vouched", "issuer"].contains(&kind.as_str()))
        }) else {
            continue;
        };
        let field = format!("tenant.from[{number}].{kind}");
        match kind.as_str() {
            "claim" => {
                let path = match value {
                    Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
                    value => value.as_str().into_iter().collect::<Vec<_>>(),
                };
                let path = path.into_iter().map(str::to_owned).collect();
                add(field, Asked::Claim(path));
                if source.get("issuer").is_some() {
                    let field = format!("tenant.from[{number}].issuer");
                    add(field, Asked::Claim(vec!["iss".to_owned()]));
                }
            }
            "peer" => add(field, Asked::Peer),
            "passedOn" => {
                add(field.clone(), Asked::Header(TENANT_ID.to_owned()));
                add(field, Asked::Peer);
            }
            "header" => add(field, header(value.as_str().unwrap_or_default())),
            "host" => add(field, header(":authority")),
            "cookie" => add(field, header("cookie")),
            // Every log has the path, with its query.
            _ => {}
        }
    }
    for (number, route) in list(&configuration["routes"]) {
        if route["match"].get("host").is_some() {
            add(format!("routes[{number}].match.host"), header(":authority"));
        }
        if let Some(headers) = route["match"]["headers"].as_object() {
            for name in headers.keys() {
                add(
                    format!("routes[{number}].match.headers.{name}"),
                    header(name),
                );
            }
        }
        if let Some(name) = route["cost"]["header"].as_str() {
            add(format!("routes[{number}].cost.header"), header(name));
        }
    }
    for within in PLACES {
        if let Some(field) = limit_with("concurrent", &configuration[within], within) {
            add(field, Asked::Duration);
        }
    }
    all
}

fn header(name: &str) -> Asked {
    Asked::Header(name.to_ascii_lowercase())
}

/// The first limit with a field among tiers, tenants or routes: the place of the field.
fn limit_with(field: &str, within: &Value, name: &str) -> Option<String> {
    let of = |one: &Value, path: String| {
        let (number, _) = list(&one["limits"]).find(|(_, limit)| limit.get(field).is_some())?;
        Some(format!("{path}.limits[{number}].{field}"))
    };
    match within {
        Value::Object(named) => named
            .iter()
            .find_map(|(key, one)| of(one, format!("{name}.{key}"))),
        listed => list(listed).find_map(|(number, one)| of(one, format!("{name}[{number}]"))),
    }
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

/// Whether a part of a request is what is asked for.
fn has(part: Part<'_>, asked: &Asked, claims: &[Vec<String>]) -> bool {
    match (part, asked) {
        (Part::Header(name, _), Asked::Header(asked)) => same_name(name, asked.as_bytes()),
        (Part::Claim(number, _), Asked::Claim(path)) => claims.get(number) == Some(path),
        (Part::Peer(_), Asked::Peer) => true,
        _ => false,
    }
}

fn in_vain(asked: &Asked, claims: &[Vec<String>]) -> String {
    match asked {
        Asked::Claim(path) => {
            let shown = super::claim_name(path);
            match claims.contains(path) {
                true => format!("asks for the claim {shown}, and no request of the log has it"),
                false => format!(
                    "asks for the claim {shown}, and the log is not said to have it; if one of its fields is that, name it with --claim '{shown}=FIELD'"
                ),
            }
        }
        Asked::Peer => "asks for the peer, and no request of the log has one; if one of its fields is its SPIFFE identity, name it with --peer FIELD".to_owned(),
        Asked::Header(name) => format!(
            "asks for the header {name}, and no request of the log has it; if one of its fields is that, name it with --header {name}=FIELD"
        ),
        Asked::Duration => "asks for requests in flight, and the log does not say how long requests took; each is replayed as if it had ended at once".to_owned(),
        Asked::Response => "asks for what responses say, and no log has that; each request is replayed at the estimate".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::simulate::log::record::testing::entry;
    use crate::simulate::log::record::{self, Entry};

    fn traffic(requests: &[(&[Part<'_>], u32)]) -> Traffic {
        let mut arena = Vec::new();
        let mut entries = Vec::new();
        for (parts, duration) in requests {
            entries.push(Entry {
                duration: *duration,
                ..entry(arena.len() as u32)
            });
            for part in *parts {
                record::push(&mut arena, *part);
            }
            record::end(&mut arena);
        }
        Traffic {
            entries,
            arenas: vec![arena],
            files: Vec::new(),
        }
    }

    const RESPONSES: &str = "limits.yaml: tenants.acme.limits[0].cost.settle asks for what responses say, and no log has that; each request is replayed at the estimate";

    #[test]
    fn what_no_request_has_is_told_with_the_field_that_asks_for_it() {
        let configuration = json!({
            "tenant": {"from": [
                {"claim": ["realm", "tenant"]}, {"claim": "org"}, {"peer": "spiffe://a/{tenant}"}, {"header": "X-Team", "vouched": true},
                {"header": "x_team"}, {"cookie": "team"}, {"host": "{tenant}.shop"}, {"query": "team"}, {"passedOn": {"peers": []}},
            ]},
            "tiers": {"free": {"limits": [{"name": "rate"}, {"name": "parallel", "concurrent": 2}]}},
            "tenants": {"acme": {"limits": [{"name": "tokens", "cost": {}}]}},
            "routes": [
                {"match": {"path": {"exact": "/"}, "headers": {"x-plan": {"exact": "a"}}}},
                {"match": {"path": {"exact": "/b"}}, "cost": {"header": "x-units"}, "limits": [{"concurrent": 1}]},
            ],
        });
        let claims = [vec!["org".to_owned()]];
        let nothing = traffic(&[(&[Part::Header(b":path", b"/")], 0)]);
        assert_eq!(
            lacking("limits.yaml", &configuration, &claims, &nothing),
            [
                r#"limits.yaml: tenant.from[0].claim asks for the claim ["realm","tenant"], and the log is not said to have it; if one of its fields is that, name it with --claim '["realm","tenant"]=FIELD'"#,
                "limits.yaml: tenant.from[1].claim asks for the claim org, and no request of the log has it",
                "limits.yaml: tenant.from[2].peer asks for the peer, and no request of the log has one; if one of its fields is its SPIFFE identity, name it with --peer FIELD",
                "limits.yaml: tenant.from[3].header asks for the header x-team, and no request of the log has it; if one of its fields is that, name it with --header x-team=FIELD",
                "limits.yaml: tenant.from[4].header asks for the header x_team, and no request of the log has it; if one of its fields is that, name it with --header x_team=FIELD",
                "limits.yaml: tenant.from[5].cookie asks for the header cookie, and no request of the log has it; if one of its fields is that, name it with --header cookie=FIELD",
                "limits.yaml: tenant.from[6].host asks for the header :authority, and no request of the log has it; if one of its fields is that, name it with --header :authority=FIELD",
                "limits.yaml: tenant.from[8].passedOn asks for the header x-tenant-id, and no request of the log has it; if one of its fields is that, name it with --header x-tenant-id=FIELD",
                "limits.yaml: routes[0].match.headers.x-plan asks for the header x-plan, and no request of the log has it; if one of its fields is that, name it with --header x-plan=FIELD",
                "limits.yaml: routes[1].cost.header asks for the header x-units, and no request of the log has it; if one of its fields is that, name it with --header x-units=FIELD",
                "limits.yaml: tiers.free.limits[1].concurrent asks for requests in flight, and the log does not say how long requests took; each is replayed as if it had ended at once",
                RESPONSES,
            ]
        );
        let everything = traffic(&[
            (
                &[
                    Part::Header(b"x_team", b"a"),
                    Part::Header(b"cookie", b"team=a"),
                    Part::Claim(0, b"a"),
                ],
                0,
            ),
            (
                &[
                    Part::Header(b":authority", b"a.shop"),
                    Part::Header(TENANT_ID.as_bytes(), b"a"),
                    Part::Header(b"x-plan", b"b"),
                    Part::Header(b"x-units", b"1"),
                    Part::Peer(b"spiffe://a/b"),
                    Part::Claim(1, b"a"),
                ],
                3,
            ),
        ]);
        let claims = [
            vec!["org".to_owned()],
            vec!["realm".to_owned(), "tenant".to_owned()],
        ];
        assert_eq!(
            lacking("limits.yaml", &configuration, &claims, &everything),
            [RESPONSES]
        );
    }
}
