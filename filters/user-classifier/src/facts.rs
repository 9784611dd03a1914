//! What a request is, as far as rules ask: each thing is read when the first rule that needs it is reached, and once.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use tollgate_common::claims::{Claim, Claims, Leaf};
use tollgate_common::header::{TENANT_ID, TENANT_TIER};
use tollgate_common::{Given, Path, Target, cookie, host, parameter};
use tollgate_host::{Copies, HeaderMap, Names};

use crate::classifier::Rule;
use crate::condition::{Condition, Share, Subject, Test, Truth};
use crate::sticky::Sticky;

/// How many different things the rules of one classifier may look at.
pub const MAX_SUBJECTS: usize = 32;

/// What is known of a request beside its headers.
pub trait Outside {
    /// What other filters of the proxy know of it: the metadata with the claims of a verified token; `None` if there is none.
    fn metadata(&self) -> Option<&[u8]>;
    /// Whether that is at hand already, and costs nothing any more.
    fn has_metadata(&self) -> bool;
    /// One of these claims by itself, as bytes without a type; `None` also if it can't be read.
    fn claim(&self, leaf: &Leaf) -> Option<Vec<u8>>;
    /// The identity in the certificate that whoever is connected proved to have.
    fn peer(&self) -> Option<Vec<u8>>;
    /// The address that the proxy takes for the client's.
    fn source(&self) -> Option<IpAddr>;
    /// Nanoseconds since 1970.
    fn now(&self) -> u64;
}

/// A request.
pub struct Facts<'a> {
    headers: &'a HeaderMap,
    outside: &'a dyn Outside,
    claims: OnceCell<Option<Claims<&'a [u8]>>>,
    peer: OnceCell<Option<Vec<u8>>>,
    now: OnceCell<u64>,
}

impl<'a> Facts<'a> {
    /// A request with these headers.
    pub fn new(headers: &'a HeaderMap, outside: &'a dyn Outside) -> Self {
        Self {
            headers,
            outside,
            claims: OnceCell::new(),
            peer: OnceCell::new(),
            now: OnceCell::new(),
        }
    }

    /// Its headers.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The identity of whoever is connected.
    pub fn peer(&self) -> Option<&[u8]> {
        self.peer.get_or_init(|| self.outside.peer()).as_deref()
    }

    /// Nanoseconds since 1970.
    pub fn now(&self) -> u64 {
        *self.now.get_or_init(|| self.outside.now())
    }

    fn claim(&self, path: &[String]) -> Option<Claim<'_>> {
        self.claims
            .get_or_init(|| Claims::read(self.outside.metadata()?))
            .as_ref()?
            .get(path)
    }

    /// A claim by itself, unless all of them are at hand.
    fn read_alone(&self, alone: &Alone, subject: &Subject) -> Value<'_> {
        if !self.outside.has_metadata() {
            match self.outside.claim(&alone.leaf) {
                Some(text) if Leaf::decides(&text) => return Value::Text(Cow::Owned(text)),
                // Whatever it is, it is no text that a rule asks for.
                _ if alone.is_enough => return Value::Absent,
                _ => {}
            }
        }
        self.read(subject)
    }

    fn read(&self, subject: &Subject) -> Value<'_> {
        match subject {
            // If it were there, it would have been read with the others.
            Subject::Header(_) | Subject::Tenant | Subject::Tier | Subject::Method => Value::Absent,
            Subject::Cookie(name) => {
                given(cookie(self.headers.all("cookie"), name).map(Cow::Borrowed))
            }
            Subject::Query(name) => given(parameter(self.target().query, name)),
            Subject::Path => {
                let path = Path::of(self.target().path);
                match path.loose() {
                    None => Value::Text(Cow::Borrowed(self.target().path)),
                    Some(loose) => Value::Two(self.target().path, loose.to_vec()),
                }
            }
            Subject::Host => match self.headers.copies(":authority") {
                Copies::Absent => Value::Absent,
                Copies::Several => Value::Unclear,
                Copies::One(authority) => {
                    let host = host(authority);
                    Value::Text(if host.iter().any(u8::is_ascii_uppercase) {
                        Cow::Owned(host.to_ascii_lowercase())
                    } else {
                        Cow::Borrowed(host)
                    })
                }
            },
            Subject::Claim(path) => match self.claim(path) {
                None | Some(Claim::Null) => Value::Absent,
                Some(Claim::Text(text)) => Value::Text(Cow::Borrowed(text.as_bytes())),
                Some(claim) => Value::Claim(claim),
            },
            Subject::Peer => self
                .peer()
                .map_or(Value::Absent, |peer| Value::Text(Cow::Borrowed(peer))),
            Subject::Source => self.outside.source().map_or(Value::Absent, Value::Address),
        }
    }

    fn target(&self) -> Target<'a> {
        Target::of(self.headers.first(":path").unwrap_or_default())
    }
}

