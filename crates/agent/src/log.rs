//! Append-only logs as the agent looks at them: how much is read again at each look, and what the file itself tells of
//! writes that were no appends.
//!
//! The kernel does not say where in a file was written. So each look reads the end of what was sealed and, turn by turn, a
//! window of what lies before; any sign of another kind of write makes it read everything.

use std::io::{self, Read, Seek};
use std::sync::Arc;

use tally_sys::stat::Stat;
use tally_syscheck::Mode;
use tally_syscheck::append_log::{self, Depth, Seal, Verdict};
use tally_syscheck::journal::{Journal, Mark, is_journal};
use tally_types::{FileTime, PathBytes};

use crate::scan::Hint;

pub mod family;
pub mod journal;
pub mod logrotate;
pub mod lz4;
pub mod unpack;

/// So much of the old content is read again at each look: half a millisecond by the rate of BLAKE3. A log up to this size is always verified as
/// a whole, one of 100 MiB within 100 looks.
const WINDOW_BYTES: u64 = 1 << 20;
/// Times that are later than the last change by more than this were set so. Clock ticks are 1 to 10 ms.
const CLOCK_TICK_S: i64 = 1;

/// How the bytes of a log are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of them, as they are.
    Plain,
    /// Those that journald writes once. At the mark the next look can begin.
    Journal(Mark),
}

impl Form {
    /// Of what is watched in this mode at `path`; `None` of what is not sealed.
    pub fn of(mode: Mode, path: &PathBytes) -> Option<Self> {
        match mode {
            Mode::Log => Some(Self::Plain),
            Mode::Journal if is_journal(path.file_name()) => Some(Self::Journal(Mark::default())),
            Mode::Journal | Mode::Static | Mode::Directory => None,
        }
    }

    pub const fn is_journal(self) -> bool {
        matches!(self, Self::Journal(_))
    }
}

/// What the agent keeps of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub seal: Seal,
    pub form: Form,
    /// The sealed chunk that is the next to be read again.
    pub next_chunk: usize,
    /// Units of 512 bytes that the file had when it was sealed: if they become less, a hole was made.
    pub blocks: u64,
    /// False of a log that the first snapshot found too large to be read at once. Until it is sealed nothing is known of it
    /// but its size, which is in its hint.
    pub is_sealed: bool,
}

impl LogRecord {
    pub fn unsealed(form: Form) -> Self {
        Self { seal: Seal::empty(), form, next_chunk: 0, blocks: 0, is_sealed: false }
    }

    /// How many bytes are known to have been written.
    pub fn size(&self, hint: Option<&Hint>) -> u64 {
        if self.is_sealed { self.seal.size() } else { hint.map_or(0, |hint| hint.size) }
    }

    /// What is missing in a file of which nothing but the size is known, if it has fewer bytes now.
    pub fn cut(&self, known: u64, stat: &Stat) -> Option<Verdict> {
        let is_cut = !self.is_sealed && !self.form.is_journal() && stat.size < known;
        is_cut.then_some(Verdict::Truncated(stat.size..known))
    }
}

/// What is known of a log beforehand.
#[derive(Clone, Copy, Debug)]
pub struct LogLook<'r> {
    pub form: Form,
    pub record: Option<&'r LogRecord>,
    /// The file at the last look.
    pub hint: Option<Hint>,
    /// Read everything that was sealed again.
    pub full: bool,
}

impl LogLook<'_> {
    /// How much a look at the file reads, as far as that is known before.
    pub fn bytes(&self, stat: &Stat) -> u64 {
        let Some(old) = self.record.filter(|old| old.form.is_journal() == self.form.is_journal()) else {
            return stat.size;
        };
        match self.form {
            Form::Plain if self.full || shows_other_writes(old, self.hint.as_ref(), stat) => stat.size,
            Form::Plain => stat.size.saturating_sub(old.seal.size()) + WINDOW_BYTES,
            // What lies before the mark is read only where something was altered.
            Form::Journal(_) if self.full => stat.size,
            Form::Journal(_) => stat.size.saturating_sub(old.seal.size()),
        }
    }
}

/// What became of a log, and what is to be kept of it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSeen {
    pub verdict: Verdict,
    pub record: LogRecord,
    /// The path holds another file than at the last look.
    pub replaced: bool,
    /// The file's time was set by hand, in words.
    pub time_set: Option<Arc<str>>,
    /// It was known before, and is sealed for the first time.
    pub first: bool,
}

