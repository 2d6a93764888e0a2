//! The policy from its text to its answers.

use proptest::prelude::*;
use tally_types::{Attribute, PathBytes};

use super::*;
use crate::config::KeySource;
use crate::{AgentConfig, Budget, Network, Rate, ResponseConfig};

fn path(text: &str) -> PathBytes {
    PathBytes::new(text.as_bytes()).unwrap()
}

fn policy(text: &str) -> Policy {
    let (policy, faults) = Policy::parse(text, "policy.toml");
    assert_eq!(faults, []);
    policy
}

fn modes(policy: &Policy, paths: &[&str]) -> Vec<Option<&'static str>> {
    paths.iter().map(|p| policy.judge(&path(p)).map(|w| w.mode.name())).collect()
}

#[test]
fn the_built_in_profile_has_no_fault_and_covers_what_it_says() {
    let (_, faults) = Policy::parse(parse::LINUX_BASE, "linux-base");
    assert_eq!(faults, []);
    let policy = Policy::defaults(|_| true);
    for (expected, paths) in [
        (
            Some("static"),
            &[
                "/usr/bin/ls",
                "/bin",
                "/usr/lib/x86_64-linux-gnu/security/pam_unix.so",
                "/usr/lib/modules/6.1/kernel/fs/x.ko",
                "/opt/app/bin/x",
                "/boot/vmlinuz",
                "/etc/shadow",
                "/etc/ld.so.preload",
                "/root/.ssh/authorized_keys",
                "/home/a/.ssh/authorized_keys",
                "/home/a/.bashrc",
                "/var/spool/cron/crontabs/root",
                "/etc/systemd/system/x.service",
                "/var/www/html/index.php",
                "/var/lib/dpkg/info/x.list",
                "/var/lib/tallystick/agent/identity/key.pem",
                "/etc/tallystick/agent.toml",
            ][..],
        ),
        (
            Some("log"),
            &[
                "/var/log/auth.log",
                "/var/log/audit/audit.log",
                "/var/log/nginx/access.log",
                "/var/log/wtmp",
                "/var/log/cloud-init-output.log",
            ],
        ),
        (Some("journal"), &["/var/log/journal/abc/system.journal"]),
        (Some("directory"), &["/tmp/x", "/dev/shm/x", "/var/log/lastlog", "/var/www/a/uploads/b.png"]),
        (
            None,
            &[
                "/etc/mtab",
                "/etc/resolv.conf",
                "/etc/adjtime",
                "/etc/x/.y.swp",
                "/proc/1/maps",
                "/dev/null",
                "/run/x",
                "/home/a/secret",
                "/opt/app/data",
                "/var/lib/tallystick/agent/agent.db",
            ],
        ),
    ] {
        for p in paths {
            assert_eq!(policy.judge(&path(p)).map(|w| w.mode.name()), expected, "{p}");
        }
    }
    assert!(policy.watches().iter().all(|w| w.why.is_some() && !w.tags.is_empty()));
}

#[test]
fn each_profile_has_no_fault_and_adds_to_linux_base() {
    for (name, text) in parse::PROFILES {
        let (policy, faults) = Policy::parse(text, name);
        assert_eq!(faults, []);
        assert!(policy.watches().iter().all(|w| w.why.is_some() && !w.tags.is_empty()), "{name}");
        let both = self::policy(&format!("profiles = [\"linux-base\", \"{name}\"]"));
        for watch in policy.watches().iter().filter(|w| w.path.is_plain()) {
            let at = watch.path.root();
            // Named by the profile, it is watched as the profile says, unless a later or deeper watch says more.
            let judged = both.judge(&at).unwrap_or_else(|| panic!("{name}: {at} is not watched"));
            assert_eq!(judged.mode, watch.mode, "{name}: {at}");
        }
    }
    let all = policy("profiles = [\"linux-base\", \"pci\", \"web\", \"aws-ec2\"]");
    let answer = |at: &str| all.judge(&path(at)).map(|w| (w.mode.name(), w.diff));
    for (at, expected) in [
        ("/etc/hosts", Some(("static", true))),
        ("/etc/shadow", Some(("static", false))),
        ("/etc/ssl/certs/a.pem", Some(("static", false))),
        ("/etc/ssh/sshd_config", Some(("static", true))),
        ("/usr/bin/ls", Some(("static", false))),
        ("/opt/pay/conf/app.ini", Some(("static", true))),
        ("/opt/pay/bin/app", Some(("static", false))),
        ("/opt/pay/logs/a.log", Some(("log", false))),
        ("/opt/pay/logs/a.pid", None),
        ("/var/log/audit/audit.log", Some(("log", false))),
        ("/var/log/journal/x/system.journal", Some(("journal", false))),
        ("/var/log/shop/pay.log", Some(("log", false))),
        ("/var/www/html/index.php", Some(("static", true))),
        ("/var/www/html/uploads/cat.png", Some(("directory", false))),
        ("/var/www/html/uploads/a/cat.php", Some(("static", true))),
        ("/var/www/html/cache/x", None),
        ("/var/lib/cloud/instance/user-data.txt", Some(("static", false))),
        ("/var/lib/cloud/instance/obj.pkl", Some(("directory", false))),
        ("/root/.aws/credentials", Some(("static", true))),
    ] {
        assert_eq!(answer(at), expected, "{at}");
    }
}

