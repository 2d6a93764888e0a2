//! Fuzzes the parsers of what tells where a session came from: tables of connections, records of logins.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for login in tally_sys::logins::parse(data) {
        assert!(login.line.len() + login.user.len() + login.host.len() <= data.len());
    }
    tally_sys::tcp::parse(&String::from_utf8_lossy(data)).for_each(drop);
});
