//! The schema-1 objects as lines for a person. `--json` prints the same objects as they are, so that both always tell
//! the same.
//!
//! Everything that a host wrote (paths, command lines) is escaped here before it reaches a terminal.

mod change;

use std::io::{self, Write};

use serde_json::Value;

/// What a stream of objects consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Status,
    Agents,
    Agent,
    Changes,
    Change,
    /// What `tally check` found: the host and the time go without saying.
    Found,
    Alerts,
    Alert,
    Drift,
    Promote,
    Entries,
    Ledger,
    Tokens,
    Token,
    Done,
    Console,
    Policies,
    Policy,
    Explained,
    Logs,
    Deliveries,
    DeadLetters,
    /// The manager made its words; no control character but the end of a line is in them.
    Digest,
}

/// Writes one object in the form that `kind` has for a person.
pub fn write(out: &mut impl Write, kind: Kind, value: &Value) -> io::Result<()> {
    match kind {
        Kind::Status => status(out, value),
        Kind::Agents => agent_line(out, value),
        Kind::Agent => fields(out, value, 0),
        Kind::Changes => change_line(out, value),
        Kind::Found => writeln!(out, "{}", change::line(&without_detection(value))),
        Kind::Drift | Kind::Promote => drift_line(out, value),
        Kind::Alerts => alert_line(out, value),
        Kind::Alert => alert_full(out, value),
        Kind::Change => change_full(out, value),
        Kind::Entries => entry_line(out, value),
        Kind::Ledger => ledger_line(out, value),
        Kind::Tokens => token_line(out, value),
        Kind::Token => token_new(out, value),
        Kind::Console => writeln!(out, "{}", text(value, "link")),
        Kind::Policies => policy_line(out, value),
        Kind::Policy => write!(out, "{}", value.get("text").and_then(Value::as_str).unwrap_or_default()),
        Kind::Logs => {
            let (size, chunks, at) = (number(value, "size"), number(value, "chunks"), text(value, "told_at"));
            writeln!(out, "{size:>14} bytes {chunks:>6} chunks  told {at}  {}", text(value, "path"))
        }
        Kind::Explained => explained(out, value),
        Kind::Deliveries => delivery_line(out, value),
        Kind::DeadLetters => {
            writeln!(out, "{:>10}  {}  {}", number(value, "ledger_index"), text(value, "time"), text(value, "reason"))
        }
        Kind::Digest => {
            let words = value.get("message").and_then(Value::as_str).unwrap_or_default();
            words.lines().try_for_each(|line| writeln!(out, "{}", escape(line)))
        }
        Kind::Done => writeln!(out, "{}", text(value, "message")),
    }
}

/// A mount without events, in words.
fn blind(mount: &Value) -> String {
    let how = if mount.get("scanned").and_then(Value::as_bool) == Some(true) { "scans only" } else { "not seen" };
    format!("{how}: {} ({})", text(mount, "path"), text(mount, "why"))
}

fn status(out: &mut impl Write, value: &Value) -> io::Result<()> {
    let problems = list(value, "problems");
    if problems.is_empty() {
        writeln!(out, "healthy")?;
    }
    for problem in problems {
        let words = problem.as_str().map_or_else(|| text(problem, "text"), escape);
        writeln!(out, "problem: {words}")?;
    }
    writeln!(out)?;
    for agent in list(value, "agents") {
        agent_line(out, agent)?;
        for cannot in list(agent, "cannot") {
            writeln!(out, "       cannot see: {}", escape(cannot.as_str().unwrap_or_default()))?;
        }
        for mount in list(agent, "blind") {
            writeln!(out, "       {}", blind(mount))?;
        }
    }
    if let Some(ledger) = value.get("ledger") {
        let (size, root, time) = (number(ledger, "size"), text(ledger, "root"), text(ledger, "checkpoint_time"));
        writeln!(out, "\nledger: {size} records, root {root}, checkpoint {time}")?;
    }
    if let Some(rules) = value.get("rules").filter(|rules| rules.is_object()) {
        let digest: String = text(rules, "digest").chars().take(12).collect();
        let (decoders, count, lists) = (number(rules, "decoders"), number(rules, "rules"), number(rules, "lists"));
        let since = text(rules, "since");
        writeln!(out, "rules: {count}, with {decoders} decoders and {lists} lists ({digest}), since {since}")?;
    }
    for delivery in list(value, "deliveries") {
        delivery_line(out, delivery)?;
    }
    for dropped in list(value, "ossec_dropped") {
        writeln!(out, "OSSEC: {} datagrams were dropped: {}", number(dropped, "count"), text(dropped, "reason"))?;
    }
    Ok(())
}

