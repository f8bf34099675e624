//! What lies in a spool's folder: read once at the start, and by the commands that only look.

use super::journal::{self, Read};
use super::ranges::Ranges;
use super::segment::{self, Index, Place, Segment};
use super::wire::{
    FileStart, FrameHeader, Kind, Piece, Pieces, SEGMENT_HEADER_BYTES, SEQUENCE_MAX, SegmentHeader, SpoolId,
};
use super::{Boot, Instants, Loss, LossReason};
use crate::env::Disk;
use crate::model::StreamKey;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// The longest segment that is read; ours are at most 1 MiB and a record.
pub const SEGMENT_READ_MAX: usize = 12 << 20;
/// How far new numbers keep away from what cannot be read.
const JUMP: u64 = 1 << 32;

/// Streams by number, so that records need not hold their names.
#[derive(Clone, Debug, Default)]
pub struct Streams(pub Vec<Rc<StreamKey>>);

impl Streams {
    /// The number of a stream, new ones included.
    pub fn number(&mut self, group: &str, stream: &str) -> u32 {
        let known = self.0.iter().rposition(|key| key.group == group && key.stream == stream);
        known.unwrap_or_else(|| {
            self.0.push(Rc::new(StreamKey { group: group.to_owned(), stream: stream.to_owned() }));
            self.0.len() - 1
        }) as u32
    }

    /// A stream by its number.
    pub fn key(&self, number: u32) -> Rc<StreamKey> {
        Rc::clone(&self.0[number as usize])
    }
}

/// What was found.
#[derive(Default)]
pub struct Survey {
    pub id: Option<SpoolId>,
    pub streams: Streams,
    /// In the order of their names.
    pub segments: Vec<Segment>,
    pub settled: Ranges,
    /// Journals of this version, in order.
    pub journals: Vec<u64>,
    pub next_journal: u64,
    /// Where new numbers begin.
    pub next: u64,
    /// Numbers from here to `next` were never given out.
    pub unused_from: u64,
    pub damaged: u64,
    pub torn: u64,
    pub newer: u64,
    pub unreadable: u64,
    /// Numbers that were given out and are neither there nor settled.
    pub lost: Ranges,
    pub losses: Vec<Loss>,
    pub boots: Vec<Boot>,
    pub journal_bytes: u64,
    seen: Ranges,
    /// Numbers that may be in files that cannot be read, or were never given out.
    excused: Ranges,
    boot_spans: Vec<(Boot, u64, u64, u64)>,
    edges: Vec<Edge>,
    damaged_records: Vec<DamagedRecord>,
}

/// A record beside which others may be missing.
struct Edge {
    number: u64,
    stream: u32,
    ms: i64,
}

/// A record of which only the header is left.
struct DamagedRecord {
    from: u64,
    to: u64,
    stream: u32,
    first_ms: i64,
    last_ms: i64,
}

/// Looks through the folder; one that does not exist is empty.
pub fn survey(dir: &Path, disk: &dyn Disk) -> io::Result<Survey> {
    let mut found = Survey::default();
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    let mut journals = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.stamp.is_dir) {
        if let Some((first, attempt)) = segment::parse_name(&entry.name).filter(|(first, _)| *first < SEQUENCE_MAX) {
            let bytes = entry.stamp.len;
            found.segments.push(Segment { first, attempt, bytes, on_disk: true, ..Segment::default() });
        } else if let Some(number) =
            journal::parse_name(journal::ACKNOWLEDGED, &entry.name).filter(|number| *number < SEQUENCE_MAX)
        {
            journals.push(number);
            found.journal_bytes += entry.stamp.len;
        }
    }
    found.segments.sort_by_key(|segment| (segment.first, segment.attempt));
    found.find_id(dir, disk);
    found.read_journals(&journals, dir, disk);
    let journal_known = !found.settled.is_empty();
    let mut segments = std::mem::take(&mut found.segments);
    let mut header_known = false;
    // From the newest, so that a record that was written again counts in its later segment.
    for segment in segments.iter_mut().rev() {
        header_known |= found.read_segment(segment, dir, disk);
    }
    segments.retain(|segment| segment.on_disk);
    found.segments = segments;
    found.finish(journal_known, header_known);
    Ok(found)
}

impl Survey {
    fn find_id(&mut self, dir: &Path, disk: &dyn Disk) {
        self.id = self.segments.iter().rev().find_map(|segment| {
            let start = disk.read_at(&dir.join(segment.name()), 0, SEGMENT_HEADER_BYTES).ok()?;
            match SegmentHeader::decode(&start) {
                FileStart::Known(header) => Some(header.id),
                _ => None,
            }
        });
    }

