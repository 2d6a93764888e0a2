//! The token and the manager's address, as somebody types them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_net::{ManagerAddress, Token};

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string(), text.trim());
    }
    if let Ok(address) = text.parse::<ManagerAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
});
