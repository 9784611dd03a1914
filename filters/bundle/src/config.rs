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

use tollgate_common::config::sections;
use tollgate_common::{ConfigError, Problems};
use user_classifier::config::{Compiled, Variable};

use crate::together::{Limiter, overwritten, unfounded};

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
    let environment = user_classifier::config::own_environment;
    check_in(configuration, &environment)
}

/// The same where it is known what the module's environment has.
pub fn check_in(
    configuration: &[u8],
    environment: &dyn Fn(&str) -> Variable,
) -> Result<(), Problems> {
    let checks = Readers {
        limiter: tenant_rate_limit::check,
        classifier: &|section, limited| {
            user_classifier::config::check_section(section, limited, environment)
        },
        metrics: business_metrics::check,
    };
    let mut problems = Problems::default();
    let read = each(configuration, checks, &mut problems);
    if let Some((_, [limiter, classifier, _])) = read {
        // A section with a mistake in it says nothing together with another.
        let limited = limiter.is_some();
        let limiter = limiter.and_then(|section| tenant_rate_limit::Config::parse(section).ok());
        let classifier =
            classifier.and_then(|section| Compiled::read_section(section, limited).ok());
        say(limiter.as_ref(), classifier.as_ref(), &mut problems);
    }
    problems.or(read.map(drop))
}

/// The limits of a configuration (JSON) that are in shadow, each with a sentence on it. None of one that the bundle would refuse.
pub fn shadows(configuration: &[u8]) -> Vec<ConfigError> {
    if check(configuration).is_err() {
        return Vec::new();
    }
    let readers = Readers {
        limiter: |section| Ok(tenant_rate_limit::shadows(section)),
        classifier: &|_, _| Ok(()),
        metrics: |_| Ok(()),
    };
    let read = each(configuration, readers, &mut Problems::default());
    let shadows = read.and_then(|((shadows, ..), _)| shadows);
    let shadows = shadows.unwrap_or_default();
    shadows
        .iter()
        .map(|shadow| shadow.within(LIMITER))
        .collect()
}

/// The first field of a configuration (JSON) for which one of the filters must see bodies.
pub fn reads_bodies(configuration: &[u8]) -> Option<String> {
    let readers = Readers {
        limiter: |section| Ok(tenant_rate_limit::reads_bodies(section)),
        classifier: &|_, _| Ok(()),
        metrics: |section| Ok(business_metrics::reads_bodies(section)),
    };
    let ((limiter, _, metrics), _) = each(configuration, readers, &mut Problems::default())?;
    let within = |section: &str, field: String| ConfigError::new(field, "").within(section).path;
    let limiter = limiter.flatten().map(|field| within(LIMITER, field));
    limiter.or_else(|| metrics.flatten().map(|field| within(METRICS, field)))
}

impl Config {
    /// Reads a configuration (JSON). What is wrong with a section is its filter's, the paths begin with the section.
    pub fn parse(json: &[u8]) -> Result<Self, Problems> {
        let readers = Readers {
            limiter: tenant_rate_limit::Config::parse,
            classifier: &Compiled::read_section,
            metrics: business_metrics::config::compile,
        };
        let mut problems = Problems::default();
        let read = each(json, readers, &mut problems).map(|(read, _)| read);
        let config = read.map(
            |(tenant_rate_limit, user_classifier, business_metrics)| Self {
                tenant_rate_limit,
                user_classifier,
                business_metrics,
            },
        );
        if let Some(config) = &config {
            say(
                config.tenant_rate_limit.as_ref(),
                config.user_classifier.as_ref(),
                &mut problems,
            );
        }
        problems.or(config)
    }
}

/// Tells what is wrong with two sections together.
fn say(
    limiter: Option<&tenant_rate_limit::Config>,
    classifier: Option<&Compiled>,
    problems: &mut Problems,
) {
    // Without a section, a limiter of its own may be in front.
    let (Some(config), Some(classifier)) = (limiter, classifier) else {
        return;
    };
    let limiter = Limiter::alone(config, &|field| format!("{LIMITER}.{field}"));
    let errors = overwritten(classifier, limiter)
        .into_iter()
        .chain(unfounded(classifier, limiter));
    for error in errors {
        let error = error.within(CLASSIFIER);
        problems.tell(error.path, error.message);
    }
}

/// What reads the classifier's section. It is told whether there is a limiter in front.
type ReadClassifier<'r, C> = &'r dyn Fn(&[u8], bool) -> Result<C, Problems>;

