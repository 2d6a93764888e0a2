//! The results: rows of benchmark, measure, value, unit and the limit it must hold; as a table and as JSON lines.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Bench;
use crate::step::{command, output};

/// What a value must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// It is only told.
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

#[derive(Debug)]
struct Row {
    benchmark: &'static str,
    measure: String,
    value: f64,
    unit: &'static str,
    limit: Limit,
}

#[derive(Debug)]
pub struct Report {
    machine: Map<String, Value>,
    benchmark: &'static str,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(machine: Map<String, Value>) -> Self {
        Self { machine, benchmark: "", rows: Vec::new() }
    }

    /// The rows that follow are of this benchmark.
    pub fn begin(&mut self, benchmark: &'static str) {
        self.benchmark = benchmark;
    }

    pub fn add(&mut self, measure: impl Into<String>, value: f64, unit: &'static str, limit: Limit) {
        let row = Row { benchmark: self.benchmark, measure: measure.into(), value, unit, limit };
        println!("{}", line(&row));
        self.rows.push(row);
    }

    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|row| !row.limit.holds(row.value)).count()
    }

    pub fn print(&self) {
        println!("\n=== results");
        for (key, value) in &self.machine {
            println!("{key}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        println!("\n{:<12} {:<46} {:>12} {:<6} limit", "benchmark", "measure", "value", "unit");
        self.rows.iter().for_each(|row| println!("{}", line(row)));
    }

    /// The machine first, then a row a line.
    pub fn json_lines(&self) -> String {
        let mut text = format!("{}\n", json!({ "machine": self.machine }));
        for row in &self.rows {
            let mut object = json!({
                "benchmark": row.benchmark, "measure": row.measure, "value": row.value, "unit": row.unit,
                "holds": row.limit.holds(row.value),
            });
            match row.limit {
                Limit::None => {}
                Limit::AtMost(limit) => object["at_most"] = json!(limit),
                Limit::AtLeast(limit) => object["at_least"] = json!(limit),
            }
            // Writing into a string does not fail.
            let _ = writeln!(text, "{object}");
        }
        text
    }
}

fn line(row: &Row) -> String {
    let verdict = if row.limit.holds(row.value) { "holds" } else { "MISSED" };
    let limit = match row.limit {
        Limit::None => String::new(),
        Limit::AtMost(limit) => format!("<= {limit} {verdict}"),
        Limit::AtLeast(limit) => format!(">= {limit} {verdict}"),
    };
    format!("{:<12} {:<46} {:>12.3} {:<6} {limit}", row.benchmark, row.measure, row.value, row.unit)
        .trim_end()
        .to_owned()
}

/// What a reader needs to know of the machine and of this run.
pub fn machine(bench: &Bench) -> anyhow::Result<Map<String, Value>> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let filesystem = output(&mut command(&bench.dir, "df", &["--output=fstype", "."]))?;
    let revision = output(&mut command(&bench.root, "git", &["rev-parse", "--short", "HEAD"])).unwrap_or_default();
    let facts = [
        ("cpu", json!(model.trim_start_matches([' ', '\t', ':']))),
        ("cores", json!(std::thread::available_parallelism().map_or(1, usize::from))),
        ("kernel", json!(read("/proc/sys/kernel/osrelease").trim())),
        ("filesystem", json!(filesystem.lines().last().unwrap_or_default().trim())),
        ("load_at_start", json!(read("/proc/loadavg").split_whitespace().next().unwrap_or_default())),
        ("revision", json!(revision.trim())),
        ("files", json!(bench.files)),
        ("rounds", json!(bench.rounds)),
    ];
    Ok(facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_judged_and_told() {
        let mut report = Report::new(Map::new());
        report.begin("check");
        report.add("CPU, of the floor", 1.41, "x", Limit::AtMost(1.4));
        report.add("CPU, of aide's", 60.0, "x", Limit::AtLeast(50.0));
        report.add("CPU", 0.5, "s", Limit::None);
        assert_eq!(report.missed(), 1);
        assert!(line(&report.rows[0]).ends_with("<= 1.4 MISSED"));
        let text = report.json_lines();
        assert!(text.contains(r#""holds":false,"at_most":1.4"#), "{text}");
        assert_eq!(text.lines().count(), 4);
    }
}
