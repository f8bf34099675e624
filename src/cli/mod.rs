//! The user's side: one file per command. Each takes what was typed and returns the exit code.
//!
//! Standard output carries results only (events, tables, findings of `check`); everything else goes to standard error. What is
//! printed goes through [`Lines`], [`say`] or [`json_line`]: others have chosen names and texts in it.

mod args;
mod buffer;
mod carry;
mod check;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
mod once;
mod run;
mod status;

pub use args::{Args, BufferCommand, Command, HELP, Select, parse};

use crate::config::{self, Loaded, Severity, Sources, Surroundings};
use crate::env::{Clock as _, RealClock, RealDisk};
use crate::logger;
use crate::model::push_shown;
use crate::model::settings::Settings;
use std::ffi::OsString;
use std::io::{self, Write};

/// Done.
pub const EXIT_OK: u8 = 0;
/// Failed, or something was damaged or skipped.
pub const EXIT_FAILED: u8 = 1;
/// Wrong words on the command line (sysexits.h, EX_USAGE).
pub const EXIT_USAGE: u8 = 64;
/// The state directory is in use (sysexits.h, EX_TEMPFAIL).
pub const EXIT_IN_USE: u8 = 75;
/// The configuration is wrong (sysexits.h, EX_CONFIG).
pub const EXIT_CONFIG: u8 = 78;

/// Runs one command.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match parse(words) {
        Ok(args) => args,
        Err(error) => {
            say(format_args!("{error}; see promwatch --help"));
            return EXIT_USAGE;
        }
    };
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    logger::install(args.log_level.unwrap_or_default(), || RealClock::new().wall_ms(), journal);
    match &args.command {
        Command::Help => print(HELP),
        Command::Version => print(concat!("promwatch ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Run => run::run(&args),
        Command::Once { scrapes, interval_ms } => once::once(&args, *scrapes, *interval_ms),
        Command::Check => check::check(&args),
        Command::Status { json } => status::status(&args, *json),
        Command::Buffer(command) => buffer::buffer(&args, command),
    }
}

/// Reads the configuration as `run` would.
fn load(args: &Args) -> Loaded {
    let sources = Sources {
        config_paths: args.config_paths.clone(),
        common_config: args.common_config.clone(),
        state_dir: args.state_dir.clone(),
        log_level: args.log_level,
    };
    config::load(&sources, &surroundings(), &RealDisk)
}

fn surroundings() -> Surroundings {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Surroundings::gather(std::env::vars_os().filter_map(text).collect(), hostname, &RealDisk)
}

/// Reads the configuration for a command that works with it; findings go to the log, but for warnings about keys that mean
/// nothing to the command. Nothing: it is wrong.
fn load_or_log(args: &Args, unused_keys: &[&str]) -> Option<Settings> {
    let loaded = load(args);
    let matters = |finding: &&config::Finding| {
        finding.severity == Severity::Error || !unused_keys.contains(&finding.key.as_str())
    };
    for finding in loaded.findings.iter().filter(matters) {
        match finding.severity {
            Severity::Error => log::error!("{}", finding.without_severity()),
            Severity::Warning => log::warn!("{}", finding.without_severity()),
            Severity::Note => log::debug!("{}", finding.without_severity()),
        }
    }
    let settings = loaded.settings?;
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    logger::install(settings.log_level, || RealClock::new().wall_ms(), journal);
    Some(settings)
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> u8 {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => EXIT_FAILED,
        _ => EXIT_OK,
    }
}

/// Lines for standard output. Whatever is in a line, it stays one line, shows all that it holds and is at most 4 KiB long.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        push_shown(&mut self.0, &text.to_string(), logger::LINE_BYTES_MAX);
        self.0.push('\n');
    }

    fn print(&self) -> u8 {
        print(&self.0)
    }
}

/// One line on standard error, as [`Lines`] makes them.
fn say(text: std::fmt::Arguments<'_>) {
    let mut lines = Lines("promwatch: ".to_owned());
    lines.line(text);
    // Nobody can be told that standard error is gone.
    let _ = io::stderr().lock().write_all(lines.0.as_bytes());
}

/// JSON as a line: the same content, and nothing in it that a terminal would obey.
fn json_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len() + 1);
    push_shown(&mut line, json, usize::MAX);
    line.push('\n');
    line
}

/// One event as `once` and `buffer cat` print it.
fn event_line(event: &crate::model::Event) -> String {
    let message = event.message();
    let mut line = String::with_capacity(message.len() + message.len() / 4 + 96);
    line.push_str("{\"log_group\":");
    line.push_str(&miniserde::json::to_string(&event.key().group));
    line.push_str(",\"log_stream\":");
    line.push_str(&miniserde::json::to_string(&event.key().stream));
    line.push_str(",\"timestamp\":");
    line.push_str(&event.timestamp_ms.to_string());
    line.push_str(",\"message\":");
    line.push_str(&miniserde::json::to_string(&message));
    line.push('}');
    json_line(&line)
}
