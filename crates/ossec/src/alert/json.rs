//! `alerts.json`: one object a line, its keys in OSSEC's order.
//!
//! Two faults of the original are not repeated, since nobody can rest on them: the context has all its lines, and the names of
//! groups lose no character.

use serde_json::{Map, Value};

use super::{Alert, stamp};

type Object = Map<String, Value>;

/// Without the line's end.
pub fn json(alert: &Alert) -> String {
    Value::from(object(alert)).to_string()
}

/// As `archives.json` has any event: without a rule where it is no alert, with an object for the decoder, other names for the
/// log and its source, and the sums of a file beside all else.
pub fn archive_json(event: &Alert) -> String {
    let mut out = Object::new();
    for (key, value) in object(event) {
        match (&*key, value) {
            ("rule", _) if event.rule == 0 => {}
            ("decoder_desc", _) => {}
            ("decoder", name) => {
                let named = Object::from_iter([("name".to_owned(), name)]);
                out.insert(key, named.into());
            }
            ("SyscheckFile", Value::Object(file)) => out.extend(file),
            ("full_log", log) => drop(out.insert("log".into(), log)),
            ("logfile", name) => drop(out.insert("filename".into(), name)),
            (_, value) => drop(out.insert(key, value)),
        }
    }
    Value::from(out).to_string()
}

fn object(alert: &Alert) -> Object {
    let mut out = Object::new();
    let (location, fields) = (alert.location(), &alert.fields);
    out.insert("rule".into(), rule(alert).into());
    out.insert("id".into(), alert.id().into());
    out.insert("TimeStamp".into(), (alert.time * 1000).into());
    put(&mut out, "decoder", alert.decoder.as_deref());
    put(&mut out, "action", fields.action.as_deref());
    put(&mut out, "protocol", fields.protocol.as_deref());
    put(&mut out, "srcip", fields.srcip.as_deref());
    put(&mut out, "srcport", fields.srcport.as_deref());
    put(&mut out, "srcuser", fields.srcuser.as_deref());
    put(&mut out, "dstip", fields.dstip.as_deref());
    put(&mut out, "dstport", fields.dstport.as_deref());
    put(&mut out, "dstuser", fields.dstuser.as_deref());
    put(&mut out, "location", Some(&location));
    put(&mut out, "full_log", Some(&alert.full_log));
    if !alert.previous.is_empty() {
        put(&mut out, "previous_output", Some(&alert.previous.join("\n")));
    }
    if let Some(file) = file(alert) {
        out.insert("SyscheckFile".into(), file.into());
    }
    put(&mut out, "hostname", Some(&alert.host()));
    put(&mut out, "program_name", fields.program.as_deref());
    put(&mut out, "status", fields.status.as_deref());
    put(&mut out, "url", fields.url.as_deref());
    put(&mut out, "data", fields.data.as_deref());
    put(&mut out, "systemname", fields.system.as_deref());
    for (name, value) in &fields.others {
        if !out.contains_key(name) {
            put(&mut out, name, Some(value));
        }
    }
    if let Some(decoder) = &alert.decoder {
        let mut description = Object::new();
        put(&mut description, "name", Some(decoder));
        out.insert("decoder_desc".into(), description.into());
    }
    match &alert.agent {
        Some((name, address)) => {
            put(&mut out, "agent_name", Some(name));
            put(&mut out, "agentip", Some(address));
        }
        None => put(&mut out, "agent_name", Some(&alert.manager)),
    }
    put(&mut out, "timestamp", Some(&stamp(&alert.local)));
    put(&mut out, "logfile", Some(&alert.source));
    out
}

fn rule(alert: &Alert) -> Object {
    let mut rule = Object::new();
    if alert.level > 0 {
        rule.insert("level".into(), alert.level.into());
    }
    put(&mut rule, "comment", Some(&alert.description));
    rule.insert("sidid".into(), alert.rule.into());
    if alert.fired_times > 0 {
        rule.insert("firedtimes".into(), alert.fired_times.into());
    }
    put(&mut rule, "group", Some(&alert.groups));
    let groups = || alert.groups.split(',').filter(|group| !group.is_empty());
    let is_norm = |group: &&str| group.starts_with("pci_dss_") || group.starts_with("cis_");
    rule.insert("groups".into(), groups().filter(|group| !is_norm(group)).collect::<Vec<_>>().into());
    for (key, prefix) in [("PCI_DSS", "pci_dss_"), ("CIS", "cis_")] {
        let of: Vec<_> = groups().filter_map(|group| group.strip_prefix(prefix)).collect();
        if !of.is_empty() {
            rule.insert(key.into(), of.into());
        }
    }
    rule
}

fn file(alert: &Alert) -> Option<Object> {
    let change = alert.file.as_ref()?;
    let (before, after) = (&change.before, &change.after);
    let mut file = Object::new();
    put(&mut file, "path", Some(&change.path));
    let mut pair = |name: &str, old: Option<String>, new: Option<String>| {
        put(&mut file, &format!("{name}_before"), old.as_deref());
        put(&mut file, &format!("{name}_after"), new.as_deref());
    };
    pair("md5", before.md5.clone(), after.md5.clone());
    pair("sha1", before.sha1.clone(), after.sha1.clone());
    pair("sha256", before.sha256.clone(), after.sha256.clone());
    // The others are there where they differ.
    let number = |old: Option<u32>, new: Option<u32>| {
        if old == new || old.is_none() {
            (None, None)
        } else {
            (old.map(|n| n.to_string()), new.map(|n| n.to_string()))
        }
    };
    let (old, new) = number(before.uid, after.uid);
    pair("owner", old, new);
    let (old, new) = number(before.gid, after.gid);
    pair("gowner", old, new);
    if let (Some(old), Some(new)) = (before.mode, after.mode)
        && old != new
    {
        pair("perm", Some(format!("{old:o}")), Some(format!("{new:o}")));
    }
    Some(file)
}

fn put(object: &mut Object, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        object.insert(key.to_owned(), value.into());
    }
}
