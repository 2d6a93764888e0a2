//! What processes cost: of those that end, CPU and wall time by bash's `time` (getrusage, to the millisecond); of those
//! that live, CPU and memory from /proc. Source: proc(5), bash(1) TIMEFORMAT.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// One finished command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// User and system time, in seconds, of all threads and of children that were waited for.
    pub cpu_s: f64,
    pub wall_s: f64,
}

/// Runs a command to its end. Exit codes of `accepted` are no failure: a check that finds something has done its work.
pub fn cost(scratch: &Path, words: &[&str], accepted: &[i32]) -> anyhow::Result<Cost> {
    let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
    let script = "TIMEFORMAT='%3U %3S %3R'; out=$1; err=$2; shift 2; time \"$@\" >\"$out\" 2>\"$err\"";
    let output = Command::new("bash")
        .args(["-c", script, "bash"])
        .args([&out, &err])
        .args(words)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("run bash")?;
    let code = output.status.code().unwrap_or(-1);
    let told = || std::fs::read_to_string(&err).unwrap_or_default().chars().take(500).collect::<String>();
    ensure!(code == 0 || accepted.contains(&code), "{}: exit code {code}: {}", words.join(" "), told());
    let text = String::from_utf8_lossy(&output.stderr);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [user, system, wall] = numbers[..] else { anyhow::bail!("bash's time printed {text:?}") };
    Ok(Cost { cpu_s: user + system, wall_s: wall })
}

/// The middle one; of an even number, the lower of the two.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 0.5)
}

/// The smallest value that is not below this part of them. NaN of none.
pub fn percentile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    // A part is between 0 and 1, so the rank is in the range of the length.
    let rank = (values.len() as f64 * part).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// A living process and all its descendants. /proc/PID/task/TID/children would tell them at once, but not every kernel is
/// built with it.
pub fn family(pid: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|item| {
        let pid: u32 = item.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(item.path().join("stat")).ok()?;
        let parent: u32 = stat_fields(&stat).nth(1)?.parse().ok()?;
        Some((pid, parent))
    });
    let parents: Vec<(u32, u32)> = pids.collect();
    let mut family = vec![pid];
    let mut at = 0;
    while at < family.len() {
        let of = family[at];
        family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(child, _)| *child));
        at += 1;
    }
    family
}

/// The fields of /proc/PID/stat from the third (state) on; the name in brackets before them may hold anything.
fn stat_fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

/// Seconds of CPU that the processes have used so far, those of their ended threads and children included; to 10 ms.
pub fn cpu_s(pids: &[u32]) -> anyhow::Result<f64> {
    // sysconf(_SC_CLK_TCK) is 100 on every Linux that runs these benchmarks.
    const TICKS_PER_S: f64 = 100.0;
    let mut ticks = 0.0;
    for pid in pids {
        let text =
            std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
        // Fields 14 to 17 are utime, stime, cutime, cstime.
        ticks += stat_fields(&text).skip(11).take(4).filter_map(|word| word.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(ticks / TICKS_PER_S)
}

/// The time that the threads now alive were on a CPU, to the nanosecond.
pub fn on_cpu(pids: &[u32]) -> Duration {
    let mut nanos = 0;
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            nanos += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos)
}

/// The time that the threads of this name were on a CPU, to the nanosecond.
pub fn on_cpu_of_thread(pid: u32, name: &str) -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim_end() == name {
            nanos += read("schedstat").split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos)
}

/// Resident memory in MB (10^6 bytes): the sum of what each process has, so that pages they share count twice.
pub fn resident_mb(pids: &[u32]) -> f64 {
    sum_kb(pids, "status", "VmRSS:") * 1024.0 / 1e6
}

/// The most that a process has had resident, in MB.
pub fn resident_peak_mb(pid: u32) -> f64 {
    sum_kb(&[pid], "status", "VmHWM:") * 1024.0 / 1e6
}

/// Proportional memory in MB: pages that processes share count once in all.
pub fn proportional_mb(pids: &[u32]) -> f64 {
    sum_kb(pids, "smaps_rollup", "Pss:") * 1024.0 / 1e6
}

fn sum_kb(pids: &[u32], file: &str, key: &str) -> f64 {
    let of = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    pids.iter().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(median(values), 3.0);
        assert_eq!((percentile(values, 0.99), percentile(values, 0.2)), (5.0, 1.0));
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_command_and_a_living_process_have_a_cost() {
        let scratch = tempfile::tempdir().unwrap();
        let spent = cost(scratch.path(), &["sh", "-c", "exit 1"], &[1]).unwrap();
        assert!(spent.cpu_s < 10.0 && spent.wall_s >= 0.0);
        assert!(cost(scratch.path(), &["false"], &[]).is_err());
        let me = [std::process::id()];
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(family(me[0]).contains(&me[0]) && family(me[0]).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(cpu_s(&me).unwrap() >= 0.0 && on_cpu(&me) > Duration::ZERO);
        assert!(resident_mb(&me) > 0.5);
    }
}
