//! Templates of version 1: the text of events with the numbers cut out.

use crate::spool::frame::TEMPLATES_MAX;
use crate::spool::varint::Reader;

/// Stands for a number in a template's text.
const HOLE: u8 = 0;

/// A number's text as mantissa and decimals; nothing when [`write_plain`] would not give it back byte by byte.
pub fn parse_plain(text: &[u8]) -> Option<(i64, u8)> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, decimals) = match point {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &[][..]),
    };
    let whole_plain = !whole.is_empty() && (whole == b"0" || whole[0] != b'0');
    if !whole_plain || decimals.len() > usize::from(DECIMALS_MAX) || (point.is_some() && decimals.is_empty()) {
        return None;
    }
    let mut mantissa = 0_i64;
    for byte in whole.iter().chain(decimals) {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        mantissa = mantissa.checked_mul(10)?.checked_add(digit)?;
    }
    match (negative, mantissa) {
        (true, 0) => None,
        (true, _) => Some((-mantissa, decimals.len() as u8)),
        (false, _) => Some((mantissa, decimals.len() as u8)),
    }
}

/// The most decimals of a plain number.
pub const DECIMALS_MAX: u8 = 40;

/// Writes a plain number.
pub fn write_plain(out: &mut Vec<u8>, mantissa: i64, decimals: u8) {
    let decimals = usize::from(decimals);
    let mut digits = [b'0'; 64];
    let (mut rest, mut at) = (mantissa.unsigned_abs(), digits.len());
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let at = at.min(digits.len() - decimals - 1);
    let (whole, fraction) = digits[at..].split_at(digits.len() - at - decimals);
    if mantissa < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(whole);
    if decimals > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

/// No segment of version 1 has templates that take more: its writer ended at 512 KiB and one event.
const MEMORY_BYTES_MAX: usize = 4 << 20;

/// The templates of one segment.
#[derive(Default)]
pub struct Templates {
    bytes: Vec<u8>,
    entries: Vec<Option<Template>>,
    number_ends: Vec<u32>,
}

/// Where a template lies: its text, then its numbers' texts one after the other.
#[derive(Clone, Copy)]
struct Template {
    start: u32,
    text_end: u32,
    /// Its first number in `number_ends`.
    numbers: u32,
    count: u32,
}

impl Templates {
    /// Bytes of memory, roughly.
    fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * 64 + self.number_ends.len() * 4
    }

    /// A template's text and its numbers.
    pub fn get(&self, number: u32) -> Option<(&[u8], Numbers<'_>)> {
        let template = (*self.entries.get(number as usize)?)?;
        let ends = &self.number_ends[template.numbers as usize..(template.numbers + template.count) as usize];
        let text = &self.bytes[template.start as usize..template.text_end as usize];
        Some((text, Numbers { bytes: &self.bytes, start: template.text_end, ends }))
    }

    /// Adds a template, as the writer of version 1 did.
    #[cfg(test)]
    pub fn add(&mut self, text: &[u8], message: &[u8], numbers: &[(u32, u32)]) {
        let values = numbers.iter().map(|(from, to)| &message[*from as usize..*to as usize]);
        let entry = self.store(text, values);
        self.entries.push(Some(entry));
    }

    fn store<'a>(&mut self, text: &[u8], numbers: impl Iterator<Item = &'a [u8]>) -> Template {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text);
        let text_end = self.bytes.len() as u32;
        let first = self.number_ends.len() as u32;
        for number in numbers {
            self.bytes.extend_from_slice(number);
            self.number_ends.push(self.bytes.len() as u32);
        }
        Template { start, text_end, numbers: first, count: self.number_ends.len() as u32 - first }
    }

    /// Takes in a shape's payload; nothing when it is no such.
    pub fn decode(&mut self, first: u32, count: u32, payload: &[u8]) -> Option<()> {
        if first >= TEMPLATES_MAX || count > TEMPLATES_MAX - first {
            return None;
        }
        let mut reader = Reader::new(payload);
        let mut values = Vec::new();
        for number in first as usize..(first + count) as usize {
            let text = reader.bytes()?;
            values.clear();
            for _ in text.iter().filter(|byte| **byte == HOLE) {
                values.push(reader.bytes()?);
            }
            if self.memory_bytes() + text.len() > MEMORY_BYTES_MAX {
                return None;
            }
            if self.entries.len() <= number {
                self.entries.resize(number + 1, None);
            }
            if self.entries[number].is_none() {
                self.entries[number] = Some(self.store(text, values.iter().copied()));
            }
        }
        reader.is_empty().then_some(())
    }
}

