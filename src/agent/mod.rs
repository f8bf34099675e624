//! The loop: it carries data from room to room, one unit of work at a time.
//!
//! [`Agent::poll`] does at most one blocking thing and says when it wants to be called again. In order of urgency:
//!
//! ```text
//!   a scrape that is due, then convert, then into the lane
//!   what must reach the disk now: lane -> spool, fsync
//!   one delivery attempt: in flight, else lane, else backlog
//!   a discovery refresh; the status file
//! ```
//!
//! Scrapes come first, yet nothing starves: work that has waited for [`PATIENCE_MS`] past its time goes before them. So a
//! simulator can crash, cut the power, step the clock or fail the disk between any two units.
//!
//! Refuses: to know formats. Text is parsed in `scrape`, built in `convert`, stored in `spool`, sent by `ship`.

pub mod counts;
mod delivery;
mod lane;
mod report;
mod restamp;
mod schedule;
mod send;
pub mod state;
pub mod status;
mod storage;
pub mod time;

pub use storage::OpenError;

use crate::convert::{Converter, Moment};
use crate::discovery::Discoverer;
use crate::env::Env;
use crate::host::Host;
use crate::model::settings::Settings;
use crate::scrape::{ScrapeErrorKind, Scraper, report_samples};
use crate::ship::Shipper;
use counts::{Counts, DropReason};
use delivery::{InFlight, Pace, Sent, Source};
use lane::Lane;
pub use report::note_loss_of_spool;
use schedule::Schedule;
use state::State;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use storage::{Appended, Storage};
use time::{Standing, Timekeeper};

/// Work that is this late goes before scrapes.
const PATIENCE_MS: u64 = 1_000;
/// How often the status file is written.
const STATUS_MS: u64 = 5_000;
/// How often the state file is written when nothing happens.
const STATE_MS: u64 = 24 * 3_600_000;
/// Live events wait for company at most this share of `sync_interval`, so that on a good day they leave before they
/// would have to reach the disk.
const FLUSH_SHARE_PERCENT: u64 = 60;

/// When [`Agent::poll`] wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakeup {
    /// Monotonic milliseconds; in the past: at once.
    pub at_ms: u64,
}

/// The whole agent, but for the clock, the disk and the network.
pub struct Agent {
    settings: Settings,
    discoverer: Discoverer,
    schedule: Schedule,
    scraper: Scraper,
    host: Host,
    converter: Converter,
    lane: Lane,
    storage: Storage,
    shipper: Shipper,
    in_flight: Option<InFlight>,
    pace: Pace,
    sent: Sent,
    keeper: Timekeeper,
    counts: Counts,
    state: State,
    left_out: BTreeMap<String, u64>,
    damaged_records: u64,
    /// The last attempt failed: scrapes go to the disk at once.
    link_down_since_ms: Option<u64>,
    held_logged: bool,
    /// When a clean stop must be over (monotonic), once it has begun. Live events then wait for no company any more.
    stop_by_ms: Option<u64>,
    status_path: Option<PathBuf>,
    status_due_ms: u64,
    state_due_ms: u64,
    bounds_due_ms: u64,
    /// When the last delivery attempt ended.
    attempted_ms: u64,
    probe_due_ms: u64,
    started_ms: i64,
    busy: report::Busy,
}

