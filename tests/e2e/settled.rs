//! Limits on what only responses tell, on an Envoy with four workers in front of a service that says how many tokens it has used in every way that there is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tollgate_tests::{Answer, LoneEnvoy, exchange};

type Test = fn() -> Result<()>;

/// Each has an Envoy of its own.
pub(crate) const TESTS: &[(&str, Test)] = &[
    ("every_kind_of_response_settles_its_request", || {
        crate::shared::block_on(every_kind_of_response_settles_its_request())
    }),
    ("a_debt_is_no_more_than_what_was_in_flight", || {
        crate::shared::block_on(a_debt_is_no_more_than_what_was_in_flight())
    }),
];

/// Generous: only something that is broken takes as long.
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// A service that answers as the path says. What begins with `/held` waits until it is told.
struct Service {
    address: SocketAddr,
    held: Arc<AtomicUsize>,
    go_on: watch::Sender<bool>,
}

impl Service {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let held = Arc::new(AtomicUsize::new(0));
        let (go_on, told) = watch::channel(false);
        let count = held.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, count.clone(), told.clone()));
            }
        });
        Ok(Self {
            address,
            held,
            go_on,
        })
    }
}

/// The parts of an answer, each sent by itself. `N` is the last part of the path.
fn answer(path: &str, n: &str) -> Vec<String> {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunked = |status: &str, content_type: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        )
    };
    let usage = format!("{{\"usage\": {{\"prompt_tokens\": 1, \"total_tokens\": {n}}}}}");
    let end = "0\r\n\r\n".to_owned();
    match path {
        "json" | "held" => {
            let (first, rest) = usage.split_at(usage.len() / 2);
            vec![
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n{first}",
                    usage.len()
                ),
                rest.to_owned(),
            ]
        }
        "broken" => vec![
            chunked("200 OK", "application/json"),
            chunk(&format!("{usage}}}").replacen(':', "=", 1)),
            end,
        ],
        "failed" => vec![
            chunked("503 Service Unavailable", "application/json"),
            chunk("{\"error\": {}}"),
            end,
        ],
        "events" => vec![
            chunked("200 OK", "text/event-stream"),
            chunk("data: {\"choices\": [{\"delta\": \"a\"}], \"usage\": null}\n\n"),
            chunk("data: {\"choices\": [], \"usage\": {\"total_tokens\": 3}}\n\ndata: {\"usa"),
            chunk(&format!("ge\": {{\"total_tokens\": {n}}}}}\n\n")),
            chunk("data: [DONE]\n\n"),
            end,
        ],
        // For who only looks what is left.
        "endless" if n == "0" => answer("json", "100"),
        "hasty" => answer("json", n),
        // It does not end, and says nothing more.
        "endless" => vec![
            chunked("200 OK", "text/event-stream"),
            chunk("data: {\"choices\": [{\"delta\": \"a\"}], \"usage\": null}\n\n"),
        ],
        "header" => vec![format!(
            "HTTP/1.1 200 OK\r\nx-tokens: {n}\r\ncontent-length: 2\r\n\r\nok"
        )],
        "priced" => vec![format!(
            "HTTP/1.1 200 OK\r\nx-price: {n}.25\r\ncontent-length: 2\r\n\r\nok"
        )],
        "empty" => vec!["HTTP/1.1 204 No Content\r\n\r\n".to_owned()],
        "unchanged" => vec!["HTTP/1.1 304 Not Modified\r\n\r\n".to_owned()],
        "trailer" => vec![
            "HTTP/1.1 200 OK\r\ntrailer: x-tokens\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            chunk("ok"),
            format!("0\r\nx-tokens: {n}\r\n\r\n"),
        ],
        "bytes" => {
            let length = n.parse().unwrap_or_default();
            vec![
                chunked("200 OK", "text/plain"),
                chunk(&"x".repeat(length)),
                end,
            ]
        }
        _ => vec!["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()],
    }
}

async fn serve(
    mut connection: TcpStream,
    held: Arc<AtomicUsize>,
    mut told: watch::Receiver<bool>,
) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        while !bytes.ends_with(b"\r\n\r\n") {
            if connection.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8(std::mem::take(&mut bytes))?;
        ensure!(
            !head.to_ascii_lowercase().contains("accept-encoding") || !head.contains("/json/"),
            "the service is asked for a compressed body"
        );
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut parts = target.trim_start_matches('/').split('/');
        let (path, n) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or("0"),
        );
        if path == "held" {
            held.fetch_add(1, Ordering::SeqCst);
            told.wait_for(|go_on| *go_on).await?;
        }
        if path == "hasty" && n != "0" {
            // Until the proxy has no more patience.
            std::future::pending::<()>().await;
        }
        for part in answer(path, n) {
            connection.write_all(part.as_bytes()).await?;
            connection.flush().await?;
            // So that the proxy gets it in pieces, mostly; it need not.
            tokio::task::yield_now().await;
        }
    }
}

