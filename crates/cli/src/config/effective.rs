//! The effective configuration as JSON, and any such JSON as TOML.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tally_syscheck::collect::{Collect, Format, JournalSource, PRIORITIES, Source};
use tally_syscheck::{Config, OldDir, Rate, Watch};
use tally_types::PathBytes;

/// The agent's, with the keys of its file.
pub fn agent(config: &Config) -> Value {
    let agent = &config.agent;
    let rate = |rate: &Rate| (rate.cpu_percent, rate.bytes_per_s);
    let ((cpu, read), (start_cpu, start_read)) = (rate(&agent.budget.routine), rate(&agent.budget.urgent));
    let mut own = json!({
        "manager": agent.manager.as_deref(),
        "state": agent.state.as_ref().map(PathBytes::to_string),
        "accept_policy": agent.accept_policy,
        "accept_commands": agent.accept_commands,
        "scan_interval": format!("{}s", agent.scan_interval_s),
        "rehash_days": agent.rehash_days,
        "direct_days": agent.direct_days,
        "threads": agent.threads,
        "digests": agent.digests.iter().map(|digest| digest.name()).collect::<Vec<_>>(),
        "budget": {
            "cpu": cpu, "read": read, "start_cpu": start_cpu, "start_read": start_read, "memory": agent.budget.memory_bytes,
        },
    });
    without_nothing(&mut own);
    let exclude: Vec<_> = config.policy.exclude().iter().map(ToString::to_string).collect();
    let watches: Vec<_> = config.policy.watches().iter().map(watch).collect();
    let collects: Vec<_> = config.collect.iter().map(collect).collect();
    json!({ "exclude": exclude, "agent": own, "watch": watches, "collect": collects })
}

fn collect(collect: &Collect) -> Value {
    let mut value = match &collect.source {
        Source::Files { path, exclude, from } => json!({
            "path": &**path,
            "exclude": exclude.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "from": from.name(),
        }),
        Source::Command { line, every_s } => json!({ "command": &**line, "every": format!("{every_s}s") }),
        Source::Journal(source) => journal(source),
    };
    match &collect.format {
        _ if matches!(collect.source, Source::Journal(_)) => {}
        Format::Lines(lines) => (value["format"], value["lines"]) = ("multi-line".into(), (*lines).into()),
        Format::Start(start) => (value["format"], value["start"]) = ("multi-line".into(), start.as_str().into()),
        format => {
            let mut names = Format::NAMES.iter().chain(&Format::MORE_NAMES);
            value["format"] = names.find(|(_, known)| known == format).map(|(name, _)| *name).into();
        }
    }
    if let Some(alias) = &collect.alias {
        value["alias"] = (&**alias).into();
    }
    value
}

fn journal(source: &JournalSource) -> Value {
    let JournalSource { identifiers, units, priority, users, from, directory } = source;
    let names = |names: &[Arc<str>]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let mut value = json!({
        "journal": if identifiers.is_empty() { vec!["*".to_owned()] } else { names(identifiers) },
        "priority": PRIORITIES.get(usize::from(*priority)),
        "users": users,
        "from": from.name(),
    });
    if !units.is_empty() {
        value["unit"] = names(units).into();
    }
    if let Some(directory) = directory {
        value["directory"] = (&**directory).into();
    }
    value
}

fn watch(watch: &Watch) -> Value {
    let mut value = json!({
        "path": watch.path.to_string(),
        "mode": watch.mode.name(),
        "attributes": watch.attributes.iter().map(|attribute| attribute.name()).collect::<Vec<_>>(),
        "digests": watch.digests.iter().map(|digest| digest.name()).collect::<Vec<_>>(),
        "recursion": watch.recursion,
        "exclude": watch.exclude.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "max_size": watch.max_size,
        "only": watch.only.name(),
        "diff": watch.diff,
        "olddir": watch.olddir.as_ref().map(OldDir::as_str),
        "keep": watch.keep_s,
        "tags": watch.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(),
        "why": watch.why.as_deref(),
    });
    if watch.digests.is_empty() {
        value["digests"] = Value::Null;
    }
    without_nothing(&mut value);
    value
}

fn without_nothing(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(without_nothing);
    }
}

/// An object as TOML: keys first, then tables.
pub fn toml(value: &Value) -> String {
    let mut out = String::new();
    if let Value::Object(map) = value {
        table(&mut out, "", map);
    }
    out
}

fn is_tables(value: &Value) -> bool {
    matches!(value, Value::Array(list) if list.first().is_some_and(Value::is_object))
}

fn table(out: &mut String, name: &str, map: &Map<String, Value>) {
    for (key, value) in map.iter().filter(|(_, value)| !value.is_object() && !is_tables(value)) {
        let _ = writeln!(out, "{key} = {}", scalar(value));
    }
    let full = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    for (key, value) in map {
        match value {
            Value::Object(inner) => {
                let _ = writeln!(out, "\n[{}]", full(key));
                table(out, &full(key), inner);
            }
            Value::Array(list) if is_tables(value) => {
                for inner in list.iter().filter_map(Value::as_object) {
                    let _ = writeln!(out, "\n[[{}]]", full(key));
                    table(out, &full(key), inner);
                }
            }
            _ => {}
        }
    }
}

/// JSON's strings, numbers, truths and arrays are TOML's, but for the one sign that TOML does not know.
fn scalar(value: &Value) -> String {
    value.to_string().replace("\\/", "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_manager::ManagerConfig;

    /// What is shown is a file that means the same.
    #[test]
    fn the_effective_text_means_what_it_shows() {
        let text = "[agent]\nrehash_days = 3\n[[watch]]\npath = [\"/srv/a\", \"/o\\\\*\"]\nexclude = [\"x\"]\ndiff = true\n\
                    [[watch]]\npath = \"/var/log/a\"\nmode = \"log\"\n\
                    [[collect]]\npath = \"/var/log/a\"\nformat = \"multi-line\"\nlines = 3\n\
                    [[collect]]\ncommand = \"df\"\nevery = \"1m\"\n[[collect]]\njournal = \"*\"\n";
        let (config, faults) = Config::parse(text, "a");
        assert_eq!(faults, vec![]);
        let shown = toml(&agent(&config));
        let (again, faults) = Config::parse(&shown, "b");
        assert_eq!(faults, vec![], "{shown}");
        assert_eq!((again.agent, again.policy.meaning()), (config.agent, config.policy.meaning()), "{shown}");
        let bare =
            |collects: Vec<Collect>| collects.into_iter().map(|c| (c.source, c.format, c.alias)).collect::<Vec<_>>();
        assert_eq!(bare(again.collect), bare(config.collect), "{shown}");
    }

    #[test]
    fn the_managers_too() {
        let text = "heartbeat_s = 5\n[archive]\ntext = true\ncompress = false\n[[forward]]\nserver = 'h:514'\nrules = [1, 2]\n[[syslog]]\nallow = ['::1']\n";
        let state = std::path::Path::new("/s");
        let (config, _) = ManagerConfig::parse(text, "a", state);
        let shown = toml(&config.effective());
        let (again, faults) = ManagerConfig::parse(&shown, "b", state);
        assert_eq!(faults, vec![], "{shown}");
        let bare = |config: ManagerConfig| ManagerConfig { warnings: Vec::new(), ..config };
        assert_eq!(bare(again), bare(config), "{shown}");
    }
}
