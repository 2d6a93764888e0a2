//! The review of a day: read from the store for whoever asks, and the moment of the day at which it is due.

use std::ops::ControlFlow;
use std::sync::Arc;

use tally_delivery::review::{AgentWord, Builder};
use tally_proto::json::{DeliveryStatus, Review, ReviewPart};
use tally_store::{Filter, Reader, StoreError};
use tally_types::Timestamp;

use super::Select;
use super::batch::Writer;

const DAY_S: i64 = 86_400;
const SECOND_US: i64 = 1_000_000;

/// What a review is made from.
pub struct Source<'s> {
    pub reader: &'s Reader,
    /// The ledger's name, and the manager's host.
    pub ledger: &'s str,
    pub manager: Arc<str>,
    pub deliveries: &'s [DeliveryStatus],
}

/// What happened from `from` until before `until`, on the hosts that `agents` and `agent_groups` of `select` name; its
/// other conditions do not count. It reads the database, on a thread that may wait.
pub fn review(
    source: &Source<'_>,
    select: &Select,
    parts: &[ReviewPart],
    (from, until): (Timestamp, Timestamp),
) -> Result<Review, StoreError> {
    let mut builder = Builder::new(source.manager.clone(), from, until);
    let hosts =
        Select { agents: select.agents.clone(), agent_groups: select.agent_groups.clone(), ..Select::default() };
    for agent in source.reader.agents()? {
        if hosts.names(agent.id, &agent.name, &agent.group) {
            let (state, last_seen) = (agent.state, agent.last_seen);
            builder.agent(&AgentWord { id: agent.id, name: &agent.name, state, last_seen });
        }
    }
    source.deliveries.iter().for_each(|delivery| builder.delivery(delivery));
    let filter =
        Filter { since: Some(from), until: Some(until.minus_micros(1)), oldest_first: true, ..Filter::default() };
    source.reader.acts(&filter, &mut |row| {
        builder.act(row.time, &row.actor, &row.act);
        ControlFlow::Continue(())
    })?;
    let mut writer = Writer::new(source.reader, source.ledger, source.manager.clone());
    let mut failed = None;
    source.reader.alerts(&filter, &mut |row| match writer.alert(&row) {
        Ok(message) => {
            if hosts.passes(&message) {
                builder.alert(&message);
            }
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or_else(|| Ok(builder.finish(parts)), Err)
}

/// The last moment at or before `now` at which the clock on the wall shows this second of a day, where it is `offset_s` ahead
/// of UTC at a second. Each day has one, also those that have an hour more or less.
pub fn last_due(now: Timestamp, second: u32, offset_s: impl Fn(i64) -> i32) -> Timestamp {
    let now_s = now.micros().div_euclid(SECOND_US);
    let today = (now_s + i64::from(offset_s(now_s))).div_euclid(DAY_S);
    let at = |day: i64| {
        let local = day * DAY_S + i64::from(second);
        let guess = local - i64::from(offset_s(local));
        // By the offset of the moment itself; one that a change of the clock leaves out is told after that.
        local - i64::from(offset_s(guess))
    };
    let due = [today + 1, today].into_iter().map(at).find(|due| *due <= now_s);
    Timestamp(due.unwrap_or_else(|| at(today - 1)).saturating_mul(SECOND_US))
}

/// The day of a moment, as the manager's own calendar has it: `2026-11-24`.
pub fn day(time: Timestamp) -> String {
    let local = tally_sys::clock::local(time.micros().div_euclid(SECOND_US));
    format!("{:04}-{:02}-{:02}", local.year, local.month, local.day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Berlin in 2026: summer time begins on 29 March at 01:00 UTC and ends on 25 October at 01:00 UTC.
    fn berlin(secs: i64) -> i32 {
        if (1_774_746_000..1_792_890_000).contains(&secs) { 7200 } else { 3600 }
    }

    fn due(now: &str, minute: u32) -> String {
        last_due(now.parse().unwrap(), minute * 60, berlin).to_string()
    }

    #[test]
    fn it_is_due_once_a_day_by_the_clock_on_the_wall() {
        for (now, minute, wanted) in [
            ("2026-11-24T06:00:00Z", 420, "2026-11-24T06:00:00"),
            ("2026-11-24T05:59:59Z", 420, "2026-11-23T06:00:00"),
            // Summer time: the same hour on the wall is another one of UTC.
            ("2026-07-01T05:00:00Z", 420, "2026-07-01T05:00:00"),
            // The night in which it begins has no 02:30, and the one in which it ends two of them.
            ("2026-03-29T12:00:00Z", 150, "2026-03-29T01:30:00"),
            ("2026-10-25T12:00:00Z", 150, "2026-10-25T01:30:00"),
            // Just after midnight, and before it.
            ("2026-11-23T23:00:00Z", 0, "2026-11-23T23:00:00"),
            ("2026-11-23T22:59:59Z", 0, "2026-11-22T23:00:00"),
            ("2026-11-24T22:58:00Z", 1439, "2026-11-23T22:59:00"),
        ] {
            let found = due(now, minute);
            assert!(found.starts_with(wanted), "{now} {minute}: {found}");
        }
    }

    /// Whatever the clock does, a year has as many moments as days, a day or so apart.
    #[test]
    fn a_year_has_as_many_reviews_as_days() {
        for minute in [0, 90, 150, 180, 420, 1439] {
            let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let moments: std::collections::BTreeSet<_> = (0..365 * 48)
                .map(|half_hour| last_due(start.plus_micros(half_hour * 1800 * SECOND_US), minute * 60, berlin))
                .collect();
            let all: Vec<_> = moments.into_iter().collect();
            assert!((365..=366).contains(&all.len()), "{minute}: {}", all.len());
            for pair in all.windows(2) {
                let apart_h = pair[1].since(pair[0]) / (3600 * SECOND_US);
                assert!((23..=25).contains(&apart_h), "{minute}: {} {}", pair[0], pair[1]);
            }
        }
    }
}
