//! Configurations in which several things are wrong at once: each is told, where it is, and nothing that only comes of it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Value, json};
use tollgate_common::Problems;

/// Something wrong: what to write where (a JSON pointer; `None` takes out what is there), and all that is told of it.
type Mistake = (&'static str, Option<Value>, &'static str);

/// A configuration that is right, and mistakes in it that have nothing to do with each other.
struct Case {
    check: fn(&[u8]) -> Result<(), Problems>,
    right: Value,
    mistakes: Vec<Mistake>,
}

fn limiter() -> Case {
    Case {
        check: tenant_rate_limit::check,
        right: json!({
            "tenant": {
                "from": [{"header": "x-tenant-id"}, {"host": "{tenant}.shop.example.com"}, {"query": "tenant"}],
                "id": {"longest": 32, "characters": "a-z0-9.-", "case": "lower"},
                "missing": {"refuse": 401, "challenge": "Bearer"},
                "unknown": {"tier": "free", "individually": 100},
            },
            "tiers": {
                "free": {"limits": [
                    {"name": "rate", "requests": 5, "per": "1s", "burst": 10},
                    {"name": "daily", "quota": 1000, "per": "day"},
                ]},
                "gold": {"limits": [{"name": "rate", "requests": 50, "per": "1s"}]},
                "internal": {"unlimited": true},
            },
            "total": {"requests": 100, "per": "1s"},
            "tenants": {
                "acme": {"tier": "gold", "weight": 5},
                "acme.eu": {"tier": "free", "limits": [{"name": "daily", "quota": 5, "per": "day"}]},
                "globex": {"tier": "free", "blocked": true},
                "probe": {"tier": "internal"},
            },
            "routes": [
                {"match": {"path": {"prefix": "/health"}}, "exempt": true},
                {"match": {"method": {"exact": "POST"}, "headers": {"x-bulk": {"exact": "1"}}}, "cost": {"query": "n", "min": 1, "max": 9, "default": 2}},
                {"match": {"host": {"suffix": ".example.com"}}, "limits": [
                    {"name": "upload", "quota": 9, "per": "hour"},
                    {"name": "tokens", "quota": 1000, "per": "day", "cost": {"estimate": 10, "max": 100, "settle": {"json": "/usage/total_tokens"}}},
                ]},
                {"match": {}, "cost": 2},
            ],
            "answer": {"status": 429, "retryAfter": {"jitter": 5}, "headers": {"rateLimit": true}},
            "metrics": {"admitted": "admitted_total", "refused": "refused_total"},
        }),
        mistakes: vec![
            (
                "/tenant/from/0/header",
                Some(json!(5)),
                "tenant.from[0].header: 5 is given, expected a string",
            ),
            (
                "/tenant/from/1/hots",
                Some(json!("a")),
                "tenant.from[1].hots: unknown field \"hots\", expected one of \"claim\", \"issuer\", \"peer\", \"passedOn\", \"header\", \"host\", \"path\", \"query\", \"cookie\", \"vouched\"",
            ),
            (
                "/tenant/from/2",
                Some(json!("tenant")),
                "tenant.from[2]: \"tenant\" is given, expected a mapping",
            ),
            (
                "/tenant/id/longest",
                Some(json!("x")),
                "tenant.id.longest: \"x\" is given, expected a whole number, e.g. 100",
            ),
            (
                "/tenant/id/characters",
                Some(json!("A-Z")),
                "tenant.id.characters: \"A-Z\" is not a set of characters that ids may have, write some of a-z0-9._- (a - at the end stands for itself)",
            ),
            (
                "/tenant/id/case",
                Some(json!("keep")),
                "tenant.id.case: unknown variant \"keep\", expected \"lower\" or \"refuse\"",
            ),
            (
                "/tenant/missing/refuse",
                Some(json!(403)),
                "tenant.missing.refuse: 403 does not say that an id is missing, write 401 or 400",
            ),
            (
                "/tenant/unknown/tier",
                None,
                "tenant.unknown: missing field \"tier\"",
            ),
            (
                "/tenant/unknown/individually",
                Some(json!(true)),
                "tenant.unknown.individually: true is given, expected a whole number, e.g. 100",
            ),
            (
                "/tiers/free/limits/0/per",
                Some(json!("1")),
                "tiers.free.limits[0].per: \"1\" is not a duration, write \"1s\"",
            ),
            (
                "/routes/2/limits/1/cost/estimate",
                Some(json!("10")),
                "routes[2].limits[1].cost.estimate: \"10\" is given, expected a whole number, e.g. 100",
            ),
            (
                "/routes/2/limits/1/cost/max",
                Some(json!(0)),
                "routes[2].limits[1].cost.max: 0 is out of range, write 1 to 1000000000",
            ),
            (
                "/routes/2/limits/1/cost/settle/json",
                Some(json!("usage")),
                "routes[2].limits[1].cost.settle.json: \"usage\" is not a JSON pointer: it starts with \"/\", write \"/usage\"",
            ),
            (
                "/tiers/free/limits/0/burst",
                Some(json!(0)),
                "tiers.free.limits[0].burst: 0 lets nobody pass, write at least 1",
            ),
            (
                "/tiers/free/limits/1/quota",
                Some(json!("many")),
                "tiers.free.limits[1].quota: \"many\" is given, expected a whole number, e.g. 100",
            ),
            (
                "/tiers/gold",
                Some(json!("best")),
                "tiers.gold: \"best\" is given, expected a mapping",
            ),
            (
                "/tiers/internal/unlimited",
                Some(json!(false)),
                "tiers.internal.unlimited: false says nothing, leave it out",
            ),
            (
                "/tiers/Silver",
                Some(json!({"blocked": true})),
                "tiers.Silver: \"Silver\" cannot be a tier's name, write 1 to 64 of a-z, 0-9, _ and -, not starting with -, and neither other nor none",
            ),
            (
                "/tenants/acme.eu/limits/0/name",
                Some(json!("weekly")),
                "tenants[\"acme.eu\"].limits[0].name: \"weekly\" is not a limit of its tier free, write one of: rate, daily",
            ),
            (
                "/tenants/globex/blocked",
                Some(json!("no")),
                "tenants.globex.blocked: \"no\" is given, expected true or false",
            ),
            (
                "/tenants/probe/teir",
                Some(json!("gold")),
                "tenants.probe.teir: unknown field \"teir\", expected one of \"tier\", \"limits\", \"unlimited\", \"blocked\", \"weight\"",
            ),
            (
                "/tiers/internal/weight",
                Some(json!(1_001)),
                "tiers.internal.weight: 1001 is out of range, write 1 to 1000",
            ),
            (
                "/total/burst",
                Some(json!(24)),
                "total.burst: 24 is too small to be shared, write at least 25",
            ),
            (
                "/tenants/Initech",
                Some(json!({"tier": "free"})),
                "tenants.Initech: no request has the tenant \"Initech\", because ids are trimmed and lowered, write \"initech\"",
            ),
            (
                "/routes/0/match",
                Some(json!(null)),
                "routes[0].match: null is given, expected a mapping",
            ),
            (
                "/routes/1/match/method",
                Some(json!({"regex": "("})),
                "routes[1].match.method: \"(\" is not a regular expression: found open group without closing ')'",
            ),
            (
                "/routes/1/match/headers/x-bulk/exact",
                Some(json!([])),
                "routes[1].match.headers.x-bulk.exact: a list is given, expected a string",
            ),
            (
                "/routes/1/cost/max",
                Some(json!("x")),
                "routes[1].cost.max: \"x\" is given, expected a whole number, e.g. 100",
            ),
            (
                "/routes/1/cost/default",
                None,
                "routes[1].cost: missing field \"default\"",
            ),
            (
                "/routes/2/limits/0/name",
                Some(json!("rate")),
                "routes[2].limits[0].name: \"rate\" names another limit of the tier free, write another name",
            ),
            (
                "/routes/2/match/host",
                Some(json!({"exact": "Shop"})),
                "routes[2].match.host.exact: \"Shop\" never occurs, because hosts are lowered and have no port here",
            ),
            (
                "/routes/3/cost",
                Some(json!(0)),
                "routes[3].cost: 0 is no cost, write exempt: true for requests that cost nothing",
            ),
            (
                "/answer/status",
                Some(json!(200)),
                "answer.status: 200 is not the status of a refusal, write 400 to 599",
            ),
            (
                "/answer/retryAfter",
                Some(json!("soon")),
                "answer.retryAfter: \"soon\" is given, expected a mapping",
            ),
            (
                "/answer/headers/rateLimit",
                Some(json!("yes")),
                "answer.headers.rateLimit: \"yes\" is given, expected true or false",
            ),
            (
                "/metrics/refused",
                Some(json!("admitted_total")),
                "metrics.refused: \"admitted_total\" is also the name of metrics.admitted, write another name",
            ),
            (
                "/nonsense",
                Some(json!({})),
                "nonsense: unknown field \"nonsense\", expected one of \"tenant\", \"tiers\", \"tenants\", \"total\", \"routes\", \"answer\", \"metrics\"",
            ),
        ],
    }
}

