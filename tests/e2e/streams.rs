//! Streams of all kinds through gateways and sidecars that read bodies: nothing is held back or changed, and what is no document is counted as skipped.
//!
//! All is said in turns: neither side says the next before it has heard what the other has said. So where anything were held back, both would wait, and [`TURN`] end the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt, stream};
use http::Request;
use http::uri::PathAndQuery;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tollgate_tests::{Filter, Form, LocalMesh, Manifests, Options, Target};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::metrics::settled_when;

/// How long one turn may take. Generous: only something that is held back takes as long.
const TURN: Duration = Duration::from_secs(20);

const JSON: &str = "application/json";

/// The shop, whose product-service (HTTP/1) and user-service (HTTP/2) are programs that speak in streams. The gateway and every sidecar read all bodies that there are.
pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    manifests.lift_limits(&["anonymous"])?;
    let metrics = json!({
        "metrics": [
            {"name": "s_requests_total"},
            {"name": "s_sent_cents_total", "value": {"requestBody": "/total", "scale": 100}},
            {"name": "s_received_cents_total", "value": {"responseBody": "/total", "scale": 100}},
        ],
        "skippedMetric": "s_skipped_total",
    });
    manifests.configure(form, Filter::BusinessMetrics, &metrics.to_string())?;
    let (file, indent) = Filter::BusinessMetrics.place(form);
    let (module, field) = match form {
        Form::ThreeModules => ("business-metrics", "  pluginConfig:\n"),
        Form::Bundle => ("tollgate", "    businessMetrics:\n"),
    };
    // The last is that of the sidecars, to the end of the file.
    let text = manifests.read(file)?;
    let (before, _) = text
        .rsplit_once(field)
        .with_context(|| format!("no {field:?} in {file}"))?;
    manifests.write(file, &format!("{before}{field}{indent}{metrics}\n"))?;
    let (plain, sees) = (format!("/{module}:"), format!("/{module}-bodies:"));
    manifests.replace_all(file, &plain, &sees)?;
    for service in ["product", "cart", "order", "user"] {
        let file = format!("services/kubernetes/{service}-service.yaml");
        manifests.replace_all(&file, "extraStatTags: ", "extraStatTags: reason,")?;
    }
    manifests.replace(
        "services/kubernetes/user-service.yaml",
        "  - name: http\n    port: 3004\n",
        "  - name: http2\n    port: 3004\n",
    )?;
    manifests.write("istio/routing/streams.yaml", ROUTES)?;
    manifests.replace(
        "istio/routing/kustomization.yaml",
        "resources:\n",
        "resources:\n- streams.yaml\n",
    )?;
    let streams = env!("CARGO_BIN_EXE_streams");
    let run = ["product", "user"].map(|name| format!("{name}-service={streams}"));
    LocalMesh::start(
        manifests,
        Options {
            run: run.into(),
            ..Options::default()
        },
    )
}

/// To one pod each, without a timeout.
const ROUTES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: streams-ingress, namespace: ecommerce}
spec:
  hosts: ['*']
  gateways: [ecommerce-gateway]
  http:
  - match:
    - uri: {exact: /flow/retried}
    route:
    - destination: {host: product-service, subset: v1, port: {number: 3001}}
    retries: {attempts: 2, retryOn: 5xx}
  - match:
    - uri: {prefix: /flow/}
    route:
    - destination: {host: product-service, subset: v1, port: {number: 3001}}
  - match:
    - uri: {prefix: /duplex}
    - uri: {prefix: /streams.Echo/}
    route:
    - destination: {host: user-service, subset: v1, port: {number: 3004}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: streams, namespace: ecommerce}
