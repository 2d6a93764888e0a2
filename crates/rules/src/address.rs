//! Lists of addresses, as `<srcip>` and `<dstip>` of a rule have them.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, address lists). An address is numeric; IPv4 is read as `inet_aton` reads it
//! (`10.1` is 10.0.0.1), an IPv4-mapped IPv6 address is the IPv4 one. The first entry that holds the address decides.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `192.0.2.0/24`, or `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// 0 bits hold every address of any family.
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn parse(text: &str) -> Option<Self> {
        if text == "any" {
            return Some(Self { address: Ipv4Addr::UNSPECIFIED.into(), bits: 0 });
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits.parse::<u8>().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let written = numeric(address.as_bytes())?;
        let bits_max = if written.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(bits_max);
        if bits > bits_max {
            return None;
        }
        // A mapped address has 96 bits in front that the IPv4 one has not.
        match (written, plain(written)) {
            (IpAddr::V6(_), address @ IpAddr::V4(_)) if bits >= 96 => Some(Self { address, bits: bits - 96 }),
            _ => Some(Self { address: written, bits }),
        }
    }

    fn holds(self, address: IpAddr) -> bool {
        if self.bits == 0 {
            return true;
        }
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                (u32::from(network) ^ u32::from(address)) >> shift == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                (u128::from(network) ^ u128::from(address)) >> shift == 0
            }
            _ => false,
        }
    }
}

/// Entries in their order, each with whether it is negated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressList(Vec<(bool, Network)>);

impl AddressList {
    /// One more entry, as `!10.0.0.0/8`; `false` if it is none.
    #[must_use]
    pub fn add(&mut self, text: &str) -> bool {
        let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let Some(network) = Network::parse(text) else { return false };
        self.0.push((negated, network));
        true
    }

    /// What is no address is in no list, not even in one that only negates.
    pub fn matches(&self, value: &[u8]) -> bool {
        let Some(address) = numeric(value).map(plain) else { return false };
        match self.0.iter().find(|(_, network)| network.holds(address)) {
            Some((negated, _)) => !negated,
            None => self.0.last().is_some_and(|(negated, _)| *negated),
        }
    }
}

fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// A longer text is no address.
const ADDRESS_BYTES_MAX: usize = 64;

fn numeric(text: &[u8]) -> Option<IpAddr> {
    if text.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    let text = str::from_utf8(text).ok()?;
    // Behind a `%` stands through which interface a link-local address is meant.
    let v6 = || text.split('%').next()?.parse::<Ipv6Addr>().ok();
    if text.contains(':') { v6().map(IpAddr::V6) } else { short(text).map(IpAddr::V4) }
}

/// One to four numbers; the last fills what is left.
fn short(text: &str) -> Option<Ipv4Addr> {
    let mut bits = 0u32;
    let mut parts = text.split('.').peekable();
    for place in 0..4 {
        let number = number(parts.next()?)?;
        if parts.peek().is_some() {
            bits |= number.checked_mul(1 << (24 - 8 * place)).filter(|_| number < 256)?;
        } else {
            let limit = 1u64 << (32 - 8 * place);
            return (u64::from(number) < limit).then(|| Ipv4Addr::from(bits | number));
        }
    }
    None
}

/// Decimal, octal (`010`) or hexadecimal (`0x8`).
fn number(text: &str) -> Option<u32> {
    let digits = |text: &str, radix| {
        let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        if all { u32::from_str_radix(text, radix).ok() } else { None }
    };
    match text.strip_prefix('0') {
        Some(rest) if rest.starts_with(['x', 'X']) => digits(&rest[1..], 16),
        Some(rest) if !rest.is_empty() => digits(rest, 8),
        _ => digits(text, 10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(entries: &[&str]) -> AddressList {
        let mut list = AddressList::default();
        assert!(entries.iter().all(|entry| list.add(entry)), "{entries:?}");
        list
    }

    #[test]
    fn the_first_entry_that_holds_it_decides_and_a_negated_end_turns_the_default() {
        for (entries, inside, outside) in [
            (&["10.1.0.0/16"][..], &["10.1.2.3", "::ffff:10.1.2.3"][..], &["10.2.0.0", "10.1.2.3x", "", "::1"][..]),
            (&["!1.2.3.4", "!5.5.5.5"], &["9.9.9.9", "::1"], &["1.2.3.4", "5.5.5.5", "-", "host"]),
            (&["1.2.3.0/24", "!5.5.5.5"], &["1.2.3.9", "9.2.3.4"], &["5.5.5.5"]),
            (&["!1.2.3.4", "1.2.3.0/24"], &["1.2.3.5"], &["1.2.3.4", "9.9.9.9"]),
            (&["any"], &["1.2.3.4", "2001:db8::1"], &["nobody"]),
            (&["2001:db8::/33"], &["2001:db8:7fff::1"], &["2001:db8:8000::1", "1.2.3.4"]),
            (&["::ffff:1.2.3.0/120"], &["1.2.3.4"], &["1.2.4.4"]),
            (&["10.1"], &["10.0.0.1"], &["10.1.0.0"]),
            (&["!10.0.0.0/8"], &["fe80::1%eth0"], &["10.0.0.1%eth0"]),
        ] {
            let list = list(entries);
            assert!(inside.iter().all(|address| list.matches(address.as_bytes())), "{entries:?} {inside:?}");
            assert!(!outside.iter().any(|address| list.matches(address.as_bytes())), "{entries:?} {outside:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for entry in [
            "",
            "!",
            "10.0.0.0/33",
            "10.0.0.0/255.255.0.0",
            "host.example",
            "2001:db8::/129",
            "10.0.",
            "! 10.0.0.1",
            "10.0.0.1,10.0.0.2",
            "256.1.1.1",
            "1.2.3.4.5",
            "1.2.3.4/",
            "ANY",
            "0x",
            "1.2.3.4 ",
            "+1.2.3.4",
        ] {
            assert!(!AddressList::default().add(entry), "{entry}");
        }
    }

    proptest! {
        #[test]
        fn reads_all_that_is_written(bits in any::<u32>(), wide in any::<u128>()) {
            let (v4, v6) = (Ipv4Addr::from(bits), Ipv6Addr::from(wide));
            prop_assert_eq!(numeric(v4.to_string().as_bytes()), Some(IpAddr::V4(v4)));
            prop_assert_eq!(numeric(v6.to_string().as_bytes()), Some(IpAddr::V6(v6)));
        }

        #[test]
        fn random_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..40), words in "[!0-9a-fx:./]{0,24}") {
            let _ = AddressList::default().add(&words);
            list(&["10.0.0.0/8"]).matches(&text);
            list(&["::/0"]).matches(words.as_bytes());
        }
    }
}
