//! What stands before a gateway, as the annotation `proxy.istio.io/config` of its pods says: how many proxies it trusts to
//! write into `X-Forwarded-For` who connected to them, and what it makes of `X-Forwarded-Client-Cert`.

use super::workload::Role;
use crate::api::mesh::{ForwardClientCertDetails, ProxyConfig};
use crate::problem::Problem;
use crate::source::Source;

/// What a gateway believes of what stands before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Topology {
    /// How many proxies before it are trusted; `None`, which is as good as 0, if its pods do not say.
    pub trusted_proxies: Option<u32>,
    /// What becomes of `X-Forwarded-Client-Cert`.
    pub client_certificates: ForwardClientCertDetails,
}

/// What this configuration, written at this field, says of it.
pub(crate) fn of(
    config: &ProxyConfig,
    source: &Source,
    field: &str,
    role: Role,
    problems: &mut Vec<Problem>,
) -> Topology {
    let Some(topology) = &config.gateway_topology else {
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
