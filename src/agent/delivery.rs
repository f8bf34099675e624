//! What is being sent, how much at once, and when the backlog may have its turn.
//!
//! A batch is gathered from the lane or from the spool and kept, byte for byte, until CloudWatch Logs has answered for
//! good; only then are its records let go. One that got no answer is sent again unchanged, so an answer that was lost
//! costs one duplicated batch at most.

use super::lane::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BATCH_SPAN_MS_MAX};
use crate::model::Event;
use crate::model::settings::UploadSettings;
use crate::ship::Batch;
use std::collections::VecDeque;

/// The first body on an unknown link, compressed bytes: 5 kB/s take it in less than a second.
const WINDOW_START_BYTES: u64 = 4 << 10;
/// A request that took less than this lets the next body be twice as large.
const QUICK_MS: u64 = 1_000;
/// A request that took longer than this halves it.
const SLOW_MS: u64 = 1_500;

/// Where the events of a batch are kept until it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A record in the lane.
    Lane(u64),
    /// A record in the spool.
    Spool(u64, u64),
    /// The marker event for a loss: the place in the state's list.
    Marker,
}

/// What is being sent.
pub struct InFlight {
    /// Bodies to be sent, the first of them now; more than one only after a body had to be halved.
    pub parts: VecDeque<Batch>,
    /// Events that are in no body yet, in the order of their times.
    pub rest: VecDeque<Event>,
    /// What is let go when the last part has been accepted.
    pub sources: Vec<Source>,
    /// It comes from the spool and counts against the backlog's budget.
    pub backlog: bool,
    /// Wall minus monotonic time that the times in it rest on.
    pub base_ms: i64,
    /// Events of parts that were accepted or dropped: counted already, while their records are still held.
    pub settled: u64,
    /// Events too old for the service, to be counted as dropped with the release.
    pub expired: Vec<Event>,
    /// Attempts of the present part that ran out of time.
    pub timeouts: u32,
}

/// What went out since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Requests to CloudWatch Logs with events in them.
    pub requests: u64,
    /// Their bodies.
    pub body_bytes: u64,
}

impl InFlight {
    /// Part of it has been accepted: it can no longer be put together anew.
    pub fn has_begun(&self) -> bool {
        self.settled > 0
    }
}

/// The size of batches, and the backlog's budget.
pub struct Pace {
    window_bytes: u64,
    /// Billed bytes for a hundred compressed bytes, as seen lately.
    ratio_percent: u64,
    /// The backlog waits until then (monotonic).
    pub backlog_not_before_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { window_bytes: WINDOW_START_BYTES, ratio_percent: 600, backlog_not_before_ms: 0 }
    }
}

impl Pace {
    /// How much to gather for the next batch, as a batch counts bytes.
    pub fn billed_bytes_max(&self) -> u64 {
        (self.window_bytes * self.ratio_percent / 100).clamp(1, BATCH_BYTES_MAX)
    }

    /// Learns from a request that was answered.
    pub fn answered(&mut self, batch: &Batch, duration_ms: u64) {
        let body_bytes = batch.body_bytes().max(1);
        self.ratio_percent = (batch.billed_bytes * 100 / body_bytes).clamp(100, 5_000);
        // A small body says nothing about a large window; whole records may leave much of it empty.
        if duration_ms > SLOW_MS {
            self.window_bytes = (body_bytes / 2).max(WINDOW_START_BYTES / 4);
        } else if duration_ms < QUICK_MS && body_bytes * 3 >= self.window_bytes {
            self.window_bytes = (self.window_bytes * 2).min(BATCH_BYTES_MAX);
        }
    }

    /// Learns from a request that ran out of time, or from a link that was down.
    pub fn failed(&mut self) {
        self.window_bytes = WINDOW_START_BYTES;
    }

    /// Charges a backlog request to the budget.
    pub fn charge(&mut self, body_bytes: u64, settings: &UploadSettings, now_ms: u64) {
        let by_requests_ms = 1000.0 / settings.backlog_requests_per_second.max(0.001);
        let by_bytes_ms = body_bytes * 1000 / settings.backlog_bytes_per_second.max(1);
        self.backlog_not_before_ms = now_ms + (by_requests_ms as u64).max(by_bytes_ms);
    }
}

/// Takes the next body from events in the order of their times: as many as the API's limits and the window allow, at
/// least one. The rest waits as events, so that the window may grow from one body to the next.
pub fn next_part(rest: &mut VecDeque<Event>, billed_bytes_max: u64, compress: bool) -> Option<Batch> {
    let first_ms = rest.front()?.timestamp_ms;
    let (mut count, mut bytes) = (0, 0);
    for event in rest.iter().take(BATCH_EVENTS_MAX) {
        bytes += event.billed_bytes() as u64;
        let over = bytes > billed_bytes_max || event.timestamp_ms - first_ms >= BATCH_SPAN_MS_MAX;
        if count > 0 && over {
            break;
        }
        count += 1;
    }
    let part: Vec<Event> = rest.drain(..count).collect();
    Some(Batch::encode(&part.first()?.key, &part, compress))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StreamKey;
    use std::rc::Rc;

    #[test]
    fn records_of_almost_half_a_window_let_it_grow() {
        let key = Rc::new(StreamKey { group: "g".into(), stream: "s".into() });
        let mut seed = 7_u32;
        let mut word = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{seed:08x}")
        };
        let mut pace = Pace::default();
        let before = pace.billed_bytes_max();
        let events: Vec<Event> = (0..68)
            .map(|n| Event {
                key: Rc::clone(&key),
                timestamp_ms: n,
                own_time: false,
                message: format!("{:>160}{}{}{}{}", n, word(), word(), word(), word()),
            })
            .collect();
        let parts = [next_part(&mut events.into(), BATCH_BYTES_MAX, true).expect("a body")];
        let body_bytes = parts[0].body_bytes();
        assert!(body_bytes * 2 < WINDOW_START_BYTES && body_bytes * 5 > WINDOW_START_BYTES * 2, "{body_bytes}");
        pace.answered(&parts[0], 200);
        assert!(pace.billed_bytes_max() > before * 3 / 2, "{}", pace.billed_bytes_max());
    }
}
