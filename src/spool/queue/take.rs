//! What leaves the spool: batches.

use super::super::decode::{decode_frame, take_shapes};
use super::super::segment::{Index, Place};
use super::super::table::Tables;
use super::super::{Age, BatchLimits, LossReason, SpoolBatch, SpoolError, SpoolRecord};
use super::Spool;
use crate::env::Disk;
use crate::model::{Event, StreamKey};
use std::io;
use std::rc::Rc;

/// A batch is taken from so many segments at most, and so many are read to find its first record.
const SEGMENTS_A_BATCH: usize = 3;

impl Spool {
    /// The oldest pending records of the stream that has waited longest among those for which `may_send` says yes, up to the
    /// limits. `leave_out` says which records to pass over (they stay); what it says of a record must hold for older ones of
    /// the same boot. Only a look: the same call gives the same until something is settled. At most three segments are read; nothing
    /// found means that another call may find something, until one of [`Self::enforce_bounds`] begins from the oldest again.
    /// An error says that a segment cannot be read; it is left out until the next [`Self::enforce_bounds`], and the next call
    /// goes on with others.
    pub fn next_batch(
        &mut self,
        may_send: &dyn Fn(&StreamKey) -> bool,
        leave_out: &dyn Fn(&Age) -> bool,
        limits: BatchLimits,
        disk: &dyn Disk,
    ) -> Result<Option<SpoolBatch>, SpoolError> {
        let batch = self.find_batch(may_send, leave_out, limits, disk);
        // What turned out to be lost is told with the next look at the losses: a restart must not tell it again.
        self.remove_settled(disk);
        batch
    }

    /// The last [`Spool::next_batch`] found nothing and has not seen all segments yet: the next goes on from there.
    pub fn has_more_to_look_at(&self) -> bool {
        self.look_from > 0
    }

    fn find_batch(
        &mut self,
        may_send: &dyn Fn(&StreamKey) -> bool,
        leave_out: &dyn Fn(&Age) -> bool,
        limits: BatchLimits,
        disk: &dyn Disk,
    ) -> Result<Option<SpoolBatch>, SpoolError> {
        let mut read = 0;
        let mut at = self.look_from;
        while at < self.segments.len() {
            let segment = &self.segments[at];
            let mut skip = segment.unreadable || segment.is_settled() || segment.is_left_out(leave_out);
            if !skip && segment.index.is_none() {
                let sendable = |stream| may_send(self.streams.key(stream));
                skip = !segment.parts.iter().any(|part| part.events > 0 && sendable(part.stream));
                read += usize::from(!skip);
            }
            if read > SEGMENTS_A_BATCH {
                self.look_from = at;
                return Ok(None);
            }
            if !skip {
                if let Err(error) = self.load_index(at, disk) {
                    self.segments[at].unreadable = true;
                    return Err(self.error("reading", &error));
                }
                while let Some(place) = self.first_sendable(at, may_send, leave_out) {
                    // Nothing: all of it was damaged, and is settled now.
                    if let Some(batch) = self.gather(at, &place, leave_out, limits, disk)? {
                        return Ok(Some(batch));
                    }
                }
            }
            at += 1;
        }
        self.look_from = 0;
        Ok(None)
    }

    fn first_sendable(
        &mut self,
        at: usize,
        may_send: &dyn Fn(&StreamKey) -> bool,
        leave_out: &dyn Fn(&Age) -> bool,
    ) -> Option<Place> {
        let segment = &mut self.segments[at];
        let mut index = segment.index.take()?;
        while index.records.get(index.cursor).is_some_and(|place| segment.pending_of(place).is_empty()) {
            index.cursor += 1;
        }
        let found = index.records[index.cursor..].iter().find(|place| {
            !segment.pending_of(place).is_empty() && may_send(self.streams.key(place.stream)) && !leave_out(&place.age)
        });
        let found = found.copied();
        segment.index = Some(index);
        found
    }

