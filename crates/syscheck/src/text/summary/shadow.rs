//! shadow(5) and gshadow(5), of which no hash is ever kept or told.

use super::account::members;
use super::{Records, difference, records};

/// The lines with, in place of each password, what kind of value it is and a digest: enough to tell whether it changed.
///
/// The digest stays in the agent's own database. It is of the whole hash with its salt, and no easier to guess from than the
/// file itself, which lies beside it on the host.
pub(super) fn kept(content: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(content);
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        if let (Some(name), Some(password)) = (fields.next(), fields.next()) {
            let digest = blake3::hash(password.as_bytes()).to_hex();
            let sign = match password {
                "" => "",
                password if password.starts_with(['!', '*']) => "!",
                _ => "$",
            };
            kept.push_str(&format!(
                "{name}:{sign}{}:{}",
                if sign.is_empty() { "" } else { &digest },
                fields.next().unwrap_or_default()
            ));
        }
        kept.push('\n');
    }
    kept.into_bytes()
}

struct Line<'t> {
    password: &'t str,
    rest: Vec<&'t str>,
}

fn parse(text: &str) -> Records<'_, Line<'_>> {
    records(text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        Some((name, Line { password: fields.next()?, rest: fields.collect() }))
    }))
}

/// What a password field says.
fn state(password: &str) -> &'static str {
    match password.as_bytes().first() {
        None => "has no password",
        Some(b'!') => "is locked",
        Some(_) => "has a password",
    }
}

fn password(whose: &str, from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    let first = |field: &str| field.as_bytes().first().copied();
    Some(match (first(from), first(to)) {
        (_, None) => format!("the password of {whose} was emptied: none is asked for"),
        (Some(b'!'), Some(b'!')) => format!("the password of {whose} is locked, and what is locked was changed"),
        (_, Some(b'!')) => format!("the password of {whose} was locked"),
        (Some(b'!'), _) => format!("the password of {whose} was set or unlocked"),
        (None, _) => format!("the password of {whose} was set"),
        _ => format!("the password of {whose} was changed"),
    })
}

pub(super) fn users(before: &str, after: &str) -> Vec<String> {
    const FIELDS: [&str; 6] = [
        "minimum age of the password",
        "maximum age of the password",
        "days of warning",
        "days of inactivity",
        "day of expiry",
        "reserved field",
    ];
    let (old, new) = (parse(before), parse(after));
    let mut found = Vec::new();
    for ((name, number), line) in &new {
        let Some(was) = old.get(&(*name, *number)) else {
            found.push(format!("user {name} was added and {}", state(line.password)));
            continue;
        };
        let changed = password(&format!("user {name}"), was.password, line.password);
        let field = |line: &Line<'_>, at: usize| line.rest.get(at).copied().unwrap_or_default().to_owned();
        if changed.is_none() && field(was, 0) != field(line, 0) {
            found.push(format!("the day of the last change of the password of user {name} was altered"));
        }
        found.extend(changed);
        for (at, what) in FIELDS.iter().enumerate() {
            let (from, to) = (field(was, at + 1), field(line, at + 1));
            if from != to {
                let shown = |value: String| if value.is_empty() { "nothing".to_owned() } else { value };
                found.push(format!("the {what} of user {name} went from {} to {}", shown(from), shown(to)));
            }
        }
    }
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    found.extend(gone.map(|(name, _)| format!("user {name} was removed")));
    found
}

pub(super) fn groups(before: &str, after: &str) -> Vec<String> {
    let (old, new) = (parse(before), parse(after));
    let mut found = Vec::new();
    for ((name, number), line) in &new {
        let Some(was) = old.get(&(*name, *number)) else {
            found.push(format!("group {name} was added and {}", state(line.password)));
            continue;
        };
        found.extend(password(&format!("group {name}"), was.password, line.password));
        for (at, what) in [(0, "administrator"), (1, "member")] {
            let list = |line: &Line<'_>| line.rest.get(at).copied().unwrap_or_default().to_owned();
            let (from, to) = (list(was), list(line));
            let (from, to) = (members(&from), members(&to));
            let (gone, come) = difference(&from, &to);
            found.extend(come.iter().map(|user| format!("user {user} became {what} of group {name}")));
            found.extend(gone.iter().map(|user| format!("user {user} is no longer {what} of group {name}")));
        }
    }
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    found.extend(gone.map(|(name, _)| format!("group {name} was removed")));
    found
}
