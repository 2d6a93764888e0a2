//! Lines of a commit are read on a second thread, while the first decides and stores those before them.
//!
//! What a line is by itself (header, decoder, fields, all conditions of rules that need nothing but the line) is known before
//! the lines before it are decided; what rules count is decided in order, by the thread that owns the state. A thread costs
//! more than a few lines do, so a commit of few lines goes without one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use tally_rules::{ReadLine, Reader};
use tally_types::Timestamp;

/// Fewer lines than this are read where they are decided: a thread costs about as much as ten of them.
pub const LINES_MIN: usize = 128;
/// Lines that are handed over together.
const CHUNK: usize = 64;
/// Chunks that were read and wait: the reader is never further ahead than this.
const CHUNKS_MAX: usize = 4;

/// A line that is to be read.
pub struct Unread<'l> {
    pub text: &'l [u8],
    /// As rules see it.
    pub location: Arc<str>,
    pub received: Timestamp,
}

/// What was read, in order.
pub struct Ahead {
    from: Receiver<Vec<ReadLine>>,
    /// Chunks that are done with go back, to be filled again.
    back: Sender<Vec<ReadLine>>,
    chunk: std::vec::IntoIter<ReadLine>,
    done: Vec<ReadLine>,
}

impl Ahead {
    /// The next line; `None` where the reader has ended, which it does after its last line only.
    pub fn next(&mut self) -> Option<ReadLine> {
        if let Some(line) = self.chunk.next() {
            return Some(line);
        }
        if !self.done.is_empty() {
            // The reader may have ended: then nobody needs them.
            let _ = self.back.send(std::mem::take(&mut self.done));
        }
        self.chunk = self.from.recv().ok()?.into_iter();
        self.chunk.next()
    }

    /// Takes a line back that was decided.
    pub fn done_with(&mut self, line: ReadLine) {
        self.done.push(line);
    }
}

/// The two ends: the second reads all lines, or until the first is dropped.
pub fn pair<'l>(lines: Vec<Unread<'l>>, reader: &'l mut Reader) -> (Ahead, impl FnOnce() + Send + 'l) {
    let (to, from) = sync_channel(CHUNKS_MAX);
    let (back, used) = channel();
    let ahead = Ahead { from, back, chunk: Vec::new().into_iter(), done: Vec::with_capacity(CHUNK) };
    (ahead, move || read_all(&lines, reader, &to, &used))
}

fn read_all(lines: &[Unread<'_>], reader: &mut Reader, to: &SyncSender<Vec<ReadLine>>, used: &Receiver<Vec<ReadLine>>) {
    for lines in lines.chunks(CHUNK) {
        let mut chunk = used.try_recv().unwrap_or_default();
        chunk.resize_with(lines.len(), ReadLine::default);
        for (line, read) in lines.iter().zip(&mut chunk) {
            reader.read(line.text, &line.location, line.received, read);
        }
        if to.send(chunk).is_err() {
            return;
        }
    }
}
