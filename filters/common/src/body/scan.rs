//! A JSON document, read byte by byte for the few values that are asked for.
//!
//! What is remembered: where in the grammar the reading is, for each open object or list which of the two it is (one bit), how far each
//! pointer agrees with the open names, and the value that is just being read if a pointer ends there. Names are compared as they come. So a
//! document of any size, cut anywhere, needs the same few hundred bytes, and at most [`LONGEST_VALUE`] for each value.
//!
//! How strict it is: where a document is read, its grammar is that of RFC 8259 (what `serde_json` ignores, this ignores). Strings are
//! checked to be UTF-8, with whole surrogate pairs, only if they are asked for; in others nobody looks. A name that is
//! not well-formed is nobody's.

use std::rc::Rc;

use super::pointer::{MAX_NAMES, MAX_POINTERS, Pointer, Pointers};

/// How many objects and lists may be open at once. (`serde_json` takes 127.)
pub const DEEPEST: u32 = 128;
/// How many bytes a value may have. A longer one is [`Value::TooLong`].
pub const LONGEST_VALUE: usize = 256;

/// What is at a pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing: the document has no such member or element.
    #[default]
    Absent,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it is written, e.g. `19.90` or `1e3`.
    Number(Box<str>),
    /// A string without its quotes and escapes.
    Text(Box<str>),
    /// A number or a string of more than [`LONGEST_VALUE`] bytes.
    TooLong,
    /// An object or a list.
    Container,
}

/// Why nothing can be said about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not JSON.
    Malformed,
    /// It ended before its JSON did.
    Truncated,
    /// More than [`DEEPEST`] objects and lists are open at once.
    TooDeep,
    /// It has more bytes than its reader was to read.
    TooLong,
}

/// Which of several members with the same name counts. RFC 8259 leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// The first, which allows to stop reading when all pointers are decided: what comes after that is not looked at, well-formed or not. For bodies whose
    /// writer is trusted.
    First,
    /// The last, as most parsers have it (JavaScript's, Go's, Python's, `serde_json`'s): a client cannot show a filter
    /// another value than the service. The document is always read to its end.
    Last,
}

/// Reads one document.
#[derive(Debug)]
pub struct Scanner {
    pointers: Rc<Pointers>,
    /// Which of them are asked for, a bit each.
    asked: u8,
    duplicates: Duplicates,
    at: At,
    unread: Option<Unread>,
    /// How many objects and lists are open.
    open: u32,
    /// A bit for each of them, the innermost the lowest: whether it is an object.
    objects: u128,
    /// How many elements came before the one that is read, for each open list that a pointer could lead through.
    elements: [u64; MAX_NAMES],
    progress: [Progress; MAX_POINTERS],
    values: [Value; MAX_POINTERS],
    /// Which pointers end at the value that is read, a bit each.
    targets: u8,
    /// That value, as far as it is read.
    text: Vec<u8>,
    too_long: bool,
    /// The first half of a surrogate pair, just read.
    high: Option<u16>,
}

/// How far a pointer has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// How many of its names are those of the open path.
    names: usize,
    /// How many bytes of its next name the name that is being read begins with; `None` if it is another.
    bytes: Option<usize>,
    /// Whether nothing that comes will change its value.
    decided: bool,
}

/// Where in the grammar the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    CommaOrEnd,
    Text {
        name: bool,
        part: Part,
    },
    Number(Digits),
    /// The rest of `true`, `false` or `null`.
    Word(&'static [u8]),
    End,
}

/// Where in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Plain,
    Escape,
    Hex { digits: u8, code: u16 },
}

/// Where in a number: after what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    PowerMark,
    PowerSign,
    Power,
}

impl Digits {
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus | Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::PowerMark,
            (Self::PowerMark, b'+' | b'-') => Self::PowerSign,
            (Self::PowerMark | Self::PowerSign | Self::Power, b'0'..=b'9') => Self::Power,
            _ => return None,
        })
    }

    fn is_whole_number(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Whole | Self::Fraction | Self::Power
        )
    }
}

impl Scanner {
    /// Before the first byte of a document.
    pub fn new(pointers: Rc<Pointers>, duplicates: Duplicates) -> Self {
        Self {
            pointers,
            asked: u8::MAX,
            duplicates,
            at: At::Value,
            unread: None,
            open: 0,
            objects: 0,
            elements: [0; MAX_NAMES],
            progress: Default::default(),
            values: Default::default(),
            targets: 0,
            text: Vec::new(),
            too_long: false,
            high: None,
        }
    }

