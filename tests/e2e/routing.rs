//! Which version of a service answers, and which of its pods.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tollgate_tests::{LocalMesh, Metrics, Target, exchange};

use crate::client::{Client, Reply, is_v2};
use crate::metrics::settled_when;

pub(crate) async fn nine_of_ten_requests_go_to_v1(mesh: &LocalMesh) -> Result<()> {
    const REQUESTS: u32 = 2000;
    let client = Client::of(mesh)?.bearing(mesh.bearer("erin", "acme")?);
    // acme may send 100 a second.
    let mut pace = interval(Duration::from_micros(10_500));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        pace.tick().await;
        let client = client.clone();
        answers.spawn(async move { client.get("/products", &[]).await });
    }
    let mut v2 = 0;
    while let Some(answer) = answers.join_next().await {
        let answer = answer??;
        ensure!(
            answer.status == 200,
            "within its limit, acme was answered {answer:?}"
        );
        v2 += u32::from(is_v2(&answer.body));
    }
    within_binomial_bounds("to v2", v2, REQUESTS, 0.1)
}

pub(crate) async fn vips_always_get_v2(mesh: &LocalMesh) -> Result<()> {
    for user in ["alice", "bob"] {
        for tenant in 0..5 {
            let bearer = mesh.bearer(user, &format!("vip-of-{user}-{tenant}"))?;
            let client = Client::of(mesh)?.bearing(bearer);
            for _ in 0..10 {
                let answer = client.get("/products", &[]).await?;
                ensure!(answer.status == 200, "{answer:?}");
                ensure!(
                    is_v2(&answer.body),
                    "{user} is a VIP and got version 1: {answer:?}"
                );
            }
        }
    }
    Ok(())
}

pub(crate) async fn a_client_cannot_name_its_own_class(mesh: &LocalMesh) -> Result<()> {
    let spellings: &[&[(&[u8], &[u8])]] = &[
        &[(b"user-type", b"vip")],
        &[(b"User-Type", b"vip")],
        &[(b"USER-TYPE", b"vip")],
        &[(b"user_type", b"vip")],
        &[(b"User_Type", b"vip")],
        &[(b"user-type", b" vip ")],
        &[(b"user-type", b"vip"), (b"user-type", b"vip")],
        &[
            (b"user-type", b"vip"),
            (b"user_type", b"vip"),
            (b"USER-type", b"standard"),
        ],
        &[(b"x-user-id", b"carol"), (b"user-type", b"vip")],
        // Nor its own name.
        &[(b"x-user-id", b"alice")],
        &[(b"end-user", b"alice")],
        &[
            (b"sub", b"alice"),
            (b"x-jwt-payload", b"eyJzdWIiOiJhbGljZSJ9"),
        ],
    ];
    let gateway = mesh.gateway_address()?;
    let (mut v2, mut sent) = (0, 0);
    for (number, spelling) in spellings.iter().enumerate() {
        let mut of_spelling = 0;
        for round in 0..4 {
            // A customer of whom nothing is known that makes a VIP.
            let carol = mesh.bearer("carol", &format!("spoofer-{number}-{round}"))?;
            for _ in 0..8 {
                let mut headers = vec![(&b"authorization"[..], carol.as_bytes())];
                headers.extend_from_slice(spelling);
                let answer = exchange(gateway, "/products", &headers).await?;
                ensure!(answer.status == 200, "{answer:?}");
                of_spelling += u32::from(is_v2(&answer.body));
            }
        }
        // Among the others, one spelling that works would hardly show. Of 32 at one in ten, half are never reached.
        ensure!(
            of_spelling < 16,
            "{:?}: {of_spelling} of 32 went to v2",
            spelling
                .iter()
                .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
                .collect::<Vec<_>>()
        );
        sent += 32;
        v2 += of_spelling;
    }
    within_binomial_bounds("to v2", v2, sent, 0.1)
}

/// The version that a service says it is.
fn version(answer: &Reply) -> Result<&str> {
    ensure!(answer.status == 200, "{answer:?}");
    let version = answer.headers.get("x-service-version");
    Ok(version.context("no version")?.to_str()?)
}

pub(crate) async fn the_canary_of_users_is_for_who_asks_and_one_in_twenty(
    mesh: &LocalMesh,
) -> Result<()> {
    const REQUESTS: u32 = 600;
    let client = Client::of(mesh)?;
    let mut canary = 0;
    for number in 0..REQUESTS {
        // Each may send ten at once.
        let tenant = format!("canary-{}", number / 8);
        let bearer = mesh.bearer("carol", &tenant)?;
        let bearer = ("authorization", bearer.as_str());
        // What is not `true` is no wish.
        let answer = client
            .get("/users/carol", &[bearer, ("x-canary", "1")])
            .await?;
        canary += u32::from(version(&answer)? == "v2");
        if number % 50 == 0 {
            let answer = client
                .get("/users/carol", &[bearer, ("x-canary", "true")])
                .await?;
            ensure!(version(&answer)? == "v2", "{answer:?}");
        }
    }
    within_binomial_bounds("to the canary", canary, REQUESTS, 0.05)?;

    // Between services alike: an order asks user-service, and the wish has come along.
    const ORDERS: u64 = 8;
    let asked = |m: &Metrics| m.sum("shop_service_requests_total", &[("route", "/users/{id}")]);
    let all = asked(&mesh.metrics("user-service").await?);
    let v2 = asked(&mesh.metrics_of_version("user-service", "v2").await?);
    let client = client.bearing(mesh.bearer("alice", "canary-orders")?);
    for _ in 0..ORDERS {
        let order = client
            .post(
                "/orders",
                &[("x-canary", "true")],
                &json!({"userId": "alice"}),
            )
            .await?;
        ensure!(order.status == 201, "{order:?}");
    }
    // Others may be asking too, one in twenty of them the canary: all of these eight would be one chance in 10^10.
    settled_when(async || {
        let now = asked(&mesh.metrics("user-service").await?);
        Ok(now >= all + ORDERS)
    })
    .await?;
    let now = asked(&mesh.metrics_of_version("user-service", "v2").await?);
    ensure!(
        now >= v2 + ORDERS,
        "of {ORDERS} orders with x-canary, {} asked the canary",
        now - v2
    );
    Ok(())
}

