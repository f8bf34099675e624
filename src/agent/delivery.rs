//! What is being sent, how much at once, and when the backlog may have its turn.
//!
//! The unit of acknowledgement is one request body: its answer settles exactly its events, wherever they lie by then. A body
//! that may have been stored although no answer said so is *uncertain*: it is kept and sent again byte for byte, so a lost
//! answer costs one copy of it. Any other body is let go when it has to wait; its events have never left where they lie.
//!
//! ```text
//!            gather                        answered
//!  [nothing] -------> [in flight] ---------------------> events settled
//!                      |   ^   |  waits, and is certain not to be stored: let go
//!     uncertain, and   |   |   '---------------------------------------------> [nothing]
//!     its stream waits v   | its stream's turn
//!                     [set aside]
//! ```
//!
//! Limits: one body in flight; bodies of 2 MiB set aside, more are let go.

use crate::model::batch::BatchLimits;
use crate::model::settings::UploadSettings;
use crate::model::{Ranges, StreamKey};
use crate::ship::Batch;
use std::collections::VecDeque;

/// The first body on an unknown link, compressed bytes: 5 kB/s take it in less than a second.
const WINDOW_START_BYTES: u64 = 4 << 10;
/// A request that took less than this lets the next body be twice as large.
const QUICK_MS: u64 = 1_000;
/// A request that took longer than this halves it.
const SLOW_MS: u64 = 1_500;
/// Bodies that are set aside.
const ASIDE_BYTES_MAX: u64 = 2 << 20;

/// Where events of a body lie until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the lane, by their numbers there.
    Lane,
    /// In the spool, by their numbers there.
    Spool,
    /// In the body alone: the spool had to make room. By their numbers there, since it is told what becomes of them.
    Afloat,
    /// In the body alone, and nobody else knows their numbers: the spool's folder is gone, or they found no place in it.
    Body,
    /// Nowhere: the marker event for a loss.
    Marker,
}

impl Home {
    /// Only the body has them.
    pub fn is_body_alone(self) -> bool {
        matches!(self, Self::Afloat | Self::Body)
    }
}

/// Events that follow each other in a body and lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where.
    pub home: Home,
    /// The first one's number there.
    pub from: u64,
    /// The number after the last one's.
    pub to: u64,
}

impl Span {
    /// Events in it.
    pub fn len(&self) -> u64 {
        self.to - self.from
    }
}

/// Adds one event to the spans of a body.
pub fn push(spans: &mut Vec<Span>, home: Home, number: u64) {
    match spans.last_mut() {
        Some(last) if last.home == home && last.to == number => last.to += 1,
        _ => spans.push(Span { home, from: number, to: number + 1 }),
    }
}

/// The spans of the events `from .. to` of a body.
pub fn cut(spans: &[Span], from: u64, to: u64) -> Vec<Span> {
    let (mut found, mut at) = (Vec::new(), 0);
    for span in spans {
        let (start, end) = (from.max(at), to.min(at + span.len()));
        if start < end {
            found.push(Span { home: span.home, from: span.from + (start - at), to: span.from + (end - at) });
        }
        at += span.len();
    }
    found
}

/// The numbers of all spans of one home.
pub fn numbers(spans: &[Span], home: Home) -> Ranges {
    let mut numbers = Ranges::default();
    spans.iter().filter(|span| span.home == home).for_each(|span| numbers.insert(span.from, span.to));
    numbers
}

/// A body and the places of its events, in their order in it.
pub struct Part {
    /// The body.
    pub batch: Batch,
    /// Where its events lie.
    pub spans: Vec<Span>,
}

/// What is being sent.
pub struct Flight {
    /// Bodies to be sent, the first of them now; more than one only after a body had to be halved.
    pub parts: VecDeque<Part>,
    /// It comes from the spool and counts against the backlog's budget.
    pub backlog: bool,
    /// Wall minus monotonic time that the times in it rest on.
    pub base_ms: i64,
    /// It may have been stored.
    pub uncertain: bool,
    /// Wall minus monotonic time that the last request which may have stored it was signed for.
    pub signed_base_ms: i64,
    /// Attempts of the first body that ran out of time.
    pub timeouts: u32,
}

impl Flight {
    /// Halves the body that is being sent; false when it holds a single event.
    pub fn halve(&mut self) -> bool {
        let Some((first, second)) = self.parts.front().and_then(|part| part.batch.split()) else { return false };
        let Some(whole) = self.parts.pop_front() else { return false };
        let (middle, end) = (u64::from(first.events), u64::from(whole.batch.events));
        self.parts.push_front(Part { batch: second, spans: cut(&whole.spans, middle, end) });
        self.parts.push_front(Part { batch: first, spans: cut(&whole.spans, 0, middle) });
        true
    }

    fn spans(&mut self) -> impl Iterator<Item = &mut Vec<Span>> {
        self.parts.iter_mut().map(|part| &mut part.spans)
    }

