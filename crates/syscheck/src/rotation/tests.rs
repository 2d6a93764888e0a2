//! A directory of logs in memory: what tools do to it, and what an intruder does under cover of that.

use proptest::prelude::*;

use super::*;
use crate::append_log::{Seal, check_stream};

#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    name: String,
    inode: u64,
    content: Vec<u8>,
}

/// Names, and what is told of each.
type Told = Vec<(String, String)>;

/// Of the log `log`; compressed files hold their content as it is, and are told by their names.
#[derive(Clone, Debug)]
struct Dir {
    files: Vec<File>,
    next_inode: u64,
}

/// As if a log were rotated each 100 s, and it were 1,000.
fn written_s(name: &str) -> i64 {
    let (age, _) = Dir::read(name);
    match age {
        Some(Age::Number(number)) => 1000 - 100 * i64::try_from(number).unwrap(),
        _ => 1000,
    }
}

impl Dir {
    fn new(names: &[&str]) -> Self {
        let mut dir = Self { files: Vec::new(), next_inode: 1 };
        for (n, name) in names.iter().enumerate() {
            dir.create(name, format!("what {name} held as file {n}\n").repeat(n + 1).as_bytes());
        }
        dir
    }

    fn create(&mut self, name: &str, content: &[u8]) {
        self.remove(name);
        let inode = self.next_inode;
        self.next_inode += 1;
        self.files.push(File { name: name.to_owned(), inode, content: content.to_vec() });
    }

    fn remove(&mut self, name: &str) {
        self.files.retain(|file| file.name != name);
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.remove(to);
        self.file(from).name = to.to_owned();
    }

    fn file(&mut self, name: &str) -> &mut File {
        self.files.iter_mut().find(|file| file.name == name).unwrap()
    }

    fn copy(&mut self, from: &str, to: &str) {
        let content = self.file(from).content.clone();
        self.create(to, &content);
    }

    fn compress(&mut self, name: &str, suffix: &str) {
        self.copy(name, &format!("{name}{suffix}"));
        self.remove(name);
    }

    fn read(name: &str) -> (Option<Age>, Option<Packing>) {
        match RotatedName::readings(name.as_bytes()).into_iter().find(|reading| reading.log == b"log") {
            Some(reading) => (Some(reading.age), reading.packing),
            None => (None, None),
        }
    }

    /// Follows what became of `self`, and says it: for each file the fate of its content, and of what is there its origin.
    fn become_(&self, now: &Self, retention: Retention) -> (Told, Told, Conclusion) {
        let path = |name: &str| PathBytes::new(format!("/var/log/{name}").into_bytes()).unwrap();
        let seal = |content: &[u8]| Seal::of_stream(&mut &content[..], content.len() as u64).unwrap();
        let members = self.files.iter().map(|file| {
            let (age, packing) = Self::read(&file.name);
            let (size, is_expired) = (file.content.len() as u64, file.content.starts_with(b"old"));
            Member {
                path: path(&file.name),
                age,
                packing,
                size,
                file: (1, file.inode),
                is_expired,
                written_s: Some(written_s(&file.name)),
            }
        });
        let presents = now.files.iter().map(|file| {
            let (age, packing) = Self::read(&file.name);
            let is_untouched = self.files.contains(file);
            let size = file.content.len() as u64;
            Present { path: path(&file.name), age, packing, size, file: (1, file.inode), is_untouched }
        });
        let mut rotation = Rotation::new(members.collect(), presents.collect());
        let mut comparisons = 0;
        while let Some(comparison) = rotation.next() {
            comparisons += 1;
            assert!(comparisons <= 2 * self.files.len() * now.files.len(), "{comparison:?} comes again");
            let (old, new) = (&self.files[comparison.member], &now.files[comparison.present]);
            let verdict = check_stream(&mut &new.content[..], &seal(&old.content)).unwrap();
            rotation.answer(comparison, verdict);
        }
        let conclusion = rotation.conclude(retention);
        let name = |present: usize| now.files[present].name.clone();
        let fates = self.files.iter().zip(&conclusion.fates).map(|(file, fate)| {
            let told = match fate {
                Fate::In(present) => format!("in {}", name(*present)),
                Fate::Empty => "empty".to_owned(),
                Fate::Retired => "retired".to_owned(),
                Fate::Lost(None) => "lost".to_owned(),
                Fate::Lost(Some((present, _))) => format!("lost, nearest {}", name(*present)),
            };
            (file.name.clone(), told)
        });
        let origins = now.files.iter().zip(&conclusion.origins).map(|(file, origin)| {
            let told = match origin {
                Origin::Continues(member) => format!("of {}", self.files[*member].name),
                Origin::Copies(member) => format!("copy of {}", self.files[*member].name),
                Origin::Begins => "begins".to_owned(),
                Origin::Unknown => "unknown".to_owned(),
            };
            (file.name.clone(), told)
        });
        (fates.collect(), origins.collect(), conclusion)
    }

