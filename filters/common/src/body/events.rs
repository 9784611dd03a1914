//! Server-sent events (`text/event-stream`), as services stream JSON documents: one in the `data` of each event.
//!
//! Language models answer like this, and give what an answer has used in its last event, after many with `"usage": null`. So of every value the last is kept that
//! is there and not `null`. An event that is not JSON, as the `[DONE]` at the end of such streams, says nothing.

use super::pointer::MAX_POINTERS;
use super::scan::{Scanner, Value};

/// Reads a stream of events.
#[derive(Debug)]
pub struct Events {
    /// For the event that is read.
    scanner: Scanner,
    /// What the events before it gave.
    values: [Value; MAX_POINTERS],
    line: Line,
    /// Whether the last byte was a carriage return: a line feed after it ends no other line.
    returned: bool,
    /// Whether the event has had a line of data.
    data: bool,
}

/// Where in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// In the byte order mark that a stream may begin with: so many bytes of it are read.
    Mark(usize),
    /// In the name of a field, which begins like `data`: so many bytes of it are read.
    Name(usize),
    /// After `data:`, where one space is not part of the data.
    Begin,
    Data,
    /// In a comment or another field.
    Other,
}

const MARK: &[u8] = b"\xef\xbb\xbf";
const DATA: &[u8] = b"data";

impl Events {
    /// Before the first byte of a stream. Each event is read as `scanner` reads a document.
    pub fn new(scanner: Scanner) -> Self {
        Self {
            scanner,
            values: Default::default(),
            line: Line::Mark(0),
            returned: false,
            data: false,
        }
    }

