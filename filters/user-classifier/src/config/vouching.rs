//! What a type may rest on: what was verified of a request, and not what whoever sends it writes as he likes.

use std::collections::BTreeSet;

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
    /// Nobody in front finds tenants, but it writes these of the two headers from something that it verified, and takes them away from clients.
    Written {
        /// The tenant's id.
        id: bool,
        /// The tenant's tier.
        tier: bool,
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
    /// The rules that give a type which may not be self-assigned to requests of which nothing was verified, if tenants are what `tenants` says. A rule may
    /// give anything for a test that `is_anyones` holds for, if it asks for nothing else: what is meant for those who are nobody.
    pub fn unfounded<'a>(
        &'a self,
        tenants: Tenants<'a>,
        is_anyones: impl Fn(&Subject, &Test) -> bool,
    ) -> impl Iterator<Item = Unfounded<'a>> {
        let grounds = Grounds {
            subjects: self.classifier.subjects(),
            at_gateway: self.trusted.is_none(),
            tenants,
        };
        let rules = self.classifier.rules().iter().enumerate();
        rules.filter_map(move |(position, rule)| {
            let for_anybody = match &rule.condition {
                Condition::Is(subject, test) => {
                    let subject = grounds.subjects.get(*subject);
                    subject.is_some_and(|subject| is_anyones(subject, test))
                }
                _ => false,
            };
            let unfounded = !for_anybody
                && !self.self_assignable.contains(&rule.user_type)
                && !rule.gives_only(self.default.as_deref())
                && grounds.missing(&rule.condition).is_some();
            unfounded.then_some(Unfounded {
                rule: position,
                user_type: &rule.user_type,
            })
        })
    }

    /// The positions of the rules that ask for claims.
    pub fn claims(&self) -> Vec<usize> {
        self.rules_that(|condition, subjects| {
            let of_claim = |(subject, _): &(usize, &Test)| {
                matches!(subjects.get(*subject), Some(Subject::Claim(_)))
            };
            let mut outcomes = [true, false].into_iter();
            outcomes.any(|outcome| condition.tests(outcome).iter().any(of_claim))
        })
    }

    /// The positions of the rules that a claim can make hold whichever of these issuers made it, and that give what not everybody may give himself.
    pub fn of_any_issuer(&self, issuers: &BTreeSet<&str>) -> Vec<usize> {
        let mut rules = self.rules_that(|condition, subjects| {
            ways(condition, true, &|subject, test| {
                of_issuer(subjects.get(subject), test, issuers)
            })
            .by_any
        });
        let all = self.classifier.rules();
        rules.retain(|position| {
            all.get(*position).is_some_and(|rule| {
                !self.self_assignable.contains(&rule.user_type)
                    && !rule.gives_only(self.default.as_deref())
            })
        });
        rules
    }

    fn rules_that(&self, holds: impl Fn(&Condition, &Subjects) -> bool) -> Vec<usize> {
        let subjects = self.classifier.subjects();
        let rules = self.classifier.rules().iter().enumerate();
        let found = rules.filter(|(_, rule)| holds(&rule.condition, subjects));
        found.map(|(position, _)| position).collect()
    }
}

impl Rule {
    /// Whether it gives the type that everybody has for whom no rule holds, and says nothing else.
    fn gives_only(&self, default: Option<&str>) -> bool {
        default == Some(self.user_type.as_str()) && self.outputs.is_empty() && self.sticky.is_none()
    }
}

/// How a condition can come out as it is wanted, with no test passed that tells whose token it is.
#[derive(Clone, Copy)]
struct Ways {
    /// With nothing of a claim.
    without: bool,
    /// By a claim.
    by_any: bool,
}

/// What a test says of issuers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OfIssuer {
    /// It is of no claim.
    NoClaim,
    /// It is of a claim that any of them may have made.
    Any,
    /// It does not pass for all of them.
    Some,
}

fn of_issuer(subject: Option<&Subject>, test: &Test, issuers: &BTreeSet<&str>) -> OfIssuer {
    match (subject, test) {
        (
            Some(Subject::Claim(path)),
            Test::Exact(_) | Test::OneOf(_) | Test::Hashed { .. } | Test::Pattern(_),
        ) if path == &["iss"] => {
            let mut issuers = issuers.iter();
            match issuers.all(|issuer| test.holds(issuer.as_bytes()) == Truth::Yes) {
                true => OfIssuer::Any,
                false => OfIssuer::Some,
            }
        }
        (Some(Subject::Claim(_)), _) => OfIssuer::Any,
        _ => OfIssuer::NoClaim,
    }
}

fn ways(
    condition: &Condition,
    outcome: bool,
    of_issuer: &dyn Fn(usize, &Test) -> OfIssuer,
) -> Ways {
    let each = |conditions: &[Condition], all: bool| {
        let mut ways = conditions
            .iter()
            .map(|condition| ways(condition, outcome, of_issuer));
        let either = |a: Ways, b: Ways| Ways {
            without: a.without || b.without,
            by_any: a.by_any || b.by_any,
        };
        let both = |a: Ways, b: Ways| Ways {
            without: a.without && b.without,
            by_any: (a.by_any && (b.by_any || b.without)) || (a.without && b.by_any),
        };
        let first = ways.next().unwrap_or(Ways {
            without: all,
            by_any: false,
        });
        match all {
            true => ways.fold(first, both),
            false => ways.fold(first, either),
        }
    };
    match condition {
        Condition::All(conditions) => each(conditions, outcome),
        Condition::Any(conditions) => each(conditions, !outcome),
        Condition::Not(condition) => ways(condition, !outcome, of_issuer),
        Condition::Is(subject, test) if outcome => {
            let of_issuer = of_issuer(*subject, test);
            Ways {
                without: of_issuer == OfIssuer::NoClaim,
                by_any: of_issuer == OfIssuer::Any,
            }
        }
        // What fails, fails also without a token.
        Condition::Is(..) | Condition::Time(_) | Condition::Percent(_) => Ways {
            without: true,
            by_any: false,
        },
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
            Subject::Tenant => self.is_tenant_verified(test, |id, _| id, |id, _| id),
            Subject::Tier => self.is_tenant_verified(test, |_, tier| tier, |_, tier| tier),
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
        part: impl Fn(&'a str, &'a str) -> &'a str,
        is_written: impl Fn(bool, bool) -> bool,
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
                    test.holds(part(id, tier).as_bytes()) == Truth::No
                }
                Tenants::Written { id, tier } => is_written(id, tier),
                Tenants::Anyones => false,
            }
    }
}
