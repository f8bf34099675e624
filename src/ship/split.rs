//! Cutting a batch in halves. The body is the only copy of its events, so it is read back.

use super::batch::Batch;
use crate::model::Event;
use miniserde::{Deserialize, json};
use std::rc::Rc;

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "logEvents")]
    log_events: Vec<BodyEvent>,
}

#[derive(Deserialize)]
struct BodyEvent {
    timestamp: i64,
    message: String,
}

impl Batch {
    /// The batch as two, in order; nothing when it holds a single event.
    pub fn split(&self) -> Option<(Batch, Batch)> {
        let text = String::from_utf8(self.plain_body()).ok()?;
        let body: Body = json::from_str(&text).ok()?;
        let event = |event: BodyEvent| Event {
            key: Rc::clone(&self.key),
            timestamp_ms: event.timestamp,
            own_time: true,
            message: event.message,
        };
        let events: Vec<Event> = body.log_events.into_iter().map(event).collect();
        if events.len() < 2 {
            return None;
        }
        let (first, second) = events.split_at(events.len() / 2);
        let half = |events| Batch::encode(&self.key, events, self.is_gzip());
        Some((half(first), half(second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StreamKey;

    #[test]
    fn halves_hold_the_same_events_in_the_same_order() {
        let key = Rc::new(StreamKey { group: "g".into(), stream: "s".into() });
        let event = |n: i64| Event {
            key: Rc::clone(&key),
            timestamp_ms: n,
            own_time: false,
            message: format!("{{\"a\":\"\\u0001\\\"é\u{2028}\",\"n\":{n}}}"),
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
