//! Decoder files never panic, and whatever loads can decode any line.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tally_rules::{DecodeState, Decoded, Decoders, Raw};
use tally_types::Timestamp;

const PLUGINS: &str = r#"
<decoder name="p"><prematch>\)</prematch><plugin_decoder>PF_Decoder</plugin_decoder></decoder>
<decoder name="j"><prematch>{</prematch><plugin_decoder>JSON_Decoder</plugin_decoder></decoder>
<decoder name="s"><prematch>pri=</prematch><plugin_decoder>SonicWall_Decoder</plugin_decoder></decoder>
<decoder name="w"><prematch>,</prematch><plugin_decoder>SymantecWS_Decoder</plugin_decoder></decoder>
<decoder name="o"><prematch>Alert</prematch><plugin_decoder>OSSECAlert_Decoder</plugin_decoder></decoder>
<decoder name="a"><program_name>^a</program_name></decoder>
<decoder name="b"><parent>a</parent><regex>(\w+) (\S+)</regex><order>id, user</order><accumulate/></decoder>
"#;

fuzz_target!(|input: (&str, &[u8], &str)| {
    let (file, line, location) = input;
    let (mut state, mut decoded) = (DecodeState::default(), Decoded::default());
    let location: Arc<str> = location.into();
    for files in [&[("fuzz.xml", file)][..], &[("plugins.xml", PLUGINS)]] {
        let (decoders, _) = Decoders::load(files);
        state.renew();
        for now in [0, 1] {
            let raw = Raw { text: line, location: &location, host: "h", now: Timestamp::from_secs(now) };
            decoders.decode(&raw, &mut state, &mut decoded);
            decoders.accumulate(&mut state, &mut decoded);
        }
        assert!(decoded.log().len() <= decoded.full_log().len());
        let _ =
            (decoded.fields().count(), decoded.dynamic_fields().count(), decoded.hostname(), decoded.program_name());
    }
});
