//! The schemas of the plugins' configurations: what is committed is what the types say, and it takes what the filters take.

use std::env;
use std::fs;

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Value, json};

use crate::shipped::{PLUGINS, Plugin};

const COMMITTED: &str = "config.schema.json";

fn written(plugin: &Plugin) -> String {
    format!("{:#}\n", plugin.schema())
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let bless = env::var_os("TOLLGATE_BLESS").is_some();
    for plugin in PLUGINS {
        let path = plugin.folder().join(COMMITTED);
        if bless {
            fs::write(&path, written(&plugin)).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == written(&plugin),
            "wasm-plugins/{}/{COMMITTED} is not what the types say; write it anew with\n\n    \
             TOLLGATE_BLESS=1 cargo test -p tollgate --test plugins schemas\n",
            plugin.name
        );
    }
}

/// A validator.
fn compiled(plugin: &Plugin) -> (Schemas, SchemaIndex) {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.set_default_draft(Draft::V2020_12);
    compiler.add_resource(COMMITTED, plugin.schema()).unwrap();
    let index = compiler.compile(COMMITTED, &mut schemas);
    (schemas, index.unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn the_schemas_take_every_example_and_every_manifest() {
    for plugin in PLUGINS {
        let (schemas, index) = compiled(&plugin);
        for (name, configuration) in plugin.configurations() {
            if let Err(error) = schemas.validate(&configuration, index) {
                panic!("{name}: {error}");
            }
        }
    }
}

/// Mistakes that both the schema and the filter refuse, made in a configuration that both take.
#[test]
fn the_schemas_refuse_typical_mistakes() {
    let limiter = json!({
        "tenant": {"from": [{"header": "x-tenant-id", "vouched": true}], "unknown": {"tier": "free"}},
        "tiers": {"free": {"limits": [{"name": "rate", "requests": 5, "per": "1s"}]}},
    });
    let classifier = json!({
        "default": "standard",
        "tenant": {"vouched": true},
        "rules": [{"type": "premium", "when": [{"tier": {"exact": "premium"}}]}],
    });
    let metrics = json!({
        "labels": {"tenant": {"from": "tenant", "values": ["acme"]}},
        "metrics": [{"name": "requests_total", "labels": ["tenant"], "when": {"status": ["2xx", 404]}}],
    });
    let bundle = json!({"tenantRateLimit": limiter, "userClassifier": classifier, "businessMetrics": metrics});
    let limit = "/tiers/free/limits/0";
    let condition = "/rules/0/when/0";
    let mut tried = 0;
    for (name, good, pointer, edits) in [
        (
            "tenant-rate-limit",
            &limiter,
            "",
            vec![
                ("tier", json!({})),
                ("tiers", json!({})),
                ("tiers", json!([])),
                (
                    "tiers",
                    json!({"Gold": {"limits": [{"name": "rate", "requests": 5, "per": "1s"}]}}),
                ),
                ("tenant", json!({"unknown": {"tier": "free"}, "from": []})),
                ("tenant", json!({"from": [{"header": "x-tenant-id"}]})),
                ("tenants", json!({"ACME": {"tier": "free"}})),
                ("tenants", json!({"acme": "free"})),
                ("metrics", json!({"refused": "shop-refused-total"})),
                (
                    "tenant",
                    json!({"from": [{"path": "/t"}], "unknown": {"tier": "free"}}),
                ),
                (
                    "tenant",
                    json!({"from": [{"header": "a", "cookie": "b"}], "unknown": {"tier": "free"}}),
                ),
                (
                    "tenant",
                    json!({"from": [{"header": "a"}], "unknown": {"tier": "free"}, "missing": {"tenant": "a", "refuse": 401}}),
                ),
                (
                    "tenant",
                    json!({"from": [{"header": "a"}], "unknown": {"tier": "free"}, "missing": {"challenge": "Bearer"}}),
                ),
                ("tiers", json!({"free": {}})),
                (
                    "tiers",
                    json!({"free": {"blocked": true, "unlimited": true}}),
                ),
                ("tiers", json!({"free": {"unlimited": false}})),
                (
                    "tenants",
                    json!({"acme": {"tier": "free", "blocked": true, "unlimited": true}}),
                ),
                ("routes", json!([{"match": {}}])),
                ("routes", json!([{"cost": 5}])),
                ("routes", json!([{"match": {}, "exempt": true, "cost": 5}])),
                ("routes", json!([{"match": {}, "cost": 0}])),
                ("routes", json!([{"match": {}, "cost": {"query": "n"}}])),
                ("routes", json!([{"match": {"path": "/orders"}, "cost": 5}])),
                ("answer", json!({"status": 200})),
                ("answer", json!({"retryAfter": {"jitter": 101}})),
            ],
        ),
        (
            "tenant-rate-limit",
            &limiter,
            limit,
            vec![
                ("name", json!("Rate")),
                ("name", json!(null)),
                ("requests", json!(0)),
                ("requests", json!("5")),
                ("requests", json!(-5)),
                ("requests", json!(5.5)),
                ("quota", json!(5)),
                ("per", json!(10)),
                ("per", json!("10")),
                ("per", json!("30s1m")),
                ("per", json!("day")),
                ("burst", json!(0)),
                ("brust", json!(10)),
            ],
        ),
        (
            "user-classifier",
            &classifier,
            "",
            vec![
                ("header", json!("user type")),
                ("default", json!("")),
                ("rules", json!({})),
                ("selfAssignable", json!(["vip", "vip"])),
                ("stickyKeys", json!([{"id": "a"}])),
                ("stickyKeys", json!([{"id": "a", "secret": "short"}])),
                ("trust", json!({"peers": []})),
                ("rules", json!([{"type": "vip", "when": []}])),
                ("rules", json!([{"type": "vip", "when": {"any": []}}])),
                ("self_assignable", json!(["vip"])),
            ],
        ),
        (
            "user-classifier",
            &classifier,
            condition,
            vec![
                ("tenant", json!({"exact": "acme"})),
                ("tier", json!({})),
                ("tier", json!({"exact": "premium", "prefix": "p"})),
                ("tier", json!({"in": []})),
                ("tier", json!({"present": false})),
                ("tier", json!({"prefix": ""})),
                ("tier", json!("premium")),
            ],
        ),
        (
            "user-classifier",
            &classifier,
            "/rules/0",
            vec![
                ("when", json!({"claim": {"name": "a", "contains": {}}})),
                (
                    "when",
                    json!({"claim": {"name": "a", "exact": "b", "boolean": true}}),
                ),
                ("when", json!({"claim": {"exact": "b"}})),
                (
                    "when",
                    json!({"not": {"tier": {"exact": "a"}, "tenant": {"exact": "b"}}}),
                ),
                (
                    "when",
                    json!({"all": [{"any": [{"tier": {"number": {}}}]}]}),
                ),
                (
                    "when",
                    json!({"tier": {"hashes": {"in": ["0123456789abcdef01234567"]}}}),
                ),
                (
                    "when",
                    json!([{"tier": {"exact": "a"}}, {"time": {"days": ["monday"]}}]),
                ),
                (
                    "when",
                    json!([{"tier": {"exact": "a"}}, {"time": {"from": "today"}}]),
                ),
                (
                    "when",
                    json!([{"tier": {"exact": "a"}}, {"percent": {"share": 10, "salt": "a"}}]),
                ),
                (
                    "when",
                    json!([{"tier": {"exact": "a"}}, {"percent": {"share": 10, "salt": "a", "tenant": true, "cookie": "a"}}]),
                ),
                (
                    "when",
                    json!([{"tier": {"exact": "a"}}, {"percent": {"share": 10, "tenant": true}}]),
                ),
                ("when", json!("always")),
                ("set", json!({})),
                ("sticky", json!({"cookie": "a"})),
                ("sticky", json!({"cookie": "a", "for": 30})),
            ],
        ),
        (
            "business-metrics",
            &metrics,
            "",
            vec![
                ("metrics", json!([])),
                ("metrics", json!([{"name": "requests-total"}])),
                (
                    "metrics",
                    json!([{"name": "requests_total", "type": "summary"}]),
                ),
                ("metrics", json!([{"name": "requests_total", "when": {}}])),
                (
                    "metrics",
                    json!([{"name": "requests_total", "when": {"status": "20x"}}]),
                ),
                (
                    "metrics",
                    json!([{"name": "requests_total", "when": {"status": 42}}]),
                ),
                (
                    "metrics",
                    json!([{"name": "requests_total", "when": {"path": "/orders"}}]),
                ),
                (
                    "labels",
                    json!({"tenant": {"from": "tenants", "values": ["acme"]}}),
                ),
                ("labels", json!({"tenant": {"values": ["acme"]}})),
                ("labels", json!({"1st": {"from": "method"}})),
                ("routes", json!(["orders"])),
                ("maxSeries", json!(0)),
            ],
        ),
        (
            "tollgate",
            &bundle,
            "",
            vec![
                ("tenantRatelimit", json!({})),
                ("userClassifier", json!({})),
                ("businessMetrics", json!(null)),
            ],
        ),
    ] {
        let plugin = PLUGINS.into_iter().find(|plugin| plugin.name == name);
        let plugin = plugin.unwrap();
        let (schemas, index) = compiled(&plugin);
        assert!(schemas.validate(good, index).is_ok(), "{name}");
        let accepts = |configuration: &Value| (plugin.check)(configuration.to_string().as_bytes());
        assert_eq!(accepts(good), Ok(()), "{name}");
        for (field, value) in edits {
            let mut bad = good.clone();
            bad.pointer_mut(pointer).unwrap()[field] = value.clone();
            assert!(accepts(&bad).is_err(), "{name}: {field}: {value}");
            assert!(
                schemas.validate(&bad, index).is_err(),
                "{name}: the schema takes {field}: {value}"
            );
            tried += 1;
        }
    }
    assert_eq!(tried, 85);
}
