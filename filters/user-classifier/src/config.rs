//! The configuration, and what makes it acceptable.
//!
//! ```yaml
//! header: user-type
//! default: standard
//! selfAssignable: [beta]
//! rules:
//! - type: vip
//!   when: [{claim: {name: plan, exact: vip}}]
//! - type: beta
//!   when:
//!     any:
//!     - header: {name: x-beta, exact: "true"}
//!     - percent: {share: 10, cookie: visitor, salt: beta}
//! ```

mod conditions;
mod explain;
mod outputs;
mod reach;
mod trust;
mod vouching;
mod written;

use std::collections::HashSet;

use tollgate_common::config;
use tollgate_common::header::{self, TENANT_ID, TENANT_TIER, USER_TYPE};
use tollgate_common::{NAME_RULE, Problems, StringMatch, is_name};
use tollgate_host::same_name;

use self::conditions::Conditions;
use self::reach::Reach;
use crate::classifier::{Classifier, Outputs, Rule};
use crate::condition::{Condition, Steps, Subject};
use crate::explain::Explain;
use crate::facts::{MAX_SUBJECTS, Subjects};

pub use self::explain::HEADER as EXPLAIN;
pub use self::outputs::{Variable, is_value, own as own_environment};
pub use self::vouching::{Tenants, Unfounded};
pub use self::written::{
    ClaimMatch, ConditionConfig, Config, ExplainConfig, HashesConfig, KeyConfig, NamedMatch,
    NumberConfig, OutputsConfig, PercentConfig, RuleConfig, StickyConfig, TenantConfig, TimeConfig,
    TrustConfig, ValueMatch, When,
};

/// How many rules a configuration may have.
pub const MAX_RULES: usize = 10_000;
/// How many conditions a rule may have, with those within others.
pub const MAX_CONDITIONS: usize = 64;
/// How many conditions a condition may be within.
pub const MAX_DEPTH: usize = 8;
/// How many values an `in` list may have. A manifest of so many is about as large as a cluster takes.
pub const MAX_VALUES: usize = 50_000;
/// How many bytes a value or a pattern may have.
pub const MAX_LENGTH: usize = 256;
/// How many networks a condition may have.
pub const MAX_NETWORKS: usize = 256;
/// How many keys may sign cookies.
pub const MAX_KEYS: usize = 8;
/// How many headers, or properties, a rule may set; and how many request headers all rules together.
pub const MAX_OUTPUTS: usize = 16;

/// What a condition may be.
const CONDITIONS: [&str; 17] = [
    "all",
    "any",
    "not",
    "claim",
    "tenant",
    "tier",
    "peer",
    "source",
    "header",
    "cookie",
    "query",
    "userAgent",
    "host",
    "path",
    "method",
    "time",
    "percent",
];

/// What a match may have.
const KEYS: [&str; 8] = [
    "exact", "prefix", "suffix", "regex", "in", "hashes", "number", "present",
];

/// A configuration that was accepted, ready to run.
#[derive(Debug)]
pub struct Compiled {
    /// The header to write, in lower case.
    pub header: String,
    /// The type where no rule holds; `None` for no header.
    pub default: Option<String>,
    /// The identities whose word counts; `None` where nobody's does.
    pub trusted: Option<Vec<StringMatch>>,
    /// Whether something in front says which tenant a request is of. Else nobody does, but those who are trusted.
    pub vouched: bool,
    /// Whether that is written, be it yes or no.
    pub says_who_vouches: bool,
    /// The request headers that rules set, here or where those who are trusted have them from; in lower case.
    pub set: Vec<String>,
    /// The rules.
    pub classifier: Classifier,
    /// The types that rules may give for what clients can write as they like.
    self_assignable: HashSet<String>,
    /// How many of the subjects are those of rules.
    pub of_rules: usize,
    /// Whom the proxy tells why; `None` for nobody.
    pub explain: Option<Explain>,
}

/// Everything for which a filter would refuse this configuration (JSON).
pub fn check(configuration: &[u8]) -> Result<(), Problems> {
    check_in(configuration, &outputs::own)
}

/// The same where it is known what the module's environment has.
pub fn check_in(
    configuration: &[u8],
    environment: &dyn Fn(&str) -> Variable,
) -> Result<(), Problems> {
    check_section(configuration, false, environment)
}

/// The same for a section of a bundle, `limited` if a limiter has another one there.
pub fn check_section(
    configuration: &[u8],
    limited: bool,
    environment: &dyn Fn(&str) -> Variable,
) -> Result<(), Problems> {
    config::check(configuration, |config, problems| {
        compile(config, limited, environment, problems)
    })
}

impl Compiled {
    /// Reads and compiles a configuration (JSON).
    pub fn read(configuration: &[u8]) -> Result<Self, Problems> {
        Self::read_section(configuration, false)
    }

    /// The same for a section of a bundle, `limited` if a limiter has another one there, which vouches for tenants without being asked.
    pub fn read_section(configuration: &[u8], limited: bool) -> Result<Self, Problems> {
        config::read(configuration, |config, problems| {
            compile(config, limited, &outputs::own, problems)
        })
    }
}

/// Checks what the types alone can't, and compiles the rules.
fn compile(
    config: Config,
    limited: bool,
    environment: &dyn Fn(&str) -> Variable,
    problems: &mut Problems,
) -> Option<Compiled> {
    let Config {
        header,
        default,
        self_assignable,
        sticky_keys,
        trust,
        tenant,
        explain,
        rules,
    } = config;
    let header = own_header(&header, "header", USER_TYPE, problems);
    match &default {
        Some(default) => user_type(default, "default", problems),
        None if trust.is_some() => {}
        None => problems.tell("", "missing field \"default\""),
    }
    let mut assignable = HashSet::new();
    for (i, name) in self_assignable.iter().enumerate() {
        let path = format!("selfAssignable[{i}]");
        user_type(name, &path, problems);
        if !assignable.insert(name.as_str()) {
            problems.tell(path, format!("\"{name}\" is there twice, take one out"));
        }
    }
    let at_gateway = trust.is_none();
    if tenant.is_some() && trust.is_some() {
        problems.tell(
            "tenant",
            "stands beside trust, which says whose word on tenants counts: take it out",
        );
    }
    let vouched = tenant.as_ref().map_or(limited, |tenant| tenant.vouched);
    let keys = outputs::keys(sticky_keys, environment, problems);
    let mut set = set_headers(&rules, problems);
    let trusted = trust.map(|trust| trust::trust(trust, header.as_deref(), &mut set, problems));
    let explain = explain.map(|explain| explain::Named::of(explain, problems));
    let of_explain = explain.iter().filter_map(|explain| explain.header.as_ref());
    let own = header.iter().chain(&set).chain(of_explain);
    let own: Vec<String> = own.cloned().collect();
    let mut conditions = Conditions {
        subjects: Subjects::default(),
        own: &own,
        steps: Steps::default(),
    };
    bounded(rules.len(), MAX_RULES, "rules", "rules", problems)?;
    let mut compiled: Vec<Rule> = Vec::with_capacity(rules.len());
    let mut reach = Reach::default();
    let count = rules.len();
    let mut sound = true;
    let surroundings = Surroundings {
        at_gateway,
        self_assignable: &assignable,
        default: default.as_deref(),
        header: header.as_deref(),
        keys: keys.as_ref(),
    };
    for (i, rule) in rules.into_iter().enumerate() {
        let path = format!("rules[{i}]");
        let Some(rule) = compile_rule(rule, &path, &surroundings, &mut conditions, problems) else {
            sound = false;
            continue;
        };
        // Positions are those of the configuration as long as nothing was left out, and conditions those of the author.
        sound = sound && problems.intact(&path);
        if sound && let Some(earlier) = reach.earlier(&compiled, &rule, &mut conditions.steps) {
            problems.tell(
                path,
                format!(
                    "is never reached, because rules[{earlier}] holds whenever it does; move it before rules[{earlier}] or take it out"
                ),
            );
        }
        compiled.push(rule);
    }
    if at_gateway && !vouched && sound {
        for (i, rule) in compiled.iter().enumerate() {
            let path = format!("rules[{i}].when");
            of_nobodys_tenants(&rule.condition, &path, &conditions.subjects, problems);
        }
    }
    let of_rules = conditions.subjects.count();
    let explain = explain.map(|explain| {
        let beside = explain::Beside {
            header: header.as_deref(),
            set: &set,
            rules: &compiled,
            at_gateway,
        };
        let explain = explain.compile(&beside, &mut conditions, problems);
        if let Some(explain) = explain.as_ref().filter(|_| at_gateway && !vouched) {
            of_nobodys_tenants(
                &explain.condition,
                "explain.when",
                &conditions.subjects,
                problems,
            );
        }
        explain
    });
    bounded(
        conditions.subjects.count(),
        MAX_SUBJECTS,
        "rules",
        "different things to look at (headers, cookies, claims …)",
        problems,
    )?;
    if compiled.len() < count {
        return None;
    }
    keys.as_ref()?;
    Some(Compiled {
        header: header.clone()?,
        default,
        set,
        trusted: match trusted {
            Some(peers) => Some(peers?),
            None => None,
        },
        vouched,
        says_who_vouches: tenant.is_some(),
        classifier: Classifier::new(conditions.subjects, compiled),
        self_assignable: self_assignable.into_iter().collect(),
        of_rules,
        explain: match explain {
            Some(explain) => Some(explain?),
            None => None,
        },
    })
}