    fn read_journals(&mut self, numbers: &[u64], dir: &Path, disk: &dyn Disk) {
        for number in numbers.iter().rev() {
            self.next_journal = self.next_journal.max(number + 1);
            match disk.read(&dir.join(journal::name(journal::ACKNOWLEDGED, *number)), journal::READ_BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => self.unreadable += 1,
                Ok(bytes) => match journal::read(&bytes, self.id) {
                    (Read::Newer, _) => self.newer += 1,
                    (Read::Settled(settled), own) => {
                        self.id = self.id.or(own);
                        self.journals.push(*number);
                        settled.iter().for_each(|(from, to)| self.settled.insert(from, to));
                    }
                },
            }
        }
        self.journals.reverse();
    }

    /// Reads a segment; whether its header is sound.
    fn read_segment(&mut self, segment: &mut Segment, dir: &Path, disk: &dyn Disk) -> bool {
        let bytes = match disk.read_at(&dir.join(segment.name()), 0, SEGMENT_READ_MAX) {
            Ok(bytes) => bytes,
            Err(error) => {
                // Gone: the agent removed it while we were looking.
                segment.on_disk = error.kind() != io::ErrorKind::NotFound;
                (segment.keep, segment.unreadable) = (true, true);
                self.unreadable += u64::from(segment.on_disk);
                return false;
            }
        };
        segment.bytes = bytes.len() as u64;
        let (start, known) = match SegmentHeader::decode(&bytes) {
            FileStart::Known(header) if self.id.is_none_or(|id| id == header.id) => {
                self.settled.insert(0, header.settled_below);
                self.excused.insert(header.unused_from, header.first);
                (SEGMENT_HEADER_BYTES, true)
            }
            FileStart::Known(_) => {
                (segment.keep, segment.unreadable) = (true, true);
                self.unreadable += 1;
                return false;
            }
            FileStart::Newer => {
                (segment.keep, segment.unreadable) = (true, true);
                self.newer += 1;
                return false;
            }
            FileStart::Damaged => (0, false),
        };
        self.torn += u64::from(bytes.is_empty());
        let newer_before = segment.keep;
        let mut before: Option<Edge> = None;
        for piece in Pieces::new(&bytes, start) {
            match piece {
                Piece::Frame { at, header, .. } if header.kind == Kind::Record => {
                    let stream = self.streams.number(header.group, header.stream);
                    let place = Place::new(&header, at, stream);
                    if before.as_ref().is_none_or(|before| before.number != place.sequence) {
                        self.edges.extend(before.take());
                        self.edges.push(Edge { number: place.sequence, stream, ms: place.first_ms });
                    }
                    before = Some(Edge { number: place.end(), stream, ms: place.last_ms });
                    self.take_record(segment, &place, &header);
                }
                Piece::Frame { .. } => {}
                Piece::DamagedBody { header, torn } => {
                    *(if torn { &mut self.torn } else { &mut self.damaged }) += 1;
                    if header.kind == Kind::Record {
                        let stream = self.streams.number(header.group, header.stream);
                        let (from, to) = (header.sequence, header.sequence + u64::from(header.count));
                        let (first_ms, last_ms) = (header.first_ms, header.last_ms);
                        self.damaged_records.push(DamagedRecord { from, to, stream, first_ms, last_ms });
                    }
                }
                Piece::Newer => segment.keep = true,
                Piece::Damaged => self.damaged += 1,
                Piece::Torn => self.torn += 1,
            }
        }
        self.edges.extend(before);
        self.newer += u64::from(segment.keep && !newer_before);
        known
    }

    fn take_record(&mut self, segment: &mut Segment, place: &Place, header: &FrameHeader<'_>) {
        let (from, to) = (place.sequence, place.end());
        if self.seen.missing(from, to) != [(from, to)] {
            segment.shadowed.insert(from, to);
            return;
        }
        self.seen.insert(from, to);
        let now = Instants { monotonic_ms: header.monotonic_ms, wall_ms: header.wall_ms };
        let confirmed = place.confirmed.then_some(now);
        match self.boot_spans.iter_mut().find(|(boot, ..)| boot.boot_id == header.boot_id) {
            Some((boot, first, last, last_confirmed)) => {
                if from < *first {
                    (*first, boot.first) = (from, now);
                }
                if from >= *last {
                    (*last, boot.last) = (from, now);
                }
                if place.confirmed && (from >= *last_confirmed || boot.confirmed.is_none()) {
                    (*last_confirmed, boot.confirmed) = (from, confirmed);
                }
            }
            None => {
                let boot = Boot { boot_id: header.boot_id, first: now, last: now, confirmed };
                self.boot_spans.push((boot, from, from, from));
            }
        }
        if !self.settled.contains(from) {
            segment.add(place);
        }
    }

