//! `rootcheck_control`: what OSSEC's agents found by looking for rootkits and by checking policies.

use std::io::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tally_proto::sentence;
use tally_types::Timestamp;

use super::agents::{Known, date, known, listed, with_mask};
use super::{Ended, Letters, ask_options, orders};
use crate::ask::{ask_each, manager_dir};

const HELP: &str = "
OSSEC HIDS rootcheck_control: Manages the policy and auditing database.
Available options:
\t-h          This help message.
\t-l          List available (active or not) agents.
\t-lc         List only active agents.
\t-u <id>     Updates (clear) the database for the agent.
\t-u all      Updates (clear) the database for all agents.
\t-i <id>     Prints database for the agent.
\t-r          Used with -i, prints all the resolved issues.
\t-q          Used with -i, prints all the outstanding issues.
\t-L          Used with -i, prints the last scan.
\t-s          Changes the output to CSV (comma delimited).
\t-j          Changes the output to JSON.
";

/// What was not seen for so long before the last look is resolved.
const RESOLVED_AFTER_US: i64 = 86_400 * 1_000_000;

/// What an agent told of itself by rootcheck: findings, and when looks began and ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub findings: Vec<Finding>,
    pub syscheck: Span,
    pub rootcheck: Span,
}

/// When the last look began, and when one last ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub began: Option<Timestamp>,
    pub ended: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub text: String,
    pub first: Timestamp,
    pub last: Timestamp,
}

impl Told {
    pub fn of(agent: &str) -> Result<Self> {
        let mut told = Self::default();
        let request = json!({ "op": "finding.list", "agent": agent });
        ask_each(&manager_dir(&ask_options()), &request, |_, found| {
            let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
            if let (Ok(first), Ok(last)) = (text("first").parse(), text("last").parse()) {
                told.take(sentence::shown(text("text")), first, last);
            }
            Ok(())
        })?;
        Ok(told)
    }

    pub fn take(&mut self, text: String, first: Timestamp, last: Timestamp) {
        match &*text {
            "Starting syscheck scan." => self.syscheck.began = Some(last),
            "Ending syscheck scan." => self.syscheck.ended = Some(last),
            "Starting rootcheck scan." => self.rootcheck.began = Some(last),
            "Ending rootcheck scan." => self.rootcheck.ended = Some(last),
            _ => self.findings.push(Finding { text, first, last }),
        }
    }

    fn is_resolved(&self, finding: &Finding) -> bool {
        self.rootcheck.began.is_some_and(|began| began.micros() - finding.last.micros() > RESOLVED_AFTER_US)
    }
}

/// As OSSEC prints it: policy checks of Unix hosts have their sign put before them once more.
fn printed(text: &str) -> String {
    let named = ["Application Found:", "Windows Audit:", "Windows Malware:"];
    if named.iter().any(|sign| text.starts_with(sign)) { text.to_owned() } else { format!("System Audit: {text}") }
}

pub fn rootcheck_control(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "iu")?;
    if letters.given.is_empty() || letters.has('h') {
        out.write_all(HELP.as_bytes())?;
        return Ok(0);
    }
    if let Some(letter) = letters.unknown("lcsjiurqL") {
        bail!("-{letter} is not known; -h tells the options");
    }
    let (agents, json) = (known()?, letters.has('j'));
    if let Some(id) = letters.value('u') {
        return clear(&agents, id, out, json);
    }
    let Some(id) = letters.value('i') else {
        let host = tally_agent::enrol::host_name();
        listed("rootcheck_control", &agents, &host, out, letters.has('c'), letters.has('s'), json)?;
        return Ok(0);
    };
    let Some(agent) = agents.iter().find(|agent| agent.id == id) else { return orders::invalid(id, out, json) };
    print(agent, &Told::of(&agent.name)?, &letters, out)
}

fn clear(agents: &[Known], id: &str, out: &mut dyn Write, json: bool) -> Ended {
    let agent = agents.iter().find(|agent| agent.id == id);
    if id != "all" && agent.is_none() {
        return orders::invalid(id, out, json);
    }
    let name = agent.map(|agent| agent.name.as_str());
    ask_each(&manager_dir(&ask_options()), &json!({ "op": "finding.clear", "agent": name }), |_, _| Ok(()))?;
    let said = "Policy and auditing database updated";
    if json {
        write!(out, "{}", json!({ "error": 0, "response": said }))?;
    } else {
        write!(out, "\n** {said}.\n\n")?;
    }
    Ok(0)
}

pub fn print(agent: &Known, told: &Told, letters: &Letters, out: &mut dyn Write) -> Ended {
    let (csv, json) = (letters.has('s'), letters.has('j'));
    let only = |resolved: bool| match (letters.has('r'), letters.has('q')) {
        (true, false) => resolved,
        (false, true) => !resolved,
        _ => true,
    };
    let of = |resolved: bool| {
        let wanted = only(resolved) && !letters.has('L');
        told.findings.iter().filter(move |finding| wanted && told.is_resolved(finding) == resolved)
    };
    let last_scan = told.rootcheck.began.map_or_else(|| "Unknown".to_owned(), date);
    if json {
        let list: Vec<_> = [(true, "resolved"), (false, "outstanding")]
            .into_iter()
            .flat_map(|(resolved, status)| {
                of(resolved).map(move |finding| {
                    json!({ "status": status, "readDay": date(finding.last), "oldDay": date(finding.first), "event": printed(&finding.text) })
                })
            })
            .collect();
        let response = if letters.has('L') { json!({ "lastScan": last_scan }) } else { list.into() };
        write!(out, "{}", json!({ "error": 0, "response": response }))?;
        return Ok(0);
    }
    if csv {
        for (resolved, status) in [(true, "resolved"), (false, "outstanding")] {
            for finding in of(resolved) {
                writeln!(out, "{status},{},{},{}", date(finding.last), date(finding.first), printed(&finding.text))?;
            }
        }
        return Ok(0);
    }
    write!(
        out,
        "\nPolicy and auditing events for agent '{} ({}) - {}':\n",
        agent.name,
        agent.id,
        with_mask(&agent.address)
    )?;
    if letters.has('L') {
        write!(out, "\nLast scan: {last_scan}\n\n")?;
        return Ok(0);
    }
    for (resolved, title) in [(true, "Resolved events"), (false, "Outstanding events")] {
        if !only(resolved) {
            continue;
        }
        write!(out, "\n{title}: \n\n")?;
        let mut is_empty = true;
        for finding in of(resolved) {
            is_empty = false;
            let (last, first) = (date(finding.last), date(finding.first));
            write!(out, "{last} (first time detected: {first})\n{}\n\n", printed(&finding.text))?;
        }
        if is_empty {
            writeln!(out, "** No entries found.")?;
        }
    }
    Ok(0)
}