#[test]
fn a_diff_needs_a_content_that_is_watched() {
    let (policy, faults) = Policy::parse(
        "[[watch]]\npath = \"/a\"\ndiff = true\n[[watch]]\npath = \"/b\"\nmode = \"log\"\ndiff = true\n\
         [[watch]]\npath = \"/c\"\nattributes = [\"mode\"]\ndiff = true\n[[watch]]\npath = \"/d\"\ndiff = 1\n",
        "p",
    );
    let diffs: Vec<_> = policy.watches().iter().map(|w| w.diff).collect();
    assert_eq!(diffs, [true, false, false, false]);
    let lines: Vec<_> = faults.iter().map(|f| f.line).collect();
    assert_eq!(lines, [7, 11, 14]);
}

#[test]
fn the_most_specific_watch_wins_and_its_depth_and_excludes_count() {
    let policy = policy(
        r#"
        exclude = ["*.tmp", "/srv/skip"]
        [[watch]]
        path = "/srv"
        exclude = ["cache"]
        [[watch]]
        path = "/srv/log"
        mode = "log"
        recursion = 1
        [[watch]]
        path = "/srv/*/keep"
        mode = "directory"
        [[watch]]
        path = "/srv/skip/but"
        "#,
    );
    let expected = [
        ("/srv", Some("static")),
        ("/srv/a", Some("static")),
        ("/srvx", None),
        ("/", None),
        ("/srv/a.tmp", None),
        ("/srv/x.tmp/y", None),
        ("/srv/a/cache/b", None),
        ("/srv/log", Some("log")),
        ("/srv/log/a", Some("log")),
        ("/srv/log/a/b", Some("static")),
        ("/srv/log/cache", Some("log")),
        ("/srv/x/keep/y", Some("directory")),
        ("/srv/skip", None),
        ("/srv/skip/but", Some("static")),
        ("/srv/skip/but/a", Some("static")),
    ];
    let (paths, wanted): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
    assert_eq!(modes(&policy, &paths), wanted);
    assert!(policy.descend(&path("/")) && policy.descend(&path("/srv/skip")) && policy.descend(&path("/srv/a")));
    assert!(!policy.descend(&path("/etc")) && !policy.descend(&path("/srv/a.tmp")));
    assert_eq!(policy.roots(), [path("/srv")]);
    assert_eq!(policy.judge(&path("/srv/log")).unwrap().depth_left, Some(1));
    assert_eq!(policy.judge(&path("/srv/log/a")).unwrap().depth_left, Some(0));
}

#[test]
fn children_are_judged_together_only_where_every_name_means_the_same() {
    let policy = policy(
        r#"
        [[watch]]
        path = "/a"
        [[watch]]
        path = "/a/b/c"
        mode = "log"
        [[watch]]
        path = "/x"
        exclude = ["*.swp"]
        [[watch]]
        path = "/g/*.conf"
        "#,
    );
    let together = |p: &str| policy.judge_children(&path(p)).map(|w| w.mode.name());
    assert_eq!([together("/a/d"), together("/a/b/c")], [Some("static"), Some("log")]);
    for apart in ["/a", "/a/b", "/x", "/g", "/elsewhere"] {
        assert_eq!(together(apart), None, "{apart}");
    }
    let mut policy = Policy::from_watch_args(&[(path("/a"), None)]);
    policy.leave_out(path("/a/state"));
    assert!(policy.judge_children(&path("/a")).is_none() && policy.judge_children(&path("/a/other")).is_some());
}

