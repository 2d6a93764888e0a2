//! The operator's commands: each is one question to the manager, printed as it is answered.

use anyhow::Result;
use serde_json::{Value, json};

use crate::Outcome;
use crate::ask::ask;
use crate::options::{
    AgentCommand, AlertCommand, AskOptions, ChangeCommand, Command, DeliveryCommand, DiffOptions, DriftOptions,
    ExplainOptions, FilterOptions, LedgerCommand, LogCommand, PromoteOptions, SnapshotCommand, TokenCommand,
};
use crate::render::Kind;

pub fn rules_reload(options: &AskOptions) -> Result<Outcome> {
    show(options, Kind::Done, &json!({"op": "rules.reload"}))
}

pub fn run(command: Command) -> Result<Outcome> {
    match command {
        Command::Status(options) => seek(&options, Kind::Status, &json!({"op": "status"})),
        Command::Console(options) => show(&options, Kind::Console, &json!({"op": "console.link"})),
        Command::Agent(command) => agent(command),
        Command::Token(command) => token(command),
        Command::Change(ChangeCommand::List { ask, filter }) => {
            show(&ask, Kind::Changes, &filtered("change.list", &filter))
        }
        Command::Change(ChangeCommand::Show { ask, id }) => {
            show(&ask, Kind::Change, &json!({"op": "change.show", "id": id}))
        }
        Command::Alert(AlertCommand::List { ask, filter }) => {
            show(&ask, Kind::Alerts, &filtered("alert.list", &filter))
        }
        Command::Alert(AlertCommand::Show { ask, id }) => {
            show(&ask, Kind::Alert, &json!({"op": "alert.show", "id": id}))
        }
        Command::Drift(options) => drift(&options),
        Command::Promote(options) => promote(&options),
        Command::Diff(options) => diff(&options),
        Command::Snapshot(SnapshotCommand::List { ask, agent, at, path, limit }) => {
            let request = json!({"op": "snapshot.list", "agent": agent, "at": at, "path": path, "limit": limit});
            show(&ask, Kind::Entries, &request)
        }
        Command::Policy(command) => crate::policy::run(command),
        Command::Log(LogCommand::List { ask, agent }) => {
            show(&ask, Kind::Logs, &json!({"op": "log.list", "agent": agent}))
        }
        Command::Delivery(command) => delivery(command),
        Command::Explain(ExplainOptions { ask, path, agent }) => {
            show(&ask, Kind::Explained, &json!({"op": "explain", "path": path, "agent": agent}))
        }
        Command::Ledger(LedgerCommand::Verify(options)) => {
            seek(&options, Kind::Ledger, &json!({"op": "ledger.verify"}))
        }
        other => anyhow::bail!("{other:?} is not a question to the manager"),
    }
}

/// A question whose findings are the point: exit code 1 if there are any.
fn seek(options: &AskOptions, kind: Kind, request: &Value) -> Result<Outcome> {
    Ok(Outcome::of_findings(ask(options, kind, request)?))
}

/// A question whose answer is only to be read.
fn show(options: &AskOptions, kind: Kind, request: &Value) -> Result<Outcome> {
    ask(options, kind, request)?;
    Ok(Outcome::Fine)
}

fn agent(command: AgentCommand) -> Result<Outcome> {
    match command {
        AgentCommand::List(ask) => show(&ask, Kind::Agents, &json!({"op": "agent.list"})),
        AgentCommand::Show { ask, agent } => show(&ask, Kind::Agent, &json!({"op": "agent.show", "agent": agent})),
        AgentCommand::Scan { ask, agent, path } => {
            show(&ask, Kind::Done, &json!({"op": "agent.scan", "agent": agent, "path": path}))
        }
        AgentCommand::Restart { ask, agent } => show(&ask, Kind::Done, &json!({"op": "agent.restart", "agent": agent})),
        AgentCommand::Remove { ask, agent } => show(&ask, Kind::Done, &json!({"op": "agent.remove", "agent": agent})),
    }
}

fn token(command: TokenCommand) -> Result<Outcome> {
    match command {
        TokenCommand::New { ask, group, uses, expires } => {
            let request = json!({"op": "token.new", "group": group, "uses": uses, "expires": expires});
            show(&ask, Kind::Token, &request)
        }
        TokenCommand::List(ask) => show(&ask, Kind::Tokens, &json!({"op": "token.list"})),
        TokenCommand::Revoke { ask, id } => show(&ask, Kind::Done, &json!({"op": "token.revoke", "id": id})),
    }
}

fn delivery(command: DeliveryCommand) -> Result<Outcome> {
    match command {
        DeliveryCommand::List(ask) => show(&ask, Kind::Deliveries, &json!({"op": "delivery.list"})),
        DeliveryCommand::Test { ask, name } => show(&ask, Kind::Done, &json!({"op": "delivery.test", "name": name})),
        DeliveryCommand::Pause { ask, name } => show(&ask, Kind::Done, &json!({"op": "delivery.pause", "name": name})),
        DeliveryCommand::Resume { ask, name } => {
            show(&ask, Kind::Done, &json!({"op": "delivery.resume", "name": name}))
        }
        DeliveryCommand::Digest { ask, since, until } => {
            let request = json!({"op": "delivery.digest", "since": since, "until": until, "text": !ask.json});
            show(&ask, Kind::Digest, &request)
        }
        DeliveryCommand::Replay { ask, name, since, which, retry } => {
            let kind = if which.is_some() && !retry { Kind::DeadLetters } else { Kind::Done };
            let request =
                json!({"op": "delivery.replay", "name": name, "since": since, "dead": which.is_some(), "retry": retry});
            show(&ask, kind, &request)
        }
    }
}

fn filtered(op: &str, filter: &FilterOptions) -> Value {
    json!({
        "op": op, "agent": filter.agent, "path": filter.path, "since": filter.since, "until": filter.until,
        "kind": filter.kind, "level": filter.level, "limit": filter.limit,
    })
}

fn drift(options: &DriftOptions) -> Result<Outcome> {
    let request = json!({"op": "drift", "agent": options.agent, "path": options.path, "limit": options.limit});
    seek(&options.ask, Kind::Drift, &request)
}

fn promote(options: &PromoteOptions) -> Result<Outcome> {
    let request = json!({
        "op": "promote", "agent": options.agent, "path": options.path, "change": options.change, "all": options.all,
        "apply": options.yes,
    });
    let paths = ask(&options.ask, Kind::Promote, &request)?;
    if !options.yes && paths > 0 && !options.ask.json {
        eprintln!("{paths} paths would be accepted; add --yes to do it");
    }
    Ok(Outcome::Fine)
}

fn diff(options: &DiffOptions) -> Result<Outcome> {
    let request = json!({"op": "diff", "a": options.a, "b": options.b, "path": options.path, "limit": options.limit});
    seek(&options.ask, Kind::Drift, &request)
}