/// Looks at the log that is open as `file` and was `stat` before this call.
pub fn look(file: &mut (impl Read + Seek), stat: &Stat, look: LogLook<'_>) -> io::Result<LogSeen> {
    let replaced = look.hint.is_some_and(|hint| (hint.dev, hint.ino) != (stat.dev, stat.ino));
    // What was sealed in another form, as a policy before this one had it, is not what is read now.
    let Some(old) = look.record.filter(|old| old.form.is_journal() == look.form.is_journal()) else {
        let (record, _) = seal(file, stat, look.form)?;
        return Ok(LogSeen { verdict: Verdict::Unchanged, record, replaced, time_set: None, first: false });
    };
    let other_writes = match look.form {
        Form::Plain => shows_other_writes(old, look.hint.as_ref(), stat),
        Form::Journal(_) => replaced || look.hint.is_none_or(|hint| stat.mtime < hint.mtime),
    };
    let (verdict, record) = match old.form {
        Form::Journal(mark) => compare_journal(file, stat, old, (!look.full && !other_writes).then_some(mark))?,
        Form::Plain => {
            let depth = if look.full || other_writes { Depth::Full } else { window(old) };
            let (verdict, seal) = append_log::check(file, stat.size, &old.seal, depth)?;
            let next_chunk = next_chunk(old, depth);
            (verdict, LogRecord { next_chunk, seal, form: old.form, blocks: stat.blocks, is_sealed: true })
        }
    };
    let time_set = look.hint.filter(|_| !replaced).and_then(|hint| time_set(&hint, stat));
    let verdict = old.cut(old.size(look.hint.as_ref()), stat).unwrap_or(verdict);
    Ok(LogSeen { verdict, record, replaced, time_set, first: !old.is_sealed })
}

/// Seals all of a file; with the reason why a journal could not be read to its end.
pub fn seal(file: &mut (impl Read + Seek), stat: &Stat, form: Form) -> io::Result<(LogRecord, Option<String>)> {
    let (seal, form, fault) = match form {
        Form::Plain => (Seal::of(file, stat.size)?, form, None),
        Form::Journal(_) => {
            let mut journal = Journal::open(&mut *file, Mark::default())?;
            let size = journal.size();
            let seal = Seal::of(&mut journal, size)?;
            let form = Form::Journal(journal.mark(&seal.state));
            (seal, form, journal.fault().map(ToString::to_string))
        }
    };
    Ok((LogRecord { seal, form, next_chunk: 0, blocks: stat.blocks, is_sealed: true }, fault))
}

/// Compares all of a file with what was sealed of another one, or of itself.
pub fn compare(file: &mut (impl Read + Seek), stat: &Stat, old: &LogRecord) -> io::Result<(Verdict, LogRecord)> {
    match old.form {
        Form::Journal(_) => compare_journal(file, stat, old, None),
        Form::Plain => {
            let (verdict, seal) = append_log::check(file, stat.size, &old.seal, Depth::Full)?;
            Ok((verdict, LogRecord { seal, form: old.form, next_chunk: 0, blocks: stat.blocks, is_sealed: true }))
        }
    }
}

/// From the mark on, or all of it.
fn compare_journal(
    file: &mut (impl Read + Seek),
    stat: &Stat,
    old: &LogRecord,
    mark: Option<Mark>,
) -> io::Result<(Verdict, LogRecord)> {
    let depth = if mark.is_some() { Depth::TAIL } else { Depth::Full };
    let mut journal = Journal::open(file, mark.unwrap_or_default())?;
    let size = journal.size();
    let (mut verdict, mut seal) = append_log::check(&mut journal, size, &old.seal, depth)?;
    if verdict == Verdict::Unchanged && depth != Depth::Full {
        // Something was written, but no entry.
        (verdict, seal) = append_log::check(&mut journal, size, &old.seal, Depth::Full)?;
    }
    let form = Form::Journal(journal.mark(&seal.state));
    Ok((verdict, LogRecord { seal, form, next_chunk: 0, blocks: stat.blocks, is_sealed: true }))
}

/// Whether something was done to the file that an append does not do.
fn shows_other_writes(old: &LogRecord, hint: Option<&Hint>, stat: &Stat) -> bool {
    let Some(hint) = hint else { return true };
    let touched = stat.size == old.seal.size() && (stat.ctime != hint.ctime || hint.racy);
    let holed = stat.size >= old.seal.size() && stat.blocks < old.blocks;
    touched || holed || stat.mtime < hint.mtime || (hint.dev, hint.ino) != (stat.dev, stat.ino)
}

fn window(old: &LogRecord) -> Depth {
    let chunks = (WINDOW_BYTES / old.seal.state.chunk_bytes()).max(1);
    Depth::Window { from: old.next_chunk, chunks: usize::try_from(chunks).unwrap_or(1) }
}

fn next_chunk(old: &LogRecord, depth: Depth) -> usize {
    match depth {
        Depth::Window { from, chunks } if from + chunks < old.seal.state.leaves().len() => from + chunks,
        _ => 0,
    }
}

