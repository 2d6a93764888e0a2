//! A small fleet and some days of its life, made up, in a real store.
#![allow(dead_code, clippy::unwrap_used, reason = "each user of this needs a part; made-up data may not be wrong")]

use std::path::Path;
use std::sync::Arc;

use tally_proto::Position;
use tally_proto::Record;
use tally_proto::message::{Blind, Status};
use tally_store::{LogSeals, Report, Store, Stored};
use tally_types::*;

pub const SECOND: i64 = 1_000_000;
pub const HOUR: i64 = 3600 * SECOND;

pub struct Fleet {
    pub store: Store,
    pub now: Timestamp,
    seq: u64,
}

/// A name that tries everything that a name can try.
pub const HOSTILE: &[u8] = b"/etc/cron.d/<script>alert(1)</script>\"'&\n\x1b[31m\xff\xe2\x80\xaegnp.exe";

pub fn rule(id: u32, level: u32, description: &str) -> RuleMatch {
    let texts = |texts: &[&str]| texts.iter().map(|text| Arc::from(*text)).collect::<Arc<[Arc<str>]>>();
    RuleMatch {
        id: RuleId(id),
        level: Level::new(level).unwrap(),
        description: description.into(),
        groups: texts(&["tallystick", "syscheck"]),
        pci_dss: texts(&["11.5.2", "10.3.4"]),
    }
}

pub fn entry(fill: u8, size: u64, mode: u16) -> Entry {
    Entry {
        kind: FileKind::File,
        size,
        mode,
        uid: 0,
        user: Some("root".into()),
        gid: 0,
        group: Some("root".into()),
        mtime: FileTime { secs: 1_795_000_000 + i64::from(fill) * 1000, nanos: 123_456_789 },
        digests: Digests::sha256([fill; 32]),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: vec![],
    }
}

pub fn actor(user: &str, login: &str, exe: &str, cmdline: &str) -> Actor {
    Actor {
        exe: Some(exe.as_bytes().into()),
        cmdline: Some(cmdline.as_bytes().into()),
        uid: Some(0),
        user: Some(user.into()),
        login_uid: Some(1000),
        login_user: Some(login.into()),
        ppid: Some(48_190),
        parent_exe: Some(b"/usr/bin/bash"[..].into()),
        session: Some(17),
        confidence: Confidence::ProcLive,
        unknown: vec![UnknownPart {
            part: "source address".into(),
            why: "the session's login is not in the journal".into(),
        }],
        ..Actor::unknown(48_213)
    }
}

pub fn change(path: &[u8], kind: ChangeKind, before: Option<Entry>, after: Option<Entry>) -> Change {
    let attributes = match (&before, &after) {
        (Some(before), Some(after)) => AttributeSet::between(before, after),
        _ => AttributeSet::EMPTY,
    };
    Change {
        attributes,
        before,
        after,
        records: 3,
        ..Change::new(PathBytes::new(path).unwrap(), kind, DetectedBy::Realtime)
    }
}

pub fn modified(path: &str, fill: u8) -> Change {
    change(path.as_bytes(), ChangeKind::Modified, Some(entry(fill, 1180, 0o644)), Some(entry(fill + 1, 1204, 0o644)))
}

impl Fleet {
    pub fn new(dir: &Path, now: Timestamp) -> Self {
        Self { store: Store::open(dir, now).unwrap(), now, seq: 0 }
    }

    pub fn enrol(&mut self, name: &str, group: &str, ago: i64) -> AgentId {
        let at = self.now.minus_micros(ago);
        let mut transaction = self.store.begin().unwrap();
        let id = transaction.create_agent(name, group, at).unwrap();
        transaction.commit(at).unwrap();
        let life = Life::Enrolled { name: name.into(), group: group.into() };
        self.tell(AgentId::MANAGER, id, ago, EventBody::Life(life), Some(rule(501, 3, "New agent enrolled.")));
        id
    }

