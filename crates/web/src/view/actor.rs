//! Who did it, in words, with what is not known.

use tally_proto::sentence::shown;
use tally_types::{Actor, Change};

use super::word;

/// One actor in full.
pub struct ActorCard {
    /// `alice as root, with /usr/bin/vim`.
    pub summary: String,
    pub facts: Vec<Fact>,
    pub confidence: &'static str,
    pub unknown: Vec<Unknown>,
}

pub struct Fact {
    pub name: &'static str,
    pub value: String,
    /// A path or a command: shown in the type of code.
    pub is_code: bool,
}

pub struct Unknown {
    pub part: String,
    pub why: String,
}

impl ActorCard {
    pub fn new(actor: &Actor) -> Self {
        let mut facts = Vec::new();
        let mut add = |name, value: Option<String>, is_code| {
            facts.extend(value.map(|value| Fact { name, value, is_code }));
        };
        add("Program", actor.exe.as_deref().map(word::text), true);
        add("Command", actor.cmdline.as_deref().map(word::text), true);
        add("Process", Some(actor.pid.to_string()), false);
        add("User", actor.uid.map(|uid| word::account(actor.user.as_deref(), uid)), false);
        add("Logged in as", actor.login_uid.map(|uid| word::account(actor.login_user.as_deref(), uid)), false);
        add("Session", actor.session.map(|session| session.to_string()), false);
        add("Parent program", actor.parent_exe.as_deref().map(word::text), true);
        add("Parent process", actor.ppid.map(|ppid| ppid.to_string()), false);
        let above = actor.ancestors.iter().map(|ancestor| match ancestor.exe.as_deref() {
            Some(exe) => word::text(exe),
            None => format!("process {}", ancestor.pid),
        });
        let above: Vec<_> = above.collect();
        add("Above it", (!above.is_empty()).then(|| above.join(" ← ")), true);
        add("Terminal", actor.tty.as_deref().map(shown), false);
        let came_from = actor.remote.as_ref();
        let origin = came_from.map(|r| format!("{} (known from: {})", shown(&r.address), r.from.name()));
        add("Came from", origin, false);
        let container = actor.container.as_ref().map(|c| shown(c.name.as_deref().unwrap_or(&c.id)));
        add("Container", container, false);
        add("Control group", actor.cgroup.as_deref().map(shown), true);
        let unknown = actor.unknown.iter().map(|u| Unknown { part: shown(&u.part), why: shown(&u.why) }).collect();
        Self { summary: summary(actor), facts, confidence: word::confidence(actor.confidence), unknown }
    }
}

/// Who, in one short line.
pub fn summary(actor: &Actor) -> String {
    let user = match (&actor.login_user, &actor.user) {
        (Some(login), Some(user)) if login != user => Some(format!("{} as {}", shown(login), shown(user))),
        (_, Some(user)) => Some(shown(user)),
        (Some(login), None) => Some(shown(login)),
        (None, None) => actor.uid.map(|uid| format!("user {uid}")),
    };
    let program = actor.exe.as_deref().map(word::text);
    match (user, program) {
        (Some(user), Some(program)) => format!("{user}, with {program}"),
        (Some(user), None) => format!("{user}, process {}", actor.pid),
        (None, Some(program)) => format!("{program}, process {}", actor.pid),
        (None, None) => format!("process {}", actor.pid),
    }
}

/// Who, for a line of a list; `None` where nobody is known.
pub fn of_change(change: &Change) -> Option<String> {
    let first = change.actors.first().map(summary)?;
    let others = change.actors.len() - 1;
    Some(if others == 0 { first } else { format!("{first}, and {}", word::counted(others as u64, "other", "others")) })
}

#[cfg(test)]
mod tests {
    use tally_types::Confidence;

    use super::*;

    #[test]
    fn says_who_as_far_as_it_is_known() {
        let mut actor = Actor {
            exe: Some(b"/usr/bin/vi\xff"[..].into()),
            uid: Some(0),
            user: Some("root".into()),
            login_uid: Some(1000),
            login_user: Some("alice".into()),
            confidence: Confidence::ProcLive,
            ..Actor::unknown(7)
        };
        assert_eq!(summary(&actor), r"alice as root, with /usr/bin/vi\xff");
        actor.login_user = Some("root".into());
        actor.exe = None;
        assert_eq!(summary(&actor), "root, process 7");
        (actor.user, actor.login_user) = (None, None);
        assert_eq!(summary(&actor), "user 0, process 7");
        actor.uid = None;
        assert_eq!(summary(&actor), "process 7");
    }
}
