//! The audit subsystem of the kernel that runs the test: rules of our own, and what is told of programs' starts.
//!
//! One at a time (.config/nextest.toml): auditing is on or off for the whole machine. What was found is left behind.

// A failed step of the set-up is a failed test; clippy knows that of test functions, not of what they call.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use tally_sys::audit::exec::{Assembler, Exec};
use tally_sys::audit::rule::{ABIS, Effect, Rule};
use tally_sys::audit::{Control, Listener, Mode, RECORD_BYTES_MAX, Received, record};
use tally_sys::poll::{self, Interest, Waiter};

const PATIENCE: Duration = Duration::from_secs(30);

/// Auditing, turned on for a test, with rules that go with it.
struct Audited {
    control: Control,
    was_off: bool,
    rules: Vec<Rule>,
}

impl Audited {
    fn new(rules: Vec<Rule>) -> Option<Self> {
        let control = Control::open().unwrap();
        let status = match control.status() {
            Ok(status) => status,
            Err(error) => {
                eprintln!("skipped: audit is not ours to ask here: {error}");
                return None;
            }
        };
        if status.mode == Mode::Locked {
            eprintln!("skipped: the audit rules are locked until the next boot");
            return None;
        }
        if status.mode == Mode::Off {
            control.set_on(true).unwrap();
        }
        // Made before the rules are, so that a failure leaves nothing behind.
        let audited = Self { control, was_off: status.mode == Mode::Off, rules };
        audited.rules.iter().try_for_each(|rule| audited.control.add(rule)).unwrap();
        Some(audited)
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        for rule in std::mem::take(&mut self.rules) {
            drop(self.control.delete(&rule));
        }
        if self.was_off {
            self.control.set_on(false).unwrap();
        }
    }
}

/// Reads until an exec satisfies `enough`.
fn read_until(listener: &Listener, what: &str, mut enough: impl FnMut(&Exec) -> bool) {
    let (mut assembler, mut buffer) = (Assembler::default(), [0; RECORD_BYTES_MAX]);
    let deadline = Instant::now() + PATIENCE;
    use std::os::fd::AsFd;
    loop {
        assert!(Instant::now() < deadline, "{what}");
        match listener.receive(&mut buffer).unwrap() {
            Received::Record { kind, text } => {
                let Ok(record) = record::parse(kind, text) else { panic!("{kind} {text:?}") };
                if assembler.take(&record).is_some_and(|exec| enough(&exec)) {
                    return;
                }
            }
            Received::Overrun => panic!("records were lost"),
            Received::Nothing => {
                let mut waiters = [Waiter::new(listener.as_fd(), Interest::Read)];
                poll::wait(&mut waiters, Some(Duration::from_millis(100))).unwrap();
            }
        }
    }
}

#[test]
fn an_own_rule_comes_and_goes_and_leaves_the_others() {
    let key = format!("tallystick-test-{}", std::process::id());
    let Some(audited) = Audited::new(vec![Rule::starts(ABIS[0], "somebody-else")]) else { return };
    let before = audited.control.rules().unwrap();
    let own = Rule::starts(ABIS[0], &key);
    audited.control.add(&own).unwrap();
    assert_eq!(audited.control.add(&own).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    let with = audited.control.rules().unwrap();
    let found: Vec<&Rule> = with.iter().filter(|r| r.key() == Some(key.as_bytes())).collect();
    assert_eq!(found, [&own], "the kernel gives a rule back as it was made");
    assert_eq!(found[0].effect(ABIS[0]), Effect::Tells);
    audited.control.delete(found[0]).unwrap();
    assert_eq!(audited.control.delete(&own).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert_eq!(audited.control.rules().unwrap(), before);
}

#[test]
fn starts_of_programs_are_told_with_who_and_what() {
    let key = format!("tallystick-test-{}", std::process::id());
    let Some(_audited) = Audited::new(ABIS.map(|abi| Rule::starts(abi, &key)).to_vec()) else { return };
    let listener = Listener::join(4 << 20).unwrap();
    let mut child = Command::new("/bin/sh").args(["-c", "exit 0", "a \"b\""]).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    read_until(&listener, "the shell's start is told", |exec| {
        if exec.pid != pid {
            return false;
        }
        assert_eq!(exec.ppid, Some(std::process::id()));
        assert_eq!(exec.uid, tally_sys::process::read(std::process::id()).unwrap().uid);
        assert_eq!(exec.cmdline.as_deref(), Some(&b"/bin/sh -c exit 0 a \"b\""[..]));
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        assert_eq!(exec.exe.as_deref(), Some(shell.as_os_str().as_encoded_bytes()));
        true
    });
}

#[test]
fn a_start_that_fails_is_told_by_a_rule_for_that() {
    let key = format!("tallystick-test-{}", std::process::id());
    let rule = Rule::starts_by_children_of(ABIS[0], std::process::id(), &key);
    let Some(_audited) = Audited::new(vec![rule]) else { return };
    let listener = Listener::join(4 << 20).unwrap();
    Command::new("/nonexistent/program").spawn().unwrap_err();
    read_until(&listener, "the failed start is told", |exec| {
        exec.key.as_deref() == Some(key.as_bytes()) && exec.cmdline.is_none() && exec.ppid == Some(std::process::id())
    });
}
