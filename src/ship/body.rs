//! The text of a PutLogEvents body: layouts, their numbers and times become text here, and nowhere before.
//!
//! A message is JSON inside a JSON string. What moves a time or marks an event is an argument of the writing.

use super::press::push_label;
use crate::model::{Event, Form, Marks, Piece, StreamKey, json, push_decimal, push_integer};

/// Behind a message.
pub(super) const AFTER_MESSAGE: &[u8] = b"\"}";
/// Behind all events.
pub(super) const TAIL: &[u8] = b"]}";

/// A body as it is without compression.
pub(super) struct Text {
    text: Vec<u8>,
    is_empty: bool,
}

impl Text {
    /// Begins a body for this stream.
    pub(super) fn new(key: &StreamKey) -> Self {
        let mut text = Vec::new();
        push_head(&mut text, key);
        Self { text, is_empty: true }
    }

    /// Appends an event.
    pub(super) fn push(&mut self, event: &Event, marks: Marks) {
        push_event(&mut self.text, event, marks, self.is_empty);
        self.is_empty = false;
    }

    /// The body.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.text.extend_from_slice(TAIL);
        self.text
    }
}

/// What stands before the first event.
pub(super) fn push_head(out: &mut Vec<u8>, key: &StreamKey) {
    for (before, name) in [("{\"logGroupName\":\"", &key.group), ("\",\"logStreamName\":\"", &key.stream)] {
        out.extend_from_slice(before.as_bytes());
        json::push_inside(out, name.as_bytes());
    }
    out.extend_from_slice(b"\",\"logEvents\":[");
}

/// An event as it stands in a body.
pub(super) fn push_event(out: &mut Vec<u8>, event: &Event, marks: Marks, is_first: bool) {
    out.extend_from_slice(if is_first { b"{\"timestamp\":" } else { b",{\"timestamp\":" });
    push_integer(out, event.timestamp_ms);
    out.extend_from_slice(b",\"message\":\"");
    let (shape, labels) = (&*event.layout.shape, &*event.layout.labels);
    let left_out = shape.metrics().filter(|_| marks.original_ms.is_some());
    let mut marks = marks.members();
    for piece in shape.pieces() {
        match *piece {
            Piece::Text { from, to } => {
                let mut text = shape.slice(from, to);
                if !marks.is_empty() && from == 0 && text.first() == Some(&b'{') {
                    out.push(b'{');
                    if text.get(1) == Some(&b'}') {
                        marks.pop();
                    }
                    json::push_inside(out, &marks);
                    text = &text[1..];
                }
                let start = to - text.len() as u32;
                match left_out {
                    Some((cut, end)) if from <= cut && end <= to => {
                        json::push_inside(out, shape.slice(start, cut));
                        json::push_inside(out, shape.slice(end, to));
                    }
                    _ => json::push_inside(out, text),
                }
            }
            Piece::Label(number) => push_label(out, labels, number),
            Piece::Number(number, Form::Decimal) => push_decimal(out, event.number(number)),
            // Not text: no event for CloudWatch Logs has one.
            Piece::Number(_, Form::F64 | Form::I64) => {}
            Piece::Time => push_integer(out, event.timestamp_ms),
        }
    }
    out.extend_from_slice(AFTER_MESSAGE);
}
