//! Fuzzes the parsers of what the kernel's sensors yield: no input may panic or be read out of bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for record in tally_sys::fanotify::parse(data).flatten() {
        for name in [record.at, record.old, record.new].into_iter().flatten() {
            assert!(name.name.len() + name.dir.key().len() <= data.len());
        }
    }
    assert!(tally_sys::inotify::parse(data).count() <= data.len());
    let _ = tally_sys::mount::parse(data);
});
