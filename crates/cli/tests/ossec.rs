//! OSSEC's own files in use: manager and agent run straight from an `ossec.conf`, and the tools answer under their names.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs;

use support::fleet::{Fleet, agent_command};
use support::program::{Program, run};
use support::site::tally;
use support::{text, wait_for};

/// `tally` without a state.
fn tally_with(words: &[&str]) -> std::process::Command {
    let mut command = tally();
    command.args(words);
    command
}

#[test]
fn manager_and_agent_run_from_an_ossec_conf() {
    let mut fleet = Fleet::new();
    let server = fleet.site.path("ossec.conf");
    fs::write(
        &server,
        "<!-- old -->\n<ossec_config>\n<global><geoipdb>/x</geoipdb></global>\n<alerts><log_alert_level>5</log_alert_level></alerts>\n\
         <remote><connection>secure</connection></remote>\n</ossec_config>\n",
    )
    .unwrap();
    let mut command = fleet.manager_command();
    command.arg("--ossec-conf").arg(&server);
    let manager = Program::start("tally manager", command);
    let line = manager.err_line("agents reach it at UDP ");
    let port: u16 = line.rsplit(':').next().unwrap().trim().parse().unwrap();
    // What the file asks for and does not get is told with its line.
    manager.err_line("ossec.conf:3:1: <global/geoipdb> has no counterpart");
    fleet.port_is(port);
    let host = fleet.enrolled("web1");
    let conf = fleet.site.path("agent-ossec.conf");
    let tree = host.tree.display();
    let directories = format!("<directories check_all=\"yes\" report_changes=\"yes\">{tree}</directories>");
    let own = format!(
        "<ossec_config>\n<client><server-ip>127.0.0.1</server-ip><port>{port}</port></client>\n<syscheck>{directories}\n\
         <ignore>{tree}/tmp</ignore></syscheck>\n</ossec_config>\n"
    );
    fs::write(&conf, own).unwrap();
    let mut command = agent_command(&["run", "--json", "--state"]);
    command.arg(&host.state).arg("--ossec-conf").arg(&conf);
    let agent = Program::start("tally-agent", command);
    agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    agent.object("the connection", |o| text(o, "/notice") == "connected");
    let (ignored, seen) = (host.write("tmpfile", "1"), host.write("seen", "1"));
    let changes = wait_for("the change", || {
        let changes = fleet.site.ask(0, &["change", "list"]).objects;
        changes.iter().any(|change| text(change, "/path") == seen.to_str().unwrap()).then_some(changes)
    });
    assert!(changes.iter().all(|change| text(change, "/path") != ignored.to_str().unwrap()), "{changes:?}");
    let told = fleet.site.ask(0, &["explain", seen.to_str().unwrap(), "--agent", "web1"]).one();
    assert_eq!(text(&told, "/policy_origin"), conf.to_str().unwrap());
    assert_eq!(text(&told, "/watch/why"), format!("{}:3", conf.display()));

    // The tools ask this manager.
    let keys = fleet.manager_dir().join("ossec/client.keys");
    let tool = |words: &[&str]| {
        let mut command = tally_with(&["ossec-tools", "run"]);
        command.args(words).env("TALLYSTICK_STATE", fleet.site.state());
        run(command)
    };
    let added = tool(&["manage_agents", "-a", "10.0.0.7", "-n", "old1"]);
    assert!(added.code == 0 && added.out.contains("ID:001"), "{added:?}");
    assert_eq!(tool(&["manage_agents", "-l"]).out, "\nAvailable agents: \n   ID: 001, Name: old1, IP: 10.0.0.7\n\n");
    let line = fs::read_to_string(&keys).unwrap();
    assert!(line.starts_with("001 old1 10.0.0.7 ") && line.trim_end().len() == 18 + 64, "{line}");
    let list = tool(&["agent_control", "-l"]);
    assert!(list.out.contains("   ID: 001, Name: old1, IP: 10.0.0.7, Never connected\n"), "{list:?}");
    assert!(list.out.contains("Name: web1, IP: any, Active\n"), "{list:?}");
    assert_eq!(tool(&["list_agents", "-c"]).out, "web1-any is active.\n");
    assert_eq!(tool(&["ossec-control", "status"]).code, 0);
    let id = list
        .out
        .lines()
        .find_map(|line| line.strip_suffix(", Name: web1, IP: any, Active")?.trim().strip_prefix("ID: "));
    let shown = tool(&["syscheck_control", "-i", id.unwrap()]);
    assert!(
        shown.out.contains(&format!(",0 - {}\n", seen.display())) && shown.out.contains("\nChanges for 20"),
        "{shown:?}"
    );
    assert_eq!(tool(&["manage_agents", "-r", "001"]).code, 0);
    assert!(fs::read_to_string(&keys).unwrap().starts_with("001 #*#*#*#*#*#*#*#*#*#*#"));
}

