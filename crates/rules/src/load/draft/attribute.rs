//! The attributes of `<rule>`.
//!
//! OSSEC reads as many digits of a number as it has room for, and leaves the rest unread; that is kept, and told.

use tally_types::{RuleId, did_you_mean, shown};
use tally_xml::Attribute;

use super::Draft;
use crate::faults::Faults;

const ATTRIBUTES: [&str; 9] =
    ["id", "level", "noalert", "overwrite", "maxsize", "timeframe", "frequency", "accuracy", "ignore"];

impl Draft {
    pub(super) fn attribute(&mut self, attribute: &Attribute<'_>, faults: &mut Faults<'_>) {
        let value = &*attribute.value;
        match &*attribute.name.to_ascii_lowercase() {
            // That a number is missing is told of the whole.
            "id" | "level" if value.is_empty() => {}
            "id" => match number(attribute, 6, faults) {
                Some(0) => faults.add(attribute.value_at, "\"0\" is no rule id"),
                id => self.id = RuleId(id.unwrap_or_default()),
            },
            "level" => self.level = number(attribute, 4, faults).unwrap_or_default(),
            "maxsize" => self.spec.size_at_least = number(attribute, 4, faults).unwrap_or_default() as usize,
            "timeframe" => self.wanted.timeframe_s = number(attribute, 5, faults).map(i64::from),
            "frequency" => self.wanted.frequency = number(attribute, 4, faults),
            "accuracy" => self.inaccurate = number(attribute, 4, faults) == Some(0),
            "ignore" => self.ignore_s = number(attribute, 6, faults).map_or(0, i64::from),
            // As in OSSEC, that it stands there counts.
            "noalert" => self.noalert = true,
            "overwrite" => match value {
                "yes" => self.overwrite = true,
                "no" => self.overwrite = false,
                _ => faults.add(attribute.value_at, "overwrite is \"yes\" or \"no\""),
            },
            name => {
                let near = did_you_mean(name, ATTRIBUTES);
                faults.add(attribute.at, format!("unknown attribute \"{}\" of <rule>{near}", shown(attribute.name)));
            }
        }
    }
}

pub(in crate::load) fn digits(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn number(attribute: &Attribute<'_>, digits_max: usize, faults: &mut Faults<'_>) -> Option<u32> {
    let text = &*attribute.value;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        faults.add(attribute.value_at, format!("\"{}\" is no number", shown(text)));
        return None;
    }
    let read = &text[..text.len().min(digits_max)];
    if read.len() < text.len() {
        let name = attribute.name;
        faults.warn(attribute.value_at, format!("of the {name} only {digits_max} digits are read: {read}"));
    }
    read.parse().ok()
}
