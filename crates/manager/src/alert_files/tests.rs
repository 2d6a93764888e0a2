//! The files against a real store: what is recorded is in them once, whatever ends when.

use std::fs;

use tally_types::{Change, ChangeKind, DetectedBy, Epoch, Event, EventBody, EventId, PathBytes, RuleId};
use tally_types::{RuleMatch, Timestamp};

use super::*;
use tally_proto::Record;
use tally_store::Store;

struct Host {
    store: Store,
    seq: u64,
    logs: tempfile::TempDir,
    _dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("manager"), Timestamp::from_secs(1_795_000_000)).unwrap();
        Self { store, seq: 0, logs: tempfile::tempdir().unwrap(), _dir: dir }
    }

    /// Records a change of the manager's own host, with an alert.
    fn alert(&mut self, path: &str) {
        self.seq += 1;
        let time = Timestamp::from_secs(1_795_489_056);
        let id = EventId { agent: AgentId::MANAGER, epoch: Epoch(1), seq: self.seq };
        let path = PathBytes::new(path.as_bytes()).unwrap();
        let change = Change::new(path, ChangeKind::Removed, DetectedBy::Realtime);
        let event = Event { epoch: Epoch(1), seq: self.seq, time, body: EventBody::Change(Box::new(change)) };
        let rule = RuleMatch {
            id: RuleId(553),
            level: Level::new(7).unwrap(),
            description: "A file was removed.".into(),
            groups: vec!["syscheck".into()].into(),
            pci_dss: vec!["11.5.2".into()].into(),
        };
        let mut tx = self.store.begin().unwrap();
        let about = AgentId::MANAGER;
        let tally_store::Stored::Now(event_index) =
            tx.append(&Record::Event { id, about, received: time, event }).unwrap()
        else {
            panic!()
        };
        let _ = tx.append(&Record::Alert { event_id: id, about, time, rule, event_index }).unwrap();
        tx.commit(time).unwrap();
    }

    fn settings(&self) -> Settings {
        let mail_level = Level::new(7).unwrap();
        let dir = self.logs.path().to_owned();
        Settings { ossec: dir.clone(), dir, text: true, json: true, mail_level, hostname: "vm".into(), compress: true }
    }

    /// Writes what there is.
    fn write(&self) {
        drop(AlertFiles::start(self.settings(), self.store.reader(), 0).unwrap());
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.logs.path().join("alerts").join(name)).unwrap()
    }
}

#[test]
fn every_alert_is_written_once_over_restarts() {
    let mut host = Host::new();
    host.write();
    for n in 0..3 {
        host.alert(&format!("/etc/{n}"));
        host.write();
    }
    host.alert("/etc/3");
    host.alert("/etc/4");
    host.write();
    let (text, json) = (host.read("alerts.log"), host.read("alerts.json"));
    for n in 0..5 {
        let line = format!("File '/etc/{n}' was deleted. Unable to retrieve checksum.");
        assert_eq!((text.matches(&line).count(), json.matches(&line).count()), (1, 1), "{text}");
    }
    assert_eq!(text.matches("** Alert ").count(), 5);
    assert!(text.contains(": mail  - syscheck,pci_dss_11.5.2,\n"), "{text}");
    assert!(text.contains(" vm->syscheck\nRule: 553 (level 7) -> 'A file was removed.'\n"), "{text}");
}

#[test]
fn what_a_crash_left_of_an_alert_is_written_anew() {
    let mut host = Host::new();
    host.alert("/etc/0");
    host.alert("/etc/1");
    host.write();
    for name in ["alerts.log", "alerts.json"] {
        let path = host.logs.path().join("alerts").join(name);
        let text = fs::read(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(text.len() as u64 - 20).unwrap();
    }
    host.write();
    let (text, json) = (host.read("alerts.log"), host.read("alerts.json"));
    assert_eq!(text.matches("** Alert ").count(), 2, "{text}");
    assert_eq!(json.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count(), 2);
}

#[test]
fn the_day_has_a_file_that_the_newest_is_linked_to() {
    use std::os::unix::fs::MetadataExt as _;
    let mut host = Host::new();
    host.alert("/etc/0");
    host.write();
    let at = tally_sys::clock::local(1_795_489_056);
    let month = ["Nov", "Nov"][usize::from(at.month != 11)];
    let day = host.logs.path().join(format!("alerts/{}/{month}/ossec-alerts-{:02}.log", at.year, at.day));
    let ino = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(ino(&day), ino(&host.logs.path().join("alerts/alerts.log")));
}