fn metrics() -> Case {
    Case {
        check: business_metrics::check,
        right: json!({
            "labels": {
                "tenant": {"from": "tenant", "values": ["acme", "globex"]},
                "channel": {"header": "x-channel", "values": ["web"]},
                "route": {"from": "route"},
                "status": {"from": "status"},
                "plan": {"claim": ["shop", "plan"], "atMost": 5},
            },
            "routes": ["/orders", "/orders/{userId}"],
            "metrics": [
                {"name": "requests_total", "labels": ["tenant", "route", "status"]},
                {"name": "orders_total", "labels": ["tenant"], "when": {"method": ["POST", "PUT"], "route": "/orders", "status": [201, "5xx"]}},
                {"name": "web_total", "when": {"path": {"exact": "/web"}, "headers": {"x-channel": {"exact": "web"}}}},
                {"name": "revenue_total", "when": {"tenant": ["acme"], "grpcStatus": 0}, "value": {"responseHeader": "x-total", "scale": 100}},
            ],
            "maxSeries": 100,
            "foldedMetric": "folded_total",
            "skippedMetric": "skipped_total",
        }),
        mistakes: vec![
            (
                "/labels/tenant/from",
                Some(json!("claim")),
                "labels.tenant.from: unknown variant \"claim\", expected one of \"tenant\", \"tier\", \"userType\", \"route\", \"status\", \"statusClass\", \"grpcStatus\", \"method\", \"limit\", \"reason\"",
            ),
            (
                "/labels/channel/header",
                Some(json!("x channel")),
                "labels.channel.header: \"x channel\" is not a header's name, write for example \"x-user-id\"",
            ),
            (
                "/labels/channel/values/0",
                Some(json!("none")),
                "labels.channel.values[0]: \"none\" is what no value at all is counted as, take it out",
            ),
            (
                "/labels/status",
                Some(json!([])),
                "labels.status: a list is given, expected a mapping",
            ),
            (
                "/routes/1",
                Some(json!("orders")),
                "routes[1]: \"orders\" is not a path, write \"/orders\"",
            ),
            (
                "/metrics/0/name",
                None,
                "metrics[0]: missing field \"name\"",
            ),
            (
                "/metrics/0/labels/1",
                Some(json!("rout")),
                "metrics[0].labels[1]: \"rout\" is not a label, write one of channel, plan, route, status, tenant, or add it to labels",
            ),
            (
                "/metrics/1/when/method/0",
                Some(json!("post")),
                "metrics[1].when.method[0]: \"post\" is not a method, write for example \"POST\"",
            ),
            (
                "/metrics/1/when/route",
                Some(json!("/carts")),
                "metrics[1].when.route: \"/carts\" is not one of the templates in routes, add it there or use path",
            ),
            (
                "/metrics/1/when/status/1",
                Some(json!("6xx")),
                "metrics[1].when.status[1]: \"6xx\" is not a status, write e.g. 201 or \"2xx\"",
            ),
            (
                "/metrics/2/type",
                Some(json!("summary")),
                "metrics[2].type: unknown variant \"summary\", expected one of \"counter\", \"gauge\", \"histogram\"",
            ),
            (
                "/metrics/2/when/path/exact",
                Some(json!("/web?a")),
                "metrics[2].when.path.exact: \"/web?a\" never matches, because a path starts with a slash and is matched without its query",
            ),
            (
                "/metrics/2/when/headers",
                Some(json!("x-channel")),
                "metrics[2].when.headers: \"x-channel\" is given, expected a mapping",
            ),
            (
                "/labels/plan/claim/1",
                Some(json!("")),
                "labels.plan.claim[1]: \"\" is not a claim's name, write for example \"plan\"",
            ),
            (
                "/labels/plan/atMost",
                Some(json!(-1)),
                "labels.plan.atMost: -1 is given, expected a whole number, e.g. 100",
            ),
            (
                "/metrics/3/when/tenant/0",
                Some(json!("ACME")),
                "metrics[3].when.tenant[0]: \"ACME\" never occurs, because tenants' ids are normalised: write \"acme\"",
            ),
            (
                "/metrics/3/when/grpcStatus",
                Some(json!("OK")),
                "metrics[3].when.grpcStatus: \"OK\" is given, expected the number of a gRPC status, e.g. 14",
            ),
            (
                "/metrics/3/value/scale",
                Some(json!(0)),
                "metrics[3].value.scale: 0 is out of range, write 1 to 1000000000",
            ),
            (
                "/metrics/3/value/responseHeader",
                Some(json!("x total")),
                "metrics[3].value.responseHeader: \"x total\" is not a header's name, write for example \"x-user-id\"",
            ),
            (
                "/skippedMetric",
                Some(json!("skipped-total")),
                "skippedMetric: \"skipped-total\" is not a metric's name, write 1 to 128 of a-z, A-Z, 0-9 and _, not starting with a digit",
            ),
            (
                "/maxSeries",
                Some(json!(0)),
                "maxSeries: 0 is out of range, write 1 to 100000",
            ),
            (
                "/foldedMetric",
                Some(json!(1)),
                "foldedMetric: 1 is given, expected a string",
            ),
        ],
    }
}

