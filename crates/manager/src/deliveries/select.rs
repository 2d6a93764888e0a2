//! Which messages a delivery brings: all conditions that are given must hold.

use std::sync::Arc;

use tally_delivery::Message;
use tally_rules::Pattern;
use tally_syscheck::Glob;
use tally_types::{AgentId, EventBody, Level, RuleId, Verdict};

#[derive(Clone, Debug, Default)]
pub struct Select {
    /// Of the rule; events that raised no alert have level 0.
    pub min_level: Option<Level>,
    pub rules: Vec<RuleId>,
    /// Of the rule: one of them.
    pub groups: Vec<String>,
    /// Names of hosts, or numbers.
    pub agents: Vec<String>,
    pub agent_groups: Vec<String>,
    /// A moved file counts under both of its paths. What has no path does not pass.
    pub paths: Vec<Glob>,
    pub verdicts: Vec<Verdict>,
    /// As OSSEC's `syslog_output` has them: OSMatch of all groups of the rule, and of the event's location.
    pub group_match: Option<Arc<Pattern>>,
    pub location_match: Option<Arc<Pattern>>,
}

impl Select {
    pub fn passes(&self, message: &Message) -> bool {
        let rule = message.alert.as_ref().map(|alert| &alert.rule);
        let level = rule.map(|rule| rule.level).unwrap_or_default();
        let agent = &message.agent;
        self.min_level.is_none_or(|min| level >= min)
            && any(&self.rules, |id| rule.is_some_and(|rule| rule.id == *id))
            && any(&self.groups, |group| rule.is_some_and(|rule| rule.groups.iter().any(|own| **own == **group)))
            && self.names(agent.id, &agent.name, &agent.group)
            && any(&self.verdicts, |verdict| message.verdict == *verdict)
            && any(&self.paths, |glob| has_path(message, glob))
            && self.group_match.as_ref().is_none_or(|pattern| {
                let groups: String = rule.iter().flat_map(|rule| rule.groups.iter()).map(|g| format!("{g},")).collect();
                pattern.matches(groups.as_bytes())
            })
            && self.location_match.as_ref().is_none_or(|pattern| pattern.matches(location(message).as_bytes()))
    }

    /// Whether a host is among those that are meant.
    pub fn names(&self, id: AgentId, name: &str, group: &str) -> bool {
        any(&self.agents, |wanted| *name == **wanted || id.to_string() == *wanted)
            && any(&self.agent_groups, |wanted| *group == **wanted)
    }
}

/// Whether one of a list holds; no list holds always.
fn any<T>(list: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(holds)
}

fn has_path(message: &Message, glob: &Glob) -> bool {
    let EventBody::Change(change) = &message.event.body else { return false };
    glob.matches(&change.path) || change.moved_from.as_ref().is_some_and(|path| glob.matches(path))
}

/// As OSSEC writes it: `(web1) any->syscheck`.
fn location(message: &Message) -> String {
    let source = match &message.event.body {
        EventBody::Change(_) => "syscheck".to_owned(),
        EventBody::Life(_) => "tallystick".to_owned(),
        EventBody::Log(line) => line.location.to_string(),
    };
    if message.agent.id == AgentId::MANAGER { source } else { format!("({}) any->{source}", message.agent.name) }
}
