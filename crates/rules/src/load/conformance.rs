//! The rule files of OSSEC, and what it refuses. The data is not part of this repository: without it nothing is compared.

use std::path::{Path, PathBuf};

use super::*;

pub(crate) fn data() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec");
    if !path.is_dir() {
        eprintln!("skipped: no conformance data");
        return None;
    }
    Some(path)
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names and fields of decoders, taken from their file as far as rules ask for them.
pub(crate) fn known(decoders: &str) -> Known {
    let mut faults = Faults::new("decoder.xml", decoders);
    let mut known = Known::default();
    for (place, element) in faults.elements().into_iter().enumerate() {
        let name: Arc<str> = element.attributes[0].value.as_str().into();
        if !known.decoders.iter().any(|(other, _)| *other == name) {
            known.decoders.push((name, DecoderId(u16::try_from(place).expect("few decoders"))));
        }
        for order in element.children.iter().filter(|child| child.name == "order") {
            known.fields.extend(order.text.split(',').map(|word| Arc::from(word.trim())));
        }
    }
    assert_eq!(faults.finish(), []);
    let internal = ["rootcheck", "hostinfo_new", "hostinfo_modified"];
    known.decoders.extend(internal.map(|name| (Arc::from(name), DecoderId(9000))));
    known
}

/// The rules that the shipped configuration names, in its order: by these the real program has answered.
pub(crate) fn shipped(data: &Path) -> Vec<(String, String)> {
    let configuration = read(&data.join("conf/ossec-server.conf"));
    let included = configuration.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("<include>")?.strip_suffix("</include>")?;
        Some((name.to_owned(), read(&data.join("rules").join(name))))
    });
    included.collect()
}

/// The same, then the files that it leaves out.
fn all(data: &Path) -> Vec<(String, String)> {
    let mut files = shipped(data);
    let known = |name: &String| files.iter().any(|(known, _)| known == name);
    let entries = std::fs::read_dir(data.join("rules")).expect("the rules are there");
    let mut others: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    others.sort();
    others.retain(|name| !known(name) && name.ends_with(".xml"));
    files.extend(others.into_iter().map(|name| (name.clone(), read(&data.join("rules").join(name)))));
    files
}

#[test]
fn all_shipped_rules_load_without_a_warning() {
    let Some(data) = data() else { return };
    let files = all(&data);
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    let known = known(&read(&data.join("decoder.xml")));
    let (set, faults) = load(&files, 0..0, &known, &Lists::default());
    assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(set.warnings().iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let written: usize = files.iter().map(|(_, text)| text.matches("<rule ").count()).sum();
    assert!(set.rules().count() > 1000 && set.rules().count() <= written, "{} of {written}", set.rules().count());
}

/// What OSSEC takes or refuses and we do not, each for its reason in `docs/ossec-differences.md`.
const DIFFERENT: [&str; 3] = ["match 2049 chars", "weekday negated", "no root rules"];

#[test]
fn refuses_what_ossec_refuses() {
    let Some(data) = data() else { return };
    let synthetic = data.join("vectors/synthetic");
    let rules = read(&synthetic.join("rules.xml"));
    let known = known(&read(&synthetic.join("decoders.xml")));
    let mut lists = Lists::default();
    for name in ["users", "nets", "urls"] {
        let text = std::fs::read(synthetic.join("lists").join(name)).expect("a list");
        lists.insert(&format!("lists/{name}"), Some(crate::list::List::from_text(&text).expect("a list")));
    }
    let (set, faults) = load(&[("rules.xml", &rules)], 0..0, &known, &lists);
    assert!(faults.is_empty() && set.warnings().is_empty(), "{faults:?} {:?}", set.warnings());
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for line in read(&synthetic.join("errors.jsonl")).lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let what = case["what"].as_str().expect("a name");
        if case["file"] != "rules.xml" || DIFFERENT.contains(&what) {
            continue;
        }
        let text = match case["append"].as_str() {
            Some(append) => format!("{rules}{append}"),
            None => changed(what, &rules, case["text"].as_str().unwrap_or_default()),
        };
        let (_, faults) = load(&[("rules.xml", &text)], 0..0, &known, &lists);
        seen += 1;
        if faults.is_empty() != case["accepted"].as_bool().expect("an answer") {
            wrong.push(format!("{what}: {:?}", faults.first().map(ToString::to_string)));
        }
    }
    assert!(seen > 100 && wrong.is_empty(), "of {seen}: {wrong:#?}");
}

/// The cases that change the whole file say in words how.
fn changed(what: &str, rules: &str, text: &str) -> String {
    match what {
        "xml declaration" => format!("<?xml version=\"1.0\"?>{rules}"),
        "variable after use" => {
            let line = rules.lines().find(|line| line.starts_with("<var")).expect("a variable");
            format!("{}\n{line}\n", rules.replace(line, ""))
        }
        _ => text.to_owned(),
    }
}
