//! Where a request comes from, by its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::Host;

/// The address of the client, as the proxy has it: the peer of its connection or, where the proxy trusts the hops before it, what `X-Forwarded-For` says (then with port 0). `None`
/// if it has none, as on a Unix socket. An IPv4 address is one, also if the proxy listens for both and writes it as an IPv6 address. One host call.
///
/// A gateway that neither uses the remote address nor states its trusted hops believes whatever a client writes in `X-Forwarded-For`.
pub fn source(host: &dyn Host) -> Option<IpAddr> {
    parse(&host.property(&["source\0address"]).ok().flatten()?)
}

/// The address in `1.2.3.4:80` or `[::1]:80`.
fn parse(written: &[u8]) -> Option<IpAddr> {
    let written = std::str::from_utf8(written).ok()?;
    let (address, port) = written.rsplit_once(':')?;
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bracketed = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        None => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some(address) => {
            // A link-local address may name its link.
            let address = address
                .split_once('%')
                .map_or(address, |(address, _)| address);
            Some(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?).to_canonical())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostError;
    use crate::memory::{Call, MemoryHost};
    use proptest::prelude::*;

    const PATH: [&str; 2] = ["source", "address"];

    fn read(written: &[u8]) -> Option<String> {
        let mut host = MemoryHost::new();
        host.set_attribute(&PATH, written);
        let source = source(&host).map(|address| address.to_string());
        assert_eq!(host.calls(Call::Property), 1);
        source
    }

    #[test]
    fn addresses_are_read_as_envoy_writes_them() {
        for (written, expected) in [
            ("127.0.0.1:43122", Some("127.0.0.1")),
            ("8.8.8.8:0", Some("8.8.8.8")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("[::1]:0", Some("::1")),
            ("[::ffff:10.0.0.7]:80", Some("10.0.0.7")),
            ("[fe80::1%eth0]:80", Some("fe80::1")),
            ("", None),
            ("1.2.3.4", None),
            ("1.2.3.4:", None),
            ("1.2.3.4:http", None),
            ("[1.2.3.4]:80", None),
            ("::1:80", None),
            ("[::1]", None),
            ("01.2.3.4:80", None),
            ("@/var/run/socket", None),
            ("envoy://internal/endpoint", None),
        ] {
            assert_eq!(read(written.as_bytes()).as_deref(), expected, "{written}");
        }
        assert_eq!(read(b"1.2.3.4:\xff"), None);
    }

    #[test]
    fn a_proxy_that_does_not_say_has_no_source() {
        let mut host = MemoryHost::new();
        assert_eq!(source(&host), None);
        host.set_attribute(&PATH, b"1.2.3.4:80");
        host.fail_attribute(&PATH, HostError::Status(3));
        assert_eq!(source(&host), None);
    }

    proptest! {
        #[test]
        fn every_address_is_read_back(address in any::<IpAddr>(), port in any::<u16>()) {
            let written = std::net::SocketAddr::new(address, port).to_string();
            prop_assert_eq!(parse(written.as_bytes()), Some(address.to_canonical()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }
}
