//! Who may ask what of whom, as it ships: each request that the manifests allow, and those beside it that they do not.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tollgate_tests::{LocalMesh, Target};

use crate::client::{Client, Reply};

/// The services and their ports.
const SERVICES: [(&str, u16); 4] = [
    ("product-service", 3001),
    ("cart-service", 3002),
    ("order-service", 3003),
    ("user-service", 3004),
];

/// Who answered.
fn is_from_a_service(reply: &Reply) -> bool {
    reply.header("x-service-version").is_some()
}

fn is_refused(reply: &Reply) -> bool {
    reply.status == 403 && reply.body == "RBAC: access denied"
}

pub(crate) async fn the_gateway_may_ask_what_customers_need(mesh: &LocalMesh) -> Result<()> {
    // Of a tenant that may send all of these requests at once.
    let client = Client::of(mesh)?.bearing(mesh.bearer("alice", "acme")?);
    for (method, path) in [
        ("GET", "/products"),
        ("HEAD", "/products"),
        ("GET", "/products/nothing"),
        ("HEAD", "/products/nothing"),
        ("GET", "/cart/alice"),
        ("HEAD", "/cart/alice"),
        ("POST", "/cart/alice"),
        ("DELETE", "/cart/alice/nothing"),
        ("POST", "/orders"),
        ("GET", "/orders/alice"),
        ("HEAD", "/orders/alice"),
        ("POST", "/users"),
        ("GET", "/users/alice"),
        ("HEAD", "/users/alice"),
    ] {
        let answer = client.request(method, path, &[]).await?;
        ensure!(is_from_a_service(&answer), "{method} {path}: {answer:?}");
        // What is gone is gone, also for a try that comes after the one that did it.
        ensure!(
            method != "DELETE" || answer.status == 204,
            "{method} {path}: {answer:?}"
        );
    }
    for (method, path) in [
        ("POST", "/products"),
        ("PUT", "/products/nothing"),
        ("OPTIONS", "/products"),
        ("GET", "/products-of-others"),
        ("GET", "/cart"),
        ("PUT", "/cart/alice"),
        ("GET", "/cartography"),
        ("GET", "/orders"),
        ("DELETE", "/orders/alice"),
        ("POST", "/orders/alice"),
        ("GET", "/users"),
        ("POST", "/users/alice"),
        ("PATCH", "/users/alice"),
        // Nobody's business outside, though each service answers it, and the gateway may ask.
        ("GET", "/health"),
        ("GET", "/ready"),
        ("POST", "/health"),
        ("GET", "/metrics"),
    ] {
        let answer = client.request(method, path, &[]).await?;
        ensure!(
            answer.status == 403 && !is_from_a_service(&answer),
            "{method} {path}: {answer:?}"
        );
    }
    // What no route leads anywhere is still not found, not forbidden.
    let answer = client.request("GET", "/nowhere", &[]).await?;
    ensure!(answer.status == 404, "{answer:?}");
    // And an order goes through, with all that the services ask each other for it.
    let order = json!({"userId": "alice"});
    let answer = client.post("/orders", &[], &order).await?;
    ensure!(answer.status == 201, "{answer:?}");
    Ok(())
}

pub(crate) async fn services_may_ask_each_other_what_they_need(mesh: &LocalMesh) -> Result<()> {
    // Who asks, whom, and for what; all else is refused.
    let allowed = [
        ("cart-service", "product-service", "/products/nothing"),
        ("order-service", "cart-service", "/cart/alice"),
        ("order-service", "user-service", "/users/alice"),
    ];
    let mut asked = 0;
    for (from, _) in SERVICES {
        for (to, port) in SERVICES {
            let client = Client::in_pod(mesh, from, &format!("{to}:{port}"))?;
            for (method, path) in [
                ("GET", "/health"),
                ("GET", "/ready"),
                ("POST", "/health"),
                ("GET", "/health/"),
                ("GET", "/metrics"),
                ("GET", "/products"),
                ("GET", "/products/nothing"),
                ("GET", "/products/nothing/more"),
                ("POST", "/products/nothing"),
                ("GET", "/cart/alice"),
                ("GET", "/cart/alice/nothing"),
                ("POST", "/cart/alice"),
                ("DELETE", "/cart/alice/nothing"),
                ("GET", "/orders/alice"),
                ("POST", "/orders"),
                ("GET", "/users/alice"),
                ("POST", "/users"),
            ] {
                let may = method == "GET"
                    && (["/health", "/ready"].contains(&path)
                        || allowed.contains(&(from, to, path)));
                let answer = client.request(method, path, &[]).await?;
                ensure!(
                    if may {
                        is_from_a_service(&answer)
                    } else {
                        is_refused(&answer)
                    },
                    "{from} asks {to} for {method} {path}: {answer:?}"
                );
                asked += usize::from(may);
            }
        }
    }
    ensure!(asked == 4 * 4 * 2 + allowed.len(), "{asked} may ask");
    // Whoever looks at the proxies' own metrics comes by none of these ways.
    for (service, _) in SERVICES {
        mesh.metrics(service).await.with_context(|| service)?;
    }
    Ok(())
}
