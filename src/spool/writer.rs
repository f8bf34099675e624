//! Turns events into frames: finds the layouts that they have, and decides when layouts are worth being kept.
//!
//! A layout is known by its address, or else by its content: text is hashed when a layout is first seen, and cut never.
//!
//! Limits: a segment's templates and layouts 512 KiB ([`super::table`]), the addresses of 7,168 layouts, 8,192 hashes.

use super::body::{self, Packer};
use super::frame;
use super::layouts::{layout_bytes, template_bytes};
use super::record::{self, Plan, Slot};
use super::table::Tables;
use super::{NewRecord, RecordMeta};
use crate::model::{Event, Layout, Shape};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::rc::{Rc, Weak};

/// So many bytes of layouts must have come back before they are kept.
const RECURRING_BYTES_MIN: usize = 1 << 10;
/// So many bytes of new layouts in one record are believed to come back: a page.
const PAGE_BYTES_MIN: usize = 4 << 10;
/// How often a segment believes that; a wrong guess costs a tenth of the record's bytes, and a second copy.
const GUESSES: u8 = 8;
/// Layouts that are remembered to see whether they come back.
const REMEMBERED_MAX: usize = 8_192;
/// Layouts that are known by their addresses.
const ADDRESSES_MAX: usize = 7_168;
/// How far the second copy of layouts keeps from the first.
const COPY_DISTANCE_BYTES: u64 = 4 << 10;

/// What it knows of the segment that is being written.
#[derive(Default)]
pub struct Encoder {
    packer: Packer,
    /// The templates and layouts of the segment.
    pub tables: Tables,
    finder: Finder,
    recurring_bytes: usize,
    guesses: u8,
    /// Layouts whose second copy is due when the segment is this long; the earliest first.
    copies: Vec<(u64, Vec<u8>)>,
}

/// Frames to be appended.
pub struct Frames {
    /// Second copies of earlier layouts, and new ones.
    pub shapes: Vec<u8>,
    /// The record.
    pub record: Vec<u8>,
}

/// Finds the numbers of layouts and templates.
#[derive(Default)]
struct Finder {
    hasher: RandomState,
    /// Where the layout with a number was seen last; its allocation is in `addresses`.
    last: Vec<*const Layout>,
    addresses: HashMap<*const Layout, Seen>,
    layouts: HashMap<u64, u32>,
    templates: HashMap<u64, u32>,
    /// Hashes of layouts that were written without being kept.
    remembered: HashSet<u64>,
}

/// A layout that was seen at an address.
struct Seen {
    /// As long as this is there nothing else can be at that address.
    _guard: Weak<Layout>,
    hash: u64,
    number: Option<u32>,
}

impl Finder {
    /// A new segment: no numbers yet.
    fn restart(&mut self) {
        self.last.clear();
        self.addresses.clear();
        self.layouts.clear();
        self.templates.clear();
    }

    fn hash_shape(&self, shape: &Shape) -> u64 {
        self.hasher.hash_one(shape)
    }

    fn hash(&self, layout: &Layout) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        layout.shape.hash(&mut hasher);
        layout.labels.hash(&mut hasher);
        hasher.finish()
    }

    /// The number of a layout, or the hash of one that has none; `expected`: what it would be if all is as the last time.
    #[inline]
    fn find(&mut self, layout: &Rc<Layout>, expected: u32, tables: &Tables) -> Result<u32, u64> {
        if self.last.get(expected as usize) == Some(&Rc::as_ptr(layout)) {
            return Ok(expected);
        }
        self.look_up(layout, tables)
    }

    fn look_up(&mut self, layout: &Rc<Layout>, tables: &Tables) -> Result<u32, u64> {
        let address = Rc::as_ptr(layout);
        let hash = match self.addresses.get(&address) {
            Some(Seen { number: Some(number), .. }) => {
                self.last[*number as usize] = address;
                return Ok(*number);
            }
            Some(Seen { hash, .. }) => *hash,
            None => self.hash(layout),
        };
        let number = self.layouts.get(&hash).copied();
        let number = number.filter(|number| tables.present.get(*number).is_some_and(|known| known.is(layout)));
        self.note(layout, hash, number);
        number.ok_or(hash)
    }

    fn note(&mut self, layout: &Rc<Layout>, hash: u64, number: Option<u32>) {
        if self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.clear();
            self.last.fill(std::ptr::null());
        }
        let address = Rc::as_ptr(layout);
        self.addresses.insert(address, Seen { _guard: Rc::downgrade(layout), hash, number });
        if let Some(number) = number {
            if self.last.len() <= number as usize {
                self.last.resize(number as usize + 1, std::ptr::null());
            }
            self.last[number as usize] = address;
        }
    }

    /// The template of a shape.
    fn template(&self, shape: &Rc<Shape>, tables: &Tables) -> Option<u32> {
        let number = *self.templates.get(&self.hash_shape(shape))?;
        let known = tables.present.shape(number)?;
        (Rc::ptr_eq(known, shape) || known == shape).then_some(number)
    }

    /// Whether a layout with this hash was written before without being kept.
    fn comes_back(&mut self, hash: u64) -> bool {
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        !self.remembered.insert(hash)
    }
}

