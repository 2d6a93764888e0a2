//! Enrolment: this host's identity, got once with a token and kept in the state directory.

use std::path::{Path, PathBuf};

use tally_net::{AddressError, EnrolError as NetError, Identity, IdentityError, ManagerAddress, Token, TokenError};
use tally_types::AgentId;

use crate::state::{StateError, create_private_dir};

/// Where the manager is, as text, beside the identity.
const MANAGER_FILE: &str = "manager";
const NAME_BYTES_MAX: usize = 128;

#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("{0} already has an identity: run `tally-agent run`, or enrol with --replace to give it up")]
    Enrolled(PathBuf),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("enrol with {manager}: {source}")]
    Net { manager: ManagerAddress, source: NetError },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("\"{0}\" cannot be an agent's name: use letters, digits, '.', '-' and '_', at most {NAME_BYTES_MAX}")]
    Name(String),
    #[error("start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("{0} has no identity yet: enrol first with `tally-agent enrol --manager HOST --token T`")]
    NotEnrolled(PathBuf),
}

/// What the manager made of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    pub agent: AgentId,
    pub name: String,
}

/// The agent's part of a state directory.
pub fn agent_dir(state: &Path) -> PathBuf {
    state.join("agent")
}

fn identity_dir(state: &Path) -> PathBuf {
    agent_dir(state).join("identity")
}

pub fn is_enrolled(state: &Path) -> bool {
    Identity::exists(&identity_dir(state))
}

/// Makes a key on this host, has it certified by the manager, and keeps both.
pub fn enrol(state: &Path, manager: &str, token: &str, name: &str, replace: bool) -> Result<Enrolled, EnrolError> {
    if is_enrolled(state) && !replace {
        return Err(EnrolError::Enrolled(state.to_owned()));
    }
    let address: ManagerAddress = manager.parse()?;
    let token: Token = token.parse()?;
    if !is_name(name) {
        return Err(EnrolError::Name(name.chars().take(64).collect()));
    }
    create_private_dir(state)?;
    create_private_dir(&agent_dir(state))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EnrolError::Runtime)?;
    let identity = runtime
        .block_on(tally_net::enrol(&address, &token, name))
        .map_err(|source| EnrolError::Net { manager: address.clone(), source })?;
    identity.save(&identity_dir(state))?;
    let path = agent_dir(state).join(MANAGER_FILE);
    std::fs::write(&path, format!("{address}\n")).map_err(|source| EnrolError::Io { path, source })?;
    Ok(Enrolled { agent: identity.agent, name: identity.name })
}

/// This host's identity.
pub fn identity(state: &Path) -> Result<Identity, EnrolError> {
    if !is_enrolled(state) {
        return Err(EnrolError::NotEnrolled(state.to_owned()));
    }
    Ok(Identity::load(&identity_dir(state))?)
}

/// The manager that this host enrolled with.
pub fn manager(state: &Path) -> Result<String, EnrolError> {
    let path = agent_dir(state).join(MANAGER_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(EnrolError::Io { path, source }),
    }
}

/// The host's own name, without what a name in the fleet may not have.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| is_name_char(*c)).take(NAME_BYTES_MAX).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_name_char)
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}
