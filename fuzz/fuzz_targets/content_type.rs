//! The header `Content-Type` of an exporter: a format, or why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::scrape::exposition::Format;
use promwatch::scrape::fuzzing::format_of;

fuzz_target!(|text: &str| {
    let lower = text.to_ascii_lowercase();
    match format_of(text) {
        Ok(Format::OpenMetrics) => assert!(lower.contains("application/openmetrics-text"), "{text}"),
        Ok(Format::Text) => {}
        Err(_) => assert!(lower.contains("protobuf"), "{text}"),
    }
});
