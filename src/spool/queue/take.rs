//! What leaves the spool: batches, acknowledgements, and what its bounds drop.

use super::super::segment::{Place, Segment};
use super::super::shape::Templates;
use super::super::survey::{self, SEGMENT_READ_MAX, Streams, add_loss};
use super::super::wire::{self, Kind, Piece, Pieces, Settled};
use super::super::{BatchLimits, Loss, LossReason, SpoolBatch, SpoolError, SpoolRecord, body};
use super::{INDEXES_MAX, Spool};
use crate::env::Disk;
use crate::model::settings::BufferSettings;
use crate::model::{Event, StreamKey};
use std::io;
use std::rc::Rc;
impl Spool {
    /// The oldest records of the stream that has waited longest, merged up to the limits. Only a look: the same call gives
    /// the same records until they are acknowledged. An error says that a segment cannot be read; it is left out until the
    /// next [`Self::enforce_bounds`], and the next call goes on with others.
    pub fn next_batch(&mut self, limits: BatchLimits, disk: &dyn Disk) -> Result<Option<SpoolBatch>, SpoolError> {
        for stream in self.streams() {
            if let Some(batch) = self.next_batch_of(&stream.key, limits, disk)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The same for one stream.
    pub fn next_batch_of(
        &mut self,
        key: &StreamKey,
        limits: BatchLimits,
        disk: &dyn Disk,
    ) -> Result<Option<SpoolBatch>, SpoolError> {
        let stream = self.streams.number(&key.group, &key.stream);
        let mut batch = SpoolBatch { key: self.streams.key(stream), sequences: Vec::new(), records: Vec::new() };
        let (mut billed, mut events, mut first_ms, mut last_ms) = (0, 0, i64::MAX, i64::MIN);
        let mut damaged = false;
        let mut at = 0;
        'segments: while at < self.segments.len() {
            let segment = &self.segments[at];
            if segment.unreadable || !segment.parts.iter().any(|part| part.stream == stream) {
                at += 1;
                continue;
            }
            let mut result = self.load_index(at, disk);
            let places = self.pending_places(at, |place| place.stream == stream);
            for place in places {
                if result.is_err() {
                    break;
                }
                if limits.not_before_ms.is_some_and(|before_ms| place.last_ms < before_ms) {
                    continue;
                }
                first_ms = first_ms.min(place.first_ms);
                last_ms = last_ms.max(place.last_ms);
                billed += u64::from(place.billed);
                events += u64::from(place.events);
                let over = billed > limits.billed_bytes
                    || events > u64::from(limits.events)
                    || last_ms.abs_diff(first_ms) > limits.span_ms;
                if over && !batch.records.is_empty() {
                    break 'segments;
                }
                match self.read_record(at, &place, disk) {
                    Ok(Some(record)) => {
                        batch.sequences.push(place.sequence);
                        batch.records.push(record);
                    }
                    Ok(None) => {
                        damaged = true;
                        self.lose(at, &place, LossReason::Damaged);
                    }
                    Err(error) => result = Err(error),
                }
            }
            if let Err(error) = result {
                self.segments[at].unreadable = true;
                if batch.records.is_empty() {
                    return Err(self.error("reading", &error));
                }
                break;
            }
            at += 1;
        }
        if damaged {
            self.remove_settled(disk);
        }
        Ok((!batch.records.is_empty()).then_some(batch))
    }

    /// These records have been delivered. One small write; an error means that a restart may deliver them again.
    pub fn ack(&mut self, sequences: &[u64], disk: &dyn Disk) -> Result<(), SpoolError> {
        self.settle_records(sequences, Settled::Delivered, disk)
    }

    /// These records have been exported and may go.
    pub fn remove_exported(&mut self, sequences: &[u64], disk: &dyn Disk) -> Result<(), SpoolError> {
        self.settle_records(sequences, Settled::Exported, disk)
    }

    /// The user wants these records dropped, or they are too old for the service; the caller counts them.
    pub fn discard(&mut self, sequences: &[u64], disk: &dyn Disk) -> Result<(), SpoolError> {
        self.settle_records(sequences, Settled::Dropped, disk)
    }

    pub(super) fn settle_records(
        &mut self,
        sequences: &[u64],
        kind: Settled,
        disk: &dyn Disk,
    ) -> Result<(), SpoolError> {
        let mut result = Ok(());
        for sequence in sequences {
            if self.settled.contains(*sequence) {
                continue;
            }
            let mut found = None;
            for at in
                (0..self.segments.len()).rev().filter(|at| self.segments[*at].first <= *sequence).collect::<Vec<_>>()
            {
                if self.segments[at].is_settled() {
                    continue;
                }
                if let Err(error) = self.load_index(at, disk) {
                    result = Err(error);
                    continue;
                }
                let records = self.segments[at].index.as_ref().map_or(&[][..], |index| &index.records);
                found = records.iter().find(|place| place.sequence == *sequence).map(|place| (at, *place));
                if found.is_some() {
                    break;
                }
            }
            if let Some((at, place)) = found {
                self.segments[at].subtract(&place);
                self.settle(kind, place.sequence, place.end());
            }
        }
        let written = self.write_journal(disk);
        self.remove_settled(disk);
        result.and(written).map_err(|error| self.error("acknowledging in", &error))
    }

    /// Drops what is over `max_age` (of records with a confirmed clock) or over `max_bytes`, oldest first, and tells all that was
    /// lost since the last call.
    pub fn enforce_bounds(&mut self, now_ms: i64, disk: &dyn Disk) -> Vec<Loss> {
        // What could not be read is tried again from time to time: disks heal.
        self.segments.iter_mut().filter(|segment| !segment.keep).for_each(|segment| segment.unreadable = false);
        let oldest_ms = now_ms.saturating_sub_unsigned(self.max_age_ms);
        let old_segment = |segment: &Segment| segment.ages_ms.is_some_and(|ages_ms| ages_ms < oldest_ms);
        self.drop_old(&old_segment, &|place| place.confirmed && place.last_ms < oldest_ms, disk);
        self.remove_settled(disk);
        self.remove_doomed(disk);
        // An error here comes again, louder, with the next append.
        let _ = self.make_room(0, disk);
        std::mem::take(&mut self.losses)
    }

    /// The same for age by the clock since boot, which is right whatever the wall clock says: drops what the boot that is running
    /// scraped more than `max_age` ago. What was lost is told by [`Self::enforce_bounds`].
    pub fn enforce_age(&mut self, boot_id: &[u8; 16], monotonic_ms: u64, disk: &dyn Disk) {
        let Some(oldest_ms) = monotonic_ms.checked_sub(self.max_age_ms) else { return };
        let boot = wire::checksum(boot_id);
        let old_segment = |segment: &Segment| segment.boots.iter().any(|(known, ms)| *known == boot && *ms < oldest_ms);
        self.drop_old(&old_segment, &|place| place.boot == boot && place.monotonic_ms < oldest_ms, disk);
    }

    fn drop_old(&mut self, old_segment: &dyn Fn(&Segment) -> bool, old: &dyn Fn(&Place) -> bool, disk: &dyn Disk) {
        for at in 0..self.segments.len() {
            if self.segments[at].unreadable || !old_segment(&self.segments[at]) {
                continue;
            }
            if self.load_index(at, disk).is_err() {
                self.segments[at].unreadable = true;
                continue;
            }
            for place in self.pending_places(at, old) {
                self.lose(at, &place, LossReason::MaxAge);
            }
            let rest = self.pending_places(at, |_| true);
            let segment = &mut self.segments[at];
            (segment.ages_ms, segment.boots) = (None, Vec::new());
            rest.iter().for_each(|place| segment.note_age(place));
        }
    }

    /// What was lost since the last look, by whatever call: to be counted before the next.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.losses)
    }

