//! Layouts: finished items with holes. One representation from `convert` to the wire and to the disk.
//!
//! A layout has two storeys. Its [`Shape`] is what all items of one kind share: the text around the holes. Its label values are
//! the item's own. Numbers and the time are the third storey, and come with each [`Event`]. Text is made once, in the body.
//!
//! ```text
//! shape    {"Timestamp":"<time>","cpu":"<label 0>","host":"<label 1>","seconds":<number 0>}
//! layout   shape + "0", "pi" + the stream it goes to
//! event    layout + 12.5 + 1700000000000
//! ```
//!
//! Limits: an item is at most [`EVENT_BYTES_MAX`](super::batch::EVENT_BYTES_MAX) long, so places in it are 32 bits wide.

use super::number::{decimal_bytes, integer_bytes, push_decimal, push_integer};
use super::{StreamKey, json};
use std::rc::Rc;

/// How a number stands in an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// As decimal text, the shortest that reads back as the same number.
    Decimal,
    /// Eight bytes, little-endian, of the float.
    F64,
    /// Eight bytes, little-endian, of an integer; [`f64::to_bits`] of the number is that integer.
    I64,
}

/// A part of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// These bytes of the shape's text.
    Text {
        /// The first one's place.
        from: u32,
        /// The place behind the last one.
        to: u32,
    },
    /// The label value with this number, as it stands in a JSON string.
    Label(u32),
    /// The number with this number.
    Number(u32, Form),
    /// The item's time, milliseconds since 1970, as decimal text.
    Time,
}

/// What items of one kind share.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    text: Box<[u8]>,
    pieces: Box<[Piece]>,
    numbers: u32,
    /// The text of the member that tells CloudWatch which metrics to extract, with the comma behind it.
    metrics: Option<(u32, u32)>,
    once: bool,
}

impl Shape {
    /// The text around the holes, one piece after the other.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The bytes of a [`Piece::Text`].
    pub fn slice(&self, from: u32, to: u32) -> &[u8] {
        self.text.get(from as usize..to as usize).unwrap_or_default()
    }

    /// How many numbers an item has.
    pub fn numbers(&self) -> u32 {
        self.numbers
    }

    /// Where in the text the member `CloudWatchMetrics` stands, with the comma behind it; within one piece.
    pub fn metrics(&self) -> Option<(u32, u32)> {
        self.metrics
    }

    /// It was made for one item and does not come again.
    pub fn is_once(&self) -> bool {
        self.once
    }

    /// The memory that it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + size_of_val(&*self.pieces)
    }
}

/// Puts a shape together.
#[derive(Debug, Default)]
pub struct ShapeBuilder {
    text: Vec<u8>,
    pieces: Vec<Piece>,
    numbers: u32,
    metrics: Option<(u32, u32)>,
    /// Where the text that is not a piece yet begins.
    open: usize,
}

impl ShapeBuilder {
    /// The text so far; what is appended becomes a part of the shape.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// A label value stands here.
    pub fn label(&mut self, number: u32) {
        self.hole(Piece::Label(number));
    }

    /// The next number stands here.
    pub fn number(&mut self, form: Form) {
        self.hole(Piece::Number(self.numbers, form));
        self.numbers += 1;
    }

    /// The time stands here.
    pub fn time(&mut self) {
        self.hole(Piece::Time);
    }

    /// From this place of the text on stands the member that tells which metrics to extract, with the comma behind it.
    pub fn metrics_from(&mut self, from: usize) {
        self.metrics = Some((from as u32, self.text.len() as u32));
    }

    fn hole(&mut self, hole: Piece) {
        self.close();
        self.pieces.push(hole);
    }

    fn close(&mut self) {
        if self.open < self.text.len() {
            self.pieces.push(Piece::Text { from: self.open as u32, to: self.text.len() as u32 });
            self.open = self.text.len();
        }
    }

    /// The shape; with `once` it is not expected to come again.
    pub fn build(mut self, once: bool) -> Shape {
        self.close();
        Shape {
            text: self.text.into_boxed_slice(),
            pieces: self.pieces.into_boxed_slice(),
            numbers: self.numbers,
            metrics: self.metrics,
            once,
        }
    }