impl Agent {
    /// Opens the state directory and takes over what the last process left.
    ///
    /// # Errors
    /// The state directory is in use by another process.
    pub fn new(settings: Settings, status_path: Option<PathBuf>, env: Env<'_>) -> Result<Self, OpenError> {
        let now_ms = env.clock.monotonic_ms();
        let (storage, recovery) = Storage::open(&settings.buffer, env)?;
        let mut state = storage.load_state(env.disk);
        let mut converter = Converter::new(settings.convert.clone());
        if state.clean
            && let Some(bytes) = storage.load_baselines(env.disk)
            && let Err(error) = converter.load_baselines(&bytes, moment(env))
        {
            log::warn!("counter baselines are of no use, counters start anew: {error:?}");
        }
        let mut counts = state.counts();
        for loss in recovery.iter().flat_map(|recovery| &recovery.losses) {
            note_loss_of_spool(&mut counts, &mut state, loss);
        }
        counts.settle(storage.spool_ref().map_or(0, |spool| spool.pending().events));
        // From here on the baselines on disk are out of date: they count again only after a clean stop.
        state.clean = false;
        state.status_file = status_path.as_ref().map(|path| path.display().to_string());
        let jobs = settings.jobs.iter().cloned().map(Rc::new).collect();
        let mut agent = Self {
            discoverer: Discoverer::new(jobs),
            schedule: Schedule::default(),
            scraper: Scraper::new(),
            host: Host::default(),
            converter,
            lane: Lane::default(),
            storage,
            shipper: Shipper::new(settings.upload.clone()),
            in_flight: None,
            pace: Pace::default(),
            sent: Sent::default(),
            keeper: Timekeeper::new(env.clock, state.boots.clone(), state.credible_ms),
            counts,
            state,
            left_out: BTreeMap::new(),
            damaged_records: 0,
            link_down_since_ms: None,
            held_logged: false,
            stop_by_ms: None,
            status_path,
            status_due_ms: now_ms,
            state_due_ms: now_ms + STATE_MS,
            bounds_due_ms: now_ms,
            attempted_ms: now_ms,
            probe_due_ms: now_ms,
            started_ms: env.clock.wall_ms(),
            busy: report::Busy::new(now_ms),
            settings,
        };
        if let Some(recovery) = recovery {
            agent.take_over(&recovery);
        }
        agent.save_state(env);
        agent.schedule.replace(agent.discoverer.targets(), now_ms);
        Ok(agent)
    }

    /// Does one unit of work.
    pub fn poll(&mut self, env: Env<'_>) -> Wakeup {
        let now_ms = env.clock.monotonic_ms();
        self.look_at_clock(env);
        let did = self.work(now_ms, env);
        let end_ms = env.clock.monotonic_ms();
        self.busy.add(end_ms - now_ms);
        Wakeup { at_ms: if did { end_ms } else { self.next_ms(end_ms) } }
    }

    /// One unit of work, the most urgent. False: nothing is due.
    fn work(&mut self, now_ms: u64, env: Env<'_>) -> bool {
        let late = |due_ms: Option<u64>| due_ms.is_some_and(|due_ms| due_ms + PATIENCE_MS <= now_ms);
        let due = |due_ms: Option<u64>| due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        if late(self.disk_due_ms()) {
            self.write_out(env);
        } else if late(self.delivery_due_ms(now_ms, env)) {
            self.deliver(env);
        } else if now_ms.checked_sub(PATIENCE_MS).is_some_and(|by_ms| self.upkeep(by_ms, env)) {
            // Done: a loop that has more to scrape than time must still say so, and hear of a shorter list of targets.
        } else if let Some(index) = self.schedule.most_overdue(now_ms) {
            self.scrape(index, env);
        } else if due(self.disk_due_ms()) {
            self.write_out(env);
        } else if due(self.delivery_due_ms(now_ms, env)) {
            self.deliver(env);
        } else {
            return self.upkeep(now_ms, env);
        }
        true
    }

    /// What else was due by then, one thing of it. Says whether there was any.
    fn upkeep(&mut self, by_ms: u64, env: Env<'_>) -> bool {
        if self.discoverer.next_due_ms().is_some_and(|due_ms| due_ms <= by_ms) {
            if self.discoverer.refresh(env) {
                self.schedule.replace(self.discoverer.targets(), env.clock.monotonic_ms());
                self.converter.forget_missing(self.discoverer.targets().iter().map(Rc::as_ref));
            }
        } else if self.bounds_due_ms <= by_ms {
            self.enforce_bounds(env);
        } else if self.status_due_ms <= by_ms {
            self.write_status(env);
        } else if self.state_due_ms <= by_ms {
            self.save_state(env);
        } else {
            return false;
        }
        true
    }

    fn next_ms(&mut self, now_ms: u64) -> u64 {
        let dues = [
            self.schedule.next_due_ms(),
            self.disk_due_ms(),
            self.delivery_wakeup_ms(),
            self.discoverer.next_due_ms(),
            Some(self.status_due_ms),
            Some(self.state_due_ms),
            Some(self.bounds_due_ms),
        ];
        dues.into_iter().flatten().min().unwrap_or(now_ms + STATUS_MS)
    }

