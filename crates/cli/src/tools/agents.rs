//! `agent_control`, `list_agents`, `ossec-control`: which agents there are, and how they are.
//!
//! OSSEC's agents are those of `client.keys`, with their numbers. Agents of Tallystick stand behind them, with theirs, or with
//! 10000 added where one is taken.

use std::io::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tally_types::MONTHS;

use super::{Ended, Letters, ask_options, keys, orders};
use crate::ask::{ask_each, manager_dir};

/// An agent as the tools tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub id: String,
    pub name: String,
    pub address: String,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    Disconnected,
    NeverConnected,
}

impl State {
    const fn words(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Disconnected => "Disconnected",
            Self::NeverConnected => "Never connected",
        }
    }
}

/// What the manager tells of its agents: name and whether it is there.
fn told() -> Vec<(String, String, State)> {
    let mut found = Vec::new();
    let request = json!({ "op": "agent.list" });
    let asked = ask_each(&manager_dir(&ask_options()), &request, |_, agent| {
        let text = |key: &str| agent.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let state = match text("state").as_str() {
            "watching" | "baselining" => State::Active,
            "never-seen" => State::NeverConnected,
            _ => State::Disconnected,
        };
        found.push((text("id"), text("name"), state));
        Ok(())
    });
    if let Err(error) = asked {
        eprintln!("agents are told without their state: {error}");
    }
    found
}

/// All agents: those with a key of OSSEC first.
fn known() -> Result<Vec<Known>> {
    let keys = keys::read(&keys::path()?)?;
    Ok(merged(keys.iter().map(|key| (key.id.to_string(), key.name.to_string(), key.address_text.to_string())), told()))
}

fn merged(keys: impl Iterator<Item = (String, String, String)>, mut told: Vec<(String, String, State)>) -> Vec<Known> {
    let mut agents = Vec::new();
    for (id, name, address) in keys {
        let place = told.iter().position(|(_, known, _)| *known == name);
        let state = place.map_or(State::NeverConnected, |place| told.remove(place).2);
        agents.push(Known { id, name, address, state });
    }
    for (id, name, state) in told {
        // The number is another agent's there: scripts want a number all the same.
        let is_taken = agents.iter().any(|agent: &Known| agent.id == id);
        let id = if is_taken { format!("1{id:0>4}") } else { id };
        agents.push(Known { id, name, address: "any".into(), state });
    }
    agents
}

const AGENT_CONTROL: &str = "
OSSEC HIDS agent_control: Control remote agents.
Available options:
\t-h          This help message.
\t-l          List available (active or not) agents.
\t-lc         List active agents.
\t-i <id>     Extracts information from an agent.
\t-R <id>     Restarts agent.
\t-r -a       Runs the integrity/rootkit checking on all agents now.
\t-r          Runs the integrity/rootkit checking on one agent now.

\t-b <ip>     Blocks the specified ip address.
\t-f <ar>     Used with -b, specifies which response to run.
\t-L          List available active responses.
\t-s          Changes the output to CSV (comma delimited).
\t-j          Changes the output to JSON .
\t-u <id>     Used with -r and -b. Specifies the agent to use.
";

pub fn agent_control(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "iRubfM")?;
    if letters.given.is_empty() || letters.has('h') {
        out.write_all(AGENT_CONTROL.as_bytes())?;
        return Ok(0);
    }
    if let Some(letter) = letters.unknown("lcisjRruabfL") {
        bail!("-{letter} is not done yet");
    }
    if let Some(code) = orders::carry_out(&letters, &known()?, out)? {
        return Ok(code);
    }
    let host = tally_agent::enrol::host_name();
    let (csv, json) = (letters.has('s'), letters.has('j'));
    if let Some(id) = letters.value('i') {
        return one(&known()?, &host, id, out, csv, json);
    }
    listed("agent_control", &known()?, &host, out, letters.has('c'), csv, json)?;
    Ok(0)
}

const SYSCHECK_CONTROL: &str = "
OSSEC HIDS syscheck_control: Manages the integrity checking database.
Available options:
\t-h          This help message.
\t-l          List available (active or inactive) agents.
\t-lc         List only active agents.
\t-i <id>     List modified files for the agent.
\t-f <file>   Prints information about a modified file.
\t            Must be used with -i <id>.
\t-u <id>     Accepts the present state of the agent's files, which is on
\t            record (tally promote).
\t-u all      The same for all agents.
\t-z          Used with -f: there is no counter to zero, as no change is
\t            silenced for having been there before.
\t-s          Changes the output to CSV (comma delimited).
\t-j          Changes the output to JSON.
";

