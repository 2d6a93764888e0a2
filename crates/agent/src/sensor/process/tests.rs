//! Data for the table: what is told, in which order, and what is asked then.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn bytes(text: &str) -> Option<Arc<[u8]>> {
    Some(text.as_bytes().into())
}

fn exec(pid: u32, ppid: u32, start_ns: u64, at_ns: u64, cmdline: &str) -> ProcessEvent {
    let exe = cmdline.split(' ').next().unwrap();
    ProcessEvent::Exec(Box::new(Exec {
        pid,
        ppid: Some(ppid),
        start_ns: Some(start_ns),
        at_ns,
        exe: bytes(exe),
        cmdline: bytes(cmdline),
        rights: Rights { uid: Some(0), ..Rights::default() },
        tty: None,
        cgroup: Some(Cgroup { id: Some(7), path: Some("/a".into()) }),
        source: Confidence::Kernel,
    }))
}

fn fork(by: u32, pid: u32, at_ns: u64) -> ProcessEvent {
    let rights = Rights::default();
    ProcessEvent::Fork(Fork { by, pid, start_ns: Some(at_ns), at_ns, rights, cgroup_id: Some(7) })
}

fn exit(pid: u32, start_ns: u64, at_ns: u64) -> ProcessEvent {
    ProcessEvent::Exit(Exit { pid, start_ns: Some(start_ns), at_ns, rights: Rights::default() })
}

fn table(events: impl IntoIterator<Item = ProcessEvent>) -> ProcessTable {
    let mut table = ProcessTable::new(BYTES_MAX);
    events.into_iter().for_each(|event| table.apply(event));
    table
}

fn names(table: &ProcessTable, pid: u32, since_ns: u64, until_ns: u64) -> Vec<String> {
    let found = table.find(pid, Window { since_ns, until_ns });
    found.iter().map(|f| String::from_utf8(f.program.cmdline.as_deref().unwrap().to_vec()).unwrap()).collect()
}

#[test]
fn one_that_ended_is_still_known_and_later_forgotten() {
    let mut table =
        table([exec(10, 1, 1, 1, "/bin/sh"), fork(10, 11, 5), exec(11, 10, 5, 6, "/bin/cp a b"), exit(11, 5, 9)]);
    assert_eq!(names(&table, 11, 8, 20), ["/bin/cp a b"]);
    assert!(table.find(11, Window { since_ns: 8, until_ns: 20 })[0].process.ended);
    table.expire(9 + 29 * SECOND);
    assert_eq!(table.len(), 2);
    table.expire(9 + 31 * SECOND);
    assert_eq!((table.len(), names(&table, 11, 8, 20).len()), (1, 0));
}

#[test]
fn a_worker_that_never_execs_is_its_parents_program() {
    let table = table([exec(10, 1, 1, 1, "/usr/bin/python3 serve.py"), fork(10, 11, 5), exit(10, 1, 6)]);
    let found = table.find(11, Window { since_ns: 7, until_ns: 9 });
    assert_eq!(names(&table, 11, 7, 9), ["/usr/bin/python3 serve.py"]);
    assert_eq!((found[0].process.lineage[0].pid, &found[0].process.lineage[0].exe), (10, &bytes("/usr/bin/python3")));
}

#[test]
fn what_it_was_in_the_window_is_told_and_nothing_else() {
    let table = table([
        exec(10, 1, 1, 1, "/bin/bash"),
        fork(10, 11, 100),
        exec(11, 10, 100, 110, "/bin/sh -c evil"),
        exec(11, 10, 100, 120, "/usr/bin/apt"),
    ]);
    assert_eq!(names(&table, 11, 125, 130), ["/usr/bin/apt"]);
    // It may have acted as either.
    assert_eq!(names(&table, 11, 115, 130), ["/usr/bin/apt", "/bin/sh -c evil"]);
    assert_eq!(names(&table, 11, 105, 115), ["/bin/sh -c evil"]);
    // As the copy of its parent that it was for a moment it is told only if that is all it was.
    assert_eq!(names(&table, 11, 90, 115), ["/bin/sh -c evil"]);
    assert_eq!(names(&table, 11, 90, 105), ["/bin/bash"]);
}

#[test]
fn a_number_given_out_again_is_another_process() {
    let events = || {
        [
            exec(10, 1, 1, 1, "/bin/bash"),
            exec(11, 10, 100, 101, "/bin/old"),
            exit(11, 100, 105),
            exec(11, 10, 200, 201, "/bin/new"),
        ]
    };
    assert_eq!(names(&table(events()), 11, 202, 210), ["/bin/new"]);
    assert_eq!(names(&table(events()), 11, 101, 110), ["/bin/old"]);
    assert_eq!(names(&table(events()), 11, 101, 210), ["/bin/new", "/bin/old"]);
    // The same where its end was not told.
    let unended = events().into_iter().filter(|e| !matches!(e, ProcessEvent::Exit(_)));
    let table = table(unended);
    assert_eq!(names(&table, 11, 202, 210), ["/bin/new"]);
    assert!(!table.newest(11).unwrap().ended);
}

