//! Policy files never panic, their faults are bounded and lie in the text, and their policies can be asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_syscheck::Config;
use tally_types::PathBytes;

fuzz_target!(|text: &str| {
    let (config, faults) = Config::parse(text, "fuzz.toml");
    assert!(faults.len() <= Config::DIAGNOSTICS_MAX + 1);
    let lines = text.split('\n').count() as u32;
    assert!(faults.iter().all(|fault| (1..=lines).contains(&fault.line)));
    for root in config.policy.roots() {
        let _ = (config.policy.judge(&root), config.policy.descend(&root));
    }
    let _ = config.policy.judge(&PathBytes::root());
});
