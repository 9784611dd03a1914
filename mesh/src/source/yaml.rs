//! From text to documents: YAML 1.2 with a mark on every value, and JSON, which is a part of it.
//!
//! Stricter than YAML where tools disagree: a word such as `yes` or a number such as `0755` is one value to Kubernetes and
//! another to YAML 1.2, so it has to be quoted or written differently; the same key twice is an error with both lines.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};

use super::field::{FieldPath, Segment};
use super::mark::{Inner, Mark};
use super::{Document, Source, list};
use crate::problem::{Code, Problem};

/// How deep values may be nested. No manifest comes near it; a stack does.
const DEPTH: usize = 100;

/// How much aliases may add to a file, in values and bytes: enough for every honest use, and the end of a "billion laughs".
const EXPANSION: usize = 4 << 20;

/// Reads all objects of a text. With problems, they are those that had none.
pub(crate) fn objects(file: &Path, text: &str) -> (Vec<Document>, Vec<Problem>) {
    let (documents, mut problems) = parse(file, text, 1);
    let documents = documents
        .into_iter()
        .flat_map(|document| list::items(document, &mut problems))
        .collect();
    (documents, problems)
}

/// Reads all documents of a text that begins at a line of a file. With problems, the documents are those that had none.
pub(crate) fn parse(file: &Path, text: &str, first_line: usize) -> (Vec<Document>, Vec<Problem>) {
    let shift = first_line.saturating_sub(1);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = file
        .extension()
        .is_some_and(|extension| extension == "json");
    let text: Cow<'_, str> = match from_json(text) {
        Ok(yaml) => yaml.into(),
        Err(error) if is_json && !text.trim().is_empty() => {
            let line = error.line().max(1);
            // Our line is in front of it already.
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            return (
                Vec::new(),
                vec![
                    Problem::at(file, line + shift, format!("is not JSON: {reason}"))
                        .of(Code::Syntax),
                ],
            );
        }
        Err(_) => text.into(),
    };
    let mut reader = Reader {
        parser: Parser::new_from_str(&text),
        anchors: HashMap::new(),
        expanded: 0,
        path: Vec::new(),
        problems: Vec::new(),
    };
    let file: Arc<Path> = Arc::from(file);
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(mut node)) => {
                node.mark.shift(shift);
                let found = std::mem::take(&mut reader.problems);
                if found.is_empty() && !node.value.is_null() {
                    documents.push(Document {
                        value: node.value,
                        source: Source::new(file.clone(), Arc::new(node.mark)),
                    });
                }
                problems.extend(found);
            }
            Ok(None) => break,
            // Nothing can be said of what follows.
            Err(fatal) => {
                problems.append(&mut reader.problems);
                problems.push(match fatal {
                    Fatal::Found(found) => found,
                    Fatal::Syntax(error) => syntax(&text, &error),
                });
                break;
            }
        }
    }
    let problems = problems
        .into_iter()
        .map(|found| Problem {
            file: file.to_path_buf(),
            line: found.line.max(1) + shift,
            field: FieldPath::new(found.path).to_string(),
            message: found.message,
            code: found.code,
        })
        .collect();
    (documents, problems)
}

fn syntax(text: &str, error: &ScanError) -> Found {
    let (line, info) = (error.marker().line(), error.info());
    // A value of several lines is reported where it begins, and the tab may be on the line after that.
    let lines = match info {
        _ if info.contains("tab") => line..line + 2,
        _ if info.contains("expected key") => line..line + 1,
        _ => 0..0,
    };
    let tab = lines.into_iter().find(|line| {
        let text = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        text.trim_start_matches(' ').starts_with('\t')
    });
    let (line, message) = match (tab, info) {
        (Some(line), _) => (line, "is indented with a tab, write spaces".to_owned()),
        (None, "mapping values are not allowed in this context") => {
            (line, "is not YAML: a colon where no field can begin; quote the value, or mend the indentation".to_owned())
        }
        (None, info) => (line, format!("is not YAML: {info}")),
    };
    Found {
        line,
        path: Vec::new(),
        message,
        code: Code::Syntax,
    }
}

