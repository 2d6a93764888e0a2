//! Lists of events, alerts and acts, newest first, one row at a time.

use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};
use tally_proto::Record;
use tally_types::{
    AdminAct, AgentId, Alert, ChangeKind, Event, EventBody, EventId, Level, PathBytes, RuleId, Timestamp, Verdict,
};

use crate::error::{Result, StoreError};
use crate::{code, projection, span};

/// What is listed. The default is everything, newest first.
#[derive(Clone, Default)]
pub struct Filter<'f> {
    /// The host concerned.
    pub agent: Option<AgentId>,
    pub path: PathFilter<'f>,
    /// Both ends are included.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Empty for all.
    pub kinds: &'f [ChangeKind],
    /// At least this level; what raised no alert has none.
    pub level_min: Option<Level>,
    /// Ledger numbers: only what is before, only what is after.
    pub before: Option<u64>,
    pub after: Option<u64>,
    pub limit: Option<u64>,
    pub oldest_first: bool,
}

/// Which paths. A moved thing counts under both of its paths, except for `Is`, which knows only the newer one.
#[derive(Clone, Default)]
pub enum PathFilter<'f> {
    #[default]
    Any,
    /// Found by an index.
    Is(PathBytes),
    /// Asked for each row that passes the rest of the filter.
    Matches(&'f dyn Fn(&PathBytes) -> bool),
}

