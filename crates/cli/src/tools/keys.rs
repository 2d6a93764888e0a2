//! `manage_agents`: the keys of OSSEC's agents, in `client.keys`.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tally_ossec::keys::{ClientKey, ClientKeys};

use super::{Ended, Letters, ask_options, menu, own_key};

/// The first number that it gives out, as OSSEC's.
const FIRST_ID: u32 = 1;
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Where the keys are: in an installation's own place if it has one, as an import leaves it.
pub fn path() -> Result<PathBuf> {
    let dir = crate::ask::manager_dir(&ask_options()).join("ossec");
    let installed = dir.join("etc").join(KEYS);
    Ok(if installed.exists() { installed } else { dir.join(KEYS) })
}

const KEYS: &str = "client.keys";

/// The keys; none where there is no file.
pub fn read(path: &Path) -> Result<ClientKeys> {
    let mut bytes = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map(|_| ()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| path.display().to_string())?;
    let (keys, faults) = ClientKeys::parse(&bytes, &path.display().to_string());
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    Ok(keys)
}

fn write(path: &Path, keys: &ClientKeys) -> Result<()> {
    let context = || path.display().to_string();
    let parent = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).with_context(context)?;
    let temporary = path.with_extension("keys.new");
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&temporary).with_context(context)?;
    file.write_all(&keys.to_bytes()).and_then(|()| file.sync_all()).with_context(context)?;
    std::fs::rename(&temporary, path).with_context(context)?;
    std::fs::File::open(parent).and_then(|dir| dir.sync_all()).with_context(context)
}

const HELP: &str = "
OSSEC HIDS manage_agents: Manages the keys of agents.
Available options:
\t-h          This help message.
\t-l          List available agents.
\t-e <id>     Extracts key for an agent (Manager only).
\t-r <id>     Remove an agent (Manager only).
\t-a <ip>     Adds an agent; needs -n.
\t-n <name>   Used with -a: the agent's name.
\t-f <file>   Bulk generate client keys from file (lines of IP,NAME).
\t-i <key>    Imports the key of this host's own OSSEC agent (Agent only).
\t-D <dir>    Used with -i: the agent's directory (default: /var/ossec).
\t-j          Changes the output to JSON.
Without an option: a menu.
";

/// What is asked for: by letters, or by OSSEC's variables of the environment.
pub fn manage_agents(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "eranfiD")?;
    if letters.has('h') {
        out.write_all(HELP.as_bytes())?;
        return Ok(0);
    }
    if let Some(unknown) = letters.unknown("hleranfijD") {
        bail!("-{unknown} is not known; -h tells the options");
    }
    let path = path()?;
    let variable = |name: &str| std::env::var(name).ok();
    let action = variable("OSSEC_ACTION").unwrap_or_default().to_ascii_lowercase();
    let agent = Agent {
        name: variable("OSSEC_AGENT_NAME"),
        address: variable("OSSEC_AGENT_IP"),
        id: variable("OSSEC_AGENT_ID"),
    };
    let json = letters.has('j');
    if letters.has('l') {
        return list(&path, out);
    }
    if let Some(id) = letters.value('e') {
        return export(&path, id, out, json);
    }
    if let Some(key) = letters.value('i') {
        return import(key, letters.value('D'), out);
    }
    if let Some(file) = letters.value('f') {
        return bulk(&path, Path::new(file), out);
    }
    match (letters.value('r'), letters.value('a'), action.as_str()) {
        (Some(id), _, _) => remove(&path, id, out, json),
        (None, Some(address), _) => {
            let name = letters.value('n').map(str::to_owned);
            add(&path, &Agent { name, address: Some(address.to_owned()), id: None }, out, json)
        }
        (None, None, "a") => add(&path, &agent, out, json),
        (None, None, "r") => remove(&path, agent.id.as_deref().unwrap_or_default(), out, json),
        (None, None, "e") => export(&path, agent.id.as_deref().unwrap_or_default(), out, json),
        (None, None, "l") => list(&path, out),
        (None, None, "i") => import(variable("OSSEC_AGENT_KEY").as_deref().unwrap_or_default(), None, out),
        (None, None, "") if letters.given.is_empty() => menu::run(&path, std::io::stdin().lock(), out),
        (_, _, other) => bail!("OSSEC_ACTION is a, e, i, l or r, not \"{other}\""),
    }
}

pub struct Agent {
    pub name: Option<String>,
    pub address: Option<String>,
    pub id: Option<String>,
}

