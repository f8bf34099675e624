//! Shapes and label values as bytes, and what they weigh.
//!
//! Limits: whoever reads gives room, and what says that it needs more is damage, before memory is taken for it.

use super::varint::{self, Reader};
use crate::model::{Form, LabelValues, Piece, Shape, ShapeBuilder};

const TEXT: u64 = 0;
const LABEL: u64 = 1;
const DECIMAL: u64 = 2;
const F64: u64 = 3;
const I64: u64 = 4;
const TIME: u64 = 5;

/// What a piece weighs beside what it stands for.
const PIECE_BYTES: u64 = 16;
/// What a template or a layout weighs beside its parts.
const ENTRY_BYTES: usize = 64;
/// What a layout's number weighs in a segment.
const NUMBER_BYTES: usize = 24;

/// Appends what a shape is, without its text.
pub fn put_outline(out: &mut Vec<u8>, shape: &Shape) {
    varint::put(out, (shape.pieces().len() as u64) << 1 | u64::from(shape.is_once()));
    for piece in shape.pieces() {
        let (x, kind) = match *piece {
            Piece::Text { from, to } => (to - from, TEXT),
            Piece::Label(number) => (number, LABEL),
            Piece::Number(_, Form::Decimal) => (0, DECIMAL),
            Piece::Number(_, Form::F64) => (0, F64),
            Piece::Number(_, Form::I64) => (0, I64),
            Piece::Time => (0, TIME),
        };
        varint::put(out, u64::from(x) << 3 | kind);
    }
    match shape.metrics() {
        None => varint::put(out, 0),
        Some((from, to)) => {
            varint::put(out, u64::from(from) + 1);
            varint::put(out, u64::from(to - from));
        }
    }
}

/// A shape of which the text is still to be read.
pub struct Outline {
    pieces: Vec<Piece>,
    text_bytes: u32,
    metrics: Option<(u32, u32)>,
    once: bool,
}

impl Outline {
    /// Reads one that takes no more than so much room, its text included; nothing where there is no such.
    pub fn take(reader: &mut Reader<'_>, room: &mut u64) -> Option<Self> {
        let head = reader.number()?;
        let count = head >> 1;
        *room = room.checked_sub(count.checked_mul(PIECE_BYTES)?)?;
        let mut pieces = Vec::with_capacity(usize::try_from(count).ok()?);
        let (mut text_bytes, mut numbers) = (0_u32, 0);
        for _ in 0..count {
            let piece = reader.number()?;
            let x = u32::try_from(piece >> 3).ok()?;
            let form = match piece & 7 {
                TEXT => {
                    let to = text_bytes.checked_add(x)?;
                    pieces.push(Piece::Text { from: text_bytes, to });
                    text_bytes = to;
                    continue;
                }
                LABEL => {
                    pieces.push(Piece::Label(x));
                    continue;
                }
                TIME => {
                    pieces.push(Piece::Time);
                    continue;
                }
                DECIMAL => Form::Decimal,
                F64 => Form::F64,
                I64 => Form::I64,
                _ => return None,
            };
            pieces.push(Piece::Number(numbers, form));
            numbers += 1;
        }
        let metrics = match reader.number()? {
            0 => None,
            from => {
                let from = u32::try_from(from - 1).ok()?;
                Some((from, from.checked_add(u32::try_from(reader.number()?).ok()?)?))
            }
        };
        *room = room.checked_sub(u64::from(text_bytes))?;
        Some(Self { pieces, text_bytes, metrics, once: head & 1 == 1 })
    }

    /// Reads its text: the shape.
    pub fn with_text(self, reader: &mut Reader<'_>) -> Option<Shape> {
        let text = reader.take(usize::try_from(self.text_bytes).ok()?)?;
        ShapeBuilder::of_parts(text, self.pieces, self.metrics, self.once)
    }
}

/// Appends label values.
pub fn put_labels(out: &mut Vec<u8>, labels: &LabelValues) {
    varint::put(out, labels.len() as u64);
    labels.iter().for_each(|value| varint::put_bytes(out, value.as_bytes()));
}

/// Reads label values that take no more than so much room; nothing where there is no such.
pub fn take_labels(reader: &mut Reader<'_>, room: &mut u64) -> Option<LabelValues> {
    let count = reader.number()?;
    *room = room.checked_sub(count.checked_mul(PIECE_BYTES)?)?;
    let mut values = Vec::with_capacity(usize::try_from(count).ok()?);
    for _ in 0..count {
        let value = std::str::from_utf8(reader.bytes()?).ok()?;
        *room = room.checked_sub(value.len() as u64)?;
        values.push(value);
    }
    Some(LabelValues::of(values.iter().copied()))
}

/// What a template counts against the bound of a segment.
pub fn template_bytes(shape: &Shape) -> usize {
    ENTRY_BYTES + shape.text().len() + PIECE_BYTES as usize * shape.pieces().len()
}

/// What a layout counts against the bound of a segment, its template aside.
pub fn layout_bytes(labels: &LabelValues, numbers: usize) -> usize {
    let values: usize = labels.iter().map(|value| value.len() + 4).sum();
    ENTRY_BYTES + values + NUMBER_BYTES * numbers
}

