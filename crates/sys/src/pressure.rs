//! How much this machine's tasks wait for one another: pressure stall information.
//!
//! Source: Documentation/accounting/psi.rst (since Linux 4.20; not every kernel is built with it).

use std::io;

/// What a task can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Io,
    Memory,
}

/// The part of the last ten seconds in which at least one task waited for `resource`, in hundredths of a percent.
pub fn stalled(resource: Resource) -> io::Result<u32> {
    let path = match resource {
        Resource::Cpu => "/proc/pressure/cpu",
        Resource::Io => "/proc/pressure/io",
        Resource::Memory => "/proc/pressure/memory",
    };
    parse(&std::fs::read_to_string(path)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(text: &str) -> Option<u32> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent = some.split(' ').find_map(|word| word.strip_prefix("avg10="))?;
    let (whole, hundredths) = percent.split_once('.')?;
    let hundredths = hundredths.parse().ok().filter(|_| hundredths.len() == 2);
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_ten_seconds_is_found() {
        let text = "some avg10=12.05 avg60=0.99 avg300=1.44 total=3520319612\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(parse(text), Some(1205));
        for faulty in ["", "some", "some avg10=", "some avg10=1", "some avg10=1.2 x", "some avg10=99999999999.00"] {
            assert_eq!(parse(faulty), None, "{faulty}");
        }
    }

    #[test]
    fn this_kernel_tells_or_has_no_such_file() {
        for resource in [Resource::Cpu, Resource::Io, Resource::Memory] {
            match stalled(resource) {
                Ok(share) => assert!(share <= 10_000),
                Err(error) => eprintln!("skipped: no pressure information here: {error}"),
            }
        }
    }
}
