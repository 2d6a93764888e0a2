//! The whole manager with agents of OSSEC's on the real network. A real agent cannot be had here: `tally_ossec::standin`
//! speaks in its place, and is checked against what real ones said.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PATIENCE, Site};
use tally_ossec::control::Order;
use tally_ossec::keys::ClientKey;
use tally_ossec::secure::Cipher;
use tally_ossec::standin::Standin;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const MD5: [&str; 2] = ["d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661"];
const SHA1: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

/// A host with an OSSEC agent.
struct Host {
    socket: UdpSocket,
    agent: Standin,
    /// Everything it sent.
    sent: Vec<Vec<u8>>,
}

impl Host {
    fn new(site: &Site, line: &str, cipher: Cipher) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(site.address().parse::<SocketAddr>().unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        Self { socket, agent: Standin::new(ClientKey::parse(line).unwrap(), cipher), sent: Vec::new() }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.socket.send(&bytes).unwrap();
        self.sent.push(bytes);
    }

    fn hear(&mut self) -> Option<Order> {
        let mut buffer = [0; 8192];
        let n = self.socket.recv(&mut buffer).ok()?;
        self.agent.hear(&buffer[..n])
    }

    /// Until the manager answers, as an agent does that starts.
    fn connect(&mut self) {
        let start = Instant::now();
        // What was said before is no answer.
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 8192]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
        loop {
            let startup = self.agent.startup();
            self.send(startup);
            if self.hear() == Some(Order::Ack) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "the manager does not answer");
        }
    }

    fn hear_until(&mut self, wanted: impl Fn(&Order) -> bool) {
        let start = Instant::now();
        while !self.hear().is_some_and(|order| wanted(&order)) {
            assert!(start.elapsed() < PATIENCE, "waited too long for an order");
        }
    }

    fn file(&mut self, path: &str, content: usize) {
        let bytes = self.agent.file(path, content as u64, MD5[content], SHA1);
        self.send(bytes);
    }

    /// A start with its whole first scan.
    fn start(&mut self, paths: &[&str]) {
        self.connect();
        let head = [self.agent.started(), self.agent.keepalive(), self.agent.scan_starts()];
        head.into_iter().for_each(|bytes| self.send(bytes));
        paths.iter().for_each(|path| self.file(path, 0));
        self.agent.scan_ends().into_iter().for_each(|bytes| self.send(bytes));
    }
}

fn put(site: &Site, name: &str, content: &str) {
    let path = site.manager_dir().join("ossec").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // As an editor does it, so that the manager never sees half a file.
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, content).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

/// As `wait_for`, showing what there is if that does not come.
fn wait_for_value<T: std::fmt::Debug>(what: &str, mut value: impl FnMut() -> T, is_there: impl Fn(&T) -> bool) {
    let start = Instant::now();
    loop {
        let now = value();
        if is_there(&now) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}: {now:?}");
    }
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
    }
}

fn shown(site: &Site, agent: &str) -> Value {
    site.ask(&json!({"op": "agent.show", "agent": agent})).remove(0)
}

/// Path and rule of every alert about a change, the oldest first.
fn alerts(site: &Site) -> Vec<(String, u64)> {
    let mut alerts: Vec<_> = site
        .ask(&json!({"op": "alert.list", "limit": 0}))
        .iter()
        .filter_map(|alert| {
            let path = alert["change"]["path"].as_str()?.to_owned();
            Some((path, alert["rule"]["id"].as_u64()?))
        })
        .collect();
    alerts.reverse();
    alerts
}

fn wait_for_state(site: &Site, agent: &str, state: &str) {
    wait_for_value(state, || shown(site, agent), |agent| agent["state"] == state);
}

