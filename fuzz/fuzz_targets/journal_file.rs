//! Files of the systemd journal: the view of what is written once, from any mark, verification, and
//! what the entries say, as the agent makes them.
#![no_main]

use std::io::{Cursor, Seek, SeekFrom};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tally_syscheck::append_log::Seal;
use tally_syscheck::journal::{
    Cache, Compression, Entries, Journal, KeyMaker, Mark, VerifyKey, verify, verify_with,
};

// The agent's own files, without the rest of the agent.
#[path = "../../crates/agent/src/log/lz4.rs"]
mod lz4;

fuzz_target!(|data: (u16, u8, &[u8])| {
    let (offset, entries, file) = data;
    let mark = Mark { offset: u64::from(offset) * 8, entries: entries.into() };
    for mark in [Mark::default(), mark] {
        let mut journal = Journal::open(Cursor::new(file), mark).expect("memory is read without errors");
        let size = journal.size();
        if let Ok(seal) = Seal::of(&mut journal, size) {
            assert!(seal.size() <= size);
        }
        let _ = journal.seek(SeekFrom::Start(offset.into()));
        let opened = Entries::open(Cursor::new(file), Cursor::new(file), mark, Cache::default());
        if let Ok(mut entries) = opened.expect("memory is read without errors") {
            while let Ok(Ok(Some(entry))) = entries.next(&mut unpack) {
                let _ = tally_syscheck::collect::journal_line(&entry, &Default::default());
            }
        }
    }
    let _ = verify(Cursor::new(file), &mut unpack);
    static KEY: LazyLock<(VerifyKey, KeyMaker)> = LazyLock::new(|| {
        let key = VerifyKey::parse("0a1b2c-3d4e5f-607182-93a4b5/1-5f5e100").expect("it is one");
        let maker = KeyMaker::new(&key);
        (key, maker)
    });
    let _ = verify_with(Cursor::new(file), &mut unpack, Some((&KEY.0, KEY.1.clone())));
    let _ = VerifyKey::parse(&String::from_utf8_lossy(file));
});

fn unpack(compression: Compression, packed: &[u8], bytes_max: u64, plain: &mut Vec<u8>) -> bool {
    compression == Compression::Lz4 && lz4::unpack(packed, bytes_max.min(1 << 20), plain)
}
