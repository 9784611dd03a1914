//! Conditions: trees of tests on what a request is, with three outcomes.
//!
//! A condition holds, does not hold, or is [unclear](Truth::Unclear): a header that is there twice, a path that services read in two ways. What is unclear
//! stays so under `not`, or a client could make a `not` hold by spoiling what it looks at.

use std::collections::HashSet;

use tollgate_common::StringMatch;
use tollgate_common::hashed::{HASHED_ID, hashed_id};
use tollgate_host::same_bytes;

use crate::network::Network;
use crate::time::Window;

/// What a test looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A header; its name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query, decoded.
    Query(String),
    /// The path without its query.
    Path,
    /// The method.
    Method,
    /// The host in lower case, without its port.
    Host,
    /// The tenant's id, as the tenant-rate-limit filter in front wrote it.
    Tenant,
    /// The tenant's tier, likewise.
    Tier,
    /// A claim of the token that the proxy verified, by its path.
    Claim(Vec<String>),
    /// The SPIFFE identity in the certificate of whoever is connected.
    Peer,
    /// The address that the proxy takes for the client's.
    Source,
}

/// How a condition came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// Different readers of the request would differ.
    Unclear,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Truth {
    /// The outcome of `not`.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unclear => Self::Unclear,
        }
    }

    /// The outcome for all of several conditions. The last ones are not looked at once one does not hold.
    pub fn all(outcomes: impl Iterator<Item = Self>) -> Self {
        Self::fold(outcomes, Self::Yes, Self::No)
    }

    /// The outcome for any of several conditions.
    pub fn any(outcomes: impl Iterator<Item = Self>) -> Self {
        Self::fold(outcomes, Self::No, Self::Yes)
    }

    fn fold(outcomes: impl Iterator<Item = Self>, start: Self, decisive: Self) -> Self {
        let mut outcome = start;
        for next in outcomes {
            if next == decisive {
                return decisive;
            }
            if next == Self::Unclear {
                outcome = Self::Unclear;
            }
        }
        outcome
    }
}

/// What is asked of a value.
#[derive(Debug)]
pub enum Test {
    /// It is there, empty or not; a claim also not `null`.
    Present,
    /// It is this text.
    Exact(Box<[u8]>),
    /// It is one of these, found in constant time.
    OneOf(Texts),
    /// Its hash is one of these, likewise.
    Hashed {
        /// What it is hashed with.
        salt: String,
        /// The hashes.
        hashes: HashSet<[u8; HASHED_ID]>,
    },
    /// It matches a prefix, suffix or regular expression.
    Pattern(StringMatch),
    /// It is a number in this range; a claim a JSON number, anything else decimal digits.
    Number(Range),
    /// The claim is this JSON boolean.
    Bool(bool),
    /// The claim is an array, and one of its elements passes this test.
    Contains(Box<Test>),
    /// The address is in one of these networks.
    Within(Vec<Network>),
}

/// Texts, each there once.
#[derive(Debug, Default)]
pub struct Texts {
    /// If they are few: to compare with each takes less than to hash what is looked for.
    few: Vec<Box<[u8]>>,
    /// If they are many.
    many: HashSet<Box<[u8]>>,
}

/// How many texts are few.
const FEW: usize = 8;

impl Texts {
    /// These texts.
    pub fn new(texts: HashSet<Box<[u8]>>) -> Self {
        match texts.len() <= FEW {
            true => Self {
                few: texts.into_iter().collect(),
                many: HashSet::new(),
            },
            false => Self {
                few: Vec::new(),
                many: texts,
            },
        }
    }

    /// Whether this text is one of them.
    pub fn has(&self, text: &[u8]) -> bool {
        self.few.iter().any(|few| same_bytes(few, text))
            || (!self.many.is_empty() && self.many.contains(text))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.few.len() + self.many.len()
    }

    /// Each of them, in any order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.few.iter().chain(&self.many);
        all.map(|text| &**text)
    }
}

/// Numbers between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// The lower bound, and whether it belongs to the range.
    pub low: Option<(f64, bool)>,
    /// The upper bound, likewise.
    pub high: Option<(f64, bool)>,
}

