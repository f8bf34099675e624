//! A segment as the spool knows it: its name, what is pending in it, and, while it is needed, where its records lie.

use super::frame::{FLAG_CLOCK_CONFIRMED, FrameHeader};
use super::table::Tables;
use super::wire::checksum;
use super::{Age, step};
use crate::model::{Ranges, order_by_key};

/// A segment's name: its first record's number, and which file of that number it is.
pub fn name(first: u64, attempt: u8) -> String {
    if attempt == 0 { format!("seg-{first:016x}.pws") } else { format!("seg-{first:016x}-{attempt:02x}.pws") }
}

/// The parts of a segment's name.
pub fn parse_name(name: &str) -> Option<(u64, u8)> {
    let rest = name.strip_prefix("seg-")?.strip_suffix(".pws")?;
    let (first, attempt) = rest.split_once('-').unwrap_or((rest, "00"));
    if first.len() != 16 || attempt.len() != 2 || rest.contains('+') {
        return None;
    }
    Some((u64::from_str_radix(first, 16).ok()?, u8::from_str_radix(attempt, 16).ok()?))
}

/// A segment.
#[derive(Default)]
pub struct Segment {
    /// The number in its name.
    pub first: u64,
    /// The second number in its name.
    pub attempt: u8,
    /// Bytes on disk.
    pub bytes: u64,
    /// The file exists; otherwise its records are in memory only.
    pub on_disk: bool,
    /// It may not be removed: something of a later version is in it, or it is another spool's.
    pub keep: bool,
    /// Its header is sound and says its name.
    pub is_own: bool,
    /// Its name may be believed: its header says the same, or nothing in it says otherwise.
    pub well_named: bool,
    /// It could not be read lately; its records are pending, but not given out for now.
    pub unreadable: bool,
    /// The numbers that are pending here and nowhere else: the books. What the file does not have of them is lost.
    pub pending: Ranges,
    /// How many those are.
    pub events: u64,
    /// The same per stream, by the streams' numbers. A stream with nothing left may still stand here.
    pub parts: Vec<Part>,
    /// Parts with nothing left.
    pub empty_parts: usize,
    /// Records of which something is pending. Exact while the segment's index is there, as parts are.
    pub records: u64,
    /// The oldest event's time, some that were settled lately included.
    pub oldest_ms: Option<i64>,
    /// How old its pending records are, by boot and confirmation.
    pub ages: Vec<AgeSpan>,
    /// There are more boots than are told apart: each record must be asked.
    pub more_ages: bool,
    /// Where its pending records lie.
    pub index: Option<Index>,
}

/// What is pending for one stream in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The stream's number in the spool's list.
    pub stream: u32,
    /// Records of which something is pending.
    pub records: u64,
    /// Pending events. Exact while the segment's index is there.
    pub events: u64,
    /// A number no higher than the oldest pending one.
    pub sequence: u64,
    /// The oldest event's time, settled ones included.
    pub first_ms: i64,
    /// The newest event's time, settled ones included.
    pub last_ms: i64,
}

/// How old the records of one boot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeSpan {
    /// The oldest, by the clock since boot.
    pub oldest_ms: u64,
    /// The newest of each figure.
    pub newest: Age,
}

/// More boots than this in one segment (a segment is one process's, unless it imports) are not told apart.
const AGES_MAX: usize = 16;

/// Where the pending records and the shapes (frames with layouts or templates) of a segment lie.
#[derive(Default)]
pub struct Index {
    /// Records by number. No two have a number in common.
    pub records: Vec<Place>,
    /// Their places in [`Self::records`], by stream and number.
    by_stream: Vec<u32>,
    /// Shapes: offset and length of the frame.
    pub shapes: Vec<(u32, u32)>,
    /// Nothing is pending before this record.
    pub cursor: usize,
    /// What the shapes say, once a record was read.
    pub tables: Option<Tables>,
}

/// Where a record lies, and what is needed to choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record's number, as its frame says.
    pub sequence: u64,
    /// The record's events, as its frame says.
    pub events: u32,
    /// From this number on they are this record's; lower ones are another's that has the same numbers.
    pub from: u64,
    /// Up to this number.
    pub to: u64,
    /// The stream's number in the spool's list.
    pub stream: u32,
    /// Offset of the frame.
    pub at: u32,
    /// Length of the frame.
    pub bytes: u32,
    /// What it counts against a batch.
    pub billed: u32,
    /// How old it is.
    pub age: Age,
}