pub fn list(path: &Path, out: &mut dyn Write) -> Ended {
    let keys = read(path)?;
    // OSSEC prints this list as text with -j too.
    if keys.is_empty() {
        write!(out, "\n** No agent available. You need to add one first.\n")?;
        return Ok(0);
    }
    write!(out, "\nAvailable agents: \n")?;
    for key in keys.iter() {
        writeln!(out, "   ID: {}, Name: {}, IP: {}", key.id, key.name, key.address_text)?;
    }
    writeln!(out)?;
    Ok(0)
}

pub fn export(path: &Path, id: &str, out: &mut dyn Write, json: bool) -> Ended {
    let keys = read(path)?;
    match keys.by_id(id) {
        Some(key) if json => writeln!(out, "{}", json!({ "error": 0, "response": key.export() }))?,
        Some(key) => write!(out, "\nAgent key information for '{}' is: \n{}\n", key.id, key.export())?,
        None if json => {
            writeln!(out, "{}", json!({ "error": 1, "message": format!("Invalid ID: {id}") }))?;
            return Ok(1);
        }
        None => bail!("Invalid ID '{id}' given. ID is not present."),
    }
    Ok(0)
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom")?;
    Ok(bytes)
}

fn add(path: &Path, agent: &Agent, out: &mut dyn Write, json: bool) -> Ended {
    let mut keys = read(path)?;
    let (Some(name), Some(address)) = (&agent.name, &agent.address) else {
        bail!("an agent needs a name and an address")
    };
    let id = agent.id.clone().unwrap_or_else(|| keys.free_id(FIRST_ID).to_string());
    keys.add(ClientKey::generate(&id, name, address, &random()?)?)?;
    write(path, &keys)?;
    if json {
        writeln!(out, "{}", json!({ "error": 0, "response": { "id": id, "name": name, "ip": address } }))?;
    } else {
        write!(
            out,
            "\nAgent information:\n   ID:{id}\n   Name:{name}\n   IP Address:{address}\n\nAgent added with ID {id}.\n"
        )?;
    }
    Ok(0)
}

pub fn remove(path: &Path, id: &str, out: &mut dyn Write, json: bool) -> Ended {
    let mut keys = read(path)?;
    if let Err(error) = keys.remove(id) {
        if json {
            writeln!(out, "{}", json!({ "error": 1, "message": error.to_string() }))?;
            return Ok(1);
        }
        return Err(error.into());
    }
    write(path, &keys)?;
    if json {
        writeln!(out, "{}", json!({ "error": 0, "response": format!("Agent '{id}' removed") }))?;
    } else {
        writeln!(out, "Agent '{id}' removed.")?;
    }
    Ok(0)
}

/// Lines of `IP,NAME`.
fn bulk(path: &Path, file: &Path, out: &mut dyn Write) -> Ended {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut keys = read(path)?;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((address, name)) = line.split_once(',') else { bail!("\"{line}\" is no IP,NAME") };
        let (address, name) = (address.trim(), name.trim());
        let id = keys.free_id(FIRST_ID);
        keys.add(ClientKey::generate(&id, name, address, &random()?)?)?;
        write!(
            out,
            "\nAgent information:\n   ID:{id}\n   Name:{name}\n   IP Address:{address}\n\nAgent added with ID {id}.\n"
        )?;
    }
    write(path, &keys)?;
    Ok(0)
}

/// The next number that is not used.
pub fn free_id(path: &Path) -> Result<String> {
    Ok(read(path)?.free_id(FIRST_ID).to_string())
}

/// As `add`, of an agent that was shown already.
pub fn add_quietly(path: &Path, agent: &Agent, out: &mut dyn Write) -> Ended {
    let mut shown = Vec::new();
    add(path, agent, &mut shown, false)?;
    writeln!(out, "Agent added with ID {}.", agent.id.as_deref().unwrap_or_default())?;
    Ok(0)
}

/// The key of this host's own OSSEC agent, as a manager's `manage_agents -e` told it.
fn import(key: &str, dir: Option<&str>, out: &mut dyn Write) -> Ended {
    let key = ClientKey::import(key.trim())?;
    let path = own_key::path(dir);
    own_key::may_write(&path)?;
    write!(
        out,
        "\nAgent information:\n   ID:{}\n   Name:{}\n   IP Address:{}\n\n",
        key.id, key.name, key.address_text
    )?;
    if std::env::var("OSSEC_ACTION_CONFIRMED").is_ok_and(|answer| answer.eq_ignore_ascii_case("y")) {
        own_key::write(&path, &key)?;
    } else {
        write!(out, "Confirm adding it?(y/n): ")?;
        out.flush()?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::stdin().lock().take(64), &mut line)?;
        if !line.trim().eq_ignore_ascii_case("y") {
            return Ok(1);
        }
        own_key::write(&path, &key)?;
    }
    writeln!(out, "Added.")?;
    Ok(0)
}
