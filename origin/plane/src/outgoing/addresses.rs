//! Which addresses the origin may reach for a client: public ones, and those that the operator allows.
//!
//! A client names the URL, so without this check it could make the origin ask machines that only the origin reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hooks;

/// Networks, as an address and the bits that count. IPv4 addresses are those mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: u128,
    bits: u32,
}

/// Networks that the operator allows although they are not public.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<Network>);

/// What is no public machine's, of IPv4: this network, private, carriers' (CGNAT), loopback, link-local (and clouds' metadata),
/// protocols', documentation's, relays' of 6to4, benchmarks', multicast and reserved.
const REFUSED_V4: [(Ipv4Addr, u32); 14] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// All that is public of IPv6 is in here. Outside are the loopback, private, link-local, multicast addresses, and NAT64's.
const PUBLIC_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// And of that not these: protocols' (Teredo among them), documentation's, and 6to4's, which hold an address of IPv4.
const REFUSED_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

impl Network {
    fn new(address: IpAddr, bits: u32) -> Network {
        match address {
            IpAddr::V4(address) => Network { address: address.to_ipv6_mapped().to_bits(), bits: 96 + bits },
            IpAddr::V6(address) => Network { address: address.to_bits(), bits },
        }
    }

    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.parse().ok().filter(|bits| *bits <= most)?;
        Some(Network::new(address, bits))
    }

    fn holds(self, address: IpAddr) -> bool {
        let other = Network::new(address, 0).address;
        let shift = 128 - self.bits;
        self.address.checked_shr(shift).unwrap_or_default() == other.checked_shr(shift).unwrap_or_default()
    }
}

impl Allowed {
    /// From CIDR notation, separated by commas. The error is a reason for the setting.
    pub fn parse(text: &str) -> Result<Allowed, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let network = |part: &str| {
            Network::parse(part).ok_or_else(|| {
                format!("must be networks like `10.0.0.0/8`, separated by commas, not {part:?}")
            })
        };
        parts.map(network).collect::<Result<_, _>>().map(Allowed)
    }

    /// Whether the operator allows this address whatever it is.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.holds(address))
    }

    /// Whether the origin may connect to this address.
    pub fn admits(&self, address: IpAddr) -> bool {
        is_public(address) || self.has(address) || hooks::disabled("addresses")
    }
}

fn is_public(address: IpAddr) -> bool {
    // An address of IPv4 that is mapped into IPv6 leads to the same machine.
    let address = address.to_canonical();
    let is_in = |address: IpAddr, bits| move |other: IpAddr| Network::new(address, bits).holds(other);
    match address {
        IpAddr::V4(_) => !REFUSED_V4.iter().any(|(of, bits)| is_in((*of).into(), *bits)(address)),
        IpAddr::V6(_) => {
            let (of, bits) = PUBLIC_V6;
            is_in(of.into(), bits)(address)
                && !REFUSED_V6.iter().any(|(of, bits)| is_in((*of).into(), *bits)(address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_admitted() {
        let admits = |text: &str| Allowed::default().admits(text.parse().unwrap());
        for public in
            ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]
        {
            assert!(admits(public), "{public}");
        }
        let refused = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for refused in refused {
            assert!(!admits(refused), "{refused}");
        }
    }

    #[test]
    fn the_operator_may_allow_more() {
        let allowed = Allowed::parse("127.0.0.0/8, fd00::/8").unwrap();
        assert!(allowed.admits("127.0.0.1".parse().unwrap()));
        assert!(allowed.admits("::ffff:127.0.0.1".parse().unwrap()));
        assert!(allowed.admits("fd00:ec2::254".parse().unwrap()));
        assert!(!allowed.admits("10.0.0.1".parse().unwrap()) && !allowed.admits("::1".parse().unwrap()));
        assert!(Allowed::parse("0.0.0.0/0").unwrap().has("9.9.9.9".parse().unwrap()));
        assert!(!Allowed::parse("0.0.0.0/0").unwrap().has("fd00::1".parse().unwrap()));
        for wrong in ["127.0.0.1", "127.0.0.1/33", "fd00::/129", "here/8", "10.0.0.0/-1"] {
            assert!(Allowed::parse(wrong).is_err(), "{wrong}");
        }
    }
}
