//! The core types of Tallystick: what a path, an entry, a change, an event and an alert are.
//!
//! Every other crate speaks in these words (docs/ARCHITECTURE.md lists them). Nothing here does I/O, reads a clock, or
//! knows an outside form: the wire, the database rows and the JSON each live in one file elsewhere, so that renaming a
//! field here can break neither a deployed agent nor a SIEM.

mod actor;
mod agent;
mod alert;
mod change;
mod diagnostic;
mod entry;
mod event;
mod local_time;
mod log;
mod path;
mod rule;
mod time;

pub use actor::{Actor, Ancestor, Confidence, Container, Remote, RemoteFrom, UnknownPart};
pub use agent::{AgentId, AgentIdError, AgentState, Epoch, EventId, EventIdError};
pub use alert::Alert;
pub use change::{
    Attribute, AttributeSet, ByteRange, Change, ChangeKind, ContainerPath, DetectedBy, Diff, Verdict, Window,
};
pub use diagnostic::{Diagnostic, did_you_mean, shown};
pub use entry::{
    Algorithm, Device, Digest, DigestError, Digests, Entry, FileFlags, FileKind, FileTime, Undigested, Xattr,
};
pub use event::{AdminAct, Event, EventBody, GapCause, Life};
pub use local_time::{LocalTime, MONTHS};
pub use log::{Decoding, LogLine, LogQueue};
pub use path::{PATH_BYTES_MAX, PathBytes, PathError};
pub use rule::{Level, LevelError, RuleId, RuleMatch};
pub use time::{Timestamp, TimestampError};
