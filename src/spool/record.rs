//! What a record's payload holds: which layouts, when, and their numbers.
//!
//! Limits: the events of a record weigh at most 16 MiB, which a reader checks before it takes memory for them.

use super::layouts::{Outline, event_bytes, integers, is_sound_text, put_labels, put_outline, take_labels};
use super::number::{self, Number};
use super::table::{Known, Table};
use super::varint::{self, Reader};
use super::wire::EVENTS_MAX;
use crate::model::{Event, LabelValues, Layout, Shape, StreamKey};
use std::rc::Rc;

/// What the events of a record weigh at most.
const WEIGHT_MAX: u64 = 16 << 20;

/// A layout of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The segment's with this number.
    Known(u32),
    /// The record's own: the first event that has it, and the template of its shape if it is one.
    Own(u32, Option<u32>),
}

/// How the events of a record are written.
#[derive(Default)]
pub struct Plan {
    /// Its layouts in the order in which they first appear.
    pub slots: Vec<Slot>,
    /// The slot of each event; empty where each has its own, in order.
    pub order: Vec<u32>,
}

/// Events by slot, those of a slot in order.
struct Members {
    events: Vec<u32>,
    /// Where a slot's begin.
    starts: Vec<u32>,
}

impl Members {
    /// `order`: as [`Plan::order`]; none of them is `slots` or more.
    fn new(order: &[u32], slots: usize) -> Self {
        if order.is_empty() {
            let all: Vec<u32> = (0..=slots as u32).collect();
            return Self { events: all[..slots].to_vec(), starts: all };
        }
        let mut starts = vec![0; slots + 1];
        order.iter().for_each(|slot| starts[*slot as usize + 1] += 1);
        (1..starts.len()).for_each(|slot| starts[slot] += starts[slot - 1]);
        let (mut next, mut events) = (starts.clone(), vec![0; order.len()]);
        for (event, slot) in (0..).zip(order) {
            let place = &mut next[*slot as usize];
            events[*place as usize] = event;
            *place += 1;
        }
        Self { events, starts }
    }

    fn of(&self, slot: usize) -> &[u32] {
        &self.events[self.starts[slot] as usize..self.starts[slot + 1] as usize]
    }
}

/// The payload of a record; nothing when its events weigh too much, or the table has not what the plan says.
pub fn encode(events: &[Event], plan: &Plan, wall_ms: i64, table: &Table) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    put_slots(&mut out, &plan.slots);
    varint::put(&mut out, u64::from(!plan.order.is_empty()));
    let mut expected = 0;
    for slot in &plan.order {
        varint::put_signed(&mut out, i64::from(*slot) - expected);
        expected = i64::from(*slot) + 1;
    }
    put_own_times(&mut out, events);
    put_times(&mut out, events, wall_ms);
    let members = Members::new(&plan.order, plan.slots.len());
    let (mut texts, mut codes, mut values) = (Vec::new(), Vec::with_capacity(1024), Vec::with_capacity(1024));
    let mut weight = 0_u64;
    for (at, slot) in plan.slots.iter().enumerate() {
        let of_slot = members.of(at);
        let each = match *slot {
            Slot::Known(number) => {
                let known = table.get(number)?;
                put_numbers(&mut codes, &mut values, events, of_slot, known.numbers, known.integers());
                known.weight()
            }
            Slot::Own(event, template) => {
                let layout = &events.get(event as usize)?.layout;
                match template {
                    Some(template) => varint::put(&mut out, u64::from(template) + 1),
                    None => {
                        varint::put(&mut out, 0);
                        put_outline(&mut out, &layout.shape);
                        texts.extend_from_slice(layout.shape.text());
                    }
                }
                put_labels(&mut out, &layout.labels);
                if layout.shape.numbers() > 0 {
                    let none = vec![Number::NONE; layout.shape.numbers() as usize];
                    put_numbers(&mut codes, &mut values, events, of_slot, &none, &integers(&layout.shape));
                }
                event_bytes(&layout.shape, &layout.labels)
            }
        };
        weight = weight.saturating_add(each.saturating_mul(of_slot.len() as u64));
    }
    out.extend_from_slice(&texts);
    out.extend_from_slice(&codes);
    out.extend_from_slice(&values);
    (weight <= WEIGHT_MAX).then_some(out)
}

