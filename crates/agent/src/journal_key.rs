//! The verification key of journald's seals, read once at the start. It is told to nobody and stands in no message.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use tally_sys::open::{self, Access};
use tally_sys::stat;
use tally_syscheck::KeySource;
use tally_syscheck::journal::VerifyKey;
use tally_types::{FileKind, PathBytes};

use crate::log::journal::Verifier;

const BYTES_MAX: u64 = 4096;
const MACHINE_ID: &str = "/etc/machine-id";
/// Group or others may read it.
const OPEN_TO_OTHERS: u32 = 0o077;

/// What verifies the journal by the key that is there; otherwise what cannot be seen for that, in words.
pub fn verifier(source: &KeySource) -> Result<Verifier, String> {
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY");
    by(source, dir.as_deref().map(Path::new), Path::new(MACHINE_ID))
}

fn by(source: &KeySource, credentials: Option<&Path>, machine: &Path) -> Result<Verifier, String> {
    let cannot = |why: String| format!("whether journald's seals are true: {why}");
    let key = read(source, credentials).map_err(&cannot)?;
    let machine = std::fs::read_to_string(machine);
    let machine = machine.map_err(|error| cannot(format!("the host's number is not known: {MACHINE_ID}: {error}")))?;
    Ok(Verifier::with_key(key, &machine))
}

fn read(source: &KeySource, credentials: Option<&Path>) -> Result<VerifyKey, String> {
    let path = match (source, credentials) {
        (KeySource::File(path), _) => path.clone(),
        (KeySource::Credential(name), Some(dir)) => PathBytes::new(dir.join(&**name).as_os_str().as_encoded_bytes())
            .map_err(|error| format!("the credential {name}: {error}"))?,
        (KeySource::Credential(name), None) => {
            return Err(format!(
                "the systemd credential {name} is not there: the agent was not started by a unit with LoadCredential={name}:…"
            ));
        }
    };
    let mut text = String::new();
    let (file, mode) = open_key(&path).map_err(|error| format!("read {path}: {error}"))?;
    if mode & OPEN_TO_OTHERS != 0 && matches!(source, KeySource::File(_)) {
        return Err(format!("others than its owner may read {path}: chmod 600 it"));
    }
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| format!("read {path}: {error}"))?;
    VerifyKey::parse(&text).map_err(|error| format!("{path}: {error}"))
}

fn open_key(path: &PathBytes) -> io::Result<(File, u32)> {
    let root = open::base(b"/")?;
    let fd = open::beneath(root.as_fd(), path.as_bytes(), Access::Read)?;
    let stat = stat::of(fd.as_fd())?;
    if stat.kind != FileKind::File {
        return Err(io::Error::other("it is no file"));
    }
    Ok((File::from(fd), stat.mode))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: &str = "0a1b2c-3d4e5f-607182-93a4b5/1234ab-35a4e900\n";

    #[test]
    fn a_key_is_read_from_where_it_is_or_it_is_said_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let at =
            |name: &str| KeySource::File(PathBytes::new(dir.path().join(name).as_os_str().as_encoded_bytes()).unwrap());
        let write = |name: &str, text: &str, mode| {
            fs::write(dir.path().join(name), text).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        write("key", KEY, 0o600);
        write("open", KEY, 0o644);
        write("other", "a secret that is no key", 0o600);
        write("credential", KEY, 0o440);
        write("machine", "0123456789abcdef0123456789abcdef\n", 0o644);
        let machine = dir.path().join("machine");
        let credential = KeySource::Credential("credential".into());
        assert!(by(&at("key"), None, &machine).is_ok() && by(&credential, Some(dir.path()), &machine).is_ok());
        for (source, credentials, words) in [
            (at("open"), None, "chmod 600"),
            (at("none"), None, "none: "),
            (at("other"), None, "no verification key"),
            (credential, None, "LoadCredential=credential:"),
            (KeySource::Credential("none".into()), Some(dir.path()), "none: "),
        ] {
            let why = by(&source, credentials, &machine).map(drop).unwrap_err();
            assert!(why.contains(words) && why.starts_with("whether journald's seals are true: "), "{why}");
            assert!(!why.contains("a secret") && !why.contains("0a1b2c"), "{why}");
        }
        assert!(by(&at("key"), None, &dir.path().join("nothing")).is_err());
    }
}
