//! `tally-agent doctor`: what this host lets an agent see, found by trying, and why not where it does not.
//!
//! Each source is really started and stopped again, those too that an agent would not need because a better one serves. An
//! agent that runs meanwhile is not disturbed.

mod form;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use tally_sys::bpf::Tracer;
use tally_sys::caps::{self, Capability};
use tally_sys::fs_kind::{self, FsKind};
use tally_sys::mount::{self, Mount};
use tally_sys::{fanotify, inotify, open, process};
use tally_syscheck::{Limits, Policy};

pub use self::form::Findings;
use self::form::{Filesystem, Held, Number, State, Try};
use crate::intake::Intake;
use crate::options::DoctorOptions;
use crate::sensor::audit::AuditSource;
use crate::sensor::{self, Source};
use crate::{enrol, policy, program};

/// What an agent needs, and what for.
const CAPABILITIES: [(Capability, &str); 8] = [
    (Capability::SysAdmin, "to mark whole filesystems, so that every change on them is told"),
    (Capability::DacReadSearch, "to read every file, and to find the directory that a record is about"),
    (Capability::SysPtrace, "to read who other users' processes are"),
    (Capability::Bpf, "to load the programs that tell of processes"),
    (Capability::Perfmon, "for the same"),
    (Capability::AuditControl, "to have audit tell of processes, where BPF cannot"),
    (Capability::AuditRead, "for the same"),
    (Capability::Fowner, "to read files without changing their access times"),
];

/// Limits of the kernel that decide what is seen.
const NUMBERS: [(&str, &str); 7] = [
    ("fs/fanotify/max_queued_events", "records that wait, where the queue may not grow without limit"),
    ("fs/fanotify/max_user_groups", "watchers of one user"),
    ("fs/fanotify/max_user_marks", "marks of one user"),
    ("fs/inotify/max_user_watches", "directories that inotify can watch, where fanotify is refused"),
    ("fs/inotify/max_queued_events", "records that wait in inotify"),
    ("fs/inotify/max_user_instances", "watchers of one user"),
    ("kernel/pid_max", "numbers of processes, before one is given out again"),
];

/// Tries everything.
pub fn examine(options: &DoctorOptions) -> Result<Findings> {
    let state_dir = crate::state_dir(options.state.as_deref());
    let watches = options.watches.iter().map(|w| program::watch(w)).collect::<Result<Vec<_>>>()?;
    let agent_dir = enrol::agent_dir(&state_dir);
    let chosen = policy::choose(&agent_dir, policy::own(options.config.as_deref(), &watches)?, None)?;
    let policy = Arc::new(chosen.policy);
    let mut findings = Findings { schema: 1, version: env!("CARGO_PKG_VERSION").to_owned(), ..Findings::default() };
    findings.kernel = text_of("/proc/sys/kernel/osrelease").unwrap_or_else(|| "?".to_owned());
    findings.machine = std::env::consts::ARCH.to_owned();
    findings.user = tally_sys::spawn::effective_uid();
    // What an agent would use, with its own words for it.
    let intake = Arc::new(Intake::new(Limits::default(), None));
    let sensor = sensor::start(&policy, &intake, None, None)?;
    findings.source = sensor.source.name().to_owned();
    (findings.can, findings.cannot) = (sensor.coverage.can.clone(), sensor.coverage.cannot.clone());
    let source = sensor.source;
    drop(sensor);
    findings.events = vec![fanotify_tried(), inotify_tried(), Try::works("none", "scans find changes afterwards")];
    findings.processes = vec![bpf_tried(), audit_tried(), proc_tried()];
    findings.watches = policy.roots().iter().map(ToString::to_string).collect();
    findings.filesystems = filesystems(&policy, source)?;
    findings.capabilities = capabilities()?;
    findings.limits = NUMBERS.iter().filter_map(|(name, what)| number(name, what)).collect();
    findings.state = state(&state_dir);
    findings.responses = crate::responder::standing(&chosen.config.responses);
    findings.mark_used();
    Ok(findings)
}

fn fanotify_tried() -> Try {
    let name = Source::Fanotify.name();
    let group = match fanotify::Group::new() {
        Ok(group) => group,
        Err(error) => return Try::refused(name, &error),
    };
    if !caps::effective().is_ok_and(|held| held.has(Capability::DacReadSearch)) {
        return Try::refused(name, &"needs CAP_DAC_READ_SEARCH");
    }
    let features = group.features();
    let queue = if features.unlimited_queue { "a queue without limit" } else { "a queue with the kernel's limit" };
    let target = if features.target { "" } else { ", without the changed file's own handle (before Linux 5.17)" };
    Try::works(name, &format!("one mark for each filesystem, {queue}{target}"))
}

