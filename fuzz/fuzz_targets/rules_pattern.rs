//! Patterns never panic, and the index never rules out what matches.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_rules::{Hits, IndexBuilder, Pattern, Scratch, Verdict};

fuzz_target!(|input: (&str, &[u8])| {
    let (source, text) = input;
    let (mut scratch, mut groups) = (Scratch::default(), Vec::new());
    for pattern in [Pattern::os_match(source), Pattern::os_regex(source), Pattern::pcre2(source)] {
        let Ok(pattern) = pattern else { continue };
        let mut builder = IndexBuilder::default();
        let filter = builder.add(&pattern);
        let mut hits = Hits::default();
        builder.build().scan(text, &mut hits);
        let found = pattern.find_groups(text, &mut scratch, &mut groups);
        assert_eq!(pattern.find(text, &mut scratch), found);
        let _ = pattern.matches_name(text);
        match (hits.verdict(&filter), found) {
            (Verdict::No, Ok(end)) => assert_eq!(end, None),
            (Verdict::Yes, Ok(end)) => assert!(end.is_some()),
            _ => {}
        }
    }
});
