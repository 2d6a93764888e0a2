//! What rules remember of earlier alerts: how often, within which time, from where.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, correlation), whose order of tests is kept to the letter, since rule
//! writers count on which occurrence fires: an alert goes onto the list of its rule if any rule asks for that one, else onto
//! those of the groups, and always onto the list of recent ones. A search goes from the newest back, and ends at the first
//! that is too old or was already counted for something as grave.
//!
//! Everything is bounded: what is forgotten at a bound is the oldest, and counted.

use std::collections::VecDeque;

use crate::decoded::LogField;
use crate::journal::{Journal, Record};
use crate::rule::{Category, Searched};
use kept::Listed;

mod kept;

/// Of one list that `if_matched_sid` searches, as in OSSEC (`analysisd.sid_prev_matched_max`).
const BY_RULE_MAX: usize = 128;
/// Of all that are remembered, as in OSSEC (`memory_size`), where nothing else is said.
pub(crate) const REMEMBERED_MAX: usize = 8192;
/// Of the texts and fields of all.
pub(crate) const REMEMBERED_BYTES_MAX: usize = 32 << 20;
/// At a bound so many go at once, as in OSSEC.
const FORGOTTEN_AT_ONCE: usize = 10;
/// More lines of context an alert does not carry.
pub(crate) const CONTEXT_LINES_MAX: usize = 11;

/// What two events must have in common, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Same(Key),
    Different(Key),
    /// There is no geography here: nothing has it.
    DifferentCountry,
}

/// A value that is remembered of each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Id,
    SourceIp,
    SourcePort,
    DestinationPort,
    /// Who is acted on.
    User,
    Url,
    /// The host's name, which of an agent's line is its location.
    Location,
}

impl Key {
    pub const ALL: [Self; 7] =
        [Self::Id, Self::SourceIp, Self::SourcePort, Self::DestinationPort, Self::User, Self::Url, Self::Location];

    /// `None`: the host's name.
    pub const fn field(self) -> Option<LogField> {
        Some(match self {
            Self::Id => LogField::Id,
            Self::SourceIp => LogField::SrcIp,
            Self::SourcePort => LogField::SrcPort,
            Self::DestinationPort => LogField::DstPort,
            Self::User => LogField::DstUser,
            Self::Url => LogField::Url,
            Self::Location => return None,
        })
    }
}

/// Which list a rule searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// By their places among the lists of the rule set.
    Rule(u32),
    Group(u32),
    /// Of the recent ones, those whose text matches.
    Text(u32),
}

/// What a rule asks of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Correlation {
    pub search: Search,
    pub frequency: u32,
    pub timeframe_s: i64,
    pub relations: Vec<Relation>,
}

/// The values of an event, at their places in one buffer: first its text, then each key that is set.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    bytes: Box<[u8]>,
    text_end: u32,
    ends: [u32; Key::ALL.len()],
    set: [bool; Key::ALL.len()],
}

impl Values {
    pub fn new<'v>(text: &[u8], value: impl Fn(Key) -> Option<&'v [u8]>) -> Self {
        let end = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let values = Key::ALL.map(value);
        let mut bytes =
            Vec::with_capacity(text.len() + values.iter().flatten().map(|value| value.len()).sum::<usize>());
        bytes.extend_from_slice(text);
        let text_end = end(&bytes);
        let ends = values.map(|value| {
            bytes.extend_from_slice(value.unwrap_or_default());
            end(&bytes)
        });
        Self { bytes: bytes.into(), text_end, ends, set: values.map(|value| value.is_some()) }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.text_end as usize]
    }

    fn value(&self, key: Key) -> Option<&[u8]> {
        let place = key as usize;
        let start = if place == 0 { self.text_end } else { self.ends[place - 1] };
        self.set[place].then(|| &self.bytes[start as usize..self.ends[place] as usize])
    }
}

#[derive(Clone, Debug)]
struct Past {
    seconds: i64,
    /// The gravest rule that counted it, 0 for none.
    counted_for: u8,
    category: Category,
    values: Values,
}

/// Onto which lists the alerts of a rule go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Feeds {
    pub rule: Option<u32>,
    pub groups: Vec<u32>,
}

/// The event that asks, or is to be remembered.
pub(crate) struct Present<'p> {
    pub seconds: i64,
    pub category: Category,
    pub value: &'p dyn Fn(Key) -> Option<&'p [u8]>,
}

