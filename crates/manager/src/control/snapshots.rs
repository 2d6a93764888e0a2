//! What needs two snapshots, or one: drift, comparison, promotion, and the list of entries.

use tally_proto::{entry, json};
use tally_snapshot::{Cursor, Difference, NodeHash, diff};
use tally_store::{Agent, Snapshots};
use tally_syscheck::Glob;
use tally_types::{AgentId, Entry, EventBody, EventId, PathBytes};

use super::answer::Answer;
use super::desk::Desk;
use super::fault::Fault;
use super::request::{RawPromote, Selection, Side, glob, limit};
use crate::moment::moment;
use crate::order::{Order, Promotion, Reply};

/// Tree keys.
type Keys = Vec<Vec<u8>>;

/// What of a comparison is given out.
struct Wanted<'w> {
    path: Option<&'w Glob>,
    /// `None` for all.
    left: Option<u64>,
    /// Entries of the host's tree that are none. They are told when everything else was.
    unreadable: u64,
}

impl Wanted<'_> {
    fn is_enough(&self) -> bool {
        self.left == Some(0)
    }

    fn passes(&self, path: &PathBytes) -> bool {
        self.path.is_none_or(|glob| glob.matches(path))
    }

    const fn count(&mut self) {
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
    }

    /// The path and the decoded entries of a difference; `None` for what an honest agent does not have.
    fn read(&mut self, difference: &Difference) -> Option<(PathBytes, Option<Entry>, Option<Entry>)> {
        let decode = |value: &Option<Vec<u8>>| value.as_deref().map(entry::decode).transpose().ok();
        let read = (|| {
            let path = PathBytes::from_tree_key(&difference.key).ok()?;
            Some((path, decode(&difference.before)?, decode(&difference.after)?))
        })();
        self.unreadable += u64::from(read.is_none());
        read
    }

    fn end(&self) -> Result<(), Fault> {
        match self.unreadable {
            0 => Ok(()),
            count => {
                Err(Fault::Told(format!("{count} entries of the snapshot cannot be read: the agent sent nonsense")))
            }
        }
    }
}

