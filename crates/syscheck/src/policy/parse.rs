//! From the TOML text to a policy and the agent's configuration, with every fault at its place.
//!
//! The tree comes from the `toml` crate with the span of each key and value; what the keys mean is decided here and not
//! by a derived deserializer, which would stop at the first fault and could not propose the nearest key.

mod collect;
mod responses;

use std::ops::Range;
use std::sync::Arc;

use tally_types::{Algorithm, Attribute, AttributeSet, Diagnostic, PathBytes, did_you_mean};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Algorithms, Mode, OldDir, Only, Place, Policy, Watch};
use crate::config::{AgentConfig, Budget, Config, KeySource};
use crate::glob::Glob;

pub(super) const LINUX_BASE: &str = include_str!("../../profiles/linux-base.toml");

/// The profiles that `profiles = [...]` can name.
pub(super) const PROFILES: [(&str, &str); 4] = [
    ("linux-base", LINUX_BASE),
    ("pci", include_str!("../../profiles/pci.toml")),
    ("web", include_str!("../../profiles/web.toml")),
    ("aws-ec2", include_str!("../../profiles/aws-ec2.toml")),
];

const TOP_KEYS: [&str; 5] = ["agent", "collect", "exclude", "profiles", "watch"];
const AGENT_KEYS: [&str; 13] = [
    "manager",
    "state",
    "accept_policy",
    "accept_commands",
    "scan_interval",
    "rehash_days",
    "direct_days",
    "threads",
    "digests",
    "journal_key",
    "logrotate",
    "budget",
    "responses",
];
/// Of these, what only the host's own file may say.
const HOST_KEYS: [&str; 6] = ["manager", "state", "accept_policy", "accept_commands", "journal_key", "responses"];
const BUDGET_KEYS: [&str; 5] = ["cpu", "read", "start_cpu", "start_read", "memory"];
const WATCH_KEYS: [&str; 13] = [
    "path",
    "mode",
    "attributes",
    "digests",
    "recursion",
    "exclude",
    "max_size",
    "only",
    "diff",
    "olddir",
    "keep",
    "tags",
    "why",
];
/// How long rotated logs can be asked to be kept.
const KEEP_S_MIN: u64 = 60;
const KEEP_S_MAX: u64 = 36_600 * 86_400;

type Value<'i> = Spanned<DeValue<'i>>;

/// Whose text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// Who administers the host: the agent's own file.
    Host,
    /// The manager, for a group of hosts.
    Manager,
}

/// Whether one of the keys at the top of `text` is known here.
pub fn has_key(text: &str) -> bool {
    DeTable::parse_recoverable(text).0.get_ref().keys().any(|key| TOP_KEYS.contains(&key.get_ref().as_ref()))
}

pub(crate) fn config(text: &str, file: &str, author: Author, base: &AgentConfig) -> (Config, Vec<Diagnostic>) {
    let (file, digests) = (file.into(), base.digests);
    let mut reader = Reader { file, text, author, base, faults: Vec::new(), more: 0, digests };
    if text.len() > Config::TEXT_BYTES_MAX {
        let message = format!("the file has {} bytes, the limit is {}", text.len(), Config::TEXT_BYTES_MAX);
        reader.fault(0..0, message);
        return (Config::default(), reader.faults);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        reader.fault(error.span().unwrap_or(0..0), error.message());
    }
    let config = reader.document(document.get_ref());
    if author == Author::Manager && config.policy.is_empty() && reader.faults.is_empty() {
        reader.fault(0..0, "the policy watches nothing: it needs a [[watch]] or profiles = [\"linux-base\"]");
    }
    (config, reader.finish())
}

struct Reader<'t> {
    file: Arc<str>,
    text: &'t str,
    author: Author,
    /// What holds where the text says nothing.
    base: &'t AgentConfig,
    faults: Vec<Diagnostic>,
    /// Faults that were not kept.
    more: usize,
    /// Of watches that name none.
    digests: Algorithms,
}

