//! The spool as the agent holds it.

use super::journal::{self, Journal};
use super::ranges::Ranges;
use super::segment::{self, Index, Place, Segment};
use super::shape::Templates;
use super::survey::{self, SEGMENT_READ_MAX, Streams, add_loss, survey};
use super::wire::{self, EVENTS_MAX, Kind, NAME_BYTES_MAX, Piece, Pieces, SegmentHeader, Settled, SpoolId};
use super::writer::Encoder;
use super::{
    BatchLimits, FOLDER, Loss, LossReason, NewRecord, Pending, RecordMeta, Recovery, SpoolBatch, SpoolError,
    SpoolRecord, StreamPending, body,
};
use crate::env::{Disk, DiskFile};
use crate::model::settings::BufferSettings;
use crate::model::{Event, StreamKey};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const SEGMENT_BYTES_MAX: u64 = 1 << 20;
/// More than this is never held in memory for want of a sync.
const UNSYNCED_BYTES_MAX: usize = 512 << 10;
/// Indexes of segments that are kept beside the one that is written.
const INDEXES_MAX: usize = 3;

/// Events on disk that wait for delivery. It holds no disk: every call is given one, always the same.
pub struct Spool {
    dir: PathBuf,
    max_bytes: u64,
    max_age_ms: u64,
    id: Option<SpoolId>,
    streams: Streams,
    /// By name; the last one may be being written ([`Spool::file`]) or be in memory only.
    segments: Vec<Segment>,
    settled: Ranges,
    journal: Journal,
    /// The next record's number.
    next: u64,
    /// Numbers from here on were not given out before the first segment of this process.
    unused_from: u64,
    encoder: Encoder,
    /// The last segment, while it may be appended to.
    file: Option<Box<dyn DiskFile>>,
    file_unsynced: bool,
    /// Folders with names in them that no sync has covered.
    folders_unsynced: Vec<PathBuf>,
    /// Records that no sync has covered, in order.
    unsynced: Vec<Unsynced>,
    /// The templates of the segment that was read last, by its name's parts.
    reading: Option<((u64, u8), Templates)>,
    losses: Vec<Loss>,
    /// Files that should be gone and could not be removed, with their lengths.
    doomed: Vec<(String, u64)>,
}

struct Unsynced {
    place: Place,
    frame: Vec<u8>,
}

impl Spool {
    /// Opens the spool below a state directory and finds out what is in it. Nothing is made before the first append.
    pub fn open(state_dir: &Path, settings: &BufferSettings, disk: &dyn Disk) -> Result<(Self, Recovery), SpoolError> {
        let dir = state_dir.join(FOLDER);
        let found =
            survey(&dir, disk).map_err(|error| SpoolError::from_io(&format!("reading {}", dir.display()), &error))?;
        let journals = found.journals.clone();
        let mut spool = Self {
            dir,
            max_bytes: settings.max_bytes,
            max_age_ms: settings.max_age_ms,
            id: found.id,
            streams: found.streams,
            segments: found.segments,
            settled: found.settled,
            journal: Journal::after(journal::ACKNOWLEDGED, found.next_journal, found.journals),
            next: found.next,
            unused_from: found.unused_from,
            encoder: Encoder::default(),
            file: None,
            file_unsynced: false,
            folders_unsynced: Vec::new(),
            unsynced: Vec::new(),
            reading: None,
            losses: Vec::new(),
            doomed: Vec::new(),
        };
        spool.sync_inherited(&journals, disk);
        for (from, to) in found.lost.iter() {
            spool.settle(Settled::Damaged, from, to);
        }
        if found.losses.is_empty() {
            spool.remove_settled(disk);
        } // else the caller hears of it first: it is written down by the next call that writes, and told again if none comes.
        let pending = spool.pending();
        let recovery = Recovery {
            records: pending.records,
            events: pending.events,
            bytes: pending.bytes,
            damaged: found.damaged,
            torn: found.torn,
            newer: found.newer,
            unreadable: found.unreadable,
            losses: found.losses,
            boots: found.boots,
        };
        Ok((spool, recovery))
    }