impl Place {
    /// From a frame's header.
    pub fn new(header: &FrameHeader<'_>, at: usize, stream: u32) -> Self {
        Self {
            sequence: header.sequence,
            events: header.count,
            from: header.sequence,
            to: header.sequence + u64::from(header.count),
            stream,
            at: at as u32,
            bytes: (header.header_bytes + header.body_bytes) as u32,
            billed: header.billed,
            age: Age {
                sequence: header.sequence,
                boot: checksum(&header.boot_id),
                monotonic_ms: header.monotonic_ms,
                confirmed: header.flags & FLAG_CLOCK_CONFIRMED != 0,
                first_ms: header.first_ms,
                last_ms: header.last_ms,
            },
        }
    }
}

impl Index {
    /// From records in any order that have no number in common.
    pub fn new(records: Vec<Place>, shapes: Vec<(u32, u32)>) -> Self {
        let by_number = order_by_key(&mut records.iter().map(|place| place.from));
        let records: Vec<Place> = by_number.iter().map(|(_, at)| records[*at as usize]).collect();
        let by_stream = order_by_key(&mut records.iter().map(|place| u64::from(place.stream)));
        let by_stream = by_stream.into_iter().map(|(_, at)| at as u32).collect();
        Self { records, by_stream, shapes, ..Self::default() }
    }

    /// Adds a record with higher numbers than all others.
    pub fn push(&mut self, place: Place) {
        let at = self.by_stream.partition_point(|at| self.records[*at as usize].stream <= place.stream);
        self.by_stream.insert(at, self.records.len() as u32);
        self.records.push(place);
    }

    /// The records that have a number of `from .. to`.
    pub fn within(&self, from: u64, to: u64) -> &[Place] {
        let start = self.records.partition_point(|place| place.to <= from);
        let end = self.records.partition_point(|place| place.from < to);
        self.records.get(start..end).unwrap_or_default()
    }

    /// The records of a stream that end after a number, oldest first.
    pub fn of_stream(&self, stream: u32, after: u64) -> impl Iterator<Item = Place> + '_ {
        let start = self.by_stream.partition_point(|at| {
            let place = &self.records[*at as usize];
            (place.stream, place.to) <= (stream, after)
        });
        let places = self.by_stream[start..].iter().map(|at| self.records[*at as usize]);
        places.take_while(move |place| place.stream == stream)
    }

    /// The same with other numbers of the streams.
    fn renumbered(mut self, numbers: &[u32]) -> Self {
        self.records.iter_mut().for_each(|place| place.stream = numbers[place.stream as usize]);
        Self { cursor: self.cursor, tables: self.tables, ..Self::new(self.records, self.shapes) }
    }
}

impl Segment {
    /// Its file.
    pub fn name(&self) -> String {
        name(self.first, self.attempt)
    }

    /// Nothing in it is pending.
    pub fn is_settled(&self) -> bool {
        self.events == 0
    }

    /// The lowest number that it may hold.
    pub fn lowest(&self) -> u64 {
        self.pending.first().map_or(self.first, |first| first.min(self.first))
    }

    /// A stream's part.
    pub fn part(&self, stream: u32) -> Option<&Part> {
        let at = self.parts.binary_search_by_key(&stream, |part| part.stream).ok()?;
        self.parts.get(at)
    }

    /// What of a record is pending.
    pub fn pending_of(&self, place: &Place) -> Vec<(u64, u64)> {
        step();
        self.pending.overlap(place.from, place.to)
    }

    /// Counts a record as pending.
    pub fn add(&mut self, place: &Place) {
        self.pending.insert(place.from, place.to);
        self.events += place.to - place.from;
        self.count(place, place.to - place.from);
    }

