//! What pre-decoding and the decoders make of one log line: its header, who understood it, and its fields.
//!
//! All values are ranges of one buffer: the line stands at its start, what a decoder had to compose (a field from two
//! places, the manager's own name as host) behind it. So a line costs no allocation per field, and a `Decoded` that is
//! filled again costs none at all. Offsets and meanings are OSSEC's (reference: its analysisd, events).

use std::ops::Range;
use std::sync::Arc;

use tally_types::{RuleId, Timestamp};

use crate::rule::Category;

/// A field that decoders fill and rules name by an element of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogField {
    /// Who is acted on; `user` in an `<order>`.
    DstUser,
    SrcUser,
    SrcIp,
    DstIp,
    SrcPort,
    DstPort,
    Protocol,
    Action,
    Id,
    Url,
    /// `data` and `extra_data` in an `<order>`.
    ExtraData,
    Status,
    SystemName,
    Filename,
}

impl LogField {
    pub const ALL: [Self; 14] = [
        Self::DstUser,
        Self::SrcUser,
        Self::SrcIp,
        Self::DstIp,
        Self::SrcPort,
        Self::DstPort,
        Self::Protocol,
        Self::Action,
        Self::Id,
        Self::Url,
        Self::ExtraData,
        Self::Status,
        Self::SystemName,
        Self::Filename,
    ];

    /// As `tally logtest --json` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DstUser => "dstuser",
            Self::SrcUser => "srcuser",
            Self::SrcIp => "srcip",
            Self::DstIp => "dstip",
            Self::SrcPort => "srcport",
            Self::DstPort => "dstport",
            Self::Protocol => "protocol",
            Self::Action => "action",
            Self::Id => "id",
            Self::Url => "url",
            Self::ExtraData => "extra_data",
            Self::Status => "status",
            Self::SystemName => "system_name",
            Self::Filename => "filename",
        }
    }
}

/// The number of a decoder's name: the place of the first decoder of that name. `<decoded_as>` compares these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecoderId(pub u16);

/// Which fields make an event "seen for the first time".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstSeen {
    pub name: bool,
    pub id: bool,
    pub dst_user: bool,
    pub src_user: bool,
    pub src_ip: bool,
    pub dst_ip: bool,
    pub data: bool,
    pub system_name: bool,
    pub location: bool,
}

impl FirstSeen {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What there is to know of the decoder that understood a line.
#[derive(Debug, PartialEq, Eq)]
pub struct DecoderInfo {
    /// As shown: a child has its parent's name unless it uses its own.
    pub name: Arc<str>,
    pub own_name: Arc<str>,
    pub id: DecoderId,
    pub parent: Option<Arc<str>>,
    /// `None`: of a type for which no rule can be (`host-information`).
    pub category: Option<Category>,
    pub first_seen: FirstSeen,
    pub first_seen_comment: Option<Arc<str>>,
    pub accumulate: bool,
}

/// A place in the buffer; `NONE` for a value that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub const NONE: Self = Self { start: u32::MAX, end: u32::MAX };

    /// Lines are far shorter than 4 GiB: `Raw::BYTES_MAX` bounds them.
    pub fn new(range: Range<usize>) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX - 1);
        Self { start: clamp(range.start), end: clamp(range.end) }
    }

    pub const fn is_set(self) -> bool {
        self.start != u32::MAX
    }

    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A log line and all that is known of it.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub(crate) buffer: Vec<u8>,
    pub(crate) full_log: Span,
    pub(crate) log: Span,
    pub(crate) hostname: Span,
    pub(crate) program_name: Span,
    pub(crate) fields: [Span; LogField::ALL.len()],
    pub(crate) dynamic: Vec<(Arc<str>, Span)>,
    /// Where the line comes from: a path, `(agent) ip->path`, an address.
    pub location: Arc<str>,
    pub decoder: Option<Arc<DecoderInfo>>,
    /// Which rules are asked; `None`: none at all.
    pub category: Option<Category>,
    /// Another manager has already decided that it is this rule: no other is asked.
    pub forwarded_rule: Option<RuleId>,
    /// Whoever made the line has already decided that it is new: `if_fts` holds without bookkeeping.
    pub is_new: bool,
    /// When the manager received it.
    pub time: Timestamp,
}

