//! What is said about a configuration.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know: a key that is accepted and means nothing here.
    Note,
    /// Works, though perhaps not as meant.
    Warning,
    /// The agent does not start: exit code 78.
    Error,
}

/// One thing to say about a configuration: where, what, and the likely fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// Line and column from 1, where the reader knows them (YAML does, JSON need not).
    pub position: Option<(usize, usize)>,
    /// The key's path, such as `/logs/metrics_collected/prometheus/log_group_name` or `scrape_configs[0].job_name`.
    pub key: String,
    /// What is wrong. Never holds a secret.
    pub text: String,
    /// The likely fix; may be empty.
    pub fix: String,
}

impl Finding {
    /// The line for a log, which has a severity of its own.
    pub fn without_severity(&self) -> String {
        let line = self.to_string();
        line.split_once(": ").map_or(line.clone(), |(_, rest)| rest.to_owned())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.text)?;
        if !self.fix.is_empty() {
            write!(f, " ({})", self.fix)?;
        }
        Ok(())
    }
}