    /// Appends a record and returns its number. It is certain after the next [`Spool::sync`]. After an error the record is
    /// not in the spool; earlier ones are.
    pub fn append(&mut self, record: &NewRecord<'_>, disk: &dyn Disk) -> Result<u64, SpoolError> {
        self.append_from(record, None, disk)
    }

    /// Appends a record that may be another spool's; `source` tells it from all others (see [`super::export`]).
    pub(super) fn append_from(
        &mut self,
        new: &NewRecord<'_>,
        source: Option<u32>,
        disk: &dyn Disk,
    ) -> Result<u64, SpoolError> {
        let mut meta = describe(new, source.is_some())?;
        if self.unsynced.iter().map(|unsynced| unsynced.frame.len()).sum::<usize>() > UNSYNCED_BYTES_MAX {
            self.sync(disk)?;
        }
        if self.is_homeless() {
            self.find_home(disk)?;
        }
        self.id.get_or_insert_with(|| make_id(new));
        meta.sequence = self.next;
        let frames = loop {
            if self.file.is_none() {
                // Whatever an append that failed left behind is not in the new segment.
                self.encoder.restart();
            }
            let segment_bytes = self.file.as_ref().and(self.segments.last()).map_or(0, |segment| segment.bytes);
            let header_bytes = if self.file.is_none() { wire::SEGMENT_HEADER_BYTES as u64 } else { 0 };
            let Some(frames) = self.encoder.encode(&meta, new, source, segment_bytes + header_bytes) else {
                self.end_segment(disk);
                return Err(SpoolError::TooLarge);
            };
            let bytes = header_bytes + (frames.shapes.len() + frames.record.len()) as u64;
            let full = segment_bytes > 0 && segment_bytes + bytes > self.segment_bytes_max();
            if !full {
                match self.make_room(bytes, disk) {
                    Ok(true) => break frames,
                    Ok(false) if self.file.is_some() => {}
                    failed => {
                        self.end_segment(disk);
                        return Err(failed.err().unwrap_or(SpoolError::TooLarge));
                    }
                }
            }
            self.sync(disk)?;
            self.leave_segment();
        };
        self.write_record(&meta, frames.shapes, frames.record, disk)?;
        self.next += u64::from(meta.events);
        Ok(meta.sequence)
    }

    fn write_record(
        &mut self,
        meta: &RecordMeta,
        shapes: Vec<u8>,
        record: Vec<u8>,
        disk: &dyn Disk,
    ) -> Result<(), SpoolError> {
        let mut out = Vec::new();
        if self.file.is_none() {
            out = self.make_segment(meta.sequence, meta.wall_ms, (shapes.len() + record.len()) as u64, disk)?;
        }
        out.extend_from_slice(&shapes);
        let record_at = out.len();
        out.extend_from_slice(&record);
        if let Err(error) = self.append_bytes(&out) {
            self.end_segment(disk);
            return Err(self.error("writing to", &error));
        }
        let stream = self.streams.number(&meta.key.group, &meta.key.stream);
        let Some(segment) = self.segments.last_mut() else { return Ok(()) };
        let place = Place {
            sequence: meta.sequence,
            events: meta.events,
            stream,
            at: (segment.bytes as usize + record_at) as u32,
            bytes: record.len() as u32,
            billed: meta.billed_bytes as u32,
            confirmed: meta.clock_confirmed,
            first_ms: meta.first_ms,
            last_ms: meta.last_ms,
        };
        let index = segment.index.get_or_insert_default();
        if !shapes.is_empty() {
            index.shapes.push((segment.bytes as u32 + (record_at - shapes.len()) as u32, shapes.len() as u32));
        }
        index.records.push(place);
        segment.add(&place);
        segment.bytes += out.len() as u64;
        self.unsynced.push(Unsynced { place, frame: record });
        Ok(())
    }

