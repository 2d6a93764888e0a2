//! The ways out: one task for each `[[delivery]]`, which brings what the ledger has to its destination.
//!
//! The spool is the ledger. A task reads after its cursor, oldest first, in batches that are bounded; sends; and moves the
//! cursor when the destination has taken the batch. So a crash at any moment sends some messages twice (with the same ids)
//! and loses none, and a destination that hangs holds back nobody but itself. The cursors are in a book of their own
//! (`tally_store::DeliveryBook`), written here alone; nothing waits for the ingest thread, and it waits for nothing here.

mod backoff;
mod batch;
mod driver;
mod over;
mod review;
mod select;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tally_delivery::{Destination, Sent};
use tally_proto::json::{DeliveryStatus, Review, ReviewPart};
use tally_store::{DeadLetter, DeliveryBook, DeliveryState, Filter, Reader, StoreError};
use tally_types::{Life, Timestamp, did_you_mean};
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, watch};

use crate::clock::wall;
use crate::config::Delivery;
use crate::ingest::ORDER_TIME_MAX;
use crate::input::Input;
use crate::order::{Order, Reply};
use crate::queue::Inlet;

pub use backoff::FIRST as RETRY_FIRST;
pub use review::{Source, review};
pub use select::Select;

use driver::Driver;

/// How long a test of a destination may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a batch that is under way may take at the end.
const FAREWELL: Duration = Duration::from_secs(3);
/// Dead letters that are shown at once.
const DEAD_SHOWN_MAX: u64 = 1000;

/// The mark that says until when the last review goes, in microseconds.
const REVIEWED: &str = "reviewed_until";
/// A mark that is later than this from now comes from a clock that was wrong.
const REVIEW_AHEAD_MAX_US: i64 = 26 * 3600 * 1_000_000;

/// What all tasks share.
struct Shared {
    reader: Reader,
    book: Mutex<DeliveryBook>,
    /// The host's name.
    manager: Arc<str>,
    /// Of the ledger: the first part of each message's id.
    ledger: Arc<str>,
    inlet: Inlet<Input>,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, DeliveryBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From when on the next review goes.
    fn review_from(&self, name: &str, now: Timestamp) -> Result<Timestamp, StoreError> {
        let mut book = self.book();
        if let Some(until) = book.mark(name, REVIEWED)?.map(Timestamp)
            && until.since(now) < REVIEW_AHEAD_MAX_US
        {
            return Ok(until);
        }
        book.set_marks(name, &[(REVIEWED, now.micros())])?;
        Ok(now)
    }

    /// A review of the hosts that `select` names.
    fn review(
        &self,
        select: &Select,
        parts: &[ReviewPart],
        time: (Timestamp, Timestamp),
    ) -> Result<Review, StoreError> {
        let states = self.book().all()?;
        let deliveries: Vec<_> = states.iter().map(|state| status_of(state, "", (0, None))).collect();
        let source = Source {
            reader: &self.reader,
            ledger: &self.ledger,
            manager: self.manager.clone(),
            deliveries: &deliveries,
        };
        review(&source, select, parts, time)
    }

    /// Puts an event of the manager's own life on record; whether that was done. It waits for the ingest thread.
    fn record(&self, life: Life) -> bool {
        let (reply, replied) = mpsc::channel();
        let order = Order::Notice { life };
        let sent = self.inlet.send_uncounted(Input::Order { order, reply }).is_ok();
        sent && matches!(replied.recv_timeout(ORDER_TIME_MAX), Ok(Reply::Done(_)))
    }
}

/// One delivery, as its task and operators share it.
struct Line {
    config: Delivery,
    /// Told when somebody changed something of it.
    wake: Notify,
    /// Whether its destination has what comes wait for now, as the settings want it.
    is_held: AtomicBool,
    /// Why its place cannot be read or noted, as long as that is so: a full disk, perhaps.
    stuck: Mutex<Option<String>>,
}

/// All deliveries. Cheap to clone.
#[derive(Clone)]
pub struct Deliveries {
    shared: Arc<Shared>,
    lines: Arc<[Arc<Line>]>,
}

/// What `start` needs.
pub struct Parts<'p> {
    pub config: &'p [Delivery],
    pub book: DeliveryBook,
    pub reader: Reader,
    pub inlet: Inlet<Input>,
    pub manager: String,
    /// The ledger's public key: `NAME+ID+KEY`.
    pub ledger_key: &'p str,
    /// Where a new delivery begins.
    pub ledger_size: u64,
    pub news: &'p broadcast::Sender<tally_web::Live>,
    pub runtime: &'p Handle,
}

