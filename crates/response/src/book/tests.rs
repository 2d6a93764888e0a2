//! Kills at each point, bounds, and that nothing stays.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn at(seconds: i64) -> Timestamp {
    NOW.plus_micros(seconds * 1_000_000)
}

fn wish(last: u8, timeout_s: u32) -> Wish {
    let arguments = Arguments::new(1, 2, 3, "/var/log/auth.log").with_address([192, 0, 2, last].into());
    Wish {
        about: AgentId(7),
        name: "drop600".into(),
        program: "/srv/with a blank/drop".into(),
        arguments,
        timeout_s,
        repeated_s: Arc::from([]),
        mark: Mark(u64::from(last)),
    }
}

struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self, seconds: i64) -> Book {
        Book::open(&self.0.path().join("responses"), at(seconds)).unwrap()
    }
}

fn told(book: &mut Book) -> Vec<String> {
    book.take_told().into_iter().map(|told| told.detail).collect()
}

#[test]
fn after_a_kill_at_any_point_what_lasts_is_taken_back() {
    let disk = Disk::new();
    disk.open(0).wish(NOW, wish(1, 600));
    // Killed while it waited: it is run.
    let mut book = disk.open(10);
    assert_eq!(book.marks(), [1]);
    let start = book.next().unwrap();
    assert_eq!(
        (start.action, &*start.words[2], &*start.key.0),
        (Action::Add, "192.0.2.1", Path::new("/srv/with a blank/drop"))
    );
    // Killed while it ran.
    let mut book = disk.open(20);
    assert_eq!(told(&mut book), ["was begun against 192.0.2.1, and ended by a kill: what came of it is not known"]);
    assert!(book.next().is_none());
    book.take_back(at(599));
    assert!(book.next().is_none());
    assert_eq!(book.next_due(), Some(at(600)));
    // Killed while it lasted, and begun again long after its time.
    let mut book = disk.open(10_000);
    book.take_back(at(10_000));
    let start = book.next().unwrap();
    assert_eq!(start.action, Action::Delete);
    // Killed while it was taken back: it is taken back again.
    let mut book = disk.open(10_001);
    let start = book.next().unwrap();
    assert_eq!(start.words[..3], ["delete", "-", "192.0.2.1"]);
    book.ended(at(10_002), &start, "ended with 0");
    assert_eq!(told(&mut book), ["delete - 192.0.2.1 1.2 3 /var/log/auth.log -: ended with 0"]);
    assert!(book.is_empty() && disk.open(10_003).is_empty());
}

#[test]
fn what_does_not_last_is_run_once_and_what_is_old_is_not_run() {
    let disk = Disk::new();
    disk.open(0).wish(NOW, wish(1, 0));
    let mut book = disk.open(5);
    assert_eq!(book.next().unwrap().action, Action::Add);
    let mut book = disk.open(6);
    assert_eq!(told(&mut book), ["was begun against 192.0.2.1, and ended by a kill: what came of it is not known"]);
    assert!(book.next().is_none() && book.is_empty());
    book.wish(at(7), wish(2, 600));
    let mut book = disk.open(1000);
    assert_eq!(told(&mut book), ["not run against 192.0.2.2: this process was not there in its time"]);
    assert!(book.next().is_none() && book.is_empty());
}

#[test]
fn while_it_lasts_it_is_not_run_again_and_the_next_time_lasts_longer() {
    let disk = Disk::new();
    let repeated = |last| Wish { repeated_s: Arc::from([1800, 3600]), ..wish(last, 600) };
    let mut from = 0;
    for (nth, lasts) in [600, 1800, 3600, 3600].into_iter().enumerate() {
        // The number of times outlives the process.
        let mut book = disk.open(from);
        book.wish(at(from), repeated(1));
        let start = book.next().unwrap();
        book.ended(at(from), &start, "ended with 0");
        book.wish(at(from + 50), repeated(1));
        assert!(book.next().is_none(), "{nth}");
        assert_eq!(book.next_due(), Some(at(from + 50 + lasts)), "{nth}");
        from += 50 + lasts;
        book.take_back(at(from));
        let start = book.next().unwrap();
        // Wished for while it is taken back: once that is done it is run, as a further time.
        if nth == 3 {
            book.wish(at(from), repeated(1));
            assert!(book.next().is_none());
            book.ended(at(from), &start, "ended with 0");
            assert_eq!(book.next().unwrap().action, Action::Add);
            return;
        }
        book.ended(at(from), &start, "ended with 0");
        assert!(book.is_empty());
    }
}

