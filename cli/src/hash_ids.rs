//! `tollgate hash-ids`: ids as the hashes that a classifier's rule can list without naming anybody.
//!
//! Files are read line by line, so that a list of any length fits; what is kept of an id is its hash. Nothing is printed until all
//! is read and right: a list with a gap looks like one without.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use tollgate_common::hashed::{HASHED_ID, SALT_RULE, hashed_id, is_salt, to_hex};

use crate::args::{HashFormat, HashIdsArgs};
use crate::console::{say, shown};

/// Standard input on the command line, and what it is called in messages.
const STDIN: (&str, &str) = ("-", "<stdin>");

/// The longest id, in bytes: more than any header or claim that names somebody.
const LONGEST: usize = 1024;

/// How many mistakes are told one by one.
const TOLD: usize = 20;

/// What some editors put at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where an id was read: a file, by its number, and a line.
type Place = (usize, usize);

/// What was read.
#[derive(Debug, Default)]
struct Ids {
    /// By hash: in an order that says nothing about the ids, and that is the same whenever the same ids are hashed. Each with where it
    /// was first.
    hashes: BTreeMap<[u8; HASHED_ID], Place>,
    /// How many lines said an id again, and the first of them with the place where it had been.
    repeated: usize,
    repetition: Option<(Place, Place)>,
    mistakes: Vec<(Place, &'static str)>,
}

/// Prints the hashes of what the files say.
pub(crate) fn run(args: HashIdsArgs) -> anyhow::Result<ExitCode> {
    let files = match args.files {
        files if files.is_empty() => vec![PathBuf::from(STDIN.0)],
        files => files,
    };
    let mut ids = Ids::default();
    for (number, file) in files.iter().enumerate() {
        let read = if file == Path::new(STDIN.0) {
            if io::stdin().is_terminal() {
                say("reading ids from standard input, one a line; Ctrl-D ends them");
            }
            ids.read(io::stdin().lock(), number, &args.salt)
        } else {
            File::open(file).and_then(|file| ids.read(BufReader::new(file), number, &args.salt))
        };
        read.with_context(|| format!("cannot read {}", name(file)))?;
    }
    let place = |(file, line): Place| match files.get(file) {
        Some(file) => format!("{}:{line}", name(file)),
        None => format!("line {line}"),
    };
    if !ids.mistakes.is_empty() {
        for (at, mistake) in ids.mistakes.iter().take(TOLD) {
            say(format!("{}: {mistake}", place(*at)));
        }
        let more = match ids.mistakes.len().saturating_sub(TOLD) {
            0 => String::new(),
            more => format!("{more} more of this kind; "),
        };
        bail!("{more}nothing is printed, because a list must not have gaps");
    }
    if ids.hashes.is_empty() {
        bail!("there are no ids, write one a line");
    }
    if let Some((again, first)) = ids.repetition {
        let (lines, say_ids) = match ids.repeated {
            1 => ("1 line".to_owned(), "says an id"),
            lines => (format!("{lines} lines"), "say ids"),
        };
        say(format!(
            "{lines} {say_ids} that had been said before, the first of them {} (before: {}); each hash is printed once",
            place(again),
            place(first)
        ));
    }
    let out = io::BufWriter::new(io::stdout().lock());
    write(out, &ids, args.format).context("cannot write the hashes")?;
    Ok(ExitCode::SUCCESS)
}

fn name(file: &Path) -> String {
    if file == Path::new(STDIN.0) {
        STDIN.1.to_owned()
    } else {
        shown(file.display())
    }
}

impl Ids {
    /// Reads one id a line.
    fn read(&mut self, mut from: impl BufRead, file: usize, salt: &str) -> io::Result<()> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            // A file that is no list may be one line of any length.
            let most = LONGEST as u64 + 16;
            if from.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let whole = line.ends_with(b"\n") || (line.len() as u64) < most;
            if !whole {
                skip_line(&mut from)?;
            }
            let text = match line.strip_prefix(BYTE_ORDER_MARK) {
                Some(text) if number == 1 => text,
                _ => &line,
            };
            let place = (file, number);
            match id(text, whole) {
                Ok(None) => {}
                Ok(Some(id)) => self.add(hashed_id(salt, id), place),
                Err(mistake) => self.mistakes.push((place, mistake)),
            }
        }
        Ok(())
    }

    fn add(&mut self, hash: [u8; HASHED_ID], place: Place) {
        let first = *self.hashes.entry(hash).or_insert(place);
        if first != place {
            self.repeated += 1;
            self.repetition.get_or_insert((place, first));
        }
    }
}

/// What a line says: nothing, an id, or what is none.
fn id(line: &[u8], whole: bool) -> Result<Option<&[u8]>, &'static str> {
    let id = line.trim_ascii();
    if !whole || id.len() > LONGEST {
        return Err("is longer than 1024 bytes, which no id is; write one id a line");
    }
    let Ok(text) = std::str::from_utf8(id) else {
        return Err("is not UTF-8, as headers and claims with ids are; save the file as UTF-8");
    };
    if text.chars().any(char::is_control) {
        return Err("has a control character; write one id a line and nothing else");
    }
    if text.len() > 1 && text.starts_with('"') && text.ends_with('"') {
        return Err("is in quotes, which would be hashed with it; take them away");
    }
    Ok((!id.is_empty()).then_some(id))
}

fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = from.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                from.consume(end + 1);
                return Ok(());
            }
            None => {
                let all = bytes.len();
                from.consume(all);
            }
        }
    }
}

/// In quotes in both formats: a hash may have digits only, and YAML would take it for a number.
fn write(mut out: impl Write, ids: &Ids, format: HashFormat) -> io::Result<()> {
    let hashes = ids.hashes.keys().map(|hash| to_hex(hash));
    match format {
        HashFormat::Yaml => {
            for hash in hashes {
                writeln!(out, "- \"{hash}\"")?;
            }
        }
        HashFormat::Json => {
            for (index, hash) in hashes.enumerate() {
                let before = if index == 0 { "[" } else { ",\n " };
                write!(out, "{before}\"{hash}\"")?;
            }
            writeln!(out, "]")?;
        }
    }
    out.flush()
}

pub(crate) fn parse_salt(text: &str) -> Result<String, String> {
    if is_salt(text) {
        Ok(text.to_owned())
    } else {
        Err(SALT_RULE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Ids {
        let mut ids = Ids::default();
        // In small pieces, as a pipe may give it.
        let pieces = BufReader::with_capacity(3, text);
        ids.read(pieces, 0, "shop").unwrap();
        ids
    }

    fn hashes(text: &[u8]) -> Vec<String> {
        let ids = read(text);
        assert_eq!(ids.mistakes, []);
        ids.hashes.keys().map(|hash| to_hex(hash)).collect()
    }

    fn hash(id: &str) -> String {
        to_hex(&hashed_id("shop", id.as_bytes()))
    }

    #[test]
    fn however_a_list_is_written_the_hashes_are_those_of_its_ids() {
        // printf 'shop\0alice' | sha256sum
        assert_eq!(hashes(b"alice"), ["9014771bf7a8a38d1f7a37df"]);
        let mut both = [hash("alice"), hash("bob@example.com")];
        both.sort();
        for text in [
            "alice\nbob@example.com\n",
            "bob@example.com\nalice",
            "\u{feff}alice\r\nbob@example.com\r\n",
            "\n  alice\t\n\n \t \n bob@example.com \n\n",
            "alice\nalice\nbob@example.com\n alice",
        ] {
            assert_eq!(hashes(text.as_bytes()), both, "{text:?}");
        }
        // What is in the middle of an id belongs to it, and so does its case.
        assert_eq!(hashes("Ann Ö, #1".as_bytes()), [hash("Ann Ö, #1")]);
        assert_ne!(hash("Alice"), hash("alice"));
    }

    #[test]
    fn what_is_said_again_is_known_by_its_place() {
        let ids = read(b"a\nb\n\na\nb\n");
        assert_eq!((ids.repeated, ids.repetition), (2, Some(((0, 4), (0, 1)))));
        assert_eq!(read(b"a\nb\n").repetition, None);
    }

    #[test]
    fn every_line_that_is_no_id_is_told() {
        let long = vec![b'x'; LONGEST + 1];
        let longer = vec![b'x'; 5 * LONGEST];
        let text = [
            b"alice",
            &b"caf\xe9"[..],
            b"a\tb",
            b"\"carol\"",
            &long,
            &longer,
            &long[1..],
            b"bob",
        ]
        .join(&b'\n');
        let ids = read(&text);
        let told: Vec<_> = ids
            .mistakes
            .iter()
            .map(|((_, line), mistake)| (*line, mistake.split([';', ',']).next().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                (2, "is not UTF-8"),
                (3, "has a control character"),
                (4, "is in quotes"),
                (5, "is longer than 1024 bytes"),
                (6, "is longer than 1024 bytes"),
            ]
        );
        assert_eq!(ids.hashes.len(), 3);
    }

    #[test]
    fn both_formats_are_lists_of_strings() {
        let ids = read(b"alice\nbob\n");
        let mut expected = [hash("alice"), hash("bob")];
        expected.sort();
        let written = |format| {
            let mut out = Vec::new();
            write(&mut out, &ids, format).unwrap();
            String::from_utf8(out).unwrap()
        };
        let [first, second] = &expected;
        assert_eq!(
            written(HashFormat::Yaml),
            format!("- \"{first}\"\n- \"{second}\"\n")
        );
        let json: Vec<String> = serde_json::from_str(&written(HashFormat::Json)).unwrap();
        assert_eq!(json, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_read(text in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            let ids = read(&text);
            let lines = text.split(|byte| *byte == b'\n').count();
            prop_assert!(ids.hashes.len() + ids.repeated + ids.mistakes.len() <= lines);
        }
    }
}
