//! Proxies before the edge that tell whom they forward for, by `X-Forwarded-For`. From anyone else the header counts for nothing: a
//! client can set it.

use std::net::IpAddr;

use crate::host::Request;

/// Networks whose proxies are trusted to tell their clients' addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// IPv4 networks are mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: u128,
    mask: u128,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

impl Network {
    /// `192.0.2.0/24`, `2001:db8::/32`, or one address.
    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (most, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits: u32 = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
        let mask = u128::MAX.checked_shl(128 - before - bits).unwrap_or(0);
        Some(Network { address: number(address) & mask, mask })
    }
}

impl TrustedProxies {
    /// From networks separated by commas. `None` if one is malformed.
    pub fn parse(list: &str) -> Option<TrustedProxies> {
        let networks = list.split(',').map(str::trim).filter(|text| !text.is_empty());
        networks.map(Network::parse).collect::<Option<Vec<_>>>().map(TrustedProxies)
    }

    fn contain(&self, address: IpAddr) -> bool {
        let number = number(address.to_canonical());
        self.0.iter().any(|network| number & network.mask == network.address)
    }

    /// The client's address: the platform's or, behind trusted proxies, the last one in `X-Forwarded-For` that is not one of
    /// theirs. A text there that is no address ends the search: whoever wrote it is the client as far as anyone knows.
    pub fn client(&self, request: &impl Request) -> Option<IpAddr> {
        let mut client = request.client_address()?;
        if self.0.is_empty() || !self.contain(client) {
            return Some(client);
        }
        let forwarded = request.header("x-forwarded-for").unwrap_or_default();
        for told in forwarded.rsplit(',') {
            let Some(address) = parse_told(told.trim()) else { break };
            client = address;
            if !self.contain(client) {
                break;
            }
        }
        Some(client)
    }
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`.
fn parse_told(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bracketed.unwrap_or(text).parse();
    address.ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The platform's address, and `X-Forwarded-For`.
    struct Asked(&'static str, Option<&'static str>);

    impl Request for Asked {
        fn method(&self) -> &str {
            "GET"
        }

        fn target(&self) -> &str {
            "/"
        }

        fn header(&self, name: &str) -> Option<String> {
            self.1.filter(|_| name == "x-forwarded-for").map(str::to_owned)
        }

        fn client_address(&self) -> Option<IpAddr> {
            self.0.parse().ok()
        }
    }

    #[test]
    fn only_a_trusted_proxy_tells_whom_it_forwards_for() {
        let trusted = TrustedProxies::parse("10.0.0.0/8, 192.0.2.7, 2001:db8:9::/48").unwrap();
        let client = |peer, told| trusted.client(&Asked(peer, told)).unwrap().to_string();
        assert_eq!(client("203.0.113.9", Some("198.51.100.1")), "203.0.113.9", "not a proxy of ours");
        assert_eq!(client("10.1.2.3", Some("198.51.100.1")), "198.51.100.1");
        assert_eq!(client("::ffff:10.1.2.3", Some("198.51.100.1:4711")), "198.51.100.1");
        assert_eq!(client("2001:db8:9::1", Some("[2001:db8::5]:80")), "2001:db8::5");
        // A client can forge the first addresses of the header; proxies append the ones they saw.
        assert_eq!(client("10.1.2.3", Some("1.1.1.1, 198.51.100.1, 192.0.2.7")), "198.51.100.1");
        assert_eq!(client("10.1.2.3", Some("198.51.100.1, nonsense, 192.0.2.7")), "192.0.2.7");
        assert_eq!(client("10.1.2.3", None), "10.1.2.3");
        assert_eq!(client("192.0.2.8", Some("198.51.100.1")), "192.0.2.8");
        assert!(trusted.client(&Asked("unknown", Some("198.51.100.1"))).is_none());
    }

    #[test]
    fn networks_are_read_strictly() {
        for good in ["", " ", "10.0.0.0/8", "::/0", "0.0.0.0/0,::1", "2001:db8::/128"] {
            assert!(TrustedProxies::parse(good).is_some(), "{good}");
        }
        for bad in ["10.0.0.0/33", "10/8", "x", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(TrustedProxies::parse(bad), None, "{bad}");
        }
        let everyone = TrustedProxies::parse("0.0.0.0/0").unwrap();
        assert!(everyone.contain("203.0.113.9".parse().unwrap()));
        assert!(!everyone.contain("2001:db8::1".parse().unwrap()));
    }
}
