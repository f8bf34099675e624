//! One delivery attempt: choose what goes next, give it its times, take one step, and act on the answer.
//!
//! ```text
//!            gather                    accepted
//!  [nothing] -------> [in flight] ----------------> records let go, next
//!                      |  ^   |
//!             no answer|  |   | too large: halved; never acceptable: dropped and counted
//!                      v  |   v
//!                     [waits as shipped says]
//! ```

use super::counts::DropReason;
use super::delivery::{InFlight, Source, next_part};
use super::lane::BATCH_BYTES_MAX;
use super::time::{Standing, certificate_time};
use super::{Agent, FLUSH_SHARE_PERCENT, restamp};
use crate::env::{Env, Limits};
use crate::model::settings::Expired;
use crate::model::{Event, StreamKey};
use crate::ship::{Rejected, Step, Trouble};
use crate::spool::{Age, BatchLimits, Outcome, Ranges, SpoolBatch};
use std::collections::VecDeque;
use std::rc::Rc;

/// An attempt always gets this long, and gives up when nothing has moved for as long.
const STALL_MS: u64 = 2_000;
/// While bytes move an attempt may take this long.
const ATTEMPT_MS: u64 = 10_000;
/// While the clock is not credible, AWS is asked for the time this often.
const PROBE_MS: u64 = 30_000;
/// CloudWatch Logs refuses older events (PutLogEvents, API reference); a minute less, for the way there.
const TOO_OLD_MS: i64 = 14 * 24 * 3_600_000 - 60_000;
/// How long to wait before looking again for something in the backlog that may be sent.
const IDLE_MS: u64 = 5_000;
/// A large live scrape is cut no smaller than this, as a batch counts bytes: some 8 kB compressed.
const LIVE_PART_BYTES: u64 = 64 << 10;
/// A body that ran out of time this often is cut in halves.
const TIMEOUTS_MAX: u32 = 3;

impl Agent {
    /// Whether there is a clock to send with.
    pub(super) fn may_send(&self, env: Env<'_>) -> bool {
        self.keeper.standing(env.clock) != Standing::NotCredible
    }

    /// When the next attempt is due, if there is anything to send.
    pub(super) fn delivery_wakeup_ms(&self) -> Option<u64> {
        if self.in_flight.is_some() {
            let due_ms = self.live_due_ms()?.max(self.attempted_ms).max(self.shipper.not_before_ms());
            return Some(due_ms.max(if self.held_logged { self.probe_due_ms } else { 0 }));
        }
        let marker_ms =
            self.state.losses.iter().map(|loss| self.attempted_ms.max(self.held_until_ms(&loss.key()))).min();
        let backlog_ms = self.has_backlog().then_some(self.pace.backlog_not_before_ms);
        let due_ms = [self.live_due_ms(), marker_ms, backlog_ms].into_iter().flatten().min()?;
        Some(due_ms.max(self.shipper.not_before_ms()).max(if self.held_logged { self.probe_due_ms } else { 0 }))
    }

    /// When there is something to do for the batch in flight, or else for the live lane.
    pub(super) fn live_due_ms(&self) -> Option<u64> {
        match &self.in_flight {
            Some(in_flight) => Some(in_flight.parts.front().map_or(0, |batch| self.held_until_ms(&batch.key))),
            None => self.next_of_lane().map(|(due_ms, _)| due_ms),
        }
    }

    /// The stream whose live events have waited long enough for company first, and when that is. One that the service
    /// refuses must not keep the others waiting.
    fn next_of_lane(&self) -> Option<(u64, Rc<StreamKey>)> {
        let before_sync_ms = self.settings.buffer.sync_interval_ms * FLUSH_SHARE_PERCENT / 100;
        let full = self.stop_by_ms.is_some() || self.lane.billed_bytes() >= BATCH_BYTES_MAX;
        let wait_ms = if full { 0 } else { self.settings.upload.flush_interval_ms.min(before_sync_ms) };
        let mut next: Option<(u64, Rc<StreamKey>)> = None;
        let mut seen: Vec<&Rc<StreamKey>> = Vec::new();
        for record in self.lane.iter() {
            if seen.contains(&&record.key) {
                continue;
            }
            seen.push(&record.key);
            let due_ms = (record.monotonic_ms + wait_ms).max(self.held_until_ms(&record.key));
            if next.as_ref().is_none_or(|(earliest_ms, _)| due_ms < *earliest_ms) {
                next = Some((due_ms, Rc::clone(&record.key)));
            }
        }
        next
    }

    fn held_until_ms(&self, key: &StreamKey) -> u64 {
        self.shipper.held_until_ms(key)
    }

