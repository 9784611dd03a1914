//! Conditions, from how they are written to how they are tested.

use std::collections::HashSet;

use tollgate_common::hashed::{self, SALT_RULE};
use tollgate_common::header::{self, TENANT_ID, TENANT_TIER};
use tollgate_common::tenant::ID_RULE;
use tollgate_common::{
    ConfigError, NAME_RULE, OneOrMany, StringMatch, TenantId, is_identity, is_name, names_peers,
    refuse,
};

use super::written::{
    ClaimMatch, ConditionConfig, HashesConfig, NamedMatch, NumberConfig, PercentConfig, TimeConfig,
    ValueMatch, When,
};
use super::{
    CONDITIONS, KEYS, MAX_CONDITIONS, MAX_DEPTH, MAX_LENGTH, MAX_NETWORKS, MAX_VALUES, bounded,
    same,
};
use crate::condition::{Condition, Range, Share, Steps, Subject, Test, Texts};
use crate::facts::Subjects;
use crate::network::{Network, have_all};
use crate::time::{self, Window};
use tollgate_common::Problems;

/// Compiles conditions, and keeps what they look at.
pub(super) struct Conditions<'a> {
    pub(super) subjects: Subjects,
    /// The headers that the filter writes, with what they are: what a client sends in them never counts.
    pub(super) own: &'a [String],
    /// For comparing conditions.
    pub(super) steps: Steps,
}

/// A match of a text, with what it is of.
struct Match {
    subject: Subject,
    value: ValueMatch,
    path: String,
}