    /// Takes over new bounds; they hold from the next [`Self::enforce_bounds`] or append on.
    pub fn reconfigure(&mut self, settings: &BufferSettings) {
        self.max_bytes = settings.max_bytes;
        self.max_age_ms = settings.max_age_ms;
    }
}

impl Spool {
    pub(super) fn settle(&mut self, kind: Settled, from: u64, to: u64) {
        self.settled.insert(from, to);
        self.journal.note(kind, from, to);
    }

    pub(super) fn lose(&mut self, at: usize, place: &Place, reason: LossReason) {
        self.segments[at].subtract(place);
        let kind = match reason {
            LossReason::MaxBytes => Settled::MaxBytes,
            LossReason::MaxAge => Settled::MaxAge,
            LossReason::Damaged => Settled::Damaged,
        };
        self.settle(kind, place.sequence, place.end());
        let key = Some(self.streams.key(place.stream));
        let (events, from_ms, to_ms) = (u64::from(place.events), place.first_ms, place.last_ms);
        add_loss(&mut self.losses, Loss { reason, key, events, from_ms, to_ms });
    }

    pub(super) fn write_journal(&mut self, disk: &dyn Disk) -> io::Result<()> {
        match self.id {
            Some(id) => self.journal.write(&self.dir, &id, &self.settled, disk),
            None => Ok(()),
        }
    }

