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

use tollgate_common::config::{has_field, sections};
use tollgate_common::{ConfigError, Problems};
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

const NO_SECTION: &str =
    "there is no section, write at least one of tenantRateLimit, userClassifier, businessMetrics";

/// Everything for which the bundle would refuse this configuration (JSON): what the filters refuse of their sections, and what is no section.
pub fn check(configuration: &[u8]) -> Result<(), Problems> {
    each(
        configuration,
        tenant_rate_limit::check,
        user_classifier::check,
        business_metrics::check,
    )
    .map(drop)
}

/// The limits of a configuration (JSON) that are in shadow, each with a sentence on it. None of one that the bundle would refuse.
pub fn shadows(configuration: &[u8]) -> Vec<ConfigError> {
    let nothing = |_: &[u8]| Ok(());
    let limiter = |section: &[u8]| Ok(tenant_rate_limit::shadows(section));
    let found = match check(configuration) {
        Ok(()) => each(configuration, limiter, nothing, nothing),
        Err(_) => return Vec::new(),
    };
    let shadows = found.ok().and_then(|(shadows, _, _)| shadows);
    let shadows = shadows.unwrap_or_default();
    shadows
        .iter()
        .map(|shadow| shadow.within(LIMITER))
        .collect()
}

impl Config {
    /// Reads a configuration (JSON). What is wrong with a section is its filter's, the paths begin with the section.
    pub fn parse(json: &[u8]) -> Result<Self, Problems> {
        let (tenant_rate_limit, user_classifier, business_metrics) = each(
            json,
            tenant_rate_limit::Config::parse,
            Compiled::read,
            business_metrics::config::compile,
        )?;
        Ok(Self {
            tenant_rate_limit,
            user_classifier,
            business_metrics,
        })
    }
}

/// What was read of each of the three sections, if it is there.
type Sections<L, C, M> = (Option<L>, Option<C>, Option<M>);

/// What three readers make of the three sections.
fn each<L, C, M>(
    json: &[u8],
    limiter: impl FnOnce(&[u8]) -> Result<L, Problems>,
    classifier: impl FnOnce(&[u8]) -> Result<C, Problems>,
    metrics: impl FnOnce(&[u8]) -> Result<M, Problems>,
) -> Result<Sections<L, C, M>, Problems> {
    let mut problems = Problems::default();
    let names = [LIMITER, CLASSIFIER, METRICS];
    let Some(sections) = sections(json, names, &mut problems) else {
        return problems.or(None);
    };
    if sections == [None; 3] && problems.told().is_empty() {
        problems.tell("", NO_SECTION);
    }
    let [of_limiter, of_classifier, of_metrics] = sections;
    let read = (
        section(LIMITER, of_limiter, limiter, &mut problems),
        section(CLASSIFIER, of_classifier, classifier, &mut problems),
        section(METRICS, of_metrics, metrics, &mut problems),
    );
    // The limiter would write anew what the peer vouches for, and charge tenants for strangers who claim to be theirs.
    if let (Some(_), Some(classifier)) = (of_limiter, of_classifier)
        && has_field(classifier, "trust")
    {
        problems.tell(
            format!("{CLASSIFIER}.trust"),
            format!(
                "stands beside {LIMITER}, which knows tenants by its own sources and believes no peer: leave one of the two out"
            ),
        );
    }
    problems.or(Some(read))
}

fn section<T>(
    name: &str,
    written: Option<&[u8]>,
    read: impl FnOnce(&[u8]) -> Result<T, Problems>,
    problems: &mut Problems,
) -> Option<T> {
    match read(written?) {
        Ok(section) => Some(section),
        Err(found) => {
            problems.add_section(name, found);
            None
        }
    }
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
                r#"{"businessMetrics": {"labels": {"a": {"from": "method"}, "a": {"from": "method"}}, "metrics": [{"name": "x"}]}}"#.to_owned(),
                r#"businessMetrics.labels: "a" is given twice, keep one"#,
            ),
            (
                format!(r#"{{"businessMetrics": {METRICS}, "businessMetrics": {METRICS}}}"#),
                r#""businessMetrics" is given twice, keep one"#,
            ),
        ] {
            assert_eq!(check(json.as_bytes()).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_limiter_and_trust_in_peers_do_not_go_together() {
        let limiter = r#""tenantRateLimit": {"tenant": {"from": [{"claim": "tenant"}], "unknown": {"tier": "free"}},
            "tiers": {"free": {"limits": [{"name": "rate", "requests": 5, "per": "1s"}]}}}"#;
        let classifier = r#""userClassifier": {"trust": {"peers": [{"exact": "spiffe://cluster.local/ns/a/sa/b"}]}}"#;
        let both = format!("{{{limiter}, {classifier}}}");
        let expected = "userClassifier.trust: stands beside tenantRateLimit, which knows tenants by its own sources and believes no peer: leave \
                        one of the two out";
        assert_eq!(check(both.as_bytes()).unwrap_err().to_string(), expected);
        assert_eq!(
            Config::parse(both.as_bytes()).unwrap_err().to_string(),
            expected
        );
        for one in [limiter, classifier] {
            assert_eq!(check(format!("{{{one}}}").as_bytes()), Ok(()));
        }
    }
}
