//! What is compared: the filters, their configurations, and the requests that they get.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use serde_json::{Map, Value, json};
use tollgate_mesh::api::Objects;

use super::load::Requests;
use super::rules;
use crate::workspace::Workspace;

/// What `tollgate bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Case {
    /// Envoy as it is; everything else is compared with it
    NoFilter,
    /// Envoy's own limiter, with a bucket for the tenant
    LocalRateLimit,
    /// A module that does nothing, made with the SDK that our modules are made with
    EmptySdkFilter,
    /// A Lua filter that reads one header
    Lua,
    /// The limiter as shipped; requests of a thousand tenants that it does not list, all admitted
    TenantRateLimit,
    /// The same with a thousandfold limit for one listed tenant, who sends all requests
    #[value(name = "tenant-rate-limit/busy")]
    TenantRateLimitBusy,
    /// As shipped; one listed tenant sends more than it may, and most of it is refused
    #[value(name = "tenant-rate-limit/refused")]
    TenantRateLimitRefused,
    /// The classifier as shipped; requests that its first rule makes VIPs
    UserClassifier,
    /// The classifier with ten rules over headers and one claim; requests for which only the last holds
    #[value(name = "user-classifier/10-rules")]
    TenRules,
    /// The same rules behind 9,990 others, each for a customer by name
    #[value(name = "user-classifier/10000-rules")]
    TenThousandRules,
    /// The metrics as shipped; requests that are counted in one series
    BusinessMetrics,
    /// The same with a number out of the body of each request and one out of each response's; both are JSON of 2 KB
    #[value(name = "business-metrics/bodies")]
    BusinessMetricsBodies,
    /// All three in one module, as shipped; requests as for the limiter
    Tollgate,
    /// The same doing what filters do with bodies of 2 KB: a limit is settled, two numbers are counted
    #[value(name = "tollgate/bodies")]
    TollgateBodies,
    /// The limiter with 1 to 1,000,000 tenants: CPU per request, and memory
    Tenants,
    /// The limiter's memory while millions of invented ids come; takes minutes, so only if it is named
    Flood,
    /// The metrics' memory and series while a million invented values come, of all shapes that are hard to bear; only if it is named
    Values,
}

impl Case {
    /// Its name on the command line and in the figures.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Those whose costs are compared on one Envoy.
    pub(crate) fn is_cost(self) -> bool {
        !matches!(self, Self::Tenants | Self::Flood | Self::Values)
    }

    /// Those that are measured if nothing is named.
    pub(crate) fn by_default() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|case| !matches!(case, Self::Flood | Self::Values))
            .collect()
    }

    /// Those whose filter is a module, of ours or the empty one.
    pub(crate) fn with_modules() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|case| *case == Self::EmptySdkFilter || case.plugin().is_some())
            .collect()
    }

    /// The folder of the plugin, for a case of ours.
    fn plugin(self) -> Option<&'static str> {
        match self {
            Self::TenantRateLimit | Self::TenantRateLimitBusy | Self::TenantRateLimitRefused => {
                Some("tenant-rate-limit")
            }
            Self::UserClassifier | Self::TenRules | Self::TenThousandRules => {
                Some("user-classifier")
            }
            Self::BusinessMetrics | Self::BusinessMetricsBodies => Some("business-metrics"),
            Self::Tollgate | Self::TollgateBodies => Some("tollgate"),
            _ => None,
        }
    }

    /// Whether it reads bodies, for which a plugin has another module.
    fn reads_bodies(self) -> bool {
        self.traffic().body().is_some()
    }

    /// The requests that it gets.
    pub(crate) fn traffic(self) -> Traffic {
        match self {
            Self::TenantRateLimit | Self::Tollgate => Traffic::Everybody,
            Self::BusinessMetrics => Traffic::Known,
            Self::UserClassifier => Traffic::Limited,
            Self::TenRules | Self::TenThousandRules => Traffic::Verified,
            Self::BusinessMetricsBodies | Self::TollgateBodies => Traffic::Bodies,
            _ => Traffic::Acme,
        }
    }

    /// Whether answers with 429 are what it is about.
    pub(crate) fn may_refuse(self) -> bool {
        self == Self::TenantRateLimitRefused
    }
}

