//! What stands before a gateway, as the annotation `proxy.istio.io/config` of its pods says: how many proxies it trusts to
//! write into `X-Forwarded-For` who connected to them, and what it makes of `X-Forwarded-Client-Cert`.
//!
//! On a cluster the mesh's `defaultConfig` can say the same for all gateways. That is a value of Istio's own chart and no
//! manifest, so it is not known here: what is written at the pods holds in both places.

use super::workload::Role;
use crate::api::mesh::{ForwardClientCertDetails, ProxyConfig};
use crate::problem::Problem;
use crate::source::Source;
use crate::source::decode::decode;
use crate::source::field::FieldPath;

pub(crate) const ANNOTATION: &str = "proxy.istio.io/config";

/// What a gateway believes of what stands before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Topology {
    /// How many proxies before it are trusted; `None`, which is as good as 0, if its pods do not say.
    pub trusted_proxies: Option<u32>,
    /// What becomes of `X-Forwarded-Client-Cert`.
    pub client_certificates: ForwardClientCertDetails,
}

/// Reads the annotation, which is the text of a field.
pub(crate) fn read(
    source: &Source,
    field: &str,
    text: &str,
    role: Role,
    problems: &mut Vec<Problem>,
) -> Topology {
    let (mut documents, wrong) = source.text(&FieldPath::parse(field), text);
    problems.extend(wrong);
    if documents.len() > 1 {
        problems.push(source.invalid(field, "is more than one document"));
        return Topology::default();
    }
    let Some(document) = documents.pop() else {
        return Topology::default();
    };
    let config: Option<ProxyConfig> = decode(
        document.value,
        "",
        "ProxyConfig",
        &document.source,
        problems,
    );
    let Some(topology) = config.and_then(|config| config.gateway_topology) else {
        return Topology::default();
    };
    if role != Role::Gateway {
        let message = "gatewayTopology has no effect here: only gateways have one; write it at the pods of the gateway";
        problems.push(source.problem(field, message));
    }
    Topology {
        trusted_proxies: topology.num_trusted_proxies,
        client_certificates: topology.forward_client_cert_details,
    }
}