/// The tasks at work.
pub struct RunningDeliveries {
    stopping: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Deliveries {
    /// Begins to deliver.
    pub fn start(mut parts: Parts<'_>) -> Result<(Self, RunningDeliveries), StoreError> {
        let now = wall();
        let names: Vec<_> = parts.config.iter().map(|delivery| &*delivery.name).collect();
        for gone in parts.book.keep_only(&names, now)? {
            tracing::warn!(delivery = %gone.name, cursor = gone.cursor, "a delivery is gone from the configuration; its place is kept");
        }
        for delivery in parts.config {
            let from = if delivery.from_start { 0 } else { parts.ledger_size };
            let (state, is_new) = parts.book.begin(&delivery.name, delivery.settings.kind().name(), from, now)?;
            tracing::info!(delivery = delivery.name, cursor = state.cursor, is_new, "a delivery begins");
        }
        let shared = Arc::new(Shared {
            reader: parts.reader,
            book: Mutex::new(parts.book),
            manager: parts.manager.into(),
            ledger: ledger_name(parts.ledger_key).into(),
            inlet: parts.inlet,
        });
        let line = |config: &Delivery| {
            Arc::new(Line {
                config: config.clone(),
                wake: Notify::new(),
                is_held: AtomicBool::new(false),
                stuck: Mutex::default(),
            })
        };
        let lines: Arc<[_]> = parts.config.iter().map(line).collect();
        let (stopping, stop) = watch::channel(false);
        let task = |line: &Arc<Line>| {
            let driver = Driver::new(shared.clone(), line.clone(), parts.news.subscribe(), stop.clone());
            parts.runtime.spawn(driver.run())
        };
        let tasks = lines.iter().map(task).collect();
        Ok((Self { shared, lines }, RunningDeliveries { stopping, tasks }))
    }

    /// How each is, in the order of the configuration; then those that are gone from it.
    pub fn status(&self) -> Result<Vec<DeliveryStatus>, StoreError> {
        let states = self.shared.book().all()?;
        let mut all = Vec::new();
        for line in self.lines.iter() {
            let Some(state) = states.iter().find(|state| *state.name == *line.config.name) else { continue };
            let waiting = self.waiting(line, state)?;
            let target = line.config.settings.target();
            let status = status_of(state, &target, waiting);
            let stuck = line.stuck.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let is_held = status.state == "working" && line.is_held.load(Ordering::Relaxed);
            all.push(match stuck {
                Some(why) => DeliveryStatus { state: "failing", last_error: Some(why.into()), ..status },
                None => DeliveryStatus { state: if is_held { "held" } else { status.state }, ..status },
            });
        }
        let gone = states.iter().filter(|state| state.removed.is_some());
        all.extend(gone.map(|state| status_of(state, "", (0, None))));
        Ok(all)
    }

    /// For the console.
    pub fn source(&self) -> tally_web::DeliverySource {
        let own = self.clone();
        Arc::new(move || own.status())
    }

    /// How many messages wait, near enough: of the filters only the level counts here.
    fn waiting(&self, line: &Line, state: &DeliveryState) -> Result<(u64, Option<Timestamp>), StoreError> {
        let select = &line.config.select;
        self.shared.reader.count_from(state.cursor, !line.config.events, select.min_level)
    }

    /// What of them an operator should know.
    pub fn problems(statuses: &[DeliveryStatus]) -> Vec<String> {
        let failing = statuses.iter().filter(|status| status.state == "failing").map(|status| {
            let since = status.failing_since.map_or_else(String::new, |since| format!(" since {since}"));
            let why = status.last_error.as_deref().unwrap_or("no reason is known");
            format!(
                "Delivery {} fails{since}: {}. {} messages wait.",
                status.name,
                tally_proto::sentence::shown(why),
                status.waiting
            )
        });
        let dead = statuses.iter().filter(|status| status.dead > 0).map(|status| {
            format!(
                "Delivery {}: its destination refused {} messages for good. See \"tally delivery replay {} dead\".",
                status.name, status.dead, status.name
            )
        });
        failing.chain(dead).collect()
    }

    fn line(&self, name: &str) -> Result<&Arc<Line>, String> {
        self.lines.iter().find(|line| *line.config.name == *name).ok_or_else(|| {
            let near = did_you_mean(name, self.lines.iter().map(|line| &*line.config.name));
            let shown: String = name.chars().take(64).collect();
            format!("there is no delivery \"{shown}\"{near}: \"tally delivery list\" shows them")
        })
    }

    /// Stops or goes on.
    pub fn pause(&self, name: &str, is_paused: bool) -> Result<(), String> {
        let line = self.line(name)?;
        self.shared.book().pause(name, is_paused).map_err(|error| error.to_string())?;
        line.wake.notify_one();
        Ok(())
    }

    /// Delivers again what is from `since` on, after which it goes on as ever. From which number, if there is anything.
    pub fn replay_since(&self, name: &str, since: Timestamp) -> Result<Option<u64>, String> {
        let line = self.line(name)?;
        let filter = Filter { since: Some(since), oldest_first: true, limit: Some(1), ..Filter::default() };
        let mut first = None;
        let reader = &self.shared.reader;
        let found = if line.config.events {
            reader.events(&filter, &mut |row| {
                first = Some(row.index);
                std::ops::ControlFlow::Break(())
            })
        } else {
            reader.alerts(&filter, &mut |row| {
                first = Some(row.index);
                std::ops::ControlFlow::Break(())
            })
        };
        found.map_err(|error| error.to_string())?;
        if let Some(first) = first {
            self.shared.book().rewind(name, first).map_err(|error| error.to_string())?;
            line.wake.notify_one();
        }
        Ok(first)
    }

    /// What was refused for good, the oldest first.
    pub fn dead(&self, name: &str) -> Result<Vec<DeadLetter>, String> {
        self.line(name)?;
        self.shared.book().dead(name, false, DEAD_SHOWN_MAX).map_err(|error| error.to_string())
    }

    /// Tries what was refused for good once more.
    pub fn retry_dead(&self, name: &str) -> Result<u64, String> {
        let line = self.line(name)?;
        let count = self.shared.book().retry_dead(name).map_err(|error| error.to_string())?;
        line.wake.notify_one();
        Ok(count)
    }

    /// What happened from one moment until another, with all that a review tells.
    pub fn review(&self, time: (Timestamp, Timestamp)) -> Result<Review, StoreError> {
        self.shared.review(&Select::default(), &ReviewPart::ALL, time)
    }

    /// Sends one message that says that it is a test. Not from within a task of tokio's.
    pub fn test(&self, name: &str) -> Result<String, String> {
        let line = self.line(name)?;
        let message = batch::test_message(&self.shared, name, wall());
        let mut destination = Destination::new(&line.config.settings);
        let sent = Handle::current().block_on(async {
            let sent = tokio::time::timeout(TEST_TIME_MAX, destination.send(std::slice::from_ref(&message))).await;
            destination.close().await;
            sent
        });
        match sent {
            Ok(Sent::Done { refused }) if refused.is_empty() => {
                Ok(format!("{} took the message {}", line.config.settings.target(), message.id))
            }
            Ok(Sent::Done { refused }) => Err(refused.into_iter().map(|(_, why)| why).collect()),
            Ok(Sent::Refused { why } | Sent::Again { why, .. } | Sent::Later { why, .. } | Sent::Wrong { why }) => {
                Err(why)
            }
            Err(_) => Err(format!("no answer within {} s", TEST_TIME_MAX.as_secs())),
        }
    }
}

impl RunningDeliveries {
    /// Ends all tasks; what is under way gets a moment.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        let all = async {
            for task in self.tasks {
                if task.await.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a delivery ended in a panic");
                }
            }
        };
        // A batch that is cut off here is sent again at the next start.
        let _ = tokio::time::timeout(FAREWELL, all).await;
    }
}

/// `NAME+ID+KEY` as the first part of an id: `NAME-ID`.
pub fn ledger_name(key: &str) -> String {
    let mut parts = key.split('+');
    let (name, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let word = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' }).collect()
    };
    format!("{}-{}", word(name), word(id))
}

/// One delivery as it is told.
pub fn status_of(state: &DeliveryState, target: &str, waiting: (u64, Option<Timestamp>)) -> DeliveryStatus {
    let word = if state.removed.is_some() {
        "removed"
    } else if state.is_paused {
        "paused"
    } else if state.failing_since.is_some() {
        "failing"
    } else {
        "working"
    };
    DeliveryStatus {
        name: state.name.clone(),
        kind: state.kind.clone(),
        target: target.into(),
        state: word,
        waiting: waiting.0,
        oldest_waiting: waiting.1,
        sent: state.sent,
        dead: state.dead,
        last_success: state.last_success,
        last_error: state.last_error.clone(),
        last_error_at: state.last_error_at,
        failing_since: state.failing_since,
    }
}
