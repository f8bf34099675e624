//! `promwatch status`: prints the status file of the running agent.

use super::{Args, EXIT_FAILED, print};
use crate::agent::state::State;
use crate::agent::status::Status;
use crate::env::{Clock as _, Disk as _, RealClock, RealDisk};
use crate::logger::rfc3339;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FILE_BYTES_MAX: u64 = 64 << 20;
/// A file older than this was left by an agent that is gone.
const STALE_MS: i64 = 30_000;

pub(super) fn status(args: &Args, json: bool) -> u8 {
    let Some(path) = status_file(args) else {
        eprintln!("promwatch: no agent has run with this state directory; name another one with --state-dir");
        return EXIT_FAILED;
    };
    let text = match RealDisk.read(&path, FILE_BYTES_MAX) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            eprintln!("promwatch: {}: {error}; is the agent running?", path.display());
            return EXIT_FAILED;
        }
    };
    match miniserde::json::from_str::<Status>(&text) {
        Ok(status) if json => {
            // The file cannot know it: a process that was killed leaves it as it was.
            let running = is_running(&status);
            print(&format!("{{\"running\":{running},{}\n", text.trim_start_matches('{')))
        }
        Ok(status) => print(&describe(&status)),
        Err(_) => {
            eprintln!("promwatch: {} is not a status file of this version", path.display());
            EXIT_FAILED
        }
    }
}

/// Whether the agent that wrote the file is still there: its process, and a file that is fresh.
fn is_running(status: &Status) -> bool {
    let fresh = RealClock::new().wall_ms().saturating_sub(status.written_ms) <= STALE_MS;
    fresh && RealDisk.stat(Path::new(&format!("/proc/{}", status.pid))).is_ok()
}

/// The state directory names the file; an agent without one has it where the configuration says.
fn status_file(args: &Args) -> Option<PathBuf> {
    let Some(dir) = super::buffer::state_dir(args) else {
        return super::run::status_path(&super::load(args).settings?);
    };
    let (state, trouble) = State::load(&dir, &RealDisk);
    if let Some(trouble) = trouble {
        eprintln!("promwatch: {trouble}");
    }
    state.status_file.map(PathBuf::from)
}

pub(super) fn describe(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "promwatch {}, process {}, since {}", status.version, status.pid, rfc3339(status.started_ms));
    if !is_running(status) {
        let _ = writeln!(out, "NOT RUNNING: this was written at {}", rfc3339(status.written_ms));
    }
    let events = &status.events;
    let dropped = events.dropped.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
    let _ = writeln!(
        out,
        "events    {} produced = {} delivered + {} pending + {} dropped",
        events.produced, events.delivered, events.pending, dropped
    );
    for (reason, count) in &events.dropped {
        let _ = writeln!(out, "          dropped {reason}: {count}");
    }
    let backlog = &status.backlog;
    let _ = write!(out, "backlog   {} events, {} bytes on disk", backlog.events, backlog.bytes);
    if let Some(oldest_ms) = backlog.oldest_ms {
        let _ = write!(out, ", the oldest of {}", rfc3339(oldest_ms));
    }
    let _ = writeln!(out, "; {} events in memory", backlog.memory_events);
    for upstream in &status.upstreams {
        let standing = match upstream.up {
            Some(true) => "up",
            Some(false) => "down",
            None => "not tried yet",
        };
        let _ = write!(out, "upstream  {} {standing}", upstream.endpoint);
        if let Some(since_ms) = upstream.down_since_ms {
            let _ = write!(out, " since {}", rfc3339(since_ms));
        }
        let _ = writeln!(out, ", {} requests, {} body bytes", upstream.requests, upstream.body_bytes);
        if let (Some(error), Some(ms)) = (&upstream.last_error, upstream.last_error_ms) {
            let _ = writeln!(out, "          {}: {error}", rfc3339(ms));
        }
    }
    let credentials = &status.credentials;
    let _ = write!(out, "credentials {}", credentials.source.as_deref().unwrap_or("none"));
    match credentials.expires_ms {
        Some(ms) => drop(writeln!(out, ", valid until {}", rfc3339(ms))),
        None => out.push('\n'),
    }
    let _ = write!(out, "clock     {}", status.clock.standing);
    match status.clock.skew_ms {
        Some(ms) => drop(writeln!(out, ", AWS is {ms} ms ahead")),
        None => out.push('\n'),
    }
    let _ = write!(out, "buffer    {}", status.disk.buffer);
    if let Some(dir) = &status.disk.dir {
        let _ = write!(out, " {dir}");
    }
    out.push('\n');
    if let (Some(error), Some(ms)) = (&status.disk.last_error, status.disk.last_error_ms) {
        let _ = writeln!(out, "          {}: {error}", rfc3339(ms));
    }
    let _ = writeln!(out, "loop      {} % busy", status.busy_percent);
    if !status.samples_left_out.is_empty() {
        let _ = writeln!(out, "left out  {}", counts(&status.samples_left_out));
    }
    for error in &status.discovery_errors {
        let _ = writeln!(out, "discovery {error}");
    }
    for target in &status.targets {
        let standing = match target.up {
            Some(true) => "up",
            Some(false) => "down",
            None => "not scraped yet",
        };
        let _ = writeln!(
            out,
            "target    {} {} {standing}: {} scrapes, {} failed, last {} samples in {} ms",
            target.job, target.instance, target.scrapes, target.failures, target.last_samples, target.last_duration_ms
        );
        if !target.failures_by_kind.is_empty() {
            let _ = writeln!(out, "          failed for: {}", counts(&target.failures_by_kind));
        }
        if target.lines_skipped > 0 {
            let _ = writeln!(out, "          {} bad lines skipped", target.lines_skipped);
        }
        for problem in &target.problems {
            let _ = writeln!(out, "          {problem}");
        }
        if let (Some(error), Some(ms)) = (&target.last_error, target.last_error_ms) {
            let _ = writeln!(out, "          {}: {error}", rfc3339(ms));
        }
    }
    out
}

fn counts(by_reason: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::EventCounts;

    #[test]
    fn any_numbers_in_a_status_file_are_shown() {
        let dropped = [("max_age", u64::MAX), ("refused", 1)].map(|(reason, count)| (reason.to_owned(), count));
        let status = Status {
            written_ms: i64::MIN,
            started_ms: i64::MAX,
            events: EventCounts { dropped: dropped.into(), ..EventCounts::default() },
            ..Status::default()
        };
        assert!(describe(&status).contains(&format!("{} dropped", u64::MAX)));
    }
}