    /// A shape that was read from its parts; nothing where they do not fit together.
    pub fn of_parts(text: &[u8], pieces: Vec<Piece>, metrics: Option<(u32, u32)>, once: bool) -> Option<Shape> {
        let (mut at, mut numbers) = (0, 0);
        for piece in &pieces {
            match *piece {
                Piece::Text { from, to } if from == at && to > from => at = to,
                Piece::Number(number, _) if number == numbers => numbers += 1,
                Piece::Label(_) | Piece::Time => {}
                _ => return None,
            }
        }
        let within = |(from, to): (u32, u32)| {
            let holds = |piece: &Piece| matches!(*piece, Piece::Text { from: a, to: b } if a <= from && to <= b);
            from < to && pieces.iter().any(holds)
        };
        (at as usize == text.len() && metrics.is_none_or(within)).then(|| Shape {
            text: text.into(),
            pieces: pieces.into_boxed_slice(),
            numbers,
            metrics,
            once,
        })
    }
}

/// Label values of one item, as they are: nothing escaped.
///
/// One allocation: a byte that says whether all of them are plain, the end of each, their text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelValues(Box<[u8]>);

impl LabelValues {
    /// Keeps these values.
    pub fn of<'a>(values: impl Iterator<Item = &'a str> + Clone) -> Self {
        let plain = values.clone().all(json::is_plain);
        let count = values.clone().count();
        let mut packed = Vec::with_capacity(5 + 4 * count + values.clone().map(str::len).sum::<usize>());
        packed.push(u8::from(plain));
        packed.extend_from_slice(&(count as u32).to_le_bytes());
        let mut end = 0_u32;
        for value in values.clone() {
            end += value.len() as u32;
            packed.extend_from_slice(&end.to_le_bytes());
        }
        values.for_each(|value| packed.extend_from_slice(value.as_bytes()));
        Self(packed.into_boxed_slice())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.word(1) as usize
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// None of them needs to be escaped in JSON, however often it is put into a string.
    pub fn are_plain(&self) -> bool {
        self.0.first() == Some(&1)
    }

    /// The value with this number; empty where there is none.
    pub fn get(&self, number: u32) -> &str {
        let (number, count) = (number as usize, self.len());
        if number >= count {
            return "";
        }
        let text = 5 + 4 * count;
        let from = if number == 0 { 0 } else { self.word(1 + 4 * number) as usize };
        let to = self.word(5 + 4 * number) as usize;
        self.0.get(text + from..text + to).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        (0..self.len() as u32).map(|number| self.get(number))
    }

    /// The memory that they take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.0.len()
    }

    fn word(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
    }
}

impl Default for LabelValues {
    fn default() -> Self {
        Self::of(std::iter::empty())
    }
}

/// A shape with its label values, and the stream that its items go to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Where its items go.
    pub key: Rc<StreamKey>,
    /// What it shares with others.
    pub shape: Rc<Shape>,
    /// What it does not.
    pub labels: Rc<LabelValues>,
    /// Bytes of an item but for its numbers and its time.
    text_bytes: u32,
    /// How often an item tells its time.
    times: u32,
}

impl Layout {
    /// Puts a layout together.
    pub fn new(key: Rc<StreamKey>, shape: Rc<Shape>, labels: Rc<LabelValues>) -> Self {
        let label = |number: u32| {
            let value = labels.get(number);
            if labels.are_plain() {
                return value.len();
            }
            let mut escaped = Vec::new();
            json::push_text(&mut escaped, value);
            escaped.len()
        };
        let bytes = |piece: &Piece| match *piece {
            Piece::Text { from, to } => (to - from) as usize,
            Piece::Label(number) => label(number),
            Piece::Number(_, Form::Decimal) | Piece::Time => 0,
            Piece::Number(_, Form::F64 | Form::I64) => 8,
        };
        let text_bytes: usize = shape.pieces().iter().map(bytes).sum();
        let times = shape.pieces().iter().filter(|piece| **piece == Piece::Time).count() as u32;
        Self { key, text_bytes: u32::try_from(text_bytes).unwrap_or(u32::MAX), times, shape, labels }
    }

    /// Bytes of an item but for its decimal numbers and its time.
    pub fn text_bytes(&self) -> u32 {
        self.text_bytes
    }
}

/// What is said of an event's time when it is sent, beside the time itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The time is an estimate, because the clock of its boot was never confirmed.
    pub estimated: bool,
    /// The event was too old for the service and has the present time; this was its own. Such an event carries no metrics:
    /// they would appear at the wrong time.
    pub original_ms: Option<i64>,
}

