//! What an operator may order, and the answers. Orders change the state, so they are carried out by the ingest thread, the
//! one owner of the store; questions are answered by readers beside it.

use std::sync::Arc;

use tally_ossec::station::OrderError;
use tally_proto::json;
use tally_snapshot::NodeHash;
use tally_types::{AgentId, Life, PathBytes, Timestamp};

use crate::policy::GroupText;
use crate::rule_files::ParsedRules;

#[derive(Debug)]
pub enum Order {
    /// What is wrong, and how everybody is.
    Status,
    TokenNew {
        actor: Arc<str>,
        group: Arc<str>,
        uses: u32,
        expires: Timestamp,
    },
    TokenRevoke {
        actor: Arc<str>,
        id: String,
    },
    AgentRemove {
        actor: Arc<str>,
        agent: AgentId,
    },
    PolicySet {
        actor: Arc<str>,
        group: Arc<str>,
        policy: GroupText,
    },
    PolicyRemove {
        actor: Arc<str>,
        group: Arc<str>,
    },
    /// What rootcheck had found on these agents is forgotten.
    FindingsClear {
        actor: Arc<str>,
        agents: Vec<AgentId>,
    },
    /// Its files were read again: what they say now is used from the next event on.
    RulesInstall {
        actor: Arc<str>,
        rules: Box<ParsedRules>,
    },
    Promote(Box<Promotion>),
    /// Agents are told to do something.
    Instruct {
        actor: Arc<str>,
        to: Recipient,
        what: Instruction,
    },
    /// Something in the manager's own life.
    Notice {
        life: Life,
    },
    /// Somebody asked for a link to the console.
    ConsoleLogin {
        detail: Arc<str>,
    },
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The manager's own host.
    Manager,
    Agent(AgentId),
    /// All agents.
    All,
}

/// What an agent is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Compare what lies at and below a path now, or all files.
    Scan { path: Option<PathBytes> },
    /// Start anew.
    Restart,
    /// Run a response, by its name, against an address.
    Respond { response: Arc<str>, address: core::net::IpAddr },
}

impl Instruction {
    /// For the record.
    pub fn words(&self) -> String {
        match self {
            Self::Scan { path: None } => "scan".to_owned(),
            Self::Scan { path: Some(path) } => format!("scan {path}"),
            Self::Restart => "restart".to_owned(),
            Self::Respond { response, address } => format!("respond {response} {address}"),
        }
    }
}

/// Differences from the baseline that are accepted.
#[derive(Debug)]
pub struct Promotion {
    pub actor: Arc<str>,
    pub agent: AgentId,
    /// The tree keys whose present state is accepted; `None` for everything.
    pub keys: Option<Vec<Vec<u8>>>,
    /// What was selected, in words.
    pub selection: Arc<str>,
}

#[derive(Debug)]
pub enum Reply {
    Status(Box<json::Status>),
    Token(NewToken),
    Done(String),
    /// What was sent to which agents of OSSEC's comes here: the port has a thread of its own. `said` is of the others.
    Instructed {
        answers: std::sync::mpsc::Receiver<Vec<Result<(), OrderError>>>,
        said: Option<String>,
    },
    Promoted {
        from: NodeHash,
        to: NodeHash,
        paths: u64,
    },
    Refused(String),
}

#[derive(Debug)]
pub struct NewToken {
    pub id: String,
    /// The one word that is given to the host. Shown once and kept nowhere.
    pub token: String,
    pub group: Arc<str>,
    pub uses: u32,
    pub expires: Timestamp,
}
