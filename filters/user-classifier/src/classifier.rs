//! The decision: from the headers of a request to the type of its user.

use std::collections::HashSet;

use tollgate_common::StringMatch;
use tollgate_common::header::{TENANT_ID, TENANT_TIER};

/// How many different things (headers, tenant, tier) the rules of one classifier may look at.
pub const MAX_SUBJECTS: usize = 32;

/// What a condition looks at. Tenant and tier are headers too, but ones that no client wrote: the
/// tenant-rate-limit filter in front strips what clients send in them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A header that a client may send at will; its name in lower case.
    Header(String),
    /// The tenant's id.
    Tenant,
    /// The tenant's tier.
    Tier,
}

impl Subject {
    fn header_name(&self) -> &str {
        match self {
            Self::Header(name) => name,
            Self::Tenant => TENANT_ID,
            Self::Tier => TENANT_TIER,
        }
    }
}

/// What a condition asks of the value it looks at.
#[derive(Debug)]
pub enum Test {
    /// The value is there, empty or not.
    Present,
    /// The value is one of these: `exact`, and `in` in constant time.
    OneOf(HashSet<Box<[u8]>>),
    /// The value matches a prefix, suffix or regular expression.
    Pattern(StringMatch),
}

impl Test {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::OneOf(values) => values.contains(value),
            Self::Pattern(pattern) => pattern.matches(value),
        }
    }

    /// Whether every value that passes this test is known to pass `other` too. `false` when that can't be told.
    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Present) => true,
            (Self::OneOf(values), other) => values.iter().all(|value| other.holds(value)),
            (Self::Pattern(pattern), Self::Pattern(other)) => match (pattern, other) {
                (StringMatch::Prefix(text), StringMatch::Prefix(other)) => {
                    text.starts_with(other.as_str())
                }
                (StringMatch::Suffix(text), StringMatch::Suffix(other)) => {
                    text.ends_with(other.as_str())
                }
                (StringMatch::Regex(regex), StringMatch::Regex(other)) => {
                    regex.as_str() == other.as_str()
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether no value can pass both tests. `false` when that can't be told.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::OneOf(values), test) | (test, Self::OneOf(values)) => {
                !values.iter().any(|value| test.holds(value))
            }
            _ => false,
        }
    }
}

/// A condition of a rule.
#[derive(Debug)]
pub struct Condition {
    /// What it looks at.
    pub subject: Subject,
    /// What it asks of it.
    pub test: Test,
}

impl Condition {
    /// Whether this condition can only hold where `other` holds as well.
    pub fn implies(&self, other: &Self) -> bool {
        self.subject == other.subject && self.test.implies(&other.test)
    }

    /// Whether this condition can never hold where `other` holds.
    pub fn excludes(&self, other: &Self) -> bool {
        self.subject == other.subject && self.test.excludes(&other.test)
    }

    /// Whether the condition rests on something a client can't choose by itself. That a tenant is *there* says
    /// nothing: the filter in front gives one to every request.
    pub fn is_trusted(&self) -> bool {
        match self.subject {
            Subject::Header(_) => false,
            Subject::Tenant | Subject::Tier => !matches!(self.test, Test::Present),
        }
    }
}

/// A rule: the type it gives where all its conditions hold.
#[derive(Debug)]
pub struct Rule {
    /// The type.
    pub user_type: String,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

/// What a request is, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The type of the user.
    pub user_type: &'a str,
    /// The position of the rule that gave it; `None` if it is the default.
    pub rule: Option<usize>,
}

/// The value a request has for a subject.
#[derive(Clone, Copy)]
enum Value<'a> {
    Absent,
    One(&'a [u8]),
    /// Sent more than once. Proxies and services differ in which copy they read, so none of them chooses a type.
    Several,
}

/// The rules, ready to decide.
#[derive(Debug)]
pub struct Classifier {
    /// The header names that rules look at, each once; conditions refer to them by position.
    subjects: Vec<String>,
    rules: Vec<CompiledRule>,
    default: String,
}

#[derive(Debug)]
struct CompiledRule {
    user_type: String,
    conditions: Vec<(usize, Test)>,
}

impl Classifier {
    /// A classifier with these rules, tried in order. At most [`MAX_SUBJECTS`] different subjects are looked at: a rule
    /// with a further one never holds (the configuration refuses it before).
    pub fn new(rules: Vec<Rule>, default: String) -> Self {
        let mut subjects: Vec<String> = Vec::new();
        let rules = rules
            .into_iter()
            .map(|rule| CompiledRule {
                user_type: rule.user_type,
                conditions: rule
                    .conditions
                    .into_iter()
                    .map(|condition| {
                        let name = condition.subject.header_name();
                        let position = subjects
                            .iter()
                            .position(|known| known == name)
                            .unwrap_or_else(|| {
                                subjects.push(name.to_owned());
                                subjects.len() - 1
                            });
                        (position, condition.test)
                    })
                    .collect(),
            })
            .collect();
        Self {
            subjects,
            rules,
            default,
        }
    }

