//! Each house rule on a small made-up tree: the fault is found at its line, and the clean form passes.

use std::path::Path;

use super::faults;

/// A tree that has what every tree must have, and `files` beside it.
fn tidy(files: &[(&str, &str)]) -> Vec<String> {
    let required = [
        ("README.md", "# It\n"),
        ("CHANGELOG.md", "# Changes\n\n## Unreleased\n"),
        ("SECURITY.md", "# Security\n"),
        ("LICENSE", "Apache\n"),
        ("deny.toml", ""),
        (".ci/run", "cargo xtask test\n"),
        ("docs/ARCHITECTURE.md", "# A\n"),
        ("docs/threat-model.md", "# T\n"),
        ("docs/performance.md", "# P\n"),
        ("docs/json.md", "# J\n"),
    ];
    let root = tempfile::tempdir().unwrap();
    for (path, text) in required.iter().chain(files) {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let found = faults(root.path()).unwrap();
    // A made-up tree has only some of the crates.
    found.iter().map(ToString::to_string).filter(|fault| !fault.contains("has no crate under")).collect()
}

fn manifest(dependencies: &str) -> String {
    format!("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n\n{dependencies}")
}

fn code(path: &str, text: &str) -> Vec<String> {
    tidy(&[(path, text)])
}

#[test]
fn a_clean_tree_has_no_fault() {
    let clean = manifest("[dependencies]\ntally-types.workspace = true\nzstd.workspace = true\n");
    let text = "//! What it is.\n\nuse std::time::Duration;\n\nfn a() -> Duration {\n    Duration::ZERO\n}\n";
    assert_eq!(tidy(&[("crates/proto/Cargo.toml", &clean), ("crates/proto/src/lib.rs", text)]), [""; 0]);
}

#[test]
fn layers_hold() {
    let upward = manifest("[dependencies]\ntally-types.workspace = true\ntally-agent.workspace = true\n");
    assert_eq!(
        tidy(&[("crates/net/Cargo.toml", &upward)]),
        ["crates/net/Cargo.toml:9: net (layer 2) must not use agent (layer 3): only layers below its own"]
    );
    let impure = manifest("[dependencies]\ntally-sys.workspace = true\n");
    assert_eq!(
        tidy(&[("crates/rules/Cargo.toml", &impure)]),
        ["crates/rules/Cargo.toml:8: rules is pure and must not use sys, which is not"]
    );
    let sideways = manifest("[dependencies]\ntally-store.workspace = true\n");
    assert_eq!(tidy(&[("crates/web/Cargo.toml", &sideways)]), [""; 0]);
    assert_eq!(tidy(&[("crates/net/Cargo.toml", &sideways)]).len(), 1);
    let for_tests = manifest("[dev-dependencies]\ntally-proto.workspace = true\n");
    assert_eq!(tidy(&[("crates/rules/Cargo.toml", &for_tests)]), [""; 0]);
}

#[test]
fn a_crate_without_a_room_is_named() {
    let faults = tidy(&[("crates/extra/Cargo.toml", &manifest(""))]);
    assert_eq!(
        faults,
        ["crates/extra/Cargo.toml:2: crate extra has no room: add it to crates/xtask/src/tidy/house.rs"]
    );
}

#[test]
fn heavy_dependencies_have_one_owner_and_versions_one_place() {
    let stray =
        manifest("[dependencies]\nquinn = \"0.11\"\n\n[target.'cfg(unix)'.dependencies]\nlibc.workspace = true\n");
    assert_eq!(
        tidy(&[("crates/agent/Cargo.toml", &stray)]),
        [
            "crates/agent/Cargo.toml:8: agent must not use quinn: it belongs to net",
            "crates/agent/Cargo.toml:8: quinn: versions stand in the root Cargo.toml: write quinn.workspace = true",
            "crates/agent/Cargo.toml:11: agent must not use libc: it belongs to sys",
        ]
    );
    let bare = "[package]\nname = \"x\"\n";
    assert_eq!(tidy(&[("crates/agent/Cargo.toml", bare)]).len(), 1);
}

#[test]
fn unsafe_stands_only_in_sys() {
    let text = "//! It.\n\nfn a() {\n    unsafe { b() }\n}\n// unsafe\nconst A: &str = \"unsafe\";\n";
    let message = "crates/agent/src/a.rs:4: unsafe stands only in crates/sys: add a safe function there";
    assert_eq!(code("crates/agent/src/a.rs", text), [message]);
    assert_eq!(code("crates/sys/src/a.rs", text), [""; 0]);
}

#[test]
fn pure_crates_name_no_clock_file_or_thread() {
    let text =
        "//! It.\n\nuse std::{fs, io::Read, time::{Duration, Instant}};\n\nfn a() {\n    std::thread::spawn(b);\n}\n";
    let tests = format!("{text}\n#[cfg(test)]\nmod tests {{\n    use std::net::UdpSocket;\n}}\n");
    let faults = code("crates/ledger/src/a.rs", &tests);
    assert_eq!(
        faults,
        [
            "crates/ledger/src/a.rs:3: std::fs in a pure crate: take a reader or bytes",
            "crates/ledger/src/a.rs:3: std::time::Instant in a pure crate: take `now`",
            "crates/ledger/src/a.rs:6: std::thread in a pure crate: be a state machine that its owner drives",
        ]
    );
    assert_eq!(code("crates/store/src/a.rs", text), [""; 0]);
    assert_eq!(code("crates/ledger/tests/a.rs", text), [""; 0]);
}

#[test]
fn a_test_module_in_its_own_file_is_a_test() {
    let parent = ("crates/ledger/src/tree.rs", "//! It.\n\n#[cfg(test)]\nmod sim;\n");
    let child = ("crates/ledger/src/tree/sim.rs", "//! It.\n\nuse std::fs;\n");
    assert_eq!(tidy(&[parent, child]), [""; 0]);
    assert_eq!(tidy(&[child]).len(), 1);
}

#[test]
fn lengths_have_a_limit_and_tests_do_not_count() {
    let long_fn =
        |lines: usize| format!("fn a<const N: usize>(x: [u8; N]) -> u8 {{\n{}}}\n", "    b();\n".repeat(lines));
    let text = format!("//! It.\n{}{}", long_fn(68), long_fn(69));
    assert_eq!(code("crates/net/src/a.rs", &text), ["crates/net/src/a.rs:72: fn a has 71 lines; 70 is the limit"]);
    let test = format!("//! It.\n#[cfg(test)]\nmod tests {{\n{}}}\n", long_fn(900));
    assert_eq!(code("crates/net/src/a.rs", &test), [""; 0]);
    let long_file = format!("//! It.\n{}", "const A: u8 = 1;\n".repeat(800));
    assert_eq!(
        code("crates/net/src/a.rs", &long_file),
        ["crates/net/src/a.rs:1: 801 lines without tests; 800 is the limit: split it by its types"]
    );
}

#[test]
fn files_open_with_what_they_are() {
    assert_eq!(code("crates/net/src/a.rs", "fn a() {}\n").len(), 1);
    assert_eq!(code("crates/net/src/a.rs", "//!\nfn a() {}\n").len(), 1);
    assert_eq!(code("crates/net/src/a.rs", "//! Placeholder until later.\n").len(), 1);
}

#[test]
fn names_say_what_is_inside() {
    for path in ["crates/net/src/utils.rs", "crates/net/src/helpers/quic.rs", "crates/cli/tests/common/mod.rs"] {
        assert_eq!(code(path, "//! It.\n").len(), 1, "{path}");
    }
    assert_eq!(code("crates/net/src/utility_pole.rs", "//! It.\n"), [""; 0]);
}

#[test]
fn promises_and_left_overs_are_found() {
    // The words are put together here, so that this file itself does not hold them.
    let (todo, fixme) = (["TO", "DO"].concat(), ["FIX", "ME"].concat());
    let text = format!("//! It.\n\n/* one\n{todo}: later */\nfn a() {{\n    dbg!(1); // {fixme}\n    todo!()\n}}\n");
    let faults = code("crates/net/src/a.rs", &text);
    let lines: Vec<&str> = faults.iter().filter_map(|f| f.split(':').nth(1)).collect();
    assert_eq!(lines, ["4", "6", "6", "7"], "{faults:?}");
    assert_eq!(tidy(&[("docs/x.md", &format!("x\n{todo} y\n"))]).len(), 1);
    assert_eq!(code("crates/net/src/a.rs", "//! It.\n\n#[test]\n#[ignore = \"slow\"]\nfn a() {}\n").len(), 1);
}

#[test]
fn documents_name_real_paths() {
    let text = "See `crates/net/src/lib.rs`, `crates/net/src/lib.rs:3`, `docs/*.md`, `crates/nowhere/x.rs` and `a/b`.\n\
                [here](ARCHITECTURE.md#top) [there](../crates/net) [gone](gone.md) [web](https://example.org/x)\n\
                ```\n`crates/gone`\n```\n";
    let faults = tidy(&[("docs/x.md", text), ("crates/net/src/lib.rs", "//! See docs/x.md and docs/none.md.\n")]);
    assert_eq!(
        faults,
        [
            "crates/net/src/lib.rs:1: names docs/none.md, which does not exist",
            "docs/x.md:1: names `crates/nowhere/x.rs`, which does not exist",
            "docs/x.md:2: links to gone.md, which does not exist",
        ]
    );
}

#[test]
fn what_is_shipped_parses() {
    let faults =
        tidy(&[("crates/net/x.toml", "a = 1\nb = \n"), ("crates/net/testdata/x.json", "{\"a\":1}\n{\"a\":}\n")]);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("crates/net/testdata/x.json:2: ") && faults[1].starts_with("crates/net/x.toml:2: "));
}

