//! sudoers(5) and sshd_config(5).

use std::collections::BTreeMap;

use super::difference;

/// Rules and settings of sudo, each on one line and without comments.
fn sudo_lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    joined.lines().filter_map(sudo_line).collect()
}

/// `#include` and `#1000` (a number for a user) look like comments and are none.
fn sudo_line(line: &str) -> Option<String> {
    let line = line.trim();
    let is_word = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()) || rest.starts_with("include");
    let is_comment = line.strip_prefix('#').is_some_and(|rest| !is_word(rest));
    if is_comment || line.is_empty() {
        return None;
    }
    let (content, _) = line
        .char_indices()
        .skip(1)
        .find(|(at, c)| *c == '#' && line[..*at].ends_with([' ', '\t']) && !is_word(&line[at + 1..]))
        .map_or((line, ""), |(at, _)| line.split_at(at));
    Some(content.split_whitespace().collect::<Vec<_>>().join(" "))
}

pub(super) fn sudoers(before: &str, after: &str) -> Vec<String> {
    let (old, new) = (sudo_lines(before), sudo_lines(after));
    let (old, new) = (strs(&old), strs(&new));
    let (gone, come) = difference(&old, &new);
    let what = |line: &str| match line.split([' ', ':', '@', '!', '>']).next().unwrap_or_default() {
        "Defaults" => "setting",
        "User_Alias" | "Runas_Alias" | "Host_Alias" | "Cmnd_Alias" | "Cmd_Alias" => "alias",
        "@include" | "#include" | "@includedir" | "#includedir" => "inclusion",
        _ => "rule",
    };
    let mut found: Vec<_> = come.iter().map(|line| format!("a sudo {} was added: {line}", what(line))).collect();
    found.extend(gone.iter().map(|line| format!("a sudo {} was removed: {line}", what(line))));
    found
}

fn strs(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

/// Keywords of sshd that count each time they stand there; of others the first one does.
const REPEATED: &[&str] = &[
    "acceptenv",
    "allowgroups",
    "allowusers",
    "denygroups",
    "denyusers",
    "hostcertificate",
    "hostkey",
    "include",
    "listenaddress",
    "permitlisten",
    "permitopen",
    "port",
    "setenv",
    "subsystem",
];

/// The values of sshd's keywords, by the block that they stand in and the keyword in lower case; with the keyword as written.
type Settings<'t> = BTreeMap<(String, String), (&'t str, Vec<String>)>;

fn sshd_settings(text: &str) -> Settings<'_> {
    let mut settings = Settings::new();
    let mut block = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
        let keyword = &line[..end];
        let value = line[end..].trim_start_matches(|c: char| c.is_whitespace() || c == '=');
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let lower = keyword.to_ascii_lowercase();
        if lower == "match" {
            block = if value.eq_ignore_ascii_case("all") { String::new() } else { value };
            continue;
        }
        let is_repeated = REPEATED.contains(&lower.as_str());
        let (_, values) = settings.entry((block.clone(), lower)).or_insert((keyword, Vec::new()));
        if is_repeated || values.is_empty() {
            values.push(value);
        }
    }
    settings
}

pub(super) fn sshd(before: &str, after: &str) -> Vec<String> {
    let (old, new) = (sshd_settings(before), sshd_settings(after));
    let mut found = Vec::new();
    let context = |block: &str| if block.is_empty() { String::new() } else { format!(" for Match {block}") };
    for ((block, lower), (keyword, values)) in &new {
        let context = context(block);
        let was = old.get(&(block.clone(), lower.clone())).map(|(_, values)| values.as_slice()).unwrap_or_default();
        if REPEATED.contains(&lower.as_str()) {
            let (was, is) = (strs(was), strs(values));
            let (gone, come) = difference(&was, &is);
            found.extend(come.iter().map(|value| format!("{keyword} {value} was added{context}")));
            found.extend(gone.iter().map(|value| format!("{keyword} {value} was removed{context}")));
        } else if let (Some(to), from) = (values.first(), was.first()) {
            match from {
                Some(from) if from == to => {}
                Some(from) => found.push(format!("{keyword} went from {from} to {to}{context}")),
                None => found.push(format!("{keyword} was set to {to}{context}; it was not set before")),
            }
        }
    }
    for ((block, _), (keyword, values)) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        found.push(format!("{keyword} is not set any more{}; it was {}", context(block), values.join(", ")));
    }
    found
}
