//! Decoders by examples of our own; the real program's answers are in `tests/decoders.rs`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tally_types::Timestamp;

use super::*;

const FILE: &str = r#"
<decoder name="door"><program_name>^door</program_name></decoder>
<decoder name="door-open">
  <parent>door</parent>
  <prematch>^open </prematch>
  <regex offset="after_prematch">^by (\w+) at (\d+)</regex>
  <order>user, id</order>
  <fts>name, user</fts>
</decoder>
<decoder name="door-keys">
  <parent>door</parent>
  <use_own_name>true</use_own_name>
  <prematch>^keys</prematch>
  <regex>a=(\S+)</regex>
  <order>status</order>
</decoder>
<decoder name="door-keys">
  <parent>door</parent>
  <regex offset="after_regex">b=(\S+)</regex>
  <order>shade</order>
</decoder>
<decoder name="json">
  <type>web-log</type>
  <prematch>^event </prematch>
  <plugin_decoder>JSON_Decoder</plugin_decoder>
</decoder>
<decoder name="pair">
  <prematch_pcre2>^pair\d</prematch_pcre2>
  <pcre2 offset="after_prematch">^: (\w+) (\w+)</pcre2>
  <order>id, srcuser</order>
  <accumulate/>
</decoder>
"#;

fn load(text: &str) -> (Decoders, Vec<String>) {
    let (decoders, faults) = Decoders::load(&[("d.xml", text)]);
    (decoders, faults.iter().map(ToString::to_string).collect())
}

type Fields = BTreeMap<String, String>;