    fn body_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.batch.body_bytes()).sum()
    }
}

/// The body in flight, and those whose streams have to wait.
#[derive(Default)]
pub struct Delivery {
    /// In flight.
    pub now: Option<Flight>,
    aside: Vec<Flight>,
}

impl Delivery {
    fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.now.iter().chain(&self.aside)
    }

    /// The numbers of all events that bodies hold and that lie there.
    pub fn numbers(&self, home: Home) -> Ranges {
        let mut all = Ranges::default();
        for part in self.flights().flat_map(|flight| &flight.parts) {
            part.spans.iter().filter(|span| span.home == home).for_each(|span| all.insert(span.from, span.to));
        }
        all
    }

    /// The body in flight may have been stored.
    pub fn is_uncertain(&self) -> bool {
        self.now.as_ref().is_some_and(|flight| flight.uncertain)
    }

    /// Events that lie in bodies alone.
    pub fn detached_events(&self) -> u64 {
        let spans = self.flights().flat_map(|flight| &flight.parts).flat_map(|part| &part.spans);
        spans.filter(|span| span.home.is_body_alone()).map(Span::len).sum()
    }

    /// Keeps an uncertain body until its stream may be written to again. One that there is no room for is given back.
    pub fn set_aside(&mut self, flight: Flight) -> Option<Flight> {
        let bytes: u64 = self.aside.iter().map(Flight::body_bytes).sum();
        if bytes + flight.body_bytes() > ASIDE_BYTES_MAX {
            return Some(flight);
        }
        self.aside.push(flight);
        None
    }

    /// Takes back the first body that was set aside and may be sent now.
    pub fn take_aside(&mut self, may_send: &dyn Fn(&StreamKey) -> bool) -> Option<Flight> {
        let ready = |flight: &Flight| flight.parts.front().is_some_and(|part| may_send(&part.batch.key));
        let at = self.aside.iter().position(ready)?;
        Some(self.aside.remove(at))
    }

    /// The streams of bodies that were set aside.
    pub fn aside_keys(&self) -> impl Iterator<Item = &StreamKey> {
        self.aside.iter().filter_map(|flight| flight.parts.front()).map(|part| &*part.batch.key)
    }

    /// A record moved from the lane to the spool: its events, in this order, have the numbers from `sequence` on now.
    pub fn relocate(&mut self, pending: &Ranges, sequence: u64) {
        let mut moves = Vec::new();
        let mut next = sequence;
        for (from, to) in pending.iter() {
            moves.push((from, to, next));
            next += to - from;
        }
        let place = |number: u64| {
            let (from, _, new) = moves.iter().find(|(from, to, _)| (*from..*to).contains(&number))?;
            Some(new + (number - from))
        };
        self.readdress(Home::Lane, &|number| place(number).map(|number| (Home::Spool, number)));
    }

    /// These events are in the spool no more: the bodies that hold them are all there is.
    pub fn detach(&mut self, gone: &Ranges) {
        if !gone.is_empty() {
            self.readdress(Home::Spool, &|number| gone.contains(number).then_some((Home::Afloat, number)));
        }
    }

    /// The spool is gone.
    pub fn detach_all(&mut self) {
        self.readdress(Home::Spool, &|number| Some((Home::Body, number)));
        self.readdress(Home::Afloat, &|number| Some((Home::Body, number)));
    }

    /// These events have left the lane and have no place on the disk: the bodies that hold them are all there is.
    pub fn detach_live(&mut self, gone: &Ranges) {
        self.readdress(Home::Lane, &|number| gone.contains(number).then_some((Home::Body, number)));
    }

    /// Takes out all bodies.
    pub fn take_all(&mut self) -> Vec<Flight> {
        self.now.take().into_iter().chain(std::mem::take(&mut self.aside)).collect()
    }

    /// Gives new places to events of one home, for which there are any.
    fn readdress(&mut self, home: Home, place: &dyn Fn(u64) -> Option<(Home, u64)>) {
        for spans in self.now.iter_mut().chain(&mut self.aside).flat_map(Flight::spans) {
            if spans.iter().all(|span| span.home != home) {
                continue;
            }
            let old = std::mem::take(spans);
            for span in old {
                for number in span.from..span.to {
                    let new = if span.home == home { place(number) } else { None };
                    let (home, number) = new.unwrap_or((span.home, number));
                    push(spans, home, number);
                }
            }
        }
    }
}

/// What went out since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Requests to CloudWatch Logs with events in them.
    pub requests: u64,
    /// Their bodies.
    pub body_bytes: u64,
}

