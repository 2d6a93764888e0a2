//! Changes and who made them, for people: a line in lists, and one change in full with its diff.

use std::io::{self, IsTerminal as _, Write};

use serde_json::Value;

use super::{escape, list, number, or_dash, text};

/// `KIND  PATH: SENTENCE  [ATTRIBUTES]  (bytes …)  by WHO`.
pub(super) fn line(change: &Value) -> String {
    let mut line = format!("{:<9} {}", text(change, "kind"), text(change, "path"));
    if let Some(from) = change.get("moved_from").and_then(Value::as_str) {
        line.push_str(&format!(" (from {})", escape(from)));
    }
    if let Some(place) = place(change) {
        line.push_str(&format!(" ({place})"));
    }
    if let [first, more @ ..] = sentences(change, "summary").as_slice() {
        line.push_str(&format!(": {first}"));
        if !more.is_empty() {
            line.push_str(&format!(" (and {} more)", more.len()));
        }
    }
    let attributes = sentences(change, "attributes");
    if !attributes.is_empty() {
        line.push_str(&format!(" [{}]", attributes.join(",")));
    } else if text(change, "kind") == "modified" {
        line.push_str(" (had a part in the change before)");
    }
    if let Some(bytes) = bytes(change) {
        line.push_str(&format!(" ({bytes})"));
    }
    if let Some(who) = change.get("actor").filter(|a| a.is_object()) {
        line.push_str(&format!(" by {}", actor(who)));
    }
    match text(change, "detected_by").as_str() {
        "" | "realtime" => {}
        by => line.push_str(&format!(" ({by})")),
    }
    line
}

/// What a person wants to know first: what it means, what became of the lines, who.
pub(super) fn explained(out: &mut impl Write, change: &Value) -> io::Result<()> {
    for sentence in sentences(change, "summary") {
        writeln!(out, "  {sentence}")?;
    }
    if let Some(bytes) = bytes(change) {
        writeln!(out, "  {bytes} altered")?;
    }
    for note in sentences(change, "notes") {
        writeln!(out, "  note: {note}")?;
    }
    let actors = match list(change, "actors") {
        [] => change.get("actor").filter(|a| a.is_object()).into_iter().collect::<Vec<_>>(),
        actors => actors.iter().collect(),
    };
    for who in actors {
        writeln!(out, "  by {}{}", actor(who), chain(who))?;
    }
    let tags = sentences(change, "tags");
    if !tags.is_empty() {
        writeln!(out, "  tags: {}", tags.join(", "))?;
    }
    if let Some(diff) = change.get("diff").filter(|d| d.is_object()) {
        write_diff(out, diff)?;
    }
    writeln!(out)
}

/// The same object without what `explained` tells better.
pub(super) fn rest(change: &Value) -> Value {
    let mut rest = change.clone();
    if let Some(object) = rest.as_object_mut() {
        object.remove("diff");
        object.remove("summary");
        object.remove("notes");
    }
    rest
}

fn write_diff(out: &mut impl Write, diff: &Value) -> io::Result<()> {
    let (plain, red, green, blue) = match is_coloured() {
        true => ("\u{1b}[0m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[36m"),
        false => ("", "", "", ""),
    };
    writeln!(out)?;
    for line in diff.get("text").and_then(Value::as_str).unwrap_or_default().lines() {
        let colour = match line.as_bytes().first() {
            Some(b'-') => red,
            Some(b'+') => green,
            Some(b'@') => blue,
            _ => "",
        };
        let end = if colour.is_empty() { "" } else { plain };
        writeln!(out, "  {colour}{}{end}", escape(line))?;
    }
    match diff.get("note").and_then(Value::as_str) {
        Some(note) => writeln!(out, "  no more of the text: {}", escape(note)),
        None => Ok(()),
    }
}

