//! The books: what is pending where, and how it stops being so.

use super::super::segment::{Part, Place};
use super::super::survey::{self, SEGMENT_READ_MAX};
use super::super::wire::Settled;
use super::super::{Loss, LossReason, Outcome, SpoolError, step};
use super::{INDEXES_MAX, Spool};
use crate::env::Disk;
use crate::model::Ranges;
use std::io;
use std::ops::Range;
use std::rc::Rc;

impl Spool {
    /// Settles these events, with one small write. Returns how many of them were pending here; numbers that are not, or never
    /// were, do nothing. An error says that the journal could not be written: it is tried again with the next call, and until
    /// then a restart may deliver them again.
    pub fn settle(&mut self, outcome: Outcome, numbers: &Ranges, disk: &dyn Disk) -> (u64, Result<(), SpoolError>) {
        let kind = match outcome {
            Outcome::Delivered => Settled::Delivered,
            Outcome::Dropped => Settled::Dropped,
            Outcome::Exported => Settled::Exported,
        };
        let (mut events, mut touched) = (0, Vec::new());
        for (from, to) in numbers.iter() {
            for at in self.owners(from, to) {
                step();
                for (from, to) in self.segments[at].pending.overlap(from, to) {
                    self.segments[at].settle(from, to);
                    self.note_settled(kind, from, to);
                    events += to - from;
                    touched.push(at);
                }
            }
            // The body in flight had them when room was made: now they are settled as it says. What the caller has not heard
            // of is pending to it.
            for (from, to) in self.afloat.overlap(from, to) {
                events += self.detached.count(from, to);
                self.detached.remove(from, to);
                self.afloat.remove(from, to);
                self.note_settled(kind, from, to);
            }
        }
        touched.dedup();
        for at in touched {
            // Without its index nobody knows whose they were. What cannot be read now is counted when it can be.
            if !self.segments[at].is_settled() {
                let _ = self.load_index(at, disk);
            }
        }
        let decoded = self.decoded.as_ref().map(|(.., record)| (record.meta.sequence, u64::from(record.meta.events)));
        if decoded.is_some_and(|(from, events)| self.settled.count(from, from + events) == events) {
            self.decoded = None;
        }
        let written = self.write_journal(disk).map_err(|error| self.error("acknowledging in", &error));
        self.remove_settled(disk);
        (events, written)
    }

    /// Events that a body in flight holds. When room is made for others, or they turn out to be damaged, they are neither
    /// dropped nor told as lost: the body still has them, and [`Self::take_detached`] hands out their numbers. Their age is
    /// not judged. Replaces the set.
    pub fn pin(&mut self, numbers: Ranges) {
        self.pinned = numbers;
    }

    /// Pinned numbers that have left the spool since the last call: only the body has them now. What becomes of them is told
    /// with [`Self::settle`], which does not count them; until then a restart counts them as lost.
    pub fn take_detached(&mut self) -> Ranges {
        std::mem::take(&mut self.detached)
    }

    pub(super) fn note_settled(&mut self, kind: Settled, from: u64, to: u64) {
        self.settled.insert(from, to);
        self.journal.note(kind, from, to);
    }

    pub(super) fn write_journal(&mut self, disk: &dyn Disk) -> io::Result<()> {
        match self.id {
            Some(id) => self.journal.write(&self.dir, &id, &self.settled, disk),
            None => Ok(()),
        }
    }

    /// The segments that may hold these numbers.
    fn owners(&self, from: u64, to: u64) -> Range<usize> {
        if !self.in_order {
            return 0..self.segments.len();
        }
        let start = self.segments.partition_point(|segment| segment.first <= from);
        start.saturating_sub(1)..self.segments.partition_point(|segment| segment.first < to)
    }