#[test]
fn equals_are_decided_by_the_later_and_leaving_out_by_nothing() {
    let mut policy = Policy::from_watch_args(&[(path("/a"), None), (path("/a"), Some(Mode::Log)), (path("/b"), None)]);
    assert_eq!(modes(&policy, &["/a/x", "/b"]), [Some("log"), Some("static")]);
    policy.leave_out(path("/a/x"));
    assert_eq!(modes(&policy, &["/a/x", "/a/x/y", "/a/xy"]), [None, None, Some("log")]);
    assert!(!policy.descend(&path("/a/x")) && policy.descend(&path("/a")));
}

#[test]
fn a_path_given_as_an_argument_is_not_a_glob() {
    let odd = PathBytes::new(&b"/a*\xff[{"[..]).unwrap();
    let policy = Policy::from_watch_args(&[(odd.clone(), None)]);
    assert!(policy.judge(&odd.join(b"x").unwrap()).is_some() && policy.judge(&path("/ab")).is_none());
    assert_eq!(policy.roots(), [odd]);
}

#[test]
fn a_missing_path_stays_where_its_directory_exists() {
    let here = ["/", "/root", "/etc"].map(path);
    let policy = Policy::defaults(|p| here.contains(p));
    assert!(policy.judge(&path("/root/.ssh/authorized_keys")).is_some());
    assert!(policy.judge(&path("/etc/ld.so.preload")).is_some());
    assert!(policy.judge(&path("/var/www/x")).is_none());
}

#[test]
fn every_fault_is_told_at_its_place() {
    let text = r#"exlude = ["*.x"]
profiles = ["linux-bse"]
[agent]
scan_interval = "10 parsecs"
rehash_days = 0
treads = 2
state = "var"
[[watch]]
mode = "statc"
[[watch]]
path = ["etc", "/a/**b", 3]
mode = "log"
attributes = ["mtime", "sise"]
digests = ["md5"]
recursion = -1
only = "executable"
[[watch]]
path = "/ok"
max_size = "1 parsec"
[watch2]
"#;
    let (policy, faults) = Policy::parse(text, "p.toml");
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "p.toml:1:1: unknown key \"exlude\" in the file (did you mean \"exclude\"?)",
            "p.toml:2:13: unknown profile \"linux-bse\" (did you mean \"linux-base\"?)",
            "p.toml:4:17: expected a time such as \"1h\" (s, m, h, d or w)",
            "p.toml:5:15: the number is outside 1 to 365",
            "p.toml:6:1: unknown key \"treads\" in [agent] (did you mean \"threads\"?)",
            "p.toml:7:9: path is not absolute",
            "p.toml:8:1: a watch needs a path: path = \"/etc\"",
            "p.toml:9:8: unknown mode \"statc\" (did you mean \"static\"?)",
            "p.toml:11:9: path \"etc\" is not absolute: it starts with \"/\"",
            "p.toml:11:16: \"**\" must be a whole component, as in \"**/*.log\"",
            "p.toml:11:26: expected a string, found integer",
            "p.toml:13:15: mode \"log\" does not watch the attribute \"mtime\"",
            "p.toml:13:24: unknown attribute \"sise\" (did you mean \"size\"?)",
            "p.toml:14:11: mode \"log\" has the digests of its sealed chunks; remove \"digests\"",
            "p.toml:15:13: the number is outside 0 to 4294967295",
            "p.toml:16:8: unknown value \"executable\" (did you mean \"executables\"?)",
            "p.toml:19:12: expected a size such as \"64MiB\"",
            "p.toml:20:2: unknown key \"watch2\" in the file (did you mean \"watch\"?)",
        ]
    );
    assert_eq!(policy.watches().len(), 1);
    let (_, faults) = Policy::parse("[agent.budget]\ncpu = 0\nread = \"1kB\"\nmemry = 1", "p.toml");
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "p.toml:2:7: the number is outside 1 to 25600",
            "p.toml:3:8: 1000 bytes are outside 1048576 to 1099511627776",
            "p.toml:4:1: unknown key \"memry\" in [agent.budget] (did you mean \"memory\"?)",
        ]
    );
    let (_, faults) = Policy::parse("a = [\nb = 'x", "p.toml");
    assert!(faults.len() >= 2, "{faults:?}");
}

