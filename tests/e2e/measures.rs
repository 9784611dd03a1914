//! What business-metrics can count, on real Envoys: labels of all kinds, numbers, and values that come first, over four workers.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use http::Request;
use serde_json::json;
use tokio::task::JoinSet;
use tollgate_tests::http2::{self, Body};
use tollgate_tests::{Filter, Form, LocalMesh, Manifests, Options, Target, send};

use crate::client::Client;
use crate::metrics::settled;
use crate::tenants;

/// Of a histogram for which nobody has asked for others; with that for all values.
const ENVOYS_BUCKETS: usize = 20;

/// How many invented values come, by so many clients at once.
const INVENTED: u64 = 2_000;
const CLIENTS: u64 = 8;

/// The shop, whose gateway counts by everything that there is.
pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    let limiter = json!({
        "tenant": {"from": [{"claim": "tenant"}], "missing": {"tenant": "anonymous"}, "unknown": {"tier": "all"}},
        "tiers": {
            "all": {"unlimited": true},
            "tight": {"limits": [{"name": "daily", "quota": 3, "per": "day"}]},
        },
        "tenants": {"anonymous": {"tier": "all"}, "acme": {"tier": "all"}, "initech": {"tier": "tight"}},
    });
    tenants::configure(&manifests, form, &limiter)?;
    let metrics = json!({
        "labels": {
            "shop": {"header": "x-shop", "values": ["web"], "atMost": 5},
            "code": {"from": "grpcStatus"},
            "limit": {"from": "limit", "values": ["daily"]},
            "reason": {"from": "reason"},
            "plan": {"claim": "tenant", "values": ["acme"]},
            "version": {"responseHeader": "x-service-version", "values": ["v1", "v2"]},
            "zone": {"constant": "eu-1"},
            "status": {"from": "status"},
        },
        "metrics": [
            {"name": "m_requests_total", "labels": ["zone", "status"]},
            {"name": "m_first_total", "when": {"headers": {"x-shop": {"regex": ".*"}}}, "labels": ["shop"]},
            {"name": "m_calls_total", "when": {"headers": {"te": {"exact": "trailers"}}}, "labels": ["code"]},
            {"name": "m_refused_total", "when": {"reason": "limited"}, "labels": ["limit", "reason", "plan"]},
            {"name": "m_refused_calls_total", "when": {"grpcStatus": 8}, "labels": ["code"]},
            {"name": "m_versions_total", "when": {"responseHeaders": {"x-service-version": {"regex": "v[12]"}}}, "labels": ["version", "plan"]},
            {"name": "m_amount_cents_total", "value": {"header": "x-amount", "scale": 100, "max": 100000}, "when": {"headers": {"x-priced": {"exact": "yes"}}}},
            {"name": "m_sent_bytes_total", "value": {"from": "responseBytes"}, "when": {"path": {"exact": "/products/mug"}}},
            {"name": "m_received_bytes_total", "value": {"from": "requestBytes"}, "when": {"method": "POST"}},
            {"name": "m_last_bytes", "type": "gauge", "value": {"from": "responseBytes"}, "when": {"path": {"exact": "/products/mug"}}},
            {"name": "m_sizes_bytes", "type": "histogram", "value": {"from": "responseBytes"}, "when": {"path": {"exact": "/products/mug"}}, "labels": ["zone"]},
            {"name": "m_duration_milliseconds", "type": "histogram", "value": {"from": "duration"}, "when": {"path": {"exact": "/products/mug"}}, "labels": ["zone"]},
        ],
        "skippedMetric": "m_skipped_total",
    });
    let metrics = metrics
        .to_string()
        .replace(r#"{"prefix":""}"#, r#"{"regex":"(?s).*"}"#);
    manifests.configure(form, Filter::BusinessMetrics, &metrics)?;
    manifests.replace(
        "istio/ingress/ingressgateway.yaml",
        "extraStatTags: ",
        "extraStatTags: shop,code,plan,version,zone,",
    )?;
    // For one of the two histograms: of its name the label comes first.
    manifests.replace(
        "istio/ingress/ingressgateway.yaml",
        "      annotations:\n",
        "      annotations:\n        sidecar.istio.io/statsHistogramBuckets: '{\"wasmcustom.zone=.=eu-1;.;m_sizes\": [1000, 50]}'\n",
    )?;
    let workers = match form {
        Form::ThreeModules => 4,
        Form::Bundle => 2,
    };
    LocalMesh::start(
        manifests,
        Options {
            workers,
            ..Options::default()
        },
    )
}