/// Tells rules that ask for tenants where nobody says which tenant a request is of.
fn of_nobodys_tenants(
    condition: &Condition,
    path: &str,
    subjects: &Subjects,
    problems: &mut Problems,
) {
    let tests = [true, false].map(|outcome| condition.tests(outcome));
    let tested = tests.iter().flatten().map(|(subject, _)| *subject);
    let shared = condition.shares().into_iter().map(|share| share.of);
    let mut asked = tested.chain(shared).filter_map(|at| subjects.get(at));
    if asked.any(|subject| matches!(subject, Subject::Tenant | Subject::Tier)) {
        problems.tell(
            path,
            "asks for a tenant or a tier, and x-tenant-id and x-tenant-tier are taken away here: write `tenant: {vouched: true}` if \
             tenant-rate-limit runs in front",
        );
    }
}

/// The name of a header that the filter is to own, in lower case; `example` is one that it could be.
fn own_header(name: &str, path: &str, example: &str, problems: &mut Problems) -> Option<String> {
    let name = problems.take(header::name(name, path))?;
    if same(&name, TENANT_ID) || same(&name, TENANT_TIER) {
        return problems.refuse(
            path,
            format!(
                "\"{name}\" is the tenant-rate-limit filter's own, choose another, for example \"{example}\""
            ),
        );
    }
    if outputs::is_taken(&name) {
        return problems.refuse(
            path,
            format!(
                "\"{name}\" has a meaning of its own, choose another, for example \"{example}\""
            ),
        );
    }
    Some(name)
}

/// The request headers that rules set.
fn set_headers(rules: &[RuleConfig], problems: &mut Problems) -> Vec<String> {
    let mut set: Vec<String> = Vec::new();
    let outputs = rules.iter().filter_map(|rule| rule.set.as_ref());
    for name in outputs.flat_map(|outputs| outputs.request_headers.keys()) {
        let name = name.to_ascii_lowercase();
        if !set.contains(&name) && set.len() <= MAX_OUTPUTS {
            set.push(name);
        }
    }
    bounded(
        set.len(),
        MAX_OUTPUTS,
        "rules",
        "different headers to set",
        problems,
    );
    for (i, name) in set.iter().enumerate() {
        if let Some(other) = set.iter().take(i).find(|other| same(other, name)) {
            problems.tell(
                "rules",
                format!(
                    "\"{other}\" and \"{name}\" are one header to some servers, write it in one way"
                ),
            );
        }
    }
    set
}

/// What a rule is compiled with.
struct Surroundings<'a> {
    at_gateway: bool,
    self_assignable: &'a HashSet<&'a str>,
    default: Option<&'a str>,
    header: Option<&'a str>,
    keys: Option<&'a std::rc::Rc<[crate::sticky::Key]>>,
}

fn compile_rule(
    rule: RuleConfig,
    path: &str,
    surroundings: &Surroundings<'_>,
    conditions: &mut Conditions<'_>,
    problems: &mut Problems,
) -> Option<Rule> {
    let RuleConfig {
        user_type: name,
        when,
        set,
        sticky,
    } = rule;
    user_type(&name, &format!("{path}.type"), problems);
    let of_when = format!("{path}.when");
    if matches!(&when, When::All(conditions) if conditions.is_empty()) {
        let instead = match is_name(&name) {
            true => format!("default: {name}"),
            false => "default".to_owned(),
        };
        return problems.refuse(
            of_when,
            format!(
                "is empty and would hold for everybody, write `{instead}` instead of this rule"
            ),
        );
    }
    let says_more = set.is_some() || sticky.is_some();
    let of_set = format!("{path}.set");
    let outputs = match &set {
        Some(set) => outputs::outputs(set, &of_set, surroundings.header, problems),
        None => Some(Outputs::default()),
    };
    let condition = conditions.when(when, &of_when, problems)?;
    let sticky = match sticky {
        Some(sticky) => Some(outputs::sticky(
            sticky,
            &format!("{path}.sticky"),
            &name,
            &condition,
            surroundings.keys,
            conditions,
            problems,
        )?),
        None => None,
    };
    let grounds = vouching::Grounds {
        subjects: &conditions.subjects,
        at_gateway: surroundings.at_gateway,
        tenants: Tenants::Vouched,
    };
    // What everybody has for whom no rule holds needs no ground, if the rule says nothing else.
    let gives_default = !says_more && surroundings.default == Some(name.as_str());
    if is_name(&name)
        && surroundings.default.is_none_or(is_name)
        && ["default", "selfAssignable", "trust"]
            .iter()
            .all(|field| problems.as_written(field, ""))
        && problems.intact(&of_when)
        && !surroundings.self_assignable.contains(name.as_str())
        && !gives_default
        && let Some(weak) = grounds.missing(&condition)
    {
        problems.tell(
            format!("{path}.type"),
            format!(
                "\"{name}\" would be given for what clients can write as they like: add a condition on a claim, a tenant, a tier, a peer or \
                 a source, or write \"{name}\" in selfAssignable if anybody may call himself so{weak}"
            ),
        );
    }
    Some(Rule {
        user_type: name,
        condition,
        outputs: outputs?,
        sticky: sticky.map(Box::new),
    })
}

fn user_type(name: &str, path: &str, problems: &mut Problems) {
    if !is_name(name) {
        problems.tell(path, format!("{name:?} is not a type, {NAME_RULE}"));
    }
}

/// Whether two names are the same header to some server.
fn same(a: &str, b: &str) -> bool {
    same_name(a.as_bytes(), b.as_bytes())
}