/// The layouts of a record's events, and what of them might be kept.
#[derive(Default)]
struct Sighting {
    /// The number of each event's layout.
    numbers: Vec<Option<u32>>,
    /// Each number is higher than the one before: no layout appears twice.
    ascending: bool,
    /// Events whose layouts are not kept, all but the first of each layout left out, with the hashes of those.
    unknown: Vec<(u32, u64)>,
    unknown_bytes: usize,
    /// Those of them that were there before.
    recurring: Vec<(u32, u64)>,
    recurring_bytes: usize,
}

impl Encoder {
    /// A new segment: no layouts yet.
    pub fn restart(&mut self) {
        self.tables = Tables::default();
        self.finder.restart();
        self.recurring_bytes = 0;
        self.guesses = 0;
        self.copies.clear();
    }

    /// Nothing is being written: gives memory back.
    pub fn rest(&mut self) {
        self.restart();
        self.packer.release();
        self.finder = Finder::default();
    }

    /// The frames of a record in a segment of so many bytes; nothing when it is too large.
    pub fn encode(
        &mut self,
        meta: &RecordMeta,
        new: &NewRecord<'_>,
        source: Option<u32>,
        segment_bytes: u64,
    ) -> Option<Frames> {
        let mut shapes = Vec::new();
        let due = self.copies.iter().take_while(|(due, _)| *due <= segment_bytes).count();
        self.copies.drain(..due).for_each(|(_, copy)| shapes.extend_from_slice(&copy));
        let mut sighting = self.look_at(new.events);
        if let Some(frame) = self.keep(meta.sequence, new.events, &mut sighting) {
            shapes.extend_from_slice(&frame);
            let first_end = segment_bytes + shapes.len() as u64;
            self.copies.push((first_end + COPY_DISTANCE_BYTES, frame));
        }
        let plan = self.plan(new.events, sighting);
        let payload = record::encode(new.events, &plan, new.wall_ms, &self.tables.present)?;
        #[cfg(debug_assertions)]
        self.check(&payload, meta, new);
        if payload.len() > body::PAYLOAD_BYTES_MAX {
            return None;
        }
        let body = self.packer.pack(&payload);
        let overhead = frame::frame_overhead_bytes(&meta.key.group, &meta.key.stream);
        let mut record = Vec::with_capacity(overhead + body.len());
        frame::encode_record(&mut record, meta, source.unwrap_or_default(), &body);
        body::fits(&body).then_some(Frames { shapes, record })
    }

    /// A record must give back exactly what went in.
    #[cfg(debug_assertions)]
    fn check(&self, payload: &[u8], meta: &RecordMeta, new: &NewRecord<'_>) {
        let decoded = record::decode(payload, meta.events, new.wall_ms, &self.tables.present, new.key);
        let decoded = decoded.expect("what was written can be read");
        assert!(decoded == new.events, "what was written does not come back");
    }

    /// All layouts in one frame, for the beginning of a segment that goes on with them.
    pub fn all_layouts(&mut self, sequence: u64, segment_bytes: u64) -> Vec<u8> {
        self.copies.clear();
        let Some(frame) = self.frame(sequence, 0, 0) else { return Vec::new() };
        self.copies.push((segment_bytes + frame.len() as u64 + COPY_DISTANCE_BYTES, frame.clone()));
        frame
    }

    /// The frame with the templates and layouts from these numbers on; nothing when there are none.
    fn frame(&mut self, sequence: u64, first_template: u32, first: u32) -> Option<Vec<u8>> {
        let table = &self.tables.present;
        let count = table.layouts() - first;
        if count == 0 {
            return None;
        }
        let body = self.packer.pack_text(&table.encode(first_template, first));
        let mut frame = Vec::new();
        frame::encode_layouts(&mut frame, sequence, first, count, &body);
        Some(frame)
    }

