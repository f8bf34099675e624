//! What a record's payload holds in version 1: texts, or numbers against templates.

use super::shape::{self, DECIMALS_MAX, Templates, text_pieces};
use crate::spool::body::PAYLOAD_BYTES_MAX;
use crate::spool::varint::Reader;
use crate::spool::wire::EVENTS_MAX;

const AS_TEMPLATE: u8 = 0;
const EVENT_TIME: u8 = 1;
const DIFFERENCE: u8 = 2;
const TEXT: u8 = 3;
const PLAIN: u8 = 4;

/// Which template each event follows, if any.
type Plan = Vec<Option<u32>>;

/// An event out of a record: everything but where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// See [`crate::model::Event::timestamp_ms`].
    pub timestamp_ms: i64,
    /// See [`crate::model::Event::own_time`].
    pub own_time: bool,
    /// The JSON text.
    pub message: String,
}

/// Why a record's payload gives no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// This template is missing: its shape was damaged.
    Template(u32),
    /// It is not what an encoder writes.
    Malformed,
}

/// The events of a record's payload.
pub fn decode(payload: &[u8], count: u32, wall_ms: i64, templates: &Templates) -> Result<Vec<Decoded>, DecodeError> {
    decode_inner(&mut Reader::new(payload), count, wall_ms, templates).ok_or(DecodeError::Malformed)?
}

/// Nothing: malformed.
fn decode_inner(
    reader: &mut Reader<'_>,
    count: u32,
    wall_ms: i64,
    templates: &Templates,
) -> Option<Result<Vec<Decoded>, DecodeError>> {
    if count > EVENTS_MAX {
        return None;
    }
    let count = count as usize;
    let plan = take_runs(reader, count)?;
    let mut events: Vec<Decoded> = Vec::with_capacity(count);
    let own = reader.number()?;
    let bits = if own == 2 { reader.take(count.div_ceil(8))? } else { &[] };
    for at in 0..count {
        let own_time = match own {
            0 => false,
            1 => true,
            2 => bits[at / 8] >> (at % 8) & 1 == 1,
            _ => return None,
        };
        events.push(Decoded { timestamp_ms: wall_ms, own_time, message: String::new() });
    }
    match reader.number()? {
        0 => {}
        1 => {
            let mut before_ms = wall_ms;
            for event in &mut events {
                before_ms = before_ms.wrapping_add(reader.signed()?);
                event.timestamp_ms = before_ms;
            }
        }
        _ => return None,
    }
    let mut texts_bytes = 0;
    for (event, _) in events.iter_mut().zip(&plan).filter(|(_, template)| template.is_none()) {
        event.message = str::from_utf8(reader.bytes()?).ok()?.to_owned();
        texts_bytes += event.message.len();
    }
    let mut holes = 0;
    for template in plan.iter().flatten() {
        match templates.get(*template) {
            Some((_, numbers)) => holes += numbers.len(),
            None => return Some(Err(DecodeError::Template(*template))),
        }
    }
    let mut codes = reader.take(holes)?.iter();
    let mut time = Vec::new();
    for (event, template) in events.iter_mut().zip(&plan) {
        let Some((text, numbers)) = template.and_then(|template| templates.get(template)) else { continue };
        let mut message = Vec::with_capacity(text.len() + 64);
        for (at, piece) in text_pieces(text).enumerate() {
            message.extend_from_slice(piece);
            let Some(before) = numbers.get(at) else { break };
            match *codes.next()? {
                AS_TEMPLATE => message.extend_from_slice(before),
                EVENT_TIME => {
                    time.clear();
                    shape::write_plain(&mut time, event.timestamp_ms, 0);
                    message.extend_from_slice(&time);
                }
                DIFFERENCE => {
                    let (mantissa, decimals) = shape::parse_plain(before)?;
                    shape::write_plain(&mut message, mantissa.wrapping_add(reader.signed()?), decimals);
                }
                TEXT => message.extend_from_slice(reader.bytes()?),
                code if code - PLAIN <= DECIMALS_MAX => {
                    shape::write_plain(&mut message, reader.signed()?, code - PLAIN)
                }
                _ => return None,
            }
        }
        texts_bytes += message.len();
        if texts_bytes > PAYLOAD_BYTES_MAX {
            return None;
        }
        event.message = String::from_utf8(message).ok()?;
    }
    reader.is_empty().then_some(Ok(events))
}

