//! The adversary's test: ways to change a file unseen or unnamed, each played as root against a running manager and agent.
//!
//! A technique fails the test when what is expected of it does not come: not seen before the deadline of its class, seen by
//! something else, or laid at another's door. What is not detected is expected not to be, and stands in docs/evasion.md with
//! the reason; when that changes, the page must change too. No time is ever asserted.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

#[path = "evasion/agent.rs"]
mod agent;
#[path = "evasion/attribute.rs"]
mod attribute;
#[path = "evasion/ground.rs"]
mod ground;
#[path = "evasion/log.rs"]
mod log;
#[path = "evasion/mount.rs"]
mod mount;
#[path = "evasion/name.rs"]
mod name;
#[path = "evasion/process.rs"]
mod process;
mod support;
#[path = "evasion/table.rs"]
mod table;
#[path = "evasion/technique.rs"]
mod technique;
#[path = "evasion/write.rs"]
mod write;

use std::thread::JoinHandle;

use agent::Attack;
use ground::Ground;
use support::is_root;
use table::Row;
use technique::{Outcome, Technique};

fn all() -> Vec<Technique> {
    let lists = [
        write::TECHNIQUES,
        name::TECHNIQUES,
        mount::TECHNIQUES,
        attribute::TECHNIQUES,
        process::TECHNIQUES,
        log::TECHNIQUES,
    ];
    lists.concat().into_iter().filter(|technique| is_wanted(technique.id)).collect()
}

/// By hand, some of them: EVASION=W01,N.
fn is_wanted(id: &str) -> bool {
    let only = std::env::var("EVASION").ok();
    only.is_none_or(|only| only.split(',').any(|start| id.starts_with(start)))
}

#[test]
fn every_technique_is_seen_as_the_page_says() {
    if !is_root() {
        println!("skipped: the adversary is root, and this test is not");
        return;
    }
    let attacks = std::thread::spawn(|| agent::play_all(is_wanted));
    let techniques = all();
    let mut ground = Ground::new();
    let sentinel = Technique::new("sentinel", "", "", "");
    let mut outcomes = ground.prepare(&[&techniques[..], &[sentinel]].concat());
    let (_manager, _agent) = ground.start();
    let names_actors = ground.names_actors() && table::names_actors();
    for technique in &techniques {
        if !outcomes.contains_key(technique.id)
            && let Some(outcome) = ground.play(technique)
        {
            outcomes.insert(technique.id, outcome);
        }
    }
    if techniques.is_empty() {
        return conclude(&attacked(attacks), names_actors);
    }
    let open: Vec<&Technique> = techniques.iter().filter(|t| !outcomes.contains_key(t.id)).collect();
    outcomes.extend(ground.wait_for_scan(&open));
    for technique in &techniques {
        if outcomes.get(technique.id).unwrap_or(&Outcome::Unseen).fault(technique.expect, names_actors).is_some() {
            println!("{}:\n{}", technique.id, ground.told(technique));
        }
    }
    let row = |technique: &Technique| {
        let Technique { id, name, source, expect, note, .. } = *technique;
        Row { id, name, source, expect, note, outcome: outcomes.get(id).cloned().unwrap_or(Outcome::Unseen) }
    };
    let mut rows: Vec<Row> = techniques.iter().map(row).collect();
    rows.extend(attacked(attacks));
    conclude(&rows, names_actors);
}

fn attacked(attacks: JoinHandle<Vec<(Attack, Outcome)>>) -> Vec<Row> {
    let row =
        |(Attack { id, name, source, expect, note, .. }, outcome)| Row { id, name, source, expect, note, outcome };
    attacks.join().unwrap().into_iter().map(row).collect()
}

/// Every expectation that did not hold, all of them at once; then the page.
fn conclude(rows: &[Row], names_actors: bool) {
    let page = table::page(rows);
    println!("{page}");
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(table::path(), &page).unwrap();
    }
    let fault = |row: &Row| Some(format!("{} {}: {}", row.id, row.name, row.outcome.fault(row.expect, names_actors)?));
    let faults: Vec<String> = rows.iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), rows.len(), faults.join("\n"));
    if std::env::var_os("EVASION").is_some() {
        return;
    }
    let committed = std::fs::read_to_string(table::path()).unwrap_or_default();
    let (now, then) = (table::stable(&page), table::stable(&committed));
    // Which of the two scans comes first is a matter of the hour.
    let way = |seen: &str| if seen == "direct" { "scan".to_owned() } else { seen.to_owned() };
    for ((now, then), row) in now.iter().zip(&then).zip(rows) {
        // What this machine cannot do, or cannot know of actors, is no fault of the page; nor which of several programs of one
        // technique a look finds to have been the last, where none is expected.
        let comparable = !now[2].starts_with("not tried") && !then[2].starts_with("not tried");
        let actor = !names_actors
            || now[3] == then[3]
            || row.expect.actor.is_empty() && table::source(&now[3]) == table::source(&then[3]);
        assert!(
            now[..2] == then[..2] && (!comparable || way(&now[2]) == way(&then[2]) && actor),
            "docs/evasion.md says {then:?}; it is {now:?}"
        );
    }
    assert_eq!(now.len(), then.len(), "docs/evasion.md has other techniques: WRITE_GOLDEN=1 makes it anew");
}
