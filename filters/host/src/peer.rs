//! Who the other end of the connection is, by its certificate.

use crate::host::Host;

/// The first URI name of the certificate that the peer has proven: its SPIFFE identity, in a mesh. `None` if the connection is not mutual TLS or
/// its certificate has no such name. One host call or two.
///
/// A certificate counts only if the proxy has verified it, so the connection must say that it is mutual TLS. Envoy says so too of a certificate that it was told to accept
/// unverified (`trust_chain_verification: ACCEPT_UNTRUSTED`); Istio never tells it to.
pub fn peer(host: &dyn Host) -> Option<Vec<u8>> {
    let mtls = host.property(&["connection\0mtls"]).ok().flatten()?;
    if mtls != [1] {
        return None;
    }
    let name = host
        .property(&["connection\0uri_san_peer_certificate"])
        .ok()
        .flatten()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostError;
    use crate::memory::{Call, MemoryHost};

    const MTLS: [&str; 2] = ["connection", "mtls"];
    const NAME: [&str; 2] = ["connection", "uri_san_peer_certificate"];
    const CART: &[u8] = b"spiffe://cluster.local/ns/ecommerce/sa/cart-service";

    #[test]
    fn a_name_counts_when_the_connection_is_mutual_tls() {
        for (mtls, name, expected) in [
            (Some(&[1][..]), Some(CART), Some(CART)),
            (Some(&[0]), Some(CART), None),
            (Some(b"1"), Some(CART), None),
            (Some(&[1, 0]), Some(CART), None),
            (Some(&[]), Some(CART), None),
            (None, Some(CART), None),
            (Some(&[1]), Some(b""), None),
            (Some(&[1]), None, None),
            (Some(&[0]), None, None),
            (None, None, None),
        ] {
            let mut host = MemoryHost::new();
            for (path, value) in [(MTLS, mtls), (NAME, name)] {
                if let Some(value) = value {
                    host.set_attribute(&path, value);
                }
            }
            assert_eq!(peer(&host).as_deref(), expected, "{mtls:?} {name:?}");
            let calls = if mtls == Some(&[1]) { 2 } else { 1 };
            assert_eq!(host.calls(Call::Property), calls);
        }
    }

    #[test]
    fn a_proxy_that_does_not_say_has_no_peer() {
        for failing in [MTLS, NAME] {
            let mut host = MemoryHost::new();
            host.set_attribute(&MTLS, &[1]);
            host.set_attribute(&NAME, CART);
            host.fail_attribute(&failing, HostError::Status(10));
            assert_eq!(peer(&host), None);
        }
    }
}
