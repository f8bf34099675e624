//! One PutLogEvents body: what fits in, and its bytes.

use super::body::Text;
use super::press::Press;
use crate::model::batch::{BatchLimits, EVENT_BYTES_MAX, Fill};
use crate::model::{Event, Marks, StreamKey};
use std::rc::Rc;

/// A rule of the API that a batch breaks for certain; it is not even sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Its stream cannot exist.
    Stream(&'static str),
    /// Some event in it cannot be taken, or all of them together.
    Event(&'static str),
}

/// One PutLogEvents body, encoded once and sent byte for byte the same on every retry.
#[derive(Clone)]
pub struct Batch {
    /// Where it goes.
    pub key: Rc<StreamKey>,
    /// Events in it.
    pub events: u32,
    /// What they count against the limit, see [`Event::billed_bytes`].
    pub billed_bytes: u64,
    /// The oldest event's time, milliseconds since 1970.
    pub first_ms: i64,
    /// The newest event's time.
    pub last_ms: i64,
    /// Why the API cannot take it, if it breaks a rule that we know.
    pub(super) broken: Option<Broken>,
    gzip: bool,
    body: Vec<u8>,
    /// What is in it, in its order: for halves, and for a service that takes no gzip.
    content: Rc<Vec<(Event, Marks)>>,
}

impl Batch {
    /// Encodes events of one stream, none of them marked.
    pub fn encode(key: &Rc<StreamKey>, events: &[Event], compress: bool) -> Self {
        Self::encode_marked(key, events.iter().map(|event| (event.clone(), Marks::default())).collect(), compress)
    }

    /// Encodes events of one stream, each with its marks. They are put in order of time here; equal times keep their order. With
    /// `compress` the body is gzip where that is smaller.
    pub fn encode_marked(key: &Rc<StreamKey>, events: Vec<(Event, Marks)>, compress: bool) -> Self {
        Self::pressed(key, events, compress.then(Press::new).as_mut())
    }

    /// The same with what is remembered of the layouts; without it the body is not compressed.
    pub(super) fn pressed(key: &Rc<StreamKey>, mut events: Vec<(Event, Marks)>, press: Option<&mut Press>) -> Self {
        events.sort_by_key(|(event, _)| event.timestamp_ms);
        let mut fill = Fill::new(BatchLimits::API);
        let mut broken = if events.is_empty() { Some("no events") } else { None };
        let mut billed_bytes = 0;
        for (event, marks) in &events {
            let bytes = billed(event, *marks);
            billed_bytes += bytes as u64;
            if !fill.take(event.timestamp_ms, bytes as u64) || bytes > EVENT_BYTES_MAX {
                broken = Some("larger than CloudWatch Logs takes");
            } else if bytes == Event::OVERHEAD_BYTES || event.timestamp_ms < 0 {
                broken = Some("an event without text, or from before 1970");
            }
        }
        let (body, gzip) = match press {
            Some(press) => press.body(key, &events),
            None => (text(key, &events), false),
        };
        Self {
            key: Rc::clone(key),
            events: u32::try_from(events.len()).unwrap_or(u32::MAX),
            billed_bytes,
            first_ms: events.first().map_or(0, |(event, _)| event.timestamp_ms),
            last_ms: events.last().map_or(0, |(event, _)| event.timestamp_ms),
            broken: name_fault(key).map(Broken::Stream).or(broken.map(Broken::Event)),
            gzip,
            body,
            content: Rc::new(events),
        }
    }

    /// The batch as two, in order; nothing when it holds a single event.
    pub fn split(&self) -> Option<(Batch, Batch)> {
        if self.content.len() < 2 {
            return None;
        }
        let (first, second) = self.content.split_at(self.content.len() / 2);
        let half = |events: &[(Event, Marks)]| Self::encode_marked(&self.key, events.to_vec(), self.gzip);
        Some((half(first), half(second)))
    }

    /// Bytes that a request carries for it, compressed if they are.
    pub fn body_bytes(&self) -> u64 {
        self.body.len() as u64
    }

    /// The body as it is sent.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the body is gzip.
    pub(super) fn is_gzip(&self) -> bool {
        self.gzip
    }

    /// The body as JSON, for a service that takes no gzip.
    pub(super) fn plain_body(&self) -> Vec<u8> {
        text(&self.key, &self.content)
    }
}

fn text(key: &StreamKey, events: &[(Event, Marks)]) -> Vec<u8> {
    let mut text = Text::new(key);
    events.iter().for_each(|(event, marks)| text.push(event, *marks));
    text.finish()
}

/// What an event with these marks counts against a batch.
pub fn billed(event: &Event, marks: Marks) -> usize {
    let bytes = event.billed_bytes();
    if marks == Marks::default() {
        return bytes;
    }
    // The members that say so are added, and metrics may be left out: rare enough to write it for its length.
    event.message_with(marks).len() + Event::OVERHEAD_BYTES
}

/// What makes a name illegal (API reference), if anything.
fn name_fault(key: &StreamKey) -> Option<&'static str> {
    let group_letter = |c: char| c.is_ascii_alphanumeric() || ".-_/#".contains(c);
    let length = |name: &str| (1..=512).contains(&name.chars().count());
    if !length(&key.group) || !key.group.chars().all(group_letter) || key.group.starts_with("aws/") {
        return Some("the log group's name is not legal: 1 to 512 of A-Z a-z 0-9 . - _ / #, not starting with aws/");
    }
    if !length(&key.stream) || key.stream.contains([':', '*']) {
        return Some("the log stream's name is not legal: 1 to 512 characters without : and *");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::fits;
    use serde_json::Value;

    fn key(group: &str, stream: &str) -> Rc<StreamKey> {
        Rc::new(StreamKey { group: group.to_owned(), stream: stream.to_owned() })
    }

    fn event(timestamp_ms: i64, message: &str) -> Event {
        Event::text(key("g", "s"), timestamp_ms, false, message)
    }

    #[test]
    fn the_body_is_json_whatever_the_message_holds() {
        let all: String = (0..0x250).filter_map(char::from_u32).chain("\"\\ \u{2028}🦀".chars()).collect();
        let events = [event(0, &all), event(i64::MAX, "{\"a\":\"b\\\\\"}")];
        for compress in [false, true] {
            let batch = Batch::encode(&key("g\"", "s\n"), &events, compress);
            let json: Value = serde_json::from_slice(&batch.plain_body()).unwrap();
            assert_eq!(json["logGroupName"], "g\"");
            assert_eq!(json["logStreamName"], "s\n");
            assert_eq!(json["logEvents"][0]["message"], all.as_str());
            assert_eq!(json["logEvents"][0]["timestamp"], 0);
            assert_eq!(json["logEvents"][1]["timestamp"], i64::MAX);
        }
    }

    #[test]
    fn events_are_put_in_order_of_time_and_equal_times_keep_theirs() {
        let events = [event(3, "c"), event(1, "a1"), event(2, "b"), event(1, "a2")];
        let batch = Batch::encode(&key("g", "s"), &events, false);
        assert_eq!((batch.first_ms, batch.last_ms, batch.events, batch.billed_bytes), (1, 3, 4, 6 + 4 * 26));
        let json: Value = serde_json::from_slice(batch.body()).unwrap();
        let messages: Vec<&Value> = json["logEvents"].as_array().unwrap().iter().map(|e| &e["message"]).collect();
        assert_eq!(messages, ["a1", "a2", "b", "c"]);
    }

    #[test]
    fn gzip_only_where_it_is_smaller() {
        let small = Batch::encode(&key("g", "s"), &[event(1, "x")], true);
        assert!(!small.is_gzip());
        let large = Batch::encode(&key("g", "s"), &vec![event(1, "0123456789"); 100], true);
        assert!(large.is_gzip() && large.body_bytes() * 10 < large.plain_body().len() as u64);
        assert_eq!(large.body(), Batch::encode(&key("g", "s"), &vec![event(1, "0123456789"); 100], true).body());
    }

    #[test]
    fn a_batch_counts_bytes_of_utf8_before_escaping() {
        let limits = BatchLimits { billed_bytes: 2 * (26 + 4), ..BatchLimits::API };
        assert_eq!(fits(&[event(1, "\"\"\"\""), event(1, "🦀"), event(1, "x")], limits), 2);
        assert_eq!(fits(&[event(1, "\"\"\"\""), event(1, "🦀x")], limits), 1);
    }

    #[test]
    fn span_and_number_end_a_batch_and_an_empty_one_takes_anything() {
        let day = 86_400_000;
        let limits = BatchLimits::API;
        assert_eq!(fits(&[event(0, "x"), event(day - 1, "x"), event(day, "x")], limits), 2);
        assert_eq!(fits(&[event(day, "x"), event(1, "x"), event(0, "x")], limits), 2);
        assert_eq!(fits(&vec![event(0, "x"); 10_001], limits), 10_000);
        let huge = event(0, &"x".repeat(1_048_551));
        assert_eq!(fits(&[huge.clone(), event(0, "x")], limits), 1);
        assert!(Batch::encode(&key("g", "s"), &[huge], true).broken.is_some());
        assert!(Batch::encode(&key("g", "s"), &[event(0, &"x".repeat(1_048_550))], true).broken.is_none());
    }

    /// Whatever comes, in whatever order: every batch is within the limits, none is empty, nothing is left out.
    #[test]
    fn cutting_by_fits_keeps_every_limit() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let limits =
                BatchLimits { billed_bytes: 26 + random(500), events: 1 + random(20) as u32, span_ms: random(1000) };
            let events: Vec<Event> =
                (0..random(200)).map(|_| event(random(2000) as i64, &"é".repeat(1 + random(60) as usize))).collect();
            let (mut rest, mut seen) = (&events[..], 0);
            while !rest.is_empty() {
                let count = fits(rest, limits);
                assert!(count > 0);
                let batch = Batch::encode(&key("g", "s"), &rest[..count], random(2) == 0);
                assert!(batch.events <= limits.events);
                assert!(count == 1 || batch.billed_bytes <= limits.billed_bytes);
                assert!(batch.last_ms.abs_diff(batch.first_ms) <= limits.span_ms);
                seen += count;
                rest = &rest[count..];
            }
            assert_eq!(seen, events.len());
        }
    }

    #[test]
    fn illegal_names_are_known_before_they_are_sent() {
        for (group, stream, legal) in [
            ("/edge/pi-1_a.b#c", "job with space é", true),
            ("a b", "s", false),
            ("aws/x", "s", false),
            ("/aws/x", "s", true),
            ("", "s", false),
            ("g", "", false),
            ("g", "a:b", false),
            ("g", "a*", false),
        ] {
            assert_eq!(name_fault(&key(group, stream)).is_none(), legal, "{group} {stream}");
        }
    }

    #[test]
    fn halves_hold_the_same_events_in_the_same_order() {
        let key = key("g", "s");
        let event = |n: i64| {
            let message = format!("{{\"a\":\"\\u0001\\\"é\u{2028}\",\"n\":{n}}}");
            Event::text(Rc::clone(&key), n, false, &message)
        };
        let events: Vec<Event> = (0..5).map(event).collect();
        for compress in [false, true] {
            let (first, second) = Batch::encode(&key, &events, compress).split().unwrap();
            assert_eq!((first.events, second.events, first.last_ms, second.first_ms), (2, 3, 1, 2));
            let whole = |events: &[Event]| Batch::encode(&key, events, compress).plain_body();
            assert_eq!(first.plain_body(), whole(&events[..2]));
            assert_eq!(second.plain_body(), whole(&events[2..]));
        }
        assert!(Batch::encode(&key, &events[..1], true).split().is_none());
    }
}
