//! What agents of OSSEC's say: from messages to work for the next commit.
//!
//! They are agents like others: numbered, in a group, with a state and a snapshot. What they cannot give is said in words
//! where every agent's limits are said. Their messages are not acknowledged, so nothing here refuses one: what cannot be
//! stored now is lost, and counted with what the network lost.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tally_ossec::control::{KeepAlive, Order};
use tally_ossec::counter::Count;
use tally_ossec::message::Meaning;
use tally_ossec::scan::{FirstScan, FirstScanEnd};
use tally_ossec::secure::Cipher;
use tally_ossec::station::{LogText, OrderError, Reason, Told};
use tally_ossec::syscheck::{FileState, SyscheckMessage};
use tally_proto::message::{Host, Status};
use tally_store::{NewOssecAgent, OssecAgent, StoreError};
use tally_types::{AgentId, AgentState, Epoch, Event, EventBody, Life, PathBytes, Timestamp};

use super::{Ingest, Work, event_record};
use crate::clock::Moment;
use crate::fleet::Member;
use crate::input::{ConnectionId, OssecHeard, OssecKey, Source};

/// An agent of OSSEC's says every ten minutes that it lives; OSSEC gives it half a minute more after three.
pub const HEARTBEAT_MS: u32 = 610_000;
/// What did not come is asked for again at most so often, or a bad network would be made worse.
const ASK_MS: u64 = 6 * 3600 * 1000;
/// Numbers of paths that are remembered for all scans together: 64 MiB. The scans beyond are not compared.
const PATHS_MAX: usize = 8 * 1024 * 1024;
/// What a message counts in a commit.
const DEED_BYTES: usize = 640;

/// How what did not come is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resend {
    /// By a new scan: the agent sends what differs from what it last sent.
    #[default]
    Scan,
    /// By a new start of the agent: it sends everything.
    Agent,
    Off,
}

impl Resend {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Agent => "agent",
            Self::Off => "off",
        }
    }
}

/// What the thread of OSSEC's port is to do.
#[derive(Debug)]
pub enum StationOrder {
    /// The agents with these ids are told something.
    Tell { to: Vec<Arc<str>>, order: Order, reply: Option<StationReply> },
    /// The agent was removed: its key is to go.
    Forget { key_id: Arc<str> },
}

/// Who waits for what became of an order: whether it was sent to each. It is called on the thread of the port.
pub struct StationReply(Box<dyn FnOnce(Answers) + Send>);

/// Of each agent, in the order in which they were named.
type Answers = Vec<Result<(), OrderError>>;

impl StationReply {
    pub fn new(take: impl FnOnce(Answers) + Send + 'static) -> Self {
        Self(Box::new(take))
    }

    pub fn give(self, answers: Answers) {
        (self.0)(answers);
    }
}

impl std::fmt::Debug for StationReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StationReply").finish_non_exhaustive()
    }
}

/// What the ingest thread has of OSSEC's side.
#[derive(Debug, Default)]
pub struct OssecDesk {
    station: Option<Sender<StationOrder>>,
    resend: Resend,
    group: Arc<str>,
    /// Datagrams that were dropped since the start.
    drops: Vec<(Reason, u64)>,
    /// Of those in the name of agents that there are: how many the last news added, and when that was.
    recent: Option<(u64, u64)>,
}

/// So long a drop is a problem.
const RECENT_MS: u64 = 600_000;

impl OssecDesk {
    pub const fn new(station: Sender<StationOrder>, resend: Resend, group: Arc<str>) -> Self {
        Self { station: Some(station), resend, group, drops: Vec::new(), recent: None }
    }

    pub(super) fn count_drops(&mut self, counts: Vec<(Reason, u64)>, now_ms: u64) {
        let own =
            |counts: &[(Reason, u64)]| counts.iter().filter(|(r, _)| !r.is_strangers()).map(|(_, n)| n).sum::<u64>();
        let more = own(&counts).saturating_sub(own(&self.drops));
        if more > 0 {
            let earlier = self.recent.filter(|(_, at)| now_ms < at + RECENT_MS).map_or(0, |(count, _)| count);
            self.recent = Some((earlier + more, now_ms));
        }
        self.drops = counts;
    }

    pub(super) fn dropped(&self) -> Vec<(&'static str, u64)> {
        self.drops.iter().map(|(reason, count)| (reason.text(), *count)).collect()
    }