#[test]
fn reads_every_key() {
    let text = r#"
        [agent]
        manager = "tally.example:1514"
        state = "/var/lib/tallystick/agent"
        accept_policy = false
        scan_interval = "30m"
        rehash_days = 14
        direct_days = 90
        threads = 2
        digests = ["sha256", "sha1"]
        journal_key = { credential = "journal" }
        logrotate = ["/etc/logrotate.conf", "/opt/logrotate"]
        [agent.budget]
        cpu = 10
        read = "8MiB"
        start_cpu = 200
        memory = "128MiB"
        [agent.responses]
        allow = ["drop", "deny.sh"]
        dir = "/srv/ar"
        never = ["10.0.0.0/8"]
        repeated_minutes = [30, 60]
        [[watch]]
        path = "/a"
        attributes = ["mode", "content"]
        max_size = "1MiB"
        only = "executables"
        tags = ["t"]
        why = "because"
        [[watch]]
        path = "/b"
        mode = "static"
        digests = ["blake3"]
        recursion = 3
        exclude = "x"
    "#;
    let (config, faults) = Config::parse(text, "agent.toml");
    assert_eq!(faults, []);
    let digests = Algorithms::SHA256.with(Algorithm::Sha1);
    let expected = AgentConfig {
        manager: Some("tally.example:1514".into()),
        state: Some(path("/var/lib/tallystick/agent")),
        accept_policy: false,
        accept_commands: false,
        scan_interval_s: 1800,
        rehash_days: 14,
        direct_days: 90,
        threads: 2,
        digests,
        journal_key: Some(KeySource::Credential("journal".into())),
        logrotate: vec![path("/etc/logrotate.conf"), path("/opt/logrotate")],
        budget: Budget {
            routine: Rate { cpu_percent: 10, bytes_per_s: 8 << 20 },
            urgent: Rate { cpu_percent: 200, ..Budget::default().urgent },
            memory_bytes: 128 << 20,
        },
        responses: ResponseConfig {
            allow: vec!["drop".into(), "deny.sh".into()],
            dir: path("/srv/ar"),
            never: vec![Network::parse("10.0.0.0/8").unwrap()],
            repeated_minutes: vec![30, 60],
        },
    };
    assert_eq!(config.agent, expected);
    let [a, b] = config.policy.watches() else { panic!() };
    assert_eq!(
        (a.digests, a.max_size, a.only, a.why.as_deref()),
        (digests, Some(1 << 20), Only::Executables, Some("because"))
    );
    assert_eq!(a.attributes.iter().map(Attribute::name).collect::<Vec<_>>(), ["type", "mode", "content"]);
    assert_eq!(
        (b.digests.iter().collect::<Vec<_>>(), b.recursion, b.exclude.len()),
        (vec![Algorithm::Blake3], Some(3), 1)
    );
}

#[test]
fn a_policy_of_the_manager_cannot_say_what_only_the_host_may() {
    let text = "profiles = [\"linux-base\"]\n[agent]\nmanager = \"elsewhere\"\naccept_policy = false\nscan_interval = \"2h\"\n\
                [agent.responses]\nallow = [\"*\"]\n";
    let (config, faults) = Config::parse_group(text, "g");
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "g:3:1: \"manager\" is for the host's own file: a group's policy cannot set it",
            "g:4:1: \"accept_policy\" is for the host's own file: a group's policy cannot set it",
            "g:6:8: \"responses\" is for the host's own file: a group's policy cannot set it",
        ]
    );
    assert_eq!(config.agent.scan_interval_s, 7200);
    assert!(!config.agent.responses.is_on());
    let own = AgentConfig { rehash_days: 3, manager: Some("m".into()), ..AgentConfig::default() };
    let (config, _) = Config::parse_group_over("profiles = [\"linux-base\"]\n[agent]\nthreads = 1", "g", &own);
    assert_eq!(config.agent, AgentConfig { threads: 1, ..own });
    let (_, faults) = Config::parse_group("exclude = [\"*\"]", "g");
    assert!(faults[0].message.contains("watches nothing"), "{faults:?}");
    assert_eq!(Config::parse("", "own").1, []);
}