/// JSON in the form in which it is YAML as well, line by line.
///
/// All but two things are the same: YAML indents with spaces only, and does not write a character as two surrogates.
fn from_json(text: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)?;
    let mut yaml = String::with_capacity(text.len());
    let mut rest = text.chars();
    let mut quoted = false;
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                quoted = !quoted;
                yaml.push(c);
            }
            '\t' if !quoted => yaml.push(' '),
            '\\' => {
                // Valid JSON: a backslash is inside of quotes, and has something behind it.
                let escape = rest.as_str().get(..11).and_then(surrogates);
                if let Some(character) = escape {
                    yaml.push_str(&format!("\\U{:08x}", u32::from(character)));
                    rest.nth(10);
                } else {
                    yaml.push(c);
                    yaml.extend(rest.next());
                }
            }
            c => yaml.push(c),
        }
    }
    Ok(yaml)
}

/// `ud83d\ude00`
fn surrogates(text: &str) -> Option<char> {
    let (high, low) = text.strip_prefix('u')?.split_once("\\u")?;
    let (high, low) = (
        u16::from_str_radix(high, 16).ok()?,
        u16::from_str_radix(low, 16).ok()?,
    );
    char::decode_utf16([high, low])
        .next()?
        .ok()
        .filter(|character| u32::from(*character) > 0xffff)
}

struct Reader<'input> {
    parser: Parser<'input, StrInput<'input>>,
    /// Complete anchored values by the parser's number. One that is still open is not here, so nothing contains itself.
    anchors: HashMap<usize, Node>,
    expanded: usize,
    path: Vec<Segment>,
    /// What is wrong with the current document and does not end the reading.
    problems: Vec<Found>,
}

struct Found {
    line: usize,
    path: Vec<Segment>,
    message: String,
    code: Code,
}

enum Fatal {
    Syntax(ScanError),
    Found(Found),
}

#[derive(Clone)]
struct Node {
    value: Value,
    mark: Mark,
    /// Values and bytes in it.
    size: usize,
}

impl<'input> Reader<'input> {
    fn next(&mut self) -> Result<Option<(Event<'input>, Span)>, Fatal> {
        self.parser.next_event().transpose().map_err(Fatal::Syntax)
    }

    fn document(&mut self) -> Result<Option<Node>, Fatal> {
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamEnd => return Ok(None),
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event => {
                    self.anchors.clear();
                    self.path.clear();
                    return self.node(event, span).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn found(&self, line: usize, message: impl Into<String>) -> Found {
        Found {
            line,
            path: self.path.clone(),
            message: message.into(),
            code: Code::Syntax,
        }
    }

    /// Something that other tools read in another way, or not at all. The reading goes on behind it.
    fn problem(&mut self, line: usize, message: impl Into<String>) {
        let found = self.found(line, message);
        self.problems.push(Found {
            code: Code::Ambiguous,
            ..found
        });
    }

    fn node(&mut self, event: Event<'input>, span: Span) -> Result<Node, Fatal> {
        let line = span.start.line();
        if self.path.len() > DEPTH {
            return Err(Fatal::Found(Found {
                line,
                path: Vec::new(),
                message: format!("is nested more than {DEPTH} deep"),
                code: Code::Syntax,
            }));
        }
        let (node, anchor) = match event {
            Event::Alias(anchor) => (self.alias(anchor, line)?, 0),
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(text, style, tag, line), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", line);
                (self.sequence(line)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", line);
                (self.mapping(line)?, anchor)
            }
            // The parser's grammar has nothing else where a value begins.
            _ => {
                return Err(Fatal::Found(
                    self.found(line, "is not YAML: a value is missing"),
                ));
            }
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<Node, Fatal> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Fatal::Found(self.found(
                line,
                "is an alias of the value that it is in, write the value out",
            )));
        };
        self.expanded = self.expanded.saturating_add(node.size);
        if self.expanded > EXPANSION {
            return Err(Fatal::Found(self.found(
                line,
                "aliases make this file too large, write the values out",
            )));
        }
        let mut node = node.clone();
        node.mark.line = line;
        Ok(node)
    }

    fn sequence(&mut self, line: usize) -> Result<Node, Fatal> {
        let (mut items, mut marks, mut size) = (Vec::new(), Vec::new(), 1);
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            self.path.push(Segment::Index(items.len()));
            let node = self.node(event, span)?;
            self.path.pop();
            size += node.size;
            items.push(node.value);
            marks.push(node.mark);
        }
        Ok(Node {
            value: Value::Array(items),
            mark: Mark {
                line,
                inner: Inner::Items(marks),
                ..Mark::default()
            },
            size,
        })
    }

