//! The next messages of a delivery, from the rows of the ledger's projection.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use tally_delivery::{AgentFacts, AlertPart, BatchLimits, Cloud, Message, Resolves};
use tally_store::{Agent, AlertRow, EventRow, Filter, Reader, StoreError};
use tally_types::{AgentId, Epoch, Event, EventBody, EventId, Level, Life, RuleId, RuleMatch, Timestamp, Verdict};

use super::{Select, Shared, over};
use crate::config::Delivery;
use crate::ingest::MANAGER_NAME;
use crate::input::event_bytes;

/// Of an account, a region, an instance, as a host tells them.
const CLOUD_NAME_BYTES_MAX: usize = 64;
/// Rows that are looked at before the cursor moves, where most of them are of no account for this delivery; of one that
/// gathers more, as many as it gathers.
const ROWS_MAX: u64 = 5000;

/// Messages in the order of the ledger.
pub struct Batch {
    pub messages: Vec<Message>,
    /// The first number that is not part of it.
    pub next: u64,
    /// Whether there may be more already.
    pub is_more: bool,
}

/// Reads what is from number `cursor` on. It reads the database, on a thread that may wait.
pub fn read(shared: &Shared, config: &Delivery, cursor: u64, limits: BatchLimits) -> Result<Batch, StoreError> {
    let (events, select) = (config.events, &config.select);
    // Before the rows: what is added meanwhile may be among them or not.
    let size = shared.reader.ledger_state()?.size;
    let level_min = select.min_level.filter(|level| level.value() > 0);
    let rows_max = ROWS_MAX.max(limits.count_max as u64);
    let filter = Filter {
        after: cursor.checked_sub(1),
        before: Some(size),
        oldest_first: true,
        limit: Some(rows_max),
        level_min,
        ..Filter::default()
    };
    let mut gatherer = Gatherer { writer: Writer::of(shared), select, limits, batch: Vec::new(), bytes: 0, rows: 0 };
    let mut next = None;
    let mut failed = None;
    let mut each =
        |index: u64, make: &mut dyn FnMut(&mut Gatherer<'_>) -> Result<Message, StoreError>| match make(&mut gatherer)
            .map(|message| gatherer.take(message))
        {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => {
                next = Some(index);
                ControlFlow::Break(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
    let mut last = cursor;
    if events {
        shared.reader.events(&filter, &mut |row| {
            last = row.index + 1;
            each(row.index, &mut |gatherer| gatherer.writer.event(&row))
        })?;
    } else {
        shared.reader.alerts(&filter, &mut |row| {
            last = row.index + 1;
            each(row.index, &mut |gatherer| gatherer.writer.alert(&row))
        })?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let is_all = next.is_none() && gatherer.rows < rows_max;
    let next = next.unwrap_or(if is_all { size.max(cursor) } else { last });
    let mut messages = gatherer.batch;
    let resolves = if events { Resolves::Nothing } else { config.settings.resolves() };
    if resolves != Resolves::Nothing {
        over::add(shared, select, resolves, cursor..next, &mut messages)?;
    }
    Ok(Batch { messages, next, is_more: !is_all })
}

/// The messages with these numbers, as far as they are still there.
pub fn by_number(shared: &Shared, events: bool, numbers: &[u64]) -> Result<Vec<Message>, StoreError> {
    let select = Select::default();
    let limits = BatchLimits { count_max: usize::MAX, bytes_max: usize::MAX, ..BatchLimits::default() };
    let mut gatherer =
        Gatherer { writer: Writer::of(shared), select: &select, limits, batch: Vec::new(), bytes: 0, rows: 0 };
    for number in numbers {
        let message = if events {
            shared.reader.event_at(*number)?.map(|row| gatherer.writer.event(&row)).transpose()?
        } else {
            shared.reader.alert_at(*number)?.map(|row| gatherer.writer.alert(&row)).transpose()?
        };
        if let Some(message) = message {
            gatherer.take(message);
        }
    }
    Ok(gatherer.batch)
}

struct Gatherer<'g> {
    writer: Writer<'g>,
    select: &'g Select,
    limits: BatchLimits,
    batch: Vec<Message>,
    bytes: usize,
    rows: u64,
}

impl Gatherer<'_> {
    /// Whether it fits in, or is none of ours.
    fn take(&mut self, message: Message) -> bool {
        self.rows += 1;
        if !self.select.passes(&message) {
            return true;
        }
        let bytes = event_bytes(&message.event);
        let is_full = self.batch.len() >= self.limits.count_max || self.bytes + bytes > self.limits.bytes_max;
        if is_full && !self.batch.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.batch.push(message);
        true
    }
}

/// Makes messages of rows, with what is known of their hosts.
pub(super) struct Writer<'w> {
    reader: &'w Reader,
    /// The ledger's name, and the manager's host.
    ledger: &'w str,
    manager: Arc<str>,
    agents: HashMap<AgentId, Arc<AgentFacts>>,
}

impl<'w> Writer<'w> {
    pub fn new(reader: &'w Reader, ledger: &'w str, manager: Arc<str>) -> Self {
        Self { reader, ledger, manager, agents: HashMap::new() }
    }

    pub fn of(shared: &'w Shared) -> Self {
        Self::new(&shared.reader, &shared.ledger, shared.manager.clone())
    }

    pub fn alert(&mut self, row: &AlertRow) -> Result<Message, StoreError> {
        Ok(Message {
            id: self.id(row.index),
            index: row.index,
            event_id: row.alert.event_id,
            event_index: row.event_index,
            event: Arc::new(row.alert.event.clone()),
            alert: Some(AlertPart { rule: row.alert.rule.clone(), time: row.alert.time }),
            agent: self.agent(row.about)?,
            manager: self.manager.clone(),
            received: row.received,
            verdict: row.verdict,
            is_over: false,
        })
    }

    fn event(&mut self, row: &EventRow) -> Result<Message, StoreError> {
        Ok(Message {
            id: self.id(row.index),
            index: row.index,
            event_id: row.id,
            event_index: row.index,
            event: Arc::new(row.event.clone()),
            alert: None,
            agent: self.agent(row.about)?,
            manager: self.manager.clone(),
            received: row.received,
            verdict: row.verdict,
            is_over: false,
        })
    }

    fn id(&self, index: u64) -> Arc<str> {
        format!("{}/{index}", self.ledger).into()
    }

    fn agent(&mut self, id: AgentId) -> Result<Arc<AgentFacts>, StoreError> {
        if let Some(facts) = self.agents.get(&id) {
            return Ok(facts.clone());
        }
        let facts = match self.reader.agent(id)? {
            Some(agent) => facts(agent),
            None if id == AgentId::MANAGER => AgentFacts {
                id,
                name: MANAGER_NAME.into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..AgentFacts::default()
            },
            None => AgentFacts { id, name: id.to_string().into(), ..AgentFacts::default() },
        };
        Ok(self.agents.entry(id).or_insert(Arc::new(facts)).clone())
    }
}

/// What is known of an agent and its host.
fn facts(agent: Agent) -> AgentFacts {
    let known = |word: &Arc<str>| (!word.is_empty()).then(|| word.clone());
    // They become names of accounts, roles and objects: what is not made like one is none.
    let is_name = |word: &&Arc<str>| {
        word.len() <= CLOUD_NAME_BYTES_MAX && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    let named = |word: &Arc<str>| Some(word).filter(|word| !word.is_empty()).filter(is_name).cloned();
    let host = agent.told.and_then(|told| told.host).unwrap_or_default();
    let cloud = host.cloud.as_ref().map(|place| Cloud {
        provider: named(&place.provider).unwrap_or_else(|| "unknown".into()),
        account: named(&place.account),
        region: named(&place.region),
        zone: named(&place.zone),
        instance: named(&place.instance),
        image: named(&place.image),
        machine: named(&place.machine),
    });
    AgentFacts {
        id: agent.id,
        name: agent.name,
        group: agent.group,
        version: agent.version,
        hostname: known(&host.name),
        address: host.addresses.first().cloned(),
        addresses: host.addresses.into(),
        os: known(&host.os),
        kernel: known(&host.kernel),
        architecture: known(&host.architecture),
        cloud,
    }
}

/// A message that is none of the ledger's, to see whether a destination takes one.
pub(super) fn test_message(shared: &Shared, delivery: &str, now: Timestamp) -> Message {
    let detail = format!("this is a test of the delivery {delivery}, asked for by an operator");
    let life = Life::Missed { detail: detail.into() };
    let event = Event { epoch: Epoch(0), seq: 0, time: now, body: EventBody::Life(life) };
    let rule = RuleMatch {
        id: RuleId(0),
        level: Level::default(),
        description: "A test of this delivery: nothing has happened.".into(),
        groups: ["test".into()].into(),
        pci_dss: [].into(),
    };
    Message {
        id: format!("{}/test-{}", shared.ledger, now.micros()).into(),
        index: 0,
        event_id: EventId { agent: AgentId::MANAGER, epoch: Epoch(0), seq: 0 },
        event_index: 0,
        event: Arc::new(event),
        alert: Some(AlertPart { rule, time: now }),
        agent: Arc::new(AgentFacts { name: MANAGER_NAME.into(), ..AgentFacts::default() }),
        manager: shared.manager.clone(),
        received: now,
        verdict: Verdict::default(),
        is_over: false,
    }
}