    pub(super) const fn has_dropped(&self) -> bool {
        self.recent.is_some()
    }

    /// What strangers send is no problem of ours; what comes in an agent's name and cannot be taken is.
    pub(super) fn drops_in_words(&self, now_ms: u64) -> Option<String> {
        let (count, _) = self.recent.filter(|(_, at)| now_ms < at + RECENT_MS)?;
        let grave = self.drops.iter().filter(|(reason, _)| !reason.is_strangers()).max_by_key(|(_, count)| *count)?;
        let why = grave.0.text();
        Some(format!(
            "{count} datagrams in the name of OSSEC's agents were dropped lately, most of them because {why}."
        ))
    }
}

/// What is remembered of an agent of OSSEC's beside what every agent has.
#[derive(Debug, Default)]
pub struct OssecMember {
    key_id: Arc<str>,
    /// From where its key lets it speak.
    pub address: Arc<str>,
    /// What it runs on, as it says; empty until it does.
    system: Arc<str>,
    scan: FirstScan,
    has_baseline: bool,
    /// The last scan that should have been whole was not.
    is_lacking: bool,
    has_sha256: bool,
    /// Messages that never came.
    lost: u64,
    /// Of them, those that are not stored as lost yet.
    unstored: i64,
    cipher: Option<Cipher>,
    version: Arc<str>,
    /// What is said of it may be other than before: it is told behind what it said itself.
    has_news: bool,
    asked_ms: Option<u64>,
}

/// What one input brings of one agent, for the next commit.
pub struct OssecWork {
    pub about: AgentId,
    pub epoch: Epoch,
    pub received: Timestamp,
    pub newest: Count,
    pub lost: i64,
    pub deeds: Vec<Deed>,
}

pub enum Deed {
    File {
        file: Box<FileState>,
        /// It is a part of the first snapshot.
        is_first: bool,
    },
    Deleted(PathBytes),
    Text(LogText),
    Started {
        version: Arc<str>,
        cannot: Vec<Arc<str>>,
        has_baseline: bool,
    },
    Version(Arc<str>),
    /// The scan after the start is over. `seen`: the numbers of all paths, where all messages came.
    ScanEnds {
        seen: Option<Vec<u64>>,
        has_baseline: bool,
    },
}

impl Ingest {
    /// Where agents of OSSEC's are reached from now on.
    pub fn serve_ossec(&mut self, desk: OssecDesk) {
        self.ossec = desk;
    }

    pub(super) fn resume_ossec(&mut self, now: Moment) -> Result<(), StoreError> {
        for agent in self.reader.ossec_agents()? {
            self.adopt_ossec(now, &agent)?;
        }
        Ok(())
    }

    fn adopt_ossec(&mut self, now: Moment, ossec: &OssecAgent) -> Result<(), StoreError> {
        let Some(agent) = self.reader.agent(ossec.agent)? else { return Ok(()) };
        let member = self.fleet.entry(ossec.agent).or_insert_with(|| Member::from_store(&agent));
        member.ossec = Some(Box::new(OssecMember {
            key_id: ossec.key_id.clone(),
            has_baseline: agent.baseline.is_some(),
            lost: ossec.lost,
            version: agent.version,
            ..OssecMember::default()
        }));
        self.deadmen.forget(ossec.agent);
        self.deadmen.expect(ossec.agent, HEARTBEAT_MS);
        self.deadmen.resume(ossec.agent, agent.state, now.ms);
        Ok(())
    }

    /// Takes in who is new, and says under which number each is here.
    pub(super) fn ossec_keys(&mut self, now: Moment, keys: &[OssecKey]) -> Vec<OssecAgent> {
        self.commit(now);
        let taken = self.take_ossec_keys(now, keys);
        taken.unwrap_or_else(|error| {
            tracing::error!(%error, "the agents of client.keys could not be taken in");
            Vec::new()
        })
    }