/// The requests of a case. Each kind has a baseline of its own, because a proxy reads more headers for more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Traffic {
    /// As it comes from clients, all of one listed tenant.
    Acme,
    /// As it comes from clients, of many tenants that are not listed.
    Everybody,
    /// As the limiter passes it on.
    Limited,
    /// As the classifier passes it on.
    Known,
    /// As the limiter passes on what an app sends for somebody with a token.
    Verified,
    /// As it comes from clients, of many tenants that are not listed, with bodies both ways.
    Bodies,
}

impl Traffic {
    pub(crate) fn requests(self, tenants: u64) -> Requests {
        let tenant = match self {
            Self::Everybody | Self::Bodies => "t-########",
            _ => "acme",
        };
        let all = [
            ("x-user-id", "alice"),
            ("x-tenant-id", tenant),
            ("x-tenant-tier", "premium"),
            ("user-type", "vip"),
        ];
        let headers = match self {
            Self::Acme | Self::Everybody | Self::Bodies => &all[..2],
            Self::Limited => &all[..3],
            Self::Known => &all[..],
            Self::Verified => &rules::HEADERS,
        };
        match self.body() {
            Some(body) => Requests::post("/orders", headers, body, tenants),
            None => Requests::get("/products/7", headers, tenants),
        }
    }

    /// The body of a request, and of the response to it.
    pub(crate) fn body(self) -> Option<&'static str> {
        (self == Self::Bodies).then_some(ORDER)
    }

    /// Whether the proxy needs nothing besides for such requests.
    pub(crate) fn is_plain(self) -> bool {
        self.claims().is_null() && self.body().is_none()
    }

    /// What was found in its token, if there is one.
    pub(crate) fn claims(self) -> Value {
        match self {
            Self::Verified => rules::claims(),
            _ => Value::Null,
        }
    }
}

/// An order of 2 KB. What is read of it comes last.
const ORDER: &str = include_str!("order.json");

/// The filter of a case.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    None,
    /// What Envoy has itself, and the descriptors that it takes.
    Native {
        filter: Value,
        rate_limits: Value,
    },
    Wasm(Wasm),
}

/// A module with its configuration.
#[derive(Clone, Debug)]
pub(crate) struct Wasm {
    /// Its name among the modules that were built.
    pub(crate) module: String,
    /// What the plugin is called in the proxy.
    pub(crate) plugin: String,
    pub(crate) configuration: String,
}

/// The empty filter's module.
pub(crate) const EMPTY_SDK_FILTER: &str = "empty-sdk-filter";

/// What the plugins' manifests say for the gateway, by plugin; but tenants and users are known [by headers](by_headers).
#[derive(Debug)]
pub(crate) struct Shipped(BTreeMap<String, Map<String, Value>>);

impl Shipped {
    pub(crate) fn read(workspace: &Workspace) -> anyhow::Result<Self> {
        let mut configurations = BTreeMap::new();
        for plugin in [
            "tenant-rate-limit",
            "user-classifier",
            "business-metrics",
            "tollgate",
        ] {
            let file = workspace.plugins().join(plugin).join("plugin.yaml");
            let mut configuration = gateway_configuration(&file)?;
            by_headers(&mut configuration)
                .with_context(|| format!("{} cannot be measured", file.display()))?;
            configurations.insert(plugin.to_owned(), configuration);
        }
        Ok(Self(configurations))
    }

    /// What a plugin is told.
    pub(crate) fn configuration(&self, plugin: &str) -> anyhow::Result<Value> {
        let configuration = self
            .0
            .get(plugin)
            .with_context(|| format!("there is no configuration of {plugin}"))?;
        Ok(Value::Object(configuration.clone()))
    }

