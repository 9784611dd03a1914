//! Labels: where a value comes from, and which small number stands for it.
//!
//! A label's value is a position: that of `none`, of `other`, of a value that the configuration declares, or of one that
//! came later and was admitted (`atMost`). So what a request leaves behind until it is done is a few bytes, and a series is
//! found without putting its name together.

use std::cell::RefCell;
use std::collections::HashMap;

use tollgate_common::metrics::label_value;
use tollgate_common::{Claim, Claims};
use tollgate_host::{Copies, Host, same_bytes};

use crate::register::Register;

/// The position of a value where a request has none.
pub const NONE: u16 = 0;
/// The position of a value that has none of its own.
pub const OTHER: u16 = 1;
/// The first declared value.
pub const DECLARED: u16 = 2;
/// In the place of a position: it is known when the request is done.
pub const LATER: u16 = u16::MAX;
/// In the place of a position: the value is not known to this worker, and may yet be admitted.
pub const PENDING: u16 = u16::MAX - 1;

/// How long a value may be, as it is written into a metric's name. A longer one is `other`.
pub const LONGEST_VALUE: usize = 128;

/// How many declared values are few.
const FEW: usize = 8;

/// How many values a segment of a list has: some 4 KB at most are copied to add one.
const IN_SEGMENT: usize = 32;

/// Where a label's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The tenant's id.
    Tenant,
    /// The tenant's tier.
    Tier,
    /// The user's type.
    UserType,
    /// The route; its values are the templates, in their order.
    Route,
    /// The status; its values are 100 to 599.
    Status,
    /// The status' class; its values are the classes 1 to 5.
    StatusClass,
    /// The status of a gRPC call; its values are 0 to 16.
    GrpcStatus,
    /// The method.
    Method,
    /// The limit that refused the request.
    Limit,
    /// Why the limiter refused the request.
    Reason,
    /// A header of the request; its name in lower case.
    Header(String),
    /// A header of the response, likewise.
    ResponseHeader(String),
    /// A claim of the verified token: the names on the way to it.
    Claim(Vec<String>),
    /// Nowhere: the one value that it declares.
    Constant,
}

impl Source {
    /// Whether it is known only when there is a response.
    pub fn is_of_the_response(&self) -> bool {
        matches!(
            self,
            Self::Status | Self::StatusClass | Self::GrpcStatus | Self::ResponseHeader(_)
        )
    }
}

/// A label and its values.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub source: Source,
    values: Vec<String>,
    positions: HashMap<Box<[u8]>, u16>,
    at_most: u64,
    /// `None` if there is no room for values that are not declared, and as long as nothing is shared.
    admitted: Option<RefCell<Admitted>>,
}

/// The values that came first, as far as this worker knows of them.
#[derive(Debug)]
struct Admitted {
    register: Register,
    values: Vec<Box<str>>,
    positions: HashMap<Box<[u8]>, u16>,
}

impl Label {
    /// A label with these values, beside `none` and `other`. Those that don't fit into 16 bits are `other`.
    pub fn new(name: impl Into<String>, source: Source, values: Vec<String>) -> Self {
        let positions = (DECLARED..PENDING)
            .zip(&values)
            .map(|(i, value)| (value.as_bytes().into(), i))
            .collect();
        Self {
            name: name.into(),
            source,
            values,
            positions,
            at_most: 0,
            admitted: None,
        }
    }

    /// The same label with room for so many values that it does not declare, as soon as it knows where they are shared.
    #[must_use]
    pub fn at_most(mut self, values: u64) -> Self {
        self.at_most = values;
        self
    }

    /// Where the workers of a proxy have the values in common that came first: in the shared data, under keys that begin like this.
    pub fn share(&mut self, prefix: &str) {
        if self.at_most == 0 {
            return;
        }
        let key = format!("{prefix}label/{}/", self.name);
        self.admitted = Some(RefCell::new(Admitted {
            register: Register::new(key.into_bytes(), IN_SEGMENT, self.at_most),
            values: Vec::new(),
            positions: HashMap::new(),
        }));
    }