/// Whether the time of last modification was set, which writing does not do: back behind what it was, or before the
/// change that set it. A clock that was itself set back moves both times.
pub fn time_set(hint: &Hint, stat: &Stat) -> Option<Arc<str>> {
    if stat.mtime == hint.mtime {
        return None;
    }
    let seconds = hint.mtime.secs - stat.mtime.secs;
    if seconds > CLOCK_TICK_S && stat.ctime >= hint.ctime {
        return Some(format!("the time of its last modification was set back by {seconds} s").into());
    }
    let later = FileTime { secs: stat.ctime.secs + CLOCK_TICK_S, nanos: stat.ctime.nanos };
    (stat.mtime > later).then(|| {
        let seconds = stat.mtime.secs - stat.ctime.secs;
        format!("the time of its last modification was set {seconds} s into the future").into()
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{SeekFrom, Write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::process::Command as Program;

    use tally_types::PathBytes;

    use super::*;
    use crate::scan::{self, Base, Want};

    /// A log of 4 MiB, sealed when it was written; each look at it is as the engine's.
    struct Log {
        dir: tempfile::TempDir,
        base: Base,
        record: Option<LogRecord>,
        hint: Option<Hint>,
    }

    const SIZE: usize = 4 << 20;

    impl Log {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("log"), "0123456789abcdef".repeat(SIZE / 16)).unwrap();
            let mut log = Self { dir, base: Base::host().unwrap(), record: None, hint: None };
            log.look();
            // As if the last change had been long ago.
            log.hint.as_mut().unwrap().racy = false;
            log
        }

        fn file(&self) -> File {
            File::options().read(true).write(true).open(self.dir.path().join("log")).unwrap()
        }

        fn append(&self, text: &str) {
            let mut file = self.file();
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn run(&self, line: &str) {
            let done = Program::new("sh").args(["-ec", line]).current_dir(&self.dir).status().unwrap();
            assert!(done.success(), "{line}");
        }

        fn look(&mut self) -> LogSeen {
            let mut file = self.file();
            let stat = tally_sys::stat::of(file.as_fd()).unwrap();
            let ask = LogLook { form: Form::Plain, record: self.record.as_ref(), hint: self.hint, full: false };
            let seen = look(&mut file, &stat, ask).unwrap();
            let path = PathBytes::new(self.dir.path().join("log").as_os_str().as_encoded_bytes()).unwrap();
            let want = Want { digests: Default::default(), ..Want::ALL };
            self.hint = scan::observe(&self.base, &path, &want).unwrap().map(|(_, hint)| Hint { racy: false, ..hint });
            self.record = Some(seen.record.clone());
            seen
        }
    }

    #[test]
    fn growth_is_an_append_and_nothing_else() {
        let mut log = Log::new();
        assert_eq!(log.look().verdict, Verdict::Unchanged);
        log.append("more");
        let seen = log.look();
        let size = SIZE as u64;
        assert_eq!((seen.verdict, seen.replaced, seen.time_set), (Verdict::Appended(size..size + 4), false, None));
        log.run("chmod 600 log");
        assert_eq!((log.look().verdict, log.look().time_set), (Verdict::Unchanged, None));
    }

    #[test]
    fn an_old_byte_that_is_written_in_place_is_found_at_once() {
        let mut log = Log::new();
        log.file().write_at(b"X", 1_000_000).unwrap();
        assert_eq!(log.look().verdict, Verdict::Rewritten(15 << 16..16 << 16));
    }

    #[test]
    fn an_old_byte_that_is_written_with_an_append_is_found_within_the_windows() {
        let mut log = Log::new();
        log.file().write_at(b"X", 3_500_000).unwrap();
        log.append("and an append that hides it");
        let looks = (1..).find(|_| {
            let altered = !log.look().verdict.is_intact();
            log.append("x");
            altered
        });
        assert_eq!(looks, Some(4));
    }

    #[test]
    fn a_hole_and_a_time_that_was_set_are_signs_even_with_an_append() {
        let mut log = Log::new();
        log.run("fallocate --punch-hole --offset 3145728 --length 65536 log");
        log.append("and an append that hides it");
        assert_eq!(log.look().verdict, Verdict::Rewritten(48 << 16..49 << 16));
        for (line, words) in
            [("touch -d '1 hour ago' log", "set back by"), ("touch -d '+2 hours' log", "into the future")]
        {
            let mut log = Log::new();
            log.append("x");
            log.run(line);
            let seen = log.look();
            assert!(seen.verdict.is_intact() && seen.time_set.unwrap().contains(words));
            assert_eq!(log.look().time_set, None);
        }
        log.run("touch log");
        assert_eq!(log.look().time_set, None);
    }

    #[test]
    fn what_is_put_in_its_place_is_read_as_a_whole() {
        let mut log = Log::new();
        log.run("cp log other; printf X | dd of=other bs=1 seek=2000000 conv=notrunc status=none; mv other log");
        let seen = log.look();
        assert_eq!((seen.verdict, seen.replaced), (Verdict::Rewritten(30 << 16..31 << 16), true));
    }
}
