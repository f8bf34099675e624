//! What lies in a spool's folder: read once at the start, and by the commands that only look.

use super::frame::{FrameHeader, Kind, Piece, Pieces};
use super::journal::{self, Read};
use super::segment::{self, Index, Place, Segment};
use super::streams::{Losses, Streams};
use super::wire::{EVENTS_MAX, FileStart, JUMP, SEGMENT_HEADER_BYTES, SEQUENCE_MAX, SegmentHeader, SpoolId, checksum};
use super::{Boot, Instants, Loss, LossReason, step};
use crate::env::Disk;
use crate::model::{Ranges, order_by_key};
use std::io;
use std::path::Path;
use std::rc::Rc;

/// The longest segment that is read; ours are at most 1 MiB and a record.
pub const SEGMENT_READ_MAX: usize = 12 << 20;
/// New numbers begin where so many are free.
const FREE_MIN: u64 = 1 << 56;
/// What is so far from all records that were found was made up.
const FAR: u64 = 1 << 40;

/// What was found.
#[derive(Default)]
pub struct Survey {
    pub id: Option<SpoolId>,
    pub streams: Streams,
    /// In the order of their names.
    pub segments: Vec<Segment>,
    pub settled: Ranges,
    /// Journals that are read.
    pub journals: Vec<u64>,
    pub next_journal: u64,
    /// Where new numbers begin.
    pub next: u64,
    /// Where they end: what follows is taken.
    pub end: u64,
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
    /// What sound frames cover.
    seen: Ranges,
    /// Numbers that may be in files that cannot be read, or were never given out.
    excused: Ranges,
    /// Where numbers went on after those that were never given out.
    jumps: Vec<u64>,
    /// No entry of a journal that ends above this is believed.
    settled_max: u64,
    /// What was settled is known, but for what was written last.
    journal_known: bool,
    told: Losses,
    /// Of the segments without a header.
    damaged_sum: u32,
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
    let found = look(dir, u64::MAX, disk)?;
    // An entry that settles what nobody ever gave out would hide records, or lead the numbers astray.
    let top = if found.seen.is_empty() { FREE_MIN } else { found.seen.end().saturating_add(FAR) };
    if found.settled.end() > top {
        return look(dir, top, disk);
    }
    Ok(found)
}

