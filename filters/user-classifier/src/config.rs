//! The configuration as it is written, and what makes it acceptable.
//!
//! ```yaml
//! header: user-type
//! default: standard
//! selfAssignable: [vip]
//! rules:
//! - type: vip
//!   when: [{header: {name: x-user-id, in: [alice, bob]}}]
//! - type: premium
//!   when: [{tier: {exact: premium}}]
//! ```

use std::collections::HashSet;

use serde::Deserialize;
use tollgate_common::header::{self, TENANT_ID, TENANT_TIER, USER_TYPE};
use tollgate_common::tenant::ID_RULE;
use tollgate_common::{
    ConfigError, NAME_RULE, StringMatch, TenantId, at_most, is_name, mapping, parse, refuse,
};
use tollgate_host::same_name;

use crate::classifier::{Classifier, Condition, MAX_SUBJECTS, Rule, Subject, Test};

/// How many rules a configuration may have.
pub const MAX_RULES: usize = 1_000;
/// How many conditions a rule may have.
pub const MAX_CONDITIONS: usize = 16;
/// How many values an `in` list may have.
pub const MAX_VALUES: usize = 10_000;
/// How many bytes a value or a pattern may have.
pub const MAX_LENGTH: usize = 256;

/// The configuration of a user-classifier.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "UserClassifier", title = "user-classifier")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct Config {
    /// The header that carries the type, in any case. What clients send in it is taken away. Not `x-tenant-id` or `x-tenant-tier`,
    /// which are another filter's.
    #[serde(default = "default_header")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "tollgate_common::schema::HeaderName")
    )]
    pub header: String,
    /// The type of everybody for whom no rule holds: 1 to 64 of `a-z`, `0-9`, `_` and `-`, not starting with `-`.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    pub default: String,
    /// The types that a rule may give for headers alone, which a client can write as it likes. Each once.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<tollgate_common::schema::Name>", extend("uniqueItems" = true)))]
    pub self_assignable: Vec<String>,
    /// The rules, at most 1,000; the first that holds decides.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_RULES), extend("default" = [])))]
    pub rules: Vec<RuleConfig>,
}

/// A rule.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Rule")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct RuleConfig {
    /// The type that the rule gives. Several rules may give the same.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    pub user_type: String,
    /// The conditions, 1 to 16, all of which must hold. At least one is on `tenant` or `tier`, unless `selfAssignable` has the
    /// rule's type.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_CONDITIONS)))]
    pub when: Vec<ConditionConfig>,
}

/// A condition: exactly one of these. Of a header that a request has more than once no condition holds.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Condition", transform = schema::condition))]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct ConditionConfig {
    /// On a header of the request.
    pub header: Option<HeaderMatch>,
    /// On the tenant's id, as the tenant-rate-limit filter in front found it.
    pub tenant: Option<ValueMatch>,
    /// On the tenant's tier, likewise.
    pub tier: Option<ValueMatch>,
}

/// What a value must be: exactly one of these.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = schema::value_match))]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct ValueMatch {
    /// The whole value.
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_LENGTH)))]
    pub exact: Option<String>,
    /// What the value begins with.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub prefix: Option<String>,
    /// What the value ends with.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub suffix: Option<String>,
    /// A regular expression (of the Rust crate `regex-lite`) for the whole value, which matches nothing of more than 1,024 bytes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub regex: Option<String>,
    /// The values, one of which it must be; found in constant time. At most 10,000, each once.
    #[serde(rename = "in")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_VALUES), extend("uniqueItems" = true)))]
    pub one_of: Option<Vec<String>>,
    /// `true`: any value, also an empty one.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub present: Option<bool>,
}

/// The name of a header and what its value must be.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = schema::header_match))]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct HeaderMatch {
    /// The header's name, in any case. Not the header that this filter writes, nor those of tenant and tier.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "tollgate_common::schema::HeaderName")
    )]
    pub name: String,
    /// The whole value.
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_LENGTH)))]
    pub exact: Option<String>,
    /// What the value begins with.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub prefix: Option<String>,
    /// What the value ends with.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub suffix: Option<String>,
    /// A regular expression (of the Rust crate `regex-lite`) for the whole value, which matches nothing of more than 1,024 bytes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub regex: Option<String>,
    /// The values, one of which it must be; found in constant time. At most 10,000, each once.
    #[serde(rename = "in")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_VALUES), extend("uniqueItems" = true)))]
    pub one_of: Option<Vec<String>>,
    /// `true`: any value, also an empty one.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub present: Option<bool>,
}

