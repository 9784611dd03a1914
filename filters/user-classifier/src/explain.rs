//! Why a request is what it is: the rules that were tried, and how each of their conditions came out.
//!
//! Not what a proxy runs for every request: every rule up to the deciding one is tried in order, without an index and without leaving anything unread. What comes of it is
//! the same, which a test says of generated rules and requests.

use std::borrow::Cow;
use std::fmt;

use tollgate_common::StringMatch;

use crate::classifier::{Classifier, Decision};
use crate::condition::{Condition, Range, Subject, Test, Truth};
use crate::facts::{Facts, Reading, Value};
use crate::time::{DAYS, Window};

/// How a rule came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The position of the rule.
    pub rule: usize,
    /// The type that it gives.
    pub user_type: String,
    /// Its condition.
    pub reason: Reason,
}

/// How a condition came out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The condition in words: `header x-user-id is one of 2 values`.
    pub condition: String,
    /// How it came out.
    pub truth: Truth,
    /// What was found there: `"alice"`, `nothing`.
    pub found: Option<String>,
    /// The conditions that it is made of.
    pub within: Vec<Reason>,
}

/// Tries the rules in order, up to the first that holds.
pub fn explain(classifier: &Classifier, facts: &Facts<'_>) -> (Decision, Vec<Step>) {
    let mut reading = Reading::new(facts, classifier.subjects());
    let mut steps = Vec::new();
    for (position, rule) in classifier.rules().iter().enumerate() {
        let truth = reading.holds(rule);
        steps.push(Step {
            rule: position,
            user_type: rule.user_type.clone(),
            reason: reason(&rule.condition, classifier, &mut reading),
        });
        if truth == Truth::Yes {
            let decision = Decision {
                rule: Some(position),
                cookie: reading.cookie(rule),
            };
            return (decision, steps);
        }
    }
    (Decision::default(), steps)
}

fn reason<'r>(
    condition: &'r Condition,
    classifier: &'r Classifier,
    reading: &mut Reading<'r, '_>,
) -> Reason {
    let truth = reading.truth(condition);
    let mut within = |conditions: &'r [Condition]| {
        let each = conditions.iter();
        each.map(|condition| reason(condition, classifier, reading))
            .collect::<Vec<_>>()
    };
    let (words, found, within) = match condition {
        Condition::All(conditions) => ("all".to_owned(), None, within(conditions)),
        Condition::Any(conditions) => ("any".to_owned(), None, within(conditions)),
        Condition::Not(condition) => {
            let inner = reason(condition, classifier, reading);
            ("not".to_owned(), None, vec![inner])
        }
        Condition::Is(subject, test) => {
            let name = name(classifier, *subject);
            let found = found(reading.value(*subject));
            (format!("{name} {}", Words(test)), Some(found), Vec::new())
        }
        Condition::Time(window) => (format!("time is {}", Hours(window)), None, Vec::new()),
        Condition::Percent(share) => {
            let name = name(classifier, share.of);
            let key = reading.value(share.of);
            let place = match key {
                Value::Text(key) if !key.is_empty() => {
                    // In hundredths of a percent, by which people count.
                    let position = tollgate_common::hashed::position(&share.salt, key);
                    let hundredths = (u128::from(position) * 10_000) >> 64;
                    format!(", at {}.{:02} %", hundredths / 100, hundredths % 100)
                }
                _ => String::new(),
            };
            let found = found(key) + &place;
            let words = format!(
                "{name} is among the first {} of {} by the salt {:?}",
                share.share, share.out_of, share.salt
            );
            (words, Some(found), Vec::new())
        }
    };
    Reason {
        condition: words,
        truth,
        found,
        within,
    }
}

fn name(classifier: &Classifier, subject: usize) -> Cow<'static, str> {
    match classifier.subjects().get(subject) {
        None => "nothing".into(),
        Some(Subject::Header(name)) => format!("header {name}").into(),
        Some(Subject::Cookie(name)) => format!("cookie {name}").into(),
        Some(Subject::Query(name)) => format!("query {name}").into(),
        Some(Subject::Claim(path)) => format!("claim {}", path.join(" › ")).into(),
        Some(Subject::Path) => "path".into(),
        Some(Subject::Method) => "method".into(),
        Some(Subject::Host) => "host".into(),
        Some(Subject::Tenant) => "tenant".into(),
        Some(Subject::Tier) => "tier".into(),
        Some(Subject::Peer) => "peer".into(),
        Some(Subject::Source) => "source".into(),
    }
}