fn configuration(quota: u64) -> Value {
    let route = |path: &str, settle: Value, unsettled: &str| {
        let mut cost = json!({"estimate": 100, "max": 900, "settle": settle});
        if unsettled != "max" {
            cost["unsettled"] = unsettled.into();
        }
        json!({
            "match": {"path": {"prefix": format!("/{path}/")}},
            "limits": [{
                "name": path, "quota": quota, "per": "month",
                "cost": cost,
            }],
        })
    };
    let tokens = || json!({"json": "/usage/total_tokens"});
    json!({
        "tenant": {"from": [{"header": "x-tenant-id", "vouched": true}], "unknown": {"tier": "everyone"}},
        "tiers": {"everyone": {"limits": [{"name": "requests", "quota": 1_000_000, "per": "month"}]}},
        "tenants": {"acme": {"tier": "everyone"}},
        "routes": [
            route("json", tokens(), "max"),
            route("broken", tokens(), "max"),
            route("failed", tokens(), "max"),
            route("events", tokens(), "max"),
            route("endless", tokens(), "max"),
            route("hasty", tokens(), "max"),
            route("lenient", tokens(), "estimate"),
            route("header", json!({"header": "x-tokens"}), "max"),
            route("priced", json!({"header": "x-price", "scale": 100, "strip": true}), "max"),
            route("empty", tokens(), "max"),
            route("unchanged", tokens(), "max"),
            route("trailer", json!({"trailer": "x-tokens"}), "max"),
            route("bytes", json!({"bytes": "response"}), "max"),
            route("held", tokens(), "max"),
        ],
        "metrics": {"settled": "units_total", "unsettled": "unsettled_total"},
    })
}

async fn get(lone: &LoneEnvoy, tenant: &str, path: &str, n: u64) -> Result<Answer> {
    let headers: &[(&[u8], &[u8])] = &[
        (b"x-tenant-id", tenant.as_bytes()),
        (b"accept-encoding", b"gzip"),
        // Nobody asks the client.
        (b"x-tokens", b"0"),
    ];
    exchange(lone.address, &format!("/{path}/{n}"), headers).await
}

/// How much the response says is left of a limit.
fn left(answer: &Answer, limit: &str) -> Result<u64> {
    let told = answer.header("ratelimit").unwrap_or_default();
    let mut limits = told.split(", ");
    let found = limits.find_map(|one| one.strip_prefix(&format!("\"{limit}\";r=")));
    let number = found.and_then(|rest| rest.split(';').next()?.parse().ok());
    number.with_context(|| format!("{limit} is not told: {answer:?}"))
}

