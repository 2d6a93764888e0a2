//! `client.keys`: who the agents are. One line each: `ID NAME ADDRESS KEY`.
//!
//! The file is kept byte for byte: comments, lines that are not understood and removed agents stay as they are, so that
//! OSSEC's own tools find what they left. A removed agent's name begins with `#`; its number stays used.
//!
//! An agent is found by its id if it sends one, or else by the address that its datagram came from, which only a key for a
//! single address allows.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::net::IpAddr;
use tally_types::Diagnostic;

use crate::secure::{ID_DIGITS_MAX, md5_hex};

/// The first number that authd gives; `manage_agents` counts from 1.
pub const AUTHD_FIRST_ID: u32 = 1024;
pub const NAME_BYTES: std::ops::RangeInclusive<usize> = 2..=128;
/// The last number that is tried behind a name that is taken.
const NAME_SUFFIX_MAX: u32 = 256;
/// More agents than this are not in one file.
pub const KEYS_MAX: usize = 100_000;
/// A longer line is not one of ours; OSSEC reads 1,024 bytes.
const LINE_BYTES_MAX: usize = 1024;
/// More faults of one file are not told.
const FAULTS_MAX: usize = 100;
/// What stands in the place of a removed agent's name and as much as it covers.
const REMOVED: &str = "#*#*#*#*#*#*#*#*#*#*#";

/// From where an agent may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    Any,
    /// `bits` of `base` are compared: 32 or 128 mean one host.
    Net {
        base: IpAddr,
        bits: u8,
    },
}

impl Address {
    /// `any`, an address, `ADDRESS/BITS` or `ADDRESS/NETMASK`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "any" {
            return Some(Self::Any);
        }
        let (base, bits) = text.split_once('/').map_or((text, None), |(base, bits)| (base, Some(bits)));
        let base: IpAddr = base.parse().ok()?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.contains('.') => netmask_bits(bits)?,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most)?,
        };
        Some(Self::Net { base: base.to_canonical(), bits })
    }

    /// The one host that it names. An agent with such a key sends no id.
    pub fn single(self) -> Option<IpAddr> {
        match self {
            Self::Net { base, bits } if bits == if base.is_ipv4() { 32 } else { 128 } => Some(base),
            _ => None,
        }
    }

    pub fn covers(self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::Any, _) => true,
            (Self::Net { base: IpAddr::V4(base), bits }, IpAddr::V4(address)) => {
                bits == 0 || (base.to_bits() ^ address.to_bits()) >> (32 - u32::from(bits)) == 0
            }
            (Self::Net { base: IpAddr::V6(base), bits }, IpAddr::V6(address)) => {
                bits == 0 || (base.to_bits() ^ address.to_bits()) >> (128 - u32::from(bits)) == 0
            }
            _ => false,
        }
    }
}

fn netmask_bits(text: &str) -> Option<u8> {
    let mask: core::net::Ipv4Addr = text.parse().ok()?;
    let ones = mask.to_bits().leading_ones();
    (mask.to_bits().count_ones() == ones).then_some(ones as u8)
}

/// One agent's line. The key is a secret: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey {
    pub id: Arc<str>,
    pub name: Arc<str>,
    /// As written: OSSEC shows it so.
    pub address_text: Arc<str>,
    pub address: Address,
    pub key: Box<str>,
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({} {} {})", self.id, self.name, self.address_text)
    }
}

/// The line of the file, without its end.
impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.id, self.name, self.address_text, self.key)
    }
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("an agent's line has four words: ID NAME ADDRESS KEY")]
    Words,
    #[error("\"{0}\" is no agent's id: it is a number of at most {ID_DIGITS_MAX} digits")]
    Id(String),
    #[error("\"{0}\" is no agent's name: it has 2 to 128 letters, digits, \".\", \"-\" or \"_\"")]
    Name(String),
    #[error("\"{0}\" is no address: it is \"any\", an IP address, or one with /BITS")]
    Address(String),
    #[error("the key has no 64 hexadecimal digits")]
    Key,
    #[error("the id {0} is used already")]
    IdTaken(Arc<str>),
    #[error("the name \"{0}\" is used already")]
    NameTaken(Arc<str>),
    #[error("the address {address} belongs to agent {id} already")]
    AddressTaken { address: Arc<str>, id: Arc<str> },
    #[error("there are {KEYS_MAX} agents already")]
    Full,
    #[error("this is not the base64 of an agent's line")]
    Base64,
    #[error("there is no agent {0}")]
    NoAgent(String),
}