impl Desk<'_> {
    pub(super) fn drift(
        &self,
        agent: Option<&str>,
        path: Option<String>,
        most: Option<u64>,
        answer: &mut Answer<'_>,
    ) -> Result<(), Fault> {
        let path = glob(path)?;
        let mut wanted = Wanted { path: path.as_ref(), left: limit(most), unreadable: 0 };
        let snapshots = self.reader.snapshots()?;
        let agents = match agent {
            Some(agent) => vec![self.agent(agent)?],
            // A host of which nothing is known yet has no drift.
            None => self.reader.agents()?.into_iter().filter(|a| a.baseline.is_some() && a.current.is_some()).collect(),
        };
        for agent in agents {
            let (baseline, current) = both_roots(&agent)?;
            put_differences(&snapshots, (agent.id, &agent.name), baseline, current, &mut wanted, answer)?;
        }
        wanted.end()
    }

    pub(super) fn diff(
        &self,
        a: &str,
        b: &str,
        path: Option<String>,
        most: Option<u64>,
        answer: &mut Answer<'_>,
    ) -> Result<(), Fault> {
        let path = glob(path)?;
        let mut snapshots = self.reader.snapshots()?;
        let (_, before) = self.side(&mut snapshots, a)?;
        let (newer, after) = self.side(&mut snapshots, b)?;
        let mut wanted = Wanted { path: path.as_ref(), left: limit(most), unreadable: 0 };
        put_differences(&snapshots, (newer.id, &newer.name), before, after, &mut wanted, answer)?;
        wanted.end()
    }

    fn side(&self, snapshots: &mut Snapshots, text: &str) -> Result<(Agent, NodeHash), Fault> {
        let side = Side::parse(text, self.now())?;
        let agent = self.agent(&side.agent)?;
        let root = match side.at {
            None => agent.current.ok_or_else(|| no_snapshot(&agent))?,
            Some(at) => snapshots
                .root_at(agent.id, at)?
                .ok_or_else(|| Fault::Told(format!("nothing is known of {} at {at}", agent.name)))?,
        };
        Ok((agent, root))
    }

    pub(super) fn snapshot_list(
        &self,
        agent: Option<&str>,
        at: Option<&str>,
        path: Option<String>,
        most: Option<u64>,
        answer: &mut Answer<'_>,
    ) -> Result<(), Fault> {
        let path = glob(path)?;
        let agent = self.agent_or_only(agent)?;
        let mut snapshots = self.reader.snapshots()?;
        let root = match at {
            None => agent.current.ok_or_else(|| no_snapshot(&agent))?,
            Some(text) => {
                let at = moment(text, self.now())?;
                let root = snapshots.root_at(agent.id, at)?;
                root.ok_or_else(|| Fault::Told(format!("nothing is known of {} at {at}", agent.name)))?
            }
        };
        let mut wanted = Wanted { path: path.as_ref(), left: limit(most), unreadable: 0 };
        // Everything below the glob's plain part stands together.
        let start = path.as_ref().map(Glob::root);
        let start_key = start.as_ref().map(PathBytes::tree_key).unwrap_or_default();
        for item in Cursor::from(&snapshots, root, &start_key)? {
            let (key, value) = item?;
            let read = PathBytes::from_tree_key(&key).ok().zip(entry::decode(&value).ok());
            let Some((path, entry)) = read else {
                wanted.unreadable += 1;
                continue;
            };
            if start.as_ref().is_some_and(|start| !path.is_within(start)) || wanted.is_enough() {
                break;
            }
            if wanted.passes(&path) {
                wanted.count();
                answer.object(&json::snapshot_entry((agent.id, &agent.name), &path, &entry))?;
            }
        }
        wanted.end()
    }

    pub(super) fn promote(&self, raw: RawPromote, actor: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let selection = raw.selection()?;
        let (agent, only) = self.selected(&raw, &selection)?;
        let (baseline, current) = both_roots(&agent)?;
        let snapshots = self.reader.snapshots()?;
        let path = if let Selection::Path(glob) = &selection { Some(glob) } else { None };
        let mut wanted = Wanted { path, left: None, unreadable: 0 };
        // The change itself is accepted even where it was taken back since.
        let mut keys: Keys = only.clone().unwrap_or_default();
        for difference in diff(&snapshots, baseline, current) {
            let difference = difference?;
            if only.as_ref().is_some_and(|only| !only.contains(&difference.key)) {
                continue;
            }
            let Some((path, before, after)) = wanted.read(&difference) else { continue };
            if !wanted.passes(&path) {
                continue;
            }
            answer.finding(&json::difference((agent.id, &agent.name), &path, before.as_ref(), after.as_ref()))?;
            if path_is_selected(&selection) {
                keys.push(difference.key);
            }
        }
        wanted.end()?;
        if !raw.apply.unwrap_or(false) {
            return Ok(());
        }
        let is_all = matches!(selection, Selection::All);
        if keys.is_empty() && !is_all {
            return Ok(answer.object(&json::done("nothing differs from the baseline there"))?);
        }
        let promotion = Promotion {
            actor: actor.into(),
            agent: agent.id,
            keys: (!is_all).then_some(keys),
            selection: in_words(&raw).into(),
        };
        match self.ask(Order::Promote(Box::new(promotion)))? {
            Reply::Promoted { from, to, paths } => {
                Ok(answer.object(&json::promoted((agent.id, &agent.name), paths, &from.0, &to.0))?)
            }
            _ => Err(Fault::Told("the manager did not say what became of it".to_owned())),
        }
    }

    /// The agent whose baseline moves, and the keys of a single change.
    fn selected(&self, raw: &RawPromote, selection: &Selection) -> Result<(Agent, Option<Keys>), Fault> {
        let named = raw.agent.as_deref().map(|text| self.agent(text)).transpose()?;
        let Selection::Change(id) = selection else {
            let agent = named.ok_or(super::request::RequestError::NoAgent)?;
            return Ok((agent, None));
        };
        let (about, keys) = self.keys_of(*id)?;
        let agent = self.reader.agent(about)?.filter(|agent| agent.removed_at.is_none());
        let agent =
            agent.ok_or_else(|| Fault::Told(format!("the change {id} is one of agent {about}, which was removed")))?;
        match named {
            Some(named) if named.id != agent.id => {
                Err(Fault::Told(format!("the change {id} is one of {}, not of {}", agent.name, named.name)))
            }
            _ => Ok((agent, Some(keys))),
        }
    }

    fn keys_of(&self, id: EventId) -> Result<(AgentId, Keys), Fault> {
        let row = self.event(&id.to_string())?;
        let EventBody::Change(change) = &row.event.body else {
            return Err(Fault::Told(format!("{id} is no change: there is nothing to accept")));
        };
        let paths = change.moved_from.iter().chain([&change.path]);
        Ok((row.about, paths.map(PathBytes::tree_key).collect()))
    }
}

const fn path_is_selected(selection: &Selection) -> bool {
    matches!(selection, Selection::Path(_))
}

fn in_words(raw: &RawPromote) -> String {
    match (&raw.path, &raw.change) {
        (Some(path), _) => format!("path {path}"),
        (None, Some(change)) => format!("change {change}"),
        (None, None) => "all".to_owned(),
    }
}

fn no_snapshot(agent: &Agent) -> Fault {
    Fault::Told(format!("the manager has no snapshot of {} yet", agent.name))
}

fn both_roots(agent: &Agent) -> Result<(NodeHash, NodeHash), Fault> {
    let no_baseline = || Fault::Told(format!("{} has no baseline yet", agent.name));
    Ok((agent.baseline.ok_or_else(no_baseline)?, agent.current.ok_or_else(|| no_snapshot(agent))?))
}

fn put_differences(
    snapshots: &Snapshots,
    agent: (AgentId, &str),
    before: NodeHash,
    after: NodeHash,
    wanted: &mut Wanted<'_>,
    answer: &mut Answer<'_>,
) -> Result<(), Fault> {
    for difference in diff(snapshots, before, after) {
        if wanted.is_enough() {
            return Ok(());
        }
        let difference = difference?;
        let Some((path, before, after)) = wanted.read(&difference) else { continue };
        if wanted.passes(&path) {
            wanted.count();
            answer.finding(&json::difference(agent, &path, before.as_ref(), after.as_ref()))?;
        }
    }
    Ok(())
}
