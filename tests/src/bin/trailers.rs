//! A service that says what it was sent in trailers, run in place of one of the shop's own: it takes HTTP/2 without TLS, and answers with
//! a header `x-trailers` that has them all, in order of their names: `a=1;b=2`; and with a header `x-headers`, likewise, of the request's headers that
//! filters own, in whatever spelling. To HTTP/1, which probes speak, it says 200.

use std::env;

use anyhow::{Context, Result};
use h2::server;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<()> {
    let host = env::var("HOST").context("HOST is not set")?;
    let port = env::var("PORT").context("PORT is not set")?;
    let listener = TcpListener::bind(format!("{host}:{port}")).await?;
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = serve(connection).await {
                eprintln!("a connection ended badly: {error:#}");
            }
        });
    }
}

async fn serve(mut connection: TcpStream) -> Result<()> {
    let mut first = [0; 3];
    let mut seen = 0;
    while seen < first.len() {
        seen = connection.peek(&mut first).await?;
        if seen == 0 {
            return Ok(());
        }
    }
    if first != *b"PRI" {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if connection.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return Ok(connection.write_all(answer).await?);
    }
    let mut requests = server::handshake(connection).await?;
    while let Some(request) = requests.accept().await {
        let (request, mut respond) = request?;
        tokio::spawn(async move {
            let answer = async {
                let mut answer = Response::new(());
                let owned = said(request.headers(), |name| {
                    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
                    ["user-type", "x-experiment"].contains(&name.as_str())
                        || name.starts_with("x-tenant-")
                });
                let trailers = trailers(request).await?.unwrap_or_default();
                let trailers = said(&trailers, |_| true);
                answer.headers_mut().insert("x-headers", owned.parse()?);
                answer.headers_mut().insert("x-trailers", trailers.parse()?);
                respond.send_response(answer, true)?;
                anyhow::Ok(())
            };
            if let Err(error) = answer.await {
                eprintln!("a request ended badly: {error:#}");
            }
        });
    }
    Ok(())
}

/// The headers with these names, in order.
fn said(headers: &HeaderMap, are_told: impl Fn(&str) -> bool) -> String {
    let told = headers.iter().filter(|(name, _)| are_told(name.as_str()));
    let mut said: Vec<String> = told
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    said.sort();
    said.join(";")
}

/// Reads a request to its end.
async fn trailers(request: Request<h2::RecvStream>) -> Result<Option<HeaderMap>> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    Ok(body.trailers().await?)
}
