//! HTTP/2 frame by frame: what no HTTP library lets one send.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with this status and body.
    Answered(u16, String),
    /// The stream or the connection was ended instead.
    Ended(&'static str),
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// The largest payload that every receiver takes.
const PAYLOAD: usize = 16_384;

/// Sends a request with exactly these fields, pseudo-headers among them where they stand, and perhaps trailers, on a fresh connection.
pub async fn send(
    to: SocketAddr,
    fields: &[(Vec<u8>, Vec<u8>)],
    trailers: Option<&[(Vec<u8>, Vec<u8>)]>,
) -> Result<Outcome> {
    let conversation = async {
        let mut connection = TcpStream::connect(to).await?;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        let ends = if trailers.is_none() { END_STREAM } else { 0 };
        block(&mut bytes, ends, fields);
        if let Some(trailers) = trailers {
            frame(&mut bytes, DATA, 0, 1, b"data");
            block(&mut bytes, END_STREAM, trailers);
        }
        // It may be ended before it is written.
        if connection.write_all(&bytes).await.is_err() {
            return Ok(Outcome::Ended("the connection was closed"));
        }
        read(&mut connection).await
    };
    timeout(Duration::from_secs(30), conversation)
        .await
        .context("no answer within 30 s")?
}

async fn read(connection: &mut TcpStream) -> Result<Outcome> {
    let mut answer: Option<u16> = None;
    let mut head = Vec::new();
    let mut body = Vec::new();
    loop {
        let mut start = [0; 9];
        if connection.read_exact(&mut start).await.is_err() {
            return Ok(Outcome::Ended("the connection was closed"));
        }
        let [l0, l1, l2, kind, flags, stream @ ..] = start;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let mut payload = vec![0; length];
        if connection.read_exact(&mut payload).await.is_err() {
            return Ok(Outcome::Ended("the connection was closed"));
        }
        let ours = u32::from_be_bytes(stream) == 1;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, ACK, 0, &[]);
                connection.write_all(&ack).await?;
            }
            GOAWAY => return Ok(Outcome::Ended("the connection was ended")),
            RST_STREAM if ours => return Ok(Outcome::Ended("the stream was ended")),
            HEADERS if ours => {
                if flags & (PADDED | PRIORITY) != 0 {
                    bail!("an answer with padding or a priority, which nobody reads here");
                }
                head.extend(payload);
            }
            CONTINUATION if ours => head.extend(payload),
            DATA if ours => body.extend(payload),
            _ => continue,
        }
        if flags & END_HEADERS != 0 && matches!(kind, HEADERS | CONTINUATION) && answer.is_none() {
            answer = Some(status(&head).with_context(|| format!("no status in {head:x?}"))?);
        }
        if flags & END_STREAM != 0
            && matches!(kind, HEADERS | DATA)
            && let Some(status) = answer
        {
            let body = String::from_utf8_lossy(&body).into_owned();
            return Ok(Outcome::Answered(status, body));
        }
    }
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A block of fields, in as many frames as it takes.
fn block(bytes: &mut Vec<u8>, flags: u8, fields: &[(Vec<u8>, Vec<u8>)]) {
    let mut encoded = Vec::new();
    for (name, value) in fields {
        // Written out, and not to be remembered.
        encoded.push(0);
        text(&mut encoded, name);
        text(&mut encoded, value);
    }
    let mut rest = encoded.chunks(PAYLOAD).peekable();
    let (mut kind, mut flags) = (HEADERS, flags);
    while let Some(part) = rest.next() {
        let end = if rest.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        frame(bytes, kind, flags | end, 1, part);
        (kind, flags) = (CONTINUATION, 0);
    }
}

/// A text without Huffman's code: its length with a prefix of seven bits, and itself.
fn text(encoded: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        encoded.push(length as u8);
    } else {
        encoded.push(127);
        length -= 127;
        while length >= 128 {
            encoded.push((length % 128) as u8 | 128);
            length /= 128;
        }
        encoded.push(length as u8);
    }
    encoded.extend_from_slice(text);
}

/// The status at the beginning of the first block on a connection.
fn status(mut block: &[u8]) -> Option<u16> {
    // The size of the table may come first.
    while block.first()? & 0xe0 == 0x20 {
        let longer = block.first()? & 0x1f == 0x1f;
        let last = if longer {
            1 + block.get(1..)?.iter().position(|byte| byte & 0x80 == 0)?
        } else {
            0
        };
        block = block.get(last + 1..)?;
    }
    let (first, rest) = block.split_first()?;
    match first {
        // What the standard's table has.
        0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500]
            .get(usize::from(first - 0x88))
            .copied(),
        // The table's name, and a value: to be remembered, not to be, never to be.
        0x48 | 0x08 | 0x18 => {
            let (length, rest) = rest.split_first()?;
            let value = rest.get(..usize::from(length & 0x7f))?;
            if length & 0x80 == 0 {
                std::str::from_utf8(value).ok()?.parse().ok()
            } else {
                digits(value)
            }
        }
        _ => None,
    }
}

/// A number in Huffman's code: 0 to 2 have five bits, the other digits six.
fn digits(coded: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let value = |bits: &[u8]| {
        bits.iter()
            .fold(0_u16, |value, bit| value * 2 + u16::from(*bit))
    };
    let (mut at, mut number) = (0, 0);
    // What is left is padding.
    while bits.len() - at > 7 || bits.get(at..)?.contains(&0) {
        let digit = value(bits.get(at..at + 5)?);
        if digit <= 2 {
            number = number * 10 + digit;
            at += 5;
            continue;
        }
        let digit = value(bits.get(at..at + 6)?).checked_sub(0b01_1001)?;
        if digit > 6 {
            return None;
        }
        number = number * 10 + digit + 3;
        at += 6;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_however_it_is_written() {
        for (block, expected) in [
            (&[0x88][..], Some(200)),
            (&[0x20, 0x8d, 0x40], Some(404)),
            (&[0x3f, 0xe1, 0x1f, 0x8c], Some(400)),
            (&[0x48, 0x03, b'4', b'0', b'1'], Some(401)),
            // 011010 00000 00001, padded with ones.
            (&[0x48, 0x82, 0b0110_1000, 0b0000_0001], Some(401)),
            // 011010 00000 011001, padded.
            (
                &[0x08, 0x83, 0b0110_1000, 0b0000_1100, 0b1111_1111],
                Some(403),
            ),
            (&[0x40], None),
            (&[], None),
        ] {
            assert_eq!(status(block), expected, "{block:x?}");
        }
    }
}