    /// The position of a value; [`PENDING`] if only [`Label::admit`] can tell.
    pub fn position(&self, value: &[u8]) -> u16 {
        if let Some(position) = self.declared(value) {
            return position;
        }
        let Some(admitted) = &self.admitted else {
            return OTHER;
        };
        let admitted = admitted.borrow();
        match admitted.positions.get(value) {
            Some(position) => *position,
            None if admitted.register.is_full() && is_plain(value) => OTHER,
            // As it is written it may be one that is known.
            None => match written(value) {
                None => OTHER,
                Some(value) => {
                    let value = value.as_bytes();
                    let admitted_at = || admitted.positions.get(value).copied();
                    match self.declared(value).or_else(admitted_at) {
                        Some(position) => position,
                        None if admitted.register.is_full() => OTHER,
                        None => PENDING,
                    }
                }
            },
        }
    }

    /// The position of a value that is declared.
    fn declared(&self, value: &[u8]) -> Option<u16> {
        // To compare with a few takes less than to hash.
        if self.values.len() <= FEW {
            let is_value = |declared: &String| same_bytes(declared.as_bytes(), value);
            let place = self.values.iter().position(is_value)?;
            return u16::try_from(place).ok().map(|place| DECLARED + place);
        }
        self.positions.get(value).copied()
    }

    /// The position of a value of which there may be several copies.
    pub fn position_of(&self, value: Copies<'_>) -> u16 {
        match value {
            Copies::Absent | Copies::One(b"") => NONE,
            Copies::One(value) => self.position(value),
            Copies::Several => OTHER,
        }
    }

    /// The position of a claim, and its text if that has to be asked for. A number that is not whole, a list and an object have no text.
    pub fn position_of_claim<B: AsRef<[u8]>>(
        &self,
        claims: Option<&Claims<B>>,
        path: &[String],
    ) -> (u16, Option<Box<[u8]>>) {
        let text = match claims.and_then(|claims| claims.get(path)) {
            None | Some(Claim::Null | Claim::Text("")) => return (NONE, None),
            Some(Claim::Text(text)) => return self.found(text.as_bytes()),
            Some(Claim::Bool(value)) => value.to_string(),
            // Beyond 2^53 a double is another number than the token's.
            Some(Claim::Number(number))
                if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 =>
            {
                (number as i64).to_string()
            }
            Some(Claim::Number(_) | Claim::List(_) | Claim::Mapping) => return (OTHER, None),
        };
        self.found(text.as_bytes())
    }

    fn found(&self, value: &[u8]) -> (u16, Option<Box<[u8]>>) {
        match self.position(value) {
            PENDING => (PENDING, Some(value.into())),
            position => (position, None),
        }
    }

    /// The position of a value that may be new: the next one, if there is room.
    pub fn admit(&self, value: &[u8], host: &mut dyn Host) -> u16 {
        match (self.position(value), &self.admitted, written(value)) {
            (PENDING, Some(admitted), Some(value)) => {
                let Admitted {
                    register,
                    values,
                    positions,
                } = &mut *admitted.borrow_mut();
                let declared = self.values.len();
                let most = register.most();
                let mut learn = |entry: &[u8]| {
                    let position = declared
                        .checked_add(values.len())
                        .and_then(|i| u16::try_from(i).ok()?.checked_add(DECLARED));
                    // What an earlier configuration admitted beyond the bound of this one is not of its values.
                    if let (Some(position), Ok(text)) = (position, std::str::from_utf8(entry))
                        && (values.len() as u64) < most
                        && position < PENDING
                    {
                        values.push(text.into());
                        positions.entry(entry.into()).or_insert(position);
                    }
                };
                if let Err(error) = register.admit(value.as_bytes(), host, &mut learn) {
                    log::debug!("the values of {} can't be looked up: {error:?}", self.name);
                }
                positions.get(value.as_bytes()).copied().unwrap_or(OTHER)
            }
            (PENDING, ..) => OTHER,
            (position, ..) => position,
        }
    }

