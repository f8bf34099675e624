//! The templates and layouts of one segment.
//!
//! Templates are shapes; a layout is a template with label values, and the numbers of the event that it was made for, against
//! which later ones are written. The same for the writer and for readers, with the same bound, so that no reader needs more
//! memory than the writer had.

use super::frame::LAYOUTS_MAX;
use super::layouts::{
    Outline, event_bytes, integers, is_sound_text, layout_bytes, put_labels, put_outline, take_labels, template_bytes,
};
use super::number::{self, Number};
use super::v1;
use super::varint::{self, Reader};
use crate::model::{Event, LabelValues, Layout, Shape, StreamKey};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What templates and layouts of a segment count at most.
const BYTES_MAX: usize = 512 << 10;

/// What a segment's records need to be read, by version.
#[derive(Default)]
pub struct Tables {
    /// Of frames of version 1.
    pub first: v1::Templates,
    /// Of frames of the present version.
    pub present: Table,
}

impl Tables {
    /// The layout or template with this number is there.
    pub fn has(&self, version: u8, number: u32) -> bool {
        if version == 1 { self.first.get(number).is_some() } else { self.present.has(number) }
    }

    /// Takes in a frame's payload; nothing when it is no such.
    pub fn decode(&mut self, version: u8, first: u32, count: u32, payload: &[u8]) -> Option<()> {
        match version {
            1 => self.first.decode(first, count, payload),
            _ => self.present.decode(first, count, payload),
        }
    }
}

/// The templates and layouts of one segment.
#[derive(Default)]
pub struct Table {
    templates: Vec<Option<Template>>,
    layouts: Vec<Option<Entry>>,
    numbers: Vec<Number>,
    bytes: usize,
}

struct Template {
    shape: Rc<Shape>,
    /// See [`integers`].
    integers: Rc<[bool]>,
    is_sound_text: bool,
}

struct Entry {
    template: u32,
    labels: Rc<LabelValues>,
    /// The place of its first number in the table's.
    first: u32,
    /// How many numbers it was made with.
    count: u32,
    /// See [`event_bytes`]; 0 while it is not known.
    weight: Cell<u64>,
    /// What a reader made of it for the stream that it was read for last.
    made: RefCell<Option<Rc<Layout>>>,
}

/// A layout of the table with its template.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    template: &'a Template,
    entry: &'a Entry,
    /// Its numbers.
    pub numbers: &'a [Number],
}

impl<'a> Known<'a> {
    /// Its shape.
    pub fn shape(&self) -> &'a Rc<Shape> {
        &self.template.shape
    }

    /// Which of its numbers are integers; empty where none is.
    pub fn integers(&self) -> &'a Rc<[bool]> {
        &self.template.integers
    }

    /// It may go where only text goes.
    pub fn is_sound_text(&self) -> bool {
        self.template.is_sound_text
    }

    /// See [`event_bytes`].
    pub fn weight(&self) -> u64 {
        if self.entry.weight.get() == 0 {
            self.entry.weight.set(event_bytes(&self.template.shape, &self.entry.labels));
        }
        self.entry.weight.get()
    }

    /// The layout for a stream: the same as long as the stream is.
    pub fn layout(&self, key: &Rc<StreamKey>) -> Rc<Layout> {
        let mut made = self.entry.made.borrow_mut();
        match &*made {
            Some(layout) if layout.key == *key => Rc::clone(layout),
            _ => {
                let (shape, labels) = (Rc::clone(&self.template.shape), Rc::clone(&self.entry.labels));
                let layout = Rc::new(Layout::new(Rc::clone(key), shape, labels));
                *made = Some(Rc::clone(&layout));
                layout
            }
        }
    }

    /// It looks as this one.
    pub fn is(&self, layout: &Layout) -> bool {
        let same_shape = Rc::ptr_eq(&self.template.shape, &layout.shape) || self.template.shape == layout.shape;
        same_shape && self.entry.labels == layout.labels
    }
}

impl Table {
    /// How many layouts, missing ones included.
    pub fn layouts(&self) -> u32 {
        self.layouts.len() as u32
    }

    /// How many templates, missing ones included.
    pub fn templates(&self) -> u32 {
        self.templates.len() as u32
    }

    /// The layout with this number was taken in.
    pub fn has(&self, number: u32) -> bool {
        matches!(self.layouts.get(number as usize), Some(Some(_)))
    }

    /// A template's shape.
    pub fn shape(&self, number: u32) -> Option<&Rc<Shape>> {
        self.templates.get(number as usize)?.as_ref().map(|template| &template.shape)
    }