#[test]
fn an_agent_of_each_cipher_is_an_agent_like_others() {
    let site = Site::new();
    let lines = [format!("007 web 127.0.0.1 {KEY}"), format!("1024 db any {KEY}")];
    put(&site, "client.keys", &format!("{}\n{}\n", lines[0], lines[1]));
    for (line, cipher, id) in [(&lines[0], Cipher::Blowfish, "007"), (&lines[1], Cipher::Aes, "1024")] {
        let mut host = Host::new(&site, line, cipher);
        host.start(&["/etc/a", "/etc/b", "/etc/c"]);
        wait_for_state(&site, id, "watching");
        let agent = shown(&site, id);
        assert_eq!((&agent["entries"], &agent["group"]), (&json!(3), &json!("ossec")));
        let cannot = agent["cannot"].as_array().unwrap();
        assert!(cannot.iter().any(|word| word.as_str().unwrap().contains("who changed a file")), "{agent}");
        let is_weak = cannot.iter().any(|word| word.as_str().unwrap().contains("Blowfish"));
        assert_eq!(is_weak, cipher == Cipher::Blowfish);
        assert_eq!(alerts(&site).len() % 3, 0, "a first scan is no alert");
        host.file("/etc/a", 1);
        host.file("/etc/b", 0);
        let deleted = host.agent.deleted("/etc/c");
        host.send(deleted);
        host.file("/etc/new", 0);
        let expected =
            [("/etc/a", 550), ("/etc/c", 553), ("/etc/new", 554)].map(|(path, rule)| (path.to_owned(), rule));
        wait_for_value("three alerts", || alerts(&site), |alerts| alerts.ends_with(&expected));
        let changes = site.ask(&json!({"op": "change.list", "path": "/etc/a", "limit": 1}));
        assert_eq!(changes[0]["before"]["md5"], MD5[0]);
        assert_eq!(changes[0]["after"]["md5"], MD5[1]);
        // Make room for the next one's list.
        drop(host);
        if id == "007" {
            site.ask(&json!({"op": "agent.remove", "agent": id}));
        }
    }
    let keys = std::fs::read_to_string(site.manager_dir().join("ossec/client.keys")).unwrap();
    wait_for("the key to go", || {
        std::fs::read_to_string(site.manager_dir().join("ossec/client.keys")).unwrap().starts_with("007 #*#*")
    });
    assert!(keys.contains("1024 db any"));
}

/// The database of the manager before is the agent's baseline: what changed between the two managers is an alert.
#[test]
fn what_another_manager_knew_is_the_baseline() {
    let site = Site::new();
    let row = |flags: &str, size: usize, path: &str| {
        format!("{flags}{size}:33188:0:0:{}:{SHA1} !1795489056 {path}\n", MD5[size])
    };
    let rows =
        [row("#++", 1, "/etc/a"), row("!++", 0, "/etc/a"), row("+++", 0, "/etc/same"), row("+++", 0, "/etc/gone")];
    put(&site, "queue/syscheck/(web) 127.0.0.1->syscheck", &rows.concat());
    put(&site, "client.keys", &format!("007 web 127.0.0.1 {KEY}\n"));
    wait_for("the agent", || !site.ask(&json!({"op": "agent.list"})).is_empty());
    wait_for_value("the baseline", || shown(&site, "007")["entries"].clone(), |entries| *entries == json!(3));
    assert_eq!(alerts(&site), [], "to take a baseline in is no alert");
    let mut host = Host::new(&site, &format!("007 web 127.0.0.1 {KEY}"), Cipher::Aes);
    host.connect();
    let head = [host.agent.started(), host.agent.keepalive(), host.agent.scan_starts()];
    head.into_iter().for_each(|bytes| host.send(bytes));
    host.file("/etc/a", 1);
    host.file("/etc/same", 0);
    host.file("/etc/new", 0);
    let tail = host.agent.scan_ends();
    tail.into_iter().for_each(|bytes| host.send(bytes));
    let expected = [("/etc/a", 550), ("/etc/new", 554), ("/etc/gone", 553)].map(|(path, rule)| (path.to_owned(), rule));
    wait_for_value("what changed in between", || alerts(&site), |alerts| *alerts == expected);
}

