//! Makes gzip bodies of layouts that come again: their text is escaped and its copies are searched once, then only written.
//!
//! ```text
//! shape --first use--> seen --second use--> known: its texts are in the pool, each with its parse
//! ```
//!
//! What comes once is written without, by a quick search. Limits: [`TEXTS_BYTES_MAX`] for the texts, [`SHAPES_MAX`] shapes; when
//! there is no room, those that nobody else has, or that were not used of late, make some.

use super::body::{self, Text};
use crate::deflate::{Encoder, TextId, Texts};
use crate::gzip;
use crate::model::index::KeyIndex;
use crate::model::{Event, Form, LabelValues, Marks, Piece, Shape, StreamKey, json, push_decimal, push_integer};
use std::rc::Rc;

/// The memory for texts with their parses, in bytes.
const TEXTS_BYTES_MAX: usize = 768 << 10;
/// Shapes that are remembered.
const SHAPES_MAX: usize = 4_096;
/// A longer shape is written by search each time.
const SHAPE_BYTES_MAX: usize = 32 << 10;
/// Before an event's time, and between its time and its message.
const BEFORE_TIME: &[u8] = b"{\"timestamp\":";
const BEFORE_MESSAGE: &[u8] = b",\"message\":\"";

/// Makes bodies, and remembers what comes again.
pub(super) struct Press {
    texts: Texts,
    encoder: Encoder,
    /// By address; each is held, so that its address is no other's.
    shapes: Vec<Seen>,
    index: KeyIndex,
    /// What stands before the first event's time, and before any other's.
    before_times: [Option<TextId>; 2],
    /// Counts bodies.
    body: u64,
    scratch: Vec<u8>,
}

struct Seen {
    shape: Rc<Shape>,
    /// Empty before the second use.
    parts: Box<[Part]>,
    used: u64,
}

/// A part of a message as it stands in a body.
#[derive(Clone, Copy)]
enum Part {
    Text(TextId),
    Label(u32),
    Number(u32),
    Time,
}

impl Press {
    pub(super) fn new() -> Self {
        let mut texts = Texts::new(TEXTS_BYTES_MAX);
        let before = [BEFORE_TIME.to_vec(), [b",", BEFORE_TIME].concat()];
        let before_times = before.map(|text| texts.add(&text));
        Self {
            texts,
            encoder: Encoder::new(),
            shapes: Vec::new(),
            index: KeyIndex::default(),
            before_times,
            body: 0,
            scratch: Vec::new(),
        }
    }

    /// The body of these events, in this order, and whether it is gzip; that only where it is smaller.
    pub(super) fn body(&mut self, key: &StreamKey, events: &[(Event, Marks)]) -> (Vec<u8>, bool) {
        self.body += 1;
        let mut crc = gzip::Checksum::default();
        let mut head = Vec::new();
        body::push_head(&mut head, key);
        self.unknown(&head, &mut crc);
        for (at, (event, marks)) in events.iter().enumerate() {
            let shape = &event.layout.shape;
            if shape.is_once() || *marks != Marks::default() || !self.knows(shape) {
                let mut text = std::mem::take(&mut self.scratch);
                text.clear();
                body::push_event(&mut text, event, *marks, at == 0);
                self.unknown(&text, &mut crc);
                self.scratch = text;
            } else {
                self.push(event, at == 0, &mut crc);
            }
        }
        self.unknown(body::TAIL, &mut crc);
        let plain_bytes = self.encoder.plain_bytes();
        let mut out = gzip::header();
        self.encoder.finish(&mut out);
        crc.finish(&mut out);
        if (out.len() as u64) < plain_bytes {
            return (out, true);
        }
        let mut plain = Text::new(key);
        events.iter().for_each(|(event, marks)| plain.push(event, *marks));
        (plain.finish(), false)
    }

    fn unknown(&mut self, plain: &[u8], crc: &mut gzip::Checksum) {
        crc.update(plain);
        self.encoder.unknown(plain);
    }

