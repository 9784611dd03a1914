//! Headers of requests, beside what plugins make of them: what proxies write from tokens, what routes and policies do with them, and what goes by them.

use std::collections::BTreeSet;

use super::authorization::{OfSource, policies};
use super::workload::Workload;
use super::{Mesh, authentication};
use crate::api::security::Action;

impl Mesh {
    /// The headers that a proxy writes from tokens, in lower case. What a client sends in them is taken away, with a token or without one.
    pub(super) fn written_from_tokens(&self, workload: &Workload) -> BTreeSet<String> {
        let rules = authentication::rules(&self.authentications, workload);
        let names = rules.into_iter().flat_map(|rule| {
            let claims = rule.output_claim_to_headers.iter();
            let claims = claims.map(|output| &output.header);
            claims.chain(&rule.output_payload_to_header)
        });
        names.map(|name| name.to_ascii_lowercase()).collect()
    }

    /// Whether somebody has seen to it, with other means than a plugin, what clients of a gateway may write in a header: a DENY for this workload
    /// that asks for it, or all routes of the gateway, each of which sets it or takes it away.
    pub fn guards(&self, workload: &Workload, header: &str) -> bool {
        let asks = |test: &OfSource| matches!(test, OfSource::Header(name) if name.eq_ignore_ascii_case(header));
        let denied = policies(&self.policies, workload, Action::Deny)
            .into_iter()
            .filter(|policy| !policy.dry_run)
            .flat_map(|policy| &policy.rules)
            .flat_map(|rule| rule.sources.iter().flatten())
            .any(|test| asks(&test.attribute));
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
