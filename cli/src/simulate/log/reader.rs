//! Files, taken apart into blocks of lines that all processors read at once, and put together again.

use std::fs::File as Opened;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, anyhow, bail};
use flate2::read::MultiGzDecoder;

use super::format::{Reader, trimmed};
use super::{Entry, Fields, File, Format, Not, TOLD, Told, Traffic, har, record};
use crate::console::shown;
use crate::simulate::progress::Progress;

/// Standard input on the command line, and what it is called in messages.
const STDIN: (&str, &str) = ("-", "<stdin>");

/// How much is read at a time, cut at the end of a line.
const BLOCK: usize = 1 << 20;

/// No access log has a longer line.
const LONGEST: usize = 64 << 20;

/// How compressed files begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What editors of Windows put at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads logs whole, and puts all their requests in order.
pub(crate) fn read(
    paths: &[PathBuf],
    format: Option<&Format>,
    fields: &Fields,
    progress: &Progress,
) -> anyhow::Result<Traffic> {
    let mut traffic = Traffic::default();
    for path in paths {
        let name = match path == Path::new(STDIN.0) {
            true => STDIN.1.to_owned(),
            false => shown(path.display()),
        };
        one(path, &name, format, fields, progress, &mut traffic)?;
    }
    // A log is written as requests end, and several logs one after another. Mostly in order already, which this sort makes use of.
    traffic.entries.sort_by_key(|entry| entry.time);
    Ok(traffic)
}

fn one(
    path: &Path,
    name: &str,
    format: Option<&Format>,
    fields: &Fields,
    progress: &Progress,
    traffic: &mut Traffic,
) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read {name}");
    let source: Box<dyn Read + Send> = match path == Path::new(STDIN.0) {
        true => Box::new(io::stdin()),
        false => Box::new(Opened::open(path).with_context(unreadable)?),
    };
    let mut blocks = Blocks::new(source).with_context(unreadable)?;
    let first = blocks.next().transpose().with_context(unreadable)?;
    let first = first.unwrap_or_default();
    let format = match format {
        Some(format) => format.clone(),
        None => Format::of(&first, fields).with_context(|| unknown(name, &first))?,
    };
    let file = u16::try_from(traffic.files.len()).context("there are too many logs")?;
    let mut read = Collected {
        file,
        entries: &mut traffic.entries,
        arenas: &mut traffic.arenas,
        told: File {
            name: name.to_owned(),
            format,
            lines: 0,
            without_request: 0,
            refused_before: 0,
            unreadable: 0,
            mistakes: Vec::new(),
        },
    };
    if read.told.format == Format::Har {
        let mut text = first;
        for block in blocks {
            text.extend(block.with_context(unreadable)?);
        }
        read.har(&text, fields)?;
    } else {
        let reader = Reader::new(&read.told.format, fields)
            .map_err(|wrong| anyhow!("{name}, read as {}: {wrong}", read.told.format))?;
        read.lines(&reader, first, blocks, progress)
            .with_context(unreadable)?;
        if let Reader::Object(object) = &reader
            && let Some((option, field)) = object.never_seen()
        {
            bail!("{option}: no line of {name} has a field {field:?}");
        }
    }
    traffic.files.push(read.told);
    Ok(())
}

fn unknown(name: &str, text: &[u8]) -> String {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    let first = lines
        .map(|(number, line)| (number + 1, trimmed(line)))
        .find(|(_, line)| !line.is_empty());
    match first {
        None => format!("{name} is empty"),
        Some((number, line)) => {
            let shown: String = String::from_utf8_lossy(line).chars().take(100).collect();
            format!(
                "{name}:{number}: {shown:?} is in no format that is known: Envoy's or Istio's default, JSON, Common or Combined Log Format, \
                 HAR; name one with --log-format, or write the format string of your access log there"
            )
        }
    }
}

/// A file in blocks of whole lines.
struct Blocks {
    source: Box<dyn Read + Send>,
    /// The beginning of a line that the last block did not have the end of.
    rest: Vec<u8>,
    ended: bool,
    /// Blocks that have been read come back here, so that their memory is used again: to ask for more takes longer than to fill it.
    spent: Option<Receiver<Vec<u8>>>,
}

impl Blocks {
    fn new(mut source: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut magic = Vec::new();
        source
            .by_ref()
            .take(GZIP.len() as u64)
            .read_to_end(&mut magic)?;
        let compressed = magic == GZIP;
        let source = io::Cursor::new(magic).chain(source);
        Ok(Self {
            source: match compressed {
                true => Box::new(MultiGzDecoder::new(source)),
                false => Box::new(source),
            },
            rest: Vec::new(),
            ended: false,
            spent: None,
        })
    }

    fn block(&mut self) -> io::Result<Vec<u8>> {
        let spent = self.spent.as_ref().and_then(|spent| spent.try_recv().ok());
        let mut block = spent.unwrap_or_default();
        block.clear();
        block.reserve(BLOCK + 2 * self.rest.len());
        block.append(&mut self.rest);
        // Whoever reads lines refuses what is longer.
        while !self.ended && block.len() <= LONGEST {
            let more = self
                .source
                .by_ref()
                .take(BLOCK as u64)
                .read_to_end(&mut block)?;
            self.ended = more == 0;
            let newest = block.len() - more;
            if let Some(end) = memchr::memrchr(b'\n', &block[newest..]) {
                self.rest = block.split_off(newest + end + 1);
                break;
            }
        }
        Ok(block)
    }
}

impl Iterator for Blocks {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        match self.block() {
            Ok(block) if block.is_empty() => None,
            other => Some(other),
        }
    }
}