impl Marks {
    /// The members that say so, to stand at the front of the object.
    pub fn members(self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(original_ms) = self.original_ms {
            out.extend_from_slice(b"\"OriginalTimestamp\":\"");
            push_integer(&mut out, original_ms);
            out.extend_from_slice(b"\",");
        }
        if self.estimated {
            out.extend_from_slice(b"\"TimestampEstimated\":\"true\",");
        }
        out
    }
}

/// One event, finished: a layout, its numbers, a time.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it looks like and where it goes.
    pub layout: Rc<Layout>,
    /// The numbers of all events of its scrape.
    pub numbers: Rc<Vec<f64>>,
    /// The first of its own numbers.
    first: u32,
    /// Bytes of the message but for its times.
    bytes: u32,
    /// The exposition gave the time: it is never moved when the clock turns out to have been wrong.
    pub own_time: bool,
    /// The event's time, milliseconds since 1970; the message's own `Timestamp` says the same.
    pub timestamp_ms: i64,
}

impl Event {
    /// What CloudWatch Logs adds to each message when it sums up an event or a batch, in bytes (PutLogEvents, API reference).
    pub const OVERHEAD_BYTES: usize = 26;

    /// An event of this layout, whose numbers are those from `first` on.
    pub fn new(layout: Rc<Layout>, numbers: Rc<Vec<f64>>, first: u32, own_time: bool, timestamp_ms: i64) -> Self {
        let mut event = Self { layout, numbers, first, bytes: 0, own_time, timestamp_ms };
        let mut bytes = event.layout.text_bytes() as usize;
        for piece in event.layout.shape.pieces() {
            if let Piece::Number(number, Form::Decimal) = *piece {
                bytes += decimal_bytes(event.number(number));
            }
        }
        event.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        event
    }

    /// The event as it is when the clock was so much behind; one whose time came from the exposition is never moved.
    pub fn shifted(&self, delta_ms: i64) -> Self {
        let mut moved = self.clone();
        if !self.own_time {
            moved.timestamp_ms = self.timestamp_ms.saturating_add(delta_ms);
        }
        moved
    }

    /// Where it goes.
    pub fn key(&self) -> &Rc<StreamKey> {
        &self.layout.key
    }

    /// Its numbers, as many as its shape has holes for them.
    pub fn numbers(&self) -> &[f64] {
        let (first, count) = (self.first as usize, self.layout.shape.numbers() as usize);
        self.numbers.get(first..first + count).unwrap_or_default()
    }

    /// Bytes of the message.
    pub fn message_bytes(&self) -> usize {
        self.bytes as usize + self.layout.times as usize * integer_bytes(self.timestamp_ms)
    }

    /// What the event counts against the limits of an event and of a batch, in bytes.
    pub fn billed_bytes(&self) -> usize {
        self.message_bytes() + Self::OVERHEAD_BYTES
    }

    /// The number with this number; zero where there is none.
    pub fn number(&self, number: u32) -> f64 {
        self.numbers.get(self.first as usize + number as usize).copied().unwrap_or_default()
    }

    /// The item as text or bytes, with these marks.
    pub fn message_with(&self, marks: Marks) -> Vec<u8> {
        let (shape, labels) = (&*self.layout.shape, &*self.layout.labels);
        let mut out = Vec::with_capacity(self.layout.text_bytes() as usize + 64);
        for piece in shape.pieces() {
            match *piece {
                Piece::Text { from, to } => match shape.metrics().filter(|_| marks.original_ms.is_some()) {
                    Some((start, end)) if from <= start && end <= to => {
                        out.extend_from_slice(shape.slice(from, start));
                        out.extend_from_slice(shape.slice(end, to));
                    }
                    _ => out.extend_from_slice(shape.slice(from, to)),
                },
                Piece::Label(number) => json::push_text(&mut out, labels.get(number)),
                Piece::Number(number, Form::Decimal) => push_decimal(&mut out, self.number(number)),
                Piece::Number(number, Form::F64 | Form::I64) => {
                    out.extend_from_slice(&self.number(number).to_bits().to_le_bytes());
                }
                Piece::Time => push_integer(&mut out, self.timestamp_ms),
            }
        }
        let members = marks.members();
        if !members.is_empty() && out.first() == Some(&b'{') {
            // An object of nothing but marks has no comma behind them.
            let end = members.len() - usize::from(out.get(1) == Some(&b'}'));
            out.splice(1..1, members[..end].iter().copied());
        }
        out
    }