pub(crate) async fn half_of_the_users_meet_the_other_cart(mesh: &LocalMesh) -> Result<()> {
    let client = Client::of(mesh)?;
    let users = [
        (Some("alice"), "v1"),
        (Some("Erin"), "v1"),
        (Some("bob"), "v2"),
        (Some("Dave"), "v2"),
        (Some(""), "v1"),
        (None, "v1"),
    ];
    for (user, expected) in users {
        // A cart is its user's alone; nobody's name is nobody's cart.
        let owner = user.filter(|user| !user.is_empty());
        let cart = format!("/cart/{}", owner.unwrap_or("alice"));
        // By the token, whatever a client calls itself.
        for (number, says) in [None, Some("alice"), Some("bob")].into_iter().enumerate() {
            // Each may send ten at once.
            let tenant = format!("halves-{}-{number}", user.unwrap_or("none"));
            let bearer = match user {
                Some(user) => mesh.bearer(user, &tenant),
                None => mesh.manifests().bearer_saying(&json!({"tenant": tenant})),
            }?;
            let mut headers = vec![("authorization", bearer.as_str())];
            headers.extend(says.map(|says| ("end-user", says)));
            // Always the same one.
            for _ in 0..8 {
                let answer = client.get(&cart, &headers).await?;
                // Also who is refused, because a token names him with nothing.
                ensure!(
                    answer.header("x-service-version") == Some(expected),
                    "{user:?}, who says {says:?}: {answer:?}"
                );
            }
        }
    }
    // Nor without a token. Others in this mesh have none either, and a limit together.
    let deadline = Instant::now() + Duration::from_secs(60);
    for name in ["end-user", "End-User", "end_user"] {
        let answer = loop {
            let answer = client.get("/cart/alice", &[(name, "bob")]).await?;
            if answer.status != 429 {
                break answer;
            }
            ensure!(Instant::now() < deadline, "{answer:?}");
            sleep(Duration::from_millis(200)).await;
        };
        ensure!(version(&answer)? == "v1", "{name}: {answer:?}");
    }
    Ok(())
}

pub(crate) async fn premium_tenants_have_pods_for_their_orders(mesh: &LocalMesh) -> Result<()> {
    const PREMIUM: &str = "order-service-premium-";
    const REQUESTS: u64 = 8;
    let client = Client::of(mesh)?;
    let of = |tenant: &'static str, premium: bool| async move {
        let pods = mesh.metrics_of("order-service", move |pod| {
            pod.pod.starts_with(PREMIUM) == premium
        });
        let labels = [("tenant", tenant), ("route", "/orders/{userId}")];
        anyhow::Ok(pods.await?.sum("shop_service_requests_total", &labels))
    };
    for (tenant, premium) in [("acme", true), ("globex", false)] {
        let bearer = mesh.bearer("erin", tenant)?;
        let (before, elsewhere) = (of(tenant, premium).await?, of(tenant, !premium).await?);
        for _ in 0..REQUESTS {
            let headers = [
                ("authorization", bearer.as_str()),
                // Neither tenant nor tier are the client's to name.
                ("x-tenant-id", if premium { "globex" } else { "acme" }),
                ("x-tenant-tier", if premium { "free" } else { "premium" }),
            ];
            let answer = client.get("/orders/erin", &headers).await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        settled_when(async || Ok(of(tenant, premium).await? >= before + REQUESTS))
            .await
            .with_context(|| format!("orders of {tenant}"))?;
        ensure!(
            of(tenant, !premium).await? == elsewhere,
            "an order of {tenant} went to the other pool"
        );
    }
    Ok(())
}

/// Five standard deviations: a right mesh fails this once in two million runs.
pub(crate) fn within_binomial_bounds(what: &str, hits: u32, of: u32, share: f64) -> Result<()> {
    let expected = f64::from(of) * share;
    let deviation = (expected * (1.0 - share)).sqrt();
    let distance = (f64::from(hits) - expected).abs();
    ensure!(
        distance <= 5.0 * deviation,
        "{hits} of {of} {what}; expected {expected} ± {:.0}",
        5.0 * deviation
    );
    Ok(())
}
