//! Names of log groups, streams and objects with the placeholders of the CloudWatch agent: `{hostname}/{date}`.
//!
//! Those of the agent mean the machine that sends, which here is the manager: `{instance_id}`, `{hostname}`,
//! `{local_hostname}`, `{ip_address}`, `{aws_region}`, `{account_id}`, `{date}` (of the message, UTC). Ours mean the host that
//! a message is about: `{agent}`, `{agent_id}`, `{agent_group}`, `{agent_address}`, `{agent_instance_id}`, `{agent_account_id}`, `{agent_region}`; what
//! of these is not known is `unknown`, and the instance is then the agent's name.

use std::net::UdpSocket;

use tally_types::{Timestamp, did_you_mean};
use time::OffsetDateTime;

use super::fault::Fault;
use super::session::{Session, host_name};
use crate::keys::Keys;
use crate::message::{Cloud, Message};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    InstanceId,
    Hostname,
    LocalHostname,
    IpAddress,
    AwsRegion,
    AccountId,
    Date,
    Agent,
    AgentId,
    AgentGroup,
    AgentAddress,
    AgentInstance,
    AgentAccount,
    AgentRegion,
}

const PLACES: [(&str, Place); 14] = [
    ("instance_id", Place::InstanceId),
    ("hostname", Place::Hostname),
    ("local_hostname", Place::LocalHostname),
    ("ip_address", Place::IpAddress),
    ("aws_region", Place::AwsRegion),
    ("account_id", Place::AccountId),
    ("date", Place::Date),
    ("agent", Place::Agent),
    ("agent_id", Place::AgentId),
    ("agent_group", Place::AgentGroup),
    ("agent_address", Place::AgentAddress),
    ("agent_instance_id", Place::AgentInstance),
    ("agent_account_id", Place::AgentAccount),
    ("agent_region", Place::AgentRegion),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

/// A name with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pieces: Vec<Piece>,
}

/// What is the same for all messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub instance_id: String,
    pub local_hostname: String,
    pub ip_address: String,
    pub region: String,
    pub account: String,
}

impl Facts {
    /// Asks for what the names need, and for no more.
    pub async fn gather(session: &Session, names: &[&Name]) -> Result<Self, Fault> {
        let needs = |place: Place| names.iter().any(|name| name.needs(place));
        let mut facts = Self { local_hostname: host_name(), ..Self::default() };
        facts.region = session.region().await?.to_owned();
        if needs(Place::InstanceId) || needs(Place::IpAddress) {
            let instance = session.instance().await.cloned().unwrap_or_default();
            // As the CloudWatch agent has it outside of EC2.
            facts.instance_id = instance.id.unwrap_or_else(host_name);
            facts.ip_address = instance.address.unwrap_or_else(own_address);
        }
        if needs(Place::AccountId) {
            facts.account = session.account().await?;
        }
        Ok(facts)
    }
}

/// The address that leads out of this host. Nothing is sent.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    socket.map_or_else(|_| "127.0.0.1".to_owned(), |address| address.ip().to_string())
}

impl Name {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, after) = rest.split_at(at);
            let Some((name, behind)) = after[1..].split_once('}') else {
                return Err("a { without its }".into());
            };
            let known = PLACES.iter().find(|(known, _)| *known == name);
            let Some((_, place)) = known else {
                let near = did_you_mean(name, PLACES.iter().map(|(known, _)| *known));
                return Err(format!("unknown placeholder {{{name}}}{near}"));
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Place(*place));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// The value of a key, or `usual` where the key is not there.
    pub fn read(keys: &mut Keys, key: &'static str, usual: Option<&str>) -> Option<Self> {
        let text = match (keys.has(key), usual) {
            (false, Some(usual)) => {
                // The key is one that is known all the same.
                keys.string(key);
                usual.to_owned()
            }
            _ => keys.needed(key)?,
        };
        match Self::parse(&text) {
            Ok(name) => Some(name),
            Err(why) => {
                keys.fault_at(key, format!("{key}: {why}"));
                None
            }
        }
    }

    fn needs(&self, place: Place) -> bool {
        self.pieces.contains(&Piece::Place(place))
    }

    /// The name for one message. What `is_allowed` does not let through becomes `-`; it is cut at `length_max`.
    pub fn expand(&self, facts: &Facts, message: &Message, is_allowed: fn(char) -> bool, length_max: usize) -> String {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Place(place) => match place {
                    Place::InstanceId => name.push_str(&facts.instance_id),
                    Place::Hostname => name.push_str(&message.manager),
                    Place::LocalHostname => name.push_str(&facts.local_hostname),
                    Place::IpAddress => name.push_str(&facts.ip_address),
                    Place::AwsRegion => name.push_str(&facts.region),
                    Place::AccountId => name.push_str(&facts.account),
                    Place::Date => name.push_str(&day(message.time(), "-")),
                    Place::Agent => name.push_str(&message.agent.name),
                    Place::AgentId => name.push_str(&message.agent.id.to_string()),
                    Place::AgentGroup => name.push_str(&message.agent.group),
                    Place::AgentAddress => name.push_str(message.agent.address.as_deref().unwrap_or(UNKNOWN)),
                    Place::AgentInstance => name.push_str(instance(message).unwrap_or(&message.agent.name)),
                    Place::AgentAccount => {
                        name.push_str(cloud(message).and_then(|cloud| cloud.account.as_deref()).unwrap_or(UNKNOWN));
                    }
                    Place::AgentRegion => {
                        name.push_str(cloud(message).and_then(|cloud| cloud.region.as_deref()).unwrap_or(UNKNOWN));
                    }
                },
            }
        }
        name.chars().map(|c| if is_allowed(c) { c } else { '-' }).take(length_max).collect()
    }
}

/// What stands for what is not known of a host.
const UNKNOWN: &str = "unknown";

fn cloud(message: &Message) -> Option<&Cloud> {
    message.agent.cloud.as_ref()
}

fn instance(message: &Message) -> Option<&str> {
    cloud(message)?.instance.as_deref()
}

/// `2026-11-24`, with another separator `20261124`.
pub fn day(time: Timestamp, separator: &str) -> String {
    let time = OffsetDateTime::from_unix_timestamp(time.0.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{:04}{separator}{:02}{separator}{:02}", time.year(), u8::from(time.month()), time.day())
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Place(place) => {
                    let name = PLACES.iter().find(|(_, known)| known == place).map_or("", |(name, _)| name);
                    write!(f, "{{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn placeholders_are_filled_and_kept_within_the_rules() {
        let name = Name::parse("{hostname}/{agent}:{date}").unwrap();
        let message = sample::alert(1);
        let expanded = name.expand(&Facts::default(), &message, |c| c != ':', 512);
        assert_eq!(expanded, "manager-1/web1-2023-11-14");
        assert_eq!(name.to_string(), "{hostname}/{agent}:{date}");
        let of_host = Name::parse("{agent_account_id}/{agent_region}/{agent_instance_id}/{agent_address}").unwrap();
        assert_eq!(of_host.expand(&Facts::default(), &message, |_| true, 512), "unknown/unknown/web1/unknown");
        let (_, in_cloud) =
            crate::format::sample::all().into_iter().find(|(name, _)| *name == "modified-in-cloud").unwrap();
        let expanded = of_host.expand(&Facts::default(), &in_cloud, |_| true, 512);
        assert_eq!(expanded, "222222222222/eu-central-1/i-0abc/192.0.2.17");
        assert!(Name::parse("{hostnam}").unwrap_err().contains("did you mean \"hostname\""));
        assert!(Name::parse("a{b").is_err());
    }
}
