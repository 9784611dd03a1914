//! The business numbers in the Envoys' Prometheus output, and what `tollgate metrics` makes of them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tollgate_tests::{LocalMesh, Metrics, Target, tollgate};

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

pub(crate) async fn the_command_adds_up_what_the_envoys_have_counted(
    mesh: &LocalMesh,
) -> Result<()> {
    // Nobody else is globex here.
    let client = Client::of(mesh)?.bearing(mesh.bearer("alice", "globex")?);
    for path in ["/products", "/products", "/products/mug"] {
        let answer = client.get(path, &[]).await?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    let order = client
        .post("/orders", &[], &json!({"userId": "alice"}))
        .await?;
    ensure!(order.status == 201, "{order:?}");

    // As scripts get it: every series of the tenant, by who has counted it. The order asks for the user, the cart and two products.
    let expected: BTreeMap<String, u64> = [
        ("shop_orders_total ingressgateway 201", 1),
        ("shop_placed_orders_total order-service", 1),
        // Beans and two mugs, in cents.
        ("shop_revenue_cents_total order-service", 2_190 + 2 * 1_200),
        ("shop_requests_total ingressgateway /orders 201", 1),
        ("shop_requests_total ingressgateway /products 200", 2),
        ("shop_requests_total ingressgateway /products/{id} 200", 1),
        (
            "shop_service_requests_total cart-service /cart/{userId} 200",
            1,
        ),
        ("shop_service_requests_total order-service /orders 201", 1),
        (
            "shop_service_requests_total product-service /products 200",
            2,
        ),
        (
            "shop_service_requests_total product-service /products/{id} 200",
            3,
        ),
        (
            "shop_service_requests_total user-service /users/{id} 200",
            1,
        ),
    ]
    .map(|(series, count)| (series.to_owned(), count))
    .into();
    let deadline = Instant::now() + Duration::from_secs(30);
    let globex = ["--label", "tenant=globex"];
    loop {
        let said = command(
            mesh,
            &[&["shop_*_total", "--format", "json"], &globex[..]].concat(),
        )?;
        ensure!(said.code == Some(0), "{said:?}");
        let found = counted(&serde_json::from_str(&said.output)?)?;
        if found == expected {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "{found:#?} are printed, expected {expected:#?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // As people get it, below what the metric is.
    let tables: [(&[&str], &str); 2] = [
        (
            &["shop_orders_total"],
            "  workload        status  tenant  user_type  value\n  ingressgateway  201     globex  vip            1\n",
        ),
        (
            &["shop_service_req*", "--by", "workload", "--by", "status"],
            "  workload         status  value\n  cart-service     200         1\n  order-service    201         1\n  \
             product-service  200         5\n  user-service     200         1\n  total                        8\n",
        ),
    ];
    for (args, expected) in tables {
        let said = command(mesh, &[args, &globex[..]].concat())?;
        let (heading, table) = said.output.split_once('\n').context("nothing is printed")?;
        ensure!(
            said.code == Some(0) && heading.contains(" (counter)") && table == expected,
            "{args:?}: {said:?}"
        );
    }

    // What cannot have been meant.
    for (args, error) in [
        (
            &["shop_order_total"][..],
            "error: no metric is called shop_order_total\nhint: did you mean shop_orders_total?\n",
        ),
        (
            &["shop_orders_total", "--by", "tier"],
            "error: no label is called tier\nhint: there is status, tenant, user_type, workload\n",
        ),
    ] {
        let said = command(mesh, args)?;
        ensure!(
            said.code == Some(1) && said.output.is_empty() && said.errors == error,
            "{args:?}: {said:?}"
        );
    }
    Ok(())
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// `tollgate metrics` of this mesh; others may run.
pub(crate) fn command(mesh: &LocalMesh, args: &[&str]) -> Result<Said> {
    let output = Command::new(tollgate()?)
        .args(["metrics", "--mesh", mesh.gateway()])
        .args(args)
        .output()?;
    Ok(Said {
        code: output.status.code(),
        output: String::from_utf8(output.stdout)?,
        errors: String::from_utf8(output.stderr)?,
    })
}

/// Every series as `metric workload [route] status`.
fn counted(told: &Value) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for metric in told["metrics"].as_array().context("no metrics")? {
        for series in metric["series"].as_array().context("no series")? {
            let label = |name: &str| series["labels"][name].as_str();
            let name = [metric["name"].as_str(), series["workload"].as_str()];
            let parts = name.into_iter().chain([label("route"), label("status")]);
            let series_name = Vec::from_iter(parts.flatten()).join(" ");
            let value = series["value"].as_u64().context("no value")?;
            ensure!(
                found.insert(series_name, value).is_none(),
                "a series is there twice: {told:#}"
            );
        }
    }
    Ok(found)
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