/// `NAME  KIND  STATE  N waiting since TIME, …  TARGET`, and the last error on a line of its own.
fn delivery_line(out: &mut impl Write, delivery: &Value) -> io::Result<()> {
    let waiting = match text(delivery, "oldest_waiting") {
        since if since.is_empty() => format!("{} waiting", number(delivery, "waiting")),
        since => format!("{} waiting since {since}", number(delivery, "waiting")),
    };
    writeln!(
        out,
        "delivery: {:<16} {:<11} {:<8} {waiting}, {} sent, {} refused for good, last success {}  {}",
        text(delivery, "name"),
        text(delivery, "kind"),
        text(delivery, "state"),
        number(delivery, "sent"),
        number(delivery, "dead"),
        or_dash(&text(delivery, "last_success")),
        text(delivery, "target"),
    )?;
    if text(delivery, "state") == "failing" {
        writeln!(out, "       {}: {}", text(delivery, "last_error_time"), text(delivery, "last_error"))?;
    }
    Ok(())
}

fn agent_line(out: &mut impl Write, agent: &Value) -> io::Result<()> {
    writeln!(
        out,
        "{:>5}  {:<20} {:<12} {:>9} entries  last seen {}",
        text(agent, "id"),
        text(agent, "name"),
        text(agent, "state"),
        number(agent, "entries"),
        or_dash(&text(agent, "last_seen")),
    )
}

/// `TIME  AGENT  KIND  PATH  [ATTRIBUTES]  by WHO`.
fn change_line(out: &mut impl Write, change: &Value) -> io::Result<()> {
    writeln!(out, "{}  {:<16} {}", text(change, "time"), text(change, "agent"), change::line(change))
}

/// One change in full; of an event of an agent's life what there is.
fn change_full(out: &mut impl Write, change: &Value) -> io::Result<()> {
    if change.get("kind").is_some() {
        change_line(out, change)?;
        change::explained(out, change)?;
    }
    fields(out, &change::rest(change), 0)
}

/// Everything that a check finds was found by a scan.
fn without_detection(change: &Value) -> Value {
    let mut change = change.clone();
    if let Some(object) = change.as_object_mut() {
        object.remove("detected_by");
    }
    change
}

fn drift_line(out: &mut impl Write, value: &Value) -> io::Result<()> {
    if value.get("message").is_some() {
        return writeln!(out, "{}", text(value, "message"));
    }
    writeln!(out, "{:<16} {}", text(value, "agent"), change::line(value))
}

fn alert_line(out: &mut impl Write, alert: &Value) -> io::Result<()> {
    writeln!(out, "{}", alert_text(alert))
}

/// One line for one alert: what `tally up` prints as it happens.
pub fn alert_text(alert: &Value) -> String {
    let rule = alert.get("rule").cloned().unwrap_or_default();
    let about = match alert.get("change").filter(|c| c.is_object()) {
        Some(change) => change::line(change),
        None => log_text(alert)
            .or_else(|| alert.pointer("/event/text").and_then(Value::as_str).map(escape))
            .unwrap_or_default(),
    };
    format!(
        "{}  level {:>2}  {:<16} {}: {about}",
        text(alert, "time"),
        number(&rule, "level"),
        text(alert, "agent"),
        text(&rule, "description").trim_end_matches('.'),
    )
}

/// Of an alert about a line of a log: where it stands, and as much of it as goes on a line.
fn log_text(alert: &Value) -> Option<String> {
    const CHARACTERS_MAX: usize = 300;
    let log = alert.get("log").filter(|log| log.is_object())?;
    let line = log.get("text").and_then(Value::as_str).unwrap_or_default();
    let shown: String = line.chars().take(CHARACTERS_MAX).collect();
    let rest = if shown.len() < line.len() { "…" } else { "" };
    Some(format!("{}: {}{rest}", text(log, "location"), escape(&shown)))
}