spec:
  rules:
  - from:
    - source:
        principals: [cluster.local/ns/istio-system/sa/ingressgateway]
    to:
    - operation:
        paths: [/flow/*, /duplex, /streams.Echo/*]
";

/// The parts in which the service answers, as `tests/src/bin/streams.rs` has them.
const EVENTS: [&str; 5] = [
    "data: {\"n\": 1}\n\n",
    "event: tick\ndata: {\"n\": 2}\n\n",
    ": nothing\n\n",
    "data: {\"n\"",
    ": 3}\n\n",
];
const DOCUMENT: [&str; 5] = [
    "{\"lines\": [",
    "{\"n\": 1}",
    ", {\"n\": 2}]",
    ", \"total\": 12",
    ".34}",
];

/// One after another, because all are counted by the same counters.
pub(crate) async fn nothing_is_held_back_or_changed(mesh: &LocalMesh) -> Result<()> {
    events_and_documents_pass_as_they_are_made(mesh).await?;
    a_websocket_is_echoed_at_once(mesh).await?;
    a_body_is_answered_while_it_is_sent(mesh).await?;
    a_call_of_grpc_is_answered_message_by_message(mesh).await?;
    documents_are_counted_or_skipped_for_their_reasons(mesh).await?;
    what_has_no_body_or_half_of_one_is_skipped_for_its_reason(mesh).await
}

async fn events_and_documents_pass_as_they_are_made(mesh: &LocalMesh) -> Result<()> {
    let to = mesh.gateway();
    let counters = Counters::of(mesh, "product-service").await?;
    parts(to, "/flow/events", "text/event-stream", &EVENTS).await?;
    // Of what asks for the next part neither side has a body.
    let asked = 2 * (EVENTS.len() as u64 - 1);
    counters
        .have_grown(&[("missing", 1 + asked), ("content_type", 1)])
        .await?;

    let counters = Counters::of(mesh, "product-service").await?;
    parts(to, "/flow/document", JSON, &DOCUMENT).await?;
    counters
        .have_grown(&[("missing", 1 + asked), ("received", 1_234)])
        .await
}

/// Reads an answer whose parts come one by one, each when it has been asked for.
async fn parts(to: &str, path: &str, content_type: &str, expected: &[&str]) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut answer = turn("the head", http.get(format!("{to}{path}")).send()).await??;
    ensure!(answer.status() == 200, "{answer:?}");
    ensure!(
        answer
            .headers()
            .get("content-type")
            .is_some_and(|is| is == content_type),
        "{answer:?}"
    );
    for (n, part) in expected.iter().enumerate() {
        if n > 0 {
            let next = http.post(format!("{to}/flow/next")).send();
            turn("asking", next).await??.error_for_status()?;
        }
        let mut come = Vec::new();
        while come.len() < part.len() {
            let chunk = turn(part, answer.chunk()).await??;
            come.extend_from_slice(&chunk.with_context(|| format!("{path} ends before {part:?}"))?);
        }
        ensure!(come == part.as_bytes(), "{come:?}, not {part:?}");
    }
    let more = turn("the end", answer.chunk()).await??;
    ensure!(more.is_none(), "{path} goes on: {more:?}");
    Ok(())
}

async fn a_websocket_is_echoed_at_once(mesh: &LocalMesh) -> Result<()> {
    let to = mesh.gateway_address()?;
    // Nor is it a document if both sides say that it is one: what they then say to each other is no answer to a request.
    for claim in [None, Some(JSON)] {
        let counters = Counters::of(mesh, "product-service").await?;
        websocket(to, claim).await?;
        counters.have_grown(&[("content_type", 2)]).await?;
    }
    Ok(())
}

async fn websocket(to: SocketAddr, claim: Option<&'static str>) -> Result<()> {
    let query = claim.map_or("", |_| "?claim=json");
    let mut request = format!("ws://{to}/flow/socket{query}").into_client_request()?;
    if let Some(claim) = claim {
        request.headers_mut().insert("content-type", claim.parse()?);
    }
    let connection = TcpStream::connect(to).await?;
    connection.set_nodelay(true)?;
    let (mut socket, answer) = turn("the handshake", client_async(request, connection)).await??;
    ensure!(answer.status() == 101, "{answer:?}");
    ensure!(
        answer.headers().get("content-type").is_some() == claim.is_some(),
        "{answer:?}"
    );
    let heard = turn("the greeting", socket.next())
        .await?
        .context("no greeting")??;
    ensure!(heard == Message::text("welcome"), "{heard:?}");
    let said = [
        Message::text("{\"total\": 1}"),
        Message::binary(vec![0, 255, 10, 13]),
        Message::text(""),
        // Larger than what is read of a body, and than what a proxy holds of a stream.
        Message::binary(vec![7; 3 << 20]),
        Message::text("}{"),
    ];
    for message in &said {
        turn("sending", socket.send(message.clone())).await??;
        let heard = turn("an echo", socket.next()).await?.context("no echo")??;
        ensure!(heard == *message, "another echo than what was said");
    }
    // Both sides at once: several on their way, and pings between them.
    for n in 0..20 {
        for m in 0..3 {
            let message = Message::text(format!("{n} {m}"));
            turn("sending", socket.send(message)).await??;
        }
        turn("sending", socket.send(Message::Ping(vec![n].into()))).await??;
        for expected in [
            Message::text(format!("{n} 0")),
            Message::text(format!("{n} 1")),
            Message::text(format!("{n} 2")),
            Message::Pong(vec![n].into()),
        ] {
            let heard = turn("an echo", socket.next()).await?.context("no echo")??;
            ensure!(heard == expected, "{heard:?}, not {expected:?}");
        }
    }
    turn("the end", socket.close(None)).await??;
    while let Some(message) = turn("the end", socket.next()).await? {
        ensure!(matches!(message?, Message::Close(_)));
    }
    Ok(())
}

/// Both bodies pass at the same time, and are read.
async fn a_body_is_answered_while_it_is_sent(mesh: &LocalMesh) -> Result<()> {
    let counters = Counters::of(mesh, "user-service").await?;
    let to = mesh.gateway_address()?;
    let (requests, connection) = h2::client::handshake(TcpStream::connect(to).await?).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{to}/duplex")).header("content-type", JSON);
    let mut requests = requests.ready().await?;
    let (answer, mut sent) = requests.send_request(request.body(())?, false)?;
    let answer = turn("the head", answer).await??;
    ensure!(answer.status() == 200, "{answer:?}");
    let mut received = answer.into_body();
    for part in DOCUMENT {
        sent.send_data(part.into(), false)?;
        let mut come = Vec::new();
        while come.len() < part.len() {
            let data = turn(part, received.data()).await?;
            let data = data.with_context(|| format!("the answer ends before {part:?}"))??;
            received.flow_control().release_capacity(data.len())?;
            come.extend_from_slice(&data);
        }
        ensure!(come == part.as_bytes(), "{come:?}, not {part:?}");
    }
    sent.send_data(Vec::new().into(), true)?;
    while let Some(data) = turn("the end", received.data()).await? {
        ensure!(data?.is_empty(), "the answer goes on");
    }
    drop((sent, received, requests));
    connection.await??;
    counters
        .have_grown(&[("sent", 1_234), ("received", 1_234)])
        .await
}

async fn a_call_of_grpc_is_answered_message_by_message(mesh: &LocalMesh) -> Result<()> {
    let counters = Counters::of(mesh, "user-service").await?;
    let to = mesh.gateway_address()?;
    let channel = Endpoint::from_shared(format!("http://{to}"))?
        .connect()
        .await?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let (say, said) = mpsc::unbounded_channel();
    let said = stream::unfold(said, |mut said| async {
        let message: String = said.recv().await?;
        Some((message, said))
    });
    let method = PathAndQuery::from_static("/streams.Echo/Talk");
    let codec = ProstCodec::<String, String>::default();
    let call = client.streaming(tonic::Request::new(said), method, codec);
    // Before anything is said.
    let mut answers = turn("the head", call).await??.into_inner();
    for message in ["one", "{\"total\": 1}", "", &"x".repeat(100_000)] {
        say.send(message.to_owned())?;
        let answer = turn("an answer", answers.message()).await??;
        ensure!(answer == Some(format!("you said {message}")), "{answer:?}");
    }
    say.send("end".to_owned())?;
    let Err(end) = turn("the end", answers.message()).await? else {
        bail!("the call goes on");
    };
    ensure!(
        end.code() == Code::Aborted && end.message() == "as told",
        "{end:?}"
    );
    let last = end.metadata().get("x-last");
    ensure!(last.is_some_and(|last| last == "word"), "{end:?}");
    drop((say, answers, client));
    counters.have_grown(&[("content_type", 2)]).await
}

/// Each is sent, and comes back.
async fn documents_are_counted_or_skipped_for_their_reasons(mesh: &LocalMesh) -> Result<()> {
    const LEFT: &str = "";
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!("{{\"deep\": {open}{close}, \"total\": 1}}")
    };
    let total = |number: &str| format!("{{\"total\": {number}}}");
    let long = format!("{{\"note\": \"{}\", \"total\": 1}}", "x".repeat(1 << 16));
    for (content_type, encoding, body, expected) in [
        (JSON, "", total("1.25"), Ok(125)),
        (JSON, "identity", total("1.25"), Ok(125)),
        ("Application/JSON;v=1", "", total("1.25"), Ok(125)),
        (
            "application/problem+json; charset=utf-8",
            "",
            total("1.25"),
            Ok(125),
        ),
        (JSON, "", total("1e2"), Ok(10_000)),
        (JSON, "", total("12.5E-1"), Ok(125)),
        (JSON, "", total("-0"), Ok(0)),
        (JSON, "", total("\"1.25\""), Ok(125)),
        (JSON, "", "{\"total\": 1, \"total\": 2}".to_owned(), Ok(200)),
        (
            JSON,
            "",
            "{\"total\": 1, \"\\u0074otal\": 2}".to_owned(),
            Ok(200),
        ),
        (JSON, "", deep(127), Ok(100)),
        (JSON, "", deep(128), Err("not_json")),
        (JSON, "", total("1e999"), Err("too_large")),
        (JSON, "", total("1e-999"), Err("fraction")),
        (JSON, "", total("-1e999"), Err("negative")),
        (JSON, "", total(&"9".repeat(300)), Err("malformed")),
        (JSON, "", total("\"\\ud83d\""), Err("not_json")),
        (JSON, "", total("\"\\ud83d\\ude00\""), Err("malformed")),
        (JSON, "", total("NaN"), Err("not_json")),
        (JSON, "", total("+1"), Err("not_json")),
        (JSON, "", total("01"), Err("not_json")),
        (JSON, "", format!("\u{feff}{}", total("1")), Err("not_json")),
        (JSON, "", total("1") + &total("2"), Err("not_json")),
        (JSON, "", total("1") + "\n" + &total("2"), Err("not_json")),
        (JSON, "", total("1 /* one */"), Err("not_json")),
        (JSON, "", "{\"total\": 1".to_owned(), Err("truncated")),
        (JSON, "", long, Err("oversized")),
        (JSON, "", LEFT.to_owned(), Err("missing")),
        (JSON, "gzip", total("1"), Err("compressed")),
        (JSON, "identity, br", total("1"), Err("compressed")),
        ("application/x-ndjson", "", total("1"), Err("content_type")),
        ("text/html", "", total("1"), Err("content_type")),
        ("text/html", "", LEFT.to_owned(), Err("missing")),
    ] {
        let counters = Counters::of(mesh, "product-service").await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("{}/flow/answer", mesh.gateway());
        let mut request = http.post(url).header("content-type", content_type);
        if !encoding.is_empty() {
            request = request.header("content-encoding", encoding);
        }
        let answer = turn("the answer", request.body(body.clone()).send()).await??;
        ensure!(answer.status() == 200, "{answer:?}");
        ensure!(turn("the body", answer.bytes()).await?? == body.as_bytes());
        let growth = match expected {
            Ok(cents) => vec![("sent", cents), ("received", cents)],
            Err(reason) => vec![(reason, 2)],
        };
        let grown = counters.have_grown(&growth).await;
        grown.with_context(|| format!("{content_type} {encoding} {body:.80}"))?;
    }
    Ok(())
}

