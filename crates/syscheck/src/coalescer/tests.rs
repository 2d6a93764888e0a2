//! The coalescer against what it promises, act by act and in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tally_types::{Change, Confidence};

use super::*;

fn path(text: &str) -> PathBytes {
    PathBytes::new(text.as_bytes()).unwrap()
}

fn actor(pid: u32) -> Arc<Actor> {
    Arc::new(Actor { exe: Some(Arc::from(&b"/usr/bin/x"[..])), confidence: Confidence::Kernel, ..Actor::unknown(pid) })
}

fn signal(text: &str, kinds: Kinds) -> Signal {
    Signal { path: path(text), kinds, is_directory: false, moved_from: None, actor: None, records: 1 }
}

fn rename(from: &str, to: &str, is_directory: bool) -> Signal {
    Signal { moved_from: Some(path(from)), is_directory, ..signal(to, Kinds::MOVED_TO) }
}

fn coalescer() -> Coalescer {
    Coalescer::new(Limits::default())
}

/// `+` and `>`: look and what follows, in short.
fn shown(due: &[Due]) -> Vec<String> {
    let show = |due: &Due| match due {
        Due::Look(look) => match &look.moved_from {
            Some(from) => format!("look {} from {from}", look.path),
            None => format!("look {}", look.path),
        },
        Due::LookBelow(below) => format!("below {}", below.path),
        Due::Rescan(rescan) => match rescan.depth {
            Some(depth) => format!("rescan {} to {depth}", rescan.path),
            None => format!("rescan {}", rescan.path),
        },
        Due::Storm(storm) => format!("storm {}", storm.path),
    };
    due.iter().map(show).collect()
}

fn looks(due: Vec<Due>) -> Vec<Look> {
    due.into_iter().filter_map(|due| if let Due::Look(look) = due { Some(look) } else { None }).collect()
}

#[test]
fn one_act_is_one_look_with_all_who_had_a_part() {
    let mut c = coalescer();
    let (one, two) = (actor(1), actor(2));
    c.signal(0, signal("/a", Kinds::CREATE));
    assert_eq!(c.next_due(), Some(50_000));
    c.signal(100, Signal { actor: Some(one.clone()), ..signal("/a", Kinds::MODIFY) });
    c.signal(200, Signal { actor: Some(two.clone()), ..signal("/a", Kinds::MODIFY | Kinds::CLOSE_WRITE) });
    c.signal(300, Signal { actor: Some(one.clone()), ..signal("/a", Kinds::ATTRIB) });
    assert_eq!(c.due(2_199, 9), []);
    assert_eq!(c.next_due(), Some(2_200));
    let [look] = &looks(c.due(2_200, 9))[..] else { panic!() };
    assert_eq!(look.actors, [one, two]);
    assert_eq!((look.records, look.first_us, look.last_us), (4, 0, 300));
    assert!(look.saw_create() && !look.saw_delete() && !look.is_transient());
    assert!(c.is_empty() && c.bytes() == 0 && c.next_due().is_none());
}

#[test]
fn an_open_file_is_looked_at_after_a_quiet_second_or_five() {
    let mut c = coalescer();
    let mut looked = vec![];
    for tenth in 0..80 {
        let now = tenth * 100_000;
        c.signal(now, signal("/log", Kinds::MODIFY));
        looked.extend(looks(c.due(now, 9)).iter().map(|_| now));
    }
    assert_eq!(looked, [5_000_000]);
    assert_eq!(c.due(7_900_000 + 999_999, 9), []);
    assert_eq!(looks(c.due(7_900_000 + 1_000_000, 9))[0].records, 29);
}