/// What an event with such a layout weighs in its record: no less than its message, or than it takes in memory.
pub fn event_bytes(shape: &Shape, labels: &LabelValues) -> u64 {
    let lengths: Vec<u64> = labels.iter().map(|value| value.len() as u64).collect();
    let piece = |piece: &Piece| match *piece {
        Piece::Text { from, to } => u64::from(to - from),
        // The longest escape makes six bytes of one.
        Piece::Label(number) => 6 * lengths.get(number as usize).copied().unwrap_or_default(),
        Piece::Number(..) => 26,
        Piece::Time => 20,
    };
    shape.pieces().iter().fold(0, |sum, part| sum.saturating_add(PIECE_BYTES + piece(part)))
}

/// Whether items of this shape may go where only text goes: whatever has no binary hole must be UTF-8, piece by piece.
pub fn is_sound_text(shape: &Shape) -> bool {
    let binary = |piece: &Piece| matches!(piece, Piece::Number(_, Form::F64 | Form::I64));
    let sound = |piece: &Piece| match *piece {
        Piece::Text { from, to } => std::str::from_utf8(shape.slice(from, to)).is_ok(),
        _ => true,
    };
    shape.pieces().iter().any(binary) || shape.pieces().iter().all(sound)
}

/// Which numbers of a shape are integers; empty where none is.
pub fn integers(shape: &Shape) -> Vec<bool> {
    let forms = || {
        shape.pieces().iter().filter_map(|piece| match piece {
            Piece::Number(_, form) => Some(*form == Form::I64),
            _ => None,
        })
    };
    if forms().any(|integer| integer) { forms().collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(once: bool) -> Shape {
        let mut shape = ShapeBuilder::default();
        shape.text().extend_from_slice(b"{\"CloudWatchMetrics\":[],");
        shape.metrics_from(1);
        shape.text().extend_from_slice("\"é\":".as_bytes());
        shape.number(Form::Decimal);
        shape.label(300);
        shape.time();
        shape.number(Form::F64);
        shape.text().extend_from_slice(b"\xff");
        shape.number(Form::I64);
        shape.build(once)
    }

    fn put_shape(out: &mut Vec<u8>, shape: &Shape) {
        put_outline(out, shape);
        out.extend_from_slice(shape.text());
    }

    fn take_shape(reader: &mut Reader<'_>, room: &mut u64) -> Option<Shape> {
        Outline::take(reader, room)?.with_text(reader)
    }

    #[test]
    fn shapes_and_label_values_come_back() {
        let labels = LabelValues::of(["", "a\"b", "é"].into_iter());
        let empty = ShapeBuilder::default().build(true);
        for shape in [shape(false), shape(true), empty] {
            let (mut out, mut room) = (Vec::new(), 1_000);
            put_shape(&mut out, &shape);
            put_labels(&mut out, &labels);
            let mut reader = Reader::new(&out);
            assert_eq!(take_shape(&mut reader, &mut room), Some(shape));
            assert_eq!(take_labels(&mut reader, &mut room).as_ref(), Some(&labels));
            assert!(reader.is_empty() && room < 1_000);
        }
        assert_eq!(integers(&shape(true)), [false, false, true]);
    }

    #[test]
    fn nothing_is_read_beyond_its_room_and_no_bytes_do_harm() {
        let mut out = Vec::new();
        put_shape(&mut out, &shape(false));
        let weight = 7 * PIECE_BYTES + shape(false).text().len() as u64;
        for (mut room, there) in [(weight, true), (weight - 1, false)] {
            assert_eq!(take_shape(&mut Reader::new(&out), &mut room).is_some(), there);
        }
        for at in 0..out.len() {
            for value in 0..=255 {
                let mut bad = out.clone();
                bad[at] = value;
                let _ = take_shape(&mut Reader::new(&bad), &mut 10_000); // must not panic
            }
            assert_eq!(take_shape(&mut Reader::new(&out[..at]), &mut 10_000), None);
        }
        let mut many = Vec::new();
        varint::put(&mut many, u64::MAX);
        assert!(take_shape(&mut Reader::new(&many), &mut u64::MAX.clone()).is_none());
        assert!(take_labels(&mut Reader::new(&many), &mut u64::MAX.clone()).is_none());
    }

    #[test]
    fn an_event_weighs_no_less_than_its_message() {
        let mut shape = ShapeBuilder::default();
        shape.text().push(b'x');
        shape.label(0);
        let labels = LabelValues::of(["\u{1}\u{1}"].into_iter());
        assert_eq!(event_bytes(&shape.build(false), &labels), 2 * PIECE_BYTES + 1 + 12);
    }

    #[test]
    fn text_must_be_text() {
        let text = |bytes: &[u8], form: Option<Form>| {
            let mut shape = ShapeBuilder::default();
            shape.text().extend_from_slice(bytes);
            form.into_iter().for_each(|form| shape.number(form));
            is_sound_text(&shape.build(false))
        };
        assert!(
            text("é".as_bytes(), Some(Form::Decimal))
                && text(b"\xff", Some(Form::F64))
                && text(b"\xff", Some(Form::I64))
        );
        assert!(!text(b"\xff", None) && !text(b"\xff", Some(Form::Decimal)));
        // A hole within a character.
        let mut shape = ShapeBuilder::default();
        shape.text().push("é".as_bytes()[0]);
        shape.time();
        shape.text().push("é".as_bytes()[1]);
        assert!(!is_sound_text(&shape.build(false)));
    }
}
