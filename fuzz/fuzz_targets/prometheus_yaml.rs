//! Any text is read as a Prometheus configuration within the limits, and every finding can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promwatch::config::prometheus::{Context, parse};
use promwatch::env::RealDisk;
use std::collections::BTreeMap;

fuzz_target!(|text: &str| {
    let context = Context { base_dir: "/nonexistent".into(), vars: BTreeMap::new() };
    let mut findings = Vec::new();
    let jobs = parse("f", text, &context, &RealDisk, &mut findings);
    for finding in &findings {
        assert!(finding.position.is_some_and(|(line, column)| line > 0 && column > 0), "{finding}");
        assert!(!finding.to_string().is_empty());
    }
    for job in &jobs {
        assert!(job.timeout_ms <= job.interval_ms || !findings.is_empty(), "{job:?}");
    }
});
