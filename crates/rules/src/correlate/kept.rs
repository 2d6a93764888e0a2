//! The remembered events as records, and back.
//!
//! Events have numbers only while they are remembered; in records they are named by how far they are behind the next one.
//! Lists are named by the rules that search them, which may stand elsewhere, or nowhere, in the rule set that reads it.

use tally_types::RuleId;

use super::{Key, Memory, Numbers, Past, REMEMBERED_BYTES_MAX, Values, place, push};
use crate::journal::{self, Record, array, take};
use crate::rule::{Category, Searched};

/// Where an event is listed, by the rules that search the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub rule: Option<RuleId>,
    pub groups: Vec<RuleId>,
    pub texts: Vec<RuleId>,
}

impl Memory {
    /// Writes all events.
    pub fn write(&self, searched: &Searched, to: &mut Vec<u8>) {
        let lists = |lists: &[Numbers], ids: &mut dyn Iterator<Item = RuleId>, number: u64| -> Vec<RuleId> {
            lists.iter().zip(ids).filter(|(list, _)| list.binary_search(&number).is_ok()).map(|(_, id)| id).collect()
        };
        for (past, number) in self.events.iter().zip(self.first..) {
            let listed = Listed {
                rule: lists(&self.by_rule, &mut searched.rules.iter().copied(), number).first().copied(),
                groups: lists(&self.by_group, &mut searched.groups.iter().copied(), number),
                texts: lists(&self.by_text, &mut searched.texts.iter().map(|(id, _)| *id), number),
            };
            journal::write(to, Record::Event { list: listed.rule, event: &past.to_bytes(&listed) });
        }
    }

    /// Adds an event that was written, as the newest. Whether it was one.
    pub fn add_event(&mut self, searched: &Searched, list: Option<RuleId>, bytes: &[u8]) -> bool {
        let Some((past, listed)) = Past::from_bytes(bytes) else { return false };
        let number = self.first + self.events.len() as u64;
        let at = |ids: &[RuleId], id: RuleId| ids.iter().position(|known| *known == id);
        if let Some(list) = list.and_then(|id| at(&searched.rules, id)) {
            super::push_rule(self.by_rule.get_mut(list), number);
        }
        for list in listed.groups.iter().filter_map(|id| at(&searched.groups, *id)) {
            push(self.by_group.get_mut(list), number, self.first);
        }
        for id in listed.texts {
            let list = searched.texts.iter().position(|(known, _)| *known == id);
            push(list.and_then(|list| self.by_text.get_mut(list)), number, self.first);
        }
        self.note(number, past.counted_for);
        self.bytes += past.values.bytes.len();
        self.events.push_back(past);
        while self.events.len() > self.events_max || self.bytes > REMEMBERED_BYTES_MAX {
            self.forget_oldest();
        }
        true
    }

    pub fn add_counted(&mut self, level: u8, back: u64) {
        let next = self.first + self.events.len() as u64;
        if let Some(number) = next.checked_sub(back).filter(|number| *number >= self.first && back > 0) {
            self.set_counted(number, level);
        }
    }

    /// Forgets the oldest but for so many.
    pub fn leave(&mut self, events: usize) {
        while self.events.len() > events {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.bytes -= oldest.values.bytes.len();
            self.first += 1;
        }
    }

    fn set_counted(&mut self, number: u64, level: u8) {
        if let Some(past) = self.events.get_mut(place(self.first, number)) {
            past.counted_for = level;
            self.note(number, level);
        }
    }
}

impl Past {
    pub(super) fn to_bytes(&self, listed: &Listed) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.values.bytes.len());
        bytes.extend_from_slice(&self.seconds.to_le_bytes());
        bytes.push(category_code(self.category));
        bytes.push(self.counted_for);
        for ids in [&listed.groups, &listed.texts] {
            bytes.extend_from_slice(&u16::try_from(ids.len()).unwrap_or(u16::MAX).to_le_bytes());
            ids.iter().take(u16::MAX.into()).for_each(|id| bytes.extend_from_slice(&id.0.to_le_bytes()));
        }
        bytes.push(self.values.set.iter().rev().fold(0, |bits, set| bits << 1 | u8::from(*set)));
        bytes.extend_from_slice(&self.values.text_end.to_le_bytes());
        self.values.ends.iter().for_each(|end| bytes.extend_from_slice(&end.to_le_bytes()));
        bytes.extend_from_slice(&self.values.bytes);
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<(Self, Listed)> {
        let rest = &mut bytes;
        let seconds = i64::from_le_bytes(array(rest)?);
        let [code, counted_for] = array(rest)?;
        let category = Category::ALL.into_iter().find(|category| category_code(*category) == code)?;
        let (groups, texts) = (ids(rest)?, ids(rest)?);
        let [bits] = array(rest)?;
        let text_end = u32::from_le_bytes(array(rest)?);
        let mut ends = [0; Key::ALL.len()];
        let mut before = text_end;
        for end in &mut ends {
            *end = u32::from_le_bytes(array(rest)?);
            if *end < before {
                return None;
            }
            before = *end;
        }
        if u32::try_from(rest.len()).ok()? != before {
            return None;
        }
        let mut set = [false; Key::ALL.len()];
        set.iter_mut().enumerate().for_each(|(nth, set)| *set = bits >> nth & 1 == 1);
        let values = Values { bytes: (*rest).into(), text_end, ends, set };
        Some((Self { seconds, counted_for, category, values }, Listed { rule: None, groups, texts }))
    }
}

fn ids(rest: &mut &[u8]) -> Option<Vec<RuleId>> {
    let count = u16::from_le_bytes(array(rest)?);
    let bytes = take(rest, usize::from(count) * 4)?;
    Some(bytes.chunks_exact(4).map(|id| RuleId(u32::from_le_bytes([id[0], id[1], id[2], id[3]]))).collect())
}

/// In files: these numbers never change.
const fn category_code(category: Category) -> u8 {
    match category {
        Category::Syslog => 1,
        Category::Firewall => 2,
        Category::Ids => 3,
        Category::WebLog => 4,
        Category::Squid => 5,
        Category::Windows => 6,
        Category::Ossec => 7,
    }
}