    /// What stands before the router.
    pub(crate) fn filter(&self, case: Case) -> anyhow::Result<Filter> {
        if let Some(plugin) = case.plugin() {
            let mut configuration = self.configuration(plugin)?;
            match case {
                Case::TenantRateLimitBusy => raise(&mut configuration)?,
                Case::TenRules => configuration = rules::configuration(rules::TEN),
                Case::TenThousandRules => configuration = rules::configuration(10_000),
                Case::BusinessMetricsBodies => count_bodies(&mut configuration)?,
                Case::TollgateBodies => {
                    count_bodies(&mut configuration["businessMetrics"])?;
                    settle(&mut configuration["tenantRateLimit"])?;
                }
                _ => {}
            }
            let suffix = if case.reads_bodies() { "-bodies" } else { "" };
            return Ok(Filter::Wasm(Wasm {
                module: format!("{plugin}{suffix}"),
                plugin: case.name(),
                configuration: configuration.to_string(),
            }));
        }
        Ok(match case {
            Case::EmptySdkFilter => Filter::Wasm(Wasm {
                module: EMPTY_SDK_FILTER.to_owned(),
                plugin: case.name(),
                configuration: String::new(),
            }),
            Case::LocalRateLimit => local_rate_limit(),
            Case::Lua => Filter::Native {
                filter: json!({
                    "name": "envoy.filters.http.lua",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                        "default_source_code": { "inline_string": LUA },
                    },
                }),
                rate_limits: json!([]),
            },
            _ => Filter::None,
        })
    }
}

const LUA: &str = "\
function envoy_on_request(handle)
  local tenant = handle:headers():get('x-tenant-id')
end
";

/// The configuration of the plugin in Istio's root namespace: that is the one at the gateway.
fn gateway_configuration(file: &Path) -> anyhow::Result<Map<String, Value>> {
    let objects = Objects::load(&[file.to_owned()]).map_err(|problems| anyhow!("{problems}"))?;
    objects
        .wasm_plugins
        .into_iter()
        .find(|plugin| plugin.namespace == "istio-system")
        .and_then(|plugin| plugin.spec.plugin_config)
        .with_context(|| {
            format!(
                "{} has no WasmPlugin with a pluginConfig in the namespace istio-system",
                file.display()
            )
        })
}

/// Takes the tenant and the user from headers, where what ships has them from a token: to verify one is Envoy's work, which takes more time
/// than the filters, and whose floor nobody could write.
fn by_headers(configuration: &mut Map<String, Value>) -> anyhow::Result<()> {
    let mut is_bundle = false;
    for section in ["tenantRateLimit", "userClassifier"] {
        if let Some(section) = configuration
            .get_mut(section)
            .and_then(Value::as_object_mut)
        {
            section_by_headers(section)?;
            is_bundle = true;
        }
    }
    if is_bundle {
        return Ok(());
    }
    section_by_headers(configuration)
}

/// Of one filter's configuration: what it does not have, it does not need.
fn section_by_headers(configuration: &mut Map<String, Value>) -> anyhow::Result<()> {
    // That of a classifier says only that a limiter vouches.
    let tenant = configuration.get_mut("tenant");
    if let Some(tenant) = tenant.filter(|tenant| tenant.get("from").is_some()) {
        anyhow::ensure!(
            tenant["from"] == json!([{ "claim": "tenant" }]),
            "tenant.from is not the claim tenant alone, but {}",
            tenant["from"]
        );
        tenant["from"] = json!([{ "header": "x-tenant-id", "vouched": true }]);
    }
    if let Some(rules) = configuration.get_mut("rules").and_then(Value::as_array_mut) {
        let rule = rules.first_mut().context("there are no rules")?;
        let wanted = &rule["when"][0]["claim"];
        anyhow::ensure!(
            wanted["name"] == "sub" && wanted["in"].is_array(),
            "rules[0].when is not on the claim sub, but {}",
            rule["when"]
        );
        rule["when"] = json!([{ "header": { "name": "x-user-id", "in": wanted["in"] } }]);
        let given = rule["type"].clone();
        configuration.insert("selfAssignable".to_owned(), json!([given]));
    }
    Ok(())
}

/// Lets acme send a thousand times as much. It stays as it is in every other respect: a tenant who is listed, with one limit by rate.
fn raise(configuration: &mut Value) -> anyhow::Result<()> {
    let limits = configuration
        .pointer_mut("/tiers/premium/limits")
        .and_then(Value::as_array_mut)
        .context("the shipped configuration has no tier premium with limits")?;
    for limit in limits {
        for field in ["requests", "burst"] {
            if let Some(number) = limit.get(field).and_then(Value::as_u64) {
                limit[field] = json!(number * 1000);
            }
        }
    }
    Ok(())
}