    /// Makes everything that was appended certain: content, then names. After an error nothing is lost from memory: the next
    /// call, or the next append, writes it to another file.
    pub fn sync(&mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        if self.is_homeless() {
            self.find_home(disk)?;
        }
        if let Err(first) = self.sync_file() {
            // What the failed sync should have covered may be gone, and a second one would not say so.
            log::warn!("{}; writing the records again", self.error("syncing", &first));
            self.become_homeless(disk);
            self.find_home(disk)?;
            if let Err(error) = self.sync_file() {
                self.become_homeless(disk);
                return Err(self.error("syncing", &error));
            }
        }
        self.sync_folders(disk)?;
        self.unsynced.clear();
        // A hint: what fails here is written again with the next acknowledgement.
        let _ = self.journal.sync(&self.dir, disk);
        Ok(())
    }

    /// What waits.
    pub fn pending(&self) -> Pending {
        let parts = || self.segments.iter().flat_map(|segment| &segment.parts);
        Pending {
            records: parts().map(|part| part.records).sum(),
            events: parts().map(|part| part.events).sum(),
            bytes: self.bytes() + self.kept_bytes(),
            segments: self.segments.len() as u64,
            oldest_ms: parts().map(|part| part.first_ms).min(),
            unsynced_records: self.unsynced.len() as u64,
        }
    }

    /// What waits for each stream, the one with the oldest record first.
    pub fn streams(&self) -> Vec<StreamPending> {
        let mut streams: Vec<StreamPending> = Vec::new();
        for segment in self.segments.iter().filter(|segment| !segment.unreadable) {
            for part in &segment.parts {
                let key = &self.streams.0[part.stream as usize];
                match streams.iter_mut().find(|stream| stream.key == *key) {
                    Some(stream) => {
                        stream.records += part.records;
                        stream.events += part.events;
                        stream.sequence = stream.sequence.min(part.sequence);
                        stream.oldest_ms = stream.oldest_ms.min(part.first_ms);
                    }
                    None => streams.push(StreamPending {
                        key: Rc::clone(key),
                        records: part.records,
                        events: part.events,
                        sequence: part.sequence,
                        oldest_ms: part.first_ms,
                    }),
                }
            }
        }
        streams.sort_by_key(|stream| stream.sequence);
        streams
    }

    /// The oldest records of the stream that has waited longest, merged up to the limits. Only a look: the same call gives
    /// the same records until they are acknowledged. An error says that a segment cannot be read; it is left out until the
    /// next start, and the next call goes on with others.
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

    fn settle_records(&mut self, sequences: &[u64], kind: Settled, disk: &dyn Disk) -> Result<(), SpoolError> {
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
        let oldest_ms = now_ms.saturating_sub_unsigned(self.max_age_ms);
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            if segment.unreadable || segment.ages_ms.is_none_or(|ages_ms| ages_ms >= oldest_ms) {
                continue;
            }
            if self.load_index(at, disk).is_err() {
                self.segments[at].unreadable = true;
                continue;
            }
            let old = self.pending_places(at, |place| place.confirmed && place.last_ms < oldest_ms);
            for place in old {
                self.lose(at, &place, LossReason::MaxAge);
            }
            let rest = self.pending_places(at, |place| place.confirmed);
            self.segments[at].ages_ms = rest.iter().map(|place| place.last_ms).min();
        }
        self.remove_settled(disk);
        self.remove_doomed(disk);
        // An error here comes again, louder, with the next append.
        let _ = self.make_room(0, disk);
        std::mem::take(&mut self.losses)
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

    /// Ends: everything is made certain.
    pub fn close(mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        let synced = self.sync(disk);
        let written = self.write_journal(disk).and_then(|()| self.journal.sync(&self.dir, disk));
        synced.and(written.map_err(|error| self.error("acknowledging in", &error)))
    }

