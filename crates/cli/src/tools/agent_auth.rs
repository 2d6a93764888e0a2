//! `agent-auth`: has a manager's `authd` make a key for an OSSEC agent of this host, and writes it where the agent looks.
//!
//! It speaks to any manager, OSSEC's or Tallystick's. An agent of Tallystick's own enrols otherwise (`tally-agent enrol`).

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use tally_net::AuthdClient;
use tally_ossec::authd::{PASSWORD_BYTES_MAX, Reply, Request, password_of};

use super::{Ended, Letters, own_key};

const HELP: &str = " \n\
OSSEC HIDS agent-auth: Asks a manager for the key of this host's OSSEC agent.
  agent-auth: -[Vhdt] [-D dir] [-m manager] [-p port] [-A name] [-P file] [-v path] [-x path] [-k path]
    -V          Version and license message
    -h          This help message
    -m <host>   Manager's address or name
    -p <port>   Manager port (default: 1515)
    -A <name>   Agent name (default: the host's name)
    -P <file>   File whose first line is the password
    -D <dir>    Directory of the agent (default: /var/ossec); its
                etc/client.keys is written
    -v <path>   CA certificate that has signed the manager's, or the
                manager's own; without it, any manager is believed
    -x <path>   Own certificate, with its key:
    -k <path>   Own key
    -t          Test: what was given is checked, and nobody is asked
 \n";
const PORT: u16 = 1515;

pub fn agent_auth(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "mpAPDvxkgc")?;
    if letters.has('h') {
        eprint!("{HELP}");
        return Ok(0);
    }
    if letters.has('V') {
        writeln!(out, "Tallystick {}", env!("CARGO_PKG_VERSION"))?;
        return Ok(0);
    }
    if let Some(unknown) = letters.unknown("VhdtmpAPDvxkgci") {
        bail!("-{unknown} is not known; -h tells the options");
    }
    let Some(host) = letters.value('m') else { bail!("Manager IP not set: -m HOST") };
    let port = match letters.value('p') {
        Some(text) => text.parse().ok().filter(|port| *port > 0).with_context(|| format!("Invalid port: {text}"))?,
        None => PORT,
    };
    let own = match (letters.value('x'), letters.value('k')) {
        (Some(certificate), Some(key)) => Some((Path::new(certificate), Path::new(key))),
        (None, None) => None,
        _ => bail!("a certificate (-x) and its key (-k) go together"),
    };
    let password = letters.value('P').map(read_password).transpose()?;
    let name = letters.value('A').map_or_else(tally_agent::enrol::host_name, str::to_owned);
    let request = Request { name };
    let Some(text) = request.text(password.as_deref()) else { bail!("\"{}\" cannot be a name", request.name) };
    let keys = own_key::path(letters.value('D'));
    own_key::may_write(&keys)?;
    if letters.has('t') {
        return Ok(0);
    }
    warn(&letters, out)?;
    let client = AuthdClient { host, port, ca: letters.value('v').map(Path::new), own };
    let dialog = client.connect()?;
    writeln!(out, "INFO: Connected to {host}:{port}\nINFO: Using agent name as: {}", request.name)?;
    writeln!(out, "INFO: Send request to manager. Waiting for reply.")?;
    out.flush()?;
    let answer = dialog.ask(text.as_bytes())?;
    let code = match Reply::parse(&answer) {
        Reply::Key(key) => {
            own_key::write(&keys, &key)?;
            writeln!(out, "INFO: Valid key created. Finished.")?;
            0
        }
        Reply::Refused(lines) => {
            for line in lines {
                writeln!(out, "{line} (from manager)")?;
            }
            1
        }
        Reply::Nothing => {
            writeln!(out, "ERROR: The manager gave no key: the password is missing or wrong, most of all.")?;
            1
        }
    };
    writeln!(out, "INFO: Connection closed by server (graceful shutdown).")?;
    Ok(code)
}

/// What has no effect, and what is not proved.
fn warn(letters: &Letters, out: &mut dyn Write) -> std::io::Result<()> {
    for (letter, why) in [
        ('i', "whether a key is for one address alone is for the manager to say (authd_source_address)"),
        ('c', "which ciphers are used is not for the command line to say: those of TLS 1.2 and 1.3 that are strong"),
    ] {
        if letters.has(letter) {
            writeln!(out, "WARN: -{letter} has no effect: {why}")?;
        }
    }
    if !letters.has('P') {
        writeln!(out, "WARN: No authentication password provided. Insecure mode started.")?;
    }
    if !letters.has('v') {
        writeln!(out, "WARN: The manager's certificate is not checked: name its authority with -v.")?;
    }
    Ok(())
}

fn read_password(file: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).with_context(|| format!("Cannot open {file}"))?;
    opened.take(PASSWORD_BYTES_MAX as u64 + 2).read_to_end(&mut bytes).with_context(|| file.to_owned())?;
    password_of(&bytes).with_context(|| format!("{file}: its first line is no password"))
}
