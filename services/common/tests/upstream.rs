//! Calls to other services: what they take along, and what their failures become.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use service_common::{
    App, ConfigError, Context, Json, Problem, Service, Upstream,
    testing::{Running, client},
};
use tokio::net::TcpListener;

/// A service that asks `other-service` for the same path.
const SERVICE: Service = Service {
    name: "asking-service",
    port: 0,
    migrations: &[],
    routes,
};

fn routes(app: &App) -> Result<Router, ConfigError> {
    async fn ask(
        State(other): State<Upstream>,
        context: Context,
        uri: Uri,
    ) -> Result<Json<Option<Value>>, Problem> {
        other.get(&context, uri.path()).await.map(Json)
    }
    Ok(Router::new()
        .route("/ask/{what}", get(ask))
        .with_state(app.upstream("other-service", 1)?))
}

/// An upstream that answers whatever is asked for with what the function makes of the request.
async fn other(
    answer: impl Fn(Uri, HeaderMap) -> Response + Clone + Send + Sync + 'static,
) -> String {
    let router =
        Router::new().fallback(async move |uri: Uri, headers: HeaderMap| answer(uri, headers));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

async fn asking(other: &str) -> Running {
    Running::alone(
        &SERVICE,
        &[
            ("OTHER_SERVICE_URL", other),
            ("UPSTREAM_TIMEOUT_SECONDS", "1"),
        ],
    )
    .await
}

async fn ask(service: &Running) -> reqwest::Response {
    client()
        .get(format!("{}/ask/it", service.url))
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_context_is_passed_on_byte_for_byte_and_nothing_else_is() {
    let seen = Arc::new(Mutex::new(HeaderMap::new()));
    let url = other({
        let seen = seen.clone();
        move |_, headers| {
            *seen.lock().unwrap() = headers;
            axum::Json(1).into_response()
        }
    })
    .await;
    let service = asking(&url).await;

    let context: &[(&'static str, &[u8])] = &[
        (
            "traceparent",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", b"a=1"),
        ("tracestate", b"b=2"),
        ("b3", b"463ac35c9f6413ad-a2fb4a1d1a96d312-1"),
        ("x-b3-traceid", b"463ac35c9f6413ad"),
        ("x-b3-spanid", b"a2fb4a1d1a96d312"),
        ("x-b3-parentspanid", b"0020000000000001"),
        ("x-b3-sampled", b"1"),
        ("x-b3-flags", b"1"),
        ("x-request-id", b"f058ebd6"),
        ("x-tenant-id", b"acme"),
        ("x-tenant-tier", b"premium"),
        ("user-type", b"vip \xff"),
        ("end-user", b"alice"),
        ("x-canary", b"true"),
    ];
    let others: &[(&'static str, &[u8])] = &[
        ("authorization", b"Bearer secret"),
        ("cookie", b"a=b"),
        ("x-user-id", b"alice"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in context.iter().chain(others) {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value).unwrap(),
        );
    }
    let response = client()
        .get(format!("{}/ask/it", service.url))
        .headers(headers)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);

    let seen = seen.lock().unwrap();
    let passed_on: Vec<_> = context
        .iter()
        .flat_map(|(name, _)| seen.get_all(*name))
        .map(HeaderValue::as_bytes)
        .collect();
    // `tracestate` is in the list twice, and so are its values here.
    let expected: Vec<_> = context
        .iter()
        .flat_map(|(name, _)| context.iter().filter(move |(other, _)| other == name))
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(passed_on, expected);
    let mut rest: Vec<_> = seen
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| context.iter().all(|(of_context, _)| of_context != name))
        .collect();
    rest.sort_unstable();
    assert_eq!(rest, ["accept", "host"]);
}

#[tokio::test]
async fn failures_have_a_meaning_for_the_client() {
    let problem = |status: u16, detail: &str| {
        (
            StatusCode::from_u16(status).unwrap(),
            [(header::CONTENT_TYPE, "application/problem+json")],
            json!({"detail": detail}).to_string(),
        )
            .into_response()
    };
    let url = other(move |uri, _| match uri.path() {
        "/ask/absent" => problem(404, "none of the shop"),
        "/ask/fast" => {
            let mut response = problem(429, "too fast");
            let retry_after = HeaderValue::from_static("7");
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, retry_after);
            response
        }
        "/ask/unrouted" => StatusCode::NOT_FOUND.into_response(),
        "/ask/denied" => (StatusCode::FORBIDDEN, "RBAC: access denied").into_response(),
        "/ask/moved" => (StatusCode::FOUND, [(header::LOCATION, "/ask/other")]).into_response(),
        "/ask/broken" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "/ask/overloaded" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "/ask/late" => StatusCode::GATEWAY_TIMEOUT.into_response(),
        "/ask/prose" => "once upon a time".into_response(),
        "/ask/endless" => vec![b' '; 1024 * 1024 + 1].into_response(),
        path => panic!("{path} is not asked for"),
    })
    .await;
    let service = asking(&url).await;
    for (path, status, retry_after, detail) in [
        (
            "fast",
            429,
            Some("7"),
            "other-service takes no more requests for now",
        ),
        ("unrouted", 502, None, "other-service answered 404"),
        ("denied", 502, None, "other-service answered 403"),
        ("moved", 502, None, "other-service answered 302"),
        ("broken", 502, None, "other-service answered 500"),
        ("overloaded", 503, None, "other-service is not available"),
        ("late", 504, None, "other-service did not answer in time"),
        (
            "prose",
            502,
            None,
            "other-service answered in a form that is not understood",
        ),
        (
            "endless",
            502,
            None,
            "other-service answered in a form that is not understood",
        ),
    ] {
        let response = client()
            .get(format!("{}/ask/{path}", service.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let after = response.headers().get("retry-after");
        assert_eq!(
            after.map(|value| value.to_str().unwrap()),
            retry_after,
            "{path}"
        );
        assert_eq!(
            response.json::<Value>().await.unwrap()["detail"],
            detail,
            "{path}"
        );
    }
    let absent = client()
        .get(format!("{}/ask/absent", service.url))
        .send()
        .await
        .unwrap();
    assert_eq!(absent.json::<Value>().await.unwrap(), Value::Null);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_503() {
    // The port is taken but nobody listens, so no other test's server can get it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let service = asking(&format!("http://{}", socket.local_addr().unwrap())).await;
    let response = ask(&service).await;
    assert_eq!(response.status(), 503);
    assert_eq!(
        response.json::<Value>().await.unwrap(),
        json!({
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "other-service cannot be reached",
        })
    );
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_504() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = asking(&format!("http://{}", listener.local_addr().unwrap())).await;
    let response = ask(&service).await;
    assert_eq!(response.status(), 504);
    assert_eq!(
        response.json::<Value>().await.unwrap()["detail"],
        "other-service did not answer in time"
    );
}

#[tokio::test]
async fn an_upstream_that_hangs_up_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = asking(&format!("http://{}", listener.local_addr().unwrap())).await;
    tokio::spawn(async move {
        loop {
            // Read something, so that the connection is not refused but ended.
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            tokio::io::AsyncReadExt::read_exact(&mut connection, &mut byte)
                .await
                .unwrap();
        }
    });
    let response = ask(&service).await;
    assert_eq!(response.status(), 502);
    assert_eq!(
        response.json::<Value>().await.unwrap()["detail"],
        "other-service broke off its answer"
    );
}

#[tokio::test]
async fn calls_go_through_the_proxy_unless_the_host_is_excepted() {
    // A proxy is asked for the whole URL.
    let proxy = other(|uri, _| axum::Json(uri.to_string()).into_response()).await;
    let direct = other(|uri, _| axum::Json(uri.to_string()).into_response()).await;
    for (proxied, url, except, asked_for) in [
        (
            "HTTP_PROXY",
            "http://other-service:3001",
            "",
            "http://other-service:3001/ask/it",
        ),
        (
            "http_proxy",
            "http://other-service:3001",
            "",
            "http://other-service:3001/ask/it",
        ),
        ("HTTP_PROXY", &direct, "127.0.0.1", "/ask/it"),
    ] {
        let service = Running::alone(
            &SERVICE,
            &[
                (proxied, &proxy),
                ("OTHER_SERVICE_URL", url),
                ("NO_PROXY", except),
            ],
        )
        .await;
        assert_eq!(
            ask(&service).await.json::<Value>().await.unwrap(),
            asked_for
        );
    }
}
