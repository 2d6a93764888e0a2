//! Which TCP connection an open socket is: its far end, from the kernel's tables of connections; and what of it has arrived.
//!
//! Source: proc_pid_net(5), /proc/PID/net/tcp and tcp6: one line a connection, addresses as hexadecimal words in the
//! machine's own order. They are those of the network namespace that the process is in.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// As much of a table as is searched: some 100,000 connections.
const TABLE_BYTES_MAX: u64 = 16 << 20;
const ESTABLISHED: &str = "01";

/// One established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub inode: u64,
    pub remote: SocketAddr,
}

/// The far ends of the established connections among the sockets of these inodes, in their order.
pub fn remotes(pid: u32, inodes: &[u64]) -> io::Result<Vec<SocketAddr>> {
    let mut connections = Vec::new();
    for table in ["tcp", "tcp6"] {
        let mut text = String::new();
        match std::fs::File::open(format!("/proc/{pid}/net/{table}")) {
            Ok(file) => file.take(TABLE_BYTES_MAX).read_to_string(&mut text)?,
            // A machine without IPv6 has no table of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        connections.extend(parse(&text).filter(|connection| inodes.contains(&connection.inode)));
    }
    let of = |inode: &u64| connections.iter().find(|connection| connection.inode == *inode);
    Ok(inodes.iter().filter_map(of).map(|connection| connection.remote).collect())
}

/// How many bytes were written to a connection that the far kernel has not confirmed yet (tcp(7), SIOCOUTQ).
pub fn unconfirmed(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SIOCOUTQ has the number of TIOCOUTQ (linux/sockios.h).
    // SAFETY: the descriptor is open for as long as it is borrowed, and the request writes one int, which outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(u32::try_from(bytes).unwrap_or(0)) }
}

/// The established connections of a table; what is no such line is passed over.
pub fn parse(table: &str) -> impl Iterator<Item = Connection> {
    table.lines().filter_map(connection)
}

fn connection(line: &str) -> Option<Connection> {
    let mut words = line.split_ascii_whitespace();
    let remote = words.nth(2)?;
    if words.next()? != ESTABLISHED {
        return None;
    }
    let inode = words.nth(5)?.parse().ok()?;
    Some(Connection { inode, remote: address(remote)? })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use proptest::prelude::*;

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_both_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:1F90 0200007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 20\n   \
             1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20\n   \
             2: 0000000000000000FFFF00000100007F:0016 0000000000000000FFFF00000300007F:8000 01 00000000:00000000 \
             00:00000000 00000000     0        0 4713 1 0 20\nnonsense\n";
        let found: Vec<_> = parse(table).map(|c| (c.inode, c.remote.to_string())).collect();
        assert_eq!(found, [(4711, "127.0.0.2:40000".to_owned()), (4713, "127.0.0.3:32768".to_owned())]);
    }

    #[test]
    fn finds_the_far_end_of_a_socket_of_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, from) = listener.accept().unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", server.as_raw_fd())).unwrap();
        let inode = link.to_str().unwrap()["socket:[".len()..].trim_end_matches(']').parse().unwrap();
        assert_eq!(remotes(std::process::id(), &[1, inode]).unwrap(), [from]);
        assert_eq!(client.local_addr().unwrap(), from);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in "(?s).{0,300}", hex in "[0-9A-Fa-fé:]{0,40}") {
            parse(&text).count();
            address(&hex);
        }
    }
}
