//! docs/evasion.md: what the techniques came to, as a table that the test makes and checks.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::technique::{By, Expect, Outcome};

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: &'static str,
    pub name: &'static str,
    pub source: &'static str,
    pub expect: Expect,
    pub note: &'static str,
    pub outcome: Outcome,
}

const HEAD: &str =
    "| id | technique | described in | detected by | within | actor | remark |\n|---|---|---|---|---|---|---|\n";
const BEFORE: &str = include_str!("before.md");
const AFTER: &str = include_str!("after.md");

pub fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/evasion.md")
}

/// The whole page.
pub fn page(rows: &[Row]) -> String {
    let missed = rows.iter().filter(|row| matches!(row.expect.by, By::Chance | By::Nothing)).count();
    let mut page = BEFORE.replace("{TRIED}", &rows.len().to_string()).replace("{MISSED}", &missed.to_string());
    page.push_str(HEAD);
    for row in rows {
        let [detected, actor] = found(row);
        let example = match &row.outcome {
            Outcome::Seen { after, .. } if row.expect.by != By::Chance => {
                format!(", e.g. {}", duration(after.as_secs_f64()))
            }
            _ => String::new(),
        };
        let cells = [
            row.id,
            row.name,
            row.source,
            &detected,
            &format!("{}{example}", row.expect.by.within()),
            &actor,
            row.note,
        ];
        let _ = writeln!(page, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    page.push_str(AFTER);
    page
}

/// Whether the committed page was made where the kernel tells of every process: only then do its actors hold.
pub fn names_actors() -> bool {
    std::fs::read_to_string(path()).is_ok_and(|page| page.contains("(kernel)"))
}

/// What must stay as it is committed: id, name, detected by (of what comes and goes, the kind is chance), actor.
pub fn stable(page: &str) -> Vec<[String; 4]> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        [cell(0), cell(1), cell(3).split(':').next().unwrap_or_default(), cell(5)].map(str::to_owned)
    })
    .collect()
}

/// Where an actor's name comes from: what stands in brackets behind it.
pub fn source(actor: &str) -> &str {
    actor.split_once(" (").map_or(actor, |(_, source)| source)
}

fn found(row: &Row) -> [String; 2] {
    match &row.outcome {
        _ if row.expect.by == By::Chance => ["**not detected**, but by chance".to_owned(), "–".to_owned()],
        Outcome::Seen { by, kind, actor, .. } => [format!("{by}: {kind}"), actor.clone()],
        Outcome::Unseen => ["**not detected**".to_owned(), "–".to_owned()],
        Outcome::Impossible(why) | Outcome::Broken(why) => [format!("not tried: {why}"), "–".to_owned()],
    }
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} s", seconds.max(0.1)) } else { format!("{seconds:.0} s") }
}
