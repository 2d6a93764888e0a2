//! OSSEC's configuration files, which people write: every text is read to its end, and each finding has a place in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_ossec::conf::{AgentConfig, OssecConf, kind};
use tally_ossec::internal_options::InternalOptions;
use tally_ossec::native;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (conf, findings) = OssecConf::parse(&text, "f");
    let lines = text.matches('\n').count() + 1;
    assert!(findings.0.iter().all(|finding| (finding.diagnostic.line as usize) <= lines));
    assert!(conf.syscheck.directories.iter().all(|d| (d.line as usize) <= lines));
    let _ = AgentConfig::parse(&text, "f");
    let _ = kind(&text);
    let _ = InternalOptions::parse(&text, "f").0.notes();
    // What is translated is TOML, whatever was in it.
    let home = native::Home { dir: "/var/ossec", is_there: &|_| true };
    for translation in [native::agent(&conf, "f"), native::manager(&conf, &home, "f")] {
        assert!(translation.notes.iter().all(|note| (note.line as usize) <= lines));
        assert!(toml::de::DeTable::parse(&translation.text).is_ok());
    }
});