mapping!(Config, RuleConfig, ConditionConfig, ValueMatch, HeaderMatch);

/// What the fields say together.
#[cfg(feature = "schema")]
mod schema {
    use schemars::Schema;
    use tollgate_common::schema::{exactly_one, named};

    const KEYS: [&str; 6] = ["exact", "prefix", "suffix", "regex", "in", "present"];

    pub(super) fn condition(schema: &mut Schema) {
        exactly_one(schema, &["header", "tenant", "tier"]);
    }

    pub(super) fn value_match(schema: &mut Schema) {
        named(schema, "match");
        exactly_one(schema, &KEYS);
    }

    pub(super) fn header_match(schema: &mut Schema) {
        named(schema, "match with `name`");
        exactly_one(schema, &KEYS);
    }
}

impl HeaderMatch {
    // Not `#[serde(flatten)]`: it can't be combined with refusing unknown fields.
    fn into_parts(self) -> (String, ValueMatch) {
        let Self {
            name,
            exact,
            prefix,
            suffix,
            regex,
            one_of,
            present,
        } = self;
        (
            name,
            ValueMatch {
                exact,
                prefix,
                suffix,
                regex,
                one_of,
                present,
            },
        )
    }
}

fn default_header() -> String {
    USER_TYPE.to_owned()
}

/// A configuration that was accepted, ready to run.
#[derive(Debug)]
pub struct Compiled {
    /// The header to write, in lower case.
    pub header: String,
    /// The rules.
    pub classifier: Classifier,
}

/// Whether a filter would accept this configuration (JSON); the error says where it is wrong and what to write instead.
pub fn check(configuration: &[u8]) -> Result<(), ConfigError> {
    Compiled::read(configuration).map(drop)
}

impl Compiled {
    /// Reads and compiles a configuration (JSON).
    pub fn read(configuration: &[u8]) -> Result<Self, ConfigError> {
        parse::<Config>(configuration)?.compile()
    }
}

impl Config {
    /// Checks what the types alone can't, and compiles the rules.
    pub fn compile(self) -> Result<Compiled, ConfigError> {
        let header = header::name(&self.header, "header")?;
        if same(&header, TENANT_ID) || same(&header, TENANT_TIER) {
            return refuse(
                "header",
                format!(
                    "\"{header}\" is the tenant-rate-limit filter's own, choose another, for example \"{USER_TYPE}\""
                ),
            );
        }
        user_type(&self.default, "default")?;

        let mut self_assignable = HashSet::new();
        for (i, name) in self.self_assignable.iter().enumerate() {
            let path = format!("selfAssignable[{i}]");
            user_type(name, &path)?;
            if !self_assignable.insert(name.as_str()) {
                return refuse(path, format!("\"{name}\" is there twice, take one out"));
            }
        }

        at_most(self.rules.len(), MAX_RULES, "rules", "rules")?;
        let mut rules: Vec<Rule> = Vec::with_capacity(self.rules.len());
        for (i, rule) in self.rules.into_iter().enumerate() {
            let rule = compile_rule(rule, &format!("rules[{i}]"), &header, &self_assignable)?;
            if let Some(earlier) = rules
                .iter()
                .position(|earlier| holds_wherever(earlier, &rule))
            {
                return refuse(
                    format!("rules[{i}]"),
                    format!(
                        "is never reached, because rules[{earlier}] holds whenever it does; move it before rules[{earlier}] or take it out"
                    ),
                );
            }
            rules.push(rule);
        }
        let subjects: HashSet<&Subject> = rules
            .iter()
            .flat_map(|rule| &rule.conditions)
            .map(|condition| &condition.subject)
            .collect();
        at_most(subjects.len(), MAX_SUBJECTS, "rules", "different headers")?;
        Ok(Compiled {
            header,
            classifier: Classifier::new(rules, self.default),
        })
    }
}

