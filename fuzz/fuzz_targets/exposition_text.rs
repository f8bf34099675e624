#![no_main]

mod exposition;

use promwatch::scrape::exposition::Format;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exposition::check(Format::Text, data));
