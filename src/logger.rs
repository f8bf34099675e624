//! The log: one line per message on standard error, nothing else, so that journald or the shell decides where it goes.
//!
//! A line reads as the CloudWatch agent's do (`2026-11-22T14:30:00Z W! text`). Under systemd, which stamps lines itself and
//! reads their priority, the time is left out and the priority put in front (sd-daemon(3)).
//! Refuses: files, rotation, colours. Limits: a line is cut at 4 KiB, and what could forge a line or hide text is written out as
//! [`push_shown`] does it.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write as _;

use crate::model::push_shown;
use crate::model::settings::LogLevel;

/// The longest text of a line, for the log and on a terminal.
pub const LINE_BYTES_MAX: usize = 4096;

/// Makes promwatch's logger the program's. `wall_ms` tells the time; `journal` says that systemd reads standard error.
/// A second call only changes the level.
pub fn install(level: LogLevel, wall_ms: fn() -> i64, journal: bool) {
    log::set_max_level(filter(level));
    // Fails only when a logger is installed already, which is the second call.
    let _ = log::set_boxed_logger(Box::new(Logger { wall_ms, journal }));
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

struct Logger {
    wall_ms: fn() -> i64,
    journal: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries speak up only when asked to: theirs is not the user's trouble.
        metadata.target().starts_with("promwatch") || log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = line(record.level(), &record.args().to_string(), (self.wall_ms)(), self.journal);
            // Nobody can be told that standard error is gone.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

fn line(level: Level, text: &str, wall_ms: i64, journal: bool) -> String {
    let (priority, mark) = match level {
        Level::Error => ("<3>", "E! "),
        Level::Warn => ("<4>", "W! "),
        Level::Info => ("<6>", "I! "),
        Level::Debug | Level::Trace => ("<7>", "D! "),
    };
    let mut line = String::with_capacity(text.len() + 32);
    if journal {
        line.push_str(priority);
    } else {
        line.push_str(&rfc3339(wall_ms));
        line.push(' ');
    }
    line.push_str(mark);
    push_shown(&mut line, text, LINE_BYTES_MAX);
    line.push('\n');
    line
}

/// A time for people: `2026-11-22T14:30:00Z`.
pub fn rfc3339(wall_ms: i64) -> String {
    DateTime::from_secs(wall_ms.div_euclid(1000)).fmt(Format::DateTime).unwrap_or_else(|_| wall_ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_time_or_priority_and_stay_one_line() {
        assert_eq!(line(Level::Warn, "a\nb\u{1b}[0m", 0, false), "1970-01-01T00:00:00Z W! a\\nb\\u001b[0m\n");
        assert_eq!(line(Level::Error, "a", 0, true), "<3>E! a\n");
        assert_eq!(line(Level::Info, &"é".repeat(9000), 0, true).len(), "<6>I! ".len() + LINE_BYTES_MAX + "…\n".len());
    }
}