async fn every_kind_of_response_settles_its_request() -> Result<()> {
    const QUOTA: u64 = 1_000_000;
    let service = Service::start().await?;
    let lone = LoneEnvoy::start(4, &configuration(QUOTA), service.address).await?;
    let mut units = 0;
    // What it says, and what it costs.
    for (path, cases) in [
        ("json", &[(321, 321), (0, 0), (900, 900), (901, 900)][..]),
        ("broken", &[(321, 900)]),
        ("failed", &[(321, 100)]),
        ("events", &[(321, 321), (77, 77)]),
        ("header", &[(321, 321), (0, 0), (5000, 900)]),
        ("priced", &[(3, 325), (0, 25), (9, 900)]),
        // Without a body nothing says it; the second is one that a client may choose to have.
        ("empty", &[(0, 100)]),
        ("unchanged", &[(0, 900)]),
        ("trailer", &[(321, 321), (7, 7)]),
        ("bytes", &[(321, 321), (0, 0), (700, 700)]),
        ("lenient", &[(0, 100)]),
    ] {
        for tenant in ["acme", "somebody"] {
            let mut used = 0;
            // More often than there are workers.
            for (n, cost) in cases.iter().cycle().take(8) {
                let answer = get(&lone, tenant, path, *n).await?;
                // The response tells what was used before, and of itself what is known when its headers are sent.
                let itself = match path {
                    "header" | "priced" => *cost,
                    _ => 100,
                };
                let told = QUOTA - left(&answer, path)?;
                ensure!(
                    told == used + itself,
                    "{path} of {tenant}: {told} are used, not {used} and {itself}: {answer:?}"
                );
                let seen = ["x-tokens", "x-price"].map(|name| answer.header(name).is_some());
                ensure!(seen == [path == "header", false], "{path}: {answer:?}");
                used += cost;
            }
            units += used;
        }
    }
    // Of some the end of the response comes a moment after the client has it.
    let begin = Instant::now();
    loop {
        let counted = lone.sum("units_total").await?;
        if counted == units {
            break;
        }
        ensure!(
            counted < units && begin.elapsed() < DEADLINE,
            "{counted} units are counted, not {units}"
        );
        sleep(LOOK).await;
    }

    // A time that is up saves nothing, whether it was up for HTTP or for gRPC.
    let call: &[(&[u8], &[u8])] = &[
        (b"x-tenant-id", b"hurried"),
        (b"content-type", b"application/grpc"),
    ];
    let answer = exchange(lone.address, "/hasty/1", call).await?;
    ensure!(answer.header("grpc-status") == Some("14"), "{answer:?}");
    let answer = exchange(lone.address, "/hasty/1", &call[..1]).await?;
    ensure!(answer.status == 504, "{answer:?}");
    let answer = get(&lone, "hurried", "hasty", 0).await?;
    let used = QUOTA - left(&answer, "hasty")?;
    ensure!(used == 2 * 900 + 100, "{used} are used");

    // A client that hangs up in the middle saves nothing.
    let mut connection = TcpStream::connect(lone.address).await?;
    connection
        .write_all(b"GET /endless/1 HTTP/1.1\r\nhost: shop\r\nx-tenant-id: gone\r\n\r\n")
        .await?;
    let mut bytes = Vec::new();
    while !bytes.windows(5).any(|some| some == b"data:") {
        ensure!(connection.read_buf(&mut bytes).await? > 0, "{bytes:?}");
    }
    drop(connection);
    let begin = Instant::now();
    // Whoever looks uses 100, as it is estimated.
    for looks in 1.. {
        let answer = get(&lone, "gone", "endless", 0).await?;
        let used = QUOTA - left(&answer, "endless")?;
        if used == 900 + looks * 100 {
            break;
        }
        ensure!(
            used == 100 + looks * 100 && begin.elapsed() < DEADLINE,
            "{used} are used after {looks} looks"
        );
        sleep(LOOK).await;
    }
    Ok(())
}

async fn a_debt_is_no_more_than_what_was_in_flight() -> Result<()> {
    const QUOTA: u64 = 1_000;
    let service = Service::start().await?;
    let mut lone = LoneEnvoy::start(4, &configuration(QUOTA), service.address).await?;
    let lone_address = lone.address;
    for tenant in ["acme", "somebody"] {
        service.held.store(0, Ordering::SeqCst);
        service.go_on.send_replace(false);
        let mut answers = JoinSet::new();
        for _ in 0..40 {
            let headers = move || async move {
                let headers: &[(&[u8], &[u8])] = &[(b"x-tenant-id", tenant.as_bytes())];
                exchange(lone_address, "/held/900", headers).await
            };
            answers.spawn(headers());
        }
        // Ten estimates are the quota, at whatever worker they are.
        for _ in 0..30 {
            let answer = answers.join_next().await.context("none is left")???;
            ensure!(answer.status == 429, "{answer:?}");
            ensure!(left(&answer, "held")? == 0, "{answer:?}");
        }
        let begin = Instant::now();
        while service.held.load(Ordering::SeqCst) < 10 {
            ensure!(begin.elapsed() < DEADLINE, "not all are at the service");
            sleep(LOOK).await;
        }
        ensure!(service.held.load(Ordering::SeqCst) == 10);
        // All of them at once have used the most.
        service.go_on.send_replace(true);
        while let Some(answer) = answers.join_next().await {
            let answer = answer??;
            ensure!(answer.status == 200, "{answer:?}");
        }
        let refused = get(&lone, tenant, "held", 900).await?;
        ensure!(refused.status == 429, "{refused:?}");
        ensure!(
            refused.body.contains("This request is estimated at 100"),
            "{refused:?}"
        );
    }
    // With a larger quota it is seen how far they are in debt.
    lone.configure(&configuration(20_000)).await?;
    for tenant in ["acme", "somebody"] {
        let answer = get(&lone, tenant, "held", 100).await?;
        let used = 20_000 - left(&answer, "held")?;
        ensure!(used == 10 * 900 + 100, "{tenant} has used {used}");
    }
    Ok(())
}
