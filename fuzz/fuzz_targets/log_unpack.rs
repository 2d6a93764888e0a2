//! Readers of compressed logs end on any bytes, without a panic, and are read no further than what was sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_syscheck::append_log::{Seal, check_stream};
use tally_syscheck::rotation::Packing;

// The agent's own file, without the rest of the agent.
#[path = "../../crates/agent/src/log/unpack.rs"]
mod unpack;

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (packing, size, bytes) = input;
    let packing = Packing::ALL[usize::from(packing) % Packing::ALL.len()];
    let seal = Seal::of_stream(&mut std::io::repeat(b'x'), size.into()).expect("memory can be read");
    let _ = unpack::unpack(packing, bytes).and_then(|mut stream| check_stream(&mut stream, &seal));
});
