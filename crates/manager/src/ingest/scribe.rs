//! Writes records into a transaction, with the alerts that the rules make of them.

mod ossec;

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_proto::Record;
use tally_proto::json::{self, Origin};
use tally_rules::{Analysis, Decision, Decoded, ReadLine, Subject};
use tally_snapshot::NodeHash;
use tally_store::{Report, StoreError, Stored, Transaction};
use tally_types::{
    AdminAct, AgentId, Alert, Decoding, Event, EventBody, EventId, Level, Life, LogLine, RuleMatch, Timestamp, Verdict,
};

use super::Work;
use super::ahead::{Ahead, Unread};
use crate::archive::Archive;
use crate::fleet::Member;
use crate::live::{Live, Shown};
use crate::response::Trigger;

pub struct Scribe<'s, 'i> {
    tx: Transaction<'s>,
    analysis: &'i mut Analysis,
    fleet: &'i BTreeMap<AgentId, Member>,
    alert_level: Level,
    now: Timestamp,
    /// So many more alerts are shown to whoever watches them; those beyond are counted.
    feed_room: usize,
    not_shown: u64,
    shown: Vec<Shown>,
    changes: u64,
    /// Alerts that may have responses; `None` where there are no responses at all.
    triggers: Option<Vec<Trigger>>,
    /// Where every event goes, if anywhere.
    archive: Option<&'i mut Archive>,
    /// The snapshots of agents of OSSEC's as they were at the beginning.
    roots: BTreeMap<AgentId, NodeHash>,
    /// Lines that a second thread reads, if one does.
    ahead: Option<Ahead>,
    /// The line at hand, as that thread read it.
    read: Option<ReadLine>,
}

/// What is left to do with what was written.
pub struct Finished<'s> {
    /// To be committed, before the rest.
    pub tx: Transaction<'s>,
    pub shown: Vec<Shown>,
    /// Alerts that have no object for whoever watches.
    pub not_shown: u64,
    /// How many changes there are.
    pub changes: u64,
    pub triggers: Vec<Trigger>,
}

impl<'s, 'i> Scribe<'s, 'i> {
    pub fn new(
        tx: Transaction<'s>,
        analysis: &'i mut Analysis,
        fleet: &'i BTreeMap<AgentId, Member>,
        live: &Live,
        alert_level: Level,
        now: Timestamp,
    ) -> Self {
        let feed_room = live.feed.room(now);
        Self {
            tx,
            analysis,
            fleet,
            alert_level,
            now,
            feed_room,
            not_shown: 0,
            shown: Vec::new(),
            changes: 0,
            triggers: None,
            archive: None,
            roots: BTreeMap::new(),
            ahead: None,
            read: None,
        }
    }

    /// Has every event archived.
    pub fn archived_in(self, archive: Option<&'i mut Archive>) -> Self {
        Self { archive, ..self }
    }

