//! `ossec-control`: the manager as a service of the system.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::{Ended, ask_options};
use crate::ask::manager_dir;

/// The daemons that OSSEC's status names, each of which is a part of the manager here.
const DAEMONS: [&str; 6] =
    ["ossec-monitord", "ossec-logcollector", "ossec-remoted", "ossec-syscheckd", "ossec-analysisd", "ossec-execd"];

pub fn ossec_control(arguments: &[String], out: &mut dyn Write) -> Ended {
    match arguments.first().map(String::as_str) {
        Some("status") => {
            let socket = manager_dir(&ask_options()).join(tally_manager::control::SOCKET_NAME);
            let runs = std::os::unix::net::UnixStream::connect(socket).is_ok();
            for daemon in DAEMONS {
                writeln!(out, "{daemon} {}", if runs { "is running..." } else { "not running..." })?;
            }
            Ok(u8::from(!runs))
        }
        Some(verb @ ("start" | "stop" | "restart" | "reload")) => systemctl(verb, out),
        Some(verb @ ("enable" | "disable")) => {
            // There it is a part that is switched on or off, and never the whole.
            let Some(part) = arguments.get(1) else {
                bail!("usage: ossec-control {verb} {{database|client-syslog|agentless|debug}}")
            };
            bail!(
                "{part} is no part of its own here: what the manager does is for manager.toml to say (docs/manager.md)"
            )
        }
        _ => bail!("usage: ossec-control {{start|stop|reload|restart|status|enable|disable}}"),
    }
}

/// The unit of the manager, and the one program that may start it.
const UNIT: &str = "tally-manager.service";
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];

fn systemctl(verb: &str, out: &mut dyn Write) -> Ended {
    let by_hand = "the manager is started and stopped as it was set up: `tally manager`, and a signal to end it";
    let Some(program) = SYSTEMCTL.into_iter().find(|path| Path::new(path).exists()) else {
        bail!("there is no systemd here: {by_hand}");
    };
    let quiet = |words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !quiet(&["cat", UNIT]) {
        bail!("{UNIT} is not installed here (packaging/tally-manager.service): {by_hand}");
    }
    // It reads its configuration at its start alone.
    let verb = if verb == "reload" { "restart" } else { verb };
    let status = Command::new(program).args([verb, UNIT]).stdin(Stdio::null()).status().context(program)?;
    if !status.success() {
        bail!("systemctl {verb} {UNIT} failed; `systemctl status {UNIT}` says why");
    }
    writeln!(out, "Completed.")?;
    Ok(0)
}
