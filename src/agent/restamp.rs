//! Changes the time of a finished event: the event's own and the message's `Timestamp`, together.
//!
//! Works on the text, since an event is bytes from the moment it is made. A member's name can be told from a string that
//! looks like it by walking the members of the outermost object.

use crate::model::Event;

/// Moves an event by `delta_ms`; never one whose time came from the exposition.
pub fn shift(event: &mut Event, delta_ms: i64) {
    if !event.own_time && delta_ms != 0 {
        event.timestamp_ms = event.timestamp_ms.saturating_add(delta_ms);
        set_timestamp(event);
    }
}

/// Marks an event whose time is an estimate, because the clock of its boot was never confirmed.
pub fn mark_estimated(event: &mut Event) {
    add_member(event, "\"TimestampEstimated\":\"true\"");
}

/// Gives an event that is too old for CloudWatch Logs the present time. The original time stays in the event, and it
/// carries no metrics: they would appear at the wrong time.
pub fn restamp(event: &mut Event, now_ms: i64) {
    let original_ms = event.timestamp_ms;
    event.timestamp_ms = now_ms;
    set_timestamp(event);
    if let Some(span) = find(event, |m| m.name == "CloudWatchMetrics" && m.value.starts_with('[')) {
        // The member and the comma behind it; the object is never left empty, `Timestamp` remains.
        let end = span.end + usize::from(event.message[span.end..].starts_with(','));
        event.message.replace_range(span.start..end, "");
    }
    add_member(event, &format!("\"OriginalTimestamp\":\"{original_ms}\""));
}

fn add_member(event: &mut Event, member: &str) {
    if event.message.starts_with('{') {
        let comma = if event.message.starts_with("{}") { "" } else { "," };
        event.message.insert_str(1, &format!("{member}{comma}"));
    }
}

fn set_timestamp(event: &mut Event) {
    if let Some(span) = find(event, |member| member.name == "Timestamp") {
        let text = format!("\"Timestamp\":\"{}\"", event.timestamp_ms);
        event.message.replace_range(span, &text);
    }
}

fn find(event: &Event, is_it: impl Fn(&Member<'_>) -> bool) -> Option<std::ops::Range<usize>> {
    members(&event.message).find(is_it).map(|member| member.start..member.end)
}

/// A member of the outermost object: its raw name, its raw value, and where both stand.
struct Member<'a> {
    name: &'a str,
    value: &'a str,
    start: usize,
    end: usize,
}

fn members(text: &str) -> impl Iterator<Item = Member<'_>> {
    let mut at = usize::from(text.starts_with('{'));
    std::iter::from_fn(move || {
        let start = at;
        let name_end = string_end(text, start)?;
        let value_start = name_end + text[name_end..].starts_with(':').then_some(1)?;
        let end = value_end(text, value_start);
        at = end + usize::from(text[end..].starts_with(','));
        Some(Member { name: &text[start + 1..name_end - 1], value: &text[value_start..end], start, end })
    })
}

/// The place behind the string that starts at `start`.
fn string_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The place behind the value that starts at `start`: the next comma or closing brace of the outermost object.
fn value_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (start, 0_u32);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at).unwrap_or(bytes.len());
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b',' | b'}' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::Converter;
    use crate::model::batch::{EVENT_BYTES_MAX, MARKS_BYTES_MAX};
    use crate::model::settings::ConvertSettings;
    use crate::model::{Labels, MetricType, Page, Report, Sample, StreamKey};
    use std::rc::Rc;

    fn event(message: &str, own_time: bool) -> Event {
        let key = Rc::new(StreamKey { group: "g".into(), stream: "s".into() });
        Event { key, timestamp_ms: 1000, own_time, message: message.into() }
    }

    #[test]
    fn the_event_and_its_timestamp_move_together() {
        let mut moved = event(r#"{"CloudWatchMetrics":[{"a":["Timestamp"]}],"Timestamp":"1000","x":1}"#, false);
        shift(&mut moved, 500);
        assert_eq!(moved.timestamp_ms, 1500);
        assert_eq!(moved.message, r#"{"CloudWatchMetrics":[{"a":["Timestamp"]}],"Timestamp":"1500","x":1}"#);
    }

    #[test]
    fn an_absurd_time_of_a_damaged_record_ends_nothing() {
        for (at_ms, delta_ms) in [(i64::MAX, 1), (i64::MIN, -1), (i64::MAX, i64::MAX), (i64::MIN, i64::MIN)] {
            let mut moved = event(r#"{"Timestamp":"1000"}"#, false);
            moved.timestamp_ms = at_ms;
            shift(&mut moved, delta_ms);
            assert_eq!(moved.timestamp_ms, at_ms);
        }
    }

    #[test]
    fn a_name_that_looks_like_a_timestamp_is_left_alone() {
        let mut moved = event(r#"{"a\",\"Timestamp\":\"7":"{,\"Timestamp\":\"7\"","Timestamp":"1000"}"#, false);
        shift(&mut moved, 1);
        assert_eq!(moved.message, r#"{"a\",\"Timestamp\":\"7":"{,\"Timestamp\":\"7\"","Timestamp":"1001"}"#);
    }

    #[test]
    fn an_expositions_own_time_is_never_moved() {
        let mut own = event(r#"{"Timestamp":"1000"}"#, true);
        shift(&mut own, 500);
        assert_eq!((own.timestamp_ms, own.message.as_str()), (1000, r#"{"Timestamp":"1000"}"#));
    }

    #[test]
    fn a_restamped_event_keeps_its_original_time_and_loses_its_metrics() {
        let mut old = event(r#"{"CloudWatchMetrics":[{"Dimensions":[["job"]]}],"Timestamp":"1000","x":1}"#, false);
        restamp(&mut old, 9000);
        assert_eq!(old.message, r#"{"OriginalTimestamp":"1000","Timestamp":"9000","x":1}"#);
        let mut label = event(r#"{"CloudWatchMetrics":"c","Timestamp":"1000"}"#, true);
        restamp(&mut label, 9000);
        assert_eq!(label.message, r#"{"OriginalTimestamp":"1000","CloudWatchMetrics":"c","Timestamp":"9000"}"#);
    }

    #[test]
    fn an_event_as_large_as_can_be_still_fits_when_every_mark_was_added() {
        let fill = |bytes: usize| {
            let target = crate::convert::tests::target(60_000);
            let labels = Labels::from_pairs([("__name__", "g"), ("a", &"x".repeat(bytes))]);
            let sample = Sample { labels, value: 1.0, timestamp_ms: Some(0), exposed_name: None };
            let page = Page { samples: vec![sample], types: [("g".into(), MetricType::Gauge)].into() };
            let mut converter = Converter::new(ConvertSettings::default());
            converter.convert(&target, &Report::default(), Some(page), &[], 0).events.pop()
        };
        let rest = fill(1).expect("an event").billed_bytes() - 1;
        let largest = EVENT_BYTES_MAX - MARKS_BYTES_MAX - rest;
        assert_eq!(fill(largest + 1), None);
        let mut event = fill(largest).expect("an event");
        assert!(event.message.contains("\"Timestamp\":\"0\""));
        event.timestamp_ms = i64::MIN;
        mark_estimated(&mut event);
        restamp(&mut event, i64::MIN);
        // The limit of one event in PutLogEvents, and nothing wasted.
        assert_eq!(event.billed_bytes(), 1_048_576, "{}", &event.message[..200]);
    }
}