/// The numbers of a template, as texts.
#[derive(Clone, Copy)]
pub struct Numbers<'a> {
    bytes: &'a [u8],
    start: u32,
    ends: &'a [u32],
}

impl<'a> Numbers<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// One of them.
    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        let end = *self.ends.get(at)?;
        let start = if at == 0 { self.start } else { self.ends[at - 1] };
        Some(&self.bytes[start as usize..end as usize])
    }
}

/// The pieces of a template's text between its numbers.
pub fn text_pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == HOLE)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::spool::varint;

    /// Cuts the numbers out of a message: the values of members and array elements, and strings of nothing but a number.
    /// False: the message cannot be a template.
    pub fn cut(message: &[u8], text: &mut Vec<u8>, numbers: &mut Vec<(u32, u32)>) -> bool {
        text.clear();
        numbers.clear();
        if message.contains(&HOLE) {
            return false;
        }
        let mut copied = 0;
        let mut at = 0;
        while let Some(found) = message[at..].iter().position(|byte| matches!(byte, b':' | b',' | b'[')) {
            let mut start = at + found + 1;
            at = start;
            let quoted = message[start - 1] == b':' && message.get(start) == Some(&b'"');
            start += usize::from(quoted);
            let run = message[start..]
                .iter()
                .take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
            let end = start + run.count();
            let closed = match message.get(end) {
                Some(b'"') => quoted,
                Some(b',' | b'}' | b']') => !quoted,
                _ => false,
            };
            if end > start && closed {
                text.extend_from_slice(&message[copied..start]);
                text.push(HOLE);
                numbers.push((start as u32, end as u32));
                copied = end;
                at = end;
            }
        }
        text.extend_from_slice(&message[copied..]);
        true
    }

    /// The payload of a shape with all templates, as the writer of version 1 made it.
    fn encode(templates: &Templates) -> Vec<u8> {
        let mut out = Vec::new();
        for number in 0..templates.entries.len() as u32 {
            let (text, numbers) = templates.get(number).expect("a template");
            varint::put_bytes(&mut out, text);
            for at in 0..numbers.len() {
                varint::put_bytes(&mut out, numbers.get(at).unwrap_or_default());
            }
        }
        out
    }

    #[test]
    fn plain_numbers_come_back_and_others_are_refused() {
        let plain =
            ["0", "1", "-1", "10", "0.5", "-0.05", "1.0", "12.340", "9223372036854775807", "0.009999999999990905"];
        for text in plain {
            let (mantissa, decimals) = parse_plain(text.as_bytes()).expect(text);
            let mut out = Vec::new();
            write_plain(&mut out, mantissa, decimals);
            assert_eq!(out, text.as_bytes());
        }
        for text in ["", "-", "-0", "-0.0", "007", "1.", ".5", "1e5", "+1", "9223372036854775808", "1.2.3", "00"] {
            assert_eq!(parse_plain(text.as_bytes()), None, "{text}");
        }
        let mut out = Vec::new();
        write_plain(&mut out, i64::MIN, DECIMALS_MAX);
        assert_eq!(out, b"-0.0000000000000000000009223372036854775808");
    }

    #[test]
    fn a_shape_is_read_back() {
        let mut templates = Templates::default();
        let (mut text, mut numbers) = (Vec::new(), Vec::new());
        for message in [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"b":"3","c":4.5}"#] {
            cut(message.as_bytes(), &mut text, &mut numbers);
            templates.add(&text, message.as_bytes(), &numbers);
        }
        let mut read = Templates::default();
        assert!(read.decode(0, 3, &encode(&templates)).is_some());
        let (text, numbers) = read.get(2).expect("third");
        assert_eq!(
            (text, numbers.get(0), numbers.get(1)),
            (&b"{\"b\":\"\0\",\"c\":\0}"[..], Some(&b"3"[..]), Some(&b"4.5"[..]))
        );
        assert!(Templates::default().decode(0, 4, &encode(&templates)).is_none(), "too few");
        assert!(Templates::default().decode(0, 2, &encode(&templates)).is_none(), "too many");
    }
}