    /// The same, asked only for the pointers of these bits. What is at others is absent, and nobody waits for it.
    #[must_use]
    pub fn only(mut self, asked: u8) -> Self {
        self.asked = asked;
        for (index, progress) in self.progress.iter_mut().enumerate() {
            progress.decided = asked >> index & 1 == 0;
        }
        self
    }

    /// Begins anew, with another document.
    pub fn reset(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        *self = Self {
            text,
            ..Self::new(self.pointers.clone(), self.duplicates).only(self.asked)
        };
    }

    /// How many pointers there are, and so values.
    pub(super) fn pointers(&self) -> usize {
        self.pointers.len()
    }

    /// Whether what is still to come makes no difference.
    pub fn done(&self) -> bool {
        self.unread.is_some() || self.all_decided()
    }

    /// How many pointers are decided, or not asked for.
    pub fn known(&self) -> usize {
        let progress = self.progress.iter();
        progress.filter(|progress| progress.decided).count()
    }

    /// What is at a pointer, if nothing that is still to come changes that.
    pub fn decided(&self, index: usize) -> Option<&Value> {
        let progress = self.progress.get(index)?;
        progress.decided.then(|| self.values.get(index))?
    }

    fn all_decided(&self) -> bool {
        self.duplicates == Duplicates::First
            && self
                .progress
                .iter()
                .take(self.pointers.len())
                .all(|progress| progress.decided)
    }

