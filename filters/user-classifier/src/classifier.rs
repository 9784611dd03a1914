//! The decision: the first rule that holds.
//!
//! Rules are not tried one after the other. Most of a long list ask one thing to be one value (a tenant, a user, a host), and of those only the ones
//! that ask for the value which the request has can hold. They are found by it, or by its hash; the rest is tried in its place among them. So a request costs what
//! the rules cost that could hold, and not what all of them would.

use std::collections::HashMap;

use tollgate_common::hashed::hashed_id;

use crate::condition::{Condition, LONGEST_HASHED, Subject, Test, Truth};
use crate::facts::{Facts, MAX_SUBJECTS, Reading, Subjects, Value};
use crate::sticky::Sticky;

/// From how many rules on that ask one thing to be one value they are found by it. Below that, comparing is faster than hashing.
const WORTH_AN_INDEX: usize = 8;

/// Of how many values a rule may ask for one of to be found by them as any other rule: each is kept a second time. A longer list is searched in
/// constant time as it is, and kept a second time only where there are many such.
const SHORT: usize = 64;

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

impl Outputs {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty() && self.state.is_empty()
    }
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
    /// What the value is hashed with, if the rules know only hashes.
    salt: Option<String>,
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
    pub fn new(mut subjects: Subjects, rules: Vec<Rule>) -> Self {
        subjects.choose_claims(&rules);
        Self::indexed(subjects, rules, WORTH_AN_INDEX)
    }

    fn indexed(subjects: Subjects, rules: Vec<Rule>, worth: usize) -> Self {
        let long_ones = rules.iter().filter(|rule| has_long_list(&rule.condition));
        let longest = match long_ones.count() >= worth {
            true => usize::MAX,
            false => SHORT,
        };
        let ways: Vec<Vec<Vec<Key<'_>>>> = rules
            .iter()
            .map(|rule| keys(&rule.condition, longest, &subjects))
            .collect();
        let is_long = |keys: &[Key<'_>]| keys.len() > SHORT;
        // How many rules ask for a value: the rarer, the better it tells them apart. And how many ask for any, in short lists and in long ones.
        let mut frequency: HashMap<Key<'_>, usize> = HashMap::new();
        let mut asked: HashMap<Key<'_>, usize> = HashMap::new();
        for ways in &ways {
            let mut all: Vec<Key<'_>> = Vec::new();
            for keys in ways {
                for key in keys {
                    *frequency.entry(*key).or_default() += 1;
                    let any = any(key.0, is_long(keys));
                    if !all.contains(&any) {
                        all.push(any);
                        *asked.entry(any).or_default() += 1;
                    }
                }
            }
        }
        let is_worth = |keys: &[Key<'_>]| {
            let asked = |key: &Key<'_>| asked.get(&any(key.0, is_long(keys))).copied();
            keys.iter()
                .all(|key| asked(key).is_some_and(|asked| asked >= worth))
        };
        let commonest = |keys: &[Key<'_>]| {
            let most = keys.iter().filter_map(|key| frequency.get(key)).max();
            most.copied().unwrap_or(0)
        };
        let mut unindexed = Vec::new();
        let mut indexes: Vec<Index> = Vec::new();
        for (position, ways) in ways.iter().enumerate() {
            let keys = ways
                .iter()
                .filter(|keys| is_worth(keys))
                // A long list where a short one would not do.
                .min_by_key(|keys| commonest(keys) + if is_long(keys) { worth } else { 0 })
                .filter(|keys| make_indexes(keys, position, &mut indexes));
            let Some(keys) = keys else {
                unindexed.push(position);
                continue;
            };
            for (by, value) in keys {
                let of_key = |index: &&mut Index| index.by() == *by;
                let Some(index) = indexes.iter_mut().find(of_key) else {
                    continue;
                };
                let rules = index.rules.entry((*value).into()).or_default();
                if rules.last() != Some(&position) {
                    rules.push(position);
                }
            }
        }
        // There was no room for all that a rule needed.
        indexes.retain(|index| !index.rules.is_empty());
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
        self.decide_by(&mut Reading::new(facts, &self.subjects))
    }

    fn decide_by<'r>(&'r self, reading: &mut Reading<'r, '_>) -> Decision {
        let mut candidates = Merge::new(self);
        while let Some(position) = candidates.next(reading) {
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
    /// Of each index.
    candidates: Vec<Candidates<'c>>,
}

impl<'c> Merge<'c> {
    fn new(classifier: &'c Classifier) -> Self {
        let unread = |index: &Index| Candidates::Unread(index.first);
        Self {
            unindexed: &classifier.unindexed,
            indexes: &classifier.indexes,
            candidates: classifier.indexes.iter().map(unread).collect(),
        }
    }

    fn next(&mut self, reading: &mut Reading<'_, '_>) -> Option<usize> {
        if self.candidates.is_empty() {
            return self.unindexed.split_off_first().copied();
        }
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
            #[cfg(test)]
            reading.count_work();
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
    fn by(&self) -> By<'_> {
        (self.subject, self.salt.as_deref())
    }

    fn rules_for(&self, value: &Value<'_>) -> &[usize] {
        let text = match value {
            Value::Text(text) => &**text,
            // Only where both readings pass can a rule hold.
            Value::Two(plain, _) => plain,
            _ => return &[],
        };
        let found = match &self.salt {
            None => self.rules.get(text),
            // No rule holds for what is too long to be hashed.
            Some(_) if text.len() > LONGEST_HASHED => None,
            Some(salt) => self.rules.get(&hashed_id(salt, text)[..]),
        };
        found.map_or(&[], Vec::as_slice)
    }
}

/// Stands for any value in a list that is long, or is not.
fn any(by: By<'_>, is_long: bool) -> Key<'_> {
    (by, if is_long { b"long" } else { b"short" })
}

/// Makes the indexes that are missing for these keys of a rule, if there is room for them.
fn make_indexes(keys: &[Key<'_>], rule: usize, indexes: &mut Vec<Index>) -> bool {
    for ((subject, salt), _) in keys {
        if indexes.iter().any(|index| index.by() == (*subject, *salt)) {
            continue;
        }
        if indexes.len() == MAX_SUBJECTS {
            return false;
        }
        indexes.push(Index {
            subject: *subject,
            salt: salt.map(str::to_owned),
            first: rule,
            rules: HashMap::new(),
        });
    }
    true
}

/// What rules are found by: the value of a subject, or its hash with a salt.
type By<'c> = (usize, Option<&'c str>);

/// A value that a rule asks a subject for, or the hash of one.
type Key<'c> = (By<'c>, &'c [u8]);

/// Whether a list in it is longer than [`SHORT`].
fn has_long_list(condition: &Condition) -> bool {
    match condition {
        Condition::All(conditions) => conditions.iter().any(has_long_list),
        Condition::Is(_, Test::OneOf(texts)) => texts.count() > SHORT,
        Condition::Is(_, Test::Hashed { hashes, .. }) => hashes.len() > SHORT,
        // Long lists are not joined.
        _ => false,
    }
}

/// Values one of which a request must have for the condition to hold, if they are no more than `longest`: each list is one way to find the rule.
fn keys<'c>(condition: &'c Condition, longest: usize, subjects: &Subjects) -> Vec<Vec<Key<'c>>> {
    match condition {
        Condition::All(conditions) => conditions
            .iter()
            .flat_map(|condition| keys(condition, longest, subjects))
            .collect(),
        // Of each branch one, and all of them together.
        Condition::Any(conditions) => {
            let mut together = Vec::new();
            for condition in conditions {
                let shortest = keys(condition, SHORT, subjects)
                    .into_iter()
                    .min_by_key(|keys| keys.len());
                match shortest {
                    Some(keys) if together.len() + keys.len() <= SHORT => together.extend(keys),
                    _ => return Vec::new(),
                }
            }
            vec![together]
        }
        Condition::Is(subject, test) if subjects.get(*subject) != Some(&Subject::Source) => {
            match test {
                Test::Exact(text) => vec![vec![((*subject, None), text)]],
                Test::OneOf(texts) if texts.count() <= longest => {
                    let by = (*subject, None);
                    vec![texts.iter().map(|text| (by, text)).collect()]
                }
                Test::Hashed { salt, hashes } if hashes.len() <= longest => {
                    let by = (*subject, Some(salt.as_str()));
                    vec![hashes.iter().map(|hash| (by, &hash[..])).collect()]
                }
                _ => Vec::new(),
            }
        }
        Condition::Is(..) | Condition::Not(_) | Condition::Time(_) | Condition::Percent(_) => {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Compiled;
    use crate::facts::Outside;
    use serde_json::{Value as Json, json};
    use std::net::IpAddr;
    use tollgate_common::claims::{Leaf, METADATA};
    use tollgate_common::hashed::to_hex;
    use tollgate_host::memory::MemoryHost;
    use tollgate_host::{HeaderMap, Host};

    /// A request of which only headers and claims are known.
    struct Known {
        metadata: Vec<u8>,
    }

    impl Outside for Known {
        fn metadata(&self) -> Option<&[u8]> {
            Some(&self.metadata)
        }

        fn has_metadata(&self) -> bool {
            true
        }

        fn claim(&self, _: &Leaf) -> Option<Vec<u8>> {
            None
        }

        fn peer(&self) -> Option<Vec<u8>> {
            None
        }

        fn source(&self) -> Option<IpAddr> {
            None
        }

        fn now(&self) -> u64 {
            0
        }
    }

    /// The rule that decides of a request, and how many tests and look-ups that took.
    fn work(
        compiled: &Compiled,
        headers: &[(&str, String)],
        claims: &Json,
    ) -> (Option<usize>, usize) {
        let mut host = MemoryHost::new();
        host.set_claims(claims.clone());
        let metadata = host.property(&METADATA).unwrap().unwrap();
        let (known, headers) = (Known { metadata }, HeaderMap::from_pairs(headers));
        let classifier = &compiled.classifier;
        let facts = Facts::new(&headers, &known);
        let mut reading = Reading::new(&facts, classifier.subjects());
        let decision = classifier.decide_by(&mut reading);
        (decision.rule, reading.work())
    }

    fn compiled(rules: impl Iterator<Item = Json>) -> Compiled {
        let rules: Vec<Json> = rules
            .map(|when| json!({"type": "vip", "when": when}))
            .collect();
        let config = json!({"default": "standard", "tenant": {"vouched": true}, "selfAssignable": ["vip"], "rules": rules});
        Compiled::read(config.to_string().as_bytes()).unwrap()
    }

    /// The condition of a rule by its number, as users write long lists of rules.
    type Shape = fn(usize) -> Json;

    #[test]
    fn thousands_of_rules_are_at_most_twice_the_work_of_ten() {
        let shapes: [(&str, usize, Shape); 11] = [
            (
                "a claim",
                10_000,
                |i| json!({"claim": {"name": "sub", "exact": format!("u{i}")}}),
            ),
            (
                "a list of a claim",
                2_000,
                |i| json!({"claim": {"name": "sub", "in": [format!("u{i}"), format!("v{i}"), format!("w{i}")]}}),
            ),
            // The last of many has as many ids as a manifest has room for.
            ("a claim, and a list of all", 10_000, |i| match i {
                9_999 => {
                    let ids = (9_999..59_999).map(|id| format!("u{id}"));
                    json!({"claim": {"name": "sub", "in": ids.collect::<Vec<_>>()}})
                }
                i => json!({"claim": {"name": "sub", "exact": format!("u{i}")}}),
            }),
            (
                "a header",
                10_000,
                |i| json!({"header": {"name": "x-user", "exact": format!("u{i}")}}),
            ),
            (
                "a tenant",
                10_000,
                |i| json!({"tenant": {"exact": format!("u{i}")}}),
            ),
            (
                "a tenant and more",
                2_000,
                |i| json!([{"tier": {"exact": "premium"}}, {"path": {"prefix": "/"}}, {"tenant": {"exact": format!("u{i}")}}]),
            ),
            ("a claim within all", 2_000, |i| {
                json!({"all": [
                    {"any": [{"method": {"exact": "GET"}}, {"method": {"exact": "POST"}}]},
                    {"all": [{"not": {"header": {"name": "x-bot", "present": true}}}, {"claim": {"name": "sub", "in": [format!("u{i}")]}}]},
                ]})
            }),
            (
                "a tenant or a claim",
                2_000,
                |i| json!({"any": [{"tenant": {"exact": format!("u{i}")}}, {"claim": {"name": "sub", "exact": format!("v{i}")}}]}),
            ),
            ("a hashed id", 2_000, |i| {
                let hash = to_hex(&hashed_id("s", format!("u{i}").as_bytes()));
                json!({"claim": {"name": "sub", "hashes": {"salt": "s", "in": [hash]}}})
            }),
            ("long lists", 500, |i| {
                let ids: Vec<String> = (0..100)
                    .map(|id| match id {
                        0 => format!("u{i}"),
                        id => format!("u{i}-{id}"),
                    })
                    .collect();
                json!({"claim": {"name": "sub", "in": ids}})
            }),
            ("long lists of hashes and more", 500, |i| {
                let ids: Vec<String> = (0..100)
                    .map(|id| match id {
                        0 => to_hex(&hashed_id("s", format!("u{i}").as_bytes())),
                        id => to_hex(&hashed_id("s", format!("u{i}-{id}").as_bytes())),
                    })
                    .collect();
                json!([{"tier": {"exact": "premium"}}, {"claim": {"name": "sub", "hashes": {"salt": "s", "in": ids}}}])
            }),
        ];
        for (name, many, shape) in shapes {
            let (few, all) = (compiled((0..10).map(shape)), compiled((0..many).map(shape)));
            let mut worst = [0, 0];
            for (worst, (rules, count)) in worst.iter_mut().zip([(&few, 10), (&all, many)]) {
                for asked in [0, count / 2, count - 1, usize::MAX] {
                    let user = format!("u{asked}");
                    let headers = [
                        (":path", "/products".to_owned()),
                        (":method", "GET".to_owned()),
                        ("x-user", user.clone()),
                        ("x-tenant-id", user.clone()),
                        ("x-tenant-tier", "premium".to_owned()),
                    ];
                    let (rule, work) = work(rules, &headers, &json!({"sub": user}));
                    assert_eq!(rule, (asked < count).then_some(asked), "{name}");
                    *worst = work.max(*worst);
                }
            }
            let [few, all] = worst;
            assert!(all <= 2 * few, "{name}: {all} for many, {few} for ten");
        }
    }

    #[test]
    fn there_is_room_for_so_many_indexes_and_no_rule_is_lost() {
        // Each salt is a way of its own to find rules.
        let hashed = |i: usize| {
            let salt = format!("s{}", i % 40);
            let hash = to_hex(&hashed_id(&salt, format!("u{i}").as_bytes()));
            json!({"claim": {"name": "sub", "hashes": {"salt": salt, "in": [hash]}}})
        };
        let compiled = compiled((0..400).map(hashed));
        assert_eq!(compiled.classifier.indexes.len(), MAX_SUBJECTS);
        for asked in 0..400 {
            let claims = json!({"sub": format!("u{asked}")});
            assert_eq!(work(&compiled, &[], &claims).0, Some(asked));
        }
        let too_long = json!({"sub": "u".repeat(LONGEST_HASHED + 1)});
        assert_eq!(work(&compiled, &[], &too_long).0, None);
    }

    #[test]
    fn a_list_is_kept_a_second_time_only_where_that_helps() {
        let list = |i: usize, ids: usize| {
            let ids: Vec<String> = (0..ids).map(|id| format!("u{i}-{id}")).collect();
            json!({"claim": {"name": "sub", "in": ids}})
        };
        let kept = |lists: usize, ids: usize| {
            let compiled = compiled((0..lists).map(|i| list(i, ids)));
            let indexes = compiled.classifier.indexes.iter();
            indexes.map(|index| index.rules.len()).sum::<usize>()
        };
        assert_eq!(
            [kept(7, 64), kept(8, 64), kept(7, 65), kept(8, 65)],
            [0, 512, 0, 520]
        );
    }
}
