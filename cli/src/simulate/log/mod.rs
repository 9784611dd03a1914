//! Access logs: the requests that they tell of, in the order in which these began.
//!
//! [`mod@format`] says which formats there are and tells which one a log is in, [`pattern`] reads lines of text, [`object`] lines of JSON, and [`har`]
//! what a browser has saved. [`reader`] takes files apart into blocks and has them read by all processors. What is kept of a
//! request ([`record`]) is what the limiter may look at, and nothing else, so that logs larger than the memory can be replayed.

pub(crate) mod fields;
pub(crate) mod format;
mod har;
mod object;
mod pattern;
mod reader;
pub(crate) mod record;

use std::borrow::Cow;

pub(crate) use fields::Fields;
pub(crate) use format::Format;
pub(crate) use reader::read;
pub(crate) use record::{Entry, Part};

/// What some logs tell.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// The requests, by when they began; of several at one moment those first that were written first.
    pub entries: Vec<Entry>,
    /// What the requests say; [`Entry::parts`] reads it.
    pub arenas: Vec<Vec<u8>>,
    /// The files.
    pub files: Vec<File>,
}

/// What was in a file.
#[derive(Debug)]
pub(crate) struct File {
    /// Its name in messages.
    pub name: String,
    /// How it was read.
    pub format: Format,
    /// Its lines, or the entries of a HAR file.
    pub lines: u64,
    /// Those that say nothing of a request: connections without one.
    pub without_request: u64,
    /// Those of requests that were refused before they came to the limiter.
    pub refused_before: u64,
    /// Those that could not be read.
    pub unreadable: u64,
    /// The first of these, by line, with what is wrong.
    pub mistakes: Vec<(u64, String)>,
}

impl File {
    /// What there is in it, in a word: `line`, or `entry` of a HAR file.
    pub(crate) fn unit(&self) -> &'static str {
        match self.format.is_document() {
            true => "entry",
            false => "line",
        }
    }
}

/// How many lines that cannot be read are told one by one.
pub(crate) const TOLD: usize = 5;

/// Why a line is no request to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Not {
    /// It is empty, or of a connection that sent no request.
    Request,
    /// The request was refused before it came to the limiter.
    Passed,
    /// It cannot be read.
    Readable(Cow<'static, str>),
}

/// What a line says beside the parts of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// When it began.
    pub time: u64,
    /// How long it took, in milliseconds.
    pub duration: u32,
    /// What was answered; 0 if that is not known.
    pub status: u16,
}
