//! The filter against a plain reading of its configuration: generated rules, generated requests, and an interpreter that knows nothing of indexes, of
//! claims as bytes, or of what may be left unread.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use tollgate_host::memory::MemoryHost;
use tollgate_host::{Action, Plugin, Request, Stream};
use user_classifier::UserClassifier;
use user_classifier::condition::Truth;
use user_classifier::config::Compiled;
use user_classifier::filter::explain;

/// A request, as a client, its token, its connection and the clock make it.
#[derive(Clone, Debug)]
struct Asked {
    headers: Vec<(&'static str, &'static str)>,
    path: &'static str,
    method: &'static str,
    authority: &'static str,
    claims: Option<Value>,
    peer: Option<&'static str>,
    source: &'static str,
    /// Hours since 2026-01-01T00:00:00Z, a Thursday.
    hour: u64,
}

impl Asked {
    fn without_what_was_verified(mut self) -> Self {
        self.headers
            .retain(|(name, _)| !name.starts_with("x-tenant"));
        self.claims = None;
        self.peer = None;
        // A client that nobody knows, at a time and a place that it may choose.
        self.source = "192.0.2.1:1";
        self
    }
}

/// What a plain reading of a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    Unclear,
}

fn says(holds: bool) -> Says {
    if holds { Says::Yes } else { Says::No }
}

/// What a request has for what a condition looks at.
enum Found {
    Nothing,
    Unclear,
    Values(Vec<String>),
    Claim(Value),
}

fn of_one(values: Vec<String>) -> Found {
    match values.len() {
        0 => Found::Nothing,
        1 => Found::Values(values),
        _ => Found::Unclear,
    }
}

fn header(asked: &Asked, name: &str) -> Found {
    let all = asked.headers.iter().filter(|(n, _)| *n == name);
    of_one(all.map(|(_, value)| (*value).to_owned()).collect())
}

fn find(kind: &str, condition: &Value, asked: &Asked) -> Found {
    let name = || condition["name"].as_str().unwrap();
    let (path, query) = asked.path.split_once('?').unwrap_or((asked.path, ""));
    match kind {
        "header" => header(asked, name()),
        "userAgent" => header(asked, "user-agent"),
        "tenant" => header(asked, "x-tenant-id"),
        "tier" => header(asked, "x-tenant-tier"),
        "cookie" => {
            let all = asked.headers.iter().filter(|(n, _)| *n == "cookie");
            let pairs = all.flat_map(|(_, value)| value.split("; "));
            of_one(
                pairs
                    .filter_map(|pair| pair.split_once('='))
                    .filter(|(n, _)| *n == name())
                    .map(|(_, value)| value.to_owned())
                    .collect(),
            )
        }
        "query" => of_one(
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .filter(|(n, _)| *n == name())
                .map(|(_, value)| value.to_owned())
                .collect(),
        ),
        // The one odd path there is has two readings.
        "path" if path == "//a" => Found::Values(vec!["//a".to_owned(), "/a".to_owned()]),
        "path" => Found::Values(vec![path.to_owned()]),
        "method" => Found::Values(vec![asked.method.to_owned()]),
        "host" => {
            let host = asked.authority.split(':').next().unwrap();
            Found::Values(vec![host.to_lowercase()])
        }
        "peer" => of_one(asked.peer.map(str::to_owned).into_iter().collect()),
        "claim" => {
            let names = match &condition["name"] {
                Value::Array(names) => names.clone(),
                name => vec![name.clone()],
            };
            let mut found = asked.claims.as_ref();
            for name in names {
                found = found.and_then(|value| value.get(name.as_str().unwrap()));
            }
            match found {
                None | Some(Value::Null) => Found::Nothing,
                Some(value) => Found::Claim(value.clone()),
            }
        }
        other => panic!("{other}"),
    }
}

fn text_passes(condition: &Value, text: &str) -> bool {
    let of = |key: &str| condition[key].as_str();
    if let Some(exact) = of("exact") {
        return text == exact;
    }
    if let Some(prefix) = of("prefix") {
        return text.starts_with(prefix);
    }
    if let Some(suffix) = of("suffix") {
        return text.ends_with(suffix);
    }
    match of("regex") {
        Some("[ab]+") => return !text.is_empty() && text.chars().all(|c| "ab".contains(c)),
        Some(other) => panic!("{other}"),
        None => {}
    }
    if let Value::Array(values) = &condition["in"] {
        return values.iter().any(|value| value == text);
    }
    if let Value::Array(hashes) = &condition["hashes"]["in"] {
        let hash =
            tollgate_common::hashed::to_hex(&tollgate_common::hashed_id("s", text.as_bytes()));
        return hashes.iter().any(|value| *value == hash.as_str());
    }
    condition["present"] == true
}