    pub(super) fn delivery_due_ms(&self, now_ms: u64, env: Env<'_>) -> Option<u64> {
        let due_ms = self.delivery_wakeup_ms().filter(|due_ms| *due_ms <= now_ms)?;
        if self.may_send(env) { Some(due_ms) } else { Some(due_ms.max(self.probe_due_ms)).filter(|due| *due <= now_ms) }
    }

    fn has_backlog(&self) -> bool {
        self.storage.spool_ref().is_some_and(|spool| spool.pending().records > 0)
    }

    /// One attempt.
    pub(super) fn deliver(&mut self, env: Env<'_>) {
        if self.may_send(env) {
            self.attempt(env);
        } else {
            self.ask_the_time(env);
        }
        self.attempted_ms = env.clock.monotonic_ms();
    }

    fn attempt(&mut self, env: Env<'_>) {
        self.held_logged = false;
        self.rebuild_if_the_clock_moved(env);
        if self.in_flight.is_none() {
            self.in_flight = self.gather(env);
        }
        let Some(mut in_flight) = self.in_flight.take() else { return };
        self.refill(&mut in_flight, env);
        let Some(batch) = in_flight.parts.front() else {
            self.release(&in_flight, env);
            return;
        };
        let started_ms = env.clock.monotonic_ms();
        let limits = Limits { total_ms: self.attempt_ms(started_ms), stall_ms: STALL_MS };
        let step = self.shipper.step(batch, limits, certificate_time(&self.keeper, env), env);
        let took_ms = env.clock.monotonic_ms() - started_ms;
        if !matches!(step, Step::Progress | Step::Hold { .. }) {
            self.sent.requests += 1;
            self.sent.body_bytes += batch.body_bytes();
        }
        match step {
            Step::Progress | Step::Interrupted => {}
            Step::Delivered { rejected } => {
                self.pace.answered(batch, took_ms);
                if in_flight.backlog {
                    self.pace.charge(batch.body_bytes(), &self.settings.upload, env.clock.monotonic_ms());
                }
                self.link_is_up(env);
                if !in_flight.sources.contains(&Source::Marker) {
                    self.count_delivered(batch.events, &rejected, &batch.key, (batch.first_ms, batch.last_ms));
                }
                in_flight.settled += u64::from(batch.events);
                in_flight.parts.pop_front();
                in_flight.timeouts = 0;
            }
            Step::Wait => {
                self.pace.failed();
                if self.shipper.status(env.clock).trouble == Some(Trouble::TimedOut) {
                    in_flight.timeouts += 1;
                }
                if in_flight.timeouts >= TIMEOUTS_MAX {
                    in_flight.timeouts = 0;
                    halve(&mut in_flight.parts);
                }
                self.link_is_down(env);
            }
            Step::Hold { .. } => {
                // Only this stream has to wait: its records go to the disk in their turn, others take their place here.
                if !in_flight.has_begun() {
                    return;
                }
            }
            Step::Split => {
                if !halve(&mut in_flight.parts) {
                    self.refuse(&mut in_flight, "CloudWatch Logs takes it neither whole nor in parts");
                }
            }
            Step::Drop { reason } => self.refuse(&mut in_flight, &reason),
        }
        if in_flight.parts.is_empty() && in_flight.rest.is_empty() {
            self.release(&in_flight, env);
        } else {
            self.in_flight = Some(in_flight);
        }
    }

    /// While bytes move an attempt may take its time, but not so long that live events miss their time on the disk.
    fn attempt_ms(&self, now_ms: u64) -> u64 {
        let sync_ms = self.settings.buffer.sync_interval_ms + 1_000;
        let left_ms = self.lane.front().map_or(ATTEMPT_MS, |r| (r.monotonic_ms + sync_ms).saturating_sub(now_ms));
        let left_ms = if self.storage.dir().is_some() { left_ms.clamp(STALL_MS, ATTEMPT_MS) } else { ATTEMPT_MS };
        self.stop_by_ms.map_or(left_ms, |stop_ms| left_ms.min(stop_ms.saturating_sub(now_ms)))
    }

    /// Makes the next body, when there is none, as large as the link takes by now.
    fn refill(&mut self, in_flight: &mut InFlight, env: Env<'_>) {
        if in_flight.parts.is_empty() {
            let window = self.pace.billed_bytes_max().max(if in_flight.backlog { 1 } else { LIVE_PART_BYTES });
            in_flight.parts.extend(next_part(&mut in_flight.rest, window, self.shipper.compress(env.clock)));
        }
    }