impl ClientKey {
    /// Reads a line. Keys that somebody wrote by hand may be of any length.
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split(' ');
        let (Some(id), Some(name), Some(address_text), Some(key), None) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            return Err(KeyError::Words);
        };
        check_id(id)?;
        check_name(name)?;
        let address = Address::parse(address_text).ok_or_else(|| KeyError::Address(shown(address_text)))?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(KeyError::Key);
        }
        Ok(Self { id: id.into(), name: name.into(), address_text: address_text.into(), address, key: key.into() })
    }

    /// A key for a new agent, from 32 random bytes.
    pub fn generate(id: &str, name: &str, address: &str, random: &[u8; 32]) -> Result<Self, KeyError> {
        let key = [md5_hex(&[&random[..16], name.as_bytes()]), md5_hex(&[&random[16..], id.as_bytes()])].concat();
        let key = String::from_utf8(key).map_err(|_| KeyError::Key)?;
        Self::parse(&format!("{id} {name} {address} {key}"))
    }

    /// The line as a person carries it to the agent.
    pub fn export(&self) -> String {
        STANDARD.encode(self.to_string())
    }

    /// Undoes `export`.
    pub fn import(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() > LINE_BYTES_MAX * 2 {
            return Err(KeyError::Base64);
        }
        let line = STANDARD.decode(text).map_err(|_| KeyError::Base64)?;
        let line = String::from_utf8(line).map_err(|_| KeyError::Base64)?;
        Self::parse(line.trim_end_matches('\n'))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

fn check_id(id: &str) -> Result<(), KeyError> {
    let is_id = (1..=ID_DIGITS_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit());
    if is_id { Ok(()) } else { Err(KeyError::Id(shown(id))) }
}

/// OSSEC's rule for names.
pub fn check_name(name: &str) -> Result<(), KeyError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if NAME_BYTES.contains(&name.len()) && name.bytes().all(is_plain) {
        Ok(())
    } else {
        Err(KeyError::Name(shown(name)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Agent(ClientKey),
    /// The number of an agent that is no more.
    Removed(Arc<str>),
    Other,
}

/// The file.
#[derive(Clone, Debug, Default)]
pub struct ClientKeys {
    /// Each line as it is in the file, without its end, and what it means.
    lines: Vec<(Box<[u8]>, Line)>,
    by_id: HashMap<Arc<str>, usize>,
    by_address: HashMap<IpAddr, usize>,
}

impl ClientKeys {
    /// Reads the file's bytes; lines that are not understood are told and kept.
    pub fn parse(bytes: &[u8], file: &str) -> (Self, Vec<Diagnostic>) {
        let mut keys = Self::default();
        let mut faults = Vec::new();
        let file: Arc<str> = file.into();
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for (number, raw) in (1u32..).zip(body.split(|b| *b == b'\n').filter(|_| !bytes.is_empty())) {
            let line = keys.understand(raw).unwrap_or_else(|error| {
                if faults.len() < FAULTS_MAX {
                    faults.push(Diagnostic { file: file.clone(), line: number, column: 1, message: error.to_string() });
                }
                Line::Other
            });
            keys.push(raw.into(), line);
        }
        (keys, faults)
    }

    fn understand(&self, raw: &[u8]) -> Result<Line, KeyError> {
        if raw.is_empty() || raw[0] == b'#' || raw[0] == b' ' {
            return Ok(Line::Other);
        }
        let line = std::str::from_utf8(raw).ok().filter(|line| line.len() <= LINE_BYTES_MAX).ok_or(KeyError::Words)?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (id, rest) = line.split_once(' ').ok_or(KeyError::Words)?;
        if rest.starts_with('#') {
            check_id(id)?;
            return Ok(Line::Removed(id.into()));
        }
        let key = ClientKey::parse(line.trim_end_matches(' '))?;
        if self.by_id.contains_key(&key.id) {
            return Err(KeyError::IdTaken(key.id));
        }
        if self.len() >= KEYS_MAX { Err(KeyError::Full) } else { Ok(Line::Agent(key)) }
    }

    fn push(&mut self, raw: Box<[u8]>, line: Line) {
        if let Line::Agent(key) = &line {
            self.by_id.insert(key.id.clone(), self.lines.len());
            if let Some(address) = key.address.single() {
                // Of two with one address the first is found by it, and the other by nothing.
                self.by_address.entry(address).or_insert(self.lines.len());
            }
        }
        self.lines.push((raw, line));
    }

    fn at(&self, index: usize) -> Option<&ClientKey> {
        match self.lines.get(index) {
            Some((_, Line::Agent(key))) => Some(key),
            _ => None,
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|(raw, _)| [&raw[..], b"\n"].concat()).collect()
    }

    /// The agents in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ClientKey> {
        self.lines.iter().filter_map(|(_, line)| match line {
            Line::Agent(key) => Some(key),
            _ => None,
        })
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn by_id(&self, id: &str) -> Option<&ClientKey> {
        self.at(*self.by_id.get(id)?)
    }

    pub fn by_name(&self, name: &str) -> Option<&ClientKey> {
        self.iter().find(|key| *key.name == *name)
    }

    /// The agent whose key is for this single address.
    pub fn by_address(&self, address: IpAddr) -> Option<&ClientKey> {
        self.at(*self.by_address.get(&address.to_canonical())?)
    }

    /// The first number from `first` on that no agent has or had.
    pub fn free_id(&self, first: u32) -> Arc<str> {
        let used: std::collections::HashSet<u32> = (self.lines.iter())
            .filter_map(|(_, line)| match line {
                Line::Agent(key) => key.id.parse().ok(),
                Line::Removed(id) => id.parse().ok(),
                Line::Other => None,
            })
            .collect();
        let free = (first..=u32::MAX).find(|id| !used.contains(id)).unwrap_or(u32::MAX);
        format!("{free:03}").into()
    }

    /// The name itself, or with the first number behind it that makes it new, as authd does.
    pub fn free_name(&self, name: &str) -> Result<Arc<str>, KeyError> {
        let taken: std::collections::HashSet<&str> = self.iter().map(|key| &*key.name).collect();
        let numbered = (2..=NAME_SUFFIX_MAX).map(|n| format!("{name}{n}"));
        let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(&**name));
        let free = free.ok_or_else(|| KeyError::NameTaken(name.into()))?;
        check_name(&free)?;
        Ok(free.into())
    }

    /// Adds an agent at the end.
    pub fn add(&mut self, key: ClientKey) -> Result<(), KeyError> {
        if self.len() >= KEYS_MAX {
            return Err(KeyError::Full);
        }
        if self.lines.iter().any(|(_, line)| matches!(line, Line::Removed(id) if *id == key.id))
            || self.by_id.contains_key(&key.id)
        {
            return Err(KeyError::IdTaken(key.id));
        }
        if self.by_name(&key.name).is_some() {
            return Err(KeyError::NameTaken(key.name));
        }
        if let Some(other) = key.address.single().and_then(|address| self.by_address(address)) {
            return Err(KeyError::AddressTaken { address: key.address_text.clone(), id: other.id.clone() });
        }
        self.push(key.to_string().into_bytes().into(), Line::Agent(key));
        Ok(())
    }

    /// Takes an agent's key away; its number stays used. As OSSEC does it, the line is written over from the name on.
    pub fn remove(&mut self, id: &str) -> Result<ClientKey, KeyError> {
        let no_agent = || KeyError::NoAgent(shown(id));
        let index = *self.by_id.get(id).ok_or_else(no_agent)?;
        let key = self.at(index).ok_or_else(no_agent)?.clone();
        let mut raw = format!("{id} {REMOVED}").into_bytes();
        let covered = raw.len();
        raw.extend_from_slice(self.lines[index].0.get(covered..).unwrap_or_default());
        let lines = std::mem::take(&mut self.lines);
        *self = Self::default();
        for (at, (old, line)) in lines.into_iter().enumerate() {
            if at == index {
                self.push(raw.clone().into(), Line::Removed(key.id.clone()));
            } else {
                self.push(old, line);
            }
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn file() -> String {
        format!(
            "# a comment\n001 web-1 192.0.2.1 {KEY}\n\n002 db any {KEY}\n003 net 198.51.100.0/24 {KEY}\n004 #*#*#rest\n"
        )
    }

    #[test]
    fn the_file_is_read_and_kept_byte_for_byte() {
        let text = file();
        let (keys, faults) = ClientKeys::parse(text.as_bytes(), "client.keys");
        assert_eq!((keys.len(), faults.len()), (3, 0));
        assert_eq!(keys.to_bytes(), text.as_bytes());
        let id = |key: Option<&ClientKey>| key.map(|key| key.id.to_string());
        assert_eq!(id(keys.by_id("002")), Some("002".to_owned()));
        assert_eq!(id(keys.by_address("::ffff:192.0.2.1".parse().unwrap())), Some("001".to_owned()));
        assert_eq!(id(keys.by_address("198.51.100.7".parse().unwrap())), None);
        assert_eq!((&*keys.free_id(1), &*keys.free_id(1024)), ("005", "1024"));
        assert_eq!(format!("{:?}", keys.by_id("001").unwrap()), "ClientKey(001 web-1 192.0.2.1)");
    }

    #[test]
    fn faults_are_told_with_their_line() {
        let text = format!(
            "001 web {KEY}\n1x a1 any {KEY}\n002 a any k\n003 ab 1.2.3 k\n004 ab any {KEY}\n004 cd any {KEY}\n"
        );
        let (keys, faults) = ClientKeys::parse(text.as_bytes(), "client.keys");
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys.to_bytes(), text.as_bytes());
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told[0].starts_with("client.keys:1:1: an agent's line has four words"), "{told:?}");
        assert!(told[4].starts_with("client.keys:6:1: the id 004 is used already"), "{told:?}");
    }

    #[test]
    fn an_agent_is_added_once_and_its_number_is_never_given_again() {
        let (mut keys, _) = ClientKeys::parse(file().as_bytes(), "f");
        let new = |id: &str, name: &str, address: &str| ClientKey::generate(id, name, address, &[7; 32]).unwrap();
        assert_eq!(keys.add(new("001", "x1", "any")), Err(KeyError::IdTaken("001".into())));
        assert_eq!(keys.add(new("004", "x1", "any")), Err(KeyError::IdTaken("004".into())));
        assert_eq!(keys.add(new("005", "db", "any")), Err(KeyError::NameTaken("db".into())));
        assert!(matches!(keys.add(new("005", "x1", "192.0.2.1")), Err(KeyError::AddressTaken { .. })));
        keys.add(new("005", "x1", "192.0.2.9")).unwrap();
        assert_eq!(keys.by_id("005").unwrap().key.len(), 64);
        assert_eq!(&*keys.free_name("db").unwrap(), "db2");
        assert_eq!(&*keys.free_name("new").unwrap(), "new");
        keys.remove("001").unwrap();
        assert_eq!(keys.remove("001").unwrap_err(), KeyError::NoAgent("001".to_owned()));
        assert!(keys.by_address("192.0.2.1".parse().unwrap()).is_none() && keys.by_id("005").is_some());
        let text = String::from_utf8(keys.to_bytes()).unwrap();
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("001 #*#*#*#*#*#*#*#*#*#*#") && line.ends_with(&KEY[KEY.len() - 40..]), "{line}");
        assert_eq!(line.len(), format!("001 web-1 192.0.2.1 {KEY}").len());
        let (again, faults) = ClientKeys::parse(text.as_bytes(), "f");
        assert_eq!((again.len(), faults.len(), &*again.free_id(1)), (3, 0, "006"));
    }

    #[test]
    fn a_key_is_carried_as_base64() {
        let key = ClientKey::parse(&format!("001 web-1 192.0.2.1 {KEY}")).unwrap();
        assert_eq!(ClientKey::import(&format!("{}\n", key.export())), Ok(key));
        for bad in ["", "AAAA", "!!!!", "MDAx"] {
            assert!(ClientKey::import(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_cover_what_they_say() {
        let covers = |text: &str, address: &str| Address::parse(text).unwrap().covers(address.parse().unwrap());
        assert!(covers("any", "203.0.113.1") && covers("10.0.0.0/8", "10.255.0.1") && covers("0.0.0.0/0", "1.1.1.1"));
        assert!(covers("10.1.0.0/255.255.0.0", "::ffff:10.1.2.3") && covers("2001:db8::/32", "2001:db8:1::1"));
        assert!(!covers("10.0.0.0/8", "11.0.0.1") && !covers("192.0.2.1", "192.0.2.2") && !covers("::/0", "1.1.1.1"));
        for bad in ["", "x", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "::/129", "1.2.3.4/255.0.255.0"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
        assert!(Address::parse("1.2.3.4/32").unwrap().single().is_some());
        assert!(Address::parse("1.2.3.4/31").unwrap().single().is_none());
    }

    proptest! {
        #[test]
        fn any_file_is_kept(text in "([0-9]{0,4} [a-z#.*]{0,5} (any|1\\.2\\.3\\.4|/) [0-9a-f]{0,70}\r?\n|[ -~]{0,20}\n){0,8}") {
            let (keys, _) = ClientKeys::parse(text.as_bytes(), "f");
            prop_assert_eq!(String::from_utf8(keys.to_bytes()).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (keys, _) = ClientKeys::parse(&bytes, "f");
            if bytes.ends_with(b"\n") {
                prop_assert_eq!(keys.to_bytes(), bytes);
            }
        }
    }
}
