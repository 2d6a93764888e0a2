//! `agent_control`, `list_agents`, `ossec-control`: which agents there are, and how they are.
//!
//! OSSEC's agents are those of `client.keys`, with their numbers. Agents of Tallystick stand behind them, with theirs, or with
//! 10000 added where one is taken.

use std::io::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tally_proto::sentence;
use tally_types::Timestamp;

use super::rootcheck::{Span, Told};
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
pub fn known() -> Result<Vec<Known>> {
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
\t-M <action> FIM maintenance: status is \"disabled\"; after patching use
\t            -r -u <id>, then syscheck_control -u <id>.
\t-L          List available active responses.
\t-m          Show the limit of agents that can be added.
\t-s          Changes the output to CSV (comma delimited).
\t-j          Changes the output to JSON .
\t-u <id>     Used with -r, -b and -M. Specifies the agent to use.
";

pub fn agent_control(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "iRubfM")?;
    if letters.given.is_empty() || letters.has('h') {
        out.write_all(AGENT_CONTROL.as_bytes())?;
        return Ok(0);
    }
    if let Some(letter) = letters.unknown("lcisjRruabfLMm") {
        bail!("-{letter} is not known; -h tells the options");
    }
    if letters.has('m') {
        writeln!(out, "\nOSSEC HIDS agent_control. Any number of agents can be added.")?;
        return Ok(0);
    }
    if let Some(action) = letters.value('M') {
        return maintenance(action, &letters, out);
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

/// A time in which changes are accepted by themselves is not there: what changed is looked at, and then accepted.
fn maintenance(action: &str, letters: &Letters, out: &mut dyn Write) -> Ended {
    let Some(id) = letters.value('u') else { bail!("-M needs -u ID") };
    if !known()?.iter().any(|agent| agent.id == id) {
        return orders::invalid(id, out, letters.has('j'));
    }
    if action != "status" {
        bail!(
            "there is no FIM maintenance mode: nothing is silenced while it lasts. After patching let the agent look \
             (agent_control -r -u {id}), and accept what changed (syscheck_control -u {id}, or tally promote)"
        );
    }
    writeln!(out, "\nOSSEC HIDS agent_control. FIM maintenance mode on agent {id}: disabled")?;
    Ok(0)
}

/// `2026 Nov 24 03:04:59`, in this host's zone, as OSSEC's tools write it.
pub fn date(time: Timestamp) -> String {
    let at = tally_sys::clock::local(time.micros().div_euclid(1_000_000));
    format!("{} {} {:02} {:02}:{:02}:{:02}", at.year, at.month_name(), at.day, at.hour, at.minute, at.second)
}

/// `Tue Nov 24 03:17:16 2026`, as ctime(3) has it.
fn ctime(time: Timestamp) -> String {
    let at = tally_sys::clock::local(time.micros().div_euclid(1_000_000));
    format!("{} {} {}", at.weekday_name(), at.syslog(), at.year)
}

/// One address with the mask that OSSEC shows with it.
pub fn with_mask(address: &str) -> String {
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => format!("{address}/32"),
        Ok(std::net::IpAddr::V6(_)) => format!("{address}/128"),
        Err(_) => address.to_owned(),
    }
}

/// What `-i` tells of an agent beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub os: Option<String>,
    pub version: Option<String>,
    pub encryption: Option<String>,
    pub last_seen: Option<Timestamp>,
    pub told: Told,
}

impl Details {
    fn of(name: &str) -> Self {
        let mut details = Self::default();
        let asked =
            ask_each(&manager_dir(&ask_options()), &json!({ "op": "agent.show", "agent": name }), |_, agent| {
                let text = |key: &str| agent.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
                details.version = text("version").map(sentence::shown);
                // An OSSEC agent's is uname's whole line; of one of ours, system and kernel.
                let of_host =
                    |key: &str| agent.pointer(&format!("/host/{key}")).and_then(Value::as_str).map(sentence::shown);
                let system: Vec<_> = ["os", "kernel", "architecture"].into_iter().filter_map(of_host).collect();
                details.os = (!system.is_empty()).then(|| system.join(" "));
                let tiers =
                    agent.get("tiers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
                let mut ciphers = tiers.filter_map(|tier| tier.strip_prefix("OSSEC's datagrams, by "));
                details.encryption = ciphers.next().map(sentence::shown);
                details.last_seen = text("last_seen").and_then(|time| time.parse().ok());
                Ok(())
            });
        // One that has a key only is not known to the manager yet.
        drop(asked);
        details.told = Told::of(name).unwrap_or_default();
        details
    }
}

fn one(agents: &[Known], host: &str, id: &str, out: &mut dyn Write, csv: bool, json: bool) -> Ended {
    let server = Known { id: "000".into(), name: host.into(), address: "127.0.0.1".into(), state: State::Active };
    if id == "000" {
        let details =
            Details { version: Some(format!("Tallystick {}", env!("CARGO_PKG_VERSION"))), ..Details::default() };
        return shown(&server, "Active/Local", &details, out, csv, json).map(|()| 0);
    }
    let Some(agent) = agents.iter().find(|agent| agent.id == id) else { return orders::invalid(id, out, json) };
    let agent = Known { address: with_mask(&agent.address), ..agent.clone() };
    shown(&agent, agent.state.words(), &Details::of(&agent.name), out, csv, json).map(|()| 0)
}

pub fn shown(agent: &Known, status: &str, details: &Details, out: &mut dyn Write, csv: bool, json: bool) -> Result<()> {
    let Known { id, name, address, .. } = agent;
    let Details { os, version, encryption, last_seen, told } = details;
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    let (os, version, encryption) = (or(os, "Unknown"), or(version, "Unknown"), or(encryption, "unknown"));
    let seen = last_seen.map_or_else(|| "Not available".to_owned(), ctime);
    let began = |span: Span| span.began.map_or_else(|| "Unknown".to_owned(), ctime);
    // Of a look that goes on the end is not known yet.
    let ended = |span: Span| span.ended.filter(|ended| Some(*ended) >= span.began).map_or_else(String::new, ctime);
    let (syscheck, rootcheck) = (began(told.syscheck), began(told.rootcheck));
    if json {
        let response = json!({
            "id": id, "name": name, "ip": address, "status": status, "os": os, "version": version,
            "encryption": encryption, "lastKeepAlive": seen,
            "syscheckTime": syscheck, "syscheckEndTime": ended(told.syscheck),
            "rootcheckTime": rootcheck, "rootcheckEndTime": ended(told.rootcheck), "fimMaintenance": "disabled",
        });
        return Ok(write!(out, "{}", json!({ "error": 0, "response": response }))?);
    }
    if csv {
        return Ok(writeln!(out, "{id},{name},{address},{status},{os},{version},{seen},{syscheck},{rootcheck},")?);
    }
    write!(out, "\nOSSEC HIDS agent_control. Agent information:\n   Agent ID:   {id}\n   Agent Name: {name}\n")?;
    write!(out, "   IP address: {address}\n   Status:     {status}\n\n   Operating system:    {os}\n")?;
    write!(out, "   Client version:      {version}\n   Encryption:          {encryption}\n")?;
    write!(out, "   Last keep alive:     {seen}\n\n   Syscheck last started  at: {syscheck}\n")?;
    writeln!(out, "   Rootcheck last started at: {rootcheck}\n   FIM maintenance mode:  disabled")?;
    Ok(())
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