#[test]
fn a_path_that_changes_all_the_time_costs_some_looks_a_minute() {
    let mut c = coalescer();
    let (mut looked, mut storms, mut records) = (vec![0; 11], vec![], 0);
    let mut take = |due: Vec<Due>, now: u64| {
        for due in due {
            match due {
                Due::Look(look) => {
                    looked[(now / 60_000_000) as usize] += 1;
                    records += u64::from(look.records);
                }
                Due::Storm(storm) => storms.push((now / 60_000_000, storm)),
                other => panic!("{other:?}"),
            }
        }
    };
    for now in (0..600_000_000).step_by(5_000) {
        c.signal(now, signal("/d/a", Kinds::CLOSE_WRITE));
        take(c.due(now, 9), now);
    }
    // The last state is always looked at, and every record is told of.
    take(c.due(620_000_000, 9), 620_000_000);
    take(c.due(700_000_000, 9), 659_999_999);
    assert_eq!(looked, [23, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1]);
    assert_eq!(records, 120_000);
    assert!((9..=10).contains(&storms.len()), "about once a minute: {}", storms.len());
    assert!(
        storms
            .iter()
            .all(|(_, storm)| (storm.path == path("/d")) && storm.paths == 1 && storm.duration_us <= 60_000_000)
    );
    let told: u64 = storms.iter().map(|(_, storm)| storm.records).sum();
    assert_eq!(told, 120_000);
    // After a calm minute it is as fast as any.
    c.signal(800_000_000, signal("/d/a", Kinds::CLOSE_WRITE));
    assert_eq!(looks(c.due(800_002_000, 9)).len(), 1);
    assert_eq!(c.queue.len(), 0);
}

#[test]
fn a_storm_over_a_directory_is_told_with_its_count_and_no_path_is_left_out() {
    let mut c = coalescer();
    let (mut looked, mut storms) = (0, vec![]);
    for n in 0..20_000u64 {
        let now = n * 1_000;
        c.signal(now, signal(&format!("/d/{n}"), Kinds::CREATE | Kinds::CLOSE_WRITE));
        for due in c.due(now, 99) {
            match due {
                Due::Look(_) => looked += 1,
                Due::Storm(storm) => storms.push(storm),
                other => panic!("{other:?}"),
            }
        }
    }
    for due in c.drain() {
        match due {
            Due::Look(_) => looked += 1,
            Due::Storm(storm) => storms.push(storm),
            other => panic!("{other:?}"),
        }
    }
    let [storm] = &storms[..] else { panic!("{storms:?}") };
    assert_eq!((looked, storm.records, storm.paths), (20_000, 20_000, 20_000));
}

#[test]
fn what_came_and_went_is_transient_but_not_what_was_renamed_away() {
    let mut c = coalescer();
    c.signal(0, signal("/a", Kinds::CREATE | Kinds::CLOSE_WRITE));
    c.signal(1, signal("/a", Kinds::DELETE));
    assert!(looks(c.due(9_000, 9))[0].is_transient());
    c.signal(9_500, signal("/a~", Kinds::CREATE | Kinds::DELETE));
    assert!(!looks(c.due(11_500, 9))[0].is_transient(), "nothing was written there");
    c.signal(12_000, signal("/a~", Kinds::CREATE | Kinds::MODIFY | Kinds::DELETE));
    assert!(looks(c.due(14_000, 9))[0].is_transient());
    c.signal(15_000, signal("/a.tmp", Kinds::CREATE | Kinds::CLOSE_WRITE));
    c.signal(15_100, rename("/a.tmp", "/a", false));
    let due = c.due(20_000, 9);
    assert_eq!(shown(&due), ["look /a from /a.tmp", "look /a.tmp"]);
    assert!(looks(due).iter().all(|look| !look.is_transient()));
}

#[test]
fn a_chain_of_renames_is_one_from_its_first_name() {
    let mut c = coalescer();
    c.signal(0, rename("/a", "/b", false));
    c.signal(1, rename("/b", "/c", false));
    assert_eq!(shown(&c.due(9_000, 9)), [""; 0]);
    assert_eq!(shown(&c.due(500_001, 9)), ["look /c from /a", "look /b", "look /a"]);
    c.signal(600_000, rename("/a", "/b", false));
    c.signal(600_001, rename("/b", "/a", false));
    assert_eq!(shown(&c.due(1_100_001, 9)), ["look /a", "look /b"]);
}

