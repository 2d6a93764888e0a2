//! Processes as the kernel tells of them: three BPF tracepoints (exec, fork, exit) and the ring of their records.
//!
//! Source: crates/sys/bpf/process.bpf.c, compiled by `cargo xtask bpf`; bpf(2). It needs Linux 5.8 with type information
//! (BTF) and the right to load programs, which is found by loading. The programs stay in the kernel as long as the `Tracer`
//! lives, and go with the process however it ends. The parser is in `record` and is pure.

mod record;

pub use record::{Exec, Exit, Fork, ParseError, Path, Record, Rights, parse};

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};
use thiserror::Error as ThisError;

use crate::{limit, open};

/// Compiled and stripped; `cargo xtask test` compares it with what the source gives.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/process.bpf.o");

/// Each program, and the tracepoint that it is for.
const PROGRAMS: [(&str, &str); 3] =
    [("on_fork", "sched_process_fork"), ("on_exec", "sched_process_exec"), ("on_exit", "sched_process_exit")];

/// The process namespace that the kernel begins with; a number, not a file, and the same on every machine.
const FIRST_PID_NAMESPACE: &[u8] = b"pid:[4026531836]";

/// Why the kernel does not tell: always the environment's doing.
#[derive(Debug, ThisError)]
pub enum StartError {
    #[error("the kernel gives no type information (CONFIG_DEBUG_INFO_BTF, /sys/kernel/btf/vmlinux): {0}")]
    NoTypes(String),
    #[error("the agent is in a process namespace of its own, whose numbers are not the kernel's")]
    PidNamespace,
    #[error("not permitted: needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN")]
    NoCapability,
    #[error("not permitted, although the capabilities are there: {0}")]
    Forbidden(&'static str),
    #[error("this kernel has no ring of BPF records (Linux 5.8)")]
    NoRing,
    #[error("{step}: {detail}")]
    Refused { step: &'static str, detail: String },
}

/// The loaded programs and their ring.
pub struct Tracer {
    /// Dropping it takes the programs out of the kernel.
    _programs: Ebpf,
    ring: RingBuf<MapData>,
    lost: Array<MapData, u64>,
    lost_told: u64,
}

impl Tracer {
    /// Loads the programs. From its return on each fork, exec and exit on the machine is in the ring.
    pub fn start() -> Result<Self, StartError> {
        // Where it cannot be told, /proc may be missing too; a wrong number then never meets a right one.
        let here = open::read_link_of(c"/proc/self/ns/pid");
        if here.is_ok_and(|here| here != FIRST_PID_NAMESPACE) {
            return Err(StartError::PidNamespace);
        }
        // Before Linux 5.11 the memory of maps counts as locked. Where the limit cannot be raised it may still suffice.
        let _ = limit::raise_locked_memory();
        let types = Btf::from_sys_fs().map_err(|error| StartError::NoTypes(error.to_string()))?;
        let loaded = EbpfLoader::new().btf(Some(&types)).load(OBJECT);
        let mut programs = loaded.map_err(|error| refusal("make the maps", &error))?;
        for (name, tracepoint) in PROGRAMS {
            let program: &mut BtfTracePoint = programs
                .program_mut(name)
                .and_then(|program| program.try_into().ok())
                .expect("the object has this program: a test loads it");
            program.load(tracepoint, &types).map_err(|error| refusal("load a program", &error))?;
            program.attach().map_err(|error| refusal("attach a program", &error))?;
        }
        let mut map = |name| programs.take_map(name).expect("the object has this map: a test loads it");
        let ring = RingBuf::try_from(map("ring")).map_err(|error| refusal("open the ring", &error))?;
        let lost = Array::try_from(map("lost")).map_err(|error| refusal("open the counter", &error))?;
        Ok(Self { _programs: programs, ring, lost, lost_told: 0 })
    }

    /// Hands over every record that is in the ring by now, in the order in which the kernel wrote them.
    pub fn drain(&mut self, mut take: impl FnMut(Result<Record<'_>, ParseError>)) {
        while let Some(bytes) = self.ring.next() {
            take(parse(&bytes));
        }
    }

    /// How many records found the ring full since the last call.
    pub fn lost(&mut self) -> u64 {
        let lost = self.lost.get(&0, 0).unwrap_or(self.lost_told);
        let new = lost.saturating_sub(self.lost_told);
        self.lost_told = lost;
        new
    }
}

/// Readable when a quarter of the ring is full, so that nobody is woken for each process.
impl AsFd for Tracer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").field("lost_told", &self.lost_told).finish_non_exhaustive()
    }
}

/// What a failure means, from the kernel's error where there is one.
fn refusal(step: &'static str, error: &(dyn Error + 'static)) -> StartError {
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => forbidden(),
        Some(libc::EINVAL) if step == "make the maps" => StartError::NoRing,
        // The verifier's log is long; its first line says what it is about.
        _ => StartError::Refused { step, detail: error.to_string().lines().next().unwrap_or_default().to_owned() },
    }
}

fn forbidden() -> StartError {
    use crate::caps::{self, Capability};
    let has = |capability| caps::effective().is_ok_and(|own| own.has(capability));
    let may = has(Capability::SysAdmin) || (has(Capability::Bpf) && has(Capability::Perfmon));
    if !may {
        return StartError::NoCapability;
    }
    let lockdown = std::fs::read("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.windows(17).any(|word| word == b"[confidentiality]") {
        return StartError::Forbidden("the kernel is locked down (confidentiality)");
    }
    StartError::Forbidden("a policy of the host forbids it")
}

fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.filter_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error()).last()
}
