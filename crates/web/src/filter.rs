//! What a list is asked for: the words of its form, and the store's filter made of them.
//!
//! A word that cannot be understood is told beside its field, and the list is shown as if it were empty.

use std::cell::Cell;
use std::ops::ControlFlow;

use axum::extract::RawQuery;
use tally_proto::sentence::shown;
use tally_store::{Filter, PathFilter, Reader, StoreError};
use tally_syscheck::Glob;
use tally_types::{AgentId, ChangeKind, EventBody, EventId, Level, PathBytes, Timestamp};

/// Lines on one page.
pub const PAGE_LINES: usize = 50;
/// Rows that are compared with a glob for one page; then the page says that it stopped looking.
const ROWS_SEARCHED_MAX: u64 = 200_000;
/// Fields of a query; the rest is passed over.
const FIELDS_MAX: usize = 16;
/// Of one field, as typed. A glob may have 4,096 bytes.
const FIELD_BYTES_MAX: usize = 4096;

/// The fields of an address, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(RawQuery(text): &RawQuery) -> Self {
        let text = text.as_deref().unwrap_or_default();
        let fields = text.split('&').filter(|field| !field.is_empty()).take(FIELDS_MAX);
        let pairs = fields.map(|field| field.split_once('=').unwrap_or((field, "")));
        Self(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    pub fn field(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// The same with one field set, or without it if `value` is empty, as an address's end: `?a=b&c=d`.
    pub fn with(&self, name: &str, value: &str) -> String {
        let kept = self.0.iter().filter(|(key, value)| key != name && !value.is_empty());
        let mut pairs: Vec<_> = kept.map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        if !value.is_empty() {
            pairs.push(format!("{}={}", encode(name), encode(value)));
        }
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }
}

/// application/x-www-form-urlencoded; what is not UTF-8 is replaced.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len().min(FIELD_BYTES_MAX));
    let mut i = 0;
    while i < bytes.len() && out.len() < FIELD_BYTES_MAX {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        let escaped = hex.filter(|_| bytes[i] == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        out.push(match (bytes[i], escaped) {
            (_, Some(byte)) => byte,
            (b'+', None) => b' ',
            (byte, None) => byte,
        });
        i += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/');
    let escape = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(escape).collect()
}

/// The form as it was filled in, to be shown again.
#[derive(Debug, Default)]
pub struct Form {
    pub agent: String,
    pub path: String,
    pub kind: String,
    pub level: String,
    pub since: String,
    pub until: String,
    pub faults: Vec<String>,
    /// "of the path /etc/passwd", when the list is of one change's path.
    pub same: Option<String>,
}

impl Form {
    pub fn is_empty(&self) -> bool {
        [&self.agent, &self.path, &self.kind, &self.level, &self.since, &self.until].iter().all(|f| f.is_empty())
            && self.same.is_none()
    }
}

/// What is asked for, understood.
pub struct Wanted {
    pub form: Form,
    agent: Option<AgentId>,
    glob: Option<Glob>,
    path: Option<PathBytes>,
    kinds: Vec<ChangeKind>,
    level_min: Option<Level>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    before: Option<u64>,
}

/// Rows of one page.
pub struct Found<T> {
    pub rows: Vec<T>,
    /// There are older ones.
    pub more: bool,
    /// Not everything was looked through.
    pub gave_up: bool,
}

impl Wanted {
    pub fn read(query: &Query, reader: &Reader, now: Timestamp) -> Result<Self, StoreError> {
        let text = |name| query.field(name).to_owned();
        let form = Form {
            agent: text("agent"),
            path: text("path"),
            kind: text("kind"),
            level: text("level"),
            since: text("since"),
            until: text("until"),
            ..Form::default()
        };
        let before = query.field("before").parse().ok();
        let mut wanted = Self {
            agent: None,
            glob: None,
            path: None,
            kinds: Vec::new(),
            level_min: None,
            since: None,
            until: None,
            before,
            form,
        };
        wanted.agent = wanted.agent(reader)?;
        wanted.glob = wanted.understand("path", |form| &form.path, |text| Glob::parse(text).map_err(|e| e.to_string()));
        let kind = |text: &str| ChangeKind::from_name(text).ok_or(format!("\"{}\" is no kind of change", shown(text)));
        wanted.kinds = wanted.understand("kind", |form| &form.kind, kind).into_iter().collect();
        let level = |text: &str| {
            let level = text.parse().ok().and_then(|level| Level::new(level).ok());
            level.ok_or_else(|| "the level is a number from 0 to 16".to_owned())
        };
        wanted.level_min = wanted.understand("level", |form| &form.level, level);
        let time = |text: &str| moment(text, now);
        wanted.since = wanted.understand("since", |form| &form.since, time);
        wanted.until = wanted.understand("until", |form| &form.until, time);
        if let Ok(id) = query.field("same").parse::<EventId>() {
            wanted.restrict_to_path_of(id, reader)?;
        }
        Ok(wanted)
    }

    fn agent(&mut self, reader: &Reader) -> Result<Option<AgentId>, StoreError> {
        let text = &self.form.agent;
        if text.is_empty() {
            return Ok(None);
        }
        let named = reader.agent_named(text)?.map(|agent| agent.id);
        let agent = named.or_else(|| text.parse().ok());
        if agent.is_none() {
            self.form.faults.push(format!("agent: no agent is called \"{}\"", shown(text)));
        }
        Ok(agent)
    }

    fn understand<T>(
        &mut self,
        name: &str,
        field: impl Fn(&Form) -> &String,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = field(&self.form);
        if text.is_empty() {
            return None;
        }
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.form.faults.push(format!("{name}: {}", shown(&why)));
                None
            }
        }
    }

    fn restrict_to_path_of(&mut self, id: EventId, reader: &Reader) -> Result<(), StoreError> {
        let Some(row) = reader.event(id)? else { return Ok(()) };
        if let EventBody::Change(change) = row.event.body {
            self.form.same = Some(change.path.to_string());
            self.agent = Some(row.about);
            self.path = Some(change.path);
        }
        Ok(())
    }

    /// Whether it is the first page, which a page that is open can keep up to date.
    pub const fn is_newest(&self) -> bool {
        self.before.is_none()
    }

    /// One page of rows, newest first. `list` goes through rows with the filter it is given.
    pub fn page<T>(
        &self,
        list: impl FnOnce(&Filter<'_>, &mut dyn FnMut(T) -> ControlFlow<()>) -> Result<(), StoreError>,
    ) -> Result<Found<T>, StoreError> {
        let searched = Cell::new(0);
        // A row beyond the bound passes, so that the row's taker below can end the search.
        let matches = |path: &PathBytes| {
            searched.set(searched.get() + 1);
            searched.get() > ROWS_SEARCHED_MAX || self.glob.as_ref().is_none_or(|glob| glob.covers(path))
        };
        let filter = Filter {
            agent: self.agent,
            path: match (&self.path, &self.glob) {
                (Some(path), _) => PathFilter::Is(path.clone()),
                (None, Some(_)) => PathFilter::Matches(&matches),
                (None, None) => PathFilter::Any,
            },
            since: self.since,
            until: self.until,
            kinds: &self.kinds,
            level_min: self.level_min,
            before: self.before,
            ..Filter::default()
        };
        let mut found = Found { rows: Vec::new(), more: false, gave_up: false };
        list(&filter, &mut |row| {
            found.gave_up = searched.get() > ROWS_SEARCHED_MAX;
            found.more = !found.gave_up && found.rows.len() == PAGE_LINES;
            if found.gave_up || found.more {
                return ControlFlow::Break(());
            }
            found.rows.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

/// `90s`, `15m`, `2h`, `7d`, `4w` ago, or a day, or a moment, in UTC.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400), ('w', 604_800)];
    for (unit, secs) in units {
        if let Some(count) = text.strip_suffix(unit).and_then(|n| n.trim().parse::<u32>().ok()) {
            return Ok(now.minus_micros(i64::from(count) * secs * 1_000_000));
        }
    }
    let text = text.replacen(' ', "T", 1);
    let forms = [text.clone(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    let read = forms.iter().find_map(|form| form.parse().ok());
    read.ok_or_else(|| "write 2h, 7d, 2026-11-24 or 2026-11-24 07:03 (UTC)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(&RawQuery(Some(text.into())))
    }

    #[test]
    fn queries_are_decoded_bounded_and_written_again() {
        let asked = query("path=%2Fetc%2F%C3%BC+x&agent=web&agent=other&&kind&bad=%zz%f&x=%ff");
        assert_eq!(asked.field("path"), "/etc/ü x");
        assert_eq!((asked.field("agent"), asked.field("kind"), asked.field("none")), ("web", "", ""));
        assert_eq!((asked.field("bad"), asked.field("x")), ("%zz%f", "\u{fffd}"));
        let short = query("path=/a b&before=7");
        assert_eq!(short.with("before", "3"), "?path=/a%20b&before=3");
        assert_eq!(short.with("before", ""), "?path=/a%20b");
        assert_eq!(query("a=").with("a", ""), "");
        assert_eq!(query(&format!("a={}", "x".repeat(9000))).field("a").len(), FIELD_BYTES_MAX);
        assert_eq!(query(&"a=1&".repeat(100)).0.len(), FIELDS_MAX);
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = Timestamp(1_795_503_813_000_000);
        assert_eq!(moment("2h", now), Ok(now.minus_micros(7_200_000_000)));
        assert_eq!(moment("2026-11-24", now).unwrap().to_string(), "2026-11-24T00:00:00.000000Z");
        assert_eq!(moment("2026-11-24 07:03", now).unwrap().to_string(), "2026-11-24T07:03:00.000000Z");
        assert_eq!(moment("2026-11-24T07:03:05+01:00", now).unwrap().to_string(), "2026-11-24T06:03:05.000000Z");
        for bad in ["yesterday", "h", "-1h", "99999999999h", "2026-13-01"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
