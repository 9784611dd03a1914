//! Whose address a client's is: that of the connection, or with so many proxies trusted the one that the outermost of them saw. Of
//! `X-Forwarded-For` nothing further to the left is believed.
//!
//! No issuer of tokens is in these meshes, and no limiter: what holds for clients of a gateway that knows nobody is tested here, too.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, HeaderValue, Request};
use tollgate_tests::{Filter, Form, LocalMesh, Manifests, Options, Target, http2};

use crate::client::Client;
use crate::live::refused;
use crate::vouched;

const GATEWAY: &str = "istio/ingress/ingressgateway.yaml";

/// Who is in the office, and who is beside the gateway.
const CLASSES: &str = "\
default: standard
rules:
- type: office
  when: {source: 203.0.113.0/24}
- type: near
  when: {source: 127.9.9.0/24}
";

/// What the office's may not ask for by the client's address, and what those beside the gateway may not by the connection's.
const POLICIES: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: addresses, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  action: DENY
  rules:
  - from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}]
    to: [{operation: {paths: [/users/remote]}}]
  - from: [{source: {ipBlocks: [127.9.9.0/24]}}]
    to: [{operation: {paths: [/users/direct]}}]
";

const HOME: [u8; 4] = [127, 0, 0, 1];
const NEAR: [u8; 4] = [127, 9, 9, 9];

/// The shop as it ships, with that many trusted proxies; its users are a program that says what it was sent.
pub(crate) fn mesh(form: Form, trusted: u32) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?.without_issuer();
    manifests.without_limiter()?;
    manifests.configure(form, Filter::UserClassifier, CLASSES)?;
    vouched::add(&manifests, "addresses.yaml", POLICIES)?;
    let stated = |number: u32| format!("            numTrustedProxies: {number}\n");
    manifests.replace(GATEWAY, &stated(0), &stated(trusted))?;
    manifests.replace(
        "services/kubernetes/user-service.yaml",
        "  - name: http\n    port: 3004\n",
        "  - name: http2\n    port: 3004\n",
    )?;
    LocalMesh::start(
        manifests.with_customers_alone()?,
        Options {
            run: vec![format!("user-service={}", env!("CARGO_BIN_EXE_echo"))],
            ..Options::default()
        },
    )
}

/// Asks from an address, with these lines of `X-Forwarded-For`.
async fn is(mesh: &LocalMesh, from: [u8; 4], forwarded: &[&str], expected: &str) -> Result<()> {
    let client = Client::at(mesh, IpAddr::from(from))?;
    let headers: Vec<(&str, &str)> = forwarded
        .iter()
        .map(|line| ("x-forwarded-for", *line))
        .collect();
    let what = || format!("from {from:?}, forwarded for {forwarded:?}");
    let answer = client.get("/users/alice", &headers).await?;
    ensure!(answer.status == 200, "{}: {answer:?}", what());
    let said = answer.json()?;
    let told = said["headers"].as_array().with_context(what)?;
    let types: Vec<&str> = told
        .iter()
        .filter(|header| header[0] == "user-type")
        .filter_map(|header| header[1].as_str())
        .collect();
    ensure!(types == [expected], "{}: {types:?}, not {expected}", what());
    // Access rules go by the same address, and the others by the connection's.
    for (path, denied) in [
        ("/users/remote", expected == "office"),
        ("/users/direct", from == NEAR),
    ] {
        let status = client.get(path, &headers).await?.status;
        let wanted = if denied { 403 } else { 200 };
        ensure!(status == wanted, "{path} {}: {status}", what());
    }
    Ok(())
}

pub(crate) async fn without_trusted_proxies_a_client_is_who_connects(
    mesh: &LocalMesh,
) -> Result<()> {
    for forwarded in [
        &[][..],
        &["203.0.113.7"],
        &["203.0.113.7, 203.0.113.8"],
        &["203.0.113.7", "203.0.113.8"],
        &["127.9.9.9"],
        &["nonsense"],
    ] {
        is(mesh, HOME, forwarded, "standard").await?;
        is(mesh, NEAR, forwarded, "near").await?;
    }
    // It is a matter of the pods, which are there already.
    let stated = "            numTrustedProxies: 0\n";
    mesh.manifests()
        .replace(GATEWAY, stated, "            numTrustedProxies: 1\n")?;
    let finding = refused(mesh)?;
    ensure!(
        finding.file.ends_with(GATEWAY)
            && finding.field == "spec.template.metadata.annotations[\"proxy.istio.io/config\"]"
            && finding
                .reason
                .ends_with("running pods keep their annotations; restart `tollgate up` for it"),
        "{finding:?}"
    );
    is(mesh, HOME, &["203.0.113.7"], "standard").await
}

