//! Calls from service to service, and who may make them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tollgate_tests::{LocalMesh, Target, exchange};

use crate::client::Client;
use crate::metrics::settled;

pub(crate) async fn an_order_travels_the_mesh_with_tenant_and_class(
    mesh: &LocalMesh,
) -> Result<()> {
    // Written as an issuer might: the mesh carries the normalised id.
    let client = Client::of(mesh)?.bearing(mesh.bearer("alice", " GLOBEX")?);
    let cart = client.get("/cart/alice", &[]).await?;
    ensure!(cart.status == 200, "{cart:?}");
    let order = client
        .post("/orders", &[], &json!({"userId": "alice"}))
        .await?;
    ensure!(order.status == 201, "{order:?}");
    let orders = client.get("/orders/alice", &[]).await?;
    ensure!(
        orders.status == 200
            && orders
                .body
                .contains(order.json()?["id"].to_string().trim_matches('"')),
        "{orders:?}"
    );

    for (workload, route, at_least) in [
        ("order-service", "/orders", 1),
        ("user-service", "/users/{id}", 1),
        // Once through the gateway, once for the order.
        ("cart-service", "/cart/{userId}", 2),
        ("product-service", "/products/{id}", 2),
    ] {
        let labels = [("tenant", "globex"), ("user_type", "vip"), ("route", route)];
        let count = |m: &tollgate_tests::Metrics| {
            m.sum("shop_service_requests_total", &labels).min(at_least)
        };
        settled(mesh, workload, count, at_least)
            .await
            .with_context(|| format!("{workload} {route}"))?;
        let handshakes = mesh.envoy_stats(workload, ".ssl.handshake").await?;
        ensure!(
            handshakes.iter().any(|(_, n)| *n > 0),
            "{workload} took no TLS connection: {handshakes:?}"
        );
    }

    // The class decides within the mesh as it does at the gateway: cart-service asks version 2 for a VIP. Nobody else is
    // globex here.
    for (version, any) in [("v1", false), ("v2", true)] {
        let metrics = mesh.metrics_of_version("product-service", version).await?;
        let asked = metrics.sum("shop_service_requests_total", &[("tenant", "globex")]);
        ensure!(
            (asked > 0) == any,
            "version {version} was asked {asked} times for a VIP's cart"
        );
    }
    Ok(())
}

pub(crate) async fn a_sidecar_refuses_plaintext_and_strangers(mesh: &LocalMesh) -> Result<()> {
    let pods = mesh.pods("product-service");
    let pod = pods.first().context("product-service has no pod")?;
    let inbound = pod.inbound.context("product-service has no sidecar")?;
    if let Ok(answer) = exchange(inbound, "/products", &[]).await {
        bail!("plaintext was answered {answer:?}");
    }
    if let Ok(answer) = over_tls(inbound, None).await {
        bail!("a client without certificate was answered {answer:?}");
    }
    // The right identity, signed by somebody else.
    let stranger = stranger("spiffe://cluster.local/ns/istio-system/sa/ingressgateway")?;
    if let Ok(answer) = over_tls(inbound, Some(stranger)).await {
        bail!("a client with a stranger's certificate was answered {answer:?}");
    }
    let refused = mesh
        .envoy_stats("product-service", ".ssl.fail_verify")
        .await?;
    let refused: u64 = refused.iter().map(|(_, n)| n).sum();
    ensure!(
        refused >= 2,
        "the sidecar counted {refused} failed verifications of the two there were"
    );
    Ok(())
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate for this identity from a certificate authority of its own.
fn stranger(identity: &str) -> Result<Identity> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok((
        vec![certificate.der().clone(), authority.der().clone()],
        key,
    ))
}

/// A `GET` over TLS, believing any server.
async fn over_tls(to: SocketAddr, identity: Option<Identity>) -> Result<String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    let config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    let conversation = async {
        let connection = TcpStream::connect(to).await?;
        let name = ServerName::try_from("product-service")?;
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, connection)
            .await?;
        tls.write_all(
            b"GET /products HTTP/1.1\r\nhost: product-service:3001\r\nconnection: close\r\n\r\n",
        )
        .await?;
        let mut answer = String::new();
        // In TLS 1.3 a client learns here, not in the handshake, that its certificate was refused.
        tls.read_to_string(&mut answer).await?;
        ensure!(!answer.is_empty(), "the connection was closed");
        Ok(answer)
    };
    timeout(Duration::from_secs(30), conversation).await?
}

#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
