//! Lines read apart from each other, on several threads, and decided in their order, are what they are one by one; and a plan
//! finds what the whole walk finds.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::path::Path;
use std::sync::Arc;

use tally_rules::{Analysis, Lists, Outcome, ReadLine, Sources};
use tally_types::Timestamp;

const START: i64 = 1_795_000_000;
const THREADS: usize = 3;

/// Lines that count, that are new, that are ignored, one after the other.
const DECODERS: &str = r#"<decoder name="d"><program_name>^d</program_name></decoder>
<decoder name="e"><parent>d</parent><prematch>^from </prematch><regex offset="after_prematch">^(\S+) (\S+)</regex>
<order>user, srcip</order><fts>name, user</fts></decoder>
<decoder name="k"><program_name>^k</program_name><accumulate/></decoder>
<decoder name="k-id"><parent>k</parent><regex>^(\d+) (\S+)</regex><order>id, srcip</order><accumulate/></decoder>"#;

const RULES: &str = r#"<group name="g,"><rule id="100" level="3"><decoded_as>d</decoded_as></rule>
<rule id="101" level="5" ignore="2"><if_sid>100</if_sid><if_fts/></rule>
<rule id="102" level="9" frequency="1" timeframe="5"><if_matched_sid>100</if_matched_sid><same_source_ip/></rule>
<rule id="103" level="11"><if_sid>102, 101</if_sid><match>root</match></rule>
<rule id="104" level="4"><match>diff</match><check_diff/></rule>
<rule id="105" level="12" frequency="2"><if_matched_group>g</if_matched_group><if_sid>104</if_sid></rule>
<rule id="106" level="6"><decoded_as>k</decoded_as><srcip>10.0.0.0/8</srcip></rule>
<rule id="107" level="13"><if_sid>100, 101, 103</if_sid><match>root|toor</match><if_fts/></rule></group>"#;

fn own() -> (Analysis, Vec<Vec<u8>>) {
    let sources = Sources { decoders: vec![("d", DECODERS)], rules: vec![("r", RULES)], ..Sources::default() };
    let names = ["ann", "root", "toor", "bob"];
    let line = |n: usize| {
        let (name, host) = (names[n * 7 % 4], n * 5 % 3);
        match n % 5 {
            0 => format!("Feb  3 01:02:03 web7 k[1]: {} 10.0.0.{host}", n % 4),
            1 => format!("Feb  3 01:02:03 web7 d[1]: diff {}", n / 10),
            2 => format!("Feb  3 01:02:03 web7 k[1]: {} -", n % 4),
            _ => format!("Feb  3 01:02:03 web7 d[1]: from {name} 192.0.2.{host}"),
        }
    };
    (Analysis::load(&sources, "probe").unwrap(), (0..400).map(|n| line(n).into_bytes()).collect())
}

fn shipped() -> (Analysis, Vec<Vec<u8>>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rulesets/cases");
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts: Vec<String> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let logs = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once(" = "));
    let lines: Vec<Vec<u8>> = logs.filter(|(key, _)| key.starts_with("log")).map(|(_, log)| log.into()).collect();
    let sources = Sources::with_shipped(Vec::new(), Vec::new(), Vec::new(), Lists::default());
    // Twice, so that what was seen once is seen again.
    (Analysis::load(&sources, "probe").unwrap(), [lines.clone(), lines].concat())
}

/// OSSEC's own rules, where they are there.
fn conformance() -> Option<(Analysis, Vec<Vec<u8>>)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec");
    if !data.is_dir() {
        eprintln!("skipped: no conformance data");
        return None;
    }
    let read = |path: &str| std::fs::read_to_string(data.join(path)).unwrap();
    let (decoders, configuration) = (read("decoder.xml"), read("conf/ossec-server.conf"));
    let names =
        configuration.lines().filter_map(|line| line.trim().strip_prefix("<include>")?.strip_suffix("</include>"));
    let rules: Vec<_> = names.map(|name| (name, read(&format!("rules/{name}")))).collect();
    let sources = Sources {
        decoders: vec![("decoder.xml", &decoders)],
        rules: rules.iter().map(|(name, text)| (*name, &**text)).collect(),
        ..Sources::default()
    };
    let lines = std::fs::read(data.join("bench-logs.txt")).unwrap();
    let lines = lines.split(|byte| *byte == b'\n').take(6000).map(<[u8]>::to_vec).collect();
    Some((Analysis::load(&sources, "probe").unwrap(), lines))
}

type Answer = (Outcome, String);

