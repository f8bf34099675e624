//! What goes into the next body: whose turn it is, which of its events fit, and which times they get.
//!
//! Live events come first, then what was lost is told, then the backlog under its budget. A body that was set aside comes
//! before anything else of its stream.
//!
//! Nothing here is dropped for its age unless the time is certain enough for it ([`crate::clock`]): what would have to be
//! is left where it lies, and the agent asks for the time.

use super::Agent;
use super::delivery::{Flight, Home, Part, Span, push};
use crate::clock::{Device, Placement, SIGNATURE_MS, Standing, True};
use crate::env::Env;
use crate::model::batch::{BatchLimits, Fill};
use crate::model::settings::Expired;
use crate::model::{Event, Marks, Ranges, StreamKey};
use crate::ship::billed;
use crate::spool::{self, Age, SpoolBatch};
use std::rc::Rc;

/// CloudWatch Logs refuses older events (PutLogEvents, API reference); a minute less, for the way there.
pub(super) const TOO_OLD_MS: i64 = 14 * 24 * 3_600_000 - 60_000;
/// A scrape of an earlier boot that is later than now by more is none.
const AHEAD_MS: i64 = SIGNATURE_MS;
/// How long to wait before looking again for something that may be sent.
const IDLE_MS: u64 = 5_000;
/// A large live scrape is cut no smaller than this, as a batch counts bytes: some 8 kB compressed.
const LIVE_PART_BYTES: u64 = 64 << 10;

/// What is to become of an event by its age.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Send,
    /// Send it with the present time.
    Restamp,
    /// It is too old, for certain.
    Drop,
    /// It stays where it is: too old as it seems and the time is not certain, or the user wants to keep it.
    Leave,
}

/// The times by which a gathering judges.
struct Judge {
    now: True,
    /// What is older can be delivered no more.
    limit: True,
    certain: bool,
    expired: Expired,
    boot_id: [u8; 16],
    monotonic_ms: u64,
}

/// A scrape's place in time.
struct Scrape {
    placement: Placement,
    /// Its time is sure enough to drop something for it: that of its boot was, or it is the latest that can be.
    sure: bool,
    /// How long ago it was by the clock since boot, where that is this boot.
    ago_ms: Option<u64>,
}

impl Judge {
    fn verdict(&self, event: &Event, scrape: &Scrape) -> Verdict {
        if event.timestamp_ms >= self.limit.0 {
            // What another boot scraped cannot be yet to come: one of both clocks is wrong, and the service would reject it.
            let ahead = event.timestamp_ms > self.now.0.saturating_add(AHEAD_MS);
            let impossible = ahead && scrape.ago_ms.is_none() && !event.own_time && !self.certain;
            return if impossible { Verdict::Leave } else { Verdict::Send };
        }
        // Within one boot its clock needs no confirmation; an exposition's own time has nothing but the wall clock.
        let by_boot = !event.own_time && scrape.ago_ms.is_some_and(|ago_ms| ago_ms > TOO_OLD_MS.unsigned_abs());
        let may_be_younger = scrape.placement.estimated && !event.own_time && scrape.placement.latest.0 >= self.limit.0;
        match self.expired {
            _ if !(by_boot || self.certain && (scrape.sure || event.own_time)) || may_be_younger => Verdict::Leave,
            Expired::Keep => Verdict::Leave,
            Expired::Restamp => Verdict::Restamp,
            Expired::Drop => Verdict::Drop,
        }
    }
}

/// A body in the making.
struct Making {
    fill: Fill,
    events: Vec<(Event, Marks, Home, u64)>,
    dropped: Vec<Span>,
    dropped_times: (i64, i64),
    /// Something stays behind for want of a certain time.
    unsure: bool,
    full: bool,
}

impl Making {
    fn new(billed_bytes: u64) -> Self {
        Self {
            fill: Fill::new(BatchLimits { billed_bytes, ..BatchLimits::API }),
            events: Vec::new(),
            dropped: Vec::new(),
            dropped_times: (i64::MAX, i64::MIN),
            unsure: false,
            full: false,
        }
    }

