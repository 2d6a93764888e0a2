//! What the machine's disks have done so far.
//!
//! Source: Documentation/admin-guide/iostats.rst, proc_pid_io(5).

use std::io;

/// One block device, or one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// As `makedev` encodes it.
    pub dev: u64,
    /// Read and written.
    pub bytes: u64,
    /// In which it had anything to do.
    pub busy_ms: u64,
}

/// All of them, since they came.
pub fn all() -> io::Result<Vec<Disk>> {
    Ok(parse(&std::fs::read_to_string("/proc/diskstats")?))
}

fn parse(text: &str) -> Vec<Disk> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Disk> {
    // The kernel counts in sectors of 512 bytes whatever the device's own are.
    const SECTOR_BYTES: u64 = 512;
    let mut fields = line.split_ascii_whitespace();
    let (major, minor) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let mut numbers = fields.skip(1).map(|word| word.parse::<u64>().ok());
    let (read, written) = (numbers.nth(2)??, numbers.nth(3)??);
    let busy_ms = numbers.nth(2)??;
    let bytes = read.checked_add(written)?.checked_mul(SECTOR_BYTES)?;
    Some(Disk { dev: libc::makedev(major, minor), bytes, busy_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_kernel_are_understood() {
        let text = " 254       0 vda 4004194 144283 98280826 1779278 1573200 1184067 281977232 3733600 0 566472 5866167 847715 299 149891576 208757 259616 144530\n\
                    \n 7 0 loop0 1 2 x\n 8 1 sda1 1 0 2 3 4 0 6 7 0 9 10\n";
        let vda = Disk { dev: libc::makedev(254, 0), bytes: (98_280_826 + 281_977_232) * 512, busy_ms: 566_472 };
        let sda1 = Disk { dev: libc::makedev(8, 1), bytes: 8 * 512, busy_ms: 9 };
        assert_eq!(parse(text), [vda, sda1]);
        assert!(all().is_ok());
    }
}
