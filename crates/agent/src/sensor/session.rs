//! Where a session came from: the far end of the connection that the session's sshd holds, which is the kernel's word;
//! else what the processes and the records of logins say, in the order in which they can be trusted.

use std::collections::HashMap;
use std::sync::Arc;

use tally_sys::{logins, process, tcp};
use tally_types::{Ancestor, Remote, RemoteFrom};

/// Sessions remembered; then the memory starts again.
const SESSIONS_MAX: usize = 1024;

/// What serves a session over ssh: the process that holds the connection is one of these.
const SERVERS: [&[u8]; 4] = [b"sshd", b"sshd-session", b"sshd-auth", b"dropbear"];

/// Where a process stands, as far as it concerns its session.
#[derive(Debug)]
pub struct Place<'p> {
    pub pid: u32,
    /// When it began, by the clock ticks of /proc.
    pub start_ticks: Option<u64>,
    /// The process that began its session.
    pub leader: Option<u32>,
    pub tty: Option<&'p str>,
    /// The parent first.
    pub lineage: &'p [Ancestor],
    /// Whether it can still be read.
    pub lives: bool,
}

/// The sessions that were seen last.
#[derive(Default)]
pub struct Sessions {
    /// By the number of the server and the tick of its start.
    by_server: HashMap<(u32, u64), Remote>,
    /// What was found while the server lived, for its children that outlive it.
    by_number: HashMap<u32, Remote>,
}

impl Sessions {
    /// Where the session of the process came from, if it is one from afar.
    pub fn remote(&mut self, place: &Place<'_>) -> Option<Remote> {
        let server = place.lineage.iter().find(|ancestor| is_server(ancestor)).map(|ancestor| ancestor.pid);
        if let Some(remote) = server.and_then(|server| self.of_server(server, place.start_ticks)) {
            return Some(remote);
        }
        if server.is_none() && place.tty.is_none() {
            return None;
        }
        // A process can write its own environment, so what the system's programs have recorded is better.
        recorded(place, "/run/utmp", RemoteFrom::Utmp)
            .or_else(|| recorded(place, "/var/log/wtmp", RemoteFrom::Wtmp))
            .or_else(|| environment(place))
    }

    /// A program was started by a server: what it knows is asked for now, since both may be gone before a change is told.
    pub fn began(&mut self, parent: u32, exe: Option<&Arc<[u8]>>) {
        if exe.is_some_and(|exe| serves(exe)) {
            self.of_server(parent, None);
        }
    }

    fn of_server(&mut self, server: u32, child_ticks: Option<u64>) -> Option<Remote> {
        // What has that number by now may be another process: younger than the child, or no server.
        let start = process::read(server).ok().and_then(|facts| {
            let exe = facts.exe.map(Arc::from);
            let is_older = child_ticks.is_none_or(|child| facts.start_ticks.is_some_and(|start| start <= child));
            facts.start_ticks.filter(|_| is_older && is_server(&Ancestor { pid: server, exe }))
        });
        let Some(start) = start else { return self.by_number.get(&server).cloned() };
        if let Some(remote) = self.by_server.get(&(server, start)) {
            return Some(remote.clone());
        }
        // It accepts with the lowest of its descriptors; what it forwards for its user comes after.
        let address = tcp::remotes(server, &process::sockets(server)).ok()?.into_iter().next()?;
        let remote = Remote { address: address.to_string().into(), from: RemoteFrom::Socket };
        if self.by_server.len() >= SESSIONS_MAX {
            self.by_server.clear();
            self.by_number.clear();
        }
        self.by_server.insert((server, start), remote.clone());
        self.by_number.insert(server, remote.clone());
        Some(remote)
    }
}

fn is_server(ancestor: &Ancestor) -> bool {
    ancestor.exe.as_deref().is_some_and(serves)
}

fn serves(exe: &[u8]) -> bool {
    exe.rsplit(|&b| b == b'/').next().is_some_and(|name| SERVERS.contains(&name))
}

/// The login at the process's terminal that began with one of the processes above it: a terminal is used again.
fn recorded(place: &Place<'_>, path: &str, from: RemoteFrom) -> Option<Remote> {
    let tty = place.tty?;
    let is_above = |pid: u32| {
        pid == place.pid || Some(pid) == place.leader || place.lineage.iter().any(|ancestor| ancestor.pid == pid)
    };
    let logins = logins::read(path).ok()?;
    let login = logins.iter().find(|login| login.line == tty.as_bytes())?;
    // A local display is ":0", a terminal multiplexer "tmux(12).%0".
    let is_host =
        |host: &[u8]| !host.is_empty() && !host.iter().any(|b| matches!(b, b'(' | b'%' | b' ')) && host[0] != b':';
    if !is_above(login.pid) || !is_host(&login.host) {
        return None;
    }
    Some(Remote { address: String::from_utf8_lossy(&login.host).into(), from })
}

/// `SSH_CONNECTION` is "address port address port": the far end first.
fn environment(place: &Place<'_>) -> Option<Remote> {
    if !place.lives {
        return None;
    }
    let of = |pid| process::environment(pid, "SSH_CONNECTION");
    let value = place.leader.and_then(of).or_else(|| of(place.pid))?;
    let mut words = std::str::from_utf8(&value).ok()?.split(' ');
    let (address, port) = (words.next()?, words.next()?);
    let address: std::net::IpAddr = address.parse().ok()?;
    let address = std::net::SocketAddr::new(address, port.parse().ok()?);
    Some(Remote { address: Arc::from(address.to_string()), from: RemoteFrom::Environment })
}