    /// Takes a record's events, as many as fit. Says how many stay behind where they are for good.
    fn take<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Event>,
        numbers: &Ranges,
        home: Home,
        scrape: &Scrape,
        judge: &Judge,
    ) -> u64 {
        let mut left = 0;
        for (event, number) in events.zip(numbers.iter().flat_map(|(from, to)| from..to)) {
            let (mut event, mut marks) = (event.shifted(scrape.placement.delta_ms), Marks::default());
            match judge.verdict(&event, scrape) {
                Verdict::Send => {}
                Verdict::Restamp => {
                    marks.original_ms = Some(event.timestamp_ms);
                    event.timestamp_ms = judge.now.0;
                }
                Verdict::Drop => {
                    let (first_ms, last_ms) = &mut self.dropped_times;
                    *first_ms = (*first_ms).min(event.timestamp_ms);
                    *last_ms = (*last_ms).max(event.timestamp_ms);
                    push(&mut self.dropped, home, number);
                    continue;
                }
                Verdict::Leave => {
                    self.unsure |= !judge.certain;
                    left += 1;
                    continue;
                }
            }
            if scrape.placement.estimated && !event.own_time {
                marks.estimated = true;
            }
            if !self.fill.take(event.timestamp_ms, billed(&event, marks) as u64) {
                self.full = true;
                break;
            }
            self.events.push((event, marks, home, number));
        }
        left
    }
}

