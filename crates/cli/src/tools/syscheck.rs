//! `syscheck_control`: what changed on agents, file by file, and accepting it.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tally_proto::sentence;
use tally_types::Timestamp;

use super::agents::{Known, date, known, listed, with_mask};
use super::{Ended, Letters, ask_options, orders};
use crate::ask::{ask_each, manager_dir};

const HELP: &str = "
OSSEC HIDS syscheck_control: Manages the integrity checking database.
Available options:
\t-h          This help message.
\t-l          List available (active or inactive) agents.
\t-lc         List only active agents.
\t-u <id>     Accepts the present state of the agent's files, which is on
\t            record (tally promote).
\t-u all      The same for all agents.
\t-i <id>     List modified files for the agent.
\t-r -i <id>  List modified registry entries for the agent (Windows only).
\t-f <file>   Prints information about a modified file.
\t            Must be used with -i <id>.
\t-z          Used with -f: there is no counter to zero, as no change is
\t            silenced for having been there before.
\t-s          Changes the output to CSV (comma delimited).
\t-j          Changes the output to JSON.
";

/// One change as the tool tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub date: String,
    pub path: String,
    pub kind: String,
    /// How often the path had been modified until then.
    pub count: u32,
    /// The entry as it is in JSON, if there is one after the change, and the names of what differs from before.
    pub after: Option<Value>,
    pub attributes: Vec<String>,
}

pub fn syscheck_control(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "iuf")?;
    if letters.given.is_empty() || letters.has('h') {
        out.write_all(HELP.as_bytes())?;
        return Ok(0);
    }
    match letters.unknown("lcifsjuzr") {
        Some('d') => bail!("a file is left out by the agent's policy (exclude), or by <ignore> of an OSSEC agent"),
        Some(letter) => bail!("-{letter} is not known; -h tells the options"),
        None => {}
    }
    let (agents, json) = (known()?, letters.has('j'));
    if let Some(id) = letters.value('u') {
        return accept(&agents, id, out, json);
    }
    let Some(id) = letters.value('i') else {
        let host = tally_agent::enrol::host_name();
        listed("syscheck_control", &agents, &host, out, letters.has('c'), letters.has('s'), json)?;
        return Ok(0);
    };
    let Some(agent) = agents.iter().find(|agent| agent.id == id) else { return orders::invalid(id, out, json) };
    let is_asked = |path: &str| {
        let is_registry = path.starts_with("HKEY_");
        is_registry == letters.has('r') && letters.value('f').is_none_or(|file| path.contains(file))
    };
    let changes = changes(&agent.name, is_asked)?;
    print(agent, &changes, &letters, out)
}

impl Told {
    /// The number that OSSEC shows: none for the first modification, and no more than four.
    const fn number(&self) -> u32 {
        match self.count {
            0 | 1 => 0,
            2 | 3 => self.count,
            _ => 4,
        }
    }
}

pub fn print(agent: &Known, changes: &[Told], letters: &Letters, out: &mut dyn Write) -> Ended {
    if letters.has('j') {
        let list: Vec<_> = changes
            .iter()
            .map(|c| json!({ "event": c.kind, "date": c.date, "file": c.path, "count": c.number() }))
            .collect();
        write!(out, "{}", json!({ "error": 0, "response": list }))?;
        return Ok(0);
    }
    if letters.has('s') {
        for change in changes {
            writeln!(out, "{},{},{}", change.date, change.path, change.number())?;
        }
        return Ok(0);
    }
    let what = if letters.has('r') { "registry " } else { "" };
    let (name, id, address) = (&agent.name, &agent.id, with_mask(&agent.address));
    writeln!(out, "\nIntegrity {what}changes for agent '{name} ({id}) - {address}':")?;
    if let Some(file) = letters.value('f') {
        writeln!(out, "Detailed information for entries matching: '{}'", sentence::shown(file))?;
    }
    if changes.is_empty() {
        write!(out, "\n** No entries found.\n")?;
    }
    let mut day = "";
    for change in changes {
        if letters.value('f').is_some() {
            writeln!(out, "\n{},{} - {}", change.date, change.number(), change.path)?;
            detail(change, out)?;
            continue;
        }
        let this_day = change.date.get(..11).unwrap_or(&change.date);
        if this_day != day {
            day = this_day;
            writeln!(out, "\nChanges for {day}:")?;
        }
        writeln!(out, "{},{} - {}", change.date, change.number(), change.path)?;
    }
    Ok(0)
}