#[test]
fn records_in_the_wrong_order_give_the_same_answer() {
    let mut table =
        table([exec(10, 1, 1, 1, "/bin/bash"), exec(11, 10, 5, 6, "/bin/cp"), fork(10, 11, 5), exit(11, 5, 9)]);
    assert_eq!(names(&table, 11, 7, 9), ["/bin/cp"]);
    assert_eq!(table.newest(11).unwrap().lineage[0].pid, 10);
    // The end of one whose number is another's already.
    table.apply(exec(11, 10, 20, 21, "/bin/mv"));
    table.apply(exit(11, 5, 9));
    assert!(!table.newest(11).unwrap().ended);
}

#[test]
fn the_lineage_goes_up_to_what_the_system_started() {
    let table = table([
        exec(1, 0, 0, 0, "/sbin/init"),
        exec(50, 1, 2, 3, "/usr/sbin/sshd"),
        fork(50, 51, 4),
        exec(51, 50, 4, 5, "/bin/bash"),
        exit(50, 2, 6),
        fork(51, 52, 7),
        exec(52, 51, 7, 8, "/usr/bin/vi"),
    ]);
    let lineage = &table.newest(52).unwrap().lineage;
    let pids: Vec<_> = lineage.iter().map(|a| (a.pid, a.exe.clone())).collect();
    assert_eq!(pids, [(51, bytes("/bin/bash")), (50, bytes("/usr/sbin/sshd"))]);
    assert_eq!(table.newest(50).unwrap().lineage[0].pid, 1);
}

#[test]
fn a_lineage_has_a_bound() {
    let mut table = table([exec(1, 0, 0, 0, "/sbin/init"), fork(1, 2, 1)]);
    (2..100).for_each(|pid| table.apply(fork(pid, pid + 1, u64::from(pid))));
    let lineage = &table.newest(100).unwrap().lineage;
    assert_eq!((lineage.len(), lineage[0].pid), (LINEAGE_MAX, 99));
}

#[test]
fn rights_that_a_worker_took_are_told_at_its_end() {
    let mut table = table([exec(10, 1, 1, 1, "/bin/httpd"), fork(10, 11, 5)]);
    assert_eq!(table.newest(11).unwrap().rights.uid, Some(0));
    let rights = Rights { uid: Some(33), ..Rights::default() };
    table.apply(ProcessEvent::Exit(Exit { pid: 11, start_ns: Some(5), at_ns: 9, rights }));
    assert_eq!(table.newest(11).unwrap().rights.uid, Some(33));
    assert_eq!(table.newest(10).unwrap().rights.uid, Some(0));
}

#[test]
fn a_source_without_start_times_and_ends_serves_too() {
    let told = |pid, at_ns, cmdline: &str| {
        let ProcessEvent::Exec(mut exec) = exec(pid, 1, 0, at_ns, cmdline) else { unreachable!() };
        exec.start_ns = None;
        ProcessEvent::Exec(exec)
    };
    let table = table([told(11, 5, "/bin/a"), told(11, 9, "/bin/b")]);
    assert_eq!(names(&table, 11, 10, 12), ["/bin/b"]);
    assert_eq!(names(&table, 11, 6, 8), ["/bin/a"]);
}

#[test]
fn memory_has_a_bound_and_the_dead_go_first() {
    let mut table = ProcessTable::new(64 << 10);
    table.apply(exec(1, 0, 0, 0, "/sbin/init"));
    for pid in 2..2000u32 {
        let at = u64::from(pid) * 10;
        table.apply(fork(1, pid, at));
        table.apply(exec(pid, 1, at, at + 1, "/bin/true of some length"));
        table.apply(exit(pid, at, at + 2));
    }
    assert!(table.bytes <= 64 << 10 && table.len() > 50, "{} {}", table.bytes, table.len());
    assert!(table.newest(1).is_some() && table.newest(1999).is_some() && table.newest(2).is_none());
    for pid in 3000..6000u32 {
        table.apply(exec(pid, 1, 1, 2, "/usr/sbin/daemon"));
    }
    assert!(table.bytes <= 64 << 10 && table.len() > 50);
    let pids: Vec<u32> = table.by_pid.keys().copied().collect();
    for pid in pids {
        table.apply(exit(pid, 1, 5));
        table.apply(exit(pid, 0, 5));
    }
    table.expire(u64::MAX);
    assert_eq!((table.len(), table.bytes), (0, 0));
}

fn any_event() -> impl Strategy<Value = ProcessEvent> {
    (0u32..6, 1u32..6, 1u32..6, prop::option::of(0u64..4), 0u64..50).prop_map(|(kind, a, b, start_ns, at_ns)| {
        let rights = Rights::default();
        match kind {
            0 | 1 => exec(a, b, start_ns.unwrap_or(0), at_ns, "/bin/x"),
            2 | 3 => ProcessEvent::Fork(Fork { by: a, pid: b, start_ns, at_ns, rights, cgroup_id: None }),
            _ => ProcessEvent::Exit(Exit { pid: a, start_ns, at_ns, rights }),
        }
    })
}

proptest! {
    #[test]
    fn any_order_of_records_is_survived_within_the_bound(events in prop::collection::vec(any_event(), 0..200)) {
        let mut table = ProcessTable::new(4096);
        for event in events {
            table.apply(event);
            prop_assert!(table.bytes <= 4096);
            table.find(3, Window { since_ns: 10, until_ns: 30 });
        }
        table.expire(u64::MAX);
        table.clear();
        prop_assert_eq!(table.len(), 0);
    }
}