#[test]
fn tools_answer_under_their_own_names() {
    let fleet = Fleet::new();
    let dir = fleet.site.path("bin");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("ossec-regex"), "somebody's own").unwrap();
    let install = || {
        run({
            let mut command = tally_with(&["ossec-tools", "install"]);
            command.arg(&dir);
            command
        })
    };
    let installed = install();
    assert!(installed.code == 2 && installed.err.contains("ossec-regex"), "{installed:?}");
    assert_eq!(fs::read(dir.join("ossec-regex")).unwrap(), b"somebody's own");
    fs::remove_file(dir.join("ossec-regex")).unwrap();
    assert_eq!(install().code, 0);
    let conf = fleet.site.path("agent.conf");
    fs::write(&conf, "<agent_config>\n<syschek></syschek></agent_config>").unwrap();
    let mut command = std::process::Command::new(dir.join("verify-agent-conf"));
    command.arg("-f").arg(&conf);
    let ran = run(command);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("agent.conf:2:2: warning: unknown section \"syschek\" (did you mean \"syscheck\"?)"),
        "{ran:?}"
    );
}

#[test]
fn config_check_knows_each_kind_of_file() {
    let fleet = Fleet::new();
    let write = |name: &str, text: &str| {
        let path = fleet.site.path(name);
        fs::write(&path, text).unwrap();
        path
    };
    let check = |path: &std::path::Path| {
        let mut command = tally_with(&["config", "check"]);
        command.arg(path);
        run(command)
    };
    for (name, text, kind) in [
        ("a", "[[watch]]\npath = \"/etc\"\n", "an agent's configuration"),
        ("b", "heartbeat_s = 3\n", "a manager's configuration"),
        ("c", "<ossec_config><syscheck/></ossec_config>", "an ossec.conf"),
        ("d", "<agent_config os=\"Linux\"></agent_config>", "an agent.conf"),
        ("e", "# x\nsyscheck.sleep=2\n", "internal options of OSSEC"),
    ] {
        let ran = check(&write(name, text));
        assert!(ran.code == 0 && ran.out.contains(kind), "{name} {ran:?}");
    }
    // A fault in it changes nothing of that.
    let ran = check(&write("i", "[[delivery]]\nname = \"x\"\nkind = \"syslogg\"\n"));
    assert!(ran.code == 1 && ran.err.contains("i:3:8: ") && !ran.err.contains("in the file"), "{ran:?}");
    let ran = check(&write("f", "<ossec_config>\n<syscheck><frequency>2h</frequency></syscheck></ossec_config>"));
    assert!(ran.code == 1 && ran.err.contains("f:2:22: <frequency> is a whole number"), "{ran:?}");
    // What an ossec.conf means, as a file that can be used.
    let conf =
        write("g", "<ossec_config><syscheck><directories check_all='yes'>/srv</directories></syscheck></ossec_config>");
    let mut command = tally_with(&["config", "show", "--part", "agent"]);
    command.arg(&conf);
    let shown = run(command);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_eq!(check(&write("h", &shown.out)).code, 0);
}
