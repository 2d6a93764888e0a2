//! How the agent stands after its last commit: written by the engine, read by whoever tells the manager.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tally_proto::limit::LOGS_MAX;
use tally_proto::message::Status;
use tally_types::PathBytes;

use crate::budget::Budget;
use crate::health::Health;
use crate::report::{LastScan, Manager};

pub struct Board {
    posted: Mutex<Posted>,
    changed: Condvar,
    budget: Arc<Budget>,
    health: Arc<Health>,
    for_reports: Mutex<ForReports>,
    changed_logs: Mutex<ChangedLogs>,
    unsealed_logs: Mutex<BTreeSet<PathBytes>>,
}

/// Logs whose seals were committed since they were last asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangedLogs {
    Some(BTreeSet<PathBytes>),
    /// More than are worth counting, or it is not known which.
    All,
}

impl Default for ChangedLogs {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

/// What only a report tells.
#[derive(Default)]
struct ForReports {
    last_scan: Option<LastScan>,
    manager: Manager,
}

struct Posted {
    status: Status,
    /// Counts up with each change.
    version: u64,
    /// Orders that are known here, of which the manager is not told yet.
    orders: Vec<u64>,
    closed: bool,
}

impl Board {
    pub fn new(status: Status, budget: Arc<Budget>, health: Arc<Health>) -> Self {
        let posted = Mutex::new(Posted { status, version: 0, orders: Vec::new(), closed: false });
        let for_reports = ForReports { manager: manager(false, "not tried yet"), ..ForReports::default() };
        Self {
            posted,
            changed: Condvar::new(),
            budget,
            health,
            for_reports: Mutex::new(for_reports),
            changed_logs: Mutex::default(),
            unsealed_logs: Mutex::default(),
        }
    }

    /// These logs are still to be sealed for the first time: until then they have no seals to be told of.
    pub fn logs_unsealed(&self, paths: impl Iterator<Item = PathBytes>) {
        *self.unsealed() = paths.collect();
    }

    pub fn unsealed(&self) -> MutexGuard<'_, BTreeSet<PathBytes>> {
        self.unsealed_logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seals of these logs were committed.
    pub fn logs_changed<'p>(&self, paths: impl Iterator<Item = &'p PathBytes> + Clone) {
        {
            let mut unsealed = self.unsealed();
            if !unsealed.is_empty() {
                for path in paths.clone() {
                    unsealed.remove(path);
                }
            }
        }
        let mut changed = self.changed_logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let ChangedLogs::Some(some) = &mut *changed {
            some.extend(paths.cloned());
            if some.len() > LOGS_MAX {
                *changed = ChangedLogs::All;
            }
        }
    }

    /// Everything was sealed anew.
    pub fn all_logs_changed(&self) {
        *self.changed_logs.lock().unwrap_or_else(PoisonError::into_inner) = ChangedLogs::All;
    }

    pub fn take_changed_logs(&self) -> ChangedLogs {
        std::mem::take(&mut self.changed_logs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn scanned(&self, scan: LastScan) {
        self.for_reports().last_scan = Some(scan);
    }

    pub fn last_scan(&self) -> Option<LastScan> {
        self.for_reports().last_scan.clone()
    }

    /// The manager knows this agent by this name.
    pub fn connected(&self, name: &str) {
        self.for_reports().manager = manager(true, name);
    }

    pub fn disconnected(&self, why: &str) {
        self.for_reports().manager = manager(false, why);
    }

    pub fn manager(&self) -> Manager {
        self.for_reports().manager.clone()
    }

    fn for_reports(&self) -> MutexGuard<'_, ForReports> {
        self.for_reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, status: Status) {
        let mut posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        posted.status = status;
        posted.version += 1;
        drop(posted);
        self.changed.notify_all();
    }

    /// The manager is to hear that this order is known: it says each again until then, so few can be here.
    pub fn order_taken(&self, id: u64) {
        let mut posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        if !posted.orders.contains(&id) {
            posted.orders.push(id);
        }
        posted.version += 1;
        drop(posted);
        self.changed.notify_all();
    }

    pub fn take_orders(&self) -> Vec<u64> {
        std::mem::take(&mut self.posted.lock().unwrap_or_else(PoisonError::into_inner).orders)
    }

    /// The newest status, as of this moment.
    pub fn status(&self) -> Status {
        let mut status = self.posted.lock().unwrap_or_else(PoisonError::into_inner).status.clone();
        status.time = crate::engine::now();
        status.usage = self.budget.usage();
        // An engine that hangs cannot record that it does: the heartbeat says so.
        let impaired =
            self.health.faults().into_iter().map(|(part, detail)| format!("rely on its {}: {detail}", part.name()));
        status.cannot.extend(impaired.map(Into::into));
        status
    }

    /// Waits for a status newer than `version`; its version and itself, or `None` when there will be none.
    pub fn newer_than(&self, version: u64) -> Option<(u64, Status)> {
        let posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        let posted = self
            .changed
            .wait_while(posted, |p| p.version <= version && !p.closed)
            .unwrap_or_else(PoisonError::into_inner);
        (posted.version > version).then(|| (posted.version, posted.status.clone()))
    }

    /// Ends every wait.
    pub fn close(&self) {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }
}

fn manager(connected: bool, detail: &str) -> Manager {
    Manager { connected, detail: detail.to_owned() }
}
