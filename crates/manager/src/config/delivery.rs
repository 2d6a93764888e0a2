//! `[[delivery]]`: where alerts or events go. The keys that all kinds have are read here, those of a kind by
//! `tally-delivery`; OSSEC's `[[forward]]` becomes one too.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tally_delivery::tls::TlsSettings;
use tally_delivery::{Key, Keys, Kind, Settings, Value, syslog};
use tally_rules::Pattern;
use tally_syscheck::Glob;
use tally_types::{Level, RuleId, Verdict};
use toml::Spanned;
use toml::de::DeValue;

use super::{Forward, Reader, Transport};
use crate::deliveries::{RETRY_FIRST, Select};

/// How long a destination may fail before that is an alert.
pub(super) const FAILING_MAX: Duration = Duration::from_secs(600);
const NAME_BYTES_MAX: usize = 64;
/// Each is a task and a connection.
pub(super) const DELIVERIES_MAX: usize = 64;

/// One way out.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its cursor is kept by this name.
    pub name: String,
    /// All events instead of alerts.
    pub events: bool,
    pub select: Select,
    /// A new delivery begins with the first of what there is, not with what comes after it was set up.
    pub from_start: bool,
    pub failing_max: Duration,
    /// The first wait after a failure.
    pub retry_first: Duration,
    pub settings: Settings,
    /// The keys as they are written, with the defaults of those that all kinds have.
    pub shown: Json,
}

/// The patterns in it have no other equality than their texts, which are shown.
impl PartialEq for Delivery {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.shown) == (&other.name, &other.shown)
    }
}

impl Eq for Delivery {}

impl Delivery {
    pub(super) fn read(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let at = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            reader.fault(at, format!("expected the table [[delivery]], found {}", value.get_ref().type_str()));
            return None;
        };
        let key = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            Key {
                name: name.to_string(),
                at: key.span().start,
                value_at: value.span().start,
                value: neutral(value.get_ref()),
            }
        };
        let all: Vec<_> = table.iter().map(key).collect();
        let shown = Map::from_iter(all.iter().map(|key| (key.name.clone(), plain(&key.value))));
        let named = all.iter().find_map(|key| match &key.value {
            Value::Text(name) if key.name == "name" => Some(format!("[[delivery]] \"{name}\"")),
            _ => None,
        });
        let mut keys = Keys::new(named.unwrap_or_else(|| "[[delivery]]".to_owned()), at, all);
        let read = Self::from_keys(&mut keys, shown);
        for (at, message) in keys.finish() {
            reader.fault(at, message);
        }
        read
    }

    fn from_keys(keys: &mut Keys, mut shown: Map<String, Json>) -> Option<Self> {
        let name = keys.needed("name");
        if let Some(name) = &name
            && (name.len() > NAME_BYTES_MAX || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
        {
            keys.fault_at(
                "name",
                format!("name is a word of letters, digits, \"-\", \"_\" and \".\", at most {NAME_BYTES_MAX} of them"),
            );
        }
        let kind = if keys.has("kind") { keys.word("kind", &Kind::ALL) } else { keys.needed("kind").and(None) };
        let events = keys.word("what", &[("alerts", false), ("events", true)]).unwrap_or(false);
        let from_start = keys.word("begin", &[("now", false), ("start", true)]).unwrap_or(false);
        let failing_max = keys.time("failing_max").unwrap_or(FAILING_MAX);
        let retry_first = keys.time("retry_first").unwrap_or(RETRY_FIRST);
        for key in ["min_level", "rules", "groups", "group_match"] {
            if events && keys.has(key) {
                keys.fault_at(
                    key,
                    format!("{key} is of a rule, which events have none of: deliver alerts, or leave it away"),
                );
            }
        }
        let select = select(keys);
        let settings = Settings::read(kind?, keys);
        let defaults = [
            ("what", json!(if events { "events" } else { "alerts" })),
            ("begin", json!(if from_start { "start" } else { "now" })),
            ("failing_max", json!(format!("{}ms", failing_max.as_millis()))),
        ];
        for (key, value) in defaults {
            shown.insert(key.to_owned(), value);
        }
        let shown = Json::Object(shown);
        Some(Self { name: name?, events, select, from_start, failing_max, retry_first, settings: settings?, shown })
    }
}