    /// Takes over new settings: what waits keeps waiting, baselines stay.
    pub fn reload(&mut self, settings: Settings, env: Env<'_>) {
        let now_ms = env.clock.monotonic_ms();
        self.converter.reconfigure(settings.convert.clone());
        self.shipper.reload(settings.upload.clone());
        self.discoverer = Discoverer::new(settings.jobs.iter().cloned().map(Rc::new).collect());
        self.scraper = Scraper::new();
        self.schedule.replace(self.discoverer.targets(), now_ms);
        if settings.buffer.state_dir != self.settings.buffer.state_dir {
            log::warn!("state_dir does not change in a running agent: restart it for that");
        }
        let state_dir = self.settings.buffer.state_dir.clone();
        self.settings = settings;
        self.settings.buffer.state_dir = state_dir;
        self.storage.reconfigure(&self.settings.buffer);
    }

    /// A clean stop: what is live gets a last chance until `deadline_ms` (monotonic) if the link is up, everything else
    /// goes to the disk, counter baselines too.
    pub fn stop(&mut self, deadline_ms: u64, env: Env<'_>) {
        self.stop_by_ms = Some(deadline_ms);
        while self.link_down_since_ms.is_none()
            && self.live_due_ms().is_some_and(|due_ms| due_ms <= env.clock.monotonic_ms())
            && env.clock.monotonic_ms() < deadline_ms
            && self.shipper.not_before_ms() <= env.clock.monotonic_ms()
            && self.may_send(env)
        {
            self.deliver(env);
        }
        self.write_out(env);
        if self.storage.dir().is_some() {
            self.state.clean = self.storage.save_baselines(&self.converter.save_baselines(moment(env)), env.disk);
        }
        self.save_state(env);
        self.write_status(env);
        self.storage.close(env);
        if !self.lane.is_empty() {
            log::warn!("{} events were lost with this process: there is no disk to keep them on", self.lane.events());
        }
    }

    /// Where every event went, and how many wait.
    pub fn counts(&self) -> (&Counts, u64) {
        (&self.counts, self.pending_events())
    }

    fn scrape(&mut self, index: usize, env: Env<'_>) {
        let started_ms = env.clock.monotonic_ms();
        let timeout_ms = self.schedule.timeout_ms(index, started_ms);
        let target = Rc::clone(&self.schedule.entries()[index].target);
        let scraped = self.scraper.scrape(&target, timeout_ms, env, &mut |page| {
            let mut text = String::new();
            self.host.render(env, Path::new("/"), &mut text);
            page(text.as_bytes());
        });
        if matches!(&scraped.outcome, Err(error) if error.kind == ScrapeErrorKind::Stopped) {
            return;
        }
        let report_samples = report_samples(&target, &scraped);
        self.note_scrape(index, &scraped, timeout_ms, env);
        let (report, page) = (scraped.report, scraped.outcome.ok());
        let converted = self.converter.convert(&target, &report, page, &report_samples, started_ms);
        self.note_left_out(&converted.counts);
        self.counts.produced += converted.events.len() as u64;
        self.lane.push(converted.events, report.start_ms, started_ms);
        self.schedule.done(index, started_ms, env.clock.monotonic_ms());
        if self.link_down_since_ms.is_some() {
            self.append_lane(env);
        }
        self.bound_lane(env);
    }

    /// What the agent must write: lane records that got too old, and the sync of what was appended.
    fn disk_due_ms(&self) -> Option<u64> {
        let lane_ms = self.lane.front().map(|record| record.monotonic_ms + self.settings.buffer.sync_interval_ms);
        let lane_ms = lane_ms.and_then(|due_ms| self.storage.append_due_ms(due_ms));
        [lane_ms, self.storage.sync_due_ms()].into_iter().flatten().min()
    }

    fn write_out(&mut self, env: Env<'_>) {
        self.append_lane(env);
        if self.storage.sync_due_ms().is_some() {
            self.storage.sync(env);
        }
    }