/// What the lines of a block say.
#[derive(Default)]
struct Block {
    arena: Vec<u8>,
    /// Lines are counted from the block's first, 0.
    entries: Vec<Entry>,
    lines: u32,
    without_request: u64,
    refused_before: u64,
    unreadable: u64,
    mistakes: Vec<(u32, String)>,
}

impl Block {
    fn read(text: &[u8], reader: &Reader) -> Self {
        let mut block = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, behind) = rest.split_at(end);
            rest = behind;
            let line = trimmed(line);
            if !line.is_empty() {
                let offset = block.arena.len();
                let told = reader.read(line, &mut block.arena);
                block.take(told, offset);
            }
            block.lines += 1;
        }
        block
    }

    /// Takes what the next line says, whose parts begin there in the arena.
    fn take(&mut self, told: Result<Told, Not>, offset: usize) {
        match told {
            Ok(told) => {
                record::end(&mut self.arena);
                self.entries.push(Entry {
                    time: told.time,
                    arena: 0,
                    offset: offset as u32,
                    line: self.lines,
                    duration: told.duration,
                    status: told.status,
                    file: 0,
                });
                return;
            }
            Err(Not::Request) => self.without_request += 1,
            Err(Not::Passed) => self.refused_before += 1,
            Err(Not::Readable(why)) => {
                self.unreadable += 1;
                if self.mistakes.len() < TOLD {
                    self.mistakes.push((self.lines, why.into_owned()));
                }
            }
        }
        self.arena.truncate(offset);
    }
}

/// What was read of a file so far.
struct Collected<'a> {
    file: u16,
    told: File,
    entries: &'a mut Vec<Entry>,
    arenas: &'a mut Vec<Vec<u8>>,
}

impl Collected<'_> {
    /// Reads all lines, by as many threads as there are processors.
    fn lines(
        &mut self,
        reader: &Reader,
        first: Vec<u8>,
        mut blocks: Blocks,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (to_readers, blocks_to_read) = sync_channel::<(usize, Vec<u8>)>(threads);
        let blocks_to_read = Mutex::new(blocks_to_read);
        let (to_us, read) = sync_channel::<(usize, Block)>(threads);
        let (back, spent) = channel();
        blocks.spent = Some(spent);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (blocks, to_us, back) = (&blocks_to_read, to_us.clone(), back.clone());
                scope.spawn(move || work(blocks, &to_us, &back, reader));
            }
            drop(to_us);
            let feeder = scope.spawn(move || -> anyhow::Result<()> {
                let mut first = first;
                if let Some(rest) = first.strip_prefix(BYTE_ORDER_MARK) {
                    first = rest.to_vec();
                }
                let blocks = std::iter::once(Ok(first)).chain(blocks);
                for (number, block) in blocks.enumerate() {
                    let block = block?;
                    if block.len() > LONGEST {
                        bail!(
                            "a line of it has more than {} MiB, which none of an access log has",
                            LONGEST >> 20
                        );
                    }
                    if to_readers.send((number, block)).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            // In the order of the file, whichever is done first.
            let mut waiting = std::collections::BTreeMap::new();
            let mut next = 0;
            for (number, block) in read {
                waiting.insert(number, block);
                while let Some(block) = waiting.remove(&next) {
                    self.add(block);
                    progress.read(self.entries.len());
                    next += 1;
                }
            }
            feeder
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn add(&mut self, mut block: Block) {
        block.arena.shrink_to_fit();
        let before = self.told.lines;
        let line = |line: u32| u32::try_from(before + u64::from(line) + 1).unwrap_or(u32::MAX);
        let arena = self.arenas.len() as u32;
        self.entries
            .extend(block.entries.into_iter().map(|entry| Entry {
                arena,
                line: line(entry.line),
                file: self.file,
                ..entry
            }));
        self.arenas.push(block.arena);
        let told = &mut self.told;
        told.lines += u64::from(block.lines);
        told.without_request += block.without_request;
        told.refused_before += block.refused_before;
        told.unreadable += block.unreadable;
        let more = TOLD - told.mistakes.len();
        let mistakes = block.mistakes.into_iter().take(more);
        told.mistakes
            .extend(mistakes.map(|(number, why)| (u64::from(line(number)), why)));
    }

    /// Reads a HAR file, whose entries are then counted as lines.
    fn har(&mut self, text: &[u8], fields: &Fields) -> anyhow::Result<()> {
        let name = self.told.name.clone();
        if let Some(((option, _), _)) = fields.asked().first() {
            bail!(
                "{option}: {name} is a HAR file, which has all headers by their names; leave the option out"
            );
        }
        let mut block = Block::default();
        let entries = har::read(text, fields, &mut block.arena);
        let entries = entries.map_err(|wrong| anyhow!("{name} is no HAR file: {wrong}"))?;
        for (told, offset) in entries {
            match told {
                Ok(told) => block.entries.push(Entry {
                    time: told.time,
                    arena: 0,
                    offset: u32::try_from(offset)
                        .context("the file is too large for a HAR file")?,
                    line: block.lines,
                    duration: told.duration,
                    status: told.status,
                    file: 0,
                }),
                Err(not) => {
                    let whole = block.arena.len();
                    block.take(Err(not), whole);
                }
            }
            block.lines += 1;
        }
        self.add(block);
        Ok(())
    }
}

fn work(
    blocks: &Mutex<Receiver<(usize, Vec<u8>)>>,
    done: &SyncSender<(usize, Block)>,
    back: &Sender<Vec<u8>>,
    reader: &Reader,
) {
    loop {
        let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, text)) = next else { return };
        let block = Block::read(&text, reader);
        // At the end of the file nobody needs it any more.
        let _ = back.send(text);
        if done.send((number, block)).is_err() {
            return;
        }
    }
}