    /// A value by its position.
    pub fn with_text<R>(&self, position: u16, show: impl FnOnce(&str) -> R) -> R {
        let Some(place) = position.checked_sub(DECLARED).map(usize::from) else {
            return show(if position == NONE { "none" } else { "other" });
        };
        if let Some(declared) = self.values.get(place) {
            return show(declared);
        }
        let admitted = self.admitted.as_ref().map(RefCell::borrow);
        let text = admitted
            .as_ref()
            .and_then(|admitted| admitted.values.get(place - self.values.len()));
        show(text.map_or("other", |text| text))
    }
}

/// Whether a value is certainly written as it is.
fn is_plain(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/'))
}

/// A value as it is written into a metric's name; `None` for one that can have no series of its own: it is too long, or is what
/// others are counted as.
fn written(value: &[u8]) -> Option<String> {
    if value.len() > LONGEST_VALUE || matches!(value, b"none" | b"other") {
        return None;
    }
    let written = label_value(value);
    (written.len() <= LONGEST_VALUE).then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_host::memory::{Call, MemoryHost};

    fn label(declared: &[&str], at_most: u64) -> Label {
        let declared = declared.iter().map(|value| (*value).to_owned()).collect();
        let mut label = Label::new("tenant", Source::Tenant, declared).at_most(at_most);
        label.share("plugin/");
        label
    }

    #[test]
    fn values_that_come_first_are_admitted_for_all_workers_alike() {
        let mut first = MemoryHost::new();
        let mut second = first.worker();
        let label = |most| label(&["acme"], most);
        let (one, two) = (label(2), label(2));
        let text = |label: &Label, position| label.with_text(position, str::to_owned);
        assert_eq!(one.position(b"acme"), DECLARED);
        assert_eq!(one.position(b"b"), PENDING);
        assert_eq!(one.admit(b"b", &mut first), DECLARED + 1);
        assert_eq!(two.admit(b"c", &mut second), DECLARED + 2);
        assert_eq!(two.position(b"b"), DECLARED + 1);
        // Full, which the first learns when it asks for the next.
        assert_eq!(one.admit(b"d", &mut first), OTHER);
        assert_eq!(one.position(b"c"), DECLARED + 2);
        for label in [&one, &two] {
            let texts = [0, 1, 2, 3, 4, 5].map(|position| text(label, position));
            assert_eq!(texts, ["none", "other", "acme", "b", "c", "other"]);
        }
        first.reset_calls();
        for value in [b"e".as_slice(), b"f\xff", b"b", b"c", b"acme", b"other"] {
            one.admit(value, &mut first);
        }
        assert_eq!(first.all_calls(), [].into());
        // An update with a smaller bound has the first of them, one with a larger bound all and more.
        let smaller = label(1);
        assert_eq!(smaller.admit(b"c", &mut first), OTHER);
        assert_eq!(smaller.position(b"b"), DECLARED + 1);
        let larger = label(3);
        assert_eq!(larger.admit(b"d", &mut first), DECLARED + 3);
        assert_eq!(larger.position(b"c"), DECLARED + 2);
    }

    #[test]
    fn what_is_written_alike_is_one_value() {
        let mut host = MemoryHost::new();
        let label = label(&[], 3);
        assert_eq!(label.admit(b"a\nb", &mut host), DECLARED);
        for alike in [b"a_b".as_slice(), b"a\rb", b"a\xffb"] {
            assert_eq!(label.position(alike), DECLARED);
        }
        assert_eq!(label.with_text(DECLARED, str::to_owned), "a_b");
        for other in [b"none".as_slice(), b"other", &[b'a'; 129], &[b'\xff'; 129]] {
            assert_eq!(label.admit(other, &mut host), OTHER);
        }
        assert_eq!(label.admit(&[b'a'; 128], &mut host), DECLARED + 1);
    }

    #[test]
    fn without_shared_data_a_new_value_is_other() {
        let mut host = MemoryHost::new();
        let label = label(&[], 3);
        for call in [Call::Shared, Call::SetShared] {
            host.fail(call, tollgate_host::HostError::Status(10));
            assert_eq!(label.admit(b"a", &mut host), OTHER);
            host.heal(call);
        }
        assert_eq!(label.admit(b"a", &mut host), DECLARED);
    }
}
