//! `promwatch check`: every problem of the configuration, and what is in force. Writes nothing.

use super::{Args, EXIT_CONFIG, EXIT_OK, Lines, load};
use crate::config::{self, Severity};

pub(super) fn check(args: &Args) -> u8 {
    let loaded = load(args);
    let mut out = Lines::default();
    let mut findings = loaded.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in &findings {
        out.line(format_args!("{finding}"));
    }
    let Some(settings) = &loaded.settings else {
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        out.line(format_args!("{errors} error{}: promwatch would not start", if errors == 1 { "" } else { "s" }));
        out.print();
        return EXIT_CONFIG;
    };
    for line in config::describe(settings) {
        out.line(format_args!("{line}"));
    }
    out.line(format_args!("the configuration is good"));
    out.print();
    EXIT_OK
}
