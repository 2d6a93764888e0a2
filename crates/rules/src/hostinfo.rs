//! What a port scan says of hosts: which are new, and whose open ports have changed.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, hostinfo). Other than there a host is told apart by its whole address, not by how
//! its line begins.

use std::collections::BTreeMap;

/// At this number the first of the table is forgotten, and is new when it is seen again.
const HOSTS_MAX: usize = 100_000;
const PORTS_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum HostInfo {
    /// The decoder's name is `hostinfo_new`.
    New,
    /// `hostinfo_modified`.
    Modified,
    /// Nothing new: no event.
    Known,
    /// It does not say `Host: 192.0.2.1 (name), open ports: …`.
    Unreadable,
}

#[derive(Clone, Debug, Default)]
pub struct Hosts {
    ports: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

impl Hosts {
    pub fn look(&mut self, text: &[u8]) -> HostInfo {
        let Some((host, ports)) = parse(text) else { return HostInfo::Unreadable };
        if self.ports.len() >= HOSTS_MAX && !self.ports.contains_key(host) {
            self.ports.pop_first();
        }
        match self.ports.insert(host.into(), ports.into()) {
            None => HostInfo::New,
            Some(before) if *before == *ports => HostInfo::Known,
            Some(_) => HostInfo::Modified,
        }
    }

    /// Lines of OSSEC's `queue/fts/hostinfo`, for taking over and for keeping.
    pub fn lines(&self) -> impl Iterator<Item = Vec<u8>> {
        self.ports.iter().map(|(host, ports)| [b"Host: ", &**host, b", ", &**ports].concat())
    }
}

fn parse(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = text.strip_prefix(b"Host: ")?;
    let comma = rest.iter().position(|byte| *byte == b',')?;
    let host = rest[..comma].split(|byte| *byte == b' ').next()?;
    let ports = rest[comma + 1..].strip_prefix(b" ")?;
    (!host.is_empty() && ports.len() <= PORTS_BYTES_MAX).then_some((host, ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_new_and_changed_hosts() {
        let mut hosts = Hosts::default();
        for (text, answer) in [
            ("Host: 1.2.3.4 (a), open ports: 22(tcp)", HostInfo::New),
            ("Host: 1.2.3.4 (b), open ports: 22(tcp)", HostInfo::Known),
            ("Host: 1.2.3.40, open ports: 22(tcp)", HostInfo::New),
            ("Host: 1.2.3.4, open ports: 22(tcp) 80(tcp)", HostInfo::Modified),
            ("Host: 1.2.3.4", HostInfo::Unreadable),
            ("Host: , x", HostInfo::Unreadable),
            ("x", HostInfo::Unreadable),
        ] {
            assert_eq!(hosts.look(text.as_bytes()), answer, "{text}");
        }
        let mut again = Hosts::default();
        for line in hosts.lines() {
            assert_eq!(again.look(&line), HostInfo::New);
        }
        assert_eq!(again.ports, hosts.ports);
    }
}
