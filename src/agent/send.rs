//! One delivery attempt: choose what goes next, take one step with its body, and settle its events by the answer.
//!
//! ```text
//!            gather                    answered
//!  [nothing] -------> [in flight] ----------------> its events settled, next
//!                      |  ^   |
//!             no answer|  |   | too large: halved; never acceptable: dropped and counted
//!                      v  |   v
//!                     [waits as the shipper says]
//! ```
//!
//! What waits only because of the time (no clock, nobody confirmed it, or not well enough to drop anything) is not gathered;
//! then AWS is asked for the time, at most every 30 s; a second time at once when the answer contradicts the clock.

use super::Agent;
use super::books::DropReason;
use super::delivery::{Flight, Home, Part, Span, cut, numbers};
use super::gather::TOO_OLD_MS;
use crate::clock::{Question, SIGNATURE_MS, Standing};
use crate::env::{Env, Limits};
use crate::model::batch::BatchLimits;
use crate::model::{Ranges, StreamKey};
use crate::ship::{Rejected, Step, Trouble};
use crate::spool::Outcome;
use std::rc::Rc;

/// An attempt always gets this long, and gives up when nothing has moved for as long.
const STALL_MS: u64 = 2_000;
/// While bytes move an attempt may take this long.
const ATTEMPT_MS: u64 = 10_000;
/// AWS is asked for the time at most this often, and once more at once when its answer contradicts the clock.
const QUESTION_MS: u64 = 30_000;
/// CloudWatch Logs refuses events that are further in the future (PutLogEvents, API reference).
const TOO_NEW_MS: i64 = 2 * 3_600_000;
/// A body that ran out of time this often is cut in halves.
const TIMEOUTS_MAX: u32 = 3;
/// Live events wait for company at most this share of `sync_interval`, so that on a good day they leave before they
/// would have to reach the disk.
const FLUSH_SHARE_PERCENT: u64 = 60;

impl Agent {
    /// Whether there is a clock to send with.
    pub(super) fn may_send(&self, env: Env<'_>) -> bool {
        !matches!(self.keeper.question(env.clock), Some(Question::NoClock | Question::Contested))
    }

    /// When the next attempt is due, if there is anything to send, or to ask.
    pub(super) fn delivery_wakeup_ms(&self, env: Env<'_>) -> Option<u64> {
        let send_ms = self.send_wakeup_ms();
        let question_ms = self.question_due_ms(send_ms.is_some(), env);
        if self.may_send(env) { [send_ms, question_ms].into_iter().flatten().min() } else { question_ms }
    }

    fn send_wakeup_ms(&self) -> Option<u64> {
        let marker_ms = self.books.untold().iter().map(|loss| self.shipper.held_until_ms(&loss.key())).min();
        let aside_ms = self.delivery.aside_keys().map(|key| self.shipper.held_until_ms(key)).min();
        let due_ms = match &self.delivery.now {
            Some(_) => self.attempted_ms,
            None => {
                let backlog_ms = self.has_backlog().then_some(self.pace.backlog_not_before_ms);
                let marker_ms = marker_ms.map(|due_ms| due_ms.max(self.attempted_ms));
                [self.live_due_ms(), marker_ms, aside_ms, backlog_ms].into_iter().flatten().min()?
            }
        };
        Some(due_ms.max(self.shipper.not_before_ms()))
    }

    /// When AWS is to be asked for the time, if anything depends on it.
    fn question_due_ms(&self, anything_waits: bool, env: Env<'_>) -> Option<u64> {
        let wanted = match self.keeper.question(env.clock) {
            Some(_) => anything_waits,
            None => self.time_wanted,
        };
        // A stop has better things to do in its few seconds.
        (wanted && self.stop_by_ms.is_none()).then_some(self.question_not_before_ms.max(self.shipper.not_before_ms()))
    }

    /// When there is something to do for the live lane.
    pub(super) fn live_due_ms(&self) -> Option<u64> {
        if self.lane.in_round() {
            return Some(self.attempted_ms);
        }
        let before_sync_ms = self.settings.buffer.sync_interval_ms * FLUSH_SHARE_PERCENT / 100;
        let full = self.stop_by_ms.is_some() || self.lane.billed_bytes() >= BatchLimits::API.billed_bytes;
        let wait_ms = if full { 0 } else { self.settings.upload.flush_interval_ms.min(before_sync_ms) };
        let (mut held_ms, mut due_ms) = (u64::MAX, u64::MAX);
        // In the order of the scrapes: behind the first that nobody holds up, none is due earlier.
        for record in self.lane.iter() {
            if record.apart {
                continue;
            }
            let until_ms = self.shipper.held_until_ms(&record.key);
            if until_ms <= record.monotonic_ms + wait_ms {
                due_ms = record.monotonic_ms + wait_ms;
                break;
            }
            held_ms = held_ms.min(until_ms);
        }
        Some(due_ms.min(held_ms)).filter(|due_ms| *due_ms != u64::MAX)
    }

