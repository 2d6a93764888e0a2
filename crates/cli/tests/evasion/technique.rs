//! One way to change a file unseen or unnamed: how it is done, what must come of it, and what came of it.

use std::time::Duration;

use serde_json::Value;

use crate::support::text;

/// A technique as data: three lines of shell, and the expectation.
///
/// The shell has `$F` (a watched file of 8 KiB), `$D` (its directory), `$O` (a directory that nobody watches, on the same
/// filesystem), `$E` (a file there that begins with `AFTER!`), and `$T` (the program of intruder.c). What ends with 77 is not
/// possible on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Technique {
    pub id: &'static str,
    pub name: &'static str,
    /// Where it is described.
    pub source: &'static str,
    /// Before the baseline.
    pub prepare: &'static str,
    pub act: &'static str,
    /// After everything was looked at.
    pub undo: &'static str,
    /// The path below `$D` that must be reported.
    pub at: &'static [u8],
    pub expect: Expect,
    /// Of what is not detected: why, and what would catch it. Of the rest: what is peculiar.
    pub note: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    pub by: By,
    /// The file name of the executable that must be named; empty where nobody can be.
    pub actor: &'static str,
}

/// By what a technique is detected: the class of time in which that must happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    RealTime,
    /// A scan, whether the clock or a change of the mounts asked for it.
    Scan,
    /// The scan at the agent's next start.
    Startup,
    /// What an agent or the manager says of the agent's own life.
    Life,
    /// The manager's comparison with its own copy.
    Sync,
    /// Nothing, unless a look happens to fall between two acts.
    Chance,
    Nothing,
}

impl By {
    /// When it must be known, in words.
    pub const fn within(self) -> &'static str {
        match self {
            Self::RealTime => "real time",
            Self::Scan => "next scan",
            Self::Startup => "next start",
            Self::Life => "three heartbeats",
            Self::Sync => "next heartbeats",
            Self::Chance | Self::Nothing => "not detected",
        }
    }

    /// How long the test waits. A machine under load may need most of it; it is no measure of speed.
    pub const fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::RealTime => 20,
            Self::Scan => 150,
            Self::Startup | Self::Life | Self::Sync => 60,
            Self::Chance | Self::Nothing => 0,
        })
    }

    /// Whether a change that says `detected_by` is of this class.
    pub fn is(self, detected_by: &str) -> bool {
        match self {
            Self::RealTime => detected_by == "realtime",
            Self::Scan => matches!(detected_by, "scan" | "direct"),
            Self::Startup => detected_by == "startup",
            Self::Life => detected_by == "life",
            Self::Sync => detected_by == "sync",
            Self::Chance => true,
            Self::Nothing => false,
        }
    }
}

impl Technique {
    /// A write to `$F` by the program of intruder.c, seen as it happens, with its actor: what most of them are.
    pub const fn new(id: &'static str, name: &'static str, source: &'static str, act: &'static str) -> Self {
        Self {
            id,
            name,
            source,
            prepare: "",
            act,
            undo: "",
            at: b"file",
            expect: Expect { by: By::RealTime, actor: "intruder" },
            note: "",
        }
    }

    pub const fn prepared(self, prepare: &'static str) -> Self {
        Self { prepare, ..self }
    }

    pub const fn undone(self, undo: &'static str) -> Self {
        Self { undo, ..self }
    }

    pub const fn at(self, at: &'static [u8]) -> Self {
        Self { at, ..self }
    }

    pub const fn actor(self, actor: &'static str) -> Self {
        Self { expect: Expect { actor, ..self.expect }, ..self }
    }

    /// Seen by a scan, which knows no actor.
    pub const fn by_scan(self) -> Self {
        Self { expect: Expect { by: By::Scan, actor: "" }, ..self }
    }

    pub const fn undetected(self, why: &'static str) -> Self {
        Self { expect: Expect { by: By::Nothing, actor: "" }, note: why, ..self }
    }

    pub const fn chance(self, why: &'static str) -> Self {
        Self { expect: Expect { by: By::Chance, actor: "" }, note: why, ..self }
    }

    pub const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Seen {
        by: String,
        kind: String,
        actor: String,
        after: Duration,
    },
    Unseen,
    /// This machine does not offer it.
    Impossible(String),
    /// The technique's own script failed.
    Broken(String),
}

impl Outcome {
    pub fn of_change(change: &Value, after: Duration) -> Self {
        let exe = text(change, "/actor/exe");
        let confidence = text(change, "/actor/confidence");
        let file_name = exe.rsplit('/').next().unwrap_or_default();
        let actor = match (file_name, confidence) {
            (_, "") => "nobody".to_owned(),
            ("", confidence) => format!("process number ({confidence})"),
            // This very test: its file's name changes with each build.
            (name, confidence) if name.starts_with("evasion-") => format!("the test ({confidence})"),
            (name, confidence) => format!("{name} ({confidence})"),
        };
        Self::Seen { by: text(change, "/detected_by").into(), kind: text(change, "/kind").into(), actor, after }
    }

    /// What is wrong with it, against the expectation. `names_actors`: whether this machine lets every actor be known.
    pub fn fault(&self, expect: Expect, names_actors: bool) -> Option<String> {
        match self {
            Self::Impossible(_) => None,
            Self::Broken(how) => Some(how.clone()),
            Self::Unseen if matches!(expect.by, By::Chance | By::Nothing) => None,
            Self::Unseen => Some(format!("was not seen; expected {}", expect.by.within())),
            Self::Seen { by, kind, actor, .. } => {
                let wrong_actor = !expect.actor.is_empty() && !actor.starts_with(expect.actor);
                if !expect.by.is(by) {
                    Some(format!("was seen by {by} ({kind}, {actor}); expected {}", expect.by.within()))
                } else if wrong_actor && names_actors {
                    Some(format!("is said to be done by {actor}; expected {}", expect.actor))
                } else {
                    None
                }
            }
        }
    }
}
