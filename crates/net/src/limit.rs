//! Every bound that the network keeps, in one place, each with the reason for its number.

use std::time::Duration;

/// The largest frame of a session: a batch, or the nodes of a sync (DESIGN: messages up to 1 MiB).
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// The largest frame of an enrolment: a token, a name and a CSR fit many times over.
pub const ENROL_FRAME_BYTES_MAX: usize = 64 << 10;

/// Bytes of one connection in flight towards us that we are ready to hold, and of our own that wait for the peer's word.
/// 256 KiB carry 2.5 MB/s over a round trip of 100 ms; 20,000 peers that all fill it would hold 5 GB, but only a peer
/// whose reader is behind fills it at all.
pub(crate) const WINDOW_BYTES: u32 = 256 << 10;

/// What a peer may send while its handshake is still being looked at; two flights of a client fit.
pub(crate) const INCOMING_BUFFER_BYTES: u64 = 16 << 10;

/// The same for all of them together.
pub(crate) const INCOMING_BUFFER_BYTES_TOTAL: u64 = 8 << 20;

/// The kernel's buffer for the port: the heartbeats of 20,000 agents (about 200 bytes and its bookkeeping each) in one
/// burst. The kernel grants at most net.core.rmem_max.
pub(crate) const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// OSSEC's longest datagram (its OS_MAXSTR); a longer one is cut by the kernel and cannot be read.
pub(crate) const FOREIGN_DATAGRAM_BYTES_MAX: u16 = 6144;

/// Datagrams of OSSEC's agents that wait: the first scan of 50,000 files takes 18 MiB in all.
pub(crate) const FOREIGN_BYTES_MAX: usize = 64 << 20;

/// The same of one address, behind which a whole site may be.
pub(crate) const FOREIGN_BYTES_PER_ADDRESS_MAX: usize = FOREIGN_BYTES_MAX / 2;

/// Enrolments by OSSEC's protocol at once, and those that wait.
pub(crate) const AUTHD_WORKERS: usize = 8;
pub(crate) const AUTHD_WAITING: usize = 64;
/// Of them from one address.
pub(crate) const AUTHD_PER_ADDRESS_MAX: usize = 4;
/// For all of one enrolment.
pub(crate) const AUTHD_TIME_MAX: Duration = Duration::from_secs(10);

/// Connections that bring syslog: each has a thread that waits for it.
pub(crate) const SYSLOG_CONNECTIONS_MAX: usize = 256;
/// A relay that fans out has several.
pub(crate) const SYSLOG_PER_ADDRESS_MAX: usize = 16;
/// A connection that says nothing for so long is closed; whoever has something to say opens another.
pub(crate) const SYSLOG_QUIET_MAX: Duration = Duration::from_secs(3600);

/// Connections that the server has finished but the manager has not yet taken.
pub(crate) const ACCEPT_QUEUE: usize = 128;

/// Words that come with a close, ours or the peer's: more is cut.
pub(crate) const CLOSE_TEXT_CHARS_MAX: usize = 200;

/// How long to wait, when a connection ends in good order, until the peer has everything.
pub(crate) const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

/// Addresses of one manager's name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// How long the next address of a name is held back while the one before it has not answered (RFC 8305 recommends
/// 250 ms; a name that has an address of a family which leads nowhere must still enrol in under a second).
pub(crate) const ADDRESS_STAGGER: Duration = Duration::from_millis(200);

/// The bounds that a server or a client may be given other values for (tests do).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Peers at once that are not yet known to be agents: in their handshake, or enrolling.
    pub strangers_max: usize,
    /// The same from one address (IPv6: one /64). A site behind one address still enrols dozens a second.
    pub strangers_per_address_max: usize,
    /// With more strangers than this, a peer must first prove its address (a Retry packet, which costs us no state).
    pub retry_above: usize,
    /// All connections at once.
    pub connections_max: usize,
    /// Connections of one agent; a further one closes the oldest. More than one happens when an agent was killed and its
    /// old connection is not yet known to be dead.
    pub connections_per_agent_max: usize,
    /// From a peer's first packet until it is known who it is.
    pub handshake_time_max: Duration,
    /// A whole enrolment.
    pub enrol_time_max: Duration,
    /// How long we wait, in all, for the bytes of one frame that has begun, or for the peer to take one of ours. A slower
    /// peer is cut off: 1 MiB in 60 s is 17 KB/s.
    pub frame_time_max: Duration,
    /// A connection on which nothing at all is heard for so long is dead.
    pub idle_time_max: Duration,
    /// The client sends a sign of life when it has been quiet for so long: below the 30 s after which firewalls forget a
    /// UDP flow, above the heartbeat of the session, which makes it needless.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            strangers_max: 512,
            strangers_per_address_max: 64,
            retry_above: 64,
            connections_max: 65_536,
            connections_per_agent_max: 4,
            handshake_time_max: Duration::from_secs(10),
            enrol_time_max: Duration::from_secs(10),
            frame_time_max: Duration::from_secs(60),
            idle_time_max: Duration::from_secs(30),
            keep_alive: Duration::from_secs(12),
        }
    }
}
