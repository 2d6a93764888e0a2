//! `tally up` as its user sees it: from the first baseline over what happens and what is asked to the stop, and the next start.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::program::{Program, wait_gone};
use support::site::{Site, is_alert, only};
use support::{disk, keys, now, number, path_of, text, wait_for};

/// Whether the kernel lets this test's programs see who made a change.
fn sees_actors(up: &Program) -> bool {
    text(&up.object("watching", |o| text(o, "/notice") == "watching"), "/sensor") == "fanotify"
}

fn alert(up: &Program, rule: u64, path: &Path) -> Value {
    up.object(&format!("alert {rule} of {}", path.display()), |o| is_alert(o, rule, path))
}

#[test]
fn the_start_says_what_is_watched_and_where_the_console_is() {
    let site = Site::new();
    site.write("a", "x");
    let up = site.up();
    let scanned = up.object("the baseline", |o| text(o, "/notice") == "scanned");
    // Two in the tree; the others are what an agent watches of itself.
    assert!(scanned["first"] == true && number(&scanned, "/entries") > Some(2), "{scanned}");
    let watching = up.object("watching", |o| text(o, "/notice") == "watching");
    assert_eq!(watching["entries"], scanned["entries"]);
    let console = up.object("the link", |o| text(o, "/notice") == "console");
    assert!(text(&console, "/link").starts_with("http://127.0.0.1:"), "{console}");
}

#[test]
fn each_act_on_a_file_is_one_alert_with_its_actor() {
    let site = Site::new();
    let names = ["written", "removed", "guarded", "moved", "touched", "setuid"];
    let [written, removed, guarded, moved, touched, setuid] = names.map(|name| site.write(name, "before"));
    let up = site.up();

    fs::write(&written, "after").unwrap();
    let first = alert(&up, 550, &written);
    fs::write(&written, "again").unwrap();
    alert(&up, 551, &written);
    fs::write(&written, "and again").unwrap();
    alert(&up, 552, &written);
    fs::remove_file(&removed).unwrap();
    let gone = alert(&up, 553, &removed);
    let new = site.write("new", "x");
    let added = alert(&up, 554, &new);
    fs::set_permissions(&guarded, fs::Permissions::from_mode(0o600)).unwrap();
    let chmod = alert(&up, 200_160, &guarded);
    let target = site.in_tree("renamed");
    fs::rename(&moved, &target).unwrap();
    let renamed = alert(&up, 200_150, &target);
    fs::File::options().write(true).open(&touched).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    alert(&up, 200_151, &touched);
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    alert(&up, 200_155, &setuid);
    let link = site.in_tree("link");
    symlink("renamed", &link).unwrap();
    alert(&up, 554, &link);

    assert_eq!(text(&first, "/change/kind"), "modified");
    assert_eq!(first["change"]["before"]["size"], 6);
    assert_eq!(first["change"]["after"]["size"], 5);
    assert_eq!(text(&first, "/change/detected_by"), "realtime");
    assert_eq!((text(&gone, "/change/kind"), &gone["change"]["after"]), ("removed", &Value::Null));
    assert_eq!((text(&added, "/change/kind"), &added["change"]["before"]), ("added", &Value::Null));
    assert_eq!(chmod["change"]["attributes"], serde_json::json!(["mode"]));
    assert_eq!(text(&renamed, "/change/moved_from"), moved.to_str().unwrap());
    if sees_actors(&up) {
        for alert in [&first, &gone, &added, &chmod, &renamed] {
            assert_eq!(number(alert, "/change/actor/pid"), Some(std::process::id().into()), "{alert:#}");
            assert_eq!(text(alert, "/change/actor/exe"), std::env::current_exe().unwrap().to_str().unwrap());
        }
    }
    // Nothing was told twice, and nothing else.
    site.settle(&site.own_name(), &site.tree());
    let about = |o: &&Value| text(o, "/change/path").starts_with(site.tree().to_str().unwrap());
    assert_eq!(up.objects().iter().filter(about).count(), 10, "{:#?}", up.out_lines());
}

