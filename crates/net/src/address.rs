//! Where a manager is reached: a name or an address, and a port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of the native protocol and of OSSEC's: UDP 1514.
pub const DEFAULT_PORT: u16 = 1514;

/// RFC 1035: a name has at most 253 characters as written.
const HOST_BYTES_MAX: usize = 253;

/// `HOST`, `HOST:PORT`, `192.0.2.1:1514`, `2001:db8::1` or `[2001:db8::1]:1514`. A name is looked up anew at each
/// connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ManagerAddress {
    pub host: String,
    pub port: u16,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    #[error("the manager's address is empty: write HOST or HOST:PORT")]
    Empty,
    #[error("\"{0}\" is not a port: write a number from 1 to 65535")]
    Port(String),
    #[error("\"{0}\" is not a host name or an address")]
    Host(String),
}

impl FromStr for ManagerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self { host: text.into(), port: DEFAULT_PORT });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, DEFAULT_PORT),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let valid = match bare {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
            None => is_host(host),
        };
        let host = bare.unwrap_or(host);
        if valid { Ok(Self { host: host.into(), port }) } else { Err(AddressError::Host(short(host))) }
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let port = if digits { text.parse().ok() } else { None };
    port.filter(|p| *p != 0).ok_or_else(|| AddressError::Port(short(text)))
}

fn is_host(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= HOST_BYTES_MAX && text.bytes().all(plain)
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

impl fmt::Display for ManagerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_addresses_with_and_without_a_port() {
        for (text, host, port) in [
            ("fim.example.com", "fim.example.com", 1514),
            (" fim:99 ", "fim", 99),
            ("192.0.2.1", "192.0.2.1", 1514),
            ("192.0.2.1:1515", "192.0.2.1", 1515),
            ("2001:db8::1", "2001:db8::1", 1514),
            ("[2001:db8::1]:7", "2001:db8::1", 7),
            ("[::1]:1514", "::1", 1514),
        ] {
            let address: ManagerAddress = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        for bad in
            ["", "  ", ":1514", "host:", "host:0", "host:70000", "host:+1", "a b", "https://x", "[::1", "[host]:1"]
        {
            assert!(bad.parse::<ManagerAddress>().is_err(), "{bad}");
        }
    }
}