/// The size of bodies, and the backlog's budget.
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
    /// How much to gather for the next body, as a batch counts bytes.
    pub fn billed_bytes_max(&self) -> u64 {
        (self.window_bytes * self.ratio_percent / 100).clamp(1, BatchLimits::API.billed_bytes)
    }

    /// Learns from a request that was answered.
    pub fn answered(&mut self, batch: &Batch, duration_ms: u64) {
        let body_bytes = batch.body_bytes().max(1);
        self.ratio_percent = (batch.billed_bytes * 100 / body_bytes).clamp(100, 5_000);
        // A small body says nothing about a large window; whole records may leave much of it empty.
        if duration_ms > SLOW_MS {
            self.window_bytes = (body_bytes / 2).max(WINDOW_START_BYTES / 4);
        } else if duration_ms < QUICK_MS && body_bytes * 3 >= self.window_bytes {
            self.window_bytes = (self.window_bytes * 2).min(BatchLimits::API.billed_bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use std::rc::Rc;

    fn key() -> Rc<StreamKey> {
        Rc::new(StreamKey { group: "g".into(), stream: "s".into() })
    }

    fn flight(spans: &[(Home, u64, u64)]) -> Flight {
        let count: u64 = spans.iter().map(|(_, from, to)| to - from).sum();
        let event = |n: u64| Event::text(key(), n.cast_signed(), false, &format!("{n}"));
        let events: Vec<Event> = (0..count).map(event).collect();
        let spans = spans.iter().map(|(home, from, to)| Span { home: *home, from: *from, to: *to }).collect();
        let part = Part { batch: Batch::encode(&key(), &events, true), spans };
        Flight { parts: [part].into(), backlog: false, base_ms: 0, uncertain: true, signed_base_ms: 0, timeouts: 0 }
    }

    fn spans(delivery: &Delivery) -> Vec<(Home, u64, u64)> {
        let parts = delivery.now.iter().flat_map(|flight| &flight.parts);
        parts.flat_map(|part| &part.spans).map(|span| (span.home, span.from, span.to)).collect()
    }

    fn ranges(list: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        list.iter().for_each(|(from, to)| ranges.insert(*from, *to));
        ranges
    }

    #[test]
    fn a_body_keeps_the_places_of_its_events_wherever_they_move() {
        let mut delivery =
            Delivery { now: Some(flight(&[(Home::Lane, 3, 7), (Home::Lane, 20, 22)])), ..Delivery::default() };
        // Of the record 0..10 the events 0 and 5 were settled before; what is left got the numbers from 100 on.
        delivery.relocate(&ranges(&[(1, 5), (6, 10)]), 100);
        assert_eq!(spans(&delivery)[0], (Home::Spool, 102, 104));
        assert_eq!(delivery.numbers(Home::Lane), ranges(&[(5, 6), (20, 22)]));
        assert_eq!(delivery.numbers(Home::Spool), ranges(&[(102, 105)]));
        delivery.detach(&ranges(&[(103, 200)]));
        assert_eq!((delivery.detached_events(), delivery.numbers(Home::Spool)), (2, ranges(&[(102, 103)])));
        delivery.detach_all();
        assert_eq!(delivery.detached_events(), 3);
    }

    #[test]
    fn halves_know_their_events() {
        let mut whole = flight(&[(Home::Lane, 3, 6), (Home::Spool, 0, 4)]);
        assert!(whole.halve());
        let delivery = Delivery { now: Some(whole), ..Delivery::default() };
        assert_eq!(spans(&delivery), [(Home::Lane, 3, 6), (Home::Spool, 0, 4)]);
        let parts = &delivery.now.as_ref().unwrap().parts;
        assert_eq!(parts.iter().map(|part| part.spans.len()).collect::<Vec<_>>(), [1, 1]);
        for part in parts {
            assert_eq!(u64::from(part.batch.events), part.spans.iter().map(Span::len).sum::<u64>());
        }
    }

    #[test]
    fn only_so_much_is_set_aside_and_it_comes_back_when_its_stream_may_be_written_to() {
        let mut delivery = Delivery::default();
        assert!(delivery.set_aside(flight(&[(Home::Lane, 0, 2)])).is_none());
        assert!(delivery.take_aside(&|_| false).is_none());
        assert_eq!(delivery.numbers(Home::Lane), ranges(&[(0, 2)]));
        assert!(delivery.take_aside(&|_| true).is_some() && delivery.take_aside(&|_| true).is_none());
    }

    #[test]
    fn records_of_almost_half_a_window_let_it_grow() {
        let mut seed = 7_u32;
        let mut word = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{seed:08x}")
        };
        let mut pace = Pace::default();
        let before = pace.billed_bytes_max();
        let events: Vec<Event> = (0..68)
            .map(|n| Event::text(key(), n, false, &format!("{:>160}{}{}{}{}", n, word(), word(), word(), word())))
            .collect();
        let batch = Batch::encode(&key(), &events, true);
        let body_bytes = batch.body_bytes();
        assert!(body_bytes * 2 < WINDOW_START_BYTES && body_bytes * 5 > WINDOW_START_BYTES * 2, "{body_bytes}");
        pace.answered(&batch, 200);
        assert!(pace.billed_bytes_max() > before * 3 / 2, "{}", pace.billed_bytes_max());
    }
}
