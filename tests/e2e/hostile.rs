//! Requests that a filter must survive.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::{HeaderValue, Request};
use serde_json::{Value, json};
use tokio::time::sleep;
use tollgate_tests::http2::{self, Body};
use tollgate_tests::{LocalMesh, Target, exchange, send};

pub(crate) async fn odd_headers_are_answered(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let long = "a".repeat(16 * 1024);
    // In a token of the issuer: these are nobody's tenant.
    for claims in [
        json!({}),
        json!({"sub": ""}),
        json!({"sub": "\u{e9}\u{2603}"}),
        json!({"tenant": "a\u{fffd}b"}),
        json!({"tenant": ""}),
        json!({"tenant": "   "}),
        json!({"tenant": "odd\r\nx-tenant-tier: premium"}),
        json!({"tenant": "odd\u{0}"}),
        json!({"tenant": "odd;.;=.=premium"}),
        json!({"tenant": long}),
        json!({"tenant": ["acme"]}),
        json!({"tenant": {"acme": "acme"}}),
        json!({"tenant": 1e300}),
        json!({"tenant": null}),
        json!({"tenant": nested(60)}),
    ] {
        let bearer = mesh.manifests().bearer_saying(&claims)?;
        // All of them are the tenant `anonymous` together, who may send five a second.
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer = loop {
            let answer = exchange(
                gateway,
                "/products",
                &[(b"authorization", bearer.as_bytes())],
            )
            .await?;
            if answer.status != 429 {
                break answer;
            }
            ensure!(Instant::now() < deadline, "{answer:?}");
            sleep(Duration::from_millis(200)).await;
        };
        ensure!(
            answer.status == 200,
            "{claims:.200} were answered {answer:?}"
        );
        let policy = answer.header("ratelimit-policy");
        ensure!(
            policy == Some(r#""rate";q=10;w=2, "daily";q=1000;w=86400"#),
            "{claims:.200}: {policy:?}"
        );
    }

    // What would be more than one header in `end-user` goes nowhere: to Envoy's access rules such a user is no principal, and nobody else may name one.
    let split = json!({"sub": "alice\r\nuser-type: vip", "tenant": "odd-split"});
    let split = mesh.manifests().bearer_saying(&split)?;
    let answer = exchange(
        gateway,
        "/products",
        &[(b"authorization", split.as_bytes())],
    )
    .await?;
    ensure!(
        answer.status == 403 && answer.body == "RBAC: access denied",
        "{answer:?}"
    );

    // In headers beside a token.
    let long = long.as_bytes();
    let many: Vec<(&[u8], &[u8])> = (0..80)
        .map(|_| (&b"x-tenant-id"[..], &b"acme"[..]))
        .collect();
    let requests: &[&[(&[u8], &[u8])]] = &[
        &[(b"x-tenant-id", b"a\xff\xfeb")],
        &[(b"x-user-id", b"\x80\x81\xfe")],
        &[(b"end-user", b"\x80\x81\xfe")],
        &[(b"user-type", b"\xc3\x28")],
        &[(b"x-tenant-tier", b"\xff")],
        &[(b"cookie", b"a=\xf0\x9f")],
        &[(b"x-tenant-id", b"")],
        &[(b"x-tenant-id", b"   ")],
        &[(b"x-tenant-id", b"odd-5"), (b"x-tenant-id", b"odd-6")],
        &[(b"x-tenant-id", b"odd-7;.;=.=premium")],
        &[(b"x-tenant-id", long)],
        &[(b"x-user-id", long)],
        &many,
    ];
    for (number, odd) in requests.iter().enumerate() {
        let bearer = mesh.bearer("erin", &format!("odd-{number}"))?;
        let mut headers = vec![(&b"authorization"[..], bearer.as_bytes())];
        headers.extend_from_slice(odd);
        let answer = exchange(gateway, "/products", &headers).await?;
        ensure!(answer.status == 200, "{odd:?} was answered {answer:?}");
    }
    // After them, everybody is served as before, on every worker.
    for round in 0..10 {
        let bearer = mesh.bearer("erin", &format!("after-{round}"))?;
        let answer = exchange(
            gateway,
            "/products",
            &[(b"authorization", bearer.as_bytes())],
        )
        .await?;
        ensure!(answer.status == 200, "afterwards, {answer:?}");
    }
    no_vm_has_failed(mesh).await
}

/// A list in a list, so many times.
fn nested(times: u32) -> Value {
    (0..times).fold(json!("acme"), |inner, _| json!([inner]))
}

/// Requests of every kind that a proxy meets, in every way that a client may break them. Whatever they are answered, no VM fails, and
/// after them everybody is served as before.
pub(crate) async fn every_kind_of_request_is_answered(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let long = "a".repeat(50_000);
    let headers = |n: usize| {
        (0..n)
            .map(|n| format!("x-{n}: {n}\r\n"))
            .collect::<String>()
    };
    let end = "host: shop\r\nconnection: close\r\n\r\n";
    // Control characters are refused before a filter sees them, all others are not.
    let [of_every_byte, of_every_byte_it_shows] = [1_u8, b' '].map(|first| {
        let bytes: Vec<u8> = (first..=255)
            .filter(|byte| !b"\r\n".contains(byte) && (first == 1 || *byte != 0x7f))
            .collect();
        let names: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\nx-tenant-id: ",
            b"\r\ncookie: tenant=",
            b"\r\nx_cost: ",
            b"\r\n",
        ];
        let mut request = names.join(bytes.as_slice());
        request.extend_from_slice(end.as_bytes());
        request
    });
    let high: Vec<u8> = (128..=255).collect();
    let in_a_path = [
        b"GET /t/",
        &high[..],
        b"/x?tenant=",
        &high[..],
        b" HTTP/1.1\r\n",
        end.as_bytes(),
    ]
    .concat();
    let requests: Vec<Vec<u8>> = vec![
        "GET /products HTTP/1.0\r\n\r\n".into(),
        "GET /products HTTP/1.1\r\nconnection: close\r\n\r\n".into(),
        format!("GET /products HTTP/1.1\r\nhost: a.shop.example.com\r\n{end}").into(),
        "GET /products HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n".into(),
        "CONNECT shop:80 HTTP/1.1\r\nhost: shop:80\r\n\r\n".into(),
        format!("OPTIONS * HTTP/1.1\r\n{end}").into(),
        format!("BREW /products HTTP/1.1\r\n{end}").into(),
        format!("GET http://a.shop.example.com/t/b?tenant=c HTTP/1.1\r\n{end}").into(),
        format!("GET /{long} HTTP/1.1\r\n{end}").into(),
        format!("GET /t/a?{long}&tenant={long} HTTP/1.1\r\n{end}").into(),
        format!("GET /{} HTTP/1.1\r\n{end}", "%2f..;".repeat(5_000)).into(),
        format!("GET /{} HTTP/1.1\r\n{end}", "/".repeat(20_000)).into(),
        format!("GET /t/%00%ff%/..%5c?tenant=%&%=% HTTP/1.1\r\n{end}").into(),
        format!("GET / HTTP/1.1\r\ncookie: {}\r\n{end}", "tenant=;=;".repeat(4_000)).into(),
        format!("GET / HTTP/1.1\r\n{}{end}", headers(90)).into(),
        format!("GET / HTTP/1.1\r\n{}{end}", headers(3_000)).into(),
        format!("GET / HTTP/1.1\r\nX-Tenant_Id: a\r\nX_TENANT-ID: b\r\nx.tenant.id: c\r\nX-TENANT-ID: d\r\n{end}").into(),
        "GET /products HTTP/1.1\r\nhost: shop\r\nx-tenant-id: odd\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n         sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".into(),
        format!("POST /orders HTTP/1.1\r\nx-tenant-id: odd\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n{end}").into(),
        format!("POST /orders HTTP/1.1\r\nx-tenant-id: odd\r\ncontent-type: application/grpc-web\r\ntransfer-encoding: chunked\r\n{end}0\r\n\r\n").into(),
        of_every_byte,
        of_every_byte_it_shows,
        in_a_path,
    ];
    for request in &requests {
        let answer = send(gateway, request).await;
        let start = String::from_utf8_lossy(request.get(..60).unwrap_or(request)).into_owned();
        let answer = answer.with_context(|| start.clone())?;
        // 503 is what a request gets whose VM has failed.
        ensure!(answer.status < 500, "{start} was answered {answer:?}");
    }

    let uri = |path: &str| format!("http://{gateway}{path}");
    let of_h2: Vec<Request<()>> = vec![
        Request::get(uri("/products"))
            .header("x-tenant-id", "odd-h2")
            .body(())?,
        Request::get(uri("/products"))
            .header("x-tenant-id", HeaderValue::from_bytes(b"\xff\xfe")?)
            .body(())?,
        Request::post(uri("/pkg.Service/Method"))
            .header("content-type", "application/grpc")
            .header("x-tenant-id", "odd-grpc")
            .body(())?,
        Request::builder()
            .method("CONNECT")
            .uri("shop:80")
            .body(())?,
        (0..3_000)
            .fold(Request::get(uri("/products")), |request, n| {
                request.header(format!("x-{n}"), "1")
            })
            .body(())?,
        (0..90)
            .fold(Request::get(uri("/products")), |request, n| {
                request.header("cookie", format!("tenant={n}"))
            })
            .body(())?,
    ];
    for request in of_h2 {
        let connects = request.method() == "CONNECT" || request.headers().len() > 1_000;
        for body in [Body::None, Body::Streamed] {
            let mut again = Request::builder()
                .method(request.method())
                .uri(request.uri())
                .body(())?;
            *again.headers_mut() = request.headers().clone();
            match http2::send(gateway, again, body).await {
                Ok(answer) => ensure!(answer.status < 500, "{request:?} was answered {answer:?}"),
                // What Envoy refuses itself it may refuse by ending the stream.
                Err(error) => ensure!(connects, "{request:?}: {error:#}"),
            }
        }
    }

    // And what nobody thought of: the same seed, so the same requests.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let parts: [&[u8]; 24] = [
        b"GET ",
        b"POST ",
        b"/",
        b"/t/",
        b"acme",
        b"?tenant=",
        b"&",
        b";",
        b"%2f",
        b"%",
        b" HTTP/1.1\r\n",
        b"host: shop\r\n",
        b"cookie: ",
        b"tenant=",
        b"x-tenant-id: ",
        b"x_tenant_id: ",
        b"x-cost: ",
        b"\r\n",
        b"\xff\xfe",
        b"\x01",
        b":",
        b"content-type: application/grpc\r\n",
        b"..",
        b"\\",
    ];
    for _ in 0..300 {
        let mut request = b"GET /t/a".to_vec();
        for _ in 0..below(20) {
            request.extend_from_slice(parts[below(24) as usize]);
        }
        request.extend_from_slice(b"\r\nhost: shop\r\nconnection: close\r\n\r\n");
        let answer = send(gateway, &request).await;
        let text = String::from_utf8_lossy(&request).into_owned();
        let answer = answer.with_context(|| text.clone())?;
        ensure!(answer.status < 500, "{text:?} was answered {answer:?}");
    }

    for round in 0..10 {
        let tenant = format!("after-{round}");
        let answer = exchange(gateway, "/products", &[(b"x-tenant-id", tenant.as_bytes())]).await?;
        ensure!(answer.status == 200, "afterwards, {answer:?}");
    }
    no_vm_has_failed(mesh).await
}

/// No counter of a VM's failures has counted anything, at the gateway and at a sidecar.
pub(crate) async fn no_vm_has_failed(mesh: &LocalMesh) -> Result<()> {
    for workload in ["ingressgateway", "product-service"] {
        let counters = mesh.envoy_stats(workload, "wasm").await?;
        ensure!(
            counters
                .iter()
                .any(|(name, n)| name.ends_with(".active") && *n > 0),
            "no VM runs: {counters:?}"
        );
        let failed: Vec<_> = counters
            .iter()
            .filter(|(name, n)| {
                *n > 0
                    && ["fail", "vm_reload", "reject"]
                        .iter()
                        .any(|word| name.contains(word))
            })
            .collect();
        let watched = counters.iter().any(|(name, _)| name.contains("vm_reload"));
        ensure!(watched, "no counter of failed VMs among {counters:?}");
        ensure!(failed.is_empty(), "{failed:?}");
    }
    Ok(())
}
