//! Messages of one cause, told as one: what shares the rule, the digest that a path got, and the path but for numbers, hexadecimal
//! digits and the host's own name in it, within a window, over all hosts. 500 hosts that were patched in one night are one
//! group with a count and a list.
//!
//! Pure: time comes as an argument. A group's id is made of the first message in it. Who reads the same messages again from
//! the same place after a crash makes the same groups with the same ids, so that what is sent twice can be told.
//! Every number here is bounded: what does not fit is counted in a group of its rule, and at last in one of everything.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use tally_types::{Algorithm, Change, EventBody, Timestamp};

use crate::format::subject::{digest, latest, line};
use crate::message::Message;

/// Messages that are gathered at most before they are told: some 100 MiB.
pub const GATHERED_MAX: usize = 30_000;
/// Hosts that a group names; of those after them it knows how many they are.
const HOSTS_NAMED_MAX: usize = 50;
/// Hosts that a group tells apart; with more their number is at least so many.
const HOSTS_COUNTED_MAX: usize = 100_000;
/// Of a pattern.
const PATTERN_BYTES_MAX: usize = 1024;

/// How much is held at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub groups_max: usize,
    /// Over all groups.
    pub hosts_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { groups_max: 5000, hosts_max: 1_000_000 }
    }
}

/// What messages have in common that are told as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Cause {
        rule: u32,
        what: Arc<str>,
        digest: Arc<str>,
        pattern: Arc<str>,
    },
    /// What did not fit, by its rule.
    Rule(u32),
    Rest,
}

/// Everything of one cause in one window.
#[derive(Clone, Debug)]
pub struct Group {
    /// Of this window's messages: the same if they are read again.
    pub id: String,
    /// Of the cause, in any window.
    pub cause: String,
    pub pattern: Arc<str>,
    pub count: u64,
    /// The first of them, by name.
    pub hosts: Vec<Arc<str>>,
    /// How many hosts there are.
    pub hosts_count: usize,
    /// By when they happened.
    pub first_time: Timestamp,
    pub last_time: Timestamp,
    /// The gravest, the first among equals.
    pub sample: Message,
    /// Ledger numbers of the first and the last.
    pub first_index: u64,
    pub last_index: u64,
    seen: BTreeSet<u32>,
}

impl Group {
    fn new(key: &Key, message: &Message) -> Self {
        let cause = named(&[&format!("{key:?}")]);
        let time = message.happened();
        let pattern = match key {
            Key::Cause { pattern, .. } => pattern.clone(),
            Key::Rule(_) | Key::Rest => "many paths".into(),
        };
        Self {
            id: named(&[&cause, &message.id]),
            cause,
            pattern,
            count: 0,
            hosts: Vec::new(),
            hosts_count: 0,
            first_time: time,
            last_time: time,
            sample: message.clone(),
            first_index: message.index,
            last_index: message.index,
            seen: BTreeSet::new(),
        }
    }

    /// Whether a host was counted that was not before.
    fn add(&mut self, message: &Message, has_room: bool) -> bool {
        let time = message.happened();
        self.count += 1;
        self.first_time = self.first_time.min(time);
        self.last_time = self.last_time.max(time);
        self.last_index = message.index;
        if message.level() > self.sample.level() {
            self.sample = message.clone();
        }
        let room = has_room && self.seen.len() < HOSTS_COUNTED_MAX;
        if !room || !self.seen.insert(message.agent.id.0) {
            return false;
        }
        self.hosts_count = self.seen.len();
        if self.hosts.len() < HOSTS_NAMED_MAX {
            self.hosts.push(line(message.host(), 128).into());
        }
        true
    }

    pub fn level(&self) -> u8 {
        self.sample.level().unwrap_or(0)
    }

    /// `web1, web2 and 511 hosts more`, with at most `named` names.
    pub fn hosts_words(&self, named: usize) -> String {
        let shown = self.hosts.iter().take(named).map(|host| &**host).collect::<Vec<_>>();
        let more = self.hosts_count.saturating_sub(shown.len());
        match more {
            0 => shown.join(", "),
            1 => format!("{} and 1 host more", shown.join(", ")),
            more => format!("{} and {more} hosts more", shown.join(", ")),
        }
    }
}

/// Gathers messages into groups.
#[derive(Debug)]
pub struct Grouper {
    limits: Limits,
    places: HashMap<Key, usize>,
    groups: Vec<Group>,
    hosts: usize,
}

