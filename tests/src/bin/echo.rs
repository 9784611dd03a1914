//! A service that says what it was sent, run in place of those of the shop: over HTTP/1 and over HTTP/2 without TLS.
//!
//! The body of an answer is `{"pod": …, "headers": [[NAME, VALUE], …], "trailers": [[NAME, VALUE], …]}`: every copy of every header, as it came.
//! Its header `x-trailers` has the trailers in order of their names, `a=1;b=2`; and `x-headers`, likewise, the request's headers that filters own,
//! in whatever spelling. It also forges the header in which a classifier explains itself.
//!
//! Over HTTP/2, what begins with `/v1/` is answered as language models answer: with as many tokens as the request's `x-words` says, and if it has `x-stream`, in events, of which the last
//! but one says how many. What begins with `/v1/images` says it in the header `x-images` alone, and `/v1/models` nowhere.

use std::env;

use anyhow::{Context, Result, ensure};
use axum::body::Bytes;
use h2::server;
use http::{HeaderMap, Request, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Of a request over HTTP/1, head and body.
const LARGEST: usize = 8 << 20;

/// Names and values, in order.
type Fields = Vec<(String, String)>;

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

async fn serve(connection: TcpStream) -> Result<()> {
    let mut first = [0; 3];
    let mut seen = 0;
    while seen < first.len() {
        seen = connection.peek(&mut first).await?;
        if seen == 0 {
            return Ok(());
        }
    }
    if first != *b"PRI" {
        return serve_http1(connection).await;
    }
    let mut requests = server::handshake(connection).await?;
    while let Some(request) = requests.accept().await {
        let (request, mut respond) = request?;
        tokio::spawn(async move {
            let answer = async {
                if request.uri().path().starts_with("/v1/") {
                    return model(&request, &mut respond);
                }
                let headers = fields(request.headers());
                let trailers = trailers(request).await?.unwrap_or_default();
                let told = Told::new(&headers, &fields(&trailers));
                let mut answer = Response::new(());
                for (name, value) in told.headers() {
                    answer.headers_mut().insert(name, value.parse()?);
                }
                let length = told.body.len().into();
                answer.headers_mut().insert("content-length", length);
                let mut stream = respond.send_response(answer, false)?;
                stream.send_data(told.body.into(), true)?;
                anyhow::Ok(())
            };
            if let Err(error) = answer.await {
                eprintln!("a request ended badly: {error:#}");
            }
        });
    }
    Ok(())
}

/// Answers as a language model does.
fn model(
    request: &Request<h2::RecvStream>,
    respond: &mut server::SendResponse<Bytes>,
) -> Result<()> {
    let path = request.uri().path();
    if path == "/v1/models" {
        let mut answer = Response::new(());
        let plain = "application/json".parse()?;
        answer.headers_mut().insert("content-type", plain);
        let mut stream = respond.send_response(answer, false)?;
        stream.send_data("{\"data\": []}".into(), true)?;
        return Ok(());
    }
    let words = request.headers().get("x-words");
    let words: u64 = words.context("no x-words")?.to_str()?.parse()?;
    let usage = json!({"prompt_tokens": 1, "completion_tokens": words.saturating_sub(1), "total_tokens": words});
    let mut answer = Response::new(());
    let headers = answer.headers_mut();
    if path.starts_with("/v1/images") {
        headers.insert("x-images", words.to_string().parse()?);
        headers.insert("content-type", "application/json".parse()?);
        let mut stream = respond.send_response(answer, false)?;
        stream.send_data("{\"data\": [{\"url\": \"/1\"}]}".into(), true)?;
        return Ok(());
    }
    if request.headers().contains_key("x-stream") {
        headers.insert("content-type", "text/event-stream".parse()?);
        let mut stream = respond.send_response(answer, false)?;
        for event in [
            json!({"choices": [{"delta": {"content": "Hello"}}], "usage": null}).to_string(),
            json!({"choices": [{"delta": {"content": "."}}], "usage": null}).to_string(),
            json!({"choices": [], "usage": usage}).to_string(),
            "[DONE]".to_owned(),
        ] {
            stream.send_data(format!("data: {event}\n\n").into(), event == "[DONE]")?;
        }
        return Ok(());
    }
    headers.insert("content-type", "application/json".parse()?);
    let body = json!({"choices": [{"message": {"content": "Hello."}}], "usage": usage});
    let mut stream = respond.send_response(answer, false)?;
    stream.send_data(body.to_string().into(), true)?;
    Ok(())
}

/// One request a connection, byte by byte: nothing is made better of what came.
async fn serve_http1(mut connection: TcpStream) -> Result<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end;
        }
        ensure!(bytes.len() < LARGEST, "a head that does not end");
        if connection.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let mut body = bytes.split_off(head + 4);
    let text = String::from_utf8_lossy(&bytes);
    let headers: Fields = text.split("\r\n").skip(1).filter_map(field).collect();
    let value = |wanted: &str| {
        let mut copies = headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        copies.next().map(|(_, value)| value.as_str())
    };
    let mut trailers = Fields::new();
    if value("transfer-encoding").is_some() {
        // Its end is that of the last chunk, with trailers or without.
        while !(body.ends_with(b"\r\n\r\n") && find(&body, b"0\r\n").is_some()) {
            ensure!(body.len() < LARGEST, "a body that does not end");
            if connection.read_buf(&mut body).await? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&body);
        let last = text.rsplit_once("\r\n0\r\n").map_or(
            text.strip_prefix("0\r\n").unwrap_or_default(),
            |(_, last)| last,
        );
        trailers = last.split("\r\n").filter_map(field).collect();
    } else if let Some(length) = value("content-length") {
        let length: usize = length.parse()?;
        ensure!(length < LARGEST, "a body of {length} bytes");
        while body.len() < length {
            if connection.read_buf(&mut body).await? == 0 {
                return Ok(());
            }
        }
    }
    let told = Told::new(&headers, &trailers);
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n",
        told.body.len()
    );
    for (name, value) in told.headers() {
        answer += &format!("{name}: {value}\r\n");
    }
    answer += "\r\n";
    answer += &told.body;
    Ok(connection.write_all(answer.as_bytes()).await?)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.trim().to_owned()))
}

/// What is said of a request.
struct Told {
    owned: String,
    trailers: String,
    body: String,
}

impl Told {
    fn new(headers: &Fields, trailers: &Fields) -> Self {
        let owned = said(headers, |name| {
            let name = name
                .to_ascii_lowercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            ["user-type", "x-experiment", "x-explain-user-type"].contains(&name.as_str())
                || name.starts_with("x-tenant-")
        });
        let pod = env::var("POD_NAME").unwrap_or_default();
        Self {
            owned,
            trailers: said(trailers, |_| true),
            body: json!({"pod": pod, "headers": headers, "trailers": trailers}).to_string(),
        }
    }

    fn headers(&self) -> [(&'static str, &str); 3] {
        [
            ("x-headers", &self.owned),
            ("x-trailers", &self.trailers),
            // In the name of the classifier, which is not this service's to use.
            ("x-explain-user-type", "vip (by the service)"),
        ]
    }
}

fn fields(map: &HeaderMap) -> Fields {
    let fields = map.iter();
    fields
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

/// The fields with these names, in order.
fn said(fields: &Fields, are_told: impl Fn(&str) -> bool) -> String {
    let told = fields.iter().filter(|(name, _)| are_told(name));
    let mut said: Vec<String> = told
        .map(|(name, value)| format!("{name}={value}"))
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