    /// Reads on.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let [byte, after @ ..] = rest {
            let returned = std::mem::take(&mut self.returned);
            if *byte == b'\n' && returned {
                rest = after;
                continue;
            }
            if matches!(byte, b'\n' | b'\r') {
                self.returned = *byte == b'\r';
                self.line_ended();
                rest = after;
                continue;
            }
            rest = match self.line {
                Line::Data | Line::Other => {
                    let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
                    if self.line == Line::Data {
                        self.scanner.feed(line);
                    }
                    after
                }
                Line::Begin => {
                    self.line = Line::Data;
                    if *byte == b' ' { after } else { rest }
                }
                Line::Name(read) => {
                    match DATA.get(read) {
                        Some(expected) if expected == byte => self.line = Line::Name(read + 1),
                        None if *byte == b':' => self.begin_data(),
                        _ => self.line = Line::Other,
                    }
                    after
                }
                Line::Mark(read) if MARK.get(read) == Some(byte) => {
                    self.line = if read + 1 == MARK.len() {
                        Line::Name(0)
                    } else {
                        Line::Mark(read + 1)
                    };
                    after
                }
                Line::Mark(0) => {
                    self.line = Line::Name(0);
                    rest
                }
                // Something else that begins like a mark.
                Line::Mark(_) => {
                    self.line = Line::Other;
                    after
                }
            };
        }
    }

    /// The stream is at its end: the last value of each pointer, in their order. An event that has no empty line after it, which a browser would
    /// drop, counts if its JSON is whole.
    pub fn finish(&mut self) -> &[Value] {
        if self.line != Line::Name(0) {
            self.line_ended();
        }
        self.event_ended();
        self.values
            .get(..self.scanner.pointers())
            .unwrap_or_default()
    }

    fn begin_data(&mut self) {
        if std::mem::replace(&mut self.data, true) {
            // The lines of an event's data are one text.
            self.scanner.feed(b"\n");
        }
        self.line = Line::Begin;
    }

    fn line_ended(&mut self) {
        match std::mem::replace(&mut self.line, Line::Name(0)) {
            Line::Mark(0) | Line::Name(0) => self.event_ended(),
            // `data` alone is a line of data, an empty one.
            Line::Name(read) if read == DATA.len() => {
                self.begin_data();
                self.line = Line::Name(0);
            }
            _ => {}
        }
    }

    fn event_ended(&mut self) {
        if !std::mem::take(&mut self.data) {
            return;
        }
        if let Ok(found) = self.scanner.finish() {
            for (value, found) in self.values.iter_mut().zip(found) {
                if !matches!(found, Value::Absent | Value::Null) {
                    *value = found.clone();
                }
            }
        }
        self.scanner.reset();
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::{Duplicates, Pointer, Pointers};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn read(stream: &[u8], written: &[&str], pieces: &[usize]) -> Vec<Value> {
        let pointers = written.iter().map(|text| Pointer::parse(text).unwrap());
        let pointers = Rc::new(Pointers::new(pointers.collect()).unwrap());
        let mut events = Events::new(Scanner::new(pointers, Duplicates::Last));
        let mut rest = stream;
        for size in pieces.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            events.feed(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        events.feed(rest);
        events.finish().to_vec()
    }

    fn number(text: &str) -> Value {
        Value::Number(text.into())
    }

    const ANSWER: &str = r#"data: {"choices":[{"delta":{"content":"Hel"}}],"usage":null}

data: {"choices":[{"delta":{"content":"lo"}}],"usage":null}

: keep-alive

data: {"choices":[],"usage":{"prompt_tokens":9,"total_tokens":42}}

data: [DONE]

"#;

    #[test]
    fn the_usage_of_a_streamed_answer_is_that_of_its_last_event() {
        for ending in ["\n", "\r", "\r\n"] {
            let answer = ANSWER.replace('\n', ending);
            for pieces in [&[][..], &[1], &[7, 1, 64]] {
                let found = read(
                    answer.as_bytes(),
                    &["/usage/total_tokens", "/usage"],
                    pieces,
                );
                assert_eq!(
                    found,
                    [number("42"), Value::Container],
                    "{ending:?} {pieces:?}"
                );
            }
        }
    }

    #[test]
    fn each_value_is_the_last_of_its_own() {
        let stream = "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":25}}}\n\n\
            data: {\"usage\":{\"output_tokens\":1}}\n\ndata: {\"usage\":{\"output_tokens\":15}}\n\n\
            data: {\"usage\":{\"output_tokens\":null}}\n\n";
        let found = read(
            stream.as_bytes(),
            &[
                "/message/usage/input_tokens",
                "/usage/output_tokens",
                "/usage/none",
            ],
            &[],
        );
        assert_eq!(found, [number("25"), number("15"), Value::Absent]);
    }

    #[test]
    fn lines_are_read_as_browsers_read_them() {
        for (stream, expected) in [
            ("data:{\"a\":1}\n\n", number("1")),
            ("data: {\"a\":1}\n\n", number("1")),
            ("\u{feff}data: {\"a\":1}\n\n", number("1")),
            ("data: {\"a\"\ndata: :1}\n\n", number("1")),
            ("data: {\"a\":1}\nid: 7\nretry: 10\n: x\n\n", number("1")),
            ("data\ndata: {\"a\":1}\ndata\n\n", number("1")),
            // Whole, if without an end of its own.
            ("data: {\"a\":1}", number("1")),
            ("data: {\"a\":1}\n", number("1")),
            ("data: {\"a\":1}\n\ndata: {\"a\":2", number("1")),
            // A line break within a string is not JSON, and two documents are not one.
            ("data: {\"a\":\"1\ndata: \"}\n\n", Value::Absent),
            ("data: {\"a\":1}\ndata: {\"a\":2}\n\n", Value::Absent),
            ("Data: {\"a\":1}\n\n", Value::Absent),
            (" data: {\"a\":1}\n\n", Value::Absent),
            ("data : {\"a\":1}\n\n", Value::Absent),
            ("datas: {\"a\":1}\n\n", Value::Absent),
            ("dat: {\"a\":1}\n\n", Value::Absent),
            ("{\"a\":1}\n\n", Value::Absent),
            ("", Value::Absent),
            ("\n\n\n", Value::Absent),
            ("\u{fe80}data: {\"a\":1}\n\n", Value::Absent),
        ] {
            for pieces in [&[][..], &[1]] {
                assert_eq!(
                    read(stream.as_bytes(), &["/a"], pieces),
                    std::slice::from_ref(&expected),
                    "{stream:?}"
                );
            }
        }
    }

    /// The data of an event, its lines, and what it says.
    fn event() -> impl Strategy<Value = (Vec<String>, Value)> {
        prop_oneof![
            any::<u16>().prop_map(|n| (vec![format!("{{\"a\":{n}}}")], number(&n.to_string()))),
            any::<u16>().prop_map(|n| {
                let lines = ["{", " \"b\" : [],", "\"a\":", &n.to_string(), "", "}"];
                (lines.map(str::to_owned).to_vec(), number(&n.to_string()))
            }),
            Just((vec!["{\"a\":null}".to_owned()], Value::Null)),
            Just((vec!["[DONE]".to_owned()], Value::Absent)),
            Just((vec!["{\"b\":{\"a\":1}}".to_owned()], Value::Absent)),
            Just((vec![], Value::Absent)),
            "[a-z\\[{\" :0-9]{0,9}x".prop_map(|junk| (vec![junk], Value::Absent)),
        ]
    }

    proptest! {
        #[test]
        fn the_last_value_counts_however_the_stream_is_written(
            events in vec(event(), 0..8),
            style in vec((0..3_usize, any::<bool>(), 0..4_u8), 1..16),
            pieces in vec(1..9_usize, 0..8),
        ) {
            let mut stream = String::new();
            let mut style = style.iter().cycle();
            for (lines, _) in &events {
                for line in lines {
                    let (ending, space, other) = style.next().unwrap();
                    let ending = ["\n", "\r", "\r\n"][*ending];
                    let space = if *space { " " } else { "" };
                    stream += match other {
                        0 => ":\r\n",
                        1 => "event: data: {\"a\":7}\n",
                        _ => "",
                    };
                    // A space at the begin of the data would be taken for the one that is not part of it: JSON does not mind.
                    stream += &format!("data:{space}{line}{ending}");
                }
                // Not after a lone carriage return: a line feed there would be the rest of that line's end.
                stream += if stream.ends_with('\r') { "\r" } else { "\n" };
            }
            let mut values = events.iter().map(|(_, value)| value);
            let last = values.rfind(|value| matches!(value, Value::Number(_)));
            let expected = last.cloned().unwrap_or_default();
            prop_assert_eq!(read(stream.as_bytes(), &["/a"], &pieces), [expected], "{:?}", stream);
        }

        #[test]
        fn no_bytes_make_it_panic_and_no_cut_changes_it(
            bytes in vec(any::<u8>(), 0..100),
            text in "(data|:| |\n|\r|\r\n|\\{\"a\":|1|\"|\\}|,|[a-z]){0,40}",
            pieces in vec(1..9_usize, 0..8),
        ) {
            for stream in [&bytes[..], text.as_bytes()] {
                prop_assert_eq!(read(stream, &["/a", ""], &pieces), read(stream, &["/a", ""], &[]));
            }
        }
    }
}