    fn count(&mut self, place: &Place, events: u64) {
        step();
        let Age { boot, confirmed, monotonic_ms, first_ms, last_ms, .. } = place.age;
        // It speaks for others, so it has the number of none.
        let newest = Age { sequence: u64::MAX, ..place.age };
        let full = self.ages.len() >= AGES_MAX;
        match self.ages.iter_mut().find(|span| (span.newest.boot, span.newest.confirmed) == (boot, confirmed)) {
            Some(span) => {
                span.oldest_ms = span.oldest_ms.min(monotonic_ms);
                span.newest.monotonic_ms = span.newest.monotonic_ms.max(monotonic_ms);
                span.newest.first_ms = span.newest.first_ms.max(first_ms);
                span.newest.last_ms = span.newest.last_ms.max(last_ms);
            }
            None if !full => self.ages.push(AgeSpan { oldest_ms: monotonic_ms, newest }),
            None => self.more_ages = true,
        }
        self.records += 1;
        self.oldest_ms = Some(self.oldest_ms.map_or(first_ms, |ms| ms.min(first_ms)));
        match self.parts.binary_search_by_key(&place.stream, |part| part.stream) {
            Ok(at) => {
                let part = &mut self.parts[at];
                self.empty_parts -= usize::from(part.events == 0);
                part.records += 1;
                part.events += events;
                part.sequence = part.sequence.min(place.from);
                part.first_ms = part.first_ms.min(first_ms);
                part.last_ms = part.last_ms.max(last_ms);
            }
            Err(at) => self
                .parts
                .insert(at, Part { stream: place.stream, records: 1, events, sequence: place.from, first_ms, last_ms }),
        }
    }

    /// Marks the streams that it refers to.
    pub fn mark_streams(&self, used: &mut [bool]) {
        let places = self.index.iter().flat_map(|index| &index.records);
        for stream in self.parts.iter().map(|part| part.stream).chain(places.map(|place| place.stream)) {
            step();
            used[stream as usize] = true;
        }
    }

    /// The streams got new numbers.
    pub fn renumber(&mut self, numbers: &[u32]) {
        self.parts.iter_mut().for_each(|part| part.stream = numbers[part.stream as usize]);
        let by_stream = order_by_key(&mut self.parts.iter().map(|part| u64::from(part.stream)));
        self.parts = by_stream.iter().map(|(_, at)| self.parts[*at as usize]).collect();
        if let Some(index) = self.index.take() {
            self.index = Some(index.renumbered(numbers));
        }
    }

    /// Something pending may be older than the oldest that is wanted of its boot.
    pub fn may_be_old(&self, oldest_ms: &dyn Fn(u32) -> Option<u64>) -> bool {
        self.more_ages
            || self.ages.iter().any(|span| oldest_ms(span.newest.boot).is_some_and(|wanted| span.oldest_ms < wanted))
    }

    /// Nothing in it is to be given out: what is true for the newest record of a boot is for those before.
    pub fn is_left_out(&self, leave_out: &dyn Fn(&Age) -> bool) -> bool {
        !self.more_ages && self.ages.iter().all(|span| leave_out(&span.newest))
    }

    /// Counts anew from the index: parts and ages of what is pending.
    pub fn recount(&mut self, index: &Index) {
        (self.parts, self.ages) = (Vec::new(), Vec::new());
        (self.empty_parts, self.records, self.oldest_ms, self.more_ages) = (0, 0, None, false);
        for at in &index.by_stream {
            let place = &index.records[*at as usize];
            let events = self.pending.count(place.from, place.to);
            if events > 0 {
                self.count(place, events);
            }
        }
    }

    /// Takes numbers that are all pending here out of the books.
    pub fn settle(&mut self, from: u64, to: u64) {
        self.pending.remove(from, to);
        self.events -= to - from;
        // Without an index nobody knows whose they were: reading it counts anew.
        let Some(index) = &self.index else { return };
        for place in index.within(from, to) {
            step();
            let events = place.to.min(to) - place.from.max(from);
            let left = self.pending.count(place.from, place.to);
            if let Ok(at) = self.parts.binary_search_by_key(&place.stream, |part| part.stream) {
                let part = &mut self.parts[at];
                debug_assert!(part.events >= events, "more is settled than was pending");
                part.events -= events.min(part.events);
                let gone = u64::from(left == 0 && events > 0 && part.records > 0);
                part.records -= gone;
                self.records -= gone;
                self.empty_parts += usize::from(part.events == 0 && events > 0);
            }
        }
        if self.empty_parts * 2 > self.parts.len() {
            self.parts.retain(|part| part.events > 0);
            self.empty_parts = 0;
            self.oldest_ms = self.parts.iter().map(|part| part.first_ms).min();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_not_ours() {
        for (first, attempt) in [(0, 0), (u64::MAX, 255), (0x1234, 1)] {
            assert_eq!(parse_name(&name(first, attempt)), Some((first, attempt)));
        }
        assert_eq!(name(255, 1), "seg-00000000000000ff-01.pws");
        for other in
            ["seg-ff.pws", "seg-00000000000000zz.pws", "seg-0000000000000000.tmp", "x", "seg-+000000000000000.pws"]
        {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