async fn what_has_no_body_or_half_of_one_is_skipped_for_its_reason(mesh: &LocalMesh) -> Result<()> {
    const TOTAL: &str = "{\"total\": 1}";
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = |path: &str| format!("{}/flow/{path}", mesh.gateway());

    // Headers of a body, too large even, and none.
    for (method, status) in [("HEAD", "200"), ("GET", "304"), ("GET", "204")] {
        let counters = Counters::of(mesh, "product-service").await?;
        let request = http.request(method.parse()?, url("answer"));
        let request = request
            .header("content-type", JSON)
            .header("x-status", status);
        let request = match status {
            "204" => request,
            _ => request.header("x-length", "100000"),
        };
        let answer = turn("the head", request.send()).await??;
        ensure!(answer.status().as_str() == status, "{answer:?}");
        ensure!(turn("the end", answer.bytes()).await??.is_empty());
        counters.have_grown(&[("missing", 2)]).await?;
    }

    // What comes first of an answer is no answer yet.
    let counters = Counters::of(mesh, "product-service").await?;
    let request = http.post(url("answer")).header("content-type", JSON);
    let request = request.header("expect", "100-continue").body(TOTAL);
    let answer = turn("the answer", request.send()).await??;
    ensure!(turn("the body", answer.bytes()).await?? == TOTAL);
    counters
        .have_grown(&[("sent", 100), ("received", 100)])
        .await?;

    let counters = Counters::of(mesh, "product-service").await?;
    let mut answer = turn("the head", http.get(url("broken")).send()).await??;
    let begin = turn("the beginning", answer.chunk()).await??;
    ensure!(begin.is_some_and(|begin| begin.starts_with(b"{\"total\": 1")));
    let next = turn("asking", http.post(url("next")).send()).await??;
    next.error_for_status()?;
    let end = turn("the end", answer.chunk()).await?;
    ensure!(end.is_err(), "it ends well: {end:?}");
    counters
        .have_grown(&[("missing", 1 + 2), ("truncated", 1)])
        .await?;

    // A client that hangs up, when it has half of the answer to half of its request.
    let counters = Counters::of(mesh, "product-service").await?;
    let mut connection = TcpStream::connect(mesh.gateway_address()?).await?;
    let head = format!(
        "POST /flow/answer HTTP/1.1\r\nhost: shop\r\ncontent-type: {JSON}\r\ncontent-length: 100\r\n\r\n"
    );
    connection
        .write_all((head + &TOTAL[..6]).as_bytes())
        .await?;
    let mut come = Vec::new();
    while !String::from_utf8_lossy(&come).contains(&TOTAL[..6]) {
        let more = turn("half of the answer", connection.read_buf(&mut come)).await??;
        ensure!(more > 0, "the connection ended: {come:?}");
    }
    drop(connection);
    counters.have_grown(&[("truncated", 2)]).await?;

    // A client has one answer, whatever was tried; a service has answered twice.
    let counters = Counters::of(mesh, "product-service").await?;
    let answer = turn("the answer", http.get(url("retried")).send()).await??;
    ensure!(answer.status() == 200, "{answer:?}");
    counters
        .have_grown_by(
            &[("missing", 1), ("received", 200)],
            &[("missing", 2), ("received", 100 + 200)],
        )
        .await
}