impl Agent {
    pub(super) fn gather(&mut self, env: Env<'_>) -> Option<Flight> {
        let now_ms = env.clock.monotonic_ms();
        let aside = {
            let shipper = &self.shipper;
            self.delivery.take_aside(&|key| shipper.held_until_ms(key) <= now_ms)
        };
        if aside.is_some() {
            return aside;
        }
        if !self.lane.in_round() && self.live_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            self.lane.begin_round();
        }
        if let Some(flight) = self.gather_lane(env) {
            return Some(flight);
        }
        let tellable = |loss: &super::state::Loss| self.shipper.held_until_ms(&loss.key()) <= now_ms;
        if let Some(at) = self.books.untold().iter().position(tellable) {
            return Some(self.tell_loss(at, env));
        }
        if self.pace.backlog_not_before_ms <= now_ms { self.gather_backlog(env) } else { None }
    }

    fn judge(&self, env: Env<'_>) -> Judge {
        let now = self.keeper.now(env.clock);
        Judge {
            now,
            limit: True(now.0 - TOO_OLD_MS),
            certain: self.keeper.is_certain(),
            expired: self.settings.buffer.expired,
            boot_id: env.clock.boot_id(),
            monotonic_ms: env.clock.monotonic_ms(),
        }
    }

    fn scrape_of(&self, boot_id: &[u8; 16], monotonic_ms: u64, wall_ms: i64, judge: &Judge) -> Scrape {
        let placement = self.keeper.place(boot_id, monotonic_ms, Device(wall_ms), judge.limit);
        Scrape {
            placement,
            sure: placement.estimated || self.keeper.is_sure_of(boot_id),
            ago_ms: (*boot_id == judge.boot_id).then(|| judge.monotonic_ms.saturating_sub(monotonic_ms)),
        }
    }

    fn tell_loss(&mut self, at: usize, env: Env<'_>) -> Flight {
        let timestamp_ms = self.keeper.now(env.clock).0;
        let loss = self.books.tell(at);
        let event = Event::text(Rc::new(loss.key()), timestamp_ms, true, &loss.message());
        self.flight_of(vec![(event, Marks::default(), Home::Marker, 0)], false, env)
    }

    fn gather_lane(&mut self, env: Env<'_>) -> Option<Flight> {
        let judge = self.judge(env);
        loop {
            let key = {
                let (shipper, now_ms) = (&self.shipper, judge.monotonic_ms);
                self.lane.next_stream(&|key| shipper.held_until_ms(key) <= now_ms)?
            };
            let mut making = Making::new(self.pace.billed_bytes_max().max(LIVE_PART_BYTES));
            for record in self.lane.turn() {
                let scrape = self.scrape_of(&judge.boot_id, record.monotonic_ms, record.wall_ms, &judge);
                making.take(record.events.iter(), &record.pending, Home::Lane, &scrape, &judge);
                if making.full {
                    break;
                }
            }
            self.drop_expired(&key, &making.dropped, making.dropped_times, env);
            self.want_time(making.unsure, env);
            if !making.events.is_empty() {
                return Some(self.flight_of(making.events, false, env));
            }
            // All of it stays behind: it goes to the disk in its turn.
            self.lane.set_turn_apart();
        }
    }

    fn gather_backlog(&mut self, env: Env<'_>) -> Option<Flight> {
        let judge = self.judge(env);
        let mut idle = true;
        // A bounded number of looks: what has to stay is passed over from then on.
        for _ in 0..8 {
            let Some(SpoolBatch { key, records }) = self.next_spool_batch(&judge, env) else { break };
            let mut making = Making::new(self.pace.billed_bytes_max());
            for record in &records {
                let meta = &record.meta;
                let mut scrape = self.scrape_of(&meta.boot_id, meta.monotonic_ms, meta.wall_ms, &judge);
                // A boot that nobody remembers, whose clock was confirmed when the record was written.
                let unknown = scrape.placement.estimated && !self.keeper.remembers(&meta.boot_id);
                if unknown && meta.clock_confirmed && meta.wall_ms <= judge.now.0 {
                    let at = True(meta.wall_ms);
                    scrape.placement = Placement { delta_ms: 0, estimated: false, latest: at };
                    scrape.sure = false;
                }
                let left = making.take(record.events.iter(), &record.pending, Home::Spool, &scrape, &judge);
                if left == record.pending.len() {
                    self.set_apart.insert(meta.sequence, meta.sequence + 1);
                }
                if making.full {
                    break;
                }
            }
            idle = making.dropped.is_empty();
            self.drop_expired(&key, &making.dropped, making.dropped_times, env);
            self.want_time(making.unsure, env);
            if !making.events.is_empty() {
                return Some(self.flight_of(making.events, true, env));
            }
        }
        // Nothing that may be sent now: no need to look again at once, unless only a part was looked at, or something young may
        // follow what was dropped.
        let more = self.storage.spool_ref().is_some_and(spool::Spool::has_more_to_look_at);
        if idle && !more {
            self.pace.backlog_not_before_ms = judge.monotonic_ms + IDLE_MS;
        }
        None
    }

    fn next_spool_batch(&mut self, judge: &Judge, env: Env<'_>) -> Option<SpoolBatch> {
        let limits = BatchLimits { billed_bytes: self.pace.billed_bytes_max(), ..BatchLimits::API };
        let boots = self.boots_by_checksum();
        let (keeper, shipper, set_apart) = (&self.keeper, &self.shipper, &self.set_apart);
        // Whoever answers the question without telling the time may still tell it with the answer to a body.
        let confirmed = keeper.standing(env.clock) == Standing::Confirmed || self.asked_in_vain;
        let unsure = std::cell::Cell::new(false);
        let leave_out = |age: &Age| {
            if set_apart.contains(age.sequence) {
                return true;
            }
            let boot = boots.iter().find(|(sum, _)| *sum == age.boot).map(|(_, id)| *id);
            let here = boot == Some(judge.boot_id);
            if !here && !confirmed {
                // Another boot's times are told by this one's, which nobody has confirmed.
                unsure.set(true);
                return true;
            }
            let Some(boot) = boot else { return false };
            let old = keeper.place(&boot, age.monotonic_ms, Device(0), judge.limit).latest < judge.limit;
            let waits = old && !judge.certain && !here;
            if waits {
                unsure.set(true);
            }
            waits || old && judge.expired == Expired::Keep
        };
        let may_send = |key: &StreamKey| shipper.held_until_ms(key) <= judge.monotonic_ms;
        let found = self.storage.spool()?.next_batch(&may_send, &leave_out, limits, env.disk);
        self.want_time(unsure.get(), env);
        self.collect_losses();
        match found {
            Ok(batch) => batch,
            Err(error) => {
                self.storage.give_up(&error, env);
                None
            }
        }
    }

    /// The known boots as the spool's records name them, [`Age::boot`].
    pub(super) fn boots_by_checksum(&self) -> Vec<(u32, [u8; 16])> {
        self.keeper.boot_ids().map(|id| (spool::boot_checksum(&id), id)).collect()
    }

    /// Something waits for a time that is surer than this.
    fn want_time(&mut self, unsure: bool, env: Env<'_>) {
        let enough = self.keeper.is_certain();
        self.time_wanted |= unsure && !enough;
        if self.time_wanted && !self.held_logged {
            self.held_logged = true;
            let standing = self.keeper.standing(env.clock).as_str();
            log::info!(
                "events of an earlier boot, or old ones, wait until AWS has confirmed the time: the clock is {standing}"
            );
        }
    }

    /// Makes the body. It puts its events in order of time.
    fn flight_of(&mut self, mut events: Vec<(Event, Marks, Home, u64)>, backlog: bool, env: Env<'_>) -> Flight {
        events.sort_by_key(|(event, ..)| event.timestamp_ms);
        let mut spans = Vec::new();
        events.iter().for_each(|(_, _, home, number)| push(&mut spans, *home, *number));
        let events: Vec<(Event, Marks)> = events.into_iter().map(|(event, marks, ..)| (event, marks)).collect();
        let key = Rc::clone(events[0].0.key());
        let batch = self.shipper.batch(&key, events, env.clock);
        let parts = [Part { batch, spans }].into();
        Flight { parts, backlog, base_ms: self.keeper.base_ms(), uncertain: false, signed_base_ms: 0, timeouts: 0 }
    }
}