    fn mapping(&mut self, line: usize) -> Result<Node, Fatal> {
        let (mut fields, mut marks, mut size) = (Map::new(), BTreeMap::<String, Mark>::new(), 1);
        let mut merged = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let line = span.start.line();
            let plain = matches!(&event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = self.key(event, span)?;
            let merge = plain && key == "<<";
            self.path.push(Segment::Key(key.clone()));
            let Some((event, span)) = self.next()? else {
                break;
            };
            let mut node = self.node(event, span)?;
            node.mark.line = line;
            if merge {
                merged.push(node);
            } else if let Some(first) = marks.get(&key) {
                let first = first.line;
                self.problem(line, format!("is here and on line {first}, write it once"));
            } else {
                size += node.size + key.len();
                marks.insert(key.clone(), node.mark);
                fields.insert(key, node.value);
            }
            self.path.pop();
        }
        // `<<: *defaults`, as Kubernetes reads it: what is written wins over what is merged.
        for node in merged {
            size += node.size;
            self.merge(node, &mut fields, &mut marks);
        }
        Ok(Node {
            value: Value::Object(fields),
            mark: Mark {
                line,
                inner: Inner::Fields(marks),
                ..Mark::default()
            },
            size,
        })
    }

    fn merge(
        &mut self,
        node: Node,
        fields: &mut Map<String, Value>,
        marks: &mut BTreeMap<String, Mark>,
    ) {
        match (node.value, node.mark.inner) {
            (Value::Object(values), Inner::Fields(mut inner)) => {
                for (key, value) in values {
                    if !fields.contains_key(&key) {
                        marks.insert(key.clone(), inner.remove(&key).unwrap_or_default());
                        fields.insert(key, value);
                    }
                }
            }
            (Value::Array(values), Inner::Items(inner)) if values.iter().all(Value::is_object) => {
                for (value, mark) in values.into_iter().zip(inner) {
                    self.merge(
                        Node {
                            value,
                            mark,
                            size: 0,
                        },
                        fields,
                        marks,
                    );
                }
            }
            _ => self.problem(node.mark.line, "<< takes a mapping or a list of mappings"),
        }
    }