/// What is awaited of the other side.
async fn turn<T>(what: &str, answer: impl Future<Output = T>) -> Result<T> {
    let answer = timeout(TURN, answer).await;
    answer.with_context(|| format!("{what:?} is held back: it has not come within {TURN:?}"))
}

/// What the gateway and a service's sidecar had counted.
struct Counters<'m> {
    mesh: &'m LocalMesh,
    before: [(&'static str, Counted); 2],
}

/// The reasons to skip, and of what was not skipped the sums.
type Counted = BTreeMap<&'static str, u64>;

const REASONS: [&str; 10] = [
    "missing",
    "malformed",
    "negative",
    "fraction",
    "too_large",
    "content_type",
    "compressed",
    "oversized",
    "truncated",
    "not_json",
];

async fn counted(mesh: &LocalMesh, workload: &str) -> Result<Counted> {
    let metrics = mesh.metrics(workload).await?;
    let skipped = |reason| metrics.sum("s_skipped_total", &[("reason", reason)]);
    let mut counted: Counted = REASONS.map(|reason| (reason, skipped(reason))).into();
    counted.insert("sent", metrics.sum("s_sent_cents_total", &[]));
    counted.insert("received", metrics.sum("s_received_cents_total", &[]));
    Ok(counted)
}

impl<'m> Counters<'m> {
    async fn of(mesh: &'m LocalMesh, service: &'static str) -> Result<Self> {
        let of = async |workload| anyhow::Ok((workload, counted(mesh, workload).await?));
        Ok(Self {
            mesh,
            before: [of("ingressgateway").await?, of(service).await?],
        })
    }

    /// Waits until both have grown by this and by nothing else: a request is logged just after its answer has gone out.
    async fn have_grown(&self, by: &[(&'static str, u64)]) -> Result<()> {
        self.have_grown_by(by, by).await
    }

    /// The same of the gateway and of the sidecar.
    async fn have_grown_by(
        &self,
        gateway: &[(&'static str, u64)],
        sidecar: &[(&'static str, u64)],
    ) -> Result<()> {
        for ((workload, before), by) in self.before.iter().zip([gateway, sidecar]) {
            let mut expected = before.clone();
            for (what, more) in by {
                *expected.entry(what).or_default() += more;
            }
            let mut last = Counted::new();
            let so =
                settled_when(async || Ok(counted(self.mesh, workload).await? == expected)).await;
            if so.is_err() {
                last = counted(self.mesh, workload).await?;
            }
            so.with_context(|| format!("{workload} has counted {last:?}, not {expected:?}"))?;
        }
        Ok(())
    }
}