    pub(super) fn pending_places(&self, at: usize, wanted: impl Fn(&Place) -> bool) -> Vec<Place> {
        let records = self.segments[at].index.as_ref().map_or(&[][..], |index| &index.records);
        let pending = records.iter().filter(|place| !self.settled.contains(place.sequence));
        pending.filter(|place| wanted(place)).copied().collect()
    }

    pub(super) fn load_index(&mut self, at: usize, disk: &dyn Disk) -> io::Result<()> {
        if self.segments[at].index.is_some() {
            return Ok(());
        }
        let written = self.segments.len() - usize::from(self.file.is_some() || self.is_homeless());
        let loaded = (0..written).filter(|at| self.segments[*at].index.is_some()).collect::<Vec<_>>();
        if loaded.len() >= INDEXES_MAX {
            self.segments[loaded[0]].index = None;
        }
        let bytes = disk.read_at(&self.dir.join(self.segments[at].name()), 0, SEGMENT_READ_MAX)?;
        let index = survey::index(&bytes, &self.segments[at].shadowed, &mut self.streams);
        self.segments[at].index = Some(index);
        Ok(())
    }

    /// A record's events; nothing when it is damaged.
    pub(super) fn read_record(&mut self, at: usize, place: &Place, disk: &dyn Disk) -> io::Result<Option<SpoolRecord>> {
        let last = at + 1 == self.segments.len() && (self.file.is_some() || self.is_homeless());
        if last && let Some(unsynced) = self.unsynced.iter().find(|unsynced| unsynced.place.sequence == place.sequence)
        {
            return Ok(decode_frame(&unsynced.frame, place, &self.encoder.templates, &mut self.streams));
        }
        let path = self.dir.join(self.segments[at].name());
        let frame = disk.read_at(&path, u64::from(place.at), place.bytes as usize)?;
        if last {
            return Ok(decode_frame(&frame, place, &self.encoder.templates, &mut self.streams));
        }
        let name = (self.segments[at].first, self.segments[at].attempt);
        if self.reading.as_ref().is_none_or(|(known, _)| *known != name) {
            let mut templates = Templates::default();
            let shapes = self.segments[at].index.as_ref().map_or(&[][..], |index| &index.shapes);
            for (at, len) in shapes {
                let bytes = disk.read_at(&path, u64::from(*at), *len as usize)?;
                take_shapes(&bytes, &mut templates);
            }
            self.reading = Some((name, templates));
        }
        let Some((_, templates)) = &self.reading else { return Ok(None) };
        Ok(decode_frame(&frame, place, templates, &mut self.streams))
    }
}

/// Adds the templates of all shapes in a piece of a segment.
pub fn take_shapes(bytes: &[u8], templates: &mut Templates) {
    for piece in Pieces::new(bytes, 0) {
        if let Piece::Frame { header, body, .. } = piece
            && header.kind == Kind::Shape
            && templates.get(header.billed).is_none()
            && let Some(payload) = body::unpack(body)
        {
            // A shape with a sound checksum that does not decode is a wrong encoder's: its records are damaged.
            let _ = templates.decode(header.billed, header.count, &payload);
        }
    }
}

/// A record out of its frame; nothing when it is not the one that was meant, or damaged.
pub fn decode_frame(frame: &[u8], place: &Place, templates: &Templates, streams: &mut Streams) -> Option<SpoolRecord> {
    let Some(Piece::Frame { header, body, .. }) = Pieces::new(frame, 0).next() else { return None };
    if header.sequence != place.sequence || header.kind != Kind::Record {
        return None;
    }
    let stream = streams.number(header.group, header.stream);
    let key = streams.key(stream);
    let decoded = body::decode(&body::unpack(body)?, header.count, header.wall_ms, templates).ok()?;
    let events = decoded
        .into_iter()
        .map(|event| Event {
            key: Rc::clone(&key),
            timestamp_ms: event.timestamp_ms,
            own_time: event.own_time,
            message: event.message,
        })
        .collect();
    Some(SpoolRecord { meta: header.meta(key), events })
}
