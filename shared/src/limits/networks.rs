//! The networks that limits count an address by. Who holds one address often holds its whole network: of IPv6 a site gets a /56 and an
//! organisation a /48, of IPv4 a /24 is rented as a whole.

use std::net::{IpAddr, Ipv6Addr};

use super::{LimitRow, Scope};

/// The names of an address's networks, narrowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    /// IPv4 whole (also when mapped into IPv6), IPv6 by its /64.
    pub address: String,
    /// IPv6: /56. IPv4 has none between the address and its /24.
    pub site: Option<String>,
    /// IPv4: /24. IPv6: /48. It decides the slot of all limits of the address.
    pub network: String,
}

/// A client's address as the narrowest limits count it: [`Networks::address`].
pub fn address_parameter(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => prefix(v6, 64),
    }
}

/// The first `bits` of an address: 48, 56 or 64 of them. (The standard library's text would be larger code, for an edge.)
fn prefix(address: Ipv6Addr, bits: u32) -> String {
    let [a, b, c, d, ..] = address.segments();
    match bits {
        48 => format!("{a:x}:{b:x}:{c:x}::/48"),
        56 => format!("{a:x}:{b:x}:{c:x}:{:x}::/56", d & 0xff00),
        _ => format!("{a:x}:{b:x}:{c:x}:{d:x}::/64"),
    }
}

impl Networks {
    /// From the narrowest name. A text that names no address is a network of its own.
    pub fn of(address: &str) -> Networks {
        let (text, is_v6) = address.strip_suffix("/64").map_or((address, false), |text| (text, true));
        let (site, network) = match text.parse() {
            Ok(IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                (None, format!("{a}.{b}.{c}.0/24"))
            }
            Ok(IpAddr::V6(v6)) if is_v6 => (Some(prefix(v6, 56)), prefix(v6, 48)),
            _ => (None, address.to_owned()),
        };
        Networks { address: address.to_owned(), site, network }
    }

    /// The key of a limit that counts addresses or networks; `None` if the address has no network of the kind.
    pub fn key(&self, row: &LimitRow) -> Option<String> {
        match row.scope {
            Scope::Address => Some(row.key_of_part(&self.network, &self.address)),
            Scope::Site => self.site.as_ref().map(|site| row.key_of_part(&self.network, site)),
            Scope::Network => Some(row.key(&self.network)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_count_by_their_networks() {
        let networks = |text: &str| Networks::of(&address_parameter(text.parse().unwrap()));
        let v4 = networks("203.0.113.9");
        assert_eq!(
            (v4.address.as_str(), &v4.site, v4.network.as_str()),
            ("203.0.113.9", &None, "203.0.113.0/24")
        );
        assert_eq!(networks("::ffff:203.0.113.9"), v4);
        let v6 = networks("2001:db8:1:2fe:3:4:5:6");
        assert_eq!(v6.address, "2001:db8:1:2fe::/64");
        assert_eq!(v6.site.as_deref(), Some("2001:db8:1:200::/56"));
        assert_eq!(v6.network, "2001:db8:1::/48");
        assert_eq!(networks("2001:db8:1:2fe::ffff"), v6);
        assert_eq!(networks("2001:db8:1:fe::1").network, v6.network);
        assert_ne!(networks("2001:db8:2:2fe::1").network, v6.network);
        assert_eq!(networks("::1").address, "0:0:0:0::/64");
        assert_eq!(Networks::of("unknown").network, "unknown");
    }
}
