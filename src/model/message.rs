//! Events that come as text: from spools before version 2, from an export, and our own markers.
//!
//! The one place that takes JSON apart: it finds the time that may have to move and the member that a restamped event must not
//! carry. A member's name can be told from a string that looks like it by walking the members of the outermost object.

use super::layout::{Event, LabelValues, Layout, Marks, ShapeBuilder};
use super::{StreamKey, push_integer};
use std::rc::Rc;

impl Event {
    /// An event of this text. Its `Timestamp`, if it says this time, moves with the event's.
    pub fn text(key: Rc<StreamKey>, timestamp_ms: i64, own_time: bool, message: &str) -> Self {
        let mut shape = ShapeBuilder::default();
        let mut time = Vec::new();
        push_integer(&mut time, timestamp_ms);
        let mut copied = 0;
        let mut metrics = None;
        for member in members(message) {
            match member.name {
                "Timestamp" if quoted(member.value) == Some(&time) => {
                    let from = member.end - member.value.len() + 1;
                    shape.text().extend_from_slice(&message.as_bytes()[copied..from]);
                    shape.time();
                    copied = member.end - 1;
                }
                "CloudWatchMetrics" if member.value.starts_with('[') => {
                    // With one comma; the object is never left empty, `Timestamp` remains.
                    let followed = message[member.end..].starts_with(',');
                    let end = member.end + usize::from(followed);
                    let start = member.start - usize::from(!followed && message[..member.start].ends_with(','));
                    shape.text().extend_from_slice(&message.as_bytes()[copied..start]);
                    let from = shape.text().len();
                    shape.text().extend_from_slice(&message.as_bytes()[start..end]);
                    metrics = Some(from);
                    copied = end;
                }
                _ => continue,
            }
            if let Some(from) = metrics.take() {
                shape.metrics_from(from);
            }
        }
        shape.text().extend_from_slice(&message.as_bytes()[copied..]);
        let layout = Layout::new(key, Rc::new(shape.build(true)), Rc::new(LabelValues::default()));
        Self::new(Rc::new(layout), Rc::new(Vec::new()), 0, own_time, timestamp_ms)
    }

    /// The message as it is sent with these marks.
    pub fn marked(&self, marks: Marks) -> String {
        String::from_utf8_lossy(&self.message_with(marks)).into_owned()
    }
}

fn quoted(value: &str) -> Option<&[u8]> {
    value.strip_prefix('"')?.strip_suffix('"').map(str::as_bytes)
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

    fn moved(message: &str, timestamp_ms: i64, to_ms: i64, marks: Marks) -> String {
        let key = Rc::new(StreamKey { group: "g".into(), stream: "s".into() });
        let mut event = Event::text(key, timestamp_ms, false, message);
        assert_eq!((event.message().as_str(), event.message_bytes()), (message, message.len()));
        event.timestamp_ms = to_ms;
        event.marked(marks)
    }

    #[test]
    fn the_event_and_its_timestamp_move_together() {
        let text = r#"{"CloudWatchMetrics":[{"a":["Timestamp"]}],"Timestamp":"1000","x":1}"#;
        let want = r#"{"CloudWatchMetrics":[{"a":["Timestamp"]}],"Timestamp":"1500","x":1}"#;
        assert_eq!(moved(text, 1000, 1500, Marks::default()), want);
    }

    #[test]
    fn a_name_that_looks_like_a_timestamp_is_left_alone() {
        let text = r#"{"a\",\"Timestamp\":\"7":"{,\"Timestamp\":\"7\"","Timestamp":"1000"}"#;
        assert_eq!(moved(text, 1000, 1001, Marks::default()), text.replace("1000", "1001"));
        assert_eq!(moved(text, 7, 8, Marks::default()), text);
    }

    #[test]
    fn a_restamped_text_keeps_its_original_time_and_loses_its_metrics() {
        let marks = Marks { estimated: false, original_ms: Some(1000) };
        let text = r#"{"CloudWatchMetrics":[{"Dimensions":[["job"]]}],"Timestamp":"1000","x":1}"#;
        assert_eq!(moved(text, 1000, 9000, marks), r#"{"OriginalTimestamp":"1000","Timestamp":"9000","x":1}"#);
        let last = r#"{"Timestamp":"1000","CloudWatchMetrics":[{"Dimensions":[["job"]]}]}"#;
        assert_eq!(moved(last, 1000, 9000, marks), r#"{"OriginalTimestamp":"1000","Timestamp":"9000"}"#);
        let label = r#"{"CloudWatchMetrics":"c","Timestamp":"1000"}"#;
        assert_eq!(
            moved(label, 1000, 9000, marks),
            r#"{"OriginalTimestamp":"1000","CloudWatchMetrics":"c","Timestamp":"9000"}"#
        );
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for text in ["", "free text, 1, 2", "{", "{\"a", "{\"a\":", "[1]", "{}"] {
            let estimated = Marks { estimated: true, original_ms: None };
            let marked = moved(text, 1, 2, estimated);
            assert!(marked == text || text.starts_with('{'), "{marked}");
        }
        assert_eq!(moved("{}", 1, 2, Marks { estimated: true, original_ms: None }), r#"{"TimestampEstimated":"true"}"#);
    }
}
