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

pub mod books;
mod delivery;
mod gather;
mod lane;
mod report;
mod schedule;
mod send;
pub mod state;
pub mod status;
mod storage;

pub use storage::OpenError;

use crate::clock::{Device, Standing, Timekeeper, True};
use crate::convert::{Converter, Moment};
use crate::discovery::Discoverer;
use crate::env::Env;
use crate::host::Host;
use crate::model::Ranges;
use crate::model::settings::Settings;
use crate::scrape::{ScrapeErrorKind, Scraper, report_samples};
use crate::ship::Shipper;
use books::{Books, Counts, DropReason};
use delivery::{Delivery, Home, Pace, Sent};
use lane::Lane;
use schedule::Schedule;
use state::State;
use status::Status;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use storage::{Appended, Storage};

/// Work that is this late goes before scrapes.
const PATIENCE_MS: u64 = 1_000;
/// How often the status file is written.
const STATUS_MS: u64 = 5_000;
/// How often the state file is written when nothing happens.
const STATE_MS: u64 = 24 * 3_600_000;
/// A clean stop begins to send a body only so long after it was asked for, and in the first third of its time; the last one may
/// take longer.
const STOP_SENDING_MS: u64 = 3_000;
/// How often a clean stop repeats a body that nobody answered.
const STOP_TRIES: u32 = 2;

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
    delivery: Delivery,
    pace: Pace,
    sent: Sent,
    keeper: Timekeeper,
    books: Books,
    state: State,
    left_out: BTreeMap<String, u64>,
    damaged_records: u64,
    /// The last attempt failed: scrapes go to the disk at once.
    link_down_since_ms: Option<u64>,
    held_logged: bool,
    /// Something waits for a time that is surer; AWS is asked for it.
    time_wanted: bool,
    question_not_before_ms: u64,
    /// The last question was answered, if at all, without a time.
    asked_in_vain: bool,
    /// Records of the spool, by their first numbers, of which nothing can be sent for now.
    set_apart: Ranges,
    /// The boots of the backlog that was found at the start.
    backlog_boots: Vec<[u8; 16]>,
    /// When a clean stop must be over (monotonic), once it has begun. Live events then wait for no company any more.
    stop_by_ms: Option<u64>,
    status_path: Option<PathBuf>,
    status_due_ms: u64,
    state_due_ms: u64,
    bounds_due_ms: u64,
    /// When the last delivery attempt ended.
    attempted_ms: u64,
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
        let live = status_path.as_ref().and_then(|path| Status::read(path, env.disk));
        let (books, trouble) = Books::open(&state, live.as_ref());
        if let Some(trouble) = trouble {
            log::warn!("state.json: {trouble}");
        }
        if state.id.is_none() {
            state.id = Some(format!("{:016x}", env.clock.random()));
        }
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
            delivery: Delivery::default(),
            pace: Pace::default(),
            sent: Sent::default(),
            keeper: Timekeeper::new(env.clock, state.boots.clone(), state.credible_ms),
            books,
            state,
            left_out: BTreeMap::new(),
            damaged_records: 0,
            link_down_since_ms: None,
            held_logged: false,
            time_wanted: false,
            question_not_before_ms: now_ms,
            asked_in_vain: false,
            set_apart: Ranges::default(),
            backlog_boots: Vec::new(),
            stop_by_ms: None,
            status_path,
            status_due_ms: now_ms,
            state_due_ms: now_ms + STATE_MS,
            bounds_due_ms: now_ms,
            attempted_ms: now_ms,
            started_ms: env.clock.wall_ms(),
            busy: report::Busy::new(now_ms),
            settings,
        };
        if let Some(recovery) = recovery {
            agent.take_over(&recovery);
        }
        agent.books.settle(agent.pending_events());
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
        Wakeup { at_ms: if did { end_ms } else { self.next_ms(end_ms, env) } }
    }

    /// One unit of work, the most urgent. False: nothing is due.
    fn work(&mut self, now_ms: u64, env: Env<'_>) -> bool {
        let late = |due_ms: Option<u64>| due_ms.is_some_and(|due_ms| due_ms + PATIENCE_MS <= now_ms);
        let due = |due_ms: Option<u64>| due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        let delivery_is_late = late(self.delivery_due_ms(now_ms, env));
        if late(self.disk_due_ms()) || delivery_is_late && due(self.disk_due_ms()) {
            // A request may take its time: what is due on the disk comes before one.
            self.write_out(env);
        } else if delivery_is_late {
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
                self.scraper.forget_missing(self.discoverer.targets().iter().map(Rc::as_ref));
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

    fn next_ms(&self, now_ms: u64, env: Env<'_>) -> u64 {
        let dues = [
            self.schedule.next_due_ms(),
            self.disk_due_ms(),
            self.delivery_wakeup_ms(env),
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
        self.discoverer.reload(settings.jobs.iter().cloned().map(Rc::new).collect());
        self.scraper = Scraper::new();
        self.schedule.replace(self.discoverer.targets(), now_ms);
        self.converter.forget_missing(self.discoverer.targets().iter().map(Rc::as_ref));
        if settings.buffer.state_dir != self.settings.buffer.state_dir {
            log::warn!("state_dir does not change in a running agent: restart it for that");
        }
        let state_dir = self.settings.buffer.state_dir.clone();
        self.settings = settings;
        self.settings.buffer.state_dir = state_dir;
        self.storage.reconfigure(&self.settings.buffer);
        self.look_again();
    }

    /// A clean stop: what is live gets a last chance for three seconds if the link is up, and the last body until `deadline_ms`
    /// (monotonic) for its answer; everything else goes to the disk, counter baselines too.
    pub fn stop(&mut self, deadline_ms: u64, env: Env<'_>) {
        self.stop_by_ms = Some(deadline_ms);
        // The last requests may take their time, and the power may go meanwhile.
        if self.storage.sync_due_ms().is_some() {
            self.storage.sync(env);
        }
        let now_ms = env.clock.monotonic_ms();
        let last_ms = now_ms + STOP_SENDING_MS.min(deadline_ms.saturating_sub(now_ms) / 3);
        let live = |agent: &Self| agent.delivery.now.is_some().then_some(0).or(agent.live_due_ms());
        while self.link_down_since_ms.is_none()
            && live(self).is_some_and(|due_ms| due_ms <= env.clock.monotonic_ms())
            && env.clock.monotonic_ms() < last_ms
            && self.shipper.not_before_ms() <= env.clock.monotonic_ms()
            && self.may_send(env)
        {
            self.deliver(env);
        }
        // A body that may have been stored is asked for once more or twice: whoever takes it now need not take it again.
        for _ in 0..STOP_TRIES {
            if env.clock.monotonic_ms() < deadline_ms && self.may_send(env) && self.delivery.is_uncertain() {
                // Each try may take seconds, and the power may go in any of them.
                if self.disk_due_ms().is_some_and(|due_ms| due_ms <= env.clock.monotonic_ms()) {
                    self.write_out(env);
                }
                self.shipper.hurry();
                self.deliver(env);
            }
        }
        self.write_out(env);
        // What only a body has goes with this process: it is counted as long as somebody can.
        for flight in self.delivery.take_all() {
            self.let_go(flight, env);
        }
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
        (self.books.counts(), self.pending_events())
    }

    fn scrape(&mut self, index: usize, env: Env<'_>) {
        let started_ms = env.clock.monotonic_ms();
        let timeout_ms = self.schedule.timeout_ms(index, started_ms);
        let target = Rc::clone(&self.schedule.entries()[index].target);
        let intake = self.converter.intake(&target);
        let mut host_page = |page: &mut dyn FnMut(&[u8])| {
            let mut text = String::new();
            self.host.render(env, Path::new("/"), &mut text);
            page(text.as_bytes());
        };
        let scraped = self.scraper.scrape_into(&target, timeout_ms, env, &mut host_page, intake);
        if matches!(&scraped.outcome, Err(error) if error.kind == ScrapeErrorKind::Stopped) {
            return;
        }
        let report_samples = report_samples(&target, &scraped);
        self.note_scrape(index, &scraped, timeout_ms, env);
        let (report, succeeded) = (scraped.report, scraped.outcome.is_ok());
        let converted = self.converter.finish(&target, &report, succeeded, &report_samples, started_ms);
        self.note_left_out(&converted.counts);
        self.books.produced(converted.events.len() as u64);
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
        self.look_at_storage(env);
        self.heal(env);
        let confirmed = self.keeper.standing(env.clock) == Standing::Confirmed;
        for first in self.for_disk(env) {
            let Some(record) = self.lane.get(first) else { continue };
            // Of this boot, so what could be too old plays no part.
            let (boot_id, wall) = (env.clock.boot_id(), Device(record.wall_ms));
            let placement = self.keeper.place(&boot_id, record.monotonic_ms, wall, True(0));
            let delta_ms = if confirmed { placement.delta_ms } else { 0 };
            match self.storage.append(record, confirmed, delta_ms, env) {
                Appended::At(sequence) => {
                    if let Some(record) = self.lane.remove(first) {
                        self.delivery.relocate(&record.pending, sequence);
                    }
                    self.collect_losses();
                    self.pin();
                }
                Appended::TooLarge => {
                    self.drop_record(first, DropReason::MaxBytes);
                    // What is left of it is being sent. It must not stay as something that belongs on the disk.
                    if let Some(record) = self.lane.remove(first) {
                        self.delivery.detach_live(&record.pending);
                    }
                }
                Appended::NotNow => break,
            }
        }
        self.collect_losses();
    }

    /// Drops a live record, but for those of its events that are being sent: they may have arrived already.
    fn drop_record(&mut self, first: u64, reason: DropReason) {
        let Some(record) = self.lane.get(first) else { return };
        let (key, mut numbers) = (Rc::clone(&record.key), record.pending.clone());
        let times = || record.events.iter().map(|event| event.timestamp_ms);
        let times = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        for (from, to) in self.delivery.numbers(Home::Lane).iter() {
            numbers.remove(from, to);
        }
        let events = self.lane.settle(&numbers);
        self.books.lost(reason, Some(&key), events, times);
    }

    /// Looks whether the state directory is still there, and begins anew with another where it is not.
    fn look_at_storage(&mut self, env: Env<'_>) {
        let Some(left) = self.storage.look(env) else { return };
        left.losses.iter().for_each(|loss| self.books.lost_by_spool(loss));
        // What was not synced yet is in memory still. What a body holds stays with it alone.
        let held = self.delivery.numbers(Home::Spool);
        for record in left.records {
            let numbers = record.pending.iter().flat_map(|(from, to)| from..to);
            let events = record.events.into_iter().zip(numbers);
            let events = events.filter(|(_, number)| !held.contains(*number)).map(|(event, _)| event).collect();
            self.lane.push(events, record.meta.wall_ms, record.meta.monotonic_ms);
        }
        self.delivery.detach_all();
        self.look_again();
        self.heal(env);
        self.books.settle(self.pending_events());
        self.save_state(env);
    }

    /// Opens the state directory when it is time to try again.
    fn heal(&mut self, env: Env<'_>) {
        if let Some(recovery) = self.storage.heal(env) {
            self.take_over(&recovery);
            self.books.settle(self.pending_events());
            self.pin();
        }
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
        records.map(|record| record.first).collect()
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
        let sending = self.delivery.numbers(Home::Lane);
        let all: Vec<u64> = self.lane.iter().map(|record| record.first).collect();
        for first in all {
            if self.lane.billed_bytes() <= self.settings.buffer.memory_bytes {
                break;
            }
            if !sending.contains(first) {
                self.drop_record(first, DropReason::MemoryFull);
            }
        }
    }

    fn enforce_bounds(&mut self, env: Env<'_>) {
        let pause_ms = (self.settings.buffer.max_age_ms / 4).clamp(1_000, 60_000);
        self.bounds_due_ms = env.clock.monotonic_ms() + pause_ms;
        self.look_at_storage(env);
        self.pin();
        let boots = self.boots_by_checksum();
        let (keeper, max_age_ms) = (&self.keeper, self.settings.buffer.max_age_ms);
        let oldest_ms = |boot: u32| {
            let (_, id) = boots.iter().find(|(sum, _)| *sum == boot)?;
            keeper.oldest_ms(id, max_age_ms, env.clock)
        };
        let Some(spool) = self.storage.spool() else { return };
        let losses = spool.enforce_bounds(&oldest_ms, env.disk);
        losses.iter().for_each(|loss| self.books.lost_by_spool(loss));
        self.collect_losses();
        if !losses.is_empty() {
            self.save_state(env);
        }
    }

    fn look_at_clock(&mut self, env: Env<'_>) {
        let before = self.time_standing(env);
        let step_ms = self.keeper.observe(env.clock);
        if let Some(step_ms) = step_ms {
            log::info!("the clock was set by {} s; events that have not been sent move with it", step_ms / 1000);
        }
        self.note_time(before, step_ms.is_some(), env);
    }

    fn save_state(&mut self, env: Env<'_>) {
        self.state_due_ms = env.clock.monotonic_ms() + STATE_MS;
        self.books.keep_in(&mut self.state);
        (self.state.boots, self.state.credible_ms) = self.keeper.remembered(env.clock);
        self.storage.save_state(&self.state, env);
    }
}

fn moment(env: Env<'_>) -> Moment {
    Moment { wall_ms: env.clock.wall_ms(), monotonic_ms: env.clock.monotonic_ms(), boot_id: env.clock.boot_id() }
}
