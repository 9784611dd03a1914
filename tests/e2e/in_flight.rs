//! Limits on requests in flight, on an Envoy with four workers in front of a service that does with each request what the test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::body::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tollgate_tests::{Answer, LoneEnvoy, exchange};

type Test = fn() -> Result<()>;

/// Each has an Envoy of its own.
pub(crate) const TESTS: &[(&str, Test)] = &[
    ("as_many_as_allowed_and_not_one_more", || {
        crate::shared::block_on(as_many_as_allowed_and_not_one_more())
    }),
    ("a_place_is_free_at_once_however_a_request_ends", || {
        crate::shared::block_on(a_place_is_free_at_once_however_a_request_ends())
    }),
    ("a_limit_changes_while_requests_are_in_flight", || {
        crate::shared::block_on(a_limit_changes_while_requests_are_in_flight())
    }),
    ("a_limit_in_shadow_counts_and_holds_nobody_up", || {
        crate::shared::block_on(a_limit_in_shadow_counts_and_holds_nobody_up())
    }),
    ("a_dead_vm_s_places_are_free_within_five_seconds", || {
        crate::shared::block_on(a_dead_vm_s_places_are_free_within_five_seconds())
    }),
];

/// Generous: only something that is broken takes as long.
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Tenants with so many places each.
fn configuration(places: u64) -> Value {
    json!({
        "tenant": {"from": [{"header": "x-tenant-id", "vouched": true}], "unknown": {"tier": "everyone"}},
        "tiers": {"everyone": {"limits": [{"name": "parallel", "concurrent": places}]}},
        "tenants": {"acme": {"tier": "everyone"}},
    })
}

/// A service that keeps requests to `/hold` and its like until it is told what to do with them.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    held: Arc<AtomicUsize>,
    tell: watch::Sender<Verdict>,
}

/// What becomes of requests that are held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Hold,
    Answer,
    Reset,
}

impl Service {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let held = Arc::new(AtomicUsize::new(0));
        let (tell, told) = watch::channel(Verdict::Hold);
        let count = held.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, count.clone(), told.clone()));
            }
        });
        Ok(Self {
            address,
            held,
            tell,
        })
    }

    /// How many requests it holds.
    fn holds(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    async fn until_it_holds(&self, number: usize) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while self.holds() != number {
            ensure!(
                Instant::now() < deadline,
                "the service holds {} requests, not {number}",
                self.holds()
            );
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Does this with all that it holds, and then holds again what comes.
    async fn all(&self, verdict: Verdict) -> Result<()> {
        self.tell.send_replace(verdict);
        self.until_it_holds(0).await?;
        self.tell.send_replace(Verdict::Hold);
        Ok(())
    }
}

/// Counts a request as long as it is held, also if Envoy ends the connection.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(
    mut connection: TcpStream,
    held: Arc<AtomicUsize>,
    mut told: watch::Receiver<Verdict>,
) -> Result<()> {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let mut bytes = Vec::new();
    loop {
        while !bytes.ends_with(b"\r\n\r\n") {
            if connection.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8(std::mem::take(&mut bytes))?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.starts_with("/websocket") {
            let switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            connection.write_all(switched).await?;
            let _held = Held::new(held);
            while connection.read_buf(&mut bytes).await? > 0 {}
            return Ok(());
        }
        if path.starts_with("/again") && !head.contains("x-envoy-attempt-count: 2") {
            connection.set_zero_linger()?;
            return Ok(());
        }
        if path == "/quick" {
            connection.write_all(OK).await?;
            continue;
        }
        let _held = Held::new(held.clone());
        tokio::select! {
            verdict = told.wait_for(|verdict| *verdict != Verdict::Hold) => match *verdict? {
                Verdict::Reset => {
                    connection.set_zero_linger()?;
                    return Ok(());
                }
                Verdict::Answer | Verdict::Hold => {}
            },
            // Who is held sends nothing more: this is the end of the connection.
            _ = connection.read_buf(&mut bytes) => return Ok(()),
        }
        connection.write_all(OK).await?;
    }
}

/// A request that is on its way.
async fn begin(lone: &LoneEnvoy, tenant: &str, path: &str, more: &str) -> Result<TcpStream> {
    let mut connection = TcpStream::connect(lone.address).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: shop\r\nx-tenant-id: {tenant}\r\n{more}\r\n");
    connection.write_all(request.as_bytes()).await?;
    Ok(connection)
}

/// The status that it is answered with; none if the connection ends without an answer.
async fn status(connection: &mut TcpStream) -> Result<Option<u16>> {
    let mut bytes = Vec::new();
    let read = async {
        while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            match connection.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    timeout(DEADLINE, read).await.context("no answer")?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok()))
}

