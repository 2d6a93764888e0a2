//! A request on the control socket: one line of JSON, `{"op": "change.list", …}`.
//!
//! The raw form is what serde reads; `List`, `Selection` and `Side` are the typed ones, after which nothing is checked
//! again. Fields that are absent and fields that are null mean the same.

use serde::Deserialize;
use tally_syscheck::Glob;
use tally_types::{ChangeKind, Level, Timestamp};

use crate::moment::{MomentError, moment};

/// A request line longer than this is refused. The longest holds the text of a policy, in which JSON escapes some bytes.
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a list is cut to where the request does not say.
const LIMIT: u64 = 100;

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the request is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Moment(#[from] MomentError),
    #[error("\"{text}\" is not a path or glob: {why}")]
    Glob { text: String, why: String },
    #[error("\"{0}\" is not a kind of change: they are {names}", names = ChangeKind::ALL.map(ChangeKind::name).join(", "))]
    Kind(String),
    #[error("{0}")]
    Level(#[from] tally_types::LevelError),
    #[error("say what to promote: a path, a change or all")]
    NoSelection,
    #[error("a promotion is of a path, of a change or of all, not of several of them")]
    ManySelections,
    #[error("say which agent")]
    NoAgent,
    #[error(transparent)]
    Change(#[from] tally_types::EventIdError),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", deny_unknown_fields)]
pub enum Request {
    #[serde(rename = "status")]
    Status {},
    #[serde(rename = "agent.list")]
    AgentList {},
    #[serde(rename = "agent.show")]
    AgentShow { agent: String },
    #[serde(rename = "agent.remove")]
    AgentRemove { agent: String },
    /// Without an agent: all.
    #[serde(rename = "agent.scan")]
    AgentScan { agent: Option<String>, path: Option<String> },
    #[serde(rename = "agent.restart")]
    AgentRestart { agent: String },
    #[serde(rename = "agent.respond")]
    AgentRespond { agent: Option<String>, response: String, address: String },
    #[serde(rename = "response.list")]
    ResponseList {},
    #[serde(rename = "finding.list")]
    FindingList { agent: String },
    /// Without an agent: of all of OSSEC's.
    #[serde(rename = "finding.clear")]
    FindingClear { agent: Option<String> },
    #[serde(rename = "change.list")]
    ChangeList(RawList),
    #[serde(rename = "change.show")]
    ChangeShow { id: String },
    #[serde(rename = "alert.list")]
    AlertList(RawList),
    #[serde(rename = "alert.show")]
    AlertShow { id: String },
    #[serde(rename = "drift")]
    Drift { agent: Option<String>, path: Option<String>, limit: Option<u64> },
    #[serde(rename = "diff")]
    Diff { a: String, b: String, path: Option<String>, limit: Option<u64> },
    #[serde(rename = "promote")]
    Promote(RawPromote),
    #[serde(rename = "snapshot.list")]
    SnapshotList { agent: Option<String>, at: Option<String>, path: Option<String>, limit: Option<u64> },
    #[serde(rename = "ledger.verify")]
    LedgerVerify {},
    #[serde(rename = "ledger.show")]
    LedgerShow { index: u64 },
    #[serde(rename = "token.new")]
    TokenNew { group: Option<String>, uses: Option<u32>, expires: Option<String> },
    #[serde(rename = "token.list")]
    TokenList {},
    #[serde(rename = "token.revoke")]
    TokenRevoke { id: String },
    #[serde(rename = "policy.set")]
    PolicySet { group: String, text: String, file: String },
    #[serde(rename = "policy.show")]
    PolicyShow { group: String },
    #[serde(rename = "policy.list")]
    PolicyList {},
    #[serde(rename = "policy.remove")]
    PolicyRemove { group: String },
    #[serde(rename = "rules.reload")]
    RulesReload {},
    #[serde(rename = "log.list")]
    LogList { agent: Option<String> },
    #[serde(rename = "explain")]
    Explain { path: String, agent: Option<String> },
    #[serde(rename = "delivery.list")]
    DeliveryList {},
    #[serde(rename = "delivery.test")]
    DeliveryTest { name: String },
    #[serde(rename = "delivery.pause")]
    DeliveryPause { name: String },
    #[serde(rename = "delivery.resume")]
    DeliveryResume { name: String },
    #[serde(rename = "delivery.replay")]
    DeliveryReplay { name: String, since: Option<String>, dead: Option<bool>, retry: Option<bool> },
    /// In words for a person, or as an object.
    #[serde(rename = "delivery.digest")]
    DeliveryDigest { since: Option<String>, until: Option<String>, text: Option<bool> },
    #[serde(rename = "console.link")]
    ConsoleLink {},
}

impl Request {
    pub fn parse(line: &str) -> Result<Self, RequestError> {
        Ok(serde_json::from_str(line)?)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawList {
    pub agent: Option<String>,
    pub path: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
    pub kind: Option<Vec<String>>,
    pub level: Option<u32>,
    pub limit: Option<u64>,
}

/// Which changes or alerts, checked.
#[derive(Debug)]
pub struct List {
    pub agent: Option<String>,
    pub path: Option<Glob>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Empty for every kind.
    pub kinds: Vec<ChangeKind>,
    pub level: Option<Level>,
    /// `None` for all.
    pub limit: Option<u64>,
}

impl RawList {
    pub fn check(self, now: Timestamp) -> Result<List, RequestError> {
        let time = |text: Option<String>| text.map(|t| moment(&t, now)).transpose();
        let kind = |name: &String| ChangeKind::from_name(name).ok_or_else(|| RequestError::Kind(shown(name)));
        Ok(List {
            agent: self.agent,
            path: glob(self.path)?,
            since: time(self.since)?,
            until: time(self.until)?,
            kinds: self.kind.unwrap_or_default().iter().map(kind).collect::<Result<_, _>>()?,
            level: self.level.map(Level::new).transpose()?,
            limit: limit(Some(self.limit.unwrap_or(LIMIT))),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPromote {
    pub agent: Option<String>,
    pub path: Option<String>,
    pub change: Option<String>,
    pub all: Option<bool>,
    /// Without it the paths are only shown.
    pub apply: Option<bool>,
}

/// What a promotion accepts.
#[derive(Debug)]
pub enum Selection {
    Path(Glob),
    Change(tally_types::EventId),
    All,
}

impl RawPromote {
    pub fn selection(&self) -> Result<Selection, RequestError> {
        let all = self.all.unwrap_or(false);
        match (&self.path, &self.change, all) {
            (Some(path), None, false) => Ok(Selection::Path(parse_glob(path)?)),
            (None, Some(change), false) => Ok(Selection::Change(change.parse()?)),
            (None, None, true) => Ok(Selection::All),
            (None, None, false) => Err(RequestError::NoSelection),
            _ => Err(RequestError::ManySelections),
        }
    }
}

/// One side of a comparison: an agent, as it is or as it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Side {
    pub agent: String,
    pub at: Option<Timestamp>,
}

impl Side {
    /// Reads `NAME`, `ID` or `AGENT@TIME`. An agent whose own name holds an `@` is named by its id.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, RequestError> {
        match text.split_once('@') {
            None => Ok(Self { agent: text.to_owned(), at: None }),
            Some((agent, at)) => Ok(Self { agent: agent.to_owned(), at: Some(moment(at, now)?) }),
        }
    }
}

/// A limit as it is written: 0 and its absence mean all.
pub fn limit(written: Option<u64>) -> Option<u64> {
    written.filter(|n| *n > 0)
}

pub fn glob(text: Option<String>) -> Result<Option<Glob>, RequestError> {
    text.map(|t| parse_glob(&t)).transpose()
}

fn parse_glob(text: &str) -> Result<Glob, RequestError> {
    Glob::parse(text).map_err(|error| RequestError::Glob { text: shown(text), why: error.to_string() })
}

fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    #[test]
    fn null_and_absent_mean_the_same() {
        for line in [
            r#"{"op":"change.list"}"#,
            r#"{"op":"change.list","agent":null,"path":null,"since":null,"kind":[],"level":null,"limit":100}"#,
        ] {
            let Request::ChangeList(raw) = Request::parse(line).unwrap() else { panic!("{line}") };
            let list = raw.check(NOW).unwrap();
            assert_eq!((list.agent, list.kinds.len(), list.limit), (None, 0, Some(100)));
        }
        assert_eq!(limit(Some(0)), None);
    }

    #[test]
    fn a_wrong_request_is_told_in_words() {
        let told = |line: &str| match Request::parse(line) {
            Ok(Request::ChangeList(raw)) => raw.check(NOW).unwrap_err().to_string(),
            Ok(Request::Promote(raw)) => raw.selection().unwrap_err().to_string(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.to_string(),
        };
        assert!(told(r#"{"op":"chnage.list"}"#).contains("unknown variant `chnage.list`"));
        assert!(told(r#"{"op":"status","x":1}"#).contains("unknown field `x`"));
        assert!(told("[").contains("not understood"));
        assert!(told(r#"{"op":"change.list","kind":["chnaged"]}"#).contains("added, removed, modified"));
        assert!(told(r#"{"op":"change.list","since":"soon"}"#).contains("not a time"));
        assert!(told(r#"{"op":"change.list","level":17}"#).contains("0 to 16"));
        assert!(told(r#"{"op":"change.list","path":"[a"}"#).contains("glob"));
        assert!(told(r#"{"op":"promote","agent":"a"}"#).contains("what to promote"));
        assert!(told(r#"{"op":"promote","all":true,"path":"/etc"}"#).contains("not of several"));
    }

    #[test]
    fn a_side_is_an_agent_and_perhaps_a_time() {
        assert_eq!(Side::parse("web1", NOW).unwrap(), Side { agent: "web1".into(), at: None });
        let then = Some(NOW.minus_micros(7_200_000_000));
        assert_eq!(Side::parse("001@2h", NOW).unwrap(), Side { agent: "001".into(), at: then });
        assert!(Side::parse("web1@soon", NOW).is_err());
    }
}
