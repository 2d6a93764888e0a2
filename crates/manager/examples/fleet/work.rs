//! What the agents of the fleet have and what happens on them.

use std::sync::Arc;

use anyhow::Context as _;
use tally_proto::entry as entry_codec;
use tally_snapshot::{Builder, Edit, MemoryStore, NodeHash};
use tally_types::{
    Actor, Ancestor, Attribute, Change, ChangeKind, Confidence, DetectedBy, Digests, Entry, EventBody, FileFlags,
    FileKind, FileTime, LogLine, LogQueue, PathBytes,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Files of the image change, in the order of their paths, as an upgrade has it: each is an alert.
    Changes,
    /// One in two is a line of a log; of these one in sixteen is an alert.
    Mixed,
    /// Files come, whose paths tell when: each is an alert.
    Stamped,
}

impl Work {
    pub fn named(word: &str) -> Option<Self> {
        [("changes", Self::Changes), ("mixed", Self::Mixed), ("stamped", Self::Stamped)]
            .into_iter()
            .find_map(|(name, work)| (name == word).then_some(work))
    }
}

/// The files that all hosts begin with.
pub struct Image {
    pub files: u64,
    pub root: NodeHash,
}

impl Image {
    pub fn build(store: &mut MemoryStore, files: u64) -> anyhow::Result<Self> {
        let mut entries: Vec<_> = (0..files)
            .map(|n| Ok((path(n)?.tree_key(), entry_codec::encode(&entry(0, n, 0)))))
            .collect::<anyhow::Result<_>>()?;
        entries.sort();
        let mut builder = Builder::new(store);
        for (key, value) in &entries {
            builder.push(key, value)?;
        }
        Ok(Self { files, root: builder.finish()? })
    }
}

fn path(n: u64) -> anyhow::Result<PathBytes> {
    let text = format!("/usr/lib/x86_64-linux-gnu/package-{:05}/module-{n:07}.so", n / 40);
    PathBytes::new(text.into_bytes()).ok().context("it is a path")
}

/// The file number `n` of a host after it changed so often. Before that all hosts have the same.
fn entry(host: u64, n: u64, times: u64) -> Entry {
    let mut digest = [0; 32];
    for (at, word) in [host, n, times, n ^ host.rotate_left(32)].into_iter().enumerate() {
        let mixed = (word + at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (word << 7);
        digest[at * 8..][..8].copy_from_slice(&mixed.to_be_bytes());
    }
    Entry {
        kind: FileKind::File,
        size: 4096 + (n * 7919 + times) % 100_000,
        mode: 0o644,
        uid: 0,
        user: Some("root".into()),
        gid: 0,
        group: Some("root".into()),
        mtime: FileTime { secs: 1_700_000_000 + (n + times * 1000) as i64, nanos: 123_456_789 },
        digests: Digests::sha256(digest),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: Vec::new(),
    }
}

/// Who changes files, as it is known of a host with BPF.
fn actor() -> Actor {
    let bytes = |text: &str| -> Option<Arc<[u8]>> { Some(text.as_bytes().into()) };
    Actor {
        exe: bytes("/usr/bin/dpkg"),
        cmdline: bytes(
            "/usr/bin/dpkg --status-fd 24 --no-triggers --unpack --auto-deconfigure /var/cache/apt/archives",
        ),
        uid: Some(0),
        user: Some("root".into()),
        login_uid: Some(1000),
        login_user: Some("deploy".into()),
        ppid: Some(4710),
        parent_exe: bytes("/usr/bin/apt-get"),
        ancestors: vec![
            Ancestor { pid: 4700, exe: bytes("/usr/bin/sudo") },
            Ancestor { pid: 4690, exe: bytes("/usr/bin/bash") },
            Ancestor { pid: 4680, exe: bytes("/usr/sbin/sshd") },
        ],
        session: Some(42),
        tty: Some("pts/0".into()),
        cgroup: Some("/user.slice/user-1000.slice/session-42.scope".into()),
        confidence: Confidence::Kernel,
        ..Actor::unknown(4711)
    }
}

/// What happens on one host.
pub struct Deeds {
    work: Work,
    host: u64,
    files: u64,
    told: u64,
    changed: u64,
    actor: Actor,
    /// What became of its snapshot.
    pub edits: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Deeds {
    pub fn new(work: Work, host: u64, files: u64) -> Self {
        Self { work, host, files, told: 0, changed: 0, actor: actor(), edits: Default::default() }
    }

    /// The next one, which happens at this time (microseconds since 1970).
    pub fn next(&mut self, time_us: i64) -> anyhow::Result<EventBody> {
        self.told += 1;
        match self.work {
            Work::Mixed if self.told.is_multiple_of(2) => Ok(EventBody::Log(Box::new(self.line()))),
            Work::Changes | Work::Mixed => self.change(),
            Work::Stamped => self.stamped(time_us),
        }
    }

    fn change(&mut self) -> anyhow::Result<EventBody> {
        let (n, times) = (self.changed % self.files, self.changed / self.files);
        self.changed += 1;
        let (path, after) = (path(n)?, entry(self.host, n, times + 1));
        self.edits.insert(path.tree_key(), entry_codec::encode(&after));
        let before = if times == 0 { entry(0, n, 0) } else { entry(self.host, n, times) };
        let change = Change {
            attributes: [Attribute::Content, Attribute::Size, Attribute::Mtime].into_iter().collect(),
            before: Some(before),
            after: Some(after),
            actors: vec![self.actor.clone()],
            records: 3,
            ..Change::new(path, ChangeKind::Modified, DetectedBy::Realtime)
        };
        Ok(EventBody::Change(Box::new(change)))
    }

    fn stamped(&mut self, time_us: i64) -> anyhow::Result<EventBody> {
        let text = format!("/srv/stamped/stamp-{time_us}-{}-{}", self.host, self.told);
        let path = PathBytes::new(text.into_bytes()).ok().context("it is a path")?;
        let after = entry(self.host, self.told, 1);
        self.edits.insert(path.tree_key(), entry_codec::encode(&after));
        let change = Change {
            after: Some(after),
            actors: vec![self.actor.clone()],
            records: 3,
            ..Change::new(path, ChangeKind::Added, DetectedBy::Realtime)
        };
        Ok(EventBody::Change(Box::new(change)))
    }

    fn line(&self) -> LogLine {
        let (n, host) = (self.told / 2, self.host);
        let (location, text) = match n % 16 {
            0 => (
                "/var/log/auth.log",
                format!(
                    "sshd[{}]: Failed password for root from 203.0.113.{} port {} ssh2",
                    n % 9973,
                    n % 251,
                    1024 + n % 60_000
                ),
            ),
            1..=5 => (
                "/var/log/auth.log",
                format!("CRON[{}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)", n % 9973),
            ),
            6..=10 => {
                ("/var/log/syslog", format!("systemd[1]: Started session-{n}.scope - Session {n} of User deploy."))
            }
            _ => (
                "/var/log/syslog",
                format!(
                    "kernel: [{n}.123456] eth0: renamed from veth{n:x}, link becomes ready at 10000 Mbps full duplex"
                ),
            ),
        };
        LogLine::new(location, LogQueue::Local, format!("Nov 24 22:03:09 host-{host} {text}").into_bytes())
    }
}

/// The edits in the order that a snapshot takes them.
pub fn sorted(edits: std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Edit> {
    edits.into_iter().map(|(key, value)| Edit { key, value: Some(value) }).collect()
}