    /// Finds the layouts of events.
    fn look_at(&mut self, events: &[Event]) -> Sighting {
        let mut sighting = Sighting { ascending: true, ..Sighting::default() };
        sighting.numbers.reserve(events.len());
        let mut expected = 0;
        let mut seen = HashSet::new();
        for (event, at) in events.iter().zip(0..) {
            let layout = &event.layout;
            let found = match layout.shape.is_once() {
                true => None,
                false => Some(self.finder.find(layout, expected, &self.tables)),
            };
            let Some(Ok(number)) = found else {
                sighting.ascending = false;
                sighting.numbers.push(None);
                if let Some(Err(hash)) = found
                    && seen.insert(hash)
                {
                    let known_shape = self.finder.template(&layout.shape, &self.tables).is_some();
                    let shape_bytes = if known_shape { 0 } else { template_bytes(&layout.shape) };
                    let bytes = shape_bytes + layout_bytes(&layout.labels, layout.shape.numbers() as usize);
                    sighting.unknown.push((at, hash));
                    sighting.unknown_bytes += bytes;
                    if self.finder.comes_back(hash) {
                        sighting.recurring.push((at, hash));
                        sighting.recurring_bytes += bytes;
                    }
                }
                continue;
            };
            sighting.ascending &= number >= expected;
            expected = number + 1;
            sighting.numbers.push(Some(number));
        }
        sighting
    }

    /// Keeps those of the unknown layouts that are worth it; the frame with them.
    fn keep(&mut self, sequence: u64, events: &[Event], sighting: &mut Sighting) -> Option<Vec<u8>> {
        self.recurring_bytes += sighting.recurring_bytes;
        let is_page = sighting.unknown_bytes >= PAGE_BYTES_MIN && self.guesses < GUESSES;
        self.guesses += u8::from(is_page);
        let worth = if is_page { &sighting.unknown } else { &sighting.recurring };
        if worth.is_empty() || !is_page && self.recurring_bytes < RECURRING_BYTES_MIN {
            return None;
        }
        self.recurring_bytes = 0;
        let (first_template, first) = (self.tables.present.templates(), self.tables.present.layouts());
        for (at, hash) in worth {
            let event = &events[*at as usize];
            if self.add(event, *hash).is_none() {
                break;
            }
        }
        for (event, number) in events.iter().zip(&mut sighting.numbers) {
            if number.is_none() && !event.layout.shape.is_once() {
                *number = self.finder.look_up(&event.layout, &self.tables).ok();
            }
        }
        self.frame(sequence, first_template, first)
    }

    /// Keeps an event's layout; nothing when there is no room.
    fn add(&mut self, event: &Event, hash: u64) -> Option<u32> {
        let layout = &event.layout;
        let template = match self.finder.template(&layout.shape, &self.tables) {
            Some(template) => template,
            None => {
                let template = self.tables.present.add_template(&layout.shape)?;
                let hash = self.finder.hash_shape(&layout.shape);
                self.finder.templates.insert(hash, template);
                template
            }
        };
        let number = self.tables.present.add_layout(template, event)?;
        self.finder.layouts.insert(hash, number);
        self.finder.note(layout, hash, Some(number));
        Some(number)
    }

    /// Which slots the events have.
    fn plan(&self, events: &[Event], sighting: Sighting) -> Plan {
        let mut plan = Plan { slots: Vec::with_capacity(events.len()), order: Vec::new() };
        if sighting.ascending {
            plan.slots.extend(sighting.numbers.iter().flatten().map(|number| Slot::Known(*number)));
            return plan;
        }
        let (mut known, mut own) = (HashMap::new(), HashMap::new());
        plan.order.reserve(events.len());
        for ((event, number), at) in events.iter().zip(&sighting.numbers).zip(0..) {
            let layout = &event.layout;
            let place = plan.slots.len() as u32;
            let slot = match number {
                Some(number) => *known.entry(*number).or_insert(place),
                None => *own.entry(Rc::as_ptr(layout)).or_insert(place),
            };
            if slot == place {
                let template = || self.finder.template(&layout.shape, &self.tables);
                plan.slots.push(match number {
                    Some(number) => Slot::Known(*number),
                    None => Slot::Own(at, if layout.shape.is_once() { None } else { template() }),
                });
            }
            plan.order.push(slot);
        }
        if plan.slots.len() == events.len() {
            plan.order.clear();
        }
        plan
    }
}
