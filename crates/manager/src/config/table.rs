//! Reads one table of `manager.toml`: each key by its type, faults and unknown keys with their place.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use tally_delivery::{Secret, SecretText, Value};
use tally_types::did_you_mean;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Reader;

/// Of one list, or of one kind of table.
pub(super) const ITEMS_MAX: usize = 4096;

pub(super) struct Table<'r, 't, 'v> {
    pub reader: &'r mut Reader<'t>,
    table: &'v DeTable<'v>,
    /// Such as `[mail]`.
    name: &'static str,
    /// Where the table begins.
    pub at: usize,
    /// The keys that were asked for.
    known: Vec<&'static str>,
}

impl<'r, 't, 'v> Table<'r, 't, 'v> {
    /// `value` as a table; a fault where it is none.
    pub fn new(reader: &'r mut Reader<'t>, value: &'v Spanned<DeValue<'v>>, name: &'static str) -> Option<Self> {
        let at = value.span().start;
        match value.get_ref() {
            DeValue::Table(table) => Some(Self { reader, table, name, at, known: Vec::new() }),
            other => {
                reader.fault(at, format!("expected the table {name}, found {}", other.type_str()));
                None
            }
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'v Spanned<DeValue<'v>>> {
        self.known.push(key);
        self.table.get(key)
    }

    fn read<T>(&mut self, key: &'static str, wanted: &str, read: impl FnOnce(&DeValue<'v>) -> Option<T>) -> Option<T> {
        let value = self.get(key)?;
        let found = read(value.get_ref());
        if found.is_none() {
            self.reader.fault(value.span().start, format!("{key} is {wanted}"));
        }
        found
    }

    pub fn string(&mut self, key: &'static str) -> Option<String> {
        self.read(key, "a text that is not empty", |value| {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        })
    }

    /// A string that the table cannot do without.
    pub fn needed(&mut self, key: &'static str) -> Option<String> {
        if self.table.get(key).is_none() {
            self.known.push(key);
            self.reader.fault(self.at, format!("{} needs {key}", self.name));
        }
        self.string(key)
    }

    /// A secret by where it is, or itself: OSSEC's files have none but these.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let value = self.get(key)?;
        let found = match super::delivery::neutral(value.get_ref()) {
            Value::Text(text) if !text.is_empty() => Ok(Secret::Given(SecretText::new(text))),
            other => Secret::from_value(key, &other),
        };
        found.map_err(|why| self.reader.fault(value.span().start, why)).ok()
    }

    pub fn truth(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", DeValue::as_bool)
    }

    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.string(key).map(PathBuf::from)
    }

    pub fn address(&mut self, key: &'static str) -> Option<SocketAddr> {
        self.read(key, "an address such as \"0.0.0.0:514\" or \"[::]:514\"", |value| value.as_str()?.parse().ok())
    }

    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &wanted, |value| {
            super::integer(value).and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n))
        })
    }

    /// One of a few words.
    pub fn word<T>(
        &mut self,
        key: &'static str,
        from: impl Fn(&str) -> Option<T>,
        known: &[&'static str],
    ) -> Option<T> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str().unwrap_or_default();
        let found = from(text);
        if found.is_none() {
            let near = did_you_mean(text, known.iter().copied());
            let hint = if near.is_empty() { format!(": it is one of {}", known.join(", ")) } else { near };
            self.reader.fault(value.span().start, format!("unknown {key} \"{text}\"{hint}"));
        }
        found
    }

    /// A list of words of a few.
    pub fn words<T>(
        &mut self,
        key: &'static str,
        from: impl Fn(&str) -> Option<T>,
        known: &[&'static str],
    ) -> Option<Vec<T>> {
        let texts = self.strings(key)?;
        let at = self.table.get(key).map_or(self.at, |value| value.span().start);
        let mut found = Vec::new();
        for text in &texts {
            match from(text) {
                Some(value) => found.push(value),
                None => {
                    let near = did_you_mean(text, known.iter().copied());
                    let hint = if near.is_empty() { format!(": it is one of {}", known.join(", ")) } else { near };
                    self.reader.fault(at, format!("unknown word in {key}: \"{text}\"{hint}"));
                }
            }
        }
        Some(found)
    }

    pub fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.read(key, "a list of texts", |value| {
            let array = value.as_array().filter(|array| array.len() <= ITEMS_MAX)?;
            array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        })
    }

    pub fn paths(&mut self, key: &'static str) -> Option<Vec<PathBuf>> {
        self.strings(key).map(|list| list.into_iter().map(PathBuf::from).collect())
    }

    pub fn numbers(&mut self, key: &'static str) -> Option<Vec<u32>> {
        self.read(key, "a list of whole numbers", |value| {
            let array = value.as_array().filter(|array| array.len() <= ITEMS_MAX)?;
            array.iter().map(|item| super::integer(item.get_ref()).and_then(|n| u32::try_from(n).ok())).collect()
        })
    }

    /// A time in seconds: `90`, `"90s"`, `"5m"`, `"1h"`, `"7d"`.
    pub fn seconds(&mut self, key: &'static str) -> Option<u32> {
        self.read(key, "a time such as \"90s\", \"5m\", \"1h\" or \"7d\"", |value| match value {
            DeValue::String(text) => {
                let digits = text.bytes().take_while(u8::is_ascii_digit).count();
                let (number, unit) = text.split_at(digits);
                let factor =
                    [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)].into_iter().find(|(name, _)| *name == unit)?.1;
                number.parse::<u32>().ok()?.checked_mul(factor)
            }
            other => super::integer(other).and_then(|n| u32::try_from(n).ok()),
        })
        .filter(|seconds| *seconds > 0)
    }

    /// Tells of each key that nobody asked for.
    pub fn finish(self) {
        for key in self.table.keys().filter(|key| !self.known.contains(&&**key.get_ref())) {
            let near = did_you_mean(key.get_ref(), self.known.iter().copied());
            self.reader.fault(key.span().start, format!("unknown key \"{}\" in {}{near}", key.get_ref(), self.name));
        }
    }
}
