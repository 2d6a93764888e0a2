//! Fuzzes the mount table and the layers of the overlays in it: no input may panic.
#![no_main]

use tally_sys::mount;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for mount in mount::parse(data).mounts {
        if let Some(layers) = mount::overlay::layers(&mount) {
            let bytes: usize = layers.lower.iter().map(|layer| layer.len()).sum();
            assert!(bytes <= data.len());
        }
    }
});
