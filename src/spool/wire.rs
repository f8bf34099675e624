//! The bytes of the format that are not in a frame: headers of segments and journals, journal entries (`docs/spool-format.md`).

/// The version of segments, their frames and exports that is written; higher ones are left alone.
pub const VERSION: u8 = 2;
/// The version of journals: an older program must know what was delivered.
const JOURNAL_VERSION: u16 = 1;
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

const SEGMENT_MAGIC: [u8; 8] = *b"PWSEG\r\n\x1a";
const JOURNAL_MAGIC: [u8; 8] = *b"PWACK\r\n\x1a";
/// Bytes of a checksum.
pub const CHECKSUM_BYTES: usize = 4;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// CRC-32C.
pub fn checksum(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// The `N` bytes from `at` on; the callers have checked the length.
pub fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// An integer at a place, as for [`take`].
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(take(bytes, at))
}

/// An integer at a place, as for [`take`].
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

/// An integer at a place, as for [`take`].
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

/// An integer at a place, as for [`take`].
pub fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(take(bytes, at))
}

/// How far new numbers keep away from what cannot be read.
pub const JUMP: u64 = 1 << 32;

/// Names a spool, the same in all its files.
pub type SpoolId = [u8; 16];

/// What the beginning of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStart<T> {
    /// A sound header of this or an earlier version.
    Known(T),
    /// A sound header of a later version.
    Newer,
    /// Too short, or the checksum does not fit.
    Damaged,
}

/// Magic, version, length and checksum, which every version keeps.
fn file_start(bytes: &[u8], magic: [u8; 8], newest: u16, known_bytes: usize) -> FileStart<&[u8]> {
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
        version if version > newest => FileStart::Newer,
        1.. if header_bytes == known_bytes => FileStart::Known(content),
        _ => FileStart::Damaged,
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
        match file_start(bytes, SEGMENT_MAGIC, VERSION.into(), SEGMENT_HEADER_BYTES) {
            FileStart::Known(bytes) => {
                let (first, unused_from) = (u64_at(bytes, 32), u64_at(bytes, 40));
                let unused_to = match u64_at(bytes, 64) {
                    // The first programs wrote where the process began, and all that it had given out since seemed unused.
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
        out.extend_from_slice(&JOURNAL_VERSION.to_le_bytes());
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
        match file_start(bytes, JOURNAL_MAGIC, JOURNAL_VERSION, JOURNAL_HEADER_BYTES) {
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

/// No entry settles more numbers than this; no spool ever gave out so many.
const SETTLED_MAX: u64 = 1 << 56;
/// Numbers end here; whatever says more is damage. Nothing can count so far, and sums stay within 64 bits.
pub const SEQUENCE_MAX: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn a_header_of_a_later_version_is_known_as_such() {
        let mut bytes =
            SegmentHeader { id: [1; 16], first: 0, unused_from: 0, unused_to: 0, settled_below: 0, created_ms: 0 }
                .encode();
        bytes[8] = 3;
        assert_eq!(SegmentHeader::decode(&bytes), FileStart::Damaged, "the checksum does not fit");
        let sum = checksum(&bytes[..76]);
        bytes[76..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), FileStart::Newer);
    }
}
