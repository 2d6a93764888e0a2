//! `cargo xtask test-kernels`: the tests of the sensors on another kernel than this machine's: Debian's 6.1 for clouds, in
//! QEMU without hardware virtualisation, so that it runs where no nested machine can. Kept out of `cargo xtask test`: it
//! takes minutes, and a kernel and a machine from Debian's archive. docs/kernels.md has what it found.

mod image;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::step::{answers, command, target_dir};
use crate::test::setup;

/// Debian packages, and a program by which each is known.
const NEEDED: [(&str, &str); 3] =
    [("qemu-system-x86", "qemu-system-x86_64"), ("busybox-static", "busybox"), ("auditd", "auditctl")];
/// What the machine gets; the tests' programs and a filesystem lie in it.
const MEMORY_MB: u32 = 2048;
/// `lsm=` as kernel.org's own list has it, with BPF, which Debian's has too.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet rdinit=/init lsm=lockdown,capability,landlock,bpf panic=1 random.trust_cpu=on";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only tests whose program or name has this in it
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Give up after so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    patience: u64,
    /// Show everything that the machine says
    #[arg(long)]
    console: bool,
}

/// What the machine told, line by line (kernels/init.sh).
#[derive(Debug, Default)]
struct Report {
    kernel: Option<String>,
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// What `tally-agent doctor` and the tests said of the tiers.
    told: Vec<String>,
    is_complete: bool,
}

pub fn start(root: &Path, options: &Options) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(_, program)| !is_there(program)).map(|(package, _)| *package).collect();
    if !missing.is_empty() {
        setup::apt_install(&missing)?;
    }
    let dir = target_dir(root).join("kernels");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let programs = image::programs(root)?;
    let kernel = image::kernel(&dir)?;
    let initrd = image::initrd(root, &dir, &kernel, &programs, options.filter.as_deref().unwrap_or(""))?;
    println!("booting {} with {} programs of tests", kernel.release, programs.len());
    let report = boot(&kernel.image, &initrd, options)?;
    conclude(&report)
}

fn is_there(program: &str) -> bool {
    ["--version", "--help", "-v"].iter().any(|flag| answers(program, &[flag]))
}

/// The machine, which must not outlive us.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn boot(kernel: &Path, initrd: &Path, options: &Options) -> anyhow::Result<Report> {
    let memory = MEMORY_MB.to_string();
    let (kernel, initrd) = (kernel.display().to_string(), initrd.display().to_string());
    let machine = ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", &memory];
    let quiet = ["-nographic", "-no-reboot", "-nic", "none"];
    let what = ["-kernel", &kernel, "-initrd", &initrd, "-append", COMMAND_LINE];
    let mut child = command(Path::new("."), "qemu-system-x86_64", &[&machine[..], &quiet, &what].concat())
        .stdout(Stdio::piped())
        .spawn()
        .context("run qemu-system-x86_64")?;
    let lines = BufReader::new(child.stdout.take().context("the machine's console")?);
    let machine = Machine(child);
    let (send, receive) = std::sync::mpsc::channel();
    // Ends when the console does, which is when the machine does.
    let reader = std::thread::spawn(move || {
        for line in lines.split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + Duration::from_secs(options.patience.saturating_mul(60));
    let mut report = Report::default();
    loop {
        match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if options.console {
                    println!("{line}");
                }
                report.take(&line);
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => break println!("the machine took too long"),
        }
    }
    drop(machine);
    drop(receive);
    ensure!(reader.join().is_ok(), "the reader of the console failed");
    Ok(report)
}

impl Report {
    /// Lines of ours begin with a word in brackets; anything else is the kernel's or a program's.
    fn take(&mut self, line: &str) {
        let Some((word, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) else { return };
        match word {
            "kernel" => self.kernel = Some(rest.to_owned()),
            "passed" => self.passed += 1,
            "failed" => {
                println!("FAILED {rest}");
                self.failed.push(rest.to_owned());
            }
            "why" => println!("    {rest}"),
            "skipped" => self.skipped.push(rest.to_owned()),
            "told" => self.told.push(rest.to_owned()),
            "end" => self.is_complete = true,
            _ => {}
        }
    }
}

fn conclude(report: &Report) -> anyhow::Result<()> {
    let Some(kernel) = &report.kernel else {
        bail!("the machine did not come up: --console shows what it said");
    };
    println!("\n=== on {kernel}");
    report.told.iter().for_each(|line| println!("{line}"));
    report.skipped.iter().for_each(|line| println!("skipped {line}"));
    // A test that skipped itself has passed as far as its program knows.
    let passed = report.passed.saturating_sub(report.skipped.len());
    println!("\n{passed} passed, {} failed, {} skipped", report.failed.len(), report.skipped.len());
    ensure!(report.is_complete, "the machine ended before its tests did");
    ensure!(report.failed.is_empty(), "failed: {}", report.failed.join(", "));
    ensure!(report.passed > 0, "no test ran");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_understood() {
        let mut report = Report::default();
        let console = "[    0.000000] Linux version 6.1\n[kernel] 6.1.0\n[passed] sys a\n[passed] sys b\n\
                       [skipped] sys b: no right\n[failed] agent c\n[why] panicked\nnoise\n[told] bpf: in use\n[end] ok";
        console.lines().for_each(|line| report.take(line));
        assert_eq!((report.kernel.as_deref(), report.passed, report.is_complete), (Some("6.1.0"), 2, true));
        assert_eq!(
            (&report.failed[..], &report.skipped[..]),
            (&["agent c".into()][..], &["sys b: no right".into()][..])
        );
        assert_eq!(conclude(&report).unwrap_err().to_string(), "failed: agent c");
    }
}