fn alert_full(out: &mut impl Write, alert: &Value) -> io::Result<()> {
    writeln!(out, "{}", alert_text(alert))?;
    let mut rest = alert.clone();
    match rest.get_mut("change").filter(|change| change.is_object()) {
        Some(change) => {
            change::explained(out, change)?;
            *change = change::rest(change);
        }
        None => writeln!(out)?,
    }
    fields(out, &rest, 0)
}

/// An object as indented `name: value` lines, nothing left out.
fn fields(out: &mut impl Write, value: &Value, indent: usize) -> io::Result<()> {
    let Some(object) = value.as_object() else { return writeln!(out, "{:indent$}{}", "", scalar(value)) };
    for (name, value) in object {
        match value {
            Value::Object(_) => {
                writeln!(out, "{:indent$}{name}:", "")?;
                fields(out, value, indent + 2)?;
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                writeln!(out, "{:indent$}{name}:", "")?;
                for item in items {
                    fields(out, item, indent + 2)?;
                    writeln!(out)?;
                }
            }
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(scalar).collect();
                writeln!(out, "{:indent$}{name}: {}", "", items.join(", "))?;
            }
            _ => writeln!(out, "{:indent$}{name}: {}", "", scalar(value))?,
        }
    }
    Ok(())
}

fn policy_line(out: &mut impl Write, policy: &Value) -> io::Result<()> {
    let digest: String = text(policy, "policy").chars().take(12).collect();
    let (using, agents) = (number(policy, "agents_using"), number(policy, "agents"));
    let (group, at, by) = (text(policy, "group"), text(policy, "set_at"), text(policy, "set_by"));
    writeln!(out, "{group:<20} {digest}  used by {using} of {agents} agents  set {at} by {by}")
}

fn explained(out: &mut impl Write, told: &Value) -> io::Result<()> {
    writeln!(out, "{} on {}: {}", text(told, "path"), text(told, "agent"), text(told, "text"))?;
    let mut row = |name: &str, words: &str| {
        if words.is_empty() { Ok(()) } else { writeln!(out, "  {name:<12} {words}") }
    };
    let words = |value: &Value, name: &str| {
        list(value, name).iter().filter_map(Value::as_str).map(escape).collect::<Vec<_>>().join(", ")
    };
    if let Some(watch) = told.get("watch").filter(|watch| watch.is_object()) {
        row("mode", &text(watch, "mode"))?;
        row("attributes", &words(watch, "attributes"))?;
        row("digests", &words(watch, "digests"))?;
        for (name, key) in [("levels below", "recursion"), ("hashed up to", "max_size")] {
            let bound = watch.get(key).and_then(Value::as_u64).map(|bound| bound.to_string());
            row(name, &bound.unwrap_or_default())?;
        }
        row("only", if text(watch, "only") == "everything" { "" } else { "executables, setuid files and devices" })?;
        let has_diff = watch.get("diff").and_then(Value::as_bool).unwrap_or(false);
        row("diff", if has_diff { "of texts, with secrets masked" } else { "" })?;
        row("rotated to", &text(watch, "olddir"))?;
        let kept = watch.get("keep_s").and_then(Value::as_u64).map(|seconds| format!("{seconds} s"));
        row("rotated kept", &kept.unwrap_or_default())?;
        row("tags", &words(watch, "tags"))?;
        row("why", &text(watch, "why"))?;
    }
    if text(told, "finding") == "watched" {
        let how = match &*text(told, "seen") {
            "realtime" => "as it happens",
            "scan" => "by scans only",
            _ => "not at all",
        };
        row("seen", &format!("{how}: {}", text(told, "seen_because")))?;
    }
    row("also", &words(told, "others"))?;
    let digest: String = text(told, "policy").chars().take(12).collect();
    row("policy", &format!("{digest} from {}", text(told, "policy_origin")))
}

