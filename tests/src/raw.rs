//! Requests byte by byte: what no HTTP library lets one send.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of its first line.
    pub status: u16,
    /// Names in lower case, and values, in order.
    pub headers: Vec<(String, String)>,
    /// Everything behind the empty line.
    pub body: String,
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// Sends `GET path` on a fresh connection with exactly these header lines, and reads the answer.
pub async fn exchange(to: SocketAddr, path: &str, headers: &[(&[u8], &[u8])]) -> Result<Answer> {
    let mut request =
        format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(name);
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    send(to, &request).await
}

/// Sends these bytes on a fresh connection, and reads the answer: to the end of the connection, or of the body if the headers say
/// how long it is.
pub async fn send(to: SocketAddr, request: &[u8]) -> Result<Answer> {
    let conversation = async {
        let mut connection = TcpStream::connect(to).await?;
        connection.write_all(request).await?;
        let mut bytes = Vec::new();
        while connection.read_buf(&mut bytes).await? > 0 {
            if let Ok(answer) = parse(&bytes) {
                let length = answer.header("content-length").and_then(|n| n.parse().ok());
                if answer.status < 200 || length.is_some_and(|length| answer.body.len() >= length) {
                    return Ok(answer);
                }
            }
        }
        parse(&bytes)
    };
    timeout(Duration::from_secs(30), conversation)
        .await
        .context("no answer within 30 s")?
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("the connection ended before the headers did: {text:?}");
    };
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.with_context(|| format!("{first:?} is no status line"))?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers
        .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    Ok(Answer {
        status,
        headers,
        body: body.to_owned(),
    })
}