    pub(super) fn delivery_due_ms(&self, now_ms: u64, env: Env<'_>) -> Option<u64> {
        self.delivery_wakeup_ms(env).filter(|due_ms| *due_ms <= now_ms)
    }

    fn has_backlog(&self) -> bool {
        self.storage.spool_ref().is_some_and(|spool| spool.pending().records > 0)
    }

    /// One attempt, or a question for the time.
    pub(super) fn deliver(&mut self, env: Env<'_>) {
        let now_ms = env.clock.monotonic_ms();
        let anything_waits = self.send_wakeup_ms().is_some();
        if self.question_due_ms(anything_waits, env).is_some_and(|due_ms| due_ms <= now_ms) {
            self.ask_the_time(env);
        } else if self.may_send(env) {
            self.attempt(env);
        }
        self.attempted_ms = env.clock.monotonic_ms();
    }

    fn attempt(&mut self, env: Env<'_>) {
        if self.delivery.now.is_none() {
            self.delivery.now = self.gather(env);
            self.pin();
        }
        self.let_go_if_the_clock_moved(env);
        let Some(flight) = &mut self.delivery.now else { return };
        let Some(part) = flight.parts.front() else { return };
        let started_ms = env.clock.monotonic_ms();
        let left_ms = self.storage.dir().and_then(|_| self.lane.front()).map_or(ATTEMPT_MS, |record| {
            // Live events must not miss their time on the disk.
            let by_ms = record.monotonic_ms + self.settings.buffer.sync_interval_ms + 1_000;
            by_ms.saturating_sub(started_ms).clamp(STALL_MS, ATTEMPT_MS)
        });
        let total_ms = self.stop_by_ms.map_or(left_ms, |stop_ms| stop_ms.saturating_sub(started_ms).min(ATTEMPT_MS));
        // A clean stop keeps nobody waiting but the disk.
        let stall_ms = if self.stop_by_ms.is_some() { left_ms.min(total_ms) } else { STALL_MS };
        let limits = Limits { total_ms, stall_ms };
        if self.time_wanted && !self.keeper.is_certain() {
            self.shipper.use_new_connection();
        }
        let signed_base_ms = self.shipper.now_ms(env.clock).saturating_sub_unsigned(started_ms);
        let step = self.shipper.step(&part.batch, limits, self.keeper.certificate_time(env.clock), env);
        let took_ms = env.clock.monotonic_ms() - started_ms;
        if self.shipper.uncertain() {
            (flight.uncertain, flight.signed_base_ms) = (true, signed_base_ms);
        }
        if !matches!(step, Step::Progress | Step::Hold { .. }) {
            self.sent.requests += 1;
            self.sent.body_bytes += part.batch.body_bytes();
        }
        self.act(step, took_ms, env);
        if self.delivery.now.as_ref().is_some_and(|flight| flight.parts.is_empty()) {
            self.delivery.now = None;
        }
        self.hear(env);
        self.pin();
    }

    fn act(&mut self, step: Step, took_ms: u64, env: Env<'_>) {
        let Some(mut flight) = self.delivery.now.take() else { return };
        match step {
            Step::Progress | Step::Interrupted => self.delivery.now = Some(flight),
            Step::Delivered { rejected } => {
                let part = flight.parts.pop_front();
                (flight.timeouts, flight.uncertain) = (0, false);
                let backlog = flight.backlog;
                self.delivery.now = Some(flight);
                let Some(part) = part else { return };
                self.pace.answered(&part.batch, took_ms);
                if backlog {
                    self.pace.charge(part.batch.body_bytes(), &self.settings.upload, env.clock.monotonic_ms());
                }
                self.answered(&part, &rejected, env);
                self.held_logged = false;
                self.link_is_up(env);
            }
            Step::Wait => {
                self.pace.failed();
                if self.shipper.status(env.clock).trouble == Some(Trouble::TimedOut) {
                    flight.timeouts += 1;
                }
                if flight.timeouts >= TIMEOUTS_MAX {
                    flight.timeouts = 0;
                    flight.halve();
                }
                self.delivery.now = self.let_go_unless_uncertain(flight, env);
                self.link_is_down(env);
            }
            // Only this stream has to wait: others take its place.
            Step::Hold { .. } => {
                let flight = self.let_go_unless_uncertain(flight, env);
                if let Some(flight) = flight.and_then(|flight| self.delivery.set_aside(flight)) {
                    self.let_go(flight, env);
                }
            }
            Step::Split => {
                if !flight.halve() {
                    self.refuse(&mut flight, "CloudWatch Logs takes it neither whole nor in parts", env);
                }
                flight.uncertain = false;
                self.delivery.now = Some(flight);
            }
            Step::Drop { reason } => {
                self.refuse(&mut flight, &reason, env);
                self.delivery.now = Some(flight);
            }
        }
    }

