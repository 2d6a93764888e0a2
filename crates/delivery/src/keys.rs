//! The keys of one `[[delivery]]`, neutral to the file's language: each kind of destination reads its own out of them by
//! their types. A fault keeps its place, so that whoever has the file can name line and column.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tally_types::did_you_mean;

use crate::secret::Secret;

/// What stands behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
    Truth(bool),
    List(Vec<Value>),
    Table(Vec<(String, Value)>),
    /// What no key takes, by its name: a float, a date.
    Other(&'static str),
}

/// One key; both places are byte offsets in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub at: usize,
    pub value_at: usize,
    pub value: Value,
}

/// All keys of a table. Each is asked for by whoever knows it; `finish` tells of the others.
#[derive(Debug)]
pub struct Keys {
    /// Such as `[[delivery]]`.
    table: String,
    at: usize,
    keys: Vec<Key>,
    asked: Vec<&'static str>,
    faults: Vec<(usize, String)>,
}

/// Of one list or table.
const ITEMS_MAX: usize = 4096;

impl Keys {
    pub fn new(table: impl Into<String>, at: usize, keys: Vec<Key>) -> Self {
        Self { table: table.into(), at, keys, asked: Vec::new(), faults: Vec::new() }
    }

    pub fn fault(&mut self, at: usize, message: impl Into<String>) {
        self.faults.push((at, message.into()));
    }

    /// A fault at the value of this key, or at the table where it is not there.
    pub fn fault_at(&mut self, key: &'static str, message: impl Into<String>) {
        let at = self.place(key);
        self.fault(at, message);
    }

    /// Where the key's value stands, or where the table begins.
    pub fn place(&self, key: &str) -> usize {
        self.keys.iter().find(|known| known.name == key).map_or(self.at, |key| key.value_at)
    }