/// Invented values, by eight clients over all workers, some of which would break the encoding: as many series as there is room for, and every request in one.
pub(crate) async fn first_values_are_the_same_for_all_workers(mesh: &LocalMesh) -> Result<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let http = Client::on_fresh_connections(mesh)?;
        clients.spawn(async move {
            for n in (client..INVENTED).step_by(CLIENTS as usize) {
                let shop = match n % 10 {
                    0 => format!("a;.;b=.={n}"),
                    1 => format!("cache.{n} \"quoted\" {{x}}"),
                    2 => "web".to_owned(),
                    _ => format!("shop-{n}"),
                };
                let reply = http.get("/products/none", &[("x-shop", &shop)]).await?;
                ensure!(reply.status == 404, "{reply:?}");
            }
            Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let gateway = settled(
        mesh,
        "ingressgateway",
        |m| m.sum("m_first_total", &[]),
        INVENTED,
    )
    .await?;
    ensure!(gateway.label_names("m_first_total") == ["shop"]);
    ensure!(gateway.names_with("m_first_total") == ["m_first_total"]);
    let values = gateway.label_values("m_first_total", "shop");
    ensure!(
        values.len() == 1 + 5 + 1 && values.contains(&"web") && values.contains(&"other"),
        "{values:?}"
    );
    let web = gateway.sum("m_first_total", &[("shop", "web")]);
    ensure!(web == INVENTED / 10, "{web}");
    Ok(())
}

pub(crate) async fn what_is_counted_is_what_was_seen(mesh: &LocalMesh) -> Result<()> {
    let acme = mesh.bearer("carol", "acme")?;
    let http = Client::on_fresh_connections(mesh)?.bearing(acme);
    let (mut versions, mut bytes, mut last, mut short) = (BTreeMap::new(), 0, 0, 0);
    for _ in 0..20 {
        let reply = http.get("/products/mug", &[]).await?;
        let version = reply.header("x-service-version").context("a version")?;
        *versions.entry(version.to_owned()).or_insert(0_u64) += 1;
        last = reply.body.len() as u64;
        bytes += last;
        short += u64::from(last < 50);
    }
    let amounts = [
        ("19.99", None),
        ("0.01", None),
        ("1e2", None),
        ("0.005", Some("fraction")),
        ("-1", Some("negative")),
        ("1000.01", Some("too_large")),
        ("much", Some("malformed")),
        ("", Some("missing")),
    ];
    for (amount, _) in amounts {
        let headers = [("x-priced", "yes"), ("x-amount", amount)];
        http.get("/products", &headers).await?;
    }
    let order = json!({"userId": "carol"});
    http.post("/orders", &[], &order).await?;
    let gateway = settled(
        mesh,
        "ingressgateway",
        |m| m.sum("m_versions_total", &[("plan", "acme")]) + m.sum("m_received_bytes_total", &[]),
        20 + amounts.len() as u64 + 1 + order.to_string().len() as u64,
    )
    .await?;
    for (version, count) in versions {
        let labels = [("version", version.as_str()), ("plan", "acme")];
        let counted = gateway.sum("m_versions_total", &labels);
        ensure!(counted >= count, "{version}: {counted} of {count}");
    }
    let sums = [
        ("m_amount_cents_total", 1_999 + 1 + 10_000),
        ("m_sent_bytes_total", bytes),
        ("m_last_bytes", last),
    ];
    for (name, expected) in sums {
        let counted = gateway.sum(name, &[]);
        ensure!(counted == expected, "{name}: {counted}, not {expected}");
    }
    for reason in amounts.iter().filter_map(|(_, reason)| *reason) {
        let counted = gateway.sum("m_skipped_total", &[("reason", reason)]);
        ensure!(counted == 1, "{reason}: {counted}");
    }
    // Envoy sums histograms up every few seconds.
    let recorded =
        |m: &tollgate_tests::Metrics| m.sum("m_duration_milliseconds_count", &[("zone", "eu-1")]);
    let gateway = settled(mesh, "ingressgateway", recorded, 20).await?;
    // A badge makes an answer longer than 50 bytes.
    let bounds = gateway.label_values("m_sizes_bytes_bucket", "le");
    ensure!(Vec::from_iter(bounds) == ["+Inf", "1000", "50"]);
    for (bound, expected) in [("50", short), ("1000", 20), ("+Inf", 20)] {
        let counted = gateway.sum("m_sizes_bytes_bucket", &[("le", bound)]);
        ensure!(counted == expected, "{bound}: {counted}, not {expected}");
    }
    let bounds = gateway.label_values("m_duration_milliseconds_bucket", "le");
    ensure!(bounds.len() == ENVOYS_BUCKETS, "{bounds:?}");
    Ok(())
}

pub(crate) async fn refusals_and_calls_have_their_reasons(mesh: &LocalMesh) -> Result<()> {
    let address = mesh.gateway_address()?;
    let initech = mesh.bearer("carol", "initech")?;
    let call = || {
        Request::post(format!("http://{address}/pkg.Service/Method"))
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .header("authorization", &initech)
            .body(())
    };
    let mut codes = BTreeMap::new();
    for _ in 0..5 {
        let answer = http2::send(address, call()?, Body::None).await?;
        let code = answer.header("grpc-status").context("a status")?;
        *codes.entry(code.to_owned()).or_insert(0_u64) += 1;
    }
    ensure!(codes.get("8") == Some(&2), "{codes:?}");
    let gateway = settled(mesh, "ingressgateway", |m| m.sum("m_refused_total", &[]), 2).await?;
    let labels = [("limit", "daily"), ("reason", "limited"), ("plan", "other")];
    ensure!(gateway.sum("m_refused_total", &labels) == 2);
    ensure!(gateway.sum("m_refused_calls_total", &[("code", "8")]) == 2);
    // Of a request that was refused its client's headers are not believed, so those three are all that this metric knows.
    for (code, count) in codes.iter().filter(|(code, _)| *code != "8") {
        let counted = gateway.sum("m_calls_total", &[("code", code)]);
        ensure!(counted == *count, "{code}: {counted} of {count}");
    }
    Ok(())
}

/// The shop, whose gateway counts what orders are worth: by the module that sees bodies.
pub(crate) fn with_bodies(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    let metrics = json!({
        "labels": {
            "tenant": {"from": "tenant", "values": ["acme", "globex"]},
            "user_type": {"from": "userType", "values": ["vip", "premium", "standard"]},
        },
        "routes": ["/orders"],
        "metrics": [
            {
                "name": "b_revenue_cents_total",
                "when": {"method": "POST", "route": "/orders", "status": 201},
                "value": {"responseBody": "/totalCents", "max": 1_000_000},
                "labels": ["tenant", "user_type"],
            },
            {
                "name": "b_tips_cents_total",
                "when": {"method": "POST", "route": "/orders", "headers": {"x-tips": {"exact": "yes"}}},
                "value": {"requestBody": "/tip", "scale": 100},
            },
        ],
        "maxBodyBytes": 2_048,
    });
    manifests.configure(form, Filter::BusinessMetrics, &metrics.to_string())?;
    let (file, _) = Filter::BusinessMetrics.place(form);
    let module = match form {
        Form::ThreeModules => "business-metrics",
        Form::Bundle => "tollgate",
    };
    // That of the gateway comes first.
    let (plain, sees) = (format!("/{module}:"), format!("/{module}-bodies:"));
    let text = manifests.read(file)?.replacen(&plain, &sees, 1);
    manifests.write(file, &text)?;
    LocalMesh::start(manifests, Options::default())
}

pub(crate) async fn revenue_is_counted_to_the_cent_out_of_bodies(mesh: &LocalMesh) -> Result<()> {
    let http = Client::on_fresh_connections(mesh)?;
    let mut worth = BTreeMap::new();
    for (user, tenant, user_type) in [
        ("alice", "globex", "vip"),
        ("alice", "globex", "vip"),
        ("carol", "acme", "premium"),
        ("alice", "acme", "vip"),
    ] {
        let bearer = mesh.bearer(user, tenant)?;
        let headers = [("authorization", &*bearer)];
        let order = json!({"userId": user});
        let reply = http.post("/orders", &headers, &order).await?;
        // Nobody else has something in the cart.
        if reply.status == 201 {
            let total = reply.json()?["totalCents"].as_u64().context("a total")?;
            *worth.entry((tenant, user_type)).or_insert(0) += total;
        }
    }
    ensure!(worth.len() >= 2, "{worth:?}");

    let bearer = mesh.bearer("alice", "globex")?;
    let address = mesh.gateway_address()?;
    let tip = |more: &str, body: &str| {
        format!(
            "POST /orders HTTP/1.1\r\nhost: shop\r\nconnection: close\r\nauthorization: {bearer}\r\nx-tips: yes\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    const JSON: &str = "content-type: application/json\r\n";
    let long = format!("{{\"tip\": 1, \"note\": \"{}\"}}", "x".repeat(2_048));
    let packed = format!("{JSON}content-encoding: gzip\r\n");
    for (more, body) in [
        (JSON, r#"{"tip": 0.29, "userId": "nobody"}"#),
        (JSON, r#"{"tip": "1.50"}"#),
        (JSON, r#"{"tip": 1, "tip": 2}"#),
        (JSON, r#"{"tip": 0.001}"#),
        (JSON, r#"{"tip": -5}"#),
        (JSON, r#"{"tip": 5"#),
        (JSON, "tip=5"),
        (JSON, r#"{"tips": 5}"#),
        (JSON, &long),
        (&packed, r#"{"tip": 5}"#),
        ("content-type: text/plain\r\n", r#"{"tip": 5}"#),
    ] {
        send(address, tip(more, body).as_bytes()).await?;
    }
    let gateway = settled(
        mesh,
        "ingressgateway",
        |m| m.sum("tollgate_skipped_total", &[]) + m.sum("b_tips_cents_total", &[]),
        29 + 150 + 200 + 8,
    )
    .await?;
    for ((tenant, user_type), cents) in worth {
        let labels = [("tenant", tenant), ("user_type", user_type)];
        let counted = gateway.sum("b_revenue_cents_total", &labels);
        ensure!(counted == cents, "{labels:?}: {counted}, not {cents}");
    }
    for reason in [
        "fraction",
        "negative",
        "truncated",
        "not_json",
        "missing",
        "oversized",
        "compressed",
        "content_type",
    ] {
        let counted = gateway.sum("tollgate_skipped_total", &[("reason", reason)]);
        ensure!(counted == 1, "{reason}: {counted}");
    }
    Ok(())
}
