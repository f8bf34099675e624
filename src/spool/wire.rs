//! The bytes of the format that are not in a body: headers of segments, frames and journals, journal entries
//! (`docs/spool-format.md`), and finding frames in a damaged file.

use super::RecordMeta;
use crate::model::StreamKey;
use std::rc::Rc;

/// The version that is written; higher ones are left alone.
pub const VERSION: u8 = 1;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 80;
/// Bytes of a journal's header.
pub const JOURNAL_HEADER_BYTES: usize = 48;
/// Bytes of a journal's entry.
pub const ENTRY_BYTES: usize = 24;
/// The longest body of a frame.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// The longest name of a log group or stream (the service's limit is 512).
pub const NAME_BYTES_MAX: usize = 512;
/// The most events in a record (the limit of a PutLogEvents batch).
pub const EVENTS_MAX: u32 = 10_000;
/// The most templates in a segment.
pub const TEMPLATES_MAX: u32 = 65_536;

const SEGMENT_MAGIC: [u8; 8] = *b"PWSEG\r\n\x1a";
const JOURNAL_MAGIC: [u8; 8] = *b"PWACK\r\n\x1a";
const FRAME_MAGIC: [u8; 4] = *b"\xa7PWR";
const FRAME_FIXED_BYTES: usize = 88;
const CHECKSUM_BYTES: usize = 4;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// CRC-32C.
pub fn checksum(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// The `N` bytes from `at` on; the callers have checked the length.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(take(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(take(bytes, at))
}

/// How far new numbers keep away from what cannot be read.
pub const JUMP: u64 = 1 << 32;

/// Names a spool, the same in all its files.
pub type SpoolId = [u8; 16];

/// What the beginning of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStart<T> {
    /// A sound header of this version.
    Known(T),
    /// A sound header of a later version.
    Newer,
    /// Too short, or the checksum does not fit.
    Damaged,
}

/// Magic, version, length and checksum, which every version keeps.
fn file_start(bytes: &[u8], magic: [u8; 8], known_bytes: usize) -> FileStart<&[u8]> {
    if bytes.len() < 16 || bytes[..8] != magic {
        return FileStart::Damaged;
    }
    let header_bytes = usize::from(u16_at(bytes, 10));
    if header_bytes < 16 || bytes.len() < header_bytes {
        return FileStart::Damaged;
    }
    let (content, sum) = bytes[..header_bytes].split_at(header_bytes - CHECKSUM_BYTES);
    if checksum(content) != u32_at(sum, 0) {
        return FileStart::Damaged;
    }
    match u16_at(bytes, 8) {
        1 if header_bytes == known_bytes => FileStart::Known(content),
        0 | 1 => FileStart::Damaged,
        _ => FileStart::Newer,
    }
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The spool's id.
    pub id: SpoolId,
    /// The first record's number.
    pub first: u64,
    /// Numbers from here to `unused_to` were never given out.
    pub unused_from: u64,
    /// The end of those; as much as `unused_from` when there are none.
    pub unused_to: u64,
    /// Everything below was settled when the segment was made.
    pub settled_below: u64,
    /// When that was, by the wall clock.
    pub created_ms: i64,
}

impl SegmentHeader {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&u16::from(VERSION).to_le_bytes());
        out.extend_from_slice(&(SEGMENT_HEADER_BYTES as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.unused_from.to_le_bytes());
        out.extend_from_slice(&self.settled_below.to_le_bytes());
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.unused_to.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let sum = checksum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the beginning of a segment.
    pub fn decode(bytes: &[u8]) -> FileStart<Self> {
        match file_start(bytes, SEGMENT_MAGIC, SEGMENT_HEADER_BYTES) {
            FileStart::Known(bytes) => {
                let (first, unused_from) = (u64_at(bytes, 32), u64_at(bytes, 40));
                let unused_to = match u64_at(bytes, 64) {
                    // The first versions wrote where the process began, and all that it had given out since seemed unused.
                    0 if first.saturating_sub(unused_from) >= JUMP => unused_from + JUMP,
                    0 => unused_from,
                    unused_to => unused_to,
                };
                FileStart::Known(Self {
                    id: take(bytes, 16),
                    first,
                    unused_from,
                    unused_to,
                    settled_below: u64_at(bytes, 48),
                    created_ms: i64_at(bytes, 56),
                })
            }
            FileStart::Newer => FileStart::Newer,
            FileStart::Damaged => FileStart::Damaged,
        }
    }
}

