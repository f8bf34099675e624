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
            Self::Own { shape, labels } => Rc::new(Layout::new(Rc::clone(key), Rc::clone(shape), Rc::clone(labels))),
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
    let events = (0..count).map(|event| {
        Event::new(
            Rc::clone(&layouts[slot_of(&order, event)]),
            Rc::clone(&numbers),
            firsts[event],
            own_times(event),
            times.get(event).copied().unwrap_or(wall_ms),
        )
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
mod tests;