    /// Gives up what is pending of a record and tells it.
    pub(super) fn lose(&mut self, at: usize, place: &Place, reason: LossReason) {
        let events = self.segments[at].pending_of(place).into_iter().map(|piece| self.give_up(at, piece, reason)).sum();
        if events > 0 {
            let key = Some(Rc::clone(self.streams.key(place.stream)));
            self.losses.add(Loss { reason, key, events, from_ms: place.age.first_ms, to_ms: place.age.last_ms });
        }
    }

    /// Takes pending numbers of a segment out of the books; returns how many are lost. Pinned ones are not: too old, they
    /// stay; otherwise they go on with the body that has them.
    pub(super) fn give_up(&mut self, at: usize, (from, to): (u64, u64), reason: LossReason) -> u64 {
        let kind = match reason {
            LossReason::MaxBytes => Settled::MaxBytes,
            LossReason::MaxAge => Settled::MaxAge,
            LossReason::Damaged => Settled::Damaged,
        };
        let mut lost = 0;
        for (from, to) in self.pinned.missing(from, to) {
            self.segments[at].settle(from, to);
            self.note_settled(kind, from, to);
            lost += to - from;
        }
        if reason != LossReason::MaxAge {
            for (from, to) in self.pinned.overlap(from, to) {
                self.segments[at].settle(from, to);
                self.detached.insert(from, to);
                self.afloat.insert(from, to);
            }
        }
        lost
    }

    /// Tells so many events as lost, by what was known of the streams before and what is left of them.
    pub(super) fn tell_by_parts(&mut self, at: usize, before: &[Part], mut events: u64, reason: LossReason) {
        let mut told = (None, 0, 0);
        for part in before {
            let left = self.segments[at].part(part.stream).map_or(0, |part| part.events);
            let lost = part.events.saturating_sub(left).min(events);
            told = (Some(Rc::clone(self.streams.key(part.stream))), part.first_ms, part.last_ms);
            if lost > 0 {
                events -= lost;
                let (key, from_ms, to_ms) = told.clone();
                self.losses.add(Loss { reason, key, events: lost, from_ms, to_ms });
            }
        }
        if events > 0 {
            // Whose they were nobody knows any more: a file was replaced by another's.
            let (key, from_ms, to_ms) = told;
            self.losses.add(Loss { reason, key, events, from_ms, to_ms });
        }
    }

    /// Finds out where the records of a segment lie, and holds the file against the books: what is not there any more is
    /// lost.
    pub(super) fn load_index(&mut self, at: usize, disk: &dyn Disk) -> io::Result<()> {
        if self.segments[at].index.is_some() {
            return Ok(());
        }
        self.forget_index();
        step();
        let bytes = match disk.read_at(&self.dir.join(self.segments[at].name()), 0, SEGMENT_READ_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        let segment = &mut self.segments[at];
        let index = survey::index(&bytes, &segment.pending, &mut self.streams);
        let there = Ranges::of(index.records.iter().map(|place| (place.from, place.to)).collect());
        let gone: Vec<_> = segment.pending.iter().flat_map(|(from, to)| there.missing(from, to)).collect();
        let before = std::mem::take(&mut segment.parts);
        let events = gone.into_iter().map(|piece| self.give_up(at, piece, LossReason::Damaged)).sum();
        self.segments[at].recount(&index);
        self.segments[at].index = Some(index);
        self.tell_by_parts(at, &before, events, LossReason::Damaged);
        Ok(())
    }

    /// Makes place for one more index: rather not that of records that a body in flight came from.
    fn forget_index(&mut self) {
        let written = self.segments.len() - usize::from(self.is_written());
        let loaded = (0..written).filter(|at| self.segments[*at].index.is_some()).collect::<Vec<_>>();
        if loaded.len() >= INDEXES_MAX {
            let idle = |at: &&usize| {
                let pending = &self.segments[**at].pending;
                self.pinned.iter().all(|(from, to)| pending.count(from, to) == 0)
            };
            let at = loaded.iter().find(idle).unwrap_or(&loaded[0]);
            self.segments[*at].index = None;
        }
    }
}
