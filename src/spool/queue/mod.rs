//! The spool as the agent holds it.

mod bounds;
mod files;
mod settle;
mod take;

use super::journal::{self, Journal};
use super::segment::{Place, Segment};
use super::streams::{Losses, Streams};
use super::survey::{SEGMENT_READ_MAX, survey};
use super::wire::{self, EVENTS_MAX, NAME_BYTES_MAX, Settled, SpoolId};
use super::writer::Encoder;
use super::{
    Age, FOLDER, NewRecord, Pending, RecordMeta, Recovery, SpoolError, SpoolRecord, StreamPending, boot_checksum, step,
};
use crate::env::{Disk, DiskFile};
use crate::model::Ranges;
use crate::model::settings::BufferSettings;
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
    id: Option<SpoolId>,
    streams: Streams,
    /// With more streams than this, those that nobody refers to any more are forgotten.
    streams_max: usize,
    /// By name; the last one may be being written ([`Spool::file`]) or be in memory only.
    segments: Vec<Segment>,
    /// Bytes of the segments that may be removed, and of the others.
    segment_bytes: u64,
    kept_bytes: u64,
    /// Every segment's pending numbers are below the name of the next one: only forged or mixed-up files are not so.
    in_order: bool,
    /// Where the next look for a batch begins, when the last one ended without.
    look_from: usize,
    settled: Ranges,
    /// Numbers that a body in flight has.
    pinned: Ranges,
    /// Pinned numbers that are not here any more and that nobody was told of yet.
    detached: Ranges,
    /// Numbers that are not here any more and that the caller has not settled yet.
    afloat: Ranges,
    journal: Journal,
    /// The next record's number.
    next: u64,
    /// Numbers from here on are taken.
    end: u64,
    /// Numbers that were never given out, as every segment of this process says.
    unused: (u64, u64),
    encoder: Encoder,
    /// The last segment, while it may be appended to.
    file: Option<Box<dyn DiskFile>>,
    file_unsynced: bool,
    /// Folders with names in them that no sync has covered.
    folders_unsynced: Vec<PathBuf>,
    /// Records that no sync has covered, in order.
    unsynced: Vec<Unsynced>,
    unsynced_bytes: usize,
    /// The record that was decoded last, whole: several bodies are cut from a large one.
    decoded: Option<((u64, u8), u32, SpoolRecord)>,
    losses: Losses,
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
            id: found.id,
            streams: found.streams,
            streams_max: 0,
            segment_bytes: bytes_of(&found.segments, false),
            kept_bytes: bytes_of(&found.segments, true),
            in_order: in_order(&found.segments),
            segments: found.segments,
            look_from: 0,
            settled: found.settled,
            pinned: Ranges::default(),
            detached: Ranges::default(),
            afloat: Ranges::default(),
            journal: Journal::after(journal::ACKNOWLEDGED, found.next_journal, found.journals),
            next: found.next,
            end: found.end,
            unused: (found.unused_from, found.next),
            encoder: Encoder::default(),
            file: None,
            file_unsynced: false,
            folders_unsynced: Vec::new(),
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            decoded: None,
            losses: Losses::default(),
            doomed: Vec::new(),
        };
        spool.sync_inherited(&journals, disk);
        for (from, to) in found.lost.iter() {
            spool.note_settled(Settled::Damaged, from, to);
        }
        spool.forget_streams();
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
        let mut meta = describe(new, self.next, source.is_some())?;
        if self.unsynced_bytes > UNSYNCED_BYTES_MAX {
            self.sync(disk)?;
        }
        if self.is_homeless() {
            self.find_home(disk)?;
        }
        self.id.get_or_insert_with(|| make_id(new));
        meta.sequence = self.next;
        if u64::from(meta.events) > self.end - self.next {
            return Err(SpoolError::Io(format!("{}: no numbers are left: empty the folder", self.dir.display())));
        }
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
        self.forget_streams();
        let stream = self.streams.number(&meta.key.group, &meta.key.stream);
        let Some(segment) = self.segments.last_mut() else { return Ok(()) };
        let place = Place {
            sequence: meta.sequence,
            events: meta.events,
            from: meta.sequence,
            to: meta.sequence + u64::from(meta.events),
            stream,
            at: (segment.bytes as usize + record_at) as u32,
            bytes: record.len() as u32,
            billed: meta.billed_bytes as u32,
            age: Age {
                sequence: meta.sequence,
                boot: boot_checksum(&meta.boot_id),
                monotonic_ms: meta.monotonic_ms,
                confirmed: meta.clock_confirmed,
                first_ms: meta.first_ms,
                last_ms: meta.last_ms,
            },
        };
        let index = segment.index.get_or_insert_default();
        if !shapes.is_empty() {
            index.shapes.push((segment.bytes as u32 + (record_at - shapes.len()) as u32, shapes.len() as u32));
        }
        index.push(place);
        segment.add(&place);
        segment.bytes += out.len() as u64;
        self.segment_bytes += out.len() as u64;
        self.unsynced_bytes += record.len();
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
        self.forget_frames();
        // A hint: what fails here is written again with the next acknowledgement.
        let _ = self.journal.sync(&self.dir, disk);
        Ok(())
    }

    /// What waits.
    pub fn pending(&self) -> Pending {
        let mut pending = Pending {
            bytes: self.bytes() + self.kept_bytes,
            segments: self.segments.len() as u64,
            unsynced_records: self.unsynced.len() as u64,
            ..Pending::default()
        };
        for segment in self.segments.iter().filter(|segment| segment.events > 0) {
            pending.records += segment.records;
            pending.events += segment.events;
            let oldest_ms = pending.oldest_ms.into_iter().chain(segment.oldest_ms);
            pending.oldest_ms = oldest_ms.min();
        }
        pending
    }

    /// What waits for each stream, the one with the oldest record first.
    pub fn streams(&self) -> Vec<StreamPending> {
        let mut streams: Vec<StreamPending> = Vec::new();
        let mut places = vec![u32::MAX; self.streams.len()];
        for segment in self.segments.iter().filter(|segment| !segment.unreadable) {
            for part in segment.parts.iter().filter(|part| part.events > 0) {
                step();
                let place = &mut places[part.stream as usize];
                match streams.get_mut(*place as usize) {
                    Some(stream) => {
                        stream.records += part.records;
                        stream.events += part.events;
                        stream.sequence = stream.sequence.min(part.sequence);
                        stream.oldest_ms = stream.oldest_ms.min(part.first_ms);
                    }
                    None => {
                        *place = streams.len() as u32;
                        streams.push(StreamPending {
                            key: Rc::clone(self.streams.key(part.stream)),
                            records: part.records,
                            events: part.events,
                            sequence: part.sequence,
                            oldest_ms: part.first_ms,
                        });
                    }
                }
            }
        }
        streams.sort_by_key(|stream| stream.sequence);
        streams
    }

    /// Ends: everything is made certain.
    pub fn close(mut self, disk: &dyn Disk) -> Result<(), SpoolError> {
        let synced = self.sync(disk);
        let written = self.write_journal(disk).and_then(|()| self.journal.sync(&self.dir, disk));
        synced.and(written.map_err(|error| self.error("acknowledging in", &error)))
    }

    /// A batch of so many bytes fits without anything being dropped.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.bytes() + self.kept_bytes + bytes <= self.max_bytes
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

    /// What of these numbers of our own was settled, so that it is not here.
    pub(super) fn settled_of(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut settled = self.settled.overlap(from, to.min(self.next));
        settled.extend((to > self.next).then_some((from.max(self.next), to)));
        settled
    }

    /// How many names of streams are held in memory, for tests.
    #[cfg(debug_assertions)]
    pub fn known_streams(&self) -> usize {
        self.streams.len()
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

/// Bytes of the segments that may be removed, or of those that are kept.
fn bytes_of(segments: &[Segment], keep: bool) -> u64 {
    segments.iter().filter(|segment| segment.keep == keep).map(|segment| segment.bytes).sum()
}

/// Every segment's pending numbers lie between its name and the next one's.
fn in_order(segments: &[Segment]) -> bool {
    let above = |segment: &Segment| segment.lowest() == segment.first;
    segments.iter().all(above) && segments.windows(2).all(|pair| pair[0].pending.end() <= pair[1].first)
}

/// What a new record is about.
pub fn describe(new: &NewRecord<'_>, sequence: u64, imported: bool) -> Result<RecordMeta, SpoolError> {
    let events = u32::try_from(new.events.len()).ok().filter(|events| (1..=EVENTS_MAX).contains(events));
    let names_fit = new.key.group.len() <= NAME_BYTES_MAX && new.key.stream.len() <= NAME_BYTES_MAX;
    let (Some(events), true) = (events, names_fit) else { return Err(SpoolError::TooLarge) };
    let times = || new.events.iter().map(|event| event.timestamp_ms);
    Ok(RecordMeta {
        sequence,
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