fn now(place: usize) -> Timestamp {
    Timestamp::from_secs(START).plus_micros(i64::try_from(place).unwrap() * 300_000)
}

fn location() -> Arc<str> {
    "/var/log/x".into()
}

fn one_by_one(analysis: &mut Analysis, lines: &[Vec<u8>], traced: bool) -> Vec<Answer> {
    analysis.forget();
    let location = location();
    let answers = lines.iter().enumerate().map(|(place, line)| {
        let outcome = match traced {
            true => analysis.trace(line, &location, now(place)).0,
            false => analysis.line(line, &location, now(place)),
        };
        (outcome, format!("{:?}", analysis.decoded()))
    });
    answers.collect()
}

fn read_apart(analysis: &mut Analysis, lines: &[Vec<u8>]) -> Vec<Answer> {
    analysis.forget();
    let location = location();
    let mut read: Vec<ReadLine> = vec![ReadLine::default(); lines.len()];
    let share = lines.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        for (nth, (part, lines)) in read.chunks_mut(share).zip(lines.chunks(share)).enumerate() {
            let (mut reader, location) = (analysis.reader(), &location);
            scope.spawn(move || {
                for (place, (line, read)) in lines.iter().zip(part).enumerate() {
                    reader.read(line, location, now(nth * share + place), read);
                }
            });
        }
    });
    let decided = read.iter_mut().map(|line| {
        let outcome = analysis.decide(line);
        (outcome, format!("{:?}", line.decoded()))
    });
    decided.collect()
}

fn compare((mut analysis, lines): (Analysis, Vec<Vec<u8>>), rules_at_least: usize) {
    let plain = one_by_one(&mut analysis, &lines, false);
    let mut rules: Vec<_> =
        plain.iter().filter_map(|(outcome, _)| analysis.engine.rule(outcome)).map(|rule| rule.id()).collect();
    rules.sort_unstable();
    rules.dedup();
    assert!(rules.len() >= rules_at_least, "only {rules:?}");
    for (how, other) in
        [("in one walk", one_by_one(&mut analysis, &lines, true)), ("apart", read_apart(&mut analysis, &lines))]
    {
        for (place, (one, other)) in plain.iter().zip(&other).enumerate() {
            assert_eq!(one, other, "{how}, line {place}: {}", String::from_utf8_lossy(&lines[place]));
        }
    }
}

#[test]
fn own_rules_that_remember() {
    compare(own(), 6);
}

#[test]
fn shipped_rules() {
    compare(shipped(), 100);
}

#[test]
fn rules_of_ossec() {
    conformance().into_iter().for_each(|given| compare(given, 100));
}

/// What was read by other rules is read again before it is decided.
#[test]
fn lines_that_were_read_before_a_reload() {
    let (mut analysis, lines) = own();
    let mut reader = analysis.reader();
    let mut line = ReadLine::default();
    reader.read(&lines[4], &location(), now(0), &mut line);
    let rules = RULES.replace("id=\"101\"", "id=\"201\"").replace("101", "201");
    let sources = Sources { decoders: vec![("d", DECODERS)], rules: vec![("r", &rules)], ..Sources::default() };
    analysis.reload(&sources).unwrap();
    let outcome = analysis.decide(&mut line);
    let rule = analysis.engine.rule(&outcome).map(|rule| rule.id().0);
    assert!(matches!(rule, Some(107 | 201)), "{rule:?}");
}

/// A field that none of the decoders sets can be meant by nobody, unless lines name their fields themselves.
#[test]
fn warns_of_fields_that_no_decoder_sets() {
    let rules = r#"<group name="g,"><rule id="100" level="3"><field name="shade">x</field><field name="hue">x</field></rule></group>"#;
    let decoders = r#"<decoder name="d"><program_name>^d</program_name></decoder>
<decoder name="e"><parent>d</parent><regex>(\S+)</regex><order>hue</order></decoder>"#;
    let json = r#"<decoder name="j"><prematch>^{</prematch><plugin_decoder>JSON_Decoder</plugin_decoder></decoder>"#;
    for (decoders, warnings) in [(decoders.to_owned(), 1), (format!("{decoders}{json}"), 0)] {
        let sources = Sources { decoders: vec![("d", &decoders)], rules: vec![("r", rules)], ..Sources::default() };
        let analysis = Analysis::load(&sources, "probe").unwrap();
        let told: Vec<String> = analysis.engine.rules().warnings().iter().map(ToString::to_string).collect();
        assert!(told.len() == warnings && told.iter().all(|text| text.contains("\"shade\"")), "{told:?}");
    }
}