pub(crate) async fn one_trusted_proxy_names_the_client_and_nobody_before_it_does(
    mesh: &LocalMesh,
) -> Result<()> {
    // Who did not come by the proxy is who connects.
    is(mesh, HOME, &[], "standard").await?;
    is(mesh, NEAR, &[], "near").await?;
    // The one next to the right, which the proxy wrote; what its client sent is before that.
    for from in [HOME, NEAR] {
        is(mesh, from, &["203.0.113.7"], "office").await?;
        is(mesh, from, &["198.51.100.1, 203.0.113.7"], "office").await?;
        is(mesh, from, &["198.51.100.1", "203.0.113.7"], "office").await?;
        is(mesh, from, &["nonsense, 203.0.113.7"], "office").await?;
        for forged in [
            &["203.0.113.7, 198.51.100.1"][..],
            &["203.0.113.7", "198.51.100.1"],
            &["203.0.113.7, 203.0.113.8, 198.51.100.1"],
            &["127.9.9.9, 203.0.113.7, 198.51.100.1"],
        ] {
            is(mesh, from, forged, "standard").await?;
        }
    }
    Ok(())
}

pub(crate) async fn of_two_trusted_proxies_the_outer_one_names_the_client(
    mesh: &LocalMesh,
) -> Result<()> {
    for from in [HOME, NEAR] {
        is(mesh, from, &["203.0.113.7, 198.51.100.1"], "office").await?;
        is(
            mesh,
            from,
            &["198.51.100.1, 203.0.113.7, 198.51.100.2"],
            "office",
        )
        .await?;
        is(
            mesh,
            from,
            &["203.0.113.7, 198.51.100.1, 198.51.100.2"],
            "standard",
        )
        .await?;
        is(mesh, from, &["198.51.100.1, 203.0.113.7"], "standard").await?;
    }
    // Who came by one of them alone is who connects: the inner one says nothing of it that counts.
    is(mesh, HOME, &["203.0.113.7"], "standard").await?;
    is(mesh, NEAR, &["203.0.113.7"], "near").await
}

pub(crate) async fn without_an_issuer_nobody_names_himself(mesh: &LocalMesh) -> Result<()> {
    let client = Client::of(mesh)?;
    // A token of anybody changes nothing: nobody verifies it.
    let bearer = mesh.bearer("alice", "acme")?;
    let order = serde_json::json!({"userId": "alice"});
    for token in [None, Some(("authorization", bearer.as_str()))] {
        // What is somebody's is nobody's, and not everybody's.
        let headers = Vec::from_iter(token);
        for answer in [
            client.get("/cart/alice", &headers).await?,
            client.get("/orders/alice", &headers).await?,
            client.post("/orders", &headers, &order).await?,
        ] {
            ensure!(
                answer.status == 403 && answer.body == "RBAC: access denied",
                "with {token:?}: {answer:?}"
            );
        }
        for path in ["/users/alice", "/products"] {
            let headers = Vec::from_iter(token);
            let answer = client.get(path, &headers).await?;
            ensure!(answer.status == 200, "{path}: {answer:?}");
            for (name, user) in [
                ("end-user", "bob"),
                ("End-User", "bob"),
                ("END-USER", "alice"),
                ("end-user", ""),
            ] {
                let mut headers = headers.clone();
                headers.push((name, user));
                let answer = client.get(path, &headers).await?;
                ensure!(
                    answer.status == 403 && answer.body == "RBAC: access denied",
                    "{name}: {user} for {path} is answered {answer:?}"
                );
            }
            // Twice, and beside one that is empty.
            for users in [["bob", "bob"], ["", "bob"]] {
                let mut headers = headers.clone();
                headers.extend(users.map(|user| ("end-user", user)));
                let answer = client.get(path, &headers).await?;
                ensure!(answer.status == 403, "{users:?} for {path}: {answer:?}");
            }
        }
    }
    Ok(())
}

pub(crate) async fn without_a_limiter_nobody_names_a_tenant(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let names = [
        "x-tenant-id",
        "x_tenant_id",
        "x-tenant_id",
        "x.tenant.id",
        "x-tenant-tier",
        "x_tenant_tier",
        "x~tenant-tier",
    ];
    for value in ["acme", "premium", "", "a b"] {
        let mut request = Request::get(format!("http://{gateway}/users/alice"));
        let mut trailers = HeaderMap::new();
        for name in names {
            for _ in 0..2 {
                request = request.header(name, value);
                trailers.append(name, HeaderValue::from_static(value));
            }
        }
        // What only begins like one of them is nobody's.
        request = request.header("x-tenant", "kept");
        trailers.append("x-tenant", HeaderValue::from_static("kept"));
        let answer = http2::send_with_trailers(gateway, request.body(())?, trailers).await?;
        ensure!(answer.status == 200, "{answer:?}");
        // Under names of ours, as a server may read them, there is the type alone.
        ensure!(
            answer.header("x-headers") == Some("user-type=standard")
                && answer.header("x-trailers") == Some("x-tenant=kept"),
            "{value:?}: {answer:?}"
        );
    }
    // Over HTTP/1 and in capitals, too.
    let client = Client::of(mesh)?;
    for name in names {
        let headers = [(name, "acme"), ("X-TENANT-ID", "globex")];
        let answer = client.get("/users/alice", &headers).await?;
        ensure!(
            answer.header("x-headers") == Some("user-type=standard"),
            "{name}: {answer:?}"
        );
    }
    Ok(())
}
