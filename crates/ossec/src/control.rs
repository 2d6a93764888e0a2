//! What agents and manager say to each other beside events: payloads that begin with `#!-`.
//!
//! An agent says that it starts and, every ten minutes, what it is and which shared files it holds; the manager answers,
//! sends shared files, and gives orders. Shared files go as one, `merged.mg`: `"!" SIZE " " NAME "\n" BYTES` for each.

use std::fmt::Write as _;

use crate::secure::md5_hex;

pub const CONTROL: &[u8] = b"#!-";
const STARTUP: &[u8] = b"agent startup ";
/// The most bytes of `merged.mg` in one message.
pub const CHUNK_BYTES: usize = 900;
/// More shared files than this are not sent.
pub const SHARED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The name under which shared files go.
pub const MERGED: &str = "merged.mg";
/// What an agent says of itself is kept up to here.
const UNAME_BYTES_MAX: usize = 512;
/// Lines of a keepalive that name files.
const FILES_MAX: usize = 16;

/// An MD5 as agents and manager name shared files by it.
pub type Sum = [u8; 32];

/// What an agent says that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Startup,
    KeepAlive(KeepAlive),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// `Linux web 6.1.0 #1 SMP … x86_64 - OSSEC HIDS v3.7.0`, printable.
    pub uname: String,
    /// Of the agent's `etc/shared/agent.conf`, if it has one.
    pub agent_conf: Option<Sum>,
    /// Of the shared files that it holds; `None` where it has none.
    pub merged: Option<Sum>,
}

impl KeepAlive {
    /// `OSSEC HIDS v3.7.0`; empty where the agent says none.
    pub fn version(&self) -> &str {
        self.uname.rsplit_once(" - ").map_or("", |(_, version)| version)
    }

    /// What the agent runs on.
    pub fn system(&self) -> &str {
        self.uname.rsplit_once(" - ").map_or(&self.uname, |(system, _)| system)
    }
}

impl Said {
    /// `None`: this is no control message, or not one that agents send.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let said = payload.strip_prefix(CONTROL)?;
        if said.starts_with(STARTUP) {
            return Some(Self::Startup);
        }
        let mut lines = said.split(|b| *b == b'\n');
        let first = lines.next()?;
        let (uname, agent_conf) = split_sum(first);
        if uname.is_empty() {
            return None;
        }
        let files = lines.take(FILES_MAX).take_while(|line| !line.is_empty());
        let merged = files
            .filter_map(|line| line.split_at_checked(32))
            .find_map(|(sum, name)| (name.strip_prefix(b" ")? == MERGED.as_bytes()).then(|| sum_of(sum)).flatten());
        Some(Self::KeepAlive(KeepAlive { uname: printable(uname), agent_conf, merged }))
    }
}

/// Divides ` / MD5` from the end of a line.
fn split_sum(line: &[u8]) -> (&[u8], Option<Sum>) {
    let at = line.len().saturating_sub(35);
    match line.split_at(at) {
        (uname, rest) if rest.starts_with(b" / ") => match sum_of(&rest[3..]) {
            Some(sum) => (uname, Some(sum)),
            None => (line, None),
        },
        _ => (line, None),
    }
}

fn sum_of(hex: &[u8]) -> Option<Sum> {
    let is_hex = hex.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    if is_hex { hex.try_into().ok() } else { None }
}

fn printable(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(UNAME_BYTES_MAX)];
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What the manager says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The answer to every control message.
    Ack,
    /// Check the files now. An agent that has been running sends what differs from what it last sent.
    RestartSyscheck,
    /// Run a program of `ar.conf`: `NAME USER ADDRESS TIME.ID RULE LOCATION FILE`.
    Execute(Box<str>),
    FileBegins {
        sum: Sum,
    },
    FilePart(Box<[u8]>),
    FileEnds,
}

impl Order {
    /// The command by which an agent starts itself anew; each `ar.conf` has it.
    pub fn restart_agent() -> Self {
        Self::Execute("restart-ossec0 - null (from_the_server) (no_rule_id)".into())
    }

    pub fn payload(&self) -> Vec<u8> {
        match self {
            Self::Ack => b"#!-agent ack ".to_vec(),
            Self::RestartSyscheck => b"#!-syscheck restart".to_vec(),
            Self::Execute(command) => [b"#!-execd ", command.as_bytes()].concat(),
            Self::FileBegins { sum } => [b"#!-up file ", &sum[..], b" merged.mg\n"].concat(),
            Self::FilePart(bytes) => bytes.to_vec(),
            Self::FileEnds => b"#!-close file ".to_vec(),
        }
    }

    /// What an agent makes of a payload. Anything between the beginning and the end of a file is a part of it.
    pub fn parse(payload: &[u8]) -> Self {
        let Some(order) = payload.strip_prefix(CONTROL) else { return Self::FilePart(payload.into()) };
        if let Some(command) = order.strip_prefix(b"execd ") {
            return Self::Execute(String::from_utf8_lossy(command).into());
        }
        if let Some(file) = order.strip_prefix(b"up file ") {
            return file
                .get(..32)
                .and_then(sum_of)
                .map_or_else(|| Self::FilePart(payload.into()), |sum| Self::FileBegins { sum });
        }
        match order {
            b"agent ack " => Self::Ack,
            b"syscheck restart" => Self::RestartSyscheck,
            b"close file " => Self::FileEnds,
            _ => Self::FilePart(payload.into()),
        }
    }
}

/// All shared files as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    bytes: Vec<u8>,
    sum: Sum,
}

