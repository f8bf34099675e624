//! The status file as `promwatch status` reads it: any file is refused or shown, in about as many bytes as it has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::cli::fuzzing::status_text;

fuzz_target!(|text: &str| {
    if let Some(shown) = status_text(text) {
        assert!(shown.len() <= 4096 + 16 * text.len(), "{} bytes of {}", shown.len(), text.len());
    }
});
