//! One log and what it is rotated to, read in order.
//!
//! The files that are still to be read stand in a queue; the last of them is the log itself. What a mark says is always a place
//! in the first of them, behind the last complete message: after any end, reading begins there again.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tally_syscheck::collect::{Clockwork, Format, Framer, Message};

use super::mark::{FileMark, Mark};
use super::part::{Part, Rotated};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// A line longer than this is told in pieces.
const LINE_BYTES_MAX: usize = 1 << 20;
/// When nothing more came for so long, a message of several lines is complete.
const MESSAGE_QUIET: Duration = Duration::from_secs(2);
/// And so is a line without an end.
const LINE_QUIET: Duration = Duration::from_secs(60);
/// A file that was renamed is still written to for a while by who has it open; the new one waits so long for that, once it has
/// something.
const RENAMED_QUIET: Duration = Duration::from_secs(1);
/// After that it is still looked at, as late as this.
const LINGER: Duration = Duration::from_secs(600);

pub struct Follower {
    pub path: PathBuf,
    queue: VecDeque<Part>,
    lines: Lines,
    /// A renamed file that somebody may still write to, with its own lines.
    lingering: Option<Lingering>,
    framer: Framer,
    /// When the first of the queue last had something.
    quiet_since: Instant,
    gone_since: Option<Instant>,
    /// What was not found or could not be read, in words, until it is told.
    pub losses: Vec<String>,
}

struct Lingering {
    part: Part,
    lines: Lines,
    framer: Framer,
    since: Instant,
}

/// Bytes on their way to lines.
#[derive(Default)]
struct Lines {
    /// The start of a line whose end was not read yet.
    partial: Vec<u8>,
    /// Where the first line of the message stands that is not complete.
    message_from: Option<u64>,
}

impl Lines {
    /// Reads what a part has, up to `budget` bytes. How many bytes came.
    fn read(
        &mut self,
        part: &mut Part,
        framer: &mut Framer,
        with: &Clockwork,
        budget: usize,
        out: &mut Vec<Message>,
    ) -> io::Result<usize> {
        let mut buffer = vec![0; READ_BYTES];
        let mut taken = 0;
        while taken < budget {
            let got = part.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            taken += got;
            let mut from = part.at - got as u64 - self.partial.len() as u64;
            self.partial.extend(&buffer[..got]);
            let mut rest = &self.partial[..];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let was_pending = framer.is_pending();
                let told = out.len();
                framer.line(&rest[..end], with, out);
                // A message that this line began has its place here.
                if framer.is_pending() && (!was_pending || out.len() > told) {
                    self.message_from = Some(from);
                } else if !framer.is_pending() {
                    self.message_from = None;
                }
                from += end as u64 + 1;
                rest = &rest[end + 1..];
            }
            let kept = rest.len();
            self.partial.drain(..self.partial.len() - kept);
            if self.partial.len() > LINE_BYTES_MAX {
                let piece = std::mem::take(&mut self.partial);
                framer.line(&piece, with, out);
            }
        }
        Ok(taken)
    }

    /// The line without an end is one, and the message is complete.
    fn finish(&mut self, framer: &mut Framer, with: &Clockwork, out: &mut Vec<Message>) {
        let line = std::mem::take(&mut self.partial);
        if !line.is_empty() {
            framer.line(&line, with, out);
        }
        framer.idle(out);
        self.message_from = None;
    }

    /// Up to where everything became messages.
    fn settled(&self, part: &Part) -> FileMark {
        part.mark(self.message_from.unwrap_or(part.at - self.partial.len() as u64))
    }
}

impl Follower {
    /// Begins with a log: where `mark` says, or at its start or end where there is none.
    pub fn begin(path: &Path, format: Format, mark: Option<&FileMark>, at_end: bool) -> io::Result<Self> {
        let mut follower = Self {
            path: path.to_owned(),
            queue: VecDeque::new(),
            lines: Lines::default(),
            lingering: None,
            framer: Framer::new(format),
            quiet_since: Instant::now(),
            gone_since: None,
            losses: Vec::new(),
        };
        match mark {
            Some(mark) => follower.resume(mark)?,
            None => {
                let live = Part::open(path)?;
                let live = live.map(|part| if at_end { part.at_end() } else { Ok(part) }).transpose()?;
                follower.queue.extend(live);
            }
        }
        Ok(follower)
    }

    /// Finds the place of `mark` again, in the log or in what it was rotated to.
    fn resume(&mut self, mark: &FileMark) -> io::Result<()> {
        self.queue.clear();
        let is_same = |part: &Part| part.id == (mark.dev, mark.ino);
        let live = Part::open(&self.path)?.map(|live| live.resumed(mark)).transpose()?.flatten();
        let live = match live.filter(|live| mark.head.bytes > 0 || is_same(live)) {
            Some(live) if is_same(&live) => {
                self.queue.push_back(live);
                return Ok(());
            }
            live => live,
        };
        let rotated = Rotated::of(&self.path)?;
        let found = rotated.after(mark);
        // Logs may begin alike. The file itself, under another name, is a better find than another one that begins as it did.
        let is_found = found.as_ref().is_some_and(|found| live.is_none() || found.parts.first().is_some_and(is_same));
        match (found, live) {
            (Some(found), _) if is_found => {
                if found.skipped > 0 {
                    self.losses.push(format!("passed over {} rotated files that cannot be read", found.skipped));
                }
                self.queue.extend(found.parts);
            }
            // By its head alone: a log that was restored from a copy, or lies on another disk now, goes on as well.
            (_, Some(live)) => {
                self.queue.push_back(live);
                return Ok(());
            }
            _ if mark.offset > 0 => self.losses.push(format!(
                "does not find where it ended: behind the {} bytes of a file that is not there any more; lines may be missing",
                mark.offset
            )),
            _ => {}
        }
        self.queue.extend(Part::open(&self.path)?);
        Ok(())
    }

