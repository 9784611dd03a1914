//! Sends requests over kept connections, from this very machine.
//!
//! What is measured is Envoy's CPU time for a number of requests and not how fast they are answered, so the load need not be heavy; it has to
//! be the same each time. So it goes in steps: a request on every connection, then the answer of every connection, then the next step.
//! Envoy is woken for the same number of requests each time, whatever else the machine does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Answers come within a millisecond. Generous, because other things may run on the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer's head and body are not larger; the filters' refusals have less than a tenth of it.
const LARGEST_ANSWER: usize = 16 * 1024;

/// Asks whoever sends to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where requests come from, one after the other.
pub(crate) trait Source {
    /// The bytes of the next one.
    fn next(&mut self) -> &[u8];
}

/// Requests that differ in a tenant's number at most.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    /// Where the digits of the number are; nowhere if all requests are alike.
    digits: std::ops::Range<usize>,
    tenants: u64,
    next: u64,
}

/// Stands for a tenant's number in a header's value.
pub(crate) const NUMBER: &str = "########";

impl Requests {
    /// GET requests for `path` with these headers. In place of [`NUMBER`] each has the next number below `tenants`, and after the
    /// last the first again.
    pub(crate) fn get(path: &str, headers: &[(&str, &str)], tenants: u64) -> Self {
        Self::new("GET", path, headers, "", tenants)
    }

    /// The same with a JSON body.
    pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &str, tenants: u64) -> Self {
        Self::new("POST", path, headers, body, tenants)
    }

    fn new(method: &str, path: &str, headers: &[(&str, &str)], body: &str, tenants: u64) -> Self {
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nhost: shop.example.com\r\nuser-agent: tollgate-bench\r\naccept: */*\r\n"
        );
        if !body.is_empty() {
            text += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text += body;
        let digits = text
            .find(NUMBER)
            .map_or(0..0, |start| start..start + NUMBER.len());
        Self {
            bytes: text.into_bytes(),
            digits,
            tenants: tenants.max(1),
            next: 0,
        }
    }

    /// The same with one header more.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let end = self.bytes.windows(4).position(|end| end == b"\r\n\r\n");
        let end = end.map_or(self.bytes.len(), |end| end + 2);
        self.bytes
            .splice(end..end, format!("{name}: {value}\r\n").into_bytes());
        self
    }
}

impl Source for Requests {
    fn next(&mut self) -> &[u8] {
        if let Some(digits) = self.bytes.get_mut(self.digits.clone()) {
            let mut number = self.next;
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        self.next = (self.next + 1) % self.tenants;
        &self.bytes
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// 200
    pub(crate) admitted: u64,
    /// 429
    pub(crate) refused: u64,
}

/// A few connections to one listener.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    connections: Vec<TcpStream>,
    buffer: Box<[u8; LARGEST_ANSWER]>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, connections: usize) -> anyhow::Result<Self> {
        let connect = || -> io::Result<TcpStream> {
            let connection = TcpStream::connect_timeout(&address, PATIENCE)?;
            connection.set_nodelay(true)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.set_write_timeout(Some(PATIENCE))?;
            Ok(connection)
        };
        Ok(Self {
            address,
            connections: (0..connections)
                .map(|_| connect())
                .collect::<Result<_, _>>()
                .with_context(|| format!("cannot connect to {address}"))?,
            buffer: Box::new([0; LARGEST_ANSWER]),
        })
    }

    /// Sends at least `count` requests, as many on each connection, and waits for their answers. Any answer but 200 and 429 is an error.
    pub(crate) fn send(
        &mut self,
        requests: &mut impl Source,
        count: u64,
        stop: &Stop,
    ) -> anyhow::Result<Answers> {
        let mut answers = Answers::default();
        let steps = count.div_ceil(self.connections.len().max(1) as u64);
        for _ in 0..steps {
            ensure!(!stop.asked(), "it was interrupted");
            for connection in &mut self.connections {
                connection
                    .write_all(requests.next())
                    .with_context(|| format!("cannot send a request to {}", self.address))?;
            }
            for connection in &mut self.connections {
                let status = answer(connection, &mut self.buffer[..]).with_context(|| {
                    format!("a request to {} got no proper answer", self.address)
                })?;
                match status {
                    200 => answers.admitted += 1,
                    429 => answers.refused += 1,
                    status => bail!("a request to {} was answered with {status}", self.address),
                }
            }
        }
        Ok(answers)
    }
}

/// Reads one whole answer and returns its status.
fn answer(connection: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<u16> {
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        ensure!(!room.is_empty(), "it is larger than {LARGEST_ANSWER} bytes");
        match connection.read(room) {
            Ok(0) => bail!("the connection was closed after {filled} bytes of it"),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        let bytes = buffer.get(..filled).unwrap_or_default();
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            continue;
        };
        let (status, body) = head(bytes.get(..end).unwrap_or_default())?;
        let whole = end + 4 + body;
        ensure!(filled <= whole, "more came than was asked for");
        if filled == whole {
            return Ok(status);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The status and the length of the body.
fn head(bytes: &[u8]) -> anyhow::Result<(u16, usize)> {
    let text = std::str::from_utf8(bytes).context("its head is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3))
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("its status cannot be read: {text:?}"))?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .with_context(|| format!("it does not say how long its body is: {text:?}"))?;
    Ok((status, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its parts one by one, as a network may.
    struct Parts(Vec<&'static str>);

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            self.0.remove(0).as_bytes().read(buffer)
        }
    }

    fn read(parts: &[&'static str]) -> Result<u16, String> {
        answer(&mut Parts(parts.to_vec()), &mut [0; 99]).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn an_answer_is_read_whole_however_it_comes() {
        assert_eq!(
            read(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]),
            Ok(200)
        );
        assert_eq!(
            read(&[
                "HTTP/1.1 429 Too",
                " Many\r\ncontent-length: 4\r\n\r",
                "\nno",
                "pe"
            ]),
            Ok(429)
        );
    }

    #[test]
    fn an_answer_that_is_not_one_is_told() {
        assert_eq!(
            read(&["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nno"]),
            Err("the connection was closed after 40 bytes of it".to_owned())
        );
        assert_eq!(
            read(&["HTTP/1.1 200 OK\r\nx: y\r\n\r\n"]),
            Err("it does not say how long its body is: \"HTTP/1.1 200 OK\\r\\nx: y\"".to_owned())
        );
        assert_eq!(
            read(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nrest"]),
            Err("more came than was asked for".to_owned())
        );
    }

    #[test]
    fn numbers_go_round() {
        let mut requests =
            Requests::get("/", &[("x-tenant-id", "t########")], 2).with("x-other", "1");
        let mut next = || {
            let text = String::from_utf8(requests.next().to_vec()).unwrap();
            text.split_once("x-tenant-id: ").unwrap().1.to_owned()
        };
        assert_eq!(
            [next(), next(), next()],
            [
                "t00000000\r\nx-other: 1\r\n\r\n",
                "t00000001\r\nx-other: 1\r\n\r\n",
                "t00000000\r\nx-other: 1\r\n\r\n"
            ]
        );
    }
}