fn read(decoders: &Decoders, state: &mut DecodeState, line: &[u8], seconds: i64) -> (Option<String>, Fields) {
    let location: Arc<str> = "/var/log/x".into();
    let mut decoded = Decoded::default();
    let raw = Raw { text: line, location: &location, host: "tally", now: Timestamp::from_secs(seconds) };
    decoders.decode(&raw, state, &mut decoded);
    decoders.accumulate(state, &mut decoded);
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fixed = decoded.fields().map(|(field, value)| (field.name().to_owned(), text(value)));
    let dynamic = decoded.dynamic_fields().map(|(name, value)| (name.to_string(), text(value)));
    (decoded.decoder.as_ref().map(|decoder| decoder.name.to_string()), fixed.chain(dynamic).collect())
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn names_and_cuts_lines() {
    let (decoders, faults) = load(FILE);
    assert_eq!(faults, Vec::<String>::new());
    let mut state = DecodeState::default();
    for (line, name, expected) in [
        ("Feb  3 01:02:03 h door[3]: open by ann at 12", "door", &[("dstuser", "ann"), ("id", "12")][..]),
        ("Feb  3 01:02:03 h door[3]: open wide", "door", &[]),
        ("Feb  3 01:02:03 h door[3]: shut", "door", &[]),
        ("Feb  3 01:02:03 h doors: keys a=1 b=2", "door", &[("status", "1"), ("shade", "2")]),
        ("Feb  3 01:02:03 h doors: keys b=2", "door", &[("shade", "2")]),
        ("Feb  3 01:02:03 h doors: keys a=1", "door-keys", &[("status", "1")]),
        ("Feb  3 01:02:03 h wall: open by ann at 12", "", &[]),
        ("open by ann at 12", "", &[]),
        (
            r#"event {"srcip":"192.0.2.1","a":{"b":1,"c":"x\u00e9\"y"},"d":[1,"2"],"e":[{"f":true}]}"#,
            "json",
            &[("srcip", "192.0.2.1"), ("a.b", "1"), ("a.c", "xé\"y"), ("d", "1,2"), ("e.0.f", "true")],
        ),
        (r#"event {"a":1,"b":tru"#, "json", &[("a", "1")]),
        ("event nothing", "json", &[]),
    ] {
        let (found, found_fields) = read(&decoders, &mut state, line.as_bytes(), 0);
        assert_eq!((found.unwrap_or_default(), found_fields), (name.to_owned(), fields(expected)), "{line}");
    }
    assert_eq!(decoders.id("door"), Some(DecoderId(0)));
    assert_eq!(decoders.id("json"), Some(DecoderId(4)));
    assert_eq!(decoders.id("rootcheck"), Some(DecoderId(6)));
    assert_eq!(decoders.id("wall"), None);
}

/// One byte must not hide a line from the decoders, as it does in OSSEC.
#[test]
fn reads_lines_that_are_no_utf_8() {
    let (decoders, _) = load(FILE);
    let line = b"Feb  3 01:02:03 h door[3]: open by ann at 12 \xFF";
    let found = read(&decoders, &mut DecodeState::default(), line, 0);
    assert_eq!(found, (Some("door".to_owned()), fields(&[("dstuser", "ann"), ("id", "12")])));
}

#[test]
fn joins_lines_of_one_thing() {
    let (decoders, faults) = load(&format!(
        "{FILE}{}",
        r#"
<decoder name="join"><program_name>^join$</program_name><accumulate/></decoder>
<decoder name="join-a">
  <parent>join</parent><prematch>^from</prematch><regex>(\d+) (\S+)$</regex><order>id, srcip</order><accumulate/>
</decoder>
<decoder name="join-b">
  <parent>join</parent><prematch>^user</prematch><regex>(\d+) (\S+)$</regex><order>id, user</order><accumulate/>
</decoder>"#
    ));
    assert_eq!(faults, Vec::<String>::new());
    let mut state = DecodeState::default();
    let mut at = |line: &str, seconds| {
        read(&decoders, &mut state, format!("Feb  3 01:02:03 h join: {line}").as_bytes(), seconds).1
    };
    assert_eq!(at("from 7 192.0.2.1", 0), fields(&[("id", "7"), ("srcip", "192.0.2.1")]));
    assert_eq!(at("user 7 ann", 100), fields(&[("id", "7"), ("srcip", "192.0.2.1"), ("dstuser", "ann")]));
    assert_eq!(at("user 8 ben", 100), fields(&[("id", "8"), ("dstuser", "ben")]));
    assert_eq!(at("from 7 192.0.2.9", 200), fields(&[("id", "7"), ("srcip", "192.0.2.9"), ("dstuser", "ann")]));
    assert_eq!(at("user 7 eve", 321), fields(&[("id", "7"), ("dstuser", "eve")]));
}

#[test]
fn reads_what_plugins_read() {
    let file: String = Plugin::ALL.iter().map(|plugin| {
        let name = plugin.name();
        format!("<decoder name=\"{name}\"><prematch>^{name}:</prematch><plugin_decoder>{name}</plugin_decoder></decoder>")
    }).collect();
    let (decoders, faults) = load(&file.replace("^OSSECAlert_Decoder:", "^Alert Level"));
    assert_eq!(faults, Vec::<String>::new());
    let mut state = DecodeState::default();
    for (line, expected) in [
        (
            "PF_Decoder: rule 1/(match) block in on em0: 192.0.2.1.4242 > 192.0.2.2.80: udp 32",
            &[
                ("action", "block"),
                ("srcip", "192.0.2.1"),
                ("srcport", "4242"),
                ("dstip", "192.0.2.2"),
                ("dstport", "80"),
                ("protocol", "UDP"),
            ][..],
        ),
        (
            "SymantecWS_Decoder: x,10=ann,11=192.0.2.1,60=http://a/,10=eve",
            &[("dstuser", "ann"), ("srcip", "192.0.2.1"), ("url", "http://a/")],
        ),
        (
            "SonicWall_Decoder: pri=1 c=4 m=36 src=192.0.2.1:5:X0 dst=192.0.2.2:80:X1 proto=tcp/80",
            &[
                ("status", "1"),
                ("id", "36"),
                ("srcip", "192.0.2.1"),
                ("srcport", "5"),
                ("dstip", "192.0.2.2"),
                ("dstport", "80"),
                ("protocol", "tcp"),
                ("action", "drop"),
            ],
        ),
        (
            "Alert Level: 5; Rule: 1002 - Text; Location: h->/l; srcip: 192.0.2.1; user: ann;  the line",
            &[("srcip", "192.0.2.1"), ("dstuser", "ann")],
        ),
        ("Alert Level: 5; Rule: x", &[]),
    ] {
        assert_eq!(read(&decoders, &mut state, line.as_bytes(), 0).1, fields(expected), "{line}");
    }
}

#[test]
fn tells_every_fault() {
    let (decoders, faults) = load(
        r#"<decoder name="a"><prematch>^x</prematch><regex>(a)</regex></decoder>
<decoder name="b"><prematch>^x</prematch><order>id</order></decoder>
<decoder name="c"><regex>(a)</regex><order>id,</order></decoder>
<decoder name="d"><parent>nobody</parent><prematch>x</prematch></decoder>
<decoder name="e"><prematch offset="after_regexp">\q</prematch><colour/></decoder>
<decoder id="f"><prematch>x</prematch></decoder>
<decoder name="g"><prematch>x</prematch><regex offset="after_parent">(a)</regex><order>id</order></decoder>
<decoder name="h"><prematch>x</prematch><TYPE>ids</TYPE><plugin_decoder>PF</plugin_decoder></decoder>
<decoder name="i"><prematch>x</prematch><regex>^abc$</regex><order>id</order></decoder>
<decoder name="j"><prematch>x</prematch><regex>(a)</regex><order>id</order><fts>colour</fts></decoder><decoder name="j"><prematch>x</prematch><type>mail</type></decoder>
<rule/>
<decoder name="k"></decoder>
<decoder name="ok"><prematch>^ok</prematch></decoder>
"#,
    );
    let expected = [
        "d.xml:1:2: decoder \"a\" has a regex but no order",
        "d.xml:2:2: decoder \"b\" has an order but no regex",
        "d.xml:3:2: decoder \"c\" has neither parent, program_name nor prematch: it would take every line",
        "d.xml:4:27: there is no decoder \"nobody\" without a parent before this one",
        "d.xml:5:37: unknown offset \"after_regexp\" (did you mean \"after_regex\"?)",
        "d.xml:5:65: unknown element \"colour\" in <decoder>",
        "d.xml:6:10: a decoder has a name and no other attribute: write <decoder name=\"sshd\">",
        "d.xml:7:56: decoder \"g\" has offset \"after_parent\" but no parent",
        "d.xml:8:42: unknown element \"TYPE\" in <decoder> (did you mean \"type\"?)",
        "d.xml:8:73: unknown plugin decoder \"PF\"",
        "d.xml:9:48: a regex that is an anchored text has no groups to fill fields from: write a prematch",
        "d.xml:10:81: unknown field \"colour\" in fts",
        "d.xml:10:149: unknown type \"mail\" of a decoder",
        "d.xml:11:2: unknown element \"rule\": a decoder file holds <decoder name=\"…\">",
        "d.xml:12:2: decoder \"k\" is empty",
    ];
    assert_eq!(faults, expected);
    assert_eq!(decoders.infos().map(|info| &*info.name).collect::<Vec<_>>(), ["ok"]);
}

proptest! {
    #[test]
    fn no_file_panics(text in r#"(<decoder name="[ab]">|</decoder>|<(parent|prematch|regex|order|fts|pcre2)( offset="after_[a-z]{1,8}")?>|[ab(),\\|^]{0,4}|</(parent|prematch|regex|order|fts|pcre2)>){0,20}"#, line in ".{0,40}") {
        let (decoders, _) = load(&text);
        read(&decoders, &mut DecodeState::default(), line.as_bytes(), 0);
    }

    #[test]
    fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..80), nth in 0usize..12, cut in 0usize..90) {
        let starts = [
            "event {", "event {\"a\":[", "PF_Decoder:) p", "SonicWall_Decoder: pri=1 c=4 m=97 src=1.1.1.1:5:X dst=1.1.1.1:8:",
            "Alert Level: 1; Rule: 5; Location: x;", "SymantecWS_Decoder:,10=", "Feb  3 01:02:03 h door[3]: open by ann at 12",
            "Feb  3 01:02:03 h auth|a:b x[5]", "[Time 2021.02.03 01:02:03 UTC] [Host ", "pair1: a b", "", "event {\"\\u",
        ];
        let plugins: String = Plugin::ALL.iter().map(|plugin| plugin.name()).map(|name| {
            format!("<decoder name=\"{name}\"><prematch>^{name}|^Alert</prematch><plugin_decoder>{name}</plugin_decoder></decoder>")
        }).collect();
        let (decoders, _) = load(&format!("{FILE}{plugins}"));
        let mut text = starts[nth].as_bytes().to_vec();
        text.extend(line);
        text.truncate(cut);
        read(&decoders, &mut DecodeState::default(), &text, 0);
    }
}