/// As `ls -l` shows it, with the start of the digest.
fn entry_line(out: &mut impl Write, entry: &Value) -> io::Result<()> {
    let digest: String = text(entry, "sha256").chars().take(16).collect();
    let target = text(entry, "target");
    let arrow = if target.is_empty() { String::new() } else { format!(" -> {target}") };
    writeln!(
        out,
        "{:<12} {} {:>8} {:>8} {:>12} {:<16} {}{arrow}",
        text(entry, "type"),
        text(entry, "mode"),
        or_dash(&text(entry, "user")),
        or_dash(&text(entry, "group")),
        number(entry, "size"),
        or_dash(&digest),
        text(entry, "path"),
    )
}

fn ledger_line(out: &mut impl Write, value: &Value) -> io::Result<()> {
    if let Some(problem) = value.get("problem").and_then(Value::as_str) {
        let index = value.get("index").and_then(Value::as_u64).map_or_else(String::new, |i| format!("record {i}: "));
        return writeln!(out, "{index}{}", escape(problem));
    }
    let (records, root) = (number(value, "records"), text(value, "root"));
    match number(value, "problems").as_str() {
        "0" | "-" => writeln!(out, "the ledger is whole: {records} records, root {root}"),
        problems => writeln!(out, "the ledger was altered: {problems} problems in {records} records"),
    }
}

fn token_line(out: &mut impl Write, token: &Value) -> io::Result<()> {
    let (id, group) = (text(token, "id"), text(token, "group"));
    writeln!(out, "{id}  group {group}  {} uses left  expires {}", number(token, "uses_left"), text(token, "expires"))
}

fn token_new(out: &mut impl Write, token: &Value) -> io::Result<()> {
    writeln!(out, "{}", text(token, "token"))
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).map(escape).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> String {
    value.get(name).filter(|v| v.is_number()).map_or_else(|| "-".to_owned(), Value::to_string)
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => escape(text),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// Control characters and those that reorder text become visible; a file name must not drive the terminal.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            c if c.is_control() || is_reordering(c) => shown.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => shown.push(c),
        }
    }
    shown
}

const fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(kind: Kind, value: &Value) -> String {
        let mut out = Vec::new();
        write(&mut out, kind, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_change_is_one_line_that_no_file_name_can_break() {
        let change = json!({
            "time": "2026-11-24T07:03:33.000001Z", "agent": "web1", "kind": "modified", "path": "/etc/a\n\u{1b}[2J",
            "attributes": ["content", "mtime"], "detected_by": "realtime",
            "actor": {"pid": 7, "exe": "/usr/bin/vim", "uid": 0, "user": "root", "login_user": "deploy"}
        });
        let line = shown(Kind::Changes, &change);
        assert_eq!(
            line,
            "2026-11-24T07:03:33.000001Z  web1             modified  /etc/a\\n\\u{1b}[2J [content,mtime] \
             by /usr/bin/vim (pid 7, root, logged in as deploy)\n"
        );
    }

    #[test]
    fn an_alert_about_a_line_of_a_log_tells_where_it_stands() {
        let log = json!({"location": "/var/log/auth.log", "text": "sshd: \u{1b}[31mfailed"});
        let alert = json!({"time": "T", "agent": "web1", "rule": {"level": 5, "description": "A login failed."},
            "change": null, "log": log});
        let told = alert_text(&alert);
        assert!(told.starts_with("T  level  5  web1             A login failed: /var/log/auth.log: sshd: "), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
    }

    #[test]
    fn an_alert_about_an_agents_life_tells_its_sentence() {
        let alert = json!({"time": "T", "agent": "web1", "rule": {"level": 10, "description": "Agent is silent"},
                           "change": null, "event": {"name": "silent", "text": "no heartbeat for 30 s"}});
        assert_eq!(alert_text(&alert), "T  level 10  web1             Agent is silent: no heartbeat for 30 s");
    }

    #[test]
    fn status_shows_problems_first() {
        let status = json!({"healthy": false, "problems": ["web1 is silent"], "agents": [
            {"id": "001", "name": "web1", "state": "silent", "entries": 3, "last_seen": null, "cannot": ["who changed a file"]}],
            "ledger": {"size": 9, "root": "ab", "checkpoint_time": "T"}, "deliveries": []});
        let text = shown(Kind::Status, &status);
        assert!(text.starts_with("problem: web1 is silent\n"), "{text}");
        assert!(text.contains("cannot see: who changed a file") && text.ends_with("checkpoint T\n"), "{text}");
    }
}