pub fn syscheck_control(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "iuf")?;
    if letters.given.is_empty() || letters.has('h') {
        out.write_all(SYSCHECK_CONTROL.as_bytes())?;
        return Ok(0);
    }
    match letters.unknown("lcifsjuz") {
        Some('d') => bail!("a file is left out by the agent's policy (exclude), or by <ignore> of an OSSEC agent"),
        Some('r') => bail!("a Windows agent's registry stands among its files, below the names of the hives"),
        Some(letter) => bail!("-{letter} is not known; -h tells the options"),
        None => {}
    }
    let agents = known()?;
    if let Some(id) = letters.value('u') {
        return accept(&agents, id, out, letters.has('j'));
    }
    let Some(id) = letters.value('i') else {
        let host = tally_agent::enrol::host_name();
        listed("syscheck_control", &agents, &host, out, letters.has('c'), letters.has('s'), letters.has('j'))?;
        return Ok(0);
    };
    let Some(agent) = agents.iter().find(|agent| agent.id == id) else {
        return orders::invalid(id, out, letters.has('j'));
    };
    let changes = changes(&agent.name, letters.value('f'))?;
    if letters.has('j') {
        let list: Vec<_> = changes
            .iter()
            .map(|c| json!({ "event": c.kind, "date": c.date, "file": c.path, "count": c.count }))
            .collect();
        write!(out, "{}", json!({ "error": 0, "response": list }))?;
        return Ok(0);
    }
    if letters.has('s') {
        for change in &changes {
            writeln!(out, "{},{},{}", change.date, change.path, change.count)?;
        }
        return Ok(0);
    }
    writeln!(out, "\nIntegrity changes for agent '{} ({id}) - {}':", agent.name, agent.address)?;
    if changes.is_empty() {
        write!(out, "\n** No entries found.\n")?;
    }
    let mut day = "";
    for change in &changes {
        let this_day = change.date.get(..11).unwrap_or(&change.date);
        if this_day != day {
            day = this_day;
            writeln!(out, "\nChanges for {day}:")?;
        }
        writeln!(out, "{},{} - {}", change.date, change.count, change.path)?;
    }
    Ok(0)
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

const ROOTCHECK_CONTROL: &str = "
OSSEC HIDS rootcheck_control: Manages the policy and auditing database.
Available options:
\t-h          This help message.
\t-l          List available (active or not) agents.
\t-lc         List only active agents.
\t-s          Changes the output to CSV (comma delimited).
\t-j          Changes the output to JSON.
";

pub fn rootcheck_control(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "iu")?;
    if letters.given.is_empty() || letters.has('h') {
        out.write_all(ROOTCHECK_CONTROL.as_bytes())?;
        return Ok(0);
    }
    if let Some(letter) = letters.unknown("lcsj") {
        bail!("-{letter} is not done yet: no check for rootkits or of policies is kept");
    }
    let host = tally_agent::enrol::host_name();
    listed("rootcheck_control", &known()?, &host, out, letters.has('c'), letters.has('s'), letters.has('j'))?;
    Ok(0)
}

/// One change as the tool tells of it.
struct Told {
    /// `2026 Nov 24 03:04:59`, in UTC.
    date: String,
    path: String,
    kind: String,
    /// How often the path had changed until then.
    count: u32,
}

/// What changed on an agent, oldest first.
fn changes(agent: &str, file: Option<&str>) -> Result<Vec<Told>> {
    let mut found = Vec::new();
    let request = json!({ "op": "change.list", "agent": agent, "limit": 0 });
    ask_each(&manager_dir(&ask_options()), &request, |_, change| {
        let text = |key: &str| change.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (time, path, kind) = (text("time"), text("path"), text("kind"));
        if file.is_none_or(|file| path.contains(file)) {
            found.push(Told { date: date(&time), path, kind, count: 0 });
        }
        Ok(())
    })?;
    found.reverse();
    let mut counts = std::collections::HashMap::new();
    for change in &mut found {
        let count = counts.entry(change.path.clone()).or_insert(0);
        if change.kind != "added" {
            *count += 1;
        }
        change.count = *count;
    }
    Ok(found)
}

/// `2026-11-24T03:04:59Z` as OSSEC writes it.
fn date(time: &str) -> String {
    let month = time
        .get(5..7)
        .and_then(|month| month.parse::<usize>().ok())
        .and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    match (time.get(..4), month, time.get(8..10), time.get(11..19)) {
        (Some(year), Some(month), Some(day), Some(clock)) => format!("{year} {month} {day} {clock}"),
        _ => time.to_owned(),
    }
}