#[test]
fn what_was_deleted_while_an_agent_was_down_is_found_if_nothing_was_lost() {
    let site = Site::new();
    let line = format!("001 web any {KEY}");
    put(&site, "client.keys", &format!("{line}\n"));
    let mut host = Host::new(&site, &line, Cipher::Aes);
    host.start(&["/etc/a", "/etc/b", "/etc/c"]);
    wait_for_state(&site, "001", "watching");
    // One message on the way is lost: nothing may be concluded, and it is asked for again.
    host.connect();
    let started = host.agent.started();
    host.send(started);
    host.file("/etc/a", 0);
    drop(host.agent.file("/etc/b", 0, MD5[0], SHA1));
    host.agent.scan_ends().into_iter().for_each(|bytes| host.send(bytes));
    host.hear_until(|order| *order == Order::RestartSyscheck);
    let has_words = |agent: &Value| agent["cannot"].to_string().contains("messages of its last first scan were lost");
    wait_for_value("the words", || shown(&site, "001"), has_words);
    assert_eq!((alerts(&site), shown(&site, "001")["dropped"].clone()), (vec![], json!(1)));
    // Now all come, and one file is not among them.
    host.start(&["/etc/a", "/etc/c"]);
    wait_for("the removal", || !alerts(&site).is_empty());
    assert_eq!(alerts(&site), [("/etc/b".to_owned(), 553)]);
    let change = &site.ask(&json!({"op": "change.list", "path": "/etc/b"}))[0];
    assert_eq!(change["detected_by"], "startup");
}

/// A network that loses one datagram of every forty: all that arrived is there, what did not is counted and asked for, and
/// when it comes the snapshot is whole, without a change that was none.
#[test]
fn a_large_scan_with_losses_lacks_only_what_did_not_arrive() {
    const FILES: usize = 1200;
    for cipher in [Cipher::Blowfish, Cipher::Aes] {
        let site = Site::with(|config| config.ossec.resend = tally_manager::Resend::Agent);
        let line = format!("001 web any {KEY}");
        put(&site, "client.keys", &format!("{line}\n"));
        let mut host = Host::new(&site, &line, cipher);
        let paths: Vec<String> = (0..FILES).map(|n| format!("/usr/share/d{}/f{n}", n / 40)).collect();
        let scan = |host: &mut Host, lost: &dyn Fn(usize) -> bool| {
            host.connect();
            let started = host.agent.started();
            host.send(started);
            for (n, path) in paths.iter().enumerate() {
                let bytes = host.agent.file(path, n as u64, MD5[0], SHA1);
                if !lost(n) {
                    host.send(bytes);
                }
                // No more than the kernel's smallest buffer takes.
                if n % 50 == 49 {
                    host.connect();
                }
            }
            host.agent.scan_ends().into_iter().for_each(|bytes| host.send(bytes));
        };
        let is_lost = |n: usize| n % 40 == 7;
        let lost = (0..FILES).filter(|n| is_lost(*n)).count();
        scan(&mut host, &is_lost);
        // It is told to start anew, as every `ar.conf` lets it.
        host.hear_until(|order| *order == Order::restart_agent());
        wait_for_state(&site, "001", "watching");
        let agent = shown(&site, "001");
        assert_eq!(
            (agent["entries"].clone(), agent["dropped"].clone()),
            (json!(FILES - lost), json!(lost)),
            "{cipher:?}"
        );
        assert_eq!(alerts(&site), []);

        scan(&mut host, &|_| false);
        wait_for_value("the rest", || shown(&site, "001")["entries"].clone(), |entries| *entries == json!(FILES));
        wait_for("the words", || !shown(&site, "001")["cannot"].to_string().contains("were lost"));
        // What the first scan lacked came as new: of that there is a record, and of nothing else.
        let changed: Vec<Value> = site.changes();
        assert!(changed.iter().all(|change| change["kind"] == "added"), "{cipher:?} {changed:?}");
        assert_eq!(changed.len(), lost, "{cipher:?}");
    }
}

#[test]
fn nothing_is_taken_twice_across_a_restart_of_the_manager() {
    let mut site = Site::new();
    let line = format!("001 web any {KEY}");
    put(&site, "client.keys", &format!("{line}\n"));
    let mut host = Host::new(&site, &line, Cipher::Blowfish);
    host.start(&["/etc/a"]);
    wait_for_state(&site, "001", "watching");
    host.file("/etc/a", 1);
    host.file("/etc/a", 0);
    wait_for_value("two alerts", || alerts(&site), |alerts| alerts.len() == 2);
    site.stop();
    site.start();
    let all = std::mem::take(&mut host.sent);
    // Until it is served again.
    host.connect();
    all.into_iter().for_each(|bytes| host.send(bytes));
    host.file("/etc/b", 0);
    wait_for_value("the next alert", || alerts(&site), |alerts| alerts.len() >= 3);
    let paths: Vec<_> = alerts(&site).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/etc/a", "/etc/a", "/etc/b"]);
}