    fn take_ossec_keys(&mut self, now: Moment, keys: &[OssecKey]) -> Result<Vec<OssecAgent>, StoreError> {
        let known = self.reader.ossec_agents()?;
        let known_ids: std::collections::HashSet<&str> = known.iter().map(|agent| &*agent.key_id).collect();
        let new: Vec<_> = keys.iter().filter(|key| !known_ids.contains(&*key.id)).collect();
        if !new.is_empty() {
            let (epoch, mut seq, group) = (self.own.epoch, self.own.seq, self.ossec.group.clone());
            self.transact(now, |scribe| {
                for key in new {
                    let newest = key.newest.map(|count| (count.global, count.local));
                    let ossec = NewOssecAgent { key_id: &key.id, name: &key.name, group: &group, at: now.wall, newest };
                    let agent = scribe.tx().create_ossec_agent(&ossec)?;
                    seq += 1;
                    let body = EventBody::Life(Life::Enrolled { name: key.name.clone(), group: group.clone() });
                    let event = Event { epoch, seq, time: now.wall, body };
                    scribe.record(&event_record(AgentId::MANAGER, agent, now.wall, event))?;
                }
                Ok::<_, StoreError>(())
            })?;
            self.own.seq = seq;
        }
        let all = self.reader.ossec_agents()?;
        for agent in &all {
            if self.fleet.get(&agent.agent).is_none_or(|member| member.ossec.is_none()) {
                self.adopt_ossec(now, agent)?;
            }
            let key = keys.iter().find(|key| key.id == agent.key_id);
            let ossec = self.fleet.get_mut(&agent.agent).and_then(|member| member.ossec.as_mut());
            if let (Some(ossec), Some(key)) = (ossec, key) {
                ossec.address = key.address.clone();
            }
        }
        Ok(all)
    }

    /// Takes messages in.
    pub(super) fn ossec_heard(&mut self, now: Moment, heard: Vec<OssecHeard>) {
        let mut works: Vec<OssecWork> = Vec::new();
        for OssecHeard { agent, received, heard } in heard {
            let stuck = self.stuck.is_some();
            let Some(member) = self.fleet.get_mut(&agent) else { continue };
            let Some(ossec) = &mut member.ossec else { continue };
            let lost = if heard.is_late { -1 } else { i64::try_from(heard.missing).unwrap_or(i64::MAX) };
            ossec.count_lost(lost);
            if stuck {
                // It is as if it had not come: its number is not stored either, so that it counts as lost once.
                ossec.count_lost(1);
                continue;
            }
            self.ossec_alive(now, agent, heard.cipher);
            let epoch = self.own.epoch;
            let index = works.iter().position(|work| work.about == agent).unwrap_or_else(|| {
                let (newest, deeds) = (heard.count, Vec::new());
                works.push(OssecWork { about: agent, epoch, received, newest, lost: 0, deeds });
                works.len() - 1
            });
            works[index].newest = works[index].newest.max(heard.count);
            self.group.bytes += DEED_BYTES;
            self.ossec_told(now, agent, heard.told, &mut works[index].deeds);
        }
        for mut work in works {
            if let Some(ossec) = self.fleet.get_mut(&work.about).and_then(|member| member.ossec.as_mut()) {
                work.lost = std::mem::take(&mut ossec.unstored);
            }
            let about = work.about;
            self.push(Work::Ossec(Box::new(work)));
            if self.ossec_member(about).is_some_and(|ossec| std::mem::take(&mut ossec.has_news)) {
                self.ossec_status(now, about);
            }
        }
    }

    /// What another manager knew of an agent's files is its baseline: its first scan is compared with that.
    pub(super) fn ossec_files(&mut self, now: Moment, agent: AgentId, files: Vec<FileState>) {
        let newest = match self.reader.ossec_agents() {
            Ok(agents) => agents.into_iter().find(|known| known.agent == agent).and_then(|known| known.newest),
            Err(error) => return tracing::error!(%agent, %error, "an imported database could not be taken in"),
        };
        let stuck = self.stuck.is_some();
        let epoch = self.own.epoch;
        let Some(ossec) = self.ossec_member(agent).filter(|ossec| !stuck && !ossec.has_baseline) else { return };
        ossec.has_baseline = true;
        self.group.bytes += DEED_BYTES * files.len();
        let count = files.len();
        let mut deeds: Vec<Deed> =
            files.into_iter().map(|file| Deed::File { file: Box::new(file), is_first: true }).collect();
        deeds.push(Deed::ScanEnds { seen: None, has_baseline: false });
        let newest = newest.map_or(Count::new(0, 0), |(global, local)| Count::new(global, local));
        let work = OssecWork { about: agent, epoch, received: now.wall, newest, lost: 0, deeds };
        self.push(Work::Ossec(Box::new(work)));
        tracing::info!(%agent, files = count, "what the manager before knew of an agent's files is its baseline");
    }