/// On a terminal, unless the environment says no (no-color.org).
fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `/usr/bin/vim (pid 7, root, logged in as deploy from 198.51.100.7)`.
pub(super) fn actor(actor: &Value) -> String {
    let exe = or_dash(&text(actor, "exe"));
    let user = match (text(actor, "user"), actor.get("uid").and_then(Value::as_u64)) {
        (name, _) if !name.is_empty() => name,
        (_, Some(uid)) => format!("uid {uid}"),
        _ => "user unknown".to_owned(),
    };
    let login = text(actor, "login_user");
    let mut login = if login.is_empty() || login == user { String::new() } else { format!(", logged in as {login}") };
    if let Some(remote) = actor.get("remote").filter(|r| r.is_object()) {
        let sign = if login.is_empty() { "," } else { "" };
        login.push_str(&format!("{sign} from {}", text(remote, "address")));
    }
    let container = actor.get("container").filter(|c| c.is_object());
    let container = container.map_or_else(String::new, |c| format!(", in container {}", named(c)));
    format!("{exe} (pid {}, {user}{login}{container})", number(actor, "pid"))
}

/// ` ← bash ← sshd`: the parent and those above it.
fn chain(actor: &Value) -> String {
    let parent = text(actor, "parent_exe");
    let above = list(actor, "ancestors").iter().map(|ancestor| or_dash(&text(ancestor, "exe")));
    let all = (!parent.is_empty()).then_some(parent).into_iter().chain(above);
    all.map(|exe| format!(" ← {exe}")).collect()
}

/// `bytes 65,536 to 131,072`.
fn bytes(change: &Value) -> Option<String> {
    let range = change.get("bytes").filter(|b| b.is_object())?;
    let number = |name| range.get(name).and_then(Value::as_u64).map(grouped);
    Some(format!("bytes {} to {}", number("start")?, number("end")?))
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn place(change: &Value) -> Option<String> {
    let container = change.get("container").filter(|c| c.is_object())?;
    Some(format!("{} in container {}", text(container, "path"), named(container)))
}

/// A container's name, or the start of its number.
fn named(container: &Value) -> String {
    match text(container, "name") {
        name if name.is_empty() => text(container, "id").chars().take(12).collect(),
        name => name,
    }
}

fn sentences(value: &Value, name: &str) -> Vec<String> {
    list(value, name).iter().filter_map(Value::as_str).map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change() -> Value {
        json!({
            "kind": "modified", "path": "/etc/passwd", "attributes": ["content"], "detected_by": "realtime",
            "summary": ["user eve was added with uid 0\u{1b}[2J", "the shell of user a went from x to y"],
            "notes": ["seen twice"], "tags": ["pci_dss_11.5.2"],
            "actor": {"pid": 7, "exe": "/usr/bin/vim", "user": "root", "login_user": "deploy", "parent_exe": "/bin/bash",
                      "ancestors": [{"pid": 5, "exe": "/usr/sbin/sshd"}, {"pid": 1, "exe": null}],
                      "remote": {"address": "198.51.100.7", "from": "environment"}},
            "diff": {"text": "@@ -1 +1 @@\n-a\n+b\u{202e}\u{1b}[1m\n", "note": "longer than 64 KiB"}
        })
    }

    #[test]
    fn a_line_tells_the_first_sentence_and_where_somebody_came_from() {
        assert_eq!(
            line(&change()),
            "modified  /etc/passwd: user eve was added with uid 0\\u{1b}[2J (and 1 more) [content] \
             by /usr/bin/vim (pid 7, root, logged in as deploy from 198.51.100.7)"
        );
        let log = json!({"kind": "rewritten", "path": "/var/log/a", "bytes": {"start": 65536, "end": 1131072},
                         "container": {"id": "0123456789abcdef", "name": null, "path": "/log/a"}});
        assert_eq!(line(&log), "rewritten /var/log/a (/log/a in container 0123456789ab) (bytes 65,536 to 1,131,072)");
    }

    #[test]
    fn nothing_of_a_diff_drives_the_terminal() {
        let mut out = Vec::new();
        explained(&mut out, &change()).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(!out.contains('\u{1b}') && !out.contains('\u{202e}'), "{out}");
        assert!(out.contains(
            "  by /usr/bin/vim (pid 7, root, logged in as deploy from 198.51.100.7) ← /bin/bash ← /usr/sbin/sshd ← -\n"
        ));
        assert!(
            out.contains("  @@ -1 +1 @@\n  -a\n  +b\\u{202e}\\u{1b}[1m\n  no more of the text: longer than 64 KiB\n"),
            "{out}"
        );
        assert!(out.starts_with("  user eve was added"), "{out}");
    }
}