    fn gather(&mut self, env: Env<'_>) -> Option<InFlight> {
        let now_ms = env.clock.monotonic_ms();
        if let Some((due_ms, key)) = self.next_of_lane()
            && due_ms <= now_ms
        {
            return self.gather_lane(key, env);
        }
        if let Some(at) = self.state.losses.iter().position(|loss| self.held_until_ms(&loss.key()) <= now_ms) {
            // The first place is that of the loss which is being told.
            self.state.losses.swap(0, at);
            let loss = &self.state.losses[0];
            let key = Rc::new(loss.key());
            let timestamp_ms = self.keeper.now_ms(env.clock);
            let event = Event { key: Rc::clone(&key), timestamp_ms, own_time: true, message: loss.message() };
            return self.in_flight_of(vec![event], vec![Source::Marker], false, env);
        }
        if self.pace.backlog_not_before_ms <= now_ms { self.gather_backlog(env) } else { None }
    }

    fn gather_lane(&mut self, key: Rc<StreamKey>, env: Env<'_>) -> Option<InFlight> {
        let ids = self.lane.next_batch(&key, self.pace.billed_bytes_max());
        let mut events = Vec::new();
        for record in ids.iter().filter_map(|id| self.lane.get(*id)) {
            let placement = self.keeper.place(env.clock.boot_id(), record.monotonic_ms, record.wall_ms);
            events.extend(record.events.iter().cloned().map(|mut event| {
                restamp::shift(&mut event, placement.delta_ms);
                event
            }));
        }
        self.in_flight_of(events, ids.into_iter().map(Source::Lane).collect(), false, env)
    }

    fn gather_backlog(&mut self, env: Env<'_>) -> Option<InFlight> {
        let limits = BatchLimits { billed_bytes: self.pace.billed_bytes_max(), ..BatchLimits::default() };
        let SpoolBatch { records, .. } = self.next_spool_batch(limits, env)?;
        let (mut events, mut sources) = (Vec::new(), Vec::new());
        for record in records {
            let meta = &record.meta;
            let placement = self.keeper.place(meta.boot_id, meta.monotonic_ms, meta.wall_ms);
            // A boot whose clock was confirmed when the scrape was written down needs no estimate.
            let estimated = placement.estimated && !meta.clock_confirmed;
            sources.extend(record.pending.iter().map(|(from, to)| Source::Spool(from, to)));
            events.extend(record.events.into_iter().map(|mut event| {
                if estimated || !placement.estimated {
                    restamp::shift(&mut event, placement.delta_ms);
                }
                if estimated && !event.own_time {
                    restamp::mark_estimated(&mut event);
                }
                event
            }));
        }
        self.in_flight_of(events, sources, true, env)
    }

    fn next_spool_batch(&mut self, limits: BatchLimits, env: Env<'_>) -> Option<SpoolBatch> {
        let now_ms = env.clock.monotonic_ms();
        let keep = self.settings.buffer.expired == Expired::Keep;
        let before_ms = self.keeper.now_ms(env.clock) - TOO_OLD_MS;
        let spool = self.storage.spool()?;
        // The stream that has waited longest first, but one that the service refuses must not keep the others waiting.
        let may_send = |key: &StreamKey| self.shipper.held_until_ms(key) <= now_ms;
        let leave_out = |age: &Age| keep && age.last_ms < before_ms;
        let found = match spool.next_batch(&may_send, &leave_out, limits, env.disk) {
            Ok(found) => found,
            Err(error) => {
                self.storage.give_up(&error, env);
                None
            }
        };
        self.collect_losses();
        if found.is_none() {
            // Nothing that may be sent now: no need to look again at once.
            self.pace.backlog_not_before_ms = env.clock.monotonic_ms() + IDLE_MS;
        }
        found
    }

    /// Applies the rule for expired events and cuts the rest into bodies.
    fn in_flight_of(
        &mut self,
        mut events: Vec<Event>,
        sources: Vec<Source>,
        backlog: bool,
        env: Env<'_>,
    ) -> Option<InFlight> {
        let now_ms = self.keeper.now_ms(env.clock);
        let limit_ms = now_ms - TOO_OLD_MS;
        let mut too_old = Vec::new();
        match self.settings.buffer.expired {
            Expired::Restamp => {
                for event in events.iter_mut().filter(|event| event.timestamp_ms < limit_ms) {
                    restamp::restamp(event, now_ms);
                }
            }
            Expired::Drop | Expired::Keep => {
                let (kept, expired): (Vec<_>, Vec<_>) =
                    events.into_iter().partition(|event| event.timestamp_ms >= limit_ms);
                events = kept;
                too_old = expired;
            }
        }
        events.sort_by_key(|event| event.timestamp_ms);
        let base_ms = self.keeper.base_ms();
        let parts = VecDeque::new();
        Some(InFlight {
            parts,
            rest: events.into(),
            sources,
            backlog,
            base_ms,
            settled: 0,
            expired: too_old,
            timeouts: 0,
        })
    }