    /// Appends an event of a known shape.
    fn push(&mut self, event: &Event, is_first: bool, crc: &mut gzip::Checksum) {
        let Self { texts, encoder, shapes, index, before_times, scratch, .. } = self;
        let known = index.find(&address(&event.layout.shape));
        let Some(seen) = known.and_then(|at| shapes.get(at as usize)) else { return };
        let mut text = |id: TextId, encoder: &mut Encoder| {
            crc.update(texts.plain(id));
            encoder.text(texts, id);
        };
        match before_times[usize::from(!is_first)] {
            Some(id) => text(id, encoder),
            None => return,
        }
        scratch.clear();
        push_integer(scratch, event.timestamp_ms);
        crc.update(scratch);
        encoder.bytes(scratch);
        for part in &seen.parts {
            scratch.clear();
            match *part {
                Part::Text(id) => {
                    crc.update(texts.plain(id));
                    encoder.text(texts, id);
                    continue;
                }
                Part::Label(number) => push_label(scratch, &event.layout.labels, number),
                Part::Number(number) => push_decimal(scratch, event.number(number)),
                Part::Time => push_integer(scratch, event.timestamp_ms),
            }
            crc.update(scratch);
            encoder.bytes(scratch);
        }
    }

    /// Whether a shape's texts are in the pool; its second use puts them there.
    fn knows(&mut self, shape: &Rc<Shape>) -> bool {
        if self.before_times.contains(&None) {
            return false;
        }
        let now = self.body;
        let known = self.index.find(&address(shape));
        match known.and_then(|at| self.shapes.get_mut(at as usize)) {
            Some(seen) if !seen.parts.is_empty() => {
                seen.used = now;
                true
            }
            Some(seen) if seen.used == now || shape.text().len() > SHAPE_BYTES_MAX => false,
            Some(_) => self.learn(shape),
            None => {
                if self.shapes.len() >= SHAPES_MAX {
                    self.make_room();
                }
                if self.shapes.len() >= SHAPES_MAX {
                    return false;
                }
                self.index.insert(address(shape));
                self.shapes.push(Seen { shape: Rc::clone(shape), parts: Box::default(), used: now });
                false
            }
        }
    }

    fn learn(&mut self, shape: &Rc<Shape>) -> bool {
        let parts = match self.parts(shape) {
            Some(parts) => Some(parts),
            None => {
                self.make_room();
                self.parts(shape)
            }
        };
        let used = self.body;
        let at = self.index.find(&address(shape));
        match (parts, at.and_then(|at| self.shapes.get_mut(at as usize))) {
            (Some(parts), Some(seen)) => {
                (seen.parts, seen.used) = (parts, used);
                true
            }
            (parts, seen) => {
                if let Some(seen) = seen {
                    seen.used = used;
                }
                self.give_back(&parts.unwrap_or_default());
                false
            }
        }
    }

    /// The parts of a shape, with its texts in the pool. Nothing: there is no room, or it is no text.
    fn parts(&mut self, shape: &Shape) -> Option<Box<[Part]>> {
        let mut parts = Vec::with_capacity(shape.pieces().len() + 1);
        let mut text = BEFORE_MESSAGE.to_vec();
        for piece in shape.pieces() {
            let part = match *piece {
                Piece::Text { from, to } => {
                    json::push_inside(&mut text, shape.slice(from, to));
                    continue;
                }
                Piece::Label(number) => Some(Part::Label(number)),
                Piece::Number(number, Form::Decimal) => Some(Part::Number(number)),
                Piece::Time => Some(Part::Time),
                Piece::Number(_, Form::F64 | Form::I64) => None,
            };
            let id = if text.is_empty() { None } else { Some(self.texts.add(&text)) };
            text.clear();
            match (id, part) {
                (Some(None), _) | (_, None) => {
                    self.give_back(&parts);
                    return None;
                }
                (id, Some(part)) => {
                    parts.extend(id.flatten().map(Part::Text));
                    parts.push(part);
                }
            }
        }
        text.extend_from_slice(body::AFTER_MESSAGE);
        match self.texts.add(&text) {
            Some(id) => parts.push(Part::Text(id)),
            None => {
                self.give_back(&parts);
                return None;
            }
        }
        Some(parts.into_boxed_slice())
    }

    fn give_back(&mut self, parts: &[Part]) {
        for part in parts {
            if let Part::Text(id) = part {
                self.texts.remove(*id);
            }
        }
    }

    /// Forgets the shapes that nobody else has; if they are few, all that the last body but one did not have; if that is not enough,
    /// all that were seen once. What the body under way has stays.
    fn make_room(&mut self) {
        let (before, body) = (self.shapes.len(), self.body);
        self.forget(&|seen| seen.used < body && Rc::strong_count(&seen.shape) == 1);
        if self.shapes.len() > before / 2 {
            self.forget(&|seen| seen.used + 1 < body);
        }
        if self.shapes.len() >= SHAPES_MAX {
            self.forget(&|seen| seen.parts.is_empty());
        }
    }

