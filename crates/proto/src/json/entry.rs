//! An entry as a JSON object.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tally_types::{AgentId, Entry, PathBytes, Xattr};

use super::{Object, hex, outermost, put, put_agent, put_bytes, put_bytes_or_null};

/// An entry as it stands in a change: without its path.
pub fn entry(entry: &Entry) -> Value {
    let mut object = Object::new();
    put_entry(&mut object, entry);
    object.into()
}

/// One line of `tally snapshot list`: an entry with its path. `agent` is the host and its name.
pub fn snapshot_entry(agent: (AgentId, &str), path: &PathBytes, entry: &Entry) -> Value {
    let mut object = outermost();
    put_agent(&mut object, agent.0, agent.1);
    put_bytes(&mut object, "path", path.as_bytes());
    put_entry(&mut object, entry);
    object.into()
}

fn put_entry(object: &mut Object, entry: &Entry) {
    put(object, "type", entry.kind.name());
    put(object, "size", entry.size);
    put(object, "mode", format!("{:04o}", entry.mode));
    put(object, "uid", entry.uid);
    put(object, "user", entry.user.as_deref());
    put(object, "gid", entry.gid);
    put(object, "group", entry.group.as_deref());
    put(object, "sha256", entry.digests.sha256.as_ref().map(|digest| hex(digest)));
    put(object, "mtime", entry.mtime.to_string());
    put_bytes_or_null(object, "target", entry.target.as_deref());
    put(object, "xattrs", xattrs(&entry.xattrs));
    // What is rare stands last, and only where it is.
    for digest in entry.digests.others() {
        put(object, digest.algorithm().name(), digest.to_string());
    }
    if let Some(why) = entry.undigested {
        put(object, "undigested", why.name());
    }
    if let Some(device) = entry.device {
        put(object, "device", json!({"major": device.major, "minor": device.minor}));
    }
    let flags = [(entry.flags.immutable, "immutable"), (entry.flags.append_only, "append-only")];
    let flags: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
    if !flags.is_empty() {
        put(object, "flags", flags);
    }
}

fn xattrs(xattrs: &[Xattr]) -> Value {
    let mut object = Object::new();
    for xattr in xattrs {
        // Two names that are not UTF-8 could look alike, so such a name is given whole in another form. No real name
        // begins so: the kernel's begin with a namespace and a dot.
        let name = match std::str::from_utf8(&xattr.name) {
            Ok(name) => name.to_owned(),
            Err(_) => format!("b64:{}", STANDARD.encode(&xattr.name)),
        };
        object.insert(name, xattr_value(xattr));
    }
    object.into()
}

/// Text where it is text (the NUL that ends a SELinux label included), else an object that says what it is.
fn xattr_value(xattr: &Xattr) -> Value {
    if xattr.hashed {
        return json!({"sha256": hex(&xattr.value)});
    }
    match std::str::from_utf8(&xattr.value) {
        Ok(text) if !text.strip_suffix('\0').unwrap_or(text).contains(char::is_control) => text.into(),
        _ => json!({"b64": STANDARD.encode(&xattr.value)}),
    }
}