fn number_passes(condition: &Value, number: f64) -> bool {
    let bound = |key: &str| condition["number"][key].as_f64();
    bound("equals").is_none_or(|bound| number == bound)
        && bound("atLeast").is_none_or(|bound| number >= bound)
        && bound("atMost").is_none_or(|bound| number <= bound)
        && bound("above").is_none_or(|bound| number > bound)
        && bound("below").is_none_or(|bound| number < bound)
}

fn passes(condition: &Value, found: Found) -> Says {
    match found {
        Found::Nothing => Says::No,
        Found::Unclear => Says::Unclear,
        Found::Values(values) => {
            let one = |text: &String| {
                if condition.get("number").is_some() {
                    let digits = !text.is_empty()
                        && text
                            .trim_start_matches('-')
                            .chars()
                            .all(|c| c.is_ascii_digit() || c == '.');
                    return digits
                        && text
                            .parse()
                            .is_ok_and(|number| number_passes(condition, number));
                }
                text_passes(condition, text)
            };
            let outcomes: Vec<bool> = values.iter().map(one).collect();
            if outcomes.iter().all(|outcome| *outcome == outcomes[0]) {
                says(outcomes[0])
            } else {
                Says::Unclear
            }
        }
        Found::Claim(claim) => says(match &claim {
            _ if condition["present"] == true => true,
            Value::String(text) => {
                let keys = ["number", "boolean", "contains"];
                keys.iter().all(|key| condition.get(key).is_none()) && text_passes(condition, text)
            }
            Value::Number(number) => {
                condition.get("number").is_some()
                    && number_passes(condition, number.as_f64().unwrap())
            }
            Value::Bool(value) => condition["boolean"] == *value,
            Value::Array(elements) => {
                condition.get("contains").is_some()
                    && elements
                        .iter()
                        .filter_map(Value::as_str)
                        .any(|text| text_passes(&condition["contains"], text))
            }
            _ => false,
        }),
    }
}

fn percent(condition: &Value, asked: &Asked) -> Says {
    let key = if let Some(claim) = condition.get("claim") {
        match find("claim", &json!({ "name": claim }), asked) {
            Found::Claim(Value::String(text)) => Found::Values(vec![text]),
            _ => Found::Nothing,
        }
    } else if let Some(name) = condition.get("cookie") {
        find("cookie", &json!({ "name": name }), asked)
    } else if let Some(name) = condition.get("header") {
        find("header", &json!({ "name": name }), asked)
    } else {
        find("tenant", condition, asked)
    };
    let Found::Values(keys) = key else {
        return match key {
            Found::Unclear => Says::Unclear,
            _ => Says::No,
        };
    };
    if keys[0].is_empty() {
        return Says::No;
    }
    let salt = condition["salt"].as_str().unwrap();
    let hash = tollgate_common::hashed::hashed_id(salt, keys[0].as_bytes());
    let place = u64::from_be_bytes(hash[..8].try_into().unwrap()) as f64 / 2_f64.powi(64);
    let (share, of) = (
        condition["share"].as_f64().unwrap(),
        condition["outOf"].as_f64().unwrap_or(100.0),
    );
    says(place < share / of)
}

