//! What a type may rest on: what was verified of a request, and not what whoever sends it writes as he likes.

use super::Compiled;
use crate::classifier::Rule;
use crate::condition::{Condition, Subject, Test, Truth};
use crate::facts::Subjects;
use crate::network::{self, Network};
use tollgate_common::StringMatch;

/// What is known of the tenants that rules ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenants<'a> {
    /// Somebody in front vouches for them, and it is not known whom he takes strangers for.
    Vouched,
    /// Somebody in front vouches for them, and whoever shows nothing is this tenant, in this tier.
    Strangers {
        /// Its id.
        id: &'a str,
        /// Its tier.
        tier: &'a str,
    },
    /// Clients write them as they like.
    Anyones,
}

/// A rule that gives anybody what it should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfounded<'a> {
    /// The position of the rule.
    pub rule: usize,
    /// The type that it gives.
    pub user_type: &'a str,
}

impl Compiled {
    /// The rules that give a type which may not be self-assigned to requests of which nothing was verified, if tenants are what `tenants` says.
    pub fn unfounded<'a>(&'a self, tenants: Tenants<'a>) -> impl Iterator<Item = Unfounded<'a>> {
        let grounds = Grounds {
            subjects: self.classifier.subjects(),
            at_gateway: self.trusted.is_none(),
            tenants,
        };
        let rules = self.classifier.rules().iter().enumerate();
        rules.filter_map(move |(position, rule)| {
            let unfounded = !self.self_assignable.contains(&rule.user_type)
                && grounds.missing(&rule.condition).is_some();
            unfounded.then_some(Unfounded {
                rule: position,
                user_type: &rule.user_type,
            })
        })
    }
}

/// A rule that rests on claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfClaims {
    /// The position of the rule.
    pub rule: usize,
    /// Whether it asks who issued the token, or gives what anybody may give himself.
    pub names_issuer: bool,
}

impl Compiled {
    /// The rules that ask for claims.
    pub fn claims(&self) -> Vec<OfClaims> {
        let subjects = self.classifier.subjects();
        let of_rule = |(position, rule): (usize, &Rule)| {
            let tests = [true, false].map(|outcome| rule.condition.tests(outcome));
            let claim = |subject: &usize| match subjects.get(*subject) {
                Some(Subject::Claim(path)) => Some(path.as_slice()),
                _ => None,
            };
            let mut claims = tests
                .iter()
                .flatten()
                .filter_map(|(subject, _)| claim(subject));
            claims.next()?;
            let [holding, _] = &tests;
            let mut holding = holding.iter().filter_map(|(subject, _)| claim(subject));
            Some(OfClaims {
                rule: position,
                names_issuer: self.self_assignable.contains(&rule.user_type)
                    || holding.any(|path| path == ["iss"]),
            })
        };
        let rules = self.classifier.rules().iter().enumerate();
        rules.filter_map(of_rule).collect()
    }
}

/// What may be rested on.
pub(super) struct Grounds<'a> {
    pub(super) subjects: &'a Subjects,
    pub(super) at_gateway: bool,
    pub(super) tenants: Tenants<'a>,
}

impl Grounds<'_> {
    /// Nothing if the condition rests on something verified, however it comes to hold. Else what there is to say of what seems to be verified in it,
    /// behind a semicolon.
    pub(super) fn missing(&self, condition: &Condition) -> Option<&'static str> {
        let tests = condition.tests(true);
        let networks = tests.iter().filter_map(|(_, test)| match test {
            Test::Within(networks) => Some(networks.iter().copied()),
            _ => None,
        });
        // Of all conditions of the rule: two may have half of all addresses each.
        let networks: Vec<Network> = networks.flatten().collect();
        let from_anywhere = network::have_all_public(&networks);
        let verified = |subject: usize, test: &Test| {
            let subject = self.subjects.get(subject);
            subject.is_some_and(|subject| self.is_verified(subject, test, from_anywhere))
        };
        if !condition.is_in_reach(true, &verified) {
            return None;
        }
        let weak = |wanted: &[Subject]| {
            tests.iter().any(|(position, test)| {
                let subject = self.subjects.get(*position);
                subject.is_some_and(|subject| wanted.contains(subject))
                    && !verified(*position, test)
            })
        };
        Some(if weak(&[Subject::Tenant, Subject::Tier]) {
            "; of a tenant or a tier `regex`, `number` and `present` prove nothing, write exact, in, hashes, prefix or suffix"
        } else if weak(&[Subject::Source]) && self.at_gateway {
            "; networks that have all public addresses together prove nothing"
        } else if weak(&[Subject::Source]) {
            "; at a sidecar a source is what the peer says, and proves nothing"
        } else if weak(&[Subject::Peer]) {
            "; that there is a peer proves nothing, write who it must be"
        } else {
            ""
        })
    }

    /// Whether what passes a test of a subject was verified, so that no client can bring it about by what it sends.
    fn is_verified(&self, subject: &Subject, test: &Test, from_anywhere: bool) -> bool {
        match subject {
            Subject::Claim(_) => true,
            // Any gateway is a peer, for everybody whose requests it passes on.
            Subject::Peer => !matches!(test, Test::Present),
            Subject::Tenant => self.is_tenant_verified(test, |(id, _)| id),
            Subject::Tier => self.is_tenant_verified(test, |(_, tier)| tier),
            // A sidecar believes what whoever is connected says of those before him.
            Subject::Source => self.at_gateway && !from_anywhere,
            Subject::Header(_)
            | Subject::Cookie(_)
            | Subject::Query(_)
            | Subject::Path
            | Subject::Method
            | Subject::Host => false,
        }
    }

    /// The limiter gives a tenant and a tier to everybody: a test must name those who are meant, and not hold for who shows nothing.
    fn is_tenant_verified<'a>(
        &'a self,
        test: &Test,
        part: impl Fn((&'a str, &'a str)) -> &'a str,
    ) -> bool {
        let names_some = match test {
            Test::Exact(_) | Test::OneOf(_) | Test::Hashed { .. } => true,
            Test::Pattern(pattern) => !matches!(pattern, StringMatch::Regex(_)),
            Test::Present
            | Test::Number(_)
            | Test::Bool(_)
            | Test::Contains(_)
            | Test::Within(_) => false,
        };
        names_some
            && match self.tenants {
                Tenants::Vouched => true,
                Tenants::Strangers { id, tier } => {
                    test.holds(part((id, tier)).as_bytes()) == Truth::No
                }
                Tenants::Anyones => false,
            }
    }
}
