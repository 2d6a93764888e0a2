//! crontab(5): tables of users, and the system's own, whose lines name a user.

use super::difference;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line<'t> {
    Setting { name: &'t str, value: &'t str },
    Job { user: &'t str, command: &'t str, when: &'t str },
}

/// `owner` is the user of a table of its own.
pub(super) fn jobs(before: &str, after: &str, owner: Option<&str>) -> Vec<String> {
    let (old, new) = (parse(before, owner), parse(after, owner));
    let (mut gone, come) = difference(&old, &new);
    let mut found = Vec::new();
    for line in come {
        // The same command at another time, or the same setting with another value.
        let was = gone.iter().position(|was| match (was, &line) {
            (Line::Setting { name: a, .. }, Line::Setting { name: b, .. }) => a == b,
            (Line::Job { user: a, command: c, .. }, Line::Job { user: b, command: d, .. }) => (a, c) == (b, d),
            _ => false,
        });
        let was = was.map(|at| gone.remove(at));
        found.push(match (was, line) {
            (Some(Line::Setting { value: from, .. }), Line::Setting { name, value }) => {
                format!("{name} went from {from} to {value}")
            }
            (Some(Line::Job { when: from, .. }), Line::Job { user, command, when }) => {
                format!("a job of user {user} went from {from} to {when}: {command}")
            }
            (_, Line::Setting { name, value }) => format!("{name} was set to {value}"),
            (_, Line::Job { user, command, when }) => format!("a job was added for user {user}: {when} {command}"),
        });
    }
    found.extend(gone.iter().map(|line| match line {
        Line::Setting { name, value } => format!("{name} is not set any more; it was {value}"),
        Line::Job { user, command, when } => format!("a job of user {user} was removed: {when} {command}"),
    }));
    found
}

fn parse<'t>(text: &'t str, owner: Option<&'t str>) -> Vec<Line<'t>> {
    text.lines().filter_map(|line| parse_line(line.trim(), owner)).collect()
}

fn parse_line<'t>(line: &'t str, owner: Option<&'t str>) -> Option<Line<'t>> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let fields = if line.starts_with('@') { 1 } else { 5 };
    if !line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '*' | '@' | '-' | '~')) {
        let (name, value) = line.split_once('=')?;
        let unquoted = |text: &'t str| text.trim().trim_matches(['"', '\'']);
        return Some(Line::Setting { name: unquoted(name), value: unquoted(value) });
    }
    let mut rest = line;
    let mut field = || {
        let end = rest.find(char::is_whitespace)?;
        let (field, after) = rest.split_at(end);
        rest = after.trim_start();
        Some(field)
    };
    (0..fields).try_for_each(|_| field().map(|_| ()))?;
    let user = match owner {
        Some(owner) => owner,
        None => field()?,
    };
    let start = line.len() - rest.len();
    let when = match owner {
        Some(_) => line[..start].trim_end(),
        None => line[..start].trim_end().strip_suffix(user).unwrap_or_default().trim_end(),
    };
    Some(Line::Job { user, command: rest, when })
}