fn look(dir: &Path, settled_max: u64, disk: &dyn Disk) -> io::Result<Survey> {
    let mut found = Survey { settled_max, end: SEQUENCE_MAX, ..Survey::default() };
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    let mut journals = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.stamp.is_dir) {
        if let Some((first, attempt)) = segment::parse_name(&entry.name) {
            let bytes = entry.stamp.len;
            found.segments.push(Segment { first, attempt, bytes, on_disk: true, ..Segment::default() });
        } else if let Some(number) = journal::parse_name(journal::ACKNOWLEDGED, &entry.name) {
            journals.push(number);
            found.journal_bytes = found.journal_bytes.saturating_add(entry.stamp.len);
        }
    }
    found.segments.sort_by_key(|segment| (segment.first, segment.attempt));
    found.find_id(dir, disk);
    // Before a segment is removed what was in it is in a journal. So without any journal no segment was removed.
    found.journal_known = journals.is_empty();
    found.read_journals(&journals, dir, disk);
    let mut segments = std::mem::take(&mut found.segments);
    let mut header_known = false;
    // From the newest, so that a record that was written again counts in its later segment.
    for segment in segments.iter_mut().rev() {
        header_known |= found.read_segment(segment, dir, disk);
    }
    segments.retain(|segment| segment.on_disk);
    found.segments = segments;
    found.finish(found.journal_known && header_known);
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
        self.next_journal = journal::next_number(numbers);
        for number in numbers {
            match disk.read(&dir.join(journal::name(journal::ACKNOWLEDGED, *number)), journal::READ_BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => self.unreadable += 1,
                Ok(bytes) => match journal::read(&bytes, self.id) {
                    (Read::Newer, _) => self.newer += 1,
                    (Read::Settled(settled, whole), own) => {
                        self.journal_known |= whole || !settled.is_empty();
                        self.id = self.id.or(own);
                        self.journals.push(*number);
                        let believed = settled.iter().filter(|(_, to)| *to <= self.settled_max).collect();
                        self.settled.add(&Ranges::of(believed));
                    }
                },
            }
        }
    }

    /// Reads a segment; whether its header is sound.
    fn read_segment(&mut self, segment: &mut Segment, dir: &Path, disk: &dyn Disk) -> bool {
        step();
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
        segment.bytes = segment.bytes.max(bytes.len() as u64);
        let (start, known) = match SegmentHeader::decode(&bytes) {
            FileStart::Known(header) if self.id.is_none_or(|id| id == header.id) => {
                let own = header.first == segment.first && header.first < SEQUENCE_MAX;
                if own && header.settled_below <= header.first.min(self.settled_max) {
                    self.settled.insert(0, header.settled_below);
                }
                if own && header.unused_to <= header.first && header.unused_from < header.unused_to {
                    self.excused.insert(header.unused_from, header.unused_to);
                    self.jumps.push(header.unused_to);
                }
                (SEGMENT_HEADER_BYTES, own)
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
            FileStart::Damaged => {
                self.damaged_sum = self.damaged_sum.rotate_left(1) ^ checksum(&bytes);
                (0, false)
            }
        };
        self.torn += u64::from(bytes.is_empty());
        let newer_before = segment.keep;
        let mut before: Option<Edge> = None;
        let (mut taken, mut places) = (Ranges::default(), Vec::new());
        for piece in Pieces::new(&bytes, start) {
            match piece {
                Piece::Frame { at, header, .. } if header.kind == Kind::Record => {
                    let stream = self.streams.number(header.group, header.stream);
                    let place = Place::new(&header, at, stream);
                    if before.as_ref().is_none_or(|before| before.number != place.from) {
                        self.edges.extend(before.take());
                        self.edges.push(Edge { number: place.from, stream, ms: place.age.first_ms });
                    }
                    before = Some(Edge { number: place.to, stream, ms: place.age.last_ms });
                    self.note_boot(&place, &header);
                    for place in own_parts(&place, &mut taken) {
                        let new = self.seen.missing(place.from, place.to);
                        places.extend(new.into_iter().map(|(from, to)| Place { from, to, ..place }));
                    }
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
        // A copy under another name says nothing by its name.
        segment.is_own = known;
        segment.well_named = known || (start == 0 && before.is_none());
        self.edges.extend(before);
        self.newer += u64::from(segment.keep && !newer_before);
        self.seen.add(&taken);
        for (from, to) in places.iter().flat_map(|place| self.settled.missing(place.from, place.to)) {
            segment.pending.insert(from, to);
        }
        segment.events = segment.pending.len();
        segment.recount(&Index::new(places, Vec::new()));
        known
    }

    fn note_boot(&mut self, place: &Place, header: &FrameHeader<'_>) {
        let now = Instants { monotonic_ms: header.monotonic_ms, wall_ms: header.wall_ms };
        let confirmed = place.age.confirmed.then_some(now);
        let from = place.from;
        match self.boot_spans.binary_search_by_key(&header.boot_id, |(boot, ..)| boot.boot_id) {
            Ok(at) => {
                let (boot, first, last, last_confirmed) = &mut self.boot_spans[at];
                if from < *first {
                    (*first, boot.first) = (from, now);
                }
                if from >= *last {
                    (*last, boot.last) = (from, now);
                }
                if place.age.confirmed && (from >= *last_confirmed || boot.confirmed.is_none()) {
                    (*last_confirmed, boot.confirmed) = (from, confirmed);
                }
            }
            Err(at) => {
                let boot = Boot { boot_id: header.boot_id, first: now, last: now, confirmed };
                self.boot_spans.insert(at, (boot, from, from, from));
            }
        }
    }

    /// Works out where numbers begin and what is lost. `whole`: the journals and headers say what became of what was before
    /// the first segment.
    fn finish(&mut self, whole: bool) {
        self.boot_spans.sort_by_key(|(_, first, ..)| *first);
        self.boots = self.boot_spans.drain(..).map(|(boot, ..)| boot).collect();
        if self.id.is_none() && !self.segments.is_empty() {
            // Nothing is left that says whose it is, and what is lost must be written down: a new name, made of what is there.
            let mut id = self.boots.last().map_or([0; 16], |boot| boot.boot_id);
            id.iter_mut().zip(self.damaged_sum.to_le_bytes()).for_each(|(byte, salt)| *byte ^= salt);
            self.id = Some(id);
        }

        let mut known = self.seen.clone();
        known.add(&self.settled);
        known.add(&Ranges::of(self.damaged_records.iter().map(|record| (record.from, record.to)).collect()));
        let free = known.missing(0, SEQUENCE_MAX);
        let roomy = free.iter().find(|(from, to)| to - from >= FREE_MIN);
        let (mut highest, end) =
            roomy.or(free.iter().max_by_key(|(from, to)| to - from)).copied().unwrap_or((SEQUENCE_MAX, SEQUENCE_MAX));
        // A name says where numbers were when its file was made, but a made-up one must not lead us astray.
        let names = self.segments.iter().filter(|segment| segment.well_named || segment.keep);
        let names = names.map(|segment| segment.first);
        highest = names
            .filter(|first| (highest..end.min(highest.saturating_add(FAR))).contains(first))
            .fold(highest, u64::max);
        (self.unused_from, self.end) = (highest, end);
        self.next = if self.unreadable + self.newer > 0 { highest.saturating_add(JUMP).min(end) } else { highest };

        for (at, segment) in self.segments.iter().enumerate().filter(|(_, segment)| segment.keep) {
            let end = self.segments.get(at + 1).map_or(highest, |after| after.first);
            // Who jumped over it gave out what follows, and none of that is in it.
            let jumps = self.jumps.iter().copied().filter(|to| *to > segment.first);
            self.excused.insert(segment.first, jumps.fold(end, u64::min));
        }
        let mut accounted = std::mem::take(&mut self.excused);
        accounted.add(&self.seen);
        accounted.add(&self.settled);
        // Nobody knows whether what lay below the first segment was delivered, unless a journal or its absence says it.
        let lowest = self.segments.first().map_or(highest, |segment| segment.first);
        let lowest = self.seen.first().map_or(lowest, |first| lowest.min(first));
        let from = if whole || lowest == 0 { 0 } else { lowest };
        let edges = order_by_key(&mut self.edges.iter().map(|edge| edge.number));
        let damaged = order_by_key(&mut self.damaged_records.iter().map(|record| record.from));
        for (from, to) in accounted.missing(from, highest) {
            // A process may have jumped, and no header is left that says so. So many were never lost at once.
            let events = (to - from) % JUMP;
            if to - from < FAR && (1..JUMP / 16).contains(&events) {
                self.lost.insert(from, to);
                self.tell_loss(from, to, events, &edges, &damaged);
            }
        }
        (self.edges, self.damaged_records, self.losses) = (Vec::new(), Vec::new(), self.told.take());
    }

    /// Tells a gap with so many events: record by record where headers are left, the rest by its neighbours.
    /// `edges`, `damaged`: those in the order of their numbers.
    fn tell_loss(&mut self, from: u64, to: u64, events: u64, edges: &[(u64, u64)], damaged: &[(u64, u64)]) {
        let mut rest = events;
        let mut at = from;
        let mut losses = std::mem::take(&mut self.told);
        let lowest = from.saturating_sub(u64::from(EVENTS_MAX));
        let start = damaged.partition_point(|(number, _)| *number < lowest);
        for (_, place) in damaged[start..].iter().take_while(|(number, _)| *number < to) {
            step();
            let record = &self.damaged_records[*place as usize];
            let count = record.to.min(to).saturating_sub(record.from.max(at)).min(rest);
            if count > 0 {
                at = record.to;
                rest -= count;
                let key = Some(Rc::clone(self.streams.key(record.stream)));
                let (from_ms, to_ms) = (record.first_ms, record.last_ms);
                losses.add(Loss { reason: LossReason::Damaged, key, events: count, from_ms, to_ms });
            }
        }
        if rest > 0 {
            let edge = |(_, place): &(u64, u64)| &self.edges[*place as usize];
            let after = edges.get(edges.partition_point(|(number, _)| *number < to)).map(edge);
            let before = edges[..edges.partition_point(|(number, _)| *number <= from)].last().map(edge);
            let key = after.or(before).map(|edge| Rc::clone(self.streams.key(edge.stream)));
            let from_ms = before.or(after).map_or(0, |edge| edge.ms);
            let to_ms = after.or(before).map_or(0, |edge| edge.ms);
            let (from_ms, to_ms) = (from_ms.min(to_ms), from_ms.max(to_ms));
            losses.add(Loss { reason: LossReason::Damaged, key, events: rest, from_ms, to_ms });
        }
        self.told = losses;
    }
}

/// The numbers of a record that no earlier record of the file has.
fn own_parts(place: &Place, taken: &mut Ranges) -> Vec<Place> {
    let own = taken.missing(place.from, place.to);
    taken.insert(place.from, place.to);
    own.into_iter().map(|(from, to)| Place { from, to, ..*place }).collect()
}

/// Where the records with something of these numbers, and the shapes, lie in a segment's bytes. Where two records have the
/// same numbers they are the first one's.
pub fn index(bytes: &[u8], wanted: &Ranges, streams: &mut Streams) -> Index {
    let start = if matches!(SegmentHeader::decode(bytes), FileStart::Known(_)) { SEGMENT_HEADER_BYTES } else { 0 };
    let (mut taken, mut records, mut shapes) = (Ranges::default(), Vec::new(), Vec::new());
    for piece in Pieces::new(bytes, start) {
        let Piece::Frame { at, header, .. } = piece else { continue };
        step();
        match header.kind {
            Kind::Record if wanted.count(header.sequence, header.sequence + u64::from(header.count)) > 0 => {
                let stream = streams.number(header.group, header.stream);
                records.extend(own_parts(&Place::new(&header, at, stream), &mut taken));
            }
            Kind::Record => {}
            Kind::Shape => shapes.push((at as u32, (header.header_bytes + header.body_bytes) as u32)),
        }
    }
    Index::new(records, shapes)
}