/// Puts the numbers of a slot's events, hole by hole.
fn put_numbers(
    codes: &mut Vec<u8>,
    values: &mut Vec<u8>,
    events: &[Event],
    of_slot: &[u32],
    references: &[Number],
    integers: &[bool],
) {
    for (hole, reference) in (0..).zip(references) {
        let integer = integers.get(hole as usize).copied().unwrap_or_default();
        let mut before = *reference;
        for event in of_slot {
            codes.push(number::put(values, events[*event as usize].number(hole), integer, &mut before));
        }
    }
}

fn put_slots(out: &mut Vec<u8>, slots: &[Slot]) {
    let mut runs: Vec<(Option<u32>, u64)> = Vec::new();
    for slot in slots {
        match (runs.last_mut(), *slot) {
            (Some((None, count)), Slot::Own(..)) => *count += 1,
            (Some((Some(first), count)), Slot::Known(number)) if u64::from(*first) + *count == u64::from(number) => {
                *count += 1;
            }
            (_, Slot::Known(number)) => runs.push((Some(number), 1)),
            (_, Slot::Own(..)) => runs.push((None, 1)),
        }
    }
    varint::put(out, runs.len() as u64);
    for (first, count) in runs {
        varint::put(out, count << 1 | u64::from(first.is_some()));
        if let Some(first) = first {
            varint::put(out, u64::from(first));
        }
    }
}

fn put_own_times(out: &mut Vec<u8>, events: &[Event]) {
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

fn put_times(out: &mut Vec<u8>, events: &[Event], wall_ms: i64) {
    if events.iter().all(|event| event.timestamp_ms == wall_ms) {
        varint::put(out, 0);
        return;
    }
    varint::put(out, 1);
    let mut before_ms = wall_ms;
    for event in events {
        varint::put_signed(out, event.timestamp_ms.wrapping_sub(before_ms));
        before_ms = event.timestamp_ms;
    }
}

/// A slot that is being read.
enum Read<'a> {
    Known(Known<'a>),
    Own { shape: Rc<Shape>, labels: Rc<LabelValues> },
}

impl Read<'_> {
    fn shape(&self) -> &Rc<Shape> {
        match self {
            Self::Known(known) => known.shape(),
            Self::Own { shape, .. } => shape,
        }
    }

    fn weight(&self) -> u64 {
        match self {
            Self::Known(known) => known.weight(),
            Self::Own { shape, labels } => event_bytes(shape, labels),
        }
    }

    fn is_sound_text(&self) -> bool {
        match self {
            Self::Known(known) => known.is_sound_text(),
            Self::Own { shape, .. } => is_sound_text(shape),
        }
    }

    fn layout(&self, key: &Rc<StreamKey>) -> Rc<Layout> {
        match self {
            Self::Known(known) => known.layout(key),
            Self::Own { shape, labels } => {
                Rc::new(Layout::new(Rc::clone(key), Rc::clone(shape), Rc::clone(labels)))
            }
        }
    }
}