    /// The spool is told which of its events bodies hold.
    pub(super) fn pin(&mut self) {
        let held = self.delivery.numbers(Home::Spool);
        if let Some(spool) = self.storage.spool() {
            spool.pin(held);
        }
    }

    /// A body that was built before the clock moved has the wrong times and is built again, unless it may have been stored: then
    /// a wrong time is better than an event that is there twice. It was not stored if its signature was refused for the time, or
    /// its events were.
    fn let_go_if_the_clock_moved(&mut self, env: Env<'_>) {
        let base_ms = self.keeper.base_ms();
        let moved = |flight: &mut Flight| {
            let ahead_ms = flight.base_ms - base_ms;
            let stored = (flight.signed_base_ms - base_ms).abs() <= SIGNATURE_MS
                && (-TOO_OLD_MS..=TOO_NEW_MS).contains(&ahead_ms);
            ahead_ms.abs() > 1_000 && !(flight.uncertain && stored)
        };
        if let Some(flight) = self.delivery.now.take_if(moved) {
            self.let_go(flight, env);
            self.delivery.now = self.gather(env);
            self.pin();
        }
    }

    /// Keeps a body that may have been stored.
    fn let_go_unless_uncertain(&mut self, flight: Flight, env: Env<'_>) -> Option<Flight> {
        if flight.uncertain {
            return Some(flight);
        }
        self.let_go(flight, env);
        None
    }

    /// The events of a body are sent another time. What the body alone had is lost: the spool made room for others.
    pub(super) fn let_go(&mut self, flight: Flight, env: Env<'_>) {
        for part in &flight.parts {
            if part.spans.iter().any(|span| span.home == Home::Marker) {
                self.books.not_told(&part.batch.key);
            }
            let lost: Vec<Span> = part.spans.iter().copied().filter(|span| span.home.is_body_alone()).collect();
            self.drop_spans(DropReason::MaxBytes, part, &lost, env);
        }
    }

    /// The answer to a body settles exactly its events.
    fn answered(&mut self, part: &Part, rejected: &Rejected, env: Env<'_>) {
        let events = u64::from(part.batch.events);
        let too_old = u64::from(rejected.too_old).min(events);
        let expired = (too_old + u64::from(rejected.expired)).min(events);
        let too_new = events - u64::from(rejected.too_new).min(events - expired);
        for (reason, from, to) in [
            (DropReason::TooOld, 0, too_old),
            (DropReason::PastRetention, too_old, expired),
            (DropReason::TooNew, too_new, events),
        ] {
            if from < to {
                let (count, word) = (to - from, reason.as_str());
                log::warn!("CloudWatch Logs rejected {count} events for {}: {word}", part.batch.key.stream);
                self.drop_spans(reason, part, &cut(&part.spans, from, to), env);
            }
        }
        let delivered = self.settle(Outcome::Delivered, &cut(&part.spans, expired, too_new), env);
        self.books.delivered(delivered);
        if part.spans.iter().any(|span| span.home == Home::Marker) {
            self.books.told(&part.batch.key);
            self.save_state(env);
        }
    }

    /// Takes events out of wherever they lie; says how many there were, markers left out.
    fn settle(&mut self, outcome: Outcome, spans: &[Span], env: Env<'_>) -> u64 {
        let mut settled = self.lane.settle(&numbers(spans, Home::Lane));
        settled += spans.iter().filter(|span| span.home.is_body_alone()).map(Span::len).sum::<u64>();
        let mut in_spool = numbers(spans, Home::Spool);
        in_spool.add(&numbers(spans, Home::Afloat));
        if !in_spool.is_empty() {
            settled += self.storage.settle(outcome, &in_spool, env);
            self.collect_losses();
        }
        settled
    }