/// The list as OSSEC prints it; the manager itself is agent 000.
pub fn listed(
    tool: &str,
    agents: &[Known],
    host: &str,
    out: &mut dyn Write,
    active: bool,
    csv: bool,
    json: bool,
) -> Result<()> {
    let agents = agents.iter().filter(|agent| !active || agent.state == State::Active);
    if json {
        let mut list = vec![json!({ "id": "000", "name": host, "ip": "127.0.0.1", "status": "Active" })];
        list.extend(agents.map(
            |agent| json!({ "id": agent.id, "name": agent.name, "ip": agent.address, "status": agent.state.words() }),
        ));
        write!(out, "{}", json!({ "error": 0, "response": list }))?;
        return Ok(());
    }
    if csv {
        writeln!(out, "000,{host} (server),127.0.0.1,Active/Local,")?;
        for agent in agents {
            writeln!(out, "{},{},{},{},", agent.id, agent.name, agent.address, agent.state.words())?;
        }
        return Ok(writeln!(out)?);
    }
    write!(out, "\nOSSEC HIDS {tool}. List of available agents:\n")?;
    writeln!(out, "   ID: 000, Name: {host} (server), IP: 127.0.0.1, Active/Local")?;
    for agent in agents {
        writeln!(out, "   ID: {}, Name: {}, IP: {}, {}", agent.id, agent.name, agent.address, agent.state.words())?;
    }
    if !active {
        write!(out, "\nList of agentless devices:\n")?;
    }
    Ok(writeln!(out)?)
}

fn one(agents: &[Known], host: &str, id: &str, out: &mut dyn Write, csv: bool, json: bool) -> Ended {
    let server = Known { id: "000".into(), name: host.into(), address: "127.0.0.1".into(), state: State::Active };
    let agent = if id == "000" { Some(&server) } else { agents.iter().find(|agent| agent.id == id) };
    let Some(agent) = agent else { return orders::invalid(id, out, json) };
    let status = if id == "000" { "Active/Local" } else { agent.state.words() };
    let Known { id, name, address, .. } = agent;
    let (version, seen) = if id == "000" { (own_version(), None) } else { facts(name) };
    let seen = seen.unwrap_or_else(|| "Not available".to_owned());
    if json {
        write!(
            out,
            "{}",
            json!({ "error": 0, "response": { "id": id, "name": name, "ip": address, "status": status, "version": version, "lastKeepAlive": seen } })
        )?;
    } else if csv {
        writeln!(out, "{id},{name},{address},{status},Unknown,{version},{seen},Unknown,Unknown,")?;
    } else {
        write!(out, "\nOSSEC HIDS agent_control. Agent information:\n   Agent ID:   {id}\n   Agent Name: {name}\n")?;
        write!(out, "   IP address: {address}\n   Status:     {status}\n\n   Client version:      {version}\n")?;
        write!(out, "   Last keep alive:     {seen}\n\n")?;
    }
    Ok(0)
}

fn own_version() -> String {
    format!("Tallystick {}", env!("CARGO_PKG_VERSION"))
}

/// Which program an agent is, and when it was last heard, in UTC.
fn facts(name: &str) -> (String, Option<String>) {
    let mut found = ("Unknown".to_owned(), None);
    let asked = ask_each(&manager_dir(&ask_options()), &json!({ "op": "agent.show", "agent": name }), |_, agent| {
        let text = |key: &str| agent.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(version) = text("version") {
            version.clone_into(&mut found.0);
        }
        found.1 = text("last_seen").map(date);
        Ok(())
    });
    // One that has a key only is not known to the manager yet.
    drop(asked);
    found
}

const LIST_AGENTS: &str = "
OSSEC HIDS list_agents: List available agents.
Available options:
\t-h    This help message.
\t-a    List all agents.
\t-c    List the connected (active) agents.
\t-n    List the not connected (inactive) agents.
";

pub fn list_agents(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "")?;
    let (wanted, word): (fn(State) -> bool, &str) = match letters.given.first().map(|(letter, _)| *letter) {
        Some('a') => (|_| true, "available"),
        Some('c') => (|state| state == State::Active, "active"),
        Some('n') => (|state| state != State::Active, "not active"),
        _ => {
            out.write_all(LIST_AGENTS.as_bytes())?;
            return Ok(0);
        }
    };
    let agents = known()?;
    let mut any = false;
    for agent in agents.iter().filter(|agent| wanted(agent.state)) {
        any = true;
        writeln!(out, "{}-{} is {word}.", agent.name, agent.address)?;
    }
    if !any {
        writeln!(out, "** No agent available.")?;
    }
    Ok(0)
}
