//! An event as rules see it: a category, a decoder's name, a text, and named fields.
//!
//! Changes and agent life are decoded here, without a pattern: their fields are taken from the typed event. The names of
//! decoders are OSSEC's where the meaning is (`syscheck_new_entry`, `ossec`), so that rules written for it find them.

use std::borrow::Cow;
use std::cell::OnceCell;

use tally_types::{
    Actor, AgentId, Algorithm, Attribute, Change, ChangeKind, Container, Entry, Event, EventBody, FileKind, Life,
    Timestamp,
};

use crate::pattern::Pattern;
use crate::rule::Category;

mod life;
#[cfg(test)]
mod tests;

/// What the manager asks about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The agent whose host it is about.
    pub about: AgentId,
    pub agent_name: &'a str,
    pub event: &'a Event,
    /// How many earlier events said that this path of this agent was modified.
    pub times_changed: u32,
    /// When the manager received it.
    pub now: Timestamp,
}

/// A field that rules can name. A decoder of log lines will bring others, by their own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The agent's name, and its number as `001`.
    Agent,
    AgentId,
    /// Of a change: `added`, `modified` …
    Kind,
    /// Of a move either path counts: what matters may be gone from where it was.
    Path,
    /// The last component of the path.
    Name,
    MovedFrom,
    /// The names of what differs, by commas: `mode,content`.
    Attributes,
    /// `yes` if more than a time differs.
    Substance,
    /// `yes` if it came and went between two looks.
    Transient,
    /// `yes` if it is (or was) a log that is sealed in chunks.
    Sealed,
    /// `file`, `directory` …, after the change, or before it where nothing is left.
    Type,
    /// What it can do now and could not before: `setuid setgid capabilities world-writable`, those that apply, by spaces.
    Gained,
    /// As `0644`.
    ModeBefore,
    ModeAfter,
    /// The owner's name, or the number where there is none.
    OwnerBefore,
    OwnerAfter,
    Sha256Before,
    Sha256After,
    DetectedBy,
    /// Of the last one that is known to have had a part in it.
    User,
    LoginUser,
    Exe,
    Cmdline,
    ParentExe,
    /// Its terminal, such as `pts/0`; where its session came from; its container, as name or else number.
    Tty,
    Remote,
    Container,
    /// Of a log: which of its old bytes are concerned, as `start-end` (the end is not among them).
    Bytes,
    /// Of the watch that covers the path, by commas.
    Tags,
    /// What it means, and what is peculiar about it, in sentences by semicolons.
    Summary,
    Notes,
    /// Of agent life: `started`, `gap` …
    Life,
    /// Why, or in which words.
    Cause,
    Detail,
    /// What the agent cannot see, by semicolons; unset where it sees all.
    Cannot,
}

impl Field {
    pub const ALL: [Self; 35] = [
        Self::Agent,
        Self::AgentId,
        Self::Kind,
        Self::Path,
        Self::Name,
        Self::MovedFrom,
        Self::Attributes,
        Self::Substance,
        Self::Transient,
        Self::Sealed,
        Self::Type,
        Self::Gained,
        Self::ModeBefore,
        Self::ModeAfter,
        Self::OwnerBefore,
        Self::OwnerAfter,
        Self::Sha256Before,
        Self::Sha256After,
        Self::DetectedBy,
        Self::User,
        Self::LoginUser,
        Self::Exe,
        Self::Cmdline,
        Self::ParentExe,
        Self::Tty,
        Self::Remote,
        Self::Container,
        Self::Bytes,
        Self::Tags,
        Self::Summary,
        Self::Notes,
        Self::Life,
        Self::Cause,
        Self::Detail,
        Self::Cannot,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::AgentId => "agent_id",
            Self::Kind => "kind",
            Self::Path => "path",
            Self::Name => "name",
            Self::MovedFrom => "moved_from",
            Self::Attributes => "attributes",
            Self::Substance => "substance",
            Self::Transient => "transient",
            Self::Sealed => "sealed",
            Self::Type => "type",
            Self::Gained => "gained",
            Self::ModeBefore => "mode_before",
            Self::ModeAfter => "mode_after",
            Self::OwnerBefore => "owner_before",
            Self::OwnerAfter => "owner_after",
            Self::Sha256Before => "sha256_before",
            Self::Sha256After => "sha256_after",
            Self::DetectedBy => "detected_by",
            Self::User => "user",
            Self::LoginUser => "login_user",
            Self::Exe => "exe",
            Self::Cmdline => "cmdline",
            Self::ParentExe => "parent_exe",
            Self::Tty => "tty",
            Self::Remote => "remote",
            Self::Container => "container",
            Self::Bytes => "bytes",
            Self::Tags => "tags",
            Self::Summary => "summary",
            Self::Notes => "notes",
            Self::Life => "life",
            Self::Cause => "cause",
            Self::Detail => "detail",
            Self::Cannot => "cannot",
        }
    }

    /// Caseless, as OSSEC compares field names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name().eq_ignore_ascii_case(name))
    }
}