    /// Moves the lane to the spool, as far as the disk takes it.
    fn append_lane(&mut self, env: Env<'_>) {
        if let Some(recovery) = self.storage.heal(env) {
            self.take_over(&recovery);
            for loss in &recovery.losses {
                note_loss_of_spool(&mut self.counts, &mut self.state, loss);
            }
            self.counts.settle(recovery.events + self.lane.events());
        }
        let confirmed = self.keeper.standing(env.clock) == Standing::Confirmed;
        for id in self.for_disk(env) {
            let Some(record) = self.lane.get(id) else { continue };
            let (key, events) = (Rc::clone(&record.key), record.events.len() as u64);
            match self.storage.append(record, confirmed, env) {
                Appended::At(sequence) => {
                    self.lane.remove(id);
                    if let Some(in_flight) = &mut self.in_flight {
                        for source in in_flight.sources.iter_mut().filter(|source| **source == Source::Lane(id)) {
                            *source = Source::Spool(sequence, sequence + events);
                        }
                    }
                }
                Appended::TooLarge => {
                    if let Some(record) = self.lane.remove(id) {
                        self.lose(DropReason::MaxBytes, &key, &record.events);
                    }
                }
                Appended::NotNow => break,
            }
        }
        self.collect_losses();
    }

    /// The live records that belong on the disk now: all, unless the link is up. Then it is those that waited too long, and with
    /// them those of streams that the service refuses; the others are about to be sent.
    fn for_disk(&self, env: Env<'_>) -> Vec<u64> {
        let now_ms = env.clock.monotonic_ms();
        let all = self.link_down_since_ms.is_some()
            || self.stop_by_ms.is_some()
            || self.lane.billed_bytes() > self.settings.buffer.memory_bytes;
        let sync_ms = self.settings.buffer.sync_interval_ms;
        let records = self.lane.iter().filter(|record| {
            all || record.monotonic_ms + sync_ms <= now_ms || self.shipper.held_until_ms(&record.key) > now_ms
        });
        records.map(|record| record.id).collect()
    }

    /// Without a disk memory is all there is: the oldest events make room.
    fn bound_lane(&mut self, env: Env<'_>) {
        // While the link is up the newest scrape is on its way already, however large it is: a big page must not be written
        // to disk on a good day. It counts when the next one comes and it is still here.
        let spared = if self.link_down_since_ms.is_none() { self.lane.newest_billed_bytes() } else { 0 };
        if self.lane.billed_bytes() - spared <= self.settings.buffer.memory_bytes {
            return;
        }
        self.append_lane(env);
        while self.lane.billed_bytes() > self.settings.buffer.memory_bytes {
            // What is being sent may have arrived already: it is never dropped.
            let sending = |id| self.in_flight.as_ref().is_some_and(|f| f.sources.contains(&Source::Lane(id)));
            let Some(id) = self.lane.iter().map(|record| record.id).find(|id| !sending(*id)) else { break };
            let Some(record) = self.lane.remove(id) else { break };
            self.lose(DropReason::MemoryFull, &record.key, &record.events);
        }
    }

    fn enforce_bounds(&mut self, env: Env<'_>) {
        let pause_ms = (self.settings.buffer.max_age_ms / 4).clamp(1_000, 60_000);
        self.bounds_due_ms = env.clock.monotonic_ms() + pause_ms;
        let boot = crate::spool::boot_checksum(&env.clock.boot_id());
        let oldest_ms = env.clock.monotonic_ms().checked_sub(self.settings.buffer.max_age_ms);
        let Some(spool) = self.storage.spool() else { return };
        let losses = spool.enforce_bounds(&|of| oldest_ms.filter(|_| of == boot), env.disk);
        let lost = !losses.is_empty();
        for loss in losses {
            self.note_spool_loss(&loss);
        }
        if lost {
            self.save_state(env);
        }
    }

    fn look_at_clock(&mut self, env: Env<'_>) {
        let before = self.keeper.standing(env.clock);
        if let Some(step_ms) = self.keeper.observe(env.clock, self.shipper.skew_ms(env.clock)) {
            log::info!("the clock was set by {} s; events that have not been sent move with it", step_ms / 1000);
        }
        let standing = self.keeper.standing(env.clock);
        if standing != before {
            // Not worth a write of its own: records on disk say of themselves whether their clock was confirmed.
            log::info!("the clock is {} (it was {})", standing.as_str(), before.as_str());
        }
    }

    fn save_state(&mut self, env: Env<'_>) {
        self.state_due_ms = env.clock.monotonic_ms() + STATE_MS;
        self.state.set_counts(&self.counts);
        (self.state.boots, self.state.credible_ms) = self.keeper.remembered(env.clock);
        self.storage.save_state(&self.state, env);
    }
}

fn moment(env: Env<'_>) -> Moment {
    Moment { wall_ms: env.clock.wall_ms(), monotonic_ms: env.clock.monotonic_ms(), boot_id: env.clock.boot_id() }
}
