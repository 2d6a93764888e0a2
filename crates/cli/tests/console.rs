//! The console in a real browser: the one-time link, what happens while the page is open, and one change in full.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs;

use support::browser::Browser;
use support::disk;
use support::program::Program;
use support::site::Site;
use support::{text, wait_until};

/// The link that `tally up` prints.
fn link(up: &Program) -> String {
    text(&up.object("the console's link", |o| text(o, "/notice") == "console"), "/link").to_owned()
}

fn log_in(browser: &Browser, link: &str) {
    browser.open(link);
    assert!(browser.text().contains("This link works once"), "{}", browser.text());
    browser.click("button.primary");
    browser.wait_text("What happened");
}

#[test]
fn a_change_appears_on_the_open_page_and_is_shown_in_full() {
    let Some(browser) = Browser::start(true) else { return };
    let site = Site::new();
    let file = site.write("sshd_config", "PermitRootLogin no\n");
    let up = site.up();
    let name = site.own_name();
    site.settle(&name, &site.tree());
    let before = disk::sha256(std::slice::from_ref(&file)).remove(0).1;
    let link = link(&up);
    log_in(&browser, &link);
    assert!(browser.text().contains(&name), "{}", browser.text());
    assert!(!browser.text().contains("sshd_config"), "{}", browser.text());
    assert!(!browser.address().contains("token"), "{}", browser.address());

    browser.script("window.opened = 'once';");
    wait_until("the page to be live", || match browser.text_of("[data-pulse]").as_str() {
        "Live" => Ok(()),
        other => Err(other.to_owned()),
    });
    fs::write(&file, "PermitRootLogin yes\n").unwrap();
    browser.wait_text(file.to_str().unwrap());
    assert_eq!(browser.script("return window.opened;"), "once", "the page was not loaded again");
    assert!(browser.text_of("#part-activity").contains(file.to_str().unwrap()), "{}", browser.text());
    assert!(browser.text_of("#part-attention").contains("A watched file changed"), "{}", browser.text());

    browser.click("#part-activity a.line-title.path");
    browser.wait_text("Who did it");
    assert!(browser.address().contains("/change/"), "{}", browser.address());
    let page = browser.text();
    let after = disk::sha256(std::slice::from_ref(&file)).remove(0).1;
    for part in [&before, &after, file.to_str().unwrap(), &name] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(browser.text_of(".compare del"), "19 bytes");
    let watching = up.object("watching", |o| text(o, "/notice") == "watching");
    if text(&watching, "/sensor") == "fanotify" {
        let actor = browser.text_of(".actor");
        let program = std::env::current_exe().unwrap();
        assert!(actor.contains(program.to_str().unwrap()), "{actor}");
        assert!(actor.contains(&std::process::id().to_string()), "{actor}");
    }
    for page in [
        "/",
        "/changes",
        "/alerts",
        "/agents",
        "/agent/001",
        "/logs",
        "/logs/001",
        "/collection",
        "/policies",
        "/deliveries",
    ] {
        let base = link.split("/login").next().unwrap();
        browser.open(&format!("{base}{page}"));
        assert!(browser.text().contains("Log out"), "{page}: {}", browser.text());
        let loaded = browser.script("return performance.getEntriesByType('resource').map(r => r.name);");
        let loaded = loaded.as_array().unwrap();
        assert!(loaded.iter().all(|name| name.as_str().unwrap().starts_with(base)), "{page}: {loaded:?}");
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_link_works_once_and_a_new_one_is_had_by_tally_console() {
    let Some(browser) = Browser::start(true) else { return };
    let site = Site::new();
    let up = site.up();
    let used = link(&up);
    log_in(&browser, &used);
    browser.click("form[action='/logout'] button");
    let base = used.split("/login").next().unwrap();
    browser.wait_text("You are not logged in");
    browser.open(&used);
    assert!(browser.text().contains("This link is used up or too old"), "{}", browser.text());
    browser.open(&format!("{base}/changes"));
    assert!(browser.text().contains("You are not logged in"), "{}", browser.text());
    let new = site.ask(0, &["console"]).one();
    assert_ne!(text(&new, "/link"), used);
    log_in(&browser, text(&new, "/link"));
}

#[test]
fn without_script_the_pages_say_the_same() {
    let Some(browser) = Browser::start(false) else { return };
    let site = Site::new();
    let hostile = site.write("<img src=x onerror=alert(1)>\u{1b}[31m", "x");
    let file = site.write("conf", "before");
    let up = site.up();
    log_in(&browser, &link(&up));
    fs::write(&file, "after").unwrap();
    fs::remove_file(&hostile).unwrap();
    up.object("the alert", |o| support::site::is_alert(o, 553, &hostile));
    // The page asks for itself again from time to time; a person may do so sooner.
    let base = browser.address();
    browser.open(&base);
    browser.wait_text(file.to_str().unwrap());
    assert!(browser.text().contains("<img src=x onerror=alert(1)>"), "{}", browser.text());
    browser.follow(file.to_str().unwrap());
    browser.wait_text("Who did it");
    assert_eq!(browser.text_of(".compare del"), "6 bytes");
}