fn classifier() -> Case {
    Case {
        check: user_classifier::check,
        right: json!({
            "header": "user-type",
            "default": "standard",
            "tenant": {"vouched": true},
            "selfAssignable": ["beta"],
            "rules": [
                {"type": "vip", "when": [{"claim": {"name": "plan", "exact": "vip"}}], "set": {"requestHeaders": {"x-a": "1"}}},
                {"type": "beta", "when": [{"header": {"name": "x-beta", "exact": "true"}}, {"path": {"prefix": "/b"}}]},
                {"type": "partner", "when": [{"tenant": {"in": ["acme", "globex"]}}]},
                {"type": "premium", "when": [{"tier": {"exact": "premium"}}]},
            ],
        }),
        mistakes: vec![
            (
                "/header",
                Some(json!("x-tenant-id")),
                "header: \"x-tenant-id\" is the tenant-rate-limit filter's own, choose another, for example \"user-type\"",
            ),
            (
                "/default",
                Some(json!(5)),
                "default: 5 is given, expected a string",
            ),
            (
                "/selfAssignable",
                Some(json!(true)),
                "selfAssignable: true is given, expected a list",
            ),
            (
                "/rules/0/type",
                Some(json!("VIP")),
                "rules[0].type: \"VIP\" is not a type, write 1 to 64 of a-z, 0-9, _ and -, not starting with -",
            ),
            (
                "/rules/0/set/requestHeaders/x-a",
                Some(json!([])),
                "rules[0].set.requestHeaders.x-a: a list is given, expected a string",
            ),
            (
                "/rules/1/when/0/header/exact",
                Some(json!(true)),
                "rules[1].when[0].header.exact: true is given, expected a string",
            ),
            (
                "/rules/2/when/0/tenant/in/1",
                Some(json!(7)),
                "rules[2].when[0].tenant.in[1]: 7 is given, expected a string",
            ),
            ("/rules/3/when", None, "rules[3]: missing field \"when\""),
            (
                "/nonsense",
                Some(json!(1)),
                "nonsense: unknown field \"nonsense\", expected one of \"header\", \"default\", \"selfAssignable\", \"stickyKeys\", \"trust\", \"tenant\", \"explain\", \"rules\"",
            ),
        ],
    }
}

