//! Frames: their headers, and finding them in a damaged file (`docs/spool-format.md`).

use super::RecordMeta;
use super::wire::{
    BODY_BYTES_MAX, CHECKSUM_BYTES, EVENTS_MAX, NAME_BYTES_MAX, SEQUENCE_MAX, VERSION, checksum, i64_at, take, u16_at,
    u32_at, u64_at,
};
use crate::model::StreamKey;
use std::rc::Rc;

/// The most templates of version 1 in a segment.
pub const TEMPLATES_MAX: u32 = 65_536;
/// The most layouts in a segment, and the most templates.
pub const LAYOUTS_MAX: u32 = 8_192;
/// Where all events go so far: CloudWatch Logs.
pub const DESTINATION: u8 = 0;

const FRAME_MAGIC: [u8; 4] = *b"\xa7PWR";
const FRAME_FIXED_BYTES: usize = 88;

const RECORD_1: u8 = 1;
const SHAPE_1: u8 = 2;
const RECORD: u8 = 3;
const LAYOUTS: u8 = 4;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events.
    Record,
    /// What records need to be read: layouts, or templates of version 1.
    Shape,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader<'a> {
    /// The version of its body.
    pub version: u8,
    /// What it holds.
    pub kind: Kind,
    /// Bit 0: the wall clock was confirmed; bit 1: imported.
    pub flags: u8,
    /// Bytes of the header, checksum included.
    pub header_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// The body's CRC.
    pub body_checksum: u32,
    /// A record's number.
    pub sequence: u64,
    /// Events, layouts or templates.
    pub count: u32,
    /// What the events count against a batch, or the number of the first layout or template.
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
pub const FLAG_CLOCK_CONFIRMED: u8 = 1;
/// Bit 1 of a frame's flags.
pub const FLAG_IMPORTED: u8 = 2;

/// Appends a record's frame. `source`: an imported record's, otherwise 0.
pub fn encode_record(out: &mut Vec<u8>, meta: &RecordMeta, source: u32, body: &[u8]) {
    let flags =
        if meta.clock_confirmed { FLAG_CLOCK_CONFIRMED } else { 0 } | if meta.imported { FLAG_IMPORTED } else { 0 };
    encode_frame(
        out,
        &FrameHeader {
            version: VERSION,
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

/// Appends a frame with so many layouts.
pub fn encode_layouts(out: &mut Vec<u8>, sequence: u64, first: u32, count: u32, body: &[u8]) {
    encode_frame(
        out,
        &FrameHeader {
            version: VERSION,
            kind: Kind::Shape,
            flags: 0,
            header_bytes: 0,
            body_bytes: body.len(),
            body_checksum: checksum(body),
            sequence,
            count,
            billed: first,
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
    out.push(header.version);
    out.push(if header.kind == Kind::Record { RECORD } else { LAYOUTS });
    out.push(header.flags);
    out.push(DESTINATION);
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
    /// Sound, but of a later version, an unknown kind or for an unknown destination: bytes of header and body.
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
        (1, RECORD_1) => Kind::Record,
        (1, SHAPE_1) => Kind::Shape,
        (VERSION, RECORD) if bytes[7] == DESTINATION => Kind::Record,
        (VERSION, LAYOUTS) => Kind::Shape,
        _ => return Parsed::Newer(header_bytes + body_bytes),
    };
    let names = &bytes[FRAME_FIXED_BYTES..names_end];
    let (Ok(group), Ok(stream)) = (str::from_utf8(&names[..group_bytes]), str::from_utf8(&names[group_bytes..])) else {
        return Parsed::No;
    };
    let header = FrameHeader {
        version,
        kind,
        flags: bytes[6],
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
    let shapes_max = if version == 1 { TEMPLATES_MAX } else { LAYOUTS_MAX };
    let sensible = match kind {
        Kind::Record => {
            (1..=EVENTS_MAX).contains(&header.count) && header.sequence <= SEQUENCE_MAX - u64::from(header.count)
        }
        Kind::Shape => header.billed < shapes_max && header.count <= shapes_max - header.billed,
    };
    if sensible { Parsed::Header(header) } else { Parsed::No }
}

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
    /// A frame of a later version, or with something that this one does not know.
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
    use super::super::wire::{SEGMENT_HEADER_BYTES, SegmentHeader, Settled, decode_entry, encode_entry};
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
    fn a_record_is_read_back() {
        let mut out = Vec::new();
        encode_record(&mut out, &meta(10), 5, b"body");
        let Some(Piece::Frame { header, body, .. }) = Pieces::new(&out, 0).next() else { panic!("no frame") };
        assert_eq!((header.first_ms, header.last_ms, header.wall_ms, body), (i64::MIN, i64::MAX, -2, &b"body"[..]));
        assert_eq!((header.group, header.stream, header.flags, header.billed), ("/edge/prom", "node", 1, 100));
        assert_eq!(out.len(), frame_overhead_bytes("/edge/prom", "node") + 4);
    }

    #[test]
    fn what_a_record_is_for_or_what_it_is_may_be_unknown_and_is_stepped_over() {
        for (at, value) in [(4, VERSION + 1), (5, 9), (5, RECORD_1), (7, DESTINATION + 1), (7, 255)] {
            let (mut bytes, starts) = segment();
            let frame = &mut bytes[starts[1]..starts[2]];
            frame[at] = value;
            let names_end = frame_overhead_bytes("/edge/prom", "node") - CHECKSUM_BYTES;
            let sum = checksum(&frame[..names_end]);
            frame[names_end..names_end + CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(sequences(&bytes), [10, 16], "{at}: {value}");
            let newer = Pieces::new(&bytes, SEGMENT_HEADER_BYTES).filter(|piece| *piece == Piece::Newer);
            assert_eq!(newer.count(), 1, "{at}: {value}");
        }
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