impl Range {
    /// Whether it has this number.
    pub fn has(&self, number: f64) -> bool {
        let above = |(bound, inclusive)| number > bound || (inclusive && number == bound);
        let below = |(bound, inclusive)| number < bound || (inclusive && number == bound);
        self.low.is_none_or(above) && self.high.is_none_or(below)
    }

    /// Whether there can be a number in it.
    pub fn is_possible(&self) -> bool {
        match (self.low, self.high) {
            (Some((low, with_low)), Some((high, with_high))) => {
                low < high || (low == high && with_low && with_high)
            }
            _ => true,
        }
    }

    fn is_within(&self, other: &Self) -> bool {
        let low = match (self.low, other.low) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some((own, with_own)), Some((bound, with_bound))) => {
                own > bound || (own == bound && (with_bound || !with_own))
            }
        };
        let high = match (self.high, other.high) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some((own, with_own)), Some((bound, with_bound))) => {
                own < bound || (own == bound && (with_bound || !with_own))
            }
        };
        low && high
    }

    fn is_apart_from(&self, other: &Self) -> bool {
        let low = match (self.low, other.low) {
            (Some((a, with_a)), Some((b, with_b))) if a == b => Some((a, with_a && with_b)),
            (Some(a), Some(b)) => Some(if a.0 > b.0 { a } else { b }),
            (a, b) => a.or(b),
        };
        let high = match (self.high, other.high) {
            (Some((a, with_a)), Some((b, with_b))) if a == b => Some((a, with_a && with_b)),
            (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
            (a, b) => a.or(b),
        };
        !Self { low, high }.is_possible()
    }
}

/// A number as headers have it: `-`, digits, and perhaps a point and more digits. Bounds are whole numbers, so of a fraction it
/// is enough to know that there is one.
pub fn decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = parts.next()?;
    let fraction = parts.next();
    let all_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    // Fifteen digits are exact in a double.
    if whole.len() > 15 || !all_digits(whole) || !fraction.is_none_or(all_digits) {
        return None;
    }
    let number = whole
        .iter()
        .fold(0.0, |number, digit| number * 10.0 + f64::from(digit - b'0'));
    let beyond = fraction.is_some_and(|digits| digits.iter().any(|digit| *digit != b'0'));
    let size = if beyond { number + 0.5 } else { number };
    Some(if negative { -size } else { size })
}

impl Test {
    /// Whether a text passes.
    pub fn holds(&self, value: &[u8]) -> Truth {
        match self {
            Self::Present => Truth::Yes,
            Self::Exact(text) => Truth::from(same_bytes(text, value)),
            Self::OneOf(texts) => Truth::from(texts.has(value)),
            // Longer is no id, and a client could have it hashed for every rule.
            Self::Hashed { .. } if value.len() > LONGEST_HASHED => Truth::Unclear,
            Self::Hashed { salt, hashes } => Truth::from(hashes.contains(&hashed_id(salt, value))),
            Self::Pattern(pattern) => pattern.judge(value).map_or(Truth::Unclear, Truth::from),
            Self::Number(range) => Truth::from(decimal(value).is_some_and(|n| range.has(n))),
            // Of claims and addresses, which are no texts.
            Self::Bool(_) | Self::Contains(_) | Self::Within(_) => Truth::No,
        }
    }

