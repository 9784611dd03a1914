//! Which of a gateway's counters are about tenants, tiers and classes.
//!
//! Nothing here knows a metric's name. The rule:
//!
//! - A counter of a business-metrics plugin that has neither `when` nor `value` counts every request. Its labels mean what the
//!   configuration says they come from (`from: tenant`, `tier`, `userType`, `status`), whatever they are called.
//! - Where several could tell the tenants (or the classes), the first one that the gateway has counted in tells them.
//! - A request whose `status` is 429 was refused, any other was admitted.
//! - How many were refused in all is what the limiter says (`metrics.refused` of tenant-rate-limit) if it counts.
//!
//! The bundle's sections are read like the plugins of the same name.

use business_metrics::config::FromConfig;
use serde_json::Value;
use tenant_rate_limit::Config as Limits;
use tollgate_mesh::model::Plugin;

use crate::build::variant;

/// The counters to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) requests: Vec<RequestCounter>,
    /// Counters of refused requests.
    pub(crate) refused: Vec<String>,
}

/// A counter of all requests, and what its labels are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestCounter {
    pub(crate) name: String,
    pub(crate) tenant: Option<String>,
    pub(crate) tier: Option<String>,
    pub(crate) class: Option<String>,
    pub(crate) status: Option<String>,
}

impl Counters {
    /// What these plugins declare. Their configurations were accepted; one that cannot be read here declares nothing.
    pub(crate) fn declared(plugins: &[Plugin]) -> Self {
        let sections = |name: &'static str| plugins.iter().filter_map(move |p| section(p, name));
        let requests = sections("business-metrics")
            .filter_map(|section| serde_json::from_value::<business_metrics::Config>(section).ok())
            .flat_map(|config| request_counters(&config))
            .collect();
        let refused = limits(plugins).filter_map(|limits| limits.metrics.refused);
        Self {
            requests,
            refused: refused.collect(),
        }
    }
}

/// The limiters' configurations.
pub(crate) fn limits(plugins: &[Plugin]) -> impl Iterator<Item = Limits> {
    let sections = plugins
        .iter()
        .filter_map(|plugin| section(plugin, "tenant-rate-limit"));
    sections.filter_map(|section| Limits::parse(section.to_string().as_bytes()).ok())
}

/// The configuration that a filter has in a plugin: of its own module, or its section of the bundle.
pub(crate) fn section(plugin: &Plugin, filter: &str) -> Option<Value> {
    let configuration: Value = serde_json::from_str(plugin.configuration.as_deref()?).ok()?;
    let module = variant::plugin(&plugin.module);
    let name = match filter {
        _ if module == filter => return Some(configuration),
        _ if module != "tollgate" => return None,
        "tenant-rate-limit" => "tenantRateLimit",
        "user-classifier" => "userClassifier",
        _ => "businessMetrics",
    };
    configuration.get(name).cloned()
}

fn request_counters(config: &business_metrics::Config) -> Vec<RequestCounter> {
    let every_request = config.metrics.iter();
    let every_request = every_request.filter(|metric| metric.counts_all_requests());
    let counters = every_request.map(|metric| {
        let mut counter = RequestCounter {
            name: metric.name.clone(),
            ..RequestCounter::default()
        };
        for label in &metric.labels {
            let role = match config.labels.get(label).and_then(|label| label.from) {
                Some(FromConfig::Tenant) => &mut counter.tenant,
                Some(FromConfig::Tier) => &mut counter.tier,
                Some(FromConfig::UserType) => &mut counter.class,
                Some(FromConfig::Status) => &mut counter.status,
                _ => continue,
            };
            role.get_or_insert_with(|| label.clone());
        }
        counter
    });
    counters.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use tollgate_mesh::Mesh;
    use tollgate_mesh::api::Objects;

    use super::*;

    /// The plugins of a manifest; they select every proxy, and there is none.
    pub(crate) fn plugins(manifest: &str) -> Vec<Plugin> {
        let objects = Objects::parse(Path::new("plugins.yaml"), manifest).unwrap();
        Mesh::build(objects).unwrap().plugins
    }

    fn plugin(module: &str, configuration: &str) -> String {
        format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {module}, namespace: istio-system}}\n\
             spec:\n  url: oci://example.com/{module}:1\n  pluginConfig: {configuration}\n---\n"
        )
    }

    const LIMITER: &str = "{tenant: {from: [{header: x-customer}], unknown: {tier: free}}, \
         tiers: {free: {limits: [{name: rate, requests: 5, per: 1s}]}}, metrics: {refused: no_total}}";
    const METRICS: &str = "{labels: {customer: {from: tenant, values: [a]}, plan: {from: tier, values: [free]}, \
         code: {from: status}, kind: {from: userType, values: [vip]}}, metrics: [\
         {name: paid_total, when: {status: 2xx}, labels: [customer]}, \
         {name: all_total, labels: [customer, plan, code]}, {name: kinds_total, labels: [kind]}]}";

    fn expected() -> Counters {
        let name = |name: &str| Some(name.to_owned());
        Counters {
            requests: vec![
                RequestCounter {
                    name: "all_total".to_owned(),
                    tenant: name("customer"),
                    tier: name("plan"),
                    class: None,
                    status: name("code"),
                },
                RequestCounter {
                    name: "kinds_total".to_owned(),
                    class: name("kind"),
                    ..RequestCounter::default()
                },
            ],
            refused: vec!["no_total".to_owned()],
        }
    }

    #[test]
    fn labels_mean_what_they_come_from_and_a_metric_with_a_condition_counts_for_nothing() {
        let manifest = plugin("tenant-rate-limit", LIMITER) + &plugin("business-metrics", METRICS);
        assert_eq!(Counters::declared(&plugins(&manifest)), expected());
    }

    #[test]
    fn the_bundle_declares_the_same() {
        let sections = format!("{{tenantRateLimit: {LIMITER}, businessMetrics: {METRICS}}}");
        assert_eq!(
            Counters::declared(&plugins(&plugin("tollgate", &sections))),
            expected()
        );
    }

    #[test]
    fn plugins_of_others_declare_nothing() {
        assert_eq!(
            Counters::declared(&plugins(&plugin("fraud", METRICS))),
            Counters::default()
        );
    }
}
