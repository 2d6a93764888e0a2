//! What this process may do: its effective capabilities.
//!
//! Source: capabilities(7), capget(2), proc_pid_status(5).

use std::io;

use crate::syscall::check;

/// Those capabilities that decide what an agent can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    DacOverride,
    /// To read every file, and to open file handles.
    DacReadSearch,
    /// To leave access times alone.
    Fowner,
    SetGid,
    SetUid,
    NetAdmin,
    /// To read /proc of other users' processes.
    SysPtrace,
    /// To mark whole filesystems.
    SysAdmin,
    /// To take a higher priority again than one has given oneself.
    SysNice,
    /// To ask the audit subsystem, and for rules of its own.
    AuditControl,
    /// To read its records.
    AuditRead,
    /// To have BPF programs read the kernel's memory.
    Perfmon,
    Bpf,
}

impl Capability {
    pub const ALL: [Self; 11] = [
        Self::DacOverride,
        Self::DacReadSearch,
        Self::Fowner,
        Self::SetGid,
        Self::SetUid,
        Self::NetAdmin,
        Self::SysPtrace,
        Self::SysAdmin,
        Self::SysNice,
        Self::AuditRead,
        Self::Bpf,
    ];

    const fn number(self) -> u32 {
        match self {
            Self::DacOverride => 1,
            Self::DacReadSearch => 2,
            Self::Fowner => 3,
            Self::SetGid => 6,
            Self::SetUid => 7,
            Self::NetAdmin => 12,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::SysNice => 23,
            Self::AuditControl => 30,
            Self::AuditRead => 37,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::Fowner => "CAP_FOWNER",
            Self::SetGid => "CAP_SETGID",
            Self::SetUid => "CAP_SETUID",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysNice => "CAP_SYS_NICE",
            Self::AuditControl => "CAP_AUDIT_CONTROL",
            Self::AuditRead => "CAP_AUDIT_READ",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// A set of capabilities, as the kernel's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    pub const fn has(self, capability: Capability) -> bool {
        self.0 >> capability.number() & 1 == 1
    }

    /// What this set has and `other` does not, by name; one that has no name here, by number.
    pub fn beyond(self, other: Self) -> Vec<String> {
        let gone = self.0 & !other.0;
        let name = |number: u32| {
            let known = Capability::ALL.into_iter().find(|capability| capability.number() == number);
            known.map_or_else(|| format!("capability {number}"), |capability| capability.name().to_owned())
        };
        (0..u64::BITS).filter(|number| gone >> number & 1 == 1).map(name).collect()
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// The effective set of the calling thread.
pub fn effective() -> io::Result<Capabilities> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads and writes one header and writes two data structures, which are both writable.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(Capabilities(u64::from(data[1].effective) << 32 | u64::from(data[0].effective)))
}

/// What every thread of this process has in its effective set. A thread that ends meanwhile does not count.
pub fn of_all_threads() -> io::Result<Capabilities> {
    let mut all = u64::MAX;
    for task in std::fs::read_dir("/proc/self/task")? {
        let Ok(status) = std::fs::read_to_string(task?.path().join("status")) else { continue };
        let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).ok_or(io::ErrorKind::InvalidData)?;
        all &= bits;
    }
    Ok(Capabilities(all))
}

/// Gives up one capability of the calling thread for good: not even its permitted set has it any more.
pub fn give_up(capability: Capability) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: as in `effective`.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let (word, bit) = (capability.number() as usize / 32, 1 << (capability.number() % 32));
    for set in [&mut data[word].effective, &mut data[word].permitted, &mut data[word].inheritable] {
        *set &= !bit;
    }
    // SAFETY: version 3 reads one header and two data structures, which live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_gave_up_not_all_have() {
        let before = of_all_threads().unwrap();
        if !before.has(Capability::Fowner) {
            eprintln!("skipped: needs CAP_FOWNER to give it up");
            return;
        }
        let after = std::thread::spawn(|| {
            give_up(Capability::Fowner).unwrap();
            of_all_threads().unwrap()
        });
        assert_eq!(before.beyond(after.join().unwrap()), ["CAP_FOWNER"]);
        assert_eq!(before.beyond(before), [""; 0]);
    }

    #[test]
    fn agrees_with_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("CapEff:\t")).unwrap();
        assert_eq!(effective().unwrap().0, u64::from_str_radix(line, 16).unwrap());
    }
}