    /// Texts, one of which a value must be to pass; `None` if there are others.
    pub fn texts(&self) -> Option<Box<dyn Iterator<Item = &[u8]> + '_>> {
        match self {
            Self::Exact(text) => Some(Box::new(std::iter::once(&**text))),
            Self::OneOf(texts) => Some(Box::new(texts.iter())),
            _ => None,
        }
    }

    /// Whether every value that passes this test is known to pass `other` too. `false` when that can't be told.
    fn implies(&self, other: &Self, steps: &mut Steps) -> bool {
        if !steps.take(self.compared_with(other)) {
            return false;
        }
        match (self, other) {
            (_, Self::Present) => true,
            (Self::Number(range), Self::Number(other)) => range.is_within(other),
            (Self::Bool(value), Self::Bool(other)) => value == other,
            (Self::Contains(test), Self::Contains(other)) => test.implies(other, steps),
            (Self::Within(networks), Self::Within(others)) => networks
                .iter()
                .all(|network| others.iter().any(|other| other.contains(network))),
            (
                Self::Hashed { salt, hashes },
                Self::Hashed {
                    salt: other_salt,
                    hashes: others,
                },
            ) => salt == other_salt && hashes.is_subset(others),
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
            // A claim that is this text is no number, whatever it reads as.
            (_, Self::Number(_)) => false,
            (test, other) => test
                .texts()
                .is_some_and(|mut texts| texts.all(|text| other.holds(text) == Truth::Yes)),
        }
    }

    /// Whether no value can pass both tests. `false` when that can't be told.
    fn excludes(&self, other: &Self, steps: &mut Steps) -> bool {
        if !steps.take(self.compared_with(other) + other.compared_with(self)) {
            return false;
        }
        match (self, other) {
            (Self::Number(range), Self::Number(other)) => range.is_apart_from(other),
            (Self::Bool(value), Self::Bool(other)) => value != other,
            (Self::Contains(_) | Self::Within(_), _) | (_, Self::Contains(_) | Self::Within(_)) => {
                false
            }
            (test, other) => {
                let apart = |texts: &Self, test: &Self| {
                    texts
                        .texts()
                        .is_some_and(|mut texts| texts.all(|text| test.holds(text) == Truth::No))
                };
                apart(test, other) || apart(other, test)
            }
        }
    }
}

impl Test {
    /// How many steps it takes to compare this test with another: the same for the same two, in whatever order a set has its values, so that
    /// what is refused here is refused everywhere.
    fn compared_with(&self, other: &Self) -> u64 {
        let each = |text: &[u8]| match other {
            Self::Pattern(StringMatch::Regex(regex)) => {
                1 + size(regex.as_str()).saturating_mul(1 + text.len() as u64) / 16
            }
            // A hash is about as much.
            Self::Hashed { .. } => 32,
            _ => 1,
        };
        let all = |steps: u64, text: &[u8]| steps.saturating_add(each(text));
        match (self, other) {
            (Self::Within(networks), Self::Within(others)) => {
                1 + networks.len() as u64 * others.len() as u64
            }
            (Self::Hashed { hashes, .. }, Self::Hashed { .. }) => 1 + hashes.len() as u64,
            _ => self.texts().map_or(1, |texts| texts.fold(1, all)),
        }
    }
}

/// About how large a regular expression is when it is run: what it repeats a number of times is there as often.
fn size(regex: &str) -> u64 {
    let mut size = regex.len() as u64;
    for counted in regex.split('{').skip(1) {
        let most = counted.split('}').next().unwrap_or_default();
        let numbers = most
            .split(',')
            .filter_map(|number| number.trim().parse().ok());
        size = size.saturating_mul(numbers.max().unwrap_or(1_u64).max(1));
    }
    size
}

/// How much comparing of conditions may still be done, for a whole configuration. Nested conditions can be compared in very many ways, and a
/// configuration must be read in no time whoever wrote it. Once there are no steps left, nothing more is said of what conditions have to do with each other.
#[derive(Debug)]
pub struct Steps {
    left: u64,
    /// Whether a cookie may keep in whom the shares of the rule at hand do not have.
    is_kept: bool,
}

/// As many as take a fraction of a second.
const MOST_STEPS: u64 = 10_000_000;

impl Default for Steps {
    fn default() -> Self {
        Self {
            left: MOST_STEPS,
            is_kept: false,
        }
    }
}

impl Steps {
    /// As many as these.
    #[cfg(test)]
    pub fn of(left: u64) -> Self {
        Self {
            left,
            is_kept: false,
        }
    }