/// A list of events by their numbers, the oldest first. Numbers of forgotten ones may still stand in front.
type Numbers = VecDeque<u64>;

#[derive(Clone, Debug)]
pub(crate) struct Memory {
    events: VecDeque<Past>,
    /// Of all that are remembered.
    pub events_max: usize,
    /// The number of the oldest event; each has the next.
    first: u64,
    bytes: usize,
    pub by_rule: Vec<Numbers>,
    pub by_group: Vec<Numbers>,
    pub by_text: Vec<Numbers>,
    /// For each level, the number after that of the newest event that was counted for it.
    counted: [u64; 17],
    /// How many were forgotten at a bound.
    pub forgotten: u64,
    pub journal: Journal,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            events_max: REMEMBERED_MAX,
            first: 0,
            bytes: 0,
            by_rule: Vec::new(),
            by_group: Vec::new(),
            by_text: Vec::new(),
            counted: [0; 17],
            forgotten: 0,
            journal: Journal::default(),
        }
    }
}

impl Memory {
    /// How many events are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.events.len()
    }

    /// Answers with the texts of the earlier events that count, the newest first, if the rule fires.
    pub fn search(&mut self, asked: &Correlation, level: u8, present: &Present<'_>) -> Option<Vec<Box<[u8]>>> {
        let list = match asked.search {
            Search::Rule(list) => self.by_rule.get_mut(list as usize)?,
            Search::Group(list) => self.by_group.get_mut(list as usize)?,
            Search::Text(list) => self.by_text.get_mut(list as usize)?,
        };
        while list.front().is_some_and(|number| *number < self.first) {
            list.pop_front();
        }
        // The search among the recent ones is ended by any of them, not only by one whose text matches.
        let stop = match asked.search {
            Search::Text(_) => self.counted[usize::from(level).min(16)..].iter().copied().max().unwrap_or(0),
            _ => 0,
        };
        let (mut counted, mut fired) = (Vec::new(), None);
        for number in list.iter().rev() {
            let past = self.events.get(place(self.first, *number))?;
            let is_old = present.seconds.saturating_sub(past.seconds) > asked.timeframe_s;
            if is_old || past.counted_for >= level || *number < stop {
                return None;
            }
            let is_text = matches!(asked.search, Search::Text(_));
            if (is_text && past.category != present.category) || !is_related(asked, past, present) {
                continue;
            }
            if counted.len() < asked.frequency as usize {
                counted.push(*number);
            } else {
                fired = Some(*number);
                break;
            }
        }
        let last = fired?;
        let newest = *list.back()?;
        if matches!(asked.search, Search::Rule(_)) {
            counted.push(last);
        }
        let texts = counted.iter().take(CONTEXT_LINES_MAX).filter_map(|number| self.event(*number));
        let texts = texts.map(|past| past.values.text().into()).collect();
        self.count(last, level);
        self.count(newest, level);
        Some(texts)
    }

    /// An alert: it goes onto the lists that its rule feeds.
    pub fn remember(
        &mut self,
        past: (Values, u8),
        present: &Present<'_>,
        feeds: &Feeds,
        searched: &Searched,
        is_text: impl Fn(usize) -> bool,
    ) {
        let (values, counted_for) = past;
        let number = self.first + self.events.len() as u64;
        let past = Past { seconds: present.seconds, counted_for, category: present.category, values };
        let texts: Vec<usize> = (0..self.by_text.len()).filter(|place| is_text(*place)).collect();
        let groups = if feeds.rule.is_some() { &[][..] } else { &feeds.groups };
        if self.journal.is_kept() {
            let listed = Listed {
                rule: feeds.rule.map(|list| searched.rules[list as usize]),
                groups: groups.iter().map(|list| searched.groups[*list as usize]).collect(),
                texts: texts.iter().map(|list| searched.texts[*list].0).collect(),
            };
            self.journal.put(Record::Event { list: listed.rule, event: &past.to_bytes(&listed) });
        }
        self.bytes += past.values.bytes.len();
        self.events.push_back(past);
        self.note(number, counted_for);
        push_rule(feeds.rule.and_then(|list| self.by_rule.get_mut(list as usize)), number);
        groups.iter().for_each(|list| push(self.by_group.get_mut(*list as usize), number, self.first));
        texts.into_iter().for_each(|list| push(self.by_text.get_mut(list), number, self.first));
    }

    /// Forgets at the bounds; what is older than `age_s` goes along.
    pub fn bound(&mut self, now_s: i64, age_s: i64) {
        if self.events.len() <= self.events_max && self.bytes <= REMEMBERED_BYTES_MAX {
            return;
        }
        let mut gone = 0;
        while let Some(oldest) = self.events.front() {
            let is_old = now_s.saturating_sub(oldest.seconds) > age_s;
            if gone >= FORGOTTEN_AT_ONCE && !is_old && self.bytes <= REMEMBERED_BYTES_MAX {
                break;
            }
            self.bytes -= oldest.values.bytes.len();
            self.events.pop_front();
            self.first += 1;
            self.forgotten += 1;
            gone += 1;
        }
        self.journal.put(Record::Left(u32::try_from(self.events.len()).unwrap_or(u32::MAX)));
    }

    fn event(&self, number: u64) -> Option<&Past> {
        self.events.get(place(self.first, number))
    }

    fn count(&mut self, number: u64, level: u8) {
        if let Some(past) = self.events.get_mut(place(self.first, number)) {
            past.counted_for = level;
        }
        self.note(number, level);
        let back = self.first + self.events.len() as u64 - number;
        self.journal.put(Record::Counted { level, back });
    }

    fn note(&mut self, number: u64, level: u8) {
        if level > 0 {
            let newest = &mut self.counted[usize::from(level).min(16)];
            *newest = (*newest).max(number + 1);
        }
    }
}

