//! A command line, and the times of `--since` and `--until`: what is understood as a time is the same when it is written out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::cli::{BufferCommand, Command, Select, parse};
use promwatch::logger::rfc3339;
use std::ffi::OsString;

fn since_ms(text: &str) -> Result<i64, String> {
    let words = ["buffer", "drop", &format!("--until={text}")].map(OsString::from);
    match parse(words)?.command {
        Command::Buffer(BufferCommand::Drop { select: Select { until_ms: Some(ms), .. } }) => Ok(ms),
        other => panic!("{other:?}"),
    }
}

fuzz_target!(|text: &str| {
    if let Err(error) = parse(text.split(['\n', '\0']).map(OsString::from)) {
        assert!(!error.is_empty() && error.len() <= 400 + 8 * text.len(), "{error}");
    }
    match since_ms(text) {
        Ok(ms) => {
            assert_eq!(since_ms(&ms.to_string()), Ok(ms));
            let written = rfc3339(ms);
            // Years with more than four digits are not read.
            if written.len() == "2026-11-22T14:30:00Z".len() && written.ends_with('Z') {
                assert_eq!(since_ms(&written), Ok(ms.div_euclid(1000) * 1000), "{written}");
            }
        }
        Err(error) => assert!(error.contains("time"), "{error}"),
    }
});
