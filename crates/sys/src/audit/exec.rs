//! From audit records to starts of programs: the records of one event come one by one, and mixed with those of others.
//! Pure.
//!
//! A successful execve makes SYSCALL (who), EXECVE (the arguments, in as many records as they need), CWD, PATH and
//! PROCTITLE, and ends with EOE. PROCTITLE is not used: the kernel keeps what it said at an earlier exec (measured).

use std::collections::VecDeque;

use tally_types::Actor;

use super::record::{Record, Stamp, Value, kind};

/// Events whose end has not come; the oldest is then taken as it is. The kernel writes the records of one event together.
const OPEN_MAX: usize = 64;

/// A program was started, or its start was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// Of the wall clock, in milliseconds since 1970, to its tick.
    pub millis: u64,
    pub pid: u32,
    pub ppid: Option<u32>,
    /// The effective user, after the program's set-user-ID bit.
    pub uid: Option<u32>,
    /// The user that logged in; `None` also if nobody did.
    pub login_uid: Option<u32>,
    /// The audit session; `None` also if there is none.
    pub session: Option<u32>,
    /// Such as `pts/0`.
    pub tty: Option<String>,
    /// The program's path in its own mount namespace.
    pub exe: Option<Vec<u8>>,
    /// The arguments joined by spaces, cut at `Actor::CMDLINE_BYTES_MAX`; `None` of a failed start.
    pub cmdline: Option<Vec<u8>>,
    /// The key of the rule by which it is told: not always ours, if another's comes first.
    pub key: Option<Vec<u8>>,
}

/// Records waiting for the end of their event.
#[derive(Debug, Default)]
pub struct Assembler {
    open: VecDeque<(Stamp, Partial)>,
}

#[derive(Debug, Default)]
struct Partial {
    exec: Exec,
    succeeded: bool,
    cmdline: Option<Vec<u8>>,
}

impl Assembler {
    /// Takes the next record; answers the exec that it completes.
    pub fn take(&mut self, record: &Record<'_>) -> Option<Exec> {
        match record.kind {
            kind::SYSCALL => {
                let overdue = if self.open.len() >= OPEN_MAX { self.open.pop_front() } else { None };
                self.open.push_back((record.stamp, Partial::of_syscall(record)));
                overdue.and_then(|(_, partial)| partial.complete())
            }
            kind::EXECVE => {
                let (_, partial) = self.open.iter_mut().rev().find(|(stamp, _)| *stamp == record.stamp)?;
                partial.add_arguments(record);
                None
            }
            kind::END => {
                let at = self.open.iter().rposition(|(stamp, _)| *stamp == record.stamp)?;
                self.open.remove(at)?.1.complete()
            }
            _ => None,
        }
    }
}

impl Partial {
    fn of_syscall(record: &Record<'_>) -> Self {
        let mut partial = Self { exec: Exec { millis: record.stamp.millis, ..Exec::default() }, ..Self::default() };
        let exec = &mut partial.exec;
        for (name, value) in record.fields() {
            match name {
                b"success" => partial.succeeded = value == Value::Bare(b"yes"),
                b"pid" => exec.pid = value.number().unwrap_or(0),
                b"ppid" => exec.ppid = value.number(),
                b"euid" => exec.uid = value.number(),
                b"auid" => exec.login_uid = value.set_number(),
                b"ses" => exec.session = value.set_number(),
                b"tty" => exec.tty = value.word().map(terminal),
                b"exe" => exec.exe = value.text().map(std::borrow::Cow::into_owned),
                b"key" => exec.key = value.text().map(std::borrow::Cow::into_owned),
                _ => {}
            }
        }
        partial
    }

    /// `a0="sh" a1=2D63`, or of a long one `a1_len=9000 a1[0]=78.. a1[1]=78..`, which the next record goes on with.
    fn add_arguments(&mut self, record: &Record<'_>) {
        let cmdline = self.cmdline.get_or_insert_default();
        for (name, value) in record.fields() {
            let Some(argument) = name.strip_prefix(b"a") else { continue };
            let digits = argument.iter().take_while(|b| b.is_ascii_digit()).count();
            let continues = match &argument[digits..] {
                b"" | b"[0]" => false,
                [b'[', ..] => true,
                _ => continue,
            };
            if digits == 0 || cmdline.len() >= Actor::CMDLINE_BYTES_MAX {
                continue;
            }
            if !continues && argument[..digits] != *b"0" {
                cmdline.push(b' ');
            }
            let text = value.text().unwrap_or_default();
            let room = Actor::CMDLINE_BYTES_MAX.saturating_sub(cmdline.len());
            cmdline.extend_from_slice(&text[..text.len().min(room)]);
        }
    }

    /// A start of a program has arguments, unless it failed; without them it is some other call of another's rule.
    fn complete(self) -> Option<Exec> {
        let is_exec = self.cmdline.is_some() || !self.succeeded;
        (is_exec && self.exec.pid != 0).then_some(Exec { cmdline: self.cmdline, ..self.exec })
    }
}