    pub const fn tx(&mut self) -> &mut Transaction<'s> {
        &mut self.tx
    }

    /// Whether alerts are to be told to whoever runs responses.
    pub fn answers_alerts(&mut self, answers: bool) {
        self.triggers = answers.then(Vec::new);
    }

    pub fn finish(self) -> Finished<'s> {
        let triggers = self.triggers.unwrap_or_default();
        Finished { tx: self.tx, shown: self.shown, not_shown: self.not_shown, changes: self.changes, triggers }
    }

    /// The same as [`Self::write`], with the lines of [`unread`] as another thread reads them.
    pub fn write_read(&mut self, work: &[Work], ahead: Option<Ahead>) -> Result<(), StoreError> {
        self.ahead = ahead;
        self.write(work)
    }

    pub fn write(&mut self, work: &[Work]) -> Result<(), StoreError> {
        work.iter().try_for_each(|work| match work {
            Work::Record(record) => {
                if line_of(record).is_some() {
                    self.take_read();
                }
                self.record(record)
            }
            Work::Report { about, seen_at, status, has_new_words } => {
                let report = Report { seen_at: *seen_at, status, has_new_words: *has_new_words };
                self.tx.set_report(*about, &report)
            }
            Work::State(about, state) => self.tx.set_state(*about, *state),
            Work::Policy { about, digest, policy } => {
                self.tx.set_policy_in_use(*about, digest, &policy.text, &policy.origin)
            }
            Work::Log { about, log, first, leaves } => self.tx.put_log(*about, log, *first, leaves),
            Work::ForgetLog { about, path } => self.tx.forget_log(*about, path),
            Work::EqualAt(about, at) => self.tx.set_equal_at(*about, *at),
            Work::KeepOrder(order) => self.tx.keep_order(order),
            Work::ForgetOrder(id) => self.tx.forget_order(*id),
            Work::Ossec(work) => self.ossec(work),
        })
    }

    /// Appends a record; an event is put before the rules.
    pub fn record(&mut self, record: &Record) -> Result<(), StoreError> {
        let Record::Event { id, about, received, event } = record else {
            return self.tx.append(record).map(drop);
        };
        if let EventBody::Log(line) = &event.body {
            return self.log_line(*id, *about, *received, event, line);
        }
        let times_changed = match &event.body {
            EventBody::Change(change) => self.tx.times_changed(*about, &change.path)?,
            EventBody::Life(_) | EventBody::Log(_) => 0,
        };
        let index = match self.tx.append(record) {
            Ok(Stored::Now(index)) => index,
            Ok(Stored::Before) => return Ok(()),
            // It was removed while its last events were on their way.
            Err(StoreError::NoSuchAgent(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.changes += u64::from(matches!(event.body, EventBody::Change(_)));
        let name = self.name(*about, event);
        let subject = Subject { about: *about, agent_name: &name, event, times_changed, now: *received };
        let found = self.analysis.engine.evaluate(&subject).filter(|found| self.is_alert(found));
        if let Some(archive) = &mut self.archive {
            archive.put(*about, &name, *received, event, found.as_ref());
        }
        let origin = Origin { id: *id, about: *about, agent_name: &name, ledger_index: Some(index) };
        self.show(origin, found, index, event)
    }

    /// A line of a log is put before the rules first: only what is an alert is worth a record, of the rest the number alone is
    /// remembered.
    fn log_line(
        &mut self,
        id: EventId,
        about: AgentId,
        received: Timestamp,
        event: &Event,
        line: &LogLine,
    ) -> Result<(), StoreError> {
        match self.tx.is_new(id) {
            Ok(true) => {}
            Ok(false) | Err(StoreError::NoSuchAgent(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let name = self.name(about, event);
        let found = self.judge(about, received, line);
        if found.is_none() && self.archive.is_none() {
            return self.tx.pass_over(id);
        }
        let decoding = decoding(self.read.as_ref().map_or_else(|| self.analysis.decoded(), ReadLine::decoded));
        let body = EventBody::Log(Box::new(LogLine { decoding: Some(Box::new(decoding)), ..line.clone() }));
        let event = Event { body, ..event.clone() };
        if let Some(archive) = &mut self.archive {
            archive.put(about, &name, received, &event, found.as_ref());
        }
        let Some(found) = found else { return self.tx.pass_over(id) };
        let index = match self.tx.append(&Record::Event { id, about, received, event: event.clone() }) {
            Ok(Stored::Now(index)) => index,
            Ok(Stored::Before) | Err(StoreError::NoSuchAgent(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let origin = Origin { id, about, agent_name: &name, ledger_index: Some(index) };
        self.show(origin, Some(found), index, &event)
    }

    /// The rule that a line is, if that is an alert. Where it comes from is told to the rules as OSSEC tells it.
    fn judge(&mut self, about: AgentId, received: Timestamp, line: &LogLine) -> Option<RuleMatch> {
        let outcome = match &mut self.read {
            Some(read) => self.analysis.decide(read),
            None => self.analysis.line(&line.text, &location(self.fleet, about, &line.location), received),
        };
        let rule = self.analysis.engine.rule(&outcome).filter(|_| outcome.decision == Decision::Alert)?;
        let found = rule.outcome().clone();
        self.is_alert(&found).then_some(found)
    }

    /// A line comes: the one that the other thread has read, if one does, and not the one before it.
    pub(super) fn take_read(&mut self) {
        let Some(ahead) = &mut self.ahead else { return };
        if let Some(line) = self.read.take() {
            ahead.done_with(line);
        }
        self.read = ahead.next();
    }

    /// Records the alert, if the event is one, and has it shown to who watches.
    fn show(
        &mut self,
        origin: Origin<'_>,
        found: Option<RuleMatch>,
        index: u64,
        event: &Event,
    ) -> Result<(), StoreError> {
        let (id, about) = (origin.id, origin.about);
        let alert = found.map(|rule| self.alert(id, about, rule, index)).transpose()?;
        let level = alert.as_ref().map(|(_, rule)| rule.level);
        if let (Some(triggers), Some((number, rule))) = (&mut self.triggers, &alert)
            && !self.analysis.engine.options(rule.id).no_ar
        {
            let name = Arc::from(origin.agent_name);
            triggers.extend(Trigger::new(about, &name, self.now, *number, rule, event));
        }
        if alert.is_some() && self.feed_room == 0 {
            self.not_shown += 1;
        }
        let alert = alert.filter(|_| self.feed_room > 0).map(|(alert_index, rule)| {
            self.feed_room -= 1;
            let alert = Alert { event_id: id, rule, time: self.now, event: event.clone() };
            Arc::new(json::alert(origin, &alert, Verdict::Unexplained, Some(alert_index)))
        });
        self.shown.push(Shown { about, level, alert });
        Ok(())
    }

    fn alert(
        &mut self,
        event_id: EventId,
        about: AgentId,
        rule: RuleMatch,
        event_index: u64,
    ) -> Result<(u64, RuleMatch), StoreError> {
        let record = Record::Alert { event_id, about, time: self.now, rule: rule.clone(), event_index };
        match self.tx.append(&record)? {
            Stored::Now(index) => Ok((index, rule)),
            Stored::Before => Err(StoreError::Failed("an alert was taken for one that is known".to_owned())),
        }
    }

    fn is_alert(&self, found: &RuleMatch) -> bool {
        let options = self.analysis.engine.options(found.id);
        found.level.value() > 0 && (found.level >= self.alert_level || options.log_alert) && !options.no_log
    }

    /// An operator's act, or the manager's own.
    pub fn act(&mut self, actor: &Arc<str>, act: AdminAct) -> Result<(), StoreError> {
        self.record(&Record::Admin { time: self.now, actor: actor.clone(), act })
    }

    fn name(&self, about: AgentId, event: &Event) -> Arc<str> {
        match (self.fleet.get(&about), &event.body) {
            (Some(member), _) => member.name.clone(),
            (None, EventBody::Life(Life::Enrolled { name, .. })) => name.clone(),
            (None, _) if about == AgentId::MANAGER => MANAGER_NAME.into(),
            (None, _) => about.to_string().into(),
        }
    }
}

/// The lines that a write of this work comes upon, in its order.
pub fn unread<'w>(work: &'w [Work], fleet: &BTreeMap<AgentId, Member>) -> Vec<Unread<'w>> {
    let mut unread = Vec::new();
    for work in work {
        match work {
            Work::Record(record) => unread.extend(line_of(record).map(|(about, received, line)| Unread {
                text: &line.text,
                location: location(fleet, about, &line.location),
                received,
            })),
            Work::Ossec(work) if fleet.contains_key(&work.about) => unread.extend(ossec::unread(work, fleet)),
            _ => {}
        }
    }
    unread
}

fn line_of(record: &Record) -> Option<(AgentId, Timestamp, &LogLine)> {
    match record {
        Record::Event { about, received, event: Event { body: EventBody::Log(line), .. }, .. } => {
            Some((*about, *received, line))
        }
        _ => None,
    }
}

/// Where a line comes from, as OSSEC tells it to rules: of an agent, by its name and by the address that its key has.
fn location(fleet: &BTreeMap<AgentId, Member>, about: AgentId, location: &Arc<str>) -> Arc<str> {
    match fleet.get(&about) {
        _ if about == AgentId::MANAGER => location.clone(),
        Some(member) => format!("({}) {}->{location}", member.name, member.address()).into(),
        None => format!("({about}) any->{location}").into(),
    }
}

/// The manager's name as an author.
pub const MANAGER_NAME: &str = "manager";

/// What decoders made of a line, for the record.
fn decoding(decoded: &Decoded) -> Decoding {
    let text = |bytes: &[u8]| -> Arc<str> { String::from_utf8_lossy(bytes).into() };
    let fixed = decoded.fields().map(|(field, value)| (Arc::from(field.name()), text(value)));
    let others = decoded.dynamic_fields().map(|(name, value)| (name.clone(), text(value)));
    Decoding {
        decoder: decoded.decoder.as_ref().map(|decoder| decoder.name.clone()),
        hostname: Some(text(decoded.hostname())).filter(|name| !name.is_empty() && **name != *decoded.location),
        program: decoded.program_name().map(text),
        fields: fixed.chain(others).collect(),
    }
}