impl Case {
    /// Makes some of the mistakes, and compares what is told.
    fn try_some(&self, some: &[Mistake]) -> Result<(), TestCaseError> {
        let mut configuration = self.right.clone();
        for (pointer, value, _) in some {
            let (around, key) = pointer.rsplit_once('/').unwrap();
            match configuration.pointer_mut(around).unwrap() {
                Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone().unwrap(),
                Value::Object(mapping) => match value {
                    Some(value) => drop(mapping.insert(key.to_owned(), value.clone())),
                    None => drop(mapping.remove(key).unwrap()),
                },
                other => panic!("{pointer} is in {other}"),
            }
        }
        let told = match (self.check)(configuration.to_string().as_bytes()) {
            Ok(()) => Vec::new(),
            Err(problems) => problems.told().iter().map(ToString::to_string).collect(),
        };
        let expected: BTreeSet<&str> = some.iter().map(|(_, _, told)| *told).collect();
        prop_assert_eq!(
            told.iter().map(String::as_str).collect::<BTreeSet<_>>(),
            expected
        );
        prop_assert_eq!(told.len(), some.len());
        Ok(())
    }

    fn each_and_all(&self) {
        self.try_some(&[]).unwrap();
        for mistake in &self.mistakes {
            self.try_some(std::slice::from_ref(mistake)).unwrap();
        }
        self.try_some(&self.mistakes).unwrap();
    }
}