fn holds(condition: &Value, asked: &Asked) -> Says {
    if let Value::Array(conditions) = condition {
        return holds(&json!({ "all": conditions }), asked);
    }
    let (kind, inner) = condition.as_object().unwrap().iter().next().unwrap();
    let each = |inner: &Value| -> Vec<Says> {
        let conditions = inner.as_array().unwrap();
        conditions
            .iter()
            .map(|condition| holds(condition, asked))
            .collect()
    };
    match kind.as_str() {
        "all" => {
            let outcomes = each(inner);
            match () {
                () if outcomes.contains(&Says::No) => Says::No,
                () if outcomes.contains(&Says::Unclear) => Says::Unclear,
                () => Says::Yes,
            }
        }
        "any" => {
            let outcomes = each(inner);
            match () {
                () if outcomes.contains(&Says::Yes) => Says::Yes,
                () if outcomes.contains(&Says::Unclear) => Says::Unclear,
                () => Says::No,
            }
        }
        "not" => match holds(inner, asked) {
            Says::Yes => Says::No,
            Says::No => Says::Yes,
            Says::Unclear => Says::Unclear,
        },
        "source" => {
            let networks = match inner {
                Value::Array(networks) => networks.clone(),
                network => vec![network.clone()],
            };
            let inside = |network: &Value| match network.as_str().unwrap() {
                "10.0.0.0/8" => asked.source.starts_with("10."),
                "10.1.0.0/16" => asked.source.starts_with("10.1."),
                "192.0.2.9" => asked.source.starts_with("192.0.2.9:"),
                other => panic!("{other}"),
            };
            says(networks.iter().any(inside))
        }
        "time" => {
            let (day, hour) = ((asked.hour / 24 + 3) % 7, asked.hour % 24);
            let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let of_days = inner["days"].as_array();
            let hours = match inner["hours"].as_str() {
                None => true,
                Some("09:00-17:00") => (9..17).contains(&hour),
                Some("22:00-06:00") => !(6..22).contains(&hour),
                Some(other) => panic!("{other}"),
            };
            says(hours && of_days.is_none_or(|of| of.iter().any(|name| name == days[day as usize])))
        }
        "percent" => percent(inner, asked),
        kind => passes(inner, find(kind, inner, asked)),
    }
}

/// Texts of few kinds, so that they often meet.
const TEXTS: [&str; 8] = ["a", "b", "ab", "ba", "5", "12", "-3", "1.5"];

fn text_match() -> BoxedStrategy<Value> {
    let text = || select(TEXTS.to_vec());
    prop_oneof![
        4 => text().prop_map(|text| json!({ "exact": text })),
        1 => text().prop_map(|text| json!({ "prefix": text })),
        1 => text().prop_map(|text| json!({ "suffix": text })),
        1 => Just(json!({ "regex": "[ab]+" })),
        2 => subsequence(TEXTS.to_vec(), 1..4).prop_map(|texts| json!({ "in": texts })),
        1 => subsequence(TEXTS.to_vec(), 1..4).prop_map(|texts| {
            let hash = |text: &&str| tollgate_common::hashed::to_hex(&tollgate_common::hashed_id("s", text.as_bytes()));
            json!({ "hashes": { "salt": "s", "in": texts.iter().map(hash).collect::<Vec<_>>() } })
        }),
    ]
    .boxed()
}

fn number() -> impl Strategy<Value = Value> {
    (
        select(vec!["equals", "atLeast", "atMost", "above", "below"]),
        -4_i64..14,
    )
        .prop_map(|(key, bound)| json!({ "number": { key: bound } }))
}

fn any_match() -> BoxedStrategy<Value> {
    prop_oneof![
        6 => text_match(),
        1 => number(),
        1 => Just(json!({ "present": true })),
    ]
    .boxed()
}

fn named(names: Vec<&'static str>, of: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    (select(names), of).prop_map(|(name, mut of)| {
        of["name"] = json!(name);
        of
    })
}

fn kind(kind: &'static str, of: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    of.prop_map(move |of| json!({ kind: of })).boxed()
}

fn literals(values: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let list = values.clone();
    prop_oneof![
        select(values).prop_map(|text| json!({ "exact": text })),
        subsequence(list, 1..3).prop_map(|texts| json!({ "in": texts })),
    ]
}

fn claim() -> impl Strategy<Value = Value> {
    let name = select(vec![json!("c"), json!("d"), json!(["realm", "c"])]);
    let of = prop_oneof![
        4 => any_match(),
        1 => any::<bool>().prop_map(|value| json!({ "boolean": value })),
        1 => text_match().prop_map(|of| json!({ "contains": of })),
    ];
    (name, of).prop_map(|(name, mut of)| {
        of["name"] = name;
        of
    })
}