/// Whether `earlier` takes every request that `later` would.
fn holds_wherever(earlier: &Rule, later: &Rule) -> bool {
    earlier
        .conditions
        .iter()
        .all(|needed| later.conditions.iter().any(|given| given.implies(needed)))
}

fn compile_rule(
    rule: RuleConfig,
    path: &str,
    own_header: &str,
    self_assignable: &HashSet<&str>,
) -> Result<Rule, ConfigError> {
    user_type(&rule.user_type, &format!("{path}.type"))?;
    if rule.when.is_empty() {
        return refuse(
            format!("{path}.when"),
            format!(
                "is empty and would hold for everybody, write `default: {}` instead of this rule",
                rule.user_type
            ),
        );
    }
    at_most(
        rule.when.len(),
        MAX_CONDITIONS,
        &format!("{path}.when"),
        "conditions",
    )?;
    let mut conditions: Vec<Condition> = Vec::with_capacity(rule.when.len());
    for (i, condition) in rule.when.into_iter().enumerate() {
        let path = format!("{path}.when[{i}]");
        let condition = compile_condition(condition, &path, own_header)?;
        if let Some(other) = conditions
            .iter()
            .position(|other| other.excludes(&condition))
        {
            return refuse(
                path,
                format!(
                    "never holds together with when[{other}], write two rules if either is enough"
                ),
            );
        }
        conditions.push(condition);
    }
    if !conditions.iter().any(Condition::is_trusted)
        && !self_assignable.contains(rule.user_type.as_str())
    {
        return refuse(
            format!("{path}.type"),
            format!(
                "\"{0}\" would be given for headers alone, which clients can write as they like: add a condition on a tenant or a tier, \
                 or write \"{0}\" in selfAssignable if anybody may call himself so",
                rule.user_type
            ),
        );
    }
    Ok(Rule {
        user_type: rule.user_type,
        conditions,
    })
}

fn compile_condition(
    condition: ConditionConfig,
    path: &str,
    own_header: &str,
) -> Result<Condition, ConfigError> {
    let (subject, value, path) = match condition {
        ConditionConfig {
            header: Some(header),
            tenant: None,
            tier: None,
        } => {
            let (name, value) = header.into_parts();
            let path = format!("{path}.header");
            let name = condition_header(&name, &format!("{path}.name"), own_header)?;
            (Subject::Header(name), value, path)
        }
        ConditionConfig {
            header: None,
            tenant: Some(value),
            tier: None,
        } => (Subject::Tenant, value, format!("{path}.tenant")),
        ConditionConfig {
            header: None,
            tenant: None,
            tier: Some(value),
        } => (Subject::Tier, value, format!("{path}.tier")),
        ConditionConfig {
            header: None,
            tenant: None,
            tier: None,
        } => {
            return refuse(path, "looks at nothing, write one of header, tenant, tier");
        }
        _ => {
            return refuse(
                path,
                "looks at more than one of header, tenant and tier, write a condition for each",
            );
        }
    };
    let test = compile_test(value, &subject, &path)?;
    Ok(Condition { subject, test })
}

fn compile_test(value: ValueMatch, subject: &Subject, path: &str) -> Result<Test, ConfigError> {
    const KEYS: &str = "one of exact, prefix, suffix, regex, in, present";
    let ValueMatch {
        exact,
        prefix,
        suffix,
        regex,
        one_of,
        present,
    } = value;
    let given = [
        ("exact", exact.is_some()),
        ("prefix", prefix.is_some()),
        ("suffix", suffix.is_some()),
        ("regex", regex.is_some()),
        ("in", one_of.is_some()),
        ("present", present.is_some()),
    ];
    let given: Vec<&str> = given
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(key, _)| key)
        .collect();
    if given.len() > 1 {
        return refuse(
            path,
            format!("has {}, write a condition for each", given.join(" and ")),
        );
    }
    if let Some(exact) = exact {
        literal(&exact, subject, &format!("{path}.exact"))?;
        return Ok(Test::OneOf(HashSet::from([exact.into_bytes().into()])));
    }
    if let Some(values) = one_of {
        return compile_list(values, subject, &format!("{path}.in"));
    }
    for (key, text) in [("prefix", prefix), ("suffix", suffix), ("regex", regex)] {
        let Some(text) = text else { continue };
        let path = format!("{path}.{key}");
        if text.is_empty() {
            return refuse(path, "is empty, write `present: true` for any value");
        }
        short(&text, &path)?;
        let pattern = match key {
            "prefix" => StringMatch::Prefix(text),
            "suffix" => StringMatch::Suffix(text),
            _ => StringMatch::regex(&text).or_else(|message| refuse(path, message))?,
        };
        return Ok(Test::Pattern(pattern));
    }
    match present {
        Some(true) => Ok(Test::Present),
        Some(false) => refuse(
            format!("{path}.present"),
            "false is not a condition, write `present: true` or take the condition out",
        ),
        None => refuse(
            path,
            format!("does not say what the value must be, write {KEYS}"),
        ),
    }
}