#[test]
fn an_append_is_silence_and_an_alteration_of_a_log_an_alert() {
    let site = Site::new();
    let log = site.write("app.log", "one\n");
    let mut command = site.up_command();
    command.arg("--json").arg("--watch").arg(format!("{}:log", log.display()));
    let up = Program::start("tally up", command);
    up.object("watching", |o| text(o, "/notice") == "watching");
    for line in ["two\n", "three\n"] {
        use std::io::Write;
        fs::File::options().append(true).open(&log).unwrap().write_all(line.as_bytes()).unwrap();
        let size = fs::metadata(&log).unwrap().len();
        wait_for("the longer log to be known", || {
            let held = site.try_ask(&["snapshot", "list"]);
            held.objects.iter().any(|entry| entry["size"] == size).then_some(())
        });
    }
    assert!(!up.objects().iter().any(|o| o.get("change").is_some_and(Value::is_object)), "{:#?}", up.out_lines());
    fs::write(&log, "One\ntwo\nthree\n").unwrap();
    let altered = up.object("the alert", |o| text(o, "/change/path") == log.to_str().unwrap());
    assert_eq!((number(&altered, "/rule/id"), text(&altered, "/change/kind")), (Some(200_181), "rewritten"));
}

#[test]
fn status_and_agents_have_the_keys_of_schema_1() {
    let site = Site::new();
    site.write("a", "x");
    let _up = site.up();
    site.settle(&site.own_name(), &site.tree());
    let status = site.ask(0, &["status"]).one();
    let outermost = ["schema", "healthy", "problems", "agents", "ledger", "rules", "deliveries", "ossec_dropped"];
    assert_eq!(keys(&status), outermost);
    assert_eq!((&status["schema"], &status["healthy"]), (&Value::from(1), &Value::Bool(true)));
    let agent = &status["agents"][0];
    let named = ["id", "name", "group", "state", "version", "last_seen", "root", "entries", "lag_ms", "dropped"];
    let told = ["can", "cannot", "source", "who", "tiers", "blind", "policy", "policy_origin", "usage", "host"];
    assert_eq!(keys(agent), [&named[..], &told].concat());
    assert_eq!((text(agent, "/state"), &agent["dropped"]), ("watching", &0.into()));
    assert!(number(agent, "/entries") > Some(2), "{agent}");
    assert_eq!(text(agent, "/root").len(), 64);
    assert_eq!(keys(&status["ledger"]), ["size", "root", "checkpoint_time"]);
    assert_eq!(text(&status, "/ledger/root").len(), 64);

    let listed = site.ask(0, &["agent", "list"]).one();
    assert_eq!(keys(&listed), [&["schema"][..], &named, &told].concat());
    for name in [text(agent, "/name"), text(agent, "/id"), "1"] {
        let shown = site.ask(0, &["agent", "show", name]).one();
        assert_eq!((keys(&shown), text(&shown, "/id")), (keys(&listed), "001"));
    }
    let unknown = site.ask(2, &["agent", "show", "nobody-has-this-name"]);
    assert!(unknown.err.contains("nobody-has-this-name"), "{unknown:?}");
}