    /// How many are left.
    #[cfg(test)]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes so many steps; whether there were as many.
    pub fn take(&mut self, steps: u64) -> bool {
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// The same steps for a rule whose cookie keeps clients in its share: they get beyond a share that an earlier rule has.
    pub fn for_rule<T>(&mut self, is_sticky: bool, compare: impl FnOnce(&mut Self) -> T) -> T {
        self.is_kept = is_sticky;
        let compared = compare(self);
        self.is_kept = false;
        compared
    }
}

/// The longest id that is looked for among hashes, and the longest key that is in a share, in bytes. `tollgate hash-ids` takes no longer one.
pub const LONGEST_HASHED: usize = 1_024;

/// A share of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// What the key is; the position of its [`Subject`].
    pub of: usize,
    /// What it is hashed with.
    pub salt: String,
    /// How many of every `out_of` keys are in.
    pub share: u64,
    /// See `share`.
    pub out_of: u64,
}

impl Share {
    /// Whether a key is in. Raised, a share keeps all whom it had: they are those up to a place in the order of all. A key that is longer
    /// than [`LONGEST_HASHED`] is in none: a client could have it hashed for every rule.
    pub fn has(&self, key: &[u8]) -> bool {
        key.len() <= LONGEST_HASHED
            && tollgate_common::hashed::in_share(&self.salt, key, self.share, self.out_of)
    }
}

/// A tree of conditions.
#[derive(Debug)]
pub enum Condition {
    /// All of these hold.
    All(Vec<Condition>),
    /// At least one of these does.
    Any(Vec<Condition>),
    /// This one does not.
    Not(Box<Condition>),
    /// The subject at this position passes a test.
    Is(usize, Test),
    /// It is within a window of time.
    Time(Window),
    /// A key is in a share of all keys.
    Percent(Share),
}

impl Condition {
    /// Whether the condition can come out so (`outcome`: it holds, or it does not) for a request with nothing that was verified, by what the client
    /// chose to send. `verified` says whether a subject and the test of it rest on something that a client can't choose; without it, such a test fails.
    pub fn is_in_reach(&self, outcome: bool, verified: &dyn Fn(usize, &Test) -> bool) -> bool {
        let each = |conditions: &[Condition], all: bool| {
            let mut reach = conditions
                .iter()
                .map(|condition| condition.is_in_reach(outcome, verified));
            if all {
                reach.all(|reach| reach)
            } else {
                reach.any(|reach| reach)
            }
        };
        match self {
            Self::All(conditions) => each(conditions, outcome),
            Self::Any(conditions) => each(conditions, !outcome),
            Self::Not(condition) => condition.is_in_reach(!outcome, verified),
            Self::Is(subject, test) => !outcome || !verified(*subject, test),
            // A client can wait, and choose its key.
            Self::Time(_) | Self::Percent(_) => true,
        }
    }

