//! A service that speaks in streams, run in place of those of the shop: over HTTP/1 and over HTTP/2 without TLS.
//!
//! - `GET /flow/events` and `GET /flow/document` answer in parts, of server-sent events and of one JSON document; each but the first comes only when `POST /flow/next` has asked for it.
//! - `GET /flow/socket` is a websocket that greets, and sends back what it gets; it ends when it is told to. With `?claim=json` the answer to the handshake calls itself JSON.
//! - `/duplex` and `/flow/answer` send back each piece of the request's body as it comes, with its type and encoding; with the status that `x-status` says and the length that `x-length` says.
//! - `GET /flow/broken` breaks off in the middle, when `POST /flow/next` has asked for the rest, and `GET /flow/retried` fails at the first try, with a body of its own.
//! - `POST /streams.Echo/Talk` is a call of gRPC with streams both ways: each message is answered when it comes, and `end` ends the call with the status ABORTED and a trailer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::env;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures::future::{BoxFuture, ready};
use futures::{Stream, StreamExt, stream};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, StreamingService};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

/// How many parts of answers have been asked for and not been sent.
type Asked = Arc<Semaphore>;

const EVENTS: [&str; 5] = [
    "data: {\"n\": 1}\n\n",
    "event: tick\ndata: {\"n\": 2}\n\n",
    ": nothing\n\n",
    "data: {\"n\"",
    ": 3}\n\n",
];
/// As a document that is written while it is made.
const DOCUMENT: [&str; 5] = [
    "{\"lines\": [",
    "{\"n\": 1}",
    ", {\"n\": 2}]",
    ", \"total\": 12",
    ".34}",
];

#[tokio::main]
async fn main() -> Result<()> {
    let host = env::var("HOST").context("HOST is not set")?;
    let port = env::var("PORT").context("PORT is not set")?;
    let listener = tokio::net::TcpListener::bind(format!("{host}:{port}")).await?;
    let asked = Asked::new(Semaphore::new(0));
    let service = Router::new()
        .route(
            "/flow/events",
            get(|State(asked): State<Asked>| async { parts("text/event-stream", &EVENTS, asked) }),
        )
        .route(
            "/flow/document",
            get(|State(asked): State<Asked>| async { parts("application/json", &DOCUMENT, asked) }),
        )
        .route(
            "/flow/next",
            post(|State(asked): State<Asked>| async move { asked.add_permits(1) }),
        )
        .route("/flow/socket", get(socket))
        .route("/flow/answer", any(duplex))
        .route("/flow/broken", get(broken))
        .route("/flow/retried", get(retried))
        .route("/duplex", any(duplex))
        .route("/streams.Echo/Talk", post(talk))
        .fallback(|| async { "ok" })
        .with_state(asked);
    axum::serve(listener, service).await?;
    Ok(())
}

fn parts(content_type: &'static str, parts: &'static [&str], asked: Asked) -> Response {
    let mut first = true;
    let parts = stream::iter(parts).then(move |part| {
        let (asked, first) = (asked.clone(), std::mem::take(&mut first));
        async move {
            if !first {
                asked.acquire().await?.forget();
            }
            anyhow::Ok(Bytes::from_static(part.as_bytes()))
        }
    });
    ([(CONTENT_TYPE, content_type)], Body::from_stream(parts)).into_response()
}

async fn socket(
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let mut answer = upgrade.on_upgrade(|socket| async {
        if let Err(error) = converse(socket).await {
            eprintln!("a websocket ended badly: {error:#}");
        }
    });
    if query.contains_key("claim") {
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
    }
    answer
}

async fn converse(mut socket: WebSocket) -> Result<()> {
    // Unasked: this side may speak first.
    socket.send("welcome".into()).await?;
    while let Some(message) = socket.recv().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            // The library answers both.
            Message::Ping(_) | Message::Close(_) | Message::Pong(_) => {}
        }
    }
    Ok(())
}

async fn duplex(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut answer = Response::new(Body::from_stream(body.into_data_stream()));
    for (said, header) in [
        ("content-type", CONTENT_TYPE),
        ("content-encoding", CONTENT_ENCODING),
        ("x-length", CONTENT_LENGTH),
    ] {
        if let Some(value) = head.headers.get(said) {
            answer.headers_mut().insert(header, value.clone());
        }
    }
    let status = head.headers.get("x-status");
    if let Some(status) = status.and_then(|status| StatusCode::from_bytes(status.as_bytes()).ok()) {
        *answer.status_mut() = status;
    }
    answer
}

async fn broken(State(asked): State<Asked>) -> Response {
    let begin = stream::iter([anyhow::Ok("{\"total\": 1, ")]);
    let rest = stream::once(async move {
        asked.acquire().await?.forget();
        bail!("this breaks off on purpose")
    });
    let body = Body::from_stream(begin.chain(rest));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn retried(headers: HeaderMap) -> Response {
    let first = headers
        .get("x-envoy-attempt-count")
        .is_none_or(|count| count == "1");
    let (status, body) = match first {
        true => (StatusCode::SERVICE_UNAVAILABLE, "{\"total\": 1}"),
        false => (StatusCode::OK, "{\"total\": 2}"),
    };
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn talk(request: Request) -> Result<http::Response<tonic::body::Body>, Infallible> {
    let codec = ProstCodec::<String, String>::default();
    Ok(Grpc::new(codec).streaming(Echo, request).await)
}

struct Echo;

type Answers = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

impl StreamingService<String> for Echo {
    type Response = String;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<tonic::Response<Answers>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<String>>) -> Self::Future {
        let answers = request.into_inner().map(|message| match message?.as_str() {
            "end" => {
                let mut trailers = MetadataMap::new();
                trailers.insert(
                    "x-last",
                    "word".parse().map_err(|_| Status::internal("x-last"))?,
                );
                Err(Status::with_metadata(Code::Aborted, "as told", trailers))
            }
            message => Ok(format!("you said {message}")),
        });
        let answers: Answers = Box::pin(answers);
        Box::pin(ready(Ok(tonic::Response::new(answers))))
    }
}