    /// The layout with this number; nothing when it or its template is missing, or they do not fit together.
    #[inline]
    pub fn get(&self, number: u32) -> Option<Known<'_>> {
        let entry = self.layouts.get(number as usize)?.as_ref()?;
        let template = self.templates.get(entry.template as usize)?.as_ref()?;
        let numbers = self.numbers.get(entry.first as usize..(entry.first + entry.count) as usize)?;
        (numbers.len() == template.shape.numbers() as usize).then_some(Known { template, entry, numbers })
    }

    /// Takes so much of the bound; nothing when it is not there.
    fn take_room(&mut self, bytes: usize) -> Option<()> {
        let sum = self.bytes.checked_add(bytes).filter(|sum| *sum <= BYTES_MAX)?;
        self.bytes = sum;
        Some(())
    }

    /// Adds a template and returns its number; nothing when there is no room.
    pub fn add_template(&mut self, shape: &Rc<Shape>) -> Option<u32> {
        if self.templates() >= LAYOUTS_MAX {
            return None;
        }
        self.take_room(template_bytes(shape))?;
        self.templates.push(Some(Template::new(Rc::clone(shape))));
        Some(self.templates() - 1)
    }

    /// Adds an event's layout, which has this template, and returns its number; nothing when there is no room.
    pub fn add_layout(&mut self, template: u32, event: &Event) -> Option<u32> {
        let labels = &event.layout.labels;
        let count = event.layout.shape.numbers();
        if self.layouts() >= LAYOUTS_MAX {
            return None;
        }
        self.take_room(layout_bytes(labels, count as usize))?;
        let integers = self.templates.get(template as usize)?.as_ref().map(|template| Rc::clone(&template.integers))?;
        let first = self.numbers.len() as u32;
        let mut unused = Vec::new();
        for number in 0..count {
            let integer = integers.get(number as usize).copied().unwrap_or_default();
            let mut known = Number::NONE;
            number::put_first(&mut unused, event.number(number), integer, &mut known);
            self.numbers.push(known);
        }
        self.layouts.push(Some(Entry::new(template, Rc::clone(labels), first, count)));
        Some(self.layouts() - 1)
    }

    /// The payload of a frame with the templates and layouts from these numbers on.
    pub fn encode(&self, first_template: u32, first_layout: u32) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put(&mut out, u64::from(first_template));
        varint::put(&mut out, u64::from(self.templates() - first_template));
        let templates = || self.templates[first_template as usize..].iter().flatten();
        templates().for_each(|template| put_outline(&mut out, &template.shape));
        templates().for_each(|template| out.extend_from_slice(template.shape.text()));
        let entries = || self.layouts[first_layout as usize..].iter().flatten();
        let mut expected = 0;
        for entry in entries() {
            varint::put_signed(&mut out, i64::from(entry.template) - expected);
            put_labels(&mut out, &entry.labels);
            varint::put(&mut out, u64::from(entry.count));
            expected = i64::from(entry.template) + 1;
        }
        let mut values = Vec::new();
        for number in entries().flat_map(|entry| &self.numbers[entry.first as usize..][..entry.count as usize]) {
            out.push(number.put_alone(&mut values));
        }
        out.extend_from_slice(&values);
        out
    }

    /// Takes in a frame's payload; nothing when it is no such, or there is no room for it.
    pub fn decode(&mut self, first: u32, count: u32, payload: &[u8]) -> Option<()> {
        if first >= LAYOUTS_MAX || count > LAYOUTS_MAX - first {
            return None;
        }
        let mut reader = Reader::new(payload);
        let first_template = u32::try_from(reader.number()?).ok().filter(|first| *first < LAYOUTS_MAX)?;
        let templates = u32::try_from(reader.number()?).ok().filter(|count| *count <= LAYOUTS_MAX - first_template)?;
        let mut room = BYTES_MAX as u64;
        let outlines: Option<Vec<_>> = (0..templates).map(|_| Outline::take(&mut reader, &mut room)).collect();
        for (number, outline) in (first_template as usize..).zip(outlines?) {
            let shape = outline.with_text(&mut reader)?;
            if free(&mut self.templates, number) {
                self.take_room(template_bytes(&shape))?;
                self.templates[number] = Some(Template::new(Rc::new(shape)));
            }
        }
        let mut entries = Vec::with_capacity(count as usize);
        let (mut numbers, mut expected) = (0_usize, 0_i64);
        let mut room = 4 * BYTES_MAX as u64;
        for _ in 0..count {
            let template = u32::try_from(expected.checked_add(reader.signed()?)?).ok()?;
            expected = i64::from(template) + 1;
            let labels = take_labels(&mut reader, &mut room)?;
            let count = u32::try_from(reader.number()?).ok()?;
            numbers = numbers.checked_add(count as usize).filter(|numbers| *numbers <= payload.len())?;
            self.take_room(layout_bytes(&labels, count as usize))?;
            let first = (self.numbers.len() + numbers) as u32 - count;
            entries.push(Entry::new(template, Rc::new(labels), first, count));
        }
        let codes = reader.take(numbers)?;
        for code in codes {
            self.numbers.push(number::take_first(&mut reader, *code)?);
        }
        for (number, entry) in (first as usize..).zip(entries) {
            if free(&mut self.layouts, number) {
                self.layouts[number] = Some(entry);
            }
        }
        reader.is_empty().then_some(())
    }
}

