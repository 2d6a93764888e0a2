//! Who holds an identity: tells an agent that reconnects or restarts from a second one that uses the same certificate.
//!
//! Each start of an agent draws a run id. A new run replaces the old one, because that is what a restart looks like. But a
//! run that was replaced is over and cannot speak: if it comes back while the newer one is connected, both are alive.

use crate::message::RunId;

/// One for each agent, in the manager's memory.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    current: Option<Run>,
    /// Runs that a newer one has replaced, the newest last.
    replaced: Vec<RunId>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    run_id: RunId,
    /// The manager's number for its connection; `None` once that is closed.
    connection: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum IdentityVerdict {
    /// Nobody else is connected.
    Admit,
    /// Let it in and close this older connection: of the same run, or of one that it replaces.
    Replace { connection: u64 },
    /// Two running agents use the identity: refuse this one, and tell it. The holder stays on `connection`.
    Duplicate { connection: u64 },
}

impl Holder {
    /// Older runs than this many are forgotten. Two copies alternate, so the one that returns is among the newest.
    const REPLACED_MAX: usize = 8;

    /// A hello of `run_id` came on `connection`. A repeated hello of the same connection is admitted again.
    pub fn hello(&mut self, run_id: RunId, connection: u64) -> IdentityVerdict {
        let holder = self.current.and_then(|run| Some((run.run_id, run.connection?)));
        match holder {
            Some((current, connection)) if current != run_id && self.replaced.contains(&run_id) => {
                return IdentityVerdict::Duplicate { connection };
            }
            _ => {}
        }
        if let Some(old) = self.current.filter(|old| old.run_id != run_id) {
            self.replaced.retain(|replaced| *replaced != run_id);
            self.replaced.push(old.run_id);
            let surplus = self.replaced.len().saturating_sub(Self::REPLACED_MAX);
            self.replaced.drain(..surplus);
        }
        self.current = Some(Run { run_id, connection: Some(connection) });
        match holder {
            Some((_, old)) if old != connection => IdentityVerdict::Replace { connection: old },
            _ => IdentityVerdict::Admit,
        }
    }

    /// `connection` is closed. Of no account if another has taken its place.
    pub fn closed(&mut self, connection: u64) {
        if let Some(run) = &mut self.current
            && run.connection == Some(connection)
        {
            run.connection = None;
        }
    }

    /// The connection that speaks for the agent.
    pub fn connection(&self) -> Option<u64> {
        self.current.and_then(|run| run.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RunId = RunId([1; 16]);
    const B: RunId = RunId([2; 16]);

    #[test]
    fn a_reconnect_and_a_restart_are_let_in() {
        let mut holder = Holder::default();
        assert_eq!(holder.hello(A, 1), IdentityVerdict::Admit);
        assert_eq!(holder.hello(A, 1), IdentityVerdict::Admit);
        assert_eq!(holder.hello(A, 2), IdentityVerdict::Replace { connection: 1 });
        holder.closed(1);
        assert_eq!(holder.connection(), Some(2));
        holder.closed(2);
        assert_eq!(holder.hello(A, 3), IdentityVerdict::Admit);
        assert_eq!(holder.hello(B, 4), IdentityVerdict::Replace { connection: 3 });
        holder.closed(4);
        assert_eq!(holder.hello(B, 5), IdentityVerdict::Admit);
    }

    #[test]
    fn a_replaced_run_that_returns_is_a_second_agent() {
        let mut holder = Holder::default();
        assert_eq!(holder.hello(A, 1), IdentityVerdict::Admit);
        assert_eq!(holder.hello(B, 2), IdentityVerdict::Replace { connection: 1 });
        holder.closed(1);
        assert_eq!(holder.hello(A, 3), IdentityVerdict::Duplicate { connection: 2 });
        assert_eq!(holder.connection(), Some(2));
        // While the newer one is away the older is let in, and then the newer one is the one that returns.
        holder.closed(2);
        assert_eq!(holder.hello(A, 4), IdentityVerdict::Admit);
        assert_eq!(holder.hello(B, 5), IdentityVerdict::Duplicate { connection: 4 });
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut holder = Holder::default();
        for run in 0..100 {
            let _ = holder.hello(RunId([run; 16]), u64::from(run));
        }
        assert_eq!(holder.replaced.len(), Holder::REPLACED_MAX);
        assert_eq!(holder.hello(RunId([98; 16]), 200), IdentityVerdict::Duplicate { connection: 99 });
    }
}
