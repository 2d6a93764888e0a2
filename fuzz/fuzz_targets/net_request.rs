//! A certificate request of a host that has a token.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tally_net::Authority;
use tally_types::{AgentId, Timestamp};

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("tally-fuzz-{}", std::process::id()));
    Authority::open_or_create(&dir).expect("the temporary directory can be written")
});

fuzz_target!(|csr: &str| {
    let _ = AUTHORITY.issue(csr, AgentId(1), Timestamp(0));
});
