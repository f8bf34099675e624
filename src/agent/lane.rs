//! The live lane: events of the last few seconds, in memory, on their way to CloudWatch Logs.
//!
//! While the link is up they go from here straight into a batch and the disk is never touched. What could not be sent in
//! time, the agent moves from here to the spool.

use crate::model::{Event, StreamKey};
use std::collections::VecDeque;
use std::rc::Rc;

/// The most bytes in one batch, each event counted with [`Event::OVERHEAD_BYTES`] (PutLogEvents, API reference).
pub const BATCH_BYTES_MAX: u64 = 1_048_576;
/// The most events in one batch (PutLogEvents, API reference).
pub const BATCH_EVENTS_MAX: usize = 10_000;
/// The longest time that the events of one batch may span, in milliseconds (PutLogEvents, API reference).
pub const BATCH_SPAN_MS_MAX: i64 = 24 * 3_600_000;

/// The finished events of one scrape of one target that go to one stream; never more than one batch takes.
#[derive(Clone, Debug)]
pub struct LaneRecord {
    /// Names the record for as long as the process lives.
    pub id: u64,
    /// Where the events go.
    pub key: Rc<StreamKey>,
    /// The events.
    pub events: Vec<Event>,
    /// Wall time of the scrape.
    pub wall_ms: i64,
    /// Monotonic time of the scrape.
    pub monotonic_ms: u64,
    /// What the events count against a batch.
    pub billed_bytes: u64,
}

/// Records in the order of their scrapes.
#[derive(Default)]
pub struct Lane {
    records: VecDeque<LaneRecord>,
    billed_bytes: u64,
    events: u64,
    next_id: u64,
}

impl Lane {
    /// Takes the events of one scrape, split by stream and by the limits of a batch.
    pub fn push(&mut self, events: Vec<Event>, wall_ms: i64, monotonic_ms: u64) {
        let mut open: Vec<LaneRecord> = Vec::new();
        for event in events {
            let billed = event.billed_bytes() as u64;
            let at = match open.iter().position(|record| record.key == event.key) {
                Some(at) if fits(&open[at], &event, billed) => at,
                other => {
                    if let Some(full) = other {
                        let record = open.remove(full);
                        self.insert(record);
                    }
                    open.push(LaneRecord {
                        id: 0,
                        key: Rc::clone(&event.key),
                        events: Vec::new(),
                        wall_ms,
                        monotonic_ms,
                        billed_bytes: 0,
                    });
                    open.len() - 1
                }
            };
            open[at].billed_bytes += billed;
            open[at].events.push(event);
        }
        for record in open {
            self.insert(record);
        }
    }

    fn insert(&mut self, mut record: LaneRecord) {
        record.id = self.next_id;
        self.next_id += 1;
        self.billed_bytes += record.billed_bytes;
        self.events += record.events.len() as u64;
        self.records.push_back(record);
    }

    /// Events waiting.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes waiting, counted as a batch counts them.
    pub fn billed_bytes(&self) -> u64 {
        self.billed_bytes
    }

    /// Bytes of the newest scrape's records.
    pub fn newest_billed_bytes(&self) -> u64 {
        let newest_ms = self.records.back().map_or(0, |record| record.monotonic_ms);
        let newest = self.records.iter().rev().take_while(|record| record.monotonic_ms == newest_ms);
        newest.map(|record| record.billed_bytes).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The oldest record.
    pub fn front(&self) -> Option<&LaneRecord> {
        self.records.front()
    }

    /// All records, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &LaneRecord> {
        self.records.iter()
    }

    /// The record with that id, while it is here.
    pub fn get(&self, id: u64) -> Option<&LaneRecord> {
        let at = self.records.binary_search_by_key(&id, |record| record.id).ok()?;
        self.records.get(at)
    }

    /// Takes a record out.
    pub fn remove(&mut self, id: u64) -> Option<LaneRecord> {
        let at = self.records.binary_search_by_key(&id, |record| record.id).ok()?;
        let record = self.records.remove(at)?;
        self.billed_bytes -= record.billed_bytes;
        self.events -= record.events.len() as u64;
        Some(record)
    }

    /// The ids of the oldest records of a stream that fit one batch together; at least one, if there is any.
    pub fn next_batch(&self, key: &StreamKey, billed_bytes_max: u64) -> Vec<u64> {
        let (mut ids, mut bytes, mut events, mut first_ms) = (Vec::new(), 0, 0, None);
        for record in self.records.iter().filter(|record| *record.key == *key) {
            let first_ms = *first_ms.get_or_insert(record.wall_ms);
            let fits = bytes + record.billed_bytes <= billed_bytes_max
                && events + record.events.len() <= BATCH_EVENTS_MAX
                && (record.wall_ms - first_ms).abs() < BATCH_SPAN_MS_MAX;
            if !ids.is_empty() && !fits {
                break;
            }
            bytes += record.billed_bytes;
            events += record.events.len();
            ids.push(record.id);
        }
        ids
    }
}

fn fits(record: &LaneRecord, event: &Event, billed: u64) -> bool {
    let first_ms = record.events.iter().map(|event| event.timestamp_ms).min().unwrap_or(event.timestamp_ms);
    let last_ms = record.events.iter().map(|event| event.timestamp_ms).max().unwrap_or(event.timestamp_ms);
    record.billed_bytes + billed <= BATCH_BYTES_MAX
        && record.events.len() < BATCH_EVENTS_MAX
        && last_ms.max(event.timestamp_ms) - first_ms.min(event.timestamp_ms) < BATCH_SPAN_MS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stream: &str, timestamp_ms: i64, bytes: usize) -> Event {
        let key = Rc::new(StreamKey { group: "g".into(), stream: stream.into() });
        Event { key, timestamp_ms, own_time: false, message: "x".repeat(bytes) }
    }

    #[test]
    fn a_record_holds_one_stream_and_never_more_than_a_batch() {
        let mut lane = Lane::default();
        let big = 600_000;
        lane.push(
            vec![event("a", 0, big), event("b", 0, 1), event("a", 0, big), event("a", BATCH_SPAN_MS_MAX, 1)],
            0,
            0,
        );
        assert_eq!(lane.events(), 4);
        for record in lane.iter() {
            assert!(record.billed_bytes <= BATCH_BYTES_MAX);
            assert!(record.events.iter().all(|event| event.key == record.key));
        }
        assert_eq!(lane.iter().map(|record| record.events.len()).collect::<Vec<_>>(), [1, 1, 1, 1]);
    }

    #[test]
    fn a_batch_takes_a_streams_records_and_at_least_one_record() {
        let mut lane = Lane::default();
        lane.push(vec![event("a", 0, 100)], 0, 0);
        lane.push(vec![event("b", 0, 100)], 1, 1);
        lane.push(vec![event("a", 0, 100)], 2, 2);
        let a = StreamKey { group: "g".into(), stream: "a".into() };
        let b = StreamKey { group: "g".into(), stream: "b".into() };
        assert_eq!(lane.next_batch(&a, BATCH_BYTES_MAX), [0, 2]);
        assert_eq!(lane.next_batch(&a, 10), [0]);
        lane.remove(0);
        assert_eq!((lane.next_batch(&b, BATCH_BYTES_MAX), lane.events()), (vec![1], 2));
    }
}
