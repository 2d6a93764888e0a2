//! What the test runners reported: how many passed, and which tests skipped themselves and why.
//!
//! A test that cannot run here prints a line `skipped: why` and returns. nextest shows no output of a test that passed,
//! but keeps it in its JUnit report (.config/nextest.toml), where it is read.

/// Reasons that CI accepts, each with why it is no loss. Anything else is a fault of the machine or of the test.
const LISTED: &[(&str, &str)] = &[
    ("it would change this kernel until its next boot", "`cargo xtask test-kernels` runs it on a machine of its own"),
    ("no conformance data", "what OSSEC's own programs answered is under its licence and no part of the project"),
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    pub test: String,
    pub why: String,
}

impl Count {
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// From the root element of a JUnit report.
    pub fn of_junit(text: &str) -> Self {
        let Some(root) = elements(text).find(|element| element.starts_with("testsuites ")) else {
            return Self::default();
        };
        let number = |name: &str| attribute(root, name).and_then(|value| value.parse().ok()).unwrap_or(0_usize);
        let failed = number("failures") + number("errors");
        Self { passed: number("tests").saturating_sub(failed), failed }
    }

    /// From the lines `test result: ok. 3 passed; 0 failed; …` of the standard test harness.
    pub fn of_libtest(text: &str) -> Self {
        let mut count = Self::default();
        for line in text.lines().filter(|line| line.starts_with("test result: ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |word: &str| {
                words
                    .windows(2)
                    .find(|pair| pair[1].trim_end_matches(';') == word)
                    .and_then(|pair| pair[0].parse().ok())
            };
            count.add(&Self { passed: number("passed").unwrap_or(0), failed: number("failed").unwrap_or(0) });
        }
        count
    }
}

/// The lines `skipped: why` in the output of the tests of a JUnit report.
pub fn skips(text: &str) -> Vec<Skip> {
    let mut skips = Vec::new();
    let mut test = String::new();
    for element in elements(text) {
        if element.starts_with("testcase ") {
            test = format!(
                "{}::{}",
                attribute(element, "classname").unwrap_or(""),
                attribute(element, "name").unwrap_or("")
            );
        }
        let is_output = element.starts_with("system-out>") || element.starts_with("system-err>");
        for line in element.lines().filter(|_| is_output) {
            let line =
                line.split_once('>').filter(|(tag, _)| tag.starts_with("system-")).map_or(line, |(_, rest)| rest);
            if let Some(why) = line.strip_prefix("skipped: ") {
                skips.push(Skip { test: test.clone(), why: unescaped(why.trim()) });
            }
        }
    }
    skips
}

/// Prints every skip with its reason; returns how many have a reason that is not listed.
pub fn print_skips(skips: &[Skip]) -> usize {
    if !skips.is_empty() {
        println!("\n=== {} skipped", skips.len());
    }
    let mut unlisted = 0;
    for skip in skips {
        let listed = LISTED.iter().find(|(why, _)| skip.why.starts_with(why));
        unlisted += usize::from(listed.is_none());
        println!("{}: {} ({})", skip.test, skip.why, listed.map_or("not listed", |(_, no_loss)| no_loss));
    }
    unlisted
}

/// The text from each `<` up to the next one.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split('<').skip(1)
}

/// The value of an attribute in an element's text; it must stand in the tag itself.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let tag = element.split('>').next()?;
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}

fn unescaped(text: &str) -> String {
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    plain.iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="3" failures="1" errors="0" uuid="x" time="1.0">
    <testsuite name="tally-cli::up" tests="3" disabled="0" errors="0" failures="1">
        <testcase name="starts" classname="tally-cli::up" time="0.1">
            <system-out>
running 1 test
skipped: no fanotify: &quot;EPERM&quot; &amp; more
test starts ... ok
</system-out>
            <system-err></system-err>
        </testcase>
        <testcase name="stops" classname="tally-cli::up" time="0.1">
            <system-out>running 1 test
not skipped: at all</system-out>
            <system-err>skipped: at the very start</system-err>
        </testcase>
        <testcase name="falls" classname="tally-cli::up" time="0.1">
            <failure type="test failure">thread panicked
skipped: this is the failure's text</failure>
        </testcase>
    </testsuite>
</testsuites>
"#;

    #[test]
    fn skips_are_found_with_their_reasons() {
        assert_eq!(Count::of_junit(REPORT), Count { passed: 2, failed: 1 });
        let skips = skips(REPORT);
        assert_eq!(skips.len(), 2, "{skips:?}");
        assert_eq!(
            skips[0],
            Skip { test: "tally-cli::up::starts".into(), why: "no fanotify: \"EPERM\" & more".into() }
        );
        assert_eq!(skips[1].why, "at the very start");
        assert_eq!(print_skips(&skips), 2);
    }

    #[test]
    fn libtest_lines_are_summed() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\nx\ntest result: FAILED. 2 passed; 1 failed; 0 ignored\n";
        assert_eq!(Count::of_libtest(text), Count { passed: 5, failed: 1 });
        assert_eq!(Count::of_libtest("no such line"), Count::default());
    }

    #[test]
    fn odd_reports_do_not_panic() {
        for cut in 0..REPORT.len() {
            Count::of_junit(&REPORT[..cut]);
            skips(&REPORT[..cut]);
        }
    }
}
