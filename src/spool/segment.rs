//! A segment as the spool knows it: its name, what is pending in it, and, while it is needed, where its records lie.

use super::ranges::Ranges;
use super::wire::{FLAG_CLOCK_CONFIRMED, FrameHeader, checksum};

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
#[derive(Clone, Debug, Default)]
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
    /// It could not be read lately; its records are pending, but not given out for now.
    pub unreadable: bool,
    /// Records in it whose numbers a later segment has.
    pub shadowed: Ranges,
    /// What is pending, per stream.
    pub parts: Vec<Part>,
    /// The newest event of the oldest pending record with a confirmed clock: what ages first.
    pub ages_ms: Option<i64>,
    /// The same by the clocks since boot: boot and time of its oldest pending record.
    pub boots: Vec<(u32, u64)>,
    /// Where its records lie.
    pub index: Option<Index>,
}

/// What is pending for one stream in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The stream's place in the spool's list.
    pub stream: u32,
    /// Records.
    pub records: u64,
    /// Events.
    pub events: u64,
    /// A number no higher than the oldest record's.
    pub sequence: u64,
    /// The oldest event's time, settled ones included.
    pub first_ms: i64,
    /// The newest event's time, settled ones included.
    pub last_ms: i64,
}

/// Where the records and shapes of a segment lie.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Records, in the file's order, shadowed ones left out.
    pub records: Vec<Place>,
    /// Shapes: offset and length of the frame.
    pub shapes: Vec<(u32, u32)>,
}

/// Where a record lies, and what is needed to choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub sequence: u64,
    /// Its events.
    pub events: u32,
    /// The stream's place in the spool's list.
    pub stream: u32,
    /// Offset of the frame.
    pub at: u32,
    /// Length of the frame.
    pub bytes: u32,
    /// What it counts against a batch.
    pub billed: u32,
    /// Its clock was confirmed.
    pub confirmed: bool,
    /// The CRC of its boot's id.
    pub boot: u32,
    /// Milliseconds since that boot at the scrape.
    pub monotonic_ms: u64,
    /// The oldest event.
    pub first_ms: i64,
    /// The newest event.
    pub last_ms: i64,
}

impl Place {
    /// The number after its last event.
    pub fn end(&self) -> u64 {
        self.sequence + u64::from(self.events)
    }

    /// From a frame's header.
    pub fn new(header: &FrameHeader<'_>, at: usize, stream: u32) -> Self {
        Self {
            sequence: header.sequence,
            events: header.count,
            stream,
            at: at as u32,
            bytes: (header.header_bytes + header.body_bytes) as u32,
            billed: header.billed,
            confirmed: header.flags & FLAG_CLOCK_CONFIRMED != 0,
            boot: checksum(&header.boot_id),
            monotonic_ms: header.monotonic_ms,
            first_ms: header.first_ms,
            last_ms: header.last_ms,
        }
    }
}

impl Segment {
    /// Its file.
    pub fn name(&self) -> String {
        name(self.first, self.attempt)
    }

    /// Nothing in it is pending.
    pub fn is_settled(&self) -> bool {
        self.parts.is_empty()
    }

    /// Remembers when a pending record will be too old.
    pub fn note_age(&mut self, place: &Place) {
        if place.confirmed {
            self.ages_ms = Some(self.ages_ms.map_or(place.last_ms, |ages_ms| ages_ms.min(place.last_ms)));
        }
        match self.boots.iter_mut().find(|(boot, _)| *boot == place.boot) {
            Some((_, oldest_ms)) => *oldest_ms = place.monotonic_ms.min(*oldest_ms),
            None => self.boots.push((place.boot, place.monotonic_ms)),
        }
    }

    /// Counts a record as pending.
    pub fn add(&mut self, place: &Place) {
        self.note_age(place);
        match self.parts.iter_mut().find(|part| part.stream == place.stream) {
            Some(part) => {
                part.records += 1;
                part.events += u64::from(place.events);
                part.sequence = part.sequence.min(place.sequence);
                part.first_ms = part.first_ms.min(place.first_ms);
                part.last_ms = part.last_ms.max(place.last_ms);
            }
            None => self.parts.push(Part {
                stream: place.stream,
                records: 1,
                events: u64::from(place.events),
                sequence: place.sequence,
                first_ms: place.first_ms,
                last_ms: place.last_ms,
            }),
        }
    }

    /// Counts a record as not pending any more.
    pub fn subtract(&mut self, place: &Place) {
        if let Some(at) = self.parts.iter().position(|part| part.stream == place.stream) {
            let part = &mut self.parts[at];
            part.records = part.records.saturating_sub(1);
            part.events = part.events.saturating_sub(u64::from(place.events));
            if part.records == 0 {
                self.parts.swap_remove(at);
            }
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