#[test]
fn an_editors_backup_and_a_removal_wait_for_what_follows() {
    let mut c = coalescer();
    c.signal(0, rename("/f", "/f~", false));
    c.signal(30_000, signal("/f", Kinds::CREATE | Kinds::MODIFY | Kinds::CLOSE_WRITE));
    c.signal(31_000, signal("/f~", Kinds::DELETE));
    assert_eq!(shown(&c.due(499_999, 9)), [""; 0]);
    let due = c.due(500_000, 9);
    assert_eq!(shown(&due), ["look /f~ from /f", "look /f"]);
    assert!(looks(due).iter().all(|look| !look.is_transient()));
    c.signal(600_000, signal("/f", Kinds::DELETE));
    assert_eq!(shown(&c.due(649_999, 9)), [""; 0]);
    c.signal(649_999, signal("/f", Kinds::CREATE | Kinds::CLOSE_WRITE));
    assert_eq!(shown(&c.due(649_999, 9)), ["look /f"]);
    // Unpacked beside, and renamed when all of the package is on the disk.
    c.signal(700_000, signal("/f.dpkg-new", Kinds::CREATE | Kinds::MODIFY | Kinds::CLOSE_WRITE));
    assert_eq!(shown(&c.due(5_699_999, 9)), [""; 0]);
    c.signal(5_699_999, rename("/f.dpkg-new", "/f", false));
    assert_eq!(shown(&c.due(5_702_000, 9)), ["look /f from /f.dpkg-new", "look /f.dpkg-new"]);
    c.signal(6_000_000, signal("/evil~", Kinds::CREATE | Kinds::CLOSE_WRITE));
    assert_eq!(shown(&c.due(11_000_000, 9)), ["look /evil~"]);
}

#[test]
fn a_directory_that_goes_takes_its_children_along_and_after_them() {
    let mut c = coalescer();
    c.signal(0, signal("/d/a", Kinds::MODIFY));
    c.signal(1, signal("/d-x", Kinds::MODIFY));
    c.signal(2, Signal { is_directory: true, ..signal("/d/e", Kinds::DELETE) });
    c.signal(3, signal("/d/e/f", Kinds::MODIFY));
    c.signal(4, Signal { is_directory: true, ..signal("/d", Kinds::DELETE) });
    let expected = ["look /d/e/f", "look /d/e", "below /d/e"];
    assert_eq!(shown(&c.due(2_002, 9)), expected);
    assert_eq!(shown(&c.due(2_004, 9)), ["look /d/a", "look /d", "below /d"]);
    assert_eq!(c.len(), 1);
    c.signal(10_000, signal("/f", Kinds::MODIFY));
    c.signal(10_001, signal("/f/g", Kinds::MODIFY));
    c.signal(10_002, signal("/f/g/h", Kinds::MODIFY));
    c.signal(10_003, Signal { is_directory: true, ..signal("/f", Kinds::MOVED_FROM) });
    assert_eq!(shown(&c.due(12_003, 9)), ["look /f/g/h", "look /f/g", "look /f", "below /f"]);
}

#[test]
fn a_directory_that_is_moved_in_is_scanned() {
    let mut c = coalescer();
    c.signal(0, Signal { is_directory: true, ..signal("/d", Kinds::MOVED_TO) });
    assert_eq!(shown(&c.due(9_000, 9)), ["look /d", "rescan /d"]);
}

#[test]
fn a_renamed_directory_is_scanned_at_both_ends() {
    let mut c = coalescer();
    c.signal(0, Signal { actor: Some(actor(7)), ..rename("/d", "/e", true) });
    let due = c.due(9_000, 9);
    assert_eq!(shown(&due), ["look /e from /d", "rescan /e", "look /d", "rescan /d"]);
    let Due::Rescan(rescan) = &due[1] else { panic!() };
    assert_eq!((rescan.cause, &rescan.actors[..]), (RescanCause::DirectoryMoved, &[actor(7)][..]));
}

