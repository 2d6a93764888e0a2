//! A line of a log as an event: what was collected from a host, or came to the manager from a network device.

use std::sync::Arc;

/// A line as it was collected, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it comes from: a path, `journald`, a command's alias, a sender's address.
    pub location: Arc<str>,
    pub queue: LogQueue,
    /// At most `TEXT_BYTES_MAX`; what is longer was cut there.
    pub text: Box<[u8]>,
    /// What the manager's decoders made of it. An agent has none; the manager adds it to what it records.
    pub decoding: Option<Box<Decoding>>,
}

impl LogLine {
    /// Room for the JSON records of cloud services; OSSEC's own limit is 6 KiB.
    pub const TEXT_BYTES_MAX: usize = 32 * 1024;
    pub const LOCATION_BYTES_MAX: usize = 1024;

    pub fn new(location: impl Into<Arc<str>>, queue: LogQueue, text: impl Into<Box<[u8]>>) -> Self {
        Self { location: location.into(), queue, text: text.into(), decoding: None }
    }
}

/// By which way a line came, as OSSEC's queues tell it: some have a decoder of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogQueue {
    /// A file, a journal or a command of the agent's host.
    Local,
    /// A syslog message that came over the network.
    Syslog,
    /// What an nmap scan says of a host.
    HostInfo,
    /// What a policy check or a look for rootkits found.
    Rootcheck,
    MySql,
    PostgreSql,
}

impl LogQueue {
    pub const ALL: [Self; 6] =
        [Self::Local, Self::Syslog, Self::HostInfo, Self::Rootcheck, Self::MySql, Self::PostgreSql];

    /// As OSSEC's messages begin.
    pub const fn sign(self) -> u8 {
        match self {
            Self::Local => b'1',
            Self::Syslog => b'2',
            Self::HostInfo => b'3',
            Self::Rootcheck => b'9',
            Self::MySql => b'a',
            Self::PostgreSql => b'b',
        }
    }

    pub fn from_sign(sign: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.sign() == sign)
    }
}

/// What decoders made of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoding {
    pub decoder: Option<Arc<str>>,
    /// The host and the program that the line itself names.
    pub hostname: Option<Arc<str>>,
    pub program: Option<Arc<str>>,
    /// Name and value, in the order in which they were found: `srcip`, `user` …
    pub fields: Vec<(Arc<str>, Arc<str>)>,
}

impl Decoding {
    pub const FIELDS_MAX: usize = 64;
    pub const FIELD_NAME_BYTES_MAX: usize = 128;
    pub const FIELD_VALUE_BYTES_MAX: usize = 1024;
    /// Names and values of all fields; those that do not fit are left out with those after them.
    pub const FIELDS_BYTES_MAX: usize = 16 * 1024;
    pub const WORD_BYTES_MAX: usize = 256;
}