fn compile_list(values: Vec<String>, subject: &Subject, path: &str) -> Result<Test, ConfigError> {
    if values.is_empty() {
        return refuse(path, "is empty and never holds, list the values");
    }
    at_most(values.len(), MAX_VALUES, path, "values")?;
    let mut set = HashSet::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        literal(&value, subject, &path)?;
        let bytes: Box<[u8]> = value.as_bytes().into();
        if !set.insert(bytes) {
            return refuse(path, format!("\"{value}\" is there twice, take one out"));
        }
    }
    Ok(Test::OneOf(set))
}

/// The name of a header that a condition looks at, in lower case.
fn condition_header(name: &str, path: &str, own_header: &str) -> Result<String, ConfigError> {
    let name = header::name(name, path)?;
    if same(&name, own_header) {
        return refuse(
            path,
            format!(
                "\"{name}\" is the header this filter writes: what a client sends in it never counts"
            ),
        );
    }
    if same(&name, TENANT_ID) {
        return refuse(
            path,
            format!("\"{name}\" is how the tenant arrives here, write a condition on `tenant`"),
        );
    }
    if same(&name, TENANT_TIER) {
        return refuse(
            path,
            format!("\"{name}\" is how the tier arrives here, write a condition on `tier`"),
        );
    }
    Ok(name)
}

/// A value that is compared as a whole: it must be one that its subject can have.
fn literal(value: &str, subject: &Subject, path: &str) -> Result<(), ConfigError> {
    match subject {
        Subject::Header(_) if value.is_empty() => refuse(path, "is empty, write the value"),
        Subject::Header(_)
            if value.trim() != value || value.chars().any(|c| c.is_control() && c != '\t') =>
        {
            refuse(
                path,
                format!(
                    "{value:?} never matches, because no header's value has spaces around it or control characters in it"
                ),
            )
        }
        Subject::Header(_) => short(value, path),
        Subject::Tenant => match TenantId::normalise(value.as_bytes()) {
            Some(id) if id.as_str() == value => Ok(()),
            Some(id) => refuse(
                path,
                format!(
                    "{value:?} never matches, because tenants' ids are normalised: write \"{id}\""
                ),
            ),
            None => refuse(path, format!("{value:?} is not a tenant's id, {ID_RULE}")),
        },
        Subject::Tier if is_name(value) => Ok(()),
        Subject::Tier => refuse(path, format!("{value:?} is not a tier's name, {NAME_RULE}")),
    }
}

fn user_type(name: &str, path: &str) -> Result<(), ConfigError> {
    if is_name(name) {
        Ok(())
    } else {
        refuse(path, format!("{name:?} is not a type, {NAME_RULE}"))
    }
}

/// Whether two names are the same header to some server.
fn same(a: &str, b: &str) -> bool {
    same_name(a.as_bytes(), b.as_bytes())
}

