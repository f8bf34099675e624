//! The spool: finished events on disk while they cannot be delivered, so that no power cut, full disk or damaged sector
//! costs more than what was never synced.
//!
//! It appends, peeks, settles, syncs, bounds and recovers: bytes, times, stream keys and the numbers of events. It refuses to know
//! what a metric is, to retry, and to decide when to sync, what to send or how old is too old. The format is `docs/spool-format.md`.
//!
//! The books are sets of numbers: every event has one, a segment knows which are pending in it, and files are held against that.
//! What was appended is pending, settled by the caller, told as lost, or detached with a body in flight; the sums are exact.
//!
//! Limits: `max_bytes` on disk; in memory the unsynced records, index and templates of three segments, one decoded record, and a
//! line for each stream of each segment.
//!
//! ```text
//!                append                       sync
//!   (new) ------------------> [in a segment] --------> [certain]
//!                                   |  ^                   |
//!                       sync failed |  | written again     |  settled, dropped by bytes or age, damaged
//!                                   v  |                   v
//!                                 [in memory]          [settled] -- all of a segment: file removed
//! ```

mod body;
mod decode;
pub mod export;
mod frame;
mod journal;
mod layouts;
mod number;
mod queue;
pub mod reader;
mod record;
mod segment;
mod streams;
mod survey;
mod table;
mod v1;
mod varint;
mod wire;
mod writer;

pub use crate::model::Ranges;
pub use crate::model::batch::BatchLimits;
pub use queue::Spool;

use crate::model::{Event, StreamKey};
use std::fmt;
use std::io;
use std::rc::Rc;

/// The folder below the state directory.
pub const FOLDER: &str = "spool";

/// What a record is about: everything but its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMeta {
    /// The number of its first event; it never changes and is never used again.
    pub sequence: u64,
    /// Where its events go.
    pub key: Rc<StreamKey>,
    /// The boot of the scrape.
    pub boot_id: [u8; 16],
    /// Milliseconds since that boot at the scrape.
    pub monotonic_ms: u64,
    /// Wall time of the scrape, as the clock said it then.
    pub wall_ms: i64,
    /// How many events.
    pub events: u32,
    /// What they count against a batch.
    pub billed_bytes: u64,
    /// The oldest event's time.
    pub first_ms: i64,
    /// The newest event's time.
    pub last_ms: i64,
    /// The clock was confirmed (by AWS or the kernel) when the record was written.
    pub clock_confirmed: bool,
    /// It came from another spool's export.
    pub imported: bool,
}

/// The events of one scrape for one stream: 1 to 10,000, at most a batch's bytes.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Where they go.
    pub key: &'a Rc<StreamKey>,
    /// The boot of the scrape.
    pub boot_id: [u8; 16],
    /// Milliseconds since that boot at the scrape.
    pub monotonic_ms: u64,
    /// Wall time of the scrape.
    pub wall_ms: i64,
    /// The clock is confirmed (by AWS or the kernel).
    pub clock_confirmed: bool,
    /// In order; all of the stream above.
    pub events: &'a [Event],
}

/// What is in the spool and not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Records.
    pub records: u64,
    /// Events.
    pub events: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// The oldest event's time.
    pub oldest_ms: Option<i64>,
    /// Records that no sync has covered yet.
    pub unsynced_records: u64,
}

/// What is pending for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPending {
    /// The stream.
    pub key: Rc<StreamKey>,
    /// Records.
    pub records: u64,
    /// Events.
    pub events: u64,
    /// A number no higher than its oldest record's.
    pub sequence: u64,
    /// The oldest event's time.
    pub oldest_ms: i64,
}

/// Why numbers are settled by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service has them.
    Delivered,
    /// They will never be delivered; the caller counts them.
    Dropped,
    /// They were exported and may go.
    Exported,
}

/// How old a record is, by all the clocks that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The boot of the scrape, as [`boot_checksum`] gives it.
    pub boot: u32,
    /// The number of its first event.
    pub sequence: u64,
    /// Milliseconds since that boot at the scrape.
    pub monotonic_ms: u64,
    /// The wall clock was confirmed (by AWS or the kernel) when the record was written.
    pub confirmed: bool,
    /// The oldest event's time, by the clock of the device.
    pub first_ms: i64,
    /// The newest event's time.
    pub last_ms: i64,
}

/// What [`Age::boot`] is for a boot's id.
pub fn boot_checksum(boot_id: &[u8; 16]) -> u32 {
    wire::checksum(boot_id)
}