    /// What is new since the last look, up to about `budget` bytes, as messages. Whether there is more.
    pub fn look(&mut self, with: &Clockwork, budget: usize, out: &mut Vec<Message>) -> io::Result<bool> {
        self.find_log()?;
        let Some(part) = self.queue.front_mut() else { return Ok(false) };
        let taken = match self.lines.read(part, &mut self.framer, with, budget, out) {
            Ok(taken) => taken,
            // What cannot be unpacked now never can.
            Err(error) if !part.can_grow() => {
                let at = part.at;
                self.losses.push(format!("cannot read a rotated file beyond its first {at} bytes: {error}"));
                self.next(with, out);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        if taken > 0 {
            self.quiet_since = Instant::now();
        }
        let is_more = taken >= budget;
        if taken == 0 && self.queue.len() > 1 && self.is_over()? {
            self.next(with, out);
            return Ok(true);
        }
        let quiet = self.quiet_since.elapsed();
        if self.framer.is_pending() && quiet >= MESSAGE_QUIET {
            self.framer.idle(out);
            self.lines.message_from = None;
        }
        if !self.lines.partial.is_empty() && quiet >= LINE_QUIET {
            self.lines.finish(&mut self.framer, with, out);
        }
        self.linger(with, budget, out)?;
        Ok(is_more)
    }

    /// Whether the log is another file now, or was begun anew.
    fn find_log(&mut self) -> io::Result<()> {
        let Some(last) = self.queue.back() else {
            self.queue.extend(Part::open(&self.path)?);
            return Ok(());
        };
        let live = match Part::open(&self.path) {
            Ok(live) => live,
            // It cannot be opened now; the next look asks again.
            Err(_) => return Ok(()),
        };
        let Some(live) = live else {
            self.gone_since.get_or_insert_with(Instant::now);
            return Ok(());
        };
        self.gone_since = None;
        if live.id != last.id {
            self.queue.push_back(live);
        } else if !last.is_continued()? {
            if self.queue.len() == 1 {
                let mark = self.lines.settled(&self.queue[0]);
                self.lines = Lines::default();
                self.framer = Framer::new(self.framer.format().clone());
                self.resume(&mark)?;
            } else {
                self.queue.pop_back();
                self.queue.push_back(live);
            }
        }
        Ok(())
    }

    /// Whether the first of the queue has no more to say, for now: the next one has something, and it was given time.
    fn is_over(&self) -> io::Result<bool> {
        let next_has = match self.queue.get(1) {
            Some(next) => next.size()?.is_none_or(|size| size > 0),
            None => false,
        };
        let is_growing = self.queue.front().is_some_and(|part| part.can_grow()) && self.queue.len() == 2;
        Ok(next_has && (!is_growing || self.quiet_since.elapsed() >= RENAMED_QUIET))
    }

    /// Goes on with the next file.
    fn next(&mut self, with: &Clockwork, out: &mut Vec<Message>) {
        let Some(part) = self.queue.pop_front() else { return };
        self.lines.finish(&mut self.framer, with, out);
        if part.can_grow() {
            let framer = Framer::new(self.framer.format().clone());
            self.lingering = Some(Lingering { part, lines: Lines::default(), framer, since: Instant::now() });
        }
        self.quiet_since = Instant::now();
    }

    fn linger(&mut self, with: &Clockwork, budget: usize, out: &mut Vec<Message>) -> io::Result<()> {
        let Some(Lingering { part, lines, framer, since }) = &mut self.lingering else { return Ok(()) };
        if lines.read(part, framer, with, budget, out)? > 0 {
            *since = Instant::now();
        } else if since.elapsed() > MESSAGE_QUIET {
            framer.idle(out);
        }
        if since.elapsed() > LINGER {
            self.lingering = None;
        }
        Ok(())
    }

    /// Up to where everything became messages. `None` before there is a file.
    pub fn mark(&self) -> Option<Mark> {
        self.queue.front().map(|part| Mark::File(self.lines.settled(part)))
    }

    /// Of a renamed file that may still grow.
    pub fn lingering_mark(&self) -> Option<Mark> {
        self.lingering.as_ref().map(|old| Mark::File(old.lines.settled(&old.part)))
    }

    /// Takes up a renamed file again that was still looked at when the agent ended.
    pub fn resume_lingering(&mut self, mark: &FileMark) -> io::Result<()> {
        let found = Rotated::of(&self.path)?.after(mark).and_then(|found| found.parts.into_iter().next());
        if let Some(part) = found.filter(|part| !self.queue.iter().any(|other| other.id == part.id)) {
            let framer = Framer::new(self.framer.format().clone());
            self.lingering = Some(Lingering { part, lines: Lines::default(), framer, since: Instant::now() });
        }
        Ok(())
    }

    /// The files that are read here.
    pub fn holds(&self, id: (u64, u64)) -> bool {
        self.queue.iter().chain(self.lingering.iter().map(|old| &old.part)).any(|part| part.id == id)
    }

    /// Whether the log is gone, and read to its end, for so long that nobody will write to it any more.
    pub fn is_gone(&self) -> bool {
        self.queue.is_empty() || self.gone_since.is_some_and(|since| since.elapsed() > LINGER)
    }
}
