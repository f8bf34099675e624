//! The live lane: events of the last few seconds, in memory, on their way to CloudWatch Logs.
//!
//! While the link is up they go from here straight into a body and the disk is never touched. What could not be sent in
//! time, the agent moves from here to the spool.
//!
//! Every event has a number here, given once for as long as the process lives; what a body's answer settles is taken out by
//! numbers. Bodies are made in rounds: a round holds every record that is here when it begins, stream by stream, so that
//! however many streams there are each costs one look.

use crate::model::batch::{BatchLimits, Fill};
use crate::model::{Event, Ranges, StreamKey};
use crate::spool::step;
use std::collections::VecDeque;
use std::rc::Rc;

/// The finished events of one scrape of one target that go to one stream; never more than one batch takes.
#[derive(Clone, Debug)]
pub struct LaneRecord {
    /// The number of its first event; names the record.
    pub first: u64,
    /// The numbers of its events, in order.
    pub pending: Ranges,
    /// Where the events go.
    pub key: Rc<StreamKey>,
    /// The events that are not settled.
    pub events: Vec<Event>,
    /// Wall time of the scrape.
    pub wall_ms: i64,
    /// Monotonic time of the scrape.
    pub monotonic_ms: u64,
    /// What the events count against a batch.
    pub billed_bytes: u64,
    /// Nothing of it can be sent for now: it takes part in no round.
    pub apart: bool,
}

/// Records in the order of their scrapes.
#[derive(Default)]
pub struct Lane {
    records: VecDeque<LaneRecord>,
    billed_bytes: u64,
    events: u64,
    next: u64,
    /// Records that have yet to be looked at in this round, by their first numbers, stream by stream.
    round: VecDeque<u64>,
}

impl Lane {
    /// Takes the events of one scrape, split by stream and by the limits of a batch.
    pub fn push(&mut self, mut events: Vec<Event>, wall_ms: i64, monotonic_ms: u64) {
        let same = |a: &Event, b: &Event| Rc::ptr_eq(a.key(), b.key()) || a.key() == b.key();
        if !events.windows(2).all(|pair| same(&pair[0], &pair[1])) {
            // An exporter chooses how many streams there are. Sorting keeps the order within a stream.
            events.sort_by(|a, b| a.key().cmp(b.key()));
        }
        let mut fill = Fill::new(BatchLimits::API);
        let mut open: Option<LaneRecord> = None;
        for event in events {
            let billed = event.billed_bytes() as u64;
            let goes_on =
                open.as_ref().is_some_and(|record| Rc::ptr_eq(&record.key, event.key()) || record.key == *event.key());
            if !goes_on || !fill.take(event.timestamp_ms, billed) {
                self.insert(open.take());
                fill = Fill::new(BatchLimits::API);
                fill.take(event.timestamp_ms, billed);
            }
            let record = open.get_or_insert_with(|| LaneRecord {
                first: 0,
                pending: Ranges::default(),
                key: Rc::clone(event.key()),
                events: Vec::new(),
                wall_ms,
                monotonic_ms,
                billed_bytes: 0,
                apart: false,
            });
            record.billed_bytes += billed;
            record.events.push(event);
        }
        self.insert(open);
    }