    /// The fate of one file.
    fn fate_in(&self, now: &Self, name: &str) -> String {
        let (fates, ..) = self.become_(now, NOW);
        fates.into_iter().find(|(of, _)| of == name).unwrap().1
    }
}

const NOW: Retention = Retention::ByCount { credit: 0 };

const PACKED: [&str; 3] = ["", ".gz", ".xz"];

/// One rotation as logrotate makes it, of at most three kept.
fn rotate(dir: &mut Dir, copies: bool, suffix: &str) {
    for n in (1..=3).rev() {
        for packed in PACKED {
            let (from, to) = (format!("log.{n}{packed}"), format!("log.{}{packed}", n + 1));
            if dir.files.iter().any(|file| file.name == from) {
                dir.rename(&from, &to);
            }
        }
    }
    if copies {
        dir.copy("log", "log.1");
        dir.file("log").content.clear();
    } else {
        dir.rename("log", "log.1");
        dir.create("log", b"");
    }
    if !suffix.is_empty() {
        dir.compress("log.1", suffix);
    }
    for packed in PACKED {
        dir.remove(&format!("log.4{packed}"));
    }
    let written = format!("written in file {}\n", dir.next_inode);
    dir.file("log").content.extend(written.as_bytes());
}

fn told(pairs: &[(&str, &str)]) -> Told {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_rotation_of_each_kind_accounts_for_everything() {
    let before = Dir::new(&["log", "log.1", "log.2", "log.3"]);
    for copies in [false, true] {
        let mut now = before.clone();
        rotate(&mut now, copies, "");
        let (fates, origins, conclusion) = before.become_(&now, NOW);
        let expected = [("log", "in log.1"), ("log.1", "in log.2"), ("log.2", "in log.3"), ("log.3", "retired")];
        assert_eq!(fates, told(&expected), "{copies}");
        assert!(origins.contains(&("log".to_owned(), "begins".to_owned())), "{origins:?}");
        assert_eq!((conclusion.rotations, conclusion.retired, conclusion.patience), (1, 1, Patience::None));
    }
    let mut now = before.clone();
    now.rename("log", "log-20261124");
    now.compress("log-20261124", ".gz");
    assert_eq!(before.fate_in(&now, "log"), "in log-20261124.gz");
    // Twice, while nobody looked: what was never seen is not known.
    let mut now = before.clone();
    rotate(&mut now, false, ".xz");
    rotate(&mut now, false, ".xz");
    let (fates, origins, conclusion) = before.become_(&now, NOW);
    assert_eq!(
        fates,
        told(&[("log", "in log.2.xz"), ("log.1", "in log.3"), ("log.2", "retired"), ("log.3", "retired")])
    );
    assert!(origins.contains(&("log.1.xz".to_owned(), "unknown".to_owned())));
    assert_eq!(conclusion.rotations, 2);
}

#[test]
fn a_copy_beside_the_log_is_told_as_one() {
    let before = Dir::new(&["log"]);
    let mut now = before.clone();
    now.copy("log", "log.1");
    let (fates, origins, conclusion) = before.become_(&now, NOW);
    assert_eq!((fates, origins.last().unwrap().1.as_str()), (told(&[("log", "in log")]), "copy of log"));
    assert_eq!(conclusion.rotations, 0);
    // And when the log is cut later, that copy is what proves it.
    let copied = now.clone();
    now.file("log").content.clear();
    assert_eq!(copied.fate_in(&now, "log"), "in log.1");
    now.file("log.1").content[0] ^= 1;
    assert_eq!(copied.fate_in(&now, "log.1"), "lost, nearest log.1");
}

#[test]
fn a_daemon_may_write_on_in_the_renamed_file() {
    let before = Dir::new(&["log"]);
    let mut now = before.clone();
    rotate(&mut now, false, "");
    now.file("log.1").content.extend(b"late");
    assert_eq!(before.fate_in(&now, "log"), "in log.1");
}

#[test]
fn what_was_altered_under_cover_of_a_rotation_is_lost() {
    let before = Dir::new(&["log", "log.1", "log.2.gz", "log.3"]);
    for (altered, is_now, copies) in [("log", "log.1", false), ("log", "log.1", true), ("log.1", "log.2", false)] {
        let mut now = before.clone();
        rotate(&mut now, copies, "");
        now.file(is_now).content[3] ^= 1;
        let (fates, _, conclusion) = before.become_(&now, NOW);
        let fate = fates.into_iter().find(|(name, _)| name == altered).unwrap().1;
        assert_eq!(fate, format!("lost, nearest {is_now}"), "{altered} {copies}");
        let waits = if copies { Patience::Short } else { Patience::None };
        assert!(conclusion.patience <= waits.max(Patience::Short));
    }
    let mut now = before.clone();
    now.rename("log", "log.1");
    now.file("log.1").content[0] ^= 1;
    now.compress("log.1", ".gz");
    now.create("log", b"");
    assert_eq!(before.fate_in(&now, "log"), "lost, nearest log.1.gz");
    // Cut, without a copy.
    let mut now = before.clone();
    now.file("log").content.clear();
    let (fates, _, conclusion) = before.become_(&now, NOW);
    assert_eq!((fates[0].1.as_str(), conclusion.patience), ("lost, nearest log", Patience::None));
}

#[test]
fn only_the_oldest_go_and_only_for_a_rotation_or_by_age() {
    let before = Dir::new(&["log", "log.1", "log.2", "log.3"]);
    let fates = |removed: &[&str], rotates: bool, retention| {
        let mut now = before.clone();
        removed.iter().for_each(|name| now.remove(name));
        if rotates {
            rotate(&mut now, false, "");
        }
        let (fates, _, conclusion) = before.become_(&now, retention);
        let lost: Vec<_> =
            fates.into_iter().filter(|(_, fate)| fate.starts_with("lost")).map(|(name, _)| name).collect();
        (lost.join(" "), conclusion.patience)
    };
    let names = |lost: &str, patience| (lost.to_owned(), patience);
    assert_eq!(fates(&["log.3"], false, NOW), names("log.3", Patience::Long));
    assert_eq!(fates(&["log.3"], false, Retention::ByCount { credit: 1 }), names("", Patience::None));
    assert_eq!(fates(&["log.3"], true, NOW), names("", Patience::None));
    assert_eq!(fates(&["log.2"], true, NOW), names("log.2", Patience::Long));
    assert_eq!(fates(&["log.1"], false, NOW), names("log.1", Patience::Short));
    assert_eq!(fates(&["log.2", "log.3"], true, NOW), names("log.2", Patience::Long));
    assert_eq!(fates(&["log.3"], true, Retention::ByAge), names("log.3", Patience::Short));
    // By age, without a rotation: as many as are expired, the oldest first.
    let mut before = before.clone();
    for name in ["log.2", "log.3"] {
        before.file(name).content.splice(..0, *b"old");
    }
    let mut now = before.clone();
    now.remove("log.2");
    now.remove("log.3");
    let (fates, ..) = before.become_(&now, Retention::ByAge);
    assert_eq!(fates[2..], told(&[("log.2", "retired"), ("log.3", "retired")]));
}

#[test]
fn what_a_rule_lets_go_is_the_oldest_by_its_number_and_age() {
    let before = Dir::new(&["log", "log.1", "log.2", "log.3", "log.4"]);
    let lost = |removed: &[&str], rotates: bool, allowed| {
        let mut now = before.clone();
        removed.iter().for_each(|name| now.remove(name));
        if rotates {
            rotate(&mut now, false, "");
        }
        let (fates, ..) = before.become_(&now, Retention::ByRule(allowed));
        let lost = fates.into_iter().filter(|(_, fate)| fate.starts_with("lost"));
        lost.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    };
    let (rule, none) = (Allowed { by_count: Some((3, 700)), by_age_s: None }, "");
    // Three are left, and what goes is old enough.
    assert_eq!(lost(&["log.4"], false, rule), none);
    assert_eq!(lost(&["log.3", "log.4"], true, rule), none);
    // Fewer are left; none is left that is young; the order holds.
    assert_eq!(lost(&["log.3", "log.4"], false, rule), "log.3 log.4");
    assert_eq!(lost(&["log.2", "log.3", "log.4"], true, Allowed { by_count: Some((1, 700)), ..rule }), "log.2");
    assert_eq!(lost(&["log.3"], false, rule), "log.3");
    let aged = Allowed { by_count: None, by_age_s: Some(800) };
    assert_eq!(lost(&["log.2", "log.3", "log.4"], false, aged), none);
    assert_eq!(lost(&["log.1", "log.2", "log.3", "log.4"], false, aged), "log.1");
    // A file that nothing is known of does not count among those that are left.
    let mut now = before.clone();
    now.remove("log.4");
    now.remove("log.3");
    now.create("log.9", b"made up");
    let (fates, ..) = before.become_(&now, Retention::ByRule(rule));
    assert!(fates.iter().any(|(name, fate)| name == "log.4" && fate.starts_with("lost")), "{fates:?}");
}

#[test]
fn an_inode_that_was_given_again_is_no_alteration() {
    let before = Dir::new(&["log", "log.1", "log.2", "log.3"]);
    let mut now = before.clone();
    let inode = now.file("log.3").inode;
    rotate(&mut now, false, "");
    now.file("log").inode = inode;
    assert_eq!(before.fate_in(&now, "log.3"), "retired");
}

#[test]
fn an_empty_log_that_is_rotated_counts_as_a_rotation() {
    let mut before = Dir::new(&["log", "log.1", "log.2", "log.3"]);
    before.file("log").content.clear();
    for copies in [false, true] {
        let mut now = before.clone();
        rotate(&mut now, copies, "");
        assert_eq!(before.fate_in(&now, "log.3"), "retired", "{copies}");
    }
}

proptest! {
    /// However often and in whatever way a log is rotated, nothing is lost, as long as each state is looked at; and a byte
    /// that is altered anywhere is told, whatever rotation hides it.
    #[test]
    fn honest_rotations_lose_nothing_and_altered_bytes_are_lost(
        ways in prop::collection::vec((any::<bool>(), prop::sample::select(&["", ".gz"][..])), 1..8),
        victim in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(),
    ) {
        let mut before = Dir::new(&["log"]);
        for (copies, suffix) in &ways {
            let mut now = before.clone();
            rotate(&mut now, *copies, suffix);
            let (fates, _, conclusion) = before.become_(&now, NOW);
            prop_assert!(fates.iter().all(|(_, fate)| !fate.starts_with("lost")), "{fates:?}");
            prop_assert!(conclusion.patience == Patience::None);
            // One that was in another's place is still found as its own.
            let victim = victim.index(now.files.len());
            let mut forged = now.clone();
            let place = place.index(forged.files[victim].content.len());
            forged.files[victim].content[place] ^= 1;
            let was_sealed = before.become_(&now, NOW).1[victim].1.starts_with("of ");
            let (fates, ..) = before.become_(&forged, NOW);
            let is_told = fates.iter().any(|(_, fate)| fate.starts_with("lost"));
            prop_assert!(is_told || !was_sealed, "{fates:?}");
            before = now;
        }
    }
}