#[test]
fn every_filter_filters() {
    let site = Site::new();
    let before = site.write("one", "x");
    let up = site.up();
    let tree = site.tree();
    let started = now();
    fs::write(&before, "changed").unwrap();
    alert(&up, 550, &before);
    let between = now();
    fs::remove_file(&before).unwrap();
    alert(&up, 553, &before);
    let script = site.write("new.sh", "x");
    alert(&up, 554, &script);
    let name = site.own_name();
    let kinds = |words: &[&str]| -> Vec<String> {
        let list = site.ask(0, &[&["change", "list"][..], words].concat());
        list.objects.iter().map(|c| text(c, "/kind").to_owned()).collect()
    };
    let all = ["added", "removed", "modified"];
    assert_eq!(kinds(&[]), all);
    assert_eq!(kinds(&["--agent", &name]), all);
    assert_eq!(kinds(&["--agent", "001"]), all);
    assert_eq!(kinds(&["--path", &format!("{}/*.sh", tree.display())]), ["added"]);
    assert_eq!(kinds(&["--path", "*.sh"]), ["added"]);
    assert_eq!(kinds(&["--path", "/nowhere/**"]), [""; 0]);
    assert_eq!(kinds(&["--since", &started]), all);
    assert_eq!(kinds(&["--since", &between]), ["added", "removed"]);
    assert_eq!(kinds(&["--until", &between]), ["modified"]);
    assert_eq!(kinds(&["--since", "1h"]), all);
    assert_eq!(kinds(&["--until", "1h"]), [""; 0]);
    assert_eq!(kinds(&["--kind", "removed", "--kind", "added"]), ["added", "removed"]);
    assert_eq!(kinds(&["--level", "7"]), ["removed", "modified"]);
    assert_eq!(kinds(&["--limit", "2"]), ["added", "removed"]);
    assert_eq!(kinds(&["--limit", "0"]), all);

    let change = &site.ask(0, &["change", "list", "--limit", "1"]).objects[0];
    let expected = [
        "schema",
        "id",
        "time",
        "agent",
        "agent_id",
        "path",
        "kind",
        "attributes",
        "before",
        "after",
        "actor",
        "detected_by",
        "window",
        "verdict",
        "records",
        "ledger_index",
    ];
    assert_eq!(keys(change), expected);
    assert_eq!((text(change, "/agent"), text(change, "/verdict")), (&*name, "unexplained"));

    let rules = |words: &[&str]| -> Vec<u64> {
        let list = site.ask(0, &[&["alert", "list"][..], words].concat());
        list.objects.iter().map(|a| number(a, "/rule/id").unwrap()).collect()
    };
    assert_eq!(rules(&["--path", &format!("{}/**", tree.display())]), [554, 553, 550]);
    assert_eq!(rules(&["--level", "7", "--since", &started]), [553, 550]);
    let alert = &site.ask(0, &["alert", "list", "--limit", "1"]).objects[0];
    assert_eq!(keys(alert), ["schema", "id", "time", "agent", "agent_id", "rule", "change", "log", "ledger_index"]);
    assert_eq!(&site.ask(0, &["alert", "show", text(alert, "/id")]).one(), alert);

    for (words, part) in [
        (&["change", "list", "--kind", "chnaged"][..], "rewritten"),
        (&["change", "list", "--since", "soon"], "not a time"),
        (&["change", "list", "--agent", "nobody"], "nobody"),
        (&["alert", "show", "5"], "looks like"),
    ] {
        let refused = site.ask(2, words);
        assert!(refused.err.contains(part), "{words:?}: {refused:?}");
    }
}

#[test]
fn the_manager_holds_what_is_on_the_disk() {
    let site = Site::new();
    let tree = site.tree();
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    site.write("a/b/c/deep", &"x".repeat(200_000));
    site.write("nothing", "");
    symlink("/no/such/place", tree.join("dangling")).unwrap();
    symlink(".", tree.join("loop")).unwrap();
    let up = site.up();
    let name = site.own_name();
    site.settle(&name, &tree);
    for hostile in [&b"new\nline \x1b[2J"[..], b"bad-\xff\xfe", b"back\\slash", b"\"quote\"", b" ", b"-rf"] {
        fs::write(tree.join(OsStr::from_bytes(hostile)), hostile).unwrap();
    }
    fs::write(tree.join("n".repeat(255)), "long").unwrap();
    fs::rename(tree.join("a"), tree.join("z")).unwrap();
    fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    site.settle(&name, &tree);
    let held = disk::listed(&site.ask(0, &["snapshot", "list"]).objects);
    assert_eq!(held.len(), disk::picture(&tree).len());
    let below = site.ask(0, &["snapshot", "list", &name, "--path", &format!("{}/z/**", tree.display())]);
    assert_eq!(below.objects.len(), 3, "{below:?}");
    // What was is still known.
    let first = text(&up.object("watching", |o| text(o, "/notice") == "watching"), "/entries").to_owned();
    assert_eq!(first, "");
    let added = site.ask(0, &["change", "list", "--kind", "added", "--limit", "0"]);
    assert!(added.objects.iter().any(|c| path_of(c).ends_with(b"bad-\xff\xfe")), "{added:?}");
}

