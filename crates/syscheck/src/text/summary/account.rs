//! passwd(5) and group(5).

use super::{Records, difference, records};

struct User<'t> {
    password: &'t str,
    uid: &'t str,
    gid: &'t str,
    name: &'t str,
    home: &'t str,
    shell: &'t str,
}

fn parse_users(text: &str) -> Records<'_, User<'_>> {
    records(text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let mut next = || fields.next();
        let login = next().filter(|login| !login.is_empty() && !login.starts_with('#'))?;
        let (password, uid, gid) = (next()?, next()?, next()?);
        let (name, home, shell) = (next().unwrap_or_default(), next().unwrap_or_default(), next().unwrap_or_default());
        Some((login, User { password, uid, gid, name, home, shell }))
    }))
}

pub(super) fn users(before: &str, after: &str) -> Vec<String> {
    let (old, new) = (parse_users(before), parse_users(after));
    let mut found = Vec::new();
    for ((login, number), user) in &new {
        let Some(was) = old.get(&(*login, *number)) else {
            let again = if *number > 0 { " once more" } else { "" };
            let (uid, gid, home, shell) = (user.uid, user.gid, user.home, user.shell);
            found.push(format!(
                "user {login} was added{again} with uid {uid}, gid {gid}, home {home} and shell {shell}"
            ));
            found.extend(password(login, "x", user.password));
            continue;
        };
        for (what, from, to) in [
            ("uid", was.uid, user.uid),
            ("gid", was.gid, user.gid),
            ("full name", was.name, user.name),
            ("home", was.home, user.home),
            ("shell", was.shell, user.shell),
        ] {
            if from != to {
                found.push(format!("the {what} of user {login} went from {} to {}", shown(from), shown(to)));
            }
        }
        found.extend(password(login, was.password, user.password));
    }
    for ((login, _), user) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        found.push(format!("user {login} (uid {}) was removed", user.uid));
    }
    found
}

/// The field that should be `x`: a password here needs none in shadow.
fn password(login: &str, from: &str, to: &str) -> Option<String> {
    match (from, to) {
        (from, to) if from == to => None,
        (_, "") => Some(format!("user {login} needs no password any more: the field in passwd was emptied")),
        (_, "x") => Some(format!("the password of user {login} is in shadow now, no longer in passwd")),
        _ => Some(format!("the password of user {login} in passwd was changed")),
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "nothing" } else { value }
}

struct Group<'t> {
    password: &'t str,
    gid: &'t str,
    members: Vec<&'t str>,
}

fn parse_groups(text: &str) -> Records<'_, Group<'_>> {
    records(text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let (password, gid) = (fields.next()?, fields.next()?);
        Some((name, Group { password, gid, members: members(fields.next().unwrap_or_default()) }))
    }))
}

pub(super) fn members(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|member| !member.is_empty()).collect()
}

pub(super) fn groups(before: &str, after: &str) -> Vec<String> {
    let (old, new) = (parse_groups(before), parse_groups(after));
    let mut found = Vec::new();
    for ((name, number), group) in &new {
        let Some(was) = old.get(&(*name, *number)) else {
            let with = match group.members.as_slice() {
                [] => String::new(),
                members => format!(" and members {}", members.join(", ")),
            };
            found.push(format!("group {name} was added with gid {}{with}", group.gid));
            continue;
        };
        if was.gid != group.gid {
            found.push(format!("the gid of group {name} went from {} to {}", was.gid, group.gid));
        }
        if was.password != group.password {
            found.push(format!("the password of group {name} was changed"));
        }
        let (gone, come) = difference(&was.members, &group.members);
        found.extend(come.iter().map(|user| format!("user {user} was added to group {name}")));
        found.extend(gone.iter().map(|user| format!("user {user} was removed from group {name}")));
    }
    for ((name, _), group) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        found.push(format!("group {name} (gid {}) was removed", group.gid));
    }
    found
}
