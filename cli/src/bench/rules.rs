//! Rules for the classifier: ten over headers and one claim, and as many more as one likes for customers by name.
//!
//! Requests are those for which only the last rule holds, so every other one is tried in vain, if it is tried at all.

use serde_json::{Value, json};

/// As many rules are over headers and one claim.
pub(super) const TEN: usize = 10;

/// What a request has, beside what every request has.
pub(super) const HEADERS: [(&str, &str); 6] = [
    ("x-app-version", "4.18.2"),
    ("x-device", "phone"),
    ("x-channel", "app"),
    ("x-beta", "false"),
    ("x-tenant-id", "acme"),
    ("x-tenant-tier", "premium"),
];

/// What its token says: as much as tokens usually do.
pub(super) fn claims() -> Value {
    json!({
        "iss": "https://issuer.example.com",
        "aud": "shop",
        "sub": "alice",
        "iat": 1_780_000_000,
        "exp": 1_780_003_600,
        "tenant": "acme",
        "email": "alice@example.com",
        "groups": ["customers", "newsletter"],
        "plan": "vip",
    })
}

/// As many rules: those over headers and one claim at the end.
pub(super) fn configuration(rules: usize) -> Value {
    let customers = (TEN..rules).map(|number| {
        json!({
            "type": "guest",
            "when": [
                { "claim": { "name": "sub", "exact": format!("customer-{number}") } },
                { "header": { "name": "x-channel", "in": ["app", "web"] } },
            ],
        })
    });
    let header = |name: &str, matches: &str, value: Value| json!({ "header": { "name": name, matches: value } });
    let ten = [
        json!({ "type": "bot", "when": header("user-agent", "suffix", json!("bot")) }),
        json!({ "type": "monitor", "when": header("user-agent", "prefix", json!("probe/")) }),
        json!({ "type": "beta", "when": header("x-beta", "exact", json!("true")) }),
        json!({ "type": "old-app", "when": [
            header("x-app-version", "prefix", json!("3.")),
            header("x-channel", "exact", json!("app")),
        ] }),
        json!({ "type": "preview", "when": header("x-app-version", "suffix", json!("-preview")) }),
        json!({ "type": "kiosk", "when": header("x-device", "in", json!(["kiosk", "till", "wall"])) }),
        json!({ "type": "partner", "when": { "any": [
            header("x-channel", "exact", json!("partner")),
            header("x-partner-id", "present", json!(true)),
        ] } }),
        json!({ "type": "internal", "when": [
            header("x-channel", "exact", json!("office")),
            { "not": header("x-device", "exact", json!("phone")) },
        ] }),
        json!({ "type": "tester", "when": header("x-test-run", "present", json!(true)) }),
        json!({ "type": "vip", "when": [
            { "claim": { "name": "plan", "exact": "vip" } },
            header("x-device", "in", json!(["phone", "tablet", "desktop"])),
        ] }),
    ];
    let all: Vec<Value> = customers.chain(ten).collect();
    json!({
        "default": "standard",
        // Behind a limiter, as it ships.
        "tenant": { "vouched": true },
        "selfAssignable": ["bot", "monitor", "beta", "old-app", "preview", "kiosk", "partner", "internal", "tester"],
        "rules": all,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_takes_them() {
        for number in [TEN, 10_000] {
            let configuration = configuration(number);
            assert_eq!(configuration["rules"].as_array().unwrap().len(), number);
            user_classifier::check(configuration.to_string().as_bytes()).unwrap();
        }
    }
}
