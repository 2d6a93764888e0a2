//! Strategies for arbitrary values, and the largest ones, for the property tests of this crate.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use tally_types::*;

use crate::Position;
use crate::limit::{NAME_BYTES_MAX, NUMBER_MAX};
use crate::message::*;
use crate::record::Record;

/// What may happen to bytes on their way.
#[derive(Clone, Debug)]
pub struct Damage {
    flips: Vec<(prop::sample::Index, u8)>,
    cut: Option<prop::sample::Index>,
}

impl Damage {
    pub fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (index, byte) in &self.flips {
            let at = index.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some(cut) = &self.cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    }
}

pub fn damage() -> impl Strategy<Value = Damage> {
    (vec((any::<prop::sample::Index>(), any::<u8>()), 0..3), prop::option::weighted(0.2, any::<prop::sample::Index>()))
        .prop_map(|(flips, cut)| Damage { flips, cut })
}

fn text(max: usize) -> impl Strategy<Value = Arc<str>> {
    vec(prop_oneof![8 => prop::char::range('a', 'z'), 1 => any::<char>()], 0..max / 4)
        .prop_map(|chars| chars.into_iter().collect::<String>().into())
}

fn name() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just(Arc::from("root")), Just(Arc::from("www-data")), text(NAME_BYTES_MAX)]
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, 0..=NUMBER_MAX]
}

pub fn path() -> impl Strategy<Value = PathBytes> {
    let byte = any::<u8>().prop_filter("allowed in a name", |b| !matches!(b, 0 | b'/'));
    vec(vec(byte, 1..20), 0..5).prop_filter_map("normal", |parts| {
        let joined: Vec<u8> = parts.iter().flat_map(|part| [b"/", &part[..]].concat()).collect();
        if joined.is_empty() { Some(PathBytes::root()) } else { PathBytes::new(joined).ok() }
    })
}

fn digests() -> impl Strategy<Value = Digests> {
    (any::<[u8; 32]>(), vec((select(&Algorithm::ALL), any::<u8>()), 0..3), any::<bool>()).prop_map(
        |(sha256, others, has)| {
            let mut digests = if has { Digests::sha256(sha256) } else { Digests::default() };
            for (algorithm, fill) in others {
                digests.insert(Digest::new(algorithm, &vec![fill; algorithm.digest_len()]).unwrap());
            }
            digests
        },
    )
}

fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    prop::collection::btree_map(bytes(40), (bytes(Xattr::VALUE_BYTES_MAX), any::<bool>()), 0..3).prop_map(|map| {
        map.into_iter()
            .map(|(name, (value, hashed))| Xattr { name: name.into(), value: value.into(), hashed })
            .collect()
    })
}

pub fn entry() -> impl Strategy<Value = Entry> {
    let owner = || (any::<u32>(), of(name()));
    let numbers = (any::<u64>(), 0..=0o7777u16, any::<i64>(), 0..1_000_000_000u32);
    let rare = (of(select(&Undigested::ALL)), of(bytes(100)), of((any::<u32>(), any::<u32>())), any::<(bool, bool)>());
    (select(&FileKind::ALL), numbers, owner(), owner(), any::<bool>(), digests(), rare, xattrs()).prop_map(
        |(kind, (size, mode, secs, nanos), (uid, user), (gid, group), same, digests, rare, xattrs)| Entry {
            kind,
            size,
            mode,
            uid,
            group: if same { user.clone() } else { group },
            user,
            gid,
            mtime: FileTime { secs, nanos },
            digests,
            undigested: rare.0,
            target: rare.1.map(Into::into),
            device: rare.2.map(|(major, minor)| Device { major, minor }),
            flags: FileFlags { immutable: rare.3.0, append_only: rare.3.1 },
            xattrs,
        },
    )
}

