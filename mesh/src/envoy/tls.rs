//! Mutual TLS between proxies: who presents what, and who believes whom.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Proxy;
use crate::model::CLUSTER_DOMAIN;

const DOWNSTREAM: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const RAW_BUFFER: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// A server's side: a client must have a certificate of the mesh, for any identity.
pub(super) fn downstream(proxy: &Proxy) -> Value {
    let any_identity = json!({ "prefix": format!("spiffe://{CLUSTER_DOMAIN}/") });
    let mut common = common(proxy, [any_identity].into_iter().collect());
    common["alpn_protocols"] = json!(["h2", "http/1.1"]);
    common["tls_params"]["cipher_suites"] = json!([
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-GCM-SHA256",
    ]);
    socket(
        json!({ "@type": DOWNSTREAM, "require_client_certificate": true, "common_tls_context": common }),
    )
}

/// A client's side: the server must have a certificate of the mesh, for one of `identities`; for any if there are none, which
/// is when no pod could answer anyway.
pub(super) fn upstream(
    proxy: &Proxy,
    identities: &BTreeSet<String>,
    server_name: &str,
    http2: bool,
) -> Value {
    let identities = identities
        .iter()
        .map(|identity| json!({ "exact": identity }))
        .collect();
    let mut common = common(proxy, identities);
    // `istio` tells a server that takes plain connections too that this one is of the mesh.
    common["alpn_protocols"] = if http2 {
        json!(["istio", "h2"])
    } else {
        json!(["istio"])
    };
    socket(json!({ "@type": UPSTREAM, "sni": server_name, "common_tls_context": common }))
}

/// No TLS.
pub(super) fn plain() -> Value {
    json!({ "name": "envoy.transport_sockets.raw_buffer", "typed_config": { "@type": RAW_BUFFER } })
}

/// The application protocols by which clients of the mesh are told from others that speak TLS.
pub(super) const MESH_PROTOCOLS: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

fn socket(context: Value) -> Value {
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": context })
}

fn common(proxy: &Proxy, identities: Vec<Value>) -> Value {
    let certificate = &proxy.here.certificate;
    let mut validation =
        json!({ "trusted_ca": { "filename": certificate.roots.to_string_lossy() } });
    if !identities.is_empty() {
        let identities = identities
            .into_iter()
            .map(|matcher| json!({ "san_type": "URI", "matcher": matcher }));
        validation["match_typed_subject_alt_names"] = identities.collect();
    }
    json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": { "filename": certificate.chain.to_string_lossy() },
            "private_key": { "filename": certificate.key.to_string_lossy() },
        }],
        "validation_context": validation,
    })
}