    /// Decides from the headers of a request, given in lower case as the proxy keeps them. Looks at every header once,
    /// whatever the number of rules.
    pub fn decide<'a>(&self, headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Decision<'_> {
        let mut values = [Value::Absent; MAX_SUBJECTS];
        for (name, value) in headers {
            let slots = self.subjects.iter().zip(values.iter_mut());
            if let Some((_, slot)) = slots
                .into_iter()
                .find(|(subject, _)| subject.as_bytes() == name)
            {
                *slot = match slot {
                    Value::Absent => Value::One(value),
                    Value::One(_) | Value::Several => Value::Several,
                };
            }
        }
        let holds = |(subject, test): &(usize, Test)| match values.get(*subject) {
            Some(Value::One(value)) => test.holds(value),
            _ => false,
        };
        self.rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.conditions.iter().all(holds))
            .map_or(
                Decision {
                    user_type: &self.default,
                    rule: None,
                },
                |(position, rule)| Decision {
                    user_type: &rule.user_type,
                    rule: Some(position),
                },
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// A condition in a form that both the classifier and the interpreter below read.
    #[derive(Clone, Debug)]
    struct Written {
        subject: Subject,
        key: &'static str,
        texts: Vec<&'static str>,
    }

    impl Written {
        fn compile(&self) -> Condition {
            let text = self.texts[0].to_owned();
            let test = match self.key {
                "present" => Test::Present,
                "in" => Test::OneOf(
                    self.texts
                        .iter()
                        .map(|text| text.as_bytes().into())
                        .collect(),
                ),
                "prefix" => Test::Pattern(StringMatch::Prefix(text)),
                "suffix" => Test::Pattern(StringMatch::Suffix(text)),
                key => unreachable!("{key}"),
            };
            Condition {
                subject: self.subject.clone(),
                test,
            }
        }

        /// Says again, as plainly as it can be said, when a condition holds.
        fn holds(&self, headers: &[(String, Vec<u8>)]) -> bool {
            let name = match &self.subject {
                Subject::Header(name) => name.as_str(),
                Subject::Tenant => "x-tenant-id",
                Subject::Tier => "x-tenant-tier",
            };
            let values: Vec<&Vec<u8>> = headers
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v)
                .collect();
            let text = self.texts[0].as_bytes();
            values.len() == 1
                && match self.key {
                    "present" => true,
                    "in" => self.texts.iter().any(|text| values[0] == text.as_bytes()),
                    "prefix" => values[0].starts_with(text),
                    "suffix" => values[0].ends_with(text),
                    key => unreachable!("{key}"),
                }
        }
    }

    fn conditions() -> impl Strategy<Value = Vec<Written>> {
        let subject = prop_oneof![
            select(vec!["x-user-id", "x-plan"]).prop_map(|name| Subject::Header(name.to_owned())),
            Just(Subject::Tenant),
            Just(Subject::Tier),
        ];
        let key = select(vec!["present", "in", "prefix", "suffix"]);
        let texts = vec(select(vec!["a", "b", "ab", "ba", "aba"]), 1..4);
        let condition = (subject, key, texts).prop_map(|(subject, key, texts)| Written {
            subject,
            key,
            texts,
        });
        vec(condition, 1..4)
    }

    fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        let name = select(vec![
            "x-user-id",
            "x-plan",
            "x-tenant-id",
            "x-tenant-tier",
            "x_user_id",
            "accept",
        ]);
        let value = prop_oneof![
            6 => select(vec!["a", "b", "ab", "ba", "aba", "", "other"]).prop_map(|text| text.as_bytes().to_vec()),
            1 => vec(any::<u8>(), 0..8),
        ];
        vec((name.prop_map(str::to_owned), value), 0..7)
    }

    fn decide(rules: &[Vec<Written>], headers: &[(String, Vec<u8>)]) -> Option<usize> {
        let compiled = rules
            .iter()
            .enumerate()
            .map(|(position, rule)| Rule {
                user_type: format!("type-{position}"),
                conditions: rule.iter().map(Written::compile).collect(),
            })
            .collect();
        let classifier = Classifier::new(compiled, "default".to_owned());
        let decision = classifier.decide(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_slice())));
        let expected = decision
            .rule
            .map_or("default".to_owned(), |position| format!("type-{position}"));
        assert_eq!(decision.user_type, expected);
        decision.rule
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn rules_decide_as_a_plain_reading_of_them_does(rules in vec(conditions(), 0..6), headers in headers()) {
            let expected = rules.iter().position(|rule| rule.iter().all(|condition| condition.holds(&headers)));
            prop_assert_eq!(decide(&rules, &headers), expected);
        }

        #[test]
        fn what_implies_or_excludes_another_condition_does_so_for_every_request(
            pair in (conditions(), conditions()), headers in headers()
        ) {
            for a in &pair.0 {
                for b in &pair.1 {
                    if a.compile().implies(&b.compile()) {
                        prop_assert!(!a.holds(&headers) || b.holds(&headers), "{a:?} does not imply {b:?}");
                    }
                    if a.compile().excludes(&b.compile()) {
                        prop_assert!(!a.holds(&headers) || !b.holds(&headers), "{a:?} does not exclude {b:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_header_sent_twice_chooses_nothing() {
        let rules = [vec![Written {
            subject: Subject::Header("x-user-id".to_owned()),
            key: "in",
            texts: vec!["a"],
        }]];
        let header = ("x-user-id".to_owned(), b"a".to_vec());
        assert_eq!(decide(&rules, std::slice::from_ref(&header)), Some(0));
        assert_eq!(decide(&rules, &[header.clone(), header.clone()]), None);
        assert_eq!(
            decide(&rules, &[header.clone(), header.clone(), header]),
            None
        );
    }
}