impl Conditions<'_> {
    /// The condition of a rule.
    pub(super) fn when(
        &mut self,
        when: When,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Condition> {
        let mut left = MAX_CONDITIONS;
        match when {
            When::One(condition) => self.condition(*condition, path, 0, &mut left, problems),
            When::All(conditions) => self.list(conditions, path, 0, &mut left, problems),
        }
    }

    /// Conditions all of which must hold; the only one itself.
    fn list(
        &mut self,
        conditions: Vec<ConditionConfig>,
        path: &str,
        depth: usize,
        left: &mut usize,
        problems: &mut Problems,
    ) -> Option<Condition> {
        let mut conditions = self.each(conditions, path, depth, left, problems)?;
        for (i, condition) in conditions.iter().enumerate() {
            let mut earlier = conditions.iter().take(i);
            let steps = &mut self.steps;
            if let Some(other) = earlier.position(|other| other.excludes(condition, steps)) {
                return problems.refuse(
                    format!("{path}[{i}]"),
                    format!(
                        "never holds together with {path}[{other}], write `any` or two rules if either is enough"
                    ),
                );
            }
        }
        self.each_once(&conditions, path, problems)?;
        match conditions.pop() {
            Some(only) if conditions.is_empty() => Some(only),
            last => {
                conditions.extend(last);
                Some(Condition::All(conditions))
            }
        }
    }

    /// Tells a condition that is in a list twice.
    fn each_once(
        &mut self,
        conditions: &[Condition],
        path: &str,
        problems: &mut Problems,
    ) -> Option<()> {
        for (i, condition) in conditions.iter().enumerate() {
            let mut earlier = conditions.iter().take(i);
            let steps = &mut self.steps;
            if let Some(other) = earlier.position(|other| other.is_same(condition, steps)) {
                return problems.refuse(
                    format!("{path}[{i}]"),
                    format!("says the same as {path}[{other}], take one out"),
                );
            }
        }
        Some(())
    }

    fn each(
        &mut self,
        conditions: Vec<ConditionConfig>,
        path: &str,
        depth: usize,
        left: &mut usize,
        problems: &mut Problems,
    ) -> Option<Vec<Condition>> {
        let count = conditions.len();
        let mut compiled = Vec::with_capacity(count);
        for (i, condition) in conditions.into_iter().enumerate() {
            let path = format!("{path}[{i}]");
            compiled.extend(self.condition(condition, &path, depth, left, problems));
        }
        (compiled.len() == count).then_some(compiled)
    }

    fn condition(
        &mut self,
        condition: ConditionConfig,
        path: &str,
        depth: usize,
        left: &mut usize,
        problems: &mut Problems,
    ) -> Option<Condition> {
        if *left == 0 {
            return problems.refuse(
                path,
                format!("is one condition too many, a rule may have {MAX_CONDITIONS}; write several rules or an `in`"),
            );
        }
        *left -= 1;
        if depth >= MAX_DEPTH {
            return problems.refuse(
                path,
                format!(
                    "is too deep, a condition may be within {} others",
                    MAX_DEPTH - 1
                ),
            );
        }
        let ConditionConfig {
            all,
            any,
            not,
            claim,
            tenant,
            tier,
            peer,
            source,
            header,
            cookie,
            query,
            user_agent,
            host,
            path: of_path,
            method,
            time,
            percent,
        } = condition;
        let given = [
            all.is_some(),
            any.is_some(),
            not.is_some(),
            claim.is_some(),
            tenant.is_some(),
            tier.is_some(),
            peer.is_some(),
            source.is_given(),
            header.is_some(),
            cookie.is_some(),
            query.is_some(),
            user_agent.is_some(),
            host.is_some(),
            of_path.is_some(),
            method.is_some(),
            time.is_some(),
            percent.is_some(),
        ];
        let given: Vec<&str> = CONDITIONS
            .into_iter()
            .zip(given)
            .filter(|(_, given)| *given)
            .map(|(name, _)| name)
            .collect();
        let path = match given.as_slice() {
            [one] => format!("{path}.{one}"),
            [] => {
                return problems.refuse(
                    path,
                    format!("looks at nothing, write one of {}", CONDITIONS.join(", ")),
                );
            }
            several => {
                return problems.refuse(
                    path,
                    format!("has {}, write a condition for each", several.join(" and ")),
                );
            }
        };
        let deeper = depth + 1;
        if let Some(conditions) = all {
            if conditions.is_empty() {
                return problems.refuse(path, "is empty, write at least one condition");
            }
            return self.list(conditions, &path, deeper, left, problems);
        }
        if let Some(conditions) = any {
            if conditions.is_empty() {
                return problems.refuse(
                    path,
                    "is empty and never holds, write at least one condition",
                );
            }
            let mut conditions = self.each(conditions, &path, deeper, left, problems)?;
            self.each_once(&conditions, &path, problems)?;
            return match conditions.pop() {
                Some(only) if conditions.is_empty() => Some(only),
                last => {
                    conditions.extend(last);
                    Some(Condition::Any(conditions))
                }
            };
        }
        if let Some(condition) = not {
            let condition = self.condition(*condition, &path, deeper, left, problems)?;
            return Some(Condition::Not(Box::new(condition)));
        }
        if source.is_given() {
            return self.source(&source, &path, problems);
        }
        if let Some(time) = time {
            return window(time, &path, problems).map(Condition::Time);
        }
        if let Some(percent) = percent {
            return self.percent(percent, &path, problems);
        }
        if let Some(claim) = claim {
            return self.claim(claim, &path, problems);
        }
        let named = |mut named: NamedMatch| {
            let value = named.value();
            (named.name, value)
        };
        let (subject, value) = match (header, cookie, query) {
            (Some(header), ..) => {
                let (name, value) = named(header);
                let name = self.header(&name, &format!("{path}.name"), problems);
                (name.map(Subject::Header), value)
            }
            (_, Some(cookie), _) => {
                let (name, value) = named(cookie);
                let name = token(name, &format!("{path}.name"), "cookie", problems);
                (name.map(Subject::Cookie), value)
            }
            (_, _, Some(query)) => {
                let (name, value) = named(query);
                let name = short_name(name, &format!("{path}.name"), "parameter", problems);
                (name.map(Subject::Query), value)
            }
            _ => {
                let values = [
                    (tenant, Subject::Tenant),
                    (tier, Subject::Tier),
                    (peer, Subject::Peer),
                    (user_agent, Subject::Header("user-agent".to_owned())),
                    (host, Subject::Host),
                    (of_path, Subject::Path),
                    (method, Subject::Method),
                ];
                let (value, subject) = values
                    .into_iter()
                    .find_map(|(value, subject)| Some((value?, subject)))?;
                (Some(subject), value)
            }
        };
        // Both are looked at, so that what is wrong with each is told.
        let kind = subject.clone().unwrap_or(Subject::Query(String::new()));
        let found = Match {
            subject: kind,
            value,
            path,
        };
        let test = found.test(problems);
        Some(self.is(subject?, test?))
    }

    fn is(&mut self, subject: Subject, test: Test) -> Condition {
        Condition::Is(self.subjects.position(subject), test)
    }

    fn claim(
        &mut self,
        mut claim: ClaimMatch,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Condition> {
        let value = claim.value();
        let ClaimMatch {
            name,
            boolean,
            contains,
            ..
        } = claim;
        let subject = claim_path(&name, &format!("{path}.name"), problems).map(Subject::Claim);
        let mut given = value.given();
        given.extend(boolean.map(|_| "boolean"));
        given.extend(contains.as_ref().map(|_| "contains"));
        let test = if given.len() > 1 {
            problems.refuse(
                path,
                format!("has {}, write a condition for each", given.join(" and ")),
            )
        } else if let Some(value) = boolean {
            Some(Test::Bool(value))
        } else if let Some(value) = contains {
            let path = format!("{path}.contains");
            let of_elements = Match {
                subject: Subject::Claim(Vec::new()),
                value,
                path: path.clone(),
            };
            match of_elements.test(problems)? {
                Test::Number(_) | Test::Present => problems.refuse(
                    path,
                    "looks at the strings of an array, write one of exact, prefix, suffix, regex, in, hashes",
                ),
                test => Some(Test::Contains(Box::new(test))),
            }
        } else if given.is_empty() {
            problems.refuse(
                path,
                format!(
                    "does not say what the claim must be, write one of {}, boolean, contains",
                    KEYS.join(", ")
                ),
            )
        } else {
            let found = Match {
                subject: Subject::Claim(Vec::new()),
                value,
                path: path.to_owned(),
            };
            found.test(problems)
        };
        Some(self.is(subject?, test?))
    }

    fn source(
        &mut self,
        networks: &OneOrMany<String>,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Condition> {
        let written = networks.values();
        if written.is_empty() {
            return problems.refuse(path, "is empty and never holds, list networks");
        }
        bounded(written.len(), MAX_NETWORKS, path, "networks", problems)?;
        let mut compiled: Vec<Network> = Vec::with_capacity(written.len());
        for (i, text) in written.iter().enumerate() {
            let path = networks.path(path, i);
            match Network::parse(text) {
                Err(message) => problems.tell(path, message),
                Ok(network) if have_all(&[network]) => problems.tell(
                    path,
                    format!(
                        "{text:?} has every address, so the condition says nothing; take it out"
                    ),
                ),
                Ok(network) if compiled.contains(&network) => {
                    problems.tell(path, format!("\"{text}\" is there twice, take one out"));
                }
                Ok(network) => compiled.push(network),
            }
        }
        if compiled.len() < written.len() {
            return None;
        }
        if have_all(&compiled) {
            return problems.refuse(
                path,
                "has every address in its networks together, so the condition says nothing; take it out",
            );
        }
        Some(self.is(Subject::Source, Test::Within(compiled)))
    }

    fn percent(
        &mut self,
        percent: PercentConfig,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Condition> {
        let PercentConfig {
            share,
            out_of,
            salt,
            claim,
            tenant,
            cookie,
            header,
        } = percent;
        let mut sound = true;
        let mut wrong = |field: &str, message: String, problems: &mut Problems| {
            sound = false;
            problems.tell(format!("{path}.{field}"), message);
        };
        let of = out_of.unwrap_or(100);
        if !(1..=1_000_000).contains(&of) {
            wrong(
                "outOf",
                format!("{of} is out of range, write 1 to 1000000"),
                problems,
            );
        } else if share > of {
            wrong(
                "share",
                format!("{share} is more than there are, write at most {of}"),
                problems,
            );
        }
        if !hashed::is_salt(&salt) {
            wrong(
                "salt",
                format!("{salt:?} is no salt, {SALT_RULE}"),
                problems,
            );
        }
        if tenant == Some(false) {
            wrong(
                "tenant",
                "false says nothing, write `tenant: true` or another key".to_owned(),
                problems,
            );
        }
        let given = [
            claim.is_given(),
            tenant.is_some(),
            cookie.is_some(),
            header.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            return problems.refuse(
                path,
                "needs one key, write one of claim, tenant, cookie, header",
            );
        }
        let subject = if claim.is_given() {
            claim_path(&claim, &format!("{path}.claim"), problems).map(Subject::Claim)
        } else if let Some(name) = cookie {
            token(name, &format!("{path}.cookie"), "cookie", problems).map(Subject::Cookie)
        } else if let Some(name) = header {
            self.header(&name, &format!("{path}.header"), problems)
                .map(Subject::Header)
        } else {
            Some(Subject::Tenant)
        };
        let subject = subject.filter(|_| sound)?;
        Some(Condition::Percent(Share {
            of: self.subjects.position(subject),
            salt,
            share,
            out_of: of,
        }))
    }

    /// The name of a header that a condition looks at, in lower case.
    fn header(&self, name: &str, path: &str, problems: &mut Problems) -> Option<String> {
        let name = problems.take(header::name(name, path))?;
        let instead = if self.own.iter().any(|own| same(&name, own)) {
            "is a header that this filter writes: what a client sends in it never counts"
        } else if same(&name, TENANT_ID) {
            "is how the tenant arrives here, write a condition on `tenant`"
        } else if same(&name, TENANT_TIER) {
            "is how the tier arrives here, write a condition on `tier`"
        } else if name == "cookie" {
            "has all cookies, write a condition on `cookie`"
        } else {
            return Some(name);
        };
        problems.refuse(path, format!("\"{name}\" {instead}"))
    }
}

/// The path of a claim.
fn claim_path(
    name: &OneOrMany<String>,
    path: &str,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let names = name.values();
    if names.is_empty() || names.len() > MAX_DEPTH {
        return problems.refuse(
            path,
            format!("write a claim's name, or a list of 1 to {MAX_DEPTH} names for a claim within others"),
        );
    }
    for (i, part) in names.iter().enumerate() {
        short_name(part.clone(), &name.path(path, i), "claim", problems)?;
    }
    Some(names.to_vec())
}

fn short_name(name: String, path: &str, of: &str, problems: &mut Problems) -> Option<String> {
    if (1..=MAX_LENGTH).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Some(name);
    }
    problems.refuse(
        path,
        format!("{name:?} is not a {of}'s name, write 1 to {MAX_LENGTH} bytes without control characters"),
    )
}

/// A name as RFC 6265 has it.
pub(super) fn token(name: String, path: &str, of: &str, problems: &mut Problems) -> Option<String> {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=MAX_LENGTH).contains(&name.len()) && name.bytes().all(of_token) {
        return Some(name);
    }
    problems.refuse(
        path,
        format!("{name:?} is not a {of}'s name, write for example \"session\""),
    )
}

fn window(time: TimeConfig, path: &str, problems: &mut Problems) -> Option<Window> {
    let TimeConfig {
        from,
        until,
        days,
        hours,
    } = time;
    if from.is_none() && until.is_none() && days.is_none() && hours.is_none() {
        return problems.refuse(path, "says no time, write from, until, days or hours");
    }
    let mut sound = true;
    let mut moment = |text: Option<String>, field: &str, problems: &mut Problems| {
        let text = text?;
        let read = time::moment(&text);
        if read.is_none() {
            sound = false;
            problems.tell(
                format!("{path}.{field}"),
                format!("{text:?} is not a moment, write for example \"2026-11-27T00:00:00Z\""),
            );
        }
        read
    };
    let from = moment(from, "from", problems);
    let until = moment(until, "until", problems);
    if let (Some(from), Some(until)) = (from, until)
        && from >= until
    {
        sound = false;
        problems.tell(path, "ends before it begins, `from` must be before `until`");
    }
    let mut mask = None;
    if let Some(days) = days {
        let mut of_days = 0_u8;
        if days.is_empty() {
            sound = false;
            problems.tell(
                format!("{path}.days"),
                "is empty and never holds, list days",
            );
        }
        for (i, day) in days.iter().enumerate() {
            let path = format!("{path}.days[{i}]");
            match time::DAYS.iter().position(|known| known == day) {
                None => {
                    sound = false;
                    problems.tell(
                        path,
                        format!(
                            "{day:?} is not a day, write one of {}",
                            time::DAYS.join(", ")
                        ),
                    );
                }
                Some(number) if of_days >> number & 1 == 1 => {
                    sound = false;
                    problems.tell(path, format!("\"{day}\" is there twice, take one out"));
                }
                Some(number) => of_days |= 1 << number,
            }
        }
        mask = Some(of_days);
    }
    let mut of_day = None;
    if let Some(text) = hours {
        of_day = time::hours(&text);
        if of_day.is_none() {
            sound = false;
            problems.tell(
                format!("{path}.hours"),
                format!("{text:?} are not hours of a day, write for example \"09:00-17:30\" or \"22:00-06:00\""),
            );
        }
    }
    sound.then_some(Window {
        from,
        until,
        days: mask,
        hours: of_day,
    })
}

impl ValueMatch {
    /// The keys that are written.
    fn given(&self) -> Vec<&'static str> {
        let given = [
            self.exact.is_some(),
            self.prefix.is_some(),
            self.suffix.is_some(),
            self.regex.is_some(),
            self.one_of.is_some(),
            self.hashes.is_some(),
            self.number.is_some(),
            self.present.is_some(),
        ];
        let keys = KEYS.into_iter().zip(given);
        keys.filter(|(_, given)| *given)
            .map(|(key, _)| key)
            .collect()
    }
}