fn given(given: Given<Cow<'_, [u8]>>) -> Value<'_> {
    match given {
        Given::Absent => Value::Absent,
        Given::One(value) => Value::Text(value),
        Given::Ambiguous => Value::Unclear,
    }
}

/// The value that a request has for a subject.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// There is none.
    Absent,
    /// Different readers of the request take different ones.
    Unclear,
    /// A text.
    Text(Cow<'a, [u8]>),
    /// A path, as the proxy routes by it and as a lenient service reads it.
    Two(&'a [u8], Vec<u8>),
    /// A claim that is no text and not `null`.
    Claim(Claim<'a>),
    /// An address.
    Address(IpAddr),
}

impl Value<'_> {
    /// Whether it passes a test. `of_claim`: it is a claim's, where a text is never a number.
    pub fn passes(&self, test: &Test, of_claim: bool) -> Truth {
        match (self, test) {
            (Self::Unclear, _) => Truth::Unclear,
            (Self::Absent, _) => Truth::No,
            (_, Test::Present) => Truth::Yes,
            (Self::Text(_), Test::Number(_)) if of_claim => Truth::No,
            (Self::Text(text), test) => test.holds(text),
            (Self::Two(plain, loose), test) => {
                let (plain, loose) = (test.holds(plain), test.holds(loose));
                if plain == loose {
                    plain
                } else {
                    Truth::Unclear
                }
            }
            (Self::Claim(claim), test) => passes_as_claim(*claim, test),
            (Self::Address(address), Test::Within(networks)) => {
                Truth::from(networks.iter().any(|network| network.has(*address)))
            }
            (Self::Address(_), _) => Truth::No,
        }
    }
}

fn passes_as_claim(claim: Claim<'_>, test: &Test) -> Truth {
    match (claim, test) {
        (Claim::Bool(value), Test::Bool(wanted)) => Truth::from(value == *wanted),
        (Claim::Number(number), Test::Number(range)) => Truth::from(range.has(number)),
        (Claim::List(elements), Test::Contains(test)) => {
            Truth::any(elements.map(|element| match element {
                Claim::Text(text) => test.holds(text.as_bytes()),
                _ => Truth::No,
            }))
        }
        _ => Truth::No,
    }
}

/// What rules look at; conditions refer to it by position.
#[derive(Debug, Default)]
pub struct Subjects {
    all: Vec<Subject>,
    /// Those that are headers, for one pass over a request's headers.
    headers: Names,
    /// The claims that are read by themselves.
    alone: Vec<Alone>,
}

/// A claim that is read by itself.
#[derive(Debug)]
struct Alone {
    subject: usize,
    leaf: Leaf,
    /// Whether a property says for certain whether the claim is any of the texts that rules ask for.
    is_enough: bool,
}

impl Subjects {
    /// The position of a subject, which is added if it is new.
    pub fn position(&mut self, subject: Subject) -> usize {
        if let Some(position) = self.all.iter().position(|known| *known == subject) {
            return position;
        }
        let name = match &subject {
            Subject::Header(name) => Some(name.as_str()),
            Subject::Tenant => Some(TENANT_ID),
            Subject::Tier => Some(TENANT_TIER),
            Subject::Method => Some(":method"),
            _ => None,
        };
        let position = self.all.len();
        if let Some(name) = name {
            self.headers.add(name, position);
        }
        self.all.push(subject);
        position
    }

    /// The subject at a position.
    pub fn get(&self, position: usize) -> Option<&Subject> {
        self.all.get(position)
    }

    /// Chooses how to read the claims of these rules: by themselves, if they are few and rules only ask whether they are certain texts.
    pub(crate) fn choose_claims(&mut self, rules: &[Rule]) {
        let mut alone = Vec::new();
        for (position, subject) in self.all.iter().enumerate() {
            let Subject::Claim(path) = subject else {
                continue;
            };
            let mut asked = Asked::default();
            for rule in rules {
                asked.of(position, &rule.condition);
            }
            match Leaf::of(path) {
                // Nobody but `explain` asks for it.
                _ if !asked.is_asked => {}
                Some(leaf) if !asked.is_more_than_equal => alone.push(Alone {
                    subject: position,
                    leaf,
                    is_enough: !asked.is_unclear,
                }),
                _ => return,
            }
        }
        if alone.len() <= MAX_ALONE {
            self.alone = alone;
        }
    }

    fn alone(&self, subject: usize) -> Option<&Alone> {
        self.alone.iter().find(|alone| alone.subject == subject)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }
}

/// How many claims are read by themselves; from there on it is cheaper to read all of them together.
const MAX_ALONE: usize = 2;

/// What rules ask of a claim.
#[derive(Default)]
struct Asked {
    is_asked: bool,
    /// Something else than whether it is a text.
    is_more_than_equal: bool,
    /// Whether it is a text that a property may also be something else for.
    is_unclear: bool,
}

impl Asked {
    fn of(&mut self, subject: usize, condition: &Condition) {
        match condition {
            Condition::All(conditions) | Condition::Any(conditions) => {
                for condition in conditions {
                    self.of(subject, condition);
                }
            }
            Condition::Not(condition) => self.of(subject, condition),
            Condition::Is(of, test) if *of == subject => {
                self.is_asked = true;
                match test.texts() {
                    Some(mut texts) => self.is_unclear |= !texts.all(Leaf::decides),
                    None => self.is_more_than_equal = true,
                }
            }
            Condition::Percent(share) if share.of == subject => {
                self.is_asked = true;
                self.is_more_than_equal = true;
            }
            Condition::Is(..) | Condition::Time(_) | Condition::Percent(_) => {}
        }
    }
}

/// The values of one request that were asked for, each read once.
pub struct Reading<'r, 'a> {
    facts: &'r Facts<'a>,
    subjects: &'r Subjects,
    /// One for each subject.
    values: Vec<Option<Value<'r>>>,
    /// The cookie of the rule that is tried.
    sticky: Option<&'r Sticky>,
    /// How many conditions were tested, and values looked up.
    #[cfg(test)]
    work: usize,
}

impl<'r, 'a> Reading<'r, 'a> {
    /// Reads the headers that are asked for, in one pass, and nothing else yet.
    pub fn new(facts: &'r Facts<'a>, subjects: &'r Subjects) -> Self {
        let mut values = Vec::new();
        values.resize_with(subjects.count(), || None);
        subjects.headers.find(facts.headers, |position, value| {
            if let Some(slot) = values.get_mut(position) {
                *slot = Some(match slot {
                    None => Value::Text(Cow::Borrowed(value)),
                    Some(_) => Value::Unclear,
                });
            }
        });
        Self {
            facts,
            subjects,
            values,
            sticky: None,
            #[cfg(test)]
            work: 0,
        }
    }

    /// How many conditions were tested, and values looked up.
    #[cfg(test)]
    pub fn work(&self) -> usize {
        self.work
    }

    #[cfg(test)]
    pub(crate) fn count_work(&mut self) {
        self.work += 1;
    }

    /// The value of the subject at a position; of one that there is no place for, [`Value::Unclear`].
    pub fn value(&mut self, subject: usize) -> &Value<'r> {
        let Some(value) = self.values.get_mut(subject) else {
            return &Value::Unclear;
        };
        value.get_or_insert_with(|| {
            match (self.subjects.get(subject), self.subjects.alone(subject)) {
                (Some(of), Some(alone)) => self.facts.read_alone(alone, of),
                (Some(of), None) => self.facts.read(of),
                (None, _) => Value::Unclear,
            }
        })
    }

    fn is_claim(&self, subject: usize) -> bool {
        matches!(self.subjects.get(subject), Some(Subject::Claim(_)))
    }

    /// How a rule's condition comes out.
    pub fn holds(&mut self, rule: &'r Rule) -> Truth {
        self.sticky = rule.sticky.as_deref();
        self.truth(&rule.condition)
    }

    /// How a condition of the rule that is tried comes out.
    pub fn truth(&mut self, condition: &Condition) -> Truth {
        #[cfg(test)]
        self.count_work();
        match condition {
            Condition::All(conditions) => {
                Truth::all(conditions.iter().map(|condition| self.truth(condition)))
            }
            Condition::Any(conditions) => {
                Truth::any(conditions.iter().map(|condition| self.truth(condition)))
            }
            Condition::Not(condition) => self.truth(condition).negated(),
            Condition::Is(subject, test) => {
                // Only of a number that matters.
                let of_claim = matches!(test, Test::Number(_)) && self.is_claim(*subject);
                self.value(*subject).passes(test, of_claim)
            }
            Condition::Time(window) => Truth::from(window.has(self.facts.now())),
            Condition::Percent(share) => self.share(share),
        }
    }

    fn share(&mut self, share: &Share) -> Truth {
        let key = match self.value(share.of) {
            Value::Text(key) if !key.is_empty() => key,
            Value::Unclear => return Truth::Unclear,
            _ => return Truth::No,
        };
        if share.has(key) {
            return Truth::Yes;
        }
        let key = key.clone();
        Truth::from(self.kept(&key).is_some())
    }

    /// When the cookie ends that keeps this key in the share of the rule that is tried.
    fn kept(&mut self, key: &[u8]) -> Option<u64> {
        let sticky = self.sticky?;
        let now = self.facts.now() / 1_000_000_000;
        match self.value(sticky.subject) {
            Value::Text(cookie) => sticky.verify(key, cookie, now),
            _ => None,
        }
    }

    /// The cookie to give to those whom the share of a rule that holds has, unless they have one that will do for long.
    pub fn cookie(&mut self, rule: &'r Rule) -> Option<String> {
        let sticky = rule.sticky.as_deref()?;
        self.sticky = Some(sticky);
        let share = *rule.condition.shares().first()?;
        // Another condition may have made the rule hold.
        if self.share(share) != Truth::Yes {
            return None;
        }
        let Value::Text(key) = self.value(share.of).clone() else {
            return None;
        };
        let now = self.facts.now() / 1_000_000_000;
        match self.kept(&key) {
            Some(end) if !sticky.is_due(end, now) => None,
            _ => sticky.issue(&key, now),
        }
    }
}
