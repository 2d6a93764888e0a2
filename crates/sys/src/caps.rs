//! What this process may do: its effective capabilities.
//!
//! Source: capabilities(7), capget(2).

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

/// The effective set of the calling thread.
pub fn effective() -> io::Result<Capabilities> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads and writes one header and writes two data structures, which are both writable.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(Capabilities(u64::from(data[1].effective) << 32 | u64::from(data[0].effective)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("CapEff:\t")).unwrap();
        assert_eq!(effective().unwrap().0, u64::from_str_radix(line, 16).unwrap());
    }
}
