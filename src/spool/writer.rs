//! Turns events into frames: finds the templates they follow, and decides when a shape is worth its bytes.

use super::body::{self, Decoded, Packer, Plan};
use super::shape::{self, Templates};
use super::wire::{self, TEMPLATES_MAX};
use super::{NewRecord, RecordMeta};
use crate::model::Event;
use std::collections::BTreeSet;

/// Memory for the templates of the segment that is written; what is over it is deflated without.
const TEMPLATES_BYTES_MAX: usize = 512 << 10;
/// So much text must have come back, numbers aside, before it becomes a shape.
const RECURRING_BYTES_MIN: usize = 1 << 10;
/// So much new text in one record is believed to come back: a page.
const PAGE_BYTES_MIN: usize = 4 << 10;
/// How often a segment believes that; a wrong guess costs a tenth of the record's bytes, and a second copy.
const GUESSES: u8 = 8;
/// Texts that are remembered to see whether they come back.
const REMEMBERED_MAX: usize = 8_192;
/// How far the second copy of a shape keeps from the first.
const COPY_DISTANCE_BYTES: u64 = 4 << 10;

/// What it knows of the segment that is being written.
#[derive(Default)]
pub struct Encoder {
    packer: Packer,
    /// The templates of the segment.
    pub templates: Templates,
    /// Hashes of texts that were written without a template.
    remembered: BTreeSet<u64>,
    recurring_bytes: usize,
    guesses: u8,
    /// Shapes whose second copy is due when the segment is this long.
    copies: Vec<(u64, Vec<u8>)>,
}

/// Frames to be appended.
pub struct Frames {
    /// A second copy of an earlier shape, and new ones.
    pub shapes: Vec<u8>,
    /// The record.
    pub record: Vec<u8>,
}

impl Encoder {
    /// A new segment: no templates yet.
    pub fn restart(&mut self) {
        self.templates = Templates::default();
        self.recurring_bytes = 0;
        self.guesses = 0;
        self.copies.clear();
    }

    /// Nothing is being written: gives memory back.
    pub fn rest(&mut self) {
        self.restart();
        self.packer.release();
        self.remembered.clear();
    }

    /// The frames of a record in a segment of so many bytes; nothing when it is too large.
    pub fn encode(
        &mut self,
        meta: &RecordMeta,
        new: &NewRecord<'_>,
        source: Option<u32>,
        segment_bytes: u64,
    ) -> Option<Frames> {
        let text = |event: &Event| Decoded {
            timestamp_ms: event.timestamp_ms,
            own_time: event.own_time,
            message: event.message(),
        };
        let events: Vec<Decoded> = new.events.iter().map(text).collect();
        let mut shapes = Vec::new();
        if let Some(at) = self.copies.iter().position(|(due, _)| *due <= segment_bytes) {
            shapes = self.copies.swap_remove(at).1;
        }
        let (mut plan, recurring) = self.plan(&events);
        if self.recurring_bytes >= RECURRING_BYTES_MIN && !recurring.is_empty() {
            self.recurring_bytes = 0;
            let frame = self.make_shape(meta.sequence, &events, &recurring, &mut plan);
            if !frame.is_empty() {
                let first_end = segment_bytes + (shapes.len() + frame.len()) as u64;
                shapes.extend_from_slice(&frame);
                self.copies.push((first_end + COPY_DISTANCE_BYTES, frame));
            }
        }
        let mut payload = body::encode(&events, &plan, new.wall_ms, &self.templates);
        let decoded = body::decode(&payload, meta.events, new.wall_ms, &self.templates);
        let same = decoded.is_ok_and(|decoded| {
            decoded.iter().zip(&events).all(|(decoded, event)| {
                decoded.message == event.message
                    && (decoded.timestamp_ms, decoded.own_time) == (event.timestamp_ms, event.own_time)
            })
        });
        if !same {
            let plain = vec![None; events.len()];
            payload = body::encode(&events, &plain, new.wall_ms, &self.templates);
        }
        if payload.len() > body::PAYLOAD_BYTES_MAX {
            return None;
        }
        let body = self.packer.pack(&payload);
        let mut record = Vec::with_capacity(wire::frame_overhead_bytes(&meta.key.group, &meta.key.stream) + body.len());
        wire::encode_record(&mut record, meta, source.unwrap_or_default(), &body);
        body::fits(&body).then_some(Frames { shapes, record })
    }

    /// All templates in one shape, for the beginning of a segment that goes on with them.
    pub fn all_templates(&mut self, sequence: u64, segment_bytes: u64) -> Vec<u8> {
        self.copies.clear();
        let count = self.templates.len();
        if count == 0 {
            return Vec::new();
        }
        let body = self.packer.pack(&self.templates.encode(0));
        let mut frame = Vec::new();
        wire::encode_shape(&mut frame, sequence, 0, count, &body);
        self.copies.push((segment_bytes + frame.len() as u64 + COPY_DISTANCE_BYTES, frame.clone()));
        frame
    }

    /// The template of each event, and the events without one whose text is worth one.
    fn plan(&mut self, events: &[Decoded]) -> (Plan, Vec<usize>) {
        let mut plan = Plan::with_capacity(events.len());
        let (mut recurring, mut unknown, mut unknown_bytes) = (Vec::new(), Vec::new(), 0);
        let (mut text, mut numbers) = (Vec::new(), Vec::new());
        let mut expected = 0;
        for (at, event) in events.iter().enumerate() {
            if !shape::cut(event.message.as_bytes(), &mut text, &mut numbers) {
                plan.push(None);
                continue;
            }
            let as_expected = self.templates.get(expected).is_some_and(|(known, _)| known == text);
            let template = if as_expected { Some(expected) } else { self.templates.find(&text) };
            match template {
                Some(template) => expected = template + 1,
                None => {
                    unknown.push(at);
                    unknown_bytes += text.len();
                    if self.remembered.len() >= REMEMBERED_MAX {
                        self.remembered.clear();
                    }
                    if !self.remembered.insert(shape::hash(&text)) {
                        recurring.push(at);
                        self.recurring_bytes += text.len();
                    }
                }
            }
            plan.push(template);
        }
        if unknown_bytes >= PAGE_BYTES_MIN && self.guesses < GUESSES {
            self.guesses += 1;
            self.recurring_bytes = unknown_bytes;
            recurring = unknown;
        }
        (plan, recurring)
    }

    /// Makes templates of these events; empty when there is no room for them.
    fn make_shape(&mut self, sequence: u64, events: &[Decoded], recurring: &[usize], plan: &mut Plan) -> Vec<u8> {
        let first = self.templates.len();
        let (mut text, mut numbers) = (Vec::new(), Vec::new());
        for at in recurring {
            let message = events[*at].message.as_bytes();
            let full = self.templates.memory_bytes() + message.len() > TEMPLATES_BYTES_MAX;
            if full || self.templates.len() >= TEMPLATES_MAX {
                break;
            }
            shape::cut(message, &mut text, &mut numbers);
            plan[*at] = Some(self.templates.len());
            self.templates.add(&text, message, &numbers);
        }
        let count = self.templates.len() - first;
        let mut frame = Vec::new();
        if count > 0 {
            let body = self.packer.pack(&self.templates.encode(first));
            wire::encode_shape(&mut frame, sequence, first, count, &body);
        }
        frame
    }
}
