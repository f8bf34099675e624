//! `promwatch buffer export|import|send|drop`: events on a stick, and out of the way.
//!
//! Exporting reads only. The others write, so they take the state directory's lock: beside a running agent they end with 75.
//!
//! `send` delivers from a spool of its own beside the file (`FILE.sent`), filled by an import: an interruption costs nothing,
//! and a second `send` of the same file finds everything delivered already.

use super::{Args, EXIT_CONFIG, EXIT_FAILED, EXIT_IN_USE, EXIT_OK, Lines, Select, load_or_log, say};
use crate::agent::books::{Books, DropReason};
use crate::agent::state::State;
use crate::agent::{Agent, OpenError};
use crate::env::{Clock as _, Disk as _, Env, Lock, RealClock, RealDisk, RealNet, Signals};
use crate::model::Ranges;
use crate::model::settings::BufferSettings;
use crate::spool::export::{self, Filter};
use crate::spool::{Outcome, Recovery, Spool, SpoolError, reader};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// A spool that only carries a file has no bound of its own: the file is there already.
const CARRIER_BYTES_MAX: u64 = 1 << 40;

impl Select {
    fn filter(&self) -> Filter {
        Filter {
            since_ms: self.since_ms,
            until_ms: self.until_ms,
            group: self.group.clone(),
            stream: self.stream.clone(),
        }
    }
}

/// The result, on standard output.
fn told(text: std::fmt::Arguments<'_>) {
    let mut out = Lines::default();
    out.line(text);
    out.print();
}

/// Why a command ends early.
enum Failure {
    InUse(PathBuf),
    Text(String),
}