fn share() -> impl Strategy<Value = Value> {
    let key = select(vec![
        json!({ "claim": "c" }),
        json!({ "cookie": "k" }),
        json!({ "header": "x-a" }),
        json!({ "tenant": true }),
    ]);
    (key, 0_u64..=100, select(vec!["s", "t"])).prop_map(|(mut of, share, salt)| {
        of["share"] = json!(share);
        of["salt"] = json!(salt);
        of
    })
}

fn leaf() -> BoxedStrategy<Value> {
    prop_oneof![
        4 => kind("header", named(vec!["x-a", "x-b"], any_match())),
        2 => kind("cookie", named(vec!["k", "l"], any_match())),
        1 => kind("query", named(vec!["q"], any_match())),
        4 => kind("tenant", literals(vec!["a", "b", "5"])),
        2 => kind("tier", literals(vec!["a", "b"])),
        1 => kind("tenant", Just(json!({ "present": true }))),
        4 => kind("claim", claim()),
        1 => kind("userAgent", any_match()),
        1 => kind("host", literals(vec!["shop", "other"])),
        1 => kind("path", literals(vec!["/a", "/b"])),
        1 => kind("method", literals(vec!["GET", "POST"])),
        2 => kind("peer", literals(vec!["spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/c"])),
        1 => kind("source", select(vec![json!("10.0.0.0/8"), json!(["10.1.0.0/16", "192.0.2.9"])])),
        1 => kind("time", select(vec![
            json!({ "hours": "09:00-17:00" }),
            json!({ "hours": "22:00-06:00", "days": ["mon", "sun"] }),
            json!({ "days": ["thu", "fri"] }),
        ])),
        1 => kind("percent", share()),
    ]
    .boxed()
}

fn condition() -> BoxedStrategy<Value> {
    leaf()
        .prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 1..4).prop_map(|all| json!({ "all": all })),
                vec(inner.clone(), 1..4).prop_map(|any| json!({ "any": any })),
                inner.prop_map(|not| json!({ "not": not })),
            ]
        })
        .boxed()
}

fn when() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => condition(),
        2 => vec(condition(), 1..4).prop_map(Value::from),
        // What an index is made of.
        2 => vec(leaf(), 1..3).prop_map(Value::from),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let value = || select([&TEXTS[..], &["other", ""]].concat());
    let header = prop_oneof![
        3 => (select(vec!["x-a", "x-b"]), value()),
        1 => (Just("user-agent"), value()),
        2 => (Just("x-tenant-id"), select(vec!["a", "b", "5", "z"])),
        1 => (Just("x-tenant-tier"), select(vec!["a", "b", "z"])),
        2 => (Just("cookie"), select(vec!["k=a", "k=b; l=5", "l=12", "k=ab; k=a", "x=1"])),
    ];
    let text = || value().prop_map(|text| json!(text));
    let claim = prop_oneof![
        5 => text(),
        1 => any::<bool>().prop_map(|value| json!(value)),
        1 => (-4_i64..14).prop_map(|number| json!(number)),
        1 => Just(json!(1.5)),
        1 => Just(Value::Null),
        1 => vec(prop_oneof![text(), Just(Value::Null), Just(json!(5))], 0..3).prop_map(Value::from),
    ];
    let claims =
        (claim.clone(), proptest::option::of(claim.clone()), claim).prop_map(|(c, d, inner)| {
            let mut claims = json!({ "c": c, "realm": { "c": inner } });
            if let Some(d) = d {
                claims["d"] = d;
            }
            claims
        });
    let line = (
        select(vec![
            "/a",
            "/b",
            "//a",
            "/a?q=a",
            "/c?q=5&x=1",
            "/b?q=a&q=b",
        ]),
        select(vec!["GET", "POST"]),
        select(vec!["shop", "Shop:80", "other:8080", "third"]),
    );
    let connection = (
        proptest::option::of(select(vec![
            "spiffe://td/ns/a/sa/b",
            "spiffe://td/ns/a/sa/c",
            "spiffe://td/ns/a/sa/d",
        ])),
        select(vec![
            "10.1.2.3:80",
            "10.2.2.3:80",
            "192.0.2.9:1",
            "192.0.2.90:1",
        ]),
        0_u64..400,
    );
    (
        vec(header, 0..6),
        line,
        proptest::option::of(claims),
        connection,
    )
        .prop_map(
            |(headers, (path, method, authority), claims, (peer, source, hour))| Asked {
                headers,
                path,
                method,
                authority,
                claims,
                peer,
                source,
                hour,
            },
        )
}