impl Match {
    fn test(self, problems: &mut Problems) -> Option<Test> {
        let Self {
            subject,
            value,
            path,
        } = self;
        let given = value.given();
        if given.len() > 1 {
            return problems.refuse(
                path,
                format!("has {}, write a condition for each", given.join(" and ")),
            );
        }
        let ValueMatch {
            exact,
            prefix,
            suffix,
            regex,
            one_of,
            hashes,
            number,
            present,
        } = value;
        if let Some(exact) = exact {
            problems.take(literal(&exact, &subject, &format!("{path}.exact")))?;
            return Some(Test::Exact(exact.into_bytes().into()));
        }
        if let Some(values) = one_of {
            return list(values, &subject, &format!("{path}.in"), problems);
        }
        if let Some(hashes) = hashes {
            return hashed_list(hashes, &format!("{path}.hashes"), problems);
        }
        if let Some(number) = number {
            return range(&number, &format!("{path}.number"), problems).map(Test::Number);
        }
        let of_match = path.as_str();
        for (key, text) in [("prefix", prefix), ("suffix", suffix), ("regex", regex)] {
            let Some(text) = text else { continue };
            let path = format!("{of_match}.{key}");
            if text.is_empty() {
                return problems.refuse(path, "is empty, write `present: true` for any value");
            }
            problems.take(short(&text, &path))?;
            let pattern = match key {
                "prefix" => {
                    problems.take(beginning(&text, &subject, &path))?;
                    StringMatch::Prefix(text)
                }
                "suffix" => StringMatch::Suffix(text),
                _ => match StringMatch::regex(&text) {
                    Ok(regex) => regex,
                    Err(message) => return problems.refuse(path, message),
                },
            };
            if subject == Subject::Peer {
                problems.take(names_peers(&pattern, of_match))?;
            }
            return Some(Test::Pattern(pattern));
        }
        match present {
            Some(true) => Some(Test::Present),
            Some(false) => problems.refuse(
                format!("{path}.present"),
                "false is not a condition, write `present: true`, and `not` around it for what must be absent",
            ),
            None => problems.refuse(
                path,
                format!(
                    "does not say what the value must be, write one of {}",
                    KEYS.join(", ")
                ),
            ),
        }
    }
}