fn actor() -> impl Strategy<Value = Actor> {
    let exe = || of(bytes(60).prop_map(Arc::<[u8]>::from));
    let unknown = (text(32), text(128)).prop_map(|(part, why)| UnknownPart { part, why });
    let login = (of(any::<u32>()), of(name()), of(any::<u32>()));
    (
        any::<u32>(),
        exe(),
        exe(),
        of(any::<u32>()),
        of(name()),
        login,
        of(any::<u32>()),
        exe(),
        vec(unknown, 0..3),
        select(&Confidence::ALL),
    )
        .prop_map(
            |(
                pid,
                exe,
                cmdline,
                uid,
                user,
                (login_uid, login_user, session),
                ppid,
                parent_exe,
                unknown,
                confidence,
            )| {
                Actor {
                    pid,
                    exe,
                    cmdline,
                    uid,
                    user,
                    login_uid,
                    login_user,
                    ppid,
                    parent_exe,
                    session,
                    confidence,
                    unknown,
                }
            },
        )
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn change() -> impl Strategy<Value = Change> {
    let window = of((time(), time()).prop_map(|(earliest, latest)| Window { earliest, latest }));
    let attributes = (0..1u16 << 14).prop_map(|bits| AttributeSet::from_bits(bits).unwrap());
    let words = (select(&ChangeKind::ALL), select(&DetectedBy::ALL), any::<u32>());
    (path(), of(path()), words, attributes, of(entry()), of(entry()), vec(actor(), 0..3), window).prop_map(
        |(path, moved_from, (kind, detected_by, records), attributes, before, after, actors, window)| Change {
            path,
            kind,
            moved_from,
            attributes,
            before,
            after,
            actors,
            detected_by,
            window,
            records,
        },
    )
}

pub fn life() -> impl Strategy<Value = Life> {
    let lines = || vec(text(512), 0..3);
    prop_oneof![
        (text(256), lines()).prop_map(|(version, cannot)| Life::Started { version, cannot }),
        text(1024).prop_map(|reason| Life::Stopped { reason }),
        (number(), any::<[u8; 32]>()).prop_map(|(entries, root)| Life::BaselineTaken { entries, root }),
        (time(), time(), select(&GapCause::ALL)).prop_map(|(start, end, cause)| Life::Gap { start, end, cause }),
        (text(256), number()).prop_map(|(queue, lost)| Life::Overflow { queue, lost }),
        any::<i64>().prop_map(|offset_us| Life::ClockJump { offset_us }),
        lines().prop_map(|cannot| Life::CoverageChanged { cannot }),
        text(1024).prop_map(|detail| Life::StateFull { detail }),
        text(1024).prop_map(|detail| Life::LedgerMismatch { detail }),
        (name(), name()).prop_map(|(name, group)| Life::Enrolled { name, group }),
        time().prop_map(|last_seen| Life::Silent { last_seen }),
        time().prop_map(|silent_since| Life::Returned { silent_since }),
        text(1024).prop_map(|detail| Life::DuplicateIdentity { detail }),
        text(1024).prop_map(|by| Life::Removed { by }),
        any::<i64>().prop_map(|offset_us| Life::ClockSkew { offset_us }),
        (number(), number(), number()).prop_map(|(e, first, last)| Life::EventsMissing {
            epoch: Epoch(e),
            first,
            last
        }),
    ]
}

pub fn admin_act() -> impl Strategy<Value = AdminAct> {
    let agent = || any::<u32>().prop_map(AgentId);
    let roots = any::<([u8; 32], [u8; 32])>();
    prop_oneof![
        (text(256), name(), any::<u32>(), time()).prop_map(|(token, group, uses, expires)| AdminAct::TokenCreated {
            token,
            group,
            uses,
            expires
        }),
        text(256).prop_map(|token| AdminAct::TokenRevoked { token }),
        (agent(), name()).prop_map(|(agent, name)| AdminAct::AgentRemoved { agent, name }),
        (agent(), number(), roots, text(2000)).prop_map(|(agent, paths, (from, to), selection)| {
            AdminAct::Promoted { agent, paths, from, to, selection }
        }),
        text(1024).prop_map(|detail| AdminAct::ConsoleLogin { detail }),
        text(256).prop_map(|version| AdminAct::ManagerStarted { version }),
        Just(AdminAct::ManagerStopped),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    let body = prop_oneof![change().prop_map(|c| EventBody::Change(Box::new(c))), life().prop_map(EventBody::Life)];
    (position(), time(), body).prop_map(|(at, time, body)| Event { epoch: at.epoch, seq: at.seq, time, body })
}

fn position() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(epoch, seq)| Position::new(epoch, seq))
}

pub fn rule() -> impl Strategy<Value = RuleMatch> {
    (any::<u32>(), 0..=16u32, text(1024), vec(text(128), 0..4), vec(text(128), 0..4)).prop_map(
        |(id, level, description, groups, pci_dss)| RuleMatch {
            id: RuleId(id),
            level: Level::new(level).unwrap(),
            description,
            groups: groups.into(),
            pci_dss: pci_dss.into(),
        },
    )
}

