//! Every element of OSSEC's files is read or told of, whatever else is in them.

use super::*;

fn parse(text: &str) -> (OssecConf, Vec<String>) {
    let (conf, findings) = OssecConf::parse(text, "ossec.conf");
    (conf, findings.0.iter().map(ToString::to_string).collect())
}

#[test]
fn every_element_of_the_tables_is_known_and_no_other() {
    for (section, names) in SECTIONS.map(|section| (section, elements(section))) {
        assert!(!names.is_empty(), "{section}");
        for name in names {
            let (_, faults) = parse(&format!("<ossec_config><{section}><{name}>1</{name}></{section}></ossec_config>"));
            assert!(!faults.iter().any(|fault| fault.contains("unknown element")), "{section}: {faults:?}");
            // A word that is nearly right is told with the right one.
            let wrong = format!("{name}x");
            let (_, faults) =
                parse(&format!("<ossec_config>\n<{section}><{wrong}>1</{wrong}></{section}></ossec_config>"));
            let column = section.len() + 4;
            let told = format!("ossec.conf:2:{column}: warning: unknown element in <{section}>: \"{wrong}\"");
            assert!(faults.iter().any(|fault| fault.starts_with(&told) && fault.contains(name)), "{told} {faults:?}");
        }
    }
}

#[test]
fn sections_and_roots_add_up() {
    let (conf, faults) = parse(
        "<ossec_config><syscheck><frequency>600</frequency><directories check_all='yes'>/etc/, /bin</directories></syscheck>\
         </ossec_config><!-- x -->\n<ossec_config>\n<syscheck><directories check_size=\"yes\" realtime=\"yes\" restrict='.x$'>/srv\
         </directories><frequency>7200</frequency><ignore>/etc/mtab</ignore><ignore type=\"sregex\">.log$|.tmp</ignore></syscheck>\
         <rules><include>a.xml</include></rules><rules><rule>b/c.xml</rule><rule_dir pattern='x'>d</rule_dir></rules></ossec_config>",
    );
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(conf.syscheck.frequency, Some(At { value: 7200, line: 2 + 1 }));
    let [first, second] = &conf.syscheck.directories[..] else { panic!("{conf:?}") };
    assert_eq!(first.paths, ["/etc", "/bin"]);
    assert!(first.md5 && first.sha256 && first.perm && !first.realtime);
    assert!(second.size && !second.perm && second.realtime && second.restrict.as_deref() == Some(".x$"));
    assert_eq!(conf.syscheck.ignore[1].value, PathPattern::Match(".log$|.tmp".into()));
    let sources: Vec<_> = conf.rules.sources.iter().map(|source| source.value.clone()).collect();
    let expected = [
        RuleSource::Rule("a.xml".into()),
        RuleSource::Rule("b/c.xml".into()),
        RuleSource::RuleDir("d".into(), Some("x".into())),
    ];
    assert_eq!(sources, expected);
    assert_eq!(conf.present, ["syscheck", "rules"]);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let cases = [
        (
            "<osec_config/>",
            "1:2: warning: unknown element at the top \"osec_config\" (did you mean \"ossec_config\"?); it has no effect",
        ),
        (
            "<ossec_config><sysceck/></ossec_config>",
            "1:16: warning: unknown section \"sysceck\" (did you mean \"syscheck\"?); it has no effect",
        ),
        (
            "<ossec_config><syscheck><directories chek_all='yes' check_size='yes'>/a</directories></syscheck></ossec_config>",
            "1:38: warning: unknown attribute of <directories>: \"chek_all\" (did you mean \"check_all\"?); it has no effect",
        ),
        (
            "<ossec_config><syscheck><frequency>2h</frequency></syscheck></ossec_config>",
            "1:36: <frequency> is a whole number from 1 to 4294967295, not \"2h\"",
        ),
        (
            "<ossec_config><global><logall>Yes</logall></global></ossec_config>",
            "1:31: <logall> is yes or no, not \"Yes\"",
        ),
        (
            "<ossec_config><localfile><location>/a</location><log_format>sysloq</log_format></localfile></ossec_config>",
            "1:61: unknown log_format \"sysloq\" (did you mean \"syslog\"?)",
        ),
        (
            "<ossec_config><remote><port>1</port></remote></ossec_config>",
            "1:16: <remote> needs a <connection>, secure or syslog",
        ),
        (
            "<ossec_config><syscheck><directories realtime='no'>/a</directories></syscheck></ossec_config>",
            "1:26: <directories> says of nothing that it is to be checked: check_all=\"yes\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            parse(text).1.first().map(String::as_str),
            Some(format!("ossec.conf:{expected}").as_str()),
            "{text}"
        );
    }
}

