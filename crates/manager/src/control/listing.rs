//! Lists of changes and alerts, and single records.

use std::ops::ControlFlow;

use tally_proto::Record;
use tally_proto::json::{self, Origin};
use tally_store::{AlertRow, EventRow, Filter, PathFilter};
use tally_types::{AgentId, EventBody, EventId, PathBytes, RuleId};

use super::answer::Answer;
use super::desk::{Desk, Names};
use super::fault::Fault;
use super::request::{List, RawList};

impl Desk<'_> {
    pub(super) fn change_list(&self, raw: RawList, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let list = raw.check(self.now())?;
        let mut names = Names::default();
        self.with_filter(&list, |filter| {
            let mut outcome = Ok(());
            self.reader.changes(filter, &mut |row| flow(&mut outcome, self.put_event(&row, &mut names, answer)))?;
            outcome
        })
    }

    pub(super) fn alert_list(&self, raw: RawList, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let list = raw.check(self.now())?;
        let mut names = Names::default();
        self.with_filter(&list, |filter| {
            let mut outcome = Ok(());
            self.reader.alerts(filter, &mut |row| flow(&mut outcome, self.put_alert(&row, &mut names, answer)))?;
            outcome
        })
    }

    fn with_filter<T>(&self, list: &List, ask: impl FnOnce(&Filter<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        // Removed agents have no name any more, but their record stays and is found by number.
        let agent = match &list.agent {
            None => None,
            Some(text) => Some(self.agent(text).map(|agent| agent.id).or_else(|fault| removed(self, text, fault))?),
        };
        let matches = |path: &PathBytes| list.path.as_ref().is_none_or(|glob| glob.matches(path));
        let path = if list.path.is_some() { PathFilter::Matches(&matches) } else { PathFilter::Any };
        ask(&Filter {
            agent,
            path,
            since: list.since,
            until: list.until,
            kinds: &list.kinds,
            level_min: list.level,
            limit: list.limit,
            ..Filter::default()
        })
    }

    pub(super) fn change_show(&self, id: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let row = self.event(id)?;
        self.put_event(&row, &mut Names::default(), answer)
    }

    pub(super) fn event(&self, id: &str) -> Result<EventRow, Fault> {
        let id: EventId = id.parse().map_err(|error: tally_types::EventIdError| Fault::Told(error.to_string()))?;
        self.reader.event(id)?.ok_or_else(|| Fault::Told(format!("there is no event {id}")))
    }

    pub(super) fn alert_show(&self, id: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let parsed = id
            .rsplit_once('/')
            .and_then(|(event, rule)| Some((event.parse::<EventId>().ok()?, RuleId(rule.parse().ok()?))));
        let shown = || id.chars().take(64).collect::<String>();
        let (event, rule) = parsed.ok_or_else(|| {
            Fault::Told(format!("\"{}\" is not an alert's id: it looks like 001/1764/35/550", shown()))
        })?;
        let row = self.reader.alert(event, rule)?;
        let row = row.ok_or_else(|| Fault::Told(format!("there is no alert {}", shown())))?;
        self.put_alert(&row, &mut Names::default(), answer)
    }

    pub(super) fn ledger_show(&self, index: u64, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let bytes = self.reader.ledger().record(index)?;
        let bytes = bytes.ok_or_else(|| Fault::Told(format!("the ledger has no record {index} yet")))?;
        match Record::decode(&bytes).map_err(tally_store::StoreError::from)? {
            Record::Admin { time, actor, act } => Ok(answer.object(&json::admin(time, &actor, &act, Some(index)))?),
            Record::Event { id, .. } => self.change_show(&id.to_string(), answer),
            Record::Alert { event_index, .. } => {
                let row = self.reader.alerts_of(event_index)?.into_iter().find(|row| row.index == index);
                let row = row.ok_or_else(|| Fault::Told(format!("the alert of record {index} has no row")))?;
                self.put_alert(&row, &mut Names::default(), answer)
            }
        }
    }

    fn put_event(&self, row: &EventRow, names: &mut Names, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let name = self.name_of(names, row.about)?;
        let origin = Origin { id: row.id, about: row.about, agent_name: &name, ledger_index: Some(row.index) };
        let object = json::event(origin, &row.event, row.verdict);
        match row.event.body {
            EventBody::Change(_) => Ok(answer.finding(&object)?),
            EventBody::Life(_) | EventBody::Log(_) => Ok(answer.object(&object)?),
        }
    }

    fn put_alert(&self, row: &AlertRow, names: &mut Names, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let name = self.name_of(names, row.about)?;
        let id = row.alert.event_id;
        let origin = Origin { id, about: row.about, agent_name: &name, ledger_index: Some(row.event_index) };
        Ok(answer.finding(&json::alert(origin, &row.alert, row.verdict, Some(row.index)))?)
    }
}

/// A removed agent, or the fault that there is none.
fn removed(desk: &Desk<'_>, text: &str, fault: Fault) -> Result<AgentId, Fault> {
    let Ok(id) = text.parse::<AgentId>() else { return Err(fault) };
    if id == AgentId::MANAGER || desk.reader.agent(id)?.is_some() { Ok(id) } else { Err(fault) }
}

/// Ends the listing at the first fault, which is kept.
fn flow(outcome: &mut Result<(), Fault>, put: Result<(), Fault>) -> ControlFlow<()> {
    match put {
        Ok(()) => ControlFlow::Continue(()),
        Err(fault) => {
            *outcome = Err(fault);
            ControlFlow::Break(())
        }
    }
}
