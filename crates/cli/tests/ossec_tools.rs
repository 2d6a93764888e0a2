//! OSSEC's tools against a running manager, and against what OSSEC's own said.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::fleet::Fleet;
use support::program::{Program, Ran, run};
use support::site::tally;
use support::wait_for;
use tally_ossec::control::Order;
use tally_ossec::keys::ClientKey;
use tally_ossec::secure::Cipher;
use tally_ossec::standin::Standin;

/// A tool, by its name.
fn tool(fleet: &Fleet, name: &str, words: &[&str]) -> Ran {
    let mut command = tally();
    command.args(["ossec-tools", "run", name]).args(words).env("TALLYSTICK_STATE", fleet.site.state());
    run(command)
}

/// The same, with something to read.
fn tool_with(fleet: &Fleet, name: &str, words: &[&str], input: &str) -> (i32, String, String) {
    let mut command = tally();
    command.args(["ossec-tools", "run", name]).args(words).env("TALLYSTICK_STATE", fleet.site.state());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Where authd listens; the manager says it.
fn authd_port(manager: &Program) -> String {
    let line = manager.err_line("OSSEC's agents enrol at TCP ");
    line.rsplit(':').next().unwrap().trim().to_owned()
}

/// A directory of an OSSEC agent.
fn agent_dir(fleet: &Fleet, name: &str) -> String {
    let dir = fleet.site.path(name);
    fs::create_dir_all(dir.join("etc")).unwrap();
    dir.display().to_string()
}

fn key_of(dir: &str) -> Option<String> {
    fs::read_to_string(Path::new(dir).join("etc/client.keys")).ok()
}

#[test]
fn agent_auth_gets_a_key_of_authd() {
    let mut fleet = Fleet::new();
    fleet.configure("heartbeat_s = 1\n[ossec]\nauthd = \"127.0.0.1:0\"\n");
    let manager = fleet.manager();
    let port = authd_port(&manager);
    let dir = agent_dir(&fleet, "agent");
    let pass = fleet.manager_dir().join("ossec/authd.pass").display().to_string();
    let auth = |words: &[&str]| tool(&fleet, "agent-auth", &[&["-m", "127.0.0.1", "-p", &port], words].concat());

    // Without the password and with a wrong one there is no key, and what is there stays.
    let refused = auth(&["-A", "web", "-D", &dir]);
    assert!(refused.code == 1 && refused.out.contains("WARN: No authentication password provided."), "{refused:?}");
    let wrong = fleet.site.write("wrong.pass", "guessed\n");
    let refused = auth(&["-A", "web", "-D", &dir, "-P", wrong.to_str().unwrap()]);
    assert!(refused.code == 1 && refused.out.contains("gave no key"), "{refused:?}");
    assert_eq!(key_of(&dir), None);
    let absent = auth(&["-A", "web", "-D", &dir, "-P", "/nonexistent"]);
    assert!(absent.code == 1 && absent.err.contains("Cannot open /nonexistent"), "{absent:?}");

    let given = auth(&["-A", "web", "-D", &dir, "-P", &pass]);
    assert_eq!(given.code, 0, "{given:?}");
    for line in ["INFO: Using agent name as: web\n", "INFO: Valid key created. Finished.\n"] {
        assert!(given.out.contains(line), "{given:?}");
    }
    let key = key_of(&dir).unwrap();
    assert!(key.starts_with("1024 web any ") && key.ends_with('\n'), "{key}");
    let at = fs::metadata(Path::new(&dir).join("etc/client.keys")).unwrap();
    assert_eq!(at.mode() & 0o7777, 0o640);
    // The manager has the same line, and a second host of that name gets another.
    assert_eq!(fs::read_to_string(fleet.manager_dir().join("ossec/client.keys")).unwrap(), key);
    assert_eq!(auth(&["-A", "web", "-D", &dir, "-P", &pass]).code, 0);
    assert!(key_of(&dir).unwrap().starts_with("1025 web2 any "));
    // What the manager says of a name goes to whoever asked.
    let named = auth(&["-A", "bad name!", "-D", &dir, "-P", &pass]);
    assert!(
        named.code == 1 && named.out.contains("ERROR: Invalid agent name: bad name! (from manager)\n"),
        "{named:?}"
    );

    // The manager is known by its authority, and by no other.
    let authority = fleet.manager_dir().join("ca/authority.pem").display().to_string();
    assert_eq!(auth(&["-A", "db", "-D", &dir, "-P", &pass, "-v", &authority]).code, 0);
    let (stranger, stranger_key) = certificate(&fleet, "stranger");
    let distrusted = auth(&["-A", "db2", "-D", &dir, "-P", &pass, "-v", &stranger]);
    assert!(distrusted.code == 1 && distrusted.err.contains("is not trusted"), "{distrusted:?}");
    assert!(key_of(&dir).unwrap().starts_with("1026 db any "));
    drop(manager);

    // With a certificate of the site's own, and keys for the asking address alone (authd's -i).
    fleet.configure("heartbeat_s = 1\n[ossec]\nauthd = \"127.0.0.1:0\"\nauthd_source_address = true\n");
    fs::copy(&stranger, fleet.manager_dir().join("ossec/sslmanager.cert")).unwrap();
    fs::copy(&stranger_key, fleet.manager_dir().join("ossec/sslmanager.key")).unwrap();
    let manager = fleet.manager();
    let port = authd_port(&manager);
    let auth = |words: &[&str]| tool(&fleet, "agent-auth", &[&["-m", "127.0.0.1", "-p", &port], words].concat());
    let distrusted = auth(&["-A", "mail", "-D", &dir, "-P", &pass, "-v", &authority]);
    assert!(distrusted.code == 1 && distrusted.err.contains("is not trusted"), "{distrusted:?}");
    assert_eq!(auth(&["-A", "mail", "-D", &dir, "-P", &pass, "-v", &stranger]).code, 0);
    assert!(key_of(&dir).unwrap().starts_with("1027 mail 127.0.0.1 "));
    let taken = auth(&["-A", "mail2", "-D", &dir, "-P", &pass]);
    assert!(taken.code == 1 && taken.out.contains("ERROR: Invalid IP address: 1027 (from manager)\n"), "{taken:?}");

    // A manager's keys are not written over.
    let of_manager = agent_dir(&fleet, "manager");
    let keys = Path::new(&of_manager).join("etc/client.keys");
    fs::copy(fleet.manager_dir().join("ossec/client.keys"), &keys).unwrap();
    let held = auth(&["-A", "x1", "-D", &of_manager, "-P", &pass]);
    assert!(held.code == 1 && held.err.contains("it is a manager's"), "{held:?}");
}

/// A stand-in for an OSSEC agent on this host, connected to the manager.
struct Agent {
    socket: UdpSocket,
    standin: Standin,
}

impl Agent {
    fn connected(fleet: &Fleet, line: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(fleet.address()).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let mut agent = Self { socket, standin: Standin::new(ClientKey::parse(line).unwrap(), Cipher::Aes) };
        wait_for("an answer to the agent", || {
            let startup = agent.standin.startup();
            agent.socket.send(&startup).unwrap();
            (agent.hear() == Some(Order::Ack)).then_some(())
        });
        agent
    }

    fn hear(&mut self) -> Option<Order> {
        let mut buffer = [0; 8192];
        let n = self.socket.recv(&mut buffer).ok()?;
        self.standin.hear(&buffer[..n])
    }

    fn hears(&mut self, order: &Order) {
        wait_for("the order", || (self.hear().as_ref() == Some(order)).then_some(()));
    }
}

#[test]
fn agents_are_ordered_by_ossecs_tools() {
    let mut fleet = Fleet::new();
    let program = fleet.site.write("block.sh", "#!/bin/sh\n");
    fleet.configure(&format!(
        "heartbeat_s = 1\n[[command]]\nname = \"block\"\nprogram = \"{}\"\nexpect = [\"srcip\"]\n\
         [[response]]\ncommand = \"block\"\non = [\"local\"]\nlevel = 12\n",
        program.display()
    ));
    let _manager = fleet.manager();
    assert_eq!(tool(&fleet, "manage_agents", &["-a", "any", "-n", "old1"]).code, 0);
    let line = fs::read_to_string(fleet.manager_dir().join("ossec/client.keys")).unwrap();
    let mut agent = Agent::connected(&fleet, line.trim());
    let order = |words: &[&str]| tool(&fleet, "agent_control", words);
    let listed = order(&["-L"]);
    assert!(listed.out.contains("   Response name: block0, command: block.sh\n"), "{listed:?}");
    for (words, said, heard) in [
        (&["-r", "-u", "001"][..], "Restarting Syscheck/Rootcheck on agent: 001", Order::RestartSyscheck),
        (&["-r", "-a"], "Restarting Syscheck/Rootcheck on all agents.", Order::RestartSyscheck),
        (&["-R", "001"], "Restarting agent: 001", Order::restart_agent()),
        (
            &["-b", "192.0.2.9", "-f", "block0", "-u", "001"],
            "Running active response 'block0' on: 001",
            Order::Execute("block0 - 192.0.2.9 (from_the_server) (no_rule_id)".into()),
        ),
    ] {
        let ran = order(words);
        assert!(ran.code == 0 && ran.out.contains(said), "{ran:?}");
        agent.hears(&heard);
    }
    for (words, part) in [
        (&["-r", "-u", "099"][..], "** Invalid agent id '099'."),
        (&["-b", "x;y", "-f", "block0", "-u", "001"], "is no IP address"),
        (&["-b", "192.0.2.9", "-u", "001"], "needs -f RESPONSE"),
        (&["-R", "000"], "the manager's own host"),
        (&["-M", "enable", "-u", "001"], "there is no FIM maintenance mode"),
    ] {
        let ran = order(words);
        assert!(ran.code == 1 && (ran.err.contains(part) || ran.out.contains(part)), "{words:?} {ran:?}");
    }
    let shown = order(&["-i", "001"]);
    assert!(shown.out.contains("   Status:     Active\n\n   Operating system:    "), "{shown:?}");
    assert!(order(&["-M", "status", "-u", "001"]).out.ends_with("agent 001: disabled\n"));

    // What is there is accepted, for one and for all.
    let [started, starts] = [agent.standin.started(), agent.standin.scan_starts()];
    let file =
        agent.standin.file("/etc/a", 0, "d41d8cd98f00b204e9800998ecf8427e", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    for bytes in [vec![started, starts, file], agent.standin.scan_ends().into()].concat() {
        agent.socket.send(&bytes).unwrap();
    }
    wait_for("the baseline", || {
        fleet.site.ask(0, &["agent", "list"]).objects.iter().find(|a| text_or(a, "/state") == "watching").map(drop)
    });
    let changed =
        agent.standin.file("/etc/a", 1, "0cc175b9c0f1b6a831c399e269772661", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    agent.socket.send(&changed).unwrap();
    wait_for("the drift", || (!fleet.site.try_ask(&["drift", "old1"]).objects.is_empty()).then_some(()));
    let updated = tool(&fleet, "syscheck_control", &["-u", "001"]);
    assert_eq!((updated.code, updated.out.as_str()), (0, "\n** Integrity check database updated.\n\n"));
    assert!(fleet.site.try_ask(&["drift", "old1"]).objects.is_empty());
    assert_eq!(tool(&fleet, "syscheck_control", &["-u", "all"]).code, 0);

    // What rootcheck says is kept, each text once, until it is forgotten on somebody's order.
    for text in
        ["Starting rootcheck scan.", "File '/dev/x' is hidden.", "File '/dev/x' is hidden.", "Ending rootcheck scan."]
    {
        let message = agent.standin.say(format!("9:rootcheck:{text}"));
        agent.socket.send(&message).unwrap();
    }
    let found = || tool(&fleet, "rootcheck_control", &["-i", "001"]).out;
    wait_for("the finding", || found().contains("\nSystem Audit: File '/dev/x' is hidden.\n").then_some(()));
    assert!(found().contains("\nResolved events: \n\n** No entries found.\n"), "{}", found());
    assert_eq!(found().matches("is hidden").count(), 1);
    wait_for("the end", || {
        let shown = tool(&fleet, "agent_control", &["-i", "001", "-j"]).out;
        (!shown.contains("\"rootcheckEndTime\":\"\"")).then_some(())
    });
    let cleared = tool(&fleet, "rootcheck_control", &["-u", "001"]);
    assert_eq!((cleared.code, cleared.out.as_str()), (0, "\n** Policy and auditing database updated.\n\n"));
    assert!(!found().contains("is hidden"));

    // Its key on the host itself, as extracted here.
    let key = tool(&fleet, "manage_agents", &["-e", "001"]).out;
    let dir = agent_dir(&fleet, "agent");
    let (code, out, _) =
        tool_with(&fleet, "manage_agents", &["-i", key.trim().lines().last().unwrap(), "-D", &dir], "y\n");
    assert!(code == 0 && out.contains("   ID:001\n   Name:old1\n") && out.ends_with("Added.\n"), "{out}");
    assert_eq!(key_of(&dir), Some(line));
    assert_eq!(tool_with(&fleet, "manage_agents", &["-i", "bm8=", "-D", &dir], "y\n").0, 1);
}

fn text_or<'v>(value: &'v serde_json::Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default()
}

/// A certificate for this address that signs itself, and its key.
fn certificate(fleet: &Fleet, name: &str) -> (String, String) {
    let [certificate, key] = ["crt", "key"].map(|end| fleet.site.path(&format!("{name}.{end}")).display().to_string());
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=manager"]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &key, "-out", &certificate]);
    let made = run(command);
    assert_eq!(made.code, 0, "{made:?}");
    (certificate, key)
}

/// What stands in for OSSEC's own authd: TLS 1.2 alone, a certificate that it wants of the client too, and one answer.
#[test]
fn agent_auth_speaks_tls_1_2_and_shows_its_certificate() {
    let fleet = Fleet::new();
    let (ca, ca_key) = certificate(&fleet, "manager");
    let (own, own_key) = certificate(&fleet, "own");
    let mut server = Command::new("openssl");
    server.args(["s_server", "-tls1_2", "-accept", "127.0.0.1:0", "-cert", &ca, "-key", &ca_key]);
    server.args(["-Verify", "1", "-naccept", "1"]);
    let mut server = server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| Some(line.unwrap().strip_prefix("ACCEPT ")?.rsplit(':').next()?.to_owned()));
    let dir = agent_dir(&fleet, "agent");
    let answers = std::thread::spawn(move || {
        let asked = lines.find(|line| line.as_ref().unwrap().starts_with("OSSEC ")).unwrap().unwrap();
        let mut input = server.stdin.take().unwrap();
        write!(input, "OSSEC K:'001 web 127.0.0.1 {}'\n\n", "0a".repeat(32)).unwrap();
        drop(input);
        drop(lines);
        server.wait().unwrap();
        asked
    });
    let password = fleet.site.write("pass", "s3 cret\n");
    let words =
        ["-m", "127.0.0.1", "-p", &port.unwrap(), "-A", "web", "-D", &dir, "-v", &ca, "-x", &own, "-k", &own_key];
    let ran = tool(&fleet, "agent-auth", &[&words[..], &["-P", password.to_str().unwrap()]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(answers.join().unwrap(), "OSSEC PASS: s3 cret OSSEC A:'web'");
    assert_eq!(key_of(&dir), Some(format!("001 web 127.0.0.1 {}\n", "0a".repeat(32))));
}

/// `RULE:LEVEL:DECODER` as `-U` takes it, what it ends with, and what the phases say.
#[test]
fn ossec_logtest_answers_as_ossecs() {
    let fleet = Fleet::new();
    let line = "Dec 10 07:01:02 host sshd[24201]: Failed password for invalid user x from 192.0.2.9 port 4 ssh2\n";
    let (code, out, told) = tool_with(&fleet, "ossec-logtest", &[], line);
    assert!(code == 0 && out.is_empty(), "{out}");
    assert!(
        told.contains(" ossec-testrule: INFO: Started (pid: ")
            && told.contains("ossec-testrule: Type one log per line.\n")
    );
    for part in [
        "**Phase 1: Completed pre-decoding.\n       full event: 'Dec 10 07:01:02 host sshd[24201]: Failed",
        "       hostname: 'host'\n       program_name: 'sshd'\n       log: 'Failed password",
        "**Phase 2: Completed decoding.\n",
        "       srcip: '192.0.2.9'\n",
        "       decoder: 'sshd'\n",
        "**Phase 3: Completed filtering (rules).\n       Rule id: '5710'\n       Level: '5'\n       Description: '",
        "'\n**Alert to be generated.\n\n\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("Rule debugging"));
    let (_, _, told) = tool_with(&fleet, "ossec-logtest", &["-v"], line);
    assert!(
        told.contains("**Rule debugging:\n    Trying rule: ") && told.contains("       *Rule 5710 matched.\n"),
        "{told}"
    );

    for (expected, code) in [("5710:5:sshd", 0), ("5710:6:sshd", 1), ("5716:5:sshd", 2), ("5710:5:su", 3)] {
        assert_eq!(tool_with(&fleet, "ossec-logtest", &["-U", expected], line).0, code, "{expected}");
    }
    assert_eq!(tool_with(&fleet, "ossec-logtest", &["-U", "5710:5:sshd"], "nothing of note\n").0, 255);
    assert_eq!(tool_with(&fleet, "ossec-logtest", &["-U", "5710:5:sshd"], "x\n").0, 0);

    // Alerts alone, in the form of alerts.log, on standard output.
    let (_, out, told) = tool_with(&fleet, "ossec-logtest", &["-a"], &format!("nothing of note\n{line}"));
    assert!(told.is_empty() && out.starts_with("** Alert ") && out.contains(".1: - "), "{told} {out}");
    assert!(out.contains(" host->stdin\nRule: 5710 (level 5) -> '") && out.contains("\nSrc IP: 192.0.2.9\n"), "{out}");

    // A configuration of OSSEC's own, and one whose rules have a fault.
    let dir = fleet.site.path("ossec");
    fs::create_dir_all(dir.join("etc")).unwrap();
    fs::create_dir_all(dir.join("rules")).unwrap();
    fs::write(
        dir.join("etc/ossec.conf"),
        "<ossec_config><rules><include>own_rules.xml</include></rules></ossec_config>",
    )
    .unwrap();
    fs::write(dir.join("etc/decoder.xml"), "<decoder name=\"own\"><prematch>^something</prematch></decoder>").unwrap();
    let rules = |text: &str| {
        fs::write(dir.join("rules/own_rules.xml"), format!("<group name=\"own,\">{text}</group>")).unwrap();
        tool_with(&fleet, "ossec-logtest", &["-t", "-D", dir.to_str().unwrap()], "")
    };
    let good = "<rule id=\"100010\" level=\"7\"><match>of note</match><description>noted</description></rule>";
    let (code, _, told) = rules(good);
    assert_eq!(code, 0, "{told}");
    let words = ["-D", dir.to_str().unwrap(), "-U", "100010:7:own"];
    assert_eq!(tool_with(&fleet, "ossec-logtest", &words, "something of note\n").0, 0);
    let (code, _, told) = rules("<rule id=\"100010\" level=\"7\"><mach>x</mach></rule>");
    assert!(code == 1 && told.contains("own_rules.xml:1:") && told.contains("Error loading the rules."), "{told}");
}