    /// A batch of so many bytes fits without anything being dropped.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.pending().bytes + bytes <= self.max_bytes
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.dir
    }

    /// Hands the bytes of all segments that can be read to `visit`.
    pub(super) fn each_segment(&self, disk: &dyn Disk, visit: &mut dyn FnMut(&[u8])) -> Result<(), SpoolError> {
        for segment in self.segments.iter().filter(|segment| segment.on_disk && !segment.unreadable) {
            let bytes = disk.read_at(&self.dir.join(segment.name()), 0, SEGMENT_READ_MAX);
            visit(&bytes.map_err(|error| self.error("reading", &error))?);
        }
        Ok(())
    }

    /// The record is pending here.
    pub(super) fn is_pending(&self, sequence: u64) -> bool {
        sequence < self.next && !self.settled.contains(sequence)
    }

    /// The spool's id; nothing while nothing was ever written.
    pub fn id(&self) -> Option<[u8; 16]> {
        self.id
    }

    /// The number that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }
}

/// Segments and files.
impl Spool {
    fn error(&self, what: &str, error: &io::Error) -> SpoolError {
        SpoolError::from_io(&format!("{what} {}", self.dir.display()), error)
    }

    fn segment_bytes_max(&self) -> u64 {
        (self.max_bytes / 8).min(SEGMENT_BYTES_MAX)
    }

    /// Bytes of everything that may be removed.
    fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().filter(|segment| !segment.keep).map(|segment| segment.bytes).sum();
        segments + self.journal.bytes() + self.doomed.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    fn kept_bytes(&self) -> u64 {
        self.segments.iter().filter(|segment| segment.keep).map(|segment| segment.bytes).sum()
    }

    /// Makes a file for the segment that begins with a number, and puts it into the list; returns its header.
    fn make_segment(&mut self, first: u64, now_ms: i64, bytes: u64, disk: &dyn Disk) -> Result<Vec<u8>, SpoolError> {
        let id = self.id.unwrap_or_default();
        let attempt =
            self.create_file(first, bytes, disk).map_err(|error| self.error("making a segment in", &error))?;
        let header = SegmentHeader {
            id,
            first,
            unused_from: self.unused_from.min(first),
            settled_below: self.floor().min(first),
            created_ms: now_ms,
        };
        self.segments.push(Segment { first, attempt, on_disk: true, ..Segment::default() });
        Ok(header.encode())
    }

    fn create_file(&mut self, first: u64, bytes: u64, disk: &dyn Disk) -> io::Result<u8> {
        if disk.free_bytes(&self.dir).is_ok_and(|free| free < bytes) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        for attempt in 0..=u8::MAX {
            let path = self.dir.join(segment::name(first, attempt));
            let mut created = disk.create(&path);
            if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                self.make_folder(disk)?;
                created = disk.create(&path);
            }
            match created {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    self.file = Some(file);
                    if !self.folders_unsynced.contains(&self.dir) {
                        self.folders_unsynced.push(self.dir.clone());
                    }
                    return Ok(attempt);
                }
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// Makes the spool's folder and those above it, and notes which folders got a new name.
    fn make_folder(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let missing: Vec<PathBuf> =
            self.dir.ancestors().take_while(|dir| disk.stat(dir).is_err()).map(Path::to_path_buf).collect();
        disk.create_dir(&self.dir)?;
        self.folders_unsynced.extend(missing.iter().filter_map(|dir| dir.parent()).map(Path::to_path_buf));
        Ok(())
    }

    fn append_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.file_unsynced = true;
        file.append(bytes)
    }

    fn sync_file(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file
            && self.file_unsynced
        {
            file.sync()?;
        }
        self.file_unsynced = false;
        Ok(())
    }