    pub fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known.name == key)
    }

    fn get(&mut self, key: &'static str) -> Option<Key> {
        self.asked.push(key);
        self.keys.iter().find(|known| known.name == key).cloned()
    }

    fn read<T>(&mut self, key: &'static str, wanted: &str, read: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let found = self.get(key)?;
        let at = found.value_at;
        let value = read(found.value);
        if value.is_none() {
            self.fault(at, format!("{key} is {wanted}"));
        }
        value
    }

    /// A text that is not empty.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        self.read(key, "a text that is not empty", |value| match value {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        })
    }

    /// A text that the table cannot do without.
    pub fn needed(&mut self, key: &'static str) -> Option<String> {
        if !self.has(key) {
            self.asked.push(key);
            let message = format!("{} needs {key}", self.table);
            self.fault(self.at, message);
            return None;
        }
        self.string(key)
    }

    pub fn truth(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", |value| match value {
            Value::Truth(truth) => Some(truth),
            _ => None,
        })
    }

    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.string(key).map(PathBuf::from)
    }

    pub fn number(&mut self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, &wanted, |value| match value {
            Value::Number(number) => u64::try_from(number).ok().filter(|number| range.contains(number)),
            _ => None,
        })
    }

    /// A time: `90` (seconds), `"500ms"`, `"90s"`, `"5m"`, `"1h"`, `"7d"`. Not nothing.
    pub fn time(&mut self, key: &'static str) -> Option<Duration> {
        self.read(key, "a time such as \"90s\", \"5m\", \"1h\" or \"7d\"", |value| {
            match value {
                Value::Text(text) => {
                    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
                    let (number, unit) = text.split_at(digits);
                    let factor = match unit {
                        "ms" => 1,
                        "s" => 1000,
                        "m" => 60_000,
                        "h" => 3_600_000,
                        "d" => 86_400_000,
                        _ => return None,
                    };
                    number.parse::<u32>().ok().map(|number| Duration::from_millis(u64::from(number) * factor))
                }
                Value::Number(seconds) => u32::try_from(seconds).ok().map(|s| Duration::from_secs(s.into())),
                _ => None,
            }
            .filter(|time| !time.is_zero())
        })
    }

    /// Bytes: `65536`, `"64k"`, `"1m"`; k and m are 1,024 and its square.
    pub fn bytes(&mut self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let wanted = format!("a number of bytes from {} to {}, such as 8192 or \"8k\"", range.start(), range.end());
        self.read(key, &wanted, |value| {
            match value {
                Value::Number(number) => u64::try_from(number).ok(),
                Value::Text(text) => {
                    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
                    let (number, unit) = text.split_at(digits);
                    let factor = match unit {
                        "" => 1,
                        "k" | "K" => 1 << 10,
                        "m" | "M" => 1 << 20,
                        _ => return None,
                    };
                    number.parse::<u32>().ok().map(|number| u64::from(number) * factor)
                }
                _ => None,
            }
            .filter(|bytes| range.contains(bytes))
        })
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, key: &'static str, known: &[(&'static str, T)]) -> Option<T> {
        let found = self.get(key)?;
        let text = if let Value::Text(text) = &found.value { text.as_str() } else { "" };
        let word = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if word.is_none() {
            let near = did_you_mean(text, known.iter().map(|(name, _)| *name));
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            let hint = if near.is_empty() { format!(": it is one of {}", names.join(", ")) } else { near };
            self.fault(found.value_at, format!("unknown {key} \"{text}\"{hint}"));
        }
        word
    }

    /// A list of texts; a single text is a list of one.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.read(key, "a list of texts", |value| match value {
            Value::Text(text) if !text.is_empty() => Some(vec![text]),
            Value::List(list) if list.len() <= ITEMS_MAX => list
                .into_iter()
                .map(|item| match item {
                    Value::Text(text) if !text.is_empty() => Some(text),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    pub fn numbers(&mut self, key: &'static str) -> Option<Vec<u32>> {
        self.read(key, "a list of whole numbers", |value| match value {
            Value::Number(number) => Some(vec![u32::try_from(number).ok()?]),
            Value::List(list) if list.len() <= ITEMS_MAX => list
                .into_iter()
                .map(|item| match item {
                    Value::Number(number) => u32::try_from(number).ok(),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// A table of texts: `headers = { "X-Team" = "blue" }`.
    pub fn texts(&mut self, key: &'static str) -> Option<BTreeMap<String, String>> {
        self.read(key, "a table of texts, such as { name = \"value\" }", |value| match value {
            Value::Table(table) if table.len() <= ITEMS_MAX => table
                .into_iter()
                .map(|(name, value)| match value {
                    Value::Text(text) => Some((name, text)),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// A list of tables, each with keys of its own; their faults are told at this key.
    pub fn tables(&mut self, key: &'static str) -> Option<Vec<Keys>> {
        let at = self.place(key);
        let name = format!("{key} of {}", self.table);
        self.read(key, "a list of tables, such as [{ name = \"value\" }]", |value| match value {
            Value::List(list) if list.len() <= ITEMS_MAX => list
                .into_iter()
                .map(|item| match item {
                    Value::Table(table) => {
                        let keys = table.into_iter().map(|(name, value)| Key { name, at, value_at: at, value });
                        Some(Self::new(name.clone(), at, keys.collect()))
                    }
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// What was found in a table inside.
    pub fn take_faults(&mut self, inner: Self) {
        self.faults.extend(inner.finish());
    }

    /// A password or a token: where it is, never itself.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let found = self.get(key)?;
        match Secret::from_value(key, &found.value) {
            Ok(secret) => Some(secret),
            Err(message) => {
                self.fault(found.value_at, message);
                None
            }
        }
    }

    /// The faults, with one for each key that nobody asked for.
    pub fn finish(mut self) -> Vec<(usize, String)> {
        for key in self.keys.iter().filter(|key| !self.asked.contains(&&*key.name)) {
            let near = did_you_mean(&key.name, self.asked.iter().copied());
            self.faults.push((key.at, format!("unknown key \"{}\" in {}{near}", key.name, self.table)));
        }
        self.faults
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keys as from a file, each at its own number.
    pub(crate) fn keys(pairs: &[(&str, Value)]) -> Keys {
        let keys = pairs.iter().zip(1..).map(|((name, value), at)| Key {
            name: (*name).to_owned(),
            at: at * 10,
            value_at: at * 10 + 5,
            value: value.clone(),
        });
        Keys::new("[[delivery]] \"x\"", 1, keys.collect())
    }

    pub(crate) fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn times_and_sizes_have_units() {
        let mut keys = keys(&[
            ("a", text("500ms")),
            ("b", text("7d")),
            ("c", Value::Number(90)),
            ("d", text("8k")),
            ("e", text("0s")),
            ("f", text("9 k")),
        ]);
        assert_eq!(keys.time("a"), Some(Duration::from_millis(500)));
        assert_eq!(keys.time("b"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(keys.time("c"), Some(Duration::from_secs(90)));
        assert_eq!(keys.bytes("d", 1..=10_000), Some(8192));
        assert_eq!((keys.time("e"), keys.bytes("f", 1..=10_000)), (None, None));
        assert_eq!(keys.finish().len(), 2);
    }

    #[test]
    fn faults_have_their_places_and_a_next_step() {
        let mut keys = keys(&[("formt", text("json")), ("password", text("hunter2")), ("kind", text("sylog"))]);
        assert_eq!(keys.string("format"), None);
        assert_eq!(keys.secret("password"), None);
        assert_eq!(keys.word("kind", &[("syslog", 1), ("mail", 2)]), None);
        assert_eq!(keys.needed("name"), None);
        let faults = keys.finish();
        assert_eq!(faults[1], (35, "unknown kind \"sylog\" (did you mean \"syslog\"?)".to_owned()));
        assert_eq!(faults[2], (1, "[[delivery]] \"x\" needs name".to_owned()));
        assert_eq!(
            faults[3],
            (10, "unknown key \"formt\" in [[delivery]] \"x\" (did you mean \"format\"?)".to_owned())
        );
        assert!(faults[0].1.contains("never in the configuration") && !faults[0].1.contains("hunter2"), "{faults:?}");
    }
}