    pub fn report(
        &mut self,
        id: AgentId,
        state: AgentState,
        ago: i64,
        entries: u64,
        dropped: u64,
        words: (&[&str], &[&str]),
    ) {
        let arcs = |texts: &[&str]| texts.iter().map(|text| Arc::from(*text)).collect::<Vec<Arc<str>>>();
        let (can, cannot) = (arcs(words.0), arcs(words.1));
        let tiers = vec!["bpf: refused (a policy of the host forbids it)".into(), "audit: in use".into()];
        let point = PathBytes::new(&b"/mnt/<nfs>"[..]).unwrap();
        let blind = vec![Blind { point, why: "nfs4: another machine serves it".into(), scanned: true }];
        let (source, who) = ("fanotify".into(), "audit".into());
        let sources = Status { tiers, source, who, blind, ..Status::default() };
        let status = Status { state, entries, lag_us: 1_300, dropped, can, cannot, ..sources };
        let report = Report { seen_at: self.now.minus_micros(ago), status: &status, has_new_words: true };
        let mut transaction = self.store.begin().unwrap();
        transaction.set_report(id, &report).unwrap();
        transaction.commit(self.now).unwrap();
    }

    /// One event, and an alert if a rule matched. Says the event's id.
    pub fn tell(
        &mut self,
        author: AgentId,
        about: AgentId,
        ago: i64,
        body: EventBody,
        rule: Option<RuleMatch>,
    ) -> EventId {
        self.seq += 1;
        let time = self.now.minus_micros(ago);
        let event = Event { epoch: Epoch(3), seq: self.seq, time, body };
        let received = time.plus_micros(2_400);
        let id = EventId { agent: author, epoch: event.epoch, seq: event.seq };
        let mut transaction = self.store.begin().unwrap();
        let stored = transaction.append(&Record::Event { id, about, received, event }).unwrap();
        let Stored::Now(event_index) = stored else { panic!("the event is new") };
        if let Some(rule) = rule {
            let time = received.plus_micros(300);
            let _ = transaction.append(&Record::Alert { event_id: id, about, time, rule, event_index }).unwrap();
        }
        transaction.commit(received).unwrap();
        id
    }

    pub fn changed(&mut self, about: AgentId, ago: i64, change: Change, rule: Option<RuleMatch>) -> EventId {
        self.tell(about, about, ago, EventBody::Change(Box::new(change)), rule)
    }

