//! Files that carry events where no link goes: written from a spool, read or imported elsewhere.
//!
//! A file is checksummed, says whose it is and is the same on every processor. Exporting copies, so an interrupted export is
//! simply begun again. Importing goes block by block and knows from the other spool's id and numbers what it has already taken: an
//! interrupted import goes on where it was, and a second one takes nothing.

use super::decode::{decode_frame, take_shapes};
use super::frame::{FLAG_IMPORTED, Kind, Piece, Pieces};
use super::journal::{self, Journal, Read};
use super::queue::describe;
use super::reader;
use super::streams::Streams;
use super::survey::{SEGMENT_READ_MAX, index};
use super::table::Tables;
use super::wire::{self, FileStart, SEGMENT_HEADER_BYTES, SegmentHeader, Settled, SpoolId};
use super::writer::Encoder;
use super::{FOLDER, NewRecord, RecordMeta, Spool, SpoolError, SpoolRecord};
use crate::env::{Disk, DiskFile};
use crate::model::Event;
use crate::model::Ranges;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

const FILE_MAGIC: [u8; 8] = *b"PWEXP\r\n\x1a";
const BLOCK_MAGIC: [u8; 8] = *b"PWBLK\r\n\x1a";
const END_MAGIC: [u8; 8] = *b"PWEND\r\n\x1a";
const FILE_HEADER_BYTES: usize = 48;
const BLOCK_HEADER_BYTES: usize = 16;
const END_BYTES: usize = 32;
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Which pending records are exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Records with an event at or after this time.
    pub since_ms: Option<i64>,
    /// Records with an event at or before this time.
    pub until_ms: Option<i64>,
    /// This log group.
    pub group: Option<String>,
    /// This log stream.
    pub stream: Option<String>,
}

impl Filter {
    /// Whether a record is meant.
    pub fn takes(&self, record: &SpoolRecord) -> bool {
        self.since_ms.is_none_or(|ms| record.meta.last_ms >= ms)
            && self.until_ms.is_none_or(|ms| record.meta.first_ms <= ms)
            && self.group.as_ref().is_none_or(|group| *group == record.meta.key.group)
            && self.stream.as_ref().is_none_or(|stream| *stream == record.meta.key.stream)
    }
}

/// What was exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records. What is pending of a record in several pieces is so many records in the file.
    pub records: u64,
    /// Events.
    pub events: u64,
    /// Their numbers: to be settled as [`super::Outcome::Exported`] when they shall go, once the file is safe.
    pub numbers: Ranges,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What a file holds, or what was imported from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReport {
    /// The spool that it comes from.
    pub id: SpoolId,
    /// Records that could be read, or were imported.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// Records that an earlier import had taken.
    pub already: u64,
    /// Damaged places that were skipped.
    pub damaged: u64,
    /// The end is missing.
    pub cut: bool,
}