#[test]
fn shared_files_reach_an_agent_soon_after_they_change() {
    let site = Site::new();
    let line = format!("001 web any {KEY}");
    put(&site, "client.keys", &format!("{line}\n"));
    put(&site, "shared/agent.conf", "<agent_config></agent_config>\n");
    let mut host = Host::new(&site, &line, Cipher::Aes);
    host.connect();
    let keepalive = host.agent.keepalive();
    host.send(keepalive);
    host.hear_until(|order| *order == Order::FileEnds);
    put(&site, "shared/agent.conf", "<agent_config><!-- new --></agent_config>\n");
    host.hear_until(|order| matches!(order, Order::FilePart(part) if String::from_utf8_lossy(part).contains("new")));
    host.hear_until(|order| *order == Order::FileEnds);
}

#[test]
fn a_host_that_enrols_by_authd_is_served_at_once() {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    let site = Site::with(|config| config.ossec.authd = Some("127.0.0.1:0".parse().unwrap()));
    let password = std::fs::read_to_string(site.manager_dir().join("ossec/authd.pass")).unwrap();
    let address = site.manager().authd_addr().unwrap().to_string();
    let ask = |request: &str| {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-no_ign_eof", "-tls1_2", "-connect", &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = client.stdin.take().unwrap();
        stdin.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        client.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        drop(stdin);
        client.wait().unwrap();
        text
    };
    assert_eq!(ask("OSSEC A:'web'\n"), "");
    let answer = ask(&format!("OSSEC PASS: {} OSSEC A:'web'\n", password.trim()));
    let line = answer.trim().strip_prefix("OSSEC K:'").and_then(|rest| rest.strip_suffix('\'')).unwrap();
    assert!(line.starts_with("1024 web any "), "{answer}");
    let mut host = Host::new(&site, line, Cipher::Aes);
    host.start(&["/etc/a"]);
    wait_for_state(&site, "1024", "watching");
}

#[test]
fn floods_of_all_kinds_leave_other_agents_unharmed() {
    let site = Site::new();
    let line = format!("001 web any {KEY}");
    put(&site, "client.keys", &format!("{line}\n002 db any {}\n", KEY.replace('0', "f")));
    let mut native = site.agent("native");
    site.connect(&mut native);
    native.baseline(&["/etc/n"]);
    site.settle(&mut native);
    let mut host = Host::new(&site, &line, Cipher::Aes);
    host.start(&["/etc/a"]);
    wait_for_state(&site, "web", "watching");
    let liar = UdpSocket::bind("127.0.0.1:0").unwrap();
    liar.connect(site.address().parse::<SocketAddr>().unwrap()).unwrap();
    // Another key for the other agent; a datagram that was heard before; cut off ones; ids that nobody has.
    let mut forger = Host::new(&site, &format!("002 db any {KEY}"), Cipher::Blowfish);
    let (forged, replayed) = (forger.agent.startup(), host.sent[0].clone());
    for n in 0..10_000u32 {
        let unknown = format!("!{}!:12345678", 100_000 + n);
        let cut = &forged[..forged.len() - (n as usize % 16) - 1];
        for bytes in [unknown.as_bytes(), &forged, &replayed, cut, b":", b"#AES:"] {
            // The kernel's buffer may be full: a flood does not care.
            let _ = liar.send(bytes);
        }
        if n % 1000 == 0 {
            host.connect();
        }
    }
    host.file("/etc/a", 1);
    // Its session was not kept up meanwhile.
    site.connect(&mut native);
    native.change("/etc/n", Some(support::agent::entry(0)), Some(support::agent::entry(7)));
    site.settle(&mut native);
    wait_for("both alerts", || {
        let paths: Vec<_> = alerts(&site).into_iter().map(|(path, _)| path).collect();
        paths.contains(&"/etc/a".to_owned()) && paths.contains(&"/etc/n".to_owned())
    });
    assert_eq!(shown(&site, "db")["state"], "never-seen");
}

