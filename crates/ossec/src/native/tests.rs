//! What OSSEC's configuration becomes, and that nothing of it is left out unsaid.

use super::*;
use crate::conf::{OssecConf, SECTIONS};

fn conf(body: &str) -> OssecConf {
    let (conf, findings) = OssecConf::parse(&format!("<ossec_config>\n{body}\n</ossec_config>"), "ossec.conf");
    assert_eq!(findings.0.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    conf
}

/// An installation with all the files that OSSEC knows.
const HOME: Home<'_> = Home { dir: "/var/ossec", is_there: &|_| true };

/// The text without the first line, which names the file.
fn body(translation: &Translation) -> &str {
    translation.text.split_once('\n').expect("a first line").1
}

#[test]
fn syscheck_becomes_watches() {
    let translated = agent(
        &conf(
            "<syscheck><frequency>72000</frequency>\n\
             <directories check_all=\"yes\" report_changes=\"yes\">/etc,/srv/*/conf</directories>\n\
             <directories check_md5sum='yes' check_perm='yes' no_recurse='yes' restrict='.sh$'>/opt</directories>\n\
             <ignore>/etc/mtab</ignore><ignore type='sregex'>.log$|^/etc/tmp</ignore>\n\
             <nodiff>/etc/ssl/private.key</nodiff></syscheck>",
        ),
        "ossec.conf",
    );
    let expected = r#"exclude = ["/etc/mtab*", "*.log", "/etc/tmp*"]

[agent]
scan_interval = "20h"

[[watch]]
path = ["/etc", "/srv/*/conf"]
attributes = [
  "size",
  "mode",
  "owner",
  "group",
  "content",
  "target",
  "device",
  "flags",
  "acl",
  "capabilities",
  "label",
  "xattrs",
]
digests = ["sha256", "sha1", "md5"]
diff = true
why = "ossec.conf:3"

[[watch]]
path = ["/etc/ssl/private.key*"]
attributes = [
  "size",
  "mode",
  "owner",
  "group",
  "content",
  "target",
  "device",
  "flags",
  "acl",
  "capabilities",
  "label",
  "xattrs",
]
digests = ["sha256", "sha1", "md5"]
why = "ossec.conf:3"

[[watch]]
path = ["/opt/*.sh"]
attributes = ["mode", "content", "target"]
digests = ["sha256", "md5"]
recursion = 1
why = "ossec.conf:4"
"#;
    assert_eq!(body(&translated), expected);
    assert!(translated.notes.iter().all(|note| note.fate == Fate::Translated), "{:?}", translated.notes);
}

#[test]
fn an_agents_other_sections() {
    let translated = agent(
        &conf(
            "<client><server-ip>10.1.1.1</server-ip><server-ip>10.1.1.2</server-ip><port>1600</port></client>\n\
             <localfile><log_format>command</log_format><command>df -P</command><frequency>60</frequency></localfile>\n\
             <localfile><log_format>multi-line:3</log_format><location>/var/log/\"a\"</location></localfile>\n\
             <rootcheck><rootkit_files>/x/f.txt</rootkit_files><check_dev>no</check_dev></rootcheck>",
        ),
        "ossec.conf",
    );
    let expected = r#"
[agent]
manager = "10.1.1.1:1600"

[[collect]]
command = "df -P"
format = "command"
every = "60s"

[[collect]]
path = "/var/log/\"a\""
format = "multi-line"
lines = 3
"#;
    assert_eq!(body(&translated), expected);
    let left: Vec<_> =
        translated.notes.iter().filter(|note| note.fate == Fate::Left).map(ToString::to_string).collect();
    let expected = [
        "2: <client/server-ip> left: an agent has one manager; it keeps its events until that answers",
        "5: <rootcheck/rootkit_files> left: not done yet: no check for rootkits or of policies is run",
    ];
    assert_eq!(left, expected);
}

#[test]
fn local_decoders_are_named_where_a_site_has_them() {
    let conf = conf("<rules><include>sshd_rules.xml</include></rules>");
    for (is_there, named) in [(true, true), (false, false)] {
        let home = Home { is_there: &|name| name != "etc/local_decoder.xml" || is_there, ..HOME };
        let text = manager(&conf, &home, "ossec.conf").text;
        assert!(text.contains("\"/var/ossec/etc/decoder.xml\""), "{text}");
        assert_eq!(text.contains("local_decoder.xml"), named, "{text}");
    }
}

#[test]
fn a_managers_sections() {
    let translated = manager(
        &conf(
            "<global><email_notification>yes</email_notification><email_to>a@b</email_to><smtp_server>mx</smtp_server>\
             <white_list>127.0.0.1</white_list><jsonout_output>yes</jsonout_output></global>\n\
             <rules><include>sshd_rules.xml</include><list>rules/lists/bad.cdb</list><rule_dir>etc/site</rule_dir></rules>\n\
             <remote><connection>secure</connection><crypto_accept>blowfish</crypto_accept></remote>\n\
             <remote><connection>syslog</connection><protocol>tcp</protocol><allowed-ips>10.0.0.0/8</allowed-ips></remote>\n\
             <alerts><log_alert_level>2</log_alert_level><email_alert_level>9</email_alert_level></alerts>\n\
             <command><name>drop</name><executable>drop.sh</executable><expect>srcip</expect></command>\n\
             <active-response><command>drop</command><location>local</location><level>7</level><timeout>600</timeout></active-response>\n\
             <syslog_output><server>10.2.2.2</server><format>cef</format></syslog_output>",
        ),
        &Home { dir: "/var/ossec/", ..HOME },
        "ossec.conf",
    );
    let expected = r#"alert_level = 2
listen = "[::]:1514"

[ossec]
dir = "/var/ossec"
ciphers = "blowfish"

[[syslog]]
listen = "[::]:514"
transport = "tcp"
allow = ["10.0.0.0/8"]

[analysis]
decoders = ["/var/ossec/etc/decoder.xml", "/var/ossec/etc/local_decoder.xml"]
rules = ["/var/ossec/rules/sshd_rules.xml", "/var/ossec/etc/site/*.xml"]
lists = ["/var/ossec/rules/lists/bad"]

[alerts_log]
text = true
json = true

[mail]
enabled = true
to = ["a@b"]
server = "mx"
level = 9

[[forward]]
server = "10.2.2.2:514"
transport = "udp"
format = "cef"

[[command]]
name = "drop"
program = "/var/ossec/active-response/bin/drop.sh"
expect = ["srcip"]
timeout_allowed = false

[responses]
never = ["127.0.0.1"]

[[response]]
command = "drop"
on = ["local"]
level = 7
timeout_s = 600
"#;
    assert_eq!(body(&translated), expected);
}

/// Whatever an element is, what became of it is told by one of the two programs, or it stands in a section that has a note.
#[test]
fn no_element_is_left_out_unsaid() {
    let values =
        ["yes", "10", "/a", "default", "secure", "periodic", "aes", "local", "udp", "mysql", "8192", "syslog", "srcip"];
    let (mut told, mut unsaid) = (0, Vec::new());
    for (section, needed, names) in samples() {
        for name in names {
            let attribute = if name == "directories" { " check_all='yes'" } else { "" };
            let value = values.into_iter().find(|value| {
                let text = format!(
                    "<ossec_config><{section}>{needed}<{name}{attribute}>{value}</{name}></{section}></ossec_config>"
                );
                OssecConf::parse(&text, "f").1.0.is_empty()
            });
            let value = value.unwrap_or_else(|| panic!("no value fits {section}/{name}"));
            let conf = conf(&format!("<{section}>\n{needed}\n<{name}{attribute}>{value}</{name}></{section}>"));
            let notes = [agent(&conf, "f").notes, manager(&conf, &HOME, "f").notes].concat();
            let is_item =
                notes.iter().any(|note| note.element == section && note.line == 2 && note.fate != Fate::Elsewhere);
            let own = notes.iter().any(|note| note.line == 4 && note.element.starts_with(section));
            if !(is_item || own) {
                unsaid.push(format!("{section}/{name}"));
            }
            told += 1;
        }
    }
    assert_eq!(unsaid, Vec::<String>::new());
    assert!(told > 100, "{told}");
}

/// Each section with what it needs, and its elements.
fn samples() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let needed = |section: &str| match section {
        "email_alerts" => "<email_to>a@b</email_to>",
        "remote" => "<connection>syslog</connection>",
        "command" => "<name>a</name><executable>b</executable><expect></expect>",
        "active-response" => "<command>a</command><location>local</location>",
        "agentless" => "<type>a</type><host>u@h</host>",
        "syslog_output" => "<server>h</server>",
        "localfile" => "<log_format>syslog</log_format><location>/a</location>",
        _ => "",
    };
    SECTIONS.into_iter().map(|section| (section, needed(section), crate::conf::elements(section).to_vec())).collect()
}

#[test]
fn shipped_files_are_translated_whole() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/conf");
    if !dir.is_dir() {
        println!("skipped: no conformance data");
        return;
    }
    for name in ["ossec.conf", "ossec-server.conf", "ossec-agent.conf", "ossec-local.conf"] {
        let text = std::fs::read_to_string(dir.join(name)).expect("the data is there");
        let (conf, _) = OssecConf::parse(&text, name);
        let left: Vec<_> = [agent(&conf, name).notes, manager(&conf, &HOME, name).notes]
            .concat()
            .into_iter()
            .filter(|note| note.fate == Fate::Left && !note.text.starts_with("not done yet"))
            .collect();
        assert_eq!(left, [], "{name}");
    }
}