impl Reader<'_> {
    fn fault(&mut self, span: Range<usize>, message: impl Into<String>) {
        if self.faults.len() < Config::DIAGNOSTICS_MAX {
            self.faults.push(Diagnostic::at(&self.file, self.text, span.start, message));
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<Diagnostic> {
        self.faults.sort_by_key(|fault| (fault.line, fault.column));
        if self.more > 0 {
            self.faults.push(Diagnostic::at(
                &self.file,
                self.text,
                self.text.len(),
                format!("{} more faults", self.more),
            ));
        }
        self.faults
    }

    fn document(&mut self, document: &DeTable<'_>) -> Config {
        self.unknown_keys(document, &TOP_KEYS, "in the file");
        let agent = document.get("agent").map_or_else(|| self.base.clone(), |value| self.agent(value));
        self.digests = agent.digests;
        let (mut watches, mut exclude) = (Vec::new(), Vec::new());
        if let Some(value) = document.get("profiles") {
            for (name, span) in self.strings(value) {
                match PROFILES.iter().find(|(known, _)| *known == name) {
                    Some((name, text)) => {
                        let (profile, _) = config(text, name, Author::Host, self.base);
                        watches.extend(profile.policy.watches);
                        exclude.extend(profile.policy.exclude);
                    }
                    None => self.unknown(span, "profile", &name, PROFILES.map(|(known, _)| known)),
                }
            }
        }
        if let Some(value) = document.get("exclude") {
            exclude.extend(self.globs(value));
        }
        match document.get("watch").map(|value| (value.get_ref(), value.span())) {
            None => {}
            Some((DeValue::Array(array), span)) => {
                self.limit(array.len(), &span);
                for value in array.iter().take(Config::ITEMS_MAX) {
                    match value.get_ref() {
                        DeValue::Table(table) => watches.extend(self.watch(table, value.span())),
                        other => self.wrong_type(value.span(), "a [[watch]] table", other),
                    }
                }
            }
            Some((other, span)) => self.wrong_type(span, "[[watch]] tables, with two brackets", other),
        }
        let collect = document.get("collect").map(|value| self.collects(value)).unwrap_or_default();
        Config { agent, policy: Policy::from_watches(watches, exclude), collect }
    }

    fn agent(&mut self, value: &Value<'_>) -> AgentConfig {
        let mut agent = self.base.clone();
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(value.span(), "an [agent] table", value.get_ref());
            return agent;
        };
        self.unknown_keys(table, &AGENT_KEYS, "in [agent]");
        if self.author == Author::Manager {
            for key in table.keys().filter(|key| HOST_KEYS.contains(&&**key.get_ref())) {
                let name = key.get_ref();
                self.fault(
                    key.span(),
                    format!("\"{name}\" is for the host's own file: a group's policy cannot set it"),
                );
            }
        }
        let given = |key: &str| table.get(key);
        if let Some(manager) = given("manager").and_then(|value| self.string(value)) {
            agent.manager = Some(manager.as_str().into());
        }
        if let Some(value) = given("state") {
            agent.state = self.string(value).and_then(|text| match PathBytes::new(text.as_bytes()) {
                Ok(path) => Some(path),
                Err(error) => {
                    self.fault(value.span(), error.to_string());
                    None
                }
            });
        }
        if let Some(accept) = given("accept_policy").and_then(|value| self.truth(value)) {
            agent.accept_policy = accept;
        }
        if let Some(accept) = given("accept_commands").and_then(|value| self.truth(value)) {
            agent.accept_commands = accept;
        }
        let (low, high) = (AgentConfig::SCAN_INTERVAL_S_MIN, AgentConfig::SCAN_INTERVAL_S_MAX);
        if let Some(seconds) = given("scan_interval").and_then(|value| self.duration_s(value, low, high)) {
            agent.scan_interval_s = seconds;
        }
        if let Some(days) = given("rehash_days").and_then(|value| self.number(value, 1, AgentConfig::REHASH_DAYS_MAX)) {
            agent.rehash_days = days;
        }
        if let Some(days) = given("direct_days").and_then(|value| self.number(value, 0, AgentConfig::REHASH_DAYS_MAX)) {
            agent.direct_days = days;
        }
        if let Some(threads) = given("threads").and_then(|value| self.number(value, 0, AgentConfig::THREADS_MAX)) {
            agent.threads = threads;
        }
        if let Some(value) = given("digests") {
            agent.digests = self.digests(value);
        }
        if let Some(value) = given("logrotate") {
            agent.logrotate = self.absolute_paths(value);
        }
        if let Some(value) = given("journal_key").filter(|_| self.author == Author::Host) {
            agent.journal_key = self.key_source(value);
        }
        if let Some(value) = given("budget") {
            agent.budget = self.budget(value);
        }
        if let Some(value) = given("responses").filter(|_| self.author == Author::Host) {
            agent.responses = self.responses(value);
        }
        agent
    }

    fn absolute_paths(&mut self, value: &Value<'_>) -> Vec<PathBytes> {
        let mut paths = Vec::new();
        for (text, span) in self.strings(value) {
            match PathBytes::new(text.as_bytes()) {
                Ok(path) => paths.push(path),
                Err(error) => self.fault(span, error.to_string()),
            }
        }
        paths
    }

    /// `{ credential = "…" }` or `{ file = "…" }`.
    fn key_source(&mut self, value: &Value<'_>) -> Option<KeySource> {
        const FORMS: &str =
            "the key itself never stands here: name where it is, { credential = \"…\" } or { file = \"/…\" }";
        let named = match value.get_ref() {
            DeValue::Table(table) if table.len() == 1 => table.iter().next(),
            _ => None,
        };
        let Some((key, value)) = named else {
            self.fault(value.span(), FORMS);
            return None;
        };
        let text = self.string(value)?;
        let source = match &**key.get_ref() {
            "credential" if !text.is_empty() && !text.contains('/') && !text.starts_with('.') => {
                Some(KeySource::Credential(text.into()))
            }
            "file" => PathBytes::new(text.as_bytes()).ok().map(KeySource::File),
            _ => None,
        };
        if source.is_none() {
            self.fault(value.span(), FORMS);
        }
        source
    }

    fn budget(&mut self, value: &Value<'_>) -> Budget {
        let mut budget = self.base.budget;
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(value.span(), "an [agent.budget] table", value.get_ref());
            return budget;
        };
        self.unknown_keys(table, &BUDGET_KEYS, "in [agent.budget]");
        let (routine, urgent) = (&mut budget.routine, &mut budget.urgent);
        for (key, percent) in [("cpu", &mut routine.cpu_percent), ("start_cpu", &mut urgent.cpu_percent)] {
            let given = table.get(key).and_then(|value| self.number(value, 1, Budget::CPU_PERCENT_MAX));
            *percent = given.unwrap_or(*percent);
        }
        let sizes = [
            ("read", &mut routine.bytes_per_s, Budget::BYTES_PER_S_MIN),
            ("start_read", &mut urgent.bytes_per_s, Budget::BYTES_PER_S_MIN),
            ("memory", &mut budget.memory_bytes, Budget::MEMORY_BYTES_MIN),
        ];
        for (key, size, low) in sizes {
            let given = table.get(key).and_then(|value| self.size(value, low));
            *size = given.unwrap_or(*size);
        }
        budget
    }

    /// A size of at least `low`.
    fn size(&mut self, value: &Value<'_>, low: u64) -> Option<u64> {
        let size = self.bytes(value)?;
        let fits = (low..=Budget::SIZE_MAX).contains(&size);
        if !fits {
            self.fault(value.span(), format!("{size} bytes are outside {low} to {}", Budget::SIZE_MAX));
        }
        fits.then_some(size)
    }

    /// One `[[watch]]`: as many watches as it has paths; without a path or a known mode, none.
    fn watch(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Vec<Watch> {
        self.unknown_keys(table, &WATCH_KEYS, "in [[watch]]");
        let given = |key: &str| table.get(key);
        let globs = match given("path") {
            Some(value) => self.paths(value),
            None => {
                self.fault(span, "a watch needs a path: path = \"/etc\"");
                Vec::new()
            }
        };
        let mode = match given("mode") {
            Some(value) => self.name(value, "mode", Mode::from_name, &Mode::ALL.map(Mode::name)),
            None => Some(Mode::default()),
        };
        let Some(mode) = mode else { return Vec::new() };
        let mut watch = Watch::new(Glob::exactly(&PathBytes::root()), mode);
        if let Some(value) = given("attributes") {
            watch.attributes = self.attributes(value, mode);
        }
        watch.digests = self.watch_digests(given("digests"), &watch);
        watch.recursion = given("recursion").and_then(|value| self.number(value, 0, u32::MAX));
        if let Some(value) = given("exclude") {
            watch.exclude = self.globs(value);
        }
        watch.max_size = given("max_size").and_then(|value| self.bytes(value));
        if let Some(value) = given("only") {
            watch.only = self.name(value, "value", Only::from_name, &Only::ALL.map(Only::name)).unwrap_or_default();
        }
        watch.diff = given("diff").is_some_and(|value| self.diff(value, &watch));
        if let Some(value) = given("tags") {
            watch.tags = self.strings(value).into_iter().map(|(tag, _)| tag.into()).collect();
        }
        watch.why = given("why").and_then(|value| self.string(value)).map(Into::into);
        watch.keep_s = given("keep").and_then(|value| self.keep_s(value, mode));
        let olddir = given("olddir").and_then(|value| Some((self.string(value)?, value.span())));
        let olddir = olddir.filter(|(_, span)| {
            if mode != Mode::Log {
                self.fault(span.clone(), "only of mode \"log\" rotated files are followed into another directory");
            }
            mode == Mode::Log
        });
        let watch = |(path, place)| {
            let olddir = olddir.as_ref().and_then(|(dir, span)| match OldDir::new(dir, &path) {
                Ok(olddir) => Some(olddir),
                Err(message) => {
                    self.fault(span.clone(), message);
                    None
                }
            });
            Watch { path, olddir, place: Some(place), ..watch.clone() }
        };
        globs.into_iter().map(watch).collect()
    }

    fn keep_s(&mut self, value: &Value<'_>, mode: Mode) -> Option<u64> {
        if !mode.is_log() {
            self.fault(value.span(), "only of modes \"log\" and \"journal\" rotated files are kept");
            return None;
        }
        self.duration_s(value, KEEP_S_MIN, KEEP_S_MAX)
    }

    fn paths(&mut self, value: &Value<'_>) -> Vec<(Glob, Place)> {
        let mut globs = Vec::new();
        for (text, span) in self.strings(value) {
            match Glob::parse(&text) {
                Ok(_) if !text.starts_with('/') => {
                    self.fault(span, format!("path \"{text}\" is not absolute: it starts with \"/\""));
                }
                Ok(glob) => globs.push((glob, self.place(&span))),
                Err(error) => self.fault(span, error.to_string()),
            }
        }
        globs
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let line = Diagnostic::at(&self.file, self.text, span.start, "").line;
        Place { file: self.file.clone(), line }
    }

    fn globs(&mut self, value: &Value<'_>) -> Vec<Glob> {
        let mut globs = Vec::new();
        for (text, span) in self.strings(value) {
            match Glob::parse(&text) {
                Ok(glob) => globs.push(glob),
                Err(error) => self.fault(span, error.to_string()),
            }
        }
        globs
    }

    fn attributes(&mut self, value: &Value<'_>, mode: Mode) -> AttributeSet {
        let mut set: AttributeSet = [Attribute::Type].into_iter().collect();
        for (name, span) in self.strings(value) {
            match Attribute::from_name(&name) {
                Some(attribute) if mode.attributes().contains(attribute) => set.insert(attribute),
                Some(_) => {
                    self.fault(span, format!("mode \"{}\" does not watch the attribute \"{name}\"", mode.name()))
                }
                None => self.unknown(span, "attribute", &name, Attribute::ALL.map(Attribute::name)),
            }
        }
        set
    }

    fn watch_digests(&mut self, value: Option<&Value<'_>>, watch: &Watch) -> Algorithms {
        let content = watch.attributes.contains(Attribute::Content);
        match value {
            Some(value) if watch.mode.is_log() => {
                let mode = watch.mode.name();
                let message = format!("mode \"{mode}\" has the digests of its sealed chunks; remove \"digests\"");
                self.fault(value.span(), message);
                Algorithms::EMPTY
            }
            Some(value) if !content => {
                self.fault(value.span(), "the content is not among the attributes of this watch; remove \"digests\"");
                Algorithms::EMPTY
            }
            Some(value) => self.digests(value),
            None if content && !watch.mode.is_log() => self.digests,
            None => Algorithms::EMPTY,
        }
    }

    fn diff(&mut self, value: &Value<'_>, watch: &Watch) -> bool {
        let wanted = self.truth(value).unwrap_or(false);
        let kept = watch.mode == Mode::Static && !watch.digests.is_empty();
        if wanted && !kept {
            self.fault(
                value.span(),
                "a text can be kept only in mode \"static\" and where the content is watched; remove \"diff\"",
            );
        }
        wanted && kept
    }

    fn digests(&mut self, value: &Value<'_>) -> Algorithms {
        let mut set = Algorithms::EMPTY;
        for (name, span) in self.strings(value) {
            match Algorithm::from_name(&name) {
                Some(algorithm) => set = set.with(algorithm),
                None => self.unknown(span, "digest", &name, Algorithm::ALL.map(Algorithm::name)),
            }
        }
        if set.is_empty() {
            self.fault(value.span(), "no digest is named; leave \"digests\" away for sha256");
            return Algorithms::SHA256;
        }
        set
    }

    fn name<T>(
        &mut self,
        value: &Value<'_>,
        what: &str,
        from_name: impl Fn(&str) -> Option<T>,
        known: &[&'static str],
    ) -> Option<T> {
        let text = self.string(value)?;
        let found = from_name(&text);
        if found.is_none() {
            self.unknown(value.span(), what, &text, known.iter().copied());
        }
        found
    }

    fn string(&mut self, value: &Value<'_>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.clone().into_owned()),
            other => {
                self.wrong_type(value.span(), "a string", other);
                None
            }
        }
    }

    fn truth(&mut self, value: &Value<'_>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(is) => Some(*is),
            other => {
                self.wrong_type(value.span(), "true or false", other);
                None
            }
        }
    }

    /// A string, or an array of strings, each with its place.
    fn strings(&mut self, value: &Value<'_>) -> Vec<(String, Range<usize>)> {
        let DeValue::Array(array) = value.get_ref() else {
            return self.string(value).into_iter().map(|text| (text, value.span())).collect();
        };
        self.limit(array.len(), &value.span());
        let mut strings = Vec::new();
        for item in array.iter().take(Config::ITEMS_MAX) {
            strings.extend(self.string(item).map(|text| (text, item.span())));
        }
        strings
    }

    fn number(&mut self, value: &Value<'_>, low: u32, high: u32) -> Option<u32> {
        let number = match value.get_ref() {
            DeValue::Integer(integer) => u32::from_str_radix(integer.as_str(), integer.radix()).ok(),
            other => {
                self.wrong_type(value.span(), "a number", other);
                return None;
            }
        };
        let fits = number.filter(|n| (low..=high).contains(n));
        if fits.is_none() {
            self.fault(value.span(), format!("the number is outside {low} to {high}"));
        }
        fits
    }

    /// `3600` or `"1h"`, in seconds.
    fn duration_s(&mut self, value: &Value<'_>, low: u64, high: u64) -> Option<u64> {
        const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
        let seconds = self.quantity(value, &UNITS, "a time such as \"1h\" (s, m, h, d or w)")?;
        let fits = (low..=high).contains(&seconds);
        if !fits {
            self.fault(value.span(), format!("{seconds} s is outside {low} s to {high} s"));
        }
        fits.then_some(seconds)
    }

    /// `1048576` or `"1MiB"`.
    fn bytes(&mut self, value: &Value<'_>) -> Option<u64> {
        const UNITS: [(&str, u64); 10] = [
            ("B", 1),
            ("kB", 1000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("KB", 1000),
        ];
        self.quantity(value, &UNITS, "a size such as \"64MiB\"")
    }

    fn quantity(&mut self, value: &Value<'_>, units: &[(&str, u64)], wanted: &str) -> Option<u64> {
        let read = match value.get_ref() {
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            DeValue::String(text) => {
                let digits = text.bytes().take_while(u8::is_ascii_digit).count();
                let (number, unit) = text.split_at(digits);
                let unit = units.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
                unit.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor))
            }
            _ => None,
        };
        if read.is_none() {
            self.fault(value.span(), format!("expected {wanted}"));
        }
        read
    }

    fn limit(&mut self, count: usize, span: &Range<usize>) {
        if count > Config::ITEMS_MAX {
            self.fault(span.clone(), format!("{count} items, the limit is {}", Config::ITEMS_MAX));
        }
    }

    fn unknown_keys(&mut self, table: &DeTable<'_>, known: &[&'static str], place: &str) {
        for key in table.keys().filter(|key| !known.contains(&&**key.get_ref())) {
            let near = did_you_mean(key.get_ref(), known.iter().copied());
            self.fault(key.span(), format!("unknown key \"{}\" {place}{near}", shown(key.get_ref())));
        }
    }

    fn unknown(
        &mut self,
        span: Range<usize>,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'static str> + Clone,
    ) {
        let near = did_you_mean(name, known.clone());
        let list = known.into_iter().collect::<Vec<_>>().join(", ");
        let hint = if near.is_empty() { format!("; known are {list}") } else { near };
        self.fault(span, format!("unknown {what} \"{}\"{hint}", shown(name)));
    }

    fn wrong_type(&mut self, span: Range<usize>, wanted: &str, got: &DeValue<'_>) {
        self.fault(span, format!("expected {wanted}, found {}", got.type_str()));
    }
}

/// A name as a message shows it: short and on one line.
fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}