#[test]
fn what_is_too_much_is_told() {
    let disk = Disk::new();
    let mut book = disk.open(0);
    for last in 0..=255 {
        book.wish(NOW, wish(last, 0));
    }
    let over = Wish { program: "/other".into(), ..wish(1, 0) };
    book.wish(NOW, over);
    assert_eq!(told(&mut book), ["not run against 192.0.2.1: 256 programs wait already"]);
    let running: Vec<_> = std::iter::from_fn(|| book.next()).collect();
    assert_eq!(running.len(), RUNNING_MAX);
    // The end: what waits is never added, what runs is waited for.
    book.end();
    running.iter().for_each(|start| book.ended(NOW, start, "ended with 0"));
    assert!(book.next().is_none() && book.is_empty());
}

#[test]
fn the_end_takes_back_all_that_lasts() {
    let disk = Disk::new();
    let mut book = disk.open(0);
    book.wish(NOW, wish(1, 600));
    book.wish(NOW, wish(2, 600));
    let (first, second) = (book.next().unwrap(), book.next().unwrap());
    book.ended(NOW, &first, "ended with 0");
    book.end();
    assert_eq!(book.next().unwrap().words[..3], ["delete", "-", "192.0.2.1"]);
    book.ended(NOW, &second, "ended with 0");
    book.take_back_all();
    assert_eq!(book.next().unwrap().words[..3], ["delete", "-", "192.0.2.2"]);
    assert!(book.next().is_none());
}

#[test]
fn one_that_is_to_last_for_good_is_not_taken_back() {
    let mut book = Disk::new().open(0);
    book.wish(NOW, wish(1, 600));
    let start = book.next().unwrap();
    book.ended(NOW, &start, "ended with 0");
    book.wish(NOW, wish(1, 0));
    assert!(book.is_empty() && book.next_due().is_none());
}

#[test]
fn where_nothing_can_be_written_it_is_said_once_and_run() {
    let disk = Disk::new();
    let mut book = disk.open(0);
    std::fs::remove_dir_all(disk.0.path()).unwrap();
    book.wish(NOW, wish(1, 600));
    book.wish(NOW, wish(2, 600));
    let said = told(&mut book);
    assert!(said.len() == 1 && said[0].contains("cannot be written down"), "{said:?}");
    assert!(book.next().is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Wish(u8, u32),
    Next,
    End,
    Wait(i64),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, prop::sample::select(vec![0, 5, 50])).prop_map(|(last, timeout)| Step::Wish(last, timeout)),
        Just(Step::Next),
        Just(Step::End),
        (0..40i64).prop_map(Step::Wait),
        Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens and whenever it is killed: what was added for a time is deleted after it.
    #[test]
    fn nothing_stays(steps in prop::collection::vec(step(), 1..40)) {
        let disk = Disk::new();
        let (mut book, mut now, mut running) = (disk.open(0), 0, Vec::new());
        let mut added = std::collections::BTreeSet::new();
        let mut note = |start: &Start| match start.action {
            Action::Add => drop(added.insert(start.key.clone())),
            Action::Delete => drop(added.remove(&start.key)),
        };
        for step in steps {
            match step {
                // Against one, always with a time or always without.
                Step::Wish(last, timeout) => book.wish(at(now), wish(last, if last == 0 { 0 } else { timeout.max(5) })),
                Step::Next => running.extend(book.next().inspect(&mut note)),
                Step::End => if let Some(start) = running.pop() { book.ended(at(now), &start, "x") },
                Step::Wait(seconds) => { now += seconds; book.take_back(at(now)); }
                Step::Kill => { running.clear(); book = disk.open(now); }
            }
        }
        running.iter().for_each(|start| book.ended(at(now), start, "x"));
        for _ in 0..40 {
            now += 100;
            book.take_back(at(now));
            while let Some(start) = book.next() {
                note(&start);
                book.ended(at(now), &start, "x");
            }
        }
        prop_assert!(book.is_empty());
        prop_assert!(added.iter().all(|key| key.1 == "192.0.2.0"), "{added:?}");
    }
}