    /// The tests that must come out well for the condition to come out so, some or all of them.
    pub fn tests(&self, outcome: bool) -> Vec<(usize, &Test)> {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                let tests = conditions.iter();
                tests
                    .flat_map(|condition| condition.tests(outcome))
                    .collect()
            }
            Self::Not(condition) => condition.tests(!outcome),
            Self::Is(subject, test) if outcome => vec![(*subject, test)],
            Self::Is(..) | Self::Time(_) | Self::Percent(_) => Vec::new(),
        }
    }

    /// Whether this condition is known to hold only where `other` holds as well.
    pub fn implies(&self, other: &Self, steps: &mut Steps) -> bool {
        if !steps.take(1) {
            return false;
        }
        let mut implied = |given: &Self, needed: &Self| given.implies(needed, steps);
        match (self, other) {
            (_, Self::All(needed)) => needed.iter().all(|needed| implied(self, needed)),
            (Self::Any(given), _) => given.iter().all(|given| implied(given, other)),
            (Self::All(given), _) if given.iter().any(|given| implied(given, other)) => true,
            (_, Self::Any(enough)) => enough.iter().any(|enough| implied(self, enough)),
            (Self::Is(subject, test), Self::Is(of, needed)) => {
                subject == of && test.implies(needed, steps)
            }
            (Self::Not(condition), Self::Not(other)) => condition.is_same(other, steps),
            (Self::Time(window), Self::Time(other)) => window == other,
            (Self::Percent(share), Self::Percent(other)) => {
                !steps.is_kept && share.is_within(other)
            }
            _ => false,
        }
    }

    /// Whether this condition is known to say what `other` says.
    pub fn is_same(&self, other: &Self, steps: &mut Steps) -> bool {
        if !steps.take(1) {
            return false;
        }
        match (self, other) {
            (Self::All(a), Self::All(b)) | (Self::Any(a), Self::Any(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b, steps))
            }
            (Self::Not(a), Self::Not(b)) => a.is_same(b, steps),
            (Self::Is(a, test), Self::Is(b, other)) => {
                a == b && test.implies(other, steps) && other.implies(test, steps)
            }
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Percent(a), Self::Percent(b)) => a == b,
            _ => false,
        }
    }

    /// Whether the two are known never to hold together.
    pub fn excludes(&self, other: &Self, steps: &mut Steps) -> bool {
        if !steps.take(1) {
            return false;
        }
        let mut apart = |one: &Self, other: &Self| one.excludes(other, steps);
        match (self, other) {
            (Self::Is(subject, test), Self::Is(of, other)) => {
                subject == of && test.excludes(other, steps)
            }
            (Self::Not(condition), other) | (other, Self::Not(condition)) => {
                other.implies(condition, steps)
            }
            (Self::All(conditions), other) | (other, Self::All(conditions)) => {
                conditions.iter().any(|condition| apart(condition, other))
            }
            (Self::Any(conditions), other) | (other, Self::Any(conditions)) => {
                conditions.iter().all(|condition| apart(condition, other))
            }
            _ => false,
        }
    }

    /// What must hold for this condition to: itself, or those that are joined by `all`.
    pub fn conjuncts(&self) -> Vec<&Condition> {
        match self {
            Self::All(conditions) => conditions.iter().flat_map(Condition::conjuncts).collect(),
            other => vec![other],
        }
    }

    /// Whether no share in it is within a `not`, so that more who are in a share make it hold for more.
    pub fn is_helped_by_shares(&self) -> bool {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                conditions.iter().all(Condition::is_helped_by_shares)
            }
            Self::Not(condition) => condition.shares().is_empty(),
            Self::Percent(_) | Self::Is(..) | Self::Time(_) => true,
        }
    }

    /// Each share in it.
    pub fn shares(&self) -> Vec<&Share> {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                conditions.iter().flat_map(Condition::shares).collect()
            }
            Self::Not(condition) => condition.shares(),
            Self::Percent(share) => vec![share],
            Self::Is(..) | Self::Time(_) => Vec::new(),
        }
    }
}

impl Share {
    fn is_within(&self, other: &Self) -> bool {
        self.of == other.of
            && self.salt == other.salt
            && u128::from(self.share) * u128::from(other.out_of)
                <= u128::from(other.share) * u128::from(self.out_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_to_compare_counts_for_more() {
        let texts = |count: usize| {
            let texts = (0..count).map(|i| format!("{i:05}").into_bytes().into());
            Test::OneOf(Texts::new(texts.collect()))
        };
        let regex = |regex: &str| Test::Pattern(StringMatch::regex(regex).unwrap());
        assert_eq!(texts(50_000).compared_with(&texts(3)), 50_001);
        assert_eq!(texts(3).compared_with(&texts(50_000)), 4);
        assert_eq!(texts(1).compared_with(&regex("[0-9]+")), 7);
        let nested = regex("((a{50}){1,50}){50}");
        assert!(texts(1).compared_with(&nested) > 100_000);
        // So that nothing is said of it.
        let mut steps = Steps::of(100_000);
        assert!(!texts(1).implies(&nested, &mut steps));
        assert_eq!(steps.left(), 0);
    }

    #[test]
    fn what_is_too_long_for_an_id_is_not_hashed() {
        let longest = vec![b'a'; LONGEST_HASHED];
        let longer = vec![b'a'; LONGEST_HASHED + 1];
        let hashed = Test::Hashed {
            salt: "s".to_owned(),
            hashes: [hashed_id("s", &longest), hashed_id("s", &longer)].into(),
        };
        assert_eq!(hashed.holds(&longest), Truth::Yes);
        assert_eq!(hashed.holds(&longer), Truth::Unclear);
        let all = Share {
            of: 0,
            salt: "s".to_owned(),
            share: 1,
            out_of: 1,
        };
        assert!(all.has(&longest) && !all.has(&longer));
    }
}
