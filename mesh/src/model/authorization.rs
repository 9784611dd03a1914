//! Who may ask what of whom: AuthorizationPolicy.
//!
//! A rule is kept as Envoy has it: who asks (from `from`, and the conditions of `when` on who asks), and for what (from `to`, and
//! the other conditions). What a cluster takes and what then never matches, a path without its slash say, is refused here:
//! nobody would see it in an ALLOW but those who are locked out, and nobody at all in a DENY.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::workload::Workload;
use super::{CLUSTER_DOMAIN, ROOT_NAMESPACE, quoted_list, reach};
use crate::api::meta::LabelSelector;
use crate::api::security::{self as api, Action};
use crate::api::{Object, Objects};
use crate::problem::{Code, Problem};
use crate::source::decode::nearest;
use crate::source::{Source, join};

/// An AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What becomes of what it matches.
    pub action: Action,
    /// Whether it is only counted what would become of it.
    pub dry_run: bool,
    pub(crate) rules: Vec<Rule>,
    selector: LabelSelector,
}

/// Matches if one of `sources` and one of `operations` does, each by all of its tests.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) sources: Vec<Vec<Test<OfSource>>>,
    pub(crate) operations: Vec<Vec<Test<OfOperation>>>,
}

/// An attribute has one of these values, if there are any, and none of those.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Test<A> {
    pub(crate) attribute: A,
    pub(crate) values: Vec<String>,
    pub(crate) not_values: Vec<String>,
}

/// What can be said of who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OfSource {
    Principal,
    RequestPrincipal,
    ServiceAccount,
    Namespace,
    RemoteIp,
    SourceIp,
    Audiences,
    Presenter,
    Header(String),
    Claim(Vec<String>),
}

/// What can be said of what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfOperation {
    Host,
    Method,
    Path,
    Port,
    DestinationIp,
    ServerName,
}

/// What a test looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Attribute {
    Source(OfSource),
    Operation(OfOperation),
}

impl From<OfSource> for Attribute {
    fn from(attribute: OfSource) -> Self {
        Self::Source(attribute)
    }
}

impl From<OfOperation> for Attribute {
    fn from(attribute: OfOperation) -> Self {
        Self::Operation(attribute)
    }
}

/// The policies of an action for a workload, those of the root namespace first, in the order of their age.
pub(crate) fn policies<'a>(
    all: &'a [Policy],
    workload: &Workload,
    action: Action,
) -> Vec<&'a Policy> {
    let is_for = |policy: &&Policy| {
        policy.action == action && reach::reaches(&policy.namespace, &policy.selector, workload)
    };
    let mut policies: Vec<&Policy> = all.iter().filter(is_for).collect();
    policies.sort_by_key(|policy| policy.namespace != ROOT_NAMESPACE);
    policies
}

const DRY_RUN: &str = "istio.io/dry-run";

/// Of `rules` and `from`, as a cluster takes them.
const LONGEST: usize = 512;

pub(crate) fn build(
    objects: &Objects,
    workloads: &[Workload],
    problems: &mut Vec<Problem>,
) -> Vec<Policy> {
    let mut found = Vec::new();
    let policies = read(objects, workloads, &mut found);
    problems.extend(found.into_iter().filter(|problem| !is_doubt(problem)));
    policies
}

/// What is said of somebody who may be there, but not in these manifests.
pub(crate) fn doubts(objects: &Objects, workloads: &[Workload]) -> Vec<Problem> {
    let mut found = Vec::new();
    read(objects, workloads, &mut found);
    found.retain(is_doubt);
    found
}

fn is_doubt(problem: &Problem) -> bool {
    problem.code == Code::Doubt
}

