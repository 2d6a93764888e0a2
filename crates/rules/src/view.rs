//! What conditions look at: a typed event or a log line, by the same names.

use crate::correlate::{Key, Values};
use crate::decoded::{Decoded, DecoderId, LogField};
use crate::facts::{Facts, Field};
use crate::rule::Category;

#[derive(Clone, Copy)]
pub(crate) enum View<'a> {
    Event(&'a Facts<'a>),
    Line(&'a Decoded),
}

/// A text of an event that has an element of its own in rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Text {
    ProgramName,
    Id,
    /// `<match>` and `<regex>` look at the same.
    Match,
    Regex,
    Url,
    SrcPort,
    DstPort,
    User,
    /// There is no geography here: nothing has these.
    SrcCountry,
    DstCountry,
    ExtraData,
    Hostname,
    Status,
}

impl Text {
    /// The classic element; its PCRE2 twin.
    pub const NAMES: [(&str, &str, Self); 13] = [
        ("program_name", "program_name_pcre2", Self::ProgramName),
        ("id", "id_pcre2", Self::Id),
        ("match", "match_pcre2", Self::Match),
        ("regex", "pcre2", Self::Regex),
        ("url", "url_pcre2", Self::Url),
        ("srcport", "srcport_pcre2", Self::SrcPort),
        ("dstport", "dstport_pcre2", Self::DstPort),
        ("user", "user_pcre2", Self::User),
        ("srcgeoip", "srcgeoip_pcre2", Self::SrcCountry),
        ("dstgeoip", "dstgeoip_pcre2", Self::DstCountry),
        ("extra_data", "extra_data_pcre2", Self::ExtraData),
        ("hostname", "hostname_pcre2", Self::Hostname),
        ("status", "status_pcre2", Self::Status),
    ];

    /// Whether a decoder may have cut it out of the line.
    pub const fn is_field(self) -> bool {
        matches!(
            self,
            Self::Id | Self::Url | Self::SrcPort | Self::DstPort | Self::User | Self::ExtraData | Self::Status
        )
    }

    pub const fn is_log(self) -> bool {
        matches!(self, Self::Match | Self::Regex)
    }
}

/// What `<decoded_as>` names: a decoder of lines, or what typed events are decoded as, or both by one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecodedAs {
    pub line: Option<DecoderId>,
    pub event: Option<&'static str>,
}

impl<'a> View<'a> {
    pub fn category(&self) -> Option<Category> {
        match self {
            Self::Event(facts) => Some(facts.category()),
            Self::Line(line) => line.category,
        }
    }

    pub fn is_decoded_as(&self, wanted: DecodedAs) -> bool {
        match self {
            Self::Event(facts) => wanted.event == Some(facts.decoder()),
            Self::Line(line) => wanted.line.is_some() && line.decoder_id() == wanted.line,
        }
    }

    /// What `match` sees.
    pub fn log(&self) -> &'a [u8] {
        match self {
            Self::Event(facts) => facts.text(),
            Self::Line(line) => line.log(),
        }
    }

    /// What stands in an alert.
    pub fn full_log(&self) -> &'a [u8] {
        match self {
            Self::Event(facts) => facts.text(),
            Self::Line(line) => line.full_log(),
        }
    }

    pub fn field(&self, field: LogField) -> Option<&'a [u8]> {
        match (self, field) {
            (Self::Line(line), _) => line.field(field),
            (Self::Event(facts), LogField::DstUser) => facts.field(Field::User),
            (Self::Event(facts), LogField::SrcUser) => facts.field(Field::LoginUser),
            (Self::Event(facts), LogField::SrcIp) => facts.field(Field::Remote),
            (Self::Event(facts), LogField::Filename) => facts.field(Field::Path),
            (Self::Event(_), _) => None,
        }
    }

    pub fn hostname(&self) -> &'a [u8] {
        match self {
            Self::Event(facts) => facts.field(Field::Agent).unwrap_or_default(),
            Self::Line(line) => line.hostname(),
        }
    }

    pub fn text(&self, text: Text) -> Option<&'a [u8]> {
        match text {
            Text::Match | Text::Regex => Some(self.log()),
            Text::ProgramName => match self {
                Self::Event(_) => None,
                Self::Line(line) => line.program_name(),
            },
            Text::Id => self.field(LogField::Id),
            Text::Url => self.field(LogField::Url),
            Text::SrcPort => self.field(LogField::SrcPort),
            Text::DstPort => self.field(LogField::DstPort),
            Text::User => self.field(LogField::DstUser).or_else(|| self.field(LogField::SrcUser)),
            Text::SrcCountry | Text::DstCountry => None,
            Text::ExtraData => self.field(LogField::ExtraData),
            Text::Hostname => Some(self.hostname()),
            Text::Status => self.field(LogField::Status),
        }
    }

    pub fn key(&self, key: Key) -> Option<&'a [u8]> {
        key.field().map_or_else(|| Some(self.hostname()), |field| self.field(field))
    }

    pub fn values(&self) -> Values {
        Values::new(self.full_log(), |key| self.key(key))
    }
}
