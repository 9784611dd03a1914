//! Networks of IP addresses, as CIDR writes them.

use std::net::{IpAddr, Ipv6Addr};

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// As IPv6; IPv4 addresses are those of `::ffff:0:0/96`.
    address: u128,
    /// How many of its 128 bits count.
    length: u8,
}

impl Network {
    /// Reads a network; the error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network, write for example \"10.0.0.0/8\"");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => {
                let digits = length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse::<u8>().ok().filter(|_| digits);
                (address, Some(length.ok_or_else(wrong)?))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(bits);
        if length > bits {
            return Err(wrong());
        }
        let network = Self {
            address: number(address),
            length: length + (128 - bits),
        };
        if network.address & !network.mask() != 0 {
            let first = Ipv6Addr::from(network.address & network.mask()).to_canonical();
            return Err(format!(
                "{text:?} has bits beyond its length, write \"{first}/{length}\""
            ));
        }
        Ok(network)
    }

    fn mask(self) -> u128 {
        match self.length {
            0 => 0,
            length => u128::MAX << (128 - u32::from(length)),
        }
    }

    /// Whether every address is in it.
    pub fn is_everything(self) -> bool {
        self.length == 0 || (self.length == 96 && self.address == number(IpAddr::from([0; 4])))
    }

    /// Whether an address is in it.
    pub fn has(self, address: IpAddr) -> bool {
        number(address) & self.mask() == self.address
    }

    /// Whether all of another network is in it.
    pub fn contains(self, other: &Self) -> bool {
        self.length <= other.length && other.address & self.mask() == self.address
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_in_their_networks() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::1", "::1", "127.0.0.1"),
            ("0.0.0.0/1", "127.0.0.1", "128.0.0.1"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.has(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.has(outside.parse().unwrap()), "{network} {outside}");
        }
        for network in ["0.0.0.0/0", "::/0"] {
            assert!(Network::parse(network).unwrap().is_everything());
        }
        assert!(!Network::parse("::/1").unwrap().is_everything());
    }

    #[test]
    fn what_is_no_network_says_what_to_write() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "a/8",
            "::/129",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(
                Network::parse(text),
                Err(format!(
                    "{text:?} is not a network, write for example \"10.0.0.0/8\""
                ))
            );
        }
        for (text, right) in [
            ("10.1.0.0/8", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
        ] {
            assert_eq!(
                Network::parse(text),
                Err(format!(
                    "{text:?} has bits beyond its length, write \"{right}\""
                ))
            );
        }
    }

    proptest! {
        #[test]
        fn a_network_within_another_has_no_other_addresses(a in any::<[u8; 4]>(), b in any::<[u8; 4]>(), la in 0_u8..=32, lb in 0_u8..=32) {
            let network = |address: [u8; 4], length: u8| {
                let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
                let first = std::net::Ipv4Addr::from(u32::from_be_bytes(address) & mask);
                Network::parse(&format!("{first}/{length}")).unwrap()
            };
            let (outer, inner) = (network(a, la), network(b, lb));
            prop_assert!(inner.has(IpAddr::from(b)));
            if outer.contains(&inner) {
                prop_assert!(outer.has(IpAddr::from(b)));
            } else {
                prop_assert!(la > lb || !outer.has(IpAddr::from(b)));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = Network::parse(&text);
        }
    }
}