/// The proxy that is about to show a request.
fn proxy(asked: &Asked) -> MemoryHost {
    let mut host = MemoryHost::new();
    let mut headers = vec![
        (":path", asked.path),
        (":method", asked.method),
        (":authority", asked.authority),
    ];
    headers.extend(&asked.headers);
    host.begin(&headers);
    host.set_time(host.time() + asked.hour * 3_600 * 1_000_000_000);
    host.set_attribute(&["source", "address"], asked.source.as_bytes());
    if let Some(peer) = asked.peer {
        host.set_attribute(&["connection", "mtls"], &[1]);
        host.set_attribute(&["connection", "uri_san_peer_certificate"], peer.as_bytes());
    }
    if let Some(claims) = &asked.claims {
        host.set_claims(claims.clone());
    }
    host
}

fn classify(filter: &UserClassifier, asked: &Asked) -> String {
    let mut host = proxy(asked);
    let mut request = Request::read(&host).unwrap();
    let action = filter.stream().on_request_headers(&mut request, &mut host);
    assert_eq!(action, Action::Continue);
    let given = host.request.first("user-type").unwrap();
    String::from_utf8(given.to_vec()).unwrap()
}

/// The rule that decides, as it is explained.
fn explained(rules: &[Value], asked: &Asked) -> Option<usize> {
    let written: Vec<Value> = rules
        .iter()
        .map(|when| json!({ "type": "t", "when": when }))
        .collect();
    let configuration = json!({ "default": "none", "tenant": { "vouched": true }, "selfAssignable": ["t"], "rules": written });
    let compiled = Compiled::read(configuration.to_string().as_bytes()).unwrap();
    let mut host = proxy(asked);
    let mut request = Request::read(&host).unwrap();
    let (decision, steps) = explain(&compiled, &mut request, &mut host)
        .unwrap()
        .unwrap();
    for step in &steps {
        let outcome = match step.reason.truth {
            Truth::Yes => Says::Yes,
            Truth::No => Says::No,
            Truth::Unclear => Says::Unclear,
        };
        assert_eq!(outcome, holds(&rules[step.rule], asked), "{step:?}");
    }
    assert_eq!(
        steps.len(),
        decision.rule.map_or(rules.len(), |rule| rule + 1)
    );
    decision.rule
}

fn configure(configuration: &Value) -> Result<UserClassifier, String> {
    let json = configuration.to_string();
    UserClassifier::configure(json.as_bytes(), "user-classifier", &mut MemoryHost::new())
}

/// The number in `rules[7]`, of which the text before is cut off.
fn number_after<'a>(text: &'a str, before: &str) -> Option<(usize, &'a str)> {
    let (_, rest) = text.split_once(before)?;
    let (number, rest) = rest.split_once(']')?;
    Some((number.parse().ok()?, rest))
}

