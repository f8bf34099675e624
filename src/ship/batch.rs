//! One PutLogEvents body: what fits in, and its bytes.

use crate::gzip;
use crate::model::batch::{BatchLimits, EVENT_BYTES_MAX, Fill};
use crate::model::{Event, StreamKey, push_integer};
use std::rc::Rc;

/// Measured on the bodies of the golden node_exporter cases (36 of 15.5 kB, x86-64, size-optimised): level 1 makes 13.7 %
/// of them in 150 µs each, 5 makes 10.9 % in 140 µs, 6 makes 10.8 % in 190 µs, 9 makes 10.8 % in 290 µs and more.
const GZIP_LEVEL: u32 = 5;
/// JSON is handed to the compressor in pieces of about this size.
const PIECE_BYTES: usize = 16 << 10;

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
}

impl Batch {
    /// Encodes events of one stream. They are put in order of time here; equal times keep their order. With `compress` the body is
    /// gzip where that is smaller.
    pub fn encode(key: &Rc<StreamKey>, events: &[Event], compress: bool) -> Self {
        let mut order: Vec<&Event> = events.iter().collect();
        order.sort_by_key(|event| event.timestamp_ms);
        let mut body = Body::new(compress);
        body.text.push_str("{\"logGroupName\":");
        push_string(&mut body.text, &key.group);
        body.text.push_str(",\"logStreamName\":");
        push_string(&mut body.text, &key.stream);
        body.text.push_str(",\"logEvents\":[");
        let mut fill = Fill::new(BatchLimits::API);
        let mut broken = if events.is_empty() { Some("no events") } else { None };
        for (index, event) in order.iter().enumerate() {
            let billed_bytes = event.billed_bytes();
            if !fill.take(event.timestamp_ms, billed_bytes as u64) || billed_bytes > EVENT_BYTES_MAX {
                broken = Some("larger than CloudWatch Logs takes");
            } else if event.message.is_empty() || event.timestamp_ms < 0 {
                broken = Some("an event without text, or from before 1970");
            }
            body.text.push_str(if index == 0 { "{\"timestamp\":" } else { ",{\"timestamp\":" });
            push_integer(&mut body.text, event.timestamp_ms);
            body.text.push_str(",\"message\":");
            push_string(&mut body.text, &event.message);
            body.text.push('}');
            body.hand_on();
        }
        body.text.push_str("]}");
        let (body, gzip) = body.finish();
        Self {
            key: Rc::clone(key),
            events: u32::try_from(events.len()).unwrap_or(u32::MAX),
            billed_bytes: events.iter().map(|event| event.billed_bytes() as u64).sum(),
            first_ms: order.first().map_or(0, |event| event.timestamp_ms),
            last_ms: order.last().map_or(0, |event| event.timestamp_ms),
            broken: name_fault(key).map(Broken::Stream).or(broken.map(Broken::Event)),
            gzip,
            body,
        }
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
        if self.gzip { gzip::decode(&self.body) } else { self.body.clone() }
    }
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

/// JSON on its way into the body.
struct Body {
    text: String,
    plain_bytes: u64,
    sink: Sink,
}

enum Sink {
    Plain(Vec<u8>),
    Gzip(gzip::Encoder),
}

impl Body {
    fn new(compress: bool) -> Self {
        let sink = if compress { Sink::Gzip(gzip::Encoder::new(GZIP_LEVEL)) } else { Sink::Plain(Vec::new()) };
        Self { text: String::with_capacity(PIECE_BYTES + 4096), plain_bytes: 0, sink }
    }

    fn hand_on(&mut self) {
        if self.text.len() >= PIECE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.plain_bytes += self.text.len() as u64;
        match &mut self.sink {
            Sink::Plain(body) => body.extend_from_slice(self.text.as_bytes()),
            Sink::Gzip(encoder) => encoder.write(self.text.as_bytes()),
        }
        self.text.clear();
    }

    /// The body and whether it is gzip.
    fn finish(mut self) -> (Vec<u8>, bool) {
        self.flush();
        match self.sink {
            Sink::Plain(body) => (body, false),
            Sink::Gzip(encoder) => {
                let body = encoder.finish();
                if (body.len() as u64) < self.plain_bytes { (body, true) } else { (gzip::decode(&body), false) }
            }
        }
    }
}

/// A JSON string: runs of ordinary characters are copied whole.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        from = at + 1;
        if escape.is_empty() {
            const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
            out.push_str("\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
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
        Event { key: key("g", "s"), timestamp_ms, own_time: false, message: message.to_owned() }
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
}
