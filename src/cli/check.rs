//! `promwatch check`: every problem of the configuration, and what is in force. Writes nothing.

use super::{Args, EXIT_CONFIG, EXIT_OK, load, print};
use crate::config::{self, Severity};

pub(super) fn check(args: &Args) -> u8 {
    let loaded = load(args);
    let mut text = String::new();
    let mut findings = loaded.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in &findings {
        text.push_str(&finding.to_string());
        text.push('\n');
    }
    let Some(settings) = &loaded.settings else {
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        text.push_str(&format!("{errors} error{}: promwatch would not start\n", if errors == 1 { "" } else { "s" }));
        print(&text);
        return EXIT_CONFIG;
    };
    for line in config::describe(settings) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str("the configuration is good\n");
    print(&text);
    EXIT_OK
}