    /// A batch that begins with a record.
    fn gather(
        &mut self,
        first: usize,
        place: &Place,
        leave_out: &dyn Fn(&Age) -> bool,
        limits: BatchLimits,
        disk: &dyn Disk,
    ) -> Result<Option<SpoolBatch>, SpoolError> {
        let stream = place.stream;
        let mut batch = SpoolBatch { key: Rc::clone(self.streams.key(stream)), records: Vec::new() };
        let mut sum = Sum { billed: 0, events: 0, first_ms: i64::MAX, last_ms: i64::MIN };
        let (mut after, mut segments) = (place.from, 0);
        let mut result = Ok(());
        let mut last = None;
        'segments: for at in first..self.segments.len() {
            let segment = &self.segments[at];
            if segment.unreadable || segment.part(stream).is_none_or(|part| part.events == 0) {
                continue;
            }
            segments += 1;
            if segments > SEGMENTS_A_BATCH {
                break;
            }
            result = self.load_index(at, disk);
            while result.is_ok() {
                let index = self.segments[at].index.as_ref();
                let Some(place) = index.and_then(|index| index.of_stream(stream, after).next()) else { break };
                after = place.to;
                let pending = self.segments[at].pending_of(&place);
                if pending.is_empty() || leave_out(&place.age) {
                    continue;
                }
                let whole = pending == [(place.sequence, place.sequence + u64::from(place.events))];
                if whole && !sum.add(&Sum::of(&place), limits) && !batch.records.is_empty() {
                    break 'segments;
                }
                match self.read_record(at, &place, disk) {
                    Ok(Some(record)) if whole => {
                        last = Some((at, place));
                        batch.records.push(record);
                    }
                    Ok(Some(record)) => {
                        let part = record.only(&pending);
                        self.remember(at, &place, record);
                        if !sum.add(&Sum::of_events(&part.events), limits) && !batch.records.is_empty() {
                            break 'segments;
                        }
                        last = None;
                        batch.records.push(part);
                    }
                    Ok(None) => self.lose(at, &place, LossReason::Damaged),
                    Err(error) => result = Err(error),
                }
            }
            if result.is_err() {
                self.segments[at].unreadable = true;
                break;
            }
            after = 0;
        }
        if let (Some((at, place)), Some(record)) = (last, batch.records.last()) {
            self.remember(at, &place, record.clone());
        }
        match result {
            Err(error) if batch.records.is_empty() => Err(self.error("reading", &error)),
            _ => Ok((!batch.records.is_empty()).then_some(batch)),
        }
    }

    /// Keeps a whole record: the next body may be cut from it too.
    fn remember(&mut self, at: usize, place: &Place, record: SpoolRecord) {
        let segment = &self.segments[at];
        self.decoded = Some(((segment.first, segment.attempt), place.at, record));
    }

    /// A whole record; nothing when it is damaged, or not there any more.
    fn read_record(&mut self, at: usize, place: &Place, disk: &dyn Disk) -> io::Result<Option<SpoolRecord>> {
        let name = (self.segments[at].first, self.segments[at].attempt);
        if let Some((_, _, record)) = self.decoded.take_if(|(known, known_at, record)| {
            (*known, *known_at, record.meta.sequence) == (name, place.at, place.sequence)
        }) {
            return Ok(Some(record));
        }
        let key = self.streams.key(place.stream);
        let last = at + 1 == self.segments.len() && self.is_written();
        if last
            && let Ok(found) = self.unsynced.binary_search_by_key(&place.sequence, |unsynced| unsynced.place.sequence)
        {
            return Ok(decode_frame(&self.unsynced[found].frame, place, &self.encoder.tables, key));
        }
        let path = self.dir.join(self.segments[at].name());
        let read = |at: u32, len: u32| match disk.read_at(&path, u64::from(at), len as usize) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            bytes => bytes,
        };
        let frame = read(place.at, place.bytes)?;
        if last {
            return Ok(decode_frame(&frame, place, &self.encoder.tables, key));
        }
        let Some(Index { tables, shapes, .. }) = &mut self.segments[at].index else { return Ok(None) };
        if tables.is_none() {
            let mut found = Tables::default();
            for (at, len) in shapes {
                take_shapes(&read(*at, *len)?, &mut found);
            }
            *tables = Some(found);
        }
        Ok(tables.as_ref().and_then(|tables| decode_frame(&frame, place, tables, key)))
    }
}

/// What counts against the limits of a batch.
#[derive(Clone, Copy)]
struct Sum {
    billed: u64,
    events: u64,
    first_ms: i64,
    last_ms: i64,
}

impl Sum {
    fn of(place: &Place) -> Self {
        let Age { first_ms, last_ms, .. } = place.age;
        Self { billed: u64::from(place.billed), events: u64::from(place.events), first_ms, last_ms }
    }

    fn of_events(events: &[Event]) -> Self {
        let times = || events.iter().map(|event| event.timestamp_ms);
        Self {
            billed: events.iter().map(|event| event.billed_bytes() as u64).sum(),
            events: events.len() as u64,
            first_ms: times().min().unwrap_or(i64::MAX),
            last_ms: times().max().unwrap_or(i64::MIN),
        }
    }

    /// Adds more; whether it is within the limits still.
    fn add(&mut self, more: &Self, limits: BatchLimits) -> bool {
        self.billed += more.billed;
        self.events += more.events;
        self.first_ms = self.first_ms.min(more.first_ms);
        self.last_ms = self.last_ms.max(more.last_ms);
        self.billed <= limits.billed_bytes
            && self.events <= u64::from(limits.events)
            && self.last_ms.abs_diff(self.first_ms) <= limits.span_ms
    }
}
