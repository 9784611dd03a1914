//! The business numbers in the Envoys' Prometheus output.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tollgate_tests::{LocalMesh, Metrics, Target};

use crate::client::Client;

pub(crate) async fn the_four_counters_are_exact(mesh: &LocalMesh) -> Result<()> {
    let client = Client::of(mesh)?;
    let [alice, carol] = ["alice", "carol"].map(|user| mesh.bearer(user, "initech"));
    let (alice, carol) = ([("authorization", &*alice?)], [("authorization", &*carol?)]);

    // What the client saw, by user type, route and status: that is what must be counted.
    let mut seen: BTreeMap<(&str, &str, u16), u64> = BTreeMap::new();
    let mut sequence = Vec::new();
    sequence.extend([
        ("alice", "/products/mug", "/products/{id}"),
        ("carol", "/products?page=2", "/products"),
    ]);
    sequence.extend([
        ("carol", "/nowhere/at/all", "other"),
        ("carol", "/no-such-path", "other"),
    ]);
    // Far more than a burst of 10: some are refused.
    sequence.extend([("carol", "/products", "/products"); 60]);
    let order = client
        .post("/orders", &alice, &json!({"userId": "alice"}))
        .await?;
    ensure!(order.status == 201, "{order:?}");
    for (user, path, route) in sequence {
        let headers = if user == "alice" { &alice } else { &carol };
        let answer = client.get(path, headers).await?;
        // A refused request is never classified.
        let user_type = match (answer.status, user) {
            (429, _) => "none",
            (_, "alice") => "vip",
            _ => "standard",
        };
        *seen.entry((user_type, route, answer.status)).or_default() += 1;
    }
    *seen.entry(("vip", "/orders", 201)).or_default() += 1;
    let refused = seen
        .iter()
        .filter(|((_, _, status), _)| *status == 429)
        .map(|(_, n)| n)
        .sum::<u64>();
    ensure!(refused > 0, "no request was refused: {seen:?}");
    ensure!(
        seen.get(&("standard", "other", 503)) == Some(&1),
        "the service without pods is not answered 503: {seen:?}"
    );

    let total: u64 = seen.values().sum();
    let gateway = settled(
        mesh,
        "ingressgateway",
        |m| m.sum("shop_requests_total", &[("tenant", "initech")]),
        total,
    )
    .await?;
    for ((user_type, route, status), count) in &seen {
        let status = status.to_string();
        let labels = [
            ("tenant", "initech"),
            ("tier", "free"),
            ("user_type", *user_type),
            ("route", *route),
            ("status", &status),
        ];
        let counted = gateway.sum("shop_requests_total", &labels);
        ensure!(
            counted == *count,
            "{labels:?}: seen {count}, counted {counted}"
        );
    }
    let orders = [
        ("tenant", "initech"),
        ("user_type", "vip"),
        ("status", "201"),
    ];
    ensure!(
        gateway.sum("shop_orders_total", &orders) == 1,
        "the order was not counted"
    );
    ensure!(
        gateway.sum("shop_orders_total", &[("tenant", "initech")]) == 1,
        "more than the order was counted"
    );
    let by_rate = gateway.sum(
        "shop_refused_total",
        &[("tenant", "initech"), ("limit", "rate")],
    );
    ensure!(
        by_rate == refused,
        "{refused} were refused, {by_rate} counted"
    );

    // Labels, not label text in names.
    for (metric, labels) in [
        (
            "shop_requests_total",
            &["route", "status", "tenant", "tier", "user_type"][..],
        ),
        ("shop_orders_total", &["status", "tenant", "user_type"]),
        ("shop_refused_total", &["limit", "reason", "tenant", "tier"]),
    ] {
        ensure!(
            gateway.label_names(metric) == labels,
            "{metric} has the labels {:?}",
            gateway.label_names(metric)
        );
        ensure!(
            gateway.names_with(metric) == [metric],
            "{:?}",
            gateway.names_with(metric)
        );
    }

    // Whoever is of a premium tenant is premium, and nobody is by saying so: neither with a token of another tenant nor without one.
    let acme = mesh.bearer("dave", "acme")?;
    client
        .get("/users/dave", &[("authorization", &acme)])
        .await?;
    let pretender = mesh.bearer("dave", "pretender")?;
    for tier in ["x-tenant-tier", "x_tenant_tier"] {
        let words = [
            (tier, "premium"),
            ("x-tenant-id", "acme"),
            ("x-user-id", "alice"),
            ("user-type", "vip"),
            ("user_type", "vip"),
        ];
        client.get("/users/dave", &words).await?;
        let mut words = words.to_vec();
        words.push(("authorization", &pretender));
        client.get("/users/dave", &words).await?;
    }
    let users = |m: &Metrics| m.sum("shop_requests_total", &[("route", "/users/{id}")]);
    let gateway = settled(mesh, "ingressgateway", users, 5).await?;
    for (tenant, tier, user_type, count) in [
        ("acme", "premium", "premium", 1),
        ("other", "free", "standard", 2),
        ("anonymous", "free", "standard", 2),
    ] {
        let labels = [
            ("tenant", tenant),
            ("tier", tier),
            ("user_type", user_type),
            ("route", "/users/{id}"),
            ("status", "200"),
        ];
        let counted = gateway.sum("shop_requests_total", &labels);
        ensure!(
            counted == count,
            "{labels:?}: expected {count}, counted {counted}"
        );
    }

    // At the services: what the gateway let through, and what they asked of each other for the order.
    let labels = [
        ("tenant", "initech"),
        ("user_type", "vip"),
        ("route", "/orders"),
        ("status", "201"),
    ];
    let counted = |m: &Metrics| m.sum("shop_service_requests_total", &labels);
    let orders = settled(mesh, "order-service", counted, 1).await?;
    let names = orders.label_names("shop_service_requests_total");
    ensure!(
        names == ["route", "status", "tenant", "user_type"],
        "shop_service_requests_total has the labels {names:?}"
    );
    // alice's cart holds two products, which cart-service asks for when order-service asks for the cart.
    let mut served: BTreeMap<(&str, &str, u16), u64> = seen
        .into_iter()
        .filter(|((_, route, status), _)| route.starts_with("/products") && *status == 200)
        .collect();
    *served.entry(("vip", "/products/{id}", 200)).or_default() += 2;
    let others = [
        ("cart-service", [(("vip", "/cart/{userId}", 200), 1)].into()),
        ("user-service", [(("vip", "/users/{id}", 200), 1)].into()),
        ("product-service", served),
    ];
    for (workload, expected) in others {
        let all = |m: &Metrics| m.sum("shop_service_requests_total", &[("tenant", "initech")]);
        let metrics = settled(mesh, workload, all, expected.values().sum()).await?;
        for ((user_type, route, status), count) in expected {
            let status = status.to_string();
            let labels = [
                ("tenant", "initech"),
                ("user_type", user_type),
                ("route", route),
                ("status", &status),
            ];
            let counted = metrics.sum("shop_service_requests_total", &labels);
            ensure!(
                counted == count,
                "{workload} {labels:?}: expected {count}, counted {counted}"
            );
        }
    }
    Ok(())
}

/// The metrics of a workload once `value` of them is `expected`: a request is logged just after its answer has gone out.
pub(crate) async fn settled(
    mesh: &LocalMesh,
    workload: &str,
    value: impl Fn(&Metrics) -> u64,
    expected: u64,
) -> Result<Metrics> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = mesh.metrics(workload).await?;
        let now = value(&metrics);
        if now == expected {
            return Ok(metrics);
        }
        ensure!(
            now < expected && Instant::now() < deadline,
            "{workload} counted {now}, expected {expected}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until something holds: metrics of pods come a moment after their answers.
pub(crate) async fn settled_when(holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await? {
        ensure!(Instant::now() < deadline, "it is not so after 30 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