/// What a request has, short enough for a line.
fn found(value: &Value<'_>) -> String {
    const LONGEST: usize = 80;
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let mut short: String = text.chars().take(LONGEST).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        format!("{short:?}")
    };
    match value {
        Value::Absent => "nothing".to_owned(),
        Value::Unclear => "more than one".to_owned(),
        Value::Text(bytes) => text(bytes),
        Value::Two(plain, loose) => format!("{}, for some {}", text(plain), text(loose)),
        Value::Claim(claim) => {
            use tollgate_common::claims::Claim;
            match claim {
                Claim::Null => "null".to_owned(),
                Claim::Bool(value) => value.to_string(),
                Claim::Number(number) => number.to_string(),
                Claim::Text(bytes) => text(bytes.as_bytes()),
                Claim::List(elements) => format!("an array of {}", elements.count()),
                Claim::Mapping => "an object".to_owned(),
            }
        }
        Value::Address(address) => address.to_string(),
    }
}

/// A test in words.
struct Words<'a>(&'a Test);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        match self.0 {
            Test::Present => f.write_str("is there"),
            Test::Exact(value) => write!(f, "is {:?}", text(value)),
            Test::OneOf(values) => write!(f, "is one of {} values", values.len()),
            Test::Hashed { hashes, .. } => write!(f, "is one of {} hashed values", hashes.len()),
            Test::Pattern(StringMatch::Exact(value)) => write!(f, "is {value:?}"),
            Test::Pattern(StringMatch::Prefix(value)) => write!(f, "begins with {value:?}"),
            Test::Pattern(StringMatch::Suffix(value)) => write!(f, "ends with {value:?}"),
            Test::Pattern(StringMatch::Regex(regex)) => {
                let anchored = regex.as_str();
                let written = anchored.strip_prefix("\\A(?:").unwrap_or(anchored);
                let written = written.strip_suffix(")\\z").unwrap_or(written);
                write!(f, "matches {written:?}")
            }
            Test::Number(range) => write!(f, "is a number {}", Bounds(range)),
            Test::Bool(value) => write!(f, "is {value}"),
            Test::Contains(test) => write!(f, "has an element that {}", Words(test)),
            Test::Within(networks) if networks.len() == 1 => f.write_str("is in the network"),
            Test::Within(networks) => write!(f, "is in one of {} networks", networks.len()),
        }
    }
}

struct Bounds<'a>(&'a Range);

impl fmt::Display for Bounds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = |(bound, inclusive)| {
            if inclusive {
                format!("of at least {bound}")
            } else {
                format!("above {bound}")
            }
        };
        let high = |(bound, inclusive)| {
            if inclusive {
                format!("of at most {bound}")
            } else {
                format!("below {bound}")
            }
        };
        match (self.0.low, self.0.high) {
            (Some((least, true)), Some((most, true))) if least == most => {
                write!(f, "equal to {least}")
            }
            (Some(bound), None) => f.write_str(&low(bound)),
            (None, Some(bound)) => f.write_str(&high(bound)),
            (Some(least), Some(most)) => write!(f, "{} and {}", low(least), high(most)),
            (None, None) => f.write_str("of any size"),
        }
    }
}

struct Hours<'a>(&'a Window);

impl fmt::Display for Hours<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window {
            from,
            until,
            days,
            hours,
        } = self.0;
        let mut parts = Vec::new();
        if from.is_some() || until.is_some() {
            parts.push("within the period".to_owned());
        }
        if let Some(days) = days {
            let on: Vec<&str> = DAYS
                .iter()
                .enumerate()
                .filter(|(day, _)| days >> day & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            parts.push(format!("on {}", on.join(", ")));
        }
        if let Some((begin, end)) = hours {
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            parts.push(format!("between {} and {}", clock(*begin), clock(*end)));
        }
        f.write_str(&parts.join(", "))
    }
}
