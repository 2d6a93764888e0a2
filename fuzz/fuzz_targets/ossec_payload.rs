//! What an OSSEC agent says, once its datagram is open, and what a manager says to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_ossec::control::{Merged, Order, Said};
use tally_ossec::counter::Count;
use tally_ossec::message::Message;

fuzz_target!(|bytes: &[u8]| {
    let _ = Said::parse(bytes);
    let _ = Order::parse(bytes).payload();
    let _ = Merged::parse(bytes);
    if let Ok(message) = Message::parse(bytes) {
        let _ = (message.meaning(), message.clean_text());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Count::from_file(text);
    }
});