/// The programs of responses, made anew at each start: what they are given stands in a file beside them.
fn with_responses(config: &mut tally_manager::ManagerConfig) {
    let dir = config.dir().join("bin");
    std::fs::create_dir_all(&dir).unwrap();
    for name in ["note.sh", "long.sh"] {
        let text = "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/noted\"\n";
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let text = format!(
        "[[command]]\nname = 'note'\nprogram = '{0}/note.sh'\nexpect = ['srcip']\ntimeout_allowed = true\n\
         [[command]]\nname = 'long'\nprogram = '{0}/long.sh'\nexpect = ['srcip']\ntimeout_allowed = true\n\
         [responses]\nnever = ['203.0.113.0/24']\n\
         [[response]]\ncommand = 'note'\non = ['local', 'manager']\nrules = [5710]\ntimeout_s = 2\n\
         [[response]]\ncommand = 'long'\non = ['manager']\nrules = [5710]\ntimeout_s = 3600\n",
        dir.display()
    );
    let (parsed, faults) = tally_manager::ManagerConfig::parse(&text, "m", &config.state);
    assert_eq!(faults, []);
    (config.commands, config.responses, config.never) = (parsed.commands, parsed.responses, parsed.never);
}

fn noted(site: &Site) -> Vec<String> {
    let text = std::fs::read_to_string(site.manager_dir().join("bin/noted")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What responses came to, the oldest first.
fn responded(site: &Site) -> Vec<String> {
    let alerts = site.ask(&json!({"op": "alert.list", "limit": 0}));
    let of = |alert: &Value| {
        (alert["event"]["name"] == "responded").then(|| alert["event"]["detail"].as_str().unwrap().to_owned())
    };
    let mut told: Vec<_> = alerts.iter().filter_map(of).collect();
    told.reverse();
    told
}

#[test]
fn an_alert_is_answered_here_and_at_the_agent() {
    let mut site = Site::with(with_responses);
    let line = format!("001 web any {KEY}");
    put(&site, "client.keys", &format!("{line}\n"));
    let mut host = Host::new(&site, &line, Cipher::Aes);
    host.connect();
    let keepalive = host.agent.keepalive();
    host.send(keepalive);
    // The agent is told what it may run.
    host.hear_until(|order| {
        matches!(order, Order::FilePart(part) if String::from_utf8_lossy(part).contains("note2 - note.sh - 2\nlong3600 - long.sh - 3600\n"))
    });
    let failed = |user: &str, from: &str| {
        format!(
            "1:/var/log/auth.log:Dec 10 07:01:02 host sshd[2]: Failed password for invalid user {user} from {from} port 4 ssh2"
        )
    };
    let first = host.agent.say(failed("x", "198.51.100.9"));
    host.send(first);
    host.hear_until(|order| matches!(order, Order::Execute(command) if command.starts_with("note2 - 198.51.100.9 ")));
    wait_for_value("the programs", || noted(&site), |noted| noted.len() >= 2);
    // Once each, with the words that OSSEC gives, and taken back when its time is over.
    wait_for_value("the end of the short one", || noted(&site), |noted| noted.len() == 3);
    let all = noted(&site);
    let alert = all[0].split(' ').nth(3).unwrap().to_owned();
    let words = |action: &str| format!("{action} - 198.51.100.9 {alert} 5710 (web) any->/var/log/auth.log -");
    assert_eq!(all, [words("add"), words("add"), words("delete")]);
    wait_for_value("the record", || responded(&site), |told| told.len() == 4);
    let told = responded(&site);
    assert!(told.iter().any(|detail| *detail == format!("{}: ended with 0", words("delete"))), "{told:?}");
    assert!(
        told.iter()
            .any(|detail| detail
                .starts_with("sent to the agent, which does not say what came of it: against 198.51.100.9")),
        "{told:?}"
    );

    // What an attacker writes runs nothing, nor does what is spared; the one is on record, each time.
    for from in ["203.0.113.7", "127.0.0.1"] {
        let spared = host.agent.say(failed("y", from));
        host.send(spared);
        wait_for_value(
            "the record",
            || responded(&site),
            |told| {
                told.iter().any(|detail| {
                    detail.starts_with(&format!("not run: {from} is an address that no response may hit"))
                })
            },
        );
    }
    assert_eq!(noted(&site).len(), 3);
    // The manager's end takes back what lasts.
    site.stop();
    assert_eq!(noted(&site)[3..], [words("delete")]);
    site.start();
    wait_for_value("the record", || responded(&site).len(), |told| *told > 6);
}

#[test]
fn agents_are_told_what_an_operator_orders() {
    let site = Site::with(with_responses);
    let line = format!("001 web any {KEY}");
    put(&site, "client.keys", &format!("{line}\n"));
    wait_for("the agent", || !site.ask(&json!({"op": "agent.list"})).is_empty());
    let not_heard = site.refusal(&json!({"op": "agent.scan", "agent": "web"}));
    assert!(not_heard.contains("has not been heard"), "{not_heard}");
    let mut host = Host::new(&site, &line, Cipher::Blowfish);
    host.connect();
    site.ask(&json!({"op": "agent.scan", "agent": "001"}));
    host.hear_until(|order| *order == Order::RestartSyscheck);
    assert_eq!(site.ask(&json!({"op": "agent.scan"}))[0]["message"], "the agent was told");
    host.hear_until(|order| *order == Order::RestartSyscheck);
    site.ask(&json!({"op": "agent.restart", "agent": "web"}));
    host.hear_until(|order| *order == Order::restart_agent());
    site.ask(&json!({"op": "agent.respond", "agent": "web", "response": "note2", "address": "192.0.2.77"}));
    let command = "note2 - 192.0.2.77 (from_the_server) (no_rule_id)";
    host.hear_until(|order| *order == Order::Execute(command.into()));
    // On the manager's own host it is run, and taken back.
    site.ask(&json!({"op": "agent.respond", "agent": "000", "response": "note2", "address": "192.0.2.78"}));
    let words = |action: &str| format!("{action} - 192.0.2.78 (from_the_server) (no_rule_id)");
    wait_for_value("the program", || noted(&site), |noted| *noted == [words("add"), words("delete")]);
    let listed = site.ask(&json!({"op": "response.list"}));
    assert_eq!((&listed[0]["response"], &listed[0]["program"]), (&json!("note2"), &json!("note.sh")));
    for (request, part) in [
        (
            json!({"op": "agent.respond", "agent": "web", "response": "a;b", "address": "192.0.2.77"}),
            "is no name of a response",
        ),
        (
            json!({"op": "agent.respond", "agent": "web", "response": "note2", "address": "1.2.3.4 x"}),
            "is no IP address",
        ),
        (
            json!({"op": "agent.respond", "agent": "000", "response": "other", "address": "192.0.2.77"}),
            "there is no response",
        ),
        (
            json!({"op": "agent.respond", "agent": "000", "response": "note2", "address": "203.0.113.1"}),
            "no response may hit",
        ),
        (json!({"op": "agent.scan", "agent": "nobody"}), "nobody"),
    ] {
        let refused = site.refusal(&request);
        assert!(refused.contains(part), "{request}: {refused}");
    }
    let acts: Vec<_> = (0..40)
        .filter_map(|index| support::ask(&site.manager_dir(), &json!({"op": "ledger.show", "index": index})).ok())
        .filter_map(|(objects, _)| Some(objects.first()?["act"]["order"].as_str()?.to_owned()))
        .collect();
    assert_eq!(acts[1..], ["scan", "scan", "restart", "respond note2 192.0.2.77", "respond note2 192.0.2.78"]);
    // One of Tallystick's is told in another way (orders.rs); all of them are meant by all.
    let _native = site.agent("native");
    let refused = site.refusal(&json!({"op": "agent.restart", "agent": "native"}));
    assert!(refused.contains("it is not connected"), "{refused}");
    let all = site.ask(&json!({"op": "agent.scan"}));
    assert_eq!(all[0]["message"], "1 agents are told, at once or when they come back; the agent was told");
}