    fn key(&mut self, event: Event<'input>, span: Span) -> Result<String, Fatal> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, ScalarStyle::Plain, _, None) => {
                let is_string = match resolve(&text) {
                    Ok(Value::String(_)) => true,
                    // `80: …`: Kubernetes takes whole numbers as they are written.
                    Ok(Value::Number(number)) => number.to_string() == text,
                    _ => false,
                };
                if !is_string {
                    self.problem(
                        line,
                        format!("the key {text} is not a string, write \"{text}\""),
                    );
                }
                Ok(text.into_owned())
            }
            Event::Scalar(text, ..) => Ok(text.into_owned()),
            Event::Alias(_) => match self.node(event, span)?.value {
                Value::String(text) => Ok(text),
                _ => Err(Fatal::Found(
                    self.found(line, "a key is not a string, write a string"),
                )),
            },
            _ => Err(Fatal::Found(
                self.found(line, "a key is a list or a mapping, write a string"),
            )),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'input, str>,
        style: ScalarStyle,
        tag: Option<Cow<'input, Tag>>,
        line: usize,
    ) -> Node {
        let size = 1 + text.len();
        let string = match tag.as_deref() {
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => true,
            // `! value`: the non-specific tag makes a string of it.
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => true,
            Some(tag) => {
                self.problem(
                    line,
                    format!(
                        "the tag {}{} is not supported, leave it out",
                        tag.handle, tag.suffix
                    ),
                );
                true
            }
            None => style != ScalarStyle::Plain,
        };
        // A block is marked at its first line that is not empty.
        let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let empty = text.bytes().take_while(|byte| *byte == b'\n').count();
        let begins = is_block.then(|| line.saturating_sub(empty));
        let value = if string {
            Value::String(text.into_owned())
        } else {
            match resolve(&text) {
                Ok(value) => {
                    let written = (!value.is_string()).then(|| text.into());
                    return Node {
                        value,
                        mark: Mark {
                            line,
                            written,
                            ..Mark::default()
                        },
                        size,
                    };
                }
                Err(message) => {
                    self.problem(line, message);
                    Value::String(text.into_owned())
                }
            }
        };
        Node {
            value,
            mark: Mark {
                line,
                text: begins,
                ..Mark::default()
            },
            size,
        }
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, expected: &str, line: usize) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == expected)
        {
            self.problem(
                line,
                format!(
                    "the tag {}{} is not supported, leave it out",
                    tag.handle, tag.suffix
                ),
            );
        }
    }
}

/// What a plain scalar is, where YAML 1.2 and Kubernetes agree; else what to write.
fn resolve(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Err(ambiguous_flag(text, true));
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Err(ambiguous_flag(text, false));
        }
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let begins_as_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !begins_as_number {
        return Ok(Value::from(text));
    }
    if matches!(
        unsigned,
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
    ) {
        return Err(format!(
            "{text} is a number that JSON does not have, write \"{text}\" if it is a string"
        ));
    }
    let digits = unsigned.bytes().all(|byte| byte.is_ascii_digit());
    if digits && unsigned.len() > 1 && unsigned.starts_with('0') {
        return Err(ambiguous_number(text));
    }
    if digits {
        if let Ok(number) = text.parse::<i64>() {
            return Ok(Value::from(number));
        }
        if let Ok(number) = text.parse::<u64>() {
            return Ok(Value::from(number));
        }
    }
    // `0x1f`, `0o17`, `0b11`, and digits grouped with `_`: numbers to Kubernetes, and for YAML 1.2 some of them.
    let lower = unsigned.to_ascii_lowercase();
    let based = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .any(|(prefix, base)| {
            let digits = lower
                .strip_prefix(prefix)
                .map(|digits| digits.replace('_', ""));
            digits.is_some_and(|digits| {
                !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base))
            })
        });
    let grouped = unsigned.contains('_') && is_float(&unsigned.replace('_', ""));
    if based || grouped {
        return Err(ambiguous_number(text));
    }
    if !is_float(unsigned) {
        return Ok(Value::from(text));
    }
    let number = text.parse::<f64>().ok().and_then(Number::from_f64);
    number.map(Value::Number).ok_or_else(|| {
        format!("{text} is too large for a number, write \"{text}\" if it is a string")
    })
}

/// `1.5`, `.5`, `1.`, `1e3`.
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent.strip_prefix(['+', '-']).unwrap_or(exponent),
        ),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && digits(exponent)
        && !exponent.is_empty()
}

fn ambiguous_flag(text: &str, flag: bool) -> String {
    format!("{text} is {flag} to Kubernetes and a string to YAML 1.2, write {flag} or \"{text}\"")
}

fn ambiguous_number(text: &str) -> String {
    format!(
        "{text} is read as different numbers by different tools, write it without prefix, leading zero and _, or quote it"
    )
}
