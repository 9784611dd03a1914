//! A service that fails when a request asks for it, run in place of the shop's own so that it is seen what the shop's
//! manifests make of that. It remembers nothing: what a request meets depends on the request, on which try it is
//! (`x-envoy-attempt-count`), and on the pod it has reached.
//!
//! It says which pod it is, which try it was, and which headers it was sent. Every path takes these parameters. `until=N` answers 503 to every try before the Nth; `slow=MS` has these tries wait
//! first; `pod=NAME` makes them fail in this pod only. `while=FILE` waits as long as there is such a file.
//!
//! `body=TEXT` is said in place of all that, with the status `status=N`, as `type=MEDIA` and as if it were packed by `encoding=NAME`; `blanks=N` lengthens it, and with
//! `cut=yes` the connection ends where the text does, which is not the end of the body.

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::{StreamExt, stream};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let host = env::var("HOST").context("HOST is not set")?;
    let port = env::var("PORT").context("PORT is not set")?;
    let listener = tokio::net::TcpListener::bind(format!("{host}:{port}")).await?;
    axum::serve(listener, Router::new().fallback(answer)).await?;
    Ok(())
}

async fn answer(Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    if query.contains_key("body") {
        return match as_told(&query) {
            Ok(answer) => answer,
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        };
    }
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<u64>().ok());
    let pod = env::var("POD_NAME").unwrap_or_default();
    let attempt = headers.get("x-envoy-attempt-count");
    let attempt = attempt.and_then(|value| value.to_str().ok()?.parse().ok());
    let here = query.get("pod").is_none_or(|wanted| *wanted == pod);
    let fails = here && attempt < number("until");
    if fails {
        tokio::time::sleep(Duration::from_millis(number("slow").unwrap_or(0))).await;
    }
    if let Some(file) = query.get("while") {
        while Path::new(file).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let status = if fails {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let headers: HashMap<&str, String> = headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str(), value)
        })
        .collect();
    let said = json!({ "pod": pod, "attempt": attempt, "headers": headers });
    (status, Json(said)).into_response()
}

/// What the request says that the answer is.
fn as_told(query: &HashMap<String, String>) -> Result<Response> {
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    let mut answer = Response::builder().status(text("status").parse::<u16>()?);
    for (header, parameter) in [("content-type", "type"), ("content-encoding", "encoding")] {
        if let Some(value) = query.get(parameter) {
            answer = answer.header(header, value);
        }
    }
    let blanks = query.get("blanks").map_or(Ok(0), |n| n.parse())?;
    let body = text("body").to_owned() + &" ".repeat(blanks);
    if !query.contains_key("cut") {
        return Ok(answer.body(Body::from(body))?);
    }
    // It waits to be polled again, and meanwhile what came before is sent.
    let cut = async {
        tokio::task::yield_now().await;
        Err(std::io::Error::other("it is cut here"))
    };
    let body = stream::iter([Ok(body)]).chain(stream::once(cut));
    Ok(answer.body(Body::from_stream(body))?)
}