    /// Reads on.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let [byte, after @ ..] = rest {
            if self.done() {
                return;
            }
            match self.at {
                At::Text {
                    name,
                    part: Part::Plain,
                } => {
                    // Most of most documents, so many bytes at a time.
                    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
                    let length = rest.iter().position(special).unwrap_or(rest.len());
                    let (plain, after) = rest.split_at(length);
                    if length > 0 {
                        self.in_text(name, plain);
                    }
                    rest = match after {
                        [byte, after @ ..] => {
                            self.text_special(name, *byte);
                            after
                        }
                        [] => after,
                    };
                }
                At::Number(digits) => match digits.next(*byte) {
                    Some(digits) => {
                        self.at = At::Number(digits);
                        self.keep(&[*byte]);
                        rest = after;
                    }
                    // The byte is not the number's: it is looked at again.
                    None => self.number_ended(digits),
                },
                _ => {
                    self.step(*byte);
                    rest = after;
                }
            }
        }
    }

    /// Whether the document is a number so far, and nothing else: the only one that does not show its end by itself.
    pub fn may_go_on(&self) -> bool {
        self.unread.is_none() && self.open == 0 && matches!(self.at, At::Number(_))
    }

    /// The document is at its end: what was at each pointer, in their order, or why nothing can be said.
    pub fn finish(&mut self) -> Result<&[Value], Unread> {
        if !self.done()
            && self.open == 0
            && let At::Number(digits) = self.at
        {
            // Only such a document does not show its end by itself.
            if !digits.is_whole_number() {
                return Err(Unread::Truncated);
            }
            self.number_ended(digits);
        }
        if let Some(unread) = self.unread {
            return Err(unread);
        }
        if self.at != At::End && !self.all_decided() {
            return Err(Unread::Truncated);
        }
        Ok(self.values())
    }

    fn values(&self) -> &[Value] {
        self.values.get(..self.pointers.len()).unwrap_or_default()
    }

    fn fail(&mut self, unread: Unread) {
        self.unread = Some(unread);
    }

    /// A byte outside of numbers and of the plain parts of strings.
    fn step(&mut self, byte: u8) {
        let white = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match (self.at, byte) {
            (At::Text { name, part }, _) => self.escaped(name, part, byte),
            (At::Word(rest), _) => match rest {
                [expected, rest @ ..] if *expected == byte => {
                    self.at = At::Word(rest);
                    if rest.is_empty() {
                        self.value_ended();
                    }
                }
                _ => self.fail(Unread::Malformed),
            },
            _ if white => {}
            (At::ValueOrEnd, b']') | (At::NameOrEnd, b'}') => self.close(),
            (At::Value | At::ValueOrEnd, _) => self.begin_value(byte),
            (At::Name | At::NameOrEnd, b'"') => self.begin_name(),
            (At::Colon, b':') => self.at = At::Value,
            (At::CommaOrEnd, b',') if self.in_object() => self.at = At::Name,
            (At::CommaOrEnd, b',') => {
                if let Some(elements) = self.elements.get_mut((self.open as usize).wrapping_sub(1))
                {
                    *elements += 1;
                }
                self.at = At::Value;
            }
            (At::CommaOrEnd, b'}') if self.in_object() => self.close(),
            (At::CommaOrEnd, b']') if !self.in_object() => self.close(),
            _ => self.fail(Unread::Malformed),
        }
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// The pointers that are not decided, with what is known of each.
    fn undecided(&mut self) -> impl Iterator<Item = (usize, &Pointer, &mut Progress, &mut Value)> {
        let known = self.progress.iter_mut().zip(&mut self.values);
        self.pointers
            .iter()
            .zip(known)
            .enumerate()
            .filter(|(_, (_, (progress, _)))| !progress.decided)
            .map(|(index, (pointer, (progress, value)))| (index, pointer, progress, value))
    }

    fn begin_value(&mut self, byte: u8) {
        let path = self.open as usize;
        if path > 0 && path <= MAX_NAMES && !self.in_object() {
            let element = self.elements.get(path - 1).copied();
            for (_, pointer, progress, _) in self.undecided() {
                let name = pointer.names().get(path - 1);
                if progress.names == path - 1
                    && name.is_some_and(|name| name.index.is_some() && name.index == element)
                {
                    progress.names = path;
                }
            }
        }
        let mut targets = 0;
        if path <= MAX_NAMES {
            for (index, pointer, progress, _) in self.undecided() {
                if progress.names == path && pointer.names().len() == path {
                    targets |= 1 << index;
                }
            }
        }
        self.targets = targets;
        self.text.clear();
        self.too_long = false;
        match byte {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => self.begin_text(false),
            b't' => self.begin_word(b"rue", Value::Bool(true)),
            b'f' => self.begin_word(b"alse", Value::Bool(false)),
            b'n' => self.begin_word(b"ull", Value::Null),
            _ => {
                let digits = match byte {
                    b'-' => Digits::Minus,
                    b'0' => Digits::Zero,
                    b'1'..=b'9' => Digits::Whole,
                    _ => return self.fail(Unread::Malformed),
                };
                self.at = At::Number(digits);
                self.keep(&[byte]);
            }
        }
    }

    /// Gives the value that is read to those who ask for it.
    fn found(&mut self, found: &Value) {
        if self.targets == 0 {
            return;
        }
        let targets = self.targets;
        for (index, _, _, value) in self.undecided() {
            if targets & (1 << index) != 0 {
                *value = found.clone();
            }
        }
    }

    fn begin_word(&mut self, rest: &'static [u8], value: Value) {
        self.at = At::Word(rest);
        self.found(&value);
    }

    fn begin_text(&mut self, name: bool) {
        self.high = None;
        self.at = At::Text {
            name,
            part: Part::Plain,
        };
    }

    fn begin_name(&mut self) {
        let above = (self.open as usize).saturating_sub(1);
        for (_, pointer, progress, _) in self.undecided() {
            let next = progress.names == above && pointer.names().len() > above;
            progress.bytes = next.then_some(0);
        }
        self.begin_text(true);
    }

    /// Bytes of a string, unescaped.
    fn in_text(&mut self, name: bool, bytes: &[u8]) {
        if self.high.take().is_some() {
            self.not_text(name);
        }
        if name {
            self.in_name(bytes);
        } else {
            self.keep(bytes);
        }
    }

    fn in_name(&mut self, bytes: &[u8]) {
        let above = (self.open as usize).saturating_sub(1);
        for (_, pointer, progress, _) in self.undecided() {
            let Some(begun) = progress.bytes else {
                continue;
            };
            let expected = pointer.names().get(above);
            let rest = expected.and_then(|name| name.text.get(begun..));
            progress.bytes = rest
                .is_some_and(|rest| rest.starts_with(bytes))
                .then_some(begun + bytes.len());
        }
    }

    /// Keeps bytes of a value that is asked for.
    fn keep(&mut self, bytes: &[u8]) {
        if self.targets == 0 || self.too_long {
            return;
        }
        if self.text.len() + bytes.len() > LONGEST_VALUE {
            self.too_long = true;
        } else {
            self.text.extend_from_slice(bytes);
        }
    }

    /// The string that is read is no text.
    fn not_text(&mut self, name: bool) {
        if name {
            for (_, _, progress, _) in self.undecided() {
                progress.bytes = None;
            }
        } else if self.targets != 0 && !self.too_long {
            self.fail(Unread::Malformed);
        }
    }

    /// A quote, a backslash or a control character.
    fn text_special(&mut self, name: bool, byte: u8) {
        match byte {
            b'"' => {
                if self.high.take().is_some() {
                    self.not_text(name);
                }
                if name {
                    self.name_ended();
                } else {
                    self.text_ended();
                }
            }
            b'\\' => {
                self.at = At::Text {
                    name,
                    part: Part::Escape,
                }
            }
            _ => self.fail(Unread::Malformed),
        }
    }

    fn escaped(&mut self, name: bool, part: Part, byte: u8) {
        let mut next = Part::Plain;
        match part {
            Part::Plain => {}
            Part::Escape => {
                let byte = match byte {
                    b'"' | b'\\' | b'/' => byte,
                    b'b' => 0x8,
                    b'f' => 0xc,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'u' => {
                        let part = Part::Hex { digits: 0, code: 0 };
                        self.at = At::Text { name, part };
                        return;
                    }
                    _ => return self.fail(Unread::Malformed),
                };
                self.in_text(name, &[byte]);
            }
            Part::Hex { digits, code } => {
                let Some(digit) = char::from(byte).to_digit(16) else {
                    return self.fail(Unread::Malformed);
                };
                // Four digits are 16 bits.
                let code = code << 4 | digit as u16;
                if digits < 3 {
                    next = Part::Hex {
                        digits: digits + 1,
                        code,
                    };
                } else {
                    self.unit(name, code);
                }
            }
        }
        self.at = At::Text { name, part: next };
    }

    /// A UTF-16 unit, as `\u` gives it.
    fn unit(&mut self, name: bool, unit: u16) {
        let code = match (self.high.take(), unit) {
            (Some(high), 0xdc00..=0xdfff) => {
                0x10000 + (u32::from(high - 0xd800) << 10) + u32::from(unit - 0xdc00)
            }
            (None, 0xd800..=0xdbff) => {
                self.high = Some(unit);
                return;
            }
            (Some(_), _) => return self.not_text(name),
            (None, _) => u32::from(unit),
        };
        match char::from_u32(code) {
            Some(character) => {
                self.in_text(name, character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => self.not_text(name),
        }
    }

    fn name_ended(&mut self) {
        let path = self.open as usize;
        let last = self.duplicates == Duplicates::Last;
        for (_, pointer, progress, value) in self.undecided() {
            let Some(read) = progress.bytes.take() else {
                continue;
            };
            let name = pointer.names().get(path.saturating_sub(1));
            if name.is_some_and(|name| name.text.len() == read) {
                progress.names = path;
                if last {
                    // What an earlier member of this name had is hidden by this one, whatever this one has.
                    *value = Value::Absent;
                }
            }
        }
        self.at = At::Colon;
    }

    fn text_ended(&mut self) {
        if self.targets != 0 {
            let value = if self.too_long {
                Value::TooLong
            } else {
                match std::str::from_utf8(&self.text) {
                    Ok(text) => Value::Text(text.into()),
                    Err(_) => return self.fail(Unread::Malformed),
                }
            };
            self.found(&value);
        }
        self.value_ended();
    }

    fn number_ended(&mut self, digits: Digits) {
        if !digits.is_whole_number() {
            return self.fail(Unread::Malformed);
        }
        if self.targets != 0 {
            let value = match std::str::from_utf8(&self.text) {
                Ok(text) if !self.too_long => Value::Number(text.into()),
                _ => Value::TooLong,
            };
            self.found(&value);
        }
        self.value_ended();
    }

    fn open(&mut self, object: bool) {
        self.found(&Value::Container);
        if self.open == DEEPEST {
            return self.fail(Unread::TooDeep);
        }
        if let Some(elements) = self.elements.get_mut(self.open as usize) {
            *elements = 0;
        }
        self.open += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.at = if object {
            At::NameOrEnd
        } else {
            At::ValueOrEnd
        };
    }

    fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.objects >>= 1;
        self.value_ended();
    }

    /// A value is read whole, with everything in it.
    fn value_ended(&mut self) {
        let path = self.open as usize;
        self.targets = 0;
        if path == 0 {
            self.at = At::End;
            return;
        }
        self.at = At::CommaOrEnd;
        let first = self.duplicates == Duplicates::First;
        for (_, _, progress, _) in self.undecided() {
            if progress.names == path {
                progress.names = path - 1;
                progress.decided = first;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn pointers<S: AsRef<str>>(written: &[S]) -> Rc<Pointers> {
        let pointers = written
            .iter()
            .map(|text| Pointer::parse(text.as_ref()).unwrap());
        Rc::new(Pointers::new(pointers.collect()).unwrap())
    }

    /// What a scanner says of a document that comes in pieces of these sizes (over and over again; all at once if there are none).
    fn scan<S: AsRef<str>>(
        document: &[u8],
        written: &[S],
        duplicates: Duplicates,
        pieces: &[usize],
    ) -> Result<Vec<Value>, Unread> {
        let mut scanner = Scanner::new(pointers(written), duplicates);
        let mut rest = document;
        for size in pieces.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            scanner.feed(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        scanner.feed(rest);
        scanner.finish().map(<[Value]>::to_vec)
    }

    fn one(document: &str, pointer: &str) -> Result<Value, Unread> {
        let last = scan(document.as_bytes(), &[pointer], Duplicates::Last, &[1]);
        last.map(|mut values| values.remove(0))
    }

    fn number(text: &str) -> Value {
        Value::Number(text.into())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn who_asks_for_some_waits_for_no_others() {
        let all = || Scanner::new(pointers(&["/a", "/b", "/c"]), Duplicates::First);
        let some = || all().only(0b101);
        let mut scanner = some();
        scanner.feed(br#"{"b": 2, "a": 1, "#);
        assert_eq!(scanner.decided(0), Some(&number("1")));
        assert_eq!((scanner.decided(2), scanner.done()), (None, false));
        scanner.feed(br#""c": 3, "#);
        assert!(scanner.done());
        let found = [number("1"), Value::Absent, number("3")];
        assert_eq!(scanner.finish(), Ok(found.as_slice()));
        // And in the next document.
        scanner.reset();
        scanner.feed(br#"{"a": 1, "c": 3, "#);
        assert!(scanner.done());
        let mut scanner = all();
        scanner.feed(br#"{"a": 1, "c": 3, "#);
        assert!(!scanner.done());
    }

    #[test]
    fn a_value_is_found_as_it_is_written() {
        let document = r#" { "usage" : {"total_tokens":42, "cost":1.50e-3} , "items":[{"price":19.90},
            {"price":-0}], "paid":true,"gone" :false, "note":null, "a/b":{"m~n":"x"}, "":"empty", "id":"o\u002d1\n\ud83d\ude00" }"#;
        for (pointer, expected) in [
            ("/usage/total_tokens", number("42")),
            ("/usage/cost", number("1.50e-3")),
            ("/items/0/price", number("19.90")),
            ("/items/1/price", number("-0")),
            ("/items/2/price", Value::Absent),
            ("/items/-", Value::Absent),
            ("/items/00/price", Value::Absent),
            ("/items/price", Value::Absent),
            ("/paid", Value::Bool(true)),
            ("/gone", Value::Bool(false)),
            ("/note", Value::Null),
            ("/note/x", Value::Absent),
            ("/a~1b/m~0n", text("x")),
            ("/", text("empty")),
            ("/id", text("o-1\n😀")),
            ("/usage", Value::Container),
            ("/items", Value::Container),
            ("", Value::Container),
            ("/usage/total", Value::Absent),
            ("/usage/total_tokens_", Value::Absent),
            ("/total_tokens", Value::Absent),
        ] {
            assert_eq!(one(document, pointer), Ok(expected), "{pointer}");
        }
    }

    #[test]
    fn a_document_may_be_one_value() {
        for (document, expected) in [
            (" 12 ", number("12")),
            ("12", number("12")),
            ("-1.5E+7", number("-1.5E+7")),
            ("\"a\"", text("a")),
            ("null", Value::Null),
            ("[]", Value::Container),
        ] {
            assert_eq!(one(document, ""), Ok(expected), "{document}");
        }
    }

    #[test]
    fn a_name_is_the_same_however_it_is_escaped() {
        for (document, expected) in [
            (r#"{"t\u006ftal":1}"#, number("1")),
            (r#"{"\u0074\u006F\u0074\u0061\u006c":1}"#, number("1")),
            (r#"{"total\u0000":1}"#, Value::Absent),
            (r#"{"tota":1,"totall":2,"Total":3,"":4}"#, Value::Absent),
            (r#"{"total\ud800":1}"#, Value::Absent),
            (r#"{"\ud800total":1}"#, Value::Absent),
        ] {
            assert_eq!(one(document, "/total"), Ok(expected), "{document}");
        }
        assert_eq!(one(r#"{"\ud83d\ude00":1}"#, "/😀"), Ok(number("1")));
        assert_eq!(one(r#"{"a\/b":1}"#, "/a~1b"), Ok(number("1")));
    }

    #[test]
    fn of_duplicates_the_one_counts_that_was_asked_for() {
        for (document, first, last) in [
            (r#"{"a":{"b":1},"a":{"b":2}}"#, number("1"), number("2")),
            (r#"{"a":{"b":1,"b":2}}"#, number("1"), number("2")),
            (r#"{"a":{"b":1},"a":{}}"#, number("1"), Value::Absent),
            (r#"{"a":{"b":1},"a":7}"#, number("1"), Value::Absent),
            (r#"{"a":{},"a":{"b":2}}"#, Value::Absent, number("2")),
            (r#"{"a":[],"\u0061":{"b":2}}"#, Value::Absent, number("2")),
        ] {
            let bytes = document.as_bytes();
            assert_eq!(
                scan(bytes, &["/a/b"], Duplicates::First, &[]),
                Ok(vec![first]),
                "{document}"
            );
            assert_eq!(
                scan(bytes, &["/a/b"], Duplicates::Last, &[]),
                Ok(vec![last]),
                "{document}"
            );
        }
    }

    #[test]
    fn reading_ends_when_all_is_decided() {
        let mut scanner = Scanner::new(pointers(&["/a", "/b/0", "/b/5"]), Duplicates::First);
        scanner.feed(br#"{"b":[1,2],"c":3,"a":4"#);
        assert!(!scanner.done(), "the number may go on");
        scanner.feed(b",");
        assert!(scanner.done());
        scanner.feed(b"}} what comes now is not looked at");
        assert_eq!(
            scanner.finish(),
            Ok([number("4"), number("1"), Value::Absent].as_slice())
        );

        let mut scanner = Scanner::new(pointers(&["/a"]), Duplicates::Last);
        scanner.feed(br#"{"a":4,"#);
        assert!(!scanner.done(), "there may be another");
        scanner.feed(b"}");
        assert!(scanner.done(), "a comma before a brace is not JSON");
        assert_eq!(scanner.finish(), Err(Unread::Malformed));
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let deep = |levels: u32| "[".repeat(levels as usize) + &"]".repeat(levels as usize);
        for (document, expected) in [
            ("", Err(Unread::Truncated)),
            ("  ", Err(Unread::Truncated)),
            ("{\"total\": 12", Err(Unread::Truncated)),
            ("{\"total\": \"1", Err(Unread::Truncated)),
            ("-", Err(Unread::Truncated)),
            ("{\"total\": 12} x", Err(Unread::Malformed)),
            ("{\"total\": 012}", Err(Unread::Malformed)),
            ("{'total': 12}", Err(Unread::Malformed)),
            ("{\"total\": 12]", Err(Unread::Malformed)),
            ("{\"total\": NaN}", Err(Unread::Malformed)),
            ("\u{feff}{\"total\": 12}", Err(Unread::Malformed)),
            ("{\"total\": \"\\ud800\"}", Err(Unread::Malformed)),
            ("{\"other\": \"\\ud800\"}", Ok(Value::Absent)),
            (&deep(DEEPEST), Ok(Value::Absent)),
            (&deep(DEEPEST + 1), Err(Unread::TooDeep)),
        ] {
            assert_eq!(one(document, "/total"), expected, "{document}");
        }
        let bytes = b"{\"total\": \"\xff\"}";
        assert_eq!(
            scan(bytes, &["/total"], Duplicates::Last, &[]),
            Err(Unread::Malformed)
        );
        assert_eq!(
            scan(bytes, &["/other"], Duplicates::Last, &[]),
            Ok(vec![Value::Absent])
        );
    }

    #[test]
    fn a_long_value_is_not_kept() {
        for length in [LONGEST_VALUE, LONGEST_VALUE + 1] {
            let digits = "1".repeat(length);
            let expected = |value: Value| {
                if length == LONGEST_VALUE {
                    value
                } else {
                    Value::TooLong
                }
            };
            let document = format!("{{\"a\":{digits}}}");
            assert_eq!(one(&document, "/a"), Ok(expected(number(&digits))));
            let document = format!("{{\"a\":\"{digits}\"}}");
            assert_eq!(one(&document, "/a"), Ok(expected(text(&digits))));
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_document() {
        assert!(size_of::<Scanner>() <= 768, "{}", size_of::<Scanner>());
        let written: Vec<_> = (0..MAX_POINTERS).map(|n| format!("/{n}/a")).collect();
        for filler in [
            "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\u00e9aaaaaaaaaaaa",
            "{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "[{\"a\":111111111111111111111111111111111111111111111111",
            "[{\"a\":1,\"a\":\"2222222222222222222222222222222222222222\"},",
        ] {
            let mut scanner = Scanner::new(pointers(&written), Duplicates::Last);
            // Only the last begins anew: the others are one string, name or number of ten million bytes.
            let repeated = filler.trim_start_matches(['[', '{', '"']);
            scanner.feed(filler.as_bytes());
            for _ in 0..10_000_000 / filler.len() {
                scanner.feed(if filler.ends_with(',') {
                    &filler.as_bytes()[1..]
                } else {
                    repeated.rsplit(':').next().unwrap().as_bytes()
                });
            }
            assert_eq!(scanner.unread, None, "{filler}");
            assert!(scanner.text.capacity() <= 2 * LONGEST_VALUE);
        }
    }

    /// A document as a tree that keeps duplicates.
    #[derive(Clone, Debug)]
    enum Node {
        Null,
        Bool(bool),
        Number(String),
        Text(String),
        List(Vec<Node>),
        Object(Vec<(String, Node)>),
    }

    impl Node {
        /// Writes it, with space and escapes as `style` says.
        fn write(&self, out: &mut String, style: &mut dyn Iterator<Item = u8>) {
            space(out, style);
            match self {
                Self::Null => out.push_str("null"),
                Self::Bool(value) => out.push_str(&value.to_string()),
                Self::Number(number) => out.push_str(number),
                Self::Text(text) => write_text(text, out, style),
                Self::List(elements) => {
                    out.push('[');
                    for (index, element) in elements.iter().enumerate() {
                        if index > 0 {
                            out.push(',');
                        }
                        element.write(out, style);
                    }
                    space(out, style);
                    out.push(']');
                }
                Self::Object(members) => {
                    out.push('{');
                    for (index, (name, value)) in members.iter().enumerate() {
                        if index > 0 {
                            out.push(',');
                        }
                        space(out, style);
                        write_text(name, out, style);
                        space(out, style);
                        out.push(':');
                        value.write(out, style);
                    }
                    space(out, style);
                    out.push('}');
                }
            }
            space(out, style);
        }

        fn at(&self, names: &[String], duplicates: Duplicates) -> Option<&Self> {
            let Some((name, rest)) = names.split_first() else {
                return Some(self);
            };
            let below = match self {
                Self::List(elements) => {
                    let index = name.parse::<usize>().ok()?;
                    (index.to_string() == *name).then(|| elements.get(index))?
                }
                Self::Object(members) => {
                    let mut same = members.iter().filter(|(n, _)| n == name);
                    match duplicates {
                        Duplicates::First => same.next(),
                        Duplicates::Last => same.next_back(),
                    }
                    .map(|(_, value)| value)
                }
                _ => None,
            };
            below?.at(rest, duplicates)
        }
    }

    fn space(out: &mut String, style: &mut dyn Iterator<Item = u8>) {
        if let Some(white @ 0..4) = style.next() {
            out.push([' ', '\t', '\n', '\r'][usize::from(white)]);
        }
    }

    fn write_text(text: &str, out: &mut String, style: &mut dyn Iterator<Item = u8>) {
        out.push('"');
        for character in text.chars() {
            let escape = style.next().unwrap_or(9) < 3;
            match character {
                '"' | '\\' if !escape => out.extend(['\\', character]),
                '\n' if !escape => out.push_str("\\n"),
                '\0'..' ' => out.push_str(&format!("\\u{:04x}", character as u32)),
                _ if escape => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04X}"));
                    }
                }
                _ => out.push(character),
            }
        }
        out.push('"');
    }

    /// Few names, so that there are duplicates, and pointers that lead somewhere.
    fn name() -> impl Strategy<Value = String> {
        proptest::sample::select(vec![
            "a", "b", "ab", "0", "1", "01", "é", "/", "~1", "", "\n\"😀",
        ])
        .prop_map(str::to_owned)
    }

    fn node() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            Just(Node::Null),
            any::<bool>().prop_map(Node::Bool),
            "-?(0|[1-9][0-9]{0,3})([.][0-9]{1,3})?([eE][-+]?[0-9]{1,2})?".prop_map(Node::Number),
            ".{0,8}".prop_map(Node::Text),
        ];
        leaf.prop_recursive(5, 48, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Node::List),
                vec((name(), inner), 0..6).prop_map(Node::Object),
            ]
        })
    }

    fn value_of(node: Option<&Node>) -> Value {
        match node {
            None => Value::Absent,
            Some(Node::Null) => Value::Null,
            Some(Node::Bool(value)) => Value::Bool(*value),
            Some(Node::Number(written)) => number(written),
            Some(Node::Text(written)) => text(written),
            Some(Node::List(_) | Node::Object(_)) => Value::Container,
        }
    }

    /// The same as `serde_json` has it, but that it does not keep how a number is written.
    fn same(ours: &Value, theirs: Option<&serde_json::Value>) -> bool {
        use serde_json::Value as Json;
        match (ours, theirs) {
            (Value::Absent, None) | (Value::Null, Some(Json::Null)) => true,
            (Value::Bool(ours), Some(Json::Bool(theirs))) => ours == theirs,
            (Value::Number(ours), Some(Json::Number(theirs))) => {
                ours.parse::<f64>().ok() == theirs.as_f64()
                    || serde_json::from_str::<serde_json::Number>(ours)
                        .ok()
                        .as_ref()
                        == Some(theirs)
            }
            (Value::Text(ours), Some(Json::String(theirs))) => **ours == **theirs,
            (Value::Container, Some(Json::Array(_) | Json::Object(_))) => true,
            _ => false,
        }
    }

    fn written(names: &[String]) -> String {
        names
            .iter()
            .map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn values_are_those_of_the_document(
            node in node(),
            paths in vec(vec(name(), 0..5), 1..=MAX_POINTERS),
            style in vec(0..40_u8, 1..64),
            pieces in vec(1..9_usize, 0..8),
        ) {
            let mut document = String::new();
            node.write(&mut document, &mut style.iter().copied().cycle());
            let written: Vec<_> = paths.iter().map(|path| written(path)).collect();
            for duplicates in [Duplicates::First, Duplicates::Last] {
                let expected: Vec<_> = paths.iter().map(|path| value_of(node.at(path, duplicates))).collect();
                let found = scan(document.as_bytes(), &written, duplicates, &pieces);
                prop_assert_eq!(found, Ok(expected), "{}", document);
            }
            let theirs: serde_json::Value = serde_json::from_str(&document).unwrap();
            let ours = scan(document.as_bytes(), &written, Duplicates::Last, &[]).unwrap();
            for (pointer, ours) in written.iter().zip(&ours) {
                prop_assert!(same(ours, theirs.pointer(pointer)), "{document} at {pointer}: {ours:?}");
            }
        }

        #[test]
        fn a_document_without_its_end_is_truncated(
            node in node(),
            style in vec(0..40_u8, 1..64),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut document = String::new();
            node.write(&mut document, &mut style.iter().copied().cycle());
            let bytes = &document.as_bytes()[..cut.index(document.len())];
            let whole = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
            let found = scan(bytes, &["/a"], Duplicates::Last, &[]);
            let expected = if whole { Ok(()) } else { Err(Unread::Truncated) };
            prop_assert_eq!(found.map(drop), expected, "{:?} cut to {} bytes", document, bytes.len());
        }

        #[test]
        fn what_is_json_is_what_others_say(
            text in r#"[\[\]{}":,0-2eE.+\-"\\u/ abd]{0,24}|([\[\]{}:,]|null|true|"a"|"\\u0061"|"\\ud8"|1|-0\.5e1| ){0,12}"#,
            pieces in vec(1..4_usize, 0..4),
        ) {
            let json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(scan(text.as_bytes(), &["/b/a"], Duplicates::Last, &pieces).is_ok(), json, "{}", text);
            if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&text) {
                let ours = scan(text.as_bytes(), &["/a"], Duplicates::Last, &pieces).unwrap();
                prop_assert!(same(&ours[0], theirs.pointer("/a")), "{text}: {ours:?}");
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_grow(
            bytes in vec(any::<u8>(), 0..200),
            begin in r#"(\{"a":|\[|"|\{"|-1|\{"a":"\\){0,3}"#,
            pieces in vec(1..9_usize, 0..8),
        ) {
            let document = [begin.as_bytes(), &bytes].concat();
            for duplicates in [Duplicates::First, Duplicates::Last] {
                let whole = scan(&document, &["", "/a", "/a/0"], duplicates, &[]);
                let pieced = scan(&document, &["", "/a", "/a/0"], duplicates, &pieces);
                prop_assert_eq!(&whole, &pieced);
                let json = serde_json::from_slice::<IgnoredAny>(&document).is_ok();
                prop_assert!(json || whole.is_err() || duplicates == Duplicates::First);
            }
        }
    }
}
