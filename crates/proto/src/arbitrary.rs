//! Strategies for arbitrary values, and the largest ones, for the property tests of this crate.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use tally_types::*;

use crate::Position;
use crate::limit::{FOLD_MAX, LEAVES_MAX, NAME_BYTES_MAX, NUMBER_MAX};
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
    let ancestor = (any::<u32>(), exe()).prop_map(|(pid, exe)| Ancestor { pid, exe });
    let remote = (text(128), select(&RemoteFrom::ALL)).prop_map(|(address, from)| Remote { address, from });
    let session = (vec(ancestor, 0..3), of(text(32)), of(text(256)), of(container()), of(remote));
    (
        any::<u32>(),
        exe(),
        exe(),
        of(any::<u32>()),
        of(name()),
        login,
        of(any::<u32>()),
        exe(),
        (vec(unknown, 0..3), session),
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
                (unknown, (ancestors, tty, cgroup, container, remote)),
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
                    ancestors,
                    session,
                    tty,
                    cgroup,
                    container,
                    remote,
                    confidence,
                    unknown,
                }
            },
        )
}

fn container() -> impl Strategy<Value = Container> {
    (text(72), of(text(128)), of(text(256))).prop_map(|(id, name, image)| Container { id, name, image })
}

fn detail() -> impl Strategy<Value = Change> {
    let range = (any::<u64>(), any::<u64>()).prop_map(|(start, end)| ByteRange { start, end });
    let diff = (text(4000), of(text(128))).prop_map(|(text, note)| Diff { text, note });
    let place = (container(), path()).prop_map(|(container, path)| ContainerPath { container, path });
    let lines = || vec(text(512), 0..3);
    (of(range), of(diff), lines(), lines(), of(place), vec(text(64), 0..3)).prop_map(
        |(bytes, diff, summary, notes, place, tags)| Change {
            bytes,
            diff,
            summary,
            notes,
            place,
            tags,
            ..Change::new(PathBytes::root(), ChangeKind::Added, DetectedBy::Scan)
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
    let entries = (of(entry()), of(entry()));
    (path(), of(path()), words, attributes, entries, vec(actor(), 0..3), window, detail()).prop_map(
        |(path, moved_from, (kind, detected_by, records), attributes, (before, after), actors, window, detail)| {
            Change { path, kind, moved_from, attributes, before, after, actors, detected_by, window, records, ..detail }
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
        text(1024).prop_map(|detail| Life::Missed { detail }),
        (text(256), text(1024)).prop_map(|(response, detail)| Life::Responded { response, detail }),
        (text(1024), text(1024)).prop_map(|(order, detail)| Life::Ordered { order, detail }),
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
        (text(256), lines(), of(actor())).prop_map(|(device, mounts, actor)| Life::DeviceOpened {
            device,
            mounts,
            actor: actor.map(Box::new)
        }),
        (text(256), text(1024)).prop_map(|(part, detail)| Life::Impaired { part, detail }),
        text(256).prop_map(|part| Life::Restored { part }),
        (text(1024), any::<[u8; 32]>()).prop_map(|(origin, digest)| Life::PolicyApplied { origin, digest }),
        text(1024).prop_map(|detail| Life::PolicyRefused { detail }),
        (path(), number(), number(), number()).prop_map(|(path, records, paths, duration_us)| Life::Storm {
            path,
            records,
            paths,
            duration_us
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
        (name(), any::<[u8; 32]>()).prop_map(|(group, digest)| AdminAct::PolicySet { group, digest }),
        name().prop_map(|group| AdminAct::PolicyRemoved { group }),
        (text(256), text(1024)).prop_map(|(agent, order)| AdminAct::AgentOrdered { agent, order }),
        (any::<[u8; 32]>(), 0..1u64 << 40, 0..1u64 << 40)
            .prop_map(|(digest, decoders, rules)| AdminAct::RulesReloaded { digest, decoders, rules }),
        agent().prop_map(|agent| AdminAct::FindingsCleared { agent }),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    let body = prop_oneof![
        change().prop_map(|c| EventBody::Change(Box::new(c))),
        life().prop_map(EventBody::Life),
        log_line().prop_map(|line| EventBody::Log(Box::new(line))),
    ];
    (position(), time(), body).prop_map(|(at, time, body)| Event { epoch: at.epoch, seq: at.seq, time, body })
}

fn log_line() -> impl Strategy<Value = LogLine> {
    let word = || of(text(Decoding::WORD_BYTES_MAX));
    let field = (text(Decoding::FIELD_NAME_BYTES_MAX), text(200));
    let decoding = (word(), word(), word(), vec(field, 0..5))
        .prop_map(|(decoder, hostname, program, fields)| Decoding { decoder, hostname, program, fields });
    let text_of = vec(any::<u8>(), 0..300);
    (text(LogLine::LOCATION_BYTES_MAX), select(LogQueue::ALL.to_vec()), text_of, of(decoding)).prop_map(
        |(location, queue, text, decoding)| LogLine {
            decoding: decoding.map(Box::new),
            ..LogLine::new(location, queue, text)
        },
    )
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

fn host() -> impl Strategy<Value = Host> {
    let word = || text(256);
    let cloud = (word(), word(), word(), word(), word(), word(), word()).prop_map(
        |(provider, account, region, zone, instance, image, machine)| CloudPlace {
            provider,
            account,
            region,
            zone,
            instance,
            image,
            machine,
        },
    );
    (word(), word(), word(), word(), vec(word(), 0..3), of(cloud)).prop_map(
        |(name, os, kernel, architecture, addresses, cloud)| Host { name, os, kernel, architecture, addresses, cloud },
    )
}

pub fn status() -> impl Strategy<Value = Status> {
    let lines = || vec(text(512), 0..3);
    let numbers = (number(), number(), number());
    let usage = (number(), number(), number(), number()).prop_map(|(cpu_us, read_bytes, rss_bytes, throttled_us)| {
        Usage { cpu_us, read_bytes, rss_bytes, throttled_us }
    });
    let blind = (path(), text(256), any::<bool>()).prop_map(|(point, why, scanned)| Blind { point, why, scanned });
    let words = (lines(), lines(), lines(), vec(blind, 0..3), of(host()));
    let further = (text(256), text(256), of(any::<[u8; 32]>()), usage);
    (time(), position(), of(any::<[u8; 32]>()), select(&AgentState::ALL), numbers, words, further).prop_map(
        |(
            time,
            at,
            root,
            state,
            (entries, lag_us, dropped),
            (can, cannot, tiers, blind, host),
            (source, who, policy, usage),
        )| Status {
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
            tiers,
            blind,
            host: host.map(Box::new),
            source,
            who,
            policy,
            usage,
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
                    status.forget_words();
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
        (text(4000), text(1024)).prop_map(|(text, origin)| ToManager::PolicyInUse(PolicyInUse { text, origin })),
        Just(ToManager::AskLogs),
        leaves().prop_map(ToManager::Leaves),
        any::<u64>().prop_map(|id| ToManager::OrderTaken { id }),
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
        text(4000).prop_map(|text| ToAgent::Policy { text }),
        Just(ToAgent::PolicyNone),
        Just(ToAgent::WantPolicy),
        (vec(held_log(), 0..4), any::<bool>())
            .prop_map(|(logs, is_last)| ToAgent::LogsHeld(LogsHeld { logs, is_last })),
        any::<u64>().prop_map(|number| ToAgent::LeavesKept { number }),
        order().prop_map(ToAgent::Order),
    ]
}

pub fn order() -> impl Strategy<Value = Order> {
    let cause = (any::<i64>(), any::<u64>(), any::<u32>(), text(1024))
        .prop_map(|(seconds, number, rule, location)| Cause { seconds, number, rule, location });
    let respond = (text(256), any::<u32>(), of(name()), of(any::<core::net::IpAddr>()), of(path()), of(cause))
        .prop_map(|(command, timeout_s, user, address, file, cause)| {
            Task::Respond(Box::new(Respond { command, timeout_s, user, address, file, cause }))
        });
    let what = prop_oneof![of(path()).prop_map(|path| Task::Scan { path }), Just(Task::Restart), respond];
    (any::<u64>(), any::<u32>(), what).prop_map(|(id, wait_s, what)| Order { id, wait_s, what })
}

fn held_log() -> impl Strategy<Value = HeldLog> {
    (path(), number(), 0..=FOLD_MAX, any::<[u8; 32]>(), any::<[u8; 32]>())
        .prop_map(|(path, size, fold, chain, tail)| HeldLog { path, size, fold, chain, tail })
}

fn told_log() -> impl Strategy<Value = ToldLog> {
    let end = (number(), any::<[u8; 32]>()).prop_map(|(size, tail)| LogEnd { size, tail });
    let proof =
        (number(), hashes(), any::<[u8; 32]>()).prop_map(|(size, leaves, tail)| LogProof { size, leaves, tail });
    (path(), 0..=FOLD_MAX, 0..=LEAVES_MAX as u64, hashes(), of(end), of(proof))
        .prop_map(|(path, fold, first, leaves, end, proof)| ToldLog { path, fold, first, leaves, end, proof })
}

fn leaves() -> impl Strategy<Value = Leaves> {
    (any::<u64>(), position(), vec(told_log(), 0..3), vec(path(), 0..3)).prop_map(|(number, at, logs, gone)| Leaves {
        number,
        at,
        logs,
        gone,
    })
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
    let path = |n: u64| PathBytes::new(format!("/etc/conf.d/file-{n}").into_bytes()).unwrap();
    let event = |seq| {
        let change = Change {
            attributes: AttributeSet::between(&entry(seq), &entry(seq + 1)),
            before: Some(entry(seq)),
            after: Some(entry(seq + 1)),
            records: 1,
            ..Change::new(path(seq), ChangeKind::Modified, DetectedBy::Realtime)
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
    let container = Container {
        id: "i".repeat(72).into(),
        name: Some("n".repeat(128).into()),
        image: Some("m".repeat(256).into()),
    };
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
        ancestors: vec![Ancestor { pid: u32::MAX, exe: Some(vec![b'a'; PATH_BYTES_MAX].into()) }; Actor::ANCESTORS_MAX],
        session: Some(u32::MAX),
        tty: Some("t".repeat(32).into()),
        cgroup: Some("g".repeat(256).into()),
        container: Some(container.clone()),
        remote: Some(Remote { address: "r".repeat(128).into(), from: RemoteFrom::Wtmp }),
        confidence: Confidence::Kernel,
        unknown: vec![unknown; 12],
    };
    let longest = PathBytes::new([b"/", &vec![b'p'; PATH_BYTES_MAX - 1][..]].concat()).unwrap();
    let change = Change {
        moved_from: Some(longest.clone()),
        attributes: AttributeSet::all(),
        before: Some(largest_entry()),
        after: Some(largest_entry()),
        actors: vec![actor; Change::ACTORS_MAX],
        window: Some(Window { earliest: Timestamp(i64::MIN), latest: Timestamp(i64::MIN) }),
        records: u32::MAX,
        bytes: Some(ByteRange { start: u64::MAX, end: u64::MAX }),
        diff: Some(Diff { text: "+line\n".repeat(Diff::BYTES_MAX / 6).into(), note: Some("n".repeat(128).into()) }),
        summary: vec!["s".repeat(512).into(); Change::SENTENCES_MAX],
        notes: vec!["n".repeat(512).into(); Change::SENTENCES_MAX],
        place: Some(ContainerPath { container, path: longest.clone() }),
        tags: vec!["t".repeat(64).into(); Change::TAGS_MAX],
        ..Change::new(longest, ChangeKind::Moved, DetectedBy::Sync)
    };
    let body = EventBody::Change(Box::new(change));
    Event { epoch: Epoch(NUMBER_MAX), seq: NUMBER_MAX, time: Timestamp(i64::MIN), body }
}