    fn drop_spans(&mut self, reason: DropReason, part: &Part, spans: &[Span], env: Env<'_>) {
        let dropped = self.settle(Outcome::Dropped, spans, env);
        self.books.lost(reason, Some(&part.batch.key), dropped, (part.batch.first_ms, part.batch.last_ms));
    }

    fn refuse(&mut self, flight: &mut Flight, why: &str, env: Env<'_>) {
        let Some(part) = flight.parts.pop_front() else { return };
        if part.spans.iter().any(|span| span.home == Home::Marker) {
            // A stream that cannot be told is not told for ever.
            self.books.told(&part.batch.key);
            return;
        }
        log::error!("{} events for {} are dropped: {why}", part.batch.events, part.batch.key.stream);
        let spans = part.spans.clone();
        self.drop_spans(DropReason::Refused, &part, &spans, env);
    }

    /// Events that can be delivered no more by our own look at the clock.
    pub(super) fn drop_expired(&mut self, key: &Rc<StreamKey>, spans: &[Span], times: (i64, i64), env: Env<'_>) {
        let dropped = self.settle(Outcome::Dropped, spans, env);
        self.books.lost(DropReason::Expired, Some(key), dropped, times);
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

    /// Weighs what answers said of the time.
    fn hear(&mut self, env: Env<'_>) {
        let before = self.time_standing(env);
        let (mut moved, told_ms) = (false, self.keeper.told_ms());
        for heard in self.shipper.take_heard() {
            moved |= self.keeper.hear(heard, env.clock);
        }
        if moved {
            let by_s = self.keeper.skew_ms().unwrap_or_default() / 1000;
            log::info!("AWS's clock is {by_s} s ahead of ours: events that have not been sent are moved by it");
        }
        if moved || self.keeper.told_ms() != told_ms {
            // So that what this process could not settle gets the same times after a kill, and after a power cut what it was told.
            self.save_state(env);
        }
        self.note_time(before, moved, env);
    }

    /// How far the time is to be believed, and whether enough to drop something for its age.
    pub(super) fn time_standing(&self, env: Env<'_>) -> (Standing, bool) {
        (self.keeper.standing(env.clock), self.keeper.is_certain())
    }

    /// Tells a change, and looks again at what waited for the time.
    pub(super) fn note_time(&mut self, before: (Standing, bool), moved: bool, env: Env<'_>) {
        let now = self.time_standing(env);
        if now.0 != before.0 {
            log::info!("the clock is {} (it was {})", now.0.as_str(), before.0.as_str());
        }
        if now != before || moved {
            self.look_again();
        }
    }

    /// What nothing could be sent of may be sent now.
    pub(super) fn look_again(&mut self) {
        self.set_apart = Ranges::default();
        self.lane.rejoin();
    }

    /// Nothing is sent with a clock that cannot be right, and nothing dropped by one that nobody confirmed. AWS is asked.
    fn ask_the_time(&mut self, env: Env<'_>) {
        self.question_not_before_ms = env.clock.monotonic_ms() + QUESTION_MS;
        self.time_wanted = false;
        let (was_asked, before_all) = (self.keeper.question(env.clock), self.time_standing(env));
        if self.keeper.question(env.clock) == Some(Question::NoClock) && !self.held_logged {
            log::warn!(
                "the clock cannot be right (before the release of this version); events wait until the time is known"
            );
        }
        self.held_logged = true;
        let limits = Limits { total_ms: ATTEMPT_MS, stall_ms: STALL_MS };
        // No answer says only that the link is down: a single answer that contradicts the clock is as doubtful as before.
        if self.shipper.ask_the_time(limits, self.keeper.certificate_time(env.clock), env) == Some(false) {
            let before = self.time_standing(env);
            self.asked_in_vain = true;
            self.keeper.answered_in_vain(env.clock);
            self.note_time(before, false, env);
        }
        self.hear(env);
        if was_asked.is_none() && self.keeper.question(env.clock).is_some() {
            // The answer contradicts the clock and wants a second one; nothing is sent meanwhile.
            self.question_not_before_ms = env.clock.monotonic_ms();
        }
        if self.time_standing(env) != before_all {
            // What waited for the time waits no longer.
            self.pace.backlog_not_before_ms = self.pace.backlog_not_before_ms.min(env.clock.monotonic_ms());
        }
    }
}