/// Counts a number of each request's body and one of each response's.
fn count_bodies(configuration: &mut Value) -> anyhow::Result<()> {
    let metrics = configuration
        .get_mut("metrics")
        .and_then(Value::as_array_mut)
        .context("the shipped configuration has no metrics")?;
    metrics.extend(["request", "response"].map(|side| {
        json!({
            "name": format!("bench_{side}_cents_total"),
            "value": { format!("{side}Body"): "/totalCents" },
            "labels": ["tenant", "user_type"],
        })
    }));
    Ok(())
}

/// Has requests of the tier that unlisted tenants are in charged for what their responses say.
fn settle(configuration: &mut Value) -> anyhow::Result<()> {
    let limits = configuration
        .pointer_mut("/tiers/free/limits")
        .and_then(Value::as_array_mut)
        .context("the shipped configuration has no tier free with limits")?;
    limits.push(json!({
        "name": "units", "quota": 1_000_000_000, "per": "day",
        "cost": { "estimate": 10, "max": 1_000, "settle": { "json": "/usage/total_tokens" } },
    }));
    Ok(())
}

/// A bucket for each tenant by name, so large that nobody finds it empty, and one for the rest.
fn local_rate_limit() -> Filter {
    let bucket = json!({ "max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s" });
    let always = json!({ "default_value": { "numerator": 100 } });
    let descriptors = ["acme", "globex", "initech"].map(|tenant| {
        json!({ "entries": [{ "key": "tenant", "value": tenant }], "token_bucket": bucket })
    });
    Filter::Native {
        filter: json!({
            "name": "envoy.filters.http.local_ratelimit",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": "bench",
                "token_bucket": bucket,
                "filter_enabled": always,
                "filter_enforced": always,
                "descriptors": descriptors,
            },
        }),
        rate_limits: json!([{ "actions": [{ "request_headers": {
            "header_name": "x-tenant-id", "descriptor_key": "tenant",
        } }] }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cases_have_the_names_of_our_plugins() {
        for (case, name) in [
            (Case::TenantRateLimit, "tenant-rate-limit"),
            (Case::UserClassifier, "user-classifier"),
            (Case::BusinessMetrics, "business-metrics"),
            (Case::Tollgate, "tollgate"),
        ] {
            assert_eq!((case.name().as_str(), case.plugin()), (name, Some(name)));
        }
    }

    #[test]
    fn what_ships_is_what_is_measured() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wasm-plugins");
        let mut configuration =
            gateway_configuration(&plugins.join("tenant-rate-limit/plugin.yaml")).unwrap();
        by_headers(&mut configuration).unwrap();
        let shipped = Shipped(BTreeMap::from([(
            "tenant-rate-limit".to_owned(),
            configuration,
        )]));
        let premium = |case: Case| {
            let Filter::Wasm(wasm) = shipped.filter(case).unwrap() else {
                panic!("{case:?} is no module");
            };
            assert!(tenant_rate_limit::Config::parse(wasm.configuration.as_bytes()).is_ok());
            let configuration: Value = serde_json::from_str(&wasm.configuration).unwrap();
            configuration["tiers"]["premium"]["limits"][0].clone()
        };
        assert_eq!(
            premium(Case::TenantRateLimit),
            json!({ "name": "rate", "requests": 100, "per": "1s", "burst": 200 })
        );
        assert_eq!(
            premium(Case::TenantRateLimitBusy),
            json!({ "name": "rate", "requests": 100_000, "per": "1s", "burst": 200_000 })
        );
    }

    #[test]
    fn who_somebody_is_comes_from_headers_in_both_forms() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wasm-plugins");
        let measured = |plugin: &str| {
            let file = plugins.join(plugin).join("plugin.yaml");
            let mut configuration = gateway_configuration(&file).unwrap();
            by_headers(&mut configuration).unwrap();
            Value::Object(configuration)
        };
        let bundle = measured("tollgate");
        for (plugin, section) in [
            ("tenant-rate-limit", "tenantRateLimit"),
            ("user-classifier", "userClassifier"),
        ] {
            let mut alone = measured(plugin);
            if plugin == "user-classifier" {
                // Of the limiter beside it a bundle knows without being told.
                alone.as_object_mut().unwrap().remove("tenant");
            }
            assert_eq!(alone, bundle[section]);
            assert!(!alone.to_string().contains("claim"), "{alone}");
        }
        user_classifier::check(measured("user-classifier").to_string().as_bytes()).unwrap();
    }
}