/// The rules that are accepted together, and what the refusal of the others claims of a request.
fn accepted(rules: &[Value], asked: &[Asked]) -> (Vec<Value>, UserClassifier) {
    let mut rules: Vec<Value> = rules.to_vec();
    loop {
        let mut configuration = json!({ "default": "none", "tenant": { "vouched": true }, "rules": [], "selfAssignable": [] });
        for (position, when) in rules.iter().enumerate() {
            let name = format!("t{position}");
            configuration["rules"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "type": name, "when": when }));
            configuration["selfAssignable"]
                .as_array_mut()
                .unwrap()
                .push(json!(name));
        }
        let error = match configure(&configuration) {
            Ok(filter) => return (rules, filter),
            Err(error) => error,
        };
        let (position, rest) = number_after(&error, "rules[").unwrap_or_else(|| panic!("{error}"));
        if let Some((earlier, _)) = number_after(rest, "is never reached, because rules[") {
            for asked in asked {
                let both = holds(&rules[position], asked) != Says::Yes
                    || holds(&rules[earlier], asked) == Says::Yes;
                assert!(
                    both,
                    "{error}\n{:?}\n{:?}\n{asked:?}",
                    rules[position], rules[earlier]
                );
            }
        } else if !rest.contains("says the same as rules[") {
            assert!(rest.contains("never holds together with rules["), "{error}");
            // In a branch of an `any` it says nothing of the whole.
            let conjunct = |when: &str| {
                rest.strip_prefix(when)
                    .is_some_and(|rest| rest.split_once("]: ").is_some_and(|(at, _)| at.len() < 3))
            };
            if conjunct(".when[") || conjunct(".when.all[") {
                for asked in asked {
                    assert_ne!(
                        holds(&rules[position], asked),
                        Says::Yes,
                        "{error} {asked:?}"
                    );
                }
            }
        }
        rules.remove(position);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn rules_decide_as_a_plain_reading_of_them_does(rules in vec(when(), 0..40), all in vec(asked(), 8)) {
        let (rules, filter) = accepted(&rules, &all);
        for asked in &all {
            let first = rules.iter().position(|when| holds(when, asked) == Says::Yes);
            let expected = first.map_or("none".to_owned(), |position| format!("t{position}"));
            prop_assert_eq!(classify(&filter, asked), expected, "{:?} of {:#?}", asked, rules);
            prop_assert_eq!(explained(&rules, asked), first);
        }
    }

    #[test]
    fn no_request_wins_by_what_a_client_can_write(rules in vec(when(), 1..12), all in vec(asked(), 24)) {
        // Rules that rest on nothing verified are refused; those that are left never hold for a request without anything verified.
        let rules: Vec<Value> = rules
            .into_iter()
            .filter(|when| {
                let alone = json!({ "default": "none", "tenant": { "vouched": true }, "rules": [{ "type": "vip", "when": when }] });
                configure(&alone).is_ok()
            })
            .collect();
        for asked in all {
            let asked = asked.without_what_was_verified();
            for when in &rules {
                prop_assert_ne!(holds(when, &asked), Says::Yes, "{:?} {:?}", when, asked);
            }
        }
    }
}

#[test]
fn long_lists_are_searched_as_short_ones_are() {
    // Several indexes, and rules between them that have none.
    let mut rules = Vec::new();
    for i in 0..2_000 {
        rules.push(match i % 5 {
            0 => json!([{ "tenant": { "exact": format!("t{i}") } }]),
            1 => json!([{ "header": { "name": "x-user", "in": [format!("u{i}"), "everybody"] } }, { "tenant": { "exact": "tz" } }]),
            2 => json!([{ "claim": { "name": "sub", "exact": format!("s{i}") } }]),
            3 => json!({ "any": [{ "tenant": { "exact": format!("v{i}") } }, { "claim": { "name": "sub", "exact": format!("w{i}") } }] }),
            _ => json!([{ "tenant": { "prefix": format!("p{i}-") } }]),
        });
    }
    let written: Vec<Value> = rules
        .iter()
        .enumerate()
        .map(|(i, when)| json!({ "type": format!("r{i}"), "when": when }))
        .collect();
    let filter =
        configure(&json!({ "default": "none", "tenant": { "vouched": true }, "rules": written }))
            .unwrap();
    let asked = |headers: &[(&'static str, &'static str)], sub: Option<&str>| Asked {
        headers: headers.to_vec(),
        path: "/",
        method: "GET",
        authority: "shop",
        claims: sub.map(|sub| json!({ "sub": sub })),
        peer: None,
        source: "192.0.2.1:1",
        hour: 0,
    };
    for asked in [
        asked(&[("x-tenant-id", "t1995")], None),
        asked(&[("x-tenant-id", "t5")], None),
        asked(&[("x-tenant-id", "p1999-a")], None),
        asked(&[("x-tenant-id", "v1998")], Some("w3")),
        asked(&[("x-tenant-id", "v3")], Some("w1998")),
        asked(&[("x-user", "u1996"), ("x-tenant-id", "tz")], None),
        asked(&[("x-user", "u1996"), ("x-tenant-id", "t1")], None),
        asked(&[("x-user", "everybody")], Some("s1997")),
        asked(&[("x-tenant-id", "t1995")], Some("s2")),
        asked(
            &[("x-tenant-id", "t1995"), ("x-tenant-id", "t1995")],
            Some("s1997"),
        ),
        asked(&[], None),
    ] {
        let first = rules
            .iter()
            .position(|when| holds(when, &asked) == Says::Yes);
        let expected = first.map_or("none".to_owned(), |position| format!("r{position}"));
        assert_eq!(classify(&filter, &asked), expected, "{asked:?}");
    }
}