    fn insert(&mut self, record: Option<LaneRecord>) {
        let Some(mut record) = record else { return };
        record.first = self.next;
        self.next += record.events.len() as u64;
        record.pending.insert(record.first, self.next);
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

    /// The record whose first event had that number, while it is here.
    pub fn get(&self, first: u64) -> Option<&LaneRecord> {
        let at = self.records.binary_search_by_key(&first, |record| record.first).ok()?;
        self.records.get(at)
    }

    /// Takes a record out.
    pub fn remove(&mut self, first: u64) -> Option<LaneRecord> {
        let at = self.records.binary_search_by_key(&first, |record| record.first).ok()?;
        self.remove_at(at)
    }

    fn remove_at(&mut self, at: usize) -> Option<LaneRecord> {
        let record = self.records.remove(at)?;
        self.billed_bytes -= record.billed_bytes;
        self.events -= record.events.len() as u64;
        Some(record)
    }

    /// Takes events out, wherever they are; returns how many were still here.
    pub fn settle(&mut self, numbers: &Ranges) -> u64 {
        let before = self.events;
        for (from, to) in numbers.iter() {
            let mut at = self.records.partition_point(|record| record.first <= from).saturating_sub(1);
            while self.records.get(at).is_some_and(|record| record.first < to) {
                let record = &mut self.records[at];
                let bytes = record.take_out(from, to);
                self.billed_bytes -= bytes.1;
                self.events -= bytes.0;
                if self.records[at].events.is_empty() {
                    self.records.remove(at);
                } else {
                    at += 1;
                }
            }
        }
        before - self.events
    }

    /// A round is going on.
    pub fn in_round(&self) -> bool {
        !self.round.is_empty()
    }

    /// Begins a round with everything that is here.
    pub fn begin_round(&mut self) {
        let mut order: Vec<usize> =
            (0..self.records.len()).inspect(|_| step()).filter(|at| !self.records[*at].apart).collect();
        order.sort_by(|a, b| self.records[*a].key.cmp(&self.records[*b].key));
        self.round = order.into_iter().map(|at| self.records[at].first).collect();
    }

    /// The stream whose turn it is, of those that may be sent to; others lose their turn in this round.
    pub fn next_stream(&mut self, may_send: &dyn Fn(&StreamKey) -> bool) -> Option<Rc<StreamKey>> {
        while let Some(first) = self.round.front() {
            step();
            if let Some(record) = self.get(*first).filter(|record| may_send(&record.key)) {
                return Some(Rc::clone(&record.key));
            }
            self.round.pop_front();
        }
        None
    }

    /// The records of the stream whose turn it is.
    pub fn turn(&self) -> impl Iterator<Item = &LaneRecord> {
        let records = self.round.iter().inspect(|_| step()).map(|first| self.get(*first));
        let mut key = None;
        records
            .take_while(move |record| {
                let Some(record) = record else { return true };
                let key = key.get_or_insert_with(|| Rc::clone(&record.key));
                *key == record.key
            })
            .flatten()
    }

    /// Nothing of the records whose turn it is can be sent for now: they take part in no round.
    pub fn set_turn_apart(&mut self) {
        let turn: Vec<u64> = self.turn().map(|record| record.first).collect();
        for first in turn {
            if let Ok(at) = self.records.binary_search_by_key(&first, |record| record.first) {
                self.records[at].apart = true;
            }
        }
        while self.round.front().is_some_and(|first| self.get(*first).is_none_or(|record| record.apart)) {
            self.round.pop_front();
        }
    }

    /// What was set apart is looked at again.
    pub fn rejoin(&mut self) {
        self.records.iter_mut().for_each(|record| record.apart = false);
    }
}

impl LaneRecord {
    /// Takes out the events of these numbers: how many, and what they counted.
    fn take_out(&mut self, from: u64, to: u64) -> (u64, u64) {
        let (mut number, mut ranges) = (0, self.pending.iter().collect::<Vec<_>>().into_iter());
        let mut range = ranges.next().unwrap_or((0, 0));
        let (mut events, mut bytes) = (0, 0);
        self.events.retain(|event| {
            if number < range.0 {
                number = range.0;
            }
            let goes = (from..to).contains(&number);
            if goes {
                events += 1;
                bytes += event.billed_bytes() as u64;
            }
            number += 1;
            if number >= range.1 {
                range = ranges.next().unwrap_or((u64::MAX, u64::MAX));
            }
            !goes
        });
        self.pending.remove(from, to);
        self.billed_bytes -= bytes;
        (events, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stream: &str, timestamp_ms: i64, bytes: usize) -> Event {
        let key = Rc::new(StreamKey { group: "g".into(), stream: stream.into() });
        Event::text(key, timestamp_ms, false, &"x".repeat(bytes))
    }

    fn ranges(list: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        list.iter().for_each(|(from, to)| ranges.insert(*from, *to));
        ranges
    }

    #[test]
    fn a_record_holds_one_stream_and_never_more_than_a_batch() {
        let mut lane = Lane::default();
        let big = 600_000;
        let day = BatchLimits::API.span_ms as i64 + 1;
        lane.push(vec![event("a", 0, big), event("b", 0, 1), event("a", 0, big), event("a", day, 1)], 0, 0);
        assert_eq!(lane.events(), 4);
        for record in lane.iter() {
            assert!(record.billed_bytes <= BatchLimits::API.billed_bytes);
            assert!(record.events.iter().all(|event| *event.key() == record.key));
        }
        assert_eq!(lane.iter().map(|record| record.events.len()).collect::<Vec<_>>(), [1, 1, 1, 1]);
    }

    #[test]
    fn a_round_takes_stream_by_stream_what_was_there_when_it_began() {
        let mut lane = Lane::default();
        lane.push(vec![event("a", 0, 100)], 0, 0);
        lane.push(vec![event("b", 0, 100)], 1, 1);
        lane.push(vec![event("a", 0, 100)], 2, 2);
        lane.begin_round();
        lane.push(vec![event("a", 0, 100)], 3, 3);
        let all = |_: &StreamKey| true;
        assert_eq!(lane.next_stream(&all).unwrap().stream, "a");
        assert_eq!(lane.turn().map(|record| record.first).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(lane.settle(&ranges(&[(0, 1), (2, 3)])), 2);
        assert_eq!(lane.next_stream(&all).unwrap().stream, "b");
        assert_eq!(lane.turn().map(|record| record.first).collect::<Vec<_>>(), [1]);
        lane.set_turn_apart();
        assert!(lane.next_stream(&all).is_none() && !lane.in_round());
        assert_eq!(lane.events(), 2);
        lane.begin_round();
        assert!(lane.next_stream(&|key| key.stream != "a").is_none(), "what was set apart takes part in no round");
        lane.rejoin();
        lane.begin_round();
        assert_eq!(
            lane.next_stream(&|key| key.stream != "a").unwrap().stream,
            "b",
            "one that must wait loses its turn"
        );
    }

    #[test]
    fn events_are_taken_out_by_their_numbers() {
        let mut lane = Lane::default();
        lane.push((0..10).map(|n| event("a", n, 10)).collect(), 0, 0);
        lane.push((0..10).map(|n| event("a", 100 + n, 20)).collect(), 1, 1);
        assert_eq!(lane.settle(&ranges(&[(3, 5), (8, 12)])), 6);
        assert_eq!(lane.settle(&ranges(&[(3, 5), (4, 6)])), 1);
        let times = |lane: &Lane, at: usize| {
            lane.iter().nth(at).unwrap().events.iter().map(|e| e.timestamp_ms).collect::<Vec<_>>()
        };
        assert_eq!(times(&lane, 0), [0, 1, 2, 6, 7]);
        assert_eq!(times(&lane, 1), (102..110).collect::<Vec<_>>());
        assert_eq!((lane.events(), lane.billed_bytes()), (13, 5 * 36 + 8 * 46));
        assert_eq!(lane.settle(&ranges(&[(0, 20)])), 13);
        assert!(lane.is_empty() && lane.billed_bytes() == 0);
    }
}