/// What reads each of the three sections.
struct Readers<'r, L, C, M> {
    limiter: fn(&[u8]) -> Result<L, Problems>,
    classifier: ReadClassifier<'r, C>,
    metrics: fn(&[u8]) -> Result<M, Problems>,
}

/// The three sections as they are written, if they are there.
type Sections<'a> = [Option<&'a [u8]>; 3];

/// What three readers make of the three sections, if they are there, and these.
#[allow(
    clippy::type_complexity,
    reason = "it is taken apart where it is asked for"
)]
fn each<'a, L, C, M>(
    json: &'a [u8],
    readers: Readers<'_, L, C, M>,
    problems: &mut Problems,
) -> Option<((Option<L>, Option<C>, Option<M>), Sections<'a>)> {
    let sections = sections(json, [LIMITER, CLASSIFIER, METRICS], problems)?;
    if sections == [None; 3] && problems.told().is_empty() {
        problems.tell("", NO_SECTION);
    }
    let [of_limiter, of_classifier, of_metrics] = sections;
    let read = (
        section(LIMITER, of_limiter, readers.limiter, problems),
        section(
            CLASSIFIER,
            of_classifier,
            |section| (readers.classifier)(section, of_limiter.is_some()),
            problems,
        ),
        section(METRICS, of_metrics, readers.metrics, problems),
    );
    Some((read, sections))
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

    /// The errors for a limiter with these sources, what becomes of who has no tenant, and a classifier.
    fn together(from: &str, missing: &str, classifier: &str) -> Vec<String> {
        let json = format!(
            r#"{{"tenantRateLimit": {{"tenant": {{"from": [{from}], "missing": {missing}, "unknown": {{"tier": "free"}}}},
                "tiers": {{"free": {{"unlimited": true}}, "gold": {{"unlimited": true}}}}, "tenants": {{"acme": {{"tier": "gold"}}}}}},
                "userClassifier": {classifier}}}"#
        );
        let told = |result: Result<(), Problems>| {
            let problems = result.err().unwrap_or_default();
            let told = problems.told().iter();
            told.map(ToString::to_string).collect::<Vec<_>>()
        };
        let checked = told(check(json.as_bytes()));
        let parsed = told(Config::parse(json.as_bytes()).map(drop));
        assert_eq!(checked, parsed, "{json}");
        checked
    }

    const PASSED_ON: &str =
        r#"{"passedOn": {"peers": [{"exact": "spiffe://cluster.local/ns/a/sa/b"}]}}"#;

    #[test]
    fn a_limiter_beside_trust_takes_tenants_as_they_are_passed_on() {
        let trust = r#"{"trust": {"peers": [{"exact": "spiffe://cluster.local/ns/a/sa/b"}]}}"#;
        let peer = r#"{"peer": "spiffe://cluster.local/ns/{tenant}/sa/*"}"#;
        for right in [PASSED_ON.to_owned(), format!("{PASSED_ON}, {peer}")] {
            assert_eq!(together(&right, "{}", trust), [""; 0], "{right}");
        }
        for wrong in [r#"{"claim": "tenant"}"#, peer] {
            assert_eq!(
                together(wrong, "{}", trust),
                [
                    "userClassifier.trust: stands beside a limiter that writes anew the tenant that peers pass on \
                     (tenantRateLimit.tenant.from): add a source `passedOn` with these peers there, or leave one of the two out"
                ]
            );
        }
        assert_eq!(
            together(&format!(r#"{PASSED_ON}, {{"query": "t"}}"#), "{}", trust),
            [
                "userClassifier.trust: stands beside a limiter that charges whomever a stranger names by the query parameter t \
                 (tenantRateLimit.tenant.from[1]): leave that source out, or one of the two"
            ]
        );
    }

    #[test]
    fn a_type_does_not_rest_on_a_tenant_whom_clients_choose() {
        let tier = |tier: &str, others: &str| {
            format!(
                r#"{{"default": "standard", {others} "rules": [
                    {{"type": "beta", "when": {{"claim": {{"name": "beta", "boolean": true}}}}}},
                    {{"type": "premium", "when": {{"tier": {tier}}}}}]}}"#
            )
        };
        let gold = tier(r#"{"exact": "gold"}"#, "");
        let claim = r#"{"claim": "tenant"}"#;
        assert_eq!(together(claim, "{}", &gold), [""; 0]);
        for (source, what) in [
            (r#"{"header": "x-tenant-id"}"#, "the header x-tenant-id"),
            (r#"{"host": "{tenant}.shop"}"#, "the host"),
            (r#"{"path": "/{tenant}/**"}"#, "the path"),
            (r#"{"query": "t"}"#, "the query parameter t"),
            (r#"{"cookie": "t"}"#, "the cookie t"),
        ] {
            assert_eq!(
                together(&format!("{claim}, {source}"), "{}", &gold),
                [format!(
                    "userClassifier.rules[1].type: \"premium\" rests on a tenant or a tier, and clients choose their tenant by {what} \
                     (tenantRateLimit.tenant.from[1]): take it from a claim or a peer, write `vouched: true` there if something in front \
                     lets no client name a tenant that is not its own, or write \"premium\" in selfAssignable if anybody may call himself so"
                )]
            );
            let vouched = source.replace('}', r#", "vouched": true}"#);
            let vouched = vouched.replace(r#"{tenant, "vouched": true}"#, "{tenant}");
            assert_eq!(together(&vouched, "{}", &gold), [""; 0], "{vouched}");
            let self_assigned = tier(r#"{"exact": "gold"}"#, r#""selfAssignable": ["premium"],"#);
            assert_eq!(together(source, "{}", &self_assigned), [""; 0]);
        }
    }

    #[test]
    fn a_type_does_not_rest_on_the_tenant_of_whoever_shows_none() {
        let when = |when: &str| {
            format!(r#"{{"default": "standard", "rules": [{{"type": "vip", "when": {when}}}]}}"#)
        };
        let told = |who: &str| {
            [format!(
                "userClassifier.rules[0].type: \"vip\" would be given to whoever shows no tenant, who is {who} \
                 (tenantRateLimit.tenant.missing): ask for another tenant or tier, or write \"vip\" in selfAssignable if anybody may call \
                 himself so"
            )]
        };
        let anonymous = told(r#""anonymous" in the tier "free""#);
        for of_strangers in [
            r#"{"tier": {"in": ["gold", "free"]}}"#,
            r#"{"tenant": {"prefix": "an"}}"#,
            // Strangers, if they only say so.
            r#"[{"tier": {"exact": "free"}}, {"header": {"name": "a", "exact": "b"}}]"#,
            r#"{"any": [{"tier": {"exact": "gold"}}, {"tenant": {"suffix": "s"}}]}"#,
        ] {
            let claim = r#"{"claim": "tenant"}"#;
            assert_eq!(
                together(claim, "{}", &when(of_strangers)),
                anonymous,
                "{of_strangers}"
            );
            // Where they are refused, nobody passes without a tenant.
            assert_eq!(
                together(claim, r#"{"refuse": 401}"#, &when(of_strangers)),
                [""; 0]
            );
        }
        assert_eq!(
            together(
                PASSED_ON,
                r#"{"tenant": "acme"}"#,
                &when(r#"{"tier": {"exact": "gold"}}"#)
            ),
            told(r#""acme" in the tier "gold""#)
        );
        assert_eq!(
            together(
                r#"{"claim": "tenant"}"#,
                r#"{"tenant": "acme"}"#,
                &when(r#"{"tenant": {"exact": "acme"}}"#)
            ),
            told(r#""acme" in the tier "gold""#)
        );
        // What everybody has whom no rule is for.
        let default = when(r#"{"tier": {"in": ["gold", "free"]}}"#).replace("vip", "standard");
        assert_eq!(together(r#"{"claim": "tenant"}"#, "{}", &default), [""; 0]);
        assert_eq!(together(r#"{"header": "a"}"#, "{}", &default), [""; 0]);
        for of_some in [
            r#"{"tier": {"exact": "gold"}}"#,
            // Who asks for nothing but strangers, and for those who are as good as these, means them.
            r#"{"tier": {"exact": "free"}}"#,
            r#"{"tenant": {"exact": "anonymous"}}"#,
            r#"[{"tier": {"exact": "free"}}, {"claim": {"name": "a", "exact": "b"}}]"#,
            r#"[{"tier": {"exact": "free"}}, {"tenant": {"prefix": "acme-"}}]"#,
        ] {
            assert_eq!(
                together(r#"{"claim": "tenant"}"#, "{}", &when(of_some)),
                [""; 0],
                "{of_some}"
            );
        }
    }
}