fn take_runs(reader: &mut Reader<'_>, count: usize) -> Option<Plan> {
    let mut plan = Vec::with_capacity(count);
    for _ in 0..reader.number()? {
        let run = reader.number()?;
        let len = usize::try_from(run >> 1).ok().filter(|len| *len > 0 && *len <= count - plan.len())?;
        if run & 1 == 0 {
            plan.resize(plan.len() + len, None);
        } else {
            let first = u32::try_from(reader.number()?).ok()?;
            let end = first.checked_add(len as u32)?;
            plan.extend((first..end).map(Some));
        }
    }
    (plan.len() == count).then_some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::body::{Packer, unpack};
    use crate::spool::varint;

    fn event(timestamp_ms: i64, own_time: bool, message: &str) -> Decoded {
        Decoded { timestamp_ms, own_time, message: message.into() }
    }

    fn templates(messages: &[&str]) -> Templates {
        let mut templates = Templates::default();
        let (mut text, mut numbers) = (Vec::new(), Vec::new());
        for message in messages {
            shape::tests::cut(message.as_bytes(), &mut text, &mut numbers);
            templates.add(&text, message.as_bytes(), &numbers);
        }
        templates
    }

    fn round_trip(events: &[Decoded], plan: &Plan, templates: &Templates) -> usize {
        let payload = encode(events, plan, 1000, templates);
        let body = Packer::default().pack(&payload);
        assert_eq!(unpack(&body).as_ref(), Some(&payload));
        let decoded = decode(&payload, events.len() as u32, 1000, templates).expect("decodes");
        for (event, decoded) in events.iter().zip(&decoded) {
            assert_eq!((event.timestamp_ms, event.own_time), (decoded.timestamp_ms, decoded.own_time));
            assert_eq!(event.message, decoded.message);
        }
        payload.len()
    }

    #[test]
    fn events_come_back_byte_by_byte() {
        let shapes = [r#"{"T":"1","a":0,"b":1.5}"#, r#"{"T":"1","c":"x","d":[7]}"#];
        let templates = templates(&shapes);
        let events = [
            event(1000, false, r#"{"T":"1000","a":5,"b":1.25}"#),
            event(1000, true, r#"{"T":"1000","c":"x","d":[-0.0]}"#),
            event(-5, false, "free text, 1, 2"),
            event(1000, false, r#"{"T":"1e3","a":-9223372036854775807,"b":0.000000000000000000001}"#),
            event(i64::MAX, true, r#"{"T":"9223372036854775807","a":0,"b":1e300}"#),
        ];
        round_trip(&events, &vec![Some(0), Some(1), None, Some(0), Some(0)], &templates);
        round_trip(&events, &vec![None; 5], &templates);
        round_trip(&events[..1], &vec![Some(0)], &templates);
    }

    #[test]
    fn a_page_that_hardly_changes_takes_a_byte_or_two_a_number() {
        let shapes: Vec<String> = (0..100).map(|n| format!(r#"{{"T":"5","metric_{n}":{n}.5}}"#)).collect();
        let templates = templates(&shapes.iter().map(String::as_str).collect::<Vec<_>>());
        let events: Vec<Decoded> =
            (0..100).map(|n| event(1000, false, &format!(r#"{{"T":"1000","metric_{n}":{n}.6}}"#))).collect();
        let payload_bytes = round_trip(&events, &(0..100).map(Some).collect(), &templates);
        assert!(payload_bytes <= 310, "{payload_bytes}");
    }

    #[test]
    fn a_missing_template_is_named() {
        let payload = encode(&[event(1, false, r#"{"a":1}"#)], &vec![Some(0)], 1, &templates(&[r#"{"a":1}"#]));
        assert_eq!(decode(&payload, 1, 1, &Templates::default()), Err(DecodeError::Template(0)));
    }

    #[test]
    fn nonsense_is_refused_within_bounds() {
        let templates = templates(&[r#"{"a":1}"#]);
        let good = encode(&[event(1, false, r#"{"a":2}"#), event(2, true, "x")], &vec![Some(0), None], 1, &templates);
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = decode(&bad, 2, 1, &templates); // must not panic
            }
            assert_eq!(decode(&good[..at], 2, 1, &templates), Err(DecodeError::Malformed));
        }
    }

    /// The payload of a record, as the programs of version 1 wrote it.
    fn encode(events: &[Decoded], plan: &Plan, wall_ms: i64, templates: &Templates) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        put_runs(&mut out, plan);
        put_own_times(&mut out, events);
        if events.iter().all(|event| event.timestamp_ms == wall_ms) {
            varint::put(&mut out, 0);
        } else {
            varint::put(&mut out, 1);
            let mut before_ms = wall_ms;
            for event in events {
                varint::put_signed(&mut out, event.timestamp_ms.wrapping_sub(before_ms));
                before_ms = event.timestamp_ms;
            }
        }
        for (event, _) in events.iter().zip(plan).filter(|(_, template)| template.is_none()) {
            varint::put_bytes(&mut out, event.message.as_bytes());
        }
        let mut values = Vec::new();
        let (mut text, mut cuts, mut time) = (Vec::new(), Vec::new(), Vec::new());
        for (event, template) in events.iter().zip(plan) {
            let Some((_, numbers)) = template.and_then(|template| templates.get(template)) else { continue };
            shape::tests::cut(event.message.as_bytes(), &mut text, &mut cuts);
            time.clear();
            shape::write_plain(&mut time, event.timestamp_ms, 0);
            for (at, (from, to)) in cuts.iter().enumerate() {
                let number = &event.message.as_bytes()[*from as usize..*to as usize];
                out.push(put_number(&mut values, number, numbers.get(at).unwrap_or_default(), &time));
            }
        }
        out.extend_from_slice(&values);
        out
    }

    fn put_runs(out: &mut Vec<u8>, plan: &Plan) {
        let mut runs: Vec<(Option<u32>, u64)> = Vec::new();
        for template in plan {
            match (runs.last_mut(), *template) {
                (Some((None, count)), None) => *count += 1,
                (Some((Some(first), count)), Some(template)) if u64::from(*first) + *count == u64::from(template) => {
                    *count += 1
                }
                _ => runs.push((*template, 1)),
            }
        }
        varint::put(out, runs.len() as u64);
        for (template, count) in runs {
            varint::put(out, count << 1 | u64::from(template.is_some()));
            if let Some(first) = template {
                varint::put(out, u64::from(first));
            }
        }
    }

    fn put_own_times(out: &mut Vec<u8>, events: &[Decoded]) {
        let own = events.iter().filter(|event| event.own_time).count();
        if own == 0 || own == events.len() {
            varint::put(out, u64::from(own > 0));
            return;
        }
        varint::put(out, 2);
        for eight in events.chunks(8) {
            out.push(eight.iter().enumerate().fold(0, |bits, (at, event)| bits | u8::from(event.own_time) << at));
        }
    }

    /// Appends a number's value and returns its code.
    fn put_number(values: &mut Vec<u8>, number: &[u8], template: &[u8], time: &[u8]) -> u8 {
        if number == template {
            return AS_TEMPLATE;
        }
        if number == time {
            return EVENT_TIME;
        }
        match (shape::parse_plain(number), shape::parse_plain(template)) {
            (Some((mantissa, decimals)), Some((before, same))) if decimals == same => {
                varint::put_signed(values, mantissa.wrapping_sub(before));
                DIFFERENCE
            }
            (Some((mantissa, decimals)), _) => {
                varint::put_signed(values, mantissa);
                PLAIN + decimals
            }
            (None, _) => {
                varint::put_bytes(values, number);
                TEXT
            }
        }
    }
}
