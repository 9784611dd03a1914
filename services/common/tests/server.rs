//! What is the same around every service's routes: errors, limits, health, and the end.

use axum::{Router, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_common::{
    App, BODY_LIMIT, ConfigError, Json, Path, Server, Service, StartError,
    testing::{Running, client, eventually},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SERVICE: Service = Service {
    name: "sample-service",
    port: 0,
    migrations: &[],
    routes,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    numbers: Vec<u8>,
}

fn routes(_: &App) -> Result<Router, ConfigError> {
    async fn echo(Path(_): Path<u8>, Json(sample): Json<Sample>) -> Json<Sample> {
        Json(sample)
    }
    Ok(Router::new().route("/samples/{number}", post(echo)))
}

async fn sample() -> Running {
    Running::alone(&SERVICE, &[("SERVICE_VERSION", "v7")]).await
}

/// Sends a request and asserts status, media type, version and the whole body of the problem.
async fn assert_problem(request: reqwest::RequestBuilder, title: &str, mut problem: Value) {
    let response = request.send().await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(response.headers()["x-service-version"], "v7");
    problem["type"] = "about:blank".into();
    problem["title"] = title.into();
    problem["status"] = response.status().as_u16().into();
    assert_eq!(response.json::<Value>().await.unwrap(), problem);
}

#[tokio::test]
async fn a_route_that_is_not_there_is_404() {
    let service = sample().await;
    assert_problem(
        client().get(format!("{}/nowhere?secret=1", service.url)),
        "Not Found",
        json!({"detail": "there is nothing at /nowhere"}),
    )
    .await;
}

/// What `/metrics` says of the service's requests, without what is explained.
async fn counts(service: &Running) -> Vec<String> {
    let url = format!("{}/metrics", service.url);
    let text = client().get(url).send().await.unwrap();
    let text = text.text().await.unwrap();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("service_requests_"));
    lines.map(str::to_owned).collect()
}

fn counted([first, second, third, fourth, fifth]: [u64; 5], under_way: u64) -> Vec<String> {
    vec![
        format!("service_requests_under_way {under_way}"),
        format!("service_requests_total{{status=\"1xx\"}} {first}"),
        format!("service_requests_total{{status=\"2xx\"}} {second}"),
        format!("service_requests_total{{status=\"3xx\"}} {third}"),
        format!("service_requests_total{{status=\"4xx\"}} {fourth}"),
        format!("service_requests_total{{status=\"5xx\"}} {fifth}"),
    ]
}

#[tokio::test]
async fn metrics_are_for_prometheus_to_read() {
    let service = sample().await;
    let url = format!("{}/metrics", service.url);
    let response = client().get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(response.headers()["x-service-version"], "v7");
    let text = response.text().await.unwrap();
    let line = "service_info{service=\"sample-service\",version=\"v7\"} 1";
    assert!(text.lines().any(|told| told == line), "{line} in {text}");
}

#[tokio::test]
async fn probes_and_scrapes_are_no_requests_of_the_service() {
    let service = sample().await;
    for _ in 0..3 {
        for (path, status) in [("/health", 200), ("/ready", 200)] {
            let url = format!("{}{path}", service.url);
            assert_eq!(client().get(url).send().await.unwrap().status(), status);
        }
        let url = format!("{}/metrics", service.url);
        assert_eq!(client().post(url).send().await.unwrap().status(), 405);
        assert_eq!(counts(&service).await, counted([0; 5], 0));
    }
    let samples = format!("{}/samples/1", service.url);
    let sample = json!({"numbers": []});
    let answered = client().post(&samples).json(&sample).send().await.unwrap();
    assert_eq!(answered.status(), 200);
    // What is at no route, or done by no method, is the service's to answer, too.
    for (request, status) in [
        (client().get(format!("{}/nowhere", service.url)), 404),
        (client().put(&samples), 405),
        (client().post(&samples), 415),
    ] {
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    assert_eq!(counts(&service).await, counted([0, 1, 0, 3, 0], 0));
}

#[tokio::test]
async fn a_request_is_under_way_until_it_is_answered() {
    let service = sample().await;
    let address = service.url.strip_prefix("http://").unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    let body = "{\"numbers\": []}";
    let head = format!(
        "POST /samples/1 HTTP/1.1\r\nhost: sample\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let counts = || counts(&service);
    let waits = |counts: &Vec<String>| *counts == counted([0; 5], 1);
    eventually("a request under way", counts, waits).await;
    slow.write_all(body.as_bytes()).await.unwrap();
    slow.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(counts().await, counted([0, 1, 0, 0, 0], 0));
}

#[tokio::test]
async fn a_method_that_is_not_there_is_405_and_those_that_are_there_are_named() {
    let service = sample().await;
    let url = format!("{}/samples/1", service.url);
    let response = client().put(&url).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "POST");
    assert_problem(
        client().put(&url),
        "Method Not Allowed",
        json!({"detail": "PUT is not done on /samples/1, see the header allow"}),
    )
    .await;
}

#[tokio::test]
async fn a_path_that_does_not_fit_is_400() {
    let service = sample().await;
    for (segment, detail) in [
        ("x", "Invalid URL: Cannot parse `x` to a `u8`"),
        ("%ff", "Invalid URL: Invalid UTF-8 in `number`"),
    ] {
        assert_problem(
            client()
                .post(format!("{}/samples/{segment}", service.url))
                .json(&json!({"numbers": []})),
            "Bad Request",
            json!({"detail": detail}),
        )
        .await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused_with_its_place() {
    let service = sample().await;
    let post = |content_type: &str, body: &str| {
        client()
            .post(format!("{}/samples/1", service.url))
            .header("content-type", content_type)
            .body(body.to_owned())
    };
    for content_type in ["text/plain", "", "application/jsonp"] {
        assert_problem(
            post(content_type, "{}"),
            "Unsupported Media Type",
            json!({"detail": "the body has to be JSON, send it with content-type: application/json"}),
        )
        .await;
    }
    for (body, detail) in [
        (
            "",
            "the body is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{\"numbers\": [1,]}",
            "the body is not JSON: trailing comma at line 1 column 16",
        ),
        (
            "{\"numbers\": []} x",
            "the body is not JSON: trailing characters at line 1 column 17",
        ),
    ] {
        assert_problem(
            post("application/json", body),
            "Bad Request",
            json!({"detail": detail}),
        )
        .await;
    }
    for (body, pointer, detail) in [
        ("{}", "#", "missing field `numbers`"),
        (
            "{\"numbers\": [1, 256]}",
            "#/numbers/1",
            "invalid value: integer `256`, expected u8",
        ),
        (
            "{\"numbers\": [], \"a/b\": 1}",
            "#/a~1b",
            "unknown field `a/b`, expected `numbers`",
        ),
        (
            "{\"numbers\": [], \"numbers\": []}",
            "#",
            "duplicate field `numbers`",
        ),
    ] {
        assert_problem(
            post("application/json; charset=utf-8", body),
            "Unprocessable Entity",
            json!({
                "detail": "the body cannot be used as it is",
                "errors": [{"pointer": pointer, "detail": detail}],
            }),
        )
        .await;
    }
}

#[tokio::test]
async fn a_body_has_a_largest_size() {
    let service = sample().await;
    let post = |length: usize| {
        let spaces = " ".repeat(length - "{\"numbers\":[]}".len());
        client()
            .post(format!("{}/samples/1", service.url))
            .header("content-type", "application/json")
            .body(format!("{{\"numbers\":[]}}{spaces}"))
    };
    assert_eq!(post(BODY_LIMIT).send().await.unwrap().status(), 200);
    assert_problem(
        post(BODY_LIMIT + 1),
        "Payload Too Large",
        json!({"detail": "the body is larger than 65536 bytes"}),
    )
    .await;
}

#[tokio::test]
async fn health_and_readiness_answer() {
    let service = sample().await;
    for (path, status) in [("/health", "alive"), ("/ready", "ready")] {
        let response = client()
            .get(format!("{}{path}", service.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.json::<Value>().await.unwrap(),
            json!({"status": status})
        );
    }
}

#[tokio::test]
async fn a_service_whose_database_is_lost_is_alive_but_not_ready() {
    /// Closes the database as soon as it is there.
    fn lose(app: &App) -> Result<Router, ConfigError> {
        let database = app.database.clone();
        async fn closed(
            axum::extract::State(database): axum::extract::State<service_common::Database>,
        ) {
            database.close().await;
        }
        Ok(Router::new()
            .route("/close", post(closed))
            .with_state(database))
    }
    let service = Service {
        routes: lose,
        ..SERVICE
    };
    let service = Running::alone(&service, &[("SERVICE_VERSION", "v7")]).await;
    let url = |path: &str| format!("{}{path}", service.url);
    client().post(url("/close")).send().await.unwrap();
    assert_eq!(
        client().get(url("/health")).send().await.unwrap().status(),
        200
    );
    assert_problem(
        client().get(url("/ready")),
        "Service Unavailable",
        json!({"detail": "the database cannot be reached, try again"}),
    )
    .await;
}

#[tokio::test]
async fn requests_under_way_are_answered_before_the_end() {
    let mut service = sample().await;
    let address = service.url.strip_prefix("http://").unwrap().to_owned();
    let mut connection = TcpStream::connect(&address).await.unwrap();
    let body = "{\"numbers\":[1,2]}";
    let head = format!(
        "POST /samples/1 HTTP/1.1\r\nhost: sample\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    connection.read_exact(&mut answer).await.unwrap();
    // Proof that the handler waits for the body.
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");

    service.stop();
    // The listener goes first: from here on the service is stopping.
    while TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(body), "{answer}");
    service.ended().await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let service = sample().await;
    let port = service.url.rsplit(':').next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}/x.db", directory.path().display());
    let environment = [
        ("HOST", "127.0.0.1"),
        ("PORT", port),
        ("DATABASE_URL", &database),
    ]
    .into_iter()
    .collect();
    let error = Server::start(&SERVICE, &environment).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "HOST, PORT: 127.0.0.1:{port} cannot be listened on: Address already in use (os error 98)"
        )
    );
}