/// The first bytes of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    /// The spool's id.
    pub id: SpoolId,
    /// The journal's number, as in its name.
    pub number: u64,
}

impl JournalHeader {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(JOURNAL_HEADER_BYTES);
        out.extend_from_slice(&JOURNAL_MAGIC);
        out.extend_from_slice(&u16::from(VERSION).to_le_bytes());
        out.extend_from_slice(&(JOURNAL_HEADER_BYTES as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let sum = checksum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the beginning of a journal.
    pub fn decode(bytes: &[u8]) -> FileStart<Self> {
        match file_start(bytes, JOURNAL_MAGIC, JOURNAL_HEADER_BYTES) {
            FileStart::Known(bytes) => FileStart::Known(Self { id: take(bytes, 16), number: u64_at(bytes, 32) }),
            FileStart::Newer => FileStart::Newer,
            FileStart::Damaged => FileStart::Damaged,
        }
    }
}

/// How events were settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// CloudWatch Logs has them.
    Delivered,
    /// Dropped: over `max_bytes`.
    MaxBytes,
    /// Dropped: over `max_age`.
    MaxAge,
    /// Lost by damage, and counted.
    Damaged,
    /// In one of these ways; written when journals are merged.
    Merged,
    /// Exported with `--move`.
    Exported,
    /// Dropped by the user.
    Dropped,
}

impl Settled {
    const ALL: [Self; 7] =
        [Self::Delivered, Self::MaxBytes, Self::MaxAge, Self::Damaged, Self::Merged, Self::Exported, Self::Dropped];
}

/// An entry of a journal: these numbers are settled.
pub fn encode_entry(id: &SpoolId, kind: Settled, from: u64, to: u64) -> [u8; ENTRY_BYTES] {
    let mut out = [0; ENTRY_BYTES];
    out[0] = Settled::ALL.iter().position(|known| *known == kind).map_or(0, |at| at as u8 + 1);
    out[4..12].copy_from_slice(&from.to_le_bytes());
    out[12..20].copy_from_slice(&to.to_le_bytes());
    let sum = entry_checksum(id, &out);
    out[20..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The numbers that an entry settles; nothing when it is damaged or another spool's.
pub fn decode_entry(id: &SpoolId, entry: &[u8; ENTRY_BYTES]) -> Option<(u64, u64)> {
    let (from, to) = (u64_at(entry, 4), u64_at(entry, 12));
    let kind_known = (1..=Settled::ALL.len()).contains(&usize::from(entry[0]));
    let plausible = from < to && to <= SEQUENCE_MAX && to - from <= SETTLED_MAX;
    (kind_known && plausible && entry_checksum(id, entry) == u32_at(entry, 20)).then_some((from, to))
}

fn entry_checksum(id: &SpoolId, entry: &[u8; ENTRY_BYTES]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(id);
    digest.update(&entry[..20]);
    digest.finalize()
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events.
    Record,
    /// Templates.
    Shape,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Bit 0: the wall clock was confirmed; bit 1: imported.
    pub flags: u16,
    /// Bytes of the header, checksum included.
    pub header_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// The body's CRC.
    pub body_checksum: u32,
    /// A record's number.
    pub sequence: u64,
    /// Events, or templates.
    pub count: u32,
    /// What the events count against a batch, or the number of the first template.
    pub billed: u32,
    /// The boot of the scrape.
    pub boot_id: [u8; 16],
    /// Since that boot.
    pub monotonic_ms: u64,
    /// By the wall clock.
    pub wall_ms: i64,
    /// The oldest event.
    pub first_ms: i64,
    /// The newest event.
    pub last_ms: i64,
    /// The log group.
    pub group: &'a str,
    /// The log stream.
    pub stream: &'a str,
    /// Tells an imported record's origin.
    pub source: u32,
}

impl FrameHeader<'_> {
    /// What a record's header says; its key is the caller's.
    pub fn meta(&self, key: Rc<StreamKey>) -> RecordMeta {
        RecordMeta {
            sequence: self.sequence,
            key,
            boot_id: self.boot_id,
            monotonic_ms: self.monotonic_ms,
            wall_ms: self.wall_ms,
            events: self.count,
            billed_bytes: u64::from(self.billed),
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            clock_confirmed: self.flags & FLAG_CLOCK_CONFIRMED != 0,
            imported: self.flags & FLAG_IMPORTED != 0,
        }
    }
}

/// Bit 0 of a frame's flags.
pub const FLAG_CLOCK_CONFIRMED: u16 = 1;
/// Bit 1 of a frame's flags.
pub const FLAG_IMPORTED: u16 = 2;

/// Appends a record's frame. `source`: an imported record's, otherwise 0.
pub fn encode_record(out: &mut Vec<u8>, meta: &RecordMeta, source: u32, body: &[u8]) {
    let flags =
        if meta.clock_confirmed { FLAG_CLOCK_CONFIRMED } else { 0 } | if meta.imported { FLAG_IMPORTED } else { 0 };
    encode_frame(
        out,
        &FrameHeader {
            kind: Kind::Record,
            flags,
            header_bytes: 0,
            body_bytes: body.len(),
            body_checksum: checksum(body),
            sequence: meta.sequence,
            count: meta.events,
            billed: u32::try_from(meta.billed_bytes).unwrap_or(u32::MAX),
            boot_id: meta.boot_id,
            monotonic_ms: meta.monotonic_ms,
            wall_ms: meta.wall_ms,
            first_ms: meta.first_ms,
            last_ms: meta.last_ms,
            group: &meta.key.group,
            stream: &meta.key.stream,
            source,
        },
        body,
    );
}

/// Appends a shape's frame.
pub fn encode_shape(out: &mut Vec<u8>, sequence: u64, first_template: u32, count: u32, body: &[u8]) {
    encode_frame(
        out,
        &FrameHeader {
            kind: Kind::Shape,
            flags: 0,
            header_bytes: 0,
            body_bytes: body.len(),
            body_checksum: checksum(body),
            sequence,
            count,
            billed: first_template,
            boot_id: [0; 16],
            monotonic_ms: 0,
            wall_ms: 0,
            first_ms: 0,
            last_ms: 0,
            group: "",
            stream: "",
            source: 0,
        },
        body,
    );
}

fn encode_frame(out: &mut Vec<u8>, header: &FrameHeader<'_>, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC);
    out.push(VERSION);
    out.push(if header.kind == Kind::Record { 1 } else { 2 });
    out.extend_from_slice(&header.flags.to_le_bytes());
    out.extend_from_slice(&(header.body_bytes as u32).to_le_bytes());
    out.extend_from_slice(&header.body_checksum.to_le_bytes());
    out.extend_from_slice(&header.sequence.to_le_bytes());
    out.extend_from_slice(&header.count.to_le_bytes());
    out.extend_from_slice(&header.billed.to_le_bytes());
    out.extend_from_slice(&header.boot_id);
    out.extend_from_slice(&header.monotonic_ms.to_le_bytes());
    out.extend_from_slice(&header.wall_ms.to_le_bytes());
    out.extend_from_slice(&header.first_ms.to_le_bytes());
    out.extend_from_slice(&header.last_ms.to_le_bytes());
    out.extend_from_slice(&(header.group.len() as u16).to_le_bytes());
    out.extend_from_slice(&(header.stream.len() as u16).to_le_bytes());
    out.extend_from_slice(&header.source.to_le_bytes());
    out.extend_from_slice(header.group.as_bytes());
    out.extend_from_slice(header.stream.as_bytes());
    let sum = checksum(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(body);
}

/// Bytes of a frame around its body.
pub fn frame_overhead_bytes(group: &str, stream: &str) -> usize {
    FRAME_FIXED_BYTES + group.len() + stream.len() + CHECKSUM_BYTES
}

/// What stands at a place where a frame may begin.
enum Parsed<'a> {
    Header(FrameHeader<'a>),
    /// Sound, but of a later version or an unknown kind: bytes of header and body.
    Newer(usize),
    No,
}

fn parse_header(bytes: &[u8]) -> Parsed<'_> {
    if bytes.len() < FRAME_FIXED_BYTES + CHECKSUM_BYTES || bytes[..4] != FRAME_MAGIC {
        return Parsed::No;
    }
    let (group_bytes, stream_bytes) = (usize::from(u16_at(bytes, 80)), usize::from(u16_at(bytes, 82)));
    if group_bytes > NAME_BYTES_MAX || stream_bytes > NAME_BYTES_MAX {
        return Parsed::No;
    }
    let names_end = FRAME_FIXED_BYTES + group_bytes + stream_bytes;
    let header_bytes = names_end + CHECKSUM_BYTES;
    if bytes.len() < header_bytes || checksum(&bytes[..names_end]) != u32_at(bytes, names_end) {
        return Parsed::No;
    }
    let body_bytes = usize::try_from(u32_at(bytes, 8)).unwrap_or(usize::MAX);
    let (version, kind) = (bytes[4], bytes[5]);
    if version == 0 || body_bytes > BODY_BYTES_MAX {
        return Parsed::No;
    }
    let kind = match (version, kind) {
        (VERSION, 1) => Kind::Record,
        (VERSION, 2) => Kind::Shape,
        _ => return Parsed::Newer(header_bytes + body_bytes),
    };
    let names = &bytes[FRAME_FIXED_BYTES..names_end];
    let (Ok(group), Ok(stream)) = (str::from_utf8(&names[..group_bytes]), str::from_utf8(&names[group_bytes..])) else {
        return Parsed::No;
    };
    let header = FrameHeader {
        kind,
        flags: u16_at(bytes, 6),
        header_bytes,
        body_bytes,
        body_checksum: u32_at(bytes, 12),
        sequence: u64_at(bytes, 16),
        count: u32_at(bytes, 24),
        billed: u32_at(bytes, 28),
        boot_id: take(bytes, 32),
        monotonic_ms: u64_at(bytes, 48),
        wall_ms: i64_at(bytes, 56),
        first_ms: i64_at(bytes, 64),
        last_ms: i64_at(bytes, 72),
        group,
        stream,
        source: u32_at(bytes, 84),
    };
    let sensible = match kind {
        Kind::Record => {
            (1..=EVENTS_MAX).contains(&header.count) && header.sequence <= SEQUENCE_MAX - u64::from(header.count)
        }
        Kind::Shape => header.billed < TEMPLATES_MAX && header.count <= TEMPLATES_MAX - header.billed,
    };
    if sensible { Parsed::Header(header) } else { Parsed::No }
}

/// No entry settles more numbers than this; no spool ever gave out so many.
const SETTLED_MAX: u64 = 1 << 56;
/// Numbers end here; whatever says more is damage. Nothing can count so far, and sums stay within 64 bits.
pub const SEQUENCE_MAX: u64 = 1 << 62;

/// A piece of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A sound frame: where it begins, and its body.
    Frame {
        /// Offset of the frame.
        at: usize,
        /// Its header.
        header: FrameHeader<'a>,
        /// Its body.
        body: &'a [u8],
    },
    /// A sound header with a damaged body, or (`torn`) with less than its body before the end of the file.
    DamagedBody {
        /// Its header.
        header: FrameHeader<'a>,
        /// The file ends within the body.
        torn: bool,
    },
    /// A frame of a later version.
    Newer,
    /// Bytes that are no frame; another one follows.
    Damaged,
    /// Bytes that are no frame, to the end of the file.
    Torn,
}

/// The pieces of a segment, from `at` on.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    /// Begins at an offset: after the segment's header, or at 0 when that is damaged.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let bytes = self.bytes;
        let rest = bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        match parse_header(rest) {
            Parsed::Header(header) => {
                let at = self.at;
                let end = header.header_bytes + header.body_bytes;
                self.at += end;
                Some(match rest.get(header.header_bytes..end) {
                    None => Piece::DamagedBody { header, torn: true },
                    Some(body) if checksum(body) != header.body_checksum => Piece::DamagedBody { header, torn: false },
                    Some(body) => Piece::Frame { at, header, body },
                })
            }
            Parsed::Newer(len) => {
                self.at += len;
                Some(Piece::Newer)
            }
            Parsed::No => {
                let next = (self.at + 1..bytes.len())
                    .filter(|at| bytes[*at..].starts_with(&FRAME_MAGIC))
                    .find(|at| !matches!(parse_header(&bytes[*at..]), Parsed::No));
                self.at = next.unwrap_or(bytes.len());
                Some(if next.is_some() { Piece::Damaged } else { Piece::Torn })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(sequence: u64) -> RecordMeta {
        RecordMeta {
            sequence,
            key: Rc::new(StreamKey { group: "/edge/prom".into(), stream: "node".into() }),
            boot_id: [7; 16],
            monotonic_ms: 1,
            wall_ms: -2,
            events: 3,
            billed_bytes: 100,
            first_ms: i64::MIN,
            last_ms: i64::MAX,
            clock_confirmed: true,
            imported: false,
        }
    }

    fn segment() -> (Vec<u8>, Vec<usize>) {
        let mut bytes =
            SegmentHeader { id: [1; 16], first: 10, unused_from: 8, unused_to: 9, settled_below: 8, created_ms: 7 }
                .encode();
        let mut starts = Vec::new();
        for sequence in [10, 13, 16] {
            starts.push(bytes.len());
            encode_record(&mut bytes, &meta(sequence), 0, b"some body");
        }
        (bytes, starts)
    }

    fn sequences(bytes: &[u8]) -> Vec<u64> {
        Pieces::new(bytes, SEGMENT_HEADER_BYTES)
            .filter_map(|piece| match piece {
                Piece::Frame { header, .. } => Some(header.sequence),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn headers_are_read_back() {
        let header =
            SegmentHeader { id: [1; 16], first: 10, unused_from: 8, unused_to: 9, settled_below: 8, created_ms: -7 };
        assert_eq!(SegmentHeader::decode(&header.encode()), FileStart::Known(header));
        let journal = JournalHeader { id: [3; 16], number: 4 };
        assert_eq!(JournalHeader::decode(&journal.encode()), FileStart::Known(journal));
        assert_eq!((header.encode().len(), journal.encode().len()), (SEGMENT_HEADER_BYTES, JOURNAL_HEADER_BYTES));
        let entry = encode_entry(&[3; 16], Settled::Dropped, 5, 9);
        assert_eq!(decode_entry(&[3; 16], &entry), Some((5, 9)));
        assert_eq!(decode_entry(&[4; 16], &entry), None, "another spool's entry");
        let mut out = Vec::new();
        encode_record(&mut out, &meta(10), 5, b"body");
        let Some(Piece::Frame { header, body, .. }) = Pieces::new(&out, 0).next() else { panic!("no frame") };
        assert_eq!((header.first_ms, header.last_ms, header.wall_ms, body), (i64::MIN, i64::MAX, -2, &b"body"[..]));
        assert_eq!((header.group, header.stream, header.flags, header.billed), ("/edge/prom", "node", 1, 100));
        assert_eq!(out.len(), frame_overhead_bytes("/edge/prom", "node") + 4);
    }

    #[test]
    fn a_header_of_a_later_version_is_known_as_such() {
        let mut bytes =
            SegmentHeader { id: [1; 16], first: 0, unused_from: 0, unused_to: 0, settled_below: 0, created_ms: 0 }
                .encode();
        bytes[8] = 2;
        assert_eq!(SegmentHeader::decode(&bytes), FileStart::Damaged, "the checksum does not fit");
        let sum = checksum(&bytes[..76]);
        bytes[76..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), FileStart::Newer);
    }

    #[test]
    fn a_record_that_ends_beyond_the_last_number_is_damage() {
        // Its acknowledgement could not be written down, and it would be delivered at every start.
        for (sequence, there) in [(SEQUENCE_MAX - 3, true), (SEQUENCE_MAX - 2, false), (u64::MAX, false)] {
            let mut bytes = Vec::new();
            encode_record(&mut bytes, &meta(sequence), 0, b"body");
            assert_eq!(matches!(Pieces::new(&bytes, 0).next(), Some(Piece::Frame { .. })), there, "{sequence}");
            let entry = encode_entry(&[1; 16], Settled::Delivered, sequence, sequence.saturating_add(3));
            assert_eq!(decode_entry(&[1; 16], &entry).is_some(), there, "{sequence}");
        }
    }

    #[test]
    fn any_damaged_byte_costs_one_record_at_most() {
        let (good, starts) = segment();
        assert_eq!(sequences(&good), [10, 13, 16]);
        for at in SEGMENT_HEADER_BYTES..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x5a;
            let hit = starts.iter().rposition(|start| *start <= at).expect("within a record");
            let expected: Vec<u64> = (0..3).filter(|n| *n != hit).map(|n| 10 + 3 * n as u64).collect();
            assert_eq!(sequences(&bytes), expected, "byte {at}");
        }
    }

    #[test]
    fn a_cut_at_any_byte_keeps_what_was_whole() {
        let (good, starts) = segment();
        for len in SEGMENT_HEADER_BYTES..good.len() {
            let whole = starts.iter().skip(1).filter(|start| **start <= len).count();
            assert_eq!(sequences(&good[..len]).len(), whole, "cut at {len}");
            let torn = Pieces::new(&good[..len], SEGMENT_HEADER_BYTES).last();
            let clean = len == SEGMENT_HEADER_BYTES || starts.contains(&len);
            let is_torn = matches!(torn, Some(Piece::Torn | Piece::DamagedBody { torn: true, .. }));
            assert_eq!(is_torn, !clean, "cut at {len}");
        }
    }
}
