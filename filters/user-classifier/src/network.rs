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

    /// Its last address.
    fn last(self) -> u128 {
        self.address | !self.mask()
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

/// All IPv4 addresses.
const IPV4: Network = Network {
    address: 0xffff << 32,
    length: 96,
};

/// All addresses.
const EVERYTHING: Network = Network {
    address: 0,
    length: 0,
};

/// The IPv6 addresses that are given to anybody, and so those of clients from outside (`2000::/3`).
const PUBLIC_IPV6: Network = Network {
    address: 0x2000 << 112,
    length: 3,
};

/// What no client from outside has of the others: networks of their own, and what is kept for documents, tests and multicast (the registries for special
/// purposes of RFC 6890).
const SPECIAL: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
];

/// Whether every address of one kind, IPv4 or any, is in one of these.
pub fn have_all(networks: &[Network]) -> bool {
    cover(networks, IPV4) || cover(networks, EVERYTHING)
}

/// Whether every address from which a client can come from outside, by IPv4 or by IPv6, is in one of these.
pub fn have_all_public(networks: &[Network]) -> bool {
    let special = SPECIAL.iter().filter_map(|text| Network::parse(text).ok());
    let networks: Vec<Network> = networks.iter().copied().chain(special).collect();
    cover(&networks, IPV4) || cover(&networks, PUBLIC_IPV6)
}

/// Whether every address of `whole` is in one of these.
fn cover(networks: &[Network], whole: Network) -> bool {
    let mut networks = networks.to_vec();
    networks.sort_by_key(|network| network.address);
    // The first address of which it is not known yet.
    let mut next = whole.address;
    for network in networks {
        if network.address > next {
            return false;
        }
        if network.last() >= whole.last() {
            return true;
        }
        next = next.max(network.last() + 1);
    }
    false
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
    }

    fn all(texts: &[&str]) -> Vec<Network> {
        texts
            .iter()
            .map(|text| Network::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn networks_may_have_every_address_together() {
        for everything in [
            &["0.0.0.0/0"][..],
            &["::/0"],
            &["128.0.0.0/1", "0.0.0.0/1"],
            &["8000::/1", "::/1"],
            &["0.0.0.0/1", "10.0.0.0/8", "128.0.0.0/2", "192.0.0.0/2"],
            &["::ffff:0:0/96"],
            // IPv4 is in its lower half.
            &["::/1"],
        ] {
            assert!(have_all(&all(everything)), "{everything:?}");
            assert!(have_all_public(&all(everything)), "{everything:?}");
        }
        for public in [
            &["2000::/3"][..],
            &["3000::/4", "2000::/4"],
            // All but those of private networks, as firewalls write them.
            &[
                "0.0.0.0/5",
                "8.0.0.0/7",
                "11.0.0.0/8",
                "12.0.0.0/6",
                "16.0.0.0/4",
                "32.0.0.0/3",
                "64.0.0.0/2",
                "128.0.0.0/3",
                "160.0.0.0/5",
                "168.0.0.0/6",
                "172.0.0.0/12",
                "172.32.0.0/11",
                "172.64.0.0/10",
                "172.128.0.0/9",
                "173.0.0.0/8",
                "174.0.0.0/7",
                "176.0.0.0/4",
                "192.0.0.0/9",
                "192.128.0.0/11",
                "192.160.0.0/13",
                "192.169.0.0/16",
                "192.170.0.0/15",
                "192.172.0.0/14",
                "192.176.0.0/12",
                "192.192.0.0/10",
                "193.0.0.0/8",
                "194.0.0.0/7",
                "196.0.0.0/6",
                "200.0.0.0/5",
                "208.0.0.0/4",
            ],
        ] {
            assert!(!have_all(&all(public)), "{public:?}");
            assert!(have_all_public(&all(public)), "{public:?}");
        }
        for some in [
            &[][..],
            &["8000::/1"],
            &["0.0.0.0/1"],
            &["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/4"],
            &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
            &["2000::/4"],
        ] {
            assert!(!have_all_public(&all(some)), "{some:?}");
        }
        assert_eq!(all(&SPECIAL).len(), SPECIAL.len());
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

        /// In a world of 256 addresses each can be asked.
        #[test]
        fn networks_cover_another_if_each_of_its_addresses_is_in_one(
            networks in proptest::collection::vec((any::<u8>(), 24_u8..=32), 0..12),
            whole in (any::<u8>(), 24_u8..=32),
        ) {
            let network = |(last, length): (u8, u8)| {
                let mask = if length == 24 { 0 } else { u8::MAX << (32 - length) };
                Network::parse(&format!("10.0.0.{}/{length}", last & mask)).unwrap()
            };
            let networks: Vec<Network> = networks.into_iter().map(network).collect();
            let whole = network(whole);
            let mut addresses = (0..=u8::MAX).map(|last| IpAddr::from([10, 0, 0, last])).filter(|address| whole.has(*address));
            let each = addresses.all(|address| networks.iter().any(|network| network.has(address)));
            prop_assert_eq!(cover(&networks, whole), each);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = Network::parse(&text);
        }
    }
}