    /// The message, where the item is text.
    pub fn message(&self) -> String {
        String::from_utf8_lossy(&self.message_with(Marks::default())).into_owned()
    }
}

/// Two events are equal that look the same, go to the same place and have the same time, however they are put together.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.timestamp_ms == other.timestamp_ms
            && self.own_time == other.own_time
            && self.key() == other.key()
            && self.message_with(Marks::default()) == other.message_with(Marks::default())
    }
}

impl Eq for Event {}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(values: &[&str], number: f64, timestamp_ms: i64) -> Event {
        let mut shape = ShapeBuilder::default();
        shape.text().extend_from_slice(b"{\"CloudWatchMetrics\":[],");
        shape.metrics_from(1);
        shape.text().extend_from_slice(b"\"Timestamp\":\"");
        shape.time();
        shape.text().extend_from_slice(b"\",\"a\":\"");
        shape.label(1);
        shape.text().extend_from_slice(b"\",\"n\":");
        shape.number(Form::Decimal);
        shape.text().push(b'}');
        let key = Rc::new(StreamKey { group: "g".into(), stream: "s".into() });
        let labels = Rc::new(LabelValues::of(values.iter().copied()));
        let layout = Rc::new(Layout::new(key, Rc::new(shape.build(false)), labels));
        Event::new(layout, Rc::new(vec![9.0, number]), 1, false, timestamp_ms)
    }

    #[test]
    fn a_message_is_its_text_with_its_holes_filled_and_counts_what_it_is_long() {
        for (value, number, time) in [("x", 1.5, 0), ("é\"<\n", -0.0, -1), ("", 1e300, i64::MAX)] {
            let event = event(&["no", value], number, time);
            let message = event.message();
            assert_eq!(event.message_bytes(), message.len());
            let json: serde_json::Value = serde_json::from_str(&message).unwrap();
            assert_eq!((json["a"].as_str(), json["n"].as_f64()), (Some(value), Some(number)));
            assert_eq!(json["Timestamp"], time.to_string());
        }
    }

    #[test]
    fn a_restamped_event_keeps_its_original_time_and_loses_its_metrics() {
        let event = event(&["", "x"], 1.0, 9000);
        let marked = |marks| String::from_utf8(event.message_with(marks)).unwrap();
        let both = Marks { estimated: true, original_ms: Some(1000) };
        assert_eq!(
            marked(both),
            r#"{"OriginalTimestamp":"1000","TimestampEstimated":"true","Timestamp":"9000","a":"x","n":1}"#
        );
        assert_eq!(
            marked(Marks { estimated: true, original_ms: None }),
            r#"{"TimestampEstimated":"true","CloudWatchMetrics":[],"Timestamp":"9000","a":"x","n":1}"#
        );
    }

    #[test]
    fn label_values_come_back() {
        let values = LabelValues::of(["a", "", "é", "x\"y"].into_iter());
        assert_eq!(values.iter().collect::<Vec<_>>(), ["a", "", "é", "x\"y"]);
        assert!(!values.are_plain() && values.get(4).is_empty());
        assert!(LabelValues::default().is_empty() && LabelValues::default().are_plain());
    }

    #[test]
    fn parts_that_do_not_fit_together_make_no_shape() {
        let text = Piece::Text { from: 0, to: 3 };
        let number = |n| Piece::Number(n, Form::F64);
        let of = |pieces: &[Piece], metrics| ShapeBuilder::of_parts(b"abc", pieces.to_vec(), metrics, false);
        assert!(of(&[text, number(0), Piece::Time, number(1), Piece::Label(7)], Some((0, 2))).is_some());
        for (pieces, metrics) in [
            (&[number(0)][..], None),
            (&[text, number(1)], None),
            (&[text, text], None),
            (&[Piece::Text { from: 0, to: 4 }], None),
            (&[Piece::Text { from: 1, to: 3 }], None),
            (&[text], Some((2, 2))),
            (&[text], Some((2, 4))),
        ] {
            assert!(of(pieces, metrics).is_none(), "{pieces:?} {metrics:?}");
        }
    }
}