/// Tells more than `limit` of anything: `what` is their name.
fn bounded(
    count: usize,
    limit: usize,
    path: &str,
    what: &str,
    problems: &mut Problems,
) -> Option<()> {
    problems.take(tollgate_common::at_most(count, limit, path, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration of the shop's gateway.
    const SHOP: &str = r#"{
        "header": "user-type",
        "default": "standard",
        "tenant": {"vouched": true},
        "selfAssignable": ["vip"],
        "rules": [
            {"type": "vip", "when": [{"header": {"name": "x-user-id", "in": ["alice", "bob"]}}]},
            {"type": "premium", "when": [{"tier": {"exact": "premium"}}]}
        ]
    }"#;

    fn error(json: &str) -> String {
        check(json.as_bytes()).unwrap_err().to_string()
    }

    /// The error for these conditions of a rule that may give its type to anybody.
    fn condition_error(when: &str) -> String {
        error(&format!(
            r#"{{"default": "standard", "tenant": {{"vouched": true}}, "selfAssignable": ["vip"], "rules": [{{"type": "vip", "when": [{when}]}}]}}"#
        ))
    }

    /// The error for these rules, any of which may give its type to anybody.
    fn rules_error(rules: &str) -> String {
        error(&format!(
            r#"{{"default": "standard", "tenant": {{"vouched": true}}, "selfAssignable": ["vip", "beta", "partner"], "rules": [{rules}]}}"#
        ))
    }

    #[test]
    fn rules_ask_for_tenants_where_somebody_vouches_for_them() {
        let config = |field: &str, when: &str| {
            format!(
                r#"{{"default": "standard", {field} "selfAssignable": ["vip"], "rules": [
                    {{"type": "vip", "when": {{"path": {{"exact": "/"}}}}}}, {{"type": "vip", "when": {when}}}]}}"#
            )
        };
        let told = "rules[1].when: asks for a tenant or a tier, and x-tenant-id and x-tenant-tier are taken away here: write `tenant: {vouched: \
                    true}` if tenant-rate-limit runs in front";
        for when in [
            r#"{"tier": {"exact": "gold"}}"#,
            r#"{"not": {"tenant": {"exact": "acme"}}}"#,
            r#"{"any": [{"method": {"exact": "PUT"}}, {"tier": {"exact": "gold"}}]}"#,
            r#"{"percent": {"share": 10, "salt": "s", "tenant": true}}"#,
        ] {
            for (field, limited) in [("", false), (r#""tenant": {"vouched": false},"#, true)] {
                let config = config(field, when);
                assert_eq!(error(&config), told, "{config}");
                // In a bundle a limiter vouches by being there, unless that is denied.
                let of_bundle = check_section(config.as_bytes(), true, &outputs::own);
                assert_eq!(
                    of_bundle.err().map(|problems| problems.to_string()),
                    limited.then(|| told.to_owned())
                );
                let of_bundle = check_section(config.as_bytes(), false, &outputs::own).unwrap_err();
                assert_eq!(of_bundle.to_string(), told);
            }
            let trust = r#""trust": {"peers": [{"exact": "spiffe://td/ns/a/sa/b"}]},"#;
            for field in [r#""tenant": {"vouched": true},"#, trust] {
                assert_eq!(check(config(field, when).as_bytes()), Ok(()));
            }
            let both = format!(r#"{trust} "tenant": {{"vouched": true}},"#);
            assert_eq!(
                error(&config(&both, when)),
                "tenant: stands beside trust, which says whose word on tenants counts: take it out"
            );
        }
        // Nor who may ask why.
        let explain = |field: &str| {
            format!(
                r#"{{"default": "standard", {field} "explain": {{"when": [{{"claim": {{"name": "a", "exact": "b"}}}}, {{"tier": {{"exact": "gold"}}}}]}}}}"#
            )
        };
        assert_eq!(
            error(&explain("")),
            told.replace("rules[1].when", "explain.when")
        );
        let vouched = explain(r#""tenant": {"vouched": true},"#);
        assert_eq!(check(vouched.as_bytes()), Ok(()));
        assert_eq!(
            error(r#"{"default": "standard", "tenant": {}}"#),
            "tenant: missing field \"vouched\""
        );
    }

    #[test]
    fn the_shops_configuration_is_accepted() {
        assert_eq!(check(SHOP.as_bytes()), Ok(()));
    }

    #[test]
    fn the_header_defaults_to_user_type() {
        let compiled = Compiled::read(br#"{"default": "standard"}"#).unwrap();
        assert_eq!(compiled.header, "user-type");
        let compiled = Compiled::read(br#"{"default": "standard", "header": "X-Class"}"#).unwrap();
        assert_eq!(compiled.header, "x-class");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (json, expected) in [
            ("", r#"missing field "default""#),
            (
                r#"{"default": 1}"#,
                "default: 1 is given, expected a string",
            ),
            (
                r#"{"default": "standard", "rule": []}"#,
                r#"rule: unknown field "rule", expected one of "header", "default", "selfAssignable", "stickyKeys", "trust", "tenant", "explain", "rules""#,
            ),
            (
                r#"{"default": "standard", "tenant": {"vouched": true}, "rules": [["vip", []]]}"#,
                "rules[0]: a list is given, expected a mapping",
            ),
            (
                r#"{"default": "standard", "tenant": {"vouched": true}, "rules": [{"type": "vip", "when": [[null, {"exact": "acme"}, null]]}]}"#,
                "rules[0].when[0]: a list is given, expected a mapping",
            ),
            (
                r#"{"default": "standard", "tenant": {"vouched": true}, "rules": [{"when": [{"tier": {"present": true}}]}]}"#,
                r#"rules[0]: missing field "type""#,
            ),
            (
                r#"{"default": "standard", "tenant": {"vouched": true}, "rules": [{"type": "vip"}]}"#,
                r#"rules[0]: missing field "when""#,
            ),
            (
                r#"{"default": "standard", "tenant": {"vouched": true}, "rules": [{"type": "vip", "when": [{"cookies": {}}]}]}"#,
                r#"rules[0].when[0].cookies: unknown field "cookies", expected one of "all", "any", "not", "claim", "tenant", "tier", "peer", "source", "header", "cookie", "query", "userAgent", "host", "path", "method", "time", "percent""#,
            ),
            (
                r#"{"default": "standard", "default": "vip"}"#,
                r#""default" is given twice, keep one"#,
            ),
        ] {
            assert_eq!(error(json), expected, "{json}");
        }
    }

    #[test]
    fn types_are_names() {
        let rule = "write 1 to 64 of a-z, 0-9, _ and -, not starting with -";
        assert_eq!(
            error(r#"{"default": "Gold User"}"#),
            format!(r#"default: "Gold User" is not a type, {rule}"#)
        );
        assert_eq!(
            error(r#"{"default": ""}"#),
            format!(r#"default: "" is not a type, {rule}"#)
        );
        assert_eq!(
            error(r#"{"default": "standard", "selfAssignable": ["vip\n"]}"#),
            format!(r#"selfAssignable[0]: "vip\n" is not a type, {rule}"#)
        );
        assert_eq!(
            rules_error(r#"{"type": "VIP", "when": [{"tier": {"present": true}}]}"#),
            format!(r#"rules[0].type: "VIP" is not a type, {rule}"#)
        );
        assert_eq!(
            error(r#"{"default": "standard", "selfAssignable": ["vip", "vip"]}"#),
            r#"selfAssignable[1]: "vip" is there twice, take one out"#
        );
    }

    #[test]
    fn the_header_is_one_that_a_filter_may_own() {
        for (name, expected) in [
            (
                "",
                r#"header: "" is not a header's name, write for example "x-user-id""#,
            ),
            (
                "user type",
                r#"header: "user type" is not a header's name, write for example "x-user-id""#,
            ),
            (
                ":path",
                r#"header: ":path" is not a header here but a part of the request line, write a header's name"#,
            ),
            (
                "Host",
                r#"header: "Host" is not a header here but a part of the request line, write a header's name"#,
            ),
            (
                "X_Tenant-Id",
                r#"header: "x_tenant-id" is the tenant-rate-limit filter's own, choose another, for example "user-type""#,
            ),
        ] {
            assert_eq!(
                error(&format!(r#"{{"default": "standard", "header": "{name}"}}"#)),
                expected
            );
        }
    }

    #[test]
    fn who_may_ask_why_is_known_by_something_verified() {
        let claim = r#"{"claim": {"name": "groups", "contains": {"exact": "platform"}}}"#;
        let header = r#"{"header": {"name": "x-debug", "exact": "1"}}"#;
        let tenant = r#"{"tenant": {"exact": "acme"}}"#;
        let source = r#"{"source": "10.0.0.0/8"}"#;
        let anybody = "explain.when: would hold for what clients can write as they like, and tell anybody how rules decide: add a condition on \
                       a claim, a peer or a source";
        let at_gateway = |explain: &str| {
            let rules = r#"[{"type": "beta", "when": {"claim": {"name": "beta", "boolean": true}},
                "set": {"requestHeaders": {"x-asked": "1"}, "responseHeaders": {"x-served": "beta"}}}]"#;
            let config = format!(
                r#"{{"default": "standard", "tenant": {{"vouched": true}}, "explain": {explain}, "rules": {rules}}}"#
            );
            check(config.as_bytes()).map_err(|error| error.to_string())
        };
        let when = |when: &str| at_gateway(&format!(r#"{{"when": {when}}}"#));
        for accepted in [
            claim,
            source,
            &format!("[{header}, {claim}]"),
            &format!(r#"{{"any": [{source}, {claim}]}}"#),
        ] {
            assert_eq!(when(accepted), Ok(()), "{accepted}");
        }
        for refused in [
            header,
            // Whether a client can choose its tenant is the limiter's affair.
            tenant,
            &format!(r#"{{"any": [{header}, {claim}]}}"#),
            &format!(r#"{{"not": {claim}}}"#),
            r#"{"time": {"days": ["mon"]}}"#,
            // Every service of the mesh is somebody, and so is everybody on the internet.
            r#"{"peer": {"present": true}}"#,
            r#"{"source": "2000::/3"}"#,
            r#"{"source": ["3000::/4", "2000::/4"]}"#,
            // All but the private ones of the lower half.
            r#"{"source": ["0.0.0.0/5", "8.0.0.0/7", "11.0.0.0/8", "12.0.0.0/6", "16.0.0.0/4", "32.0.0.0/3", "64.0.0.0/2", "128.0.0.0/1"]}"#,
            r#"{"any": [{"source": "0.0.0.0/1"}, {"source": "128.0.0.0/1"}]}"#,
            &format!(r#"{{"any": [{claim}, {{"source": ["10.0.0.0/8", "2000::/3"]}}]}}"#),
        ] {
            assert_eq!(when(refused), Err(anybody.to_owned()), "{refused}");
        }
        for (explain, expected) in [
            ("{}".to_owned(), "explain: missing field \"when\""),
            (
                r#"{"when": []}"#.to_owned(),
                "explain.when: is empty and would tell everybody how rules decide, say who may ask",
            ),
            (
                format!(r#"{{"when": {claim}, "header": "User_Type"}}"#),
                "explain.header: \"user_type\" has the type already, choose another, for example \"x-explain-user-type\"",
            ),
            (
                format!(r#"{{"when": {claim}, "header": "x-tenant-id"}}"#),
                "explain.header: \"x-tenant-id\" is the tenant-rate-limit filter's own, choose another, for example \"x-explain-user-type\"",
            ),
            (
                format!(r#"{{"when": {claim}, "header": "X-Served"}}"#),
                "explain.header: \"x-served\" is set by rules[0], choose another, for example \"x-explain-user-type\"",
            ),
            (
                format!(r#"{{"when": {claim}, "header": "x_asked"}}"#),
                "explain.header: \"x_asked\" is set by rules[0], choose another, for example \"x-explain-user-type\"",
            ),
            (
                r#"{"when": {"header": {"name": "x-explain-user-type", "exact": "1"}}}"#.to_owned(),
                "explain.when.header.name: \"x-explain-user-type\" is a header that this filter writes: what a client sends in it never counts",
            ),
        ] {
            assert_eq!(at_gateway(&explain), Err(expected.to_owned()), "{explain}");
        }
        // At a sidecar the address is what the one who is connected says of others.
        let sidecar = format!(
            r#"{{"trust": {{"peers": [{{"prefix": "spiffe://td/"}}]}}, "explain": {{"when": {source}}}}}"#
        );
        assert_eq!(
            check(sidecar.as_bytes()).unwrap_err().to_string(),
            "explain.when: would hold for what clients can write as they like, and tell anybody how rules decide: add a condition on a claim or a peer"
        );
    }

    #[test]
    fn a_condition_looks_at_one_thing_and_says_what_it_must_be() {
        let at = "rules[0].when[0]";
        for (when, expected) in [
            (
                "{}",
                format!(
                    "{at}: looks at nothing, write one of all, any, not, claim, tenant, tier, peer, source, header, cookie, query, userAgent, \
                     host, path, method, time, percent"
                ),
            ),
            (
                r#"{"tier": {"exact": "a"}, "tenant": {"exact": "a"}}"#,
                format!("{at}: has tenant and tier, write a condition for each"),
            ),
            (
                r#"{"tier": {}}"#,
                format!(
                    "{at}.tier: does not say what the value must be, write one of exact, prefix, suffix, regex, in, hashes, number, present"
                ),
            ),
            (
                r#"{"tier": {"exact": "a", "in": ["b"]}}"#,
                format!("{at}.tier: has exact and in, write a condition for each"),
            ),
            (
                r#"{"tier": {"prefix": ""}}"#,
                format!("{at}.tier.prefix: is empty, write `present: true` for any value"),
            ),
            (
                r#"{"tier": {"present": false}}"#,
                format!(
                    "{at}.tier.present: false is not a condition, write `present: true`, and `not` around it for what must be absent"
                ),
            ),
            (
                r#"{"tier": {"regex": "("}}"#,
                format!(
                    "{at}.tier.regex: \"(\" is not a regular expression: found open group without closing ')'"
                ),
            ),
            (
                r#"{"tier": {"in": []}}"#,
                format!("{at}.tier.in: is empty and never holds, list the values"),
            ),
            (
                r#"{"tier": {"in": ["a", "b", "a"]}}"#,
                format!("{at}.tier.in[2]: \"a\" is there twice, take one out"),
            ),
            (
                r#"{"tier": {"exact": "Premium"}}"#,
                format!(
                    "{at}.tier.exact: \"Premium\" is not a tier's name, write 1 to 64 of a-z, 0-9, _ and -, not starting with -"
                ),
            ),
            (
                r#"{"tenant": {"in": ["acme", "Globex"]}}"#,
                format!(
                    "{at}.tenant.in[1]: \"Globex\" never matches, because tenants' ids are normalised: write \"globex\""
                ),
            ),
            (
                r#"{"tenant": {"exact": "a b"}}"#,
                format!(
                    "{at}.tenant.exact: \"a b\" is not a tenant's id, write 1 to 64 of a-z, 0-9, ., _ and -"
                ),
            ),
            (
                r#"{"header": {"exact": "a"}}"#,
                format!("{at}.header: missing field \"name\""),
            ),
            (
                r#"{"header": {"name": "x y", "exact": "a"}}"#,
                format!(
                    "{at}.header.name: \"x y\" is not a header's name, write for example \"x-user-id\""
                ),
            ),
            (
                r#"{"header": {"name": "x", "exact": ""}}"#,
                format!("{at}.header.exact: is empty, write the value"),
            ),
            (
                r#"{"header": {"name": "x", "exact": " a"}}"#,
                format!(
                    "{at}.header.exact: \" a\" never matches, because no header's value has spaces around it or control characters in it"
                ),
            ),
            (
                r#"{"header": {"name": "User_Type", "exact": "vip"}}"#,
                format!(
                    "{at}.header.name: \"user_type\" is a header that this filter writes: what a client sends in it never counts"
                ),
            ),
            (
                r#"{"header": {"name": "X-Tenant-Id", "exact": "acme"}}"#,
                format!(
                    "{at}.header.name: \"x-tenant-id\" is how the tenant arrives here, write a condition on `tenant`"
                ),
            ),
            (
                r#"{"header": {"name": "x-tenant_tier", "exact": "free"}}"#,
                format!(
                    "{at}.header.name: \"x-tenant_tier\" is how the tier arrives here, write a condition on `tier`"
                ),
            ),
        ] {
            assert_eq!(condition_error(when), expected, "{when}");
        }
    }

    #[test]
    fn headers_alone_give_only_what_anybody_may_call_himself() {
        let expected = "rules[0].type: \"vip\" would be given for what clients can write as they like: add a condition on \
                        a claim, a tenant, a tier, a peer or a source, or write \"vip\" in selfAssignable if anybody may call himself so";
        let by_header = r#"{"header": {"name": "x-user-id", "exact": "alice"}}"#;
        let config = |when: &str| {
            format!(
                r#"{{"default": "standard", "tenant": {{"vouched": true}}, "rules": [{{"type": "vip", "when": [{when}]}}]}}"#
            )
        };
        assert_eq!(error(&config(by_header)), expected);
        // Every request has a tenant, so that there is one is no reason to believe anything.
        assert_eq!(
            error(&config(&format!(
                r#"{by_header}, {{"tenant": {{"present": true}}}}"#
            ))),
            format!(
                "{expected}; of a tenant or a tier `regex`, `number` and `present` prove nothing, write exact, in, hashes, prefix or suffix"
            )
        );
        assert_eq!(
            check(
                config(&format!(
                    r#"{by_header}, {{"tenant": {{"exact": "acme"}}}}"#
                ))
                .as_bytes()
            ),
            Ok(())
        );
        assert_eq!(
            check(config(r#"{"tier": {"exact": "premium"}}"#).as_bytes()),
            Ok(())
        );
    }

    #[test]
    fn what_everybody_has_needs_no_ground() {
        let config = |default: &str, more: &str| {
            let config = format!(
                r#"{{"default": {default}, "rules": [{{"type": "standard", "when": {{"header": {{"name": "x-plain", "exact": "1"}}}}{more}}}]}}"#
            );
            let told = check(config.as_bytes()).err().unwrap_or_default();
            let told = told.told().iter();
            told.map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(config(r#""standard""#, ""), [""; 0]);
        let ungrounded = "rules[0].type: \"standard\" would be given for what clients can write as they like: add a condition on a claim, a \
                          tenant, a tier, a peer or a source, or write \"standard\" in selfAssignable if anybody may call himself so";
        assert_eq!(config(r#""other""#, ""), [ungrounded]);
        // What else a rule says, not everybody has.
        for more in [
            r#", "set": {"requestHeaders": {"x-pool": "a"}}"#,
            r#", "set": {"responseHeaders": {"x-pool": "a"}}"#,
            r#", "set": {"filterState": {"pool": "a"}}"#,
        ] {
            assert_eq!(config(r#""standard""#, more), [ungrounded], "{more}");
        }
        // It may be meant, as long as nobody knows what it is.
        assert_eq!(config("5", ""), ["default: 5 is given, expected a string"]);
        assert_eq!(
            config(r#""Standard""#, ""),
            [
                r#"default: "Standard" is not a type, write 1 to 64 of a-z, 0-9, _ and -, not starting with -"#
            ]
        );
    }

    #[test]
    fn what_is_there_twice_is_told_where_it_is() {
        let gold = r#"{"tier": {"exact": "gold"}}"#;
        let alice = r#"{"claim": {"name": "sub", "exact": "alice"}}"#;
        let one_of = r#"{"claim": {"name": "sub", "in": ["alice"]}}"#;
        let rule = |when: &str| format!(r#"{{"type": "vip", "when": {when}}}"#);
        for (fields, expected) in [
            (
                r#""selfAssignable": ["beta", "vip", "beta"]"#.to_owned(),
                r#"selfAssignable[2]: "beta" is there twice, take one out"#,
            ),
            (
                format!(r#""rules": [{{"type": "vip", "type": "beta", "when": {gold}}}]"#),
                r#"rules[0]: "type" is given twice, keep one"#,
            ),
            (
                format!(r#""rules": [{}, {}]"#, rule(gold), rule(gold)),
                "rules[1]: is never reached, because rules[0] holds whenever it does; move it before rules[0] or take it out",
            ),
            (
                format!(
                    r#""rules": [{}]"#,
                    rule(&format!("[{gold}, {alice}, {gold}]"))
                ),
                "rules[0].when[2]: says the same as rules[0].when[0], take one out",
            ),
            (
                format!(
                    r#""rules": [{}]"#,
                    rule(&format!(r#"{{"any": [{alice}, {gold}, {one_of}]}}"#))
                ),
                "rules[0].when.any[2]: says the same as rules[0].when.any[0], take one out",
            ),
            (
                format!(
                    r#""rules": [{}]"#,
                    rule(&format!(r#"[{gold}, {{"all": [{alice}, {alice}]}}]"#))
                ),
                "rules[0].when[1].all[1]: says the same as rules[0].when[1].all[0], take one out",
            ),
            (
                format!(
                    r#""rules": [{}]"#,
                    rule(r#"{"tenant": {"in": ["acme", "acme"]}}"#)
                ),
                r#"rules[0].when.tenant.in[1]: "acme" is there twice, take one out"#,
            ),
        ] {
            let config =
                format!(r#"{{"default": "standard", "tenant": {{"vouched": true}}, {fields}}}"#);
            assert_eq!(error(&config), expected, "{config}");
            let filter = Compiled::read(config.as_bytes()).unwrap_err();
            assert_eq!(filter.to_string(), expected, "{config}");
        }
    }

    #[test]
    fn a_key_is_in_the_environment_if_that_is_known() {
        let config = br#"{"default": "standard", "stickyKeys": [
            {"id": "a", "env": "NEW"}, {"id": "b", "env": "OLD"}, {"id": "c", "secret": "0123456789abcdef0123456789abcdef"}
        ]}"#;
        let told = |new: Variable, old: Variable| {
            let environment = |name: &str| match name {
                "NEW" => new.clone(),
                "OLD" => old.clone(),
                _ => unreachable!("{name}"),
            };
            let told = check_in(config, &environment).err().unwrap_or_default();
            let told = told.told().iter();
            told.map(ToString::to_string).collect::<Vec<_>>()
        };
        let long = || Variable::Is("0123456789abcdef0123456789abcdef".to_owned());
        assert_eq!(check(config), Ok(()));
        assert_eq!(told(long(), Variable::Elsewhere), [""; 0]);
        assert_eq!(
            told(Variable::Missing, Variable::Is("short".to_owned())),
            [
                r#"stickyKeys[0].env: the module's environment has no "NEW", name it in the plugin's vmConfig.env"#,
                "stickyKeys[1].env: a secret of 5 bytes is given, write 32 to 256, for example what `openssl rand -base64 32` prints",
            ]
        );
    }

    /// The rules of which any issuer's word is enough, where a.test and b.test are known.
    fn of_any_issuer(rules: &str) -> Vec<usize> {
        let config =
            format!(r#"{{"default": "standard", "selfAssignable": ["beta"], "rules": [{rules}]}}"#);
        let compiled = Compiled::read(config.as_bytes()).unwrap();
        let issuers = ["https://a.test", "https://b.test"].into();
        compiled.of_any_issuer(&issuers)
    }

    #[test]
    fn a_rule_names_an_issuer_if_it_holds_for_no_other_ones_claim() {
        let plan = r#"{"claim": {"name": "plan", "exact": "vip"}}"#;
        let iss = |test: &str| format!(r#"{{"claim": {{"name": "iss", {test}}}}}"#);
        let a = iss(r#""exact": "https://a.test""#);
        let office = r#"{"source": "192.0.2.0/24"}"#;
        let one = |when: &str| of_any_issuer(&format!(r#"{{"type": "vip", "when": {when}}}"#));
        for named in [
            format!("[{plan}, {a}]"),
            format!(r#"[{plan}, {}]"#, iss(r#""in": ["https://a.test"]"#)),
            format!(r#"[{plan}, {}]"#, iss(r#""prefix": "https://a.""#)),
            format!(r#"[{plan}, {{"all": [{office}, {a}]}}]"#),
            // However it comes to hold.
            format!(r#"{{"any": [{{"all": [{plan}, {a}]}}, {office}]}}"#),
            format!(r#"[{{"any": [{plan}, {office}]}}, {a}]"#),
            // By no claim at all.
            format!(r#"[{office}, {{"not": {plan}}}]"#),
            a.clone(),
        ] {
            assert_eq!(one(&named), [0; 0], "{named}");
        }
        for open in [
            plan.to_owned(),
            format!("[{plan}, {}]", iss(r#""present": true"#)),
            format!(
                "[{plan}, {}]",
                iss(r#""in": ["https://a.test", "https://b.test"]"#)
            ),
            format!("[{plan}, {}]", iss(r#""prefix": "https://""#)),
            // Beside it, and not with it.
            format!(r#"{{"any": [{plan}, {a}]}}"#),
            format!(r#"[{plan}, {{"any": [{a}, {office}]}}]"#),
            format!(
                r#"[{plan}, {{"not": {}}}]"#,
                iss(r#""exact": "https://c.test""#)
            ),
        ] {
            assert_eq!(one(&open), [0], "{open}");
        }
        // What anybody may have, nobody need vouch for.
        let standard = r#"{"claim": {"name": "plan", "exact": "none"}}"#;
        let rules = format!(
            r#"{{"type": "standard", "when": {standard}}}, {{"type": "beta", "when": {plan}}}, {{"type": "vip", "when": {{"claim": {{"name": "sub", "exact": "a"}}}}}}"#
        );
        assert_eq!(of_any_issuer(&rules), [2]);
    }

    #[test]
    fn rules_that_can_never_decide_are_refused() {
        let alice = r#"{"header": {"name": "x-user-id", "exact": "alice"}}"#;
        let users = r#"{"header": {"name": "X-User-Id", "in": ["alice", "bob"]}}"#;
        let any_user = r#"{"header": {"name": "x-user-id", "present": true}}"#;
        let a_user = r#"{"header": {"name": "x-user-id", "regex": "a.*"}}"#;
        let premium = r#"{"tier": {"exact": "premium"}}"#;
        let rule = |name: &str, when: &str| format!(r#"{{"type": "{name}", "when": [{when}]}}"#);

        assert_eq!(
            rules_error(r#"{"type": "vip", "when": []}"#),
            "rules[0].when: is empty and would hold for everybody, write `default: vip` instead of this rule"
        );
        let unreachable = "rules[1]: is never reached, because rules[0] holds whenever it does; \
                           move it before rules[0] or take it out";
        for (first, second) in [
            (users.to_owned(), users.to_owned()),
            (users.to_owned(), alice.to_owned()),
            (any_user.to_owned(), a_user.to_owned()),
            (a_user.to_owned(), alice.to_owned()),
            (a_user.to_owned(), a_user.to_owned()),
            (premium.to_owned(), format!("{alice}, {premium}")),
            (format!("{premium}, {users}"), format!("{alice}, {premium}")),
        ] {
            let rules = format!("{}, {}", rule("vip", &first), rule("beta", &second));
            assert_eq!(rules_error(&rules), unreachable, "{rules}");
            // The other way round both can decide, unless they are the same.
            if first != second {
                let rules = format!("{}, {}", rule("beta", &second), rule("vip", &first));
                let config = format!(
                    r#"{{"default": "s", "tenant": {{"vouched": true}}, "selfAssignable": ["vip", "beta"], "rules": [{rules}]}}"#
                );
                assert_eq!(check(config.as_bytes()), Ok(()), "{rules}");
            }
        }
        let never = format!(r#"{premium}, {{"tier": {{"in": ["free", "standard"]}}}}"#);
        assert_eq!(
            rules_error(&rule("vip", &never)),
            "rules[0].when[1]: never holds together with rules[0].when[0], write `any` or two rules if either is enough"
        );
    }

    #[test]
    fn a_cookie_gets_its_holder_beyond_the_share_of_an_earlier_rule() {
        let share = |percent: &str| {
            format!(r#"{{"percent": {{{percent}, "salt": "s", "cookie": "visitor"}}}}"#)
        };
        let told = |first: &str, sticky: &str| {
            let config = format!(
                r#"{{"default": "standard", "tenant": {{"vouched": true}}, "selfAssignable": ["alpha", "beta"],
                    "stickyKeys": [{{"id": "a", "secret": "0123456789abcdef0123456789abcdef"}}],
                    "rules": [{{"type": "alpha", "when": {first}}}, {{"type": "beta", "when": {}{sticky}}}]}}"#,
                share("\"share\": 10")
            );
            check(config.as_bytes()).map_err(|error| error.to_string())
        };
        let sticky = r#", "sticky": {"cookie": "kept", "for": "30d"}"#;
        let refused = Err("rules[1]: is never reached, because rules[0] holds whenever it does; move it before rules[0] or take it out".to_owned());
        let larger = share("\"share\": 20");
        assert_eq!(told(&larger, ""), refused);
        assert_eq!(told(&larger, sticky), Ok(()));
        // It gets nobody beyond what the rule itself asks for beside it.
        let path = r#"{"path": {"prefix": "/beta"}}"#;
        let beside = format!(r#"[{path}, {}]"#, share("\"share\": 10"));
        let of_path = told(
            path,
            &format!("}}, {{\"type\": \"beta\", \"when\": {beside}{sticky}"),
        );
        assert_eq!(
            of_path,
            Err("rules[2]: is never reached, because rules[0] holds whenever it does; move it before rules[0] or take it out".to_owned())
        );
    }

    #[test]
    fn several_rules_may_give_the_same_type() {
        let config = r#"{"default": "standard", "tenant": {"vouched": true}, "rules": [
            {"type": "premium", "when": [{"tier": {"exact": "premium"}}]},
            {"type": "premium", "when": [{"tenant": {"exact": "acme"}}]}
        ]}"#;
        assert_eq!(check(config.as_bytes()), Ok(()));
    }

    #[test]
    fn everything_is_bounded() {
        let numbers = |count: usize, format: &dyn Fn(usize) -> String| {
            (0..count).map(format).collect::<Vec<_>>().join(",")
        };
        let long = "a".repeat(257);
        assert_eq!(
            condition_error(&format!(
                r#"{{"header": {{"name": "x", "exact": "{long}"}}}}"#
            )),
            "rules[0].when[0].header.exact: 257 bytes are too many, write at most 256"
        );
        assert_eq!(
            condition_error(&format!(r#"{{"tenant": {{"prefix": "{long}"}}}}"#)),
            "rules[0].when[0].tenant.prefix: 257 bytes are too many, write at most 256"
        );
        assert_eq!(
            condition_error(&format!(
                r#"{{"tenant": {{"in": [{}]}}}}"#,
                numbers(50_001, &|i| format!("\"t{i}\""))
            )),
            "rules[0].when[0].tenant.in: 50001 values are too many, write at most 50000; who issues tokens can say the same of many \
             more in a claim, and a rule asks for that"
        );
        assert_eq!(
            condition_error(&numbers(65, &|i| format!(
                r#"{{"header": {{"name": "x", "prefix": "{}"}}}}"#,
                "a".repeat(i + 1)
            ))),
            "rules[0].when[64]: is one condition too many, a rule may have 64; write several rules or an `in`"
        );
        let deep = format!(
            "{}{}{}",
            r#"{"not": "#.repeat(8),
            r#"{"tier": {"exact": "a"}}"#,
            "}".repeat(8)
        );
        assert_eq!(
            condition_error(&deep),
            format!(
                "rules[0].when[0]{}: is too deep, a condition may be within 7 others",
                ".not".repeat(8)
            )
        );
        assert_eq!(
            rules_error(&numbers(10_001, &|i| format!(
                r#"{{"type": "vip", "when": [{{"tenant": {{"exact": "t{i}"}}}}]}}"#
            ))),
            "rules: 10001 rules are too many, write at most 10000"
        );
        assert_eq!(
            rules_error(&numbers(33, &|i| format!(
                r#"{{"type": "vip", "when": [{{"header": {{"name": "x-{i}", "present": true}}}}]}}"#
            ))),
            "rules: 33 different things to look at (headers, cookies, claims …) are too many, write at most 32"
        );
    }

    #[test]
    fn ten_thousand_rules_are_compared_in_no_time() {
        let rule = |i: usize| {
            format!(
                r#"{{"type": "vip", "when": [{{"method": {{"exact": "GET"}}}}, {{"tenant": {{"exact": "t{i}"}}}}]}}"#
            )
        };
        let rules = |last: usize| {
            let all: Vec<String> = (0..9_999).chain([last]).map(rule).collect();
            check(
                format!(
                    r#"{{"default": "standard", "tenant": {{"vouched": true}}, "rules": [{}]}}"#,
                    all.join(",")
                )
                .as_bytes(),
            )
        };
        assert_eq!(rules(9_999), Ok(()));
        assert_eq!(
            rules(5_000).unwrap_err().to_string(),
            "rules[9999]: is never reached, because rules[5000] holds whenever it does; move it before rules[5000] or take it out"
        );
    }

    #[test]
    fn whose_word_counts_is_said_without_doubt() {
        let trust = |peers: &str| error(&format!(r#"{{"trust": {{"peers": [{peers}]}}}}"#));
        let gateway =
            r#"{"exact": "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway"}"#;
        let compiled =
            Compiled::read(format!(r#"{{"trust": {{"peers": [{gateway}]}}}}"#).as_bytes()).unwrap();
        assert!(compiled.default.is_none() && compiled.trusted.is_some());
        assert_eq!(error("{}"), r#"missing field "default""#);
        assert_eq!(
            trust(""),
            "trust.peers: is empty and trusts nobody, list identities"
        );
        assert_eq!(
            trust(&format!("{gateway}, {gateway}")),
            "trust.peers[1]: \"spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway\" is there twice, take one out"
        );
        // What a condition on peers must say is told by who compiles them all.
        assert_eq!(
            trust(r#"{"regex": ".*"}"#),
            "trust.peers[0].regex: \".*\" does not begin with the trust domain of those who are meant, write for example \
             \"spiffe://cluster.local/ns/ecommerce/sa/cart-service\""
        );
        let rule = |peer: &str| condition_error(&format!(r#"{{"peer": {peer}}}"#));
        assert_eq!(
            rule(r#"{"suffix": "/sa/cart"}"#),
            "rules[0].when[0].peer.suffix: \"/sa/cart\" would hold for identities of every trust domain, write exact, prefix or regex"
        );
        assert_eq!(
            rule(r#"{"prefix": "spiffe://cluster.local/ns/shop"}"#),
            "rules[0].when[0].peer.prefix: \"spiffe://cluster.local/ns/shop\" would hold for every identity whose name goes on from there, \
             write \"spiffe://cluster.local/ns/shop/\" or exact"
        );
        let fine =
            r#"{"trust": {"peers": [{"regex": "spiffe://cluster\\.local/ns/(a|b)/sa/[x|]"}]}}"#;
        assert_eq!(check(fine.as_bytes()), Ok(()));
    }

    #[test]
    fn what_a_type_lacks_is_said_of_what_it_rests_on() {
        for (when, weak) in [
            (r#"{"header": {"name": "a", "exact": "b"}}"#, ""),
            (
                r#"{"tier": {"regex": ".+"}}"#,
                "; of a tenant or a tier `regex`, `number` and `present` prove nothing, write exact, in, hashes, prefix or suffix",
            ),
            (
                r#"{"source": "2000::/3"}"#,
                "; networks that have all public addresses together prove nothing",
            ),
            (
                r#"{"peer": {"present": true}}"#,
                "; that there is a peer proves nothing, write who it must be",
            ),
            // What is right in it is not to blame.
            (
                r#"{"any": [{"tier": {"exact": "gold"}}, {"source": "10.0.0.0/8"}, {"header": {"name": "a", "exact": "b"}}]}"#,
                "",
            ),
        ] {
            assert_eq!(
                error(&format!(
                    r#"{{"default": "standard", "tenant": {{"vouched": true}}, "rules": [{{"type": "vip", "when": {when}}}]}}"#
                )),
                format!(
                    "rules[0].type: \"vip\" would be given for what clients can write as they like: add a condition on a claim, a tenant, a \
                     tier, a peer or a source, or write \"vip\" in selfAssignable if anybody may call himself so{weak}"
                )
            );
        }
    }

    #[test]
    fn headers_are_trusted_by_name() {
        let trust = |headers: &str, rules: &str| {
            let json = format!(
                r#"{{"trust": {{"peers": [{{"prefix": "spiffe://td/"}}], "headers": [{headers}]}}, "rules": [{rules}]}}"#
            );
            Compiled::read(json.as_bytes())
                .map(|compiled| compiled.set)
                .map_err(|error| error.to_string())
        };
        let rule = r#"{"type": "job", "when": {"peer": {"exact": "spiffe://other/a"}}, "set": {"requestHeaders": {"x-pool": "jobs"}}}"#;
        let set = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(trust("", ""), set(&[]));
        assert_eq!(
            trust(r#""X-Pool", "x-experiment""#, ""),
            set(&["x-pool", "x-experiment"])
        );
        // What rules set here is among them, listed or not.
        assert_eq!(trust("", rule), set(&["x-pool"]));
        assert_eq!(
            trust(r#""x-experiment", "x-pool""#, rule),
            set(&["x-pool", "x-experiment"])
        );
        let many: Vec<String> = (0..17).map(|i| format!("\"x-{i}\"")).collect();
        for (headers, rules, expected) in [
            (
                r#""x pool""#,
                "",
                "trust.headers[0]: \"x pool\" is not a header's name, write for example \"x-user-id\"",
            ),
            (
                r#""User_Type""#,
                "",
                "trust.headers[0]: \"user_type\" has the type, which is kept without being listed: take it out",
            ),
            (
                r#""x-tenant-tier""#,
                "",
                "trust.headers[0]: \"x-tenant-tier\" is kept without being listed: take it out",
            ),
            (
                r#""authorization""#,
                "",
                "trust.headers[0]: \"authorization\" has a meaning of its own, which no filter may take away: take it out",
            ),
            (
                r#""x-pool", "X-POOL""#,
                "",
                "trust.headers[1]: \"x-pool\" is there twice, take one out",
            ),
            (
                r#""x-pool", "x_pool""#,
                "",
                "trust.headers[1]: \"x_pool\" and \"x-pool\" are one header to some servers, take one out",
            ),
            (
                r#""x_pool""#,
                rule,
                "trust.headers[0]: \"x_pool\" and \"x-pool\", which a rule sets, are one header to some servers: write it in one way",
            ),
            (
                &many.join(", "),
                "",
                "trust.headers: 17 headers with those that rules set are too many, write at most 16",
            ),
        ] {
            assert_eq!(
                trust(headers, rules).unwrap_err().to_string(),
                expected,
                "{headers}"
            );
        }
        // What others may say is nothing that a rule may look at.
        assert_eq!(
            trust(
                r#""x-pool""#,
                r#"{"type": "a", "when": {"header": {"name": "x-pool", "exact": "a"}}}"#
            )
            .unwrap_err(),
            "rules[0].when.header.name: \"x-pool\" is a header that this filter writes: what a client sends in it never counts"
        );
    }

    #[test]
    fn what_rules_set_is_theirs_to_set() {
        let set = |set: &str| {
            rules_error(&format!(
                r#"{{"type": "vip", "when": [{{"tier": {{"exact": "a"}}}}], "set": {set}}}"#
            ))
        };
        let at = "rules[0].set";
        for (written, expected) in [
            (
                "{}",
                format!("{at}: sets nothing, write requestHeaders, responseHeaders or filterState"),
            ),
            (
                r#"{"requestHeaders": {"User_Type": "a"}}"#,
                format!(
                    "{at}.requestHeaders.User_Type: \"user_type\" has the type already, take it out"
                ),
            ),
            (
                r#"{"requestHeaders": {"x-tenant-id": "a"}}"#,
                format!(
                    "{at}.requestHeaders.x-tenant-id: \"x-tenant-id\" is the tenant-rate-limit filter's own, choose another"
                ),
            ),
            (
                r#"{"responseHeaders": {"Set-Cookie": "a"}}"#,
                format!(
                    "{at}.responseHeaders.Set-Cookie: \"set-cookie\" has a meaning of its own, choose another"
                ),
            ),
            (
                r#"{"responseHeaders": {"x-a": "a", "X_A": "b"}}"#,
                format!("{at}.responseHeaders.x-a: \"x-a\" is there twice, take one out"),
            ),
            (
                r#"{"responseHeaders": {"x-a": "a\n"}}"#,
                format!(
                    "{at}.responseHeaders.x-a: \"a\\n\" can't be set, write 1 to 256 visible ASCII characters"
                ),
            ),
            (
                r#"{"filterState": {"refused": "a"}}"#,
                format!(
                    "{at}.filterState.refused: \"refused\" is the tenant-rate-limit filter's own, choose another"
                ),
            ),
            (
                r#"{"filterState": {"A b": "a"}}"#,
                format!(
                    "{at}.filterState[\"A b\"]: \"A b\" is not a property's name, write 1 to 64 of a-z, 0-9, _ and -, not starting with -"
                ),
            ),
        ] {
            assert_eq!(set(written), expected, "{written}");
        }
        // What a rule sets, no rule looks at: what a client sends there is taken away.
        let rule = r#"{"type": "vip", "when": [{"header": {"name": "X_Pool", "exact": "a"}}]}"#;
        let setting = r#"{"type": "beta", "when": [{"tier": {"exact": "a"}}], "set": {"requestHeaders": {"x-pool": "b"}}}"#;
        assert_eq!(
            rules_error(&format!("{rule}, {setting}")),
            "rules[0].when[0].header.name: \"x_pool\" is a header that this filter writes: what a client sends in it never counts"
        );
        let other = setting
            .replace("x-pool", "x_pool")
            .replace("\"a\"", "\"c\"");
        assert_eq!(
            rules_error(&format!("{setting}, {other}")),
            "rules: \"x-pool\" and \"x_pool\" are one header to some servers, write it in one way"
        );
    }

    #[test]
    fn sticky_cookies_have_a_share_and_a_key() {
        let with = |keys: &str, when: &str, sticky: &str| {
            error(&format!(
                r#"{{"default": "standard", "tenant": {{"vouched": true}}, "selfAssignable": ["beta"], "stickyKeys": [{keys}], "rules": [
                    {{"type": "beta", "when": [{when}], "sticky": {sticky}}}]}}"#
            ))
        };
        let secret = "0123456789abcdef0123456789abcdef";
        let key = format!(r#"{{"id": "a", "secret": "{secret}"}}"#);
        let share = r#"{"percent": {"share": 10, "salt": "s", "cookie": "visitor"}}"#;
        let sticky = r#"{"cookie": "beta", "for": "30d"}"#;
        let accepted = format!(
            r#"{{"default": "standard", "tenant": {{"vouched": true}}, "selfAssignable": ["beta"], "stickyKeys": [{key}, {{"id": "b", "env": "STICKY"}}], "rules": [
                {{"type": "beta", "when": [{share}], "sticky": {sticky}}}]}}"#
        );
        assert_eq!(check(accepted.as_bytes()), Ok(()));
        let at = "rules[0].sticky";
        for (keys, when, sticky, expected) in [
            ("", share, sticky, format!("{at}: needs a key to sign with, write one in `stickyKeys`")),
            (r#"{"id": "a"}"#, share, sticky, "stickyKeys[0]: has not exactly one of secret and env, write one".to_owned()),
            (
                r#"{"id": "a", "secret": "hush"}"#,
                share,
                sticky,
                "stickyKeys[0].secret: a secret of 4 bytes is given, write 32 to 256, for example what `openssl rand -base64 32` prints".to_owned(),
            ),
            (&format!("{key}, {key}"), share, sticky, "stickyKeys[1].id: \"a\" is there twice, take one out".to_owned()),
            (&key, share, r#"{"cookie": "be ta", "for": "30d"}"#, format!("{at}.cookie: \"be ta\" is not a cookie's name, write for example \"session\"")),
            (&key, share, r#"{"cookie": "visitor", "for": "30d"}"#, format!("{at}.cookie: \"visitor\" is the key of the share, choose another name")),
            (&key, share, r#"{"cookie": "beta", "for": "30s"}"#, format!("{at}.for: \"30s\" is not whole seconds, at least a minute; write for example \"30d\"")),
            (&key, r#"{"header": {"name": "a", "exact": "b"}}"#, sticky, format!("{at}: needs one `percent` in the rule's `when`, there are 0")),
            (&key, &format!(r#"{{"not": {share}}}"#), sticky, format!("{at}: needs a `percent` that is not within `not`: the cookie keeps in whom it has")),
        ] {
            assert_eq!(with(keys, when, sticky), expected, "{keys} {when} {sticky}");
        }
    }

    #[test]
    fn what_can_never_be_is_refused() {
        let at = "rules[0].when[0]";
        for (when, expected) in [
            (
                r#"{"any": []}"#,
                format!("{at}.any: is empty and never holds, write at least one condition"),
            ),
            (
                r#"{"all": []}"#,
                format!("{at}.all: is empty, write at least one condition"),
            ),
            (
                r#"{"path": {"exact": "orders"}}"#,
                format!(
                    "{at}.path.exact: \"orders\" never matches, because paths begin with a slash: write \"/orders\""
                ),
            ),
            (
                r#"{"path": {"prefix": "/a?b"}}"#,
                format!(
                    "{at}.path.prefix: \"/a?b\" never matches, because a path has no query here: write a condition on `query`"
                ),
            ),
            (
                r#"{"host": {"exact": "Shop"}}"#,
                format!(
                    "{at}.host.exact: \"Shop\" never matches, because hosts are compared in lower case: write \"shop\""
                ),
            ),
            (
                r#"{"host": {"in": ["shop:80"]}}"#,
                format!(
                    "{at}.host.in[0]: \"shop:80\" never matches, because hosts are compared without their port: take it out"
                ),
            ),
            (
                r#"{"method": {"exact": "get"}}"#,
                format!("{at}.method.exact: \"get\" is not a method, write for example \"GET\""),
            ),
            (
                r#"{"peer": {"exact": "cart-service"}}"#,
                format!(
                    "{at}.peer.exact: \"cart-service\" is not a peer's identity, write for example \
                     \"spiffe://cluster.local/ns/ecommerce/sa/cart-service\""
                ),
            ),
            (
                r#"{"source": "0.0.0.0/0"}"#,
                format!(
                    "{at}.source: \"0.0.0.0/0\" has every address, so the condition says nothing; take it out"
                ),
            ),
            (
                r#"{"source": ["0.0.0.0/1", "128.0.0.0/1"]}"#,
                format!(
                    "{at}.source: has every address in its networks together, so the condition says nothing; take it out"
                ),
            ),
            (
                r#"{"source": ["10.0.0.0/8", "10.0.0.0/8"]}"#,
                format!("{at}.source[1]: \"10.0.0.0/8\" is there twice, take one out"),
            ),
            (
                r#"{"source": "10.1.0.0/8"}"#,
                format!(
                    "{at}.source: \"10.1.0.0/8\" has bits beyond its length, write \"10.0.0.0/8\""
                ),
            ),
            (
                r#"{"header": {"name": "cookie", "prefix": "a"}}"#,
                format!(
                    "{at}.header.name: \"cookie\" has all cookies, write a condition on `cookie`"
                ),
            ),
            (
                r#"{"cookie": {"name": "a b", "exact": "a"}}"#,
                format!(
                    "{at}.cookie.name: \"a b\" is not a cookie's name, write for example \"session\""
                ),
            ),
            (
                r#"{"cookie": {"name": "a", "exact": "a;b"}}"#,
                format!(
                    "{at}.cookie.exact: \"a;b\" never matches, because no cookie's value has spaces around it, or a semicolon or \
                     control characters in it"
                ),
            ),
            (
                r#"{"claim": {"name": [], "exact": "a"}}"#,
                format!(
                    "{at}.claim.name: write a claim's name, or a list of 1 to 8 names for a claim within others"
                ),
            ),
            (
                r#"{"claim": {"name": "a"}}"#,
                format!(
                    "{at}.claim: does not say what the claim must be, write one of exact, prefix, suffix, regex, in, hashes, number, \
                     present, boolean, contains"
                ),
            ),
            (
                r#"{"claim": {"name": "a", "exact": "b", "boolean": true}}"#,
                format!("{at}.claim: has exact and boolean, write a condition for each"),
            ),
            (
                r#"{"claim": {"name": "a", "contains": {"number": {"above": 1}}}}"#,
                format!(
                    "{at}.claim.contains: looks at the strings of an array, write one of exact, prefix, suffix, regex, in, hashes"
                ),
            ),
            (
                r#"{"header": {"name": "a", "number": {}}}"#,
                format!(
                    "{at}.header.number: says no number, write equals, atLeast, atMost, above or below"
                ),
            ),
            (
                r#"{"header": {"name": "a", "number": {"equals": 1, "above": 0}}}"#,
                format!("{at}.header.number: has equals and a bound, keep one"),
            ),
            (
                r#"{"header": {"name": "a", "number": {"atLeast": 1, "above": 0}}}"#,
                format!("{at}.header.number: has atLeast and above, keep one"),
            ),
            (
                r#"{"header": {"name": "a", "number": {"atMost": 1, "below": 0}}}"#,
                format!("{at}.header.number: has atMost and below, keep one"),
            ),
            (
                r#"{"header": {"name": "a", "number": {"above": 5, "atMost": 5}}}"#,
                format!(
                    "{at}.header.number: has no number in it, the lower bound must be below the upper one"
                ),
            ),
            (
                r#"{"header": {"name": "a", "number": {"above": 1.5}}}"#,
                format!(
                    "{at}.header.number.above: 1.5 is given, expected a whole number, e.g. 100"
                ),
            ),
            (
                r#"{"header": {"name": "a", "number": {"above": 1000000000000000}}}"#,
                format!(
                    "{at}.header.number.above: has more than 15 digits, write at most 999999999999999"
                ),
            ),
            (
                r#"{"tenant": {"hashes": {"salt": "", "in": ["0123456789abcdef01234567"]}}}"#,
                format!(
                    "{at}.tenant.hashes.salt: \"\" is no salt, write 1 to 64 bytes without control characters"
                ),
            ),
            (
                r#"{"tenant": {"hashes": {"salt": "s", "in": ["acme"]}}}"#,
                format!(
                    "{at}.tenant.hashes.in[0]: \"acme\" is not a hash, write 24 hexadecimal digits in lower case, as `tollgate \
                     hash-ids` prints them"
                ),
            ),
            (
                r#"{"tenant": {"hashes": {"salt": "s", "in": ["0123456789abcdef01234567", "0123456789abcdef01234567"]}}}"#,
                format!(
                    "{at}.tenant.hashes.in[1]: \"0123456789abcdef01234567\" is there twice, take one out"
                ),
            ),
            (
                r#"{"time": {}}"#,
                format!("{at}.time: says no time, write from, until, days or hours"),
            ),
            (
                r#"{"time": {"from": "tomorrow"}}"#,
                format!(
                    "{at}.time.from: \"tomorrow\" is not a moment, write for example \"2026-11-27T00:00:00Z\""
                ),
            ),
            (
                r#"{"time": {"from": "2026-11-27T00:00:00Z", "until": "2026-11-27T00:00:00Z"}}"#,
                format!("{at}.time: ends before it begins, `from` must be before `until`"),
            ),
            (
                r#"{"time": {"days": []}}"#,
                format!("{at}.time.days: is empty and never holds, list days"),
            ),
            (
                r#"{"time": {"days": ["Mon"]}}"#,
                format!(
                    "{at}.time.days[0]: \"Mon\" is not a day, write one of mon, tue, wed, thu, fri, sat, sun"
                ),
            ),
            (
                r#"{"time": {"days": ["mon", "mon"]}}"#,
                format!("{at}.time.days[1]: \"mon\" is there twice, take one out"),
            ),
            (
                r#"{"time": {"hours": "9-17"}}"#,
                format!(
                    "{at}.time.hours: \"9-17\" are not hours of a day, write for example \"09:00-17:30\" or \"22:00-06:00\""
                ),
            ),
            (
                r#"{"percent": {"share": 10, "salt": "s"}}"#,
                format!("{at}.percent: needs one key, write one of claim, tenant, cookie, header"),
            ),
            (
                r#"{"percent": {"share": 10, "salt": "s", "tenant": true, "cookie": "a"}}"#,
                format!("{at}.percent: needs one key, write one of claim, tenant, cookie, header"),
            ),
            (
                r#"{"percent": {"share": 101, "salt": "s", "tenant": true}}"#,
                format!("{at}.percent.share: 101 is more than there are, write at most 100"),
            ),
            (
                r#"{"percent": {"share": 1, "outOf": 0, "salt": "s", "tenant": true}}"#,
                format!("{at}.percent.outOf: 0 is out of range, write 1 to 1000000"),
            ),
            (
                r#"{"percent": {"share": 1, "salt": "s", "tenant": false}}"#,
                format!(
                    "{at}.percent.tenant: false says nothing, write `tenant: true` or another key"
                ),
            ),
        ] {
            assert_eq!(condition_error(when), expected, "{when}");
        }
        assert_eq!(
            rules_error(r#"{"type": "vip", "when": "always"}"#),
            "rules[0].when: \"always\" is given, expected a condition or a list of conditions"
        );
    }

    #[test]
    fn a_rule_rests_on_something_verified_whichever_way_it_comes_to_hold() {
        let accepted = |when: &str| {
            let config = format!(
                r#"{{"default": "standard", "tenant": {{"vouched": true}}, "rules": [{{"type": "vip", "when": {when}}}]}}"#
            );
            match check(config.as_bytes()) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.told()[0].path, "rules[0].type", "{error}");
                    false
                }
            }
        };
        let header = r#"{"header": {"name": "x", "exact": "a"}}"#;
        let claim = r#"{"claim": {"name": "role", "exact": "a"}}"#;
        let peer = r#"{"peer": {"prefix": "spiffe://cluster.local/ns/a/"}}"#;
        let source = r#"{"source": "10.0.0.0/8"}"#;
        let percent = r#"{"percent": {"share": 10, "salt": "s", "claim": "sub"}}"#;
        let time = r#"{"time": {"days": ["mon"]}}"#;
        for (when, expected) in [
            (claim.to_owned(), true),
            (peer.to_owned(), true),
            (source.to_owned(), true),
            (header.to_owned(), false),
            (percent.to_owned(), false),
            (time.to_owned(), false),
            (format!("[{header}, {claim}]"), true),
            (format!("[{time}, {percent}]"), false),
            (format!(r#"{{"any": [{header}, {claim}]}}"#), false),
            (format!(r#"{{"any": [{peer}, {claim}]}}"#), true),
            (
                format!(r#"{{"any": [{{"all": [{header}, {peer}]}}, {claim}]}}"#),
                true,
            ),
            (format!(r#"{{"not": {header}}}"#), false),
            // Whoever shows no token is not `a` either.
            (format!(r#"{{"not": {claim}}}"#), false),
            (format!(r#"{{"not": {{"not": {claim}}}}}"#), true),
            (
                format!(r#"{{"not": {{"any": [{header}, {{"not": {claim}}}]}}}}"#),
                true,
            ),
            (
                format!(r#"{{"not": {{"all": [{header}, {{"not": {claim}}}]}}}}"#),
                false,
            ),
            (format!(r#"[{{"not": {source}}}, {claim}]"#), true),
        ] {
            assert_eq!(accepted(&when), expected, "{when}");
        }
        for (when, expected) in [
            (r#"{"tier": {"exact": "gold"}}"#, true),
            (r#"{"tier": {"in": ["gold", "silver"]}}"#, true),
            (r#"{"tenant": {"prefix": "acme-"}}"#, true),
            (r#"{"tenant": {"suffix": "-acme"}}"#, true),
            (
                r#"{"tenant": {"hashes": {"salt": "s", "in": ["0123456789abcdef01234567"]}}}"#,
                true,
            ),
            (r#"{"tenant": {"present": true}}"#, false),
            // These may hold for everybody, and nobody can tell.
            (r#"{"tier": {"regex": ".+"}}"#, false),
            (r#"{"tenant": {"regex": "acme"}}"#, false),
            (r#"{"tenant": {"number": {"atLeast": 0}}}"#, false),
            (r#"{"peer": {"present": true}}"#, false),
            (r#"{"source": ["0.0.0.0/1", "128.0.0.0/2"]}"#, true),
            (r#"{"source": "2000::/3"}"#, false),
            (
                r#"{"any": [{"source": "0.0.0.0/1"}, {"source": "128.0.0.0/1"}]}"#,
                false,
            ),
            (
                r#"{"not": {"all": [{"not": {"source": "0.0.0.0/1"}}, {"not": {"source": "128.0.0.0/1"}}]}}"#,
                false,
            ),
            // What is excluded is none of those that are let in.
            (
                r#"[{"source": "0.0.0.0/1"}, {"not": {"source": "128.0.0.0/1"}}]"#,
                true,
            ),
        ] {
            assert_eq!(accepted(when), expected, "{when}");
        }
        // At a sidecar the address is what the one who is connected says of others.
        let config = format!(
            r#"{{"trust": {{"peers": [{{"prefix": "spiffe://td/"}}]}}, "rules": [{{"type": "vip", "when": {source}}}]}}"#
        );
        assert_eq!(
            check(config.as_bytes()).unwrap_err().told()[0].path,
            "rules[0].type"
        );
    }
}