fn some(case: Case) -> impl Strategy<Value = Vec<Mistake>> {
    let count = case.mistakes.len();
    subsequence(case.mistakes, 0..=count)
}

#[test]
fn each_mistake_is_told_alone_and_beside_all_others() {
    limiter().each_and_all();
    metrics().each_and_all();
    classifier().each_and_all();
}

#[test]
fn of_a_bundle_the_mistakes_of_every_section_are_told() {
    let configuration = json!({
        "tenantRateLimit": {"tenant": {"from": [{"header": "x-tenant-id"}]}, "tiers": {"acme.eu": {"unlimited": true, "blocked": 5}}},
        "userClassifier": {"default": "Standard", "rules": "none"},
        "businessMetrics": {"metrics": [{"name": "a b", "labels": ["c"]}], "maxSeries": 0},
        "more": {},
    });
    assert_eq!(
        tollgate_bundle::check(configuration.to_string().as_bytes())
            .unwrap_err()
            .to_string(),
        "more: unknown field \"more\", expected one of \"tenantRateLimit\", \"userClassifier\", \"businessMetrics\"\n\
         tenantRateLimit.tenant: missing field \"unknown\"\n\
         tenantRateLimit.tiers[\"acme.eu\"].blocked: 5 is given, expected true or false\n\
         tenantRateLimit.tiers[\"acme.eu\"]: \"acme.eu\" cannot be a tier's name, write 1 to 64 of a-z, 0-9, _ and -, not starting with -, and neither other nor none\n\
         userClassifier.rules: \"none\" is given, expected a list\n\
         userClassifier.default: \"Standard\" is not a type, write 1 to 64 of a-z, 0-9, _ and -, not starting with -\n\
         businessMetrics.maxSeries: 0 is out of range, write 1 to 100000\n\
         businessMetrics.metrics[0].name: \"a b\" is not a metric's name, write 1 to 128 of a-z, A-Z, 0-9 and _, not starting with a digit\n\
         businessMetrics.metrics[0].labels[0]: \"c\" is not a label, write it in labels"
    );
}

proptest! {
    #[test]
    fn of_a_limiter_exactly_the_mistakes_are_told(some in some(limiter())) {
        limiter().try_some(&some)?;
    }

    #[test]
    fn of_metrics_exactly_the_mistakes_are_told(some in some(metrics())) {
        metrics().try_some(&some)?;
    }

    #[test]
    fn of_a_classifier_exactly_the_mistakes_are_told(some in some(classifier())) {
        classifier().try_some(&some)?;
    }
}