impl Default for Merged {
    /// No files.
    fn default() -> Self {
        Self { bytes: Vec::new(), sum: md5_hex(&[]) }
    }
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MergedError {
    #[error("the shared files have more than {SHARED_BYTES_MAX} bytes")]
    TooLarge,
    #[error("\"{0}\" cannot be the name of a shared file")]
    Name(String),
    #[error("byte {0} of the merged file does not begin a file")]
    Header(usize),
}

impl Merged {
    /// Joins files in the order given.
    pub fn new<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Result<Self, MergedError> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\n']) || name == MERGED {
                return Err(MergedError::Name(name.chars().take(64).collect()));
            }
            if bytes.len() + name.len() + content.len() + 32 > SHARED_BYTES_MAX {
                return Err(MergedError::TooLarge);
            }
            let mut head = String::new();
            // Writing to a string cannot fail.
            let _ = writeln!(head, "!{} {name}", content.len());
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(content);
        }
        let sum = md5_hex(&[&bytes]);
        Ok(Self { bytes, sum })
    }

    pub const fn sum(&self) -> &Sum {
        &self.sum
    }

    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The messages that bring it, one after the other; `None` behind the last one.
    pub fn order(&self, step: usize) -> Option<Order> {
        let parts = self.bytes.len().div_ceil(CHUNK_BYTES);
        match step {
            0 => Some(Order::FileBegins { sum: self.sum }),
            step if step <= parts => {
                let start = (step - 1) * CHUNK_BYTES;
                let end = self.bytes.len().min(start + CHUNK_BYTES);
                Some(Order::FilePart(self.bytes[start..end].into()))
            }
            step if step == parts + 1 => Some(Order::FileEnds),
            _ => None,
        }
    }

    /// Parts a merged file again, as an agent does.
    pub fn parse(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, MergedError> {
        let mut files = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let file = read_file(&bytes[at..]).ok_or(MergedError::Header(at))?;
            at += file.2;
            files.push((file.0, file.1));
        }
        Ok(files)
    }
}

/// Name, content, and how many bytes both took.
fn read_file(bytes: &[u8]) -> Option<(String, Vec<u8>, usize)> {
    let rest = bytes.strip_prefix(b"!")?;
    let end = rest.iter().take(320).position(|b| *b == b'\n')?;
    let (size, name) = std::str::from_utf8(&rest[..end]).ok()?.split_once(' ')?;
    let size: usize = size.parse().ok()?;
    let content = rest.get(end + 1..)?.get(..size)?;
    Some((name.to_owned(), content.to_vec(), end + 2 + size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_agents_say_is_read() {
        assert_eq!(Said::parse(b"#!-agent startup "), Some(Said::Startup));
        let sum = "0123456789abcdef0123456789abcdef";
        let text = format!("#!-Linux web 6.1 #1 x86_64 - OSSEC HIDS v3.7.0 / {sum}\n{sum} merged.mg\n\nrandom{sum} x");
        let Some(Said::KeepAlive(keepalive)) = Said::parse(text.as_bytes()) else { panic!("no keepalive") };
        assert_eq!((keepalive.version(), keepalive.system()), ("OSSEC HIDS v3.7.0", "Linux web 6.1 #1 x86_64"));
        assert_eq!(keepalive.merged, sum.as_bytes().try_into().ok());
        assert_eq!(keepalive.agent_conf, keepalive.merged);
        let Some(Said::KeepAlive(none)) = Said::parse(b"#!-Linux a / b\nx merged.mg\n\n") else {
            panic!("no keepalive")
        };
        assert_eq!((&*none.uname, none.merged, none.agent_conf), ("Linux a / b", None, None));
        for no in [&b""[..], b"#!", b"#!-", b"#!-\nx", b"1:a:b"] {
            assert_eq!(Said::parse(no), None, "{no:?}");
        }
    }

    #[test]
    fn orders_are_said_as_agents_read_them() {
        let sum = *b"0123456789abcdef0123456789abcdef";
        for (order, text) in [
            (Order::Ack, "#!-agent ack "),
            (Order::RestartSyscheck, "#!-syscheck restart"),
            (Order::Execute("a0 - 1.2.3.4 1.2 3 x -".into()), "#!-execd a0 - 1.2.3.4 1.2 3 x -"),
            (Order::FileBegins { sum }, "#!-up file 0123456789abcdef0123456789abcdef merged.mg\n"),
            (Order::FileEnds, "#!-close file "),
        ] {
            assert_eq!(String::from_utf8(order.payload()).unwrap(), text);
            assert_eq!(Order::parse(text.as_bytes()), order);
        }
    }

    #[test]
    fn shared_files_go_in_parts_and_come_out_again() {
        let long = vec![b'x'; 2000];
        let merged = Merged::new([("ar.conf", &b"restart\n"[..]), ("agent.conf", &long), ("empty", b"")]).unwrap();
        let orders: Vec<_> = (0..).map_while(|step| merged.order(step)).collect();
        assert_eq!(orders.len(), 5);
        assert!(matches!((&orders[0], &orders[4]), (Order::FileBegins { .. }, Order::FileEnds)));
        let bytes: Vec<u8> = orders[1..4].iter().flat_map(Order::payload).collect();
        assert_eq!(md5_hex(&[&bytes]), *merged.sum());
        let files = Merged::parse(&bytes).unwrap();
        assert_eq!(files[0], ("ar.conf".to_owned(), b"restart\n".to_vec()));
        assert_eq!((files[1].1.len(), &*files[2].0), (2000, "empty"));
        assert!(matches!(Merged::new([("../x", &b""[..])]), Err(MergedError::Name(_))));
        assert_eq!(Merged::parse(b"!5 a\nxy"), Err(MergedError::Header(0)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let control = [CONTROL, &bytes].concat();
            let _ = Said::parse(&control);
            let _ = Order::parse(&control);
            let _ = Merged::parse(&bytes);
        }
    }
}