/// The names of the decoders in this file: what `decoded_as` can name.
pub(crate) const DECODERS: [&str; 8] = [
    "ossec",
    "syscheck_integrity_changed",
    "syscheck_integrity_changed_2nd",
    "syscheck_integrity_changed_3rd",
    "syscheck_new_entry",
    "syscheck_deleted",
    "tallystick_moved",
    "tallystick_log",
];

type Value<'a> = Option<Cow<'a, [u8]>>;

/// One event, each of its fields made at most once.
pub struct Facts<'a> {
    subject: &'a Subject<'a>,
    fields: [OnceCell<Value<'a>>; Field::ALL.len()],
    text: OnceCell<Vec<u8>>,
}

impl<'a> Facts<'a> {
    pub fn new(subject: &'a Subject<'a>) -> Self {
        Self { subject, fields: [const { OnceCell::new() }; Field::ALL.len()], text: OnceCell::new() }
    }

    /// OSSEC's decoder type. Everything that Tallystick itself says is of one.
    pub const fn category(&self) -> Category {
        match &self.subject.event.body {
            EventBody::Change(_) | EventBody::Life(_) => Category::Ossec,
            EventBody::Log(_) => Category::Syslog,
        }
    }

    pub fn decoder(&self) -> &'static str {
        let change = match &self.subject.event.body {
            EventBody::Change(change) => change,
            EventBody::Life(_) => return "ossec",
            EventBody::Log(_) => return "",
        };
        match change.kind {
            ChangeKind::Added => "syscheck_new_entry",
            ChangeKind::Removed => "syscheck_deleted",
            ChangeKind::Moved => "tallystick_moved",
            ChangeKind::Appended | ChangeKind::Rewritten | ChangeKind::Truncated | ChangeKind::Rotated => {
                "tallystick_log"
            }
            ChangeKind::Modified => match self.subject.times_changed {
                0 => "syscheck_integrity_changed",
                1 => "syscheck_integrity_changed_2nd",
                _ => "syscheck_integrity_changed_3rd",
            },
        }
    }

    /// What `<match>` looks at: one line.
    pub fn text(&self) -> &[u8] {
        self.text.get_or_init(|| match &self.subject.event.body {
            EventBody::Change(change) => format!("{} {}", change.kind.name(), change.path).into_bytes(),
            EventBody::Life(life) => {
                let detail = life::detail(life).unwrap_or_default();
                format!("{}: {} {detail}", self.subject.agent_name, life.name()).into_bytes()
            }
            EventBody::Log(line) => line.text.to_vec(),
        })
    }

    /// `None` where the event has no such field.
    pub fn field(&self, field: Field) -> Option<&[u8]> {
        self.fields[field as usize].get_or_init(|| self.make(field)).as_deref()
    }

    /// Whether the event has the field, and the pattern matches it.
    pub(crate) fn holds(&self, field: Field, pattern: &Pattern) -> bool {
        let matches = |field| self.field(field).is_some_and(|value| pattern.matches_name(value));
        matches(field) || (field == Field::Path && matches(Field::MovedFrom))
    }

    fn make(&self, field: Field) -> Value<'a> {
        let subject = self.subject;
        match (field, &subject.event.body) {
            (Field::Agent, _) => borrowed(subject.agent_name),
            (Field::AgentId, _) => owned(subject.about.to_string()),
            (_, EventBody::Change(change)) => of_change(field, change),
            (_, EventBody::Life(life)) => of_life(field, life),
            (_, EventBody::Log(_)) => None,
        }
    }
}

fn borrowed(text: &str) -> Value<'_> {
    Some(Cow::Borrowed(text.as_bytes()))
}

fn owned<'a>(text: String) -> Value<'a> {
    Some(Cow::Owned(text.into_bytes()))
}

fn yes<'a>(is: bool) -> Value<'a> {
    is.then_some(Cow::Borrowed(&b"yes"[..]))
}

fn of_life(field: Field, life: &Life) -> Value<'_> {
    match (field, life) {
        (_, Life::DeviceOpened { actor: Some(actor), .. }) if is_of_actor(field) => return of_actor(field, actor),
        (Field::Path, Life::Storm { path, .. }) => return Some(Cow::Borrowed(path.as_bytes())),
        _ => {}
    }
    match field {
        Field::Life => borrowed(life.name()),
        Field::Cause => life::cause(life).and_then(borrowed),
        Field::Detail => life::detail(life).map(|text| Cow::Owned(text.into_bytes())),
        Field::Cannot => life::cannot(life).map(|text| Cow::Owned(text.into_bytes())),
        _ => None,
    }
}

