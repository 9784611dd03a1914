//! Why a request is what it is: the rules that were tried, and how each of their conditions came out.
//!
//! Not what a proxy runs for every request. [`explain`] is for `tollgate explain`: every rule up to the deciding one is tried in order, without an index and
//! without leaving anything unread. What comes of it is the same, which a test says of generated rules and requests. [`line()`] is for a header of the response, for callers
//! who may ask ([`Explain`]): the same words, as far as there is room, without what the client or its token said.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use tollgate_common::StringMatch;
use tollgate_common::claims::Claim;

use crate::classifier::{Classifier, Decision};
use crate::condition::{Condition, Range, Subject, Test, Truth};
use crate::facts::{Facts, Reading, Value};
use crate::time::{DAYS, Window};

/// Whom a proxy tells why a request is what it is.
#[derive(Debug)]
pub struct Explain {
    /// The header that asks and answers, in lower case.
    pub header: String,
    /// Who may ask.
    pub condition: Condition,
}

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
            reason: reason(&rule.condition, classifier, &mut reading, whole),
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

/// Why a type is what it is, in a few words; `rule` is the one that decided.
pub fn why(rule: Option<usize>, is_kept: bool) -> Cow<'static, str> {
    match rule {
        Some(rule) => format!("rules[{rule}] holds").into(),
        None if is_kept => "kept, because whoever is connected is trusted".into(),
        None => "no rule holds".into(),
    }
}

/// How long a line may be, in bytes. Envoy and most clients take far more, but a proxy around them may have 4 KiB for all headers of a response.
pub const LONGEST_LINE: usize = 2_048;

/// Of these, what is kept for saying that there is more.
const TAIL: usize = 48;

/// Why a request is what it is, in a line that a header can have, visible ASCII and spaces: its type and what gave it, the rule that decided, then those before it, the nearest first,
/// as far as there is room. `decision` is `None` if the type was kept as it came.
///
/// Of what was found only its kind is told, except for what the mesh itself says of a request: the client and those on the way to it know what
/// they sent, and nobody else should learn it from a log of responses.
pub fn line(
    user_type: Option<&str>,
    decision: Option<&Decision>,
    classifier: &Classifier,
    facts: &Facts<'_>,
) -> String {
    let mut line = Line::default();
    let rule = decision.and_then(|decision| decision.rule);
    // There is room for so much.
    let _ = write!(
        line,
        "{} ({})",
        user_type.unwrap_or("none"),
        why(rule, decision.is_none())
    );
    let tried = match (decision, rule) {
        (None, _) => 0,
        (Some(_), Some(rule)) => rule + 1,
        (Some(_), None) => classifier.rules().len(),
    };
    let mut reading = Reading::new(facts, classifier.subjects());
    let rules = classifier.rules().iter().enumerate().take(tried);
    for (position, rule) in rules.rev() {
        let before = line.text.len();
        // Knows of its cookie from here on.
        reading.holds(rule);
        let reason = reason(&rule.condition, classifier, &mut reading, kind);
        let user_type = &rule.user_type;
        if write!(line, " | rules[{position}] {user_type}: {reason}").is_ok() {
            continue;
        }
        let before_these = if position + 1 == tried {
            // Whatever there is room for: this one decided.
            line.text.push_str("...");
            position
        } else {
            line.text.truncate(before);
            position + 1
        };
        if before_these > 0 {
            line.text
                .push_str(&format!(" | {before_these} rules before these do not hold"));
        }
        break;
    }
    line.text
}

/// A line that is too long for nothing else than its tail.
#[derive(Default)]
struct Line {
    text: String,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| self.write_char(letter))
    }

    fn write_char(&mut self, letter: char) -> fmt::Result {
        let mut push = |letter| {
            if self.text.len() + TAIL >= LONGEST_LINE {
                return Err(fmt::Error);
            }
            self.text.push(letter);
            Ok(())
        };
        match letter {
            ' '..='~' => push(letter),
            other => other.escape_unicode().try_for_each(push),
        }
    }
}

impl Truth {
    /// A sign for it: `+` holds, `-` does not, `?` is unclear.
    pub fn mark(self) -> char {
        match self {
            Self::Yes => '+',
            Self::No => '-',
            Self::Unclear => '?',
        }
    }
}

/// In one line: `+ any (- claim plan is "vip": nothing; + tier is "premium": "premium")`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.truth.mark(), self.condition)?;
        if let Some(found) = &self.found {
            write!(f, ": {found}")?;
        }
        for (position, inner) in self.within.iter().enumerate() {
            let between = if position == 0 { " (" } else { "; " };
            write!(f, "{between}{inner}")?;
        }
        f.write_str(if self.within.is_empty() { "" } else { ")" })
    }
}