/// The oldest pending events of a stream, in order. They stay where they are until their numbers are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolBatch {
    /// Where they go.
    pub key: Rc<StreamKey>,
    /// The records, each with what is pending of it.
    pub records: Vec<SpoolRecord>,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolRecord {
    /// What it is about. Counts and times are the whole record's, settled events included.
    pub meta: RecordMeta,
    /// Its pending events, in order.
    pub events: Vec<Event>,
    /// Their numbers, in the same order.
    pub pending: Ranges,
}

impl SpoolRecord {
    /// The record with only these of its events; numbers that it does not have are left out.
    fn only(&self, numbers: &[(u64, u64)]) -> Self {
        let (mut events, mut pending, mut at) = (Vec::new(), Ranges::default(), 0);
        let wanted = Ranges::of(numbers.to_vec());
        for (from, to) in self.pending.iter() {
            for (first, end) in wanted.overlap(from, to) {
                pending.insert(first, end);
                let (first, end) = (at + (first - from) as usize, at + (end - from) as usize);
                events.extend_from_slice(self.events.get(first..end).unwrap_or_default());
            }
            at += (to - from) as usize;
        }
        Self { events, meta: self.meta.clone(), pending }
    }
}

/// What is left of a spool whose folder is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// What only the disk had.
    pub losses: Vec<Loss>,
    /// What no sync had covered yet: it is still in memory.
    pub records: Vec<SpoolRecord>,
    /// Numbers that were pinned: neither of the above, the body in flight has them.
    pub detached: Ranges,
}

/// Why events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossReason {
    /// The spool was full.
    MaxBytes,
    /// They were too old.
    MaxAge,
    /// Their bytes were damaged, or gone.
    Damaged,
}

impl LossReason {
    /// One word, for counts and marker events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxBytes => "max_bytes",
            Self::MaxAge => "max_age",
            Self::Damaged => "damaged",
        }
    }
}

/// Events that will not be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// Their stream; where no header says it, the stream of a record beside them. Nothing: no such record.
    pub key: Option<Rc<StreamKey>>,
    /// How many, exactly.
    pub events: u64,
    /// The oldest event's time, as far as known.
    pub from_ms: i64,
    /// The newest event's time, as far as known.
    pub to_ms: i64,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Pending records.
    pub records: u64,
    /// Pending events.
    pub events: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Damaged places that were skipped.
    pub damaged: u64,
    /// Files that end within a record.
    pub torn: u64,
    /// Segments with something of a later version in them; left alone.
    pub newer: u64,
    /// Files that could not be read; left alone.
    pub unreadable: u64,
    /// What was lost and is counted from now on; told once.
    pub losses: Vec<Loss>,
    /// The boots that pending records belong to, oldest first.
    pub boots: Vec<Boot>,
}

/// What the records of a boot say about its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The boot.
    pub boot_id: [u8; 16],
    /// Its first record.
    pub first: Instants,
    /// Its last record.
    pub last: Instants,
    /// Its last record with a confirmed clock.
    pub confirmed: Option<Instants>,
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    /// Milliseconds since boot.
    pub monotonic_ms: u64,
    /// Wall time.
    pub wall_ms: i64,
}

/// Why something could not be written or read, by what the caller must do.
#[derive(Debug)]
pub enum SpoolError {
    /// The disk is full: keep the events in memory and try again later.
    NoSpace(String),
    /// The file system is read-only: keep the events in memory and try again later, rarely.
    ReadOnly(String),
    /// The disk fails: keep the events in memory and try again later.
    Io(String),
    /// The record is beyond the limits, or longer than the whole spool may be: drop and count it.
    TooLarge,
}

impl SpoolError {
    fn from_io(what: &str, error: &io::Error) -> Self {
        let text = format!("{what}: {error}");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(text),
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(text),
            _ => Self::Io(text),
        }
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace(text) | Self::ReadOnly(text) | Self::Io(text) => f.write_str(text),
            Self::TooLarge => f.write_str("the record is larger than a batch or than the buffer's max_bytes"),
        }
    }
}

impl std::error::Error for SpoolError {}

#[cfg(debug_assertions)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts a look at a record, stream or segment, here or in the lane, for [`steps`].
#[inline]
pub(crate) fn step() {
    #[cfg(debug_assertions)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// Looks at records, streams and segments so far on this thread: what tests hold against the number of those, because time
/// says little. Only in debug builds.
#[cfg(debug_assertions)]
pub fn steps() -> u64 {
    STEPS.with(std::cell::Cell::get)
}