/// The events of a record's payload, which share their layouts and one list of numbers; nothing when it is malformed, or a
/// layout is missing because its frame was damaged.
pub fn decode(payload: &[u8], count: u32, wall_ms: i64, table: &Table, key: &Rc<StreamKey>) -> Option<Vec<Event>> {
    if count > EVENTS_MAX {
        return None;
    }
    let count = count as usize;
    let reader = &mut Reader::new(payload);
    let numbers_of_slots = take_slots(reader, count)?;
    let order = take_order(reader, count, numbers_of_slots.len())?;
    let members = Members::new(&order, numbers_of_slots.len());
    if (0..numbers_of_slots.len()).any(|slot| members.of(slot).is_empty()) {
        return None;
    }
    let own_times = take_own_times(reader, count)?;
    let times = take_times(reader, count, wall_ms)?;
    let slots = take_layouts(reader, &numbers_of_slots, table)?;

    let (mut weight, mut holes) = (0_u64, 0_usize);
    for (at, slot) in slots.iter().enumerate() {
        let events = members.of(at).len();
        weight = weight.saturating_add(slot.weight().saturating_mul(events as u64));
        holes = holes.saturating_add(slot.shape().numbers() as usize * events);
        // In this order: what is light is quickly looked through.
        if weight > WEIGHT_MAX || !slot.is_sound_text() {
            return None;
        }
    }
    let layouts: Vec<Rc<Layout>> = slots.iter().map(|slot| slot.layout(key)).collect();
    // Each event's numbers lie together.
    let mut firsts = Vec::with_capacity(count);
    let mut first = 0;
    for event in 0..count {
        firsts.push(first);
        first += layouts[slot_of(&order, event)].shape.numbers();
    }
    let mut numbers = vec![0.0; holes];
    let mut codes = reader.take(holes)?.iter();
    for (at, slot) in slots.iter().enumerate() {
        let own_integers: Rc<[bool]>;
        let (references, forms) = match slot {
            Read::Known(known) => (known.numbers, known.integers()),
            Read::Own { shape, .. } => {
                own_integers = integers(shape).into();
                (&[][..], &own_integers)
            }
        };
        for hole in 0..slot.shape().numbers() {
            let integer = forms.get(hole as usize).copied().unwrap_or_default();
            let mut before = references.get(hole as usize).copied().unwrap_or(Number::NONE);
            for event in members.of(at) {
                before = number::take(reader, *codes.next()?, integer, before)?;
                numbers[(firsts[*event as usize] + hole) as usize] = f64::from_bits(before.bits);
            }
        }
    }
    let numbers = Rc::new(numbers);
    let events = (0..count).map(|event| Event {
        layout: Rc::clone(&layouts[slot_of(&order, event)]),
        numbers: Rc::clone(&numbers),
        first: firsts[event],
        own_time: own_times(event),
        timestamp_ms: times.get(event).copied().unwrap_or(wall_ms),
    });
    let events = events.collect();
    reader.is_empty().then_some(events)
}

fn slot_of(order: &[u32], event: usize) -> usize {
    order.get(event).map_or(event, |slot| *slot as usize)
}

/// The segment's numbers of the slots; nothing stands for the record's own.
fn take_slots(reader: &mut Reader<'_>, count: usize) -> Option<Vec<Option<u32>>> {
    let mut slots = Vec::with_capacity(count);
    for _ in 0..reader.number()? {
        let run = reader.number()?;
        let len = usize::try_from(run >> 1).ok().filter(|len| *len > 0 && *len <= count - slots.len())?;
        if run & 1 == 0 {
            slots.resize(slots.len() + len, None);
        } else {
            let first = u32::try_from(reader.number()?).ok()?;
            let end = first.checked_add(len as u32)?;
            slots.extend((first..end).map(Some));
        }
    }
    Some(slots)
}

/// The slot of each event; empty where each has its own.
fn take_order(reader: &mut Reader<'_>, count: usize, slots: usize) -> Option<Vec<u32>> {
    match reader.number()? {
        0 => (slots == count).then(Vec::new),
        1 => {
            let mut order = Vec::with_capacity(count);
            let mut expected = 0_i64;
            for _ in 0..count {
                let slot = expected.checked_add(reader.signed()?)?;
                order.push(u32::try_from(slot).ok().filter(|slot| (*slot as usize) < slots)?);
                expected = slot + 1;
            }
            Some(order)
        }
        _ => None,
    }
}

/// Whether an event's time is its own.
fn take_own_times<'a>(reader: &mut Reader<'a>, count: usize) -> Option<impl Fn(usize) -> bool + use<'a>> {
    let own = reader.number()?;
    let bits = match own {
        0 | 1 => &[],
        2 => reader.take(count.div_ceil(8))?,
        _ => return None,
    };
    Some(move |event: usize| bits.get(event / 8).map_or(own == 1, |byte| byte >> (event % 8) & 1 == 1))
}

/// The times of the events; empty where all are the scrape's.
fn take_times(reader: &mut Reader<'_>, count: usize, wall_ms: i64) -> Option<Vec<i64>> {
    let mut times = Vec::new();
    match reader.number()? {
        0 => {}
        1 => {
            let mut before_ms = wall_ms;
            for _ in 0..count {
                before_ms = before_ms.wrapping_add(reader.signed()?);
                times.push(before_ms);
            }
        }
        _ => return None,
    }
    Some(times)
}