/// What is told of what a request has for a subject.
type Found = fn(Option<&Subject>, &Value<'_>) -> String;

fn reason<'r>(
    condition: &'r Condition,
    classifier: &'r Classifier,
    reading: &mut Reading<'r, '_>,
    tell: Found,
) -> Reason {
    let truth = reading.truth(condition);
    let mut within = |conditions: &'r [Condition]| {
        let each = conditions.iter();
        each.map(|condition| reason(condition, classifier, reading, tell))
            .collect::<Vec<_>>()
    };
    let subjects = classifier.subjects();
    let (words, found, within) = match condition {
        Condition::All(conditions) => ("all".to_owned(), None, within(conditions)),
        Condition::Any(conditions) => ("any".to_owned(), None, within(conditions)),
        Condition::Not(condition) => {
            let inner = reason(condition, classifier, reading, tell);
            ("not".to_owned(), None, vec![inner])
        }
        Condition::Is(subject, test) => {
            let name = name(subjects.get(*subject));
            let found = tell(subjects.get(*subject), reading.value(*subject));
            (format!("{name} {}", Words(test)), Some(found), Vec::new())
        }
        Condition::Time(window) => (format!("time is {}", Hours(window)), None, Vec::new()),
        Condition::Percent(share) => {
            let name = name(subjects.get(share.of));
            let key = reading.value(share.of);
            let place = match key {
                Value::Text(key) if !key.is_empty() => {
                    // In hundredths of a percent, by which people count.
                    let position = tollgate_common::hashed::position(&share.salt, key);
                    let hundredths = ((u128::from(position) * 10_000) >> 64) as u64;
                    let kept = match truth {
                        Truth::Yes if !share.has(key) => ", kept by its cookie",
                        _ => "",
                    };
                    format!(", at {}.{:02} %{kept}", hundredths / 100, hundredths % 100)
                }
                _ => String::new(),
            };
            let found = tell(subjects.get(share.of), key) + &place;
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

fn name(subject: Option<&Subject>) -> Cow<'static, str> {
    match subject {
        None => "nothing".into(),
        Some(Subject::Header(name)) => format!("header {name}").into(),
        Some(Subject::Cookie(name)) => format!("cookie {name}").into(),
        Some(Subject::Query(name)) => format!("query {name}").into(),
        Some(Subject::Claim(path)) => format!("claim {}", path.join(" > ")).into(),
        Some(Subject::Path) => "path".into(),
        Some(Subject::Method) => "method".into(),
        Some(Subject::Host) => "host".into(),
        Some(Subject::Tenant) => "tenant".into(),
        Some(Subject::Tier) => "tier".into(),
        Some(Subject::Peer) => "peer".into(),
        Some(Subject::Source) => "source".into(),
    }
}

/// A text in quotes, short enough for a line.
fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text = String::from_utf8_lossy(bytes);
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    format!("{short:?}")
}

/// What a request has, as it is.
fn whole(subject: Option<&Subject>, value: &Value<'_>) -> String {
    match value {
        Value::Text(bytes) => quoted(bytes),
        Value::Two(plain, loose) => format!("{}, for some {}", quoted(plain), quoted(loose)),
        Value::Claim(Claim::Bool(value)) => value.to_string(),
        Value::Claim(Claim::Number(number)) => number.to_string(),
        Value::Claim(Claim::Text(text)) => quoted(text.as_bytes()),
        other => kind(subject, other),
    }
}

/// What kind of thing a request has; as it is if the mesh says it.
fn kind(subject: Option<&Subject>, value: &Value<'_>) -> String {
    let word = match (value, subject) {
        (Value::Text(bytes), Some(Subject::Tenant | Subject::Tier | Subject::Peer)) => {
            return quoted(bytes);
        }
        (Value::Address(address), _) => return address.to_string(),
        (Value::Claim(Claim::List(elements)), _) => {
            return format!("an array of {}", elements.count());
        }
        (Value::Absent, _) => "nothing",
        (Value::Unclear, _) => "more than one",
        (Value::Text(_) | Value::Claim(Claim::Text(_)), _) => "a text",
        (Value::Two(..), _) => "a text that is read in two ways",
        (Value::Claim(Claim::Null), _) => "null",
        (Value::Claim(Claim::Bool(_)), _) => "true or false",
        (Value::Claim(Claim::Number(_)), _) => "a number",
        (Value::Claim(Claim::Mapping), _) => "an object",
    };
    word.to_owned()
}

/// A test in words.
struct Words<'a>(&'a Test);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        match self.0 {
            Test::Present => f.write_str("is there"),
            Test::Exact(value) => write!(f, "is {:?}", text(value)),
            Test::OneOf(texts) => write!(f, "is one of {} values", texts.count()),
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
        // Bounds are whole numbers.
        let low = |(bound, inclusive)| {
            let bound = bound as i64;
            if inclusive {
                format!("of at least {bound}")
            } else {
                format!("above {bound}")
            }
        };
        let high = |(bound, inclusive)| {
            let bound = bound as i64;
            if inclusive {
                format!("of at most {bound}")
            } else {
                format!("below {bound}")
            }
        };
        match (self.0.low, self.0.high) {
            (Some((least, true)), Some((most, true))) if least == most => {
                write!(f, "equal to {}", least as i64)
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