fn short(value: &str, path: &str) -> Result<(), ConfigError> {
    at_most(value.len(), MAX_LENGTH, path, "bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration of the shop's gateway.
    const SHOP: &str = r#"{
        "header": "user-type",
        "default": "standard",
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
            r#"{{"default": "standard", "selfAssignable": ["vip"], "rules": [{{"type": "vip", "when": [{when}]}}]}}"#
        ))
    }

    /// The error for these rules, any of which may give its type to anybody.
    fn rules_error(rules: &str) -> String {
        error(&format!(
            r#"{{"default": "standard", "selfAssignable": ["vip", "beta", "partner"], "rules": [{rules}]}}"#
        ))
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
                r#"rule: unknown field "rule", expected one of "header", "default", "selfAssignable", "rules""#,
            ),
            (
                r#"{"default": "standard", "rules": [["vip", []]]}"#,
                "rules[0]: a list is given, expected a mapping",
            ),
            (
                r#"{"default": "standard", "rules": [{"type": "vip", "when": [[null, {"exact": "acme"}, null]]}]}"#,
                "rules[0].when[0]: a list is given, expected a mapping",
            ),
            (
                r#"{"default": "standard", "rules": [{"when": []}]}"#,
                r#"rules[0]: missing field "type""#,
            ),
            (
                r#"{"default": "standard", "rules": [{"type": "vip"}]}"#,
                r#"rules[0]: missing field "when""#,
            ),
            (
                r#"{"default": "standard", "rules": [{"type": "vip", "when": [{"cookie": {}}]}]}"#,
                r#"rules[0].when[0].cookie: unknown field "cookie", expected one of "header", "tenant", "tier""#,
            ),
            (
                r#"{"default": "standard", "default": "vip"}"#,
                r#"duplicate field "default""#,
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
            rules_error(r#"{"type": "VIP", "when": []}"#),
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
    fn a_condition_looks_at_one_thing_and_says_what_it_must_be() {
        let at = "rules[0].when[0]";
        for (when, expected) in [
            (
                "{}",
                format!("{at}: looks at nothing, write one of header, tenant, tier"),
            ),
            (
                r#"{"tier": {"exact": "a"}, "tenant": {"exact": "a"}}"#,
                format!(
                    "{at}: looks at more than one of header, tenant and tier, write a condition for each"
                ),
            ),
            (
                r#"{"tier": {}}"#,
                format!(
                    "{at}.tier: does not say what the value must be, write one of exact, prefix, suffix, regex, in, present"
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
                    "{at}.tier.present: false is not a condition, write `present: true` or take the condition out"
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
                    "{at}.header.name: \"user_type\" is the header this filter writes: what a client sends in it never counts"
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
        let expected = "rules[0].type: \"vip\" would be given for headers alone, which clients can write as they like: \
                        add a condition on a tenant or a tier, or write \"vip\" in selfAssignable if anybody may call himself so";
        let by_header = r#"{"header": {"name": "x-user-id", "exact": "alice"}}"#;
        let config = |when: &str| {
            format!(r#"{{"default": "standard", "rules": [{{"type": "vip", "when": [{when}]}}]}}"#)
        };
        assert_eq!(error(&config(by_header)), expected);
        // Every request has a tenant, so that there is one is no reason to believe anything.
        assert_eq!(
            error(&config(&format!(
                r#"{by_header}, {{"tenant": {{"present": true}}}}"#
            ))),
            expected
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
                    r#"{{"default": "s", "selfAssignable": ["vip", "beta"], "rules": [{rules}]}}"#
                );
                assert_eq!(check(config.as_bytes()), Ok(()), "{rules}");
            }
        }
        let never = format!(r#"{premium}, {{"tier": {{"in": ["free", "standard"]}}}}"#);
        assert_eq!(
            rules_error(&rule("vip", &never)),
            "rules[0].when[1]: never holds together with when[0], write two rules if either is enough"
        );
    }

    #[test]
    fn several_rules_may_give_the_same_type() {
        let config = r#"{"default": "standard", "rules": [
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
                numbers(10_001, &|i| format!("\"t{i}\""))
            )),
            "rules[0].when[0].tenant.in: 10001 values are too many, write at most 10000"
        );
        assert_eq!(
            condition_error(&numbers(17, &|i| format!(
                r#"{{"header": {{"name": "x-{i}", "present": true}}}}"#
            ))),
            "rules[0].when: 17 conditions are too many, write at most 16"
        );
        assert_eq!(
            rules_error(&numbers(1_001, &|i| format!(
                r#"{{"type": "vip", "when": [{{"tenant": {{"exact": "t{i}"}}}}]}}"#
            ))),
            "rules: 1001 rules are too many, write at most 1000"
        );
        assert_eq!(
            rules_error(&numbers(33, &|i| format!(
                r#"{{"type": "vip", "when": [{{"header": {{"name": "x-{i}", "present": true}}}}]}}"#
            ))),
            "rules: 33 different headers are too many, write at most 32"
        );
    }
}
