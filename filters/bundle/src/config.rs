//! The configuration: a section for each filter, which is that filter's own configuration and is read by its own parser.
//!
//! ```yaml
//! tenantRateLimit:
//!   tenant: {from: [{header: x-tenant-id}], unknown: {tier: free}}
//!   tiers: {free: {limits: [{name: rate, requests: 5, per: 1s}]}}
//! businessMetrics:
//!   metrics: [{name: shop_requests_total}]
//! ```

#[cfg(feature = "schema")]
mod schema;

use tollgate_common::ConfigError;
use tollgate_common::config::sections;
use user_classifier::config::Compiled;

/// A valid configuration: what each filter read of its section.
#[derive(Debug)]
pub struct Config {
    /// The limiter, if it has a section.
    pub tenant_rate_limit: Option<tenant_rate_limit::Config>,
    /// The classifier, likewise.
    pub user_classifier: Option<Compiled>,
    /// The metrics, likewise.
    pub business_metrics: Option<business_metrics::Metrics>,
}

const LIMITER: &str = "tenantRateLimit";
const CLASSIFIER: &str = "userClassifier";
const METRICS: &str = "businessMetrics";

/// Whether the bundle would accept this configuration (JSON); the error says where it is wrong and what to write instead.
pub fn check(configuration: &[u8]) -> Result<(), ConfigError> {
    Config::parse(configuration).map(drop)
}

impl Config {
    /// Reads a configuration (JSON). Errors of a section are its filter's, their paths begin with the section.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let [limiter, classifier, metrics] = sections(json, [LIMITER, CLASSIFIER, METRICS])?;
        let config = Self {
            tenant_rate_limit: section(LIMITER, limiter, tenant_rate_limit::Config::parse)?,
            user_classifier: section(CLASSIFIER, classifier, Compiled::read)?,
            business_metrics: section(METRICS, metrics, business_metrics::config::compile)?,
        };
        match config {
            Self {
                tenant_rate_limit: None,
                user_classifier: None,
                business_metrics: None,
            } => Err(ConfigError::new(
                "",
                "there is no section, write at least one of tenantRateLimit, userClassifier, businessMetrics",
            )),
            config => Ok(config),
        }
    }
}

fn section<T>(
    name: &str,
    written: Option<&[u8]>,
    read: impl FnOnce(&[u8]) -> Result<T, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    let Some(written) = written else {
        return Ok(None);
    };
    read(written)
        .map(Some)
        .map_err(|error| match error.path.as_str() {
            "" => ConfigError::new(name, error.message),
            path => ConfigError::new(format!("{name}.{path}"), error.message),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITER: &str = r#"{"tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "free"}},
        "tiers": {"free": {"limits": [{"name": "rate", "requests": 5, "per": "1s"}]}}}"#;
    const CLASSIFIER: &str = r#"{"default": "standard"}"#;
    const METRICS: &str = r#"{"metrics": [{"name": "requests_total"}]}"#;

    #[test]
    fn every_section_may_be_left_out_but_not_all() {
        for sections in 0..8 {
            let written: Vec<String> = [
                ("tenantRateLimit", LIMITER),
                ("userClassifier", CLASSIFIER),
                ("businessMetrics", METRICS),
            ]
            .iter()
            .enumerate()
            .filter(|(bit, _)| sections & (1 << bit) != 0)
            .map(|(_, (name, section))| format!("{name:?}: {section}"))
            .collect();
            let config = Config::parse(format!("{{{}}}", written.join(", ")).as_bytes());
            let Ok(config) = config else {
                assert_eq!(sections, 0, "{config:?}");
                continue;
            };
            let there = [
                config.tenant_rate_limit.is_some(),
                config.user_classifier.is_some(),
                config.business_metrics.is_some(),
            ];
            assert_eq!(
                there,
                [sections & 1 != 0, sections & 2 != 0, sections & 4 != 0]
            );
        }
    }

    #[test]
    fn errors_say_in_which_section_where_what_and_what_to_write() {
        let limiter_of = |per: &str| LIMITER.replace("\"1s\"", per);
        for (json, expected) in [
            (
                String::new(),
                "there is no section, write at least one of tenantRateLimit, userClassifier, businessMetrics",
            ),
            (
                "[]".to_owned(),
                "a list is given, expected a mapping",
            ),
            (
                r#"{"tenantRatelimit": {}}"#.to_owned(),
                "tenantRatelimit: unknown field \"tenantRatelimit\", expected one of \"tenantRateLimit\", \"userClassifier\", \
                 \"businessMetrics\"",
            ),
            (
                format!(r#"{{"tenantRateLimit": {}}}"#, limiter_of("\"10\"")),
                r#"tenantRateLimit.tiers.free.limits[0].per: "10" is not a duration, write "10s""#,
            ),
            (
                r#"{"userClassifier": {}}"#.to_owned(),
                r#"userClassifier: missing field "default""#,
            ),
            (
                r#"{"userClassifier": null}"#.to_owned(),
                "userClassifier: null is given, expected a mapping",
            ),
            (
                r#"{"businessMetrics": "all"}"#.to_owned(),
                "businessMetrics: \"all\" is given, expected a mapping",
            ),
            // What a parser of the whole would have merged before a section's own parser saw it.
            (
                r#"{"businessMetrics": {"labels": {"a": {"from": "method"}, "a": {"from": "method"}}, "metrics": []}}"#.to_owned(),
                r#"businessMetrics.labels: "a" is given twice, keep one"#,
            ),
            (
                format!(r#"{{"businessMetrics": {METRICS}, "businessMetrics": {METRICS}}}"#),
                r#"duplicate field "businessMetrics""#,
            ),
        ] {
            assert_eq!(check(json.as_bytes()).unwrap_err().to_string(), expected);
        }
    }
}
