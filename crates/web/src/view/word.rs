//! Words and numbers as a person reads them.

use std::fmt::Write as _;

use tally_proto::sentence::shown;
use tally_types::{AgentState, Confidence, DetectedBy, Level, Verdict};

/// `12,345,678`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 entry`, `2,000 entries`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// `1,234 bytes`, and from 10 KiB on also in the larger unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let exact = counted(bytes, "byte", "bytes");
    if bytes < 10 << 10 {
        return exact;
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {} ({exact})", UNITS[unit])
}

/// `0644 rw-r--r--`, with setuid, setgid and sticky as ls shows them.
pub fn mode(mode: u16) -> String {
    let mut text = format!("{mode:04o} ");
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift & 7;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => set,
            (false, true) => unset,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// `root (0)`, or the number alone.
pub fn account(name: Option<&str>, id: u32) -> String {
    match name {
        Some(name) => format!("{} ({id})", shown(name)),
        None => id.to_string(),
    }
}

/// Bytes that are mostly text: what is not UTF-8 as `\xNN`, control characters and reordering ones escaped.
pub fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&shown(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub const fn state(state: AgentState) -> &'static str {
    match state {
        AgentState::NeverSeen => "never seen",
        AgentState::Baselining => "taking its first snapshot",
        AgentState::Watching => "watching",
        AgentState::Silent => "silent",
        AgentState::Stopped => "stopped",
    }
}

pub const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Verified => "Verified: a package, a manifest or a window explains it",
        Verdict::Accepted => "Accepted by a person",
        Verdict::Unexplained => "Unexplained",
    }
}

pub const fn detected_by(detected_by: DetectedBy) -> &'static str {
    match detected_by {
        DetectedBy::Realtime => "The kernel reported it as it happened",
        DetectedBy::Scan => "A scan found it afterwards",
        DetectedBy::Direct => "Read from the disk past the page cache: nothing else shows it",
        DetectedBy::Startup => "The scan at the agent's start found it: it happened while nothing was watched",
        DetectedBy::Sync => "The manager found it when it compared snapshots: its event never came",
    }
}

pub const fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Kernel => "The kernel told it at the moment of the act.",
        Confidence::ProcLive => "Read from /proc while the process still lived.",
        Confidence::Audit => "From the audit record of the program's start.",
        Confidence::None => "Only the process number is known.",
    }
}

/// Why nobody is known, where that follows from how the change was found.
pub const fn nobody(detected_by: DetectedBy) -> &'static str {
    match detected_by {
        DetectedBy::Realtime => {
            "The kernel's record names no process, or the process was gone before it could be looked at."
        }
        DetectedBy::Scan | DetectedBy::Direct | DetectedBy::Startup | DetectedBy::Sync => {
            "It was found afterwards, by comparing: that tells what changed, not who did it."
        }
    }
}

/// Four steps that colours and words can carry; OSSEC's levels have seventeen.
pub fn gravity(level: Level) -> &'static str {
    match level.value() {
        0..=3 => "low",
        4..=7 => "medium",
        8..=11 => "high",
        _ => "severe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_modes_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(size(1), "1 byte");
        assert_eq!(size(10_239), "10,239 bytes");
        assert_eq!(size(107_374_182_400), "100.0 GiB (107,374,182,400 bytes)");
        assert_eq!(size(u64::MAX), "16.0 EiB (18,446,744,073,709,551,615 bytes)");
        assert_eq!(mode(0o644), "0644 rw-r--r--");
        assert_eq!(mode(0o7755), "7755 rwsr-sr-t");
        assert_eq!(mode(0o7000), "7000 --S--S--T");
    }

    #[test]
    fn bytes_are_shown_without_obeying_them() {
        assert_eq!(text(b"a\x1b[2J\xff\xe2\x80\xaez"), r"a\u{1b}[2J\xff\u{202e}z");
    }
}