    /// It speaks: whatever it says, it lives.
    fn ossec_alive(&mut self, now: Moment, agent: AgentId, cipher: Cipher) {
        self.heard(now, Source { agent, connection: ConnectionId(0) });
        let Some(member) = self.fleet.get_mut(&agent) else { return };
        let Some(ossec) = &mut member.ossec else { return };
        if ossec.cipher != Some(cipher) && cipher == Cipher::Blowfish {
            tracing::warn!(%agent, name = %member.name, "an OSSEC agent speaks Blowfish, whose blocks are too short for today");
        }
        ossec.has_news |= ossec.cipher != Some(cipher);
        ossec.cipher = Some(cipher);
        if matches!(member.state, AgentState::NeverSeen | AgentState::Silent | AgentState::Stopped) {
            self.ossec_state(agent);
        }
    }

    fn ossec_told(&mut self, now: Moment, agent: AgentId, told: Told, deeds: &mut Vec<Deed>) {
        match told {
            Told::Startup | Told::Nothing => {}
            Told::KeepAlive(keepalive) => self.ossec_keepalive(agent, &keepalive, deeds),
            Told::Syscheck(SyscheckMessage::File(file)) => {
                // Not at each: it asks all agents that are scanning.
                let is_look = self.ossec_member(agent).is_some_and(|ossec| ossec.scan.len().is_multiple_of(4096));
                let has_room = !is_look || self.ossec_paths() < PATHS_MAX;
                let Some(ossec) = self.ossec_member(agent) else { return };
                ossec.has_sha256 |= file.has_sha256_field;
                if has_room {
                    ossec.scan.seen(&file.path.tree_key());
                } else {
                    ossec.scan = FirstScan::default();
                }
                let is_first = !ossec.has_baseline && ossec.scan.is_running();
                deeds.push(Deed::File { file, is_first });
            }
            Told::Syscheck(SyscheckMessage::Deleted(path)) => deeds.push(Deed::Deleted(path)),
            Told::Syscheck(SyscheckMessage::Completed) => self.ossec_scan_ends(now, agent, deeds),
            Told::Syscheck(SyscheckMessage::Unclear) => {}
            Told::Text(meaning, text) => {
                if meaning == Meaning::AgentStarted {
                    self.ossec_started(agent, deeds);
                }
                deeds.push(Deed::Text(text));
            }
        }
    }

    fn ossec_member(&mut self, agent: AgentId) -> Option<&mut OssecMember> {
        self.fleet.get_mut(&agent)?.ossec.as_deref_mut()
    }

    /// Paths that are remembered for scans that run: few agents scan for the first time at once.
    fn ossec_paths(&self) -> usize {
        self.ossec_scanning.iter().filter_map(|id| Some(self.fleet.get(id)?.ossec.as_ref()?.scan.len())).sum()
    }

    fn ossec_started(&mut self, agent: AgentId, deeds: &mut Vec<Deed>) {
        self.ossec_scanning.insert(agent);
        let Some(ossec) = self.ossec_member(agent) else { return };
        ossec.scan.starts();
        let (version, has_baseline, cannot) = (ossec.version.clone(), ossec.has_baseline, ossec.cannot());
        deeds.push(Deed::Started { version, cannot, has_baseline });
        self.ossec_state(agent);
    }

    fn ossec_keepalive(&mut self, agent: AgentId, keepalive: &KeepAlive, deeds: &mut Vec<Deed>) {
        let Some(ossec) = self.ossec_member(agent) else { return };
        let version: Arc<str> = keepalive.version().into();
        if *ossec.system != *keepalive.system() {
            ossec.system = keepalive.system().into();
        }
        if !version.is_empty() && version != ossec.version {
            ossec.version = version.clone();
            deeds.push(Deed::Version(version));
        }
        ossec.has_news = true;
    }