    /// A batch that was built before the clock moved has the wrong times. It is built again, unless part of it has been
    /// accepted already: a time that is wrong is better than an event that is there twice.
    fn rebuild_if_the_clock_moved(&mut self, _env: Env<'_>) {
        let moved =
            |in_flight: &InFlight| !in_flight.has_begun() && (in_flight.base_ms - self.keeper.base_ms()).abs() > 1_000;
        if self.in_flight.as_ref().is_some_and(moved) {
            self.in_flight = None;
        }
    }

    /// Lets go of records that have been delivered or dropped for good.
    fn release(&mut self, in_flight: &InFlight, env: Env<'_>) {
        if let Some(event) = in_flight.expired.first() {
            let key = Rc::clone(&event.key);
            self.lose(DropReason::Expired, &key, &in_flight.expired);
        }
        let mut numbers = Ranges::default();
        for source in &in_flight.sources {
            match source {
                Source::Lane(id) => drop(self.lane.remove(*id)),
                Source::Spool(from, to) => numbers.insert(*from, *to),
                Source::Marker => {
                    self.state.losses.remove(0);
                    self.save_state(env);
                }
            }
        }
        if !numbers.is_empty()
            && let Some(spool) = self.storage.spool()
            && let Err(error) = spool.settle(Outcome::Delivered, &numbers, env.disk).1
        {
            self.storage.give_up(&error, env);
        }
        self.collect_losses();
    }

    fn refuse(&mut self, in_flight: &mut InFlight, why: &str) {
        if let Some(batch) = in_flight.parts.pop_front()
            && !in_flight.sources.contains(&Source::Marker)
        {
            log::error!("{} events for {} are dropped: {why}", batch.events, batch.key.stream);
            self.note_loss(DropReason::Refused, &batch.key, batch.events.into(), batch.first_ms, batch.last_ms);
            in_flight.settled += u64::from(batch.events);
        }
    }

    fn count_delivered(&mut self, events: u32, rejected: &Rejected, key: &StreamKey, times: (i64, i64)) {
        let reasons = [
            (DropReason::TooOld, rejected.too_old),
            (DropReason::TooNew, rejected.too_new),
            (DropReason::PastRetention, rejected.expired),
        ];
        let mut accepted = u64::from(events);
        for (reason, count) in reasons {
            if count > 0 {
                let count = u64::from(count).min(accepted);
                log::warn!("CloudWatch Logs rejected {count} events for {}: {}", key.stream, reason.as_str());
                self.note_loss(reason, key, count, times.0, times.1);
                accepted -= count;
            }
        }
        self.counts.delivered += accepted;
    }

    fn link_is_up(&mut self, env: Env<'_>) {
        let Some(since_ms) = self.link_down_since_ms.take() else { return };
        let now_ms = env.clock.monotonic_ms();
        let outage_ms = now_ms.saturating_sub(since_ms);
        log::info!("CloudWatch Logs answers again after {} s; {} events wait", outage_ms / 1000, self.pending_events());
        // A whole fleet comes back at the same moment: the backlog waits a random while, at most a tenth of the outage.
        let longest_ms = self.settings.upload.jitter_ms.min(outage_ms / 10);
        if longest_ms > 0 {
            self.pace.backlog_not_before_ms = now_ms + env.clock.random() % (longest_ms + 1);
        }
        self.save_state(env);
    }

    fn link_is_down(&mut self, env: Env<'_>) {
        if self.link_down_since_ms.is_none() {
            self.link_down_since_ms = Some(env.clock.monotonic_ms());
            let status = self.shipper.status(env.clock);
            let why = status.last_error.as_deref().unwrap_or("no answer");
            let where_to = if self.storage.usable(env.clock.monotonic_ms()) { "on disk" } else { "in memory" };
            log::warn!("nothing can be delivered, events are buffered {where_to}: {why}");
            self.save_state(env);
        }
    }

    /// With a clock that cannot be right no event is sent. AWS is asked for the time.
    fn ask_the_time(&mut self, env: Env<'_>) {
        self.probe_due_ms = env.clock.monotonic_ms() + PROBE_MS;
        if !self.held_logged {
            self.held_logged = true;
            log::warn!(
                "the clock cannot be right (before the release of this version); events wait until the time is known"
            );
        }
        let limits = Limits { total_ms: ATTEMPT_MS, stall_ms: STALL_MS };
        self.shipper.ask_the_time(limits, certificate_time(&self.keeper, env), env);
    }
}

/// Cuts the body that is being sent into two; false when it holds a single event.
fn halve(parts: &mut VecDeque<crate::ship::Batch>) -> bool {
    let Some((first, second)) = parts.front().and_then(crate::ship::Batch::split) else { return false };
    parts.pop_front();
    parts.push_front(second);
    parts.push_front(first);
    true
}