    /// A process that was killed may have left in the kernel's memory what no sync of ours would cover.
    fn sync_inherited(&mut self, journals: &[u64], disk: &dyn Disk) {
        let segment = self.segments.iter().rev().find(|segment| !segment.keep).map(Segment::name);
        let names =
            segment.into_iter().chain(journals.last().map(|number| journal::name(journal::ACKNOWLEDGED, *number)));
        for name in names {
            if let Err(error) = disk.sync_file(&self.dir.join(&name)) {
                log::warn!("{}: what the last process wrote may not survive a power cut: {error}", self.dir.display());
            }
            self.folders_unsynced = self.dir.ancestors().take(3).map(Path::to_path_buf).collect();
        }
        self.folders_unsynced.reverse();
        // What fails here is tried again with the next sync.
        let _ = self.sync_folders(disk);
    }

    fn sync_folders(&mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        while let Some(folder) = self.folders_unsynced.last() {
            disk.sync_dir(folder)
                .map_err(|error| SpoolError::from_io(&format!("syncing {}", folder.display()), &error))?;
            self.folders_unsynced.pop();
        }
        Ok(())
    }

    /// The next append makes a new segment.
    fn leave_segment(&mut self) {
        self.file = None;
        self.file_unsynced = false;
        self.encoder.restart();
    }

    /// An append failed: a part of it may be in the file, or templates in memory that are not in the file, so nothing may
    /// follow there.
    fn end_segment(&mut self, disk: &dyn Disk) {
        if self.file.is_none() {
            self.encoder.restart();
        } else if self.segments.last().is_some_and(|segment| segment.index.is_none()) {
            // A new file without a record.
            self.drop_last_file(disk);
            self.leave_segment();
        } else if self.sync_file().is_ok() && self.sync_folders(disk).is_ok() {
            self.unsynced.clear();
            self.leave_segment();
            if let Some(segment) = self.segments.last_mut() {
                segment.bytes = disk.stat(&self.dir.join(segment.name())).map_or(segment.bytes, |stamp| stamp.len);
            }
        } else {
            self.become_homeless(disk);
        }
    }

    fn drop_last_file(&mut self, disk: &dyn Disk) {
        if let Some(segment) = self.segments.pop() {
            self.file = None;
            self.remove_file(segment.name(), segment.bytes, disk);
        }
    }

    /// The last segment's records are in memory only.
    fn is_homeless(&self) -> bool {
        self.segments.last().is_some_and(|segment| !segment.on_disk)
    }

    /// A sync failed: the records that it should have covered move to a segment that is not on disk yet.
    fn become_homeless(&mut self, disk: &dyn Disk) {
        self.file = None;
        self.file_unsynced = false;
        let Some(first) = self.unsynced.first().map(|unsynced| unsynced.place.sequence) else {
            self.encoder.restart();
            return;
        };
        let mut new = Segment { first, index: Some(Index::default()), ..Segment::default() };
        if let Some(old) = self.segments.last_mut() {
            for unsynced in &self.unsynced {
                let place = unsynced.place;
                old.shadowed.insert(place.sequence, place.end());
                if !self.settled.contains(place.sequence) {
                    old.subtract(&place);
                    new.add(&place);
                }
            }
            if let Some(index) = &mut old.index {
                let moved = index.records.split_off(index.records.len().saturating_sub(self.unsynced.len()));
                new.index = Some(Index { records: moved, shapes: Vec::new() });
            }
            if old.index.as_ref().is_some_and(|index| index.records.is_empty()) {
                self.drop_last_file(disk);
            }
        }
        self.segments.push(new);
    }

