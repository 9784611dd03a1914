//! Requests over HTTP/2 without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use h2::client;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// How long its body is.
    pub body: usize,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
    /// Whether the frame of its headers ended it.
    pub ended_with_headers: bool,
}

impl Answer {
    /// The first value of a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// Some of it is sent, and its end only when the answer has begun, as a stream of gRPC messages does.
    Streamed,
}

/// Sends a request on a fresh connection, and reads the answer.
pub async fn send(to: SocketAddr, request: Request<()>, body: Body) -> Result<Answer> {
    converse(to, request, body, None).await
}

/// The same with trailers after some of a body.
pub async fn send_with_trailers(
    to: SocketAddr,
    request: Request<()>,
    trailers: HeaderMap,
) -> Result<Answer> {
    converse(to, request, Body::Streamed, Some(trailers)).await
}

async fn converse(
    to: SocketAddr,
    request: Request<()>,
    body: Body,
    trailers: Option<HeaderMap>,
) -> Result<Answer> {
    let conversation = async {
        let (requests, connection) = client::handshake(TcpStream::connect(to).await?).await?;
        let connection = tokio::spawn(connection);
        let mut requests = requests.ready().await?;
        let (answer, mut stream) = requests.send_request(request, body == Body::None)?;
        if body == Body::Streamed {
            stream.send_data(vec![0; 5].into(), false)?;
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers)?;
        }
        let answer = answer.await?;
        let (parts, mut received) = answer.into_parts();
        let ended_with_headers = received.is_end_stream();
        // Refused if the other side has closed the stream, as it may once it has answered.
        let _ = stream.send_data(vec![].into(), true);
        let mut length = 0;
        while let Some(data) = received.data().await {
            let data = data?;
            length += data.len();
            received.flow_control().release_capacity(data.len())?;
        }
        let trailers = received.trailers().await?;
        drop((stream, received, requests));
        connection.await?.context("the connection ended badly")?;
        anyhow::Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: length,
            trailers,
            ended_with_headers,
        })
    };
    timeout(Duration::from_secs(30), conversation)
        .await
        .context("no answer within 30 s")?
}