#[test]
fn at_its_limit_it_asks_for_rescans_and_forgets_nothing() {
    let mut c = Coalescer::new(Limits { bytes_max: 0, ..Limits::default() });
    for n in 0..5_000 {
        let one = Signal { actor: Some(actor(n % 50)), ..signal(&format!("/big/dir/{n}"), Kinds::MODIFY) };
        c.signal(u64::from(n), one);
        assert!(c.bytes() <= Limits::BYTES_MIN);
    }
    assert!(c.counters().degraded >= 1);
    let due = c.drain();
    let Due::Rescan(rescan) = &due[0] else { panic!("{due:?}") };
    assert_eq!((shown(&due[..1]), rescan.records), (vec!["rescan /big/dir to 1".into()], 5_000));
    assert_eq!((rescan.actors.len(), rescan.cause), (Change::ACTORS_MAX, RescanCause::MemoryLimit));
    assert_eq!((c.len(), c.bytes()), (0, 0));
}

#[test]
fn one_file_in_each_of_many_directories_ends_in_rescans_higher_up() {
    let mut c = Coalescer::new(Limits { bytes_max: 0, ..Limits::default() });
    for n in 0..20_000 {
        c.signal(n, signal(&format!("/a/{}/{n}/f", n % 100), Kinds::CLOSE_WRITE));
        assert!(c.bytes() <= Limits::BYTES_MIN && c.len() < 2_000);
    }
    let due = c.drain();
    assert!(due.len() < 2_000, "{}", due.len());
    let records: u32 = due.iter().map(|d| if let Due::Rescan(r) = d { r.records } else { 1 }).sum();
    assert!(records <= 20_000);
}

#[test]
fn actors_are_counted_once_and_let_go() {
    let mut c = coalescer();
    let busy = actor(1);
    for n in 0..100 {
        c.signal(n, Signal { actor: Some(busy.clone()), ..signal(&format!("/f{n}"), Kinds::CLOSE_WRITE) });
    }
    assert!(c.bytes() < 100 * 500, "{}", c.bytes());
    for n in 0..20 {
        c.signal(n, Signal { actor: Some(actor(n as u32)), ..signal("/f0", Kinds::CLOSE_WRITE) });
    }
    let due = looks(c.drain());
    let first = due.iter().find(|look| look.path == path("/f0")).unwrap();
    let pids: Vec<u32> = first.actors.iter().map(|a| a.pid).collect();
    assert_eq!(pids, [19, 18, 17, 16, 15, 14, 13, 12]);
    assert_eq!(c.bytes(), 0);
}

#[test]
fn a_rescan_that_is_asked_for_is_due_at_once() {
    let mut c = coalescer();
    c.rescan(5, &path("/mnt"), None, RescanCause::Asked);
    c.rescan(6, &path("/mnt"), Some(1), RescanCause::Asked);
    assert_eq!(shown(&c.due(6, 9)), ["rescan /mnt"]);
}

#[test]
fn too_many_rescans_become_one_and_leave_the_others_alone() {
    let mut c = coalescer();
    c.signal(0, signal("/a/5/x", Kinds::MODIFY));
    c.signal(0, signal("/z/x", Kinds::MODIFY));
    for n in 0..=Limits::RESCANS_MAX {
        c.rescan(1, &path(&format!("/a/{n}")), None, RescanCause::Asked);
    }
    assert_eq!(shown(&c.drain()), ["look /z/x", "rescan /a"]);
}