    /// The agent is through with what it sends after its start.
    fn ossec_scan_ends(&mut self, now: Moment, agent: AgentId, deeds: &mut Vec<Deed>) {
        self.ossec_scanning.remove(&agent);
        let resend = self.ossec.resend;
        let Some(ossec) = self.ossec_member(agent) else { return };
        let ended = ossec.scan.ends();
        let has_baseline = std::mem::replace(&mut ossec.has_baseline, true);
        ossec.is_lacking = matches!(ended, FirstScanEnd::Lacking { .. });
        let is_time = ossec.asked_ms.is_none_or(|asked_ms| now.ms >= asked_ms + ASK_MS);
        let asks = ossec.is_lacking && is_time && resend != Resend::Off;
        if asks {
            ossec.asked_ms = Some(now.ms);
        }
        let key_id = ossec.key_id.clone();
        if let FirstScanEnd::Lacking { missing } = ended {
            tracing::warn!(%agent, missing, "messages of an OSSEC agent's first scan did not come");
        }
        let seen = if let FirstScanEnd::Whole(seen) = ended { Some(seen) } else { None };
        deeds.push(Deed::ScanEnds { seen, has_baseline });
        if asks {
            let order = if resend == Resend::Agent { Order::restart_agent() } else { Order::RestartSyscheck };
            self.tell_station(StationOrder::Tell { to: vec![key_id], order, reply: None });
        }
        self.ossec_state(agent);
    }

    fn ossec_state(&mut self, agent: AgentId) {
        let Some(member) = self.fleet.get_mut(&agent) else { return };
        let Some(ossec) = &mut member.ossec else { return };
        ossec.has_news = true;
        member.state = if ossec.has_baseline { AgentState::Watching } else { AgentState::Baselining };
        self.may_have_news = true;
        self.live.agent(agent);
    }

    pub(super) fn tell_station(&self, order: StationOrder) {
        // A port that has closed has no agents to tell anything.
        let sent = self.ossec.station.as_ref().map(|station| station.send(order));
        drop(sent);
    }

    /// The key of a removed agent is to go.
    pub(super) fn forget_ossec(&mut self, agent: AgentId, member: &Member) {
        self.ossec_scanning.remove(&agent);
        if let Some(ossec) = &member.ossec {
            self.tell_station(StationOrder::Forget { key_id: ossec.key_id.clone() });
        }
    }

    /// What is known of its state and limits, as another agent would say it of itself.
    fn ossec_status(&mut self, now: Moment, agent: AgentId) {
        let Some(member) = self.fleet.get_mut(&agent) else { return };
        let Some(ossec) = &member.ossec else { return };
        let status = Status {
            time: now.wall,
            state: member.state,
            dropped: ossec.lost,
            can: vec![
                "changes of the files that its own configuration names, and lines of logs (an OSSEC agent)".into(),
            ],
            cannot: ossec.cannot(),
            source: "ossec".into(),
            who: "none".into(),
            tiers: ossec
                .cipher
                .iter()
                .map(|cipher| format!("OSSEC's datagrams, by {}", cipher.name()).into())
                .collect(),
            host: (!ossec.system.is_empty()).then(|| {
                let name = ossec.system.split(' ').nth(1).unwrap_or_default();
                Box::new(Host { name: name.into(), os: ossec.system.clone(), ..Host::default() })
            }),
            ..Status::default()
        };
        self.take_status(now, agent, Box::new(status), now.wall);
    }
}

impl OssecMember {
    /// Its id in `client.keys`.
    pub const fn key_id(&self) -> &Arc<str> {
        &self.key_id
    }

    fn count_lost(&mut self, lost: i64) {
        self.lost = self.lost.saturating_add_signed(lost);
        self.unstored = self.unstored.saturating_add(lost);
        match u64::try_from(lost) {
            Ok(lost) => self.scan.lost(lost),
            Err(_) => self.scan.late(),
        }
    }

    /// What an agent of ours could see and this one cannot.
    fn cannot(&self) -> Vec<Arc<str>> {
        let mut words = vec![
            "who changed a file: an OSSEC agent does not say",
            "what is lost on the way: an OSSEC agent's datagrams are neither acknowledged nor sent again",
            "whether the manager holds all of its files: what was deleted while it was down shows only at its next start, \
             if none of its messages is lost then",
            "whether a message is its own: whoever has its key can speak for it",
        ];
        if self.cipher == Some(Cipher::Blowfish) {
            words.push("whether somebody reads along: it speaks Blowfish, an old cipher; OSSEC 4 speaks AES");
        }
        if !self.has_sha256 {
            words.push("contents by SHA-256: it tells them apart by MD5 and SHA-1 alone");
        }
        if !self.has_baseline {
            words.push(
                "what its files were before: it has not sent all of them since it came here, which it does when it is \
                 started anew",
            );
        }
        if self.is_lacking {
            words.push("all of its files: messages of its last first scan were lost");
        }
        words.into_iter().map(Arc::from).collect()
    }
}