#[test]
fn profiles_and_examples_are_read_by_the_real_parser() {
    let profile = ("crates/syscheck/profiles/x.toml", "[[watch]]\npath = \"/etc\"\nmod = \"log\"\n");
    let example = ("docs/policy.md", "# It\n```toml\n[[watch]]\npaht = \"/etc\"\n```\n```toml\n[agent]\n```\n");
    let rules = ("rulesets/x.xml", "<group name=\"x\">\n<rule id=\"no\">\n");
    let faults = tidy(&[profile, example, rules]);
    assert!(faults.iter().any(|f| f.starts_with("rulesets/x.xml:")), "{faults:?}");
    assert!(faults.iter().any(|f| f.starts_with("crates/syscheck/profiles/x.toml:3: ")), "{faults:?}");
    assert!(faults.iter().any(|f| f.starts_with("docs/policy.md:4: ")), "{faults:?}");
    assert!(faults.iter().all(|f| !f.starts_with("docs/policy.md:7")), "{faults:?}");
}

#[test]
fn what_must_be_there_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let faults = faults(root.path()).unwrap();
    assert!(faults.iter().any(|f| f.path == Path::new("LICENSE") && f.message == "is missing"));
    assert_eq!(tidy(&[("CHANGELOG.md", "# Changes\n")]).len(), 1);
}

#[test]
fn fuzz_targets_and_their_manifest_agree() {
    let manifest = "[[bin]]\nname = \"a\"\npath = \"fuzz_targets/a.rs\"\n";
    let target = |name: &'static str| (name, "//! It.\n");
    assert_eq!(tidy(&[("fuzz/Cargo.toml", manifest), target("fuzz/fuzz_targets/a.rs")]), [""; 0]);
    let faults = tidy(&[("fuzz/Cargo.toml", manifest), target("fuzz/fuzz_targets/b.rs")]);
    assert_eq!(faults.len(), 2, "{faults:?}");
}
