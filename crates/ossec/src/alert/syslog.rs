//! The lines of OSSEC's syslog output: `default`, `cef`, `json`, `splunk`.

use serde_json::{Map, Value};

use super::{Alert, one_line};

/// `<format>` of `<syslog_output>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syslog {
    #[default]
    Default,
    Cef,
    Json,
    Splunk,
}

impl Syslog {
    pub const ALL: [Self; 4] = [Self::Default, Self::Cef, Self::Json, Self::Splunk];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Cef => "cef",
            Self::Json => "json",
            Self::Splunk => "splunk",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Facility local0, severity warning: what OSSEC sends.
const PRIORITY: &str = "<132>";

/// One message, without an end. `version` is what CEF names as the product's.
pub fn syslog(alert: &Alert, format: Syslog, version: &str) -> String {
    let stamp = alert.local.syslog();
    let head = format!("{PRIORITY}{stamp} {} ossec:", one_line(&alert.manager));
    match format {
        Syslog::Default => format!("{head} {}", plain(alert)),
        Syslog::Json => format!("{head} {}", json(alert)),
        Syslog::Splunk => format!("{head} {}", splunk(alert)),
        Syslog::Cef => format!("{PRIORITY}{stamp} {}", cef(alert, version)),
    }
}

fn plain(alert: &Alert) -> String {
    let mut out = format!(
        "Alert Level: {}; Rule: {} - {}; Location: {}; classification:  {};",
        alert.level,
        alert.rule,
        one_line(&alert.description),
        one_line(&alert.location()),
        one_line(&alert.groups)
    );
    let fields = &alert.fields;
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!(" {name}: {};", one_line(&value)));
        }
    };
    add("srcip", fields.srcip.clone());
    add("dstip", fields.dstip.clone());
    add("user", fields.dstuser.clone());
    if let Some(file) = &alert.file {
        let (before, after) = (&file.before, &file.after);
        add("Previous MD5", before.md5.clone());
        add("Current MD5", after.md5.clone());
        add("Previous SHA1", before.sha1.clone());
        add("Current SHA1", after.sha1.clone());
        let changed = |old: Option<String>, new: Option<String>, word: &str| match (old, new) {
            (Some(old), Some(new)) if old != new => Some(format!("{word}{old} to {new}")),
            _ => None,
        };
        let text = |number: Option<u64>| number.map(|number| number.to_string());
        add("Size changed", changed(text(before.size), text(after.size), "from "));
        let id = |number: Option<u32>| number.map(|number| number.to_string());
        add("User ownership", changed(id(before.uid), id(after.uid), "was "));
        add("Group ownership", changed(id(before.gid), id(after.gid), "was "));
        let mode = |mode: Option<u32>| mode.map(super::of_change::permissions);
        add("Permissions changed", changed(mode(before.mode), mode(after.mode), "from "));
    }
    out.push(' ');
    out.push_str(&one_line(&alert.full_log));
    out
}

fn json(alert: &Alert) -> String {
    let mut out = Map::new();
    let fields = &alert.fields;
    let mut put = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            out.insert(key.to_owned(), Value::from(value));
        }
    };
    let location = alert.location();
    put("component", Some(&location));
    put("classification", Some(&alert.groups));
    put("description", Some(&alert.description));
    put("message", Some(&alert.full_log));
    put("acct", fields.dstuser.as_deref());
    put("src_ip", fields.srcip.as_deref());
    put("src_port", fields.srcport.as_deref());
    put("dst_ip", fields.dstip.as_deref());
    put("dst_port", fields.dstport.as_deref());
    if let Some(file) = &alert.file {
        put("file", Some(&file.path));
        put("md5_old", file.before.md5.as_deref());
        put("md5_new", file.after.md5.as_deref());
        put("sha1_old", file.before.sha1.as_deref());
        put("sha1_new", file.after.sha1.as_deref());
    }
    let mut first = Map::new();
    first.insert("crit".into(), alert.level.into());
    first.insert("id".into(), alert.rule.into());
    first.append(&mut out);
    Value::from(first).to_string()
}

fn splunk(alert: &Alert) -> String {
    // What stands between quotation marks cannot hold one.
    let quoted = |text: &str| one_line(text).replace('"', "'");
    let fields = &alert.fields;
    let mut out = format!(
        "crit={} id={} description=\"{}\" component=\"{}\", classification=\"{}\",",
        alert.level,
        alert.rule,
        quoted(&alert.description),
        quoted(&alert.location()),
        quoted(&alert.groups)
    );
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            out.push_str(&format!(" {name}=\"{}\",", quoted(value)));
        }
    };
    add("src_ip", fields.srcip.as_deref());
    add("src_port", fields.srcport.as_deref());
    add("dst_ip", fields.dstip.as_deref());
    add("dst_port", fields.dstport.as_deref());
    add("acct", fields.dstuser.as_deref());
    if let Some(file) = &alert.file {
        add("file", Some(&file.path));
        add("md5_old", file.before.md5.as_deref());
        add("md5_new", file.after.md5.as_deref());
        add("sha1_old", file.before.sha1.as_deref());
        add("sha1_new", file.after.sha1.as_deref());
    }
    out.push_str(&format!(" message=\"{}\"", quoted(&alert.full_log)));
    out
}

fn cef(alert: &Alert, version: &str) -> String {
    let header = |text: &str| one_line(text).replace('\\', "\\\\").replace('|', "\\|");
    let value = |text: &str| one_line(text).replace('\\', "\\\\").replace('=', "\\=");
    let mut out = format!(
        "CEF:0|Tallystick|Tallystick|{}|{}|{}|{}|dvc={} cs1Label=Location cs1={} classification={}",
        header(version),
        alert.rule,
        header(&alert.description),
        alert.level.min(10),
        value(&alert.manager),
        value(&alert.location()),
        value(&alert.groups)
    );
    let fields = &alert.fields;
    let mut add = |name: &str, text: Option<&str>| {
        if let Some(text) = text {
            out.push_str(&format!(" {name}={}", value(text)));
        }
    };
    add("src", fields.srcip.as_deref());
    add("dpt", fields.dstport.as_deref());
    add("spt", fields.srcport.as_deref());
    add("fname", alert.file.as_ref().map(|file| &*file.path));
    add("dhost", alert.hostname.as_deref());
    add("suser", fields.srcuser.as_deref());
    add("dst", fields.dstip.as_deref());
    add("duser", fields.dstuser.as_deref());
    if let Some(file) = &alert.file {
        if let Some(md5) = &file.before.md5 {
            add("cs2Label", Some("OldMD5"));
            add("cs2", Some(md5));
        }
        if let Some(md5) = &file.after.md5 {
            add("cs3Label", Some("NewMD5"));
            add("cs3", Some(md5));
        }
        add("oldFileHash", file.before.sha1.as_deref());
        add("fhash", file.after.sha1.as_deref());
        add("fileHash", file.after.sha256.as_deref());
    }
    add("msg", Some(&alert.full_log));
    out
}
