//! A range of IP addresses, such as those of a site's proxies.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// Addresses with a common prefix, as in `10.20.0.0/16`; never all there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Whether `address` is one of them. An IPv4 address within IPv6 counts as the IPv4 address.
    pub fn contains(self, address: IpAddr) -> bool {
        let (first, bits) = number(self.first);
        let (other, other_bits) = number(address.to_canonical());
        bits == other_bits && (first ^ other) >> (bits - self.prefix_bits) == 0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let Some((address, prefix)) = text.split_once('/') else {
                let first = text.parse::<IpAddr>().ok()?.to_canonical();
                return Some(Self { first, prefix_bits: number(first).1 });
            };
            let first = address.parse::<IpAddr>().ok()?;
            let prefix_bits = prefix.parse::<u32>().ok().filter(|prefix| *prefix <= number(first).1)?;
            Some(Self { first, prefix_bits })
        };
        let network = parse().ok_or_else(|| {
            format!("`{text}` is no address and no network; write one as \"10.20.0.0/16\", \"10.20.0.7\" or \"::1\"")
        })?;
        if network.prefix_bits == 0 {
            return Err(format!("`{text}` is every address there is; name those that are meant"));
        }
        let (first, bits) = number(network.first);
        let below = u128::MAX.checked_shr(128 - (bits - network.prefix_bits)).unwrap_or_default();
        if first & below != 0 {
            let mend = "a network begins with its first address, and a single address has no `/`";
            return Err(format!("`{text}` has bits beyond its prefix; {mend}"));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

/// An address as a number, and its width in bits.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}

/// The address of an IPv4 client as IPv4, also where it came to a socket of both families.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // As it was, for a link-local address is nothing without its scope.
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "a00::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
            ("192.0.2.4/31", "192.0.2.5", true),
            ("::1", "::1", true),
            ("::1", "0.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::9", true),
            ("2001:db8::/32", "2001:db9::9", false),
            ("128.0.0.0/1", "255.255.255.255", true),
        ];
        for (network, address, expected) in cases {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_a_mend() {
        let cases = [
            ("", "no address and no network"),
            ("proxy.example", "no address and no network"),
            ("10.0.0.0/33", "no address and no network"),
            ("10.0.0.0/-1", "no address and no network"),
            ("10.0.0.0/8/8", "no address and no network"),
            ("10.0.0.1/8", "bits beyond its prefix"),
            ("2001:db8::1/64", "bits beyond its prefix"),
            ("0.0.0.0/0", "every address"),
            ("::/0", "every address"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_ipv4_client_of_a_socket_of_both_families_is_shown_as_ipv4() {
        let shown = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(shown("[::ffff:127.0.0.1]:1883"), "127.0.0.1:1883");
        assert_eq!(shown("[::1]:1883"), "[::1]:1883");
        assert_eq!(shown("[fe80::1%3]:1883"), "[fe80::1%3]:1883");
    }
}