/// Makes the list long enough for a place; whether nothing is there.
fn free<T>(list: &mut Vec<Option<T>>, at: usize) -> bool {
    if list.len() <= at {
        list.resize_with(at + 1, || None);
    }
    list[at].is_none()
}

impl Template {
    fn new(shape: Rc<Shape>) -> Self {
        Self { integers: integers(&shape).into(), is_sound_text: is_sound_text(&shape), shape }
    }
}

impl Entry {
    fn new(template: u32, labels: Rc<LabelValues>, first: u32, count: u32) -> Self {
        Self { template, labels, first, count, weight: Cell::new(0), made: RefCell::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Form, ShapeBuilder};

    fn key(stream: &str) -> Rc<StreamKey> {
        Rc::new(StreamKey { group: "g".into(), stream: stream.into() })
    }

    fn shape(name: &str, forms: &[Form]) -> Rc<Shape> {
        let mut shape = ShapeBuilder::default();
        shape.text().extend_from_slice(name.as_bytes());
        shape.label(0);
        forms.iter().for_each(|form| shape.number(*form));
        Rc::new(shape.build(false))
    }

    fn event(shape: &Rc<Shape>, label: &str, numbers: &[f64]) -> Event {
        let labels = Rc::new(LabelValues::of(std::iter::once(label)));
        let layout = Rc::new(Layout::new(key("s"), Rc::clone(shape), labels));
        Event::new(layout, Rc::new(numbers.to_vec()), 0, false, 0)
    }

    fn table() -> Table {
        let mut table = Table::default();
        let (a, b) = (shape("a", &[Form::Decimal, Form::I64]), shape("b", &[]));
        assert_eq!((table.add_template(&a), table.add_template(&b)), (Some(0), Some(1)));
        for (template, event) in [
            (0, event(&a, "x", &[1.5, f64::from_bits(7)])),
            (1, event(&b, "y", &[])),
            (0, event(&a, "z", &[-0.0, 0.0])),
        ] {
            table.add_layout(template, &event).expect("room");
        }
        table
    }

    #[test]
    fn layouts_come_back_and_those_of_a_kind_share_their_shape() {
        let made = table();
        let mut read = Table::default();
        assert!(read.decode(0, 3, &made.encode(0, 0)).is_some());
        assert_eq!((read.layouts(), read.templates(), read.bytes), (3, 2, made.bytes));
        for number in 0..3 {
            let (read, made) = (read.get(number).expect("there"), made.get(number).expect("there"));
            assert!(read.is(&made.layout(&key("s"))));
            assert_eq!((read.numbers, read.weight()), (made.numbers, made.weight()));
        }
        let of = |number, stream| read.get(number).expect("there").layout(&key(stream));
        assert!(Rc::ptr_eq(&of(0, "s").shape, &of(2, "t").shape));
        assert!(Rc::ptr_eq(&of(0, "s"), &of(0, "s")) && !Rc::ptr_eq(&of(0, "s"), &of(0, "t")));
        assert_eq!(of(0, "t").key, key("t"));
    }

    #[test]
    fn frames_are_read_in_any_order_and_twice() {
        let made = table();
        let (all, rest) = (made.encode(0, 0), made.encode(2, 1));
        let mut read = Table::default();
        assert!(read.decode(1, 2, &rest).is_some());
        assert!(!read.has(0) && read.has(1) && read.get(1).is_none(), "its template is not there yet");
        assert!(read.decode(0, 3, &all).is_some() && read.decode(1, 2, &rest).is_some());
        assert!((0..3).all(|number| read.get(number).is_some()));
    }

    #[test]
    fn a_segment_has_no_more_than_its_bound() {
        let mut table = Table::default();
        let large = shape(&"x".repeat(BYTES_MAX - 200), &[]);
        assert_eq!(table.add_template(&large), Some(0));
        assert_eq!(table.add_layout(0, &event(&large, &"y".repeat(200), &[])), None);
        assert_eq!(table.add_template(&shape(&"x".repeat(200), &[])), None);
        let mut read = Table::default();
        let payload = table.encode(0, 0);
        assert!(read.decode(0, 0, &payload).is_some());
        let mut beside = payload[2..].to_vec();
        beside.splice(0..0, [1, 1]);
        assert_eq!(read.decode(0, 0, &beside), None, "as large once more");
        assert_eq!(read.decode(LAYOUTS_MAX, 0, &payload), None);
    }

    #[test]
    fn nonsense_is_refused() {
        let good = table().encode(0, 0);
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                let mut read = Table::default();
                let _ = read.decode(0, 3, &bad);
                for number in 0..3 {
                    let _ = read.get(number).map(|known| (known.weight(), known.layout(&key("s")))); // must not panic
                }
            }
            assert_eq!(Table::default().decode(0, 3, &good[..at]), None);
        }
        assert_eq!(Table::default().decode(0, 2, &good), None, "too many");
        assert_eq!(Table::default().decode(0, 4, &good), None, "too few");
    }
}