fn list(
    values: Vec<String>,
    subject: &Subject,
    path: &str,
    problems: &mut Problems,
) -> Option<Test> {
    if values.is_empty() {
        return problems.refuse(path, "is empty and never holds, list the values");
    }
    longest(values.len(), path, problems)?;
    let count = values.len();
    let mut set: HashSet<Box<[u8]>> = HashSet::with_capacity(count);
    for (i, value) in values.into_iter().enumerate() {
        let path = || format!("{path}[{i}]");
        match literal(&value, subject, "") {
            Err(error) => problems.tell(path(), error.message),
            Ok(()) if set.contains(value.as_bytes()) => {
                problems.tell(path(), format!("\"{value}\" is there twice, take one out"));
            }
            Ok(()) => _ = set.insert(value.into_bytes().into()),
        }
    }
    (set.len() == count).then(|| Test::OneOf(Texts::new(set)))
}

fn hashed_list(hashes: HashesConfig, path: &str, problems: &mut Problems) -> Option<Test> {
    let HashesConfig { salt, one_of } = hashes;
    if !hashed::is_salt(&salt) {
        problems.tell(
            format!("{path}.salt"),
            format!("{salt:?} is no salt, {SALT_RULE}"),
        );
    }
    let path = format!("{path}.in");
    if one_of.is_empty() {
        return problems.refuse(path, "is empty and never holds, list the hashes");
    }
    longest(one_of.len(), &path, problems)?;
    let mut set = HashSet::with_capacity(one_of.len());
    for (i, hash) in one_of.iter().enumerate() {
        let path = || format!("{path}[{i}]");
        match hashed::from_hex(hash) {
            None => problems.tell(
                path(),
                format!("{hash:?} is not a hash, write 24 hexadecimal digits in lower case, as `tollgate hash-ids` prints them"),
            ),
            Some(hashed) if !set.insert(hashed) => {
                problems.tell(path(), format!("\"{hash}\" is there twice, take one out"));
            }
            Some(_) => {}
        }
    }
    (set.len() == one_of.len() && hashed::is_salt(&salt))
        .then_some(Test::Hashed { salt, hashes: set })
}