/// The kernel's `pts0` is the terminal `pts/0`; others are named as they are.
fn terminal(name: &str) -> String {
    name.strip_prefix("pts").filter(|n| !n.starts_with('/')).map_or_else(|| name.to_owned(), |n| format!("pts/{n}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::parse;
    use super::*;

    /// Lines `TYPE TEXT`, as a listener receives them.
    fn assemble(lines: &str) -> Vec<Exec> {
        let mut assembler = Assembler::default();
        let record = |line: &str| {
            let (kind, text) = line.trim().split_once(' ').unwrap();
            assembler.take(&parse(kind.parse().unwrap(), text.as_bytes()).unwrap())
        };
        lines.lines().filter(|line| !line.trim().is_empty()).filter_map(record).collect()
    }

    const SHELL: &str = r#"
1300 audit(1795519172.650:6): arch=c000003e syscall=59 success=yes exit=0 a0=564d6f435790 a1=564d6f451290 a2=564d6f432b70 a3=38 items=2 ppid=12037 pid=12089 auid=1000 uid=1000 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts3 ses=7 comm="sh" exe="/usr/bin/dash" subj=unconfined key="tallystick-1-2"
1321 audit(1795519172.650:6): fver=0 fp=0 fi=0 fe=0 old_pp=000001fffeffffff old_pi=0 frootid=0
1309 audit(1795519172.650:6): argc=3 a0="sh" a1="-c" a2=6563686F2078203E202F746D702F61752F66
1307 audit(1795519172.650:6): cwd="/tmp/au"
1302 audit(1795519172.650:6): item=0 name="/usr/bin/sh" inode=247076 dev=fe:00 mode=0100755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL
1327 audit(1795519172.650:6): proctitle=7368002D63006563686F2078203E202F746D702F61752F66
1320 audit(1795519172.650:6): "#;

    #[test]
    fn a_start_of_a_program_is_told_whole() {
        let exec = Exec {
            millis: 1_795_519_172_650,
            pid: 12089,
            ppid: Some(12037),
            uid: Some(0),
            login_uid: Some(1000),
            session: Some(7),
            tty: Some("pts/3".to_owned()),
            exe: Some(b"/usr/bin/dash".to_vec()),
            cmdline: Some(b"sh -c echo x > /tmp/au/f".to_vec()),
            key: Some(b"tallystick-1-2".to_vec()),
        };
        assert_eq!(assemble(SHELL), [exec]);
    }

    #[test]
    fn interleaved_events_are_told_apart() {
        let other = SHELL.replace(":6)", ":7)").replace("pid=12089", "pid=12090").replace("\"-c\"", "\"-x\"");
        let mixed: String = SHELL.lines().zip(other.lines()).flat_map(|(a, b)| [a, "\n", b, "\n"]).collect();
        let execs = assemble(&mixed);
        assert_eq!(execs.iter().map(|e| e.pid).collect::<Vec<_>>(), [12089, 12090]);
        assert_eq!(execs[1].cmdline.as_deref(), Some(&b"sh -x echo x > /tmp/au/f"[..]));
    }

    #[test]
    fn long_arguments_go_on_in_further_records_and_are_cut() {
        let lines = format!(
            "1300 audit(1.0:9): success=yes ppid=1 pid=2 auid=4294967295 euid=5 tty=(none) ses=4294967295 exe=2F6120 key=(null)\n\
             1309 audit(1.0:9): argc=4 a0=\"true\" a1_len=2000 a1[0]={}\n\
             1309 audit(1.0:9):  a1[1]={}\n1309 audit(1.0:9): a2=\"last\"\n1320 audit(1.0:9): ",
            "78".repeat(500),
            "79".repeat(500)
        );
        let execs = assemble(&lines);
        let cmdline = execs[0].cmdline.as_deref().unwrap();
        let whole = format!("true {}{} last", "x".repeat(500), "y".repeat(500));
        assert_eq!(cmdline, &whole.as_bytes()[..whole.len().min(Actor::CMDLINE_BYTES_MAX)]);
        assert_eq!((execs[0].login_uid, execs[0].session, execs[0].uid), (None, None, Some(5)));
        assert_eq!((execs[0].tty.as_deref(), execs[0].exe.as_deref()), (None, Some(&b"/a "[..])));
        assert_eq!(execs[0].key, None);
    }

    #[test]
    fn another_call_is_none_and_a_failed_start_has_no_arguments() {
        let call = "1300 audit(1.0:1): syscall=44 success=yes ppid=1 pid=2 exe=\"/x\" key=(null)\n1320 audit(1.0:1): ";
        assert_eq!(assemble(call), []);
        let failed = call.replace("success=yes", "success=no exit=-2");
        assert_eq!(assemble(&failed)[0].cmdline, None);
        // An end without a beginning, arguments of nobody, a type of the future.
        assert_eq!(assemble("1320 audit(1.0:5): \n1309 audit(1.0:6): a0=\"x\"\n4711 audit(1.0:6): x=1"), []);
    }

    #[test]
    fn events_without_an_end_are_bounded_and_still_told() {
        let lines: String =
            (0..200).map(|n| SHELL.replace("1320 ", "1300 ").replace(":6)", &format!(":{n})"))).collect();
        let told = assemble(&lines).len();
        assert!(told > 0 && told < 400, "{told}");
    }

    proptest! {
        #[test]
        fn damaged_records_end_without_a_panic(at in 0usize..1200, byte in any::<u8>(), cut in 0usize..40) {
            let mut text = SHELL.as_bytes().to_vec();
            if let Some(place) = text.get_mut(at) { *place = byte; }
            let mut assembler = Assembler::default();
            for line in text.split(|b| *b == b'\n').filter(|l| l.len() > 5) {
                let line = &line[..line.len() - cut.min(line.len() - 5)];
                let kind = std::str::from_utf8(&line[..4]).ok().and_then(|k| k.parse().ok()).unwrap_or(0);
                if let Ok(record) = parse(kind, &line[5..]) {
                    let exec = assembler.take(&record);
                    prop_assert!(exec.and_then(|e| e.cmdline).is_none_or(|c| c.len() <= Actor::CMDLINE_BYTES_MAX));
                }
            }
        }
    }
}
