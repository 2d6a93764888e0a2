//! Programs that really run.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn script(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_program_gets_its_words_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let text = format!(
        "#!/bin/sh\nfor word; do echo \"$word\"; done > {0}\npwd >> {0}\nenv | sort | cut -d= -f1 >> {0}\n",
        out.display()
    );
    let program = script(dir.path(), "show", &text, 0o755);
    assert_eq!(execute(&program, &words(&["add", "$(id)", "a b", "*"])), "ended with 0");
    let told = fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..5], ["add", "$(id)", "a b", "*", "/"]);
    // A shell adds some of its own.
    assert!(
        lines[5..].iter().all(|name| ["LC_ALL", "OLDPWD", "PATH", "PWD", "SHLVL", "_"].contains(name)),
        "{lines:?}"
    );
    let fails = script(dir.path(), "fails", "#!/bin/sh\nexit 3\n", 0o755);
    assert_eq!(execute(&fails, &[]), "failed with 3");
    let dies = script(dir.path(), "dies", "#!/bin/sh\nkill -9 $$\n", 0o755);
    assert_eq!(execute(&dies, &[]), "ended by signal 9");
}

#[test]
fn a_program_that_others_could_change_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| execute(path, &[]);
    let program = script(dir.path(), "program", "#!/bin/sh\n", 0o755);
    assert_eq!(refused(&program), "ended with 0");
    for mode in [0o775, 0o757, 0o777] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        assert!(refused(&program).contains("others than its owner may write to it"), "{mode:o}");
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&program).contains("is no program"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // By a link it is the program itself that counts, and its directories.
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    let inside = script(&open, "inside", "#!/bin/sh\n", 0o755);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    for path in [&inside, &link] {
        assert!(refused(path).contains("others than its owner may write to it"), "{path:?}");
    }
    assert!(refused(Path::new("program")).contains("by its whole path"));
    assert!(refused(&dir.path().join("absent")).contains("No such file"));
    assert!(refused(dir.path()).contains("is no program"));
}