fn longest(count: usize, path: &str, problems: &mut Problems) -> Option<()> {
    if count <= MAX_VALUES {
        return Some(());
    }
    problems.refuse(
        path,
        format!(
            "{count} values are too many, write at most {MAX_VALUES}; who issues tokens can say the same of many more in a claim, \
             and a rule asks for that"
        ),
    )
}

fn range(number: &NumberConfig, path: &str, problems: &mut Problems) -> Option<Range> {
    const LARGEST: i64 = 999_999_999_999_999;
    let NumberConfig {
        equals,
        at_least,
        at_most,
        above,
        below,
    } = *number;
    let bounds = [
        ("equals", equals),
        ("atLeast", at_least),
        ("atMost", at_most),
        ("above", above),
        ("below", below),
    ];
    for (field, bound) in bounds {
        if bound.is_some_and(|bound| bound.unsigned_abs() > LARGEST.unsigned_abs()) {
            return problems.refuse(
                format!("{path}.{field}"),
                format!("has more than 15 digits, write at most {LARGEST}"),
            );
        }
    }
    let bound = |inclusive: Option<i64>, exclusive: Option<i64>| match (inclusive, exclusive) {
        (Some(bound), None) => Ok(Some((bound as f64, true))),
        (None, Some(bound)) => Ok(Some((bound as f64, false))),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(()),
    };
    let others = bounds.iter().skip(1).any(|(_, bound)| bound.is_some());
    let range = match (equals, bound(at_least, above), bound(at_most, below)) {
        (None, Ok(None), Ok(None)) => {
            return problems.refuse(
                path,
                "says no number, write equals, atLeast, atMost, above or below",
            );
        }
        (Some(_), ..) if others => {
            return problems.refuse(path, "has equals and a bound, keep one");
        }
        (Some(number), ..) => Range {
            low: Some((number as f64, true)),
            high: Some((number as f64, true)),
        },
        (None, Ok(low), Ok(high)) => Range { low, high },
        (None, Err(()), _) => return problems.refuse(path, "has atLeast and above, keep one"),
        (None, _, Err(())) => return problems.refuse(path, "has atMost and below, keep one"),
    };
    if !range.is_possible() {
        return problems.refuse(
            path,
            "has no number in it, the lower bound must be below the upper one",
        );
    }
    Some(range)
}

