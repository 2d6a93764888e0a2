//! Nodes come from hosts that may be attacked: reading one must neither panic nor accept two encodings of one thing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_snapshot::{MemoryStore, NodeHash, Sync, check_node};

fuzz_target!(|bytes: &[u8]| {
    let accepted = check_node(bytes).is_ok();
    let mut store = MemoryStore::default();
    let mut sync = Sync::new(NodeHash(*blake3::hash(bytes).as_bytes()));
    if sync.wanted(&mut store, 1).is_ok() {
        let taken = sync.receive(&mut store, bytes).is_ok();
        assert!(accepted || !taken);
    }
});
