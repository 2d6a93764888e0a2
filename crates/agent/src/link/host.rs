//! What the host is: read from the kernel's files, which anybody may read, and for its place in a cloud from `cloud`.
//!
//! Sources: os-release(5), proc(5) (`/proc/sys/kernel`, `/proc/net/fib_trie`, `/proc/net/if_inet6`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use tally_proto::limit::{HOST_ADDRESSES_MAX, WORD_BYTES_MAX};
use tally_proto::message::Host;

/// Of a file that is read here.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// All but its place in a cloud. It asks nobody.
pub fn read(manager: Option<SocketAddr>) -> Host {
    let word = |path: &str| file(path).map(|text| shown(text.trim())).unwrap_or_default();
    let architecture = word("/proc/sys/kernel/arch");
    let os = ["/etc/os-release", "/usr/lib/os-release"].into_iter().find_map(|path| os_name(&file(path)?));
    let local = file("/proc/net/fib_trie").map(|text| ipv4(&text)).unwrap_or_default().into_iter().map(IpAddr::V4);
    let local =
        local.chain(file("/proc/net/if_inet6").map(|text| ipv6(&text)).unwrap_or_default().into_iter().map(IpAddr::V6));
    Host {
        name: word("/proc/sys/kernel/hostname"),
        os: os.unwrap_or_default(),
        kernel: word("/proc/sys/kernel/osrelease"),
        architecture: if architecture.is_empty() { std::env::consts::ARCH.into() } else { architecture },
        addresses: addresses(manager.and_then(towards), local),
        cloud: None,
    }
}

fn file(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// By which address packets to the manager leave. Nothing is sent for that.
fn towards(manager: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if manager.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(manager).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The first one, then the others in their order. Loopback counts only where it is the way to the manager.
fn addresses(first: Option<IpAddr>, others: impl Iterator<Item = IpAddr>) -> Vec<Arc<str>> {
    let mut seen = BTreeSet::new();
    let others = others.filter(|address| !address.is_loopback() && !address.is_unspecified());
    let all = first.into_iter().chain(others).filter(|address| seen.insert(*address));
    all.take(HOST_ADDRESSES_MAX).map(|address| address.to_string().into()).collect()
}

/// `PRETTY_NAME`, or else the name.
fn os_name(text: &str) -> Option<Arc<str>> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        let inner = line.trim();
        let inner = ['"', '\''].into_iter().find_map(|q| inner.strip_prefix(q)?.strip_suffix(q)).unwrap_or(inner);
        let plain = shown(&inner.replace('\\', ""));
        (!plain.is_empty()).then_some(plain)
    };
    value("PRETTY_NAME").or_else(|| value("NAME"))
}

/// The addresses of this host in the kernel's trie of routes: a leaf is followed by what kind it is.
fn ipv4(text: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut leaf = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.ends_with("host LOCAL") {
            found.extend(leaf.filter(|address: &Ipv4Addr| !address.is_loopback()));
        }
    }
    found
}

/// Those of the whole world (scope 00): the address in hexadecimal digits, device, length, scope, flags, name.
fn ipv6(text: &str) -> BTreeSet<Ipv6Addr> {
    let address = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (digits, scope) = (fields.first()?, fields.get(3)?);
        let is_whole = digits.len() == 32 && *scope == "00";
        let bits = u128::from_str_radix(digits, 16).ok()?;
        is_whole.then(|| Ipv6Addr::from(bits))
    };
    text.lines().filter_map(address).collect()
}

/// Without control characters, and not longer than the wire takes.
pub fn shown(text: &str) -> Arc<str> {
    let mut out = String::new();
    for sign in text.chars().filter(|sign| !sign.is_control()) {
        if out.len() + sign.len_utf8() > WORD_BYTES_MAX {
            break;
        }
        out.push(sign);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_says_what_it_is() {
        let host = read(Some("127.0.0.1:1514".parse().unwrap()));
        assert!(!host.name.is_empty() && !host.kernel.is_empty() && !host.architecture.is_empty(), "{host:?}");
        assert_eq!(host.addresses.first().map(|address| &**address), Some("127.0.0.1"));
    }

    #[test]
    fn systems_have_names() {
        let debian = "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(os_name(debian).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(os_name("NAME=Alpine\n").as_deref(), Some("Alpine"));
        assert_eq!(os_name("NAME='A\\$b\x1b'\n").as_deref(), Some("A$b"));
        assert_eq!(os_name("# nothing\nPRETTY_NAME=\n"), None);
        assert_eq!(shown(&"é".repeat(400)).len(), WORD_BYTES_MAX);
    }

    #[test]
    fn addresses_are_those_of_the_host() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 127.0.0.1\n        \
                    /32 host LOCAL\n     |-- 192.0.2.17\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(ipv4(trie).into_iter().map(|a| a.to_string()).collect::<Vec<_>>(), ["192.0.2.17"]);
        let six =
            "20010db8000000000000000000000017 02 40 00 80 eth0\nfe800000000000000000000000000001 02 40 20 80 eth0\nx\n";
        assert_eq!(ipv6(six).into_iter().map(|a| a.to_string()).collect::<Vec<_>>(), ["2001:db8::17"]);
        let some = ["10.0.0.1", "192.0.2.17", "127.0.0.1"].map(|text| text.parse().unwrap());
        assert_eq!(addresses(Some(some[1]), some.into_iter()).len(), 2);
        assert_eq!(&*addresses(Some(some[1]), some.into_iter())[0], "192.0.2.17");
    }
}