impl Default for Decoded {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            full_log: Span { start: 0, end: 0 },
            log: Span { start: 0, end: 0 },
            hostname: Span { start: 0, end: 0 },
            program_name: Span::NONE,
            fields: [Span::NONE; LogField::ALL.len()],
            dynamic: Vec::new(),
            location: Arc::from(""),
            decoder: None,
            category: Some(Category::Syslog),
            forwarded_rule: None,
            is_new: false,
            time: Timestamp(0),
        }
    }
}

impl Decoded {
    /// Forgets the line, and keeps the room for the next.
    pub(crate) fn clear(&mut self) {
        let none = Span::new(0..0);
        self.buffer.clear();
        (self.full_log, self.log, self.hostname, self.program_name) = (none, none, none, Span::NONE);
        self.fields = [Span::NONE; LogField::ALL.len()];
        self.dynamic.clear();
        self.decoder = None;
        self.category = Some(Category::Syslog);
        self.forwarded_rule = None;
        self.is_new = false;
    }

    /// The whole line, without control characters.
    pub fn full_log(&self) -> &[u8] {
        self.bytes(self.full_log)
    }

    /// The line behind its header: what `match` and `regex` of rules see.
    pub fn log(&self) -> &[u8] {
        self.bytes(self.log)
    }

    /// Of an agent's line, its location.
    pub fn hostname(&self) -> &[u8] {
        self.bytes(self.hostname)
    }

    pub fn program_name(&self) -> Option<&[u8]> {
        self.value(self.program_name)
    }

    /// A field may be set to nothing.
    pub fn field(&self, field: LogField) -> Option<&[u8]> {
        self.value(self.fields[field as usize])
    }

    /// `<user>` of a rule and `user` of a list lookup ask for the first that is set, in this or the other order.
    pub fn user(&self) -> Option<&[u8]> {
        self.field(LogField::DstUser).or_else(|| self.field(LogField::SrcUser))
    }

    /// A field that has no element of its own, by the name in the decoder's `<order>`; caseless. The last one counts.
    pub fn dynamic(&self, name: &str) -> Option<&[u8]> {
        let found = self.dynamic.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, span)| self.bytes(*span))
    }

    /// The fields that are set.
    pub fn fields(&self) -> impl Iterator<Item = (LogField, &[u8])> {
        LogField::ALL.into_iter().filter_map(|field| Some((field, self.field(field)?)))
    }

    pub fn dynamic_fields(&self) -> impl Iterator<Item = (&Arc<str>, &[u8])> {
        self.dynamic.iter().map(|(name, span)| (name, self.bytes(*span)))
    }

    /// Whether all fields that have an element of their own are parts of the log, as almost always.
    pub(crate) fn fields_are_parts(&self) -> bool {
        let (start, end) = (self.log.start, self.log.end);
        self.fields.iter().all(|span| !span.is_set() || (start <= span.start && span.end <= end))
    }

    pub fn decoder_id(&self) -> Option<DecoderId> {
        self.decoder.as_ref().map(|decoder| decoder.id)
    }

    /// For events that are made, not read: what no decoder sets.
    pub fn set_field(&mut self, field: LogField, value: &[u8]) {
        self.fields[field as usize] = self.append(value);
    }

    pub fn set_dynamic(&mut self, name: Arc<str>, value: &[u8]) {
        let span = self.append(value);
        self.dynamic.push((name, span));
    }

    pub(crate) fn append(&mut self, value: &[u8]) -> Span {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(value);
        Span::new(start..self.buffer.len())
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        &self.buffer[span.range()]
    }

    fn value(&self, span: Span) -> Option<&[u8]> {
        span.is_set().then(|| self.bytes(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_values_beside_the_line() {
        let mut decoded = Decoded::default();
        assert_eq!((decoded.log(), decoded.hostname(), decoded.program_name()), (&b""[..], &b""[..], None));
        decoded.set_field(LogField::SrcUser, b"ann");
        assert_eq!(decoded.user(), Some(&b"ann"[..]));
        decoded.set_field(LogField::DstUser, b"");
        assert_eq!(decoded.user(), Some(&b""[..]));
        decoded.set_dynamic("Shape".into(), b"round");
        decoded.set_dynamic("shape".into(), b"square");
        assert_eq!(decoded.dynamic("SHAPE"), Some(&b"square"[..]));
        assert_eq!(decoded.dynamic("srcuser"), None);
        assert_eq!(decoded.fields().count(), 2);
    }

    #[test]
    fn fields_stand_in_their_order() {
        for (place, field) in LogField::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, place);
        }
    }
}