    fn forget(&mut self, which: &dyn Fn(&Seen) -> bool) {
        let (gone, kept): (Vec<Seen>, Vec<Seen>) = std::mem::take(&mut self.shapes).into_iter().partition(which);
        gone.iter().for_each(|seen| self.give_back(&seen.parts));
        self.index.clear();
        for seen in &kept {
            self.index.insert(address(&seen.shape));
        }
        self.shapes = kept;
    }
}

/// An address as a key; addresses lie in even distances.
fn address(shape: &Rc<Shape>) -> [u64; 2] {
    let address = Rc::as_ptr(shape).addr() as u64;
    [address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16, address]
}

/// A label value as it stands in a body.
pub(super) fn push_label(out: &mut Vec<u8>, labels: &LabelValues, number: u32) {
    if labels.are_plain() {
        out.extend_from_slice(labels.get(number).as_bytes());
        return;
    }
    let mut escaped = Vec::new();
    json::push_text(&mut escaped, labels.get(number));
    json::push_inside(out, &escaped);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Layout, ShapeBuilder};

    fn shape(name: &str) -> Rc<Shape> {
        let mut shape = ShapeBuilder::default();
        shape.text().extend_from_slice(b"{\"Timestamp\":\"");
        shape.time();
        shape.text().extend_from_slice(format!("\",\"Version\":\"0\",\"{name}_total\":").as_bytes());
        shape.number(Form::Decimal);
        shape.text().extend_from_slice(b",\"device\":\"");
        shape.label(0);
        shape.text().extend_from_slice(b"\",\"prom_metric_type\":\"counter\"}");
        Rc::new(shape.build(false))
    }

    fn key() -> Rc<StreamKey> {
        Rc::new(StreamKey { group: "/g\"".into(), stream: "s".into() })
    }

    fn event(shape: &Rc<Shape>, device: &str, number: f64) -> (Event, Marks) {
        let labels = Rc::new(LabelValues::of(std::iter::once(device)));
        let layout = Rc::new(Layout::new(key(), Rc::clone(shape), labels));
        (Event::new(layout, Rc::new(vec![number]), 0, false, 1_700_000_000_000), Marks::default())
    }

    fn plain(key: &StreamKey, events: &[(Event, Marks)]) -> Vec<u8> {
        let mut plain = Text::new(key);
        events.iter().for_each(|(event, marks)| plain.push(event, *marks));
        plain.finish()
    }

    #[test]
    fn a_body_is_the_same_text_however_its_shapes_are_known() {
        let mut press = Press::new();
        let shapes: Vec<_> = (0..40).map(|n| shape(&format!("metric_{n}"))).collect();
        for round in 0..6 {
            let mut events: Vec<_> =
                shapes.iter().map(|shape| event(shape, "eth\"0<", f64::from(round) * 1.5)).collect();
            events.extend((0..40).map(|n| event(&shapes[n], "wlan0", n as f64)));
            events[3].1 = Marks { estimated: true, original_ms: (round == 2).then_some(5) };
            events.push((Event::text(key(), 7, false, "{\"Timestamp\":\"7\",\"once\":1}"), Marks::default()));
            let (body, is_gzip) = press.body(&key(), &events);
            assert!(is_gzip && gzip::decode(&body) == plain(&key(), &events), "round {round}");
            let known = press.shapes.iter().filter(|seen| !seen.parts.is_empty()).count();
            assert_eq!(known, if round == 0 { 0 } else { 40 }, "the second body knows its shapes");
        }
    }

    #[test]
    fn shapes_that_come_and_go_take_a_bounded_part_of_memory() {
        let mut press = Press::new();
        let mut held = Vec::new();
        for n in 0..6_000 {
            let shape = shape(&format!("metric_{n}_{}", "x".repeat(n % 300)));
            let events = [event(&shape, "a", 1.0), event(&shape, "b", 2.0)];
            for _ in 0..2 {
                let (body, is_gzip) = press.body(&key(), &events);
                let body = if is_gzip { gzip::decode(&body) } else { body };
                assert_eq!(body, plain(&key(), &events));
            }
            if n % 2 == 0 {
                held.push(shape);
            }
            assert!(press.shapes.len() <= SHAPES_MAX && press.texts.bytes() <= TEXTS_BYTES_MAX);
        }
        assert!(!press.shapes.is_empty());
    }

    #[test]
    fn a_body_that_does_not_shrink_is_plain() {
        let tiny = [(Event::text(key(), 1, false, "x"), Marks::default())];
        assert_eq!(Press::new().body(&key(), &tiny), (plain(&key(), &tiny), false));
    }
}