fn select(keys: &mut Keys) -> Select {
    let mut paths = Vec::new();
    for text in keys.strings("paths").unwrap_or_default() {
        match Glob::parse(&text) {
            Ok(glob) => paths.push(glob),
            Err(error) => keys.fault_at("paths", format!("\"{text}\" is not a path or glob: {error}")),
        }
    }
    let mut verdicts = Vec::new();
    for text in keys.strings("verdicts").unwrap_or_default() {
        match Verdict::from_name(&text) {
            Some(verdict) => verdicts.push(verdict),
            None => {
                let known = Verdict::ALL.map(Verdict::name).join(", ");
                keys.fault_at("verdicts", format!("\"{text}\" is not a verdict: they are {known}"));
            }
        }
    }
    Select {
        min_level: keys.number("min_level", 0..=16).and_then(|level| Level::new(level as u32).ok()),
        rules: keys.numbers("rules").unwrap_or_default().into_iter().map(RuleId).collect(),
        groups: keys.strings("groups").unwrap_or_default(),
        agents: keys.strings("agents").unwrap_or_default(),
        agent_groups: keys.strings("agent_groups").unwrap_or_default(),
        paths,
        verdicts,
        group_match: os_match(keys, "group_match"),
        location_match: os_match(keys, "location_match"),
    }
}

/// An OSMatch of OSSEC's.
fn os_match(keys: &mut Keys, key: &'static str) -> Option<Arc<Pattern>> {
    let text = keys.string(key)?;
    match Pattern::os_match(&text) {
        Ok(pattern) => Some(Arc::new(pattern)),
        Err(error) => {
            keys.fault_at(key, format!("{key}: {error}"));
            None
        }
    }
}

pub(super) fn neutral(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number that is too large"), Value::Number),
        DeValue::Boolean(truth) => Value::Truth(*truth),
        DeValue::Array(list) => Value::List(list.iter().map(|item| neutral(item.get_ref())).collect()),
        DeValue::Table(table) => Value::Table(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), neutral(value.get_ref()))).collect(),
        ),
        DeValue::Float(_) => Value::Other("a float"),
        DeValue::Datetime(_) => Value::Other("a date"),
    }
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
        Value::Truth(truth) => json!(truth),
        Value::List(list) => list.iter().map(plain).collect(),
        Value::Table(table) => Json::Object(table.iter().map(|(name, value)| (name.clone(), plain(value))).collect()),
        Value::Other(_) => Json::Null,
    }
}

/// OSSEC's `[[forward]]` as deliveries. The text of what is wrong with one otherwise.
pub(super) fn forwards(forwards: &[Forward]) -> Vec<Result<Delivery, String>> {
    let mut all: Vec<Result<Delivery, String>> = Vec::new();
    for forward in forwards {
        // The cursor goes with where it leads, not with its place in the file.
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let server: String = forward.server.chars().map(plain).take(40).collect();
        let base = format!("forward-{server}-{}", forward.format);
        let is_taken = |name: &String| all.iter().flatten().any(|other| other.name == *name);
        let mut names = (2..).map(|number| format!("{base}-{number}"));
        let name = if is_taken(&base) { names.find(|name| !is_taken(name)).unwrap_or_default() } else { base.clone() };
        all.push(of_forward(forward, name));
    }
    all
}

fn of_forward(forward: &Forward, name: String) -> Result<Delivery, String> {
    let transport = match forward.transport {
        Transport::Udp => syslog::Transport::Udp,
        Transport::Tcp => syslog::Transport::Tcp,
        Transport::Tls => syslog::Transport::Tls,
    };
    let form = tally_ossec::alert::Syslog::from_name(forward.format).unwrap_or_default();
    let tls = TlsSettings { ca: forward.tls_ca.clone(), verify: forward.tls_verify, ..TlsSettings::default() };
    let settings = syslog::Settings::ossec(&forward.server, transport, form, tls)
        .ok_or_else(|| format!("[[forward]]: \"{}\" is not a host and perhaps a port", forward.server))?;
    let settings = syslog::Settings { full_host_name: forward.full_host_name, ..settings };
    let pattern = |text: &Option<String>| match text.as_deref().map(Pattern::os_match) {
        None => Ok(None),
        Some(Ok(pattern)) => Ok(Some(Arc::new(pattern))),
        Some(Err(error)) => Err(format!("[[forward]] to {}: {error}", forward.server)),
    };
    let select = Select {
        min_level: forward.when.level.and_then(|level| Level::new(level).ok()),
        rules: forward.when.rules.iter().copied().map(RuleId).collect(),
        group_match: pattern(&forward.when.group)?,
        location_match: pattern(&forward.when.location)?,
        ..Select::default()
    };
    Ok(Delivery {
        name,
        events: false,
        select,
        from_start: false,
        failing_max: FAILING_MAX,
        retry_first: RETRY_FIRST,
        settings: Settings::Syslog(settings),
        // It is shown as the [[forward]] that it is.
        shown: Json::Null,
    })
}

/// Two deliveries of one name would share a cursor.
pub(super) fn has_name(deliveries: &[Delivery], name: &str) -> bool {
    deliveries.iter().any(|delivery| delivery.name == name)
}