fn read(objects: &Objects, workloads: &[Workload], problems: &mut Vec<Problem>) -> Vec<Policy> {
    let build = |object: &Object<api::AuthorizationPolicy>| {
        let spec = &object.spec;
        let selector = spec.selector.clone().unwrap_or_default();
        reach::check(object, &selector, workloads, problems);
        let ports = workloads
            .iter()
            .filter(|workload| reach::reaches(&object.namespace, &selector, workload))
            .flat_map(|workload| {
                workload
                    .ports()
                    .into_iter()
                    .chain(workload.gateway_ports.iter().copied())
            });
        let mut check = Check {
            source: &object.source,
            namespace: &object.namespace,
            known: Known::of(objects, workloads),
            ports: ports.collect(),
            problems,
        };
        let dry_run = match object.annotations.get(DRY_RUN).map(String::as_str) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let field = join(&join("metadata", "annotations"), DRY_RUN);
                check.invalid(
                    &field,
                    format!("{other:?} is neither \"true\" nor \"false\""),
                );
                false
            }
        };
        if spec.action == Action::Deny && spec.rules.is_empty() {
            check.invalid(
                "spec.rules",
                "is missing, so this denies nothing; to deny everything write an empty rule: [{}]"
                    .to_owned(),
            );
        }
        check.at_most(LONGEST, "spec.rules", spec.rules.len());
        let rules = spec.rules.iter().enumerate();
        let rules = rules
            .map(|(index, rule)| check.rule(&format!("spec.rules[{index}]"), rule))
            .collect();
        Policy {
            name: object.name.clone(),
            namespace: object.namespace.clone(),
            action: spec.action,
            dry_run,
            rules,
            selector,
        }
    };
    objects.authorization_policies.iter().map(build).collect()
}

/// Who there is to ask.
struct Known<'a> {
    namespaces: BTreeSet<&'a str>,
    /// Those in which something runs: who else there is in another is not for these manifests to say.
    peopled: BTreeSet<&'a str>,
    /// By namespace and name.
    accounts: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Known<'a> {
    fn of(objects: &'a Objects, workloads: &'a [Workload]) -> Self {
        let peopled: BTreeSet<&str> = workloads
            .iter()
            .map(|workload| workload.namespace.as_str())
            .collect();
        let named = objects
            .namespaces
            .iter()
            .map(|namespace| namespace.name.as_str());
        let namespaces = named.chain(peopled.iter().copied()).chain([ROOT_NAMESPACE]);
        let declared = objects.service_accounts.iter();
        Self {
            namespaces: namespaces.collect(),
            accounts: declared
                .map(|account| (account.namespace.as_str(), account.name.as_str()))
                .chain(peopled.iter().map(|namespace| (*namespace, "default")))
                .collect(),
            peopled,
        }
    }
}

/// Reads the rules of one policy.
struct Check<'a> {
    source: &'a Source,
    namespace: &'a str,
    known: Known<'a>,
    /// Those of the workloads that it is for.
    ports: BTreeSet<u16>,
    problems: &'a mut Vec<Problem>,
}

/// A field by its name, its attribute, its values and those of its `not…`.
type Field<'a, A> = (&'static str, A, &'a [String], &'a [String]);

/// Whether a name is another one with a letter too few, too many, changed or out of place. With another digit it is another version.
fn is_slip(name: &str, other: &str) -> bool {
    let digits = |name: &str| -> String { name.chars().filter(char::is_ascii_digit).collect() };
    strsim::osa_distance(name, other) == 1 && digits(name) == digits(other)
}