fn place(first: u64, number: u64) -> usize {
    number.checked_sub(first).and_then(|place| usize::try_from(place).ok()).unwrap_or(usize::MAX)
}

fn push_rule(list: Option<&mut Numbers>, number: u64) {
    let Some(list) = list else { return };
    list.push_back(number);
    if list.len() > BY_RULE_MAX {
        list.pop_front();
    }
}

fn push(list: Option<&mut Numbers>, number: u64, first: u64) {
    let Some(list) = list else { return };
    while list.front().is_some_and(|number| *number < first) {
        list.pop_front();
    }
    list.push_back(number);
}

/// A value that is not set is neither the same nor another.
fn is_related(asked: &Correlation, past: &Past, present: &Present<'_>) -> bool {
    asked.relations.iter().all(|relation| {
        let key = match relation {
            Relation::Same(key) | Relation::Different(key) => *key,
            Relation::DifferentCountry => return false,
        };
        let is_same = matches!(relation, Relation::Same(_));
        match (past.values.value(key), (present.value)(key)) {
            (Some(then), Some(now)) => (then == now) == is_same,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searched() -> Searched {
        let id = tally_types::RuleId(1);
        Searched { rules: vec![id], groups: vec![id], texts: vec![(id, 0)], frequency_max: 0 }
    }

    const RULE: Feeds = Feeds { rule: Some(0), groups: Vec::new() };

    fn memory() -> Memory {
        let list = || vec![Numbers::new()];
        Memory { by_rule: list(), by_group: list(), by_text: list(), ..Memory::default() }
    }

    fn asked(search: Search, frequency: u32, relations: &[Relation]) -> Correlation {
        Correlation { search, frequency, timeframe_s: 60, relations: relations.to_vec() }
    }

    /// One event: what the search says, and it is remembered.
    fn step(memory: &mut Memory, asked: &Correlation, seconds: i64, ip: &'static str, feeds: &Feeds) -> Option<usize> {
        let value = |key| (key == Key::SourceIp && !ip.is_empty()).then_some(ip.as_bytes());
        let present = Present { seconds, category: Category::Syslog, value: &value };
        let found = memory.search(asked, 10, &present);
        let counted_for = if found.is_some() { 10 } else { 0 };
        memory.remember((Values::new(ip.as_bytes(), value), counted_for), &present, feeds, &searched(), |_| true);
        memory.bound(seconds, 5);
        found.map(|texts| texts.len())
    }

    #[test]
    fn fires_on_the_second_occurrence_after_those_it_counts() {
        let mut memory = memory();
        let asked = asked(Search::Rule(0), 2, &[]);
        let fired: Vec<_> = (0..8).map(|_| step(&mut memory, &asked, 0, "a", &RULE).is_some()).collect();
        assert_eq!(fired, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn counts_only_what_is_related_and_young() {
        let relations = [Relation::Same(Key::SourceIp)];
        let mut memory_of = memory();
        let asked_same = asked(Search::Rule(0), 0, &relations);
        let fired: Vec<_> = [(0, "a"), (1, "b"), (61, "a"), (62, ""), (63, ""), (121, "a"), (183, "a")]
            .map(|(at, ip)| step(&mut memory_of, &asked_same, at, ip, &RULE).is_some())
            .into();
        assert_eq!(fired, [false, false, false, false, false, true, false]);
        let asked_other = asked(Search::Group(0), 0, &[Relation::Different(Key::SourceIp)]);
        let feeds = Feeds { rule: None, groups: vec![0] };
        let mut memory_of = memory();
        let fired: Vec<_> =
            ["a", "a", "b"].map(|ip| step(&mut memory_of, &asked_other, 0, ip, &feeds).is_some()).into();
        assert_eq!(fired, [false, false, true]);
        let asked_country = asked(Search::Group(0), 0, &[Relation::DifferentCountry]);
        assert_eq!(step(&mut memory_of, &asked_country, 0, "c", &feeds), None);
    }

    #[test]
    fn a_search_of_recent_ones_ends_at_any_that_was_counted() {
        let mut memory = memory();
        let asked = asked(Search::Text(0), 1, &[]);
        let fired: Vec<_> = (0..6).map(|_| step(&mut memory, &asked, 0, "a", &Feeds::default())).collect();
        // The text of one earlier event stands below the alert: searches among recent ones tell one less.
        assert_eq!(fired, [None, None, Some(1), None, None, Some(1)]);
    }

    /// The same events again from what was written, whole or piece by piece, lead to the same decisions.
    #[test]
    fn goes_on_from_what_was_written() {
        let restored = |bytes: &[u8]| {
            let mut state = crate::state::State { memory: memory(), ..Default::default() };
            let mut records = crate::journal::Records::of(bytes);
            assert!(records.all(|record| state.add_record(&searched(), record)) && records.is_at_end());
            state.memory
        };
        let events = ["a", "b", "a", "", "a", "b", "a", "a", "b", "a", "b", "b", "a", "a", "a"];
        for search in [Search::Rule(0), Search::Group(0), Search::Text(0)] {
            let feeds = if search == Search::Rule(0) { RULE } else { Feeds { rule: None, groups: vec![0] } };
            let asked = asked(search, 1, &[Relation::Same(Key::SourceIp)]);
            for stopped_after in 0..events.len() {
                let (mut one, mut bytes) = (memory(), crate::journal::HEAD.to_vec());
                one.events_max = 12;
                one.journal.begin();
                let seconds = |nth: usize| i64::try_from(nth).unwrap() * 10;
                for (nth, ip) in events[..stopped_after].iter().enumerate() {
                    step(&mut one, &asked, seconds(nth), ip, &feeds);
                }
                one.journal.take_into(&mut bytes);
                let mut whole = crate::journal::HEAD.to_vec();
                one.write(&searched(), &mut whole);
                let (mut two, mut three) = (restored(&bytes), restored(&whole));
                (two.events_max, three.events_max) = (12, 12);
                for (nth, ip) in events.iter().enumerate().skip(stopped_after) {
                    let fired = step(&mut one, &asked, seconds(nth), ip, &feeds);
                    assert_eq!(step(&mut two, &asked, seconds(nth), ip, &feeds), fired, "{search:?} {stopped_after}");
                    assert_eq!(step(&mut three, &asked, seconds(nth), ip, &feeds), fired, "{search:?} {stopped_after}");
                }
                assert_eq!((two.len(), two.bytes), (one.len(), one.bytes));
            }
        }
    }

    #[test]
    fn is_bounded() {
        let mut memory = memory();
        let asked = asked(Search::Group(0), 1000, &[]);
        let feeds = Feeds { rule: Some(0), groups: vec![0] };
        for second in 0..9000 {
            step(&mut memory, &asked, second / 1000, "192.0.2.1", &feeds);
        }
        assert!(memory.len() <= REMEMBERED_MAX && memory.by_rule[0].len() == BY_RULE_MAX);
        assert_eq!(memory.forgotten + memory.len() as u64, 9000);
        // An event that another list holds goes onto no list of groups.
        assert!(memory.by_group[0].is_empty());
    }
}