pub fn record() -> impl Strategy<Value = Record> {
    let agent = || any::<u32>().prop_map(AgentId);
    prop_oneof![
        3 => (agent(), agent(), time(), event()).prop_map(|(author, about, received, event)| {
            Record::Event { id: Position::of(&event).event_id(author), about, received, event }
        }),
        1 => (agent(), position(), agent(), time(), rule(), number()).prop_map(
            |(author, at, about, time, rule, event_index)| {
                Record::Alert { event_id: at.event_id(author), about, time, rule, event_index }
            }
        ),
        1 => (time(), text(256), admin_act()).prop_map(|(time, actor, act)| Record::Admin { time, actor, act }),
    ]
}

pub fn status() -> impl Strategy<Value = Status> {
    let lines = || vec(text(512), 0..3);
    let numbers = (number(), number(), number());
    (time(), position(), of(any::<[u8; 32]>()), select(&AgentState::ALL), numbers, lines(), lines()).prop_map(
        |(time, at, root, state, (entries, lag_us, dropped), can, cannot)| Status {
            time,
            epoch: at.epoch,
            seq: at.seq,
            root,
            entries,
            state,
            lag_us,
            dropped,
            can,
            cannot,
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    let head = (number(), any::<[u8; 32]>()).prop_map(|(size, root)| LedgerHead { size, root });
    (text(256), name(), any::<[u8; 16]>(), position(), of(position()), vec(position(), 0..4), status(), of(head))
        .prop_map(|(version, name, run_id, at, outbox_first, ended, status, checkpoint)| Hello {
            version,
            name,
            run_id: RunId(run_id),
            epoch: at.epoch,
            last_seq: at.seq,
            outbox_first,
            ended,
            status,
            checkpoint,
        })
}

fn hashes() -> impl Strategy<Value = Vec<[u8; 32]>> {
    vec(any::<[u8; 32]>(), 0..5)
}

fn batch() -> impl Strategy<Value = Batch> {
    let mark = (any::<[u8; 32]>(), number()).prop_map(|(root, entries)| Mark { root, entries });
    (of(position()), 0..=NUMBER_MAX, 1..NUMBER_MAX - 100, vec(event(), 1..6), of(mark)).prop_map(
        |(after, epoch, first_seq, mut events, mark)| {
            for (event, seq) in events.iter_mut().zip(first_seq..) {
                (event.epoch, event.seq) = (Epoch(epoch), seq);
            }
            Batch { after, epoch: Epoch(epoch), first_seq, events, mark }
        },
    )
}

pub fn to_manager() -> impl Strategy<Value = ToManager> {
    prop_oneof![
        hello().prop_map(ToManager::Hello),
        batch().prop_map(ToManager::Batch),
        (number(), of(position()), status(), any::<bool>()).prop_map(
            |(number, sent, mut status, words_as_in_hello)| {
                if words_as_in_hello {
                    (status.can, status.cannot) = Default::default();
                }
                ToManager::Heartbeat(Heartbeat { number, sent, status, words_as_in_hello })
            }
        ),
        (number(), vec(bytes(60), 0..5), hashes()).prop_map(|(request, nodes, missing)| ToManager::Nodes(Nodes {
            request,
            nodes,
            missing
        })),
        text(1024).prop_map(|reason| ToManager::Farewell { reason }),
    ]
}

fn refused() -> impl Strategy<Value = Refused> {
    (select(&RefusedCode::ALL), text(1024)).prop_map(|(code, text)| Refused { code, text })
}

pub fn to_agent() -> impl Strategy<Value = ToAgent> {
    prop_oneof![
        (any::<u32>(), name(), of(position()), any::<bool>(), any::<u32>(), time()).prop_map(
            |(agent, name, stored, numbers_taken, heartbeat_ms, now)| {
                ToAgent::Welcome(Welcome { agent: AgentId(agent), name, stored, numbers_taken, heartbeat_ms, now })
            }
        ),
        (of(position()), any::<bool>()).prop_map(|(stored, resend)| ToAgent::Ack(Ack { stored, resend })),
        (text(2000), number(), hashes()).prop_map(|(note, old_size, proof)| ToAgent::Checkpoint(Checkpoint {
            note,
            old_size,
            proof
        })),
        (number(), hashes()).prop_map(|(request, hashes)| ToAgent::WantNodes(WantNodes { request, hashes })),
        refused().prop_map(ToAgent::Refused),
    ]
}

pub fn enrol_request() -> impl Strategy<Value = EnrolRequest> {
    (text(256), name(), text(2000)).prop_map(|(secret, name, csr_pem)| EnrolRequest { secret, name, csr_pem })
}

pub fn enrol_answer() -> impl Strategy<Value = EnrolAnswer> {
    prop_oneof![
        (any::<u32>(), name(), text(2000), text(256)).prop_map(|(agent, name, cert_pem, ledger_key)| {
            EnrolAnswer::Enrolled(EnrolReply { agent: AgentId(agent), name, cert_pem, ledger_key })
        }),
        refused().prop_map(EnrolAnswer::Refused),
    ]
}

/// Usual changes, numbered 1 to `count`.
pub fn run_of_events(count: u64) -> Vec<Event> {
    let entry = |n: u64| Entry {
        kind: FileKind::File,
        size: n,
        mode: 0o644,
        uid: 0,
        user: Some("root".into()),
        gid: 0,
        group: Some("root".into()),
        mtime: FileTime { secs: 1_764_000_000, nanos: n as u32 },
        digests: Digests::sha256([n as u8; 32]),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: Vec::new(),
    };
    let event = |seq| {
        let change = Change {
            path: PathBytes::new(format!("/etc/conf.d/file-{seq}").into_bytes()).unwrap(),
            kind: ChangeKind::Modified,
            moved_from: None,
            attributes: AttributeSet::between(&entry(seq), &entry(seq + 1)),
            before: Some(entry(seq)),
            after: Some(entry(seq + 1)),
            actors: Vec::new(),
            detected_by: DetectedBy::Realtime,
            window: None,
            records: 1,
        };
        let time = Timestamp(1_764_000_000_000_000 + seq as i64);
        Event { epoch: Epoch(7), seq, time, body: EventBody::Change(Box::new(change)) }
    };
    (1..=count).map(event).collect()
}

/// Everything at its limit.
pub fn largest_entry() -> Entry {
    let mut digests = Digests::sha256([0xff; 32]);
    for algorithm in Algorithm::ALL {
        digests.insert(Digest::new(algorithm, &vec![0xff; algorithm.digest_len()]).unwrap());
    }
    let xattr = |n: usize| Xattr {
        name: [&vec![b'x'; 254][..], &[n as u8]].concat().into(),
        value: vec![0xff; Xattr::VALUE_BYTES_MAX].into(),
        hashed: false,
    };
    Entry {
        kind: FileKind::BlockDevice,
        size: u64::MAX,
        mode: 0o7777,
        uid: u32::MAX,
        user: Some("u".repeat(NAME_BYTES_MAX).into()),
        gid: u32::MAX,
        group: Some("g".repeat(NAME_BYTES_MAX).into()),
        mtime: FileTime { secs: i64::MIN, nanos: 999_999_999 },
        digests,
        undigested: Some(Undigested::Denied),
        target: Some(vec![b't'; PATH_BYTES_MAX].into()),
        device: Some(Device { major: u32::MAX, minor: u32::MAX }),
        flags: FileFlags { immutable: true, append_only: true },
        xattrs: (0..Xattr::COUNT_MAX).map(xattr).collect(),
    }
}

/// A change with everything at its limit.
pub fn largest_event() -> Event {
    let unknown = UnknownPart { part: "p".repeat(32).into(), why: "w".repeat(128).into() };
    let actor = Actor {
        pid: u32::MAX,
        exe: Some(vec![b'e'; PATH_BYTES_MAX].into()),
        cmdline: Some(vec![b'c'; Actor::CMDLINE_BYTES_MAX].into()),
        uid: Some(u32::MAX),
        user: Some("u".repeat(NAME_BYTES_MAX).into()),
        login_uid: Some(u32::MAX),
        login_user: Some("l".repeat(NAME_BYTES_MAX).into()),
        ppid: Some(u32::MAX),
        parent_exe: Some(vec![b'e'; PATH_BYTES_MAX].into()),
        session: Some(u32::MAX),
        confidence: Confidence::Kernel,
        unknown: vec![unknown; 12],
    };
    let longest = PathBytes::new([b"/", &vec![b'p'; PATH_BYTES_MAX - 1][..]].concat()).unwrap();
    let change = Change {
        path: longest.clone(),
        kind: ChangeKind::Moved,
        moved_from: Some(longest),
        attributes: AttributeSet::all(),
        before: Some(largest_entry()),
        after: Some(largest_entry()),
        actors: vec![actor; Change::ACTORS_MAX],
        detected_by: DetectedBy::Sync,
        window: Some(Window { earliest: Timestamp(i64::MIN), latest: Timestamp(i64::MIN) }),
        records: u32::MAX,
    };
    let body = EventBody::Change(Box::new(change));
    Event { epoch: Epoch(NUMBER_MAX), seq: NUMBER_MAX, time: Timestamp(i64::MIN), body }
}