impl From<SpoolError> for Failure {
    fn from(error: SpoolError) -> Self {
        Self::Text(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Text(error.to_string())
    }
}

fn end(result: Result<u8, Failure>) -> u8 {
    match result {
        Ok(code) => code,
        Err(Failure::InUse(dir)) => {
            say(format_args!("{} is in use by a running agent: stop it first", dir.display()));
            EXIT_IN_USE
        }
        Err(Failure::Text(text)) => {
            say(format_args!("{text}"));
            EXIT_FAILED
        }
    }
}

/// `buffer export`
pub(super) fn export(dir: &Path, file: &Path, select: &Select, remove: bool) -> u8 {
    end(try_export(dir, file, select, remove))
}

fn try_export(dir: &Path, file: &Path, select: &Select, remove: bool) -> Result<u8, Failure> {
    // The lock comes first: an export that cannot remove what it moved is a copy that nobody asked for.
    let _lock = if remove { Some(lock(dir)?) } else { None };
    let total = reader::read(dir, &RealDisk, &mut |_| false)?.events;
    let mut bar = Bar::new("exported", Some(total));
    let now_ms = RealClock::new().wall_ms();
    let exported = export::export(dir, file, &select.filter(), now_ms, &RealDisk, &mut |events| bar.show(events))?;
    bar.end();
    if remove {
        let (mut spool, mut state) = open(dir)?;
        let (events, settled) = spool.settle(Outcome::Exported, &exported.numbers, &RealDisk);
        settled?;
        close(spool, &mut state, dir, DropReason::Exported, events)?;
    }
    told(format_args!(
        "{} events in {} records, {} bytes: {}",
        exported.events,
        exported.records,
        exported.bytes,
        file.display()
    ));
    Ok(EXIT_OK)
}

/// `buffer import`
pub(super) fn import(args: &Args, dir: &Path, file: &Path) -> u8 {
    end(try_import(args, dir, file))
}

fn try_import(args: &Args, dir: &Path, file: &Path) -> Result<u8, Failure> {
    RealDisk.create_dir(dir)?;
    let _lock = lock(dir)?;
    // The bounds of the configuration, where there is one.
    let settings = super::load(args).settings.map(|settings| settings.buffer).unwrap_or_default();
    let (mut spool, recovery) = Spool::open(dir, &settings, &RealDisk)?;
    let mut state = State::load(dir, &RealDisk).0;
    count_losses(&mut state, &recovery);
    let mut bar = Bar::new("read", None);
    let report = spool.import(file, &RealDisk, &mut |events| bar.show(events))?;
    bar.end();
    close(spool, &mut state, dir, DropReason::Removed, 0)?;
    told(format_args!(
        "{} records taken, {} were here already, of {} events",
        report.records, report.already, report.events
    ));
    Ok(say_damage(file, &report))
}

/// `buffer send`
pub(super) fn send(args: &Args, file: &Path) -> u8 {
    let Some(mut settings) = load_or_log(args, &[]) else { return EXIT_CONFIG };
    let carrier = PathBuf::from(format!("{}.sent", file.display()));
    settings.jobs.clear();
    settings.buffer.state_dir = Some(carrier.clone());
    settings.buffer.max_bytes = CARRIER_BYTES_MAX;
    settings.buffer.max_age_ms = u64::MAX / 2;
    // A person waits for it: no budget, no waiting for other devices.
    settings.upload.backlog_requests_per_second = 1_000.0;
    settings.upload.backlog_bytes_per_second = 1 << 30;
    settings.upload.jitter_ms = 0;
    end(try_send(settings, &carrier, file))
}

fn try_send(settings: crate::model::settings::Settings, carrier: &Path, file: &Path) -> Result<u8, Failure> {
    let signals = Signals::install()?;
    let stop = signals.stop_flag();
    RealDisk.create_dir(carrier)?;
    let damage = {
        let _lock = lock(carrier)?;
        let (mut spool, _) = Spool::open(carrier, &settings.buffer, &RealDisk)?;
        let report = spool.import(file, &RealDisk, &mut |_| {})?;
        spool.close(&RealDisk)?;
        say_damage(file, &report)
    };
    let (clock, net) = (RealClock::new(), RealNet::new(signals.stop_flag()));
    let env = Env { clock: &clock, disk: &RealDisk, net: &net };
    let mut agent = match Agent::new(settings, None, env) {
        Ok(agent) => agent,
        Err(OpenError::InUse) => return Err(Failure::InUse(carrier.to_owned())),
    };
    let (before, total) = (agent.counts().0.delivered, agent.counts().1);
    let mut bar = Bar::new("delivered", Some(total));
    while agent.counts().1 > 0 && !stop.load(Ordering::Relaxed) {
        let wakeup = agent.poll(env);
        bar.show(agent.counts().0.delivered - before);
        let wait_ms = wakeup.at_ms.saturating_sub(clock.monotonic_ms());
        if wait_ms > 0 {
            signals.wait_ms(wait_ms);
        }
    }
    bar.end();
    let (counts, pending) = agent.counts();
    told(format_args!(
        "{} events delivered, {} left, {} dropped",
        counts.delivered - before,
        pending,
        counts.dropped_total()
    ));
    stop.store(false, Ordering::Relaxed);
    agent.stop(clock.monotonic_ms(), env);
    if pending > 0 {
        say(format_args!("interrupted; the same command goes on where this one stopped"));
        return Ok(EXIT_FAILED);
    }
    Ok(damage)
}

/// `buffer drop`
pub(super) fn drop_events(dir: &Path, select: &Select) -> u8 {
    end(try_drop(dir, select))
}

fn try_drop(dir: &Path, select: &Select) -> Result<u8, Failure> {
    let _lock = lock(dir)?;
    let filter = select.filter();
    let (mut numbers, mut records) = (Ranges::default(), 0_u64);
    reader::read(dir, &RealDisk, &mut |record| {
        if filter.takes(record) {
            record.pending.iter().for_each(|(from, to)| numbers.insert(from, to));
            records += 1;
        }
        true
    })?;
    let (mut spool, mut state) = open(dir)?;
    let (events, settled) = spool.settle(Outcome::Dropped, &numbers, &RealDisk);
    settled?;
    close(spool, &mut state, dir, DropReason::Removed, events)?;
    told(format_args!("{events} events in {records} records dropped"));
    Ok(EXIT_OK)
}

fn lock(dir: &Path) -> Result<Lock, Failure> {
    RealDisk.lock(&dir.join("lock"))?.ok_or_else(|| Failure::InUse(dir.to_owned()))
}

fn open(dir: &Path) -> Result<(Spool, State), Failure> {
    // Nothing is appended, so no bound is met.
    let settings =
        BufferSettings { max_bytes: CARRIER_BYTES_MAX, max_age_ms: u64::MAX / 2, ..BufferSettings::default() };
    let (spool, recovery) = Spool::open(dir, &settings, &RealDisk)?;
    let mut state = State::load(dir, &RealDisk).0;
    count_losses(&mut state, &recovery);
    Ok((spool, state))
}

/// What was found lost is told only once: it is counted here, the agent's next start will not hear of it.
fn count_losses(state: &mut State, recovery: &Recovery) {
    let mut books = Books::open(state, None).0;
    recovery.losses.iter().for_each(|loss| books.lost_by_spool(loss));
    books.keep_in(state);
}

/// Closes the spool and keeps the books: produced = delivered + pending + dropped.
fn close(spool: Spool, state: &mut State, dir: &Path, reason: DropReason, events: u64) -> Result<(), Failure> {
    let pending = spool.pending().events;
    spool.close(&RealDisk)?;
    let mut books = Books::open(state, None).0;
    books.lost(reason, None, events, (0, 0));
    books.settle(pending);
    books.keep_in(state);
    state.save(dir, &RealDisk)?;
    Ok(())
}

fn say_damage(file: &Path, report: &export::FileReport) -> u8 {
    if report.damaged == 0 && !report.cut {
        return EXIT_OK;
    }
    let cut = if report.cut { ", and its end is missing" } else { "" };
    say(format_args!("{}: {} damaged places were skipped{cut}", file.display(), report.damaged));
    EXIT_FAILED
}

/// A progress bar on a terminal, nothing elsewhere.
struct Bar {
    verb: &'static str,
    total: Option<u64>,
    shown_ms: u64,
    on: bool,
}

impl Bar {
    fn new(verb: &'static str, total: Option<u64>) -> Self {
        Self { verb, total, shown_ms: 0, on: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, events: u64) {
        const WIDTH: usize = 30;
        let now_ms = RealClock::new().monotonic_ms();
        if !self.on || now_ms < self.shown_ms + 100 {
            return;
        }
        self.shown_ms = now_ms;
        let line = match self.total {
            Some(total) if total > 0 => {
                let done = events.min(total);
                let full = (done * WIDTH as u64 / total) as usize;
                let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
                format!("\r[{bar}] {:3} % {events} of {total} events {}", done * 100 / total, self.verb)
            }
            _ => format!("\r{events} events {}", self.verb),
        };
        // Nobody can be told that the terminal is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn end(&self) {
        if self.on && self.shown_ms > 0 {
            let _ = std::io::stderr().lock().write_all(b"\n");
        }
    }
}