#[derive(Clone, Debug)]
struct Step {
    path: String,
    from: Option<String>,
    kinds: u8,
    is_directory: bool,
    wait_us: u64,
    take: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let text = || "(/[ab]{1,2}){1,4}|/";
    let wait = prop_oneof![Just(0u64), 0..3_000u64, Just(60_000), Just(1_200_000)];
    (text(), prop::option::weighted(0.2, text()), 1..128u8, prop::bool::weighted(0.2), wait, 0..4usize).prop_map(
        |(path, from, kinds, is_directory, wait_us, take)| Step { path, from, kinds, is_directory, wait_us, take },
    )
}

/// What is still owed to the signals so far, by the order of calls.
#[derive(Default)]
struct Owed {
    looks: BTreeSet<PathBytes>,
    /// Directories that came or went, below which all has to be looked at.
    below: BTreeSet<PathBytes>,
}

impl Owed {
    fn settle(&mut self, due: &[Due]) {
        for one in due {
            match one {
                Due::Look(look) => drop(self.looks.remove(&look.path)),
                Due::Storm(_) => {}
                Due::LookBelow(below) => self.below.retain(|path| !path.is_within(&below.path)),
                Due::Rescan(rescan) => {
                    let levels =
                        |path: &PathBytes| path.tree_key()[1..].split(|b| *b == 0).filter(|c| !c.is_empty()).count();
                    let base = levels(&rescan.path);
                    let reach = rescan.depth.map_or(usize::MAX, |depth| base + depth as usize);
                    self.looks.retain(|path| !(path.is_within(&rescan.path) && levels(path) <= reach));
                    self.below.retain(|path| !(path.is_within(&rescan.path) && rescan.depth.is_none()));
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.below.is_empty()
    }
}

fn every_signal_is_followed_by_a_look(steps: Vec<Step>, bytes_max: usize) -> Result<(), TestCaseError> {
    let mut c = Coalescer::new(Limits { bytes_max, ..Limits::default() });
    // Below the floor for callers: to meet the limit with a few paths.
    c.limits.bytes_max = bytes_max;
    let (mut now, mut owed) = (0, Owed::default());
    for step in steps {
        now += step.wait_us;
        let kinds = Kinds::from_bits(step.kinds) | if step.from.is_some() { Kinds::MOVED_TO } else { Kinds::NONE };
        let both = [Some(&step.path), step.from.as_ref()].into_iter().flatten().map(|text| path(text));
        owed.looks.extend(both.clone());
        let directory_moved = step.is_directory && kinds.has_any(Kinds::GONE | Kinds::MOVED_TO);
        owed.below.extend(both.filter(|_| directory_moved));
        c.signal(
            now,
            Signal {
                path: path(&step.path),
                kinds,
                is_directory: step.is_directory,
                moved_from: step.from.as_deref().map(path),
                actor: Some(actor(u32::from(step.kinds % 5))),
                records: 1,
            },
        );
        let next_due = c.next_due();
        let due = c.due(now, step.take);
        prop_assert!(due.is_empty() || next_due.is_some_and(|at| at <= now));
        owed.settle(&due);
        prop_assert!(c.bytes() <= bytes_max.max(4_000), "{}", c.bytes());
        prop_assert!(owed.is_empty() || c.next_due().is_some());
    }
    // Nothing waits longer than the longest patience, and no storm is told of later than after a minute.
    now += 70_000_000;
    loop {
        let due = c.due(now, 3);
        if due.is_empty() {
            break;
        }
        owed.settle(&due);
    }
    prop_assert!(owed.is_empty(), "{:?} {:?}", owed.looks, owed.below);
    prop_assert_eq!((c.len(), c.bytes(), c.queue.len()), (0, 0, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_of_signals_is_followed_by_looks(steps in prop::collection::vec(step(), 1..80)) {
        every_signal_is_followed_by_a_look(steps, usize::MAX)?;
    }

    #[test]
    fn so_it_is_when_memory_is_short(steps in prop::collection::vec(step(), 1..80), bytes_max in 600..6_000usize) {
        every_signal_is_followed_by_a_look(steps, bytes_max)?;
    }
}