    /// A policy that agents use, and that a group was given if `group` is named. Says its digest.
    pub fn policy(&mut self, group: &str, text: &str, by: &str, users: &[(AgentId, &str)]) -> String {
        let digest = tally_syscheck::Config::digest(text);
        let mut transaction = self.store.begin().unwrap();
        if !group.is_empty() {
            transaction.keep_policy(&digest, text).unwrap();
            let act = AdminAct::PolicySet { group: group.into(), digest };
            let _ = transaction.append(&Record::Admin { time: self.now, actor: by.into(), act }).unwrap();
        }
        for (agent, origin) in users {
            transaction.set_policy_in_use(*agent, &digest, text, origin).unwrap();
        }
        transaction.commit(self.now).unwrap();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The seals of a log, as its agent told them.
    pub fn log(&mut self, agent: AgentId, path: &[u8], size: u64) {
        let leaves = vec![[7; 32]; (size / 65_536) as usize];
        let log = LogSeals {
            path: PathBytes::new(path).unwrap(),
            size,
            fold: 0,
            tail: [1; 32],
            chain: [2; 32],
            at: Position { epoch: Epoch(3), seq: 1 },
            time: self.now,
        };
        let mut transaction = self.store.begin().unwrap();
        transaction.put_log(agent, &log, 0, &leaves).unwrap();
        transaction.commit(self.now).unwrap();
    }

    /// A line of a log.
    pub fn line(&mut self, agent: AgentId, location: &str, text: &str, rule: Option<RuleMatch>) -> EventId {
        let line = LogLine::new(location, LogQueue::Local, text.as_bytes());
        self.tell(agent, agent, SECOND, EventBody::Log(Box::new(line)), rule)
    }

    /// Some days of four hosts.
    pub fn live(&mut self) {
        let web1 = self.enrol("web-1", "web", 9 * 24 * HOUR);
        let web2 = self.enrol("web-2", "web", 9 * 24 * HOUR);
        let db = self.enrol("db-primary.eu-central-1.internal.example.com", "db", 8 * 24 * HOUR);
        let build = self.enrol("build-7", "", 20 * 60 * SECOND);
        let sees: &[&str] = &["every change of a watched file as it happens", "who made it, while the process lives"];
        self.report(
            web1,
            AgentState::Watching,
            4 * SECOND,
            41_203,
            0,
            (sees, &["changes through mmap before the file is closed"]),
        );
        self.report(
            web2,
            AgentState::Silent,
            2 * HOUR,
            41_198,
            0,
            (sees, &["changes through mmap before the file is closed"]),
        );
        self.report(
            db,
            AgentState::Watching,
            9 * SECOND,
            182_044,
            12,
            (
                &["changes of watched directories as they happen (inotify)"],
                &[
                    "who made a change: the agent lacks CAP_SYS_ADMIN",
                    "changes inside of containers",
                    "files that only root may read",
                ],
            ),
        );
        self.report(build, AgentState::Baselining, SECOND, 18_000, 0, (sees, &[]));
        let integrity = || Some(rule(550, 7, "The content of a watched file changed."));
        for i in 0..60_u8 {
            let mut update = modified(&format!("/usr/lib/x86_64-linux-gnu/libssl{i}.so.3"), i);
            update.actors = vec![actor("root", "root", "/usr/bin/dpkg", "dpkg --configure -a")];
            self.changed(web1, 30 * HOUR + i64::from(i) * SECOND, update, None);
        }
        let mut log = modified("/var/log/auth.log", 40);
        log.kind = ChangeKind::Rewritten;
        log.actors = vec![actor("root", "mallory", "/usr/bin/sed", "sed -i /203.0.113.9/d /var/log/auth.log")];
        self.changed(
            web2,
            2 * HOUR + 60 * SECOND,
            log,
            Some(rule(200_163, 13, "Bytes that a log had already sealed were changed.")),
        );
        let silent = Life::Silent { last_seen: self.now.minus_micros(2 * HOUR) };
        self.tell(
            AgentId::MANAGER,
            web2,
            2 * HOUR - 30 * SECOND,
            EventBody::Life(silent),
            Some(rule(504, 10, "An agent is silent.")),
        );
        let mut scan = change(
            b"/usr/local/bin/backup",
            ChangeKind::Modified,
            Some(entry(7, 90_112, 0o755)),
            Some(entry(9, 98_304, 0o4755)),
        );
        scan.detected_by = DetectedBy::Startup;
        scan.records = 0;
        scan.window =
            Some(Window { earliest: self.now.minus_micros(9 * HOUR), latest: self.now.minus_micros(5 * HOUR) });
        self.changed(db, 5 * HOUR, scan, Some(rule(200_165, 10, "A program became setuid.")));
        let overflow = Life::Overflow { queue: "fanotify".into(), lost: 12 };
        self.tell(db, db, HOUR, EventBody::Life(overflow), Some(rule(200_113, 7, "A queue was full.")));
        for ago in [52, 33, 18] {
            let mut passwd = modified("/etc/passwd", ago);
            passwd.actors = vec![actor("root", "alice", "/usr/sbin/usermod", "usermod -aG sudo bob")];
            self.changed(web1, i64::from(ago) * 60 * SECOND, passwd, integrity());
        }
        let hostile = change(HOSTILE, ChangeKind::Added, None, Some(entry(3, 41, 0o600)));
        self.changed(web1, 9 * 60 * SECOND, hostile, Some(rule(554, 5, "A file was added where files are watched.")));
        let mut moved = change(
            b"/etc/nginx/sites-enabled/shop",
            ChangeKind::Moved,
            Some(entry(8, 2210, 0o644)),
            Some(entry(8, 2210, 0o644)),
        );
        moved.moved_from = Some(PathBytes::new(*b"/etc/nginx/sites-available/shop.new").unwrap());
        moved.actors = vec![actor("deploy", "deploy", "/usr/bin/mv", "mv shop.new ../sites-enabled/shop")];
        self.changed(web1, 3 * 60 * SECOND, moved, None);
        let removed = change(b"/etc/sudoers.d/90-temp", ChangeKind::Removed, Some(entry(1, 33, 0o440)), None);
        self.changed(web1, 95 * SECOND, removed, Some(rule(553, 7, "A watched file was removed.")));
        let mut keys = modified("/root/.ssh/authorized_keys", 77);
        keys.actors = vec![actor("root", "alice", "/usr/bin/tee", "tee -a /root/.ssh/authorized_keys")];
        let id = self.changed(
            web1,
            12 * SECOND,
            keys,
            Some(rule(200_166, 9, "Keys that let somebody log in were changed.")),
        );
        println!("a change: /change/{id}");
    }
}