fn inotify_tried() -> Try {
    let tried = || inotify::Instance::new()?.add(open::base(b"/")?.as_fd());
    match tried() {
        Ok(_) => Try::works(Source::Inotify.name(), "one watch for each directory, without who made a change"),
        Err(error) => Try::refused(Source::Inotify.name(), &error),
    }
}

fn bpf_tried() -> Try {
    match Tracer::start() {
        Ok(_) => Try::works("bpf", "each fork, exec and exit is told as it happens"),
        Err(error) => Try::refused("bpf", &error),
    }
}

fn audit_tried() -> Try {
    match AuditSource::start() {
        Ok((_, words)) => Try::works("audit", &words.can),
        Err(error) => Try::refused("audit", &error),
    }
}

/// A process of ours can always be read, unless there is no /proc; those of others need a right.
fn proc_tried() -> Try {
    let reads_others = caps::effective().is_ok_and(|held| held.has(Capability::SysPtrace));
    match process::read(process::own_pid()) {
        Ok(facts) if facts.exe.is_none() => Try::refused("proc", &"/proc does not tell which program a process is"),
        Ok(_) if reads_others => Try::works("proc", "as long as the process lives"),
        Ok(_) => Try::works("proc", "as long as the process lives, and only of this user's own"),
        Err(error) => Try::refused("proc", &error),
    }
}

/// Each filesystem with watched paths, and how changes on it are seen.
fn filesystems(policy: &Policy, source: Source) -> Result<Vec<Filesystem>> {
    let table = mount::read()?;
    let group = fanotify::Group::new().ok();
    let mut filesystems = Vec::new();
    for mount in sensor::holding_watched(&table, policy) {
        let seen = match (source, &group) {
            _ if fs_kind::of_type_name(&mount.fs_type) != FsKind::Local => {
                Err("not a filesystem of this machine".to_owned())
            }
            (Source::Fanotify, Some(group)) => marked(group, mount),
            (Source::Inotify, _) => Ok("as it happens, by inotify".to_owned()),
            _ => Err("there is no source of events".to_owned()),
        };
        filesystems.push(Filesystem {
            mount: String::from_utf8_lossy(&mount.point).into_owned(),
            fs_type: String::from_utf8_lossy(&mount.fs_type).into_owned(),
            live: seen.is_ok(),
            detail: seen.unwrap_or_else(|why| format!("by scans only: {why}")),
        });
    }
    filesystems.sort_by(|a, b| a.mount.cmp(&b.mount));
    filesystems.dedup_by(|a, b| a.mount == b.mount);
    Ok(filesystems)
}

fn marked(group: &fanotify::Group, mount: &Mount) -> Result<String, String> {
    let on = open::base(&mount.point).map_err(|error| error.to_string())?;
    match group.mark_filesystem(on.as_fd()) {
        Ok(fanotify::Renames::Whole) => Ok("as it happens".to_owned()),
        Ok(fanotify::Renames::Halves) => Ok("as it happens, renames as two changes (before Linux 5.17)".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn capabilities() -> Result<Vec<Held>> {
    let held = caps::effective()?;
    let one = |(capability, what): (Capability, &str)| Held {
        name: capability.name().to_owned(),
        held: held.has(capability),
        what_for: what.to_owned(),
    };
    Ok(CAPABILITIES.into_iter().map(one).collect())
}

fn number(name: &str, what: &str) -> Option<Number> {
    let value = text_of(&format!("/proc/sys/{name}"))?.parse().ok()?;
    Some(Number { name: name.replace('/', "."), value, what: what.to_owned() })
}

/// Where the agent keeps what it knows, and whether it can.
fn state(dir: &Path) -> State {
    let agent = enrol::agent_dir(dir);
    let has_identity = enrol::is_enrolled(dir);
    let mut problems = Vec::new();
    if let Ok(fd) = open::base(agent.as_os_str().as_encoded_bytes()) {
        // TMPFS_MAGIC, RAMFS_MAGIC
        if fs_kind::of(fd.as_fd()).is_ok_and(|facts| matches!(facts.magic, 0x0102_1994 | 0x8584_58f6)) {
            problems.push("it lies in memory: what the agent knows is lost at the next boot".to_owned());
        }
    } else if has_identity {
        problems.push("it cannot be opened".to_owned());
    }
    State { dir: agent.display().to_string(), enrolled: has_identity, problems }
}

fn text_of(file: &str) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}