/// A request that is answered at once, if it is let in.
pub(crate) async fn quick(lone: &LoneEnvoy, tenant: &str) -> Result<Answer> {
    exchange(
        lone.address,
        "/quick",
        &[(b"x-tenant-id", tenant.as_bytes())],
    )
    .await
}

/// Waits until the tenant is let in again, by whichever worker.
async fn until_let_in(lone: &LoneEnvoy, tenant: &str) -> Result<Duration> {
    let begin = Instant::now();
    loop {
        let answer = quick(lone, tenant).await?;
        match answer.status {
            200 => return Ok(begin.elapsed()),
            429 => {}
            _ => bail!("{answer:?}"),
        }
        ensure!(
            begin.elapsed() < DEADLINE,
            "{tenant} has nothing in flight and is refused: {answer:?}"
        );
        sleep(LOOK).await;
    }
}

async fn as_many_as_allowed_and_not_one_more() -> Result<()> {
    const PLACES: usize = 10;
    let service = Service::start().await?;
    let lone = LoneEnvoy::start(4, &configuration(PLACES as u64), service.address).await?;
    for (round, tenant) in ["acme", "somebody", "acme", "acme"].into_iter().enumerate() {
        let mut answers = JoinSet::new();
        for _ in 0..60 {
            let mut connection = begin(&lone, tenant, "/hold", "").await?;
            answers.spawn(async move { status(&mut connection).await });
        }
        let mut all = Vec::new();
        while all.len() < 60 - PLACES {
            let answer = answers
                .join_next()
                .await
                .context("no request is left")???;
            all.push(answer);
        }
        ensure!(
            all.iter().all(|status| *status == Some(429)),
            "round {round}: {all:?}"
        );
        service.until_it_holds(PLACES).await?;
        let refused = quick(&lone, tenant).await?;
        ensure!(
            refused.status == 429
                && refused.header("ratelimit") == Some(r#""parallel";r=0"#)
                && refused.header("ratelimit-policy")
                    == Some(r#""parallel";q=10;qu="concurrent-requests""#)
                && refused.header("retry-after") == Some("1"),
            "{refused:?}"
        );
        let other = quick(&lone, "another").await?;
        ensure!(
            other.status == 200 && other.header("ratelimit") == Some(r#""parallel";r=9"#),
            "{other:?}"
        );
        service.all(Verdict::Answer).await?;
        while let Some(answer) = answers.join_next().await {
            ensure!(answer?? == Some(200), "round {round}");
        }
        until_let_in(&lone, tenant).await?;
    }
    let connections = {
        let mut served = 0;
        for worker in 0..4 {
            let stat = format!("listener.lone.worker_{worker}.downstream_cx_total");
            served += u32::from(lone.stat(&stat).await? > 0);
        }
        served
    };
    ensure!(
        connections >= 3,
        "only {connections} workers took connections"
    );
    Ok(())
}

async fn a_place_is_free_at_once_however_a_request_ends() -> Result<()> {
    const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let service = Service::start().await?;
    let lone = LoneEnvoy::start(4, &configuration(1), service.address).await?;
    // While one is on its way, no other is let in.
    let holds = async |tenant: &str| -> Result<()> {
        service.until_it_holds(1).await?;
        let refused = quick(&lone, tenant).await?;
        ensure!(refused.status == 429, "{tenant}: {refused:?}");
        Ok(())
    };
    // More often than there are workers, so that the place is not free only where it was taken.
    for round in 0..6 {
        for (tenant, path, verdict, expected) in [
            ("answered", "/hold", Some(Verdict::Answer), 200),
            ("reset", "/hold", Some(Verdict::Reset), 503),
            ("tried-again", "/again", Some(Verdict::Answer), 200),
            ("hasty", "/hasty", None, 504),
            ("silent", "/silent", None, 504),
        ] {
            let mut connection = begin(&lone, tenant, path, "").await?;
            holds(tenant)
                .await
                .with_context(|| format!("round {round}"))?;
            if let Some(verdict) = verdict {
                service.all(verdict).await?;
            }
            let status = status(&mut connection).await?;
            ensure!(status == Some(expected), "{tenant}: {status:?}");
            until_let_in(&lone, tenant).await?;
        }

        let connection = begin(&lone, "gone", "/hold", "").await?;
        holds("gone").await?;
        drop(connection);
        until_let_in(&lone, "gone").await?;

        let mut connection = begin(&lone, "websocket", "/websocket", UPGRADE).await?;
        let switched = status(&mut connection).await?;
        ensure!(switched == Some(101), "{switched:?}");
        holds("websocket").await?;
        drop(connection);
        until_let_in(&lone, "websocket").await?;

        // A filter behind the limiter answers.
        let answer = exchange(
            lone.address,
            "/forbidden",
            &[(b"x-tenant-id", b"forbidden")],
        )
        .await?;
        ensure!(answer.status == 403, "{answer:?}");
        until_let_in(&lone, "forbidden").await?;

        service.until_it_holds(0).await?;
    }

    // Over HTTP/2 a client ends one of several.
    let (mut requests, _connection) = http2(&lone).await?;
    let stream = hold(&mut requests, "stream").await?;
    holds("stream").await?;
    drop(stream);
    until_let_in(&lone, "stream").await?;
    Ok(())
}

async fn a_limit_changes_while_requests_are_in_flight() -> Result<()> {
    let service = Service::start().await?;
    let mut lone = LoneEnvoy::start(4, &configuration(3), service.address).await?;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(begin(&lone, "acme", "/hold", "").await?);
    }
    service.until_it_holds(3).await?;
    ensure!(quick(&lone, "acme").await?.status == 429);

    lone.configure(&configuration(4)).await?;
    until_policy(&lone, 4).await?;
    held.push(begin(&lone, "acme", "/hold", "").await?);
    service.until_it_holds(4).await?;
    let refused = quick(&lone, "acme").await?;
    ensure!(refused.status == 429, "{refused:?}");

    // The oldest go first: those of the first configuration.
    lone.configure(&configuration(2)).await?;
    until_policy(&lone, 2).await?;
    for left in [3, 2] {
        drop(held.remove(0));
        service.until_it_holds(left).await?;
        // Nothing says that a worker has seen the end of it, so for a while it must stay as it is.
        for _ in 0..20 {
            let refused = quick(&lone, "acme").await?;
            ensure!(
                refused.status == 429,
                "{left} of 2 are in flight: {refused:?}"
            );
            sleep(LOOK).await;
        }
    }
    drop(held.remove(0));
    until_let_in(&lone, "acme").await?;

    // Without such a limit there is nothing to be counted; with it, what is still there counts.
    let mut without = configuration(2);
    without["tiers"]["everyone"]["limits"] =
        json!([{"name": "rate", "requests": 1000, "per": "1s"}]);
    lone.configure(&without).await?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answers = [quick(&lone, "acme").await?, quick(&lone, "acme").await?];
        if answers
            .iter()
            .all(|answer| answer.header("ratelimit-policy") == Some(r#""rate";q=1000;w=1"#))
        {
            break;
        }
        ensure!(Instant::now() < deadline, "{answers:?}");
        sleep(LOOK).await;
    }
    // Longer than a VM may be silent: it gives signs of life as long as it has something in flight, whatever is configured.
    sleep(Duration::from_secs(6)).await;
    lone.configure(&configuration(1)).await?;
    until_policy(&lone, 1).await?;
    for _ in 0..20 {
        let refused = quick(&lone, "acme").await?;
        ensure!(refused.status == 429, "one is in flight: {refused:?}");
    }
    service.all(Verdict::Answer).await?;
    ensure!(status(&mut held[0]).await? == Some(200));
    until_let_in(&lone, "acme").await?;
    Ok(())
}

/// Waits until every worker goes by a limit of so many.
async fn until_policy(lone: &LoneEnvoy, places: u64) -> Result<()> {
    let expected = format!(r#""parallel";q={places};qu="concurrent-requests""#);
    let deadline = Instant::now() + DEADLINE;
    let mut in_a_row = 0;
    while in_a_row < 30 {
        let answer = quick(lone, "looks").await?;
        in_a_row = match answer.header("ratelimit-policy") == Some(expected.as_str()) {
            true => in_a_row + 1,
            false => 0,
        };
        ensure!(Instant::now() < deadline, "not {expected}: {answer:?}");
    }
    Ok(())
}

async fn a_dead_vm_s_places_are_free_within_five_seconds() -> Result<()> {
    const PLACES: usize = 8;
    let service = Service::start().await?;
    let lone = LoneEnvoy::start(4, &configuration(PLACES as u64), service.address).await?;
    // Each on a connection of its own, and so on some worker.
    let mut connections = Vec::new();
    for _ in 0..PLACES {
        let (mut requests, connection) = http2(&lone).await?;
        let answer = hold(&mut requests, "acme").await?;
        connections.push((requests, connection, answer));
    }
    service.until_it_holds(PLACES).await?;
    // For as long as VMs need their signs of life.
    let settled = Instant::now();
    while settled.elapsed() < Duration::from_secs(6) {
        let refused = quick(&lone, "acme").await?;
        ensure!(refused.status == 429, "{refused:?}");
        sleep(Duration::from_millis(100)).await;
    }

    let (requests, _, _) = connections.first_mut().context("a connection")?;
    let uri = format!("http://{}/quick", lone.address);
    let killer = Request::get(uri).header("x-die", "now").body(())?;
    let (answer, _) = requests.clone().ready().await?.send_request(killer, true)?;
    let died = Instant::now();
    let answer = timeout(DEADLINE, answer).await?;
    ensure!(
        answer.as_ref().is_ok_and(|answer| answer.status() == 503),
        "who kills a VM is answered {answer:?}"
    );

    // All that come now want to stay.
    let mut new = Vec::new();
    let mut refused_before = 0;
    while died.elapsed() < Duration::from_secs(9) {
        let mut connection = begin(&lone, "acme", "/hold", "").await?;
        // Whoever is let in has no answer.
        match timeout(Duration::from_millis(100), status(&mut connection)).await {
            Err(_) => new.push((died.elapsed(), connection)),
            Ok(answer) => match answer? {
                Some(429) => refused_before += u32::from(new.is_empty()),
                // Of the worker whose VM is dead, until it has another one.
                Some(503) if died.elapsed() < Duration::from_secs(3) => {}
                other => bail!("{:?} after a VM died: {other:?}", died.elapsed()),
            },
        }
    }
    ensure!(refused_before > 0, "the limit was off when a VM had died");
    // On a busy machine a refusal may have come later than that.
    let mut last = Duration::ZERO;
    let mut taken = Vec::new();
    for (since, mut connection) in new {
        match timeout(Duration::from_secs(1), status(&mut connection)).await {
            Ok(answer) => ensure!(answer? == Some(429)),
            Err(_) => {
                taken.push(connection);
                last = last.max(since);
            }
        }
    }

    service.all(Verdict::Answer).await?;
    let mut survived = 0;
    for (_, _, answer) in connections {
        match timeout(DEADLINE, answer).await? {
            Ok(answer) if answer.status() == 200 => survived += 1,
            // What a dead VM had in flight fails.
            other => eprintln!("in flight in a VM that died: {other:?}"),
        }
    }
    let lost = PLACES - survived;
    eprintln!(
        "{lost} of {PLACES} requests were lost with a VM; their places were free {last:?} later"
    );
    ensure!(
        lost > 0 && survived > 0,
        "{survived} of {PLACES} requests survived"
    );
    ensure!(
        taken.len() == lost,
        "{lost} places were lost with a VM, and {} were taken again",
        taken.len()
    );
    // The time of one look after another, on a busy machine.
    ensure!(
        last < Duration::from_secs(7),
        "the last place was free after {last:?}"
    );
    for connection in &mut taken {
        ensure!(status(connection).await? == Some(200));
    }
    until_let_in(&lone, "acme").await?;
    Ok(())
}

type Connection = tokio::task::JoinHandle<Result<(), h2::Error>>;

async fn http2(lone: &LoneEnvoy) -> Result<(SendRequest<Bytes>, Connection)> {
    let (requests, connection) = client::handshake(TcpStream::connect(lone.address).await?).await?;
    Ok((requests, tokio::spawn(connection)))
}

/// A request that the service holds.
async fn hold(requests: &mut SendRequest<Bytes>, tenant: &str) -> Result<ResponseFuture> {
    let request = Request::get("http://shop/hold")
        .header("x-tenant-id", tenant)
        .body(())?;
    let (answer, _) = requests
        .clone()
        .ready()
        .await?
        .send_request(request, true)?;
    Ok(answer)
}

async fn a_limit_in_shadow_counts_and_holds_nobody_up() -> Result<()> {
    let of_mode = |places: u64, mode: &str| {
        let mut configuration = configuration(places);
        configuration["tiers"]["everyone"]["limits"][0]["mode"] = json!(mode);
        configuration["metrics"] = json!({"shadowed": "shadowed_total"});
        configuration
    };
    let service = Service::start().await?;
    let mut lone = LoneEnvoy::start(4, &of_mode(2, "shadow"), service.address).await?;
    let shadowed = async |lone: &LoneEnvoy| lone.stat("shadowed_total").await;
    let mut held = Vec::new();
    for number in 1..=5 {
        held.push(begin(&lone, "acme", "/hold", "").await?);
        service.until_it_holds(number).await?;
        // A request has been counted before the service has it.
        let counted = shadowed(&lone).await?;
        ensure!(
            counted == number.saturating_sub(2) as u64,
            "{number}: {counted}"
        );
    }
    let answer = quick(&lone, "acme").await?;
    ensure!(
        answer.status == 200 && answer.header("ratelimit-policy").is_none(),
        "{answer:?}"
    );
    ensure!(shadowed(&lone).await? == 4);

    // One of those that it would have let in ends, so it would let in another, though four are there.
    drop(held.remove(0));
    service.until_it_holds(4).await?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let before = shadowed(&lone).await?;
        ensure!(quick(&lone, "acme").await?.status == 200);
        if shadowed(&lone).await? == before {
            break;
        }
        ensure!(Instant::now() < deadline, "{before} are too many");
        sleep(LOOK).await;
    }

    // Enforced, it counts what is really there.
    lone.configure(&of_mode(3, "enforce")).await?;
    until_policy(&lone, 3).await?;
    ensure!(quick(&lone, "acme").await?.status == 429);
    drop(held.remove(0));
    service.until_it_holds(3).await?;
    for _ in 0..20 {
        ensure!(quick(&lone, "acme").await?.status == 429, "three are there");
        sleep(LOOK).await;
    }
    drop(held);
    until_let_in(&lone, "acme").await?;

    let deadline = Instant::now() + DEADLINE;
    let noted = r#"acme 200 "acme everyone parallel limited" :status: 429 | retry-after: 1 | ratelimit-policy: "parallel";q=2;qu="concurrent-requests" | ratelimit: "parallel";r=0"#;
    while !lone.access_log().lines().any(|line| line == noted) {
        ensure!(Instant::now() < deadline, "{}", lone.access_log());
        sleep(LOOK).await;
    }
    Ok(())
}