    /// Works out where numbers begin and what is lost.
    fn finish(&mut self, journal_known: bool, header_known: bool) {
        self.boot_spans.sort_by_key(|(_, first, ..)| *first);
        self.boots = self.boot_spans.drain(..).map(|(boot, ..)| boot).collect();

        let names_end = self.segments.last().map_or(0, |segment| segment.first);
        let damaged_end = self.damaged_records.iter().map(|record| record.to).max().unwrap_or(0);
        let highest = names_end.max(damaged_end).max(self.seen.end()).max(self.settled.end());
        self.unused_from = highest;
        self.next = if self.unreadable + self.newer > 0 { highest + JUMP } else { highest };

        for (at, segment) in self.segments.iter().enumerate().filter(|(_, segment)| segment.keep) {
            let end = self.segments.get(at + 1).map_or(highest, |after| after.first);
            self.excused.insert(segment.first, end);
        }
        let mut accounted = self.excused.clone();
        for (from, to) in self.seen.iter().chain(self.settled.iter()) {
            accounted.insert(from, to);
        }
        // Without any journal nobody knows whether what lay below the first segment was delivered.
        let lowest = self.segments.first().map_or(highest, |segment| segment.first);
        let from = if journal_known && header_known || lowest == 0 { 0 } else { lowest };
        for (from, to) in accounted.missing(from, highest) {
            if to - from < JUMP {
                self.lost.insert(from, to);
                self.tell_loss(from, to);
            }
        }
        (self.edges, self.damaged_records) = (Vec::new(), Vec::new());
    }

    /// Tells a gap: record by record where headers are left, the rest by its neighbours.
    fn tell_loss(&mut self, from: u64, to: u64) {
        let mut rest = to - from;
        let mut told = Ranges::default();
        let mut losses = Vec::new();
        for record in &self.damaged_records {
            let within = record.from >= from && record.to <= to;
            if within && told.missing(record.from, record.to) == [(record.from, record.to)] {
                told.insert(record.from, record.to);
                rest -= record.to - record.from;
                losses.push((Some(record.stream), record.to - record.from, record.first_ms, record.last_ms));
            }
        }
        if rest > 0 {
            let after = self.edges.iter().filter(|edge| edge.number >= to).min_by_key(|edge| edge.number);
            let before = self.edges.iter().filter(|edge| edge.number <= from).max_by_key(|edge| edge.number);
            let stream = after.or(before).map(|edge| edge.stream);
            let from_ms = before.or(after).map_or(0, |edge| edge.ms);
            let to_ms = after.or(before).map_or(0, |edge| edge.ms);
            losses.push((stream, rest, from_ms.min(to_ms), from_ms.max(to_ms)));
        }
        for (stream, events, from_ms, to_ms) in losses {
            let key = stream.map(|stream| self.streams.key(stream));
            add_loss(&mut self.losses, Loss { reason: LossReason::Damaged, key, events, from_ms, to_ms });
        }
    }
}

/// Adds a loss to a list, to one of the same reason and stream where there is one.
pub fn add_loss(losses: &mut Vec<Loss>, loss: Loss) {
    match losses.iter_mut().find(|known| known.reason == loss.reason && known.key == loss.key) {
        Some(known) => {
            known.events += loss.events;
            known.from_ms = known.from_ms.min(loss.from_ms);
            known.to_ms = known.to_ms.max(loss.to_ms);
        }
        None => losses.push(loss),
    }
}

/// Where the records and shapes of a segment's bytes lie.
pub fn index(bytes: &[u8], shadowed: &Ranges, streams: &mut Streams) -> Index {
    let start = if matches!(SegmentHeader::decode(bytes), FileStart::Known(_)) { SEGMENT_HEADER_BYTES } else { 0 };
    let mut index = Index::default();
    for piece in Pieces::new(bytes, start) {
        let Piece::Frame { at, header, .. } = piece else { continue };
        match header.kind {
            Kind::Record if !shadowed.contains(header.sequence) => {
                let stream = streams.number(header.group, header.stream);
                index.records.push(Place::new(&header, at, stream));
            }
            Kind::Record => {}
            Kind::Shape => index.shapes.push((at as u32, (header.header_bytes + header.body_bytes) as u32)),
        }
    }
    index
}
