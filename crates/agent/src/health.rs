//! Which parts of the agent itself are not as they should be. A part that fails, and one that is whole again, is an event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tally_types::Life;

use crate::intake::{Command, Intake};

/// A part of the control itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The file of the running program.
    Program,
    /// The directory with the agent's state.
    State,
    /// What the process may do.
    Capabilities,
    /// The resource limits of the process.
    Limits,
    /// The process as a whole: nobody holds it or reads its memory.
    Process,
    Sensor,
    Engine,
    /// The process that speaks to the manager.
    Link,
}

impl Part {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::State => "state",
            Self::Capabilities => "capabilities",
            Self::Limits => "limits",
            Self::Process => "process",
            Self::Sensor => "sensor",
            Self::Engine => "engine",
            Self::Link => "link",
        }
    }
}

pub struct Health {
    intake: Arc<Intake>,
    faults: Mutex<BTreeMap<Part, String>>,
}

impl Health {
    pub fn new(intake: Arc<Intake>) -> Self {
        Self { intake, faults: Mutex::default() }
    }

    /// Takes down how a part is; only what is news becomes an event. Of a part that stays impaired the first fault counts.
    pub fn tell(&self, part: Part, fault: Option<String>) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let name = part.name().into();
        let life = match fault {
            Some(_) if faults.contains_key(&part) => return,
            Some(detail) => {
                faults.insert(part, detail.clone());
                tracing::warn!(part = part.name(), detail, "a part of the agent is impaired");
                Life::Impaired { part: name, detail: detail.into() }
            }
            None if faults.remove(&part).is_none() => return,
            None => Life::Restored { part: name },
        };
        drop(faults);
        self.intake.command_now(Command::Life(life));
    }

    /// What is impaired at present, and how.
    pub fn faults(&self) -> Vec<(Part, String)> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().map(|(part, detail)| (*part, detail.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use tally_syscheck::Limits;

    use super::*;

    #[test]
    fn only_news_is_told() {
        let intake = Arc::new(Intake::new(Limits::default(), None));
        let health = Health::new(Arc::clone(&intake));
        health.tell(Part::State, None);
        health.tell(Part::State, Some("gone".to_owned()));
        health.tell(Part::State, Some("still gone".to_owned()));
        health.tell(Part::Link, None);
        assert_eq!(health.faults(), [(Part::State, "gone".to_owned())]);
        health.tell(Part::State, None);
        assert_eq!(health.faults(), []);
        let told: Vec<_> = intake.take(0, true).commands.into_iter().map(|command| format!("{command:?}")).collect();
        assert_eq!(
            told,
            [r#"Life(Impaired { part: "state", detail: "gone" })"#, r#"Life(Restored { part: "state" })"#]
        );
    }
}
