//! What `agent_control` orders: checks of all files, new starts, and responses. The manager passes it on and has it on record.

use std::io::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::agents::Known;
use super::{Ended, Letters, ask_options};
use crate::ask::{ask_each, manager_dir};

/// Carries out what the letters say; `None`: they order nothing.
pub fn carry_out(letters: &Letters, agents: &[Known], out: &mut dyn Write) -> Result<Option<u8>> {
    let json = letters.has('j');
    let said = |text: &str, out: &mut dyn Write| -> Result<()> {
        if json {
            return Ok(write!(out, "{}", json!({ "error": 0, "response": text }))?);
        }
        Ok(writeln!(out, "\nOSSEC HIDS agent_control: {text}")?)
    };
    let told = |id: &str| agents.iter().find(|agent| agent.id == id).map(|agent| agent.name.clone());
    let of = |id: &str| if id == "000" { Some("000".to_owned()) } else { told(id) };
    if letters.has('L') {
        return list(out, json).map(Some);
    }
    let (request, text) = if let Some(id) = letters.value('R') {
        let Some(name) = of(id) else { return invalid(id, out, json).map(Some) };
        (json!({ "op": "agent.restart", "agent": name }), format!("Restarting agent: {id}"))
    } else if letters.has('r') && letters.has('a') {
        (json!({ "op": "agent.scan" }), "Restarting Syscheck/Rootcheck on all agents.".to_owned())
    } else if letters.has('r') {
        let Some(id) = letters.value('u') else { bail!("-r needs -u ID, or -a for all agents") };
        let Some(name) = of(id) else { return invalid(id, out, json).map(Some) };
        let text = format!("Restarting Syscheck/Rootcheck on agent: {id}");
        (json!({ "op": "agent.scan", "agent": name }), text)
    } else if let Some(address) = letters.value('b') {
        let (Some(response), Some(id)) = (letters.value('f'), letters.value('u')) else {
            bail!("-b ADDRESS needs -f RESPONSE and -u ID; -L tells the responses")
        };
        let Some(name) = of(id) else { return invalid(id, out, json).map(Some) };
        let text = format!("Running active response '{response}' on: {id}");
        let request = json!({ "op": "agent.respond", "agent": name, "response": response, "address": address });
        (request, text)
    } else {
        return Ok(None);
    };
    ask_each(&manager_dir(&ask_options()), &request, |_, _| Ok(()))?;
    said(&text, out)?;
    Ok(Some(0))
}

/// As OSSEC says of an agent that is not there.
pub fn invalid(id: &str, out: &mut dyn Write, json: bool) -> Ended {
    if json {
        write!(out, "{}", json!({ "error": 40, "description": format!("Invalid agent id '{id}'.") }))?;
    } else {
        write!(out, "\n** Invalid agent id '{id}'.\n")?;
    }
    Ok(1)
}

fn list(out: &mut dyn Write, json: bool) -> Ended {
    let mut responses = Vec::new();
    ask_each(&manager_dir(&ask_options()), &json!({ "op": "response.list" }), |_, response| {
        let text = |key: &str| response.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        responses.push((text("response"), text("program")));
        Ok(())
    })?;
    responses.dedup();
    listed(&responses, out, json)
}

pub fn listed(responses: &[(String, String)], out: &mut dyn Write, json: bool) -> Ended {
    if json {
        let list: Vec<_> =
            responses.iter().map(|(name, command)| json!({ "name": name, "command": command })).collect();
        write!(out, "{}", json!({ "error": 0, "response": list }))?;
        return Ok(0);
    }
    write!(out, "\nOSSEC HIDS agent_control. Available active responses:\n")?;
    if responses.is_empty() {
        write!(out, "\n** No active response available.\n")?;
    }
    for (name, command) in responses {
        write!(out, "\n   Response name: {name}, command: {command}\n")?;
    }
    writeln!(out)?;
    Ok(0)
}
