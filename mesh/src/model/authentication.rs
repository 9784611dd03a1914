//! Which tokens proxies verify: RequestAuthentication. All that are for a workload apply to it, in one filter.

use std::collections::BTreeSet;

use super::reach;
use super::workload::Workload;
use crate::api::Object;
use crate::api::meta::LabelSelector;
use crate::api::security::{JwtRule, RequestAuthentication};
use crate::problem::{Code, Problem};
use crate::source::Source;

/// A RequestAuthentication.
#[derive(Debug, Clone, PartialEq)]
pub struct Authentication {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    pub(crate) rules: Vec<JwtRule>,
    selector: LabelSelector,
}

/// Where a rule is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place<'a> {
    /// Whose rule it is.
    pub(crate) of: &'a Authentication,
    /// Its position there.
    pub(crate) position: usize,
}

/// What is verified for a workload: the rules of the root namespace's objects before its own namespace's, then by issuer.
pub(crate) fn rules<'a>(
    all: &'a [Authentication],
    workload: &Workload,
) -> Vec<(Place<'a>, &'a JwtRule)> {
    let reaches =
        |wanted: &&Authentication| reach::reaches(&wanted.namespace, &wanted.selector, workload);
    let mut chosen: Vec<&Authentication> = all.iter().filter(reaches).collect();
    chosen.sort_by_key(|chosen| chosen.namespace != super::ROOT_NAMESPACE);
    let of = |of: &'a Authentication| {
        let rules = of.rules.iter().enumerate();
        rules.map(move |(position, rule)| (Place { of, position }, rule))
    };
    let mut rules: Vec<_> = chosen.into_iter().flat_map(of).collect();
    rules.sort_by(|(_, a), (_, b)| a.issuer.cmp(&b.issuer));
    rules
}

/// The headers that are written from a token, as they are spelled, each with its field.
pub(crate) fn outputs(rule: &JwtRule) -> impl Iterator<Item = (String, &str)> {
    let claims = rule.output_claim_to_headers.iter().enumerate();
    let claims = claims.map(|(position, output)| {
        let field = format!("outputClaimToHeaders[{position}].header");
        (field, output.header.as_str())
    });
    let payload = rule.output_payload_to_header.iter();
    claims.chain(payload.map(|header| ("outputPayloadToHeader".to_owned(), header.as_str())))
}

pub(crate) fn build(
    objects: &[Object<RequestAuthentication>],
    workloads: &[Workload],
    problems: &mut Vec<Problem>,
) -> Vec<Authentication> {
    let build = |object: &Object<RequestAuthentication>| {
        let selector = object.spec.selector.clone().unwrap_or_default();
        reach::check(object, &selector, workloads, problems);
        if object.spec.jwt_rules.is_empty() {
            let message = "is missing, so nothing would be verified; write at least one rule";
            problems.push(
                object
                    .source
                    .problem("spec.jwtRules", message)
                    .of(Code::MissingField),
            );
        }
        for (index, rule) in object.spec.jwt_rules.iter().enumerate() {
            check(
                rule,
                &format!("spec.jwtRules[{index}]"),
                &object.source,
                problems,
            );
        }
        Authentication {
            name: object.name.clone(),
            namespace: object.namespace.clone(),
            rules: object.spec.jwt_rules.clone(),
            selector,
        }
    };
    objects.iter().map(build).collect()
}

fn check(rule: &JwtRule, at: &str, source: &Source, problems: &mut Vec<Problem>) {
    if rule.issuer.is_empty() {
        let message =
            "is empty: tokens of any issuer would pass; write the claim iss that they have";
        problems.push(source.invalid(&format!("{at}.issuer"), message));
    }
    match (&rule.jwks, &rule.jwks_uri) {
        (None, Some(_)) => problems.push(source.unimplemented(
            &format!("{at}.jwksUri"),
            "is fetched by istiod, which one machine does not have; write the keys into jwks, in an overlay of their own if a \
             cluster is to fetch them",
        )),
        (None, None) => {
            let message = "is missing: on a cluster istiod would ask the issuer for its keys, which one machine does not do; \
                           write the keys as JSON";
            let problem = source.problem(&format!("{at}.jwks"), message);
            problems.push(problem.of(Code::MissingField));
        }
        (Some(_), Some(_)) => problems.push(source.invalid(
            &format!("{at}.jwksUri"),
            "stands beside jwks, and a cluster takes only one of them; remove one",
        )),
        (Some(_), None) => {}
    }
    for (field, values, what) in [
        (
            "audiences",
            &rule.audiences,
            "the claim aud of tokens for these workloads",
        ),
        (
            "fromParams",
            &rule.from_params,
            "the name of a query parameter",
        ),
        ("fromCookies", &rule.from_cookies, "the name of a cookie"),
        (
            "spaceDelimitedClaims",
            &rule.space_delimited_claims,
            "the name of a claim",
        ),
    ] {
        for (index, _) in values
            .iter()
            .enumerate()
            .filter(|(_, value)| value.is_empty())
        {
            let field = format!("{at}.{field}[{index}]");
            problems.push(source.invalid(&field, format!("is empty, write {what}")));
        }
    }
    let mut header = |field: String, name: &str| {
        if !is_header(name) {
            let message =
                format!("{name:?} is no name of a header, write letters, digits, \"-\" and \"_\"");
            problems.push(source.invalid(&field, message));
        }
    };
    for (index, from) in rule.from_headers.iter().enumerate() {
        header(format!("{at}.fromHeaders[{index}].name"), &from.name);
    }
    if let Some(name) = &rule.output_payload_to_header {
        header(format!("{at}.outputPayloadToHeader"), name);
    }
    for (index, output) in rule.output_claim_to_headers.iter().enumerate() {
        header(
            format!("{at}.outputClaimToHeaders[{index}].header"),
            &output.header,
        );
    }
    let mut seen = BTreeSet::new();
    for (index, output) in rule.output_claim_to_headers.iter().enumerate() {
        let at = format!("{at}.outputClaimToHeaders[{index}]");
        if output.claim.is_empty() {
            let field = format!("{at}.claim");
            problems.push(source.invalid(&field, "is empty, write the name of a claim"));
        }
        if !seen.insert(output.header.to_ascii_lowercase()) {
            let message = format!("{} is written twice, a header has one claim", output.header);
            problems.push(source.invalid(&format!("{at}.header"), message));
        }
    }
}

/// What Istio takes as one.
fn is_header(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(fits)
}