impl Check<'_> {
    fn invalid(&mut self, field: &str, message: String) {
        self.problems.push(self.source.invalid(field, message));
    }

    fn at_most(&mut self, most: usize, field: &str, length: usize) {
        if length > most {
            self.invalid(
                field,
                format!("has {length} elements, a cluster takes {most} at most"),
            );
        }
    }

    fn rule(&mut self, at: &str, rule: &api::Rule) -> Rule {
        let (mut of_source, mut of_operation) = (Vec::new(), Vec::new());
        for (index, condition) in rule.when.iter().enumerate() {
            let (values, not_values) = (condition.values.clone(), condition.not_values.clone());
            match self.condition(&format!("{at}.when[{index}]"), condition) {
                Some(Attribute::Source(attribute)) => of_source.push(Test {
                    attribute,
                    values,
                    not_values,
                }),
                Some(Attribute::Operation(attribute)) => of_operation.push(Test {
                    attribute,
                    values,
                    not_values,
                }),
                None => {}
            }
        }

        for (field, empty) in [
            ("from", rule.from.as_ref().is_some_and(Vec::is_empty)),
            ("to", rule.to.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if empty {
                let message = format!(
                    "is an empty list, which a cluster does not take; leave {field} out if it says nothing"
                );
                self.invalid(&format!("{at}.{field}"), message);
            }
        }
        let from = rule.from.as_deref().unwrap_or_default();
        self.at_most(LONGEST, &format!("{at}.from"), from.len());
        let mut sources = Vec::new();
        for (index, from) in from.iter().enumerate() {
            let mut tests = self.source(&format!("{at}.from[{index}].source"), &from.source);
            tests.extend(of_source.iter().cloned());
            sources.push(tests);
        }
        if sources.is_empty() {
            sources.push(of_source);
        }
        let mut operations = Vec::new();
        for (index, to) in rule.to.iter().flatten().enumerate() {
            let mut tests = self.operation(&format!("{at}.to[{index}].operation"), &to.operation);
            tests.extend(of_operation.iter().cloned());
            operations.push(tests);
        }
        if operations.is_empty() {
            operations.push(of_operation);
        }
        Rule {
            sources,
            operations,
        }
    }

    fn source(&mut self, at: &str, source: &api::RequestSource) -> Vec<Test<OfSource>> {
        let accounts = source.service_accounts.len() + source.not_service_accounts.len() > 0;
        for (field, is_there) in [
            ("principals", !source.principals.is_empty()),
            ("notPrincipals", !source.not_principals.is_empty()),
            ("namespaces", !source.namespaces.is_empty()),
            ("notNamespaces", !source.not_namespaces.is_empty()),
        ] {
            if accounts && is_there {
                let message = "stands beside serviceAccounts, which a cluster does not take; write one or the other";
                self.invalid(&format!("{at}.{field}"), message.to_owned());
            }
        }
        self.fields(
            at,
            &[
                (
                    "principals",
                    OfSource::Principal,
                    &source.principals,
                    &source.not_principals,
                ),
                (
                    "requestPrincipals",
                    OfSource::RequestPrincipal,
                    &source.request_principals,
                    &source.not_request_principals,
                ),
                (
                    "serviceAccounts",
                    OfSource::ServiceAccount,
                    &source.service_accounts,
                    &source.not_service_accounts,
                ),
                (
                    "namespaces",
                    OfSource::Namespace,
                    &source.namespaces,
                    &source.not_namespaces,
                ),
                (
                    "remoteIpBlocks",
                    OfSource::RemoteIp,
                    &source.remote_ip_blocks,
                    &source.not_remote_ip_blocks,
                ),
                (
                    "ipBlocks",
                    OfSource::SourceIp,
                    &source.ip_blocks,
                    &source.not_ip_blocks,
                ),
            ],
        )
    }

    fn operation(&mut self, at: &str, operation: &api::Operation) -> Vec<Test<OfOperation>> {
        self.fields(
            at,
            &[
                (
                    "hosts",
                    OfOperation::Host,
                    &operation.hosts,
                    &operation.not_hosts,
                ),
                (
                    "methods",
                    OfOperation::Method,
                    &operation.methods,
                    &operation.not_methods,
                ),
                (
                    "paths",
                    OfOperation::Path,
                    &operation.paths,
                    &operation.not_paths,
                ),
                (
                    "ports",
                    OfOperation::Port,
                    &operation.ports,
                    &operation.not_ports,
                ),
            ],
        )
    }

    fn fields<A: Clone + Into<Attribute>>(
        &mut self,
        at: &str,
        fields: &[Field<A>],
    ) -> Vec<Test<A>> {
        let mut tests = Vec::new();
        for (name, attribute, values, not_values) in fields {
            if values.is_empty() && not_values.is_empty() {
                continue;
            }
            let mut inverse = (*name).to_owned();
            inverse[..1].make_ascii_uppercase();
            let any: Attribute = attribute.clone().into();
            self.values(&format!("{at}.{name}"), &any, values, true);
            self.values(&format!("{at}.not{inverse}"), &any, not_values, false);
            tests.push(Test {
                attribute: attribute.clone(),
                values: values.to_vec(),
                not_values: not_values.to_vec(),
            });
        }
        if tests.is_empty() {
            let names: Vec<&str> = fields.iter().map(|(name, ..)| *name).collect();
            let message = format!(
                "says nothing, which a cluster does not take; write one of {}, or leave it out with all that it is in",
                names.join(", ")
            );
            self.invalid(at, message);
        }
        tests
    }

    fn condition(&mut self, at: &str, condition: &api::Condition) -> Option<Attribute> {
        let attribute = match attribute(&condition.key) {
            Ok(attribute) => attribute,
            Err((code, message)) => {
                let problem = self.source.problem(&format!("{at}.key"), message);
                self.problems.push(problem.of(code));
                return None;
            }
        };
        if condition.values.is_empty() && condition.not_values.is_empty() {
            self.invalid(
                at,
                "has neither values nor notValues; write at least one value".to_owned(),
            );
        }
        self.values(&format!("{at}.values"), &attribute, &condition.values, true);
        self.values(
            &format!("{at}.notValues"),
            &attribute,
            &condition.not_values,
            false,
        );
        Some(attribute)
    }

    fn values(&mut self, at: &str, attribute: &Attribute, values: &[String], wanted: bool) {
        if *attribute == Attribute::Source(OfSource::ServiceAccount) {
            self.at_most(16, at, values.len());
        }
        for (index, value) in values.iter().enumerate() {
            let field = format!("{at}[{index}]");
            if value.is_empty() {
                self.invalid(&field, "is empty, write a value, or * for any".to_owned());
                continue;
            }
            if let Err(message) = form(attribute, value) {
                self.invalid(&field, message);
                continue;
            }
            if let Err((code, message)) = self.fits(attribute, value, wanted) {
                let problem = self.source.problem(&field, message);
                self.problems.push(problem.of(code));
            }
        }
    }

    /// Whether there is somebody whom it means. Who else is in a cluster these manifests cannot know: whoever comes with Istio (a Prometheus, a Kiali)
    /// is in the root namespace, and other teams have namespaces of their own. So an error is only a name that is one slip of the pen from one that there is.
    fn fits(&self, attribute: &Attribute, value: &str, wanted: bool) -> Result<(), (Code, String)> {
        let known = &self.known;
        let namespace = |name: &str| {
            let near = || nearest(name, known.namespaces.iter().copied());
            if known.namespaces.contains(name) {
                return Ok(());
            }
            near().map_or(Ok(()), |near| {
                let message = format!(
                    "there is no namespace {name:?} in these manifests, did you mean {near:?}?"
                );
                Err((Code::Doubt, message))
            })
        };
        let account = |of: &str, account: &str| {
            namespace(of)?;
            if !known.peopled.contains(of) || known.accounts.contains(&(of, account)) {
                return Ok(());
            }
            let there = || known.accounts.iter().filter(|(other, _)| *other == of);
            let there = || there().map(|(_, name)| *name);
            if let Some(near) = nearest(account, there()) {
                let message = format!(
                    "there is no ServiceAccount {account} in the namespace {of}, did you mean {near}?"
                );
                let code = match of != ROOT_NAMESPACE && is_slip(account, near) {
                    true => Code::Mismatch,
                    false => Code::Doubt,
                };
                return Err((code, message));
            }
            if of == ROOT_NAMESPACE {
                return Ok(());
            }
            let message = format!(
                "there is no ServiceAccount {account} of the namespace {of} in these manifests, only {}",
                quoted_list(there())
            );
            Err((Code::Doubt, message))
        };
        match attribute {
            Attribute::Source(OfSource::Principal) if !value.contains('*') => {
                match value.split('/').collect::<Vec<_>>()[..] {
                    [domain, "ns", namespace, "sa", name] if domain == CLUSTER_DOMAIN => {
                        account(namespace, name)
                    }
                    _ => Ok(()),
                }
            }
            Attribute::Source(OfSource::ServiceAccount) => match value.split_once('/') {
                Some((namespace, name)) => account(namespace, name),
                None => account(self.namespace, value),
            },
            Attribute::Source(OfSource::Namespace) => {
                let parts: Vec<&str> = value.split('*').collect();
                let matches = |namespace: &&&str| match parts[..] {
                    [begin, end] => {
                        namespace.len() >= begin.len() + end.len()
                            && namespace.starts_with(begin)
                            && namespace.ends_with(end)
                    }
                    // Not worth an algorithm.
                    _ => true,
                };
                if parts.len() == 1 {
                    return namespace(value);
                }
                if known.namespaces.iter().any(|name| matches(&name)) {
                    return Ok(());
                }
                let message = format!(
                    "no namespace in these manifests is {value:?}, there are only {}",
                    quoted_list(&known.namespaces)
                );
                Err((Code::Doubt, message))
            }
            Attribute::Operation(OfOperation::Port) if wanted => {
                let there = value
                    .parse()
                    .is_ok_and(|port: u16| self.ports.contains(&port));
                if there || self.ports.is_empty() {
                    return Ok(());
                }
                let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
                let message = format!(
                    "no pod that this is for listens on {value}, only on {}; ports are those of pods, not of the Services in \
                     front of them",
                    ports.join(", ")
                );
                Err((Code::Mismatch, message))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a value can match anything that the attribute can be.
fn form(attribute: &Attribute, value: &str) -> Result<(), String> {
    match attribute {
        Attribute::Source(OfSource::Principal) => {
            one_end(value)?;
            if let Some(rest) = value.strip_prefix("spiffe://") {
                return Err(format!(
                    "{value:?} begins with spiffe://, which Istio adds; write {rest:?}"
                ));
            }
            let exact = !value.contains('*');
            let is_identity = matches!(
                value.split('/').collect::<Vec<_>>()[..],
                [domain, "ns", namespace, "sa", account]
                    if [domain, namespace, account].iter().all(|part| !part.is_empty())
            );
            if exact && !is_identity {
                return Err(format!(
                    "{value:?} is nobody's identity, write {CLUSTER_DOMAIN}/ns/NAMESPACE/sa/SERVICEACCOUNT"
                ));
            }
        }
        Attribute::Source(OfSource::RequestPrincipal) => {
            if value == "*/*" {
                return Err(
                    "\"*/*\" is nobody: it is any issuer's subject \"*\"; write \"*\" for anybody"
                        .to_owned(),
                );
            }
            one_end(value)?;
            if !value.contains(['/', '*']) {
                return Err(format!(
                    "{value:?} has no subject, write \"{value}/SUBJECT\", or \"{value}/*\" for any"
                ));
            }
        }
        Attribute::Source(OfSource::ServiceAccount) => {
            if value.contains('*') {
                return Err(format!(
                    "{value:?} has a \"*\", which serviceAccounts do not take; write it in principals"
                ));
            }
            let parts: Vec<&str> = value.split('/').collect();
            if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) || value.len() > 320 {
                return Err(format!(
                    "{value:?} is neither NAME nor NAMESPACE/NAME of a ServiceAccount"
                ));
            }
        }
        Attribute::Source(OfSource::RemoteIp)
        | Attribute::Source(OfSource::SourceIp)
        | Attribute::Operation(OfOperation::DestinationIp) => {
            if block(value).is_none() {
                return Err(format!(
                    "{value:?} is neither an address nor a block of them, write \"10.1.2.3\" or \"10.1.0.0/16\""
                ));
            }
        }
        Attribute::Operation(OfOperation::Port) => {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || value.parse::<u16>().is_err() {
                return Err(format!("{value:?} is not a port, write one as in \"3001\""));
            }
        }
        Attribute::Operation(OfOperation::Host) => one_end(value)?,
        Attribute::Operation(OfOperation::Method) => {
            one_end(value)?;
            if value.bytes().any(|byte| byte.is_ascii_lowercase()) {
                return Err(format!(
                    "{value:?} matches nothing: methods are compared as they are written; write {:?}",
                    value.to_ascii_uppercase()
                ));
            }
        }
        Attribute::Operation(OfOperation::Path) => path(value)?,
        Attribute::Source(OfSource::Namespace)
        | Attribute::Source(OfSource::Audiences)
        | Attribute::Source(OfSource::Presenter)
        | Attribute::Source(OfSource::Header(_))
        | Attribute::Source(OfSource::Claim(_))
        | Attribute::Operation(OfOperation::ServerName) => {}
    }
    Ok(())
}

/// A star stands for anything only as the first or the last letter, not as both.
fn one_end(value: &str) -> Result<(), String> {
    let inner = match value.strip_prefix('*') {
        Some(rest) => rest,
        None => value.strip_suffix('*').unwrap_or(value),
    };
    if inner.contains('*') {
        return Err(format!(
            "{value:?}: a \"*\" stands for anything only at the beginning or at the end, and only once; elsewhere it is a letter"
        ));
    }
    Ok(())
}

fn path(value: &str) -> Result<(), String> {
    if !value.starts_with(['/', '*']) {
        return Err(format!(
            "{value:?} matches nothing: a path begins with \"/\"; write \"/{value}\""
        ));
    }
    if let Some(letter) = ["?", "#"]
        .into_iter()
        .find(|letter| value.contains(*letter))
    {
        return Err(format!(
            "{value:?} matches nothing: what is compared is the path alone; write it without what begins with {letter:?}"
        ));
    }
    let template = value.contains("{*}") || value.contains("{**}");
    if !template {
        if value.contains(['{', '}']) {
            return Err(format!(
                "{value:?} has braces beside {{*}} and {{**}}, which a cluster does not take"
            ));
        }
        return one_end(value)
            .map_err(|message| format!("{message}; write {{*}} for any one segment of the path"));
    }
    let literal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte);
    let mut any = false;
    for segment in value.trim_matches('/').split('/') {
        match segment {
            "{*}" | "{**}" if any => {
                return Err(format!(
                    "{value:?} has {segment} behind {{**}}, which must be the last of them"
                ));
            }
            "{**}" => any = true,
            "{*}" => {}
            _ if segment.is_empty() || !segment.bytes().all(literal) => {
                return Err(format!(
                    "{value:?}: the segment {segment:?} cannot stand beside {{*}} and {{**}}, each of which is a whole segment"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An address and the length of its prefix.
pub(crate) fn block(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => length.parse().ok()?,
        Some(_) => return None,
        None => most,
    };
    (length <= most).then_some((address, length))
}

/// The keys of `when`.
const KEYS: [&str; 13] = [
    "request.headers[NAME]",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[NAME]",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "destination.ip",
    "destination.port",
    "connection.sni",
];

fn attribute(key: &str) -> Result<Attribute, (Code, String)> {
    let wrong = |message: String| (Code::Value, message);
    if let Some(name) = key.strip_prefix("request.headers") {
        return match brackets(name) {
            Some(names) if names.len() == 1 => {
                Ok(Attribute::Source(OfSource::Header(names[0].to_owned())))
            }
            _ => Err(wrong(format!(
                "{key:?} names no header, write request.headers[NAME]"
            ))),
        };
    }
    if let Some(name) = key.strip_prefix("request.auth.claims") {
        return match brackets(name) {
            Some(names) => Ok(Attribute::Source(OfSource::Claim(
                names.into_iter().map(str::to_owned).collect(),
            ))),
            None => Err(wrong(format!(
                "{key:?} names no claim, write request.auth.claims[NAME], or request.auth.claims[NAME][NAME] for a nested one"
            ))),
        };
    }
    Ok(match key {
        "request.auth.principal" => Attribute::Source(OfSource::RequestPrincipal),
        "request.auth.audiences" => Attribute::Source(OfSource::Audiences),
        "request.auth.presenter" => Attribute::Source(OfSource::Presenter),
        "source.ip" => Attribute::Source(OfSource::SourceIp),
        "remote.ip" => Attribute::Source(OfSource::RemoteIp),
        "source.namespace" => Attribute::Source(OfSource::Namespace),
        "source.principal" => Attribute::Source(OfSource::Principal),
        "source.serviceAccount" => Attribute::Source(OfSource::ServiceAccount),
        "destination.ip" => Attribute::Operation(OfOperation::DestinationIp),
        "destination.port" => Attribute::Operation(OfOperation::Port),
        "connection.sni" => Attribute::Operation(OfOperation::ServerName),
        "source.trustDomain" => {
            return Err((
                Code::Unimplemented,
                "source.trustDomain is not implemented by the local mesh yet".to_owned(),
            ));
        }
        _ if key.starts_with("experimental.envoy.filters.") => {
            let message = "experimental.envoy.filters is not implemented by the local mesh yet";
            return Err((Code::Unimplemented, message.to_owned()));
        }
        _ if key.starts_with("destination.labels") => {
            return Err(wrong(format!(
                "{key} is no key any more, write spec.selector"
            )));
        }
        "destination.namespace" => {
            return Err(wrong(format!(
                "{key} is no key any more, write metadata.namespace"
            )));
        }
        _ => {
            return Err(wrong(match nearest(key, KEYS.iter().copied()) {
                Some(near) => format!("there is no key {key:?}, did you mean {near}?"),
                None => format!("there is no key {key:?}, only {}", KEYS.join(", ")),
            }));
        }
    })
}

/// `[a][b]` as its names.
fn brackets(text: &str) -> Option<Vec<&str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    let is_name = |name: &&str| !name.is_empty() && !name.contains(['[', ']']);
    names.iter().all(is_name).then_some(names)
}