impl PathFilter<'_> {
    fn passes(&self, event: &Event) -> bool {
        let change = match (&event.body, self) {
            (_, PathFilter::Any) => return true,
            (EventBody::Life(_) | EventBody::Log(_), _) => return false,
            (EventBody::Change(change), _) => change,
        };
        match self {
            PathFilter::Any => true,
            PathFilter::Is(path) => change.path == *path,
            PathFilter::Matches(matches) => matches(&change.path) || change.moved_from.as_ref().is_some_and(matches),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// In the ledger.
    pub index: u64,
    pub id: EventId,
    /// The host concerned.
    pub about: AgentId,
    pub received: Timestamp,
    pub verdict: Verdict,
    /// Of the gravest alert that it raised.
    pub level: Option<Level>,
    pub rule: Option<RuleId>,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// In the ledger.
    pub index: u64,
    pub about: AgentId,
    pub alert: Alert,
    /// The event's own number in the ledger, when it was received, and its verdict.
    pub event_index: u64,
    pub received: Timestamp,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActRow {
    /// In the ledger.
    pub index: u64,
    pub time: Timestamp,
    pub actor: Arc<str>,
    pub act: AdminAct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Changes,
    Life,
    All,
}

/// One bit for each kind of event that is wanted.
fn kind_bits(which: Which, kinds: &[ChangeKind]) -> i64 {
    let all = &ChangeKind::ALL[..];
    let changes =
        || (if kinds.is_empty() { all } else { kinds }).iter().map(|kind| 1 << code::kind(*kind)).sum::<i64>();
    match which {
        Which::Changes => changes(),
        Which::Life => 1 << code::LIFE,
        Which::All if kinds.is_empty() => changes() | 1 << code::LIFE | 1 << code::LOG,
        Which::All => changes(),
    }
}

/// A statement in parts: conditions are added only where the filter has them, so that the best index can be taken.
struct Query {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Query {
    fn new(select: &str) -> Self {
        // The first two values are the range of ledger numbers.
        Self { sql: select.to_owned(), values: vec![Box::new(0i64), Box::new(0i64)] }
    }

    fn and(&mut self, condition: &str, value: impl ToSql + 'static) {
        self.values.push(Box::new(value));
        let number = self.values.len();
        self.sql.push_str(&format!(" AND {} ?{number}", condition));
    }

    fn order(&mut self, column: &str, oldest_first: bool) {
        self.sql.push_str(&format!(" ORDER BY {column} {}", if oldest_first { "ASC" } else { "DESC" }));
    }

    /// Goes through the rows of all ranges until `each` has enough.
    fn run(
        mut self,
        conn: &Connection,
        filter: &Filter<'_>,
        each: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut statement = conn.prepare_cached(&self.sql)?;
        let mut ranges = span::newest_first(conn, filter.since, filter.until)?;
        if filter.oldest_first {
            ranges.reverse();
        }
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let first = filter.after.map_or(0, |after| number(after.saturating_add(1)));
        let last = filter.before.map_or(i64::MAX, |before| number(before) - 1);
        for range in ranges {
            let (first, last) = (range.first.max(first), range.last.min(last));
            if first > last {
                continue;
            }
            (self.values[0], self.values[1]) = (Box::new(first), Box::new(last));
            let mut rows = statement.query(rusqlite::params_from_iter(self.values.iter()))?;
            while let Some(row) = rows.next()? {
                if each(row)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Counts what was given out, and says when it is enough.
struct Limit(Option<u64>);

impl Limit {
    fn is_reached(&self) -> bool {
        self.0 == Some(0)
    }

    fn counted(&mut self, flow: ControlFlow<()>) -> ControlFlow<()> {
        self.0 = self.0.map(|left| left - 1);
        if self.is_reached() { ControlFlow::Break(()) } else { flow }
    }
}

const EVENT_COLUMNS: &str = "SELECT ledger_index, verdict, level, rule, record FROM events";

pub fn events(
    conn: &Connection,
    filter: &Filter<'_>,
    which: Which,
    each: &mut dyn FnMut(EventRow) -> ControlFlow<()>,
) -> Result<()> {
    let mut limit = Limit(filter.limit);
    if limit.is_reached() {
        return Ok(());
    }
    let mut query = Query::new(&format!("{EVENT_COLUMNS} WHERE ledger_index BETWEEN ?1 AND ?2"));
    common(&mut query, filter, "about", "time", "level");
    if which != Which::Life
        && let PathFilter::Is(path) = &filter.path
    {
        query.and("path_hash =", code::path_hash(path));
    }
    query.and("(1 << kind) & ", kind_bits(which, filter.kinds));
    query.order("ledger_index", filter.oldest_first);
    query.run(conn, filter, &mut |row| {
        let row = event_row(row)?;
        if which != Which::Life && !filter.path.passes(&row.event) {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(limit.counted(each(row)))
    })
}

fn common(query: &mut Query, filter: &Filter<'_>, about: &str, time: &str, level: &str) {
    if let Some(agent) = filter.agent {
        query.and(&format!("{about} ="), agent.0);
    }
    if let Some(since) = filter.since {
        query.and(&format!("{time} >="), since.0);
    }
    if let Some(until) = filter.until {
        query.and(&format!("{time} <="), until.0);
    }
    if let Some(min) = filter.level_min {
        query.and(&format!("{level} >="), min.value());
    }
}

pub fn event(conn: &Connection, id: EventId) -> Result<Option<EventRow>> {
    let sql = format!("{EVENT_COLUMNS} WHERE author = ?1 AND epoch = ?2 AND seq = ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![id.agent.0, id.epoch.0 as i64, id.seq as i64])?;
    rows.next()?.map(event_row).transpose()
}

fn event_row(row: &Row<'_>) -> Result<EventRow> {
    let index = row.get::<_, i64>(0)?.max(0) as u64;
    let record = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
    let (id, about, received, event) = decode_event(index, record)?;
    Ok(EventRow {
        index,
        id,
        about,
        received,
        verdict: code::verdict_of(row.get(1)?),
        level: row.get::<_, Option<u32>>(2)?.and_then(|level| Level::new(level).ok()),
        rule: row.get::<_, Option<u32>>(3)?.map(RuleId),
        event,
    })
}

fn decode_event(index: u64, record: &[u8]) -> Result<(EventId, AgentId, Timestamp, Event)> {
    match Record::decode(record)? {
        Record::Event { id, about, received, event } => Ok((id, about, received, event)),
        _ => Err(StoreError::ledger(Some(index), "its row is among the events, but it is none")),
    }
}

const ALERT_COLUMNS: &str = "SELECT a.ledger_index, a.record, e.ledger_index, e.verdict, e.record
    FROM alerts a JOIN events e ON e.ledger_index = a.event_index";

pub fn alerts(conn: &Connection, filter: &Filter<'_>, each: &mut dyn FnMut(AlertRow) -> ControlFlow<()>) -> Result<()> {
    let mut limit = Limit(filter.limit);
    if limit.is_reached() {
        return Ok(());
    }
    let mut query = Query::new(&format!("{ALERT_COLUMNS} WHERE a.ledger_index BETWEEN ?1 AND ?2"));
    common(&mut query, filter, "a.about", "a.time", "a.level");
    if let PathFilter::Is(path) = &filter.path {
        query.and("e.path_hash =", code::path_hash(path));
    }
    query.and("(1 << e.kind) & ", kind_bits(Which::All, filter.kinds));
    query.order("a.ledger_index", filter.oldest_first);
    query.run(conn, filter, &mut |row| {
        let row = alert_row(row)?;
        if !filter.path.passes(&row.alert.event) {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(limit.counted(each(row)))
    })
}

pub fn alert(conn: &Connection, event: EventId, rule: RuleId) -> Result<Option<AlertRow>> {
    let Some(index) = projection::index_of(conn, event)? else { return Ok(None) };
    Ok(alerts_of(conn, index)?.into_iter().find(|row| row.alert.rule.id == rule))
}

pub fn alerts_of(conn: &Connection, event_index: u64) -> Result<Vec<AlertRow>> {
    let sql = format!("{ALERT_COLUMNS} WHERE a.event_index = ?1 ORDER BY a.ledger_index");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([i64::try_from(event_index).unwrap_or(i64::MAX)])?;
    let mut alerts = Vec::new();
    while let Some(row) = rows.next()? {
        alerts.push(alert_row(row)?);
    }
    Ok(alerts)
}

/// Alerts of changes that the promotion with this number accepted, in their order.
pub fn accepted_by(
    conn: &Connection,
    promotion: u64,
    limit: u64,
    each: &mut dyn FnMut(AlertRow) -> ControlFlow<()>,
) -> Result<()> {
    let sql = format!("{ALERT_COLUMNS} WHERE e.accepted_by = ?1 ORDER BY a.ledger_index LIMIT ?2");
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([number(promotion), number(limit)])?;
    while let Some(row) = rows.next()? {
        if each(alert_row(row)?).is_break() {
            break;
        }
    }
    Ok(())
}

fn alert_row(row: &Row<'_>) -> Result<AlertRow> {
    let index = row.get::<_, i64>(0)?.max(0) as u64;
    let event_index = row.get::<_, i64>(2)?.max(0) as u64;
    let (_, _, received, event) = decode_event(event_index, row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?)?;
    let record = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
    let Record::Alert { event_id, about, time, rule, .. } = Record::decode(record)? else {
        return Err(StoreError::ledger(Some(index), "its row is among the alerts, but it is none"));
    };
    let alert = Alert { event_id, rule, time, event };
    Ok(AlertRow { index, about, alert, event_index, received, verdict: code::verdict_of(row.get(3)?) })
}

pub fn count_from(
    conn: &Connection,
    from: u64,
    alerts: bool,
    level_min: Option<Level>,
) -> Result<(u64, Option<Timestamp>)> {
    let (table, time) = if alerts { ("alerts", "time") } else { ("events", "received") };
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let level = level_min.map_or(-1, |level| i64::from(level.value()));
    let rows = format!("FROM {table} WHERE ledger_index >= ?1 AND coalesce(level, 0) >= ?2");
    let mut statement = conn.prepare_cached(&format!("SELECT count(*) {rows}"))?;
    let count: i64 = statement.query_row(params![from, level], |row| row.get(0))?;
    let mut statement = conn.prepare_cached(&format!("SELECT {time} {rows} ORDER BY ledger_index LIMIT 1"))?;
    let first = statement.query_row(params![from, level], |row| row.get(0)).optional()?;
    Ok((count.max(0) as u64, first.map(Timestamp)))
}

pub fn acts(conn: &Connection, filter: &Filter<'_>, each: &mut dyn FnMut(ActRow) -> ControlFlow<()>) -> Result<()> {
    let mut limit = Limit(filter.limit);
    if limit.is_reached() {
        return Ok(());
    }
    let mut query = Query::new("SELECT ledger_index, record FROM acts WHERE ledger_index BETWEEN ?1 AND ?2");
    let times = Filter { since: filter.since, until: filter.until, ..Filter::default() };
    common(&mut query, &times, "", "time", "");
    query.order("ledger_index", filter.oldest_first);
    query.run(conn, filter, &mut |row| {
        let index = row.get::<_, i64>(0)?.max(0) as u64;
        let record = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let Record::Admin { time, actor, act } = Record::decode(record)? else {
            return Err(StoreError::ledger(Some(index), "its row is among the acts, but it is none"));
        };
        Ok(limit.counted(each(ActRow { index, time, actor, act })))
    })
}