/// Copies pending records into a new file and makes it durable. The agent may be running. `progress` is told the events so far.
pub fn export(
    state_dir: &Path,
    file: &Path,
    filter: &Filter,
    now_ms: i64,
    disk: &dyn Disk,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported, SpoolError> {
    let error = |what: &str, error: &io::Error| SpoolError::from_io(&format!("{what} {}", file.display()), error);
    if disk.stat(file).is_ok() {
        return Err(error("writing", &io::Error::from(io::ErrorKind::AlreadyExists)));
    }
    let dir = state_dir.join(FOLDER);
    // What is exported must not vanish with a power cut here, its numbers to be used again.
    for entry in disk.list(&dir).unwrap_or_default() {
        let _ = disk.sync_file(&dir.join(&entry.name));
    }
    let _ = disk.sync_dir(&dir);
    let part = PathBuf::from(format!("{}.part", file.display()));
    match disk.remove(&part) {
        Err(trouble) if trouble.kind() != io::ErrorKind::NotFound => return Err(error("replacing", &trouble)),
        _ => {}
    }
    let id = reader::id(state_dir, disk).map_err(|trouble| error("exporting to", &trouble))?.unwrap_or_default();
    let mut writer = Writer {
        file: disk.create(&part).map_err(|trouble| error("writing", &trouble))?,
        id,
        encoder: Encoder::default(),
        block: Vec::new(),
        exported: Exported::default(),
    };
    let mut written = writer.begin(now_ms);
    reader::read(state_dir, disk, &mut |record| {
        if filter.takes(record) && written.is_ok() {
            written = writer.add_pending(record, now_ms);
            progress(writer.exported.events);
        }
        written.is_ok()
    })
    .map_err(|trouble| error("exporting to", &trouble))?;
    let finished = written.and_then(|()| writer.finish()).and_then(|exported| {
        disk.rename(&part, file)?;
        disk.sync_dir(file.parent().unwrap_or(Path::new(".")))?;
        Ok(exported)
    });
    finished.map_err(|trouble| {
        let _ = disk.remove(&part);
        error("writing", &trouble)
    })
}

struct Writer {
    file: Box<dyn DiskFile>,
    id: SpoolId,
    encoder: Encoder,
    block: Vec<u8>,
    exported: Exported,
}

impl Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.exported.bytes += bytes.len() as u64;
        self.file.append(bytes)
    }

    fn begin(&mut self, now_ms: i64) -> io::Result<()> {
        let mut out = FILE_MAGIC.to_vec();
        out.extend_from_slice(&u16::from(wire::VERSION).to_le_bytes());
        out.extend_from_slice(&(FILE_HEADER_BYTES as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&now_ms.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        seal(&mut out);
        self.write(&out)
    }

    /// A record of its own for each piece that is pending, so that every event keeps its number.
    fn add_pending(&mut self, record: &SpoolRecord, now_ms: i64) -> io::Result<()> {
        let mut events = &record.events[..];
        for (from, to) in record.pending.iter() {
            let (piece, rest) = events.split_at(((to - from) as usize).min(events.len()));
            events = rest;
            let new = again(&record.meta, piece);
            let meta = describe(&new, from, record.meta.imported);
            // A record that was in a spool fits into a frame.
            self.add(&meta.map_err(|_| io::ErrorKind::InvalidData)?, &new, now_ms)?;
        }
        Ok(())
    }

    fn add(&mut self, meta: &RecordMeta, new: &NewRecord<'_>, now_ms: i64) -> io::Result<()> {
        if self.block.len() >= BLOCK_BYTES_MAX {
            self.end_block()?;
        }
        if self.block.is_empty() {
            self.encoder.restart();
            let first = meta.sequence;
            let (unused_from, unused_to, created_ms) = (first, first, now_ms);
            let header = SegmentHeader { id: self.id, first, unused_from, unused_to, settled_below: 0, created_ms };
            self.block = header.encode();
        }
        let frames = self.encoder.encode(meta, new, None, self.block.len() as u64);
        let frames = frames.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        self.block.extend_from_slice(&frames.shapes);
        self.block.extend_from_slice(&frames.record);
        self.exported.events += u64::from(meta.events);
        self.exported.records += 1;
        self.exported.numbers.insert(meta.sequence, meta.sequence + u64::from(meta.events));
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        if block.is_empty() {
            return Ok(());
        }
        let mut head = BLOCK_MAGIC.to_vec();
        head.extend_from_slice(&(block.len() as u32).to_le_bytes());
        seal(&mut head);
        self.write(&head)?;
        self.write(&block)
    }

    fn finish(mut self) -> io::Result<Exported> {
        self.end_block()?;
        let mut end = END_MAGIC.to_vec();
        end.extend_from_slice(&self.exported.records.to_le_bytes());
        end.extend_from_slice(&self.exported.events.to_le_bytes());
        end.extend_from_slice(&[0; 4]);
        seal(&mut end);
        self.write(&end)?;
        self.file.sync()?;
        Ok(self.exported)
    }
}

/// Appends the checksum of what is there.
fn seal(out: &mut Vec<u8>) {
    let sum = wire::checksum(out);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// The content of a piece with its checksum at the end; nothing when it does not fit.
fn sealed(bytes: &[u8], magic: [u8; 8]) -> Option<&[u8]> {
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (content.starts_with(&magic) && wire::checksum(content).to_le_bytes() == sum).then_some(content)
}

/// A block or what stands in its place.
enum Next {
    Block(Vec<u8>),
    End,
    /// Something without a head, up to the next one: a block's records may still be in it.
    Damaged(Vec<u8>),
    /// The file ends.
    Cut,
}

/// Goes through a file, a block in memory at a time.
struct Blocks<'a> {
    file: &'a Path,
    at: u64,
    disk: &'a dyn Disk,
}

impl<'a> Blocks<'a> {
    fn open(file: &'a Path, disk: &'a dyn Disk) -> io::Result<(Self, SpoolId)> {
        let header = disk.read_at(file, 0, FILE_HEADER_BYTES)?;
        let version = |header: &[u8]| u16::from_le_bytes([header[8], header[9]]);
        let known = sealed(&header, FILE_MAGIC).filter(|_| {
            header.len() == FILE_HEADER_BYTES && (1..=u16::from(wire::VERSION)).contains(&version(&header))
        });
        let Some(content) = known else {
            let text = "not an export of this or an earlier version, or its first bytes are damaged";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        let mut id = SpoolId::default();
        id.copy_from_slice(&content[16..32]);
        Ok((Self { file, at: FILE_HEADER_BYTES as u64, disk }, id))
    }

    fn next(&mut self) -> io::Result<Next> {
        let head = self.disk.read_at(self.file, self.at, END_BYTES)?;
        if sealed(&head, END_MAGIC).is_some() {
            return Ok(Next::End);
        }
        let block = head.get(..BLOCK_HEADER_BYTES).and_then(|head| sealed(head, BLOCK_MAGIC));
        if let Some(len) = block.and_then(|head| <[u8; 4]>::try_from(&head[8..12]).ok()).map(u32::from_le_bytes) {
            let len = (len as usize).min(SEGMENT_READ_MAX);
            let bytes = self.disk.read_at(self.file, self.at + BLOCK_HEADER_BYTES as u64, len)?;
            self.at += (BLOCK_HEADER_BYTES + bytes.len()) as u64;
            return Ok(Next::Block(bytes));
        }
        let mut bytes = self.disk.read_at(self.file, self.at, SEGMENT_READ_MAX)?;
        if bytes.is_empty() {
            return Ok(Next::Cut);
        }
        let heads = bytes.windows(8).skip(1);
        let next =
            heads.enumerate().find(|(_, bytes)| *bytes == BLOCK_MAGIC || *bytes == END_MAGIC).map(|(at, _)| at + 1);
        bytes.truncate(next.unwrap_or(bytes.len()));
        self.at += bytes.len() as u64;
        Ok(Next::Damaged(bytes))
    }
}

/// Reads all records of a file in order and hands them to `visit`, until it returns false.
pub fn read(
    file: &Path,
    disk: &dyn Disk,
    visit: &mut dyn FnMut(&SpoolRecord) -> bool,
) -> Result<FileReport, SpoolError> {
    let mut going = true;
    each_block(file, disk, &mut |_, records| {
        for record in records {
            going = going && visit(record);
        }
        Ok((records.len() as u64, 0))
    })
}

/// What is done with a block's records: how many were taken, and how many had been before.
type OnBlock<'a> = dyn FnMut(&SpoolId, &[SpoolRecord]) -> Result<(u64, u64), SpoolError> + 'a;

fn each_block(file: &Path, disk: &dyn Disk, on_block: &mut OnBlock<'_>) -> Result<FileReport, SpoolError> {
    let error = |error: io::Error| SpoolError::from_io(&format!("reading {}", file.display()), &error);
    let (mut blocks, id) = Blocks::open(file, disk).map_err(error)?;
    let mut report = FileReport { id, ..FileReport::default() };
    loop {
        let bytes = match blocks.next().map_err(error)? {
            Next::Block(bytes) => bytes,
            Next::End => return Ok(report),
            Next::Damaged(bytes) => {
                report.damaged += 1;
                bytes
            }
            Next::Cut => {
                report.cut = true;
                return Ok(report);
            }
        };
        let records = block_records(&bytes, &mut report);
        let (taken, already) = on_block(&id, &records)?;
        report.records += taken;
        report.already += already;
        report.events += records.iter().map(|record| record.events.len() as u64).sum::<u64>();
    }
}

fn block_records(bytes: &[u8], report: &mut FileReport) -> Vec<SpoolRecord> {
    let mut streams = Streams::default();
    let start = if matches!(SegmentHeader::decode(bytes), FileStart::Known(_)) { SEGMENT_HEADER_BYTES } else { 0 };
    let skipped = Pieces::new(bytes, start).filter(|piece| !matches!(piece, Piece::Frame { .. })).count();
    report.damaged += skipped as u64;
    let index = index(bytes, &Ranges::of(vec![(0, u64::MAX)]), &mut streams);
    let piece = |at: u32, len: u32| bytes.get(at as usize..(at + len) as usize).unwrap_or_default();
    let mut tables = Tables::default();
    for (at, len) in &index.shapes {
        take_shapes(piece(*at, *len), &mut tables);
    }
    let mut records = Vec::with_capacity(index.records.len());
    for place in &index.records {
        match decode_frame(piece(place.at, place.bytes), place, &tables, streams.key(place.stream)) {
            Some(record) => records.push(record.only(&[(place.from, place.to)])),
            None => report.damaged += 1,
        }
    }
    records
}

/// What a record says of its scrape, for some of its events.
fn again<'a>(meta: &'a RecordMeta, events: &'a [Event]) -> NewRecord<'a> {
    NewRecord {
        key: &meta.key,
        boot_id: meta.boot_id,
        monotonic_ms: meta.monotonic_ms,
        wall_ms: meta.wall_ms,
        clock_confirmed: meta.clock_confirmed,
        events,
    }
}

/// Tells a record from all others of all spools, but for an accident in four billion.
fn source(id: &SpoolId, sequence: u64) -> u32 {
    let mut bytes = id.to_vec();
    bytes.extend_from_slice(&sequence.to_le_bytes());
    wire::checksum(&bytes)
}

impl Spool {
    /// Takes in the records of a file that this spool does not have and has not taken before. Nothing is dropped for them: when the
    /// spool is full, it ends with [`SpoolError::NoSpace`] and can be called again later.
    pub fn import(
        &mut self,
        file: &Path,
        disk: &dyn Disk,
        progress: &mut dyn FnMut(u64),
    ) -> Result<FileReport, SpoolError> {
        let (_, id) = Blocks::open(file, disk)
            .map_err(|error| SpoolError::from_io(&format!("reading {}", file.display()), &error))?;
        let (mut journal, mut imported) = self.import_journal(&id, disk);
        // What an interrupted import appended and did not note; nothing of it can have been delivered in between.
        let mut unnoted = BTreeSet::new();
        self.each_segment(disk, &mut |bytes| {
            for piece in Pieces::new(bytes, 0) {
                if let Piece::Frame { header, .. } = piece
                    && header.kind == Kind::Record
                    && header.flags & FLAG_IMPORTED != 0
                {
                    unnoted.insert(header.source);
                }
            }
        })?;
        let mut events = 0;
        each_block(file, disk, &mut |id, records| {
            let (mut taken, mut already, mut result) = (0, 0, Ok(()));
            for record in records {
                let wanted = self.wanted(id, record, &imported);
                already += u64::from(wanted.is_empty());
                let mut new = false;
                for (from, to) in wanted {
                    if !unnoted.contains(&source(id, from)) {
                        result = self.import_record(id, &record.only(&[(from, to)]), from, disk);
                        if result.is_err() {
                            break;
                        }
                        new = true;
                    }
                    imported.insert(from, to);
                    journal.note(Settled::Merged, from, to);
                }
                taken += u64::from(new);
                if result.is_err() {
                    break;
                }
                for (from, to) in record.pending.iter() {
                    imported.insert(from, to);
                    journal.note(Settled::Merged, from, to);
                }
                events += record.events.len() as u64;
                progress(events);
            }
            // What was taken is noted, whatever stopped the rest: it may be delivered before the next try.
            self.sync(disk)?;
            let folder = self.folder().to_path_buf();
            journal
                .write(&folder, id, &imported, disk)
                .and_then(|()| journal.sync(&folder, disk))
                .map_err(|error| SpoolError::from_io("noting what was imported", &error))?;
            result.map(|()| (taken, already))
        })
    }

    /// What of a record was neither imported before nor is pending here because it is our own.
    fn wanted(&self, id: &SpoolId, record: &SpoolRecord, imported: &Ranges) -> Vec<(u64, u64)> {
        let mut wanted: Vec<_> = record.pending.iter().flat_map(|(from, to)| imported.missing(from, to)).collect();
        if self.id() == Some(*id) {
            wanted = wanted.into_iter().flat_map(|(from, to)| self.settled_of(from, to)).collect();
        }
        wanted
    }

    fn import_record(
        &mut self,
        id: &SpoolId,
        record: &SpoolRecord,
        sequence: u64,
        disk: &dyn Disk,
    ) -> Result<(), SpoolError> {
        let new = again(&record.meta, &record.events);
        // Compressed it is smaller; a shape and headers come on top.
        let billed: u64 = record.events.iter().map(|event| event.billed_bytes() as u64).sum();
        if !self.has_room(billed + (16 << 10)) {
            return Err(SpoolError::NoSpace(
                "the buffer is full: nothing more is imported until it has drained".into(),
            ));
        }
        self.append_from(&new, Some(source(id, sequence)), disk).map(drop)
    }

    /// The journal of what was imported from a spool, and what the earlier ones say.
    fn import_journal(&self, id: &SpoolId, disk: &dyn Disk) -> (Journal, Ranges) {
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let prefix = format!("imports-{hex}-");
        let (mut imported, mut numbers) = (Ranges::default(), Vec::new());
        for entry in disk.list(self.folder()).unwrap_or_default() {
            let Some(number) = journal::parse_name(&prefix, &entry.name) else { continue };
            numbers.push(number);
            if let Ok(bytes) = disk.read(&self.folder().join(&entry.name), journal::READ_BYTES_MAX)
                && let (Read::Settled(settled, _), _) = journal::read(&bytes, Some(*id))
            {
                imported.add(&settled);
            }
        }
        let next = journal::next_number(&numbers);
        (Journal::after(&prefix, next, numbers), imported)
    }
}