impl Grouper {
    pub fn new(limits: Limits) -> Self {
        Self { limits, places: HashMap::new(), groups: Vec::new(), hosts: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn add(&mut self, message: &Message) {
        let key = self.fitting(key(message));
        let place = *self.places.entry(key.clone()).or_insert_with(|| {
            self.groups.push(Group::new(&key, message));
            self.groups.len() - 1
        });
        let has_room = self.hosts < self.limits.hosts_max;
        if self.groups[place].add(message, has_room) {
            self.hosts += 1;
        }
    }

    /// The key itself if it has a group or there is room for one.
    fn fitting(&self, key: Key) -> Key {
        if self.places.contains_key(&key) || self.groups.len() < self.limits.groups_max {
            return key;
        }
        let Key::Cause { rule, .. } = key else { return key };
        let of_rule = Key::Rule(rule);
        // As many rules again; there are no more than that, unless somebody makes them up.
        if self.places.contains_key(&of_rule) || self.groups.len() < self.limits.groups_max * 2 {
            return of_rule;
        }
        Key::Rest
    }

    /// All groups, the gravest first, then in the order in which they began.
    pub fn take(&mut self) -> Vec<Group> {
        self.places.clear();
        self.hosts = 0;
        let mut groups = std::mem::take(&mut self.groups);
        groups.sort_by_key(|group| (std::cmp::Reverse(group.level()), group.first_index));
        groups
    }
}

/// The name of a message's cause, the same on every host and in every window.
pub fn cause(message: &Message) -> String {
    named(&[&format!("{:?}", key(message))])
}

fn key(message: &Message) -> Key {
    let rule = message.rule().map_or(0, |rule| rule.id.0);
    let (what, digest, pattern) = match &message.event.body {
        EventBody::Change(change) => {
            (change.kind.name(), state(change), pattern(change.path.as_bytes(), message.host()))
        }
        EventBody::Life(life) => (life.name(), String::new(), String::new()),
        EventBody::Log(line) => ("log", String::new(), pattern(line.location.as_bytes(), message.host())),
    };
    Key::Cause { rule, what: what.into(), digest: digest.into(), pattern: pattern.into() }
}

/// What the path became: its digest, or what else tells of it.
fn state(change: &Change) -> String {
    let Some(entry) = latest(change) else { return String::new() };
    let content = digest(entry, Algorithm::Sha256).or_else(|| {
        let (algorithm, bytes) = entry.digests.iter().next()?;
        Some(format!("{}:{bytes:02x?}", algorithm.name()))
    });
    let target = entry.target.as_deref().map(|target| String::from_utf8_lossy(target).into_owned());
    let content = content.or(target).unwrap_or_default();
    format!("{} {:04o} {}:{} {content}", entry.kind.name(), entry.mode, entry.uid, entry.gid)
}

/// The path with `#` for each number, `*` for at least eight hexadecimal digits with a digit among them, and `{host}` for
/// the host's name.
fn pattern(path: &[u8], host: &str) -> String {
    let text = line(&String::from_utf8_lossy(path), PATTERN_BYTES_MAX);
    let short = host.split('.').next().unwrap_or(host);
    let mut rest = &*text;
    let mut out = String::with_capacity(rest.len());
    let is_word = |c: char| c.is_ascii_alphanumeric();
    while let Some(first) = rest.chars().next() {
        if !is_word(first) {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let ends = |name: &&str| rest.strip_prefix(name).is_some_and(|behind| !behind.starts_with(is_word));
        if let Some(name) = [host, short].into_iter().filter(|name| name.len() > 2).find(ends) {
            out.push_str("{host}");
            rest = &rest[name.len()..];
            continue;
        }
        let (word, behind) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        rest = behind;
        if word.len() >= 8
            && word.bytes().all(|byte| byte.is_ascii_hexdigit())
            && word.contains(|c: char| c.is_ascii_digit())
        {
            out.push('*');
            continue;
        }
        for sign in word.chars() {
            match sign {
                '0'..='9' if out.ends_with('#') => {}
                '0'..='9' => out.push('#'),
                sign => out.push(sign),
            }
        }
    }
    out
}

/// Half of the SHA-256 of the parts.
fn named(parts: &[&str]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut out = String::with_capacity(32);
    for byte in &context.finish().as_ref()[..16] {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::sample;
    use tally_types::{ChangeKind, DetectedBy};

    fn patched(index: u64, host: u32, path: &str, digest: u8) -> Message {
        let change = Change {
            before: Some(sample::entry(1)),
            after: Some(sample::entry(digest)),
            ..Change::new(sample::path(path.as_bytes()), ChangeKind::Modified, DetectedBy::Realtime)
        };
        let rule = sample::rule(550, 7, "Integrity checksum changed.", "syscheck");
        sample::message(index, sample::agent(host), EventBody::Change(Box::new(change)), Some(rule))
    }

    #[test]
    fn five_hundred_patched_hosts_are_one_group() {
        let mut grouper = Grouper::new(Limits::default());
        for host in 1..=500 {
            grouper.add(&patched(u64::from(host), host, &format!("/boot/web{host}/vmlinuz-6.1.0-{host}"), 7));
        }
        let groups = grouper.take();
        assert_eq!(groups.len(), 1);
        let group = &groups[0];
        assert_eq!((group.count, group.hosts_count, group.hosts.len()), (500, 500, HOSTS_NAMED_MAX));
        assert_eq!(&*group.pattern, "/boot/{host}/vmlinuz-#.#.#-#");
        assert_eq!(group.hosts_words(2), "web1, web2 and 498 hosts more");
        assert_eq!((group.first_index, group.last_index), (1, 500));
        assert!(grouper.is_empty());
    }

    #[test]
    fn another_digest_is_another_cause() {
        let (one, other) = (patched(1, 1, "/usr/bin/su", 7), patched(2, 2, "/usr/bin/su", 8));
        assert_ne!(cause(&one), cause(&other));
        assert_eq!(cause(&one), cause(&patched(9, 77, "/usr/bin/su", 7)));
    }

    #[test]
    fn patterns_forget_what_differs_between_hosts() {
        for (path, host, wanted) in [
            ("/var/lib/docker/overlay2/3f2a9c81b7e0/diff", "web1", "/var/lib/docker/overlay#/*/diff"),
            ("/etc/ssh/ssh_host_rsa_key", "web1.example.com", "/etc/ssh/ssh_host_rsa_key"),
            ("/srv/web1.example.com/web1/x", "web1.example.com", "/srv/{host}/{host}/x"),
            ("/opt/deadbeef/facade", "db", "/opt/deadbeef/facade"),
            ("/opt/deadbee1/a12b", "db", "/opt/*/a#b"),
        ] {
            assert_eq!(pattern(path.as_bytes(), host), wanted, "{path}");
        }
    }

    #[test]
    fn what_is_read_again_after_a_crash_has_the_same_id() {
        let messages: Vec<_> = (1..=100).map(|n| patched(n, n as u32, "/usr/bin/su", (n % 3) as u8)).collect();
        let mut grouper = Grouper::new(Limits::default());
        messages[..40].iter().for_each(|message| grouper.add(message));
        let before: Vec<_> = grouper.take().into_iter().map(|group| group.id).collect();
        // It crashed before the cursor was moved: all comes again, and more.
        messages.iter().for_each(|message| grouper.add(message));
        let after: Vec<_> = grouper.take().into_iter().map(|group| group.id).collect();
        assert_eq!(before, after);
        // The next window is another group of the same cause.
        grouper.add(&messages[50]);
        let next = grouper.take().remove(0);
        assert!(!before.contains(&next.id));
    }

    #[test]
    fn a_storm_is_held_in_bounds_and_counted_whole() {
        let limits = Limits { groups_max: 10, hosts_max: 100 };
        let mut grouper = Grouper::new(limits);
        for n in 1..=5000_u32 {
            let mut message = patched(n.into(), n, &format!("/usr/bin/{}", "x".repeat(n as usize % 500 + 1)), 7);
            let alert = message.alert.as_mut().unwrap();
            alert.rule.id.0 = 500 + n % 50;
            grouper.add(&message);
        }
        let groups = grouper.take();
        assert!(groups.len() <= 21, "{}", groups.len());
        assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 5000);
        assert!(groups.iter().map(|group| group.hosts_count).sum::<usize>() <= 100);
    }

    #[test]
    fn the_gravest_comes_first_and_is_shown() {
        let mut grouper = Grouper::new(Limits::default());
        grouper.add(&patched(1, 1, "/a", 1));
        for (n, (_, message)) in sample::all().into_iter().enumerate() {
            grouper.add(&Message { index: n as u64 + 2, ..message });
        }
        let levels: Vec<_> = grouper.take().iter().map(Group::level).collect();
        assert!(levels.is_sorted_by(|a, b| a >= b), "{levels:?}");
        assert_eq!(levels[0], 16);
    }
}