/// What was recorded; a `>` stands before what differs from before.
fn detail(change: &Told, out: &mut dyn Write) -> Result<()> {
    let Some(after) = &change.after else {
        return Ok(writeln!(out, "File deleted.")?);
    };
    match change.count {
        0 => writeln!(out, "File added to the database. ")?,
        1 => writeln!(out, "File changed. - 1st time modified.")?,
        2 => writeln!(out, "File changed. - 2nd time modified.")?,
        count => writeln!(out, "File changed. - {count} times modified.")?,
    }
    let mark = |attribute: &str| {
        let differs = change.count > 0 && change.attributes.iter().any(|name| name == attribute);
        if differs { ">" } else { "" }
    };
    let number = |key: &str| after.get(key).and_then(Value::as_u64).map_or_else(String::new, |n| n.to_string());
    let text = |key: &str| after.get(key).and_then(Value::as_str).unwrap_or_default();
    writeln!(out, "Integrity checking values:")?;
    writeln!(out, "   Size: {}{}", mark("size"), number("size"))?;
    writeln!(out, "   Perm: {}{}", mark("mode"), permissions(text("mode")))?;
    writeln!(out, "   Uid:  {}{}", mark("owner"), number("uid"))?;
    writeln!(out, "   Gid:  {}{}", mark("group"), number("gid"))?;
    writeln!(out, "   Md5:  {}{}", mark("content"), text("md5"))?;
    let sha1 = [text("sha1"), text("sha256")].into_iter().filter(|sum| !sum.is_empty()).collect::<Vec<_>>().join(":");
    writeln!(out, "   Sha1: {}{sha1}", mark("content"))?;
    Ok(())
}

/// `0644` as `rw-r--r--`; of setuid and the like the letters of ls.
fn permissions(octal: &str) -> String {
    let Ok(mode) = u32::from_str_radix(octal, 8) else { return octal.to_owned() };
    let special = [(0o4000, 's'), (0o2000, 's'), (0o1000, 't')];
    let mut out = String::with_capacity(9);
    for (nth, (bit, letter)) in special.into_iter().enumerate() {
        let three = mode >> (6 - 3 * nth);
        out.push(if three & 4 > 0 { 'r' } else { '-' });
        out.push(if three & 2 > 0 { 'w' } else { '-' });
        out.push(match (mode & bit > 0, three & 1 > 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// What OSSEC calls clearing its database: what is there now is what should be there.
fn accept(agents: &[Known], id: &str, out: &mut dyn Write, json: bool) -> Ended {
    let all = id == "all";
    let mut meant = agents.iter().filter(|agent| all || agent.id == id).peekable();
    if !all && meant.peek().is_none() {
        return orders::invalid(id, out, json);
    }
    let mut held = Vec::new();
    for agent in meant {
        let request = json!({ "op": "promote", "agent": agent.name, "all": true, "apply": true });
        match ask_each(&manager_dir(&ask_options()), &request, |_, _| Ok(())) {
            Ok(_) => {}
            // Of all, those that have no snapshot yet have nothing to accept.
            Err(error) if all => held.push(format!("{}: {error}", agent.name)),
            Err(error) => return Err(error.into()),
        }
    }
    held.iter().for_each(|why| eprintln!("syscheck_control: {why}"));
    if json {
        write!(out, "{}", json!({ "error": 0, "response": "Integrity check database updated" }))?;
    } else {
        write!(out, "\n** Integrity check database updated.\n\n")?;
    }
    Ok(0)
}

/// What changed on an agent, oldest first.
fn changes(agent: &str, is_asked: impl Fn(&str) -> bool) -> Result<Vec<Told>> {
    let mut found = Vec::new();
    let request = json!({ "op": "change.list", "agent": agent, "limit": 0 });
    ask_each(&manager_dir(&ask_options()), &request, |_, change| {
        let text = |key: &str| change.get(key).and_then(Value::as_str).unwrap_or_default();
        let path = sentence::shown(text("path"));
        if is_asked(&path) {
            let names = change.get("attributes").and_then(Value::as_array).into_iter().flatten();
            found.push(Told {
                date: text("time").parse::<Timestamp>().map_or_else(|_| text("time").to_owned(), date),
                path,
                kind: text("kind").to_owned(),
                count: 0,
                after: change.get("after").filter(|after| after.is_object()).cloned(),
                attributes: names.filter_map(Value::as_str).map(str::to_owned).collect(),
            });
        }
        Ok(())
    })?;
    found.reverse();
    let mut counts = HashMap::new();
    for change in &mut found {
        let count = counts.entry(change.path.clone()).or_insert(0);
        if change.kind != "added" {
            *count += 1;
        }
        change.count = *count;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_letters() {
        for (mode, letters) in
            [("0644", "rw-r--r--"), ("4755", "rwsr-xr-x"), ("2745", "rwxr-Sr-x"), ("1777", "rwxrwxrwt"), ("?", "?")]
        {
            assert_eq!(permissions(mode), letters, "{mode}");
        }
    }
}
