//! The decision: the first rule that holds.
//!
//! Rules are not tried one after the other. Most of a long list ask one thing to be one value (a tenant, a user, a host), and of those only the ones
//! that ask for the value which the request has can hold. They are found by it; the rest is tried in its place among them. So a request costs what
//! the rules cost that could hold, and not what all of them would.

use std::collections::HashMap;

use crate::condition::{Condition, Subject, Test, Truth};
use crate::facts::{Facts, MAX_SUBJECTS, Reading, Subjects, Value};
use crate::sticky::Sticky;

/// From how many rules on that ask one thing to be one value they are found by it. Below that, comparing is faster than hashing.
const WORTH_AN_INDEX: usize = 8;

/// Of how many values a rule may ask for one of to be found by them: each is kept a second time.
const MAX_KEYS: usize = 64;

/// A rule: the type it gives where its condition holds.
#[derive(Debug)]
pub struct Rule {
    /// The type.
    pub user_type: String,
    /// When it is given.
    pub condition: Condition,
    /// What else is said where it holds.
    pub outputs: Outputs,
    /// The cookie that keeps those in whom its share has.
    pub sticky: Option<Box<Sticky>>,
}

/// What a rule says beside its type: names and values.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Headers of the request.
    pub request: Vec<(String, String)>,
    /// Headers of the response.
    pub response: Vec<(String, String)>,
    /// Properties of the stream's filter state.
    pub state: Vec<(String, String)>,
}

/// What a request is, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The position of the rule that holds; `None` if none does.
    pub rule: Option<usize>,
    /// A `set-cookie` header that keeps the client in the rule's share.
    pub cookie: Option<String>,
}

/// The rules, ready to decide.
#[derive(Debug, Default)]
pub struct Classifier {
    subjects: Subjects,
    rules: Vec<Rule>,
    /// Those that may hold whatever the values below are, in order.
    unindexed: Vec<usize>,
    indexes: Vec<Index>,
}

/// The rules that ask the same subject to be one of certain values.
#[derive(Debug)]
struct Index {
    subject: usize,
    /// The first of them: before it, the subject need not be read.
    first: usize,
    /// The positions of the rules that ask for a value, in order.
    rules: HashMap<Box<[u8]>, Vec<usize>>,
}

/// The rules of an index that may hold for a request.
#[derive(Clone, Copy)]
enum Candidates<'c> {
    /// The subject was not read yet; this is the first rule that there may be.
    Unread(usize),
    /// The rules that are left.
    Rules(&'c [usize]),
}

impl Candidates<'_> {
    fn next(&self) -> Option<usize> {
        match self {
            Self::Unread(first) => Some(*first),
            Self::Rules(rules) => rules.first().copied(),
        }
    }
}

impl Classifier {
    /// A classifier with these rules, tried in order, whose conditions refer to these subjects.
    pub fn new(subjects: Subjects, rules: Vec<Rule>) -> Self {
        Self::indexed(subjects, rules, WORTH_AN_INDEX)
    }

    fn indexed(subjects: Subjects, rules: Vec<Rule>, worth: usize) -> Self {
        // How many rules ask for a value: the rarer, the better it tells them apart.
        let mut frequency: HashMap<Key<'_>, usize> = HashMap::new();
        for rule in &rules {
            for keys in keys(&rule.condition, &subjects) {
                for key in keys {
                    *frequency.entry(key).or_default() += 1;
                }
            }
        }
        let chosen: Vec<Option<Vec<Key<'_>>>> = rules
            .iter()
            .map(|rule| {
                keys(&rule.condition, &subjects)
                    .into_iter()
                    .min_by_key(|keys| {
                        let most = keys.iter().filter_map(|key| frequency.get(key)).max();
                        most.copied().unwrap_or(0)
                    })
            })
            .collect();
        let mut of_subject = vec![0_usize; subjects.count()];
        for keys in chosen.iter().flatten() {
            let mut seen: Vec<usize> = keys.iter().map(|key| key.0).collect();
            seen.sort_unstable();
            seen.dedup();
            for subject in seen {
                if let Some(count) = of_subject.get_mut(subject) {
                    *count += 1;
                }
            }
        }
        let is_worth =
            |subject: usize| of_subject.get(subject).is_some_and(|count| *count >= worth);
        let mut unindexed = Vec::new();
        let mut indexes: Vec<Index> = Vec::new();
        for (position, keys) in chosen.iter().enumerate() {
            let Some(keys) = keys
                .as_ref()
                .filter(|keys| keys.iter().all(|key| is_worth(key.0)))
            else {
                unindexed.push(position);
                continue;
            };
            for (subject, value) in keys {
                let index = match indexes
                    .iter_mut()
                    .position(|index| index.subject == *subject)
                {
                    Some(at) => indexes.get_mut(at),
                    None => {
                        indexes.push(Index {
                            subject: *subject,
                            first: position,
                            rules: HashMap::new(),
                        });
                        indexes.last_mut()
                    }
                };
                let Some(index) = index else { continue };
                let rules = index.rules.entry((*value).into()).or_default();
                if rules.last() != Some(&position) {
                    rules.push(position);
                }
            }
        }
        Self {
            subjects,
            unindexed,
            indexes,
            rules,
        }
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What rules look at.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Decides.
    pub fn decide(&self, facts: &Facts<'_>) -> Decision {
        let mut reading = Reading::new(facts, &self.subjects);
        let mut candidates = Merge::new(self);
        while let Some(position) = candidates.next(&mut reading) {
            let Some(rule) = self.rules.get(position) else {
                continue;
            };
            if reading.holds(rule) == Truth::Yes {
                return Decision {
                    rule: Some(position),
                    cookie: reading.cookie(rule),
                };
            }
        }
        Decision::default()
    }
}

/// The rules that may hold for a request, in order.
struct Merge<'c> {
    unindexed: &'c [usize],
    indexes: &'c [Index],
    candidates: [Candidates<'c>; MAX_SUBJECTS],
}

impl<'c> Merge<'c> {
    fn new(classifier: &'c Classifier) -> Self {
        let mut candidates = [Candidates::Rules(&[]); MAX_SUBJECTS];
        for (candidates, index) in candidates.iter_mut().zip(&classifier.indexes) {
            *candidates = Candidates::Unread(index.first);
        }
        Self {
            unindexed: &classifier.unindexed,
            indexes: &classifier.indexes,
            candidates,
        }
    }

