//! From lines to messages.
//!
//! A framer takes the lines of one source in order and says which messages they make. It holds at most one message that is
//! not complete; who reads the file begins again at that message's first line after a restart, so that none is lost and none
//! is told twice. Silence ends a message too: the owner of the clock says so by `idle`.

use tally_types::{LocalTime, LogLine, LogQueue};

use super::Format;
use crate::collect::record;

/// What a message is made with beside its lines.
#[derive(Clone, Debug, Default)]
pub struct Clockwork {
    pub now: LocalTime,
    pub hostname: String,
    /// The last directory of the file's path but one: the service of `…/<service>/current`.
    pub service: String,
    /// The alias or the text of a command.
    pub command: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub queue: LogQueue,
    pub text: Vec<u8>,
}

impl Message {
    pub(super) fn new(queue: LogQueue, text: impl Into<Vec<u8>>) -> Self {
        Self { queue, text: text.into() }
    }
}

#[derive(Clone, Debug)]
pub struct Framer {
    format: Format,
    pending: Option<Pending>,
    /// The last time that a line of MySQL's log named.
    last_time: Vec<u8>,
}

/// A message that is not complete.
#[derive(Clone, Debug)]
struct Pending {
    text: Vec<u8>,
    lines: u32,
    /// What its lines have in common: the number of an audit event, the mark of a record of ModSecurity.
    key: Vec<u8>,
}

/// What a line is to the message before it.
pub(super) enum Role {
    /// It is a message.
    Alone(Message),
    /// It ends the message before it and begins one, with this text.
    First { text: Vec<u8>, key: Vec<u8> },
    /// It is added, after a space.
    More(Vec<u8>),
    /// It is added and completes the message.
    Last(Vec<u8>),
    /// It is nothing to anybody.
    Nothing,
}

impl Framer {
    /// Lines of one message. A longer one is told in parts.
    pub const LINES_MAX: u32 = 1000;
    /// OSSEC's bound for what one event of the audit system has.
    const AUDIT_LINES_MAX: u32 = 64;

    pub fn new(format: Format) -> Self {
        Self { format, pending: None, last_time: Vec::new() }
    }

    pub const fn format(&self) -> &Format {
        &self.format
    }

    /// Whether lines were taken that no message has told of yet.
    pub const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes a line, without its end.
    pub fn line(&mut self, line: &[u8], with: &Clockwork, out: &mut Vec<Message>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.role(line, with) {
            Role::Alone(message) => {
                self.complete(out);
                tell(message, out);
            }
            Role::First { text, key } => {
                self.complete(out);
                self.pending = Some(Pending { text, lines: 1, key });
                self.bound(out);
            }
            Role::More(text) => {
                self.add(&text);
                self.bound(out);
            }
            Role::Last(text) => {
                self.add(&text);
                self.complete(out);
            }
            Role::Nothing => {}
        }
    }

    /// Nothing came for a while, or nothing will come any more: what is there is the message.
    pub fn idle(&mut self, out: &mut Vec<Message>) {
        self.complete(out);
    }

    /// A command's whole output.
    pub fn output(&self, output: &[u8], with: &Clockwork, out: &mut Vec<Message>) {
        let begin = format!("ossec: output: '{}':", cut(&with.command, 255));
        let lines = || output.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let lines = || lines().filter(|line| !line.is_empty());
        if self.format == Format::FullCommand {
            let mut text = begin.into_bytes();
            for line in lines() {
                text.push(b'\n');
                text.extend(line);
            }
            tell(Message::new(LogQueue::Local, text), out);
            return;
        }
        for line in lines() {
            tell(Message::new(LogQueue::Local, [begin.as_bytes(), b" ", line].concat()), out);
        }
    }

    fn add(&mut self, text: &[u8]) {
        let Some(pending) = &mut self.pending else { return };
        if !pending.text.is_empty() && !text.is_empty() {
            pending.text.push(b' ');
        }
        pending.text.extend(text);
        pending.lines += 1;
    }

    fn bound(&mut self, out: &mut Vec<Message>) {
        let most = match self.format {
            Format::Lines(lines) => lines,
            Format::Audit => Self::AUDIT_LINES_MAX,
            _ => Self::LINES_MAX,
        };
        let is_full = |pending: &Pending| pending.lines >= most || pending.text.len() >= LogLine::TEXT_BYTES_MAX;
        if self.pending.as_ref().is_some_and(is_full) {
            self.complete(out);
        }
    }

    fn complete(&mut self, out: &mut Vec<Message>) {
        if let Some(Pending { text, .. }) = self.pending.take().filter(|pending| !pending.text.is_empty()) {
            let queue = if self.format == Format::PostgreSql { LogQueue::PostgreSql } else { LogQueue::Local };
            tell(Message::new(queue, text), out);
        }
    }

    fn role(&mut self, line: &[u8], with: &Clockwork) -> Role {
        let pending = self.pending.as_ref();
        let key = pending.map(|pending| &pending.key[..]);
        match &self.format {
            Format::Syslog | Format::Json | Format::Command | Format::FullCommand => record::line(line),
            Format::Lines(_) if pending.is_some() => Role::More(line.to_vec()),
            Format::Lines(_) => Role::First { text: line.to_vec(), key: Vec::new() },
            Format::Indented => record::indented(line, pending.is_some()),
            Format::Start(pattern) if pending.is_some() && !pattern.matches(line) => Role::More(line.to_vec()),
            Format::Start(_) if line.is_empty() => Role::Nothing,
            Format::Start(_) => Role::First { text: line.to_vec(), key: Vec::new() },
            Format::SnortFull => record::snort_full(line, key),
            Format::DjbMultilog => record::djb_multilog(line, with),
            Format::MySql => record::mysql(line, &mut self.last_time),
            Format::MsSql => record::mssql(line, pending.is_some()),
            Format::PostgreSql => record::postgresql(line, pending.is_some()),
            Format::Nmap => record::nmap(line),
            Format::OssecAlert => record::ossec_alert(line, key),
            Format::Audit => record::audit(line, key),
            Format::ModSecurity => record::mod_security(line, key),
        }
    }
}

/// What is longer than a message may be is told in pieces.
fn tell(message: Message, out: &mut Vec<Message>) {
    if message.text.len() <= LogLine::TEXT_BYTES_MAX {
        out.push(message);
        return;
    }
    out.extend(pieces(&message.text).map(|piece| Message::new(message.queue, piece)));
}

/// What is told of a text that may be longer than a message.
pub fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.chunks(LogLine::TEXT_BYTES_MAX)
}

fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests;
