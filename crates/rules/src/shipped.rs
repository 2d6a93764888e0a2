//! What Tallystick ships: its rules and decoders, each file with its name.

/// Changes of files, and the life of agents and manager.
pub const DEFAULT_RULESET_FILE: &str = "tallystick_rules.xml";

/// So many of [`RULES`] are of what our own parts say: no rule set of a site takes their place.
pub const OWN: usize = 2;

/// In the order in which they are read.
pub const RULES: [(&str, &str); 8] = [
    (DEFAULT_RULESET_FILE, include_str!("../../../rulesets/tallystick_rules.xml")),
    ("collection_rules.xml", include_str!("../../../rulesets/collection_rules.xml")),
    ("auth_rules.xml", include_str!("../../../rulesets/auth_rules.xml")),
    ("system_rules.xml", include_str!("../../../rulesets/system_rules.xml")),
    ("network_rules.xml", include_str!("../../../rulesets/network_rules.xml")),
    ("service_rules.xml", include_str!("../../../rulesets/service_rules.xml")),
    ("cloud_rules.xml", include_str!("../../../rulesets/cloud_rules.xml")),
    ("windows_rules.xml", include_str!("../../../rulesets/windows_rules.xml")),
];

pub const DECODERS: [(&str, &str); 1] = [("log_decoders.xml", include_str!("../../../rulesets/log_decoders.xml"))];

/// The rules of changes and of agent life alone.
pub const fn default_ruleset() -> &'static str {
    RULES[0].1
}