    fn next(&mut self, reading: &mut Reading<'_, '_>) -> Option<usize> {
        loop {
            let mut next = self.unindexed.first().copied();
            let mut unread = None;
            for (candidates, index) in self.candidates.iter_mut().zip(self.indexes) {
                let Some(first) = candidates.next() else {
                    continue;
                };
                if next.is_none_or(|next| first < next) {
                    next = Some(first);
                    unread = match candidates {
                        Candidates::Unread(_) => Some((candidates, index)),
                        Candidates::Rules(_) => None,
                    };
                }
            }
            let Some((candidates, index)) = unread else {
                let next = next?;
                self.pass(next);
                return Some(next);
            };
            *candidates = Candidates::Rules(index.rules_for(reading.value(index.subject)));
        }
    }

    /// Takes a rule out, wherever it stands.
    fn pass(&mut self, position: usize) {
        let without = |rules: &'c [usize]| match rules.split_first() {
            Some((first, rest)) if *first == position => rest,
            _ => rules,
        };
        self.unindexed = without(self.unindexed);
        for (candidates, _) in self.candidates.iter_mut().zip(self.indexes) {
            if let Candidates::Rules(rules) = candidates {
                *rules = without(rules);
            }
        }
    }
}

impl Index {
    fn rules_for(&self, value: &Value<'_>) -> &[usize] {
        let text = match value {
            Value::Text(text) => &**text,
            // Only where both readings pass can a rule hold.
            Value::Two(plain, _) => plain,
            _ => return &[],
        };
        self.rules.get(text).map_or(&[], Vec::as_slice)
    }
}

/// A value that a rule asks a subject for.
type Key<'c> = (usize, &'c [u8]);

/// Values one of which a request must have for the condition to hold: each list is one way to find the rule.
fn keys<'c>(condition: &'c Condition, subjects: &Subjects) -> Vec<Vec<Key<'c>>> {
    match condition {
        Condition::All(conditions) => conditions
            .iter()
            .flat_map(|condition| keys(condition, subjects))
            .collect(),
        // Of each branch one, and all of them together.
        Condition::Any(conditions) => {
            let mut together = Vec::new();
            for condition in conditions {
                let shortest = keys(condition, subjects)
                    .into_iter()
                    .min_by_key(|keys| keys.len());
                match shortest {
                    Some(keys) if together.len() + keys.len() <= MAX_KEYS => together.extend(keys),
                    _ => return Vec::new(),
                }
            }
            vec![together]
        }
        Condition::Is(subject, test) if subjects.get(*subject) != Some(&Subject::Source) => {
            match test {
                Test::Exact(text) => vec![vec![(*subject, text)]],
                Test::OneOf(texts) if texts.len() <= MAX_KEYS => {
                    vec![texts.iter().map(|text| (*subject, &**text)).collect()]
                }
                _ => Vec::new(),
            }
        }
        Condition::Is(..) | Condition::Not(_) | Condition::Time(_) | Condition::Percent(_) => {
            Vec::new()
        }
    }
}