    /// Writes the records that are in memory only to a new segment, under their numbers and with all their templates.
    fn find_home(&mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        let Some(homeless) = self.segments.pop() else { return Ok(()) };
        self.unsynced.retain(|unsynced| !self.settled.contains(unsynced.place.sequence));
        let Some(first) = self.unsynced.first().map(|unsynced| unsynced.place.sequence) else {
            self.encoder.restart();
            return Ok(());
        };
        let mut out = Vec::new();
        let header_bytes = wire::SEGMENT_HEADER_BYTES as u64;
        let shape = self.encoder.all_templates(first, header_bytes);
        out.extend_from_slice(&shape);
        let mut index = Index::default();
        if !shape.is_empty() {
            index.shapes.push((header_bytes as u32, shape.len() as u32));
        }
        for unsynced in &mut self.unsynced {
            unsynced.place.at = header_bytes as u32 + out.len() as u32;
            out.extend_from_slice(&unsynced.frame);
            index.records.push(unsynced.place);
        }
        let header = match self.make_segment(first, homeless.ages_ms.unwrap_or_default(), out.len() as u64, disk) {
            Ok(header) => header,
            Err(error) => {
                self.segments.push(homeless);
                return Err(error);
            }
        };
        let written = self.append_bytes(&[header, out].concat());
        if let Err(error) = written {
            self.drop_last_file(disk);
            self.file_unsynced = false;
            self.segments.push(homeless);
            return Err(self.error("writing to", &error));
        }
        if let Some(segment) = self.segments.last_mut() {
            (segment.parts, segment.ages_ms) = (homeless.parts, homeless.ages_ms);
            segment.bytes = index.records.last().map_or(0, |place| u64::from(place.at) + u64::from(place.bytes));
            segment.index = Some(index);
        }
        Ok(())
    }

    /// Drops the oldest segments until so many more bytes fit. False: they do not, whatever is dropped.
    fn make_room(&mut self, bytes: u64, disk: &dyn Disk) -> Result<bool, SpoolError> {
        let budget = self.max_bytes.saturating_sub(self.kept_bytes()).max(self.max_bytes / 4);
        while self.bytes() + bytes > budget {
            let written = usize::from(self.file.is_some() || self.is_homeless());
            let candidates = &self.segments[..self.segments.len() - written];
            let Some(at) = candidates.iter().position(|segment| segment.on_disk && !segment.keep) else {
                return Ok(false);
            };
            self.drop_segment(at, disk);
            if !self.doomed.is_empty() {
                return Err(SpoolError::Io(format!("removing from {} fails", self.dir.display())));
            }
        }
        Ok(true)
    }

    fn drop_segment(&mut self, at: usize, disk: &dyn Disk) {
        if self.load_index(at, disk).is_ok() {
            for place in self.pending_places(at, |_| true) {
                self.lose(at, &place, LossReason::MaxBytes);
            }
        }
        // What could not be read is counted from what was known of it.
        for part in std::mem::take(&mut self.segments[at].parts) {
            let key = Some(self.streams.key(part.stream));
            let (events, from_ms, to_ms) = (part.events, part.first_ms, part.last_ms);
            add_loss(&mut self.losses, Loss { reason: LossReason::MaxBytes, key, events, from_ms, to_ms });
        }
        let next = self.segments.get(at + 1).map_or(self.next, |segment| segment.first);
        let lowest = self.segments[at].first;
        if at == 0 && lowest < next {
            self.settle(Settled::MaxBytes, lowest, next);
        }
        self.remove_settled(disk);
    }

    /// Removes the files of segments in which nothing is pending. The journal is made durable first, so that nobody takes
    /// what was delivered for lost; on a full disk the files go first, so that the journal can be written.
    fn remove_settled(&mut self, disk: &dyn Disk) {
        if !self.segments.iter().any(|segment| segment.is_settled() && !segment.keep) {
            let _ = self.write_journal(disk);
            return;
        }
        self.journal.restate();
        let _ = self.write_journal(disk).and_then(|()| self.journal.sync(&self.dir, disk));
        let mut at = 0;
        while at < self.segments.len() {
            if !self.segments[at].is_settled() || self.segments[at].keep {
                at += 1;
                continue;
            }
            if at + 1 == self.segments.len() {
                self.leave_segment();
                self.unsynced.clear();
            }
            let segment = self.segments.remove(at);
            if segment.on_disk {
                self.remove_file(segment.name(), segment.bytes, disk);
            }
        }
        if self.segments.is_empty() {
            self.encoder.rest();
            self.reading = None;
        }
        let floor = self.floor();
        self.settled.insert(0, floor);
        if self.journal.is_waiting() {
            let _ = self.write_journal(disk);
        }
    }

