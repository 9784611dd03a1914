//! Headers of requests, beside what plugins make of them: what proxies write from tokens, what routes and policies do with them, and what goes by them.

use std::collections::BTreeSet;

use super::authorization::{OfSource, Test, policies};
use super::workload::Workload;
use super::{Mesh, authentication};
use crate::api::security::Action;

/// A header that a proxy writes from the tokens of one issuer, and, if it is older than envoyproxy/envoy#46586, leaves to clients who have a token of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftToClients<'a> {
    /// The RequestAuthentication that lets it be written, as `(namespace, name)`.
    pub authentication: (&'a str, &'a str),
    /// Where in it: `spec.jwtRules[0].outputClaimToHeaders[0].header`.
    pub field: String,
    /// The header.
    pub header: &'a str,
    /// With whose tokens clients write it themselves.
    pub issuer: &'a str,
}

impl Mesh {
    /// The headers that a proxy writes from tokens and that no client writes there, in lower case.
    ///
    /// Before envoyproxy/envoy#46586 Envoy takes the copies of clients away when it tries the rule that writes a header (`jwt_authn`,
    /// `ProviderVerifierImpl::verify`), with a token or without one. It tries the rules in the order of their issuers and is content with the first whose token is
    /// valid. So it is what the first of them writes. Since then it is what any of them writes; but the oldest supported Envoy is older.
    pub(super) fn written_from_tokens(&self, workload: &Workload) -> BTreeSet<String> {
        let rules = authentication::rules(&self.authentications, workload);
        let first = rules.first().into_iter();
        let names = first.flat_map(|(_, rule)| authentication::outputs(rule));
        names.map(|(_, name)| name.to_ascii_lowercase()).collect()
    }

    /// The headers that a proxy writes from some tokens and leaves as clients wrote them beside others.
    pub fn left_to_clients<'a>(&'a self, workload: &Workload) -> Vec<LeftToClients<'a>> {
        let rules = authentication::rules(&self.authentications, workload);
        let Some(((_, first), others)) = rules.split_first() else {
            return Vec::new();
        };
        let taken = |header: &str| {
            authentication::outputs(first).any(|(_, name)| name.eq_ignore_ascii_case(header))
        };
        let outputs = others.iter().flat_map(|(place, rule)| {
            let at = format!("spec.jwtRules[{}]", place.position);
            authentication::outputs(rule).map(move |(field, header)| LeftToClients {
                authentication: (&place.of.namespace, &place.of.name),
                field: format!("{at}.{field}"),
                header,
                issuer: &first.issuer,
            })
        });
        outputs.filter(|output| !taken(output.header)).collect()
    }

    /// Whether somebody has seen to it, with other means than a plugin, that no client of a gateway writes a header: a DENY for this workload of every request that
    /// has it, or all routes of the gateway, each of which sets it or takes it away.
    pub fn guards(&self, workload: &Workload, header: &str) -> bool {
        let has_issuers = !authentication::rules(&self.authentications, workload).is_empty();
        let is_any = |values: &[String]| matches!(values, [any] if any == "*");
        let denies = |test: &Test<OfSource>| {
            let is_it = matches!(&test.attribute, OfSource::Header(name) if name.eq_ignore_ascii_case(header));
            is_it && is_any(&test.values) && test.not_values.is_empty()
        };
        // Where no token is verified, nobody has one.
        let holds_of_all = |test: &Test<OfSource>| {
            let is_it = test.attribute == OfSource::RequestPrincipal && !has_issuers;
            is_it && test.values.is_empty() && is_any(&test.not_values)
        };
        let denied = policies(&self.policies, workload, Action::Deny)
            .into_iter()
            .filter(|policy| !policy.dry_run)
            .flat_map(|policy| &policy.rules)
            .filter(|rule| rule.operations.is_empty() || rule.operations.iter().any(Vec::is_empty))
            .flat_map(|rule| &rule.sources)
            .any(|tests| {
                let mut others = tests.iter().filter(|test| !denies(test));
                tests.iter().any(denies) && others.all(holds_of_all)
            });
        denied || self.is_set_by_all_routes(workload, header)
    }

    fn is_set_by_all_routes(&self, workload: &Workload, header: &str) -> bool {
        let at = |index: usize| {
            self.workloads
                .get(index)
                .is_some_and(|known| std::ptr::eq(known, workload))
        };
        let served: BTreeSet<&str> = self
            .listeners
            .iter()
            .filter(|listener| at(listener.workload))
            .flat_map(|listener| &listener.servers)
            .filter_map(|(gateway, _)| Some(self.gateways.get(*gateway)?.name.as_str()))
            .collect();
        let mut routes = self
            .virtual_services
            .iter()
            .filter(|service| {
                let mut gateways = service.gateways.iter();
                gateways.any(|gateway| served.contains(gateway.as_str()))
            })
            .flat_map(|service| &service.routes)
            .peekable();
        routes.peek().is_some()
            && routes.all(|route| {
                route.headers.as_ref().is_some_and(|headers| {
                    let operations = &headers.request;
                    let mut names = operations.set.keys().chain(&operations.remove);
                    names.any(|name| name.eq_ignore_ascii_case(header))
                })
            })
    }

    /// Whether a route or a policy goes by a header.
    pub fn goes_by(&self, header: &str) -> bool {
        let is_it = |name: &String| name.eq_ignore_ascii_case(header);
        let mut routes = self
            .virtual_services
            .iter()
            .flat_map(|service| &service.routes);
        let route = routes.any(|route| {
            let mut matches = route.matches.iter();
            matches.any(|wanted| {
                let mut names = wanted.headers.keys().chain(wanted.without_headers.keys());
                names.any(is_it)
            })
        });
        let rules = self.policies.iter().flat_map(|policy| &policy.rules);
        let mut tests = rules.flat_map(|rule| rule.sources.iter().flatten());
        route || tests.any(|test| matches!(&test.attribute, OfSource::Header(name) if is_it(name)))
    }
}
