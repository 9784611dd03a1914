//! Which version of product-service answers.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{MissedTickBehavior, interval};
use tollgate_tests::{LocalMesh, Target, exchange};

use crate::client::{Client, is_v2};

pub(crate) async fn nine_of_ten_requests_go_to_v1(mesh: &LocalMesh) -> Result<()> {
    const REQUESTS: u32 = 2000;
    let client = Client::of(mesh)?;
    // acme may send 100 a second.
    let mut pace = interval(Duration::from_micros(10_500));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        pace.tick().await;
        let client = client.clone();
        answers.spawn(async move { client.get("/products", &[("x-tenant-id", "acme")]).await });
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
    let client = Client::of(mesh)?;
    for user in ["alice", "bob"] {
        for tenant in 0..5 {
            let tenant = format!("vip-of-{user}-{tenant}");
            for _ in 0..10 {
                let answer = client
                    .get(
                        "/products",
                        &[("x-tenant-id", &tenant), ("x-user-id", user)],
                    )
                    .await?;
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
        // Two users are no user: a duplicate never chooses a class.
        &[(b"x-user-id", b"alice"), (b"x-user-id", b"carol")],
    ];
    let gateway = mesh.gateway_address()?;
    let (mut v2, mut sent) = (0, 0);
    for (number, spelling) in spellings.iter().enumerate() {
        let mut of_spelling = 0;
        for round in 0..4 {
            let tenant = format!("spoofer-{number}-{round}");
            for _ in 0..8 {
                let mut headers = vec![(&b"x-tenant-id"[..], tenant.as_bytes())];
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