#[test]
fn promote_moves_the_baseline_only_when_told_to() {
    let site = Site::new();
    let files = ["a", "b", "c"].map(|name| site.write(name, "before"));
    let up = site.up();
    let name = site.own_name();
    site.settle(&name, &site.tree());
    assert_eq!(site.ask(0, &["drift"]).objects.len(), 0);
    for file in &files {
        fs::write(file, "after").unwrap();
        alert(&up, 550, file);
    }
    let drifting = |code: i32| -> Vec<String> {
        let drift = site.ask(code, &["drift", &name]);
        drift.objects.iter().map(|d| text(d, "/path").rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(drifting(1), ["a", "b", "c"]);
    let difference = &site.ask(1, &["drift"]).objects[0];
    assert_eq!(keys(difference), ["schema", "agent", "agent_id", "path", "kind", "attributes", "before", "after"]);
    assert_eq!((&difference["before"]["size"], &difference["after"]["size"]), (&6.into(), &5.into()));

    let only_a = site.in_tree("a").display().to_string();
    let shown = site.ask(0, &["promote", "--agent", &name, "--path", &only_a]);
    assert_eq!(shown.objects.len(), 1);
    assert_eq!(drifting(1), ["a", "b", "c"], "a preview changes nothing");
    let done = site.ask(0, &["promote", "--agent", &name, "--path", &only_a, "--yes"]);
    assert_eq!(done.objects.last().unwrap()["paths"], 1);
    assert_eq!(drifting(1), ["b", "c"]);

    let changes = site.ask(0, &["change", "list"]).objects;
    let change_b = only(&changes, "the change of b", |c| text(c, "/path").ends_with("/b"));
    site.ask(0, &["promote", "--change", text(change_b, "/id"), "--yes"]);
    assert_eq!(drifting(1), ["c"]);
    site.ask(0, &["promote", "--agent", &name, "--all"]);
    assert_eq!(drifting(1), ["c"]);
    site.ask(0, &["promote", "--agent", &name, "--all", "--yes"]);
    assert_eq!(drifting(0), [""; 0]);

    let changes = site.ask(0, &["change", "list"]).objects;
    assert!(changes.iter().all(|c| text(c, "/verdict") == "accepted"), "{changes:#?}");
    assert_eq!(site.ask(2, &["promote", "--agent", "nobody", "--all"]).objects.len(), 0);
    let verified = site.ask(0, &["ledger", "verify"]).one();
    assert_eq!(keys(&verified), ["schema", "records", "root", "problems"]);
    assert_eq!(verified["problems"], 0);
    assert!(number(&verified, "/records") >= Some(12), "{verified}");
}

#[test]
fn what_happened_while_it_was_down_is_found_at_the_next_start() {
    let site = Site::new();
    let [changed, removed, same] = ["changed", "removed", "same"].map(|name| site.write(name, "before"));
    let mut up = site.up();
    let name = site.own_name();
    site.settle(&name, &site.tree());
    let processes = up.descendants();
    assert!(processes.len() >= 2, "an agent and its link: {processes:?}");
    assert_eq!(up.interrupt(), 0);
    processes.into_iter().for_each(wait_gone);
    let down = now();

    // Without a manager the questions are still answered.
    let status = site.ask(1, &["status"]).one();
    assert!(text(&status, "/problems/0").contains("not running"), "{status:#}");
    assert_eq!(text(&status, "/agents/0/state"), "stopped");
    assert_eq!(site.held(&name), disk::picture(&site.tree()));
    assert_eq!(site.ask(0, &["ledger", "verify"]).one()["problems"], 0);
    site.ask(0, &["alert", "list"]);
    assert!(site.ask(2, &["console"]).err.contains("not running"));

    fs::write(&changed, "while it was down").unwrap();
    fs::remove_file(&removed).unwrap();
    let added = site.write("added", "x");
    let up = site.up();
    site.settle(&name, &site.tree());
    for (rule, path) in [(550, &changed), (553, &removed), (554, &added)] {
        let found = alert(&up, rule, path);
        assert_eq!(text(&found, "/change/detected_by"), "startup", "{found:#}");
        assert!(text(&found, "/change/window/earliest") <= &*down, "{found:#}");
        assert!(text(&found, "/change/window/latest") >= &*down, "{found:#}");
    }
    let gap = up.object("the gap", |o| text(o, "/event/name") == "gap");
    assert_eq!((text(&gap, "/event/cause"), number(&gap, "/rule/id")), ("stopped", Some(200_111)));
    assert!(text(&gap, "/event/start") <= &*down && text(&gap, "/event/end") >= &*down, "{gap:#}");
    assert!(!up.objects().iter().any(|o| text(o, "/change/path") == same.to_str().unwrap()));
    let lives = site.ask(0, &["alert", "list", "--limit", "0"]).objects;
    for life in ["stopped", "started", "gap"] {
        assert!(lives.iter().any(|a| text(a, "/event/name") == life), "{life}");
    }
}

#[test]
fn what_a_person_reads_is_text_that_no_file_name_can_break() {
    let site = Site::new();
    let hostile = OsStr::from_bytes(b"evil\n\x1b[31m\r\x07\xff\xe2\x80\xae");
    fs::write(site.tree().join(hostile), "x").unwrap();
    let up = site.up();
    let name = site.own_name();
    site.settle(&name, &site.tree());
    let hour_ago = format!("{name}@now");
    fs::write(site.tree().join(hostile), "changed").unwrap();
    let alert = up.object("the alert", |o| number(o, "/rule/id") == Some(550));
    let id = text(&alert, "/id").to_owned();
    for (code, words) in [
        (0, &["status"][..]),
        (0, &["agent", "list"]),
        (0, &["agent", "show", &name]),
        (0, &["change", "list"]),
        (0, &["alert", "list"]),
        (0, &["alert", "show", &id]),
        (0, &["snapshot", "list"]),
        (1, &["drift"]),
        (0, &["promote", "--agent", &name, "--all"]),
        (0, &["promote", "--agent", &name, "--all", "--yes"]),
        (0, &["diff", &name, &hour_ago]),
        (0, &["ledger", "verify"]),
        (0, &["token", "new"]),
        (0, &["token", "list"]),
        (0, &["console"]),
    ] {
        let ran = site.run(words);
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        let all = format!("{}{}", ran.out, ran.err);
        let may_be_empty = words[0] == "diff";
        assert!(may_be_empty || !ran.out.trim().is_empty(), "{words:?} says nothing");
        let raw = all.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(raw, None, "{words:?}: {all:?}");
        if all.contains("evil") {
            assert!(all.contains("evil\\n"), "{words:?}: {all}");
        }
    }
}

#[test]
fn alerts_for_a_person_are_lines() {
    let site = Site::new();
    let file = site.write("conf", "before");
    let mut command = site.up_command();
    command.arg("--watch").arg(site.tree());
    let mut up = Program::start("tally up", command);
    up.err_line("watching ");
    up.err_line("console: http://127.0.0.1:");
    fs::write(&file, "after").unwrap();
    let line = wait_for("the line of the alert", || {
        up.out_lines().into_iter().find(|line| line.contains(file.to_str().unwrap()))
    });
    assert!(line.contains("level  7") && line.contains("A watched file changed: modified"), "{line}");
    let began = SystemTime::now();
    assert_eq!(up.interrupt(), 0);
    up.err_line("the next start goes on from");
    // Not a measure of speed: a stop that waits for its own limits is a fault.
    assert!(began.elapsed().unwrap() < Duration::from_secs(30));
}

#[test]
fn a_killed_up_takes_its_agent_along_and_the_next_one_goes_on() {
    let site = Site::new();
    let file = site.write("a", "before");
    let up = site.up();
    up.object("watching", |o| text(o, "/notice") == "watching");
    let others: Vec<u32> = up.descendants().into_iter().filter(|pid| *pid != up.pid()).collect();
    assert!(others.len() >= 2, "{others:?}");
    // Of this process alone: its agent must notice by itself.
    let killed = std::process::Command::new("kill").args(["-9", &up.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    fs::write(&file, "after").unwrap();
    let again = site.up();
    again.object("watching", |o| text(o, "/notice") == "watching");
    let change = alert(&again, 550, &file);
    assert_eq!(text(&change, "/change/path"), file.to_str().unwrap());
    others.into_iter().for_each(wait_gone);
}

#[test]
fn both_files_are_given_on_one_machine() {
    let site = Site::new();
    let log = site.write("auth.log", "");
    let (manager, agent) = (site.path("manager.toml"), site.path("agent.toml"));
    fs::write(&manager, "console = \"off\"\nalert_level = 5\n").unwrap();
    let tree = site.tree();
    let text_of_agent =
        format!("[[watch]]\npath = {tree:?}\nmode = \"directory\"\n\n[[collect]]\npath = {log:?}\nfrom = \"start\"\n");
    fs::write(&agent, text_of_agent).unwrap();
    let [manager, agent] = [manager, agent].map(|path| path.display().to_string());
    let words = ["up", "--json", "--port", "0", "--config", &manager, "--agent-config", &agent];
    let up = Program::start("tally up", site.command(&words));
    up.object("watching", |o| text(o, "/notice") == "watching");
    let line = "Nov 24 18:00:01 web1 sshd[123]: Failed password for invalid user eve from 192.0.2.7 port 22 ssh2\n";
    fs::write(&log, line).unwrap();
    let alert = up.object("the line", |o| text(o, "/log/location") == log.to_str().unwrap());
    assert_eq!(number(&alert, "/rule/id"), Some(5710), "{alert}");
}
