//! What this host lets the manager have run, and with which words.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use tally_proto::message::Cause;
use tally_syscheck::Network;
use tally_types::PathBytes;

use super::*;

fn config(dir: &Path, allow: &[&str]) -> ResponseConfig {
    ResponseConfig {
        allow: allow.iter().map(|name| Arc::from(*name)).collect(),
        dir: PathBytes::new(dir.as_os_str().as_encoded_bytes()).unwrap(),
        ..ResponseConfig::default()
    }
}

fn script(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn respond(command: &str) -> Respond {
    Respond {
        command: command.into(),
        timeout_s: 600,
        user: None,
        address: Some([192, 0, 2, 1].into()),
        file: None,
        cause: None,
    }
}

#[test]
fn only_what_this_host_allows_is_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let drop = script(dir.path(), "firewall-drop.sh");
    script(dir.path(), "other");
    let named = config(dir.path(), &["firewall-drop", "absent"]);
    assert_eq!(program(&named, "firewall-drop"), Ok(drop));
    for (name, why) in [
        ("other", "this host does not allow other"),
        ("absent", "there is neither absent nor absent.sh in"),
        ("firewall-drop.sh", "does not allow"),
        ("../firewall-drop", "no name of a response"),
        ("/bin/sh", "no name of a response"),
        ("-x", "no name of a response"),
        ("a b", "no name of a response"),
        ("", "no name of a response"),
        (&"a".repeat(65), "no name of a response"),
    ] {
        let refused = program(&named, name).unwrap_err();
        assert!(refused.contains(why), "{name}: {refused}");
    }
    assert!(program(&config(dir.path(), &["*"]), "other").is_ok());
    assert!(program(&config(dir.path(), &["*"]), "..").unwrap_err().contains("no name"));
    assert_eq!(program(&ResponseConfig::default(), "other").unwrap_err(), NOT_ALLOWED);
    let told = standing(&named);
    assert!(told.starts_with("on: ") && told.contains("not usable: absent: there is neither"), "{told}");
    assert!(standing(&ResponseConfig::default()).starts_with("off: "));
}

#[test]
fn each_word_of_the_manager_is_checked_again() {
    let cause = |location: &str| Cause { seconds: 1, number: 2, rule: 3, location: location.into() };
    let given =
        Respond { user: Some("www-data".into()), cause: Some(cause("(web) any->$(reboot) `id`")), ..respond("x") };
    let words = arguments(&given).unwrap().words(response::Action::Add);
    assert_eq!(words, ["add", "www-data", "192.0.2.1", "1.2", "3", "(web)", "any->_(reboot)__id_", "-"]);
    for user in ["-rf", "a;b", "$(id)", "a b", "", "../x"] {
        let given = Respond { user: Some(user.into()), ..given.clone() };
        assert_eq!(arguments(&given), Err(ArgumentError::User), "{user}");
    }
    let file = PathBytes::new(b"/a$(id)".to_vec()).unwrap();
    assert_eq!(arguments(&Respond { file: Some(file), ..given }), Err(ArgumentError::File));
    let none = Respond { address: None, ..respond("x") };
    assert_eq!(arguments(&none), Err(ArgumentError::NoAddress));
}

#[test]
fn this_hosts_own_addresses_are_spared_whatever_the_manager_says() {
    let dir = tempfile::tempdir().unwrap();
    script(dir.path(), "drop");
    let never = vec![Network::parse("192.0.2.0/24").unwrap()];
    let config = ResponseConfig { never, ..config(dir.path(), &["drop"]) };
    let intake = Arc::new(Intake::new(tally_syscheck::Limits::default(), None));
    let mut responder = Responder::start(config, dir.path(), &intake);
    for spared in ["192.0.2.1", "127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "224.0.0.1"] {
        let given = Respond { address: Some(spared.parse().unwrap()), ..respond("drop") };
        assert!(responder.respond(1, &given).unwrap_err().contains("lets no response hit"), "{spared}");
    }
    assert_eq!(responder.marks(), [0; 0]);
    let given = Respond { address: Some([198, 51, 100, 1].into()), ..respond("drop") };
    responder.respond(7, &given).unwrap();
    assert_eq!(responder.marks(), [7]);
    responder.stop(false);
    let told = responder.take_told();
    assert!(told.len() <= 2, "{told:?}");
}

proptest! {
    #[test]
    fn nothing_that_the_manager_sends_is_more_than_words(
        name in "\\PC{0,70}", user in prop::option::of("\\PC{0,80}"), file in prop::option::of("/\\PC{0,80}"),
        location in "\\PC{0,400}",
    ) {
        let file = file.and_then(|file| PathBytes::new(file.into_bytes()).ok());
        let cause = Some(Cause { seconds: i64::MIN, number: u64::MAX, rule: u32::MAX, location: location.into() });
        let given = Respond { user: user.map(Arc::from), file, cause, ..respond(&name) };
        if let Ok(arguments) = arguments(&given) {
            for word in arguments.words(response::Action::Add) {
                prop_assert!(!word.contains([' ', '\n', ';', '$', '`', '&', '|', '<', '*', '?', '"', '\'', '\\']), "{word}");
            }
        }
        let dir = config(Path::new("/nonexistent"), &["*"]);
        prop_assert!(program(&dir, &name).is_err());
    }
}