/// A value that is compared as a whole: it must be one that its subject can have.
fn literal(value: &str, subject: &Subject, path: &str) -> Result<(), ConfigError> {
    let never = |why: &str| refuse(path, format!("{value:?} never matches, because {why}"));
    match subject {
        Subject::Header(_) if value.is_empty() => refuse(path, "is empty, write the value"),
        Subject::Header(_)
            if value.trim() != value || value.chars().any(|c| c.is_control() && c != '\t') =>
        {
            never("no header's value has spaces around it or control characters in it")
        }
        Subject::Cookie(_)
            if value.trim() != value || value.chars().any(|c| c.is_control() || c == ';') =>
        {
            never(
                "no cookie's value has spaces around it, or a semicolon or control characters in it",
            )
        }
        Subject::Tenant => match TenantId::normalise(value.as_bytes()) {
            Some(id) if id.as_str() == value => Ok(()),
            Some(id) => never(&format!("tenants' ids are normalised: write \"{id}\"")),
            None => refuse(path, format!("{value:?} is not a tenant's id, {ID_RULE}")),
        },
        Subject::Tier if is_name(value) => Ok(()),
        Subject::Tier => refuse(path, format!("{value:?} is not a tier's name, {NAME_RULE}")),
        Subject::Host if value.is_empty() => refuse(path, "is empty, write the host"),
        Subject::Host | Subject::Path | Subject::Method | Subject::Peer => {
            beginning(value, subject, path)?;
            short(value, path)
        }
        _ => short(value, path),
    }
}

