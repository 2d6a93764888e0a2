//! The units of systemd: they are understood, and what they forbid the agent does not need.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const UNITS: [&str; 2] = ["tally-agent.service", "tally-manager.service"];

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of a setting of the agent's unit.
fn words(key: &str) -> BTreeSet<String> {
    let text = unit("tally-agent.service");
    let line =
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_else(|| panic!("{key}"));
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs a program; `None` where there is none of that name.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {program}: {error}");
            None
        }
    }
}

fn is_root() -> bool {
    let is = support::is_root();
    if !is {
        println!("skipped: what the units forbid root is no matter to another user");
    }
    is
}

#[test]
fn systemd_understands_the_units() {
    let dir = tempfile::tempdir().unwrap();
    for name in UNITS {
        // The programs are not installed here.
        let text: Vec<String> = unit(name)
            .lines()
            .map(|line| if line.starts_with("ExecStart=") { "ExecStart=/bin/true".to_owned() } else { line.to_owned() })
            .collect();
        let path = dir.path().join(name);
        fs::write(&path, text.join("\n")).unwrap();
        let Some(output) = run("systemd-analyze", &["verify", path.to_str().unwrap()]) else { return };
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains(name), "{said}");
    }
}

/// What the agent says that it sees, with what its unit leaves it, and with everything.
#[test]
fn the_capabilities_of_the_unit_blind_no_sensor() {
    if !is_root() {
        return;
    }
    let agent = support::fleet::agent_program().to_str().unwrap();
    let sees = |output: Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let report: Value =
            serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_else(|_| panic!("{output:?}"));
        ["source", "who", "events", "filesystems"].map(|key| report[key].clone())
    };
    let kept = words("CapabilityBoundingSet");
    let set: Vec<String> = kept.iter().map(|cap| cap.replacen("CAP_", "+", 1).to_lowercase()).collect();
    let set = format!("--bounding-set=-all,{}", set.join(","));
    let Some(confined) = run("setpriv", &[&set, "--inh-caps=-all", "--no-new-privs", agent, "doctor", "--json"]) else {
        return;
    };
    let [source, who, ..] = sees(run(agent, &["doctor", "--json"]).unwrap());
    let [source_confined, who_confined, ..] = sees(confined);
    assert_eq!((source_confined, who_confined), (source, who));
    // That this can fail: without what fanotify needs, it is not used.
    let without = set.replace(",+sys_admin", "");
    let blinded = run("setpriv", &[&without, "--inh-caps=-all", "--no-new-privs", agent, "doctor", "--json"]).unwrap();
    assert_ne!(sees(blinded)[0], "fanotify");
}

/// What systemd would refuse by a filter of system calls, the agent does not do: all its sources are probed here.
#[test]
fn the_agent_does_nothing_that_its_unit_forbids() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (agent, trace) = (support::fleet::agent_program(), dir.path().join("trace"));
    let calls =
        "trace=socket,unshare,setns,clone,clone3,personality,sched_setscheduler,mmap,mprotect,chmod,fchmod,fchmodat";
    let arguments = ["-f", "-qq", "-e", calls, "-o", trace.to_str().unwrap(), agent.to_str().unwrap(), "doctor"];
    let Some(output) = run("strace", &arguments) else { return };
    assert!(output.status.success(), "{output:?}");
    let trace = fs::read_to_string(&trace).unwrap();
    assert!(trace.contains("mmap("), "{trace}");
    let families = words("RestrictAddressFamilies");
    let on: Vec<&str> =
        ["MemoryDenyWriteExecute", "RestrictNamespaces", "RestrictRealtime", "LockPersonality", "RestrictSUIDSGID"]
            .into();
    assert!(on.iter().all(|key| words(key).contains("yes")));
    let forbidden = |line: &&str| {
        let family = line.split_once("socket(").map(|(_, rest)| rest.split(',').next().unwrap_or_default());
        family.is_some_and(|family| !families.contains(family))
            || line.contains("PROT_WRITE|PROT_EXEC")
            || ["unshare(", "setns(", "personality(", "CLONE_NEW", "SCHED_FIFO", "SCHED_RR", "S_ISUID", "S_ISGID"]
                .iter()
                .any(|call| line.contains(call))
    };
    let found: Vec<&str> = trace.lines().filter(forbidden).collect();
    assert!(found.is_empty(), "{found:#?}");
}
