//! `promwatch status`: prints the status file of the running agent.

use super::{Args, EXIT_FAILED, Lines, json_line, print, run, say};
use crate::agent::state::State;
use crate::agent::status::Status;
use crate::env::{Clock as _, Disk as _, RealClock, RealDisk};
use crate::logger::rfc3339;
use crate::model::{NAME_BYTES_MAX, short};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE_BYTES_MAX: u64 = 64 << 20;
/// A file older than this was left by an agent that is gone.
const STALE_MS: i64 = 30_000;

pub(super) fn status(args: &Args, json: bool) -> u8 {
    let Some((path, writer)) = status_file(args) else {
        say(format_args!("no agent has run with this state directory; name another one with --state-dir"));
        return EXIT_FAILED;
    };
    let read = run::trust(&path, writer).and_then(|()| RealDisk.read(&path, FILE_BYTES_MAX));
    let text = match read {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            say(format_args!("{}: {error}; is the agent running?", path.display()));
            return EXIT_FAILED;
        }
    };
    match miniserde::json::from_str::<Status>(&text) {
        Ok(status) if json => {
            // The file cannot know it: a process that was killed leaves it as it was.
            let running = is_running(&status);
            print(&json_line(&format!("{{\"running\":{running},{}", text.trim().trim_start_matches('{'))))
        }
        Ok(status) => describe(&status).print(),
        Err(_) => {
            say(format_args!("{} is not a status file of this version", path.display()));
            EXIT_FAILED
        }
    }
}

/// Whether the agent that wrote the file is still there: its process, and a file that is fresh.
fn is_running(status: &Status) -> bool {
    let fresh = RealClock::new().wall_ms().saturating_sub(status.written_ms) <= STALE_MS;
    fresh && RealDisk.stat(Path::new(&format!("/proc/{}", status.pid))).is_ok()
}

/// The status file, and the user whose agent may have written it besides root and the caller. The state directory names the
/// file, and its owner wrote it; an agent without one has the file where the configuration says.
fn status_file(args: &Args) -> Option<(PathBuf, Option<u32>)> {
    let Some(dir) = super::buffer::state_dir(args) else {
        return run::status_file(&super::load(args).settings?);
    };
    let (state, trouble) = State::load(&dir, &RealDisk);
    if let Some(trouble) = trouble {
        say(format_args!("{trouble}"));
    }
    let writer = RealDisk.access(&dir, true).ok().map(|access| access.user);
    Some((state.status_file?.into(), writer))
}

pub(super) fn describe(status: &Status) -> Lines {
    let mut out = Lines::default();
    out.line(format_args!(
        "promwatch {}, process {}, since {}",
        status.version,
        status.pid,
        rfc3339(status.started_ms)
    ));
    if !is_running(status) {
        out.line(format_args!("NOT RUNNING: this was written at {}", rfc3339(status.written_ms)));
    }
    let events = &status.events;
    let dropped = events.dropped.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
    out.line(format_args!(
        "events    {} produced = {} delivered + {} pending + {} dropped",
        events.produced, events.delivered, events.pending, dropped
    ));
    for (reason, count) in &events.dropped {
        out.line(format_args!("          dropped {reason}: {count}"));
    }
    let backlog = &status.backlog;
    let time = |before: &str, ms: Option<i64>| ms.map_or(String::new(), |ms| [before, &rfc3339(ms)].concat());
    out.line(format_args!(
        "backlog   {} events, {} bytes on disk{}; {} events in memory",
        backlog.events,
        backlog.bytes,
        time(", the oldest of ", backlog.oldest_ms),
        backlog.memory_events
    ));
    if status.clock.boots_never_confirmed > 0 {
        out.line(format_args!(
            "          some of it is of {} earlier boots whose clock nobody confirmed: its age is not known, max_bytes alone bounds it",
            status.clock.boots_never_confirmed
        ));
    }
    for upstream in &status.upstreams {
        let standing = match upstream.up {
            Some(true) => "up",
            Some(false) => "down",
            None => "not tried yet",
        };
        let since = time(" since ", upstream.down_since_ms);
        out.line(format_args!(
            "upstream  {} {standing}{since}, {} requests, {} body bytes",
            upstream.endpoint, upstream.requests, upstream.body_bytes
        ));
        if let (Some(error), Some(ms)) = (&upstream.last_error, upstream.last_error_ms) {
            out.line(format_args!("          {}: {error}", rfc3339(ms)));
        }
    }
    let credentials = &status.credentials;
    let source = credentials.source.as_deref().unwrap_or("none");
    out.line(format_args!("credentials {source}{}", time(", valid until ", credentials.expires_ms)));
    let skew = status.clock.skew_ms.map_or(String::new(), |ms| format!(", AWS is {ms} ms ahead"));
    let twice = if status.clock.certain { " twice" } else { "" };
    out.line(format_args!("clock     {}{twice}{skew}", status.clock.standing));
    let dir = status.disk.dir.as_deref().unwrap_or("");
    out.line(format_args!("buffer    {}{}{dir}", status.disk.buffer, if dir.is_empty() { "" } else { " " }));
    if let (Some(error), Some(ms)) = (&status.disk.last_error, status.disk.last_error_ms) {
        out.line(format_args!("          {}: {error}", rfc3339(ms)));
    }
    out.line(format_args!("loop      {} % busy", status.busy_percent));
    if !status.samples_left_out.is_empty() {
        out.line(format_args!("left out  {}", counts(&status.samples_left_out)));
    }
    for error in &status.discovery_errors {
        out.line(format_args!("discovery {error}"));
    }
    for target in &status.targets {
        let standing = match target.up {
            Some(true) => "up",
            Some(false) => "down",
            None => "not scraped yet",
        };
        out.line(format_args!(
            "target    {} {} {standing}: {} scrapes, {} failed, last {} samples in {} ms",
            short(&target.job, NAME_BYTES_MAX),
            short(&target.instance, NAME_BYTES_MAX),
            target.scrapes,
            target.failures,
            target.last_samples,
            target.last_duration_ms
        ));
        if !target.failures_by_kind.is_empty() {
            out.line(format_args!("          failed for: {}", counts(&target.failures_by_kind)));
        }
        if target.lines_skipped > 0 {
            out.line(format_args!("          {} bad lines skipped", target.lines_skipped));
        }
        for problem in &target.problems {
            out.line(format_args!("          {problem}"));
        }
        if let (Some(error), Some(ms)) = (&target.last_error, target.last_error_ms) {
            out.line(format_args!("          {}: {error}", rfc3339(ms)));
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
        assert!(describe(&status).0.contains(&format!("{} dropped", u64::MAX)));
    }
}