fn of_change(field: Field, change: &Change) -> Value<'_> {
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    match field {
        Field::Kind => borrowed(change.kind.name()),
        Field::Path => Some(Cow::Borrowed(change.path.as_bytes())),
        Field::Name => Some(Cow::Borrowed(change.path.file_name())),
        Field::MovedFrom => change.moved_from.as_ref().map(|path| Cow::Borrowed(path.as_bytes())),
        Field::Attributes => {
            let names: Vec<_> = change.attributes.iter().map(Attribute::name).collect();
            if names.is_empty() { None } else { owned(names.join(",")) }
        }
        Field::Substance => yes(has_substance(change)),
        Field::Transient => yes(change.is_transient()),
        Field::Sealed => yes(before.or(after).is_some_and(is_sealed)),
        Field::Type => after.or(before).and_then(|entry| borrowed(entry.kind.name())),
        Field::Gained => gained(before, after),
        Field::ModeBefore => before.and_then(|entry| owned(format!("{:04o}", entry.mode))),
        Field::ModeAfter => after.and_then(|entry| owned(format!("{:04o}", entry.mode))),
        Field::OwnerBefore => before.and_then(owner),
        Field::OwnerAfter => after.and_then(owner),
        Field::Sha256Before => before.and_then(sha256),
        Field::Sha256After => after.and_then(sha256),
        Field::DetectedBy => borrowed(change.detected_by.name()),
        Field::Bytes => change.bytes.and_then(|bytes| owned(format!("{}-{}", bytes.start, bytes.end))),
        Field::Tags => joined(&change.tags, ","),
        Field::Summary => joined(&change.summary, "; "),
        Field::Notes => joined(&change.notes, "; "),
        // Where the change lies in a container, that counts; else where its author is.
        Field::Container if change.place.is_some() => {
            change.place.as_ref().and_then(|place| container(&place.container))
        }
        _ => of_actor(field, change.actors.first()?),
    }
}

fn joined<'a>(parts: &[std::sync::Arc<str>], by: &str) -> Value<'a> {
    if parts.is_empty() { None } else { owned(parts.join(by)) }
}

fn container(container: &Container) -> Value<'_> {
    borrowed(container.name.as_deref().unwrap_or(&container.id))
}

const fn is_of_actor(field: Field) -> bool {
    use Field::{Cmdline, Container, Exe, LoginUser, ParentExe, Remote, Tty, User};
    matches!(field, User | LoginUser | Exe | Cmdline | ParentExe | Tty | Remote | Container)
}

fn of_actor(field: Field, actor: &Actor) -> Value<'_> {
    match field {
        Field::User => actor.user.as_deref().and_then(borrowed),
        Field::LoginUser => actor.login_user.as_deref().and_then(borrowed),
        Field::Exe => actor.exe.as_deref().map(Cow::Borrowed),
        Field::Cmdline => actor.cmdline.as_deref().map(Cow::Borrowed),
        Field::ParentExe => actor.parent_exe.as_deref().map(Cow::Borrowed),
        Field::Tty => actor.tty.as_deref().and_then(borrowed),
        Field::Remote => actor.remote.as_ref().and_then(|remote| borrowed(&remote.address)),
        Field::Container => actor.container.as_ref().and_then(container),
        _ => None,
    }
}

fn has_substance(change: &Change) -> bool {
    let time = [Attribute::Mtime].into_iter().collect();
    // A log's time is not looked at unless it was set by hand.
    let is_log = change.after.as_ref().is_some_and(is_sealed);
    change.kind != ChangeKind::Modified || is_log || !change.attributes.without(time).is_empty()
}

/// Only a sealed log has the digest of its chunks and no other.
fn is_sealed(entry: &Entry) -> bool {
    let mut algorithms = entry.digests.iter().map(|(algorithm, _)| algorithm);
    algorithms.next() == Some(Algorithm::Blake3) && algorithms.next().is_none()
}

fn gained<'a>(before: Option<&Entry>, after: Option<&Entry>) -> Value<'a> {
    let after = after?;
    let had = |bit: u16| before.is_some_and(|entry| entry.mode & bit != 0);
    let has_now = |bit: u16| after.mode & bit != 0 && !had(bit);
    let is_file = after.kind == FileKind::File;
    let sticky_directory = after.kind == FileKind::Directory && after.mode & 0o1000 != 0;
    let writable = after.kind != FileKind::Symlink && !sticky_directory && has_now(0o002);
    let capability = |entry: &Entry| entry.xattrs.iter().find(|x| *x.name == *b"security.capability").cloned();
    let capable = capability(after).is_some_and(|now| before.and_then(capability).as_ref() != Some(&now));
    let words = [
        (is_file && has_now(0o4000), "setuid"),
        (is_file && has_now(0o2000), "setgid"),
        (capable, "capabilities"),
        (writable, "world-writable"),
    ];
    let words: Vec<_> = words.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
    if words.is_empty() { None } else { owned(words.join(" ")) }
}

fn owner<'a>(entry: &Entry) -> Value<'a> {
    owned(entry.user.as_deref().map_or_else(|| entry.uid.to_string(), str::to_owned))
}

fn sha256<'a>(entry: &Entry) -> Value<'a> {
    let digest = entry.digests.sha256?;
    owned(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