/// What a value begins with: it must be what values of its subject can begin with.
fn beginning(value: &str, subject: &Subject, path: &str) -> Result<(), ConfigError> {
    match subject {
        Subject::Path if !value.starts_with('/') => refuse(
            path,
            format!(
                "{value:?} never matches, because paths begin with a slash: write \"/{value}\""
            ),
        ),
        Subject::Path if value.contains(['?', '#']) => refuse(
            path,
            format!(
                "{value:?} never matches, because a path has no query here: write a condition on `query`"
            ),
        ),
        Subject::Host if value.bytes().any(|byte| byte.is_ascii_uppercase()) => refuse(
            path,
            format!(
                "{value:?} never matches, because hosts are compared in lower case: write \"{}\"",
                value.to_ascii_lowercase()
            ),
        ),
        Subject::Host if value.contains(':') && !value.starts_with('[') => refuse(
            path,
            format!(
                "{value:?} never matches, because hosts are compared without their port: take it out"
            ),
        ),
        Subject::Method if !value.bytes().all(|byte| byte.is_ascii_uppercase()) => refuse(
            path,
            format!("{value:?} is not a method, write for example \"GET\""),
        ),
        Subject::Peer if !is_identity(value) => refuse(
            path,
            format!(
                "{value:?} is not a peer's identity, write for example \"spiffe://cluster.local/ns/ecommerce/sa/cart-service\""
            ),
        ),
        _ => Ok(()),
    }
}

fn short(value: &str, path: &str) -> Result<(), ConfigError> {
    tollgate_common::at_most(value.len(), MAX_LENGTH, path, "bytes")
}
