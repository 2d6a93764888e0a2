//! `[agent.responses]`: which programs the manager may have run on this host. Only the host's own file says so.

use core::net::IpAddr;
use std::sync::Arc;

use tally_types::PathBytes;

/// Nothing is allowed as long as nothing is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseConfig {
    /// `allow = ["firewall-drop"]`: by these names the manager may have programs run. The program is the file of that name in
    /// `dir`, with or without `.sh`; `"*"` is every file there.
    pub allow: Vec<Arc<str>>,
    /// `dir = "/etc/tallystick/responses"`.
    pub dir: PathBytes,
    /// `never = ["10.0.0.0/8"]`: nothing is run against these, whatever the manager says.
    pub never: Vec<Network>,
    /// `repeated_minutes = [30, 60]`: how long a response lasts the second time against the same one, the third …
    pub repeated_minutes: Vec<u32>,
}

impl ResponseConfig {
    pub const DIR: &'static str = "/etc/tallystick/responses";
    /// A month.
    pub const REPEATED_MINUTES_MAX: u32 = 31 * 24 * 60;

    /// Whether the manager may have anything run.
    pub const fn is_on(&self) -> bool {
        !self.allow.is_empty()
    }

    pub fn allows(&self, name: &str) -> bool {
        self.allow.iter().any(|allowed| **allowed == *"*" || **allowed == *name)
    }

    /// Whether this can be the name of a program: a word without anything that leads elsewhere.
    pub fn is_name(name: &str) -> bool {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        !name.is_empty() && name.len() <= 64 && !name.starts_with(['-', '.']) && name.chars().all(is_plain)
    }
}

impl Default for ResponseConfig {
    fn default() -> Self {
        let dir = PathBytes::new(Self::DIR.as_bytes()).expect("it is absolute and normal");
        Self { allow: Vec::new(), dir, never: Vec::new(), repeated_minutes: Vec::new() }
    }
}

/// An address, or those that begin as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse().ok()?, Some(bits.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let width = width(address);
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Self { address, bits })
    }

    pub fn covers(&self, address: IpAddr) -> bool {
        let number = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let others = width(address) - self.bits.min(width(address));
        let differs = number(self.address) ^ number(address);
        width(self.address) == width(address) && differs.checked_shr(others).unwrap_or(0) == 0
    }
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_covers_what_begins_as_it_does() {
        let covers = |network: &str, address: &str| Network::parse(network).unwrap().covers(address.parse().unwrap());
        assert!(covers("10.0.0.0/8", "10.255.0.1") && !covers("10.0.0.0/8", "11.0.0.1"));
        assert!(covers("192.0.2.1", "192.0.2.1") && !covers("192.0.2.1", "192.0.2.2"));
        assert!(covers("0.0.0.0/0", "8.8.8.8") && !covers("0.0.0.0/0", "::1"));
        assert!(covers("2001:db8::/32", "2001:db8:1::2") && !covers("2001:db8::/32", "2001:db9::"));
        assert!(covers("::/0", "::1") && covers("::1", "::1"));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/-1", "10.0.0.0/"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