/// What stands in the slots, own layouts read.
fn take_layouts<'a>(reader: &mut Reader<'_>, slots: &[Option<u32>], table: &'a Table) -> Option<Vec<Read<'a>>> {
    let mut room = WEIGHT_MAX;
    let none = Rc::new(LabelValues::default());
    let mut own = Vec::new();
    for _ in slots.iter().filter(|slot| slot.is_none()) {
        let shape = match reader.number()? {
            0 => Err(Outline::take(reader, &mut room)?),
            template => Ok(Rc::clone(table.shape(u32::try_from(template - 1).ok()?)?)),
        };
        let labels = take_labels(reader, &mut room)?;
        own.push((shape, if labels.is_empty() { Rc::clone(&none) } else { Rc::new(labels) }));
    }
    let mut own = own.into_iter();
    let read = |slot: &Option<u32>| match slot {
        Some(number) => table.get(*number).map(Read::Known),
        None => {
            let (shape, labels) = own.next()?;
            let shape = shape.or_else(|outline| outline.with_text(reader).map(Rc::new).ok_or(())).ok()?;
            Some(Read::Own { shape, labels })
        }
    };
    slots.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Form, ShapeBuilder};

    fn key() -> Rc<StreamKey> {
        Rc::new(StreamKey { group: "g".into(), stream: "s".into() })
    }

    fn layout(name: &str, forms: &[Form], label: &str) -> Rc<Layout> {
        let mut shape = ShapeBuilder::default();
        shape.text().extend_from_slice(format!("{{\"{name}\":\"").as_bytes());
        shape.label(0);
        shape.text().extend_from_slice(b"\",\"Timestamp\":\"");
        shape.time();
        for form in forms {
            shape.text().extend_from_slice(b"\",\"n\":");
            shape.number(*form);
        }
        let labels = Rc::new(LabelValues::of(std::iter::once(label)));
        Rc::new(Layout::new(key(), Rc::new(shape.build(false)), labels))
    }

    fn event(layout: &Rc<Layout>, numbers: &[f64], timestamp_ms: i64) -> Event {
        let own_time = timestamp_ms % 2 == 0;
        Event { layout: Rc::clone(layout), numbers: Rc::new(numbers.to_vec()), first: 0, own_time, timestamp_ms }
    }

    /// A table with the layouts of these events.
    fn table(events: &[&Event]) -> Table {
        let mut table = Table::default();
        for event in events {
            let template = table.add_template(&event.layout.shape).expect("room");
            table.add_layout(template, event).expect("room");
        }
        table
    }

    fn sample() -> (Vec<Event>, Plan, Table) {
        let a = layout("a", &[Form::Decimal, Form::F64, Form::I64], "x");
        let (b, c) = (layout("b", &[], "\u{1}é"), layout("c", &[Form::Decimal], "own"));
        let text = Event::text(key(), -7, true, r#"{"Timestamp":"-7","CloudWatchMetrics":[{}],"free":"text"}"#);
        let events = vec![
            event(&a, &[1.25, f64::NAN, f64::from_bits(u64::MAX)], 1000),
            event(&b, &[], 1000),
            text,
            event(&a, &[1.5, 0.1 + 0.2, f64::from_bits(3)], 1001),
            event(&c, &[1e300], i64::MAX),
            event(&a, &[-0.0, f64::NEG_INFINITY, 0.0], i64::MIN),
            event(&c, &[7.0], 0),
        ];
        let table = table(&[&events[1], &events[0], &events[4]]);
        let slots = vec![Slot::Known(1), Slot::Known(0), Slot::Own(2, None), Slot::Own(4, Some(2))];
        (events, Plan { slots, order: vec![0, 1, 2, 0, 3, 0, 3] }, table)
    }

    fn assert_same(events: &[Event], decoded: &[Event]) {
        assert_eq!(decoded, events);
        for (event, decoded) in events.iter().zip(decoded) {
            let bits = |event: &Event| event.numbers().iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(event), bits(decoded));
            assert_eq!(event.layout.shape, decoded.layout.shape);
        }
    }

    #[test]
    fn events_come_back_with_all_their_bits_and_share_what_they_can() {
        let (events, plan, table) = sample();
        let payload = encode(&events, &plan, 1000, &table).expect("light");
        let decoded = decode(&payload, 7, 1000, &table, &key()).expect("decodes");
        assert_same(&events, &decoded);
        assert!(Rc::ptr_eq(&decoded[0].layout, &decoded[5].layout));
        assert!(decoded.iter().all(|event| Rc::ptr_eq(&event.numbers, &decoded[0].numbers)));
        // The same without the segment's layouts, and with no more than one of them.
        let own = Plan { slots: (0..7).map(|event| Slot::Own(event, None)).collect(), order: Vec::new() };
        let payload = encode(&events, &own, 1000, &table).expect("light");
        assert_same(&events, &decode(&payload, 7, 1000, &Table::default(), &key()).expect("decodes"));
        let one = Plan { slots: vec![Slot::Known(0)], order: Vec::new() };
        let payload = encode(&events[1..2], &one, 1000, &table).expect("light");
        assert_same(&events[1..2], &decode(&payload, 1, 1000, &table, &key()).expect("decodes"));
    }

    #[test]
    fn the_values_of_a_hole_lie_together() {
        let page = layout("a", &[Form::Decimal, Form::Decimal], "x");
        let events: Vec<Event> = (0..3).map(|n| event(&page, &[f64::from(n), f64::from(10 + n)], 1001)).collect();
        let plan = Plan { slots: vec![Slot::Known(0)], order: vec![0; 3] };
        let payload = encode(&events, &plan, 1001, &table(&[&events[0]])).expect("light");
        // Both holes: the layout's number, then one more and one more again.
        assert!(payload.ends_with(&[0, 1, 1, 0, 1, 1, 2, 2, 2, 2]), "{payload:?}");
    }

    #[test]
    fn a_page_that_hardly_changes_takes_a_byte_or_two_a_number() {
        let layouts: Vec<_> = (0..100).map(|n| layout(&format!("metric_{n}"), &[Form::Decimal], "")).collect();
        let page = |tenth: i32| -> Vec<Event> {
            layouts.iter().zip(0..).map(|(layout, n)| event(layout, &[f64::from(n * 10 + tenth) / 10.0], 1001)).collect()
        };
        let (events, before) = (page(6), page(5));
        let table = table(&before.iter().collect::<Vec<_>>());
        let plan = Plan { slots: (0..100).map(Slot::Known).collect(), order: Vec::new() };
        let payload = encode(&events, &plan, 1001, &table).expect("light");
        assert!(payload.len() <= 210, "{}", payload.len());
    }

    #[test]
    fn events_that_are_too_heavy_are_not_written_and_not_read() {
        let large = layout(&"x".repeat(1 << 20), &[], "");
        let events = vec![event(&large, &[], 1); 17];
        for (count, fits) in [(15, true), (17, false)] {
            let plan = Plan { slots: vec![Slot::Own(0, None)], order: vec![0; count] };
            assert_eq!(encode(&events[..count], &plan, 1, &Table::default()).is_some(), fits);
        }
        let plan = Plan { slots: vec![Slot::Own(0, None)], order: vec![0] };
        let mut payload = encode(&events[..1], &plan, 1, &Table::default()).expect("light");
        assert!(decode(&payload, 1, 1, &Table::default(), &key()).is_some());
        // The same shape for seventeen events: one run of one slot, in order 1, all at the slot before.
        payload.splice(3..4, [0].into_iter().chain([1; 16]));
        assert!(decode(&payload, 17, 1, &Table::default(), &key()).is_none());
    }

    #[test]
    fn nonsense_is_refused_within_bounds() {
        let (events, plan, table) = sample();
        let good = encode(&events, &plan, 1000, &table).expect("light");
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                if let Some(events) = decode(&bad, 7, 1000, &table, &key()) {
                    assert_eq!(events.len(), 7);
                    events.iter().for_each(|event| assert_eq!(event.message_bytes(), event.message_with(Default::default()).len()));
                }
            }
            assert!(decode(&good[..at], 7, 1000, &table, &key()).is_none());
        }
        let missing = decode(&good, 7, 1000, &Table::default(), &key());
        assert!(missing.is_none(), "the layouts are not there");
        // A slot without events.
        let empty = Plan { slots: vec![Slot::Known(0), Slot::Known(1)], order: vec![0] };
        let payload = encode(&events[1..2], &empty, 1000, &table).expect("light");
        assert!(decode(&payload, 1, 1000, &table, &key()).is_none());
        // Text that is none.
        let mut shape = ShapeBuilder::default();
        shape.text().push(0xff);
        let layout = Rc::new(Layout::new(key(), Rc::new(shape.build(true)), Rc::default()));
        let plan = Plan { slots: vec![Slot::Own(0, None)], order: Vec::new() };
        let payload = encode(&[event(&layout, &[], 1)], &plan, 1, &table).expect("light");
        assert!(decode(&payload, 1, 1, &table, &key()).is_none());
    }
}