    fn remove_file(&mut self, name: String, bytes: u64, disk: &dyn Disk) {
        match disk.remove(&self.dir.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.doomed.push((name, bytes)),
            _ => {}
        }
    }

    fn remove_doomed(&mut self, disk: &dyn Disk) {
        for (name, bytes) in std::mem::take(&mut self.doomed) {
            self.remove_file(name, bytes, disk);
        }
    }

    /// Everything below is settled.
    fn floor(&self) -> u64 {
        self.segments.iter().map(|segment| segment.first).min().unwrap_or(self.next)
    }
}

/// What is settled, and reading.
impl Spool {
    fn settle(&mut self, kind: Settled, from: u64, to: u64) {
        self.settled.insert(from, to);
        self.journal.note(kind, from, to);
    }

    fn lose(&mut self, at: usize, place: &Place, reason: LossReason) {
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

    fn write_journal(&mut self, disk: &dyn Disk) -> io::Result<()> {
        match self.id {
            Some(id) => self.journal.write(&self.dir, &id, &self.settled, disk),
            None => Ok(()),
        }
    }

    fn pending_places(&self, at: usize, wanted: impl Fn(&Place) -> bool) -> Vec<Place> {
        let records = self.segments[at].index.as_ref().map_or(&[][..], |index| &index.records);
        let pending = records.iter().filter(|place| !self.settled.contains(place.sequence));
        pending.filter(|place| wanted(place)).copied().collect()
    }

    fn load_index(&mut self, at: usize, disk: &dyn Disk) -> io::Result<()> {
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
    fn read_record(&mut self, at: usize, place: &Place, disk: &dyn Disk) -> io::Result<Option<SpoolRecord>> {
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

/// What a new record is about, but for its number.
fn describe(new: &NewRecord<'_>, imported: bool) -> Result<RecordMeta, SpoolError> {
    let events = u32::try_from(new.events.len()).ok().filter(|events| (1..=EVENTS_MAX).contains(events));
    let names_fit = new.key.group.len() <= NAME_BYTES_MAX && new.key.stream.len() <= NAME_BYTES_MAX;
    let (Some(events), true) = (events, names_fit) else { return Err(SpoolError::TooLarge) };
    let times = || new.events.iter().map(|event| event.timestamp_ms);
    Ok(RecordMeta {
        sequence: 0,
        key: Rc::clone(new.key),
        boot_id: new.boot_id,
        monotonic_ms: new.monotonic_ms,
        wall_ms: new.wall_ms,
        events,
        billed_bytes: new.events.iter().map(|event| event.billed_bytes() as u64).sum(),
        first_ms: times().min().unwrap_or(new.wall_ms),
        last_ms: times().max().unwrap_or(new.wall_ms),
        clock_confirmed: new.clock_confirmed,
        imported,
    })
}

/// A spool's id, made with its first record: boot ids are random, and no two records of a boot are at the same place in time
/// on two spools of a machine but by a great accident.
fn make_id(new: &NewRecord<'_>) -> SpoolId {
    let mut id = new.boot_id;
    let salt = (new.monotonic_ms ^ new.wall_ms.cast_unsigned().rotate_left(32)).to_le_bytes();
    id.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    let sum = wire::checksum(new.key.stream.as_bytes()).to_le_bytes();
    id.iter_mut().rev().zip(sum).for_each(|(byte, salt)| *byte ^= salt);
    id
}