#[test]
fn an_agent_conf_has_its_selectors() {
    let text = "<agent_config name=\"web1|web2\" os='Linux'>\n<localfile><location>/a</location><log_format>multi-line:3\
                </log_format></localfile><global/></agent_config><agent_config profile=\"db\" overwrite=\"yes\"></agent_config>";
    let (configs, findings) = AgentConfig::parse(text, "agent.conf");
    assert_eq!(configs.len(), 2);
    assert_eq!((configs[0].name.as_deref(), configs[0].os.as_deref()), (Some("web1|web2"), Some("Linux")));
    assert_eq!(configs[0].conf.localfiles[0].format, LogFormat::MultiLine(3));
    assert!(configs[1].overwrite);
    let expected = "agent.conf:2:85: warning: <global> has no effect in an agent.conf, which may hold syscheck, rootcheck, localfile";
    assert_eq!(findings.0.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn the_kind_of_a_text_is_known() {
    assert_eq!(kind("<!-- <x> --> \n<!-- y -->\n<ossec_config>"), Some(Kind::OssecConf));
    assert_eq!(kind("\u{feff}<?xml version='1.0'?>\n<agent_config os='x'>"), Some(Kind::AgentConf));
    assert_eq!(kind("# <x>\nlisten = 1"), None);
    assert_eq!(kind(""), None);
}

/// The files that OSSEC ships are read without a word of complaint.
#[test]
fn shipped_files_have_no_findings() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/conf");
    if !dir.is_dir() {
        println!("skipped: no conformance data");
        return;
    }
    for name in ["ossec.conf", "ossec-server.conf", "ossec-agent.conf", "ossec-local.conf"] {
        let text = std::fs::read_to_string(dir.join(name)).expect("the data is there");
        let (conf, findings) = OssecConf::parse(&text, name);
        assert_eq!(findings.0.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        assert!(!conf.syscheck.directories.is_empty() && !conf.localfiles.is_empty(), "{name}");
        assert_eq!(kind(&text), Some(Kind::OssecConf));
    }
}

proptest::proptest! {
    /// Whatever became of a file, reading it ends, and what is found has a place in it.
    #[test]
    fn altered_files_are_read_to_their_end(cuts in proptest::collection::vec((0usize..900, 0u8..=255), 0..8)) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for (at, byte) in cuts {
            let at = at % bytes.len();
            if byte < 64 { bytes.truncate(at.max(1)); } else { bytes[at] = byte; }
        }
        let text = String::from_utf8_lossy(&bytes);
        let (_, findings) = OssecConf::parse(&text, "f");
        let lines = text.lines().count().max(1) + 1;
        proptest::prop_assert!(findings.0.iter().all(|f| f.diagnostic.line as usize <= lines));
        AgentConfig::parse(&text, "f");
        kind(&text);
    }
}

const SAMPLE: &str = "<ossec_config><global><email_to>a@b</email_to><white_list>::1</white_list></global>\n\
    <rules><include>a.xml</include><decoder_dir pattern=\"x\">d</decoder_dir></rules>\n\
    <syscheck><directories check_all=\"yes\" restrict='.c$'>/etc,/bin</directories><nodiff type=\"sregex\">.key$</nodiff></syscheck>\n\
    <localfile><log_format>multi-line:2</log_format><location>/var/log/%Y.log</location></localfile>\n\
    <remote><connection>syslog</connection><allowed-ips>10.0.0.0/8</allowed-ips></remote>\n\
    <command><name>a</name><executable>b</executable><expect>srcip, user</expect></command>\n\
    <active-response><command>a</command><location>local,server</location><rules_id>1,2</rules_id></active-response>\n\
    <!-- c --><agentless><type>t</type><host>u@h</host></agentless></ossec_config>\n";
