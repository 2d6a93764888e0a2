//! `verify-agent-conf`: whether an `agent.conf` can be used.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use tally_ossec::conf::AgentConfig;

use super::{Ended, Letters, ask_options};
use crate::ask::manager_dir;

const HELP: &str = "
OSSEC HIDS verify-agent-conf: Verify agent.conf syntax for errors.
Usage:  verify-agent-conf [-f <agent.conf file>]

Available options:
\t-h          This help message.
\t-f          Full file name and path to config file to be tested.
\t            If this option is not specified the following default
\t            will be used.
 \t            Validation is successful, if no errors are shown.
";

pub fn agent_conf(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "f")?;
    if letters.has('h') {
        out.write_all(HELP.as_bytes())?;
        return Ok(0);
    }
    if let Some(unknown) = letters.unknown("hf") {
        bail!("-{unknown} is not known; -h tells the options");
    }
    let default = || manager_dir(&ask_options()).join("ossec/etc/shared/agent.conf");
    let path = letters.value('f').map_or_else(default, PathBuf::from);
    let name = path.display().to_string();
    write!(out, "\nverify-agent-conf: Verifying [{name}].\n\n")?;
    out.flush()?;
    let bytes = std::fs::read(&path).with_context(|| name.clone())?;
    let (_, findings) = AgentConfig::parse(&String::from_utf8_lossy(&bytes), &name);
    findings.0.iter().for_each(|finding| eprintln!("verify-agent-conf: {finding}"));
    // A word that OSSEC does not know is a fault to it.
    Ok(u8::from(!findings.0.is_empty()))
}