proptest! {
    /// The index of roots must not change what the watches say one by one.
    #[test]
    fn judges_as_the_watches_say_one_by_one(
        globs in prop::collection::vec("(/(\\*\\*|[ab*]{1,2})){1,3}", 1..6),
        depths in prop::collection::vec(prop::option::of(0u32..3), 6),
        excludes in prop::collection::vec("(/?[ab*]{1,2}){1,2}", 0..3),
        paths in prop::collection::vec("(/[ab]{1,2}){1,5}", 1..20),
    ) {
        let globs: Vec<Glob> = globs.iter().filter_map(|g| Glob::parse(g).ok()).collect();
        let excludes: Vec<Glob> = excludes.iter().filter_map(|g| Glob::parse(g).ok()).collect();
        let watches: Vec<Watch> = globs.iter().zip(depths)
            .map(|(g, recursion)| Watch { recursion, ..Watch::new(g.clone(), Mode::Static) }).collect();
        let policy = Policy::from_watches(watches.clone(), excludes.clone());
        for text in paths {
            let p = path(&text);
            let covering = watches.iter().enumerate().filter(|(_, w)| {
                let ends = std::iter::successors(Some(p.clone()), PathBytes::parent);
                let levels = ends.take_while(|at| *at != PathBytes::root()).position(|at| w.path.matches(&at));
                levels.is_some_and(|levels| w.recursion.is_none_or(|max| levels as u32 <= max))
            });
            let winner = covering.max_by_key(|(place, w)| (w.path.literal_bytes(), *place));
            let winner = winner.filter(|(_, w)| {
                let mut above = std::iter::successors(Some(p.clone()), PathBytes::parent);
                !above.any(|at| !w.path.root().is_within(&at) && excludes.iter().any(|e| e.matches(&at)))
            });
            let judged = policy.judge(&p).map(|w| w.watch);
            prop_assert_eq!(judged, winner.map(|(place, _)| place), "{}", text);
            if judged.is_some() {
                prop_assert!(policy.roots().iter().any(|root| p.is_within(root)));
                let mut above = p.parent();
                while let Some(dir) = above.filter(|dir| policy.roots().iter().any(|root| dir.is_within(root))) {
                    prop_assert!(policy.descend(&dir), "{:?} {:?}", dir, p);
                    above = dir.parent();
                }
            }
        }
    }

    #[test]
    fn random_and_mutated_text_never_panics(
        junk in "\\PC{0,200}",
        at in 0..10_000usize,
        cut in 0..40usize,
        insert in "[\\[\\]{}=\"'#\\n a-z0-9*/\\\\]{0,12}",
    ) {
        Policy::parse(&junk, "x");
        let text = parse::LINUX_BASE;
        let mut start = at % text.len();
        let mut end = (start + cut).min(text.len());
        while !text.is_char_boundary(start) { start -= 1; }
        while !text.is_char_boundary(end) { end -= 1; }
        let end = end.max(start);
        let mutated = [&text[..start], &insert, &text[end..]].concat();
        let (_, faults) = Policy::parse(&mutated, "x");
        prop_assert!(faults.len() <= Config::DIAGNOSTICS_MAX + 1);
    }
}

#[test]
fn the_agents_own_parts_are_not_what_the_operator_asks_for() {
    let asked = policy(
        "exclude = [\"*.tmp\"]\n[[watch]]\npath = \"/etc\"\n[[watch]]\npath = \"/var/log/app.log\"\nmode = \"log\"\n",
    );
    let installed = |place: &str| {
        let mut policy = asked.clone();
        policy.leave_out(path(&format!("{place}/agent.db")));
        policy.add_own(vec![Watch::new(Glob::exactly(&path(place)), Mode::Static)]);
        policy
    };
    assert_ne!(installed("/var/lib/a").meaning(), installed("/var/lib/b").meaning());
    assert_eq!(installed("/var/lib/a").without_own(), asked);
    assert_eq!(installed("/var/lib/b").without_own(), asked);
}

#[test]
fn a_key_stands_in_no_file_and_in_no_policy_of_a_group() {
    for (value, words) in [
        ("\"0a1b2c-3d4e5f-607182-93a4b5/1-f4240\"", "the key itself never stands here"),
        ("{ credential = \"a/b\" }", "the key itself never stands here"),
        ("{ file = \"key\" }", "the key itself never stands here"),
        ("{ file = \"/a\", credential = \"b\" }", "the key itself never stands here"),
        ("{ env = \"X\" }", "the key itself never stands here"),
    ] {
        let (config, faults) = Config::parse(&format!("[agent]\njournal_key = {value}\n"), "agent.toml");
        assert!(faults.len() == 1 && faults[0].message.contains(words) && faults[0].line == 2, "{value}: {faults:?}");
        assert_eq!(config.agent.journal_key, None);
    }
    let text = "[agent]\njournal_key = { file = \"/k\" }\n";
    assert_eq!(Config::parse(text, "agent.toml").0.agent.journal_key, Some(KeySource::File(path("/k"))));
    let group = format!("{text}[[watch]]\npath = \"/etc\"\n");
    let (config, faults) = Config::parse_group(&group, "policy.toml");
    assert!(faults.len() == 1 && faults[0].message.contains("for the host's own file"), "{faults:?}");
    assert_eq!(config.agent.journal_key, None);
}
